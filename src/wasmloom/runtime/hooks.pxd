from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlContext, WlInstance
from wasmloom.runtime.guests cimport Entry

# The machine code around compiled functions: see the stubs of wasmloom.target.
ctypedef struct Stubs:
    void (*enter)(void *, void *, void *, void *, void *, void *) noexcept nogil
    void (*go_on)(void *, void *) noexcept nogil
    void *native_return
    void *leave
    void *on_host
    void *trap
    void *adapter
    void *array_adapter
    void *lazy
    void *loop_interrupt
    void *morestack
    void *fiber_start
    void *fiber_return
    void *switch_call
    void *drive
    void *frames
    void *frames_start
    void *frames_return
    void *frames_bottom
    # Between bytecode and compiled code: see the crossings of wasmloom.target.
    void *crossing
    void *crossing_function
    void *native_back
    void *osr
    void *cross_go_on
    void *runtime

# Runs bytecode: (context, instance, code, frame).
ctypedef void (*Run)(WlContext *, WlInstance *, char *, uint64_t *) noexcept nogil
# Lets an entry whose bytecode has stopped go on as compiled code: (Store, Entry).
ctypedef uint64_t (*ChangeTier)(void *, Entry *) noexcept

# Makes the code of what has been translated and has none yet, for a guest of a Store; returns 0, or the code of what the
# guest is left with. Call with the GIL.
ctypedef uint64_t (*MakeCode)(void *) noexcept nogil

# Set by wasmloom.baseline: how often something has begun to wait for its code, and what makes it.
cdef uint64_t code_wanted
cdef MakeCode make_code
# Set by wasmloom.interpreter.machine.
cdef Stubs stubs
cdef Run run_guest
# Set by wasmloom.compiler.compiled, without which there is no compiled code.
cdef object walk_compiled           # the frames of compiled code
# Set by wasmloom.tiers.
cdef ChangeTier change_tier
cdef object check_at_call           # a call of a store of the tier "auto"; returns calls until the next check, 0: never
cdef object look_inside_call        # a guest whose store mixes runs; what it raises leaves the guest
cdef object take_sample             # a guest that is profiled stands where its frames can be read
cdef object frames_of_entry         # the frames of a guest, for backtraces
cdef object too_deep                # the error for an entry that there is no room for
# Set by wasmloom.host.
cdef object python_exception        # makes a Python exception of a guest's
cdef object engine_of               # the engine for what a store is made with
# Set by wasmloom itself, when it is first used.
cdef object take_snapshot

cdef void set_runtime_call(int index, void *function) noexcept
cdef void *runtime_call(int index) noexcept
cdef void use_runtime_table(void **table) noexcept
cdef void set_run(Run function) noexcept
cdef void set_change(ChangeTier function) noexcept
cdef void set_make_code(MakeCode function) noexcept
cdef void want_code() noexcept
