"""A user's program that names the whole public API: it runs, and it is typed (`mypy --strict`, see ``.ci/run``)."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Generator
from typing import Any

import wasmloom as wl

TEXT = """
(module $shop
  (type $f (func (result i32))) (type $k (cont $f))
  (import "env" "price" (func $price (param i32) (result i32)))
  (import "env" "memory" (memory 1 4))
  (import "env" "count" (global $count (mut i32)))
  (import "env" "table" (table 2 funcref))
  (import "env" "sold_out" (tag $sold_out (param i32)))
  (tag $yield (export "yield") (param i32))
  (func (export "buy") (param i32) (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (call $price (local.get 0)))
  (func (export "fail") (param i32) (throw $sold_out (local.get 0)))
  (func (export "halt") (unreachable))
  (func $numbers (result i32)
    (suspend $yield (i32.const 1)) (suspend $yield (i32.const 2)) (i32.const 3))
  (elem declare func $numbers)
  (func (export "numbers") (result (ref $k)) (cont.new $k (ref.func $numbers))))
"""


def price(caller: wl.Caller, item: int) -> int:
    memory = caller.exports.get("memory") or caller.get("memory")
    assert memory is None and caller.module.name == "shop" and caller.store.engine.tier
    return item * 2


def threads(engine: wl.Engine) -> int:
    """Two stores that share a memory."""
    memory = wl.SharedMemory(wl.MemoryType(wl.Limits(1, 2), shared=True))
    text = """(module (import "env" "memory" (memory 1 2 shared))
      (func (export "add") (drop (i32.atomic.rmw.add (i32.const 8) (i32.const 1)))))"""
    module = wl.Module(text, engine)
    for _ in range(2):
        wl.Instance(module, {"env": {"memory": memory}}).exports.add()
    memory.write(0, b"ab")
    memory[1:2] = memory[0:1]
    size: int = memory.grow(1) + memory.size + len(memory) + memory.notify(8)
    return size + memory[8] + memory.read(0, 2)[0] + len(bytes(memory)) + memory.address * 0 + memory.type.limits.min


class Shop:
    """An instance with all that it imports."""

    def __init__(self, engine: wl.Engine) -> None:
        self.store = wl.Store(engine, timeout=10, memory_limit=1 << 24, stack_limit=1 << 18)
        self.memory = wl.Memory(self.store, wl.MemoryType(wl.Limits(1, 4)))
        self.count = wl.Global(self.store, wl.GlobalType(wl.I32, mutable=True), 0)
        self.table = wl.Table(self.store, wl.TableType(wl.FUNCREF, wl.Limits(2, None)))
        self.sold_out = wl.Tag(self.store, wl.FuncType((wl.I32,), ()))
        self.module = wl.Module(TEXT, engine)
        imports = {
            "env": {
                "price": wl.takes_caller(price),
                "memory": self.memory,
                "count": self.count,
                "table": self.table,
                "sold_out": self.sold_out,
            }
        }
        self.instance = wl.Instance(self.module, imports, store=self.store)
        self.exports: wl.Exports = self.instance.exports


def types(shop: Shop) -> None:
    wanted: wl.ImportType = shop.module.imports["env", "price"]
    given: wl.ExportType = shop.module.exports["buy"]
    assert wanted.kind == given.kind == "func"
    assert isinstance(given.type, wl.FuncType) and given.type.params == (wl.I32,)
    value_types: list[wl.ValType] = [wl.I32, wl.I64, wl.F32, wl.F64, wl.V128, wl.FUNCREF, wl.EXTERNREF, wl.ANYREF]
    assert " ".join(map(str, value_types)) == "i32 i64 f32 f64 v128 funcref externref anyref"
    buy: wl.Func = shop.exports.buy
    type: wl.FuncType = buy.type
    assert type.results[0].is_ref is False and buy.name == "buy" and buy.store is shop.store
    tag = shop.module.imports["env", "sold_out"].type
    assert isinstance(tag, wl.TagType)
    features: dict[str, int] = shop.module.features
    assert "stack-switching" in features


def values(shop: Shop) -> None:
    assert shop.exports.buy(21) == 42
    total: int = shop.count.value
    assert total == 1
    memory = shop.memory
    memory[0:4] = b"abcd"
    memory[4] = 7
    byte: int = memory[4]
    text: bytes = memory[0:4]
    assert (byte, text, memory.read(0, 2), len(memory)) == (7, b"abcd", b"ab", memory.size * 65536)
    memory.write(8, bytearray(b"xyz"))
    with memoryview(memory) as view:
        assert bytes(view[8:11]) == b"xyz"
    assert memory.grow(1) == 1 and memory.type.limits.max == 4 and memory.address
    shop.table[0] = shop.exports.buy
    assert shop.table.get(0) is shop.exports.buy and shop.table.size == 2 and shop.table.type.element == wl.FUNCREF
    double = wl.Func(shop.store, "i32 -> i32", lambda x: 2 * x, "double")
    assert double(4) == 8
    named: dict[str, Any] = dict(shop.exports)
    assert named["buy"] is shop.exports["buy"]


def objects(shop: Shop) -> None:
    store = shop.store
    pair = wl.StructType((wl.FieldType(wl.I32, True), wl.FieldType(wl.ANYREF, True)))
    item: wl.Struct = wl.Struct(store, pair, [1, "anything"])
    item[0] = 2
    number: int = item[0]
    assert (number, item[1], len(item), item.type, item.store) == (2, "anything", 2, pair, store)
    halves = wl.ArrayType(wl.FieldType(wl.I16, mutable=True))
    array: wl.Array = wl.Array(store, halves, [1, 2, 3])
    array[1:] = [5, 6]
    assert list(array) == [1, 5, 6] and memoryview(array).format == "H" and array.type == halves
    assert len(wl.Array(store, wl.ArrayType(wl.FieldType(wl.I8, mutable=False)), 10)) == 10
    item[1] = array
    assert item[1] == array and wl.Struct(store, pair)[1] is None
    strings: dict[str, Any] = wl.js_strings(store, constants="S")
    text: wl.Global = strings["S"]["a text"]
    assert strings["wasm:js-string"]["length"]("a text") == 6 and text.value == "a text"


def errors(shop: Shop) -> None:
    try:
        shop.exports.halt()
    except wl.Trap as trap:
        frame: wl.Frame = trap.frames[0]
        assert (trap.code, frame.func_name) == ("unreachable", "halt")
        places: tuple[wl.SourceFrame, ...] = frame.source
        assert places == () and wl.SourceFrame("f", "a.c", 3).place == "a.c:3"
    try:
        shop.exports.fail(3)
    except wl.WasmException as error:
        payload: tuple[Any, ...] = error.payload
        assert payload == (3,) and error.tag == shop.sold_out
    for text, kind in (
        ("(module", wl.CompileError),
        ("(module (func (result i32)))", wl.ValidationError),
        ("(component)", wl.UnsupportedError),
    ):
        try:
            wl.Module(text)
        except kind as wrong:
            where: tuple[int | None, int | None, int | None] = (wrong.offset, wrong.line, wrong.column)
            assert isinstance(wrong, wl.WasmError) and any(where)
    try:
        wl.Instance(shop.module, {}, store=shop.store)
    except wl.LinkError as missing:
        assert "env.price" in str(missing)


def limits(shop: Shop) -> None:
    store = shop.store
    store.timeout, store.memory_limit = None, None
    store.timeout = 5.0
    store.set_limits(memory_size=1 << 20, instances=10)
    store.epoch_deadline = store.engine.epoch + 2
    store.engine.increment_epoch()
    store.epoch_deadline = None
    left: float | None = wl.time_left()
    fuel: int | None = store.fuel
    assert left is None and fuel is None and store.memory_used > 0
    store.gc()
    collected: wl.GcStatistics = store.gc_statistics
    pauses: tuple[float, ...] = collected.pauses
    assert collected.seconds >= collected.longest >= 0 and len(pauses) == collected.collections


def snapshots(shop: Shop) -> None:
    store = wl.Store()
    text = '(module (import "h" "f" (func)) (memory (export "m") 1) (func (export "run") (result i32) (i32.const 1)))'
    wl.Instance(wl.Module(text), {"h": {"f": lambda: None}}, store=store)
    kept: wl.Snapshot = wl.Snapshot.take(store, persistent_id=lambda thing: None)
    data: bytes = kept.to_bytes(embed=False)
    again = wl.Snapshot.from_bytes(data, modules=kept.modules)
    assert again.is_between_calls
    restored: wl.Restored = again.restore(imports={"h": {"f": lambda: None}}, persistent_load=lambda name: None)
    assert restored.instances[0].exports.run() == 1 and again == kept
    calls: tuple[wl.PendingCall, ...] = restored.calls
    assert calls == () and dict(restored.objects) == {}
    both: wl.Snapshot = store.snapshot(keep={"run": restored.instances[0].exports.run} if calls else None)
    assert both == kept and wl.Engine(snapshots=True).snapshots
    try:
        info: wl.CallInfo = wl.current_call()
    except wl.WasmError:
        info = wl.CallInfo("none")
    assert (info.branch, info.attempt) == ("", 1)
    copied: tuple[wl.Instance, ...] = wl.fork(store).instances
    assert copied[0].store is not store
    with tempfile.TemporaryDirectory() as folder:
        kept.save(f"{folder}/kept.wlsnap", compress="zlib", key=b"secret")
        assert wl.Snapshot.load(f"{folder}/kept.wlsnap", key=b"secret").to_bytes() == kept.to_bytes()
    with wl.Wasi(args=["a"]) as wasi, wl.Wasi() as another:
        yielding = '(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))'
        guest = wasi.instantiate(wl.Module(yielding))
        assert len(wl.Snapshot.take(guest.store).restore(wasi=another).instances) == 1


def profiles(shop: Shop) -> None:
    with wl.profile(shop.store) as profile:
        list(wl.resume_iter(shop.exports.numbers(), shop.exports["yield"]))
    kept: wl.Profile = profile
    with wl.profile(shop.store, lines=True, waiting=True) as placed:
        pass
    assert placed.by_line() == []
    rows: list[tuple[str, int, int]] = [(row.name, row.own, row.total) for row in kept.top(3)]
    stacks: dict[tuple[str, ...], int] = kept.stacks
    tiers: dict[str, int] = kept.tiers
    assert sum(stacks.values()) == sum(tiers.values()) == kept.total >= sum(own for _, own, _ in rows)
    assert f"{kept.total} samples" in kept.table(3)
    with tempfile.TemporaryDirectory() as folder:
        kept.save(f"{folder}/profile.svg")
    assert kept.flame_graph("a") and kept.speedscope("a") and isinstance(kept.collapsed(), str)


def continuations(shop: Shop) -> None:
    tag: wl.Tag = shop.exports["yield"]
    numbers: Generator[Any, Any, Any] = wl.resume_iter(shop.exports.numbers(), tag)
    assert list(numbers) == [1, 2]
    continuation: wl.Continuation = shop.exports.numbers()
    outcome = continuation.resume(on=tag)
    assert isinstance(outcome, wl.Suspension)
    rest: wl.Continuation = outcome.continuation
    assert outcome.payload == (1,) and rest.alive
    assert rest.resume(on={tag: lambda number: None}) == 3


async def waiting(shop: Shop) -> int:
    guests: list[wl.WaitingGuest] = wl.waiting_guests(shop.store)
    assert not guests
    outcome = await shop.exports.numbers().resume_async(on=shop.exports["yield"])
    assert isinstance(outcome, wl.Suspension)
    bought: int = await shop.exports.buy.call_async(4)
    return bought


def program(engine: wl.Engine) -> None:
    text = '(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start") '
    output = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        preopens: dict[str, str | wl.ReadOnly] = {"/read": wl.ReadOnly(folder), "/write": folder}
        with wl.Wasi(args=["a"], env={"A": "b"}, stdin=b"", stdout=output.write, preopens=preopens) as wasi:
            status: int = wasi.run(wl.Module(f"{text} (call 0 (i32.const 3))))", engine), store=wl.Store(engine))
    assert status == 3
    try:
        raise wl.ExitStatus(status)
    except wl.ExitStatus as exited:
        assert exited.code == 3


def main(engine: wl.Engine | None = None) -> None:
    """Run all of it."""
    shop = Shop(engine or wl.Engine(cache=False))
    for part in (types, values, objects, errors, continuations, limits, profiles, snapshots):
        part(shop)
    assert threads(shop.store.engine) == 1 + 2 + 131072 + 0 + 2 + 97 + 131072 + 2
    assert asyncio.run(waiting(shop)) == 8
    program(shop.store.engine)


if __name__ == "__main__":
    main()
