from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.system._capi cimport (
    PyEval_RestoreThread,
    PyEval_SaveThread,
    PyThreadState,
    PyThreadState_Get,
    __sync_synchronize,
    pthread_key_t,
    sem_t,
)
from wasmloom.contract._layout cimport WlCont, WlContext, WlControl
from wasmloom.system.allocation cimport refused
from wasmloom.runtime.heap cimport Heap

cdef enum:
    TICK_NS = 10000000          # time between two ticks
    SAMPLE_NS = 2000000         # time between two samples of guests that are profiled
    SIGNALS_NS = 50000000       # time between two checks of Python's signals
    IDLE_TICKS = 4              # ticks without any entry after which the ticker parks
    C_STACK_RESERVE = 262144    # bytes of C stack that an entry must leave free
    REST_NS = 100000            # time between two checks whether a fork is over, or can begin
    LONG_REST_NS = 20000000     # what a check counts for at most in that time
    MOST_REST_NS = 5000000000   # time after which a fork stops waiting for guests that don't look up
    MANY_TICKS = 10             # ticks that make a guest worth compiling
    LOOK_TICKS = 8              # a guest whose store mixes is looked at every so many ticks
    SAMPLES = 16                # places of bytecode that are kept between two looks
    # Where bytecode is interrupted.
    STANDS_NOWHERE = 0
    STANDS_AT_LOOP = 1
    STANDS_BEFORE_FUNCTION = 2
    # When a guest that runs bytecode goes on as compiled code.
    NEVER = 0
    WHEN_BUSY = 1               # a tick stops it, and wasmloom.tiers.policy decides what to do
    WHEN_READY = 2              # not yet: its code is being compiled
    NOW = 3                     # at the next place where it can
    # States of the ticker.
    NO_THREAD = 0
    TICKING = 1
    PARKED = 2

# A word that another thread may change.
cdef extern from *:
    ctypedef uint64_t WatchedWord "volatile uint64_t"
    ctypedef uint32_t WatchedHalf "volatile uint32_t"

# See below.
ctypedef struct Parked

# One entry into guest code from the host; they form a chain through nested calls. Lives on the C stack of the entry.
ctypedef struct Entry:
    Entry *outer
    uint64_t base               # offset of this entry's frame from the stack's base
    # What the context held for the host call that this entry is nested in (see WlContext).
    char *host_ip
    uint64_t host_fp
    void *host_function
    uint64_t stack_top
    int64_t depth_left
    # The bottom of this entry's stacks, and what ran before it.
    WlCont root
    WlCont *bottom              # `root`, or the continuation that a call which may wait runs on
    bint may_wait               # the latter: the entry has a stack of its own
    Parked *parked              # then: that of its task
    WlCont *outer_current
    uint64_t outer_catch_top
    char *outer_base            # the context's stack, when this entry has its own
    char *outer_end
    # Of an entry into compiled code: its stack (RootStack*).
    void *native_stack          # NULL: the entry runs bytecode
    # Of an entry that runs bytecode and compiled code: the stack of the latter (RootStack*), which it has beside its
    # place on the value stack.
    void *beside
    # Of either: what the context held (see WlContext).
    char *host_sp
    char *guest_sp
    char *guest_fp

# A guest that can wait outside of the store: its stacks, and while it waits those that wait beside it (see
# wasmloom.host.tasks).
ctypedef struct Parked:
    Parked *next
    Parked *previous
    WlCont *root                # the bottom of its stacks; NULL: it has none (any more)
    WlCont *current             # the innermost one; of bytecode: its memory is used up to the offset `values`
    void *owner                 # borrowed PyObject* of the GuestTask; NULL: it will never go on
    # Of compiled code, else NULL: the native stack of `root` (RootStack*), and on its top the words that the function
    # takes and gives. While it waits: where the innermost stack ends, and the frame there.
    void *native_stack
    uint64_t *words
    char *sp
    char *fp
    uint64_t *results           # where the first result of the host function goes
    # Of bytecode and compiled code: the native stack beside the stack of `root` (RootStack*), which has its memory, too.
    # `sp` and `fp` are about this one, and `results` if it waits in compiled code: then `current.fp` says so
    # (CALLED_BY_COMPILED).
    void *beside

