"""Stores: fuel, timeouts, threads, lifetimes."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest

import wasmloom as wl
from tests.patience import PATIENCE, attempts
from tests.processes import run_program
from wasmloom.runtime import guests
from wasmloom.runtime.regions import live_regions

SPIN = """(func (export "spin") (loop (br 0)))
  (func (export "count") (param i32) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $r (call $r2)) (func $r2 (param) (nop))
  (func (export "calls") (loop (call $r) (br 0)))
  (func (export "one") (result i32) (i32.const 1))"""


def run(text: str, imports: Any = None, **more: Any) -> Any:
    engine = more["store"].engine if "store" in more else None
    return wl.Instance(wl.Module(f"(module {text})", engine), imports, **more).exports


# --- fuel ---


def test_fuel() -> None:
    engine = wl.Engine(fuel=True)
    store = wl.Store(engine, fuel=1000)
    exports = run(SPIN, store=store)
    exports.one()
    used = 1000 - (store.fuel or 0)
    assert 0 < used < 20
    with pytest.raises(wl.Trap) as trap:
        exports.spin()
    assert trap.value.code == "all fuel consumed"
    store.fuel = 100_000
    exports.count(1000)
    assert store.fuel is not None
    assert 0 < store.fuel < 100_000
    store.fuel = 0
    with pytest.raises(wl.Trap, match="all fuel consumed"):
        exports.count(1000)
    store.fuel = 10**30  # as much as can be counted
    exports.one()
    with pytest.raises(ValueError):
        store.fuel = -1


def test_fuel_needs_an_engine_that_counts() -> None:
    with pytest.raises(ValueError, match="fuel=True"):
        wl.Store(fuel=10)
    assert wl.Store().fuel is None


def test_fuel_is_deterministic() -> None:
    engine = wl.Engine(fuel=True)
    module = wl.Module(f"(module {SPIN})", engine)
    left = set()
    for _ in range(3):
        store = wl.Store(engine, fuel=10_000)
        wl.Instance(module, store=store).exports.count(100)
        left.add(store.fuel)
    assert len(left) == 1


@pytest.mark.parametrize(
    "rest",
    ["", "(block)", "(block (nop))", "(block (br 0))", "(if (local.get 0) (then (nop)) (else (nop)))", "(loop)",
     "(block (block (br_if 1 (local.get 0))))", "(try_table (nop))", "(try_table (block))"],
)  # fmt: skip
@pytest.mark.parametrize("before", [True, False])
def test_every_instruction_costs_fuel(rest: str, before: bool, tier: str) -> None:
    """Whatever follows in the loop: what has been counted up to there isn't forgotten."""
    engine = wl.Engine(tier=tier, fuel=True, cache=False)
    store = wl.Store(engine, fuel=1_000_000)
    again = "(br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))"
    body = f"{again} {rest}" if before else f"{rest} {again}"
    exports = run(f'(func (export "count") (param i32) (loop $l {body}))', store=store)
    exports.count(1000)
    assert store.fuel is not None
    assert 5 * 1000 <= 1_000_000 - store.fuel < 30 * 1000


# --- timeouts and interrupts ---


@pytest.mark.parametrize("name", ["spin", "calls"])
def test_timeout(name: str) -> None:
    store = wl.Store(timeout=0.05)
    exports = run(SPIN, store=store)
    for _ in range(2):
        with pytest.raises(wl.Trap) as trap:
            exports[name]()
        assert trap.value.code == "timeout"
        assert trap.value.frames
        store.timeout = PATIENCE
        assert exports.one() == 1
        store.timeout = 0.05


def test_timeout_in_recursion() -> None:
    exports = run(
        """(func $fib (export "fib") (param i32) (result i32)
      (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
        (else (i32.add
          (call $fib (i32.sub (local.get 0) (i32.const 1)))
          (call $fib (i32.sub (local.get 0) (i32.const 2)))))))""",
        store=wl.Store(timeout=0.05),
    )
    with pytest.raises(wl.Trap) as trap:
        exports.fib(60)
    assert trap.value.code == "timeout"
    assert {frame.func_name for frame in trap.value.frames} == {"fib"}


