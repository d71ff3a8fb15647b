"""Memories, globals, tables and tags."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from tests.compat.conftest import World

ITEMS = """(module
  (memory (export "memory") 1 3) (table (export "table") 3 5 funcref) (table (export "objects") 2 externref)
  (global (export "number") (mut i32) (i32.const 7)) (global (export "fixed") i64 (i64.const 9))
  (global (export "object") (mut externref) (ref.null extern))
  (tag (export "tag") (param i32))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"""


@pytest.fixture
def world(w: Any) -> World:
    return World(w, ITEMS)


def test_sizes_of_memories(w: Any, world: World) -> None:
    memory, store = world["memory"], world.store
    assert (memory.size(store), memory.data_len(store)) == (1, 65536)
    assert (memory.page_size(store), memory.page_size_log2(store)) == (65536, 16)
    assert memory.type(store).limits == w.Limits(1, 3)
    assert memory.grow(store, 1) == 1 and memory.size(store) == 2
    assert memory.grow(store, 0) == 2
    with pytest.raises(w.WasmtimeError, match="failed to grow memory by `2`"):
        memory.grow(store, 2)
    with pytest.raises(w.WasmtimeError):
        memory.grow(store, -1)


@pytest.mark.parametrize(
    ("start", "stop", "length"),
    [
        (0, 4, 4), (None, None, 65536), (-4, None, 4), (65530, 70000, 6), (70000, 70004, 0), (10, 4, 0), (0, -1, 65535),
    ],
)  # fmt: skip
def test_reading(world: World, start: Any, stop: Any, length: int) -> None:
    found = world["memory"].read(world.store, start, stop)
    assert type(found) is bytearray and len(found) == length


def test_writing(w: Any, world: World) -> None:
    memory, store = world["memory"], world.store
    assert memory.write(store, b"abc", 8) == 3 and memory.write(store, bytearray(b"xy")) == 2
    assert memory.read(store, 8, 11) == b"abc" and memory.read(store, 0, 2) == b"xy"
    assert memory.write(store, memoryview(b"end"), -3) == 3 and memory.read(store, -3) == b"end"
    assert memory.write(store, [1, 2, 3], 100) == 3 and world.call("peek", 101) == 2
    assert memory.write(store, b"", 5) == 0
    for data, start in ((b"abc", 65534), (b"abc", 65536), (b"", 65536)):
        with pytest.raises(IndexError):
            memory.write(store, data, start)
    with pytest.raises(TypeError):
        memory.write(store, "text", 0)


def test_pointers(w: Any, world: World) -> None:
    memory, store = world["memory"], world.store
    pointer = memory.data_ptr(store)
    pointer[5] = 77
    assert world.call("peek", 5) == 77
    world.call("poke", 6, 78)
    assert pointer[5:7] == [77, 78]
    assert ctypes.addressof(pointer.contents) == ctypes.addressof(memory.get_buffer_ptr(store))
    part = memory.get_buffer_ptr(store, size=2, offset=5)
    assert list(part) == [77, 78] and len(memory.get_buffer_ptr(store)) == 65536
    part[1] = 9
    assert world.call("peek", 6) == 9
    assert bytes(memoryview(memory.get_buffer_ptr(store)))[5:7] == b"M\t"
    del pointer, part
    assert world.call("grow", 1) == 1
    assert len(memory.get_buffer_ptr(store)) == 2 * 65536


def test_making_memories(w: Any) -> None:
    store = w.Store()
    memory = w.Memory(store, w.MemoryType(w.Limits(2, None)))
    assert memory.size(store) == 2 and memory.type(store).limits == w.Limits(2, None)
    with pytest.raises(w.WasmtimeError):
        w.Memory(store, w.MemoryType(w.Limits(1, 2), shared=True))


def test_shared_memories() -> None:
    # The package's own class fails before it asks its engine (version 50.0.1).
    import wasmloom.compat.wasmtime as w

    memory = w.SharedMemory(w.Engine(), w.MemoryType(w.Limits(1, 2), shared=True))
    assert (memory.size(), memory.data_len(), memory.type().is_shared) == (1, 65536, True)
    assert memory.grow(1) == 1 and memory.size() == 2
    memory.data_ptr()[70000] = 5
    assert memory.data_ptr()[70000] == 5
    with pytest.raises(w.WasmtimeError):
        memory.grow(1)
    with pytest.raises(w.WasmtimeError):
        w.SharedMemory(w.Engine(), w.MemoryType(w.Limits(1, 2)))
    store = w.Store()
    text = """(module (import "env" "memory" (memory 1 2 shared)) (export "memory" (memory 0))
      (func (export "add") (result i32) (i32.atomic.rmw.add (i32.const 70000) (i32.const 2))))"""
    linker = w.Linker(store.engine)
    linker.define(store, "env", "memory", memory)
    exports = linker.instantiate(store, w.Module(store.engine, text)).exports(store)
    assert exports["add"](store) == 5
    assert memory.data_ptr()[70000] == 7
    assert isinstance(exports["memory"], w.SharedMemory) and exports["memory"].size() == 2


def test_globals(w: Any, world: World) -> None:
    number, store = world["number"], world.store
    assert number.value(store) == 7 and number.type(store).mutable and number.type(store).content == w.ValType.i32()
    for given, found in ((5, 5), (2**32 + 6, 6), (w.Val.i32(9), 9), (-1, -1)):
        number.set_value(store, given)
        assert number.value(store) == found
    for wrong in ("a", 1.0, None, w.Val.i64(1)):
        with pytest.raises(TypeError):
            number.set_value(store, wrong)
    with pytest.raises(w.WasmtimeError):
        world["fixed"].set_value(store, 5)
    thing = [1]
    world["object"].set_value(store, thing)
    assert world["object"].value(store) is thing


def test_making_globals(w: Any) -> None:
    store = w.Store()
    assert w.Global(store, w.GlobalType(w.ValType.f64(), True), 1.5).value(store) == 1.5
    assert w.Global(store, w.GlobalType(w.ValType.externref(), False), "x").value(store) == "x"
    for type, value in ((w.GlobalType(w.ValType.f64(), True), 1), (3, 1.5)):
        with pytest.raises(TypeError):
            w.Global(store, type, value)


def test_tables(w: Any, world: World) -> None:
    table, store, peek = world["table"], world.store, world["peek"]
    assert (table.size(store), table.type(store).limits, table.type(store).element) == (
        3, w.Limits(3, 5), w.ValType.funcref(),
    )  # fmt: skip
    table.set(store, 0, peek)
    assert table.get(store, 0)(store, 0) == 0
    table.set(store, 0, None)
    assert isinstance(table.get(store, 0), w.Val) and table.get(store, 3) is None
    for wrong in (3, "x"):
        with pytest.raises(TypeError):
            table.set(store, 0, wrong)
    with pytest.raises(w.WasmtimeError):
        table.set(store, 3, None)
    assert table.grow(store, 2, peek) == 3 and isinstance(table.get(store, 4), w.Func)
    with pytest.raises(w.WasmtimeError, match="failed to grow table by `1`"):
        table.grow(store, 1, None)
    thing = {"not": "empty"}  # the package takes what is false for null
    world["objects"].set(store, 1, thing)
    assert world["objects"].get(store, 1) is thing


def test_making_tables(w: Any) -> None:
    store = w.Store()
    assert w.Table(store, w.TableType(w.ValType.externref(), w.Limits(2, None)), "x").get(store, 1) == "x"
    with pytest.raises(TypeError):
        w.Table(store, w.TableType(w.ValType.funcref(), w.Limits(2, None)), "x")


def test_tags(w: Any, world: World) -> None:
    tag, store = world["tag"], world.store
    type = w.TagType(w.FuncType([w.ValType.i32()], []))
    assert tag.type(store).functype.params == [w.ValType.i32()]
    assert tag.eq(store, world.instance.exports(store)["tag"]) and not tag.eq(store, w.Tag(store, type))
    with pytest.raises(w.WasmtimeError):
        w.Tag(store, w.TagType(w.FuncType([], [w.ValType.i32()])))


def test_items_as_imports(tiered: Any) -> None:
    w = tiered
    world = World(
        w,
        """(module (import "" "m" (memory 1)) (import "" "g" (global $g (mut i32)))
          (import "" "t" (table $t 1 externref))
          (func (export "f") (result i32) (i32.store8 (i32.const 3) (i32.const 5))
            (global.set $g (i32.const 6)) (table.size $t)))""",
        [
            lambda store: w.Memory(store, w.MemoryType(w.Limits(1, None))),
            lambda store: w.Global(store, w.GlobalType(w.ValType.i32(), True), 1),
            lambda store: w.Table(store, w.TableType(w.ValType.externref(), w.Limits(4, None)), None),
        ],
    )
    assert world.call("f") == 4


def test_a_closed_store(w: Any, world: World) -> None:
    memory, function, store = world["memory"], world["peek"], world.store
    store.close()
    for use in (lambda: memory.read(store, 0, 3), lambda: function(store, 1), lambda: store.data()):
        with pytest.raises(ValueError, match="already closed"):
            use()


def test_subclasses(w: Any) -> None:
    """Programs may derive classes of their own."""

    class Shown(w.Memory):  # type: ignore[misc, name-defined]
        def text(self, store: Any, length: int) -> str:
            found: bytes = self.read(store, 0, length)
            return found.decode()

    store = w.Store()
    memory = Shown(store, w.MemoryType(w.Limits(1, None)))
    memory.write(store, b"hello")
    assert memory.text(store, 5) == "hello"
    assert type(w.Linker(store.engine)) is w.Linker
