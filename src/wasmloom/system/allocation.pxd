from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc as c_calloc
from libc.stdlib cimport malloc as c_malloc
from libc.stdlib cimport realloc as c_realloc
from posix.mman cimport MAP_FAILED
from posix.mman cimport madvise as c_madvise
from posix.mman cimport mmap as c_mmap
from posix.mman cimport mprotect as c_mprotect
from posix.mman cimport mremap as c_mremap
from posix.types cimport off_t

cdef enum:
    MADV_HUGEPAGE = 14

cdef uint64_t countdown             # 0: nothing is refused

cdef bint count_down() noexcept nogil

# Whether memory is to be refused here, for a test. Every place that can say that there is no memory asks.
cdef inline bint refused() noexcept nogil:
    return countdown != 0 and count_down()

# What C and the system call so.
cdef inline void *malloc(size_t size) noexcept nogil:
    return NULL if refused() else c_malloc(size)

cdef inline void *calloc(size_t count, size_t size) noexcept nogil:
    return NULL if refused() else c_calloc(count, size)

cdef inline void *realloc(void *memory, size_t size) noexcept nogil:
    return NULL if refused() else c_realloc(memory, size)

# `realloc` that raises MemoryError, with or without the GIL.
cdef inline void *grown(void *memory, size_t size) except NULL nogil:
    cdef void *result = realloc(memory, size)
    if result == NULL:
        with gil:
            raise MemoryError
    return result

cdef inline void *mmap(void *at, size_t size, int protection, int flags, int file, off_t offset) noexcept nogil:
    return MAP_FAILED if refused() else c_mmap(at, size, protection, flags, file, offset)

cdef inline void *mremap(void *memory, size_t old_size, size_t size, int flags) noexcept nogil:
    return MAP_FAILED if refused() else c_mremap(memory, old_size, size, flags)

cdef inline int mprotect(void *memory, size_t size, int protection) noexcept nogil:
    return -1 if refused() else c_mprotect(memory, size, protection)

# Have memory that isn't there yet come as huge pages, where the system has some: fewer faults, and fewer misses of TLBs.
cdef inline void prefer_huge_pages(void *memory, size_t size) noexcept nogil:
    c_madvise(memory, size, MADV_HUGEPAGE)
