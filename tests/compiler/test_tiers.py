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


# --- traps are precise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [65536, 65532, 65528])
@pytest.mark.parametrize(
    "body",
    [
        "(global.set $g (i32.const 1)) (drop (i32.load (local.get 0))) (global.set $g (i32.const 2))",
        "(global.set $g (i32.const 1)) (i32.store (local.get 0) (i32.const 1)) (global.set $g (i32.const 2))",
        """(table.set $t (i32.const 0) (ref.func $f)) (drop (i32.load (local.get 0)))
           (table.set $t (i32.const 0) (ref.null func))""",
        "(i32.store (local.get 0) (i32.const 1)) (table.set $t (i32.const 0) (ref.func $f))",
        """(i32.store (i32.const 0) (i32.const 1)) (drop (i32.load (local.get 0)))
           (i32.store (i32.const 0) (i32.const 2))""",
        """(i32.store (local.get 0) (i32.const 1)) (i32.store offset=4 (local.get 0) (i32.const 1))
           (i32.store (local.get 0) (i32.const 2))""",
        "(global.set $g (i32.add (i32.load (local.get 0)) (i32.load offset=4 (local.get 0))))",
        """(loop $l (global.set $g (i32.add (global.get $g) (i32.const 1))) (drop (i32.load (local.get 0)))
           (i32.store (i32.const 8) (global.get $g)) (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br $l))""",
    ],
)
def test_state_and_place_after_a_fault(body: str, address: int) -> None:
    """Everything before the access that traps has happened, nothing behind it has."""
    found = []
    for settings in ENGINES.values():
        guest = exports(
            f"""(module (memory (export "memory") 1) (table $t (export "table") 1 funcref)
              (global $g (export "global") (mut i32) (i32.const 0)) (func $f (export "run") (param i32) {body}))""",
            wl.Engine(cache=False, **settings),
        )
        outcome: Any = None
        try:
            guest.run(address)
        except wl.Trap as trap:
            outcome = trap.code, trap.frames
        found.append((outcome, bytes(memoryview(guest.memory)), guest["global"].value, guest.table[0] is None))
    assert found[1:] == found[:1] * (len(found) - 1)
    assert address != 65536 or found[0][0] is not None
