"""Guests that wait: `call_async`, awaitables from imports, cancellation, and what is left afterwards."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import threading
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.patience import FOREVER, attempts
from wasmloom.host.engine import default_engine
from wasmloom.host.tasks import stacks_in_use
from wasmloom.runtime.collector import collect_garbage

TEXT = """(module $guest
  (type $ft (func (param i32) (result i32)))
  (type $ct (cont $ft))
  (import "env" "wait" (func $wait (param i32) (result i32)))
  (import "env" "note" (func $note (param i32)))
  (import "env" "oops" (tag $oops (param i32)))
  (tag $yield (param i32))
  (table (export "table") funcref (elem $wait $sum $note))
  (elem declare func $generator $wait)
  (memory (export "memory") 1)

  ;; The sum of what `wait` gives for n, n-1, … 1.
  (func $sum (export "sum") (param $n i32) (result i32) (local $s i32)
    (loop $again
      (local.set $s (i32.add (local.get $s) (call $wait (local.get $n))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $s))

  ;; wait(1) below n frames, plus n
  (func $deep (export "deep") (param $n i32) (result i32)
    (if (result i32) (local.get $n)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get $n) (i32.const 1)))))
      (else (call $wait (i32.const 1)))))

  (func (export "tail") (param i32) (result i32) (return_call $wait (local.get 0)))
  (func (export "indirect") (param i32) (result i32)
    (call_indirect (type $ft) (local.get 0) (i32.const 0)))
  (func (export "tail_indirect") (param i32) (result i32)
    (return_call_indirect (type $ft) (local.get 0) (i32.const 0)))
  (func (export "reference") (param i32) (result i32) (call_ref $ft (local.get 0) (ref.func $wait)))
  (func (export "as_cont") (param i32) (result i32)
    (resume $ct (local.get 0) (cont.new $ct (ref.func $wait))))

  ;; Yields wait(n), wait(n-1), …
  (func $generator (param $n i32) (result i32)
    (loop $again
      (suspend $yield (call $wait (local.get $n)))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.const 0))
  (type $gf (func (result i32)))
  (type $gt (cont $gf))
  (func (export "generate") (param $n i32) (result i32) (local $s i32) (local $k (ref null $gt))
    (block $first (result i32 (ref $gt))
      (return (resume $ct (on $yield $first) (local.get $n) (cont.new $ct (ref.func $generator)))))
    (local.set $k)
    (local.set $s)
    (loop $again
      (block $more (result i32 (ref $gt))
        (drop (resume $gt (on $yield $more) (local.get $k)))
        (return (local.get $s)))
      (local.set $k)
      (local.set $s (i32.add (local.get $s)))
      (br $again))
    (unreachable))

  (func (export "caught") (param i32) (result i32)
    (block $h (result i32)
      (try_table (catch $oops $h) (return (call $wait (local.get 0))))
      (unreachable)))
  (func (export "guarded") (param i32) (result i32)
    (block $h (try_table (catch_all $h) (return (call $sum (local.get 0)))))
    (call $note (i32.const -1))
    (i32.const -1))
  (func (export "cleanup") (param i32) (result i32)
    (block $h (result exnref) (try_table (catch_all_ref $h) (return (call $sum (local.get 0)))) (unreachable))
    (call $note (i32.const -2))
    (throw_ref))
  (func (export "slow_cleanup") (param i32) (result i32)
    (block $h (result exnref) (try_table (catch_all_ref $h) (return (call $sum (local.get 0)))) (unreachable))
    (call $note (call $wait (i32.const 77)))
    (throw_ref))
  (func (export "guarded_generator") (param $n i32) (result i32)
    (block $h (result exnref)
      (try_table (catch_all_ref $h)
        (return (resume $ct (local.get $n) (cont.new $ct (ref.func $inner)))))
      (unreachable))
    (call $note (i32.const -4))
    (throw_ref))
  (elem declare func $inner)
  (func $inner (param i32) (result i32)
    (block $h (result exnref) (try_table (catch_all_ref $h) (return (call $sum (local.get 0)))) (unreachable))
    (call $note (i32.const -3))
    (throw_ref))
  (func $divide (export "divide") (param i32) (result i32)
    (i32.div_s (i32.const 1) (call $wait (local.get 0))))
  (func (export "spin") (param i32) (result i32)
    (drop (call $wait (local.get 0)))
    (loop $again (br $again))
    (unreachable))
  (func (export "noted") (param i32) (result i32)
    (call $note (local.get 0))
    (call $sum (local.get 0))))
