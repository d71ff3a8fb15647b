"""The documentation: its Python blocks run, its links lead somewhere, and it names every command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.conftest import needs_guard_pages
from wasmloom.cli.app import COMMANDS
from wasmloom_bench.suites import SUITES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/index.md",
        "docs/cookbook.md",
        "docs/migration.md",
        pytest.param("docs/guide.md", marks=needs_guard_pages),
    ],
)
def test_python_blocks_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)", prose):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_guide_names_every_command() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"`wasmloom {command} " in guide


def test_pages_name_suites_that_there_are() -> None:
    """Each `wasmloom bench SUITE` of a page."""
    named = {name for page in PAGES for name in re.findall(r"`wasmloom bench ([a-z]+)", page.read_text("utf-8"))}
    assert named
    assert named <= set(SUITES)


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in wl.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_the_map_has_every_file() -> None:
    """Each row of the map names files of one folder: the first with the folder, the others without."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "wasmloom"
    named = set()
    for row in re.findall(r"^\|.*\| (.*) \|$", text, re.M):
        folder = source
        for name in re.findall(r"`([a-z0-9_/]+\.py)`", row):
            path = source / name if "/" in name else folder / name
            named.add(path.relative_to(source).as_posix())
            folder = path.parent
    files = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if not path.name.startswith("__")}
    minor = {"cli/common.py", "cli/values.py"}
    assert named <= files, f"don't exist: {sorted(named - files)}"
    assert files - minor <= named, f"missing in the map: {sorted(files - minor - named)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    """As in code. A generated table is as wide as its rows."""
    lines = page.read_text(encoding="utf-8").splitlines()
    generated = page.name in ("instructions.md", "benchmarks.md")
    assert generated or not [line for line in lines if len(line) > 120]
