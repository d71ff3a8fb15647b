"""Memories that threads share, and guests that wait for each other in them (threads proposal)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import FOREVER, PATIENCE, comes
from wasmloom.runtime.sharing import waiting

TIERS = [*ENGINES]
WOKEN, NOT_EQUAL, TIMED_OUT = 0, 1, 2

#: What the tests use, on an imported memory; `{index}` is "" or "i64", its type of addresses.
TEXT = """
(module
  (import "env" "memory" (memory {index} 1 4 shared))
  (func (export "wait32") (param {address} i32 i64) (result i32)
    (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait32_at_8") (param {address} i32 i64) (result i32)
    (memory.atomic.wait32 offset=8 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param {address} i64 i64) (result i32)
    (memory.atomic.wait64 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "notify") (param {address} i32) (result i32)
    (memory.atomic.notify (local.get 0) (local.get 1)))
  (func (export "notify_at_8") (param {address} i32) (result i32)
    (memory.atomic.notify offset=8 (local.get 0) (local.get 1)))
  (func (export "store") (param {address} i32)
    (i32.atomic.store (local.get 0) (local.get 1)))
  (func (export "load") (param {address}) (result i32)
    (i32.load (local.get 0)))
  (func (export "grow") (param {address}) (result {address})
    (memory.grow (local.get 0)))
  (func (export "size") (result {address})
    (memory.size))
  (func (export "add") (param $at {address}) (param $n i32)
    (loop $again
      (drop (i32.atomic.rmw.add (local.get $at) (i32.const 1)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n))))
  ;; The mutex of the proposal's overview: 0 free, 1 locked.
  (func $lock (param $at {address})
    (block $done
      (loop $again
        (br_if $done (i32.eqz (i32.atomic.rmw.cmpxchg (local.get $at) (i32.const 0) (i32.const 1))))
        (drop (memory.atomic.wait32 (local.get $at) (i32.const 1) (i64.const -1)))
        (br $again))))
  (func $unlock (param $at {address})
    (i32.atomic.store (local.get $at) (i32.const 0))
    (drop (memory.atomic.notify (local.get $at) (i32.const 1))))
  ;; Adds 1 to a word that nothing but the mutex protects.
  (func (export "add_locked") (param $mutex {address}) (param $at {address}) (param $n i32)
    (loop $again
      (call $lock (local.get $mutex))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
      (call $unlock (local.get $mutex))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))))
