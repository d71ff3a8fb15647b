"""The state that functions of WASI work on: a guest's arguments, environment, open files and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasmloom.errors import LinkError
from wasmloom.wasi.abi import NARROW, Layout
from wasmloom.wasi.descriptor_table import DescriptorTable

if TYPE_CHECKING:
    from wasmloom.host.callers import Caller
    from wasmloom.runtime.store import Store
    from wasmloom.wasi.threads import Group


class Context:
    """The state of one guest. `args` and `env` (``NAME=value``) are bytes without NUL.

    `layout`: that of structs with pointers in its memory.
    """

    def __init__(
        self, args: Sequence[bytes], env: Sequence[bytes], table: DescriptorTable, layout: Layout = NARROW
    ) -> None:
        self.layout = layout
        self.args = args
        self.env = env
        self.table = table
        #: By clock: what its time is ahead of the host's, in nanoseconds.
        self.offsets: tuple[int, ...] = (0, 0, 0, 0)
        self._memory: object | None = None
        self._store: Store | None = None
        #: The guest, and the state that was made before it was known.
        self._caller: Caller | None = None
        self._general: Context | None = None
        #: The other threads of the program whose first one this is.
        self.threads: Group | None = None

    def another(self, layout: Layout, caller: Caller | None = None) -> Context:
        """The state of another guest with the same arguments, environment and open files.

        `layout`: see the class. `caller`: the guest. Its exported memory is used, or without one what is bound to this
        state.
        """
        made = Context(self.args, self.env, self.table, layout)
        made.offsets = self.offsets
        if caller is not None:
            made._caller, made._general = caller, self
        return made

    def bind(self, memory: object, store: Store | None = None) -> None:
        """Use `memory`, any object that exports a writable buffer of bytes. Calls into `store` say how to wait."""
        self._memory = memory
        self._store = store

    @property
    def can_wait(self) -> bool:
        """Whether the guest's call runs in an event loop, so it can wait for coroutines."""
        store = self.store
        return store is not None and store.can_wait

    @property
    def timeout(self) -> float | None:
        """Seconds that one stretch of the guest's work may take; None: unlimited."""
        store = self.store
        return None if store is None else store.timeout

    @property
    def store(self) -> Store | None:
        """The store that the guest is in, if it is known."""
        return self._store if self._caller is None else self._caller.store

    @property
    def memory(self) -> memoryview:
        """Guest memory as it is now. Get it again in every call, because the guest can grow it."""
        memory = self._memory if self._caller is None else self._memory_of_caller()
        if memory is None:
            raise LinkError("WASI doesn't know the guest's memory: export it as 'memory', and bind the instance first")
        return memoryview(memory)  # type: ignore[arg-type]

    def _memory_of_caller(self) -> object | None:
        """The memory of the guest that has called. It isn't kept: the store keeps this, and would never be freed."""
        from wasmloom.host.externs import Memory
        from wasmloom.host.shared_memory import SharedMemory

        found = None if self._caller is None else self._caller.get("memory")
        is_memory = isinstance(found, Memory | SharedMemory)
        return self._general._memory if self._general is not None and not is_memory else found
