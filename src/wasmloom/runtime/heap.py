# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The reference heap's memory: continuations, exceptions and objects in blocks, blocks in slabs.

A slab is 128 KiB, aligned to its size, and holds blocks of one size class of one sort, so the collector finds the block
that a word may name with one lookup in a hash table. Slabs are cut from mapped regions and are unmapped with their
store, so a stale reference to a continuation always points to one. A slab's blocks are first touched when they are
handed out, so a small guest stays small.

Slabs of objects have a bit for each 8 bytes, of which those of blocks' beginnings are marks. A slab whose objects have
all gone may get another class of objects. An object that is too large for a slab has a mapping of its own, which begins
like a slab, so its mark is where others are.

`wasmloom.runtime.stacks` knows what blocks mean, `wasmloom.runtime.collector` which of them are still in use.

Invariants:

* Blocks of a slab from ``used`` on are zero and have never been handed out.
* A block of an object whose first word is 0 is free. Such blocks are in one list: their slab's, or the context's. In a
  slab that waits to be swept there are dead objects, too.
* Pins are made with the store locked. The holder of a pin drops it by writing 0 to its word and to ``held``, at any
  time, with the GIL held.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    munmap,
)
from cython.cimports.wasmloom.contract._layout import CONT_BYTES, SLOT_BYTES
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    FIRST_EXCEPTION_WORDS,
    FIRST_OBJECT_CLASS,
    HUGE_REGION,
    LARGE_CLASS,
    MARK_BYTES,
    MAX_REGION,
    SLAB_BYTES,
    SLAB_HEADER,
    SLAB_SHIFT,
    Heap,
    Pin,
    Slab,
    block_at,
    no_type,
)
from cython.cimports.wasmloom.system.allocation import calloc, malloc, mmap, prefer_huge_pages, realloc

