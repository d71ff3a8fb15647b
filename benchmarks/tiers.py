"""Time to the first result, by tier: what does it cost that code is compiled?

    python benchmarks/tiers.py --wasm coremark.wasm --wasm pulldown-cmark.wasm --wasm spidermonkey.wasm

Every sample is a process of its own; elapsed time, from when the package has been imported, all contenders in turns:

* interpreter;
* auto, and compiler: with an empty cache of compiled code;
* auto cached, and compiler cached: the cache has what an earlier process compiled.

A first result is the return of the first call, or for the programs of wasmi-benchmarks (``res/wasm``) their call of
``bench.start``, before which they set themselves up; the end is when they are through. ``spidermonkey.wasm`` interprets
JavaScript for seconds until then: ``--no-end`` stops at first results. CoreMark gets a clock that makes it do the same
work at any speed. Two small modules, a call that adds and a recursive function, are always measured.

The tier "auto" should get to no first result more than 10 % later than the interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import contenders
import harness
import remote

ADD = """
(module (func (export "run") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
"""

FIBONACCI = """
(module
  (func $fibonacci (export "run") (param i32) (result i64)
    (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
      (then (i64.extend_i32_u (local.get 0)))
      (else (i64.add
        (call $fibonacci (i32.sub (local.get 0) (i32.const 1)))
        (call $fibonacci (i32.sub (local.get 0) (i32.const 2))))))))
"""

#: What the programs of wasmi-benchmarks open.
INPUTS = ("default.input", "default.input.md")

#: Seconds after which a run is given up.
PATIENCE = 300.0

#: How much later than the interpreter "auto" may be.
ALLOWED = 1.1

#: What is counted for that.
SINCE = {"after the import": ("first",), "with the import": ("import", "first")}


@dataclass(frozen=True)
class Work:
    """A module, the call to make, and its result where that is known."""

    name: str
    file: Path
    arguments: tuple[int, ...] = ()
    result: int | None = None


def works(folder: Path, files: Sequence[Path], quick: bool) -> list[Work]:
    """The small modules, assembled into `folder`, then `files`."""
    found = []
    number, fibonacci = (10, 55) if quick else (30, 832_040)
    for name, text, arguments, result in (
        ("add", ADD, (40, 2), 42),
        (f"fibonacci({number})", FIBONACCI, (number,), fibonacci),
    ):
        file = folder / f"{name}.wasm"
        file.write_bytes(harness.assemble(text))
        found.append(Work(name, file, arguments, result))
    return found + [Work(file.stem, file.resolve()) for file in files]


@dataclass(frozen=True)
class Contender:
    """A tier; `cached` tells whether it finds what was compiled before."""

    tier: str
    cached: bool

    @property
    def name(self) -> str:
        return f"{self.tier} cached" if self.cached else self.tier


def sample(work: Work, contender: Contender, cache: Path, folder: Path, end: bool) -> dict[str, float]:
    """One run in a process of its own: when what happened, in seconds. Raises `harness.Unsupported`."""
    script = remote.DRIVERS / "first_result.py"
    command = [sys.executable, str(script), contender.tier, str(work.file), str(folder), str(int(end)), "run"]
    try:
        done = subprocess.run(
            [*command, *map(str, work.arguments)],
            env=os.environ | {"WASMLOOM_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise harness.Unsupported(f"takes longer than {PATIENCE:.0f} seconds") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise harness.Unsupported(lines[-1])
    marks: dict[str, float] = json.loads(done.stdout)
    if work.result is not None:
        harness.check(contender.name, work.name, marks["result"], work.result)
    return marks


def measure(
    work: Work, wanted: Sequence[Contender], place: Path, args: argparse.Namespace, missing: list[harness.Missing]
) -> dict[str, dict[str, float]]:
    """Contender → what happened → median seconds."""
    inputs = place / "inputs"
    samples: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in wanted}
    end = not args.no_end
    for turn in range(args.rounds + 1):
        for contender in wanted:
            if contender.name not in samples:
                continue
            try:
                if turn == 0:
                    if contender.cached:  # everything, so by the compiler, to the end
                        sample(work, Contender("compiler", True), place / f"cache {work.name}", inputs, end)
                    continue
                with tempfile.TemporaryDirectory(dir=place) as empty:
                    cache = place / f"cache {work.name}" if contender.cached else Path(empty)
                    samples[contender.name].append(sample(work, contender, cache, inputs, end))
            except harness.Unsupported as error:
                missing.append(harness.Missing(contender.name, str(error), work.name))
                del samples[contender.name]
    return {
        name: {what: statistics.median(marks[what] for marks in taken) for what in taken[0]}
        for name, taken in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, action="append", default=[], help="a module; repeatable")
    parser.add_argument("--input", type=Path, help="a text for programs that read one; by default the project's README")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-end", action="store_true", help="stop at first results")
    contenders.add_options(parser, tiers=contenders.TIERS)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1

    report = harness.Report(
        "Time to the first result", ["module", "contender", "import", "ready", "first", "× interpreter", "end", "×"]
    )
    engines = contenders.tiers(args, report.missing)
    names = [engine.name.removeprefix("wasmloom ") for engine in engines]
    wanted = [Contender(name, cached) for name in names for cached in (False, *[True] * (name != "interpreter"))]
    text = (args.input or Path(__file__).resolve().parent.parent / "README.md").read_bytes()
    late: dict[str, list[str]] = {when: [] for when in SINCE}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "inputs").mkdir()
        for name in INPUTS:
            (place / "inputs" / name).write_bytes(text)
        for work in works(place, args.wasm, args.quick):
            medians = measure(work, wanted, place, args, report.missing)
            base = medians.get("interpreter")
            for name, marks in medians.items():
                ratios = [
                    f"{marks[what] / base[what]:.3f}" if base and what in base and what in marks else "—"
                    for what in ("first", "end")
                ]
                if base and name.startswith("auto"):
                    for when, counted in SINCE.items():
                        if sum(marks[w] for w in counted) > ALLOWED * sum(base[w] for w in counted):
                            late[when].append(f"{work.name} ({name})")
                end = harness.duration(marks["end"]) if "end" in marks else "—"
                times = (harness.duration(marks[what]) for what in ("import", "ready", "first"))
                report.add(work.name, name, *times, ratios[0], end, ratios[1])
    if any(name.startswith("auto") for name in names):
        for when, where in late.items():
            report.notes.append(
                f"auto's first result {when} more than {ALLOWED - 1:.0%} later than the interpreter's:"
                f" {', '.join(where) or 'nowhere'}."
            )
    report.notes.append("Medians of elapsed time since the import, which is not counted.")
    report.show(engines)


if __name__ == "__main__":
    main()
