"""WASI functions on open files (``fd_*``)."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from wasmloom.host.waits import TURN, Steps, Wait
from wasmloom.wasi import hostcalls
from wasmloom.wasi.abi import (
    DIRENT,
    FDSTAT,
    PREOPEN_DIRECTORY,
    U64,
    Errno,
    FdFlags,
    Rights,
    TimeFlags,
    WasiError,
)
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import Descriptor, Directory
from wasmloom.wasi.memory import CHUNK, Transfer, iovecs, pack, span

#: Largest file offset of the host.
MAX_OFFSET = (1 << 63) - 1

#: The most bytes that an event loop's streams get at once: their buffers shouldn't grow larger.
ASYNC_CHUNK = 1 << 16

#: Bytes that are allocated for a file at once.
_ALLOCATED_AT_ONCE = 1 << 30

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
    """Checked `FdFlags`. Raises `WasiError` (`EINVAL`) for unknown bits."""
    if value >> len(FdFlags):
        raise WasiError(Errno.EINVAL)
    return FdFlags(value)


def new_times(atim: int, mtim: int, flags: int, status: os.stat_result) -> tuple[int, int]:
    """The access and modification time (nanoseconds) that `flags` ask for; unchanged ones come from `status`.

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


def fd_allocate(context: Context, file: Descriptor, start: int, length: int) -> Steps:
    """Make sure that the file has room, growing it."""
    host = file.fileno()
    end = offset(offset(start) + offset(length))
    while True:
        size = min(end - start, _ALLOCATED_AT_ONCE)
        hostcalls.allocate(host, start, size)  # EINVAL for nothing
        start += size
        if start == end:
            return
        yield TURN


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


def _moving(
    context: Context,
    file: Descriptor,
    operation: Callable[..., int],
    transfer: Transfer,
    result: int,
    *,
    event: int,
    position: int | None = None,
) -> Steps:
    """Read or write chunk by chunk, and store how much it was.

    As in POSIX, a read that can block returns what is available. A write that can be waited for goes on until all is
    written, and files on disk are read and written to the end. An error after the first bytes is left to the next call.
    """
    reads = event == select.POLLIN
    while transfer.left:
        buffers = transfer.buffers(context.memory)
        try:
            count = operation(buffers) if position is None else operation(buffers, offset(position + transfer.done))
        except BlockingIOError:
            if not file.waits:
                if transfer.done:
                    break
                raise
            yield Wait(((file, event),))
            continue
        except (OSError, WasiError):
            if transfer.done:
                break
            raise
        is_short = count < sum(map(len, buffers))
        del buffers
        transfer.advance(count)
        if count == 0 or (file.can_block if reads else is_short and not file.waits):
            break
        if transfer.left:
            yield TURN
    pack(context.memory, context.layout.size, result, transfer.done)


def _reading_async(context: Context, file: Any, transfer: Transfer, result: int) -> Steps:
    """Read once from a stream of an event loop."""
    if transfer.left:
        data = yield partial(file.read_async, min(transfer.left, ASYNC_CHUNK))
        while data:
            buffer = transfer.buffers(context.memory)[0][: len(data)]
            buffer[:] = data[: len(buffer)]
            transfer.advance(len(buffer))
            data = data[len(buffer) :]
    pack(context.memory, context.layout.size, result, transfer.done)


def _writing_async(context: Context, file: Any, transfer: Transfer, result: int) -> Steps:
    """Write all to a stream of an event loop."""
    while transfer.left:
        data = b"".join(transfer.buffers(context.memory))
        try:
            count = yield partial(file.write_async, data)
        except OSError:
            if not transfer.done:
                raise
            break
        transfer.advance(count)
        if count < len(data):
            break
    pack(context.memory, context.layout.size, result, transfer.done)


def _after_a_turn(steps: Steps) -> Steps:
    """Let others run first, so that a guest that never waits for its input doesn't occupy the event loop."""
    yield TURN
    yield from steps


