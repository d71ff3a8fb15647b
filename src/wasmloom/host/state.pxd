cimport cython
from libc.stdint cimport uint64_t

from wasmloom.runtime._layout cimport WlInstance
from wasmloom.runtime.store cimport Store

cdef class InstanceState:
    cdef readonly Store store
    cdef readonly object module
    cdef WlInstance *pointer
    cdef list tables                # types of all tables and memories, imports with what they really are
    cdef list memories

    cdef int build(self, dict imports) except -1
    cdef int fill_functions(self, list imported) except -1
    cdef int fill_globals(self, list imported) except -1
    cdef int fill_tables(self, list imported) except -1
    cdef int fill_memories(self, list imported) except -1
    cdef int fill_tags(self, list imported) except -1
    cdef int fill_segments(self) except -1
    cdef int run_segments(self) except -1
    cdef int evaluate(self, object expr, uint64_t *word) except -1
