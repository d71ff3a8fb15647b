# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Reading a section of debug information, byte by byte.

Invariants: `at` never passes `end`, and `end` never the section. Every read checks that first. Numbers that a length is
made of are compared with what is left before they are added to anything.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.exc import PyErr_CheckSignals
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.libc.string import memchr

from wasmloom.system.interruption import look_up

#: A longer string is none: names of C++ may take some KiB.
MOST_LETTERS = 1 << 16
#: A LEB128 number has at most this many bytes. Compilers pad those that linkers fill in.
MOST_BYTES = 16
#: After so many items signals are handled.
_ITEMS = cython.declare(uint64_t, 1 << 14)
_items = cython.declare(uint64_t, 0)


class BadDebugInfo(Exception):
    """Debug information is damaged, or of a kind that isn't read. It never leaves `wasmloom.debuginfo`."""


@cython.cfunc
@cython.exceptval(-1, check=False)
def item() -> cython.int:
    """See ``cursor.pxd``. It isn't `poll`: backtraces of guests that are out of time are told, too."""
    global _items
    _items += 1
    if _items % _ITEMS == 0:
        PyErr_CheckSignals()
        look_up()
    return 0


@cython.final
@cython.cclass
class Cursor:
    """A place in ``data[start:end]``, the section `name`."""

    def __cinit__(self, data: bytes, start: uint64_t, end: uint64_t, name: str) -> None:
        size: uint64_t = PyBytes_GET_SIZE(data)
        if not start <= end <= size:
            raise ValueError("no such range")
        self.name = name
        self.data = data
        self.base = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data)) + start
        self.at = 0
        self.end = end - start

    def __reduce__(self) -> object:
        raise TypeError("a place in memory can't be pickled")

    def bad(self, what: str) -> Exception:
        """The error at this place."""
        return BadDebugInfo(f"{self.name}, offset {hex(self.at)}: {what}")

    @cython.cfunc
    def copy(self, at: uint64_t) -> Cursor:
        """Another one, elsewhere in the section, up to its end."""
        found: Cursor = Cursor.__new__(Cursor, b"", 0, 0, self.name)
        found.data = self.data
        found.base = self.base
        found.end = self.end
        found.go(at)
        return found

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def need(self, size: uint64_t) -> cython.int:
        """Raise `BadDebugInfo` unless there are so many bytes."""
        if size > self.end - self.at:
            raise self.bad("it ends too early")
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def go(self, at: uint64_t) -> cython.int:
        """To an offset."""
        if at > self.end:
            raise self.bad(f"no offset {hex(at)}")
        self.at = at
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def skip(self, size: uint64_t) -> cython.int:
        """So many bytes."""
        self.need(size)
        self.at += size
        return 0

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def fixed(self, size: cython.int) -> uint64_t:
        """A number of `size` bytes, little-endian; of more than 8 the lower half."""
        value: uint64_t = 0
        i: cython.int
        self.need(size)
        for i in range(min(size, 8)):
            value |= cython.cast(uint64_t, self.base[self.at + i]) << 8 * i
        self.at += size
        return value

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def uleb(self) -> uint64_t:
        """A LEB128 number, modulo 2**64."""
        return self._leb(False)

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def sleb(self) -> int64_t:
        """A signed LEB128 number, modulo 2**64."""
        return cython.cast(int64_t, self._leb(True))

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def _leb(self, signed: cython.bint) -> uint64_t:
        value: uint64_t = 0
        i: cython.int
        byte: uint64_t
        for i in range(MOST_BYTES):
            self.need(1)
            byte = self.base[self.at]
            self.at += 1
            if i < 10:
                value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                if signed and byte & 0x40 and i < 9:
                    value |= ~cython.cast(uint64_t, 0) << 7 * (i + 1)
                return value
        raise self.bad("a number that is too long")

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def initial_length(self, offset_size: cython.pointer(cython.int)) -> uint64_t:
        """The length that a unit begins with, and how large its offsets are (DWARF 5, 7.4); returns where it ends."""
        size: uint64_t = self.fixed(4)
        offset_size[0] = 4
        if size == 0xFFFFFFFF:
            offset_size[0] = 8
            size = self.fixed(8)
        elif size >= 0xFFFFFFF0:
            raise self.bad("an unknown kind of length")
        self.need(size)
        return self.at + size

    @cython.cfunc
    @cython.exceptval(7777, check=True)
    def string_end(self) -> uint64_t:
        """Where the string that begins here has its zero."""
        most: uint64_t = min(self.end - self.at, cython.cast(uint64_t, MOST_LETTERS))
        start: cython.p_const_uchar = self.base + self.at
        zero: cython.p_const_uchar = cython.NULL
        if most:
            zero = cython.cast(cython.p_const_uchar, memchr(start, 0, most))
        if zero == cython.NULL:
            raise self.bad("a string without end")
        return self.at + cython.cast(uint64_t, zero - start)

    @cython.cfunc
    def text(self) -> str:
        """The string that begins here, and behind it. What isn't UTF-8 is replaced."""
        end: uint64_t = self.string_end()
        found: bytes = cython.cast(cython.p_const_char, self.base + self.at)[: end - self.at]
        self.at = end + 1
        return found.decode("utf-8", "replace")

    def name_alone(self) -> str:
        """The name that is all that the section has: its length and UTF-8."""
        inside: Cursor = self.copy(0)
        size: uint64_t = inside.uleb()
        inside.need(min(size, cython.cast(uint64_t, MOST_LETTERS)))
        found: bytes = cython.cast(cython.p_const_char, inside.base + inside.at)[: min(size, MOST_LETTERS)]
        return found.decode("utf-8", "replace")
