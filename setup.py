"""Build: Cython modules (pure-Python mode), the declarations they share, and the generated handlers object.

A module is compiled when its first line is a ``# cython:`` directive. The declarations, the handlers and the stencils
are generated from the sources in `src`, so the build needs llvmlite; importing the installed package does not.

Environment:

* ``WASMLOOM_ONLY``: comma-separated parts of dotted names; only matching modules are built (development).
* ``WASMLOOM_OPT``: LLVM's level for the handlers, ``O1``, ``O2`` (default) or ``O3``.
* ``WASMLOOM_CPU``: the CPU that the handlers are compiled for, as LLVM calls it; by default this machine's.
* ``WASMLOOM_CFLAGS``: more flags for the C compiler, after all others, so that ``-O0`` has the last word.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib import import_module
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SRC = ROOT / "src"
sys.path.insert(0, str(SRC))  # importing `wasmloom` loads nothing that has to be built

#: Modules that link a generated object, and the modules that generate them, those of lower floors first.
GENERATED = {
    "wasmloom.interpreter.machine": "wasmloom.interpreter.handlers",
    "wasmloom.baseline.planner": "wasmloom.baseline.generator",
}

#: Cython's C files go here instead of beside their sources.
C_FILES = "build/cython"


def generate_declarations() -> None:
    """Write what Cython modules see of the struct layout, of the handlers and of the processor.

    What hasn't changed keeps its time stamp, so that nothing is rebuilt.
    """
    from wasmloom import target
    from wasmloom.baseline import holes, roles
    from wasmloom.contract import layout
    from wasmloom.interpreter import handlers

    for name, text in (
        ("contract/_layout.h", layout.c_header()),
        ("contract/_layout.pxd", layout.pxd()),
        ("contract/_handlers.pxd", handlers.enumeration()),
        ("target/_processor.pxd", target.declarations()),
        ("baseline/_holes.pxd", holes.declarations()),
        ("baseline/_roles.pxd", roles.declarations()),
    ):
        path = SRC / "wasmloom" / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            for copy in (ROOT / C_FILES).rglob(path.name):  # Cython's, which C files beside it would include
                copy.unlink()
            forget_users(path.stem)


def forget_users(name: str) -> None:
    """Delete the C files of modules that use the declarations `name`: Cython misses some imports."""
    for path in (SRC / "wasmloom").rglob("*.py"):
        if name in path.read_text(encoding="utf-8"):
            (ROOT / C_FILES / path.relative_to(ROOT)).with_suffix(".c").unlink(missing_ok=True)


def extensions() -> list[Extension]:
    """One extension for every source file that asks to be compiled."""
    only = os.environ.get("WASMLOOM_ONLY", "")
    found = []
    for path in sorted((SRC / "wasmloom").rglob("*.py")):
        with path.open(encoding="utf-8") as source:
            if not source.readline().startswith("# cython:"):
                continue
        name = ".".join(path.relative_to(SRC).with_suffix("").parts)
        if not only or any(part in name for part in only.split(",")):
            found.append(
                Extension(
                    name,
                    [str(path.relative_to(ROOT))],
                    include_dirs=["src/wasmloom/contract"],
                    extra_compile_args=[
                        "-O2",
                        # GCC would write `rep stos` for small structs, which takes longer than the call.
                        "-fno-builtin-memset",
                        "-g0",
                        "-fno-strict-aliasing",
                        "-Wno-unused-function",
                        # An error for GCC from version 14 on, so for all.
                        "-Werror=incompatible-pointer-types",
                        *os.environ.get("WASMLOOM_CFLAGS", "").split(),
                    ],
                )
            )
    return found


def check_exceptions(sources: list[str]) -> None:
    """Refuse functions that would print an exception and go on: it could be Ctrl-C.

    Cython prints what is raised in a function that it was told can't raise. Such functions call those that may raise by
    a pointer to a function that doesn't, and look at the exception themselves (`Unchecked` and its like). Objects that
    go are the exception: nobody is there to take what `__dealloc__` raises.
    """
    for source in sources:
        names = re.findall(r'__Pyx_WriteUnraisable\("([^"]+)"', Path(source).read_text(encoding="utf-8"))
        wrong = [name for name in names if not name.endswith((".__dealloc__", ".__del__"))]
        if wrong:
            raise SystemExit(f"exceptions are lost in {', '.join(wrong)}: may raise, but declared that it doesn't")


#: What Cython gets wrong → what it should have written.
MENDED = {
    # Its helper for list comprehensions gives an object back that it couldn't append, and so does its caller.
    """PyList_Append(list, x);
    Py_DECREF(x);
    return result;""": """PyList_Append(list, x);
    if (likely(result == 0)) { Py_DECREF(x); }
    return result;""",
    # A module belongs to the interpreter that imports it first, and others can't. Here it is the main one's, which has
    # the number 0: functions that ask for the GIL know no other.
    "static PY_INT64_T main_interpreter_id = -1;": "static PY_INT64_T main_interpreter_id = 0;",
    "Interpreter change detected - this module can only be loaded into one interpreter per process.": (
        "wasmloom can only be imported in the main interpreter of a process"
    ),
}


def mend(sources: list[str]) -> None:
    """Correct what Cython gets wrong."""
    for source in sources:
        path = Path(source)
        before = path.read_text(encoding="utf-8")
        text = before
        for wrong, right in MENDED.items():
            text = text.replace(wrong, right)
        if text != before:
            path.write_text(text, encoding="utf-8")


def import_generators() -> dict[str, list[Path]]:
    """Import the generators; gives the files of this package that each of them depends on.

    It is counted what has been imported by then, so the order matters.
    """
    found = {}
    for generator in GENERATED.values():
        import_module(generator)
        modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("wasmloom.")]
        found[generator] = [Path(module.__file__) for module in modules if getattr(module, "__file__", None)]
    return found


def build_object(generator: str, target: Path) -> None:
    """Generate an object into `target`, unless it is there and nothing that it depends on has changed.

    What it depends on is what its generator imports from this package, LLVM's version, and the ``WASMLOOM_`` settings.
    """
    import llvmlite

    key = hashlib.sha256(llvmlite.__version__.encode())
    for name, value in sorted(os.environ.items()):
        if name.startswith("WASMLOOM_") and name not in ("WASMLOOM_ONLY", "WASMLOOM_CFLAGS"):
            key.update(f"{name}={value}".encode())
    for path in DEPENDENCIES[generator]:
        key.update(path.read_bytes())
    stamp = target.with_suffix(".key")
    if target.exists() and stamp.exists() and stamp.read_text() == key.hexdigest():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    sys.modules[generator].build_object(target)
    stamp.write_text(key.hexdigest())


class BuildExt(build_ext):
    """`build_ext` that translates with Cython when it runs, compiles in parallel and links the handlers."""

    def finalize_options(self) -> None:
        """Compile as many modules at a time as there are processors, unless told otherwise."""
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1

    def build_extensions(self) -> None:
        """Translate every module to C, then compile."""
        # Cython's own tracking doesn't see what pure-Python modules cimport. When any declaration differs from the last
        # complete build, structs may have moved: everything is built again.
        key = hashlib.sha256()
        for path in sorted((SRC / "wasmloom").rglob("*.pxd")):
            key.update(path.read_bytes())
        stamp = Path(self.build_temp) / "declarations.key"
        if not stamp.exists() or stamp.read_text() != key.hexdigest():
            self.force = True
        if self.extensions:
            from Cython.Build import cythonize

            translated = cythonize(
                self.extensions,
                include_path=["src"],
                build_dir=C_FILES,
                nthreads=self.parallel,
                force=self.force,
                # Objects with insides in C are copied and pickled by nobody: Python refuses them by itself. Methods are
                # Python's own kind for C, which checks that `self` is one (Cython's kind takes anything for it).
                compiler_directives={
                    "language_level": 3,
                    "auto_pickle": False,
                    "binding": False,
                    "embedsignature": True,
                    "embedsignature.format": "clinic",
                },
            )
            sources = [source for ext in translated for source in ext.sources]
            check_exceptions(sources)
            mend(sources)
            by_name = {ext.name: ext for ext in translated}
            for ext in self.extensions:  # setuptools has put attributes of its own on these objects
                ext.sources = by_name[ext.name].sources
                ext.depends = by_name[ext.name].depends
        super().build_extensions()
        if not os.environ.get("WASMLOOM_ONLY"):
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(key.hexdigest())

    def build_extension(self, ext: Extension) -> None:
        """Build one extension; some also link a generated object."""
        generator = GENERATED.get(ext._full_name)
        if generator is not None:
            target = Path(self.build_temp) / f"{generator.rpartition('.')[2]}.o"
            build_object(generator, target)
            ext.extra_objects = [str(target)]
            ext.depends = [*ext.depends, str(target)]
        super().build_extension(ext)


# Cython's processes import this file again, from Python 3.14 on. (pip runs it as `__main__`, too.)
if __name__ == "__main__":
    os.chdir(ROOT)
    DEPENDENCIES = import_generators()
    generate_declarations()
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExt})
