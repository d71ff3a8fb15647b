from libc.stdint cimport uint32_t, uint64_t
cimport cython

from wasmloom.host.signatures cimport Signature
from wasmloom.host.tags cimport Reference
from wasmloom.contract._layout cimport WlInstance
from wasmloom.runtime.store cimport Store
from wasmloom.spec.canon cimport Types

@cython.final
@cython.no_gc_clear
cdef class Driver:
    cdef char *code
    cdef uint32_t *clauses              # the same for compiled code: see wasmloom.compiler.stack_lowering
    cdef WlInstance *instance       # has the tags and nothing else
    cdef list signatures            # by tag: that of the continuation of a suspension with it
    cdef Types kept                 # the types of all these, and of what it resumes
    cdef uint32_t room              # slots of the frame

@cython.final
@cython.no_gc_clear
cdef class Continuation:
    cdef Reference reference
    cdef Signature signature        # None: not known
    cdef Types kept                 # keeps the type, unless its store does

    cdef object drive(self, bint throws, tuple args, tuple tags)
