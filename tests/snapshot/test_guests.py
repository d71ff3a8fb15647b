"""Guests in the middle of calls: what is restored goes on where the original stood, and ends as it does."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import FOREVER
from tests.tiers.programs import program
from tests.tiers.test_frames import of_guests
from wasmloom.tiers.frames import frames_inside

PROGRAMS = 40
TIERS = ("interpreter", "baseline")


@pytest.fixture(params=TIERS)
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    eager = "eager" if request.param == "baseline" else "lazy-translation"
    return wl.Engine(tier=request.param, translation=eager, cache=False, snapshots=True)


def travelled(kept: wl.Snapshot, engine: wl.Engine) -> wl.Snapshot:
    """A snapshot that has been bytes meanwhile."""
    data = kept.to_bytes()
    again = wl.Snapshot.from_bytes(data, engine=engine)
    assert again.to_bytes() == data
    return again


# --- what frames hold ---


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_every_call_of_the_host_can_be_one_that_is_restored(seed: int, engine: wl.Engine) -> None:
    """Copies are taken in each call of the host; each goes on to the end, and its frames hold what the program says."""
    text, machine = program(seed)
    kept: list[wl.Snapshot] = []

    def imports(store: Callable[[], wl.Store], seen: list[Any], take: bool) -> dict[str, Any]:
        def look() -> None:
            seen.append(of_guests(frames_inside(store())))
            if take:
                kept.append(store().snapshot())

        def ask(number: int) -> tuple[int, float]:
            look()
            return number, 1.5

        return {"m": {"look": look, "ask": ask}}

    store = wl.Store(engine)
    seen: list[Any] = []
    exports = wl.Instance(wl.Module(text, engine), imports(lambda: store, seen, True), store=store).exports
    exports.run()
    assert seen == machine.looks and len(kept) == len(seen)
    for number, each in enumerate(kept[:30]):
        found: list[Any] = []
        copy = travelled(each, engine).restore(imports=imports(lambda: copy.store, found, False))  # noqa: B023
        (call,) = copy.calls
        assert call.function == "run" and call.waits_for in ("m.look", "m.ask")
        assert asyncio.run(call.run()) is None
        # In the call that is run again, no guest runs: it waits.
        assert found[1:] == machine.looks[number + 1 :]
        assert wl.Snapshot.take(copy.store).restore().calls == ()


RICH = """(module
  (import "m" "ask" (func $ask (param i32) (result i32)))
  (import "m" "many" (func $many (param i64 f32 f64 v128 externref funcref)
    (result f64 v128 externref funcref i64)))
  (type $f (func (param i32) (result i32)))
  (tag $e (export "e") (param i32 i64)) (table (export "t") 4 funcref) (memory (export "memory") 1)
  (global $g (export "g") (mut i64) (i64.const 1))
  (elem (i32.const 0) $double $asks $tail $thrower)
  (func $double (type $f) (i32.mul (i32.const 2) (local.get 0)))
  (func $asks (type $f) (i32.add (i32.const 1) (call $ask (local.get 0))))
  (func $tail (type $f) (return_call $ask (i32.add (i32.const 5) (local.get 0))))
  (func $thrower (type $f) (throw $e (call $ask (local.get 0)) (i64.const 77)))
  (func (export "nested") (param i32) (result i32) (local i64 f32 f64 v128)
    (local.set 1 (i64.const -5)) (local.set 2 (f32.const 1.5)) (local.set 3 (f64.const -2.5))
    (local.set 4 (v128.const i64x2 3 -4))
    (i32.const 1000) (f64.const 0.25)
    (local.get 0) (local.set 0 (i32.const 9))
    (call_indirect (type $f) (i32.const 1))
    (i32.add (i32.trunc_f64_s (f64.mul (local.get 3) (f64.const -100))))
    (i32.add (i32.wrap_i64 (i64x2.extract_lane 1 (local.get 4))))
    (i32.add (local.get 0))
    (local.set 0) (drop) (i32.add (local.get 0))
    (i32.add (i32.wrap_i64 (local.get 1))))
  (func (export "tails") (param i32) (result i32)
    (i32.add (call $tail (local.get 0)) (call_indirect (type $f) (local.get 0) (i32.const 2))))
  (func (export "loops") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (local.get 1) (call $ask (local.get 0))))
      (block $done (block $more (br_table $more $done $done (i32.eqz (local.get 0))))
        (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br $l)))
    (local.get 1))
  (func (export "caught") (param i32) (result i32 i64)
    (local $kept i32)
    (block $outer (result i32 i64)
      (try_table (catch $e $outer)
        (local.set $kept (i32.const 3))
        (block $inner
          (try_table (catch_all $inner)
            (drop (call $asks (local.get 0)))
            (drop (call $thrower (local.get 0)))))
        (drop (call $asks (i32.const 50)))
        (try_table (result i32) (call $thrower (i32.add (local.get $kept) (local.get 0))))
        (drop))
      (unreachable)))
  (func (export "values") (param externref) (result f64 v128 externref funcref i64)
    (call $many (i64.const -3) (f32.const nan:0x234567) (f64.const 0.5) (v128.const i64x2 5 6) (local.get 0)
      (ref.func $double)))
  (func $fact (export "fact") (param i32) (result i64)
    (if (result i64) (local.get 0)
      (then (i64.mul (i64.extend_i32_u (local.get 0)) (call $fact (i32.sub (local.get 0) (i32.const 1)))))
      (else (i64.extend_i32_u (call $ask (i32.const 1)))))))"""


def rich(engine: wl.Engine, take: Any) -> tuple[wl.Store, Any]:
    store = wl.Store(engine)
    imports = {"m": {"ask": lambda n: take(store, n + 1), "many": lambda *args: take(store, args)}}
    return store, wl.Instance(wl.Module(RICH, engine), imports, store=store).exports


CASES = [("nested", 4), ("tails", 4), ("loops", 3), ("caught", 6), ("fact", 12)]


@pytest.mark.parametrize(("name", "argument"), CASES)
@pytest.mark.parametrize("how", ["call", "call_async"])
def test_results_are_the_same(name: str, argument: int, how: str, engine: wl.Engine) -> None:
    kept: list[tuple[wl.Snapshot, int]] = []

    def take(store: wl.Store, value: int) -> int:
        kept.append((wl.Snapshot.take(store), value))
        return value

    _, exports = rich(engine, take)
    function = exports[name]
    wanted = function(argument) if how == "call" else asyncio.run(function.call_async(argument))
    assert kept
    for each, value in kept:
        again = travelled(each, engine)
        answered, run, thrown = (
            again.restore(imports={"m": {"ask": lambda n: n + 1, "many": print}}) for _ in range(3)
        )
        (call,) = answered.calls
        assert call.args == (value - 1,) and call.function == name and call.waits_for == "m.ask"
        assert call.frames[0].func_name == "m.ask"
        assert asyncio.run(call.answer(value)) == wanted
        assert asyncio.run(run.calls[0].run()) == wanted
        with pytest.raises(RuntimeError, match="has gone on already"):
            asyncio.run(call.run())
        with pytest.raises(KeyError):
            asyncio.run(thrown.calls[0].throw(KeyError(1)))
        assert wl.Snapshot.take(run.store) == wl.Snapshot.take(answered.store)


def test_guests_that_wait(engine: wl.Engine) -> None:
    """Any number of them; the originals go on as if nothing had been."""
    store: Any = None
    kept: list[wl.Snapshot] = []

    async def ask(number: int) -> int:
        asked.append((number, wl.current_call()))
        if len(asked) == 3:
            kept.append(store.snapshot())
            ready.set()
        await ready.wait()
        return number * 10

    async def main() -> list[int]:
        nonlocal ready
        ready = asyncio.Event()
        return list(await asyncio.gather(*(exports[name].call_async(n) for n, name in enumerate(names, 1))))

    ready: Any = None
    asked: list[Any] = []
    names = ["nested", "tails", "fact"]
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module(RICH, engine), {"m": {"ask": ask, "many": print}}, store=store).exports
    wanted = asyncio.run(main())
    copy = travelled(kept[0], engine).restore(imports={"m": {"ask": lambda n: n * 10, "many": print}})
    assert [call.function for call in copy.calls] == names
    assert [(call.args, call.id) for call in copy.calls] == [((n,), info.id) for n, info in asked[:3]]
    assert {call.branch for call in copy.calls} == {copy.store.branch} != {""}
    assert all(info.branch == "" and info.attempt == 1 for _, info in asked)

    async def goes_on() -> list[int]:
        return list(await asyncio.gather(*(call.run() for call in reversed(copy.calls))))

    assert asyncio.run(goes_on()) == wanted[::-1]


def test_a_call_is_known_by_its_id_however_often_it_is_made(engine: wl.Engine) -> None:
    seen: list[wl.CallInfo] = []

    async def ask(number: int) -> int:
        seen.append(wl.current_call())
        if len(seen) < 4:
            raise asyncio.CancelledError if len(seen) == 1 else Stop
        return number

    class Stop(BaseException):
        pass

    store = wl.Store(engine)
    kept: list[wl.Snapshot] = []

    async def first(number: int) -> int:
        seen.append(wl.current_call())
        kept.append(store.snapshot())
        await asyncio.sleep(0)
        return number

    exports = wl.Instance(wl.Module(RICH, engine), {"m": {"ask": first, "many": print}}, store=store).exports
    assert asyncio.run(exports.fact.call_async(3)) == 6
    for _ in range(2):
        copy = kept[-1].restore(imports={"m": {"ask": first, "many": print}})
        store = copy.store
        assert asyncio.run(copy.calls[0].run()) == 6
    assert len({info.id for info in seen}) == 1 and [info.attempt for info in seen] == [1, 2, 3]
    assert len({info.branch for info in seen}) == 3
    with pytest.raises(wl.WasmError, match="no guest waits"):
        wl.current_call()


def test_guests_of_one_context_are_told_apart() -> None:
    """Whoever drives coroutines by hand does so in one context, which they must leave as it was."""

    class Steps:
        """Gives itself, to be sent something, thrown something, or closed."""

        def __await__(self) -> Generator[Any, Any, Any]:
            for _ in range(3):
                try:
                    yield wl.current_call()
                except KeyError:
                    yield ("thrown", wl.current_call())
                except GeneratorExit:
                    closed.append(wl.current_call())
                    raise
            return 5

    closed: list[wl.CallInfo] = []
    text = """(module (import "m" "ask" (func $ask (result i32)))
      (func (export "f") (result i32) (i32.add (call $ask) (i32.const 1))))"""
    exports = wl.Instance(wl.Module(text), {"m": {"ask": Steps}}).exports
    guests = [exports.f.call_async() for _ in range(3)]
    known = [guest.send(None) for guest in guests]
    assert len({info.id for info in known}) == 3
    for guest, info in zip(guests, known, strict=True):
        assert guest.send(None) == info
        with pytest.raises(wl.WasmError, match="no guest waits"):
            wl.current_call()
    assert guests[0].throw(KeyError()) == ("thrown", known[0])
    assert guests[0].send(1) == known[0]
    with pytest.raises(StopIteration) as done:
        for _ in range(4):
            guests[1].send(None)
    assert done.value.value == 6
    guests[2].close()
    assert closed == [known[2]]
    with pytest.raises(wl.WasmError, match="no guest waits"):
        wl.current_call()
    guests[0].close()


def test_another_process(engine: wl.Engine, tmp_path: Path) -> None:
    kept: list[wl.Snapshot] = []

    def take(store: wl.Store, value: int) -> int:
        kept.append(wl.Snapshot.take(store))
        return value

    _, exports = rich(engine, take)
    wanted = exports.nested(4)
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(kept[0]))
    code = """import asyncio, pickle, sys
