"""Memories and tables with addresses of 64 bits, and pages of one byte: bounds are exact, in each tier."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.conftest import needs_guard_pages

PAGE = 65536
TOP = 1 << 64
OUT = "out of bounds memory access"
OUT_OF_TABLE = "out of bounds table access"

TIERS = [
    pytest.param(name, marks=() if settings.get("memory") == "checked" else needs_guard_pages)
    for name, settings in ENGINES.items()
]
pytestmark = pytest.mark.usefixtures("code_at_once")
each_tier = pytest.mark.parametrize("name", TIERS)
#: Those whose code for accesses isn't another one's.
own_accesses = pytest.mark.parametrize("name", [tier for tier in TIERS if tier.values[0] not in ("libcall", "auto")])

OFFSETS = (0, 1, PAGE - 4, PAGE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 36) - 1, 1 << 36, 1 << 63, TOP - 1)
WITH_CONSTANTS = (0, PAGE - 4, 0x80000000, TOP - 1)
#: Instruction → bytes that it accesses, what it takes besides the address, and what it gives.
ACCESSES = {
    "i32.load": (4, "", "i32"),
    "i64.load8_u": (1, "", "i64"),
    "f64.load": (8, "", "f64"),
    "v128.load": (16, "", "v128"),
    "v128.load16_splat": (2, "", "v128"),
    "i32.store16": (2, "(i32.const 0)", ""),
    "i64.store": (8, "(i64.const 0)", ""),
    "f32.store": (4, "(f32.const 0)", ""),
    "v128.store": (16, "(v128.const i64x2 0 0)", ""),
    "v128.load32_lane": (4, "(v128.const i64x2 0 0)", "v128"),
    "v128.store8_lane": (1, "(v128.const i64x2 0 0)", ""),
    "i64.atomic.rmw8.add_u": (1, "(i64.const 0)", "i64"),
    "i32.atomic.store8": (1, "(i32.const 0)", ""),
}


def addresses(offset: int, width: int, length: int) -> set[int]:
    """Where something may go wrong: at both ends of the memory, of what addresses reach, and of what sums fit."""
    ends = (0, length, 1 << 32, 1 << 36, 1 << 63, TOP)
    near = (end - part + step for end in ends for part in (0, offset, offset + width) for step in (-1, 0, 1))
    return {address for address in near if 0 <= address < TOP}


def signed(number: int) -> int:
    return number - TOP if number >> 63 else number


@own_accesses
@pytest.mark.parametrize("access", ACCESSES)
def test_every_sum(access: str, name: str) -> None:
    """As a parameter, as what was just computed, and as a constant; in one memory or another."""
    width, operand, result = ACCESSES[access]
    lane = " 0" if access.endswith("_lane") else ""
    drop = "(drop {})" if result else "{}"

    def function(export: str, offset: int, address: str, params: str = "") -> str:
        memory = "$second" if "second" in export else "$first"
        code = f"({access} {memory} offset={offset}{lane} {address} {operand})"
        return f'(func (export "{export}") {params} {drop.format(code)})\n'

    constants = (0, PAGE - width, PAGE - width + 1, (1 << 36) - 1, TOP - 1)
    text = "(module (memory $first i64 1) (memory $second i64 1) (global $zero (mut i64) (i64.const 0))"
    for offset in OFFSETS:
        text += function(f"{offset}", offset, "(local.get 0)", "(param i64)")
        text += function(f"second {offset}", offset, "(local.get 0)", "(param i64)")
        text += function(f"sum {offset}", offset, "(i64.add (local.get 0) (global.get $zero))", "(param i64)")
        if offset in WITH_CONSTANTS:
            for constant in constants:
                text += function(f"{constant}+{offset}", offset, f"(i64.const {signed(constant)})")
    exports = exports_of(text + ")", engine_of(name))

    def check(export: str, address: int, offset: int, *arguments: int) -> None:
        fits = address + offset + width <= PAGE
        outcome = outcome_of(exports[export], *arguments)
        assert (outcome[0] == "result") is fits, (export, address)
        if not fits:
            assert outcome[1] == OUT

    for offset in OFFSETS:
        for address in addresses(offset, width, PAGE):
            check(f"{offset}", address, offset, signed(address))
            check(f"second {offset}", address, offset, signed(address))
            check(f"sum {offset}", address, offset, signed(address))
        if offset in WITH_CONSTANTS:
            for constant in constants:
                check(f"{constant}+{offset}", constant, offset)


@each_tier
def test_a_trap_is_where_it_is(name: str) -> None:
    """One that code finds itself, and one that the processor does, behind others that fit."""
    text = """(module (memory i64 1)
      (func (export "f") (param i64 i64) (result i64)
        (i64.add (i64.load (local.get 0)) (i64.load offset=8 (local.get 1)))))"""
    engine = engine_of(name)
    module = wl.Module(text, engine)
    exports = wl.Instance(module).exports
    places = set()
    for arguments in ((0, 1 << 36), (0, PAGE), (0, -1), (0, -8), (1 << 36, 0), (PAGE, 0), (-1, 0)):
        code, frames = outcome_of(exports.f, *arguments)[1:]
        assert code == OUT
        places.add((arguments[0] != 0, frames[0].offset))
    assert len(places) == 2
    assert exports.f(0, 0) == 0


@each_tier
def test_beyond_4_gib(name: str) -> None:
    far = 1 << 32
    exports = exports_of(
        """(module (memory (export "m") i64 65536 65540)
          (func (export "load") (param i64) (result i32) (i32.load (local.get 0)))
          (func (export "store") (param i64 i32) (i32.store offset=0x100000000 (local.get 0) (local.get 1)))
          (func (export "size") (result i64) memory.size)
          (func (export "fill") (param i64 i32 i64) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
          (func (export "copy") (param i64 i64 i64) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
          (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))""",
        engine_of(name),
    )
    memory = exports.m
    assert outcome_of(exports.store, 0, 1)[1] == OUT
    assert exports.grow(2) == 65536 and exports.size() == 65538 == memory.size
    assert len(memory) == far + 2 * PAGE
    exports.store(4, 0x01020304)
    assert memory[far + 4] == 4 and memory.read(far + 4, 4) == b"\4\3\2\1" == memory[far + 4 : far + 8]
    assert memory[4] == 0
    memory.write(far + PAGE, b"abcd")
    assert exports.load(far + PAGE) == int.from_bytes(b"abcd", "little")
    exports.fill(far + 2 * PAGE - 4, 7, 4)
    exports.copy(far - 2, far + 4, 4)
    assert memory.read(far - 2, 4) == b"\4\3\2\1" and memory.read(far + 2 * PAGE - 4, 4) == b"\7" * 4
    for arguments in ((far + 2 * PAGE - 3, 0, 4), (far + 2 * PAGE, 0, -1), (-1, 0, 2), (0, 0, -1)):
        assert outcome_of(exports.fill, *arguments)[1] == OUT
        assert outcome_of(exports.copy, *arguments)[1] == OUT
    with memoryview(memory) as view:
        assert len(view) == far + 2 * PAGE and view[far + 4] == 4
    for pages in (3, 1 << 16, 1 << 48, -1):
        assert exports.grow(pages) == -1
    assert exports.grow(2) == 65538
    assert repr(memory.type) == repr(wl.MemoryType(wl.Limits(65540, 65540), is64=True))


@each_tier
def test_growth_under_a_loop(name: str) -> None:
    """The memory may move between two rounds."""
    text = """(module (memory (export "m") i64 1 20)
      (func (export "f") (param $n i64) (result i64) (local $sum i64) (local $p i64)
        (loop $again
          (i64.store (local.get $p) (local.get $n))
          (drop (memory.grow (i64.const 1)))
          (local.set $p (i64.sub (i64.shl (memory.size) (i64.const 16)) (i64.const 8)))
          (i64.store (local.get $p) (i64.add (local.get $n) (i64.load (i64.const 0))))
          (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $p))))
          (br_if $again (i64.ne (i64.const 0) (local.tee $n (i64.sub (local.get $n) (i64.const 1))))))
        (local.get $sum)))"""
    wanted = sum(n + 10 for n in range(1, 11))
    assert exports_of(text, engine_of(name)).f(10) == wanted


@each_tier
@pytest.mark.parametrize("to", ["i32", "i64"])
@pytest.mark.parametrize("origin", ["i32", "i64"])
def test_copies_between_widths(to: str, origin: str, name: str) -> None:
    count = "i64" if (to, origin) == ("i64", "i64") else "i32"
    memory = {"i32": "", "i64": "i64"}
    exports = exports_of(
        f"""(module (memory $a {memory[to]} 1) (memory $b {memory[origin]} 2)
          (table $t {memory[to]} 5 externref) (table $u {memory[origin]} 6 externref)
          (func (export "memory") (param {to} {origin} {count})
            (memory.copy $a $b (local.get 0) (local.get 1) (local.get 2)))
          (func (export "table") (param {to} {origin} {count})
            (table.copy $t $u (local.get 0) (local.get 1) (local.get 2))))""",
        engine_of(name),
    )
    most = {"i32": (1 << 32) - 1, "i64": TOP - 1}
    for export, lengths, trap in (("memory", (PAGE, 2 * PAGE), OUT), ("table", (5, 6), OUT_OF_TABLE)):
        targets, sources = (
            (0, 1, length - 1, length, length + 1, most[type] - length, most[type])
            for length, type in zip(lengths, (to, origin), strict=True)
        )
        for target, source, size in itertools.product(targets, sources, (0, 1, lengths[0], most[count])):
            fits = target + size <= lengths[0] and source + size <= lengths[1]
            arguments = [
                number - (most[type] + 1) if number > most[type] >> 1 else number
                for number, type in zip((target, source, size), (to, origin, count), strict=True)
            ]
            outcome = outcome_of(exports[export], *arguments)
            assert (outcome[0] == "result") is fits, (export, target, source, size)
            assert fits or outcome[1] == trap


@each_tier
def test_tables(name: str) -> None:
    exports = exports_of(
        """(module (type $f (func (result i32)))
          (table $t (export "t") i64 4 8 funcref) (elem (table $t) (i64.const 1) func $one $two) (elem $e func $two)
          (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
          (func (export "call") (param i64) (result i32) (call_indirect $t (type $f) (local.get 0)))
          (func (export "tail") (param i64) (result i32) (return_call_indirect $t (type $f) (local.get 0)))
          (func (export "get") (param i64) (result i32) (ref.is_null (table.get $t (local.get 0))))
          (func (export "set") (param i64) (table.set $t (local.get 0) (ref.func $two)))
          (func (export "size") (result i64) (table.size $t))
          (func (export "grow") (param i64) (result i64) (table.grow $t (ref.func $one) (local.get 0)))
          (func (export "fill") (param i64 i64) (table.fill $t (local.get 0) (ref.func $two) (local.get 1)))
          (func (export "init") (param i64 i32 i32) (table.init $t $e (local.get 0) (local.get 1) (local.get 2))))""",
        engine_of(name),
    )
    assert [exports.call(i) for i in (1, 2)] == [exports.tail(i) for i in (1, 2)] == [1, 2]
    assert [exports.get(i) for i in range(4)] == [1, 0, 0, 1]
    for index in (4, 1 << 32, (1 << 32) + 1, 1 << 61, -1, -(1 << 63)):
        assert outcome_of(exports.call, index)[1] == outcome_of(exports.tail, index)[1] == "undefined element"
        for export in ("get", "set"):
            assert outcome_of(exports[export], index)[1] == OUT_OF_TABLE
    assert outcome_of(exports.call, 0)[1] == "uninitialized element"
    exports.set(3)
    assert exports.call(3) == 2
    for start, count in ((4, 1), (0, 5), (1, -1), (-1, 1), (-1, 2), (1 << 61, 1)):
        assert outcome_of(exports.fill, start, count)[1] == OUT_OF_TABLE
    for arguments in ((4, 0, 1), (-1, 0, 1), (1 << 32, 0, 1), (0, 1, 1), (0, 0, -1)):
        assert outcome_of(exports.init, *arguments)[1] == OUT_OF_TABLE
    exports.init(3, 0, 1)
    exports.fill(4, 0)
    for more in (5, -1, 1 << 32, 1 << 61):
        assert exports.grow(more) == -1
    assert exports.grow(2) == 4 and exports.size() == 6 == len(exports.t) and exports.call(5) == 1
    assert exports.t.type == wl.TableType(wl.FUNCREF, wl.Limits(6, 8), True)


@each_tier
@pytest.mark.parametrize("place", [PAGE - 2, PAGE - 3, PAGE, 1 << 32, 1 << 36, TOP - 1, TOP - 3])
def test_segments(place: int, name: str) -> None:
    def instance(what: str) -> Any:
        return exports_of(f"(module {what})", engine_of(name))

    data = f'(memory (export "m") i64 1) (data (i64.const {signed(place)}) "abc")'
    elements = f'(table i64 {PAGE} funcref) (elem (i64.const {signed(place)}) $f $f $f) (func $f)'
    if place + 3 <= PAGE:
        assert instance(data).m.read(place, 3) == b"abc"
        instance(elements)
        return
    with pytest.raises(wl.Trap, match=OUT):
        instance(data)
    with pytest.raises(wl.Trap, match=OUT_OF_TABLE):
        instance(elements)


@each_tier
def test_limits(name: str) -> None:
    text = """(module (memory (export "m") i64 {})
      (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"""
    engine = engine_of(name)
    store = wl.Store(engine, memory_limit=10 * PAGE)
    exports = wl.Instance(wl.Module(text.format(1), engine), store=store).exports
    assert [exports.grow(n) for n in (10, 1 << 47, -1, 9, 1)] == [-1, -1, -1, 1, -1]
    store = wl.Store(engine)
    store.set_limits(memory_size=5 << 30)
    exports = wl.Instance(wl.Module(text.format(1), engine), store=store).exports
    assert [exports.grow(n) for n in (5 << 14, (5 << 14) - 1, 1)] == [-1, 1, -1]
    with pytest.raises(wl.WasmError, match="can't grow by"):
        exports.m.grow(1)
    with pytest.raises(wl.WasmError, match="can't grow by"):
        exports.m.grow(1 << 70)
    with pytest.raises(wl.WasmError, match=f"exceeds the store's limit of {5 << 14} for each"):
        wl.Instance(wl.Module(text.format((5 << 14) + 1), engine), store=store)
    # No memory here has more than 64 GiB, whatever its type says.
    with pytest.raises(wl.WasmError, match=f"a memory of {1 << 48} pages exceeds the limit of {1 << 20}"):
        exports_of(text.format(1 << 48), engine)


@each_tier
def test_pages_of_a_byte(name: str) -> None:
    text = """(module (memory (export "m") {type} 3 {most} (pagesize 1)) (memory $usual 1)
      (data (memory 0) ({address}.const 1) "ab")
      (func (export "size") (result {address}) memory.size)
      (func (export "grow") (param {address}) (result {address}) (memory.grow (local.get 0)))
      (func (export "load") (param {address}) (result i32) (i32.load16_u (local.get 0)))
      (func (export "far") (param {address}) (result i32) (i32.load16_u offset=0xffffffff (local.get 0)))
      (func (export "store") (param {address}) (i64.store (local.get 0) (i64.const -1)))
      (func (export "fill") (param {address} {address})
        (memory.fill (local.get 0) (i32.const 9) (local.get 1)))
      (func (export "usual") (result i32) (i32.store $usual (i32.const 65532) (i32.const 5)) (memory.size $usual)))"""
    for is64 in (False, True):
        address = "i64" if is64 else "i32"
        exports = exports_of(text.format(type="i64" if is64 else "", most=70_000, address=address), engine_of(name))
        memory = exports.m
        assert memory.type == wl.MemoryType(wl.Limits(3, 70_000), is64, False, 0)
        assert (exports.size(), memory.size, len(memory), exports.load(1)) == (3, 3, 3, 0x6261)
        for at in (2, 3, 4096, -1, -2):
            assert outcome_of(exports.load, at)[1] == OUT
            assert outcome_of(exports.far, at)[1] == OUT
        assert outcome_of(exports.store, 0)[1] == OUT
        assert memory[:] == b"\0ab"
        assert exports.grow(5) == 3 and exports.grow(0) == 8
        exports.store(0)
        assert memory[:] == b"\xff" * 8
        exports.fill(1, 7)
        assert memory[:] == b"\xff" + b"\x09" * 7
        assert outcome_of(exports.fill, 1, 8)[1] == OUT
        assert exports.grow(-1) == -1 == exports.grow(70_000)
        assert exports.grow(PAGE) == 8 and exports.size() == PAGE + 8
        with memoryview(memory), pytest.raises(BufferError):
            memory.grow(1)
        assert memory.grow(1) == PAGE + 8
        assert exports.usual() == 1


@each_tier
def test_types(name: str) -> None:
    """An import must have the address type and page size; Python makes memories and tables of each."""
    engine = engine_of(name)
    store = wl.Store(engine)
    wide = wl.MemoryType(wl.Limits(1, 5), is64=True)
    bytewise = wl.MemoryType(wl.Limits(1, 5), page_size_log2=0)
    both = wl.MemoryType(wl.Limits(1, 5), True, False, 0)
    memories = {"": wl.Memory(store, 1, 5), "i64": wl.Memory(store, wide), "one": wl.Memory(store, bytewise)}
    memories["both"] = wl.Memory(store, both)
    kinds = {"": "1", "i64": "i64 1", "one": "1 (pagesize 1)", "both": "i64 1 (pagesize 1)"}
    assert [m.type for m in memories.values()] == [wl.MemoryType(wl.Limits(1, 5)), wide, bytewise, both]
    for wanted, text in kinds.items():
        module = wl.Module(f'(module (import "e" "m" (memory {text})) (export "m" (memory 0)))', engine)
        for given, memory in memories.items():
            if given == wanted:
                assert wl.Instance(module, {"e": {"m": memory}}, store=store).exports.m is memory
            else:
                with pytest.raises(wl.LinkError, match="incompatible import type"):
                    wl.Instance(module, {"e": {"m": memory}}, store=store)
    with pytest.raises(wl.LinkError, match="expected memory i64 of 1 pages of 1 byte, found memory of 1 to 5 pages"):
        wl.Instance(module, {"e": {"m": memories[""]}}, store=store)
    tables = {is64: wl.Table(store, wl.TableType(wl.EXTERNREF, wl.Limits(1, None), is64)) for is64 in (False, True)}
    for is64, table in tables.items():
        assert table.type.is64 is is64
        module = wl.Module(f'(module (import "e" "t" (table {"i64" if is64 else ""} 1 externref)))', engine)
        wl.Instance(module, {"e": {"t": table}}, store=store)
        with pytest.raises(wl.LinkError, match="incompatible import type"):
            wl.Instance(module, {"e": {"t": tables[not is64]}}, store=store)
    with pytest.raises(ValueError, match="pages have 1 byte or 64 KiB"):
        wl.Memory(store, wl.MemoryType(wl.Limits(1, 1), page_size_log2=12))
    with pytest.raises(ValueError, match="not within 0 to 65536"):
        wl.Memory(store, 65537)
    with pytest.raises(wl.WasmError, match="exceeds the limit"):
        wl.Memory(store, wl.MemoryType(wl.Limits(1 << 48, None), is64=True))
