"""What a continuation costs that lives shortly: creation, first resume and return, in nanoseconds.

    python benchmarks/continuations.py [--number 5000000] [--node PATH]
    python benchmarks/continuations.py --tier interpreter,compiler --stack-switching native,libcall

* create: `cont.new`, `resume`, and the continuation returns at once;
* create and suspend: it suspends once before that, and is resumed a second time;
* call: the same loop with `call_ref` instead of a continuation, for comparison.

One after the other, so that each finds what the one before has given back. Continuations that are alive at the same
time, and what becomes of abandoned ones, are in ``million.py``.
"""

from __future__ import annotations

import argparse

import contenders
import harness
import remote
import stacks
from programs.stacks import build

#: What is measured → the program's function.
FUNCTIONS = {"create": "run", "create and suspend": "suspended", "call": "called"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=5_000_000, help="how many per run")
    parser.add_argument("--rounds", type=int, default=5)
    contenders.add_options(parser, contenders=("wasmloom", "v8"), switching=("native",))
    parser.set_defaults(warm_up=0.5)
    args = stacks.parsed(parser)
    number = 1_000 if args.quick else args.number

    report = harness.Report(f"{number:,} continuations, one after the other", [])
    engines = contenders.chosen(args, report.missing, v8_flags=[remote.STACK_SWITCHING])
    report.columns = ["each", *(engine.name for engine in engines)]
    wasm = build.assemble("create")
    for what, function in FUNCTIONS.items():
        program = stacks.run_of(wasm, "create", number, function)
        times = stacks.measure(engines, {what: program}, args, report.missing)
        cells = (times.get((engine.name, what)) for engine in engines)
        report.add(what, *("—" if seconds is None else f"{seconds / number * 1e9:.1f} ns" for seconds in cells))
    report.notes += contenders.notes(engines)
    report.show(engines)


if __name__ == "__main__":
    main()
