from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum TypeKind:
    FUNC = 0
    STRUCT = 1
    ARRAY = 2
    CONT = 3

cdef struct TypeInfo:           # one canonical type; lives as long as the process
    int kind
    bint final
    int depth                   # number of proper supertypes
    int64_t parent              # canonical id of the declared supertype, or -1
    uint32_t id
    uint32_t n_params           # FUNC; number of fields for STRUCT and ARRAY
    uint32_t n_results          # FUNC
    uint64_t *types             # FUNC: parameters, then results; STRUCT, ARRAY: storage types
    unsigned char *mutable      # STRUCT, ARRAY: whether each field can be written
    uint32_t func               # CONT: canonical id of the function type

cdef unsigned char _ABSTRACT_MATCHES[128 * 128]     # sub opcode, super opcode -> whether they match
cdef unsigned char _TOP[128]                        # opcode -> the top of its hierarchy
cdef unsigned char _ABOVE[4]                        # kind -> the abstract heap type above it
cdef unsigned char _BELOW[4]                        # kind -> the abstract heap type below it
cdef TypeInfo **_infos                              # id -> type
cdef uint32_t _count
cdef uint32_t _room

cdef TypeInfo *type_info(uint32_t id) noexcept
cdef bint id_matches(uint32_t a, uint32_t b) noexcept
cdef bint heap_matches(uint64_t a, uint64_t b) noexcept
cdef bint type_matches(uint64_t a, uint64_t b) noexcept
cdef uint64_t top_heap(uint64_t heap) noexcept
