from libc.stdint cimport uint64_t

from wasmloom.runtime._layout cimport WlContext

ctypedef uint64_t (*NextFrame)(WlContext *, uint64_t *) noexcept nogil
