from libc.stdint cimport uint32_t

from wasmloom.spec.canon cimport Types

cdef class DecodedModule:
    cdef readonly bytes data
    cdef readonly list rec_groups           # list[tuple[SubType, ...]], type indices
    cdef readonly list types                # list[SubType], type indices
    cdef readonly list type_ids             # list[int]
    cdef readonly list imports              # list[Import], canonical
    cdef readonly int num_imported_funcs
    cdef readonly int num_imported_tables
    cdef readonly int num_imported_memories
    cdef readonly int num_imported_globals
    cdef readonly int num_imported_tags
    cdef readonly object func_types         # array('I'): type index of each function, imports first
    cdef readonly object func_type_ids      # array('I'): the same as canonical ids
    cdef readonly list tables               # list[TableType], imports first
    cdef readonly list table_inits          # list[Expr | None], of the tables defined here
    cdef readonly list memories             # list[MemoryType], imports first
    cdef readonly list tags                 # list[TagType], imports first
    cdef readonly list globals              # list[GlobalType], imports first
    cdef readonly list global_inits         # list[Expr], of the globals defined here
    cdef readonly list exports              # list[Export]
    cdef readonly object start              # int | None
    cdef readonly list elements             # list[ElementSegment]
    cdef readonly object data_count         # int | None
    cdef readonly list data_segments        # list[DataSegment]
    cdef readonly list custom_ranges        # list[CustomRange]
    cdef readonly dict offsets              # see the class
    cdef readonly object body_starts        # array('I')
    cdef readonly object body_ends          # array('I')
    cdef Types kept                         # keeps its types
    cdef object _names
    cdef dict _indexed                      # the parts with type indices that `syntax` needs
    cdef uint32_t num_funcs                 # size of the function index space
    cdef uint32_t num_bodies
    cdef uint32_t *func_type                # the arrays' items, for compiled code
    cdef uint32_t *func_type_id
    cdef uint32_t *body_start
    cdef uint32_t *body_end

cpdef DecodedModule decode_module(bytes data)
