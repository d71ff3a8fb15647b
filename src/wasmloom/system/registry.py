"""Registries of objects that can be found while they live.

A `weakref.WeakSet` forgets objects in Python functions that run when they go. Signal handlers can run in such
functions, and what they raise there is printed and lost: an interruption that never arrives. So here no code runs when
an object goes. Its dead reference is removed when the registry has doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")

#: Up to this many references aren't worth a sweep.
FEW = 32


class Registry(Generic[T]):
    """A set of objects, compared by identity, that it doesn't keep alive.

    Other threads and signal handlers may run between any two lines, so the set is only changed by atomic operations.
    """

    __slots__ = ("_limit", "_references")

    def __init__(self) -> None:
        self._references: set[ref[T]] = set()
        self._limit = FEW

    def add(self, thing: T) -> None:
        """Add an object."""
        self._references.add(ref(thing))
        if len(self._references) > self._limit:
            for reference in self._references.copy():
                if reference() is None:
                    self._references.discard(reference)
            self._limit = max(FEW, 2 * len(self._references))

    def __iter__(self) -> Iterator[T]:
        for reference in self._references.copy():
            thing = reference()
            if thing is not None:
                yield thing

    def __len__(self) -> int:
        """The number of objects that exist, or have existed since the last sweep."""
        return len(self._references)
