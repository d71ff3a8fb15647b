"""On-stack replacement: guests that begin interpreted and go on as compiled code, wherever they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import outcome_of
from wasmloom.compiler import compiled
from wasmloom.compiler.compiled import CompiledModule
from wasmloom.compiler.objects import ObjectError
from wasmloom.compiler.parts import Part
from wasmloom.compiler.workforce import Abandoned
from wasmloom.host.engine import STACK_SWITCHING
from wasmloom.runtime.store import Store
from wasmloom.tiers.change import change_soon
from wasmloom.tiers.stores import compiled_code, use_compiled

AUTO = 1 << 30
#: Guests begin interpreted, and go on as compiled code only when they are told to.
ENGINE = wl.Engine(tier="auto", threshold=AUTO, cache=False)
#: Tags and types that most modules here use.
HEAD = """
  (import "host" "change" (func $change (param i32)))
  (type $v (func)) (type $k (cont $v))
  (type $gi (func (param i32) (result i32))) (type $ki (cont $gi))
"""


@pytest.fixture(autouse=True, params=["bytecode", "code"])
def _runs(request: pytest.FixtureRequest) -> None:
    """What guests run until then: bytecode alone, or the code that is made of it."""
    if request.param == "code":
        request.getfixturevalue("code_at_once")


def run_changing(module: wl.Module, at: int | None, *args: Any) -> Any:
    """The outcome of a call whose `at`-th call of the host lets the guest go on as compiled code; None: none does."""
    store = wl.Store(module.engine)
    calls = []

    def change(number: int) -> None:
        calls.append(number)
        if len(calls) - 1 == at:
            change_soon(store)

    instance = wl.Instance(module, {"host": {"change": change}}, store=store)
    got = _bits(outcome_of(instance.exports.run, *args))
    assert store.change_failed is None
    return (got, calls), store.tier_name == "compiler"


def _bits(value: Any) -> Any:
    """Floats as their bits, so that NaNs compare."""
    if isinstance(value, tuple):
        return tuple(_bits(item) for item in value)
    return struct.pack("<d", value) if isinstance(value, float) else value


def check(text: str, *args: Any, engine: wl.Engine = ENGINE) -> Any:
    """The outcome is the same wherever the guest changes over; gives it."""
    module = wl.Module(text, engine)
    wanted, changed = run_changing(module, None, *args)
    assert not changed
    for at in range(len(wanted[1])):
        got, here = run_changing(module, at, *args)
        assert got == wanted, at
        changed |= here
    assert changed, "the guest has never changed over"
    return wanted[0]


def test_a_loop_with_locals_of_all_types_and_operands_below() -> None:
    text = f"""(module {HEAD}
      (func (export "run") (param $n i32) (result i64 f64 f32 i32) (local $i i64) (local $d f64) (local $f f32)
        (local.set $d (f64.const 0.5)) (local.set $f (f32.const -0x1p-10))
        (i64.const 0x7000000000000001) (f64.const -0.0) (f32.const nan:0x200001) (i32.const -1)
        (loop $l
          (call $change (local.get $n))
          (local.set $i (i64.add (local.get $i) (i64.extend_i32_s (local.get $n))))
          (local.set $d (f64.mul (local.get $d) (f64.const -1.75)))
          (local.set $f (f32.sub (local.get $f) (f32.const 3.25)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.add (local.get $n)) (i64.store (i32.const 0) (local.get $i)) (f64.store (i32.const 8) (local.get $d))
        (f32.store (i32.const 16) (local.get $f)))
      (memory (export "m") 1))"""
    kind, values = check(text, 7)
    assert kind == "result" and values[0] == 0x7000000000000001 and values[3] == -1


def test_nested_loops_and_blocks_with_parameters_and_results() -> None:
    text = f"""(module {HEAD}
      (func (export "run") (param $n i32) (result i32 i32) (local $k i32)
        (i32.const 1000)
        (i32.const 2) (local.get $n)
        (loop $outer (param i32 i32) (result i32)
          (local.set $n) (i32.mul (i32.const 3))
          (block $b (param i32) (result i32)
            (local.set $k (i32.const 3))
            (loop $inner (param i32) (result i32)
              (call $change (local.get $k))
              (i32.add (local.get $k))
              (local.set $k (i32.sub (local.get $k) (i32.const 1)))
              (br_if $b (i32.eq (local.get $n) (i32.const 2)))
              (br_if $inner (local.get $k))))
          (local.tee $n (i32.sub (local.get $n) (i32.const 1)))
          (if (param i32) (result i32) (then (local.get $n) (br $outer)) (else (i32.const 5) (i32.xor))))))"""
    assert check(text, 3)[0] == "result"


def test_what_is_known_before_loops_is_read_in_later_rounds() -> None:
    """A local, an address and a base that are computed before the outer loop; the entry is in the inner one."""
    text = f"""(module {HEAD} (memory 1)
      (data (i32.const 64) "\\03\\00\\00\\00\\07") (global $g (mut i32) (i32.const 5))
      (func (export "run") (param $n i32) (result i32) (local $a i32) (local $b i32) (local $k i32)
        (local.set $a (i32.load (i32.add (local.get $n) (i32.const 60))))
        (global.set $g (i32.add (global.get $g) (local.get $a)))
        (local.get $a)
        (loop $outer
          (local.set $b (i32.add (local.get $b) (local.get $a)))
          (global.set $g (i32.mul (global.get $g) (local.get $b)))
          (if (i32.and (local.get $n) (i32.const 1))
            (then (local.set $b (i32.rotl (local.get $b) (local.get $a))))
            (else (local.set $k (i32.load (local.get $a)))))
          (local.set $k (i32.const 2))
          (loop $inner
            (call $change (local.get $b))
            (local.set $b (i32.mul (local.get $b) (local.get $a)))
            (br_if $inner (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
          (local.set $b (i32.xor (local.get $b) (i32.add (local.get $a) (global.get $g))))
          (br_if $outer (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.add (local.get $b))))"""
    assert check(text, 4)[0] == "result"


def test_frames_below_go_on_too() -> None:
    """Calls of all kinds, constants and unread locals among the operands, several results."""
    text = f"""(module {HEAD}
      (type $t (func (param i32 i64) (result i64 f32 i32))) (table funcref (elem $leaf))
      (func $leaf (type $t)
        (loop $l (call $change (local.get 0)) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i64.add (local.get 1) (i64.const 5)) (f32.const 1.5) (i32.const 9))
      (func $direct (param $x i32) (result i64) (local $y i64)
        (i64.const 77) (local.get $x) (i32.const 4)
        (call $leaf (local.get $x) (i64.const 100))
        (i64.extend_i32_s) (local.set $y) (drop) (i64.add (local.get $y)) (local.set $y)
        (i32.mul) (i64.extend_i32_u) (i64.add) (i64.add (local.get $y)))
      (func $indirect (param $x i32) (result i64) (local $z i64)
        (local.set $z (call $direct (local.get $x)))
        (call_indirect (type $t) (local.get $x) (local.get $z) (i32.const 0))
        (drop) (drop) (i64.add (local.get $z)))
      (func $by_ref (param $x i32) (result i64 f32 i32)
        (call_ref $t (local.get $x) (call $indirect (local.get $x)) (ref.func $leaf)))
      (elem declare func $leaf)
      (func (export "run") (result i64 f32 i32) (call $by_ref (i32.const 2))))"""
    assert check(text)[0] == "result"


def test_deep_recursion_without_loops() -> None:
    text = f"""(module {HEAD}
      (func $f (param $n i32) (result i64)
        (if (i32.eqz (local.get $n)) (then (call $change (i32.const 0)) (return (call $g (i32.const 40)))))
        (i64.add (call $f (i32.sub (local.get $n) (i32.const 1))) (i64.extend_i32_u (local.get $n))))
      (func $g (param $n i32) (result i64) (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64)
        (local $f i64) (local $g i64) (local $h i64)
        (if (i32.eqz (local.get $n)) (then (return (i64.const 1))))
        (local.set $h (i64.add (local.get $h) (call $g (i32.sub (local.get $n) (i32.const 1)))))
        (i64.add (local.get $h) (i64.const 1)))
      (func (export "run") (param $n i32) (result i64) (call $f (local.get $n))))"""
    assert check(text, 20000) == ("result", 20000 * 20001 // 2 + 41)


def test_exceptions_pass_waiting_frames() -> None:
    """Thrown above, caught in a frame that was interpreted, at the right try_table, or nowhere."""
    text = f"""(module {HEAD} (tag $e (param i32)) (tag $x)
      (func $leaf (param $n i32) (param $how i32)
        (loop $l (call $change (local.get $n)) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (if (i32.eq (local.get $how) (i32.const 1)) (then (throw $e (i32.const 40))))
        (if (i32.eq (local.get $how) (i32.const 2)) (then (throw $x))))
      (func $middle (param $how i32) (result i32)
        (i32.const 1)
        (block $caught (result i32)
          (try_table (catch $e $caught)
            (call $leaf (i32.const 2) (local.get $how))
            (try_table (catch $e $caught) (call $leaf (i32.const 1) (i32.const 0))))
          (i32.const 7))
        (i32.add))
      (func (export "run") (param $how i32) (result i32)
        (i32.const 100) (call $middle (local.get $how)) (i32.add)))"""
    assert check(text, 0) == ("result", 108)
    assert check(text, 1) == ("result", 141)
    assert check(text, 2)[0] == "exception"


def test_backtraces_have_the_waiting_frames() -> None:
    text = f"""(module {HEAD} (memory 1)
      (func $leaf (param $n i32)
        (loop $l (call $change (local.get $n)) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.store (i32.const -1) (i32.const 0)))
      (func $middle (param $n i32) (if (local.get $n) (then (call $leaf (local.get $n)))) (nop))
      (func $again (param $n i32) (if (local.get $n) (then (call $again (i32.sub (local.get $n) (i32.const 1))))
        (else (call $middle (i32.const 3)))))
      (func (export "run") (call $again (i32.const 5))))"""
    outcome = check(text)
    assert outcome[0] == "trap" and len(outcome[2]) == 9, outcome


GENERATOR = f"""{HEAD} (tag $yield (param i32) (result i32))
  (func $count (type $gi) (local $i i32)
    (loop $l
      (call $change (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_s (suspend $yield (i32.mul (local.get $i) (local.get 0))) (i32.const 4))))
    (i32.const -5))
  (elem declare func $count $deep $outer)
  (func $deep (type $gi)
    (i32.add (i32.const 10) (call $count (local.get 0))))
  (func $outer (type $gi) (local $k (ref null $ki))
    ;; runs a generator of its own, whose suspensions go to the one that runs this
    (i32.add (i32.const 1) (resume $ki (local.get 0) (cont.new $ki (ref.func $deep)))))
"""


def test_backtraces_end_with_a_stack_that_began_with_a_tail_call_out_of_its_instance() -> None:
    """The function at the bottom of the waiting stack then returns to a piece of code, and that to the continuation's
    end."""
    other = f"""(module {HEAD}
      (func $inner (local $i i32)
        (loop $l
          (call $change (local.get $i))
          (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
        (unreachable))
      (elem declare func $inner)
      (func (export "outer") (param i64) (resume $k (cont.new $k (ref.func $inner)))))"""
    text = f"""(module {HEAD} (import "other" "outer" (func $outer (param i64)))
      (func $body (return_call $outer (i64.const 5))) (elem declare func $body)
      (func (export "run") (call $change (i32.const 0)) (resume $k (cont.new $k (ref.func $body)))))"""
    traps = []
    outer, inner = wl.Module(text, ENGINE), wl.Module(other, ENGINE)
    for at in (None, 0, 1, 2):
        store = wl.Store(ENGINE)

        def change(number: int, store: wl.Store = store, at: int | None = at) -> None:
            if number == at:
                change_soon(store)

        imports: dict[str, Any] = {"host": {"change": change}}
        imports["other"] = wl.Instance(inner, imports, store=store).exports
        instance = wl.Instance(outer, imports, store=store)
        with pytest.raises(wl.Trap, match="unreachable") as caught:
            instance.exports.run()
        # A tick may let `$body` change over at its entry; a frame that has changed over stays below what it calls last.
        traps.append([frame for frame in caught.value.frames if frame.func_name != "body"])
        assert len(traps[-1]) == 3 and (at is None or store.tier_name == "compiler")
    assert traps == [traps[0]] * 4


@pytest.mark.parametrize("body", ["$count", "$deep", "$outer"])
@pytest.mark.parametrize("switching", STACK_SWITCHING)
def test_generators_change_over_inside_and_outside(body: str, switching: str) -> None:
    """The change comes in the generator, and in its consumer while the generator is suspended."""
    text = f"""(module {GENERATOR}
      (func (export "run") (param $n i32) (result i32) (local $k (ref null $ki)) (local $sum i32) (local $x i32)
        (local.set $k (cont.new $ki (ref.func {body})))
        (local.set $x (i32.const 3))
        (i32.const 1000)
        (loop $l
          (call $change (i32.add (i32.const 100) (local.get $x)))
          (block $h (result i32 (ref $ki))
            (i32.add (local.get $sum) (resume $ki (on $yield $h) (local.get $x) (local.get $k)))
            (return))
          (local.set $k)
          (local.set $sum (i32.add (local.get $sum)))
          (local.set $x (i32.add (local.get $x) (i32.const 1)))
          (br_if $l (i32.lt_s (local.get $x) (local.get $n))))
        (local.get $sum) (i32.add)))"""
    engine = wl.Engine(tier="auto", threshold=AUTO, stack_switching=switching, cache=False)
    assert check(text, 5, engine=engine)[0] == "result"


def test_exceptions_into_and_out_of_continuations_that_changed_over() -> None:
    text = f"""(module {HEAD} (tag $t) (tag $e (param i32)) (elem declare func $g)
      (func $inside (loop $l (call $change (i32.const 1)) (suspend $t) (br $l)))
      (func $g (block $c (result i32) (try_table (catch $e $c) (call $inside)) (i32.const 1)) (throw $e))
      (func (export "run") (param $n i32) (result i32) (local $k (ref null $k))
        (local.set $k (cont.new $k (ref.func $g)))
        (loop $l
          (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (return (i32.const -1)))
          (local.set $k)
          (call $change (i32.const 2))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (block $c (result i32)
          (try_table (catch $e $c) (resume_throw $k $e (i32.const 33) (local.get $k)))
          (i32.const -2))))"""
    assert check(text, 3) == ("result", 33)


def test_switch_between_tasks_and_values_that_are_bound() -> None:
    text = f"""(module {HEAD} (rec (type $ft (func (param i32 (ref null $ct)) (result i32))) (type $ct (cont $ft)))
      (type $f0 (func (result i32))) (type $c0 (cont $f0))
      (type $fr (func (param (ref null $ct)) (result i32))) (type $cr (cont $fr))
      (tag $s (result i32)) (elem declare func $task)
      (func $task (type $ft) (local $n i32)
        (loop $l
          (call $change (local.get $n))
          (if (i32.ge_s (local.tee $n (i32.add (local.get $n) (local.get 0))) (i32.const 40))
            (then (return (local.get $n))))
          (if (ref.is_null (local.get 1)) (then (local.set 1 (cont.new $ct (ref.func $task)))))
          (switch $ct $s (i32.add (local.get 0) (i32.const 1)) (local.get 1))
          (local.set 1) (local.set 0)
          (br $l))
        (unreachable))
      (func (export "run") (result i32)
        (resume $c0 (on $s switch)
          (cont.bind $ct $c0 (i32.const 2) (ref.null $ct) (cont.new $ct (ref.func $task))))))"""
    assert check(text)[0] == "result"


def test_values_bound_to_what_was_suspended_before_the_change() -> None:
    text = f"""(module {HEAD}
      (type $f2 (func (param i32 i32) (result i32))) (type $k2 (cont $f2))
      (type $f1 (func (param i32) (result i32))) (type $k1 (cont $f1))
      (type $f0 (func (result i32))) (type $k0 (cont $f0)) (tag $t (result i32 i32))
      (func $h (type $f0) (i32.const 5) (suspend $t) (i32.sub) (i32.mul))
      (elem declare func $h)
      (func (export "run") (result i32) (local $k (ref null $k2)) (local $one (ref null $k1)) (local $n i32)
        (block $b (result (ref $k2)) (return (resume $k0 (on $t $b) (cont.new $k0 (ref.func $h)))))
        (local.set $k)
        (local.set $n (i32.const 2))
        (loop $l (call $change (i32.const 1)) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.set $one (cont.bind $k2 $k1 (i32.const 20) (local.get $k)))
        (local.set $n (i32.const 2))
        (loop $l (call $change (i32.const 2)) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (resume $k1 (i32.const 6) (local.get $one))))"""
    assert check(text) == ("result", 70)


def test_calls_between_instances_and_tail_calls() -> None:
    """Frames that came in from another instance, or by a tail call out of it, get the instance back."""
    low_module = wl.Module(
        f"""(module {HEAD} (global $g (mut i32) (i32.const 1))
          (func (export "work") (param $n i32) (result i32)
            (loop $l (call $change (local.get $n)) (global.set $g (i32.add (global.get $g) (i32.const 1)))
              (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (global.get $g)))""",
        ENGINE,
    )
    high_module = wl.Module(
        """(module (import "low" "work" (func $work (param i32) (result i32)))
          (global $g (mut i32) (i32.const 500))
          (func $tail (param $n i32) (result i32) (return_call $work (local.get $n)))
          (func (export "run") (result i32)
            (global.set $g (i32.add (call $tail (i32.const 2)) (global.get $g)))
            (global.set $g (i32.add (call $work (i32.const 2)) (global.get $g)))
            (global.get $g)))""",
        ENGINE,
    )

    def outcome(at: int | None) -> Any:
        store = wl.Store(ENGINE)
        calls: list[int] = []

        def change(number: int) -> None:
            calls.append(number)
            if len(calls) - 1 == at:
                change_soon(store)

        imports = {"host": {"change": change}}
        low = wl.Instance(low_module, imports, store=store)
        high = wl.Instance(high_module, {"low": low.exports}, store=store)
        return outcome_of(high.exports.run), calls

    wanted, calls = outcome(None)
    assert wanted == ("result", 508)
    for at in range(len(calls)):
        assert outcome(at) == (wanted, calls)


def test_references_that_only_waiting_frames_hold_stay_alive() -> None:
    """The collector and the sweep of external references see frames of bytecode that wait."""
    text = f"""(module (import "host" "collect" (func $collect)) {HEAD} (tag $t) (elem declare func $g $s)
      (func $s (suspend $t) (call $change (i32.const 7)))
      (func $g (param externref) (result externref) (local $n i32) (local $k (ref null $k))
        (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $s))) (unreachable))
        (local.set $k)
        (local.set $n (i32.const 3))
        (loop $l (call $change (local.get $n)) (call $collect)
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (resume $k (local.get $k))
        (local.get 0))
      (func (export "run") (param externref) (result externref)
        (local.get 0) (call $g (local.get 0)) (drop)))"""
    from wasmloom.runtime.collector import collect_garbage

    module = wl.Module(text, ENGINE)
    for at in (None, 0, 1, 2, 3):
        store = wl.Store(ENGINE)
        calls: list[int] = []

        def change(number: int, calls: list[int] = calls, at: int | None = at, store: Store = store) -> None:
            calls.append(number)
            if len(calls) - 1 == at:
                change_soon(store)

        def collect(store: Store = store) -> None:
            collect_garbage(store)

        imports: dict[str, dict[str, Callable[..., Any]]] = {"host": {"change": change, "collect": collect}}
        run = wl.Instance(module, imports, store=store).exports.run
        thing = object()
        assert run(thing) is thing
        assert calls == [3, 2, 1, 7]


WAITING = f"""
  (import "host" "wait" (func $wait (param i32) (result i32)))
  {HEAD} (tag $t (param i32) (result i32)) (elem declare func $g $wait $body)
  (func $work (param $n i32) (result i32) (local $x i32)
    (loop $l
      (call $change (local.get $n))
      (local.set $x (i32.add (local.get $x) (call $wait (local.get $n))))
      (call $change (local.get $n))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $x))
  (func $g (type $gi) (i32.add (call $work (local.get 0)) (suspend $t (call $work (i32.const 2)))))
  (func $body (type $gi) (resume $ki (local.get 0) (cont.new $ki (ref.func $wait))))
"""


@pytest.mark.parametrize(
    "run",
    [
        # On the stack of the call, in continuations, and where a continuation is nothing but the host function.
        "(i32.mul (i32.const 3) (call $work (local.get $n)))",
        """(local $k (ref null $ki))
           (block $h (result i32 (ref $ki))
             (return (resume $ki (on $t $h) (local.get $n) (cont.new $ki (ref.func $g)))))
           (local.set $k)
           (call $work (i32.const 2)) (i32.add)
           (i32.add (resume $ki (i32.const 50) (local.get $k)))""",
        """(i32.add (call $work (local.get $n))
             (i32.add (resume $ki (local.get $n) (cont.new $ki (ref.func $wait)))
                      (resume $ki (i32.const 7) (cont.new $ki (ref.func $body)))))""",
    ],
)
def test_calls_that_wait_change_over_running_and_waiting(run: str) -> None:
    module = wl.Module(f"""(module {WAITING} (func (export "run") (param $n i32) (result i32) {run}))""", ENGINE)

    def outcome(at: int | None, parked: int | None) -> tuple[Any, bool]:
        """Let a guest change over at a call of "change", or while it waits for the so-manieth time."""
        store = wl.Store(ENGINE)
        calls: list[int] = []
        waits = 0

        def change(number: int) -> None:
            calls.append(number)
            if len(calls) - 1 == at:
                change_soon(store)

        async def wait(number: int) -> int:
            nonlocal waits
            waits += 1
            await asyncio.sleep(0)
            if waits - 1 == parked:
                for module in store.modules.values():
                    module.compile()
                use_compiled(store, compiled_code(store))
            await asyncio.sleep(0)
            return 100 + number

        imports = {"host": {"change": change, "wait": wait}}
        instance = wl.Instance(module, imports, store=store)

        async def main() -> int:
            result: int = await instance.exports.run.call_async(3)
            return result

        got = asyncio.run(main())
        assert store.change_failed is None
        return (got, calls, waits), store.tier_name == "compiler"

    wanted, changed = outcome(None, None)
    assert not changed
    for at in range(len(wanted[1])):
        got, here = outcome(at, None)
        assert got == wanted, at
        changed |= here
    assert changed
    for parked in range(wanted[2]):
        assert outcome(None, parked) == (wanted, True), parked


def test_exceptions_reach_calls_that_waited_while_their_store_changed_over() -> None:
    text = f"""(module (import "host" "wait" (func $wait (param i32) (result i32))) {HEAD}
      (tag $e (export "e") (param i32))
      (func (export "run") (result i32)
        (call $change (i32.const 0))
        (block $c (result i32)
          (try_table (catch $e $c) (drop (call $wait (i32.const 1))))
          (i32.const -1))))"""

    def check_one(fails: bool) -> None:
        store = wl.Store(ENGINE)
        module = wl.Module(text, ENGINE)

        async def wait(_: int) -> int:
            await asyncio.sleep(0)
            module.compile()
            use_compiled(store, compiled_code(store))
            if fails:
                raise ValueError("not for the guest")
            raise wl.WasmException(instance.exports.e, 77)

        instance = wl.Instance(module, {"host": {"wait": wait, "change": lambda _: None}}, store=store)
        if fails:
            with pytest.raises(ValueError, match="not for the guest"):
                asyncio.run(instance.exports.run.call_async())
        else:
            assert asyncio.run(instance.exports.run.call_async()) == 77

    check_one(False)
    check_one(True)


def test_a_million_iterations_change_over_by_themselves() -> None:
    """Without a threshold: in the background, while a single call runs."""
    engine = wl.Engine(tier="auto", cache=False)
    store = wl.Store(engine)
    text = """(module (func (export "run") (param $n i64) (result i64) (local $x i64)
      (loop $l (local.set $x (i64.add (i64.rotl (local.get $x) (i64.const 7)) (local.get $n)))
        (br_if $l (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))
      (local.get $x)))"""
    run = wl.Instance(wl.Module(text, engine), store=store).exports.run
    wanted = wl.Instance(wl.Module(text, wl.Engine(tier="compiler")))
    for n in (1, 1000, *range(300_000_000, 300_000_050)):
        assert run(n) == wanted.exports.run(n)
        if store.tier_name == "compiler":
            break
    assert store.tier_name == "compiler"


@pytest.mark.parametrize("switching", STACK_SWITCHING)
def test_no_memory_for_the_stacks_of_a_chain_that_changes_over(switching: str) -> None:
    """Whatever is left, all of the chain gets its stacks, or the guest stays interpreted."""
    text = """(module
      (import "host" "change" (func $change)) (elem declare func $deep)
      (type $f (func (param i32) (result i32))) (type $k (cont $f))
      (func $grow (param i32)
        (if (local.get 0) (then (call $grow (i32.sub (local.get 0) (i32.const 1))))))
      (func $deep (type $f) (local $x i32)
        (if (i32.eqz (local.get 0)) (then
          (call $change)
          (loop $again
            (local.set $x (i32.add (local.get $x) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $x) (i32.const 10))))
          (return (i32.const 1))))
        (call $grow (i32.const 40))
        (i32.add (i32.const 1)
          (resume $k (i32.sub (local.get 0) (i32.const 1)) (cont.new $k (ref.func $deep)))))
      (func (export "run") (param i32) (result i32) (resume $k (local.get 0) (cont.new $k (ref.func $deep)))))"""
    engine = wl.Engine(tier="auto", threshold=AUTO, stack_switching=switching)
    module = wl.Module(text, engine)
    seen = set()
    for limit in range(66_000, 130_000, 2000):
        store = wl.Store(engine, memory_limit=limit)
        imports = {"host": {"change": lambda store=store: change_soon(store)}}
        exports = wl.Instance(module, imports, store=store).exports
        try:
            assert exports.run(12) == 13
        except wl.Trap as trap:
            assert trap.code in ("call stack exhausted", "out of memory")
            continue
        assert (store.tier_name == "compiler") == (store.change_failed is None)
        seen.add(store.tier_name == "compiler")
        assert exports.run(3) == 4
    assert seen == {False, True}


WAITED_FOR = """(module
  (import "host" "change" (func $change))
  (func $inner (param i32) (result i32) (local $n i32)
    (call $change)
    (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get 0))))
    (i32.add (local.get $n) (i32.const 1)))
  (func (export "run") (param i32) (result i32) (i32.mul (call $inner (local.get 0)) (i32.const 3))))"""


@pytest.mark.parametrize("error", [wl.CompileError("a worker process was killed"), MemoryError(), ObjectError("none")])
def test_entries_that_fail_while_a_guest_waits_are_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the innermost frame, and of one that waits below it."""
    monkeypatch.setattr(compiled, "PAUSES", (0, 0, 0))
    real = CompiledModule._compile_now
    tries: list[int] = []

    def fails(self: CompiledModule, part: Part, abandoned: Any) -> bytes:
        tries.extend(part.functions)
        if len(tries) % 4:
            raise error
        return real(self, part, abandoned)

    monkeypatch.setattr(CompiledModule, "_compile_now", fails)
    store = wl.Store(ENGINE)
    imports = {"host": {"change": lambda: change_soon(store)}}
    exports = wl.Instance(wl.Module(WAITED_FOR, ENGINE), imports, store=store).exports
    assert exports.run(4) == 15
    assert store.tier_name == "compiler" and tries == [0] * 4 + [1] * 4


@pytest.mark.parametrize("error", [wl.UnsupportedError("too large"), Abandoned("")])
def test_what_would_fail_again_is_tried_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "PAUSES", (0, 0, 0))
    tries: list[int] = []

    def fails(self: CompiledModule, part: Part, abandoned: Any) -> bytes:
        tries.extend(part.functions)
        raise error

    monkeypatch.setattr(CompiledModule, "_compile_now", fails)
    store = wl.Store(ENGINE)
    imports = {"host": {"change": lambda: change_soon(store)}}
    assert wl.Instance(wl.Module(WAITED_FOR, ENGINE), imports, store=store).exports.run(4) == 15
    assert store.change_failed is error and tries == [0]


def test_nobody_tries_again_when_nobody_waits() -> None:
    tries: list[int] = []

    def fails() -> None:
        tries.append(1)
        raise MemoryError

    with pytest.raises(Abandoned):
        compiled.patiently(fails, lambda: True)
    assert tries == [1]
