from libc.stdint cimport uint8_t

# Which lanes an instruction has as its immediate.
cdef enum:
    LANE = 1        # the number of one
    LANES = 2       # those of sixteen bytes

cdef uint8_t op_lane[1024]
