"""Debug information that is damaged, or made to take time and memory: a note says so, and nothing else happens."""

from __future__ import annotations

import struct
import tracemalloc
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.debuginfo import dwarf
from wasmloom.binary.decoder import decode_module
from wasmloom.debuginfo.cursor import Cursor
from wasmloom.debuginfo.source import DebugInfo, debug_info

#: A module with one function that traps, and the addresses of its code: it lies from 2 to 5.
BARE = bytes.fromhex("0061736d01000000010401600000030201000707010372756e00000a05010300000b")
START, END = 2, 5
ROOT = dwarf.abbreviation(1, 0x11, True, (0x10, 0x17), (0x11, 0x01), (0x12, 0x06))
UNIT = b"\1" + bytes(4) + struct.pack("<II", START, END - START)
LINES = dwarf.line_program(dwarf.set_address(START) + bytes([3, 6, 1, 2, 3]) + dwarf.END)
#: A function that is the unit's, and one that is inlined in it.
FUNCTION = dwarf.abbreviation(2, 0x2E, True, (0x11, 0x01), (0x12, 0x06), (0x03, 0x08))
INLINED = dwarf.abbreviation(3, 0x1D, False, (0x11, 0x01), (0x12, 0x06), (0x31, 0x13), (0x59, 0x0B), (0x58, 0x0B))
WHERE = struct.pack("<II", START, END - START)


def read(sections: dict[str, bytes]) -> tuple[tuple[wl.SourceFrame, ...], DebugInfo]:
    """What the function's instruction is said to come from."""
    module = decode_module(dwarf.with_sections(BARE, sections))
    info = debug_info(module)
    return info.at(module.body_starts[0] + 1), info


def sections(
    entries: bytes = b"", table: bytes = ROOT + b"\0", lines: bytes = LINES, **others: bytes
) -> dict[str, bytes]:
    found = {".debug_abbrev": table, ".debug_info": dwarf.unit(UNIT + entries + b"\0"), ".debug_line": lines}
    return found | {f".{name}": contents for name, contents in others.items()}


def test_what_is_whole_is_read() -> None:
    places, info = read(sections())
    assert places == (wl.SourceFrame(None, "a.c", 7, 0),) and info.problem is None
    function = b"\2" + WHERE + b"f\0"
    inlined = b"\3" + WHERE + struct.pack("<I", 11 + len(UNIT)) + bytes([9, 1])
    places, info = read(sections(function + inlined + b"\0", ROOT + FUNCTION + INLINED + b"\0"))
    assert places == (wl.SourceFrame("f", "a.c", 7, 0), wl.SourceFrame("f", "a.c", 9, 0)) and info.problem is None


def test_offsets_of_64_bits() -> None:
    def large(contents: bytes) -> bytes:
        return b"\xff" * 4 + struct.pack("<Q", len(contents)) + contents

    names = b"\0a.c\0\0\0\0\0"
    head = bytes([1, 1, 1, 0, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]) + names
    program = dwarf.set_address(START) + bytes([3, 6, 1, 2, 3]) + dwarf.END
    lines = large(struct.pack("<HQ", 4, len(head)) + head + program)
    info = large(struct.pack("<HQB", 4, 0, 4) + b"\1" + bytes(8) + struct.pack("<II", START, END - START) + b"\0")
    places, found = read(sections(lines=lines) | {".debug_info": info})
    assert places == (wl.SourceFrame(None, "a.c", 7, 0),) and found.problem is None


