"""The baseline tier where little is as usual: no room, no executable memory, many threads, forks, odd modules."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.baseline.test_copier import SOURCE, check_results
from tests.binary import build
from tests.conftest import MEMORY_KINDS
from tests.processes import run_program
from wasmloom.baseline.copier import set_batch

IMPORTS = {"host": {"goes_on": lambda: 0}}


@pytest.fixture
def batch() -> Iterator[Any]:
    """Sets the size of batches for a test."""
    before = set_batch(0)
    yield set_batch
    set_batch(before)


def exports_of(source: str | bytes, imports: dict[str, Any] | None = None, **settings: Any) -> Any:
    engine = wl.Engine(tier="baseline", cache=False, **settings)
    store = wl.Store(engine, fuel=1 << 40 if engine.fuel else None)
    return wl.Instance(wl.Module(source, engine), imports or {}, store=store).exports


def test_threads_with_stores_of_their_own(batch: Any) -> None:
    """All run one module while its code is made."""
    functions = "".join(
        f'(func $f{i} (export "f{i}") (param i32) (result i32) (local $i i32)'
        f"(loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20))))"
        f"(i32.add (call $f{max(i - 1, 0)} (i32.sub (local.get 0) (i32.const 1))) (local.get $i)))"
        for i in range(1, 300)
    )
    text = f'(module (func $f0 (export "f0") (param i32) (result i32) (local.get 0)) {functions})'
    engine = wl.Engine(tier="baseline", cache=False)
    for size in (0, 1000, 20_000):
        batch(size)
        module = wl.Module(text, engine)
        begin = threading.Barrier(4)
        wrong: list[Any] = []

        def work(first: int, module: wl.Module = module, begin: Any = begin, wrong: list[Any] = wrong) -> None:
            exports = wl.Instance(module, store=wl.Store(engine)).exports
            begin.wait()
            for i in (*range(first, 300, 4), *range(0, 300, 7)):
                found = exports[f"f{i}"](1000)
                if found != 1000 - i + 20 * i:
                    wrong.append((i, found))

        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(module.code_space.with_code()) > 50


def test_forks_while_others_make_code(batch: Any) -> None:
    """The child finds what has been made, and makes more."""
    batch(300)
    engine = wl.Engine(tier="baseline", cache=False)
    module = wl.Module(SOURCE, engine)
    here = wl.Instance(module, IMPORTS, store=wl.Store(engine)).exports
    here.fib(3)
    ended = threading.Event()

    def make() -> None:
        while not ended.is_set():
            check_results(exports_of(SOURCE, IMPORTS))

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    check_results(here)
                    check_results(wl.Instance(module, IMPORTS, store=wl.Store(engine)).exports)
                    check_results(exports_of(SOURCE, IMPORTS))
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.set()
        thread.join()


#: Ways to have no memory for code: none that is executable, by a setting of Linux for the process; no address space.
NO_MEMORY = {
    "not executable": "import ctypes; print(ctypes.CDLL(None).prctl(65, 1, 0, 0, 0))",
    "small": "import resource; print(resource.setrlimit(resource.RLIMIT_AS, (1 << 29,) * 2) or 0)",
}


@pytest.mark.parametrize("way", NO_MEMORY)
@pytest.mark.parametrize("translation", ["eager", "lazy-translation"])
def test_without_memory_for_code_guests_are_interpreted(way: str, translation: str) -> None:
    printed = run_program(f"""
import wasmloom as wl
from tests.baseline.test_copier import SOURCE, check_results
from wasmloom.baseline.copier import set_batch
set_batch(0)
{NO_MEMORY[way]}
engine = wl.Engine(tier="baseline", translation={translation!r}, cache=False)
module = wl.Module(SOURCE, engine)
exports = wl.Instance(module, {{"host": {{"goes_on": lambda: 0}}}}, store=wl.Store(engine)).exports
for _ in range(3):
    check_results(exports)