"""
pytestmark = pytest.mark.usefixtures("tier")


@lru_cache
def compiled(engine: wl.Engine, text: str) -> wl.Module:
    return wl.Module(text, engine)


class Guest:
    """An instance, and what its imports do."""

    def __init__(self, store: wl.Store | None = None, module: wl.Module | None = None) -> None:
        self.store = store or wl.Store()
        self.oops = wl.Tag(self.store, "i32")
        self.notes: list[int] = []
        self.on_wait: Callable[[int], Any] = pass_on
        self.on_note: Callable[[int], Any] = self.notes.append
        imports = {"wait": lambda n: self.on_wait(n), "note": lambda n: self.on_note(n), "oops": self.oops}
        module = module or compiled(default_engine(), TEXT)
        self.exports = wl.Instance(module, {"env": imports}, store=self.store).exports

    def call(self, name: str, *args: int) -> Coroutine[Any, Any, Any]:
        return self.exports[name].call_async(*args)  # type: ignore[no-any-return]


async def pass_on(n: int) -> int:
    await asyncio.sleep(0)
    return n


@pytest.fixture
def guest(tier: str) -> Iterator[Guest]:
    """A guest that must leave nothing behind."""
    found = Guest()
    yield found
    gc.collect()
    assert wl.waiting_guests(found.store) == []
    assert stacks_in_use(found.store) == 0
    assert found.exports.deep.store is found.store


def run(main: Awaitable[Any]) -> Any:
    async def with_timeout() -> Any:
        return await asyncio.wait_for(main, FOREVER)

    return asyncio.run(with_timeout())


async def started(call: Coroutine[Any, Any, Any], steps: int = 3) -> asyncio.Task[Any]:
    """A task that has run for some steps of the loop."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    return task


# --- calls ---


def test_a_guest_waits_for_async_imports(guest: Guest) -> None:
    assert run(guest.call("sum", 10)) == 55


@pytest.mark.parametrize("name", ["tail", "indirect", "tail_indirect", "reference", "as_cont", "caught"])
def test_every_way_to_call_an_import(guest: Guest, name: str) -> None:
    assert run(guest.call(name, 21)) == 21
    guest.on_wait = lambda n: n + 1
    assert run(guest.call(name, 21)) == 22
    assert guest.exports[name](21) == 22


def test_the_event_loop_goes_on(guest: Guest) -> None:
    async def main() -> None:
        event = asyncio.Event()

        async def wait(n: int) -> int:
            await event.wait()
            return n

        guest.on_wait = wait
        task = await started(guest.call("deep", 3))
        assert not task.done()
        guest.on_wait = lambda n: 5
        assert guest.exports.sum(3) == 15  # other calls use the store meanwhile
        event.set()
        assert await task == 4

    run(main())


def test_any_awaitable_will_do(guest: Guest) -> None:
    class Later:
        def __await__(self) -> Iterator[None]:
            yield
            return 7  # type: ignore[return-value]

    @types.coroutine
    def old(n: int) -> Iterator[None]:
        yield
        return n  # type: ignore[return-value]

    async def main() -> None:
        guest.on_wait = lambda n: Later()
        assert await guest.call("sum", 2) == 14
        guest.on_wait = lambda n: asyncio.ensure_future(pass_on(n))
        assert await guest.call("sum", 3) == 6
        guest.on_wait = lambda n: asyncio.gather(pass_on(n))
        with pytest.raises(TypeError, match=r"result of host function env.wait: i32 takes an int, not list \[1\]"):
            await guest.call("sum", 1)
        guest.on_wait = old
        assert await guest.call("sum", 3) == 6
        guest.on_wait = lambda n: n  # no awaitable at all
        assert await guest.call("sum", 3) == 6

    run(main())


def test_an_import_without_results_is_awaited(guest: Guest) -> None:
    async def note(n: int) -> None:
        await asyncio.sleep(0)
        guest.notes.append(n)

    guest.on_note = note
    assert run(guest.call("noted", 3)) == 6
    assert guest.notes == [3]


