"""The binary interface of WASI preview 1 as data: numbers, flags, structs and function signatures.

Source: WebAssembly/WASI, `wasi_snapshot_preview1.witx` and `typenames.witx`. Everything is little-endian; pointers
and sizes are 32 bits wide, or as wide as the memory's addresses; every struct has its C layout.
"""

from __future__ import annotations

import errno as host_errno
from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple

#: The name of the module that guests import from.
MODULE_NAME = "wasi_snapshot_preview1"

Errno = IntEnum(
    "Errno",
    "SUCCESS E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADMSG EBUSY ECANCELED ECHILD "
    "ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG EHOSTUNREACH EIDRM "
    "EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE EMLINK EMSGSIZE EMULTIHOP ENAMETOOLONG ENETDOWN "
    "ENETRESET ENETUNREACH ENFILE ENOBUFS ENODEV ENOENT ENOEXEC ENOLCK ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSYS "
    "ENOTCONN ENOTDIR ENOTEMPTY ENOTRECOVERABLE ENOTSOCK ENOTSUP ENOTTY ENXIO EOVERFLOW EOWNERDEAD EPERM EPIPE EPROTO "
    "EPROTONOSUPPORT EPROTOTYPE ERANGE EROFS ESPIPE ESRCH ESTALE ETIMEDOUT ETXTBSY EXDEV ENOTCAPABLE",
    start=0,
)
"""Error codes; the guest sees the number."""

#: Host error number → WASI error. The names agree, so the table follows from `Errno`.
ERRNO_OF_HOST: dict[int, Errno] = {
    getattr(host_errno, code.name): code for code in Errno if hasattr(host_errno, code.name)
} | {host_errno.EOPNOTSUPP: Errno.ENOTSUP, host_errno.EWOULDBLOCK: Errno.EAGAIN}


class WasiError(Exception):
    """A WASI function fails with `errno`, which the guest gets as the call's result."""

    def __init__(self, errno: Errno) -> None:
        self.errno = errno
        super().__init__(errno.name)


class FileType(IntEnum):
    """Kinds of files (`filetype`)."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class Rights(IntFlag):
    """Operations that a file descriptor, or a path below it, allows (`rights`)."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


NO_RIGHTS = Rights(0)

_BOTH = (
    Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_SYNC
    | Rights.FD_DATASYNC
    | Rights.FD_ADVISE
    | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.POLL_FD_READWRITE
)
#: Rights that make sense for a file that is not a directory.
FILE_RIGHTS = (
    _BOTH
    | Rights.FD_READ
    | Rights.FD_WRITE
    | Rights.FD_SEEK
    | Rights.FD_TELL
    | Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_SET_SIZE
)
#: Rights that make sense for a directory.
DIRECTORY_RIGHTS = (
    _BOTH
    | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_OPEN
    | Rights.FD_READDIR
    | Rights.PATH_READLINK
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_GET
    | Rights.PATH_FILESTAT_SET_SIZE
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
)
#: Rights to change something that a path leads to, or to let others change it (a hard link).
CHANGING_RIGHTS = (
    Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_SET_SIZE
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
)
#: A terminal has no rights to seek; guests (`isatty`) use that to tell it from a file.
TERMINAL_RIGHTS = FILE_RIGHTS & ~(Rights.FD_SEEK | Rights.FD_TELL)


class FdFlags(IntFlag):
    """Modes of a file descriptor (`fdflags`)."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


class OpenFlags(IntFlag):
    """Options of `path_open` (`oflags`)."""

    CREAT = 1
    DIRECTORY = 2
    EXCL = 4
    TRUNC = 8


class TimeFlags(IntFlag):
    """The times to set, and their source (`fstflags`)."""

    ATIM = 1
    ATIM_NOW = 2
    MTIM = 4
    MTIM_NOW = 8


#: `lookupflags`: follow a symbolic link that is the last component of a path.
SYMLINK_FOLLOW = 1

#: `subclockflags`: the timeout is a time of the clock, not a duration.
SUBSCRIPTION_CLOCK_ABSTIME = 1

#: `preopentype`
PREOPEN_DIRECTORY = 0


class EventType(IntEnum):
    """Kinds of subscriptions (`eventtype`)."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


#: `eventrwflags`: the other end has been closed.
EVENT_HANGUP = 1

#: dev, ino, filetype, nlink, size, atim, mtim, ctim (times in nanoseconds)
FILESTAT = Struct("<QQB7xQQQQQ")
#: filetype, flags, rights_base, rights_inheriting
FDSTAT = Struct("<BxH4xQQ")
#: cookie of the next entry, ino, name length, filetype
DIRENT = Struct("<QQIB3x")
#: userdata, tag, and the union's 32 bytes
SUBSCRIPTION = Struct("<QB7x32s")
#: the union of a clock subscription: clock id, timeout, precision (nanoseconds), flags
SUBSCRIPTION_CLOCK = Struct("<I4xQQH6x")
#: the union of a read or write subscription: fd
SUBSCRIPTION_FD = Struct("<I28x")
#: userdata, errno, type, nbytes, flags
EVENT = Struct("<QHB5xQH6x")
U32 = Struct("<I")
U64 = Struct("<Q")


