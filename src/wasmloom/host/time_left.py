"""What host functions can ask about the limits of the guest that has called them."""

from __future__ import annotations

import time
from typing import Any

from wasmloom.contract.traps import TIMEOUT, TRAP_REASONS
from wasmloom.errors import Trap
from wasmloom.runtime import guests

#: The module is compiled from a file that type checkers skip.
_guests: Any = guests


def nanoseconds_left() -> int | None:
    """`time_left` in nanoseconds."""
    deadline: int | None = _guests.deadline_here()
    if deadline is None:
        return None
    left = deadline - time.monotonic_ns()
    if left <= 0:
        raise Trap(TRAP_REASONS[TIMEOUT])
    return left


def time_left() -> float | None:
    """Seconds until the guest that has called this thread's host function times out; None when nothing limits it.

    A guest in a host function can't be interrupted. So a host function that waits, or works for long, should call this
    repeatedly, and wait for no longer. Of nested guests, in several stores, the first to time out counts. Raises `Trap`
    ("timeout") when the time is over; don't catch it, because it ends the guest.
    """
    left = nanoseconds_left()
    return None if left is None else left / 1e9
