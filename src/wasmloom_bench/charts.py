"""Charts of a run, as SVG: one for each table, and the overview that the front page shows.

They are readable without colour: contenders differ by the shapes of their marks and by lightness, ours are filled. Each
is drawn for a width: on narrow screens another picture is shown, not the same one made small.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from wasmloom_bench.figures import Figure, shown
from wasmloom_bench.results import Run, Table
from wasmloom_bench.tables import is_ours, quantity

#: Widths in inches, of 96 pixels each.
WIDE, NARROW = 8.0, 3.7

_OURS = "#673ab7"
#: By turns, for ours and others: colour; shapes are never used twice in a chart before all have been.
_INK = {True: ("#673ab7", "#9575cd", "#311b92", "#b39ddb"), False: ("#333333", "#8a8a8a", "#5c5c5c", "#b5b5b5")}
_SHAPES = "osD^vP*Xph<>"

#: More contenders than these make a chart that nobody can read; those without a ratio are left out first.
_MOST = 8


def _settings() -> AbstractContextManager[None]:
    import matplotlib as mpl

    mpl.use("Agg")
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "wasmloom",
            "font.family": "sans-serif",
            # Verdana is as wide as the font that places are computed with, others are narrower: nothing overlaps.
            "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
            "font.size": 9,
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#888888",
        }
    )


def _svg(figure: Any, alt: str) -> str:
    """The text of an SVG file; the same for the same figure."""
    import matplotlib.pyplot as plt

    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # whoever shows the picture may have it
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    plt.close(figure)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    escaped = alt.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    head, rest = text.split(">", 1)
    # What describes the format links to vocabularies: no link is needed to show a picture.
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL)
    lines = [line.rstrip() for line in rest.splitlines()]
    return f'{head} role="img">\n <title>{escaped}</title>' + "\n".join(lines) + "\n"


def base(table: Table) -> str | None:
    """The contender that a table's figures are set in relation to: the other of its first pair, or its first one."""
    names = table.contenders()
    return next((other for _, other in table.pairs if other in names), names[0] if names else None)


def drawn(table: Table, reference: str) -> list[str]:
    """The contenders of a chart."""
    named = {name for pair in table.pairs for name in pair} | {reference}
    names = table.contenders()
    return names if len(names) <= _MOST else [name for name in names if name in named][:_MOST]


def table_alt(table: Table) -> str:
    """What a table's chart shows, in words."""
    return f"{table.title}: {', '.join(table.contenders())} in relation to {base(table)}"


