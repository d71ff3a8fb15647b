# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""On-stack replacement: a guest that runs bytecode goes on as compiled code, in the middle of a function.

The interpreter stops where its state is known (a loop's label or a function's beginning; see ``CHANGE_TIER``). From
then on the store runs compiled code only. The frames of bytecode on a stack go on one by one, the innermost first:
`wl_frames` (see `wasmloom.target.stubs`) asks for the next one and calls its OSR entry (see `wasmloom.compiler.osr`).
The results go to where the caller's frame expects them, and so on until no frames are left. OSR entries are compiled
when they are needed: of a deep stack only the innermost at first.

A stack of bytecode that is suspended, or waits for a stack that it has resumed, becomes a native stack: its frames are
copied to the top (`_settle`), and it goes on with the outcome of the switch. Stacks of the running chain become native
at once, suspended ones when they are resumed.

Invariants:

* No bytecode runs in a store that has changed over: frames of bytecode that are left on stacks go on as described
  above.
* The `WlCont` of a stack describes the frames that wait on it (`waiting_bytes`). They don't move again. The frames of a
  plain entry stay in the store's value stack, below ``ctx.stack_top``. The collector sees all of them.
* Only the outermost entry changes over; otherwise bytecode would remain below a host function.
* An OSR entry reads a frame's operands and locals before anything is written to the frame.
"""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memmove
from cython.cimports.wasmloom.contract._handlers import (
    AT_CLAUSE_KIND,
    AT_CLAUSE_TAG,
    AT_RESUME_CLAUSE_COUNT,
    AT_RESUME_CLAUSES,
    AT_RESUME_VALUES,
    SIZE_CLAUSE,
)
from cython.cimports.wasmloom.contract._layout import (
    CONT_SUSPENDED,
    RT_NEXT_FRAME,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlControl,
)
from cython.cimports.wasmloom.interpreter.frames import CALLER, END_OF_CONTINUATION, Below, Cursor, to_caller
from cython.cimports.wasmloom.runtime.entries import interpret
from cython.cimports.wasmloom.runtime.guests import (
    NEVER,
    NOW,
    WHEN_BUSY,
    WHEN_READY,
    Entry,
    Guest,
    enter_python,
    leave_python,
)
from cython.cimports.wasmloom.runtime.hooks import ChangeTier, set_change, set_runtime_call, stubs
from cython.cimports.wasmloom.runtime.native_stacks import (
    MAX_ARGUMENTS,
    RootStack,
    begin_entry,
    release_root,
    set_convert,
    stack_with_room,
    take_root,
    usable_top,
)
from cython.cimports.wasmloom.runtime.stacks import (
    free_grown,
    last_of,
    release_native_stack,
    set_waiting_bytes,
    set_waiting_instance,
    waiting_bytes,
    waiting_instance,
)
from cython.cimports.wasmloom.runtime.store import Start, Store, interpreter_tier
from cython.cimports.wasmloom.system._capi import wl_python_ends
from cython.cimports.wasmloom.target._processor import STACK_ALIGNMENT
from cython.cimports.wasmloom.tiers.change import NextFrame, Prepare, Unchecked

from wasmloom.contract.traps import HOST_EXCEPTION, OUT_OF_MEMORY, TIMEOUT
from wasmloom.interpreter.code_space import find
from wasmloom.interpreter.frames import standing
from wasmloom.system import log
from wasmloom.system.apart import run_apart
from wasmloom.tiers.frames import place_of_suspended, suspended
from wasmloom.tiers.policy import check_inside_call
from wasmloom.tiers.stores import compiled_code, use_compiled

_HOST_EXCEPTION = cython.declare(uint64_t, HOST_EXCEPTION)
_TIMEOUT = cython.declare(cython.int, TIMEOUT)
_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
#: A change compiles for at most so many frames of a chain of stacks, and for so many suspended stacks.
_MOST_FRAMES = cython.declare(cython.int, 200)
_MOST_SUSPENDED = cython.declare(cython.int, 100)
#: At least this many bytes of a stack are copied: a function's results may need more room than its frames have used.
_RESULT_BYTES = cython.declare(uint64_t, SLOT_BYTES * MAX_ARGUMENTS)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _word(address: uint64_t) -> uint64_t:
    return cython.cast(cython.pointer(uint64_t), address)[0]


# --- where bytecode stands ---


def _code_at(store: Store, ip: uint64_t, abandoned: object) -> tuple:
    """The code with which a frame of bytecode goes on, and the slot of its return ip. For `abandoned` see `run_apart`.

    `ip` is where a loop or a function begins, or lies in a call or in an instruction that has switched stacks. Raises
    what compiling raises, and `LookupError` for an address that is in no function.
    """
    found = find(ip)
    if found is None:
        raise LookupError("not an address of bytecode")
    space, index, at = found
    module = next(module for module in list(store.module_at.values()) if module.code_space is space)
    return module.compiled_osr_entry(space, index, at, abandoned), space.record_slot(index)


@cython.cfunc
def _standing(store: Store) -> list:
    """The places where running frames of a store stand, and some suspended ones: as `find` returns them, innermost
    first."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    found: list = standing(
        cython.cast(uint64_t, ctx.trap_ip),
        cython.cast(uint64_t, ctx.trap_fp),
        cython.cast(uint64_t, ctx.trap_instance),
        cython.cast(uint64_t, ctx.current),
        _MOST_FRAMES,
        cython.cast(uint64_t, store.guest.entry.bottom),
    )
    for address in suspended(store, _MOST_SUSPENDED):
        found += standing(*place_of_suspended(address, _MOST_FRAMES))
    return list(dict.fromkeys([position for position, _, _ in found]))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _next_frame(ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t)) -> uint64_t:
    """See `next_frame` in `wasmloom.contract.layout`."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    code: uint64_t
    if waiting_bytes(cont) == 0:
        words[3] = 0
        return 0
    enter_python(ctx)
    code = cython.cast(NextFrame, cython.cast(cython.p_void, _next_frame_with_gil))(ctx, words)
    leave_python(ctx)
    return code


@cython.cfunc
@cython.exceptval(check=False)
def _next_frame_with_gil(ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t)) -> uint64_t:
    store: Store = cython.cast(Store, ctx.store)
    before: cython.bint = store.interrupting
    ended: cython.int
    store.interrupting = True  # signals arrive while it compiles; nothing may enter the guest meanwhile
    ended = cython.cast(Unchecked, cython.cast(cython.p_void, _find_next_frame))(store, words)
    store.interrupting = before
    if ended >= 0:
        return ended
    store.take_error()
    return _HOST_EXCEPTION


@cython.cfunc
@cython.exceptval(-1, check=False)
def _find_next_frame(store: Store, words: cython.pointer(uint64_t)) -> cython.int:
    """Have the next frame's OSR entry compiled. Returns 0, or the code of the trap when the call's time is over."""
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    here = cython.declare(Cursor)
    below: Below
    outcome: object = run_apart(partial(_code_at, store, cython.cast(uint64_t, cont.ip)), store.deadline)
    if outcome is None:
        return _TIMEOUT
    code, record = outcome.get()
    here.fp = cont.fp
    here.instance = cython.cast(uint64_t, waiting_instance(cont))
    words[3] = code
    words[4] = here.instance
    words[5] = here.fp
    below = to_caller(cython.address(here), _word(here.fp + SLOT_BYTES * cython.cast(uint64_t, record)))
    words[6] = cython.cast(uint64_t, ctx.args) if below == END_OF_CONTINUATION else here.results
    if below == CALLER:  # it is the next
        cont.ip = cython.cast(cython.p_char, here.ip)
        cont.fp = here.fp
        set_waiting_instance(cont, cython.cast(cython.p_void, here.instance))
    else:
        set_waiting_bytes(cont, 0)
    return 0


# --- from stacks of bytecode to native ones ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move_clauses(cont: cython.pointer(WlCont), place: cython.pointer(uint64_t)) -> cython.void:
    """Describe the clauses of the `resume` that waits for a stack, as compiled code does."""
    instruction: cython.p_char = cont.resume
    clause: cython.p_char = instruction + AT_RESUME_CLAUSES
    entry: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), place + 1)
    i: uint64_t
    place[0] = _field(instruction, AT_RESUME_CLAUSE_COUNT)
    place[1] = 0
    for i in range(place[0]):
        entry[2 * i] = cython.cast(cython.pointer(uint32_t), clause + AT_CLAUSE_TAG)[0]
        entry[2 * i + 1] = _field(clause, AT_CLAUSE_KIND)
        clause += SIZE_CLAUSE
    cont.resume = cython.cast(cython.p_char, place)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _field(instruction: cython.p_char, at: cython.int) -> uint64_t:
    return cython.cast(cython.pointer(uint16_t), instruction + at)[0]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _aligned(size: uint64_t) -> uint64_t:
    """`size`, rounded up to the alignment of native stacks."""
    return (size + (STACK_ALIGNMENT - 1)) & ~cython.cast(uint64_t, STACK_ALIGNMENT - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _settled_size(cont: cython.pointer(WlCont), used: uint64_t) -> uint64_t:
    """Bytes that the frames of a stack of bytecode, `used` of its memory, and the clauses behind them take."""
    clauses: uint64_t = 0
    if cont.parent != cython.NULL:
        clauses = cython.sizeof(uint64_t) * (1 + max(_field(cont.resume, AT_RESUME_CLAUSE_COUNT), 1))
    return _aligned(used + clauses)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _used_by_parent(child: cython.pointer(WlCont)) -> uint64_t:
    """Bytes in use of the stack of bytecode that waits for `child`."""
    return cython.cast(cython.pointer(WlCont), child.parent).fp + SLOT_BYTES * _field(child.resume, AT_RESUME_VALUES)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reserve_chain(
    guest: cython.pointer(Guest), cont: cython.pointer(WlCont), last: cython.pointer(WlCont), used: uint64_t
) -> cython.bint:
    """Take a native stack for each stack of bytecode in a chain. Takes none and returns False when there is no
    memory."""
    child: cython.pointer(WlCont) = cont
    while True:
        child.control = stack_with_room(guest, _settled_size(child, used))
        if child.control == cython.NULL:
            _release_chain(guest, cont, child)
            return False
        if child == last:
            return True
        used = _used_by_parent(child)
        child = cython.cast(cython.pointer(WlCont), child.parent)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _release_chain(
    guest: cython.pointer(Guest), cont: cython.pointer(WlCont), end: cython.pointer(WlCont)
) -> cython.void:
    """Release the native stacks of a chain, up to `end`, which has none."""
    while cont != end:
        release_native_stack(guest, cont)
        cont = cython.cast(cython.pointer(WlCont), cont.parent)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _settle(
    guest: cython.pointer(Guest), cont: cython.pointer(WlCont), ip: cython.p_char, fp: uint64_t, used: uint64_t
) -> cython.p_char:
    """Move the frames of a stack of bytecode to the top of its new native stack, where they wait.

    The innermost is at `fp`, to go on at `ip`. `used` bytes of the old memory are copied, and it is freed. Returns the
    native stack's stack pointer.
    """
    control: cython.pointer(WlControl) = cython.cast(cython.pointer(WlControl), cont.control)
    frames: cython.p_char = usable_top(control) - _settled_size(cont, used)
    memcpy(frames, cont.stack_base, used)
    if cont.parent != cython.NULL:
        _move_clauses(cont, cython.cast(cython.pointer(uint64_t), frames + used))
    free_grown(guest, cont)
    control.cont = cont
    cont.ip = ip
    cont.fp = cython.cast(uint64_t, frames) + fp
    set_waiting_instance(cont, cont.instance)
    set_waiting_bytes(cont, used)
    cont.first_tag = cython.NULL
    if cont.parent != cython.NULL:
        cont.resumer = cython.cast(cython.pointer(WlCont), cont.parent).instance
    # As for a stack of compiled code that runs: see `WlCont.last`.
    cont.state = CONT_SUSPENDED
    cont.last = cont
    return frames


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_start(control: cython.pointer(WlControl), cont: cython.pointer(WlCont), sp: cython.p_char) -> cython.void:
    """Set a control context to where a settled stack goes on."""
    own: cython.pointer(WlControl) = cython.cast(cython.pointer(WlControl), cont.control)
    control.sp = sp
    control.fp = cython.cast(cython.p_char, cython.address(own.fp))
    control.pc = cython.cast(cython.p_char, stubs.frames_start)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _settle_chain(
    guest: cython.pointer(Guest),
    cont: cython.pointer(WlCont),
    last: cython.pointer(WlCont),
    ip: cython.p_char,
    used: uint64_t,
) -> cython.bint:
    """Settle a chain of stacks from the innermost, `cont`, to the last. Does nothing and returns False without memory.

    Afterwards each control context says where the parent goes on, and that of the last stack where the innermost goes
    on: compiled code leaves a suspended chain in the same state.
    """
    child: cython.pointer(WlCont) = cont
    parent: cython.pointer(WlCont)
    fp: uint64_t = cont.fp
    first: cython.p_char = cython.NULL
    sp: cython.p_char
    inner: cython.pointer(WlControl) = cython.NULL
    used_by_parent: uint64_t = 0
    if cont.control == cython.NULL and not _reserve_chain(guest, cont, last, used):
        return False
    while True:
        parent = cython.cast(cython.pointer(WlCont), child.parent)
        if child != last:
            used_by_parent = _used_by_parent(child)  # `_settle` moves what it reads
        sp = _settle(guest, child, ip, fp, used)
        if inner == cython.NULL:
            first = sp
        else:
            _set_start(inner, child, sp)
        inner = cython.cast(cython.pointer(WlControl), child.control)
        if child == last:
            break
        ip = parent.ip - 1
        fp = parent.fp
        used = used_by_parent
        child = parent
    _set_start(inner, cont, first)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _convert(guest: cython.pointer(Guest), cont: cython.pointer(WlCont), used: uint64_t) -> cython.bint:
    """Settle a suspended chain that is resumed. The values of the `resume` are in its innermost frame already."""
    last: cython.pointer(WlCont) = last_of(cont)
    settled: cython.bint = _settle_chain(guest, cont, last, cont.ip - 1, used)
    cont.last = last
    return settled


# --- the change ---


@cython.cfunc
@cython.exceptval(check=False)
def _change(store_pointer: cython.p_void, entry: cython.pointer(Entry)) -> uint64_t:
    """Let an entry whose bytecode has stopped go on as compiled code; returns the code it left with, 0 for a return.

    When that is impossible, the bytecode goes on.
    """
    store: Store = cython.cast(Store, store_pointer)
    guest: cython.pointer(Guest) = store.guest
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    ip: cython.p_char = ctx.trap_ip
    fp: cython.p_char = ctx.trap_fp
    instance: cython.p_void = ctx.trap_instance
    root: cython.pointer(RootStack) = cython.NULL
    change_when: uint64_t = guest.change_when
    start = cython.declare(Start)
    size: uint64_t = 0
    ended: cython.int
    store.interrupting = True
    ended = cython.cast(Prepare, cython.cast(cython.p_void, _prepare))(
        store, entry, cython.address(root), cython.address(size)
    )
    store.interrupting = False
    if size == 0 and root != cython.NULL:
        release_root(guest, root)
    if ended < 0:
        if guest.change_when == WHEN_READY:
            guest.change_when = change_when
        store.take_error()
        return _HOST_EXCEPTION
    if ended > 0:
        return ended
    if size == 0:
        start.code = ip
        start.environment = instance
        start.frame = cython.cast(uint64_t, fp - ctx.stack_base)
        return interpret(store, entry, cython.address(start))
    store.calls_left = 0
    return _run_changed(store_pointer, entry, root, _used(guest, size), 0)


@cython.cfunc
@cython.exceptval(check=False)
def go_on_changed(
    store: Store, entry: cython.pointer(Entry), results: uint64_t, pending: uint64_t
) -> uint64_t:
    """Let a guest of bytecode that has waited for a host function go on as compiled code; see `_change`.

    The store has changed over meanwhile. `results` of the host function's results are in its frame, or an exception is
    `pending`.
    """
    guest: cython.pointer(Guest) = store.guest
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    callee: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), ctx.stack_base + current.fp)
    here = cython.declare(Cursor)
    used: uint64_t = current.values
    root: cython.pointer(RootStack) = take_root(guest)
    below: Below
    code: uint64_t
    if root == cython.NULL:
        return _OUT_OF_MEMORY
    here.fp = cython.cast(uint64_t, callee)
    here.instance = 0
    below = to_caller(cython.address(here), cython.cast(uint64_t, current.ip))
    memmove(cython.cast(cython.p_void, here.results), callee, SLOT_BYTES * results)
    if below == CALLER:
        ctx.trap_ip = cython.cast(cython.p_char, here.ip)
        ctx.trap_fp = cython.cast(cython.p_char, here.fp)
        ctx.trap_instance = cython.cast(cython.p_void, here.instance)
    else:
        # The host function is a continuation's own: its results are the continuation's.
        memcpy(ctx.args, cython.cast(cython.p_void, here.results), SLOT_BYTES * results)
        ctx.trap_fp = ctx.stack_base
        ctx.trap_ip = cython.NULL
    code = _run_changed(cython.cast(cython.p_void, store), entry, root, used, pending)
    return code


@cython.cfunc
@cython.exceptval(-1, check=False)
def _prepare(
    store: Store,
    entry: cython.pointer(Entry),
    root: cython.pointer(cython.pointer(RootStack)),
    size: cython.pointer(uint64_t),
) -> cython.int:
    """Prepare a store whose bytecode has stopped for compiled code.

    Sets the stack for its entry, which the caller releases if it doesn't use it, and the size of the innermost frame,
    which stays 0 if the change isn't to be now, or can't be.

    Returns 0, or the code of the trap when the call's time is over. What can fail is done by another thread
    (`run_apart`) or doesn't raise, so an exception from here is always an interruption.
    """
    guest: cython.pointer(Guest) = store.guest
    ip: uint64_t = cython.cast(uint64_t, guest.ctx.trap_ip)
    current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), guest.ctx.current)
    bottom: cython.pointer(WlCont) = entry.bottom
    frame: uint64_t
    if wl_python_ends():
        guest.change_when = NEVER  # nobody is left who could compile
        return 0
    if current != bottom and find(cython.cast(uint64_t, bottom.ip) - 1) is None:
        return 0
    if guest.change_when == WHEN_BUSY:
        guest.change_when = WHEN_READY  # before anybody can call `check_again`
        decided = check_inside_call(store, _standing(store))
        if decided is None:
            guest.change_when = NEVER
        if not decided:
            return 0
    outcome: object = run_apart(partial(_code_at, store, ip), store.deadline)
    if outcome is None:
        return _TIMEOUT
    if outcome.error is not None:
        return _give_up(store, outcome.error)
    found = find(ip)
    frame = found[0].frame_size(found[1])
    if log.TIERS:
        log.tell(f"{store!r} runs compiled code from now on")
    codes: list = compiled_code(store)
    # From here on no Python code runs, so no signal handler either, until the change is complete.
    root[0] = take_root(guest)
    if root[0] == cython.NULL:
        return _give_up(store, MemoryError("no memory for a native stack"))
    if current != bottom and not _reserve_chain(
        guest, current, _child_of(current, bottom), _used(guest, frame)
    ):
        return _give_up(store, MemoryError("no memory for the native stacks of the running continuations"))
    try:
        use_compiled(store, codes)
    except MemoryError as error:
        if current != bottom:
            _release_chain(guest, current, bottom)
        return _give_up(store, error)
    size[0] = frame
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _give_up(store: Store, error: object) -> cython.int:
    """Note why the store stays interpreted. Returns 0."""
    store.change_failed = error
    store.guest.change_when = NEVER
    if log.TIERS:
        log.tell(f"{store!r} stays interpreted: {error!r}")
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _child_of(cont: cython.pointer(WlCont), bottom: cython.pointer(WlCont)) -> cython.pointer(WlCont):
    """The stack of a running chain that the bottom waits for."""
    while cont.parent != bottom:
        cont = cython.cast(cython.pointer(WlCont), cont.parent)
    return cont


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _used(guest: cython.pointer(Guest), size: uint64_t) -> uint64_t:
    """Bytes in use of the running stack, whose innermost frame takes `size` bytes."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    return min(
        cython.cast(uint64_t, ctx.trap_fp - ctx.stack_base) + size,
        cython.cast(uint64_t, ctx.stack_end - ctx.stack_base),
    )


