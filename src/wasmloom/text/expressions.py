"""Sequences of instructions in the text format, flat and folded (Core 3.0, section 6.5) → expressions in binary.

One loop with a stack of its own reads them, so memory limits the nesting, not Python's stack.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from wasmloom.binary.hints import BRANCH_HINT, HINTED
from wasmloom.errors import ValidationError
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.text.immediates import BLOCKS, INSTRUCTION_READERS, ImmediateParser, opcode_bytes
from wasmloom.text.lexer import Tokens
from wasmloom.text.literals import LiteralError, string_bytes

#: The tokens of the instructions in an expression: (offset in the expression's bytes, token).
Marks = list[tuple[int, int]]

_END = 0x0B
_ELSE = 0x05

# Kinds of open constructs in a sequence.
_BASE = 0  # the sequence itself
_OPERANDS = 1  # a folded plain instruction, whose operands come before it
_CONDITION = 2  # a folded `if` before its `then`
_THEN = 3
_FOLDED_ELSE = 4
_FOLDED_BLOCK = 5
_FLAT_BLOCK = 6
_FLAT_IF = 7
_FLAT_ELSE = 8
_FLAT_TRY = 9
_FLAT_CATCH = 10
_FLAT_CATCH_ALL = 11
_CLAUSE = 12  # the instructions of a folded `do`, `catch` or `catch_all`
# A folded `try`, by what may come next.
_TRY = 13
_TRY_DONE = 14
_TRY_CATCH = 15
_TRY_CATCH_ALL = 16
_TRY_DELEGATE = 17

#: Of a folded `try`: the forms that may come next, and what it is then.
_TRY_FORMS: dict[int, dict[str, int]] = {
    _TRY: {"do": _TRY_DONE},
    _TRY_DONE: {"catch": _TRY_CATCH, "catch_all": _TRY_CATCH_ALL, "delegate": _TRY_DELEGATE},
    _TRY_CATCH: {"catch": _TRY_CATCH, "catch_all": _TRY_CATCH_ALL},
    _TRY_CATCH_ALL: {},
    _TRY_DELEGATE: {},
}
#: Of a flat one.
_FLAT_TRY_FORMS: dict[int, dict[str, int]] = {
    _FLAT_TRY: {"catch": _FLAT_CATCH, "catch_all": _FLAT_CATCH_ALL, "delegate": _BASE},
    _FLAT_CATCH: {"catch": _FLAT_CATCH, "catch_all": _FLAT_CATCH_ALL},
}
#: What `end` closes.
_ENDED = (_FLAT_BLOCK, _FLAT_IF, _FLAT_ELSE, _FLAT_TRY, _FLAT_CATCH, _FLAT_CATCH_ALL)
_FLAT_KINDS = {"if": _FLAT_IF, "try": _FLAT_TRY}

#: Kinds in which only folded instructions may stand.
_FOLDED_ONLY = (_OPERANDS, _CONDITION, _TRY, _TRY_DONE, _TRY_CATCH, _TRY_CATCH_ALL, _TRY_DELEGATE)

#: An open construct: its kind, the instruction that is written later (or nothing), its token and its label.
_Frame = tuple[int, bytes, int, "str | None"]



class ExprParser(ImmediateParser):
    """Reads sequences of instructions."""

    def __init__(self, tokens: Tokens, pos: int) -> None:
        super().__init__(tokens, pos)
        #: how many blocks the current function has so far, and the names of those that have one
        self.label_count = 0
        self.label_names: dict[int, str] = {}
        #: branch hints of the current function: (offset in the expression, value)
        self.hints: list[tuple[int, int]] = []

    def expression(self, marks: Marks) -> bytes:
        """Instructions up to the parenthesis that closes the form around them, which isn't read; with the final
        `end`."""
        out = bytearray()
        self._sequence(out, marks, False)
        marks.append((len(out), self.pos))
        out.append(_END)
        return bytes(out)

    def folded_expression(self, marks: Marks) -> bytes:
        """One folded instruction as an expression, with the final `end`."""
        out = bytearray()
        if self.toks[self.pos] != "(":
            self.unexpected()
        self._sequence(out, marks, True)
        marks.append((len(out), self.pos - 1))
        out.append(_END)
        return bytes(out)

    def _open_label(self) -> str | None:
        label = self.optional_identifier()
        if label is not None:
            self.label_names[self.label_count] = label[1:]
        if self.annotations:
            name = self.name_annotation("label")
            if name is not None:
                self.label_names[self.label_count] = name
        self.label_count += 1
        return label

    def _close_label(self) -> None:
        """Check the identifier that may repeat the label after `end` and `else`."""
        if self.toks[self.pos][:1] != "$":
            return
        if self.labels.innermost() != self.identifier_at(self.pos):
            self.fail("mismatching label")
        self.pos += 1

    def _block(self, keyword: str) -> tuple[bytes, str | None]:
        """The label and immediates of a structured instruction: what to write, and the label."""
        label = self._open_label()
        row = BLOCKS[keyword]
        code = opcode_bytes(row) + self.block_type()
        if "catches" in row.immediates:
            code += self.catches()
        return code, label

    def _sequence(self, out: bytearray, marks: Marks, single: bool) -> None:
        """Instructions up to a closing parenthesis that isn't theirs; with `single`, one folded instruction."""
        toks = self.toks
        readers = INSTRUCTION_READERS
        frames: list[_Frame] = []
        top = _BASE
        while True:
            start = self.pos
            token = toks[start]
            folded = token == "("
            if folded:
                token = toks[start + 1]
            elif token == ")":
                if top == _BASE:
                    return
                self._close(frames.pop(), frames, out, marks)
                top = frames[-1][0] if frames else _BASE
                if single and not frames:
                    return
                continue
            elif top in _FOLDED_ONLY:
                self.unexpected()
            if top >= _TRY:
                top = self._try_form(frames, out, marks)
                continue
            found = readers.get(token)
            if found is not None:
                opcode, reader = found
                self.pos = start + 2 if folded else start + 1
                code = opcode if reader is None else reader(self, opcode)
                if not folded:
                    marks.append((len(out), start))
                elif toks[self.pos] == ")":
                    self.pos += 1
                    marks.append((len(out), start))
                else:
                    frames.append((_OPERANDS, code, start, None))
                    top = _OPERANDS
                    continue
                if self.annotations:
                    self._hint(start, len(out))
                out += code
                if single and not frames:
                    return
            elif folded:
                top = self._open_folded(token, frames, out, marks)
            else:
                top = self._flat(token, top, frames, out, marks)

    def _open_folded(self, keyword: str, frames: list[_Frame], out: bytearray, marks: Marks) -> int:
        """`(keyword` of a structured instruction or of `then`. Returns the kind of what is open now."""
        start = self.pos
        top = frames[-1][0] if frames else _BASE
        if keyword == "then" and top == _CONDITION:
            _, code, at, label = frames.pop()
            self.pos += 2
            self._write(code, at, out, marks)
            self.labels.push(label)
            frames.append((_THEN, b"", at, label))
            return _THEN
        if keyword not in BLOCKS:
            self.unexpected(start + 1)
        self.pos += 2
        code, label = self._block(keyword)
        if keyword == "if":
            frames.append((_CONDITION, code, start, label))
            return _CONDITION
        self._write(code, start, out, marks)
        self.labels.push(label)
        kind = _TRY if keyword == "try" else _FOLDED_BLOCK
        frames.append((kind, b"", start, label))
        return kind

    def _try_form(self, frames: list[_Frame], out: bytearray, marks: Marks) -> int:
        """A form in a folded `try`: `do`, or what catches. Returns the kind of what is open now."""
        start = self.pos
        keyword = self.toks[start + 1]
        kind, code, at, label = frames[-1]
        following = _TRY_FORMS[kind].get(keyword)
        if following is None:
            self.unexpected(start + 1)
        frames[-1] = (following, code, at, label)
        self.pos += 2
        if keyword != "do":
            marks.append((len(out), start))
            out += self._try_part(keyword)
        if keyword == "delegate":
            self.expect(")")
            return following
        frames.append((_CLAUSE, b"", start, None))
        return _CLAUSE

    def _try_part(self, keyword: str) -> bytes:
        """`catch`, `catch_all` or `delegate` with what follows the keyword. A `delegate` leaves the block."""
        code = opcode_bytes(BY_MNEMONIC[keyword])
        if keyword == "catch_all":
            return code
        if keyword == "catch":
            return code + self.space_index("tag")
        self.labels.pop()
        return code + self.label()

    def _close(self, frame: _Frame, frames: list[_Frame], out: bytearray, marks: Marks) -> None:
        """A closing parenthesis; `frame` was the innermost construct and has been taken off `frames`."""
        kind, code, start, label = frame
        if kind == _OPERANDS:
            self.pos += 1
            self._write(code, start, out, marks)
            return
        if kind in (_CONDITION, _TRY, *_ENDED):
            self.unexpected()
        self.pos += 1
        if kind in (_CLAUSE, _TRY_DELEGATE):
            return
        if kind == _THEN and self.at_form("else"):
            marks.append((len(out), self.pos))
            out.append(_ELSE)
            self.pos += 2
            frames.append((_FOLDED_ELSE, b"", start, label))
            return
        if kind in (_THEN, _FOLDED_ELSE):
            self.expect(")")
        marks.append((len(out), self.pos - 1))
        out.append(_END)
        self.labels.pop()

    def _flat(self, keyword: str, top: int, frames: list[_Frame], out: bytearray, marks: Marks) -> int:
        """A flat structured instruction, `else` or `end`. Returns the kind of what is open now."""
        start = self.pos
        if keyword in BLOCKS:
            self.pos += 1
            code, label = self._block(keyword)
            self._write(code, start, out, marks)
            self.labels.push(label)
            top = _FLAT_KINDS.get(keyword, _FLAT_BLOCK)
            frames.append((top, b"", start, label))
            return top
        marks.append((len(out), start))
        if keyword == "end" and top in _ENDED:
            self.pos += 1
            self._close_label()
            out.append(_END)
            self.labels.pop()
            frames.pop()
            return frames[-1][0] if frames else _BASE
        if keyword == "else" and top == _FLAT_IF:
            self.pos += 1
            self._close_label()
            out.append(_ELSE)
            frames[-1] = (_FLAT_ELSE, b"", start, None)
            return _FLAT_ELSE
        following = _FLAT_TRY_FORMS.get(top, {}).get(keyword)
        if following is None:
            self.unexpected()
        self.pos += 1
        out += self._try_part(keyword)
        if following != _BASE:
            frames[-1] = (following, b"", start, None)
            return following
        frames.pop()
        return frames[-1][0] if frames else _BASE

    def _write(self, code: bytes, start: int, out: bytearray, marks: Marks) -> None:
        marks.append((len(out), start))
        if self.annotations:
            self._hint(start, len(out))
        out += code

    # Branch hints

    def _hint(self, start: int, offset: int) -> None:
        """Use the branch hint before the instruction at token `start`, if it has one."""
        keyword = self.toks[start + 1] if self.toks[start] == "(" else self.toks[start]
        if keyword not in HINTED:
            return
        found = [item for item in self.annotations.get(start, ()) if item.name == BRANCH_HINT]
        if not found:
            return
        if len(found) > 1:
            self.fail_annotation(found[1], "duplicate annotation")
        tokens = found[0].tokens
        try:
            value = string_bytes(tokens[0]) if len(tokens) == 1 else b""
        except LiteralError as error:
            self.fail_annotation(found[0], str(error))
        if value not in (b"\0", b"\1"):
            self.fail_annotation(found[0], "malformed hint")
        self.annotations[start].remove(found[0])
        self.hints.append((offset, value[0]))

    def check_hints(self, first: int, last: int) -> None:
        """Fail when a branch hint between the tokens `first` and `last` precedes something that can't have one."""
        for place in range(bisect_left(self.annotated, first), bisect_right(self.annotated, last)):
            for item in self.annotations.get(self.annotated[place], ()):
                if item.name == BRANCH_HINT:
                    line, column = item.place
                    raise ValidationError(f"@{BRANCH_HINT} annotation: invalid target", line=line, column=column)
