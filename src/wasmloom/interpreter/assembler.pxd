from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum EntryKind:
    E_SLOT      # in its home slot
    E_LOCAL     # the value of a local, still unread
    E_CONST     # a constant
    E_ACC       # in the accumulator of its class only

cdef enum OperandKind:
    SLOT        # as in wasmloom.interpreter.isa
    ACC
    IMM

# What an immediate is an index of.
cdef enum Space:
    S_FUNCTION
    S_TABLE
    S_MEMORY
    S_SEGMENT

cdef struct StackEntry:
    uint8_t kind
    uint8_t type
    int32_t slot        # its home; the entry above the top one has one too
    int32_t local       # the slot of the local
    uint64_t bits

cdef struct Operand:
    int kind
    int slot            # -1 when the value is in the accumulator only
    uint64_t bits

# A comparison that a branch can take over.
cdef struct Condition:
    int op              # row of the instruction table
    bint negate
    Operand a
    Operand b

cdef struct Fixup:
    Py_ssize_t instr    # offset of the instruction
    Py_ssize_t field    # offset of its target field
    int next            # next fixup of the same label, or -1

# What is known of one accumulator.
cdef struct AccState:
    int owner           # the entry whose value is there only, or -1
    int slot            # the first of the slots that hold the same value, or -1 …
    int slots           # … and how many
    Py_ssize_t patch    # the instruction that wrote it for `owner`: its fields count from here
    Py_ssize_t header   # where its handler's address is (elsewhere when it has been fused)
    int number          # the handler that also writes the slot

cdef int op_mirrored[1024]      # comparison with swapped operands; the op itself for commutative ones; -1: can't be swapped
cdef int op_negated[1024]       # opposite integer comparison, or -1
cdef uint8_t op_types[1024][2]  # type codes of the operands
cdef uint8_t op_result[1024]
cdef uint8_t op_wide_result[1024]   # where addresses have 64 bits
cdef uint8_t op_arity[1024]
cdef uint8_t op_has_result[1024]
cdef uint8_t op_is_compare[1024]
cdef uint8_t op_immediates[1024]    # how many
cdef uint8_t op_space[1024]         # what the first immediate is an index of, for "instance" and "runtime"
# By the code of a kind of values: its class of registers, its number of slots, and whether its immediates take 8 bytes.
cdef uint8_t kind_class[8]
cdef uint8_t kind_slots[8]
cdef uint8_t kind_wide[8]

# The following functions are called for every instruction, also from other modules. They are here so that they are
# inlined there.

cdef inline int class_of(int type) noexcept:
    """The class of registers, and so the accumulator, of a kind of values."""
    return kind_class[type]

cdef inline void put16(char *at, uint32_t value) noexcept:
    """Write a 16-bit field."""
    (<uint16_t *> at)[0] = <uint16_t> value

cdef inline void put32(char *at, uint32_t value) noexcept:
    """Write a 32-bit field."""
    (<uint32_t *> at)[0] = value

cdef inline void put64(char *at, uint64_t value) noexcept:
    """Write a 64-bit field."""
    (<uint64_t *> at)[0] = value

