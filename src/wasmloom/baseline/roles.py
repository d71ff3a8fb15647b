"""Roles: which operands of an instruction may be in registers instead of slots, and stencils for that.

Code *pins* the most used slots of a function to registers, as a cache for reading. Slots hold their values all the
same: what writes a slot writes the register behind that. So nothing but reading gets faster, and whoever looks at a
frame doesn't know of pins. A *role* is a field with a slot that a stencil reads. Each set of roles has a stencil (the
sets' numbers are bit masks) that reads these from registers, made for some registers; `patches` says where in it their
numbers are. The copier writes others there.

How patches are found: the stencils' assembly names their registers. With other names in it, it is assembled again, and
what is different then are the fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from wasmloom.interpreter.isa import Shape
from wasmloom.target import pins

#: The registers that stencils are made for, by role: far apart, so that fields differ wherever names do.
INTEGERS = (pins.INTEGERS[0], pins.INTEGERS[3], pins.INTEGERS[1])
FLOATS = (pins.FLOATS[0], pins.FLOATS[3], pins.FLOATS[1])
MOST_ROLES = len(INTEGERS)
MOST_ALIKE = max(len(pins.INTEGERS), len(pins.FLOATS))


def _alike(register: str) -> tuple[str, ...]:
    return pins.FLOATS if register in pins.FLOATS else pins.INTEGERS


def exchanged(register: str) -> str:
    """What takes a register's place to find its fields: the number differs in one bit."""
    return next(other for other in _alike(register) if (pins.number(other) ^ pins.number(register)).bit_count() == 1)


def turned(register: str, turn: int) -> str:
    """The register that stands so many places behind another one, in a circle."""
    alike = _alike(register)
    return alike[(alike.index(register) + turn) % len(alike)]


class Role(NamedTuple):
    """A field, and the class of registers that it may be in."""

    field: str
    is_float: bool

    def register(self, number: int) -> str:
        """What a stencil has it in as its role of a number."""
        return (FLOATS if self.is_float else INTEGERS)[number]


class Effect(IntEnum):
    """What becomes of pins behind an instruction."""

    #: Nothing is written but what guests and structs have.
    NOTHING = 0
    #: The result in slot `dst` is in the integer accumulator, too; or in that of floats; or only in the slot.
    INTEGER = 1
    FLOAT = 2
    SLOT = 3
    #: Any slots may have been written.
    ANY = 4
    #: Control goes on elsewhere, and arrives at the following instruction or another one from there.
    AWAY = 5
    #: The frame's address has changed, or it goes on at targets with other slots than before: none can be pinned.
    UNFIT = 6
    #: Control leaves the function.
    END = 7
    #: There are results in slot `dst` and the next one, or one that takes both: neither is ever pinned.
    DOUBLE = 8


#: Where pins stay as they are, but for that of the result.
KEEPING = (Effect.NOTHING, Effect.INTEGER, Effect.FLOAT, Effect.SLOT, Effect.DOUBLE)


class Patch(NamedTuple):
    """A field of a register: in the byte at an offset, from a bit on, that of a role."""

    at: int
    bit: int
    role: int

    @property
    def packed(self) -> int:
        """It as two bytes. Raises ValueError."""
        if self.at >= 1 << 12:
            raise ValueError(f"a register at {self.at} of a stencil")
        return self.at << 4 | pins.FIELDS.index(self.bit) << 3 | self.role


class Roles(NamedTuple):
    """What the copier knows of a stencil without roles."""

    roles: tuple[Role, ...] = ()
    effect: Effect = Effect.NOTHING

    def masks(self) -> range:
        """The masks of all sets of roles, but for that of none."""
        return range(1, 1 << len(self.roles))

    def registers(self, mask: int) -> dict[str, str]:
        """The registers by field for a mask."""
        found: dict[str, str] = {}
        for number, role in enumerate(self.roles):
            if mask >> number & 1:
                found.setdefault(role.field, role.register(number))
        return found


def roles_of(reads: Mapping[str, set[bool | None]], effect: Effect) -> Roles:
    """The roles of a stencil which reads fields as floats, as integers, or (None) as words that can be either."""
    typed = [Role(field, None not in kinds and True in kinds) for field, kinds in reads.items() if len(kinds) == 1]
    words = [field for field, kinds in reads.items() if kinds == {None}]
    if len(reads) == len(words) == 1:  # a copy: it has the class of what it copies
        typed.append(Role(words[0], True))
    return Roles(tuple(typed) if len(typed) <= MOST_ROLES else (), effect)


def patches(code: bytes, role: int, register: str, other: bytes) -> Iterator[Patch]:
    """Where a role's register is in code; `other` is the code with the `exchanged` one.

    Raises ValueError where they differ in anything else.
    """
    bits = pins.number(register) ^ pins.number(exchanged(register))
    if len(code) != len(other):
        raise ValueError("code for another register has another length")
    for at, (here, there) in enumerate(zip(code, other, strict=True)):
        difference = here ^ there
        for bit in pins.FIELDS:
            if difference & bits << bit:
                difference ^= bits << bit
                yield Patch(at, bit, role)
        if difference:
            raise ValueError("code for another register isn't the same but for the register's number")


def patched(code: bytes, where: Iterable[Patch], registers: Mapping[int, tuple[str, str]]) -> bytes:
    """Code for other registers: by role the one that it was made for and the one that it is wanted for."""
    result = bytearray(code)
    for patch in where:
        if patch.role in registers:
            made, wanted = registers[patch.role]
            result[patch.at] ^= (pins.number(made) ^ pins.number(wanted)) << patch.bit
    return bytes(result)


#: In memory, for each stencil: how many roles the stencils behind it are for; which of them are of floats, the effect;
#: where `dst` is in the instruction, or 0; where the roles' fields are, and the numbers of the registers that it was
#: made for.
PINNING = struct.Struct(f"<4B{MOST_ROLES}B{MOST_ROLES}B")


def pinning(shape: Shape, roles: Roles, registers: Mapping[int, str]) -> bytes:
    """What the copier knows of a stencil: `registers` it was made for."""
    offset = {field.name: field.offset for field in shape.fields}
    fields = [offset[role.field] for role in roles.roles] + [0] * (MOST_ROLES - len(roles.roles))
    floats = sum(role.is_float << number for number, role in enumerate(roles.roles))
    made_for = [pins.number(registers[role]) if role in registers else 0 for role in range(MOST_ROLES)]
    return PINNING.pack(len(roles.roles), floats, roles.effect, offset.get("dst", 0), *fields, *made_for)


def declarations() -> str:
    """What compiled modules have to know, for Cython."""
    lines = ["# Generated from wasmloom/baseline/roles.py", "cdef enum:"]
    lines += [f"    EFFECT_{effect.name} = {int(effect)}" for effect in Effect]
    lines += [f"    MOST_ROLES = {MOST_ROLES}"]
    for name, registers in (("INTEGER", pins.INTEGERS), ("FLOAT", pins.FLOATS)):
        numbers = [pins.number(register) for register in registers]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise ValueError("registers of pins aren't in a row")
        lines += [f"    {name}_PINS = {len(numbers)}", f"    FIRST_{name}_PIN = {numbers[0]}"]
    return "\n".join(lines) + "\n"
