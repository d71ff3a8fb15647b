from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlCont, WlContext, WlException
from wasmloom.runtime.guests cimport Guest

# Frees what nothing refers to. Registered by the collector.
ctypedef void (*Collect)(WlContext *) noexcept nogil

cdef enum:
    # Of WlCont.state:
    INTERPRETED_BIT = 60        # a suspended stack of bytecode, in a store that runs compiled code
    STAYS_BIT = 61              # see `stays`

# Called when a continuation has been made or freed.
ctypedef void (*OnEvent)(Guest *, const char *, WlCont *) noexcept nogil

cdef Collect collect
cdef OnEvent on_event               # NULL: nothing listens

cdef bint chain_is_full(Guest *guest) noexcept nogil
cdef bint is_interpreted(WlCont *cont) noexcept nogil
cdef bint stays(WlCont *cont) noexcept nogil
cdef uint64_t bound_of(WlCont *cont) noexcept nogil
cdef uint64_t state_of(WlCont *cont) noexcept nogil
cdef WlCont *last_of(WlCont *cont) noexcept nogil
cdef void look_first(WlCont *cont) noexcept nogil
cdef void begin_revisions(WlCont *cont) noexcept nogil
cdef bint is_worn(WlCont *cont) noexcept nogil
cdef bint is_young(WlCont *cont) noexcept nogil
cdef void set_collector(Collect function) noexcept
cdef void set_on_event(OnEvent function) noexcept
cdef WlException *new_exception(Guest *guest, uint64_t count) noexcept nogil
cdef WlCont *take(Guest *guest, bint collects) noexcept nogil
cdef bint give_memory(Guest *guest, WlCont *cont, uint64_t size) noexcept nogil
cdef bint move_stack(Guest *guest, WlCont *owner, uint64_t size) noexcept nogil
cdef void end_stack(Guest *guest, WlCont *cont) noexcept nogil
cdef void free_grown(Guest *guest, WlCont *cont) noexcept nogil
cdef char *inline_stack(WlCont *cont) noexcept nogil
cdef void unwind_to(Guest *guest, WlCont *root) noexcept nogil
cdef void free_stacks(Guest *guest) noexcept
cdef char *memory_of(Guest *guest, void *owner) noexcept nogil
cdef uint64_t number_of(Guest *guest, void *cont) noexcept nogil
cdef WlCont *renew(Guest *guest, WlCont *cont) noexcept nogil
cdef bint grow_bound(Guest *guest, WlCont *cont, uint64_t size) noexcept nogil
cdef void release_native_stack(Guest *guest, WlCont *cont) noexcept nogil
cdef void mark_suspended(Guest *guest) noexcept

# Frames of bytecode that wait on a native stack, below its compiled frames (see wasmloom.tiers.change). `ip` and `fp`
# say where the innermost of them goes on. Its instance, and the bytes that all of them take, are in fields that only
# stacks of bytecode, and continuations that haven't begun, use for what they are named for.
cdef inline uint64_t waiting_bytes(WlCont *cont) noexcept nogil:
    return cont.catch_top

cdef inline void set_waiting_bytes(WlCont *cont, uint64_t size) noexcept nogil:
    cont.catch_top = size

cdef inline void *waiting_instance(WlCont *cont) noexcept nogil:
    return cont.function

cdef inline void set_waiting_instance(WlCont *cont, void *instance) noexcept nogil:
    cont.function = instance
