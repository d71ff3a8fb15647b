"""The name section: function names for backtraces, and all the others for the text format.

Source: Core 3.0, 7.4.1, and the extended name section proposal. A malformed name section never makes a module invalid:
whatever subsections come before the malformed one count, the rest is ignored.
"""

from __future__ import annotations

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


class _Cursor:
    """Reads the section's bytes; raises `ValueError` where they are malformed."""

    def __init__(self, data: bytes, pos: int, end: int) -> None:
        self.data = data
        self.pos = pos
        self.end = end

    def u32(self) -> int:
        value = shift = 0
        while True:
            if self.pos >= self.end or shift > 28:
                raise ValueError("malformed number")
            byte = self.data[self.pos]
            self.pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def take(self, size: int) -> int:
        """Skip `size` bytes and return where they begin."""
        start = self.pos
        if size > self.end - start:
            raise ValueError("length out of bounds")
        self.pos += size
        return start

    def name(self) -> str:
        size = self.u32()
        start = self.take(size)
        return self.data[start : start + size].decode("utf-8")

    def name_map(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for _ in range(self.u32()):
            index = self.u32()
            found[index] = self.name()
        return found

    def indirect_name_map(self) -> dict[int, dict[int, str]]:
        found: dict[int, dict[int, str]] = {}
        for _ in range(self.u32()):
            index = self.u32()
            found[index] = self.name_map()
        return found


def parse_names(data: bytes, start: int, end: int) -> tuple[Names, bool]:
    """The names in the contents of a name section, ``data[start:end]``, and whether all of it was well-formed."""
    names = Names()
    cursor = _Cursor(data, start, end)
    try:
        while cursor.pos < end:
            kind = data[cursor.pos]
            cursor.pos += 1
            size = cursor.u32()
            begin = cursor.take(size)
            part = _Cursor(data, begin, begin + size)
            if kind == 0:
                names.module = part.name()
            elif kind in NAME_MAPS:
                names.maps[NAME_MAPS[kind]] = part.name_map()
            elif kind in INDIRECT_NAME_MAPS:
                setattr(names, INDIRECT_NAME_MAPS[kind], part.indirect_name_map())
    except ValueError:  # UnicodeDecodeError is one too
        return names, False
    return names, True
