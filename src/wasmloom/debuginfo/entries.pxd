cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.debuginfo.cursor cimport Cursor

cdef enum Kind:             # what a value is
    NOTHING                 # a block, or a reference to another file
    NUMBER
    ADDRESS
    ADDRESS_NUMBER          # in .debug_addr
    ENTRY                   # offset of an entry in .debug_info
    TEXT                    # offset of a string in .debug_info …
    TEXT_IN_STR             # … in .debug_str
    TEXT_IN_LINE_STR
    TEXT_NUMBER             # in .debug_str_offsets
    LIST_NUMBER             # of ranges

cdef struct Value:
    Kind kind
    uint64_t number

# What these refer to doesn't refer back, so the garbage collector needn't see them.
@cython.final
@cython.no_gc
cdef class Abbreviations:
    cdef object kept        # array('Q') x 2
    cdef uint64_t *rows     # four for each: code; tag, and whether there are children; first attribute; how many
    cdef uint64_t *attributes   # two for each: name and form; the value of an implicit constant
    cdef readonly uint64_t count
    cdef readonly uint64_t size     # bytes that they take
    cdef dict numbers       # code -> row, if codes don't count from 1
    cdef int64_t find(self, Cursor cursor, uint64_t code) except -1

@cython.final
@cython.no_gc
cdef class Unit:
    cdef readonly uint64_t start    # in .debug_info
    cdef readonly uint64_t first    # its first entry
    cdef readonly uint64_t end
    cdef readonly int version
    cdef readonly int address_size
    cdef int offset_size
    cdef uint64_t abbreviations
    cdef public object name
    cdef public object folder
    cdef public object low        # the address that ranges are relative to
    cdef public object ranges     # list of (first address, where it ends)
    cdef public object lines_at   # in .debug_line, or None
    cdef uint64_t strings_base      # where what is found by number begins
    cdef uint64_t addresses_base
    cdef uint64_t ranges_base
    cdef public object lines        # LineTable, made when it is needed
    cdef public object functions    # Functions, likewise

cdef Unit new_unit()
cdef Abbreviations read_abbreviations(Cursor section, uint64_t offset)
cdef int read_value(Unit unit, Cursor cursor, uint64_t *attribute, Value *value) except -1
cdef dict read_values(Unit unit, Cursor cursor, Abbreviations table, frozenset wanted)
