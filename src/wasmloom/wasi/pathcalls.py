"""WASI functions on paths below an open directory (``path_*``). `wasmloom.wasi.paths` keeps them inside."""

from __future__ import annotations

import errno
import os
import stat

from wasmloom.host.waits import Steps, pause
from wasmloom.wasi import hostcalls
from wasmloom.wasi.abi import (
    DIRECTORY_RIGHTS,
    FILE_RIGHTS,
    FILESTAT,
    NO_RIGHTS,
    SYMLINK_FOLLOW,
    U32,
    Errno,
    FdFlags,
    OpenFlags,
    Rights,
    WasiError,
)
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import HOST_FLAGS, Descriptor, Directory, HostFile, pack_filestat
from wasmloom.wasi.files import fd_flags, new_times
from wasmloom.wasi.memory import pack, path, span
from wasmloom.wasi.paths import Walk

_READING = Rights.FD_READ | Rights.FD_READDIR
_WRITING = Rights.FD_WRITE | Rights.FD_ALLOCATE | Rights.FD_FILESTAT_SET_SIZE

#: Seconds between two checks whether the other end of a FIFO has been opened, which no event reports.
_LOOK_AGAIN = 0.01

#: Host flag by `OpenFlags`.
_HOST_OPEN: dict[OpenFlags, int] = {
    OpenFlags.CREAT: os.O_CREAT,
    OpenFlags.DIRECTORY: os.O_DIRECTORY,
    OpenFlags.EXCL: os.O_EXCL,
    OpenFlags.TRUNC: os.O_TRUNC,
}


def _base(descriptor: Descriptor) -> int:
    """The host's directory behind a descriptor that paths start from. Raises `WasiError` (`ENOTDIR`)."""
    if not isinstance(descriptor, Directory):
        raise WasiError(Errno.ENOTDIR)
    return descriptor.fileno()


def _walk(context: Context, descriptor: Descriptor, address: int, length: int, *, through_slash: bool = False) -> Walk:
    return Walk(_base(descriptor), path(context.memory, address, length), through_slash=through_slash)


def _require_directory(walk: Walk) -> None:
    """Check that a path with a trailing slash names a directory. Raises `WasiError` (`ENOTDIR`) and `OSError`."""
    if walk.slash and not stat.S_ISDIR(walk.stat(follow=False).st_mode):
        raise WasiError(Errno.ENOTDIR)


def path_create_directory(context: Context, base: Descriptor, address: int, length: int) -> None:
    """Make a directory."""
    with _walk(context, base, address, length) as walk:
        os.mkdir(walk.name, dir_fd=walk.directory)


def path_filestat_get(context: Context, base: Descriptor, lookup: int, address: int, length: int, result: int) -> None:
    """Store the status of what a path names."""
    span(context.memory, result, FILESTAT.size)
    with _walk(context, base, address, length, through_slash=True) as walk:
        status = pack_filestat(walk.stat(follow=bool(lookup & SYMLINK_FOLLOW)))
    span(context.memory, result, len(status))[:] = status


def path_filestat_set_times(
    context: Context, base: Descriptor, lookup: int, address: int, length: int, atim: int, mtim: int, flags: int
) -> None:
    """Change the times of what a path names."""
    with _walk(context, base, address, length, through_slash=True) as walk:
        times = new_times(atim, mtim, flags, walk.stat(follow=bool(lookup & SYMLINK_FOLLOW)))
        os.utime(walk.name, ns=times, dir_fd=walk.directory, follow_symlinks=False)


def path_link(
    context: Context,
    base: Descriptor,
    lookup: int,
    address: int,
    length: int,
    new_base: Descriptor,
    new_address: int,
    new_length: int,
) -> None:
    """Make a hard link. Links to symbolic links are made to the link itself; following isn't offered (`EINVAL`)."""
    if lookup & SYMLINK_FOLLOW:
        raise WasiError(Errno.EINVAL)
    if not new_base.rights & Rights.PATH_LINK_TARGET:
        raise WasiError(Errno.ENOTCAPABLE)
    with (
        _walk(context, base, address, length, through_slash=True) as old,
        _walk(context, new_base, new_address, new_length) as new,
    ):
        if new.slash:
            # With a slash it must be a directory, and directories can't be linked.
            new.stat(follow=False)
            raise WasiError(Errno.EEXIST)
        os.link(old.name, new.name, src_dir_fd=old.directory, dst_dir_fd=new.directory, follow_symlinks=False)


