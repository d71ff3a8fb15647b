from wasmloom.contract._layout cimport WlInstance
from wasmloom.runtime.store cimport Store

cpdef object let_mix(Store store, bint on)
cdef int join(Store store, WlInstance *instance, object module) except -1
