"""Compile the C programs of this folder to WebAssembly (WASI preview 1), or natively to compare.

    python examples/build.py [--native] [--output FOLDER] [NAME...]

WebAssembly needs the package `ziglang` (``pip install ziglang``), which brings a C compiler and a C library for WASI;
native programs need the system's C compiler (``cc``, or what the environment variable CC names).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: The programs of this folder.
PROGRAMS: tuple[str, ...] = tuple(sorted(path.stem for path in HERE.glob("*.c")))

#: Without fused multiply-add, floating-point output is the same everywhere.
FLAGS = ("-O2", "-std=gnu11", "-ffp-contract=off", "-Wall", "-Wextra")


class BuildError(Exception):
    """A program could not be compiled."""


def _compile(command: list[str], source: Path, output: Path, libraries: tuple[str, ...] = ()) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    # Compiled beside its place and moved there: another process never sees half a program.
    partial = output.with_name(f"{output.name}.{os.getpid()}")
    done = subprocess.run(
        [*command, *FLAGS, str(source), "-o", str(partial), *libraries], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{shlex.join(command)}: {source.name}: exit status {done.returncode}\n{done.stderr}")
    partial.replace(output)
    return output


def build_wasm(name: str, folder: Path) -> Path:
    """Compile the program `name` to `folder`/`name`.wasm. Raises `BuildError`."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("the package 'ziglang' is not installed")
    command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi"]
    return _compile(command, HERE / f"{name}.c", folder / f"{name}.wasm")


def build_native(name: str, folder: Path) -> Path:
    """Compile the program `name` for this machine to `folder`/`name`. Raises `BuildError`."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise BuildError(f"there is no C compiler '{compiler[0]}'")
    return _compile(compiler, HERE / f"{name}.c", folder / name, ("-lm",))


def main() -> int:
    """Compile what the command line asks for."""
    parser = argparse.ArgumentParser(description="Compile the example programs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"programs (default: {' '.join(PROGRAMS)})")
    parser.add_argument("--native", action="store_true", help="compile for this machine instead of WebAssembly")
    parser.add_argument("--output", type=Path, default=HERE / "build", help="folder for the results")
    options = parser.parse_args()
    unknown = set(options.names) - set(PROGRAMS)
    if unknown:
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    try:
        for name in options.names or PROGRAMS:
            print((build_native if options.native else build_wasm)(name, options.output))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
