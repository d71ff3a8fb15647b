cimport cython
from libc.stdint cimport int64_t, uint64_t

@cython.final
cdef class Cursor:
    cdef readonly str name              # of the section, for messages
    cdef bytes data                     # keeps the bytes
    cdef const unsigned char *base      # offsets count from here
    cdef readonly uint64_t at           # the next byte
    cdef readonly uint64_t end
    cdef Cursor copy(self, uint64_t at)
    cdef int need(self, uint64_t size) except -1
    cdef int go(self, uint64_t at) except -1
    cdef int skip(self, uint64_t size) except -1
    cdef uint64_t fixed(self, int size) except? 7777
    cdef uint64_t _leb(self, bint signed) except? 7777
    cdef uint64_t uleb(self) except? 7777
    cdef int64_t sleb(self) except? 7777
    cdef uint64_t initial_length(self, int *offset_size) except? 7777
    cdef uint64_t string_end(self) except? 7777
    cdef str text(self)

# The next of many items is read: once in a while Python handles signals, and lets other threads run.
cdef int item() except -1
