"""How fast code is made: megabytes of code section a second, and how large the code is.

Each module is compiled in a process of its own. The baseline tier and V8's Liftoff are compared by the processor time
of one thread (in Node.js of the process, which has one for it); both validate, too. What stencils take alone is the
difference to bytecode. Optimising compilers, which use all processors, are compared by elapsed time, without a cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from wasmloom_bench import harness, remote, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing, Table
from wasmloom_bench.suites.real import PROGRAMS

FLAGS = ("--no-wasm-lazy-compilation", "--single-threaded")
MODULES = ("coremark.wasm", "bz2.wasm", "pulldown-cmark.wasm", "spidermonkey.wasm")
#: What compiling with LLVM would take minutes for.
LARGE = 200_000


def code_size(wasm: bytes) -> int:
    """The size of a module's code section. Raises `harness.Unsupported` when it has none."""
    at = 8
    while at < len(wasm):
        section, at = wasm[at], at + 1
        size = shift = 0
        while True:
            byte, at = wasm[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if section == 10:
            return size
        at += size
    raise harness.Unsupported("no code section")


def made(command: list[str], size: int) -> Callable[[], Mapping[str, float]]:
    """What a driver says, as megabytes of code section a second, and bytes of code for each of these bytes."""

    def run() -> Mapping[str, float]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "Error" in line]
            raise harness.Unsupported(lines[0] if lines else f"status {done.returncode}")
        found = json.loads(done.stdout)
        result = {"speed": size / found["seconds"] / 1e6}
        return result if "bytes" not in found else result | {"size": found["bytes"] / size}

    return run


def _python(kind: str, path: Path, size: int) -> Callable[[], Mapping[str, float]]:
    return made([sys.executable, str(remote.DRIVERS / "making.py"), kind, str(path)], size)


def modules(context: Context, table: Table, folder: Path) -> dict[str, Path]:
    """The modules that are there: public ones, those of packages, and our own C programs."""
    found: dict[str, Path] = {}
    own = folder / "programs in C.wasm"
    try:
        own.write_bytes(workloads.wide())
        found["programs in C"] = own
    except harness.Unsupported as error:
        table.missing.append(Missing("all", str(error), "programs in C"))
    for name in MODULES:
        path = workloads.module(context.options.programs, name)
        if path is None:
            table.missing.append(Missing("all", "not in a folder of --programs", name))
        else:
            found[path.stem] = path
    for program in PROGRAMS:
        for place in context.options.programs:
            path = program.package.folder(place) / program.file
            if path.exists() and path not in found.values():
                found[path.stem] = path
    return found


def measure(context: Context) -> None:
    """Measure everything."""
    one = context.table(
        "baseline", "Code that is made in one pass",
        [("stencils and bytecode", "Liftoff"), ("bytecode", "Liftoff")],
        unit="MB/s", better="more", clock="code section, by processor time of one thread",
    )  # fmt: skip
    size = context.table(
        "size", "Bytes of code for a byte of the code section", unit="ratio", clock="as the engine's limit counts them"
    )
    many = context.table(
        "optimising", "Optimising compilers", [("compiler", "Wasmtime")], unit="MB/s", better="more",
        clock="code section, by elapsed time on all processors",
    )  # fmt: skip
    node = context.made("Liftoff", lambda: remote.node_command(context.options.settings.node_command()))
    with tempfile.TemporaryDirectory() as folder:
        found = modules(context, one, Path(folder))
        for row in context.each(one, list(found), 0.5):
            path = found[row]
            count = code_size(path.read_bytes())
            title = f"{row}, {count / 1e6:.2f} MB"
            samplers = {}
            if context.wants("baseline"):
                samplers["stencils and bytecode"] = _python("baseline", path, count)
            if context.wants("interpreter"):
                samplers["bytecode"] = _python("interpreter", path, count)
            if node is not None and context.wants("Liftoff"):
                driver = str(remote.DRIVERS / "making.mjs")
                liftoff = made([node, "--liftoff-only", *FLAGS, driver, str(path)], count)
                samplers["Liftoff"] = lambda liftoff=liftoff: {"size": 0.0, **liftoff()}  # type: ignore[misc]
            context.measure_marks({"speed": one, "size": size}, title, samplers, 3 if context.quick else 7)
            for cells in (size.rows.get(title, {}), size.again):
                cells.pop("Liftoff", None)
        for row in context.each(many, list(found)):
            path = found[row]
            count = code_size(path.read_bytes())
            if count > LARGE and context.options.only is None:
                many.missing.append(Missing("all", f"more than {LARGE // 1000} kB of code: --only names it", row))
                continue
            samplers = {
                name: _python(kind, path, count)
                for name, kind in (("compiler", "compiler"), ("Wasmtime", "wasmtime"))
                if context.wants(name)
            }
            context.measure_marks({"speed": many}, f"{row}, {count / 1e6:.2f} MB", samplers, 3)
    one.notes.append("Wasmtime's baseline compiler Winch isn't in its package for Python.")
