"""Runs one program from its start to its end, in a process of its own, through a package: for ``suites/real.py``.

    python drivers/whole.py wasmloom-TIER|wasmtime PLAN

The plan is JSON: `wasm`, a file; `arguments`, the program's name first; `directories`, guest → host. A library has
`call`, the name of a function, and `texts`: it is given each of these, ending in a zero, and where to write how long
its result is; it returns where that is, which is printed. `code` is a file where compiled code is kept. With
`only_compile` that is made, and nothing runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def call_library(plan: dict[str, Any], function: Callable[[str], Callable[..., Any]], memory: Any) -> None:
    """Call what a library exports; `memory` has `write(address, bytes)` and `read(address, end)`."""
    allocate = function("malloc")
    pointers = []
    for text in plan["texts"]:
        data = text.encode() + b"\0"
        pointers.append(allocate(len(data)))
        memory.write(pointers[-1], data)
    length = allocate(4)
    result = function(plan["call"])(*pointers, length)
    size = int.from_bytes(memory.read(length, length + 4), "little")
    sys.stdout.buffer.write(memory.read(result, result + size))
    sys.stdout.flush()


def run_wasmloom(plan: dict[str, Any], tier: str) -> int:
    """Carry the plan out with this engine."""
    import wasmloom as wl
    from wasmloom.wasi import Wasi

    module = wl.Module.from_file(plan["wasm"], wl.Engine(tier=tier))
    if plan.get("only_compile"):
        return 0
    wasi = Wasi(args=plan["arguments"], preopens=plan["directories"])
    if "call" not in plan:
        return wasi.run(module)
    exports = wasi.instantiate(module).exports

    class Memory:
        def write(self, address: int, data: bytes) -> None:
            exports.memory[address : address + len(data)] = data

        def read(self, address: int, end: int) -> bytes:
            return bytes(exports.memory[address:end])

    call_library(plan, exports.__getitem__, Memory())
    return 0


def run_wasmtime(plan: dict[str, Any]) -> int:
    """Carry the plan out with the `wasmtime` package."""
    import wasmtime as wt

    engine = wt.Engine()
    code = Path(plan["code"]) if "code" in plan else None
    if code is not None and code.exists():
        module = wt.Module.deserialize_file(engine, str(code))
    else:
        module = wt.Module(engine, Path(plan["wasm"]).read_bytes())
    if plan.get("only_compile"):
        assert code is not None
        code.write_bytes(module.serialize())
        return 0
    store, linker, config = wt.Store(engine), wt.Linker(engine), wt.WasiConfig()
    config.argv = plan["arguments"]
    for guest, host in plan["directories"].items():
        config.preopen_dir(host, guest)
    config.inherit_stdin()
    config.inherit_stdout()
    config.inherit_stderr()
    store.set_wasi(config)
    linker.define_wasi()
    exports = linker.instantiate(store, module).exports(store)
    if "call" in plan:

        class Memory:
            def write(self, address: int, data: bytes) -> None:
                exports["memory"].write(store, data, address)

            def read(self, address: int, end: int) -> bytes:
                return bytes(exports["memory"].read(store, address, end))

        call_library(plan, lambda name: lambda *given: exports[name](store, *given), Memory())
        return 0
    try:
        exports["_start"](store)
    except wt.ExitTrap as exit:
        return int(exit.code)
    return 0


def main() -> int:
    """The command line; the program's status."""
    engine, plan = sys.argv[1], json.loads(sys.argv[2])
    package, _, tier = engine.partition("-")
    return run_wasmloom(plan, tier) if package == "wasmloom" else run_wasmtime(plan)


if __name__ == "__main__":
    sys.exit(main())
