# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Address space of 32-bit memories: reserved whole, made accessible as the memory grows.

A guest address is an `i32` plus a static offset, an unsigned 32-bit number as well, so an access of up to 16 bytes
ends below 8 GiB + 16. A memory reserves that much (`RESERVATION`), of which only its present length can be touched:
an access out of bounds faults, `wasmloom.runtime.faults` turns the fault into a trap, and generated code needs no
bounds checks. The base never moves, so that Python's views of a memory stay valid when it grows.

The table of reservations is read by the signal handler. Invariants: a slot holds a reservation's base or 0; it is
written after `mmap` has succeeded and cleared before `munmap`, both with the GIL held (one writer at a time);
readers take no lock, and one that looks up an address of its own live memory always finds it.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t, uintptr_t
from cython.cimports.posix.mman import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap,
    mprotect,
    munmap,
)
from cython.cimports.wasmloom.runtime.regions import (
    MAX_REGIONS,
    MAX_SPARES,
    RESERVATION,
    bases,
    spares,
)

# bases[slot] is a reservation's base or 0; slots from `used` on have never held one. The first `spare_count` of
# `spares` are reservations that no memory has. All are declared in regions.pxd.
used = 0
spare_count = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reserve(length: uint64_t) -> cython.p_char:
    """The address space of one memory, of which `length` zero bytes are accessible; NULL when there is no room.

    Call with the GIL.
    """
    global used, spare_count
    slot: cython.int
    base: cython.p_char
    accessible: uint64_t
    if spare_count:
        # The one with the right length, else the last.
        slot = 0
        while slot < spare_count - 1 and spares[slot].length != length:
            slot += 1
        base = spares[slot].base
        accessible = spares[slot].length
        spare_count -= 1
        spares[slot] = spares[spare_count]
        if accessible > length and mprotect(base + length, accessible - length, PROT_NONE) != 0:
            _unmap(base)
            return cython.NULL
    else:
        slot = 0
        while slot < used and bases[slot] != 0:
            slot += 1
        if slot == MAX_REGIONS:
            return cython.NULL
        base = cython.cast(
            cython.p_char,
            mmap(cython.NULL, RESERVATION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        )
        if base == cython.cast(cython.p_char, MAP_FAILED):
            return cython.NULL
        accessible = 0
        bases[slot] = cython.cast(uintptr_t, base)
        if slot == used:
            used = slot + 1
    if not commit(base, accessible, length):
        _unmap(base)
        return cython.NULL
    return base


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def commit(base: cython.p_char, old_length: uint64_t, new_length: uint64_t) -> cython.bint:
    """Make bytes `old_length` to `new_length` accessible (they are zero); False when the system refuses."""
    if new_length <= old_length:
        return True
    return mprotect(base + old_length, new_length - old_length, PROT_READ | PROT_WRITE) == 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def release(base: cython.p_char, length: uint64_t) -> cython.void:
    """Give back a reservation of which `length` bytes are accessible.

    Call with the GIL, when no guest and no view can touch it any more. Unmapping is by far the dearest part of a
    memory's life, so that some reservations are kept for the next memories; their pages go at once.
    """
    global spare_count
    if spare_count < MAX_SPARES and (length == 0 or madvise(base, length, MADV_DONTNEED) == 0):
        spares[spare_count].base = base
        spares[spare_count].length = length
        spare_count += 1
    else:
        _unmap(base)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unmap(base: cython.p_char) -> cython.void:
    """Give a reservation's address space back to the system."""
    slot: cython.int
    for slot in range(used):
        if bases[slot] == cython.cast(uintptr_t, base):
            bases[slot] = 0
            munmap(base, RESERVATION)
            return


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def in_region(address: cython.p_void) -> cython.bint:
    """Whether `address` lies in a reservation. Async-signal-safe."""
    slot: cython.int
    wanted: uintptr_t = cython.cast(uintptr_t, address)
    for slot in range(used):  # noqa: SIM110
        if bases[slot] != 0 and wanted - bases[slot] < RESERVATION:
            return True
    return False


def live_regions() -> int:
    """The number of memories that hold address space now (for tests and diagnostics)."""
    count: cython.int = -spare_count
    slot: cython.int
    for slot in range(used):
        if bases[slot] != 0:
            count += 1
    return count
