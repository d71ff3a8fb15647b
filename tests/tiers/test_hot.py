"""What is hot in stores that mix gets compiled code while guests run, and the next process has it from the cache."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE, attempts, is_at_rest
from wasmloom.compiler import compiled, workers
from wasmloom.compiler.elf import ObjectError
from wasmloom.errors import CompileError
from wasmloom.host import module as modules
from wasmloom.runtime.codememory import live_mappings
from wasmloom.system import log
from wasmloom.tiers import heat, hot, mixed
from wasmloom.tiers.frames import frames_inside

#: The folder that processes find the tests in.
ROOT = Path(__file__).resolve().parents[2]

#: `spin` calls `work`, in a loop that ends when the host says so, and asks the host now and then.
SPIN = """(module
  (import "m" "goes_on" (func $goes_on (result i32)))
  (global $n (export "n") (mut i64) (i64.const 0))
  (func $work (param i64) (result i64) (i64.add (local.get 0) (i64.const 3)))
  (func $spin (export "spin") (result i64) (local $i i32) (local $sum i64)
    (loop $l
      (local.set $sum (call $work (local.get $sum)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.and (local.get $i) (i32.const 0xffff)))
      (br_if $l (call $goes_on)))
    (i64.div_u (local.get $sum) (i64.extend_i32_u (local.get $i))))
  (func $outer (export "outer") (result i64) (call $spin))
  (func $cold (export "cold") (result i32) (i32.const 9)))"""
WORK, SPINS, OUTER, COLD = range(4)

#: What a process does that ends when `spin` runs as compiled code; it prints how that came.
PROCESS = """
import sys
from tests.tiers import test_hot
test_hot.set_thresholds(setattr)
compiled, compile_parts = [], test_hot.compiled.compile_parts
test_hot.compiled.compile_parts = lambda *rest, **more: (compiled.append(1), compile_parts(*rest, **more))[1]
run = test_hot.Run(cache=True)
assert run.until_compiled() == 3
assert test_hot.is_at_rest()
print(sorted(test_hot.mixed.replaced(run.module)), compiled != [])
"""


def set_thresholds(set_value: Callable[[Any, str, Any], object]) -> None:
    """Whatever ticks find is worth compiling, in modules of any size."""
    set_value(modules, "LARGE", 0)
    for name in ("ROUND", "HOT"):
        set_value(heat, name, 1)


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    set_thresholds(monkeypatch.setattr)
    monkeypatch.setenv("WASMLOOM_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.MonkeyPatch.context() as apart:  # a forked child, which undoes the others, has a crew of its own
        apart.setattr(workers, "_crew", workers._Crew())  # without earlier tests' workers
        yield
        assert is_at_rest()  # the next test sees only what it has begun itself


class Run:
    """An instance of `SPIN`, in a store of its own."""

    def __init__(self, *, cache: bool = False, module: wl.Module | None = None, **settings: Any) -> None:
        self.module = module or wl.Module(SPIN, wl.Engine(tier="auto", cache=cache))
        self.store = wl.Store(self.module.engine, **settings)
        self.done: Callable[[], bool] = self.is_compiled
        self.seen = 0
        self.exports = wl.Instance(self.module, {"m": {"goes_on": self.goes_on}}, store=self.store).exports

    def goes_on(self) -> int:
        self.seen += 1
        return not self.done() and time.monotonic() < self._deadline

    def is_compiled(self) -> bool:
        """Whether the function that has called the host runs as compiled code."""
        return type(frames_inside(self.store)[1].code).__name__ == "CompiledModule"

    def until_compiled(self, name: str = "spin") -> Any:
        """What `spin` returns, which ends when it runs as compiled code; or the number of times it was asked."""
        self._deadline = time.monotonic() + PATIENCE
        result = self.exports[name]()
        return result if time.monotonic() < self._deadline else self.seen

    def run(self, seconds: float = PATIENCE, until: Callable[[], bool] = lambda: False) -> None:
        """Run until something is so."""
        self.done = until
        self._deadline = time.monotonic() + seconds
        assert self.exports.spin() == 3


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> list[bytes]:
        raise AssertionError("all of it is in the cache")

    monkeypatch.setattr(compiled, "compile_parts", refuse)


def test_a_call_that_never_ends_goes_on_as_compiled_code() -> None:
    """From its loop, with what that calls, and nothing else."""
    run = Run()
    assert run.module.mixes and run.until_compiled() == 3
    assert run.module.compiled is None and run.store.tier_name == "interpreter"
    assert set(mixed.replaced(run.module)) <= {WORK, SPINS} and SPINS in mixed.replaced(run.module)
    assert run.until_compiled("outer") == 3  # at once, or there would be a host that asks for ever
    assert run.exports.cold() == 9


def test_a_nested_call_does_so_too() -> None:
    """What the host calls, from within a call."""
    inner = Run()
    outer = wl.Module(
        """(module (import "m" "host" (func $host (result i64)))
          (func (export "call") (result i64) (i64.add (call $host) (i64.const 1))))""",
        inner.module.engine,
    )
    imports = {"m": {"host": lambda: inner.until_compiled()}}
    assert wl.Instance(outer, imports, store=inner.store).exports.call() == 4
    assert SPINS in mixed.replaced(inner.module)


def test_many_short_calls_are_as_good_as_a_long_one() -> None:
    run = Run()
    run.done = lambda: True
    run._deadline = deadline = time.monotonic() + PATIENCE
    while SPINS not in mixed.replaced(run.module) and time.monotonic() < deadline:
        assert run.exports.spin() == 3
    assert SPINS in mixed.replaced(run.module)


def test_modules_that_change_over_as_a_whole_still_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones, those with continuations, those that have been compiled, and with a threshold."""
    engine = wl.Engine(tier="auto", cache=False)
    with_continuations = '(module (type $f (func)) (type (cont $f)) (func (export "f")))'
    plain = '(module (func (export "f")))'
    assert wl.Module(plain, engine).mixes
    assert not wl.Module(with_continuations, engine).mixes
    for settings in ({"tier": "auto", "threshold": 3}, {"tier": "interpreter"}, {"tier": "baseline"}):
        assert not wl.Module(plain, wl.Engine(cache=False, **settings)).mixes
    module = wl.Module(plain, engine)
    module.compile()
    exports = wl.Instance(module).exports
    for _ in range(600):
        exports.f()
    assert exports.f.store.tier_name == "compiler"
    monkeypatch.undo()
    assert not wl.Module(plain, engine).mixes


