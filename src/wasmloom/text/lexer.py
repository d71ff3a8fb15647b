"""The lexical format of text modules and scripts: text → tokens (Core 3.0, section 6.3).

One regular expression splits the whole text at once. A token is its own text, and its first characters tell its kind.
Positions are not stored; they are computed when an error needs the first one.

Annotations (Core 3.0, section 6.3.6) are white space, except those in `KEPT_ANNOTATIONS`, which are set aside
with the number of the token that they precede.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import NamedTuple, NoReturn

from wasmloom.errors import CompileError
from wasmloom.text.literals import LiteralError, string_bytes

#: Annotations that mean something to the assembler (Core 3.0, appendix A.4 and A.5).
KEPT_ANNOTATIONS = frozenset(("custom", "name", "metadata.code.branch_hint"))

#: The characters of identifiers and keywords (Core 3.0, 6.3.5), for use in a character class.
ID_CHARS = r"0-9A-Za-z!#$%&'*+\-./:<=>?@\\^_`|~"
#: Whole runs of characters: repeating a group takes `re` fifty times as long as repeating a character.
_STRING = r'"(?:[^"\\\x00-\x1f\x7f]++|\\[^\x00-\x1f\x7f])*+"'
_COMMENT = r"\(;(?:[^;(]++|;(?!\))|\((?!;))*+;\)"
_LINE_COMMENT = r";;[^\n\r]*+"
_RESERVED = rf"(?:[{ID_CHARS},\[\]{{}}]++|{_STRING}|;(?!;))++"
#: A quotation mark that begins no string. Nothing after it matters; searching for an end again from every quotation
#: mark in the rest would take quadratic time.
_UNCLOSED = r'"(?s:.)*+'
_BOUNDARY = rf'(?![{ID_CHARS}",\[\]{{}}]|;(?!;))'
_TOKEN = re.compile(
    rf"(?:[ \t\n\r]++|{_LINE_COMMENT}|{_COMMENT})*+"
    rf"((?!\(;)\((?:@(?:[{ID_CHARS}]++|{_STRING})?+)?+"
    rf"|\)|[{ID_CHARS}]++{_BOUNDARY}|{_STRING}{_BOUNDARY}|{_RESERVED}|\(;|\Z|{_UNCLOSED}|(?s:.))"
)
#: The tokens that may start or hide a block comment, and those that count inside one.
_OUTSIDE_COMMENT = re.compile(rf"\(;|{_LINE_COMMENT}|{_STRING}|{_UNCLOSED}")
_INSIDE_COMMENT = re.compile(r"\(;|;\)")
_NO_NEWLINES = re.compile(r"[^\n\r]++")
#: Tokens of one character. Any other single character is one that nothing else matched, and so is `_UNCLOSED`.
_SHORT_TOKEN = re.compile(rf"[(){ID_CHARS},;\[\]{{}}]")
_STRING_TOKEN = re.compile(rf"{_STRING}|{_RESERVED}")
_STRING_RUN = re.compile(r'"(?:[^"\\\x00-\x1f\x7f]++|\\[^\x00-\x1f\x7f])*+')

#: The number of empty tokens behind the last one, which let the parsers look ahead without checking for the end.
END_TOKENS = 6


class Annotation(NamedTuple):
    """An annotation that was set aside: `(@name tokens…)`. `before` is the token that it precedes."""

    name: str
    tokens: tuple[str, ...]
    before: int
    place: tuple[int, int]


def _blank(text: str) -> str:
    return _NO_NEWLINES.sub(lambda run: " " * len(run[0]), text)


class Tokens:
    """The tokens of a text. `texts` ends with `END_TOKENS` empty strings."""

    __slots__ = ("_kept", "_newlines", "_source", "_starts", "annotations", "texts")

    def __init__(self, source: str) -> None:
        """Split `source`.

        Raises `CompileError` with line and column for an illegal character, an unclosed string, comment or
        annotation, and an empty annotation name.
        """
        self._starts: list[int] | None = None
        self._newlines: list[int] | None = None
        self._kept: list[int] | None = None
        self._source = source
        self.annotations: list[Annotation] = []
        texts: list[str] = _TOKEN.findall(source)
        distinct = set(texts)
        if "(;" in distinct:
            self._source = self._without_nested_comments(source)
            texts = _TOKEN.findall(self._source)
            distinct = set(texts)
        while texts and not texts[-1]:
            texts.pop()
        self.texts = texts
        illegal = {text for text in distinct if len(text) == 1 and not _SHORT_TOKEN.match(text)}
        if texts and texts[-1][0] == '"' and _STRING_TOKEN.fullmatch(texts[-1]) is None:
            illegal.add(texts[-1])
        if illegal:
            self._illegal(next(index for index, text in enumerate(texts) if text in illegal))
        if any(text.startswith("(@") for text in distinct):
            self._set_annotations_aside()
        self.texts += [""] * END_TOKENS

    @classmethod
    def of(cls, source: str | bytes) -> Tokens:
        """The tokens of a text in a string, or in UTF-8 bytes ("malformed UTF-8 encoding" when it isn't)."""
        try:
            if isinstance(source, bytes):
                return cls(source.decode("utf-8"))
            if not source.isascii():
                source.encode("utf-8")
            return cls(source)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode("utf-8")
        except UnicodeEncodeError as error:
            before = error.object[: error.start]
        line_start = before.rfind("\n") + 1
        raise CompileError(
            "malformed UTF-8 encoding", line=before.count("\n") + 1, column=len(before) - line_start + 1
        ) from None

    def count(self) -> int:
        """The number of tokens, without the empty ones at the end."""
        return len(self.texts) - END_TOKENS

    def fail(self, message: str, index: int) -> NoReturn:
        """Raise `CompileError` at the token `index`."""
        line, column = self.position(index)
        raise CompileError(message, line=line, column=column)

    def position(self, index: int) -> tuple[int, int]:
        """Line and column, from 1, of the token `index`; the end of the text for tokens past the last."""
        starts = self.starts()
        if self._kept is not None:
            index = self._kept[index] if index < len(self._kept) else len(starts)
        return self._place(starts[index] if index < len(starts) else len(self._source))

    def line(self, index: int) -> int:
        """Line, from 1, of the token `index`."""
        return self.position(index)[0]

    def starts(self) -> list[int]:
        """Where the tokens start in the text, annotations included."""
        if self._starts is None:
            self._starts = [found.start(1) for found in _TOKEN.finditer(self._source)]
        return self._starts

    def between(self, first: int, last: int) -> str:
        """The text from the token `first` to the token `last`, both included, with its comments."""
        starts = self.starts()
        end_text = self.texts[last]
        if self._kept is not None:
            first, last = self._kept[first], self._kept[last]
        return self._source[starts[first] : starts[last]] + end_text

    def _place(self, offset: int) -> tuple[int, int]:
        if self._newlines is None:
            self._newlines = [found.end() for found in re.finditer("\n", self._source)]
        line = bisect_right(self._newlines, offset)
        return line + 1, offset - (self._newlines[line - 1] if line else 0) + 1

    def _fail_at(self, message: str, offset: int) -> NoReturn:
        line, column = self._place(offset)
        raise CompileError(message, line=line, column=column)

    def _without_nested_comments(self, source: str) -> str:
        """`source` with spaces for block comments, which the regular expression can't match when they nest."""
        parts: list[str] = []
        depth = copied = opened = 0
        position = 0
        while True:
            found = (_INSIDE_COMMENT if depth else _OUTSIDE_COMMENT).search(source, position)
            if found is None:
                break
            position = found.end()
            if found[0] == "(;":
                if depth == 0:
                    opened = found.start()
                depth += 1
            elif depth:
                depth -= 1
                if depth == 0:
                    parts.append(source[copied:opened])
                    parts.append(_blank(source[opened:position]))
                    copied = position
        if depth:
            self._fail_at("unclosed comment", opened)
        parts.append(source[copied:])
        return "".join(parts)

    def _illegal(self, index: int) -> NoReturn:
        """Raise the error for the character that is the token `index`: no token begins with it."""
        offset = self.starts()[index]
        if self.texts[index][0] != '"':
            self._fail_at("illegal character", offset)
        if self._source[:offset].endswith(("$", "(@")):
            self._fail_at("empty identifier" if self._source[offset - 1] == "$" else "empty annotation id", offset)
        found = _STRING_RUN.match(self._source, offset)
        end = found.end() if found is not None else offset
        stop = self._source[end : end + 1]
        if stop == "\\":
            self._fail_at("illegal escape", end)
        if stop and stop != "\n":
            self._fail_at("illegal character in string", end)
        self._fail_at("unclosed string", offset)

    def _set_annotations_aside(self) -> None:
        texts, source_texts = [], self.texts
        kept: list[int] = []
        index, count = 0, len(source_texts)
        while index < count:
            text = source_texts[index]
            if not text.startswith("(@"):
                texts.append(text)
                kept.append(index)
                index += 1
                continue
            start = index
            offset = self.starts()[start]
            name = self._annotation_name(text, offset)
            depth = 1
            while depth:
                index += 1
                if index >= count:
                    self._fail_at("unclosed annotation", offset)
                if source_texts[index][0] == "(":
                    depth += 1
                elif source_texts[index] == ")":
                    depth -= 1
            if name in KEPT_ANNOTATIONS:
                inner = tuple(source_texts[start + 1 : index])
                self.annotations.append(Annotation(name, inner, len(texts), self._place(offset)))
            index += 1
        self.texts = texts
        self._kept = kept

    def _annotation_name(self, text: str, offset: int) -> str:
        name = text[2:]
        if name.startswith('"'):
            try:
                name = string_bytes(name).decode("utf-8")
            except LiteralError as error:
                self._fail_at(str(error), offset)
            except UnicodeDecodeError:
                self._fail_at("malformed UTF-8 encoding", offset)
        if not name:
            self._fail_at("empty annotation id", offset)
        return name
