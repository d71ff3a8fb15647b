"""Random programs over exceptions and continuations: every tier does what the model does."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.stacks.model import Model, Writer, programs
from tests.stacks.test_model import outcome

EXAMPLES = int(os.environ.get("WASMLOOM_EXAMPLES", "300")) // 6
COMPILED = [name for name in ENGINES if name != "interpreter"]


@pytest.mark.parametrize("name", COMPILED)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(program=programs)
def test_programs_do_what_the_model_does(name, program):
    assert outcome(Writer(program).module(), engine_of(name)) == Model(program).run()


VALUES = ("i32", "i64", "f32", "f64")


def literal(type: str, number: int) -> str:
    return f"({type}.const {number if type[0] == 'i' else f'{number}.5'})"


def payload_module(there: list[str], back: list[str], depth: int, loops: int) -> str:
    """A continuation that suspends with values below some calls, in a loop, and gets others back; it returns all."""
    sends = " ".join(literal(type, 10 + i) for i, type in enumerate(there))
    replies = " ".join(literal(type, 50 + i) for i, type in enumerate(back))
    keeps = "".join(f"(local.set ${'b'}{i})" for i in reversed(range(len(back))))
    takes = "".join(f"(local.set $a{i})" for i in reversed(range(len(there))))
    chain = "".join(f"(func $c{n} (result {' '.join(back)}) (call $c{n + 1}))" for n in range(depth))
    locals_b = " ".join(f"(local $b{i} {type})" for i, type in enumerate(back))
    locals_a = " ".join(f"(local $a{i} {type})" for i, type in enumerate(there))
    got_b = " ".join(f"(local.get $b{i})" for i in range(len(back)))
    got_a = " ".join(f"(local.get $a{i})" for i in range(len(there)))
    results = f"{' '.join(there)} {' '.join(back)} i32"
    return f"""(module
      (type $body (func (result {" ".join(back)}))) (type $k (cont $body))
      (type $rest (func (param {" ".join(back)}) (result {" ".join(back)}))) (type $r (cont $rest))
      (tag $t (param {" ".join(there)}) (result {" ".join(back)}))
      {chain}
      (func $c{depth} (type $body) (suspend $t {sends}))
      (func $g (type $body) (local $n i32) {locals_b}
        (local.set $n (i32.const {loops}))
        (loop $l (call $c0) {keeps} (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        {got_b})
      (elem declare func $g)
      (func (export "run") (result {results}) (local $r (ref null $r)) (local $n i32) {locals_a} {locals_b}
        (block $done (result {" ".join(back)})
          (block $h (result {" ".join(there)} (ref $r))
            (br $done (resume $k (on $t $h) (cont.new $k (ref.func $g)))))
          (local.set $r) {takes}
          (loop $l (result {" ".join(back)})
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (block $again (result {" ".join(there)} (ref $r))
              (br $done (resume $r (on $t $again) {replies} (local.get $r))))
            (local.set $r) {takes} (br $l)))
        {keeps} {got_a} {got_b} (local.get $n)))"""


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(
    there=st.lists(st.sampled_from(VALUES), max_size=10),
    back=st.lists(st.sampled_from(VALUES), max_size=10),
    depth=st.integers(0, 40),
    loops=st.integers(1, 5),
    name=st.sampled_from(COMPILED),
)
def test_values_go_both_ways(there: list[str], back: list[str], depth: int, loops: int, name: str) -> None:
    """Up to ten of all types, from deep calls, in loops."""
    expected = [10 + i + 0.5 * (type[0] == "f") for i, type in enumerate(there)]
    expected += [50 + i + 0.5 * (type[0] == "f") for i, type in enumerate(back)] + [loops]
    for tier in ("interpreter", name):
        found = exports_of(payload_module(there, back, depth, loops), engine_of(tier)).run()
        assert list(found if isinstance(found, tuple) else (found,)) == expected, tier


@pytest.mark.parametrize("name", ENGINES)
def test_handlers_at_several_depths(name: str) -> None:
    """A tag's handler is searched from the inside; what lies between goes along, with its handlers and catches."""
    source = """(module (type $v (func (result i32))) (type $k (cont $v)) (type $w (func (param i32) (result i32)))
      (type $r (cont $w)) (tag $a (param i32) (result i32)) (tag $b (param i32) (result i32)) (tag $e (param i32))
      (elem declare func $inner $middle $outer)
      (func $inner (type $v) (local $x i32)
        (local.set $x (suspend $a (i32.const 1)))
        (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 10)) (suspend $b (i32.const 2))))
        (block $c (result i32) (try_table (catch $e $c) (drop (suspend $b (i32.const 3)))) (unreachable))
        (i32.add (i32.mul (local.get $x) (i32.const 10))))
      (func $middle (type $v)
        (local $r (ref null $r))
        (block $h (result i32 (ref $r)) (return (resume $k (on $a $h) (cont.new $k (ref.func $inner)))))
        (local.set $r) (drop)
        (resume $r (i32.const 7) (local.get $r)))
      (func $outer (type $v) (resume $k (cont.new $k (ref.func $middle))))
      (func (export "run") (result i32) (local $r (ref null $r))
        (block $h (result i32 (ref $r)) (return (resume $k (on $b $h) (cont.new $k (ref.func $outer)))))
        (local.set $r) (drop)
        (block $h (result i32 (ref $r)) (return (resume $r (on $b $h) (i32.const 8) (local.get $r))))
        (local.set $r) (drop)
        (i32.add (resume_throw $r $e (i32.const 9) (local.get $r)) (i32.const 1000))))"""
    assert outcome_of(exports_of(source, engine_of(name)).run) == ("result", 1789)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("end", ["unreachable", "throw", "drop"])
def test_many_continuations_end_in_every_way(name: str, end: str) -> None:
    """Traps, exceptions and references that nobody keeps, over and over, in a store with little memory."""
    finish = {"unreachable": "(unreachable)", "throw": "(throw $e)", "drop": ""}[end]
    source = f"""(module (type $v (func)) (type $k (cont $v)) (tag $t) (tag $e) (elem declare func $g $h)
      (func $g (suspend $t) {finish}) (func $h (resume $k (cont.new $k (ref.func $g))))
      (func (export "run") (local $k (ref null $k))
        (block $on (result (ref $k)) (resume $k (on $t $on) (cont.new $k (ref.func $h))) (return))
        (local.set $k)
        {"" if end == "drop" else "(resume $k (local.get $k))"}))"""
    exports = exports_of(source, engine_of(name), memory_limit=4 << 20)
    wanted = {"unreachable": "trap", "throw": "exception", "drop": "result"}[end]
    for _ in range(3000):
        assert outcome_of(exports.run)[0] == wanted


def test_tiers_share_nothing() -> None:
    """Stores of different tiers live side by side in a thread."""
    source = '(module (func (export "run") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3))))'
    everything = [exports_of(source, engine_of(name)) for name in ENGINES]
    for x in range(50):
        assert [exports.run(x) for exports in everything] == [3 * x] * len(everything)
    assert wl.Engine(tier="compiler", cache=False).tier == "compiler"