kept = pickle.load(open(sys.argv[1], "rb"))
copy = kept.restore(imports={"m": {"ask": lambda n: n + 1, "many": print}})
print(asyncio.run(copy.calls[0].answer(5)), copy.store.tier_name)"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.pickle"],
        capture_output=True, text=True, timeout=FOREVER, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(wanted), engine.tier]


def test_values_of_all_types(engine: wl.Engine) -> None:
    store = wl.Store(engine)
    kept: list[wl.Snapshot] = []
    thing = object()

    def many(*args: Any) -> Any:
        kept.append(store.snapshot(persistent_id={thing: "thing"}.get))
        return answer(args)

    def answer(args: Any) -> Any:
        number, _, double, vector, some, function = args
        return double * 2, vector[::-1], some, function, number - function(2)

    exports = wl.Instance(wl.Module(RICH, engine), {"m": {"ask": print, "many": many}}, store=store).exports
    wanted = exports.values(thing)
    copy = travelled(kept[0], engine).restore(imports={"m": {"ask": print, "many": print}}, persistent_load=lambda _: 7)
    (call,) = copy.calls
    assert call.args[0] == -3 and call.args[2:5] == (0.5, bytes([5, *[0] * 7, 6, *[0] * 7]), 7)
    found = asyncio.run(call.answer(answer(call.args)))
    assert found[:2] == wanted[:2] and found[2] == 7 and found[3].name == "double" and found[4] == wanted[4] == -7


