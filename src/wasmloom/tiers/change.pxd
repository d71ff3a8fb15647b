from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlContext
from wasmloom.runtime.guests cimport Entry
from wasmloom.runtime.native_stacks cimport RootStack
from wasmloom.runtime.store cimport Store

ctypedef uint64_t (*NextFrame)(WlContext *, uint64_t *) noexcept nogil
# Their callers look at the exceptions themselves.
ctypedef int (*Unchecked)(Store, uint64_t *) noexcept
ctypedef int (*Prepare)(Store, Entry *, RootStack **, uint64_t *) noexcept

cdef uint64_t go_on_changed(Store store, Entry *entry, uint64_t results, uint64_t pending) noexcept
