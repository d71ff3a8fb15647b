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

cdef object memory_at(Store store, WlMemory *memory, object type)
cdef bytes read_bytes(WlMemory *pointer, object offset, object length)
cdef object write_bytes(WlMemory *pointer, object offset, object data)
cdef object get_item(WlMemory *pointer, object memory, object key)
cdef object set_item(WlMemory *pointer, object memory, object key, object value)
cdef object pages_to_grow(object pages)
cdef object cannot_grow(WlMemory *pointer, object old, object more, str limits)
cdef Table table_at(Store store, WlTable *table, object type)
cdef Global global_at(Store store, uint64_t *cell, object type)
