"""Calls: deep ones, tail calls that use no stack, backtraces through every kind, many values in and out."""

from __future__ import annotations

import pytest

import wasmloom as wl
from tests.semantics.modules import const, get, op
from wasmloom.binary.encoder import Layout, encode_module
from wasmloom.spec.module import Code, Export, Import, ModuleSyntax
from wasmloom.spec.types import F32, F64, I32, I64, FuncType, SubType
from wasmloom.text.parser import parse_module

ITERATIONS = 10_000_000


def instance(text: str, imports: object = None, store: wl.Store | None = None) -> wl.Instance:
    return wl.Instance(wl.Module(text), imports, store=store)


# --- depth ------------------------------------------------------------------------------------------------------------

RECURSIVE = """(module
  (type $f (func (param i32) (result i32)))
  (import "env" "again" (func $again (param i32) (result i32)))
  (table 1 funcref) (elem (i32.const 0) $indirect) (elem declare func $reference)
  (global $depth (mut i32) (i32.const 0))
  (func $direct (export "direct") (param i32) (result i32)
    (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
    (i32.add (i32.const 1) (call $direct (local.get 0))))
  (func $indirect (export "indirect") (param i32) (result i32)
    (i32.add (i32.const 1) (call_indirect (type $f) (local.get 0) (i32.const 0))))
  (func $reference (export "reference") (param i32) (result i32)
    (i32.add (i32.const 1) (call_ref $f (local.get 0) (ref.func $reference))))
  (func $even (export "even") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 1))
      (else (call $odd (i32.sub (local.get 0) (i32.const 1))))))
  (func $odd (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
      (else (call $even (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "through host") (param i32) (result i32) (call $again (local.get 0)))
  (func (export "depth") (result i32) (global.get $depth)))"""


@pytest.mark.parametrize("name", ["direct", "indirect", "reference"])
def test_endless_recursion_is_a_trap(name: str) -> None:
    made = instance(RECURSIVE, {"env": {"again": lambda n: n}})
    for _ in range(3):
        with pytest.raises(wl.Trap, match="call stack exhausted") as caught:
            made.exports[name](1)
        assert {frame.func_name for frame in caught.value.frames} == {name}
        # The store is as good as before.
        assert made.exports.even(10_000) == 1
        assert made.exports.even(10_001) == 0
    if name == "direct":
        assert made.exports.depth() > 3 * 20_000


def test_recursion_through_the_host_is_a_trap() -> None:
    made: wl.Instance
    depth = 0

    def again(n: int) -> int:
        nonlocal depth
        depth += 1
        result: int = made.exports["through host"](n)
        return result + 1

    made = instance(RECURSIVE, {"env": {"again": again}})
    for _ in range(2):
        depth = 0
        with pytest.raises((wl.Trap, RecursionError)):
            made.exports["through host"](0)
        assert depth > 50
        assert made.exports.even(5_000) == 1


def test_large_frames_are_counted() -> None:
    """A frame's locals count for the stack; a function with many more recurses less deep."""
    made = instance(
        f"""(module (global $depth (mut i32) (i32.const 0))
              (func $f (export "f") (local {"i64 " * 1000})
                (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $f))
              (func (export "depth") (result i32) (global.get $depth)))"""
    )
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        made.exports.f()
    assert 100 < made.exports.depth() < 150


# --- tail calls -------------------------------------------------------------------------------------------------------


def test_tail_calls_within_an_instance() -> None:
    made = instance(
        """(module
          (type $f (func (param i32 i64) (result i64)))
          (table 2 funcref) (elem (i32.const 0) $direct $indirect)
          (func $direct (type $f)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1))
              (i64.add (local.get 1) (i64.const 1)) (i32.const 1)))
          (func $indirect (type $f) (local i64 i64 i64)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_ref $f (i32.sub (local.get 0) (i32.const 1))
              (i64.add (local.get 1) (i64.const 2)) (ref.func $direct)))
          (func (export "run") (param i32) (result i64) (return_call $direct (local.get 0) (i64.const 0))))"""
    )
    assert made.exports.run(ITERATIONS) == ITERATIONS // 2 * 3


