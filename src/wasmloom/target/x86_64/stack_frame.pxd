# Frames on native stacks (System V ABI): the frame pointer leads to that of the caller, above it is the return address.
from libc.stdint cimport uint64_t

cdef enum:
    # The alignment of the stack pointer where a function is called.
    STACK_ALIGNMENT = 16

# Where the caller of the function that has this frame goes on.
cdef inline uint64_t return_address(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[1]

cdef inline uint64_t outer_frame(uint64_t frame) noexcept nogil:
    return (<uint64_t *>frame)[0]
