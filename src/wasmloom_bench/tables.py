"""Tables of a run as Markdown, for terminals and pages.

A cell is a median, with its relative uncertainty where that is above 2 %. A ratio has no more digits than its own
uncertainty and the table's noise allow. Where one of our contenders is behind a peer by more than that, the cell has a
mark, and a line below the table says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wasmloom_bench.contenders import TIERS
from wasmloom_bench.figures import Figure, duration, shown, size
from wasmloom_bench.reasons import reason
from wasmloom_bench.results import Missing, Run, SuiteResult, Table

#: Behind a ratio where we lose.
BEHIND = "▼"

_UNITS: dict[str, Callable[[float, float], str]] = {"seconds": duration, "bytes": size}


def is_ours(contender: str) -> bool:
    """Whether a contender is this engine."""
    return contender.split(",")[0].split()[0] in (*TIERS, "wasmloom")


def quantity(table: Table, value: float, uncertainty: float = 0.0) -> str:
    """A figure of the table with its unit."""
    return _UNITS.get(table.unit, shown)(value, uncertainty)


def cell(table: Table, figure: Figure | None) -> str:
    """A figure, with its uncertainty where that matters."""
    if figure is None:
        return "—"
    text = quantity(table, figure.estimate, figure.uncertainty)
    return f"{text} ±{shown(100 * figure.uncertainty, 0.2)} %" if figure.uncertainty > 0.02 else text


def pairs(table: Table) -> list[tuple[str, str]]:
    """The pairs for which there is a ratio at all."""
    return [pair for pair in table.pairs if any(table.ratio(row, pair) for row in table.rows)]


def is_behind(table: Table, pair: tuple[str, str], figure: Figure) -> bool:
    """Whether we lose, by more than noise explains."""
    if not is_ours(pair[0]) or is_ours(pair[1]):
        return False
    worst = figure.low if table.better == "less" else 1 / figure.high
    return worst > 1 + table.noise()


def ratio_cell(table: Table, pair: tuple[str, str], figure: Figure | None) -> str:
    """A ratio, and whether we lose."""
    if figure is None:
        return "—"
    text = shown(figure.estimate, max(figure.uncertainty, table.noise()))
    return f"{text} {BEHIND}" if is_behind(table, pair, figure) else text


#: With more contenders, ratios are in a table of their own.
_WIDE = 4


def parts(table: Table) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Headings and rows of the tables that are shown: one, or figures and ratios apart."""
    names, ratios = table.contenders(), pairs(table)
    if len(names) > _WIDE and ratios:
        yield rows(table, names, [])
        yield rows(table, [], ratios)
    else:
        yield rows(table, names, ratios)


def rows(table: Table, names: Sequence[str], ratios: Sequence[tuple[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows with these contenders and ratios, the last row with geometric means where there are several."""
    heading = ["", *table.columns, *names, *(f"{one} / {other}" for one, other in ratios)]
    found = []
    for row in table.rows:
        cells = [known.get(row, "—") for known in table.columns.values()]
        cells += [cell(table, table.figure(row, name)) for name in names]
        found.append([row, *cells, *(ratio_cell(table, pair, table.ratio(row, pair)) for pair in ratios)])
    if len(found) > 1 and ratios:
        means = []
        for pair in ratios:
            mean = table.mean(pair)
            counted = "" if mean is None or mean[1] == len(found) else f" ({mean[1]})"
            means.append("—" if mean is None else ratio_cell(table, pair, mean[0]) + counted)
        found.append(["geometric mean", *("" for _ in (*table.columns, *names)), *means])
    return heading, found


def behind(table: Table) -> Iterator[str]:
    """A line for each row where we lose: the ratios, and why."""
    for row in table.rows:
        found = [(pair, figure) for pair in pairs(table) if (figure := table.ratio(row, pair)) is not None]
        lost = [(pair, figure) for pair, figure in found if is_behind(table, pair, figure)]
        by_reason: dict[str, list[str]] = {}
        for pair, figure in lost:
            text = f"{pair[0]} / {pair[1]} {ratio_cell(table, pair, figure).removesuffix(f' {BEHIND}')}"
            by_reason.setdefault(reason(table.name, row, pair), []).append(text)
        for why, texts in by_reason.items():
            yield f"{row}, {', '.join(texts)}: {why}"


def about(table: Table) -> str:
    """What the figures are."""
    unit = {"seconds": "Time", "bytes": "Bytes", "score": "A score", "MB/s": "Megabytes a second"}.get(
        table.unit, table.unit
    )
    per = f" per {table.per}" if table.per else ""
    noise = table.noise()
    text = f"{unit}{per}, {table.better} is better; {table.clock}."
    if noise:
        text += f" Noise: {table.twin} against itself is within {shown(100 * noise, 0.2)} % of 1."
    return text


def missing(entries: Sequence[Missing]) -> Iterator[str]:
    """What could not be measured: a line for each reason."""
    same: dict[tuple[str, str, bool], list[str]] = {}
    for entry in entries:
        same.setdefault((entry.contender, entry.reason, entry.wrong), []).append(entry.what)
    for (contender, why, wrong), what in same.items():
        yield f"{'WRONG ANSWER: ' if wrong else ''}{contender}, {', '.join(what)}: {why}"


def markdown(heading: Sequence[str], body: Sequence[Sequence[str]], aligned: bool) -> Iterator[str]:
    """The lines of a table; `aligned` for terminals, else as narrow as it can be."""
    heading, body = (_escaped(heading), [_escaped(row) for row in body])
    if not aligned:
        yield "|" + "|".join(heading) + "|"
        yield "|" + "---|" * len(heading)
        for row in body:
            yield "|" + "|".join(row) + "|"
        return
    widths = [max(len(row[i]) for row in [heading, *body]) for i in range(len(heading))]
    for row in (heading, ["-" * width for width in widths], *body):
        yield "| " + " | ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)) + " |"


def _escaped(row: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in row]


def lines(table: Table, aligned: bool = True) -> Iterator[str]:
    """A table with all that belongs to it."""
    yield about(table)
    yield ""
    if table.rows:
        for heading, body in parts(table):
            yield from markdown(heading, body, aligned)
            yield ""
    else:
        yield "Nothing was measured."
        yield ""
    lost = list(behind(table))
    if lost:
        yield f"Where it is behind ({BEHIND}):"
        yield ""
        yield from (f"* {line}" for line in lost)
        yield ""
    if table.notes:
        yield " ".join(table.notes)
        yield ""
    absent = list(missing(table.missing))
    if absent:
        yield "Missing:"
        yield ""
        yield from (f"* {line}" for line in absent)
        yield ""


def suite_lines(suite: SuiteResult) -> Iterator[str]:
    """A suite for a terminal."""
    before, after = suite.load
    yield f"## {suite.title} ({suite.took:.0f} s; load {before:.1f} before, {after:.1f} after)"
    yield ""
    for table in suite.tables:
        yield f"### {table.title} ({table.name})"
        yield ""
        yield from lines(table)


def conditions(run: Run) -> Iterator[str]:
    """Under which conditions a run was made, and who wasn't there."""
    yield "; ".join(f"{name} {text}" for name, text in run.conditions.items())
    yield ""
    yield "; ".join(f"{name} {text}" for name, text in run.versions.items())
    yield ""
    absent = list(missing(run.missing))
    if absent:
        yield "Contenders that are missing:"
        yield ""
        yield from (f"* {line}" for line in absent)
        yield ""
