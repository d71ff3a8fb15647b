from libc.stdint cimport uint64_t

from wasmloom.runtime._layout cimport WlCont, WlContext, WlException
from wasmloom.runtime.guests cimport Guest

cdef enum:
    INLINE_WORDS = 31           # words of stack in a continuation's own block
    SLAB_SIZE = 256             # continuations that are allocated together

# A continuation with the stack that it begins with.
ctypedef struct Block:
    WlCont cont
    uint64_t words[31]

# Continuations that were allocated together.
ctypedef struct Slab:
    Slab *next
    Block blocks[256]

cdef WlCont *_take(Guest *guest) noexcept nogil
cdef bint move_stack(Guest *guest, WlCont *owner, uint64_t size) noexcept nogil
cdef void end_stack(Guest *guest, WlCont *cont) noexcept nogil
cdef void unwind_to(Guest *guest, WlCont *root) noexcept nogil
cdef void free_stacks(Guest *guest) noexcept
cdef char *memory_of(Guest *guest, void *owner) noexcept nogil
