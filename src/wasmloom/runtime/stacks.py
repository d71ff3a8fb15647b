# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Continuations and exceptions as memory: allocation, growth and reuse.

A continuation comes with a small stack behind it, in one block; blocks come in slabs and are never freed before their
store, so that a stale contref always points to a continuation, whose revision then tells. A stack that outgrows its
block moves to the heap, and its memory goes back when the continuation ends.

Invariants:

* While a stack runs, the context says where its memory is; every switch writes that back (`stack_handlers._save`,
  `_note_memory`), and whoever moves the running stack changes the context only.
* A continuation in the pool (state "ended") has its own block's memory, and a revision that no reference has.
* A continuation whose revisions have run out is never used again.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free, malloc
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.interpreter.machine import set_runtime_call
from cython.cimports.wasmloom.runtime._layout import (
    CONT_ENDED,
    CONT_FRESH,
    MAX_REVISION,
    REVISION_SHIFT,
    RT_CONT_DONE,
    RT_CONT_NEW,
    RT_CONT_RENEW,
    RT_NEW_EXCEPTION,
    WlCont,
    WlContext,
    WlException,
    WlInstance,
)
from cython.cimports.wasmloom.runtime.calls import Operands
from cython.cimports.wasmloom.runtime.guests import Entry, Guest

from wasmloom.runtime import traps

