from libc.stdint cimport uint64_t

from wasmloom.binary.reader cimport Instr
from wasmloom.validation.validator cimport Validator

cdef int enter_block(Validator v, Instr *i, int kind) except -1 nogil
