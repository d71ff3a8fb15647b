"""What a call across the border costs: Python → Wasm, and Wasm → Python, with two i32 arguments and one result.

    python benchmarks/calls.py

Nanoseconds per call. The guest that calls Python does so in a loop of its own; what that loop takes is subtracted.
All is measured twice: where Python has one thread, and where another one waits, so that we release the GIL for every
call (wasm3 never does).
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Collection

import contenders
import harness

MODULE = """
(module
  (import "env" "add" (func $host (param i32 i32) (result i32)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func $same (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "loop_host") (param $n i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $host (local.get $n) (i32.const 3)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func (export "loop_guest") (param $n i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (call $same (local.get $n) (i32.const 3)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum)))
"""

#: Calls per sample, written out ten at a time so that the caller's own loop hardly counts.
BATCH = 1000

#: Turns of the guest's loops: enough for the one entry not to count.
TURNS = 100_000


def python_add(a: int, b: int) -> int:
    """The import, and the baseline."""
    return a + b


def many(function: Callable[[int, int], int]) -> Callable[[], object]:
    """Call `function` `BATCH` times."""

    def run() -> None:
        for _ in range(BATCH // 10):
            function(3, 4), function(3, 4), function(3, 4), function(3, 4), function(3, 4)
            function(3, 4), function(3, 4), function(3, 4), function(3, 4), function(3, 4)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    contenders.add_options(parser, tiers=("interpreter", "compiler"), contenders=("wasmloom", "wasm3", "wasmtime"))
    args = parser.parse_args()

    report = harness.Report(
        "Calls between Python and Wasm (ns per call)", ["contender", "Python → Wasm", "Wasm → Python", "Wasm → Wasm"]
    )
    engines = contenders.chosen(args, report.missing)
    wasm = harness.assemble(MODULE)
    enter: dict[str, Callable[[], object]] = {"Python": many(python_add)}
    leave: dict[str, Callable[[], object]] = {}
    inside: dict[str, Callable[[], object]] = {}
    for engine in list(engines):
        try:
            guest = engine.instantiate(wasm, {("env", "add"): ("ii", "i", python_add)})
        except harness.Unsupported as error:
            report.missing.append(harness.Missing(engine.name, str(error)))
            engines.remove(engine)
            continue
        add, host, same = (guest.function(name) for name in ("add", "loop_host", "loop_guest"))
        harness.check(engine.name, "add", add(3, 4), 7, 32)
        for loop in (host, same):
            harness.check(engine.name, "loop", loop(TURNS), 1 + 3, 32)
        enter[engine.name] = many(add)
        leave[engine.name] = lambda host=host: host(TURNS)  # type: ignore[misc]
        inside[engine.name] = lambda same=same: same(TURNS)  # type: ignore[misc]
        for run in (enter[engine.name], leave[engine.name], inside[engine.name]):
            harness.warm_up(run, engine.warm_up)
    at_least = 0.001 if args.quick else 0.05

    def measure(what: str, names: Collection[str]) -> None:
        entered, left, stayed = (
            harness.alternate({name: run for name, run in runs.items() if name in names}, args.rounds, at_least)
            for runs in (enter, leave, inside)
        )
        for name, figure in entered.items():
            cells = [f"{figure.estimate / BATCH * 1e9:.0f}"]
            if name in left:
                cells.append(f"{(left[name].estimate - stayed[name].estimate) / TURNS * 1e9:.0f}")
                cells.append(f"{stayed[name].estimate / TURNS * 1e9:.1f}")
            else:
                cells += ["—", "—"]
            report.add(name + what, *cells)

    measure("", enter)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        measure(", another thread waits", leave)
    finally:
        done.set()
        other.join()
    report.notes.append("The row Python is a plain call of a Python function of two arguments.")
    report.show(engines)


if __name__ == "__main__":
    main()
