# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What the tiers do for calls that can wait: how a guest gets out of a store, and back.

The whole state of an interpreted guest is on its value stacks; no frame of the thread's own stack is part of it. To
park it, the context's part of the state is noted in the innermost stack: where the host function returns to (``ip``),
its frame (``fp``), the function itself (``function``), and how much of the stack is in use (``values``). Then the
interpreter is left. To go on, the context gets its state back, and the results go into the frame.

The whole state of a compiled guest is on its native stacks, registers included, once `wl_park` has left it
(`wasmloom.target.stubs`). Its `Parked` says where. To go on, the first result goes where the host function would have
put it and the others into the context's ``args``; then `wl_native_continue` returns into the adapter.

In a store that mixes, a guest has both: the stack of bytecode that it begins on, which doesn't move, and a native stack
beside it (`wasmloom.target.crossings`). It may wait in either, and goes on there, through bytecode: ``wl_cross_go_on``
returns into the adapter. What it has waiting on the other one is on its stacks, too. Where there is no memory for the
second stack, the guest does with bytecode.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract._handlers import H_HOST_RETURNED, H_HOST_THREW
from cython.cimports.wasmloom.contract._layout import SLOT_BYTES, WlCont, WlContext, WlFunction
from cython.cimports.wasmloom.interpreter.machine import handlers
from cython.cimports.wasmloom.runtime.growth import grow_stack
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked
from cython.cimports.wasmloom.runtime.hooks import stubs
from cython.cimports.wasmloom.runtime.native_stacks import (
    RootStack,
    begin_entry,
    give_values,
    release_root,
    take_root,
    use_root,
)
from cython.cimports.wasmloom.runtime.stacks import STAYS_BIT
from cython.cimports.wasmloom.runtime.store import Start, Store, compiler_tier, interpreter_tier
from cython.cimports.wasmloom.tiers.change import go_on_changed
from cython.cimports.wasmloom.tiers.waiting import compiled, interpreted, mixed

from wasmloom.contract.layout import CALLED_BY_COMPILED
from wasmloom.contract.traps import OUT_OF_MEMORY

_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_CALLED_BY_COMPILED = cython.declare(uint64_t, CALLED_BY_COMPILED)

# The instructions that a parked guest goes on with.
_returned = cython.declare(cython.p_void, handlers[H_HOST_RETURNED])
_threw = cython.declare(cython.p_void, handlers[H_HOST_THREW])
_crosses = cython.declare(cython.p_void, stubs.cross_go_on)

#: So many bytes of the memory limit are left to stacks of bytecode, of which there can be many more.
_SPARED = cython.declare(uint64_t, 1 << 20)


