from libc.stdint cimport uint64_t

from wasmloom.runtime.heap cimport Heap

cdef void remember(Heap *heap, uint64_t time) noexcept nogil
cdef object statistics_of(Heap *heap)