def table_chart(table: Table, width: float) -> str | None:
    """A dot for each program and contender: its figure over the reference's. None where that shows nothing.

    Bars are the bounds. The axis is logarithmic; less is to the left.
    """
    reference = base(table)
    if reference is None or len(table.contenders()) < 2:
        return None
    names = drawn(table, reference)
    points: list[tuple[int, str, Figure]] = []
    rows = [row for row in table.rows if reference in table.rows[row] and len(table.rows[row]) > 1]
    for place, row in enumerate(rows):
        for name in names:
            figure = table.ratio(row, (name, reference))
            if figure is not None and name in names:
                points.append((place, name, figure))
    if not points:
        return None
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with _settings():
        columns = 4 if width == WIDE else 2
        legend_rows = math.ceil(len(names) / columns)
        height = 0.75 + 0.25 * len(rows) + 0.2 * legend_rows
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        seen = {True: 0, False: 0}
        for number, name in enumerate(names):
            ours = is_ours(name)
            colour = _INK[ours][seen[ours] % 4]
            seen[ours] += 1
            mine = [(place, each) for place, of, each in points if of == name]
            axes.errorbar(
                [each.estimate for _, each in mine],
                [place for place, _ in mine],
                xerr=[
                    [each.estimate - each.low for _, each in mine],
                    [each.high - each.estimate for _, each in mine],
                ],
                fmt=_SHAPES[number % len(_SHAPES)], color=colour, markersize=6, elinewidth=1, label=name,
                markerfacecolor=colour if ours else "white", markeredgewidth=1.3,
            )  # fmt: skip
        axes.set_xscale("log")
        values = [each.estimate for _, _, each in points]
        low, high = min([*values, 1]), max([*values, 1])
        axes.set_xlim(low / 1.25, high * 1.25)
        decades = math.log10(high / low)
        steps = (1, 2, 5) if decades < (2.2 if width == WIDE else 1.2) else (1,)
        axes.xaxis.set_major_locator(LogLocator(10, subs=steps, numticks=12 if width == WIDE else 6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axvline(1, color="#888888", linewidth=1)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(rows)), [_short(row, width) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        about = f"{_what(table)} in relation to {reference} ({table.better} is better)"
        axes.set_xlabel(textwrap.fill(about, int(width * 10)), fontsize=8)
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8, handletextpad=0.2)
        return _svg(figure, table_alt(table))


def _short(row: str, width: float) -> str:
    most = 34 if width == WIDE else 18
    return row if len(row) <= most else row[: most - 1] + "…"


def _what(table: Table) -> str:
    return {"seconds": "time", "bytes": "bytes"}.get(table.unit, table.unit)


@dataclass(frozen=True)
class Bar:
    """A bar of an overview."""

    name: str
    figure: Figure
    text: str
    ours: bool


def bars(title: str, chosen: Sequence[Bar], width: float) -> str:
    """Bars from the longest to the shortest, with their figures; ours are filled, others hatched."""
    import matplotlib.pyplot as plt

    ordered = sorted(chosen, key=lambda each: -each.figure.estimate)
    with _settings():
        figure, axes = plt.subplots(figsize=(width, 0.7 + 0.33 * len(ordered)), layout="constrained")
        for place, each in enumerate(ordered):
            axes.barh(
                place, each.figure.estimate, height=0.68, color=_OURS if each.ours else "#dedce4",
                edgecolor=_OURS if each.ours else "#77747f", hatch=None if each.ours else "///", linewidth=0.8,
            )  # fmt: skip
            axes.annotate(
                each.text, (each.figure.estimate, place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(ordered)), [each.name for each in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, max(each.figure.high for each in ordered) * 1.12)
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        figure.suptitle(textwrap.fill(title, int(width * 12)), x=0.02, ha="left", fontsize=9)
        words = ", ".join(f"{each.name} {each.text}" for each in ordered)
        return _svg(figure, f"{title}: {words}")


#: What the overview calls contenders, and which are in it.
SPEED = {
    "wasm3": "wasm3", "interpreter": "wasmloom, interpreter", "baseline": "wasmloom, baseline",
    "compiler": "wasmloom, compiler", "Wasmtime": "Wasmtime", "Liftoff": "V8, Liftoff only", "V8": "V8",
}  # fmt: skip


def tables_of(run: Run) -> dict[str, Table]:
    """Tables by name."""
    return {table.name: table for _, table in run.tables()}


def speed(run: Run, width: float = 6.6) -> str | None:
    """The overview: time in relation to Wasmtime's. None when the run hasn't measured it."""
    table = tables_of(run).get("tiers/programs")
    if table is None:
        return None
    found, counts = [], set()
    for name, title in SPEED.items():
        mean = table.mean((name, "Wasmtime"))
        if mean is not None:
            counts.add(mean[1])
            spread = max(mean[0].uncertainty, table.noise())
            text = "1" if name == "Wasmtime" else shown(mean[0].estimate, spread, 2)
            found.append(Bar(title, mean[0], text, is_ours(name)))
    if len(found) < 2:
        return None
    number = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(counts.pop())
    return bars(f"Time for {number} programs, relative to Wasmtime's (geometric mean)", found, width)


def switching(run: Run, width: float = 6.6) -> str | None:
    """What a pair of switches takes. None when the run hasn't measured it."""
    table = tables_of(run).get("switching/pairs")
    if table is None:
        return None
    found = []
    for name in table.contenders():
        figure = table.figure("suspend_resume", name)
        if figure is not None:
            text = quantity(table, figure.estimate, figure.uncertainty)
            found.append(Bar(SPEED.get(name, f"wasmloom, {name}"), figure, text, is_ours(name)))
    return bars("Time for suspend and resume, there and back", found, width) if found else None
