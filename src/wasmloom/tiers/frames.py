# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The frames of guests, in any tier: of an entry, of a call that waits, of a continuation; and what they hold.

Invariant: nothing enters the guest while its frames are read, because that could move its stacks. Signal handlers and
finalisers can run in here, so ``store.interrupting`` is set. Frames are good until the guest goes on or is entered.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import CONT_SUSPENDED, WlCont, WlContext, WlFunction
from cython.cimports.wasmloom.interpreter.frames import calling_instance
from cython.cimports.wasmloom.interpreter.machine import in_handler
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.codememory import STENCILS, code_at
from cython.cimports.wasmloom.runtime.entries import save, tier_of_entry
from cython.cimports.wasmloom.runtime.guests import Entry, Guest, Parked
from cython.cimports.wasmloom.runtime.heap import CONT_CLASS, Slab, block_at
from cython.cimports.wasmloom.runtime.stacks import last_of, memory_of, state_of
from cython.cimports.wasmloom.runtime.store import Store, compiler_tier, interpreter_tier
from cython.cimports.wasmloom.target._processor import instance_of_adapter, outer_frame, return_address

from wasmloom.contract.layout import CALLED_BY_COMPILED, SLOT_BYTES
from wasmloom.interpreter.code_space import find, function_at
from wasmloom.interpreter.frames import offset_of, walk
from wasmloom.runtime.frames import CONSTANT, OFFSETS, GuestFrame, TypedPlace
from wasmloom.runtime.native_stacks import bytecode_below, compiled_below, in_compiled
from wasmloom.semantics.kinds import SLOT_BITS, of_type
from wasmloom.spec.types import ValType

_CALLED_BY_COMPILED = cython.declare(uint64_t, CALLED_BY_COMPILED)
#: So many frames are read at most.
MAX_FRAMES = 1000


class TypedValue(NamedTuple):
    """A value of a local or an operand: as many bits as its type has; None if it can't be read or isn't there yet."""

    type: ValType
    bits: int | None


class FrameValues(NamedTuple):
    """What a frame holds: locals, parameters first, and operands from the bottom; see `GuestFrame.state`."""

    locals: tuple[TypedValue, ...]
    operands: tuple[TypedValue, ...]


def frames_of_entry(
    store: Store, address: uint64_t, trapped: cython.bint, known: dict | None = None
) -> list[GuestFrame]:
    """The frames of the `Entry` at an address, innermost first, and through host functions those of the outer entries.

    An entry that hasn't `trapped` has no frames of its own yet. With `known`, which keeps what has been found out about
    code, frames have no offsets, unless it has `OFFSETS`: finding these takes longest. It is good while the store keeps
    that code.
    """
    entry: cython.pointer(Entry) = cython.cast(cython.pointer(Entry), address)
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    # Where compiled code of the outer entry waits.
    own: cython.bint = _has_native_stack(entry)
    compiled_fp: uint64_t = cython.cast(uint64_t, entry.guest_fp if own else ctx.guest_fp)
    compiled_sp: uint64_t = cython.cast(uint64_t, entry.guest_sp if own else ctx.guest_sp)
    current: cython.pointer(WlCont)
    host: object
    compiled: cython.bint
    before: cython.bint = store.interrupting
    found: list = []
    store.interrupting = True
    try:
        if trapped and entry.beside != cython.NULL:
            compiled = in_compiled(cython.cast(uint64_t, ctx.trap_ip))
            found += _walk_mixed(
                cython.cast(uint64_t, ctx.trap_ip),
                cython.cast(uint64_t, ctx.trap_fp),
                cython.cast(uint64_t, ctx.trap_instance),
                compiled,
                compiled and ctx.trap_fault != 0,  # bytecode's traps leave it as it was
                cython.cast(uint64_t, ctx.current),
                cython.cast(uint64_t, ctx.guest_sp),
                MAX_FRAMES,
                known,
            )
        elif trapped:
            found += tier_of_entry(entry).walk(
                cython.cast(uint64_t, ctx.trap_ip),
                cython.cast(uint64_t, ctx.trap_fp),
                cython.cast(uint64_t, ctx.trap_instance),
                ctx.trap_fault != 0,
                cython.cast(uint64_t, ctx.current),
                MAX_FRAMES,
                known,
            )
        while entry.outer != cython.NULL and len(found) < MAX_FRAMES:
            current = entry.outer_current
            if entry.host_function != cython.NULL:
                host = cython.cast(
                    object,
                    cython.cast(
                        cython.pointer(PyObject), cython.cast(cython.pointer(WlFunction), entry.host_function).object
                    ),
                )
                found.append(_host_frame(host, current))
            if entry.outer.native_stack != cython.NULL:
                found += _waiting_in_compiled(compiled_fp, current, MAX_FRAMES - len(found), known)
            elif entry.outer.beside != cython.NULL:
                found += _waiting_mixed(
                    entry.host_ip,
                    entry.host_fp,
                    cython.cast(uint64_t, memory_of(store.guest, current.owner)),
                    compiled_fp,
                    compiled_sp,
                    current,
                    MAX_FRAMES - len(found),
                    known,
                )
            else:
                found += _waiting_in_bytecode(
                    entry.host_ip,
                    cython.cast(uint64_t, memory_of(store.guest, current.owner)) + entry.host_fp,
                    current,
                    MAX_FRAMES - len(found),
                    known,
                )
            entry = entry.outer
            if _has_native_stack(entry):
                compiled_fp = cython.cast(uint64_t, entry.guest_fp)
                compiled_sp = cython.cast(uint64_t, entry.guest_sp)
        return found
    finally:
        store.interrupting = before


