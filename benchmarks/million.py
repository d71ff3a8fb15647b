"""Very many continuations: ten million that are suspended at once, and a hundred million that are abandoned.

    python benchmarks/million.py [--live 10000000] [--depth 0] [--abandon 100000000]
    python benchmarks/million.py --tier compiler --live 1000000 --abandon 10000000

First part: N continuations are created and run up to a suspension, all are alive, then each is resumed to its end, in
another order; and all of that again. Reported: resident memory per continuation, which includes its place in a table,
and the times. The first time is mostly the system's, which makes pages of memory; the second time they are there.

Second part: continuations are created, run to their first suspension and dropped. Reported: the process's resident
memory in the course of it, which stays flat when abandoned continuations are collected.

Resident memory is VmRSS of ``/proc/self/status``. The program is ``benchmarks/programs/stacks/million.wat``.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import contenders
import harness
from programs.stacks import build

#: Samples of the resident memory in the second part.
SAMPLES = 20


def resident() -> int:
    """The process's resident memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS in /proc/self/status: this needs Linux")


def step_for(n: int) -> int:
    """A step that visits all of n places, far from one another."""
    step = max(1, int(n * 0.6180339887))
    while math.gcd(step, n) != 1:
        step += 1
    return step


def below(n: int) -> int:
    """The sum of the numbers below n."""
    return n * (n - 1) // 2


def live(engine: harness.Engine, wasm: bytes, n: int, depth: int, report: harness.Report) -> None:
    """Fill and drain, on a fresh instance."""
    guest = engine.instantiate(wasm)
    fill, drain = guest.function("fill"), guest.function("drain")
    harness.check(engine.name, "fill", fill(1000, depth), below(1000), 64)
    harness.check(engine.name, "drain", drain(1000, step_for(1000)), 4 * below(1000), 64)
    before, start = resident(), time.perf_counter()
    harness.check(engine.name, "fill", fill(n, depth), below(n), 64)
    filled, taken = time.perf_counter() - start, resident() - before
    start = time.perf_counter()
    harness.check(engine.name, "drain", drain(n, step_for(n)), 4 * below(n), 64)
    drained = time.perf_counter() - start
    start = time.perf_counter()
    harness.check(engine.name, "fill", fill(n, depth), below(n), 64)
    again = time.perf_counter() - start
    harness.check(engine.name, "drain", drain(n, step_for(n)), 4 * below(n), 64)
    report.add(
        engine.name,
        f"{n:,}",
        str(depth),
        f"{taken / 2**20:,.0f} MiB",
        f"{taken / n:.1f} bytes",
        *(harness.duration(took) for took in (filled, drained, again)),
    )


def abandon(engine: harness.Engine, wasm: bytes, n: int, depth: int, report: harness.Report) -> None:
    """Create, run, drop; one report line for the memory and one for the time."""
    cycle = engine.instantiate(wasm).function("cycle")
    part = max(1, n // SAMPLES)
    samples, start = [], time.perf_counter()
    for _ in range(SAMPLES):
        harness.check(engine.name, "cycle", cycle(part, depth), below(part), 64)
        samples.append(resident())
    took = time.perf_counter() - start
    shown = " ".join(f"{sample / 2**20:.0f}" for sample in samples)
    n = part * SAMPLES
    report.notes.append(
        f"{engine.name}: {n:,} created, run and abandoned at depth {depth}: {harness.duration(took)},"
        f" {harness.duration(took / n)} each."
    )
    report.notes.append(
        f"Resident memory after every {part:,}, in MiB: {shown}."
        f" From the first of these to the last: {(samples[-1] - samples[0]) / 2**20:+.1f} MiB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=int, default=10_000_000, help="continuations alive at once; 0: leave out")
    parser.add_argument("--depth", type=int, default=0, help="calls between a continuation's start and its suspension")
    parser.add_argument("--abandon", type=int, default=100_000_000, help="continuations to abandon; 0: leave out")
    contenders.add_options(parser, switching=("native",))
    args = parser.parse_args()
    if args.quick:
        args.live, args.abandon = 10_000, 10_000

    columns = [
        "contender",
        "alive",
        "depth",
        "memory",
        "each",
        "create and run to suspension",
        "resume to the end",
        "create again",
    ]
    report = harness.Report("Very many continuations", columns)
    engines = contenders.tiers(args, report.missing)
    wasm = build.assemble("million")
    for engine in engines:
        if args.abandon:
            abandon(engine, wasm, args.abandon, args.depth, report)
        if args.live:
            live(engine, wasm, args.live, args.depth, report)
    report.show(engines)


if __name__ == "__main__":
    main()
