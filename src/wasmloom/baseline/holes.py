"""Holes: what generator and copier of stencils agree on."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import NamedTuple

from wasmloom.interpreter.handlers import EXTERNALS
from wasmloom.semantics.kinds import SLOT_BITS

#: What fits an instruction's displacement, also with something added to it.
SMALL = (1 << 31) - 4096

#: The variants of a stencil: the usual one, that for numbers that aren't small, that for calls to code that is known.
VARIANTS = ("plain", "wide", "direct")


class What(IntEnum):
    """What belongs into a hole."""

    NUMBER = 0
    PLACE = 1
    TARGET = 2
    CODE = 3
    POINTER = 4
    CALLEE = 5
    HOT = 6
    COLD = 7
    EXTERNAL_CODE = 8
    EXTERNAL_SLOT = 9
    CONSTANT = 10
    ENTRY = 11


class Form(IntEnum):
    """How it is written."""

    WORD = 0
    DOUBLE_WORD = 1
    RELATIVE = 2


class Array(IntEnum):
    """What an instruction ends with."""

    NOTHING = 0
    TARGETS = 1
    CLAUSES = 2


class Leads(IntEnum):
    """What a stencil leads to by addresses, as bits."""

    BEHIND = 1
    TO_TARGET = 2


class Symbol(NamedTuple):
    """What a hole's name says, in this order: ``number.8.2.0.8.0`` is the number of two bytes at 8, times 8.

    ``number``   that in the field of `width` bytes at `offset`, with a sign or without, times `scale`; `small`: what
                 is not `SMALL`, or with a sign doesn't fit 32 bits, has no place in it
    ``place``    the address `offset` bytes behind the instruction's beginning
    ``target``   the address of the instruction that the target at `offset` leads to
    ``code``     that of this one's code
    ``entry``    the code of the entry at hand
    ``pointer``  the address in the field at `offset`
    ``callee``   the code of the function whose cell's address is in the field at `offset`
    """

    what: str
    offset: int
    width: int = 0
    signed: int = 0
    scale: int = 1
    small: int = 0

    @property
    def name(self) -> str:
        """The symbol's name."""
        return ".".join(str(part) for part in self)

    @property
    def text(self) -> str:
        """LLVM's name of it."""
        return f'@"{self.name}"'


SYMBOL = re.compile(r'@"((?:number|place|target|code|entry|pointer|callee)\.[0-9.]+)"')


def symbol(name: str) -> Symbol | None:
    """What a name says, or None for that of anything else."""
    match = SYMBOL.fullmatch(f'@"{name}"')
    if match is None:
        return None
    what, *numbers = name.split(".")
    return Symbol(what, *(int(number) for number in numbers))


def value_range(hole: Symbol) -> tuple[int, int]:
    """Between which numbers a number lies: from the first up to the second, which it never is. (-1, -1): all."""
    if hole.small:
        return (-(1 << 31), 1 << 31) if hole.signed else (0, SMALL)
    bits = 8 * hole.width
    if bits == SLOT_BITS:
        return -1, -1
    return (-(1 << (bits - 1)), 1 << (bits - 1)) if hole.signed else (0, hole.scale << bits)


#: In memory: where the code begins, bytes that usually run and others; where its numbers, its holes and its patches
#: begin; how many numbers, holes in either part and patches there are; its `Leads`; two fields that must be small, and
#: two of 64 bits that must fit 32, 0: there are no more.
STENCIL = struct.Struct("<IHHIIIBBBBB2B2B3x")
#: A hole of most stencils, in what usually runs, which has 32 bits for a number: its offset there, what is added; from
#: where in the instruction 32 bits are read, how far these are shifted right, and the scale.
NUMBER = struct.Struct("<HhhBB")
#: Offset in the part, form, what, addend, offset in the instruction, width, sign, scale, whether it must be small.
HOLE = struct.Struct("<HBBiHBBBBH")


def declarations() -> str:
    """The same numbers for Cython: "WHAT_NUMBER", "FORM_WORD" and so on."""
    lines = ["# Generated from wasmloom/baseline/holes.py", "cdef enum:"]
    for kind in (What, Form, Array, Leads):
        lines += [f"    {kind.__name__.upper()}_{member.name} = {int(member)}" for member in kind]
    lines += [f"    VARIANT_{name.upper()} = {number}" for number, name in enumerate(VARIANTS)]
    lines += [f"    VARIANT_COUNT = {len(VARIANTS)}", f"    SMALL = {SMALL}", f"    EXTERNAL_COUNT = {len(EXTERNALS)}"]
    return "\n".join(lines) + "\n"
