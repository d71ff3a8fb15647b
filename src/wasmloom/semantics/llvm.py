"""The builder that turns instruction definitions into LLVM IR (textual, for `llvmlite.binding.parse_assembly`)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from wasmloom.target import inline_assembly

#: Types of floats → LLVM's names and bits. Of integers both are in the name.
_FLOATS = {"f32": ("float", 32), "f64": ("double", 64)}
_INTEGER = re.compile(r"i([1-9][0-9]*)")
#: The type of a whole vector, without lanes, and LLVM's name of it.
VECTOR = "v128"
_WHOLE = {VECTOR: "<2 x i64>"}
#: The type of what instructions with two results compute.
WIDE = "i128"
_VECTOR = re.compile(r"<([1-9][0-9]*) x ([a-z][0-9]+)>")

#: Comparison of floats: Wasm's name → LLVM's ordered predicate; "ne" is true of NaNs, "uno" asks for them.
_FLOAT_PREDICATES = {"eq": "oeq", "ne": "une", "lt": "olt", "gt": "ogt", "le": "ole", "ge": "oge", "uno": "uno"}
_NEGATED_FLOAT = {"oeq": "une", "une": "oeq", "olt": "uge", "ogt": "ule", "ole": "ugt", "oge": "ult", "uno": "ord"}
_NEGATED_INT = {
    "eq": "ne", "ne": "eq", "slt": "sge", "sge": "slt", "sgt": "sle", "sle": "sgt", "ult": "uge", "uge": "ult",
    "ugt": "ule", "ule": "ugt",
}  # fmt: skip


def is_float(type: str) -> bool:
    """Whether a builder's type is one of floats."""
    return type in _FLOATS


@lru_cache(maxsize=64)
def llvm_type(name: str) -> str:
    """LLVM's name of a builder's type ("f32" → "float"; others are the same). Raises ValueError for an unknown one."""
    if name in _FLOATS:
        return _FLOATS[name][0]
    if name in _WHOLE:
        return _WHOLE[name]
    if vector := _VECTOR.fullmatch(name):
        return f"<{vector[1]} x {llvm_type(vector[2])}>"
    if name == "ptr" or name[:1] in "<{" or _INTEGER.fullmatch(name):
        return name
    raise ValueError(f"builders know no type {name!r}")


@lru_cache(maxsize=64)
def type_bits(name: str) -> int:
    """Width of a builder's number type in bits. Raises ValueError for any other type."""
    if name in _FLOATS:
        return _FLOATS[name][1]
    integer = _INTEGER.fullmatch(name)
    if integer is None:
        raise ValueError(f"{name!r} is no type of numbers")
    return int(integer[1])


@lru_cache(maxsize=64)
def lanes_of(type: str) -> tuple[int, str]:
    """How many lanes a builder's type has, and their type: 0 and the type itself of one that is no vector."""
    vector = _VECTOR.fullmatch(type)
    return (int(vector[1]), vector[2]) if vector else (0, type)


def with_lanes(type: str, lane: str) -> str:
    """The type with as many lanes as `type` of another type: `lane` itself, if that is no vector."""
    count, _ = lanes_of(type)
    return f"<{count} x {lane}>" if count else lane


def natural_alignment(type: str) -> int:
    """What addresses of atomic accesses are multiples of: the bytes of the type."""
    return type_bits(type) // 8


def _suffix(type: str) -> str:
    """A type as it stands in the names of LLVM's intrinsics."""
    count, lane = lanes_of(type)
    return f"v{count}{lane}" if count else lane


def module_assembly(lines: Iterable[str]) -> list[str]:
    """The IR of lines of assembly that stand outside of functions."""
    return ['module asm "' + line.replace("\\", "\\5C").replace('"', "\\22") + '"' for line in lines]


class Value(NamedTuple):
    """An SSA value or constant: its text and type ("i1", "i8" … "i64", "f32", "f64", "ptr", "v128", or, with lanes,
    "<16 x i8>" … "<2 x f64>")."""

    text: str
    type: str


