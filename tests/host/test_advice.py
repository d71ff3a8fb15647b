"""Errors that users meet say what to do next."""

from __future__ import annotations

import pytest

import wasmloom as wl

ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
WASI = '(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (memory (export "memory") 1))'


def refused(function: object, *arguments: object, **options: object) -> str:
    """The text of the error that a call raises."""
    with pytest.raises((wl.WasmError, TypeError, ValueError)) as error:
        function(*arguments, **options)  # type: ignore[operator]
    return str(error.value)


def test_what_is_missing() -> None:
    assert "pass it as {'env': {'log': …}}" in refused(wl.Instance, wl.Module('(module (import "env" "log" (func)))'))
    assert "wasmloom.Wasi().instantiate(module)" in refused(wl.Instance, wl.Module(WASI))
    with wl.Wasi() as wasi:
        text = refused(wasi.instantiate, wl.Module('(module (import "env" "log" (func)))'))
        assert "unknown imports: env.log (func)" in text and "give them as `imports`" in text
        assert "call the exports themselves: 'add'" in refused(wasi.run, wl.Module(ADD))


def test_what_is_taken_for_something_else() -> None:
    assert "Module.from_file reads a file" in refused(wl.Module, "prog.wasm")
    assert "wasmloom.Module(…)" in refused(wl.Instance, ADD)
    other = wl.Engine()
    assert "Store(module.engine)" in refused(wl.Instance, wl.Module(ADD), store=wl.Store(other))
    memory = wl.Memory(wl.Store(), 1)
    importing = wl.Module('(module (import "e" "m" (memory 1)))')
    assert "Instance(…, store=…)" in refused(wl.Instance, importing, {"e": {"m": memory}}, store=wl.Store())
