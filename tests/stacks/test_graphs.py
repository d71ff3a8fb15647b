"""Random graphs of objects, compared with Python, where roots are wherever a guest or Python can keep them.

That is in tables and globals, in locals of suspended continuations, in exceptions that the guest or Python has, and in
Python's own references. Collections come before each object that is made, or when they are due.
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.semantics.test_objects import GRAPH, NODES, PLACE, STEPS, Model, same
from wasmloom.runtime.collector import collect_always, statistics

SLOTS = 3
#: Behind the guest with the table of roots: ways to keep one of them elsewhere ("to"), and to get it back ("from").
HOLDERS = """
  (global $held (mut eqref) (ref.null none))
  (func (export "to_global") (param i32) (param $a i32) (global.set $held (table.get $roots (local.get $a))))
  (func (export "from_global") (param $to i32) (param i32)
    (table.set $roots (local.get $to) (global.get $held)) (global.set $held (ref.null none)))

  (type $keep (func (param eqref i32) (result eqref))) (type $keep_cont (cont $keep))
  (type $rest (func (result eqref))) (type $rest_cont (cont $rest))
  (tag $kept) (tag $thrown (export "thrown") (param eqref))
  (table $conts 3 (ref null $rest_cont))
  (elem declare func $keeper)
  (func $keeper (param eqref i32) (result eqref)
    (if (local.get 1) (then (return (call $keeper (local.get 0) (i32.sub (local.get 1) (i32.const 1))))))
    (suspend $kept)
    (local.get 0))
  (func (export "to_continuation") (param $slot i32) (param $a i32)
    (local.get $slot)
    (block $on (result (ref $rest_cont))
      (drop (resume $keep_cont (on $kept $on)
        (table.get $roots (local.get $a)) (local.get $slot) (cont.new $keep_cont (ref.func $keeper))))
      (unreachable))
    (table.set $conts))
  (func (export "from_continuation") (param $to i32) (param $slot i32)
    (table.set $roots (local.get $to)
      (if (result eqref) (ref.is_null (table.get $conts (local.get $slot))) (then (ref.null none))
        (else (resume $rest_cont (table.get $conts (local.get $slot))))))
    (table.set $conts (local.get $slot) (ref.null $rest_cont)))

  (table $exns 3 exnref)
  (func (export "to_exception") (param $slot i32) (param $a i32)
    (table.set $exns (local.get $slot)
      (block $on (result exnref)
        (try_table (catch_all_ref $on) (throw $thrown (table.get $roots (local.get $a))))
        (unreachable))))
  (func $caught (param exnref) (result eqref)
    (if (ref.is_null (local.get 0)) (then (return (ref.null none))))
    (block $on (result eqref)
      (try_table (catch $thrown $on) (throw_ref (local.get 0)))
      (unreachable)))
  (func (export "from_exception") (param $to i32) (param $slot i32)
    (table.set $roots (local.get $to) (call $caught (table.get $exns (local.get $slot))))
    (table.set $exns (local.get $slot) (ref.null exn)))
  (func (export "throw") (param $a i32) (throw $thrown (table.get $roots (local.get $a))))
  (func (export "catch") (param $to i32) (param exnref)
    (table.set $roots (local.get $to) (call $caught (local.get 1))))
  (func (export "set") (param $to i32) (param eqref) (table.set $roots (local.get $to) (local.get 1))))"""
TEXT = f"{GRAPH[: GRAPH.rindex(')')]}{HOLDERS}"
HELD = ("global", "continuation", "exception", "python", "python exception")
SLOT = st.integers(0, SLOTS - 1)
MOVES = st.one_of(
    st.tuples(st.just("to"), st.sampled_from(HELD), SLOT, PLACE),
    st.tuples(st.just("from"), st.sampled_from(HELD), SLOT, PLACE),
    st.just(("collect",)),
)


class Guest:
    """An instance, and what Python keeps of it."""

    def __init__(self, module: wl.Module, always: bool) -> None:
        self.store = wl.Store(module.engine)
        collect_always(self.store, always)
        self.exports = wl.Instance(module, store=self.store).exports
        self.handles: dict[tuple[str, int], Any] = {}

    def to(self, kind: str, slot: int, place: int) -> None:
        """Keep a root elsewhere, too."""
        if kind == "python":
            self.handles[kind, slot] = self.exports.root(place)
        elif kind == "python exception":
            try:
                self.exports.throw(place)
            except wl.WasmException as error:
                error.__traceback__ = None
                self.handles[kind, slot] = error
        else:
            self.exports[f"to_{kind}"](slot, place)

    def back(self, kind: str, slot: int, place: int) -> None:
        """Make it a root again, and keep it there no longer."""
        if kind == "python":
            self.exports.set(place, self.handles.pop((kind, slot), None))
        elif kind == "python exception":
            self.exports["catch"](place, self.handles.pop((kind, slot), None))
        else:
            self.exports[f"from_{kind}"](place, slot)

    def objects(self) -> int:
        gc.collect()
        self.store.gc()
        return statistics(self.store)["objects"]


@pytest.fixture(scope="module", params=ENGINES)
def module(request: pytest.FixtureRequest) -> wl.Module:
    return wl.Module(TEXT, engine_of(request.param))


@settings(max_examples=6)
@given(steps=st.lists(st.one_of(STEPS, st.lists(MOVES, max_size=6)), max_size=12), always=st.booleans())
def test_graphs(module: wl.Module, steps: list[list[tuple[Any, ...]]], always: bool) -> None:
    guest, model = Guest(module, always), Model()
    held: dict[tuple[str, int], Any] = {}
    for name, *args in (step for some in steps for step in some):
        if name == "collect":
            guest.objects()
        elif name == "to":
            kind, slot, place = args
            slot = 0 if kind == "global" else slot
            guest.to(kind, slot, place)
            held[kind, slot] = model.roots[place]
        elif name == "from":
            kind, slot, place = args
            slot = 0 if kind == "global" else slot
            guest.back(kind, slot, place)
            model.roots[place] = held.pop((kind, slot), None)
        else:
            try:
                found = guest.exports[name](*args)
            except wl.Trap as trap:
                found = trap.code
            assert found == model.run(name, *args)
    guest.objects()
    seen: dict[int, Any] = {}
    for place in range(NODES):
        assert same(guest.exports.root(place), model.roots[place], seen)
    for (kind, slot), node in held.items():
        guest.back(kind, slot, 0)
        assert same(guest.exports.root(0), node, seen)
    for place in range(NODES):
        guest.exports.clear(place)
    del seen
    guest.to("python exception", 0, 0)  # a store keeps the last one
    guest.handles.clear()
    assert guest.objects() == 0
