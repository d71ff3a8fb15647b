"""Guests and event loops: what drives a call that can wait.

The guest itself is a `GuestTask` (`wasmloom.host.tasks`), which knows nothing of event loops; the coroutine here runs
it and awaits what it waits for. Any event loop will do that drives coroutines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.errors import Frame
from wasmloom.host.bridge import Func as Func
from wasmloom.host.bridge import set_run_waiting
from wasmloom.host.tasks import new_task, parked_tasks

if TYPE_CHECKING:
    from wasmloom.runtime.store import Store

#: What cancels a coroutine besides `GeneratorExit`: module, which is loaded if anything can raise it, and class.
_CANCELLATIONS = (("asyncio", "CancelledError"), ("trio", "Cancelled"))


def _cancels(error: BaseException) -> bool:
    """Whether an error asks the coroutine that it is raised in to clean up and end."""
    return isinstance(error, GeneratorExit) or any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, name in _CANCELLATIONS
        if module in sys.modules
    )


def _abandon(task: Any) -> None:
    """Give a guest up, and what it waits for: nobody will await it."""
    close = getattr(task.awaitable, "close", None)
    task.discard()
    if close is not None:
        close()


async def run_guest(function: Func, args: tuple[object, ...]) -> Any:
    """Call a function that may wait; returns its results, raises what it raises."""
    task: Any = new_task(function)
    try:
        waits = task.start(args)
        while waits:
            try:
                value = await task.awaitable
            except BaseException as error:
                waits = task.throw(error, _cancels(error))
                if waits and isinstance(error, GeneratorExit):
                    raise  # its handlers wait again, but a coroutine that is closed can't
            else:
                waits = task.send(value)
        return task.result
    except BaseException:
        # Also what a signal handler has raised between two lines: the guest waits, and nobody would let it go on.
        if task.awaitable is not None:
            _abandon(task)
        raise


set_run_waiting(run_guest)


class WaitingGuest(NamedTuple):
    """A guest that waits: names of the function that was called and of the host function it waits for; its frames."""

    function: str
    waits_for: str
    frames: tuple[Frame, ...]


def waiting_guests(store: Store) -> list[WaitingGuest]:
    """The guests of a store that wait for host functions; the one that began to wait last comes first."""
    tasks: list[Any] = parked_tasks(store)
    return [WaitingGuest(task.function.name, task.waits_for, task.frames) for task in tasks]