class Sample(NamedTuple):
    """What a profile finds out about a guest; see `wasmloom.runtime.sampling`."""

    #: Frames of functions that run or wait, innermost first.
    frames: list[GuestFrame]
    #: The function that ran: its code (see `GuestFrame`), number and offset; None: it was the runtime that did.
    running: tuple[Any, int, int] | None
    #: What ran it: "interpreter", "baseline", "compiler" or "runtime".
    tier: str
    #: How many samples have found that.
    weight: int
    #: The same for a host function, by name.
    host: str
    host_weight: int
    #: A function that was about to begin where frames could be read: nothing of it has run yet.
    entered: tuple[Any, int, int] | None


def sample_here(store: Store, in_host: cython.bint, known: dict | None) -> Sample:
    """The sample of a guest that stands where its frames can be read, for `hooks.take_sample`; it is taken from it.

    `in_host`: it stands in a host function, which is about to return. Else its place is described as that of a trap.
    `known`: see `frames_of_entry`.
    """
    inside = cython.declare(Entry)
    guest: cython.pointer(Guest) = store.guest
    pc: uint64_t = guest.sample_pc
    ip: uint64_t = guest.sample_ip
    weight: uint64_t = guest.sample_weight
    host_weight: uint64_t = guest.host_weight
    host: str = ""
    running: object
    tier: str = "runtime"
    guest.sample_weight = guest.host_weight = 0
    frames: list = []
    if not in_host:
        frames = frames_of_entry(store, cython.cast(uint64_t, guest.entry), True, known)
    elif guest.entry != cython.NULL and not store.interrupting:
        save(store, cython.address(inside))
        frames = frames_of_entry(store, cython.cast(uint64_t, cython.address(inside)), False, known)
    entered: object = None if in_host else _function_at(guest.sample_entered, known)
    running = None
    if weight:
        if in_handler(pc):
            running = _function_at(ip, known)
            tier = "interpreter"
        else:
            running = _function_at(pc, known)
            if running is not None:
                tier = "baseline" if code_at(pc) == STENCILS else "compiler"
    if host_weight and guest.host_sampled != cython.NULL:
        function = cython.cast(cython.pointer(WlFunction), guest.host_sampled)
        if function.object != cython.NULL:
            host = cython.cast(object, cython.cast(cython.pointer(PyObject), function.object)).name
    return Sample(frames, running, tier, weight, host, host_weight, entered)


@cython.cfunc
def _function_at(address: uint64_t, known: dict | None) -> object:
    """The code, number and offset of the function that an address in code of any tier belongs to; None: none.

    With `OFFSETS` in `known` the offset is that of the instruction, in compiled code that of the call or access to
    memory before it, where there is one.
    """
    exact: cython.bint = known is not None and OFFSETS in known
    # A frame whose caller is the bottom of a stack, since more than the innermost place is never looked at.
    bottom = cython.declare(uint64_t[2])
    if address == 0:
        return None
    place = find(address) if exact else function_at(address)
    if place is not None:
        return place[0], place[1] + place[0].module.num_imported_funcs, offset_of(place, known) if exact else 0
    if hooks.walk_compiled is None or not in_compiled(address):
        return None
    if exact:
        from wasmloom.compiler.compiled import place_near

        return place_near(address, known)
    bottom[0] = 0
    bottom[1] = cython.cast(uint64_t, hooks.stubs.native_return)
    # What is looked up is the byte before a return address.
    fp: uint64_t = cython.cast(uint64_t, cython.address(bottom[0]))
    for frame in hooks.walk_compiled(address + 1, fp, False, 0, 1, known):
        return frame.code, frame.function, frame.offset
    return None