def test_errors_that_are_thrown_meet_the_handlers(engine: wl.Engine) -> None:
    kept: list[wl.Snapshot] = []

    def take(store: wl.Store, value: int) -> int:
        kept.append(wl.Snapshot.take(store))
        return value

    _, exports = rich(engine, take)
    exports.caught(6)
    # In `asks`, inside of both handlers; and in the last one, inside of the outer one.
    for number, wanted in ((0, (10, 77)), (3, (8, 9))):
        copy = kept[number].restore(imports={"m": {"ask": lambda n: n + 1, "many": print}})
        error = wl.WasmException(copy.instances[0].exports.e, 8, 9)
        assert asyncio.run(copy.calls[0].throw(error)) == wanted
    copy = kept[0].restore()
    copy.calls[0].discard()
    copy.calls[0].discard()
    assert wl.Snapshot.take(copy.store).restore().calls == () and wl.waiting_guests(copy.store) == []
    with pytest.raises(RuntimeError):
        asyncio.run(copy.calls[0].answer(1))


def test_calls_across_instances(engine: wl.Engine) -> None:
    """Tail calls that leave their instance, calls into others, and back."""
    store = wl.Store(engine)
    kept: list[wl.Snapshot] = []

    def ask(number: int) -> int:
        kept.append(store.snapshot())
        return number + 1

    inner = wl.Module(
        """(module (import "m" "ask" (func $ask (param i32) (result i32))) (global $own i32 (i32.const 100))
          (func (export "plain") (param i32) (result i32) (i32.add (global.get $own) (call $ask (local.get 0))))
          (func (export "tail") (param i32) (result i32)
            (return_call $ask (i32.add (global.get $own) (local.get 0)))))""",
        engine,
    )
    outer = wl.Module(
        """(module (import "i" "plain" (func $plain (param i32) (result i32)))
          (import "i" "tail" (func $tail (param i32) (result i32))) (type $f (func (param i32) (result i32)))
          (global $own i32 (i32.const 1000)) (elem declare func $plain $tail $leaves)
          (func $leaves (type $f) (return_call $plain (i32.add (global.get $own) (local.get 0))))
          (func $leaves2 (type $f) (return_call_ref $f (local.get 0) (ref.func $tail)))
          (func $twice (type $f) (return_call $leaves2 (local.get 0)))
          (func (export "run") (param i32) (result i32)
            (i32.add (global.get $own)
              (i32.add (call $leaves (local.get 0))
                (i32.add (call_ref $f (local.get 0) (ref.func $leaves))
                  (i32.add (call $plain (local.get 0)) (i32.add (call $twice (local.get 0))
                    (call_ref $f (local.get 0) (ref.func $tail)))))))
            (i32.add (global.get $own)))
          (func (export "only") (param i32) (result i32) (return_call $tail (local.get 0))))""",
        engine,
    )
    one = wl.Instance(inner, {"m": {"ask": ask}}, store=store)
    exports = wl.Instance(outer, {"i": one}, store=store).exports
    for name in ("run", "only"):
        kept.clear()
        wanted = exports[name](5)
        for each in kept:
            copy = travelled(each, engine).restore(imports={"m": {"ask": lambda n: n + 1}})
            assert asyncio.run(copy.calls[0].run()) == wanted
        # Again from what has been restored: what was rebuilt is read as what has been.
        again = wl.Snapshot.take(copy.store)
        assert again.restore().calls == ()
        waiting = kept[-1].restore()
        assert waiting.store.snapshot().to_bytes() == kept[-1].to_bytes()


