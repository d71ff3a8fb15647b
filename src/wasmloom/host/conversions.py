# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The conversion of values in both directions, by kind.

Values (after the JavaScript interface's ``ToWebAssemblyValue``, but without its silent wrapping):

=================== ============================================= =================================
Wasm type           from Python                                   to Python
=================== ============================================= =================================
i32, i64            an int (or `__index__`) in the signed or the  int, signed
                    unsigned range; `OverflowError` otherwise
f32, f64            a float, an int, or anything with `__float__` float; an f32 NaN keeps its bits
v128                16 bytes: bytes, or what has a buffer;        bytes
                    `ValueError` for another number of them
externref           any object; None is null                      the same object; null is None
i31ref              an int of 31 bits, signed or unsigned         int, signed; null is None
anyref              such an int, a `Struct`, an `Array`; any      the same; null is None
                    other object, as externref has it
(ref $t)            a `Struct` or `Array` of the type; None is    `Struct`, `Array`; null is None
                    null
funcref, (ref $t)   a `Func` of the same store; None is null      `Func`; null is None
exnref              a `WasmException`; None is null               `WasmException`; null is None
contref, (ref $ct)  a `Continuation`; None is null                `Continuation`; null is None
=================== ============================================= =================================

Each kind has a row in a table, set by the module with the Python class. For references of a type without a Python class
the only value is None.
"""

from __future__ import annotations

from operator import index

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.float import PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_Check
from cython.cimports.cpython.long import (
    PyLong_AsLongLongAndOverflow,
    PyLong_AsUnsignedLongLong,
    PyLong_Check,
    PyLong_FromLongLong,
)
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import INT32_MIN, UINT32_MAX, int32_t, int64_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract._layout import HOST_TAG
from cython.cimports.wasmloom.host.conversions import (
    Bits32,
    Bits64,
    ToObject,
    ToWord,
    convert,
    to_object,
)
from cython.cimports.wasmloom.host.signatures import (
    KIND_COUNT,
    KIND_F32,
    KIND_F64,
    KIND_I32,
    KIND_I64,
    KIND_V128,
    Kind,
    kind_of,
)
from cython.cimports.wasmloom.runtime.guests import c_stack_left
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system._capi import PyDict_GET_SIZE

from wasmloom.errors import WasmError
from wasmloom.spec.types import NULL_FLAG, ValType

_NULL = cython.declare(uint64_t, NULL_FLAG)
_VECTOR_BYTES = cython.declare(cython.Py_ssize_t, 16)


@cython.cfunc
@cython.exceptval(-1, check=False)
def look_at_c_stack() -> cython.int:
    """Raise `RecursionError` when the thread's C stack has no room for host code that may come back here.

    Python's limit counts calls and not bytes: threads can have small stacks, and programs raise the limit. An entry
    into a guest checks by itself, and leaves enough for the host functions that the guest calls.
    """
    if not c_stack_left():
        raise RecursionError("calls between host functions nest too deeply for this thread's stack")
    return 0


@cython.cfunc
def described(value: object) -> str:
    """What `value` is, for an error message."""
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


@cython.cfunc
def check_store(store: object) -> Store:
    """The first argument of a constructor."""
    if not isinstance(store, Store):
        raise TypeError(f"expected a Store, not {described(store)}")
    return store


@cython.cfunc
@cython.exceptval(-1, check=False)
def store_of(value: object, store: Store) -> cython.int:
    """Check that an object belongs to `store`; raises `ValueError`."""
    if value.store is not store:
        raise ValueError(f"{value!r} belongs to another store")
    return 0


# --- the table ---


@cython.cfunc
def set_conversion(kind: Kind, to: ToWord, back: ToObject) -> object:
    """Register the conversion of a kind of values. That of references isn't asked about None and null."""
    conversions[cython.cast(cython.int, kind)].to_word = to
    conversions[cython.cast(cython.int, kind)].to_object = back


@cython.cfunc
@cython.exceptval(-1, check=False)
def null_word(type: uint64_t, word: cython.pointer(uint64_t)) -> cython.int:
    """Convert None to a reference."""
    if not type & _NULL:
        raise TypeError(f"{ValType(type)} can't be None")
    word[0] = 0
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def to_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """Convert a Python value to the words of its slots. Raises `TypeError`, `OverflowError` and `ValueError`.

    May run any Python code.
    """
    return convert(store, type, cython.cast(Kind, kind_of(type)), value, word)


@cython.cfunc
def from_word(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    """The Python value of slots' words."""
    return to_object(store, type, cython.cast(Kind, kind_of(type)), word)


# --- numbers ---


@cython.cfunc
def _int_of(type: uint64_t, value: object) -> object:
    """The int that something is which isn't one."""
    look_at_c_stack()
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{ValType(type)} takes an int, not {described(value)}") from None


@cython.cfunc
@cython.exceptval(-1, check=False)
def _to_i32(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    overflow: cython.int = 0
    number: int64_t
    if not PyLong_Check(value):
        value = _int_of(type, value)
    number = PyLong_AsLongLongAndOverflow(value, cython.address(overflow))
    if overflow or number < INT32_MIN or number > cython.cast(int64_t, UINT32_MAX):
        raise OverflowError(f"{value} is out of range for i32")
    word[0] = cython.cast(uint32_t, number)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _to_i64(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    overflow: cython.int = 0
    number: int64_t
    if not PyLong_Check(value):
        value = _int_of(type, value)
    number = PyLong_AsLongLongAndOverflow(value, cython.address(overflow))
    if overflow > 0 and value >> 64 == 0:
        word[0] = PyLong_AsUnsignedLongLong(value)
    elif overflow:
        raise OverflowError(f"{value} is out of range for i64")
    else:
        word[0] = number
    return 0


@cython.cfunc
def _i32_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    return PyLong_FromLongLong(cython.cast(int32_t, cython.cast(uint32_t, word[0])))


@cython.cfunc
def _i64_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    return PyLong_FromLongLong(cython.cast(int64_t, word[0]))


@cython.cfunc
@cython.exceptval(-1, check=True)
def _double_of(type: uint64_t, value: object) -> cython.double:
    """The number that something is which isn't a float."""
    look_at_c_stack()
    try:
        return PyFloat_AsDouble(value)
    except TypeError:
        raise TypeError(f"{ValType(type)} takes a float, not {described(value)}") from None


@cython.cfunc
@cython.exceptval(-1, check=False)
def _to_f64(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    wide = cython.declare(Bits64)
    wide.number = PyFloat_AS_DOUBLE(value) if PyFloat_Check(value) else _double_of(type, value)
    word[0] = wide.word
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _to_f32(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """Rounds to nearest."""
    wide = cython.declare(Bits64)
    narrow = cython.declare(Bits32)
    wide.number = PyFloat_AS_DOUBLE(value) if PyFloat_Check(value) else _double_of(type, value)
    if wide.number != wide.number:
        # By hand, because the hardware's conversion would quieten a signalling NaN. A payload in the low bits alone is
        # lost; the result must not become an infinity.
        narrow.word = cython.cast(uint32_t, (wide.word >> 32) & 0x80000000) | 0x7F800000
        narrow.word |= cython.cast(uint32_t, (wide.word >> 29) & 0x7FFFFF)
        word[0] = narrow.word if narrow.word & 0x7FFFFF else narrow.word | 0x400000
    else:
        narrow.number = cython.cast(cython.float, wide.number)
        word[0] = narrow.word
    return 0


@cython.cfunc
def _f64_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    wide = cython.declare(Bits64)
    wide.word = word[0]
    return wide.number


@cython.cfunc
def _f32_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    wide = cython.declare(Bits64)
    narrow = cython.declare(Bits32)
    narrow.word = cython.cast(uint32_t, word[0])
    if narrow.number != narrow.number:  # by hand, as in _to_f32
        wide.word = cython.cast(uint64_t, narrow.word & 0x80000000) << 32 | cython.cast(uint64_t, 0x7FF) << 52
        wide.word |= cython.cast(uint64_t, narrow.word & 0x7FFFFF) << 29
    else:
        wide.number = narrow.number
    return wide.number


# --- vectors ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _to_v128(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """Of what has a buffer its bytes are copied, before anything else can run."""
    try:
        some = bytes(memoryview(value))
    except TypeError:
        raise TypeError(f"v128 takes 16 bytes, not {described(value)}") from None
    if len(some) != _VECTOR_BYTES:
        raise ValueError(f"v128 takes 16 bytes, not {len(some)}")
    memcpy(word, PyBytes_AS_STRING(some), _VECTOR_BYTES)
    return 0


@cython.cfunc
def _v128_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    return PyBytes_FromStringAndSize(cython.cast(cython.p_char, word), _VECTOR_BYTES)


# --- references ---


@cython.cfunc
def host_object(store: Store, word: uint64_t) -> object:
    """The host's object that a reference refers to."""
    if PyDict_GET_SIZE(store.references) == 0:
        raise WasmError("this store is being freed: its external references are gone")
    return cython.cast(object, cython.cast(cython.pointer(PyObject), word & ~cython.cast(uint64_t, HOST_TAG)))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _other_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """Of a kind that no module has a conversion for."""
    raise TypeError(f"{ValType(type)} takes only None from Python, not {described(value)}")


@cython.cfunc
def _other_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    raise TypeError(f"{ValType(type)} has no Python value")


def _register() -> None:
    kind: cython.int
    for kind in range(KIND_COUNT):
        set_conversion(cython.cast(Kind, kind), _other_word, _other_object)
    set_conversion(KIND_I32, _to_i32, _i32_object)
    set_conversion(KIND_I64, _to_i64, _i64_object)
    set_conversion(KIND_F32, _to_f32, _f32_object)
    set_conversion(KIND_F64, _to_f64, _f64_object)
    set_conversion(KIND_V128, _to_v128, _v128_object)


_register()
