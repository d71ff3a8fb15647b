"""Runs one module once, in a process of its own, and prints when what happened, in JSON: for ``suites/tiers.py``.

    python drivers/first_result.py TIER FILE FOLDER END FUNCTION ARGUMENT...

Seconds: `import`, what importing the package takes, and since then `ready`, when there is an instance; `first`, when
there is a first result: the guest calls ``bench.start``, or else the function returns; `end`, when the function
returns, unless END is 0. A program that imports WASI is run with the files of FOLDER; of others FUNCTION is called with
the ARGUMENTs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Enough(Exception):
    """There is a first result, and the rest doesn't matter."""


def main() -> None:
    """The command line."""
    tier, file, folder, to_the_end, function, *arguments = sys.argv[1:]
    data = Path(file).read_bytes()
    start = time.perf_counter()
    import wasmloom as wl

    engine_type, store_type, module_type, instance_type = wl.Engine, wl.Store, wl.Module, wl.Instance  # loaded by name
    start, marks = time.perf_counter(), {"import": time.perf_counter() - start}
    clock = 0

    def clock_ms() -> int:
        """A second later each time: CoreMark, which waits for one, then does the same work however fast it is."""
        nonlocal clock
        clock += 1000
        return clock

    def bench_start() -> None:
        marks["first"] = time.perf_counter() - start
        if to_the_end == "0":
            raise Enough

    engine = engine_type(tier=tier)
    module = module_type(data, engine)
    store = store_type(engine)
    imports: dict[str, dict[str, Any]] = {
        "env": {"clock_ms": clock_ms},
        "bench": {"start": bench_start, "end": lambda: None},
    }
    program = any(wanted.module == "wasi_snapshot_preview1" for wanted in module.imports)
    if program:
        from wasmloom.wasi import Wasi

        sink = open(os.devnull, "wb")  # noqa: SIM115 (open until the end)
        wasi = Wasi(args=["program"], stdin=b"", stdout=sink, stderr=sink, preopens={".": folder})
        imports |= wasi.imports()
    instance = instance_type(module, imports, store=store)
    marks["ready"] = time.perf_counter() - start
    try:
        if program:
            marks["result"] = wasi.start(instance)
        else:
            marks["result"] = getattr(instance.exports, function)(*map(int, arguments))
        marks["end"] = time.perf_counter() - start
        marks.setdefault("first", marks["end"])
    except Enough:
        marks["result"] = 0
    print(json.dumps(marks), flush=True)
    os._exit(0)  # what still compiles in the background has no part in this


if __name__ == "__main__":
    main()
