"""Open files: what a guest's file descriptor number stands for, and the table of them."""

from __future__ import annotations

import fcntl
import heapq
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import isawaitable, iscoroutinefunction
from typing import Any, BinaryIO, NamedTuple

from wasmloom.wasi.abi import (
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    FILESTAT,
    NO_RIGHTS,
    TERMINAL_RIGHTS,
    Errno,
    FdFlags,
    FileType,
    Rights,
    WasiError,
)

#: File type by the format bits of a host's `st_mode`; sockets and pipes need more than the mode.
_TYPE_OF_MODE: dict[int, FileType] = {
    stat.S_IFBLK: FileType.BLOCK_DEVICE,
    stat.S_IFCHR: FileType.CHARACTER_DEVICE,
    stat.S_IFDIR: FileType.DIRECTORY,
    stat.S_IFREG: FileType.REGULAR_FILE,
    stat.S_IFSOCK: FileType.SOCKET_STREAM,
    stat.S_IFLNK: FileType.SYMBOLIC_LINK,
}

#: `FdFlags` and the host's flag for it.
HOST_FLAGS: dict[FdFlags, int] = {
    FdFlags.APPEND: os.O_APPEND,
    FdFlags.DSYNC: os.O_DSYNC,
    FdFlags.NONBLOCK: os.O_NONBLOCK,
    FdFlags.RSYNC: getattr(os, "O_RSYNC", os.O_SYNC),
    FdFlags.SYNC: os.O_SYNC,
}


def file_type(mode: int) -> FileType:
    """The file type that a host's `st_mode` tells."""
    return _TYPE_OF_MODE.get(stat.S_IFMT(mode), FileType.UNKNOWN)


def pack_filestat(status: os.stat_result) -> bytes:
    """A host status as a `filestat`; times before 1970 become 0."""
    times = (max(time, 0) for time in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns))
    return FILESTAT.pack(
        status.st_dev, status.st_ino, file_type(status.st_mode), status.st_nlink, status.st_size, *times
    )


