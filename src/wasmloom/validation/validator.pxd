cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.binary.reader cimport Instr, Reader
from wasmloom.binary.sections cimport Range
from wasmloom.spec.canon cimport TypeInfo
from wasmloom.validation.context cimport Context

cdef enum:
    ADDR = 1                    # in a row's typing: the address type of what the instruction names
    MAX_OPERANDS = 4            # of a row that the table types
    MAX_RESULTS = 2
    MAX_CHECKS = 4
    ROWS = 1024
    ROOM = 2048                 # free operand slots before each instruction: more than any instruction pushes

    FIRST_LOCALS = 256          # whose types are written one by one

cdef struct LocalRun:
    uint64_t type
    uint32_t end                # one more than the last local's index
    bint unset                  # they have no default value

cdef enum FrameKind:
    IN_BODY
    IN_BLOCK
    IN_LOOP
    IN_IF
    IN_ELSE
    IN_TRY                      # the old instruction
    IN_CATCH                    # from here on the exception lies below the frame
    IN_CATCH_ALL

cdef struct Frame:              # one entry of the control stack
    int kind
    bint unreachable
    uint32_t height             # of the operand stack when the frame was entered
    uint32_t n_inits            # locals initialised when the frame was entered
    uint32_t n_params
    uint32_t n_results
    const uint64_t *types       # parameters, then results; NULL when the only result is `single`
    uint64_t single

cdef class Validator(Context)

ctypedef int (*Rule)(Validator v, Instr *i) except -1 nogil

cdef enum CheckKind:            # what an immediate must be, checked the same for all instructions
    CHECK_NONE
    CHECK_FUNC
    CHECK_TYPE
    CHECK_TABLE
    CHECK_MEMORY
    CHECK_MEMARG
    CHECK_TAG
    CHECK_ELEM
    CHECK_DATA
    CHECK_GLOBAL
    CHECK_LANE
    CHECK_LANES

cdef struct Check:
    int kind
    int slot                    # which of a, b, c, d
    int limit                   # log2 of the natural alignment, or number of lanes
    bint exact                  # no other alignment will do

cdef struct Op:                 # a row of the instruction table
    Rule rule                   # NULL when the table types it
    uint64_t params[MAX_OPERANDS]
    uint64_t results[MAX_RESULTS]
    int n_params
    int n_results
    bint slow                   # has checks or a feature to note
    bint constant               # may occur in constant expressions
    bint address_is_table       # where ADDR comes from
    int address_slot
    int feature                 # index in the list of features; 0 is the first version of WebAssembly
    Check checks[MAX_CHECKS]

cdef Op OPS[ROWS]

@cython.final
cdef class Validator(Context):
    cdef Reader reader
    cdef Instr instr            # the current instruction
    cdef uint64_t *stack        # operands
    cdef size_t stack_room
    cdef size_t sp
    cdef size_t height          # frame.height
    cdef size_t pushed          # how many operands rules have pushed
    cdef Frame *frames
    cdef size_t frames_room
    cdef size_t n_frames
    cdef Frame *frame           # the innermost
    cdef uint32_t n_locals
    cdef uint64_t locals[FIRST_LOCALS]  # types of the first ones; those of all are in
    cdef LocalRun *runs         # neighbours of one type, in order
    cdef size_t n_runs
    cdef size_t runs_room
    cdef unsigned char *unset   # with `track`, by local: not initialised yet
    cdef uint32_t *inits        # locals initialised in the open frames
    cdef size_t n_inits
    cdef size_t unset_room
    cdef bint track             # some local has no default value
    cdef bint in_constant       # checking a constant expression
    cdef uint32_t visible_globals   # of a constant expression
    cdef TypeInfo *type         # of the function
    cdef unsigned char seen[64] # features noted

    cdef int fail(self, str message) except -1
    cdef int mismatch(self, uint64_t expected, int64_t found) except -1 nogil
    cdef int malformed(self, const char *message) except -1 nogil
    cdef int refuse(self, const char *message) except -1 nogil
    cdef int refuse_number(self, const char *message, uint64_t number) except -1 nogil
    cdef str mnemonic(self)
    cdef int push(self, uint64_t t) except -1 nogil
    cdef int push_types(self, const uint64_t *types, size_t n) except -1 nogil
    cdef int64_t pop(self) except -1 nogil
    cdef int64_t pop_ref(self) except -1 nogil
    cdef int expect(self, uint64_t t) except -1 nogil
    cdef int expect_types(self, const uint64_t *types, size_t n) except -1 nogil
    cdef int set_unreachable(self) except -1 nogil
    cdef int enter(
        self, int kind, size_t n_params, size_t n_results, const uint64_t *types, uint64_t single
    ) except -1 nogil
    cdef int leave(self) except -1 nogil
    cdef int64_t canonical(self, uint64_t t) except -1 nogil
    cdef int64_t canonical_heap(self, uint64_t heap) except -1 nogil
    cdef int64_t type_of_kind(self, uint64_t index, int kind) except -1 nogil
    cdef uint64_t address_type(self, bint is64) noexcept nogil
    cdef int check_constant(self, Range where, uint64_t type, uint32_t visible_globals) except -1
    cdef int _run(self) except -1 nogil
    cdef int read_next(self) except -1 nogil
    cdef int check_next(self) except -1 nogil
    cdef int open_body(self, size_t body) except -1 nogil
    cdef int _check_body(self, size_t body) except -1 nogil
    cdef int _check_bodies(self, size_t start, size_t end) except -1 nogil
    cdef int _enter_body(self, size_t n_results, const uint64_t *types, uint64_t single) except -1 nogil
    cdef int _reset(self, Py_ssize_t start, Py_ssize_t end) except -1 nogil
    cdef int _read_locals(self) except -1 nogil
    cdef int _track_locals(self) except -1 nogil
    cdef int _add_locals(self, uint32_t count, uint64_t t, bint declared) except -1 nogil

cdef uint64_t reference(TypeInfo *type, bint null) noexcept nogil
cdef uint64_t exact_reference(TypeInfo *type, bint null) noexcept nogil
cdef int64_t label_types(Validator v, uint64_t depth, const uint64_t **types) except -1 nogil
cdef size_t result_types(Frame *frame, const uint64_t **types) noexcept nogil
cdef set_rule(str name, Rule rule)
