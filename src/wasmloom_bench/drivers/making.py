"""Compiles one module in a process of its own, and prints seconds and bytes of code, for ``suites/compile.py``.

    python drivers/making.py interpreter|baseline|compiler|wasmtime FILE

The seconds are processor time of the thread, or elapsed time for the last two, which use all processors.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

#: What is loaded at the first use isn't counted.
SMALL = '(module (func (export "f") (param i32) (loop (br_if 0 (local.get 0)))))'


def wasmtime(data: bytes) -> dict[str, float]:
    """With Wasmtime's compiler."""
    import wasmtime as wt

    engine = wt.Engine()
    wt.Module(engine, SMALL)
    start = time.perf_counter()
    wt.Module(engine, data)
    return {"seconds": time.perf_counter() - start}


def wasmloom(data: bytes, tier: str) -> dict[str, float]:
    """With one of our tiers."""
    import wasmloom as wl

    clock: Callable[[], float] = time.perf_counter if tier == "compiler" else time.thread_time
    engine = wl.Engine(tier=tier, translation="eager", cache=False)
    small = wl.Module(SMALL, engine)
    used = engine.code_used
    start = clock()
    module = wl.Module(data, engine)
    seconds = clock() - start
    found = {"seconds": seconds, "bytes": float(engine.code_used - used)}
    del small, module
    return found


def main() -> None:
    """The command line."""
    kind, file = sys.argv[1:]
    data = Path(file).read_bytes()
    print(json.dumps(wasmtime(data) if kind == "wasmtime" else wasmloom(data, kind)))


if __name__ == "__main__":
    main()
