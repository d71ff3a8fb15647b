# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Entries of debug information: their attributes, as the tables of abbreviations describe them.

Source: DWARF 5, 7.5 (tables 7.3 to 7.6 and appendix B for the older forms).
"""

from __future__ import annotations

from array import array

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.wasmloom.debuginfo.cursor import Cursor, item
from cython.cimports.wasmloom.debuginfo.entries import (
    ADDRESS,
    ADDRESS_NUMBER,
    ENTRY,
    LIST_NUMBER,
    NOTHING,
    NUMBER,
    TEXT,
    TEXT_IN_LINE_STR,
    TEXT_IN_STR,
    TEXT_NUMBER,
    Value,
)
from cython.cimports.wasmloom.system._capi import seal

#: Attributes that entries of one kind may have. Those that compilers write have up to thirty.
_MOST_ATTRIBUTES = cython.declare(uint64_t, 128)
_INDIRECT, _IMPLICIT_CONST = 0x16, 0x21


@cython.final
@cython.no_gc
@cython.cclass
class Abbreviations:
    """A table of ``.debug_abbrev``: which attributes the entries of a unit have."""

    def __reduce__(self) -> object:
        raise TypeError("a place in memory can't be pickled")

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def find(self, cursor: Cursor, code: uint64_t) -> int64_t:
        """The number of the row of a code that an entry at `cursor` has."""
        number: object
        if code - 1 < self.count and self.rows[4 * (code - 1)] == code:
            return code - 1
        number = self.numbers.get(code)
        if number is None:
            raise cursor.bad(f"an entry of an unknown kind {code}")
        return number


@cython.cfunc
def read_abbreviations(section: Cursor, offset: uint64_t) -> Abbreviations:
    """The table at an offset."""
    cursor: Cursor = section.copy(offset)
    rows: carray.array = array("Q")
    attributes: carray.array = array("Q")
    code: uint64_t
    tag: uint64_t
    name: uint64_t
    form: uint64_t
    first: uint64_t
    count: uint64_t
    children: uint64_t
    found: Abbreviations = Abbreviations.__new__(Abbreviations)
    found.numbers = {}
    while True:
        item()
        code = cursor.uleb()
        if code == 0:
            break
        tag = cursor.uleb()
        children = cursor.fixed(1) != 0
        if tag > 0xFFFF:
            raise cursor.bad("an unknown tag")
        first = len(attributes) // 2
        count = 0
        while True:
            name = cursor.uleb()
            form = cursor.uleb()
            value = cursor.sleb() if form == _IMPLICIT_CONST else 0
            if name == 0 and form == 0:
                break
            if name > 0xFFFF or form > 0xFFFF or count == _MOST_ATTRIBUTES:
                raise cursor.bad("an unknown attribute, or too many")
            attributes.append(name | form << 32)
            attributes.append(value & 0xFFFFFFFFFFFFFFFF)
            count += 1
        if code != cython.cast(uint64_t, len(rows) // 4) + 1:
            found.numbers[code] = len(rows) // 4
        rows.extend((code, tag | children << 32, first, count))
    found.count = len(rows) // 4
    found.size = cursor.at - offset
    found.kept = rows, attributes
    found.rows = cython.cast(cython.pointer(uint64_t), rows.data.as_voidptr)
    found.attributes = cython.cast(cython.pointer(uint64_t), attributes.data.as_voidptr)
    return found


@cython.final
@cython.no_gc
@cython.cclass
class Unit:
    """A unit: mostly what one source file has been compiled to."""

    def __reduce__(self) -> object:
        raise TypeError("a place in memory can't be pickled")


seal(Abbreviations)
seal(Unit)


@cython.cfunc
def new_unit() -> Unit:
    """One that isn't read yet."""
    return Unit.__new__(Unit)


