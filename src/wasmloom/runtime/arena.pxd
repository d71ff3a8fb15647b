cimport cython
from libc.stdint cimport uint64_t

from wasmloom.runtime.codememory cimport CodeRange

@cython.final
@cython.no_gc
cdef class Arena:
    cdef char *base
    cdef uint64_t size
    cdef uint64_t code_room
    cdef char *code_end         # where the next code goes
    cdef char *code_ready       # pages up to here are accessible …
    cdef char *sealed           # … and up to here executable
    cdef char *data_end
    cdef char *data_ready
    cdef CodeRange *range

    cdef char *data(self, uint64_t size) noexcept
    cdef char *code(self, uint64_t size) noexcept
    cdef bint seal(self) noexcept
    cdef bint holds(self, void *address) noexcept
