# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Copies and fills of any size. Long ones are done in slices, with interrupts handled in between.

One instruction of a guest can move gigabytes, and the kernel takes seconds to find pages for them. Between two slices
a guest handles interrupts as it does in a loop, and host code polls (`wasmloom.system.polling`).

Invariants: the caller has checked bounds. Between two slices Python code may run, and a memory may grow and move. So an
area is named by the place that holds its address, which is read again for each slice. No area gets shorter, so the
bounds stay valid. The direction is chosen at the beginning: areas that overlap move together.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memmove, memset
from cython.cimports.wasmloom.runtime.bulk import SLICE, Between
from cython.cimports.wasmloom.system.polling import look

# `move` and `fill`, and what the functions take, are in bulk.pxd.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def move_slices(
    to: cython.pointer(cython.p_char),
    target: uint64_t,
    origin: cython.pointer(cython.p_char),
    source: uint64_t,
    count: uint64_t,
    between: Between,
    argument: cython.p_void,
) -> cython.int:
    """`move` of more than a slice."""
    # An overlap is read before it is written.
    backwards: cython.bint = to[0] + target > origin[0] + source
    done: uint64_t = 0
    part: uint64_t
    at: uint64_t
    ended: cython.int
    while True:
        part = min(count - done, cython.cast(uint64_t, SLICE))
        at = count - done - part if backwards else done
        memmove(to[0] + target + at, origin[0] + source + at, part)
        done += part
        if done == count:
            return 0
        ended = between(argument)
        if ended:
            return ended


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def fill_slices(
    to: cython.pointer(cython.p_char),
    target: uint64_t,
    byte: cython.int,
    count: uint64_t,
    between: Between,
    argument: cython.p_void,
) -> cython.int:
    """`fill` of more than a slice."""
    done: uint64_t = 0
    part: uint64_t
    ended: cython.int
    while True:
        part = min(count - done, cython.cast(uint64_t, SLICE))
        memset(to[0] + target + done, byte, part)
        done += part
        if done == count:
            return 0
        ended = between(argument)
        if ended:
            return ended


@cython.cfunc
@cython.exceptval(-1, check=False)
def _look(argument: cython.p_void) -> cython.int:
    return look()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def look_between(argument: cython.p_void) -> cython.int:
    """Poll, for host code, which holds the GIL. Not 0: an exception is set."""
    return cython.cast(Between, cython.cast(cython.p_void, _look))(argument)


@cython.cfunc
@cython.exceptval(-1, check=False)
def move_for_host(
    to: cython.pointer(cython.p_char),
    target: uint64_t,
    origin: cython.pointer(cython.p_char),
    source: uint64_t,
    count: uint64_t,
) -> cython.int:
    """`move` with the GIL. Raises what interrupts it."""
    if move(to, target, origin, source, count, look_between, cython.NULL):
        return -1
    return 0
