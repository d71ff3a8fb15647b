"""How fast code is made: megabytes of code section a second, by the baseline tier and V8's Liftoff.

    python benchmarks/making.py --wasm python.wasm --wasm quickjs.wasm

Each module is compiled once in a process of its own, by contenders in turns: to bytecode, to bytecode and code (in both
validation is included), and by Liftoff (``node --liftoff-only --no-wasm-lazy-compilation --single-threaded``, which
validates, too). Counted is the processor time of the thread, in Node.js of the process, which has one thread for it.
What code takes alone is the difference of the first two. Wasmtime's baseline compiler Winch isn't in its package for
Python. Sizes are in bytes for each byte of the code section, as the engine's limit counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import harness

DRIVERS = Path(__file__).resolve().parent / "drivers"
FLAGS = ("--liftoff-only", "--no-wasm-lazy-compilation", "--single-threaded")
BYTECODE, CODE, ALONE, LIFTOFF = "wasmloom, bytecode", "wasmloom, with code", "wasmloom, code alone", "V8 Liftoff"


def code_size(wasm: bytes) -> int:
    """The size of a module's code section."""
    at = 8
    while at < len(wasm):
        section, at = wasm[at], at + 1
        size = shift = 0
        while True:
            byte, at = wasm[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if section == 10:
            return size
        at += size
    raise ValueError("no code section")


def made(command: list[str]) -> dict[str, float]:
    """What a driver says: seconds, and for us bytes of code."""
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, action="append", default=[], help="a module; repeatable")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--node", help="a Node.js for V8; by default WASMLOOM_NODE, or the one on PATH")
    parser.add_argument("--quick", action="store_true", help="two rounds, to see whether all works")
    args = parser.parse_args()
    report = harness.Report("Making code", ["module", "which", "MB/s", "best", "× Liftoff", "bytes a byte"])
    node = args.node or os.environ.get("WASMLOOM_NODE") or shutil.which("node")
    if node is None:
        report.missing.append(harness.Missing(LIFTOFF, "no Node.js"))
    report.missing.append(harness.Missing("Winch", "the wasmtime package has no such strategy"))
    for path in args.wasm:
        size = code_size(path.read_bytes())
        commands = {
            BYTECODE: [sys.executable, str(DRIVERS / "making.py"), "interpreter", str(path)],
            CODE: [sys.executable, str(DRIVERS / "making.py"), "baseline", str(path)],
        }
        if node is not None:
            commands[LIFTOFF] = [node, *FLAGS, str(DRIVERS / "making.mjs"), str(path)]
        bytes_of = {}
        for name, command in list(commands.items()):
            try:
                bytes_of[name] = made(command).get("bytes", 0)
            except subprocess.CalledProcessError as error:
                said = next((line for line in error.stderr.splitlines() if "Error" in line), f"exit {error.returncode}")
                report.missing.append(harness.Missing(f"{name} on {path.name}", said))
                del commands[name]
        runs: dict[str, Callable[[], float]]
        runs = {name: lambda command=command: made(command)["seconds"] for name, command in commands.items()}  # type: ignore[misc]
        samples: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(2 if args.quick else args.rounds):
            for name, run in runs.items():
                samples[name].append(run())
        if BYTECODE not in samples or CODE not in samples:
            continue
        samples[ALONE] = [code - bytecode for code, bytecode in zip(samples[CODE], samples[BYTECODE], strict=True)]
        bytes_of[ALONE] = bytes_of[CODE] - bytes_of[BYTECODE]
        figures = {name: harness.Figure.of(each) for name, each in samples.items()}
        best = {name: min(each) for name, each in samples.items()}
        best[ALONE] = best[CODE] - best[BYTECODE]
        for name, figure in figures.items():
            liftoff = f"{figures[LIFTOFF].estimate / figure.estimate:.2f}" if LIFTOFF in figures else "—"
            report.add(
                f"{path.name} ({size / 1e6:.2f} MB)", name, f"{size / figure.estimate / 1e6:.1f}",
                f"{size / best[name] / 1e6:.1f}", liftoff, f"{bytes_of[name] / size:.2f}" if bytes_of[name] else "—",
            )  # fmt: skip
    report.notes.append("MB/s: medians; best: of the shortest times. × Liftoff: how many times as fast.")
    report.show()


if __name__ == "__main__":
    main()
