"""Types: what they are made of, what they are equal to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

NAMES = ("i32", "i64", "f32", "f64", "externref", "funcref")


def test_val_types(w: Any) -> None:
    made = {name: getattr(w.ValType, name)() for name in NAMES}
    for name, type in made.items():
        assert type == getattr(w.ValType, name)() and type != name
        assert [other for other in NAMES if made[other] == type] == [name]
    assert [str(made[name]) for name in NAMES] == ["i32", "i64", "f32", "f64", "anyref", "funcref"]
    assert repr(made["i64"]) == "i64"
    with pytest.raises(TypeError):
        hash(made["i32"])
    with pytest.raises(w.WasmtimeError):
        w.ValType()


def test_func_types(w: Any) -> None:
    i32, f64 = w.ValType.i32(), w.ValType.f64()
    type = w.FuncType([i32, f64], (f64,))
    assert (type.params, type.results) == ([i32, f64], [f64])
    assert type.params is not type.params
    for wrong in ((iter([i32]), []), ([1], []), (i32, []), ([], None)):
        with pytest.raises(TypeError):
            w.FuncType(*wrong)


def test_global_types(w: Any) -> None:
    for mutable in (True, False):
        type = w.GlobalType(w.ValType.i64(), mutable)
        assert (type.content, type.mutable) == (w.ValType.i64(), mutable)
    with pytest.raises(TypeError):
        w.GlobalType("i32", True)


def test_limits(w: Any) -> None:
    limits = w.Limits(1, None)
    assert (limits.min, limits.max) == (1, None)
    assert limits == w.Limits(1, None) and limits != w.Limits(1, 2) and limits != 1
    with pytest.raises(TypeError):
        hash(limits)


def test_table_types(w: Any) -> None:
    type = w.TableType(w.ValType.funcref(), w.Limits(3, 7))
    assert (type.element, type.limits) == (w.ValType.funcref(), w.Limits(3, 7))
    with pytest.raises(TypeError):
        w.TableType("funcref", w.Limits(1, None))
    with pytest.raises(w.WasmtimeError):
        w.TableType(w.ValType.i32(), w.Limits(1, None))


def test_memory_types(w: Any) -> None:
    type = w.MemoryType(w.Limits(1, 2))
    assert type.limits == w.Limits(1, 2)
    assert (type.is_64, type.is_shared, type.page_size, type.page_size_log2) == (False, False, 65536, 16)
    assert w.MemoryType(w.Limits(1, None), is_64=True).is_64
    assert w.MemoryType(w.Limits(1, 2), shared=True).is_shared
    assert w.MemoryType(w.Limits(1, 2), page_size_log2=0).page_size == 1
    for wrong in (
        lambda: w.MemoryType(w.Limits(-1, None)),
        lambda: w.MemoryType(w.Limits(3, 2)),
        lambda: w.MemoryType(w.Limits(70000, None)),
        lambda: w.MemoryType(w.Limits(1, None), shared=True),
        lambda: w.MemoryType(w.Limits(1, 2), page_size_log2=3),
    ):
        with pytest.raises(w.WasmtimeError):
            wrong()
    with pytest.raises(TypeError):
        w.MemoryType(w.Limits("1", None))


def test_tag_types(w: Any) -> None:
    type = w.TagType(w.FuncType([w.ValType.i32()], []))
    assert type.functype.params == [w.ValType.i32()] and type.functype.results == []


def test_imports_and_exports_of_modules(w: Any) -> None:
    module = w.Module(
        w.Engine(),
        """(module (import "a" "f" (func (param i32) (result f64))) (import "a" "m" (memory 1 2))
          (import "b" "t" (table 1 funcref)) (import "b" "g" (global (mut i64))) (import "b" "e" (tag (param i32)))
          (export "F" (func 0)) (export "M" (memory 0)) (export "T" (table 0)) (export "G" (global 0))
          (export "E" (tag 0)))""",
    )
    classes = [w.FuncType, w.MemoryType, w.TableType, w.GlobalType, w.TagType]
    assert [(i.module, i.name) for i in module.imports] == [
        ("a", "f"), ("a", "m"), ("b", "t"), ("b", "g"), ("b", "e"),
    ]  # fmt: skip
    assert [e.name for e in module.exports] == ["F", "M", "T", "G", "E"]
    for types in ([i.type for i in module.imports], [e.type for e in module.exports]):
        assert list(map(type, types)) == classes
        function, memory, table, variable, tag = types
        assert (function.params, function.results) == ([w.ValType.i32()], [w.ValType.f64()])
        assert memory.limits == w.Limits(1, 2) and table.limits == w.Limits(1, None)
        assert table.element == w.ValType.funcref() and variable.content == w.ValType.i64() and variable.mutable
        assert tag.functype.params == [w.ValType.i32()]


def test_values(w: Any) -> None:
    assert (w.Val.i32(3).value, w.Val.i32(3).as_i32(), w.Val.i32(3).as_i64()) == (3, 3, None)
    assert w.Val.i32(3) == w.Val.i32(3) and w.Val.i32(3) == 3 and w.Val.i32(3) != 4
    assert w.Val.i32(2**32 + 5).value == 5 and w.Val.i32(2**32 - 1).value == -1
    assert (w.Val.i64(7).as_i64(), w.Val.f32(1.5).as_f32(), w.Val.f64(2.5).as_f64()) == (7, 1.5, 2.5)
    assert w.Val.externref("x").as_externref() == "x" and w.Val.externref(None).value is None
    assert w.Val.funcref(None).value is None and w.Val.ref_null(w.ValType.externref()).value is None
    assert w.Val.f64(1.0).type == w.ValType.f64()
    for wrong in (lambda: w.Val.i32("1"), lambda: w.Val.i32(1.0), lambda: w.Val.f64(1), lambda: w.Val.f32("a")):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(TypeError):
        hash(w.Val.i32(1))
    with pytest.raises(w.WasmtimeError):
        w.Val.ref_null(w.ValType.i32())


@pytest.mark.parametrize("make", ["Config", "Engine", "Store", "WasiConfig"])
def test_things_are_closed(w: Any, make: str) -> None:
    with getattr(w, make)() as made:
        pass
    made.close()
    use = {
        "Config": lambda: w.Engine(made),
        "Engine": lambda: w.Store(made),
        "Store": lambda: made.gc(),
        "WasiConfig": lambda: w.Store().set_wasi(made),
    }[make]
    with pytest.raises(ValueError, match="already closed"):
        use()


def test_parts_are_read_only_and_described(w: Any) -> None:
    """Properties of types, and settings: one kind each, with texts for `help`."""
    i32 = w.ValType.i32()
    made = [
        (w.FuncType([i32], []), ("params", "results")),
        (w.GlobalType(i32, True), ("content", "mutable")),
        (w.TableType(w.ValType.funcref(), w.Limits(1, None)), ("element", "limits")),
        (w.MemoryType(w.Limits(1, None)), ("limits", "is_64", "is_shared", "page_size", "page_size_log2")),
        (w.TagType(w.FuncType([i32], [])), ("functype",)),
    ]
    for thing, names in made:
        for name in names:
            with pytest.raises(AttributeError):
                setattr(thing, name, getattr(thing, name))
        thing.close()
        for name in names:
            with pytest.raises(ValueError, match="already closed"):
                getattr(thing, name)
    for settings, name in ((w.Config(), "wasm_simd"), (w.WasiConfig(), "argv")):
        with pytest.raises(AttributeError):
            getattr(settings, name)


def test_what_the_look_alike_says() -> None:
    import wasmloom.compat.wasmtime as w

    for cls in (w.FuncType, w.GlobalType, w.TableType, w.MemoryType, w.ImportType, w.ExportType, w.Frame, w.Config):
        for name, value in vars(cls).items():
            assert name.startswith("_") or value.__doc__, (cls, name)
    type = w.FuncType([], [w.ValType.i32()])
    for make in (lambda: w.Func(w.Store(), type, 5), lambda: w.Linker(w.Engine()).define_func("", "", type, 5)):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a function, not int"):
            make()
    with pytest.raises(TypeError, match="expected an Engine, not str"):
        w.Linker("engine")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Module, not NoneType"):
        w.Instance(w.Store(), None, [])  # type: ignore[arg-type]
