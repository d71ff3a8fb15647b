"""What is made of a run: the page, the charts, the project's documents."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasmloom_bench import charts, page, pages
from wasmloom_bench.results import Missing, Run, SuiteResult, Table
from wasmloom_bench.suites import SUITES

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def programs(**more: object) -> Table:
    """A table with several contenders."""
    times = {"interpreter": 5.0, "baseline": 1.5, "compiler": 0.8, "Wasmtime": 1.0, "V8": 0.7, "wasm3": 8.0}
    rows = {
        row: {name: [scale * time * (1 + 0.01 * k) for k in (0, 1, -1, 2, -2)] for name, time in times.items()}
        for row, scale in (("sort <a & b>", 1e-3), ("count", 2e-6))
    }
    table = Table("tiers/programs", 'Programs "in" <every> tier', rows=rows, twin="interpreter")
    table.pairs = [("compiler", "Wasmtime"), ("compiler", "V8"), ("interpreter", "Wasmtime")]
    table.again = {row: cells["interpreter"][::-1] for row, cells in rows.items()}
    return table


def a_run(*tables: Table) -> Run:
    suite = SuiteResult("tiers", "Tiers", list(tables), 12.0, (0.1, 0.2))
    return Run({"processor": "<a> & b", "wasmloom": "1.0"}, {"V8": "14"}, suites=[suite])


class _Reader(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed."""

    EMPTY = ("meta", "img", "source", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_needs_nothing_else() -> None:
    text = page.page(a_run(programs()))
    reader = read(text)
    pictures = [each for each in reader.references if each.startswith("data:image/svg+xml;base64,")]
    assert len(pictures) == 4  # the overview and a table, wide and narrow
    assert all(each.startswith(("#", "data:")) for each in reader.references)
    assert not re.search(r"@import|url\(|<script|<link", text)
    for each in pictures:
        svg = base64.b64decode(each.partition(",")[2]).decode()
        assert not re.search(r"(href|src)=\"(?!#)", svg)
        assert not re.search(r"@import|url\((?!#)", svg)
        ET.fromstring(svg)


def test_the_page_says_what_the_tables_say() -> None:
    table = programs(notes=["A note."])
    table.notes, table.missing = ["A note."], [Missing("pywasm", "got 1, expected <2>", "count", True)]
    shown = " ".join(read(page.page(a_run(table))).text)
    for words in ("sort <a & b>", "A note.", "got 1, expected <2>", "12 s; load 0.1 before", "geometric mean", "▼"):
        assert words in shown
    assert shown.index("WRONG ANSWER: pywasm, count") < shown.index("Conditions")


def test_words_are_no_markup() -> None:
    """Names and reasons come from programs and packages."""
    hostile = "</title></table><script>alert(1)</script>"
    table = Table(f"t/{hostile}", hostile, rows={hostile: {hostile: [1.0] * 3, "b": [2.0] * 3}}, notes=[hostile])
    table.pairs, table.missing = [(hostile, "b")], [Missing(hostile, hostile, hostile)]
    text = page.page(a_run(table))
    read(text)
    assert "<script" not in text


@pytest.mark.parametrize("width", [charts.WIDE, charts.NARROW])
def test_charts_have_all_marks(width: float) -> None:
    svg = charts.table_chart(programs(), width)
    assert svg is not None
    root = ET.fromstring(svg)
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"interpreter", "compiler", "Wasmtime", "V8", "sort <a & b>", "count"} <= texts
    assert svg == charts.table_chart(programs(), width)
    drawn = [root.attrib["width"].removesuffix("pt"), root.attrib["height"].removesuffix("pt")]
    assert float(drawn[0]) == pytest.approx(width * 72)


@settings(max_examples=8, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40),
        st.dictionaries(
            st.sampled_from(["a", "interpreter", "compiler", "V8"]),
            st.lists(st.floats(1e-9, 1e6), min_size=3, max_size=3),
            max_size=4,
        ),
        max_size=4,
    )
)
def test_any_figures_can_be_drawn(rows: dict[str, dict[str, list[float]]]) -> None:
    """Names with any characters, one value, or values that are magnitudes apart."""
    table = Table("t/t", "T", rows=rows, pairs=[("interpreter", "V8")])
    svg = charts.table_chart(table, charts.NARROW)
    if svg is not None:
        ET.fromstring(svg)


