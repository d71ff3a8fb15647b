cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from wasmloom.baseline._stencils_object cimport Hole
from wasmloom.baseline.pinning cimport Step
from wasmloom.baseline.planner cimport Made, Planner
from wasmloom.interpreter.code_space cimport Coder, CodeSpace
from wasmloom.runtime.codememory cimport CodeBudget

cdef enum:
    USUAL = 32                  # bytes that most stencils have at most, and that are copied at a time

# The first word of an entry, and the code that it is going to lead to.
cdef struct Patch:
    uint64_t *word
    char *code
    bint needs_stub             # to load pins first

cdef class Copier(Coder)

# For tests (see `mixing`): entries get their code.
ctypedef int (*Turn)(Copier copier) except -1

cdef Turn turn

@cython.no_gc
cdef class Copier(Coder):
    cdef CodeBudget budget
    cdef uint64_t counted       # bytes taken from that
    cdef Made *made             # by function
    cdef uint32_t count
    cdef uint32_t orders        # how many have been made
    cdef bint ended             # no more code can be made
    cdef char **slots           # addresses of what is outside of the arena
    cdef char *constants
    cdef char *jumps            # to what is outside, `jump_size` bytes each
    # Functions that wait for their code, those that were translated first in front, and bytes of their bytecode.
    cdef uint32_t *waiting
    cdef uint64_t waiting_count
    cdef uint64_t waiting_bytes
    cdef bint begun             # code is made in batches from now on, not only at ticks
    cdef void *space            # borrowed: the CodeSpace that owns this
    cdef Patch *patches
    cdef uint64_t patch_count
    cdef uint64_t patch_room
    cdef char *entry            # code that a stub leads to
    cdef Planner planner
    cdef list mixed             # for tests

    cdef int _make_head(self) except -1
    cdef void _fill(self, Hole *hole, int count, char *part, char *hot, char *cold, Step *step, char *start) noexcept
    cdef void _write(self, char *start) noexcept
    cdef void _set_registers(self, Step *step, char *hot, char *cold) noexcept
    cdef char *_copy(self, Step *step, char *at) noexcept
    cdef void _stub(self, char *at, char *code) noexcept
    cdef int _note_patches(self, char *start) except -1
    cdef int _make_one(self, CodeSpace space, uint32_t index) except -1
    cdef int _commit(self) except -1
