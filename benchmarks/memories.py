"""What do bounds checks cost where memories have no guard pages?

Runs CoreMark (see `coremark`) on both kinds of memory, in turns, in this process.

    python benchmarks/memories.py --wasm coremark.wasm
"""

from __future__ import annotations

import argparse
from pathlib import Path

import contenders
import harness
import wasmloom as wl

KINDS = ("guarded", "checked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--haste", type=float, default=4, help="how much faster the program's clock goes")
    contenders.add_options(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.haste = 1, 1000

    modules = {
        (tier, kind): wl.Module.from_file(args.wasm, wl.Engine(tier=tier, memory=kind))
        for tier in args.tier.split(",")
        for kind in KINDS
    }

    def score(module: wl.Module) -> float:
        instance = wl.Instance(module, {"env": {"clock_ms": harness.Clock(args.haste)}})
        found = float(instance.exports.run()) * args.haste
        if found <= 0:
            raise harness.WrongAnswer(f"CoreMark found an error in its own results (score {found})")
        return found

    runs = {f"{tier}, {kind}": lambda m=module: score(m) for (tier, kind), module in modules.items()}
    results = harness.scores(runs, args.rounds)
    columns = ["tier, memory", "low", "score", "high", "× guarded"]
    report = harness.Report("CoreMark by kind of memory (a score: more is better)", columns)
    for name, figure in results.items():
        guarded = results[f"{name.partition(',')[0]}, {KINDS[0]}"]
        ratio = f"{figure.estimate / guarded.estimate:.2f}"
        report.add(name, f"{figure.low:.0f}", f"{figure.estimate:.0f}", f"{figure.high:.0f}", ratio)
    report.show()


if __name__ == "__main__":
    main()