def _move(
    context: Context,
    file: Descriptor,
    operation: Callable[..., int],
    vectors: int,
    count: int,
    result: int,
    event: int,
    position: int | None = None,
) -> Steps | None:
    """Read or write: at once if it is short and doesn't wait, else in steps."""
    memory = context.memory
    if result + context.layout.size.size > len(memory):
        raise WasiError(Errno.EFAULT)
    ranges, total = iovecs(memory, context.layout.iovec, vectors, count)
    if file.is_async:
        steps = _reading_async if event == select.POLLIN else _writing_async
        return steps(context, file, Transfer(ranges, total, ASYNC_CHUNK), result)
    others_first = event == select.POLLIN and file.can_block and context.can_wait
    done = 0
    if total <= CHUNK and not others_first:
        buffers = [memory[start : start + length] for start, length in ranges]
        try:
            if buffers:
                done = operation(buffers) if position is None else operation(buffers, position)
        except BlockingIOError:
            if not file.waits:
                raise
        else:
            if done == total or event == select.POLLIN or not file.waits:
                pack(memory, context.layout.size, result, done)
                return None
    transfer = Transfer(ranges, total, CHUNK)
    transfer.advance(done)
    moving = _moving(context, file, operation, transfer, result, event=event, position=position)
    return _after_a_turn(moving) if others_first else moving


def fd_read(context: Context, file: Descriptor, vectors: int, count: int, result: int) -> Steps | None:
    """Read from a file."""
    return _move(context, file, file.read, vectors, count, result, select.POLLIN)


def fd_write(context: Context, file: Descriptor, vectors: int, count: int, result: int) -> Steps | None:
    """Write to a file."""
    return _move(context, file, file.write, vectors, count, result, select.POLLOUT)


def fd_pread(context: Context, file: Descriptor, vectors: int, count: int, start: int, result: int) -> Steps | None:
    """Read from a place in a file."""
    return _move(context, file, file.pread, vectors, count, result, select.POLLIN, offset(start))


def fd_pwrite(context: Context, file: Descriptor, vectors: int, count: int, start: int, result: int) -> Steps | None:
    """Write to a place in a file."""
    return _move(context, file, file.pwrite, vectors, count, result, select.POLLOUT, offset(start))


def fd_seek(context: Context, file: Descriptor, distance: int, whence: int, result: int) -> None:
    """Move the position in a file and store it."""
    if whence >= len(_WHENCE):
        raise WasiError(Errno.EINVAL)
    # Seeking by 0 asks for the position, so the right to tell is enough.
    telling = distance == 0 and _WHENCE[whence] == os.SEEK_CUR
    if not file.rights & (_TELL_OR_SEEK if telling else _SEEK):
        raise WasiError(file.refusal(_SEEK))
    span(context.memory, result, U64.size)
    pack(context.memory, U64, result, file.seek(distance, _WHENCE[whence]))


def fd_tell(context: Context, file: Descriptor, result: int) -> None:
    """Store the position in a file, as `fd_seek` by nothing does."""
    fd_seek(context, file, 0, _WHENCE.index(os.SEEK_CUR), result)


def _preopen_name(file: Descriptor) -> bytes:
    if not isinstance(file, Directory) or file.preopen is None:
        raise WasiError(Errno.EBADF)
    return file.preopen


def fd_prestat_get(context: Context, file: Descriptor, result: int) -> None:
    """Store the length of the name of a preopened directory; `EBADF` tells the guest that there are no more."""
    pack(context.memory, context.layout.prestat, result, PREOPEN_DIRECTORY, len(_preopen_name(file)))


def fd_prestat_dir_name(context: Context, file: Descriptor, buffer: int, length: int) -> None:
    """Store the name of a preopened directory."""
    name = _preopen_name(file)
    if length < len(name):
        raise WasiError(Errno.ENAMETOOLONG)
    span(context.memory, buffer, len(name))[:] = name


def fd_readdir(context: Context, file: Descriptor, buffer: int, length: int, cookie: int, result: int) -> Steps:
    """Store directory entries from a cookie on; the last one is cut where the buffer ends.

    A buffer that isn't full means that there are no more. Cookies are the kernel's: they need no memory, and entries
    that come and go meanwhile don't move the others.
    """
    if not isinstance(file, Directory):
        raise WasiError(Errno.ENOTDIR)
    span(context.memory, result, context.layout.size.size)
    target = span(context.memory, buffer, length)
    file.look_up(offset(cookie))
    used = 0
    while used < length:
        if used and not file.has_peeked():
            del target
            yield TURN
            file.look_up(cookie)  # others may have read the directory meanwhile
            target = span(context.memory, buffer, length)
        found = file.peek()
        if found is None:
            break
        following, entry = found
        record = DIRENT.pack(following, entry.inode, len(entry.name), entry.kind) + entry.name
        part = record[: length - used]
        target[used : used + len(part)] = part
        used += len(part)
        if len(part) == len(record):
            file.skip()
            cookie = following
    pack(context.memory, context.layout.size, result, used)


def fd_renumber(context: Context, source: int, target: int) -> None:
    """Move a file to another number; its old number becomes free."""
    context.table.renumber(source, target)
