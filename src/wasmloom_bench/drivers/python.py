"""Runs one module with a contender's Python package: the same commands as ``v8.mjs``.

python drivers/python.py Wasmtime '{"stack_switching": true}'
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

if path := os.environ.get("WASMLOOM_BENCH_PATH"):  # for an engine of another commit, see `wasmloom_bench.commits`
    sys.path[:0] = path.split(os.pathsep)

from wasmloom_bench import contenders, harness


class Driver:
    """The commands, as methods; each takes what the command has and gives the reply."""

    def __init__(self, engine: harness.Engine) -> None:
        self.engine = engine
        self.wasm = b""
        self.module: object = None
        self.guest: harness.Guest | None = None
        self.program: harness.Timed | None = None

    def hello(self) -> dict[str, Any]:
        return {"version": self.engine.version, "clock": "the thread's processor time"}

    def compile(self, file: str) -> dict[str, Any]:
        self.wasm = Path(file).read_bytes()
        start = time.perf_counter()
        self.module = self.engine.compile(self.wasm)
        return {"seconds": time.perf_counter() - start, "size": self.engine.code_size(self.module)}

    def instantiate(self, clocks: list[tuple[str, str, float]], arguments: list[str]) -> dict[str, Any]:
        if arguments:
            self.program = self.engine.program(self.wasm)
            return {}
        imports = {(space, name): ("", "i", harness.Clock(haste)) for space, name, haste in clocks}
        self.guest = self.engine.instantiate(self.wasm, imports, self.module)
        return {}

    def call(self, name: str, arguments: list[tuple[str, str]], count: int) -> dict[str, Any]:
        assert self.guest is not None
        values = [float(text) if type in ("f32", "f64") else int(text) for type, text in arguments]
        run = harness.prepared(self.guest.function(name), *values)
        result: Any = None
        start = time.thread_time()
        for _ in range(count):
            result = run()
        seconds = time.thread_time() - start
        results = () if result is None else result if isinstance(result, list | tuple) else (result,)
        return {"results": [str(value) for value in results], "seconds": seconds}

    def start(self) -> dict[str, Any]:
        assert self.program is not None
        try:
            return {"status": 0, "seconds": self.program.timed(1)}
        except harness.WrongAnswer:
            return {"status": 1, "seconds": 0}

    def read(self, address: int, size: int) -> dict[str, Any]:
        assert self.guest is not None
        return {"data": base64.b64encode(self.guest.read(address, size)).decode()}

    def write(self, address: int, data: str) -> dict[str, Any]:
        assert self.guest is not None
        self.guest.write(address, base64.b64decode(data))
        return {}


def main() -> None:
    """The command line: a class of `contenders`, and the keyword arguments for it in JSON."""
    replies, sys.stdout = sys.stdout, sys.stderr
    driver = Driver(getattr(contenders, sys.argv[1])(**json.loads(sys.argv[2])))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(driver, command.pop("do"))(**command)
        except driver.engine.trap as error:
            reply = {"error": str(error).splitlines()[0], "trap": True}
        except Exception as error:
            reply = {"error": str(error).splitlines()[0], "trap": False}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
