# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Polling: long work in compiled modules lets Python handle Ctrl-C, other threads, and a waiting guest's deadline.

Python handles signals, and lets other threads run, only in its own loop. Decoding, validation and translation are
compiled, and a hostile module keeps them busy for seconds. So they call `poll` for each item of what they work on,
which costs an addition; every `INTERVAL_NS` it calls a function of Python.

`poll` raises a signal handler's exception, or `DeadlinePassed` when a guest waits for the work and its call has no time
left. Others never see work that was interrupted half-way: its outcome is published only at the end.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.libc.stdint import int64_t
from cython.cimports.posix.time import timespec
from cython.cimports.wasmloom.system._capi import CLOCK_MONOTONIC, clock_gettime

from wasmloom.system.interruption import DeadlinePassed, look_up

INTERVAL_NS = cython.declare(int64_t, 10_000_000)

# Declared in polling.pxd.
items = 0
_is_late = cython.declare("IsLate", cython.NULL)
_last = cython.declare(int64_t, 0)


@cython.cfunc
@cython.exceptval(check=False)
def set_is_late(function: IsLate) -> cython.void:
    """Register the function that tells whether a guest's time is over."""
    global _is_late
    _is_late = function


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def look() -> cython.int:
    """Let Python handle what is pending, if it hasn't for a while. With or without the GIL."""
    global _last
    time = cython.declare(timespec)
    now: int64_t
    clock_gettime(CLOCK_MONOTONIC, cython.address(time))
    now = cython.cast(int64_t, time.tv_sec) * 1000000000 + time.tv_nsec
    if now - _last < INTERVAL_NS:
        return 0
    _last = now
    with cython.gil:
        return _look_now()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _look_now() -> cython.int:
    # Python's loop misses a signal that another thread has received, until this thread takes the GIL again.
    PyErr_CheckSignals()
    look_up()
    if _is_late != cython.NULL and _is_late():
        raise DeadlinePassed
    return 0


def poll_now() -> None:
    """Do now what `poll` does once in a while (for tests)."""
    look_next()
    look()


def look_next() -> None:
    """Make the next `look` do its work, however little time has passed (for tests)."""
    global _last
    _last = 0


def items_done() -> int:
    """How many items have been polled for, modulo 2**32 (for tests)."""
    return items
