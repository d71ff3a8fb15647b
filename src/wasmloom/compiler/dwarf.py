"""DWARF that we write ourselves, for code that doesn't come from LLVM: lines, and how to unwind it.

Formats: DWARF 4, sections 6.2 (lines), 6.4 (call frames) and 7.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from wasmloom.target import registers

_DW_TAG_COMPILE_UNIT = 0x11
_DW_AT_NAME, _DW_AT_STMT_LIST, _DW_AT_LOW_PC, _DW_AT_HIGH_PC = 0x03, 0x10, 0x11, 0x12
_DW_FORM_ADDR, _DW_FORM_DATA8, _DW_FORM_STRING, _DW_FORM_SEC_OFFSET = 0x01, 0x07, 0x08, 0x17
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


def lines(file: str, rows: Sequence[tuple[int, int]], start: int, end: int) -> dict[str, bytes]:
    """The sections for code from `start` to `end`, in which the "line" is an offset in the module `file`.

    `rows` are (address, line), sorted: from there on.
    """
    name = file.encode("utf-8", "surrogateescape") + b"\0"
    attributes = (
        (_DW_AT_NAME, _DW_FORM_STRING), (_DW_AT_STMT_LIST, _DW_FORM_SEC_OFFSET), (_DW_AT_LOW_PC, _DW_FORM_ADDR),
        (_DW_AT_HIGH_PC, _DW_FORM_DATA8), (0, 0),
    )  # fmt: skip
    abbreviations = bytes([1, _DW_TAG_COMPILE_UNIT, 0]) + b"".join(map(bytes, attributes)) + b"\0"
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


def handler_frame(start: int, end: int) -> bytes:
    """The section ``.debug_frame`` for handlers, or copies of them: they leave the stack as it is."""
    column, rules = registers.HANDLER_UNWINDING
    common = struct.pack("<IB", 0xFFFFFFFF, 1) + b"\0" + _uleb(1) + _sleb(-8) + bytes([column]) + rules
    common += bytes(-(len(common) + 4) % 8)
    return _sized(common) + _sized(struct.pack("<IQQ", 0, start, end - start) + bytes(4))
