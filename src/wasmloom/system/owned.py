# cython: language_level=3
# mypy: ignore-errors
"""File descriptors of the host that are closed when their owner goes, at the latest.

In C, because Python runs signal handlers within a ``__del__``, and what they raise there is printed and lost.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.exc import PyErr_SetFromErrno
from cython.cimports.posix.unistd import close


@cython.final
@cython.cclass
class OwnedDescriptor:
    """A file descriptor that belongs to this object."""

    number: cython.int

    def __cinit__(self, number: cython.int) -> None:
        self.number = number

    def __dealloc__(self) -> None:
        if self.number >= 0:
            with cython.nogil:
                close(self.number)

    def close(self) -> None:
        """Close it now, unless that has been done. Raises `OSError`."""
        number: cython.int = self.number
        failed: cython.int
        if number < 0:
            return
        self.number = -1
        with cython.nogil:
            failed = close(number)
        if failed:
            PyErr_SetFromErrno(OSError)
