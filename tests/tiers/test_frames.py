"""Frames seen from outside: what locals and operands hold, wherever a guest can be looked at."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

import wasmloom as wl
from tests.tiers.programs import CALLABLE, SOME, Held, Snapshot, program
from wasmloom.compiler.bodies import read_body
from wasmloom.contract.traps import OUT_OF_FUEL, TRAP_REASONS
from wasmloom.runtime import hooks
from wasmloom.runtime.frames import GuestFrame
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.tiers import backtraces
from wasmloom.tiers.frames import TypedValue, frames_inside, frames_of_entry, frames_of_suspended, suspended, values_of

PROGRAMS = 60
LOOP = BY_MNEMONIC["loop"].index


def held(value: TypedValue) -> Held:
    """A value as the machine of the programs has it."""
    type = str(value.type)
    if type.startswith("(ref "):
        type = CALLABLE
    return type, SOME if "ref" in type and value.bits else value.bits


def snapshot(frame: GuestFrame) -> Snapshot:
    found = values_of(frame)
    return Snapshot([held(value) for value in found.locals], [held(value) for value in found.operands])


def of_guests(frames: list[GuestFrame]) -> list[Snapshot]:
    """What the frames of functions hold, but for the outermost one, which is there to call them."""
    return [snapshot(frame) for frame in frames if frame.code is not None][:-1]


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_frames_hold_what_the_program_says(seed: int) -> None:
    """In each call of the host, all frames, in an order that the program knows as well."""
    text, machine = program(seed)
    engine = wl.Engine(tier="interpreter")
    store = wl.Store(engine)
    seen = []

    def look() -> None:
        seen.append(of_guests(frames_inside(store)))

    def ask(number: int) -> tuple[int, float]:
        look()
        return number, 1.5

    wl.Instance(wl.Module(text, engine), {"m": {"look": look, "ask": ask}}, store=store).exports.run()
    assert seen == machine.looks


@pytest.mark.parametrize("seed", range(PROGRAMS // 3))
def test_frames_hold_what_the_program_says_where_loops_begin(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest stops there when it runs out of fuel: each round of each loop is met with some amount of it."""
    text, machine = program(seed, with_loops=True)
    engine = wl.Engine(tier="interpreter", fuel=True)
    module = wl.Module(text, engine)
    loops = {}
    for index in range(len(module.decoded.body_starts)):
        offsets = [instr.offset for instr in read_body(module.decoded, index)[1] if instr.row == LOOP]
        loops |= {offset: (index - 1, number) for number, offset in enumerate(offsets)}  # behind the target
    seen: list[Any] = []

    def of_entry(store: Any, entry: int, trapped: bool) -> Any:
        frames = frames_of_entry(store, entry, trapped)
        if frames[0].offset in loops and frames[0].code is not None:
            found = (*loops[frames[0].offset], of_guests(frames))
            if not seen or seen[-1] != found:
                seen.append(found)
        return ()

    hooks.set_backtraces(of_entry, backtraces.too_deep)
    try:
        for fuel in count():
            store = wl.Store(engine)
            imports = {"m": {"look": lambda: None, "ask": lambda number: (number, 1.5)}}
            instance = wl.Instance(module, imports, store=store)
            store.fuel = fuel
            try:
                instance.exports.run()
            except wl.Trap as trap:
                assert trap.code == TRAP_REASONS[OUT_OF_FUEL]
            else:
                break
    finally:
        hooks.set_backtraces(backtraces.backtrace, backtraces.too_deep)
    assert seen == machine.rounds


# --- across stacks and entries ---


STACKS = """(module (type $v (func)) (type $k (cont $v)) (func $look (import "m" "look"))
  (tag $pause (param i32) (result i64)) (global $kept (mut (ref null $kk)) (ref.null $kk))
  (type $resumed (func (param i64))) (type $kk (cont $resumed))
  (func $inner (param f32) (i32.const 11) (i64.const 12) (drop (suspend $pause (i32.add (i32.const 1) (i32.const 2))))
    (call $look) (drop) (drop))
  (func $body (local i64) (local.set 0 (i64.const 21)) (f64.const 0.5) (call $inner (f32.const 1)) (drop))
  (func $middle (param (ref $k)) (i32.const 31) (resume $k (local.get 0)) (drop))
  (elem declare func $body $middle)
  (type $m (func (param (ref $k)))) (type $km (cont $m))
  (func (export "begin") (result i32)
    (block $on (result i32 (ref $kk))
      (resume $km (on $pause $on) (cont.new $k (ref.func $body)) (cont.new $km (ref.func $middle))) (unreachable))
    (global.set $kept))
  (func (export "go_on") (i64.const 41) (resume $kk (i64.const 7) (ref.as_non_null (global.get $kept))) (drop)))"""
#: What the frames on the stacks above hold: `inner` stands in its `suspend`, or in its call.
PAUSED = [("i32", 11), ("i64", 12), ("i64", None)]
CALLED = [("i32", 11), ("i64", 12)]
BELOW = [[("f64", 0x3FE0000000000000)], [("i32", 31)]]


def operands(frames: list[GuestFrame]) -> list[list[Held]]:
    return [snapshot(frame).operands for frame in frames if frame.code is not None]


def test_frames_of_a_chain_of_stacks() -> None:
    """A suspended one, whose frames end with it, and the same when it runs, with those of whoever has resumed it."""
    engine = wl.Engine(tier="interpreter")
    store = wl.Store(engine)
    seen = []
    imports = {"m": {"look": lambda: seen.append(operands(frames_inside(store)))}}
    exports = wl.Instance(wl.Module(STACKS, engine), imports, store=store).exports
    assert exports.begin() == 3
    (address,) = suspended(store, 5)
    assert suspended(store, 0) == []
    frames = frames_of_suspended(store, address)
    assert operands(frames) == [PAUSED, *BELOW]
    assert snapshot(frames[0]).locals == [("f32", 0x3F800000)]
    assert snapshot(frames[1]).locals == [("i64", 21)]
    assert [frame.continuation == address for frame in frames] == [True, True, False]
    exports.go_on()
    assert suspended(store, 5) == []
    assert seen == [[CALLED, *BELOW, [("i64", 41)]]]
    assert frames_inside(store) == []


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_frames_of_nested_entries(tier: str) -> None:
    """Of compiled code types are known, and no values."""
    engine = wl.Engine(tier=tier, cache=False)
    store = wl.Store(engine)
    seen: list[list[list[Held]]] = []

    def again(number: int) -> int:
        seen.append(operands(frames_inside(store)))
        return exports.f(number - 1) if number else 0

    text = """(module (func $again (import "m" "again") (param i32) (result i32))
      (func (export "f") (param i32) (result i32) (i64.const 5) (call $again (local.get 0)) (return)))"""
    exports = wl.Instance(wl.Module(text, engine), {"m": {"again": again}}, store=store).exports
    assert exports.f(2) == 0
    known = 5 if tier == "interpreter" else None
    assert seen == [[[("i64", known), ("i32", None)]] * count for count in (1, 2, 3)]