def test_tail_calls_across_instances() -> None:
    """Two instances call each other in tail position, over an import and over a table, by different signatures."""
    first = instance(
        """(module
          (type $f (func (param i32 i64) (result i64)))
          (table $t (export "table") 2 funcref)
          (global $count (mut i64) (i64.const 0))
          (func $f (export "f") (type $f)
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_indirect $t (type $f) (i32.sub (local.get 0) (i32.const 1))
              (i64.add (local.get 1) (i64.const 1)) (i32.const 0)))
          (func (export "count") (result i64) (global.get $count)))"""
    )
    second = instance(
        """(module
          (type $f (func (param i32 i64) (result i64)))
          (import "first" "f" (func $f (type $f))) (import "first" "table" (table $t 2 funcref))
          (elem (table $t) (i32.const 0) func $g) (elem (table $t) (i32.const 1) func $f)
          (global $count (mut i64) (i64.const 0))
          (func $g (type $f) (local f64 f64 f64)
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call $h (i64.const 9) (local.get 0) (local.get 1) (i32.const 5)))
          (func $h (param i64 i32 i64 i32) (result i64)
            (return_call $f (i32.sub (local.get 1) (i32.const 1)) (i64.add (local.get 2) (i64.const 2))))
          (func (export "run") (param i32) (result i64)
            (i64.add (i64.const 1000000000) (call $g (local.get 0) (i64.const 0))))
          (func (export "count") (result i64) (global.get $count)))""",
        {"first": first},
    )
    assert second.exports.run(ITERATIONS) == 10**9 + ITERATIONS // 2 * 3
    assert second.exports.count() == ITERATIONS // 2 + 1
    assert first.exports.count() == ITERATIONS // 2


def test_tail_calls_of_the_host() -> None:
    """A host function in tail position returns to the caller, whose instance and memory are then back."""
    seen = []

    def pair(n: int, x: float) -> tuple[float, int]:
        seen.append((n, x))
        return x * 2, n + 1

    made = instance(
        """(module
          (import "env" "pair" (func $pair (param i32 f32) (result f32 i32)))
          (memory 1) (data (i32.const 0) "\\2a")
          (func $tail (param i32) (result f32 i32) (local i64 i64) (return_call $pair (local.get 0) (f32.const 1.5)))
          (func (export "run") (param i32) (result i32 f32 i32)
            (i32.load (i32.const 0)) (call $tail (local.get 0))))""",
        {"env": {"pair": pair}},
    )
    assert made.exports.run(7) == (42, 3.0, 8)
    assert seen == [(7, 1.5)]


def test_traps_after_tail_calls_have_the_right_frames() -> None:
    """The functions that tail-called are gone from the backtrace; their callers are there."""
    other = instance(
        """(module $other (func $boom (export "boom") (param i32) (result i32)
             (i32.div_u (i32.const 1) (local.get 0))))"""
    )
    made = instance(
        """(module $main
          (import "other" "boom" (func $boom (param i32) (result i32)))
          (func $near (param i32) (result i32) (return_call $middle (local.get 0)))
          (func $middle (param i32) (result i32) (local i64) (return_call $boom (local.get 0)))
          (func $outer (export "outer") (param i32) (result i32)
            (i32.add (i32.const 1) (call $near (local.get 0)))))""",
        {"other": other},
    )
    assert made.exports.outer(1) == 2
    with pytest.raises(wl.Trap, match="integer divide by zero") as caught:
        made.exports.outer(0)
    assert [(frame.module, frame.func_name) for frame in caught.value.frames] == [("other", "boom"), ("main", "outer")]


SUBTYPES = """
  (rec (type $super (sub (func (param i32 i64) (result i64)))))
  (rec (type $sub (sub $super (func (param i32 i64) (result i64)))))"""


