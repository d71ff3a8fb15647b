"""The public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wasmloom as wl


def test_every_public_name_loads() -> None:
    for name in wl.__all__:
        assert getattr(wl, name) is not None
    assert set(wl.__all__) <= set(dir(wl))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        wl.nothing  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(wl.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    lines = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(node.module, alias.name) for node in lines for alias in node.names}
    assert seen == {(f"wasmloom.{home}", name) for home, names in wl._HOMES.items() for name in names.split()}


def test_importing_loads_little() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "import wasmloom as wl; wl.Instance, wl.Module, wl.Store, wl.Func\n"
        "heavy = 'llvmlite argparse asyncio ctypes inspect subprocess wasmloom.text wasmloom.wasi wasmloom.cli'\n"
        "print(*[m for m in heavy.split() if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr
