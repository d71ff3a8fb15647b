# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Memory of compiled code, owned by everything that can reach it.

Addresses of code are in stores' functions, on stacks that run or wait, in slots of other code: in places that Python
doesn't know. So references to the code's memory are counted. A `CodeMemory` is unmapped when the last reference to it
goes, and by nothing else. There is nothing to close, no finaliser and no exit hook. Those run in any order, both in a
cycle that the garbage collector ends and when the process ends; after them other code still runs (a `__del__`, a
coroutine that is closed, a hook of `atexit`), which may call the guest.

Whatever stores an address of code where something can jump to it holds the code's memory for that long. Stores do so,
in their ``keep``, for all their functions (`wasmloom.host.state`). Code that is loaded later for the same module is
`attach`-ed to the memory of the code that was loaded first, which is the one that stores hold.

Invariants:

* The garbage collector doesn't see these objects (`no_gc`), so it never clears them. They refer to nothing but
  each other, and never in circles.
* Bytes are taken from a budget with the GIL held, and returned by the object that took them.
* Ranges are filled in before they are counted; the signal handler only reads them. A range is removed just
  before its memory is unmapped, when nothing can run in it. All this with the GIL held.
"""

from __future__ import annotations

import errno
import os

import cython
from cython.cimports.cpython.buffer import PyBuffer_FillInfo
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    munmap,
)
from cython.cimports.wasmloom.runtime.codememory import COMPILED, MAX_CODE_RANGES, CodeRange, Py_buffer
from cython.cimports.wasmloom.system._capi import Py_XDECREF, __errno_location, __sync_synchronize
from cython.cimports.wasmloom.system.allocation import mmap, mprotect, realloc

from wasmloom.errors import WasmError

_ranges = cython.declare(CodeRange[65536])  # MAX_CODE_RANGES
_range_count = cython.declare(cython.int, 0)
_live = cython.declare(uint64_t, 0)


@cython.no_gc
@cython.cclass
class CodeBudget:
    """Bytes of code (bytecode and compiled code) that all modules of an engine may have, and do have."""

    def __cinit__(self, limit: uint64_t) -> None:
        self.limit = limit

    @cython.cfunc
    @cython.exceptval(check=False)
    def has(self, size: uint64_t) -> cython.bint:
        """Whether there may be so much more code."""
        return size <= self.limit - self.used

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self, size: uint64_t) -> cython.int:
        """Count more code. Raises `WasmError` when there isn't enough left."""
        if not self.has(size):
            raise WasmError(
                f"{size} more bytes of code would exceed the engine's code limit: "
                f"{self.used} of {self.limit} are in use"
            )
        self.used += size
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def give_back(self, size: uint64_t) -> cython.void:
        """Count less: code has been freed."""
        self.used -= size


