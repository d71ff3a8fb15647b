"""Copies of a guest that is ready to work, beside other ways to get one: what each takes, in time and in memory.

The guest is like an interpreter in WebAssembly that has been started: 11 500 functions, a table of 5 000, and 20 MB of
memory that its initialisation has filled. A copy is made, answers one call that writes to four pages, and is dropped.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from typing import Any

from wasmloom_bench import harness
from wasmloom_bench.context import Context

FUNCTIONS, ELEMENTS, PAGES = 11_500, 5_000, 320
#: Copies that are alive at the same time for the table of memory.
ALIVE, ALIVE_QUICK = 1000, 200
#: What the call answers: the sum of four bytes that the initialisation has written.
ANSWER = 4 * 0x5A


def _text(functions: int) -> str:
    one = "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {})))"
    bodies = "".join(map(one.format, range(functions)))
    numbers = " ".join(str(3 + i % functions) for i in range(ELEMENTS))
    return f"""(module (memory (export "memory") {PAGES}) (table {ELEMENTS} funcref) (global (mut i32) (i32.const 0))
      (func (export "prepare") (memory.fill (i32.const 0) (i32.const 0x5A) (i32.const {PAGES << 16})))
      (func $touch (param $at i32) (result i32) (local $was i32)
        (local.set $was (i32.load8_u (local.get $at))) (i32.store8 (local.get $at) (i32.const 1)) (local.get $was))
      (func (export "work") (result i32)
        (i32.add (i32.add (call $touch (i32.const 100)) (call $touch (i32.const 1000000)))
          (i32.add (call $touch (i32.const 9000000)) (call $touch (i32.const 20000000)))))
      {bodies} (elem (i32.const 0) func {numbers}))"""


class _Ready:
    """A guest that is ready, and ways to get another one like it."""

    def __init__(self) -> None:
        import wasmloom as wl

        self.wl = wl
        self.module = wl.Module(_text(FUNCTIONS), wl.Engine(tier="interpreter"))
        self.exports: Any = wl.Instance(self.module).exports
        self.exports.prepare()
        self.kept = wl.Snapshot.take(self.exports.memory.store)
        self.kept.restore()  # prepares it

    def restored(self) -> None:
        (guest,) = self.kept.restore().instances
        harness.check("restore", "the sum", guest.exports.work(), ANSWER)

    def forked(self) -> None:
        (guest,) = self.wl.fork(self.exports.memory.store).instances
        harness.check("fork", "the sum", guest.exports.work(), ANSWER)

    def started(self) -> None:
        exports: Any = self.wl.Instance(self.module).exports
        exports.prepare()
        harness.check("instance", "the sum", exports.work(), ANSWER)

    def process(self) -> None:
        child = os.fork()
        if child == 0:
            os._exit(0 if self.exports.work() == ANSWER else 1)
        harness.check("os.fork", "its status", os.waitpid(child, 0)[1], 0)


def _wasmtime() -> Callable[[], None]:
    """Starts the guest again, from compiled code in memory. Raises `ImportError`."""
    import wasmtime

    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, _text(FUNCTIONS)).serialize()

    def start() -> None:
        module = wasmtime.Module.deserialize(engine, compiled)
        store = wasmtime.Store(engine)
        exports: Any = wasmtime.Instance(store, module, []).exports(store)
        exports["prepare"](store)
        harness.check("Wasmtime", "the sum", exports["work"](store), ANSWER)

    return start


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def sample() -> float:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    return sample


def _private() -> int:
    """Bytes of this process that it shares with nobody, and has written."""
    with open("/proc/self/smaps_rollup") as told:
        return sum(int(line.split()[1]) << 10 for line in told if line.startswith(("Private_Dirty", "Private_Hugetlb")))


def _alive(make: Callable[[], Any], count: int) -> Callable[[], float]:
    """Measures what copies take that are alive at the same time, by the bytes for each.

    In a child of the process: what this one has freed and keeps isn't the child's own, so it counts when it is used.
    """

    def grown() -> float:
        copies = [make()]
        before = _private()
        copies += [make() for _ in range(count)]
        return (_private() - before) / count

    def sample() -> float:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, str(grown()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as told:
            text = told.read()
        os.waitpid(child, 0)
        if not text:
            raise harness.Unsupported(f"no room for {count} copies")
        return float(text)

    return sample


def measure(context: Context) -> None:
    """Measure everything."""
    ready = _Ready()
    copies = context.table(
        "copies", "A guest that is ready", clock="elapsed time",
        pairs=[("restore", "Wasmtime"), ("restore", "os.fork"), ("restore", "interpreter"), ("restore", "fork")],
    )  # fmt: skip
    ways = {
        "restore": ready.restored, "fork": ready.forked, "interpreter": ready.started, "os.fork": ready.process
    }  # fmt: skip
    if context.wants("Wasmtime"):
        start = context.made("Wasmtime", _wasmtime)
        if start is not None:
            ways["Wasmtime"] = start
    for name in context.each(copies, ["copy, one call, drop"], 0.5):
        context.measure(copies, name, {way: _timed(run) for way, run in ways.items()})
    copies.notes.append(
        "restore: of a snapshot that has been restored before; fork: takes the snapshot, too; interpreter and Wasmtime:"
        " a new instance (Wasmtime's from its serialised module), which is initialised again; os.fork: of the process,"
        " until the child has ended."
    )

    data = ready.kept.to_bytes(embed=False)
    contents = context.table(
        "bytes", "20 MB of memory", clock="elapsed time", pairs=[("take, to_bytes", "bytes"), ("from_bytes", "bytes")]
    )
    steps: dict[str, Callable[[], object]] = {
        "take, to_bytes": lambda: ready.wl.Snapshot.take(ready.exports.memory.store).to_bytes(embed=False),
        "from_bytes": lambda: ready.wl.Snapshot.from_bytes(data, modules=[ready.module]),
        "bytes": lambda: bytes(ready.exports.memory),
    }
    for name in context.each(contents, ["snapshot and bytes"], 0.5):
        context.measure(contents, name, {step: _timed(run) for step, run in steps.items()})
    whole = PAGES << 16
    contents.notes.append(
        f"bytes: a plain copy. The snapshot has {len(data) / whole:.3f} times the bytes of memory that aren't zero."
    )

    alive = context.table("alive", "Copies that are alive", unit="bytes", clock="private memory, for each")
    count = ALIVE_QUICK if context.quick else ALIVE
    for name in context.each(alive, [f"{count} copies"]):
        context.measure(alive, name, {"restore": _alive(ready.kept.restore, count)}, 2)
    alive.notes.append("Nothing has run in them; what they hold is a module's functions, tables and globals.")
    harness.check("restore", "the word", struct.unpack_from("<I", ready.exports.memory, 40)[0], 0x5A5A5A5A)
