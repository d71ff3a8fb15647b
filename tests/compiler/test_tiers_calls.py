"""Calls in compiled code: signatures of every kind, in every way to call, between tiers, the host and continuations."""

from __future__ import annotations

import struct
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of

TYPES = ("i32", "i64", "f32", "f64")
COMPILED = [name for name in ENGINES if name != "interpreter"]


# --- signatures -------------------------------------------------------------------------------------------------------


def value_of(type: str, seed: int) -> float:
    """A value of a type, such that many are different and all bits count."""
    bits = (seed * 0x9E3779B97F4A7C15 + 0x1234567) & (1 << 64) - 1
    if type == "i32":
        return int(struct.unpack("<i", struct.pack("<I", bits >> 32))[0])
    if type == "i64":
        return int(struct.unpack("<q", struct.pack("<Q", bits))[0])
    if type == "f32":
        return float(struct.unpack("<f", struct.pack("<I", bits >> 40 | 0x3F000000))[0])
    return float(struct.unpack("<d", struct.pack("<Q", bits >> 12 | 0x3FE0000000000000))[0])


def literal(type: str, value: float) -> str:
    return f"({type}.const {value.hex() if isinstance(value, float) else value})"


class Signature:
    """Parameters and results of a function, and what it gives: each result is a parameter, or a constant."""

    def __init__(self, params: list[str], results: list[str], shift: int) -> None:
        self.params = params
        self.results = results
        #: for each result the parameter that it is, or None
        self.sources: list[int | None] = []
        for k, type in enumerate(results):
            fitting = [i for i, param in enumerate(params) if param == type]
            self.sources.append(fitting[(k * 7 + shift) % len(fitting)] if fitting else None)

    def results_of(self, arguments: tuple[float, ...]) -> Any:
        """What the function gives, as Python sees it."""
        values = tuple(
            value_of(type, k) if source is None else arguments[source]
            for k, (type, source) in enumerate(zip(self.results, self.sources, strict=True))
        )
        return None if not values else values[0] if len(values) == 1 else values

    def type(self) -> str:
        return f"(func (param {' '.join(self.params)}) (result {' '.join(self.results)}))"

    def body(self) -> str:
        return " ".join(
            literal(type, value_of(type, k)) if source is None else f"(local.get {source})"
            for k, (type, source) in enumerate(zip(self.results, self.sources, strict=True))
        )


WAYS = {
    "direct": "(call $f {all})",
    "indirect": "(call_indirect (type $t) {all} (i32.const 0))",
    "reference": "(call_ref $t {all} (ref.func $f))",
    "tail": "(return_call $f {all})",
    "tail_indirect": "(return_call_indirect (type $t) {all} (i32.const 0))",
    "tail_reference": "(return_call_ref $t {all} (ref.func $f))",
    "twice": "(call $way_tail {all})",
    "host": "(call $host {all})",
    "host_indirect": "(call_indirect (type $t) {all} (i32.const 1))",
    "host_tail": "(return_call $host {all})",
    "continuation": "(resume $k {all} (cont.new $k (ref.func $f)))",
    "host_in_continuation": "(resume $k {all} (cont.new $k (ref.func $through)))",
    "bound": "(resume $e (cont.bind $k $e {all} (cont.new $k (ref.func $f))))",
    "suspending": """(block $h (result {params} (ref $back))
        (resume $k (on $pass $h) {all} (cont.new $k (ref.func $passing))) (return))
      (local.set $rest) (resume $back (local.get $rest))""",
}