memset(no_type, 0, cython.sizeof(no_type))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def class_bytes(kind: uint64_t) -> uint64_t:
    """Size of the blocks of a class."""
    return CONT_BYTES if kind == CONT_CLASS else SLOT_BYTES * FIRST_EXCEPTION_WORDS << (kind - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def exception_class(count: uint64_t) -> uint64_t:
    """The class of an exception with `count` values: the smallest with room for them and the four words before them."""
    kind: uint64_t = 1
    while cython.cast(uint64_t, FIRST_EXCEPTION_WORDS) << (kind - 1) < 4 + count:
        kind += 1
    return kind


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _map_region(heap: cython.pointer(Heap)) -> cython.bint:
    """Map memory for more slabs: as much as there is already, within bounds."""
    size: uint64_t = min(max(heap.slab_count, 4) * SLAB_BYTES, MAX_REGION) + SLAB_BYTES
    memory: cython.p_void = mmap(
        cython.NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    start: uint64_t
    if memory == MAP_FAILED:
        return False
    if size >= HUGE_REGION:
        prefer_huge_pages(memory, size)
    # The first slab begins behind the first multiple of its size, so there is always room for the two words.
    cython.cast(cython.pointer(cython.p_void), memory)[0] = heap.regions
    cython.cast(cython.pointer(uint64_t), memory)[1] = size
    heap.regions = memory
    start = (cython.cast(uint64_t, memory) | (SLAB_BYTES - 1)) + 1
    heap.region = cython.cast(cython.p_char, start)
    heap.region_end = cython.cast(cython.p_char, memory) + size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _enter_table(
    table: cython.pointer(cython.pointer(Slab)), room: uint64_t, slab: cython.pointer(Slab)
) -> cython.void:
    """Enter a slab into a table with `room` places, a power of two, some of them free."""
    place: uint64_t = (cython.cast(uint64_t, slab) >> SLAB_SHIFT) & (room - 1)
    while table[place] != cython.NULL:
        place = (place + 1) & (room - 1)
    table[place] = slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_slab(heap: cython.pointer(Heap), kind: uint64_t, size: uint64_t) -> cython.pointer(Slab):
    """A slab for blocks of a class; NULL when there is no memory."""
    slab: cython.pointer(Slab)
    other: cython.pointer(Slab)
    table: cython.pointer(cython.pointer(Slab))
    room: uint64_t
    if 2 * heap.slab_count >= heap.table_room:
        room = max(2 * heap.table_room, 16)
        table = cython.cast(cython.pointer(cython.pointer(Slab)), calloc(room, cython.sizeof(cython.p_void)))
        if table == cython.NULL:
            return cython.NULL
        other = heap.slabs
        while other != cython.NULL:
            _enter_table(table, room, other)
            other = other.next
        free(heap.table)
        heap.table = table
        heap.table_room = room
    if heap.region_end - heap.region < SLAB_BYTES and not _map_region(heap):
        return cython.NULL
    slab = cython.cast(cython.pointer(Slab), heap.region)
    heap.region += SLAB_BYTES
    slab.next = heap.slabs
    _set_class(slab, kind, size)
    slab.number = heap.slab_count
    heap.slabs = slab
    heap.slab_count += 1
    _enter_table(heap.table, heap.table_room, slab)
    if heap.lowest == 0 or cython.cast(uint64_t, slab) < heap.lowest:
        heap.lowest = cython.cast(uint64_t, slab)
    if cython.cast(uint64_t, slab) + SLAB_BYTES > heap.highest:
        heap.highest = cython.cast(uint64_t, slab) + SLAB_BYTES
    return slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_class(slab: cython.pointer(Slab), kind: uint64_t, size: uint64_t) -> cython.void:
    """Let a slab without blocks have some of a class."""
    slab.kind = kind
    slab.size = size
    slab.first = SLAB_HEADER + (MARK_BYTES if kind >= FIRST_OBJECT_CLASS else 0)
    slab.count = (SLAB_BYTES - slab.first) // size
    slab.used = 0
    slab.free = cython.NULL
    slab.free_count = 0
    slab.charged = 0
    slab.marked = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def take_slab(heap: cython.pointer(Heap), kind: uint64_t, size: uint64_t) -> cython.pointer(Slab):
    """A slab for blocks of objects of a class and a size; NULL when there is no memory."""
    slab: cython.pointer(Slab) = heap.empty
    if slab == cython.NULL:
        return _new_slab(heap, kind, size)
    heap.empty = slab.next_free
    _set_class(slab, kind, size)
    return slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def link_fresh(slab: cython.pointer(Slab), count: uint64_t) -> cython.void:
    """Make `count` of a slab's blocks that have never been used its free ones. It has no others."""
    place: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), block_at(slab, slab.used))
    i: uint64_t
    slab.free = place
    for i in range(count):
        place[0] = 0
        place[1] = cython.cast(uint64_t, place) + slab.size if i + 1 < count else 0
        place = cython.cast(cython.pointer(uint64_t), cython.cast(cython.p_char, place) + slab.size)
    slab.used += count
    slab.free_count = count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_large(heap: cython.pointer(Heap), size: uint64_t) -> cython.pointer(Slab):
    """Memory, all zero, for an object of `size` bytes, which begins like a slab; NULL when there is none."""
    whole: uint64_t = (size + SLAB_HEADER + MARK_BYTES + 4095) & ~cython.cast(uint64_t, 4095)
    memory: cython.p_char
    start: uint64_t
    before: uint64_t
    room: uint64_t
    slab: cython.pointer(Slab)
    more: cython.p_void
    if heap.large_count == heap.large_room:
        room = 2 * heap.large_room + 16
        more = realloc(heap.large, room * cython.sizeof(cython.p_void))
        if more == cython.NULL:
            return cython.NULL
        heap.large = cython.cast(cython.pointer(cython.pointer(Slab)), more)
        heap.large_room = room
    memory = cython.cast(
        cython.p_char,
        mmap(
            cython.NULL,
            whole + SLAB_BYTES,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
            -1,
            0,
        ),
    )
    if cython.cast(cython.p_void, memory) == MAP_FAILED:
        return cython.NULL
    start = (cython.cast(uint64_t, memory) + SLAB_BYTES - 1) & ~cython.cast(uint64_t, SLAB_BYTES - 1)
    before = start - cython.cast(uint64_t, memory)
    if before:
        munmap(memory, before)
    if SLAB_BYTES - before:
        munmap(cython.cast(cython.p_void, start + whole), SLAB_BYTES - before)
    slab = cython.cast(cython.pointer(Slab), start)
    slab.kind = LARGE_CLASS
    slab.first = SLAB_HEADER + MARK_BYTES
    slab.size = whole - slab.first
    slab.count = slab.used = 1
    slab.charged = whole
    heap.large[heap.large_count] = slab
    heap.large_count += 1
    return slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def free_large(slab: cython.pointer(Slab)) -> cython.void:
    """Free the memory of a large object."""
    munmap(slab, slab.charged)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_block(heap: cython.pointer(Heap), kind: uint64_t) -> cython.p_void:
    """A zeroed block that has never been used; NULL when there is no memory."""
    slab: cython.pointer(Slab) = heap.filling[kind]
    if slab == cython.NULL or slab.used == slab.count:
        slab = _new_slab(heap, kind, class_bytes(kind))
        if slab == cython.NULL:
            return cython.NULL
        heap.filling[kind] = slab
    slab.used += 1
    heap.block_bytes += slab.size
    return block_at(slab, slab.used - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def block_index(slab: cython.pointer(Slab), address: uint64_t) -> uint64_t:
    """The position of a block in its slab."""
    return (address - cython.cast(uint64_t, slab) - slab.first) // slab.size


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def find_slab(heap: cython.pointer(Heap), address: uint64_t) -> cython.pointer(Slab):
    """The slab that an address is in; NULL when there is none. Large objects have none."""
    slab: cython.pointer(Slab)
    place: uint64_t
    if address < heap.lowest or address >= heap.highest:
        return cython.NULL
    place = (address >> SLAB_SHIFT) & (heap.table_room - 1)
    slab = heap.table[place]
    while slab != cython.NULL and cython.cast(uint64_t, slab) != address & ~cython.cast(uint64_t, SLAB_BYTES - 1):
        place = (place + 1) & (heap.table_room - 1)
        slab = heap.table[place]
    return slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def slab_of(heap: cython.pointer(Heap), address: uint64_t) -> cython.pointer(Slab):
    """The slab in which a block that has been handed out begins at `address`; NULL when there is none."""
    slab: cython.pointer(Slab) = find_slab(heap, address)
    offset: uint64_t
    if slab == cython.NULL:
        return cython.NULL
    offset = address - cython.cast(uint64_t, slab) - slab.first  # wraps for addresses in the header
    if offset >= slab.used * slab.size or offset % slab.size != 0:
        return cython.NULL
    return slab


@cython.cfunc
def pin(heap: cython.pointer(Heap), word: uint64_t) -> cython.pointer(Pin):
    """Keep what a reference names alive while the pin is held and its word isn't 0.

    Call with the store locked. Raises `MemoryError`. The pin's holder says when it drops it.
    """
    link: cython.pointer(cython.pointer(Pin))
    made: cython.pointer(Pin)
    if heap.pin_count >= max(heap.pins_at, 64):
        link = cython.address(heap.pins)
        while link[0] != cython.NULL:
            made = link[0]
            if made.held == 0:
                link[0] = made.next
                free(made)
                heap.pin_count -= 1
            else:
                link = cython.address(made.next)
        heap.pins_at = 2 * heap.pin_count
    made = cython.cast(cython.pointer(Pin), malloc(cython.sizeof(Pin)))
    if made == cython.NULL:
        raise MemoryError
    made.word = word
    made.held = 1
    made.next = heap.pins
    heap.pins = made
    heap.pin_count += 1
    return made


@cython.cfunc
@cython.exceptval(check=False)
def free_heap(heap: cython.pointer(Heap)) -> cython.void:
    """Free all memory. No pin may be held any more."""
    following: cython.p_void
    made: cython.pointer(Pin)
    i: uint64_t
    for i in range(heap.large_count):
        free_large(heap.large[i])
    free(heap.large)
    free(heap.marks)
    free(heap.pauses)
    while heap.regions != cython.NULL:
        following = cython.cast(cython.pointer(cython.p_void), heap.regions)[0]
        munmap(heap.regions, cython.cast(cython.pointer(uint64_t), heap.regions)[1])
        heap.regions = following
    while heap.pins != cython.NULL:
        made = heap.pins
        heap.pins = made.next
        free(made)
    free(heap.table)
    memset(heap, 0, cython.sizeof(Heap))
