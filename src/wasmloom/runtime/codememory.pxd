cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef enum:
    MAX_CODE_RANGES = 65536

# Compiled code, from `start` to `end`; read by the signal handler. Free when the end is 0.
ctypedef struct CodeRange:
    uint64_t start
    uint64_t end

@cython.final
@cython.no_gc
cdef class CodeMemory:
    cdef char *base
    cdef readonly uint64_t size
    cdef CodeRange *range               # NULL: nothing in it is executable code
    # Others that live as long as this one: owned references.
    cdef PyObject **attached
    cdef uint64_t count
    cdef uint64_t room

cdef bint in_code(uint64_t address) noexcept nogil
