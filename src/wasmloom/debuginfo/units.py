# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Units of debug information, and the functions in them: which addresses are whose, and what is inlined where.

Source: DWARF 5, chapters 2, 3 and 7. Of an entry only what leads from an address to functions is kept.

What damaged sections could make large: entries and abbreviations take bytes, so there are no more than bytes;
attributes that take none are limited (see `entries`); what several entries may share (ranges, tables) counts each time
that it is read, against what there is (`Sections.spend`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.wasmloom.debuginfo.cursor import Cursor, item
from cython.cimports.wasmloom.debuginfo.entries import (
    ADDRESS,
    ADDRESS_NUMBER,
    ENTRY,
    LIST_NUMBER,
    TEXT,
    TEXT_IN_LINE_STR,
    TEXT_IN_STR,
    TEXT_NUMBER,
    Abbreviations,
    Unit,
    Value,
    new_unit,
    read_abbreviations,
    read_value,
    read_values,
)

from wasmloom.debuginfo.cursor import BadDebugInfo
from wasmloom.debuginfo.lines import Letters, LineTable, read_lines

# Tags, attributes (DWARF 5, tables 7.3 and 7.5), kinds of units (7.2), entries of lists of ranges (7.30).
_SUBPROGRAM = cython.declare(uint64_t, 0x2E)
_INLINED = cython.declare(uint64_t, 0x1D)
#: Entries whose names are before those of the functions in them: structures, classes, unions, enumerations, modules,
#: namespaces.
_SCOPES = (0x13, 0x02, 0x17, 0x04, 0x1E, 0x39)
_NAME, _STMT_LIST, _LOW_PC, _HIGH_PC, _COMP_DIR = 0x03, 0x10, 0x11, 0x12, 0x1B
_ABSTRACT_ORIGIN, _SPECIFICATION, _RANGES = 0x31, 0x47, 0x55
_CALL_COLUMN, _CALL_FILE, _CALL_LINE = 0x57, 0x58, 0x59
_STR_OFFSETS_BASE, _ADDR_BASE, _RNGLISTS_BASE = 0x72, 0x73, 0x74
_DWO_NAME, _GNU_DWO_NAME = 0x76, 0x2130
_OF_UNITS = frozenset(
    (_NAME, _STMT_LIST, _LOW_PC, _HIGH_PC, _COMP_DIR, _RANGES, _STR_OFFSETS_BASE, _ADDR_BASE, _RNGLISTS_BASE,
     _DWO_NAME, _GNU_DWO_NAME)
)  # fmt: skip
_OF_FUNCTIONS = frozenset((_LOW_PC, _HIGH_PC, _RANGES, _CALL_COLUMN, _CALL_FILE, _CALL_LINE))
_OF_NAMES = frozenset((_NAME, _ABSTRACT_ORIGIN, _SPECIFICATION))
_UT_COMPILE, _UT_PARTIAL, _UT_SKELETON = 1, 3, 4
_LIST_END, _BASE_NUMBER, _START_END_NUMBERS, _START_LENGTH_NUMBERS, _OFFSET_PAIR = 0, 1, 2, 3, 4
_BASE, _START_END, _START_LENGTH = 5, 6, 7
#: Units that one module may have.
_MOST_UNITS = 1 << 17
#: So many times an entry may say that another one has its name.
_MOST_HOPS = 16
#: The names of files may have so many letters, and so many for each byte of ``.debug_line``.
_FIRST_LETTERS, _LETTERS = 1 << 16, 128
#: A name has so many letters at most, with what is before it; the rest is left out.
_MOST_NAME = 4096
#: What a name has before it at most.
_MOST_SCOPES = 32
_NO_PARENT = cython.declare(uint32_t, 0xFFFFFFFF)
_ADDRESSES = 0xFFFFFFFFFFFFFFFF


class Functions:
    """The functions of a unit that have code, inlined ones too, in the order of the entries: callers come first."""

    def __init__(self) -> None:
        #: For each its entry; the one that it is inlined in, or 0xFFFFFFFF; file, line and column of that call.
        self.entries, self.parents = array("Q"), array("I")
        self.files, self.lines, self.columns = array("I"), array("I"), array("I")
        #: Addresses: begin, end, and whose they are.
        self.firsts, self.ends, self.owners = array("Q"), array("Q"), array("I")
        #: The scope that a function's entry is in, by the entry; and a scope's entry, with the scope that it is in.
        self.scopes: dict[int, int] = {}
        self.scope_entries: list[tuple[int, int]] = []

    def at(self, address: uint64_t) -> int:
        """The innermost function that an address belongs to; -1: none."""
        firsts: carray.array = self.firsts
        ends: carray.array = self.ends
        owners: carray.array = self.owners
        first: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), firsts.data.as_voidptr)
        end: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), ends.data.as_voidptr)
        owner: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), owners.data.as_voidptr)
        found: int64_t = -1
        i: cython.Py_ssize_t
        for i in range(len(firsts)):
            if first[i] <= address < end[i] and owner[i] > found:
                found = owner[i]  # what is inlined comes behind what it is inlined in
        return found