MANY = 0xFF_FFFF_FFFF
#: Name → sections, and what is said of them.
BOMBS: dict[str, tuple[dict[str, bytes], str]] = {
    "directories that have nothing": (
        sections(lines=dwarf.line_program(b"", 5, b"\0" + dwarf.uleb(MANY) + b"\0\0")), "names without contents"
    ),
    "very many files": (
        sections(lines=dwarf.line_program(b"", 5, b"\0\0\1\1\x08" + dwarf.uleb(MANY))), "it ends too early"
    ),
    "a huge unit": (sections() | {".debug_info": struct.pack("<I", 0xFFFFFFEF) + bytes(40)}, "it ends too early"),
    "a huge unit of 64 bits": (
        sections() | {".debug_info": b"\xff" * 12 + bytes(40)}, "it ends too early"
    ),
    "an unknown length": (sections() | {".debug_info": b"\xf3\xff\xff\xff" + bytes(40)}, "unknown kind of length"),
    "a long number": (
        sections(lines=dwarf.line_program(b"\2" + b"\x80" * 1_000_000 + b"\1")), "a number that is too long"
    ),
    "a string without end": (
        sections(b"\2" + WHERE + b"f" * 1_000_000, ROOT + FUNCTION + b"\0"), "a string without end"
    ),
    "a name that is its own": (
        sections(
            b"\3" + WHERE + struct.pack("<I", 11 + len(UNIT)) + bytes([9, 1]),
            ROOT + INLINED + b"\0",
        ),
        "",
    ),
    "a name elsewhere": (
        sections(b"\3" + WHERE + struct.pack("<I", 0xFFFFFF00) + bytes([9, 1]), ROOT + INLINED + b"\0"),
        "no entry at offset",
    ),
    "deep nesting": (sections((b"\2" + WHERE + b"f\0") * 200_000, ROOT + FUNCTION + b"\0"), ""),
    "forms of forms": (
        sections(b"\4" + b"\x16" * 100, ROOT + dwarf.abbreviation(4, 0x34, False, (0x03, 0x16)) + b"\0"),
        "forms that lead to forms",
    ),
    "attributes without bytes": (
        sections(b"\4" * 1000, ROOT + dwarf.abbreviation(4, 0x34, False, *[(0x3F, 0x19)] * 100_000) + b"\0"),
        "an unknown attribute, or too many",
    ),
    "an unknown entry": (sections(b"\7"), "an entry of an unknown kind 7"),
    "a table of versions": (sections(lines=LINES[:4] + b"\x09\0" + LINES[6:]), "a line table of version 9"),
    "a division by zero": (sections(lines=dwarf.line_program(b"\x20", line_range=0)), "without opcodes"),
    "a table that isn't there": (sections() | {".debug_line": b""}, "it ends too early"),
    "shared ranges": (
        sections(
            (b"\4" + bytes(4)) * 10_000,
            ROOT + dwarf.abbreviation(4, 0x2E, False, (0x55, 0x17)) + b"\0",
            debug_ranges=struct.pack("<II", 2, 3) * 10_000 + bytes(8),
        ),
        ".debug_ranges: the same is used too often",
    ),
    "a list without end": (
        sections(b"\4" + bytes(4), ROOT + dwarf.abbreviation(4, 0x2E, False, (0x55, 0x17)) + b"\0",
                 debug_ranges=struct.pack("<II", 2, 3) * 10),
        "it ends too early",
    ),
    "shared tables": (
        sections()
        | {
            ".debug_info": b"".join(dwarf.unit(UNIT, abbreviations=i) for i in range(3000)),
            ".debug_abbrev": b"".join(dwarf.abbreviation(1, 0x11, True, (0x10, 0x17)) for i in range(3000)) + b"\0",
        },
        "",
    ),
    "a long name of many files": (
        sections(
            lines=dwarf.line_program(b"", 5, b"\0\0\1\1\x1f" + dwarf.uleb(50_000) + bytes(200_000)),
            debug_line_str=b"f" * 60_000 + b"\0",
        ),
        "the names of files are too long",
    ),
    "a long folder of many files": (
        sections(lines=dwarf.line_program(b"", 4, b"f" * 60_000 + b"\0\0" + b"g\0\1\0\0" * 50_000 + b"\0")),
        "the names of files are too long",
    ),
    "a long name of many functions": (
        sections(
            (b"\4" + WHERE + bytes(4)) * 1000,
            ROOT + dwarf.abbreviation(4, 0x1D, True, (0x11, 0x01), (0x12, 0x06), (0x03, 0x0E)) + b"\0",
            debug_str=b"f" * 60_000 + b"\0",
        ),
        "",
    ),
    "another file": (
        sections() | {
            ".debug_abbrev": dwarf.abbreviation(1, 0x4A, False, (0x76, 0x08)) + b"\0",
            ".debug_info": dwarf.unit(b"\1a\x1b[2J.dwo\0"),
        },
        "it is in another file, 'a\\x1b[2J.dwo'",
    ),
    "nothing of the code": (sections() | {".debug_info": dwarf.unit(b"\1" + bytes(12))}, "nothing of the code"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    given, said = BOMBS[name]
    size = sum(map(len, given.values()))
    tracemalloc.start()
    try:
        places, info = read(given)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert said in (info.problem or "")
    assert len(places) <= 256 and most < 400 * size + 1_000_000
    assert info.at(0) == () and info.at(1 << 40) == ()


@lru_cache
def _compiled(version: str) -> bytes:
    with TemporaryDirectory() as folder:
        return dwarf.compiled(Path(folder), "-g", f"-gdwarf-{version}")


@given(st.data(), st.sampled_from(["4", "5"]))
def test_damage(data: st.DataObject, version: str) -> None:
    """Bytes changed or left out anywhere in the sections."""
    given = dwarf.customs(_compiled(version))
    changed = {name: bytearray(contents) for name, contents in given.items() if name.startswith(".debug")}
    for _ in range(data.draw(st.integers(1, 8))):
        section = changed[data.draw(st.sampled_from(sorted(changed)))]
        if not section:
            continue
        at = data.draw(st.integers(0, len(section) - 1))
        if data.draw(st.integers(0, 9)) == 0:
            del section[at:]
        else:
            some = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
            width = data.draw(st.sampled_from([1, 1, 1, 4, 8]))
            section[at : at + width] = bytes([some]) * len(section[at : at + width])
    whole = decode_module(_compiled(version))
    cursors = {name: Cursor(bytes(contents), 0, len(contents), name) for name, contents in changed.items()}
    true = debug_info(whole)
    info = DebugInfo(whole.data, cursors, (true._start, whole.body_starts[0] - 1, whole.body_ends[-1]))
    for index in range(len(whole.body_starts)):
        for offset in range(whole.body_starts[index], whole.body_ends[index], 3):
            places = info.at(offset)
            assert all(isinstance(place, wl.SourceFrame) for place in places) and len(places) <= 256
            assert all("\n" not in str(place) for place in places)


@given(st.binary(max_size=200), st.binary(max_size=60), st.binary(max_size=200), st.binary(max_size=60))
def test_noise(info: bytes, table: bytes, lines: bytes, ranges: bytes) -> None:
    read({".debug_info": info, ".debug_abbrev": table, ".debug_line": lines, ".debug_ranges": ranges})
    read(sections(info, ROOT + FUNCTION + INLINED + table, lines, debug_rnglists=ranges))
    read(sections(lines=dwarf.line_program(lines)))
    read(sections(lines=dwarf.line_program(lines, 5, ranges)))
