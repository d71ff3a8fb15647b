cimport cython
from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlMemory, WlTable
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class Memory:
    cdef Store _store
    cdef WlMemory *pointer
    cdef object _max                # declared maximum in pages, or None

@cython.final
@cython.no_gc_clear
cdef class Table:
    cdef Store _store
    cdef WlTable *pointer
    cdef object element             # ValType
    cdef object _max                # declared maximum, or None

@cython.final
@cython.no_gc_clear
cdef class Global:
    cdef Store _store
    cdef uint64_t *cell
    cdef readonly object type       # GlobalType

cdef Memory memory_at(Store store, WlMemory *memory, object type)
cdef Table table_at(Store store, WlTable *table, object type)
cdef Global global_at(Store store, uint64_t *cell, object type)
