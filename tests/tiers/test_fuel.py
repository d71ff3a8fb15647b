"""Fuel: what is paid, and where it runs out, is the same in all tiers."""

from __future__ import annotations

from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from wasmloom.text.parser import parse_module

pytestmark = pytest.mark.usefixtures("code_at_once")

#: Bodies that end pieces of code in every way, or don't; each is followed by a trap.
BODIES = {
    "a block": "(block (nop))",
    "blocks": "(block (block (nop)) (nop))",
    "a block that ends early": "(block (br 0))",
    "a block that may end early": "(block (br_if 0 (local.get 0)) (nop))",
    "a block that ends early from inside": "(block (block (br 1)) (nop))",
    "a block that ends with a table": "(block (block (br_table 0 1 0 (local.get 0))) (nop))",
    "an if": "(if (local.get 0) (then (nop)))",
    "an if with an else": "(if (local.get 0) (then (nop)) (else (nop) (nop)))",
    "an if that returns": "(if (local.get 0) (then (return)) (else (nop)))",
    "an else that returns": "(if (local.get 0) (then (nop)) (else (return)))",
    "constant conditions": "(block (br_if 0 (i32.const 0)) (nop)) (if (i32.const 1) (then (nop)))",
    "a loop": "(loop (nop))",
    "a loop in a block": "(block (loop (br_if 1 (local.get 0)) (nop)))",
    "a try_table": "(try_table (nop))",
    "what nothing catches": "(block (try_table (catch_all 0) (nop)))",
    "what nothing catches, with values": "(block (result i32) (try_table (catch $e 0) (nop)) (i32.const 1)) (drop)",
    "what is caught before": """(block (block (result i32) (try_table (catch_all 1) (catch $e 0) (nop)) (i32.const 1))
      (drop))""",
    "what is caught": "(block (result i32) (try_table (catch $e 0) (call $throw)) (i32.const 1)) (drop)",
    "a try": "(try (do (nop)))",
    "a clause for nothing": "(try (do (nop)) (catch $e (drop)))",
    "a clause": "(try (do (call $throw)) (catch $e (drop) (nop)) (catch_all (nop) (nop)))",
    "a clause for nothing that traps": "(block (try (do (nop)) (catch_all (br 1))))",
    "a delegate": "(try (do (try (do (call $throw) (nop)) (delegate 0))) (catch_all (nop)))",
    "a delegate of nothing": "(block (try (do (nop)) (delegate 0)))",
    "a null": "(block (drop (br_on_null 0 (ref.null func))) (nop))",
    "a call": "(call $callee (local.get 0))",
    "a continuation": "(block $on (resume $k (on $t $on) (cont.new $k (ref.func $suspends))) (return)) (nop)",
}


def module_of(body: str) -> str:
    # A continuation comes with the values, which the block would have to take.
    body = body.replace("(block $on", "(block $on (result (ref $k))").replace("(return)) (nop)", "(return)) (drop)")
    return f"""(module (type $f (func)) (type $k (cont $f)) (tag $e (param i32)) (tag $t) (elem declare func $suspends)
      (func $throw (throw $e (i32.const 1)))
      (func $suspends (suspend $t))
      (func $callee (param i32) (if (local.get 0) (then (nop))))
      (func $run (export "run") (param i32) (local i64)
        (nop) {body} (nop) (i32.div_u (local.get 0) (i32.const 0)) (drop)))"""


def spent(module: wl.Module, fuel: int) -> list[Any]:
    """How two calls end, with so much fuel each, and what is left of it."""
    seen: list[Any] = []
    store = wl.Store(module.engine)
    run = wl.Instance(module, store=store).exports.run
    for argument in (0, 1):
        store.fuel = fuel
        seen.append((outcome_of(run, argument), store.fuel))
    return seen


@pytest.mark.parametrize("name", BODIES)
def test_all_tiers_pay_for_the_same(name: str) -> None:
    modules = [wl.Module(module_of(BODIES[name]), engine_of(tier, fuel=True)) for tier in ENGINES]
    for fuel in (1000, *range(1, 24)):
        first, *others = (spent(module, fuel) for module in modules)
        assert all(other == first for other in others), (fuel, first, others)


def test_fuel_runs_out_where_a_piece_begins() -> None:
    """The trap names the piece's first instruction, and nothing of the piece has been done."""
    source = """(module (global (export "g") (mut i32) (i32.const 0))
      (func (export "run") (nop) (block) (loop (global.set 0 (i32.const 1)))))"""
    loop = parse_module(source).binary.index(b"\x03\x40")
    for tier in ENGINES:
        exports = exports_of(source, engine_of(tier, fuel=True), fuel=4)
        reason, code, frames = outcome_of(exports.run)
        assert (reason, code, [frame.offset for frame in frames]) == ("trap", "all fuel consumed", [loop])
        assert exports.g.value == 0
