"""Compiles one module in a process of its own, and prints the thread's seconds and bytes of code, for ``making.py``.

    python benchmarks/drivers/making.py TIER FILE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import wasmloom as wl


def main() -> None:
    tier, file = sys.argv[1:]
    data = Path(file).read_bytes()
    engine = wl.Engine(tier=tier, translation="eager", cache=False)
    # What is loaded at the first use isn't counted.
    small = wl.Module('(module (func (export "f") (param i32) (loop (br_if 0 (local.get 0)))))', engine)
    used = engine.code_used
    start = time.thread_time()
    module = wl.Module(data, engine)
    seconds = time.thread_time() - start
    print(json.dumps({"seconds": seconds, "bytes": engine.code_used - used}))
    del small, module


if __name__ == "__main__":
    main()
