"""Host functions that learn which instance has called them; imports by position."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.wasi import Wasi

LOGGING = """(module
  (import "env" "log" (func $log (param i32)))
  (memory (export "memory") 1) (table $t (export "table") 1 funcref)
  (func (export "run") (param i32) (call $log (local.get 0)))
  (func (export "through_table") (param i32)
    (table.set $t (i32.const 0) (ref.func $log))
    (call_indirect $t (param i32) (local.get 0) (i32.const 0)))
  (elem declare func $log))"""


@pytest.mark.parametrize("name", ENGINES)
def test_each_instance_is_known(name: str) -> None:
    engine = engine_of(name)
    module = wl.Module(LOGGING, engine)
    seen: list[tuple[bytes, wl.Module]] = []

    @wl.takes_caller
    def log(caller: wl.Caller, address: int) -> None:
        assert caller.exports.memory is caller.get("memory") and caller.get("none") is None
        seen.append((caller.exports.memory[address : address + 3], caller.module))

    store = wl.Store(engine)
    first = wl.Instance(module, {"env": {"log": log}}, store=store)
    second = wl.Instance(module, {"env": {"log": log}}, store=store)
    first.exports.memory[8:11], second.exports.memory[8:11] = b"one", b"two"
    for _ in range(3):  # in "auto", before and after the store has changed over
        for instance in (first, second, first):
            instance.exports.run(8)
        second.exports.through_table(8)
    assert seen == [(text, module) for text in (b"one", b"two", b"one", b"two")] * 3


def test_without_a_caller() -> None:
    seen: list[Any] = []
    log = wl.takes_caller(lambda caller, value: seen.append((caller, value)))
    log(1)
    wl.Func(wl.Store(), "i32 ->", log)(2)
    assert seen == [(None, 1), (None, 2)]
    for function in (None, 3):
        with pytest.raises(TypeError):
            wl.takes_caller(function)  # type: ignore[arg-type]


def test_callers_do_not_keep_the_store() -> None:
    kept: list[wl.Caller] = []
    instance = wl.Instance(wl.Module(LOGGING), [wl.takes_caller(lambda caller, value: kept.append(caller))])
    instance.exports.run(1)
    store = weakref.ref(instance.store)
    assert kept[0].store is store() and kept[0].get("memory") is instance.exports.memory
    del instance
    gc.collect()
    assert store() is None
    for use in (lambda: kept[0].store, lambda: kept[0].exports, lambda: kept[0].get("memory")):
        with pytest.raises(wl.WasmError, match="gone"):
            use()


def test_callers_are_not_made_by_programs() -> None:
    module = wl.Module(LOGGING)
    for make in (lambda: wl.Caller(), lambda: wl.Caller(module, wl.Store(), None)):  # type: ignore[call-arg, arg-type]
        with pytest.raises(TypeError):
            make()


def test_a_start_function_knows_its_instance() -> None:
    seen: list[Any] = []
    text = """(module (import "env" "log" (func $log)) (memory (export "memory") 1) (data (i32.const 0) "hi")
      (start $log))"""
    wl.Instance(wl.Module(text), [wl.takes_caller(lambda caller: seen.append(caller.exports.memory[:2]))])
    assert seen == [b"hi"]


def test_imports_by_position() -> None:
    text = '(module (import "a" "f" (func (result i32))) (import "a" "f" (global i32)) (export "f" (func 0)))'
    store = wl.Store()
    constant = wl.Global(store, "i32", 7)
    module = wl.Module(text)
    assert wl.Instance(module, [lambda: 5, constant]).exports.f() == 5
    assert wl.Instance(module, (lambda: 6, constant), store=store).exports.f() == 6
    for given in ([], [lambda: 5], [lambda: 5, constant, constant]):
        with pytest.raises(wl.LinkError, match="imports 2 items"):
            wl.Instance(module, given)
    with pytest.raises(wl.LinkError, match="incompatible"):
        wl.Instance(module, [constant, lambda: 5], store=store)


@pytest.mark.parametrize("name", ENGINES)
def test_one_wasi_for_several_instances(name: str) -> None:
    text = """(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1) (func $fill (drop (call $random (i32.const 0) (i32.const 16))))
      (func (export "clear") (memory.fill (i32.const 0) (i32.const 0) (i32.const 16)))
      (func (export "fill") (call $fill)) (start $fill))"""
    engine = engine_of(name)
    store, module = wl.Store(engine), wl.Module(text, engine)
    with Wasi() as wasi:
        imports = wasi.imports()
        first, second = (wl.Instance(module, imports, store=store) for _ in range(2))
        for instance, other in ((first, second), (second, first)):
            assert instance.exports.memory[:16] != bytes(16)  # the start function has been served
            instance.exports.clear()
            other.exports.fill()
            assert instance.exports.memory[:16] == bytes(16) != other.exports.memory[:16]


def test_stores_go_without_the_collector() -> None:
    text = """(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
      (memory (export "memory") 1) (func (export "fill") (drop (call $random (i32.const 0) (i32.const 16)))))"""
    gc.collect()
    gc.disable()
    try:
        with Wasi() as wasi:
            instance = wl.Instance(wl.Module(text), wasi.imports())
            instance.exports.fill()
            store = weakref.ref(instance.store)
            del instance
            assert store() is None
    finally:
        gc.enable()


def test_the_place_in_a_function() -> None:
    text = '(module $m (func (nop)) (func $f (export "f") (local i32 i64) (nop) (unreachable)))'
    with pytest.raises(wl.Trap) as trap:
        wl.Instance(wl.Module(text)).exports.f()
    (frame,) = trap.value.frames
    assert frame.func_offset == 1 + 2 * 2 + 1  # how many groups of locals, two groups, and the nop
    host = wl.Instance(wl.Module('(module (import "" "h" (func $h)) (export "h" (func $h)))'), [lambda: frame_of()])

    def frame_of() -> None:
        wl.Instance(wl.Module(text)).exports.f()

    with pytest.raises(wl.Trap):
        host.exports.h()


def test_features_of_a_module() -> None:
    assert wl.Module("(module (func (result i32) (i32.const 1)))").features == {}
    found = wl.Module(
        "(module (memory 1) (func $f (result i32 i32) (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))"
        " (return_call $f)))"
    ).features
    assert set(found) == {"multi-value", "bulk-memory", "tail-call"}
    assert all(offset > 0 for offset in found.values())
