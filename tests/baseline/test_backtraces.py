"""Copied code traps where the interpreter does: in the same functions, at the same offsets, on the same stacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.fuzz.faults import choices_of, differences
from wasmloom.baseline.mixing import set_mixing
from wasmloom.contract import traps

pytestmark = pytest.mark.usefixtures("code_at_once")

#: $main calls $resumes in a loop, which runs $trapping in a continuation, where a loop comes to what traps in its third
#: turn: with values in registers, behind calls and in a try_table.
MODULE = """(module
  (type $none (func)) (type $cont (cont $none)) (type $i (func (param i32)))
  (rec (type $described (descriptor $own) (struct)) (type $own (describes $described) (struct)))
  (type $struct (sub (struct (field i32)))) (type $array (array i32))
  (tag $tag) (tag $thrown (param i32))
  (memory 1) (table $t 3 funcref) (elem (i32.const 0) $nothing) (elem declare func $trapping $deep $again)
  (global $n (mut i32) (i32.const 0))
  (func $nothing)
  (func $bump (param i32) (result i32) (global.set $n (i32.add (global.get $n) (local.get 0))) (global.get $n))
  (func $deep (call $deep))
  (func $again (resume $cont (cont.new $cont (ref.func $again))))
  (func $trapping (type $none)
    (local $turn i32) (local $x i64) (local $f f64) (local $zero i32) (local $k (ref null $cont))
    (loop $next
      (local.set $x (i64.add (local.get $x) (i64.extend_i32_s (call $bump (i32.const 1)))))
      (local.set $f (f64.add (local.get $f) (f64.convert_i64_s (local.get $x))))
      (block $caught
        (try_table (catch_all $caught)
          (if (i32.eq (local.get $turn) (i32.const 1)) (then (throw $thrown (i32.const 3))))))
      (if (i32.eq (local.get $turn) (i32.const 2)) (then WHAT))
      (br_if $next (i32.lt_s (local.tee $turn (i32.add (local.get $turn) (i32.const 1))) (i32.const 5)))))
  (func $resumes (param i32) (result i32)
    (resume $cont (cont.new $cont (ref.func $trapping)))
    (local.get 0))
  (func (export "main") (local $i i32)
    (loop $next
      (drop (call $resumes (local.get $i)))
      (br_if $next (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))))"""

CASES = {
    "unreachable": (traps.UNREACHABLE, "unreachable"),
    "division by zero": (traps.INTEGER_DIVIDE_BY_ZERO, "(drop (i32.div_s (local.get $turn) (local.get $zero)))"),
    "remainder": (traps.INTEGER_DIVIDE_BY_ZERO, "(drop (i64.rem_u (local.get $x) (i64.const 0)))"),
    "overflow": (
        traps.INTEGER_OVERFLOW,
        "(drop (i64.div_s (i64.or (i64.and (local.get $x) (i64.const 0)) (i64.const -0x8000000000000000))"
        " (i64.or (local.get $x) (i64.const -1))))",
    ),
    "conversion": (traps.INVALID_CONVERSION, "(drop (i32.trunc_f64_s (f64.div (f64.sub (local.get $f) (local.get $f))"
                   " (f64.const 0))))"),
    "conversion that overflows": (traps.INTEGER_OVERFLOW, "(drop (i32.trunc_f64_s (f64.mul (local.get $f) (f64.const"
                                  " 1e30))))"),
    "load": (traps.MEMORY_OUT_OF_BOUNDS, "(drop (i32.load offset=65533 (local.get $turn)))"),
    "far load": (traps.MEMORY_OUT_OF_BOUNDS, "(drop (f64.load offset=0xfffffff0 (local.get $turn)))"),
    "store": (traps.MEMORY_OUT_OF_BOUNDS, "(i64.store offset=65530 (local.get $turn) (local.get $x))"),
    "fill": (traps.MEMORY_OUT_OF_BOUNDS, "(memory.fill (i32.const 65535) (i32.const 0) (local.get $turn))"),
    "table": (traps.TABLE_OUT_OF_BOUNDS, "(drop (table.get $t (i32.add (local.get $turn) (i32.const 1))))"),
    "element": (traps.UNDEFINED_ELEMENT, "(call_indirect $t (i32.const 7))"),
    "null element": (traps.UNINITIALIZED_ELEMENT, "(call_indirect $t (local.get $turn))"),
    "type": (traps.INDIRECT_CALL_TYPE_MISMATCH, "(call_indirect $t (type $i) (local.get $turn) (local.get $zero))"),
    "null function": (traps.NULL_FUNCTION_REFERENCE, "(call_ref $none (ref.null $none))"),
    "null": (traps.NULL_REFERENCE, "(drop (ref.as_non_null (ref.null $none)))"),
    "recursion": (traps.STACK_EXHAUSTED, "(call $deep)"),
    "null exception": (traps.NULL_EXCEPTION_REFERENCE, "(throw_ref (ref.null exn))"),
    "null continuation": (traps.NULL_CONTINUATION_REFERENCE, "(resume $cont (local.get $k))"),
    "used continuation": (
        traps.CONTINUATION_CONSUMED,
        "(local.set $k (cont.new $cont (ref.func $nothing))) (resume $cont (local.get $k))"
        " (resume $cont (local.get $k))",
    ),
    "tag": (traps.UNHANDLED_TAG, "(suspend $tag)"),
    "continuations": (traps.CHAIN_EXHAUSTED, "(call $again)"),
    "memory": (
        traps.OUT_OF_MEMORY,
        "(loop $more (drop (cont.new $cont (ref.func $deep))) (local.set $k (cont.new $cont (ref.func $deep)))"
        " (call $again))",
    ),
    "atomic": (traps.UNALIGNED_ATOMIC, "(drop (i64.atomic.load (local.get $turn)))"),
    "null struct": (traps.NULL_STRUCT_REFERENCE, "(drop (struct.get $struct 0 (ref.null $struct)))"),
    "null array": (traps.NULL_ARRAY_REFERENCE, "(drop (array.len (ref.null $array)))"),
    "null i31": (traps.NULL_I31_REFERENCE, "(drop (i31.get_s (ref.null i31)))"),
    "cast": (traps.CAST_FAILURE, "(drop (ref.cast (ref $struct) (ref.i31 (local.get $turn))))"),
    "null descriptor": (
        traps.NULL_DESCRIPTOR_REFERENCE, "(drop (struct.new_desc $described (ref.null none)))"
    ),
    "descriptor cast": (
        traps.DESCRIPTOR_CAST_FAILURE,
        "(drop (ref.cast_desc_eq (ref $described) (ref.i31 (local.get $turn)) (struct.new $own)))",
    ),
    "array": (
        traps.ARRAY_OUT_OF_BOUNDS,
        "(drop (array.get $array (array.new_default $array (local.get $turn)) (local.get $turn)))",
    ),
    "fuel": (traps.OUT_OF_FUEL, "(loop $on (drop (call $bump (i32.const 1))) (br $on))"),
    "depth": (traps.DEPTH_EXHAUSTED, "(call $deep)"),
    "host": (traps.HOST_LIMIT, "(call $again)"),
}  # fmt: skip
#: What a guest's instructions don't do: they come from outside, are no traps, or need a shared memory.
OTHERS = {
    traps.NO_TRAP, traps.TIMEOUT, traps.EXPECTED_SHARED_MEMORY, traps.UNCAUGHT_EXCEPTION, traps.HOST_EXCEPTION,
    traps.HOST_WAIT, traps.CHANGE_TIER,
}  # fmt: skip


def trap_of(what: str, code: int, **settings: Any) -> tuple[Any, ...]:
    """The reason of the trap, and its frames."""
    deterministic = code in (traps.DEPTH_EXHAUSTED, traps.HOST_LIMIT)
    engine = wl.Engine(fuel=code == traps.OUT_OF_FUEL, deterministic=deterministic, **settings)
    limits = {"memory_limit": 1 << 18} if code == traps.OUT_OF_MEMORY else {}
    store = wl.Store(engine, fuel=10_000 if engine.fuel else None, **limits)
    instance = wl.Instance(wl.Module(MODULE.replace("WHAT", what), engine), store=store)
    with pytest.raises(wl.Trap) as caught:
        instance.exports.main()
    stacks: dict[Any, int] = {}
    frames = caught.value.frames
    return (
        caught.value.code,
        *((frame.func_index, frame.offset, stacks.setdefault(frame.continuation, len(stacks))) for frame in frames),
    )


@pytest.fixture(params=[0, 1, 2], ids=["code", "mixed", "mixed otherwise"])
def mixing(request: pytest.FixtureRequest) -> Iterator[int]:
    before = set_mixing(request.param)
    yield request.param
    set_mixing(before)


@pytest.mark.parametrize("case", CASES)
def test_kinds_of_traps(case: str, mixing: int) -> None:
    code, what = CASES[case]
    # Fuel is paid where code is translated, too.
    wanted = trap_of(what, code, tier="interpreter", translation="eager")
    assert wanted[0] == traps.TRAP_REASONS[code] and len(wanted) > 3
    assert trap_of(what, code, tier="baseline", translation="eager") == wanted


def test_every_kind_of_trap_has_a_case() -> None:
    assert {code for code, _ in CASES.values()} | OTHERS == set(range(len(traps.TRAP_REASONS)))


def test_random_faults(mixing: int) -> None:
    """Of memory accesses, in functions full of them."""
    engines = [wl.Engine(tier="interpreter")]
    engines += [wl.Engine(tier="baseline", translation="eager", memory=memory) for memory in ("auto", "checked")]
    for case in range(12):
        found = differences(choices_of(77 + mixing, case), engines)
        assert not found, f"case {case}: {found[0]}"
