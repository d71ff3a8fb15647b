"""Expressions in the binary format → flat instructions in the text format.

The instruction table says which immediates to read; `_READERS` has one reader for each kind. Bytes that aren't an
expression raise `CompileError` with the offset of the offending byte in the module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from wasmloom.binary.hints import BRANCH_HINT, HINTED
from wasmloom.errors import CompileError
from wasmloom.spec.instructions import BY_MNEMONIC, BY_OPCODE, Instruction
from wasmloom.spec.proposals import unknown_opcode
from wasmloom.spec.types import (
    ABSTRACT_HEAP_NAMES,
    CONCRETE,
    EXACT,
    I8,
    I16,
    PLAIN_NAMES,
    ValType,
    ref_type,
)
from wasmloom.text.formatting import (
    NO_NAMES,
    IndexNames,
    TypeText,
    f32_text,
    f64_text,
    identifier,
    quote_name,
    v128_text,
)
from wasmloom.text.immediates import CATCHES

#: First bytes of reference types that are written out (Core 3.0, 5.3.4): byte → nullable.
_REF_FORMS = {0x63: True, 0x64: False}

_EMPTY_BLOCK = 0x40

#: Prefix bytes of opcodes.
_PREFIXES = frozenset(row.prefix for row in BY_OPCODE.values() if row.prefix)

_CATCH_KEYWORDS = {code: (keyword, has_tag) for keyword, (code, has_tag) in CATCHES.items()}

#: Instructions whose text puts an optional index first: immediates in binary → how.
_SWAPPED = frozenset((("type", "table"), ("data", "mem"), ("elem", "table")))
_PAIRS = frozenset((("mem", "mem"), ("table", "table")))

_MAX_INDENT = 40


class _Label:
    """An open block: its row, the number of enclosing blocks, its identifier (if any), and the part that it is in.

    That is the row that begins it, if that isn't the block's: `else`, `catch` or `catch_all`.
    """

    __slots__ = ("depth", "identifier", "part", "row")

    def __init__(self, row: Instruction | None, depth: int, identifier_text: str | None) -> None:
        self.row = row
        self.depth = depth
        self.identifier = identifier_text
        self.part = row


class Disassembler:
    """Reads the expressions of a module."""

    def __init__(self, types: TypeText, fields: dict[int, IndexNames]) -> None:
        """Take the texts of types, and of the fields of struct types by type index."""
        self._types = types
        self._spaces = types.spaces
        self._fields = fields
        self._data = b""
        self._pos = 0
        #: offset of `_data` in the module
        self._base = 0
        self._locals = NO_NAMES
        self._label_names: dict[int, str] = {}
        self._label_count = 0
        self._labels: list[_Label] = []
        #: branch hints of the function, by the offset of the instruction in its expression; how many have been written
        self._hints: dict[int, bool] = {}
        self.hinted = 0
        #: identifier → depths of the open blocks that have it, innermost last
        self._innermost: dict[str, list[int]] = {}

    # Reading bytes

    def _fail(self, message: str, pos: int | None = None) -> NoReturn:
        raise CompileError(message, self._base + (self._pos if pos is None else pos))

    def _byte(self) -> int:
        if self._pos >= len(self._data):
            self._fail("unexpected end of section or function")
        value = self._data[self._pos]
        self._pos += 1
        return value

    def _unsigned(self, bits: int = 32) -> int:
        start = self._pos
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift >= bits:
                self._fail("integer representation too long", start)
        if value >> bits:
            self._fail("integer too large", start)
        return value

    def _signed(self, bits: int) -> int:
        start = self._pos
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift >= bits:
                self._fail("integer representation too long", start)
        if byte & 64:
            value -= 1 << shift
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            self._fail("integer too large", start)
        return value

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._pos:
            self._fail("unexpected end of section or function")
        self._pos += size
        return self._data[self._pos - size : self._pos]

    # Types

    def _heap_type(self) -> int:
        start = self._pos
        if self._data[start : start + 1] == b"\x62":
            self._pos += 1
            value = self._signed(33)
            if value < 0:
                self._fail("malformed heap type", start)
            return EXACT + CONCRETE + value
        value = self._signed(33)
        if value >= 0:
            return CONCRETE + value
        heap = value & 127
        if value < -64 or heap not in ABSTRACT_HEAP_NAMES:
            self._fail("malformed heap type", start)
        return heap

    def _val_type(self) -> ValType:
        start = self._pos
        first = self._byte()
        if first in _REF_FORMS:
            return ref_type(self._heap_type(), _REF_FORMS[first])
        if first in ABSTRACT_HEAP_NAMES:
            return ref_type(first, True)
        if first not in PLAIN_NAMES or first in (I8, I16):
            self._fail("malformed value type", start)
        return ValType(first)

    def _block_type(self) -> str:
        """A block type, with a space before it."""
        if self._pos < len(self._data):
            first = self._data[self._pos]
            if first == _EMPTY_BLOCK:
                self._pos += 1
                return ""
            if first & 0xC0 == 0x40:
                return f" (result {self._types.val_type(self._val_type())})"
        start = self._pos
        index = self._signed(33)
        if index < 0:
            self._fail("malformed block type", start)
        return f" (type {self._spaces['type'].use(index)})"

    # Immediates: each reads one and returns its text

    def _label(self) -> str:
        """A label: its identifier when no inner block has the same one, otherwise its number."""
        number = self._unsigned()
        # The function itself is the outermost label, and has no name.
        if number >= len(self._labels):
            return str(number)
        label = self._labels[-1 - number]
        if label.identifier is not None and self._innermost[label.identifier][-1] == label.depth:
            return label.identifier
        return f"{number} (;@{label.depth};)"

    def _label_vector(self) -> str:
        return " ".join([self._label() for _ in range(self._count() + 1)])

    def _count(self) -> int:
        """The length of a vector, of items of at least one byte each."""
        start = self._pos
        count = self._unsigned()
        if count > len(self._data) - self._pos:
            self._fail("unexpected end of section or function", start)
        return count

    def _memory_argument(self, natural: int) -> str:
        start = self._pos
        flags = self._unsigned()
        if flags >= 128:
            self._fail("malformed memop flags", start)
        memory = self._unsigned() if flags & 64 else 0
        offset = self._unsigned(64)
        parts = [self._spaces["memory"].use(memory)] if memory else []
        if offset:
            parts.append(f"offset={offset}")
        if flags & 63 != natural:
            parts.append(f"align={1 << (flags & 63)}")
        return " ".join(parts)

    def _catches(self) -> str:
        clauses = []
        for _ in range(self._count()):
            code = self._byte()
            if code not in _CATCH_KEYWORDS:
                self._fail("malformed catch clause", self._pos - 1)
            keyword, has_tag = _CATCH_KEYWORDS[code]
            tag = f" {self._spaces['tag'].use(self._unsigned())}" if has_tag else ""
            clauses.append(f"({keyword}{tag} {self._label()})")
        return " ".join(clauses)

    def _handlers(self) -> str:
        clauses = []
        for _ in range(self._count()):
            code = self._byte()
            if code > 1:
                self._fail("malformed handler clause", self._pos - 1)
            tag = self._spaces["tag"].use(self._unsigned())
            clauses.append(f"(on {tag} {'switch' if code else self._label()})")
        return " ".join(clauses)

    def _cast(self) -> str:
        start = self._pos
        flags = self._byte()
        if flags > 3:
            self._fail("malformed br_on_cast flags", start)
        label = self._label()
        source = self._types.ref_form(self._heap_type(), bool(flags & 1))
        return f"{label} {source} {self._types.ref_form(self._heap_type(), bool(flags & 2))}"

    def _zero(self) -> str:
        if self._byte():
            self._fail("zero byte expected", self._pos - 1)
        return ""

    def _lanes(self) -> str:
        return " ".join(map(str, self._take(16)))

    def _result_types(self) -> str:
        types = [self._types.val_type(self._val_type()) for _ in range(self._count())]
        return f"({' '.join(['result', *types])})"

    def _space(self, kind: str) -> str:
        return self._spaces[kind].use(self._unsigned())

    def _not_zero(self, kind: str) -> str:
        """An index that text leaves out when it is zero."""
        index = self._unsigned()
        return self._spaces[kind].use(index) if index else ""

    # Instructions

    def _row(self) -> Instruction:
        start = self._pos
        first, number = self._byte(), -1
        if first in _PREFIXES:
            number = self._unsigned()
        row = BY_OPCODE.get((0, first) if number < 0 else (first, number))
        if row is None:
            raise unknown_opcode(first, number, self._base + start)
        return row

    def _immediates(self, row: Instruction) -> list[str]:
        kinds = row.immediates
        if kinds == ("type", "field"):
            type_index = self._unsigned()
            field = self._unsigned()
            names = self._fields.get(type_index)
            return [self._spaces["type"].use(type_index), names.use(field) if names else str(field)]
        parts: list[str] = []
        for kind in kinds:
            name, _, detail = kind.partition(":")
            if name in ("mem", "atomic") and detail:
                parts.append(self._memory_argument(int(detail)))
            else:
                reader = _READERS.get(name)
                parts.append(self._space(name) if reader is None else reader(self))
        if kinds in _SWAPPED:
            parts.reverse()
            if kinds[0] == "type":
                parts[1] = f"(type {parts[1]})"
        elif kinds in _PAIRS:
            # Both or none.
            parts = [part or "0" for part in parts] if any(parts) else []
        return parts

    def _plain(self, row: Instruction) -> str:
        """An instruction that isn't a block. Its opcode has been read."""
        mnemonic = row.mnemonic
        if row.immediates == ("heap",) and mnemonic.startswith(("ref.test", "ref.cast")):
            nullable = mnemonic.endswith("_null")
            return f"{mnemonic.removesuffix('_null')} {self._types.ref_form(self._heap_type(), nullable)}"
        if not row.immediates:
            return mnemonic
        return " ".join([mnemonic, *filter(None, self._immediates(row))])

    def _open(self, row: Instruction) -> str:
        """A block's first line."""
        name = self._label_names.get(self._label_count)
        self._label_count += 1
        known = identifier(name) if name else None
        depth = len(self._labels)
        bind = known or ("" if name is None else f"(@name {quote_name(name)})") or f"(;@{depth + 1};)"
        text = f"{row.mnemonic} {bind}{self._block_type()}"
        if "catches" in row.immediates:
            # The labels of the clauses don't count the block itself.
            clauses = self._catches()
            text += f" {clauses}" if clauses else ""
        self._labels.append(_Label(row, depth + 1, known))
        if known is not None:
            self._innermost.setdefault(known, []).append(depth + 1)
        return text

    def _close(self) -> None:
        """Leave the innermost block."""
        label = self._labels.pop()
        if label.identifier is not None:
            self._innermost[label.identifier].pop()

    def function(
        self,
        code: bytes,
        base: int,
        local_names: IndexNames,
        label_names: dict[int, str],
        indent: int,
        hints: dict[int, bool] | None = None,
    ) -> list[str]:
        """The lines of a function's expression, without its final `end`; `base` is its offset in the module.

        `hints`: branch hints, by the offset of the instruction in the expression. `hinted` is then how many there are
        at instructions that can have one.
        """
        self._locals = local_names
        self._label_names = label_names
        self._start(code, base)
        self._hints = hints or {}
        return self._lines(indent)

    def constant(self, code: bytes, base: int, keyword: str = "") -> str:
        """A constant expression, without its final `end`, on one line.

        It is folded when it is one instruction; otherwise it stands in a form with this keyword, if there is one.
        """
        self._locals = NO_NAMES
        self._label_names = {}
        self._start(code, base)
        lines = [line.strip() for line in self._lines(0)]
        if len(lines) == 1:
            return f"({lines[0]})"
        return f"({' '.join([keyword, *lines])})" if keyword else " ".join(lines)

    def _start(self, code: bytes, base: int) -> None:
        self._data = code
        self._pos = 0
        self._base = base
        self._labels = []
        self._innermost = {}
        self._label_count = 0
        self._hints = {}
        self.hinted = 0

    def _lines(self, indent: int) -> list[str]:
        lines: list[str] = []
        labels = self._labels
        end = len(self._data)
        while True:
            start = self._pos
            row = self._row()
            level = indent + len(labels)
            if row.rule == "end":
                if not labels:
                    break
                self._close()
                text, level = "end", level - 1
            elif row.rule in _PARTS:
                if not labels or labels[-1].part not in _PARTS[row.rule]:
                    self._fail(f"unexpected {row.mnemonic}", start)
                labels[-1].part = row
                if row.rule == "delegate":  # its label doesn't count the block
                    self._close()
                text, level = self._plain(row), level - 1
            elif row.immediates[:1] == ("block",):
                text = self._open(row)
            else:
                text = self._plain(row)
            if start in self._hints and row.mnemonic in HINTED:
                text = f'(@{BRANCH_HINT} "\\{self._hints[start]:02x}") {text}'
                self.hinted += 1
            lines.append("  " * min(level, _MAX_INDENT) + text)
        if self._pos != end:
            self._fail("END opcode expected before the end of the body")
        return lines


