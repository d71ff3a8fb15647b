"""DWARF that we write ourselves, for debuggers: of code that doesn't come from LLVM lines, and how to unwind it; of
compiled code the functions that stand in the place of calls, which LLVM doesn't know.

Formats: DWARF 4, sections 6.2 (lines), 6.4 (call frames) and 7; DWARF 5, sections 2.17.3 (ranges), 3.3.8 (inlined
subroutines) and 7.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from wasmloom.target import registers

_DW_TAG_COMPILE_UNIT, _DW_TAG_INLINED_SUBROUTINE, _DW_TAG_SUBPROGRAM = 0x11, 0x1D, 0x2E
_DW_AT_NAME, _DW_AT_STMT_LIST, _DW_AT_LOW_PC, _DW_AT_HIGH_PC = 0x03, 0x10, 0x11, 0x12
_DW_AT_INLINE, _DW_AT_ABSTRACT_ORIGIN, _DW_AT_RANGES, _DW_AT_CALL_FILE, _DW_AT_CALL_LINE = 0x20, 0x31, 0x55, 0x58, 0x59
_DW_FORM_ADDR, _DW_FORM_DATA4, _DW_FORM_DATA8, _DW_FORM_STRING, _DW_FORM_DATA1 = 0x01, 0x06, 0x07, 0x08, 0x0B
_DW_FORM_REF4, _DW_FORM_SEC_OFFSET = 0x13, 0x17
_DW_UT_COMPILE, _DW_INL_INLINED, _DW_RLE_END_OF_LIST, _DW_RLE_START_END = 0x01, 0x01, 0x00, 0x06
_DW_LNS_COPY, _DW_LNS_ADVANCE_PC, _DW_LNS_ADVANCE_LINE = 1, 2, 3
_DW_LNE_END_SEQUENCE, _DW_LNE_SET_ADDRESS = 1, 2


def _uleb(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _sleb(value: int) -> bytes:
    found = bytearray()
    while not -0x40 <= value < 0x40:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value & 0x7F])


def _sized(content: bytes) -> bytes:
    """What begins with its length."""
    return struct.pack("<I", len(content)) + content


def _text(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").replace(b"\0", b"?") + b"\0"


def _abbreviation(number: int, tag: int, children: bool, *attributes: tuple[int, int]) -> bytes:
    """The entry of an abbreviations table."""
    pairs = b"".join(_uleb(attribute) + _uleb(form) for attribute, form in attributes)
    return bytes([number, tag, children]) + pairs + bytes(2)


_UNIT = (
    (_DW_AT_NAME, _DW_FORM_STRING),
    (_DW_AT_STMT_LIST, _DW_FORM_SEC_OFFSET),
    (_DW_AT_LOW_PC, _DW_FORM_ADDR),
    (_DW_AT_HIGH_PC, _DW_FORM_DATA8),
)


def lines(file: str, rows: Sequence[tuple[int, int]], start: int, end: int) -> dict[str, bytes]:
    """The sections for code from `start` to `end`, in which the "line" is an offset in the module `file`.

    `rows` are (address, line), sorted: from there on.
    """
    name = _text(file)
    abbreviations = _abbreviation(1, _DW_TAG_COMPILE_UNIT, False, *_UNIT) + b"\0"
    unit = b"\1" + name + struct.pack("<IQQ", 0, start, end - start)
    program = bytearray(b"\0" + _uleb(9) + bytes([_DW_LNE_SET_ADDRESS]) + struct.pack("<Q", start))
    address, line = start, 1
    for place, number in rows:
        program += bytes([_DW_LNS_ADVANCE_PC]) + _uleb(place - address)
        program += bytes([_DW_LNS_ADVANCE_LINE]) + _sleb(number - line) + bytes([_DW_LNS_COPY])
        address, line = place, number
    program += bytes([_DW_LNS_ADVANCE_PC]) + _uleb(end - address) + b"\0" + _uleb(1) + bytes([_DW_LNE_END_SEQUENCE])
    # Instructions of 1 byte, one operation each, rows are statements; special opcodes, which aren't used, from 10 on.
    header = struct.pack("<BBBbBB", 1, 1, 1, 0, 1, 10) + bytes([0, 1, 1, 1, 1, 0, 0, 0, 1])
    header += b"\0" + name + bytes(3) + b"\0"  # no directories; one file, of no directory, time or size
    return {
        ".debug_abbrev": abbreviations,
        ".debug_info": _sized(struct.pack("<HIB", 4, 0, 8) + unit),
        ".debug_line": _sized(struct.pack("<H", 4) + _sized(header) + bytes(program)),
    }


class Inlined(NamedTuple):
    """A function that stands in the place of a call."""

    name: str
    #: The "line" of the call.
    call: int
    #: Where its code is: start and end of each piece, what is inside it included.
    ranges: list[tuple[int, int]]
    #: What stands in the place of its calls.
    inside: list[Inlined]


class Compiled(NamedTuple):
    """A function, `size` bytes at `address`, with those that stand in it."""

    name: str
    address: int
    size: int
    inside: list[Inlined]


def inlined(file: str, functions: Sequence[Compiled], start: int, end: int) -> dict[str, bytes]:
    """The sections that say what stands in the place of calls in code from `start` to `end`; ``.debug_line``, of
    version 5, has its lines from its beginning, and `file` as its first file."""
    abbreviations = b"".join(
        (
            _abbreviation(1, _DW_TAG_COMPILE_UNIT, True, *_UNIT),
            _abbreviation(
                2, _DW_TAG_SUBPROGRAM, False, (_DW_AT_NAME, _DW_FORM_STRING), (_DW_AT_INLINE, _DW_FORM_DATA1)
            ),
            _abbreviation(
                3, _DW_TAG_SUBPROGRAM, True,
                (_DW_AT_NAME, _DW_FORM_STRING), (_DW_AT_LOW_PC, _DW_FORM_ADDR), (_DW_AT_HIGH_PC, _DW_FORM_DATA8),
            ),
            _abbreviation(
                4, _DW_TAG_INLINED_SUBROUTINE, True,
                (_DW_AT_ABSTRACT_ORIGIN, _DW_FORM_REF4), (_DW_AT_RANGES, _DW_FORM_SEC_OFFSET),
                (_DW_AT_CALL_FILE, _DW_FORM_DATA1), (_DW_AT_CALL_LINE, _DW_FORM_DATA4),
            ),
            b"\0",
        )
    )  # fmt: skip
    head = struct.pack("<HBBI", 5, _DW_UT_COMPILE, 8, 0)
    unit = bytearray(head + b"\1" + _text(file) + struct.pack("<IQQ", 0, start, end - start))
    origins: dict[str, int] = {}
    ranges = bytearray(struct.pack("<HBBI", 5, 8, 0, 0))
    length = 4  # references and offsets count the length in front

    def declare(one: Inlined) -> None:
        if one.name not in origins:
            origins[one.name] = length + len(unit)
            unit.extend(b"\2" + _text(one.name) + bytes([_DW_INL_INLINED]))
        for each in one.inside:
            declare(each)

    def write(one: Inlined) -> None:
        unit.extend(b"\4" + struct.pack("<IIBI", origins[one.name], length + len(ranges), 0, one.call))
        for piece in one.ranges:
            ranges.extend(struct.pack("<BQQ", _DW_RLE_START_END, *piece))
        ranges.append(_DW_RLE_END_OF_LIST)
        for each in one.inside:
            write(each)
        unit.append(0)

    for function in functions:
        for one in function.inside:
            declare(one)
    for function in functions:
        unit.extend(b"\3" + _text(function.name) + struct.pack("<QQ", function.address, function.size))
        for one in function.inside:
            write(one)
        unit.append(0)
    unit.append(0)
    return {
        ".debug_abbrev": abbreviations,
        ".debug_info": _sized(bytes(unit)),
        ".debug_rnglists": _sized(bytes(ranges)),
    }


def handler_frame(start: int, end: int) -> bytes:
    """The section ``.debug_frame`` for handlers, or copies of them: they leave the stack as it is."""
    column, rules = registers.HANDLER_UNWINDING
    common = struct.pack("<IB", 0xFFFFFFFF, 1) + b"\0" + _uleb(1) + _sleb(-8) + bytes([column]) + rules
    common += bytes(-(len(common) + 4) % 8)
    return _sized(common) + _sized(struct.pack("<IQQ", 0, start, end - start) + bytes(4))
