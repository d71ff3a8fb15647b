cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.interpreter.flow cimport Translator
from wasmloom.runtime.arena cimport Arena
from wasmloom.runtime.codememory cimport CodeBudget
from wasmloom.contract._layout cimport WlContext, WlInstance, WlNative

# A translated function.
cdef struct Code:
    char *start
    uint32_t size

cdef class CodeSpace

# Makes machine code of a code space's bytecode, which lies in an arena with it: see wasmloom.baseline.copier.
@cython.no_gc
cdef class Coder:
    cdef Arena arena

    # A function has been translated. Never called twice for one, and not for what doesn't lie in the arena. The space
    # lives as long as the coder is used.
    cdef int add(self, CodeSpace space, uint32_t index) except -1
    # Make the code of all that has been added: `at_tick`, when a guest has run for a while, or all has been translated.
    cdef int make(self, bint at_tick) except -1
    cdef bint has_code(self, uint32_t index) noexcept
    # The function of those defined in the space whose machine code an address lies in, or -1.
    cdef int64_t function_at(self, uint64_t address) noexcept
    # The bytecode offset of the instruction that machine code at an address in the function is of: `code` is its
    # bytecode as it was translated.
    cdef int64_t offset_at(self, CodeSpace space, uint32_t index, char *code, uint32_t size, uint64_t address) except -1

# The garbage collector doesn't see it: see `DecodedModule`. No object that it refers to, `prepare` included, refers to
# a store.
@cython.final
@cython.no_gc
cdef class CodeSpace:
    cdef readonly DecodedModule module
    cdef char **cells           # entry of each function defined in the module; funcrefs and calls go through these
    cdef Code *codes
    cdef char *stubs
    cdef uint32_t count
    cdef bint fuel
    cdef bint deterministic
    cdef readonly bint checked  # memory accesses are checked
    cdef object prepare         # called with a function's index before it is translated, or None
    cdef Translator translator
    cdef object validator       # that told types last, or None
    cdef CodeBudget budget      # that its bytecode counts towards, or None
    cdef uint64_t counted       # bytes taken from that
    cdef Coder coder            # makes machine code of what is translated, or None
    # Of functions with compiled code, for stores that mix (see wasmloom.tiers.mixed): what their cells lead to. NULL
    # before there is one.
    cdef WlNative *natives
    cdef list held              # what that code lies in, and how parameters travel: objects without references
    cdef list starts            # sorted: start << 32 | index, of translated functions; None when out of date

    cdef char *_new_memory(self, size_t size) noexcept
    cdef void _free_memory(self, void *memory) noexcept
    cdef int64_t _offset_at(self, uint32_t index, uint64_t address) except -1
    cdef int translate(self, uint32_t index) except -1
    cdef int use_compiled(self, uint32_t index, void *call, void *code, char *passing, uint64_t words) except -1
    cdef uint64_t *word_at(self, uint32_t index, uint64_t at) noexcept
    cdef Translator _take_translator(self)
    cdef Translator _translate_again(self, uint32_t index, int64_t stop_at)
    cdef object find(self, uint64_t ip)

# Its caller looks at the exception itself.
ctypedef int (*TranslateCall)(CodeSpace, uint32_t) noexcept
ctypedef uint64_t (*WithGil)(WlContext *, void *, uint32_t) noexcept nogil
