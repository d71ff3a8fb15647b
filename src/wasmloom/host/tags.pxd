cimport cython
from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlTag
from wasmloom.runtime.heap cimport Pin
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class Tag:
    cdef Store _store
    cdef WlTag *pointer
    cdef readonly object type       # FuncType

# A reference to something in a store's heap, which it keeps alive.
@cython.final
@cython.no_gc_clear
cdef class Reference:
    cdef Store _store
    cdef Pin *pin
    cdef WlTag *tag                 # of an exception; NULL: a continuation

cdef Reference hold(Store store, uint64_t word)
cdef Tag tag_at(Store store, WlTag *tag)
cdef WlTag *new_tag(Store store, uint64_t type_id) except *
cdef object exception_of(Store store, uint64_t word)
cdef uint64_t word_of_exception(Store store, object error) except *
