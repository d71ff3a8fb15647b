"""Execution time of the programs of two public suites, each run as its own driver runs it.

* https://github.com/wasmi-labs/wasmi-benchmarks: the text modules of ``res/wat``, one exported function ``run``;
* https://github.com/wasmi-labs/rust-benchmarks: ``cases/*/out.wasm``, compiled from Rust: ``setup``, then ``run``.

    python benchmarks/execute.py --suite path/to/wasmi-benchmarks --suite path/to/rust-benchmarks

The environment variable WASMLOOM_SUITES can name the folders instead. Lower is better. wasmloom's interpreter is set in
relation to wasm3, its compiled code to Wasmtime and V8; a mean at the end is over the programs that both of a pair run.

What a call from Python (for V8: from JavaScript) costs by itself is measured with an empty function and subtracted: it
says nothing about execution, and is half of Wasmtime's time in the shortest programs.

V8 and wasmloom's tiers "baseline" and "auto" make code while a program runs, so each runs for ``--warm-up`` seconds
first.
With ``--compiling`` there is a second table: the time that compiling a module takes (elapsed, all threads, nothing
cached), and the size of what that makes where a contender tells.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import contenders
import harness

BITS = {"i": 32, "I": 64, "F": None}


@dataclass(frozen=True)
class Wat:
    """A text module with one function: its argument, and the answer (letter for the type, then value)."""

    name: str
    argument: int
    answer: tuple[str, object]

    def path(self, suite: Path) -> Path:
        """Where the suite keeps it."""
        return suite / "res" / "wat" / f"{self.name}.wat"

    def wasm(self, suite: Path) -> bytes:
        """The module."""
        return harness.assemble(self.path(suite).read_text())

    def prepare(self, engine: harness.Engine, suite: Path) -> tuple[Callable[[], object], Callable[[], None]]:
        """The timed call, and the check to make once after it."""
        run = harness.prepared(engine.instantiate(self.wasm(suite)).function("run"), self.argument)
        kind, expected = self.answer
        return run, lambda: harness.check(engine.name, self.name, run(), expected, BITS[kind])


@dataclass(frozen=True)
class Rust:
    """A compiled Rust program: ``setup(size)`` gives its data, which the other functions take."""

    name: str
    size: int | None
    answers: Sequence[tuple[str, str, object]] = ()  # function, type letter, value
    input: str | None = None  # file in the suite to copy to `input_ptr`; its length is the size
    output: str | None = None  # file that `output_ptr` must equal

    def path(self, suite: Path) -> Path:
        """Where the suite keeps it."""
        return suite / "cases" / self.name / "out.wasm"

    def wasm(self, suite: Path) -> bytes:
        """The module."""
        return self.path(suite).read_bytes()

    def prepare(self, engine: harness.Engine, suite: Path) -> tuple[Callable[[], object], Callable[[], None]]:
        """The timed call, and the check to make once after it."""
        guest = engine.instantiate(self.wasm(suite))
        given = (suite / self.input).read_bytes() if self.input else b""
        size = len(given) if self.input else self.size
        data = guest.function("setup")(*([] if size is None else [size]))
        if self.input:
            guest.write(guest.function("input_ptr")(data), given)
        run = harness.prepared(guest.function("run"), data)

        def verify() -> None:
            for function, kind, expected in self.answers:
                harness.check(engine.name, self.name, guest.function(function)(data), expected, BITS[kind])
            if self.output:
                expected = (suite / self.output).read_bytes()
                got = guest.read(guest.function("output_ptr")(data), len(expected))
                harness.check(engine.name, self.name, got, expected)

        return run, verify


def fibonacci(n: int) -> int:
    """The n-th Fibonacci number modulo 2^64."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, (a + b) & 0xFFFF_FFFF_FFFF_FFFF
    return a


#: The programs with the sizes and answers of the suites' own drivers.
CASES: tuple[Wat | Rust, ...] = (
    Wat("counter-local", 1_000_000, ("i", 0)),
    Wat("counter-param", 1_000_000, ("i", 0)),
    Wat("counter-global", 500_000, ("i", 0)),
    Wat("fibonacci-rec", 30, ("I", fibonacci(30))),
    Wat("fibonacci-iter", 2_000_000, ("I", fibonacci(2_000_000))),
    Wat("fibonacci-tail", 1_000_000, ("I", fibonacci(1_000_000))),
    Wat("bulk-ops", 5_000, ("I", 0)),
    Rust("argon2", 3_000, [("output", "I", 0x76318FB48BBA1258)]),
    Rust("compression", None, [("len_compressed", "I", 97_649)], input="res/alice29.txt"),
    Rust("json-parse", None, [("node_count", "I", 37_778)], input="res/citm_catalog.json"),
    Rust("mandelbrot", 150, [("output", "I", 5_595_328)]),
    Rust("matrix-mul", 400),
    Rust("nbody", 400),
    Rust("prime-sieve", 10_000_000, [("len_primes", "I", 664_579), ("largest_prime", "I", 9_999_991)]),
    Rust("regex-redux", None, [("output", "i", 2)], input="cases/reverse-complement/input.txt"),
    Rust(
        "reverse-complement",
        None,
        input="cases/reverse-complement/input.txt",
        output="cases/reverse-complement/output.txt",
    ),
    Rust("sort", 1_000_000),
    Rust("sort-dyn", 400_000),
    Rust("spectralnorm", 500, [("output", "F", 1.2742241159529095)]),
    Rust("tiny-keccak", None),
    Rust("word-count", None, [("len_unique_words", "I", 2213), ("len_special_chars", "I", 6314)], "res/alice29.txt"),
)


