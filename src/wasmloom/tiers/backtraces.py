# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Backtraces: the Wasm frames of an entry into the guest, read off its stacks.

Invariant: while frames are read nothing enters the guest, which could move its stacks: ``store.interrupting`` is set,
since signal handlers and finalisers can run in here.
"""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import WlCont, WlContext, WlFunction
from cython.cimports.wasmloom.runtime import hooks
from cython.cimports.wasmloom.runtime.guests import Entry
from cython.cimports.wasmloom.runtime.stacks import memory_of, number_of
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.target._processor import outer_frame, return_address

from wasmloom.contract.traps import STACK_EXHAUSTED, TRAP_REASONS
from wasmloom.errors import Frame, Trap
from wasmloom.interpreter.code import walk, walk_from_host
from wasmloom.runtime.frames import frames_of
from wasmloom.runtime.hooks import set_backtraces

#: A backtrace has at most this many frames.
MAX_FRAMES = 1000


def too_deep(store: Store, entry: uint64_t) -> Trap:
    """The trap of an `Entry` that there is no room for."""
    frames = frames_of_entry(store, entry, False)
    return Trap(TRAP_REASONS[STACK_EXHAUSTED], frames, "calls between host and guest nest too deep")


def frames_of_entry(store: Store, address: uint64_t, trapped: cython.bint) -> tuple[Frame, ...]:
    """The frames of the `Entry` at an address, innermost first, and through host functions those of the outer entries.

    One that hasn't `trapped` has no frames of its own yet.
    """
    entry: cython.pointer(Entry) = cython.cast(cython.pointer(Entry), address)
    ctx: cython.pointer(WlContext) = cython.address(store.guest.ctx)
    base: uint64_t
    fp: uint64_t
    # Where the outer entry's compiled code waits.
    native_fp: uint64_t = cython.cast(
        uint64_t, entry.guest_fp if entry.native != cython.NULL else ctx.guest_fp
    )
    current: cython.pointer(WlCont)
    host: object
    before: cython.bint = store.interrupting
    found: list = []
    store.interrupting = True
    try:
        if trapped and entry.native != cython.NULL:
            found += hooks.walk_native(
                cython.cast(uint64_t, ctx.trap_ip),
                cython.cast(uint64_t, ctx.trap_fp),
                cython.cast(uint64_t, ctx.current),
                MAX_FRAMES,
            )
        elif trapped:
            found += walk(
                cython.cast(uint64_t, ctx.trap_ip),
                cython.cast(uint64_t, ctx.trap_fp),
                cython.cast(uint64_t, ctx.trap_instance),
                cython.cast(uint64_t, ctx.current),
                MAX_FRAMES,
            )
        while entry.outer != cython.NULL and len(found) < MAX_FRAMES:
            host = cython.cast(
                object,
                cython.cast(
                    cython.pointer(PyObject),
                    cython.cast(cython.pointer(WlFunction), entry.host_function).object,
                ),
            )
            current = entry.outer_current
            found.append((None, 0, host.name, cython.cast(uint64_t, current)))
            if entry.outer.native != cython.NULL:
                fp = native_fp
                found += hooks.walk_native(
                    return_address(fp),
                    outer_frame(fp),
                    cython.cast(uint64_t, current),
                    MAX_FRAMES - len(found),
                )
                native_fp = cython.cast(uint64_t, entry.outer.guest_fp)
            else:
                base = cython.cast(uint64_t, memory_of(store.guest, current.owner))
                found += walk_from_host(
                    cython.cast(uint64_t, entry.host_ip),
                    base + entry.host_fp,
                    cython.cast(uint64_t, current),
                    MAX_FRAMES - len(found),
                )
            entry = entry.outer
        return frames_of(found, partial(number_at, store))
    finally:
        store.interrupting = before


def number_at(store: Store, address: uint64_t) -> int | None:
    """What a backtrace calls a continuation; None for the bottom of an entry from the host, which nothing resumed."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), address)
    return number_of(store.guest, cont) if cont.parent != cython.NULL else None


set_backtraces(frames_of_entry, too_deep)
