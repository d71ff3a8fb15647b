"""Two saved runs against each other, and two commits in one run: new over old, as the pull request's tables are.

Saved runs were made at different times: samples aren't paired, so what the machine did meanwhile is in the ratios. The
peers' ratios show it, and are kept as the control. Commits are built apart and take turns in one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wasmloom_bench import tables
from wasmloom_bench.figures import Figure, mean_of_ratios, shown, unpaired
from wasmloom_bench.results import Run, Table


@dataclass(frozen=True)
class Change:
    """A figure of both runs: `ratio` is new over old."""

    table: Table
    row: str
    contender: str
    ratio: Figure
    old: Figure
    new: Figure
    #: How far from 1 equals may be, by both runs' own noise.
    noise: float

    @property
    def differs(self) -> bool:
        """Whether noise doesn't explain it."""
        return self.ratio.low > 1 + self.noise or self.ratio.high < 1 - self.noise


def changes(old: Run, new: Run) -> Iterator[Change]:
    """What both runs have measured."""
    before = {table.name: table for _, table in old.tables()}
    for _, table in new.tables():
        other = before.get(table.name)
        if other is None or other.unit != table.unit:
            continue
        noise = max(table.noise(), other.noise())
        for row, cells in table.rows.items():
            for name, samples in cells.items():
                known = other.rows.get(row, {}).get(name)
                ratio = unpaired(samples, known) if known else None
                if ratio is not None and known:
                    yield Change(table, row, name, ratio, Figure.of(known), Figure.of(samples), noise)


def lines(old: Run, new: Run, aligned: bool = True) -> Iterator[str]:
    """The tables of a comparison."""
    for name, run in (("old", old), ("new", new)):
        yield f"{name}: " + "; ".join(f"{what} {text}" for what, text in run.conditions.items())
        yield ""
    found = list(changes(old, new))
    if not found:
        yield "Nothing that both runs have measured."
        return
    for table in dict.fromkeys(id(each.table) for each in found):
        mine = [each for each in found if id(each.table) == table]
        first = mine[0].table
        yield f"### {first.title} ({first.name}): new / old, {first.better} is better"
        yield ""
        names = list(dict.fromkeys(each.contender for each in mine))
        body = []
        for row in dict.fromkeys(each.row for each in mine):
            cells = {each.contender: each for each in mine if each.row == row}
            body.append([row, *(_cell(cells.get(name)) for name in names)])
        means = []
        for name in names:
            mean = mean_of_ratios([each.ratio for each in mine if each.contender == name], mine[0].noise)
            means.append("—" if mean is None else shown(mean.estimate, mean.uncertainty))
        body.append(["geometric mean", *means])
        yield from tables.markdown(["", *names], body, aligned)
        yield ""
        yield f"Noise: within {shown(100 * mine[0].noise, 0.2)} % of 1. With *: more than noise explains."
        yield ""


def _cell(change: Change | None) -> str:
    if change is None:
        return "—"
    text = shown(change.ratio.estimate, max(change.ratio.uncertainty, change.noise))
    return f"{text} *" if change.differs else text
