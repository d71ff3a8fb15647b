"""Descriptors: the open files that a guest's file descriptor numbers stand for."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from struct import Struct
from typing import NamedTuple

from wasmloom.system.owned import OwnedDescriptor
from wasmloom.wasi import hostcalls
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

#: Kinds of files that never wait for others.
_ON_DISK = (FileType.REGULAR_FILE, FileType.DIRECTORY, FileType.BLOCK_DEVICE)

_PLAIN_RIGHTS = int(Rights.FD_READ | Rights.FD_WRITE)
_POSITION_RIGHTS = int(Rights.FD_SEEK | Rights.FD_TELL)

#: Bytes of entries that are read from the kernel at once, and kept for the next call.
DIRECTORY_CHUNK = 1 << 13
#: Of the kernel's `linux_dirent64`: inode, position of the next entry, size of this one, type (the upper bits of a
#: mode, 0: not known); then the name, ended by NUL.
_HOST_DIRENT = Struct("=QqHB")


def file_type(mode: int) -> FileType:
    """The file type that a host's `st_mode` says."""
    return _TYPE_OF_MODE.get(stat.S_IFMT(mode), FileType.UNKNOWN)


def pack_filestat(status: os.stat_result) -> bytes:
    """A host status as a `filestat`; times before 1970 become 0."""
    times = (max(time, 0) for time in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns))
    return FILESTAT.pack(
        status.st_dev, status.st_ino, file_type(status.st_mode), status.st_nlink, status.st_size, *times
    )


class Descriptor:
    """Something open. `rights` and `inheriting` only ever shrink.

    The operations of this base class fail (`ESPIPE` for positions, `ENOTSUP` and `EINVAL` otherwise); subclasses
    implement what they can. None of them waits: they raise `BlockingIOError` instead.

    A user of a descriptor pins it, because another thread may close it meanwhile, and the host may then give its number
    to another file. The last user to unpin it closes it. The pins are counted by lists, whose methods are atomic.
    """

    #: Whether an event loop runs its operations.
    is_async = False
    #: Whether it is, or was opened through, a directory that the guest may not change.
    read_only = False
    #: "stdin", "stdout" or "stderr", if it was given to the guest as that.
    role = ""
    #: The directory given to the guest below which it was opened.
    origin: Descriptor | None = None

    def __init__(self, kind: FileType, rights: Rights, inheriting: Rights = NO_RIGHTS) -> None:
        self.kind = kind
        # Plain integers, because they are tested in every call, and enumerations are slow.
        self.rights = int(rights)
        self.inheriting = int(inheriting)
        #: Whether the guest wants an error (`EAGAIN`) rather than wait.
        self.nonblocking = False
        self._closed = False
        self._pins: list[None] = []

    @property
    def can_block(self) -> bool:
        """Whether reading and writing depend on what others do, unlike those of files on disk."""
        return True

    @property
    def waits(self) -> bool:
        """Whether an operation that raised `BlockingIOError` can be waited for, and is to be."""
        return False

    @property
    def flags(self) -> FdFlags:
        """The flags that `fd_fdstat_get` reports."""
        return FdFlags(0)

    @property
    def is_open(self) -> bool:
        """Whether it hasn't been closed."""
        return not self._closed

    def pin(self) -> None:
        """Begin to use this. Raises `WasiError` (`EBADF`) when it has been closed."""
        self._pins.append(None)
        if self._closed:
            self.unpin()
            raise WasiError(Errno.EBADF)

    def unpin(self) -> None:
        """End what `pin` began."""
        self._pins.pop()
        if self._closed and not self._pins:
            with suppress(OSError):
                self.release()

    def close(self) -> None:
        """Release what the host holds for this, now or when the last user has unpinned it. Raises `OSError`."""
        self._closed = True
        if not self._pins:
            self.release()

    def release(self) -> None:
        """Do what `close` is for. It can be called again. Raises `OSError`."""

    def refusal(self, missing: int) -> Errno:
        """The error for a call that needs rights which are `missing`."""
        if missing & _PLAIN_RIGHTS:
            # POSIX programs expect this for a file that isn't open for reading or writing.
            return Errno.EBADF
        if missing & _POSITION_RIGHTS:
            if self.kind == FileType.DIRECTORY:
                return Errno.EBADF
            if self.kind in (FileType.CHARACTER_DEVICE, FileType.UNKNOWN):
                return Errno.ESPIPE
        return Errno.ENOTCAPABLE

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
        if flags != self.flags:
            raise WasiError(Errno.ENOTSUP)


