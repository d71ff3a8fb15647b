# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What threads share: memories that grow while others use them, and the places where threads wait for each other.

A shared memory belongs to no store. Its struct is in a Python object, which every store that uses it keeps. Invariants:

* The base never moves: all that the memory may ever have is reserved when it is made. So a length that another thread
  has just changed can only be too small, never wrong, and there is no moment without pages below it: pages become
  accessible before the length says so.
* The length is written by whoever has the lock of growth, and read by anyone without it: it is one word.

A waiter stands in the bucket of its address. Waking and comparing the expected value happen under the bucket's lock, so
no wake-up falls between the comparison and the moment when the waiter can be found (threads proposal, "wait" and
"notify"). A waiter is woken by one write to an eventfd of its own. That wakes a thread that sleeps in `poll`, and an
event loop just as well; and nothing else writes to it, so nobody wakes up for nothing.

Locks are held for a few instructions, and nobody who holds one asks for the GIL or runs Python code. So they may be
taken with the GIL or without. In a forked child there is no one else: locks are made anew, and nobody waits (the guests
of other threads have ended, see `wasmloom.runtime.forks`).

Source: threads proposal, "Overview" (wait and notify) and 4.4.7.
"""

from __future__ import annotations

import os

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.posix.unistd import close, write
from cython.cimports.wasmloom.contract._layout import WlMemory
from cython.cimports.wasmloom.runtime.guests import Guest, charge_memory, memory_fits, uncharge_memory
from cython.cimports.wasmloom.runtime.regions import grow_region, new_region
from cython.cimports.wasmloom.runtime.sharing import BUCKETS, Bucket, Waiter
from cython.cimports.wasmloom.system._capi import (
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_release_lock,
    pthread_atfork,
    seal,
)

_buckets = cython.declare(Bucket[BUCKETS])
_growing = cython.declare(cython.p_void, cython.NULL)


# --- growth ---


@cython.cfunc
@cython.exceptval(check=False)
def new_shared(memory: cython.pointer(WlMemory), length: uint64_t) -> cython.bint:
    """Give a shared memory, which knows its type, `length` zero bytes, with guard pages if there is room for them;
    False when the system has none."""
    memory.shared = True
    return new_region(memory, length)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def grow_shared(
    guest: cython.pointer(Guest), memory: cython.pointer(WlMemory), pages: uint64_t, old: cython.pointer(uint64_t)
) -> cython.bint:
    """Add pages to a shared memory; `old` gets its size before. Returns False when a limit or the system prevents it.

    What it grows by is the growing `guest`'s memory (NULL: the host grows it): the others haven't asked for it.
    """
    more: uint64_t
    grown: cython.bint = False
    PyThread_acquire_lock(_growing, 1)
    old[0] = memory.length >> memory.page_bits
    if pages <= memory.max_pages - old[0]:
        more = pages << memory.page_bits  # nothing wraps: see `most_pages`
        if guest == cython.NULL:
            grown = grow_region(memory, memory.length + more)
        elif (
            memory.length + more <= guest.most_bytes and memory_fits(guest, more) and charge_memory(guest, more)
        ):
            grown = grow_region(memory, memory.length + more)
            if not grown:
                uncharge_memory(guest, more)
    PyThread_release_lock(_growing)
    return grown


# --- waiting ---


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _bucket(address: uint64_t) -> cython.pointer(Bucket):
    # Neighbouring words of a page get different ones.
    return cython.address(_buckets[((address >> 2) ^ (address >> 12)) % BUCKETS])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _unlink(bucket: cython.pointer(Bucket), waiter: cython.pointer(Waiter)) -> cython.void:
    """Take a waiter out of its bucket, whose lock the caller has."""
    if waiter.previous != cython.NULL:
        waiter.previous.next = waiter.next
    else:
        bucket.first = waiter.next
    if waiter.next != cython.NULL:
        waiter.next.previous = waiter.previous
    else:
        bucket.last = waiter.previous
    waiter.is_linked = False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def wake(address: uint64_t, count: uint32_t) -> uint64_t:
    """Wake at most `count` of those that wait at an address of the process, in the order in which they came; returns
    how many."""
    bucket: cython.pointer(Bucket) = _bucket(address)
    waiter: cython.pointer(Waiter)
    following: cython.pointer(Waiter)
    one: uint64_t = 1
    woken: uint64_t = 0
    PyThread_acquire_lock(bucket.lock, 1)
    waiter = bucket.first
    while waiter != cython.NULL and woken < count:
        following = waiter.next
        if waiter.address == address:
            _unlink(bucket, waiter)
            waiter.is_woken = True
            # A number from 0 to 1: this neither blocks nor fails.
            write(waiter.file, cython.address(one), cython.sizeof(one))
            woken += 1
        waiter = following
    PyThread_release_lock(bucket.lock)
    return woken


@cython.cclass
class Parked:
    """One that waits at an address. It is a file for `select.poll` and event loops: it can be read when it is woken."""

    def __cinit__(self) -> None:
        self.waiter.file = -1

    def __dealloc__(self) -> None:
        self.leave()

    def fileno(self) -> int:
        """The descriptor that can be read when this is woken; -1 when it no longer waits."""
        return self.waiter.file

    def leave(self) -> bool:
        """Wait no longer. Returns whether it has been woken."""
        waiter: cython.pointer(Waiter) = cython.address(self.waiter)
        bucket: cython.pointer(Bucket) = _bucket(waiter.address)
        PyThread_acquire_lock(bucket.lock, 1)
        if waiter.is_linked:
            _unlink(bucket, waiter)
        PyThread_release_lock(bucket.lock)
        if waiter.file >= 0:
            close(waiter.file)
            waiter.file = -1
        return bool(waiter.is_woken)


seal(Parked)


def park(address: int, width: int, expected: int) -> Parked | None:
    """Wait at an address of the process if the `width` bytes there (4 or 8) are as expected; else None.

    The caller has checked that the bytes are there, and holds the memory. Raises `OSError` when the process can have no
    more descriptors.
    """
    parked: Parked = Parked.__new__(Parked)
    waiter: cython.pointer(Waiter) = cython.address(parked.waiter)
    at: uint64_t = address
    wanted: uint64_t = expected
    is_wide: cython.bint = width == 8
    found: uint64_t
    bucket: cython.pointer(Bucket) = _bucket(at)
    waiter.address = at
    waiter.file = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    PyThread_acquire_lock(bucket.lock, 1)
    # One aligned load is atomic on every processor that has this engine, and the lock keeps it here.
    found = cython.cast(cython.pointer(uint64_t), at)[0] if is_wide else cython.cast(cython.pointer(uint32_t), at)[0]
    if found == wanted:
        waiter.previous = bucket.last
        waiter.next = cython.NULL
        if bucket.last != cython.NULL:
            bucket.last.next = waiter
        else:
            bucket.first = waiter
        bucket.last = waiter
        waiter.is_linked = True
    PyThread_release_lock(bucket.lock)
    return parked if found == wanted else None


def waiting() -> int:
    """The number of those that wait (for tests and diagnostics)."""
    count: cython.int = 0
    i: cython.int
    waiter: cython.pointer(Waiter)
    for i in range(BUCKETS):
        PyThread_acquire_lock(_buckets[i].lock, 1)
        waiter = _buckets[i].first
        while waiter != cython.NULL:
            count += 1
            waiter = waiter.next
        PyThread_release_lock(_buckets[i].lock)
    return count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make_locks() -> cython.bint:
    global _growing
    i: cython.int
    for i in range(BUCKETS):
        _buckets[i].lock = PyThread_allocate_lock()
        if _buckets[i].lock == cython.NULL:
            return False
    _growing = PyThread_allocate_lock()
    return _growing != cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _after_fork_in_child() -> cython.void:
    i: cython.int
    waiter: cython.pointer(Waiter)
    for i in range(BUCKETS):
        waiter = _buckets[i].first
        while waiter != cython.NULL:
            waiter.is_linked = False
            waiter = waiter.next
        _buckets[i].first = _buckets[i].last = cython.NULL
    _make_locks()  # without memory the old ones remain, which are free unless a thread had one at that moment


if not _make_locks():
    raise MemoryError
pthread_atfork(cython.NULL, cython.NULL, _after_fork_in_child)
