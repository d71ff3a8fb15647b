"""What settings cost: memories without guard pages, deterministic execution, fuel, addresses of 64 bits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wasmloom_bench import contenders, harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.results import Missing

TIERS = ("interpreter", "baseline", "compiler")


def measure(context: Context) -> None:
    """Measure everything."""
    _determinism(context)
    _memories(context)
    _addresses(context)


def _pairs(suffixes: tuple[str, ...], names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(f"{name}, {suffix}", name) for name in names for suffix in suffixes]


# --- memories ---------------------------------------------------------------------------------------------------------


def _memories(context: Context) -> None:
    tiers = tuple(tier for tier in TIERS if context.wants(tier))
    table = context.table("memories", "Memories without guard pages", _pairs(("checked",), tiers))
    engines: list[Any] = []
    for tier in tiers:
        for kind in ("guarded", "checked"):
            name = tier if kind == "guarded" else f"{tier}, {kind}"
            engine = context.made(name, functools.partial(contenders.Wasmloom, name, tier=tier, memory=kind))
            if engine is not None:
                engines.append(engine)
    programs: list[workloads.Workload] = [*workloads.WASMI[:3], *workloads.pointers()]
    for workload in context.each(table, programs, 0.4, workloads.QUICK):
        context.measure_programs(table, engines, workload)


# --- deterministic execution and fuel ---------------------------------------------------------------------------------

#: Program of ``programs/deterministic.wat`` → its argument.
PROGRAMS = {"calls": 20, "polynomial": 20_000, "mandelbrot": 1500, "vectors": 20_000, "integers": 20_000}
#: What engines are asked for, in words; and how.
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "deterministic": {"deterministic": True},
    "fuel": {"fuel": True},
    "both": {"deterministic": True, "fuel": True},
}


class _Wasmtime:
    """Wasmtime, asked for canonical NaNs, or for fuel."""

    warm_up = 0.0

    def __init__(self, name: str, deterministic: bool = False, fuel: bool = False) -> None:
        import wasmtime

        self.name = name
        self.trap: type[BaseException] = wasmtime.Trap
        config = wasmtime.Config()
        config.cranelift_nan_canonicalization = deterministic
        config.consume_fuel = fuel
        self._engine = wasmtime.Engine(config)
        self._wt, self._fuel = wasmtime, fuel

    def instantiate(self, wasm: bytes, imports: harness.Imports | None = None) -> Any:
        store = self._wt.Store(self._engine)
        if self._fuel:
            store.set_fuel(1 << 62)
        exports = self._wt.Instance(store, self._wt.Module(self._engine, wasm), []).exports(store)
        return _Exports(lambda name: lambda *arguments: exports[name](store, *arguments))


@dataclass(frozen=True)
class _Exports:
    function: Callable[[str], Callable[..., Any]]


@dataclass(frozen=True)
class _Function:
    """A function of the module, which must give the same bits in all contenders."""

    name: str
    agreement: workloads.Agreement

    def prepare(self, engine: Any) -> workloads.Prepared:
        wasm = harness.assemble((harness.PROGRAMS / "deterministic.wat").read_text(encoding="utf-8"))
        run = harness.prepared(engine.instantiate(wasm).function(self.name), PROGRAMS[self.name])
        self.agreement.check(engine.name, self.name, run(), 64)
        return run, lambda: None


def _determinism(context: Context) -> None:
    names = tuple(name for name in (*TIERS, "Wasmtime") if context.wants(name))
    table = context.table(
        "deterministic", "Deterministic execution and fuel", _pairs(("deterministic", "fuel", "both"), names)
    )
    engines: list[Any] = []
    for tier in names:
        for way, options in WAYS.items():
            name = f"{tier}, {way}" if way else tier
            make: Callable[[], Any]
            if tier == "Wasmtime":
                make = functools.partial(_Wasmtime, name, **options)
            else:
                make = functools.partial(contenders.Wasmloom, name, tier=tier, warm_up=0.1, **options)
            engine = context.made(name, make)
            if engine is not None:
                engines.append(engine)
    functions = [_Function(name, workloads.Agreement()) for name in PROGRAMS]
    for workload in context.each(table, functions, 0.35, ("calls", "mandelbrot", "integers")):
        context.measure_programs(table, engines, workload)
    table.notes.append(
        "The programs are mostly what more is done for: calls, and arithmetic with floats. Wasmtime is asked for"
        " canonical NaNs, and for fuel."
    )


# --- addresses of 64 bits ---------------------------------------------------------------------------------------------


class _Addressed:
    """A contender for programs with addresses of so many bits."""

    def __init__(self, engine: Any, target: str) -> None:
        self.engine = engine
        self.target = target
        self.name = engine.name if target == "wasm32" else f"{engine.name}, 64 bits"
        self.trap, self.warm_up = engine.trap, engine.warm_up

    def instantiate(self, wasm: bytes, imports: harness.Imports | None = None) -> harness.Guest:
        return self.engine.instantiate(wasm, imports)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Pointers:
    """A program with pointers, of the width that a contender is for."""

    program: workloads.Wide

    @property
    def name(self) -> str:
        return self.program.name

    def prepare(self, engine: Any) -> workloads.Prepared:
        program = self.program
        return workloads.Wide(program.name, program.count, program.agreement, engine.target).prepare(engine)


def _addresses(context: Context) -> None:
    engines = context.engines("interpreter", "baseline", "compiler", "Pulley", "Wasmtime")
    table = context.table(
        "addresses", "Addresses of 64 bits", _pairs(("64 bits",), tuple(engine.name for engine in engines))
    )
    try:
        for target in ("wasm32", "wasm64"):
            workloads.wide(target)
    except harness.Unsupported as error:
        table.missing.append(Missing("all", str(error)))
        return
    both = [_Addressed(engine, target) for engine in engines for target in ("wasm32", "wasm64")]
    programs = [_Pointers(program) for program in workloads.pointers()]
    for workload in context.each(table, programs, quick=("list", "quicksort", "words")):
        context.measure_programs(table, both, workload)
    table.notes.append(
        "Part of it is that pointers take twice as much memory: the links of list no longer fit the processor's first"
        " cache."
    )
