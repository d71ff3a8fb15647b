"""The guest's file descriptor numbers."""

from __future__ import annotations

import heapq
import itertools
from contextlib import suppress

from wasmloom.wasi.abi import Errno, WasiError
from wasmloom.wasi.descriptors import Descriptor

#: The number of files that a guest may have open at the same time, besides those that it was given.
MAX_FILES = 256


class DescriptorTable:
    """The guest's open file descriptors. New ones get the lowest free number, as in POSIX.

    Threads may share a table: each step here is one atomic operation of a dict, a heap or a counter. A file that is
    closed while another thread uses it stays open until that has finished (`Descriptor.pin`).
    """

    def __init__(self, max_files: int = MAX_FILES) -> None:
        self._open: dict[int, Descriptor] = {}
        self._freed: list[int] = []
        self._numbers = itertools.count()
        self.max_files = max_files
        #: Numbers that are never given to a file.
        self._left_out: list[int] = []
        #: The number of descriptors that the guest was given.
        self._given = 0
        self.closed = False
        #: Whether a guest has it.
        self.used = False
        #: The descriptor of a number, or None.
        self.get = self._open.get

    def pin(self, number: int) -> Descriptor:
        """The descriptor of a number, pinned: the caller unpins it. Raises `WasiError` (`EBADF`) if it isn't open."""
        found = self._open.get(number)
        if found is None:
            raise WasiError(Errno.EBADF)
        found.pin()
        return found

    def __getitem__(self, number: int) -> Descriptor:
        """The descriptor of a number. Raises `WasiError` (`EBADF`) when it isn't open."""
        found = self._open.get(number)
        if found is None:
            raise WasiError(Errno.EBADF)
        return found

    def give(self, descriptor: Descriptor) -> int:
        """Give a descriptor a number before the guest begins. It doesn't count towards the limit."""
        self._given += 1
        return self.add(descriptor)

    def leave_out(self) -> None:
        """Reserve a number, so that it is never given to a file (for a standard stream that the process doesn't
        have)."""
        self._left_out.append(next(self._numbers))

    def check_room(self) -> None:
        """Raise `WasiError` (`EMFILE`) when the guest may not open another file."""
        if len(self._open) >= self._given + self.max_files:
            raise WasiError(Errno.EMFILE)

    def add(self, descriptor: Descriptor) -> int:
        """Give a descriptor a number; if there is none for it, it is closed.

        Raises `WasiError`: `EMFILE` when the guest has too many, `EBADF` when the table has been closed.
        """
        try:
            self.check_room()
        except WasiError:
            descriptor.close()
            raise
        try:
            number = heapq.heappop(self._freed)
        except IndexError:
            number = next(self._numbers)
        self._open[number] = descriptor
        if self.closed:  # by another thread meanwhile
            self.close_all()
            raise WasiError(Errno.EBADF)
        return number

    def close(self, number: int) -> None:
        """Close a number. Raises `WasiError` (`EBADF`) and `OSError`."""
        found = self._open.pop(number, None)
        if found is None:
            raise WasiError(Errno.EBADF)
        heapq.heappush(self._freed, number)
        found.close()

    def renumber(self, source: int, target: int) -> None:
        """Close `target` and give it the file of `source`, which becomes free. Both must be open (`EBADF`)."""
        if source == target:
            self[source]
            return
        replaced, moved = self[target], self._open.pop(source, None)
        if moved is None:
            raise WasiError(Errno.EBADF)
        self._open[target] = moved
        heapq.heappush(self._freed, source)
        replaced.close()

    # --- for snapshots: no guest runs meanwhile ---

    def open_files(self) -> list[tuple[int, Descriptor]]:
        """The open descriptors, by number."""
        return sorted(self._open.items())

    def numbers(self) -> tuple[int, tuple[int, ...]]:
        """The number that no file has had yet, and those before it that are free, in order."""
        used = (*self._open, *self._freed, *self._left_out)
        return max(used, default=-1) + 1, tuple(sorted(self._freed))

    def replace(self, opened: dict[int, Descriptor], freed: tuple[int, ...], following: int) -> None:
        """Have other numbers and files; those that there were and aren't in there are closed."""
        self.used = True
        stay = set(map(id, opened.values()))
        for file in list(self._open.values()):
            if id(file) not in stay:
                with suppress(OSError):
                    file.close()
        self._open.clear()
        self._open.update(opened)
        self._freed, self._left_out = list(freed), [following - 1] if following else []
        self._numbers = itertools.count(following)

    def close_all(self) -> None:
        """Close every number, even when closing one fails. No new numbers are given from now on."""
        self.closed = True
        for number in list(self._open):
            with suppress(OSError, WasiError):
                self.close(number)
