# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Forks: in the child, guests of threads that it doesn't have end, and their locks become free.

A child has all of the process's memory, but one thread. So stores, whatever waits or is suspended in them, modules and
compiled code are unchanged. Guests that were running in other threads can't go on: before the fork,
`wasmloom.runtime.guests` waits until they can be left, and here they are ended. Owners of Python locks that such a
thread may have held make new locks (`remember`): no thread of the child holds the old ones.

A fork waits while a thread imports the compiler (`importing`), because the child could never complete a half-imported
module. If a thread was in LLVM, its locks and data may be in any state in the child. Then the child doesn't use LLVM
itself (`has_llvm`); it leaves that to worker processes.
"""

from __future__ import annotations

import os
from _thread import get_ident
from collections.abc import Iterator
from contextlib import contextmanager

import cython
from cython.cimports.wasmloom.runtime import guests
from cython.cimports.wasmloom.runtime.entries import leave
from cython.cimports.wasmloom.runtime.guests import WHEN_BUSY, WHEN_READY, Guest
from cython.cimports.wasmloom.runtime.store import LOST, Store
from cython.cimports.wasmloom.system._capi import pthread_atfork, pthread_self

from wasmloom.system.locks import Lock
from wasmloom.system.registry import Registry

#: A fork waits at most this many seconds for an import: the forking thread itself may be the one that imports.
_MOST_SECONDS = 10

#: Held while parts of the compiler are imported.
importing = Lock()
_waited = False
#: The number of threads in LLVM; and whether there was one when this process was forked.
_in_llvm: set[int] = set()
_llvm_is_lost = False
_remembered: Registry = Registry()


def remember(thing: object) -> None:
    """Have a forked child call ``thing.after_fork()`` before it does anything else."""
    _remembered.add(thing)


@contextmanager
def using_llvm() -> Iterator[None]:
    """A context for all work that LLVM does in this process."""
    me: int = get_ident()
    nested: bool = me in _in_llvm
    _in_llvm.add(me)
    try:
        yield
    finally:
        if not nested:
            _in_llvm.discard(me)


def has_llvm() -> bool:
    """Whether this process can use LLVM itself."""
    return not _llvm_is_lost


def _before_fork() -> None:
    global _waited
    _waited = importing.wait(_MOST_SECONDS)


def _after_fork_in_parent() -> None:
    if _waited:
        importing.release()


def _after_fork() -> None:
    global importing, _llvm_is_lost
    others: set[int] = _in_llvm - {get_ident()}
    if others:
        _llvm_is_lost = True
        _in_llvm.difference_update(others)
    if _waited:
        importing.release()
    else:
        importing = Lock()
    for thing in _remembered:
        thing.after_fork()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _end_others(store: Store, me: cython.ulong) -> cython.void:
    """In a forked child: free a store from the threads that the child doesn't have.

    Their guests end as if the host functions that they stand in had raised; no Python objects change. The state is
    intact: the `Entry`s are on those threads' C stacks, which nothing has used since.
    """
    guest: cython.pointer(Guest) = store.guest
    if guest.change_when == WHEN_READY:
        guest.change_when = WHEN_BUSY  # nothing makes its code any more
    # No thread waits for it any more, and its state is unknown.
    store.door = cython.NULL
    store.waiting = 0
    if store.owner == 0 or store.owner == me:
        return
    if guest.entry != cython.NULL and not guest.can_end:
        store.owner = LOST
        return
    while guest.entry != cython.NULL:
        leave(store, guest.entry)
    guest.resting = 0
    guest.ctx.thread_state = cython.NULL
    guest.ctx.host_sp = cython.NULL
    guest.ctx.trap_code = 0
    guest.heap.holds = 0
    store.interrupting = False
    store.depth = 0
    store.owner = 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _after_fork_in_child() -> cython.void:
    guest: cython.pointer(Guest) = guests.first_guest
    me: cython.ulong = pthread_self()
    while guest != cython.NULL:
        if guest.ctx.store != cython.NULL:
            _end_others(cython.cast(Store, guest.ctx.store), me)
        guest = guest.next


pthread_atfork(cython.NULL, cython.NULL, _after_fork_in_child)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
