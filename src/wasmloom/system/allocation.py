# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Where memory comes from: C's allocator and the system. Tests can make them refuse.

All modules take `malloc` and its siblings from here (`allocation.pxd`), and none from C's library. So a test can make
each allocation of an operation fail in turn, and check that everything is consistent afterwards. That costs one
comparison per allocation, and no allocation is on a fast path.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cython
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.system._capi import __errno_location

# Declared in allocation.pxd. The countdown ends at 1. Then memory is refused, once or from then on.
countdown = 0
_from_then_on = cython.declare(cython.bint, False)
_happened = cython.declare(uint64_t, 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def count_down() -> cython.bint:
    """Whether this allocation is the one that fails."""
    global countdown, _happened
    if countdown > 1:
        countdown -= 1
        return False
    _happened += 1
    __errno_location()[0] = ENOMEM
    if not _from_then_on:
        countdown = 0
    return True


@contextmanager
def refuse(allocation: int, from_then_on: bool = False) -> Iterator[None]:
    """Refuse memory to one allocation, counted from 1, and perhaps to all after it. For tests, in one thread."""
    global countdown, _from_then_on, _happened
    _happened = 0
    _from_then_on = from_then_on
    countdown = allocation
    try:
        yield
    finally:
        countdown = 0


def refusals() -> int:
    """How often the last `refuse` has refused."""
    return _happened
