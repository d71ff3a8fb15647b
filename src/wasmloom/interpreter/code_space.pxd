cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.interpreter.flow cimport Translator
from wasmloom.runtime.codememory cimport CodeBudget
from wasmloom.contract._layout cimport WlContext, WlInstance

# A translated function.
cdef struct Code:
    char *start
    uint32_t size

# Not seen by the garbage collector: see `DecodedModule`. Nothing that it refers to, `prepare` included, refers to a
# store.
@cython.final
@cython.no_gc
cdef class CodeSpace:
    cdef readonly DecodedModule module
    cdef char **cells           # entry of each function defined in the module; funcrefs and calls go through these
    cdef Code *codes
    cdef char *stubs
    cdef uint32_t count
    cdef bint fuel
    cdef readonly bint checked  # memory accesses are checked
    cdef object prepare         # called with a function's index before it is translated, or None
    cdef Translator translator
    cdef object validator       # that told types last, or None
    cdef CodeBudget budget      # that its bytecode counts towards, or None
    cdef uint64_t counted       # bytes taken from that
    cdef list starts            # sorted: start << 32 | index, of translated functions; None when out of date

    cdef int translate(self, uint32_t index) except -1
    cdef Translator _take_translator(self)
    cdef Translator _translate_again(self, uint32_t index, int64_t stop_at)
    cdef object find(self, uint64_t ip)

# Its caller looks at the exception itself.
ctypedef int (*TranslateCall)(CodeSpace, uint32_t) noexcept
ctypedef uint64_t (*WithGil)(WlContext *, void *, uint32_t) noexcept nogil
