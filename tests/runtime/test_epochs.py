"""Epochs: deadlines on a clock that the program advances. And limits of single memories and tables."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import PATIENCE

GUEST = """(module
  (import "env" "host" (func $host (param i32)))
  (func (export "spin") (param i32) (call $host (local.get 0)) (loop $again (br $again)))
  (func (export "nop")) (func (export "once") (param i32) (call $host (local.get 0)))
  (func $deep (export "recurse") (param i32) (call $host (local.get 0)) (loop $l (call $f) (br $l))) (func $f))"""


def made(name: str, host: Any) -> tuple[wl.Engine, wl.Store, Any]:
    engine = engine_of(name)
    store = wl.Store(engine)
    return engine, store, wl.Instance(wl.Module(GUEST, engine), [host], store=store).exports


@pytest.mark.parametrize("name", ENGINES)
def test_calls_after_the_deadline(name: str) -> None:
    engine, store, exports = made(name, lambda value: None)
    assert store.epoch_deadline is None and engine.epoch == 0
    store.epoch_deadline = 0
    for _ in range(3):
        with pytest.raises(wl.Trap, match="timeout"):
            exports.nop()
    store.epoch_deadline = 1
    exports.nop()
    engine.increment_epoch()
    assert (engine.epoch, store.epoch_deadline) == (1, 1)
    with pytest.raises(wl.Trap, match="timeout"):
        exports.nop()
    store.epoch_deadline = None
    exports.nop()


@pytest.mark.parametrize("function", ["spin", "recurse"])
@pytest.mark.parametrize("name", ENGINES)
def test_guests_are_interrupted(name: str, function: str) -> None:
    begun = threading.Event()
    engine, store, exports = made(name, lambda value: begun.set())
    store.epoch_deadline = 2

    def advance() -> None:
        begun.wait()
        engine.increment_epoch()
        engine.increment_epoch()

    thread = threading.Thread(target=advance)
    thread.start()
    with pytest.raises(wl.Trap, match="timeout"):
        exports[function](0)
    thread.join()
    assert engine.epoch == 2


@pytest.mark.parametrize("name", ENGINES)
def test_a_host_function_ends_the_epoch_of_its_caller(name: str) -> None:
    def host(value: int) -> None:
        if value == 1:
            engine.increment_epoch()
        elif value == 2:
            store.epoch_deadline = 0
        elif value == 3:  # the deadline comes, and is put off in time
            engine.increment_epoch()
            store.epoch_deadline = engine.epoch + 1

    engine, store, exports = made(name, host)
    for value in (1, 2):
        store.epoch_deadline = engine.epoch + 1
        with pytest.raises(wl.Trap, match="timeout"):
            exports.spin(value)
    store.epoch_deadline = engine.epoch + 1
    exports.once(3)
    exports.nop()


def test_only_stores_whose_deadline_has_come() -> None:
    engine = wl.Engine(cache=False)
    module = wl.Module(GUEST, engine)
    stores = [wl.Store(engine) for _ in range(3)] + [wl.Store(wl.Engine())]
    stores[0].epoch_deadline, stores[1].epoch_deadline, stores[3].epoch_deadline = 1, 2, 1
    exports = [wl.Instance(module, [print], store=store).exports for store in stores[:3]]
    exports.append(wl.Instance(wl.Module(GUEST, stores[3].engine), [print], store=stores[3]).exports)
    engine.increment_epoch()
    for i in (1, 2, 3):
        exports[i].nop()
    with pytest.raises(wl.Trap):
        exports[0].nop()


def test_waiting_host_functions_find_no_time_left() -> None:
    engine, store, exports = made("interpreter", lambda value: engine.increment_epoch() or left.append(wl.time_left()))
    left: list[Any] = []
    store.epoch_deadline = 2
    exports.once(0)
    assert left == [None]
    with pytest.raises(wl.Trap, match="timeout"):
        exports.once(0)


def test_a_wait_in_wasi_ends() -> None:
    text = """(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 16) "\\01") (data (i32.const 24) "\\00\\ff\\ff\\ff\\ff\\ff\\ff")
      (func (export "_start") (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"""
    engine = wl.Engine()
    store = wl.Store(engine)
    store.epoch_deadline = 1
    timer = threading.Timer(0.05, engine.increment_epoch)
    timer.start()
    with wl.Wasi() as wasi, pytest.raises(wl.Trap, match="timeout"):
        wasi.run(wl.Module(text, engine), store=store)
    timer.join()


def test_with_a_timeout() -> None:
    engine = wl.Engine()
    store = wl.Store(engine, timeout=0.02)
    store.epoch_deadline = 1
    exports = wl.Instance(wl.Module(GUEST, engine), [lambda value: None], store=store).exports
    with pytest.raises(wl.Trap, match="timeout"):
        exports.spin(0)
    assert engine.epoch == 0
    store.timeout = PATIENCE
    exports.nop()


def test_numbers_that_make_no_sense() -> None:
    store = wl.Store()
    with pytest.raises(ValueError, match="negative"):
        store.epoch_deadline = -1
    with pytest.raises(AttributeError):
        del store.epoch_deadline
    for wrong in ("1", 1.5):
        with pytest.raises(TypeError):
            store.epoch_deadline = wrong  # type: ignore[assignment]
    store.epoch_deadline = 1 << 80
    with pytest.raises(ValueError, match="negative"):
        store.set_limits(memories=-1)
    assert pickle.loads(pickle.dumps(wl.Engine(fuel=True))).epoch == 0


MEMORY = """(module (memory (export "memory") 1) (table (export "table") 2 funcref)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "more") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_limits_of_each(name: str) -> None:
    engine = engine_of(name)
    store, module = wl.Store(engine), wl.Module(MEMORY, engine)
    store.set_limits(memory_size=2 * 65536 + 1, table_elements=3)
    for _ in range(2):  # each instance has its own
        exports = wl.Instance(module, store=store).exports
        assert [exports.grow(1), exports.grow(1), exports.more(1), exports.more(1)] == [1, -1, 2, -1]
    with pytest.raises(wl.WasmError, match="can't grow"):
        exports.memory.grow(1)
    with pytest.raises(wl.WasmError, match="can't grow"):
        exports.table.grow(1)
    with pytest.raises(wl.WasmError, match="a memory of 3 pages exceeds"):
        wl.Memory(store, 3)
    with pytest.raises(wl.WasmError, match="a table of 4 elements exceeds"):
        wl.Table(store, "funcref", 4)
    store.set_limits()
    assert [exports.grow(1), exports.more(1)] == [2, 3]


def test_limits_of_numbers() -> None:
    module = wl.Module(MEMORY)
    for limit in ({"instances": 2}, {"tables": 2}, {"memories": 2}):
        store = wl.Store()
        store.set_limits(**limit)
        wl.Memory(store, 1)  # the host's own don't count
        wl.Table(store, "funcref", 1)
        for _ in range(2):
            wl.Instance(module, store=store)
        with pytest.raises(wl.WasmError, match=f"would have 3 {next(iter(limit))}, and its limit is 2"):
            wl.Instance(module, store=store)
        store.set_limits()
        wl.Instance(module, store=store)
    store = wl.Store()
    store.set_limits(memories=1)
    with pytest.raises(wl.WasmError, match="would have 2 memories"):
        wl.Instance(wl.Module("(module (memory 1) (memory 1))"), store=store)


def test_the_address_of_a_memory() -> None:
    import ctypes

    memory = wl.Memory(wl.Store(), 1, 4)
    memory[5] = 77
    assert ctypes.c_ubyte.from_address(memory.address + 5).value == 77
    before = memory.address
    memory.grow(3)
    if not memory.store.engine.checked:
        assert memory.address == before
