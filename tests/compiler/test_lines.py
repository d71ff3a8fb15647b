"""Line tables: from addresses to offsets in the module."""

from __future__ import annotations

import ctypes
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.building import address_of, assemble, call, emit, with_lines
from wasmloom.compiler.lines import END as MARK_END
from wasmloom.compiler.lines import MARK, LineTable
from wasmloom.compiler.objects import LoadedCode, ObjectError, load

LOG_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_int64)
LOG = LOG_TYPE(lambda number: None)


def offsets_of(loaded: LoadedCode, symbol: str) -> list[int | None]:
    """The offsets of a function's bytes in turn, without repetitions."""
    start = loaded.symbols[symbol]
    found: list[int | None] = []
    for address in range(start, start + loaded.sizes[symbol]):
        offset = loaded.offset_at(address)
        if not found or found[-1] != offset:
            found.append(offset)
    return found


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("lines", [[10, 20, 30], [70000, 3, 4000000000, 5], list(range(1000, 9000, 37))])
def test_offsets_are_lines(version: int, lines: list[int]) -> None:
    loaded = load([with_lines(lines, version)], {"log": address_of(LOG)})
    found = offsets_of(loaded, "f")
    # The function itself is at line 1.
    assert found[0] == 1
    assert [line for line in found if line != 1] == lines
    call(loaded, "f")


@settings(max_examples=40)
@given(st.lists(st.integers(1, 0xFFFFFFFF), min_size=1, max_size=30))
def test_any_lines(lines: list[int]) -> None:
    lines = [line for i, line in enumerate(lines) if i == 0 or lines[i - 1] != line]
    loaded = load([with_lines(lines)], {"log": 0})
    found = offsets_of(loaded, "f")
    assert [line for line in found if line != 1] == [line for line in lines if line != 1]


def test_return_addresses() -> None:
    """The byte before a return address belongs to the call."""
    seen: list[int] = []
    log = LOG_TYPE(seen.append)
    loaded = load([with_lines([11, 22, 33])], {"log": address_of(log)})
    call(loaded, "f")
    assert seen == [0, 1, 2]
    rows = list(loaded.line_table(0).rows(loaded.symbols["f"], loaded.symbols["f"] + loaded.sizes["f"]))
    assert [offset for _, offset in rows] == [1, 11, 22, 33]
    assert [loaded.offset_at(address) for address, _ in rows[1:]] == [11, 22, 33]
    assert [loaded.offset_at(address - 1) for address, _ in rows[1:]] == [1, 11, 22]


def test_several_objects() -> None:
    objects = [with_lines([100 * i, 100 * i + 5], name=f"f{i}") for i in range(1, 5)]
    loaded = load(objects, {"log": 0})
    for i in (3, 1, 4, 2):
        assert offsets_of(loaded, f"f{i}")[1:] == [100 * i, 100 * i + 5]
    assert loaded.offset_at(loaded.base + loaded.size) is None


def test_code_without_lines() -> None:
    loaded = load([emit("define void @g() { ret void }"), with_lines([5])], {"log": 0})
    assert offsets_of(loaded, "g") == [None]
    assert offsets_of(loaded, "f") == [1, 5]


def test_line_zero_is_no_place() -> None:
    loaded = load([with_lines([10, 0, 30])], {"log": 0})
    assert offsets_of(loaded, "f") == [1, 10, None, 30]


def test_line_zero_goes_on_with_what_is_before() -> None:
    table = LineTable.parse(unit(at(0x100) + b"\x03\x09\x01\x02\x05\x03\x76\x01\x02\x05\x03\x1e\x01\x02\x05" + END))
    assert [table.offset_at(address) for address in (0x100, 0x105, 0x109, 0x10A)] == [10, None, None, 30]
    assert [table.offset_at(address, 0x100) for address in (0x100, 0x105, 0x109, 0x10A)] == [10, 10, 10, 30]
    assert table.offset_at(0x109, 0x105) is None


def row(column: int, line: int, size: int) -> bytes:
    """A row whose line is so much more than that before, and whose code has `size` bytes."""
    return bytes([5, column, 3, line & 0x7F, 1, 2, size])


def test_faults_are_at_marks() -> None:
    """Marks between rows of calls, at the same addresses, too; a place without a line; and a block that goes on
    elsewhere, so that what is before its mark belongs to the mark before that in the module."""
    program = row(0, 0, 4) + row(MARK, 9, 0) + row(0, 20, 4) + row(0, -30, 4) + row(MARK, 40, 0) + row(MARK, -28, 4)
    program += row(MARK_END, 0, 4) + row(0, 40, 4) + row(MARK, -22, 4) + row(MARK_END, 10, 4)
    program += row(0, -40, 4) + row(MARK_END, 19, 4)
    table = LineTable.parse(unit(at(0x100) + program + row(0, 1, 4) + END))
    addresses = range(0x100, 0x12C, 4)
    calls = [table.offset_at(address, 0x100) for address in addresses]
    assert calls == [1, 30, 30, 30, 30, 52, 52, 52, 52, 52, 20]
    faults = [table.access_at(address, 0x100, 0x12C) for address in addresses]
    assert faults == [None, 10, 30, 12, 12, 12, 30, 19, 19, None, None]
    assert list(table.rows(0x100, 0x118)) == [(0x100, 1), (0x104, 30), (0x10C, 12), (0x114, 52)]


