from libc.stdint cimport uint64_t

# What is below a frame of bytecode on its stack.
cdef enum Below:
    CALLER
    END_OF_CONTINUATION
    END_OF_ENTRY
    END_OF_BYTECODE         # compiled code has called the function, on the native stack of the entry

# Where a walk down a stack of bytecode has got to: a frame, and what it knows of the function that runs in it.
cdef struct Cursor:
    uint64_t ip             # in the instruction in which it stands
    uint64_t fp
    uint64_t instance       # WlInstance*
    uint64_t results        # where the results of what it has called go

cdef Below to_caller(Cursor *cursor, uint64_t return_ip) noexcept nogil
cdef uint64_t calling_instance(uint64_t fp, uint64_t return_ip) noexcept nogil
