"""Programs with threads (wasi-threads)."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import FOREVER, comes
from wasmloom.runtime.sharing import waiting

TIERS = ["interpreter", "baseline", "compiler", "auto"]

#: `start` and `body` are instructions of the first thread and the others. Helpers: $spawn, $join (waits until the word
#: at 8 has a value), $done (adds 1 to it, and wakes).
TEXT = """
(module
  (import "env" "memory" (memory 1 16 shared))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  {more}
  (export "memory" (memory 0))
  (func $join (param $count i32)
    (local $now i32)
    (block $done
      (loop $again
        (br_if $done (i32.ge_u (local.tee $now (i32.atomic.load (i32.const 8))) (local.get $count)))
        (drop (memory.atomic.wait32 (i32.const 8) (local.get $now) (i64.const -1)))
        (br $again))))
  (func $done
    (drop (i32.atomic.rmw.add (i32.const 8) (i32.const 1)))
    (drop (memory.atomic.notify (i32.const 8) (i32.const -1))))
  (func $wait_forever
    (loop $again
      (drop (memory.atomic.wait32 (i32.const 16) (i32.const 0) (i64.const -1)))
      (br $again)))
  (func $spin (loop $again (br $again)))
  (func (export "_start") {start})
  (func (export "wasi_thread_start") (param $number i32) (param $argument i32) {body}))
"""


def program(start: str, body: str, more: str = "") -> str:
    return TEXT.format(start=start, body=body, more=more)


def run(text: str, name: str = "interpreter", threads: int = 8, imports: Any = None, **settings: Any) -> int:
    engine = engine_of(name)
    with wl.Wasi(threads=threads) as wasi:
        return wasi.run(wl.Module(text, engine), imports, store=wl.Store(engine, **settings))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    before = threading.active_count()
    yield
    assert comes(lambda: threading.active_count() <= before and waiting() == 0)


#: Four threads add their arguments, and the first one exits with the sum.
SUM = program(
    """(local $i i32)
    (loop $again
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (if (i32.le_s (call $spawn (local.get $i)) (i32.const 0)) (then unreachable))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 4))))
    (call $join (i32.const 4))
    (call $exit (i32.atomic.load (i32.const 12)))""",
    "(drop (i32.atomic.rmw.add (i32.const 12) (local.get $argument))) (call $done)",
)


@pytest.mark.parametrize("name", [*ENGINES])
def test_they_share_memory(name: str) -> None:
    assert run(SUM, name) == 10


def test_numbers_and_how_many() -> None:
    """Each has a number of its own; too many at once are refused with EAGAIN."""
    text = program(
        """(local $i i32)
        (loop $again
          (i32.store (i32.add (i32.const 64) (i32.shl (local.get $i) (i32.const 2))) (call $spawn (local.get $i)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 3))))
        (i32.atomic.store (i32.const 16) (i32.const 1))
        (drop (memory.atomic.notify (i32.const 16) (i32.const -1)))
        (call $join (i32.const 2))
        (call $check (i32.load (i32.const 64)) (i32.load (i32.const 68)) (i32.load (i32.const 72)))""",
        """(drop (memory.atomic.wait32 (i32.const 16) (i32.const 0) (i64.const -1)))
        (call $number (local.get $number)) (call $done)""",
        '(import "env" "check" (func $check (param i32 i32 i32))) (import "env" "number" (func $number (param i32)))',
    )
    spawned: list[tuple[int, ...]] = []
    numbers: list[int] = []
    imports = {"env": {"check": lambda *found: spawned.append(found), "number": numbers.append}}
    assert run(text, threads=2, imports=imports) == 0
    assert spawned == [(1, 2, -6)]
    assert sorted(numbers) == [1, 2]


def test_threads_that_have_ended_make_room() -> None:
    """A thousand threads, one after the other."""
    text = program(
        """(local $i i32)
        (loop $again
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (loop $refused (drop (call $yield))
            (br_if $refused (i32.eq (call $spawn (local.get $i)) (i32.const -6))))
          (call $join (local.get $i))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 300))))""",
        "(call $done)",
    )
    assert run(text, threads=1) == 0


WAYS = {"waits": "(call $wait_forever)", "loops": "(call $spin)", "polls": "(call $sleep)"}
SLEEP = """
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (func $sleep
    (i64.store (i32.const 1048) (i64.const 1000000000000))
    (loop $again (drop (call $poll (i32.const 1024) (i32.const 1200) (i32.const 1) (i32.const 1300))) (br $again)))
