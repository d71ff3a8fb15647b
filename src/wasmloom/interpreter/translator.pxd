from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.binary.reader cimport Instr, Reader
from wasmloom.interpreter.assembler cimport Assembler, Condition, Operand

# What to do with an instruction: rows of the instruction table map to these.
cdef enum Action:
    A_UNSUPPORTED
    A_VALUE
    A_LOAD
    A_STORE
    A_CONST
    A_NOP
    A_UNREACHABLE
    A_BLOCK
    A_LOOP
    A_IF
    A_ELSE
    A_END
    A_BR
    A_BR_IF
    A_BR_TABLE
    A_RETURN
    A_CALL
    A_CALL_INDIRECT
    A_CALL_REF
    A_RETURN_CALL
    A_RETURN_CALL_INDIRECT
    A_RETURN_CALL_REF
    A_DROP
    A_SELECT
    A_LOCAL_GET
    A_LOCAL_SET
    A_LOCAL_TEE
    A_GLOBAL_GET
    A_GLOBAL_SET
    A_MEMORY_SIZE
    A_MEMORY_GROW
    A_MEMORY_INIT
    A_MEMORY_COPY
    A_MEMORY_FILL
    A_DATA_DROP
    A_TABLE_GET
    A_TABLE_SET
    A_TABLE_SIZE
    A_TABLE_GROW
    A_TABLE_INIT
    A_TABLE_COPY
    A_TABLE_FILL
    A_ELEM_DROP
    A_REF_NULL
    A_REF_IS_NULL
    A_REF_FUNC
    A_REF_AS_NON_NULL
    A_BR_ON_NULL
    A_BR_ON_NON_NULL
    A_THROW
    A_THROW_REF
    A_TRY_TABLE
    A_CONT_NEW
    A_CONT_BIND
    A_SUSPEND
    A_RESUME
    A_RESUME_THROW
    A_RESUME_THROW_REF
    A_SWITCH

cdef enum LabelKind:
    L_FUNCTION
    L_BLOCK
    L_LOOP
    L_IF
    L_ELSE
    L_TRY

# A function type, in type codes.
cdef struct Signature:
    int num_params
    int num_results
    uint8_t *params
    uint8_t *results
    bint supported              # no type that the interpreter doesn't hold yet

# A structured instruction that is open.
cdef struct Label:
    int kind
    int height                  # of the operand stack below its parameters
    Signature type
    int fixups                  # jumps to its end
    Py_ssize_t else_branch      # an `if`'s branch to its `else`, or -1
    int tries                   # how many `try_table`s are open around it
    Py_ssize_t start            # a loop's first instruction

# A way to leave for a label of which `br_table` needs to move values: made once per label.
cdef struct Stub:
    int depth
    Py_ssize_t at

cdef class Translator(Assembler):
    cdef DecodedModule module
    cdef char **cells           # borrowed: the code space's
    cdef bint fuel
    cdef Signature *signatures  # by type index
    cdef Py_ssize_t num_types
    cdef uint8_t *type_storage
    cdef Label *labels
    cdef int num_labels
    cdef int labels_capacity
    cdef Signature own
    cdef Py_ssize_t fuel_at     # the open fuel instruction, or -1
    cdef uint32_t fuel_amount
    cdef bint dead              # what follows can't be reached
    cdef int skipped            # open blocks in dead code
    cdef int slot_functions     # byte offsets in the instance
    cdef int slot_tables
    cdef int slot_memories
    cdef int slot_tags
    cdef int open_tries         # `try_table`s around the current instruction, in this function

    cdef int translate(self, uint32_t index) except -1
    cdef int read_local_types(self, Reader *r) except -1
    cdef int reserve_locals(self, int64_t count) except -1
    cdef int instruction(self, Reader *r, Instr *i) except -1
    cdef int open_label(self, int kind, Signature type) except -1
    cdef Signature block_type(self, Instr *i) except *
    cdef int block(self, int kind, Instr *i) except -1
    cdef int else_(self) except -1
    cdef int restart(self, Label *label, int count, uint8_t *types) except -1
    cdef int end(self) except -1
    cdef int value(self, int op) except -1
    cdef int load(self, Instr *i) except -1
    cdef int store(self, Instr *i) except -1
    cdef int local_set(self, int local, bint tee) except -1
    cdef int select(self) except -1
    cdef int global_get(self, uint32_t index) except -1
    cdef int global_set(self, uint32_t index) except -1
    cdef int stage(self, int count, int base) except -1
    cdef int jump(self, Label *label) except -1
    cdef int leave_to(self, Label *label) except -1
    cdef int branch_if(self, Condition c, uint32_t depth) except -1
    cdef int branch_table(self, Reader *r, Instr *i) except -1
    cdef int return_(self) except -1
    cdef int stage_arguments(self, Signature *type) except -1
    cdef int push_results(self, Signature *type, int base) except -1
    cdef int call(self, Instr *i) except -1
    cdef int restore(self) except -1
    cdef int count_tries(self, Reader r) except -1
    cdef int leave_tries(self, int remaining) except -1
    cdef int try_record(self, int depth) noexcept
    cdef int stack_instruction(self, Reader *r, Instr *i) except -1
    cdef int call_indirect(self, Instr *i) except -1
    cdef int call_ref(self, Instr *i) except -1
    cdef int return_call(self, Instr *i) except -1
    cdef Py_ssize_t tail_out(self, int number, Signature *type) except -1
    cdef int return_call_indirect(self, Instr *i) except -1
    cdef int return_call_ref(self, Instr *i) except -1
    cdef int runtime_call(self, int number, int operands, bint result, uint32_t imm0, uint32_t imm1, int type) except -1
    cdef int start_fuel(self) except -1
    cdef int stop_fuel(self) except -1
    cdef Signature *signature_of_function(self, uint32_t index) noexcept
