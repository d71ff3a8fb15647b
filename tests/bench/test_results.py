"""Saved runs: what is written is read, and what is no run is refused; comparisons of two runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom_bench import comparison, tables
from wasmloom_bench.results import VERSION, Missing, ResultsError, Run, SuiteResult, Table

names = st.text(min_size=1, max_size=8)
times = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=4)
missing = st.builds(Missing, names, names, names, st.booleans())
some_tables = st.builds(
    Table,
    names,
    names,
    st.sampled_from(["seconds", "bytes", "score"]),
    st.sampled_from(["less", "more"]),
    names,
    names,
    st.lists(st.tuples(names, names), max_size=3),
    st.dictionaries(names, st.dictionaries(names, times, max_size=3), max_size=3),
    st.dictionaries(names, st.dictionaries(names, names, max_size=2), max_size=2),
    names,
    st.dictionaries(names, times, max_size=2).map(lambda again: {}),
    st.lists(missing, max_size=2),
    st.lists(names, max_size=2),
)
suites = st.builds(
    SuiteResult, names, names, st.lists(some_tables, max_size=3), st.floats(0, 1e4), st.tuples(*[st.floats(0, 99)] * 2)
)
runs = st.builds(
    Run,
    st.dictionaries(names, names, max_size=3),
    st.dictionaries(names, names, max_size=3),
    st.dictionaries(names, st.booleans(), max_size=3),
    st.lists(missing, max_size=2),
    st.lists(suites, max_size=2),
)


@given(runs)
def test_what_is_saved_is_loaded(run: Run) -> None:
    assert Run.from_json(run.to_json()) == run


@given(runs)
def test_every_run_can_be_shown(run: Run) -> None:
    for suite in run.suites:
        assert "\n".join(tables.suite_lines(suite))
    assert "\n".join(tables.conditions(run)) is not None
    assert list(comparison.lines(run, run))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "f.json is not JSON"),
        ("[]", "f.json is no saved run"),
        ("{}", "f.json is no saved run"),
        ('{"wasmloom bench": 99}', "version 99, not 1"),
        ('{"wasmloom bench": 1}', "f.json is damaged: KeyError: 'conditions'"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=says):
        Run.load(path)


@given(st.data())
def test_damaged_runs_are_refused(data: st.DataObject) -> None:
    """Whatever is put in the place of a part: a `ResultsError`, or a run that can be saved again."""
    table = Table("s/t", "T", rows={"r": {"a": [1.0, 2.0]}}, pairs=[("a", "b")], missing=[Missing("a", "b")])
    saved = json.loads(Run(suites=[SuiteResult("s", "S", [table])]).to_json())
    places: list[tuple[object, object]] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                places.append((value, key))
                collect(each)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                places.append((value, number))
                collect(each)

    collect(saved)
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just([]), st.just({})))  # type: ignore[index]
    try:
        Run.from_json(json.dumps(saved))
    except ResultsError as error:
        assert "damaged" in str(error) or "no saved run" in str(error) or "version" in str(error)


def run_with(seconds: float, spread: float = 0.001) -> Run:
    """One table, in which a contender takes so long."""
    around = [seconds * (1 + spread * k) for k in (-1, 0, 1, 0.5, -0.5)]
    table = Table("s/t", "Title", rows={"sort": {"ours": around, "peer": [2.0] * 5}}, twin="ours")
    table.again = {"sort": list(reversed(around))}
    return Run({"commit": "abc"}, suites=[SuiteResult("s", "S", [table])])


def test_a_run_against_itself_is_one() -> None:
    run = run_with(1.0, 0.02)
    for change in comparison.changes(run, run):
        assert change.ratio.estimate == 1
        assert not change.differs


def test_what_changed_is_marked() -> None:
    shown = "\n".join(comparison.lines(run_with(1.0), run_with(0.5)))
    assert re.search(r"\| sort +\| 0\.500+ \* \| 1\.000 ", shown)
    changes = {change.contender: change for change in comparison.changes(run_with(1.0), run_with(0.5))}
    assert changes["ours"].differs
    assert not changes["peer"].differs


def test_noise_is_no_change() -> None:
    """Five percent, where the contender differs from itself by as much."""
    changes = {change.contender: change for change in comparison.changes(run_with(1.0, 0.05), run_with(1.05, 0.05))}
    assert not changes["ours"].differs


def test_nothing_in_common() -> None:
    assert list(comparison.lines(Run(), run_with(1)))[-1] == "Nothing that both runs have measured."


def test_tables_say_where_we_lose() -> None:
    table = Table("simd/t", "T", pairs=[("compiler", "V8"), ("compiler", "Wasmtime")])
    table.rows = {
        "sha256": {"compiler": [2.0] * 5, "V8": [1.0] * 5, "Wasmtime": [4.0] * 5},
        "blur": {"compiler": [1.0] * 5, "V8": [1.0] * 5, "Wasmtime": [4.0] * 5},
    }
    shown = "\n".join(tables.lines(table))
    assert "| 2.000 ▼" in shown
    assert "* sha256, compiler / V8 2.000: 12 of the loop's 57 instructions" in shown
    assert "* blur" not in shown
    table.better = "more"
    assert "* blur, compiler / Wasmtime 0.2500: not looked into yet." in "\n".join(tables.lines(table))


def test_ratios_have_no_more_digits_than_noise_allows() -> None:
    table = Table("s/t", "T", pairs=[("a", "b")], rows={"r": {"a": [3.0] * 5, "b": [9.0] * 5}}, twin="a")
    assert "| 0.3333 |" in "\n".join(tables.lines(table))
    table.again = {"r": [3.3, 2.7, 3.3, 2.7, 3.2]}
    assert "| 0.33 " in "\n".join(tables.lines(table))
    table.again = {"r": [6.0] * 5}
    assert "| 0.3 " in "\n".join(tables.lines(table))


def test_wrong_answers_are_named() -> None:
    table = Table("s/t", "T", missing=[Missing("pywasm", "got 1, expected 2", "sum", True)])
    run = Run(suites=[SuiteResult("s", "S", [table])])
    assert run.wrong() == table.missing
    assert "WRONG ANSWER: pywasm, sum: got 1, expected 2" in "\n".join(tables.lines(table))


def test_version_is_in_the_file() -> None:
    assert json.loads(Run().to_json())["wasmloom bench"] == VERSION
