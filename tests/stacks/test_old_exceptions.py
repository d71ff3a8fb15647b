"""The old instructions for exceptions: `try`, `catch`, `catch_all`, `rethrow`, `delegate`, in all tiers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import wasmloom as wl
from tests.binary.build import CODE, FUNC, GLOBAL, TAG, TYPE, body, module, section, vec
from tests.compiler.test_osr import HEAD, check
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.conftest import PROJECT
from wasmloom.binary.decoder import decode_module
from wasmloom.compiler.bodies import mnemonics
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module
from wasmloom.validation.frames import types_at
from wasmloom.validation.validator import new_validator

pytestmark = pytest.mark.usefixtures("code_at_once")

TAGS = """
  (tag $i (export "i") (param i32)) (tag $none (export "none")) (tag $many (param i64 f64 f32 v128 i32))
  (func $throw (param i32)
    (if (i32.eq (local.get 0) (i32.const 1)) (then (throw $i (i32.const 10))))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (throw $none)))
    (if (i32.eq (local.get 0) (i32.const 3)) (then
      (throw $many (i64.const -5) (f64.const 2.5) (f32.const -1.25) (v128.const i32x4 1 2 3 4) (i32.const 6)))))
"""

#: What `run` does with an exception that its argument chooses (0: none), and what comes of 0, 1, 2, 3: a result, or the
#: payload of the exception that leaves it.
PROGRAMS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "clauses in order": (
        """(try (result i32) (do (call $throw (local.get 0)) (i32.const 1))
          (catch $i (i32.add (i32.const 100))) (catch $none (i32.const 2)) (catch_all (i32.const 3)))""",
        (1, 110, 2, 3),
    ),
    "values of all types, and operands below": (
        """(i32.const 1000) (i64.const 7)
        (try (result i32) (do (call $throw (local.get 0)) (i32.const 1))
          (catch $many
            (local.set $i) (local.set $v) (local.set $f) (local.set $d)
            (i64.add (i64.trunc_f64_s (f64.mul (local.get $d) (f64.const 2))))
            (i64.add (i64.trunc_f32_s (f32.mul (local.get $f) (f32.const -4)))) (i32.wrap_i64)
            (i32.mul (i32x4.extract_lane 3 (local.get $v))) (i32.add (local.get $i))))
        (local.set $i) (i32.wrap_i64) (i32.add) (i32.add (local.get $i))""",
        (1008, (10,), (), 1033),
    ),
    "no clauses": ("(try (do (call $throw (local.get 0)))) (i32.const 5)", (5, (10,), (), "many")),
    "a body that can't throw": ("(try (result i32) (do (i32.const 4)) (catch_all (i32.const 5)))", (4, 4, 4, 4)),
    "a body that always throws": (
        "(try (result i32) (do (throw $i (local.get 0))) (catch $i))", (0, 1, 2, 3)
    ),
    "a clause that leaves": (
        """(block $out (result i32)
          (try (do (call $throw (local.get 0))) (catch $i (br $out)) (catch_all (return (i32.const 9))))
          (i32.const 8))""",
        (8, 10, 9, 9),
    ),
    "parameters and several results": (
        """(i32.const 7) (i32.const 3)
        (try (param i32 i32) (result i32 i32) (do (call $throw (local.get 0)) (i32.add (i32.const 1)))
          (catch $i (i32.const 20)) (catch $none (i32.const 30) (i32.const 40)))
        (i32.sub)""",
        (3, -10, -10, "many"),
    ),
    "rethrow from any depth": (
        """(try (result i32)
          (do
            (try (result i32) (do (call $throw (local.get 0)) (i32.const 1))
              (catch $i
                (local.set $i)
                (try (result i32) (do (throw $none))
                  (catch $none (block (loop (if (local.get 0) (then (rethrow 4))))) (i32.const 2))))
              (catch_all (rethrow 0))))
          (catch $i (i32.add (i32.const 1))) (catch $none (i32.const 3)))""",
        (1, 11, 3, "many"),
    ),
    "a clause's exception isn't caught by its neighbours": (
        """(try (result i32)
          (do (try (result i32) (do (call $throw (local.get 0)) (i32.const 1))
            (catch $i (drop) (throw $none)) (catch $none (throw $i (i32.const 77))) (catch_all (throw $none))))
          (catch $i) (catch_all (i32.const 6)))""",
        (1, 6, 77, 6),
    ),
    "delegate to a try": (
        """(try $a (result i32)
          (do (try $b (result i32)
            (do (try (result i32) (do (call $throw (local.get 0)) (i32.const 1)) (delegate $a)))
            (catch_all (i32.const 50))))
          (catch $i (i32.add (i32.const 1))) (catch_all (i32.const 60)))""",
        (1, 11, 60, 60),
    ),
    "delegate to a block in a try": (
        """(try (result i32)
          (do (block $b
                (try (do (try (do (try (do (call $throw (local.get 0))) (delegate $b))) (catch_all (unreachable))))
                  (catch_all (unreachable))))
            (i32.const 2))
          (catch $i (i32.sub (i32.const 1))) (catch_all (i32.const 70)))""",
        (2, 9, 70, 70),
    ),
    "delegate to a clause": (
        """(try (result i32)
          (do (try (result i32) (do (throw $i (i32.const 8)))
            (catch $i (drop) (try (do (call $throw (local.get 0))) (delegate 0)) (i32.const 3))
            (catch_all (i32.const 80))))
          (catch $i (i32.add (i32.const 2))) (catch_all (i32.const 90)))""",
        (3, 12, 90, 90),
    ),
    "delegate to the caller": (
        "(try (do (try (do (call $throw (local.get 0))) (delegate 1))) (catch_all)) (i32.const 1)",
        (1, (10,), (), "many"),
    ),
    "delegate to a try_table": (
        """(block $h
          (try_table $t (catch $none $h)
            (try (do (try (do (call $throw (local.get 0))) (delegate $t))) (catch_all (unreachable)))
            (return (i32.const 1))))
        (i32.const 4)""",
        (1, (10,), 4, "many"),
    ),
    "delegate of what delegates": (
        """(try $a (result i32)
          (do (try $b (do (try $c (do (try (do (call $throw (local.get 0))) (delegate $c))) (delegate $a)))
                (catch_all (unreachable)))
            (i32.const 1))
          (catch_all (i32.const 5)))""",
        (1, 5, 5, 5),
    ),
    "both kinds": (
        """(block $h (result i32 exnref)
          (try_table (catch_ref $i $h)
            (try (do (call $throw (local.get 0)))
              (catch $none (try (do (throw $i (i32.const 3))) (catch_all (rethrow 0)))))
            (return (i32.const 1)))
          (unreachable))
        (local.set $e) (local.set $i)
        (try (result i32) (do (throw_ref (local.get $e))) (catch $i (i32.mul (local.get $i))))""",
        (1, 100, 9, "many"),
    ),
    "unreachable parts": (
        """(block $b (result i32)
          (br $b (i32.const 1))
          (try (do (throw $none)) (catch $i (drop) (try (do) (delegate 0))) (catch_all (rethrow 0)))
          (unreachable))
        (if (param i32) (result i32) (local.get 0)
          (then (drop) (try (result i32) (do (unreachable)) (catch_all (i32.const 2)) ))
          (else))""",
        (1, "unreachable", "unreachable", "unreachable"),
    ),
    "thrown before a body of either kind": (
        """(block $a (result i32)
          (call $throw (local.get 0))
          (try (do (nop) (try (do (throw $none)) (delegate 0))) (catch_all (drop (i32.const 3)) (br $a (i32.const 4))))
          (try_table (nop) (nop)) (i32.const 5))""",
        (4, (10,), (), "many"),
    ),
    "locals written on the way": (
        """(local.set $i (i32.const 1))
        (try (do (local.set $i (i32.const 2)) (call $throw (local.get 0)) (local.set $i (i32.const 3)))
          (catch $i (local.set $i (i32.add (local.get $i))))
          (catch_all (local.set $i (i32.add (local.get $i) (i32.const 40)))))
        (local.get $i)""",
        (3, 12, 42, 42),
    ),
}


def run(source: str, engine: wl.Engine, **settings: Any) -> list[Any]:
    """The outcomes of `run` with 0 to 3."""
    found = []
    exports = exports_of(source, engine, **settings)
    for argument in range(4):
        kind, *rest = outcome_of(exports.run, argument)
        if kind == "exception":
            found.append("many" if len(rest[0]) == 5 else rest[0])
        else:
            found.append(rest[0])
    return found


def program(name: str) -> str:
    return (
        f'(module {TAGS} (memory 1) (func (export "run") (param i32) (result i32)'
        f" (local $i i32) (local $e exnref) (local $d f64) (local $f f32) (local $v v128) {PROGRAMS[name][0]}))"
    )


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str, tier: str) -> None:
    assert run(program(name), engine_of(tier)) == list(PROGRAMS[name][1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_translated_lazily(name: str) -> None:
    assert run(program(name), wl.Engine(tier="interpreter", translation="lazy")) == list(PROGRAMS[name][1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_fuel_is_the_same_in_all_tiers(name: str) -> None:
    spent = set()
    for tier in ENGINES:
        store = wl.Store(wl.Engine(cache=False, fuel=True, **ENGINES[tier]), fuel=10_000)
        instance = wl.Instance(wl.Module(program(name), store.engine), {}, store=store)
        left = [store.fuel]
        for argument in range(4):
            outcome_of(instance.exports.run, argument)
            left.append(store.fuel)
        spent.add(tuple(left))
    assert len(spent) == 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_text_and_binary(name: str) -> None:
    binary = parse_module(program(name)).binary
    text = print_module(binary)
    assert parse_module(text).binary == binary


@pytest.mark.parametrize("tier", ENGINES)
def test_records_are_left_in_loops(tier: str) -> None:
    """Whatever way a `try` is left, what is thrown behind it goes past it."""
    source = """
      (tag $a) (tag $b (param i32))
      (func $maybe (param i32) (if (i32.and (local.get 0) (i32.const 1)) (then (throw $a))))
      (func (export "run") (param $n i32) (result i32) (local $sum i32)
        (try $outer
          (do
            (loop $next
              (block $done
                (try $inner
                  (do
                    (block $skip
                      (try (do (br_if $skip (i32.and (local.get $n) (i32.const 2))) (call $maybe (local.get $n)))
                        (delegate $inner)))
                    (br_if $done (i32.and (local.get $n) (i32.const 4))))
                  (catch $a
                    (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
                    (br_if $done (i32.and (local.get $n) (i32.const 8))))))
              (try (do (call $maybe (i32.const 1))) (catch $b (drop) (unreachable))
                (catch_all (local.set $sum (i32.add (local.get $sum) (i32.const 1000)))))
              (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (throw $b (i32.const 1_000_000)))
          (catch $b (local.set $sum (i32.add (local.get $sum)))))
        (call $maybe (i32.const 1))
        (local.get $sum))
      (func (export "all") (param i32) (result i32)
        (try (result i32) (do (call 1 (local.get 0))) (catch $a (i32.const -1))))
    """
    exports = exports_of(source, engine_of(tier))
    # The last call in `run` throws past everything in it.
    assert outcome_of(exports.run, 200) == ("exception", ())
    assert exports.all(200) == -1


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("thrower", ["old", "new"])
def test_across_modules(tier: str, thrower: str) -> None:
    """One kind throws on, as it has caught it, what the other one's module has thrown."""
    engine = engine_of(tier)
    store = wl.Store(engine)
    again = {
        "old": "(try (do (call $raise (local.get 0))) (catch_all (rethrow 0)))",
        "new": """(block $h (result exnref) (try_table (catch_all_ref $h) (call $raise (local.get 0))) (return))
          (throw_ref)""",
    }
    first = f"""
      (tag $e (export "e") (param i32 i64))
      (func $raise (param i32) (throw $e (local.get 0) (i64.const 9)))
      (func (export "raise") (param i32) {again[thrower]})
    """
    catching = {
        "new": """(block $h (result i32 i64) (try_table (catch $e $h) (call $raise (i32.const 5))) (unreachable))
          (i32.wrap_i64) (i32.add)""",
        "old": "(try (result i32) (do (call $raise (i32.const 5)) (unreachable)) (catch $e (i32.wrap_i64) (i32.add)))",
    }
    second = f"""
      (import "first" "raise" (func $import (param i32))) (import "first" "e" (tag $e (param i32 i64)))
      (func $raise (param i32) (call $import (local.get 0)))
      (func (export "catch") (result i32) {catching["new" if thrower == "old" else "old"]})
      (func (export "again") (param i32) {again["new" if thrower == "old" else "old"]})
    """
    one = wl.Instance(wl.Module(first, engine), {}, store=store)
    two = wl.Instance(wl.Module(second, engine), {"first": dict(one.exports)}, store=store)
    assert two.exports.catch() == 14
    with pytest.raises(wl.WasmException) as caught:
        two.exports.again(3)
    assert caught.value.payload == (3, 9)


@pytest.mark.parametrize("tier", ENGINES)
def test_exceptions_of_python(tier: str) -> None:
    """Guests catch those with tags; others pass, and are the same objects then."""
    engine = engine_of(tier)
    raised: list[Exception] = []

    def fail(number: int) -> None:
        error = ValueError(number) if number else wl.WasmException(exports.e, 7)
        raised.append(error)
        raise error

    source = """
      (import "env" "fail" (func $fail (param i32))) (tag $e (export "e") (param i32))
      (func (export "catch") (param i32) (result i32)
        (try (result i32) (do (call $fail (local.get 0)) (i32.const 1)) (catch $e) (catch_all (i32.const 2))))
      (func (export "pass") (param i32)
        (try (do (try (do (call $fail (local.get 0))) (catch_all (rethrow 0)))) (catch $e (drop) (rethrow 0))))
      (func (export "delegate") (param i32)
        (try (do (try (do (call $fail (local.get 0))) (delegate 1))) (catch_all)))
    """
    exports = exports_of(source, engine, {"env": {"fail": fail}})
    assert exports.catch(0) == 7
    with pytest.raises(ValueError, match="5"):
        exports.catch(5)
    for name in ("pass", "delegate"):
        for number in (0, 4):
            with pytest.raises((ValueError, wl.WasmException)) as caught:
                exports[name](number)
            if number:
                assert caught.value is raised[-1]
            else:
                assert isinstance(caught.value, wl.WasmException) and caught.value.payload == (7,)


@pytest.mark.parametrize("tier", ENGINES)
def test_an_exception_lives_as_long_as_its_clause(tier: str) -> None:
    """Only the clause knows it; the collector finds it all the same."""
    store = wl.Store(engine_of(tier))
    source = """
      (import "env" "collect" (func $collect)) (tag $e (param i64 i64))
      (func $one (try (do (throw $e (i64.const 1) (i64.const 2))) (catch_all)))
      (func $many (local $n i32) (local.set $n (i32.const 50))
        (loop $l (call $one) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "run") (result i64 i64)
        (try (result i64 i64)
          (do (try (do (throw $e (i64.const 77) (i64.const 88)))
                (catch_all (call $many) (call $collect) (call $many) (rethrow 0)))
            (unreachable))
          (catch $e)))
    """
    instance = wl.Instance(wl.Module(source, store.engine), {"env": {"collect": store.gc}}, store=store)
    for _ in range(3):
        assert instance.exports.run() == (77, 88)


@pytest.mark.parametrize("tier", ENGINES)
def test_continuations_wait_in_bodies_and_clauses(tier: str) -> None:
    source = """
      (type $v (func)) (type $k (cont $v)) (tag $y (param i32)) (tag $e (param i32))
      (func $work
        (try (do (suspend $y (i32.const 1)) (throw $e (i32.const 5)))
          (catch $e
            (suspend $y)
            (try (do (suspend $y (i32.const 2)) (rethrow 1)) (catch $e (suspend $y) (suspend $y (i32.const 3)))))))
      (elem declare func $work)
      (func (export "run") (result i32) (local $sum i32) (local $k (ref null $k))
        (local.set $k (cont.new $k (ref.func $work)))
        (loop $again
          (block $on (result i32 (ref $k))
            (resume $k (on $y $on) (local.get $k))
            (return (local.get $sum)))
          (local.set $k)
          (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 10))))
          (br $again))
        (unreachable))
      (func (export "end") (result i32)
        (block $on (result i32 (ref $k)) (resume $k (on $y $on) (cont.new $k (ref.func $work))) (unreachable))
        (local.set 0) (drop)
        (try (result i32) (do (resume_throw $k $e (i32.const 9) (local.get 0)) (i32.const 0)) (catch_all (i32.const 4)))
        )
    """.replace('(func (export "end") (result i32)', '(func (export "end") (result i32) (local (ref null $k))')
    exports = exports_of(source, engine_of(tier))
    assert exports.run() == 15253
    assert outcome_of(exports.end) == ("trap", "unhandled tag", outcome_of(exports.end)[2])


CHANGING = {
    "in a body": "(try (do (call $step (i32.const 1)) (throw $e (i32.const 3))) (catch $e (local.set $x)))",
    "in a clause": """(try (do (throw $e (i32.const 3)))
      (catch $e (call $step (i32.const 1)) (local.set $x) (call $step (i32.const 2))))""",
    "in a clause that throws on": """(try
      (do (try (do (throw $e (i32.const 4)))
        (catch $e (local.set $x) (call $step (i32.const 1))
          (try (do (call $step (i32.const 2)) (block (call $step (i32.const 3)) (rethrow 2))) (catch $f)))))
      (catch $e (call $step (i32.const 4)) (local.set $x (i32.add (local.get $x)))))""",
    "in loops of clauses": """(try
      (do (try (do (throw $e (i32.const 5)))
        (catch $e (local.set $x)
          (loop $l (call $step (local.get $x))
            (br_if $l (i32.ne (local.tee $x (i32.sub (local.get $x) (i32.const 1))) (i32.const 2))))
          (rethrow 0))))
      (catch $e (local.set $x (i32.add (local.get $x)))))""",
    "in what delegates": """(try $a
      (do (try (do (loop $l
          (try (do (call $step (local.get $x))
              (if (i32.eq (local.get $x) (i32.const 3)) (then (throw $e (i32.const 8)))))
            (delegate $a))
          (local.set $x (i32.add (local.get $x) (i32.const 1))) (br $l)))
        (catch_all (unreachable))))
      (catch $e (local.set $x (i32.mul (local.get $x)))))""",
    "behind a first clause": """(try
      (do (call $step (i32.const 1)) (throw $f))
      (catch $e (local.set $x)) (catch $f (call $step (i32.const 2)) (local.set $x (i32.const 6)))
      (catch_all (unreachable)))
      (call $step (i32.const 3))""",
}


@pytest.mark.parametrize("name", CHANGING)
def test_the_tier_changes(name: str) -> None:
    """In the middle of bodies and clauses, with operands below."""
    outcome = check(f"""(module {HEAD} (tag $e (param i32)) (tag $f)
      (func $step (param $n i32)
        (call $change (local.get $n)) (local.set $n (i32.const 3))
        (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "run") (result i32 i64) (local $x i32)
        (i32.const 100) (i64.const 7) {CHANGING[name]} (local.get $x)
        (local.set $x) (i64.const 1) (i64.add) (local.get $x) (i64.extend_i32_s) (i64.add)))""")
    assert outcome[0] == "result"


def test_a_clause_has_the_exception_below() -> None:
    source = '(tag $e (param i32)) (func (i64.const 1) (try (do) (catch $e (call 0)) (catch_all (call 0))) (drop))'
    decoded = decode_module(parse_module(source.replace("(call 0))", "(drop) (call 0))", 1)).binary)
    validator = new_validator(decoded)
    validator.check_function(0)
    calls = [at for at in range(*decoded.body_starts, *decoded.body_ends) if decoded.data[at : at + 2] == b"\x10\0"]
    assert len(calls) == 2
    for at in calls:
        assert [str(type) for type in types_at(validator, 0, at).operands] == ["i64", "(ref exn)"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("(try (do (i32.const 0)) (catch_all))", "type mismatch: catch_all expected nothing more but found i32"),
        ("(try (result i32) (do (i32.const 0)) (catch $e (drop)))", "type mismatch: end expected i32"),
        ("(try (do) (catch $e))", "type mismatch: end expected nothing more but found i32"),
        ("(try (do) (catch $e (drop) (drop)))", "type mismatch: drop expected a value but found nothing"),
        ("(try (do) (catch_all (drop)))", "type mismatch: drop expected a value but found nothing"),
        ("(try (do) (catch_all (throw_ref)))", "type mismatch: throw_ref expected exnref but found nothing"),
        ("(try (do (rethrow 0)) (catch_all))", "invalid rethrow label"),
        ("(try (do) (catch_all (block (rethrow 0))))", "invalid rethrow label"),
        ("(block $h (try_table (catch_all $h) (rethrow 0)))", "invalid rethrow label"),
        ("(try (do) (catch_all (rethrow 2)))", "unknown label 2"),
        ("(try (do) (delegate 1))", "unknown label 1"),
        ("(try (result i32) (do) (delegate 0))", "type mismatch: delegate expected i32 but found nothing"),
        ("(try (do) (catch 3))", "unknown tag 3"),
        ("(local (ref func)) (try (do (local.set 0 (ref.func 0))) (catch_all (drop (local.get 0))))", "uninitialized"),
    ],
)
def test_invalid(code: str, message: str) -> None:
    with pytest.raises(wl.ValidationError) as caught:
        wl.Module(f"(tag $e (param i32)) (elem declare func 0) (func {code})")
    assert caught.value.reason.startswith(message)


@pytest.mark.parametrize(
    ("code", "message", "at"),
    [
        ("07 00", "catch without try", 0),
        ("19", "catch without try", 0),
        ("18 00", "delegate without try", 0),
        ("06 40 19 07 00 0b", "catch without try", 3),
        ("06 40 19 19 0b", "catch without try", 3),
        ("06 40 07 00 18 00", "delegate without try", 4),
        ("02 40 18 00", "delegate without try", 2),
        ("1f 40 00 07 00 0b", "catch without try", 3),
        ("06 40 05 0b", "else without if", 2),
        ("06 40", "unexpected end", 3),
    ],
)
def test_malformed(code: str, message: str, at: int) -> None:
    data = module(
        section(TYPE, vec(b"\x60\0\0")), section(FUNC, vec(b"\0")), section(TAG, vec(b"\0\0")),
        section(CODE, vec(body(bytes.fromhex(code)))),
    )  # fmt: skip
    with pytest.raises(wl.CompileError) as caught:
        wl.Module(data)
    assert not isinstance(caught.value, wl.ValidationError)
    assert caught.value.reason.startswith(message)
    assert caught.value.offset == data.rindex(bytes.fromhex(code)) + at
    with pytest.raises(wl.CompileError):
        print_module(data)


def test_constant_expressions_have_none() -> None:
    """But they are read to their ends."""
    data = module(section(GLOBAL, vec(bytes.fromhex("7f 00 06 40 18 00 41 00 0b"))))
    with pytest.raises(wl.ValidationError, match="constant expression required: try"):
        wl.Module(data)


@pytest.mark.parametrize(
    "text",
    [
        "(try)", "(try (nop))", "(try (do) (do))", "(try nop)", "(try (catch_all))", "(try (do) nop)",
        "(try (do) (catch_all) (catch 0))", "(try (do) (catch_all) (catch_all))", "(try (do) (delegate 0) (catch_all))",
        "try catch_all catch 0 end", "try catch 0 delegate 0", "try else end", "block catch 0 end", "(catch 0)",
        "catch_all", "(try (do) (catch))", "(do)", "(try (do) (delegate 0 nop))", "try_table catch_all end",
    ],
)  # fmt: skip
def test_malformed_text(text: str) -> None:
    with pytest.raises(wl.CompileError, match="unexpected token") as caught:
        parse_module(f"(func {text})")
    assert caught.value.line == 1


def test_flat_and_folded_text() -> None:
    pairs = {
        "try $t (result i32) i32.const 1 catch $e catch_all i32.const 2 end": (
            "(try $t (result i32) (do (i32.const 1)) (catch $e) (catch_all (i32.const 2)))"
        ),
        "block $b try nop delegate $b end": "(block $b (try (do nop) (delegate $b)))",
        "try $a try $a nop delegate $a catch_all rethrow $a end $a": (
            "(try $a (do (try $a (do (nop)) (delegate $a))) (catch_all (rethrow $a)))"
        ),
    }
    for flat, folded in pairs.items():
        assert parse_module(f"(tag $e) (func {flat})").binary == parse_module(f"(tag $e) (func {folded})").binary


def test_deep_nesting() -> None:
    depth = 300
    text = "(try (do " * depth + "(throw $e)" + ") (catch $f))" * depth
    exports = exports_of(
        f'(tag $e) (tag $f) (func (export "run") (result i32) (try (do {text}) (catch $e)) (i32.const 3))',
        engine_of("compiler"),
    )
    assert exports.run() == 3
    assert exports_of(
        f'(tag $e) (tag $f) (func (export "run") (result i32) (try (do {text}) (catch $e)) (i32.const 3))',
        engine_of("baseline"),
    ).run() == 3


# --- what a compiler for C++ emits ---


def _expected(count: int) -> int:
    """What `throwing.cpp` computes."""
    total = 0
    for n in range(count):
        thrown = n if n % 3 == 0 else 2 * n if n % 7 == 0 else None
        if thrown is None:
            total, destroyed = total + n + 1, 1325
        elif thrown & 1:
            total, destroyed = (total & 0xFFFFFFFF) ^ (thrown * 31), 13425
        else:
            total, destroyed = total + thrown + 1000, 13425
        total = (total * 17 + destroyed) & 0xFFFFFFFF
    return total - (1 << 32) if total >> 31 else total


@pytest.fixture(scope="module", params=["old", "new"])
def compiled_cpp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """`throwing.cpp`, compiled to one kind of instructions."""
    pytest.importorskip("ziglang")
    wasm = tmp_path_factory.mktemp("cpp") / f"{request.param}.wasm"
    legacy = "true" if request.param == "old" else "false"
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "c++", "-target", "wasm32-freestanding", "-O2", "-nostdlib"),
            "-fno-rtti",
            *("-fwasm-exceptions", "-mllvm", "-wasm-enable-eh", "-mllvm", f"-wasm-use-legacy-eh={legacy}"),
            *("-Xclang", "-target-feature", "-Xclang", "+exception-handling", "-Wl,--no-entry"),
            *(PROJECT / "tests/stacks/throwing.cpp", "-o", wasm),
        ],
        check=True,
        timeout=300,
    )
    data = wasm.read_bytes()
    assert ({"try", "try_table"} & mnemonics(decode_module(data))) == {"try" if request.param == "old" else "try_table"}
    return data


@pytest.mark.parametrize("tier", ENGINES)
def test_cpp(compiled_cpp: bytes, tier: str) -> None:
    run = exports_of(compiled_cpp, engine_of(tier)).run
    for count in (1, 10, 500):
        assert run(count) == _expected(count)
