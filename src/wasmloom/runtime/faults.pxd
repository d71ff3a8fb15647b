from libc.stdint cimport uint64_t

from wasmloom.system._capi cimport sigaction_t

cdef enum:
    MAX_PREVIOUS = 8
    MAX_REPEATS = 100

# Redirects the faulting thread to the trap entry by editing its saved registers. Changes nothing and returns False when
# the fault didn't happen in the kind of code that it knows. Arguments: the ucontext, the fault's address.
# Async-signal-safe.
ctypedef bint (*Redirect)(void *, void *) noexcept nogil

# The previous dispositions of one signal, oldest first. There are several when others install handlers in front of us
# and we go to the front again.
ctypedef struct Chain:
    sigaction_t previous[8]
    int count
    # The handler that is being called now, and for which thread.
    int level
    uint64_t thread
    # The last fault that was passed on, and how often it came in a row.
    void *address
    int repeats

cdef Chain chains[2]            # of SIGSEGV and SIGBUS
cdef Redirect redirect           # of handlers
cdef Redirect compiled_redirect    # of compiled code

cdef void set_redirect(Redirect function) noexcept
cdef void set_compiled_redirect(Redirect function) noexcept
cdef void ensure_installed() noexcept nogil
