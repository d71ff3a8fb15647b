cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from wasmloom.baseline._roles cimport FLOAT_PINS, INTEGER_PINS
from wasmloom.baseline._stencils_object cimport Pinning

cdef enum:
    PIN_COUNT = INTEGER_PINS + FLOAT_PINS

# A stencil to be copied: where the fields of its instruction (of its part of a fused one) count from, in the bytecode,
# and the size of that; for each of its roles four bits that the register's number differs in from the stencil's own.
cdef struct Step:
    int32_t stencil
    uint32_t at
    uint32_t size
    uint32_t registers

@cython.final
@cython.no_gc
cdef class Pins:
    cdef int count                      # how many slots of the function are pinned
    cdef uint8_t *pin_of                # by slot: its pin from 1 on, those of integers first; 0: none
    cdef uint32_t fields[PIN_COUNT]     # where in the bytecode there is the number of a pinned slot …
    cdef uint16_t slots[PIN_COUNT]      # … the number, and its pin
    cdef uint8_t pins[PIN_COUNT]
    # By slot, while they are chosen: what reading it from a register is worth, and how much more as a float.
    cdef int64_t *worth
    cdef int64_t *floatness
    # What instructions read and write, in order; in how many more loops each is than the one before; by 8 bytes of
    # bytecode where that begins.
    cdef uint32_t *log
    cdef int32_t *deeper
    cdef uint64_t log_room
    cdef uint32_t *firsts
    cdef uint64_t first_room

    cdef void clear(self) noexcept
    cdef int choose(self, const Pinning *pinnings, const Step *steps, uint64_t count, char *code, uint64_t size) except -1
    cdef uint64_t _note(self, const Pinning *pinnings, const Step *steps, uint64_t count, char *code) noexcept
    cdef int _take(self, uint64_t length, char *code) except -1