def module_of(own: Signature) -> str:
    """A module that calls a function of a signature in all the `WAYS`, and exports them."""
    everything = " ".join(f"(local.get {i})" for i in range(len(own.params)))
    params, results = " ".join(own.params), " ".join(own.results)
    ways = "".join(
        f'(func $way_{name} (export "{name}") (type $t) (local $rest (ref null $back))'
        f" {body.format(all=everything, params=params)})"
        for name, body in WAYS.items()
    )
    return f"""(module (type $t {own.type()}) (type $k (cont $t))
      (type $fe (func (result {results}))) (type $e (cont $fe)) (type $back (cont $t))
      (import "" "host" (func $host (type $t)))
      (tag $pass (param {params}) (result {params}))
      (table 2 funcref) (elem (i32.const 0) $f $host) (elem declare func $f $through $passing)
      (func $f (export "f") (type $t) {own.body()})
      (func $through (type $t) (call $host {everything}))
      (func $passing (type $t) (suspend $pass {everything}) (call $f))
      {ways})"""


signatures = st.builds(
    Signature,
    st.lists(st.sampled_from(TYPES), max_size=20),
    st.lists(st.sampled_from(TYPES), max_size=20),
    st.integers(0, 5),
)


def check_signature(own: Signature, names: list[str]) -> None:
    source = module_of(own)
    arguments = tuple(value_of(type, 100 + i) for i, type in enumerate(own.params))
    expected = own.results_of(arguments)
    for name in names:
        engine = engine_of(name)

        def host(*values: float, name: str = name) -> Any:
            assert values == arguments, name
            return expected

        exports = exports_of(source, engine, {"": {"host": host}})
        for way in WAYS:
            assert exports[way](*arguments) == expected, f"{way} in {name}"


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(signatures, st.sampled_from(COMPILED))
def test_any_signature_in_every_way(own: Signature, name: str) -> None:
    check_signature(own, ["interpreter", name])


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("params", "results"),
    [
        (["i32"] * 6 + ["f64"] * 8, ["i32"]),
        (["i32"] * 7 + ["f64"] * 9, ["f64", "i32"]),
        (["f32"] * 20, ["f32"] * 20),
        (["i64", "f32"] * 10, ["f32", "i64"] * 10),
        ([], ["i64"] * 20),
        (["i32", "i64", "f32", "f64"] * 5, []),
        (["i64"] * 100, ["f64", "i64"] * 50),
    ],
)
def test_wide_signatures_in_every_way(params: list[str], results: list[str], name: str) -> None:
    check_signature(Signature(params, results, 3), [name])


# --- depth ------------------------------------------------------------------------------------------------------------

