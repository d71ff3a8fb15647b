# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Entries: the one way from the host into guest code, and back.

An `Entry` lives on its maker's C stack; the store is locked. Entries do the same in all tiers:

* `begin` saves what the context holds for outer entries, and gives the entry a stack (`Tier.begin`);
* `Tier.run` runs guest code until it leaves, and returns the code that it left with: 0 for a return;
* `leave` ends the entry after a return. After anything else `fail` raises the reason, and leaves.

`call` does all of this. Code that parks guests (`wasmloom.host.tasks`) has stacks of its own for them, so it uses
`save` instead of `begin`, and `restore` instead of `leave`, which ends stacks.

In a store that mixes (`Store.mixes`), entries of the interpreter's tier also run compiled code, function by function:
see `_begin_mixed`, and `wasmloom.target.crossings`.

Entries nest strictly. Each holds exactly what it has to restore. A trap unwinds all stacks down to the innermost
entry's `Entry.bottom`, and none below.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.contract._layout import SLOT_BYTES, WlCont, WlContext, WlFunction, WlInstance
from cython.cimports.wasmloom.runtime import guests, hooks
from cython.cimports.wasmloom.runtime.growth import grow_stack, reserve_stack
from cython.cimports.wasmloom.runtime.guests import (
    NOW,
    TICKING,
    Entry,
    Guest,
    c_stack_left,
    enter_python,
    epoch_is_over,
    leave_python,
    now_ns,
    wake_ticker,
)
from cython.cimports.wasmloom.runtime.native_stacks import (
    RootStack,
    begin_entry,
    leave_root,
    release_root,
    take_root,
    use_root,
)
from cython.cimports.wasmloom.runtime.stacks import stays, unwind_to
from cython.cimports.wasmloom.runtime.store import (
    Start,
    Store,
    Tier,
    compiler_tier,
    copy_words,
    interpreter_tier,
)
from cython.cimports.wasmloom.system._capi import PyErr_Restore, wl_python_ends

from wasmloom.contract.traps import (
    CHANGE_TIER,
    HOST_EXCEPTION,
    OUT_OF_MEMORY,
    STACK_EXHAUSTED,
    TIMEOUT,
    UNCAUGHT_EXCEPTION,
)
from wasmloom.errors import WasmError

_CHANGE_TIER = cython.declare(uint64_t, CHANGE_TIER)
_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_STACK_EXHAUSTED = cython.declare(uint64_t, STACK_EXHAUSTED)
_HOST_EXCEPTION = cython.declare(uint64_t, HOST_EXCEPTION)
_TIMEOUT = cython.declare(uint64_t, TIMEOUT)
_UNCAUGHT_EXCEPTION = cython.declare(uint64_t, UNCAUGHT_EXCEPTION)
#: All zero, as C's globals are. Copying it takes less time than calling memset.
_NOTHING = cython.declare(WlCont)


