"""A guest without an engine: a memory of bytes and calls of WASI functions with structs packed as C would."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from wasmloom.wasi import MODULE_NAME, Errno, Wasi
from wasmloom.wasi.abi import (
    DIRENT,
    EVENT,
    FDSTAT,
    FILESTAT,
    NARROW,
    SUBSCRIPTION,
    SUBSCRIPTION_CLOCK,
    SUBSCRIPTION_FD,
    EventType,
)

ALL_RIGHTS = (1 << 30) - 1
PREOPEN = 3
"""The number of the first preopened directory."""


class WaitingStore:
    """What of a store is asked, in a call that can wait."""

    can_wait = True
    timeout: float | None = None


class Guest:
    """Calls the functions of a `Wasi` as a program would; with `waits`, in an event loop."""

    def __init__(self, wasi: Wasi, size: int = 1 << 18, *, waits: bool = False) -> None:
        self.memory = bytearray(size)
        self.functions: dict[str, Any] = wasi.imports()[MODULE_NAME]
        wasi._context.bind(self.memory, WaitingStore() if waits else None)  # type: ignore[arg-type]
        self._top = 64

    def call(self, name: str, *arguments: int) -> Errno:
        """Call a function with plain words."""
        return Errno(self.functions[name](*arguments))

    def put(self, data: bytes) -> int:
        """Store bytes somewhere and return their address."""
        address = self._top
        self._top += (len(data) + 15) & ~7
        self.memory[address : address + len(data)] = data
        return address

    def room(self, size: int) -> int:
        return self.put(b"\xcc" * size)

    def path(self, text: bytes) -> tuple[int, int]:
        return self.put(text), len(text)

    def unpack(self, layout: struct.Struct, address: int) -> tuple[Any, ...]:
        return layout.unpack_from(self.memory, address)

    def u32(self, address: int) -> int:
        return int.from_bytes(self.memory[address : address + 4], "little")

    def u64(self, address: int) -> int:
        return int.from_bytes(self.memory[address : address + 8], "little")

    def reset(self) -> None:
        """Forget what was stored."""
        self._top = 64

    def open(
        self,
        path: bytes,
        *,
        base: int = PREOPEN,
        oflags: int = 0,
        rights: int = 0,
        inheriting: int = ALL_RIGHTS,
        flags: int = 0,
        follow: bool = True,
    ) -> tuple[Errno, int]:
        """`path_open`: error and number."""
        result = self.room(4)
        code = self.call("path_open", base, int(follow), *self.path(path), oflags, rights, inheriting, flags, result)
        return code, self.u32(result)

    def read(self, fd: int, size: int) -> tuple[Errno, bytes]:
        buffer, result = self.room(size), self.room(4)
        code = self.call("fd_read", fd, self.put(NARROW.iovec.pack(buffer, size)), 1, result)
        return code, bytes(self.memory[buffer : buffer + self.u32(result)]) if code == 0 else b""

    def write(self, fd: int, *parts: bytes) -> tuple[Errno, int]:
        vectors = self.put(b"".join(NARROW.iovec.pack(self.put(part), len(part)) for part in parts))
        result = self.room(4)
        code = self.call("fd_write", fd, vectors, len(parts), result)
        return code, self.u32(result)

    def stat(self, path: bytes, *, follow: bool = True, base: int = PREOPEN) -> tuple[Errno, tuple[Any, ...]]:
        """(dev, ino, filetype, nlink, size, atim, mtim, ctim)."""
        result = self.room(FILESTAT.size)
        code = self.call("path_filestat_get", base, int(follow), *self.path(path), result)
        return code, self.unpack(FILESTAT, result)

    def fdstat(self, fd: int) -> tuple[Errno, tuple[Any, ...]]:
        """(filetype, flags, rights, inheriting)."""
        result = self.room(FDSTAT.size)
        return self.call("fd_fdstat_get", fd, result), self.unpack(FDSTAT, result)

    def readlink(self, path: bytes, size: int = 4096) -> tuple[Errno, bytes]:
        buffer, result = self.room(size), self.room(4)
        code = self.call("path_readlink", PREOPEN, *self.path(path), buffer, size, result)
        return code, bytes(self.memory[buffer : buffer + self.u32(result)]) if code == 0 else b""

    def entries(self, fd: int, size: int = 4096) -> dict[bytes, tuple[int, int]]:
        """Name → (inode, type) of a whole directory, read in buffers of `size`."""
        found: dict[bytes, tuple[int, int]] = {}
        cookie = 0
        buffer, result = self.room(size), self.room(4)
        while True:
            assert self.call("fd_readdir", fd, buffer, size, cookie, result) == 0
            used = self.u32(result)
            data = bytes(self.memory[buffer : buffer + used])
            while len(data) >= DIRENT.size:
                following, inode, length, kind = DIRENT.unpack_from(data)
                if len(data) < DIRENT.size + length:
                    break
                found[data[DIRENT.size : DIRENT.size + length]] = (inode, kind)
                data = data[DIRENT.size + length :]
                cookie = following
            if used < size:
                return found

    def poll(self, *subscriptions: bytes) -> tuple[Errno, list[tuple[Any, ...]]]:
        """Events (userdata, errno, type, nbytes, flags)."""
        count = len(subscriptions)
        source, target, result = self.put(b"".join(subscriptions)), self.room(EVENT.size * count), self.room(4)
        code = self.call("poll_oneoff", source, target, count, result)
        events = self.u32(result) if code == 0 else 0
        return code, [self.unpack(EVENT, target + i * EVENT.size) for i in range(events)]


def open_files(world: Path) -> dict[str, str]:
    """The descriptors of files and directories below one. Others come and go, of threads that compile, for example."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # such a one has gone
            path = os.readlink(f"/proc/self/fd/{number}")
            if path.startswith(str(world)):
                found[number] = path
    return found


def clock(userdata: int, clock_id: int, timeout: int, flags: int = 0) -> bytes:
    """A subscription to a clock."""
    return SUBSCRIPTION.pack(userdata, EventType.CLOCK, SUBSCRIPTION_CLOCK.pack(clock_id, timeout, 0, flags))


def wait_for(userdata: int, kind: EventType, fd: int) -> bytes:
    """A subscription to a file descriptor."""
    return SUBSCRIPTION.pack(userdata, kind, SUBSCRIPTION_FD.pack(fd))
