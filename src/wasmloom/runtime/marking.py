# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What the collector does about a word: find out what it names, mark that, and keep in mind what is to be looked into.

Words in objects are known by their type; any other word may be anything. On a stack any address in an object keeps it:
compiled code may have no other left of it. (What is behind an object's end doesn't count. Loops read the length of an
array that they index, so they have its beginning.)

Invariant: marking needs no memory. Objects wait in an array that may grow; where it can't, they are found again by
their marks. Continuations and exceptions wait in lists linked by their own ``next`` fields.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.wasmloom.contract._layout import (
    CONT_FRESH,
    CONT_SUSPENDED,
    HOST_TAG,
    I31_TAG,
    NEXT_REVISION,
    OBJECT_ARRAY,
    SLOT_BYTES,
    WlCont,
    WlException,
    WlObject,
    WlType,
)
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    FIRST_MARKS,
    FIRST_OBJECT_CLASS,
    MARK_LIVE,
    MARK_NAMED,
    NO_CLASS,
    SLAB_BYTES,
    Heap,
    Slab,
    block_at,
    find_slab,
    is_marked,
    mark_bits,
    slab_of,
)
from cython.cimports.wasmloom.runtime.marking import AHEAD, Marking, fetch
from cython.cimports.wasmloom.runtime.stacks import state_of
from cython.cimports.wasmloom.system.allocation import realloc

_SLAB_MASK = cython.declare(uint64_t, SLAB_BYTES - 1)