@cython.cfunc
@cython.exceptval(check=False)
def _has_native_stack(entry: cython.pointer(Entry)) -> cython.bint:
    """Whether an entry has saved the context's `guest_sp` and `guest_fp`, because it has its own."""
    return entry.native_stack != cython.NULL or entry.beside != cython.NULL


@cython.cfunc
def _walk_mixed(
    ip: uint64_t,
    fp: uint64_t,
    instance: uint64_t,
    in_compiled: cython.bint,
    fault: cython.bint,
    cont: uint64_t,
    top: uint64_t,
    limit: cython.int,
    known: dict | None,
) -> list:
    """The frames of an entry that mixes, from bytecode or compiled code down: each as `Tier.walk` does.

    `top`: where the native stack ends, if the walk begins in bytecode.
    """
    found: list = []
    across: list
    while True:
        if in_compiled:
            found += hooks.walk_compiled(ip, fp, fault, cont, limit - len(found), known)
            if len(found) >= limit:
                return found
            ip, fp, top = bytecode_below(ip, fp)
            instance = 0
            fault = False
        across = []
        found += walk(ip, fp, instance, cont, limit - len(found), 0, across, known)
        if not across:
            return found
        cont = across[0]
        ip, fp = compiled_below(top)
        in_compiled = True


@cython.cfunc
def frames_of_parked(store: Store, parked: cython.pointer(Parked), host: object) -> list:
    """The frames of a guest that waits outside of the store for a host function, innermost first: the host
    function's."""
    current: cython.pointer(WlCont) = parked.current
    before: cython.bint = store.interrupting
    if host is None:  # it has come out of a snapshot, and waits for nothing
        return interpreter_tier.walk(
            cython.cast(uint64_t, current.ip),
            cython.cast(uint64_t, current.stack_base) + current.fp,
            cython.cast(uint64_t, current.instance),
            False,
            cython.cast(uint64_t, current),
            MAX_FRAMES,
            None,
        )
    found: list = [_host_frame(host, current)]
    store.interrupting = True  # nothing may resume the guest meanwhile
    try:
        if parked.native_stack != cython.NULL:
            found += _waiting_in_compiled(cython.cast(uint64_t, parked.fp), current, MAX_FRAMES, None)
        elif parked.beside != cython.NULL:
            found += _waiting_mixed(
                current.ip,
                current.fp,
                cython.cast(uint64_t, current.stack_base),
                cython.cast(uint64_t, parked.fp),
                cython.cast(uint64_t, parked.sp),
                current,
                MAX_FRAMES,
                None,
            )
        else:
            found += _waiting_in_bytecode(
                current.ip, cython.cast(uint64_t, current.stack_base) + current.fp, current, MAX_FRAMES, None
            )
        return found
    finally:
        store.interrupting = before


@cython.cfunc
def _host_frame(host: object, current: cython.pointer(WlCont)) -> object:
    """The frame of a host function that a guest has called."""
    return GuestFrame(None, 0, 0, cython.cast(uint64_t, current), host.name)


@cython.cfunc
def _waiting_in_compiled(fp: uint64_t, current: cython.pointer(WlCont), limit: cython.int, known: dict | None) -> list:
    """The frames below a call of the host by compiled code; `fp` is where its adapter keeps the caller's."""
    return compiler_tier.walk(
        return_address(fp), outer_frame(fp), 0, False, cython.cast(uint64_t, current), limit, known
    )


@cython.cfunc
def _waiting_mixed(
    return_ip: cython.p_char,
    host_fp: uint64_t,
    memory: uint64_t,
    compiled_fp: uint64_t,
    compiled_sp: uint64_t,
    current: cython.pointer(WlCont),
    limit: cython.int,
    known: dict | None,
) -> list:
    """The frames below a call of the host by either, which `host_fp` tells, in an entry that mixes. `memory`: that of
    the stack."""
    cont: uint64_t = cython.cast(uint64_t, current)
    if host_fp == _CALLED_BY_COMPILED:
        return _walk_mixed(
            return_address(compiled_fp), outer_frame(compiled_fp), 0, True, False, cont, compiled_sp, limit, known
        )
    return _walk_mixed(
        cython.cast(uint64_t, return_ip), memory + host_fp, 0, False, False, cont, compiled_sp, limit, known
    )


@cython.cfunc
def _waiting_in_bytecode(
    return_ip: cython.p_char, fp: uint64_t, current: cython.pointer(WlCont), limit: cython.int, known: dict | None
) -> list:
    """The frames below a call of the host by bytecode; `fp` is where the host function's would be."""
    return interpreter_tier.walk(
        cython.cast(uint64_t, return_ip), fp, 0, False, cython.cast(uint64_t, current), limit, known
    )