@cython.cfunc
@cython.exceptval(-1, check=False)
def read_value(
    unit: Unit, cursor: Cursor, attribute: cython.pointer(uint64_t), value: cython.pointer(Value)
) -> cython.int:
    """The value of an attribute at the cursor, and behind it."""
    form: uint64_t = attribute[0] >> 32
    hops: cython.int = 0
    while form == _INDIRECT:
        form = cursor.uleb()
        hops += 1
        if hops > 4 or form == _IMPLICIT_CONST:
            raise cursor.bad("forms that lead to forms")
    value.kind = NUMBER
    value.number = 0
    if form == 0x01:  # addr
        value.kind = ADDRESS
        value.number = cursor.fixed(unit.address_size)
    elif form == 0x0B or form == 0x0C:  # data1, flag
        value.number = cursor.fixed(1)
    elif form == 0x05:  # data2
        value.number = cursor.fixed(2)
    elif form == 0x06:  # data4
        value.number = cursor.fixed(4)
    elif form == 0x07:  # data8
        value.number = cursor.fixed(8)
    elif form == 0x0D:  # sdata
        value.number = cython.cast(uint64_t, cursor.sleb())
    elif form == 0x0F:  # udata
        value.number = cursor.uleb()
    elif form == 0x17:  # sec_offset
        value.number = cursor.fixed(unit.offset_size)
    elif form == 0x19:  # flag_present
        value.number = 1
    elif form == _IMPLICIT_CONST:
        value.number = attribute[1]
    elif form == 0x08:  # string
        value.kind = TEXT
        value.number = cursor.at
        cursor.at = cursor.string_end() + 1
    elif form == 0x0E:  # strp
        value.kind = TEXT_IN_STR
        value.number = cursor.fixed(unit.offset_size)
    elif form == 0x1F:  # line_strp
        value.kind = TEXT_IN_LINE_STR
        value.number = cursor.fixed(unit.offset_size)
    elif form == 0x1A or form == 0x1F02:  # strx
        value.kind = TEXT_NUMBER
        value.number = cursor.uleb()
    elif 0x25 <= form <= 0x28:  # strx1 to 4
        value.kind = TEXT_NUMBER
        value.number = cursor.fixed(form - 0x24)
    elif form == 0x1B or form == 0x1F01:  # addrx
        value.kind = ADDRESS_NUMBER
        value.number = cursor.uleb()
    elif 0x29 <= form <= 0x2C:  # addrx1 to 4
        value.kind = ADDRESS_NUMBER
        value.number = cursor.fixed(form - 0x28)
    elif 0x11 <= form <= 0x14:  # ref1, ref2, ref4, ref8
        value.kind = ENTRY
        value.number = unit.start + cursor.fixed(1 << (form - 0x11))
    elif form == 0x15:  # ref_udata
        value.kind = ENTRY
        value.number = unit.start + cursor.uleb()
    elif form == 0x10:  # ref_addr: an address in version 2
        value.kind = ENTRY
        value.number = cursor.fixed(unit.offset_size if unit.version > 2 else unit.address_size)
    elif form == 0x23:  # rnglistx
        value.kind = LIST_NUMBER
        value.number = cursor.uleb()
    else:
        value.kind = NOTHING
        if form == 0x09 or form == 0x18:  # block, exprloc
            cursor.skip(cursor.uleb())
        elif form == 0x0A:  # block1
            cursor.skip(cursor.fixed(1))
        elif form == 0x03:  # block2
            cursor.skip(cursor.fixed(2))
        elif form == 0x04:  # block4
            cursor.skip(cursor.fixed(4))
        elif form == 0x22:  # loclistx
            cursor.uleb()
        elif form == 0x1E:  # data16
            cursor.skip(16)
        elif form == 0x20 or form == 0x24:  # ref_sig8, ref_sup8
            cursor.skip(8)
        elif form == 0x1C:  # ref_sup4
            cursor.skip(4)
        elif form == 0x1D or form == 0x1F20 or form == 0x1F21:  # strp_sup, and what GNU had before
            cursor.skip(unit.offset_size)
        else:
            raise cursor.bad(f"an unknown form {hex(form)}")
    return 0


@cython.cfunc
def read_values(unit: Unit, cursor: Cursor, table: Abbreviations, wanted: frozenset) -> dict:
    """The `wanted` attributes of the entry at the cursor: (kind, number) by attribute; none: it ends a list."""
    found: dict = {}
    value = cython.declare(Value)
    i: uint64_t
    code: uint64_t = cursor.uleb()
    row: cython.pointer(uint64_t)
    if code:
        row = table.rows + 4 * table.find(cursor, code)
        for i in range(row[3]):
            read_value(unit, cursor, table.attributes + 2 * (row[2] + i), cython.address(value))
            name = table.attributes[2 * (row[2] + i)] & 0xFFFFFFFF
            if name in wanted:
                found[name] = value.kind, value.number
    return found
