"""Access to guest memory. Every address and length comes from the guest and is checked here.

All functions take the memory as a `memoryview` of bytes and raise `WasiError` with `EFAULT` where a range leaves it.
"""

from __future__ import annotations

from struct import Struct, error

from wasmloom.wasi.abi import IOVEC, Errno, WasiError

#: The most buffers that one read or write may name (what POSIX calls IOV_MAX).
MAX_IOVECS = 1024
#: The longest path in bytes, as on the host (PATH_MAX).
MAX_PATH = 4096


def span(memory: memoryview, address: int, length: int) -> memoryview:
    """The `length` bytes at `address`, writable in place."""
    end = address + length
    if end > len(memory):
        raise WasiError(Errno.EFAULT)
    return memory[address:end]


def pack(memory: memoryview, layout: Struct, address: int, *values: int) -> None:
    """Store a struct."""
    try:
        layout.pack_into(memory, address, *values)
    except error:
        # All callers pass values that fit their fields: only the range can be wrong.
        raise WasiError(Errno.EFAULT) from None


def iovecs(memory: memoryview, address: int, count: int) -> list[memoryview]:
    """The buffers that an array of `iovec` or `ciovec` names, without the empty ones.

    Raises `WasiError` with `EINVAL` for more than `MAX_IOVECS`.
    """
    if count > MAX_IOVECS:
        raise WasiError(Errno.EINVAL)
    limit = len(memory)
    buffers = []
    for start, length in IOVEC.iter_unpack(span(memory, address, count * IOVEC.size)):
        end = start + length
        if end > limit:
            raise WasiError(Errno.EFAULT)
        if length:
            buffers.append(memory[start:end])
    return buffers


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