def test_timeout_through_nested_calls_and_host_functions() -> None:
    exports = run(
        """(import "e" "again" (func $again)) (func (export "f") (loop (call $again) (br 0)))
      (func (export "g") (nop))""",
        {"e": {"again": lambda: exports.g()}},
        store=wl.Store(timeout=0.05),
    )
    with pytest.raises(wl.Trap, match="timeout"):
        exports.f()


def test_bad_limits() -> None:
    for bad in ({"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"memory_limit": -1}, {"stack_limit": 0}):
        with pytest.raises(ValueError):
            wl.Store(**bad)
    wl.Store(timeout=1e30, memory_limit=10**30, stack_limit=10**30)


def test_a_signal_handler_can_not_enter_the_guest_that_it_interrupted() -> None:
    script = f"""
import signal, wasmloom as wl
exports = wl.Instance(wl.Module('''(module {SPIN})''')).exports
other = wl.Instance(wl.Module('''(module {SPIN})''')).exports
def handler(*_):
    assert other.one() == 1
    exports.one()
signal.signal(signal.SIGALRM, handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)  # until one comes while it spins
    exports.spin()
except wl.WasmError as error:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(error)
assert exports.one() == 1
"""
    assert "can't call into the store whose guest it interrupted" in run_program(script)


def test_signal_handlers_run_and_the_guest_goes_on() -> None:
    script = f"""
import signal, wasmloom as wl
exports = wl.Instance(wl.Module('''(module {SPIN})''')).exports
seen = []
def handler(*_):
    if len(seen) == 3:
        return  # one that was on its way when the timer ended
    seen.append(1)
    if len(seen) == 3:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt("third")
signal.signal(signal.SIGALRM, handler)
for name in ("spin", "calls"):
    seen.clear()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        exports[name]()
    except KeyboardInterrupt as error:
        print(error, len(seen))
"""
    assert run_program(script) == "third 3\n" * 2


def test_the_ticker_parks() -> None:
    exports = run(SPIN)
    exports.one()

    def rests() -> bool:
        """Not at once: a ticker that parks looks once more."""
        ticks = guests.tick_count()
        time.sleep(0.1)
        return guests.ticker_is_parked() and guests.tick_count() == ticks

    assert any(rests() for _ in attempts())
    exports = run(SPIN, store=wl.Store(timeout=0.05))
    with pytest.raises(wl.Trap, match="timeout"):
        exports.spin()


# --- threads ---


def test_the_gil_is_free_while_the_guest_runs() -> None:
    exports = run(WAIT, store=wl.Store(timeout=PATIENCE))
    memory = memoryview(exports.m)
    thread = threading.Thread(target=exports.wait)
    thread.start()
    turns = 0
    while thread.is_alive() and turns < 10:
        turns += 1
        time.sleep(0.001)
    assert thread.is_alive()
    memory[0] = 1
    thread.join()


# The guest waits until somebody writes to its memory.
WAIT = """(memory (export "m") 1) (func $wait (loop (br_if 0 (i32.eqz (i32.load8_u (i32.const 0))))))
  (func (export "wait") (call $wait))"""


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_a_thread_that_c_brings_in_gets_the_gil(tier: str) -> None:
    """While there is one thread of Python, the guest keeps the GIL, but not for longer than a tick."""
    script = f"""
import ctypes, threading, wasmloom as wl
class Event(ctypes.Structure):  # struct sigevent
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("notify", ctypes.c_int),
                ("function", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("more", ctypes.c_char * 32)]
libc = ctypes.CDLL(None)
store = wl.Store(wl.Engine(tier="{tier}"), timeout={PATIENCE})
exports = wl.Instance(wl.Module('''(module {WAIT})''', store.engine), store=store).exports
memory = memoryview(exports.m)
said = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def write(_):
    said.append(1)
    memory[0] = 1
timer, event = ctypes.c_void_p(), Event(notify=2, function=ctypes.cast(write, ctypes.c_void_p))  # SIGEV_THREAD
assert libc.timer_create(1, ctypes.byref(event), ctypes.byref(timer)) == 0
assert libc.timer_settime(timer, 0, ctypes.byref((ctypes.c_long * 4)(0, 0, 0, 200_000_000)), None) == 0
assert threading.active_count() == 1
exports.wait()
print(len(said))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_a_thread_that_a_host_function_starts_gets_the_gil(tier: str) -> None:
    """The guest was alone when it was entered, and has to share when it goes on; in an entry from there as well."""
    script = f"""
import threading, wasmloom as wl
store = wl.Store(wl.Engine(tier="{tier}"), timeout={PATIENCE})
module = wl.Module('''(module (import "e" "start" (func $start (param i32))) {WAIT}
  (func (export "run") (param i32) (call $start (local.get 0)) (call $wait)))''', store.engine)
turns = []
def write():
    turns.append(1)
    memory[0] = 1
def start(depth):
    if depth:
        exports.run(depth - 1)
        memory[0] = 0
    threading.Thread(target=write).start()
exports = wl.Instance(module, {{"e": {{"start": start}}}}, store=store).exports
memory = memoryview(exports.m)
for depth in range(3):
    memory[0] = 0
    assert threading.active_count() == 1
    exports.run(depth)
    while threading.active_count() > 1:
        pass
print(len(turns))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "6\n", done.stderr


def test_threads_take_turns_in_a_store() -> None:
    inside = 0
    most = 0

    def host() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1

    exports = run(
        """(import "e" "host" (func $host)) (global $n (mut i32) (i32.const 0))
      (func (export "f") (param i32) (local i32)
        (loop (local.set 1 (global.get $n)) (call $host) (global.set $n (i32.add (local.get 1) (i32.const 1)))
          (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "n") (result i32) (global.get $n))""",
        {"e": {"host": host}},
    )
    threads = [threading.Thread(target=exports.f, args=(5,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exports.n() == 20
    assert most == 1


def test_tables_and_memories_wait_for_the_guest() -> None:
    started = threading.Event()
    exports = run(
        """(import "e" "started" (func $started)) (memory (export "m") 1) (table (export "t") 1 externref)
      (func (export "f") (local i32) (call $started)
        (local.set 0 (i32.const 2000))
        (loop (drop (table.grow (ref.null extern) (i32.const 1)))
          (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))""",
        {"e": {"started": started.set}},
    )
    thread = threading.Thread(target=exports.f)
    thread.start()
    started.wait()
    for _ in range(200):
        assert exports.t[0] is None
        exports.t[0] = None
    exports.t.grow(1)
    exports.m.grow(1)
    thread.join()
    assert len(exports.t) == 2002


def test_stores_run_in_parallel_threads() -> None:
    module = wl.Module(f"(module {SPIN})")
    results: list[int] = []

    def work() -> None:
        exports = wl.Instance(module).exports
        for _ in range(50):
            exports.count(2000)
            results.append(exports.one())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400


def test_threads_end_while_the_ticker_looks_at_them() -> None:
    """The ticker writes to the memory of threads in compiled code; a thread that ends takes its memory along."""
    script = f"""
import threading, time, wasmloom as wl
module = wl.Module('''(module {SPIN})''', wl.Engine(tier="compiler"))
def come_and_go():
    exports = wl.Instance(module).exports
    for _ in range(200):
        thread = threading.Thread(target=exports.count, args=(200_000,))
        thread.start()
        thread.join()
threads = [threading.Thread(target=come_and_go) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""
    assert run_program(script) == "done\n"


def test_waiting_for_a_store_can_be_interrupted() -> None:
    script = f"""
import signal, threading, wasmloom as wl
module = wl.Module('''(module (import "e" "tell" (func $tell)) {SPIN}
  (func (export "tells") (call $tell) (loop (br 0))))''')
inside = threading.Event()
exports = wl.Instance(module, {{"e": {{"tell": inside.set}}}}).exports
thread = threading.Thread(target=exports.tells, daemon=True)
thread.start()
inside.wait()
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    exports.one()
except KeyboardInterrupt:
    print("interrupted", thread.is_alive())
"""
    assert run_program(script) == "interrupted True\n"


# --- lifetimes ---


@pytest.fixture
def no_collector() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_everything_goes_with_its_last_user(no_collector: Any) -> None:
    before = live_regions()
    text = '(module (memory (export "m") 1) (func (export "f") (result i32) (i32.const 3)))'
    instance = wl.Instance(wl.Module(text))
    exports, store = instance.exports, weakref.ref(instance.store)
    function = exports.f
    assert exports.m.size == 1
    assert live_regions() == before + 1
    del instance, exports
    assert store() is not None
    assert function() == 3
    del function
    assert store() is None
    assert live_regions() == before


def test_one_object_keeps_what_it_needs(no_collector: Any) -> None:
    text = """(memory (export "m") 1) (global (export "g") i32 (i32.const 5)) (table (export "t") 1 funcref)
      (func $f (export "f") (result i32) (i32.load (i32.const 0)))
      (elem (i32.const 0) $f) (data (i32.const 0) "\\09")"""
    assert run(text).f() == 9
    assert run(text).m[0] == 9
    assert run(text).g.value == 5
    assert run(text).t[0]() == 9
    view = memoryview(run(text).m)
    assert view[0] == 9


def test_cycles_through_host_functions_are_collected() -> None:
    before = live_regions()
    references = []
    for _ in range(5):
        held: list[Any] = []
        text = '(import "e" "f" (func $f)) (memory (export "m") 1) (func (export "g") (call $f))'
        held.append(run(text, {"e": {"f": held.clear}}))
        held.append(run(text, {"e": {"f": held.copy}}))
        exports = run(text, {"e": {"f": held.copy}})
        held.append(exports)
        exports.g()
        references.append(weakref.ref(exports.g.store))
    del exports, held
    gc.collect()
    assert all(reference() is None for reference in references)
    assert live_regions() == before


def test_guest_contexts_are_reused() -> None:
    for _ in range(200):
        assert run(SPIN).one() == 1
    gc.collect()


def test_failed_instances_leave_nothing_behind(no_collector: Any) -> None:
    before = live_regions()
    for _ in range(3):
        with pytest.raises(wl.LinkError):
            run('(import "e" "f" (func)) (memory 1)')
        with pytest.raises(wl.Trap):
            run('(memory 1) (data (i32.const 70000) "x")')
    gc.collect()
    assert live_regions() == before


def test_a_forked_child_can_use_stores() -> None:
    script = f"""
import os, sys, threading, time, wasmloom as wl
module = wl.Module('''(module (import "e" "fork" (func $fork (result i32))) {SPIN}
  (func (export "forking") (result i32)
    (if (result i32) (call $fork) (then (i32.const 1)) (else (loop (br 0)) (i32.const 0)))))''')
pids = []
def fork():
    pids.append(os.fork())
    return pids[-1]
exports = wl.Instance(module, {{"e": {{"fork": fork}}}}, store=wl.Store(timeout=0.2)).exports
busy_store = wl.Store(timeout=1)
busy = wl.Instance(module, {{"e": {{"fork": fork}}}}, store=busy_store).exports
exports.one()
def spin():
    try:
        busy.spin()
    except wl.Trap:
        pass
thread = threading.Thread(target=spin)
thread.start()
time.sleep(0.05)
pid = os.fork()
if pid == 0:
    try:
        exports.spin()
    except wl.Trap as trap:
        assert trap.code == "timeout"
    busy_store.timeout = {PATIENCE}
    assert busy.one() == 1  # its thread is not here
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
thread.join()
try:
    exports.forking()
except wl.Trap as trap:
    assert trap.code == "timeout"
    if not pids[0]:
        os._exit(8)  # the child, whose guest went on and met its timeout; its parent may be late, too
# A process that compiles in the background may be a child, too.
assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 8
print("done")
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "done\n", done.stderr


def test_a_daemon_thread_in_a_guest_does_not_hinder_the_exit() -> None:
    script = f"""
import threading, time, wasmloom as wl
exports = wl.Instance(wl.Module('''(module {SPIN})''')).exports
for name in ("spin", "calls"):
    exports = wl.Instance(wl.Module('''(module {SPIN})''')).exports
    threading.Thread(target=exports[name], daemon=True).start()
time.sleep(0.2)
print("leaving", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_finalisers_can_not_enter_a_guest_whose_frames_are_being_read(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wasmloom.compiler import compiled
    from wasmloom.runtime import hooks
    from wasmloom.tiers import frames

    engine = wl.Engine(tier=tier)
    text = '(module (func $f (unreachable)) (func (export "f") (call $f)) (func (export "ok")))'
    module = wl.Module(text, engine)
    exports = wl.Instance(module).exports
    walk: Any = frames.walk if tier == "interpreter" else compiled.walk_compiled
    errors = []

    def walk_and_enter(*arguments: Any) -> Any:
        try:
            exports.ok()
        except wl.WasmError as error:
            errors.append(str(error))
        return walk(*arguments)

    monkeypatch.setattr(frames, "walk", walk_and_enter)
    hooks.set_walk_compiled(walk_and_enter)
    try:
        with pytest.raises(wl.Trap) as trap:
            exports.f()
    finally:
        hooks.set_walk_compiled(compiled.walk_compiled)
    assert [frame.func_name for frame in trap.value.frames] == ["f", "f"]
    assert len(errors) == 1
    exports.ok()


# --- external references ---


class Thing:
    pass


def test_references_that_nothing_holds_are_forgotten() -> None:
    exports = run("""(func (export "same") (param externref) (result externref) (local.get 0))
      (global $g (export "g") (mut externref) (ref.null extern)) (table $t (export "t") 3 externref)
      (func (export "keep") (param externref) (global.set $g (local.get 0)))
      (func (export "put") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
      (func (export "get") (param i32) (result externref) (table.get $t (local.get 0)))""")
    host_global = wl.Global(exports.g.store, "mut externref", None)
    in_global, in_table, in_host_global = Thing(), Thing(), Thing()
    kept = [weakref.ref(in_global), weakref.ref(in_table), weakref.ref(in_host_global)]
    exports.keep(in_global)
    exports.put(1, in_table)
    host_global.value = in_host_global
    del in_global, in_table, in_host_global
    passing = []
    for _ in range(5000):
        thing = Thing()
        passing.append(weakref.ref(thing))
        assert exports.same(thing) is thing
    del thing
    assert sum(reference() is not None for reference in passing) <= 1001
    assert all(reference() is not None for reference in kept)
    assert exports.g.value is kept[0]()
    assert exports.get(1) is exports.t[1] is kept[1]()
    assert host_global.value is kept[2]()
    exports.put(1, None)
    exports.keep(None)
    host_global.value = None
    for _ in range(5000):
        exports.same(Thing())
    assert all(reference() is None for reference in kept)


def test_references_survive_sweeps_while_the_guest_holds_them() -> None:
    """Sweeps happen only when the guest has been left, not at the many calls in between."""
    exports = run(
        """(import "e" "churn" (func $churn)) (func (export "same") (param externref) (result externref) (local.get 0))
      (func (export "hold") (param externref) (result externref) (call $churn) (local.get 0))""",
        {"e": {"churn": lambda: [exports.same(Thing()) for _ in range(3000)]}},
    )
    for _ in range(3):
        result = exports.hold(Thing())
        assert isinstance(result, Thing)


def test_finalisers_of_swept_references_may_use_the_store() -> None:
    exports = run('(func (export "same") (param externref) (result externref) (local.get 0))')
    seen = []

    class Last:
        def __del__(self) -> None:
            seen.append(exports.same(len(seen)))

    for _ in range(3000):
        exports.same(Last())
    assert len(seen) >= 1000
    assert seen == list(range(len(seen)))


def test_references_of_several_threads() -> None:
    exports = run("""(table $t (export "t") 4 externref)
      (func (export "put") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
      (func (export "get") (param i32) (result externref) (table.get $t (local.get 0)))""")
    failures = []

    def work(i: int) -> None:
        for n in range(3000):
            exports.put(i, [i, n])
            if exports.get(i) != [i, n] or exports.t[i] != [i, n]:
                failures.append((i, n))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
