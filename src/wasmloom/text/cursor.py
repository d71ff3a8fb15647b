"""The base of the parsers: a place in a list of tokens, with the steps that all parts of the text parser use."""

from __future__ import annotations

import re
from typing import NoReturn

from wasmloom.messages import printable
from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.module import Names
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, EXTERN_KINDS, PLAIN_TYPES, REF_SHORTHANDS
from wasmloom.text.lexer import Tokens
from wasmloom.text.literals import SHAPES, LiteralError, is_number, parse_unsigned, string_bytes

_QUOTED_IDENTIFIER = re.compile(r'\$"(?:[^"\\]|\\.)*"')

#: The length of a long token's excerpt in a message.
_SHOWN_CHARS = 60

#: Keywords that stand for several rows of the instruction table, whose own mnemonics aren't keywords.
NOT_IN_TEXT = frozenset(("ref.test_null", "ref.cast_null", "ref.cast_desc_eq_null"))

#: Every keyword of the text format. Any other word is an "unknown operator"; a keyword in the wrong place is an
#: "unexpected token". The specification's own parser says the same.
KEYWORDS: frozenset[str] = frozenset(
    {row.mnemonic for row in INSTRUCTIONS}.difference(NOT_IN_TEXT)
    .union(ABSTRACT_HEAP_TYPES, REF_SHORTHANDS, PLAIN_TYPES, SHAPES, EXTERN_KINDS)
    .union(("module", "type", "rec", "sub", "final", "struct", "array", "field", "cont", "param", "result", "local"))
    .union(("mut", "ref", "null", "import", "export", "start", "elem", "declare", "item", "offset", "data", "pagesize"))
    .union(("shared", "then", "do", "catch", "catch_ref", "catch_all", "catch_all_ref", "on", "binary", "quote"))
    .union(("definition", "instance", "register", "invoke", "get", "either", "nan:canonical", "nan:arithmetic"))
)

#: Index spaces: kind → the word for it in messages.
SPACE_WORDS: dict[str, str] = {
    "type": "type",
    "func": "func",
    "table": "table",
    "memory": "memory",
    "global": "global",
    "tag": "tag",
    "elem": "elem segment",
    "data": "data segment",
}


