"""The suites: a module each, with `measure(context)`. They are imported when they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from wasmloom_bench.context import Context


@dataclass(frozen=True)
class Suite:
    """A suite: what it asks, and how many seconds of elapsed time it gets in a full run and in a quick one.

    `commits` tells whether `--compare-commits` can run it.
    """

    name: str
    title: str
    seconds: float
    quick: float
    commits: bool = False

    @property
    def measure(self) -> Callable[[Context], None]:
        """What measures it."""
        found: Callable[[Context], None] = import_module(f"wasmloom_bench.suites.{self.name}").measure
        return found


#: In the order in which they run.
SUITES = {
    suite.name: suite
    for suite in (
        Suite("interpreter", "Interpreters", 200, 22, commits=True),
        Suite("tiers", "Tiers, and compilers of others", 330, 30, commits=True),
        Suite("startup", "Starting", 80, 12),
        Suite("compile", "Making code", 70, 12),
        Suite("switching", "Stack switching", 200, 25, commits=True),
        Suite("calls", "Calls between Python and guests", 70, 12),
        Suite("memory", "Memory", 80, 15),
        Suite("snapshots", "Copies of guests", 20, 6),
        Suite("simd", "Vectors", 70, 10, commits=True),
        Suite("objects", "Objects", 50, 8, commits=True),
        Suite("threads", "Threads of guests", 40, 10),
        Suite("settings", "What settings cost", 105, 15),
        Suite("real", "Real programs", 170, 25),
        Suite("profiles", "Build profiles", 190, 1),
    )
}
