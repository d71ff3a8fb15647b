"""The project's pages, from a saved run: ``docs/benchmarks.md``, the figures in the README, and the charts.

Prose is written, figures are not: a template has a comment where a table belongs, ``<!-- table NAME -->``, and one for
the conditions of the run, ``<!-- conditions -->``. The README has its table between two comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from wasmloom_bench import charts, tables
from wasmloom_bench.figures import Figure, shown
from wasmloom_bench.results import Missing, Run, Table
from wasmloom_bench.suites import SUITES

#: Below the folder of the documentation: the template and the saved run. The site leaves this folder out.
TEMPLATE, SAVED = Path("site") / "benchmarks.md", Path("site") / "benchmarks.json"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


class PageError(Exception):
    """A page has no place for what belongs there; the message says what."""


def document(template: str, run: Run) -> str:
    """A template with its tables. Raises `PageError` for a table of a suite that the run has, but not the table."""
    found = charts.tables_of(run)

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name == "conditions":
            return "\n".join(_conditions(run)).rstrip()
        table = found.get(name.removeprefix("table "))
        if table is None:
            suite = name.removeprefix("table ").partition("/")[0]
            if suite in SUITES and all(each.name != suite for each in run.suites):
                return f"Not measured in this run: `wasmloom bench {suite}`."
            raise PageError(f"the run has no {name}")
        return "\n".join(_shortened(table)).rstrip()

    return re.sub(r"<!-- (table [^ ]+|conditions) -->", put, template)


def _conditions(run: Run) -> Iterator[str]:
    yield from tables.conditions(run)
    for suite in run.suites:
        before, after = suite.load
        yield f"* {suite.title} (`wasmloom bench {suite.name}`): {suite.took:.0f} s, load {before:.1f} to {after:.1f}"


def _shortened(table: Table) -> Iterator[str]:
    """A table as a page has it: programs that have no figure for want of a folder or of time need no lines."""
    entries = [entry for entry in table.missing if entry.contender != "all"]
    absent = [entry.what for entry in table.missing if entry.contender == "all"]
    if absent:
        entries.append(Missing("all", "not measured in this run", ", ".join(absent)))
    shown_table = Table(**{**vars(table), "missing": entries})
    yield from tables.lines(shown_table, aligned=False)


# --- the README -------------------------------------------------------------------------------------------------------


def _figure(run: Run, table: str, row: str, contender: str) -> str:
    found = charts.tables_of(run).get(table)
    figure = None if found is None else found.figure(row, contender)
    return "—" if found is None or figure is None else tables.quantity(found, figure.estimate, figure.uncertainty)


def _relative(run: Run, contender: str) -> str:
    found = charts.tables_of(run).get("tiers/programs")
    mean = None if found is None else found.mean((contender, "Wasmtime"))
    return "—" if found is None or mean is None else _rounded(mean[0], found.noise())


def _rounded(figure: Figure, noise: float) -> str:
    return shown(figure.estimate, max(figure.uncertainty, noise), 2)


def readme(run: Run) -> str:
    """The README's table."""
    module = "programs in C"
    programs = charts.tables_of(run).get("tiers/programs")
    mean = None if programs is None else programs.mean(("compiler", "Wasmtime"))
    count = 0 if mean is None else mean[1]
    tiers = ", ".join(
        f"{_relative(run, tier)} {when}"
        for tier, when in (("interpreter", "at once"), ("baseline", "soon"), ("compiler", "at last"))
    )
    calls = {
        name: f"{_figure(run, 'calls/in', '2 arguments', name)} and {_figure(run, 'calls/out', '2 arguments', name)}"
        for name in ("interpreter", "Wasmtime", "wasm3")
    }
    switches = " to ".join(
        _figure(run, "switching/pairs", "suspend_resume", tier) for tier in ("compiler", "interpreter")
    )
    rows = [
        ["", "wasmloom", "Wasmtime's package", "pywasm3"],
        [
            "making a small module ready", _figure(run, "startup/modules", module, "wasmloom"),
            _figure(run, "startup/modules", module, "Wasmtime"),
            f"{_figure(run, 'startup/modules', module, 'wasm3')} (not validated)",
        ],
        ["a call into the guest, and one out of it", calls["interpreter"], calls["Wasmtime"], calls["wasm3"]],
        [f"{count} programs, time relative to Wasmtime's", tiers, "1", _relative(run, "wasm3")],
        ["suspend and resume a guest", switches, "—", "—"],
        ["guests that `await` Python's coroutines", "yes", "—", "—"],
    ]  # fmt: skip
    return "\n".join(tables.markdown(rows[0], rows[1:], aligned=False))


def put_figures(text: str, run: Run) -> str:
    """The README with this run's figures. Raises `PageError` when it has no place for them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageError(f"the README has no {BEGIN} … {END}")
    return f"{before}{begin}\n{readme(run)}\n{end}{after}"


def write(folder: Path, run: Run) -> list[Path]:
    """Write what the documentation in `folder` has of a run, and the run; gives the files that were written.

    Raises `PageError`, and `OSError`.
    """
    front = folder.parent / "README.md"
    files = {
        folder / "benchmarks.md": document((folder / TEMPLATE).read_text(encoding="utf-8"), run),
        front: put_figures(front.read_text(encoding="utf-8"), run),
        folder / SAVED: run.to_json(),
    }
    for name, chart in (("speed", charts.speed(run)), ("switching", charts.switching(run))):
        if chart is not None:
            files[folder / f"{name}.svg"] = chart
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)
