from wasmloom.contract._layout cimport WlInstance
from wasmloom.runtime.store cimport Store

cdef int join(Store store, WlInstance *instance, object module) except -1
