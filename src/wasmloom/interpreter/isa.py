"""What a bytecode instruction is: the shape shared by handler generator, translator and disassembler.

An instruction is the address of its handler (8 bytes) followed by its fields at fixed offsets; its size is a multiple
of 8. Operands come in three kinds: a frame *slot* (16-bit number, 8 bytes each), the *accumulator* of the operand's
class of registers (`wasmloom.semantics.kinds.Register`), or an *immediate*. Results go to the accumulator alone, or to
a slot and the accumulator: the value is in a register anyway, so a result in a slot can be read from either.

Slots hold 64 bits: an i32 is zero-extended, an f32 is in the low half and the upper half is arbitrary. Whatever writes
a slot has to hold to that: stencils use an i32 that they have in a register for an address as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.kinds import Kind
from wasmloom.semantics.registry import OPERATIONS, Operation

#: Operand and result kinds; the letter is their name in handler names and dumps.
SLOT, ACC, IMM = range(3)
KIND_LETTERS = "sai"


class FieldKind(NamedTuple):
    """The meaning of a field's bytes: how many there are, and whether the number is signed."""

    width: int
    signed: bool = False


#: "dst" and "slot" are slot numbers; "target" counts from the instruction's start plus the field's `base`; "imm32" is
#: sign-extended for i64; "array" has a variable length and ends the instruction.
FIELD_KINDS: dict[str, FieldKind] = {
    "dst": FieldKind(2),
    "slot": FieldKind(2),
    "u16": FieldKind(2),
    "u32": FieldKind(4),
    "target": FieldKind(4, signed=True),
    "imm32": FieldKind(4, signed=True),
    "imm64": FieldKind(8),
    "ptr": FieldKind(8),
    "array": FieldKind(0),
}

#: Bytes that an instruction's handler address takes.
HEADER = 8
#: A return ip follows the calling instruction's `delta`, an u16: see `wasmloom.interpreter.control_handlers`.
DELTA_BEFORE_RETURN = 8


class Field(NamedTuple):
    """A field of an instruction: its `kind` (of `FIELD_KINDS`), and its offset in bytes.

    Nothing else in the engine says where a field is. Handler bodies read fields by name; the constants that the
    translator and the runtime use are generated (`wasmloom.interpreter.handlers.field_offsets`).
    """

    name: str
    kind: str
    offset: int
    base: int = 0


class Shape(NamedTuple):
    """The fields of an instruction. Where two shapes of one name have the same field, it is in the same place."""

    name: str
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """The instruction's size in bytes, without its array."""
        end = max((field.offset + FIELD_KINDS[field.kind].width for field in self.fields), default=HEADER)
        return (end + 7) & ~7

    @property
    def has_array(self) -> bool:
        """Whether the instruction's size varies."""
        return any(field.kind == "array" for field in self.fields)

    def field(self, name: str) -> Field:
        """The field called `name`. Raises KeyError."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name}")


def shape(name: str, fields: str = "") -> Shape:
    """A shape with fields from "name:kind@offset" items."""
    found = []
    for item in fields.split():
        field, rest = item.split(":")
        kind, offset = rest.split("@")
        found.append(Field(field, kind, int(offset)))
    return Shape(name, tuple(found))


class Handler(NamedTuple):
    """A bytecode instruction and the body of its handler.

    `calls_runtime` marks handlers that call C code: only these may have a prologue. `faults` marks those that touch
    guest memory; `fault_offset` is the offset in the instruction of the part that does so.
    """

    name: str
    shape: Shape
    body: Callable[[Any], None]
    calls_runtime: bool = False
    faults: bool = False
    fault_offset: int = 0


#: Comparison → the one that holds when the operands are swapped.
MIRRORED = {
    "eq": "eq", "ne": "ne", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le",
    "lt_s": "gt_s", "gt_s": "lt_s", "le_s": "ge_s", "ge_s": "le_s",
    "lt_u": "gt_u", "gt_u": "lt_u", "le_u": "ge_u", "ge_u": "le_u",
}  # fmt: skip
#: Integer comparison → its negation. Floats have none: the negation of lt is not ge when an operand is a NaN.
NEGATED = {
    "eq": "ne", "ne": "eq", "lt_s": "ge_s", "ge_s": "lt_s", "gt_s": "le_s", "le_s": "gt_s",
    "lt_u": "ge_u", "ge_u": "lt_u", "gt_u": "le_u", "le_u": "gt_u",
}  # fmt: skip


def mirrored(operation: Operation) -> Operation | None:
    """The instruction that does the same with the operands swapped, or None."""
    if operation.commutative:
        return operation
    if not operation.is_compare:
        return None
    type, _, name = operation.mnemonic.partition(".")
    return OPERATIONS[f"{type}.{MIRRORED[name]}"]


def negated(operation: Operation) -> Operation | None:
    """The comparison of integers that holds where this one doesn't, or None."""
    if not operation.is_compare or operation.params[0].is_float:
        return None
    type, _, name = operation.mnemonic.partition(".")
    return OPERATIONS[f"{type}.{NEGATED[name]}"]


def operand_kinds(operation: Operation) -> Iterator[tuple[int, ...]]:
    """The operand kinds for which `operation` gets a handler. Each exclusion is one rule with its reason."""
    swappable = operation.commutative or operation.is_compare
    if operation.has_vectors:
        yield from _vector_kinds(operation)
        return
    for kinds in product((SLOT, ACC, IMM), repeat=len(operation.params)):
        # Of several constants the translator puts one into a slot. That is rare, because compilers fold constants.
        if operation.kind == "value" and all(kind == IMM for kind in kinds):
            continue
        # There is one accumulator for each class of registers.
        in_acc = [value.register for value, kind in zip(operation.params, kinds, strict=True) if kind == ACC]
        if len(in_acc) != len(set(in_acc)):
            continue
        # The translator swaps operands so that slots come first, then the accumulator, then immediates.
        if swappable and kinds not in ((SLOT, SLOT), (SLOT, ACC), (SLOT, IMM), (ACC, IMM)):
            continue
        yield kinds


def _vector_kinds(operation: Operation) -> Iterator[tuple[int, ...]]:
    """Those of an instruction with vectors. There are many, so each has few."""
    addresses = operation.kind in ("load", "store")
    for kinds in product((SLOT, ACC, IMM), repeat=len(operation.params)):
        pairs = list(zip(operation.params, kinds, strict=True))
        # Vectors aren't immediates; of numbers, addresses and the counts of shifts are, which are often constants.
        if any(kind == IMM and (value.bits > 32 or value.is_float) for value, kind in pairs):
            continue
        if IMM in kinds[1:] and operation.lane_immediate:
            continue
        if kinds[0] == IMM and (not addresses or operation.lane_immediate):
            continue
        # At most one operand is in an accumulator; of three, the last one, as where sums are added up.
        if kinds.count(ACC) > 1 or (len(kinds) == 3 and ACC in kinds[:2]):
            continue
        if operation.commutative and kinds == (ACC, SLOT):
            continue
        yield kinds


def letters(kinds: tuple[int, ...]) -> str:
    """Kinds as they stand in handler names: "sa" for a slot and the accumulator."""
    return "".join(KIND_LETTERS[kind] for kind in kinds)


def is_wide(kind: Kind) -> bool:
    """Whether an immediate takes 8 bytes. An integer that doesn't fit 32 bits is put into a slot instead."""
    return kind.is_float and kind.bits > 32
