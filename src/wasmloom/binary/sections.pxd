cimport cython
from libc.stdint cimport uint32_t, uint64_t

from wasmloom.binary.reader cimport Reader
from wasmloom.spec.canon cimport Words

cdef struct Items:              # an array that grows: items of one struct
    char *data
    size_t count
    size_t room

cdef struct Range:              # bytes of the module
    uint32_t start
    uint32_t end                # equals the start for a range that doesn't exist

cdef enum Mode:                 # of segments
    ACTIVE
    PASSIVE
    DECLARATIVE

# Every entry has the offset of its definition, or of its import, for errors. `indexed` are value types with type
# indices, as in the bytes; what the decoder adds to them is canonical.

cdef struct ImportItem:
    uint32_t offset
    uint32_t index              # in the index space of its kind
    Range module
    Range name
    unsigned char kind          # place in EXTERN_KINDS
    bint exact                  # a function must have that type, and none below it

cdef struct TableItem:
    uint64_t indexed            # element type
    uint64_t element            # canonical
    uint64_t min
    uint64_t max                # if bounded
    uint32_t offset
    Range init
    bint bounded
    bint is64

cdef struct GlobalItem:
    uint64_t indexed
    uint64_t content            # canonical
    uint32_t offset
    Range init
    bint mutable

cdef struct TagItem:
    uint32_t offset
    uint32_t type               # type index
    uint32_t id                 # canonical

cdef struct ExportItem:
    uint32_t offset
    uint32_t index
    Range name
    unsigned char kind

cdef struct ElementItem:
    uint64_t indexed
    uint64_t type               # canonical
    uint32_t offset
    uint32_t table
    uint32_t count
    Range at                    # offset expression of active ones
    Range items                 # function indices or expressions
    unsigned char mode
    bint has_exprs

cdef struct DataItem:
    uint32_t offset
    uint32_t memory
    Range at
    Range contents
    unsigned char mode

cdef struct CustomItem:
    Range name
    Range contents
    unsigned char after         # id of the known section that it follows

# The garbage collector doesn't see it: see `DecodedModule`.
@cython.no_gc
cdef class Sections:
    cdef readonly bytes data
    cdef Range type_range               # contents of the type section
    cdef Items types_at                 # uint32_t: offset of each type
    cdef Items groups                   # uint32_t: number of types in each recursive group
    cdef Items import_items
    cdef readonly list import_groups    # of compact imports: (first import, number of imports, whether of one type)
    cdef readonly object func_types     # array('I'): type index of each function, imports first
    cdef Items funcs_at                 # uint32_t: offset of each function defined here
    cdef Items table_items              # imports first, as all index spaces
    cdef readonly list memories         # list[MemoryType]
    cdef readonly list memory_offsets
    cdef Items tag_items
    cdef Items global_items
    cdef Items export_items
    cdef readonly dict export_names     # name -> number of the export
    cdef readonly Py_ssize_t duplicate_export   # number of the first export whose name another had, or -1
    cdef readonly object start          # int | None
    cdef readonly uint32_t start_offset
    cdef Items element_items
    cdef readonly object data_count     # int | None
    cdef Items data_items
    cdef Items custom_items
    cdef readonly object body_starts    # array('I')
    cdef readonly object body_ends      # array('I')
    cdef readonly int num_imported_funcs
    cdef readonly int num_imported_tables
    cdef readonly int num_imported_memories
    cdef readonly int num_imported_globals
    cdef readonly int num_imported_tags
    cdef str text(self, Range where)

cdef int skip_expr(Reader *r, Range *out) except -1
cdef int read_types(Sections m, Reader *r, Words *words) except -1
cdef int read_sections(Sections m, Reader *r, Words *words) except -1
