"""Build: Cython modules (pure-Python mode), the struct layout they share, and the generated handlers object.

A module is compiled when its first line is a ``# cython:`` directive. The layout header and the handlers are generated
from the sources in `src`, so the build needs llvmlite; importing the installed package does not.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SRC = ROOT / "src"
sys.path.insert(0, str(SRC))

#: The module that links the handlers object.
MACHINE = "wasmloom.interpreter.machine"


def compiled_modules() -> list[Path]:
    """Every source file that asks to be compiled."""
    found = []
    for path in sorted((SRC / "wasmloom").rglob("*.py")):
        with path.open(encoding="utf-8") as source:
            if source.readline().startswith("# cython:"):
                found.append(path)
    return found


def write_if_changed(path: Path, text: str) -> None:
    """Write `text`, keeping the time stamp when nothing changed so that nothing is rebuilt."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def generate_layout() -> None:
    """Write `_layout.h` and `_layout.pxd`."""
    from wasmloom.runtime import layout

    folder = SRC / "wasmloom" / "runtime"
    write_if_changed(folder / "_layout.h", layout.c_header())
    write_if_changed(folder / "_layout.pxd", layout.pxd())


class BuildExt(build_ext):
    """`build_ext` that first generates the handlers object."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; the machine module also links the generated handlers."""
        if ext.name == MACHINE:
            from wasmloom.interpreter import handlers

            target = Path(self.build_temp) / "handlers.o"
            target.parent.mkdir(parents=True, exist_ok=True)
            handlers.build_object(target)
            ext.extra_objects = [str(target)]
            ext.depends = [*ext.depends, str(target)]
        super().build_extension(ext)


def extensions() -> list[Extension]:
    """The extension modules, translated by Cython."""
    generate_layout()
    from Cython.Build import cythonize

    only = os.environ.get("WASMLOOM_ONLY")  # for development: build modules whose dotted name contains this
    exts = []
    for path in compiled_modules():
        name = ".".join(path.relative_to(SRC).with_suffix("").parts)
        if only and not any(part in name for part in only.split(",")):
            continue
        exts.append(
            Extension(
                name,
                [str(path.relative_to(ROOT))],
                include_dirs=["src/wasmloom/runtime"],
                extra_compile_args=["-O2", "-fno-strict-aliasing", "-Wno-unused-function"],
            )
        )
    return cythonize(exts, include_path=["src"], compiler_directives={"language_level": 3}) if exts else []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
