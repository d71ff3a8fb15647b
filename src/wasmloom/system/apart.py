"""Work that another thread does, while the thread that needs it can be interrupted.

Python runs signal handlers in the main thread, and what they raise comes out of whatever runs there. So the main thread
can't tell a handler's exception from a failure of its own work, and while it is inside LLVM no handler runs at all.
`run_apart` separates the two: an exception of the work is in its `Outcome`; an exception that `run_apart` raises has
interrupted the wait.

Invariant: no handler runs in the working thread, so work that must not be interrupted can be done there.
"""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import Generic, TypeVar, overload

T = TypeVar("T")

#: Seconds between two checks of what doesn't wake a waiting thread: deadlines, signals that another thread received,
#: exceptions that another thread has requested (`PyThreadState_SetAsyncExc`).
PATIENCE = 0.02


class Outcome(Generic[T]):
    """The outcome of work: a `value`, or an `error`. It is `abandoned` when no caller waits for it any more."""

    __slots__ = ("abandoned", "error", "finished", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None
        self.abandoned = False
        #: Held until there is an outcome.
        self.finished = allocate_lock()
        self.finished.acquire()

    def get(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def is_abandoned(self) -> bool:
        """`abandoned`, for the work to ask."""
        return self.abandoned


@overload
def run_apart(work: Callable[[Callable[[], bool]], T], deadline: None = None) -> Outcome[T]: ...


@overload
def run_apart(work: Callable[[Callable[[], bool]], T], deadline: int | None) -> Outcome[T] | None: ...


def run_apart(work: Callable[[Callable[[], bool]], T], deadline: int | None = None) -> Outcome[T] | None:
    """The outcome of `work`; None if it isn't finished by the `deadline`, on the clock of `time.monotonic_ns`.

    Work is called with a function that tells whether its caller has given up; then it should end when it can. Where no
    thread can be started it runs in this one.

    Raises what a signal handler raises, or what another thread raises in this one.
    """
    from wasmloom.system.threads import start  # the build imports this module before that one exists

    outcome: Outcome[T] = Outcome()

    def run() -> None:
        try:
            outcome.value = work(outcome.is_abandoned)
        except BaseException as error:
            outcome.error = error
        outcome.finished.release()

    try:
        try:
            start(run)
        except RuntimeError:
            run()
        while not outcome.finished.acquire(timeout=PATIENCE):
            if deadline is not None and time.monotonic_ns() >= deadline:
                outcome.abandoned = True
                return None
    except BaseException:
        outcome.abandoned = True
        raise
    return outcome
