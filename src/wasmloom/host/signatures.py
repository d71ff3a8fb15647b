# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Signatures: function types, prepared for the conversion of values (see `wasmloom.host.conversions`)."""

from __future__ import annotations

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.ref import Py_INCREF
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.wasmloom.host.signatures import (
    KIND_ANY,
    KIND_CONT,
    KIND_COUNT,
    KIND_EXN,
    KIND_EXTERN,
    KIND_FUNC,
    KIND_OTHER,
    KIND_V128,
    kind_bits,
    kind_is_float,
)
from cython.cimports.wasmloom.spec.canon import TypeInfo, heap_matches, type_info
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import malloc
from cython.cimports.wasmloom.target._processor import INTEGER_ARGUMENTS

from wasmloom.semantics.kinds import NUMBERS, SLOT_BITS, of_type
from wasmloom.spec.canon import func_type
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, HEAP_SHIFT, REF_FLAG

_REF = cython.declare(uint64_t, REF_FLAG)
_FUNC_HEAP = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["func"])
_CONT_HEAP = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["cont"])
_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_EXTERN_HEAP = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["extern"])
_ANY_HEAP = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["any"])
_EXN_HEAP = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["exn"])
#: The types of numbers, by kind: their kinds are numbered as in `wasmloom.semantics.kinds`.
_NUMBERS = cython.declare(cython.int, len(NUMBERS))
_number_types = cython.declare(uint64_t[KIND_FUNC])


def _fill_tables() -> None:
    kind: cython.int
    if sorted(kind.code for kind in NUMBERS.values()) != list(range(KIND_FUNC)):
        raise ValueError("kinds of numbers have other codes here")
    for kind in range(KIND_COUNT):
        kind_bits[kind] = SLOT_BITS
        kind_is_float[kind] = False
    for type, number in NUMBERS.items():
        kind = number.code
        _number_types[kind] = type
        kind_bits[kind] = number.bits
        kind_is_float[kind] = number.is_float


_fill_tables()


@cython.cfunc
@cython.exceptval(-1, check=False)
def kind_of(type: uint64_t) -> cython.int:
    """The kind that says how values of a type are converted. Raises ValueError for what isn't a value type."""
    heap: uint64_t = type >> _SHIFT
    kind: cython.int
    for kind in range(_NUMBERS):
        if type == _number_types[kind]:
            return kind
    if not type & _REF:
        of_type(type)  # says what is wrong
    if heap_matches(heap, _FUNC_HEAP):
        return KIND_FUNC
    if heap == _EXTERN_HEAP:
        return KIND_EXTERN
    if heap == _EXN_HEAP:
        return KIND_EXN
    if heap_matches(heap, _ANY_HEAP):
        return KIND_ANY
    return KIND_CONT if heap_matches(heap, _CONT_HEAP) else KIND_OTHER


@cython.no_gc_clear
@cython.cclass
class Signature:
    """A function type, prepared for conversions. There is one per canonical type, which owns it.

    So a user of one must keep the type alive: it goes with the type's last user.
    """

    def __cinit__(self, type_id: uint32_t) -> None:
        i: uint32_t
        self.type = func_type(type_id)
        self.type_id = type_id
        types = [*self.type.params, *self.type.results]
        self.n_params = len(self.type.params)
        self.n_results = len(self.type.results)
        self.kinds = cython.cast(cython.pointer(cython.uchar), malloc(len(types) + 1))
        self.types = cython.cast(cython.pointer(uint64_t), malloc(cython.sizeof(uint64_t) * len(types) + 1))
        self.places = cython.cast(cython.pointer(uint32_t), malloc(cython.sizeof(uint32_t) * len(types) + 1))
        if self.kinds == cython.NULL or self.types == cython.NULL or self.places == cython.NULL:
            raise MemoryError
        for i in range(len(types)):
            if i < self.n_params:
                self.places[i] = self.param_slots
                self.param_slots += of_type(types[i]).slots
            else:
                self.places[i] = self.result_slots
                self.result_slots += of_type(types[i]).slots
        self.in_integers = self.n_params <= INTEGER_ARGUMENTS and self.n_results <= 1
        for i in range(len(types)):
            self.types[i] = types[i]
            self.kinds[i] = kind_of(self.types[i])
            if (i < self.n_params and kind_is_float[self.kinds[i]]) or self.kinds[i] == KIND_V128:
                self.in_integers = False

    def __dealloc__(self) -> None:
        free(self.kinds)
        free(self.types)
        free(self.places)


seal(Signature)


@cython.cfunc
def signature_of(type_id: uint32_t) -> Signature:
    """The signature of a canonical function type, which the caller keeps alive."""
    info: cython.pointer(TypeInfo) = type_info(type_id)
    made: Signature
    if info.signature == cython.NULL:
        made = Signature.__new__(Signature, type_id)
        if info.signature == cython.NULL:  # it may have been made meanwhile
            Py_INCREF(made)
            info.signature = cython.cast(cython.pointer(PyObject), made)
    return cython.cast(Signature, cython.cast(object, info.signature))
