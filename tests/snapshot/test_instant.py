"""Copies whose memories are mapped from one file: what they share, how they grow, and what the next guest sees."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import FOREVER
from wasmloom.runtime.regions import live_regions

PAGE = 1 << 16
TEXT = """(module (memory (export "m") 4 40)
  (func (export "put") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "get") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2))))"""


def descriptors() -> int:
    """How many files of images the process has open. (Other descriptors come and go in other threads.)"""
    gc.collect()
    found = 0
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += "wasmloom-snapshot" in os.readlink(f"/proc/self/fd/{each}")
    return found


def template(engine: wl.Engine, text: str = TEXT) -> wl.Snapshot:
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module(text, engine), store=store).exports
    exports.m[0:5], exports.m[3 * PAGE - 3 : 3 * PAGE + 3] = b"begin", b"middle"
    return wl.Snapshot.take(store)


@pytest.fixture(
    params=[*product([name for name in ENGINES if name != "checked"], ("guarded", "checked"))], ids="-".join
)
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    name, memory = request.param
    return engine_of(name, memory=memory)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_copies_see_what_they_write_and_nothing_else(engine: wl.Engine) -> None:
    kept = template(engine)
    copies = [kept.restore().instances[0].exports for _ in range(3)]
    copies[0].put(0, 7)
    copies[1].fill(0, 9, 4 * PAGE)
    copies[1].put(3 * PAGE, 1)
    assert (copies[0].get(0), copies[1].get(PAGE), copies[1].get(3 * PAGE)) == (7, 0x09090909, 1)
    for exports in (copies[2], kept.restore().instances[0].exports):
        assert exports.m[:6] == b"begin\0" and exports.m[3 * PAGE - 3 : 3 * PAGE + 4] == b"middle\0"
        assert exports.m.read(8, 3 * PAGE - 16) == bytes(3 * PAGE - 16)
    # And what a copy has written is part of the next snapshot.
    again = wl.Snapshot.take(copies[0].m.store).restore().instances[0].exports
    assert again.get(0) == 7 and again.m[3 * PAGE : 3 * PAGE + 3] == b"dle"


def test_growing(engine: wl.Engine) -> None:
    exports = template(engine).restore().instances[0].exports
    exports.put(4, 5)
    view = memoryview(exports.m)
    assert exports.grow(0) == 4
    if engine.checked:
        assert exports.grow(1) == -1  # a view holds it where it is
    view.release()
    for size in range(4, 40):
        assert exports.grow(1) == size
        exports.put(size * PAGE, size)
    assert exports.grow(1) == -1
    assert [exports.get(size * PAGE) for size in range(4, 40)] == [*range(4, 40)]
    assert exports.m[:4] == b"begi" and exports.get(4) == 5 and exports.m[3 * PAGE : 3 * PAGE + 3] == b"dle"
    assert exports.m.store.memory_used >= 40 * PAGE
    assert wl.Snapshot.take(exports.m.store).restore().instances[0].exports.get(39 * PAGE) == 39
    with pytest.raises(wl.Trap, match="out of bounds"):
        exports.get(40 * PAGE)


def test_the_next_guest_sees_nothing(engine: wl.Engine) -> None:
    """Address space is kept for the next memory: it must have neither the file's bytes nor the guest's."""
    module = wl.Module(TEXT, engine)
    kept = template(engine)
    others = [wl.Instance(module) for _ in range(20)]  # they have what others have left
    for grown in (0, 1, 9):
        copies = [kept.restore().instances[0].exports for _ in range(20)]
        for exports in copies:
            exports.fill(0, 255, 4 * PAGE)
            exports.grow(grown)
        places = {exports.m.address for exports in copies}
        del copies, exports
        met = 0
        for _ in range(20):
            new = wl.Instance(module).exports
            met += new.m.address in places
            assert new.grow(grown) == 4
            assert bytes(new.m) == bytes((4 + grown) * PAGE)
        assert met or engine.checked
    assert others


def test_nothing_is_left(engine: wl.Engine) -> None:
    gc.collect()
    before, regions = descriptors(), live_regions()
    kept = template(engine)
    copies = [kept.restore() for _ in range(5)]
    assert descriptors() == before + 1
    del kept
    assert descriptors() == before
    assert all(copy.instances[0].exports.m[:5] == b"begin" for copy in copies)
    del copies
    gc.collect()
    assert live_regions() <= regions


def test_without_a_descriptor(engine: wl.Engine) -> None:
    """Contents are copied then."""
    kept = template(engine)
    with few_descriptors():
        exports = kept.restore().instances[0].exports
    assert exports.m[:5] == b"begin"
    exports.put(0, 7)
    assert exports.grow(3) == 4 and kept.restore().instances[0].exports.m[:5] == b"begin"


def test_limits(engine: wl.Engine) -> None:
    store = wl.Store(engine, memory_limit=16 * PAGE)
    exports = wl.Instance(wl.Module(TEXT, engine), store=store).exports
    exports.m[:1] = b"x"
    copy = wl.fork(store)
    assert copy.store.memory_used == store.memory_used
    assert copy.instances[0].exports.grow(40) == -1 and copy.instances[0].exports.grow(2) == 4


@pytest.mark.parametrize(
    "type", ["i64 2 9", "5000 9000 (pagesize 1)", "4096 9000 (pagesize 1)", "4097 9000 (pagesize 1)", "1 9"]
)
def test_other_memories(type: str) -> None:
    engine = engine_of("interpreter")
    address = "i64" if "i64" in type else "i32"
    text = f"""(module (memory (export "m") {type})
      (func (export "grow") (param {address}) (result {address}) (memory.grow (local.get 0)))
      (func (export "get") (param {address}) (result i32) (i32.load8_u (local.get 0))))"""
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module(text, engine), store=store).exports
    length = len(exports.m)
    exports.m[length - 2 :] = b"ab"
    kept = wl.Snapshot.from_bytes(wl.Snapshot.take(store).to_bytes())
    for _ in range(2):
        copy = kept.restore().instances[0].exports
        assert copy.m[length - 3 :] == b"\0ab" and copy.get(length - 1) == ord("b")
        with pytest.raises(wl.Trap, match="out of bounds"):
            copy.get(length)
        assert copy.grow(1) == exports.m.size
        assert copy.m[length:] == bytes(len(copy.m) - length) and copy.m[length - 2 : length] == b"ab"
        copy.m[0] = 1
        # It can be copied again, from what is mapped.
        assert wl.fork(copy.m.store).instances[0].exports.m[length - 2 : length] == b"ab"
    assert kept.restore().instances[0].exports.m[0] == 0


def test_forked_processes() -> None:
    """A child of the process has the same copies, and neither sees what the other writes."""
    kept = template(engine_of("interpreter"))
    exports = kept.restore().instances[0].exports
    child = os.fork()
    if child == 0:
        exports.put(0, 1)
        fine = exports.get(0) == 1 and kept.restore().instances[0].exports.m[:5] == b"begin"
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert exports.m[:5] == b"begin"


def test_many_share_their_pages() -> None:
    """300 copies of a memory of 8 MiB that isn't zero: together they take little more than one."""
    engine = engine_of("interpreter")
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module('(module (memory (export "m") 128))', engine), store=store).exports
    exports.m[:] = b"\1" * len(exports.m)
    kept = wl.Snapshot.take(store)
    copies = [kept.restore() for _ in range(300)]
    for copy in copies:
        memory = copy.instances[0].exports.m
        assert all(memory[at] == 1 for at in range(0, len(memory), 1 << 20))
    private = 0
    with open("/proc/self/smaps_rollup") as told:
        private = sum(int(line.split()[1]) for line in told if line.startswith("Private_Dirty"))
    assert private < 300 * 1024  # KiB: an eighth of what 300 memories take


def test_a_copy_goes_with_its_last_user() -> None:
    """Not when the garbage collector comes by: nothing of restoring or taking leads back to the store."""
    kept = template(engine_of("interpreter"))
    gc.disable()
    try:
        before = live_regions()
        for _ in range(3):
            store = kept.restore().store
            wl.Snapshot.take(store)
            del store
        assert live_regions() == before
    finally:
        gc.enable()


def test_threads_that_restore_at_the_same_time() -> None:
    """Also the first time, when the snapshot is prepared."""
    for _ in range(5):
        kept = template(engine_of("interpreter"))
        begin = threading.Barrier(6)

        def restored(number: int, kept: wl.Snapshot = kept, begin: threading.Barrier = begin) -> list[Any]:
            begin.wait(FOREVER)
            copies = [kept.restore().instances[0].exports for _ in range(10)]
            for exports in copies:
                exports.put(8, number)
            return [(exports.get(8), exports.m[:5]) for exports in copies]

        with ThreadPoolExecutor(6) as pool:
            for number, found in enumerate(pool.map(restored, range(6))):
                assert found == [(number, b"begin")] * 10
