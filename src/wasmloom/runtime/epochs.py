# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Epochs: a clock that the host advances, one for each engine. Stores can have a deadline on it.

When the counter comes to a store's deadline, the store's time is over, as by a timeout. Guests that run are interrupted
at once, not at the next tick; where they wait in a host function, that finds no time left. So a thread or a timer of
the program ends guests when it wants to, and guest code pays nothing for it.

Invariant: a `Guest` points to the counter of its store's engine, which the store keeps alive.
"""

from __future__ import annotations

import cython
from cython.cimports.wasmloom.runtime.guests import interrupt_late


@cython.no_gc
@cython.cclass
class EpochCounter:
    """How many epochs of an engine are over; from 0 on."""

    @property
    def count(self) -> int:
        """How many are over."""
        return self.now

    def advance(self) -> None:
        """End an epoch, and with it the guests whose deadline has come."""
        self.now += 1
        interrupt_late(cython.address(self.now))