# --- calls ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def count_call(store: Store) -> cython.int:
    """Count a call from the host into a store of the tier "auto"; see `wasmloom.tiers.policy`."""
    if store.guest.ticks_seen >= store.guest.change_at and store.engine.threshold is None:
        store.calls_left = 1  # earlier calls have taken long
    store.calls_left -= 1
    if store.calls_left == 0:
        store.calls_left = 1  # if this call is interrupted, the next one checks again
        if store.guest.heap.holds == 0 and not wl_python_ends():
            store.calls_left = hooks.check_at_call(store)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _call_interpreted(
    store: Store,
    function: cython.pointer(WlFunction),
    words: cython.pointer(uint64_t),
    param_slots: uint32_t,
    result_slots: uint32_t,
) -> cython.int:
    """See `Tier.call`."""
    return call_bytecode(
        store,
        cython.cast(cython.pointer(WlInstance), function.instance),
        cython.cast(cython.pp_char, function.code_cell)[0],
        words,
        param_slots,
        result_slots,
    )


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def call_bytecode(
    store: Store,
    instance: cython.pointer(WlInstance),
    code: cython.p_char,
    words: cython.pointer(uint64_t),
    param_slots: uint32_t,
    result_slots: uint32_t,
) -> cython.int:
    """Run bytecode in a frame that begins with `words`, and get its first `result_slots` slots back, as `call` does."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    entry = cython.declare(Entry)
    start = cython.declare(Start)
    left: uint64_t
    _begin(store, cython.address(entry))
    _begin_bytecode(store, cython.address(entry), max(param_slots, result_slots))
    copy_words(cython.cast(cython.pointer(uint64_t), ctx.stack_base + entry.base), words, param_slots)
    start.code = code
    start.environment = instance
    start.frame = entry.base
    left = _run_bytecode(store, cython.address(entry), cython.address(start))
    if left == 0:
        copy_words(words, cython.cast(cython.pointer(uint64_t), ctx.stack_base + entry.base), result_slots)
        leave(store, cython.address(entry))
        return 0
    return fail(store, left, cython.address(entry))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _call_compiled(
    store: Store,
    function: cython.pointer(WlFunction),
    words: cython.pointer(uint64_t),
    param_slots: uint32_t,
    result_slots: uint32_t,
) -> cython.int:
    """See `Tier.call`."""
    entry = cython.declare(Entry)
    start = cython.declare(Start)
    left: uint64_t
    _begin(store, cython.address(entry))
    _begin_compiled(store, cython.address(entry), 0)
    start.code = cython.cast(cython.p_char, function.array_call)
    start.function = function.register_call
    start.environment = function.environment
    start.words = words
    start.top = entry.native_stack
    left = _run_compiled(store, cython.address(entry), cython.address(start))
    if left == 0:
        leave(store, cython.address(entry))
        return 0
    return fail(store, left, cython.address(entry))


# --- beginning ---


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def save(store: Store, entry: cython.pointer(Entry)) -> cython.int:
    """Save what the context holds for outer entries."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    if store.interrupting:
        return _refuse(store, entry, 0)
    entry.outer = store.guest.entry
    entry.native_stack = cython.NULL
    entry.beside = cython.NULL
    if entry.outer == cython.NULL:
        # There is no outer entry: no stack runs, and the context's fields about a host call mean nothing.
        store.guest.deadline = 0
        entry.stack_top = 0
        entry.outer_current = cython.NULL
        entry.outer_catch_top = 0
        entry.depth_left = 0
        return _start_clocks(store, entry) if store.is_timed else 0
    entry.host_ip = ctx.host_ip
    entry.host_fp = ctx.host_fp
    entry.host_function = ctx.host_function
    entry.depth_left = ctx.depth_left
    entry.stack_top = ctx.stack_top
    entry.outer_current = cython.cast(cython.pointer(WlCont), ctx.current)
    entry.outer_catch_top = ctx.catch_top
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _start_clocks(store: Store, entry: cython.pointer(Entry)) -> cython.int:
    """Note when an outermost entry has to end, and how deep it may get. Raises the trap when its epoch is over
    already."""
    guest: cython.pointer(Guest) = store.guest
    guest.ctx.depth_left = guest.depth
    if epoch_is_over(guest):
        return _refuse(store, entry, _TIMEOUT)
    guest.time_deadline = now_ns() + store.timeout_ns if store.timeout_ns else 0
    guest.deadline = guest.time_deadline
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def begin(store: Store, entry: cython.pointer(Entry), tier: cython.pointer(Tier), room: uint64_t) -> cython.int:
    """Begin an entry that runs code of a tier, with room for that many words.

    Raises `Trap` when there is no room or no memory; then nothing has begun.
    """
    _begin(store, entry)
    return tier.begin(store, entry, room)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _begin(store: Store, entry: cython.pointer(Entry)) -> cython.int:
    """The part of `begin` that is the same in all tiers. The entry is its own bottom."""
    save(store, entry)
    entry.base = 0 if entry.outer == cython.NULL else store.guest.ctx.stack_top
    entry.bottom = cython.address(entry.root)
    entry.may_wait = False
    entry.root = _NOTHING
    if entry.outer_current != cython.NULL:
        entry.root.owner = entry.outer_current.owner
    return 0 if c_stack_left() else _refuse(store, entry, _STACK_EXHAUSTED)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _begin_bytecode(store: Store, entry: cython.pointer(Entry), room: uint64_t) -> cython.int:
    """See `Tier.begin`: the frame lies on the store's value stack."""
    guest: cython.pointer(Guest) = store.guest
    code: uint64_t
    if store.mixes and (
        entry.root.owner == cython.NULL or stays(cython.cast(cython.pointer(WlCont), entry.root.owner))
    ):
        return _begin_mixed(store, entry, room)
    code = grow_stack(guest, entry.base + SLOT_BYTES * room)
    if code:
        return _refuse(store, entry, code)
    guest.entry = entry
    guest.ctx.current = entry.bottom
    guest.ctx.catch_top = 0
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _begin_mixed(store: Store, entry: cython.pointer(Entry), room: uint64_t) -> cython.int:
    """See `Tier.begin`: in a store that mixes, the entry has a native stack beside its place on the value stack.

    Not on the stack of a continuation, which may move: what runs there stays bytecode. Handlers see that by the root's
    control. Entries that may wait (`wasmloom.host.tasks`) begin in `wasmloom.tiers.waiting`.
    """
    guest: cython.pointer(Guest) = store.guest
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    root: cython.pointer(RootStack) = take_root(guest)
    code: uint64_t
    if root == cython.NULL:
        return _refuse(store, entry, _OUT_OF_MEMORY)
    # Moving the stack once is as good as growing it: nothing holds an address in it where the host enters.
    code = grow_stack(guest, entry.base + SLOT_BYTES * room)
    if code == 0 and entry.root.owner == cython.NULL and guest.reserved == 0 and not reserve_stack(guest):
        code = _OUT_OF_MEMORY
    if code:
        release_root(guest, root)
        return _refuse(store, entry, code)
    entry.beside = root
    use_root(guest, entry, root)
    guest.entry = entry
    ctx.current = entry.bottom
    ctx.catch_top = 0
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _begin_compiled(store: Store, entry: cython.pointer(Entry), room: uint64_t) -> cython.int:
    """See `Tier.begin`: the entry has a native stack of its own, whose root runs. Arguments aren't on it."""
    root: cython.pointer(RootStack) = take_root(store.guest)
    if root == cython.NULL:
        return _refuse(store, entry, _OUT_OF_MEMORY)
    begin_entry(store.guest, entry, root, cython.address(entry.root))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _refuse(store: Store, entry: cython.pointer(Entry), code: uint64_t) -> cython.int:
    """Raise why an entry doesn't begin: a trap's code, or 0 if nothing may enter now. Separate to keep `begin`
    small."""
    if code == 0:
        raise WasmError("a signal handler or finaliser can't call into the store whose guest it interrupted")
    if code == _STACK_EXHAUSTED:
        raise hooks.too_deep(store, cython.cast(uint64_t, entry))
    raise store.trap(code)


