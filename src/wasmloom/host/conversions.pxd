from cpython.object cimport PyObject
from libc.stdint cimport INT32_MIN, UINT32_MAX, int64_t, uint32_t, uint64_t

from wasmloom.host.signatures cimport KIND_COUNT, KIND_FUNC, KIND_I32, Kind
from wasmloom.runtime.store cimport Store
from wasmloom.system._capi cimport int_of, is_int

ctypedef union Bits32:
    uint32_t word
    float number

ctypedef union Bits64:
    uint64_t word
    double number

ctypedef int (*ToWord)(Store store, uint64_t type, object value, uint64_t *word) except -1
ctypedef object (*ToObject)(Store store, uint64_t type, const uint64_t *word)

# How values of a kind are converted.
ctypedef struct Conversion:
    ToWord to_word
    ToObject to_object

cdef Conversion conversions[KIND_COUNT]

cdef set_conversion(Kind kind, ToWord to, ToObject back)
cdef int null_word(uint64_t type, uint64_t *word) except -1
cdef int to_word(Store store, uint64_t type, object value, uint64_t *word) except -1
cdef object from_word(Store store, uint64_t type, const uint64_t *word)
cdef int look_at_c_stack() except -1
cdef object host_object(Store store, uint64_t word)
cdef str described(object value)
cdef Store check_store(object store)
cdef int store_of(object value, Store store) except -1

# The words of a Python value, and the value of words, for a type whose kind is known.
cdef inline int convert(Store store, uint64_t type, Kind kind, object value, uint64_t *word) except -1:
    if kind >= KIND_FUNC and value is None:
        return null_word(type, word)
    return conversions[<int>kind].to_word(store, type, value, word)

cdef inline object to_object(Store store, uint64_t type, Kind kind, const uint64_t *word):
    if kind >= KIND_FUNC and word[0] == 0:
        return None
    return conversions[<int>kind].to_object(store, type, word)

# Convert an int to i32, if that is the conversion. False leaves it to the functions that raise errors.
cdef inline bint i32_fast(Kind kind, PyObject *value, uint64_t *word) noexcept:
    cdef int overflow = 0
    cdef int64_t number
    if kind != KIND_I32 or not is_int(value):
        return False
    number = int_of(value, &overflow)
    if overflow or number < INT32_MIN or number > <int64_t>UINT32_MAX:
        return False
    word[0] = <uint32_t>number
    return True
