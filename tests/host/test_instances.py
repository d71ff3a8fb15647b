"""Modules, linking and instantiation."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from wasmloom.semantics import features

PAGE = 65536


def run(text: str, imports: Any = None, **more: Any) -> Any:
    return wl.Instance(wl.Module(f"(module {text})"), imports, **more).exports


# --- modules ---


def test_descriptors() -> None:
    module = wl.Module("""(module $named
      (import "a" "f" (func (param i32) (result f64)))
      (import "a" "m" (memory 1 2))
      (import "b" "t" (table 3 funcref))
      (import "b" "g" (global (mut i64)))
      (func (export "own") (result i32) (i32.const 1))
      (export "m" (memory 0)) (export "t" (table 0)) (export "g" (global 0)) (export "f" (func 0)))""")
    assert module.name == "named"
    assert [tuple(i) for i in module.imports] == [
        ("a", "f", "func", wl.FuncType((wl.I32,), (wl.F64,))),
        ("a", "m", "memory", wl.MemoryType(wl.Limits(1, 2))),
        ("b", "t", "table", wl.TableType(wl.FUNCREF, wl.Limits(3, None))),
        ("b", "g", "global", wl.GlobalType(wl.I64, True)),
    ]
    assert [(e.name, e.kind) for e in module.exports] == [
        ("own", "func"),
        ("m", "memory"),
        ("t", "table"),
        ("g", "global"),
        ("f", "func"),
    ]
    assert module.exports[0].type == wl.FuncType((), (wl.I32,))


def test_inputs(tmp_path: Path) -> None:
    binary = b"\0asm\1\0\0\0"
    for data in (binary, bytearray(binary), memoryview(binary), "(module)", b"(module)", b" ;; note\n(module)", ""):
        wl.Module(data)
    (tmp_path / "a.wasm").write_bytes(binary)
    (tmp_path / "a.wat").write_text("(module)")
    wl.Module.from_file(tmp_path / "a.wasm")
    wl.Module.from_file(str(tmp_path / "a.wat"))
    with pytest.raises(OSError):
        wl.Module.from_file(tmp_path / "none.wasm")


def test_custom_sections() -> None:
    binary = b"\0asm\1\0\0\0" + b"\0\4\1xab" + b"\0\3\1yc" + b"\0\3\1xd"
    assert wl.Module(binary).custom_sections("x") == [b"ab", b"d"]
    assert wl.Module(binary).custom_sections("z") == []


def test_errors_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(wl.CompileError) as malformed:
        wl.Module(b"\0asm\1\0\0\0\1")
    assert malformed.value.offset is not None
    with pytest.raises(wl.ValidationError) as invalid:
        wl.Module("(module\n  (func (result i32)\n    (i64.add (i32.const 1) (i64.const 1)) (drop)))")
    assert (invalid.value.line, invalid.value.column) == (3, 5)
    monkeypatch.setattr(features, "EXECUTED", features.EXECUTED - {"gc"})
    where = r"gc is not supported yet: ref.i31.* at line 1, column \d+"
    with pytest.raises(wl.UnsupportedError, match=where):
        wl.Module("(module (func (drop (ref.i31 (i32.const 0)))))")
    for bad in (b"", b"\0asm\2\0\0\0", b"nonsense"):
        with pytest.raises(wl.CompileError):
            wl.Module(bad)
    assert wl.Module.validate("(module)") is None
    with pytest.raises(wl.ValidationError):
        wl.Module.validate("(module (func (result i32)))")


@pytest.mark.parametrize("translation", ["eager", "lazy-translation", "lazy"])
def test_translation_modes(translation: str) -> None:
    engine = wl.Engine(tier="interpreter", translation=translation)
    text = '(module (func (export "ok") (result i32) (i32.const 1)) (func (export "bad") (result i32) (i64.const 1)))'
    if translation != "lazy":
        with pytest.raises(wl.ValidationError):
            wl.Module(text, engine)
        return
    exports = wl.Instance(wl.Module(text, engine)).exports
    assert exports.ok() == 1
    for _ in range(2):
        with pytest.raises(wl.ValidationError) as error:
            exports.bad()
        assert error.value.line == 1
    assert exports.ok() == 1


def test_the_environment_chooses_the_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASMLOOM_TIER", raising=False)
    assert wl.Engine().tier == "auto"
    monkeypatch.setenv("WASMLOOM_TIER", "compiler")
    assert wl.Engine().tier == "compiler" and wl.Engine(tier="interpreter").tier == "interpreter"
    monkeypatch.setenv("WASMLOOM_TIER", "fast")
    with pytest.raises(ValueError, match="unknown tier 'fast'"):
        wl.Engine()


def test_engines() -> None:
    for tier in ("interpreter", "compiler"):
        assert wl.Engine(tier=tier).tier == tier and tier in repr(wl.Engine(tier=tier))
    with pytest.raises(ValueError):
        wl.Engine(tier="fast")
    with pytest.raises(ValueError):
        wl.Engine(stack_switching="often")
    with pytest.raises(ValueError):
        wl.Engine(translation="never")
    with pytest.raises(ValueError, match="different engines"):
        wl.Instance(wl.Module("(module)", wl.Engine()), store=wl.Store(wl.Engine()))
    assert "lazy-translation" in repr(wl.Engine())


# --- exports ---


def test_exports() -> None:
    exports = run("""(func (export "f") (result i32) (i32.const 1)) (memory (export "memory") 1)
      (global (export "odd name!") i32 (i32.const 5)) (func (export "keys") (result i32) (i32.const 2))
      (func (export "__class__") (result i32) (i32.const 3)) (func (export "") (result i32) (i32.const 4))""")
    assert list(exports) == ["f", "memory", "odd name!", "keys", "__class__", ""]
    assert len(exports) == 6
    assert exports.f is exports["f"]
    assert exports.f is exports.f
    assert exports["odd name!"].value == 5
    assert exports.keys() == 2
    assert exports["__class__"]() == 3
    assert exports[""]() == 4
    assert "f" in exports
    assert "g" not in exports
    assert "odd name!" in dir(exports)
    with pytest.raises(AttributeError, match="no export 'g'; there are 'f'"):
        exports.g()
    with pytest.raises(KeyError):
        exports["g"]
    assert not hasattr(exports, "g")
    assert "memory" in repr(exports)


def test_same_object_under_two_names() -> None:
    exports = run("""(func $f) (memory 1) (table 1 funcref) (export "a" (func $f)) (export "b" (func $f))
      (export "m" (memory 0)) (export "n" (memory 0)) (export "t" (table 0)) (export "u" (table 0))""")
    assert exports.a is exports.b
    assert exports.m is exports.n
    assert exports.t is exports.u


def test_exported_import_is_the_same_object() -> None:
    store = wl.Store()
    f = wl.Func(store, "->", lambda: None)
    memory = wl.Memory(store, 1)
    text = """(import "e" "f" (func)) (import "e" "m" (memory 0)) (export "f" (func 0)) (export "m" (memory 0))"""
    exports = run(text, {"e": {"f": f, "m": memory}}, store=store)
    assert exports.f is f
    assert exports.m is memory


# --- linking ---

IMPORTS = """(import "e" "f" (func (param i32) (result i32)))
  (func (export "g") (param i32) (result i32) (call 0 (local.get 0)))"""


class Space:
    @staticmethod
    def f(x: int) -> int:
        return x + 1


class Everything:
    e = Space


@pytest.mark.parametrize(
    "imports",
    [
        {"e": {"f": Space.f}},
        {"e": Space},
        {"e": Space()},
        Everything,
        types.SimpleNamespace(e=types.MappingProxyType({"f": Space.f})),
    ],
)
def test_kinds_of_namespaces(imports: Any) -> None:
    assert run(IMPORTS, imports).g(1) == 2


def test_an_instance_is_a_namespace() -> None:
    triple = '(module (func (export "f") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3))))'
    first = wl.Instance(wl.Module(triple))
    assert run(IMPORTS, {"e": first}).g(5) == 15
    assert run(IMPORTS, {"e": first.exports}).g(5) == 15
    second = wl.Instance(wl.Module(f"(module {IMPORTS})"), {"e": first})
    assert second.store is first.store


@pytest.mark.parametrize("imports", [None, {}, {"e": {}}, {"e": object()}, object(), {"x": {"f": print}}])
def test_unknown_import(imports: Any) -> None:
    with pytest.raises(wl.LinkError, match=r"unknown import e\.f: func \[i32\] -> \[i32\] is not provided"):
        run(IMPORTS, imports)


@pytest.mark.parametrize(
    ("wanted", "offered", "fits"),
    [
        ("(func (param i32))", "func i32 ->", True),
        ("(func (param i32))", "func i64 ->", False),
        ("(func (param i32))", "func i32 -> i32", False),
        ("(memory 1)", "memory 1", True),
        ("(memory 2)", "memory 1", False),
        ("(memory 1 2)", "memory 1", False),
        ("(memory 1 2)", "memory 1 2", True),
        ("(memory 1 2)", "memory 1 3", False),
        ("(memory 0)", "memory 1 3", True),
        ("(table 1 funcref)", "table funcref 1", True),
        ("(table 1 externref)", "table funcref 1", False),
        ("(table 2 funcref)", "table funcref 1", False),
        ("(table 1 5 funcref)", "table funcref 1", False),
        ("(global i32)", "global i32", True),
        ("(global i64)", "global i32", False),
        ("(global (mut i32))", "global i32", False),
        ("(global i32)", "global mut i32", False),
        ("(global (mut i32))", "global mut i32", True),
        ("(func)", "memory 1", False),
        ("(memory 1)", "func ->", False),
        ("(global i32)", "number", False),
        ("(func)", "number", False),
        ("(memory 1)", "number", False),
    ],
)
def test_matching(wanted: str, offered: str, fits: bool) -> None:
    store = wl.Store()
    kind, _, rest = offered.partition(" ")
    value: Any = 5
    if kind == "func":
        value = wl.Func(store, rest, print)
    elif kind == "memory":
        value = wl.Memory(store, *map(int, rest.split()))
    elif kind == "table":
        element, size = rest.split()
        value = wl.Table(store, element, int(size))
    elif kind == "global":
        value = wl.Global(store, rest, 0)
    text = f'(import "e" "x" {wanted})'
    if fits:
        run(text, {"e": {"x": value}}, store=store)
    else:
        with pytest.raises(wl.LinkError, match=r"incompatible import type for e\.x: expected \w+.*, found \w+"):
            run(text, {"e": {"x": value}}, store=store)


def test_a_grown_memory_counts_with_its_size() -> None:
    store = wl.Store()
    memory = wl.Memory(store, 1, 5)
    memory.grow(2)
    run('(import "e" "m" (memory 3 5))', {"e": {"m": memory}}, store=store)


def test_the_real_maximum_is_kept_by_reexports() -> None:
    store = wl.Store()
    imports = {"e": {"m": wl.Memory(store, 1, 2)}}
    first = run('(import "e" "m" (memory 1)) (export "m" (memory 0))', imports, store=store)
    run('(import "e" "m" (memory 1 2))', {"e": first}, store=store)


def test_other_store() -> None:
    value = wl.Memory(wl.Store(), 1)
    with pytest.raises(ValueError, match=r"e\.m belongs to another store"):
        run('(import "e" "m" (memory 1))', {"e": {"m": value}}, store=wl.Store())


# --- instantiation ---


def test_constant_expressions() -> None:
    store = wl.Store()
    exports = run(
        """(import "e" "n" (global $n i32)) (func $f (result i32) (i32.const 9))
      (global (export "a") i32 (i32.add (global.get $n) (i32.mul (i32.const -3) (i32.sub (i32.const 2) (i32.const 5)))))
      (global (export "b") i64 (i64.add (i64.const 0x7fffffffffffffff) (i64.const 1)))
      (global (export "wrap") i32 (i32.add (i32.const 0x7fffffff) (i32.const 1)))
      (global (export "c") f32 (f32.const -0.5)) (global (export "d") f64 (f64.const 1e300))
      (global (export "f") funcref (ref.func $f)) (global (export "null") externref (ref.null extern))""",
        {"e": {"n": wl.Global(store, "i32", 100)}},
        store=store,
    )
    assert exports.a.value == 109
    assert exports.b.value == -(2**63)
    assert exports.wrap.value == -(2**31)
    assert exports.c.value == -0.5
    assert exports.d.value == 1e300
    assert exports.f.value() == 9
    assert exports.null.value is None


def test_long_constant_expression() -> None:
    depth = 100
    text = "(i32.const 1) " * depth + "i32.add " * (depth - 1)
    assert run(f'(global (export "g") i32 {text})')["g"].value == depth


def test_segments() -> None:
    exports = run("""(memory (export "m") 1) (table (export "t") 4 funcref)
      (func $f (export "f")) (global $at i32 (i32.const 2))
      (elem (global.get $at) func $f $f) (elem (i32.const 0) funcref (ref.null func) (ref.func $f))
      (data (i32.const 3) "abc") (data (i32.const 4) "X") (data "passive")""")
    assert exports.m[3:6] == b"aXc"
    assert [exports.t[i] for i in range(4)] == [None, exports.f, exports.f, exports.f]


def test_failing_segments_keep_earlier_effects() -> None:
    store = wl.Store()
    memory, table = wl.Memory(store, 1), wl.Table(store, "funcref", 2)
    imports = {"e": {"m": memory, "t": table}}
    head = '(import "e" "m" (memory 1)) (import "e" "t" (table 2 funcref)) (func $f (result i32) (i32.const 6))'
    with pytest.raises(wl.Trap, match="out of bounds table access: element segment 1"):
        run(head + '(elem (i32.const 0) $f) (elem (i32.const 2) $f) (data (i32.const 0) "no")', imports, store=store)
    function = table[0]
    assert isinstance(function, wl.Func)
    assert function() == 6
    assert memory[0:2] == b"\0\0"
    with pytest.raises(wl.Trap, match="out of bounds memory access: data segment 1"):
        run(head + '(data (i32.const 0) "yes") (data (i32.const 65535) "no")', imports, store=store)
    assert memory[0:3] == b"yes"
    assert memory[-1] == 0
    with pytest.raises(wl.Trap):
        run(head + '(data (i32.const -1) "")', imports, store=store)
    run(head + '(data (i32.const 65536) "")', imports, store=store)


def test_start() -> None:
    seen: list[int] = []
    text = '(import "e" "log" (func $log (param i32))) (func $main (call $log (i32.const 5))) (start $main)'
    run(text, {"e": {"log": seen.append}})
    assert seen == [5]
    with pytest.raises(wl.Trap, match="unreachable"):
        run("(func $main (unreachable)) (start $main)")
    run('(import "e" "log" (func $log)) (start $log)', {"e": {"log": lambda: seen.append(6)}})
    assert seen == [5, 6]


def test_memory_limit() -> None:
    with pytest.raises(wl.WasmError, match="memory limit"):
        run("(memory 2)", store=wl.Store(memory_limit=PAGE))


def test_several_memories() -> None:
    exports = run("""(memory $a (export "a") 1) (memory $b (export "b") 2)
      (data (memory $b) (i32.const 70000) "two")
      (func (export "copy") (memory.copy $a $b (i32.const 8) (i32.const 70000) (i32.const 3)))
      (func (export "load") (param i32) (result i32) (i32.load8_u $b (local.get 0)))
      (func (export "size") (result i32) (memory.size $b))
      (func (export "grow") (result i32) (memory.grow $b (i32.const 1)))""")
    exports.copy()
    assert exports.a[8:11] == b"two"
    assert exports.load(70001) == ord("w")
    with pytest.raises(wl.Trap):
        exports.load(2 * PAGE)
    assert exports.grow() == 2
    assert exports.size() == 3
    assert exports.load(2 * PAGE) == 0
    assert exports.a.size == 1


def test_instance_text() -> None:
    assert repr(wl.Instance(wl.Module('(module $m (func (export "f")))'))) == "<wasmloom.Instance of m: f>"
