# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""JavaScript's strings for guests, with Python's: the imports of ``wasm:js-string``, and string constants.

A string of JavaScript is a sequence of code units of 16 bits, one of Python a sequence of code points. A `str` stands
for the code units that UTF-16 has for it; a surrogate in it stands for itself. So every sequence of code units is some
`str`, and those that differ only in whether a pair of surrogates is one code point or two are equal strings for the
guest. What is made here has pairs as one code point, so the host gets text.

Of a `str` without code points above U+FFFF, which its representation tells, code units and code points are the same.
Of others the code units are computed, and kept until they are asked for of another string: guests that go through a
string take constant time for each unit.

The store's limit counts an external reference, and not what it refers to. A guest that makes strings by doubling them
would have all memory in forty steps, so strings have a limit of their own here, as large as the store's: what is made
is added up, and when that is too much, what is left of it is counted.

Source: JS String Builtins, "JS String Builtin API" and "String constants" (part of the JavaScript interface of
WebAssembly 3.0).
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.cpython.unicode import (
    PyUnicode_4BYTE_KIND,
    PyUnicode_GET_LENGTH,
    PyUnicode_KIND,
    PyUnicode_READ_CHAR,
)
from cython.cimports.libc.stdint import int64_t, uint16_t, uint32_t, uint64_t
from cython.cimports.wasmloom.host.conversions import described
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system._capi import seal

from wasmloom.contract.traps import OUT_OF_MEMORY, TRAP_REASONS, UNREACHABLE
from wasmloom.errors import Trap
from wasmloom.host.bridge import Func
from wasmloom.host.externs import Global
from wasmloom.spec.canon import intern_composite
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXTERNREF,
    I16,
    I32,
    ArrayType,
    FieldType,
    FuncType,
    GlobalType,
    ref_type,
)

#: The module that the functions are imported from.
MODULE_NAME = "wasm:js-string"
_STRING = ref_type(ABSTRACT_HEAP_TYPES["extern"], False)
#: Strings of so many bytes are covered by what a reference counts for.
_SMALL = cython.declare(int64_t, 64)
_MOST = cython.declare(uint64_t, 1 << 62)
#: This part of the room for strings is kept, so that counting is seldom.
_KEPT = cython.declare(int64_t, 10)
#: A type without an array's place: the array has it.
_ARRAY = None
#: Name → parameters and result.
_TYPES = {
    "cast": ((EXTERNREF,), _STRING),
    "test": ((EXTERNREF,), I32),
    "fromCharCodeArray": ((_ARRAY, I32, I32), _STRING),
    "intoCharCodeArray": ((EXTERNREF, _ARRAY, I32), I32),
    "fromCharCode": ((I32,), _STRING),
    "fromCodePoint": ((I32,), _STRING),
    "charCodeAt": ((EXTERNREF, I32), I32),
    "codePointAt": ((EXTERNREF, I32), I32),
    "length": ((EXTERNREF,), I32),
    "concat": ((EXTERNREF, EXTERNREF), _STRING),
    "substring": ((EXTERNREF, I32, I32), _STRING),
    "equals": ((EXTERNREF, EXTERNREF), I32),
    "compare": ((EXTERNREF, EXTERNREF), I32),
}


@cython.cfunc
def _trap(name: str, detail: str) -> object:
    return Trap(TRAP_REASONS[UNREACHABLE], detail=f"{MODULE_NAME} {name}: {detail}")


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check(name: str, value: object) -> cython.int:
    """Raise `Trap` for what isn't a string."""
    if not isinstance(value, str):
        raise _trap(name, f"expected a string, not {described(value)}")
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_narrow(string: object) -> cython.bint:
    """Whether each code point of a string is one code unit."""
    return PyUnicode_KIND(string) != PyUnicode_4BYTE_KIND


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_high(unit: uint32_t) -> cython.bint:
    return unit >> 10 == 0xD800 >> 10


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_low(unit: uint32_t) -> cython.bint:
    return unit >> 10 == 0xDC00 >> 10


@cython.cfunc
@cython.exceptval(check=False)
def _size(string: object) -> int64_t:
    """The bytes of a string's code points."""
    return PyUnicode_GET_LENGTH(string) * PyUnicode_KIND(string)


@cython.cfunc
def _encoded(string: object) -> bytes:
    return string.encode("utf-16-le", "surrogatepass")


