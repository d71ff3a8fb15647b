"""Guests and event loops: the coroutine that drives a call that can wait.

The guest itself is a `GuestTask` (`wasmloom.host.tasks`), which knows nothing of event loops; the coroutine here runs
it and awaits what it waits for. Any event loop that drives coroutines will do.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from types import GeneratorType, coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.errors import Frame, WasmError
from wasmloom.host.bridge import Func as Func
from wasmloom.host.bridge import set_run_waiting
from wasmloom.host.tasks import new_task, parked_tasks

if TYPE_CHECKING:
    from wasmloom.runtime.store import Store

#: The exceptions that cancel a coroutine besides `GeneratorExit`, as module and class. If one can be raised, its module
#: is loaded.
_CANCELLATIONS = (("asyncio", "CancelledError"), ("trio", "Cancelled"))


#: The task of the call that the running host function has been called in.
_calling: ContextVar[Any] = ContextVar("wasmloom_calling", default=None)


class CallInfo(NamedTuple):
    """What identifies the call of a host function by a guest that waits for it.

    `id`: the same in every copy of the guest, however often it is asked again: a key by which whoever does the work can
    tell that it has been done. `branch`: differs between a guest and its copies. `attempt`: 1, and one more each time
    that the function is called again.
    """

    id: str
    branch: str = ""
    attempt: int = 1


def call_of(task: Any) -> CallInfo:
    """What identifies the call that a task waits for."""
    if task.call is None:
        task.call = CallInfo(secrets.token_hex(16), task.store.branch)
    info: CallInfo = task.call
    return info


def current_call() -> CallInfo:
    """What identifies the call that runs: for host functions that guests wait for, as ``async def`` functions.

    Raises `WasmError` elsewhere, also in the part of such a function that runs before it returns an awaitable.
    """
    task = _calling.get()
    if task is None:
        raise WasmError("no guest waits for this: current_call is for host functions that are awaited")
    return call_of(task)


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


def run_guest(function: Func, args: tuple[object, ...]) -> Coroutine[Any, Any, Any]:
    """Call a function that may wait; awaiting that gives its results, or raises what it raises."""
    task: Any = new_task(function)
    return drive(task, partial(task.start, args))


def ask(task: Any) -> bool:
    """Call again the host function that a guest out of a snapshot waits for; returns whether the guest waits."""
    token = _calling.set(task)
    try:
        waits: bool = task.ask()
    except BaseException as error:
        waits = throw_into(task, error)
    finally:
        _calling.reset(token)
    return waits


def throw_into(task: Any, error: BaseException) -> bool:
    """Throw an error in a guest that waits; returns whether it waits again."""
    waits: bool = task.throw(error, _cancels(error))
    return waits


@coroutine
def _in_call(task: Any) -> Generator[Any, Any, Any]:
    """Await what a task waits for; whatever runs meanwhile finds the task.

    Each step runs in the context of whoever drives the coroutine. Others that wait may be driven in the same one, and
    it lasts longer than this; so after each step it is as before. Otherwise this is `yield from` (PEP 380).
    """
    inner: Any = task.awaitable
    if not isinstance(inner, GeneratorType):  # one that is a coroutine by `types.coroutine`
        inner = inner.__await__()
    sent: Any = None
    thrown: list[BaseException] = []
    while True:
        token = _calling.set(task)
        try:
            if thrown:
                given = inner.throw(thrown.pop())  # the frame of what leaves here doesn't refer to it
            elif sent is None:
                given = next(inner)
            else:
                given = inner.send(sent)
        except StopIteration as done:
            return done.value
        finally:
            _calling.reset(token)
        try:
            sent = yield given
        except GeneratorExit:
            token = _calling.set(task)
            try:
                if hasattr(inner, "close"):
                    inner.close()
            finally:
                _calling.reset(token)
            raise
        except BaseException as error:
            if not hasattr(inner, "throw"):
                raise
            thrown.append(error)


async def drive(task: Any, begin: Callable[[], bool]) -> Any:
    """Run a task to its end; `begin` begins or resumes it, and returns whether it waits then."""
    try:
        waits = begin()
        while waits:
            try:
                if watchers:
                    _tell(task, True)
                value = await _in_call(task)
            except BaseException as error:
                if watchers:
                    _tell(task, False)
                waits = throw_into(task, error)
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
