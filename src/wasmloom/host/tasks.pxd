cimport cython
from libc.stdint cimport uint32_t, uint64_t

from wasmloom.host.bridge cimport Func, HostFunction
from wasmloom.runtime.guests cimport Entry, Parked
from wasmloom.runtime.store cimport Store

@cython.final
@cython.no_gc_clear
cdef class GuestTask:
    cdef readonly Func function
    cdef readonly Store store
    cdef Parked *parked
    cdef bint is_parked
    cdef HostFunction host              # what the guest waits for
    cdef readonly object awaitable      # what it has returned
    cdef object cancelled               # the error that cancels the guest
    cdef readonly object result
    cdef public object call             # what identifies the call that the guest waits for: see host/asynchronous.py

    cdef int begin(self, uint64_t room) except -1
    cdef int enter(self, Entry *entry) except -1
    cdef bint go_on(self, Entry *entry, uint32_t slots, uint64_t pending) except -1
    cdef bint left(self, Entry *entry, uint64_t code) except -1
    cdef void park(self) noexcept
    cdef void unpark(self) noexcept
    cdef object start_host(self, uint64_t *words)
    cdef void end(self) noexcept
    cdef void give_up(self) noexcept
