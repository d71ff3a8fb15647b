"""What a signal handler raises arrives at the caller of the guest, once and soon, wherever it arises."""

from __future__ import annotations

import ctypes
import gc
import inspect
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import wasmloom as wl
from tests.binary import build
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import PATIENCE, attempts, comes
from tests.processes import run_program
from wasmloom.host.module import Module
from wasmloom.runtime.guests import tick_count
from wasmloom.system.apart import run_apart
from wasmloom.system.polling import items_done, look_next, poll_now
from wasmloom.tiers import change
from wasmloom.tiers.change import change_soon
from wasmloom.tiers.stores import compiled_code, use_compiled

#: A module that throws what the host throws, and catches it, for ever.
CATCHES = """(module (import "h" "throw" (func $throw)) (import "h" "tag" (tag $e (param i32)))
  (func (export "run")
    (loop (block (drop (block $h (result i32) (try_table (catch $e $h) (call $throw)) (i32.const 0)))) (br 0)))
  (func (export "waits") (result i32)
    (block $h (result i32) (try_table (catch $e $h) (call $throw)) (i32.const 0))))"""


class Alarm(Exception):
    """What the handler raises: not a `BaseException` only, as Ctrl-C is, so that it can be taken for a failure."""


@pytest.fixture
def alarm() -> Iterator[Callable[[], None]]:
    """Gives what makes the handler run, and raise, within a call of a Python function."""

    def handler(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    yield lambda: signal.raise_signal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def ring_main() -> None:
    """Have the alarm's signal come to the main thread, from another one."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)


class Interrupting:
    """An int whose conversion is where a handler raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __index__(self) -> int:
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Alarm()], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ENGINES)
def test_while_an_exception_of_the_host_becomes_the_guests(name: str, error: BaseException) -> None:
    engine = engine_of(name)
    store = wl.Store(engine, timeout=PATIENCE)
    tag = wl.Tag(store, "i32")

    def throw() -> None:
        raise wl.WasmException(tag, Interrupting(error) if len(calls) == 7 else 1)

    calls: list[int] = []

    def thrower() -> None:
        calls.append(1)
        throw()

    imports = {"h": {"throw": wl.Func(store, "->", thrower), "tag": tag}}
    exports = wl.Instance(wl.Module(CATCHES, engine), imports, store=store).exports
    with pytest.raises(type(error)) as caught:
        exports.run()
    assert caught.value is error and len(calls) == 7
    assert exports.waits() == 1, "the store is as it was"


@pytest.mark.parametrize("name", ENGINES)
def test_while_the_class_of_an_exception_is_called(name: str) -> None:
    """Not a `WasmException` in the end."""

    class Strange(wl.WasmException):
        def __new__(cls, *args: Any) -> Any:
            raise KeyboardInterrupt

    engine = engine_of(name)
    store = wl.Store(engine, timeout=PATIENCE)

    def throw() -> None:
        raise Strange

    imports = {"h": {"throw": wl.Func(store, "->", throw), "tag": wl.Tag(store, "i32")}}
    with pytest.raises(KeyboardInterrupt):
        wl.Instance(wl.Module(CATCHES, engine), imports, store=store).exports.waits()


#: A guest that never ends, and tells its host where it is.
FOREVER = '(module (import "h" "tell" (func $tell)) (func (export "run") (call $tell) (loop (br 0))))'


def auto_store(timeout: float | None = None) -> wl.Store:
    return wl.Store(wl.Engine(tier="auto", threshold=1 << 30, cache=False), timeout=timeout)


def changing(store: wl.Store, text: str = FOREVER) -> Any:
    """The exports of a guest whose store goes on as compiled code once its host has been told."""
    tell = wl.Func(store, "->", lambda: change_soon(store))
    return wl.Instance(wl.Module(text, store.engine), {"h": {"tell": tell}}, store=store).exports


