"""No function of WASI keeps timeouts, cancellation, or other tasks of an event loop from a guest that stands in it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE
from tests.wasi.guest import clock
from tests.wasi.programs import DATA, RESULTS, calling, errno_of, moving, opening
from wasmloom.wasi import Errno, Wasi
from wasmloom.wasi.abi import FdFlags, Rights

pytestmark = pytest.mark.usefixtures("tier")

READ, WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)
TIMEOUT = 0.05
#: Where a guest waits that nobody else will let go on: standard input and output, and the program.
Place = tuple[dict[str, Any], wl.Module]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pipe(stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def full_pipe(stack: ExitStack) -> int:
    _, end = pipe(stack)
    os.set_blocking(end, False)
    while True:
        try:
            os.write(end, bytes(1 << 16))
        except BlockingIOError:
            os.set_blocking(end, True)
            return end


def empty_socket(stack: ExitStack) -> int:
    one, other = (stack.enter_context(end) for end in socket.socketpair())
    assert other
    return one.fileno()


def terminal(stack: ExitStack) -> int:
    host, guest = os.openpty()
    for end in (host, guest):
        stack.callback(os.close, end)
    return guest


PLACES: dict[str, Callable[[ExitStack], Place]] = {
    "FIFO that nobody writes to": lambda stack: ({}, opening(b"fifo", READ)),
    "FIFO that nobody reads": lambda stack: ({}, opening(b"fifo", WRITE)),
    "empty pipe": lambda stack: ({"stdin": pipe(stack)[0]}, moving("fd_read", 0, 10)),
    "full pipe": lambda stack: ({"stdout": full_pipe(stack)}, moving("fd_write", 1, 10)),
    "pipe that gets full": lambda stack: ({"stdout": pipe(stack)[1]}, moving("fd_write", 1, 1 << 19)),
    "pipe that gets full piece by piece": lambda stack: (
        {"stdout": pipe(stack)[1]},
        moving("fd_write", 1, 1000, again=True),
    ),
    "silent socket": lambda stack: ({"stdin": empty_socket(stack)}, moving("fd_read", 0, 10)),
    "socket that gets full": lambda stack: (
        {"stdout": empty_socket(stack)},
        moving("fd_write", 1, 1 << 19, again=True),
    ),
    "silent terminal": lambda stack: ({"stdin": terminal(stack)}, moving("fd_read", 0, 10)),
    "terminal that gets full": lambda stack: ({"stdout": terminal(stack)}, moving("fd_write", 1, 3000, again=True)),
    "sleep": lambda stack: ({}, calling("poll_oneoff", DATA, 8192, 1, RESULTS, data=clock(1, 1, 10**15))),
}


def wasi_in(folder: Path, **streams: Any) -> Wasi:
    os.mkfifo(folder / "fifo")
    return Wasi(**({"stdin": b"", "stdout": None, "stderr": None} | streams), preopens={"/": folder})


@pytest.mark.parametrize("place", PLACES)
def test_timeouts_reach_guests_that_wait(place: str, tmp_path: Path, stack: ExitStack) -> None:
    streams, module = PLACES[place](stack)
    with wasi_in(tmp_path, **streams) as wasi, pytest.raises(wl.Trap) as trap:
        wasi.run(module, store=wl.Store(timeout=TIMEOUT))
    assert trap.value.code == "timeout"


@pytest.mark.parametrize("place", PLACES)
def test_guests_that_wait_leave_the_event_loop_to_others(place: str, tmp_path: Path, stack: ExitStack) -> None:
    streams, module = PLACES[place](stack)

    async def main() -> None:
        with wasi_in(tmp_path, **streams) as wasi:
            guest = asyncio.create_task(wasi.run_async(module))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not guest.done()
            guest.cancel()
            with pytest.raises(asyncio.CancelledError):
                await guest

    asyncio.run(main())


#: What takes long though nobody has to be waited for.
LONG: dict[str, Callable[[], wl.Module]] = {
    "random": lambda: calling("random_get", 0, 0x1FFF0000, pages=0x2000),
    "read": lambda: moving("fd_read", 0, 0x1FF00000, vectors=64, pages=0x2000),
    "write": lambda: moving("fd_write", 1, 0x1FF00000, vectors=64, pages=0x2000),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("is_async", [False, True])
def test_timeouts_reach_guests_whose_host_works(name: str, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the work takes is what counts; here each chunk takes longer."""

    def slowly(result: Any) -> Callable[..., Any]:
        def work(*arguments: Any) -> Any:
            time.sleep(TIMEOUT / 8)
            return result(*arguments)

        return work

    steps = 0

    def counting(*arguments: Any) -> int:
        nonlocal steps
        steps += 1
        return 1 << 18

    monkeypatch.setattr(os, "urandom", slowly(lambda size: counting() and bytes(size)))
    monkeypatch.setattr(os, "readv", slowly(counting))
    monkeypatch.setattr(os, "writev", slowly(counting))
    with open("/dev/zero", "rb") as zero, open("/dev/null", "wb") as null, ExitStack() as stack:
        wasi = stack.enter_context(Wasi(stdin=zero.fileno(), stdout=null.fileno(), stderr=null.fileno()))
        for number in (0, 1):
            wasi._context.table[number]._can_block = False  # type: ignore[attr-defined]
        store = wl.Store(timeout=TIMEOUT)
        with pytest.raises(wl.Trap) as trap:
            if is_async:
                asyncio.run(wasi.run_async(LONG[name](), store=store))
            else:
                wasi.run(LONG[name](), store=store)
    assert trap.value.code == "timeout"
    assert steps < 12


