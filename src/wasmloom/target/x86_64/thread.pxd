# What a thread has at a fixed place, and what only the kernel can do for all threads.
from libc.stdint cimport uint64_t

cdef enum:
    # Offset in the thread's control block, which is what pthread_self() and FS point to (glibc): the word that compiled
    # code compares its stack pointer with.
    LIMIT_WORD = 112

# Set the limit of the stack that another thread runs on; the highest number lets every comparison fail. The thread must
# exist, and run guest code.
cdef inline void set_stack_limit_of(uint64_t thread, uint64_t limit) noexcept nogil:
    (<uint64_t *>(thread + LIMIT_WORD))[0] = limit