class Layout(NamedTuple):
    """What depends on the width of addresses: a pointer or size; buf, buf_len; tag, name length."""

    size: Struct
    iovec: Struct
    prestat: Struct


#: For memories with addresses of 32 bits, and of 64, where C has the same structs with pointers and sizes of 64 bits.
NARROW = Layout(U32, Struct("<II"), Struct("<B3xI"))
WIDE = Layout(U64, Struct("<QQ"), Struct("<B7xQ"))


class Call(NamedTuple):
    """A function of the interface.

    `params` are the kinds of its parameters, one word each: ``fd`` (u32; the function gets the open descriptor),
    ``size`` (a size or pointer), ``u32`` (also flags), ``u64``, ``s64``. `right` is what the first descriptor must
    allow.
    """

    params: tuple[str, ...]
    right: Rights
    returns_errno: bool


def _call(params: str, right: Rights = NO_RIGHTS, *, returns_errno: bool = True) -> Call:
    return Call(tuple(params.split()), right, returns_errno)


#: Every function of preview 1.
CALLS: dict[str, Call] = {
    "args_get": _call("size size"),
    "args_sizes_get": _call("size size"),
    "environ_get": _call("size size"),
    "environ_sizes_get": _call("size size"),
    "clock_res_get": _call("u32 size"),
    "clock_time_get": _call("u32 u64 size"),
    "fd_advise": _call("fd u64 u64 u32", Rights.FD_ADVISE),
    "fd_allocate": _call("fd u64 u64", Rights.FD_ALLOCATE),
    "fd_close": _call("u32"),
    "fd_datasync": _call("fd", Rights.FD_DATASYNC),
    "fd_fdstat_get": _call("fd size"),
    "fd_fdstat_set_flags": _call("fd u32", Rights.FD_FDSTAT_SET_FLAGS),
    "fd_fdstat_set_rights": _call("fd u64 u64"),
    "fd_filestat_get": _call("fd size", Rights.FD_FILESTAT_GET),
    "fd_filestat_set_size": _call("fd u64", Rights.FD_FILESTAT_SET_SIZE),
    "fd_filestat_set_times": _call("fd u64 u64 u32", Rights.FD_FILESTAT_SET_TIMES),
    "fd_pread": _call("fd size size u64 size", Rights.FD_READ | Rights.FD_SEEK),
    "fd_prestat_get": _call("fd size"),
    "fd_prestat_dir_name": _call("fd size size"),
    "fd_pwrite": _call("fd size size u64 size", Rights.FD_WRITE | Rights.FD_SEEK),
    "fd_read": _call("fd size size size", Rights.FD_READ),
    "fd_readdir": _call("fd size size u64 size", Rights.FD_READDIR),
    "fd_renumber": _call("u32 u32"),
    "fd_seek": _call("fd s64 u32 size"),
    "fd_sync": _call("fd", Rights.FD_SYNC),
    "fd_tell": _call("fd size"),
    "fd_write": _call("fd size size size", Rights.FD_WRITE),
    "path_create_directory": _call("fd size size", Rights.PATH_CREATE_DIRECTORY),
    "path_filestat_get": _call("fd u32 size size size", Rights.PATH_FILESTAT_GET),
    "path_filestat_set_times": _call("fd u32 size size u64 u64 u32", Rights.PATH_FILESTAT_SET_TIMES),
    "path_link": _call("fd u32 size size fd size size", Rights.PATH_LINK_SOURCE),
    "path_open": _call("fd u32 size size u32 u64 u64 u32 size", Rights.PATH_OPEN),
    "path_readlink": _call("fd size size size size size", Rights.PATH_READLINK),
    "path_remove_directory": _call("fd size size", Rights.PATH_REMOVE_DIRECTORY),
    "path_rename": _call("fd size size fd size size", Rights.PATH_RENAME_SOURCE),
    "path_symlink": _call("size size fd size size", Rights.PATH_SYMLINK),
    "path_unlink_file": _call("fd size size", Rights.PATH_UNLINK_FILE),
    "poll_oneoff": _call("size size size size"),
    "proc_exit": _call("u32", returns_errno=False),
    "proc_raise": _call("u32"),
    "random_get": _call("size size"),
    "sched_yield": _call(""),
    "sock_accept": _call("fd u32 size"),
    "sock_recv": _call("fd size size u32 size size"),
    "sock_send": _call("fd size size u32 size"),
    "sock_shutdown": _call("fd u32"),
}
