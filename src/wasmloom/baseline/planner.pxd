cimport cython
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from wasmloom.baseline._stencils_object cimport Hole, Number, Pinning, Stencil
from wasmloom.baseline.pinning cimport Pins, Step

cdef enum:
    # Of an instruction's place in code: it is left to its handler; it is among the entries already; a loop begins there
    # that isn't in another one: loads of all pins come first; it is in a loop.
    LEFT = 0x80000000
    ENTERED = 0x40000000
    PREPARED = 0x20000000
    PINNED = 0x10000000
    PLACE = 0x0FFFFFFF
    # Of what is known of an instruction: it takes the longer way; no function with it has pins.
    CAREFUL = 1
    UNFIT = 2
    # An offset at which no instruction has a field: the upper half of its handler's address, a small number.
    NOWHERE = 4
    # A power of two that is surely `SMALL`.
    SURELY_SMALL = 1 << 30
    # Handlers are aligned to 16 bytes: what their addresses are shifted by to look up their numbers.
    WORD_UNIT = 4
    EXTRA_COUNT = 7             # stencils that are no instructions': see `generator.EXTRA`

# A function's code: bytes that usually run, others behind them; the how-manieth it is, from 1; 0: it has none.
cdef struct Made:
    char *start
    uint32_t hot
    uint32_t cold
    uint32_t order

# What is known of an instruction by its handler, for most of them all that has to be: its stencils (of a fused one
# there are two, otherwise the second is any), their sizes; how far behind it the fields of the second part
# count from; where there is a target, and up to two fields that must be small. For what there isn't: `NOWHERE`.
cdef struct Known:
    int16_t stencil
    int16_t second
    uint16_t hot
    uint16_t cold
    uint8_t count
    uint8_t shift
    uint8_t target
    uint8_t small[2]
    uint8_t flags

cdef class Planner

# For tests (see `mixing`): a function has been planned, as the how-manieth, without pins, which are chosen.
ctypedef int (*Mix)(Planner planner, uint32_t order) except -1

# What mixes the code of modules that are made from now on, and a number that says how; 0: nothing is mixed.
cdef Mix mix
cdef uint64_t seed

@cython.final
@cython.no_gc
cdef class Planner:
    # Of the functions of the module.
    cdef Made *made
    cdef uint32_t count
    cdef char **cells
    cdef bint goes_through      # calls go through cells, which others change (wasmloom.tiers.mixed)
    # Of the function that was planned last.
    cdef char *code             # its bytecode …
    cdef uint32_t size          # … and how much that is
    cdef Step *steps
    cdef uint64_t step_count
    cdef uint64_t step_room
    cdef Step *other_steps      # steps that are planned once more
    cdef uint64_t other_room
    cdef uint32_t *places       # by 8 bytes of bytecode: where an instruction's code is; flags may be set
    cdef uint64_t place_room
    cdef uint32_t *entries      # bytecode offsets of entries, some of them more than once
    cdef uint64_t entry_count
    cdef uint64_t entry_room
    cdef uint32_t hot
    cdef uint32_t cold
    cdef uint32_t loads         # bytes of code that load all pins
    cdef Pins pins
    cdef Mix mix
    cdef uint64_t seed          # 0, but for tests

    cdef int plan(self, char *code, uint32_t size, uint32_t order) except -1
    cdef int _reserve(self, uint32_t size) except -1
    cdef int enter_at(self, uint32_t at) except -1
    cdef int sort_out_entries(self) except -1
    cdef int32_t _choose(self, int number, char *fields, uint32_t order) noexcept
    cdef void _step(self, int32_t stencil, uint32_t at, uint32_t registers=*) noexcept
    cdef int _use(self, int32_t stencil, int number, uint32_t at) except -1
    cdef int _lead(self, int number, uint32_t at) except -1
    cdef int leave(self, int number, uint32_t at, uint32_t size) except -1
    cdef uint32_t _look(self, int number, uint32_t at, uint32_t order) except 0
    cdef int _lay_out(self, uint32_t order) except -1
    cdef void _put(self, int32_t stencil, uint32_t at) noexcept
    cdef void _load_pins(self) noexcept
    cdef int _pin_steps(self, uint64_t first) except -1

# The object with the stencils, which only this module links.
cdef char *stencil_code
cdef Stencil *stencils
cdef Number *stencil_numbers
cdef Hole *stencil_holes
cdef Pinning *pinnings
cdef uint16_t *patches
cdef int16_t *instruction_leads
cdef char *constants
cdef int64_t constants_size

cdef int32_t stencil_of(int number, int variant) noexcept
cdef int32_t pin_stencil(bint loads, int pin) noexcept
cdef bint only_pins(int32_t stencil) noexcept
cdef uint32_t pin_register(int pin, int32_t stencil) noexcept
cdef int number_of(char *instruction) noexcept
cdef uint32_t size_of(int number, char *instruction) noexcept
