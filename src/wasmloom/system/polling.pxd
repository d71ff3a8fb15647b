from libc.stdint cimport int64_t, uint32_t

# Whether the guest that the calling thread stands in has no time left. Registered by wasmloom.runtime.guests.
ctypedef bint (*IsLate)() noexcept

cdef uint32_t items
cdef void set_is_late(IsLate function) noexcept
cdef int look() except -1 nogil

# One item of long work is done: an instruction, a byte vector, a name. Call wherever Python code may run and may raise:
# once in a while this takes the GIL if need be, lets other threads run, handles signals, and looks at the guest's
# deadline. Threads without the GIL may lose counts of each other, which only makes them look a little later.
cdef inline int poll() except -1 nogil:
    global items
    items += 1
    return look() if items & 1023 == 0 else 0

# The same for `count` items at once.
cdef inline int poll_many(uint32_t count) except -1 nogil:
    global items
    cdef uint32_t before = items
    items += count
    return look() if (before ^ items) >> 10 else 0