def test_deep_recursion_and_limits(engine: wl.Engine) -> None:
    store = wl.Store(engine, memory_limit=1 << 24, stack_limit=1 << 18)
    kept: list[wl.Snapshot] = []

    def ask(number: int) -> int:
        kept.append(store.snapshot())
        return number

    exports = wl.Instance(wl.Module(RICH, engine), {"m": {"ask": ask, "many": print}}, store=store).exports
    wanted = exports.fact(3000)
    copy = travelled(kept[0], engine).restore(imports={"m": {"ask": ask, "many": print}})
    assert copy.store.stack_limit == 1 << 18
    assert asyncio.run(copy.calls[0].answer(1)) == wanted


def test_fuel_goes_on(engine: wl.Engine) -> None:
    counting = wl.Engine(tier=engine.tier, fuel=True, cache=False)
    store = wl.Store(counting, fuel=10_000)
    kept: list[wl.Snapshot] = []

    def ask(number: int) -> int:
        kept.append(store.snapshot())
        return number + 1

    exports = wl.Instance(wl.Module(RICH, counting), {"m": {"ask": ask, "many": print}}, store=store).exports
    wanted = exports.loops(5)
    for each in kept:
        copy = each.restore(imports={"m": {"ask": lambda n: n + 1, "many": print}})
        assert asyncio.run(copy.calls[0].run()) == wanted and copy.store.fuel == store.fuel


# --- continuations and exceptions ---

