cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef enum:
    MAX_CODE_RANGES = 65536

# What a range of code is: compiled, or copied from stencils (`wasmloom.runtime.arena`).
cdef enum:
    COMPILED = 1
    STENCILS = 2

# Code, from `start` to `end`; read by the signal handler. Free when the end is 0.
ctypedef struct CodeRange:
    uint64_t start
    uint64_t end
    int kind

@cython.final
@cython.no_gc
cdef class CodeBudget:
    cdef readonly uint64_t limit
    cdef readonly uint64_t used

    cdef bint has(self, uint64_t size) noexcept
    cdef int take(self, uint64_t size) except -1
    cdef void give_back(self, uint64_t size) noexcept

@cython.final
@cython.no_gc
cdef class CodeMemory:
    cdef char *base
    cdef readonly uint64_t size
    cdef uint64_t weight                # bytes that count for a budget
    cdef CodeRange *range               # NULL: nothing in it is executable code
    # Others that live as long as this one: owned references.
    cdef PyObject **attached
    cdef uint64_t count
    cdef uint64_t room
    cdef CodeBudget budget              # whose modules it is of, or None
    cdef uint64_t counted               # bytes taken from that

cdef CodeRange *new_range(uint64_t start, uint64_t end, int kind) noexcept
cdef int code_at(uint64_t address) noexcept nogil

# Whether an address lies in compiled code. Async-signal-safe.
cdef inline bint in_code(uint64_t address) noexcept nogil:
    return code_at(address) == COMPILED
