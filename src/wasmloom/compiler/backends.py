"""The LLVM that compiles: llvmlite's, or that of ``karellen-llvm-core``, where it is installed.

llvmlite's library is built with LLVM's assertions, which take up to half of the time. ``karellen-llvm-core`` is a
release build with LLVM's C interface (the extra ``fast-compiler``). Both get the same IR, so which of them is there
shows in the time that compiling takes, and in the key of what is compiled in the disk cache.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
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
def fast_library() -> str | None:
    """The library of the release build, if one is installed that has been tested. Looked up once, without loading it.

    Installers note where they have put each file of a package, in ``RECORD``.
    """
    for entry in sys.path:
        for package in _named(entry, "karellen_llvm_core-", ".dist-info"):
            try:
                with open(os.path.join(package.path, "RECORD"), encoding="utf-8") as record:
                    names = [line.partition(",")[0] for line in record.read().splitlines()]
            except OSError:
                continue
            for name in names:
                path = os.path.join(entry, name)
                found = _LIBRARY.search(name)
                if found and int(found[1]) in TESTED and os.path.isfile(path):
                    return os.path.realpath(path)
    return None


def _named(folder: str, start: str, end: str = "") -> Iterator[os.DirEntry[str]]:
    """What a folder has by names that start and end so, sorted; nothing where there is no folder."""
    try:
        with os.scandir(folder or ".") as found:
            yield from sorted(
                (entry for entry in found if entry.name.startswith(start) and entry.name.endswith(end)),
                key=lambda entry: entry.name,
            )
    except OSError:
        return


@cache
def has_llvmlite() -> bool:
    """Whether llvmlite is installed. Looked up once, without loading it."""
    return importlib.util.find_spec("llvmlite") is not None


def llvm_identity() -> str:
    """The LLVM that compiles, without loading it: version and size of its library; empty: there is none."""
    library = fast_library()
    if library is not None:
        return f"{os.path.basename(library)} {os.stat(library).st_size}"
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        return ""
    package = os.path.dirname(spec.origin)
    versions = [found.name for found in _named(os.path.dirname(package), "llvmlite-", ".dist-info")]
    libraries = _named(os.path.join(package, "binding"), "libllvmlite")
    return " ".join([*versions, *(f"{found.name} {found.stat().st_size}" for found in libraries)])
