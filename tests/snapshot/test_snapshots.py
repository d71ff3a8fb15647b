"""Snapshots between calls: what is restored goes on as the original would, in every tier, and on its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import FOREVER

TEXT = """(module $m
  (import "h" "log" (func $log (param i32)))
  (memory (export "memory") 1 4)
  (table (export "table") 3 9 funcref)
  (global $g (export "g") (mut i64) (i64.const 5))
  (global $v (mut v128) (v128.const i64x2 1 2))
  (global $f (mut f32) (f32.const nan:0x234567))
  (global $r (export "r") (mut funcref) (ref.null func))
  (global $i i32 (i32.const 6))
  (data $d "hello") (data $kept "kept") (elem $e func $a $log) (elem declare func $a)
  (func $a (export "a") (result i32) (i32.add (i32.const 36) (global.get $i)))
  (func (export "work") (param i32)
    (i32.store (i32.const 100) (local.get 0))
    (drop (memory.grow (i32.const 2)))
    (i32.store (i32.const 196604) (i32.const 9))
    (global.set $g (i64.const -3))
    (global.set $v (v128.const i64x2 3 4))
    (global.set $r (ref.func $a))
    (table.init $e (i32.const 0) (i32.const 0) (i32.const 2))
    (drop (table.grow (ref.func $a) (i32.const 2)))
    (elem.drop $e) (data.drop $d)
    (call $log (local.get 0)))
  (func (export "state") (result i32 i32 i64 i32 i64)
    (i32.load (i32.const 100)) (memory.size) (global.get $g) (i32.reinterpret_f32 (global.get $f))
    (i64x2.extract_lane 1 (global.get $v)))
  (func (export "next") (result i32)
    (i32.store (i32.const 100) (i32.add (i32.const 1) (i32.load (i32.const 100)))) (i32.load (i32.const 100)))
  (func (export "dropped") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 5)))
  (func (export "kept") (memory.init $kept (i32.const 0) (i32.const 0) (i32.const 4)))
  (func (export "indirect") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""
STATE = (77, 3, -3, 0x7FA34567, 4)


@lru_cache
def _engine(name: str) -> wl.Engine:
    return engine_of(name)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    name: str = request.param
    return _engine(name)


@lru_cache
def _module(engine: wl.Engine) -> wl.Module:
    return wl.Module(TEXT, engine)


def worked(engine: wl.Engine, log: list[int]) -> tuple[wl.Store, Any]:
    store = wl.Store(engine)
    exports = wl.Instance(_module(engine), {"h": {"log": log.append}}, store=store).exports
    exports.work(77)
    return store, exports


def test_a_copy_goes_on_by_itself(engine: wl.Engine) -> None:
    log: list[int] = []
    store, exports = worked(engine, log)
    kept = wl.Snapshot.take(store)
    first, second = (wl.fork(store).instances[0].exports for _ in range(2))
    for each in (first, second):
        assert each.state() == STATE == exports.state()
        assert [func and func.name for func in (each.table[i] for i in range(5))] == ["a", "h.log", None, "a", "a"]
        assert each.r.value() == 42
        assert each.indirect(0) == 42 and each.indirect(4) == 42
        each.table[1](8)
    assert log == [77, 8, 8]
    assert (first.next(), first.next(), second.next(), exports.next()) == (78, 79, 78, 78)
    with pytest.raises(wl.Trap, match="out of bounds memory"):
        first.dropped()
    first.kept()
    assert first.memory[:4] == b"kept" and second.memory[:4] == bytes(4)
    assert first.memory[196604:196608] == b"\t\0\0\0" and first.memory.grow(1) == 3
    # The snapshot is what it was.
    assert kept.restore().instances[0].exports.state() == STATE
    assert exports.memory.size == 3


def test_bytes_are_the_same_for_the_same_state(engine: wl.Engine, tmp_path: Path) -> None:
    store, _ = worked(engine, [])
    kept = wl.Snapshot.take(store)
    data = kept.to_bytes()
    assert wl.Snapshot.take(wl.fork(store).store).to_bytes() == data
    assert wl.Snapshot.from_bytes(data).to_bytes() == data
    again = pickle.loads(pickle.dumps(kept))
    assert again == kept and again.to_bytes() == data and hash(again) == hash(kept)
    kept.save(tmp_path / "a.wlsnap", embed=False)
    assert (tmp_path / "a.wlsnap").stat().st_size < 2 * 4096 + 512  # what isn't zero, and little else
    with pytest.raises(wl.WasmError, match="needs the module with the SHA-256"):
        wl.Snapshot.load(tmp_path / "a.wlsnap")
    loaded = wl.Snapshot.load(tmp_path / "a.wlsnap", modules=[_module(engine)])
    log: list[int] = []
    exports = loaded.restore(imports={"h": {"log": log.append}}).instances[0].exports
    exports.table[1](3)
    assert exports.state() == STATE and log == [3]
    with pytest.raises(wl.LinkError, match=r"unknown import h\.log.*give it to restore\(\) as imports"):
        loaded.restore()


def test_another_process(engine: wl.Engine, tmp_path: Path) -> None:
    store, _ = worked(engine, [])
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(wl.Snapshot.take(store)))
    program = """import pickle, sys
kept = pickle.load(open(sys.argv[1], "rb"))
exports = kept.restore(imports={"h": {"log": print}}).instances[0].exports
assert exports.memory.store.snapshot() == kept
exports.table[1](5)
print(*exports.state(), exports.next())"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.pickle"],
        capture_output=True, text=True, timeout=FOREVER, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["5", *map(str, STATE), "78"]


def test_instances_that_share(engine: wl.Engine) -> None:
    """Instances import from each other and from the host; what was one thing is one thing again."""
    store = wl.Store(engine, memory_limit=1 << 24)
    made = {
        "memory": wl.Memory(store, wl.MemoryType(wl.Limits(1, 3))),
        "table": wl.Table(store, "funcref", 2, 5),
        "global": wl.Global(store, "mut i32", 4),
        "fixed": wl.Global(store, "f64", 1.5),
        "tag": wl.Tag(store, "i32"),
    }
    first = wl.Module(
        """(module (import "h" "memory" (memory 1)) (import "h" "table" (table 2 funcref))
          (import "h" "global" (global $g (mut i32))) (import "h" "fixed" (global $f f64))
          (import "h" "tag" (tag $t (param i32)))
          (memory $own (export "own") 1) (tag $u (export "u") (param i32)) (elem (i32.const 0) $get)
          (global $copy f64 (global.get $f))
          (func $get (export "get") (result i32) (i32.add (i32.load (i32.const 0)) (global.get $g)))
          (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)) (global.set $g (local.get 0))
            (i32.store $own (i32.const 8) (local.get 0)))
          (func (export "throw") (param i32) (throw $u (local.get 0))) (export "f" (global $copy)))""",
        engine,
    )
    second = wl.Module(
        """(module (import "a" "own" (memory 1)) (import "a" "u" (tag $u (param i32)))
          (import "a" "throw" (func $throw (param i32))) (import "h" "table" (table 2 funcref))
          (import "a" "get" (func $get (result i32)))
          (func (export "both") (result i32)
            (i32.add (i32.load (i32.const 8)) (call_indirect (result i32) (i32.const 0))))
          (func (export "caught") (param i32) (result i32)
            (block $b (result i32) (try_table (catch $u $b) (call $throw (local.get 0))) (i32.const 0)))
          (func (export "same") (result i32) (call $get)))""",
        engine,
    )
    one = wl.Instance(first, {"h": made}, store=store)
    two = wl.Instance(second, {"h": made, "a": one}, store=store)
    one.exports.set(10)
    made["memory"].grow(1)
    assert two.exports.both() == 30
    copies = [wl.fork(store), pickle.loads(pickle.dumps(wl.Snapshot.take(store))).restore()]
    one.exports.set(20)
    for copy in copies:
        assert copy.store.memory_limit == 1 << 24
        a, b = (instance.exports for instance in copy.instances)
        assert b.both() == 30 and b.same() == 20 and b.caught(7) == 7 and a.f.value == 1.5
        a.set(1)
        assert b.both() == 3
    assert two.exports.both() == 60 and made["memory"].size == 2


def test_start_functions_and_segments_do_not_run_again(engine: wl.Engine) -> None:
    runs: list[int] = []
    module = wl.Module(
        """(module (import "h" "run" (func $run)) (memory (export "m") 1) (data (i32.const 0) "abc") (start $run)
          (func (export "clear") (i32.store (i32.const 0) (i32.const 0))))""",
        engine,
    )
    store = wl.Store(engine)
    exports = wl.Instance(module, {"h": {"run": lambda: runs.append(1)}}, store=store).exports
    exports.clear()
    assert wl.fork(store).instances[0].exports.m[:4] == bytes(4) and runs == [1]


def test_fuel_and_limits() -> None:
    engine = wl.Engine(tier="interpreter", fuel=True)
    store = wl.Store(engine, fuel=1000, timeout=2.5, stack_limit=1 << 16)
    run = wl.Instance(wl.Module('(module (func (export "f") nop nop))', engine), store=store).exports.f
    run()
    kept = wl.Snapshot.take(store)
    copy = kept.restore()
    assert copy.store.fuel == store.fuel and copy.store.timeout == 2.5
    copy.instances[0].exports.f()
    run()
    assert copy.store.fuel == store.fuel
    assert wl.Snapshot.take(copy.store).to_bytes() == wl.Snapshot.take(store).to_bytes()
    with pytest.raises(wl.WasmError, match="fuel=True"):
        kept.restore(engine=wl.Engine(tier="interpreter"))


def test_objects_of_the_host() -> None:
    engine = _engine("interpreter")
    store = wl.Store(engine)
    text = '(module (table (export "t") 2 externref) (global (export "g") (mut externref) (ref.null extern)))'
    exports = wl.Instance(wl.Module(text, engine), store=store).exports
    thing, other = object(), object()
    exports.t[1], exports.g.value = thing, other
    with pytest.raises(wl.WasmError, match=r"table 0, element 1 holds an object of the host \(object\)"):
        wl.Snapshot.take(store)
    kept = wl.Snapshot.take(store, persistent_id={thing: "thing", other: "other"}.get)
    with pytest.raises(wl.WasmError, match="needs persistent_load"):
        kept.restore()
    copy = kept.restore(persistent_load={"thing": 1, "other": other}.get).instances[0].exports
    assert copy.t[0] is None and copy.t[1] == 1 and copy.g.value is other


def test_what_is_not_part_of_snapshots_says_so() -> None:
    engine = _engine("interpreter")
    store = wl.Store(engine)
    text = """(module (import "h" "f" (func $f)) (table (export "t") 1 funcref))"""
    exports = wl.Instance(wl.Module(text, engine), {"h": {"f": lambda: None}}, store=store).exports
    exports.t[0] = wl.Func(store, "->", lambda: None, "mine")
    with pytest.raises(wl.WasmError, match="'mine' belongs to the host and is no import"):
        wl.Snapshot.take(store)
    exports.t[0] = None
    with pytest.raises(TypeError, match=r"expected a wasmloom\.Store"):
        wl.Snapshot.take(engine)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        wl.Snapshot()
    with pytest.raises(TypeError):
        wl.PendingCall()


def test_stores_of_several_modules_and_none() -> None:
    engine = _engine("interpreter")
    assert wl.fork(wl.Store(engine)).instances == ()
    store = wl.Store(engine)
    module = wl.Module('(module (global (export "g") (mut i32) (i32.const 1)))', engine)
    for _ in range(3):
        wl.Instance(module, store=store)
    assert len(wl.Snapshot.take(store).modules) == 1 and len(wl.fork(store).instances) == 3


def test_functions_of_wasi_are_not_shared() -> None:
    """They write into the memory of the guest that they were made for."""
    text = """(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "_start")))"""
    with wl.Wasi() as wasi:
        kept = wl.Snapshot.take(wasi.instantiate(wl.Module(text)).store)
        with pytest.raises(wl.LinkError, match=r"wasi_snapshot_preview1\.sched_yield"):
            kept.restore()
