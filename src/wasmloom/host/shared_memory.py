# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Memories that threads share, as Python objects (threads proposal).

A `SharedMemory` owns its struct and its pages. No store does: stores of any threads can import it, and each that does
keeps the object. Invariants: the struct lies in the object, so it is freed when no store, view or variable holds it any
more; its base never moves, and its length never shrinks (see `wasmloom.runtime.sharing`). So nothing here needs a lock
but growth, which has one.
"""

from __future__ import annotations

from operator import index

import cython
from cython.cimports.cpython.buffer import PyBuffer_FillInfo
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import WlMemory
from cython.cimports.wasmloom.host.externs import (
    Py_buffer,
    cannot_grow,
    get_item,
    pages_to_grow,
    read_bytes,
    set_item,
    write_bytes,
)
from cython.cimports.wasmloom.runtime.growth import most_pages
from cython.cimports.wasmloom.runtime.regions import free_region
from cython.cimports.wasmloom.runtime.sharing import grow_shared, new_shared, wake

from wasmloom.errors import WasmError
from wasmloom.host.types import as_memory_type
from wasmloom.spec.limits import PAGE_BITS
from wasmloom.spec.types import Limits, MemoryType

_PAGE_BITS = cython.declare(uint64_t, PAGE_BITS)


@cython.no_gc_clear
@cython.cclass
class SharedMemory:
    """A memory that several threads use: ``SharedMemory(pages, maximum)`` or ``SharedMemory(MemoryType(…))``.

    It belongs to no store. Instances in stores of any threads can import it as a ``shared`` memory; what one thread
    writes by atomic instructions, the others see in that order (threads proposal). It never moves, and has room for its
    maximum from the beginning (of address space; pages take memory when they are first written).

    It is a writable buffer, as `Memory` is. Reads and writes by Python are plain copies: other threads may write at the
    same time. Raises `TypeError` and `ValueError` for what is no type of a memory, and `WasmError` when the system has
    no room for it.
    """

    def __cinit__(self, type: object, maximum: int | None = None) -> None:
        # Before anything can fail: what is freed then has no base.
        memory: cython.pointer(WlMemory) = cython.address(self.memory)
        made = as_memory_type(type, maximum)
        most: uint64_t
        if made.limits.max is None:
            raise ValueError("a shared memory has a maximum: SharedMemory(pages, maximum)")
        memory.is64 = made.is64
        memory.page_bits = made.page_size_log2
        memory.checked = memory.page_bits != _PAGE_BITS
        most = most_pages(memory.is64, memory.page_bits)
        memory.max_pages = min(cython.cast(uint64_t, made.limits.max), most)
        if made.limits.min > most:
            raise WasmError(f"a memory of {made.limits.min} pages exceeds the limit of {most}")
        if not new_shared(memory, cython.cast(uint64_t, made.limits.min) << memory.page_bits):
            raise WasmError(
                f"the system gives no memory of {made.limits.min} pages, with address space for {memory.max_pages}"
            )
        self._max = made.limits.max
        memory.object = cython.cast(cython.p_void, self)

    def __init__(self, type: MemoryType | Limits | int, maximum: int | None = None) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its memory."""

    def __dealloc__(self) -> None:
        if self.memory.base != cython.NULL:
            free_region(cython.address(self.memory))

    def __getbuffer__(self, view: cython.pointer(Py_buffer), flags: cython.int):
        PyBuffer_FillInfo(view, self, self.memory.base, self.memory.length, 0, flags)

    @property
    def size(self) -> int:
        """The size in pages: of 64 KiB, unless its type says otherwise."""
        return self.memory.length >> self.memory.page_bits

    @property
    def type(self) -> MemoryType:
        """The memory's type, with its present size as the minimum."""
        return MemoryType(Limits(self.size, self._max), self.memory.is64 != 0, True, self.memory.page_bits)

    @property
    def address(self) -> int:
        """Where the memory's first byte is in this process, for `ctypes` and other code in C; it never moves.

        It is good for ``len(memory)`` bytes, and for as long as the `SharedMemory` lives.
        """
        return cython.cast(uint64_t, self.memory.base)

    def __len__(self) -> int:
        return self.memory.length

    def grow(self, pages: int) -> int:
        """Add pages; returns the old size in pages. Raises `WasmError` when its maximum or the system prevents it."""
        more = pages_to_grow(pages)
        old: uint64_t = 0
        if not grow_shared(cython.NULL, cython.address(self.memory), more, cython.address(old)):
            raise cannot_grow(cython.address(self.memory), old, more, "the system has to have it")
        return old

    def read(self, offset: int, length: int) -> bytes:
        """A copy of `length` bytes at `offset`. Raises `IndexError` outside of the memory."""
        return read_bytes(cython.address(self.memory), offset, length)

    def write(self, offset: int, data: object) -> None:
        """Write bytes (any contiguous buffer) at `offset`. Raises `IndexError` outside of the memory."""
        write_bytes(cython.address(self.memory), offset, data)

    def notify(self, offset: int, count: int | None = None) -> int:
        """Wake at most `count` guests (None: all) that wait at `offset`, as ``memory.atomic.notify``; returns how many.

        Raises `ValueError` unless the offset is a multiple of 4, and `IndexError` outside of the memory.
        """
        at = index(offset)
        most = 0xFFFFFFFF if count is None else index(count)
        if at % 4:
            raise ValueError(f"guests wait at multiples of 4, not at {at}")
        if not 0 <= at <= len(self) - 4:
            raise IndexError(f"{at} is outside of a memory of {self.memory.length} bytes")
        if most < 0:
            raise ValueError(f"the number of guests to wake must not be negative, got {most}")
        return wake(cython.cast(uint64_t, self.memory.base) + cython.cast(uint64_t, at), min(most, 0xFFFFFFFF))

    def __getitem__(self, key: object) -> int | bytes:
        return get_item(cython.address(self.memory), self, key)

    def __setitem__(self, key: object, value: object) -> None:
        set_item(cython.address(self.memory), self, key, value)

    def __repr__(self) -> str:
        return f"<wasmloom.SharedMemory of {self.size} pages>"


@cython.cfunc
@cython.exceptval(check=False)
def pointer_of(shared: SharedMemory) -> cython.pointer(WlMemory):
    """The struct of a shared memory; the caller keeps the object."""
    return cython.address(shared.memory)
