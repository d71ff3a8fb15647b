"""Parked guests, whatever they stand in: chains of continuations, handlers, wide calls; and whatever happens meanwhile.

All of it in both tiers, the compiler's also with switches by calls, and in stores that mix.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.patience import FOREVER, PATIENCE
from tests.tiers import replacing
from wasmloom.host.tasks import new_task, stacks_in_use
from wasmloom.runtime.collector import collect_garbage

ENGINES = {
    "interpreter": wl.Engine(tier="interpreter"),
    "compiler": wl.Engine(tier="compiler"),
    "libcall": wl.Engine(tier="compiler", stack_switching="libcall"),
    "changing": wl.Engine(tier="auto", threshold=2),
    "mixed": wl.Engine(tier="interpreter"),
    "mixed baseline": wl.Engine(tier="baseline"),
}

#: `walk` does what a list of steps in the memory says, one in each call: how it calls the next, and what it awaits.
TEXT = """(module $guest
  (type $f (func (param i32) (result i64)))
  (type $k (cont $f))
  (type $r (func (param i64) (result i64)))
  (type $kr (cont $r))
  (import "env" "wait" (func $wait (param i32) (result i64)))
  (import "env" "thing" (func $thing (param i32) (result externref)))
  (import "env" "number" (func $number (param externref) (result i32)))
  (import "env" "oops" (tag $oops (param i64)))
  (import "env" "many" (func $many
    (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 f64 f64 f64)
    (result i64 f64 i32 f32)))
  (tag $pause (param i32) (result i64))
  (tag $carry (param i32))
  (elem declare func $walk $many $kept $pausing)
  (memory (export "memory") 1)

  (func $next (param $at i32) (result i64)
    (if (result i64) (i32.load8_u (local.get $at))
      (then (call $walk (local.get $at)))
      (else (call $wait (local.get $at)))))

  ;; In a frame with live values of all kinds.
  (func $walk (export "walk") (param $at i32) (result i64)
    (local $step i32) (local $x i64) (local $y f64) (local $thing externref) (local $e exnref)
    (local $kept (ref null $k))
    (local.set $step (i32.load8_u (local.get $at)))
    (local.set $x (i64.mul (i64.extend_i32_u (local.get $at)) (i64.const 1000003)))
    (local.set $y (f64.convert_i32_u (local.get $at)))
    (local.set $thing (call $thing (local.get $at)))
    (local.set $kept (call $keep))
    (block $h (result exnref)
      (try_table (catch_all_ref $h) (throw $carry (local.get $at)))
      (unreachable))
    (local.set $e)
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (local.set $x (i64.add (local.get $x) (call $step (local.get $step) (local.get $at))))
    ;; Everything is still there.
    (local.set $x (i64.add (local.get $x) (i64.extend_i32_u (call $number (local.get $thing)))))
    (local.set $x (i64.add (local.get $x) (i64.trunc_f64_u (local.get $y))))
    (local.set $x (i64.add (local.get $x) (resume $k (i32.const 1) (local.get $kept))))
    (i64.add (local.get $x) (i64.extend_i32_u
      (block $got (result i32) (try_table (catch $carry $got) (throw_ref (local.get $e))) (unreachable)))))

  (func $step (param $step i32) (param $at i32) (result i64) (local $k (ref null $kr))
    (block $throws (block $pausing (block $wide (block $tail
    (block $caught (block $resumed (block $called (block $awaits
      (br_table $awaits $called $resumed $caught $tail $wide $pausing $throws
        (i32.rem_u (local.get $step) (i32.const 8))))
      (return (i64.add (call $wait (local.get $at)) (call $next (local.get $at)))))
      (return (call $next (local.get $at))))
      (return (resume $k (local.get $at) (cont.new $k (ref.func $walk)))))
      (return (block $h (result i64)
        (try_table (catch $oops $h) (return (i64.add (i64.const 5) (call $next (local.get $at))))) (unreachable))))
      (return_call $next (local.get $at)))
      (return (i64.add (call $wide (local.get $at)) (call $next (local.get $at)))))
      ;; the continuation below suspends before and after it waits
      (block $on (result i32 (ref $kr))
        (return (resume $k (on $pause $on) (local.get $at) (cont.new $k (ref.func $pausing)))))
      (local.set $k)
      (local.set $at)
      (loop $again
        (block $on2 (result i32 (ref $kr))
          (return (resume $kr (on $pause $on2) (call $wait (local.get $at)) (local.get $k))))
        (local.set $k)
        (local.set $at)
        (br $again)))
    ;; an exception with the sum goes up to the next handler
    (throw $oops (call $next (local.get $at))))

  (func $pausing (type $f)
    (i64.add (suspend $pause (i32.add (local.get 0) (i32.const 100)))
      (i64.add (call $next (local.get 0)) (suspend $pause (i32.add (local.get 0) (i32.const 200))))))

  (func $keep (result (ref $k)) (local $e (ref $kr))
    (cont.new $k (ref.func $kept)))
  (func $kept (type $f) (i64.extend_i32_u (local.get 0)))

  (func $wide (export "wide") (param i32) (result i64) (local $r i64) (local $f f64) (local $i i32) (local $s f32)
    (call $many
      (local.get 0) (i64.const 2) (f32.const 3) (f64.const 4) (i32.const 5) (i64.const 6) (f32.const 7) (f64.const 8)
      (i32.const 9) (i64.const 10) (f32.const 11) (f64.const 12) (i32.const 13) (i64.const 14) (f32.const 15)
      (f64.const 16) (f64.const 17) (f64.const 18) (f64.const 19))
    (local.set $s) (local.set $i) (local.set $f) (local.set $r)
    (i64.add (i64.add (local.get $r) (i64.trunc_f64_s (local.get $f)))
             (i64.add (i64.extend_i32_s (local.get $i)) (i64.trunc_f32_s (local.get $s)))))

  ;; A host function as what a continuation runs.
  (type $mf (func (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 f64 f64 f64)
                  (result i64 f64 i32 f32)))
  (type $mk (cont $mf))
  (func (export "wide_cont") (param i32) (result i64) (local $r i64) (local $f f64) (local $i i32) (local $s f32)
    (resume $mk
      (local.get 0) (i64.const 2) (f32.const 3) (f64.const 4) (i32.const 5) (i64.const 6) (f32.const 7) (f64.const 8)
      (i32.const 9) (i64.const 10) (f32.const 11) (f64.const 12) (i32.const 13) (i64.const 14) (f32.const 15)
      (f64.const 16) (f64.const 17) (f64.const 18) (f64.const 19) (cont.new $mk (ref.func $many)))
    (local.set $s) (local.set $i) (local.set $f) (local.set $r)
    (i64.add (i64.add (local.get $r) (i64.trunc_f64_s (local.get $f)))
             (i64.add (i64.extend_i32_s (local.get $i)) (i64.trunc_f32_s (local.get $s)))))

  (func $deep (export "deep") (param i32) (result i64)
    (if (result i64) (local.get 0)
      (then (i64.add (i64.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1))))) (else (i64.const 0))))
  (func (export "wait_then_deep") (param i32) (result i64)
    (i64.add (call $wait (i32.const 0)) (call $deep (local.get 0))))
  (elem declare func $trapping)
  (func $trapping (type $f) (drop (call $wait (local.get 0))) (unreachable))
  (func $outer (type $f) (resume $k (local.get 0) (cont.new $k (ref.func $trapping))))
  (elem declare func $outer)
  (func (export "wait_then_trap") (param i32) (result i64)
    (resume $k (local.get 0) (cont.new $k (ref.func $outer))))
  (func (export "spin") (loop $again (br $again)))
  (func (export "garbage") (param i32)
    (loop $again
      (call $waste)
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  ;; Until the host writes to the memory.
  (func (export "wastes")
    (i32.store8 (i32.const 1) (i32.const 1))
    (loop $again (call $waste) (br_if $again (i32.eqz (i32.load8_u (i32.const 0))))))
  (func $waste
    (drop (call $keep))
    (block $h (result exnref) (try_table (catch_all_ref $h) (throw $carry (i32.const 99))) (unreachable))
    (drop)))
"""
CALLS, RESUMES, PAUSES = 1, 2, 6


class Thing:
    """What a guest holds."""

    def __init__(self, number: int) -> None:
        self.number = number


class Guest:
    """An instance, and what its imports do: the same numbers, awaited or not."""

    def __init__(self, engine: wl.Engine, **limits: Any) -> None:
        self.engine = engine
        self.store = wl.Store(engine, **limits)
        self.oops = wl.Tag(self.store, "i64")
        self.waits: Callable[[Any], Any] = later
        imports = {
            "wait": lambda n: self.waits(3 * n + 1),
            "many": lambda *values: self.waits((int(sum(values)), values[3], -values[0], 0.0 + values[2])),
            "thing": Thing,
            "number": lambda thing: thing.number,
            "oops": self.oops,
        }
        self.instance = wl.Instance(modules(engine), {"env": imports}, store=self.store)
        self.exports = self.instance.exports

    def place(self, steps: bytes, at: int) -> int:
        """Put a list of steps into the memory."""
        self.exports.memory[at : at + len(steps) + 1] = steps + b"\0"
        return at

    def nothing_left(self) -> None:
        gc.collect()
        assert wl.waiting_guests(self.store) == []
        self.store.gc()
        assert stacks_in_use(self.store) == 0


_modules: dict[wl.Engine, wl.Module] = {}


def modules(engine: wl.Engine) -> wl.Module:
    if engine not in _modules:
        _modules[engine] = wl.Module(TEXT, engine)
        if engine in (ENGINES["mixed"], ENGINES["mixed baseline"]):
            replacing.let_mix(_modules[engine])
    return _modules[engine]


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


@pytest.fixture(params=ENGINES)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest that must leave nothing behind."""
    found = Guest(ENGINES[request.param])
    yield found
    found.nothing_left()


def run(main: Awaitable[Any]) -> Any:
    async def with_timeout() -> Any:
        return await asyncio.wait_for(main, FOREVER)

    return asyncio.run(with_timeout())


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or what it throws."""
    try:
        return call()
    except wl.WasmException as error:
        return error.payload


async def outcome_async(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except wl.WasmException as error:
        return error.payload


# --- any chain ---

STEPS = st.lists(st.integers(1, 8), max_size=12).map(bytes)


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=1, max_size=12), st.sampled_from(sorted(ENGINES)), st.randoms())
def test_any_chain_gives_what_a_plain_call_gives(programs: list[bytes], engine: str, choices: random.Random) -> None:
    """Many guests in one store wait by turns, in all kinds of calls; nothing of one gets into another."""
    plain, guest = Guest(ENGINES["interpreter"]), Guest(ENGINES[engine])
    plain.waits = lambda value: value

    async def waits(value: Any) -> Any:
        for _ in range(choices.randrange(3)):
            await asyncio.sleep(0)
        if choices.randrange(4) == 0:
            collect_garbage(guest.store)
        if choices.randrange(4) == 0:
            guest.exports.garbage(10)
        return value

    guest.waits = lambda value: value if choices.randrange(3) == 0 else waits(value)

    async def main() -> list[Any]:
        places = [guest.place(steps, 64 * (i + 1)) for i, steps in enumerate(programs)]
        return await asyncio.gather(*(outcome_async(guest.exports.walk.call_async(at)) for at in places))

    expected = []
    for i, steps in enumerate(programs):
        at = plain.place(steps, 64 * (i + 1))
        expected.append(outcome(lambda at=at: plain.exports.walk(at)))  # type: ignore[misc]
    assert run(main()) == expected
    guest.nothing_left()


@pytest.mark.parametrize("name", ["wide", "wide_cont"])
def test_wide_values_of_many_guests(guest: Guest, name: str) -> None:
    """What doesn't fit the registers travels in memory that all guests use."""

    async def main() -> None:
        found = await asyncio.gather(*(guest.exports[name].call_async(i) for i in range(50)))
        guest.waits = lambda value: value
        assert found == [guest.exports[name](i) for i in range(50)]

    run(main())


def test_thousands_of_parked_guests(guest: Guest) -> None:
    async def main() -> None:
        event = asyncio.Event()

        async def wait(value: int) -> int:
            await event.wait()
            return value

        guest.waits = wait
        places = [guest.place(bytes([RESUMES, CALLS, RESUMES]), 100), guest.place(b"\x08", 200)]
        tasks = [asyncio.create_task(guest.exports.walk.call_async(places[i % 2])) for i in range(6000)]
        await asyncio.sleep(0)
        assert len(wl.waiting_guests(guest.store)) == 6000
        collect_garbage(guest.store)
        event.set()
        found = await asyncio.gather(*tasks)
        guest.waits = lambda value: value
        assert found == [guest.exports.walk(place) for place in places] * 3000

    run(main())


# --- references on parked stacks only ---


@pytest.mark.parametrize("depth", [1, 2, 4, 9])
def test_references_survive_on_parked_stacks(guest: Guest, depth: int) -> None:
    """External references, exceptions and continuations that only frames of parked guests hold, at any depth."""
    at = guest.place(bytes(itertools.islice(itertools.cycle((RESUMES, CALLS, PAUSES)), depth)), 300)

    async def main() -> None:
        tasks = [asyncio.create_task(guest.exports.walk.call_async(at)) for _ in range(10)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            guest.exports.garbage(2000)
            collect_garbage(guest.store)
            gc.collect()
        guest.waits = lambda value: value
        assert {task.result() for task in tasks} == {guest.exports.walk(at)}

    run(main())


def test_external_references_go_when_their_guests_go(guest: Guest) -> None:
    """What only a parked stack holds lives as long as the guest, not longer."""
    made: list[weakref.ref[Thing]] = []

    class Seen(Thing):
        def __init__(self, number: int) -> None:
            super().__init__(number)
            made.append(weakref.ref(self))

    imports = {
        "wait": later,
        "thing": Seen,
        "number": lambda thing: 0,
        "many": lambda *values: None,
        "oops": guest.oops,
    }
    exports = wl.Instance(modules(guest.engine), {"env": imports}, store=guest.store).exports
    exports.memory[0:2] = bytes([RESUMES, 0])
    calls = [exports.walk.call_async(0) for _ in range(20)]
    for call in calls:
        call.send(None)
    sweep(guest)
    assert all(ref() is not None for ref in made) and len(made) == 40
    del call, calls
    sweep(guest)
    assert sum(ref() is not None for ref in made) < 20  # dead words on other stacks may keep some


def sweep(guest: Guest) -> None:
    """Let so many external references pass that the store looks for those that nothing holds."""
    turn = wl.Instance(
        wl.Module('(module (func (export "f") (param externref)))', guest.engine), store=guest.store
    ).exports.f
    for _ in range(20000):
        turn(object())


# --- the end ---


@pytest.mark.parametrize("steps", [b"", b"\x01", b"\x02\x02\x02", b"\x03\x02\x06\x03", b"\x06\x06\x06"])
def test_dropped_closed_and_cancelled(guest: Guest, steps: bytes) -> None:
    at = guest.place(steps, 64)

    async def main() -> None:
        for _ in range(20):
            call = guest.exports.walk.call_async(at)
            call.send(None)
            call.close()
            call = guest.exports.walk.call_async(at)
            call.send(None)
            del call
            task = asyncio.create_task(guest.exports.walk.call_async(at))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            guest.waits = fail
            with pytest.raises(KeyError):
                await guest.exports.walk.call_async(at)
            guest.waits = later
        guest.waits = lambda value: value
        expected = guest.exports.walk(at)
        guest.waits = later
        assert await guest.exports.walk.call_async(at) == expected

    async def fail(value: Any) -> Any:
        await asyncio.sleep(0)
        raise KeyError(value)

    # What leaks does so in every round. Pools of blocks and native stacks grow now and then, as far as they are needed:
    # that depends on when the collector looks, and on the old words that it finds on stacks.
    used: list[int] = []
    while len(used) < 3 or used[-1] != used[-2]:
        assert len(used) < 12, used
        run(main())
        guest.nothing_left()
        used.append(guest.store.memory_used)


def parked(guest: Guest, at: int, count: int) -> list[Any]:
    """Calls that wait, without a coroutine that would close them."""
    tasks: list[Any] = [new_task(guest.exports.walk) for _ in range(count)]
    for task in tasks:
        assert task.start((at,))
        task.awaitable.close()
    return tasks


@contextlib.contextmanager
def busy(guest: Guest) -> Iterator[None]:
    """Another thread is in the guest and makes garbage, which is collected meanwhile."""
    memory = memoryview(guest.exports.memory)
    memory[:2] = b"\0\0"
    thread = threading.Thread(target=guest.exports.wastes)
    thread.start()
    while not memory[1]:
        time.sleep(0.001)
    try:
        yield
        assert thread.is_alive()
    finally:
        memory[0] = 1
        thread.join()
        memory.release()


def test_dropped_while_another_thread_is_inside(guest: Guest) -> None:
    """The stacks can't be ended at once: the other thread's collector may be walking them."""
    at = guest.place(b"\x02\x01\x02", 64)
    for turn in range(5):
        tasks = parked(guest, at, 50)
        with busy(guest):
            while tasks:
                tasks.pop()
        if turn % 2:
            assert run(guest.exports.walk.call_async(at)) > 0
        assert wl.waiting_guests(guest.store) == []
        collect_garbage(guest.store)
        assert stacks_in_use(guest.store) == 0


@pytest.mark.parametrize("name", ENGINES)
def test_a_store_that_goes_with_what_was_dropped(name: str) -> None:
    guest = Guest(ENGINES[name])
    tasks = parked(guest, guest.place(b"\x02", 64), 10)
    with busy(guest):
        del tasks
    store = weakref.ref(guest.store)
    del guest
    gc.collect()
    assert store() is None


# --- other threads ---


@pytest.mark.parametrize("steps", [b"", b"\x08\x01", b"\x02\x06\x02\x03"])
def test_a_guest_goes_on_in_other_threads(guest: Guest, steps: bytes) -> None:
    """Every step in a thread of its own, which is gone at the next; the last one in this thread."""
    at = guest.place(steps, 64)
    guest.waits = lambda value: value
    expected = guest.exports.walk(at)
    guest.waits = Turn
    call = guest.exports.walk.call_async(at)
    found: list[Any] = []

    def step() -> None:
        try:
            call.send(None)
        except StopIteration as stop:
            found.append(stop.value)

    while not found:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert found == [expected]


class Turn:
    """An awaitable that any loop, or none, can drive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, Any]:
        yield
        return self.value


def test_guests_of_one_store_in_several_threads(guest: Guest) -> None:
    at = guest.place(b"\x02\x06\x01\x08", 64)
    guest.waits = lambda value: value
    expected = guest.exports.walk(at)
    guest.waits = later
    wrong: list[Any] = []

    def work() -> None:
        async def main() -> None:
            for _ in range(10):
                wrong.extend(
                    found
                    for found in await asyncio.gather(*(guest.exports.walk.call_async(at) for _ in range(10)))
                    if found != expected
                )

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- after the wait ---


def test_a_trap_after_the_wait(guest: Guest) -> None:
    for _ in range(20):
        with pytest.raises(wl.Trap) as trap:
            run(guest.exports.wait_then_trap.call_async(7))
        assert trap.value.code == "unreachable"
        assert [frame.func_name for frame in trap.value.frames] == ["trapping", "outer", "wait_then_trap"]
        numbers = [frame.continuation for frame in trap.value.frames]
        assert numbers[2] is None and None not in numbers[:2] and numbers[0] != numbers[1]


@pytest.mark.parametrize("name", ENGINES)
def test_deep_recursion_after_the_wait(name: str) -> None:
    guest = Guest(ENGINES[name], stack_limit=16 << 20)
    assert run(guest.exports.wait_then_deep.call_async(100_000)) == 100_001
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        run(guest.exports.wait_then_deep.call_async(100_000_000))
    assert run(guest.exports.wait_then_deep.call_async(100_000)) == 100_001


@pytest.mark.parametrize("name", ENGINES)
def test_timeouts_and_signals_after_the_wait(name: str) -> None:
    guest = Guest(ENGINES[name], timeout=PATIENCE)
    at = guest.place(b"\x02", 64)

    async def wait(value: int) -> int:
        await asyncio.sleep(0)
        # Within a host function's await the guest's store is free, and a plain call in it has a timeout of its own.
        guest.store.timeout = 0.1
        with pytest.raises(wl.Trap, match="timeout"):
            guest.exports.spin()
        guest.store.timeout = PATIENCE
        return value

    guest.waits = wait
    found = run(guest.exports.walk.call_async(at))
    guest.waits = lambda value: value
    assert found == guest.exports.walk(at)
    guest.nothing_left()


def test_calls_from_host_functions_that_wait(guest: Guest) -> None:
    """A host function enters the guest in all ways, above the frames that wait for it, and then makes them wait."""
    at = guest.place(b"\x02\x03", 64)
    guest.waits = lambda value: value
    expected = guest.exports.walk(at)
    calls: list[Any] = []

    def waits(value: int) -> Any:
        guest.waits = later
        with pytest.raises(wl.WasmError, match="returned an awaitable"):
            guest.exports.walk(at)
        with pytest.raises(wl.Trap):
            guest.exports.deep(100_000_000)
        calls.append(guest.exports.walk.call_async(at))
        calls[-1].send(None)
        if len(calls) == 3:
            for call in calls:
                with pytest.raises(StopIteration) as stop:
                    call.send(None)
                assert stop.value.value == expected
            calls.clear()
        guest.waits = waits
        return later(value)

    guest.waits = waits
    assert [run(guest.exports.walk.call_async(at)) for _ in range(3)] == [expected] * 3
    assert not calls


@pytest.mark.parametrize("name", ENGINES)
def test_parked_guests_count_towards_the_memory_limit(name: str) -> None:
    guest = Guest(ENGINES[name], memory_limit=65536 + 1_000_000)
    at = guest.place(b"\x02", 64)

    async def main() -> None:
        found = await asyncio.gather(*(guest.exports.walk.call_async(at) for _ in range(3000)), return_exceptions=True)
        failed = [result for result in found if isinstance(result, BaseException)]
        assert 100 < len(failed) < 3000
        assert all(isinstance(error, wl.Trap) and error.code == "out of memory" for error in failed)
        assert await guest.exports.walk.call_async(at) in found

    run(main())
    guest.nothing_left()


def test_the_tier_changes_between_calls_that_wait() -> None:
    """Calls that can wait count like others, and a guest that waits meanwhile goes on as compiled code."""
    guest = Guest(wl.Engine(tier="auto", threshold=3))
    at = guest.place(b"\x02\x06", 64)
    plain = Guest(ENGINES["interpreter"])
    plain.waits = lambda value: value
    expected = plain.exports.walk(plain.place(b"\x02\x06", 64))
    guest.waits = Turn
    early = guest.exports.walk.call_async(at)
    early.send(None)

    async def main() -> None:
        for _ in range(5):
            assert await guest.exports.walk.call_async(at) == expected
        assert guest.store.tier_name == "compiler"
        with pytest.raises(StopIteration) as stop:
            while True:
                early.send(None)
        assert stop.value.value == expected
        for _ in range(3):
            assert await guest.exports.walk.call_async(at) == expected

    run(main())
    guest.nothing_left()


# --- walks ---

WALKED = """
import asyncio, signal, sys, threading
sys.path[:0] = {path!r}
import wasmloom as wl
text = '''(module $deep
  (type $f (func (param i32) (result i32))) (type $k (cont $f))
  (import "env" "wait" (func $wait (param i32) (result i32)))
  (func $leaf (param i32) (result i32) (loop) ;; it doesn't stand in the place of calls
    (drop (call $wait (local.get 0))) (i32.add (i32.const 1) (call $wait (local.get 0))))
  (func $body (type $f) (i32.add (i32.const 1) (call $leaf (local.get 0))))
  (elem declare func $body)
  (func (export "main") (param i32) (result i32)
    (i32.add (i32.const 1) (resume $k (local.get 0) (cont.new $k (ref.func $body))))))'''
engine = wl.Engine(tier="compiler", stack_switching={switching!r}, cache=False)
turns = []
def wait(n):
    turns.append(n)
    if len(turns) == 2:
        signal.raise_signal(signal.SIGTRAP)
    return asyncio.sleep(0, 1)
call = wl.Instance(wl.Module(text, engine), {{"env": {{"wait": wait}}}}).exports.main.call_async(1)
def use_stack(n):
    return n and use_stack(n - 1)
thread = threading.Thread(target=lambda: use_stack(100) or call.send(None))
thread.start()
thread.join()
call.send(None)
"""


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
@pytest.mark.parametrize("switching", ["native", "libcall"])
def test_gdb_after_the_wait(switching: str) -> None:
    """Of a guest that began in a thread that is gone, frames lead to the thread in which it goes on."""
    source = WALKED.format(path=[str(Path(wl.__file__).resolve().parents[1])], switching=switching)
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-ex", "run", "-ex", "backtrace", "--args", sys.executable, "-c", source],
        capture_output=True, text=True, timeout=FOREVER, env={**os.environ, "WASMLOOM_PERF": "gdb"},
    )  # fmt: skip
    if "SIGTRAP" not in done.stdout:
        pytest.skip(f"gdb can't run programs here: {done.stdout}{done.stderr}")
    frames = [line for line in done.stdout.splitlines() if line.startswith("#")]
    guests = [found[1] for frame in frames if (found := re.search(r"in (\w+) \(\) at module\.wasm:\d+$", frame))]
    assert guests == ["leaf", "body", "main"], done.stdout
    assert "main" in frames[-1] or "_start" in frames[-1]
    assert "Backtrace stopped" not in done.stdout
