"""Objects that can be found as long as they live.

A `weakref.WeakSet` forgets them in functions of Python that run when they go. Signal handlers run in such functions,
too, and what they raise there is printed and lost: an interruption that never arrives. So here nothing runs when an
object goes; what is left of it is swept away when the registry has doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")

#: So many references aren't worth being looked through.
FEW = 32


class Registry(Generic[T]):
    """A set of objects that it doesn't keep; they have no equality but identity.

    Other threads and signal handlers may come between any two lines: the set changes by single operations of its own.
    """

    __slots__ = ("_limit", "_references")

    def __init__(self) -> None:
        self._references: set[ref[T]] = set()
        self._limit = FEW

    def add(self, thing: T) -> None:
        """Let an object be found."""
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
        """How many objects there are, or have been since the last sweep."""
        return len(self._references)
