cimport cython
from libc.stdint cimport uint64_t

from wasmloom.binary.reader cimport Reader
from wasmloom.binary.sections cimport Range
from wasmloom.contract._layout cimport WlFunction, WlInstance
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class InstanceState:
    cdef readonly Store store
    cdef readonly object module
    cdef WlInstance *pointer
    cdef WlFunction **waits         # what waits in its shared memories
    cdef list imported_tables       # types of what imported tables really are
    cdef list memories              # types of all memories, imported ones what they really are
    cdef readonly tuple hosts       # for each imported function its `HostImport`, or None if it isn't the host's

    cdef int build(self, dict imports, bint bare) except -1
    cdef int fill_functions(self, list imported) except -1
    cdef int fill_globals(self, list imported) except -1
    cdef int fill_tables(self, list imported) except -1
    cdef int fill_memories(self, list imported) except -1
    cdef int fill_tags(self, list imported) except -1
    cdef int fill_segments(self) except -1
    cdef int run_segments(self) except -1
    cdef int drop_active(self) except -1
    cdef int evaluate(self, Range where, uint64_t *word) except -1
    cdef int run_expression(self, Reader *r, uint64_t *stack, uint64_t *word) except -1
