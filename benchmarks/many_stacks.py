"""What a pair of switches costs where very many stacks take turns, and what a suspended stack takes.

    python benchmarks/many_stacks.py [--stacks 10,1000,10000,100000]
    python benchmarks/many_stacks.py --memory --stacks 1000000

The stacks take turns in random order, and where the next one lies is only known once the one before has run: so the
processor can't fetch it early, and what counts is how much memory a stack touches, and where. Contenders run in turns;
the last columns are the ratios to the first contender.

With ``--memory`` the resident memory of each suspended stack instead, of guests that have run for a second, so that the
tier "auto" has decided. The program is ``benchmarks/programs/stacks/walk.wat``.
"""

from __future__ import annotations

import argparse

import contenders
import harness
from million import below, resident
from programs.stacks import build

#: Pairs of switches of one call, at least.
PAIRS = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", default="10,1000,10000,100000", help="how many, several by commas")
    parser.add_argument("--memory", action="store_true", help="what they take instead of what switching costs")
    parser.add_argument("--rounds", type=int, default=7)
    contenders.add_options(
        parser,
        tiers=("interpreter", "baseline", "auto", "compiler"),
        contenders=("wasmloom",),
        switching=("native",),
    )
    parser.set_defaults(warm_up=1)
    args = parser.parse_args()
    numbers = [10, 100] if args.quick else [int(number) for number in args.stacks.split(",")]

    what = "Suspended stacks: bytes each" if args.memory else "Many stacks in random order: nanoseconds per pair"
    report = harness.Report(what, [])
    engines = contenders.chosen(args, report.missing)
    names = [engine.name.removeprefix("wasmloom ") for engine in engines]
    wasm = build.assemble("walk")
    for number in numbers:
        pairs = number * -(-(1000 if args.quick else PAIRS) // number)
        runs, taken = {}, []
        for engine in engines:
            guest = engine.instantiate(wasm)
            before = resident()
            harness.check(engine.name, "fill", guest.function("fill")(number), below(number), 64)
            run = harness.prepared(guest.function("walk"), pairs)
            harness.check(engine.name, "walk", run(), below(number) * (pairs // number), 64)
            if engine.warm_up:
                harness.warm_up(run, engine.warm_up)
            taken.append((resident() - before) / number)
            if not args.memory:
                runs[engine.name] = run
        if args.memory:
            report.add(f"{number:,}", *(f"{each:,.0f}" for each in taken))
            continue
        figures = harness.alternate(runs, 1 if args.quick else args.rounds, 0.001 if args.quick else 0.05)
        times = [figures[engine.name].estimate / pairs * 1e9 for engine in engines]
        ratios = (f"{time / times[0]:.2f}" for time in times[1:])
        report.add(f"{number:,}", *(f"{time:.1f}" for time in times), *ratios)
    report.columns = ["stacks", *names]
    if not args.memory:
        report.columns += [f"{name} / {names[0]}" for name in names[1:]]
    report.notes += contenders.notes(engines)
    report.show(engines)


if __name__ == "__main__":
    main()
