"""Measures in a process of its own what something takes in memory, and prints bytes, for ``suites/memory.py``.

    python drivers/memory.py WHAT CONTENDER NUMBER

The bytes are what the process's resident memory (VmRSS of ``/proc/self/status``) grows by, for each of NUMBER.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

TIERS = ("interpreter", "baseline", "compiler", "auto")

#: A module with a memory of one page that nobody touches.
SMALL = '(module (memory (export "memory") 1) (func (export "run") (param i32) (result i32) (local.get 0)))'

#: Sums up what the import gives, which is 1; in `deep`, below 20 calls.
AWAITING = """(module
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


def resident() -> int:
    """The process's resident memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS in /proc/self/status: this needs Linux")


def importing(contender: str, number: int) -> float:
    """What importing the package takes."""
    before = resident()
    if contender in TIERS:
        import wasmloom as wl

        wl.Module, wl.Instance, wl.Store  # noqa: B018 (loaded when they are named)
    else:
        __import__({"Wasmtime": "wasmtime", "wasm3": "wasm3"}[contender])
    return resident() - before


def instances(contender: str, number: int) -> float:
    """Instances of one module, each in a store of its own."""
    make: Callable[[], Any]
    if contender in TIERS:
        import wasmloom as wl

        module = wl.Module(SMALL, wl.Engine(tier=contender))
        make = lambda: wl.Instance(module)  # noqa: E731
    elif contender == "Wasmtime":
        import wasmtime as wt

        engine = wt.Engine()
        compiled = wt.Module(engine, SMALL)

        def make() -> Any:
            store = wt.Store(engine)
            return store, wt.Instance(store, compiled, [])
    else:
        import wasm3

        from wasmloom.text.parser import parse_module

        wasm, environment = parse_module(SMALL).binary, wasm3.Environment()

        def make() -> Any:
            runtime = environment.new_runtime(1 << 16)
            parsed = environment.parse_module(wasm)
            runtime.load(parsed)
            return runtime, parsed

    kept = [make() for _ in range(10)]
    before = resident()
    kept += [make() for _ in range(number)]
    return (resident() - before) / number


def suspended(contender: str, number: int, depth: int = 0) -> float:
    """Continuations that have run to a suspension, with their places in a table."""
    import wasmloom as wl
    from wasmloom_bench.programs.stacks import answers, build

    engine = wl.Engine(tier=contender)
    store = wl.Store(engine, memory_limit=1 << 40)
    exports = wl.Instance(wl.Module(build.assemble("million"), engine), {}, store=store).exports
    exports.fill(1000, depth)
    before = resident()
    total = exports.fill(number, depth)
    if total != answers.below(number):
        raise SystemExit(f"WrongAnswer: fill gave {total}")
    return (resident() - before) / number


def abandoned(contender: str, number: int) -> float:
    """Continuations that ran to a suspension and were dropped: what is left of each, when many have been."""
    import wasmloom as wl
    from wasmloom_bench.programs.stacks import answers, build

    engine = wl.Engine(tier=contender)
    cycle = wl.Instance(wl.Module(build.assemble("million"), engine)).exports.cycle
    part = max(1, number // 10)
    cycle(part, 0)
    before = resident()
    for _ in range(10):
        if cycle(part, 0) != answers.below(part):
            raise SystemExit("WrongAnswer: cycle")
    return max(0.0, (resident() - before) / (10 * part))


async def wait() -> int:
    """The import."""
    await asyncio.sleep(0)
    return 1


async def plain(n: int) -> int:
    """What the guests do, in Python."""
    total = 0
    for _ in range(n):
        total += await wait()
    return total


Call = Callable[[int], Coroutine[Any, Any, int]]


def guest(contender: str, function: str = "main", own_store: bool = False) -> Call:
    """What a guest is called with; "Python" is a coroutine."""
    if contender == "Python":
        return plain
    import wasmloom as wl

    module = wl.Module(AWAITING, wl.Engine(tier=contender))
    if own_store:
        return lambda n: wl.Instance(module, {"env": {"wait": wait}}).exports.main.call_async(n)
    call = getattr(wl.Instance(module, {"env": {"wait": wait}}).exports, function).call_async
    return (lambda n: call(20, n)) if function == "deep" else call


async def everything(call: Call, guests: int, awaits: int) -> tuple[list[int], int]:
    """Run all; gives their results, and the resident memory when all had begun to wait."""
    tasks = [asyncio.create_task(call(awaits)) for _ in range(guests)]
    await asyncio.sleep(0)
    used = resident()
    return await asyncio.gather(*tasks), used


def awaiting(contender: str, number: int, function: str = "main", own_store: bool = False) -> float:
    """Guests that wait in an event loop, with their tasks."""
    call = guest(contender, function, own_store)
    asyncio.run(everything(call, 10, 2))
    before = resident()
    results, used = asyncio.run(everything(call, number, 2))
    if results != [2] * number:
        raise SystemExit("WrongAnswer: the guests' results")
    return (used - before) / number


WHAT: dict[str, Callable[[str, int], float]] = {
    "import": importing,
    "instance": instances,
    "suspended": suspended,
    "suspended, 20 calls deep": lambda contender, number: suspended(contender, number, 20),
    "abandoned": abandoned,
    "awaiting": awaiting,
    "awaiting, 20 calls deep": lambda contender, number: awaiting(contender, number, "deep"),
    "awaiting, own store": lambda contender, number: awaiting(contender, number, own_store=True),
}


def main() -> None:
    """The command line."""
    what, contender, number = sys.argv[1:]
    print(json.dumps(WHAT[what](contender, int(number))))


if __name__ == "__main__":
    main()
