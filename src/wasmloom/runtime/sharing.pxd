cimport cython
from libc.stdint cimport uint32_t, uint64_t

from wasmloom.contract._layout cimport WlMemory
from wasmloom.runtime.guests cimport Guest

# One that waits at an address.
cdef struct Waiter:
    uint64_t address
    Waiter *next
    Waiter *previous
    int file                    # an eventfd, which is written when it is woken
    bint is_linked
    bint is_woken

cdef enum:
    BUCKETS = 64

cdef struct Bucket:
    void *lock                  # PyThread_type_lock
    Waiter *first
    Waiter *last

@cython.final
@cython.no_gc
cdef class Parked:
    cdef Waiter waiter

cdef bint new_shared(WlMemory *memory, uint64_t length) noexcept
cdef bint grow_shared(Guest *guest, WlMemory *memory, uint64_t pages, uint64_t *old) noexcept nogil
cdef uint64_t wake(uint64_t address, uint32_t count) noexcept nogil
