"""The engine's identity: what compiled code depends on besides the module.

An installation can be replaced while a process uses it. Modules that the process has loaded then don't fit those that
it or a worker process loads later, and its code must not go into the cache as that of the new files. So the identity is
noted when the engine is first used, and compared before anything is compiled.
"""

from __future__ import annotations

import os

from wasmloom.compiler.backends import fast_library, has_llvmlite
from wasmloom.errors import CompileError
from wasmloom.target import FOLDER
from wasmloom.version import __version__

_FOLDERS = (
    "binary", "compiler", "contract", "runtime", "semantics", "spec", "system", "target", f"target/{FOLDER}",
    "validation",
)  # fmt: skip


def _now() -> str:
    """The version, and sizes and times of the files that decide what compiled code looks like.

    The version alone would be enough for users, but not while the engine is being developed. Keys are digests of this;
    most processes need none, and hashing begins with loading OpenSSL.
    """
    package = os.path.dirname(os.path.dirname(__file__))
    found = [__version__]
    for folder in _FOLDERS:
        for file in sorted(os.scandir(os.path.join(package, folder)), key=lambda file: file.name):
            if file.is_file():
                status = file.stat()
                found.append(f"{folder}/{file.name} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(found)


#: The identity when this process began to use the engine.
_AT_FIRST = _now()


def has_llvm() -> bool:
    """Whether there is an LLVM to compile with. Looked up once, without loading it."""
    return fast_library() is not None or has_llvmlite()


def require_llvm() -> None:
    """Raise `CompileError` where nothing can be compiled: there is no LLVM, or the engine's files have changed."""
    if not has_llvm():
        raise CompileError(
            "compiling needs llvmlite, which isn't installed (pip install llvmlite); the interpreter and stencils do "
            "without"
        )
    engine_identity()  # workers load the files that are there now


def engine_identity() -> str:
    """The engine's identity. Raises `CompileError` when its files have changed since this process began to use it."""
    if _now() != _AT_FIRST:
        raise CompileError("wasmloom's files have changed since this process loaded them, so it can't compile any more")
    return _AT_FIRST
