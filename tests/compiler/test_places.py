"""Accesses beyond a memory's end: every tier traps, and says at which instruction, whatever LLVM makes of the code."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.fuzz.faults import CALLEES, LEAVING, MANY, choices_of, differences

PAGE = 65536
#: Addresses: the last that have 8, 4, 2, 1 bytes of a page, what is partly beyond it, and what is beyond it.
ADDRESSES = (0, PAGE - 8, PAGE - 7, PAGE - 4, PAGE - 3, PAGE - 2, PAGE - 1, PAGE, 1 << 20, -1)
#: Five addresses, of which one faults.
FAULTING = [tuple(PAGE if place == wrong else 8 for place in range(5)) for wrong in range(5)]
TYPES = ("i32", "i64", "f32", "f64")
LOADS = [
    *(f"{type}.load" for type in TYPES),
    *(f"i32.load{width}_{sign}" for width in (8, 16) for sign in "su"),
    *(f"i64.load{width}_{sign}" for width in (8, 16, 32) for sign in "su"),
]

#: Bodies of (param $a i32) (param $b i32) (param $c i32) (result i32): addresses and a condition.
SHAPES = {
    "a store after another": "(i32.store (local.get $a) (i32.const 1)) (i32.store (local.get $b) (i32.const 1))",
    "a sum of two loads": "(return (i32.add (i32.load (local.get $a)) (i32.load (local.get $b))))",
    "three loads, the first used last": """(local.set $x (i32.load (local.get $a)))
        (local.set $y (i32.load (local.get $b)))
        (return (i32.sub (i32.mul (local.get $y) (local.get $y)) (local.get $x)))""",
    "a load and its conversion": """(local.set $x (i32.and (i32.load16_u (local.get $a)) (i32.const 511)))
        (return (i32.add (i32.load8_s (local.get $x)) (i32.load (local.get $b))))""",
    "a comparison with memory": """(return (if (result i32) (i32.lt_u (local.get $c) (i32.load (local.get $a)))
        (then (i32.load (local.get $b))) (else (i32.const 1))))""",
    "one instruction loads, adds and stores": """(i32.store (local.get $a)
        (i32.add (i32.load (local.get $a)) (local.get $c)))""",
    "that with another load between": """(i32.store (local.get $a)
        (i32.add (i32.load (local.get $a)) (i32.load (local.get $b))))""",
    "that with a global between": """(i32.store (local.get $a)
        (i32.xor (i32.load (local.get $a)) (global.get $g))) (global.set $g (i32.load (local.get $b)))""",
    "a sign that is changed in memory": """(f32.store (local.get $b) (f32.neg (f32.load (local.get $a))))""",
    "a sign that is changed, in a global": """(global.set $f (f32.neg (f32.load (local.get $a))))
        (i32.store (local.get $b) (i32.const 1))""",
    "bits of a float": """(i64.store (local.get $b) (i64.reinterpret_f64 (f64.load (local.get $a))))""",
    "the same in both arms": """(if (local.get $c) (then (i32.store (local.get $a) (i32.const 7)))
        (else (i32.store (local.get $a) (i32.const 7)))) (i32.store (local.get $b) (i32.const 7))""",
    "loads at both arms' beginning": """(return (if (result i32) (local.get $c)
        (then (i32.add (i32.load (local.get $a)) (i32.const 3)))
        (else (i32.mul (i32.load (local.get $a)) (i32.load (local.get $b))))))""",
    "loads of different places at both arms' end": """(local.set $x (if (result i32) (local.get $c)
        (then (i32.load (local.get $a))) (else (i32.load (local.get $b)))))
        (i32.store (local.get $a) (local.get $x))""",
    "loads as bits at both arms' end": """(return (if (result i32) (local.get $c)
        (then (i32.reinterpret_f32 (f32.load (local.get $a))))
        (else (i32.reinterpret_f32 (f32.load (local.get $b))))))""",
    "stores in three cases": """(block (block (block (br_table 0 1 2 (local.get $c)))
        (i32.store8 (local.get $a) (i32.const 1)) (return (i32.const 1)))
        (i32.store8 (local.get $b) (i32.const 1)) (return (i32.const 1))) (i32.store8 (local.get $a) (i32.const 1))""",
    "a loop with two accesses": """(loop $l (i32.store offset=4 (local.get $a) (i32.load8_u (local.get $b)))
        (local.set $b (i32.add (local.get $b) (i32.const 3)))
        (br_if $l (i32.lt_u (local.tee $a (i32.add (local.get $a) (i32.const 8))) (i32.const 66000))))""",
    "what nobody needs": "(drop (i32.load (local.get $a))) (drop (f64.load (local.get $b)))",
    "behind a call": """(call $nothing) (i32.store (local.get $a) (i32.const 1)) (call $nothing)
        (i32.store (local.get $b) (i32.const 1)) (call $nothing)""",
    "as an argument": "(return (call $same (i32.extend16_s (i32.load (local.get $a)))))",
    "a selected load": "(return (select (i32.load (local.get $a)) (i32.load (local.get $b)) (local.get $c)))",
    "a load that is one arm's only": """(local.set $x (i32.load (local.get $a)))
        (local.set $y (i32.load (local.get $b)))
        (if (local.get $c) (then (local.set $y (local.get $x)))) (return (local.get $y))""",
    "a load added to what is selected": """(f64.store (local.get $b) (f64.add (f64.load (local.get $a))
        (if (result f64) (local.get $c) (then (f64.convert_i32_s (local.get $x))) (else (f64.const 1)))))""",
    "wide, then narrow in the same place": """(drop (i64.load (local.get $a))) (i32.store8 (local.get $a) (i32.const 1))
        (i32.store offset=8 (local.get $a) (i32.const 1))""",
    "narrow, then wide in the same place": """(i32.store8 (local.get $a) (i32.const 1)) (drop (i64.load (local.get $a)))
        (i32.store16 offset=100 (local.get $a) (i32.const 1))""",
    "in another memory": """(i32.store $other (local.get $a) (i32.add (i32.load (local.get $b)) (i32.const 1)))
        (i32.store (local.get $a) (i32.load $other (local.get $b)))""",
}  # fmt: skip


#: Functions with names, for one module that has them all: what is compiled is the same for all tests of an engine.
Functions = tuple[tuple[str, str], ...]


@cache
def module(name: str, functions: Functions) -> tuple[wl.Module, wl.Engine]:
    engine = engine_of(name)
    source = " ".join(f'(func (export "{export}") {function})' for export, function in functions)
    return wl.Module(f"{BEGIN} {source})", engine), engine


BEGIN = """(module (memory 1) (memory $other 1)
  (global $g (mut i32) (i32.const 3)) (global $f (mut f32) (f32.const 3))
  (func $nothing) (func $same (param i32) (result i32) (local.get 0))"""


def exports_in(name: str, functions: Functions) -> Any:
    """The exports of that module, in a store of its own."""
    made, engine = module(name, functions)
    return wl.Instance(made, store=wl.Store(engine)).exports


ACCESSES = tuple(
    (
        shape,
        f"(param $a i32) (param $b i32) (param $c i32) (result i32) (local $x i32) (local $y i32) {body} (i32.const 0)",
    )
    for shape, body in SHAPES.items()
)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "interpreter"])
@pytest.mark.parametrize("shape", SHAPES)
def test_place_of_an_access(shape: str, name: str) -> None:
    some = (8, PAGE - 2, PAGE)
    calls = [(a, b, c) for a in some for b in some for c in (0, 1, 2)]
    wanted, found = (
        [outcome_of(run, *call) for call in calls]
        for run in (exports_in(engine, ACCESSES)[shape] for engine in ("interpreter", name))
    )
    assert any(outcome[0] == "trap" for outcome in wanted)
    assert found == wanted


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "interpreter"])
@pytest.mark.parametrize("number", range(len(LEAVING)))
def test_place_of_an_access_before_a_call(number: int, name: str) -> None:
    """What the call gets is there before the access, whose value it doesn't need."""
    call = LEAVING[number].format(" ".join(f"({type}.const {at})" for at, type in enumerate(MANY)))
    source = " ".join(f"(drop ({type}.load (local.get {at}))) {call}" for at, type in enumerate(TYPES))
    text = f"""(module (memory 1) (global $g_i32 (mut i32) (i32.const 5)) {CALLEES}
      (func (export "run") (param i32 i32 i32 i32 i32 i32) (result i32) (local $x i32) {source}
        (i32.store (local.get 4) (local.get $x)) {call}
        (local.set $x (i32.load8_s (local.get 4))) {call} (local.get $x)))"""
    wanted, found = (
        [outcome_of(run, *addresses, 0) for addresses in FAULTING]
        for run in (exports_of(text, engine_of(engine)).run for engine in ("interpreter", name))
    )
    assert [outcome[0] for outcome in wanted] == ["trap"] * 5
    assert found == wanted


def selecting(load: str) -> Functions:
    """LLVM would load only where the value is selected: by a branch, or with a mask. Both ways round."""
    type = load[:3]
    return (
        (
            f"{load} first",
            f"""(param i32 {type} i32) (result {type})
              (select ({load} (local.get 0)) (local.get 1) (local.get 2))""",
        ),
        (
            f"{load} second",
            f"""(param i32 {type} i32) (result {type})
              (select (local.get 1) ({load} (local.get 0)) (local.get 2))""",
        ),
        (
            f"{load} branch",
            f"""(param i32 {type} i32) (result {type}) (local $x {type})
              (local.set $x ({load} (local.get 0)))
              (if (local.get 2) (then (local.set 1 (local.get $x)))) (local.get 1)""",
        ),
    )


SELECTS = tuple(function for load in LOADS for function in selecting(load))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("load", LOADS)
def test_a_load_for_select_traps(load: str, name: str) -> None:
    exports = exports_in(name, SELECTS)
    for export, _ in selecting(load):
        function = exports[export]
        for condition in (0, 1):
            assert function(PAGE - 8, 1, condition) in (0, 1)
            with pytest.raises(wl.Trap, match="out of bounds memory access"):
                function(PAGE, 1, condition)


def using(load: str) -> Functions:
    """The result doesn't depend on all bytes of what is loaded, as with a shift by it."""
    type = load[:3]
    uses = [
        f"({type}.{operation} ({type}.const 1) {{}})" for operation in ("shl", "shr_u", "shr_s", "rotl", "rotr")
    ] + [f"({type}.and {{}} ({type}.const 1))", f"({type}.extend8_s {{}})", f"({type}.mul {{}} ({type}.const 0))"]
    return tuple(
        (f"{load} in {use}", f"(param i32) (result {type}) {use.format(f'({load} (local.get 0))')}") for use in uses
    )


INTEGER_LOADS = [load for load in LOADS if load[0] == "i"]
USES = tuple(function for load in INTEGER_LOADS for function in using(load))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("load", INTEGER_LOADS)
def test_all_bytes_of_a_load_count(load: str, name: str) -> None:
    width = int("".join(char for char in load[4:] if char.isdigit()) or load[1:3]) // 8
    exports = exports_in(name, USES)
    for use, _ in using(load):
        for address in ADDRESSES:
            expected = "result" if 0 <= address <= PAGE - width else "trap"
            assert outcome_of(exports[use], address)[0] == expected, (use, address)


#: Both arms call the same with the same arguments.
CALLS = {
    "at the end": "(if (local.get 0) (then (call $f (i32.const 1))) (else (call $f (i32.const 1))))",
    "at the beginning": """(if (local.get 0) (then (call $f (i32.const 1)) (global.set 0 (i32.const 2)))
        (else (call $f (i32.const 1)) (global.set 0 (i32.const 3))))""",
    "indirectly": """(if (local.get 0) (then (call_indirect (type $t) (i32.const 1) (i32.const 0)))
        (else (call_indirect (type $t) (i32.const 1) (i32.const 0))))""",
    "in three cases": """(block (block (block (br_table 0 1 2 (local.get 0)))
        (call $f (i32.const 1)) (return)) (call $f (i32.const 1)) (return)) (call $f (i32.const 1))""",
    "on another stack": """(if (local.get 0) (then (resume $c (cont.new $c (ref.func $g))))
        (else (resume $c (cont.new $c (ref.func $g)))))""",
    "through a suspension": """(block $on (result (ref $c)) (resume $c (on $e $on) (cont.new $c (ref.func $h)))
        (return)) (local.set $k)
        (if (local.get 0) (then (resume $c (local.get $k))) (else (resume $c (local.get $k))))""",
}


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "interpreter"])
@pytest.mark.parametrize("calls", CALLS)
def test_place_of_a_call(calls: str, name: str) -> None:
    """Calls that LLVM could make one of are two in backtraces."""
    source = f"""(module (type $t (func (param i32))) (type $v (func)) (type $c (cont $v)) (tag $e)
      (table funcref (elem $f)) (global (mut i32) (i32.const 0))
      (func $f (param i32) (unreachable)) (func $g (call $f (i32.const 1)))
      (func $h (if (global.get 0) (then (suspend $e)) (else (suspend $e))) (unreachable))
      (elem declare func $g $h)
      (func (export "run") (param i32) (local $k (ref null $c)) {CALLS[calls]}))"""

    def places(engine: str) -> list[list[tuple[int, int]]]:
        run = exports_of(source, engine_of(engine)).run
        return [
            [(frame.func_index, frame.offset) for frame in outcome_of(run, number)[2]] for number in (0, 1, 2)
        ]  # continuations are numbered as they are made

    wanted = places("interpreter")
    assert wanted[0] != wanted[1]
    assert places(name) == wanted


def test_random_functions() -> None:
    engines = [engine_of(name) for name in ("interpreter", "compiler", "checked")]
    for case in range(8):
        assert differences(choices_of(7, case), engines) == [], f"case {case}"
