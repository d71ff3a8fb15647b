"""What calls across the border cost, in both directions, with data, and awaited.

All is measured where Python has one thread; and once more where another one waits, so that we release the GIL for
every call (wasm3 never does).
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from wasmloom_bench import harness, workloads
from wasmloom_bench.context import Context
from wasmloom_bench.drivers import memory as driver
from wasmloom_bench.results import Missing, Table

#: Calls per sample, written out ten at a time so that the caller's own loop hardly counts.
BATCH = 1000
#: Turns of the guest's loops: enough for the one entry not to count.
TURNS = 20_000
COUNTS = (0, 2, 8)
#: Bytes that are passed through memory.
SIZES = (16, 65_536)
CONTENDERS = ("interpreter", "compiler", "wasm3", "Wasmtime")


def _module() -> bytes:
    """Functions that take 0, 2 and 8 numbers and sum them up; loops that call such an import, and their own."""
    imports, functions = [], ['(memory (export "memory") 2)']
    for count in COUNTS:
        params = "(param" + " i32" * count + ")" if count else ""
        imports.append(f'(import "env" "sum{count}" (func $host{count} {params} (result i32)))')
        body = "(i32.const 0)"
        for i in range(count):
            body = f"(i32.add {body} (local.get {i}))"
        functions.append(f'(func $same{count} (export "sum{count}") {params} (result i32) {body})')
        arguments = "(local.get $n)" * count
        for kind in ("host", "same"):
            functions.append(
                f'(func (export "loop_{kind}{count}") (param $n i32) (result i32) (local $sum i32) (loop $again'
                f" (local.set $sum (call ${kind}{count} {arguments}))"
                " (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (local.get $sum))"
            )
    functions.append(
        '(func (export "total") (param $at i32) (param $size i32) (result i32) (local $sum i32)'
        " (local.set $sum (i32.load8_u (local.get $at)))"
        " (i32.add (local.get $sum) (i32.load8_u (i32.add (local.get $at) (i32.sub (local.get $size) (i32.const 1))))))"
    )
    return harness.assemble("\n".join(["(module", *imports, *functions, ")"]))


#: Imports of a fixed number of parameters, as programs have them.
HOST: dict[int, Callable[..., int]] = {
    0: lambda: 0,
    2: lambda a, b: a + b,
    8: lambda a, b, c, d, e, f, g, h: a + b + c + d + e + f + g + h,
}


def many(function: Callable[..., Any], arguments: Sequence[Any]) -> Callable[[], object]:
    """Call `function` `BATCH` times."""
    f, a = function, arguments

    def run() -> None:
        for _ in range(BATCH // 10):
            f(*a), f(*a), f(*a), f(*a), f(*a), f(*a), f(*a), f(*a), f(*a), f(*a)

    return run


class _Python:
    """Plain calls in Python, for scale."""

    name = "Python"
    trap: type[BaseException] = RecursionError
    warm_up = 0.0


@dataclass(frozen=True)
class _In:
    """Calls from Python."""

    count: int

    @property
    def name(self) -> str:
        return f"{self.count} arguments"

    def prepare(self, engine: Any) -> workloads.Prepared:
        function = HOST[self.count] if isinstance(engine, _Python) else _guest(engine).function(f"sum{self.count}")
        arguments = tuple(range(1, self.count + 1))
        harness.check(engine.name, self.name, function(*arguments), sum(arguments), 32)
        return many(function, arguments), lambda: None


@dataclass(frozen=True)
class _Out:
    """Calls of Python, in a loop of the guest; or of its own function, with `kind` "same"."""

    count: int
    kind: str = "host"

    @property
    def name(self) -> str:
        return f"{self.count} arguments"

    def prepare(self, engine: Any) -> workloads.Prepared:
        loop = _guest(engine).function(f"loop_{self.kind}{self.count}")
        harness.check(engine.name, self.name, loop(TURNS), self.count, 32)
        return harness.prepared(loop, TURNS), lambda: None


def _guest(engine: Any) -> harness.Guest:
    imports = {("env", f"sum{count}"): ("i" * count, "i", HOST[count]) for count in COUNTS}
    return engine.instantiate(_module(), imports)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Buffer:
    """Bytes that are written into memory, and a call that looks at them; or they are read back, too."""

    size: int
    numpy: bool = False

    @property
    def name(self) -> str:
        return f"{self.size:,} bytes" + (", numpy" if self.numpy else "")

    def prepare(self, engine: Any) -> workloads.Prepared:
        data: Any = bytes([3]) + bytes(self.size - 2) + bytes([4])
        guest = _guest(engine)
        total = guest.function("total")
        if self.numpy:
            import numpy

            given = numpy.frombuffer(data, numpy.uint8)
            exports = getattr(guest, "exports", None)
            if exports is None or not hasattr(exports, "memory"):
                raise harness.Inapplicable("its memories are no buffers of Python")
            view = numpy.frombuffer(exports.memory, numpy.uint8)

            def run() -> object:
                view[64 : 64 + self.size] = given
                return total(64, self.size)
        else:

            def run() -> object:
                guest.write(64, data)
                return total(64, self.size)

        harness.check(engine.name, self.name, run(), 7, 32)
        harness.check(engine.name, self.name, guest.read(64, self.size), bytes(data))
        return run, lambda: None


def measure(context: Context) -> None:
    """Measure everything."""
    engines = context.engines(*CONTENDERS)
    python = [_Python()] if context.wants("Python") else []
    pairs = [(tier, peer) for tier in ("interpreter", "compiler") for peer in ("wasm3", "Wasmtime")]
    into = context.table("in", "Python calls the guest", [*pairs, ("interpreter", "Python")], per="call")
    for call in context.each(into, [_In(count) for count in COUNTS], 0.2):
        context.measure_programs(into, [*engines, *python], call, divided=BATCH)
    out = context.table("out", "The guest calls Python", pairs, per="call")
    inside = context.table("inside", "The guest calls its own function", pairs, per="call")
    for loop in context.each(out, [_Out(count) for count in COUNTS], 0.25):
        context.measure_programs(out, engines, loop, divided=TURNS)
    for loop in context.each(inside, [_Out(count, "same") for count in COUNTS], 0.25):
        context.measure_programs(inside, engines, loop, divided=TURNS)
    out.notes.append("In a loop of the guest, whose own time is part of it.")
    _waiting(context, engines, pairs)
    buffers = context.table("buffers", "Bytes into the guest's memory, and a call", pairs, per="call")
    rows = [_Buffer(size) for size in SIZES]
    if importlib.util.find_spec("numpy") is not None:
        rows += [_Buffer(size, True) for size in SIZES]
    else:
        buffers.missing.append(Missing("all", "not installed (numpy)", "numpy"))
    for row in context.each(buffers, rows, 0.4):
        context.measure_programs(buffers, engines, row)
    _awaited(context)


def _waiting(context: Context, engines: Sequence[Any], pairs: Sequence[tuple[str, str]]) -> None:
    table = context.table("threads", "The same while another thread waits", pairs, per="call")
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        for call in context.each(table, [_In(2), _Out(2)], 0.25):
            title = "Python calls the guest" if isinstance(call, _In) else "the guest calls Python"
            _named(context, table, engines, call, title, BATCH if isinstance(call, _In) else TURNS)
    finally:
        done.set()
        other.join()
    table.notes.append("Two arguments. We release the GIL for every call then; wasm3 keeps it.")


@dataclass(frozen=True)
class _Named:
    name: str
    work: Any

    def prepare(self, engine: Any) -> workloads.Prepared:
        return self.work.prepare(engine)  # type: ignore[no-any-return]


def _named(context: Context, table: Table, engines: Sequence[Any], call: Any, title: str, divided: int) -> None:
    context.measure_programs(table, engines, _Named(title, call), divided=divided)


def _awaited(context: Context) -> None:
    names = {"auto": ("main", False), "auto, 20 calls deep": ("deep", False), "auto, own store": ("main", True)}
    table = context.table(
        "await", "Guests that await Python, in one event loop",
        [(name, "Python") for name in names], per="await", clock="elapsed time",
    )  # fmt: skip
    guests, awaits = (100, 10) if context.quick else (2000, 50)
    row = f"{guests:,} guests that await {awaits} times each"
    for _ in context.each(table, [row]):
        calls = {"Python": driver.guest("Python")} if context.wants("Python") else {}
        if context.wants("auto"):
            calls |= {name: driver.guest("auto", *what) for name, what in names.items()}

        def sampler(name: str, call: driver.Call) -> Callable[[], float]:
            def run() -> float:
                start = time.perf_counter()
                results, _ = asyncio.run(driver.everything(call, guests, awaits))
                took = time.perf_counter() - start
                harness.check(name, row, results, [awaits] * guests)
                return took / guests / awaits

            return run

        context.measure(table, row, {name: sampler(name, call) for name, call in calls.items()}, 5)
    table.notes.append("Python: plain coroutines that do the same. A guest's await includes one of those.")
