"""Memory: what the package, an instance, a suspended or awaiting guest, and an abandoned one take.

Each sample is a process of its own (``drivers/memory.py``); counted is what its resident memory grows by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from wasmloom_bench import harness, remote
from wasmloom_bench.context import Context

TIERS = ("interpreter", "compiler", "auto")


@dataclass(frozen=True)
class Row:
    """What the driver calls it, contenders, and how many, in a full and a quick run."""

    name: str
    contenders: tuple[str, ...]
    number: int
    quick: int


ROWS = (
    Row("import", ("interpreter", "wasm3", "Wasmtime"), 1, 1),
    Row("instance", ("interpreter", "compiler", "wasm3", "Wasmtime"), 2000, 200),
    Row("suspended", TIERS, 300_000, 10_000),
    Row("suspended, 20 calls deep", TIERS, 100_000, 10_000),
    Row("abandoned", TIERS, 3_000_000, 100_000),
    Row("awaiting", ("auto", "Python"), 10_000, 1000),
    Row("awaiting, 20 calls deep", ("auto",), 10_000, 1000),
    Row("awaiting, own store", ("auto",), 10_000, 1000),
)


def taken(row: Row, contender: str, number: int) -> Callable[[], float]:
    """Bytes for each, by the driver. What it raises says why it can't."""
    command = [sys.executable, str(remote.DRIVERS / "memory.py"), row.name, contender, str(number)]
    path = os.pathsep.join(filter(None, sys.path))

    def run() -> float:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"PYTHONPATH": path}
            )
        except subprocess.TimeoutExpired as error:
            raise harness.Unsupported("takes longer than 120 seconds") from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise harness.WrongAnswer(said) if said.startswith("WrongAnswer") else harness.Unsupported(said)
        return float(json.loads(done.stdout))

    return run


def measure(context: Context) -> None:
    """Measure everything."""
    table = context.table(
        "bytes", "Resident memory",
        [("interpreter", "Wasmtime"), ("interpreter", "wasm3"), ("compiler", "interpreter")],
        unit="bytes", clock="what a fresh process grows by, for each",
    )  # fmt: skip
    context.engines("wasm3", "Wasmtime")  # so that their absence is noted
    for row in context.each(table, ROWS):
        number = row.quick if context.quick else row.number
        samplers = {name: taken(row, name, number) for name in row.contenders if context.wants(name)}
        context.measure(table, row.name, samplers, 3)
    table.notes += [
        "import: the whole package; instance: with a store of its own and a memory of one page that nobody touches;"
        " suspended: continuations, with their places in a table; abandoned: continuations that were dropped;"
        " awaiting: guests (for Python coroutines) that wait in an event loop, with their tasks.",
    ]
