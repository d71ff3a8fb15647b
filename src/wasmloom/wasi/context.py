"""What the functions of WASI work on: the guest's arguments, environment, open files and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from wasmloom.errors import LinkError, Trap
from wasmloom.runtime.traps import TIMEOUT, TRAP_REASONS
from wasmloom.wasi.abi import Errno, Rights, WasiError
from wasmloom.wasi.descriptors import DescriptorTable, Directory

if TYPE_CHECKING:
    from wasmloom import Store


#: What a function gives instead of blocking: it makes the coroutine that does the rest.
Later = Callable[[], Coroutine[Any, Any, None]]


class Context:
    """The state of one guest. `args` and `env` (``NAME=value``) are bytes without NUL."""

    def __init__(self, args: Sequence[bytes], env: Sequence[bytes]) -> None:
        self.args = args
        self.env = env
        self.table = DescriptorTable()
        #: Whether the guest runs in an event loop, so that it can wait for coroutines.
        self.asynchronous = False
        self._memory: object | None = None
        self._store: Store | None = None

    def bind(self, memory: object, store: Store | None = None) -> None:
        """Use `memory`, any object that exports its bytes as a writable buffer, and obey the timeout of `store`."""
        self._memory = memory
        self._store = store

    def time_left(self) -> int | None:
        """Nanoseconds until the guest's call times out; None when nothing limits it. Raises `Trap` when it is over.

        Whoever waits for something asks this first: a guest that sleeps can't be interrupted as a running one can.
        """
        deadline = self._store.deadline if self._store is not None else None
        if deadline is None:
            return None
        left = deadline - time.monotonic_ns()
        if left <= 0:
            raise Trap(TRAP_REASONS[TIMEOUT])
        return left

    @property
    def memory(self) -> memoryview:
        """Guest memory as it is now: take it anew in every call, since the guest can grow it."""
        if self._memory is None:
            raise LinkError("WASI doesn't know the guest's memory: export it as 'memory', and bind the instance first")
        return memoryview(self._memory)  # type: ignore[arg-type]

    def directory(self, number: int, right: Rights) -> Directory:
        """The open directory of a number that allows `right`.

        Raises `WasiError`: `EBADF` when it isn't open, `ENOTDIR` when it isn't a directory, `ENOTCAPABLE` otherwise.
        """
        found = self.table[number]
        if not isinstance(found, Directory):
            raise WasiError(Errno.ENOTDIR)
        if right & ~found.rights:
            raise WasiError(Errno.ENOTCAPABLE)
        return found