STACKS = """(module
  (import "m" "ask" (func $ask (param i32) (result i32)))
  (type $f (func (param i32) (result i64))) (type $k (cont $f))
  (type $r (func (param f64) (result i64))) (type $kr (cont $r))
  (type $g (func (param i32 v128 i32) (result i64))) (type $kg (cont $g))
  (type $two (func (param i32) (result i64))) (type $k2 (cont $two))
  (type $none (func (result i64))) (type $kn (cont $none))
  (tag $pause (export "pause") (param i32) (result f64)) (tag $e (param i32))
  (global $kept (export "kept") (mut (ref null $kr)) (ref.null $kr))
  (global $error (mut exnref) (ref.null exn))
  (table $t (export "t") 4 (ref null $k))
  (func $body (type $f) (local $sum i64)
    (local.set $sum (i64.const 1000))
    (block $all (try_table (catch_all $all)
      (local.set $sum (i64.add (local.get $sum) (i64.trunc_f64_s (suspend $pause (local.get 0)))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s (call $ask (local.get 0)))))
      (local.set $sum
        (i64.add (local.get $sum) (i64.trunc_f64_s (suspend $pause (i32.add (local.get 0) (i32.const 1))))))))
    (local.get $sum))
  (func $middle (type $f) (i64.add (i64.const 7) (resume $k (local.get 0) (cont.new $k (ref.func $body)))))
  (func $three (type $g) (i64.add (i64x2.extract_lane 1 (local.get 1))
    (i64.extend_i32_s (i32.add (local.get 0) (call $ask (local.get 2))))))
  (elem declare func $body $middle $three)
  (func (export "begin") (param i32) (result i32)
    (block $on (result i32 (ref $kr))
      (drop (resume $k (on $pause $on) (local.get 0) (cont.new $k (ref.func $middle)))) (unreachable))
    (global.set $kept))
  (func (export "go_on") (param f64) (result i64) (local $k (ref null $kr))
    (local.set $k (global.get $kept)) (global.set $kept (ref.null $kr))
    (block $on (result i32 (ref $kr))
      (return (resume $kr (on $pause $on) (local.get 0) (local.get $k))))
    (global.set $kept) (i64.extend_i32_s))
  (func (export "both") (param i32) (result i64)
    (local $k (ref null $kr))
    (block $on (result i32 (ref $kr))
      (return (resume $k (on $pause $on) (local.get 0) (cont.new $k (ref.func $middle)))))
    (local.set $k) (drop)
    (drop (call $ask (local.get 0)))
    (block $on2 (result i32 (ref $kr))
      (return (resume $kr (on $pause $on2) (f64.const 20) (local.get $k))))
    (local.set $k) (drop)
    (drop (call $ask (local.get 0)))
    (resume $kr (f64.const 30) (local.get $k)))
  (func (export "fresh") (param i32)
    (table.set (local.get 0) (cont.new $k (ref.func $body)))
    (table.set (i32.const 3) (table.get (local.get 0)))
    (table.set (i32.const 2)
      (cont.bind $kg $k2 (i32.const 40) (v128.const i64x2 1 2) (cont.new $kg (ref.func $three)))))
  (func (export "run") (param i32 i32) (result i64)
    (block $on (result i32 (ref $kr))
      (return (resume $k (on $pause $on) (local.get 1) (table.get (local.get 0)))))
    (drop) (i64.extend_i32_s))
  (func (export "bound") (param f64) (result i64)
    (local $k (ref null $kn))
    (local.set $k (cont.bind $kr $kn (local.get 0) (global.get $kept)))
    (drop (call $ask (i32.const 1)))
    (resume $kn (local.get $k)))
  (func (export "keep_error") (param i32)
    (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e (local.get 0))) (unreachable))
    (global.set $error))
  (func (export "throw_error") (result i32)
    (block $h (result i32)
      (try_table (catch $e $h) (drop (call $ask (i32.const 0))) (throw_ref (global.get $error))) (unreachable)))
  (func (export "alive") (result i32) (ref.is_null (global.get $kept))))"""


def stacks(engine: wl.Engine, ask: Any) -> tuple[wl.Store, Any]:
    store = wl.Store(engine)
    return store, wl.Instance(wl.Module(STACKS, engine), {"m": {"ask": ask}}, store=store).exports


def test_suspended_continuations(engine: wl.Engine) -> None:
    """A chain of two stacks, in a global; at each step a copy of the copy goes on."""
    store, exports = stacks(engine, lambda n: n * 2)
    assert exports.begin(5) == 5
    assert (exports.go_on(1.0), exports.go_on(2.0)) == (6, 1000 + 1 + 10 + 2 + 7)
    assert exports.begin(5) == 5
    first = store.snapshot()
    copies = [travelled(first, engine).restore(imports={"m": {"ask": lambda n: n * 2}}) for _ in range(2)]
    for copy in copies:
        assert copy.store.snapshot().to_bytes() == first.to_bytes()
        assert copy.instances[0].exports.go_on(1.0) == 6
        again = travelled(copy.store.snapshot(), engine).restore(imports={"m": {"ask": print}})
        assert again.instances[0].exports.go_on(3.0) == 1000 + 1 + 10 + 3 + 7
        assert copy.instances[0].exports.go_on(2.0) == 1020
    kept = copies[0].instances[0].exports.kept
    assert kept.value is None
    assert exports.go_on(1.0) == 6


@pytest.mark.parametrize("name", ["both", "bound", "throw_error"])
def test_inside_of_stacks(name: str, engine: wl.Engine) -> None:
    """Calls of the host in the middle of stacks that have resumed each other, with others in locals."""
    kept: list[wl.Snapshot] = []
    store: Any = None

    def ask(number: int) -> int:
        kept.append(store.snapshot())
        return number * 2

    store, exports = stacks(engine, ask)
    arguments = {"both": (5,), "bound": (8.0,), "throw_error": ()}[name]
    exports.begin(3)
    exports.keep_error(66)
    wanted = exports[name](*arguments) if name != "bound" else None
    if name == "bound":
        with pytest.raises(wl.Trap):  # it suspends again, and nobody handles that
            exports.bound(8.0)
    for each in kept:
        copy = travelled(each, engine).restore(imports={"m": {"ask": lambda n: n * 2}})
        assert copy.store.snapshot().to_bytes() == each.to_bytes()
        if wanted is None:
            with pytest.raises(wl.Trap):
                asyncio.run(copy.calls[0].run())
        else:
            assert asyncio.run(copy.calls[0].run()) == wanted


