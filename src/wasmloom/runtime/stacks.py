# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Continuations and exceptions: allocation, growth and reuse.

A continuation comes with a small stack behind it, in one block of the reference heap (`wasmloom.runtime.heap`).
Blocks are never freed before their store, so a stale contref always points to a continuation, whose revision shows
that the reference is stale. A stack that outgrows its block moves to memory of its own, which is freed when the
continuation ends.

Continuations that end go to the pool at once. Abandoned continuations, and exceptions, go there when the collector
finds that nothing refers to them (`wasmloom.runtime.collector`). The collector runs when a pool is empty and enough has
been allocated since its last run to bound its cost per allocation; it never runs within `resume`, `suspend` or
`switch`.

All allocations count towards the store's memory limit.

Invariants:

* While a stack runs, the context says where its memory is; every switch writes that back (`stack_handlers._save`,
  `_note_memory`), and code that moves the running stack changes the context only.
* A continuation in the pool (state "ended") uses its own block's memory and has a revision that no reference has.
* A continuation whose revisions have run out is only used again when the collector has seen no word with its address.
* ``heap.grown`` is the sum of all stacks' sizes that don't lie in their block, but for those that stay (`stays`).
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract._layout import (
    BOUND_SHIFT,
    CONT_ACTIVE,
    CONT_BYTES,
    CONT_ENDED,
    CONT_FRESH,
    CONT_SUSPENDED,
    INLINE_WORDS,
    MAX_REVISION,
    NEXT_REVISION,
    REVISION_SHIFT,
    RT_CONT_DONE,
    RT_CONT_NEW,
    RT_CONT_RENEW,
    RT_NEW_EXCEPTION,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
    WlException,
    WlInstance,
)
from cython.cimports.wasmloom.contract.operands import Operands
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, charge, uncharge
from cython.cimports.wasmloom.runtime.heap import (
    CONT_CLASS,
    HEAP_FLOOR,
    Heap,
    Slab,
    block_at,
    block_index,
    class_bytes,
    exception_class,
    free_heap,
    new_block,
    slab_of,
)
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call
from cython.cimports.wasmloom.runtime.stacks import INTERPRETED_BIT, STAYS_BIT, Collect, OnEvent
from cython.cimports.wasmloom.system.allocation import malloc

from wasmloom.contract import traps

_NULL_FUNCTION = cython.declare(uint64_t, traps.NULL_FUNCTION_REFERENCE)
_OUT_OF_MEMORY = cython.declare(uint64_t, traps.OUT_OF_MEMORY)
_CHAIN_EXHAUSTED = cython.declare(uint64_t, traps.CHAIN_EXHAUSTED)

# Declared in stacks.pxd.
collect = cython.NULL
on_event = cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def set_collector(function: Collect) -> cython.void:
    """Register the function that frees what nothing refers to."""
    global collect
    collect = function


