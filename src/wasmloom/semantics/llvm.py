"""The builder that turns instruction definitions into LLVM IR (textual, for `llvmlite.binding.parse_assembly`)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from wasmloom.target import inline_assembly

#: Types of floats → LLVM's names and bits. Of integers both are in the name.
_FLOATS = {"f32": ("float", 32), "f64": ("double", 64)}
_INTEGER = re.compile(r"i([1-9][0-9]*)")

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


def module_assembly(lines: Iterable[str]) -> list[str]:
    """The IR of lines of assembly that stand outside of functions."""
    return ['module asm "' + line.replace("\\", "\\5C").replace('"', "\\22") + '"' for line in lines]


class Value(NamedTuple):
    """An SSA value or constant: its text and type ("i1", "i8" … "i64", "f32", "f64", "ptr", or an LLVM vector type)."""

    text: str
    type: str


class Builder:
    """Writes LLVM IR, line by line, into `lines`.

    `on_trap(builder, code)` ends the current block, which is reached when a trap condition holds: the tier decides
    how a trap leaves the function.
    """

    #: The known features of the processor that `wasmloom.target.inline_assembly` makes use of.
    features: frozenset[str] = frozenset()

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
        """A constant. Floats must be exact in their type."""
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
        code = inline_assembly.float_arithmetic(name, type_bits(x.type), self.features)
        return self.assign(f"call {kind} {code}({kind} {x.text}, {kind} {y.text}) nounwind memory(none)", x.type)

    def compare(self, predicate: str, x: Value, y: Value, negate: bool = False) -> Value:
        """A truth value (i1): `predicate` is LLVM's for integers, Wasm's (or "uno") for floats."""
        if is_float(x.type):
            name = _FLOAT_PREDICATES[predicate]
            name = _NEGATED_FLOAT[name] if negate else name
            return self.assign(f"fcmp {name} {llvm_type(x.type)} {x.text}, {y.text}", "i1")
        name = _NEGATED_INT[predicate] if negate else predicate
        return self.assign(f"icmp {name} {x.type} {x.text}, {y.text}", "i1")

    def both(self, x: Value, y: Value) -> Value:
        """Whether both truth values hold."""
        return self.binary("and", x, y)

    def either(self, x: Value, y: Value) -> Value:
        """Whether one of two truth values holds."""
        return self.binary("or", x, y)

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """`x` where the truth value holds, else `y`."""
        kind = llvm_type(x.type)
        return self.assign(f"select i1 {condition.text}, {kind} {x.text}, {kind} {y.text}", x.type)

    def negate(self, x: Value) -> Value:
        """The float with its sign bit flipped, NaNs included."""
        return self.assign(f"fneg {llvm_type(x.type)} {x.text}", x.type)

    def convert(self, opcode: str, x: Value, target: str) -> Value:
        """An LLVM conversion instruction."""
        return self.assign(f"{opcode} {llvm_type(x.type)} {x.text} to {llvm_type(target)}", target)

    def intrinsic(self, name: str, *operands: Value, result: str | None = None) -> Value:
        """A call of ``llvm.<name>``, overloaded on the operand's type (and on `result` where that differs)."""
        source = operands[0].type
        target = result or source
        suffix = f".{target}.{source}" if result else f".{source}"
        arguments = [f"{llvm_type(v.type)} {v.text}" for v in operands]
        if name in ("ctlz", "cttz"):
            arguments.append("i1 false")  # zero is no special case
        full = f"@llvm.{name}{suffix}"
        kinds = ", ".join(a.split(" ")[0] for a in arguments)
        self.declarations[full] = f"declare {llvm_type(target)} {full}({kinds})"
        return self.assign(f"call {llvm_type(target)} {full}({', '.join(arguments)})", target)

    def load(self, type: str, address: Value, align: int = 1) -> Value:
        """Read memory; Wasm's alignments are hints, so nothing is assumed of guest addresses."""
        return self.assign(f"load {llvm_type(type)}, ptr {address.text}, align {align}", type)

    def store(self, x: Value, address: Value, align: int = 1, seen: bool = False) -> None:
        """Write memory; `seen`: what the host sees after a trap, so it must be written by then."""
        self.emit(f"store {llvm_type(x.type)} {x.text}, ptr {address.text}, align {align}")

    # --- atomic accesses: to memories that aren't shared ---

    def atomic_load(self, type: str, address: Value) -> Value:
        """Read memory."""
        return self.load(type, address)

    def atomic_store(self, x: Value, address: Value) -> None:
        """Write memory."""
        self.store(x, address)

    def atomic_modify(self, opcode: str, x: Value, address: Value) -> Value:
        """Write the old value combined with `x` by an LLVM binary instruction, or `x` ("xchg"). Returns the old
        value."""
        old = self.load(x.type, address)
        self.store(x if opcode == "xchg" else self.binary(opcode, old, x), address)
        return old

    def atomic_compare_exchange(self, expected: Value, x: Value, address: Value) -> Value:
        """Write `x` if the old value is the expected one. Returns the old value."""
        old = self.load(x.type, address)
        # The old value is written back otherwise: it is the guest's own.
        self.store(self.select(self.compare("eq", old, expected), x, old), address)
        return old

    def wide(self, x: Value) -> Value:
        """An address or index of 32 bits as 64 bits."""
        return self.convert("zext", x, "i64")

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
