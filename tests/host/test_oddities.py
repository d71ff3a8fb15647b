"""Odd arguments of the public API, and files that aren't what they should be: each has an error that says so."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.cli import main

COMPONENT = b"\0asm\r\0\1\0"


@pytest.mark.parametrize("data", [12, None, 1.5, ["(module)"], object(), wl.Store])
def test_modules_are_bytes_or_text(data: Any) -> None:
    for take in (wl.Module, wl.Module.validate):
        with pytest.raises(TypeError, match="a module is bytes or text, not"):
            take(data)


def test_subclasses_of_bytes_and_str_are_what_they_hold() -> None:
    class Bytes(bytes):
        def __getitem__(self, key: Any) -> Any:
            raise AssertionError

    class Text(str):
        def __str__(self) -> str:
            raise AssertionError

    assert wl.Module(Bytes(b"\0asm\1\0\0\0")).exports == []
    assert wl.Module(Text("(module)")).exports == []
    with pytest.raises(TypeError):
        wl.Module.from_file(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [COMPONENT, COMPONENT + b"more", "(component (core module))", b" (component)"])
def test_components_are_called_by_name(data: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(wl.UnsupportedError, match="this is a component"):
        wl.Module(data)
    path = tmp_path / ("a.wasm" if data[:1] == b"\0" else "a.wat")
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    for command in ("run", "validate", "inspect", "compile", "wasm2wat", "wat2wasm"):
        if command != "wat2wasm" or path.suffix == ".wat":
            assert main([command, str(path)]) == 1
            assert "this is a component" in capfd.readouterr().err, command


def test_other_versions_are_no_components() -> None:
    for version in (b"\0\0\1\0", b"\r\0\0\0", b"\1\0\2\0"):
        with pytest.raises(wl.CompileError, match="unknown binary version"):
            wl.Module(b"\0asm" + version)


@pytest.mark.parametrize(
    ("exports", "match"),
    [
        ('(func (export "_start")) (func (export "memory"))', "must export its memory as 'memory', which is"),
        ('(memory (export "memory") 1) (memory (export "_start") 1)', "'_start' must be a function"),
        ('(memory (export "memory") 1) (func (export "_start") (param i32))', "'_start' must be a function"),
        ('(memory (export "memory") 1) (global (export "_start") i32 (i32.const 1))', "'_start' must be a function"),
    ],
)
def test_wasi_programs_with_other_exports(exports: str, match: str) -> None:
    with wl.Wasi() as wasi, pytest.raises(wl.LinkError, match=match):
        wasi.run(wl.Module(f"(module {exports})"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"stdin": "text"}, {"stdout": "text"}, {"stderr": b"bytes"}, {"stdout": 1.5}, {"stdin": object()},
        {"args": "prog"}, {"args": [1]}, {"args": 5}, {"env": ["A=1"]}, {"preopens": "dir"},
    ],
)  # fmt: skip
def test_wasi_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        wl.Wasi(**arguments)
    for other in (None, wl.Store(), io):
        with wl.Wasi() as wasi, pytest.raises(TypeError):
            wasi.bind(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENGINES)
def test_as_many_tags_as_there_can_be(name: str) -> None:
    source = """(module (type $f (func (result i32))) (type $k (cont $f)) (tag $y (export "y") (param i32))
      (func $c (result i32) (suspend $y (i32.const 5)) (i32.const 7)) (elem declare func $c)
      (func (export "k") (result (ref $k)) (cont.new $k (ref.func $c))))"""
    store = wl.Store(engine_of(name))
    exports: Any = wl.Instance(wl.Module(source, store.engine), store=store).exports
    other = wl.Tag(store, "")
    outcome = exports.k().resume(on=[other] * 0xFFFE + [exports.y])
    assert outcome.payload == (5,)
    assert outcome.continuation.resume() == 7
    fresh = exports.k()
    with pytest.raises(ValueError, match="at most 65535 tags, not 65536"):
        fresh.resume(on=[other] * 0xFFFF + [exports.y])
    assert fresh.alive


def test_the_module_shows_the_api_only() -> None:
    code = """if 1:
        import sys, wasmloom as wl
        assert not any(name in sys.modules for name in ("llvmlite", "wasmloom.runtime.store"))
        before = dir(wl)
        wl.Module("(module)")
        assert dir(wl) == before == sorted([*wl.__all__, "__version__"])
        assert all(getattr(wl, name) is not None for name in before)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_arguments_of_stores_and_engines() -> None:
    for settings in ({"engine": 5}, {"engine": "auto"}, {"fuel": "a"}, {"timeout": "1"}, {"memory_limit": "1"}):
        with pytest.raises((TypeError, ValueError)):
            wl.Store(**settings)  # type: ignore[arg-type]
    assert wl.Store(timeout=float("inf")).timeout == float("inf")
    with pytest.raises(ValueError, match="timeout"):
        wl.Store(timeout=float("nan"))
    with pytest.raises(TypeError):
        wl.Module("(module)", engine="auto")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a wasmloom.Module"):
        wl.Instance("(module)")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a wasmloom.Store"):
        wl.Instance(wl.Module("(module)"), store=5)  # type: ignore[arg-type]
    exports = wl.Instance(wl.Module("(module)")).exports
    for name in (b"f", 5, None):
        with pytest.raises(KeyError):
            exports[name]  # type: ignore[index]
    store = wl.Store(wl.Engine(tier="interpreter", fuel=True))
    with pytest.raises(AttributeError):
        del store.fuel


def test_wasi_takes_modules() -> None:
    with wl.Wasi() as wasi:
        for call in (wasi.check, wasi.instantiate, wasi.run):
            with pytest.raises(TypeError, match=r"expected a wasmloom.Module, not bytes"):
                call(b"(module)")  # type: ignore[arg-type]