def test_fresh_and_bound_ones_and_identity(engine: wl.Engine) -> None:
    store, exports = stacks(engine, lambda n: n * 2)
    exports.fresh(0)
    copy = travelled(store.snapshot(), engine).restore(imports={"m": {"ask": lambda n: n * 2}}).instances[0].exports
    for each in (copy, exports):
        assert each.run(2, 9) == 2 + 40 + 18
        assert each.run(3, 4) == 4
        with pytest.raises(wl.Trap, match="continuation already consumed"):
            each.run(0, 4)  # the same one
        with pytest.raises(wl.Trap, match="continuation already consumed"):
            each.run(2, 4)
    # References to what has been consumed are still there.
    again = travelled(store.snapshot(), engine).restore(imports={"m": {"ask": print}}).instances[0].exports
    with pytest.raises(wl.Trap, match="continuation already consumed"):
        again.run(3, 4)


def test_what_the_host_holds(engine: wl.Engine) -> None:
    store, exports = stacks(engine, lambda n: n * 2)
    exports.begin(5)
    rest = exports.kept.value
    kept = store.snapshot(keep={"rest": rest, "begin": exports.begin})
    copy = travelled(kept, engine).restore(imports={"m": {"ask": lambda n: n * 2}})
    other = copy.objects["rest"]
    assert isinstance(other, wl.Continuation) and other.type == rest.type and copy.objects["begin"].name == "begin"
    pause = copy.instances[0].exports.pause
    step = other.resume(1.0, on=pause)
    assert step.payload == (6,) and step.continuation.resume(2.0) == 1020
    assert rest.alive and not other.alive
    with pytest.raises(wl.WasmError, match=r"keep\['n'\] is no function, continuation or exception"):
        store.snapshot(keep={"n": 1})
    with pytest.raises(TypeError, match="keep maps names"):
        store.snapshot(keep=[1])  # type: ignore[arg-type]


def test_many_continuations(engine: wl.Engine) -> None:
    text = """(module (type $f (func (param i32) (result i32))) (type $k (cont $f)) (type $n (func (result i32)))
      (type $kn (cont $n)) (tag $p) (table $t (export "t") 2000 (ref null $kn))
      (func $body (type $f) (suspend $p) (i32.mul (i32.const 3) (local.get 0))) (elem declare func $body)
      (func (export "make") (param i32) (local (ref null $kn))
        (block $on (result (ref $kn))
          (drop (resume $k (on $p $on) (local.get 0) (cont.new $k (ref.func $body)))) (unreachable))
        (local.set 1) (table.set (local.get 0) (local.get 1)))
      (func (export "end") (param i32) (result i32) (resume $kn (table.get (local.get 0)))))"""
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module(text, engine), store=store).exports
    for number in range(2000):
        exports.make(number)
    copy = travelled(store.snapshot(), engine).restore().instances[0].exports
    assert [copy.end(number) for number in (0, 7, 1999)] == [0, 21, 5997]
    assert exports.end(7) == 21


# --- what isn't possible ---


def test_what_is_refused_says_so(engine: wl.Engine) -> None:
    said: list[str] = []
    store: Any = None
    exports: Any = None

    def ask(number: int) -> int:
        if number > 0:
            return int(exports.asks(number - 1))
        with pytest.raises(wl.WasmError) as caught:
            store.snapshot()
        said.append(str(caught.value))
        return 1

    store = wl.Store(engine)
    text = """(module (import "m" "ask" (func $ask (param i32) (result i32))) (type $f (func (result i32)))
      (type $k (cont $f)) (func $body (result i32) (call $ask (i32.const 0))) (elem declare func $body)
      (func (export "asks") (param i32) (result i32) (call $ask (local.get 0)))
      (func (export "new") (result (ref $k)) (cont.new $k (ref.func $body))))"""
    exports = wl.Instance(wl.Module(text, engine), {"m": {"ask": ask}}, store=store).exports
    exports.asks(1)
    assert "nested in host functions" in said.pop()
    exports.new().resume()
    assert "Continuation.resume of the host is in progress" in said.pop()


