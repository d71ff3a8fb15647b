"""Kinds of values, and everything that depends on a value's kind.

A frame consists of slots of 64 bits, and so do exceptions, bound values, and arguments in memory. A kind says how many
of them a value takes, which class of registers it travels in, and what builders call its type. No other code derives
these from a type's name. A type without a kind is an error where it is first met: `by_name` and `of_type` raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.spec.types import F32, F64, I32, I64, REF_FLAG, V128

#: Bits of a slot.
SLOT_BITS = 8 * SLOT_BYTES


class Register(IntEnum):
    """The classes of registers: there is an accumulator of each, and parameters are counted by class."""

    INTEGER = 0
    FLOAT = 1


class Kind(NamedTuple):
    """One kind of values.

    `name` is the name of its types in the instruction table ("ref" for all references), `type` what builders call it:
    references are words. `code` is its number in C tables.
    """

    name: str
    code: int
    bits: int
    register: Register
    type: str
    is_reference: bool = False

    @property
    def slots(self) -> int:
        """The number of consecutive slots that a value takes."""
        return -(-self.bits // SLOT_BITS)

    @property
    def bytes(self) -> int:
        """The number of bytes of a value, in the used part of its slots."""
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers."""
        return self.register == Register.FLOAT and not self.is_vector

    @property
    def is_vector(self) -> bool:
        """Whether values are vectors, which travel in the same registers as floats, and fill them."""
        return self.bits > SLOT_BITS


_ALL = (
    Kind("i32", 0, 32, Register.INTEGER, "i32"),
    Kind("i64", 1, 64, Register.INTEGER, "i64"),
    Kind("f32", 2, 32, Register.FLOAT, "f32"),
    Kind("f64", 3, 64, Register.FLOAT, "f64"),
    Kind("v128", 4, 128, Register.FLOAT, "v128"),
    Kind("ref", 5, 64, Register.INTEGER, "i64", is_reference=True),
)
#: All kinds, by name.
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
#: What the instruction table calls the address type of a memory or table.
_ADDRESS = "addr"
#: The kinds of types of numbers, and of vectors.
NUMBERS: dict[int, Kind] = {
    I32: KINDS["i32"], I64: KINDS["i64"], F32: KINDS["f32"], F64: KINDS["f64"], V128: KINDS["v128"],
}  # fmt: skip


def by_name(name: str, is64: bool = False) -> Kind:
    """The kind of a type in the instruction table; `is64`: memories and tables have addresses of 64 bits.

    Raises ValueError for a type that there is no kind for.
    """
    address = "i64" if is64 else "i32"
    found = KINDS.get(address if name == _ADDRESS else name)
    if found is None:
        raise ValueError(f"there is no kind of values for the type {name}")
    return found


def places(names: Iterable[str]) -> tuple[int, ...]:
    """The first slot of each of some values that follow one another, and then the number of all slots."""
    found = [0]
    for name in names:
        found.append(found[-1] + by_name(name).slots)
    return tuple(found)


def of_type(type: int) -> Kind:
    """The kind of a value type. Raises ValueError for what isn't one."""
    if type & REF_FLAG:
        return KINDS["ref"]
    found = NUMBERS.get(type)
    if found is None:
        raise ValueError(f"there is no kind of values for the type {type:#x}")
    return found
