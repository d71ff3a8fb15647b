# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The reference heap's collector: mark and sweep, precise in objects, tables and globals, conservative over stacks.

Roots are: the stacks of everything that runs, or waits for a host function outside of the store; globals; tables; the
exception that the context holds; and what Python has pinned. Element segments aren't roots: their references come from
constant expressions, and so from globals that keep their value. In a suspended stack only the part below the operands
of its `suspend` (or `resume`) counts; what is above is dead.

A contref keeps the whole chain that it begins alive: it names the innermost stack, ``parent`` leads to ``last``. A
word with a continuation's address but another revision is a stale reference. It keeps nothing alive, but while it
exists the continuation's revisions must not start again (``MARK_NAMED``).

The store's sweep of external references listens to the same marking (``heap.on_words``).

Invariants:

* All marks are 0 between collections.
* A collection allocates nothing: marked objects wait in lists linked by their own ``next`` fields, which otherwise only
  free objects use.
* Nothing moves.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint64_t
from cython.cimports.wasmloom.contract._handlers import AT_RESUME_VALUES
from cython.cimports.wasmloom.contract._layout import (
    CONT_ENDED,
    CONT_FRESH,
    CONT_SUSPENDED,
    NEXT_REVISION,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
    WlException,
    WlInstance,
    WlTable,
)
from cython.cimports.wasmloom.runtime.collector import Marking
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    MARK_LIVE,
    MARK_NAMED,
    Heap,
    Pin,
    Slab,
    block_at,
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


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit(m: cython.pointer(Marking), word: uint64_t) -> cython.void:
    """Visit a word that may be a reference."""
    address: uint64_t = word & (NEXT_REVISION - 1)
    slab: cython.pointer(Slab)
    cont: cython.pointer(WlCont)
    exception: cython.pointer(WlException)
    if address < m.heap.lowest or address >= m.heap.highest:
        return
    slab = slab_of(m.heap, address)
    if slab == cython.NULL:
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
    """Visit globals and tables. (The type allows None so that Cython doesn't check for it.)"""
    cell: cython.pointer(cython.pointer(uint64_t))
    table: cython.pointer(WlTable)
    instance: cython.pointer(WlInstance)
    i: uint64_t
    for i in range(store.instances.count):
        instance = cython.cast(cython.pointer(WlInstance), store.instances.items[i])
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
    while m.conts != cython.NULL or m.exceptions != cython.NULL:
        if m.conts != cython.NULL:
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
    while slab != cython.NULL:
        if slab.kind == CONT_CLASS:
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
def _collect(ctx: cython.pointer(WlContext)) -> cython.void:
    """Free what nothing refers to. Call by the store's owner, with all references where they can be seen.

    Sets when the next collection is due. It will look at everything that this one has looked at, so at least half as
    much must have been allocated by then.
    """
    m = cython.declare(Marking)
    heap: cython.pointer(Heap)
    m.guest = cython.cast(cython.pointer(Guest), ctx)
    m.heap = heap = cython.address(m.guest.heap)
    m.store = ctx.store
    m.conts = cython.NULL
    m.exceptions = cython.NULL
    heap.scanned = 0
    _mark(cython.address(m))
    _sweep(cython.address(m))
    heap.allocated = 0
    heap.collect_at = (heap.block_bytes + heap.grown + SLOT_BYTES * heap.scanned) >> 1
    heap.grown_at = 2 * heap.grown
    heap.collections += 1


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

    ``continuations`` and ``exceptions`` count those that are in use (or not collected yet), ``pool`` the
    continuations that can be used again, ``worn`` those that have no revision left, ``grown`` bytes of stacks
    beyond their blocks, ``blocks`` bytes of blocks, ``collections`` how many there have been.
    """
    heap: cython.pointer(Heap)
    slab: cython.pointer(Slab)
    cont: cython.pointer(WlCont)
    i: uint64_t
    found: dict[str, int] = {"continuations": 0, "exceptions": 0, "pool": 0, "worn": 0}
    store.lock()
    try:
        heap = cython.address(store.guest.heap)
        slab = heap.slabs
        while slab != cython.NULL:
            for i in range(slab.used):
                if slab.kind == CONT_CLASS:
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
        found["blocks"] = heap.block_bytes
        found["collections"] = heap.collections
    finally:
        store.unlock()
    return found


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
