"""Continuations that are resumed in an event loop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from weakref import ref

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, exports_of

#: Fetches numbers from the host and yields them; what it is sent is added to what it returns.
READER = """
  (module
    (type $f (func (param i32) (result i64 f32))) (type $k (cont $f))
    (type $rec (func (param (ref null $rec)) (result i32)))
    (import "env" "fetch" (func $fetch (param i32) (result i32)))
    (tag $yield (export "yield") (param i32 f64 (ref null $rec)) (result i32))
    (tag $other (export "other") (param externref))
    (tag $error (export "error") (param i32))
    (func $id (param (ref null $rec)) (result i32) (i32.const 42))
    (func $read (param $n i32) (result i64 f32) (local $sum i32)
      (block $caught (result i32)
        (try_table (catch $error $caught)
          (loop $next
            (local.set $sum (i32.add (local.get $sum)
              (suspend $yield (call $fetch (local.get $n)) (f64.const 0.5) (ref.func $id))))
            (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
        (return (i64.extend_i32_s (local.get $sum)) (f32.const 1.5)))
      (return (i64.extend_i32_s (i32.mul (i32.const 100))) (f32.const 2.5)))
    (elem declare func $read $id)
    (func (export "reader") (result (ref $k)) (cont.new $k (ref.func $read)))
    (func (export "plain") (result contref) (cont.new $k (ref.func $read))))
"""


async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


@pytest.fixture(params=["interpreter", "baseline", "compiler", "libcall", "auto"])
def reader(request: pytest.FixtureRequest) -> Any:
    engine = wl.Engine(**ENGINES[request.param])
    return exports_of(READER, engine, {"env": {"fetch": fetch}})


def test_suspensions_and_results(reader: Any) -> None:
    tag = reader["yield"]

    async def run() -> Any:
        first = await reader.reader().resume_async(3, on=tag)
        assert isinstance(first, wl.Suspension) and first.tag == tag
        assert first.payload[:2] == (9, 0.5)
        assert first.payload[2](None) == 42
        assert str(first.continuation.type) == "[i32] -> [i64 f32]"
        second = await first.continuation.resume_async(10, on=(reader.other, tag))
        assert second.payload[0] == 4 and not first.continuation.alive
        third = await second.continuation.resume_async(20, on=[tag])
        return await third.continuation.resume_async(30)

    assert asyncio.run(run()) == (60, 1.5)


def test_handlers_that_wait(reader: Any) -> None:
    seen = []

    async def handler(number: int, half: float, function: Any) -> int:
        seen.append(number)
        await asyncio.sleep(0)
        return 1

    async def run() -> Any:
        kinds: dict[Any, Any] = {reader["yield"]: handler, reader.other: print}
        return await asyncio.gather(*(reader.reader().resume_async(3, on=kinds) for _ in range(3)))

    assert asyncio.run(run()) == [(3, 1.5)] * 3
    assert seen == [9, 9, 9, 4, 4, 4, 1, 1, 1]


def test_exceptions_are_thrown_in(reader: Any) -> None:
    tag = reader["yield"]

    def refuse(*payload: Any) -> int:
        raise wl.WasmException(reader.error, 7)

    async def run() -> None:
        first = await reader.reader().resume_async(3, on=tag)
        assert await first.continuation.throw_async(wl.WasmException(reader.error, 5)) == (500, 2.5)
        assert await reader.reader().resume_async(3, on={tag: refuse}) == (700, 2.5)
        second = await reader.reader().resume_async(3, on=tag)
        with pytest.raises(TypeError, match="takes a WasmException"):
            await second.continuation.throw_async(ValueError())
        assert second.continuation.alive

    asyncio.run(run())


def test_what_ends_it(reader: Any) -> None:
    async def run() -> None:
        with pytest.raises(wl.Trap, match="unhandled tag"):
            await reader.reader().resume_async(3)
        used = reader.reader()
        await used.resume_async(3, on=reader["yield"])
        with pytest.raises(ValueError, match="can't be passed on"):
            await used.resume_async(3)
        with pytest.raises(TypeError, match="takes 1 arguments"):
            await reader.reader().resume_async()
        with pytest.raises(TypeError, match="its type isn't known"):
            await reader.plain().resume_async(1)
        with pytest.raises(TypeError, match="on is a tag"):
            await reader.reader().resume_async(1, on=7)

    asyncio.run(run())


def test_cancelling(reader: Any) -> None:
    async def run() -> None:
        task = asyncio.create_task(reader.reader().resume_async(3, on=reader["yield"]))
        await asyncio.sleep(0)
        (waiting,) = wl.waiting_guests(reader.reader.store)
        assert waiting.waits_for == "env.fetch"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_one_small_instance_for_all_and_none_keeps_the_store() -> None:
    exports: Any = exports_of(READER, wl.Engine(tier="interpreter"), {"env": {"fetch": fetch}})

    async def run(exports: Any) -> None:
        for _ in range(5):
            await exports.reader().resume_async(1, on=exports["yield"])

    asyncio.run(run(exports))
    store = exports.reader.store
    assert len(store.modules) == 2
    gone = ref(store)
    del store, exports
    gc.collect()
    assert gone() is None


def test_types_of_types() -> None:
    """Recursive groups and types that name each other are the same in the module that resumes."""
    exports: Any = exports_of(
        """(module
          (rec (type $a (func (param (ref null $b)))) (type $b (func (result (ref null $a)))))
          (type $c (func (param (ref null $b) i32) (result (ref null $b))))
          (type $k (cont $c)) (type $outer (func (param (ref null $k)) (result (ref null $k)))) (type $ok (cont $outer))
          (tag $t (export "t") (param (ref null $a)) (result (ref null $ok)))
          (func $f (param (ref null $b) i32) (result (ref null $b))
            (drop (suspend $t (ref.null $a))) (local.get 0))
          (func $b (export "b") (type $b) (ref.null $a))
          (elem declare func $f)
          (func (export "k") (result (ref $k)) (cont.new $k (ref.func $f))))""",
        wl.Engine(tier="interpreter"),
    )

    async def run() -> Any:
        first = await exports.k().resume_async(exports.b, 1, on=exports.t)
        assert first.payload == (None,)
        return await first.continuation.resume_async(None)

    assert asyncio.run(run()) is exports.b
