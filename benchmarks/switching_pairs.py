"""The price of switching stacks: nanoseconds per pair of switches, there and back.

    python benchmarks/switching_pairs.py [--pairs 20000000] [--node PATH]
    python benchmarks/switching_pairs.py --tier interpreter,compiler --stack-switching native,libcall

* suspend_resume: one continuation suspends, one loop resumes it;
* two_resumes: the same, from two resume instructions in turns;
* switch_pairs: two continuations switch to each other.

The programs are in ``benchmarks/programs/stacks``. They run in wasmloom, and where there is a Node.js with
``--experimental-wasm-wasmfx`` in V8, in turns.
"""

from __future__ import annotations

import argparse

import contenders
import harness
import remote
import stacks
from programs.stacks import build

PROGRAMS = ("suspend_resume", "two_resumes", "switch_pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    contenders.add_options(parser, contenders=("wasmloom", "v8"), switching=("native",))
    parser.set_defaults(warm_up=0.5)
    args = stacks.parsed(parser)
    pairs = 10_000 if args.quick else args.pairs

    report = harness.Report(f"{pairs:,} pairs of switches", ["program", "contender", "time", "per pair", "over V8's"])
    engines = contenders.chosen(args, report.missing, v8_flags=[remote.STACK_SWITCHING])
    for name in PROGRAMS:
        times = stacks.measure(engines, {name: stacks.run_of(build.assemble(name), name, pairs)}, args, report.missing)
        there = times.get(("v8", name))
        for (contender, _), seconds in times.items():
            ratio = "—" if there is None or contender == "v8" else f"{seconds / there:.3f}"
            report.add(name, contender, harness.duration(seconds), f"{seconds / pairs * 1e9:.2f} ns", ratio)
    report.notes += contenders.notes(engines)
    report.show(engines)


if __name__ == "__main__":
    main()