_TRY, _CATCH = BY_MNEMONIC["try"], BY_MNEMONIC["catch"]
#: The instructions that part a block, or end it but for `end`: which parts they may follow.
_PARTS: dict[str, tuple[Instruction, ...]] = {
    "else": (BY_MNEMONIC["if"],), "catch": (_TRY, _CATCH), "catch_all": (_TRY, _CATCH), "delegate": (_TRY,),
}  # fmt: skip

_READERS: dict[str, Callable[[Disassembler], str]] = {
    "label": Disassembler._label,
    "labels": Disassembler._label_vector,
    "local": lambda reader: reader._locals.use(reader._unsigned()),
    "mem": lambda reader: reader._not_zero("memory"),
    "table": lambda reader: reader._not_zero("table"),
    "lane": lambda reader: str(reader._byte()),
    "lanes": Disassembler._lanes,
    "i32": lambda reader: str(reader._signed(32)),
    "i64": lambda reader: str(reader._signed(64)),
    "f32": lambda reader: f32_text(reader._take(4)),
    "f64": lambda reader: f64_text(reader._take(8)),
    "v128": lambda reader: v128_text(reader._take(16)),
    "u32": lambda reader: str(reader._unsigned()),
    "heap": lambda reader: reader._types.heap_type(reader._heap_type()),
    "types": Disassembler._result_types,
    "catches": Disassembler._catches,
    "handlers": Disassembler._handlers,
    "cast": Disassembler._cast,
    "zero": Disassembler._zero,
}
