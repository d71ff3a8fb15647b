"""Arguments, environment, clocks, random numbers, waiting, exit."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import time
from pathlib import Path

import pytest

import wasmloom as wl
from tests.wasi.guest import Guest, clock, wait_for
from wasmloom.errors import ExitStatus, LinkError
from wasmloom.spec.types import I32, I64, FuncType
from wasmloom.wasi import CALLS, MODULE_NAME, Errno, Wasi, call_type
from wasmloom.wasi.abi import DIRENT, EVENT, FDSTAT, FILESTAT, NARROW, SUBSCRIPTION, EventType


def strings(guest: Guest, kind: str) -> list[bytes]:
    count, size = guest.room(4), guest.room(4)
    assert guest.call(f"{kind}_sizes_get", count, size) == 0
    pointers, text = guest.room(4 * guest.u32(count)), guest.room(guest.u32(size))
    assert guest.call(f"{kind}_get", pointers, text) == 0
    starts = [guest.u32(pointers + 4 * i) for i in range(guest.u32(count))]
    assert sum(len(guest.memory[start : guest.memory.index(0, start)]) + 1 for start in starts) == guest.u32(size)
    return [bytes(guest.memory[start : guest.memory.index(0, start)]) for start in starts]


def test_arguments_and_environment() -> None:
    with Wasi(args=["prog", "", "zwei Wörter", b"\xff"], env={"A": "1", "B": "x=y", "C": ""}) as wasi:
        guest = Guest(wasi)
        assert strings(guest, "args") == [b"prog", b"", "zwei Wörter".encode(), b"\xff"]
        assert strings(guest, "environ") == [b"A=1", b"B=x=y", b"C="]
    with Wasi() as wasi:
        assert strings(Guest(wasi), "args") == []
    with pytest.raises(ValueError, match="NUL"):
        Wasi(args=["a\0b"])


def test_clocks(guest: Guest) -> None:
    result = guest.room(8)
    for clock_id in range(4):
        assert guest.call("clock_res_get", clock_id, result) == 0
        assert guest.u64(result) > 0
        assert guest.call("clock_time_get", clock_id, 0, result) == 0
        first = guest.u64(result)
        assert guest.call("clock_time_get", clock_id, 0, result) == 0
        assert guest.u64(result) >= first
    assert guest.call("clock_time_get", 0, 0, result) == 0
    assert abs(guest.u64(result) - time.time_ns()) < 60 * 10**9
    for name in ("clock_time_get", "clock_res_get"):
        assert guest.call(name, 4, *([0] if "time" in name else []), result) == Errno.EINVAL


def test_random(guest: Guest) -> None:
    buffer = guest.room(1 << 17)
    assert guest.call("random_get", buffer, 1 << 17) == 0
    assert len(set(guest.memory[buffer : buffer + (1 << 17)])) == 256
    assert guest.call("random_get", buffer, 0) == 0


def test_exit(guest: Guest) -> None:
    with pytest.raises(ExitStatus) as caught:
        guest.functions["proc_exit"](7)
    assert caught.value.code == 7
    assert guest.call("proc_raise", 6) == Errno.ENOTSUP
    assert guest.call("sched_yield") == 0


def test_there_are_no_sockets(guest: Guest) -> None:
    assert guest.call("sock_shutdown", 3, 0) == Errno.ENOTSOCK
    assert guest.call("sock_shutdown", 99, 0) == Errno.EBADF
    assert guest.call("sock_accept", 3, 0, 0) == Errno.ENOTSOCK
    assert guest.call("sock_recv", 0, 0, 0, 0, 0, 0) == Errno.ENOTSOCK
    assert guest.call("sock_send", 1, 0, 0, 0, 0) == Errno.ENOTSOCK


def test_waiting_for_clocks(guest: Guest) -> None:
    start = time.monotonic_ns()
    code, events = guest.poll(clock(11, 1, 10**14), clock(12, 1, 10**15), clock(13, 0, 1, 1))
    assert (code, events) == (0, [(13, 0, EventType.CLOCK, 0, 0)])
    code, events = guest.poll(clock(11, 1, 20_000_000), clock(12, 1, 10**15))
    assert (code, events) == (0, [(11, 0, EventType.CLOCK, 0, 0)])
    assert time.monotonic_ns() - start >= 20_000_000
    code, events = guest.poll(clock(1, 1, start + 10_000_000, 1))
    assert (code, events) == (0, [(1, 0, EventType.CLOCK, 0, 0)])
    assert guest.poll(clock(1, 2, 5), clock(2, 9, 5), clock(3, 0, 5, 2))[1] == [
        (1, Errno.ENOTSUP, 0, 0, 0),
        (2, Errno.ENOTSUP, 0, 0, 0),
        (3, Errno.EINVAL, 0, 0, 0),
    ]
    assert guest.call("poll_oneoff", 0, 0, 0, 0) == Errno.EINVAL


def test_waiting_for_files() -> None:
    reader, writer = os.pipe()
    with Wasi(stdin=reader, stdout=writer, stderr=io.BytesIO()) as wasi:
        guest = Guest(wasi)
        read, write = EventType.FD_READ, EventType.FD_WRITE
        assert guest.poll(wait_for(1, write, 1), wait_for(2, read, 0))[1] == [(1, 0, write, 1, 0)]
        assert guest.poll(clock(3, 1, 1000), wait_for(2, read, 0))[1] == [(3, 0, EventType.CLOCK, 0, 0)]
        os.write(writer, b"abc")
        assert guest.poll(clock(3, 1, 10**12), wait_for(2, read, 0))[1] == [(2, 0, read, 3, 0)]
        os.close(writer)
        os.read(reader, 3)
        assert guest.poll(wait_for(2, read, 0))[1] == [(2, 0, read, 0, 1)]
        assert guest.poll(wait_for(2, write, 2), wait_for(3, read, 77))[1] == [
            (2, 0, write, 1, 0),
            (3, Errno.EBADF, read, 0, 0),
        ]
    os.close(reader)


def test_files_on_disk_are_ready_at_once(guest: Guest, world: Path) -> None:
    """Also where they end."""
    read, write = EventType.FD_READ, EventType.FD_WRITE
    fd = guest.open(b"file", rights=-1)[1]
    assert guest.poll(clock(9, 1, 10**15), wait_for(1, read, fd), wait_for(2, write, fd))[1] == [
        (1, 0, read, 5, 0),
        (2, 0, write, 1, 0),
    ]
    assert guest.read(fd, 10) == (0, b"hello")
    assert guest.poll(clock(9, 1, 10**15), wait_for(1, read, fd))[1] == [(1, 0, read, 0, 0)]
    os.truncate(world / "file", 5 << 30)
    assert guest.poll(clock(9, 1, 10**15), wait_for(1, read, fd))[1] == [(1, 0, read, (5 << 30) - 5, 0)]


def test_the_interface_is_complete() -> None:
    assert len(CALLS) == 46
    with Wasi() as wasi:
        assert set(wasi.imports()[MODULE_NAME]) == set(CALLS)
    assert call_type("fd_seek") == FuncType((I32, I64, I32, I32), (I32,))
    assert call_type("proc_exit") == FuncType((I32,), ())
    assert call_type("path_open") == FuncType((I32, I32, I32, I32, I32, I64, I64, I32, I32), (I32,))
    sizes = {FILESTAT: 64, FDSTAT: 24, NARROW.prestat: 8, DIRENT: 24, SUBSCRIPTION: 48, EVENT: 32}
    assert all(layout.size == size for layout, size in sizes.items())


def test_calls_before_the_memory_is_known_are_errors() -> None:
    with Wasi() as wasi, pytest.raises(LinkError, match="bind"):
        wasi.imports()[MODULE_NAME]["random_get"](0, 1)


def test_where_a_program_exits(tier: str) -> None:
    module = wl.Module("""(module $m
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func $deep (param i32)
        (if (i32.eqz (local.get 0)) (then (call $exit (i32.const 7))))
        (call $deep (i32.sub (local.get 0) (i32.const 1))) (unreachable))
      (func (export "run") (call $deep (i32.const 3)) (unreachable)))""")
    with wl.Wasi() as wasi, pytest.raises(wl.ExitStatus) as error:
        wasi.instantiate(module).exports.run()
    frames = [frame.func_name for frame in error.value.frames]
    assert frames == ["wasi_snapshot_preview1.proc_exit", *["deep"] * 4, "run"]
    assert all(frame.offset for frame in error.value.frames[1:])
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.code, again.frames) == (7, error.value.frames)
    assert wl.ExitStatus(3).frames == ()


def test_where_a_program_exits_in_an_event_loop() -> None:
    module = wl.Module("""(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (func (export "run") (drop (call $yield)) (call $exit (i32.const 7)) (unreachable)))""")
    with wl.Wasi() as wasi, pytest.raises(wl.ExitStatus) as error:
        asyncio.run(wasi.instantiate(module).exports.run.call_async())
    assert [frame.func_name for frame in error.value.frames] == ["wasi_snapshot_preview1.proc_exit", "run"]