def test_while_it_is_decided_whether_a_store_changes_over(
    alarm: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = wl.Engine(tier="auto", cache=False)
    asked: list[Any] = []

    def check_inside_call(store: Any, standing: Any) -> bool:
        asked.append(store)
        alarm()
        return False

    monkeypatch.setattr(change, "check_inside_call", check_inside_call)
    store = wl.Store(engine, timeout=PATIENCE)
    run = wl.Instance(wl.Module('(module (func (export "run") (loop (br 0))))', engine), store=store).exports.run
    for _ in range(2):  # the first one doesn't hinder the second look
        with pytest.raises(Alarm):
            run()
    assert asked == [store, store] and store.change_failed is None


def test_while_what_runs_is_compiled(alarm: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread hears of signals, and a failure of the compiler stays apart from them."""
    begun, end = threading.Event(), threading.Event()

    def compiled_osr_entry(*args: Any) -> int:
        begun.set()
        if not end.is_set():
            alarm()  # it is the main thread's all the same
        end.wait(PATIENCE)
        raise wl.CompileError("no code today")

    monkeypatch.setattr(Module, "compiled_osr_entry", compiled_osr_entry)
    store = auto_store(timeout=PATIENCE)
    run = changing(store).run
    with pytest.raises(Alarm):
        run()
    assert begun.is_set() and store.tier_name == "interpreter" and store.change_failed is None
    end.set()

    def ring() -> None:
        """While the guest goes on."""
        if comes(lambda: store.change_failed is not None):
            ring_main()

    ringing = threading.Thread(target=ring)
    ringing.start()
    with pytest.raises(Alarm):
        run()
    ringing.join()
    assert isinstance(store.change_failed, wl.CompileError) and store.tier_name == "interpreter"


def test_what_interrupts_a_change_leaves_a_store_as_it_was(
    alarm: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_now = Module.compile
    times: list[int] = []

    def compile(self: Any, **options: Any) -> Any:
        times.append(1)
        if len(times) == interrupted:
            alarm()
        return compile_now(self, **options)

    interrupted = 0
    text = '(module (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))'
    store = auto_store()
    functions = [wl.Instance(wl.Module(text, store.engine), store=store).exports.f for _ in range(3)]
    monkeypatch.setattr(Module, "compile", compile)
    interrupted = 2
    with pytest.raises(Alarm):
        use_compiled(store, compiled_code(store))
    assert store.tier_name == "interpreter" and [f(1) for f in functions] == [2, 2, 2]
    use_compiled(store, compiled_code(store))
    assert store.tier_name == "compiler" and [f(1) for f in functions] == [2, 2, 2]


def test_instances_that_are_made_while_a_store_changes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_now = Module.compile
    made: list[Any] = []

    def compile(self: Any, **options: Any) -> Any:
        compiled = compile_now(self, **options)
        if len(made) == 1:  # as a signal handler can, or a finaliser
            made.append(wl.Instance(module, store=store).exports.f)
        return compiled

    store = auto_store()
    module = wl.Module('(module (func (export "f") (result i32) (i32.const 1)))', store.engine)
    made.append(wl.Instance(module, store=store).exports.f)
    monkeypatch.setattr(Module, "compile", compile)
    codes = compiled_code(store)
    assert len(codes) == len(made) == 2
    made.append(wl.Instance(module, store=store).exports.f)
    with pytest.raises(ValueError, match="all instances"):
        use_compiled(store, codes)
    assert store.tier_name == "interpreter"
    use_compiled(store, compiled_code(store))
    assert store.tier_name == "compiler" and [f() for f in made] == [1, 1, 1]


@pytest.mark.parametrize("what", ["compiled_osr_entry", "compiled_function"])
def test_a_timeout_while_a_guest_waits_for_its_code(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(Module, what, lambda *args: end.wait(PATIENCE))
    store = auto_store(timeout=0.2)
    run = changing(store).run if what == "compiled_osr_entry" else half_compiled(store)
    with pytest.raises(wl.Trap, match="time"):
        run()
    end.set()


@pytest.mark.parametrize("name", ENGINES)
def test_what_another_thread_raises_in_the_one_that_runs_a_guest(name: str) -> None:
    """Not a signal: Python's own loop looks for it, in any thread."""
    engine = engine_of(name)
    store = wl.Store(engine, timeout=PATIENCE)
    caught: list[BaseException] = []
    inside = threading.Event()
    imports = {"h": {"tell": wl.Func(store, "->", inside.set)}}
    exports = wl.Instance(wl.Module(FOREVER, engine), imports, store=store).exports

    def run() -> None:
        try:
            exports.run()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    inside.wait()
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_exception(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Alarm)) == 1
    thread.join()
    assert [type(error) for error in caught] == [Alarm]


def half_compiled(store: wl.Store) -> Any:
    """A function of a store that runs compiled code, in which that function is missing."""
    from wasmloom.compiler.compiled import compile_module

    module = wl.Module('(module (func (export "run") (result i32) (i32.const 5)))', store.engine)
    run = wl.Instance(module, store=store).exports.run
    options = store.engine.code_options()
    objects = compile_module(module.decoded, options)
    module._load(objects, options, [])
    use_compiled(store, compiled_code(store))
    return run


def test_functions_that_are_compiled_late_are_interruptible(
    alarm: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    monkeypatch.setattr(Module, "compiled_function", lambda *args: (alarm(), end.wait(PATIENCE)))
    run = half_compiled(auto_store(timeout=PATIENCE))
    with pytest.raises(Alarm):
        run()
    end.set()
    monkeypatch.undo()
    assert run() == 5


# --- work of the host that is done in compiled modules ---


def test_polling_handles_signals_and_other_threads_exceptions(alarm: Callable[[], None]) -> None:
    def poll_until(end: float) -> None:
        # Not where the alarm is caught: for CPython since 3.12, a jump at the end of a `with` is outside of it.
        while time.monotonic() < end:
            poll_now()

    poll_now()
    with pytest.raises(Alarm):
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        poll_until(time.monotonic() + PATIENCE)


#: Bytes of a body that takes long enough.
LONG = 7_000_000
NOP = b"\x01"


def exporting(data: bytes) -> bytes:
    """A module whose one function has `data` as its body, and is exported as "f"."""
    return build.function(data, extra=build.section(build.EXPORT, build.vec(b"\1f\0\0")))


@pytest.mark.parametrize("what", ["validated", "translated"])
def test_other_threads_run_while_a_module_is(what: str) -> None:
    """They see how far it has come; they may run late, but not each time."""
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(items_done())
            time.sleep(0.001)

    def is_seen_inside() -> bool:
        """Whether the other thread has seen several states in the middle of the work."""
        engine = wl.Engine(tier="interpreter", translation="lazy")
        module = wl.Module(exporting(NOP * LONG) if what == "translated" else exporting(b""), engine)
        run = wl.Instance(module).exports.f
        seen.clear()
        before = items_done()
        if what == "translated":
            run()
        else:
            wl.Module.validate(exporting(NOP * LONG))
        states = {(items - before) & 0xFFFFFFFF for items in seen}
        return len([state for state in states if 0 < state < (items_done() - before) & 0xFFFFFFFF]) > 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert any(is_seen_inside() for _ in attempts())
    finally:
        stop.set()
        thread.join()


def test_a_timeout_while_a_guest_waits_for_a_function_to_be_translated() -> None:
    module = wl.Module(exporting(NOP * LONG), engine := wl.Engine(tier="interpreter", translation="lazy"))
    instance = wl.Instance(module, store=wl.Store(engine, timeout=0.001))
    with pytest.raises(wl.Trap, match="time"):
        instance.exports.f()
    assert module.code_space.used() == [], "it hasn't waited until that was done"


def test_work_apart_tells_its_failures_from_interruptions(alarm: Callable[[], None]) -> None:
    outcome = run_apart(lambda abandoned: 5)
    assert outcome is not None and outcome.get() == 5

    def fail(abandoned: Callable[[], bool]) -> None:
        raise Alarm("its own")

    outcome = run_apart(fail)
    assert outcome is not None
    with pytest.raises(Alarm, match="its own"):
        outcome.get()

    gone = threading.Event()

    def work(abandoned: Callable[[], bool]) -> None:
        while not abandoned():
            time.sleep(0.001)
        gone.set()

    def interrupting(abandoned: Callable[[], bool]) -> None:
        ring_main()
        work(abandoned)

    with pytest.raises(Alarm):
        run_apart(interrupting)
    assert gone.wait(PATIENCE)
    gone.clear()
    assert run_apart(work, time.monotonic_ns() + 1000) is None
    assert gone.wait(PATIENCE)


#: A handler that raises while LLVM compiles in this process, and then the collector, which goes by age.
IN_LLVM = """
import gc, signal, threading
import wasmloom as wl
from llvmlite import binding
from llvmlite.binding import ffi

class Alarm(Exception):
    pass

def handler(number, frame):
    raise Alarm

def emit(machine, module, real=binding.TargetMachine.emit_object):
    signal.raise_signal(signal.SIGALRM)
    return real(machine, module)

engine = wl.Engine(tier="compiler", cache=False)
binding.TargetMachine.emit_object, real = emit, binding.TargetMachine.emit_object
signal.signal(signal.SIGALRM, handler)
for _ in range(3):
    try:
        wl.Module("(module (func))", engine)
    except Alarm as error:
        error.itself = error
    else:
        print("not interrupted")
    gc.collect()
binding.TargetMachine.emit_object = real
# The lock of LLVM is free.
thread = threading.Thread(target=lambda: print(len(wl.Module("(module (func))", engine).imports)))
thread.start()
thread.join()
"""


def test_while_llvm_compiles_in_this_process() -> None:
    assert run_program(IN_LLVM) == "0\n"


#: A `sigset_t` without a signal in it, for as long as threads may read it.
NO_SIGNAL = (ctypes.c_ulong * 16)()


def foreign_thread() -> Callable[[], None]:
    """Begin a thread as libraries have them: it never touches Python. What this gives lets it receive the signal.

    Then it has received it, and the caller has had the GIL all the time.
    """
    libc, thread = ctypes.PyDLL(None), ctypes.c_ulong()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        # It inherits the mask: a signal that comes early waits until it waits for it.
        wait = ctypes.cast(libc.sigsuspend, ctypes.c_void_p)
        assert libc.pthread_create(ctypes.byref(thread), None, wait, NO_SIGNAL) == 0
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])

    def receive() -> None:
        libc.pthread_kill(thread, int(signal.SIGALRM))
        libc.pthread_join(thread, None)  # it ends with the first signal that it receives

    return receive


