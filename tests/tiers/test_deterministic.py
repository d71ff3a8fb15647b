"""Deterministic engines: NaNs, the depth of calls and limits are the same in every tier."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, outcome_of
from wasmloom.semantics.determinism import FRAME_COST, GIVES_NAN, VALUE_COST
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.system import allocation

pytestmark = pytest.mark.usefixtures("code_at_once")

#: Signalling and quiet NaNs with payloads of both signs, and what makes new ones.
NUMBERS = {
    "f32": (0x7FA00001, 0xFFC12345, 0x7FC00000, 0xFF800000, 0x7F800000, 0x00000000, 0x3F800000),
    "f64": (
        0x7FF4000000000001, 0xFFF8123456789ABC, 0x7FF8000000000000, 0xFFF0000000000000, 0x7FF0000000000000, 0,
        0x3FF0000000000000,
    ),
}  # fmt: skip
CANONICAL = {"f32": 0x7FC00000, "f64": 0x7FF8000000000000}
LANES = {"f32": ("f32", 1), "f64": ("f64", 1), "f32x4": ("f32", 4), "f64x2": ("f64", 2)}


def engines(*tiers: str, **settings: Any) -> list[wl.Engine]:
    return [engine_of(tier, deterministic=True, **settings) for tier in tiers or ENGINES]


def exports_of(source: str, engine: wl.Engine, imports: Any = None, **limits: Any) -> Any:
    return wl.Instance(wl.Module(source, engine), imports, store=wl.Store(engine, **limits)).exports


def bits_of(value: Any, type: str) -> list[int]:
    """The bits of a result's floats of a type, from an integer or a vector."""
    data = value if isinstance(value, bytes) else struct.pack("<q", value)
    return [word for (word,) in struct.iter_unpack("<I" if type == "f32" else "<Q", data)]


def is_nan(bits: int, type: str) -> bool:
    width, mantissa = (32, 23) if type == "f32" else (64, 52)
    return bits & (1 << width - 1) - 1 > ((1 << width - 1) - 1) >> mantissa << mantissa


def arithmetic(name: str) -> str:
    """A module whose `run` applies an instruction to numbers in memory; in the ways that operands and results go."""
    row = BY_MNEMONIC[name]
    vector = row.results == ("v128",)
    code = f"(i64.reinterpret_{row.results[0]} (local.get $r))"
    if row.results == ("f32",):
        code = "(i64.extend_i32_u (i32.reinterpret_f32 (local.get $r)))"
    result = ("v128", "(local.get $r)") if vector else ("i64", code)
    operands = [f"({type}.load (i32.const {16 * i}))" for i, type in enumerate(row.params)]
    locals_ = "".join(f" (local $x{i} {type})" for i, type in enumerate(row.params))
    sets = "".join(f"(local.set $x{i} {operand})" for i, operand in enumerate(operands))
    gets = " ".join(f"(local.get $x{i})" for i in range(len(operands)))
    again = " ".join(
        f"({name} {gets})" if type == row.results[0] else f"(local.get $x{i})" for i, type in enumerate(row.params)
    )
    return f"""(module (memory (export "memory") 1)
      (func (export "loaded") (result {result[0]}) (local $r {row.results[0]})
        (local.set $r ({name} {" ".join(operands)})) {result[1]})
      (func (export "from_locals") (result {result[0]}) (local $r {row.results[0]}) {locals_} {sets}
        (local.set $r ({name} {gets})) {result[1]})
      (func (export "of_results") (result {result[0]}) (local $r {row.results[0]}) {locals_} {sets}
        (local.set $r ({name} {again})) {result[1]})
      (func (export "stored") (result {result[0]}) (local $r {row.results[0]}) {locals_} {sets}
        ({row.results[0]}.store (i32.const 64) ({name} {gets}))
        (local.set $r ({row.results[0]}.load (i32.const 64))) {result[1]}))"""