@cython.cfunc
@cython.exceptval(check=False)
def _run_changed(
    store_pointer: cython.p_void,
    entry: cython.pointer(Entry),
    root: cython.pointer(RootStack),
    used: uint64_t,
    pending: uint64_t,
) -> uint64_t:
    """Settle the running chain, whose innermost stack uses `used` bytes of its memory, and let it go on.

    The trap fields of the context say where the innermost frame goes on; without an ip there is none. An exception may
    be `pending` there.
    """
    store: Store = cython.cast(Store, store_pointer)
    guest: cython.pointer(Guest) = store.guest
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    bottom: cython.pointer(WlCont) = entry.bottom
    current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    child: cython.pointer(WlCont) = current
    control: cython.p_void = cython.NULL
    top: cython.p_void = root
    start = cython.declare(Start)
    bottom_used: uint64_t
    current.fp = cython.cast(uint64_t, ctx.trap_fp - ctx.stack_base)
    current.ip = ctx.trap_ip
    current.instance = ctx.trap_instance
    current.stack_base = ctx.stack_base
    current.stack_end = ctx.stack_end
    bottom_used = used = min(used, cython.cast(uint64_t, ctx.stack_end - ctx.stack_base))
    if current != bottom:
        child = _child_of(current, bottom)
        bottom.ip -= 1
        bottom_used = _used_by_parent(child)
        if not _settle_chain(guest, current, child, current.ip, used):
            release_root(guest, root)
            return _OUT_OF_MEMORY
        if current.ip == cython.NULL:
            set_waiting_bytes(current, 0)
        control = child.control
    if entry.may_wait:
        # Its stack has memory of its own, which is freed.
        top = _settle_root(guest, entry, root, bottom_used)
        ctx.stack_base = entry.outer_base
        ctx.stack_end = entry.outer_end
        bottom_used = 0
    else:
        bottom.fp += cython.cast(uint64_t, bottom.stack_base)
        set_waiting_bytes(bottom, bottom_used)
        ctx.stack_base = bottom.stack_base
        ctx.stack_end = bottom.stack_end
    ctx.stack_limit = ctx.stack_end
    set_waiting_instance(bottom, bottom.instance)
    begin_entry(guest, entry, root, current)
    ctx.stack_top = bottom_used
    ctx.pending = pending
    start.code = cython.cast(cython.p_char, stubs.frames)
    start.function = ctx
    start.environment = control
    start.words = cython.NULL
    start.top = top
    return store.tier.run(store, entry, cython.address(start))


