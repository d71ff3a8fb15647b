# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Line tables: which line of which file an address comes from.

Source: DWARF 5, section 6.2; versions 2 to 4 differ in the header.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.wasmloom.debuginfo.cursor import Cursor, item

from wasmloom.debuginfo.cursor import BadDebugInfo

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN = 1, 2, 3, 4, 5
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_END_SEQUENCE, _SET_ADDRESS, _DEFINE_FILE = 1, 2, 3
_PATH, _DIRECTORY = 1, 2
_FORM_STRING, _FORM_STRP, _FORM_LINE_STRP, _FORM_UDATA = 0x08, 0x0E, 0x1F, 0x0F
#: Forms of other entries in the tables of names, and their bytes; 0: a block that begins with its length.
_SIZES = {0x05: 2, 0x06: 4, 0x07: 8, 0x09: 0, 0x0B: 1, 0x1E: 16}
#: So many of the sequences that begin before an address are looked at.
_OVERLAPPING = 64


class Letters:
    """How many letters the names of files may still have.

    Names that take a few bytes may refer to the same long one, or be relative to the same long folder.
    """

    def __init__(self, most: int) -> None:
        self.left = most

    def keep(self, name: str) -> str:
        """Count a name. Raises `BadDebugInfo` when that is too much."""
        self.left -= len(name)
        if self.left < 0:
            raise BadDebugInfo(".debug_line: the names of files are too long")
        return name


class LineTable:
    """The lines of a unit; rows count from their address to the next one's, within a sequence."""

    def __init__(
        self,
        sequences: list[tuple[int, int, int, int]],
        columns: tuple[array[int], array[int], array[int], array[int]],
        names: list[str],
    ) -> None:
        #: (first address, where it ends, its first row, its last row and one), sorted.
        self.sequences = sorted(sequences)
        self._starts = [start for start, *_ in self.sequences]
        self._addresses, self._files, self._lines, self._columns = columns
        #: File names by their number.
        self.names = names

    def __len__(self) -> int:
        return len(self._addresses)

    def at(self, address: int) -> tuple[str | None, int, int] | None:
        """The file, line and column of an address, 0: unknown; None: it isn't there."""
        last = bisect_right(self._starts, address)
        for number in range(last - 1, max(last - 1 - _OVERLAPPING, -1), -1):
            _, end, first, behind = self.sequences[number]
            if address < end:
                row = bisect_right(self._addresses, address, first, behind) - 1
                return self.name_of(self._files[row]), self._lines[row], self._columns[row]
        return None

    def name_of(self, file: int) -> str | None:
        """The name of a file."""
        return self.names[file] if 0 <= file < len(self.names) and self.names[file] else None


def joined(*parts: str) -> str:
    """A path of parts, each relative to those before it."""
    found = ""
    for part in parts:
        if part.startswith(("/", "\\")) or part[1:3] in (":\\", ":/") or not found:
            found = part
        elif part:
            found = f"{found.rstrip('/')}/{part}"
    return found


@cython.cfunc
def _entries(
    cursor: Cursor, offset_size: cython.int, line_str: Cursor | None, strings: Cursor | None, letters: Letters
) -> list:
    """A table of directories or files of version 5: (path, number of the directory)."""
    forms: list = []
    kind: uint64_t
    form: uint64_t
    count: uint64_t
    number: uint64_t
    elsewhere: Cursor
    for _ in range(cursor.fixed(1)):
        kind = cursor.uleb()
        form = cursor.uleb()
        forms.append((kind, form))
    count = cursor.uleb()
    cursor.need(count if forms else 0)  # an entry takes a byte at least
    if count and not forms:
        raise cursor.bad("names without contents")
    found: list = []
    for _ in range(count):
        item()
        path = ""
        directory = 0
        for kind, form in forms:
            if form == _FORM_STRING:
                text = cursor.text()
            elif form == _FORM_STRP or form == _FORM_LINE_STRP:
                number = cursor.fixed(offset_size)
                if kind != _PATH:
                    continue
                elsewhere = strings if form == _FORM_STRP else line_str
                if elsewhere is None:
                    raise cursor.bad("a name in a section that isn't there")
                text = letters.keep(elsewhere.copy(number).text())
            elif form == _FORM_UDATA:
                number = cursor.uleb()
                directory = number if kind == _DIRECTORY else directory
                continue
            elif form in _SIZES:
                size = _SIZES[form]
                number = cursor.fixed(size) if size else 0
                if size == 0:
                    cursor.skip(cursor.uleb())
                directory = number if kind == _DIRECTORY and size else directory
                continue
            else:
                raise cursor.bad(f"a name of an unknown form {hex(form)}")
            path = text if kind == _PATH else path
        found.append((path, directory))
    return found


@cython.cfunc
def _names(
    cursor: Cursor,
    version: cython.int,
    offset_size: cython.int,
    folder: str,
    line_str: Cursor | None,
    strings: Cursor | None,
    letters: Letters,
) -> list:
    """The names of files, by their number."""
    directories: list
    if version >= 5:
        found = _entries(cursor, offset_size, line_str, strings, letters)
        directories = [letters.keep(joined(folder, path)) for path, _ in found]
        files = _entries(cursor, offset_size, line_str, strings, letters)
        return [
            letters.keep(joined(directories[number] if number < len(directories) else folder, path)) if path else ""
            for path, number in files
        ]
    directories = [folder]
    while True:
        path = cursor.text()
        if not path:
            break
        item()
        directories.append(letters.keep(joined(folder, path)))
    names: list = [""]
    while True:
        path = cursor.text()
        if not path:
            return names
        item()
        names.append(letters.keep(_of_version_4(cursor, path, directories, folder)))