def test_many_and_wide_values() -> None:
    types_ = ["i32", "i64", "f32", "f64", "externref"] * 8
    text = " ".join(types_)
    gets = " ".join(f"(local.get {i})" for i in range(len(types_)))
    module = wl.Module(f"""(module
      (import "env" "turn" (func $turn (param {text}) (result {text})))
      (func (export "turn") (param {text}) (result {text}) (call $turn {gets})))""")

    async def turn(*values: Any) -> tuple[Any, ...]:
        await asyncio.sleep(0)
        return values

    thing = object()
    values = tuple(thing if t == "externref" else i + 0.5 if t[0] == "f" else -i for i, t in enumerate(types_))
    instance = wl.Instance(module, {"env": {"turn": turn}})
    assert run(instance.exports.turn.call_async(*values)) == values

    async def few(*values: Any) -> tuple[int, int]:
        return 1, 2

    instance = wl.Instance(module, {"env": {"turn": few}})
    with pytest.raises(TypeError, match=r"host function env\.turn must return a tuple of 40 values"):
        run(instance.exports.turn.call_async(*values))


def test_an_external_reference_can_be_an_awaitable() -> None:
    module = wl.Module("""(module (import "env" "get" (func $get (result externref)))
      (func (export "get") (result externref) (call $get)))""")

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        instance = wl.Instance(module, {"env": {"get": lambda: future}})
        assert instance.exports.get() is future
        assert await instance.exports.get.call_async() is future

        async def get() -> object:
            return future

        instance = wl.Instance(module, {"env": {"get": get}})
        assert await instance.exports.get.call_async() is future

    run(main())


def test_functions_of_the_host_can_be_awaited(guest: Guest) -> None:
    async def failing(n: int) -> int:
        raise KeyError(n)

    async def main() -> None:
        assert await wl.Func(guest.store, "i32 -> i32", pass_on).call_async(3) == 3
        assert await wl.Func(guest.store, "i32 -> i32", lambda n: n + 1).call_async(3) == 4
        with pytest.raises(KeyError):
            await wl.Func(guest.store, "i32 -> i32", failing).call_async(3)
        assert await guest.exports.table[0].call_async(5) == 5

    run(main())


def test_wrong_arguments_are_refused_when_awaited(guest: Guest) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="takes 1 arguments"):
            await guest.call("sum")
        with pytest.raises(OverflowError, match="argument 1 of sum"):
            await guest.call("sum", 1 << 40)

    run(main())


# --- plain calls ---


