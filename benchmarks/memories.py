"""What do bounds checks cost where memories have no guard pages?

Runs CoreMark (see `coremark`) on both kinds of memory, in turns, in this process.

    python benchmarks/memories.py --wasm coremark.wasm
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
import wasmloom as wl

KINDS = ("guarded", "checked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--haste", type=float, default=4, help="how much faster the program's clock goes")
    args = parser.parse_args()

    modules = {kind: wl.Module.from_file(args.wasm, wl.Engine(memory=kind)) for kind in KINDS}

    def score(kind: str) -> float:
        instance = wl.Instance(modules[kind], {"env": {"clock_ms": harness.Clock(args.haste)}})
        found = instance.exports.run() * args.haste
        if found <= 0:
            raise harness.WrongAnswer(f"{kind}: CoreMark found an error in its own results (score {found})")
        return float(found)

    results = harness.scores({kind: lambda kind=kind: score(kind) for kind in KINDS}, args.rounds)
    report = harness.Report(
        "CoreMark by kind of memory (a score: more is better)", ["memory", "low", "score", "high", "× guarded"]
    )
    for kind, figure in results.items():
        ratio = f"{figure.estimate / results['guarded'].estimate:.2f}"
        report.add(kind, f"{figure.low:.0f}", f"{figure.estimate:.0f}", f"{figure.high:.0f}", ratio)
    report.show()


if __name__ == "__main__":
    main()