@cython.cfunc
@cython.exceptval(check=False)
def set_on_event(function: OnEvent) -> cython.void:
    """Register the function that traces continuations as they are made and freed."""
    global on_event
    on_event = function


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def inline_stack(cont: cython.pointer(WlCont)) -> cython.p_char:
    """Where the stack in a continuation's own block begins."""
    return cython.cast(cython.p_char, cont + 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_interpreted(cont: cython.pointer(WlCont)) -> cython.bint:
    """Whether a suspended stack of bytecode must become a native stack before it goes on (`wasmloom.tiers.change`)."""
    return cont.state >> INTERPRETED_BIT & 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def stays(cont: cython.pointer(WlCont)) -> cython.bint:
    """Whether a stack is the bottom of a call that can wait and has a native stack beside it: its memory is that
    one's, and doesn't move."""
    return cont.state >> STAYS_BIT & 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def bound_of(cont: cython.pointer(WlCont)) -> uint64_t:
    """How many values `cont.bind` has put into a continuation."""
    return (cont.state & ((cython.cast(uint64_t, 1) << INTERPRETED_BIT) - 1)) >> BOUND_SHIFT


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def state_of(cont: cython.pointer(WlCont)) -> uint64_t:
    """Which of ``CONT_STATES`` a continuation is in.

    When compiled code resumes and suspends a single stack, it changes nothing but the stack's parent.
    """
    state: uint64_t = cont.state & ((cython.cast(uint64_t, 1) << BOUND_SHIFT) - 1)
    if state == CONT_SUSPENDED and cont.parent != cython.NULL and cont.last == cont:
        return CONT_ACTIVE
    return state


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def last_of(cont: cython.pointer(WlCont)) -> cython.pointer(WlCont):
    """The last stack of the chain that a continuation which can be resumed begins."""
    return cont if cont.last == cython.NULL else cython.cast(cython.pointer(WlCont), cont.last)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def look_first(cont: cython.pointer(WlCont)) -> cython.void:
    """Have the next `resume` of a continuation read its state."""
    if cont.last == cont:
        cont.last = cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def begin_revisions(cont: cython.pointer(WlCont)) -> cython.void:
    """Start a continuation's revisions from the beginning. No word may be an old reference to it."""
    cont.reference = cython.cast(uint64_t, cont) + NEXT_REVISION


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_worn(cont: cython.pointer(WlCont)) -> cython.bint:
    """Whether a continuation's revisions have run out, so there can't be a reference to it."""
    return cont.reference == cython.cast(uint64_t, cont)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_young(cont: cython.pointer(WlCont)) -> cython.bint:
    """Whether a continuation has enough revisions to be used again: at least two."""
    return not is_worn(cont) and cont.reference >> REVISION_SHIFT != MAX_REVISION


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def chain_is_full(guest: cython.pointer(Guest)) -> cython.bint:
    """Whether the chain of stacks that have resumed each other is as long as it may be.

    Call before a stack is made: a chain can't grow without new stacks, so `resume` itself needs no check. Counting
    takes time proportional to the chain, and is done once per so many new stacks that the cost of each is constant.
    """
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), guest.ctx.current)
    count: uint64_t = 0
    if guest.until_chain_check:
        guest.until_chain_check -= 1
        return False
    while cont != cython.NULL and count < guest.max_chain:
        cont = cython.cast(cython.pointer(WlCont), cont.parent)
        count += 1
    if cont != cython.NULL:
        return True
    guest.until_chain_check = max(guest.max_chain - count, guest.max_chain // 8)
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collect_if_due(guest: cython.pointer(Guest)) -> cython.void:
    """Collect, if enough has been allocated since the last time."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    if heap.allocated >= max(heap.collect_at, cython.cast(uint64_t, HEAP_FLOOR)) and heap.holds == 0:
        collect(cython.address(guest.ctx))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _block(guest: cython.pointer(Guest), kind: uint64_t) -> cython.p_void:
    """A block that has never been used; NULL when there is no memory."""
    block: cython.p_void
    if not charge(guest, class_bytes(kind)):
        return cython.NULL
    block = new_block(cython.address(guest.heap), kind)
    if block == cython.NULL:
        uncharge(guest, class_bytes(kind))
    return block


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def take(guest: cython.pointer(Guest), collects: cython.bint) -> cython.pointer(WlCont):
    """A continuation from the pool, or a new one; NULL when there is no memory.

    `collects`: whether all references are where the collector sees them.
    """
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    cont: cython.pointer(WlCont)
    heap.allocated += CONT_BYTES + guest.ctx.allocated
    guest.ctx.allocated = 0
    if collects and (
        guest.ctx.free_conts == cython.NULL or heap.grown > max(heap.grown_at, cython.cast(uint64_t, HEAP_FLOOR))
    ):
        _collect_if_due(guest)
    cont = cython.cast(cython.pointer(WlCont), guest.ctx.free_conts)
    if cont == cython.NULL:
        cont = cython.cast(cython.pointer(WlCont), _block(guest, CONT_CLASS))
        if cont != cython.NULL:
            begin_revisions(cont)
            cont.state = CONT_ENDED
        elif collects and heap.holds == 0:
            collect(cython.address(guest.ctx))
            cont = cython.cast(cython.pointer(WlCont), guest.ctx.free_conts)
            if cont != cython.NULL:
                guest.ctx.free_conts = cont.next
        if cont == cython.NULL:
            return cython.NULL
    else:
        guest.ctx.free_conts = cont.next
    cont.next = cython.NULL
    cont.owner = cont
    cont.stack_base = inline_stack(cont)
    cont.stack_end = cont.stack_base + SLOT_BYTES * INLINE_WORDS
    return cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _grown_memory(guest: cython.pointer(Guest), size: uint64_t) -> cython.p_char:
    """Memory for a stack that doesn't fit its block; NULL when there is none."""
    memory: cython.p_char = cython.NULL
    if charge(guest, size):
        memory = cython.cast(cython.p_char, malloc(size))
        if memory == cython.NULL:
            uncharge(guest, size)
        else:
            guest.heap.grown += size
            guest.heap.allocated += size
    return memory


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def give_memory(guest: cython.pointer(Guest), cont: cython.pointer(WlCont), size: uint64_t) -> cython.bint:
    """Let a stack that has just been taken have room for `size` bytes; False when there is no memory."""
    memory: cython.p_char
    if size > SLOT_BYTES * INLINE_WORDS:
        memory = _grown_memory(guest, size)
        if memory == cython.NULL:
            return False
        cont.stack_base = memory
        cont.stack_end = memory + size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def free_grown(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.void:
    """Free the memory of a stack that has outgrown its block."""
    size: uint64_t = cont.stack_end - cont.stack_base
    if cont.stack_base != inline_stack(cont):
        if not stays(cont):
            free(cont.stack_base)
            guest.heap.grown -= size
            uncharge(guest, size)
        cont.stack_base = inline_stack(cont)
        cont.stack_end = cont.stack_base + SLOT_BYTES * INLINE_WORDS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cont_new(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """`cont.new`. The frame needs room for the function's parameters, which `cont.bind` may bring early, and its
    results."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    op: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    function: cython.p_void = cython.cast(cython.p_void, fp[op.b])
    cont: cython.pointer(WlCont)
    size: uint64_t = SLOT_BYTES * cython.cast(uint64_t, op.imm0)
    if function == cython.NULL:
        return _NULL_FUNCTION
    if guest.ctx.free_conts == cython.NULL and chain_is_full(guest):
        return _CHAIN_EXHAUSTED
    cont = take(guest, True)
    if cont == cython.NULL:
        return _OUT_OF_MEMORY
    if size > SLOT_BYTES * INLINE_WORDS and not give_memory(guest, cont, 2 * size):
        end_stack(guest, cont)
        return _OUT_OF_MEMORY
    cont.state = CONT_FRESH
    cont.function = function
    cont.instance = inst
    cont.fp = 0
    cont.values = 0
    cont.catch_top = 0
    cont.parent = cython.NULL
    cont.last = cython.NULL
    if on_event != cython.NULL:
        on_event(guest, b"new", cont)
    fp[op.a] = cont.reference
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def end_stack(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.void:
    """Free the grown memory of a continuation that has ended and doesn't run any more, and put it into the pool."""
    if on_event != cython.NULL:
        on_event(guest, b"free", cont)
    free_grown(guest, cont)
    release_native_stack(guest, cont)
    cont.state = CONT_ENDED
    cont.parent = cython.NULL
    if is_young(cont):
        cont.next = guest.ctx.free_conts
        guest.ctx.free_conts = cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cont_done(
    ctx: cython.pointer(WlContext), cont: cython.pointer(WlCont), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    end_stack(cython.cast(cython.pointer(Guest), ctx), cont)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def renew(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.pointer(WlCont):
    """Move a stack to a fresh continuation, which takes the old one's place in everything but references.

    The old one is the innermost of its chain, so only it, and the context, can point to it. NULL when there is no
    memory.
    """
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    fresh: cython.pointer(WlCont) = take(guest, False)
    reference: uint64_t
    inline_memory: cython.p_char
    running: cython.bint = ctx.current == cont
    # The context's fields about the running stack's memory are those of interpreted stacks.
    interpreted: cython.bint = running and cont.control == cython.NULL
    if fresh == cython.NULL:
        return cython.NULL
    reference = fresh.reference
    inline_memory = fresh.stack_base
    if interpreted:
        cont.stack_base = ctx.stack_base
        cont.stack_end = ctx.stack_end
    memcpy(fresh, cont, cython.sizeof(WlCont))
    fresh.reference = reference
    fresh.owner = fresh
    if cont.last == cont:
        fresh.last = fresh
    if cont.stack_base == inline_stack(cont):
        memcpy(inline_memory, cont.stack_base, SLOT_BYTES * INLINE_WORDS)
        fresh.stack_base = inline_memory
        fresh.stack_end = inline_memory + SLOT_BYTES * INLINE_WORDS
    if running:
        ctx.current = fresh
    if interpreted:
        ctx.stack_base = fresh.stack_base
        ctx.stack_end = fresh.stack_end
        ctx.stack_limit = fresh.stack_end
    if fresh.control != cython.NULL:
        cython.cast(cython.pointer(WlControl), fresh.control).cont = fresh
        cont.control = cython.NULL
    # The old one has neither memory of its own nor a revision left: only the collector can make it usable again.
    cont.stack_base = inline_stack(cont)
    cont.state = CONT_ENDED
    cont.parent = cython.NULL
    return fresh


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cont_renew(
    ctx: cython.pointer(WlContext), cont: cython.pointer(WlCont), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    fresh: cython.pointer(WlCont) = renew(cython.cast(cython.pointer(Guest), ctx), cont)
    if fresh == cython.NULL:
        return _OUT_OF_MEMORY
    ctx.exception = cython.cast(uint64_t, fresh)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def grow_bound(guest: cython.pointer(Guest), cont: cython.pointer(WlCont), size: uint64_t) -> cython.bint:
    """Make room for `size` bytes of bound values in a continuation that runs compiled code."""
    memory: cython.p_char = _grown_memory(guest, 2 * size)
    if memory == cython.NULL:
        return False
    memcpy(memory, cont.stack_base, SLOT_BYTES * bound_of(cont))
    free_grown(guest, cont)
    cont.stack_base = memory
    cont.stack_end = memory + 2 * size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def release_native_stack(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.void:
    """Take a continuation's native stack, if it has one, and put it into the pool."""
    control: cython.pointer(WlControl) = cython.cast(cython.pointer(WlControl), cont.control)
    if control != cython.NULL:
        cont.control = cython.NULL
        control.next = guest.ctx.free_stacks
        guest.ctx.free_stacks = control


@cython.cfunc
@cython.exceptval(check=False)
def mark_suspended(guest: cython.pointer(Guest)) -> cython.void:
    """Mark all suspended stacks of bytecode. They become native stacks when they are resumed."""
    slab: cython.pointer(Slab) = guest.heap.slabs
    cont: cython.pointer(WlCont)
    i: uint64_t
    while slab != cython.NULL:
        if slab.kind == CONT_CLASS:
            for i in range(slab.used):
                cont = cython.cast(cython.pointer(WlCont), block_at(slab, i))
                if state_of(cont) == CONT_SUSPENDED and cont.control == cython.NULL:
                    cont.state |= cython.cast(uint64_t, 1) << INTERPRETED_BIT
                    look_first(cont)
        slab = slab.next


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def move_stack(guest: cython.pointer(Guest), owner: cython.pointer(WlCont), size: uint64_t) -> cython.bint:
    """Give the running stack, whose memory is that of the continuation `owner`, a block of `size` bytes on the heap."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    memory: cython.p_char = _grown_memory(guest, size)
    old: uint64_t = ctx.stack_end - ctx.stack_base
    if memory == cython.NULL:
        return False
    memcpy(memory, ctx.stack_base, old)
    if ctx.stack_base != inline_stack(owner):
        free(ctx.stack_base)
        guest.heap.grown -= old
        uncharge(guest, old)
    ctx.stack_base = memory
    ctx.stack_end = memory + size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def memory_of(guest: cython.pointer(Guest), owner: cython.p_void) -> cython.p_char:
    """The memory of a stack that runs, or waits for what it has resumed or called.

    Several stacks may share it (the root of an entry lies on the stack that called the host). The innermost one knows
    its address.
    """
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), guest.ctx.current)
    entry: cython.pointer(Entry) = guest.entry
    while cont != cython.NULL and cont.owner != owner:
        if cont.parent != cython.NULL:
            cont = cython.cast(cython.pointer(WlCont), cont.parent)
        else:
            cont = entry.outer_current
            entry = entry.outer
    if cont == cython.NULL or cont == guest.ctx.current:
        return guest.ctx.stack_base
    return cont.stack_base


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def unwind_to(guest: cython.pointer(Guest), root: cython.pointer(WlCont)) -> cython.void:
    """End every stack from the running one down to an entry's root, which runs afterwards. This is what a trap does."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    cont: cython.pointer(WlCont)
    parent: cython.pointer(WlCont)
    while ctx.current != root:
        cont = cython.cast(cython.pointer(WlCont), ctx.current)
        parent = cython.cast(cython.pointer(WlCont), cont.parent)
        ctx.current = parent
        if cont.control == cython.NULL:
            cont.stack_base = ctx.stack_base
            cont.stack_end = ctx.stack_end
            ctx.stack_base = parent.stack_base
            ctx.stack_end = parent.stack_end
            ctx.stack_limit = parent.stack_end
        end_stack(guest, cont)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_exception(guest: cython.pointer(Guest), count: uint64_t) -> cython.pointer(WlException):
    """An exception with room for `count` values, still without tag; NULL when there is no memory.

    All references must be where the collector sees them.
    """
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    kind: uint64_t = exception_class(count)
    exception: cython.pointer(WlException)
    heap.allocated += class_bytes(kind)
    if heap.free[kind] == cython.NULL:
        _collect_if_due(guest)
    if heap.free[kind] == cython.NULL:
        exception = cython.cast(cython.pointer(WlException), _block(guest, kind))
        if exception != cython.NULL or heap.holds:
            if exception != cython.NULL:
                exception.count = count
            return exception
        collect(cython.address(guest.ctx))
        if heap.free[kind] == cython.NULL:
            return cython.NULL
    exception = cython.cast(cython.pointer(WlException), heap.free[kind])
    heap.free[kind] = exception.next
    exception.next = cython.NULL
    exception.count = count
    return exception


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_exception(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Make an exception; `imm0` is the byte offset of the tag's pointer in the instance."""
    op: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    exception: cython.pointer(WlException) = new_exception(cython.cast(cython.pointer(Guest), ctx), op.imm1)
    if exception == cython.NULL:
        return _OUT_OF_MEMORY
    exception.tag = cython.cast(cython.pointer(cython.p_void), cython.cast(cython.p_char, inst) + op.imm0)[0]
    memcpy(exception + 1, fp + op.a, SLOT_BYTES * cython.cast(uint64_t, op.imm1))
    ctx.exception = cython.cast(uint64_t, exception)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def number_of(guest: cython.pointer(Guest), cont: cython.p_void) -> uint64_t:
    """A small number, from 1, that identifies a continuation; 0 for the bottom of an entry from the host."""
    slab: cython.pointer(Slab) = slab_of(cython.address(guest.heap), cython.cast(uint64_t, cont))
    if slab == cython.NULL:
        return 0
    return slab.number * slab.count + block_index(slab, cython.cast(uint64_t, cont)) + 1


@cython.cfunc
@cython.exceptval(check=False)
def free_stacks(guest: cython.pointer(Guest)) -> cython.void:
    """Free everything that this module has allocated for a store."""
    slab: cython.pointer(Slab) = guest.heap.slabs
    i: uint64_t
    while slab != cython.NULL:
        if slab.kind == CONT_CLASS:
            for i in range(slab.used):
                free_grown(guest, cython.cast(cython.pointer(WlCont), block_at(slab, i)))
        slab = slab.next
    free_heap(cython.address(guest.heap))


set_runtime_call(RT_CONT_NEW, cython.cast(cython.p_void, _cont_new))
set_runtime_call(RT_CONT_DONE, cython.cast(cython.p_void, _cont_done))
set_runtime_call(RT_CONT_RENEW, cython.cast(cython.p_void, _cont_renew))
set_runtime_call(RT_NEW_EXCEPTION, cython.cast(cython.p_void, _new_exception))
