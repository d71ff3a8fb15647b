from libc.stdint cimport uint64_t

from wasmloom.interpreter.assembler cimport Operand
from wasmloom.interpreter.flow cimport Translator

# Of loads and stores, which vectors have, too.
cdef int fit_address(Translator t, Operand *a, int index, uint64_t *offset, int reach) except -1
cdef void put_load(Translator t, Py_ssize_t at, Operand *a, uint64_t offset, uint64_t memory, int reach) noexcept
cdef void put_store(
    Translator t, Py_ssize_t at, Operand *a, Operand *b, uint64_t offset, uint64_t memory, int reach
) noexcept
