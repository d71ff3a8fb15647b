from libc.stdint cimport uint16_t, uint32_t, uint64_t

from wasmloom.contract._layout cimport WlContext, WlMemory, WlSegment, WlTable
from wasmloom.runtime.bulk cimport Between
from wasmloom.runtime.store cimport Store

# Python-holding functions as the nogil code that takes the GIL itself sees them.
ctypedef uint64_t (*WithGil)(void *) noexcept nogil
# Its caller looks at the exception itself.
ctypedef int (*Look)(Store) noexcept
ctypedef bint (*IdMatches)(uint32_t, uint32_t) noexcept nogil

cdef uint64_t initialise_memory(
    WlMemory *memory,
    WlSegment *segment,
    uint64_t target,
    uint64_t source,
    uint64_t count,
    Between between,
    void *argument,
) noexcept nogil
cdef uint64_t initialise_table(
    WlTable *table, WlSegment *segment, uint64_t target, uint64_t source, uint64_t count
) noexcept nogil
cdef uint64_t handle_interrupt(WlContext *ctx) noexcept nogil
cdef uint64_t subtype_code(WlContext *ctx, uint64_t actual, uint64_t expected) noexcept nogil

# Between two slices of an instruction, as `Between` in wasmloom.runtime.bulk: handles interrupts. Its argument is the
# context.
cdef int between_slices(void *context) noexcept nogil
