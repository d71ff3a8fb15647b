cimport cython
from libc.stdint cimport uint32_t

from wasmloom.binary.reader cimport Reader
from wasmloom.binary.sections cimport (
    DataItem,
    ElementItem,
    ExportItem,
    GlobalItem,
    ImportItem,
    Range,
    Sections,
    TableItem,
    TagItem,
)
from wasmloom.spec.canon cimport Types

# The garbage collector doesn't see it: in a dying cycle it would empty the lists while functions can still be called.
# No object that it refers to refers back.
@cython.final
@cython.no_gc
cdef class DecodedModule(Sections):
    cdef readonly object func_type_ids      # array('I'): as `func_types`, canonical ids
    cdef Types kept                         # keeps its types
    cdef object _names
    cdef object _index_names
    cdef object _digest
    cdef readonly dict kept_for_others      # what higher floors have found out about it, by name
    cdef readonly bint has_old_exceptions   # whether functions may have a `try`; known once they have been validated
    cdef str last_module                    # the module name of an import, made last, and where it is
    cdef uint32_t last_at
    cdef readonly uint32_t num_types
    cdef uint32_t *type_id                  # by type index: canonical id
    cdef readonly uint32_t num_imports
    cdef ImportItem *import_item            # the arrays' items, for compiled code
    cdef readonly uint32_t num_funcs        # sizes of index spaces, imports included
    cdef uint32_t *func_type
    cdef uint32_t *func_type_id
    cdef readonly uint32_t num_tables
    cdef TableItem *table_item
    cdef readonly uint32_t num_globals
    cdef GlobalItem *global_item
    cdef readonly uint32_t num_tags
    cdef TagItem *tag_item
    cdef readonly uint32_t num_exports
    cdef ExportItem *export_item
    cdef readonly uint32_t num_elements
    cdef ElementItem *element_item
    cdef readonly uint32_t num_data
    cdef DataItem *data_item
    cdef readonly uint32_t num_bodies
    cdef uint32_t *body_start
    cdef uint32_t *body_end
    cdef object _import(self, size_t number, bint indexed)
    cdef str _module_name(self, ImportItem *item)
    cdef object _table(self, size_t index, bint indexed)
    cdef object _global(self, size_t index, bint indexed)
    cdef object _tag(self, size_t index, bint indexed)
    cdef object _expr(self, Range where)
    cdef object _element(self, ElementItem *item, bint indexed)
    cdef Reader reader_at(self, Range where)

cpdef DecodedModule decode_module(bytes data)
