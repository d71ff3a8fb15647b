cimport cython
from libc.stdint cimport uint64_t

@cython.final
@cython.no_gc
cdef class EpochCounter:
    cdef uint64_t now
