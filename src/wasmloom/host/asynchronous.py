"""Guests and event loops: the coroutine that drives a call that can wait.

The guest itself is a `GuestTask` (`wasmloom.host.tasks`), which knows nothing of event loops; the coroutine here runs
it and awaits what it waits for. Any event loop that drives coroutines will do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.errors import Frame
from wasmloom.host.bridge import Func as Func
from wasmloom.host.bridge import set_run_waiting
from wasmloom.host.tasks import new_task, parked_tasks

if TYPE_CHECKING:
    from wasmloom.runtime.store import Store

#: The exceptions that cancel a coroutine besides `GeneratorExit`, as module and class. If one can be raised, its module
#: is loaded.
_CANCELLATIONS = (("asyncio", "CancelledError"), ("trio", "Cancelled"))


def _cancels(error: BaseException) -> bool:
    """Whether an error asks the coroutine that it is raised in to clean up and end."""
    return isinstance(error, GeneratorExit) or any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, name in _CANCELLATIONS
        if module in sys.modules
    )


def _abandon(task: Any) -> None:
    """Drop a guest and what it waits for: nothing will await it."""
    close = getattr(task.awaitable, "close", None)
    task.discard()
    if close is not None:
        close()


#: Who is told, before and after, of guests that wait: by the `id` of a store that they keep.
watchers: dict[int, Callable[[Any, bool], None]] = {}


def _tell(task: Any, waits: bool) -> None:
    watcher = watchers.get(id(task.store))
    if watcher is not None:
        watcher(task, waits)


async def run_guest(function: Func, args: tuple[object, ...]) -> Any:
    """Call a function that may wait; returns its results, raises what it raises."""
    task: Any = new_task(function)
    try:
        waits = task.start(args)
        while waits:
            try:
                if watchers:
                    _tell(task, True)
                value = await task.awaitable
            except BaseException as error:
                if watchers:
                    _tell(task, False)
                waits = task.throw(error, _cancels(error))
                if waits and isinstance(error, GeneratorExit):
                    raise  # its handlers wait again, but a closed coroutine can't
            else:
                if watchers:
                    _tell(task, False)
                waits = task.send(value)
        return task.result
    except BaseException:
        # This includes exceptions that a signal handler has raised between two lines: the guest waits, and nothing
        # would resume it.
        if task.awaitable is not None:
            _abandon(task)
        raise


set_run_waiting(run_guest)


class WaitingGuest(NamedTuple):
    """A guest that waits: the names of the called function and of the host function that it waits for; its frames."""

    function: str
    waits_for: str
    frames: tuple[Frame, ...]


def waiting_guests(store: Store) -> list[WaitingGuest]:
    """The guests of a store that wait for host functions; the one that began to wait last comes first."""
    tasks: list[Any] = parked_tasks(store)
    return [WaitingGuest(task.function.name, task.waits_for, task.frames) for task in tasks]