# A context with what the runtime keeps beside it. The context comes first: a WlContext* is a Guest*.
ctypedef struct Guest:
    WlContext ctx
    Guest *next                 # all guests ever made, never freed
    Guest *next_free            # those that no Store owns
    uint64_t running            # 1 from the outermost entry to its exit
    uint64_t used               # set on the way from Python into the guest, cleared by the ticker
    uint64_t thread             # pthread_self() of the thread inside
    int64_t deadline            # monotonic ns; 0: none; 1: the epoch deadline has passed
    int64_t time_deadline       # what the store's timeout says; 0: none
    const uint64_t *epoch       # the engine's counter; NULL: the store has no epoch deadline
    uint64_t epoch_deadline     # the counter's value from which on nothing may run
    int64_t next_signals        # monotonic ns of the next check of Python's signals
    Entry *entry                # innermost entry
    uint64_t max_stack          # bytes
    uint64_t max_chain          # stacks that may have resumed each other, roughly
    uint64_t until_chain_check  # stacks that can be made before they are counted again
    uint64_t memory_limit       # bytes that may be allocated for it together (see `charge`)
    uint64_t used_bytes         # bytes that are
    uint64_t most_bytes         # bytes that one memory may have
    uint64_t most_elements      # elements that one table may have
    uint64_t memories_limit     # bytes that memories may have together, if the guest is deterministic also tables
    uint64_t memories_used      # bytes that they have
    bint deterministic          # see wasmloom.semantics.determinism
    int64_t depth               # bytes of frames that calls from the host may use then
    bint limits_memories        # whether memories count towards the limit; else each of their bytes raises it
    Parked *parked              # doubly linked
    uint64_t ticked             # a tick hasn't been seen yet; else samples alone interrupt the guest
    uint64_t ticks_seen         # how often a tick has reached guest code
    # Where ticks have found bytecode that could call compiled code (see `note_place`), and how often: the latest places
    # are kept.
    uint64_t samples[SAMPLES]
    uint64_t samples_seen
    uint64_t code_seen          # of `hooks.code_wanted`: what had been wanted when code was last made for it
    # Of a guest that is profiled: what has been found since it last was at a place where its frames can be read.
    uint64_t profiled
    uint64_t sample_weight      # samples in guest code, and what registers held at the first
    uint64_t sample_pc
    uint64_t sample_ip
    uint64_t host_weight        # samples in a host function (WlFunction*)
    void *host_sampled
    uint64_t sample_entered     # while it is looked at: the place of a function that was just about to begin; 0: none
    # While it is interrupted at a place where its frames can be read: see STANDS_NOWHERE. The place itself is in the
    # context's fields about traps; of a function that is about to begin it is that of its caller, and this the code.
    uint64_t stands
    uint64_t stands_before
    uint64_t wants_snapshot     # at the next such place
    uint64_t keeps_gil          # its thread runs guest code, and still has the GIL: see `leave_python`
    uint64_t resting            # its thread waits (for a fork or the GIL) at a place where the guest can be left
    uint64_t can_end            # whether a forked child, which doesn't have its thread, can end it
    # Who looks at this guest, and may write to its thread's memory: the ticker, a thread that has the GIL. They are
    # read together, as one word.
    uint32_t ticking
    uint32_t nudging
    uint64_t change_when        # see NEVER
    uint64_t change_at          # WHEN_BUSY: `ticks_seen` from which on it is busy
    uint64_t loops_left         # with NOW: back-edges left before the change
    uint64_t native_stack_size  # bytes of a continuation's native stack
    void *native_regions        # Region*: memory of continuations' native stacks
    void *root_stacks           # RootStack*: stacks of entries, to be used again
    bint has_root               # there is one, in use or not
    uint64_t reserved           # bytes that the value stack, the context's own, is mapped with; 0: it is from malloc
    Heap heap

cdef int ticker_state
cdef uint64_t fork_wanted       # a thread is about to fork
cdef bint shares_barriers       # the ticker's barriers are also those of the threads that run guests
cdef Guest *first_guest
cdef Guest *first_free
cdef sem_t wake
cdef pthread_key_t stack_key
cdef uint64_t ticks             # how often the ticker has looked
cdef uint64_t profiled          # guests that are profiled

