"""What addresses of 64 bits cost: the same C programs, compiled for memories with 32-bit and with 64-bit addresses.

    python benchmarks/wide.py

The programs (``benchmarks/programs/wide``) follow pointers, walk through arrays and call through pointers; ziglang from
PyPI compiles them when the script starts. Each figure is the time with addresses of 64 bits in relation to that with 32
bits, of one contender; less is better. Both must give the same numbers, in all contenders. Pointers that take twice as
much memory are part of the price, above all in ``list``, whose links no longer fit the processor's first cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import contenders
import harness

#: Program → how often it does its work in a call.
PROGRAMS = {
    "list": 50, "tree": 8, "hash": 20, "quicksort": 20, "multiply": 6, "sieve": 10, "words": 80, "machine": 60_000,
}  # fmt: skip
TARGETS = ("wasm32", "wasm64")
#: The number of primes below 65536, which `sieve` counts.
PRIMES = 6542


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated parts of program names")
    parser.add_argument("--rounds", type=int, default=9)
    contenders.add_options(
        parser, tiers=("interpreter", "baseline", "compiler"), contenders=contenders.NAMES_WITH_VECTORS
    )
    args = parser.parse_args()

    report = harness.Report("Addresses of 64 bits in relation to those of 32", [])
    engines = contenders.chosen(args, report.missing)
    sources = [*sorted((harness.PROGRAMS / "wide").glob("*.c")), harness.PROGRAMS / "memory.c"]
    binaries = {target: harness.build_c(sources, cpu="generic", target=target) for target in TARGETS}
    guests: dict[str, dict[str, harness.Guest]] = {}
    for engine in engines.copy():
        try:
            guests[engine.name] = {
                target: engine.instantiate(wasm, None, engine.compile(wasm)) for target, wasm in binaries.items()
            }
        except harness.Unsupported as error:
            report.missing.append(harness.Missing(engine.name, str(error)))
            engines.remove(engine)
    report.columns = ["program", *(f"{engine.name}{what}" for engine in engines for what in ("", " 64 / 32"))]
    ratios: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for program, count in PROGRAMS.items():
        if args.only and not any(part in program for part in args.only.split(",")):
            continue
        runs: dict[tuple[str, str], Callable[[], object]] = {}
        wanted: object = count * PRIMES if program == "sieve" else None
        for engine in engines:
            for target in TARGETS:
                run = runs[engine.name, target] = harness.prepared(guests[engine.name][target].function(program), count)
                got = run()
                wanted = got if wanted is None else wanted
                harness.check(f"{engine.name}, {target}", program, got, wanted, 32)
                harness.warm_up(run, engine.warm_up)
        figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.03)
        cells = []
        for engine in engines:
            narrow, wide = (figures[engine.name, target].estimate for target in TARGETS)
            ratios[engine.name].append(wide / narrow)
            cells += [harness.duration(wide / count), f"{wide / narrow:.3f}"]
        report.add(program, *cells)
    means = [cell for engine in engines for cell in ("", f"{harness.geometric_mean(ratios[engine.name]):.3f}")]
    report.add("geometric mean", *means)
    report.notes += ["Time is for the work done once, with addresses of 64 bits.", *contenders.notes(engines)]
    report.show(engines)


if __name__ == "__main__":
    main()
