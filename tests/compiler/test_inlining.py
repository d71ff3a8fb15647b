"""Functions that stand in the place of calls, tail calls that are loops, and short loops whose rounds are several: all
tiers give the same results, traps and backtraces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.test_osr import AUTO, HEAD, check
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from wasmloom.binary.decoder import decode_module
from wasmloom.compiler import inlining, lines, units
from wasmloom.compiler.elf import ObjectError
from wasmloom.compiler.facts import Facts
from wasmloom.compiler.inlining import GROWTH, GROWTH_SWITCHING, MOST_ALIKE, SMALL, SWITCHING, Inlining
from wasmloom.compiler.loops import ROUNDS
from wasmloom.compiler.options import Options
from wasmloom.text.parser import parse_module

COMPILED = [name for name in ENGINES if name != "interpreter"]

#: Functions in each other, which fault, trap and throw; each call has another place.
CHAIN = """(module (import "env" "back" (func $back (param i32) (result i32)))
  (memory 1) (tag $e (param i32)) (global $g (mut i32) (i32.const 0))
  (func $get (param $a i32) (result i32) (i32.load (local.get $a)))
  (func $two (param $a i32) (param $b i32) (result i32)
    (i32.sub (call $get (local.get $b)) (call $get (local.get $a))))
  (func $put (param $a i32) (global.set $g (i32.const 1)) (i32.store offset=8 (local.get $a) (i32.const 5)))
  (func $early (param $a i32) (result i32) (local $x i32)
    (if (i32.eq (local.get $a) (i32.const 7)) (then (return (i32.const 70))))
    (local.set $x (i32.add (local.get $x) (i32.const 2)))
    (i32.div_u (i32.const 100) (i32.sub (local.get $a) (local.get $x))))
  (func $never (unreachable))
  (func $throws (param $a i32) (throw $e (local.get $a)))
  (func $calls (param $a i32) (result i32) (call $back (local.get $a)))
  (func (export "two") (param $a i32) (param $b i32) (result i32)
    (call $put (local.get $a)) (i32.add (call $two (local.get $a) (local.get $b)) (i32.load (local.get $b))))
  (func (export "early") (param $n i32) (result i32) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (call $early (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func (export "never") (param $a i32) (result i32)
    (if (local.get $a) (then (call $never))) (i32.const 5))
  (func (export "throws") (param $a i32) (result i32)
    (block $b (result i32) (try_table (catch $e $b) (call $throws (local.get $a))) (unreachable)))
  (func (export "away") (param $a i32) (call $throws (local.get $a)))
  (func (export "calls") (param $a i32) (result i32)
    (if (i32.eqz (local.get $a)) (then (call $never))) (i32.add (call $calls (local.get $a)) (i32.const 1)))
  (func (export "again") (param $a i32) (result i32) (call $calls (local.get $a)))
  (func (export "seen") (result i32) (global.get $g)))"""
CALLS = [
    ("two", 0, 4), ("two", 65536, 0), ("two", 65528, 0), ("two", 65525, 0), ("two", 0, 65536), ("two", 65524, 65536),
    ("early", 7), ("early", 1), ("never", 0), ("never", 1), ("throws", 6), ("away", 8), ("calls", 1), ("calls", 2),
    ("again", 3), ("seen",),
]  # fmt: skip


def decoded(text: str) -> Facts:
    return Facts(decode_module(parse_module(text).binary))


def in_ir(text: str, options: Options | None = None) -> str:
    facts = decoded(text)
    return units.unit_text(facts, options or Options(), range(len(facts.calls)), False)


def outcomes(source: str | bytes, engine: wl.Engine) -> list[Any]:
    """How `CALLS` end. The host calls the guest: frames of the guest lie below those of the host."""
    exports: Any = None

    def back(a: int) -> int:
        result: int = exports.calls(a - 1)
        return result

    exports = exports_of(source, engine, {"env": {"back": back}})
    return [outcome_of(exports[name], *arguments) for name, *arguments in CALLS]


@pytest.mark.parametrize("name", COMPILED)
def test_results_traps_and_backtraces(name: str) -> None:
    assert outcomes(CHAIN, engine_of(name)) == outcomes(CHAIN, engine_of("interpreter"))


def test_nothing_is_called_there() -> None:
    text = in_ir(CHAIN)
    assert "call i32 @wf." not in text and "call void @wf." not in text
    assert lines.INLINED in text


@pytest.mark.parametrize("options", [Options(fuel=True), Options(deterministic=True)])
def test_where_code_is_counted_nothing_is_inlined(options: Options) -> None:
    text = in_ir(CHAIN, options)
    assert "call i32 @wf.0(" in text and lines.INLINED not in text


def test_places_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path))
    found = [outcomes(CHAIN, wl.Engine(tier=tier)) for tier in ("interpreter", "compiler", "compiler")]
    assert found[0] == found[1] == found[2]


FIB = """(module (func $fib (export "fib") (param $n i32) (result i32)
  (if (result i32) (i32.lt_s (local.get $n) (i32.const 2)) (then (local.get $n))
    (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1)))
      (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func $down (export "down") (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (unreachable))) (call $down (i32.sub (local.get $n) (i32.const 1))))
  (func $ever (export "ever") (result i32) (i32.add (call $ever) (i32.const 1))))"""


@pytest.mark.parametrize("name", list(ENGINES))
def test_recursion(name: str) -> None:
    exports = exports_of(FIB, engine_of(name))
    assert [exports.fib(n) for n in range(12)] == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    with pytest.raises(wl.Trap, match="stack") as caught:
        exports.ever()
    assert {frame.func_index for frame in caught.value.frames} == {2}
    with pytest.raises(wl.Trap, match="unreachable") as caught:
        exports.down(20)
    offsets = [frame.offset for frame in caught.value.frames]
    assert len(offsets) == 21 and len(set(offsets[1:])) == 1


def test_recursion_is_inlined_a_few_times() -> None:
    facts = decoded(FIB)
    unit = Inlining(facts)
    assert unit.wants(0, 0, [], False, 0) and unit.wants(0, 0, [0] * (MOST_ALIKE - 1), False, 0)
    assert not unit.wants(0, 0, [0] * MOST_ALIKE, False, 0)


def test_functions_grow_within_bounds() -> None:
    """Many calls of small functions, which call each other, too."""
    functions = "".join(
        f"(func $f{n} (param i32) (result i32) (call $f{n + 1} (call $f{n + 1} (i32.add (local.get 0) (i32.const 1)))))"
        for n in range(20)
    )
    calls = "(local.set 0 (call $f0 (local.get 0)))" * 1000
    facts = decoded(
        f"(module {functions} (func $f20 (param i32) (result i32) (local.get 0))"
        f"(func (param i32) (loop $l {calls} (br_if $l (local.get 0)))))"
    )
    made: list[Inlining] = []
    real = inlining.Inlining.__init__

    def noting(self: Inlining, *arguments: Any) -> None:
        real(self, *arguments)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inlining.Inlining, "__init__", noting)
        units.unit_text(facts, Options(), [21], False)
    added = sum(facts.size(function) for _, _, function in made[0]._sites)
    assert SMALL < added <= max(GROWTH, facts.size(21) // 4)


def test_sites_are_as_many_as_columns_have_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called beyond that is called, and everything stays as it is."""
    expected = outcomes(CHAIN, engine_of("interpreter"))
    monkeypatch.setattr(inlining, "MOST_SITES", 3)
    assert in_ir(CHAIN).count(".long ") == 3
    assert outcomes(CHAIN, engine_of("compiler")) == expected
    assert lines.SITE_STEP * lines.MOST_SITES + lines.END <= 0xFFFF


def test_damaged_tables_of_sites() -> None:
    for section in (b"\1\0\0\0", b"\1\0\0\0" * 3):
        with pytest.raises(ObjectError, match="damaged"):
            lines.LineTable.parse(b"", section)


# --- functions that switch stacks ---

#: A small library of fibers, and what goes wrong in it; each function that switches is called by another one.
FIBERS = """(module IMPORTS
  (type $body (func (param i64) (result i64))) (type $k (cont $body))
  (type $swapped (func (param i64 (ref null $k)) (result i64))) (type $s (cont $swapped))
  (tag $yield (param i64) (result i64)) (tag $stop (param i64)) (tag $swap (result i64))
  (table $fibers 4 (ref null $k)) (global $used (mut (ref null $k)) (ref.null $k))
  (elem declare func $sum $fails $swaps $partner $stops $away)
  (func $new (param $n i32) (param $f (ref null $body)) (table.set $fibers (local.get $n) (cont.new $k (local.get $f))))
  (func $resume (param $v i64) (param $n i32) (result i64) (local $k (ref null $k))
    (block $suspended (result i64 (ref $k))
      (return (resume $k (on $yield $suspended) (local.get $v) (table.get $fibers (local.get $n)))))
    (local.set $k)
    (table.set $fibers (local.get $n) (local.get $k)))
  (func $twice (param $v i64) (param $n i32) (result i64)
    (call $resume (i64.add (local.get $v) (call $resume (local.get $v) (local.get $n))) (local.get $n)))
  (func $suspend (param $v i64) (result i64) CHANGE (suspend $yield (local.get $v)))
  (func $throw (param $v i64) (param $n i32) (result i64)
    (block $suspended (result i64 (ref $k))
      (return (resume_throw $k $stop (on $yield $suspended) (local.get $v) (table.get $fibers (local.get $n)))))
    (drop) (drop) (i64.const -1))
  (func $exchange (param $v i64) (result i64)
    (switch $s $swap (local.get $v) (cont.new $s (ref.func $partner))))
  (func $sum (type $body) (local $sum i64)
    (loop $l
      (local.set $sum (i64.add (local.get $sum) (i64.mul (local.get 0) (i64.const 3))))
      (local.set 0 (call $suspend (local.get $sum)))
      (br_if $l (i64.lt_s (local.get 0) (i64.const 100))))
    (local.get $sum))
  (func $fails (type $body) (i64.div_s (i64.const 7) (call $suspend (i64.const 0))))
  (func $away (type $body) (throw $stop (i64.add (call $suspend (i64.const 1)) (i64.const 1))))
  (func $stops (type $body)
    (block $b (result i64) (try_table (catch $stop $b) (return (call $suspend (local.get 0)))) (unreachable)))
  (func $swaps (type $body) (i64.add (call $exchange (i64.const 5)) (i64.const 1)))
  (func $partner (type $swapped)
    (i64.mul (i64.const 2) (resume $k (i64.add (local.get 0) (i64.const 40)) (local.get 1))))
  (func $run (export "run") (param $n i32) (result i64) (local $sum i64)
    (call $new (i32.const 1) (ref.func $sum))
    (loop $l
      (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 7)) (call $twice (i64.const 2) (i32.const 1))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i64.add (local.get $sum) (call $resume (i64.const 200) (i32.const 1))))
  (func (export "fails") (param $v i64) (result i64)
    (call $new (i32.const 2) (ref.func $fails))
    (i64.add (call $resume (i64.const 1) (i32.const 2)) (call $resume (local.get $v) (i32.const 2))))
  (func (export "away") (param $v i64) (result i64)
    (call $new (i32.const 2) (ref.func $away))
    (block $b (result i64)
      (try_table (catch $stop $b)
        (return (i64.add (call $resume (i64.const 1) (i32.const 2)) (call $resume (local.get $v) (i32.const 2)))))
      (unreachable)))
  (func (export "uncaught") (result i64)
    (call $new (i32.const 2) (ref.func $away)) (call $twice (i64.const 1) (i32.const 2)))
  (func (export "stops") (param $v i64) (result i64)
    (call $new (i32.const 2) (ref.func $stops))
    (i64.add (call $resume (i64.const 1) (i32.const 2)) (call $throw (local.get $v) (i32.const 2))))
  (func (export "fresh") (param $v i64) (result i64)
    (call $new (i32.const 2) (ref.func $sum)) (call $throw (local.get $v) (i32.const 2)))
  (func (export "swaps") (result i64)
    (resume $k (on $swap switch) (i64.const 1) (cont.new $k (ref.func $swaps))))
  (func (export "alone") (result i64) (i64.add (call $exchange (i64.const 5)) (i64.const 1)))
  (func (export "unhandled") (result i64) (call $suspend (i64.const 1)))
  (func (export "null") (call $new (i32.const 1) (ref.null $body)))
  (func (export "beyond") (call $new (i32.const 4) (ref.func $sum)))
  (func (export "none") (result i64) (call $resume (i64.const 1) (i32.const 3)))
  (func (export "ended") (result i64)
    (call $new (i32.const 1) (ref.func $sum))
    (global.set $used (table.get $fibers (i32.const 1)))
    (drop (call $resume (i64.const 1) (i32.const 1)))
    (table.set $fibers (i32.const 1) (global.get $used))
    (call $twice (i64.const 1) (i32.const 1))))"""


#: A loop in which a guest can change over, in a function that stands nowhere else; the module's end.
BUSY = """
  (func $busy (local $i i32) (call $change (i32.const 5))
    (loop $l (br_if $l (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))))"""


def fibers() -> str:
    return FIBERS.replace("IMPORTS", "").replace("CHANGE", "")


@pytest.mark.parametrize("name", COMPILED)
def test_functions_that_switch_stacks(name: str) -> None:
    """Results, traps, exceptions and backtraces, across stacks."""
    found = []
    for tier in ("interpreter", name):
        exports = exports_of(fibers(), engine_of(tier))
        outcomes = [outcome_of(exports.run, n) for n in range(1, 5)]
        outcomes += [outcome_of(exports.fails, v) for v in (0, 3)]
        outcomes += [outcome_of(exports[each], 9) for each in ("away", "stops", "fresh")]
        outcomes += [
            outcome_of(exports[each])
            for each in ("uncaught", "swaps", "alone", "unhandled", "null", "beyond", "none", "ended")
        ]
        found.append((outcomes, outcome_of(exports.run, 3)))
    assert found[0] == found[1]
    assert {outcome[0] for outcome in found[0][0]} == {"result", "trap", "exception"}


def test_functions_that_switch_stacks_are_inlined() -> None:
    """The library is in its callers, and callers of what switches are, too."""
    text = in_ir(fibers())
    callers = text.split("define hidden ")
    assert not [line for caller in callers for line in caller.splitlines() if " call i64 @wf." in line]


def test_where_stores_mix_functions_of_continuations_stay_where_they_are() -> None:
    calls = [in_ir(fibers(), Options(mixed=mixed)).count("call i64 @wf.1(") for mixed in (False, True)]
    assert not calls[0] and calls[1]


def test_functions_that_switch_stacks_grow_within_bounds() -> None:
    pad = "(local.set 0 (i64.add (local.get 0) (i64.const 1)))" * 20
    text = f"""(module (tag $t) (func $f (param i64) (result i64) (suspend $t) {pad} (local.get 0))
      (func (param i64) {"(local.set 0 (call $f (local.get 0)))" * 30}))"""
    facts = decoded(text)
    size = facts.size(0)
    assert SMALL < size <= SWITCHING
    unit = Inlining(facts)
    added = 0
    while unit.wants(1, 0, [], False, added):
        added += size
    assert GROWTH < added <= GROWTH_SWITCHING
    assert in_ir(text).count("call i64 @wf.0(") == 30 - added // size


@pytest.mark.parametrize("switching", ["native", "libcall"])
def test_changes_of_tier_in_functions_that_switch_stacks(switching: Any) -> None:
    """A change with frames in each of them: those that resume, and those that are suspended."""
    text = FIBERS.replace("IMPORTS", HEAD.replace(" $k ", " $unused ")).replace("CHANGE", "(call $busy)")
    text = text.removesuffix(")") + BUSY
    engine = wl.Engine(tier="auto", threshold=AUTO, cache=False, stack_switching=switching)
    assert check(text, 2, engine=engine)[0] == "result"


def test_changes_of_tier_in_a_function_that_resumes_in_itself() -> None:
    """It is inlined into itself, and the place of a change is its `resume`, which is there twice."""
    text = f"""(module {HEAD} (type $r (func (result i32))) (type $kr (cont $r)) (tag $t) (elem declare func $in)
      (func $in (type $gi) (call $busy) (suspend $t) (call $busy) (i32.mul (local.get 0) (i32.const 3)))
      (func $deep (export "run") (param $n i32) (result i32) (local $k (ref null $kr))
        (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
        (block $on (result (ref $kr))
          (resume $ki (on $t $on) (local.get $n) (cont.new $ki (ref.func $in)))
          (return))
        (local.set $k)
        (i32.add (call $deep (i32.sub (local.get $n) (i32.const 1))) (resume $kr (local.get $k))))
      {BUSY}"""
    assert check(text, 4)[0] == "result"
    facts = decoded(text)
    assert Inlining(facts).wants(1, 1, [], False, 0)


# --- tail calls of the function itself ---

TAIL = """(module (import "env" "back" (func $back (param i32) (result i32))) (tag $e)
  (func $swap (export "swap") (param $n i32) (param $a i64) (param $b i64) (result i64) (local $zero i64)
    (if (i32.eqz (local.get $n)) (then (return (i64.add (local.get $a) (local.get $zero)))))
    (local.set $zero (i64.const 1000))
    (return_call $swap (i32.sub (local.get $n) (i32.const 1)) (local.get $b) (i64.add (local.get $a) (local.get $b))))
  (func $short (export "short") (param $n i32) (param $sum i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (return (local.get $sum))))
    (return_call $short (i32.sub (local.get $n) (i32.const 1)) (i32.add (local.get $sum) (local.get $n))))
  (func $left (export "left") (param $n i32) (result i32)
    (block $b
      (try_table (catch $e $b)
        (if (i32.eqz (local.get $n)) (then (throw $e)))
        (if (i32.gt_s (local.get $n) (i32.const 3)) (then (throw $e)))
        (return_call $left (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $n))
  (func $wide (export "wide") (param i32 i64 f64 f32 i32 i32 i32 i32 i32 i32 i64 f64) (result i64 f64 i32)
    (if (local.get 0)
      (then (return_call $wide (i32.sub (local.get 0) (i32.const 1)) (local.get 10) (local.get 11) (local.get 3)
        (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 4) (local.get 1)
        (local.get 2))))
    (local.get 1) (local.get 2) (local.get 4))
  (func $other (export "other") (param $n i32) (result i32)
    (if (i32.eqz (local.get $n)) (then (return_call $back (i32.const 3))))
    (return_call $other (i32.sub (local.get $n) (i32.const 1))))
  (func $divides (export "divides") (param $n i32) (result i32)
    (drop (i32.div_u (i32.const 8) (local.get $n)))
    (return_call $divides (i32.sub (local.get $n) (i32.const 1))))
  (func $ever (export "ever") (param i32) (return_call $ever (local.get 0))))"""


@pytest.mark.parametrize("settings", [{}, {"deterministic": True}])
@pytest.mark.parametrize("name", COMPILED)
def test_tail_calls_of_the_function_itself(name: str, settings: dict[str, Any]) -> None:
    found = []
    for tier in ("interpreter", name):
        exports = exports_of(TAIL, engine_of(tier, **settings), {"env": {"back": lambda a: a + 7}})
        results = [exports.swap(n, 0, 1) for n in range(11)]
        results += [exports.short(n, 0) for n in (*range(11), 5000)]
        results += [exports.left(n) for n in range(5)]
        results += [exports.wide(n, 1, 2.0, 3.0, *range(4, 10), 10, 11.0) for n in range(4)]
        results += [exports.other(n) for n in range(3)]
        found.append((results, outcome_of(exports.divides, 9)))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", list(ENGINES))
def test_tail_calls_without_end_can_be_interrupted(name: str) -> None:
    exports = exports_of(TAIL, engine_of(name), {"env": {"back": lambda a: a}}, timeout=0.05)
    with pytest.raises(wl.Trap) as caught:
        exports.ever(3)
    assert caught.value.code == "timeout"


@pytest.mark.parametrize("name", COMPILED)
def test_tail_calls_pay_the_same_fuel(name: str) -> None:
    left = []
    for tier in ("interpreter", name):
        engine = engine_of(tier, fuel=True)
        store = wl.Store(engine, fuel=1000)
        exports = wl.Instance(wl.Module(TAIL, engine), {"env": {"back": lambda a: a}}, store=store).exports
        assert exports.short(20, 0) == 210
        left.append(store.fuel)
        assert outcome_of(exports.short, 5000, 0)[:2] == ("trap", "all fuel consumed")
    assert left[0] == left[1]


def test_tail_calls_are_jumps() -> None:
    """Neither calls nor the prototype that other tail calls need."""
    text = in_ir('(module (func $f (param i32) (result i32) (return_call $f (local.get 0))))')
    assert "musttail" not in text and "define hidden i32 @wf.0(ptr swiftself %inst, i32 %p0)" in text


def test_changes_of_tier_in_functions_that_tail_call_themselves() -> None:
    text = f"""(module {HEAD}
      (func $f (param $n i32) (param $sum i64) (result i64) (local $x i64)
        (local.set $x (i64.add (local.get $x) (i64.const 3)))
        (call $change (local.get $n))
        (if (i32.eqz (local.get $n)) (then (return (i64.add (local.get $sum) (local.get $x)))))
        (return_call $f (i32.sub (local.get $n) (i32.const 1)) (i64.mul (i64.add (local.get $sum) (local.get $x))
          (i64.const 5))))
      (func (export "run") (param i32) (result i64) (call $f (local.get 0) (i64.const 1))))"""
    assert check(text, 9)[0] == "result"


def test_changes_of_tier_beside_what_is_inlined() -> None:
    """The place is behind the call of an inlined function's host, and in one that is inlined into itself."""
    text = f"""(module {HEAD}
      (func $leaf (param i32) (result i32) (if (local.get 0) (then (return (i32.const 9)))) (i32.const 4))
      (func $in (param i32) (result i32) (call $change (local.get 0)) (i32.add (local.get 0) (i32.const 2)))
      (func $self (param i32) (result i32)
        (call $change (local.get 0))
        (if (result i32) (local.get 0) (then (call $self (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 1))))
      (func (export "run") (param $n i32) (result i32) (local $s i32)
        (i32.const 1000) (local.get $n)
        (loop $l (param i32) (result i32)
          (i32.add (call $leaf (local.get $n))) (i32.add (call $in (local.get $n)))
          (i32.add (call $self (local.get $n)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.add)))"""
    assert check(text, 3)[0] == "result"


# --- short loops ---

#: Bodies of (param $n i32) (param $a i32) (result i32).
SHORT = {
    "counting down": "(loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $n)",
    "a result": """(loop $l (result i32) (local.set $a (i32.add (local.get $a) (local.get $n)))
        (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))) (local.get $a))""",
    "parameters": """(local.get $a) (local.get $n)
        (loop $l (param i32 i32) (result i32) (local.set $a) (i32.mul (i32.const 3))
        (i32.sub (local.get $a) (i32.const 1))
        (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))) (drop))""",
    "ways out": """(block $b (result i32) (loop $l
        (drop (br_if $b (i32.const 77) (i32.eq (local.get $n) (local.get $a))))
        (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $l (local.get $n))) (i32.const 5))""",
    "only branches back": """(block $b (loop $l (br_if $b (i32.eqz (local.get $n)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $l))) (local.get $n)""",
    "no branch back": "(loop $l (result i32) (i32.add (local.get $n) (i32.const 5)))",
    "a table": """(block $b (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_table $b $l $l $b (i32.and (local.get $n) (local.get $a))))) (local.get $n)""",
    "accesses": """(loop $l (i32.store (local.get $a) (local.get $n))
        (local.set $a (i32.add (local.get $a) (i32.const 16384)))
        (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (i32.load (i32.const 8))""",
    "a trap": """(loop $l (local.set $a (i32.sub (local.get $a) (i32.const 1)))
        (drop (i32.div_u (local.get $n) (local.get $a)))
        (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $a)""",
    "an if": """(loop $l (if (i32.and (local.get $n) (i32.const 1)) (then (local.set $a (i32.mul (local.get $a)
        (i32.const 3)))) (else (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 2))))))
        (br_if $l (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0)))) (local.get $a)""",
}  # fmt: skip


@pytest.mark.parametrize("shape", SHORT)
@pytest.mark.parametrize("name", COMPILED)
def test_short_loops(name: str, shape: str) -> None:
    """Any number of rounds, and places of faults in each."""
    text = f'(module (memory 1) (func (export "run") (param $n i32) (param $a i32) (result i32) {SHORT[shape]}))'
    found = []
    for tier in ("interpreter", name):
        exports = exports_of(text, engine_of(tier))
        found.append([outcome_of(exports.run, n, a) for n in range(1, 2 * ROUNDS + 3) for a in (0, 3, 7, 8)])
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", SHORT)
def test_changes_of_tier_in_short_loops(shape: str) -> None:
    text = f"""(module {HEAD} (memory 2)
      (func $f (param $n i32) (param $a i32) (result i32)
        (local.set $a (i32.add (local.get $a) (local.get $n))) (call $change (local.get $n)) {SHORT[shape]})
      (func (export "run") (param $n i32) (result i32) (local $s i32)
        (loop $l (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 31)) (call $f (local.get $n) (i32.const 2))))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $s)))"""
    check(text, 7)


def test_short_loops_look_at_the_flag_once() -> None:
    text = in_ir("(module (func (param i32) (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))")
    assert text.count("wl_loop_interrupt(ptr %inst)") == 1
    assert text.count("= sub i32") == ROUNDS


@pytest.mark.parametrize("name", list(ENGINES))
def test_short_loops_without_end_can_be_interrupted(name: str) -> None:
    exports = exports_of('(module (func (export "run") (loop $l (br $l))))', engine_of(name), timeout=0.05)
    with pytest.raises(wl.Trap) as caught:
        exports.run()
    assert caught.value.code == "timeout"


# --- tables that nothing changes ---

FIXED = """(module
  (type $f (func (param i32) (result i32)))
  (table TABLE)
  (elem (i32.const 1) func $twice $other $divide $throw)
  (tag $e (param i32))
  (func $twice (type $f) (i32.mul (local.get 0) (i32.const 2)))
  (func $other (param i64) (result i64) (local.get 0))
  (func $divide (type $f) (i32.div_u (i32.const 100) (local.get 0)))
  (func $throw (type $f) (if (i32.gt_s (local.get 0) (i32.const 5)) (then (throw $e (local.get 0)))) (local.get 0))
  (func (export "run") (param $at i32) (param $x i32) (result i32) (local $sum i32)
    (i32.const 1000)
    (loop $l (param i32) (result i32)
      (i32.add (call_indirect (type $f) (local.get $x) (local.get $at)))
      (local.set $sum (i32.add (local.get $sum) (local.get $x)))
      (br_if $l (i32.gt_s (local.tee $x (i32.sub (local.get $x) (i32.const 3))) (i32.const 0))))
    (i32.add (local.get $sum)))
  (func (export "comparison") (param $x i32) (result i32)
    (call_indirect (type $f) (local.get $x) (i32.gt_s (local.get $x) (i32.const 0))))
  MORE)"""


def fixed(table: str = "6 funcref", more: str = "") -> str:
    return FIXED.replace("TABLE", table).replace("MORE", more)


@pytest.mark.parametrize("table", ["6 funcref", "i64 6 funcref"])
@pytest.mark.parametrize("name", COMPILED)
def test_indirect_calls_of_known_functions(name: str, table: str) -> None:
    """Of each function, of one of another type, of null and from beyond the table."""
    text = fixed(table)
    if table[:3] == "i64":
        text = text.replace("(elem (i32", "(elem (i64")
        text = text.replace("(local.get $at))", "(i64.extend_i32_s (local.get $at)))")
        text = text.replace("(i32.gt_s (local.get $x) (i32.const 0))))\n", "(i64.const 1)))\n")
    found = []
    for tier in ("interpreter", name):
        exports = exports_of(text, engine_of(tier))
        outcomes = [outcome_of(exports.run, at, x) for at in range(-1, 8) for x in (5, 6, 7)]
        found.append((outcomes, [outcome_of(exports.comparison, x) for x in (-1, 0, 1, 2)]))
    assert found[0] == found[1]


def test_changes_of_tier_beside_indirect_calls_of_known_functions() -> None:
    text = f"""(module {HEAD} (table 4 funcref) (elem (i32.const 1) func $a $b)
      (func $a (type $gi) (call $change (local.get 0)) (i32.add (local.get 0) (i32.const 2)))
      (func $b (type $gi) (i32.mul (local.get 0) (i32.const 3)))
      (func (export "run") (param $n i32) (result i32) (local $s i32)
        (loop $l (result i32)
          (local.get $s)
          (call_indirect (type $gi) (local.get $n) (i32.add (i32.and (local.get $n) (i32.const 1)) (i32.const 1)))
          (local.set $s (i32.add))
          (br_if $l (local.get $s) (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""
    assert check(text.replace('(br_if $l (local.get $s)', '(local.get $s) (br_if $l'), 5)[0] == "result"


def known(text: str) -> list[tuple[int, int]]:
    return decoded(text).known_callees(0, 0)


def test_what_is_known_of_tables() -> None:
    assert known(fixed()) == [(1, 0), (3, 2), (4, 3)]
    expressions = fixed().replace("func $twice $other $divide $throw", "funcref (ref.func $twice) (ref.null func)")
    assert known(expressions) == [(1, 0)]
    another = fixed(more="(table $u 2 funcref) (func (table.copy $u 0 (i32.const 0) (i32.const 1) (i32.const 1)))")
    assert known(another) == [(1, 0), (3, 2), (4, 3)]
    later = fixed(more="(elem (i32.const 1) func $divide)")
    assert known(later) == [(1, 2), (3, 2), (4, 3)]


@pytest.mark.parametrize(
    ("table", "more"),
    [
        ('(export "t") 6 funcref', ""),
        ('(import "env" "t") 6 funcref', ""),
        ("6 funcref", '(export "t" (table 0))'),
        ("6 funcref", "(func (table.set 0 (i32.const 1) (ref.null func)))"),
        ("6 funcref", "(func (drop (table.grow 0 (ref.null func) (i32.const 1))))"),
        ("6 funcref", "(func (table.fill 0 (i32.const 1) (ref.null func) (i32.const 1)))"),
        ("6 funcref", "(func (table.copy 0 0 (i32.const 1) (i32.const 3) (i32.const 1)))"),
        ("6 funcref", "(func (table.init 0 0 (i32.const 1) (i32.const 3) (i32.const 1)))"),
        ("6 funcref", "(table $u 2 funcref) (func (table.copy 0 $u (i32.const 0) (i32.const 1) (i32.const 1)))"),
        ("4 funcref", ""),  # the segment doesn't fit
        ("6 funcref", "(global $g i32 (i32.const 2)) (elem (offset (global.get $g)) func $twice)"),
    ],
)
def test_tables_that_may_change_are_not_known(table: str, more: str) -> None:
    assert known(fixed(table, more)) == []


def test_a_table_that_is_filled_in_part() -> None:
    """Functions of an instance that can't be made stay in a table of another one: what they call is as it is."""
    host = '(module (table (export "t") 2 funcref))'
    text = """(module (type $f (func (result i32)))
      (import "a" "t" (table $theirs 2 funcref)) (table $own 2 funcref)
      (func $seven (type $f) (i32.const 7))
      (func $asks (type $f) (call_indirect $own (type $f) (i32.const 1)))
      (elem (table $theirs) (i32.const 0) func $asks)
      (elem (table $theirs) (i32.const 2) func $seven)
      (elem (table $own) (i32.const 1) func $seven))"""
    found = []
    for tier in ("interpreter", "compiler"):
        engine = engine_of(tier)
        store = wl.Store(engine)
        theirs = wl.Instance(wl.Module(host, engine), store=store).exports
        with pytest.raises(wl.WasmError):
            wl.Instance(wl.Module(text, engine), {"a": {"t": theirs.t}}, store=store)
        found.append(outcome_of(theirs.t[0])[:2])
    assert found[0] == found[1] and found[0][0] == "trap"


#: Two functions of a type that are referred to, one that isn't, and one of a type below it; references come from
#: everywhere.
VIRTUAL = """(module
  (rec
    (type $f (sub (func (param (ref null $o) i32) (result i32))))
    (type $g (sub final $f (func (param (ref null $o) i32) (result i32))))
    (type $table (struct (field $f (mut (ref null $f)))))
    (type $o (sub (struct (field $t (ref null $table)) (field $n (mut i32))))))
  (import "h" "f" (func $host (type $f))) (export "host" (func $host))
  (table $other (export "other") 4 funcref) (tag $e (param i32))
  (global $one (ref $table) (struct.new $table (ref.func $add)))
  (elem declare func $throws $below)
  (func $add (export "add") (type $f) (i32.add (struct.get $o $n (local.get 0)) (local.get 1)))
  (func $throws (type $f)
    (if (i32.eq (local.get 1) (i32.const 3)) (then (throw $e (struct.get $o $n (local.get 0)))))
    (i32.div_u (i32.const 100) (local.get 1)))
  (func $below (type $g) (struct.set $o $n (local.get 0) (local.get 1)) (i32.const 77))
  (func $never (type $f) (i32.const -5))
  (func $of (param $which i32) (result (ref null $f))
    (if (i32.eq (local.get $which) (i32.const 0)) (then (return (struct.get $table $f (global.get $one)))))
    (if (i32.eq (local.get $which) (i32.const 1)) (then (return (ref.func $throws))))
    (if (i32.eq (local.get $which) (i32.const 2)) (then (return (ref.func $below))))
    (if (i32.eq (local.get $which) (i32.const 3)) (then (return (ref.null $f))))
    (ref.cast (ref null $f) (table.get $other (i32.sub (local.get $which) (i32.const 4)))))
  (func (export "call") (param $which i32) (param $n i32) (param $x i32) (result i32) (local $o (ref $o))
    (local.set $o (struct.new $o (struct.new $table (call $of (local.get $which))) (local.get $n)))
    (i32.add (i32.mul (i32.const 1000)
      (call_ref $f (local.get $o) (local.get $x) (struct.get $table $f (struct.get $o $t (local.get $o)))))
      (struct.get $o $n (local.get $o))))
  (func (export "caught") (param $which i32) (param $x i32) (result i32)
    (block $b (result i32)
      (try_table (result i32) (catch $e $b)
        (call_ref $f (struct.new $o (global.get $one) (i32.const 12)) (local.get $x) (call $of (local.get $which))))))
  (func (export "null") (result i32)
    (call_ref $f (ref.null $o) (i32.const 1) (call $of (i32.const 0)))))"""
VIRTUAL_CALLS = [
    *(("call", which, 5, x) for which in range(8) for x in (0, 1, 3)),
    *(("caught", which, x) for which in range(8) for x in (0, 2, 3)),
    ("null",),
]  # fmt: skip


def virtual(name: str) -> Any:
    """The exports of `VIRTUAL`, whose table has a function of the host, two of another instance, and none."""
    engine = engine_of(name)
    store = wl.Store(engine)
    module = wl.Module(VIRTUAL, engine)
    imports = {"h": {"f": lambda box, x: (box[1] if box else -1) * 10 + x}}
    another = wl.Instance(module, imports, store=store).exports
    exports = wl.Instance(module, imports, store=store).exports
    exports.other[0], exports.other[1], exports.other[2] = exports.host, another.add, exports.add
    return exports


@pytest.mark.parametrize("name", COMPILED)
def test_virtual_calls(name: str) -> None:
    """Calls of references, which are to functions of the module, of others and of the host, or null."""
    interpreted, exports = virtual("interpreter"), virtual(name)
    for function, *arguments in VIRTUAL_CALLS:
        wanted = outcome_of(interpreted[function], *arguments)
        assert outcome_of(exports[function], *arguments) == wanted, (function, arguments)
    assert exports.call(0, 5, 3) == 8005 and exports.call(4, 5, 3) == 53005 and exports.call(5, 5, 3) == 8005


def test_targets_of_references() -> None:
    facts = Facts(decode_module(parse_module(VIRTUAL).binary))
    names = ["add", "throws", "below", "never"]
    assert [names[i] for i in facts.targets(0)] == ["add", "throws", "below"]
    assert [names[i] for i in facts.targets(1)] == ["below"]


#: A reference that isn't null, or is an object, on one of two ways only.
ONE_WAY = """(module
  (type $s (struct (field (mut i32)))) (type $a (array i32))
  (func $get (export "get") (param $r (ref null $s)) (param $way i32) (result i32) (local $sum i32)
    (if (local.get $way) (then (local.set $sum (struct.get $s 0 (local.get $r)))))
    (i32.add (local.get $sum) (struct.get $s 0 (local.get $r))))
  (func (export "test") (param $r anyref) (param $way i32) (result i32)
    (if (local.get $way) (then (drop (ref.cast (ref $s) (local.get $r)))))
    (i32.add (ref.test (ref $s) (local.get $r)) (ref.test (ref null $a) (local.get $r))))
  (func (export "loop") (param $r (ref null $s)) (param $n i32) (result i32) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (struct.get $s 0 (local.get $r))))
      (if (i32.eq (local.get $n) (i32.const 2)) (then (local.set $r (ref.null $s))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func (export "s") (param i32) (result (ref $s)) (struct.new $s (local.get 0)))
  (func (export "a") (result (ref $a)) (array.new_fixed $a 1 (i32.const 3)))
  (func (export "no") (param $n i32) (result i32)
    (if (local.get $n) (then (return (struct.get $s 0 (ref.null $s)))))
    (ref.is_null (ref.null $s))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_known_on_one_way_only(name: str) -> None:
    exports = exports_of(ONE_WAY, engine_of(name))
    box = exports.s(4)
    assert [exports.get(box, way) for way in (0, 1)] == [4, 8]
    for way in (0, 1):
        assert outcome_of(exports.get, None, way)[:2] == ("trap", "null structure reference")
    wanted = {"s": 1, "a": 1, "i31": 0, "null": 1, "host": 0}
    things = {"s": box, "a": exports.a(), "i31": 7, "null": None, "host": object()}
    for kind, thing in things.items():
        assert exports.test(thing, 0) == wanted[kind], kind
        cast = outcome_of(exports.test, thing, 1)[:2]
        assert cast == (("result", 1) if kind == "s" else ("trap", "cast failure")), kind
    assert exports.loop(box, 1) == 4
    assert outcome_of(exports.loop, box, 3)[:2] == ("trap", "null structure reference")
    assert outcome_of(exports.no, 1)[:2] == ("trap", "null structure reference")
    assert exports.no(0) == 1
