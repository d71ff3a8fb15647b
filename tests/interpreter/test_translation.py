"""What goes wrong easily in one-pass translation with values that stay unread: small functions, one trap each."""

from __future__ import annotations

import pytest

import wasmloom as wl

#: Name → body of a function of (i32 $x, i32 $y, i64 $l, f64 $d) with one memory, arguments, results.
CASES: dict[str, tuple[str, tuple[float, ...], object]] = {
    "an unread local survives its write": (
        "(result i32 i32) (local.get $x) (local.set $x (i32.const 9)) (local.get $x)",
        (5, 0, 0, 0),
        (5, 9),
    ),
    "two unread copies of a local survive its write": (
        "(result i32) (local.get $x) (local.get $x) (local.set $x (local.get $y)) (i32.sub) (i32.add (local.get $x))",
        (5, 3, 0, 0),
        3,
    ),
    "locals change places": (
        "(result i32 i32) (local.get $x) (local.get $y) (local.set $x) (local.set $y) (local.get $x) (local.get $y)",
        (5, 3, 0, 0),
        (3, 5),
    ),
    "an unread local survives a write in one arm only": (
        "(result i32 i32) (local.get $x) (if (local.get $y) (then (local.set $x (i32.const 9)))) (local.get $x)",
        (5, 1, 0, 0),
        (5, 9),
    ),
    "an unread local survives a write in a loop": (
        """(result i32 i32) (local.get $x)
           (loop (local.set $x (i32.add (local.get $x) (i32.const 1)))
             (br_if 0 (i32.lt_s (local.get $x) (i32.const 9))))
           (local.get $x)""",
        (5, 0, 0, 0),
        (5, 9),
    ),
    "what begins a loop is not done before it": (
        """(result i32) (i32.add (local.get $y) (i32.const 0))
           (loop (param i32) (local.set $x)
             (i32.add (local.get $x) (i32.const 1)) (br_if 0 (i32.lt_s (local.get $x) (i32.const 9))) (drop))
           (local.get $x)""",
        (0, 5, 0, 0),
        9,
    ),
    "a select before a loop is not changed by its first write": (
        """(result i32) (select (local.get $y) (i32.const 7) (local.get $x))
           (loop (param i32) (local.set $x)
             (i32.add (local.get $x) (i32.const 1)) (br_if 0 (i32.lt_s (local.get $x) (i32.const 9))) (drop))
           (local.get $x)""",
        (1, 5, 0, 0),
        9,
    ),
    "address and value are the local that was just written": (
        """(result i32) (local.tee $x (i32.and (local.get $y) (i32.const 63))) (local.get $x) (i32.store)
           (i32.load (local.get $x))""",
        (0, 0x1234, 0, 0),
        0x34,
    ),
    "both operands are the local that was just written": (
        "(result i32) (local.tee $x (i32.add (local.get $y) (i32.const 1))) (local.get $x) (i32.mul)",
        (0, 6, 0, 0),
        49,
    ),
    "both operands are the float that was just written": (
        "(result f64) (local.tee $d (f64.neg (local.get $d))) (local.get $d) (f64.div)",
        (0, 0, 0, 6.0),
        1.0,
    ),
    "address in one accumulator, value in the other": (
        """(result f64) (i32.and (local.get $x) (i32.const 63)) (f64.neg (local.get $d)) (f64.store offset=8)
           (f64.load offset=8 (i32.and (local.get $x) (i32.const 63)))""",
        (0x107, 0, 0, 2.5),
        -2.5,
    ),
    "an accumulator below a block is needed after it": (
        """(result i32) (i32.add (local.get $x) (i32.const 1))
           (block (br_if 0 (local.get $y)) (local.set $x (i32.mul (local.get $x) (i32.const 3))))
           (local.get $x) (i32.sub)""",
        (5, 0, 0, 0),
        -9,
    ),
    "a comparison is taken over by the branch after it, not by one further on": (
        """(result i32) (i32.lt_s (local.get $x) (local.get $y)) (local.set $x (i32.const 100))
           (if (result i32) (then (local.get $x)) (else (i32.const 0)))""",
        (1, 2, 0, 0),
        100,
    ),
    "a comparison's operand is written before its branch": (
        """(result i32) (i32.lt_s (local.get $x) (local.get $y)) (local.tee $x) (i32.eqz)
           (if (result i32) (then (i32.const 10)) (else (local.get $x)))""",
        (1, 2, 0, 0),
        1,
    ),
    "a negated float comparison is no comparison the other way round": (
        """(result i32) (if (result i32) (i32.eqz (f64.lt (local.get $d) (f64.const 1)))
             (then (i32.const 1)) (else (i32.const 0)))""",
        (0, 0, 0, float("nan")),
        1,
    ),
    "an if of a float comparison that a NaN fails": (
        """(result i32) (if (result i32) (f64.ge (local.get $d) (f64.const 1))
             (then (i32.const 1)) (else (i32.const 0)))""",
        (0, 0, 0, float("nan")),
        0,
    ),
    "a branch with a value leaves what it doesn't take": (
        """(result i32) (block (result i32)
             (i32.const 1) (i32.const 2) (i32.const 3) (br_if 0 (local.get $x)) (i32.add) (i32.add))""",
        (0, 0, 0, 0),
        6,
    ),
    "a taken branch moves its value to the block's height": (
        """(result i32) (block (result i32)
             (i32.const 1) (i32.const 2) (i32.const 3) (br_if 0 (local.get $x)) (i32.add) (i32.add))""",
        (1, 0, 0, 0),
        3,
    ),
    "values of a branch change places on a loop's back edge": (
        """(result i32 i32) (local $a i32) (local $b i32) (i32.const 1) (i32.const 2)
           (loop (param i32 i32) (result i32 i32)
             (local.set $b) (local.set $a) (local.get $b) (local.get $a)
             (br_if 0 (local.tee $x (i32.sub (local.get $x) (i32.const 1)))))""",
        (3, 0, 0, 0),
        (2, 1),
    ),
    "dead code does not revive at an inner end": (
        """(result i32) (block (br 0) (block (br 1)) (drop (i32.add)) (block (result i32) (unreachable)) (drop))
           (i32.const 4)""",
        (0, 0, 0, 0),
        4,
    ),
    "an i64 constant that is too large for an immediate": (
        "(result i64) (i64.sub (i64.const 0x100000000) (i64.add (local.get $l) (i64.const -0x80000001)))",
        (0, 0, 3, 0),
        0x100000000 - 3 + 0x80000001,
    ),
    "constants on both sides": (
        "(result i64) (i64.sub (i64.const 0x7fffffffffff) (i64.const 0x80000000))",
        (0, 0, 0, 0),
        0x7FFFFFFFFFFF - 0x80000000,
    ),
    "constants on both sides of a comparison and a branch": (
        "(result i32) (block (br_if 0 (i32.gt_s (i32.const 1) (i32.const 2))) (return (i32.const 8))) (i32.const 9)",
        (0, 0, 0, 0),
        8,
    ),
    "a tee's local is written again before its value is used": (
        "(result i32) (local.tee $x (i32.const 4)) (local.set $x (i32.const 5)) (i32.add (local.get $x))",
        (0, 0, 0, 0),
        9,
    ),
    "a global is read before it is written": (
        "(result i64) (global.get $g) (global.set $g (i64.const 50)) (i64.sub (global.get $g))",
        (0, 0, 0, 0),
        7 - 50,
    ),
    "a value waits in the accumulator for a call": (
        "(result i64) (i64.add (local.get $l) (i64.const 1)) (call $id (i64.const 10)) (i64.mul)",
        (0, 0, 4, 0),
        50,
    ),
    "a call's result is in the accumulator, and a local is written with it": (
        "(result i64) (local.set $l (call $id (i64.const 10))) (call $id (i64.const 3)) (i64.sub (local.get $l))",
        (0, 0, 4, 0),
        -7,
    ),
    "br_table moves values to labels at different heights": (
        """(result i32)
           (block $a (result i32) (i32.const 100)
             (block $b (result i32) (i32.const 200)
               (block $c (result i32) (i32.const 300) (i32.const 7) (br_table $a $b $c (local.get $x)))
               (drop) (drop) (i32.const 1))
             (i32.add))
           """,
        (1, 0, 0, 0),
        107,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fuel", [False, True])
def test_translation(name: str, fuel: bool) -> None:
    body, arguments, result = CASES[name]
    engine = wl.Engine(translation="eager", fuel=fuel)
    module = wl.Module(
        f"""(module (memory 1) (global $g (mut i64) (i64.const 7))
              (func $id (param i64) (result i64) (local.get 0))
              (func (export "f") (param $x i32) (param $y i32) (param $l i64) (param $d f64) {body}))""",
        engine,
    )
    store = wl.Store(engine, fuel=1 << 30 if fuel else None)
    assert wl.Instance(module, store=store).exports.f(*arguments) == result
