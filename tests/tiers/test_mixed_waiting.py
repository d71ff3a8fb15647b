"""Calls that wait in stores that mix: in bytecode, stencils and compiled code, whatever waits below on which stack."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Generator
from itertools import product
from typing import Any

import pytest

import wasmloom as wl
from wasmloom.host.tasks import new_task, stacks_in_use
from wasmloom.runtime.collector import collect_garbage
from wasmloom.tiers import mixed
from wasmloom.tiers.frames import frames_inside

#: `ping` and `pong` call each other in turn and wait at the bottom, and on the way up.
TEXT = """(module
  (import "m" "wait" (func $wait (param i32) (result i32)))
  (import "m" "many" (func $many (param i32 externref f64) (result f64 externref i32)))
  (import "m" "t" (tag $t (param i32)))
  (memory (export "memory") 1) (table funcref (elem $ping $pong))
  (type $f (func (param i32 i32) (result i32)))
  (func $ping (export "ping") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (call $bottom (local.get 1)))))
    (i32.add (call $pong (i32.sub (local.get 0) (i32.const 1)) (local.get 1)) (call $wait (i32.const 1))))
  (func $pong (export "pong") (param i32 i32) (result i32)
    (loop) ;; it doesn't stand in the place of calls
    (if (i32.eqz (local.get 0)) (then (return (call $bottom (local.get 1)))))
    (i32.add
      (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (i32.const 0)) (i32.const 1)))
  (func $bottom (param i32) (result i32)
    (loop)
    (local.set 0 (call $wait (local.get 0)))
    (block (block (block (br_table 0 1 2 (local.get 0)))
      (return (i32.load (i32.const -4))))
      (throw $t (i32.const 5)))
    (i32.add (local.get 0) (call $wait (local.get 0))))
  (func $catch (export "catch") (param i32 i32) (result i32)
    (block (result i32)
      (try_table (result i32) (catch $t 0) (call $ping (local.get 0) (local.get 1)))))
  (func $tidy (export "tidy") (param i32) (result i32)
    (block (result exnref)
      (try_table (result exnref) (catch_all_ref 0) (drop (call $ping (i32.const 2) (local.get 0))) (unreachable)))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (throw_ref))
  (func (export "wide") (param i32 externref f64) (result f64 externref i32)
    (call $many (local.get 0) (local.get 1) (local.get 2)))
  (func $deep (export "deep") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (call $wait (i32.const 3)))))
    (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
  (func $sum (export "sum") (param i32) (result i32) (local i32)
    (loop $again
      (local.set 1 (i32.add (local.get 1) (call $wait (local.get 0))))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "tail") (param i32 i32) (result i32) (return_call $pong (local.get 0) (local.get 1)))
  (func (export "then_deep") (param i32) (result i32)
    (drop (call $wait (local.get 0)))
    (call $dive (i32.const 0)))
  (func $dive (param i32) (result i32) (call $dive (i32.add (local.get 0) (i32.const 1)))))"""
#: Numbers of functions, in the order of the text.
CHOICES = [[], [0], [1], [2], [0, 2], [1, 2], [1, 3, 4], [0, 3], [2, 3, 4], [*range(11)]]
TIERS = ("interpreter", "baseline")

pytestmark = pytest.mark.usefixtures("mixing")


class Turn:
    """An awaitable that any loop, or none, can drive, and what it gives or raises."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, Any]:
        yield
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


class Guest:
    """An instance in a store that mixes, in which chosen functions have compiled code."""

    def __init__(self, tier: str, chosen: list[int], **limits: Any) -> None:
        self.module = wl.Module(TEXT, wl.Engine(tier=tier, cache=False))
        self.store = wl.Store(self.module.engine, **limits)
        self.tag = wl.Tag(self.store, "i32")
        self.wait: Any = lambda number: Turn(number)
        imports = {"wait": lambda number: self.wait(number), "many": lambda *all: Turn(all[::-1]), "t": self.tag}
        self.exports: Any = wl.Instance(self.module, {"m": imports}, store=self.store).exports
        mixed.replace(self.module, chosen)
        assert mixed.replaced(self.module) == chosen

    def call(self, name: str, *arguments: Any) -> Any:
        """How a call ends, and the frames that are seen where it waits, from inside and outside."""
        seen: list[Any] = []
        task = new_task(self.exports[name])
        try:
            more = task.start(arguments)
            while more:
                seen.append([(frame.func_name, frame.offset) for frame in task.frames])
                try:
                    result = asyncio.run(_result(task.awaitable))
                except BaseException as error:
                    more = task.throw(error, isinstance(error, asyncio.CancelledError))
                else:
                    more = task.send(result)
            return task.result, seen
        except wl.Trap as trap:
            return (trap.code, trap.frames), seen
        except (wl.WasmException, asyncio.CancelledError, KeyError) as error:
            return (type(error), getattr(error, "payload", error.args)), seen

    def nothing_left(self) -> None:
        gc.collect()
        collect_garbage(self.store)
        assert wl.waiting_guests(self.store) == [] and stacks_in_use(self.store) == 0


async def _result(awaitable: Any) -> Any:
    return await awaitable


def ways(guest: Guest) -> Any:
    """How calls end whose host function waits, returns at once, throws, calls the guest, collects, in turn."""
    count = 0
    inside: list[Any] = []

    def wait(number: int) -> Any:
        nonlocal count
        count += 1
        inside.append([(frame.function, frame.offset) for frame in frames_inside(guest.store)])
        if count % 11 == 0:
            return Turn(wl.WasmException(guest.tag, count))
        if count % 7 == 0:
            raise wl.WasmException(guest.tag, count)
        if count % 5 == 0:
            before, guest.wait = guest.wait, lambda number: number + 1
            try:
                number += guest.exports.ping(2, 5) + guest.exports.catch(3, 1)
            finally:
                guest.wait = before
        if count % 3 == 0:
            collect_garbage(guest.store)
            return number
        return Turn(number)

    guest.wait = wait
    calls = product(("ping", "pong", "catch", "tail"), (0, 1, 4), (0, 1, 7))
    return [guest.call(*call) for call in calls], inside


