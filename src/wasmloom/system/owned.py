# cython: language_level=3
# mypy: ignore-errors
"""Objects of the host that go without Python code: file descriptors, and what has a finaliser that isn't ours.

Python runs signal handlers within a ``__del__``, and what they raise there is printed and lost. So finalisers are in C.
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


@cython.binding(True)  # as a method: otherwise it would be called without the object
def go_quietly(_gone) -> None:
    """Do nothing, in C: the finaliser of a class whose base class has one in Python that it doesn't need."""