def test_engines() -> None:
    assert wl.Engine(snapshots=True).tier in ("interpreter", "baseline")
    with pytest.raises(ValueError, match="snapshots=True doesn't fit tier 'compiler'"):
        wl.Engine(tier="compiler", snapshots=True)
    with pytest.raises(ValueError, match="snapshots=True doesn't fit a threshold"):
        wl.Engine(tier="auto", threshold=1, snapshots=True)
    engine = wl.Engine(snapshots=True)
    assert pickle.loads(pickle.dumps(engine)).snapshots
    kept: list[wl.Snapshot] = []

    def take(store: wl.Store, value: int) -> int:
        kept.append(store.snapshot())
        return value

    _, exports = rich(engine, take)
    wanted = exports.nested(4)
    compiling = wl.Engine(tier="compiler", cache=False)
    with pytest.raises(wl.WasmError, match="needs an engine with snapshots=True"):
        kept[0].restore(engine=compiling)
    for other in ("interpreter", "baseline", "auto"):
        copy = kept[0].restore(engine=wl.Engine(tier=other), imports={"m": {"ask": lambda n: n + 1, "many": print}})
        assert asyncio.run(copy.calls[0].answer(5)) == wanted
    _, exports = rich(compiling, take_in_compiled)
    exports.nested(4)


def take_in_compiled(store: wl.Store, value: int) -> int:
    with pytest.raises(wl.WasmError, match="compiled code has no frames that can be read"):
        store.snapshot()
    return value


# --- guests that compute ---


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_where_it_next_can_be_looked_at(seed: int, engine: wl.Engine) -> None:
    """Asked for in each call of the host, a snapshot is taken where the guest next comes to a loop or a function."""
    text, machine = program(seed, with_loops=True)
    kept: list[tuple[int, wl.Snapshot]] = []

    def imports(store: Callable[[], wl.Store], seen: list[Any], take: bool) -> dict[str, Any]:
        def look() -> None:
            seen.append(of_guests(frames_inside(store())))
            if take:
                store().snapshot_soon(lambda snapshot: kept.append((len(seen), snapshot)))

        def ask(number: int) -> tuple[int, float]:
            look()
            return number, 1.5

        return {"m": {"look": look, "ask": ask}}

    store = wl.Store(engine)
    seen: list[Any] = []
    exports = wl.Instance(wl.Module(text, engine), imports(lambda: store, seen, True), store=store).exports
    exports.run()
    assert seen == machine.looks
    for number, each in kept[:20]:
        found: list[Any] = []
        copy = travelled(each, engine).restore(imports=imports(lambda: copy.store, found, False))  # noqa: B023
        if copy.calls:  # else the guest came to none any more
            (call,) = copy.calls
            assert (call.function, call.waits_for, call.args) == ("run", "", ())
            assert copy.store.snapshot().to_bytes() == each.to_bytes()
            with pytest.raises(RuntimeError, match="waits for nothing"):
                asyncio.run(call.answer(1))
            assert asyncio.run(call.run()) is None
        assert found == machine.looks[number:]


COMPUTES = """(module (import "m" "begin" (func $begin)) (memory 1) (tag $e)
  (func $fib (param i32) (result i32) (call $begin)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "fib") (param i32) (result i32) (call $begin) (call $fib (local.get 0)))
  (func $first (param i32) (result i32)
    (select (i32.const 2) (loop (result i32) (call $begin) (i32.const 7)) (i32.const 0)))
  (func (export "constants") (param i32) (result i32) (call $begin)
    (i32.add (call $first (local.get 0)) (call $fib (local.get 0))))
  (func (export "loop") (param i32) (result i64 f32) (local i64 f32)
    (block $h
      (try_table (catch_all $h)
        (call $begin)
        (i64.const 8)
        (loop $l (param i64) (result i64)
          (call $begin) (i64.add (i64.div_u (local.get 1) (i64.const 3)))
          (local.set 1 (i64.add (local.get 1) (i64.extend_i32_u (local.get 0))))
          (local.set 2 (f32.add (local.get 2) (f32.const 0.5)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.set 1)
        (throw $e)))
    (local.get 1) (local.get 2)))"""


@pytest.mark.parametrize(("name", "argument"), [("fib", 12), ("loop", 90), ("constants", 12)])
@pytest.mark.parametrize("how", ["call", "call_async"])
def test_a_chain_of_copies(name: str, argument: int, how: str, engine: wl.Engine) -> None:
    """A guest that is stopped again and again, and each time goes on in another store."""

    class Stopped(BaseException):
        pass

    def stop(snapshot: wl.Snapshot) -> None:
        kept.append(snapshot)
        raise Stopped

    kept: list[wl.Snapshot] = []
    module = wl.Module(COMPUTES, engine)
    plain = wl.Instance(module, {"m": {"begin": lambda: None}}).exports
    wanted = plain[name](argument)
    store = wl.Store(engine)
    imports = {"m": {"begin": lambda: store.snapshot_soon(stop)}}
    function = wl.Instance(module, imports, store=store).exports[name]
    with pytest.raises(Stopped):
        function(argument) if how == "call" else asyncio.run(function.call_async(argument))
    for _ in range(60):
        ending = travelled(kept[-1], engine).restore(imports={"m": {"begin": lambda: None}})
        assert asyncio.run(ending.calls[0].run()) == wanted
        copy = travelled(kept[-1], engine).restore(imports=imports)
        store = copy.store
        (call,) = copy.calls
        assert call.frames and call.waits_for == ""
        with pytest.raises(Stopped):
            asyncio.run(call.run())
    assert len(kept) == 61 and len({each.to_bytes() for each in kept}) == 61


