"""Two commits of the project, built apart, for a run in which they take turns.

Each is put into a worktree of its own and installed into a virtual environment of its own. The suites are those of this
commit: an older engine gets them by a path (`remote.Isolated`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class CannotBuild(Exception):
    """A commit can't be built; the message says which and why."""


def _done(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"{what}: {command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise CannotBuild(f"{what}: {lines[-1].strip()}")
    return done.stdout.strip()


def names(checkout: Path, old: str, new: str) -> tuple[str, str]:
    """What tables call the commits; raises `CannotBuild` for one that there isn't."""
    found = []
    for commit in (old, new):
        found.append(
            _done(["git", "-C", str(checkout), "rev-parse", "--verify", "--short", f"{commit}^{{commit}}"], commit)
        )
    return found[0], found[1]


def build(checkout: Path, commit: str, place: Path, tell: Callable[[str], None]) -> str:
    """Build a commit into `place` (a folder that isn't there yet), and return its Python. Raises `CannotBuild`."""
    tell(f"building {commit}")
    tree, environment = place / "tree", place / "venv"
    _done(["git", "clone", "-q", "--no-checkout", "--shared", str(checkout), str(tree)], commit)
    _done(["git", "-C", str(tree), "checkout", "-q", "--detach", commit], commit)
    _done([sys.executable, "-m", "venv", str(environment)], commit)
    python = str(environment / "bin" / "python")
    _done([python, "-m", "pip", "install", "-q", str(tree)], commit)
    shutil.rmtree(tree)
    return python
