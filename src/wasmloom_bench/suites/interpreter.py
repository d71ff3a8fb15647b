"""Interpreters: the wasmi table, the public programs, CoreMark."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from wasmloom_bench import harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing

CONTENDERS = ("interpreter", "wasm3", "Pulley", "pywasm")
PAIRS = [("interpreter", "wasm3"), ("interpreter", "Pulley"), ("interpreter", "pywasm")]


def measure(context: Context) -> None:
    """Measure everything."""
    engines = context.engines(*CONTENDERS)
    _wasmi(context, engines)
    _public(context, [engine for engine in engines if engine.name != "pywasm"])
    coremark_table(context, [engine for engine in engines if engine.name != "pywasm"], PAIRS[:2])


class _Compile:
    """A row that isn't a program: compile and validate the C programs' module."""

    name = "compile_and_validate"

    def prepare(self, engine: Any) -> workloads.Prepared:
        if not hasattr(engine, "without_cache"):
            raise harness.Inapplicable("in a process of its own")
        engine = engine.without_cache()
        wasm = workloads.kernel()
        return lambda: engine.compile(wasm), lambda: None


class _Instantiate:
    """A row that isn't a program: an instance of that module."""

    name = "instantiate"

    def prepare(self, engine: Any) -> workloads.Prepared:
        if not hasattr(engine, "without_cache"):
            raise harness.Inapplicable("in a process of its own")
        wasm = workloads.kernel()
        module = None if engine.name == "wasm3" else engine.compile(wasm)  # wasm3 loads a parsed module only once
        return lambda: engine.instantiate(wasm, None, module), lambda: None


def _wasmi(context: Context, engines: list[Any]) -> None:
    table = context.table("wasmi", "The table of wasmi issue 339, with programs of our own under the same names", PAIRS)
    # Pulley, as Wasmtime, compiles in several threads.
    first: list[workloads.Workload] = [_Compile(), _Instantiate()]
    for row in context.each(table, first, 0.1, workloads.QUICK):
        context.measure_programs(table, engines, row, clock=time.perf_counter)
    for row in context.each(table, workloads.WASMI, 0.35, workloads.QUICK):
        context.measure_programs(table, engines, row)
    context.notes(table, engines)
    table.notes += [
        "wasm3 doesn't validate, translates a function at its first use, and its instantiate includes parsing.",
        "compile_and_validate and instantiate are elapsed time, the others processor time.",
    ]


def _public(context: Context, engines: list[Any]) -> None:
    found, absent = workloads.public(context.options.programs)
    programs: list[workloads.Workload] = [*found, *workloads.pointers()]
    table = context.table("programs", "Programs of wasmi-benchmarks and rust-benchmarks, and of our own", PAIRS[:2])
    table.missing += [Missing("all", "not in a folder of --programs", name) for name in absent if context.chosen(name)]
    costs = context.call_costs(engines)
    for workload in context.each(table, programs, 0.85, workloads.QUICK):
        context.measure_programs(table, engines, workload, costs)
    context.notes(table, engines, costs)


#: How much faster than the processor's time the clock goes that CoreMark sees; it would run for ten seconds and more.
HASTE = 10

#: So often a run is tried whose score is 0: its results are wrong, or it ran for less than its ten seconds, because the
#: machine was slow, or the code not yet compiled, when it found out how often to iterate.
ATTEMPTS = 5


def coremark(engine: Any, wasm: bytes, haste: float) -> Callable[[], float]:
    """A function that runs the program once in a fresh instance and returns its score."""
    imports = {("env", "clock_ms"): ("", "i", harness.Clock(haste))}
    module = engine.compile(wasm) if engine.name != "wasm3" else None

    def run() -> float:
        for _ in range(ATTEMPTS):
            score = float(engine.instantiate(wasm, imports, module).function("run")())
            if score > 0:
                return score * haste
        raise harness.WrongAnswer(f"{engine.name}: {ATTEMPTS} times CoreMark found an error in its own results")

    return run


def coremark_table(context: Context, engines: list[Any], pairs: list[tuple[str, str]], part: float = 1.0) -> None:
    """CoreMark's score in these contenders; `part` of the suite's time that is left is for it."""
    path = workloads.module(context.options.programs, "coremark.wasm")
    table = context.table("coremark", "CoreMark", pairs, unit="score", better="more")
    if path is None:
        table.missing.append(Missing("all", "no coremark.wasm in a folder of --programs", "CoreMark"))
        return
    wasm = path.read_bytes()
    haste = HASTE * (2 if context.quick else 1)
    for _ in context.each(table, ["CoreMark"], part):
        samplers = {}
        note = context.failed(table, "CoreMark")
        for engine in engines:
            try:
                samplers[engine.name] = coremark(engine, wasm, haste)
                if engine.warm_up:  # of the module, whose code the instances share
                    coremark(engine, wasm, 2 * haste)()
            except Exception as error:
                note(engine.name, error)
                samplers.pop(engine.name, None)
        context.measure(table, "CoreMark", samplers, 2 if context.quick else 5)
    table.notes.append(
        f"The program's clock goes {haste} times as fast as the processor's time, and the score is corrected."
    )
