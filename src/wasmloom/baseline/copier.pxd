cimport cython
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from wasmloom.baseline._stencils_object cimport Hole, Pinning, Stencil
from wasmloom.baseline.pinning cimport Pins, Step
from wasmloom.interpreter.code_space cimport Coder, CodeSpace
from wasmloom.runtime.codememory cimport CodeBudget

cdef enum:
    # Of an instruction's place in code: it is left to its handler; it is among the entries already.
    LEFT = 0x80000000
    ENTERED = 0x40000000
    PLACE = 0x3FFFFFFF

# A function's code: bytes that usually run, others behind them; the how-manieth it is, from 1; 0: it has none.
cdef struct Made:
    char *start
    uint32_t hot
    uint32_t cold
    uint32_t order

# The first word of an entry, and the code that it is going to lead to.
cdef struct Patch:
    uint64_t *word
    char *code


cdef class Copier(Coder)

# For tests (see `mixing`): a function has been planned, as the how-manieth, or (0) entries get their code.
ctypedef int (*Mix)(Copier copier, uint32_t order) except -1

# What mixes the code of modules that are made from now on, and a number that says how; 0: nothing is mixed.
cdef Mix mix
cdef uint64_t seed
# What that reads of the tables that only this module links.
cdef int16_t *leads
cdef Pinning *pinnings
cdef int number_of(char *instruction) noexcept
cdef uint32_t size_of(int number, char *instruction) noexcept

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
    # Of the function that is being made or looked at.
    cdef char **cells
    cdef char *code             # its bytecode …
    cdef uint32_t size          # … and how much that is
    cdef Step *steps
    cdef uint64_t step_count
    cdef uint64_t step_room
    cdef Step *other_steps      # room for as many again
    cdef uint64_t other_room
    cdef uint32_t *places       # by 8 bytes of bytecode: where an instruction's code is; `LEFT` may be set
    cdef uint64_t place_room
    cdef uint32_t *entries      # bytecode offsets of entries; some more than once, until they are sorted out
    cdef uint64_t entry_count
    cdef uint64_t entry_room
    cdef Patch *patches
    cdef uint64_t patch_count
    cdef uint64_t patch_room
    cdef uint32_t hot
    cdef uint32_t cold
    cdef char *entry            # code that a stub leads to
    cdef Pins pins
    cdef Mix mix
    cdef uint64_t seed          # 0, but for tests
    cdef list mixed

    cdef int _make_head(self) except -1
    cdef int _reserve(self, uint32_t size) except -1
    cdef int _enter_at(self, uint32_t at) except -1
    cdef int32_t _choose(self, int number, char *fields, uint32_t order) noexcept
    cdef int _step(self, int32_t stencil, uint32_t at, uint32_t size, uint32_t registers=*) except -1
    cdef int _put(self, int32_t stencil, uint32_t at, uint32_t size) except -1
    cdef int _pin(self, int which, int pin, uint32_t at) except -1
    cdef int _stub(self, char *at, char *code) except -1
    cdef uint64_t _stub_size(self) noexcept
    cdef int _lead(self, int number, uint32_t at) except -1
    cdef int leave(self, int number, uint32_t at, uint32_t size) except -1
    cdef int _lay_out(self, char *code, uint32_t size, uint32_t order) except -1
    cdef int _pin_steps(self) except -1
    cdef int _plan(self, CodeSpace space, char *code, uint32_t size, uint32_t order) except -1
    cdef int _fill(self, Hole *hole, int count, char *part, char *hot, char *cold, Step *step, char *start) except -1
    cdef void _set_registers(self, Step *step, char *hot, char *cold) noexcept
    cdef int _write(self, char *start) except -1
    cdef int _make_one(self, CodeSpace space, uint32_t index) except -1
    cdef int _copy(self, Made *made) except -1
    cdef bint _has_budget(self, uint64_t size) noexcept
    cdef void _sort_out_entries(self) noexcept
    cdef int _commit(self) except -1

cdef Stencil *stencil_at(int32_t number) noexcept
