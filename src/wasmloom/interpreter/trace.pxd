from libc.stdint cimport uint64_t

from wasmloom.contract._layout cimport WlContext

# A runtime call about a switch of compiled code.
ctypedef uint64_t (*Switch)(WlContext *, uint64_t *, uint64_t, uint64_t) noexcept nogil