@cython.cfunc
def _decoded(units: object) -> object:
    return bytes(units).decode("utf-16-le", "surrogatepass")


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _unit(units: bytes, index: uint32_t) -> uint32_t:
    """A code unit. An object's bytes begin at a multiple of their alignment."""
    return cython.cast(cython.pointer(uint16_t), PyBytes_AS_STRING(units))[index]


@cython.final
@cython.no_gc_clear
@cython.cclass
class _Strings:
    """The functions. `last` is the string, if any, that `units` are of; both are replaced together."""

    last: object
    units: bytes
    store: object  # a weak reference: the store keeps the functions
    left: int64_t  # the bytes that can be made before strings are counted again

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def take(self, name: str, size: int64_t) -> cython.int:
        """Make room for a string of `size` bytes. Raises `Trap`."""
        self.left -= size
        return 0 if self.left >= 0 or size <= _SMALL else self.count(name, size)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count(self, name: str, size: int64_t) -> cython.int:
        """The slow path of `take`: find out how much room there is."""
        store: Store = self.store()
        limit: int64_t = min(store.guest.memory_limit, _MOST)
        store.sweep_within()
        used = sum([_size(value) for value in store.references.values() if isinstance(value, str)])
        limit -= limit // _KEPT
        self.left = max(limit - used - size, 0)
        if used + size > limit:
            raise Trap(TRAP_REASONS[OUT_OF_MEMORY], detail=f"{MODULE_NAME} {name}: {size} bytes")
        return 0

    @cython.cfunc
    def units_of(self, string: object) -> bytes:
        """The code units of a string."""
        made: bytes
        if self.last is not string:
            made = _encoded(string)
            self.last, self.units = string, made
        return self.units

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def length_of(self, string: object) -> cython.Py_ssize_t:
        if _is_narrow(string):
            return PyUnicode_GET_LENGTH(string)
        return PyBytes_GET_SIZE(self.units_of(string)) // 2

    def cast(self, string: object) -> object:
        """The string itself; traps for anything else."""
        _check("cast", string)
        return string

    def test(self, string: object) -> int:
        """Whether that is a string."""
        return isinstance(string, str)

    def fromCharCodeArray(self, array: object, start: object, end: object) -> object:
        """The string of an array's elements from `start` to before `end`."""
        first: uint32_t = start & 0xFFFFFFFF
        last: uint32_t = end & 0xFFFFFFFF
        if array is None:
            raise _trap("fromCharCodeArray", "the array is null")
        if first > last or last > len(array):
            raise _trap("fromCharCodeArray", f"{first} to {last} is no range of an array with {len(array)} elements")
        self.take("fromCharCodeArray", 2 * cython.cast(int64_t, last - first))
        return _decoded(memoryview(array)[first:last])

    def intoCharCodeArray(self, string: object, array: object, start: object) -> int:
        """Write a string's code units to an array; gives how many."""
        first: uint32_t = start & 0xFFFFFFFF
        if array is None:
            raise _trap("intoCharCodeArray", "the array is null")
        _check("intoCharCodeArray", string)
        units = _encoded(string)
        count = len(units) // 2
        if first + count > len(array):
            raise _trap("intoCharCodeArray", f"{count} code units from {first} on don't fit into {len(array)} elements")
        memoryview(array).cast("B")[2 * first : 2 * (first + count)] = units
        return count

    def fromCharCode(self, code: object) -> object:
        """The string of one code unit: the lower 16 bits of a number."""
        return chr(code & 0xFFFF)

    def fromCodePoint(self, point: object) -> object:
        """The string of one code point; traps for a number that is none."""
        number: uint32_t = point & 0xFFFFFFFF
        if number > 0x10FFFF:
            raise _trap("fromCodePoint", f"{number} is no code point")
        return chr(number)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def place(self, name: str, string: object, index: object) -> cython.Py_ssize_t:
        """A place in a string, which must be one."""
        at: uint32_t
        _check(name, string)
        at = index & 0xFFFFFFFF
        if at >= self.length_of(string):
            raise _trap(name, f"place {at} of a string with {self.length_of(string)} code units")
        return at

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def unit(self, string: object, units: object, at: cython.Py_ssize_t) -> int64_t:
        """A code unit; `units`: all of them, of a string that isn't narrow."""
        return PyUnicode_READ_CHAR(string, at) if units is None else _unit(cython.cast(bytes, units), at)

    def charCodeAt(self, string: object, index: object) -> int:
        """A code unit; traps beyond the end."""
        at: cython.Py_ssize_t = self.place("charCodeAt", string, index)
        return self.unit(string, None if _is_narrow(string) else self.units_of(string), at)

    def codePointAt(self, string: object, index: object) -> int:
        """The code point that begins with a code unit; traps beyond the end."""
        at: cython.Py_ssize_t = self.place("codePointAt", string, index)
        units = None if _is_narrow(string) else self.units_of(string)
        first: uint32_t = self.unit(string, units, at)
        second: uint32_t
        if _is_high(first) and at + 1 < self.length_of(string):
            second = self.unit(string, units, at + 1)
            if _is_low(second):
                return 0x10000 + ((first & 0x3FF) << 10) + (second & 0x3FF)
        return first

    def length(self, string: object) -> int:
        """How many code units a string has."""
        _check("length", string)
        return self.length_of(string)

    def concat(self, first: object, second: object) -> object:
        """One string behind the other."""
        high: uint32_t
        low: uint32_t
        n: cython.Py_ssize_t
        _check("concat", first)
        _check("concat", second)
        n = PyUnicode_GET_LENGTH(first)
        width: int64_t = max(PyUnicode_KIND(first), PyUnicode_KIND(second))
        self.take("concat", width * (n + PyUnicode_GET_LENGTH(second)))
        if n and PyUnicode_GET_LENGTH(second):
            high = PyUnicode_READ_CHAR(first, n - 1)
            low = PyUnicode_READ_CHAR(second, 0)
            if _is_high(high) and _is_low(low):
                pair = 0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF)
                return f"{first[: n - 1]}{chr(pair)}{second[1:]}"
        return first + second

    def substring(self, string: object, start: object, end: object) -> object:
        """The code units from `start` to before `end`, as far as there are any."""
        first: cython.Py_ssize_t
        last: cython.Py_ssize_t
        _check("substring", string)
        first, last = start & 0xFFFFFFFF, min(end & 0xFFFFFFFF, self.length_of(string))
        if first >= last:
            return ""
        self.take("substring", 2 * (last - first))
        if _is_narrow(string):
            return string[first:last]
        return _decoded(memoryview(self.units_of(string))[2 * first : 2 * last])

    def equals(self, first: object, second: object) -> int:
        """Whether two strings are equal; null is equal to itself."""
        if first is not None:
            _check("equals", first)
        if second is not None:
            _check("equals", second)
        if first is None or second is None or first == second:
            return first is second or (first is not None and second is not None)
        if _is_narrow(first) and _is_narrow(second):
            return 0
        return _encoded(first) == _encoded(second)

    def compare(self, first: object, second: object) -> int:
        """-1, 0 or 1, by code units."""
        _check("compare", first)
        _check("compare", second)
        if not _is_narrow(first) or not _is_narrow(second):
            first, second = [s.encode("utf-16-be", "surrogatepass") for s in (first, second)]
        return (first > second) - (first < second)