class Descriptor:
    """Something open. `rights` and `inheriting` only ever shrink.

    The operations of this base class fail as they do on something that can't do them (`ESPIPE` for positions,
    `ENOTSUP` and `EINVAL` otherwise); subclasses do what they can.
    """

    def __init__(self, kind: FileType, rights: Rights, inheriting: Rights = NO_RIGHTS) -> None:
        self.kind = kind
        # Plain integers: they are tested in every call, and enumerations are slow.
        self.rights = int(rights)
        self.inheriting = int(inheriting)

    @property
    def flags(self) -> FdFlags:
        """The flags that `fd_fdstat_get` reports."""
        return FdFlags(0)

    def fileno(self) -> int:
        """The host's file descriptor. Raises `WasiError` (`ENOTSUP`) when there is none."""
        raise WasiError(Errno.ENOTSUP)

    def status(self) -> bytes:
        """The packed `filestat`."""
        return FILESTAT.pack(0, 0, self.kind, 1, 0, 0, 0, 0)

    def read(self, buffers: list[memoryview]) -> int:
        """Read into `buffers`; the number of bytes, 0 at the end."""
        raise WasiError(Errno.EBADF)

    def write(self, buffers: list[memoryview]) -> int:
        """Write `buffers`; the number of bytes."""
        raise WasiError(Errno.EBADF)

    def pread(self, buffers: list[memoryview], offset: int) -> int:
        """`read` at `offset`, leaving the position alone."""
        raise WasiError(Errno.ESPIPE)

    def pwrite(self, buffers: list[memoryview], offset: int) -> int:
        """`write` at `offset`, leaving the position alone."""
        raise WasiError(Errno.ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position and return it."""
        raise WasiError(Errno.ESPIPE)

    def sync(self, *, data_only: bool) -> None:
        """Bring what was written to the device."""

    def set_flags(self, flags: FdFlags) -> None:
        """Change the flags. Raises `WasiError` (`ENOTSUP`) for those that can't be changed."""
        raise WasiError(Errno.ENOTSUP)

    def close(self) -> None:
        """Give back what the host holds for this."""


class HostFile(Descriptor):
    """A file of the host. `owned`: close it in the end."""

    def __init__(
        self, host: int, rights: Rights | None = None, inheriting: Rights = NO_RIGHTS, *, owned: bool = True
    ) -> None:
        kind = file_type(os.fstat(host).st_mode)
        if rights is None:
            rights = TERMINAL_RIGHTS if kind == FileType.CHARACTER_DEVICE else FILE_RIGHTS
        super().__init__(kind, rights, inheriting)
        self._host = host
        self._owned = owned
        #: What the flags of a file that isn't ours were before the guest changed them.
        self._borrowed_flags: int | None = None

    @property
    def flags(self) -> FdFlags:
        """The flags that the host has for the file."""
        host = fcntl.fcntl(self._host, fcntl.F_GETFL)
        found = FdFlags(0)
        for flag, bits in HOST_FLAGS.items():
            # RSYNC has no flag of its own on most hosts: it would show up with SYNC.
            if host & bits == bits and flag != FdFlags.RSYNC:
                found |= flag
        return found

    def fileno(self) -> int:
        """The host's file descriptor."""
        return self._host

    def status(self) -> bytes:
        """The packed `filestat`."""
        return pack_filestat(os.fstat(self._host))

    def read(self, buffers: list[memoryview]) -> int:
        """Read straight into guest memory."""
        return os.readv(self._host, buffers) if buffers else 0

    def write(self, buffers: list[memoryview]) -> int:
        """Write straight from guest memory."""
        return os.writev(self._host, buffers) if buffers else 0

    def pread(self, buffers: list[memoryview], offset: int) -> int:
        """Read straight into guest memory."""
        return os.preadv(self._host, buffers, offset) if buffers else 0

    def pwrite(self, buffers: list[memoryview], offset: int) -> int:
        """Write straight from guest memory."""
        return os.pwritev(self._host, buffers, offset) if buffers else 0

    def seek(self, offset: int, whence: int) -> int:
        """Move the position and return it."""
        return os.lseek(self._host, offset, whence)

    def sync(self, *, data_only: bool) -> None:
        """Bring what was written to the device."""
        (getattr(os, "fdatasync", os.fsync) if data_only else os.fsync)(self._host)

    def set_flags(self, flags: FdFlags) -> None:
        """Change APPEND and NONBLOCK; hosts can't change the synchronisation of an open file."""
        changeable = FdFlags.APPEND | FdFlags.NONBLOCK
        if (flags ^ self.flags) & ~changeable:
            raise WasiError(Errno.ENOTSUP)
        host = fcntl.fcntl(self._host, fcntl.F_GETFL)
        if not self._owned and self._borrowed_flags is None:
            self._borrowed_flags = host
        for flag in changeable:
            host = host | HOST_FLAGS[flag] if flag in flags else host & ~HOST_FLAGS[flag]
        fcntl.fcntl(self._host, fcntl.F_SETFL, host)

    def close(self) -> None:
        """Close the host's file, or leave it as it was."""
        if self._owned:
            os.close(self._host)
        elif self._borrowed_flags is not None:
            # They belong to the open file, which the terminal's other users (our parent, say) share.
            fcntl.fcntl(self._host, fcntl.F_SETFL, self._borrowed_flags)


class Entry(NamedTuple):
    """An entry of a directory."""

    name: bytes
    inode: int
    kind: FileType


class Directory(HostFile):
    """A directory of the host; `preopen` is the name by which the guest knows it when it was given, else None."""

    def __init__(self, host: int, rights: Rights, inheriting: Rights, preopen: bytes | None = None) -> None:
        super().__init__(host, rights, inheriting)
        self.preopen = preopen
        self._entries: list[Entry] = []

    def entries(self, cookie: int) -> Iterator[tuple[int, Entry]]:
        """The entries from `cookie` on, each with the cookie of the one after it.

        The directory is read when the guest starts again (`cookie` 0); what it sees until then is that snapshot.
        """
        if cookie == 0 or not self._entries:
            self._entries = list(self._scan())
        for position in range(cookie, len(self._entries)):
            yield position + 1, self._entries[position]

    def _scan(self) -> Iterator[Entry]:
        own = os.fstat(self._host).st_ino
        yield Entry(b".", own, FileType.DIRECTORY)
        # The parent may lie outside of what the guest may know: it only learns that there is one.
        yield Entry(b"..", own, FileType.DIRECTORY)
        with os.scandir(self._host) as found:
            for entry in found:
                if entry.is_symlink():
                    kind = FileType.SYMBOLIC_LINK
                elif entry.is_dir(follow_symlinks=False):
                    kind = FileType.DIRECTORY
                elif entry.is_file(follow_symlinks=False):
                    kind = FileType.REGULAR_FILE
                else:
                    kind = FileType.UNKNOWN
                    with suppress(FileNotFoundError):
                        kind = file_type(entry.stat(follow_symlinks=False).st_mode)
                yield Entry(os.fsencode(entry.name), entry.inode(), kind)

    def read(self, buffers: list[memoryview]) -> int:
        """Fail: directories are read with `fd_readdir`."""
        raise WasiError(Errno.EISDIR)

    def seek(self, offset: int, whence: int) -> int:
        """Fail: the position of a directory is the cookie of `fd_readdir`."""
        raise WasiError(Errno.EBADF)


class Stream(Descriptor):
    """A Python binary file object, such as `io.BytesIO`, as standard input (`readable`) or output."""

    def __init__(self, file: BinaryIO, *, readable: bool) -> None:
        # A character device without positions, whatever the object could do: what pipes and terminals look like.
        super().__init__(
            FileType.CHARACTER_DEVICE, TERMINAL_RIGHTS & ~(Rights.FD_WRITE if readable else Rights.FD_READ)
        )
        self._file = file
        # Buffered objects have `readinto1`, which takes what is there instead of waiting until the buffer is full.
        self._read_into: Callable[[memoryview], int | None] | None = getattr(
            file, "readinto1", getattr(file, "readinto", None)
        )
        self._flush: Callable[[], object] | None = getattr(file, "flush", None)

    def read(self, buffers: list[memoryview]) -> int:
        """Read into the first buffer: whether there is enough for another can't be asked without waiting for it."""
        if not buffers:
            return 0
        if self._read_into is None:
            data = self._file.read(len(buffers[0]))
            buffers[0][: len(data)] = data
            return len(data)
        count = self._read_into(buffers[0])
        if count is None:  # a non-blocking file has nothing now
            raise WasiError(Errno.EAGAIN)
        return count

    def write(self, buffers: list[memoryview]) -> int:
        """Write all of `buffers`; what the guest wrote is out then, as with files of the host."""
        total = 0
        for buffer in buffers:
            # Many file objects keep what they are given: they get their own copy, not guest memory.
            count = self._file.write(bytes(buffer))
            total += len(buffer) if count is None else count
            if count is not None and count < len(buffer):
                break
        if self._flush is not None:
            self._flush()
        return total


class AsyncStream(Descriptor):
    """A stream of an event loop, as asyncio's `StreamReader` and `StreamWriter`: the guest waits for it.

    For input `file` has a coroutine method ``read(n)`` that gives up to n bytes, none at the end; for output a method
    ``write(data)`` whose result, if it can be awaited, is, and possibly a coroutine method ``drain()``.
    """

    def __init__(self, file: Any, *, readable: bool) -> None:
        super().__init__(
            FileType.CHARACTER_DEVICE, TERMINAL_RIGHTS & ~(Rights.FD_WRITE if readable else Rights.FD_READ)
        )
        self._file = file

    @staticmethod
    def fits(value: object, *, readable: bool) -> bool:
        """Whether an object is such a stream."""
        methods = ("read",) if readable else ("drain", "write")
        return any(iscoroutinefunction(getattr(value, name, None)) for name in methods)

    async def read_async(self, size: int) -> bytes:
        """Wait for up to `size` bytes; none at the end."""
        data: bytes = await self._file.read(size)
        return data[:size]

    async def write_async(self, data: bytes) -> None:
        """Write, and wait until the stream takes more."""
        written = self._file.write(data)
        if isawaitable(written):
            await written
        drain = getattr(self._file, "drain", None)
        if drain is not None:
            await drain()


def open_preopen(guest: str, host: str | os.PathLike[str]) -> Directory:
    """Open the directory `host` for a guest that knows it as `guest`. Raises `OSError`."""
    opened = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return Directory(opened, DIRECTORY_RIGHTS, DIRECTORY_RIGHTS | FILE_RIGHTS, guest.encode())


class DescriptorTable:
    """The guest's open file descriptors. New ones get the lowest free number, as in POSIX."""

    def __init__(self) -> None:
        self._open: dict[int, Descriptor] = {}
        self._freed: list[int] = []
        self._next = 0
        #: The descriptor of a number, or None.
        self.get = self._open.get

    def __getitem__(self, number: int) -> Descriptor:
        """The descriptor of a number. Raises `WasiError` (`EBADF`) when it isn't open."""
        found = self._open.get(number)
        if found is None:
            raise WasiError(Errno.EBADF)
        return found

    def add(self, descriptor: Descriptor) -> int:
        """Give a descriptor a number."""
        while self._freed:
            number = heapq.heappop(self._freed)
            if number not in self._open:
                break
        else:
            number = self._next
            self._next += 1
        self._open[number] = descriptor
        return number

    def close(self, number: int) -> None:
        """Close a number. Raises `WasiError` (`EBADF`) and `OSError`."""
        found = self[number]
        del self._open[number]
        heapq.heappush(self._freed, number)
        found.close()

    def renumber(self, source: int, target: int) -> None:
        """Let `target`, which is closed, mean what `source` does, which becomes free. Both must be open (`EBADF`)."""
        moved, replaced = self[source], self[target]
        if source == target:
            return
        del self._open[source]
        heapq.heappush(self._freed, source)
        self._open[target] = moved
        replaced.close()

    def close_all(self) -> None:
        """Close every number, also when closing one fails."""
        for number in list(self._open):
            with suppress(OSError):
                self.close(number)