_NULL_FUNCTION = cython.declare(uint64_t, traps.NULL_FUNCTION_REFERENCE)
_STACK_EXHAUSTED = cython.declare(uint64_t, traps.STACK_EXHAUSTED)


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _inline_stack(cont: cython.pointer(WlCont)) -> cython.p_char:
    return cython.cast(cython.p_char, cont + 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take(guest: cython.pointer(Guest)) -> cython.pointer(WlCont):
    """A continuation from the pool; NULL when there is no memory."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), guest.ctx.free_conts)
    slab: cython.pointer(Slab)
    i: cython.int
    if cont == cython.NULL:
        slab = cython.cast(cython.pointer(Slab), malloc(cython.sizeof(Slab)))
        if slab == cython.NULL:
            return cython.NULL
        slab.next = cython.cast(cython.pointer(Slab), guest.slabs)
        guest.slabs = slab
        for i in range(SLAB_SIZE):
            cont = cython.address(slab.blocks[SLAB_SIZE - 1 - i].cont)
            memset(cont, 0, cython.sizeof(WlCont))
            cont.revision = 1
            cont.state = CONT_ENDED
            cont.next = guest.ctx.free_conts
            guest.ctx.free_conts = cont
    guest.ctx.free_conts = cont.next
    cont.next = cython.NULL
    cont.owner = cont
    cont.stack_base = _inline_stack(cont)
    cont.stack_end = cont.stack_base + 8 * INLINE_WORDS
    return cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cont_new(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """`cont.new`: the frame needs room for the function's parameters, which arrive before its entry, and results."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    op: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    function: cython.p_void = cython.cast(cython.p_void, fp[op.b])
    cont: cython.pointer(WlCont)
    memory: cython.p_char
    size: uint64_t = 8 * cython.cast(uint64_t, op.imm0)
    if function == cython.NULL:
        return _NULL_FUNCTION
    cont = _take(guest)
    if cont == cython.NULL:
        return _STACK_EXHAUSTED
    if size > 8 * INLINE_WORDS:
        memory = cython.cast(cython.p_char, malloc(2 * size))
        if memory == cython.NULL:
            end_stack(guest, cont)
            return _STACK_EXHAUSTED
        cont.stack_base = memory
        cont.stack_end = memory + 2 * size
    cont.state = CONT_FRESH
    cont.function = function
    cont.instance = inst
    cont.fp = 0
    cont.values = 0
    cont.bound = 0
    cont.catch_top = 0
    cont.parent = cython.NULL
    cont.last = cont
    fp[op.a] = cython.cast(uint64_t, cont) | cont.revision << REVISION_SHIFT
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def end_stack(guest: cython.pointer(Guest), cont: cython.pointer(WlCont)) -> cython.void:
    """A continuation has ended and doesn't run any more: free what it has grown by, and put it into the pool."""
    if cont.stack_base != _inline_stack(cont):
        free(cont.stack_base)
        cont.stack_base = _inline_stack(cont)
    cont.state = CONT_ENDED
    cont.parent = cython.NULL
    if cont.revision < MAX_REVISION:
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
def _cont_renew(
    ctx: cython.pointer(WlContext), cont: cython.pointer(WlCont), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Move a stack to a fresh continuation, which takes the old one's place in everything but references.

    The old one is the innermost of its chain, so that only it, and the context, can point to it.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    fresh: cython.pointer(WlCont) = _take(guest)
    revision: uint64_t
    inline_memory: cython.p_char
    running: cython.bint = ctx.current == cont
    if fresh == cython.NULL:
        return _STACK_EXHAUSTED
    revision = fresh.revision
    inline_memory = fresh.stack_base
    if running:
        cont.stack_base = ctx.stack_base
        cont.stack_end = ctx.stack_end
    memcpy(fresh, cont, cython.sizeof(WlCont))
    fresh.revision = revision
    fresh.owner = fresh
    if cont.last == cont:
        fresh.last = fresh
    if cont.stack_base == _inline_stack(cont):
        memcpy(inline_memory, cont.stack_base, 8 * INLINE_WORDS)
        fresh.stack_base = inline_memory
        fresh.stack_end = inline_memory + 8 * INLINE_WORDS
    if running:
        ctx.current = fresh
        ctx.stack_base = fresh.stack_base
        ctx.stack_end = fresh.stack_end
        ctx.stack_limit = fresh.stack_end
    # The old one has no memory of its own left, and no revision: it is never used again.
    cont.stack_base = _inline_stack(cont)
    cont.state = CONT_ENDED
    cont.parent = cython.NULL
    ctx.exception = cython.cast(uint64_t, fresh)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def move_stack(guest: cython.pointer(Guest), owner: cython.pointer(WlCont), size: uint64_t) -> cython.bint:
    """Give the running stack, whose memory is that of the continuation `owner`, a block of `size` bytes on the heap."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    memory: cython.p_char = cython.cast(cython.p_char, malloc(size))
    if memory == cython.NULL:
        return False
    memcpy(memory, ctx.stack_base, ctx.stack_end - ctx.stack_base)
    if ctx.stack_base != _inline_stack(owner):
        free(ctx.stack_base)
    ctx.stack_base = memory
    ctx.stack_end = memory + size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def memory_of(guest: cython.pointer(Guest), owner: cython.p_void) -> cython.p_char:
    """Where the memory of a stack is that runs, or waits for what it has resumed or called.

    Several stacks may share it (the root of an entry lies on what called the host): the innermost one knows.
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
    """End every stack from the running one to that of an entry, which runs afterwards: what a trap does."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    cont: cython.pointer(WlCont)
    parent: cython.pointer(WlCont)
    while ctx.current != root:
        cont = cython.cast(cython.pointer(WlCont), ctx.current)
        parent = cython.cast(cython.pointer(WlCont), cont.parent)
        cont.stack_base = ctx.stack_base
        cont.stack_end = ctx.stack_end
        ctx.current = parent
        ctx.stack_base = parent.stack_base
        ctx.stack_end = parent.stack_end
        ctx.stack_limit = parent.stack_end
        end_stack(guest, cont)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_exception(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Make an exception; `imm0` is the byte offset of the tag's pointer in the instance."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    op: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    size: uint64_t = cython.sizeof(WlException) + 8 * cython.cast(uint64_t, op.imm1)
    exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), malloc(size))
    if exception == cython.NULL:
        return _STACK_EXHAUSTED
    exception.next = guest.exceptions
    exception.mark = 0
    exception.tag = cython.cast(cython.pointer(cython.p_void), cython.cast(cython.p_char, inst) + op.imm0)[0]
    exception.count = op.imm1
    memcpy(exception + 1, fp + op.a, 8 * cython.cast(uint64_t, op.imm1))
    guest.exceptions = exception
    ctx.exception = cython.cast(uint64_t, exception)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def free_stacks(guest: cython.pointer(Guest)) -> cython.void:
    """Free everything that this module has allocated for a store."""
    slab: cython.pointer(Slab) = cython.cast(cython.pointer(Slab), guest.slabs)
    exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), guest.exceptions)
    following: cython.p_void
    cont: cython.pointer(WlCont)
    i: cython.int
    while slab != cython.NULL:
        for i in range(SLAB_SIZE):
            cont = cython.address(slab.blocks[i].cont)
            if cont.stack_base != cython.NULL and cont.stack_base != _inline_stack(cont):
                free(cont.stack_base)
        following = slab.next
        free(slab)
        slab = cython.cast(cython.pointer(Slab), following)
    while exception != cython.NULL:
        following = exception.next
        free(exception)
        exception = cython.cast(cython.pointer(WlException), following)
    guest.slabs = cython.NULL
    guest.exceptions = cython.NULL


set_runtime_call(RT_CONT_NEW, cython.cast(cython.p_void, _cont_new))
set_runtime_call(RT_CONT_DONE, cython.cast(cython.p_void, _cont_done))
set_runtime_call(RT_CONT_RENEW, cython.cast(cython.p_void, _cont_renew))
set_runtime_call(RT_NEW_EXCEPTION, cython.cast(cython.p_void, _new_exception))
