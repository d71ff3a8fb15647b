cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.binary.reader cimport Instr, Reader
from wasmloom.interpreter.stack_translator cimport StackInstructions

# How an instruction is translated: by its family, by code of its own, or not at all.
cdef enum Action:
    A_UNSUPPORTED
    A_VALUE
    A_LOAD
    A_STORE
    A_ATOMIC
    A_CONST
    A_OWN

@cython.final
cdef class Translator(StackInstructions):
    cdef int skipped            # open blocks in dead code

    cdef int translate(self, uint32_t index) except -1
    cdef int read_local_types(self, Reader *r) except -1
    cdef int reserve_locals(self, int64_t count) except -1
    cdef int place_locals(self) except -1
    cdef int instruction(self, Reader *r, Instr *i) except -1
    cdef int fold_constants(self, int op, int count) except -1
    cdef int value(self, int op) except -1
    cdef int load(self, Instr *i) except -1
    cdef int store(self, Instr *i) except -1
    cdef int atomic(self, Instr *i) except -1
    cdef int scalar(self, int type) except -1
    cdef int local_set(self, int local, bint tee) except -1
    cdef int select(self) except -1
    cdef int global_get(self, uint32_t index) except -1
    cdef int global_set(self, uint32_t index) except -1

cdef Translator new_translator(DecodedModule module, size_t cells, bint fuel, bint checked)
