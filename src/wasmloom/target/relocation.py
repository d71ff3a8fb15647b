"""Relocations, for any processor."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol


class Goal(Enum):
    """The address that a relocation is about."""

    #: the symbol's
    SYMBOL = 0
    #: that of code to call: the symbol's, or of a jump there when it is too far away
    CALL = 1
    #: that of a slot with the symbol's address
    SLOT = 2


class Form(Protocol):
    """How a value is written; a `struct.Struct` of one number is one."""

    @property
    def size(self) -> int:
        """How many bytes are written."""

    def pack_into(self, buffer: memoryview, offset: int, value: int, /) -> None:
        """Write a value. Raises `struct.error` when it doesn't fit."""


class Relocation(NamedTuple):
    """A kind of relocation: the address, plus the addend, minus the place if it is `relative`, is written in a form.

    Before that a value is cut by the mask (-1 cuts nothing).
    """

    name: str
    goal: Goal
    relative: bool
    form: Form
    mask: int = -1
