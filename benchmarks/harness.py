"""What the benchmark scripts share: contenders behind one small interface, alternating measurement, statistics, tables.

Rules that every script keeps:

* All contenders run in one process and one run, taking turns, so that a change of clock speed or load hits all alike.
* Every answer is checked; a contender with a wrong answer is an error, not a result.
* A figure is a median; low and high are the 95 % bounds of that median, from bootstrap resampling with a fixed seed.
* What a contender can't run, or a package that isn't installed, is listed as missing with its reason.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PROGRAMS = Path(__file__).resolve().parent / "programs"

#: Import name (module, field) → (parameter letters, result letters, function). Letters: i I f F for i32 i64 f32 f64.
Imports = Mapping[tuple[str, str], tuple[str, str, Callable[..., Any]]]


class Unsupported(Exception):
    """A contender can't run this program; the message says why."""


class WrongAnswer(Exception):
    """A contender computed something else than expected."""


class Guest(Protocol):
    """An instance of a module."""

    def function(self, name: str) -> Callable[..., Any]:
        """The exported function `name`, as cheap to call as the package allows."""

    def write(self, address: int, data: bytes) -> None:
        """Copy `data` into the exported memory."""

    def read(self, address: int, size: int) -> bytes:
        """Copy out of the exported memory."""


class Engine(Protocol):
    """A contender."""

    name: str
    version: str

    def compile(self, wasm: bytes) -> object:
        """Decode, and do what the engine does before instantiation."""

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        """Compile (unless `module` comes from `compile`) and instantiate."""

    #: What a trap raises.
    trap: type[BaseException]


# --- contenders ---------------------------------------------------------------------------------------------------


class _WasmloomGuest:
    def __init__(self, instance: Any) -> None:
        self.exports = instance.exports

    def function(self, name: str) -> Callable[..., Any]:
        return getattr(self.exports, name)  # type: ignore[no-any-return]

    def write(self, address: int, data: bytes) -> None:
        self.exports.memory[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.exports.memory[address : address + size])


class Wasmloom:
    """This engine, with its default settings unless `options` for `wasmloom.Engine` are given."""

    def __init__(self, name: str = "wasmloom", **options: Any) -> None:
        import wasmloom

        self.name = name
        self.version = wasmloom.__version__
        self.trap: type[BaseException] = wasmloom.Trap
        self._wl = wasmloom
        self._engine = wasmloom.Engine(**options)

    def compile(self, wasm: bytes) -> object:
        return self._wl.Module(wasm, self._engine)

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        try:
            compiled = self.compile(wasm) if module is None else module
        except self._wl.CompileError as error:
            raise Unsupported(str(error)) from error
        given: dict[str, dict[str, Any]] = {}
        for (space, name), (_, _, function) in (imports or {}).items():
            given.setdefault(space, {})[name] = function
        return _WasmloomGuest(self._wl.Instance(compiled, given))


class _Wasm3Guest:
    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def function(self, name: str) -> Callable[..., Any]:
        try:
            return self.runtime.find_function(name)  # type: ignore[no-any-return]
        except RuntimeError as error:  # wasm3 translates here
            raise Unsupported(str(error)) from error

    def write(self, address: int, data: bytes) -> None:
        self.runtime.get_memory(0)[address : address + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.runtime.get_memory(0)[address : address + size])


class Wasm3:
    """wasm3 through its Python package. It doesn't validate."""

    name = "wasm3"
    trap: type[BaseException] = RuntimeError

    def __init__(self, stack: int = 1 << 20) -> None:
        import wasm3

        self.version = importlib.metadata.version("pywasm3")
        self._stack = stack
        self._environment = wasm3.Environment()

    def compile(self, wasm: bytes) -> object:
        try:
            return self._environment.parse_module(wasm)
        except RuntimeError as error:
            raise Unsupported(str(error)) from error

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        parsed: Any = self.compile(wasm) if module is None else module
        runtime = self._environment.new_runtime(self._stack)
        try:
            runtime.load(parsed)
            for (space, name), (params, results, function) in (imports or {}).items():
                parsed.link_function(space, name, f"{results or 'v'}({params})", function)
        except RuntimeError as error:
            raise Unsupported(str(error)) from error
        return _Wasm3Guest(runtime)


class _WasmtimeGuest:
    def __init__(self, store: Any, instance: Any) -> None:
        self.store = store
        self.exports = instance.exports(store)

    def function(self, name: str) -> Callable[..., Any]:
        function, store = self.exports[name], self.store
        return lambda *args: function(store, *args)

    def write(self, address: int, data: bytes) -> None:
        self.exports["memory"].write(self.store, data, address)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.exports["memory"].read(self.store, address, address + size))


class Wasmtime:
    """Wasmtime through its Python package: an optimising compiler, here for scale."""

    name = "wasmtime"

    def __init__(self) -> None:
        import wasmtime

        self.version = importlib.metadata.version("wasmtime")
        self.trap: type[BaseException] = wasmtime.Trap
        self._wt = wasmtime
        self._engine = wasmtime.Engine()

    def validate(self, wasm: bytes) -> None:
        """Only validate."""
        self._wt.Module.validate(self._engine, wasm)

    def compile(self, wasm: bytes) -> object:
        try:
            return self._wt.Module(self._engine, wasm)
        except self._wt.WasmtimeError as error:
            raise Unsupported(str(error).splitlines()[0]) from error

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        wt = self._wt
        types = {"i": wt.ValType.i32(), "I": wt.ValType.i64(), "f": wt.ValType.f32(), "F": wt.ValType.f64()}
        compiled: Any = self.compile(wasm) if module is None else module
        store = wt.Store(self._engine)
        linker = wt.Linker(self._engine)
        for (space, name), (params, results, function) in (imports or {}).items():
            signature = wt.FuncType([types[c] for c in params], [types[c] for c in results])
            linker.define(store, space, name, wt.Func(store, signature, function))
        return _WasmtimeGuest(store, linker.instantiate(store, compiled))


