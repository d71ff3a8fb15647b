"""A run as one HTML page that needs nothing else: charts for wide and narrow screens, all figures, conditions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from wasmloom_bench import charts, tables
from wasmloom_bench.results import Run, Table

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 Verdana, "DejaVu Sans", sans-serif; color: #1d1b22; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 0 1rem 4rem; }
h1 { font-size: 1.7rem; margin: 1.5rem 0 .5rem; } h2 { margin-top: 3rem; border-top: 3px solid #673ab7;
  padding-top: .6rem; } h3 { margin: 2rem 0 .3rem; }
nav a { display: inline-block; margin: 0 .9rem .3rem 0; color: #512da8; }
p.about, p.note, dd, ul.lines { font-size: .86rem; color: #45424d; margin: .2rem 0 .6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; margin: .4rem 0 .8rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #dcd9e2; white-space: nowrap;
  vertical-align: top; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { vertical-align: bottom; border-bottom: 2px solid #8a8792; white-space: normal; }
td small { display: block; color: #6b6873; font-size: .72rem; }
td.behind { font-weight: bold; } tr.mean th, tr.mean td { border-top: 2px solid #8a8792; font-weight: bold; }
img { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .86rem; }
dt { font-weight: bold; } dd { margin: 0; }
.wrong { border: 3px double #000; padding: .5rem 1rem; font-weight: bold; }
@media (max-width: 600px) { body { font-size: 15px; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def _source(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _picture(alt: str, wide: str | None, narrow: str | None) -> Iterator[str]:
    if wide is None or narrow is None:
        return
    yield f'<picture><source media="(max-width: 600px)" srcset="{_source(narrow)}">'
    yield f'<img src="{_source(wide)}" alt="{escape(alt)}"></picture>'


def _table(table: Table) -> Iterator[str]:
    names, pairs = table.contenders(), tables.pairs(table)
    heading, body = tables.rows(table, names, pairs)
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{escape(text)}</th>" for text in heading) + "</tr></thead><tbody>"
    first = 1 + len(table.columns)
    for row in body:
        mean = row[0] == "geometric mean"
        yield ('<tr class="mean">' if mean else "<tr>") + f"<th>{escape(row[0])}</th>"
        for column, text in enumerate(row[1:], 1):
            kind = ' class="behind"' if tables.BEHIND in text else ""
            name = names[column - first] if first <= column < first + len(names) else None
            figure = None if name is None or mean else table.figure(row[0], name)
            if figure is not None:
                median = tables.quantity(table, figure.estimate, figure.uncertainty)
                spread = " – ".join(
                    tables.quantity(table, each, figure.uncertainty / 10) for each in (figure.low, figure.high)
                )
                yield f"<td>{escape(median)}<small>{escape(spread)}</small></td>"
            else:
                yield f"<td{kind}>{escape(text)}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def _list(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f'<p class="about">{escape(title)}</p><ul class="lines">'
        yield from (f"<li>{escape(line)}</li>" for line in lines)
        yield "</ul>"


def _section(table: Table) -> Iterator[str]:
    yield f'<h3 id="{escape(table.name)}">{escape(table.title)}</h3>'
    yield f'<p class="about">{escape(tables.about(table))}</p>'
    if table.rows:
        wide, narrow = (charts.table_chart(table, width) for width in (charts.WIDE, charts.NARROW))
        yield from _picture(charts.table_alt(table), wide, narrow)
        yield from _table(table)
    else:
        yield '<p class="about">Nothing was measured.</p>'
    yield from _list(f"Where it is behind ({tables.BEHIND}):", list(tables.behind(table)))
    if table.notes:
        yield f'<p class="note">{escape(" ".join(table.notes))}</p>'
    yield from _list("Missing:", list(tables.missing(table.missing)))


def page(run: Run) -> str:
    """The page."""
    title = f"wasmloom {run.conditions.get('wasmloom', '')}: benchmarks"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        '<p class="about">Cells are medians; below them the bounds within which the median is with 95 % certainty.'
        " Ratios are taken within a round of a measurement, and have no more digits than noise allows. In charts, marks"
        " of wasmloom are filled, and the bars are those bounds.</p>",
    ]
    for entry in run.wrong():
        said = f"WRONG ANSWER: {entry.contender}, {entry.what}: {entry.reason}"
        parts.append(f'<p class="wrong">{escape(said)}</p>')
    for make, alt in (
        (charts.speed, "Time in relation to Wasmtime's"),
        (charts.switching, "Time for a pair of switches"),
    ):
        parts += _picture(alt, make(run, charts.WIDE), make(run, charts.NARROW))
    parts.append("<nav>")
    parts += (f'<a href="#{escape(suite.name)}">{escape(suite.title)}</a>' for suite in run.suites)
    parts.append("</nav><h2>Conditions</h2><dl>")
    parts += (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in run.conditions.items())
    versions = "; ".join(f"{name} {text}" for name, text in run.versions.items())
    parts.append(f"<dt>versions</dt><dd>{escape(versions)}</dd></dl>")
    parts += _list("Contenders that are missing:", list(tables.missing(run.missing)))
    for suite in run.suites:
        parts.append(f'<h2 id="{escape(suite.name)}">{escape(suite.title)}</h2>')
        before, after = suite.load
        parts.append(f'<p class="about">{suite.took:.0f} s; load {before:.1f} before, {after:.1f} after.</p>')
        for table in suite.tables:
            parts += _section(table)
    return "\n".join([*parts, "</body></html>", ""])
