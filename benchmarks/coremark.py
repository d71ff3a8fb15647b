"""CoreMark: how fast is a program that nobody tuned the engine for?

Needs a build of CoreMark that imports ``env.clock_ms`` (milliseconds as i32) and exports ``run`` (the score as f32),
such as ``res/wasm/coremark.wasm`` of https://github.com/wasmi-labs/wasmi-benchmarks.

    python benchmarks/coremark.py --wasm coremark.wasm

The program finds out how often to iterate so that it runs for ten seconds or more. With ``--haste 10`` the clock that
it sees goes ten times as fast, for a tenth of that, and the score is corrected.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import contenders
import harness


def runner(engine: harness.Engine, wasm: bytes, haste: float) -> Callable[[], float]:
    """A function that runs the program once in a fresh instance and returns its score."""
    imports = {("env", "clock_ms"): ("", "i", harness.Clock(haste))}
    module = engine.compile(wasm) if engine.name != "wasm3" else None  # wasm3 loads a parsed module only once

    def run() -> float:
        score = float(engine.instantiate(wasm, imports, module).function("run")())
        if score <= 0:
            raise harness.WrongAnswer(f"{engine.name}: CoreMark found an error in its own results (score {score})")
        return score * haste

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--haste", type=float, default=1, help="how much faster the program's clock goes")
    contenders.add_options(parser, tiers=contenders.TIERS, contenders=contenders.NAMES)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.haste = 1, 1000

    wasm = args.wasm.read_bytes()
    report = harness.Report("CoreMark (a score: more is better)", [])
    engines = contenders.chosen(args, report.missing)
    peers = [engine.name for engine in engines if not engine.name.startswith("wasmloom")]
    report.columns = ["contender", "low", "score", "high", *(f"× {peer}" for peer in peers)]
    runs = {}
    for engine in engines:
        run = runner(engine, wasm, args.haste)
        try:
            if engine.warm_up:  # of the module, whose code the instances share
                runner(engine, wasm, 10 * args.haste)()
                run()
        except harness.Unsupported as error:
            report.missing.append(harness.Missing(engine.name, str(error)))
        else:
            runs[engine.name] = run
    results = harness.scores(runs, args.rounds)
    for name, figure in results.items():
        ratios = (f"{figure.estimate / results[peer].estimate:.3f}" if peer in results else "—" for peer in peers)
        report.add(name, f"{figure.low:.0f}", f"{figure.estimate:.0f}", f"{figure.high:.0f}", *ratios)
    report.show(engines)


if __name__ == "__main__":
    main()
