"""Memories, tables and globals as Python objects."""

from __future__ import annotations

import gc
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.conftest import needs_guard_pages

PAGE = 65536


def memory_of(text: str) -> tuple[wl.Memory, Any]:
    exports = wl.Instance(wl.Module(f'(module {text} (export "memory" (memory 0)))')).exports
    return exports.memory, exports


# --- memory ---


def test_buffer_sees_what_the_guest_writes_and_back() -> None:
    memory, exports = memory_of("""(memory 1)
      (func (export "store") (param i32 i64) (i64.store (local.get 0) (local.get 1)))
      (func (export "load") (param i32) (result i64) (i64.load (local.get 0)))""")
    view = memoryview(memory)
    exports.store(8, 0x1122334455667788)
    assert view[8:16] == (0x1122334455667788).to_bytes(8, "little")
    view[100:108] = struct.pack("<q", -5)
    assert exports.load(100) == -5
    assert not view.readonly
    assert len(view) == len(memory) == PAGE
    assert view.format == "B"


@needs_guard_pages
def test_views_survive_growth() -> None:
    memory, exports = memory_of(
        '(memory 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))'
    )
    view = memoryview(memory)
    view[0] = 7
    assert exports.grow(100) == 1
    assert memory.grow(50) == 101
    assert memory.size == 151
    view[1] = 8
    assert memory[0:2] == b"\7\10"
    assert len(view) == PAGE
    fresh = memoryview(memory)
    assert len(fresh) == 151 * PAGE
    fresh[-1] = 1
    assert bytes(fresh[PAGE:-1]) == bytes(150 * PAGE - 1)


def test_views_keep_the_memory_alive() -> None:
    memory, exports = memory_of("(memory 1)")
    memory[5] = 99
    view = memoryview(memory)
    del memory, exports
    gc.collect()
    assert view[5] == 99
    view[6] = 1


def test_read_and_write() -> None:
    memory, _ = memory_of("(memory 1)")
    memory.write(10, b"hello")
    memory.write(PAGE - 2, memoryview(b"xy"))
    memory.write(PAGE, b"")
    memory.write(0, memoryview(struct.pack("<2H", 1, 2)).cast("H"))
    assert memory.read(10, 5) == b"hello"
    assert memory.read(PAGE - 2, 2) == b"xy"
    assert memory.read(PAGE, 0) == b""
    assert memory.read(0, 4) == b"\1\0\2\0"
    assert memory[10:15] == b"hello"
    assert memory[10] == ord("h")
    assert memory[-1] == ord("y")
    memory[10:12] = b"HE"
    memory[-1] = 0
    assert memory[10:15:2] == b"Hlo"
    assert memory[PAGE - 1] == 0


@pytest.mark.parametrize(
    ("offset", "length"), [(PAGE, 1), (PAGE - 1, 2), (-1, 1), (0, -1), (1 << 64, 1), (0, 1 << 64), (1, (1 << 64) - 1)]
)
def test_read_out_of_bounds(offset: int, length: int) -> None:
    memory, _ = memory_of("(memory 1)")
    with pytest.raises(IndexError):
        memory.read(offset, length)


def test_write_out_of_bounds_writes_nothing() -> None:
    memory, _ = memory_of("(memory 1)")
    for offset in (PAGE - 1, PAGE, -1, 1 << 32, 1 << 64):
        with pytest.raises(IndexError):
            memory.write(offset, b"xy")
    assert memory.read(0, PAGE) == bytes(PAGE)


def test_bad_keys() -> None:
    memory, _ = memory_of("(memory 1)")
    for key in (PAGE, -PAGE - 1, slice(0, PAGE + 1), slice(PAGE + 1, None), slice(-PAGE - 1, None)):
        with pytest.raises(IndexError):
            memory[key]
        with pytest.raises(IndexError):
            memory[key] = 0
    with pytest.raises(TypeError):
        memory["x"]
    with pytest.raises(ValueError):
        memory[0:2] = b"123"
    with pytest.raises((ValueError, TypeError)):
        memory[0] = 256
    with pytest.raises(TypeError):
        memory.write(0, "text")