"""


def sleeping(start: str, body: str) -> str:
    """A program with $sleep, whose import must come first."""
    imported, _, function = SLEEP.partition("  (func")
    text = program(start, body, imported)
    return text.replace("  (func $spin", f"  (func{function}  (func $spin")


@pytest.mark.parametrize("way", [*WAYS])
@pytest.mark.parametrize("name", TIERS)
def test_the_end_of_the_first_ends_all(name: str, way: str) -> None:
    text = sleeping(
        "(drop (call $spawn (i32.const 0))) (drop (call $spawn (i32.const 0))) (call $join (i32.const 2))",
        f"(call $done) {WAYS[way]}",
    )
    assert run(text, name) == 0


@pytest.mark.parametrize("way", [*WAYS])
@pytest.mark.parametrize("name", TIERS)
def test_one_that_exits_ends_all(name: str, way: str) -> None:
    text = sleeping(
        f"(drop (call $spawn (i32.const 0))) (drop (call $spawn (i32.const 1))) {WAYS[way]}",
        f"(if (local.get $argument) (then (call $exit (i32.const 7)))) {WAYS[way]}",
    )
    assert run(text, name) == 7


@pytest.mark.parametrize("way", [*WAYS])
@pytest.mark.parametrize("name", TIERS)
def test_one_that_traps_ends_all(name: str, way: str) -> None:
    text = sleeping(
        f"(drop (call $spawn (i32.const 0))) (drop (call $spawn (i32.const 1))) {WAYS[way]}",
        f"(if (local.get $argument) (then unreachable)) {WAYS[way]}",
    )
    with pytest.raises(wl.Trap) as caught:
        run(text, name)
    assert caught.value.code == "unreachable"
    assert len(caught.value.frames) == 1


def test_an_exception_of_a_host_function_in_a_thread() -> None:
    text = program(
        "(drop (call $spawn (i32.const 0))) (call $spin)", "(call $f)", '(import "env" "f" (func $f))'
    )

    def f() -> None:
        raise KeyError("from a thread")

    with pytest.raises(KeyError, match="from a thread"):
        run(text, imports={"env": {"f": f}})


def test_limits_hold_in_threads() -> None:
    text = program("(drop (call $spawn (i32.const 0))) (call $wait_forever)", "(call $spin)")
    with pytest.raises(wl.Trap) as caught:
        run(text, timeout=0.2)
    assert caught.value.code == "timeout"
    deep = program(
        "(drop (call $spawn (i32.const 0))) (call $wait_forever)", "(call $deep)", ""
    ).replace("  (func $spin", "  (func $deep (call $deep) (call $deep))  (func $spin")
    with pytest.raises(wl.Trap) as caught:
        run(deep, stack_limit=65536)
    assert caught.value.code == "call stack exhausted"


@pytest.mark.parametrize("name", TIERS)
def test_in_an_event_loop(name: str) -> None:
    """The first thread waits without blocking the loop, the others in threads of their own."""
    engine = engine_of(name)

    async def main(text: str) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        try:
            with wl.Wasi(threads=8) as wasi:
                return await wasi.run_async(wl.Module(text, engine))
        finally:
            ticking.cancel()
            assert ticks

    assert asyncio.run(main(SUM)) == 10
    exits = program("(drop (call $spawn (i32.const 0))) (call $wait_forever)", "(call $exit (i32.const 3))")
    assert asyncio.run(main(exits)) == 3
    traps = program("(drop (call $spawn (i32.const 0))) (call $wait_forever)", "unreachable")
    with pytest.raises(wl.Trap, match="unreachable"):
        asyncio.run(main(traps))


def test_cancelling_ends_all() -> None:
    text = program("(drop (call $spawn (i32.const 0))) (call $wait_forever)", "(call $done) (call $spin)")
    memory = wl.SharedMemory(1, 16)

    async def main() -> None:
        with wl.Wasi(threads=8) as wasi:
            task = asyncio.ensure_future(wasi.run_async(wl.Module(text), {"env": {"memory": memory}}))
            while not memory[8]:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


INTERRUPTED = """
import _thread, sys, threading
import wasmloom as wl
from tests.patience import comes
from tests.wasi.test_threads import program
text = program("(drop (call $spawn (i32.const 0))) (call $wait_forever)", "(call $done) (call $spin)")
memory = wl.SharedMemory(1, 16)
def interrupt():
    comes(lambda: memory[8])
    _thread.interrupt_main()
threading.Thread(target=interrupt).start()
with wl.Wasi(threads=8) as wasi:
    try:
        wasi.run(wl.Module(text), {"env": {"memory": memory}})
    except KeyboardInterrupt:
        print("interrupted", comes(lambda: threading.active_count() == 1))
"""


def test_ctrl_c_ends_all() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=FOREVER, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted True\n", "", 0)


def test_without_leave_there_are_none() -> None:
    module = wl.Module(SUM)
    with pytest.raises(wl.LinkError, match=r"wasi\.thread-spawn.*Wasi\(threads=…\) allows threads"):
        wl.Wasi().instantiate(module)
    with pytest.raises(ValueError, match="threads must not be negative"):
        wl.Wasi(threads=-1)
    without = wl.Module(SUM.replace('"wasi_thread_start"', '"another"'))
    with pytest.raises(wl.LinkError, match="must export the function 'wasi_thread_start'"):
        wl.Wasi(threads=1).instantiate(without)
    with pytest.raises(wl.LinkError, match="don't count fuel"):
        wl.Wasi(threads=1).instantiate(wl.Module(SUM, wl.Engine(fuel=True)))


def test_imports_of_one_store_cannot_be_shared() -> None:
    """A function of the first store is no import of a thread's: the spawning call says so."""
    engine = engine_of("interpreter")
    text = program("(drop (call $spawn (i32.const 0)))", "(call $f)", '(import "env" "f" (func $f))')
    store = wl.Store(engine)
    func = wl.Func(store, " -> ", lambda: None)
    with wl.Wasi(threads=1) as wasi, pytest.raises(ValueError, match="belongs to another store"):
        wasi.run(wl.Module(text, engine), {"env": {"f": func}}, store=store)


