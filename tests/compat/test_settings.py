"""Settings, engines and stores: what is accepted, what means something; fuel, epochs, limits."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.compat.conftest import World, config_of

#: Settings that take a bool and refuse everything else.
BOOLS = """consume_fuel cranelift_debug_verifier cranelift_nan_canonicalization debug_info gc_support
  macos_use_mach_ports memory_init_cow memory_may_move native_unwind_info parallel_compilation shared_memory
  signals_based_traps
  wasm_bulk_memory wasm_component_model wasm_component_model_implements wasm_component_model_map wasm_custom_page_sizes
  wasm_exceptions wasm_function_references wasm_gc wasm_memory64 wasm_multi_memory wasm_multi_value
  wasm_reference_types wasm_relaxed_simd wasm_relaxed_simd_deterministic wasm_simd wasm_stack_switching wasm_tail_call
  wasm_threads wasm_wide_arithmetic""".split()  # noqa: SIM905
INTS = ("max_wasm_stack", "memory_guard_size", "memory_reservation", "memory_reservation_for_growth")
WORDS = {
    "cranelift_opt_level": ("none", "speed", "speed_and_size"),
    "profiler": ("none", "jitdump", "vtune", "perfmap"),
    "strategy": ("auto", "cranelift"),
}


def test_settings(w: Any) -> None:
    config = w.Config()
    for name in BOOLS:
        setattr(config, name, True)
        setattr(config, name, False)
        for wrong in (1, "auto", None):
            with pytest.raises(TypeError):
                setattr(config, name, wrong)
    for name in INTS:
        setattr(config, name, 1 << 20)
        with pytest.raises(TypeError):
            setattr(config, name, "auto")
    for name, words in WORDS.items():
        for word in words:
            setattr(config, name, word)
        with pytest.raises(w.WasmtimeError):
            setattr(config, name, "other")
    config.epoch_interruption = 1
    for name in (*BOOLS, *INTS, *WORDS, "cache", "epoch_interruption", "target"):
        with pytest.raises(AttributeError):
            getattr(config, name)
    config.cranelift_flag_enable("has_sse41")
    config.cranelift_flag_set("a", "b")
    with pytest.raises(TypeError):
        config.cranelift_flag_set(1, "b")


def test_cache_and_target(w: Any) -> None:
    config = w.Config()
    for wrong, kind in ((1, TypeError), ("/no/such/file", w.WasmtimeError)):
        with pytest.raises(kind):
            config.cache = wrong
    for wrong, kind in ((1, TypeError), ("pdp11-dec-unix", w.WasmtimeError)):
        with pytest.raises(kind):
            config.target = wrong
    config.cache = True


def test_engines(w: Any) -> None:
    config = w.Config()
    engine = w.Engine(config)
    assert engine.is_pulley() is False and engine.increment_epoch() is None
    with pytest.raises(ValueError, match="already closed"):
        w.Engine(config)
    for wrong in (3, w.Store()):
        with pytest.raises(TypeError):
            w.Engine(wrong)


def test_stores(w: Any) -> None:
    engine, data = w.Engine(), object()
    store = w.Store(engine, data)
    assert store.data() is data and w.Store().data() is None
    store.gc()
    with pytest.raises(TypeError):
        w.Store(3)


SPIN = '(module (func $spin (export "spin") (loop (br 0))) (func $nop (export "nop")))'


def test_fuel(tiered: Any) -> None:
    w = tiered
    world = World(w, SPIN, engine=w.Engine(config_of(w, consume_fuel=True)))
    assert world.store.get_fuel() == 0
    for fuel, name in ((0, "nop"), (1000, "spin")):
        world.store.set_fuel(fuel)
        with pytest.raises(w.Trap, match="all fuel consumed by WebAssembly") as caught:
            world.call(name)
        assert caught.value.trap_code == w.TrapCode.OUT_OF_FUEL
    assert world.store.get_fuel() == 0
    world.store.set_fuel(10_000)
    world.call("nop")
    assert 9_900 < world.store.get_fuel() < 10_000
    for given, found in ((2**64 - 1, 2**64 - 1), (2**64 + 3, 3), (2**63 + 5, 2**63 + 5)):
        world.store.set_fuel(given)
        assert world.store.get_fuel() == found


def test_fuel_that_is_not_counted(w: Any) -> None:
    store = w.Store()
    for use in (store.get_fuel, lambda: store.set_fuel(3)):
        with pytest.raises(w.WasmtimeError, match="fuel is not configured"):
            use()


def test_epochs(tiered: Any) -> None:
    w = tiered
    world = World(w, SPIN, engine=w.Engine(config_of(w, epoch_interruption=True)))
    with pytest.raises(w.Trap) as caught:  # the deadline is the present epoch
        world.call("nop")
    assert caught.value.trap_code == w.TrapCode.INTERRUPT and "interrupt" in str(caught.value)
    world.store.set_epoch_deadline(1)
    world.call("nop")
    timer = threading.Timer(0.02, world.engine.increment_epoch)
    timer.start()
    with pytest.raises(w.Trap) as caught:
        world.call("spin")
    assert caught.value.trap_code == w.TrapCode.INTERRUPT
    timer.join()
    with pytest.raises(w.Trap):
        world.call("nop")
    world.store.set_epoch_deadline(2**64 - 1 - 10)
    world.engine.increment_epoch()
    world.call("nop")


def test_epochs_that_mean_nothing(w: Any) -> None:
    world = World(w, SPIN)
    world.store.set_epoch_deadline(0)
    world.engine.increment_epoch()
    world.call("nop")


GROWING = """(module (memory (export "m") 1) (table (export "t") 2 funcref)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "more") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))"""


def test_limits_of_sizes(tiered: Any) -> None:
    w = tiered
    engine = w.Engine()
    store, module = w.Store(engine), w.Module(engine, GROWING)
    store.set_limits(memory_size=2 * 65536, table_elements=3)
    for _ in range(2):
        exports = w.Instance(store, module, []).exports(store)
        found = [exports[name](store, 1) for name in ("grow", "grow", "more", "more")]
        assert found == [1, -1, 2, -1]
        for item in ("m", "t"):
            with pytest.raises(w.WasmtimeError, match="failed to grow"):
                exports[item].grow(store, 1, *([None] if item == "t" else []))
    for make in (
        lambda: w.Memory(store, w.MemoryType(w.Limits(3, None))),
        lambda: w.Table(store, w.TableType(w.ValType.funcref(), w.Limits(4, None)), None),
        lambda: w.Instance(store, w.Module(engine, "(module (memory 3))"), []),
        lambda: w.Instance(store, w.Module(engine, "(module (table 4 funcref))"), []),
    ):
        with pytest.raises(w.WasmtimeError):
            make()
    store.set_limits()
    assert exports["grow"](store, 1) == 2


@pytest.mark.parametrize("what", ["instances", "tables", "memories"])
def test_limits_of_numbers(w: Any, what: str) -> None:
    engine = w.Engine()
    store, module = w.Store(engine), w.Module(engine, GROWING)
    store.set_limits(**{what: 1})
    w.Memory(store, w.MemoryType(w.Limits(1, None)))
    w.Instance(store, module, [])
    with pytest.raises(w.WasmtimeError):
        w.Instance(store, module, [])


#: Switch → a module that needs it, and whether it is on by itself.
SWITCHES = {
    "wasm_bulk_memory": ("(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))", True),
    "wasm_multi_value": ("(func (result i32 i32) (i32.const 0) (i32.const 0))", True),
    "wasm_multi_memory": ("(memory 1) (memory 1)", True),
    "wasm_tail_call": ("(func $f (return_call $f))", True),
    "wasm_exceptions": ("(tag)", True),
    "wasm_function_references": ("(type $t (func)) (func (param (ref $t)))", True),
    "wasm_stack_switching": ("(type $f (func)) (type (cont $f))", False),
}
#: What must be off, too, because it needs the other.
TOO = {"wasm_function_references": ("wasm_gc",)}


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(w: Any, name: str) -> None:
    fields, default = SWITCHES[name]
    text = f"(module {fields})"
    data = bytes(w.wat2wasm(text))
    off = dict.fromkeys(TOO.get(name, ()), False)
    with pytest.raises(w.WasmtimeError):
        w.Module(w.Engine(config_of(w, **{name: False}, **off)), text)
    with pytest.raises(w.WasmtimeError):
        w.Module.validate(w.Engine(config_of(w, **{name: False}, **off)), data)
    w.Module(w.Engine(config_of(w, **{name: True})), text)
    if default:
        w.Module(w.Engine(), text)
        w.Module.validate(w.Engine(), data)
    else:
        with pytest.raises(w.WasmtimeError):
            w.Module(w.Engine(), text)


@pytest.mark.parametrize("name", ["wasm_simd", "wasm_gc", "wasm_memory64", "wasm_threads", "wasm_custom_page_sizes"])
def test_switches_that_are_off(w: Any, name: str) -> None:
    """Of what wasmloom doesn't execute, only the refusal is the same."""
    text = {
        "wasm_simd": "(func (result v128) (v128.const i32x4 0 0 0 0))",
        "wasm_gc": "(type (struct))",
        "wasm_memory64": "(memory i64 1)",
        "wasm_threads": "(memory 1 1 shared)",
        "wasm_custom_page_sizes": "(memory 1 (pagesize 1))",
    }[name]
    settings = {name: False} | ({"wasm_relaxed_simd": False} if name == "wasm_simd" else {})
    with pytest.raises(w.WasmtimeError):
        w.Module(w.Engine(config_of(w, **settings)), f"(module {text})")


def test_deep_stacks(tiered: Any) -> None:
    w = tiered
    text = """(module (func $f (export "f") (param i32) (result i32)
      (if (result i32) (local.get 0)
        (then (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0)))))"""
    world = World(w, text, engine=w.Engine(config_of(w, max_wasm_stack=64 << 10)))
    with pytest.raises(w.Trap) as caught:
        world.call("f", 20_000)
    assert caught.value.trap_code == w.TrapCode.STACK_OVERFLOW
    assert world.call("f", 100) == 100
