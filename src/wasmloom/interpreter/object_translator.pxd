from libc.stdint cimport uint32_t

cdef enum:
    # Besides the tests of wasmloom.semantics.aggregates: null says all, and the runtime has to find out.
    ALWAYS = 64
    NEVER = 65
    FUNCTION = 66

# How a test for a heap type is made.
cdef struct Target:
    int test
    uint32_t type           # the type's index
    uint32_t depth
