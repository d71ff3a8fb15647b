"""Functions of a module that is compiled in part: they are compiled when they are called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import outcome_of
from wasmloom.compiler import compiled, identity, lowering, workers
from wasmloom.compiler.compiled import CompiledModule
from wasmloom.compiler.objects import ObjectError
from wasmloom.compiler.parts import Part
from wasmloom.host import module as host_module
from wasmloom.host.engine import STACK_SWITCHING
from wasmloom.tiers.stores import compiled_code, use_compiled

MANY = "i32 f64 i64 f32 i32 i64 f64 f32 i64 i32 f64 f64 i64 f32 f64 i32 f64 f32 i64 f64"


@pytest.fixture(autouse=True)
def every_module_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "LARGE", 0)


def partly(text: str, *used: str, imports: Any = None, cache: bool = False, **settings: Any) -> tuple[wl.Module, Any]:
    """A module of which the functions in `used`, and what they call, are compiled; and an instance's exports."""
    engine = wl.Engine(tier="auto", threshold=1 << 30, cache=cache, **settings)
    store = wl.Store(engine)
    module = wl.Module(text, engine)
    exports = wl.Instance(module, imports, store=store).exports
    for name in used:
        exports[name]()
    module.begin_behind([])(lambda: False)(module)
    use_compiled(store, compiled_code(store))
    return module, exports


def missing(module: wl.Module) -> set[int]:
    assert module.compiled is not None
    return module.compiled.missing


def test_arguments_and_results_of_all_kinds_and_numbers() -> None:
    """Direct, tail, indirect and typed calls, and calls from Python, are the first of their function in turn."""
    kinds = MANY.split()
    gets = " ".join(f"(local.get {i})" for i in range(len(kinds)))
    callees = "".join(
        f"(func ${how} (param {MANY}) (result {MANY}) {gets}) (export \"{how}\" (func ${how}))"
        for how in ("direct", "tail", "indirect", "typed", "python")
    )
    call = f"(param {MANY}) (result {MANY})"
    text = f"""(module (type $t (func {call})) {callees} (table funcref (elem $indirect))
      (elem declare func $typed) (func (export "warm"))
      (func (export "by direct") {call} {gets} (call $direct))
      (func (export "by tail") {call} {gets} (return_call $tail))
      (func (export "by indirect") {call} {gets} (call_indirect (type $t) (i32.const 0)))
      (func (export "by typed") {call} {gets} (call_ref $t (ref.func $typed))))"""
    module, exports = partly(text, "warm")
    values = tuple(1.5 * i if kind[0] == "f" else (-1) ** i * (1 << (30 if kind == "i32" else 61)) // (i + 1)
                   for i, kind in enumerate(kinds))  # fmt: skip
    assert len(missing(module)) == 9
    for how in ("direct", "tail", "indirect", "typed"):
        assert exports[f"by {how}"](*values) == values, how
        assert exports[f"by {how}"](*values) == values, how
        assert exports[how](*values) == values
    assert len(missing(module)) == 1
    assert exports.python(*values) == values
    assert not missing(module)


def test_traps_and_backtraces_are_those_of_the_interpreter() -> None:
    text = """(module (func $div (param i32) (result i32) (i32.div_u (i32.const 7) (local.get 0)))
      (func $load (param i32) (result i32) (i32.load offset=4 (local.get 0))) (memory 1)
      (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
      (func (export "div") (param i32) (result i32) (call $div (local.get 0)))
      (func (export "load") (param i32) (result i32) (i32.add (call $load (local.get 0)) (i32.const 1)))
      (func (export "deep") (param i32) (result i32) (call $deep (local.get 0)))
      (func (export "warm")))"""
    interpreted = wl.Instance(wl.Module(text, wl.Engine(tier="interpreter"))).exports
    for name, argument in (("div", 0), ("div", 2), ("load", 65536), ("load", -1), ("load", 8)):
        _, exports = partly(text, "warm")
        assert outcome_of(exports[name], argument) == outcome_of(interpreted[name], argument)
    _, exports = partly(text, "warm")
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        exports.deep(1)


@pytest.mark.parametrize("switching", STACK_SWITCHING)
def test_they_begin_throw_and_suspend_on_stacks_of_continuations(switching: str) -> None:
    text = """(module (type $f (func (param i32) (result i32))) (type $k (cont $f)) (tag $y (param i32))
      (tag $e (param i64))
      (type $r (func (result i32))) (type $kr (cont $r))
      (func $thrower (param i64) (if (i64.eqz (local.get 0)) (then (throw $e (i64.const 99))))
        (call $thrower (i64.sub (local.get 0) (i64.const 1))))
      (func $body (param $x i32) (result i32) (call $inner (local.get $x)) (i32.mul (local.get $x) (i32.const 3)))
      (func $inner (param i32) (suspend $y (i32.add (local.get 0) (i32.const 1))))
      (elem declare func $body)
      (func (export "run") (param i32) (result i32 i64) (local i64)
        (block $caught (result i64)
          (try_table (catch $e $caught) (call $thrower (i64.const 5)))
          (i64.const 0))
        (block $h (result i32 (ref $kr))
          (resume $k (on $y $h) (local.get 0) (cont.new $k (ref.func $body))) (unreachable))
        (resume $kr) (i32.add) (local.set 0) (local.get 0) (drop) (local.set 1) (local.get 0) (local.get 1))
      (func (export "warm")))"""
    module, exports = partly(text, "warm", stack_switching=switching)
    assert exports.run(10) == (41, 99)
    assert len(missing(module)) == 0


