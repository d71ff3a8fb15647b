"""The state that functions of WASI work on: a guest's arguments, environment, open files and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasmloom.errors import LinkError
from wasmloom.wasi.descriptor_table import DescriptorTable

if TYPE_CHECKING:
    from wasmloom.runtime.store import Store


class Context:
    """The state of one guest. `args` and `env` (``NAME=value``) are bytes without NUL."""

    def __init__(self, args: Sequence[bytes], env: Sequence[bytes], table: DescriptorTable) -> None:
        self.args = args
        self.env = env
        self.table = table
        self._memory: object | None = None
        self._store: Store | None = None

    def another(self) -> Context:
        """The state of another guest with the same arguments, environment and open files."""
        return Context(self.args, self.env, self.table)

    def bind(self, memory: object, store: Store | None = None) -> None:
        """Use `memory`, any object that exports a writable buffer of bytes. Calls into `store` say how to wait."""
        self._memory = memory
        self._store = store

    @property
    def can_wait(self) -> bool:
        """Whether the guest's call runs in an event loop, so it can wait for coroutines."""
        return self._store is not None and self._store.can_wait

    @property
    def timeout(self) -> float | None:
        """Seconds that one stretch of the guest's work may take; None: unlimited."""
        return None if self._store is None else self._store.timeout

    @property
    def memory(self) -> memoryview:
        """Guest memory as it is now. Get it again in every call, because the guest can grow it."""
        if self._memory is None:
            raise LinkError("WASI doesn't know the guest's memory: export it as 'memory', and bind the instance first")
        return memoryview(self._memory)  # type: ignore[arg-type]
