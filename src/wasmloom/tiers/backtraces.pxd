from wasmloom.runtime.guests cimport Parked
from wasmloom.runtime.store cimport Store

cdef tuple backtrace_of_parked(Store store, Parked *parked, object host)
