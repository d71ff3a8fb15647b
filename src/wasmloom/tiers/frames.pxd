from libc.stdint cimport uint64_t

from wasmloom.runtime.guests cimport Parked
from wasmloom.runtime.store cimport Store

cdef list frames_of_parked(Store store, Parked *parked, object host)
cdef uint64_t instance_calling(Store store) noexcept
