"""Does the interpreter's speed depend on how it was built?

Builds the package several times into temporary folders, with the handlers at LLVM's O1, O2 and O3 and the C compiler at
-O0 and -O2, and runs programs with each, in turns. The question is that of
https://github.com/wasmi-labs/wasmi/issues/339, where the answer was a factor of 4.2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from wasmloom_bench import conditions, harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.remote import Isolated
from wasmloom_bench.results import Missing


def _run(command: list[str], what: str, **options: Any) -> None:
    """Run a command. Raises `harness.Unsupported` if that fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise harness.Unsupported(f"{what} failed: {lines[-1]}")


def make_tools(tree: Path, folder: Path) -> str:
    """A Python in a new environment in `folder`, with what building needs: an installed package hasn't got that.

    Raises `harness.Unsupported`.
    """
    needed = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]["requires"]
    python = str(folder / "bin" / "python")
    _run([sys.executable, "-m", "venv", str(folder)], "making an environment to build in")
    _run([python, "-m", "pip", "install", "-q", *needed], "installing what building needs")
    return python


def build(python: str, tree: Path, folder: Path, llvm: str, c: str, only: str = "") -> None:
    """Build the package from the sources in `tree` into `folder`/lib, or only the modules that `only` names.

    Raises `harness.Unsupported`.
    """
    environment = os.environ | {"WASMLOOM_OPT": llvm, "WASMLOOM_CFLAGS": c, "WASMLOOM_ONLY": only}
    command = [python, "setup.py", "-q", "build", "--build-base", str(folder), "--build-lib", f"{folder}/lib"]
    _run(command, f"the build with {llvm} {c}", cwd=tree, env=environment)


def build_all(root: Path, place: Path, context: Context) -> dict[str, Path]:
    """Build every profile below `place`: its name → its folder."""
    tree = place / "tree"
    ignored = shutil.ignore_patterns("*.so", "*.o", "*.egg-info", "__pycache__")
    shutil.copytree(root / "src", tree / "src", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tree)
    context.tell("profiles: installing what building needs")
    python = make_tools(tree, place / "tools")
    profiles = {}
    for c in ("-O0", "-O2"):
        for llvm in ("O1", "O2", "O3"):
            context.tell(f"profiles: building with {llvm} {c}")
            folder = profiles[f"{llvm}, C {c}"] = place / f"{llvm}{c}"
            if llvm == "O1":
                build(python, tree, folder, llvm, c)
            else:  # LLVM's level concerns one module only
                shutil.copytree(place / f"O1{c}", folder)
                build(python, tree, folder, llvm, c, only="wasmloom.interpreter.machine")
    return profiles


def measure(context: Context) -> None:
    """Measure everything."""
    table = context.table("interpreter", "The interpreter by build profile")
    if context.quick:
        table.missing.append(Missing("all", "left out in a quick run: it builds the package six times"))
        return
    root = conditions.checkout()
    if root is None:
        table.missing.append(Missing("all", "needs the sources: run it in a checkout"))
        return
    with tempfile.TemporaryDirectory() as place:
        budget = context.left
        profiles = build_all(root, Path(place), context)
        context.keep(budget / 3)
        reference = "O3, C -O2"
        table.pairs = [(name, reference) for name in profiles if name != reference]
        engines: list[Any] = []
        for name, folder in profiles.items():
            made = context.made(
                name,
                lambda name=name, folder=folder: Isolated(  # type: ignore[misc]
                    "Wasmloom", name, path=str(folder / "lib"), name=name, tier="interpreter"
                ),
            )
            engines += [] if made is None else [made]
        found, _ = workloads.public(context.options.programs)
        public = [each for each in found if each.name in workloads.QUICK]
        programs: list[workloads.Workload] = [*workloads.WASMI[:5], *workloads.pointers(), *public]
        for workload in context.each(table, programs):
            context.measure_programs(table, engines, workload)
    table.notes.append("In wasmi's issue the factor between profiles was 4.2.")