# --- running ---


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _to_guest(store: Store, entry: cython.pointer(Entry)) -> cython.void:
    """Prepare to run an entry's guest code, and release the GIL."""
    guest: cython.pointer(Guest) = store.guest
    if entry.outer == cython.NULL:
        guest.thread = store.owner
        guest.ctx.interrupt = 0
        if guest.change_when == NOW:
            guest.ctx.interrupt = 1
            guest.ctx.stack_limit = cython.NULL
        guest.running = 1
    leave_python(cython.address(guest.ctx))
    if guests.ticker_state != TICKING:
        wake_ticker()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _from_guest(store: Store, entry: cython.pointer(Entry)) -> uint64_t:
    """Return to Python from guest code; ticks end with the outermost entry. Returns the code that the guest left
    with."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    code: uint64_t
    if entry.outer == cython.NULL:
        guests.stop_running(store.guest)
    enter_python(ctx)
    code = ctx.trap_code
    ctx.trap_code = 0
    return code


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def interpret(store: Store, entry: cython.pointer(Entry), start: cython.pointer(cython.const[Start])) -> uint64_t:
    """Run bytecode until it leaves, or stops to go on in another tier."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    _to_guest(store, entry)
    hooks.run_guest(
        ctx,
        cython.cast(cython.pointer(WlInstance), start.environment),
        start.code,
        cython.cast(cython.pointer(uint64_t), ctx.stack_base + start.frame),
    )
    return _from_guest(store, entry)


@cython.cfunc
@cython.exceptval(check=False)
def _run_bytecode(store: Store, entry: cython.pointer(Entry), start: cython.pointer(cython.const[Start])) -> uint64_t:
    """See `Tier.run`. Code that stops for a change of tier goes on as compiled code."""
    code: uint64_t = interpret(store, entry, start)
    while code == _CHANGE_TIER:
        code = hooks.change_tier(cython.cast(cython.p_void, store), entry)
    return code


