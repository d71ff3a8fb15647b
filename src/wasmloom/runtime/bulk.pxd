from libc.stdint cimport uint64_t
from libc.string cimport memmove, memset

# Called between two slices. Returns 0, or a code that ends the operation. Everything may have moved when it returns.
ctypedef int (*Between)(void *) noexcept nogil

cdef enum:
    SLICE = 16777216            # bytes that are moved or filled at a time, some milliseconds

cdef int move_slices(
    char **to, uint64_t target, char **origin, uint64_t source, uint64_t count, Between between, void *argument
) noexcept nogil
cdef int fill_slices(
    char **to, uint64_t target, int byte, uint64_t count, Between between, void *argument
) noexcept nogil
cdef int look_between(void *argument) noexcept nogil
cdef int move_for_host(char **to, uint64_t target, char **origin, uint64_t source, uint64_t count) except -1

# Copy `count` bytes from an offset in one area to an offset in another, or in the same; overlaps are handled. Areas
# are named by the places that hold their addresses. Returns the code of `between` if that ended it, else 0.
cdef inline int move(
    char **to, uint64_t target, char **origin, uint64_t source, uint64_t count, Between between, void *argument
) noexcept nogil:
    if count > SLICE:
        return move_slices(to, target, origin, source, count, between, argument)
    if count:
        memmove(to[0] + target, origin[0] + source, count)
    return 0

# Set `count` bytes from an offset in an area on.
cdef inline int fill(
    char **to, uint64_t target, int byte, uint64_t count, Between between, void *argument
) noexcept nogil:
    if count > SLICE:
        return fill_slices(to, target, byte, count, between, argument)
    if count:
        memset(to[0] + target, byte, count)
    return 0
