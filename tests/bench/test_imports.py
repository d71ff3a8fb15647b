"""The package of benchmarks: its files import each other in one direction, and the engine doesn't import it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import wasmloom_bench
from tests.test_floors import imports_of_source

FOLDER = Path(wasmloom_bench.__file__).parent


def imported(path: Path) -> set[str]:
    """All modules that a file imports, as dotted names that may end in a name of the module."""
    text = path.read_text(encoding="utf-8")
    return {f"{module}.{name}" if name else module for module, name in imports_of_source(text)}


def test_no_circles() -> None:
    modules = {
        ".".join((FOLDER.name, *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in FOLDER.rglob("*.py")
    }
    graph = {}
    for module, path in modules.items():
        ast.parse(path.read_text(encoding="utf-8"))
        found = imported(path)
        graph[module] = {
            other for other in modules if other != module and ({other} & found or any(
                each.rpartition(".")[0] == other and each not in modules for each in found
            ))
        }  # fmt: skip
    TopologicalSorter(graph).prepare()
    assert "wasmloom_bench.suites" in graph["wasmloom_bench.running"]


def test_the_engine_does_not_import_it() -> None:
    engine = FOLDER.parent / "wasmloom"
    users = {
        path.relative_to(engine).as_posix()
        for path in engine.rglob("*.py")
        if any(each.split(".")[0] == FOLDER.name for each in imported(path))
    }
    assert users <= {"cli/bench.py"}
