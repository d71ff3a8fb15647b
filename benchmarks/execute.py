"""Execution time of the programs of two public suites, each run as its own driver runs it.

* https://github.com/wasmi-labs/wasmi-benchmarks: the text modules of ``res/wat``, one exported function ``run``;
* https://github.com/wasmi-labs/rust-benchmarks: ``cases/*/out.wasm``, compiled from Rust: ``setup``, then ``run``.

    python benchmarks/execute.py --suite path/to/wasmi-benchmarks --suite path/to/rust-benchmarks

Lower is better. The mean at the end is over the programs that both wasmloom and wasm3 run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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

    def prepare(self, engine: harness.Engine, suite: Path) -> tuple[Callable[[], object], Callable[[], None]]:
        """The timed call, and the check to make once after it."""
        wasm = harness.assemble(self.path(suite).read_text())
        run = engine.instantiate(wasm).function("run")
        kind, expected = self.answer
        return lambda: run(self.argument), lambda: harness.check(
            engine.name, self.name, run(self.argument), expected, BITS[kind]
        )


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

    def prepare(self, engine: harness.Engine, suite: Path) -> tuple[Callable[[], object], Callable[[], None]]:
        """The timed call, and the check to make once after it."""
        guest = engine.instantiate(self.path(suite).read_bytes())
        given = (suite / self.input).read_bytes() if self.input else b""
        size = len(given) if self.input else self.size
        data = guest.function("setup")(*([] if size is None else [size]))
        if self.input:
            guest.write(guest.function("input_ptr")(data), given)
        run = guest.function("run")

        def verify() -> None:
            for function, kind, expected in self.answers:
                harness.check(engine.name, self.name, guest.function(function)(data), expected, BITS[kind])
            if self.output:
                expected = (suite / self.output).read_bytes()
                got = guest.read(guest.function("output_ptr")(data), len(expected))
                harness.check(engine.name, self.name, got, expected)

        return lambda: run(data), verify


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, action="append", required=True, help="a suite's folder; repeatable")
    parser.add_argument("--only", help="comma-separated parts of program names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", default="wasmloom,wasm3", help="of wasmloom, wasm3, wasmtime")
    args = parser.parse_args()

    report = harness.Report("Execution time", [])
    contenders = harness.engines(args.contenders.split(","), report.missing)
    names = [engine.name for engine in contenders]
    report.columns = ["program", *names, "wasmloom / wasm3"]
    ratios: list[float] = []
    for case in CASES:
        if args.only and not any(part in case.name for part in args.only.split(",")):
            continue
        suite = next((folder for folder in args.suite if case.path(folder).exists()), None)
        if suite is None:
            report.missing.append(harness.Missing("the suites given", "no such file", case.name))
            continue
        runs, checks = {}, []
        for engine in contenders:
            try:
                run, verify = case.prepare(engine, suite)
                harness.first_call(engine, run)
            except harness.Unsupported as error:
                report.missing.append(harness.Missing(engine.name, str(error), case.name))
            else:
                runs[engine.name] = run
                checks.append(verify)
        figures = harness.alternate(runs, args.rounds)
        for verify in checks:
            verify()
        ratio = "—"
        if "wasmloom" in figures and "wasm3" in figures:
            ratios.append(figures["wasmloom"].estimate / figures["wasm3"].estimate)
            ratio = f"{ratios[-1]:.3f}"
        report.add(case.name, *(harness.duration(figures[n].estimate) if n in figures else "—" for n in names), ratio)
    if ratios:
        report.add("geometric mean", *("" for _ in names), f"{harness.geometric_mean(ratios):.3f}")
    report.notes.append(f"wasmloom / wasm3 over {len(ratios)} programs that both run; less is better.")
    report.show(contenders)


if __name__ == "__main__":
    main()
