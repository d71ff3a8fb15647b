# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Backtraces: what people read of frames."""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import WlCont
from cython.cimports.wasmloom.runtime.entries import save
from cython.cimports.wasmloom.runtime.guests import Entry, Parked
from cython.cimports.wasmloom.runtime.stacks import number_of
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.tiers.frames import frames_of_parked

from wasmloom.contract.traps import STACK_EXHAUSTED
from wasmloom.errors import Frame, Trap
from wasmloom.runtime.frames import SOURCE, GuestFrame, frames_of
from wasmloom.runtime.hooks import set_backtraces
from wasmloom.tiers.frames import frames_of_entry


def too_deep(store: Store, entry: uint64_t) -> Trap:
    """The trap for an `Entry` that there is no room for."""
    frames = backtrace(store, entry, False)
    trap: Trap = store.trap(STACK_EXHAUSTED, frames, "calls between host and guest nest too deeply")
    return trap


def backtrace(store: Store, entry: uint64_t, trapped: cython.bint) -> tuple[Frame, ...]:
    """The backtrace of the `Entry` at an address; see `frames_of_entry`."""
    return _told(store, frames_of_entry(store, entry, trapped))


def frames_here(store: Store) -> list[GuestFrame]:
    """The frames of the guest whose host function asks for them, that function's first; of no guest: none.

    Call in the thread that is in the store. What they are called is told by `wasmloom.runtime.frames.frames_of`.
    """
    entry = cython.declare(Entry)
    if store.guest.entry == cython.NULL or store.interrupting:
        return []
    save(store, cython.address(entry))  # as a call into the guest would; nothing is to be restored
    return frames_of_entry(store, cython.cast(uint64_t, cython.address(entry)), False)


@cython.cfunc
def backtrace_of_parked(store: Store, parked: cython.pointer(Parked), host: object) -> tuple:
    """That of a guest that waits outside of the store for a host function."""
    return _told(store, frames_of_parked(store, parked, host))


def _told(store: Store, found: list[GuestFrame]) -> tuple[Frame, ...]:
    """Telling it can run finalisers, and these must not let the guest go on: what it has left is looked at."""
    before: cython.bint = store.interrupting
    store.interrupting = True
    try:
        return frames_of(found, partial(number_at, store), store.engine.backtrace == SOURCE)
    finally:
        store.interrupting = before


def number_at(store: Store, address: uint64_t) -> int | None:
    """What a backtrace calls a continuation; None for the bottom of an entry from the host, which nothing resumed."""
    cont: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), address)
    return number_of(store.guest, cont) if cont.parent != cython.NULL else None


set_backtraces(backtrace, too_deep)
