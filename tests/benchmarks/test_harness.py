"""The benchmark harness: statistics, answers, reports, and the programs of our own on this engine."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

import contenders
import harness
import wasmi_table


def test_figure_bounds_the_median() -> None:
    figure = harness.Figure.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert figure.low <= figure.estimate == 3.0 <= figure.high
    assert figure == harness.Figure.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert figure.scaled(2).estimate == 6.0


def test_geometric_mean() -> None:
    assert harness.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert math.isnan(harness.geometric_mean([]))


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

    assert harness.alternate({"remote": Remote()}, rounds=2)["remote"].estimate == 2.0
    harness.warm_up(Remote(), 0)


def test_who_gives_up_is_left_out() -> None:
    calls: list[str] = []

    def gives_up() -> None:
        calls.append("b")
        if len(calls) > 3:
            raise harness.Unsupported("enough")

    runs = {"a": lambda: calls.append("a"), "b": gives_up}
    told: list[tuple[str, str]] = []
    figures = harness.alternate(runs, 3, 0, failed=lambda name, error: told.append((name, str(error))))
    assert set(figures) == {"a"}
    assert told == [("b", "enough")]
    with pytest.raises(harness.Unsupported):
        harness.alternate(runs, 3, 0)


def test_prepared_calls_keep_their_arguments() -> None:
    assert harness.prepared(divmod, 7, 2)() == (3, 1)


def test_contenders_take_turns() -> None:
    calls: list[str] = []

    def contender(name: str) -> Callable[[], None]:
        return lambda: calls.append(name)

    figures = harness.alternate({"a": contender("a"), "b": contender("b")}, rounds=3, at_least=0)
    assert set(figures) == {"a", "b"}
    assert calls[-6:] == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0025, "2.5 ms"), (2.5e-6, "2.5 µs"), (2.5e-9, "2.5 ns")]
)
def test_durations(seconds: float, text: str) -> None:
    assert harness.duration(seconds) == text


def test_report_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    report = harness.Report("Title", ["program", "time"])
    report.add("sort", "1 ms")
    report.missing.append(harness.Missing("wasm3", "traps", "sort"))
    report.show()
    shown = capsys.readouterr().out
    assert "| sort    | 1 ms |" in shown
    assert "* wasm3, sort: traps" in shown


def test_wasmi_table_programs_answer_right() -> None:
    pytest.importorskip("ziglang")
    engine = contenders.Wasmloom()
    runs = wasmi_table.kernel_runs(engine, wasmi_table.kernel())
    control = harness.assemble((harness.PROGRAMS / "control.wat").read_text())
    runs |= wasmi_table.control_runs(engine, control)
    assert set(runs) == set(wasmi_table.ROWS) - {"compile_and_validate", "instantiate"}
    for run in runs.values():
        run()
