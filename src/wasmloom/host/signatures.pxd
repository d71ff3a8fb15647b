cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum Kind:
    # How values of a type are converted: numbers and vectors as in wasmloom.semantics.kinds, then references.
    KIND_I32
    KIND_I64
    KIND_F32
    KIND_F64
    KIND_V128
    KIND_FUNC
    KIND_EXTERN
    KIND_EXN
    KIND_CONT
    KIND_ANY
    KIND_OTHER
    KIND_COUNT

cdef uint8_t kind_bits[KIND_COUNT]
cdef uint8_t kind_is_float[KIND_COUNT]

@cython.final
@cython.no_gc_clear
cdef class Signature:
    cdef readonly object type           # FuncType
    cdef readonly uint32_t type_id
    cdef uint32_t n_params
    cdef uint32_t n_results
    cdef uint32_t param_slots           # how many slots (words) all parameters take, one after the other …
    cdef uint32_t result_slots
    cdef uint32_t *places               # … and where each parameter is among them; then each result among the results
    cdef bint in_integers               # all parameters are in integer registers, and there is at most one result
    cdef uint8_t *kinds                 # Kind of each parameter, then of each result
    cdef uint64_t *types                # the value types, in the same order

cdef int kind_of(uint64_t type) except -1
cdef Signature signature_of(uint32_t type_id)
