"""Stack switching: what a switch costs, what native switches gain, asyncify, short lives, and many stacks.

The programs are those of ``programs/stacks``; what each does and answers is written there. Variants:

* text: written in the text format with `resume` and `suspend`; `switch`: with `switch` instead;
* fiber: C over a small fiber library, whose core is stack switching;
* asyncify: the same C, where Binaryen's asyncify makes functions that save and restore their frames.

V8 needs a Node.js with ``--experimental-wasm-wasmfx`` (26 has it). Wasmtime's package has a setting for stack
switching, and its process aborts when a program uses it: it runs apart, and the report says so.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wasmloom_bench import contenders, harness, remote, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.programs.stacks import answers, build
from wasmloom_bench.results import Missing, Table

#: Variant → what its module's name ends in.
VARIANTS = {"text": "", "switch": "_switch", "fiber": "_fiber", "asyncify": "_asyncify"}

TIERS = ("interpreter", "baseline", "compiler", "auto")


def measure(context: Context) -> None:
    """Measure everything."""
    engines = context.engines(*TIERS)
    if not context.options.commits and context.wants("V8"):
        settings = context.options.settings
        v8 = context.made("V8", lambda: remote.V8(settings.node_command(), [remote.STACK_SWITCHING], settings.warm_up))
        engines += [] if v8 is None else [v8]
    _pairs(context, engines)
    _short(context, engines)
    with tempfile.TemporaryDirectory() as place:
        modules, missing = built(context, Path(place))
        if not context.options.commits:
            _pull_request(context, engines, modules, missing)
        _programs(context, engines, modules, missing)
    _many(context, engines)


@dataclass(frozen=True)
class Program:
    """A function of a module that answers as the program `known` does for this size."""

    name: str
    wasm: bytes
    known: str
    size: int
    function: str = "run"

    def prepare(self, engine: Any) -> workloads.Prepared:
        run = harness.prepared(engine.instantiate(self.wasm).function(self.function), self.size)
        harness.first_call(engine, run)
        harness.check(engine.name, self.name, run(), answers.expected(self.known, self.size), 64)
        return run, lambda: None


# --- what a switch costs ----------------------------------------------------------------------------------------------


def _pairs(context: Context, engines: Sequence[Any]) -> None:
    table = context.table(
        "pairs", "A pair of switches, there and back", [("compiler", "V8"), ("interpreter", "V8")],
        per="pair of switches",
    )  # fmt: skip
    size = 20_000 if context.quick else 1_000_000
    programs = [
        Program(name, build.assemble(name), name, size) for name in ("suspend_resume", "two_resumes", "switch_pairs")
    ]
    for program in context.each(table, programs, 0.12):
        context.measure_programs(table, engines, program, divided=size)
    context.notes(table, engines)


#: What is measured of short lives → the program's function.
FUNCTIONS = {"create": "run", "create and suspend": "suspended", "call_ref instead": "called"}


def _short(context: Context, engines: Sequence[Any]) -> None:
    table = context.table(
        "short", "Continuations that live shortly", [("compiler", "V8"), ("interpreter", "V8")], per="continuation"
    )
    size = 10_000 if context.quick else 500_000
    programs = [
        Program(name, build.assemble("create"), "create", size, function) for name, function in FUNCTIONS.items()
    ]
    for program in context.each(table, programs, 0.12):
        context.measure_programs(table, engines, program, divided=size)
    table.notes.append(
        "One after the other, so that each finds what the one before has given back. create: cont.new, resume, and it"
        " returns; create and suspend: it suspends once before that."
    )


# --- the pull request's table -----------------------------------------------------------------------------------------

#: Time with native switches over that with calls, in https://github.com/wasmfx/wasmfxtime/pull/225.
SEED = {
    "c10m_asyncify": 1.0000,
    "c10m_wasmfx": 0.6701,
    "sieve_asyncify": 1.0099,
    "sieve_wasmfx": 0.3834,
    "skynet_asyncify": 1.0122,
    "skynet_wasmfx": 0.5818,
    "state_asyncify": 0.9943,
    "state_wasmfx": 0.2236,
    "micro/suspend_resume": 0.1674,
    "micro/2resumes_same_function": 0.2102,
}

#: Our variants, under the names of that table.
NAMES = {"asyncify": "asyncify", "text": "wasmfx", "fiber": "fiber"}

#: Program of ours → its name in the table.
MICRO = {"suspend_resume": "micro/suspend_resume", "two_resumes": "micro/2resumes_same_function"}

#: Sizes for compiled code, spent on what the pull request's programs spend theirs on.
SIZES = {
    "c10m": 1_000_000, "sieve": 3_000, "skynet": 6, "state": 1_000_000, "suspend_resume": 2_000_000,
    "two_resumes": 2_000_000,
}  # fmt: skip


def sized(context: Context, name: str, sizes: Mapping[str, int] = answers.SIZES) -> int:
    """How large to run a program."""
    return min(answers.SMALL[name][-1], sizes[name]) if context.quick else sizes[name]


def built(context: Context, folder: Path) -> tuple[dict[str, dict[str, bytes]], list[Missing]]:
    """Program → variant → module, of all that could be built, and what couldn't be."""
    own = context.options.settings.folder / "node_modules" / ".bin" / "wasm-opt"
    wanted = [name for name in answers.ANSWERS if not name.endswith("_switch") and context.chosen(name)]
    if context.quick:
        wanted = [name for name in wanted if name in ("state", "itersum", "generators", *MICRO)]
    reasons = build.build_all(folder, wanted, install=False, wasm_opt=str(own) if own.exists() else None)
    missing = [Missing("the build", reason, "variants in C") for reason in reasons]
    found: dict[str, dict[str, bytes]] = {}
    for name in wanted:
        files = {variant: folder / f"{name}{suffix}.wasm" for variant, suffix in VARIANTS.items()}
        found[name] = {variant: path.read_bytes() for variant, path in files.items() if path.exists()}
    return found, missing