def test_indirect_calls_of_subtypes() -> None:
    """A function whose type is a subtype of the expected one is called, in tail position too; a supertype is not."""
    made = instance(
        f"""(module {SUBTYPES}
          (table $t 2 funcref) (elem (i32.const 0) $f $g)
          (func $f (type $sub)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_indirect $t (type $super)
              (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 1) (i64.const 1)) (i32.const 0)))
          (func $g (type $super) (i64.const -1))
          (func (export "run") (param i32) (result i64)
            (i64.mul (i64.const 2) (call_indirect $t (type $super) (local.get 0) (i64.const 1) (i32.const 0))))
          (func (export "wrong") (result i64)
            (call_indirect $t (type $sub) (i32.const 0) (i64.const 1) (i32.const 1))))"""
    )
    assert made.exports.run(ITERATIONS // 10) == 2 + 2 * (ITERATIONS // 10)
    with pytest.raises(wl.Trap, match="indirect call type mismatch"):
        made.exports.wrong()


def test_tail_calls_of_subtypes_across_instances() -> None:
    first = instance(
        f"""(module {SUBTYPES} (table $t (export "t") 2 funcref) (elem (i32.const 0) $f) (memory 1)
          (data (i32.const 0) "\\07")
          (func $f (type $sub)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_indirect $t (type $super) (i32.sub (local.get 0) (i32.const 1))
              (i64.add (local.get 1) (i64.load8_u (i32.const 0))) (i32.const 1))))"""
    )
    second = instance(
        f"""(module {SUBTYPES} (import "first" "t" (table $t 2 funcref)) (elem (table $t) (i32.const 1) func $g)
          (memory 1) (data (i32.const 0) "\\02")
          (func $g (type $sub) (local i64 i64 i64)
            (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
            (return_call_indirect $t (type $super) (i32.sub (local.get 0) (i32.const 1))
              (i64.add (local.get 1) (i64.load8_u (i32.const 0))) (i32.const 0)))
          (func (export "run") (param i32) (result i64)
            (i64.add (i64.mul (i64.load8_u (i32.const 0)) (i64.const 1000000000))
              (call_indirect $t (type $super) (local.get 0) (i64.const 0) (i32.const 0)))))""",
        {"first": first},
    )
    assert second.exports.run(ITERATIONS // 10) == 2 * 10**9 + ITERATIONS // 20 * 9


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("(return_call_indirect (type $f) (i32.const 9))", "undefined element"),
        ("(return_call_indirect (type $f) (i32.const 1))", "uninitialized element"),
        ("(return_call_indirect (type $g) (i64.const 1) (i32.const 0))", "indirect call type mismatch"),
        ("(return_call_ref $f (ref.null $f))", "null function reference"),
        ("(call_indirect (type $f) (i32.const -1))", "undefined element"),
        ("(call_indirect (type $f) (i32.const 1))", "uninitialized element"),
        ("(call_indirect (type $g) (i64.const 1) (i32.const 0))", "indirect call type mismatch"),
        ("(call_ref $f (ref.null $f))", "null function reference"),
    ],
)
def test_calls_that_trap(call: str, reason: str) -> None:
    text = f"""(module (type $f (func (result i32))) (type $g (func (param i64) (result i32)))
                 (table 3 funcref) (elem (i32.const 0) $seven)
                 (func $seven (type $f) (i32.const 7))
                 (func $run (export "run") (result i32) (local i64) {call}))"""
    made = instance(text)
    with pytest.raises(wl.Trap, match=reason) as caught:
        made.exports.run()
    (frame,) = caught.value.frames
    assert frame.func_name == "run"
    assert frame.offset is not None
    name = call[1:].split()[0]
    data = parse_module(text).binary
    assert data[frame.offset] == op(name)[0]


# --- backtraces -------------------------------------------------------------------------------------------------------


