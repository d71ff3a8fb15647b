"""Standard streams that are Python objects: binary files, and asyncio's streams.

They are the host's own code. Their errors other than `OSError` leave the guest, and so does a `TypeError` or
`ValueError` for an object whose methods don't return what they should.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from types import BuiltinMethodType
from typing import Any, BinaryIO

from wasmloom.wasi.abi import TERMINAL_RIGHTS, Errno, FileType, Rights, WasiError
from wasmloom.wasi.descriptors import Descriptor


def _class_name(value: object) -> str:
    return type(value).__qualname__


def _bytes_of(file: object, value: object, size: int) -> memoryview:
    """The result of a ``read(size)``. Raises `WasiError` (`EAGAIN`) for None: a non-blocking file has nothing now."""
    if value is None:
        raise WasiError(Errno.EAGAIN)
    try:
        data = memoryview(value).cast("B")  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{_class_name(file)}.read must return bytes, not {_class_name(value)}") from None
    if len(data) > size:
        raise ValueError(f"{_class_name(file)}.read({size}) returned {len(data)} bytes")
    return data


def _count_of(file: object, method: str, value: object, size: int) -> int:
    """The number of bytes that a method has returned for `size` bytes."""
    if not isinstance(value, int):
        raise TypeError(f"{_class_name(file)}.{method} must return a number of bytes, not {_class_name(value)}")
    if not 0 <= value <= size:
        raise ValueError(f"{_class_name(file)}.{method} of {size} bytes returned {value}")
    return int(value)


def _may_be_terminal(file: object) -> bool:
    """Whether an object doesn't say that it is no terminal. Most say it by ``isatty()``."""
    isatty = getattr(file, "isatty", None)
    try:
        return isatty is None or bool(isatty())
    except (OSError, ValueError):  # it is closed, say
        return True


class PythonStream(Descriptor):
    """Something without positions, like a pipe or a terminal, whatever the object could do."""

    def __init__(self, file: Any, *, readable: bool) -> None:
        # Programs that think they write to a terminal flush each line, and interpreters show a prompt.
        is_terminal = _may_be_terminal(file)
        super().__init__(
            FileType.CHARACTER_DEVICE if is_terminal else FileType.UNKNOWN,
            TERMINAL_RIGHTS & ~(Rights.FD_WRITE if readable else Rights.FD_READ),
        )
        self._file = file


class Stream(PythonStream):
    """A Python binary file object, such as `io.BytesIO`, as standard input (`readable`) or output."""

    def __init__(self, file: BinaryIO, *, readable: bool) -> None:
        super().__init__(file, readable=readable)
        # Buffered objects have `readinto1`, which doesn't wait until the buffer is full.
        self._method = "readinto1" if hasattr(file, "readinto1") else "readinto"
        self._read_into: Callable[[memoryview], int | None] | None = getattr(file, self._method, None)
        self._flush: Callable[[], object] | None = getattr(file, "flush", None)
        # `write` of a raw file returns None when nothing could be written; many other objects always return None.
        self._is_raw = isinstance(file, io.RawIOBase)

    def read(self, buffers: list[memoryview]) -> int:
        """Read into the first buffer only: finding out whether there is more could block."""
        size = len(buffers[0])
        if self._read_into is None:
            data = _bytes_of(self._file, self._file.read(size), size)
            buffers[0][: len(data)] = data
            return len(data)
        count = self._read_into(buffers[0])
        if count is None:  # a non-blocking file has nothing now
            raise WasiError(Errno.EAGAIN)
        return _count_of(self._file, self._method, count, size)

    def write(self, buffers: list[memoryview]) -> int:
        """Write all of `buffers`, and flush, so that the guest's output is visible, as with files of the host."""
        total = 0
        for buffer in buffers:
            # Many file objects keep what they are passed, so they get a copy, not guest memory.
            count = self._write(bytes(buffer))
            total += count
            if count < len(buffer):
                break
        if total == 0:
            raise WasiError(Errno.EAGAIN)
        if self._flush is not None:
            self._flush()
        return total

    def _write(self, data: bytes) -> int:
        try:
            count = self._file.write(data)
        except BlockingIOError as error:
            return _count_of(self._file, "write", getattr(error, "characters_written", 0), len(data))
        if count is None:
            return 0 if self._is_raw else len(data)
        return _count_of(self._file, "write", count, len(data))


class Sink:
    """What a function makes of standard output: a binary file object, as far as `Stream` uses one.

    The function is called with bytes, and returns how many it has taken; None: all.
    """

    def __init__(self, write: Callable[[bytes], int | None]) -> None:
        self.write = write

    def isatty(self) -> bool:
        """False: it is no terminal."""
        return False


class AsyncStream(PythonStream):
    """A stream of an event loop, as asyncio's `StreamReader` and `StreamWriter`: the guest waits for it.

    For input `file` has a coroutine method ``read(n)`` that returns up to n bytes, none at the end; for output a method
    ``write(data)`` whose result, if it can be awaited, is, and possibly a coroutine method ``drain()``.
    """

    is_async = True

    @staticmethod
    def fits(value: object, *, readable: bool) -> bool:
        """Whether an object is such a stream."""
        methods = [getattr(value, name, None) for name in (("read",) if readable else ("drain", "write"))]
        if all(method is None or isinstance(method, BuiltinMethodType) for method in methods):
            return False
        from inspect import iscoroutinefunction  # loads much, and few programs give such objects

        return any(map(iscoroutinefunction, methods))

    async def read_async(self, size: int) -> memoryview:
        """Wait for up to `size` bytes; none at the end."""
        return _bytes_of(self._file, await self._file.read(size), size)

    async def write_async(self, data: bytes) -> int:
        """Write, and wait until the stream takes more; the number of bytes."""
        written = self._file.write(data)
        if isinstance(written, Awaitable):
            written = await written
        drain = getattr(self._file, "drain", None)
        if drain is not None:
            await drain()
        return len(data) if written is None else _count_of(self._file, "write", written, len(data))
