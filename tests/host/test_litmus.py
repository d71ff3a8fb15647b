"""What threads may see of each other's atomic accesses: classic litmus tests, in all tiers.

Atomic instructions are sequentially consistent (threads proposal, "Consistency"), so each thread's accesses happen in
their order, in one order of all. Every round has words of its own; a thread goes through the rounds as fast as it can,
and all begin a batch together. An outcome that no such order gives must never be seen. `WASMLOOM_LITMUS_ROUNDS` is the
number of rounds.
"""

from __future__ import annotations

import os
import threading
from itertools import permutations, product
from typing import Any, NamedTuple

import pytest

import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.patience import PATIENCE

ROUNDS = int(os.environ.get("WASMLOOM_LITMUS_ROUNDS", "20000"))
BATCH = 4000
#: Bytes of a round: a cache line for each of two variables, and eight words of what threads have read.
STRIDE, READS = 256, 128


class Access(NamedTuple):
    """A write of a value to a variable (0 or 1), or a read (None)."""

    variable: int
    value: int | None


X, Y = 0, 1
TESTS: dict[str, tuple[tuple[Access, ...], ...]] = {
    "message passing": ((Access(X, 1), Access(Y, 1)), (Access(Y, None), Access(X, None))),
    "store buffering": ((Access(X, 1), Access(Y, None)), (Access(Y, 1), Access(X, None))),
    "load buffering": ((Access(X, None), Access(Y, 1)), (Access(Y, None), Access(X, 1))),
    "2+2W": ((Access(X, 1), Access(Y, 2), Access(Y, None)), (Access(Y, 1), Access(X, 2), Access(X, None))),
    "IRIW": (
        (Access(X, 1),),
        (Access(Y, 1),),
        (Access(X, None), Access(Y, None)),
        (Access(Y, None), Access(X, None)),
    ),
}


#: Those in which a fence behind each write is enough, on a processor whose reads keep their order.
FENCED = ("message passing", "store buffering", "2+2W")


def allowed(test: tuple[tuple[Access, ...], ...]) -> set[tuple[int, ...]]:
    """What the reads of all threads can give, thread by thread, in any order of all accesses."""
    found = set()
    numbers = [number for number, accesses in enumerate(test) for _ in accesses]
    for order in set(permutations(numbers)):
        memory = [0, 0]
        next_one = [0] * len(test)
        reads: list[list[int]] = [[] for _ in test]
        for number in order:
            access = test[number][next_one[number]]
            next_one[number] += 1
            if access.value is None:
                reads[number].append(memory[access.variable])
            else:
                memory[access.variable] = access.value
        found.add(tuple(value for values in reads for value in values))
    return found


def text(test: tuple[tuple[Access, ...], ...], way: str) -> str:
    """A module with a function for each thread: it waits at the gate (a word at 0), then goes through a batch."""
    functions = []
    read = 0
    for number, accesses in enumerate(test):
        body = []
        for access in accesses:
            at = 64 * (1 + access.variable)
            if access.value is not None:
                write = {
                    "store": f"(i32.atomic.store offset={at} (local.get $at) (i32.const {access.value}))",
                    "xchg": f"(drop (i32.atomic.rmw.xchg offset={at} (local.get $at) (i32.const {access.value})))",
                    # What orders plain accesses.
                    "fence": f"(i32.store offset={at} (local.get $at) (i32.const {access.value})) atomic.fence",
                }[way]
                body.append(write)
            else:
                load = "i32.load" if way == "fence" else "i32.atomic.load"
                body.append(
                    f"(i32.store offset={64 + READS + 4 * read} (local.get $at) ({load} offset={at} (local.get $at)))"
                )
                read += 1
        functions.append(
            f"""(func (export "t{number}") (param $rounds i32) (local $at i32)
              (drop (i32.atomic.rmw.add (i32.const 4) (i32.const 1)))
              (loop $gate (br_if $gate (i32.eqz (i32.atomic.load (i32.const 0)))))
              (loop $again
                {" ".join(body)}
                (local.set $at (i32.add (local.get $at) (i32.const {STRIDE})))
                (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1))))))"""
        )
    pages = (BATCH * STRIDE >> 16) + 2
    return f'(module (import "" "memory" (memory {pages} {pages} shared)) {" ".join(functions)})'


def seen(test: tuple[tuple[Access, ...], ...], way: str, engine: wl.Engine) -> dict[tuple[int, ...], int]:
    """Outcome → how many rounds had it."""
    module = wl.Module(text(test, way), engine)
    found: dict[tuple[int, ...], int] = {}
    reads = sum(access.value is None for accesses in test for access in accesses)
    for _ in range(-(-ROUNDS // BATCH)):
        memory = wl.SharedMemory((BATCH * STRIDE >> 16) + 2, (BATCH * STRIDE >> 16) + 2)
        guests = [wl.Instance(module, {"": {"memory": memory}}).exports for _ in test]
        threads = [
            threading.Thread(target=guest[f"t{number}"], args=(BATCH,)) for number, guest in enumerate(guests)
        ]
        for thread in threads:
            thread.start()
        while memory[4] != len(test):  # until all are at the gate
            pass
        memory[0:1] = b"\1"
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        words = memoryview(memory)[: len(memory) // 4 * 4].cast("I")
        for number in range(BATCH):
            first = (64 + READS + STRIDE * number) // 4
            outcome = tuple(words[first : first + reads])
            found[outcome] = found.get(outcome, 0) + 1
    return found


#: The tests, and how they write.
WAYS = [(test, way) for test in TESTS for way in ("store", "xchg", "fence") if way != "fence" or test in FENCED]


@pytest.mark.parametrize("name", ["interpreter", "baseline", "compiler"])
@pytest.mark.parametrize(("test", "way"), WAYS)
def test_no_outcome_that_sequential_consistency_forbids(test: str, way: str, name: str) -> None:
    accesses = TESTS[test]
    right = allowed(accesses)
    assert {outcome for outcome in product(range(3), repeat=len(next(iter(right)))) if outcome not in right}
    found: Any = seen(accesses, way, engine_of(name))
    assert sum(found.values()) == -(-ROUNDS // BATCH) * BATCH
    assert set(found) <= right, {outcome: count for outcome, count in found.items() if outcome not in right}
