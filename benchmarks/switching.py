"""What it gains that compiled code switches stacks itself instead of calling the runtime.

    python benchmarks/switching.py [--node PATH] [--originals FOLDER]
    python benchmarks/switching.py --tier interpreter        (times only, while developing)

The table of https://github.com/wasmfx/wasmfxtime/pull/225, rebuilt: the time with ``stack_switching="native"`` over
that with ``stack_switching="libcall"``, beside the pull request's ratio, which compares Wasmtime with and without that
change. The asyncify variants don't switch stacks: they are the control, about 1. Then the times, and those of peers
that can run the program.

The programs of the first column are our own under the same names, from ``benchmarks/programs/stacks``: `wasmfx` is
written in the text format, `fiber` in C over a small library, whose core is stack switching. ``--originals`` names a
folder with builds of https://github.com/wasmfx/benchfx: ``c10m_wasmfx.wasm``, ``micro/suspend_resume/bench.wat`` and so
on, in any subfolders; they get rows of their own.

wasmloom runs in this process, Wasmtime and V8 in processes of their own, all in turns. Wasmtime's package has a setting
for stack switching, and aborts when a program uses it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import contenders
import harness
import remote
import stacks

#: The pull request's ratios; 1.0 and above are its noise.
SEED = {
    "c10m_asyncify": 1.0000,
    "c10m_wasmfx": 0.6701,
    "sieve_asyncify": 1.0099,
    "sieve_wasmfx": 0.3834,
    "skynet_asyncify": 1.0122,
    "skynet_wasmfx": 0.5818,
    "state_asyncify": 0.9943,
    "state_wasmfx": 0.2236,
    "micro/suspend_resume": 0.1674,
    "micro/2resumes_same_function": 0.2102,
}

#: Our variants, under the names of the table.
VARIANTS = {"asyncify": "asyncify", "text": "wasmfx", "fiber": "fiber"}

#: Program of ours → its name in the table.
MICRO = {"suspend_resume": "micro/suspend_resume", "two_resumes": "micro/2resumes_same_function"}

#: Sizes for compiled code: some tenths of a second or more, spent on what the pull request's programs spend theirs on.
SIZES = {
    "c10m": 10_000_000,
    "sieve": 8_000,
    "skynet": 7,
    "state": 10_000_000,
    "suspend_resume": 20_000_000,
    "two_resumes": 20_000_000,
}


def program(wasm: bytes) -> stacks.Prepare:
    """A WASI program, which checks its own answer and ends with a status."""

    def prepare(engine: harness.Engine) -> Callable[[], object]:
        run = engine.program(wasm)
        harness.first_call(engine, run)
        return run

    return prepare


def exported(wasm: bytes) -> stacks.Prepare:
    """The exported function ``run``, without arguments and results."""

    def prepare(engine: harness.Engine) -> Callable[[], object]:
        run = harness.prepared(engine.instantiate(wasm).function("run"))
        harness.first_call(engine, run)
        return run

    return prepare


def ours(args: argparse.Namespace, missing: list[harness.Missing]) -> Iterator[tuple[str, str, stacks.Prepare]]:
    """The programs of this project: name, name in the pull request's table, and how to run each."""
    for name, modules in stacks.built(args, list(SIZES), missing).items():
        size = stacks.sized(name, args, SIZES)
        for variant, wasm in modules.items():
            title = MICRO.get(name) or f"{name}_{VARIANTS[variant]}"
            yield title, title, stacks.run_of(wasm, name, size)


def originals(folder: Path, only: str | None) -> Iterator[tuple[str, str, stacks.Prepare]]:
    """The programs of the pull request that are in `folder`."""
    for name in SEED:
        ours = next((ours for ours, title in MICRO.items() if title == name), name.split("_")[0])
        if only is not None and ours not in only.split(","):
            continue
        found = sorted(folder.rglob(f"{name}/bench.wat" if "/" in name else f"{name}.wasm"))
        if found and "/" in name:
            yield f"benchfx {name}", name, exported(harness.assemble(found[0].read_text()))
        elif found:
            yield f"benchfx {name}", name, program(found[0].read_bytes())


def pairs(engines: Sequence[harness.Engine]) -> list[tuple[str, str]]:
    """The names of native and libcall variants of the same tier."""
    names = [engine.name for engine in engines]
    candidates = [(name, f"{name.removesuffix('native')}libcall") for name in names if name.endswith(" native")]
    return [pair for pair in candidates if pair[1] in names]


def peers(args: argparse.Namespace, missing: list[harness.Missing]) -> list[harness.Engine]:
    """V8 and Wasmtime, with stack switching, in processes of their own."""
    makers: dict[str, Callable[[], harness.Engine]] = {
        "v8": lambda: remote.V8(args.node, [remote.STACK_SWITCHING], 0.02 if args.quick else args.warm_up),
        "wasmtime": lambda: remote.Isolated("Wasmtime", stack_switching=True),
    }
    found = []
    for name in args.contenders.split(","):
        try:
            if name in makers:
                found.append(makers[name]())
        except harness.Unsupported as error:
            missing.append(harness.Missing(name, str(error)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stacks.add_options(parser)
    parser.add_argument("--originals", type=Path, action="append", default=[], help="a folder with benchfx's programs")
    contenders.add_options(
        parser, tiers=("compiler",), contenders=("wasmloom", "v8", "wasmtime"), switching=contenders.SWITCHING
    )
    parser.set_defaults(warm_up=0.5)
    args = stacks.parsed(parser)

    report = harness.Report("Native stack switching over runtime calls", [])
    engines: list[harness.Engine] = []
    if "wasmloom" in args.contenders.split(","):
        engines += contenders.tiers(args, report.missing)
    ratios = pairs(engines)
    engines += peers(args, report.missing)
    names = [engine.name for engine in engines]
    report.columns = ["program", "seed", *(pair[0].removeprefix("wasmloom ") + " / libcall" for pair in ratios), *names]
    rows = [*ours(args, report.missing)]
    for folder in args.originals:
        rows += originals(folder, args.only)
    worse = []
    for title, seed, prepare in rows:
        times = stacks.measure(engines, {title: prepare}, args, report.missing)
        cells = []
        for native, libcall in ratios:
            if (native, title) not in times or (libcall, title) not in times:
                cells.append("—")
                continue
            ratio = times[native, title] / times[libcall, title]
            cells.append(f"{ratio:.3f}")
            if "asyncify" not in title and ratio > SEED.get(seed, 1):
                worse.append(f"{title} ({native})")
        report.add(
            title,
            f"{SEED[seed]:.3f}" if seed in SEED else "—",
            *cells,
            *(harness.duration(times[name, title]) if (name, title) in times else "—" for name in names),
        )
    if ratios:
        report.notes.append(f"Gains less than the pull request: {', '.join(worse) or 'none'}.")
    report.notes += contenders.notes(engines)
    report.show(engines)


if __name__ == "__main__":
    main()
