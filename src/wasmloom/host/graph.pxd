cimport cython
from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlObject
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class Reading:
    cdef Store store
    cdef object thing, name, other
    cdef dict numbers               # word -> number
    cdef list met                   # words
    cdef bint holds

    cdef object reference(self, uint64_t word, uint64_t type, str where)
    cdef object contents(self, uint64_t word, object number)

@cython.final
@cython.no_gc_clear
cdef class Making:
    cdef Store store
    cdef object thing, other
    cdef list made                  # words
    cdef bint holds

    cdef WlObject *object_at(self, object number) except *
    cdef int word(self, object value, uint64_t type, uint64_t *word) except -1
