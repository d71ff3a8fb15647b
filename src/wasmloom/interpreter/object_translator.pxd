from libc.stdint cimport uint32_t, uint64_t

from wasmloom.interpreter.assembler cimport Operand

cdef enum:
    # Besides the tests of wasmloom.semantics.aggregates: null says all, and the runtime has to find out.
    ALWAYS = 64
    NEVER = 65
    FUNCTION = 66
    EXACT_FUNCTION = 67

# How a test for a heap type is made.
cdef struct Target:
    int test
    uint32_t type           # the type's index
    uint32_t depth

# The field or the element that an instruction names.
cdef struct Member:
    bint is_element
    int operands            # how many say it
    uint64_t storage        # its type
    uint32_t offset         # of a field
    int array               # of an element: the array's slot
    Operand last            # the struct, or the index
