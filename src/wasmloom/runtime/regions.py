# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Address space of memories. There are two kinds; the engine decides which kind its memories are.

*Guarded* memories are reserved whole and made accessible as they grow. A guest address is an `i32` plus a static
offset, also an unsigned 32-bit number, so an access of up to 16 bytes ends below 8 GiB + 16. A memory reserves that
much (`RESERVATION`), but only its present length is accessible. An access out of bounds faults, and
`wasmloom.runtime.faults` turns the fault into a trap, so generated code needs no bounds checks. The base never moves,
so Python's views of a memory stay valid when it grows.

No reservation covers all addresses of 64 bits. A 64-bit memory has at most `MOST_BYTES_64` bytes (64 GiB), and
generated code traps at addresses from there on: a comparison with a constant, which doesn't read the length. Behind
what is left come an offset below 2**32 and up to 16 bytes, as above. With a larger offset, code also looks at the sum,
or checks the access as below.

*Checked* memories are for processes that can't have that much address space. They take only what they hold. Generated
code compares every address with the length. Growing may move them, which the system does without copying. A move would
invalidate Python's views, so a memory doesn't grow while there are any. It grows with the GIL held, so any thread that
holds the GIL may read base and length. Memories with pages of one byte are always checked: the processor protects whole
pages of its own.

A memory may begin with an *image*: a file that is mapped copy-on-write, which many memories share until they write
(`map_image`). Invariants: nothing writes to the file any more; it is as long as what is mapped of it. What is kept for
the next memory never has an image: `MADV_DONTNEED` gives back a file's bytes, not zeros, so anonymous memory is mapped
over it first. A checked memory with an image can't move as it is, because `mremap` moves one mapping only: when it
grows, it gets a copy of its own.

A *shared* memory never moves, whatever kind it is: one that is checked reserves the most that it may have. Where there
is no room for guard pages, it becomes a checked one by itself.

The table of reservations is read by the signal handler. Invariants: a slot holds a reservation's base or 0; it is
written after `mmap` has succeeded and its extent has been noted, and cleared before `munmap`, all with the GIL held
(one writer at a time); readers take no lock, and one that looks up an address of its own live memory always finds it.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t, uintptr_t
from cython.cimports.libc.string import memcpy
from cython.cimports.posix.mman import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    madvise,
    munmap,
)
from cython.cimports.wasmloom.contract._layout import MOST_BYTES_64, WlMemory
from cython.cimports.wasmloom.runtime.regions import (
    MAX_REGIONS,
    MAX_SPARES,
    RESERVATION,
    bases,
    extents,
    spares,
)
from cython.cimports.wasmloom.system._capi import MREMAP_MAYMOVE
from cython.cimports.wasmloom.system.allocation import mmap, mprotect, mremap

#: Of a 64-bit memory: all addresses that code lets through, u32 offset, and one page for the access itself.
_RESERVATION_64 = cython.declare(uint64_t, MOST_BYTES_64 + 0x100010000)
#: Bytes of the pages that the system protects one by one, or a multiple.
_PROTECTED = cython.declare(uint64_t, 0x10000)

