"""WASI functions on open files (``fd_*``)."""

from __future__ import annotations

import os
import time
from functools import partial

from wasmloom.wasi.abi import (
    DIRENT,
    FDSTAT,
    PREOPEN_DIRECTORY,
    PRESTAT,
    U32,
    U64,
    Errno,
    FdFlags,
    FileType,
    Rights,
    TimeFlags,
    WasiError,
)
from wasmloom.wasi.context import Context, Later
from wasmloom.wasi.descriptors import AsyncStream, Descriptor, Directory
from wasmloom.wasi.memory import iovecs, pack, span
from wasmloom.wasi.polling import can_block, wait_for_input

#: Largest file offset of the host.
MAX_OFFSET = (1 << 63) - 1

#: Host advice by `advice`.
_ADVICE: tuple[str, ...] = ("NORMAL", "SEQUENTIAL", "RANDOM", "WILLNEED", "DONTNEED", "NOREUSE")

#: Host `whence` by `whence`.
_WHENCE: tuple[int, ...] = (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)


_SEEK = int(Rights.FD_SEEK)
_TELL_OR_SEEK = int(Rights.FD_SEEK | Rights.FD_TELL)


def offset(value: int) -> int:
    """A u64 as a host file offset. Raises `WasiError` (`EINVAL`) when it is too large."""
    if value > MAX_OFFSET:
        raise WasiError(Errno.EINVAL)
    return value


def fd_flags(value: int) -> FdFlags:
    """Checked `FdFlags`. Raises `WasiError` (`EINVAL`) for bits that mean nothing."""
    if value >> len(FdFlags):
        raise WasiError(Errno.EINVAL)
    return FdFlags(value)


def new_times(atim: int, mtim: int, flags: int, status: os.stat_result) -> tuple[int, int]:
    """Access and modification time (nanoseconds) that `flags` ask for; `status` gives those that stay.

    Raises `WasiError` (`EINVAL`) for contradictory flags and times out of range.
    """
    both = (TimeFlags.ATIM | TimeFlags.ATIM_NOW, TimeFlags.MTIM | TimeFlags.MTIM_NOW)
    if flags >> len(TimeFlags) or any(flags & pair == pair for pair in both):
        raise WasiError(Errno.EINVAL)
    now = time.time_ns() if flags & (TimeFlags.ATIM_NOW | TimeFlags.MTIM_NOW) else 0
    chosen = []
    for value, given, at_now, kept in (
        (atim, TimeFlags.ATIM, TimeFlags.ATIM_NOW, status.st_atime_ns),
        (mtim, TimeFlags.MTIM, TimeFlags.MTIM_NOW, status.st_mtime_ns),
    ):
        chosen.append(offset(value) if flags & given else now if flags & at_now else kept)
    return chosen[0], chosen[1]


def fd_advise(context: Context, file: Descriptor, start: int, length: int, advice: int) -> None:
    """Tell the host how the file will be used."""
    if advice >= len(_ADVICE):
        raise WasiError(Errno.EINVAL)
    if isinstance(file, Directory):
        raise WasiError(Errno.EBADF)
    if hasattr(os, "posix_fadvise"):
        kind = getattr(os, f"POSIX_FADV_{_ADVICE[advice]}")
        os.posix_fadvise(file.fileno(), offset(start), offset(length), kind)


def fd_allocate(context: Context, file: Descriptor, start: int, length: int) -> None:
    """Make sure that the file has room, growing it."""
    if not hasattr(os, "posix_fallocate"):
        raise WasiError(Errno.ENOTSUP)
    os.posix_fallocate(file.fileno(), offset(start), offset(length))


def fd_close(context: Context, number: int) -> None:
    """Close a file descriptor."""
    context.table.close(number)


def fd_datasync(context: Context, file: Descriptor) -> None:
    """Bring the file's data to the device."""
    file.sync(data_only=True)


def fd_sync(context: Context, file: Descriptor) -> None:
    """Bring the file's data and metadata to the device."""
    file.sync(data_only=False)


def fd_fdstat_get(context: Context, file: Descriptor, result: int) -> None:
    """Store type, flags and rights of a file descriptor."""
    pack(context.memory, FDSTAT, result, file.kind, file.flags, file.rights, file.inheriting)


def fd_fdstat_set_flags(context: Context, file: Descriptor, flags: int) -> None:
    """Change a file descriptor's flags."""
    file.set_flags(fd_flags(flags))


def fd_fdstat_set_rights(context: Context, file: Descriptor, base: int, inheriting: int) -> None:
    """Give up rights; none can be gained (`ENOTCAPABLE`)."""
    if base & ~file.rights or inheriting & ~file.inheriting:
        raise WasiError(Errno.ENOTCAPABLE)
    file.rights, file.inheriting = base, inheriting


