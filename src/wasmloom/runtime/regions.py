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
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    mprotect,
    munmap,
)
from cython.cimports.wasmloom.runtime.regions import (
    MAX_REGIONS,
    RESERVATION,
    bases,
)

# bases[slot] is a reservation's base or 0; slots from `used` on have never held one (declared in regions.pxd).
used = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reserve() -> cython.p_char:
    """Reserve the address space of one memory, inaccessible; NULL when there is no room. Call with the GIL."""
    global used
    slot: cython.int = 0
    while slot < used and bases[slot] != 0:
        slot += 1
    if slot == MAX_REGIONS:
        return cython.NULL
    base: cython.p_void = mmap(
        cython.NULL, RESERVATION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    if base == MAP_FAILED:
        return cython.NULL
    bases[slot] = cython.cast(uintptr_t, base)
    if slot == used:
        used = slot + 1
    return cython.cast(cython.p_char, base)


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
def release(base: cython.p_char) -> cython.void:
    """Give a reservation back. Call with the GIL, when no guest and no view can touch it any more."""
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
    count: cython.int = 0
    slot: cython.int
    for slot in range(used):
        if bases[slot] != 0:
            count += 1
    return count