def test_signals_and_other_threads(engine: wl.Engine) -> None:
    """A guest that runs for long is looked at by a signal handler, and by another thread."""
    text = """(module (func (export "run") (param i64) (result i64) (local i64)
      (loop $l
        (local.set 1 (i64.add (i64.div_u (local.get 1) (i64.const 3)) (local.get 0)))
        (br_if $l (i64.ne (i64.const 0) (local.tee 0 (i64.sub (local.get 0) (i64.const 1))))))
      (local.get 1)))"""
    store = wl.Store(engine)
    run = wl.Instance(wl.Module(text, engine), store=store).exports.run
    wanted = run(3)
    kept: list[wl.Snapshot] = []

    class Stopped(BaseException):
        pass

    def stop(snapshot: wl.Snapshot) -> None:
        kept.append(snapshot)
        if len(kept) > 2:
            raise Stopped

    def handler(number: int, frame: Any) -> None:
        stop(store.snapshot())

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(Stopped):
            run(1 << 62)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    asker = threading.Thread(target=lambda: [time.sleep(0.05), store.snapshot_soon(stop)])
    asker.start()
    with pytest.raises(Stopped):
        run(1 << 62)
    asker.join()
    for each in kept:
        copy = travelled(each, engine).restore()
        (call,) = copy.calls
        assert call.function == "run"
        copy.store.timeout = 0.05
        with pytest.raises(wl.Trap, match="timeout"):
            asyncio.run(call.run())
        assert copy.instances[0].exports.run(3) == wanted


def test_what_wants_a_snapshot_gets_its_errors(engine: wl.Engine) -> None:
    store = wl.Store(engine)
    with pytest.raises(TypeError, match="takes a function"):
        store.snapshot_soon(1)  # type: ignore[arg-type]
    thing = object()
    text = """(module (import "m" "f" (func $f)) (func $g)
      (func (export "run") (param externref) (call $f) (call $g)))"""
    run = wl.Instance(
        wl.Module(text, engine), {"m": {"f": lambda: store.snapshot_soon(lambda _: run(None))}}, store=store
    ).exports.run
    with pytest.raises(wl.WasmError, match=r"a local holds an object of the host"):
        run(thing)
    with pytest.raises(wl.WasmError, match="can't call into the store"):
        run(None)


# --- programs ---

ECHO = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $line (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
    (i32.load (i32.const 16)))
  (func (export "_start") (local $size i32)
    (loop $l
      (local.set $size (call $line (i32.const 0)))
      (i32.store (i32.const 4) (local.get $size))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (br_if $l (local.get $size)))))"""


def test_a_program_that_waits_for_input(engine: wl.Engine) -> None:
    """It is stopped in its read, again and again; what it has written stays written, and nothing is read twice."""
    module = wl.Module(ECHO, engine)
    written: list[bytes] = []

    async def stopped(store: wl.Store, running: Any) -> wl.Snapshot:
        task = asyncio.ensure_future(running)
        while not wl.waiting_guests(store):
            await asyncio.sleep(0.001)
        kept = store.snapshot()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return kept

    def pipe(data: bytes) -> int:
        reader, writer = os.pipe()
        os.write(writer, data)
        writers.append(writer)
        writers.append(reader)
        return reader

    writers: list[int] = []
    with wl.Wasi(stdin=pipe(b""), stdout=written.append) as wasi:
        instance = wasi.instantiate(module)
        kept = asyncio.run(stopped(instance.store, instance.exports._start.call_async()))
    for number in range(3):
        with wl.Wasi(stdin=pipe(b"line %d\n" % number), stdout=written.append) as wasi:
            copy = travelled(kept, engine).restore(wasi=wasi)
            (call,) = copy.calls
            assert (call.function, call.waits_for) == ("_start", "wasi_snapshot_preview1.fd_read")

            async def reads(copy: wl.Restored = copy, call: wl.PendingCall = call, number: int = number) -> wl.Snapshot:
                task = asyncio.ensure_future(call.run())
                while len(written) <= number or not wl.waiting_guests(copy.store):
                    await asyncio.sleep(0.001)
                kept = copy.store.snapshot()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return kept

            kept = asyncio.run(reads())
    with wl.Wasi(stdin=b"", stdout=written.append) as wasi:
        copy = kept.restore(wasi=wasi)
        assert asyncio.run(copy.calls[0].run()) is None
    assert b"".join(written) == b"line 0\nline 1\nline 2\n"
    for writer in writers:
        os.close(writer)