@dataclass
class Missing:
    """What could not be measured, and why."""

    contender: str
    reason: str
    what: str = "everything"


def engines(
    wanted: Iterable[str] = ("wasmloom", "wasm3", "wasmtime"), missing: list[Missing] | None = None
) -> list[Engine]:
    """The contenders among `wanted` that are installed; the others are added to `missing`."""
    makers: dict[str, Callable[[], Engine]] = {"wasmloom": Wasmloom, "wasm3": Wasm3, "wasmtime": Wasmtime}
    found = []
    for name in wanted:
        try:
            found.append(makers[name]())
        except ImportError as error:
            if missing is not None:
                missing.append(Missing(name, f"not installed ({error})"))
    return found


# --- programs -----------------------------------------------------------------------------------------------------


def assemble(text: str) -> bytes:
    """Text format to binary format."""
    from wasmloom.text.parser import parse_module

    return parse_module(text).binary


def build_c(sources: Sequence[Path], flags: Sequence[str] = ()) -> bytes:
    """Compile freestanding C to one module without an entry: WebAssembly 1.0, so that every contender runs it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.wasm"
        command = [
            *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-mcpu=mvp", "-O2"),
            *("-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic", "-fvisibility=hidden", "-Wl,--strip-all"),
            *(*flags, "-o", str(target), *map(str, sources)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the C compiler failed (pip install ziglang):\n{done.stderr}")
        return target.read_bytes()


# --- measuring ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A median with its 95 % bounds, all in one unit."""

    low: float
    estimate: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Figure:
        """The median of `samples`, and its bounds by bootstrap."""
        rng = random.Random(len(samples))
        medians = sorted(statistics.median(rng.choices(samples, k=len(samples))) for _ in range(1000))
        return cls(medians[25], statistics.median(samples), medians[974])

    def scaled(self, factor: float) -> Figure:
        """In another unit."""
        return Figure(self.low * factor, self.estimate * factor, self.high * factor)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hide what a library writes to the process's standard error (wasm3 prints every frame of a backtrace)."""
    sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def first_call(engine: Engine, run: Callable[[], object]) -> None:
    """Call once before measuring; a trap means that the contender can't run the program."""
    try:
        with silenced():
            run()
    except engine.trap as error:
        raise Unsupported(f"traps: {str(error).splitlines()[0]}") from error


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def calibrate(run: Callable[[], object], at_least: float, clock: Callable[[], float]) -> int:
    """How often to call `run` so that one sample takes `at_least` seconds."""
    count = 1
    while True:
        start = clock()
        for _ in range(count):
            run()
        took = clock() - start
        if took >= at_least:
            return count
        count = max(count * 2, math.ceil(count * at_least / took) if took > at_least / 20 else count * 10)


def alternate(
    runs: Mapping[str, Callable[[], object]],
    rounds: int = 7,
    at_least: float = 0.05,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, Figure]:
    """Seconds per call of each contender, sampled in turns.

    The default clock counts this thread's processor time, so that what else the machine does counts less. What uses
    several threads needs `time.perf_counter`.
    """
    counts = {name: calibrate(run, at_least, clock) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            repeat = range(counts[name])
            start = clock()
            for _ in repeat:
                run()
            samples[name].append((clock() - start) / counts[name])
    return {name: Figure.of(taken) for name, taken in samples.items()}


def scores(runs: Mapping[str, Callable[[], float]], rounds: int = 3) -> dict[str, Figure]:
    """Figures of contenders that measure themselves and return a score, in turns."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            samples[name].append(run())
    return {name: Figure.of(taken) for name, taken in samples.items()}


def check(contender: str, what: str, got: object, expected: object, bits: int | None = None) -> None:
    """Compare an answer; integers of `bits` are equal whatever their sign convention."""
    if bits is not None and isinstance(got, int) and isinstance(expected, int):
        got, expected = got % (1 << bits), expected % (1 << bits)
    if got != expected:
        raise WrongAnswer(f"{contender}, {what}: got {got!r}, expected {expected!r}")


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean, nan when there are none."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


# --- reporting ----------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Seconds in a readable unit with three or four digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def interval(figure: Figure) -> str:
    """``[low estimate high]``."""
    return f"[{duration(figure.low)} {duration(figure.estimate)} {duration(figure.high)}]"


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass
class Report:
    """A Markdown table with the conditions of the run, printed at the end."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """One row; it is also shown on stderr so that a long run can be watched."""
        self.rows.append(list(cells))
        print("  ".join(cells), file=sys.stderr, flush=True)

    def show(self, contenders: Iterable[Engine] = ()) -> None:
        """Print everything."""
        versions = ", ".join(f"{engine.name} {engine.version}" for engine in contenders)
        print(f"\n## {self.title}\n")
        print(f"{cpu_name()}, {os.cpu_count()} processors, CPython {platform.python_version()}; {versions}\n")
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]
        for row in (self.columns, ["-" * width for width in widths], *self.rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        for note in self.notes:
            print(f"\n{note}")
        if self.missing:
            print("\nMissing:")
            for entry in self.missing:
                print(f"* {entry.contender}, {entry.what}: {entry.reason}")


def node(script: str, *args: str) -> Any:
    """Run JavaScript with Node.js and return what it printed as JSON; `FileNotFoundError` when there is no Node.js."""
    done = subprocess.run(["node", "-e", script, *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsupported(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)
