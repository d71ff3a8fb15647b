"""Programs on structs and arrays that a collector frees: trees, virtual calls, strings, a hash map.

The programs are in ``programs/objects``; what they compute is compared with what Python computes. Two more tables say
what the collector costs in time and memory, where a guest allocates much more than it may have.
"""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from wasmloom_bench import harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.peers import TIERS

_MASK = 0xFFFFFFFF
CONTENDERS = ("interpreter", "baseline", "compiler", "auto", "Wasmtime", "V8")
PAIRS = [
    ("compiler", "V8"), ("compiler", "Wasmtime"), ("interpreter", "compiler"), ("baseline", "compiler"),
]  # fmt: skip


def trees(most: int) -> int:
    """The nodes that ``trees.wat`` counts."""

    def nodes(depth: int) -> int:
        return (2 << depth) - 1

    short = sum((16 << (most - depth)) * nodes(depth) for depth in range(4, most + 1, 2))
    return (nodes(most + 1) + nodes(most) + short) & _MASK


def richards(rounds: int) -> int:
    """What ``richards.wat`` says: packets queued and tasks held are known of a thousand of the idle task's steps."""
    return rounds * (2322 * 1000 + 928) & _MASK


def splay(size: int, steps: int) -> int:
    """What ``splay.wat`` computes, by a sorted list."""
    keys: list[int] = []
    seed = 42

    def insert() -> int:
        nonlocal seed
        while True:
            seed = (seed * 1664525 + 1013904223) & _MASK
            key = seed ^ seed >> 16
            at = bisect_left(keys, key)
            if at == len(keys) or keys[at] != key:
                insort(keys, key)
                return key

    for _ in range(size):
        insert()
    for _ in range(steps):
        at = bisect_left(keys, insert())
        del keys[max(at - 1, 0)]
    found = 0
    for key in keys:
        found = (found * 31 + (key ^ (key + 9) & _MASK)) & _MASK
    return found


def strings(count: int) -> int:
    """What ``strings.wat`` computes."""
    pieces = [str(i * 7919 % 100003) for i in range(count)]
    found = sum(int(b) if b < a else 1 for a, b in itertools.pairwise(pieces))
    digest = 0x811C9DC5
    for byte in "".join(f"{piece}," for piece in pieces).encode():
        digest = (digest ^ byte) * 0x01000193 & _MASK
    return (found ^ digest) & _MASK


def map(steps: int) -> int:
    """What ``map.wat`` computes, by a dictionary. A number and a pair are different keys, whatever their hashes."""
    seed = 0

    def keys() -> Iterator[int]:
        nonlocal seed
        for _ in range(steps):
            seed = (seed * 1103515245 + 12345) & _MASK
            yield seed >> 18

    counts: dict[int, int] = {}
    for i, key in enumerate(keys()):
        counts[key] = counts.get(key, 0) + i
    found = sum(counts.get(key, 0) for key in keys())
    return (found * 31 + len(counts)) & _MASK


def garbage(rounds: int, lasting: int) -> int:
    """What ``garbage.wat`` computes: what it has made in `rounds` less `lasting` rounds."""
    return sum(i + (i & 0xFF) for i in range(rounds - lasting)) & _MASK


@dataclass(frozen=True)
class Program:
    """A file of ``programs/objects``, the arguments of its function, and what it computes of them."""

    name: str
    arguments: tuple[int, ...]
    compute: Callable[..., int]

    def prepare(self, engine: Any) -> workloads.Prepared:
        """The call to time, and the check."""
        run = harness.prepared(workloads.instantiate(engine, module(self.name)).function("run"), *self.arguments)

        def check() -> None:
            harness.check(engine.name, self.name, run(), answer(self), 32)

        check()
        return run, check


@functools.cache
def module(name: str) -> bytes:
    """The module of a program."""
    return harness.assemble((harness.PROGRAMS / "objects" / f"{name}.wat").read_text())


@functools.cache
def answer(program: Program) -> int:
    """What a program computes."""
    return program.compute(*program.arguments)


def programs(is_quick: bool) -> list[Program]:
    """The programs. Those of a quick run do less."""
    return [
        Program("trees", (8 if is_quick else 12,), trees),
        Program("richards", (4 if is_quick else 40,), richards),
        Program("splay", (500, 1000) if is_quick else (4000, 8000), splay),
        Program("strings", (1000 if is_quick else 10_000,), strings),
        Program("map", (5000 if is_quick else 50_000,), map),
    ]


#: What represents the others in a quick run: memory, calls and both.
QUICK = ("trees", "richards", "map")

#: The heap that `garbage` has, and what it allocates in a round by its own count: 40 cells, an array, what holds both.
LIMIT = 64 << 20
ROUND = 40 * 24 + (16 + 1024) + 24
LASTING = 2000


def heap(context: Context) -> None:
    """10⁹ bytes through a heap of 64 MiB: the time that calls stand still for the collector, and what is allocated."""
    import wasmloom as wl

    pauses = context.table("pauses", "Pauses for the collector", clock="elapsed time", per="collection")
    memory = context.table("heap", "A gigabyte through 64 MiB", unit="bytes", clock="allocated for the guest")
    rounds = (10**8 if context.quick else 10**9) // ROUND
    expected = garbage(rounds, LASTING)
    tiers = [tier for tier in TIERS if tier != "auto" and context.wants(tier)]
    for tier in context.each(pauses, tiers):
        engine = wl.Engine(tier=tier)
        store = wl.Store(engine, memory_limit=LIMIT)
        run = wl.Instance(wl.Module(module("garbage"), engine), store=store).exports.run
        run(rounds // 10, LASTING)  # so that the heap is as large as it gets
        first = store.memory_used
        harness.check(tier, "garbage", run(rounds, LASTING), expected, 32)
        found = store.gc_statistics
        taken = sorted(found.pauses)
        if not taken:
            raise harness.WrongAnswer(f"{tier}: no collection in {rounds * ROUND} bytes")
        for name, pause in (
            ("median", taken[len(taken) // 2]), ("99 %", taken[len(taken) * 99 // 100]), ("longest", taken[-1]),
        ):  # fmt: skip
            pauses.rows.setdefault(name, {})[tier] = [pause]
        memory.rows.setdefault("after a tenth", {})[tier] = [float(first)]
        memory.rows.setdefault("at the end", {})[tier] = [float(store.memory_used)]
    pauses.notes.append(f"Of the last 512 collections at most, while {rounds * ROUND:,} bytes were allocated.")


def measure(context: Context) -> None:
    """Measure everything."""
    engines = context.engines(*CONTENDERS)
    table = context.table("programs", "Programs with objects", PAIRS)
    for program in context.each(table, programs(context.quick), 0.8, quick=QUICK):
        context.measure_programs(table, engines, program)
    context.notes(table, engines)
    table.notes.append("What other threads do for V8's collector isn't counted.")
    if not context.options.commits:
        heap(context)
