from libc.stdint cimport uint32_t

from wasmloom.interpreter.flow cimport Translator

cdef int translate(Translator t, uint32_t index) except -1