@pytest.mark.parametrize("name", ["sum", "deep", "as_cont", "caught", "guarded"])
def test_a_plain_call_cannot_wait(guest: Guest, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "was never awaited"
        with pytest.raises(wl.WasmError, match=r"env\.wait returned an awaitable.*call_async"):
            guest.exports[name](3)
        with pytest.raises(wl.WasmError, match=r"returned an awaitable.*call_async"):
            wl.Func(guest.store, "i32 -> i32", pass_on)(3)
        gc.collect()
    guest.on_wait = lambda n: n
    assert guest.exports.sum(3) == 6


def test_a_plain_call_inside_cannot_wait_either(guest: Guest) -> None:
    guest.on_note = lambda n: guest.exports.sum(n)
    with pytest.raises(wl.WasmError, match=r"env\.wait returned an awaitable"):
        run(guest.call("noted", 3))


# --- many guests ---


def test_hundreds_of_guests_in_one_store(guest: Guest) -> None:
    async def wait(n: int) -> int:
        for _ in range(n % 5):
            await asyncio.sleep(0)
        return n

    guest.on_wait = wait

    async def main() -> None:
        calls = [guest.call("deep", i) for i in range(400)]
        calls += [guest.call("sum", i % 20 + 1) for i in range(400)]
        calls += [guest.call("generate", i % 20 + 1) for i in range(200)]
        expected = [i + 1 for i in range(400)]
        expected += [sum(range(i % 20 + 2)) for i in range(400)] + [sum(range(i % 20 + 2)) for i in range(200)]
        assert await asyncio.gather(*calls) == expected

    run(main())


def test_many_stores() -> None:
    guests = [Guest() for _ in range(60)]

    async def main() -> None:
        found = await asyncio.gather(*(g.call(name, 9) for g in guests for name in ("sum", "deep", "generate")))
        assert found == [45, 10, 45] * len(guests)

    run(main())
    assert all(stacks_in_use(g.store) == 0 for g in guests)


def test_a_store_in_the_loops_of_several_threads(guest: Guest) -> None:
    wrong: list[object] = []

    def work(n: int) -> None:
        async def main() -> None:
            for _ in range(20):
                found = await asyncio.gather(*(guest.call("generate", n) for _ in range(10)))
                if found != [sum(range(n + 1))] * 10:
                    wrong.append(found)

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- nesting ---


def test_async_imports_use_the_same_instance(guest: Guest) -> None:
    async def wait(n: int) -> int:
        await asyncio.sleep(0)
        if n > 1:
            return await guest.call("deep", 0) + await guest.call("tail", n - 1)  # type: ignore[no-any-return]
        guest.on_wait, before = (lambda n: n), guest.on_wait
        try:
            return guest.exports.deep(5) - 5  # type: ignore[no-any-return]
        finally:
            guest.on_wait = before

    guest.on_wait = wait
    assert run(guest.call("tail", 6)) == 6
    assert run(guest.call("as_cont", 6)) == 6


def test_a_plain_import_drives_another_call_to_its_first_wait(guest: Guest) -> None:
    parked: list[Any] = []

    def note(n: int) -> None:
        call = guest.call("deep", 50)
        call.send(None)
        parked.append(call)

    def finish(n: int) -> int:
        with pytest.raises(StopIteration) as stop:
            parked.pop().send(None)
        return stop.value.value  # type: ignore[no-any-return]

    guest.on_note = note
    # In a plain call, and in one that can wait itself: the first `wait` is the other call's.
    for outer in (guest.exports.noted, lambda n: run(guest.call("noted", n))):
        waits = iter([pass_on, finish])
        guest.on_wait = lambda n, waits=waits: next(waits)(n)  # type: ignore[misc]
        assert outer(1) == 51


def test_a_call_can_not_be_entered_twice(guest: Guest) -> None:
    call: Any = None

    def note(n: int) -> None:
        with pytest.raises(ValueError, match="already executing"):
            call.send(None)
        guest.notes.append(n)

    guest.on_note = note
    call = guest.call("noted", 2)
    assert run(call) == 3 and guest.notes == [2]


# --- exceptions ---


def test_wasm_exceptions_reach_the_guests_handlers(guest: Guest) -> None:
    async def wait(n: int) -> int:
        await asyncio.sleep(0)
        raise wl.WasmException(guest.oops, n + 1)

    guest.on_wait = wait
    assert run(guest.call("caught", 5)) == 6
    assert run(guest.call("guarded", 5)) == -1
    for name in ("sum", "deep", "as_cont", "generate", "cleanup", "guarded_generator"):
        with pytest.raises(wl.WasmException) as caught:
            run(guest.call(name, 5))
        assert caught.value.tag == guest.oops and caught.value.payload in ((6,), (2,))
    assert guest.notes == [-1, -2, -3, -4]


def test_a_wasm_exception_with_wrong_values_is_an_error(guest: Guest) -> None:
    async def wait(n: int) -> int:
        raise wl.WasmException(guest.oops, "many", 2)

    guest.on_wait = wait
    with pytest.raises(TypeError, match="takes 1 values, not 2"):
        run(guest.call("caught", 5))


@pytest.mark.parametrize("name", ["caught", "guarded", "cleanup", "guarded_generator", "sum", "generate"])
def test_other_exceptions_pass_through(guest: Guest, name: str) -> None:
    error = KeyError("mine")

    async def wait(n: int) -> int:
        await asyncio.sleep(0)
        raise error

    guest.on_wait = wait
    with pytest.raises(KeyError) as caught:
        run(guest.call(name, 5))
    assert caught.value is error and guest.notes == []


def test_a_trap_after_waiting_has_its_frames(guest: Guest) -> None:
    guest.on_wait = lambda n: pass_on(0)
    with pytest.raises(wl.Trap) as trap:
        run(guest.call("divide", 1))
    assert trap.value.code == "integer divide by zero"
    assert [frame.func_name for frame in trap.value.frames] == ["divide"]


def test_frames_of_a_call_inside_a_guest_that_has_waited(guest: Guest) -> None:
    """The frames go through a plain import to the guest that called it, which has been parked before."""

    def wait(n: int) -> Any:
        if n == 2:
            return pass_on(n)
        guest.on_wait = lambda n: 0
        return guest.exports.divide(0)

    guest.on_wait = wait
    with pytest.raises(wl.Trap) as trap:
        run(guest.call("guarded_generator", 2))
    names = [frame.func_name for frame in trap.value.frames]
    assert names == ["divide", "env.wait", "sum", "inner", "guarded_generator"]


def test_frames_of_waiting_guests(guest: Guest) -> None:
    async def main() -> None:
        task = await started(guest.call("deep", 2))
        other = await started(guest.call("guarded_generator", 2), 1)
        found = {waiting.function: waiting for waiting in wl.waiting_guests(guest.store)}
        assert {waiting.waits_for for waiting in found.values()} == {"env.wait"}
        assert [frame.func_name for frame in found["deep"].frames] == ["env.wait", "deep", "deep", "deep"]
        names = [frame.func_name for frame in found["guarded_generator"].frames]
        assert names == ["env.wait", "sum", "inner", "guarded_generator"]
        event.set()
        assert await asyncio.gather(task, other) == [3, 3]

    async def wait(n: int) -> int:
        await event.wait()
        return n

    event = asyncio.Event()
    guest.on_wait = wait
    run(main())


async def slowly(n: int) -> int:
    await asyncio.sleep(0.01)
    return n


# --- limits ---


def test_a_timeout_holds_for_each_step() -> None:
    guest = Guest(wl.Store(timeout=0.05))
    guest.on_wait = slowly

    def ends_in_time() -> bool:
        """Altogether it takes more than the timeout. A step may, too, when this thread comes late."""
        try:
            return bool(run(guest.call("sum", 12)) == 78)
        except wl.Trap:
            return False

    assert any(ends_in_time() for _ in attempts())
    guest.on_wait = pass_on
    with pytest.raises(wl.Trap) as trap:
        run(guest.call("spin", 1))
    assert trap.value.code == "timeout"
    assert [frame.func_name for frame in trap.value.frames] == ["spin"]
    assert stacks_in_use(guest.store) == 0


def test_fuel_runs_out_after_waiting() -> None:
    engine = wl.Engine(fuel=True)
    store = wl.Store(engine, fuel=1000)
    guest = Guest(store, wl.Module(TEXT, engine))
    assert run(guest.call("sum", 3)) == 6
    with pytest.raises(wl.Trap, match="all fuel consumed"):
        run(guest.call("spin", 1))
    assert stacks_in_use(store) == 0


def test_a_stack_that_is_too_deep(tier: str) -> None:
    small = Guest(wl.Store(stack_limit=8192))
    assert run(small.call("deep", 100)) == 101
    with pytest.raises(wl.Trap, match="call stack exhausted"):
        run(small.call("deep", 10000))
    assert stacks_in_use(small.store) == 0
    assert run(Guest(wl.Store(stack_limit=16 << 20)).call("deep", 50000)) == 50001


# --- cancellation ---


async def cancelled(guest: Guest, name: str, n: int = 5, steps: int = 3) -> Any:
    task = await started(guest.call(name, n), steps)
    task.cancel()
    return await task


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("sum", []),
        ("deep", []),
        ("as_cont", []),
        ("generate", []),
        ("caught", []),
        ("cleanup", [-2]),
        ("guarded_generator", [-3, -4]),
        ("slow_cleanup", [77]),
    ],
)
def test_cancellation_goes_through_the_guests_handlers(guest: Guest, name: str, notes: list[int]) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await cancelled(guest, name, steps=1)

    run(main())
    assert guest.notes == notes


