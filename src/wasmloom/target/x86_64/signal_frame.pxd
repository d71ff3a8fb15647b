# The registers of a thread that a signal has interrupted, by what they are for: in the ucontext that the signal's
# handler gets (Linux; Python.h defines _GNU_SOURCE, which names the registers). All this is async-signal-safe.
from libc.stdint cimport uint64_t

cdef extern from "<ucontext.h>":
    ctypedef struct mcontext_t:
        long long gregs[23]
    ctypedef struct ucontext_t:
        mcontext_t uc_mcontext
    enum: REG_RIP
    enum: REG_R12
    enum: REG_RBP
    enum: REG_RDI

cdef enum:
    # Bytes below a stack's limit, for the frames of signal handlers: the kernel's, with all vector registers, and theirs.
    SIGNAL_RESERVE = 16384

# The instruction that was interrupted, or is to go on: after a fault the one that faulted.
cdef inline uint64_t program_counter(void *context) noexcept nogil:
    return (<ucontext_t *>context).uc_mcontext.gregs[REG_RIP]

cdef inline void set_program_counter(void *context, void *code) noexcept nogil:
    (<ucontext_t *>context).uc_mcontext.gregs[REG_RIP] = <long long>code

# The frame of the compiled function that was interrupted.
cdef inline char *frame_pointer(void *context) noexcept nogil:
    return <char *>(<ucontext_t *>context).uc_mcontext.gregs[REG_RBP]

# The first parameter of the C function that the thread is sent to.
cdef inline void set_first_argument(void *context, void *argument) noexcept nogil:
    (<ucontext_t *>context).uc_mcontext.gregs[REG_RDI] = <long long>argument

# The first parameter of the handler that was interrupted, the bytecode instruction (see registers.HANDLER_CONVENTION).
cdef inline uint64_t handler_ip(void *context) noexcept nogil:
    return (<ucontext_t *>context).uc_mcontext.gregs[REG_R12]

cdef inline void set_handler_ip(void *context, uint64_t ip) noexcept nogil:
    (<ucontext_t *>context).uc_mcontext.gregs[REG_R12] = <long long>ip
