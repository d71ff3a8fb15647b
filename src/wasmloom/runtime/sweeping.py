# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What becomes of blocks that nothing has marked: they go to the pools, lists and slabs that new ones come from.

A slab of objects is swept when its blocks are wanted, just before they are used, or when the next collection begins.
Until then it waits in its class's list (`heap.free_objects`), with its marks.

Invariants:

* All marks are 0 when marking begins.
* In slabs that don't wait, each block whose first word isn't 0 is an object that was alive at the last collection, or
  is younger.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.contract._layout import CONT_ENDED, NEXT_REVISION, OBJECT_CLASSES, WlCont, WlException
from cython.cimports.wasmloom.runtime.guests import Guest, uncharge
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    FIRST_OBJECT_CLASS,
    MARK_BYTES,
    MARK_LIVE,
    MARK_NAMED,
    NO_CLASS,
    Heap,
    Slab,
    block_at,
    free_large,
    is_marked,
    mark_bits,
)
from cython.cimports.wasmloom.runtime.stacks import (
    begin_revisions,
    free_grown,
    is_worn,
    is_young,
    on_event,
    release_native_stack,
)

# --- objects ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _empty(guest: cython.pointer(Guest), slab: cython.pointer(Slab)) -> cython.void:
    """Let a slab without objects be used for any class. Its blocks aren't touched."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    number: uint64_t = slab.kind - FIRST_OBJECT_CLASS
    uncharge(guest, slab.charged)
    heap.object_bytes -= slab.used * slab.size
    if heap.filling_objects[number] == slab:
        heap.filling_objects[number] = cython.NULL
    slab.kind = NO_CLASS
    slab.used = 0
    slab.next_free = heap.empty
    heap.empty = slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort_out(guest: cython.pointer(Guest), slab: cython.pointer(Slab)) -> cython.void:
    """Decide what is to be done with a slab of objects, by how many of them are marked."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    number: uint64_t = slab.kind - FIRST_OBJECT_CLASS
    if slab.marked == 0:
        _empty(guest, slab)
        return
    heap.live_bytes += slab.marked * slab.size
    if slab.marked < slab.used:
        slab.next_free = heap.free_objects[number]
        heap.free_objects[number] = slab
        return
    memset(mark_bits(slab), 0, MARK_BYTES)
    slab.marked = 0
    slab.free = cython.NULL
    slab.free_count = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def sweep_slab(slab: cython.pointer(Slab)) -> cython.void:
    """Make a list of a waiting slab's blocks that aren't marked, and clear the marks. Nothing if that has been done."""
    first: cython.p_char = cython.cast(cython.p_char, block_at(slab, 0))
    place: cython.p_char = first + slab.used * slab.size
    words: cython.pointer(uint64_t)
    following: uint64_t = 0
    if slab.marked == 0:
        return
    while place != first:
        place -= slab.size
        if not is_marked(place):
            words = cython.cast(cython.pointer(uint64_t), place)
            words[0] = 0
            words[1] = following
            following = cython.cast(uint64_t, place)
    slab.free = cython.cast(cython.p_void, following)
    slab.free_count = slab.used - slab.marked
    slab.marked = 0
    memset(mark_bits(slab), 0, MARK_BYTES)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def finish_sweeping(heap: cython.pointer(Heap)) -> cython.void:
    """Sweep all slabs that wait. They stay in their lists."""
    slab: cython.pointer(Slab)
    i: uint64_t
    for i in range(OBJECT_CLASSES):
        slab = heap.free_objects[i]
        while slab != cython.NULL:
            sweep_slab(slab)
            slab = slab.next_free


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_large(guest: cython.pointer(Guest)) -> cython.void:
    """Free large objects that aren't marked, and clear the marks of others."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    slab: cython.pointer(Slab)
    kept: uint64_t = 0
    i: uint64_t
    for i in range(heap.large_count):
        slab = heap.large[i]
        if slab.marked:
            memset(mark_bits(slab), 0, MARK_BYTES)
            slab.marked = 0
            heap.large[kept] = slab
            kept += 1
        else:
            uncharge(guest, slab.charged)
            heap.large_bytes -= slab.charged
            free_large(slab)
    heap.large_count = kept


# --- continuations and exceptions ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_cont(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.void:
    """End an abandoned continuation; put it into the pool if it is free and has a revision that no reference has."""
    mark: uint64_t = cont.mark
    cont.mark = 0
    if mark & MARK_LIVE:
        return
    if cont.state != CONT_ENDED:
        if on_event != cython.NULL:
            on_event(guest, b"collect", cont)
        free_grown(guest, cont)
        release_native_stack(guest, cont)
        cont.state = CONT_ENDED
        cont.parent = cython.NULL
        if not is_worn(cont):
            cont.reference += NEXT_REVISION
    if not is_young(cont) and not mark & MARK_NAMED:
        begin_revisions(cont)
    if is_young(cont):
        cont.next = guest.ctx.free_conts
        guest.ctx.free_conts = cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def sweep(guest: cython.pointer(Guest)) -> cython.void:
    """Rebuild the pools from all blocks that are not marked, and clear the marks; slabs of objects wait for that."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    slab: cython.pointer(Slab) = heap.slabs
    exception: cython.pointer(WlException)
    i: uint64_t
    guest.ctx.free_conts = cython.NULL
    memset(cython.address(guest.ctx.objects_0), 0, (OBJECT_CLASSES + 1) * cython.sizeof(cython.p_void))
    memset(heap.free_objects, 0, cython.sizeof(heap.free_objects))
    _sweep_large(guest)
    while slab != cython.NULL:
        if slab.kind >= FIRST_OBJECT_CLASS:
            if slab.kind != NO_CLASS:
                _sort_out(guest, slab)
        elif slab.kind == CONT_CLASS:
            for i in range(slab.used):
                # Backwards, so the pool begins with the first.
                _sweep_cont(guest, cython.cast(cython.pointer(WlCont), block_at(slab, slab.used - 1 - i)))
        else:
            if slab == heap.filling[slab.kind]:  # the newest of its class, and so the first to be seen
                heap.free[slab.kind] = cython.NULL
            for i in range(slab.used):
                exception = cython.cast(cython.pointer(WlException), block_at(slab, slab.used - 1 - i))
                if exception.mark == 0:
                    exception.tag = cython.NULL
                    exception.next = heap.free[slab.kind]
                    heap.free[slab.kind] = exception
                exception.mark = 0
        slab = slab.next
