"""The parts of a decoded module other than types: expressions, segments and custom sections, as ranges of its bytes."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from wasmloom.spec.types import ValType


class Expr(NamedTuple):
    """A constant expression: its bytes, `end` included, and their offset in the module."""

    code: bytes
    offset: int


class ElementSegment(NamedTuple):
    """An element segment (Core 3.0, 2.5.9). The element type's heap type is canonical.

    `mode` is "active", "passive" or "declarative". Function indices are in `funcs` when `exprs` is None; `exprs` are
    the items otherwise. `table` and `at` (the offset expression) belong to active segments.
    """

    type: ValType
    mode: str
    funcs: array[int]
    exprs: tuple[Expr, ...] | None
    table: int
    at: Expr | None
    offset: int

    @property
    def length(self) -> int:
        """The number of items."""
        return len(self.funcs) if self.exprs is None else len(self.exprs)


class DataSegment(NamedTuple):
    """A data segment (Core 3.0, 2.5.10): the bytes are ``module.data[start:end]``.

    `mode` is "active" or "passive"; `memory` and `at` (the offset expression) belong to active segments.
    """

    mode: str
    start: int
    end: int
    memory: int
    at: Expr | None
    offset: int


class CustomRange(NamedTuple):
    """A custom section: its name, and its contents as ``module.data[start:end]``.

    `after` is the id of the known section that it follows, 0 when it comes before the first.
    """

    name: str
    start: int
    end: int
    after: int