# --- objects ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _large_at(heap: cython.pointer(Heap), address: uint64_t) -> cython.pointer(Slab):
    """The large object that an address is in, or NULL. They are in order."""
    low: uint64_t = 0
    high: uint64_t = heap.large_count
    middle: uint64_t
    slab: cython.pointer(Slab)
    if address < cython.cast(uint64_t, heap.large[0]):
        return cython.NULL
    while low < high:
        middle = (low + high) // 2
        if cython.cast(uint64_t, heap.large[middle]) <= address:
            low = middle + 1
        else:
            high = middle
    slab = heap.large[low - 1]
    return slab if address - cython.cast(uint64_t, slab) < slab.charged else cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make_room(m: cython.pointer(Marking)) -> cython.bint:
    """Make room for another object that has been marked."""
    room: uint64_t = max(2 * m.heap.mark_room, cython.cast(uint64_t, FIRST_MARKS))
    more: cython.p_void = realloc(m.heap.marks, room * cython.sizeof(cython.p_void))
    if more == cython.NULL:
        return False
    m.heap.marks = cython.cast(cython.pointer(cython.pointer(WlObject)), more)
    m.heap.mark_room = room
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mark_object(m: cython.pointer(Marking), object: cython.pointer(WlObject)) -> cython.void:
    """Mark an object, whose beginning this is."""
    address: uint64_t = cython.cast(uint64_t, object)
    slab: cython.pointer(Slab) = cython.cast(cython.pointer(Slab), address & ~_SLAB_MASK)
    bits: cython.pointer(uint8_t) = mark_bits(slab) + ((address & _SLAB_MASK) >> 6)
    bit: uint8_t = cython.cast(uint8_t, 1 << (address // SLOT_BYTES & 7))
    if bits[0] & bit:
        return
    bits[0] |= bit
    slab.marked += 1
    if m.marked == m.heap.mark_room and not _make_room(m):
        m.overflown = True
        return
    m.heap.marks[m.marked] = object
    m.marked += 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_within(m: cython.pointer(Marking), slab: cython.pointer(Slab), address: uint64_t) -> cython.void:
    """Visit an address in a slab of objects, or in a large one: anywhere in an object."""
    index: uint64_t = address - cython.cast(uint64_t, slab) - slab.first  # wraps for addresses in the header
    object: cython.pointer(WlObject)
    if index >= slab.used * slab.size:
        return
    object = cython.cast(cython.pointer(WlObject), block_at(slab, index // slab.size))
    if object.type != cython.NULL:
        _mark_object(m, object)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_field(m: cython.pointer(Marking), word: uint64_t) -> cython.void:
    """Visit a word that is null, an i31, an object or one of the host's."""
    if word == 0 or word & I31_TAG:
        return
    if word & HOST_TAG:
        if m.heap.on_words != cython.NULL:
            m.heap.on_words(m.store, cython.address(word), 1)
        return
    _mark_object(m, cython.cast(cython.pointer(WlObject), word))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _look_into(m: cython.pointer(Marking), object: cython.pointer(WlObject)) -> cython.void:
    """Visit what an object refers to."""
    type: cython.pointer(WlType) = cython.cast(cython.pointer(WlType), object.type)
    at: cython.pointer(uint32_t)
    words: cython.pointer(uint64_t)
    i: uint64_t
    if type.what == OBJECT_ARRAY:
        if type.traced:
            words = cython.cast(cython.pointer(uint64_t), object + 1)
            m.heap.scanned += object.length
            for i in range(object.length):
                if type.traced == 1:
                    _visit_field(m, words[i])
                else:
                    visit(m, words[i])
        return
    at = cython.cast(cython.pointer(uint32_t), type.traced_at)
    m.heap.scanned += type.traced
    for i in range(type.traced):
        words = cython.cast(
            cython.pointer(uint64_t), cython.cast(cython.p_char, object) + (at[i] & ~cython.cast(uint32_t, 1))
        )
        if at[i] & 1:
            visit(m, words[0])
        else:
            _visit_field(m, words[0])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def look_into_marked(m: cython.pointer(Marking)) -> cython.void:
    """Look into all marked objects, since there was no room to keep some in mind."""
    slab: cython.pointer(Slab) = m.heap.slabs
    object: cython.pointer(WlObject)
    i: uint64_t
    m.overflown = False
    while slab != cython.NULL:
        if FIRST_OBJECT_CLASS <= slab.kind < NO_CLASS:
            for i in range(slab.used):
                object = cython.cast(cython.pointer(WlObject), block_at(slab, i))
                if is_marked(object):
                    _look_into(m, object)
        slab = slab.next
    for i in range(m.heap.large_count):
        object = cython.cast(cython.pointer(WlObject), block_at(m.heap.large[i], 0))
        if is_marked(object):
            _look_into(m, object)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def drain(m: cython.pointer(Marking)) -> cython.void:
    """Look into all objects that wait, and those that they refer to.

    Nearly all of the time passes waiting for the first word of an object that isn't in a cache. So each has a while in
    a ring before it is looked into, in which the processor fetches it.
    """
    ring: cython.pointer(WlObject)[AHEAD]
    object: cython.pointer(WlObject)
    place: uint64_t = 0
    waiting: uint64_t = 0
    while m.marked or waiting:
        if m.marked and waiting < AHEAD:
            m.marked -= 1
            object = m.heap.marks[m.marked]
            fetch(object)
            ring[(place + waiting) % AHEAD] = object
            waiting += 1
            continue
        object = ring[place]
        place = (place + 1) % AHEAD
        waiting -= 1
        _look_into(m, object)


# --- words of any kind ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def visit(m: cython.pointer(Marking), word: uint64_t) -> cython.void:
    """Visit a word that may be a reference."""
    address: uint64_t = word & (NEXT_REVISION - 1)
    slab: cython.pointer(Slab)
    cont: cython.pointer(WlCont)
    exception: cython.pointer(WlException)
    if m.heap.large_count and address == word:
        slab = _large_at(m.heap, address)
        if slab != cython.NULL:
            _visit_within(m, slab, address)
            return
    if address < m.heap.lowest or address >= m.heap.highest:
        return
    slab = find_slab(m.heap, address)
    if slab == cython.NULL or slab.kind == NO_CLASS:
        return
    if slab.kind >= FIRST_OBJECT_CLASS:
        if address == word:
            _visit_within(m, slab, address)
        return
    if slab_of(m.heap, address) == cython.NULL:
        return
    if slab.kind == CONT_CLASS:
        cont = cython.cast(cython.pointer(WlCont), address)
        if cont.reference == word and state_of(cont) in (CONT_FRESH, CONT_SUSPENDED):
            if not cont.mark & MARK_LIVE:
                cont.mark |= MARK_LIVE
                cont.next = m.conts
                m.conts = cont
        else:
            cont.mark |= MARK_NAMED
        return
    exception = cython.cast(cython.pointer(WlException), address)
    if exception.tag != cython.NULL and exception.mark == 0 and word == address:
        exception.mark = MARK_LIVE
        exception.next = m.exceptions
        m.exceptions = exception


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def visit_range(m: cython.pointer(Marking), start: cython.p_void, count: uint64_t) -> cython.void:
    """Visit words that may be references."""
    words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), start)
    i: uint64_t
    if m.heap.on_words != cython.NULL:
        m.heap.on_words(m.store, words, count)
    m.heap.scanned += count
    for i in range(count):
        visit(m, words[i])
