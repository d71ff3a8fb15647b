"""The look-alike of pywasm3, beside the package where that is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from wasmloom.text.parser import parse_module

TEXT = """(module (import "env" "f" (func $f (param i32 i64) (result i32))) (memory (export "memory") 1)
  (global (export "g") (mut i32) (i32.const 7)) (data (i32.const 5) "hi")
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "call") (param i32) (result i32) (call $f (local.get 0) (i64.const 5)))
  (func (export "trap") (unreachable)) (func (export "div") (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
  (func (export "two") (result i32 f64) (i32.const 1) (f64.const 2))
  (func (export "real") (param f32 f64 i64) (result f64) (local.get 1)) (func (export "nothing")))"""


@pytest.fixture(params=["wasmloom.compat.wasm3", "wasm3"])
def w(request: pytest.FixtureRequest) -> Any:
    if request.param == "wasm3":
        return pytest.importorskip("wasm3", reason="the package pywasm3 isn't installed: nothing to compare with")
    return import_module(request.param)


def loaded(w: Any) -> tuple[Any, Any]:
    environment = w.Environment()
    runtime = environment.new_runtime(2048)
    module = environment.parse_module(bytes(parse_module(TEXT).binary))
    runtime.load(module)
    return runtime, module


def test_functions(w: Any) -> None:
    runtime, module = loaded(w)
    add = runtime.find_function("add")
    assert (add(1, 2), add.call_argv("3", "4"), add(-1, 0), add(2**32 + 5, 0)) == (3, 7, -1, 5)
    assert (add.name, add.num_args, add.num_rets, add.arg_types, add.ret_types) == ("add", 2, 1, (1, 1), (1,))
    assert runtime.find_function("two")() == (1, 2.0) and runtime.find_function("nothing")() is None
    real = runtime.find_function("real")
    assert real(1, 2.5, 3) == 2.5 and real.arg_types == (3, 4, 2)
    assert module.name == ".unnamed"
    with pytest.raises(RuntimeError, match=r"function lookup failed \('none'\)"):
        runtime.find_function("none")


def test_host_functions(w: Any) -> None:
    runtime, module = loaded(w)
    module.link_function("env", "other", "v()", print)
    with pytest.raises(RuntimeError, match="function signature mismatch"):
        module.link_function("env", "f", "i(i)", print)
    with pytest.raises(RuntimeError, match=r"missing imported function \('env.f'\)"):
        runtime.find_function("call")(1)
    module.link_function("env", "f", "i(iI)", lambda a, b: a + b)
    assert runtime.find_function("call")(7) == 12


def test_exceptions_of_host_functions(w: Any) -> None:
    def fail(a: int, b: int) -> int:
        raise KeyError(a)

    runtime, module = loaded(w)
    module.link_function("env", "f", "i(iI)", fail)
    with pytest.raises(KeyError, match="7"):
        runtime.find_function("call")(7)


def test_traps(w: Any) -> None:
    runtime, _ = loaded(w)
    for name, says in (("trap", "unreachable executed"), ("div", "integer divide by zero")):
        with pytest.raises(RuntimeError, match=rf"\[trap\] {says}"):
            runtime.find_function(name)()


def test_memories_and_globals(w: Any) -> None:
    runtime, module = loaded(w)
    memory = runtime.get_memory(0)
    assert type(memory) is memoryview and len(memory) == 65536 and bytes(memory[5:7]) == b"hi"
    memory[5] = 65
    assert bytes(runtime.get_memory(0)[5:7]) == b"Ai"
    assert module.get_global("g") == 7
    module.set_global("g", 9)
    assert module.get_global("g") == 9
    with pytest.raises(RuntimeError, match="global lookup failed"):
        module.get_global("none")


def test_what_is_no_module(w: Any) -> None:
    for wrong in (b"hello", b"", b"\0asm\2\0\0\0"):
        with pytest.raises(RuntimeError):
            w.Environment().parse_module(wrong)


def test_only_of_the_look_alike() -> None:
    import wasmloom.compat.wasm3 as w

    environment = w.Environment()
    module = environment.parse_module(bytes(parse_module("(module)").binary))
    with pytest.raises(RuntimeError, match="isn't loaded"):
        module.get_global("g")
    runtime = environment.new_runtime(1)
    runtime.load(module)
    for use in (lambda: runtime.load(module), lambda: runtime.get_memory(0)):
        with pytest.raises(RuntimeError):
            use()
    for wrong in ("i", "x()", "i(x)"):
        with pytest.raises(RuntimeError, match="malformed"):
            module.link_function("a", "b", wrong, print)
