"""Programs in an event loop: what blocks in the guest is awaited in Python."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import FOREVER
from tests.wasi.guest import Guest, clock, wait_for
from wasmloom.wasi import Wasi
from wasmloom.wasi.abi import EVENT, Errno, EventType

#: Reads up to 16 bytes at a time and writes them, until there are none.
CAT = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $errno i32)
    (loop $again
      (i64.store (i32.const 0) (i64.const 0x8_0000_0100)) ;; two buffers of 8 bytes
      (i64.store (i32.const 8) (i64.const 0x8_0000_0108))
      (if (local.tee $errno (call $read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 64)))
        (then (call $exit (local.get $errno))))
      (i32.store (i32.const 4) (i32.load (i32.const 64)))
      (if (local.tee $errno (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 68)))
        (then (call $exit (local.get $errno))))
      (br_if $again (i32.load (i32.const 64))))
    (call $exit (i32.const 7))))
"""

pytestmark = pytest.mark.usefixtures("tier")


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def with_timeout() -> Any:
        return await asyncio.wait_for(main, FOREVER)

    return asyncio.run(with_timeout())


class Writer:
    """What of a `StreamWriter` is used."""

    def __init__(self) -> None:
        self.data = b""
        self.drained = 0

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)
        self.drained += 1


def test_streams_of_an_event_loop() -> None:
    async def main() -> None:
        reader, writer = asyncio.StreamReader(), Writer()
        with Wasi(stdin=reader, stdout=writer) as wasi:
            task = asyncio.create_task(wasi.run_async(wl.Module(CAT)))
            for word in (b"one ", b"two ", b"a long text that needs several reads"):
                await asyncio.sleep(0.01)
                assert not task.done()
                reader.feed_data(word)
            reader.feed_eof()
            assert await task == 7
        assert writer.data == b"one two a long text that needs several reads"
        assert writer.drained >= 5

    run(main())


def test_many_programs_talk_over_pipes() -> None:
    """A chain of guests in one loop, each reading what the one before wrote."""

    async def main() -> None:
        pipes = [os.pipe() for _ in range(20)]
        wasis = [Wasi(stdin=a[0], stdout=b[1]) for a, b in pairwise(pipes)]

        async def one(wasi: Wasi, out: int) -> None:
            assert await wasi.run_async(wl.Module(CAT)) == 7
            wasi.close()
            os.close(out)

        tasks = [asyncio.create_task(one(w, b[1])) for w, b in zip(wasis, pipes[1:], strict=True)]
        await asyncio.sleep(0.02)
        os.write(pipes[0][1], b"through all of them")
        os.close(pipes[0][1])
        await asyncio.gather(*tasks)
        assert os.read(pipes[-1][0], 100) == b"through all of them"
        for read, _ in pipes:
            os.close(read)

    run(main())


def test_a_plain_run_says_what_is_missing() -> None:
    class Input:
        async def read(self, size: int) -> bytes:
            return b""

    with warnings.catch_warnings(), Wasi(stdin=Input(), stdout=io.BytesIO()) as wasi:
        warnings.simplefilter("error")  # "was never awaited"
        with pytest.raises(wl.WasmError, match="fd_read returned an awaitable"):
            wasi.run(wl.Module(CAT))


def test_errors_of_streams_are_error_numbers() -> None:
    class Broken:
        async def read(self, size: int) -> bytes:
            raise ConnectionResetError(104, "reset")

    class Wrong:
        async def read(self, size: int) -> bytes:
            raise LookupError("mine")

    with Wasi(stdin=Broken(), stdout=io.BytesIO()) as wasi:
        assert run(wasi.run_async(wl.Module(CAT))) == Errno.ECONNRESET
    with Wasi(stdin=Wrong(), stdout=io.BytesIO()) as wasi, pytest.raises(LookupError, match="mine"):
        run(wasi.run_async(wl.Module(CAT)))


def test_a_cancelled_program() -> None:
    async def main() -> None:
        read, write = os.pipe()
        with Wasi(stdin=read, stdout=io.BytesIO()) as wasi:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await wasi.run_async(wl.Module(CAT))
            os.write(write, b"x")
            os.close(write)
            assert await wasi.run_async(wl.Module(CAT)) == 7
        os.close(read)

    run(main())


async def poll(guest: Guest, *subscriptions: bytes) -> list[tuple[Any, ...]]:
    """`Guest.poll`, awaited."""
    source, target = guest.put(b"".join(subscriptions)), guest.room(EVENT.size * len(subscriptions))
    result = guest.room(4)
    assert await guest.functions["poll_oneoff"](source, target, len(subscriptions), result) == 0
    return [guest.unpack(EVENT, target + i * EVENT.size) for i in range(guest.u32(result))]


def test_poll_waits_in_the_loop() -> None:
    async def main() -> None:
        read, write = os.pipe()
        with Wasi(stdin=read) as wasi:
            guest = Guest(wasi, waits=True)
            both = (clock(1, 1, 20_000_000), wait_for(2, EventType.FD_READ, 0))
            start = time.monotonic()
            polling = asyncio.create_task(poll(guest, *both))
            await asyncio.sleep(0)
            assert not polling.done()
            assert [event[0] for event in await polling] == [1]
            assert time.monotonic() - start >= 0.02
            polling = asyncio.create_task(poll(guest, clock(1, 1, 10**15), both[1]))
            await asyncio.sleep(0.005)
            os.write(write, b"abc")
            assert [event[:3] for event in await polling] == [(2, 0, EventType.FD_READ)]
            assert [event[0] for event in await poll(guest, wait_for(5, EventType.FD_READ, 99))] == [5]
            polling = asyncio.create_task(poll(guest, clock(1, 1, 10**15)))
            await asyncio.sleep(0.005)
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
        os.close(read)
        os.close(write)

    run(main())


SLEEPER = r"""
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        struct timespec pause = {0, 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
        printf("echo: %s", line);
        fflush(stdout);
    }
    return 3;
}
"""


@pytest.fixture(scope="session")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program that reads, sleeps and writes, and knows of nothing else."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the package 'ziglang' to compile C to WebAssembly")
    folder: Path = tmp_path_factory.mktemp("sleeper")
    source, wasm = folder / "sleeper.c", folder / "sleeper.wasm"
    source.write_text(SLEEPER)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O1", "-o", wasm, source]
    subprocess.run(command, check=True, capture_output=True)
    return wasm


def test_c_programs_wait_in_one_loop(sleeper: Path) -> None:
    module = wl.Module.from_file(sleeper)

    async def one(number: int) -> bytes:
        reader, writer = asyncio.StreamReader(), Writer()
        with Wasi(stdin=reader, stdout=writer) as wasi:
            task = asyncio.create_task(wasi.run_async(module))
            for i in range(3):
                await asyncio.sleep(0.001 * (number % 5))
                reader.feed_data(f"{number} {i}\n".encode())
            reader.feed_eof()
            assert await task == 3
        return writer.data

    async def main() -> None:
        found = await asyncio.gather(*map(one, range(50)))
        for number, output in enumerate(found):
            assert output.decode() == "".join(f"echo: {number} {i}\n" for i in range(3))

    run(main())