# --- bytecode ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _prepare_interpreted(store: Store, parked: cython.pointer(Parked), room: uint64_t) -> cython.int:
    """A stack of bytecode has memory, and grows."""
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _release_interpreted(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    pass


@cython.cfunc
@cython.exceptval(check=False)
def _enter_interpreted(store: Store, entry: cython.pointer(Entry), has_waited: cython.bint) -> cython.void:
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    current: cython.pointer(WlCont) = entry.parked.current
    entry.outer_base = ctx.stack_base
    entry.outer_end = ctx.stack_end
    if entry.outer != cython.NULL and entry.outer.native_stack == cython.NULL:  # as every switch does
        entry.outer_current.stack_base = ctx.stack_base
        entry.outer_current.stack_end = ctx.stack_end
    if has_waited:
        ctx.host_ip = current.ip
    ctx.current = current
    ctx.catch_top = current.catch_top
    ctx.stack_base = current.stack_base
    ctx.stack_end = current.stack_end
    ctx.stack_limit = current.stack_end
    store.guest.entry = entry


@cython.cfunc
@cython.exceptval(check=False)
def _take_arguments_interpreted(
    store: Store,
    parked: cython.pointer(Parked),
    words: cython.pointer(cython.const[uint64_t]),
    slots: uint32_t,
    room: uint64_t,
) -> uint64_t:
    code: uint64_t = grow_stack(store.guest, SLOT_BYTES * room)
    if code == 0:
        memcpy(store.guest.ctx.stack_base, words, SLOT_BYTES * cython.cast(uint64_t, slots))
    return code


@cython.cfunc
@cython.exceptval(check=False)
def _run_interpreted(
    store: Store,
    entry: cython.pointer(Entry),
    function: cython.pointer(WlFunction),
    code: cython.p_char,
    frame: uint64_t,
) -> uint64_t:
    start = cython.declare(Start)
    start.code = code
    start.environment = function.instance
    start.frame = frame
    return interpreter_tier.run(store, entry, cython.address(start))


@cython.cfunc
@cython.exceptval(check=False)
def stand_up(store: Store, entry: cython.pointer(Entry)) -> uint64_t:
    """See the declaration."""
    current: cython.pointer(WlCont) = entry.parked.current
    start = cython.declare(Start)
    start.code = current.ip
    start.environment = current.instance
    start.frame = current.fp
    return interpreter_tier.run(store, entry, cython.address(start))


@cython.cfunc
@cython.exceptval(check=False)
def _begin_interpreted(
    store: Store, entry: cython.pointer(Entry), function: cython.pointer(WlFunction)
) -> uint64_t:
    return _run_interpreted(store, entry, function, cython.cast(cython.pp_char, function.code_cell)[0], 0)


@cython.cfunc
@cython.exceptval(check=False)
def _take_results_interpreted(
    store: Store, parked: cython.pointer(Parked), words: cython.pointer(cython.const[uint64_t]), slots: uint32_t
) -> cython.void:
    """The call of the host function has made room for them."""
    memcpy(
        store.guest.ctx.stack_base + parked.current.fp, words, SLOT_BYTES * cython.cast(uint64_t, slots)
    )


@cython.cfunc
@cython.exceptval(check=False)
def _go_on_interpreted(
    store: Store,
    entry: cython.pointer(Entry),
    function: cython.pointer(WlFunction),
    slots: uint32_t,
    pending: uint64_t,
) -> uint64_t:
    """The store may have changed over meanwhile: then the guest goes on as compiled code."""
    code: cython.pp_void = cython.address(_threw) if pending else cython.address(_returned)
    if store.tier != cython.address(interpreter_tier):
        return go_on_changed(store, entry, slots, pending)
    if pending:
        store.guest.ctx.exception = pending
    return _run_interpreted(store, entry, function, cython.cast(cython.p_char, code), entry.parked.current.fp)


@cython.cfunc
@cython.exceptval(check=False)
def _stop_interpreted(store: Store, parked: cython.pointer(Parked)) -> cython.void:
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    current.ip = ctx.host_ip
    current.fp = ctx.host_fp
    current.function = ctx.host_function
    current.values = ctx.stack_top


@cython.cfunc
@cython.exceptval(check=False)
def _results_interpreted(store: Store, parked: cython.pointer(Parked)) -> cython.pointer(cython.const[uint64_t]):
    return cython.cast(cython.pointer(uint64_t), store.guest.ctx.stack_base)


@cython.cfunc
@cython.exceptval(check=False)
def _may_catch_interpreted(parked: cython.pointer(Parked)) -> cython.bint:
    cont: cython.pointer(WlCont) = parked.current
    while cont != cython.NULL:
        if cont.catch_top:
            return True
        cont = cython.cast(cython.pointer(WlCont), cont.parent)
    return False


interpreted.prepare = _prepare_interpreted
interpreted.release = _release_interpreted
interpreted.enter = _enter_interpreted
interpreted.take_arguments = _take_arguments_interpreted
interpreted.begin = _begin_interpreted
interpreted.take_results = _take_results_interpreted
interpreted.go_on = _go_on_interpreted
interpreted.stop = _stop_interpreted
interpreted.results = _results_interpreted
interpreted.may_catch = _may_catch_interpreted


# --- compiled code ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _prepare_compiled(store: Store, parked: cython.pointer(Parked), room: uint64_t) -> cython.int:
    """A native stack, with the words on its top."""
    stack: cython.pointer(RootStack) = take_root(store.guest)
    if stack == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    parked.native_stack = stack
    # The stack begins below them, and its pointer must be a multiple of 16.
    parked.words = cython.cast(cython.pointer(uint64_t), stack) - ((room + 1) & ~cython.cast(uint64_t, 1))
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _release_compiled(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    parked.root.control = cython.NULL  # it doesn't belong into the pool of continuations' stacks
    release_root(guest, cython.cast(cython.pointer(RootStack), parked.native_stack))
    parked.native_stack = cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def _enter_compiled(store: Store, entry: cython.pointer(Entry), has_waited: cython.bint) -> cython.void:
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    parked: cython.pointer(Parked) = entry.parked
    if entry.outer != cython.NULL:
        entry.base = ctx.stack_top
    begin_entry(store.guest, entry, cython.cast(cython.pointer(RootStack), parked.native_stack), parked.current)
    if has_waited:
        ctx.guest_sp = parked.sp
        ctx.guest_fp = parked.fp


@cython.cfunc
@cython.exceptval(check=False)
def _take_arguments_compiled(
    store: Store,
    parked: cython.pointer(Parked),
    words: cython.pointer(cython.const[uint64_t]),
    slots: uint32_t,
    room: uint64_t,
) -> uint64_t:
    memcpy(parked.words, words, SLOT_BYTES * cython.cast(uint64_t, slots))
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _run_compiled(
    store: Store, entry: cython.pointer(Entry), function: cython.pointer(WlFunction), code: cython.p_char
) -> uint64_t:
    """Without `code` it goes on where it stands."""
    start = cython.declare(Start)
    start.code = code
    start.function = function.register_call
    start.environment = function.environment
    start.words = entry.parked.words
    start.top = entry.parked.words
    return compiler_tier.run(store, entry, cython.address(start))


@cython.cfunc
@cython.exceptval(check=False)
def _begin_compiled(store: Store, entry: cython.pointer(Entry), function: cython.pointer(WlFunction)) -> uint64_t:
    return _run_compiled(store, entry, function, cython.cast(cython.p_char, function.array_call))


@cython.cfunc
@cython.exceptval(check=False)
def _take_results_compiled(
    store: Store, parked: cython.pointer(Parked), words: cython.pointer(cython.const[uint64_t]), slots: uint32_t
) -> cython.void:
    if slots:
        parked.results[0] = words[0]
        memcpy(
            cython.cast(cython.pointer(uint64_t), store.guest.ctx.args) + 1,
            words + 1,
            SLOT_BYTES * cython.cast(uint64_t, slots - 1),
        )


@cython.cfunc
@cython.exceptval(check=False)
def _go_on_compiled(
    store: Store,
    entry: cython.pointer(Entry),
    function: cython.pointer(WlFunction),
    slots: uint32_t,
    pending: uint64_t,
) -> uint64_t:
    if pending:
        store.guest.ctx.pending = pending  # as when a host function raises it
    return _run_compiled(store, entry, function, cython.NULL)


@cython.cfunc
@cython.exceptval(check=False)
def _stop_compiled(store: Store, parked: cython.pointer(Parked)) -> cython.void:
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    parked.sp = ctx.guest_sp
    parked.fp = ctx.guest_fp
    parked.results = cython.cast(cython.pointer(uint64_t), ctx.host_ip)


@cython.cfunc
@cython.exceptval(check=False)
def _results_compiled(store: Store, parked: cython.pointer(Parked)) -> cython.pointer(cython.const[uint64_t]):
    return parked.words


@cython.cfunc
@cython.exceptval(check=False)
def _may_catch_compiled(parked: cython.pointer(Parked)) -> cython.bint:
    """That isn't known before it runs."""
    return True


compiled.prepare = _prepare_compiled
compiled.release = _release_compiled
compiled.enter = _enter_compiled
compiled.take_arguments = _take_arguments_compiled
compiled.begin = _begin_compiled
compiled.take_results = _take_results_compiled
compiled.go_on = _go_on_compiled
compiled.stop = _stop_compiled
compiled.results = _results_compiled
compiled.may_catch = _may_catch_compiled


# --- both ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _prepare_mixed(store: Store, parked: cython.pointer(Parked), room: uint64_t) -> cython.int:
    """A native stack, and the value stack that comes with it; if there is memory for them, and enough is left."""
    guest: cython.pointer(Guest) = store.guest
    stack: cython.pointer(RootStack)
    if guest.used_bytes + _SPARED > guest.memory_limit:
        return 0
    stack = take_root(guest)
    if stack == cython.NULL:
        return 0
    if not give_values(guest, stack):
        release_root(guest, stack)
        return 0
    parked.beside = stack
    parked.root.stack_base = stack.values
    parked.root.stack_end = stack.values + stack.values_size
    parked.root.state |= cython.cast(uint64_t, 1) << STAYS_BIT
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _release_mixed(guest: cython.pointer(Guest), parked: cython.pointer(Parked)) -> cython.void:
    stack: cython.pointer(RootStack) = cython.cast(cython.pointer(RootStack), parked.beside)
    stack.values_size = parked.root.stack_end - parked.root.stack_base
    parked.root.control = cython.NULL  # it doesn't belong into the pool of continuations' stacks
    release_root(guest, stack)
    parked.beside = cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def _enter_mixed(store: Store, entry: cython.pointer(Entry), has_waited: cython.bint) -> cython.void:
    parked: cython.pointer(Parked) = entry.parked
    _enter_interpreted(store, entry, has_waited)
    entry.beside = parked.beside
    use_root(store.guest, entry, cython.cast(cython.pointer(RootStack), parked.beside))
    if has_waited:
        store.guest.ctx.guest_sp = parked.sp
        store.guest.ctx.guest_fp = parked.fp


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_in_compiled(parked: cython.pointer(Parked)) -> cython.bint:
    """Whether a guest that has both waits in compiled code."""
    return parked.current.fp == _CALLED_BY_COMPILED


@cython.cfunc
@cython.exceptval(check=False)
def _take_results_mixed(
    store: Store, parked: cython.pointer(Parked), words: cython.pointer(cython.const[uint64_t]), slots: uint32_t
) -> cython.void:
    if _is_in_compiled(parked):
        _take_results_compiled(store, parked, words, slots)
    else:
        _take_results_interpreted(store, parked, words, slots)


@cython.cfunc
@cython.exceptval(check=False)
def _go_on_mixed(
    store: Store,
    entry: cython.pointer(Entry),
    function: cython.pointer(WlFunction),
    slots: uint32_t,
    pending: uint64_t,
) -> uint64_t:
    if not _is_in_compiled(entry.parked):
        return _go_on_interpreted(store, entry, function, slots, pending)
    if pending:
        store.guest.ctx.pending = pending  # as when a host function raises it
    store.guest.ctx.stack_top = entry.parked.current.values  # compiled code needs to know
    return _run_interpreted(store, entry, function, cython.cast(cython.p_char, cython.address(_crosses)), 0)


@cython.cfunc
@cython.exceptval(check=False)
def _stop_mixed(store: Store, parked: cython.pointer(Parked)) -> cython.void:
    _stop_interpreted(store, parked)
    _stop_compiled(store, parked)


mixed.prepare = _prepare_mixed
mixed.release = _release_mixed
mixed.enter = _enter_mixed
mixed.take_arguments = _take_arguments_interpreted
mixed.begin = _begin_interpreted
mixed.take_results = _take_results_mixed
mixed.go_on = _go_on_mixed
mixed.stop = _stop_mixed
mixed.results = _results_interpreted
mixed.may_catch = _may_catch_compiled
