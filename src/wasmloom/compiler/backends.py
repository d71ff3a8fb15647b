"""The LLVM that compiles: llvmlite's, or that of ``karellen-llvm-core``, where it is installed.

llvmlite's library is built with LLVM's assertions, which take up to half of the time. ``karellen-llvm-core`` is a
release build with LLVM's C interface (the extra ``fast-compiler``). Both get the same IR, so which of them is there
shows in the time that compiling takes, and in the key of what is compiled in the disk cache.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from wasmloom.system import log
from wasmloom.system.locks import Lock

#: The major versions of the release build that the tests have run with: LLVM's text changes from version to version,
#: and what it does to accesses that trap isn't promised (see docs/compiler.md).
TESTED = (23,)

_LIBRARY = re.compile(r"(?:^|/)libLLVM\.so\.([0-9]+)[.0-9]*$")


class Backend(Protocol):
    """An LLVM. Any thread may call it, any number at a time."""

    def features(self) -> Mapping[str, bool]:
        """The features that LLVM knows for this processor's kind, and whether this one has them."""

    def compile(self, text: str, passes: Sequence[str] | None, level: int, assembly: bool = False) -> bytes:
        """The object file of LLVM IR, or its assembly for people.

        `passes`: those to run, in order, by their names in LLVM's pipelines; None: all of the optimisation level 2.
        `level` is the back end's. Raises `CompileError` for IR that LLVM refuses.
        """


_loading = Lock()


def chosen() -> Backend:
    """The LLVM of this process, which is loaded. Raises `ImportError` if there is none."""
    with _loading:  # options are the whole process's, and may be set once
        return _load()


@cache
def _load() -> Backend:
    library = fast_library()
    if library is not None:
        try:
            from wasmloom.compiler.release_llvm import ReleaseLLVM

            return ReleaseLLVM(library)
        except (OSError, AttributeError) as error:  # it can't be loaded, or isn't what its name says
            if log.TIERS:
                log.tell(f"compiling with llvmlite: {error}")
    from wasmloom.compiler.llvmlite_backend import Llvmlite

    return Llvmlite()


@cache
def fast_library() -> Path | None:
    """The library of the release build, if one is installed that has been tested. Looked up once, without loading it.

    Installers note where they have put each file of a package, in ``RECORD``.
    """
    for entry in sys.path:
        for record in Path(entry).glob("karellen_llvm_core-*.dist-info/RECORD"):
            try:
                names = [line.partition(",")[0] for line in record.read_text(encoding="utf-8").splitlines()]
            except OSError:
                continue
            for name in names:
                found = _LIBRARY.search(name)
                if found and int(found[1]) in TESTED and (Path(entry) / name).is_file():
                    return (Path(entry) / name).resolve()
    return None


@cache
def has_llvmlite() -> bool:
    """Whether llvmlite is installed. Looked up once, without loading it."""
    return importlib.util.find_spec("llvmlite") is not None


def llvm_identity() -> str:
    """The LLVM that compiles, without loading it: version and size of its library; empty: there is none."""
    library = fast_library()
    if library is not None:
        return f"{library.name} {library.stat().st_size}"
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return ""
    package = Path(spec.origin).parent
    versions = sorted(path.name for path in package.parent.glob("llvmlite-*.dist-info"))
    sizes = sorted(f"{path.name} {path.stat().st_size}" for path in (package / "binding").glob("libllvmlite*"))
    return " ".join(versions + sizes)
