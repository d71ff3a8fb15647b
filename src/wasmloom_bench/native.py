"""The same work without WebAssembly, for scale: C as machine code, and plain Python."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wasmloom_bench.harness import Guest, Unsupported
from wasmloom_bench.remote import signatures

#: How values are passed. Addresses have 64 bits here and 32 in the guest, so whole numbers are passed as 64 bits: what
#: takes 32 looks at the lower half.
_KINDS: dict[str, type[Any]] = {
    "i32": ctypes.c_uint64,
    "i64": ctypes.c_uint64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


class _Library:
    """A shared library as a guest; addresses are the process's own."""

    def __init__(self, library: ctypes.CDLL, known: Mapping[str, tuple[list[str], list[str]]]) -> None:
        self._library = library
        self._known = known

    def function(self, name: str) -> Callable[..., Any]:
        function = self._library[name]
        params, results = self._known[name]
        function.argtypes = [_KINDS[kind] for kind in params]
        function.restype = _KINDS[results[0]] if results else None
        return function

    def write(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)


class Native:
    """C, compiled with ``zig cc -O2`` for this processor."""

    name = "C"
    trap: type[BaseException] = RuntimeError
    warm_up = 0.0

    def __init__(self) -> None:
        command = [sys.executable, "-m", "ziglang", "version"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unsupported("no C compiler: pip install ziglang")
        self.version = f"zig cc {done.stdout.strip()}, -O2, {platform.machine()}"
        self._built: dict[tuple[Path, ...], ctypes.CDLL] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._end = weakref.finalize(self, self._folder.cleanup)

    def load(self, sources: Sequence[Path], wasm: bytes) -> Guest:
        """What the same sources are as a library; `wasm` says which types its functions have.

        Raises `Unsupported` when they don't compile.
        """
        key = tuple(sources)
        if key not in self._built:
            output = Path(self._folder.name) / f"lib{len(self._built)}.so"
            command = [
                *(sys.executable, "-m", "ziglang", "cc", "-O2", "-march=native", "-shared", "-fPIC"),
                *("-fno-sanitize=all", "-fvisibility=hidden", "-o", str(output)),
                # What the C library has needn't be there twice.
                *(str(source) for source in sources if source.name != "memory.c"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Unsupported(f"doesn't compile: {done.stderr.strip().splitlines()[-1]}")
            self._built[key] = ctypes.CDLL(str(output))
        return _Library(self._built[key], signatures(wasm))


class _Module:
    """Functions of Python as a guest."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions

    def function(self, name: str) -> Callable[..., Any]:
        return self._functions[name]

    def write(self, address: int, data: bytes) -> None:
        raise Unsupported("has no memory")

    def read(self, address: int, size: int) -> bytes:
        raise Unsupported("has no memory")


class Python:
    """Plain Python, for programs that say how."""

    name = "Python"
    trap: type[BaseException] = RecursionError
    warm_up = 0.0
    version = platform.python_version()

    def load(self, functions: Mapping[str, Callable[..., Any]]) -> Guest:
        """The functions as a guest."""
        return _Module(functions)
