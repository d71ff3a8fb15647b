"""System calls that Python doesn't offer, or only with waiting.

`read` and `write` never wait, even if the open file is shared. Descriptors that the guest was given (a terminal, a
pipe) may be shared with other processes, so we don't change their flags. Those that the guest opened are `O_NONBLOCK`
from the beginning, so `os.readv` and `os.writev` suffice.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import stat
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

#: How many file descriptors below the process's limit are kept for the host.
RESERVE = 64

#: Bytes that a pipe takes at once when `select.poll` says that it is writable.
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
_SPLICE_NONBLOCK = 2


def open_host(name: bytes | str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """`os.open` for a guest: raises `OSError` (`ENFILE`) rather than take one of the process's last descriptors."""
    opened = os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # The system returns the lowest number that is free.
    if limit != resource.RLIM_INFINITY and opened >= limit - min(RESERVE, limit // 4):
        os.close(opened)
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
    return opened


def _at_most(buffers: list[memoryview], size: int) -> list[memoryview]:
    """The first `size` bytes."""
    found = []
    for buffer in buffers:
        if size <= 0:
            break
        found.append(buffer[:size])
        size -= len(buffer)
    return found


def _is_terminal_or_pipe(host: int) -> bool:
    """Whether opening a file again opens the same object. Not so with sockets and masters of pseudo-terminals."""
    status = os.fstat(host)
    if stat.S_ISFIFO(status.st_mode):
        return True
    return os.isatty(host) and (os.major(status.st_rdev), os.minor(status.st_rdev)) != (5, 2)


def _without_waiting(
    host: int, event: int, nowait: Callable[[int, Any, int, int], int], plain: Callable[[int, Any], int], buffers: Any
) -> int:
    """Read or write as much as is possible without waiting. Raises `BlockingIOError`."""
    if _NOWAIT is not None:
        try:
            return nowait(host, buffers, -1, _NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESPIPE):
                raise
    # The kernel has no such call for this kind of file. Open it again: our own open file is non-blocking.
    if _is_terminal_or_pipe(host):
        access = fcntl.fcntl(host, fcntl.F_GETFL) & os.O_ACCMODE
        try:
            twin = os.open(f"/proc/self/fd/{host}", access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass
        else:
            try:
                return plain(twin, buffers)
            finally:
                os.close(twin)
    # It can't be opened again either. If it is ready it doesn't wait, unless another process is faster.
    poll = select.poll()
    poll.register(host, event)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return plain(host, _at_most(buffers, _PIPE_BUF))


def read(host: int, buffers: list[memoryview]) -> int:
    """`os.readv` that raises `BlockingIOError` instead of waiting."""
    return _without_waiting(host, select.POLLIN, os.preadv, os.readv, buffers)


def write(host: int, buffers: list[memoryview]) -> int:
    """`os.writev` that raises `BlockingIOError` instead of waiting."""
    return _without_waiting(host, select.POLLOUT, os.pwritev, os.writev, buffers)


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
    libc.tee.restype = ctypes.c_ssize_t
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    libc.getdents64.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    libc.getdents64.restype = ctypes.c_ssize_t
    return libc


def _call(function: Any, *arguments: object) -> int:
    """Call a function of the C library; after a signal, handle it and call again. Raises `OSError`."""
    import ctypes  # not above: most programs call none of these

    while True:
        result: int = function(*arguments)
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def allocate(host: int, offset: int, length: int) -> None:
    """Allocate room for a file, growing it. Raises `OSError`.

    `os.posix_fallocate` won't do: where the file system can't allocate, it writes to each block, even of 2^62 bytes.
    """
    _call(_libc().fallocate, host, 0, offset, length)


def directory_entries(host: int, size: int) -> bytes:
    """The next entries of a directory as the kernel packs them, in up to `size` bytes; none at the end."""
    import ctypes

    buffer = ctypes.create_string_buffer(size)
    used = _call(_libc().getdents64, host, buffer, size)
    return buffer.raw[:used]


def has_writer(host: int) -> bool:
    """Whether a FIFO, which is open for reading and non-blocking, is open for writing, or has something to read."""
    source, sink = os.pipe2(os.O_CLOEXEC)
    try:
        # Copy the first byte without consuming it: 0 means that no writer is left.
        return _call(_libc().tee, host, sink, 1, _SPLICE_NONBLOCK) != 0
    except BlockingIOError:
        return True
    finally:
        os.close(source)
        os.close(sink)
