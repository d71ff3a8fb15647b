"""Programs that switch stacks: by the instructions, by fibers in C over them, and by the same fibers over asyncify.

    python benchmarks/stacks.py [--only sieve,pi] [--tier interpreter,compiler] [--node PATH] [--scale 0.1]

The programs are those of ``benchmarks/programs/stacks``; what each does and answers is written there. Variants:

* text: written in the text format with `resume` and `suspend`; `switch`: with `switch` instead;
* fiber: C over a small fiber library, whose core is stack switching;
* asyncify: the same C, where Binaryen's asyncify makes functions that save and restore their frames.

All variants run in wasmloom and, where there is a Node.js with ``--experimental-wasm-wasmfx``, in V8, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import contenders
import harness
import remote
from programs.stacks import answers, build

#: The programs with all variants, then those that are only in text.
COMPARED = [name for name in answers.ANSWERS if name in build.C_PROGRAMS]
OTHERS = [name for name in answers.ANSWERS if name not in COMPARED and not name.endswith("_switch")]

#: Variant → what its module's name ends in.
VARIANTS = {"text": "", "switch": "_switch", "fiber": "_fiber", "asyncify": "_asyncify"}


def variants(name: str, folder: Path) -> dict[str, Path]:
    """Variant → module, of those that could be built."""
    files = {variant: folder / f"{name}{suffix}.wasm" for variant, suffix in VARIANTS.items()}
    return {variant: path for variant, path in files.items() if path.exists()}


#: How a contender gets ready to run a program: the call to time, made once, its answer checked.
Prepare = Callable[[harness.Engine], Callable[[], object]]


def run_of(wasm: bytes, name: str, size: int, function: str = "run") -> Prepare:
    """An exported function of one of the folder's programs, which answers as its ``run`` does."""
    answer = answers.expected(name, size)

    def prepare(engine: harness.Engine) -> Callable[[], object]:
        run = harness.prepared(engine.instantiate(wasm).function(function), size)
        harness.first_call(engine, run)
        harness.check(engine.name, name, run(), answer, 64)
        return run

    return prepare


def measure(
    engines: Sequence[harness.Engine],
    programs: Mapping[str, Prepare],
    args: argparse.Namespace,
    missing: list[harness.Missing],
) -> dict[tuple[str, str], float]:
    """Median seconds by contender and program, in turns."""
    runs = {}
    for engine in engines:
        for name, prepare in programs.items():
            try:
                run = prepare(engine)
                harness.warm_up(run, engine.warm_up)
            except (harness.Unsupported, engine.trap) as error:
                missing.append(harness.Missing(engine.name, f"did not run: {error}", name))
            else:
                runs[engine.name, name] = run

    def failed(key: tuple[str, str], error: harness.Unsupported) -> None:
        missing.append(harness.Missing(key[0], f"did not run to the end: {error}", key[1]))

    figures = harness.alternate(runs, args.rounds, 0.001 if args.quick else 0.02, failed=failed)
    return {key: figure.estimate for key, figure in figures.items()}


def sized(name: str, args: argparse.Namespace, sizes: Mapping[str, int] = answers.SIZES) -> int:
    """How large to run the program `name`."""
    if args.quick:
        return min(answers.SMALL[name][-1], sizes[name])
    return sizes[name] if sizes[name] < 1000 else max(1000, int(sizes[name] * args.scale))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the scripts about stack switching have in common, apart from `contenders.add_options`."""
    parser.add_argument("--only", help="comma-separated names of programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor for sizes of 1000 and more")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options, with one round for ``--quick``."""
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    return args


def built(
    args: argparse.Namespace, names: Sequence[str], missing: list[harness.Missing]
) -> dict[str, dict[str, bytes]]:
    """Program → variant → module of those programs in `names` that the options of `add_options` want."""
    wanted = [name for name in names if args.only is None or name in args.only.split(",")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for reason in build.build_all(folder, wanted, install=not args.quick):
            missing.append(harness.Missing("the build", reason, "variants in C"))
        return {
            name: {variant: path.read_bytes() for variant, path in variants(name, folder).items()} for name in wanted
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    contenders.add_options(parser, contenders=("wasmloom", "v8"), switching=("native",))
    parser.set_defaults(warm_up=0.5)
    args = parsed(parser)

    report = harness.Report("Stack switching", ["program", "size", "contender", *VARIANTS, "fiber / asyncify"])
    engines = contenders.chosen(args, report.missing, v8_flags=[remote.STACK_SWITCHING])
    gains: dict[str, list[float]] = {engine.name: [] for engine in engines}
    over_v8: dict[str, list[float]] = {engine.name: [] for engine in engines if engine.name != "v8"}
    for name, modules in built(args, [*COMPARED, *OTHERS], report.missing).items():
        size = sized(name, args)
        programs = {f"{name} {variant}": run_of(wasm, name, size) for variant, wasm in modules.items()}
        times = measure(engines, programs, args, report.missing)
        for engine in engines:
            own = {variant: times.get((engine.name, f"{name} {variant}")) for variant in VARIANTS}
            gain = "—"
            if own["fiber"] is not None and own["asyncify"] is not None:
                gains[engine.name].append(own["fiber"] / own["asyncify"])
                gain = f"{gains[engine.name][-1]:.3f}"
            cells = ("—" if seconds is None else harness.duration(seconds) for seconds in own.values())
            report.add(name, f"{size:,}", engine.name, *cells, gain)
            if engine.name in over_v8:
                for variant, seconds in own.items():
                    there = times.get(("v8", f"{name} {variant}"))
                    if seconds is not None and there is not None and variant != "asyncify":
                        over_v8[engine.name].append(seconds / there)
    for contender, ratios in gains.items():
        if ratios:
            report.notes.append(
                f"{contender}, fiber / asyncify: geometric mean {harness.geometric_mean(ratios):.3f}, largest"
                f" {max(ratios):.3f}; less is better, and below 1 stack switching is faster."
            )
    for contender, ratios in over_v8.items():
        if ratios:
            mean = harness.geometric_mean(ratios)
            report.notes.append(f"{contender} / v8, {len(ratios)} programs with stack switching: {mean:.3f}.")
    report.notes += contenders.notes(engines)
    report.show(engines)


if __name__ == "__main__":
    main()