class HostFile(Descriptor):
    """A file of the host.

    `owned`: it is closed at the latest when this object is freed, and if it can block, its open file is `O_NONBLOCK`.
    Otherwise others use it, too, and nothing about it is changed.
    """

    def __init__(
        self,
        host: int,
        rights: Rights | None = None,
        inheriting: Rights = NO_RIGHTS,
        *,
        owned: bool = True,
        nonblocking: bool | None = None,
    ) -> None:
        kind = file_type(os.fstat(host).st_mode)
        if rights is None:
            rights = TERMINAL_RIGHTS if kind == FileType.CHARACTER_DEVICE else FILE_RIGHTS
        super().__init__(kind, rights, inheriting)
        self._host = host
        self._owned = owned
        self._can_block = kind not in _ON_DISK
        #: Whether this guest wants to append to an open file that isn't ours.
        self._appends = False
        self.nonblocking = not os.get_blocking(host) if nonblocking is None else nonblocking
        #: The object that closes it, if it is ours: a `Wasi` may be freed without having been closed.
        self._owner = OwnedDescriptor(host) if owned else None

    @property
    def can_block(self) -> bool:
        """Whether reading and writing depend on what others do."""
        return self._can_block

    @property
    def waits(self) -> bool:
        """Whether an operation that raised `BlockingIOError` can be waited for, and is to be."""
        return self._can_block and not self.nonblocking

    @property
    def flags(self) -> FdFlags:
        """The host's flags of the file, and those that only the guest has."""
        host = fcntl.fcntl(self._host, fcntl.F_GETFL)
        found = FdFlags.NONBLOCK if self.nonblocking else FdFlags(0)
        if self._appends:
            found |= FdFlags.APPEND
        for flag, bits in HOST_FLAGS.items():
            # RSYNC has no flag of its own on most hosts; it would appear with SYNC.
            if host & bits == bits and flag not in (FdFlags.RSYNC, FdFlags.NONBLOCK):
                found |= flag
        return found

    def fileno(self) -> int:
        """The host's file descriptor."""
        return self._host

    @property
    def access(self) -> int:
        """The host's mode of access: `os.O_RDONLY`, `os.O_WRONLY` or `os.O_RDWR`."""
        return fcntl.fcntl(self._host, fcntl.F_GETFL) & os.O_ACCMODE

    def status(self) -> bytes:
        """The packed `filestat`."""
        return pack_filestat(os.fstat(self._host))

    def read(self, buffers: list[memoryview]) -> int:
        """Read straight into guest memory."""
        if self._can_block and not self._owned:
            return hostcalls.read(self._host, buffers)
        return os.readv(self._host, buffers)

    def write(self, buffers: list[memoryview]) -> int:
        """Write straight from guest memory."""
        if self._can_block and not self._owned:
            return hostcalls.write(self._host, buffers)
        if self._appends:
            return os.pwritev(self._host, buffers, -1, os.RWF_APPEND)
        return os.writev(self._host, buffers)

    def pread(self, buffers: list[memoryview], offset: int) -> int:
        """Read straight into guest memory."""
        return os.preadv(self._host, buffers, offset)

    def pwrite(self, buffers: list[memoryview], offset: int) -> int:
        """Write straight from guest memory."""
        return os.pwritev(self._host, buffers, offset)

    def seek(self, offset: int, whence: int) -> int:
        """Move the position and return it."""
        return os.lseek(self._host, offset, whence)

    def sync(self, *, data_only: bool) -> None:
        """Bring what was written to the device."""
        (getattr(os, "fdatasync", os.fsync) if data_only else os.fsync)(self._host)

    def set_flags(self, flags: FdFlags) -> None:
        """Change APPEND and NONBLOCK; hosts can't change the synchronisation of an open file."""
        if (flags ^ self.flags) & ~(FdFlags.APPEND | FdFlags.NONBLOCK):
            raise WasiError(Errno.ENOTSUP)
        self.nonblocking = FdFlags.NONBLOCK in flags
        appends = FdFlags.APPEND in flags
        if self._owned:
            host = fcntl.fcntl(self._host, fcntl.F_GETFL)
            fcntl.fcntl(self._host, fcntl.F_SETFL, host | os.O_APPEND if appends else host & ~os.O_APPEND)
        else:
            # The open file's flags belong to all of its users (our parent, say): only this guest's writes append.
            self._appends = appends

    def release(self) -> None:
        """Close the host's file."""
        if self._owner is not None:
            self._owner.close()


class DirectoryEntry(NamedTuple):
    """An entry of a directory."""

    name: bytes
    inode: int
    kind: FileType


class Listed(NamedTuple):
    """An entry of a directory as the kernel tells it: position of the next one, inode, upper bits of the mode, name."""

    following: int
    inode: int
    mode: int
    name: bytes

    def is_possible(self) -> bool:
        """Whether it is one: what a snapshot has may be anything."""
        return (
            0 < self.following < 1 << 63 and self.inode < 1 << 64 and self.mode < 16
            and 0 < len(self.name) < 256 and b"/" not in self.name and b"\0" not in self.name
        )  # fmt: skip