@cython.no_gc
@cython.cclass
class CodeMemory:
    """A mapping of `size` bytes, writable at first: a buffer. Raises `MemoryError` and `OSError`.

    It is zero; or, with a `file` (a descriptor, which may be closed then), what is in there from `offset` on, a
    multiple of the page's size. Writes don't go to the file. Nobody may change or shorten it: the mapping would change
    with it, and reading what isn't there any more is a fault that ends the process.

    `counted` bytes of it are code, for budgets (default: all).
    """

    def __cinit__(self, size: uint64_t, file: cython.int = -1, offset: uint64_t = 0, counted: object = None) -> None:
        global _live
        flags: cython.int = MAP_PRIVATE | MAP_ANONYMOUS if file < 0 else MAP_PRIVATE
        memory: cython.p_void = mmap(cython.NULL, size, PROT_READ | PROT_WRITE, flags, file, offset)
        if memory == MAP_FAILED:
            raise _error()
        self.base = cython.cast(cython.p_char, memory)
        self.size = size
        self.weight = size if counted is None else counted
        _live += 1

    def __dealloc__(self) -> None:
        global _live
        i: uint64_t
        if self.range != cython.NULL:
            self.range.end = 0
            __sync_synchronize()
        if self.base != cython.NULL:
            munmap(self.base, self.size)
            _live -= 1
        for i in range(self.count):
            Py_XDECREF(self.attached[i])
        free(self.attached)
        if self.budget is not None:
            self.budget.give_back(self.counted)

    def __getbuffer__(self, view: cython.pointer(Py_buffer), flags: cython.int):
        PyBuffer_FillInfo(view, self, self.base, self.size, 0, flags)

    @property
    def address(self) -> int:
        """Where it begins."""
        return cython.cast(uint64_t, self.base)

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes from `offset`, which may not be writable any more. Raises `ValueError`."""
        if not 0 <= offset <= offset + size <= self.size:
            raise ValueError("outside of the loaded code")
        start: cython.p_char = self.base + cython.cast(uint64_t, offset)
        return start[: cython.cast(cython.Py_ssize_t, size)]

    def make_readable(self, offset: int, size: int) -> None:
        """Make some pages read-only. Raises `OSError`."""
        if mprotect(self.base + cython.cast(uint64_t, offset), size, PROT_READ):
            raise _error()

    def make_executable(self, size: int) -> None:
        """Make pages at its beginning executable and read-only. Faults in them are the guest's.

        Raises `OSError`, and `MemoryError` when there are too many pieces of code.
        """
        if mprotect(self.base, size, PROT_READ | PROT_EXEC):
            raise _error()
        self.range = new_range(cython.cast(uint64_t, self.base), cython.cast(uint64_t, self.base) + size, COMPILED)
        if self.range == cython.NULL:
            raise MemoryError("too many pieces of compiled code")

    def limit_by(self, budget: CodeBudget) -> None:
        """Count it, and everything that is or will be attached, towards a budget. Raises `WasmError`."""
        i: uint64_t
        size: uint64_t = self.weight
        for i in range(self.count):
            size += cython.cast(CodeMemory, self.attached[i]).weight
        budget.take(size)
        self.budget = budget
        self.counted = size

    def attach(self, other: CodeMemory) -> None:
        """Keep another one alive as long as this one. Raises `MemoryError`, and `WasmError` when a budget is used
        up."""
        room: uint64_t = 2 * self.room + 4
        grown: cython.pointer(cython.pointer(PyObject))
        if self.count == self.room:
            grown = cython.cast(
                cython.pointer(cython.pointer(PyObject)),
                realloc(self.attached, room * cython.sizeof(cython.p_void)),
            )
            if grown == cython.NULL:
                raise MemoryError
            self.attached = grown
            self.room = room
        if self.budget is not None:
            self.budget.take(other.weight)
            self.counted += other.weight
        Py_INCREF(other)
        self.attached[self.count] = cython.cast(cython.pointer(PyObject), other)
        self.count += 1


@cython.cfunc
def _error() -> object:
    number: cython.int = __errno_location()[0]
    if number == errno.ENOMEM:
        return MemoryError("no memory for compiled code")
    return OSError(number, os.strerror(number))


@cython.cfunc
@cython.exceptval(check=False)
def new_range(start: uint64_t, end: uint64_t, kind: cython.int) -> cython.pointer(CodeRange):
    """Note a range for the signal handler; NULL when there are too many."""
    global _range_count
    i: cython.int = 0
    while i < _range_count and _ranges[i].end != 0:
        i += 1
    if i == MAX_CODE_RANGES:
        return cython.NULL
    _ranges[i].start = start
    _ranges[i].kind = kind
    __sync_synchronize()
    _ranges[i].end = end
    __sync_synchronize()
    if i == _range_count:
        _range_count += 1
    return cython.address(_ranges[i])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def code_at(address: uint64_t) -> cython.int:
    """What kind of code an address lies in; 0: none. Async-signal-safe."""
    i: cython.int = 0
    while i < _range_count and not _ranges[i].start <= address < _ranges[i].end:
        i += 1
    return _ranges[i].kind if i < _range_count else 0


def live_mappings() -> int:
    """The number of mappings that are there now (for tests and diagnostics)."""
    return _live
