"""No signal is lost, wherever it comes (the tool, `signals`, runs as long as one likes)."""

from __future__ import annotations

from tests.fuzz import signals

COUNT = 10
SEED = 3


def test_interruptions_arrive_once() -> None:
    outcomes, failures = signals.fuzz(SEED, iter(range(COUNT)), lambda: True, jobs=2)
    assert not failures, "\n".join(failures)
    assert sum(outcomes.values()) == COUNT


def test_cases_are_reproducible_and_of_all_kinds() -> None:
    cases = [signals.case_of(7, number) for number in range(2000)]
    assert cases == [signals.case_of(7, number) for number in range(2000)]
    assert {case.engine for case in cases} == set(signals.SETTINGS)
    assert {case.what for case in cases} == set(signals.WHATS)
    assert {case.how for case in cases} == set(signals.HOWS)
