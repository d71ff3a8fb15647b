"""Waiting for what a thread, a tick or a process brings about, on machines that stand still for seconds.

A test must not fail because this process, another one, or a thread runs late. So it waits for what is to come, not for
a time; and where an attempt can be unlucky, it makes more of them, of which none succeeds when the code is wrong.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

from wasmloom.tiers import background

#: Seconds in which whatever is awaited comes, on any machine.
PATIENCE = 120
#: Seconds after which a test, or a process that it starts, is taken to hang.
FOREVER = 600


def attempts(pause: float = 0) -> Iterator[int]:
    """The numbers of attempts, until `PATIENCE` is over; with a pause in seconds between them.

    Without one the caller doesn't give the GIL up.
    """
    deadline = time.monotonic() + PATIENCE
    number = 0
    while not number or time.monotonic() < deadline:
        yield number
        number += 1
        if pause:
            time.sleep(pause)


def comes(condition: Callable[[], object]) -> bool:
    """Whether a condition is met in the end; other threads run meanwhile."""
    return any(condition() for _ in attempts(0.002))


def is_at_rest() -> bool:
    """Whether nothing is compiled in the background any more, in the end: what is ends with its module."""
    gc.collect()
    return comes(lambda: not background._queue._threads)
