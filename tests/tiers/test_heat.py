"""What is worth compiling, by where ticks find bytecode."""

from __future__ import annotations

import pytest

from wasmloom.tiers import heat
from wasmloom.tiers.heat import Group, Heat


@pytest.fixture(autouse=True)
def thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in {"ROUND": 8, "HOT": 3, "HOT_BYTES": 100, "HOT_MOST": 6, "GROUP_BYTES": 1000}.items():
        monkeypatch.setattr(heat, name, number)


def heat_of(sizes: dict[int, int] | None = None, calls: dict[int, set[int]] | None = None) -> Heat:
    """Of a module in which functions have 50 bytes, if not others."""
    found = Heat(1, lambda index: (sizes or {}).get(index, 50), lambda index: (calls or {}).get(index, set()))
    found.asked = True
    return found


def note(found: Heat, counts: dict[int, int], loops: dict[tuple[int, int], int] | None = None) -> Heat:
    """Let ticks find functions at their beginnings, and loops, so often."""
    for function, count in counts.items():
        found.note([(function, 0)] * count)
    for loop, count in (loops or {}).items():
        found.note([loop] * count)
    return found


def test_nothing_is_worth_it_before_some_time_has_gone_into_bytecode() -> None:
    found = note(heat_of(), {1: 7})
    assert not found.is_due and found.take() is None
    note(found, {1: 1})
    assert found.is_due
    assert found.take() == Group([1], [])
    assert not found.is_due and found.take() is None


def test_what_is_hot_comes_in_order_and_what_is_not_waits() -> None:
    found = note(heat_of(), {1: 2, 2: 3, 3: 5})
    assert found.take() == Group([3, 2], [])
    note(found, {1: 1, 4: 7})
    assert found.take() == Group([4, 1], [])  # each counts from the beginning


def test_a_large_function_has_to_be_hotter() -> None:
    found = note(heat_of({1: 500, 2: 10_000}), {1: 4, 2: 5})
    assert found.take() is None
    note(found, {1: 1, 2: 1, 3: 6})
    assert found.take() == Group([2, 3, 1], [])


def test_callees_that_run_come_along_and_theirs() -> None:
    found = note(heat_of(calls={1: {2, 3, 4}, 3: {5}, 5: {1, 6}}), {1: 5, 2: 1, 3: 2, 5: 1})
    assert found.take() == Group([1, 3, 2, 5], [])


def test_a_group_has_a_size() -> None:
    found = note(heat_of({1: 5000, 2: 400, 3: 400, 4: 400}, {1: {4}}), {1: 8, 2: 7, 3: 6, 4: 2})
    assert found.take() == Group([1, 2, 3], [])
    note(found, {4: 8})
    assert found.take() == Group([4], [])


def test_loops_come_with_their_functions_or_after_them() -> None:
    found = note(heat_of(), {}, {(1, 8): 3, (1, 16): 4, (1, 24): 5, (2, 8): 2})
    assert found.take() == Group([1], [(1, 24), (1, 16)])
    note(found, {}, {(1, 16): 8, (1, 24): 8})
    assert not found.is_due  # calls that stand in them are old ones, or such as can't go on
    found.succeeded(Group([1], []))
    note(found, {}, {(1, 8): 3, (2, 8): 5})
    assert found.take() == Group([2], [(2, 8), (1, 8)])


def test_what_fails_in_company_is_tried_once_more_alone() -> None:
    found = note(heat_of(), {1: 5, 2: 4}, {(1, 8): 4})
    group = found.take()
    assert group == Group([1, 2], [(1, 8)])
    found.failed(group)
    note(found, {1: 8})
    alone = found.take()
    assert alone == Group([1], [(1, 8)])
    found.failed(alone)
    note(found, {1: 20, 2: 8, 3: 20})
    assert found.take() == Group([3], [])
    note(found, {2: 8})
    assert found.take() == Group([2], [])
    note(found, {1: 20})
    assert not found.is_due and found.take() is None


def test_a_module_that_keeps_failing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat, "FAILURES", 3)
    found = heat_of()
    for function in range(3):
        group = note(found, {function: 8}).take()
        assert group is not None
        found.failed(group)
    assert not note(found, {9: 100}).is_due and found.take() is None


def test_what_has_code_already_is_not_compiled_but_its_loops_are() -> None:
    found = heat_of()
    found.know([1])
    note(found, {1: 20}, {(1, 8): 9})
    assert found.take() == Group([], [(1, 8)])


def test_looks_that_nobody_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a group is compiled, perhaps for minutes, guests go on."""
    found = heat_of()
    for _ in range(10_000):
        found.note([(1, 0)])
    assert len(found._found) < 10_000
