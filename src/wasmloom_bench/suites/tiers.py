"""Every tier on the same programs, against compilers; CoreMark; and the time to an answer, cold and cached.

For the latter every sample is a process of its own: elapsed time from when the package has been imported, with an empty
cache of compiled code, or ("cached") one that has what an earlier process compiled. A first result is the return of the
first call, or for the programs of wasmi-benchmarks (``res/wasm``) their call of ``bench.start``, before which they set
themselves up; the end is when they are through. CoreMark gets a clock that makes it do the same work at any speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wasmloom_bench import harness, remote, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing
from wasmloom_bench.suites.interpreter import coremark_table

CONTENDERS = ("interpreter", "baseline", "compiler", "auto", "wasm3", "Wasmtime", "Liftoff", "V8", "C", "Python")
PAIRS = [
    ("compiler", "Wasmtime"), ("compiler", "V8"), ("auto", "Wasmtime"), ("baseline", "Liftoff"),
    ("baseline", "interpreter"), ("compiler", "C"), ("interpreter", "Python"),
]  # fmt: skip


def measure(context: Context) -> None:
    """Measure everything."""
    engines = context.engines(*CONTENDERS)
    found, absent = workloads.public(context.options.programs)
    own: list[workloads.Workload] = [
        row for row in workloads.WASMI if row.name not in ("recursive_trap", "host_calls", "recursive_ok")
    ]
    table = context.table("programs", "Programs in every tier", PAIRS)
    table.missing += [Missing("all", "not in a folder of --programs", name) for name in absent if context.chosen(name)]
    costs = context.call_costs(engines)
    for workload in context.each(table, [*found, *own, *workloads.pointers()], 0.65, workloads.QUICK):
        context.measure_programs(table, engines, workload, costs)
    context.notes(table, engines, costs)
    table.notes.append(
        "C: the same sources for this processor, with zig cc -O2 and without WebAssembly; Python: the same by hand."
    )
    if not context.quick:
        able = [engine for engine in engines if engine.name not in ("C", "Python")]
        coremark_table(context, able, PAIRS[:4], 0.4)
    if not context.options.commits:
        _answers(context)


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
#: Those of its modules that run here.
MODULES = ("coremark.wasm", "pulldown-cmark.wasm")

#: Seconds after which a run is given up.
PATIENCE = 300.0


@dataclass(frozen=True)
class Work:
    """A module, the call to make, and its result where that is known."""

    name: str
    file: Path
    arguments: tuple[int, ...] = ()
    result: int | None = None


def works(context: Context, folder: Path) -> list[Work]:
    """The small modules, assembled into `folder`, and the public ones that are there."""
    found = []
    number, fibonacci = (10, 55) if context.quick else (30, 832_040)
    for name, text, arguments, result in (
        ("add", ADD, (40, 2), 42),
        (f"fibonacci({number})", FIBONACCI, (number,), fibonacci),
    ):
        file = folder / f"{name}.wasm"
        file.write_bytes(harness.assemble(text))
        found.append(Work(name, file, arguments, result))
    for name in MODULES:
        path = workloads.module(context.options.programs, name)
        if path is not None:
            found.append(Work(path.stem, path.resolve()))
    return found


def sample(work: Work, tier: str, cache: Path, folder: Path) -> dict[str, float]:
    """One run in a process of its own: when what happened, in seconds.

    Raises `harness.Unsupported` and `harness.WrongAnswer`.
    """
    command = [sys.executable, str(remote.DRIVERS / "first_result.py"), tier, str(work.file), str(folder), "1", "run"]
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
        harness.check(tier, work.name, marks["result"], work.result)
    return marks


def _answers(context: Context) -> None:
    tiers = [name for name in ("interpreter", "baseline", "compiler", "auto") if context.wants(name)]
    pairs = [(name, "interpreter") for name in ("baseline", "auto", "auto cached", "compiler", "compiler cached")]
    more = {"clock": "elapsed time since the import, in fresh processes"}
    tables = {
        "first": context.table("first", "Time to the first result", pairs, **more),
        "end": context.table("end", "Time to the end", pairs, **more),
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inputs = place / "inputs"
        inputs.mkdir()
        for name in INPUTS:
            (inputs / name).write_text("# A heading\n\n" + "Some *text*, [a link](there), `code`.\n\n" * 200)
        for work in context.each(tables["first"], works(context, place)):
            cache = place / f"cache {work.name}"

            def cold(tier: str, work: Work = work) -> Callable[[], Mapping[str, float]]:
                def run() -> Mapping[str, float]:
                    with tempfile.TemporaryDirectory(dir=place) as empty:
                        return sample(work, tier, Path(empty), inputs)

                return run

            samplers: dict[str, Callable[[], Mapping[str, float]]] = {tier: cold(tier) for tier in tiers}
            if "compiler" in tiers:
                try:
                    sample(work, "compiler", cache, inputs)  # compiles everything, to the end
                except (harness.Unsupported, harness.WrongAnswer) as error:
                    context.failed(tables["first"], work.name)("compiler cached", error)
                else:
                    for tier in ("auto", "compiler"):
                        if tier in tiers:
                            samplers[f"{tier} cached"] = lambda tier=tier, work=work, cache=cache: sample(  # type: ignore[misc]
                                work, tier, cache, inputs
                            )
            context.measure_marks(tables, work.name, samplers, 3 if context.quick else 7)