seal(_Strings)


class _Constants:
    """Strings as immutable globals, by themselves."""

    def __init__(self, store: object) -> None:
        self._store = store
        self._type = GlobalType(_STRING, False)

    def __getitem__(self, name: object) -> object:
        return Global(self._store, self._type, name)


def js_strings(store: Store, constants: str | None = "'") -> dict[str, Any]:
    """What modules import that use JavaScript's strings, for the imports of `Instance`; Python's strings are those.

    The functions of ``wasm:js-string``, and, under the name `constants`, each string as a global (None: no constants;
    compilers other than Binaryen have names of their own). A `str` stands for its code units in UTF-16, so a guest sees
    an emoji as two, and lone surrogates as they are. What traps in JavaScript raises `Trap` here, with the code
    "unreachable". Raises `TypeError` for what isn't a store, and for a name that isn't a string.

    Source: JS String Builtins (part of the JavaScript interface of WebAssembly 3.0).
    """
    strings: _Strings = _Strings.__new__(_Strings)
    strings.store = ref(store)
    array = ref_type(CONCRETE + intern_composite(ArrayType(FieldType(I16, True)), store.types), True)
    functions = {}
    for name, (params, result) in _TYPES.items():
        type = FuncType(tuple([array if param is _ARRAY else param for param in params]), (result,))
        functions[name] = Func(store, type, getattr(strings, name), f"{MODULE_NAME}.{name}")
    found: dict = {MODULE_NAME: functions}
    if constants is not None:
        found[constants] = _Constants(store)
    return found