def test_backtrace_through_every_kind_of_call() -> None:
    """Names and offsets, from a host function's callback down to the entry, over two instances."""
    syntax = ModuleSyntax()
    syntax.rec_groups = [(SubType(FuncType((), ())),)]
    syntax.imports = [Import("m", "f", "func", 0)]
    syntax.funcs = [0]
    body = op("nop") * 5 + op("call", 0) + op("nop")
    syntax.code = [Code((), body + op("end"))]
    syntax.exports = [Export("g", "func", 1)]
    syntax.names.module = "outer"
    syntax.names.maps["func"] = {1: "gee"}
    layout = Layout()
    outer_bytes = encode_module(syntax, layout)
    inner_text = """(module $inner
      (type $v (func))
      (table 1 funcref) (elem (i32.const 0) $by_table) (elem declare func $by_reference)
      (func $bottom (unreachable))
      (func $by_reference (nop) (call $bottom))
      (func $by_table (nop) (nop) (call_ref $v (ref.func $by_reference)))
      (func $f (export "f") (call_indirect (type $v) (i32.const 0))))"""
    inner = instance(inner_text)
    outer = wl.Instance(wl.Module(outer_bytes), {"m": inner})
    with pytest.raises(wl.Trap, match="unreachable") as caught:
        outer.exports.g()
    frames = caught.value.frames
    assert [(frame.module, frame.func_name) for frame in frames] == [
        ("inner", "bottom"),
        ("inner", "by_reference"),
        ("inner", "by_table"),
        ("inner", "f"),
        ("outer", "gee"),
    ]
    assert [frame.func_index for frame in frames] == [0, 1, 2, 3, 1]
    data = parse_module(inner_text).binary
    opcodes = [data[frame.offset] for frame in frames[:-1] if frame.offset is not None]
    assert opcodes == [op(name)[0] for name in ("unreachable", "call", "call_ref", "call_indirect")]
    assert frames[-1].offset == layout.exprs["code", 0, 0] + 5
    assert "wasm backtrace:\n  0: inner!bottom at offset" in str(caught.value)


def test_backtrace_names_the_instruction() -> None:
    """Every instruction of a function that traps is told from its neighbours, whatever became of them."""
    divisions = 40
    syntax = ModuleSyntax()
    syntax.rec_groups = [(SubType(FuncType((I32,), (I32,))),)]
    syntax.funcs = [0]
    code, places = const("i32", 100), []
    for number in range(divisions):
        code += get(0) + const("i32", number) + op("i32.xor")
        places.append(len(code))
        code += op("i32.div_u")
    syntax.code = [Code((), code + op("end"))]
    syntax.exports = [Export("f", "func", 0)]
    layout = Layout()
    f = wl.Instance(wl.Module(encode_module(syntax, layout))).exports.f
    for number in range(divisions):
        with pytest.raises(wl.Trap) as caught:
            f(number)
        assert caught.value.frames[0].offset == layout.exprs["code", 0, 0] + places[number]


# --- many values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 17, 100, 999, 1000])
def test_many_values_through_calls(count: int) -> None:
    """As many parameters, results and host values as there may be, through every kind of call."""
    cycle = [I32, I64, F32, F64]
    types = tuple(cycle[i % 4] for i in range(count))
    names = " ".join(map(str, types))
    values = tuple(i - 7 if i % 4 < 2 else i + 0.5 for i in range(count))
    gets = " ".join(f"(local.get {i})" for i in range(count))
    seen = []

    def host(*arguments: float) -> object:
        seen.append(arguments)
        return arguments[0] if count == 1 else arguments or None

    def text(callee: str) -> str:
        return f"""(module (type $f (func (param {names}) (result {names})))
          (import "env" "host" (func $host (type $f)))
          (table funcref (elem $same $host))
          (func $same (type $f) {gets})
          (func $host_tail (type $f) {gets} (return_call $host))
          (func $tail (type $f) (local i32 i64) {gets} (return_call_indirect (type $f) (i32.const 0)))
          (func (export "f") (type $f) {gets} {callee}))"""

    wanted = None if count == 0 else values[0] if count == 1 else values
    calls = (
        *("call $same", "call $host", "call_indirect (type $f) (i32.const 0)", "call_indirect (type $f) (i32.const 1)"),
        *("call $tail", "call $host_tail", "return_call $host", "return_call $tail"),
    )
    for callee in (*(f"({call})" for call in calls), "(ref.func $same) (call_ref $f)"):
        assert instance(text(callee), {"env": {"host": host}}).exports.f(*values) == wanted, callee
    assert all(arguments == values for arguments in seen)
