cimport cython

from wasmloom.baseline.copier cimport Copier
from wasmloom.runtime.store cimport Store

# Its caller looks at the exception itself.
ctypedef int (*Unchecked)(Store) noexcept

@cython.final
@cython.no_gc
cdef class TellingCopier(Copier):
    cdef object describe    # called with the space and what a batch consists of; returns objects to keep
    cdef list described     # these: they live as long as the code. None of them refers to anything of ours.
