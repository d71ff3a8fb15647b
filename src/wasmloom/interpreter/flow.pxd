cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from wasmloom.binary.decoder cimport DecodedModule
from wasmloom.binary.reader cimport Instr, Reader
from wasmloom.contract cimport _handlers as h
from wasmloom.interpreter.assembler cimport S_MEMORY, S_TABLE, Assembler, Condition, op_space

cdef enum:
    RECORD_SLOTS = 2    # behind the locals: return ip and own instance
    SHIM_SLOTS = 2      # a tail call out of the instance puts these below the callee's frame

    MAX_MEMORIES = 100  # as in wasmloom.spec.limits

cdef enum LabelKind:
    L_FUNCTION
    L_BLOCK
    L_LOOP
    L_IF
    L_ELSE
    L_TRY
    L_OLD_TRY                   # the body of a `try`
    L_CATCH                     # its clauses

# A function type, in type codes.
cdef struct Signature:
    int num_params
    int num_results
    int param_slots
    int result_slots
    uint8_t *params
    uint8_t *results

# A structured instruction that is open.
cdef struct Label:
    int kind
    int height                  # of the operand stack below its parameters
    Signature type
    int fixups                  # jumps to its end
    Py_ssize_t else_branch      # an `if`'s branch to its `else`, or -1; of a `try`: the jump to the next clause
    int tries                   # how many `try_table`s are open around it
    Py_ssize_t start            # a loop's first instruction
    Py_ssize_t clauses          # of a `try_table` or a `try`: where its `catch_enter` is

cdef class Translator

# Translates one instruction: see `lowers` in flow.py.
ctypedef int (*Lowering)(Translator t, Reader *r, Instr *i) except -1

@cython.final
cdef class Translator(Assembler):
    cdef DecodedModule module
    cdef char **cells           # borrowed: the code space's
    cdef bint fuel
    cdef bint deterministic
    cdef uint8_t memory_reach[MAX_MEMORIES]     # what accesses know of a memory: see `wasmloom.interpreter.families.Reach`
    cdef int memory_waits[MAX_MEMORIES]         # its number among the shared ones, or -1
    cdef uint8_t memory_wide[MAX_MEMORIES]      # whether it has addresses of 64 bits; 2: only its pages are unusual
    cdef Signature *signatures  # by type index
    cdef Py_ssize_t num_types
    cdef uint8_t *type_storage
    cdef Label *labels
    cdef int num_labels
    cdef int labels_capacity
    cdef Signature own
    cdef Signature wait_type    # of what waits in memories
    cdef uint8_t wait_types[1]
    cdef Py_ssize_t fuel_at     # the open fuel instruction, or -1
    cdef uint32_t fuel_amount
    cdef int highest            # the most operands that there are at once
    cdef list frame_costs       # where instructions have the cost of the frame, which is known in the end
    cdef bint dead              # what follows can't be reached
    cdef int skipped            # open blocks in dead code
    cdef int slot_functions     # byte offsets in the instance
    cdef int slot_tables
    cdef int slot_memories
    cdef int slot_tags
    cdef int slot_waits
    cdef int slot_types
    cdef int open_tries         # `try_table`s around the current instruction, in this function
    cdef list tries             # those around the instruction at `stop_at`: see `note_tries`

    cdef bint traced            # whether WASMLOOM_LOG asks for it
    cdef list cont_functions    # per type index: the type index of the function type, for continuation types
    cdef list tag_types         # per tag: the type index of its function type
    cdef list switched_from     # per type index of a function type: that of the continuation that it ends with, if so

    cdef inline int reach(self, uint64_t memory, uint64_t offset) noexcept:
        """What an access with an offset knows of a memory."""
        return h.REACH_WIDE_CHECKED if offset >> 32 else self.memory_reach[memory]

    cdef inline bint is_wide(self, int op, uint64_t index) noexcept:
        """Whether the memory or table that an instruction names has addresses of 64 bits."""
        if op_space[op] == S_TABLE:
            return self.module.table_item[index].is64
        return op_space[op] == S_MEMORY and self.memory_wide[index] == 1

    cdef int pass_by(self, Reader *r, Instr *i) except -1
    cdef Signature block_type(self, Instr *i) except *
    cdef int open_label(self, int kind, Signature type) except -1
    cdef int block(self, int kind, Instr *i) except -1
    cdef int else_(self) except -1
    cdef int restart(self, Label *label, int count, uint8_t *types) except -1
    cdef int end(self) except -1
    cdef int end_part(self, Label *label) except -1
    cdef int catch_here(self, Label *label) except -1
    cdef int throw_on(self, Label *label, int remaining) except -1
    cdef int count_tries(self, Reader r) except -1
    cdef int try_record(self, int depth) noexcept
    cdef int leave_tries(self, int remaining) except -1
    cdef int note_tries(self) except -1
    cdef int stage(self, int count, int base) except -1
    cdef int jump(self, Label *label) except -1
    cdef int leave_to(self, Label *label) except -1
    cdef int branch_if(self, Condition c, uint32_t depth) except -1
    cdef int branch_table(self, Reader *r, Instr *i) except -1
    cdef int return_(self) except -1
    cdef int start_fuel(self) except -1
    cdef int stop_fuel(self) except -1

cdef Lowering lowering[1024]
cdef uint8_t is_executed[1024]

cdef Translator new_translator(DecodedModule module, size_t cells, bint fuel, bint checked, bint deterministic)
cdef lowers(str name, Lowering lower)
cdef lowers_kind(str kind, Lowering lower)
cdef check_lowerings()
cdef int code_of(int64_t type) except -1
cdef bint opens_block(int op) noexcept
cdef int label_arity(Label *label) noexcept
