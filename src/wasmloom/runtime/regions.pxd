from libc.stdint cimport uint64_t, uintptr_t

cdef enum:
    # Bytes of address space per memory: every i32 address + u32 offset, and one Wasm page for the access itself.
    RESERVATION = 0x200010000
    # Most memories that can be alive in the process: 47-bit user addresses hold no more reservations.
    MAX_REGIONS = 16384

cdef uintptr_t bases[16384]
cdef int used

cdef char *reserve() noexcept nogil
cdef bint commit(char *base, uint64_t old_length, uint64_t new_length) noexcept nogil
cdef void release(char *base) noexcept nogil
cdef bint in_region(void *address) noexcept nogil
