from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.binary.sections cimport ElementItem, GlobalItem, TableItem
from wasmloom.spec.canon cimport TypeInfo

cdef class Context:
    cdef readonly DecodedModule module
    cdef readonly bint stack_switching
    cdef const unsigned char *base          # the module's bytes
    cdef readonly dict features             # name -> (what, offset)
    cdef uint32_t n_types
    cdef TypeInfo **types                   # by type index
    cdef uint32_t n_funcs
    cdef TypeInfo **funcs                   # by function index
    cdef unsigned char *inexact             # by function index: whether its type may be one below that of its import
    cdef unsigned char *declared            # by function index: whether `ref.func` may name it in a body
    cdef uint32_t n_tables
    cdef TableItem *tables
    cdef uint32_t n_memories
    cdef unsigned char *memory64            # by memory index
    cdef uint32_t n_globals
    cdef GlobalItem *globals
    cdef uint32_t n_tags
    cdef TypeInfo **tags
    cdef uint32_t n_elements
    cdef ElementItem *elements
    cdef uint64_t noted                     # the type whose features have been noted last
    cdef uint32_t n_data
    cdef bint has_data_count
    cdef list blocks                        # owners of the C arrays
    cdef void *_room(self, size_t count, size_t size) except *
    cdef int note(self, str feature, str what, Py_ssize_t offset) except -1
    cdef int note_type(self, uint64_t t, Py_ssize_t offset) except -1 nogil
    cdef int note_new(self, uint64_t t, Py_ssize_t offset) except -1
    cdef str show_heap(self, uint64_t heap)
    cdef str show(self, uint64_t t)
