"""CoreMark: how fast is the interpreter on a program that nobody tuned it for?

Needs a build of CoreMark that imports ``env.clock_ms`` (milliseconds as i32) and exports ``run`` (the score as f32),
such as ``res/wasm/coremark.wasm`` of https://github.com/wasmi-labs/wasmi-benchmarks.

    python benchmarks/coremark.py --wasm coremark.wasm
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import harness

#: Runs in Node.js, for scale: the same imports.
NODE_SCRIPT = """
const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));
const imports = {env: {clock_ms: () => performance.now() | 0}};
console.log(JSON.stringify(new WebAssembly.Instance(module, imports).exports.run()));
"""


def clock_ms() -> int:
    """The clock that the program imports: this thread's processor time, so that other processes' doesn't count."""
    return int(time.thread_time() * 1000)


def runner(engine: harness.Engine, wasm: bytes) -> Callable[[], float]:
    """A function that runs the program once in a fresh instance and returns its score."""
    imports = {("env", "clock_ms"): ("", "i", clock_ms)}
    module = engine.compile(wasm) if engine.name != "wasm3" else None  # wasm3 loads a parsed module only once

    def run() -> float:
        score = float(engine.instantiate(wasm, imports, module).function("run")())
        if score <= 0:
            raise harness.WrongAnswer(f"{engine.name}: CoreMark found an error in its own results (score {score})")
        return score

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default="wasmloom,wasm3,wasmtime", help="of wasmloom, wasm3, wasmtime, node")
    args = parser.parse_args()

    wasm = args.wasm.read_bytes()
    wanted = args.contenders.split(",")
    report = harness.Report("CoreMark (a score: more is better)", ["contender", "low", "score", "high", "× wasm3"])
    contenders = harness.engines([name for name in wanted if name != "node"], report.missing)
    runs = {engine.name: runner(engine, wasm) for engine in contenders}
    if "node" in wanted:
        try:
            harness.node("console.log(1)")
            runs["node"] = lambda: float(harness.node(NODE_SCRIPT, str(args.wasm)))
        except FileNotFoundError:
            report.missing.append(harness.Missing("node", "not installed"))
    results = harness.scores(runs, args.rounds)
    base = results.get("wasm3")
    for name, figure in results.items():
        ratio = f"{figure.estimate / base.estimate:.2f}" if base else "—"
        report.add(name, f"{figure.low:.0f}", f"{figure.estimate:.0f}", f"{figure.high:.0f}", ratio)
    report.show(contenders)


if __name__ == "__main__":
    main()