# Called with the GIL by the first who leaves Python for a guest after a tick. Registered by wasmloom.runtime.faults.
ctypedef void (*AfterTick)() noexcept nogil
cdef AfterTick after_tick

cdef void set_after_tick(AfterTick function) noexcept
cdef Guest *new_guest() noexcept
cdef void free_guest(Guest *guest) noexcept
cdef void wake_ticker() noexcept nogil
cdef int64_t now_ns() noexcept nogil
cdef bint in_guest_code() noexcept nogil
cdef void interrupt(Guest *guest, uint32_t *mark) noexcept nogil
cdef void set_profiled(Guest *guest, bint on) noexcept
cdef void interrupt_late(const uint64_t *epoch) noexcept
cdef void interrupt_now(Guest *guest) noexcept
cdef void nudge(Guest *guest) noexcept
cdef Guest *running_here() noexcept nogil
cdef void stop_running(Guest *guest) noexcept nogil
cdef void give_gil_back(Guest *guest) noexcept nogil
cdef void rest(Guest *guest) noexcept nogil
cdef void end_rest(Guest *guest) noexcept nogil
cdef bint c_stack_left() noexcept nogil

# Whether the engine's counter has reached the epoch deadline of a guest.
cdef inline bint epoch_is_over(Guest *guest) noexcept nogil:
    return guest.epoch != NULL and guest.epoch[0] >= guest.epoch_deadline

# Count memory that is allocated for a guest, or that the host keeps for it, against its limit. False when there is not
# enough left. Everything that a guest can make anyone allocate is counted, and each count is undone when the memory is
# freed. Only the store's owner may call this.
cdef inline bint charge(Guest *guest, uint64_t size) noexcept nogil:
    if size > guest.memory_limit or guest.used_bytes > guest.memory_limit - size or refused():
        return False
    guest.used_bytes += size
    return True

cdef inline void uncharge(Guest *guest, uint64_t size) noexcept nogil:
    guest.used_bytes -= size

# Whether the limit on the bytes of memories lets them have more.
cdef inline bint memory_fits(Guest *guest, uint64_t size) noexcept nogil:
    return guest.memories_used <= guest.memories_limit and size <= guest.memories_limit - guest.memories_used

# Count the bytes of memories, which have limits of their own.
cdef inline bint charge_memory(Guest *guest, uint64_t size) noexcept nogil:
    if not memory_fits(guest, size):
        return False
    if not guest.limits_memories:
        guest.memory_limit += size
    if charge(guest, size):
        guest.memories_used += size
        return True
    if not guest.limits_memories:
        guest.memory_limit -= size
    return False

cdef inline void uncharge_memory(Guest *guest, uint64_t size) noexcept nogil:
    if not guest.limits_memories:
        guest.memory_limit -= size
    guest.memories_used -= size
    guest.used_bytes -= size

# From Python into the guest: release the GIL, or keep it until the next tick if Python has no other thread to take it
# (releasing and taking it costs more than the rest of a short call). At the tick `handle_interrupt` releases it; where
# calls are too short to see a tick, the next call here does. So a thread that C code brings in never waits longer than
# that; and CPython (3.11, 3.12) announces a signal that another thread has received only when the GIL is taken anew.
# A full barrier, or `shares_barriers`.
cdef inline void leave_python(WlContext *ctx) noexcept nogil:
    cdef Guest *guest = <Guest *>ctx
    cdef PyThreadState *state = PyThreadState_Get()
    guest.keeps_gil = guest.used and state.prev == NULL and state.next == NULL
    if not guest.used:
        guest.used = 1
        after_tick()
    ctx.thread_state = state  # before another thread can have the GIL, and fork: see `_can_be_left`
    if not guest.keeps_gil:
        PyEval_SaveThread()  # several full barriers
    elif not shares_barriers:
        __sync_synchronize()

# From the guest into Python: the thread holds the GIL from here on.
cdef inline void enter_python(WlContext *ctx) noexcept nogil:
    cdef PyThreadState *state = <PyThreadState *>ctx.thread_state
    ctx.thread_state = NULL
    if not (<Guest *>ctx).keeps_gil:
        PyEval_RestoreThread(state)
