# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The reference heap's collector: mark and sweep, precise in objects, tables and globals, conservative over stacks.

Roots are: the stacks of everything that runs, or waits for a host function outside of the store; globals; tables;
element segments that haven't been dropped; the exception that the context holds; and what Python has pinned. In a
suspended stack only the part below the operands of its `suspend` (or `resume`) counts; what is above is dead.

A contref keeps the whole chain that it begins alive: it names the innermost stack, ``parent`` leads to ``last``. A
word with a continuation's address but another revision is a stale reference. It keeps nothing alive, but while it
exists the continuation's revisions must not start again (``MARK_NAMED``).

On a stack any address in an object keeps it: compiled code may have no other left of it. (What is behind an object's
end doesn't count. Loops read the length of an array that they index, so they have its beginning.) In objects, tracing
goes by type.

The store's sweep of external references listens to the same marking (``heap.on_words``).

Invariants:

* All marks are 0 between collections.
* A collection needs no memory: marked continuations and exceptions wait in lists linked by their own ``next`` fields,
  which otherwise only free ones use. Objects wait in an array that may grow; where it can't, they are found again by
  their marks.
* Nothing moves.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdio import fprintf, stderr
from cython.cimports.libc.stdlib import qsort
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.contract._handlers import AT_RESUME_VALUES
from cython.cimports.wasmloom.contract._layout import (
    CONT_ENDED,
    CONT_FRESH,
    CONT_SUSPENDED,
    HOST_TAG,
    I31_TAG,
    NEXT_REVISION,
    OBJECT_ARRAY,
    OBJECT_CLASSES,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
    WlException,
    WlInstance,
    WlObject,
    WlSegment,
    WlTable,
    WlType,
)
from cython.cimports.wasmloom.runtime.collector import Marking
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked, now_ns, uncharge
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    FIRST_MARKS,
    FIRST_OBJECT_CLASS,
    MARK_BYTES,
    MARK_LIVE,
    MARK_NAMED,
    NO_CLASS,
    SLAB_BYTES,
    Heap,
    Pin,
    Slab,
    block_at,
    find_slab,
    free_large,
    mark_bits,
    slab_of,
)
from cython.cimports.wasmloom.runtime.stacks import (
    begin_revisions,
    bound_of,
    free_grown,
    is_worn,
    is_young,
    last_of,
    on_event,
    release_native_stack,
    set_collector,
    state_of,
    waiting_bytes,
)
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system.allocation import realloc

_SLAB_MASK = cython.declare(uint64_t, SLAB_BYTES - 1)


