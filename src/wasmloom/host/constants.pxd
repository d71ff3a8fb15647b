from libc.stdint cimport uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.binary.reader cimport Instr
from wasmloom.contract._layout cimport WlInstance
from wasmloom.runtime.store cimport Store

cdef bint has_objects(DecodedModule module) noexcept
cdef int fill_types(DecodedModule module, WlInstance *instance, size_t count) except -1
cdef size_t run_constant(Store store, WlInstance *instance, Instr *i, uint64_t *stack, size_t top) except? 0