@cython.cfunc
def _of_version_4(cursor: Cursor, path: str, directories: list, folder: str) -> str:
    """The name of a file with what follows: directory, time, size."""
    directory: uint64_t = cursor.uleb()
    cursor.uleb()
    cursor.uleb()
    return joined(directories[directory] if directory < cython.cast(uint64_t, len(directories)) else folder, path)


def read_lines(
    section: Cursor,
    offset: uint64_t,
    folder: str,
    line_str: Cursor | None,
    strings: Cursor | None,
    lowest: uint64_t,
    highest: uint64_t,
    letters: Letters,
) -> LineTable:
    """The table at an offset of ``.debug_line``; names are relative to `folder`, and have so many `letters`.

    Only what begins from `lowest` on and before `highest` is real: linkers leave what they have removed, elsewhere.
    Raises `BadDebugInfo`.
    """
    cursor: Cursor = section.copy(offset)
    offset_size: cython.int = 4
    unit_end: uint64_t = cursor.initial_length(cython.address(offset_size))
    cursor.end = unit_end
    version: cython.int = cursor.fixed(2)
    if not 2 <= version <= 5:
        raise cursor.bad(f"a line table of version {version}")
    if version >= 5:
        cursor.skip(2)
    header: uint64_t = cursor.fixed(offset_size)
    cursor.need(header)
    program: uint64_t = cursor.at + header
    smallest: uint64_t = cursor.fixed(1)
    if version >= 4:
        cursor.skip(1)  # operations of an instruction: WebAssembly has one
    cursor.skip(1)
    line_base: int64_t = cursor.fixed(1)
    if line_base > 127:
        line_base -= 256
    line_range: uint64_t = cursor.fixed(1)
    opcode_base: uint64_t = cursor.fixed(1)
    if opcode_base == 0 or line_range == 0:
        raise cursor.bad("a line table without opcodes")
    lengths: bytes = b"\0" + bytes([cursor.fixed(1) for _ in range(opcode_base - 1)])
    names: list = _names(cursor, version, offset_size, folder, line_str, strings, letters)
    folders: list = [folder]
    cursor.go(program)

    addresses, files, lines, columns = array("Q"), array("I"), array("I"), array("H")
    sequences: list = []
    address: uint64_t = 0
    file: uint64_t = 1
    line: uint32_t = 1
    column: uint64_t = 0
    first: cython.Py_ssize_t = 0
    start: uint64_t = 0
    last: uint64_t = 0
    opcode: uint64_t
    size: uint64_t
    end: uint64_t
    row: cython.bint
    ended: cython.bint
    while cursor.at < unit_end:
        item()
        row = ended = False
        opcode = cursor.fixed(1)
        if opcode >= opcode_base:
            opcode -= opcode_base
            address += opcode // line_range * smallest
            line += cython.cast(uint32_t, line_base + cython.cast(int64_t, opcode % line_range))
            row = True
        elif opcode == 0:
            size = cursor.uleb()
            cursor.need(size)
            end = cursor.at + size
            if size:
                opcode = cursor.fixed(1)
                if opcode == _END_SEQUENCE:
                    row = ended = True
                elif opcode == _SET_ADDRESS:
                    address = cursor.fixed(min(size - 1, 8))
                elif opcode == _DEFINE_FILE:
                    path = cursor.text()
                    names.append(letters.keep(_of_version_4(cursor, path, folders, folder)))
            cursor.go(end)
        elif opcode == _COPY:
            row = True
        elif opcode == _ADVANCE_PC:
            address += cursor.uleb() * smallest
        elif opcode == _ADVANCE_LINE:
            line += cython.cast(uint32_t, cursor.sleb())
        elif opcode == _SET_FILE:
            file = cursor.uleb()
        elif opcode == _SET_COLUMN:
            column = cursor.uleb()
        elif opcode == _CONST_ADD_PC:
            address += (255 - opcode_base) // line_range * smallest
        elif opcode == _FIXED_ADVANCE_PC:
            address += cursor.fixed(2)
        else:
            for _ in range(cython.cast(uint8_t, lengths[opcode])):
                cursor.uleb()
        if not row:
            continue
        if len(addresses) > first and (ended or address < last):
            # Rows that go back begin a sequence of their own.
            end = address if address >= last else last
            if lowest <= start < highest and start < end:
                sequences.append((start, end, first, len(addresses)))
            first = len(addresses)
        if ended:
            address, file, line, column = 0, 1, 1, 0
            continue
        if len(addresses) == first:
            start = address
        last = address
        addresses.append(address)
        files.append(min(file, 0xFFFFFFFF))
        lines.append(line)
        columns.append(min(column, 0xFFFF))
    return LineTable(sequences, (addresses, files, lines, columns), names)
