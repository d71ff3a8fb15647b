"""Interrupting the host's own long work: what Python's loop does that compiled code must ask for, and time limits."""

from __future__ import annotations


class DeadlinePassed(Exception):
    """The time of the call is over for which the host works. Becomes the trap "timeout" before users see it."""


def look_up() -> None:
    """Do nothing, in Python's own loop.

    When a function begins, the loop handles signals (in the main thread), raises what `PyThreadState_SetAsyncExc` has
    asked for, makes pending calls, and gives the GIL to another thread that waits for it. ``PyErr_CheckSignals`` does
    only the first.
    """
