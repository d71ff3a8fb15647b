"""Immediates of instructions in the text format → their binary form.

`_READERS` reads each kind of immediate that the instruction table names, `_SPECIAL` and `_SPECIAL_MNEMONICS` the few
whose text has another order or number of parts than their binary form. `INSTRUCTION_READERS` is made from
them: one reader for each keyword of the text format that isn't a block.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wasmloom.binary.encoder import heap_type_bytes, sleb, uleb, val_type_bytes, vector
from wasmloom.messages import printable
from wasmloom.spec.instructions import BY_OPCODE, INSTRUCTIONS, Instruction
from wasmloom.spec.types import FuncType, ValType
from wasmloom.text.cursor import NOT_IN_TEXT
from wasmloom.text.lexer import Tokens
from wasmloom.text.literals import (
    SHAPES,
    LiteralError,
    bit_width,
    is_number,
    parse_float,
    parse_integer,
    parse_number,
    parse_unsigned,
)
from wasmloom.text.types import TypeParser

#: Binary codes of the catch clauses: keyword → (code, whether it names a tag).
CATCHES: dict[str, tuple[int, bool]] = {
    "catch": (0, True),
    "catch_ref": (1, True),
    "catch_all": (2, False),
    "catch_all_ref": (3, False),
}

#: What the numbers in data segments may be.
NUMBER_LISTS = frozenset(("i8", "i16", "i32", "i64", "f32", "f64", "v128"))

_EMPTY_BLOCK = b"\x40"


def opcode_bytes(row: Instruction) -> bytes:
    """The opcode of an instruction, with its prefix."""
    return bytes((row.prefix,)) + uleb(row.opcode) if row.prefix else bytes((row.opcode,))


class Labels:
    """The identifiers of the enclosing blocks: a stack that finds the innermost block of a name at once."""

    __slots__ = ("_places", "_stack")

    def __init__(self) -> None:
        self._stack: list[str | None] = []
        #: identifier → where it is on the stack, innermost last
        self._places: dict[str, list[int]] = {}

    def push(self, label: str | None) -> None:
        """Enter a block, with or without an identifier."""
        if label is not None:
            self._places.setdefault(label, []).append(len(self._stack))
        self._stack.append(label)

    def pop(self) -> None:
        """Leave the innermost block."""
        label = self._stack.pop()
        if label is not None:
            self._places[label].pop()

    def innermost(self) -> str | None:
        """The identifier of the innermost block."""
        return self._stack[-1]

    def depth(self, label: str) -> int | None:
        """The number of blocks inside the innermost one with this identifier; None when there is none."""
        places = self._places.get(label)
        return len(self._stack) - 1 - places[-1] if places else None


class ImmediateParser(TypeParser):
    """Reads immediates, in the context of `locals`, `labels` and the index spaces."""

    def __init__(self, tokens: Tokens, pos: int) -> None:
        super().__init__(tokens, pos)
        #: identifier → index, of the current function
        self.locals: dict[str, int] = {}
        self.labels = Labels()
        #: whether an instruction names a data segment, so the binary needs a data count
        self.uses_data_count = False

    # Indices

    def local(self) -> bytes:
        """A local."""
        token = self.toks[self.pos]
        found = self.locals.get(token)
        if found is None:
            if token[:1] != "$":
                return uleb(self.unsigned())
            found = self.locals.get(self.identifier_at(self.pos))
            if found is None:
                self.fail(f"unknown local {printable(token)}")
        self.pos += 1
        return uleb(found)

    def label(self) -> bytes:
        """A label, counted from the innermost block."""
        token = self.toks[self.pos]
        if token[:1] != "$":
            return uleb(self.unsigned())
        depth = self.labels.depth(self.identifier_at(self.pos))
        if depth is None:
            self.fail(f"unknown label {printable(token)}")
        self.pos += 1
        return uleb(depth)

    def label_vector(self) -> bytes:
        """The labels of `br_table`, of which the last is the default."""
        labels = [self.label()]
        while self.at_index():
            labels.append(self.label())
        return uleb(len(labels) - 1) + b"".join(labels)

    def space_index(self, kind: str) -> bytes:
        """An index in a module's index space."""
        return uleb(self.index(kind))

    def optional_index(self, kind: str) -> bytes:
        """An index in a module's index space, 0 when there is none."""
        return uleb(self.index(kind)) if self.at_index() else b"\0"

    def data_index(self) -> bytes:
        """A data segment."""
        self.uses_data_count = True
        return uleb(self.index("data"))

    def type_and_field(self) -> bytes:
        """A struct type and one of its fields."""
        type_index = self.index("type")
        token = self.toks[self.pos]
        if token[:1] != "$":
            return uleb(type_index) + uleb(self.unsigned())
        field = self.field_names.get(type_index, {}).get(self.identifier_at(self.pos))
        if field is None:
            self.fail(f"unknown field {printable(token)}")
        self.pos += 1
        return uleb(type_index) + uleb(field)

    def table_and_type(self) -> bytes:
        """The table, which is optional, and type use of `call_indirect`; binary has the type first."""
        table = self.optional_index("table")
        return uleb(self.type_use(None)) + table

    def memory_and_data(self) -> bytes:
        """The memory, which is optional, and data segment of `memory.init`; binary has the segment first."""
        memory = 0
        if self._index_after_next():
            memory = self.index("memory")
        return self.data_index() + uleb(memory)

    def table_and_element(self) -> bytes:
        """The table, which is optional, and element segment of `table.init`; binary has the segment first."""
        table = 0
        if self._index_after_next():
            table = self.index("table")
        return self.space_index("elem") + uleb(table)

    def _index_after_next(self) -> bool:
        following = self.toks[self.pos + 1][:1] if self.toks[self.pos] else ""
        return following == "$" or following.isdigit()

    def index_pair(self, kind: str) -> bytes:
        """Two indices of one space or none, as in `memory.copy`."""
        if not self.at_index():
            return b"\0\0"
        return self.space_index(kind) + self.space_index(kind)

    # Memory arguments

    def memory_argument(self, natural: int, before_lane: bool) -> bytes:
        """`memory? offset=n? align=n?`.

        `natural` is log2 of the alignment when no other is given. With `before_lane` a single number is the lane that
        follows, not the memory.
        """
        token = self.toks[self.pos]
        first = token[:1]
        memory = 0
        if first == "$" or (first.isdigit() and not (before_lane and not self._more_after_number())):
            memory = self.index("memory")
            token = self.toks[self.pos]
        offset, align = 0, natural
        if token.startswith("offset="):
            offset = self._keyword_number(token)
            token = self.toks[self.pos]
        if token.startswith("align="):
            size = self._keyword_number(token)
            if size == 0 or size & (size - 1):
                self.fail("alignment must be a power of two", self.pos - 1)
            align = size.bit_length() - 1
        if memory:
            return uleb(align | 0x40) + uleb(memory) + uleb(offset)
        return uleb(align) + uleb(offset)

    def _more_after_number(self) -> bool:
        following = self.toks[self.pos + 1]
        return following[:1].isdigit() or following.startswith(("offset=", "align="))

    def _keyword_number(self, token: str) -> int:
        """The number in `keyword=number`."""
        try:
            value = parse_unsigned(token.partition("=")[2], 64)
        except LiteralError as error:
            reason = str(error)
            self.fail(reason if reason.endswith("out of range") else f"unknown operator {printable(token)}")
        self.pos += 1
        return value

    # Constants

    def integer(self, bits: int) -> bytes:
        """An integer constant."""
        token = self.toks[self.pos]
        try:
            value = parse_integer(token, bits)
        except LiteralError as error:
            self.fail_literal(error)
        self.pos += 1
        return sleb(value - (1 << bits) if value >> (bits - 1) else value)

    def float(self, type_name: str) -> bytes:
        """A float constant."""
        try:
            value = parse_float(self.toks[self.pos], type_name)
        except LiteralError as error:
            self.fail_literal(error)
        self.pos += 1
        return value.to_bytes(bit_width(type_name) // 8, "little")

    def vector_constant(self) -> bytes:
        """A shape and its lanes."""
        shape = SHAPES.get(self.toks[self.pos])
        if shape is None:
            self.unexpected()
        lane, count = shape
        self.pos += 1
        start = self.pos
        while is_number(self.toks[self.pos]):
            self.pos += 1
        found = self.toks[start : self.pos]
        if len(found) != count:
            if len(found) < count and self.toks[self.pos][:1] not in ("", "(", ")"):
                self.unexpected()
            self.fail("wrong number of lane literals")
        self.pos = start
        return b"".join([self._number_bytes(lane) for _ in found])

    def data_values(self) -> bytes:
        """The contents of a data segment: strings and lists of numbers, such as `(i16 1 -2)`, joined.

        Source: the proposal of numeric values in data segments.
        """
        toks = self.toks
        parts: list[bytes] = []
        while True:
            if toks[self.pos][:1] == '"':
                parts.append(self.string())
            elif toks[self.pos] == "(" and toks[self.pos + 1] in NUMBER_LISTS:
                type_name = toks[self.pos + 1]
                self.pos += 2
                while toks[self.pos] != ")":
                    parts.append(self.vector_constant() if type_name == "v128" else self._number_bytes(type_name))
                self.pos += 1
            else:
                return b"".join(parts)

    def _number_bytes(self, type_name: str) -> bytes:
        """A number of a type or lane type, as memory has it."""
        try:
            value = parse_number(self.toks[self.pos], type_name)
        except LiteralError as error:
            self.fail_literal(error)
        self.pos += 1
        return value.to_bytes(bit_width(type_name) // 8, "little")

    def lane(self) -> bytes:
        """A lane number. The validator checks whether it exists."""
        return bytes((self.unsigned(8),))

    def lane_numbers(self) -> bytes:
        """The sixteen lane numbers of `i8x16.shuffle`."""
        lanes = bytearray()
        while is_number(self.toks[self.pos]):
            if not self.toks[self.pos].isalnum() or not self.at_unsigned():
                self.fail("i8 constant out of range")
            lanes.append(self.unsigned(8))
        if len(lanes) != 16:
            self.fail("invalid lane length: i8x16.shuffle needs 16 lane numbers")
        return bytes(lanes)

    # Types

    def heap(self) -> bytes:
        """A heap type."""
        return heap_type_bytes(self.heap_type())

    def cast(self) -> bytes:
        """The label and two reference types of `br_on_cast`; binary begins with whether they are nullable."""
        label = self.label()
        source, target = self.ref_type(), self.ref_type()
        flags = (1 if source.is_nullable else 0) | (2 if target.is_nullable else 0)
        return bytes((flags,)) + label + heap_type_bytes(source.heap) + heap_type_bytes(target.heap)

    def block_type(self) -> bytes:
        """A block type: empty, one result, or a type index."""
        if self.toks[self.pos] != "(":
            return _EMPTY_BLOCK
        start = self.pos
        explicit = self.explicit_type()
        inline = self.signature(None)
        if explicit is not None:
            self.check_inline(explicit, inline, start)
            return sleb(explicit)
        if not inline.params and len(inline.results) < 2:
            return val_type_bytes(inline.results[0]) if inline.results else _EMPTY_BLOCK
        return sleb(self.implicit_type(inline))

    # Clauses

    def catches(self) -> bytes:
        """The catch clauses of `try_table`."""
        clauses: list[bytes] = []
        while self.toks[self.pos] == "(" and self.toks[self.pos + 1] in CATCHES:
            code, has_tag = CATCHES[self.toks[self.pos + 1]]
            self.pos += 2
            tag = self.space_index("tag") if has_tag else b""
            clauses.append(bytes((code,)) + tag + self.label())
            self.expect(")")
        return vector(clauses)

    def handlers(self) -> bytes:
        """The handler clauses of `resume`: `(on $tag $label)` and `(on $tag switch)`."""
        clauses: list[bytes] = []
        while self.open_form("on"):
            tag = self.space_index("tag")
            clauses.append(b"\1" + tag if self.accept("switch") else b"\0" + tag + self.label())
            self.expect(")")
        return vector(clauses)

    # Instructions whose opcode depends on what follows

    def select(self, opcode: bytes) -> bytes:
        """`select`, with the types of its results or without."""
        if not self.at_form("result"):
            return opcode
        results = self._result_types()
        return opcode_bytes(BY_OPCODE[0, 0x1C]) + vector(map(val_type_bytes, results))

    def _result_types(self) -> tuple[ValType, ...]:
        signature: FuncType = self.signature(None)
        if signature.params:
            self.unexpected()
        return signature.results

    def nullable_heap(self, plain: bytes, nullable: bytes) -> bytes:
        """`ref.test` and `ref.cast`, which have one opcode for each nullability."""
        target = self.ref_type()
        return (nullable if target.is_nullable else plain) + heap_type_bytes(target.heap)


#: Reads all that follows a keyword; takes the opcode of the keyword's row and returns the whole instruction.
Reader = Callable[[ImmediateParser, bytes], bytes]
_Immediate = Callable[[ImmediateParser], bytes]


def _method(method: Callable[..., bytes], *args: object) -> _Immediate:
    """A reader of one immediate: `method` with arguments after the parser."""
    return lambda parser: method(parser, *args)


_READERS: dict[str, _Immediate] = {
    "label": ImmediateParser.label,
    "labels": ImmediateParser.label_vector,
    "local": ImmediateParser.local,
    "mem": _method(ImmediateParser.optional_index, "memory"),
    "table": _method(ImmediateParser.optional_index, "table"),
    "data": ImmediateParser.data_index,
    "lane": ImmediateParser.lane,
    "lanes": ImmediateParser.lane_numbers,
    "i32": _method(ImmediateParser.integer, 32),
    "i64": _method(ImmediateParser.integer, 64),
    "f32": _method(ImmediateParser.float, "f32"),
    "f64": _method(ImmediateParser.float, "f64"),
    "v128": ImmediateParser.vector_constant,
    "u32": lambda parser: uleb(parser.unsigned()),
    "heap": ImmediateParser.heap,
    "catches": ImmediateParser.catches,
    "handlers": ImmediateParser.handlers,
    "cast": ImmediateParser.cast,
    "zero": lambda parser: b"\0",
} | {kind: _method(ImmediateParser.space_index, kind) for kind in ("func", "type", "global", "tag", "elem")}

#: Lists of immediates that are not read one after the other.
_SPECIAL: dict[tuple[str, ...], _Immediate] = {
    ("type", "table"): ImmediateParser.table_and_type,
    ("type", "field"): ImmediateParser.type_and_field,
    ("data", "mem"): ImmediateParser.memory_and_data,
    ("elem", "table"): ImmediateParser.table_and_element,
    ("mem", "mem"): _method(ImmediateParser.index_pair, "memory"),
    ("table", "table"): _method(ImmediateParser.index_pair, "table"),
}


def _nullable_pair(plain: str, nullable: str) -> Reader:
    codes = {row.mnemonic: opcode_bytes(row) for row in INSTRUCTIONS if row.mnemonic in (plain, nullable)}
    return lambda parser, _: parser.nullable_heap(codes[plain], codes[nullable])


_SPECIAL_MNEMONICS: dict[str, Reader] = {
    "select": ImmediateParser.select,
    "ref.test": _nullable_pair("ref.test", "ref.test_null"),
    "ref.cast": _nullable_pair("ref.cast", "ref.cast_null"),
    "ref.cast_desc_eq": _nullable_pair("ref.cast_desc_eq", "ref.cast_desc_eq_null"),
}


def _immediate(kind: str, kinds: tuple[str, ...]) -> _Immediate:
    name, _, detail = kind.partition(":")
    if name in ("mem", "atomic") and detail:
        before_lane = any(other.startswith("lane") for other in kinds)
        return partial(ImmediateParser.memory_argument, natural=int(detail), before_lane=before_lane)
    return _READERS[name]


def _reader(row: Instruction) -> Reader | None:
    """The reader for an instruction; None when it has no immediates."""
    if row.mnemonic in _SPECIAL_MNEMONICS:
        return _SPECIAL_MNEMONICS[row.mnemonic]
    if not row.immediates:
        return None
    whole = _SPECIAL.get(row.immediates)
    parts = [whole] if whole is not None else [_immediate(kind, row.immediates) for kind in row.immediates]
    if len(parts) == 1:
        only = parts[0]
        return lambda parser, opcode: opcode + only(parser)
    return lambda parser, opcode: opcode + b"".join(part(parser) for part in parts)


#: Keyword of each structured instruction → its row.
BLOCKS: dict[str, Instruction] = {
    row.mnemonic: row for row in INSTRUCTIONS if row.immediates and row.immediates[0] == "block"
}

#: The typing rules of instructions that part blocks, or end them.
PARTS = ("else", "end", "catch", "catch_all", "delegate")

#: Keyword of every other instruction → its opcode and the reader of its immediates. The first row with a mnemonic
#: counts.
INSTRUCTION_READERS: dict[str, tuple[bytes, Reader | None]] = {
    row.mnemonic: (opcode_bytes(row), _reader(row))
    for row in reversed(INSTRUCTIONS)
    if row.mnemonic not in BLOCKS and row.mnemonic not in NOT_IN_TEXT and row.rule not in PARTS
    if row.immediates != ("types",)
}
