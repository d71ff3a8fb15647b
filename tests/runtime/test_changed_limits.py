"""Limits of a store that are set when it exists."""

from __future__ import annotations

from typing import Any

import pytest

import wasmloom as wl

PAGE = 65536
TEXT = """(module
  (import "env" "change" (func $change))
  (memory (export "memory") 1)
  (table $t (export "table") 0 externref)
  (func (export "spin") (loop (br 0)))
  (func (export "one") (result i32) (i32.const 1))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "more") (param i32) (result i32) (table.grow $t (ref.null extern) (local.get 0)))
  (func (export "change_and_grow") (param i32) (result i32) (call $change) (memory.grow (local.get 0)))
  (func (export "change_and_spin") (call $change) (loop (br 0))))"""


def exports_of(store: wl.Store, change: Any = lambda: None) -> Any:
    return wl.Instance(wl.Module(TEXT), {"env": {"change": change}}, store=store).exports


def test_timeout(tier: str) -> None:
    store = wl.Store()
    exports = exports_of(store)
    assert store.timeout is None
    store.timeout = 0.02
    assert store.timeout == 0.02
    with pytest.raises(wl.Trap, match="timeout"):
        exports.spin()
    store.timeout = None
    assert exports.one() == 1
    store.timeout = 0.02
    with pytest.raises(wl.Trap, match="timeout"):
        exports.spin()
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="positive number of seconds"):
            store.timeout = wrong
    assert store.timeout == 0.02
    with pytest.raises(AttributeError):
        del store.timeout


def test_a_deadline_goes_with_its_call(tier: str) -> None:
    """One that a host function has lifted is nobody's: not that of calls to come either."""
    store = wl.Store(timeout=100)
    seen: list[int | None] = []

    def lift() -> None:
        seen.append(store.deadline)
        store.timeout = None

    exports = exports_of(store, lift)
    exports.change_and_grow(0)
    exports.change_and_grow(0)
    assert seen[0] is not None and seen[1] is None and store.deadline is None
    store.timeout = 0.02
    with pytest.raises(wl.Trap, match="timeout"):
        exports.spin()


def test_memory_limit(tier: str) -> None:
    store = wl.Store()
    exports = exports_of(store)
    assert store.memory_limit is None
    store.memory_limit = 3 * PAGE
    assert store.memory_limit == 3 * PAGE
    assert exports.grow(2) == -1 or store.memory_used <= 3 * PAGE
    assert exports.grow(100) == -1
    store.memory_limit = PAGE  # less than there is: nothing goes, nothing comes
    before = len(exports.memory)
    assert exports.grow(1) == -1 and exports.more(1) == -1 and len(exports.memory) == before
    with pytest.raises(wl.WasmError, match="limit"):
        wl.Table(store, "externref", 10)
    store.memory_limit = None
    assert exports.grow(200) == before // PAGE and exports.more(1000) == 0
    store.memory_limit = 1 << 30
    used = store.memory_used
    assert exports.grow(10) != -1 and store.memory_used == used + 10 * PAGE
    store.memory_limit = None
    assert exports.grow(10) != -1
    for wrong in (-1, "1"):
        with pytest.raises((ValueError, TypeError)):
            store.memory_limit = wrong  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        del store.memory_limit


def test_memories_do_not_count_without_a_limit(tier: str) -> None:
    """Going from one way of counting to the other changes nothing about all else, which has 1 GiB."""
    store = wl.Store(memory_limit=100 * PAGE)
    exports = exports_of(store)
    exports.grow(50)
    store.memory_limit = None
    exports.grow(50)
    store.charge((1 << 30) - store.memory_used + len(exports.memory))
    with pytest.raises(wl.WasmError, match="memory limit"):
        store.charge(1)
    assert exports.grow(1) != -1


def test_by_a_host_function(tier: str) -> None:
    store = wl.Store(memory_limit=2 * PAGE)

    def change() -> None:
        store.memory_limit = 1 << 30

    exports = exports_of(store, change)
    assert exports.grow(10) == -1 and exports.change_and_grow(10) == 1
