"""Guests in an event loop: how many per second, and what each costs in memory.

    python benchmarks/asyncio_guests.py [--guests 10000] [--awaits 100] [--rounds 5]

Every guest calls an import a number of times that is an ``async def`` function and yields to the event loop once; all
guests run concurrently in one loop. Beside them the same as plain coroutines of Python, which is the floor: a guest's
await includes one of those.

Memory is what the process's resident memory (VmRSS of ``/proc/self/status``) grows by until all wait for their first
await, in a fresh process for each contender. It includes the `asyncio.Task`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import multiprocessing
import time
from collections.abc import Callable, Coroutine
from typing import Any

import contenders
import harness
import million
import wasmloom as wl

#: Sums up what the import gives, which is 1; in `deep`, below 20 calls.
TEXT = """(module
  (import "env" "wait" (func $wait (result i32)))
  (func $main (export "main") (param $n i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (call $wait)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func $deep (export "deep") (param $depth i32) (param $n i32) (result i32)
    (if (result i32) (local.get $depth)
      (then (call $deep (i32.sub (local.get $depth) (i32.const 1)) (local.get $n)))
      (else (call $main (local.get $n))))))
"""

Call = Callable[[int], Coroutine[Any, Any, int]]


async def wait() -> int:
    await asyncio.sleep(0)
    return 1


async def plain(n: int) -> int:
    """What the guests do, in Python."""
    total = 0
    for _ in range(n):
        total += await wait()
    return total


def instance() -> wl.Instance:
    return wl.Instance(wl.Module(TEXT), {"env": {"wait": wait}})


def plain_calls() -> Call:
    return plain


def one_store() -> Call:
    return instance().exports.main.call_async  # type: ignore[no-any-return]


def deep() -> Call:
    call = instance().exports.deep.call_async
    return lambda n: call(20, n)


def store_each() -> Call:
    module = wl.Module(TEXT)
    return lambda n: wl.Instance(module, {"env": {"wait": wait}}).exports.main.call_async(n)


CONTENDERS: dict[str, Callable[[], Call]] = {
    "plain coroutines": plain_calls,
    "guests of one instance": one_store,
    "the same, below 20 calls": deep,
    "guests with an instance and a store each": store_each,
}


async def everything(call: Call, guests: int, awaits: int) -> tuple[list[int], int]:
    """Run all; gives their results, and the resident memory when all had begun to wait."""
    tasks = [asyncio.create_task(call(awaits)) for _ in range(guests)]
    await asyncio.sleep(0)
    used = million.resident()
    return await asyncio.gather(*tasks), used


def run(name: str, call: Call, guests: int, awaits: int) -> float:
    """Guests per second."""
    start = time.perf_counter()
    results, _ = asyncio.run(everything(call, guests, awaits))
    took = time.perf_counter() - start
    harness.check(name, "results", results, [awaits] * guests)
    return guests / took


def memory(name: str, guests: int) -> float:
    """Bytes per guest; in a process of its own."""
    call = CONTENDERS[name]()
    asyncio.run(everything(call, 10, 2))
    before = million.resident()
    results, used = asyncio.run(everything(call, guests, 2))
    harness.check(name, "results", results, [2] * guests)
    return (used - before) / guests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=10_000)
    parser.add_argument("--awaits", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny runs: whether it works")
    args = parser.parse_args()
    if args.quick:
        args.guests, args.awaits, args.rounds = 50, 5, 1

    report = harness.Report(
        f"{args.guests:,} concurrent guests that each await {args.awaits} times",
        ["contender", "guests per second", "per await", "over plain", "memory per guest"],
    )
    calls = {name: make() for name, make in CONTENDERS.items()}
    speeds = harness.scores(
        {name: functools.partial(run, name, call, args.guests, args.awaits) for name, call in calls.items()},
        args.rounds,
    )
    floor = speeds["plain coroutines"].estimate
    for name, speed in speeds.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            size = pool.apply(memory, (name, args.guests))
        each = 1 / speed.estimate / args.awaits
        report.add(
            name,
            f"{speed.estimate:,.0f} [{speed.low:,.0f} {speed.high:,.0f}]",
            harness.duration(each),
            harness.duration(each - 1 / floor / args.awaits) if speed.estimate != floor else "—",
            f"{size:,.0f} bytes",
        )
    report.show([contenders.Wasmloom()])


if __name__ == "__main__":
    main()