def test_a_store_that_gets_its_large_module_in_a_call_mixes_from_the_next_one_on() -> None:
    engine = wl.Engine(tier="auto", cache=False)
    store = wl.Store(engine)
    outer = wl.Module(
        """(module (import "m" "host" (func $host)) (type $f (func)) (type (cont $f))
          (func (export "f") (call $host)))""",
        engine,
    )
    inside = wl.Module(SPIN, engine)
    made: list[Any] = []

    def host() -> None:
        made.append(wl.Instance(inside, {"m": {"goes_on": int}}, store=store))

    wl.Instance(outer, {"m": {"host": host}}, store=store).exports.f()
    deadline = time.monotonic() + PATIENCE
    while SPINS not in mixed.replaced(inside) and time.monotonic() < deadline:
        made[0].exports.spin()
    assert SPINS in mixed.replaced(inside) and store.tier_name == "interpreter"


def test_the_next_process_has_it_from_the_cache(tmp_path: Path) -> None:
    """Once all is there that `spin` needs, which a process may not have run for long enough to find out."""
    for turn in attempts():
        output = subprocess.run(
            [sys.executable, "-c", PROCESS],
            cwd=ROOT,
            env={**os.environ, "WASMLOOM_CACHE_DIR": str(tmp_path / "shared")},
            stdout=subprocess.PIPE,
            text=True,
            timeout=300,
            check=True,
        ).stdout
        replaced, _, has_compiled = output.rpartition(" ")
        assert str(SPINS) in replaced
        assert turn or has_compiled == "True\n"
        if has_compiled == "False\n":
            return
    pytest.fail("each process compiled something")


