# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Memory for code and what it refers to, so near together that all of it is reached by displacements of 32 bits.

An arena is a range of address space that is reserved as a whole. Code grows from its beginning, other data from its
middle. Code is written in batches: what has been written since the last `seal` becomes executable there, and is never
writable again. Nothing is given back before the arena goes.

Pages become accessible when they are needed, except in small arenas, which are accessible as a whole: for the system
each boundary is a mapping more, of which a process has 65 530 by default, and a process may have thousands of modules.

Invariants: an arena is used with the GIL held. The signal handler knows the range of code before there is any.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    munmap,
)
from cython.cimports.wasmloom.runtime.codememory import STENCILS, new_range
from cython.cimports.wasmloom.system._capi import __sync_synchronize
from cython.cimports.wasmloom.system.allocation import mmap, mprotect, prefer_huge_pages

_PAGE = cython.declare(uint64_t, 4096)
#: Memory becomes accessible in pieces of this many bytes; in those of huge pages, which take the system much less time,
#: when there is so much of it already that these don't matter.
_PIECE = cython.declare(uint64_t, 1 << 16)
_HUGE_PIECE = cython.declare(uint64_t, 1 << 21)
_MUCH = cython.declare(uint64_t, 1 << 22)
#: An arena of up to so many bytes is accessible as a whole.
_SMALL = cython.declare(uint64_t, 1 << 20)
#: At most so many arenas are there at a time: a process may have 65 530 mappings, and each takes one to three.
_MOST = cython.declare(uint64_t, 1 << 14)
_count = cython.declare(uint64_t, 0)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _up(size: uint64_t, unit: uint64_t) -> uint64_t:
    return (size + unit - 1) & ~(unit - 1)


@cython.cfunc
@cython.exceptval(check=False)
def _extended(ready: cython.p_char, wanted: cython.p_char, first: cython.p_char, limit: cython.p_char) -> cython.p_char:
    """Make memory accessible behind `ready`, at least up to `wanted`; gives where it ends now, or NULL."""
    piece: uint64_t = _PIECE if ready - first < _MUCH else _HUGE_PIECE
    end: cython.p_char = cython.cast(cython.p_char, _up(cython.cast(uint64_t, wanted), piece))
    if end > limit:
        end = limit
    if mprotect(ready, end - ready, PROT_READ | PROT_WRITE):
        return cython.NULL
    if piece == _HUGE_PIECE:
        prefer_huge_pages(ready, end - ready)
    return end


@cython.no_gc
@cython.cclass
class Arena:
    """An arena with address space for so many bytes of code and of data. Raises `MemoryError` where there is none."""

    def __cinit__(self, code_size: uint64_t, data_size: uint64_t) -> None:
        global _count
        if _count == _MOST:
            raise MemoryError("too many arenas")
        self.code_room = _up(code_size, _PAGE)
        self.size = self.code_room + _up(data_size, _PIECE)
        is_small: cython.bint = self.size <= _SMALL
        access: cython.int = PROT_READ | PROT_WRITE if is_small else PROT_NONE
        memory: cython.p_void = mmap(
            cython.NULL, self.size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
        )
        if memory == MAP_FAILED:
            raise MemoryError("no address space for code")
        self.base = cython.cast(cython.p_char, memory)
        self.code_end = self.sealed = self.base
        self.data_end = self.base + self.code_room
        self.code_ready = self.data_end if is_small else self.code_end
        self.data_ready = self.base + self.size if is_small else self.data_end
        _count += 1

    def __dealloc__(self) -> None:
        global _count
        if self.range != cython.NULL:
            self.range.end = 0
            __sync_synchronize()
        if self.base != cython.NULL:
            munmap(self.base, self.size)
            _count -= 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def data(self, size: uint64_t) -> cython.p_char:
        """New memory for data, zero, aligned to 8 bytes; NULL when there is none left."""
        start: cython.p_char = self.data_end
        end: cython.p_char
        size = _up(size, 8)
        if size > cython.cast(uint64_t, self.base + self.size - start):
            return cython.NULL
        if start + size > self.data_ready:
            end = _extended(self.data_ready, start + size, self.base + self.code_room, self.base + self.size)
            if end == cython.NULL:
                return cython.NULL
            self.data_ready = end
        self.data_end = start + size
        return start

    @cython.cfunc
    @cython.exceptval(check=False)
    def code(self, size: uint64_t) -> cython.p_char:
        """New memory for code, writable until it is sealed; NULL when there is none left."""
        start: cython.p_char = self.code_end
        end: cython.p_char
        if size > cython.cast(uint64_t, self.base + self.code_room - start):
            return cython.NULL
        if self.range == cython.NULL:
            self.range = new_range(
                cython.cast(uint64_t, self.base), cython.cast(uint64_t, self.base) + self.code_room, STENCILS
            )
            if self.range == cython.NULL:
                return cython.NULL
        if start + size > self.code_ready:
            end = _extended(self.code_ready, start + size, self.base, self.base + self.code_room)
            if end == cython.NULL:
                return cython.NULL
            self.code_ready = end
        self.code_end = start + size
        return start

    @cython.cfunc
    @cython.exceptval(check=False)
    def seal(self) -> cython.bint:
        """Make all code executable that has been written; False, and it stays as it is, where the system refuses."""
        end: cython.p_char = self.base + _up(cython.cast(uint64_t, self.code_end - self.base), _PAGE)
        if end == self.sealed:
            return True
        if mprotect(self.sealed, end - self.sealed, PROT_READ | PROT_EXEC):
            return False
        self.code_end = self.sealed = end
        return True

    @cython.cfunc
    @cython.exceptval(check=False)
    def holds(self, address: cython.p_void) -> cython.bint:
        """Whether an address is one of the arena's."""
        return (
            cython.cast(uint64_t, self.base)
            <= cython.cast(uint64_t, address)
            < cython.cast(uint64_t, self.base + self.size)
        )