@cython.cfunc
def _at(section: Cursor, offset: object) -> Cursor:
    """A place in a section, wherever it is said to be."""
    if offset > section.end:
        raise section.bad(f"no offset {hex(offset)}")
    return section.copy(offset)


def _shortened(name: str) -> str:
    """A name of a function as it is shown: strangers can write very long ones."""
    return name if len(name) <= _MOST_NAME else f"{name[:_MOST_NAME]}…"


class Sections:
    """The sections of a module's debug information, by name.

    Addresses from `lowest` on and before `highest` are code: linkers leave debug information of what they have removed,
    with other ones. All methods raise `BadDebugInfo`.
    """

    def __init__(self, sections: Mapping[str, Cursor], lowest: int, highest: int) -> None:
        self._sections = sections
        self.lowest, self.highest = lowest, highest
        self._abbreviations: dict[int, Abbreviations] = {}
        self._tables: dict[int, LineTable] = {}
        self._left: dict[str, int] = {}
        lines: Cursor | None = sections.get(".debug_line")
        self._letters = Letters(_FIRST_LETTERS + (_LETTERS * lines.end if lines is not None else 0))
        self.units: list[Unit] = []

    def section(self, name: str) -> Cursor:
        """A section that something refers to."""
        found = self._sections.get(name)
        if found is None:
            raise BadDebugInfo(f"there is no section {name}")
        return found

    def spend(self, name: str, amount: int) -> None:
        """Count what is kept of a section: bytes, or what takes a byte at least. Compilers rarely let two share it."""
        left = self._left.get(name)
        if left is None:
            left = 4 * self.section(name).end + 4096
        self._left[name] = left - amount
        if left < amount:
            raise BadDebugInfo(f"{name}: the same is used too often")

    # Units

    def read_units(self) -> None:
        """Find the units, and what their first entries say of them."""
        info: Cursor = self.section(".debug_info")
        cursor: Cursor = info.copy(0)
        unit: Unit
        found: list = []
        offset_size: cython.int = 4
        kind: cython.int
        while cursor.at < cursor.end:
            item()
            if len(found) == _MOST_UNITS:
                raise cursor.bad("too many units")
            unit = new_unit()
            unit.start = cursor.at
            unit.end = cursor.initial_length(cython.address(offset_size))
            unit.offset_size = offset_size
            unit.version = cursor.fixed(2)
            if not 2 <= unit.version <= 5:
                raise cursor.bad(f"version {unit.version} of DWARF")
            kind = _UT_COMPILE
            if unit.version >= 5:
                kind = cursor.fixed(1)
                unit.address_size = cursor.fixed(1)
                unit.abbreviations = cursor.fixed(offset_size)
            else:
                unit.abbreviations = cursor.fixed(offset_size)
                unit.address_size = cursor.fixed(1)
            if unit.address_size != 4 and unit.address_size != 8:
                raise cursor.bad(f"addresses of {unit.address_size} bytes")
            if kind == _UT_SKELETON:
                cursor.skip(8)
            unit.first = cursor.at
            # Others have types, or are in other files.
            if kind in (_UT_COMPILE, _UT_PARTIAL, _UT_SKELETON) and unit.first < unit.end:
                self._read_root(unit)
                found.append(unit)
            cursor.go(unit.end)
        self.units = found

    def _read_root(self, unit: Unit) -> None:
        """The first entry of a unit."""
        values = self._values(unit, unit.first, _OF_UNITS)
        # These first: others may be numbers that count from there.
        unit.strings_base = values[_STR_OFFSETS_BASE][1] if _STR_OFFSETS_BASE in values else 2 * unit.offset_size
        unit.addresses_base = values[_ADDR_BASE][1] if _ADDR_BASE in values else 2 * unit.offset_size
        unit.ranges_base = values[_RNGLISTS_BASE][1] if _RNGLISTS_BASE in values else 8 + unit.offset_size
        other = values.get(_DWO_NAME) or values.get(_GNU_DWO_NAME)
        if other is not None:
            raise BadDebugInfo(f"it is in another file, {self._text(unit, other)!r}")
        unit.name = self._text(unit, values.get(_NAME))
        unit.folder = self._text(unit, values.get(_COMP_DIR)) or ""
        unit.lines_at = values[_STMT_LIST][1] if _STMT_LIST in values else None
        unit.low = self._address(unit, *values[_LOW_PC]) if _LOW_PC in values else 0
        unit.ranges = self._addresses(unit, values)
        if unit.lines_at is not None and _RANGES not in values and _HIGH_PC not in values:
            unit.ranges = [(start, end) for start, end, *_ in self.lines_of(unit).sequences]

    def unit_of(self, entry: int) -> Unit:
        """The unit that an entry is in."""
        unit: Unit
        number = bisect_right(self.units, entry, key=_start_of) - 1
        if number >= 0:
            unit = self.units[number]
            if unit.first <= entry < unit.end:
                return unit
        raise BadDebugInfo(f".debug_info: no entry at offset {hex(entry)}")

    def lines_of(self, unit: Unit) -> LineTable | None:
        """A unit's lines; units may share them. None: it has none."""
        if unit.lines is None and unit.lines_at is not None:
            table = self._tables.get(unit.lines_at)
            if table is None:
                section: Cursor = self.section(".debug_line")
                table = read_lines(
                    section,
                    _at(section, unit.lines_at).at,
                    unit.folder,
                    self._sections.get(".debug_line_str"),
                    self._sections.get(".debug_str"),
                    self.lowest,
                    self.highest,
                    self._letters,
                )
                self.spend(".debug_line", len(table) + len(table.names))
                self._tables[unit.lines_at] = table
            unit.lines = table
        return unit.lines

    # Entries

    def functions_of(self, unit: Unit) -> Functions:
        """A unit's functions."""
        if unit.functions is None:
            unit.functions = self._scan(unit)
        return unit.functions

    def name_of(self, entry: int) -> str | None:
        """The name of the function that an entry is of, with those of the scopes that it is declared in."""
        name = None
        scope = None
        for _ in range(_MOST_HOPS):
            unit = self.unit_of(entry)
            values = self._values(unit, entry, _OF_NAMES)
            if name is None:
                name = self._text(unit, values.get(_NAME))
            functions = self.functions_of(unit)
            number = functions.scopes.get(entry)
            scope = scope if number is None else (unit, functions, number)
            kind, entry = values.get(_ABSTRACT_ORIGIN) or values.get(_SPECIFICATION) or (None, 0)
            if kind != ENTRY:
                break
        if name is None or scope is None:
            return _shortened(name) if name is not None else None
        unit, functions, number = scope
        names = [name]
        while number != _NO_PARENT and len(names) <= _MOST_SCOPES:
            entry, number = functions.scope_entries[number]
            outer = self._text(unit, self._values(unit, entry, _OF_NAMES).get(_NAME))
            if outer:
                names.append(_shortened(outer))
        return _shortened("::".join(reversed(names)))

    def _table_of(self, unit: Unit) -> Abbreviations:
        """What the codes of a unit's entries mean."""
        section: Cursor = self.section(".debug_abbrev")
        offset: object = unit.abbreviations
        found: Abbreviations = self._abbreviations.get(offset)
        if found is None:
            _at(section, offset)
            found = read_abbreviations(section, offset)
            self.spend(".debug_abbrev", found.size)
            self._abbreviations[offset] = found
        return found

    def _values(self, unit: Unit, entry: uint64_t, wanted: frozenset) -> dict:
        """Attributes of an entry."""
        cursor: Cursor = cython.cast(Cursor, self.section(".debug_info")).copy(entry)
        cursor.end = unit.end
        return read_values(unit, cursor, self._table_of(unit), wanted)

    def _text(self, unit: Unit, value: tuple | None) -> str | None:
        """The text that an attribute is."""
        offset_size: cython.int = unit.offset_size
        cursor: Cursor
        if value is None:
            return None
        kind, number = value
        if kind == TEXT_NUMBER:
            cursor = _at(self.section(".debug_str_offsets"), unit.strings_base + number * unit.offset_size)
            kind, number = TEXT_IN_STR, cursor.fixed(offset_size)
        names = {TEXT: ".debug_info", TEXT_IN_STR: ".debug_str", TEXT_IN_LINE_STR: ".debug_line_str"}
        if kind not in names:
            return None
        cursor = _at(self.section(names[kind]), number)
        return cursor.text()

    def _address(self, unit: Unit, kind: int, number: object) -> int:
        """The address that an attribute is."""
        size: cython.int = unit.address_size
        cursor: Cursor
        if kind == ADDRESS_NUMBER:
            cursor = _at(self.section(".debug_addr"), unit.addresses_base + number * size)
            return cursor.fixed(size)
        return number

    def _addresses(self, unit: Unit, values: dict) -> list:
        """Where the code of an entry is: (first address, where it ends)."""
        found: list = []
        if _RANGES in values:
            kind, number = values[_RANGES]
            found = self._listed(unit, kind, number) if unit.version >= 5 else self._listed_before_5(unit, number)
        elif _LOW_PC in values and _HIGH_PC in values:
            first = self._address(unit, *values[_LOW_PC])
            kind, number = values[_HIGH_PC]
            absolute = kind == ADDRESS or kind == ADDRESS_NUMBER
            found = [(first, self._address(unit, kind, number) if absolute else first + number)]
        found = [(first, min(end, self.highest)) for first, end in found]
        return [(first, end) for first, end in found if self.lowest <= first < end]

    def _listed(self, unit: Unit, kind: int, number: object) -> list:
        """A list of ranges of version 5."""
        section: Cursor = self.section(".debug_rnglists")
        size: cython.int = unit.address_size
        offset_size: cython.int = unit.offset_size
        cursor: Cursor
        found: list = []
        base: object = unit.low
        if kind == LIST_NUMBER:
            cursor = _at(section, unit.ranges_base + number * unit.offset_size)
            number = unit.ranges_base + cursor.fixed(offset_size)
        cursor = _at(section, number)
        while True:
            item()
            kind = cursor.fixed(1)
            if kind == _LIST_END:
                break
            if kind == _BASE_NUMBER:
                base = self._address(unit, ADDRESS_NUMBER, cursor.uleb())
            elif kind == _BASE:
                base = cursor.fixed(size)
            else:
                if kind == _START_END_NUMBERS:
                    first = self._address(unit, ADDRESS_NUMBER, cursor.uleb())
                    end = self._address(unit, ADDRESS_NUMBER, cursor.uleb())
                elif kind == _START_LENGTH_NUMBERS:
                    first = self._address(unit, ADDRESS_NUMBER, cursor.uleb())
                    end = first + cursor.uleb()
                elif kind == _OFFSET_PAIR:
                    first = base + cursor.uleb()
                    end = base + cursor.uleb()
                elif kind == _START_END:
                    first = cursor.fixed(size)
                    end = cursor.fixed(size)
                elif kind == _START_LENGTH:
                    first = cursor.fixed(size)
                    end = first + cursor.uleb()
                else:
                    raise cursor.bad(f"an unknown kind of range {hex(kind)}")
                found.append((first, end))
        self.spend(".debug_rnglists", cursor.at - number)
        return found

    def _listed_before_5(self, unit: Unit, number: object) -> list:
        """A list of ranges of the versions before: pairs."""
        cursor: Cursor = _at(self.section(".debug_ranges"), number)
        size: cython.int = unit.address_size
        found: list = []
        base: object = unit.low
        last = 0xFFFFFFFF if size == 4 else _ADDRESSES
        while True:
            item()
            first = cursor.fixed(size)
            end = cursor.fixed(size)
            if first == last:
                base = end
            elif first == 0 and end == 0:
                break
            else:
                found.append((base + first, base + end))
        self.spend(".debug_ranges", cursor.at - number)
        return found

    def _scan(self, unit: Unit) -> Functions:
        """Read all entries of a unit."""
        cursor: Cursor = cython.cast(Cursor, self.section(".debug_info")).copy(unit.first)
        cursor.end = unit.end
        table: Abbreviations = self._table_of(unit)
        row: cython.pointer(uint64_t)
        code: uint64_t
        entry: uint64_t
        tag: uint64_t
        i: uint64_t
        function: uint32_t
        scope: uint32_t
        found = Functions()
        value = cython.declare(Value)
        # By depth: the function that entries are in, and the scope.
        functions: carray.array = array("I")
        scopes: carray.array = array("I")
        while cursor.at < unit.end:
            item()
            entry = cursor.at
            code = cursor.uleb()
            if code == 0:
                if len(functions):
                    functions.pop()
                    scopes.pop()
                if not len(functions):
                    break
                continue
            row = table.rows + 4 * table.find(cursor, code)
            tag = row[1] & 0xFFFFFFFF
            function = functions.data.as_uints[len(functions) - 1] if len(functions) else _NO_PARENT
            scope = scopes.data.as_uints[len(functions) - 1] if len(functions) else _NO_PARENT
            if tag == _SUBPROGRAM or tag == _INLINED:
                cursor.at = entry
                values = read_values(unit, cursor, table, _OF_FUNCTIONS)
                if scope != _NO_PARENT:
                    found.scopes[entry] = scope
                if values:
                    function = self._add(unit, found, entry, values, function if tag == _INLINED else _NO_PARENT)
                elif tag == _SUBPROGRAM:
                    function = _NO_PARENT
            else:
                for i in range(row[3]):
                    read_value(unit, cursor, table.attributes + 2 * (row[2] + i), cython.address(value))
                if row[1] >> 32 and tag in _SCOPES:
                    found.scope_entries.append((entry, scope))
                    scope = len(found.scope_entries) - 1
            if row[1] >> 32:
                functions.append(function)
                scopes.append(scope)
            elif not len(functions):
                break  # the first entry has no others in it
        return found

    def _add(self, unit: Unit, found: Functions, entry: int, values: dict, parent: int) -> int:
        """Add a function that has code. Returns its number; if all of its code has been removed, that of its parent."""
        ranges = self._addresses(unit, values)
        if not ranges:
            return parent
        number = len(found.entries)
        found.entries.append(entry)
        found.parents.append(parent)
        for where, attribute in ((found.files, _CALL_FILE), (found.lines, _CALL_LINE), (found.columns, _CALL_COLUMN)):
            where.append(min(values[attribute][1], 0xFFFFFFFF) if attribute in values else 0)
        for first, end in ranges:
            found.firsts.append(first)
            found.ends.append(end)
            found.owners.append(number)
        return number


def _start_of(unit: Unit) -> int:
    return unit.start