def test_files_are_the_same(tmp_path: Path) -> None:
    """All write to the program's standard output."""
    text = program(
        """(local $i i32)
        (i32.store (i32.const 32) (i32.const 48)) (i32.store (i32.const 36) (i32.const 3))
        (i32.store (i32.const 48) (i32.const 0x0a6968)) ;; "hi\\n"
        (loop $again
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (drop (call $spawn (local.get $i)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 6))))
        (call $join (i32.const 6))""",
        """(drop (call $write (i32.const 1) (i32.const 32) (i32.const 1)
          (i32.add (i32.const 64) (i32.shl (local.get $number) (i32.const 2))))) (call $done)""",
    )
    output: list[bytes] = []
    with wl.Wasi(threads=8, stdout=output.append) as wasi:
        assert wasi.run(wl.Module(text)) == 0
    assert b"".join(output) == b"hi\n" * 6


def test_nothing_holds_a_program_that_has_ended() -> None:
    engine = engine_of("interpreter")
    with wl.Wasi(threads=8) as wasi:
        store = wl.Store(engine)
        instance = wasi.instantiate(wl.Module(SUM, engine), store=store)
        memory = weakref.ref(instance.exports.memory)
        assert wasi.start(instance) == 10
        known = weakref.ref(store)
        del instance, store
        gc.collect()
        assert known() is None
        assert memory() is None


def test_a_library_has_threads() -> None:
    """Nobody waits for those of a library; its calls begin them."""
    text = program("", "(call $done)").replace(
        '(func (export "_start") )',
        '(func (export "go") (result i32) (call $spawn (i32.const 1)) (call $join (i32.const 1)))',
    )
    with wl.Wasi(threads=2) as wasi:
        instance = wasi.instantiate(wl.Module(text))
        assert instance.exports.go() == 1


def test_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "sum.wat"
    file.write_text(SUM)
    command = [sys.executable, "-m", "wasmloom", "run", "--threads", "4", str(file)]
    assert subprocess.run(command, timeout=FOREVER, check=False).returncode == 10
    command[4:6] = []
    done = subprocess.run(command, timeout=FOREVER, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "allows threads" in done.stderr


#: Without a C library: what `pthread_create` and its like come down to.
SOURCE = """
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
IMPORT("wasi", "thread-spawn") int spawn(int);
IMPORT("wasi_snapshot_preview1", "proc_exit") void leave(int);
static volatile int left = 4;
static int sum;
__attribute__((export_name("wasi_thread_start"))) void begin(int number, int argument) {
    for (int i = 0; i < 1000; i++)
        __atomic_fetch_add(&sum, argument, __ATOMIC_SEQ_CST);
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_SEQ_CST) == 0)
        __builtin_wasm_memory_atomic_notify((int *)&left, 1);
}
__attribute__((export_name("_start"))) void start(void) {
    for (int i = 1; i <= 4; i++)
        if (spawn(i) < 0) leave(99);
    for (int now; (now = __atomic_load_n(&left, __ATOMIC_SEQ_CST)) != 0;)
        __builtin_wasm_memory_atomic_wait32((int *)&left, now, -1);
    leave(sum == 10000 ? 0 : 1);
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("threads")
    (folder / "threads.c").write_text(SOURCE)
    command = [
        sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-mcpu=generic+atomics+bulk_memory",
        "-O1", "-nostdlib", "-Wl,--no-entry", "-Wl,--shared-memory", "-Wl,--import-memory", "-Wl,--export-memory",
        "-Wl,--initial-memory=2097152", "-Wl,--max-memory=2097152", "threads.c", "-o", "threads.wasm",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, timeout=FOREVER)
    return (folder / "threads.wasm").read_bytes()


@pytest.mark.parametrize("name", TIERS)
def test_a_program_in_c(name: str, compiled: bytes) -> None:
    engine = engine_of(name)
    with wl.Wasi(threads=4) as wasi:
        assert wasi.run(wl.Module(compiled, engine)) == 0


def test_interrupting_a_store() -> None:
    """`Store.interrupt`, from another thread: a call that runs, in a loop or in a host function; not a later one."""
    engine = engine_of("interpreter")
    store = wl.Store(engine)
    begun = threading.Event()
    text = """(module (import "env" "f" (func $f))
      (func (export "loop") (call $f) (loop $l (br $l))) (func (export "g")))"""
    exports = wl.Instance(wl.Module(text, engine), {"env": {"f": begun.set}}, store=store).exports
    store.interrupt()
    exports.g()

    def interrupt() -> None:
        begun.wait()
        time.sleep(0.01)
        store.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(wl.Trap) as caught:
        exports.loop()
    assert caught.value.code == "timeout"
    thread.join()
    exports.g()
