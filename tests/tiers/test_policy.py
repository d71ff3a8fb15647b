"""The tier "auto": when a store changes over to compiled code, and when it must not."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE, comes
from wasmloom.baseline.copier import set_batch
from wasmloom.compiler.workforce import Abandoned, most_behind
from wasmloom.host.module import Module
from wasmloom.tiers import background

SUM = """
  (module
    (memory (export "memory") 1)
    (global $calls (export "calls") (mut i32) (i32.const 0))
    (func (export "sum") (param $n i32) (result i64) (local $s i64)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (loop $again
        (local.set $s (i64.add (local.get $s) (i64.extend_i32_u (local.get $n))))
        (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
      (i64.store (i32.const 8) (local.get $s))
      (local.get $s)))
"""

GENERATOR = """
  (module
    (type $f (func)) (type $k (cont $f))
    (tag $yield (export "yield") (param i32))
    (func $count (suspend $yield (i32.const 1)) (suspend $yield (i32.const 2)))
    (elem declare func $count)
    (func (export "start") (result (ref $k)) (cont.new $k (ref.func $count)))
    (func (export "one") (result i32) (i32.const 1)))
"""


def engine(**options: object) -> wl.Engine:
    return wl.Engine(tier="auto", cache=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [0, 1, 3])
def test_a_threshold_counts_calls(threshold: int) -> None:
    instance = wl.Instance(wl.Module(SUM, engine(threshold=threshold)))
    for call in range(6):
        assert instance.exports.sum(10) == 55
        assert (instance.store.tier_name == "compiler") == (call >= threshold)
        # State is the same in both kinds of code.
        assert instance.exports.calls.value == call + 1
        assert bytes(instance.exports.memory[8:16]) == (55).to_bytes(8, "little")


def test_code_comes_from_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(module: Module) -> str:
        raise AssertionError("nobody is told the name: it isn't decoded, as there may be millions of others with it")

    monkeypatch.setattr(Module, "name", property(decode))
    instance = wl.Instance(wl.Module(SUM, engine()))
    deadline = time.monotonic() + PATIENCE
    while instance.store.tier_name == "interpreter" and time.monotonic() < deadline:
        for _ in range(100):
            assert instance.exports.sum(1000) == 500500
        time.sleep(0.01)
    assert instance.store.tier_name == "compiler"
    assert instance.exports.sum(1000) == 500500


@pytest.fixture
def code_in_batches() -> Iterator[None]:
    """Code is made when there is enough to do, also where all other tests make it at once."""
    before = set_batch(1 << 15)
    yield
    set_batch(before)


@pytest.mark.usefixtures("code_in_batches")
def test_stencils_come_before_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a guest's first tick, and before its functions' compiled code: the guest goes on from one to the other."""
    seen: list[tuple[str, list[int]]] = []

    def goes_on() -> int:
        seen.append((store.tier_name, module.code_space.with_code()))
        if seen[-1][1]:
            go_on.set()
        return store.tier_name != "compiler" and time.monotonic() < deadline

    compile_it = Module.begin_behind

    def begin_behind(self: Module, positions: Any) -> Any:
        work = compile_it(self, positions)

        def later(abandoned: Callable[[], bool]) -> Any:
            assert go_on.wait(PATIENCE)
            return work(abandoned)

        return later

    monkeypatch.setattr(Module, "begin_behind", begin_behind)
    go_on = threading.Event()
    module = wl.Module(
        """(module (import "e" "goes_on" (func $goes_on (result i32)))
             (func (export "one") (result i32) (i32.const 1))
             (func (export "spin") (result i32) (local $n i32)
               (loop $l
                 (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (br_if $l (i32.and (local.get $n) (i32.const 0xffff)))
                 (br_if $l (call $goes_on)))
               (local.get $n)))""",
        engine(),
    )
    store = wl.Store(module.engine)
    exports = wl.Instance(module, {"e": {"goes_on": goes_on}}, store=store).exports
    deadline = time.monotonic() + PATIENCE
    assert exports.one() == 1
    assert module.code_space.with_code() == []  # short calls have none
    assert exports.spin() % 0x10000 == 0
    assert ("interpreter", module.code_space.used()) in seen
    assert seen[-1][0] == "compiler"


def test_a_suspended_continuation_changes_over_with_its_store() -> None:
    """One that was suspended in the interpreter goes on compiled; Python resumes it before, across and after."""
    instance = wl.Instance(wl.Module(GENERATOR, engine(threshold=2)))
    exports = instance.exports
    first = exports.start().resume(on=exports["yield"])
    other = exports.start().resume(on=exports["yield"])
    assert isinstance(first, wl.Suspension) and first.payload == (1,)
    assert isinstance(other, wl.Suspension)
    for _ in range(20):
        assert exports.one() == 1
    assert instance.store.tier_name == "compiler"
    second = first.continuation.resume(on=exports["yield"])
    assert isinstance(second, wl.Suspension) and second.payload == (2,)
    assert second.continuation.resume(on=exports["yield"]) is None
    assert list(wl.resume_iter(other.continuation, exports["yield"])) == [2]
    # Continuations of compiled code do the same.
    first = exports.start().resume(on=exports["yield"])
    assert isinstance(first, wl.Suspension) and first.payload == (1,)
    assert list(wl.resume_iter(first.continuation, exports["yield"])) == [2]


def test_a_generator_that_python_drives_changes_over() -> None:
    """Many short resumptions are as good as many calls."""
    text = """(module (type $f (func)) (type $k (cont $f)) (tag $yield (export "yield") (param i32))
      (func $count (local $i i32)
        (loop $l (suspend $yield (local.get $i)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $l)))
      (elem declare func $count) (func (export "start") (result (ref $k)) (cont.new $k (ref.func $count))))"""
    instance = wl.Instance(wl.Module(text, engine(threshold=5)))
    numbers = wl.resume_iter(instance.exports.start(), instance.exports["yield"])
    assert [next(numbers) for _ in range(100)] == list(range(100))
    assert instance.store.tier_name == "compiler"


def test_what_comes_later_is_compiled_at_once() -> None:
    shared = engine(threshold=1)
    instance = wl.Instance(wl.Module(SUM, shared))
    for _ in range(3):
        instance.exports.sum(3)
    assert instance.store.tier_name == "compiler"
    caller = wl.Module(
        """(module (import "a" "sum" (func $sum (param i32) (result i64)))
             (func (export "twice") (param i32) (result i64)
               (i64.add (call $sum (local.get 0)) (call $sum (local.get 0)))))""",
        shared,
    )
    other = wl.Instance(caller, {"a": instance}, store=instance.store)
    assert caller.compiled is not None
    assert other.exports.twice(4) == 20


def test_a_call_from_inside_changes_nothing() -> None:
    """Nested calls aren't between calls: the outer one's frames are interpreted."""
    made: list[wl.Instance] = []

    def inside(n: int) -> int:
        before = made[0].store.tier_name
        result: int = made[0].exports.fact(n)
        assert made[0].store.tier_name == before
        return result

    module = wl.Module(
        """(module (import "e" "inside" (func $inside (param i32) (result i32)))
             (func (export "fact") (param i32) (result i32)
               (if (result i32) (local.get 0)
                 (then (i32.mul (local.get 0) (call $inside (i32.sub (local.get 0) (i32.const 1)))))
                 (else (i32.const 1)))))""",
        engine(threshold=2),
    )
    made.append(wl.Instance(module, {"e": {"inside": inside}}))
    for call in range(5):
        assert made[0].exports.fact(6) == 720
        assert (made[0].store.tier_name == "compiler") == (call >= 2)


@pytest.mark.parametrize("options", [{"tier": "auto", "threshold": -1}, {"tier": "compiler", "threshold": 1}])
def test_thresholds_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        wl.Engine(**options)  # type: ignore[arg-type]


def test_guests_go_on_interpreted_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(background, "start", start)
    monkeypatch.setattr(background, "_queue", background._Queue())
    instance = wl.Instance(wl.Module(SUM, engine()))
    for _ in range(1200):  # more than make a store worth a look, and another
        assert instance.exports.sum(10) == 55
    assert instance.store.tier_name == "interpreter" and isinstance(instance.module.background.failed, RuntimeError)


def test_few_modules_are_compiled_at_a_time_and_none_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many guests as there may be: those that have ended don't keep workers busy."""
    begun: list[str] = []
    go_on = threading.Event()

    def begin_behind(self: Any, positions: Any) -> Any:
        name = repr(self)

        def work(abandoned: Callable[[], bool]) -> Any:
            begun.append(name)
            while not abandoned() and not go_on.is_set():
                time.sleep(0.001)
            if abandoned():
                raise Abandoned("gone")
            return lambda module: None

        return work

    monkeypatch.setattr(Module, "begin_behind", begin_behind)
    instances = [wl.Instance(wl.Module(SUM, engine())) for _ in range(10)]
    for instance in instances:
        for _ in range(501):
            instance.exports.sum(1)
    backgrounds = [instance.module.background for instance in instances]
    assert all(backgrounds)
    assert comes(lambda: len(begun) == most_behind())
    last = instances.pop()
    del instance
    while instances:  # those that nobody has begun with go first
        instances.pop()
    backgrounds[-2].join()  # they come in turn: all others are gone
    assert all(background.failed is None for background in backgrounds)
    go_on.set()
    assert last.module.background is backgrounds[-1]
    backgrounds[-1].join()
    assert len(begun) == most_behind() + 1


def test_a_forked_child_compiles_for_itself() -> None:
    """Its parent's threads are not there."""
    instance = wl.Instance(wl.Module(SUM, engine()))
    for _ in range(501):
        instance.exports.sum(1)
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            deadline = time.monotonic() + PATIENCE
            while instance.store.tier_name == "interpreter" and time.monotonic() < deadline:
                for _ in range(100):
                    instance.exports.sum(1000)
                time.sleep(0.01)
            status = 0 if instance.store.tier_name == "compiler" else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