def test_exceptions_of_compiling_arrive_and_the_next_call_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """(module (func $cold (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
      (func (export "run") (param i32) (result i32) (call $cold (local.get 0))) (func (export "warm")))"""
    module, exports = partly(text, "warm")
    assert exports.run(1) == 2  # $cold goes along with its caller
    module, exports = partly(text, "warm")
    with monkeypatch.context() as patch:
        def fail(self: CompiledModule, index: int, abandoned: object) -> int:
            raise KeyboardInterrupt

        patch.setattr(CompiledModule, "compile_function", fail)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                exports.run(4)
    assert missing(module)
    assert exports.run(4) == 8


def test_without_a_worker_they_are_compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small functions always are."""
    body = "(local.set 0 (i32.add (local.get 0) (i32.const 1)))" * (compiled.SMALL // 6)
    text = f"""(module (func $cold (param i32) (result i32) {body} (local.get 0))
      (func (export "run") (param i32) (result i32) (call $cold (local.get 0))) (func (export "warm")))"""
    module, exports = partly(text, "warm")
    monkeypatch.setattr(workers, "_crew", workers._Crew())
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    assert exports.run(5) == 5 + compiled.SMALL // 6
    assert not missing(module)


def test_they_are_not_compiled_by_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be imported by then are the files that are there by then."""
    module, exports = partly('(module (func (export "warm")) (func (export "f") (result i32) (i32.const 1)))', "warm")
    with monkeypatch.context() as patch:
        patch.setattr(identity, "_now", lambda: "another version")
        with pytest.raises(wl.CompileError, match="files have changed"):
            exports.f()
        assert len(missing(module)) == 1
    assert exports.f() == 1


def test_the_rest_comes_later_and_the_cache_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path))
    functions = "".join(
        f'(func $f{i} (export "f{i}") (param i32) (result i32) (if (result i32) (local.get 0)'
        f" (then (call $f{(i * 7 + 1) % 50} (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const {i}))))"
        for i in range(50)
    )
    text = f'(module {functions} (func (export "warm")))'
    interpreted = wl.Instance(wl.Module(text, wl.Engine(tier="interpreter"))).exports
    module, exports = partly(text, "warm", cache=True)
    assert len(missing(module)) == 50
    for i in range(0, 50, 7):
        assert exports[f"f{i}"](3) == interpreted[f"f{i}"](3)
    before = len(missing(module))
    assert 0 < before < 50
    rest = module.begin_rest()
    assert rest is not None
    rest(lambda: False)(module)
    assert not missing(module)
    for i in range(50):
        assert exports[f"f{i}"](30) == interpreted[f"f{i}"](30)
    module, exports = partly(text, cache=True)
    assert not missing(module)
    assert exports.f3(30) == interpreted.f3(30)


#: With a loop, so that it doesn't stand in the place of calls.
LARGE_LATER = f"""(module (func $tiny (loop))
  (func $large (param i32) (result i32) {"(call $tiny)" * 200} (local.get 0))
  (func (export "later") (param i32) (result i32)
    (if (result i32) (local.get 0) (then (i32.const 5)) (else (call $large (i32.const 7)))))
  (func (export "large") (param i32) (result i32) (call $large (local.get 0)))
  (func (export "warm")))"""


def test_what_may_be_too_large_is_not_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that compiles before the change doesn't have this limit; later, this one would."""
    monkeypatch.setattr(lowering, "MOST_LINES", 200)
    module, exports = partly(LARGE_LATER, "warm")
    assert missing(module) == {0, 2, 3}
    assert exports.large(3) == 3


def test_a_function_that_is_too_large_keeps_its_module_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MOST_LINES", 200)
    monkeypatch.setattr(compiled, "compile_parts", lambda parts, function, *rest, **more: [*map(function, parts)])
    with pytest.raises(wl.UnsupportedError, match="too large to be compiled"):
        partly(LARGE_LATER, "warm")


def test_what_is_compiled_with_a_function_does_not_make_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    module, exports = partly(LARGE_LATER, "warm")
    assert missing(module) == {0, 1, 2, 3}
    monkeypatch.setattr(lowering, "MOST_LINES", 200)
    assert exports.later(1) == 5
    assert missing(module) == {0, 1, 3}


@pytest.mark.parametrize(
    "error", [wl.CompileError("a worker process was killed"), MemoryError(), ObjectError("no memory"), OSError(12, "")]
)
def test_what_fails_while_a_guest_waits_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "PAUSES", (0, 0, 0))
    text = """(module (func $f (param i32) (result i32) (loop) (i32.add (local.get 0) (i32.const 1)))
      (func (export "run") (param i32) (result i32) (call $f (call $f (local.get 0)))) (func (export "warm")))"""
    _, exports = partly(text, "warm")
    real = CompiledModule._compile_now
    tries: list[list[int]] = []

    def fails(self: CompiledModule, part: Part, abandoned: Any) -> bytes:
        tries.append(list(part.functions))
        if len(tries) < 4:
            raise error
        return real(self, part, abandoned)

    monkeypatch.setattr(CompiledModule, "_compile_now", fails)
    assert exports.run(5) == 7
    assert tries == [[1, 0], [1], [1], [1], [0]]
    tries.clear()
    _, exports = partly(text, "warm")
    monkeypatch.setattr(compiled, "PAUSES", (0,))
    with pytest.raises(type(error)):
        exports.run(5)
