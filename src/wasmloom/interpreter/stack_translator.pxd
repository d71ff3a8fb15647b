from libc.stdint cimport uint8_t, uint32_t, uint64_t

from wasmloom.binary.reader cimport Instr, Reader
from wasmloom.interpreter.calls cimport Calls
from wasmloom.interpreter.flow cimport Label, Signature

cdef class StackInstructions(Calls):
    cdef bint traced            # whether WASMLOOM_LOG asks for it
    cdef list cont_functions    # per type index: the type index of the function type, for continuation types
    cdef list tag_types         # per tag: the type index of its function type
    cdef list switched_from     # per type index of a function type: that of the continuation that it ends with, if so

    cdef Signature *tag_type(self, uint32_t tag) except *
    cdef Signature *cont_type(self, uint32_t type) except *
    cdef int push_slots(self, uint8_t *types, int count) except -1
    cdef int drop_slots(self, int count) except -1
    cdef int stack_instruction(self, Reader *r, Instr *i) except -1
    cdef int try_table(self, Reader *r, Instr *i) except -1
    cdef int new_exception(self, uint32_t tag) except -1
    cdef int resume(self, int number, Reader *r, Instr *i) except -1
    cdef int cont_bind(self, Instr *i) except -1
    cdef int suspend(self, Instr *i) except -1
    cdef int switch(self, Instr *i) except -1