def fd_filestat_get(context: Context, file: Descriptor, result: int) -> None:
    """Store the status of a file."""
    status = file.status()
    span(context.memory, result, len(status))[:] = status


def fd_filestat_set_size(context: Context, file: Descriptor, size: int) -> None:
    """Truncate or extend a file."""
    os.ftruncate(file.fileno(), offset(size))


def fd_filestat_set_times(context: Context, file: Descriptor, atim: int, mtim: int, flags: int) -> None:
    """Change a file's times."""
    host = file.fileno()
    os.utime(host, ns=new_times(atim, mtim, flags, os.fstat(host)))


def fd_read(context: Context, file: Descriptor, vectors: int, count: int, result: int) -> Later | None:
    """Read from a file."""
    if isinstance(file, AsyncStream) or (context.asynchronous and can_block(file)):
        from wasmloom.wasi import awaiting

        return partial(awaiting.read, context, file, vectors, count, result)
    wait_for_input(context, file)
    memory = context.memory
    pack(memory, U32, result, file.read(iovecs(memory, vectors, count)))
    return None


def fd_write(context: Context, file: Descriptor, vectors: int, count: int, result: int) -> Later | None:
    """Write to a file."""
    if isinstance(file, AsyncStream):
        from wasmloom.wasi import awaiting

        return partial(awaiting.write, context, file, vectors, count, result)
    memory = context.memory
    pack(memory, U32, result, file.write(iovecs(memory, vectors, count)))
    return None


def fd_pread(context: Context, file: Descriptor, vectors: int, count: int, start: int, result: int) -> None:
    """Read from a place in a file."""
    memory = context.memory
    pack(memory, U32, result, file.pread(iovecs(memory, vectors, count), offset(start)))


def fd_pwrite(context: Context, file: Descriptor, vectors: int, count: int, start: int, result: int) -> None:
    """Write to a place in a file."""
    memory = context.memory
    pack(memory, U32, result, file.pwrite(iovecs(memory, vectors, count), offset(start)))


def fd_seek(context: Context, file: Descriptor, distance: int, whence: int, result: int) -> None:
    """Move the position in a file and store it."""
    if whence >= len(_WHENCE):
        raise WasiError(Errno.EINVAL)
    # To ask for the position is telling, not seeking: either right will do.
    telling = distance == 0 and _WHENCE[whence] == os.SEEK_CUR
    if not file.rights & (_TELL_OR_SEEK if telling else _SEEK):
        no_seek = {FileType.DIRECTORY: Errno.EBADF, FileType.CHARACTER_DEVICE: Errno.ESPIPE}
        raise WasiError(no_seek.get(file.kind, Errno.ENOTCAPABLE))
    pack(context.memory, U64, result, file.seek(distance, _WHENCE[whence]))


def fd_tell(context: Context, file: Descriptor, result: int) -> None:
    """Store the position in a file."""
    pack(context.memory, U64, result, file.seek(0, os.SEEK_CUR))


def _preopen_name(file: Descriptor) -> bytes:
    if not isinstance(file, Directory) or file.preopen is None:
        raise WasiError(Errno.EBADF)
    return file.preopen


def fd_prestat_get(context: Context, file: Descriptor, result: int) -> None:
    """Store the length of the name of a preopened directory; `EBADF` tells the guest that there are no more."""
    pack(context.memory, PRESTAT, result, PREOPEN_DIRECTORY, len(_preopen_name(file)))


def fd_prestat_dir_name(context: Context, file: Descriptor, buffer: int, length: int) -> None:
    """Store the name of a preopened directory."""
    name = _preopen_name(file)
    if length < len(name):
        raise WasiError(Errno.ENAMETOOLONG)
    span(context.memory, buffer, len(name))[:] = name


def fd_readdir(context: Context, file: Descriptor, buffer: int, length: int, cookie: int, result: int) -> None:
    """Store directory entries from a cookie on; the last one is cut where the buffer ends."""
    if not isinstance(file, Directory):
        raise WasiError(Errno.ENOTDIR)
    memory = context.memory
    target = span(memory, buffer, length)
    used = 0
    for following, entry in file.entries(cookie):
        record = DIRENT.pack(following, entry.inode, len(entry.name), entry.kind) + entry.name
        part = record[: length - used]
        target[used : used + len(part)] = part
        used += len(part)
        if used == length:
            break
    pack(memory, U32, result, used)


def fd_renumber(context: Context, source: int, target: int) -> None:
    """Let one number mean what another did, which becomes free."""
    context.table.renumber(source, target)
