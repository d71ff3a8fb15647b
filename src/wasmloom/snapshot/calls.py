"""Calls that have come out of a snapshot: their guests wait for host functions that nobody has called here."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from wasmloom.host.asynchronous import CallInfo, ask, drive, throw_into
from wasmloom.host.fixed import Fixed, fill


@final
class PendingCall(Fixed):
    """A call of a guest that waits for a host function. It goes on once: by `run`, `answer` or `throw`.

    What these give is what the call of the guest gives in the end; they raise what it raises. `id` is the same in every
    copy of the guest: a key by which whoever does the function's work can tell that it has been done. `branch` differs
    between copies. `function` is the name of the guest's function that had been called, `waits_for` that of the host
    function, `args` what the guest has called that with. A guest that has been interrupted while it computed waits for
    nothing: `waits_for` is empty, and `run` lets it go on.
    """

    __slots__ = ("_info", "_task", "args", "function", "waits_for")

    _info: CallInfo
    _task: Any
    args: tuple[Any, ...]
    function: str
    waits_for: str

    @classmethod
    def _of(cls, task: Any, info: CallInfo) -> PendingCall:
        task.call = info
        self = Fixed.__new__(cls)
        fill(
            self, _task=task, _info=info, args=task.arguments, function=task.function.name, waits_for=task.waits_for
        )
        return self

    def __new__(cls) -> PendingCall:
        """Raise `TypeError`: `Snapshot.restore` makes pending calls."""
        raise TypeError("pending calls are made by Snapshot.restore")

    @property
    def id(self) -> str:
        """What tells the call apart from all others, in all copies."""
        return self._info.id

    @property
    def branch(self) -> str:
        """What tells this copy of the guest apart from others."""
        return self._info.branch

    @property
    def frames(self) -> tuple[Any, ...]:
        """The frames of the guest while it waits, the host function's first."""
        found: tuple[Any, ...] = self._task.frames
        return found

    def _once(self) -> Any:
        task = self._task
        if task.call is not self._info:
            raise RuntimeError("this call has gone on already")
        task.call = self._info._replace(attempt=self._info.attempt + 1)
        return task

    def _check(self) -> None:
        if not self.waits_for:
            raise RuntimeError("this guest waits for nothing: let it run")

    async def run(self) -> Any:
        """Call the host function again, with the same arguments, and let the guest go on with what it gives.

        Raises `RuntimeError` for a call that has gone on already, or has been discarded.
        """
        task = self._once()
        return await drive(task, partial(ask, task))

    async def answer(self, value: object = None) -> Any:
        """Let the guest go on as if the host function had returned `value` (a tuple for several results).

        Raises as `run` does, and as a host function's results do when they don't fit.
        """
        self._check()
        task = self._once()
        return await drive(task, partial(task.send, value))

    async def throw(self, error: BaseException) -> Any:
        """Let the guest go on as if the host function had raised `error`. Raises as `run` does."""
        self._check()
        task = self._once()
        return await drive(task, partial(throw_into, task, error))

    def discard(self) -> None:
        """End the guest. None of its code runs any more."""
        if self._task.call is self._info:
            self._once()
            self._task.discard()

    def __repr__(self) -> str:
        return f"<wasmloom.PendingCall of {self.function}, which waits for {self.waits_for}>"