"""
TEXT32 = TEXT.format(index="", address="i32")
TEXT64 = TEXT.format(index="i64", address="i64")


def memory_of(text: str, *limits: int) -> wl.SharedMemory:
    least, most = limits or (1, 4)
    return wl.SharedMemory(wl.MemoryType(wl.Limits(least, most), text is TEXT64, True))


def guest(engine: wl.Engine, memory: wl.SharedMemory, text: str = TEXT32, **settings: Any) -> Any:
    """The exports of an instance in a store of its own."""
    store = wl.Store(engine, **settings)
    return wl.Instance(wl.Module(text, engine), {"env": {"memory": memory}}, store=store).exports


def start(function: Callable[..., Any], *args: Any) -> tuple[threading.Thread, list[Any]]:
    """A thread that runs a function, and a list that gets what it returns or raises."""
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(function(*args))
        except BaseException as error:
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


def join(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def nobody_is_left() -> Any:
    yield
    assert comes(lambda: waiting() == 0)


@pytest.mark.parametrize("text", [TEXT32, TEXT64], ids=["memory32", "memory64"])
@pytest.mark.parametrize("name", TIERS)
def test_one_thread_wakes_another(name: str, text: str) -> None:
    engine = engine_of(name)
    memory = memory_of(text)
    one, other = guest(engine, memory, text), guest(engine, memory, text)
    for wait, notify, at in (
        (one.wait32, other.notify, 16),
        (one.wait64, other.notify, 24),
        (one.wait32_at_8, other.notify_at_8, 32),
    ):
        thread, got = start(wait, at, 0, -1)
        assert comes(lambda: waiting() == 1)
        assert notify(at + 8, 1) == notify(at - 8, 1) == 0  # not there
        assert notify(at, 0) == 0
        assert notify(at, -1) == 1
        join(thread)
        assert got == [WOKEN]
        assert notify(at, 1) == 0


@pytest.mark.parametrize("name", TIERS)
def test_values_and_times(name: str) -> None:
    memory = memory_of(TEXT32)
    exports = guest(engine_of(name), memory)
    exports.store(8, -2)
    assert exports.wait32(8, -1, -1) == NOT_EQUAL
    assert exports.wait64(8, 0xFFFFFFFE, 0) == TIMED_OUT
    assert exports.wait64(8, -2, -1) == NOT_EQUAL
    assert exports.wait32(8, -2, 0) == TIMED_OUT
    before = time.monotonic_ns()
    assert exports.wait32_at_8(0, -2, 3_000_000) == TIMED_OUT
    assert time.monotonic_ns() - before >= 3_000_000


@pytest.mark.parametrize("text", [TEXT32, TEXT64], ids=["memory32", "memory64"])
@pytest.mark.parametrize("name", TIERS)
def test_traps(name: str, text: str) -> None:
    exports = guest(engine_of(name), memory_of(text), text)
    last = 0xFFFC
    assert exports.wait32(last, 1, -1) == NOT_EQUAL
    for function, index, arguments, code in (
        (exports.wait32, 0, (2, 0, 0), "unaligned atomic"),
        (exports.wait64, 2, (4, 0, 0), "unaligned atomic"),
        (exports.notify, 3, (1, 0), "unaligned atomic"),
        (exports.wait32, 0, (last + 4, 0, 0), "out of bounds memory access"),
        (exports.wait64, 2, (last + 4, 0, 0), "out of bounds memory access"),
        (exports.wait32_at_8, 1, (last - 4, 0, 0), "out of bounds memory access"),
        (exports.notify, 3, (last + 4, 0), "out of bounds memory access"),
        (exports.notify_at_8, 4, (last - 4, 0), "out of bounds memory access"),
        (exports.wait32, 0, (-4, 0, 0), "out of bounds memory access"),
        (exports.wait32_at_8, 1, (-8, 0, 0), "out of bounds memory access"),
    ):
        with pytest.raises(wl.Trap) as caught:
            function(*arguments)
        assert caught.value.code == code
        assert caught.value.frames[0].func_index == index
    assert waiting() == 0


@pytest.mark.parametrize("name", TIERS)
def test_in_a_memory_that_is_not_shared(name: str) -> None:
    text = """(module (memory 1)
      (func (export "wait32") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
      (func (export "notify") (result i32) (memory.atomic.notify (i32.const 0) (i32.const 9)))
      (func (export "beyond") (result i32) (memory.atomic.notify (i32.const 65536) (i32.const 9))))"""
    exports = wl.Instance(wl.Module(text, engine_of(name))).exports
    assert exports.notify() == 0
    with pytest.raises(wl.Trap, match="expected shared memory"):
        exports.wait32()
    with pytest.raises(wl.Trap, match="out of bounds"):
        exports.beyond()


@pytest.mark.parametrize("name", TIERS)
def test_many_wait_and_are_woken_in_order(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    started = []
    for number in range(5):
        started.append(start(guest(engine, memory).wait32, 64, 0, -1))
        assert comes(lambda number=number: waiting() == number + 1)
    assert memory.notify(64, 2) == 2
    for thread, got in started[:2]:
        join(thread)
        assert got == [WOKEN]
    assert [got for _, got in started[2:]] == [[], [], []]
    assert memory.notify(64) == 3
    join(*(thread for thread, _ in started))
    assert [got for _, got in started] == [[WOKEN]] * 5


@pytest.mark.parametrize("name", TIERS)
def test_atomic_additions_lose_nothing(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    threads = [start(guest(engine, memory).add, 128, 20_000) for _ in range(4)]
    join(*(thread for thread, _ in threads))
    assert [got for _, got in threads] == [[None]] * 4
    assert int.from_bytes(memory.read(128, 4), "little") == 80_000


@pytest.mark.parametrize("name", TIERS)
def test_a_mutex(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    threads = [start(guest(engine, memory).add_locked, 0, 64, 300) for _ in range(4)]
    join(*(thread for thread, _ in threads))
    assert [got for _, got in threads] == [[None]] * 4
    assert int.from_bytes(memory.read(64, 4), "little") == 1200


@pytest.mark.parametrize("name", TIERS)
def test_the_stores_timeout_ends_a_wait(name: str) -> None:
    exports = guest(engine_of(name), memory_of(TEXT32), timeout=0.05)
    with pytest.raises(wl.Trap) as caught:
        exports.wait32(0, 0, -1)
    assert caught.value.code == "timeout"
    assert waiting() == 0
    assert exports.wait32(0, 1, -1) == NOT_EQUAL  # it goes on


INTERRUPTED = """
import os, signal, sys, threading, time
import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.host.test_threads import TEXT32, guest, memory_of
from tests.patience import comes
from wasmloom.runtime.sharing import waiting
exports = guest(engine_of(sys.argv[1]), memory_of(TEXT32))
def interrupt():
    comes(lambda: waiting() == 1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    exports.wait32(0, 0, -1)
except KeyboardInterrupt:
    print("interrupted", waiting())
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_ctrl_c_ends_a_wait(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, name], capture_output=True, text=True, timeout=FOREVER, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted 0\n", "", 0)


@pytest.mark.parametrize("name", TIERS)
def test_guests_of_one_event_loop_wait_for_each_other(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    waiters = [guest(engine, memory) for _ in range(3)]
    other = guest(engine, memory)

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(exports.wait32.call_async(256, 0, -1)) for exports in waiters]
        late = asyncio.ensure_future(waiters[0].wait32.call_async(512, 0, 2_000_000))
        while waiting() < 4 and not late.done():
            await asyncio.sleep(0)
        assert other.notify(256, 2) == 2
        assert await asyncio.gather(*tasks[:2]) == [WOKEN, WOKEN]
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
        assert await waiters[1].wait32.call_async(256, 7, -1) == NOT_EQUAL
        return [await late]

    assert asyncio.run(main()) == [TIMED_OUT]


@pytest.mark.parametrize("name", TIERS)
def test_memory_grows_under_those_who_use_it(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    one, other = guest(engine, memory), guest(engine, memory)
    view = memoryview(memory)
    address = memory.address
    with pytest.raises(wl.Trap):
        one.load(65536)
    assert other.grow(1) == 1
    assert one.size() == other.size() == memory.size == 2
    one.store(65536, 77)
    assert other.load(65536) == 77
    with pytest.raises(wl.Trap):
        one.load(131072)
    assert memory.grow(1) == 2
    assert one.load(131072) == 0
    assert one.grow(2) == -1
    with pytest.raises(wl.WasmError, match="its maximum is 4"):
        memory.grow(2)
    assert (memory.size, len(memory), len(view), memory.address) == (3, 196608, 65536, address)


@pytest.mark.parametrize("name", TIERS)
def test_who_grows_it_pays(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32, 1, 100)
    text = TEXT32.replace("1 4 shared", "1 100 shared")
    poor = guest(engine, memory, text, memory_limit=1 << 20)
    rich = guest(engine, memory, text)
    small = guest(engine, memory, text)
    small.grow.store.set_limits(memory_size=3 << 16)
    before = rich.grow.store.memory_used
    assert poor.grow(40) == -1
    assert small.grow(3) == -1
    assert rich.grow(40) == 1
    assert poor.grow(1) == 41
    assert rich.grow.store.memory_used >= before
    assert poor.size() == 42


@pytest.mark.parametrize("name", TIERS)
def test_threads_that_grow_it_at_once(name: str) -> None:
    engine = engine_of(name)
    memory = memory_of(TEXT32, 1, 64)
    text = TEXT32.replace("1 4 shared", "1 64 shared")
    guests = [guest(engine, memory, text) for _ in range(4)]

    def grow(exports: Any) -> list[int]:
        return [exports.grow(1) for _ in range(20)]

    started = [start(grow, exports) for exports in guests]
    join(*(thread for thread, _ in started))
    sizes = sorted(size for _, got in started for size in got[0])
    assert sizes == [-1] * 17 + list(range(1, 64))
    assert memory.size == 64
    for exports in guests:
        exports.store(64 * 65536 - 4, 1)


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_a_module_defines_one_and_others_import_it(name: str) -> None:
    engine = engine_of(name)
    owner = wl.Instance(wl.Module('(module (memory (export "memory") 1 4 shared) (data (i32.const 4) "wasm"))', engine))
    memory = owner.exports.memory
    assert isinstance(memory, wl.SharedMemory)
    assert memory is owner.exports.memory
    assert memory.type == wl.MemoryType(wl.Limits(1, 4), False, True)
    other = guest(engine, memory)
    assert bytes(memory[4:8]) == b"wasm"
    del owner
    gc.collect()
    other.store(4, 5)
    assert memory[4] == 5


def test_it_lives_as_long_as_anything_uses_it() -> None:
    engine = engine_of("interpreter")
    memory = memory_of(TEXT32)
    known = weakref.ref(memory)
    exports = guest(engine, memory)
    view = memoryview(memory)
    memory[0:4] = b"abcd"
    del memory
    gc.collect()
    assert exports.load(0) == int.from_bytes(b"abcd", "little")
    del exports
    gc.collect()
    assert bytes(view[:4]) == b"abcd"
    view.release()
    del view
    gc.collect()
    assert known() is None


def test_imports_must_match() -> None:
    engine = engine_of("interpreter")
    module = wl.Module(TEXT32, engine)
    store = wl.Store(engine)
    for other in (wl.Memory(store, 1, 4), wl.SharedMemory(1, 5), wl.SharedMemory(0, 4), memory_of(TEXT64)):
        with pytest.raises(wl.LinkError, match="incompatible import type"):
            wl.Instance(module, {"env": {"memory": other}}, store=store)
    plain = wl.Module('(module (import "env" "memory" (memory 1 4)))', engine)
    with pytest.raises(wl.LinkError, match="shared"):
        wl.Instance(plain, {"env": {"memory": wl.SharedMemory(1, 4)}}, store=store)


def test_what_is_no_shared_memory() -> None:
    with pytest.raises(ValueError, match="maximum"):
        wl.SharedMemory(1)
    with pytest.raises(ValueError, match="limits 2 to 1"):
        wl.SharedMemory(2, 1)
    with pytest.raises(TypeError):
        wl.SharedMemory("1", 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SharedMemory"):
        wl.Memory(wl.Store(), wl.MemoryType(wl.Limits(1, 2), False, True))
    with pytest.raises(wl.ValidationError, match="shared memory must have maximum"):
        wl.Module("(module (memory 1 shared))")
    with pytest.raises(wl.UnsupportedError, match="not deterministic"):
        wl.Module("(module (memory 1 2 shared))", wl.Engine(deterministic=True))
    memory = wl.SharedMemory(1, 1)
    for offset, count, error in ((2, 1, ValueError), (-4, 1, IndexError), (65536, 1, IndexError), (0, -1, ValueError)):
        with pytest.raises(error):
            memory.notify(offset, count)
    assert memory.notify(65532, 1 << 40) == 0


@given(st.lists(st.tuples(st.integers(0, 70000), st.binary(max_size=100)), max_size=20))
def test_bytes(writes: list[tuple[int, bytes]]) -> None:
    memory = wl.SharedMemory(1, 1)
    model = bytearray(65536)
    for offset, data in writes:
        if offset + len(data) > len(model):
            with pytest.raises(IndexError):
                memory.write(offset, data)
        else:
            memory.write(offset, data)
            model[offset : offset + len(data)] = data
            assert memory.read(offset, len(data)) == data
    assert bytes(memory) == memory[:] == bytes(model)


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_pages_of_one_byte(name: str) -> None:
    engine = engine_of(name)
    text = """(module (memory (export "memory") 10 5000 shared (pagesize 1))
      (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""
    exports = wl.Instance(wl.Module(text, engine)).exports
    assert exports.load(9) == 0
    with pytest.raises(wl.Trap):
        exports.load(10)
    assert exports.grow(4985) == 10
    assert exports.load(4994) == 0
    with pytest.raises(wl.Trap):
        exports.load(4995)
    assert exports.grow(6) == -1
    assert exports.grow(5) == 4995


def test_a_forked_child_waits_for_itself() -> None:
    engine = engine_of("interpreter")
    memory = memory_of(TEXT32)
    exports = guest(engine, memory)
    thread, got = start(guest(engine, memory).wait32, 64, 0, -1)
    assert comes(lambda: waiting() == 1)
    child = os.fork()
    if not child:
        status = 1
        try:
            # The other thread isn't here, and its memory is a copy.
            if waiting() == 0 and exports.notify(64, 1) == 0 and exports.wait32(0, 0, 1000) == TIMED_OUT:
                exports.store(64, 1)
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert exports.load(64) == 0
    assert exports.notify(64, 1) == 1
    join(thread)
    assert got == [WOKEN]


@pytest.mark.parametrize("name", TIERS)
def test_a_host_function_wakes_and_waits(name: str) -> None:
    """Guests that wait, inside of host functions of others."""
    engine = engine_of(name)
    memory = memory_of(TEXT32)
    inner = guest(engine, memory)
    text = '(module (import "env" "call" (func $f (result i32))) (func (export "f") (result i32) (call $f)))'
    outer = wl.Instance(wl.Module(text, engine), {"env": {"call": lambda: inner.wait32(0, 0, -1)}}).exports
    thread, got = start(outer.f)
    assert comes(lambda: waiting() == 1)
    assert memory.notify(0) == 1
    join(thread)
    assert got == [WOKEN]


def test_signal_handlers_run_while_a_guest_waits() -> None:
    memory = memory_of(TEXT32)
    exports = guest(engine_of("interpreter"), memory)
    before = signal.signal(signal.SIGUSR1, lambda *_: memory.notify(0))
    main = threading.get_ident()

    def kick() -> None:
        comes(lambda: waiting() == 1)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread, _ = start(kick)
    try:
        assert exports.wait32(0, 0, -1) == WOKEN
    finally:
        join(thread)
        signal.signal(signal.SIGUSR1, before)
