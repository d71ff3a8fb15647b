cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.system._capi cimport PyThread_type_lock
from wasmloom.contract._layout cimport WlFunction, WlInstance
from wasmloom.runtime.guests cimport Entry, Guest
from wasmloom.spec.canon cimport Types

cdef enum:
    LOST = 1                    # "owner" of a store that nobody can use: no thread has this identifier
    WORDS_ON_STACK = 16         # arguments up to this many are passed without allocating
    REFERENCE_BYTES = 128       # what an external reference counts for: a place in `references`
    CHAIN_FRAME = 64            # bytes of the stack limit that a stack in a chain of stacks counts for

# A growing C array of pointers.
ctypedef struct Pointers:
    void **items
    uint64_t count
    uint64_t room

cdef class Store

# What an entry runs.
ctypedef struct Start:
    char *code                  # bytecode: the instruction; compiled code: the `array_call` that calls `function`
    void *environment           # bytecode: the instance; compiled code: what the function has in its register
    uint64_t frame              # bytecode: where its frame begins, from the stack's base
    void *function              # compiled code: what is called, with arguments and results in `words`
    uint64_t *words
    void *top                   # compiled code: where its stack begins

# A tier: a form in which guest code can run. wasmloom.runtime.entries sets the functions, except where another module
# is named.
ctypedef struct Tier:
    const char *name            # as in Engine.tier
    # Run a function on `words`, which its results replace.
    int (*call)(Store store, WlFunction *function, uint64_t *words, uint32_t param_slots, uint32_t result_slots) except -1
    # Give a stack with room for that many words to an entry that has saved what it must.
    int (*begin)(Store store, Entry *entry, uint64_t room) except -1
    # Run guest code in an entry; returns the code it left with, 0 for a return.
    uint64_t (*run)(Store store, Entry *entry, const Start *start) noexcept
    # The frames from a place on, the innermost first: a list of at most `limit` GuestFrames. Bytecode without an instance:
    # the place is the return address of a callee that has no frame of this tier. Compiled code: the place is a return
    # address, unless it is the instruction of a `fault`. Set by wasmloom.tiers.frames.
    list (*walk)(uint64_t ip, uint64_t fp, uint64_t instance, bint fault, uint64_t cont, int limit, dict known)
    # Let the functions of a new instance of a module run in this tier. Set by wasmloom.tiers.stores.
    int (*adopt)(Store store, WlInstance *instance, object module) except -1

@cython.final
@cython.no_gc_clear
cdef class Store:
    cdef Guest *guest
    cdef readonly object engine
    cdef unsigned long owner            # identifier of the thread that holds the store; 0: none
    cdef uint64_t depth                 # how many times that thread has locked it
    cdef int waiting                    # threads that wait for it
    cdef PyThread_type_lock door        # the lock that they wait for
    cdef bint interrupting              # Python's signal handlers run, while the guest stands at a safepoint
    # An exception on its way out of the guest: owned references, as PyErr_Fetch gives them.
    cdef PyObject *error_type
    cdef PyObject *error_value
    cdef PyObject *error_traceback
    cdef object awaited                 # what a host function has returned for its guest to wait for
    cdef readonly str branch            # tells a store and its copies apart: see wasmloom.snapshot
    cdef list wanted                    # the snapshots that `snapshot_soon` has asked for
    cdef bint asks                      # a host function is called again, for a guest that waits for it
    cdef uint64_t cancellation          # the exception by which a waiting guest is cancelled; 0: not made yet
    cdef bint orphans                   # there may be parked guests whose tasks are gone
    cdef list keep                      # whatever must live as long as the store: modules, host functions
    cdef dict references                # word -> object: what externref words point to
    cdef Py_ssize_t sweep_at            # this many make `unlock` look for unused ones
    cdef uint64_t hanging               # bytes of objects given to running guests since the last sweep
    cdef uint64_t hanging_at            # this many make a host call sweep, inside of a call
    # During a sweep: the references in use, whether that is all of them, and the range of their words.
    cdef dict live
    cdef bint live_is_complete
    cdef uint64_t first_reference
    cdef uint64_t last_reference
    cdef dict module_at                 # address of a WlInstance -> its module, for backtraces
    cdef dict item_types                # … -> what its module doesn't say of its tables and memories
    cdef dict callers                   # … -> its wasmloom.host.callers.Caller, if a host function has asked
    cdef Entry *called_by_host          # in this entry the host itself calls a host function,
    cdef uint64_t called_for            # for this instance, which starts, or none (see instance_calling)
    cdef dict drivers                   # bytecode that resumes continuations (see wasmloom.host.continuations)
    cdef object _timeout                # seconds per call, or None
    cdef int64_t timeout_ns
    cdef bint is_timed                  # its calls have a deadline (of time, of epochs, or both), or a depth
    cdef bint counts_fuel
    cdef int calls_left                 # calls from the host until the tier of a store in "auto" is checked; 0: never
    cdef readonly int rounds            # how many times OSR entries were compiled for its bytecode
    cdef public object change_failed    # why its bytecode could not go on as compiled code, or None
    cdef Tier *tier                     # in which everything in it runs
    # Its entries run bytecode and compiled code, function by function (wasmloom.tiers.mixed).
    cdef bint mixes
    cdef bint checked                   # its memories have no guard pages
    cdef Types types                    # keeps the types of what the host makes in it (modules keep their own)
    cdef Pointers blocks                # memory to free with the store
    cdef Pointers memories
    cdef Pointers tables
    cdef Pointers instances
    cdef bint is_limited                # one of the numbers below is less than what there can be
    cdef uint64_t most_instances
    cdef uint64_t most_tables           # defined by modules, as are memories
    cdef uint64_t most_memories
    cdef uint64_t defined_tables
    cdef uint64_t defined_memories
    cdef Pointers cells                 # of globals that the host made
    cdef object __weakref__

    cdef int lock(self) except -1
    cdef void unlock(self) noexcept
    cdef void sweep_and_unlock(self) noexcept
    cdef void sweep_within(self) noexcept
    cdef int wait_for_turn(self, unsigned long me) except -1
    cdef int take_wanted(self) except -1
    cdef void *allocate(self, uint64_t size)
    cdef object trap(self, uint64_t code, object frames=*, str detail=*)
    cpdef int charge(self, uint64_t size) except -1
    cpdef int release(self, uint64_t size) except -1
    cdef int limit_memory(self, object size) except -1
    cdef object over_limit(self, uint64_t size)
    cdef int count_defined(self, uint64_t tables, uint64_t memories) except -1
    cdef void take_error(self) noexcept
    cdef void drop_error(self) noexcept
    cdef uint64_t word_of(self, object value) except? 0

# Copy arguments or results. There are usually so few that a call of memcpy would take longer.
cdef inline void copy_words(uint64_t *to, const uint64_t *words, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        to[i] = words[i]

# Functions whose callers check for exceptions themselves: Cython's own check, in a caller that can't raise, would print
# them and go on.
ctypedef int (*Unchecked)(Store, uint64_t *, uint64_t) noexcept
ctypedef int (*SweepStore)(Store) noexcept

cdef Tier interpreter_tier
cdef Tier compiler_tier
cdef bint push(Pointers *array, void *item) noexcept
