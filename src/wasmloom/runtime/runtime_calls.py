# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Functions that generated code calls: stack growth, interrupts, and the bulk instructions (Core 3.0, 4.6).

All functions have the signature that `wasmloom.contract.layout.RUNTIME_CALLS` gives, must not assume that the GIL is
held, and return a trap code. `register` puts them into the table of runtime calls. ``translate`` belongs to the
interpreter, ``host_call`` to the host package.

Invariants: addresses, indices and counts are unsigned numbers of 64 bits, or of 32 where memory or table say so, and
any of them is possible, so they are never added before they are known to be in bounds (`_within`); nothing is written
before the whole range has been checked. Memories can be large, so long operations on them are
done in slices, between which a guest can be interrupted as in a loop (`wasmloom.runtime.bulk`). Tables can't be large
(`wasmloom.runtime.growth.new_table`).
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memmove
from cython.cimports.wasmloom.contract import _layout
from cython.cimports.wasmloom.contract._layout import (
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlInstance,
    WlMemory,
    WlSegment,
    WlTable,
)
from cython.cimports.wasmloom.contract.operands import Operands
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.bulk import Between, fill, move
from cython.cimports.wasmloom.runtime.growth import GROWN, NO_MEMORY, Growth, grow_memory, grow_stack, grow_table
from cython.cimports.wasmloom.runtime.guests import (
    LOOK_TICKS,
    NOW,
    SAMPLES,
    SIGNALS_NS,
    STANDS_AT_LOOP,
    STANDS_BEFORE_FUNCTION,
    STANDS_NOWHERE,
    WHEN_BUSY,
    Guest,
    end_rest,
    enter_python,
    give_gil_back,
    leave_python,
    now_ns,
    rest,
)
from cython.cimports.wasmloom.runtime.hooks import code_wanted, make_code, set_runtime_call, stubs
from cython.cimports.wasmloom.runtime.runtime_calls import (
    IdMatches,
    Look,
    WithGil,
)
from cython.cimports.wasmloom.runtime.sharing import wake
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.spec.canon import id_matches
from cython.cimports.wasmloom.system._capi import (
    PyGILState_Ensure,
    PyGILState_Release,
    PyGILState_STATE,
    wl_python_ends,
)
from cython.cimports.wasmloom.target._processor import above_return_address, outer_frame, return_address

from wasmloom.contract import traps
from wasmloom.system.interruption import look_up

_CHANGE_TIER = cython.declare(uint64_t, traps.CHANGE_TIER)
_TIMEOUT = cython.declare(uint64_t, traps.TIMEOUT)
_HOST_LIMIT = cython.declare(uint64_t, traps.HOST_LIMIT)
_HOST_EXCEPTION = cython.declare(uint64_t, traps.HOST_EXCEPTION)
_MEMORY_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.MEMORY_OUT_OF_BOUNDS)
_TABLE_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.TABLE_OUT_OF_BOUNDS)
_TYPE_MISMATCH = cython.declare(uint64_t, traps.INDIRECT_CALL_TYPE_MISMATCH)


# --- interrupts and the value stack ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _look_up(store: Store) -> cython.int:
    look_up()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _look_at(store: Store) -> cython.int:
    if not wl_python_ends():
        hooks.look_inside_call(store)
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _interrupt(store_pointer: cython.p_void, look: Look) -> uint64_t:
    """Run Python code while the guest stands at a safepoint; what it raises leaves the guest. Call with the GIL."""
    store: Store = cython.cast(Store, store_pointer)
    failed: cython.int
    # The end of the guest's frame isn't known here, so nothing may be put above it: entries are refused meanwhile.
    store.interrupting = True
    failed = look(store)
    store.interrupting = False
    if failed == 0:
        return 0
    store.take_error()
    return _HOST_EXCEPTION


@cython.cfunc
@cython.exceptval(check=False)
def _run_signal_handlers(store: cython.p_void) -> uint64_t:
    """Let Python handle its signals."""
    return _interrupt(store, cython.cast(Look, cython.cast(cython.p_void, _look_up)))