def test_a_signal_that_another_thread_has_received_when_the_host_works(alarm: Callable[[], None]) -> None:
    """Also while the host keeps the GIL, which nobody wants."""
    data, large = build.function(NOP * LONG), bytes(40 << 20)
    engine = wl.Engine(tier="interpreter", translation="eager")
    memory = wl.Memory(wl.Store(engine), len(large) >> 16)
    for work in (lambda: wl.Module(data, engine), lambda: memory.write(0, large)):
        receive = foreign_thread()
        look_next()
        with pytest.raises(Alarm):
            receive()
            work()


#: Calls that are too short for ticks to be seen in them.
SHORT = """(module (type $f (func)) (type $k (cont $f)) (tag $y (export "y")) (elem declare func $g)
  (func $g (loop (suspend $y) (br 0))) (func (export "begin") (result (ref $k)) (cont.new $k (ref.func $g)))
  (func (export "plain") (param i32) (result i32) (local.get 0)))"""


@pytest.mark.parametrize("what", ["plain", "resume", "handler", "waiting"])
@pytest.mark.parametrize("name", ENGINES)
def test_a_signal_that_another_thread_receives_between_short_calls(
    name: str, what: str, alarm: Callable[[], None]
) -> None:
    """CPython notes it and doesn't announce it, so that nobody looks, unless the GIL changes hands."""
    engine = engine_of(name)
    exports: Any = wl.Instance(wl.Module(SHORT, engine)).exports
    ticks: list[int] = []

    def call() -> None:
        """Ends without the signal when it has seen many ticks, one at a time, so that it doesn't count those for which
        it didn't run."""
        if not ticks or ticks[-1] != tick_count():
            ticks.append(tick_count())
        if len(ticks) > 8:
            raise AssertionError("the signal doesn't arrive")

    def use() -> None:
        while True:
            match what:
                case "plain":
                    exports.plain(1)
                case "resume":
                    exports.begin().resume(on=exports.y)
                case "handler":
                    exports.begin().resume(on={exports.y: call})
                case _:
                    with pytest.raises(StopIteration):
                        exports.plain.call_async(1).send(None)
            call()

    exports.plain(1)
    receive = foreign_thread()
    with pytest.raises(Alarm):
        receive()
        use()


