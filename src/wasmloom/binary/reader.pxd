from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t, uint64_t

cdef struct Reader:
    const unsigned char *base   # start of the module: offsets in errors count from here
    const unsigned char *pos    # next byte
    const unsigned char *end    # one past the last readable byte
    const unsigned char *stop   # where `next_instr` takes its slow path; at most `end`

cdef struct Instr:
    int op                      # row of spec.instructions.INSTRUCTIONS
    uint32_t offset             # of the opcode, from the start of the module
    uint64_t a                  # immediates, see the docstring of reader.py
    uint64_t b
    uint64_t c
    uint64_t d
    const unsigned char *vec    # first item of the vector immediate
    uint32_t count              # its number of items

cdef struct Clause:
    int kind                    # a CATCH_* or ON_* number
    uint32_t tag                # 0 when the kind has none
    uint32_t label              # 0 when the kind has none

cdef enum ClauseKind:
    CATCH = 0
    CATCH_REF = 1
    CATCH_ALL = 2
    CATCH_ALL_REF = 3
    ON_LABEL = 0
    ON_SWITCH = 1

cdef enum Layout:               # how an immediate is laid out in the bytes
    L_NONE
    L_INDEX
    L_BLOCK
    L_MEMARG
    L_I32
    L_I64
    L_F32
    L_F64
    L_LABELS
    L_BYTES16
    L_LANE
    L_HEAP
    L_TYPES
    L_CATCHES
    L_HANDLERS
    L_CAST
    L_ZERO

cdef enum:
    BLOCK_EMPTY = -1
    MAX_IMMEDIATES = 4          # and the terminator
    MAX_ROWS = 1024
    MAX_PREFIXES = 4
    MAX_PREFIXED = 512          # numbers per prefix
    ROW_MASK = 0xFFFF           # the row in an entry of _ONE_BYTE
    HAS_NONE = 1 << 16          # no immediates
    HAS_NUMBER = 1 << 17        # one immediate: an index, or an integer
    HAS_SIGN = 1 << 18          # the integer is signed
    HAS_MEMARG = 1 << 19        # one immediate: a memory access
    HAS_BLOCK = 1 << 20         # one immediate: a block type

# The tables that _fill_tables makes from spec.instructions and spec.types.
cdef int32_t _ONE_BYTE[256]     # opcode -> row and HAS_* flags, or -1
cdef int16_t _PREFIX_BASE[256]  # prefix byte -> where its rows begin in _PREFIXED, or -1
cdef int16_t _PREFIXED[MAX_PREFIXES * MAX_PREFIXED]     # base + number -> row, or -1
cdef unsigned char _LAYOUT[MAX_ROWS * MAX_IMMEDIATES]   # row, immediate -> layout; L_NONE ends a row
cdef unsigned char _ABSTRACT_HEAP[128]  # opcode -> whether it is an abstract heap type
cdef int32_t _VALTYPE[256]      # first byte -> value type, 0 when the byte isn't a whole one

# Let a reader read a range. Note for code that moves `end` afterwards: `next_instr` compares with `stop`.
cdef inline void read_range(
    Reader *r, const unsigned char *base, const unsigned char *start, const unsigned char *end
) noexcept nogil:
    r.base = base
    r.pos = start
    r.end = end
    r.stop = start

cdef int malformed(str message, Reader *r, const unsigned char *where) except -1

cdef int read_byte(Reader *r) except -1 nogil
cdef int64_t read_u32(Reader *r) except -1 nogil
cdef int read_u64(Reader *r, uint64_t *out) except -1 nogil
cdef int read_s32(Reader *r, int64_t *out) except -1 nogil
cdef int read_s33(Reader *r, int64_t *out) except -1 nogil
cdef int read_s64(Reader *r, int64_t *out) except -1 nogil
cdef int64_t read_heap(Reader *r) except -1 nogil
cdef int64_t read_valtype(Reader *r) except -1 nogil
cdef int64_t reference_in(int64_t heap, bint null) noexcept nogil
cdef int read_catch(Reader *r, Clause *out) except -1 nogil
cdef int read_handler(Reader *r, Clause *out) except -1 nogil
cdef int next_instr(Reader *r, Instr *out) except -1 nogil
cdef Reader items(Reader *r, Instr *i) noexcept nogil
