"""Whether anything is left behind when objects come and go: each kind is made, used and dropped in rounds.

Three batches of equally many rounds come after some to warm up. What grows in each of them, by as little as one thing
or one word in a round, is a leak: objects and blocks of Python, bytes of `malloc`, types, mappings, descriptors,
threads, code and what the store charges its guest for. So few rounds find most leaks; pages that stacks or regions
have touched are only seen as resident memory, which takes thousands.

python -m tests.runtime.leaks --rounds 10000 --tier compiler
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import gc
import io
import itertools
import os
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.runtime.operations import OPERATIONS, SOURCE, instance_of
from wasmloom.runtime.collector import statistics
from wasmloom.spec.canon import count_types

#: What only some kinds need.
ERRORS = """(module
  (type $f (func)) (type $k (cont $f))
  (import "h" "call" (func $call)) (import "h" "take" (func $take (param (ref null $k))))
  (import "h" "e" (tag $e (param i32)))
  (tag $y)
  (elem declare func $stop)
  (func $stop (suspend $y))
  (func $divide (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
  (func (export "divide") (param i32) (result i32) (call $divide (local.get 0)))
  (func (export "spin") (loop $l (br $l)))
  (func (export "call") (call $call))
  (func (export "catch") (result i32)
    (block $h (result i32) (try_table (catch $e $h) (call $call)) (i32.const -1)))
  (func (export "pass") (local $k (ref null $k))
    (call $take (cont.new $k (ref.func $stop)))
    (block $h (result (ref $k)) (resume $k (on $y $h) (cont.new $k (ref.func $stop))) (return))
    (local.set $k) (call $take (local.get $k)))
  (func (export "echo") (param externref) (result externref) (local.get 0)))"""

PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\n.")
  (func (export "_start")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 14) (i32.const 1) (i32.const 0) (i64.const 0)
      (i64.const 0) (i32.const 0) (i32.const 32)) (then (unreachable)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)))))"""


class World:
    """What the rounds of a kind share: an engine, modules, and instances in a store that lasts."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.engine = engine_of(name, **settings)
        self.module = wl.Module(SOURCE, self.engine)
        self.store = wl.Store(self.engine)
        self.instance = instance_of(self.module, self.store)
        self.exports = self.instance.exports
        self.numbers = itertools.count()

    @functools.cached_property
    def errors(self) -> wl.Module:
        return wl.Module(ERRORS, self.engine)

    @functools.cached_property
    def program(self) -> wl.Module:
        return wl.Module(PROGRAM, self.engine)

    @functools.cached_property
    def with_a_memory(self) -> wl.Module:
        return wl.Module('(module (import "h" "m" (memory 3)) (export "m" (memory 0)))', self.engine)

    @functools.cached_property
    def with_objects(self) -> wl.Module:
        text = """(module (type $a (array (mut anyref)))
          (global (export "a") (ref $a) (array.new_fixed $a 2 (ref.null any) (ref.i31 (i32.const 1)))))"""
        return wl.Module(text, self.engine)

    @functools.cached_property
    def trapping(self) -> wl.Module:
        return wl.Module("(module (memory 1) (func $f (unreachable)) (start $f))", self.engine)

    @functools.cached_property
    def failing(self) -> Any:
        """Exports of `ERRORS` whose host throws."""

        def call() -> None:
            raise wl.WasmException(tag, 7)

        tag = wl.Tag(self.store, "i32")
        return self.with_host(self.store, call, tag)

    def with_host(self, store: wl.Store, call: Callable[[], object], tag: wl.Tag | None = None) -> Any:
        """Exports of `ERRORS`, whose imported function is `call`."""
        host = {"call": call, "take": lambda continuation: None, "e": tag or wl.Tag(store, "i32")}
        return wl.Instance(self.errors, {"h": host}, store=store).exports

    def new_source(self) -> str:
        """A module with types that no other has."""
        n = next(self.numbers)
        fields = " ".join("i32" if n >> k & 1 else "f64" for k in range(20))
        return f"""(module (type $f (func (param {fields}))) (type $k (cont $f))
          (rec (type $a (sub (func (param (ref null $b))))) (type $b (func (param (ref null $a) {fields}))))
          (memory (export "m") 1) (global (export "n") i32 (i32.const {n}))
          (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const {n})))
          (func (export "g") (type $f) (unreachable)) (func (export "h") (type $b) (unreachable)))"""


#: Name → one round.
KINDS: dict[str, Callable[[World], object]] = {}
#: Kinds that compile modules → how many in a round.
COMPILING: dict[str, int] = {}
#: Bytes that llvmlite leaves behind for each, at most (see `wasmloom.compiler.units.optimised`).
LEFT_BY_LLVMLITE = 2048
#: Rounds of a batch at least, however long they take: in one or two, what grows once looks like a leak.
FEWEST = 5


def kind(round: Callable[[World], object]) -> Callable[[World], object]:
    KINDS[round.__name__.replace("_", " ")] = round
    return round


def compiling(modules: int) -> Callable[[Callable[[World], object]], Callable[[World], object]]:
    def add(round: Callable[[World], object]) -> Callable[[World], object]:
        COMPILING[round.__name__.replace("_", " ")] = modules
        return kind(round)

    return add


@contextmanager
def fails(*errors: type[BaseException]) -> Iterator[None]:
    """The body must raise one of these."""
    try:
        yield
    except errors:
        return
    raise AssertionError(f"no {errors}")


# --- engines, modules, types ---


@kind
def engine(world: World) -> None:
    made = wl.Engine(**ENGINES[world.name], cache=False)
    pickle.loads(pickle.dumps(made))
    wl.Store(made)


@compiling(1)
def module(world: World) -> None:
    made = wl.Module(world.new_source(), world.engine)
    exports = wl.Instance(made).exports
    for _ in range(3):  # the tier "auto" changes over
        exports.f(1)
    assert [item.name for item in made.exports] == ["m", "n", "f", "g", "h"]


@compiling(2)
def module_pickled(world: World) -> None:
    made = wl.Module(world.new_source(), world.engine)
    pickle.loads(pickle.dumps(made)).custom_sections("name")


@kind
def types(world: World) -> None:
    wl.Module.validate(world.new_source())
    n = next(world.numbers)
    fields = " ".join("i64" if n >> k & 1 else "f32" for k in range(20))
    store = wl.Store(world.engine)
    wl.Func(store, f"{fields} -> i32", print), wl.Tag(store, fields)


@kind
def text_error(world: World) -> None:
    with fails(wl.CompileError):
        wl.Module("(module (func (export 'x)))", world.engine)


@kind
def malformed(world: World) -> None:
    with fails(wl.CompileError):
        wl.Module(world.module.decoded.data[:-5], world.engine)


@kind
def invalid(world: World) -> None:
    with fails(wl.ValidationError):
        wl.Module(world.new_source()[:-1] + "(func (result i32)))", world.engine)


# --- stores and what is in them ---


@kind
def store(world: World) -> None:
    wl.Store(world.engine, memory_limit=1 << 20, timeout=5)


@kind
def instance(world: World) -> None:
    instance_of(world.module, wl.Store(world.engine)).exports.host(3)


@kind
def instance_that_traps(world: World) -> None:
    with fails(wl.Trap):
        wl.Instance(world.trapping, store=wl.Store(world.engine))


@kind
def instance_without_imports(world: World) -> None:
    with fails(wl.LinkError):
        wl.Instance(world.module, {"": {"wait": print}}, store=wl.Store(world.engine))


@kind
def snapshot(world: World) -> None:
    store = wl.Store(world.engine)
    instance_of(world.module, store).exports.host(3)
    kept = wl.Snapshot.take(store)
    kept.restore()
    again = wl.Snapshot.from_bytes(kept.to_bytes(embed=False), modules=[world.module])
    with fails(wl.LinkError):
        again.restore()


@kind
def snapshot_copies(world: World) -> None:
    """Copies that map the same file write to it, grow and go, one after the other and after their snapshot."""
    store = wl.Store(world.engine)
    memory = wl.Memory(store, wl.MemoryType(wl.Limits(3, 9)))
    memory[100_000] = 1
    wl.Instance(world.with_a_memory, {"h": {"m": memory}}, store=store)
    kept = wl.Snapshot.take(store)
    copies = [kept.restore().instances[0].exports.m for _ in range(3)]
    del kept
    for copy in copies:
        copy[100_001] = 2
        copy.grow(1)


@kind
def snapshot_of_wasi(world: World) -> None:
    with wl.Wasi(args=["a"], stdout=io.BytesIO(), preopens={"/": "."}) as made:
        instance = made.instantiate(world.program)
        made.start(instance)  # it leaves a file open
        kept = wl.Snapshot.take(instance.store)
    with wl.Wasi(stdout=io.BytesIO(), preopens={"/": "."}) as again:
        kept.restore(wasi=again)
    with wl.Wasi(stdout=io.BytesIO()) as lacking, fails(wl.WasmError):
        kept.restore(wasi=lacking)


@kind
def snapshot_of_objects(world: World) -> None:
    exports = wl.Instance(world.with_objects, store=wl.Store(world.engine)).exports
    exports.a.value[0] = exports.a.value  # a cycle
    copy = wl.fork(exports.a.store).instances[0].exports
    assert copy.a.value[0] == copy.a.value


@kind
def memory(world: World) -> None:
    made = wl.Memory(wl.Store(world.engine), 1, 8)
    made.grow(2)
    made[70_000] = 5


@kind
def view_of_a_memory(world: World) -> None:
    view = memoryview(wl.Memory(wl.Store(world.engine), 1, 8))
    view[5] = 7  # its store is gone


@kind
def table(world: World) -> None:
    made = wl.Table(wl.Store(world.engine), "externref", 3, 100)
    made[0] = object()
    made.grow(10, [made])


@kind
def global_(world: World) -> None:
    made = wl.Global(wl.Store(world.engine), wl.GlobalType(wl.EXTERNREF, True), None)
    made.value = [made]


@kind
def tag(world: World) -> None:
    made = wl.Tag(wl.Store(world.engine), "i32 i64")
    wl.WasmException(made, 1, 2)


@kind
def host_function(world: World) -> None:
    made = wl.Func(wl.Store(world.engine), "i32 externref -> externref", lambda number, thing: [thing, made])
    made(5, [made])


@kind
def externref(world: World) -> None:
    thing = [bytes(10_000)]
    assert world.failing.echo(thing) is thing
    thing.append(thing)


@kind
def store_gc(world: World) -> None:
    world.exports.keep_object([world.exports])
    world.exports.make(3)
    world.store.gc()


# --- errors ---


@kind
def trap(world: World) -> None:
    with fails(wl.Trap):
        world.failing.divide(0)


@kind
def trap_that_is_kept(world: World) -> None:
    exports = world.with_host(wl.Store(world.engine), print)
    try:
        exports.divide(0)
    except wl.Trap as trap:
        exports.echo(trap)
        kept = [trap, exports]
        kept.append(kept)


@kind
def recursion(world: World) -> None:
    with fails(wl.Trap):
        world.exports.deep(1 << 30)


@kind
def exception(world: World) -> None:
    with fails(wl.WasmException):
        world.exports.throw(1)


@kind
def exception_that_is_kept(world: World) -> None:
    exports = instance_of(world.module, wl.Store(world.engine)).exports
    try:
        exports.throw(1)
    except wl.WasmException as error:
        assert exports.same(None, error)[1] is not None
        kept = [error, exports]
        kept.append(kept)


@kind
def exception_for_the_guest(world: World) -> None:
    assert world.failing["catch"]() == 7


@kind
def exception_of_the_host(world: World) -> None:
    def call() -> None:
        raise KeyError(exports)

    exports = world.with_host(wl.Store(world.engine), call)
    with fails(KeyError):
        exports.call()


@kind
def timeout(world: World) -> None:
    with fails(wl.Trap):
        world.with_host(wl.Store(world.engine, timeout=0.001), print).spin()


@kind
def fuel(world: World) -> None:
    fuelled = _fuelled(world.name)
    with fails(wl.Trap):
        fuelled.with_host(wl.Store(fuelled.engine, fuel=1000), print).spin()


@functools.cache
def _fuelled(name: str) -> World:
    return World(name, fuel=True)


# --- continuations ---


@kind
def continuation(world: World) -> None:
    world.exports.make(3)


@kind
def continuation_suspended(world: World) -> None:
    world.exports.make(30).resume(100, on=world.exports.y)
    world.exports.make_chain().resume(5, on=world.exports.y)


@kind
def continuation_that_ends(world: World) -> None:
    world.exports.make(3).resume(3, on=world.exports.y).continuation.resume(5)


@kind
def continuation_that_outlives_all(world: World) -> None:
    exports = instance_of(world.module, wl.Store(world.engine)).exports
    suspended = exports.make(3).resume(3, on=exports.y)
    del exports
    suspended.continuation.resume(5)


@kind
def continuation_that_traps(world: World) -> None:
    with fails(wl.Trap):
        world.exports.make(3).resume(1 << 30)


@kind
def resume_iter(world: World) -> None:
    suspensions = wl.resume_iter(world.exports.make(3), world.exports.y, 5)
    next(suspensions)


@kind
def continuation_passed(world: World) -> None:
    world.failing["pass"]()


# --- guests that wait ---


def _begun(world: World) -> Any:
    coroutine = world.exports.waiting.call_async(3)
    coroutine.send(None)
    return coroutine


@kind
def waiting(world: World) -> None:
    coroutine = _begun(world)
    with fails(StopIteration):
        coroutine.send(None)


@kind
def waiting_cancelled(world: World) -> None:
    coroutine = _begun(world)
    with fails(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError())


@kind
def waiting_dropped(world: World) -> None:
    _begun(world)


@kind
def waiting_in_a_cycle(world: World) -> None:
    exports = instance_of(world.module, wl.Store(world.engine)).exports
    coroutine = exports.waiting.call_async(3)
    coroutine.send(None)
    exports.keep_object([coroutine, exports])


@kind
def waiting_never_begun(world: World) -> None:
    world.exports.waiting.call_async(3).close()


# --- WASI, threads, processes ---


@kind
def wasi(world: World) -> None:
    with wl.Wasi(args=["a"], stdout=io.BytesIO(), preopens={"/": "."}) as made:
        assert made.start(made.instantiate(world.program)) == 0


@kind
def wasi_dropped(world: World) -> None:
    made = wl.Wasi(args=["a"], stdout=io.BytesIO(), preopens={"/": "."})
    made.start(made.instantiate(world.program))


@kind
def wasi_async(world: World) -> None:
    with wl.Wasi(stdout=io.BytesIO(), preopens={"/": "."}) as made:
        assert asyncio.run(made.run_async(world.program)) == 0


@kind
def thread(world: World) -> None:
    made = threading.Thread(target=lambda: KINDS["instance"](world))
    made.start()
    world.exports.deep(100)
    made.join()


@kind
def forked_child(world: World) -> None:
    child = os.fork()
    if not child:
        with suppress(BaseException):
            KINDS["instance"](world)
            os._exit(world.exports.check())
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


# --- all operations ---

#: What a store keeps for as long as it lives.
_KEPT = {"grow", "tables", "externs", "instantiate"}


def _operation(name: str) -> Callable[[World], object]:
    def round(world: World) -> None:
        instance = instance_of(world.module, wl.Store(world.engine)) if name in _KEPT else world.instance
        with suppress(wl.WasmException):
            OPERATIONS[name](instance)

    return round


KINDS |= {f"operation: {name}": _operation(name) for name in OPERATIONS}

# --- what is counted ---


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [(f"field{k}", ctypes.c_size_t) for k in range(10)]


def _malloc_used() -> int:
    """Bytes that `malloc` has given and not got back; 0 where the C library doesn't say."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    now = mallinfo()
    return int(now.field7 + now.field4)  # uordblks, hblkhd