@pytest.mark.parametrize("tier", TIERS)
def test_whatever_is_compiled_results_traps_exceptions_and_frames_are_the_same(tier: str) -> None:
    expected = ways(Guest(tier, []))
    for chosen in CHOICES[1:]:
        guest = Guest(tier, chosen)
        assert ways(guest) == expected, chosen
        guest.nothing_left()


@pytest.mark.parametrize("chosen", CHOICES)
def test_what_waits_runs_compiled_code(chosen: list[int]) -> None:
    """Each frame is what its function has."""
    guest = Guest("interpreter", chosen)
    kinds: list[Any] = []

    def wait(number: int) -> Any:
        kinds.append([type(frame.code).__name__ for frame in frames_inside(guest.store)][1:])
        return Turn(number)

    guest.wait = wait
    guest.call("ping", 1, 7)
    kind = ["CompiledModule" if number in chosen else "CodeSpace" for number in range(3)]
    assert kinds == [[kind[2], kind[1], kind[0]], [kind[2], kind[1], kind[0]], [kind[0]]]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("chosen", CHOICES)
def test_cancellation_runs_what_tidies_up(tier: str, chosen: list[int]) -> None:
    guest = Guest(tier, chosen)
    guest.wait = lambda number: Turn(asyncio.CancelledError("stop"))
    assert guest.call("tidy", 7)[0] == (asyncio.CancelledError, ("stop",))
    assert guest.exports.memory[0] == 1
    guest.wait = lambda number: Turn(KeyError(number))
    assert guest.call("tidy", 7)[0] == (KeyError, (7,))
    assert guest.exports.memory[0] == 1  # other exceptions end the guest
    guest.nothing_left()


@pytest.mark.parametrize("chosen", [[], [5]])
def test_several_results_of_what_it_waits_for(chosen: list[int]) -> None:
    guest = Guest("interpreter", chosen)
    thing = object()
    assert guest.call("wide", 3, thing, 2.5)[0] == (2.5, thing, 3)


@pytest.mark.parametrize("tier", TIERS)
def test_code_comes_while_guests_wait(tier: str) -> None:
    """Many, in all kinds of code, go on by turns while one function and loop after the other is replaced."""
    guest = Guest(tier, [])
    expected = [guest.call("sum", 6)[0], guest.call("ping", 4, 7)[0]]

    async def main() -> None:
        calls = []
        space = guest.module.code_space
        for number in range(11):
            for name, arguments in (("sum", (6,)), ("ping", (4, 7))):
                calls.append(asyncio.create_task(_result(guest.exports[name].call_async(*arguments))))
            await asyncio.sleep(0)
            mixed.replace(guest.module, [number], [(number, at) for at in space.loops_of(number)])
            collect_garbage(guest.store)
        assert [await call for call in calls] == expected * 11

    guest.wait = lambda number: Turn(number)
    asyncio.run(main())
    guest.nothing_left()


@pytest.mark.parametrize("chosen", [[], [6], [10], [*range(11)]])
def test_stacks_end_where_their_limit_is(chosen: list[int]) -> None:
    """The value stack and the native one have the same limit, before a call has waited and afterwards."""
    guest = Guest("interpreter", chosen, stack_limit=4 << 20)
    assert guest.call("deep", 20_000)[0] == 20_003
    assert guest.call("deep", 10_000_000)[0][0] == "call stack exhausted"
    assert guest.call("then_deep", 1)[0][0] == "call stack exhausted"
    assert guest.call("deep", 20_000)[0] == 20_003
    guest.nothing_left()


def test_where_there_is_no_memory_for_a_second_stack_bytecode_does() -> None:
    guest = Guest("interpreter", [*range(11)], memory_limit=65536 + 400_000)

    async def main() -> None:
        event = asyncio.Event()

        async def wait(number: int) -> int:
            await event.wait()
            return number

        guest.wait = wait
        calls = [asyncio.create_task(_result(guest.exports.ping.call_async(2, 7))) for _ in range(200)]
        await asyncio.sleep(0)
        assert len(wl.waiting_guests(guest.store)) == 200
        assert guest.module.code_space.is_translated(0)
        event.set()
        assert [await call for call in calls] == [16] * 200

    asyncio.run(main())
    guest.nothing_left()


@pytest.mark.parametrize("chosen", [[], [2], [*range(11)]])
def test_a_forked_child_goes_on_with_what_waits(chosen: list[int]) -> None:
    guest = Guest("interpreter", chosen)
    call = guest.exports.ping.call_async(3, 7)
    call.send(None)
    child = os.fork()
    if child == 0:
        found = 0
        try:
            while True:
                call.send(None)
        except StopIteration as stop:
            found = stop.value
        finally:
            os._exit(found)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    with pytest.raises(StopIteration) as stop:
        while True:
            call.send(None)
    assert stop.value.value == 17


def test_a_store_in_which_something_waits_does_not_end_to_mix() -> None:
    guest = Guest("interpreter", [0])
    call = guest.exports.ping.call_async(1, 7)
    call.send(None)
    with pytest.raises(ValueError, match="can't mix"):
        mixed.let_mix(guest.store, False)
    call.close()
    mixed.let_mix(guest.store, False)
