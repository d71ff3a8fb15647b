from libc.stdint cimport uint32_t

from wasmloom.interpreter.flow cimport Signature, Translator

cdef int stage_arguments(Translator t, Signature *type) except -1
cdef int call_out(Translator t, Signature *type, int base, uint32_t place) except -1
cdef int push_results(Translator t, Signature *type, int base) except -1
cdef int runtime_call(
    Translator t, int number, int operands, bint result, uint32_t imm0, uint32_t imm1, int type
) except -1