class Shifty:
    """An index that changes its mind."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)

    def __index__(self) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_an_index_is_asked_once() -> None:
    memory, _ = memory_of("(memory 1)")
    assert len(memory.read(Shifty(0, 1 << 40), Shifty(1, 1 << 40))) == 1
    table = wl.Table(wl.Store(), "externref", 2)
    assert table[Shifty(0, 1 << 40)] is None
    table[Shifty(1, 1 << 40)] = "x"
    assert table[1] == "x"


def test_growth_limits() -> None:
    store = wl.Store(memory_limit=10 * PAGE)
    memory = wl.Memory(store, 1, 5)
    with pytest.raises(wl.WasmError, match="its maximum is 5"):
        memory.grow(5)
    for pages in (-1, 1 << 40):
        with pytest.raises(wl.WasmError):
            memory.grow(pages)
    assert memory.grow(4) == 1
    assert memory.grow(0) == 5
    with pytest.raises(wl.WasmError, match="memory limit"):
        wl.Memory(store, 6)
    other = wl.Memory(store, 5)
    with pytest.raises(wl.WasmError):
        other.grow(1)
    assert store.memory_used == 10 * PAGE


def test_guest_growth_respects_the_limit() -> None:
    module = wl.Module("""(module (memory (export "m") 1)
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
      (func (export "size") (result i32) (memory.size)))""")
    exports = wl.Instance(module, store=wl.Store(memory_limit=3 * PAGE)).exports
    assert exports.grow(2) == 1
    assert exports.grow(1) == -1
    assert exports.grow(-1) == -1
    assert exports.size() == exports.m.size == 3


def test_host_memory_shared_by_instances() -> None:
    store = wl.Store()
    memory = wl.Memory(store, wl.MemoryType(wl.Limits(1, 3)))
    module = wl.Module("""(module (import "e" "m" (memory 1))
      (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0)))
      (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
      (func (export "grow") (result i32) (memory.grow (i32.const 1)))
      (func (export "size") (result i32) (memory.size)))""")
    a, b = (wl.Instance(module, {"e": {"m": memory}}, store=store).exports for _ in range(2))
    a.put(3, 77)
    assert b.get(3) == 77 == memory[3]
    with pytest.raises(wl.Trap, match="out of bounds memory access"):
        b.get(PAGE)
    assert a.grow() == 1
    assert b.size() == 2
    assert b.get(PAGE) == 0


def test_memory_types() -> None:
    store = wl.Store()
    assert wl.Memory(store, 2).type == wl.MemoryType(wl.Limits(2, None))
    assert wl.Memory(store, wl.Limits(0, 4)).type.limits == wl.Limits(0, 4)
    for bad in (-1, 65537):
        with pytest.raises(ValueError):
            wl.Memory(store, bad)
    with pytest.raises(ValueError):
        wl.Memory(store, 2, 1)
    with pytest.raises(ValueError):
        wl.Memory(store, wl.MemoryType(wl.Limits(0, 1), shared=True))
    for bad_type in ("1", None, 1.5, True):
        with pytest.raises(TypeError):
            wl.Memory(store, bad_type)
    with pytest.raises(TypeError):
        wl.Memory(None, 1)


def test_empty_memory() -> None:
    memory = wl.Memory(wl.Store(), 0)
    assert len(memoryview(memory)) == 0
    assert memory[:] == b""
    memory.write(0, b"")
    with pytest.raises(IndexError):
        memory[0]


def test_largest_memory() -> None:
    memory = wl.Memory(wl.Store(), 0)
    assert memory.grow(65536) == 0
    assert len(memory) == 1 << 32
    memory[(1 << 32) - 1] = 5
    assert memory[-1] == 5
    with pytest.raises(wl.WasmError):
        memory.grow(1)


def test_objects_without_their_struct_can_not_be_made() -> None:
    for cls in (wl.Memory, wl.Table, wl.Global, wl.Func):
        with pytest.raises(TypeError):
            cls.__new__(cls)
        with pytest.raises(TypeError):
            type("Sub", (cls,), {})


# --- tables ---


def test_table_elements() -> None:
    store = wl.Store()
    f = wl.Func(store, "-> i32", lambda: 1)
    table = wl.Table(store, "funcref", 3, 5, init=f)
    assert [table[i] for i in range(3)] == [f, f, f]
    assert all(table[i] is f for i in range(3))
    table[1] = None
    table.set(2, f)
    assert table.get(1) is None
    assert len(table) == table.size == 3
    assert table.grow(2, f) == 3
    assert table[4] is f
    with pytest.raises(wl.WasmError, match="its maximum is 5"):
        table.grow(1)
    for index in (5, -1, 1 << 64):
        with pytest.raises(IndexError):
            table[index]
        with pytest.raises(IndexError):
            table[index] = None
    with pytest.raises(TypeError):
        table[0] = print
    with pytest.raises(ValueError):
        table[0] = wl.Func(wl.Store(), "->", print)
    assert [table[i] for i in range(5)] == [f, None, f, f, f]
    with pytest.raises(TypeError):
        wl.Table(store, "funcref", 1, init=3)


def test_iterating_a_table_ends() -> None:
    table = wl.Table(wl.Store(), "externref", 3, init="x")
    assert list(table) == ["x"] * 3


def test_externref_table() -> None:
    table = wl.Table(wl.Store(), wl.TableType(wl.EXTERNREF, wl.Limits(2, None)), init=[1])
    assert table[0] == [1]
    assert table[0] is table[1]
    assert table.type == wl.TableType(wl.EXTERNREF, wl.Limits(2, None))


def test_calls_through_a_host_table() -> None:
    store = wl.Store()
    table = wl.Table(store, "funcref", 2)
    module = wl.Module("""(module (import "e" "t" (table 1 funcref)) (type $f (func (result i32)))
      (func (export "call") (param i32) (result i32) (call_indirect (type $f) (local.get 0)))
      (func (export "five") (result i32) (i32.const 5)))""")
    exports = wl.Instance(module, {"e": {"t": table}}, store=store).exports
    table[0] = wl.Func(store, "-> i32", lambda: 4)
    table[1] = exports.five
    assert (exports.call(0), exports.call(1)) == (4, 5)
    table.grow(1, wl.Func(store, "-> i64", lambda: 4))
    with pytest.raises(wl.Trap, match="indirect call type mismatch"):
        exports.call(2)
    with pytest.raises(wl.Trap, match="undefined element"):
        exports.call(3)
    table[0] = None
    with pytest.raises(wl.Trap, match="uninitialized element"):
        exports.call(0)


def test_table_limits() -> None:
    store = wl.Store(memory_limit=8 * 100)
    with pytest.raises(wl.WasmError, match="memory limit"):
        wl.Table(store, "funcref", 101)
    table = wl.Table(store, "funcref", 100)
    with pytest.raises(wl.WasmError):
        table.grow(1)
    with pytest.raises(wl.WasmError):
        wl.Table(wl.Store(), "funcref", 0xFFFFFFFF)
    with pytest.raises(wl.WasmError):
        wl.Table(wl.Store(), "funcref").grow(0xFFFFFFFF)
    for arguments in (("i32", 1), ("funcref", -1), ("funcref", 1 << 32), ("funcref", 2, 1), ("nothing", 1)):
        with pytest.raises(ValueError):
            wl.Table(store, *arguments)


# --- globals ---


@given(st.integers(-(2**63), 2**63 - 1))
def test_global_value(value: int) -> None:
    assert wl.Global(wl.Store(), "i64", value).value == value


def test_globals() -> None:
    store = wl.Store()
    counter = wl.Global(store, "mut i32", 7)
    constant = wl.Global(store, wl.GlobalType(wl.F64, False), 2.5)
    module = wl.Module("""(module (import "e" "n" (global $n (mut i32))) (import "e" "c" (global $c f64))
      (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
      (func (export "c") (result f64) (global.get $c))
      (global (export "own") (mut externref) (ref.null extern)))""")
    exports = wl.Instance(module, {"e": {"n": counter, "c": constant}}, store=store).exports
    assert exports.next() == 8 == counter.value
    counter.value = 100
    assert exports.next() == 101
    assert exports.c() == 2.5
    with pytest.raises(TypeError, match="immutable"):
        constant.value = 1.0
    with pytest.raises(TypeError):
        counter.value = "x"
    assert counter.value == 101
    exports.own.value = [1, 2]
    assert exports.own.value == [1, 2]
    assert counter.type == wl.GlobalType(wl.I32, True)
    for bad in ("mut", "mut x", "i9"):
        with pytest.raises(ValueError):
            wl.Global(store, bad, 0)


def test_texts() -> None:
    store = wl.Store()
    assert repr(wl.Memory(store, 1)) == "<wasmloom.Memory of 1 pages>"
    assert repr(wl.Table(store, "funcref", 2)) == "<wasmloom.Table of 2 funcref>"
    assert repr(wl.Global(store, "mut i32", 3)) == "<wasmloom.Global mut i32: 3>"
    assert "Store" in repr(store)
