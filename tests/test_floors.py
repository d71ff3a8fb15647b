"""Imports go down: a file imports from its own folder and from lower floors, and files don't import in circles.

Counted are all imports: of modules at their top and inside of functions, cimports (those of ``.py`` files and of
``.pxd`` files), and those that only type checkers see. What a lower floor needs of a higher one is given to it: see
`wasmloom.runtime.hooks`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "wasmloom"

#: The folders (and the files that lie beside them), the lowest first.
FLOORS = (
    "version",
    "messages",
    "errors",
    "system",
    "contract",
    "target",
    "spec",
    "binary",
    "debuginfo",
    "text",
    "validation",
    "semantics",
    "runtime",
    "interpreter",
    "compiler",
    "baseline",
    "tiers",
    "host",
    "wasi",
    "snapshot",
    "__init__",
    "compat",
    "cli",
    "__main__",
)


def modules(source: Path) -> dict[str, list[Path]]:
    """The modules of the package and their files, ``.py`` and ``.pxd``."""
    found: dict[str, list[Path]] = {}
    for path in sorted((source / PACKAGE).rglob("*.p*")):
        if path.suffix in (".py", ".pxd"):
            parts = path.relative_to(source).with_suffix("").parts
            found.setdefault(".".join(parts[:-1] if parts[-1] == "__init__" else parts), []).append(path)
    return found


def imports_of_source(text: str) -> Iterator[tuple[str, str | None]]:
    """What a ``.py`` file imports: (module, name in it or None)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            for alias in node.names:
                yield (node.module or "").removeprefix("cython.cimports."), alias.name


def imports_of_declarations(text: str) -> Iterator[tuple[str, str | None]]:
    """What a ``.pxd`` file imports."""
    text = re.sub(r"#.*", "", text)
    names = r"(\([^)]*\)|[^\n]*)"
    for module, imported in re.findall(rf"^\s*from\s+([\w.]+)\s+c?import\s+{names}", text, re.MULTILINE):
        for name in imported.strip("()").split(","):
            if name.strip():
                yield module, name.split()[0]
    for imported in re.findall(r"^\s*c?import\s+([^\n]*)", text, re.MULTILINE):
        for name in imported.split(","):
            yield name.split()[0], None


def arrows(source: Path) -> set[tuple[str, str]]:
    """All pairs of a module of the package and another one that it imports."""
    found = set()
    known = modules(source)
    for module, paths in known.items():
        for path in paths:
            read = imports_of_source if path.suffix == ".py" else imports_of_declarations
            for imported, name in read(path.read_text(encoding="utf-8")):
                target = next((each for each in (f"{imported}.{name}", imported) if each in known), None)
                if target is not None and target != module:
                    found.add((module, target))
    return found


def floor(module: str) -> int:
    """The number of a module's floor."""
    parts = module.split(".")
    return FLOORS.index(parts[1] if len(parts) > 1 else "__init__")


def wrong(found: Iterable[tuple[str, str]]) -> list[str]:
    """What is said of imports that go up, and of a circle within a floor."""
    said = []
    graph: dict[str, set[str]] = {}
    for module, target in sorted(found):
        if floor(module) < floor(target):
            said.append(f"{module} imports {target}, from a higher floor")
        else:
            graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        said.append("a circle: " + " is imported by ".join(error.args[1]))
    return said


def test_imports_go_down() -> None:
    """No arrow from a lower floor to a higher one, no circle between files."""
    assert not wrong(arrows(ROOT / "src"))


def test_the_map_shows_the_floors() -> None:
    """The architecture page lists them in this order."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.split("\n## Floors\n")[1].split("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", section, re.MULTILINE)
    assert tuple(reversed(shown)) == FLOORS


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("spec/types.py", "import wasmloom.host.engine", "higher floor"),
        ("spec/types.py", "from wasmloom.host import engine", "higher floor"),
        ("spec/types.py", "def f():\n    from wasmloom.host.engine import Engine", "higher floor"),
        ("spec/types.py", "if TYPE_CHECKING:\n    from wasmloom import Engine", "higher floor"),
        ("spec/types.py", "from cython.cimports.wasmloom.host.engine import f", "higher floor"),
        ("spec/types.pxd", "from wasmloom.host.engine cimport f  # why", "higher floor"),
        ("spec/types.pxd", "from wasmloom.host cimport (\n    other,\n    engine,\n)", "higher floor"),
        ("spec/types.pxd", "cimport cython\ncimport wasmloom.host.engine", "higher floor"),
        ("host/other.py", "from wasmloom.host import engine", "a circle"),
        ("host/other.pxd", "from wasmloom.host.engine cimport f", "a circle"),
        ("host/other.py", "from wasmloom.spec.types import f", None),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, name: str, text: str, says: str | None) -> None:
    """One import, cimport or import in a function is enough."""
    files = {
        "__init__.py": "",
        "spec/types.py": "",
        "host/engine.py": "from wasmloom.host.other import f",
        "host/other.py": "",
        name: text,
    }
    for path, content in files.items():
        (tmp_path / PACKAGE / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / PACKAGE / path).write_text(content, encoding="utf-8")
    said = wrong(arrows(tmp_path))
    assert bool(said) == bool(says)
    assert all(says in each for each in said if says)
