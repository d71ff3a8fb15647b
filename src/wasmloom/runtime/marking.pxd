from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlCont, WlException
from wasmloom.runtime.guests cimport Guest
from wasmloom.runtime.heap cimport Heap

cdef extern from *:
    # Let the processor bring what is at an address into its caches. Any address will do.
    void fetch "__builtin_prefetch" (const void *) nogil

cdef enum:
    AHEAD = 8                   # objects that are being fetched, a power of two

# A collection that is under way: what is marked but has not been looked into yet, linked by `next`.
ctypedef struct Marking:
    Guest *guest
    Heap *heap
    void *store
    WlCont *conts
    WlException *exceptions
    uint64_t marked             # objects in `heap.marks`
    bint overflown              # more have been marked than there was room for

cdef void visit(Marking *m, uint64_t word) noexcept nogil
cdef void visit_range(Marking *m, void *start, uint64_t count) noexcept nogil
cdef void drain(Marking *m) noexcept nogil
cdef void look_into_marked(Marking *m) noexcept nogil
