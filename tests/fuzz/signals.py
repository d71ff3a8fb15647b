"""Signals at random moments: what a handler raises arrives at the caller exactly once, and soon; results stay right.

Each case takes an engine, a guest, a way to interrupt it, and a moment. Guests compute, call the host, throw, resume
continuations, wait (`call_async`), change over to compiled code, or are being made: decoded, validated, translated,
compiled, instantiated. Interruptions are signals whose handlers raise or return, from a timer, from another thread to
the main thread or to itself, and exceptions that another thread raises in the main one. Afterwards the store must work
as before. Cases run in processes of their own, so that a crash or a hang is one more failure.

python -m tests.fuzz.signals --duration 60 --seed 1
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import types
import warnings
from _thread import allocate_lock, start_new_thread
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import wasmloom as wl
from tests.binary import build
from tests.compiler.tiers import ENGINES

#: Settings of engines: those of all tests, and others that make code behind the guest's back.
SETTINGS: dict[str, dict[str, Any]] = ENGINES | {
    "at ticks": {"tier": "baseline"},
    "behind": {"tier": "auto"},
    "behind libcall": {"tier": "auto", "stack_switching": "libcall"},
}
#: Seconds after which an interruption counts as lost.
PATIENCE = 20

TEXT = """(module
  (import "h" "add" (func $add (param i32 i32) (result i32)))
  (import "h" "wide" (func $wide (param i64 f64 externref) (result i64 f64 externref)))
  (import "h" "throw" (func $throw (param i32)))
  (import "h" "back" (func $back (param i32) (result i32)))
  (import "h" "wait" (func $wait (param i32) (result i32)))
  (import "h" "e" (tag $e (param i32)))
  (type $f (func (param i32) (result i32))) (type $k (cont $f))
  (tag $y (export "y") (param i32) (result i32))
  (memory 1)
  (func $once (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (i32.rotl (local.get $s) (i32.const 3)) (local.get $n)))
      (i32.store (i32.const 64) (local.get $s))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func (export "compute") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (call $once (i32.const 50))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func (export "spin") (param $n i32) (result i32)
    (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $n))
  (func (export "host") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (call $add (local.get $s) (local.get $n)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func (export "wide") (param $n i32) (result i32) (local $a i64) (local $b f64) (local $c externref)
    (loop $l
      (call $wide (local.get $a) (local.get $b) (local.get $c))
      (local.set $c) (local.set $b) (local.set $a)
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.add (i32.wrap_i64 (local.get $a)) (i32.trunc_f64_s (local.get $b))))
  (func (export "catch") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (block $done
        (block $h (result i32)
          (try_table (catch $e $h) (call $throw (local.get $n)))
          (br $done))
        (local.set $s (i32.add (local.get $s))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func $own (param i32) (throw $e (local.get 0)))
  (func (export "own") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (block $h (result i32) (try_table (catch $e $h) (call $own (local.get $n))) (unreachable))
      (local.set $s (i32.add (local.get $s)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func $worker (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (suspend $y (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (elem declare func $worker)
  (func (export "generator") (result (ref $k)) (cont.new $k (ref.func $worker)))
  (func (export "resume") (param $n i32) (result i32) (local $k (ref null $k)) (local $s i32)
    (local.set $k (cont.new $k (ref.func $worker)))
    (loop $next (result i32)
      (block $got (result i32 (ref $k))
        (resume $k (on $y $got) (local.get $n) (local.get $k))
        (return (i32.add (local.get $s))))
      (local.set $k)
      (local.set $s (i32.add (local.get $s) (local.tee $n)))
      (br $next)))
  (func (export "back") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (call $back (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func (export "waits") (param $n i32) (result i32) (local $s i32)
    (loop $l
      (local.set $s (i32.add (local.get $s) (call $wait (local.get $n))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))
  (func (export "deep") (param $n i32) (result i32)
    (if (result i32) (local.get $n)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $n) (i32.const 1)))))
      (else (i32.const 0))))
  (func $deep (param $n i32) (result i32)
    (if (result i32) (local.get $n)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $n) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "sum") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""

#: What guests do: export, its argument where it is to end. Others are made from Python.
EXPORTS = {
    "compute": 3000, "spin": 3_000_000, "host": 3000, "wide": 1500, "catch": 1500, "own": 20_000, "resume": 20_000,
    "back": 800, "deep": 2000,
}  # fmt: skip
#: Modules that take a while to be made.
LONG_BODY = build.function(b"\x01" * 300_000)
MANY_BODIES = "(module " + "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))" * 60 + ")"


class Alarm(Exception):
    """What handlers raise: any exception, so that it can be mistaken for a failure."""


class Urgent(BaseException):
    """The same, as `KeyboardInterrupt` is."""


class Guest:
    """An instance of the module, in a store of its own."""

    def __init__(self, name: str) -> None:
        self.engine = wl.Engine(cache=False, **SETTINGS[name])
        self.store = wl.Store(self.engine, timeout=10 * PATIENCE)
        tag = wl.Tag(self.store, "i32")

        def throw(n: int) -> None:
            raise wl.WasmException(tag, n)

        async def wait(n: int) -> int:
            await _pause()
            return n & 3

        functions = {
            "add": lambda a, b: (a + b) & 0x7FFFFFFF,
            "wide": lambda a, b, c: (a + 1, b + 1.0, [c] if a % 50 == 0 else c),
            "throw": throw,
            "back": lambda n: self.exports.sum(n & 7, 1),
            "wait": wait,
            "e": tag,
        }
        self.exports: Any = wl.Instance(wl.Module(TEXT, self.engine), {"h": functions}, store=self.store).exports

    def call(self, what: str, n: int) -> Any:
        """Let the guest do something `n` times; a result that depends on all of it."""
        if what == "waits":
            return _drive(self.exports.waits.call_async(n))
        if what == "iterate":
            return _iterate(self.exports, n)
        if what == "handle":
            total: Any = self.exports.generator().resume(n, on={self.exports.y: lambda value: value & 3})
            return total
        if what == "arguments":
            return sum(self.exports.sum(i & 0xFF, 1) for i in range(n))
        if what == "make":
            for _ in range(n):
                made = wl.Instance(wl.Module(MANY_BODIES, self.engine), store=self.store)
            return made.store is self.store
        if what == "decode":
            for _ in range(n):
                wl.Module(LONG_BODY, wl.Engine(tier="interpreter", translation="eager"))
            return n
        return getattr(self.exports, what)(n)


@types.coroutine
def _pause() -> Iterator[None]:
    yield


def _drive(coroutine: Any) -> Any:
    """What an event loop does, except what it does with exceptions of its own: it logs them."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value


def _iterate(exports: Any, n: int) -> Any:
    """Drive a continuation as a generator."""
    generator = wl.resume_iter(exports.generator(), exports.y, n)
    value = next(generator)
    try:
        while True:
            value = generator.send(value & 3)
    except StopIteration as end:
        return end.value


#: What is done from Python, and how often where it is to end.
PYTHON = {"waits": 300, "iterate": 500, "handle": 500, "arguments": 3000, "make": 2, "decode": 3}
WHATS = EXPORTS | PYTHON


def forever(guest: Guest, what: str) -> None:
    """The same without end; a guest of its own is in the middle nearly always."""
    if what in ("spin", "compute", "host", "wide", "own", "catch", "back"):
        while True:
            guest.call(what, 0)  # counts down from 0: 2³² times
    while True:
        guest.call(what, WHATS[what])


class Case(NamedTuple):
    """What is interrupted, how, and when."""

    engine: str
    what: str
    how: str
    delay: float

    def __str__(self) -> str:
        return f"{self.what} in {self.engine}, {self.how} after {self.delay * 1000:.2f} ms"


#: Ways to interrupt: handlers that raise, one that returns, and another thread.
HOWS = ("timer", "urgent", "ctrl-c", "to main", "to itself", "asynchronous", "returns")


def case_of(seed: int, number: int) -> Case:
    """A case by its number."""
    r = random.Random(f"{seed} {number}")
    engine, what, how = r.choice([*SETTINGS]), r.choice([*WHATS]), r.choice(HOWS)
    # Mostly soon, so that much is hit that is rare later; what is done in the background takes longer.
    longest = r.choice([0.0005, 0.003, 0.02, 0.2 if engine.startswith("behind") else 0.04])
    return Case(engine, what, how, r.uniform(0.00001, longest))


def run_case(case: Case, expected: dict[str, Any]) -> str | None:
    """Run a case; what is wrong, or None."""
    guest = Guest(case.engine)
    if case.how == "returns":
        return _run_counting(case, guest, expected)
    raised: list[BaseException] = []
    kind = {"urgent": Urgent, "ctrl-c": KeyboardInterrupt}.get(case.how, Alarm)

    def handler(number: int, frame: object) -> None:
        raised.append(kind(len(raised)))
        raise raised[-1]

    number = signal.SIGINT if case.how == "ctrl-c" else signal.SIGALRM
    main = threading.get_ident()

    # Not a `Thread`: that can't be interrupted while it begins.
    over = allocate_lock()

    def interrupt() -> None:
        time.sleep(case.delay)
        if case.how == "asynchronous":
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(kind))
        else:
            signal.pthread_kill(main if case.how != "to itself" else threading.get_ident(), number)
        over.release()

    before = signal.signal(number, handler)
    caught: BaseException | None = None
    start = time.monotonic()
    try:
        if case.how in ("timer", "urgent"):
            signal.setitimer(signal.ITIMER_REAL, case.delay)
        else:
            over.acquire()
            start_new_thread(interrupt, ())
        forever(guest, case.what)
    except (Alarm, Urgent, KeyboardInterrupt) as error:
        caught = error
    late = time.monotonic() - start - case.delay
    signal.signal(number, before)
    with over:
        pass
    if case.how == "asynchronous":
        if type(caught) is not kind:
            return f"caught {caught!r}"
    elif len(raised) != 1 or caught is not raised[0]:
        return f"raised {raised!r}, caught {caught!r}"
    if late > PATIENCE:
        return f"{late:.1f} s late"
    return _check(case, guest, expected)


def _run_counting(case: Case, guest: Guest, expected: dict[str, Any]) -> str | None:
    """Handlers that return change nothing."""
    count = itertools.count()
    before = signal.signal(signal.SIGALRM, lambda *_: next(count))
    signal.setitimer(signal.ITIMER_REAL, case.delay, max(case.delay, 0.001))
    try:
        return _check(case, guest, expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _check(case: Case, guest: Guest, expected: dict[str, Any]) -> str | None:
    """The store works, and nothing is left behind."""
    for what in (case.what, "resume", "host"):
        got = guest.call(what, WHATS[what])
        if got != expected[what]:
            return f"{what} gives {got!r}, not {expected[what]!r}"
    return None


def _is_pythons(lost: Any) -> bool:
    """Whether what CPython has printed is no exception of a handler, but a failure of its own.

    It warns of a coroutine that goes without having been awaited (one that was interrupted before), and imports
    `warnings` with the builtins of whatever function runs. If the collector finds the coroutine while a named tuple is
    made, that is `namedtuple`'s ``__new__``, which has no builtins and so no ``__import__``. It also tells of a signal
    that arrived just before its handler was replaced, as all handlers are between two cases.
    """
    if lost.object is None and "ignored due to race condition" in str(lost.exc_value):
        return True
    return isinstance(lost.object, types.CoroutineType) and repr(lost.exc_value) == "KeyError('__import__')"


def serve(seed: int) -> None:
    """Run the cases whose numbers come from standard input; tell of each on standard output."""
    lost: list[str] = []

    def tell(hooked: Any) -> None:
        if not _is_pythons(hooked):
            lost.append(f"{hooked.exc_value!r} in {hooked.object!r}")
            print(f"lost: {lost[-1]}", file=sys.stderr, flush=True)  # the case may never end, for want of it

    sys.unraisablehook = tell
    # Coroutines that are left by what was interrupted warn when they go, in Python, where CPython loses exceptions.
    warnings.simplefilter("ignore")
    reference = Guest("interpreter")
    expected = {what: reference.call(what, n) for what, n in WHATS.items()}
    for line in sys.stdin:
        case = case_of(seed, int(line))
        faulthandler.dump_traceback_later(3 * PATIENCE, exit=True)
        try:
            wrong = run_case(case, expected)
        except BaseException:
            wrong = traceback.format_exc()
        if lost:
            wrong = f"{wrong or ''} lost: {'; '.join(lost)}"
            lost.clear()
        print(repr(wrong), flush=True)
    faulthandler.cancel_dump_traceback_later()


class Process:
    """A process that runs cases, one after the other."""

    def __init__(self, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.fuzz.signals import serve; serve({seed})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, number: int) -> str | None:
        """What is wrong with a case."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            return None if answer == "None\n" else str(eval(answer))
        _, errors = self.process.communicate()
        return f"status {self.process.returncode}: {errors[-3000:]}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def fuzz(seed: int, numbers: Iterator[int], more: Callable[[], bool], jobs: int = 1) -> tuple[Counter[str], list[str]]:
    """Run cases as long as there are `more`: how often each guest was interrupted, and what went wrong."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        process = Process(seed)
        while more():
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            case = case_of(seed, number)
            wrong = process.run(number)
            with lock:
                outcomes[case.what] += 1
                if wrong:
                    failures.append(f"case {number} ({case}): {wrong}")
                    print(failures[-1], file=sys.stderr, flush=True)
            if process.process.poll() is not None:
                process = Process(seed)
        process.close()

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=60, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", type=int, action="append", help="run these cases only; repeatable")
    args = parser.parse_args()
    end = time.monotonic() + args.duration
    numbers: Iterator[int] = iter(args.case) if args.case else itertools.count()
    outcomes, failures = fuzz(args.seed, numbers, lambda: bool(args.case) or time.monotonic() < end, args.jobs)
    for what, count in outcomes.most_common():
        print(f"{count:8} {what}")
    print(f"{sum(outcomes.values())} cases, seed {args.seed}: {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
