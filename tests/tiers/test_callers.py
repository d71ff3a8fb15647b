"""Who calls a host function, however the guest has got hold of it: the instance whose code calls, in every tier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.tiers import replacing

#: Functions that call a host function in all ways: the import `f`, elements of a table, references. Each instance has
#: its number in its memory.
TEXT = """(module
  (type $f (func (param i32) (result i32)))
  (type $wide (func (param i32 i64 i64 i64 i64 i64 i64 i64 f64 f32) (result i64 f64 f32)))
  (import "env" "table" (table $t 10 funcref))
  (import "env" "f" (func $f (type $f)))
  (import "env" "wide" (func $wide (type $wide)))
  (memory (export "memory") 1)
  (export "f" (func $f))
  (func (export "direct") (type $f) (call $f (local.get 0)))
  (func (export "tail_direct") (type $f) (return_call $f (local.get 0)))
  (func (export "ref") (param (ref $f) i32) (result i32) (call_ref $f (local.get 1) (local.get 0)))
  (func (export "tail_ref") (param (ref $f) i32) (result i32) (return_call_ref $f (local.get 1) (local.get 0)))
  (func (export "through") (param i32 i32) (result i32)
    (i32.add (call_indirect $t (type $f) (local.get 1) (local.get 0)) (i32.load8_u (i32.const 8))))
  (func $tail (export "tail_through") (param i32 i32) (result i32)
    (return_call_indirect $t (type $f) (local.get 1) (local.get 0)))
  (func (export "tail_host") (type $f) (return_call $tail (i32.const 0) (local.get 0)))
  (func (export "call_host") (type $f) (call_indirect $t (type $f) (local.get 0) (i32.const 0)))
  (func (export "wide") (param i32) (result i64 f64 f32)
    (call $wide (local.get 0) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)
      (i64.const 7) (f64.const 8) (f32.const 9))))"""

Numbers = list["int | None"]


class World:
    """Three instances, two of them of one module, that share a table of functions.

    Its element 0 is a host function that no instance has imported; then come the instances' `tail_host`, `call_host`
    and `f`.
    """

    def __init__(self, engine: wl.Engine) -> None:
        self.seen: Numbers = []
        self.inside: Callable[[], object] = lambda: None
        self.store = wl.Store(engine)
        self.table = wl.Table(self.store, "funcref", 10)
        look, wide = wl.takes_caller(self.look), wl.takes_caller(self.look_wide)
        self.func = self.table[0] = wl.Func(self.store, "i32 -> i32", look)
        same = wl.Module(TEXT, engine)
        self.modules = [same, same, wl.Module(TEXT, engine)]
        self.exports: list[Any] = []
        for number, module in enumerate(self.modules):
            imports = {"env": {"table": self.table, "f": look, "wide": wide}}
            exports = wl.Instance(module, imports, store=self.store).exports
            exports.memory[8] = number
            for place, name in enumerate(("tail_host", "call_host", "f")):
                self.table[1 + 3 * number + place] = exports[name]
            self.exports.append(exports)

    def look(self, caller: wl.Caller | None, value: int) -> int:
        self.inside()
        self.seen.append(None if caller is None else caller.exports.memory[8])
        return value

    def look_wide(self, caller: wl.Caller | None, value: int, *others: float) -> tuple[float, ...]:
        assert others == (1, 2, 3, 4, 5, 6, 7, 8, 9)
        self.look(caller, value)
        return 1, 2, 3

    def took(self) -> Numbers:
        """Which instances have called since it was last asked."""
        seen = list(self.seen)
        self.seen.clear()
        return seen


@pytest.fixture(params=[*ENGINES, "mixed", "some mixed"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """In every way to run code."""
    if request.param in ENGINES:
        yield World(engine_of(request.param))
        return
    request.getfixturevalue("mixing")
    made = World(wl.Engine(tier="auto", cache=False))
    for seed, module in enumerate(set(made.modules)):
        if request.param == "mixed":
            replacing.all_of(module)
        else:
            replacing.some_of(module, seed + 1)
    yield made


def test_every_way_to_call(world: World) -> None:
    for _ in range(3):  # in "auto", before and after the store has changed over
        for number in (0, 1, 2, 1, 0):
            exports = world.exports[number]
            for name in ("direct", "tail_direct", "tail_host", "call_host"):
                assert exports[name](7) == 7
                assert world.took() == [number], name
            assert exports.wide(7) == (1, 2.0, 3.0)
            assert world.took() == [number]
            for reference in (world.func, *(other.f for other in world.exports)):
                for name in ("ref", "tail_ref"):
                    assert exports[name](reference, 7) == 7
                    assert world.took() == [number], name
            for place in (0, 3, 6, 9):
                assert exports.through(place, 7) == 7 + number
                assert exports.tail_through(place, 7) == 7
                assert world.took() == [number, number], place


def test_calls_across_instances(world: World) -> None:
    for _ in range(3):
        for first, second in permutations(range(3), 2):
            for place in (1, 2):  # its `tail_host`, its `call_host`
                assert world.exports[first].through(1 + 3 * second + place - 1, 7) == 7 + first
                assert world.exports[first].tail_through(1 + 3 * second + place - 1, 7) == 7
                assert world.took() == [second, second], (first, second, place)


def test_the_host_itself_calls(world: World) -> None:
    exports = world.exports
    for _ in range(3):
        assert world.func(1) == 1 and exports[0].f(1) == 1 and world.table[3](1) == 1
        assert world.took() == [None] * 3

    def nested() -> None:
        world.inside = lambda: None
        assert world.func(1) == 1
        assert exports[1].call_host(2) == 2
        assert world.func(3) == 3

    for _ in range(3):
        world.inside = nested
        assert exports[2].call_host(4) == 4
        assert world.took() == [None, 1, None, 2]
        world.inside = nested
        assert world.func(4) == 4
        assert world.took() == [None, 1, None, None]


def test_callers_that_wait(world: World) -> None:
    seen: list[tuple[int, int]] = []

    async def wait(caller: wl.Caller, value: int) -> int:
        before = caller.exports.memory[8]
        await asyncio.sleep(0)
        seen.append((before, caller.exports.memory[8]))
        return value

    world.table[0] = wl.Func(world.store, "i32 -> i32", wl.takes_caller(wait))

    async def main() -> None:
        calls = [exports[name].call_async(7) for exports in world.exports for name in ("call_host", "tail_host")]
        assert await asyncio.gather(*calls) == [7] * 6

    for _ in range(3):
        seen.clear()
        asyncio.run(main())
        assert sorted(seen) == [(number, number) for number in range(3) for _ in range(2)]


ON_STACKS = """(module
  (type $f (func (result i32))) (type $k (cont $f))
  (import "env" "f" (func $f (type $f)))
  (import "env" "table" (table $t 1 funcref))
  (tag $yield)
  (memory (export "memory") 1)
  (func $body (type $f)
    (suspend $yield)
    (drop (call_indirect $t (type $f) (i32.const 0)))
    (return_call_indirect $t (type $f) (i32.const 0)))
  (elem declare func $body $f)
  (func (export "run") (result i32) (local $k (ref null $k))
    (block $on (result (ref $k))
      (return (resume $k (on $yield $on) (cont.new $k (ref.func $body)))))
    (local.set $k)
    (resume $k (local.get $k)))
  (func (export "host") (result i32) (resume $k (cont.new $k (ref.func $f)))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_on_the_stacks_of_continuations(name: str) -> None:
    engine = engine_of(name)
    store, seen = wl.Store(engine), []

    @wl.takes_caller
    def look(caller: wl.Caller | None) -> int:
        seen.append(caller and caller.exports.memory[8])
        return 7

    module, table = wl.Module(ON_STACKS, engine), wl.Table(store, "funcref", 1)
    table[0] = wl.Func(store, "-> i32", look)
    both = [wl.Instance(module, {"env": {"f": look, "table": table}}, store=store).exports for _ in range(2)]
    for number, exports in enumerate(both):
        exports.memory[8] = number
    for _ in range(3):
        for number in (0, 1, 0):
            assert both[number].run() == 7
            assert seen == [number, number]
            seen.clear()
            assert both[number].host() == 7  # begins with the host function: no instance calls it
            assert seen == [None]
            seen.clear()