def test_several_sections_of_code() -> None:
    text = """
    .file 1 "module.wasm"
    .text
    .globl a
a:  .loc 1 11 0
    nop
    .loc 1 22 0
    ret
    .section .text.cold,"ax"
    .globl b
b:  .loc 1 33 0
    nop
    .loc 1 1000000 0
    ret
"""
    loaded = load([assemble(text)], {})
    a, b = loaded.symbols["a"], loaded.symbols["b"]
    assert [loaded.offset_at(address) for address in (a, a + 1, b, b + 1)] == [11, 22, 33, 1000000]


def unit(program: bytes, version: int = 5, wide: bool = False) -> bytes:
    """A unit with the parameters that LLVM uses, without files."""
    lengths = bytes([0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
    parameters = bytes([1, 1, 1, 0xFB, 14, 13]) + lengths + (b"\0\0\0\0" if version == 5 else b"\0\0")
    count = struct.Struct("<Q" if wide else "<I")
    body = struct.pack("<H", version) + (b"\x08\0" if version == 5 else b"") + count.pack(len(parameters))
    body += parameters + program
    return (b"\xff\xff\xff\xff" if wide else b"") + count.pack(len(body)) + body


def at(address: int) -> bytes:
    return b"\0\x09\x02" + struct.pack("<Q", address)


END = b"\0\x01\x01"

#: A call that another function stands in the place of; it is what the column below means.
SITE = struct.pack("<III", 0, 50, 3)

#: All opcodes: columns, files, flags, an unknown extended one, both ways to advance by constants.
EVERYTHING = (
    at(0x1000) + b"\x05\x04\x04\x01\x06\x07\x0a\x0b\x0c\x81\x01" + b"\0\x03\x80ab" + b"\x01"
    b"\x03\xe4\0\x01"  # line + 100, same address: replaces the row
    b"\x02\x90\x01\x01"  # address + 144
    b"\x03\x9c\x7f\x02\x02\x01"  # line - 100, address + 2
    b"\x08\x09\x34\x12\x03\x05\x01"  # address + 17 and + 0x1234, line + 5
    b"\x4b"  # special: address + 4, line + 1
    b"\x02\x03" + END
)  # fmt: skip


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("version", [4, 5])
def test_every_opcode(version: int, wide: bool) -> None:
    table = LineTable.parse(unit(EVERYTHING, version, wide), SITE)
    last = 0x1000 + 144 + 2 + 17 + 0x1234
    assert list(table.rows(0, 1 << 64)) == [(0x1000, 101), (0x1092, 1), (last, 6), (last + 4, 7)]
    assert table.offset_at(0xFFF) is None
    assert table.offset_at(0x1000) == table.offset_at(0x1091) == 101
    assert table.offset_at(last + 6) == 7
    assert table.offset_at(last + 7) is None
    assert len(table) == 5


def test_units_and_sequences_in_any_order() -> None:
    one = unit(at(0x500) + b"\x01\x02\x05" + END + at(0x100) + b"\x03\x09\x01\x02\x05" + END)
    table = LineTable.parse(one + unit(at(0x300) + b"\x03\x01\x01\x02\x05" + END))
    assert list(table.rows(0, 0x1000)) == [(0x100, 10), (0x300, 2), (0x500, 1)]
    assert table.offset_at(0x105) is None and table.offset_at(0x304) == 2


def test_no_table() -> None:
    assert LineTable.parse(b"").offset_at(5) is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (unit(EVERYTHING)[:-1], "ends too early"),
        (unit(EVERYTHING)[:9], "ends too early"),
        (unit(b"\x03\x80"), "ends too early"),
        (unit(b"\0\x20\x02"), "ends too early"),
        (unit(b"\0\x05\x02\0\0\0\0"), "address of 4 bytes"),
        (unit(EVERYTHING, 3), "version 3"),
        (unit(at(5) + b"\x01" + at(3) + b"\x03\x01\x01" + END), "addresses decrease"),
        (unit((at(5) + b"\x01\x02\x10" + END) * 2), "sequences overlap"),
        (unit(EVERYTHING).replace(bytes([0xFB, 14, 13]), bytes([0xFB, 0, 13])), "not one for x86-64"),
    ],
)
def test_damaged_tables(section: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        LineTable.parse(section)


#: What is damaged.
WHOLE = unit(EVERYTHING) + unit(EVERYTHING.replace(at(0x1000), at(0x100000)), 4)


def test_what_is_damaged_is_a_table() -> None:
    assert LineTable.parse(WHOLE, SITE).offset_at(0x1092) is not None


@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    section = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 5))):
        section[data.draw(st.integers(0, len(section) - 1))] = data.draw(st.integers(0, 255))
    del section[data.draw(st.integers(0, len(section))) :]
    try:
        LineTable.parse(bytes(section), SITE).offset_at(0x1092)
    except ObjectError as error:
        assert str(error)