DEEP = """(module (type $f (func (param i64) (result i64))) (type $v (func (result i64))) (type $k (cont $v))
  (table 1 funcref) (elem (i32.const 0) $indirect) (elem declare func $reference $inside)
  (func $direct (export "direct") (type $f) (i64.add (i64.const 1) (call $direct (local.get 0))))
  (func $indirect (export "indirect") (type $f)
    (i64.add (i64.const 1) (call_indirect (type $f) (local.get 0) (i32.const 0))))
  (func $reference (export "reference") (type $f)
    (i64.add (i64.const 1) (call_ref $f (local.get 0) (ref.func $reference))))
  (func $wide (export "wide") (param i64) (result i64 i64 i64)
    (local i64 i64 i64 i64 i64 i64 i64 i64) (call $wide (local.get 0)))
  (func $inside (result i64) (call $direct (i64.const 0)))
  (func (export "continuation") (param i64) (result i64) (resume $k (cont.new $k (ref.func $inside))))
  (func $nested (export "nested") (type $f)
    (i64.add (resume $k (cont.new $k (ref.func $again))) (i64.const 1))) (elem declare func $again)
  (func $again (result i64) (call $nested (i64.const 0)))
  (func $finite (export "finite") (type $f)
    (if (result i64) (i64.eqz (local.get 0)) (then (i64.const 0))
      (else (i64.add (i64.const 1) (call $finite (i64.sub (local.get 0) (i64.const 1))))))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_recursion_without_end_traps(name: str) -> None:
    """And the store is as good as before."""
    exports = exports_of(DEEP, engine_of(name), memory_limit=64 << 20)
    for function in ("direct", "indirect", "reference", "wide", "continuation", "nested"):
        for _ in range(2):
            with pytest.raises(wl.Trap, match=r"call stack exhausted|out of memory") as trap:
                exports[function](0)
            assert len(trap.value.frames) > 100
        assert exports.finite(1000) == 1000


@pytest.mark.parametrize("name", ENGINES)
def test_a_million_tail_calls_of_different_signatures(name: str) -> None:
    """In constant stack: the store has little."""
    source = """(module
      (type $one (func (param i64) (result i64)))
      (type $many (func (param f64 i64 i64 i64 i64 i64 i64 i64 i32 f32 f32 f32 f32 f32 f32 f32 f32 f64) (result i64)))
      (type $none (func (result i64)))
      (global $n (mut i64) (i64.const 0)) (table 3 funcref) (elem (i32.const 0) $one $many $none)
      (func $one (export "run") (type $one)
        (if (i64.eqz (local.get 0)) (then (return (i64.const 42))))
        (global.set $n (i64.sub (local.get 0) (i64.const 1)))
        (return_call $many (f64.const 1) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5)
          (i64.const 6) (local.get 0) (i32.const 7) (f32.const 1) (f32.const 2) (f32.const 3) (f32.const 4)
          (f32.const 5) (f32.const 6) (f32.const 7) (f32.const 8) (f64.convert_i64_s (local.get 0))))
      (func $many (type $many)
        (if (i64.ne (local.get 7) (i64.trunc_f64_s (local.get 17))) (then (return (i64.const -1))))
        (if (f32.ne (local.get 16) (f32.const 8)) (then (return (i64.const -2))))
        (return_call_indirect (type $none) (i32.const 2)))
      (func $none (type $none) (return_call_ref $one (global.get $n) (ref.func $one)))
      (elem declare func $one))"""
    exports = exports_of(source, engine_of(name), stack_limit=64 << 10)
    assert exports.run(350_000) == 42


@pytest.mark.parametrize("name", ENGINES)
def test_tail_calls_into_other_instances(name: str) -> None:
    """Each has its own memory and globals, and whoever called goes on with its own, a million calls later."""
    engine = engine_of(name)
    store = wl.Store(engine, stack_limit=64 << 10)
    source = """(module (type $f (func (param i32) (result i32))) (import "" "table" (table 2 funcref))
      (memory 1) (data (i32.const 0) "{mark}") (global $own (mut i32) (i32.const 0)) (elem (i32.const {own}) $run)
      (func (export "calls") (result i32) (global.get $own))
      (func $run (type $f)
        (global.set $own (i32.add (global.get $own) (i32.const 1)))
        (if (i32.eqz (local.get 0)) (then (return (i32.load8_u (i32.const 0)))))
        (return_call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (i32.const {other})))
      (func (export "run") (type $f)
        (i32.add (i32.mul (call $run (local.get 0)) (i32.const 1000)) (i32.load8_u (i32.const 0)))))"""
    holder = wl.Instance(wl.Module('(module (table (export "table") 2 funcref))', engine), store=store)
    table = holder.exports.table
    first, second = (
        wl.Instance(
            wl.Module(source.format(mark=mark, own=own, other=1 - own), engine), {"": {"table": table}}, store=store
        ).exports
        for own, mark in enumerate("AB")
    )
    assert first.run(500_000) == 65065
    assert first.run(500_001) == 66065
    assert second.run(1) == 65066
    assert first.calls() + second.calls() == 500_001 + 500_002 + 2


# --- the host in between ----------------------------------------------------------------------------------------------

LADDER = """(module (import "" "down" (func $down (param i32) (result i32))) (import "" "e" (tag $e (param i32)))
  (type $f (func (param i32) (result i32))) (type $k (cont $f)) (elem declare func $step)
  (func $step (type $f) (i32.add (call $down (local.get 0)) (i32.const 1)))
  (func (export "through") (type $f) (call $step (local.get 0)))
  (func (export "stacked") (type $f) (resume $k (local.get 0) (cont.new $k (ref.func $step))))
  (func (export "catching") (type $f)
    (block $c (result i32) (return (try_table (result i32) (catch $e $c) (call $step (local.get 0)))))
    (i32.add (i32.const 1000)))
  (func (export "trap") (type $f) (i32.div_s (i32.const 1) (i32.const 0)))
  (func (export "throw") (type $f) (throw $e (local.get 0))))"""


@pytest.mark.parametrize("end", ["trap", "throw", "value", "error"])
@pytest.mark.parametrize("name", ENGINES)
def test_fifty_levels_of_host_and_guest(name: str, end: str) -> None:
    """The host catches traps and exceptions at some levels, the guest at others; all the rest passes through."""
    engine = engine_of(name)
    store = wl.Store(engine)
    tag = wl.Instance(wl.Module('(module (tag (export "e") (param i32)))', engine), store=store).exports.e
    kinds = ("through", "stacked", "catching", "through", "stacked")
    seen: list[str] = []

    def down(level: int) -> int:
        if level == 0:
            if end == "value":
                return 0
            if end == "error":
                raise KeyError("the host's own")
            return int(exports[end](7))
        try:
            return int(exports[kinds[level % 5]](level - 1))
        except wl.Trap as trap:
            seen.append(f"{level} {trap.code} {len(trap.frames)}")
            if level % 10 == 0:
                return -1
            raise
        except wl.WasmException as error:
            seen.append(f"{level} {error.payload}")
            if level % 10 == 9:
                raise wl.WasmException(tag, level) from None
            raise

    exports = wl.Instance(wl.Module(LADDER, engine), {"": {"down": down, "e": tag}}, store=store).exports
    outcomes = []
    for _ in range(3):
        seen.clear()
        try:
            outcomes.append((exports.through(50), tuple(seen)))
        except KeyError:
            outcomes.append(("error", tuple(seen)))
    assert outcomes[1:] == outcomes[:2]
    if name != "interpreter":
        key = ("interpreter", end)
        if key not in _ladders:
            test_fifty_levels_of_host_and_guest("interpreter", end)
        assert outcomes[0] == _ladders[key]
    _ladders[name, end] = outcomes[0]


_ladders: dict[tuple[str, str], Any] = {}


@pytest.mark.parametrize("name", ENGINES)
def test_threads_run_stores_of_their_own(name: str) -> None:
    """At the same time, with traps and continuations in all of them."""
    engine = engine_of(name)
    module = wl.Module(
        """(module (type $f (func (param i32) (result i32))) (type $k (cont $f)) (tag $t (param i32) (result i32))
          (memory 1) (elem declare func $g)
          (func $g (type $f) (loop (result i32) (local.set 0 (suspend $t (local.get 0)))
            (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (local.get 0))) (br 0)))
          (func (export "run") (param $n i32) (param $at i32) (result i32) (local $k (ref null $k)) (local $x i32)
            (local.set $k (cont.new $k (ref.func $g)))
            (loop $l
              (block $h (result i32 (ref $k)) (resume $k (on $t $h) (local.get $n) (local.get $k)) (return))
              (local.set $k) (drop)
              (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (i32.load (local.get $at))))""",
        engine,
    )
    wrong: list[Any] = []

    def work(number: int) -> None:
        store = wl.Store(engine)
        exports = wl.Instance(module, store=store).exports
        total = 0
        for round in range(20):
            total += sum(range(1, 500 + number))
            got = outcome_of(exports.run, 500 + number, 8)
            trap = outcome_of(exports.run, 1, 65533)
            if got != ("result", total) or trap[:2] != ("trap", "out of bounds memory access"):
                wrong.append((number, round, got, total, trap[:2]))
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
