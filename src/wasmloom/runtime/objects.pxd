from libc.stdint cimport uint32_t, uint64_t

from wasmloom.contract._layout cimport WlContext, WlInstance, WlObject, WlType
from wasmloom.contract.operands cimport Operands
from wasmloom.runtime.guests cimport Guest
from wasmloom.spec.canon cimport TypeInfo

cdef WlType *layout_of(TypeInfo *info) except *
cdef WlObject *new_struct(Guest *guest, WlType *type) noexcept nogil
cdef WlObject *new_array(Guest *guest, WlType *type, uint64_t length) noexcept nogil
cdef uint64_t storage_bytes(uint64_t storage) noexcept nogil
cdef void read_storage(uint64_t storage, const char *at, bint is_signed, uint64_t *words) noexcept nogil
cdef void write_storage(uint64_t bytes, char *at, const uint64_t *words) noexcept nogil

cdef inline char *elements_of(WlObject *array) noexcept nogil:
    return <char *>(array + 1)

cdef TypeInfo *info_of(WlType *type) noexcept

# An instruction on arrays that the runtime executes.
cdef struct Call:
    WlContext *ctx
    WlInstance *inst
    Operands *op
    WlType *type            # of the array
    uint64_t slots          # that an element takes
    uint64_t *words         # the operands
    uint64_t *result        # where the result goes, if there is one; that may be where the first operand is
