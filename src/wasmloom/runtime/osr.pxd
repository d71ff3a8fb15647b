from libc.stdint cimport uint64_t

from wasmloom.runtime._layout cimport WlContext
from wasmloom.runtime.guests cimport Entry
from wasmloom.runtime.store cimport Store

ctypedef uint64_t (*NextFrame)(WlContext *, uint64_t *) noexcept nogil

cdef uint64_t go_on_changed(Store store, Entry *entry, uint64_t results, uint64_t pending) noexcept
