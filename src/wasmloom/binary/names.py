# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The name section: function names for backtraces, and all the others for the text format.

Source: Core 3.0, 7.4.1, and the extended name section proposal. A malformed name section never makes a module invalid:
the subsections before the malformed one count, and the rest is ignored.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import int64_t
from cython.cimports.wasmloom.binary.reader import Reader, read_byte, read_range, read_u32

from wasmloom.errors import CompileError
from wasmloom.spec.module import Names

#: Subsection ids of simple name maps → index space, of indirect ones → attribute of `Names`.
NAME_MAPS: dict[int, str] = {
    1: "func",
    4: "type",
    5: "table",
    6: "memory",
    7: "global",
    8: "elem",
    9: "data",
    11: "tag",
}
INDIRECT_NAME_MAPS: dict[int, str] = {2: "locals", 3: "labels", 10: "fields"}


@cython.cfunc
def _name(r: cython.pointer(Reader)) -> str:
    """The next name. Raises `ValueError` when it is malformed."""
    size: int64_t = read_u32(r)
    start: cython.p_const_char = cython.cast(cython.p_const_char, r.pos)
    if size > r.end - r.pos:
        raise ValueError("length out of bounds")
    r.pos += size
    return start[:size].decode("utf-8")


@cython.cfunc
def _name_map(r: cython.pointer(Reader)) -> dict:
    """Index → name."""
    found: dict = {}
    index: int64_t
    n: int64_t = read_u32(r)
    while n > 0:
        n -= 1
        index = read_u32(r)
        found[index] = _name(r)
    return found


@cython.cfunc
def _indirect_name_map(r: cython.pointer(Reader)) -> dict:
    """Index → index → name."""
    found: dict = {}
    index: int64_t
    n: int64_t = read_u32(r)
    while n > 0:
        n -= 1
        index = read_u32(r)
        found[index] = _name_map(r)
    return found


def parse_names(data: bytes, start: int, end: int, indirect: bool = True) -> tuple[Names, bool]:
    """The names in the contents of a name section, ``data[start:end]``, and whether all of it was well-formed.

    Without `indirect`, names of locals, labels and fields are left out: there may be very many.
    """
    names = Names()
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
    r = cython.declare(Reader)
    part = cython.declare(Reader)
    size: int64_t
    kind: cython.int
    read_range(
        cython.address(r), base, base + cython.cast(cython.size_t, start), base + cython.cast(cython.size_t, end)
    )
    try:
        while r.pos < r.end:
            kind = read_byte(cython.address(r))
            size = read_u32(cython.address(r))
            if size > r.end - r.pos:
                return names, False
            read_range(cython.address(part), base, r.pos, r.pos + size)
            r.pos += size
            if kind == 0:
                names.module = _name(cython.address(part))
            elif kind in NAME_MAPS:
                names.maps[NAME_MAPS[kind]] = _name_map(cython.address(part))
            elif indirect and kind in INDIRECT_NAME_MAPS:
                setattr(names, INDIRECT_NAME_MAPS[kind], _indirect_name_map(cython.address(part)))
    except (CompileError, ValueError):  # UnicodeDecodeError is one too
        return names, False
    return names, True