@pytest.mark.parametrize("place", ["FIFO that nobody writes to", "full pipe", "silent terminal", "sleep"])
def test_signals_reach_guests_that_wait(place: str, tmp_path: Path, stack: ExitStack) -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    streams, module = PLACES[place](stack)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with wasi_in(tmp_path, **streams) as wasi, pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            wasi.run(module)
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fifo_opens_with_its_other_end(is_async: bool, tmp_path: Path) -> None:
    def other_end(mode: int, data: bytes) -> None:
        end = os.open(tmp_path / "fifo", mode)
        if data:
            os.write(end, data)
        else:
            found.append(os.read(end, 10))
        os.close(end)

    found: list[bytes] = []
    for rights, mode, data in ((READ, os.O_WRONLY, b"hello"), (WRITE, os.O_RDONLY, b"")):
        with Wasi(stdin=b"", preopens={"/": tmp_path}) as wasi:
            if not found and not (tmp_path / "fifo").exists():
                os.mkfifo(tmp_path / "fifo")
            instance = wasi.instantiate(opening(b"fifo", rights), store=wl.Store(timeout=PATIENCE))
            thread = threading.Thread(target=other_end, args=(mode, data))
            timer = threading.Timer(0.02, thread.start)
            timer.start()
            if is_async:
                asyncio.run(wasi.start_async(instance))
            else:
                wasi.start(instance)
            assert errno_of(instance) == 0
            file = wasi._context.table[4]
            if rights == READ:
                buffer = bytearray(5)
                timer.join()
                thread.join()
                assert file.read([memoryview(buffer)]) == 5 and buffer == b"hello"
            else:
                assert file.write([memoryview(b"bye")]) == 3
                timer.join()
                thread.join()
    assert found == [b"bye"]


def test_a_fifo_opened_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Wasi(stdin=b"", preopens={"/": tmp_path}) as wasi:
        for rights, code in ((WRITE, Errno.ENXIO), (READ, 0), (READ | WRITE, 0)):
            instance = wasi.instantiate(opening(b"fifo", rights, flags=int(FdFlags.NONBLOCK)))
            wasi.start(instance)
            assert errno_of(instance) == code


def test_a_write_that_has_to_wait_writes_all(tmp_path: Path, stack: ExitStack) -> None:
    """As in POSIX: only an error, or a file that is full, makes it shorter."""
    reader, writer = pipe(stack)
    found = []

    def read_slowly() -> None:
        while sum(map(len, found)) < 300_000:
            found.append(os.read(reader, 7000))

    with Wasi(stdin=b"", stdout=writer) as wasi:
        instance = wasi.instantiate(moving("fd_write", 1, 300_000))
        thread = threading.Thread(target=read_slowly)
        thread.start()
        wasi.start(instance)
        thread.join()
    assert struct.unpack_from("<I", instance.exports.memory, RESULTS) == (300_000,)
    assert b"".join(found) == bytes(instance.exports.memory[8192 : 8192 + 300_000])


def test_the_nearest_deadline_counts(tmp_path: Path) -> None:
    """A guest of a store without a timeout waits in a host function of one that has it."""
    with Wasi(stdin=b"") as wasi:
        inner = wasi.instantiate(calling("poll_oneoff", DATA, 8192, 1, RESULTS, data=clock(1, 1, 10**15)))
        outer = wl.Instance(
            wl.Module('(module (import "e" "f" (func $f)) (func (export "g") (call $f)))'),
            {"e": {"f": lambda: inner.exports._start()}},
            store=wl.Store(timeout=TIMEOUT),
        )
        with pytest.raises(wl.Trap, match="timeout"):
            outer.exports.g()


def test_host_functions_ask_how_much_time_is_left() -> None:
    seen: list[float | None] = []

    def ask() -> None:
        seen.append(wl.time_left())

    module = wl.Module('(module (import "e" "f" (func $f)) (func (export "g") (call $f)))')
    wl.Instance(module, {"e": {"f": ask}}).exports.g()
    wl.Instance(module, {"e": {"f": ask}}, store=wl.Store(timeout=100)).exports.g()
    assert seen[0] is None and seen[1] is not None and 0 < seen[1] <= 100
    assert wl.time_left() is None

    def wait() -> None:
        while True:
            wl.time_left()

    with pytest.raises(wl.Trap, match="timeout"):
        wl.Instance(module, {"e": {"f": wait}}, store=wl.Store(timeout=TIMEOUT)).exports.g()