cdef class Assembler:
    cdef char *buffer
    cdef Py_ssize_t pos
    cdef Py_ssize_t capacity
    cdef StackEntry *stack
    cdef int height
    cdef int stack_capacity
    cdef int top                # the most slots that a frame has, apart from what callees put there
    cdef int num_locals
    cdef int record             # the slot behind the locals: the frame's record
    cdef uint8_t *local_types
    cdef int32_t *local_slots
    cdef int32_t *pending       # per slot of a local: how many entries are E_LOCAL of it
    cdef int pending_total
    cdef int locals_capacity
    cdef int pending_capacity
    cdef AccState accs[2]
    # The last instruction, while no label follows it: where its handler's address is, which handler that is, and which
    # it was before the instruction was fused with the one behind it.
    cdef Py_ssize_t last_header
    cdef int last_number        # -1: nothing may be fused with it
    cdef int unfused_number     # -1: it isn't fused
    cdef Py_ssize_t result_at   # the last instruction, when it wrote the result of entry `result_index` …
    cdef Py_ssize_t result_end
    cdef int result_index
    cdef Condition compare      # … and when that is a comparison: what it compares
    cdef Py_ssize_t compare_at
    cdef AccState before_compare            # … and what was known before it
    cdef Py_ssize_t before_compare_header
    cdef int before_compare_number
    cdef Fixup *fixups
    cdef int num_fixups
    cdef int fixups_capacity
    cdef bint want_map
    cdef list code_map          # (bytecode offset, module offset) pairs, when wanted
    cdef list loops             # the same of where loops begin
    cdef int64_t stop_at        # module offset of the instruction behind which `operands` are noted, or -1
    cdef list operands          # where the operand stack is there, from the bottom: see `note_operands`
    # The instruction in which a frame waits in the Wasm instruction that is being translated: where its fields count
    # from, or -1, and its handler's number (it may have been fused). And the same of the instruction at `stop_at`.
    cdef Py_ssize_t waits_at
    cdef int waits_in
    cdef Py_ssize_t stop_waits_at
    cdef int stop_waits_in
    cdef uint32_t wasm_offset

    cdef int reserve_stack(self, int count) except -1
    cdef Py_ssize_t emit(self, int number) except -1
    cdef Py_ssize_t emit_array(self, int number, int array) except -1
    cdef int fusion(self, int number) noexcept
    cdef void set_handler(self, Py_ssize_t header, int number) noexcept
    cdef void barrier(self) noexcept
    cdef void known_in(self, int type, int slot) noexcept
    cdef void overwritten(self, int slot, int count) noexcept
    cdef int grow(self, int above) except -1

    cdef inline int home(self, int index) noexcept:
        """The home slot of an entry, or of the one that would be pushed next; the first of several that a value takes."""
        return self.stack[index].slot

    cdef int open_frame(self, int below) except -1

    cdef inline int push(self, int kind, int type) except -1:
        """Push an entry; returns its position."""
        cdef int index = self.height
        cdef int above = self.stack[index].slot + kind_slots[type]
        if (above > self.top or index + 2 > self.stack_capacity) and self.grow(above) < 0:
            return -1
        self.stack[index].kind = kind
        self.stack[index].type = type
        self.stack[index + 1].slot = above
        self.height = index + 1
        return index

    cdef inline int push_local(self, int type, int slot) except -1:
        """Push the value of a local, unread."""
        self.stack[self.push(E_LOCAL, type)].local = slot
        self.pending[slot] += 1
        self.pending_total += 1
        return 0

    cdef inline int pop(self) noexcept:
        """Drop the top entry."""
        cdef StackEntry *entry
        self.height -= 1
        entry = &self.stack[self.height]
        if entry.kind == E_LOCAL:
            self.pending[entry.local] -= 1
            self.pending_total -= 1
        elif entry.kind == E_ACC:
            self.accs[class_of(entry.type)].owner = -1
        return 0

    cdef int flush(self, int index) except -1
    cdef int flush_locals(self) except -1
    cdef int flush_accs(self) except -1
    cdef int forget_accs(self) except -1
    cdef int clobber(self, int cls) except -1
    cdef int note_operands(self) except -1
    cdef Py_ssize_t emit_waiting(self, int number, int array) except -1
    cdef int preserve_local(self, int local) except -1
    cdef int to_slot(self, int index) except -1

    cdef inline Operand operand(self, int index) noexcept:
        """Where an entry's value can be read: the accumulator where possible."""
        cdef StackEntry *entry = &self.stack[index]
        cdef Operand result
        result.bits = entry.bits
        result.slot = -1
        if entry.kind == E_CONST:
            result.kind = IMM
        elif entry.kind == E_ACC:
            result.kind = ACC
        else:
            result.slot = entry.local if entry.kind == E_LOCAL else entry.slot
            result.kind = ACC if self.accs[class_of(entry.type)].slot == result.slot else SLOT
        return result

    cdef Operand slot_operand(self, int index) except *
    cdef int fit(self, Operand *a, int index) except -1
    cdef int in_slot(self, Operand *a, int index) except -1
    cdef Py_ssize_t emit_result(self, int number, int slot_number, int type) except -1
    cdef Py_ssize_t emit_slot_result(self, int number, int type) except -1
    cdef void put_operands(self, Py_ssize_t at, Operand *a, Operand *b, bint wide) noexcept
    cdef int copy_entry(self, int index, int dst) except -1
    cdef bint is_compare(self) noexcept
    cdef Condition take_condition(self) except *
    cdef int emit_compare(self, Condition c, int type) except -1
    cdef Py_ssize_t emit_branch(self, Condition c, bint back) except -1
    cdef int add_fixup(self, int head, Py_ssize_t instr, Py_ssize_t field) except -1
    cdef void bind(self, int head) noexcept