# --- objects ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _by_address(a: cython.p_const_void, b: cython.p_const_void) -> cython.int:
    """Compares two slabs, for `qsort`."""
    x: uint64_t = cython.cast(cython.pointer(uint64_t), a)[0]
    y: uint64_t = cython.cast(cython.pointer(uint64_t), b)[0]
    return 1 if x > y else -1 if x < y else 0


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
@cython.inline
@cython.exceptval(check=False)
def _is_marked(object: cython.pointer(WlObject)) -> cython.bint:
    address: uint64_t = cython.cast(uint64_t, object)
    bits: cython.pointer(uint8_t) = mark_bits(cython.cast(cython.pointer(Slab), address & ~_SLAB_MASK))
    return bits[(address & _SLAB_MASK) >> 6] >> (address // SLOT_BYTES & 7) & 1


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
    bits: cython.pointer(uint8_t) = mark_bits(cython.cast(cython.pointer(Slab), address & ~_SLAB_MASK))
    bit: uint8_t = cython.cast(uint8_t, 1 << (address // SLOT_BYTES & 7))
    bits += (address & _SLAB_MASK) >> 6
    if bits[0] & bit:
        return
    bits[0] |= bit
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
                    _visit(m, words[i])
        return
    at = cython.cast(cython.pointer(uint32_t), type.traced_at)
    m.heap.scanned += type.traced
    for i in range(type.traced):
        words = cython.cast(
            cython.pointer(uint64_t), cython.cast(cython.p_char, object) + (at[i] & ~cython.cast(uint32_t, 1))
        )
        if at[i] & 1:
            _visit(m, words[0])
        else:
            _visit_field(m, words[0])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _look_into_marked(m: cython.pointer(Marking)) -> cython.void:
    """Look into all marked objects, since there was no room to keep some in mind."""
    slab: cython.pointer(Slab) = m.heap.slabs
    object: cython.pointer(WlObject)
    i: uint64_t
    m.overflown = False
    while slab != cython.NULL:
        if FIRST_OBJECT_CLASS <= slab.kind < NO_CLASS:
            for i in range(slab.used):
                object = cython.cast(cython.pointer(WlObject), block_at(slab, i))
                if _is_marked(object):
                    _look_into(m, object)
        slab = slab.next
    for i in range(m.heap.large_count):
        object = cython.cast(cython.pointer(WlObject), block_at(m.heap.large[i], 0))
        if _is_marked(object):
            _look_into(m, object)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _has_marks(slab: cython.pointer(Slab)) -> cython.bint:
    """Whether anything in a slab is marked."""
    words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), mark_bits(slab))
    found: uint64_t = 0
    i: uint64_t
    for i in range(MARK_BYTES // SLOT_BYTES):
        found |= words[i]
    return found != 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _empty(m: cython.pointer(Marking), slab: cython.pointer(Slab)) -> cython.void:
    """Let a slab without objects be used for any class. Its blocks aren't touched."""
    heap: cython.pointer(Heap) = m.heap
    number: uint64_t = slab.kind - FIRST_OBJECT_CLASS
    uncharge(m.guest, slab.charged)
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
def _sweep_objects(m: cython.pointer(Marking), slab: cython.pointer(Slab)) -> cython.void:
    """Make a list of a slab's blocks that aren't marked, and clear the marks."""
    heap: cython.pointer(Heap) = m.heap
    number: uint64_t = slab.kind - FIRST_OBJECT_CLASS
    first: cython.p_char = cython.cast(cython.p_char, block_at(slab, 0))
    place: cython.p_char = first + slab.used * slab.size
    words: cython.pointer(uint64_t)
    following: uint64_t = 0
    count: uint64_t = 0
    if not _has_marks(slab):
        _empty(m, slab)
        return
    while place != first:
        place -= slab.size
        words = cython.cast(cython.pointer(uint64_t), place)
        if not _is_marked(cython.cast(cython.pointer(WlObject), place)):
            words[0] = 0
            words[1] = following
            following = cython.cast(uint64_t, place)
            count += 1
    memset(mark_bits(slab), 0, MARK_BYTES)
    heap.live_bytes += (slab.used - count) * slab.size
    slab.free = cython.cast(cython.p_void, following)
    slab.free_count = count
    if count:
        slab.next_free = heap.free_objects[number]
        heap.free_objects[number] = slab


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_large(m: cython.pointer(Marking)) -> cython.void:
    """Free large objects that aren't marked, and clear the marks of others."""
    heap: cython.pointer(Heap) = m.heap
    slab: cython.pointer(Slab)
    kept: uint64_t = 0
    i: uint64_t
    for i in range(heap.large_count):
        slab = heap.large[i]
        if _is_marked(cython.cast(cython.pointer(WlObject), block_at(slab, 0))):
            memset(mark_bits(slab), 0, MARK_BYTES)
            heap.large[kept] = slab
            kept += 1
        else:
            uncharge(m.guest, slab.charged)
            heap.large_bytes -= slab.charged
            free_large(slab)
    heap.large_count = kept


# --- words of any kind ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit(m: cython.pointer(Marking), word: uint64_t) -> cython.void:
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
def _visit_range(m: cython.pointer(Marking), start: cython.p_void, count: uint64_t) -> cython.void:
    """Visit words that may be references."""
    words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), start)
    i: uint64_t
    if m.heap.on_words != cython.NULL:
        m.heap.on_words(m.store, words, count)
    m.heap.scanned += count
    for i in range(count):
        _visit(m, words[i])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_parent(m: cython.pointer(Marking), child: cython.pointer(WlCont)) -> cython.void:
    """Visit the stack that waits for `child`: its frames, up to the operands of its `resume`."""
    parent: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), child.parent)
    below: uint64_t = cython.cast(cython.pointer(uint16_t), child.resume + AT_RESUME_VALUES)[0]
    _visit_range(m, parent.stack_base, parent.fp // SLOT_BYTES + below)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_native_stack(m: cython.pointer(Marking), low: cython.p_char, cont: cython.pointer(WlCont)) -> cython.void:
    """Visit the native stack of a continuation or of an entry's bottom, from its innermost word on."""
    _visit_range(m, low, cython.cast(uint64_t, cython.cast(cython.p_char, cont.control) - low) // SLOT_BYTES)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_native_parents(
    m: cython.pointer(Marking), cont: cython.pointer(WlCont), last: cython.pointer(WlCont)
) -> cython.void:
    """Visit the native stacks that wait for `cont`, up to that of `last`. A child's control says where its parent
    ends."""
    while cont != last:
        control: cython.pointer(WlControl) = cython.cast(cython.pointer(WlControl), cont.control)
        cont = cython.cast(cython.pointer(WlCont), cont.parent)
        cont.mark |= MARK_LIVE
        _visit_native_stack(m, control.sp, cont)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_chain(m: cython.pointer(Marking), cont: cython.pointer(WlCont)) -> cython.void:
    """Visit a suspended continuation: all stacks that a reference to it keeps alive."""
    last: cython.pointer(WlCont) = last_of(cont)
    if cont.control != cython.NULL:
        _visit_range(m, cont.stack_base, bound_of(cont))
        _visit_native_stack(m, cython.cast(cython.pointer(WlControl), last.control).sp, cont)
        _visit_native_parents(m, cont, last)
        return
    _visit_range(m, cont.stack_base, cont.fp // SLOT_BYTES + cont.values + bound_of(cont))
    while cont != last:
        _visit_parent(m, cont)
        cont = cython.cast(cython.pointer(WlCont), cont.parent)
        cont.mark |= MARK_LIVE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_running(m: cython.pointer(Marking)) -> cython.void:
    """Visit all stacks of all entries from the host, innermost first.

    An entry's bottom uses the memory of the stack that called the host, and the inner stack knows where that is. An
    entry that may wait has a stack of its own instead.
    """
    ctx: cython.pointer(WlContext) = cython.address(m.guest.ctx)
    entry: cython.pointer(Entry) = m.guest.entry
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    sp: cython.p_char = ctx.guest_sp
    seen: cython.bint = False
    while cont != cython.NULL:
        if entry.native_stack != cython.NULL:
            cont.mark |= MARK_LIVE
            _visit_native_stack(m, sp, cont)
            _visit_native_parents(m, cont, entry.bottom)
            sp = entry.guest_sp
            if waiting_bytes(entry.bottom) and not entry.may_wait:
                # Frames of bytecode that wait at the bottom. They are in the context's stack.
                _visit_range(m, ctx.stack_base + entry.base, waiting_bytes(entry.bottom) // SLOT_BYTES)
        else:
            if not seen:
                # The end of the running frame isn't known here.
                _visit_range(m, ctx.stack_base, cython.cast(uint64_t, ctx.stack_end - ctx.stack_base) // SLOT_BYTES)
                seen = True
            while cont.parent != cython.NULL:
                cont.mark |= MARK_LIVE
                _visit_parent(m, cont)
                cont = cython.cast(cython.pointer(WlCont), cont.parent)
            if entry.beside != cython.NULL:
                # Its compiled code: `guest_sp` is right while that is in a host call, and while bytecode runs.
                _visit_native_stack(m, sp, entry.bottom)
                sp = entry.guest_sp
            if entry.may_wait:
                cont.mark |= MARK_LIVE
                if entry.outer_current != cython.NULL:
                    _visit_range(m, entry.outer_base, entry.stack_top // SLOT_BYTES)
        cont = entry.outer_current
        entry = entry.outer


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_parked(m: cython.pointer(Marking)) -> cython.void:
    """Visit the stacks of guests that wait outside of the store (see `wasmloom.host.tasks`)."""
    parked: cython.pointer(Parked) = m.guest.parked
    cont: cython.pointer(WlCont)
    while parked != cython.NULL:
        cont = parked.current
        cont.mark |= MARK_LIVE
        if parked.native_stack != cython.NULL:
            # The innermost frame has everything that was in registers (`wl_park`).
            _visit_native_stack(m, parked.sp, cont)
            _visit_native_parents(m, cont, parked.root)
            cont = parked.root
        else:
            _visit_range(m, cont.stack_base, cont.values // SLOT_BYTES)
            if parked.beside != cython.NULL:
                _visit_native_stack(m, parked.sp, parked.root)
        while cont.parent != cython.NULL:
            _visit_parent(m, cont)
            cont = cython.cast(cython.pointer(WlCont), cont.parent)
            cont.mark |= MARK_LIVE
        parked = parked.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_store(m: cython.pointer(Marking), store: Store | None) -> cython.void:
    """Visit globals, tables and element segments. (The type allows None so that Cython doesn't check for it.)"""
    cell: cython.pointer(cython.pointer(uint64_t))
    table: cython.pointer(WlTable)
    instance: cython.pointer(WlInstance)
    segment: cython.pointer(WlSegment)
    i: uint64_t
    k: uint64_t
    for i in range(store.instances.count):
        instance = cython.cast(cython.pointer(WlInstance), store.instances.items[i])
        segment = cython.cast(cython.pointer(WlSegment), instance.element_segments)
        for k in range(instance.element_count):
            _visit_range(m, segment[k].data, segment[k].length)
        cell = cython.cast(cython.pointer(cython.pointer(uint64_t)), instance.globals)
        while cython.cast(cython.p_void, cell) != instance.functions:
            if cell[0] != cython.NULL:  # an instance in the making has empty slots
                _visit_range(m, cell[0], 1)
            cell += 1
    for i in range(store.cells.count):
        _visit_range(m, store.cells.items[i], 1)
    for i in range(store.tables.count):
        table = cython.cast(cython.pointer(WlTable), store.tables.items[i])
        _visit_range(m, table.elements, table.length)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _mark(m: cython.pointer(Marking)) -> cython.void:
    """Mark everything that can be reached."""
    pin: cython.pointer(Pin) = m.heap.pins
    cont: cython.pointer(WlCont)
    exception: cython.pointer(WlException)
    word: uint64_t
    while pin != cython.NULL:
        word = pin.word  # may become 0 at any time
        _visit(m, word)
        pin = pin.next
    _visit(m, m.guest.ctx.exception)
    _visit(m, m.guest.ctx.pending)
    _visit_store(m, cython.cast(Store, m.store))
    _visit_running(m)
    _visit_parked(m)
    while m.marked or m.overflown or m.conts != cython.NULL or m.exceptions != cython.NULL:
        if m.marked:
            m.marked -= 1
            _look_into(m, m.heap.marks[m.marked])
        elif m.overflown:
            _look_into_marked(m)
        elif m.conts != cython.NULL:
            cont = m.conts
            m.conts = cython.cast(cython.pointer(WlCont), cont.next)
            cont.next = cython.NULL
            _visit_chain(m, cont)
        else:
            exception = m.exceptions
            m.exceptions = cython.cast(cython.pointer(WlException), exception.next)
            exception.next = cython.NULL
            _visit_range(m, exception + 1, exception.count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep_cont(m: cython.pointer(Marking), cont: cython.pointer(WlCont)) -> cython.void:
    """End an abandoned continuation; put it into the pool if it is free and has a revision that no reference has."""
    mark: uint64_t = cont.mark
    cont.mark = 0
    if mark & MARK_LIVE:
        return
    if cont.state != CONT_ENDED:
        if on_event != cython.NULL:
            on_event(m.guest, b"collect", cont)
        free_grown(m.guest, cont)
        release_native_stack(m.guest, cont)
        cont.state = CONT_ENDED
        cont.parent = cython.NULL
        if not is_worn(cont):
            cont.reference += NEXT_REVISION
    if not is_young(cont) and not mark & MARK_NAMED:
        begin_revisions(cont)
    if is_young(cont):
        cont.next = m.guest.ctx.free_conts
        m.guest.ctx.free_conts = cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep(m: cython.pointer(Marking)) -> cython.void:
    """Rebuild the pools from all blocks that are not marked, and clear the marks."""
    slab: cython.pointer(Slab) = m.heap.slabs
    exception: cython.pointer(WlException)
    i: uint64_t
    m.guest.ctx.free_conts = cython.NULL
    memset(cython.address(m.guest.ctx.objects_0), 0, (OBJECT_CLASSES + 1) * cython.sizeof(cython.p_void))
    memset(m.heap.free_objects, 0, cython.sizeof(m.heap.free_objects))
    _sweep_large(m)
    while slab != cython.NULL:
        if slab.kind >= FIRST_OBJECT_CLASS:
            if slab.kind != NO_CLASS:
                _sweep_objects(m, slab)
        elif slab.kind == CONT_CLASS:
            for i in range(slab.used):
                # Backwards, so the pool begins with the first.
                _sweep_cont(m, cython.cast(cython.pointer(WlCont), block_at(slab, slab.used - 1 - i)))
        else:
            if slab == m.heap.filling[slab.kind]:  # the newest of its class, and so the first to be seen
                m.heap.free[slab.kind] = cython.NULL
            for i in range(slab.used):
                exception = cython.cast(cython.pointer(WlException), block_at(slab, slab.used - 1 - i))
                if exception.mark == 0:
                    exception.tag = cython.NULL
                    exception.next = m.heap.free[slab.kind]
                    m.heap.free[slab.kind] = exception
                exception.mark = 0
        slab = slab.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _log(m: cython.pointer(Marking), allocated: uint64_t, live: uint64_t, time: int64_t) -> cython.void:
    """Log a collection to standard error. No Python code runs: a guest may stand anywhere."""
    fprintf(
        stderr,
        b"wasmloom: gc %llu: %llu bytes since the last one, %llu of objects are left, %llu words seen, %lld us\n",
        cython.cast(cython.ulonglong, m.heap.collections),
        cython.cast(cython.ulonglong, allocated),
        cython.cast(cython.ulonglong, live),
        cython.cast(cython.ulonglong, m.heap.scanned),
        cython.cast(cython.longlong, time // 1000),
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collect(ctx: cython.pointer(WlContext)) -> cython.void:
    """Free what nothing refers to. Call by the store's owner, with all references where they can be seen.

    Sets when the next collection is due. It will look at everything that this one has looked at, so at least half as
    much must have been allocated by then.
    """
    m = cython.declare(Marking)
    heap: cython.pointer(Heap)
    live: uint64_t
    began: int64_t = 0
    before: uint64_t
    m.guest = cython.cast(cython.pointer(Guest), ctx)
    m.heap = heap = cython.address(m.guest.heap)
    m.store = ctx.store
    m.conts = cython.NULL
    m.exceptions = cython.NULL
    m.marked = 0
    m.overflown = False
    before = heap.allocated
    if heap.logs:
        began = now_ns()
    heap.scanned = 0
    if heap.large_count > 1:
        qsort(heap.large, heap.large_count, cython.sizeof(cython.p_void), _by_address)
    _mark(cython.address(m))
    heap.live_bytes = 0
    _sweep(cython.address(m))
    heap.allocated = 0
    live = heap.live_bytes + heap.large_bytes
    heap.collect_at = ((heap.block_bytes + heap.grown + SLOT_BYTES * heap.scanned) >> 1) + live
    heap.grown_at = 2 * heap.grown
    heap.collections += 1
    if heap.logs:
        _log(cython.address(m), before, live, now_ns() - began)


set_collector(_collect)


# --- for tests and diagnostics ---


def collect_garbage(store: Store) -> None:
    """Collect now. Raises what a signal handler raises while another thread has the store."""
    store.lock()
    try:
        if store.guest.heap.holds == 0:
            _collect(cython.address(store.guest.ctx))
    finally:
        store.unlock()


def statistics(store: Store) -> dict[str, int]:
    """What the reference heap holds, in blocks and bytes.

    ``continuations``, ``exceptions`` and ``objects`` count those that are in use (or not collected yet), ``pool`` the
    continuations that can be used again, ``worn`` those that have no revision left, ``grown`` bytes of stacks
    beyond their blocks, ``blocks`` bytes of blocks, ``collections`` how many there have been.
    """
    heap: cython.pointer(Heap)
    slab: cython.pointer(Slab)
    cont: cython.pointer(WlCont)
    i: uint64_t
    found: dict[str, int] = {"continuations": 0, "exceptions": 0, "objects": 0, "pool": 0, "worn": 0}
    store.lock()
    try:
        heap = cython.address(store.guest.heap)
        slab = heap.slabs
        found["objects"] = heap.large_count
        while slab != cython.NULL:
            for i in range(slab.used):
                if slab.kind >= FIRST_OBJECT_CLASS:
                    if cython.cast(cython.pointer(WlObject), block_at(slab, i)).type != cython.NULL:
                        found["objects"] += 1
                elif slab.kind == CONT_CLASS:
                    cont = cython.cast(cython.pointer(WlCont), block_at(slab, i))
                    if cont.state != CONT_ENDED:
                        found["continuations"] += 1
                    elif not is_young(cont):
                        found["worn"] += 1
                elif cython.cast(cython.pointer(WlException), block_at(slab, i)).tag != cython.NULL:
                    found["exceptions"] += 1
            slab = slab.next
        cont = cython.cast(cython.pointer(WlCont), store.guest.ctx.free_conts)
        while cont != cython.NULL:
            found["pool"] += 1
            cont = cython.cast(cython.pointer(WlCont), cont.next)
        found["grown"] = heap.grown
        found["blocks"] = heap.block_bytes + heap.object_bytes + heap.large_bytes
        found["collections"] = heap.collections
    finally:
        store.unlock()
    return found


def collect_always(store: Store, always: bool) -> None:
    """Collect before each object that is made; for tests."""
    store.lock()
    try:
        store.guest.heap.checks = always
        _collect(cython.address(store.guest.ctx))
    finally:
        store.unlock()


def references(store: Store) -> list[int]:
    """The word of the only reference that counts to each continuation in use, also to those that run."""
    slab: cython.pointer(Slab)
    cont: cython.pointer(WlCont)
    i: uint64_t
    found: list[int] = []
    store.lock()
    try:
        slab = store.guest.heap.slabs
        while slab != cython.NULL:
            for i in range(slab.used):
                cont = cython.cast(cython.pointer(WlCont), block_at(slab, i))
                if slab.kind == CONT_CLASS and cont.state != CONT_ENDED:
                    found.append(cont.reference)
            slab = slab.next
    finally:
        store.unlock()
    return found
