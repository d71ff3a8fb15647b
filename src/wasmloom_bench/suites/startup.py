"""How long until a module can run: decoding and validating, an instance and its first call, importing the package."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from wasmloom_bench import contenders, harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing

#: What `wasmloom.Engine` takes as `translation` → what a table calls it.
MODES = {"lazy-translation": "wasmloom", "lazy": "wasmloom, lazy", "eager": "wasmloom, eager"}
#: Modules of wasmi-benchmarks, by size.
MODULES = ("coremark.wasm", "bz2.wasm", "pulldown-cmark.wasm", "spidermonkey.wasm")

#: Contender → what a program that uses it imports. wasmloom loads its parts when they are first named.
IMPORTS = {
    "wasmloom": "import wasmloom; wasmloom.Module, wasmloom.Instance, wasmloom.Store",
    "wasmloom, nothing used": "import wasmloom",
    "wasm3": "import wasm3",
    "Wasmtime": "import wasmtime",
}

ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'


def measure(context: Context) -> None:
    """Measure everything."""
    engines = {engine.name: engine for engine in context.engines("interpreter", "wasm3", "Wasmtime")}
    _modules(context, engines)
    _first_calls(context, engines)
    _imports(context, engines)


def _ways(engines: dict[str, Any], wasm: bytes) -> dict[str, Callable[[], object]]:
    """Everything that gets one module ready."""
    runs: dict[str, Callable[[], object]] = {}
    if "interpreter" in engines:
        for mode, name in MODES.items():
            engine = contenders.Wasmloom(tier="interpreter", translation=mode)
            runs[name] = lambda engine=engine: engine.compile(wasm)  # type: ignore[misc]
    if wasmtime := engines.get("Wasmtime"):
        runs["Wasmtime, validation only"] = lambda: wasmtime.validate(wasm)
        runs["Wasmtime"] = lambda: wasmtime.compile(wasm)
    if wasm3 := engines.get("wasm3"):
        runs["wasm3"] = lambda: wasm3.compile(wasm)
    return runs


def _modules(context: Context, engines: dict[str, Any]) -> None:
    table = context.table(
        "modules", "A module made ready",
        [("wasmloom", "Wasmtime, validation only"), ("wasmloom", "Wasmtime"), ("wasmloom", "wasm3")],
        clock="elapsed time",
    )  # fmt: skip
    modules: dict[str, bytes] = {}
    try:
        modules["programs in C"] = workloads.kernel()
    except harness.Unsupported as error:
        table.missing.append(Missing("all", str(error), "programs in C"))
    for name in MODULES:
        path = workloads.module(context.options.programs, name)
        if path is None:
            table.missing.append(Missing("all", "not in a folder of --programs", name))
        else:
            wasm = path.read_bytes()
            modules[f"{name}, {len(wasm) / 1e6:.2f} MB"] = wasm
    for row in context.each(table, list(modules), 0.6):
        samplers = {}
        for name, run in _ways(engines, modules[row]).items():
            try:
                with harness.silenced():
                    run()
            except harness.Unsupported as error:
                context.failed(table, row)(name, error)
            else:
                samplers[name] = harness.Sampler(run, 0.01, time.perf_counter)
        context.measure(table, row, samplers, 5)
    table.notes += [
        "wasmloom validates all and translates functions when they are first called; lazy: it validates then, too;"
        " eager: it translates all at once.",
        "Wasmtime compiles all, in several threads; wasm3 only parses.",
    ]


def _first_calls(context: Context, engines: dict[str, Any]) -> None:
    table = context.table(
        "first-call", "From the bytes of a small module to the result of its first call",
        [("interpreter", "wasm3"), ("interpreter", "Wasmtime")], clock="elapsed time",
    )  # fmt: skip
    wasm = harness.assemble(ADD)
    for row in context.each(table, ["add"], 0.4):
        samplers = {}
        for name, engine in engines.items():

            def run(engine: Any = engine) -> None:
                engine = engine.without_cache()
                harness.check(engine.name, "add", engine.instantiate(wasm).function("add")(40, 2), 42, 32)

            samplers[name] = harness.Sampler(run, context.at_least, time.perf_counter)
        context.measure(table, row, samplers)


def import_seconds(name: str) -> float:
    """Seconds that importing takes in a fresh process, Python's own start not counted."""
    script = f"import time; start = time.perf_counter(); {IMPORTS[name]}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise harness.Unsupported(done.stderr.strip().splitlines()[-1])
    return float(done.stdout)


def _imports(context: Context, engines: dict[str, Any]) -> None:
    pairs = [("wasmloom", "Wasmtime"), ("wasmloom, nothing used", "Wasmtime")]
    table = context.table("import", "Importing the package", pairs, clock="elapsed time, in fresh processes")
    there = {"wasmloom": "interpreter", "wasmloom, nothing used": "interpreter"}
    for row in context.each(table, ["import"]):
        names = [name for name in IMPORTS if there.get(name, name) in engines]
        context.measure(table, row, {name: lambda name=name: import_seconds(name) for name in names})  # type: ignore[misc]