def test_charts_of_nothing() -> None:
    assert charts.table_chart(Table("t/t", "T"), charts.WIDE) is None
    assert charts.table_chart(Table("t/t", "T", rows={"r": {"a": [1.0]}}), charts.WIDE) is None
    assert charts.speed(Run()) is None
    assert charts.switching(Run()) is None


def test_the_overview() -> None:
    svg = charts.speed(a_run(programs()))
    assert svg is not None
    assert "wasmloom, compiler 0.8" in svg
    assert "2 programs" in svg


def project(folder: Path, template: str) -> Path:
    """A project's documentation."""
    docs = folder / "docs"
    (docs / "site").mkdir(parents=True)
    (docs / "site" / "benchmarks.md").write_text(template)
    (folder / "README.md").write_text(f"# It\n\n{pages.BEGIN}\nold\n{pages.END}\n\nMore.\n")
    return docs


def test_documents_are_written(tmp_path: Path) -> None:
    docs = project(tmp_path, "# Benchmarks\n\n<!-- conditions -->\n\n<!-- table tiers/programs -->\n")
    run = a_run(programs())
    written = pages.write(docs, run)
    assert {path.name for path in written} == {"benchmarks.md", "README.md", "benchmarks.json", "speed.svg"}
    text = (docs / "benchmarks.md").read_text()
    assert "|sort <a & b>|5.0 ms ±2.0 %|1.50 ms" in text
    assert "processor <a> & b" in text
    front = (tmp_path / "README.md").read_text()
    assert "old" not in front
    assert front.endswith("More.\n")
    assert "|2 programs, time relative to Wasmtime's|5.0 at once, 1.5 soon, 0.80 at last|1|8.0|" in front
    assert Run.load(docs / "site" / "benchmarks.json") == run
    pages.write(docs, run)
    assert (tmp_path / "README.md").read_text() == front


def test_what_a_template_lacks(tmp_path: Path) -> None:
    docs = project(tmp_path, "<!-- table no/such -->")
    with pytest.raises(pages.PageError, match="the run has no table no/such"):
        pages.write(docs, a_run(programs()))
    with pytest.raises(pages.PageError, match="the run has no table tiers/typo"):
        pages.document("<!-- table tiers/typo -->", a_run(programs()))
    assert "`wasmloom bench memory`" in pages.document("<!-- table memory/bytes -->", a_run(programs()))
    with pytest.raises(pages.PageError, match="the README has no"):
        pages.put_figures("# It", Run())


def test_the_projects_pages_are_those_of_the_saved_run() -> None:
    """Figures in tables are never typed: `wasmloom bench --load docs/site/benchmarks.json --docs docs`."""
    run = Run.load(DOCS / pages.SAVED)
    assert not run.wrong()
    template = (DOCS / pages.TEMPLATE).read_text(encoding="utf-8")
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8") == pages.document(template, run)
    front = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert front == pages.put_figures(front, run)
    for name, chart in (("speed", charts.speed(run)), ("switching", charts.switching(run))):
        assert chart is not None
        kept = (DOCS / f"{name}.svg").read_text(encoding="utf-8")
        titles = [re.search(r"<title>(.*?)</title>", text) for text in (kept, chart)]
        assert titles[0] is not None
        assert titles[1] is not None
        assert titles[0][1] == titles[1][1]


def test_the_template_has_every_table() -> None:
    template = (DOCS / pages.TEMPLATE).read_text(encoding="utf-8")
    wanted = set(re.findall(r"<!-- table ([^ ]+) -->", template))
    run = Run.load(DOCS / pages.SAVED)
    there = {table.name for _, table in run.tables()}
    assert there - wanted == {"real/commands-processor"}
    assert {name.partition("/")[0] for name in wanted} == set(SUITES)
