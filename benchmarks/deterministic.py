"""What deterministic execution and fuel cost: the same programs in engines with and without them.

    python benchmarks/deterministic.py

Each figure is the time in relation to that of an engine of the same tier without either; less is better. The programs
(``benchmarks/programs/deterministic.wat``) are mostly what more is done for: calls, and arithmetic with floats. All
must give the same bits. Wasmtime is asked for canonical NaNs, and for fuel.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import contenders
import harness

#: Program → its argument.
PROGRAMS = {"calls": 20, "polynomial": 20_000, "mandelbrot": 1500, "vectors": 20_000, "integers": 20_000}
#: What engines are asked for, in words; and how.
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "deterministic": {"deterministic": True},
    "fuel": {"fuel": True},
    "both": {"deterministic": True, "fuel": True},
}


def wasmtime_with(name: str, deterministic: bool = False, fuel: bool = False) -> Callable[[], Any]:
    """A maker of instances of Wasmtime. Raises `harness.Unsupported` without the package."""
    try:
        import wasmtime
    except ImportError as error:
        raise harness.Unsupported(str(error)) from error
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = deterministic
    config.consume_fuel = fuel
    engine = wasmtime.Engine(config)

    def instance(wasm: bytes) -> Callable[[str], Callable[[int], int]]:
        store = wasmtime.Store(engine)
        if fuel:
            store.set_fuel(1 << 62)
        exports = wasmtime.Instance(store, wasmtime.Module(engine, wasm), []).exports(store)
        return lambda program: lambda argument: exports[program](store, argument)

    return instance


def engines(tiers: list[str]) -> Iterator[tuple[str, str, Callable[[bytes], Callable[[str], Any]]]]:
    """Contender, what it is asked for, and what makes an instance: a function that gives functions by name."""
    for tier in tiers:
        for way, options in WAYS.items():
            engine = contenders.Wasmloom(tier, tier=tier, **options)
            yield tier, way, lambda wasm, engine=engine: engine.instantiate(wasm).function
    for way, options in WAYS.items():
        yield "Wasmtime", way, wasmtime_with(way, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="comma-separated parts of program names")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tier", default="interpreter,baseline,compiler", help="comma-separated tiers")
    parser.add_argument("--quick", action="store_true", help="short samples")
    args = parser.parse_args()

    report = harness.Report("Deterministic execution and fuel, in relation to engines without them", [])
    wasm = harness.assemble((harness.PROGRAMS / "deterministic.wat").read_text(encoding="utf-8"))
    guests: dict[tuple[str, str], Callable[[str], Any]] = {}
    try:
        for name, way, instance in engines(args.tier.split(",")):
            guests[name, way] = instance(wasm)
    except harness.Unsupported as error:
        report.missing.append(harness.Missing("Wasmtime", str(error)))
    names = list(dict.fromkeys(name for name, _ in guests))
    asked = [way for way in WAYS if way]
    report.columns = ["program", *(f"{name}, {way}" for name in names for way in asked)]
    ratios: dict[tuple[str, str], list[float]] = {(name, way): [] for name in names for way in asked}
    for program, argument in PROGRAMS.items():
        if args.only and not any(part in program for part in args.only.split(",")):
            continue
        runs = {key: harness.prepared(function(program), argument) for key, function in guests.items()}
        wanted: object = None
        for (name, way), run in runs.items():
            got = run()
            wanted = got if wanted is None else wanted
            harness.check(f"{name}, {way}", program, got, wanted, 64)
            harness.warm_up(run, 0.1)
        figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.03)
        for name, way in ratios:
            ratios[name, way].append(figures[name, way].estimate / figures[name, ""].estimate)
        report.add(program, *(f"{ratios[key][-1]:.2f}" for key in ratios))
    report.add("geometric mean", *(f"{harness.geometric_mean(found):.2f}" for found in ratios.values()))
    if ("Wasmtime", "") in guests:
        report.notes.append(f"Wasmtime {importlib.metadata.version('wasmtime')}.")
    report.show([contenders.Wasmloom()])


if __name__ == "__main__":
    main()