@cython.cfunc
@cython.exceptval(check=False)
def _settle_root(
    guest: cython.pointer(Guest), entry: cython.pointer(Entry), root: cython.pointer(RootStack), used: uint64_t
) -> cython.p_void:
    """Copy the frames of a call that can wait to the top of its native stack. Returns where the stack then begins.

    The call's results end up where the first frame begins.
    """
    bottom: cython.pointer(WlCont) = entry.bottom
    frames: cython.p_char = cython.cast(cython.p_char, root) - _aligned(max(used, _RESULT_BYTES))
    memcpy(frames, bottom.stack_base, used)
    free_grown(guest, bottom)
    bottom.fp += cython.cast(uint64_t, frames)
    set_waiting_bytes(bottom, 1)  # the collector finds them with the entry's stack
    entry.parked.native_stack = root
    entry.parked.words = cython.cast(cython.pointer(uint64_t), frames)
    return frames


def change_soon(store: Store, after: int = 0) -> None:
    """Make a guest go on as compiled code at the first place where it can, or after that many loops: for tests.

    Call it from a host function, or before a call.

    Raises what compiling raises.
    """
    for module in store.module_at.values():
        module.compile()
    if store.tier == cython.address(interpreter_tier):
        store.guest.change_when = NOW
        store.guest.loops_left = after
        store.guest.ctx.interrupt = 1
        store.guest.ctx.stack_limit = cython.NULL


set_runtime_call(RT_NEXT_FRAME, cython.cast(cython.p_void, _next_frame))
set_convert(_convert)
set_change(cython.cast(ChangeTier, cython.cast(cython.p_void, _change)))
