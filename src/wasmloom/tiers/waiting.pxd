from libc.stdint cimport uint32_t, uint64_t

from wasmloom.contract._layout cimport WlFunction
from wasmloom.runtime.guests cimport Entry, Guest, Parked
from wasmloom.runtime.native_stacks cimport is_compiled
from wasmloom.runtime.store cimport Store

# What a tier does for calls that can wait. See wasmloom.host.tasks, which makes them.
ctypedef struct Waiting:
    # Give a guest, whose first stack is there, what it needs besides, with room for so many words. Raises `Trap`.
    int (*prepare)(Store store, Parked *parked, uint64_t room) except -1
    # Take that away.
    void (*release)(Guest *guest, Parked *parked) noexcept
    # Make its innermost stack the running one of an entry, which has been saved.
    void (*enter)(Store store, Entry *entry, bint has_waited) noexcept
    # Put a function's arguments where it finds them; gives a trap code, or 0.
    uint64_t (*take_arguments)(Store store, Parked *parked, const uint64_t *words, uint32_t slots, uint64_t room) noexcept
    # Run the function; gives the code it left with.
    uint64_t (*begin)(Store store, Entry *entry, WlFunction *function) noexcept
    # Put the results of the host function that it has waited for where the guest finds them.
    void (*take_results)(Store store, Parked *parked, const uint64_t *words, uint32_t slots) noexcept
    # Go on behind the call of that, with so many slots of results or with an exception that is `pending`; gives the code
    # it left with.
    uint64_t (*go_on)(Store store, Entry *entry, WlFunction *function, uint32_t slots, uint64_t pending) noexcept
    # Note where it stands: it will wait for a host function that it has called.
    void (*stop)(Store store, Parked *parked) noexcept
    # Where the function's results are when it has returned.
    const uint64_t *(*results)(Store store, Parked *parked) noexcept
    # Whether it may be in a `try_table`.
    bint (*may_catch)(Parked *parked) noexcept

# Let a guest of bytecode go on that hasn't waited for a host function: where its innermost stack says.
cdef uint64_t stand_up(Store store, Entry *entry) noexcept

cdef Waiting interpreted
cdef Waiting compiled
cdef Waiting mixed

# What runs a guest: it may change while it waits.
cdef inline Waiting *waiting_of(Parked *parked) noexcept:
    return &compiled if parked.native_stack != NULL else &mixed if parked.beside != NULL else &interpreted

# What will run a function. If there is no memory for `mixed`, then `interpreted` will.
cdef inline Waiting *waiting_for(Store store, WlFunction *function) noexcept:
    return &compiled if is_compiled(function) else &mixed if store.mixes else &interpreted