class Builder:
    """Writes LLVM IR, line by line, into `lines`.

    `on_trap(builder, code)` ends the current block, which is reached when a trap condition holds: the tier decides
    how a trap leaves the function.
    """

    #: The known features of the processor that `wasmloom.target.inline_assembly` makes use of.
    features: frozenset[str] = frozenset()
    #: What keeps atomic accesses where they are among others that LLVM must not move either: "" or " volatile".
    order = ""

    def __init__(self, on_trap: Callable[[Any, int], None]) -> None:
        self.lines: list[str] = []
        self._on_trap = on_trap
        self._count = 0
        #: intrinsic declarations that the code needs: name → declaration
        self.declarations: dict[str, str] = {}

    # --- plumbing ---

    def fresh(self, hint: str = "v") -> str:
        """A new local name."""
        self._count += 1
        return f"%{hint}{self._count}"

    def emit(self, line: str) -> None:
        """Write one line."""
        self.lines.append("  " + line)

    def assign(self, expression: str, type: str) -> Value:
        """Write ``%new = expression`` and return the value."""
        name = self.fresh()
        self.emit(f"{name} = {expression}")
        return Value(name, type)

    def label(self, name: str) -> None:
        """Begin a block (`name` with its leading %)."""
        self.lines.append(f"{name[1:]}:")

    # --- what definitions use ---

    @staticmethod
    def bits(type: str) -> int:
        """Width of a type in bits."""
        return type_bits(type)

    def const(self, type: str, number: float) -> Value:
        """A constant, in all lanes of a vector. Floats must be exact in their type."""
        count, lane = lanes_of(type)
        if count:
            one = self.const(lane, number)
            return Value(f"<{', '.join([f'{llvm_type(lane)} {one.text}'] * count)}>", type)
        if is_float(type):
            (bits,) = struct.unpack("<Q", struct.pack("<d", number))
            return Value(f"0x{bits:016X}", type)
        return Value(str(int(number)), type)

    def binary(self, opcode: str, x: Value, y: Value) -> Value:
        """An LLVM binary instruction on two values of one type."""
        return self.assign(f"{opcode} {llvm_type(x.type)} {x.text}, {y.text}", x.type)

    def arithmetic(self, name: str, x: Value, y: Value) -> Value:
        """The sum ("add"), difference ("sub"), product ("mul") or quotient ("div") of two floats.

        An instruction of the processor by name: LLVM, for which NaNs are all alike, would exchange operands, or fold a
        negation into another instruction, and the result would have another NaN's bits.
        """
        kind = llvm_type(x.type)
        count, lane = lanes_of(x.type)
        code = inline_assembly.float_arithmetic(name, type_bits(lane), count > 0, self.features)
        return self.assign(f"call {kind} {code}({kind} {x.text}, {kind} {y.text}) nounwind memory(none)", x.type)

    def compare(self, predicate: str, x: Value, y: Value, negate: bool = False) -> Value:
        """A truth value (i1), or one for each lane: `predicate` is LLVM's of integers, Wasm's (or "uno") of floats."""
        result = with_lanes(x.type, "i1")
        if is_float(lanes_of(x.type)[1]):
            name = _FLOAT_PREDICATES[predicate]
            name = _NEGATED_FLOAT[name] if negate else name
            return self.assign(f"fcmp {name} {llvm_type(x.type)} {x.text}, {y.text}", result)
        name = _NEGATED_INT[predicate] if negate else predicate
        return self.assign(f"icmp {name} {x.type} {x.text}, {y.text}", result)

    def both(self, x: Value, y: Value) -> Value:
        """Whether both truth values hold."""
        return self.binary("and", x, y)

    def either(self, x: Value, y: Value) -> Value:
        """Whether one of two truth values holds."""
        return self.binary("or", x, y)

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """`x` where the truth value holds, else `y`; lane by lane, where there is one for each."""
        kind = llvm_type(x.type)
        return self.assign(f"select {condition.type} {condition.text}, {kind} {x.text}, {kind} {y.text}", x.type)

    def negate(self, x: Value) -> Value:
        """The float with its sign bit flipped, NaNs included."""
        return self.assign(f"fneg {llvm_type(x.type)} {x.text}", x.type)

    def convert(self, opcode: str, x: Value, target: str) -> Value:
        """An LLVM conversion instruction."""
        return self.assign(f"{opcode} {llvm_type(x.type)} {x.text} to {llvm_type(target)}", target)

    def split(self, x: Value) -> tuple[Value, Value]:
        """The halves of an i128, the lower one first."""
        upper = self.binary("lshr", x, self.const(x.type, 64))
        return self.convert("trunc", x, "i64"), self.convert("trunc", upper, "i64")

    def intrinsic(self, name: str, *operands: Value, result: str | None = None) -> Value:
        """A call of ``llvm.<name>``, overloaded on the operand's type (and on `result` where that differs)."""
        source = operands[0].type
        target = result or source
        suffix = f".{_suffix(target)}.{_suffix(source)}" if result else f".{_suffix(source)}"
        kinds = [llvm_type(v.type) for v in operands]
        arguments = [f"{kind} {v.text}" for kind, v in zip(kinds, operands, strict=True)]
        if name in ("ctlz", "cttz"):
            kinds.append("i1")
            arguments.append("i1 false")  # zero is no special case
        full = f"@llvm.{name}{suffix}"
        self.declarations[full] = f"declare {llvm_type(target)} {full}({', '.join(kinds)})"
        return self.assign(f"call {llvm_type(target)} {full}({', '.join(arguments)})", target)

    # --- vectors ---

    def mask(self, condition: Value, type: str) -> Value:
        """For each lane of a type all bits, where the truth value holds, or none, as integers."""
        return self.convert("sext", condition, with_lanes(type, f"i{type_bits(lanes_of(type)[1])}"))

    def splat(self, x: Value, type: str) -> Value:
        """A vector with `x` in all lanes."""
        count, lane = lanes_of(type)
        first = self.assign(
            f"insertelement {llvm_type(type)} poison, {llvm_type(lane)} {x.text}, i64 0", type
        )
        return self.shuffle(first, first, [0] * count)

    def shuffle(self, x: Value, y: Value, lanes: Iterable[int]) -> Value:
        """A vector of lanes of `x`, and of `y`, which are counted on."""
        chosen = list(lanes)
        kind = llvm_type(x.type)
        mask = ", ".join(f"i32 {lane}" for lane in chosen)
        return self.assign(
            f"shufflevector {kind} {x.text}, {kind} {y.text}, <{len(chosen)} x i32> <{mask}>",
            f"<{len(chosen)} x {lanes_of(x.type)[1]}>",
        )

    def extract(self, x: Value, lane: Value) -> Value:
        """The lane with a number (i64)."""
        return self.assign(
            f"extractelement {llvm_type(x.type)} {x.text}, i64 {lane.text}", lanes_of(x.type)[1]
        )

    def insert(self, x: Value, value: Value, lane: Value) -> Value:
        """The vector with another value in the lane with a number (i64)."""
        kind = llvm_type(value.type)
        return self.assign(f"insertelement {llvm_type(x.type)} {x.text}, {kind} {value.text}, i64 {lane.text}", x.type)

    def swizzle(self, x: Value, lanes: Value) -> Value:
        """For each of 16 bytes that of `x` with this number, or 0 where there is none."""
        # Numbers from 16 on get their highest bit set.
        numbers = self.intrinsic("uadd.sat", lanes, self.const(lanes.type, 0x70))
        return self._combined(inline_assembly.LOOK_UP, x, numbers, x.type)

    def sum_products(self, x: Value, y: Value) -> Value:
        """Of lanes of 16 bits with signs, sums of two neighbouring products each.

        An instruction of the processor by name: where operands are widened bytes, LLVM would multiply fewer bits, and
        then not find it again.
        """
        return self._combined(inline_assembly.SUM_PRODUCTS, x, y, "<4 x i32>")

    def narrowed(self, x: Value, y: Value, sign: str) -> Value:
        """The lanes of two vectors of signed numbers, each of half the bits, as near as it gets: signed or not."""
        count, lane = lanes_of(x.type)
        bits = type_bits(lane)
        return self._combined(inline_assembly.NARROW[bits, sign], x, y, f"<{2 * count} x i{bits // 2}>")

    def _combined(self, name: str, x: Value, y: Value, result: str) -> Value:
        """What a function of the processor makes of two vectors."""
        self.declarations[name] = f"declare {result} {name}({x.type}, {y.type})"
        return self.assign(f"call {result} {name}({x.type} {x.text}, {y.type} {y.text})", result)

    def choose(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """As `shuffle`, where the lanes are an instruction's immediate."""
        return self.shuffle(x, y, lanes)

    def unfolded(self, x: Value) -> Value:
        """A float, or a vector of floats, which LLVM must not compute with."""
        return x

    # --- memory ---

    def load(self, type: str, address: Value, align: int = 1) -> Value:
        """Read memory; Wasm's alignments are hints, so nothing is assumed of guest addresses."""
        return self.assign(f"load {llvm_type(type)}, ptr {address.text}, align {align}", type)

    def store(self, x: Value, address: Value, align: int = 1, seen: bool = False) -> None:
        """Write memory; `seen`: what the host sees after a trap, so it must be written by then."""
        self.emit(f"store {llvm_type(x.type)} {x.text}, ptr {address.text}, align {align}")

    # --- objects ---

    def may_be_null(self, reference: Value) -> bool:
        """Whether a reference may be null. Whoever asks traps then, so it isn't any more behind that."""
        return self.may_be_null_here(reference)

    def may_be_null_here(self, reference: Value) -> bool:
        """Whether a reference may be null."""
        return True

    def may_be_no_object(self, reference: Value) -> bool:
        """Whether a reference that isn't null may be an i31, or one of the host's."""
        return True

    def object_load(self, type: str, address: Value, align: int, part: str = "") -> Value:
        """Read a part of an object, or of a list of blocks for objects.

        Parts with different names are never in the same place, unless one has none.
        """
        return self.assign(f"load {llvm_type(type)}, ptr {address.text}, align {align}", type)

    def object_store(self, x: Value, address: Value, align: int, part: str = "") -> None:
        """Write such a part, before anything behind it that may trap: all objects are whole then."""
        self.emit(f"store {llvm_type(x.type)} {x.text}, ptr {address.text}, align {align}")

    # --- atomic accesses: sequentially consistent, at aligned addresses ---

    def atomic_load(self, type: str, address: Value) -> Value:
        """Read memory."""
        place = f"ptr {address.text} seq_cst, align {natural_alignment(type)}"
        return self.assign(f"load atomic{self.order} {type}, {place}", type)

    def atomic_store(self, x: Value, address: Value) -> None:
        """Write memory."""
        place = f"ptr {address.text} seq_cst, align {natural_alignment(x.type)}"
        self.emit(f"store atomic{self.order} {x.type} {x.text}, {place}")

    def atomic_modify(self, opcode: str, x: Value, address: Value) -> Value:
        """Write the old value combined with `x` by an LLVM binary instruction, or `x` ("xchg"). Returns the old
        value."""
        align = natural_alignment(x.type)
        return self.assign(
            f"atomicrmw{self.order} {opcode} ptr {address.text}, {x.type} {x.text} seq_cst, align {align}", x.type
        )

    def atomic_compare_exchange(self, expected: Value, x: Value, address: Value) -> Value:
        """Write `x` if the old value is the expected one. Returns the old value."""
        pair = self.assign(
            f"cmpxchg{self.order} ptr {address.text}, {x.type} {expected.text}, {x.type} {x.text} seq_cst seq_cst, "
            f"align {natural_alignment(x.type)}",
            f"{{ {x.type}, i1 }}",
        )
        return self.assign(f"extractvalue {pair.type} {pair.text}, 0", x.type)

    def fence(self) -> None:
        """Order all accesses to memory before this with all behind it."""
        self.emit(f"call void {inline_assembly.FENCE}()")

    def wide(self, x: Value) -> Value:
        """An address or index as 64 bits, which it may have."""
        return x if x.type == "i64" else self.convert("zext", x, "i64")

    def below(self, length: Value, count: Value) -> Value:
        """How many addresses there are that `count` bytes lie behind, in a memory of `length`, and one more byte.

        So an access of `count` + 1 bytes is in bounds if its address is below this number; nothing wraps.
        """
        return self.intrinsic("usub.sat", length, count)

    # --- traps, and what else is unlikely ---

    def rarely(
        self, condition: Value, action: Callable[[str], None], names: tuple[str, str] = ("trap", "ok")
    ) -> None:
        """When the truth value holds, which is unlikely, do something before going on.

        `action` gets the label to go on at, and ends its block.
        """
        unlikely, go_on = (self.fresh(name) for name in names)
        self.emit(f"br i1 {condition.text}, label {unlikely}, label {go_on}, !prof !0")
        self.label(unlikely)
        action(go_on)
        self.label(go_on)

    def trap(self, code: int) -> None:
        """End the block with trap `code`."""
        self._on_trap(self, code)

    def trap_if(self, condition: Value, code: int) -> None:
        """Leave with trap `code` when the truth value holds."""
        self.rarely(condition, lambda _: self.trap(code))
