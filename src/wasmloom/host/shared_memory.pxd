cimport cython

from wasmloom.contract._layout cimport WlMemory

@cython.final
@cython.no_gc_clear
cdef class SharedMemory:
    cdef WlMemory memory
    cdef object _max                # declared maximum in pages
    cdef object __weakref__

cdef WlMemory *pointer_of(SharedMemory shared) noexcept