@pytest.mark.parametrize("name", ENGINES)
def test_between_a_host_function_and_waiting_for_what_it_gave(name: str, alarm: Callable[[], None]) -> None:
    engine = engine_of(name)
    store = wl.Store(engine)

    async def wait() -> None:
        raise AssertionError("nobody awaits it")

    text = """(module (import "h" "wait" (func $wait)) (func (export "warm"))
      (func (export "run") (local $n i64) (local.set $n (i64.const 0x7fff_ffff_ffff))
        (loop (local.set $n (i64.div_u (local.get $n) (global.get $one)))
          (br_if 0 (i64.ge_u (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0x7fff_fffb_6c20))))
        (call $wait)) (global $one (mut i64) (i64.const 1)))"""  # 300 000 rounds that no compiler makes much faster
    # No function of Python, in which the handler would run already.
    given = deque([wait()])
    imports = {"h": {"wait": wl.Func(store, "->", given.pop)}}
    exports = wl.Instance(wl.Module(text, engine), imports, store=store).exports
    coroutine = given[0]
    call = exports.run.call_async()
    with pytest.raises(Alarm):
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        call.send(None)
        time.sleep(20)
    assert given or inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert wl.waiting_guests(store) == []
    assert exports.warm() is None
    coroutine.close()


#: Python runs signal handlers in its functions, also in those that it calls because an object goes: `__del__`, what a
#: `weakref` calls. It prints what they raise there, so that an interruption would be lost.
GOES: dict[str, Callable[[wl.Engine, Path], Any]] = {
    "an engine": lambda engine, folder: pickle.loads(pickle.dumps(wl.Engine(code_limit=1 << 30))),
    "a module": lambda engine, folder: wl.Module("(module (func))", engine),
    "an instance": lambda engine, folder: wl.Instance(wl.Module('(module (func (export "f")))', engine)),
    "a continuation": lambda engine, folder: continuation_of(engine),
    "files": lambda engine, folder: wl.Wasi(preopens={"/": folder}, stdin=str(folder).encode()),
    "a program": lambda engine, folder: wl.Wasi(preopens={"/": folder}).instantiate(
        wl.Module('(module (memory (export "memory") 1) (func (export "_start")))', engine)
    ),
}


def continuation_of(engine: wl.Engine) -> Any:
    """A suspended one."""
    text = """(module (type $f (func)) (type $k (cont $f)) (tag $t (export "t")) (func $g (suspend $t))
      (elem declare func $g) (func (export "begin") (result (ref $k)) (cont.new $k (ref.func $g))))"""
    exports: Any = wl.Instance(wl.Module(text, engine)).exports
    return exports.begin().resume(on=exports.t)


@pytest.mark.parametrize("kind", GOES)
@pytest.mark.parametrize("name", ENGINES)
def test_no_function_of_python_runs_when_objects_go(name: str, kind: str, tmp_path: Path) -> None:
    engine = engine_of(name)
    thing = GOES[kind](engine, tmp_path)
    gc.collect()
    calls: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls.append(frame.f_code.co_qualname)

    callbacks = gc.callbacks[:]
    gc.callbacks.clear()  # other packages' functions, which run at every collection
    sys.setprofile(note)
    try:
        del thing, engine
        gc.collect()
    finally:
        sys.setprofile(None)
        gc.callbacks.extend(callbacks)
    assert calls == []