@cython.cfunc
@cython.exceptval(check=False)
def _look_for_tiers(store: cython.p_void) -> uint64_t:
    """Let `wasmloom.tiers.policy` look at a guest whose store mixes. Signal handlers may run in it."""
    return _interrupt(store, cython.cast(Look, cython.cast(cython.p_void, _look_at)))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _take_sample_of(store: Store) -> cython.int:
    if not wl_python_ends():
        hooks.take_sample(store, False)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _take_sample_with_gil(store: cython.p_void) -> uint64_t:
    """Let a profile look at a guest that stands. Signal handlers may run in it."""
    return _interrupt(store, cython.cast(Look, cython.cast(cython.p_void, _take_sample_of)))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _has_samples(guest: cython.pointer(Guest)) -> cython.bint:
    return guest.profiled and (guest.sample_weight or guest.host_weight)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take_sample(
    ctx: cython.pointer(WlContext),
    ip: cython.p_char,
    fp: cython.p_char,
    inst: cython.pointer(WlInstance),
    entered: cython.p_char,
) -> uint64_t:
    """Let a profile read the frames of a guest that stands at a place, as it would after a trap there.

    The place is described as a trap's exit would, and nobody else reads these fields before one writes them anew; but
    `trap_fault` is only written by compiled code. `entered`: a place in a function that is about to begin.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t
    fault: uint64_t = ctx.trap_fault
    ctx.trap_ip = ip
    ctx.trap_fp = fp
    ctx.trap_instance = inst
    ctx.trap_fault = 0
    guest.sample_entered = cython.cast(uint64_t, entered)
    enter_python(ctx)
    code = cython.cast(WithGil, cython.cast(cython.p_void, _take_sample_with_gil))(ctx.store)
    leave_python(ctx)
    ctx.trap_fault = fault
    return code


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _interrupt_compiled(ctx: cython.pointer(WlContext)) -> uint64_t:
    """The runtime call of compiled code: at a loop, or where a function begins.

    ``guest_fp`` is the frame of `wl_on_host`. It lies above that of the stub that has called it, and this above the
    loop's function; or above the caller of a function that has no frame yet, whose return address comes next.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t
    stub: uint64_t
    frame: uint64_t
    entered: uint64_t = 0
    place: uint64_t
    if _has_samples(guest):
        stub = return_address(cython.cast(uint64_t, ctx.guest_fp))
        frame = outer_frame(cython.cast(uint64_t, ctx.guest_fp))
        place = return_address(frame)
        if cython.cast(uint64_t, stubs.morestack) < stub < cython.cast(uint64_t, stubs.switch_call):
            entered = place
            place = above_return_address(frame)
        code = _take_sample(
            ctx,
            cython.cast(cython.p_char, place),
            cython.cast(cython.p_char, outer_frame(frame)),
            cython.NULL,
            cython.cast(cython.p_char, entered),
        )
        if code:
            return code
    return handle_interrupt(ctx)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _note_place(ctx: cython.pointer(WlContext), ip: cython.p_char) -> cython.void:
    """Note where a tick has found bytecode, if the stack that runs can have compiled code beside it.

    Where only a sample has found it, nothing is noted. Only the thread that is inside of the guest writes or reads this
    (`take_samples`), and the guest's store holds all code that runs in it. Yet an address is only ever compared with
    those of code, so one of code that is gone could do no harm.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    if guest.ticked and cython.cast(cython.pointer(WlCont), ctx.current).control != cython.NULL:
        guest.samples[guest.samples_seen % SAMPLES] = cython.cast(uint64_t, ip)
        guest.samples_seen += 1


def take_samples(store: Store) -> list[int]:
    """Where ticks have found a store's bytecode since this was last called, as addresses; the latest of them.

    Call from the thread that is inside of the store.
    """
    guest: cython.pointer(Guest) = store.guest
    i: uint64_t
    found: list = []
    for i in range(min(guest.samples_seen, cython.cast(uint64_t, SAMPLES))):
        found.append(guest.samples[i])
    guest.samples_seen = 0
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _may_change_here(guest: cython.pointer(Guest)) -> cython.bint:
    """Whether no bytecode waits in outer entries, and none is mixed with compiled code."""
    return guest.entry.outer == cython.NULL and guest.entry.beside == cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _wants_change(guest: cython.pointer(Guest)) -> cython.bint:
    """Whether the guest is to be stopped where it can go on as compiled code."""
    return (
        guest.change_when == NOW or (guest.change_when == WHEN_BUSY and guest.ticks_seen >= guest.change_at)
    ) and _may_change_here(guest)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _attend_here(ctx: cython.pointer(WlContext)) -> uint64_t:
    """After a tick: check the deadline and, now and then, Python's signals."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    now: int64_t = now_ns()
    code: uint64_t
    ctx.interrupt = 0
    if guest.ticked:
        guest.ticked = 0
        guest.ticks_seen += 1
    give_gil_back(guest)
    rest(guest)
    if guest.deadline and now >= guest.deadline:
        return _TIMEOUT
    if now < guest.next_signals:
        return 0
    guest.next_signals = now + SIGNALS_NS
    enter_python(ctx)
    code = cython.cast(WithGil, cython.cast(cython.p_void, _run_signal_handlers))(ctx.store)
    leave_python(ctx)
    return code


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def handle_interrupt(ctx: cython.pointer(WlContext)) -> uint64_t:
    """After a tick, at a place where the guest could go on as compiled code: do what is due."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t = _attend_here(ctx)
    if code:
        return code
    if guest.code_seen != code_wanted:
        enter_python(ctx)
        guest.code_seen = code_wanted
        code = make_code(ctx.store)
        leave_python(ctx)
        if code:
            return code
    if guest.entry.beside != cython.NULL and guest.ticks_seen % LOOK_TICKS == 0:
        enter_python(ctx)
        code = cython.cast(WithGil, cython.cast(cython.p_void, _look_for_tiers))(ctx.store)
        leave_python(ctx)
        if code:
            return code
    if _wants_change(guest):
        if guest.loops_left == 0:
            return _CHANGE_TIER
        guest.loops_left -= 1
        ctx.interrupt = 1
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def between_slices(context: cython.p_void) -> cython.int:
    """Between two slices of an instruction: the same, except that nothing changes tier in the middle of an
    instruction."""
    ctx: cython.pointer(WlContext) = cython.cast(cython.pointer(WlContext), context)
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t
    if not ctx.interrupt:
        return 0
    code = _attend_here(ctx)
    if _wants_change(guest) or guest.wants_snapshot:
        ctx.interrupt = 1  # for the next loop
    return code


@cython.cfunc
@cython.exceptval(-1, check=False)
def _take_snapshot_of(store: Store) -> cython.int:
    if not wl_python_ends():
        store.take_wanted()
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _take_snapshot_with_gil(store: cython.p_void) -> uint64_t:
    """Take the snapshots that are wanted of a guest that stands."""
    return _interrupt(store, cython.cast(Look, cython.cast(cython.p_void, _take_snapshot_of)))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _handle_standing(
    ctx: cython.pointer(WlContext),
    stands: uint64_t,
    ip: cython.p_char,
    fp: cython.p_char,
    inst: cython.pointer(WlInstance),
    before: cython.p_char,
) -> uint64_t:
    """`handle_interrupt` at a place where the frames of bytecode can be read, and the snapshots that are wanted.

    The place is described as for `_take_sample`.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t
    ctx.trap_ip = ip
    ctx.trap_fp = fp
    ctx.trap_instance = inst
    guest.stands_before = cython.cast(uint64_t, before)
    guest.stands = stands
    code = handle_interrupt(ctx)
    if code == 0 and guest.wants_snapshot:
        enter_python(ctx)
        code = cython.cast(WithGil, cython.cast(cython.p_void, _take_snapshot_with_gil))(ctx.store)
        leave_python(ctx)
    guest.stands = STANDS_NOWHERE
    return code


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _enter_slow(
    ctx: cython.pointer(WlContext), needed: uint64_t, fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """See `enter_slow`: a function's frame doesn't fit, or a tick has zeroed the limit."""
    top: uint64_t = cython.cast(cython.p_char, fp) - ctx.stack_base + needed
    code: uint64_t = 0
    failed: uint64_t
    inst: cython.pointer(WlInstance) = cython.cast(cython.pointer(WlInstance), ctx.trap_instance)
    if ctx.interrupt:
        _note_place(ctx, ip)
        if _has_samples(cython.cast(cython.pointer(Guest), ctx)):
            # The stack isn't to move between, since `fp` is an address in it: entries are refused.
            code = _take_sample(ctx, ctx.return_ip, cython.cast(cython.p_char, fp), cython.NULL, ip)
            if code:
                return code
        code = _handle_standing(
            ctx, STANDS_BEFORE_FUNCTION, ctx.return_ip, cython.cast(cython.p_char, fp), inst, ip
        )
        if code and code != _CHANGE_TIER:
            return code
    failed = grow_stack(cython.cast(cython.pointer(Guest), ctx), top)
    return failed if failed else code


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _loop_slow(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """See `loop_slow`: a loop's back-edge saw the interrupt flag."""
    ctx.stack_limit = ctx.stack_end
    code: uint64_t
    _note_place(ctx, ip)
    if _has_samples(cython.cast(cython.pointer(Guest), ctx)):
        code = _take_sample(ctx, ip, cython.cast(cython.p_char, fp), inst, cython.NULL)
        if code:
            return code
    return _handle_standing(ctx, STANDS_AT_LOOP, ip, cython.cast(cython.p_char, fp), inst, cython.NULL)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def subtype_code(ctx: cython.pointer(WlContext), actual: uint64_t, expected: uint64_t) -> uint64_t:
    """Whether a function has a subtype of the expected type (0), or a trap code; the type table is read with the GIL.

    A thread that forks meanwhile finds the guest where it can be left: the guest changes nothing while it waits for the
    GIL.
    """
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    state: PyGILState_STATE
    same: cython.bint
    if actual == expected:
        return 0
    guest.resting = 1
    state = PyGILState_Ensure()
    same = cython.cast(IdMatches, cython.cast(cython.p_void, id_matches))(
        cython.cast(uint32_t, actual), cython.cast(uint32_t, expected)
    )
    PyGILState_Release(state)
    end_rest(guest)
    return 0 if same else _TYPE_MISMATCH


# --- memories ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory(inst: cython.pointer(WlInstance), index: uint32_t) -> cython.pointer(WlMemory):
    return cython.cast(cython.pointer(cython.pointer(WlMemory)), inst.memories)[index]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _data(inst: cython.pointer(WlInstance), index: uint32_t) -> cython.pointer(WlSegment):
    return cython.cast(cython.pointer(WlSegment), inst.data_segments) + index


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _word(fp: cython.pointer(uint64_t), slot: cython.int, is64: uint64_t) -> uint64_t:
    """An i64 in a slot, or an i32, unsigned."""
    return fp[slot] if is64 else cython.cast(uint32_t, fp[slot])


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _within(start: uint64_t, count: uint64_t, length: uint64_t) -> cython.bint:
    """Whether `count` bytes or elements from `start` on are within the first `length`."""
    return start <= length and count <= length - start


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _minus_one(is64: uint64_t) -> uint64_t:
    """-1 as a number of 64 bits, or one of 32 as slots have it."""
    return ~cython.cast(uint64_t, 0) if is64 else cython.cast(uint32_t, 0xFFFFFFFF)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory_grow(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """a ← grow(memory imm0, by b pages), -1 when it can't."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    memory: cython.pointer(WlMemory) = _memory(inst, ops.imm0)
    pages: uint64_t
    more: uint64_t = _word(fp, ops.b, memory.is64)
    grown: Growth
    if not memory.checked or memory.shared:
        grown = grow_memory(cython.cast(Store, ctx.store), memory, more, cython.address(pages))
    else:
        enter_python(ctx)
        grown = grow_memory(cython.cast(Store, ctx.store), memory, more, cython.address(pages))
        leave_python(ctx)
    fp[ops.a] = pages if grown == GROWN else _minus_one(memory.is64)
    return _outcome(ctx, grown)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory_notify(ctx: cython.pointer(WlContext), address: cython.p_char, count: uint64_t) -> uint64_t:
    """See `notify`: wake those that wait at an address."""
    return wake(cython.cast(uint64_t, address), cython.cast(uint32_t, count))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _outcome(ctx: cython.pointer(WlContext), grown: Growth) -> uint64_t:
    """The trap code when what is left of the host's memory would show in a result that is to be the same everywhere."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    return _HOST_LIMIT if grown == NO_MEMORY and guest.deterministic else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def initialise_memory(
    memory: cython.pointer(WlMemory),
    segment: cython.pointer(WlSegment),
    target: uint64_t,
    source: uint64_t,
    count: uint64_t,
    between: Between,
    argument: cython.p_void,
) -> uint64_t:
    """Copy `count` bytes of a data segment into a memory; returns a trap code, or what `between` ended it with."""
    if not _within(source, count, segment.length) or not _within(target, count, memory.length):
        return _MEMORY_OUT_OF_BOUNDS
    return move(cython.address(memory.base), target, cython.address(segment.data), source, count, between, argument)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory_init(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Memory imm1, data imm0, destination a, source b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    memory: cython.pointer(WlMemory) = _memory(inst, ops.imm1)
    return initialise_memory(
        memory,
        _data(inst, ops.imm0),
        _word(fp, ops.a, memory.is64),
        _word(fp, ops.b, 0),
        _word(fp, ops.c, 0),
        between_slices,
        ctx,
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory_copy(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """To memory imm0 from memory imm1, destination a, source b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    to: cython.pointer(WlMemory) = _memory(inst, ops.imm0)
    origin: cython.pointer(WlMemory) = _memory(inst, ops.imm1)
    target: uint64_t = _word(fp, ops.a, to.is64)
    source: uint64_t = _word(fp, ops.b, origin.is64)
    count: uint64_t = _word(fp, ops.c, to.is64 & origin.is64)
    if not _within(target, count, to.length) or not _within(source, count, origin.length):
        return _MEMORY_OUT_OF_BOUNDS
    return move(cython.address(to.base), target, cython.address(origin.base), source, count, between_slices, ctx)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _memory_fill(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Memory imm0, destination a, byte b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    memory: cython.pointer(WlMemory) = _memory(inst, ops.imm0)
    target: uint64_t = _word(fp, ops.a, memory.is64)
    byte: cython.int = cython.cast(cython.int, fp[ops.b] & 0xFF)
    count: uint64_t = _word(fp, ops.c, memory.is64)
    if not _within(target, count, memory.length):
        return _MEMORY_OUT_OF_BOUNDS
    return fill(cython.address(memory.base), target, byte, count, between_slices, ctx)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _data_drop(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Drop data segment imm0."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    _data(inst, ops.imm0).length = 0
    return 0


# --- tables ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _table(inst: cython.pointer(WlInstance), index: uint32_t) -> cython.pointer(WlTable):
    return cython.cast(cython.pointer(cython.pointer(WlTable)), inst.tables)[index]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _element(inst: cython.pointer(WlInstance), index: uint32_t) -> cython.pointer(WlSegment):
    return cython.cast(cython.pointer(WlSegment), inst.element_segments) + index


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def initialise_table(
    table: cython.pointer(WlTable),
    segment: cython.pointer(WlSegment),
    target: uint64_t,
    source: uint64_t,
    count: uint64_t,
) -> uint64_t:
    """Copy `count` references of an element segment into a table."""
    if not _within(source, count, segment.length) or not _within(target, count, table.length):
        return _TABLE_OUT_OF_BOUNDS
    if count:
        memcpy(
            cython.cast(cython.pointer(uint64_t), table.elements) + target,
            cython.cast(cython.pointer(uint64_t), segment.data) + source,
            SLOT_BYTES * count,
        )
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _table_init(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Table imm1, element segment imm0, destination a, source b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    table: cython.pointer(WlTable) = _table(inst, ops.imm1)
    return initialise_table(
        table,
        _element(inst, ops.imm0),
        _word(fp, ops.a, table.is64),
        _word(fp, ops.b, 0),
        _word(fp, ops.c, 0),
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _table_copy(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """To table imm0 from table imm1, destination a, source b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    to: cython.pointer(WlTable) = _table(inst, ops.imm0)
    origin: cython.pointer(WlTable) = _table(inst, ops.imm1)
    target: uint64_t = _word(fp, ops.a, to.is64)
    source: uint64_t = _word(fp, ops.b, origin.is64)
    count: uint64_t = _word(fp, ops.c, to.is64 & origin.is64)
    if not _within(target, count, to.length) or not _within(source, count, origin.length):
        return _TABLE_OUT_OF_BOUNDS
    if count:
        memmove(
            cython.cast(cython.pointer(uint64_t), to.elements) + target,
            cython.cast(cython.pointer(uint64_t), origin.elements) + source,
            SLOT_BYTES * count,
        )
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _table_fill(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Table imm0, start a, reference b, count c."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    table: cython.pointer(WlTable) = _table(inst, ops.imm0)
    start: uint64_t = _word(fp, ops.a, table.is64)
    count: uint64_t = _word(fp, ops.c, table.is64)
    i: uint64_t
    if not _within(start, count, table.length):
        return _TABLE_OUT_OF_BOUNDS
    for i in range(start, start + count):
        cython.cast(cython.pointer(uint64_t), table.elements)[i] = fp[ops.b]
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _table_grow(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """a ← grow(table imm0, with reference b, by c elements), -1 when it can't."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    table: cython.pointer(WlTable) = _table(inst, ops.imm0)
    length: uint64_t = table.length
    grown: Growth = grow_table(cython.cast(Store, ctx.store), table, _word(fp, ops.c, table.is64), fp[ops.b])
    fp[ops.a] = length if grown == GROWN else _minus_one(table.is64)
    return _outcome(ctx, grown)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _elem_drop(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Drop element segment imm0."""
    ops: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    _element(inst, ops.imm0).length = 0
    return 0


def register() -> None:
    """Put the functions into the table of runtime calls."""
    set_runtime_call(_layout.RT_ENTER_SLOW, cython.cast(cython.p_void, _enter_slow))
    set_runtime_call(_layout.RT_LOOP_SLOW, cython.cast(cython.p_void, _loop_slow))
    set_runtime_call(_layout.RT_SUBTYPE, cython.cast(cython.p_void, subtype_code))
    set_runtime_call(_layout.RT_INTERRUPT, cython.cast(cython.p_void, _interrupt_compiled))
    set_runtime_call(_layout.RT_NOTIFY, cython.cast(cython.p_void, _memory_notify))
    set_runtime_call(_layout.RT_MEMORY_GROW, cython.cast(cython.p_void, _memory_grow))
    set_runtime_call(_layout.RT_MEMORY_INIT, cython.cast(cython.p_void, _memory_init))
    set_runtime_call(_layout.RT_MEMORY_COPY, cython.cast(cython.p_void, _memory_copy))
    set_runtime_call(_layout.RT_MEMORY_FILL, cython.cast(cython.p_void, _memory_fill))
    set_runtime_call(_layout.RT_DATA_DROP, cython.cast(cython.p_void, _data_drop))
    set_runtime_call(_layout.RT_TABLE_INIT, cython.cast(cython.p_void, _table_init))
    set_runtime_call(_layout.RT_TABLE_COPY, cython.cast(cython.p_void, _table_copy))
    set_runtime_call(_layout.RT_TABLE_FILL, cython.cast(cython.p_void, _table_fill))
    set_runtime_call(_layout.RT_TABLE_GROW, cython.cast(cython.p_void, _table_grow))
    set_runtime_call(_layout.RT_ELEM_DROP, cython.cast(cython.p_void, _elem_drop))


register()
