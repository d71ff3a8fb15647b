"""Both tiers do the same, bit for bit, and compiled code does what the specification says."""

from __future__ import annotations

from typing import Any

import pytest

import wasmloom as wl

ENGINES = {
    "interpreter": {"tier": "interpreter"},
    "native": {"tier": "compiler"},
    "libcall": {"tier": "compiler", "stack_switching": "libcall"},
}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    """Each tier."""
    return wl.Engine(cache=False, **ENGINES[request.param])


def exports(source: str, engine: wl.Engine, imports: dict[str, Any] | None = None, **settings: Any) -> wl.Exports:
    """The exports of a module in text, in a store of its own."""
    store = wl.Store(engine, **settings)
    return wl.Instance(wl.Module(source, engine), imports or {}, store=store).exports


# --- tail calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", ["return_call $h", "return_call_indirect (type $t)", "return_call_ref $t"])
def test_a_tail_call_leaves_the_callers_instance_alone(engine: wl.Engine, jump: str) -> None:
    """Whoever called the function that is left goes on with its own memory and globals."""
    callee = {"return_call_indirect (type $t)": "(i32.const 0)", "return_call_ref $t": "(ref.func $h)"}.get(jump, "")
    found = exports(
        f"""(module (type $t (func (param i32) (result i32))) (import "" "h" (func $h (type $t)))
          (table funcref (elem $h)) (memory 1) (data (i32.const 0) "\\05") (global $g (mut i32) (i32.const 7))
          (func $f (type $t) ({jump} (local.get 0) {callee}))
          (func (export "run") (param i32) (result i32)
            (i32.add (i32.add (call $f (local.get 0)) (i32.load8_u (i32.const 0))) (global.get $g))))""",
        engine,
        {"": {"h": lambda x: 100 * x}},
    )
    assert found.run(3) == 312