def path_open(
    context: Context,
    base: Descriptor,
    lookup: int,
    address: int,
    length: int,
    open_flags: int,
    rights: int,
    inheriting: int,
    flags: int,
    result: int,
) -> Steps:
    """Open or create what a path names, and store its new file descriptor.

    The descriptor gets the rights that were asked for, as far as the base directory allows and the kind of file has
    them. A FIFO opens when its other end does.
    """
    span(context.memory, result, U32.size)
    if open_flags >> len(OpenFlags):
        raise WasiError(Errno.EINVAL)
    asked = OpenFlags(open_flags)
    if OpenFlags.CREAT in asked and OpenFlags.DIRECTORY in asked:
        raise WasiError(Errno.EINVAL)
    needed = NO_RIGHTS
    if OpenFlags.CREAT in asked:
        needed |= Rights.PATH_CREATE_FILE
    if OpenFlags.TRUNC in asked:
        needed |= Rights.PATH_FILESTAT_SET_SIZE
    if needed & ~base.rights:
        raise WasiError(Errno.ENOTCAPABLE)
    if base.read_only and (needed or rights & _WRITING):
        raise WasiError(Errno.EPERM)
    granted = Rights(rights & base.inheriting)
    host = os.O_NOCTTY
    if granted & _WRITING:
        host |= os.O_RDWR if granted & _READING else os.O_WRONLY
    for open_flag, bits in _HOST_OPEN.items():
        if open_flag in asked:
            host |= bits
    for fd_flag in fd_flags(flags):
        host |= HOST_FLAGS[fd_flag]
    follow = bool(lookup & SYMLINK_FOLLOW)
    nonblocking = bool(flags & FdFlags.NONBLOCK)
    context.table.check_room()
    with _walk(context, base, address, length, through_slash=OpenFlags.CREAT not in asked) as walk:
        if walk.slash and OpenFlags.CREAT in asked:
            _require_directory(walk)
        while True:
            try:
                # A file that can block stays non-blocking; we wait for it ourselves.
                opened = walk.open(host | os.O_NONBLOCK, follow=follow)
                break
            except OSError as error:
                if nonblocking or not _may_open_later(walk, error):
                    raise
            yield pause(_LOOK_AGAIN)
    file: HostFile
    try:
        status = os.fstat(opened)
        if stat.S_ISFIFO(status.st_mode) and host & os.O_ACCMODE == os.O_RDONLY and not nonblocking:
            while not hostcalls.has_writer(opened):
                yield pause(_LOOK_AGAIN)
        if stat.S_ISDIR(status.st_mode):
            file = Directory(opened, granted & DIRECTORY_RIGHTS, Rights(inheriting & base.inheriting))
        else:
            file = HostFile(opened, granted & FILE_RIGHTS, nonblocking=nonblocking)
    except BaseException:
        os.close(opened)
        raise
    file.read_only = base.read_only
    file.origin = base.origin or base
    number = context.table.add(file)
    pack(context.memory, U32, result, number)


def _may_open_later(walk: Walk, error: OSError) -> bool:
    """Whether only `O_NONBLOCK` kept a file from being opened: a FIFO without a reader, or a lease that is held."""
    if error.errno == errno.ENXIO:
        return stat.S_ISFIFO(walk.stat(follow=False).st_mode)
    return error.errno == errno.EAGAIN


def path_readlink(
    context: Context, base: Descriptor, address: int, length: int, buffer: int, size: int, result: int
) -> None:
    """Store what a symbolic link points to, cut where the buffer ends."""
    memory = context.memory
    target = span(memory, buffer, size)
    with _walk(context, base, address, length, through_slash=True) as walk:
        text = os.readlink(walk.name, dir_fd=walk.directory)[:size]
    target[: len(text)] = text
    pack(memory, context.layout.size, result, len(text))


def path_remove_directory(context: Context, base: Descriptor, address: int, length: int) -> None:
    """Remove an empty directory."""
    with _walk(context, base, address, length) as walk:
        os.rmdir(walk.name, dir_fd=walk.directory)


def path_rename(
    context: Context,
    base: Descriptor,
    address: int,
    length: int,
    new_base: Descriptor,
    new_address: int,
    new_length: int,
) -> None:
    """Rename or move a file or directory."""
    if not new_base.rights & Rights.PATH_RENAME_TARGET:
        raise WasiError(Errno.ENOTCAPABLE)
    with (
        _walk(context, base, address, length) as old,
        _walk(context, new_base, new_address, new_length) as new,
    ):
        old.slash |= new.slash
        _require_directory(old)
        os.rename(old.name, new.name, src_dir_fd=old.directory, dst_dir_fd=new.directory)


def path_symlink(
    context: Context, old_address: int, old_length: int, base: Descriptor, address: int, length: int
) -> None:
    """Make a symbolic link. One with an absolute target is refused (`ENOTCAPABLE`): it could only lead outside."""
    target = path(context.memory, old_address, old_length)
    if target.startswith(b"/"):
        raise WasiError(Errno.ENOTCAPABLE)
    with _walk(context, base, address, length) as walk:
        if walk.slash:
            _require_directory(walk)
            raise WasiError(Errno.EEXIST)
        os.symlink(target, walk.name, dir_fd=walk.directory)


def path_unlink_file(context: Context, base: Descriptor, address: int, length: int) -> None:
    """Remove a file that is not a directory (`EISDIR`)."""
    with _walk(context, base, address, length) as walk:
        _require_directory(walk)
        if walk.slash:
            raise WasiError(Errno.EISDIR)
        os.unlink(walk.name, dir_fd=walk.directory)