print(len(module.code_space.with_code()), len(module.code_space.used()))
""")
    done, counts = printed.splitlines()
    with_code, used = map(int, counts.split())
    if done != "0":
        pytest.skip("the system doesn't have the setting")
    assert used >= 5
    if way == "not executable":
        assert with_code == 0


def test_continuations_go_on_in_code_made_meanwhile(batch: Any) -> None:
    """A stack that was suspended in bytecode, amid calls and loops, goes on in code, with its values."""
    text = """(module
      (type $f (func (param i32 f64) (result f64))) (type $k (cont $f))
      (type $on (func (param i32) (result f64))) (type $kon (cont $on))
      (tag $yield (param i32) (result i32))
      (global $suspended (mut (ref null $kon)) (ref.null $kon))
      (elem declare func $count)
      (func $deep (param $n i32) (result i32)
        (if (result i32) (local.get $n)
          (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $n) (i32.const 1)))))
          (else (suspend $yield (i32.const 5)))))
      (func $count (type $f) (local $sum f64)
        (loop $l
          (local.set $sum (f64.add (local.get $sum) (local.get 1)))
          (local.set $sum (f64.add (local.get $sum) (f64.convert_i32_s (call $deep (i32.const 3)))))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get $sum))
      (func (export "start") (param i32) (result i32)
        (block $got (result i32 (ref $kon))
          (resume $k (on $yield $got) (local.get 0) (f64.const 0.5) (cont.new $k (ref.func $count)))
          (unreachable))
        (global.set $suspended)
        (drop)
        (i32.const 1))
      (func (export "on") (param i32) (result f64)
        (block $got (result i32 (ref $kon))
          (resume $kon (on $yield $got) (local.get 0) (global.get $suspended))
          (return))
        (global.set $suspended)
        (drop)
        (f64.const -1)))"""
    batch(1 << 40)
    engine = wl.Engine(tier="baseline", cache=False)
    module = wl.Module(text, engine)
    exports = wl.Instance(module, store=wl.Store(engine)).exports
    assert exports.start(4) == 1
    assert exports.on(10) == -1
    module.code_space.translate_all()  # makes the code of what waits
    assert len(module.code_space.with_code()) == 4
    assert exports.on(20) == -1
    assert exports.on(30) == -1
    assert exports.on(40) == 4 * 0.5 + 4 * 3 + 100


@pytest.mark.parametrize("memory", MEMORY_KINDS)
def test_ends_of_memories(memory: str) -> None:
    """Each access at an end, with an offset, within a loop: the last one that fits, and the first that doesn't."""
    accesses = [("load8_u", 1), ("load16_s", 2), ("load", 4), ("store8", 1), ("store16", 2), ("store", 4)]
    functions = "".join(
        f'(func (export "{name}") (param i32 i32) (loop $l '
        + (
            f"(i32.{name} offset=8 (local.get 0) (local.get 1))"
            if "store" in name
            else f"(drop (i32.{name} offset=8 (local.get 0)))"
        )
        + "(br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))))"
        for name, _ in accesses
    )
    exports = exports_of(f'(module (memory 1) {functions} (func (export "grow") (drop (memory.grow (i32.const 1)))))',
                         memory=memory, translation="eager")  # fmt: skip
    for end in (1 << 16, 2 << 16):
        for name, width in accesses:
            exports[name](end - 8 - width, 3)
            for at in (end - 8 - width + 1, end, -1, -8, -9):
                with pytest.raises(wl.Trap, match="out of bounds"):
                    exports[name](at, 3)
        exports.grow()


def test_modules_go_while_their_code_runs(batch: Any) -> None:
    """The collector runs, and all names go, in the middle of calls."""
    batch(0)
    seen = 0

    def goes_on() -> int:
        nonlocal seen
        seen += 1
        holder.clear()
        gc.collect()
        [exports_of(SOURCE, IMPORTS).fib(5) for _ in range(2)]
        return seen < 3

    holder = [exports_of(SOURCE, {"host": {"goes_on": goes_on}})]
    assert holder[0].spin() == 3 * 4096
    gc.collect()


def test_code_is_made_in_storms_of_the_collector(batch: Any) -> None:
    batch(0)
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for translation in ("eager", "lazy"):
            check_results(exports_of(SOURCE, IMPORTS, translation=translation))
    finally:
        gc.set_threshold(*before)


def test_stacks_are_as_deep_as_interpreted(batch: Any) -> None:
    """Frames are the same, so the same call is the first that doesn't fit."""
    batch(0)
    text = """(module
      (func $down (export "down") (param i32 i64 f64) (local i32)
        (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
        (call $down (local.get 0) (local.get 1) (local.get 2)))
      (global $depth (export "depth") (mut i32) (i32.const 0)))"""
    depths = set()
    for tier in ("interpreter", "baseline"):
        engine = wl.Engine(tier=tier, cache=False)
        exports = wl.Instance(wl.Module(text, engine), store=wl.Store(engine)).exports
        with pytest.raises(wl.Trap, match="call stack exhausted"):
            exports.down(1, 2, 3.0)
        depths.add(exports.depth.value)
    assert len(depths) == 1 and depths.pop() > 1000


@pytest.mark.parametrize("translation", ["eager", "lazy"])
def test_odd_modules(translation: str) -> None:
    exports_of("(module)", translation=translation)
    exports_of('(module (import "host" "goes_on" (func (result i32))))', IMPORTS, translation=translation)
    assert exports_of('(module (func (export "f")))', translation=translation).f() is None
    with pytest.raises(wl.Trap, match="unreachable"):
        exports_of('(module (func (export "f") unreachable))', translation=translation).f()


def test_a_very_large_function(batch: Any) -> None:
    """Seven megabytes, in one loop; the branches to its ends are long."""
    batch(0)
    # local.get 0, local.get 1, i32.add, local.set 0, a thousand times; and local.get 1, i32.eqz, br_if to the end.
    steps = bytes((0x20, 0, 0x20, 1, 0x6A, 0x21, 0)) * 1000 + bytes((0x20, 1, 0x45, 0x0D, 1))
    count = 1000
    # The end of the loop: local.get 2, i32.const 1, i32.sub, local.tee 2, br_if 0.
    end = bytes((0x20, 2, 0x41, 1, 0x6B, 0x22, 2, 0x0D, 0, 0x0B, 0x0B, 0x20, 0))
    data = build.function(
        b"\x02\x40\x03\x40", steps * count, end, type=b"\x60\x03\x7f\x7f\x7f\x01\x7f",
        extra=build.section(build.EXPORT, build.vec(b"\x01f\0\0")),
    )  # fmt: skip
    exports = exports_of(data)
    assert exports.f(0, 3, 2) == 2 * 3 * 1000 * count
    assert exports.f(7, 0, 5) == 7
