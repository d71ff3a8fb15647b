"""DWARF in custom sections: compiled from C, written by hand, taken apart."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from wasmloom.binary.decoder import decode_module

#: Two files and a header, with a function that is inlined in both; the lines that matter are marked.
HEADER = """\
static inline __attribute__((always_inline)) int divide(int a, int b) {
  return a / b; // divides
}
static inline __attribute__((always_inline)) int halve(int a, int b) {
  return 1 + divide(a, b - 7); // halves
}
"""
FIRST = """\
#include "inlined.h"
int second(int x);
__attribute__((noinline)) int middle(int x) {
  return second(x) + 1; // calls second
}
__attribute__((export_name("run"))) int run(int x) {
  return middle(x) * 3; // calls middle
}
"""
SECOND = """\
#include "inlined.h"
__attribute__((noinline)) int second(int x) {
  if (x == 1)
    __builtin_trap(); // traps
  return halve(100, x); // calls halve
}
"""
SOURCES = {"inlined.h": HEADER, "first.c": FIRST, "second.c": SECOND}


def line_of(file: str, mark: str, sources: dict[str, str] = SOURCES) -> int:
    """The line of a source that has a mark."""
    (found,) = [i for i, line in enumerate(sources[file].splitlines(), 1) if line.endswith(f"// {mark}")]
    return found


def compiled(folder: Path, *options: str, sources: dict[str, str] = SOURCES) -> bytes:
    """The sources as a module."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the package 'ziglang' to compile C to WebAssembly")
    for name, text in sources.items():
        (folder / name).write_text(text)
    out = folder / "made.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-nostdlib", "-O1"]
    command += ["-Wl,--no-entry", *options, "first.c", "second.c", "-o", str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the C compiler doesn't take {options}: {done.stderr.strip().splitlines()[-1:]}")
    return out.read_bytes()


def uleb(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def customs(data: bytes) -> dict[str, bytes]:
    """The custom sections of a module."""
    return {custom.name: custom.data for custom in decode_module(data).customs}


def with_sections(data: bytes, sections: dict[str, bytes]) -> bytes:
    """A module with other custom sections behind its own."""
    for name, contents in sections.items():
        whole = uleb(len(name.encode())) + name.encode() + contents
        data += b"\0" + uleb(len(whole)) + whole
    return data


def sized(contents: bytes) -> bytes:
    """What begins with its length."""
    return struct.pack("<I", len(contents)) + contents


def unit(entries: bytes, version: int = 4, abbreviations: int = 0) -> bytes:
    """A unit of ``.debug_info``."""
    if version >= 5:
        return sized(struct.pack("<HBBI", version, 1, 4, abbreviations) + entries)
    return sized(struct.pack("<HIB", version, abbreviations, 4) + entries)


def abbreviation(code: int, tag: int, children: bool, *attributes: tuple[int, int]) -> bytes:
    """A row of ``.debug_abbrev``."""
    rows = b"".join(uleb(name) + uleb(form) for name, form in attributes)
    return uleb(code) + uleb(tag) + bytes([children]) + rows + b"\0\0"


def line_program(program: bytes, version: int = 4, names: bytes = b"\0a.c\0\0\0\0\0", line_range: int = 14) -> bytes:
    """A table of ``.debug_line``, whose special opcodes begin at 13, from line + 0 on."""
    head = bytes([1, *([1] if version >= 4 else []), 1, 0, line_range, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1]) + names
    before = struct.pack("<HBB", version, 4, 0) if version >= 5 else struct.pack("<H", version)
    return sized(before + sized(head) + program)


def set_address(address: int) -> bytes:
    return bytes([0, 5, 2]) + struct.pack("<I", address)


END = bytes([0, 1, 1])