# bases[slot] is a reservation's base or 0, extents[slot] its bytes; slots from `used` on have never held one. The
# first `spare_count` of `spares` are reservations of 32-bit memories without a memory. `checked_count` is the number of
# checked memories. All are declared in regions.pxd.
used = 0
spare_count = 0
checked_count = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reserve(length: uint64_t, extent: uint64_t) -> cython.p_char:
    """`extent` bytes of address space for one memory, of which `length` zero bytes are accessible; NULL when there is
    no room.

    Call with the GIL.
    """
    global used, spare_count
    slot: cython.int
    base: cython.p_char
    accessible: uint64_t
    if spare_count and extent == RESERVATION:
        # Prefer the one with the right length, else take the last.
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
            mmap(cython.NULL, extent, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        )
        if base == cython.cast(cython.p_char, MAP_FAILED):
            return cython.NULL
        accessible = 0
        extents[slot] = extent
        bases[slot] = cython.cast(uintptr_t, base)
        if slot == used:
            used = slot + 1
    if not _commit(base, accessible, length):
        _unmap(base)
        return cython.NULL
    return base


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _commit(base: cython.p_char, old_length: uint64_t, new_length: uint64_t) -> cython.bint:
    """Make bytes `old_length` to `new_length` accessible (they are zero); False when the system refuses."""
    if new_length <= old_length:
        return True
    old_length -= old_length % _PROTECTED
    return mprotect(base + old_length, new_length - old_length, PROT_READ | PROT_WRITE) == 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _clear(memory: cython.pointer(WlMemory)) -> cython.bint:
    """Make all bytes of a memory zero and free their pages; False when the system refuses."""
    if memory.imaged and not _map(memory, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1):
        return False
    return (
        memory.length <= memory.imaged
        or madvise(memory.base + memory.imaged, memory.length - memory.imaged, MADV_DONTNEED) == 0
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _map(
    memory: cython.pointer(WlMemory), protection: cython.int, flags: cython.int, descriptor: cython.int
) -> cython.bint:
    """Map something in the place of a memory's image; False when the system refuses."""
    return mmap(
        memory.base, memory.imaged, protection, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | flags, descriptor, 0
    ) != cython.cast(cython.p_void, MAP_FAILED)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _release(memory: cython.pointer(WlMemory)) -> cython.void:
    """Give back a 32-bit memory's reservation. Call with the GIL.

    Unmapping costs by far the most in a memory's life, so some reservations are kept for the next memories. Their pages
    are freed at once.
    """
    global spare_count
    if spare_count < MAX_SPARES and _clear(memory):
        spares[spare_count].base = memory.base
        spares[spare_count].length = memory.length
        spare_count += 1
    else:
        _unmap(memory.base)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unmap(base: cython.p_char) -> cython.void:
    """Give a reservation's address space back to the system."""
    slot: cython.int
    for slot in range(used):
        if bases[slot] == cython.cast(uintptr_t, base):
            bases[slot] = 0
            munmap(base, extents[slot])
            return


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def in_region(address: cython.p_void) -> cython.bint:
    """Whether `address` lies in a reservation. Async-signal-safe."""
    slot: cython.int
    wanted: uintptr_t = cython.cast(uintptr_t, address)
    for slot in range(used):  # noqa: SIM110
        if bases[slot] != 0 and wanted - bases[slot] < extents[slot]:
            return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mapping(length: uint64_t) -> uint64_t:
    """The bytes that a checked memory maps: at least a page, so no two memories have the same base."""
    return length if length else 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_region(memory: cython.pointer(WlMemory), length: uint64_t) -> cython.bint:
    """Give a memory, which knows its kind, `length` zero bytes; False when the system has none. Call with the GIL."""
    global checked_count
    base: cython.p_char = cython.NULL
    mapped: uint64_t = _RESERVATION_64 if memory.is64 else RESERVATION
    if not memory.checked:
        base = _reserve(length, mapped)
        if base == cython.NULL:
            if not memory.shared:
                return False
            memory.checked = True
    if memory.checked and memory.shared:
        mapped = _mapping(memory.max_pages << memory.page_bits)
        base = cython.cast(
            cython.p_char,
            mmap(cython.NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        )
        if base == cython.cast(cython.p_char, MAP_FAILED):
            return False
        if not _commit(base, 0, length):
            munmap(base, mapped)
            return False
        checked_count += 1
    elif memory.checked:
        mapped = _mapping(length)
        base = cython.cast(
            cython.p_char,
            mmap(cython.NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        )
        if base == cython.cast(cython.p_char, MAP_FAILED):
            return False
        checked_count += 1
    memory.base = base
    memory.length = length
    memory.mapped = mapped
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def grow_region(memory: cython.pointer(WlMemory), length: uint64_t) -> cython.bint:
    """Make a memory longer. A checked one may move, so growing it needs the GIL; a shared one needs the lock of
    `wasmloom.runtime.sharing`.

    Returns False when the system refuses, or a checked memory has views.
    """
    base: cython.p_char
    if not memory.checked or memory.shared:
        if not _commit(memory.base, memory.length, length):
            return False
    elif length > memory.length:
        if memory.exports:
            return False
        if memory.imaged:
            base = cython.cast(
                cython.p_char,
                mmap(cython.NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            )
        else:
            base = cython.cast(cython.p_char, mremap(memory.base, memory.mapped, length, MREMAP_MAYMOVE))
        if base == cython.cast(cython.p_char, MAP_FAILED):
            return False
        if memory.imaged:
            memcpy(base, memory.base, memory.length)
            munmap(memory.base, memory.mapped)
            memory.imaged = 0
        memory.base = base
        memory.mapped = length
    memory.length = length
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def map_image(memory: cython.pointer(WlMemory), descriptor: cython.int, length: uint64_t) -> cython.bint:
    """Let a memory begin with the first `length` bytes of a file, copied when they are written.

    The memory isn't shared, has no image, and is at least that long; `length` is of whole pages of the system. False
    when the system refuses: the memory can't be used then, only freed.
    """
    memory.imaged = length
    if _map(memory, PROT_READ | PROT_WRITE, 0, descriptor):
        return True
    # The system may have unmapped what was there. Nothing else may get the place.
    _map(memory, PROT_NONE, MAP_ANONYMOUS, -1)
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def free_region(memory: cython.pointer(WlMemory)) -> cython.void:
    """Give a memory's address space back. Call with the GIL, when no guest and no view can touch it any more."""
    global checked_count
    if memory.checked:
        checked_count -= 1
        munmap(memory.base, memory.mapped)
    elif memory.mapped == RESERVATION:
        _release(memory)
    else:
        _unmap(memory.base)


def can_reserve(count: int) -> bool:
    """Whether the process can get the address space of `count` more guarded memories now."""
    size: uint64_t = RESERVATION * cython.cast(uint64_t, count)
    base: cython.p_void = mmap(cython.NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if base == MAP_FAILED:
        return False
    munmap(base, size)
    return True


def live_regions() -> int:
    """The number of memories that hold address space now (for tests and diagnostics)."""
    count: cython.int = checked_count - spare_count
    slot: cython.int
    for slot in range(used):
        if bases[slot] != 0:
            count += 1
    return count
