"""Python objects as standard streams, also those that don't keep to what such objects do."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import FOREVER
from tests.wasi.guest import Guest
from tests.wasi.programs import errno_of, moving
from wasmloom.wasi import Errno, Wasi

pytestmark = pytest.mark.usefixtures("tier")


class Source:
    """Gives what it was made with, whatever it is asked for."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def read(self, size: int) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


class AsyncSource(Source):
    async def read(self, size: int) -> Any:
        return super().read(size)


class IntoSource(Source):
    def readinto(self, buffer: memoryview) -> Any:
        return super().read(len(buffer))


class Sink(Source):
    def write(self, data: bytes) -> Any:
        return super().read(len(data))


class AsyncSink(Source):
    async def write(self, data: bytes) -> Any:
        return super().read(len(data))


class RawSink(io.RawIOBase):
    def __init__(self, value: Any) -> None:
        self.value = value

    def write(self, data: Any) -> Any:
        return self.value


def blocking_error(written: int) -> BlockingIOError:
    return BlockingIOError(11, "would block", written)


#: Stream, and either the error number and the count that the guest gets, or what the host does.
READS: list[tuple[Any, Any]] = [
    (Source(b"abc"), (0, 3)),
    (Source(bytearray(b"abc")), (0, 3)),
    (Source(b""), (0, 0)),
    (Source(None), (Errno.EAGAIN, 0)),
    (Source("abc"), TypeError),
    (Source(5), TypeError),
    (Source(b"x" * 100), ValueError),
    (Source(LookupError("mine")), LookupError),
    (Source(OSError(5, "broken")), (Errno.EIO, 0)),
    (Source(BlockingIOError(11, "not now")), (Errno.EAGAIN, 0)),
    (IntoSource(3), (0, 3)),
    (IntoSource(None), (Errno.EAGAIN, 0)),
    (IntoSource(-1), ValueError),
    (IntoSource(11), ValueError),
    (IntoSource("3"), TypeError),
    (AsyncSource(b"abc"), (0, 3)),
    (AsyncSource(None), (Errno.EAGAIN, 0)),
    (AsyncSource("abc"), TypeError),
    (AsyncSource(b"x" * 100), ValueError),
    (AsyncSource(LookupError("mine")), LookupError),
    (AsyncSource(OSError(5, "broken")), (Errno.EIO, 0)),
]

WRITES: list[tuple[Any, Any]] = [
    (Sink(None), (0, 10)),
    (Sink(10), (0, 10)),
    (Sink(4), (0, 4)),
    (Sink(0), (Errno.EAGAIN, 0)),
    (Sink(-1), ValueError),
    (Sink(11), ValueError),
    (Sink("10"), TypeError),
    (Sink(LookupError("mine")), LookupError),
    (Sink(OSError(28, "full")), (Errno.ENOSPC, 0)),
    (Sink(blocking_error(4)), (0, 4)),
    (Sink(BlockingIOError(11, "not now")), (Errno.EAGAIN, 0)),
    (RawSink(None), (Errno.EAGAIN, 0)),
    (RawSink(4), (0, 4)),
    (AsyncSink(None), (0, 10)),
    (AsyncSink(4), (0, 4)),
    (AsyncSink(-1), ValueError),
    (AsyncSink(11), ValueError),
    (AsyncSink("10"), TypeError),
    (AsyncSink(LookupError("mine")), LookupError),
    (AsyncSink(OSError(28, "full")), (Errno.ENOSPC, 0)),
]


@pytest.mark.parametrize(
    ("name", "stream", "expected"),
    [("fd_read", *case) for case in READS] + [("fd_write", *case) for case in WRITES],
)
def test_what_streams_give(name: str, stream: Any, expected: Any) -> None:
    fd, where = (0, "stdin") if name == "fd_read" else (1, "stdout")
    with Wasi(**({"stdin": b"", "stdout": io.BytesIO()} | {where: stream})) as wasi:
        instance = wasi.instantiate(moving(name, fd, 10))

        def run() -> None:
            if isinstance(stream, (AsyncSource, AsyncSink)):
                asyncio.run(wasi.start_async(instance))
            else:
                wasi.start(instance)

        if isinstance(expected, type):
            with pytest.raises(expected):
                run()
            return
        run()
        code, count = expected
        assert errno_of(instance) == code
        assert int.from_bytes(instance.exports.memory[512:516], "little") == count


CLOSED = """
import os, struct
import wasmloom as wl
from tests.patience import FOREVER
from tests.wasi.guest import Guest
opened = os.open(__file__, os.O_RDWR)  # gets one of the numbers that are free
with wl.Wasi(preopens={"/": "."}) as wasi:
    guest = Guest(wasi)
    codes = [guest.read(0, 1)[0], guest.write(1, b"x")[0], guest.write(2, b"x")[0]]
    codes += [guest.fdstat(number)[0] for number in range(3)]
    fd = guest.open(b".")[1]
    codes += [guest.call("fd_close", number) for number in range(3)]
with open(os.environ["RESULT"], "w") as file:
    print(opened, *map(int, codes), fd, file=file)
"""


class Writes:
    """What a program may put into `sys.stdout`: all that `print` needs."""

    def write(self, text: str) -> None:
        pass


def test_a_process_with_other_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Writes())
    monkeypatch.setattr(sys, "stderr", None)
    wasi = Wasi(stdin=b"", stdout=io.BytesIO(), stderr=io.BytesIO())
    program = wl.Module('(module (memory (export "memory") 1) (func (export "_start")))')
    assert wasi.start(wasi.instantiate(program)) == 0


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_process_without_standard_streams(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """The guest gets EBADF for them, and never a file that happens to have got such a number."""
    script, result = tmp_path / "script.py", tmp_path / "result"
    script.write_text(CLOSED)
    redirections = " ".join(f"{number}>&-" for number in closed)
    subprocess.run(
        ["sh", "-c", f'"{sys.executable}" "{script}" {redirections}'],
        check=False,
        timeout=FOREVER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"RESULT": str(result), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    opened, *codes, fd = map(int, result.read_text().split())
    assert opened == closed[0] and fd == 4
    use, stat, close = codes[:3], codes[3:6], codes[6:]
    for number in range(3):
        if number in closed:
            assert use[number] == stat[number] == close[number] == Errno.EBADF
        else:
            assert stat[number] == close[number] == 0
    assert script.read_text() == CLOSED


def test_descriptors_that_are_not_open_are_errors_of_the_host() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Wasi(stdout=999)


def test_a_guest_without_an_engine_has_the_same_streams() -> None:
    out = io.BytesIO()
    with Wasi(stdin=io.BufferedReader(io.BytesIO(b"abc")), stdout=out) as wasi:  # type: ignore[arg-type]
        guest = Guest(wasi)
        assert guest.read(0, 2) == (0, b"ab")
        assert guest.write(1, b"x", b"y") == (0, 2)
        assert guest.call("fd_fdstat_set_flags", 1, 0) == 0
        assert guest.call("fd_fdstat_set_flags", 1, 4) == Errno.ENOTSUP
    assert out.getvalue() == b"xy"