def suites(given: Sequence[Path] | None) -> list[Path]:
    """The folders to look for programs in. Raises `SystemExit` when there are none."""
    found = given or [Path(name) for name in os.environ.get("WASMLOOM_SUITES", "").split(os.pathsep) if name]
    if not found:
        raise SystemExit("name the suites' folders with --suite or WASMLOOM_SUITES")
    return list(found)


def selected(
    folders: Sequence[Path], only: str | None, missing: list[harness.Missing]
) -> list[tuple[Wat | Rust, Path]]:
    """The programs whose names have one of the parts in `only`, each with its suite; what isn't there is `missing`."""
    found = []
    for case in CASES:
        if only and not any(part in case.name for part in only.split(",")):
            continue
        suite = next((folder for folder in folders if case.path(folder).exists()), None)
        if suite is None:
            missing.append(harness.Missing("the suites given", "no such file", case.name))
        else:
            found.append((case, suite))
    return found


def call_costs(engines: Sequence[harness.Engine], args: argparse.Namespace) -> dict[str, float]:
    """Seconds that a call of a function with one argument takes when the function does nothing, by contender."""
    wasm = harness.assemble('(module (func (export "run") (param i32)))')
    runs = {engine.name: harness.prepared(engine.instantiate(wasm).function("run"), 1) for engine in engines}
    for engine in engines:
        harness.warm_up(runs[engine.name], engine.warm_up)
    figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.02)
    return {name: figure.estimate for name, figure in figures.items()}


def measure(
    case: Wat | Rust, suite: Path, engines: Sequence[harness.Engine], args: argparse.Namespace, report: harness.Report
) -> dict[str, harness.Figure]:
    """Seconds per run of one program, by contender; answers checked."""
    runs, checks = {}, {}
    for engine in engines:
        try:
            run, verify = case.prepare(engine, suite)
            harness.first_call(engine, run)
            harness.warm_up(run, engine.warm_up)
        except harness.Unsupported as error:
            report.missing.append(harness.Missing(engine.name, str(error), case.name))
        else:
            runs[engine.name] = run
            checks[engine.name] = verify

    def failed(name: str, error: harness.Unsupported) -> None:
        report.missing.append(harness.Missing(name, str(error), case.name))
        del checks[name]

    figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.05, failed=failed)
    for verify in checks.values():
        verify()
    return figures


def compiling(
    cases: Sequence[tuple[Wat | Rust, Path]], engines: Sequence[harness.Engine], rounds: int
) -> harness.Report:
    """The time that compiling takes, and the size of the code."""
    names = [engine.name for engine in engines]
    sizes = [name for name in names if "compiler" in name or name == "wasmtime"]
    report = harness.Report("Compiling", ["module", "bytes", *names, *(f"code of {name}" for name in sizes)])
    totals: dict[str, list[float]] = {name: [] for name in names}
    for case, suite in cases:
        wasm = case.wasm(suite)
        times: dict[str, list[float]] = {}
        code: dict[str, int] = {}
        for _ in range(rounds):
            for engine in engines:
                try:
                    took, size = contenders.compile_cold(engine, wasm)
                except harness.Unsupported:
                    continue
                times.setdefault(engine.name, []).append(took)
                if size is not None:
                    code[engine.name] = size
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        for name, seconds in medians.items():
            totals[name].append(seconds)
        report.add(
            case.name,
            f"{len(wasm):,}",
            *(harness.duration(medians[name]) if name in medians else "—" for name in names),
            *(f"{code[name]:,}" if name in code else "—" for name in sizes),
        )
    report.add("sum", "", *(harness.duration(sum(totals[name])) for name in names), *("" for _ in sizes))
    report.notes.append(
        "Interpreters validate and translate; V8 validates, and compiles functions when they are called."
        " Code: what would be stored, metadata included."
    )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, action="append", help="a suite's folder; repeatable")
    parser.add_argument("--only", help="comma-separated parts of program names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiling", action="store_true", help="also measure how long compiling takes")
    contenders.add_options(parser, tiers=contenders.TIERS, contenders=contenders.NAMES)
    args = parser.parse_args()

    report = harness.Report("Execution time", [])
    engines = contenders.chosen(args, report.missing)
    names = [engine.name for engine in engines]
    pairs = contenders.compared(engines)
    table = contenders.Ratios(report, names, pairs)
    costs = call_costs(engines, args)
    cases = selected(suites(args.suite), args.only, report.missing)
    for case, suite in cases:
        figures = measure(case, suite, engines, args, report)
        times = {name: max(figure.estimate - costs[name], 1e-9) for name, figure in figures.items()}
        table.add(case.name, times)
    table.end()
    report.notes += [
        f"Subtracted per call: {', '.join(f'{name} {harness.duration(cost)}' for name, cost in costs.items())}.",
        *contenders.notes(engines),
    ]
    report.show(engines)
    if args.compiling:
        compiling(cases, engines, args.rounds).show(engines)


if __name__ == "__main__":
    main()
