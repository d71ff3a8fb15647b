from libc.stdint cimport uint16_t, uint32_t, uint64_t

# The instruction of a bulk operation (see `layout.RUNTIME_CALLS`).
ctypedef struct Operands:
    uint64_t handler
    uint16_t a
    uint16_t b
    uint16_t c
    uint16_t d
    uint32_t imm0
    uint32_t imm1