#: Name → the growth in one round that is a leak, and a growth that is none in a batch of any length.
UNITS: dict[str, tuple[float, int]] = {
    "objects": (0.5, 50),  # lists of weak references drop the dead ones now and then
    "blocks": (0.5, 100),  # each count leaves some, whatever the number of rounds
    "malloc": (16, 1 << 15),  # CPython 3.13 takes some more in the first few hundred rounds
    "types": (0.5, 0),
    "code": (8, 0),
    "charged": (8, 1 << 18),  # stacks in pools may not have been used as deep before
    "continuations": (0.5, 0),
    "mappings": (0.5, 0),
    "descriptors": (0.5, 0),
    "threads": (0.5, 0),
    "resident": (64, 1 << 19),
}


def count(world: World) -> dict[str, int]:
    """How much there is of everything in `UNITS`, once all that can go has gone."""
    world.store.gc()
    while gc.collect():
        pass
    with open("/proc/self/maps") as maps, open("/proc/self/statm") as statm:
        mappings, resident = sum(1 for _ in maps), int(statm.read().split()[1])
    return {
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "malloc": _malloc_used(),
        "types": count_types(),
        "code": world.engine.code_used,
        "charged": world.store.memory_used,
        "continuations": statistics(world.store)["continuations"],
        "mappings": mappings,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "resident": resident * os.sysconf("SC_PAGESIZE"),
    }


