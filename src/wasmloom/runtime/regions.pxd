from libc.stdint cimport uint64_t, uintptr_t

from wasmloom.contract._layout cimport WlMemory

cdef enum:
    # Bytes of address space per memory: every i32 address + u32 offset, and one Wasm page for the access itself.
    RESERVATION = 0x200010000
    # Most memories that can be alive in the process: 47-bit user addresses hold no more reservations.
    MAX_REGIONS = 16384

    # Reservations that are kept for the next memories.
    MAX_SPARES = 16

ctypedef struct Spare:
    char *base
    uint64_t length             # accessible bytes, all zero

cdef uintptr_t bases[16384]
cdef uint64_t extents[16384]
cdef int used
cdef Spare spares[16]
cdef int spare_count
cdef int checked_count

cdef bint new_region(WlMemory *memory, uint64_t length) noexcept nogil
cdef bint map_image(WlMemory *memory, int descriptor, uint64_t length) noexcept nogil
cdef bint grow_region(WlMemory *memory, uint64_t length) noexcept nogil
cdef void free_region(WlMemory *memory) noexcept nogil
cdef bint in_region(void *address) noexcept nogil