@pytest.mark.parametrize("name", GIVES_NAN)
def test_nans_that_are_computed_are_canonical(name: str) -> None:
    type, lanes = LANES[GIVES_NAN[name]]
    row = BY_MNEMONIC[name]
    source = arithmetic(name)
    all_exports = [exports_of(source, engine) for engine in engines("interpreter", "baseline", "compiler")]
    operand = {"f32.demote_f64": "f64", "f64.promote_f32": "f32"}.get(name, type)
    operand = {"f32x4.demote_f64x2_zero": "f64", "f64x2.promote_low_f32x4": "f32"}.get(name, operand)
    numbers = NUMBERS[operand]
    seen_nan = False
    for k in range(len(numbers) ** 2):
        data = b"".join(
            b"".join(
                struct.pack("<I" if operand == "f32" else "<Q", numbers[(k // len(numbers) ** i + lane) % len(numbers)])
                for lane in range(16 // (4 if operand == "f32" else 8))
            )
            for i in range(len(row.params))
        )
        results = []
        for exports in all_exports:
            exports.memory.write(0, data)
            results.append([getattr(exports, way)() for way in ("loaded", "from_locals", "of_results", "stored")])
        assert all(other == results[0] for other in results), (k, results)
        for result in results[0]:
            for bits in bits_of(result, type)[:lanes]:
                if is_nan(bits, type):
                    seen_nan = True
                    assert bits == CANONICAL[type], hex(bits)
    assert seen_nan


def test_what_moves_bits_leaves_nans_alone() -> None:
    odd = NUMBERS["f64"][1]
    source = """(module (memory 1) (global $g (mut f64) (f64.const 0))
      (func $same (param f64) (result f64) (local.get 0))
      (func (export "moved") (param i64) (result i64) (local $x f64)
        (local.set $x (call $same (f64.reinterpret_i64 (local.get 0))))
        (f64.store (i32.const 8) (f64.neg (f64.abs (local.get $x))))
        (global.set $g (f64.copysign (f64.load (i32.const 8)) (f64.const 1)))
        (i64.reinterpret_f64 (select (f64.copysign (global.get $g) (local.get $x)) (f64.const 1) (i32.const 1))))
      (func (export "lane") (param i64) (result i64)
        (i64x2.extract_lane 1 (f64x2.pmin (f64x2.neg (f64x2.neg (i64x2.splat (local.get 0)))) (v128.const i64x2 0 0)))))
    """
    signed = odd - (1 << 64)
    for engine in engines():
        exports = exports_of(source, engine)
        assert (exports.moved(signed), exports.lane(signed)) == (signed, signed)


def test_others_keep_the_bits_of_the_first_nan() -> None:
    source = """(module (func (export "add") (param i64) (result i64)
      (i64.reinterpret_f64 (f64.add (f64.reinterpret_i64 (local.get 0)) (f64.const 1)))))"""
    signed = NUMBERS["f64"][1] - (1 << 64)
    for tier in ENGINES:
        assert exports_of(source, engine_of(tier)).add(signed) == signed


# --- depth ---

RECURSIONS = {
    "direct": '(func $f (export "f") (param i32) (result i32) (call $step) (call $f (local.get 0)))',
    "mutual": """(func $f (export "f") (param i32) (result i32) (call $step) (call $g (local.get 0) (f64.const 1)))
      (func $g (param i32 f64) (result i32) (local i32 i64 v128) (i32.add (i32.const 1) (call $f (local.get 0))))""",
    "indirect": """(func $f (export "f") (param i32) (result i32) (call $step)
      (i32.add (local.get 0) (call_indirect $t (type $i) (local.get 0) (i32.const 0))))""",
    "by reference": """(func $f (export "f") (param i32) (result i32) (call $step)
      (i32.mul (local.get 0) (call_ref $i (local.get 0) (ref.func $f))))""",
    "operands": """(func $f (export "f") (param i32) (result i32) (call $step)
      (i32.add (i32.const 1) (i32.add (local.get 0) (i32.add (i32.const 2) (i32.add (local.get 0)
        (i32.add (i32.const 5) (call $f (local.get 0))))))))""",
    "vectors": """(func $f (export "f") (param i32) (result i32) (local v128 v128 v128) (call $step)
      (local.set 1 (i32x4.splat (local.get 0))) (drop (call $f (local.get 0))) (i32x4.extract_lane 1 (local.get 1)))""",
    "handlers": """(func $f (export "f") (param i32) (result i32) (call $step)
      (block $l (result i32) (try_table (catch $e $l) (return (call $f (local.get 0)))) (i32.const 1)))""",
    "old handlers": """(func $f (export "f") (param i32) (result i32) (call $step)
      (try (result i32) (do (call $f (local.get 0))) (catch $e (br 0)) (catch_all (i32.const 1))))""",
    "dead code": """(func $f (export "f") (param i32) (result i32) (call $step)
      (block (br 0) (drop (i32.add (i32.const 1) (i32.add (i32.const 1) (i32.const 2)))))
      (call $f (local.get 0)) (return) (i32.const 1) (i32.const 2) (i32.const 3) (drop) (drop))""",
    "an imported function": """(func $f (export "f") (param i32) (result i32) (call $step)
      (i32.add (i32.const 1) (call $other (local.get 0))))""",
}


def recursion(name: str) -> str:
    function = RECURSIONS[name]
    imported = "an imported" in name
    other = '(import "e" "other" (func $other (type $i)))' if imported else ""
    return f"""(module (type $i (func (param i32) (result i32))) {other}
      (global $n (export "n") (mut i32) (i32.const 0)) (tag $e (param i32))
      (table $t 1 funcref) (elem (table $t) (i32.const 0) func $f)
      (func $step (global.set $n (i32.add (global.get $n) (i32.const 1)))) {function})"""


@pytest.mark.parametrize("name", RECURSIONS)
def test_recursions_end_at_the_same_depth(name: str) -> None:
    other = """(module (type $i (func (param i32) (result i32))) (table (export "t") 1 funcref)
      (func (export "other") (type $i) (local i64 i64)
        (call_indirect (type $i) (local.get 0) (i32.const 0))))"""
    sources = (recursion(name), other) if "imported" in name else (recursion(name),)
    modules = [[wl.Module(source, engine) for source in sources] for engine in engines(fuel=True)]
    for limit in (4096, 100_000, 1 << 20):
        first, *others = (_recurse(found, limit) for found in modules)
        assert others == [first] * len(others)
        (before, after) = first
        assert before[0] == ("trap", "call stack exhausted") and after[2] == 2 * before[2] > 2


def _recurse(modules: list[wl.Module], limit: int) -> list[Any]:
    """How two calls end, in which functions, after how many steps, with how much fuel."""
    store = wl.Store(modules[0].engine, stack_limit=limit, fuel=10_000_000)
    seen: list[Any] = []
    imports = {}
    if len(modules) > 1:
        made = wl.Instance(modules[1], store=store).exports
        imports = {"e": {"other": made.other}}
    exports = wl.Instance(modules[0], imports, store=store).exports
    if len(modules) > 1:
        made.t[0] = exports.f
    for _ in range(2):
        how = outcome_of(exports.f, 7)
        seen.append((how[:2], [frame.func_index for frame in how[2]][-3:], exports.n.value, store.fuel))
    return seen


def test_a_frame_costs_what_the_guide_says() -> None:
    source = """(module (func $f (export "f") (param i32 f64) (result i32) (local v128)
      (i32.add (i32.const 1) (if (result i32) (local.get 0)
        (then (call $f (i32.sub (local.get 0) (i32.const 1)) (local.get 1))) (else (i32.const 0))))))"""
    cost = FRAME_COST + VALUE_COST * (3 + 3)
    for engine in engines():
        run = exports_of(source, engine, stack_limit=cost * 100).f
        assert run(99, 1.0) == 100
        with pytest.raises(wl.Trap, match="call stack exhausted"):
            run(100, 1.0)


def test_calls_that_end_give_back_what_they_took() -> None:
    """Whatever way they end: by returning, an exception, a tail call, or a trap in a host function's call."""
    source = """(module (import "e" "again" (func $again (param i32))) (tag $e (param i32))
      (type $v (func (param i32))) (table 1 funcref) (elem (i32.const 0) func $tail)
      (func $throws (param i32) (if (local.get 0) (then (call $throws (i32.sub (local.get 0) (i32.const 1))))
        (else (throw $e (i32.const 3)))))
      (func $deep (param i32) (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "deep") (param i32) (call $deep (local.get 0)))
      (func $tail (export "tail") (param i32) (if (local.get 0)
        (then (return_call $other (i32.sub (local.get 0) (i32.const 1)) (i64.const 1)))))
      (func $other (param i32 i64) (local i64 i64 i64)
        (return_call_indirect (type $v) (local.get 0) (i32.const 0)))
      (func (export "run") (param i32)
        (loop $again
          (call $deep (i32.const 20))
          (block $caught (result i32) (try_table (catch $e $caught) (call $throws (i32.const 20))) (unreachable)) (drop)
          (try (do (call $throws (i32.const 20))) (catch_all))
          (call $tail (i32.const 20))
          (call $again (i32.const 20))
          (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    for engine in engines():
        _call_in_every_way(source, wl.Store(engine, stack_limit=4096))


def _call_in_every_way(source: str, store: wl.Store) -> None:
    def again(count: int) -> None:
        exports.deep(count)
        with pytest.raises(wl.Trap, match="call stack exhausted"):
            exports.deep(1000)
        exports.deep(count)

    exports = wl.Instance(wl.Module(source, store.engine), {"e": {"again": again}}, store=store).exports
    exports.run(30)
    exports.tail(10_001)
    assert outcome_of(exports.deep, 1000)[:2] == ("trap", "call stack exhausted")
    exports.run(3)


def test_calls_between_host_and_guest_share_the_depth() -> None:
    for engine in engines():
        assert _deepest_between(engine) == 4096 // (FRAME_COST + VALUE_COST * (1 + 2))


def _deepest_between(engine: wl.Engine) -> int:
    source = """(module (import "e" "again" (func $again (param i32) (result i32)))
      (func (export "run") (param i32) (result i32) (i32.add (i32.const 1) (call $again (local.get 0)))))"""
    deepest = 0

    def again(depth: int) -> int:
        nonlocal deepest
        deepest = max(deepest, depth)
        result: int = exports.run(depth + 1)
        return result

    exports = exports_of(source, engine, {"e": {"again": again}}, stack_limit=4096)
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        exports.run(1)
    return deepest


CONTINUATIONS = """(module (type $f (func (param i32))) (type $k (cont $f)) (type $r (func)) (type $kr (cont $r))
  (tag $t) (global $n (export "n") (mut i32) (i32.const 0)) (elem declare func $deep $starts)
  (func $deep (param i32) (local i64 i64)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (if (i32.eqz (local.get 0)) (then (suspend $t)))
    (call $deep (i32.sub (local.get 0) (i32.const 1))))
  (func (export "deep") (param i32) (resume $k (local.get 0) (cont.new $k (ref.func $deep))))
  (func $nested (export "nested") (param i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1)))
    (resume $k (local.get 0) (cont.new $k (ref.func $starts))))
  (func $starts (param i32) (call $nested (local.get 0)))
  (func (export "back") (param i32) (local $k (ref null $kr))
    (block $on (result (ref $kr)) (resume $k (on $t $on) (i32.const 50) (cont.new $k (ref.func $deep))) (unreachable))
    (local.set $k)
    (block $again (result (ref $kr))
      (resume $kr (on $t $again) (local.get $k)) (unreachable))
    (drop)))"""


def test_continuations_have_a_depth_of_their_own() -> None:
    seen = []
    for engine in engines():
        exports = exports_of(CONTINUATIONS, engine, stack_limit=1 << 19)
        rows = []
        for name, argument in (("deep", -1), ("deep", 100), ("back", 0)):
            exports.n.value = 0
            rows.append((outcome_of(getattr(exports, name), argument)[:2], exports.n.value))
        seen.append(rows)
    assert seen == seen[:1] * len(seen)
    (first, depth), (second, count), (third, _) = seen[0]
    assert first == ("trap", "call stack exhausted") and 100 < depth < 1000
    assert second == ("trap", "unhandled tag") and count == 101
    assert third == ("trap", "call stack exhausted")


def test_continuations_that_the_host_resumes_have_no_more() -> None:
    """And what the host calls besides has what it had."""
    source = CONTINUATIONS.replace(
        "(module (type $f (func (param i32)))",
        """(module (type $f (func (param i32))) (import "e" "host" (func $host))
        (func (export "make") (result (ref $k)) (cont.new $k (ref.func $deep)))
        (func (export "call") (call $host))
        (func $down (export "down") (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (call $down (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 5))))
        (type $rest (func))""",
    )
    seen = [_resumed_by_host(source, engine) for engine in engines()]
    assert seen == seen[:1] * len(seen)
    (inside, outside, steps) = seen[0]
    assert inside == outside and steps == 65536 // (FRAME_COST + VALUE_COST * (3 + 2))


def _resumed_by_host(source: str, engine: wl.Engine) -> tuple[int, int, int]:
    """How deep a continuation gets that a host function resumes, one that the host does, and one of the guest's."""
    counts: list[int] = []

    def resume() -> None:
        exports.n.value = 0
        with pytest.raises(wl.Trap, match="call stack exhausted"):
            exports.make().resume(-1)
        counts.append(exports.n.value)

    def host() -> None:
        resume()
        assert exports.down(8000) == 5  # more than a continuation's stack has

    exports = exports_of(source, engine, {"e": {"host": host}})
    exports.call()
    resume()
    exports.n.value = 0
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        exports.deep(-1)
    return counts[0], counts[1], exports.n.value


def test_what_memory_is_left_for_stacks_is_no_matter_of_the_guest() -> None:
    """Continuations that resume each other come to a limit that isn't the same everywhere, and the trap says so."""
    for engine in engines():
        exports = exports_of(CONTINUATIONS, engine, stack_limit=4096)
        with pytest.raises(wl.Trap) as trap:
            exports.nested(1)
        assert trap.value.code == "host limit" and "resumed each other" in str(trap.value)


def test_waiting_calls_count_alike() -> None:
    import asyncio

    source = (
        recursion("direct")
        .replace("(call $step)", "(call $step) (call $wait)")
        .replace("(global $n", '(import "e" "wait" (func $wait)) (global $n')
    )

    async def wait() -> None:
        await asyncio.sleep(0)

    async def run(engine: wl.Engine) -> tuple[str, int]:
        exports = exports_of(source, engine, {"e": {"wait": wait}}, stack_limit=8192)
        with pytest.raises(wl.Trap) as trap:
            await exports.f.call_async(1)
        return trap.value.code, exports.n.value

    seen = [asyncio.run(run(engine)) for engine in engines()]
    assert seen == [("call stack exhausted", seen[0][1])] * len(seen) and seen[0][1] > 50


# --- memory ---

GROWING = """(module (memory (export "memory") 1) (table $t 1 1000000 funcref) (tag $e (param i64 i64))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "more") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
  (func (export "throw") (param i32) (loop $l
    (block $c (result exnref) (try_table (catch_all_ref $c) (throw $e (i64.const 1) (i64.const 2))) (unreachable))
    (drop) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""


def test_the_memory_limit_counts_memories_and_tables() -> None:
    seen = []
    for engine in engines():
        exports = exports_of(GROWING, engine, memory_limit=5 * 65536)
        exports.throw(5000)
        grown = [exports.grow(3), exports.grow(1), exports.more(8000), exports.more(500), exports.more(180)]
        seen.append((grown, exports.more(8), exports.grow(0)))
    assert seen == [([1, -1, 1, -1, 8001], 8181, 4)] * len(seen)


def test_a_limit_that_is_set_later() -> None:
    for engine in engines():
        store = wl.Store(engine)
        exports = wl.Instance(wl.Module(GROWING, engine), store=store).exports
        assert store.memory_limit is None and exports.grow(9) == 1
        store.memory_limit = 4 * 65536
        assert store.memory_limit == 4 * 65536 and exports.grow(1) == -1
        store.memory_limit = 11 * 65536 + 8
        assert exports.grow(1) == 10
        with pytest.raises(wl.WasmError, match="exceed the store's memory limit: 720904 of 720904 are in use"):
            wl.Memory(store, wl.MemoryType(1))


@pytest.mark.parametrize("name", ["grow", "more"])
def test_no_memory_on_the_host_is_no_result(name: str) -> None:
    for engine in engines():
        exports = exports_of(GROWING, engine)
        function = getattr(exports, name)
        with allocation.refuse(1), pytest.raises(wl.Trap) as trap:
            function(1)
        assert trap.value.code == "host limit"
        assert function(1) == 1


def test_a_memory_that_python_holds_is_no_result() -> None:
    for tier in ENGINES:
        if tier != "checked":
            engine = wl.Engine(**{**ENGINES[tier], "memory": "checked"}, deterministic=True, cache=False)
            exports = exports_of(GROWING, engine)
            with memoryview(exports.memory), pytest.raises(wl.Trap) as trap:
                exports.grow(1)
            assert trap.value.code == "host limit" and exports.grow(1) == 1


# --- the setting ---


def test_the_setting() -> None:
    engine = wl.Engine(deterministic=True)
    assert engine.deterministic and not wl.Engine().deterministic
    assert pickle.loads(pickle.dumps(engine)).deterministic
    assert engine.code_options() != wl.Engine().code_options()


def test_code_in_the_cache_is_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path))
    source = """(module (func (export "add") (param i64) (result i64)
      (i64.reinterpret_f64 (f64.add (f64.reinterpret_i64 (local.get 0)) (f64.const 1)))))"""
    odd = NUMBERS["f64"][1] - (1 << 64)
    for _ in range(2):
        for deterministic, result in ((False, odd), (True, CANONICAL["f64"])):
            engine = wl.Engine(tier="compiler", deterministic=deterministic)
            assert exports_of(source, engine).add(odd) == result