def run(round: Callable[[World], object], world: World, rounds: int, seconds: float) -> int:
    """How many rounds there have been."""
    started = time.monotonic()
    for done in range(1, rounds + 1):
        round(world)
        if done >= FEWEST and time.monotonic() - started > seconds:
            return done
    return rounds


def growth(name: str, world: World, rounds: int, seconds: float) -> tuple[int, dict[str, int]]:
    """How many rounds a batch of a kind had, and what grew in each by how much at least."""
    round = KINDS[name]
    run(round, world, rounds // 3, seconds / 3)
    counts = [count(world)]
    size = run(round, world, rounds // 3, seconds / 3)
    counts.append(count(world))
    for _ in range(2):
        run(round, world, size, 10 * seconds)
        counts.append(count(world))
    return size, {
        unit: min(after[unit] - before[unit] for before, after in itertools.pairwise(counts)) for unit in UNITS
    }


def leaks(name: str, world: World, grown: dict[str, int], size: int) -> list[str]:
    """What grew more than it may in a batch of so many rounds."""
    left = COMPILING.get(name, 0) * size * LEFT_BY_LLVMLITE if world.engine.tier != "interpreter" else 0
    return [
        unit
        for unit, (each, spare) in UNITS.items()
        if grown[unit] >= max(each * size, spare) + (left if unit in ("malloc", "resident") else 0)
    ]


def main() -> int:
    """Print a table; gives 1 if anything leaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="for each kind at most")
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="one kind; may be given more than once")
    parser.add_argument("--tier", choices=[*ENGINES], default="interpreter")
    options = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, and "auto" has some
    world = World(options.tier)
    gc.freeze()
    bad = 0
    print(f"{'kind':32} {'rounds':>7} {'resident/round':>15}  grown by, in a batch")
    for name in options.kind or KINDS:
        size, grown = growth(name, world, options.rounds, options.seconds)
        found = leaks(name, world, grown, size)
        if found:  # what grows once in a while isn't a leak: that goes on
            size, grown = growth(name, world, options.rounds * 10, options.seconds * 10)
            found = leaks(name, world, grown, size)
        bad += bool(found)
        more = ", ".join(f"{unit} {grown[unit]}" for unit in UNITS if grown[unit] > 0)
        verdict = f"LEAKS {', '.join(found)}" if found else "FLAT"
        print(f"{name:32} {3 * size:7} {grown['resident'] / size / 1024:12.3f} KB  {verdict} ({more})", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
