"""What all suites share: contenders behind one small interface, answers, and measuring in turns.

Rules that every suite keeps:

* All contenders run in one run, taking turns, so that a change of clock speed or load hits all alike. V8, and what may
  take its process down, run in processes of their own, which measure themselves and exclude their start.
* What compiles a program while it runs gets time to do so first; the report says how much.
* Every answer is checked; a contender with a wrong answer gets no figure, and the run fails.
* What a contender can't run, or a package that isn't installed, is listed as missing with its reason.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class Inapplicable(Unsupported):
    """The program has no form for this contender: that it is missing says nothing."""


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


# --- programs -----------------------------------------------------------------------------------------------------


def assemble(text: str) -> bytes:
    """Text format to binary format."""
    from wasmloom.text.parser import parse_module

    return parse_module(text).binary


def build_c(sources: Sequence[Path], flags: Sequence[str] = (), cpu: str = "mvp", target: str = "wasm32") -> bytes:
    """Compile freestanding C to one module without an entry: WebAssembly 1.0, so that every contender runs it.

    `cpu`: another version, as Zig names it ("mvp+simd128"). `target`: "wasm64" for addresses of 64 bits. Raises
    `Unsupported` when there is no compiler.
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
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise Unsupported(f"the C compiler (pip install ziglang) failed: {lines[-1]}")
        return output.read_bytes()


# --- measuring ----------------------------------------------------------------------------------------------------


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
        raise Unsupported(f"traps: {(str(error).splitlines() or [type(error).__name__])[0]}") from error


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


class Sampler:
    """Seconds per call, each time it is called; how many calls a sample has is found out at the first one.

    The default clock counts this thread's processor time, so that what else the machine does counts less. What uses
    several threads needs `time.perf_counter`.
    """

    def __init__(
        self, run: Callable[[], object], at_least: float, clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._run = run
        self._at_least = at_least
        self._clock = clock
        self._count = 0

    def __call__(self) -> float:
        if not self._count:
            self._count = calibrate(self._run, self._at_least, self._clock)
        return sample(self._run, self._count, self._clock) / self._count


@dataclass
class Turns:
    """Samples of contenders, those of a round in the same position; `again` are those of the one measured twice."""

    samples: dict[Any, list[Any]]
    again: list[Any] = field(default_factory=list)


def take_turns(
    samplers: Mapping[Key, Callable[[], Any]],
    rounds: int,
    *,
    least: int = 3,
    seconds: float = math.inf,
    twin: Key | None = None,
    failed: Callable[[Key, Exception], None] | None = None,
) -> Turns:
    """One sample of each contender in each round, in turns; every second round in the opposite order.

    After `seconds` no further round begins once there are `least`. `twin` is measured twice in each round, as the first
    and the last one or near. A contender that raises an exception is told to `failed` and left out; without that,
    the exception goes on.
    """
    samples: dict[Key, list[Any]] = {name: [] for name in samplers}
    again: list[Any] = []
    start = time.perf_counter()
    for turn in range(rounds + 1):
        order: list[tuple[Key, bool]] = [(name, False) for name in samples]
        if twin in samples:
            order.append((twin, True))
        for name, second in order if turn % 2 == 0 else reversed(order):
            if name not in samples:
                continue
            try:
                taken = samplers[name]()
            except Exception as error:  # an adapter's, too
                if failed is None:
                    raise
                failed(name, error)
                del samples[name]
                continue
            if turn > 0:  # the first one calibrates
                (again if second else samples[name]).append(taken)
        if turn >= least and time.perf_counter() - start > seconds:
            break
    return Turns(dict(samples), again if twin in samples else [])


def check(contender: str, what: str, got: object, expected: object, bits: int | None = None) -> None:
    """Compare an answer; integers of `bits` are equal whatever their sign convention. Raises `WrongAnswer`."""
    if bits is not None and isinstance(got, int) and isinstance(expected, int):
        got, expected = got % (1 << bits), expected % (1 << bits)
    if got != expected:
        raise WrongAnswer(f"{contender}, {what}: got {abbreviated(got)}, expected {abbreviated(expected)}")


def abbreviated(value: object) -> str:
    """A value as text, in one line that isn't too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
