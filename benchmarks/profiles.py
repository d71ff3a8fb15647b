"""Does the interpreter's speed depend on how it was built?

Builds the package several times into temporary folders, with the handlers at LLVM's O1, O2 and O3 and the C compiler at
-O0 and -O2, and runs CoreMark (see `coremark`) with each, in turns. The question is that of
https://github.com/wasmi-labs/wasmi/issues/339, where the answer was a factor of 4.2.

    python benchmarks/profiles.py --wasm coremark.wasm
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

ROOT = Path(__file__).resolve().parent.parent

#: How much faster than the processor's time the clock goes that CoreMark sees: it would run for ten seconds and more.
HASTE = 10

#: So often one run of CoreMark is tried.
ATTEMPTS = 5

#: Runs in a process of its own for each build: prints the score. Time that other processes take doesn't count.
SCRIPT = f"""
import sys, time, wasmloom
instance = wasmloom.Instance(
    wasmloom.Module.from_file(sys.argv[1], wasmloom.Engine(tier="interpreter")),
    {{"env": {{"clock_ms": lambda: int(time.thread_time() * {1000 * HASTE})}}}},
)
print(instance.exports.run() * {HASTE})
"""


def build(tree: Path, folder: Path, llvm: str, c: str, only: str = "") -> None:
    """Build the package from the sources in `tree` into `folder`/lib, or only the modules that `only` names."""
    environment = os.environ | {"WASMLOOM_OPT": llvm, "WASMLOOM_CFLAGS": c, "WASMLOOM_ONLY": only}
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(folder), "--build-lib", f"{folder}/lib"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the build with {llvm} {c} failed:\n{done.stderr}")


def build_all(place: Path) -> dict[str, Path]:
    """Build every profile below `place`: its name → its folder."""
    tree = place / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    profiles = {}
    for c in ("-O0", "-O2"):
        for llvm in ("O1", "O2", "O3"):
            print(f"building {llvm} {c}", file=sys.stderr, flush=True)
            folder = profiles[f"{llvm} {c}"] = place / f"{llvm}{c}"
            if llvm == "O1":
                build(tree, folder, llvm, c)
            else:  # LLVM's level concerns one module only
                shutil.copytree(place / f"O1{c}", folder)
                build(tree, folder, llvm, c, only="wasmloom.interpreter.machine")
    return profiles


def score(folder: Path, wasm: Path) -> float:
    """Run CoreMark with the build in `folder`.

    Its score is 0 when its results are wrong, and when it has run for less than its ten seconds: the machine was slow
    when it found out how often to iterate. Then it runs again.
    """
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    command = [sys.executable, "-c", SCRIPT, str(wasm.resolve())]
    for _ in range(ATTEMPTS):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"CoreMark failed:\n{done.stderr}")
        if float(done.stdout) > 0:
            return float(done.stdout)
    raise SystemExit(f"{ATTEMPTS} times CoreMark found an error in its own results, or didn't run for long enough")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()

    report = harness.Report(
        "CoreMark by build profile (more is better)", ["handlers", "C", "median", "best", "fastest / this"]
    )
    with tempfile.TemporaryDirectory() as place:
        profiles = build_all(Path(place))
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
