"""The look-alike of ``wasmer``: what its README and examples do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom.compat.wasmer as w

SUM = '(module (func (export "sum") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'


def instance_of(text: str, imports: Any = None, store: Any = None) -> Any:
    return w.Instance(w.Module(store or w.Store(), text), imports)


def test_engines_and_modules() -> None:
    target = w.target.Target(w.target.Triple("x86_64-linux-musl"), w.target.CpuFeatures())
    target.cpu_features.add("sse2")
    for engine in (w.engine.Universal(w.Compiler), w.engine.Dylib(w.Compiler, target), w.engine.JIT(), None):
        store = w.Store(engine)
        binary = w.wat2wasm(SUM)
        assert w.Module.validate(store, binary) and not w.Module.validate(store, b"\0asm")
        module = w.Module.deserialize(store, w.Module(store, binary).serialize())
        assert w.Instance(module).exports.sum(5, 37) == 42
    (export,) = module.exports
    assert export.name == "sum" and export.type == w.FunctionType([w.Type.I32, w.Type.I32], [w.Type.I32])
    for wrong in (lambda: w.Module(store, b"no"), lambda: w.wat2wasm("(x"), lambda: w.Module.deserialize(store, b"")):
        with pytest.raises(RuntimeError):
            wrong()


def test_exports() -> None:
    exports = instance_of(SUM).exports
    assert isinstance(exports.sum, w.Function) and len(exports) == 1
    ((name, function),) = exports
    assert name == "sum" and function(1, 2) == 3
    assert not hasattr(exports, "none")
    with pytest.raises(LookupError, match="Export `none` does not exist"):
        _ = exports.none
    with pytest.raises(TypeError):
        exports.sum(1)


def test_globals() -> None:
    exports = instance_of(
        '(module (global (export "one") f32 (f32.const 1)) (global (export "some") (mut f32) (f32.const 0)))'
    ).exports
    assert (exports.one.type.type, exports.one.type.mutable) == (w.Type.F32, False)
    assert exports.some.mutable
    with pytest.raises(RuntimeError, match="The global variable is not mutable, cannot set a new value"):
        exports.one.value = 42.0
    exports.some.value = 21.0
    assert exports.some.value == 21.0


def test_memories_and_tables() -> None:
    exports = instance_of(
        """(module (memory (export "mem") 1 3) (table (export "t") 1 1 funcref)
          (data (i32.const 42) "Hello, World!"))"""
    ).exports
    memory = exports.mem
    assert isinstance(memory, w.Memory) and memory.type == w.MemoryType(1, 3)
    assert bytearray(memory.buffer)[42:55].decode() == "Hello, World!"
    view = memory.uint8_view(42)
    view[0:5] = b"HELLO"
    assert view[0] == 72 and bytes(memory.buffer[42:47]) == b"HELLO"
    memory.int32_view(10)[0] = -5
    assert memory.uint32_view()[10] == 2**32 - 5 and memory.uint16_view(20)[0] == memory.uint16_view()[20]
    assert memory.int8_view(40)[0] == -5 and memory.int16_view(20)[0] == -5
    assert (memory.grow(1), memory.size, memory.data_size) == (1, 2, 131072)
    with pytest.raises(RuntimeError):
        memory.grow(100)
    assert exports.t.type == w.TableType(w.Type.FUNC_REF, 1, 1) and exports.t.size == 1


IMPORTS = """(module
  (import "env" "sum" (func $sum (param i32 i32) (result i32))) (import "env" "g" (global i32))
  (func (export "add_one") (param i32) (result i32) (call $sum (local.get 0) (global.get 0)))
  (func (export "two") (result i32 i64) (i32.const 1) (i64.const 2)))"""


def test_imports() -> None:
    store = w.Store()

    def plus(x: int, y: int) -> int:
        return x + y

    def untyped(x, y):  # type: ignore[no-untyped-def]
        return x + y

    def long(x: "i64", y: float) -> "f64":  # type: ignore[name-defined]  # noqa: F821, UP037
        return x + y

    assert w.Function(store, long).type == w.FunctionType([w.Type.I64, w.Type.F32], [w.Type.F64])
    typed = w.FunctionType([w.Type.I32] * 2, [w.Type.I32])
    for function in (w.Function(store, plus), w.Function(store, untyped, typed)):
        imports = w.ImportObject()
        imports.register("env", {"sum": function, "g": w.Global(store, w.Value.i32(1))})
        assert imports.contains_namespace("env")
        exports = instance_of(IMPORTS, imports, store).exports
        assert exports.add_one(41) == 42 and exports.two() == [1, 2]
        assert exports.add_one(w.Value.i32(1)) == 2
    with pytest.raises(RuntimeError, match="annotations"):
        w.Function(store, untyped)
    with pytest.raises(RuntimeError, match=r"unknown import env\.sum"):
        instance_of(IMPORTS, {}, store)


def test_a_host_function_that_raises() -> None:
    store = w.Store()

    def early_exit() -> None:
        raise KeyError("oops")

    text = '(module (import "env" "early_exit" (func)) (export "run" (func 0)) (func (export "run2") (call 0)))'
    exports = instance_of(text, {"env": {"early_exit": w.Function(store, early_exit)}}, store).exports
    with pytest.raises(RuntimeError, match="oops"):
        exports.run2()
    with pytest.raises(RuntimeError, match="unreachable"):
        instance_of('(module (func (export "f") (unreachable)))').exports.f()


WASI = """(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $sizes (i32.const 0) (i32.const 4)))
    (if (i32.load (i32.const 0)) (then (call $exit (i32.load (i32.const 0)))))))"""


def test_wasi(tmp_path: Path) -> None:
    store = w.Store()
    module = w.Module(store, WASI)
    version = w.wasi.get_version(module, strict=True)
    assert version == w.Version.SNAPSHOT1
    assert w.wasi.get_version(w.Module(store, SUM), strict=True) is None
    environment = (
        w.wasi.StateBuilder("program").argument("--test").arguments(["a", "b"]).environment("COLOR", "true")
        .map_directory("the_host_current_dir", str(tmp_path)).preopen_directory(str(tmp_path)).finalize()
    )  # fmt: skip
    instance = w.Instance(module, environment.generate_import_object(store, version))
    with pytest.raises(RuntimeError, match="WASI exited with code: 4"):
        instance.exports._start()
    with pytest.raises(RuntimeError):
        w.wasi.StateBuilder("program").preopen_directory(str(tmp_path / "none")).finalize()


def test_install() -> None:
    program = f"""
import wasmloom.compat.wasmer
wasmloom.compat.wasmer.install()
from wasmer import engine, Store, Module, Instance
from wasmer_compiler_cranelift import Compiler
store = Store(engine.Universal(Compiler))
assert Instance(Module(store, {SUM!r})).exports.sum(1, 2) == 3
"""
    subprocess.run([sys.executable, "-c", program], check=True)
