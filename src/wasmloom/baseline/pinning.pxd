cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from wasmloom.baseline._roles cimport FLOAT_PINS, INTEGER_PINS
from wasmloom.baseline._stencils_object cimport Pinning

cdef enum:
    PIN_COUNT = INTEGER_PINS + FLOAT_PINS
    # By 8 bytes of bytecode: a loop begins there; behind that bit is how many end.
    BEGINS = 1
    ENDED = 1

# A stencil to be copied: where the fields of its instruction (of its part of a fused one) count from, in the bytecode;
# for each of its roles four bits that the register's number differs in from the stencil's own.
cdef struct Step:
    int32_t stencil
    uint32_t at
    uint32_t registers

# A branch back: where it leads, and where the instruction ends.
cdef struct Back:
    uint32_t header
    uint32_t end

# A slot, while pins are chosen: what it is worth to read it from a register, and how much more as a float; where in the
# bytecode its number is, or 0: no loop reads or writes it.
cdef struct Worth:
    int64_t worth
    int64_t floatness
    uint32_t at

@cython.final
@cython.no_gc
cdef class Pins:
    cdef int count                      # how many slots of the function are pinned
    cdef uint8_t *pin_of                # by slot: its pin from 1 on, those of integers first; 0: none
    cdef uint32_t fields[PIN_COUNT]     # where in the bytecode there is the number of a pinned slot …
    cdef uint16_t slots[PIN_COUNT]      # … the number, and its pin
    cdef uint8_t pins[PIN_COUNT]
    # Loops of the function. `turns` is all zero between functions.
    cdef Back *backs
    cdef uint64_t back_count
    cdef uint64_t back_room
    cdef uint32_t *turns
    cdef uint64_t turn_room
    cdef uint32_t first                 # where the first one begins …
    cdef uint32_t last                  # … and behind the last branch back
    # While they are chosen: by slot; those that have been seen.
    cdef Worth *worth
    cdef uint32_t *seen
    cdef uint64_t seen_count
    cdef bint eager                     # for tests: whether slots are pinned that aren't worth it

    cdef void clear(self) noexcept
    cdef int back(self, uint32_t header, uint32_t end) except -1
    cdef int find_loops(self, uint64_t size) except -1
    cdef int choose(self, const Pinning *pinnings, const Step *steps, uint64_t count, char *code) noexcept
    cdef void _note(self, char *code, uint32_t at, int64_t worth, int64_t floatness) noexcept
    cdef void _add(self, uint32_t slot, uint32_t at, int64_t worth, int64_t floatness) noexcept
    cdef int _take(self, int64_t cost, char *code) noexcept
