"""The price of switching stacks: nanoseconds per pair of switches, there and back.

    python benchmarks/switching_pairs.py [--pairs 20000000] [--node PATH]

* suspend_resume: one continuation suspends, one loop resumes it;
* two_resumes: the same, from two resume instructions in turns;
* switch_pairs: two continuations switch to each other.

The programs are in ``benchmarks/programs/stacks``. All run in wasmloom's interpreter, in turns with V8 where there is a
Node.js with ``--experimental-wasm-wasmfx``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import harness
import stacks
from programs.stacks import build

PROGRAMS = ("suspend_resume", "two_resumes", "switch_pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--node", help="a Node.js with stack switching")
    args = parser.parse_args()

    report = harness.Report(
        f"{args.pairs:,} pairs of switches", ["program", "time", "per pair", "V8", "V8 per pair", "here / V8"]
    )
    engine = harness.Wasmloom()
    v8 = None
    try:
        v8 = stacks.V8(args.node)
        report.notes.append(f"V8: Node.js {v8.version}")
    except harness.Unsupported as error:
        report.missing.append(harness.Missing("V8", str(error)))
    with tempfile.TemporaryDirectory() as folder:
        for name in PROGRAMS:
            wasm = Path(folder) / f"{name}.wasm"
            wasm.write_bytes(build.assemble(name))
            here, there, missing = stacks.measure(engine, v8, {"text": wasm}, args.pairs, args.pairs, args.rounds)
            report.missing += missing
            cells = [cell for times in (here, there) for cell in _cells(times.get("text"), args.pairs)]
            report.add(name, *cells, f"{here['text'] / there['text']:.3f}" if there else "—")
    report.show([engine])


def _cells(seconds: float | None, pairs: int) -> tuple[str, str]:
    return ("—", "—") if seconds is None else (harness.duration(seconds), f"{seconds / pairs * 1e9:.1f} ns")


if __name__ == "__main__":
    main()
