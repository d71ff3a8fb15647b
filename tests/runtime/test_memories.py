"""The two kinds of memory, guarded and checked: which an engine has, and what growing means for those who hold on."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.conftest import MEMORY_KINDS, needs_guard_pages
from wasmloom.host import engine as engines
from wasmloom.host.fixed import fill
from wasmloom.runtime.regions import live_regions

PAGE = 65536


def address(memory: wl.Memory) -> int:
    """Where a memory's bytes are now."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Block:
    """Takes the page behind a memory, so that the memory has to move when it grows."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(None, use_errno=True)
        self.c.mmap.restype = ctypes.c_void_p
        self.c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long]
        self.c.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.taken: list[int] = []

    def behind(self, memory: wl.Memory) -> None:
        place = address(memory) + len(memory)
        # PROT_NONE; MAP_PRIVATE, MAP_ANONYMOUS and MAP_FIXED_NOREPLACE: where something is already, it stays.
        if self.c.mmap(place, 4096, 0, 0x100022, -1, 0) == place:
            self.taken.append(place)

    def free(self) -> None:
        for place in self.taken:
            self.c.munmap(place, 4096)


@pytest.fixture
def block() -> Iterator[Block]:
    made = Block()
    yield made
    made.free()


def made(text: str, engine: wl.Engine, imports: Any = None, store: wl.Store | None = None) -> Any:
    return wl.Instance(wl.Module(f"(module {text})", engine), imports, store=store).exports


# --- which kind ---


def test_kinds() -> None:
    assert wl.Engine(memory="checked").checked
    assert wl.Engine().memory == "auto"
    assert "memory='checked'" in repr(wl.Engine(memory="checked"))
    with pytest.raises(ValueError, match="unknown memory 'none'; known are auto, guarded, checked"):
        wl.Engine(memory="none")
    for kind in (True, False):
        engine = wl.Engine(memory="checked" if kind else "auto")
        assert wl.Module("(module)", engine).code_space.checked is engine.checked


@needs_guard_pages
def test_guarded_is_the_default_where_it_can_be() -> None:
    assert not wl.Engine(memory="guarded").checked
    assert not wl.Engine().checked


def test_without_address_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "can_reserve", lambda count: False)
    engines._plenty.cache_clear()
    try:
        assert wl.Engine().checked
        with pytest.raises(wl.WasmError, match="can't be guarded"):
            wl.Engine(memory="guarded")
    finally:
        engines._plenty.cache_clear()


@needs_guard_pages
def test_engines_do_not_mix() -> None:
    guarded, checked = wl.Engine(memory="guarded"), wl.Engine(memory="checked")
    text = '(module (import "m" "m" (memory 1)) (func (export "f") (result i32) (i32.load (i32.const 0))))'
    for mine, other in ((guarded, checked), (checked, guarded)):
        memory = wl.Memory(wl.Store(mine), 1)
        with pytest.raises(ValueError, match="different engines"):
            wl.Instance(wl.Module(text, other), {"m": {"m": memory}})
        with pytest.raises(ValueError, match="another store"):
            wl.Instance(wl.Module(text, other), {"m": {"m": memory}}, store=wl.Store(other))
        with pytest.raises(ValueError, match="different engines"):
            wl.Instance(wl.Module("(module (memory 1))", other), store=wl.Store(mine))


@needs_guard_pages
def test_code_without_checks_never_gets_a_checked_memory() -> None:
    """Not even when somebody changes the engine."""
    engine = wl.Engine(memory="checked")
    store = wl.Store(engine)
    memory = wl.Memory(store, 1)
    fill(engine, _checked=False)
    module = wl.Module('(module (import "m" "m" (memory 1)) (memory 1))', engine)
    with pytest.raises(wl.LinkError, match="memory 0 is a checked one"):
        wl.Instance(module, {"m": {"m": memory}}, store=store)
    with pytest.raises(wl.LinkError, match="memory 0 is a checked one"):
        wl.Instance(wl.Module("(module (memory 1))", engine), store=store)


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import wasmloom as wl

engine = wl.Engine()
assert engine.checked and engine.memory == "auto"
try:
    wl.Engine(memory="guarded")
except wl.WasmError as error:
    print(error)
exports = wl.Instance(wl.Module('''(module
  (memory (export "memory") 1)
  (memory $other 0)
  (data (i32.const 65532) "\\\\01\\\\02\\\\03\\\\04")
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32) (i64.store offset=8 (local.get 0) (i64.const -1)))
  (func (export "other") (param i32) (result i32) (i32.load8_u $other (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))''')).exports


def traps(function, *arguments):
    try:
        function(*arguments)
    except wl.Trap as trap:
        return trap.code == "out of bounds memory access"


assert exports.load(65532) == 0x04030201
assert all(traps(exports.load, at) for at in (65533, 65536, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFF))
assert all(traps(exports.store, at) for at in (65521, 65528, 65536, 0xFFFFFFF8, 0xFFFFFFFF))
assert traps(exports.other, 0)
assert exports.memory.read(65532, 4) == b"\\1\\2\\3\\4"
assert exports.grow(15) == 1 and exports.load(65532) == 0x04030201 and exports.load(16 * 65536 - 4) == 0
assert exports.memory.grow(84) == 16 and exports.load(65532) == 0x04030201 and traps(exports.load, 100 * 65536 - 3)
assert exports.grow(65400) == -1, "the system hasn't as much"
assert exports.grow(65500) == -1, "a memory can't have as much"
assert exports.memory.size == 100
many = [wl.Memory(exports.load.store, 1) for _ in range(200)]
for memory in many:
    memory.grow(1)
try:
    wl.Memory(exports.load.store, 65536)
except wl.WasmError as error:
    print(error)
print("done")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")
def test_a_process_with_little_address_space() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    assert first.startswith("memories can't be guarded")
    assert second == "the system gives no memory of 65536 pages"
    assert last == "done"


# --- growing ---

#: Ways to let a memory grow by a page.
WAYS = {
    "itself": "(drop (memory.grow (i32.const 1)))",
    "callee": "(call $grow)",
    "indirect callee": "(call_indirect $table (i32.const 0))",
    "another instance": "(call $other_grow)",
    "another instance, through a table": "(call_indirect $table (i32.const 1))",
    "another instance, in a tail call": "(call $tail)",
    "host": "(call $host_grow)",
    "guest called by the host": "(call $host_call)",
    "continuation": "(resume $k (cont.new $k (ref.func $grow)))",
    "suspended continuation": """
      (block $h (result (ref $k)) (resume $k (on $yield $h) (cont.new $k (ref.func $yields))) (unreachable))
      (i32.store (i32.const 4) (i32.const 4))
      (resume $k)""",
    "continuation that resumes another": "(resume $k (cont.new $k (ref.func $nested)))",
    "exception": "(block $h (try_table (catch $oops $h) (call $throws)))",
    "exception of another instance": "(block $h (try_table (catch $oops $h) (call $other_throws)))",
}

OTHER = """
  (import "m" "memory" (memory $shared 1))
  (import "m" "oops" (tag $oops))
  (memory $own 1) (export "own" (memory $own))
  (func $grow (export "grow")
    (drop (memory.grow $shared (i32.const 1)))
    (drop (memory.grow $own (i32.const 1)))
    (i32.store $own (i32.sub (i32.shl (memory.size $own) (i32.const 16)) (i32.const 4)) (i32.const 3))
    (i32.store $shared (i32.const 8) (i32.const 3)))
  (func (export "throws") (call $grow) (throw $oops))"""

GROWS = """
  (type $f (func)) (type $k (cont $f))
  (import "host" "grow" (func $host_grow))
  (import "host" "call" (func $host_call))
  (import "other" "grow" (func $other_grow))
  (import "other" "throws" (func $other_throws))
  (import "m" "memory" (memory $memory 1))
  (import "m" "oops" (tag $oops))
  (tag $yield)
  (table $table funcref (elem $grow $other_grow))
  (elem declare func $yields $nested)
  (func $grow (export "grow")
    (drop (memory.grow (i32.const 1))) (i32.store (i32.const 8) (i32.const 3)))
  (func $tail (return_call_indirect $table (i32.const 1)))
  (func $yields (call $grow) (suspend $yield) (call $grow))
  (func $nested (resume $k (cont.new $k (ref.func $grow))) (i32.store (i32.const 8) (i32.const 3)))
  (func $throws (call $grow) (throw $oops))
  ;; Writes before and after growth, at the old places and in the last word.
  (func (export "run") (param $n i32) (result i32) (local $end i32)
    (i32.store (i32.const 0) (local.get $n))
    (i32.store (i32.const 8) (i32.const 0))
    {way}
    (local.set $end (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)))
    (if (i32.load (local.get $end)) (then (unreachable)))
    (i32.store (local.get $end) (i32.add (local.get $n) (i32.load (i32.const 8))))
    (if (i32.ne (i32.load (i32.const 0)) (local.get $n)) (then (unreachable)))
    (local.get $end))
  (func (export "beyond") (result i32) (i32.load (i32.shl (memory.size) (i32.const 16))))"""


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
@pytest.mark.parametrize("kind", MEMORY_KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_growth_in_every_way(way: str, kind: str, tier: str, block: Block) -> None:
    engine = wl.Engine(memory=kind, tier=tier)
    store = wl.Store(engine)
    first = made('(memory (export "memory") 1) (tag (export "oops"))', engine, store=store)
    memory = first.memory
    other = made(OTHER, engine, {"m": first}, store)
    exports: Any = None

    def host_grow() -> None:
        memory.grow(1)
        memory[8] = 3

    imports = {"m": first, "other": other, "host": {"grow": host_grow, "call": lambda: exports.grow()}}
    exports = made(GROWS.format(way=WAYS[way]), engine, imports, store)
    for n in range(1, 10):
        before, place = memory.size, address(memory)
        if kind == "checked":
            block.behind(memory)
            block.behind(other.own)
        end = exports.run(n)
        grown = 2 if way == "suspended continuation" else 1
        assert (memory.size, end) == (before + grown, (before + grown) * PAGE - 4)
        assert memory.read(0, 4) == n.to_bytes(4, "little")
        value = n if way == "itself" else n + 3
        assert memory.read(end, 4) == value.to_bytes(4, "little")
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            exports.beyond()
        other.own.grow(1)
        assert (address(memory) == place) == (kind == "guarded")


@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_growth_while_a_guest_waits(kind: str) -> None:
    engine = wl.Engine(memory=kind)
    release = asyncio.Event()

    async def main() -> None:
        async def wait() -> None:
            await release.wait()

        exports = made(
            """(import "e" "wait" (func $wait)) (memory (export "memory") 1)
               (func (export "run") (result i32)
                 (i32.store (i32.const 0) (i32.const 5)) (call $wait)
                 (i32.store (i32.const 1000000) (i32.load (i32.const 0))) (i32.load (i32.const 1000000)))
               (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))""",
            engine,
            {"e": {"wait": wait}},
        )
        other = wl.Memory(exports.run.store, 1)
        task = asyncio.create_task(exports.run.call_async())
        await asyncio.sleep(0.01)
        assert exports.grow(100) == 1
        other.grow(1)
        assert exports.memory.grow(1) == 101
        release.set()
        assert await task == 5
        assert exports.memory.read(1000000, 1) == b"\5"

    asyncio.run(main())


def test_limits_of_growth() -> None:
    engine = wl.Engine(memory="checked")
    store = wl.Store(engine, memory_limit=10 * PAGE)
    text = '(memory (export "m") 1 {most}) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))'
    small = made(text.format(most=3), engine, store=store)
    large = made(text.format(most=""), engine, store=store)
    assert [small.grow(n) for n in (3, 2, 1, 0, -1)] == [-1, 1, -1, 3, -1]
    assert [large.grow(n) for n in (7, 6, 1, 65535)] == [-1, 1, -1, -1]
    assert store.memory_used == 10 * PAGE
    for memory in (small.m, large.m):
        with pytest.raises(wl.WasmError, match="can't grow"):
            memory.grow(1)
    with pytest.raises(wl.WasmError, match="memory limit"):
        wl.Memory(store, 1)


def test_a_checked_memory_does_not_grow_under_a_view() -> None:
    engine = wl.Engine(memory="checked")
    exports = made(
        """(memory (export "memory") 1 5)
           (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))""",
        engine,
    )
    memory = exports.memory
    view = memoryview(memory)
    part = view[8:16]
    assert exports.grow(1) == -1
    with pytest.raises(BufferError, match="views"):
        memory.grow(1)
    assert (exports.grow(0), memory.grow(0), memory.size) == (1, 1, 1)
    part[0] = 7
    assert memory[8] == 7
    view.release()
    assert exports.grow(1) == -1  # the slice is a view as well
    part.release()
    assert exports.grow(1) == 1
    assert memory.grow(1) == 2
    assert memory[8] == 7
    # What the memory's own methods use doesn't stay.
    memory[0:4] = b"abcd"
    memory.write(4, memory[0:4])
    with pytest.raises(IndexError):
        memory[10 * PAGE]
    assert exports.grow(1) == 3
    assert memory.read(0, 8) == b"abcdabcd"
    with pytest.raises(wl.WasmError, match="maximum is 5"):
        memory.grow(2)


def test_a_view_keeps_a_checked_memory_alive() -> None:
    gc.collect()
    before = live_regions()
    view = memoryview(made('(memory (export "memory") 1)', wl.Engine(memory="checked")).memory)
    view[PAGE - 1] = 9
    assert live_regions() == before + 1
    assert bytes(view[-2:]) == b"\0\t"
    view.release()
    assert live_regions() == before


def test_readers_in_other_threads() -> None:
    """Python reads and takes views of a checked memory while the guest lets it grow: every byte is the memory's."""
    engine = wl.Engine(memory="checked")
    store = wl.Store(engine)
    exports = made(
        """(memory (export "memory") 1) (memory $other 1) (data (i32.const 0) "\\2a")
           (func (export "run") (param $n i32)
             (loop $again
               (drop (memory.grow (i32.const 1)))
               (drop (memory.grow $other (i32.const 1)))
               (i32.store8 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)) (i32.const 0x2a))
               (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))""",
        engine,
        store=store,
    )
    memory = exports.memory
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not done.is_set():
            for _ in range(100):
                if memory[0] != 0x2A or memory.read(0, 2) != b"\x2a\0":
                    wrong.append(memory.size)
            with memoryview(memory) as view:
                if len(view) % PAGE or view[0] != 0x2A:
                    wrong.append(len(view))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        exports.run(20)
    while memory.size == 1:  # by chance, somebody has had a view all the time
        exports.run(20)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
