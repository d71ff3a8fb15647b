"""Bytecode and compiled code in one store, function by function: calls that cross, in both directions."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import outcome_of
from tests.fuzz.differential import CROSSING, Variant, choices_of, difference
from tests.fuzz.generator import generate
from tests.tiers import replacing
from wasmloom.runtime.collector import statistics
from wasmloom.tiers import mixed
from wasmloom.tiers.frames import frames_inside
from wasmloom.tiers.stores import change_over

MANY = "i32 f64 i64 f32 i32 i64 f64 f32 i64 i32 f64 f64 i64 f32 f64 i32 f64 f32 i64 f64"
#: Tests of what the host sees run in both.
TIERS = ("interpreter", "baseline")

pytestmark = pytest.mark.usefixtures("mixing")


def made(
    text: str, tier: str = "interpreter", imports: Any = None, engine: wl.Engine | None = None, **settings: Any
) -> tuple[Any, Any]:
    """A module and the exports of an instance, in a store of its own, all of it bytecode."""
    engine = engine or wl.Engine(tier=tier, cache=False)
    module = wl.Module(text, engine)
    return module, wl.Instance(module, imports or {}, store=wl.Store(engine, **settings)).exports


def choices(count: int) -> Iterator[list[int]]:
    """All ways to choose among the first functions of a module."""
    for chosen in product((False, True), repeat=count):
        yield [i for i in range(count) if chosen[i]]


#: Functions that call each other in turn: `ping` and `pong` go down, and what they find at the bottom comes up.
TURNS = """(module
  (import "m" "host" (func $host (param i32) (result i32)))
  (tag $t (param i32)) (memory 1) (table funcref (elem $ping $pong))
  (type $f (func (param i32 i32) (result i32)))
  (func $ping (export "ping") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (call $bottom (local.get 1)))))
    (i32.add (call $pong (i32.sub (local.get 0) (i32.const 1)) (local.get 1)) (i32.const 1)))
  (func $pong (export "pong") (param i32 i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (call $bottom (local.get 1)))))
    (i32.add
      (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (i32.const 0)) (i32.const 1)))
  (func $bottom (param i32) (result i32)
    (block (block (block (block (br_table 0 1 2 3 (local.get 0)))
      (return (i32.const 7)))
      (return (i32.load (i32.const -4))))
      (throw $t (i32.const 5)))
    (call $host (local.get 0)))
  (func $catch (export "catch") (param i32 i32) (result i32)
    (block (result i32)
      (try_table (result i32) (catch $t 0) (call $ping (local.get 0) (local.get 1)))))
  (func $twice (export "twice") (param i32 i32) (result i32)
    (block (result i32)
      (try_table (result i32) (catch $t 0)
        (drop (call $catch (local.get 0) (local.get 1)))
        (call $pong (local.get 0) (local.get 1))))))"""


def turns(exports: Any) -> list[Any]:
    """How calls in `TURNS` end."""
    return [
        outcome_of(exports[name], depth, what)
        for name in ("ping", "pong", "catch", "twice")
        for depth in (0, 1, 4)
        for what in range(4)
    ]


def run_turns(tier: str, chosen: list[int]) -> Any:
    """How calls in `TURNS` end where some functions have compiled code, and the frames that its host function sees."""
    depth = 0
    seen = []

    def host(number: int) -> int:
        nonlocal depth
        seen.append([(frame.function, frame.offset, frame.name) for frame in frames_inside(exports.ping.store)])
        depth += 1
        return number if depth % 3 else exports.ping(3, 3) + exports.catch(2, 2)

    module, exports = made(TURNS, tier, {"m": {"host": host}})
    mixed.replace(module, chosen)
    assert mixed.replaced(module) == chosen
    return turns(exports), seen


@pytest.mark.parametrize("tier", TIERS)
def test_whatever_is_compiled_results_traps_exceptions_and_frames_are_the_same(tier: str) -> None:
    """The host is called, and calls, from frames of both kinds."""
    expected = run_turns(tier, [])
    for chosen in ([0], [1], [2], [3], [4], [0, 2], [1, 3], [0, 3, 4], [1, 2, 4], [0, 1, 2, 3, 4]):
        assert run_turns(tier, chosen) == expected


@pytest.mark.parametrize("chosen", list(choices(3)))
@pytest.mark.parametrize("tier", TIERS)
def test_a_trap_is_no_fault_because_one_before_it_was(tier: str, chosen: list[int]) -> None:
    """Compiled code that waits is where its call is, whatever has trapped before, and where."""
    module, exports = made(
        """(module (memory 1) (func $load (drop (i32.load (i32.const -4)))) (func $stop (unreachable))
          (func (export "run") (param i32) (if (local.get 0) (then (call $stop)) (else (call $load)))))""",
        tier,
    )
    before = [outcome_of(exports.run, which) for which in (0, 1, 0)]
    mixed.replace(module, chosen)
    assert [outcome_of(exports.run, which) for which in (0, 1, 0)] == before


@pytest.mark.parametrize("tier", TIERS)
def test_arguments_and_results_of_all_kinds_and_numbers(tier: str) -> None:
    """From bytecode to compiled code and back, directly, by a reference, and as tail calls."""
    kinds = MANY.split()
    gets = " ".join(f"(local.get {i})" for i in range(len(kinds)))
    call = f"(param {MANY}) (result {MANY})"
    forms = [
        f"(call $to {gets})",
        f"(return_call $to {gets})",
        f"(call_indirect (type $t) {gets} (i32.const 0))",
        f"(return_call_indirect (type $t) {gets} (i32.const 0))",
        f"(call_ref $t {gets} (ref.func $to))",
    ]
    names = [f"by{i}" for i in range(len(forms))]
    text = f"""(module (type $t (func {call})) (table funcref (elem $to)) (func $to {call} {gets})
      {"".join(f'(func (export "{name}") {call} {form})' for name, form in zip(names, forms, strict=True))})"""
    values = [(-1) ** i * (i + 1) * (1.5 if kind[0] == "f" else 1) for i, kind in enumerate(kinds)]
    for chosen in ([], [0], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]):
        module, exports = made(text, tier)
        mixed.replace(module, chosen)
        for name in names:
            assert list(exports[name](*values)) == values


@pytest.mark.parametrize("count", [0, 1, 5, 60, 900])
def test_many_words(count: int) -> None:
    """More arguments and results than any frame has otherwise, at the end of a small stack, too."""
    kinds = "i64 " * count
    gets = "".join(f"(local.get {i})" for i in range(count))
    text = f"""(module (func $to (param {kinds}) (result {kinds}) {gets})
      (func (export "from") (param {kinds}) (result {kinds}) (call $to {gets})))"""
    for chosen in ([0], [1]):
        module, exports = made(text, stack_limit=max(4096, 100 * count))
        mixed.replace(module, chosen)
        result = exports["from"](*range(count))
        assert result == (None if count == 0 else 0 if count == 1 else tuple(range(count)))


def test_recursion_that_crosses_at_each_call_ends_at_a_limit() -> None:
    """Either of the stacks is the first to be full, depending on which function needs more: a trap, and no more."""
    grow = " ".join("i64" for _ in range(100))
    for locals in ((grow, ""), ("", grow)):
        for chosen in ([0], [1]):
            module, exports = made(
                f"""(module
                  (func $a (export "a") (param i32) (result i32) (local {locals[0]})
                    (if (result i32) (local.get 0)
                      (then (i32.add (i32.const 1) (call $b (i32.sub (local.get 0) (i32.const 1)))))
                      (else (i32.const 0))))
                  (func $b (export "b") (param i32) (result i32) (local {locals[1]})
                    (if (result i32) (local.get 0)
                      (then (i32.add (i32.const 1) (call $a (i32.sub (local.get 0) (i32.const 1)))))
                      (else (i32.const 0)))))""",
                stack_limit=1 << 16,
            )
            mixed.replace(module, chosen)
            for function in (exports.a, exports.b):
                for _ in range(2):
                    with pytest.raises(wl.Trap, match="call stack exhausted"):
                        function(1_000_000)
                    assert function(40) == 40


def test_many_words_at_the_end_of_a_stack() -> None:
    """What passes them on in compiled code may need a large frame, too, wherever the stack ends."""
    kinds = "i64 " * 900
    gets = "".join(f"(local.get {i})" for i in range(1, 900))
    turn = f"""(if (i64.eqz (local.get 0)) (then (return (i64.const 0) {gets})))
      (i64.sub (local.get 0) (i64.const 1)) {gets}"""
    text = f"""(module
      (func $a (export "a") (param {kinds}) (result {kinds}) {turn} (call $b))
      (func $b (export "b") (param {kinds}) (result {kinds}) {turn} (call $a)))"""
    for chosen in ([0], [1]):
        module, exports = made(text, stack_limit=1 << 18)
        mixed.replace(module, chosen)
        for name in ("a", "b"):
            with pytest.raises(wl.Trap, match="call stack exhausted"):
                exports[name](*[100_000] * 900)
            assert exports[name](*[2] * 900) == (0, *[2] * 899)


@pytest.mark.parametrize("tier", TIERS)
def test_tail_calls_that_cross_need_no_stack(tier: str) -> None:
    """In one module, and from module to module: with a stack for a few calls, and a hundred thousand of them."""
    text = """(module (import "m" "other" (func $other (param i32 i32) (result i32)))
      (type $f (func (param i32 i32) (result i32)))
      (table (export "table") 2 funcref)
      (func $a (export "a") (param i32 i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
        (return_call $b (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 3))))
      (func $b (export "b") (param i32 i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
        (return_call $a (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 3))))
      (func $out (export "out") (param i32 i32) (result i32)
        (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
        (return_call_indirect (type $f)
          (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 3)) (i32.const 1)))
      (func (export "call") (param i32 i32) (result i32)
        (i32.add (call $a (local.get 0) (local.get 1)) (call $out (local.get 0) (local.get 1)))))"""
    engine = wl.Engine(tier=tier, cache=False)
    for chosen in ([], [0], [1], [2], [0, 2], [0, 3], [3], [1, 2, 3]):
        store = wl.Store(engine, stack_limit=4096)
        modules, instances = [], []
        for _ in range(2):
            modules.append(wl.Module(text, engine))
            other = instances[0].out if instances else wl.Func(store, "i32 i32 -> i32", lambda x, y: y)
            instances.append(wl.Instance(modules[-1], {"m": {"other": other}}, store=store).exports)
        for here, there in (instances, instances[::-1]):
            here.table[1] = there.out
        mixed.replace(modules[0], chosen)
        mixed.replace(modules[1], [i for i in range(4) if i not in chosen])
        for exports in instances:
            assert exports.a(100_001, 1) == 300_004
            assert exports.out(100_001, 1) == 300_004
            assert exports.call(100_001, 1) == 600_008


@pytest.mark.parametrize("tier", TIERS)
def test_a_loop_that_runs_goes_on_as_compiled_code(tier: str) -> None:
    """A frame in a loop is let go by its host function: it ends there, and its caller, in bytecode, goes on."""
    module: Any = None
    text = """(module (import "m" "host" (func $host (param i32)))
      (func $work (export "work") (param i32) (result i64 f64) (local i64 f64)
        (loop $l
          (call $host (local.get 0))
          (local.set 1 (i64.add (local.get 1) (i64.extend_i32_u (local.get 0))))
          (local.set 2 (f64.add (local.get 2) (f64.const 0.5)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1) (local.get 2))
      (func (export "call") (param i32) (result i64) (local i64 f64)
        (local.set 1 (i64.const 1000)) (call $work (local.get 0)) (local.set 2)
        (i64.add (local.get 1)) (i64.trunc_f64_s (local.get 2)) (i64.add)))"""

    def host(left: int) -> None:
        if left == 70:
            mixed.replace(module, [0], [(0, at) for at in module.code_space.loops_of(0)])
        kinds.append([type(frame.code).__name__ for frame in frames_inside(store)])

    kinds: list[Any] = []
    module, exports = made(text, tier, {"m": {"host": host}})
    store = exports.call.store
    assert exports.call(100) == 1000 + 5050 + 50
    assert kinds[29] == ["NoneType", "CodeSpace", "CodeSpace"]
    if tier == "interpreter":  # code of stencils looks at the loop's word when a tick comes
        assert kinds[31] == ["NoneType", "CompiledModule", "CodeSpace"]
    assert exports.call(100) == 1000 + 5050 + 50
    assert kinds[-1] == ["NoneType", "CompiledModule", "CodeSpace"]


def test_a_loop_that_nothing_arrives_at_gets_no_code() -> None:
    """Bytecode of handlers is there whether anything is thrown or not; the compiler knows that nothing is."""
    text = """(module (tag $t) (func (export "f") (param i32) (result i32)
      (block $caught (try_table (catch $t $caught)) (return (local.get 0)))
      (loop (br_if 0 (local.get 0)))
      (loop (br_if 0 (local.get 0)))
      (i32.const 1)))"""
    module, exports = made(text)
    replacing.all_of(module)
    assert exports.f(7) == 7


def test_a_loop_that_is_left_leaves_its_handlers() -> None:
    """What the frame's `try_table`s have put there ends with the frame: a later exception goes to the caller's."""
    module, exports = made(
        """(module (tag $t (param i32))
          (func $inner (export "inner") (param i32) (result i32)
            (block $b (result i32)
              (try_table (result i32) (catch $t $b)
                (block $c (result i32)
                  (try_table (result i32) (catch $t $c)
                    (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                    (throw $t (i32.const 3)))))))
          (func $throw (throw $t (i32.const 4)))
          (func (export "outer") (param i32) (result i32)
            (block $b (result i32)
              (try_table (result i32) (catch $t $b)
                (if (i32.ne (call $inner (local.get 0)) (i32.const 3)) (then (unreachable)))
                (call $throw) (i32.const 0)))))"""
    )
    assert exports.outer(9) == 4
    mixed.replace(module, [], [(0, at) for at in module.code_space.loops_of(0)])
    assert exports.outer(9) == 4
    mixed.replace(module, [1])
    assert exports.outer(9) == 4
    assert exports.inner(9) == 3


@pytest.mark.parametrize("chosen", list(choices(3)))
@pytest.mark.parametrize("tier", TIERS)
def test_references_stay_alive_on_both_stacks(tier: str, chosen: list[int]) -> None:
    """Whatever the collector looks at: exceptions and Python objects are held by frames of either kind."""
    text = """(module (import "m" "collect" (func $collect)) (import "m" "new" (func $new (result externref)))
      (import "m" "same" (func $same (param externref externref)))
      (tag $t (param i64))
      (func $make (param i64) (result exnref) (local exnref)
        (block $b (result i64 exnref) (try_table (catch_ref $t $b) (throw $t (local.get 0))) (unreachable))
        (local.set 1) (drop) (local.get 1))
      (func $ping (export "ping") (param i32 i64) (result i64) (local exnref externref)
        (local.set 2 (call $make (local.get 1))) (local.set 3 (call $new))
        (if (local.get 0)
          (then (drop (call $pong (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 1) (i64.const 1)))))
          (else (call $collect)))
        (call $same (local.get 3) (local.get 3))
        (block $b (result i64) (try_table (catch $t $b) (throw_ref (local.get 2))) (unreachable)))
      (func $pong (export "pong") (param i32 i64) (result i64) (local exnref externref)
        (local.set 2 (call $make (local.get 1))) (local.set 3 (call $new))
        (if (local.get 0)
          (then (drop (call $ping (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 1) (i64.const 1)))))
          (else (call $collect)))
        (call $same (local.get 3) (local.get 3))
        (block $b (result i64) (try_table (catch $t $b) (throw_ref (local.get 2))) (unreachable))))"""
    def collect() -> None:
        gc.collect()
        store.gc()
        seen.append(statistics(store)["exceptions"])

    def same(one: object, other: object) -> None:
        assert type(one) is set and one is other

    seen: list[int] = []
    module, exports = made(text, tier, {"m": {"collect": collect, "new": set, "same": same}})
    store = exports.ping.store
    mixed.replace(module, chosen)
    for name in ("ping", "pong"):
        assert exports[name](9, 100) == 100
    assert all(count >= 10 for count in seen)
    store.gc()
    assert statistics(store)["exceptions"] <= 1  # the one that was thrown last


@pytest.mark.parametrize("chosen", list(choices(2)))
def test_a_timeout_reaches_both(chosen: list[int]) -> None:
    """A loop without end is stopped, in bytecode below compiled code and the other way round."""
    module, exports = made(
        """(module (func $loop (loop (br 0))) (func (export "run") (call $loop))
          (func (export "calls") (loop (call $nothing) (br 0))) (func $nothing))""",
        timeout=0.05,
    )
    mixed.replace(module, [*chosen, *(i + 2 for i in chosen)])
    for function in (exports.run, exports.calls):
        with pytest.raises(wl.Trap, match="time"):
            function()


def test_a_forked_child_goes_on_from_either() -> None:
    """A host function forks below frames of both kinds."""
    results = []

    def host(number: int) -> int:
        child = os.fork()
        if child:
            results.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return number
        in_child.append(1)
        return number + 40

    in_child: list[int] = []
    for chosen in ([0, 2], [1, 4], [0, 1, 2]):
        module, exports = made(TURNS, imports={"m": {"host": host}})
        mixed.replace(module, chosen)
        found = exports.ping(4, 3)
        if in_child:
            os._exit(found)
        assert found == 7
    assert results == [47] * 3


def test_stores_and_instances_share_the_code() -> None:
    """Those that are there, and those that come; a store that doesn't mix is left alone."""
    engine = wl.Engine(tier="interpreter", cache=False)
    imports = {"m": {"host": lambda number: number}}
    replacing.force(False)
    module = wl.Module(TURNS, engine)
    plain = wl.Instance(module, imports, store=wl.Store(engine)).exports
    replacing.force(True)
    before = [wl.Instance(module, imports, store=wl.Store(engine)).exports for _ in range(2)]
    mixed.replace(module, [0])
    after = wl.Instance(module, imports, store=before[0].ping.store).exports
    mixed.replace(module, [2, 3])
    for exports in (plain, *before, after):
        assert turns(exports) == turns(before[0])
    del module, before, after, exports
    gc.collect()
    assert plain.ping(3, 0) == 10


def test_functions_of_continuations_stay_bytecode() -> None:
    """A guest's continuations go on as ever; what they call has no native stack, what calls them may have."""
    module, exports = made(
        """(module (type $f (func (result i32))) (type $c (cont $f)) (tag $yield (param i32))
          (func $plain (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
          (func $body (result i32) (suspend $yield (call $plain (i32.const 1))) (call $plain (i32.const 10)))
          (elem declare func $body)
          (func $run (result i32) (local $c (ref null $c)) (local $sum i32)
            (local.set $c (cont.new $c (ref.func $body)))
            (block $y (result i32 (ref $c))
              (return (resume $c (on $yield $y) (local.get $c))))
            (local.set $c) (local.set $sum)
            (i32.add (local.get $sum) (resume $c (local.get $c))))
          (func $middle (result i32) (call $plain (call $run)))
          (func (export "main") (result i32) (i32.add (call $middle) (call $run))))"""
    )
    assert [mixed.compiles(module, i) for i in range(5)] == [True, False, False, True, True]
    assert exports.main() == 27
    for chosen in ([4], [0], [3]):
        mixed.replace(module, chosen)
        assert exports.main() == 27


@pytest.mark.parametrize("stacks", [False, True])
@pytest.mark.parametrize("case", range(6))
def test_random_programs(case: int, stacks: bool) -> None:
    """What some functions and loops of them do as compiled code, and some more from some call on."""
    plain = CROSSING[case % len(CROSSING)]
    reference = Variant(fuel=plain.fuel, memory=plain.memory)
    variant = plain._replace(crossing=case, change=1 + case)
    found = difference(None, generate(choices_of(90, case), stacks=stacks), (reference, variant))
    assert found is None


def test_many_calls_leave_nothing_behind() -> None:
    """Records of crossings go with their calls, however these end."""
    ends: list[Callable[[], Any]] = []
    module, exports = made(TURNS, imports={"m": {"host": lambda number: number}}, stack_limit=16384)
    mixed.replace(module, [0, 3])
    for what in range(4):
        ends.append(lambda what=what: outcome_of(exports.twice, 20, what))
    expected = [end() for end in ends]
    for _ in range(200):
        assert [end() for end in ends] == expected




def test_a_store_begins_to_mix_and_ends_it() -> None:
    """Between two calls; one that doesn't mix any more can change over as a whole."""
    engine = wl.Engine(tier="interpreter", cache=False)
    replacing.force(False)
    module = wl.Module(TURNS, engine)
    kinds: list[Any] = []

    def host(number: int) -> int:
        kinds.append([type(frame.code).__name__ for frame in frames_inside(store)])
        with pytest.raises(ValueError, match="now"):
            mixed.let_mix(store, True)
        return number

    store = wl.Store(engine)
    exports = wl.Instance(module, {"m": {"host": host}}, store=store).exports
    mixed.replace(module, [0, 1, 2])
    for on, kind in ((False, "CodeSpace"), (True, "CompiledModule"), (False, "CodeSpace"), (True, "CompiledModule")):
        mixed.let_mix(store, on)
        assert exports.ping(1, 3) == 4
        assert kinds[-1] == ["NoneType", *[kind] * 3]
    mixed.let_mix(store, False)
    change_over(store)
    assert exports.ping(1, 3) == 4
    with pytest.raises(ValueError, match="now"):
        mixed.let_mix(store, True)