@dataclass(frozen=True)
class Original:
    """A program of https://github.com/wasmfx/benchfx: a WASI program, which checks its own answer, or ``run``."""

    name: str
    path: Path

    def prepare(self, engine: Any) -> workloads.Prepared:
        if self.path.suffix == ".wat":
            wasm = harness.assemble(self.path.read_text())
            run: Callable[[], object] = harness.prepared(engine.instantiate(wasm).function("run"))
        else:
            run = engine.program(self.path.read_bytes())
        harness.first_call(engine, run)
        return run, lambda: None


def originals(folders: Sequence[Path]) -> list[Original]:
    """The pull request's programs that are somewhere in these folders."""
    found = []
    for name in SEED:
        pattern = f"{name}/bench.wat" if "/" in name else f"{name}.wasm"
        path = next((path for folder in folders for path in sorted(folder.rglob(pattern))), None)
        if path is not None:
            found.append(Original(f"benchfx {name}", path))
    return found


def _pull_request(
    context: Context, engines: Sequence[Any], modules: Mapping[str, Mapping[str, bytes]], missing: Sequence[Missing]
) -> None:
    pair = ("compiler, native", "compiler, by calls")
    table = context.table("native", "Switches by instructions instead of by calls", [pair, (pair[0], "V8")])
    table.missing += missing
    ways: list[Any] = []
    if context.wants("compiler"):
        for name, way in zip(pair, ("native", "libcall"), strict=True):
            make = functools.partial(contenders.Wasmloom, name, tier="compiler", stack_switching=way)
            engine = context.made(name, make)
            ways += [] if engine is None else [engine]
    ways += [engine for engine in engines if engine.name == "V8"]
    if context.wants("Wasmtime"):
        apart = context.made("Wasmtime", lambda: remote.Isolated("Wasmtime", stack_switching=True))
        ways += [] if apart is None else [apart]
    programs: list[Program | Original] = []
    for name in SIZES:
        for variant, wasm in modules.get(name, {}).items():
            if variant in NAMES:
                title = MICRO.get(name) or f"{name}_{NAMES[variant]}"
                programs.append(Program(title, wasm, name, sized(context, name, SIZES)))
    programs += originals(context.options.programs)
    known = table.columns.setdefault("pull request", {})
    for program in context.each(table, programs, 0.4):
        context.measure_programs(table, ways, program)
        seed = SEED.get(program.name.removeprefix("benchfx "))
        if seed is not None:
            known[program.name] = f"{seed:.3f}"
    table.notes.append(
        "Beside it the ratio of the pull request (wasmfx/wasmfxtime 225) that did the same in Wasmtime. Programs with"
        " asyncify don't switch stacks: they are the control. wasmfx is written in the text format, fiber in C over a"
        " small library, whose core is stack switching."
    )


