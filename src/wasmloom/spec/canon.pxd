cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum TypeKind:
    FUNC = 0
    STRUCT = 1
    ARRAY = 2
    CONT = 3

cdef enum:
    PAGE_BITS = 9
    PAGE_SIZE = 1 << PAGE_BITS  # ids of one page
    HEAD = 4                    # the words of a member of `Words` before its types

cdef uint64_t INNER             # added to a number in `Words`: it is a position in the group itself
cdef uint64_t MUTABLE           # added to a field's storage type in `Words`

cdef struct TypeInfo:           # one canonical type; its address stays the same while it lives
    int kind
    bint final
    int depth                   # number of proper supertypes
    TypeInfo *above             # the declared supertype, or NULL
    uint32_t id
    uint32_t n_params           # FUNC; number of fields for STRUCT and ARRAY
    uint32_t n_results          # FUNC
    uint32_t func               # CONT: canonical id of the function type
    TypeInfo *descriptor        # STRUCT: the type that describes it, and that it describes, or NULL; of the same group
    TypeInfo *describes
    uint32_t descriptor_at      # STRUCT with a descriptor: how many fields lie before that in objects
    uint64_t *types             # FUNC: parameters, then results; STRUCT, ARRAY: storage types
    unsigned char *mutable      # STRUCT, ARRAY: whether each field can be written
    PyObject *definition        # the SubType, owned; NULL until it has been asked for
    PyObject *signature         # the same for the call bridge's Signature
    void *layout                # STRUCT, ARRAY: a WlType, owned (malloc'ed); NULL until wasmloom.runtime.objects makes it
    TypeInfo *group             # the first type of its group, which has the rest:
    uint32_t members            # how many types the group has; their ids follow each other
    uint64_t users              # who keeps the group alive
    PyObject *key               # owned bytes: the group in `_groups`
    TypeInfo *next              # among the groups that are being freed

cdef struct TypePage:           # the types with PAGE_SIZE ids in a row; NULL: there is none
    uint32_t count              # how many there are; a page without any is freed
    TypeInfo *types[512]

# A group as `intern_words` takes it. For each member: kind, plus 256 if it is final and 512 if it has a supertype;
# the supertype's number or 0; parameters plus results << 32 (or fields, or 0); the place in the group of its descriptor
# plus that of what it describes << 32, each 1 more, or 0; then the types: of parameters and results, of fields (plus
# MUTABLE), or the number of a continuation's function type.
cdef struct Words:
    uint64_t *items
    uint64_t count
    uint64_t room

cdef unsigned char _ABSTRACT_MATCHES[128 * 128]     # sub opcode, super opcode -> whether they match
cdef unsigned char _TOP[128]                        # opcode -> the top of its hierarchy
cdef unsigned char _ABOVE[4]                        # kind -> the abstract heap type above it
cdef unsigned char _BELOW[4]                        # kind -> the abstract heap type below it
cdef TypePage **_pages                              # id >> PAGE_BITS -> page, or NULL
cdef uint64_t _n_pages
cdef uint64_t _next                                 # where the search for the next free ids begins

# What keeps groups of types alive.
@cython.final
cdef class Types:
    cdef TypeInfo **groups
    cdef uint64_t count
    cdef uint64_t room

    cdef int make_room(self) except -1
    cdef int keep(self, uint64_t id) except -1

cdef TypeInfo *type_info(uint32_t id) noexcept nogil
cdef TypeInfo *find_type(uint64_t id) noexcept nogil
cdef bint is_val_type(uint64_t t) noexcept nogil
cdef bint id_matches(uint32_t a, uint32_t b) noexcept nogil
cdef bint heap_matches(uint64_t a, uint64_t b) noexcept nogil
cdef bint type_matches(uint64_t a, uint64_t b) noexcept nogil
cdef uint64_t top_heap(uint64_t heap) noexcept nogil
cdef bint structure_matches(TypeInfo *a, TypeInfo *b) noexcept
cdef uint64_t types_of(const uint64_t *words) noexcept
cdef int put(Words *words, uint64_t word) except -1
cdef int64_t intern_words(Types keeper, Words *words, uint32_t members) except -1
cpdef Types new_types()
