"""A run as data: what was measured, under which conditions. It is saved as JSON, and all that is shown is made of it.

The form of the file has a number, `VERSION`. A file of another form is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wasmloom_bench.figures import Figure, mean_of_ratios, noise, ratio

VERSION = 1


class ResultsError(Exception):
    """A file isn't a saved run; the message names it and says why."""


@dataclass
class Missing:
    """What could not be measured, and why."""

    contender: str
    reason: str
    what: str = "everything"
    #: The answer was wrong: a fault, not an absence.
    wrong: bool = False


@dataclass
class Table:
    """Programs, contenders, and the samples of each: those of one position in the lists are of one round.

    `unit`: "seconds", "bytes", "score" or "MB/s". `better`: "less" or "more". `clock`: what was counted.
    `per`: what a figure is for, where that isn't the whole program ("call", "pair of switches").
    """

    name: str
    title: str
    unit: str = "seconds"
    better: str = "less"
    clock: str = "processor time of the thread"
    per: str = ""
    #: What is set in relation to what, by contender.
    pairs: list[tuple[str, str]] = field(default_factory=list)
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    #: More to show: heading → row → text.
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    #: The contender that was measured twice, for the noise, and its second samples by row.
    twin: str = ""
    again: dict[str, list[float]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def contenders(self) -> list[str]:
        """All that have a figure, in the order of their first appearance."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def figure(self, row: str, contender: str) -> Figure | None:
        """A median with bounds."""
        samples = self.rows.get(row, {}).get(contender)
        return Figure.of(samples) if samples else None

    def ratio(self, row: str, pair: tuple[str, str]) -> Figure | None:
        """The first of the pair over the second, paired within rounds."""
        one, other = (self.rows.get(row, {}).get(name) for name in pair)
        return ratio(one, other) if one and other else None

    def noise(self) -> float:
        """How far from 1 a contender was from itself; 0 when that wasn't measured."""
        return noise([(self.rows[row][self.twin], again) for row, again in self.again.items() if again])

    def mean(self, pair: tuple[str, str]) -> tuple[Figure, int] | None:
        """The geometric mean of a pair's ratios, and over how many rows."""
        found = [figure for row in self.rows if (figure := self.ratio(row, pair)) is not None]
        mean = mean_of_ratios(found, self.noise())
        return None if mean is None else (mean, len(found))

    def gain(self, figure: Figure) -> float:
        """How many times as good the first of a pair is: above 1 it is ahead, whatever is better."""
        return 1 / figure.estimate if self.better == "less" else figure.estimate


@dataclass
class SuiteResult:
    """What a suite found."""

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    #: Elapsed seconds.
    took: float = 0.0
    #: The machine's load (1 minute) before and after.
    load: tuple[float, float] = (0.0, 0.0)


@dataclass
class Run:
    """A run: its conditions, as name → text, the versions of all contenders, and the suites."""

    conditions: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    suites: list[SuiteResult] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[SuiteResult, Table]]:
        """All tables with their suites."""
        for suite in self.suites:
            for table in suite.tables:
                yield suite, table

    def wrong(self) -> list[Missing]:
        """Contenders whose answers were wrong."""
        return [entry for _, table in self.tables() for entry in table.missing if entry.wrong]

    def to_json(self) -> str:
        """The text of a file. Raises `ValueError` for what JSON can't say (a sample that is no number)."""
        data = {"wasmloom bench": VERSION, **dataclasses.asdict(self)}
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.replace('{"name":', '\n{"name":') + "\n"  # a line for each table, for whoever compares files

    @classmethod
    def from_json(cls, text: str, name: str = "the text") -> Run:
        """The run that `to_json` has written. Raises `ResultsError`."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ResultsError(f"{name} is not JSON: {error}") from None
        version = data.get("wasmloom bench") if isinstance(data, Mapping) else None
        if version != VERSION:
            said = "no saved run" if version is None else f"a saved run of version {version!r}, not {VERSION}"
            raise ResultsError(f"{name} is {said}")
        try:
            return cls(
                data["conditions"], data["versions"], data["options"], [Missing(**each) for each in data["missing"]],
                [_suite(each) for each in data["suites"]],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResultsError(f"{name} is damaged: {type(error).__name__}: {error}") from None

    def save(self, path: Path) -> None:
        """Write a file. Raises `OSError`."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a file. Raises `OSError` and `ResultsError`."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except UnicodeDecodeError:
            raise ResultsError(f"{path} is not JSON: it is not text") from None


def _samples(value: Any) -> list[float]:
    if not isinstance(value, list) or not all(isinstance(each, int | float) for each in value):
        raise ValueError("samples that are no numbers")
    return [float(each) for each in value]


def _suite(data: Mapping[str, Any]) -> SuiteResult:
    tables = []
    for each in data["tables"]:
        given = dict(each)
        given["pairs"] = [(one, other) for one, other in given["pairs"]]
        given["rows"] = {
            row: {name: _samples(taken) for name, taken in cells.items()} for row, cells in given["rows"].items()
        }
        given["again"] = {row: _samples(taken) for row, taken in given["again"].items()}
        given["missing"] = [Missing(**entry) for entry in given["missing"]]
        tables.append(Table(**given))
    before, after = data["load"]
    return SuiteResult(data["name"], data["title"], tables, float(data["took"]), (float(before), float(after)))
