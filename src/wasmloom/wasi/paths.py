"""Path resolution that cannot leave its base directory, whatever else happens to the file system meanwhile.

A path is walked one component at a time. Each directory is opened relative to the one before with `O_NOFOLLOW`, so the
kernel never follows a link on our behalf; links are read and expanded here; ``..`` returns to the directory that the
walk came from, which is kept open, and fails at the base. Nothing is ever decided by comparing path strings, and no
check is separate from the use: the last step of every operation is one system call on an open directory and one plain
name, and it doesn't follow links.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from wasmloom.host.time_left import nanoseconds_left
from wasmloom.wasi.abi import Errno, WasiError
from wasmloom.wasi.hostcalls import open_host

#: The most symbolic links that one resolution follows, as on Linux.
MAX_LINKS = 40

_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
#: Walking through a directory needs no permission to read it, on platforms that have a flag for that.
_WALK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | _NO_FOLLOW
#: Errors of opening a link with O_NOFOLLOW: on Linux ENOTDIR with O_DIRECTORY, ELOOP without; on BSD EMLINK.
_MAY_BE_LINK = (errno.ELOOP, errno.ENOTDIR, errno.EMLINK)


class Walk:
    """The walk of `path` from the directory `base` (a host file descriptor) to the place of its last component.

    Use as a context manager: leaving closes what the walk opened. Afterwards `directory` and `name` say where the last
    component is: `name` is a plain name or ``.`` for `directory` itself. `slash` says that the path ended in a slash;
    with `through_slash` the component before such a slash is walked into as well (`name` is then ``.``).

    Raises `WasiError` (`ENOENT` for an empty path, `ENOTCAPABLE` for one that leads out of the base, `ELOOP`),
    `OSError` (`ENFILE` if the walk would take the process's last descriptors), and `Trap` when the guest's time is
    over.
    """

    def __init__(self, base: int, path: bytes, *, through_slash: bool = False) -> None:
        self._base = base
        self._opened: list[int] = []
        self._pending: list[bytes] = []
        self._links_left = MAX_LINKS
        self._through_slash = through_slash
        self.slash = False
        self.name = b"."
        try:
            self._push(path)
            self._advance()
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> int:
        """The open directory (a host file descriptor, the walk's own) that holds the last component."""
        return self._opened[-1] if self._opened else self._base

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the directories that the walk opened."""
        while self._opened:
            os.close(self._opened.pop())

    def follow(self) -> bool:
        """If the last component is a symbolic link, go on to its target. Returns whether it was one."""
        try:
            target = os.readlink(self.name, dir_fd=self.directory)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return False
            raise
        self._expand(target)
        self._advance()
        return True

    def stat(self, *, follow: bool) -> os.stat_result:
        """The status of the last component; with `follow`, of what it finally points to."""
        while True:
            status = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
            if not (follow and status.st_mode & 0o170000 == 0o120000 and self.follow()):
                return status

    def open(self, flags: int, *, follow: bool) -> int:
        """Open the last component with host `flags` and return a file descriptor that the caller owns."""
        while True:
            try:
                return open_host(self.name, flags | _NO_FOLLOW, 0o666, dir_fd=self.directory)
            except OSError as error:
                if error.errno not in _MAY_BE_LINK:
                    raise
                if not follow:
                    raise
                if not self.follow():
                    raise

    def _push(self, path: bytes) -> None:
        """Put the components of `path` before those still to be walked."""
        if not path:
            raise WasiError(Errno.ENOENT)
        if path.startswith(b"/"):
            raise WasiError(Errno.ENOTCAPABLE)
        parts = path.split(b"/")
        if not self._pending:
            self.slash = self.slash or not parts[-1]
        self._pending += [part for part in reversed(parts) if part]

    def _expand(self, target: bytes) -> None:
        self._links_left -= 1
        if self._links_left < 0:
            raise WasiError(Errno.ELOOP)
        self._push(target)

    def _advance(self) -> None:
        """Walk until one plain component is left in `name`, or none (``.``)."""
        self.name = b"."
        while self._pending:
            part = self._pending.pop()
            if part == b".":
                continue
            if part == b"..":
                if not self._opened:
                    raise WasiError(Errno.ENOTCAPABLE)
                os.close(self._opened.pop())
            elif not self._pending and not (self.slash and self._through_slash):
                self.name = part
                return
            else:
                self._enter(part)

    def _enter(self, part: bytes) -> None:
        """Walk into the directory `part`, or into the target of the link `part`."""
        nanoseconds_left()  # a path of links has many steps, and some file systems are slow
        try:
            self._opened.append(open_host(part, _WALK, dir_fd=self.directory))
        except OSError as error:
            if error.errno not in _MAY_BE_LINK:
                raise
            try:
                target = os.readlink(part, dir_fd=self.directory)
            except OSError as other:
                if other.errno == errno.EINVAL:  # not a link after all: raise the error of opening it
                    raise error from None
                raise
            self._expand(target)
