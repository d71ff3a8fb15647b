"""Does the interpreter's speed depend on how it was built?

Builds the package several times into temporary folders, with the handlers at LLVM's O1, O2 and O3 and the C compiler at
-O0 and -O2, and runs CoreMark (see `coremark`) with each, in turns. The question is that of
https://github.com/wasmi-labs/wasmi/issues/339, where the answer was a factor of 4.2.

    python benchmarks/profiles.py --wasm coremark.wasm
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

ROOT = Path(__file__).resolve().parent.parent

#: Runs in a process of its own for each build: prints the score.
SCRIPT = """
import sys, time, wasmloom
instance = wasmloom.Instance(
    wasmloom.Module.from_file(sys.argv[1]), {"env": {"clock_ms": lambda: int(time.monotonic() * 1000) & 0x7FFFFFFF}}
)
print(instance.exports.run())
"""


def build(folder: Path, llvm: str, c: str) -> None:
    """Build the package into `folder`/lib."""
    environment = os.environ | {"WASMLOOM_OPT": llvm, "WASMLOOM_CFLAGS": c}
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "build",
        "--build-base",
        str(folder),
        "--build-lib",
        str(folder / "lib"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the build with {llvm} {c} failed:\n{done.stderr}")


def score(folder: Path, wasm: Path) -> float:
    """Run CoreMark once with the build in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    command = [sys.executable, "-c", SCRIPT, str(wasm.resolve())]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"CoreMark failed:\n{done.stderr}")
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    report = harness.Report(
        "CoreMark by build profile (more is better)", ["handlers", "C", "median", "best", "fastest / this"]
    )
    with tempfile.TemporaryDirectory() as place:
        profiles = {}
        for llvm, c in itertools.product(("O1", "O2", "O3"), ("-O0", "-O2")):
            folder = Path(place) / f"{llvm}{c}"
            print(f"building {llvm} {c}", file=sys.stderr, flush=True)
            build(folder, llvm, c)
            profiles[f"{llvm} {c}"] = folder
        scores: dict[str, list[float]] = {name: [] for name in profiles}
        for _ in range(args.rounds):
            for name, folder in profiles.items():
                scores[name].append(score(folder, args.wasm))
    best = max(map(max, scores.values()))
    for name, taken in scores.items():
        report.add(*name.split(), f"{statistics.median(taken):.0f}", f"{max(taken):.0f}", f"{best / max(taken):.3f}")
    worst = min(map(max, scores.values()))
    report.notes.append(
        f"Fastest build / slowest build: {best / worst:.3f}, by the best of {args.rounds} runs each: whatever else "
        "the machine does only takes away from a score."
    )
    report.show()


if __name__ == "__main__":
    main()
