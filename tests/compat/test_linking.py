"""Modules, instances and linkers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import config_of

DOUBLE = """(module (import "h" "f" (func $f (param i32) (result i32)))
  (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"""


def i32_to_i32(w: Any) -> Any:
    return w.FuncType([w.ValType.i32()], [w.ValType.i32()])


def test_text(w: Any) -> None:
    binary = w.wat2wasm("(module)")
    assert type(binary) is bytearray and binary == b"\0asm\1\0\0\0" == w.wat2wasm(b"(module)")
    for wrong in ("(modul)", "(module (func (export", b"\0asm\1\0\0\0"):
        with pytest.raises(w.WasmtimeError):
            w.wat2wasm(wrong)
    with pytest.raises(TypeError):
        w.wat2wasm(3)


def test_modules(w: Any, tmp_path: Path) -> None:
    engine = w.Engine()
    binary = w.wat2wasm(DOUBLE)
    file = tmp_path / "a.wat"
    file.write_text(DOUBLE)
    for made in (
        w.Module(engine, DOUBLE),
        w.Module(engine, DOUBLE.encode()),
        w.Module(engine, binary),
        w.Module(engine, bytes(binary)),
        w.Module.from_file(engine, str(file)),
        w.Module.from_file(engine, file),
    ):
        assert [e.name for e in made.exports] == ["run"]
    with pytest.raises(FileNotFoundError):
        w.Module.from_file(engine, tmp_path / "none")
    for wrong in ("(module", b"hello", b"", b"\0asm\1\0\0\0\1\1", "(module (func (result i32)))", "(component)"):
        with pytest.raises(w.WasmtimeError):
            w.Module(engine, wrong)
    for arguments in ((engine, 3), (engine, memoryview(bytes(binary))), (3, DOUBLE)):
        with pytest.raises(TypeError):
            w.Module(*arguments)


def test_validation(w: Any) -> None:
    engine = w.Engine()
    assert w.Module.validate(engine, w.wat2wasm(DOUBLE)) is None
    for wrong in (b"hello", w.wat2wasm("(module (func (result i32)))")):
        with pytest.raises(w.WasmtimeError):
            w.Module.validate(engine, wrong)
    with pytest.raises(TypeError):
        w.Module.validate(engine, DOUBLE)


def test_serialized_modules(w: Any, tmp_path: Path) -> None:
    engine = w.Engine()
    kept = w.Module(engine, DOUBLE).serialize()
    assert type(kept) is bytearray
    file = tmp_path / "module"
    file.write_bytes(kept)
    for made in (
        w.Module.deserialize(engine, kept),
        w.Module.deserialize(w.Engine(), bytes(kept)),
        w.Module.deserialize_file(engine, str(file)),
    ):
        assert [e.name for e in made.exports] == ["run"] and made.serialize() == kept
    for wrong in (
        lambda: w.Module.deserialize(engine, b"hello"),
        lambda: w.Module.deserialize(w.Engine(config_of(w, consume_fuel=True)), kept),
        lambda: w.Module.deserialize_file(engine, str(tmp_path / "none")),
    ):
        with pytest.raises(w.WasmtimeError):
            wrong()


def test_imports_of_instances(w: Any) -> None:
    engine = w.Engine()
    store, module = w.Store(engine), w.Module(engine, DOUBLE)
    function = w.Func(store, i32_to_i32(w), lambda x: 2 * x)
    for imports in ([function], (function,)):
        assert w.Instance(store, module, imports).exports(store)["run"](store, 4) == 8
    memory = w.Memory(store, w.MemoryType(w.Limits(1, None)))
    other = w.Func(store, w.FuncType([], []), lambda: None)
    with_caller = w.Func(store, w.FuncType([], []), lambda caller: None, access_caller=True)
    for imports, says in (
        ([], "expected 1 imports, found 0"),
        ([function, function], "expected 1 imports, found 2"),
        ([memory], "incompatible import type"),
        ([other], "incompatible import type"),
        ([with_caller], "incompatible import type"),
    ):
        with pytest.raises(w.WasmtimeError, match=says):
            w.Instance(store, module, imports)
    for imports in ([3], iter([function])):
        with pytest.raises(TypeError):
            w.Instance(store, module, imports)


def test_traps_of_instantiation(w: Any) -> None:
    engine = w.Engine()
    for text, code in (
        ("(module (func $s (unreachable)) (start $s))", "UNREACHABLE"),
        ('(module (memory 1) (data (i32.const 65536) "a"))', "MEMORY_OUT_OF_BOUNDS"),
    ):
        with pytest.raises(w.Trap) as caught:
            w.Instance(w.Store(engine), w.Module(engine, text), [])
        assert caught.value.trap_code == w.TrapCode[code]


def test_functions_of_no_store(tiered: Any) -> None:
    w = tiered
    engine = w.Engine()
    linker, module = w.Linker(engine), w.Module(engine, DOUBLE)
    linker.define_func("h", "f", i32_to_i32(w), lambda x: 2 * x)
    for _ in range(2):
        store = w.Store(engine)
        assert linker.instantiate(store, module).exports(store)["run"](store, 5) == 10
        assert linker.get(store, "h", "f")(store, 6) == 12


def test_names(w: Any) -> None:
    engine = w.Engine()
    linker, store, type = w.Linker(engine), w.Store(engine), i32_to_i32(w)
    linker.define_func("h", "f", type, lambda x: x)
    for again in (
        lambda: linker.define_func("h", "f", type, lambda x: x + 1),
        lambda: linker.define(store, "h", "f", w.Func(store, type, lambda x: x)),
    ):
        with pytest.raises(w.WasmtimeError, match="import of `h::f` defined twice"):
            again()
    linker.allow_shadowing = True
    linker.define_func("h", "f", type, lambda x: x + 1)
    assert linker.get(store, "h", "f")(store, 1) == 2
    with pytest.raises(w.WasmtimeError):
        linker.get(store, "h", "none")
    for wrong in (
        lambda: linker.define(store, "h", "g", 3),
        lambda: linker.define_func("h", "g", 3, print),
        lambda: linker.define_instance(store, "h", 3),
        lambda: linker.define_module(store, "h", 3),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_missing_and_wrong_imports(w: Any) -> None:
    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    for instantiate in (lambda m: linker.instantiate(store, m), linker.instantiate_pre):
        with pytest.raises(w.WasmtimeError, match="unknown import: `h::f` has not been defined"):
            instantiate(w.Module(engine, DOUBLE))
    linker.define_func("h", "f", i32_to_i32(w), lambda x: x)
    linker.define(store, "h", "m", w.Memory(store, w.MemoryType(w.Limits(1, 2))))
    for wrong in ('"h" "f" (func)', '"h" "f" (memory 1)', '"h" "m" (memory 2)'):
        with pytest.raises(w.WasmtimeError, match="incompatible import type"):
            linker.instantiate(store, w.Module(engine, f"(module (import {wrong}))"))


def test_prepared_instances(w: Any) -> None:
    engine = w.Engine()
    linker, module = w.Linker(engine), w.Module(engine, DOUBLE)
    linker.define_func("h", "f", i32_to_i32(w), lambda x: 2 * x)
    prepared = linker.instantiate_pre(module)
    assert isinstance(prepared, w.InstancePre) and [e.name for e in prepared.module.exports] == ["run"]
    for _ in range(2):
        store = w.Store(engine)
        assert prepared.instantiate(store).exports(store)["run"](store, 3) == 6


def test_instances_by_name(w: Any) -> None:
    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    giver = w.Instance(
        store, w.Module(engine, '(module (func (export "f") (param i32) (result i32) (local.get 0)))'), []
    )
    linker.define_instance(store, "h", giver)
    assert linker.instantiate(store, w.Module(engine, DOUBLE)).exports(store)["run"](store, 9) == 9
    assert linker.get(store, "h", "f")(store, 8) == 8


def test_items_of_another_store(w: Any) -> None:
    engine = w.Engine()
    linker, store, other = w.Linker(engine), w.Store(engine), w.Store(engine)
    linker.define(store, "h", "f", w.Func(store, i32_to_i32(w), lambda x: x))
    with pytest.raises(w.WasmtimeError, match="cross-`Store`"):
        linker.instantiate(other, w.Module(engine, DOUBLE))


COUNTER = """(global $n (mut i32) (i32.const {}))
  (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))"""


def test_commands_and_reactors(tiered: Any) -> None:
    w = tiered
    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    command = w.Module(engine, f'(module {COUNTER.format(0)} (func (export "_start")))')
    reactor = w.Module(
        engine, f'(module {COUNTER.format(0)} (func (export "_initialize") (global.set $n (i32.const 10))))'
    )
    linker.define_module(store, "command", command)
    linker.define_module(store, "reactor", reactor)
    assert [linker.get(store, "command", "next")(store) for _ in range(3)] == [1, 1, 1]
    assert [linker.get(store, "reactor", "next")(store) for _ in range(3)] == [11, 12, 13]
    assert linker.get_default(store, "command")(store) is None
    user = w.Module(
        engine,
        '(module (import "command" "next" (func $n (result i32))) (func (export "f") (result i32) (drop (call $n))'
        " (call $n)))",
    )
    assert linker.instantiate(store, user).exports(store)["f"](store) == 1


def test_default_functions(w: Any) -> None:
    engine = w.Engine()
    linker, store = w.Linker(engine), w.Store(engine)
    linker.define_module(store, "m", w.Module(engine, '(module (func (export "") (result i32) (i32.const 5)))'))
    assert linker.get_default(store, "m")(store) == 5
    assert linker.get_default(store, "none")(store) is None


UNKNOWN = """(module (import "q" "f" (func $f (param i32) (result i32 externref f64)))
  (import "q" "g" (func $g (result i32)))
  (func (export "f") (result i32 externref f64) (call $f (i32.const 1))) (func (export "g") (result i32) (call $g)))"""


def test_stubs(tiered: Any) -> None:
    w = tiered
    engine = w.Engine()
    module = w.Module(engine, UNKNOWN)
    traps, values = w.Linker(engine), w.Linker(engine)
    traps.define_func("q", "g", w.FuncType([], [w.ValType.i32()]), lambda: 7)
    traps.define_unknown_imports_as_traps(module)
    store = w.Store(engine)
    exports = traps.instantiate(store, module).exports(store)
    assert exports["g"](store) == 7
    with pytest.raises(w.WasmtimeError, match="unknown import: `q::f` has not been defined"):
        exports["f"](store)
    values.define_unknown_imports_as_default_values(store, module)
    exports = values.instantiate(store, module).exports(store)
    assert exports["f"](store) == [0, None, 0.0] and exports["g"](store) == 0