class Cursor:
    """A place `pos` in `tokens`. Every method that reads leaves `pos` after what it has read.

    All of them raise `CompileError` with line and column when the text is malformed.
    """

    def __init__(self, tokens: Tokens, pos: int) -> None:
        self.tokens = tokens
        self.toks = tokens.texts
        self.pos = pos
        #: index space → identifier, `$` included → index
        self.spaces: dict[str, dict[str, int]] = {kind: {} for kind in SPACE_WORDS}
        self.names = Names()

    def fail(self, message: str, pos: int | None = None) -> NoReturn:
        """Raise `CompileError` at the token `pos`, or at the current one."""
        self.tokens.fail(message, self.pos if pos is None else pos)

    def unexpected(self, pos: int | None = None) -> NoReturn:
        """Raise the `CompileError` for a token that can't stand where it is."""
        at = self.pos if pos is None else pos
        token = self.toks[at]
        if not token:
            self.fail("unexpected token: end of text", at)
        if token == "$":
            self.fail("empty identifier", at)
        shown = printable(token, _SHOWN_CHARS)
        if token[0] == '"':
            self.string_at(at)
        is_identifier = token[0] == "$" and ('"' not in token or _QUOTED_IDENTIFIER.fullmatch(token) is not None)
        is_known = token in KEYWORDS or token[0] in '()"' or token.startswith(("offset=", "align="))
        if is_identifier or is_known or is_number(token):
            self.fail(f"unexpected token {shown}", at)
        self.fail(f"unknown operator {shown}", at)

    def fail_literal(self, error: LiteralError) -> NoReturn:
        """Raise the `CompileError` for the current token, which could not be read as a number."""
        if str(error) in ("unknown operator", "unexpected token"):
            self.unexpected()
        self.fail(str(error))

    def expect(self, token: str) -> None:
        """Step over `token`."""
        if self.toks[self.pos] != token:
            self.unexpected()
        self.pos += 1

    def at_form(self, keyword: str) -> bool:
        """Whether `(keyword` comes next."""
        return self.toks[self.pos] == "(" and self.toks[self.pos + 1] == keyword

    def open_form(self, keyword: str) -> bool:
        """Step over `(keyword`, if it comes next."""
        if self.toks[self.pos] == "(" and self.toks[self.pos + 1] == keyword:
            self.pos += 2
            return True
        return False

    def accept(self, token: str) -> bool:
        """Step over `token`, if it comes next."""
        if self.toks[self.pos] == token:
            self.pos += 1
            return True
        return False

    def skip_form(self, pos: int) -> int:
        """The place after the form that opens at `pos`."""
        toks = self.toks
        depth = 0
        at = pos
        while True:
            token = toks[at]
            if token == "(":
                depth += 1
            elif token == ")":
                depth -= 1
                if depth == 0:
                    return at + 1
            elif not token:
                self.unexpected(at)
            at += 1

    def string_at(self, pos: int) -> bytes:
        """The bytes of the string token `pos`."""
        token = self.toks[pos]
        if token[:1] != '"':
            self.unexpected(pos)
        try:
            return string_bytes(token)
        except LiteralError as error:
            self.fail(str(error), pos)

    def string(self) -> bytes:
        """A string."""
        data = self.string_at(self.pos)
        self.pos += 1
        return data

    def strings(self) -> bytes:
        """Any number of strings, joined."""
        toks = self.toks
        parts: list[bytes] = []
        while toks[self.pos][:1] == '"':
            parts.append(self.string_at(self.pos))
            self.pos += 1
        return b"".join(parts)

    def name(self) -> str:
        """A name: a string that is UTF-8."""
        data = self.string()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("malformed UTF-8 encoding", self.pos - 1)

    def at_unsigned(self) -> bool:
        """Whether an unsigned number comes next."""
        return self.toks[self.pos][:1].isdigit()

    def unsigned(self, bits: int = 32) -> int:
        """An unsigned number below 2**`bits`."""
        token = self.toks[self.pos]
        try:
            value = parse_unsigned(token, bits)
        except LiteralError as error:
            self.fail_literal(error)
        self.pos += 1
        return value

    def identifier_at(self, pos: int) -> str:
        """The identifier at `pos`, quoted ones (`$"a b"`) in their plain form."""
        token = self.toks[pos]
        if token.startswith('$"'):
            try:
                content = string_bytes(token[1:]).decode("utf-8")
            except LiteralError as error:
                self.fail(str(error), pos)
            except UnicodeDecodeError:
                self.fail("malformed UTF-8 encoding", pos)
            token = "$" + content
        elif token[:1] != "$" or '"' in token or "," in token or token[-1] in "[]{};":
            self.unexpected(pos)
        if token == "$":
            self.fail("empty identifier", pos)
        return token

    def at_identifier(self) -> bool:
        """Whether an identifier comes next."""
        return self.toks[self.pos][:1] == "$"

    def optional_identifier(self) -> str | None:
        """An identifier, if one comes next."""
        if self.toks[self.pos][:1] != "$":
            return None
        identifier = self.identifier_at(self.pos)
        self.pos += 1
        return identifier

    def at_index(self) -> bool:
        """Whether an index, as a number or identifier, comes next."""
        first = self.toks[self.pos][:1]
        return first == "$" or first.isdigit()

    def index(self, kind: str) -> int:
        """An index in the space `kind`, given as a number or identifier."""
        token = self.toks[self.pos]
        found = self.spaces[kind].get(token)
        if found is None:
            if token[:1] != "$":
                return self.unsigned()
            found = self.spaces[kind].get(self.identifier_at(self.pos))
            if found is None:
                self.fail(f"unknown {SPACE_WORDS[kind]} {printable(token)}")
        self.pos += 1
        return found
