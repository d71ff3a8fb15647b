"""Build the stack-switching programs of this folder.

    python -m wasmloom_bench.programs.stacks.build OUTPUT

* ``NAME.wat`` is assembled to ``NAME.wasm``.
* ``NAME.c`` is compiled (ziglang from PyPI) twice: to ``NAME_fiber.wasm``, with fiber_wasmfx.c and the functions of
  fiber_wasmfx.wat merged in, and to ``NAME_asyncify.wasm``, with fiber_asyncify.c and ``wasm-opt --asyncify``. Both are
  optimised by ``wasm-opt -O2``.

``wasm-opt`` is taken from the environment variable WASM_OPT, from PATH, or from the npm package binaryen, which is
installed into a temporary folder. Without any of them the asyncify variants are left out, the others are not optimised,
and the script says so.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module

HERE = Path(__file__).resolve().parent

#: The programs in C; the other C files are the two fiber libraries.
C_PROGRAMS = sorted(path.stem for path in HERE.glob("*.c") if not path.stem.startswith("fiber_"))

_LIBRARY_TEXT = HERE / "fiber_wasmfx.wat"

#: The programs in text.
TEXT_PROGRAMS = sorted(path.stem for path in HERE.glob("*.wat") if path != _LIBRARY_TEXT)


#: What Binaryen has to know that the modules use.
_FEATURES = ("bulk-memory", "multivalue", "reference-types", "exception-handling", "gc", "stack-switching")


class Unavailable(Exception):
    """A tool that is needed isn't there; the message says which and how to get it."""


def assemble(name: str) -> bytes:
    """The program `name` of the text format, in the binary format."""
    return parse_module((HERE / f"{name}.wat").read_text()).binary


def compile_c(name: str, library: str) -> bytes:
    """The C program `name` with one of the fiber libraries; its imports are still open. Raises `Unavailable`."""
    if not _has_ziglang():
        raise Unavailable("no C compiler for WebAssembly: pip install ziglang")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.wasm"
        command = [
            *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-mcpu=mvp+bulk_memory"),
            *("-std=c17", "-Wall", "-Wextra", "-Werror", "-O2", "-nostdlib", "-Wl,--no-entry", "-fvisibility=hidden"),
            *("-Wl,--strip-all", "-o", str(target), str(HERE / f"{name}.c"), str(HERE / f"{library}.c")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        return target.read_bytes()


@functools.cache
def _has_ziglang() -> bool:
    found = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False)
    return found.returncode == 0


def _forms(text: str) -> Iterator[str]:
    """The forms inside ``(module …)``, without comments; no strings with parentheses or semicolons in them."""
    text = re.sub(r";;[^\n]*", "", text)
    depth = start = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match.group() == "(" else -1
        if depth == 2 and match.group() == "(":
            start = match.start()
        elif depth == 1 and match.group() == ")":
            yield text[start : match.end()]


def merge(c_module: bytes) -> bytes:
    """Put the functions of fiber_wasmfx.wat into the place of the imports of a compiled C program.

    The module is printed as text, each import ``"fiber" "NAME"`` replaced by the function that the library exports as
    NAME, and the library's other definitions are added. No index changes, because an import and a function that
    stand in the same place have the same index.
    """
    functions: dict[str, str] = {}
    others: list[str] = []
    for form in _forms(_LIBRARY_TEXT.read_text()):
        if exported := re.match(r'\(func \(export "(\w+)"\)', form):
            functions[exported[1]] = "(func" + form[exported.end() :]
        elif not form.startswith("(func"):
            others.append(form)
    lines = print_module(c_module).rstrip().splitlines()
    main = next(found[1] for line in lines if (found := re.search(r'\(export "fiber_main" \(func (\S+)\)\)', line)))
    for number, line in enumerate(lines):
        if found := re.search(r'\(import "fiber" "(\w+)"', line):
            lines[number] = functions[found[1]]
    last = lines.pop()
    merged = "\n".join([*lines, *others, last]).replace("$fiber_main", main)
    return parse_module(merged).binary


def _optimise(module: bytes, wasm_opt: str, *passes: str) -> bytes:
    """Run Binaryen's passes, then its optimiser."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.wasm", Path(folder) / "out.wasm"
        source.write_bytes(module)
        features = [f"--enable-{name}" for name in _FEATURES]
        command = [wasm_opt, *features, *passes, "-O2", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        return target.read_bytes()


def build_wasmfx(name: str, wasm_opt: str | None = None) -> bytes:
    """The C program `name` over stack switching; with `wasm_opt` optimised like the other. Raises `Unavailable`."""
    merged = merge(compile_c(name, "fiber_wasmfx"))
    return merged if wasm_opt is None else _optimise(merged, wasm_opt)


def build_asyncify(name: str, wasm_opt: str) -> bytes:
    """The C program `name` over asyncify, with this ``wasm-opt``. Raises `Unavailable`."""
    return _optimise(compile_c(name, "fiber_asyncify"), wasm_opt, "--asyncify")


def find_wasm_opt() -> str | None:
    """``wasm-opt``, from WASM_OPT or PATH."""
    return os.environ.get("WASM_OPT") or shutil.which("wasm-opt")


@contextlib.contextmanager
def wasm_opt_or_npm(install: bool = True, known: str | None = None) -> Iterator[str]:
    """``wasm-opt`` for the context's time: the `known` one or the system's, else npm may `install` it.

    Raises `Unavailable`.
    """
    if found := known or find_wasm_opt():
        yield found
        return
    if not install:
        raise Unavailable("no wasm-opt: set WASM_OPT, install Binaryen, or use --install-peers")
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("no wasm-opt and no npm to install it: set WASM_OPT, or install Binaryen")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", folder, "binaryen"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"npm could not install binaryen: {done.stderr.strip().splitlines()[-1]}")
        yield str(Path(folder) / "node_modules" / ".bin" / "wasm-opt")


def build_all(
    output: Path, only: Collection[str] | None = None, *, install: bool = True, wasm_opt: str | None = None
) -> list[str]:
    """Build every program, or those named in `only`, into `output`; returns what could not be built, and why.

    Without `install` no tool is installed for that. `wasm_opt`: the command to use.
    """
    output.mkdir(parents=True, exist_ok=True)
    for name in TEXT_PROGRAMS:
        if only is None or name.removesuffix("_switch") in only:
            (output / f"{name}.wasm").write_bytes(assemble(name))
    in_c = [name for name in C_PROGRAMS if only is None or name in only]
    missing: list[str] = []
    try:
        for name in in_c:
            (output / f"{name}_fiber.wasm").write_bytes(build_wasmfx(name))
        if not in_c:
            return missing
        with wasm_opt_or_npm(install, wasm_opt) as tool:
            for name in in_c:
                (output / f"{name}_fiber.wasm").write_bytes(build_wasmfx(name, tool))
                (output / f"{name}_asyncify.wasm").write_bytes(build_asyncify(name, tool))
    except Unavailable as error:
        missing.append(str(error))
    return missing


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the .wasm files")
    args = parser.parse_args()
    for reason in build_all(args.output):
        print(f"left out: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