@cython.cfunc
@cython.exceptval(check=False)
def _run_compiled(
    store: Store, entry: cython.pointer(Entry), start: cython.pointer(cython.const[Start])
) -> uint64_t:
    """See `Tier.run`. Runs at the top of the entry's stack; without code, resumes the guest that was parked there."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    code: uint64_t
    _to_guest(store, entry)
    if start.code == cython.NULL:
        hooks.stubs.go_on(ctx, start.top)
    else:
        hooks.stubs.enter(ctx, start.code, start.function, start.environment, start.words, start.top)
    code = _from_guest(store, entry)
    if code == 0 and ctx.pending != 0:
        ctx.exception = ctx.pending
        code = _UNCAUGHT_EXCEPTION
    ctx.pending = 0
    return code


# --- ending ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def leave(store: Store, entry: cython.pointer(Entry)) -> cython.void:
    """End all stacks of an entry except the one at its bottom, and restore what it has saved."""
    if store.guest.ctx.current != entry.bottom:
        unwind_to(store.guest, entry.bottom)
    restore(store, entry)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def restore(store: Store, entry: cython.pointer(Entry)) -> cython.void:
    """Restore what an entry has saved. A running stack that outlives the entry gets its memory noted."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    current: cython.pointer(WlCont)
    if entry.native_stack != cython.NULL:
        leave_root(store.guest, entry, cython.cast(cython.pointer(RootStack), entry.native_stack))
    elif entry.beside != cython.NULL:
        leave_root(store.guest, entry, cython.cast(cython.pointer(RootStack), entry.beside))
    if entry.may_wait and entry.native_stack == cython.NULL:
        current = cython.cast(cython.pointer(WlCont), ctx.current)
        current.stack_base = ctx.stack_base
        current.stack_end = ctx.stack_end
        current.catch_top = ctx.catch_top
        ctx.stack_base = entry.outer_base
        ctx.stack_end = entry.outer_end
        ctx.stack_limit = entry.outer_end
    ctx.current = entry.outer_current
    ctx.catch_top = entry.outer_catch_top
    ctx.stack_top = entry.stack_top
    store.guest.entry = entry.outer
    if entry.outer != cython.NULL:
        ctx.host_ip = entry.host_ip
        ctx.host_fp = entry.host_fp
        ctx.host_function = entry.host_function
        ctx.depth_left = entry.depth_left


@cython.cfunc
@cython.exceptval(-1, check=False)
def fail(store: Store, code: uint64_t, entry: cython.pointer(Entry)) -> cython.int:
    """Raise the reason why an entry ended, and leave it."""
    error_type: cython.pointer(PyObject) = store.error_type
    error_value: cython.pointer(PyObject) = store.error_value
    error_traceback: cython.pointer(PyObject) = store.error_traceback
    if code == _HOST_EXCEPTION:
        store.error_type = store.error_value = store.error_traceback = cython.NULL
        leave(store, entry)
        PyErr_Restore(error_type, error_value, error_traceback)
        return -1
    if code == _UNCAUGHT_EXCEPTION:
        word = store.guest.ctx.exception
        leave(store, entry)
        store.guest.heap.holds += 1  # until Python holds the exception
        try:
            error = hooks.python_exception(store, word)
        finally:
            store.guest.heap.holds -= 1
        raise error
    if entry.native_stack != cython.NULL:
        # The running stack isn't used any more, and the last host call may have been on another one. Making frames can
        # run finalisers, which may collect.
        store.guest.ctx.guest_sp = cython.cast(
            cython.p_char, cython.cast(cython.pointer(WlCont), store.guest.ctx.current).control
        )
    try:
        frames = hooks.frames_of_entry(store, cython.cast(uint64_t, entry), True)
    except Exception:
        if not wl_python_ends():
            raise
        frames = ()  # Python is ending: the modules that read frames are gone
    finally:
        leave(store, entry)
    raise store.trap(code, frames)


interpreter_tier.name = b"interpreter"
interpreter_tier.call = _call_interpreted
interpreter_tier.begin = _begin_bytecode
interpreter_tier.run = _run_bytecode
compiler_tier.name = b"compiler"
compiler_tier.call = _call_compiled
compiler_tier.begin = _begin_compiled
compiler_tier.run = _run_compiled