# --- programs ---------------------------------------------------------------------------------------------------------


def _programs(
    context: Context, engines: Sequence[Any], modules: Mapping[str, Mapping[str, bytes]], missing: Sequence[Missing]
) -> None:
    chosen = [engine for engine in engines if engine.name.split(",")[0] in ("interpreter", "compiler", "V8")]
    names = [engine.name for engine in chosen]
    title = "The same programs with stack switching and with asyncify"
    table = context.table("asyncify", title, [(f"{name} fiber", f"{name} asyncify") for name in names])
    text = context.table("text", "Programs in the text format", [("compiler", "V8"), ("interpreter", "V8")])
    table.missing += missing
    for name in context.each(table, [name for name in modules if "asyncify" in modules[name]], 0.6):
        _variants(context, table, chosen, name, {v: modules[name][v] for v in ("fiber", "asyncify")})
    for name in context.each(text, [name for name in modules if "text" in modules[name]], 0.6):
        context.measure_programs(text, chosen, Program(name, modules[name]["text"], name, sized(context, name)))
    table.notes.append(
        "The ratio depends on how many switches a program makes for its work: pi computes most of the time; c10m and pi"
        " have parameters that make the switches visible. Where very many stacks take turns (sieve, skynet, c10m),"
        " compiled code pays for a page that each stack has of its own."
    )


class _Variant:
    """A contender for one variant of a program."""

    def __init__(self, engine: Any, variant: str) -> None:
        self.engine, self.variant = engine, variant
        self.name = f"{engine.name} {variant}"
        self.trap, self.warm_up = engine.trap, engine.warm_up / 2


@dataclass(frozen=True)
class _Variants:
    name: str
    size: int
    modules: Mapping[str, bytes]

    def prepare(self, engine: _Variant) -> workloads.Prepared:
        return Program(self.name, self.modules[engine.variant], self.name, self.size).prepare(engine.engine)


def _variants(context: Context, table: Table, engines: Sequence[Any], name: str, modules: Mapping[str, bytes]) -> None:
    each = [_Variant(engine, variant) for engine in engines for variant in modules]
    context.measure_programs(table, each, _Variants(name, sized(context, name), modules))


# --- many stacks ------------------------------------------------------------------------------------------------------

#: Pairs of switches of one call, at least.
PAIRS = 200_000


@dataclass(frozen=True)
class _Walk:
    """So many stacks in random order, where the next one is known only once the one before has run."""

    number: int
    pairs: int

    @property
    def name(self) -> str:
        return f"{self.number:,} stacks"

    def prepare(self, engine: Any) -> workloads.Prepared:
        guest = engine.instantiate(build.assemble("walk"))
        total = answers.below(self.number)
        harness.check(engine.name, "fill", guest.function("fill")(self.number), total, 64)
        run = harness.prepared(guest.function("walk"), self.pairs)
        harness.check(engine.name, "walk", run(), total * (self.pairs // self.number), 64)
        return run, lambda: None


def _many(context: Context, engines: Sequence[Any]) -> None:
    table = context.table(
        "many", "Many stacks in random order",
        [("baseline", "interpreter"), ("auto", "interpreter"), ("compiler", "interpreter")], per="pair of switches",
    )  # fmt: skip
    numbers = (10, 1000) if context.quick else (10, 1000, 10_000, 100_000)
    walks = [_Walk(number, number * -(-(2000 if context.quick else PAIRS) // number)) for number in numbers]
    ours = [engine for engine in engines if engine.name != "V8"]
    for walk in context.each(table, walks):
        context.measure_programs(table, ours, walk, divided=walk.pairs)
    context.notes(table, ours)