@cython.cfunc
def _walk_bytecode(
    ip: uint64_t,
    fp: uint64_t,
    instance: uint64_t,
    fault: cython.bint,
    cont: uint64_t,
    limit: cython.int,
    known: dict | None,
) -> list:
    """See `Tier.walk`."""
    return walk(ip, fp, instance, cont, limit, 0, None, known)


@cython.cfunc
def _walk_compiled(
    ip: uint64_t,
    fp: uint64_t,
    instance: uint64_t,
    fault: cython.bint,
    cont: uint64_t,
    limit: cython.int,
    known: dict | None,
) -> list:
    """See `Tier.walk`: addresses in compiled code tell which function they belong to."""
    return hooks.walk_compiled(ip, fp, fault, cont, limit, known)


def frames_inside(store: Store) -> list[GuestFrame]:
    """The frames of all guests that are in a store and have called the host, innermost first; with the store locked."""
    entry = cython.declare(Entry)
    if store.guest.entry == cython.NULL:
        return []
    save(store, cython.address(entry))
    return frames_of_entry(store, cython.cast(uint64_t, cython.address(entry)), False)


@cython.cfunc
@cython.exceptval(check=False)
def instance_calling(store: Store) -> uint64_t:
    """The address of the instance whose code has called the host function that runs; 0: no instance has.

    Call it where the function begins, with the store locked, before anything else could enter the guest. A tail call's
    instance is the one that makes it, although its frame has gone.

    A continuation that begins with a host function is called by no instance.
    """
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    if store.guest.entry == store.called_by_host:
        return store.called_for
    if ctx.host_fp == _CALLED_BY_COMPILED:
        return instance_of_adapter(outer_frame(cython.cast(uint64_t, ctx.guest_fp)))
    return calling_instance(cython.cast(uint64_t, ctx.stack_base) + ctx.host_fp, cython.cast(uint64_t, ctx.host_ip))


def suspended(store: Store, limit: int) -> list[int]:
    """The addresses of suspended continuations on stacks of the interpreter, at most `limit`; with the store locked."""
    slab: cython.pointer(Slab) = store.guest.heap.slabs
    cont: cython.pointer(WlCont)
    i: uint64_t
    found: list = []
    while slab != cython.NULL and len(found) < limit:
        if slab.kind == CONT_CLASS:
            for i in range(slab.used):
                cont = cython.cast(cython.pointer(WlCont), block_at(slab, i))
                if state_of(cont) == CONT_SUSPENDED and cont.control == cython.NULL:
                    found.append(cython.cast(uint64_t, cont))
        slab = slab.next
    return found[:limit]


def place_of_suspended(address: uint64_t, limit: int) -> tuple[int, int, int, int, int, int]:
    """Where one of the continuations in `suspended` stands, as `walk` takes it."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), address)
    return (
        cython.cast(uint64_t, cont.ip) - 1,
        cython.cast(uint64_t, cont.stack_base) + cont.fp,
        cython.cast(uint64_t, cont.instance),
        address,
        limit,
        cython.cast(uint64_t, last_of(cont)),
    )


def frames_of_suspended(store: Store, address: uint64_t) -> list[GuestFrame]:
    """The frames of one of the continuations in `suspended`, innermost first, and of those that wait for it; with the
    store locked."""
    before: cython.bint = store.interrupting
    store.interrupting = True
    try:
        return walk(*place_of_suspended(address, MAX_FRAMES))
    finally:
        store.interrupting = before


def values_of(frame: GuestFrame) -> FrameValues:
    """The values of a frame's locals and operands, while it stands where it was found."""
    state = frame.state()
    there = len(state.operands) - state.awaited
    return FrameValues(
        tuple([_value(frame.fp, place, i not in state.unset) for i, place in enumerate(state.locals)]),
        tuple([_value(frame.fp, place, i < there) for i, place in enumerate(state.operands)]),
    )


def _value(fp: uint64_t, place: TypedPlace, there: cython.bint) -> TypedValue:
    """What is in a place of the frame at an address."""
    i: cython.int
    word: cython.pointer(uint64_t)
    kind = of_type(place.type)
    bits = None
    if there and place.slot == CONSTANT:
        bits = place.bits
    elif there and place.slot >= 0 and fp:
        word = cython.cast(cython.pointer(uint64_t), fp + cython.cast(uint64_t, SLOT_BYTES * place.slot))
        bits = 0
        for i in range(kind.slots):
            bits |= cython.cast(object, word[i]) << SLOT_BITS * i
        bits &= (1 << kind.bits) - 1  # the upper half of an f32's slot is arbitrary
    return TypedValue(place.type, bits)


interpreter_tier.walk = _walk_bytecode
compiler_tier.walk = _walk_compiled
