cimport cython
from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlObject, WlType
from wasmloom.runtime.heap cimport Pin
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class Struct:
    cdef Store _store
    cdef Pin *pin                   # NULL while it is being made
    cdef WlObject *pointer
    cdef WlType *layout

    cdef uint64_t field(self, object key, bint written) except? 0

@cython.final
@cython.no_gc_clear
cdef class Array:
    cdef Store _store
    cdef Pin *pin
    cdef WlObject *pointer
    cdef WlType *layout
    cdef Py_ssize_t shape           # its length, for buffers
    cdef Py_ssize_t stride

    cdef uint64_t element(self, object key) except? 0
    cdef int check_written(self) except -1

cdef object object_at(Store store, uint64_t word)
