"""What the benchmark scripts share: contenders behind one small interface, alternating measurement, statistics, tables.

Rules that every script keeps:

* All contenders run in one run, taking turns, so that a change of clock speed or load hits all alike. V8, and what may
  take its process down, run in processes of their own, which measure themselves and exclude their start.
* What compiles a program while it runs gets time to do so first; the report says how much.
* Every answer is checked; a contender with a wrong answer is an error, not a result.
* A figure is a median; low and high are the 95 % bounds of that median, from bootstrap resampling with a fixed seed.
* What a contender can't run, or a package that isn't installed, is listed as missing with its reason.
"""

from __future__ import annotations

import contextlib
import functools
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
from typing import Any, Protocol, TypeVar

#: What identifies a contender in a measurement.
Key = TypeVar("Key")

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
    #: What a trap raises.
    trap: type[BaseException]
    #: Seconds that a program runs before it is measured, for those that compile it meanwhile.
    warm_up: float

    def compile(self, wasm: bytes) -> object:
        """Decode, and do what the engine does before instantiation. Raises `Unsupported`."""

    def code_size(self, module: object) -> int | None:
        """Bytes that `compile` made, where the package tells."""

    def instantiate(self, wasm: bytes, imports: Imports | None = None, module: object = None) -> Guest:
        """Compile (unless `module` comes from `compile`) and instantiate. Raises `Unsupported`."""

    def program(self, wasm: bytes) -> Timed:
        """A WASI program as something to time: its ``_start``, in a fresh instance per call. Raises `Unsupported`."""


class Timed(Protocol):
    """A call that measures itself, because a clock in this process wouldn't be right."""

    def __call__(self) -> Any:
        """Call once."""

    def timed(self, count: int) -> float:
        """Call `count` times; the seconds of processor time that this took."""


class Clock:
    """A function for guests to import: milliseconds of the thread's processor time.

    It can go faster than it should, for programs that run for a fixed time; contenders in other processes have one of
    their own instead.
    """

    def __init__(self, haste: float = 1) -> None:
        self.haste = haste

    def __call__(self) -> int:
        return int(time.thread_time() * 1000 * self.haste) & 0x7FFF_FFFF


@dataclass
class Missing:
    """What could not be measured, and why."""

    contender: str
    reason: str
    what: str = "everything"


# --- programs -----------------------------------------------------------------------------------------------------


def assemble(text: str) -> bytes:
    """Text format to binary format."""
    from wasmloom.text.parser import parse_module

    return parse_module(text).binary


def build_c(
    sources: Sequence[Path], flags: Sequence[str] = (), cpu: str = "mvp", target: str = "wasm32"
) -> bytes:
    """Compile freestanding C to one module without an entry: WebAssembly 1.0, so that every contender runs it.

    `cpu`: another version, as Zig names it ("mvp+simd128"). `target`: "wasm64" for addresses of 64 bits.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.wasm"
        command = [
            *(sys.executable, "-m", "ziglang", "cc", "-target", f"{target}-freestanding", f"-mcpu={cpu}", "-O2"),
            *("-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic", "-fvisibility=hidden", "-Wl,--strip-all"),
            *(*flags, "-o", str(output), *map(str, sources)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the C compiler failed (pip install ziglang):\n{done.stderr}")
        return output.read_bytes()


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


def prepared(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """A call as something to time. A contender in another process measures itself (see `Timed`)."""
    prepare = getattr(function, "prepared", functools.partial(functools.partial, function))
    return prepare(*arguments)


def sample(run: Callable[[], object], count: int, clock: Callable[[], float] = time.thread_time) -> float:
    """Seconds that `count` calls take, by `clock` or by the contender's own."""
    timed = getattr(run, "timed", None)
    if timed is not None:
        return timed(count)  # type: ignore[no-any-return]
    repeat = range(count)
    start = clock()
    for _ in repeat:
        run()
    return clock() - start


def warm_up(run: Callable[[], object], at_least: float) -> None:
    """Call for so many seconds, for contenders that compile what runs often."""
    end, count = time.perf_counter() + at_least, 1
    while (start := time.perf_counter()) < end:
        sample(run, count)
        if time.perf_counter() - start < at_least / 20:
            count *= 2


def calibrate(run: Callable[[], object], at_least: float, clock: Callable[[], float] = time.thread_time) -> int:
    """How often to call `run` so that one sample takes `at_least` seconds."""
    count = 1
    while True:
        took = sample(run, count, clock)
        if took >= at_least:
            return count
        count = max(count * 2, math.ceil(count * at_least / took) if took > at_least / 20 else count * 10)


def alternate(
    runs: Mapping[Key, Callable[[], object]],
    rounds: int = 7,
    at_least: float = 0.05,
    clock: Callable[[], float] = time.thread_time,
    failed: Callable[[Key, Unsupported], None] | None = None,
) -> dict[Key, Figure]:
    """Seconds per call of each contender, sampled in turns.

    The default clock counts this thread's processor time, so that what else the machine does counts less. What uses
    several threads needs `time.perf_counter`. A contender that gives up in the course of it is told to `failed` and
    left out; without that, its `Unsupported` is raised.
    """
    counts: dict[Key, int] = {}
    samples: dict[Key, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name in list(samples):
            try:
                if turn == 0:
                    counts[name] = calibrate(runs[name], at_least, clock)
                else:
                    samples[name].append(sample(runs[name], counts[name], clock) / counts[name])
            except Unsupported as error:
                if failed is None:
                    raise
                failed(name, error)
                del samples[name]
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
            same: dict[tuple[str, str], list[str]] = {}
            for entry in self.missing:
                same.setdefault((entry.contender, entry.reason), []).append(entry.what)
            for (contender, reason), what in same.items():
                print(f"* {contender}, {', '.join(what)}: {reason}")
