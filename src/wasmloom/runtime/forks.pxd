from wasmloom.runtime.store cimport Store

cdef void _end_others(Store store, unsigned long me) noexcept nogil
