from libc.stdint cimport uint32_t

from wasmloom.binary.reader cimport Instr
from wasmloom.interpreter.flow cimport Flow, Signature

cdef class Calls(Flow):
    cdef Signature *signature_of_function(self, uint32_t index) noexcept
    cdef int stage_arguments(self, Signature *type) except -1
    cdef int push_results(self, Signature *type, int base) except -1
    cdef int call(self, Instr *i) except -1
    cdef int restore_instance(self) except -1
    cdef int call_indirect(self, Instr *i) except -1
    cdef int call_ref(self, Instr *i) except -1
    cdef int return_call(self, Instr *i) except -1
    cdef Py_ssize_t tail_out(self, int number, Signature *type) except -1
    cdef int return_call_indirect(self, Instr *i) except -1
    cdef int return_call_ref(self, Instr *i) except -1
    cdef int runtime_call(self, int number, int operands, bint result, uint32_t imm0, uint32_t imm1, int type) except -1
