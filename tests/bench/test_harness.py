"""Measuring in turns, answers, and the programs of our own on this engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wasmloom_bench import contenders, harness, workloads


def test_answers_are_compared_by_bits() -> None:
    harness.check("x", "unsigned and signed", 0xFFFF_FFFF, -1, 32)
    harness.check("x", "floats", 0.5, 0.5)
    with pytest.raises(harness.WrongAnswer, match="x, sum: got 1, expected 2"):
        harness.check("x", "sum", 1, 2, 32)


def test_what_measures_itself_is_asked() -> None:
    class Remote:
        def __call__(self) -> None:
            raise AssertionError("its time would be taken here")

        def timed(self, count: int) -> float:
            return 2.0 * count

    assert harness.Sampler(Remote(), 0.1)() == 2.0
    harness.warm_up(Remote(), 0)


def test_who_gives_up_is_left_out() -> None:
    calls: list[str] = []

    def gives_up() -> float:
        calls.append("b")
        if len(calls) > 2:
            raise harness.Unsupported("enough")
        return 1.0

    def goes_on() -> float:
        return 2.0

    told: list[tuple[str, str]] = []
    turns = harness.take_turns(
        {"a": goes_on, "b": gives_up}, 3, failed=lambda name, error: told.append((name, str(error)))
    )
    assert turns.samples == {"a": [2.0, 2.0, 2.0]}
    assert told == [("b", "enough")]
    with pytest.raises(harness.Unsupported):
        harness.take_turns({"b": gives_up}, 3)


def test_prepared_calls_keep_their_arguments() -> None:
    assert harness.prepared(divmod, 7, 2)() == (3, 1)


def turns_of(names: str, rounds: int, **more: object) -> tuple[list[str], harness.Turns]:
    calls: list[str] = []

    def sampler(name: str) -> Callable[[], float]:
        def run() -> float:
            calls.append(name)
            return float(len(calls))

        return run

    turns = harness.take_turns({name: sampler(name) for name in names}, rounds, **more)  # type: ignore[arg-type]
    return calls, turns


def test_contenders_take_turns_in_both_directions() -> None:
    calls, turns = turns_of("abc", 3)
    assert "".join(calls) == "abc" + "cba" + "abc" + "cba"
    assert turns.samples == {"a": [6, 7, 12], "b": [5, 8, 11], "c": [4, 9, 10]}
    assert turns.again == []


def test_a_contender_is_measured_against_itself() -> None:
    calls, turns = turns_of("ab", 2, twin="a")
    assert "".join(calls) == "aba" + "aba" + "aba"
    assert (turns.samples["a"], turns.again) == ([6, 7], [4, 9])


def test_time_that_is_over_ends_the_rounds() -> None:
    _, turns = turns_of("ab", 1000, least=4, seconds=0)
    assert [len(each) for each in turns.samples.values()] == [4, 4]


def test_own_programs_answer_right() -> None:
    pytest.importorskip("ziglang")
    engine = contenders.Wasmloom(tier="interpreter")
    for workload in (*workloads.WASMI, *workloads.pointers()):
        run, verify = workload.prepare(engine)
        run()
        verify()


def test_agreement() -> None:
    """Where an answer isn't known otherwise, the first contender's counts."""
    agreement = workloads.Agreement()
    agreement.check("a", "sum", -1, 32)
    agreement.check("b", "sum", 0xFFFF_FFFF, 32)
    with pytest.raises(harness.WrongAnswer, match=r"c, sum: got 3, expected 4294967295"):
        agreement.check("c", "sum", 3, 32)


def test_expected_answers() -> None:
    assert [workloads.fibonacci(n) for n in (0, 1, 2, 10, 94)] == [0, 1, 1, 55, 19740274219868223167 % (1 << 64)]
    assert workloads.reverse_complement(b">x\nacgtt\n") == b">x\nAACGT\n"
    assert len(workloads.VARIANTS) == 9
    assert workloads.pattern_counts(b"agggtaaa\n") == 10**24
    assert workloads.pattern_counts(workloads.fasta()) > 10**24
