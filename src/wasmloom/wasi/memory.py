"""Access to guest memory. Every address and length comes from the guest and is checked here.

All functions take the memory as a `memoryview` of bytes and raise `WasiError` with `EFAULT` where a range leaves it.
"""

from __future__ import annotations

from struct import Struct

from wasmloom.wasi.abi import Errno, WasiError

#: The most buffers that one read or write may name (what POSIX calls IOV_MAX).
MAX_IOVECS = 1024
#: The longest path in bytes, as on the host (PATH_MAX).
MAX_PATH = 4096
#: The most bytes that one read or write moves, as on Linux.
MAX_TRANSFER = 0x7FFF_F000
#: The most bytes of guest memory that are copied, filled, read or written at once. Between two chunks the guest's
#: time is checked, signals are handled, and an event loop can run.
CHUNK = 1 << 18


def span(memory: memoryview, address: int, length: int) -> memoryview:
    """The `length` bytes at `address`, writable in place."""
    end = address + length
    if end > len(memory):
        raise WasiError(Errno.EFAULT)
    return memory[address:end]


def pack(memory: memoryview, layout: Struct, address: int, *values: int) -> None:
    """Store a struct."""
    if address + layout.size > len(memory):
        raise WasiError(Errno.EFAULT)
    layout.pack_into(memory, address, *values)


def iovecs(memory: memoryview, iovec: Struct, address: int, count: int) -> tuple[list[tuple[int, int]], int]:
    """The ranges (start, length) in an array of `iovec` or `ciovec`, without empty ones; and the bytes to be moved.

    A call moves no more than the guest has memory (ranges may overlap, so they could name any amount), nor more
    than Linux does (`MAX_TRANSFER`). Raises `WasiError` with `EINVAL` for more than `MAX_IOVECS` ranges.
    """
    if count > MAX_IOVECS:
        raise WasiError(Errno.EINVAL)
    limit = len(memory)
    left = min(limit, MAX_TRANSFER)
    ranges = []
    total = 0
    for start, length in iovec.iter_unpack(span(memory, address, count * iovec.size)):
        if start + length > limit:
            raise WasiError(Errno.EFAULT)
        length = min(length, left)
        if length:
            ranges.append((start, length))
            total += length
            left -= length
    return ranges, total


class Transfer:
    """The chunks of a read or a write: `total` bytes of ranges of guest memory.

    Between two chunks the guest can be interrupted, so each chunk gets the memory again.
    """

    __slots__ = ("_chunk", "_position", "_ranges", "done", "total")

    def __init__(self, ranges: list[tuple[int, int]], total: int, chunk: int) -> None:
        self._ranges = ranges
        self._chunk = chunk
        #: the range that is next, and how much of it is done
        self._position = (0, 0)
        #: Bytes to be moved, and those that have been.
        self.total = total
        self.done = 0

    @property
    def left(self) -> int:
        """The number of bytes still to be moved."""
        return self.total - self.done

    def buffers(self, memory: memoryview) -> list[memoryview]:
        """The buffers to be moved next; none at the end."""
        room = min(self.total - self.done, self._chunk)
        i, skipped = self._position
        found = []
        while room:
            start, length = self._ranges[i]
            size = min(length - skipped, room)
            found.append(memory[start + skipped : start + skipped + size])
            room -= size
            i, skipped = i + 1, 0
        return found

    def advance(self, count: int) -> None:
        """Note that this many bytes of `buffers` have been moved."""
        self.done += count
        i, skipped = self._position
        while count:
            step = min(self._ranges[i][1] - skipped, count)
            count -= step
            skipped += step
            if skipped == self._ranges[i][1]:
                i, skipped = i + 1, 0
        self._position = (i, skipped)


def path(memory: memoryview, address: int, length: int) -> bytes:
    """A path: UTF-8 without NUL (`EILSEQ`, `EINVAL`), not longer than the host allows (`ENAMETOOLONG`)."""
    if length > MAX_PATH:
        span(memory, address, length)
        raise WasiError(Errno.ENAMETOOLONG)
    text = bytes(span(memory, address, length))
    if b"\0" in text:
        raise WasiError(Errno.EINVAL)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        raise WasiError(Errno.EILSEQ) from None
    return text
