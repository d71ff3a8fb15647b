from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlMemory, WlTable
from wasmloom.runtime.guests cimport Guest
from wasmloom.runtime.store cimport Store

cdef enum:
    FIRST_STACK = 65536         # bytes of value stack that a store begins with

# How growing ends: a limit of the guest's may prevent it, or what is left of the host's memory.
cdef enum Growth:
    GROWN
    LIMITED
    NO_MEMORY

cdef uint64_t enlarge_stack(Guest *guest, uint64_t needed) noexcept nogil
cdef bint reserve_stack(Guest *guest) noexcept nogil

cdef uint64_t most_pages(bint is64, uint64_t page_bits) noexcept nogil
cdef WlMemory *new_memory(Store store, uint64_t pages, uint64_t max_pages, bint is64, uint64_t page_bits)
cdef Growth grow_memory(Store store, WlMemory *memory, uint64_t pages, uint64_t *size) noexcept nogil

cdef WlTable *new_table(Store store, uint64_t length, uint64_t max, bint is64, uint64_t word)
cdef Growth grow_table(Store store, WlTable *table, uint64_t more, uint64_t word) noexcept nogil

# Make the value stack at least `needed` bytes, by doubling; it may move. Returns a trap code, or 0.
cdef inline uint64_t grow_stack(Guest *guest, uint64_t needed) noexcept nogil:
    cdef uint64_t code = 0
    if needed > <uint64_t>(guest.ctx.stack_end - guest.ctx.stack_base):
        code = enlarge_stack(guest, needed)
    if code == 0:
        guest.ctx.stack_limit = guest.ctx.stack_end
    return code
