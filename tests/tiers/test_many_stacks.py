"""The tier "auto" and stacks: a store stays in bytecode while its stacks are better off there, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE, comes
from wasmloom.tiers import policy

SOURCE = """
  (module
    (import "e" "goes_on" (func $goes_on (result i32)))
    (import "e" "wait" (func $wait (param i32) (result i32)))
    (type $f (func (result i32))) (type $k (cont $f))
    (type $of (func (param i32) (result i32))) (type $k1 (cont $of))
    (tag $t)
    (table $all 2000 (ref null $k))
    (elem declare func $stack)
    (func $stack (param $i i32) (result i32) (suspend $t) (suspend $t) (local.get $i))
    (func $fill (export "fill") (param $n i32)
      (loop $l
        (if (local.get $n)
          (then
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (table.set $all (local.get $n)
              (block $suspended (result (ref $k))
                (resume $k1 (on $t $suspended) (local.get $n) (cont.new $k1 (ref.func $stack)))
                unreachable))
            (br $l)))))
    (func $step (export "step") (param $n i32)
      (loop $l
        (if (local.get $n)
          (then
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (table.set $all (local.get $n)
              (block $suspended (result (ref $k))
                (resume $k (on $t $suspended) (table.get $all (local.get $n)))
                unreachable))
            (br $l)))))
    (func $drain (export "drain") (param $n i32) (result i32) (local $sum i32)
      (loop $l
        (if (local.get $n)
          (then
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (local.set $sum
              (i32.add (local.get $sum) (resume $k (table.get $all (local.get $n)))))
            (br $l))))
      (local.get $sum))
    (func (export "one") (result i32) (i32.const 1))
    (func $spin (local $n i32)
      (loop $l
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $l (i32.and (local.get $n) (i32.const 0xfff)))
        (br_if $l (call $goes_on))))
    (func (export "spins") (param $n i32) (result i32) (local $sum i32)
      (call $fill (local.get $n))
      (call $spin)
      (call $step (local.get $n))
      (local.set $sum (call $drain (local.get $n)))
      (call $spin)
      (local.get $sum))
    (func (export "waits") (param i32) (result i32)
      (i32.add (call $wait (local.get 0)) (call $wait (i32.const 1)))))
"""


def make(goes_on: Callable[[], int] = lambda: 0, wait: Any = lambda x: x, **limits: Any) -> wl.Instance:
    """An instance in a store of the tier "auto", whose compiled code is there already."""
    module = wl.Module(SOURCE, wl.Engine(tier="auto", cache=False))
    module.compile()
    store = wl.Store(module.engine, **limits)
    return wl.Instance(module, {"e": {"goes_on": goes_on, "wait": wait}}, store=store)


def call_often(instance: wl.Instance) -> str:
    """Make more calls than a store needs to change its tier; returns what it is in then."""
    for _ in range(600):
        assert instance.exports.one() == 1
    return instance.store.tier_name


def test_a_store_with_many_stacks_changes_over_when_they_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "MANY_STACKS", 50)
    instance = make()
    instance.exports.fill(50)
    assert call_often(instance) == "interpreter"
    instance.exports.step(50)
    assert instance.exports.drain(1) == 0
    assert comes(lambda: call_often(instance) == "compiler")
    instance.exports.fill(1)
    instance.exports.step(1)
    assert instance.exports.drain(50) == sum(range(50))


def test_a_guest_with_many_stacks_changes_over_in_the_middle_when_they_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "MANY_STACKS", 50)
    asked: list[bool] = []
    keeps = policy.keeps_stacks

    def keeps_stacks(store: Any, many: int) -> bool:
        asked.append(keeps(store, many))
        return asked[-1]

    monkeypatch.setattr(policy, "keeps_stacks", keeps_stacks)
    drained = False

    def goes_on() -> int:
        nonlocal drained
        assert time.monotonic() < deadline
        if not drained:
            # It is asked more than once, and stays as it is.
            assert instance.store.tier_name == "interpreter"
            drained = len(asked) >= 3
            return not drained
        return instance.store.tier_name != "compiler"

    instance = make(goes_on)
    deadline = time.monotonic() + PATIENCE
    assert instance.exports.spins(60) == sum(range(60))
    assert asked[:3] == [True] * 3 and asked[-1] is False


@pytest.mark.parametrize("number", [300, 2000])
def test_stacks_near_the_memory_limit_go_on(number: int) -> None:
    """As native stacks they would take more memory than there is."""
    instance = make(memory_limit=1 << 20)
    instance.exports.fill(number)
    call_often(instance)
    instance.exports.step(number)
    assert instance.exports.drain(number) == sum(range(number))


def test_waiting_guests_near_the_memory_limit_go_on() -> None:
    async def run() -> list[int]:
        held = asyncio.Event()

        async def wait(number: int) -> int:
            await held.wait()
            await asyncio.sleep(0)
            return number

        instance = make(wait=wait, memory_limit=1 << 20)
        tasks = [asyncio.ensure_future(instance.exports.waits.call_async(i)) for i in range(100)]
        await asyncio.sleep(0)
        call_often(instance)
        held.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [i + 1 for i in range(100)]
