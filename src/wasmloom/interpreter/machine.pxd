from libc.stdint cimport int16_t, int32_t, int64_t, uint64_t

from wasmloom.contract._layout cimport WlContext, WlFunction, WlInstance

# What the handlers object exports, for modules that don't link it.
cdef void **handlers                # address by handler number
cdef void **externals               # what handlers.EXTERNALS names
cdef void **cont_return_code        # what the functions of continuations return to: 8 bytes, the instruction
cdef char *cross_code               # the same for functions that compiled code has called
cdef char *leave_code               # the same for the outermost functions of entries
cdef int64_t handler_count
cdef const int16_t *sizes           # instruction size by handler number
cdef const int16_t *value_table
cdef const int16_t *load_table
cdef const int16_t *store_table
cdef const int16_t *branch_table
cdef const int16_t *single_table
cdef const int16_t *vector_table
cdef const int16_t *lane_table
cdef const int32_t *fusion_rows     # by number of the first handler: where its row begins in fusion_table, or -1
cdef const int16_t *fusion_columns  # by number of the second handler: its column, or -1
cdef const int16_t *fusion_table    # number of the fused handler, or -1

# Handler addresses in ascending order, with their numbers: for the fault handler.
cdef uint64_t *_sorted_addresses
cdef int16_t *_sorted_numbers

cdef void run(WlContext *ctx, WlInstance *inst, char *code, uint64_t *fp) noexcept nogil
cdef char *host_stub(WlFunction *function) except? NULL
cdef bint in_handler(uint64_t place) noexcept nogil
cdef bint _redirect(void *context, void *address) noexcept nogil
