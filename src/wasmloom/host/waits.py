"""Waiting: our host functions wait, or take long, without holding up Ctrl-C, timeouts or an event loop.

A function that may take long is a generator of steps. Between two steps it yields what it waits for: a `Wait` (`TURN`
for nothing, when it has worked for long enough), or a function that makes an awaitable, for asyncio streams. No step
blocks. The driver of the steps decides how to wait: for plain calls `run_steps` blocks the thread in slices;
`wasmloom.host.awaiting` leaves the guest and waits in the event loop.
"""

from __future__ import annotations

import select
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, Protocol

from wasmloom.host.time_left import nanoseconds_left

#: The longest time that a thread waits (nanoseconds) before it checks for signals: one that arrives between Python's
#: last check and the system call doesn't interrupt the call.
SLICE = 50 * 10**6

FOREVER = 1 << 63


class File(Protocol):
    """What has a descriptor of the host."""

    def fileno(self) -> int:
        """Its number."""


class Wait(NamedTuple):
    """Until one of `files` (each with events of `select.poll`) is ready, or `until` (monotonic clock, nanoseconds)."""

    files: tuple[tuple[File, int], ...] = ()
    until: int = FOREVER


#: Doesn't wait, but lets others run.
TURN = Wait((), 0)

Steps = Generator["Wait | Callable[[], Awaitable[Any]]", Any, None]


def pause(seconds: float) -> Wait:
    """A `Wait` for nothing but time."""
    return Wait((), time.monotonic_ns() + int(seconds * 1e9))


def wait_here(wait: Wait) -> None:
    """Block the thread, in slices. Raises `Trap` when the guest's time is over."""
    poll = None
    while True:
        left = nanoseconds_left()
        longest = min(SLICE, wait.until - time.monotonic_ns(), SLICE if left is None else left)
        if longest <= 0:
            return
        if not wait.files:
            time.sleep(longest / 1e9)
            continue
        if poll is None:
            poll = select.poll()
            for file, events in wait.files:
                poll.register(file.fileno(), events)
        if poll.poll(-(-longest // 10**6)):
            return


def run_steps(steps: Steps, wait: Wait) -> None:
    """Run a function to its end in this thread. Its first step has yielded `wait`."""
    try:
        while True:
            wait_here(wait)
            try:
                wait = next(steps)  # type: ignore[assignment]
            except StopIteration:
                return
    finally:
        steps.close()