def test_a_guest_can_keep_a_cancellation(guest: Guest) -> None:
    assert run(cancelled(guest, "guarded")) == -1
    assert guest.notes == [-1]


def test_cancelled_again_while_it_cleans_up(guest: Guest) -> None:
    async def main() -> None:
        guest.on_wait = slowly
        task = await started(guest.call("slow_cleanup", 3))
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert guest.notes == []


def test_timeouts_of_the_event_loop(guest: Guest) -> None:
    async def main() -> None:
        guest.on_wait = slowly
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await guest.call("cleanup", 1000)

    run(main())
    assert guest.notes == [-2]


NAMES = ("sum", "deep", "generate", "as_cont", "caught", "guarded", "cleanup", "slow_cleanup", "guarded_generator")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 12), st.integers(0, 30)), max_size=40), st.randoms())
def test_cancellation_at_any_point(calls: list[tuple[str, int, int]], choices: random.Random) -> None:
    """Whatever is cancelled whenever: the others give their results, and no stack is left."""
    guest = Guest()

    async def wait(n: int) -> int:
        for _ in range(choices.randrange(3)):
            await asyncio.sleep(0)
        return n

    guest.on_wait = wait

    async def cancel_after(task: asyncio.Task[Any], steps: int) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()

    async def main() -> None:
        tasks = [asyncio.create_task(guest.call(name, n)) for name, n, _ in calls]
        cancelling = [
            asyncio.create_task(cancel_after(t, s)) for t, (_, _, s) in zip(tasks, calls, strict=True) if s < 20
        ]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*cancelling)
        for (name, n, steps), result in zip(calls, found, strict=True):
            if steps < 20 and (isinstance(result, asyncio.CancelledError) or (result == -1 and name == "guarded")):
                continue
            expected = {"deep": n + 1, "as_cont": n, "caught": n}
            assert result == expected.get(name, n * (n + 1) // 2)
        assert await guest.call("sum", 4) == 10

    run(main())
    assert wl.waiting_guests(guest.store) == []
    assert stacks_in_use(guest.store) == 0


# --- what is left behind ---


def test_a_call_that_is_never_awaited(guest: Guest) -> None:
    call = guest.call("sum", 3)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        del call
        gc.collect()


@pytest.mark.parametrize("name", NAMES)
def test_a_waiting_call_that_is_closed_or_dropped(guest: Guest, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call = guest.call(name, 3)
        call.send(None)
        assert len(wl.waiting_guests(guest.store)) == 1
        call.close()
        assert wl.waiting_guests(guest.store) == [] and stacks_in_use(guest.store) == 0
        call = guest.call(name, 3)
        call.send(None)
        del call
        assert wl.waiting_guests(guest.store) == [] and stacks_in_use(guest.store) == 0
        call = guest.call(name, 3)
        call.send(None)
        cycle: list[Any] = [call]
        cycle.append(cycle)
        del call, cycle
        gc.collect()
        assert wl.waiting_guests(guest.store) == [] and stacks_in_use(guest.store) == 0


def test_a_loop_that_ends_before_its_guests(guest: Guest) -> None:
    tasks: list[asyncio.Task[Any]] = []
    ends: list[None] = []

    async def wait(n: int) -> int:
        """Longer than the loop runs; what a guest does when it is cancelled may wait, too."""
        await asyncio.sleep(0 if ends else FOREVER)
        return n

    async def main() -> None:
        guest.on_wait = wait
        for name in NAMES:
            tasks.append(await started(guest.call(name, 100)))
        assert len(wl.waiting_guests(guest.store)) == len(NAMES)
        ends.append(None)

    run(main())
    assert [name for name, task in zip(NAMES, tasks, strict=True) if not task.cancelled()] == ["guarded"]
    assert stacks_in_use(guest.store) == 0


def test_stores_go_with_their_guests() -> None:
    def make() -> tuple[weakref.ref[wl.Store], Any]:
        guest = Guest()
        call = guest.call("guarded_generator", 4)
        call.send(None)
        return weakref.ref(guest.store), call

    store, call = make()
    gc.collect()
    assert store() is not None
    del call
    gc.collect()
    assert store() is None


def test_nothing_accumulates(guest: Guest) -> None:
    """Rounds of everything that can happen leave as many Python objects as there were before."""

    async def fail(n: int) -> int:
        await asyncio.sleep(0)
        raise KeyError(n) if n % 2 else wl.WasmException(guest.oops, n)

    async def main() -> None:
        for name in NAMES:
            guest.on_wait = pass_on
            await guest.call(name, 3)
            await asyncio.gather(cancelled(guest, name, steps=1), return_exceptions=True)
            guest.on_wait = fail
            await asyncio.gather(guest.call(name, 2), guest.call(name, 3), return_exceptions=True)
        guest.notes.clear()

    async def rounds(n: int) -> int:
        for _ in range(n):
            await main()
        gc.collect()
        return len(gc.get_objects())

    async def measure() -> None:
        first = await rounds(3)
        assert await rounds(30) <= first + 20

    run(measure())


def test_references_of_waiting_guests_are_kept() -> None:
    """A store forgets external references that nothing in it holds: what lies on the stacks of waiting guests stays."""
    module = wl.Module("""(module
      (type $ft (func (param externref) (result externref)))
      (type $ct (cont $ft))
      (import "env" "wait" (func $wait))
      (elem declare func $hold)
      (func $hold (export "hold") (param externref) (result externref) (call $wait) (local.get 0))
      (func (export "pass") (param externref))
      (func (export "hold_below") (param externref) (result externref)
        (drop (resume $ct (ref.null extern) (cont.new $ct (ref.func $hold))))
        (local.get 0)))""")

    class Thing:
        pass

    async def wait() -> None:
        await asyncio.sleep(0.05)

    instance = wl.Instance(module, {"env": {"wait": wait}})

    async def main() -> None:
        tasks = [asyncio.create_task(instance.exports[name].call_async(Thing())) for name in ("hold", "hold_below") * 5]
        await asyncio.sleep(0)
        for _ in range(5000):
            instance.exports["pass"](Thing())
        assert all(type(found) is Thing for found in await asyncio.gather(*tasks))

    run(main())


def test_the_message_names_the_way_out(guest: Guest) -> None:
    with pytest.raises(wl.WasmError) as error:
        guest.exports.sum(1)
    assert re.search(r"host function env\.wait .*\(coroutine\).*await function\.call_async", str(error.value))


def test_continuations_and_exceptions_of_waiting_guests_survive_collections() -> None:
    module = wl.Module("""(module
      (type $ft (func (result i32)))
      (type $ct (cont $ft))
      (import "env" "wait" (func $wait))
      (import "env" "pass" (func $pass (param exnref) (result exnref)))
      (tag $pause)
      (tag $carry (param i32))
      (elem declare func $body)
      (func $body (result i32) (suspend $pause) (i32.const 7))
      (func $start (result (ref $ct))
        (block $h (result (ref $ct))
          (drop (resume $ct (on $pause $h) (cont.new $ct (ref.func $body)))) (unreachable)))
      (func (export "resumed") (result i32) (local $k (ref null $ct))
        (local.set $k (call $start))
        (call $wait)
        (resume $ct (local.get $k)))
      (func $make (param i32) (result exnref)
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $carry (local.get 0))) (unreachable)))
      (func (export "thrown") (param i32) (result i32) (local $e exnref)
        (local.set $e (call $make (local.get 0)))
        (call $wait)
        (block $h (result i32)
          (try_table (catch $carry $h) (throw_ref (call $pass (local.get $e)))) (unreachable)))
      (func (export "garbage") (param i32)
        (loop $again
          (drop (call $start))
          (drop (call $make (i32.const 99)))
          (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))""")
    passed: list[object] = []

    async def wait() -> None:
        await asyncio.sleep(0.01)

    async def pass_(error: object) -> object:
        await asyncio.sleep(0)
        passed.append(error)
        return error

    exports = wl.Instance(module, {"env": {"wait": wait, "pass": pass_}}).exports

    async def main() -> None:
        tasks = [asyncio.create_task(exports.resumed.call_async()) for _ in range(20)]
        tasks += [asyncio.create_task(exports.thrown.call_async(i)) for i in range(20)]
        await asyncio.sleep(0)
        for _ in range(10):
            exports.garbage(3000)
            collect_garbage(exports.garbage.store)
            await asyncio.sleep(0.003)
        assert await asyncio.gather(*tasks) == [7] * 20 + list(range(20))

    run(main())
    assert all(isinstance(error, wl.WasmException) for error in passed) and len(passed) == 20
    collect_garbage(exports.garbage.store)
    assert stacks_in_use(exports.garbage.store) == 0


def test_guests_count_towards_the_memory_limit() -> None:
    guest = Guest(wl.Store(memory_limit=65536 + 200_000))

    async def main() -> None:
        found = await asyncio.gather(*(guest.call("deep", 0) for _ in range(2000)), return_exceptions=True)
        failed = [result for result in found if result != 1]
        assert 1000 < len(failed) < 2000
        assert all(isinstance(error, wl.Trap) for error in failed)
        assert await guest.call("deep", 3) == 4

    run(main())
    assert stacks_in_use(guest.store) == 0
