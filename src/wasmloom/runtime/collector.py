# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The reference heap's collector: mark and sweep, precise in objects, tables and globals, conservative over stacks.

Roots are: the stacks of everything that runs, or waits for a host function outside of the store; globals; tables;
element segments that haven't been dropped; the exception that the context holds; and what Python has pinned. In a
suspended stack only the part below the operands of its `suspend` (or `resume`) counts; what is above is dead.

A contref keeps the whole chain that it begins alive: it names the innermost stack, ``parent`` leads to ``last``. A
word with a continuation's address but another revision is a stale reference. It keeps nothing alive, but while it
exists the continuation's revisions must not start again (``MARK_NAMED``).

What words name is found out by `wasmloom.runtime.marking`; what happens to blocks that nothing has marked is in
`wasmloom.runtime.sweeping`. The store's sweep of external references listens to the same marking (``heap.on_words``).

Invariants:

* A collection needs no memory (what it remembers of itself may be lost).
* Nothing moves.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint16_t, uint64_t
from cython.cimports.libc.stdio import fprintf, stderr
from cython.cimports.libc.stdlib import qsort
from cython.cimports.wasmloom.contract._handlers import AT_RESUME_VALUES
from cython.cimports.wasmloom.contract._layout import (
    CONT_ENDED,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
    WlException,
    WlInstance,
    WlObject,
    WlSegment,
    WlTable,
)
from cython.cimports.wasmloom.runtime.gc_statistics import remember
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked, now_ns
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    FIRST_OBJECT_CLASS,
    MARK_LIVE,
    Heap,
    Pin,
    Slab,
    block_at,
)
from cython.cimports.wasmloom.runtime.marking import Marking, drain, look_into_marked, visit, visit_range
from cython.cimports.wasmloom.runtime.stacks import bound_of, is_young, last_of, set_collector, waiting_bytes
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.runtime.sweeping import finish_sweeping, sweep

# --- roots ---


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
def _visit_parent(m: cython.pointer(Marking), child: cython.pointer(WlCont)) -> cython.void:
    """Visit the stack that waits for `child`: its frames, up to the operands of its `resume`."""
    parent: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), child.parent)
    below: uint64_t = cython.cast(cython.pointer(uint16_t), child.resume + AT_RESUME_VALUES)[0]
    visit_range(m, parent.stack_base, parent.fp // SLOT_BYTES + below)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _visit_native_stack(m: cython.pointer(Marking), low: cython.p_char, cont: cython.pointer(WlCont)) -> cython.void:
    """Visit the native stack of a continuation or of an entry's bottom, from its innermost word on."""
    visit_range(m, low, cython.cast(uint64_t, cython.cast(cython.p_char, cont.control) - low) // SLOT_BYTES)


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
        visit_range(m, cont.stack_base, bound_of(cont))
        _visit_native_stack(m, cython.cast(cython.pointer(WlControl), last.control).sp, cont)
        _visit_native_parents(m, cont, last)
        return
    visit_range(m, cont.stack_base, cont.fp // SLOT_BYTES + cont.values + bound_of(cont))
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
                visit_range(m, ctx.stack_base + entry.base, waiting_bytes(entry.bottom) // SLOT_BYTES)
        else:
            if not seen:
                # The end of the running frame isn't known here.
                visit_range(m, ctx.stack_base, cython.cast(uint64_t, ctx.stack_end - ctx.stack_base) // SLOT_BYTES)
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
                    visit_range(m, entry.outer_base, entry.stack_top // SLOT_BYTES)
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
            visit_range(m, cont.stack_base, cont.values // SLOT_BYTES)
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
            visit_range(m, segment[k].data, segment[k].length)
        cell = cython.cast(cython.pointer(cython.pointer(uint64_t)), instance.globals)
        while cython.cast(cython.p_void, cell) != instance.functions:
            if cell[0] != cython.NULL:  # an instance in the making has empty slots
                visit_range(m, cell[0], 1)
            cell += 1
    for i in range(store.cells.count):
        visit_range(m, store.cells.items[i], 1)
    for i in range(store.tables.count):
        table = cython.cast(cython.pointer(WlTable), store.tables.items[i])
        visit_range(m, table.elements, table.length)


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
        visit(m, word)
        pin = pin.next
    visit(m, m.guest.ctx.exception)
    visit(m, m.guest.ctx.pending)
    _visit_store(m, cython.cast(Store, m.store))
    _visit_running(m)
    _visit_parked(m)
    while m.marked or m.overflown or m.conts != cython.NULL or m.exceptions != cython.NULL:
        if m.marked:
            drain(m)
        elif m.overflown:
            look_into_marked(m)
        elif m.conts != cython.NULL:
            cont = m.conts
            m.conts = cython.cast(cython.pointer(WlCont), cont.next)
            cont.next = cython.NULL
            _visit_chain(m, cont)
        else:
            exception = m.exceptions
            m.exceptions = cython.cast(cython.pointer(WlException), exception.next)
            exception.next = cython.NULL
            visit_range(m, exception + 1, exception.count)


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
    began: int64_t = now_ns()
    took: int64_t
    before: uint64_t
    m.guest = cython.cast(cython.pointer(Guest), ctx)
    m.heap = heap = cython.address(m.guest.heap)
    m.store = ctx.store
    m.conts = cython.NULL
    m.exceptions = cython.NULL
    m.marked = 0
    m.overflown = False
    before = heap.allocated
    heap.scanned = 0
    if heap.large_count > 1:
        qsort(heap.large, heap.large_count, cython.sizeof(cython.p_void), _by_address)
    finish_sweeping(heap)
    _mark(cython.address(m))
    heap.live_bytes = 0
    sweep(m.guest)
    heap.all_allocated += before
    heap.allocated = 0
    live = heap.live_bytes + heap.large_bytes
    heap.collect_at = ((heap.block_bytes + heap.grown + SLOT_BYTES * heap.scanned) >> 1) + live
    heap.grown_at = 2 * heap.grown
    took = now_ns() - began
    remember(heap, took)
    if heap.logs:
        _log(cython.address(m), before, live, took)


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
        finish_sweeping(heap)
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
