# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What a store says of its collector."""

from __future__ import annotations

from typing import NamedTuple

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.runtime.heap import PAUSES, Heap
from cython.cimports.wasmloom.system.allocation import calloc


class GcStatistics(NamedTuple):
    """What the collector of a store's structs, arrays, continuations and exceptions has done: `Store.gc_statistics`.

    Times are in seconds; guests of the store stand still meanwhile. Sizes are in bytes.
    """

    collections: int
    """How many there have been."""
    seconds: float
    """What all of them have taken."""
    longest: float
    """What the longest one has taken."""
    pauses: tuple[float, ...]
    """What each of the last 512 has taken, the oldest first."""
    allocated: int
    """All bytes that have been handed out for guests. What they get at a time is counted at once, a few KiB."""
    live: int
    """Bytes of structs and arrays that the last collection has left."""
    heap: int
    """Bytes of all that is in use now, or can be used again without asking the system."""


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def remember(heap: cython.pointer(Heap), time: uint64_t) -> cython.void:
    """Count a collection, which has taken so many nanoseconds."""
    if heap.pauses == cython.NULL:
        heap.pauses = cython.cast(cython.pointer(uint64_t), calloc(PAUSES, cython.sizeof(uint64_t)))
    if heap.pauses != cython.NULL:
        heap.pauses[heap.collections % PAUSES] = time
    heap.paused += time
    heap.longest = max(heap.longest, time)
    heap.collections += 1


@cython.cfunc
def statistics_of(heap: cython.pointer(Heap)) -> object:
    """What the collector of a heap has done. The store is locked."""
    i: uint64_t
    first: uint64_t = heap.collections - PAUSES if heap.collections > PAUSES else 0
    pauses: list = []
    if heap.pauses != cython.NULL:
        for i in range(first, heap.collections):
            pauses.append(heap.pauses[i % PAUSES] / 1e9)
    return GcStatistics(
        collections=heap.collections,
        seconds=heap.paused / 1e9,
        longest=heap.longest / 1e9,
        pauses=tuple(pauses),
        allocated=heap.all_allocated + heap.allocated,
        live=heap.live_bytes + heap.large_bytes,
        heap=heap.block_bytes + heap.object_bytes + heap.large_bytes,
    )
