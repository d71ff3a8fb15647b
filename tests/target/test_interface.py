"""A processor's folder has what the rest of the package asks for, and a page of the documentation says what that is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from wasmloom import target

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "wasmloom"
MODULES = ("backend", "code", "crossings", "inline_assembly", "pieces", "pins", "registers", "relocations", "stubs")


def asked_for() -> set[str]:
    """What is used of the processor's modules from above: "module.name", and names of declarations."""
    found = set()
    for path in SOURCE.rglob("*.p*"):
        if path.suffix == ".pxd" and path.parent != SOURCE / "target":
            assert "target._processor" not in path.read_text(encoding="utf-8"), "add reading of .pxd files here"
        if path.suffix != ".py" or path.is_relative_to(SOURCE / "target" / target.FOLDER):
            continue
        aliases = {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                if node.module == "wasmloom.target":
                    aliases |= {each.asname or each.name: each.name for each in node.names if each.name in MODULES}
                elif node.module == "cython.cimports.wasmloom.target._processor":
                    found |= {each.name for each in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
                found.add(f"{aliases[node.value.id]}.{node.attr}")
    return found


def test_the_folder_has_it() -> None:
    declared = "".join(
        path.read_text(encoding="utf-8") for path in (SOURCE / "target" / target.FOLDER).glob("*.pxd")
    )
    for name in asked_for():
        module, _, attribute = name.rpartition(".")
        if module:
            assert hasattr(getattr(target, module), attribute), name
        else:
            assert re.search(rf"\b{name}\b", declared + target.declarations()), name


def test_the_page_says_so() -> None:
    """Each name begins an item of the page, and none is there that nobody asks for."""
    text = (ROOT / "docs" / "processors.md").read_text(encoding="utf-8")
    items = re.findall(r"^\* (.*?):", text, re.MULTILINE | re.DOTALL)
    named = {name for item in items for name in re.findall(r"`([\w.]+)`", item)}
    generated = {"INTEGER_ARGUMENTS", "FLOAT_ARGUMENTS"}  # those of `registers`
    assert named == asked_for() - generated


def test_another_processor_is_refused_by_name() -> None:
    code = (
        "import os, types; os.uname = lambda: types.SimpleNamespace(machine='riscv64')\n"
        "try: import wasmloom.target\nexcept ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "wasmloom doesn't run on this processor, riscv64: only on x86_64\n"
