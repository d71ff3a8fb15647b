# cython: language_level=3
# mypy: ignore-errors
"""Locks that nobody waits for in vain when Python ends.

Then all threads but one end wherever they ask for the GIL, perhaps inside of a ``with``; what they have locked stays
locked. The one that is left still runs finalisers, and these may use whatever there is.
"""

from __future__ import annotations

from _thread import RLock

import cython
from cython.cimports.wasmloom.system._capi import wl_python_ends

from wasmloom.errors import WasmError


@cython.final
@cython.no_gc
@cython.cclass
class Lock:
    """A lock for ``with``, which the thread that has it can take again, as a `threading.RLock`.

    Entering it raises `WasmError` if another thread has it and Python ends. Nothing is run between taking the lock and
    the body of the ``with``: no exception of a signal handler can come in between.
    """

    _lock = cython.declare(object)

    def __cinit__(self) -> None:
        self._lock = RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(False):
            if wl_python_ends():
                raise WasmError("another thread was at it, and Python is ending")
            self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Take it as soon as it is free, if that is within so many seconds; returns whether it is taken."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Give it back, after `wait`."""
        self._lock.release()

    def is_mine(self) -> bool:
        """Whether the calling thread has it."""
        return self._lock._is_owned()
