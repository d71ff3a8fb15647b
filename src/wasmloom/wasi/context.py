"""What the functions of WASI work on: the guest's arguments, environment, open files and memory."""

from __future__ import annotations

from collections.abc import Sequence

from wasmloom.errors import LinkError
from wasmloom.wasi.abi import Errno, Rights, WasiError
from wasmloom.wasi.descriptors import DescriptorTable, Directory


class Context:
    """The state of one guest. `args` and `env` (``NAME=value``) are bytes without NUL."""

    def __init__(self, args: Sequence[bytes], env: Sequence[bytes]) -> None:
        self.args = args
        self.env = env
        self.table = DescriptorTable()
        self._memory: object | None = None

    def bind(self, memory: object) -> None:
        """Use `memory`, any object that exports its bytes as a writable buffer."""
        self._memory = memory

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
