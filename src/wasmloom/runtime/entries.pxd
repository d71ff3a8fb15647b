from libc.stdint cimport uint32_t, uint64_t

from wasmloom.contract._layout cimport WlFunction, WlInstance
from wasmloom.runtime.guests cimport Entry
from wasmloom.runtime.native_stacks cimport is_compiled
from wasmloom.runtime.store cimport Start, Store, Tier, compiler_tier, interpreter_tier

# The tier in which a function runs when it is called.
cdef inline Tier *tier_of(WlFunction *function) noexcept nogil:
    return &compiler_tier if is_compiled(function) else &interpreter_tier

# The tier in which an entry runs, or waits.
cdef inline Tier *tier_of_entry(Entry *entry) noexcept nogil:
    return &compiler_tier if entry.native_stack != NULL else &interpreter_tier

# Run a guest function on `words`, which its results replace. Call with the store locked. Raises `Trap`, or what a host
# function raised.
cdef inline int call(
    Store store, WlFunction *function, uint64_t *words, uint32_t param_slots, uint32_t result_slots
) except -1:
    return tier_of(function).call(store, function, words, param_slots, result_slots)

cdef int call_bytecode(
    Store store, WlInstance *instance, char *code, uint64_t *words, uint32_t param_slots, uint32_t result_slots
) except -1
cdef int count_call(Store store) except -1
cdef int save(Store store, Entry *entry) except -1
cdef int begin(Store store, Entry *entry, Tier *tier, uint64_t room) except -1
cdef uint64_t interpret(Store store, Entry *entry, const Start *start) noexcept
cdef void restore(Store store, Entry *entry) noexcept nogil
cdef void leave(Store store, Entry *entry) noexcept nogil
cdef int fail(Store store, uint64_t code, Entry *entry) except -1
