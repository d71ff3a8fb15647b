# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Backtraces: the Wasm frames of an entry into the guest, read off its stacks.

Invariant: nothing enters the guest while its frames are read, because that could move its stacks. Signal handlers and
finalisers can run in here, so ``store.interrupting`` is set.
"""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import WlCont, WlContext, WlFunction
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.entries import tier_of_entry
from cython.cimports.wasmloom.runtime.guests import Entry, Parked
from cython.cimports.wasmloom.runtime.stacks import memory_of, number_of
from cython.cimports.wasmloom.runtime.store import Store, compiler_tier, interpreter_tier
from cython.cimports.wasmloom.target._processor import outer_frame, return_address

from wasmloom.contract.traps import STACK_EXHAUSTED, TRAP_REASONS
from wasmloom.errors import Frame, Trap
from wasmloom.interpreter.code_space import walk
from wasmloom.runtime.frames import GuestFrame, frames_of
from wasmloom.runtime.hooks import set_backtraces

#: A backtrace has at most this many frames.
MAX_FRAMES = 1000


def too_deep(store: Store, entry: uint64_t) -> Trap:
    """The trap for an `Entry` that there is no room for."""
    frames = frames_of_entry(store, entry, False)
    return Trap(TRAP_REASONS[STACK_EXHAUSTED], frames, "calls between host and guest nest too deep")


def frames_of_entry(store: Store, address: uint64_t, trapped: cython.bint) -> tuple[Frame, ...]:
    """The frames of the `Entry` at an address, innermost first, and through host functions those of the outer entries.

    An entry that hasn't `trapped` has no frames of its own yet.
    """
    entry: cython.pointer(Entry) = cython.cast(cython.pointer(Entry), address)
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    # Where compiled code of the outer entry waits.
    compiled_fp: uint64_t = cython.cast(
        uint64_t, entry.guest_fp if entry.native_stack != cython.NULL else ctx.guest_fp
    )
    current: cython.pointer(WlCont)
    host: object
    before: cython.bint = store.interrupting
    found: list = []
    store.interrupting = True
    try:
        if trapped:
            found += tier_of_entry(entry).walk(
                cython.cast(uint64_t, ctx.trap_ip),
                cython.cast(uint64_t, ctx.trap_fp),
                cython.cast(uint64_t, ctx.trap_instance),
                ctx.trap_fault != 0,
                cython.cast(uint64_t, ctx.current),
                MAX_FRAMES,
            )
        while entry.outer != cython.NULL and len(found) < MAX_FRAMES:
            current = entry.outer_current
            host = cython.cast(
                object,
                cython.cast(
                    cython.pointer(PyObject), cython.cast(cython.pointer(WlFunction), entry.host_function).object
                ),
            )
            found.append(_host_frame(host, current))
            if entry.outer.native_stack != cython.NULL:
                found += _waiting_in_compiled(compiled_fp, current, MAX_FRAMES - len(found))
                compiled_fp = cython.cast(uint64_t, entry.outer.guest_fp)
            else:
                found += _waiting_in_bytecode(
                    entry.host_ip,
                    cython.cast(uint64_t, memory_of(store.guest, current.owner)) + entry.host_fp,
                    current,
                    MAX_FRAMES - len(found),
                )
            entry = entry.outer
        return frames_of(found, partial(number_at, store))
    finally:
        store.interrupting = before


@cython.cfunc
def frames_of_parked(store: Store, parked: cython.pointer(Parked), host: object) -> tuple:
    """The frames of a guest that waits outside of the store for a host function, innermost first: the host
    function's."""
    current: cython.pointer(WlCont) = parked.current
    before: cython.bint = store.interrupting
    found: list = [_host_frame(host, current)]
    store.interrupting = True  # nothing may resume the guest meanwhile
    try:
        if parked.native_stack != cython.NULL:
            found += _waiting_in_compiled(cython.cast(uint64_t, parked.fp), current, MAX_FRAMES)
        else:
            found += _waiting_in_bytecode(
                current.ip, cython.cast(uint64_t, current.stack_base) + current.fp, current, MAX_FRAMES
            )
        return frames_of(found, partial(number_at, store))
    finally:
        store.interrupting = before


@cython.cfunc
def _host_frame(host: object, current: cython.pointer(WlCont)) -> object:
    """The frame of a host function that a guest has called."""
    return GuestFrame(None, 0, 0, cython.cast(uint64_t, current), host.name)


@cython.cfunc
def _waiting_in_compiled(fp: uint64_t, current: cython.pointer(WlCont), limit: cython.int) -> list:
    """The frames below a call of the host by compiled code; `fp` is where its adapter keeps the caller's."""
    return compiler_tier.walk(return_address(fp), outer_frame(fp), 0, False, cython.cast(uint64_t, current), limit)


@cython.cfunc
def _waiting_in_bytecode(
    return_ip: cython.p_char, fp: uint64_t, current: cython.pointer(WlCont), limit: cython.int
) -> list:
    """The frames below a call of the host by bytecode; `fp` is where the host function's would be."""
    return interpreter_tier.walk(cython.cast(uint64_t, return_ip), fp, 0, False, cython.cast(uint64_t, current), limit)


@cython.cfunc
def _walk_bytecode(
    ip: uint64_t, fp: uint64_t, instance: uint64_t, fault: cython.bint, cont: uint64_t, limit: cython.int
) -> list:
    """See `Tier.walk`."""
    return walk(ip, fp, instance, cont, limit)


@cython.cfunc
def _walk_compiled(
    ip: uint64_t, fp: uint64_t, instance: uint64_t, fault: cython.bint, cont: uint64_t, limit: cython.int
) -> list:
    """See `Tier.walk`: addresses in compiled code tell which function they belong to."""
    return hooks.walk_compiled(ip, fp, fault, cont, limit)


def number_at(store: Store, address: uint64_t) -> int | None:
    """What a backtrace calls a continuation; None for the bottom of an entry from the host, which nothing resumed."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), address)
    return number_of(store.guest, cont) if cont.parent != cython.NULL else None


set_backtraces(frames_of_entry, too_deep)
interpreter_tier.walk = _walk_bytecode
compiler_tier.walk = _walk_compiled