def test_groups_of_several_processes_are_kept_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """None needs another one, and what is there twice counts once."""
    for functions in ([WORK], [WORK, COLD], [SPINS]):
        module = wl.Module(SPIN, wl.Engine(tier="auto"))
        kept = kept_of(module)
        mixed.begin(module, [], [], kept.keep_base)(lambda: False)(module)
        loops = [(SPINS, at) for at in module.code_space.loops_of(SPINS)] if SPINS in functions else []
        mixed.begin(module, functions, loops, kept.keep)(lambda: False)(module)
    forbid_compiling(monkeypatch)
    run = Run(cache=True)
    assert run.until_compiled() == 3
    assert mixed.replaced(run.module) == [WORK, SPINS, COLD]
    assert len(list(kept_of(run.module).groups())) == 3


def kept_of(module: wl.Module) -> hot._Kept:
    """What the cache has of a module."""
    noted = heat.Heat(0, lambda index: 0, lambda index: ())
    hot._begin_load(module, noted)(lambda: False)
    return noted.kept  # type: ignore[no-any-return]


def test_a_group_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries for frames that look otherwise, and loops that are none: who knows who has written that."""
    module = wl.Module(SPIN, wl.Engine(tier="auto"))
    kept = kept_of(module)
    made: list[mixed.Made] = []
    mixed.begin(module, [], [], kept.keep_base)(lambda: False)(module)
    loops = [(SPINS, at) for at in module.code_space.loops_of(SPINS)]
    mixed.begin(module, [WORK], loops, made.append)(lambda: False)
    for at, entry in ((loops[0][1] + 8, made[0].entries[0]), (loops[0][1], made[0].entries[0]._replace(locals=(9, 8)))):
        kept.keep(made[0]._replace(loops=[(SPINS, at)], entries=[entry]))
    forbid_compiling(monkeypatch)
    run = Run(cache=True)
    run.run(until=lambda: mixed.replaced(run.module) == [WORK])
    assert mixed.replaced(run.module) == [WORK]


def test_a_whole_module_begins_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is translated but what runs on a stack where only bytecode can: what it calls there, and nothing else."""
    wl.Module(SPIN, wl.Engine(tier="compiler"))
    forbid_compiling(monkeypatch)
    run = Run(cache=True)
    assert mixed.replaced(run.module) == [WORK, SPINS, OUTER, COLD]
    assert run.until_compiled("outer") == 3 and run.seen == 1
    space = run.module.code_space
    assert not any(space.is_translated(function) for function in (WORK, SPINS, OUTER, COLD))
    assert asyncio.run(run.exports.outer.call_async()) == 3
    assert not any(space.is_translated(function) for function in (WORK, SPINS, OUTER, COLD))
    small = Run(module=run.module, memory_limit=1 << 19)  # too small for calls that wait to have two stacks
    small.done = lambda: True
    assert asyncio.run(small.exports.outer.call_async()) == 3
    assert [space.is_translated(function) for function in (WORK, SPINS, OUTER, COLD)] == [True, True, True, False]
    assert run.until_compiled("outer") == 3


def test_code_of_no_use_leaves_everything_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wl.Module(SPIN, wl.Engine(tier="compiler"))
    told: list[str] = []

    def load(*arguments: object) -> None:
        raise ObjectError("damaged image of compiled code")

    monkeypatch.setattr(mixed, "load", load)
    monkeypatch.setattr(log, "TIERS", True)
    monkeypatch.setattr(log, "tell", told.append)
    run = Run(cache=True)
    assert mixed.replaced(run.module) == [] and run.exports.cold() == 9
    assert len(told) == 1 and "damaged image" in told[0]


