"""How long until a big module can run: compile and validate, by translation mode, and the import of the package.

    python benchmarks/startup.py --wasm spidermonkey.wasm --wasm pulldown-cmark.wasm [--tier compiler]

With the tier compiler also how long compiling to machine code takes, and loading that from the disk cache. Both modules
are in ``res/wasm`` of https://github.com/wasmi-labs/wasmi-benchmarks. Peers: Wasmtime's `Module.validate` (validates,
nothing else), its `Module` (compiles to machine code), and wasm3's parser (which doesn't validate).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import contenders
import harness

#: What `wasmloom.Engine` takes as `translation`, and what that means.
MODES = {
    "lazy-translation": "validate all, translate at first call (default)",
    "lazy": "validate and translate at first call",
    "eager": "validate and translate all",
}


def contestants(
    wasm: bytes, peers: Sequence[harness.Engine], missing: list[harness.Missing], what: str
) -> dict[str, Callable[[], object]]:
    """Everything that is timed for one module."""
    runs: dict[str, Callable[[], object]] = {}
    for mode, meaning in MODES.items():
        engine = contenders.Wasmloom(tier="interpreter", translation=mode)
        runs[f"wasmloom {mode}: {meaning}"] = lambda engine=engine: engine.compile(wasm)  # type: ignore[misc]
    for peer in peers:
        if isinstance(peer, contenders.Wasmtime):
            runs["wasmtime Module.validate"] = lambda peer=peer: peer.validate(wasm)  # type: ignore[misc]
            runs["wasmtime Module: compile"] = lambda peer=peer: peer.compile(wasm)  # type: ignore[misc]
        elif isinstance(peer, contenders.Wasmloom) and "compiler" in peer.name:
            fresh = peer.without_cache()
            runs[f"{peer.name}: compile"] = lambda fresh=fresh: fresh.compile(wasm)  # type: ignore[misc]
            runs[f"{peer.name}: from the disk cache"] = lambda peer=peer: peer.compile(wasm)  # type: ignore[misc]
        elif isinstance(peer, contenders.Wasm3):
            runs["wasm3 parse_module"] = lambda peer=peer: peer.compile(wasm)  # type: ignore[misc]
    able = {}
    for name, run in runs.items():
        try:
            with harness.silenced():
                run()
        except harness.Unsupported as error:
            missing.append(harness.Missing(name, str(error), what))
        else:
            able[name] = run
    return able


#: Package → what a program that uses it imports. wasmloom loads its parts when they are first named.
IMPORTS = {
    "wasmloom (nothing used)": "import wasmloom",
    "wasmloom": "import wasmloom; wasmloom.Module, wasmloom.Instance, wasmloom.Store",
    "wasm3": "import wasm3",
    "wasmtime": "import wasmtime",
}


def import_seconds(package: str) -> float:
    """Seconds that importing a package takes in a fresh process, the interpreter's own start not counted."""
    script = f"import time; start = time.perf_counter(); {IMPORTS[package]}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wasm", type=Path, action="append", default=[], help="a module; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    contenders.add_options(parser, contenders=("wasmloom", "wasm3", "wasmtime"))
    args = parser.parse_args()

    report = harness.Report("Start-up", ["what", "which", "low", "estimate", "high", "× Module.validate"])
    engines = contenders.chosen(args, report.missing)
    for path in args.wasm:
        wasm = path.read_bytes()
        runs = contestants(wasm, engines, report.missing, path.name)
        figures = harness.alternate(runs, args.rounds, 0.01, time.perf_counter)
        base = figures.get("wasmtime Module.validate")
        for name, figure in figures.items():
            ratio = f"{figure.estimate / base.estimate:.2f}" if base else "—"
            cells = (harness.duration(value) for value in (figure.low, figure.estimate, figure.high))
            report.add(f"{path.name} ({len(wasm) / 1e6:.2f} MB)", name, *cells, ratio)
    packages = [name for name in IMPORTS if any(engine.name.startswith(name.split()[0]) for engine in engines)]
    imports = harness.scores({p: lambda p=p: import_seconds(p) for p in packages}, 2 * args.rounds + 1)  # type: ignore[misc]
    for package, figure in imports.items():
        cells = (harness.duration(value) for value in (figure.low, figure.estimate, figure.high))
        report.add("import", package, *cells, "")
    report.show(engines)


if __name__ == "__main__":
    main()