def _listed(records: bytes) -> list[Listed]:
    """Entries as the kernel packs them."""
    found = []
    while records:
        inode, following, size, mode = _HOST_DIRENT.unpack_from(records)
        found.append(Listed(following, inode, mode, records[_HOST_DIRENT.size : size].split(b"\0", 1)[0]))
        records = records[size:]
    return found


class Directory(HostFile):
    """A directory of the host. `preopen` is the guest's name for it if the guest was given it, else None."""

    def __init__(self, host: int, rights: Rights, inheriting: Rights, preopen: bytes | None = None) -> None:
        super().__init__(host, rights, inheriting, nonblocking=False)
        self.preopen = preopen
        #: Cookie of the next entry, and the entries from there on that the kernel has returned. It is one
        #: attribute, so threads that share a directory see both together.
        self._unread: tuple[int, bytes] = (0, b"")
        #: Whether these are all, so the kernel isn't asked for more: it was another directory that they are of.
        self._is_rest = False

    def look_up(self, cookie: int) -> None:
        """Make `peek` return the entry of `cookie` (the kernel's position of it; 0: the first)."""
        if cookie == 0 or cookie != self._unread[0]:
            os.lseek(self._host, cookie, os.SEEK_SET)
            self._is_rest = False
            self._unread = (cookie, b"")

    def has_peeked(self) -> bool:
        """Whether `peek` needn't ask the kernel."""
        return bool(self._unread[1])

    def peek(self) -> tuple[int, DirectoryEntry] | None:
        """The next entry, and the cookie of the one after it; None at the end. `skip` goes on to the next."""
        cookie, records = self._unread
        if not records:
            if self._is_rest:
                return None
            records = hostcalls.directory_entries(self._host, DIRECTORY_CHUNK)
            self._unread = (cookie, records)
            if not records:
                return None
        inode, following, size, mode = _HOST_DIRENT.unpack_from(records)
        name = records[_HOST_DIRENT.size : size].split(b"\0", 1)[0]
        if name == b"..":
            # The parent may be something that the guest may not know: it only learns that there is one.
            inode = os.fstat(self._host).st_ino
        kind = file_type(mode << 12)
        if kind == FileType.UNKNOWN and mode == 0:  # not all file systems say
            with suppress(OSError):
                kind = file_type(os.stat(name, dir_fd=self._host, follow_symlinks=False).st_mode)
        return following, DirectoryEntry(name, inode, kind)

    def skip(self) -> None:
        """Go on to the next entry after `peek`."""
        _, records = self._unread
        if records:
            _, following, size, _ = _HOST_DIRENT.unpack_from(records)
            self._unread = (following, records[size:])

    def rest(self) -> tuple[int, tuple[Listed, ...]] | None:
        """Where the guest has come to, and the entries from there on; None if it hasn't read any. For snapshots."""
        cookie, records = self._unread
        if cookie == 0:
            return None
        found = _listed(records)
        if not self._is_rest:
            before = os.lseek(self._host, 0, os.SEEK_CUR)
            while records := hostcalls.directory_entries(self._host, DIRECTORY_CHUNK):
                found += _listed(records)
            os.lseek(self._host, before, os.SEEK_SET)
        return cookie, tuple(found)

    def go_on(self, rest: tuple[int, tuple[Listed, ...]] | None) -> None:
        """Let the guest go on reading where `rest` was, with the same entries, until it begins anew."""
        if rest is None:
            return
        records = []
        for following, inode, mode, name in rest[1]:
            size = _HOST_DIRENT.size + len(name) + 1
            records.append(_HOST_DIRENT.pack(inode, following, size, mode) + name + b"\0")
        self._is_rest = True
        self._unread = (rest[0], b"".join(records))

    def read(self, buffers: list[memoryview]) -> int:
        """Fail: directories are read with `fd_readdir`."""
        raise WasiError(Errno.EISDIR)

    def seek(self, offset: int, whence: int) -> int:
        """Fail: the position of a directory is the cookie of `fd_readdir`."""
        raise WasiError(Errno.EBADF)


class ReadOnly(NamedTuple):
    """A directory, as a value of `Wasi`'s `preopens`, whose files a guest may read, but neither write nor change.

    Whatever would change something fails with `EPERM`. The host's files can still change otherwise.
    """

    path: str | os.PathLike[str]


def open_preopen(guest: str, host: str | os.PathLike[str] | ReadOnly) -> Directory:
    """Open the directory `host` for a guest that knows it as `guest`. Raises `OSError` and `ValueError`."""
    name = guest.encode()
    if b"\0" in name:
        raise ValueError(f"the name of a directory must not contain NUL: {guest!r}")
    path = host.path if isinstance(host, ReadOnly) else host
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    directory = Directory(opened, DIRECTORY_RIGHTS, DIRECTORY_RIGHTS | FILE_RIGHTS, name)
    directory.read_only = isinstance(host, ReadOnly)
    return directory