@pytest.mark.parametrize("error", [CompileError("a compiling worker process ended"), MemoryError(), RuntimeError("?")])
def test_what_cannot_be_compiled_stays_as_it_is(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """No guest notices, and nothing is tried for ever."""
    asked: list[list[int]] = []
    told: list[str] = []

    def begin(module: Any, functions: Any, loops: Any = (), keep: Any = None) -> Any:
        asked.append(list(functions))
        raise error

    monkeypatch.setattr(mixed, "begin", begin)
    monkeypatch.setattr(log, "TIERS", True)
    monkeypatch.setattr(log, "tell", told.append)
    run = Run()

    def is_over() -> bool:
        found = run.module.heat
        return found is not None and len(asked) > 1 and not found.is_due

    run.run(until=is_over)
    assert mixed.replaced(run.module) == [] and len(asked) <= heat.FAILURES
    assert any("none, " + repr(error) in text for text in told)


def test_code_beyond_the_limit_is_not_loaded() -> None:
    """Nor is any more compiled."""
    module = wl.Module(SPIN, wl.Engine(tier="auto", cache=False, code_limit=6000))
    run = Run(module=module)
    run.run(until=lambda: module.heat is not None and module.heat.failures > 0)
    assert module.heat is not None and module.heat.failures == heat.FAILURES and mixed.replaced(module) == []
    assert run.exports.cold() == 9


def test_a_killed_worker_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()

    def kill() -> bool:
        for process in workers.worker_processes():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        return run.module.heat is not None and run.module.heat.failures > 1

    run.run(until=kill)
    assert run.module.heat is not None and run.module.heat.failures > 1


@contextlib.contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Compiling takes as long as the block, unless nobody wants it any more; what has come to an end is listed."""
    go_on = threading.Event()
    ends: list[str] = []

    def begin(module: Any, functions: Any, loops: Any = (), keep: Any = None) -> Any:
        ends.append("begun")

        def work(abandoned: Callable[[], bool]) -> Any:
            while not go_on.is_set() and not abandoned():
                time.sleep(0.001)
            if abandoned():
                ends.append("abandoned")
                raise workers.Abandoned("gone")
            return lambda module: None

        return work

    monkeypatch.setattr(mixed, "begin", begin)
    try:
        yield ends
    finally:
        go_on.set()


def test_guests_end_in_time_while_something_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(monkeypatch) as ends:
        run = Run()
        run.run(until=lambda: bool(ends))
        late = Run(module=run.module, timeout=0.05)
        late.done, late._deadline = lambda: False, time.monotonic() + PATIENCE
        with pytest.raises(wl.Trap, match="time"):
            late.exports.spin()

        def interrupted() -> bool:
            signal.raise_signal(signal.SIGINT)
            return False

        with pytest.raises(KeyboardInterrupt):
            run.run(until=interrupted)
        background = run.module.background
        assert ends == ["begun"] and background is not None and not background.done


def test_a_module_goes_while_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(monkeypatch) as ends:
        run = Run()
        run.run(until=lambda: bool(ends))
        module, compiling = weakref.ref(run.module), run.module.background
        assert compiling is not None
        del run
        gc.collect()
        assert module() is None
        compiling.join(PATIENCE)
        assert compiling.done and ends == ["begun", "abandoned"]


def test_what_a_signal_handler_raises_in_a_look_leaves_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wherever else it runs; the guest can't be entered meanwhile."""
    run = Run()
    refused: list[str] = []

    def look(*arguments: object) -> None:
        try:
            run.exports.cold()
        except wl.WasmError as error:
            refused.append(str(error))
        raise KeyboardInterrupt

    monkeypatch.setattr(hot, "look", look)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert len(refused) == 1 and "can't call into the store" in refused[0]
    monkeypatch.undo()
    assert run.exports.cold() == 9


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), ImportError(), OSError(errno.EMFILE, "full")])
def test_a_look_that_fails_is_no_matter(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deep in Python's recursion, or with all descriptors in use, the guest goes on; handlers' errors end it."""
    run = Run()
    looks: list[wl.Module] = []

    def look(module: wl.Module, *rest: object) -> None:
        looks.append(module)
        raise error if len(looks) < 3 else TimeoutError

    monkeypatch.setattr(hot, "look", look)
    with pytest.raises(TimeoutError):
        run.run()
    assert len(looks) == 3


def test_places_of_other_code_cost_nothing_but_precision() -> None:
    """Addresses of what is gone, and such as are in the middle of an instruction."""
    run = Run()
    run.done, run._deadline = lambda: True, time.monotonic() + PATIENCE
    run.exports.spin()
    space = run.module.code_space
    (loop,) = space.loops_of(SPINS)
    assert space.places([0, 1, (1 << 64) - 1, id(run)]) == []
    places = [(SPINS, loop + 8), (SPINS, loop + 3), (SPINS, 1), (COLD, 8), (WORK, 0)]
    found, entries = mixed._entries(run.module, places)
    assert found == [] and entries == []
    mixed.replace(run.module, [SPINS], places)
    run.done = run.is_compiled
    assert run.until_compiled() == 3


def test_threads_with_stores_of_their_own_share_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    begin = mixed.begin
    monkeypatch.setattr(mixed, "begin", lambda module, *rest: (made.append(rest[0]), begin(module, *rest))[1])
    module = wl.Module(SPIN, wl.Engine(tier="auto", cache=False))
    runs = [Run(module=module) for _ in range(4)]
    results: list[Any] = []
    threads = [threading.Thread(target=lambda run=run: results.append(run.until_compiled())) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3] * 4
    assert sum(SPINS in functions for functions in made) == 1
    assert len(workers.worker_processes()) <= workers.most_behind()


def test_many_modules_share_workers_and_leave_nothing_behind() -> None:
    """However many have something to be compiled at the same time."""

    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    engine = wl.Engine(tier="auto", cache=False)
    before, mappings = counts(), live_mappings()
    runs = [Run(module=wl.Module(SPIN, engine)) for _ in range(30)]
    for run in runs:
        hot.look(run.module, [], run.store)
        assert run.module.heat is not None and run.module.background is not None
        run.module.background.join(PATIENCE)
        run.module.heat.note([(COLD, 0)])
        hot.look(run.module, [], run.store)
    deadline = time.monotonic() + PATIENCE
    while any(mixed.replaced(run.module) == [] for run in runs) and time.monotonic() < deadline:
        assert len(workers.worker_processes()) <= workers.most_behind()
        now = counts()
        assert now[0] <= before[0] + 2 * workers.most_behind() + 1 and now[1] <= before[1] + 8 * workers.most_behind()
        time.sleep(0.005)
    assert [mixed.replaced(run.module) for run in runs] == [[COLD]] * 30
    assert [run.exports.cold() for run in runs] == [9] * 30
    used = engine.code_used
    del runs, run
    gc.collect()
    assert engine.code_used < used / 10 and live_mappings() <= mappings + 1


def test_a_forked_child_compiles_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its parent's threads were doing."""
    with held(monkeypatch) as ends:
        run = Run()

        def fork() -> bool:
            if ends and not children:
                children.append(os.fork())
                if children == [0]:
                    monkeypatch.undo()
                    set_thresholds(setattr)
                    run.done = run.is_compiled
                    return False
            return bool(children)

        children: list[int] = []
        run.done, run._deadline = fork, time.monotonic() + PATIENCE
        result = run.exports.spin()
        if children == [0]:
            os._exit(0 if result == 3 and mixed.replaced(run.module) and time.monotonic() < run._deadline else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "threading.Thread(target=run.run, daemon=True).start()"])
def test_a_process_ends_while_something_is_compiled(end: str) -> None:
    """With a worker at work, and with a guest in another thread that looks for work as Python ends."""
    script = f"""
import os, sys, threading
from tests.tiers import test_hot
test_hot.set_thresholds(setattr)
run = test_hot.Run()
run.run(until=lambda: test_hot.workers.worker_processes() != [])
{end}
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
