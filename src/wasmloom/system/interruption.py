"""Interruption of the host's own long work: what Python's loop does and compiled code must request; time limits."""

from __future__ import annotations


class DeadlinePassed(Exception):
    """The call that the host works for is out of time. It becomes the trap "timeout" before users see it."""


def look_up() -> None:
    """Do nothing, in Python's own loop.

    When a function begins, the loop handles signals (in the main thread), raises what `PyThreadState_SetAsyncExc` has
    requested, makes pending calls, and passes the GIL to a thread that waits for it. ``PyErr_CheckSignals`` does
    only the first.
    """
