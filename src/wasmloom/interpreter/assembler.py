# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The translator's lower layer: the symbolic operand stack, the accumulators, and the bytecode that they become.

An entry of the operand stack is a constant, a local that hasn't been read, a value in its *home* slot (the slot of its
stack position), or a value that is only in an accumulator. Reading locals and constants emits nothing. A result goes to
the accumulator. If it turns out to be needed in a slot (the accumulator is needed for another value, a `local.set`
follows, a block ends), the instruction that made it is patched to write the slot too. So one pass stores nothing that
needn't be stored.

Invariants:

* At most one entry per class is E_ACC, and `accs[class]` describes it.
* `accs[class].slot` is a slot that equals the accumulator at this point of the code. Whatever writes the slot or the
  accumulator resets it, and a label (where code from elsewhere arrives) resets everything.
* Patching an instruction to write a home slot is always safe: nothing reads the slot of a position before the entry
  is there. Patching it to write a local is only safe while it is the last instruction.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.interpreter.machine import (
    branch_table,
    fusion_columns,
    fusion_rows,
    fusion_table,
    handlers,
    sizes,
    value_table,
)
from cython.cimports.wasmloom.system.allocation import realloc

from wasmloom.errors import CompileError
from wasmloom.interpreter.isa import HEADER, is_wide, mirrored, negated
from wasmloom.runtime.frames import CONSTANT, NOWHERE
from wasmloom.semantics.kinds import KINDS
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS

#: Slot numbers have 16 bits.
MAX_SLOTS = cython.declare(cython.int, 0xFFFF)
#: Jumps within a function's bytecode have 32 bits.
_MAX_CODE = cython.declare(cython.Py_ssize_t, 0x7FFFFFF0)
#: Bytes that the buffer has beyond its capacity, which may be cleared.
_MARGIN = cython.declare(cython.int, 16)
#: The number of entries that are searched for unread copies of a local.
_MAX_SEARCH = cython.declare(cython.int, 64)
_HEADER = cython.declare(cython.int, HEADER)
_I32_NE = cython.declare(cython.int, BY_MNEMONIC["i32.ne"].index)
_I32_EQ = cython.declare(cython.int, BY_MNEMONIC["i32.eq"].index)
_I64_EQ = cython.declare(cython.int, BY_MNEMONIC["i64.eq"].index)
_I32_EQZ = cython.declare(cython.int, BY_MNEMONIC["i32.eqz"].index)
_I64_EQZ = cython.declare(cython.int, BY_MNEMONIC["i64.eqz"].index)


_SPACES = {"func": S_FUNCTION, "table": S_TABLE, "mem": S_MEMORY, "data": S_SEGMENT, "elem": S_SEGMENT}


def _fill_tables() -> None:
    """Fill the C tables from the instruction table and the definitions."""
    i: cython.int
    for row in INSTRUCTIONS:
        if row.mnemonic.endswith(".const"):
            i = row.index
            op_result[i] = KINDS[row.results[0]].code
    for kind in KINDS.values():
        i = kind.code
        kind_class[i] = int(kind.register)
        kind_slots[i] = kind.slots
        kind_wide[i] = is_wide(kind)
    memset(op_mirrored, 0xFF, cython.sizeof(op_mirrored))
    memset(op_negated, 0xFF, cython.sizeof(op_negated))
    for operation in OPERATIONS.values():
        row = operation.instruction
        i = row.index
        op_arity[i] = len(operation.params)
        op_has_result[i] = len(operation.results)
        op_is_compare[i] = operation.is_compare
        op_immediates[i] = len(row.immediates)
        if operation.kind in ("instance", "runtime"):
            op_space[i] = _SPACES[row.immediates[0]]
        # All operands of atomic instructions are in slots, whatever their types are.
        for position, kind in enumerate(operation.params[:2]):
            op_types[i][position] = kind.code
        for kind in operation.results:
            op_result[i] = kind.code
        for kind in operation.wide_results:
            op_wide_result[i] = kind.code
        if (other := mirrored(operation)) is not None:
            op_mirrored[i] = other.instruction.index
        if (other := negated(operation)) is not None:
            op_negated[i] = other.instruction.index


_fill_tables()


@cython.cfunc
@cython.inline
def _grown(memory: cython.p_void, size: cython.size_t) -> cython.p_void:
    """`realloc` that raises MemoryError."""
    result: cython.p_void = realloc(memory, size)
    if result == cython.NULL:
        raise MemoryError
    return result


@cython.cclass
class Assembler:
    """Writes the bytecode of one function at a time into `buffer`."""

    def __dealloc__(self):
        free(self.buffer)
        free(self.stack)
        free(self.local_types)
        free(self.local_slots)
        free(self.pending)
        free(self.fixups)

    # --- emission ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def reserve_stack(self, count: cython.int) -> cython.int:
        """Make room for `count` entries."""
        if count > self.stack_capacity:
            self.stack_capacity = max(2 * self.stack_capacity, count, 64)
            size: cython.size_t = cython.sizeof(StackEntry) * self.stack_capacity
            self.stack = cython.cast(cython.pointer(StackEntry), _grown(self.stack, size))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit(self, number: cython.int) -> cython.Py_ssize_t:
        """Begin an instruction of a fixed size; see `emit_array`."""
        return self.emit_array(number, 0)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_waiting(self, number: cython.int, array: cython.int) -> cython.Py_ssize_t:
        """Begin an instruction in which frames wait for a callee or another stack; see `emit_array`."""
        self.waits_at = self.emit_array(number, array)
        self.waits_in = number
        return self.waits_at

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_array(self, number: cython.int, array: cython.int) -> cython.Py_ssize_t:
        """Begin an instruction: write its handler's address and zeroed fields. Returns the offset that its fields count
        from.

        `array`: bytes of the array that it ends with, a multiple of 8.

        If one handler does both the last instruction and this one, they are fused: the last one's header changes, and
        this one's fields follow without a header.
        """
        at: cython.Py_ssize_t = self.pos
        size: cython.int = sizes[number] + array
        fused: cython.int = -1
        if at + size > self.capacity:
            if at + size > _MAX_CODE:
                raise CompileError("function's bytecode is too large", self.wasm_offset)
            self.capacity = min(max(2 * self.capacity, at + size, 4096), _MAX_CODE)
            self.buffer = cython.cast(cython.p_char, _grown(self.buffer, self.capacity + _MARGIN))
        if self.last_number >= 0:
            fused = self.fusion(number)
        # Most have one or two words. Two are cleared without a check: the buffer has room for them.
        put64(self.buffer + at, 0)
        put64(self.buffer + at + _HEADER, 0)
        if size > _MARGIN:
            memset(self.buffer + at + _MARGIN, 0, size - _MARGIN)
        if fused >= 0:
            at -= _HEADER
            self.unfused_number = self.last_number
            self.last_number = fused
            put64(self.buffer + self.last_header, cython.cast(uint64_t, handlers[fused]))
        else:
            self.unfused_number = -1
            self.last_number = number
            self.last_header = at
            put64(self.buffer + at, cython.cast(uint64_t, handlers[number]))
        self.pos = at + size
        if self.want_map:
            self.code_map.append((at, self.wasm_offset))
        return at

    @cython.cfunc
    @cython.exceptval(check=False)
    def fusion(self, number: cython.int) -> cython.int:
        """The handler that does the last instruction and then `number`, or -1."""
        row: int32_t = fusion_rows[self.last_number]
        column: cython.int = fusion_columns[number]
        if row < 0 or column < 0:
            return -1
        # The last instruction may still have to be patched for an entry that is only in the accumulator.
        if self.accs[0].owner >= 0 and self.accs[0].header == self.last_header:
            return -1
        if self.accs[1].owner >= 0 and self.accs[1].header == self.last_header:
            return -1
        return fusion_table[row + column]

    @cython.cfunc
    @cython.exceptval(check=False)
    def set_handler(self, header: cython.Py_ssize_t, number: cython.int) -> cython.void:
        """Change the handler of an instruction."""
        put64(self.buffer + header, cython.cast(uint64_t, handlers[number]))
        if header == self.last_header and self.last_number >= 0:
            self.last_number = number

    @cython.cfunc
    @cython.exceptval(check=False)
    def barrier(self) -> cython.void:
        """Note a label: the last instruction can no longer be changed or extended."""
        self.result_end = -1
        self.last_number = -1

    # --- the operand stack ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def grow(self, above: cython.int) -> cython.int:
        """Make room for another entry of the stack, which takes the slots below `above`."""
        if above > self.top:
            if above > MAX_SLOTS:
                raise CompileError("function needs too many slots", self.wasm_offset)
            self.top = above
        return self.reserve_stack(self.height + 2)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open_frame(self, below: cython.int) -> cython.int:
        """Begin with an empty operand stack, whose homes begin behind `below` slots of the frame."""
        cls: cython.int
        if below > MAX_SLOTS:
            raise CompileError("function needs too many slots", self.wasm_offset)
        self.reserve_stack(1)
        self.stack[0].slot = below
        self.top = below
        self.height = 0
        self.pending_total = 0
        for cls in range(2):
            self.accs[cls].owner = -1
            self.accs[cls].slot = -1
            self.accs[cls].slots = 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush(self, index: cython.int) -> cython.int:
        """Put an entry into its home slot."""
        entry: cython.pointer(StackEntry) = cython.address(self.stack[index])
        acc: cython.pointer(AccState)
        if entry.kind == E_SLOT:
            return 0
        if entry.kind == E_ACC:
            acc = cython.address(self.accs[class_of(entry.type)])
            self.set_handler(acc.header, acc.number)
            put16(self.buffer + acc.patch + h.AT_DST, self.home(index))
            acc.owner = -1
            self.known_in(entry.type, self.home(index))
        else:
            self.copy_entry(index, self.home(index))
            if entry.kind == E_LOCAL:
                self.pending[entry.local] -= 1
                self.pending_total -= 1
        entry.kind = E_SLOT
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def copy_entry(self, index: cython.int, dst: cython.int) -> cython.int:
        """Write an entry's value to a slot, leaving the entry and both accumulators as they are."""
        entry: cython.pointer(StackEntry) = cython.address(self.stack[index])
        cls: cython.int = class_of(entry.type)
        slots: cython.int = kind_slots[entry.type]
        src: cython.int = entry.local if entry.kind == E_LOCAL else self.home(index)
        at: cython.Py_ssize_t
        if slots > 1:
            # Vectors are in slots, always, and in the accumulator besides.
            if src == dst:
                return 0
            if self.accs[cls].slot == src and self.accs[cls].slots == slots:
                at = self.emit(h.H_SET_VECTOR)
            else:
                at = self.emit(h.H_COPY_VECTOR)
                put16(self.buffer + at + h.AT_COPY_VECTOR_SOURCE, src)
        elif entry.kind == E_CONST:
            at = self.emit(h.H_CONST)
            put64(self.buffer + at + h.AT_CONST_VALUE_IMM64, entry.bits)
        elif entry.kind == E_ACC or self.accs[cls].slot == src:
            if src == dst and entry.kind != E_ACC:
                return 0
            at = self.emit(h.H_SET_FACC if cls else h.H_SET_ACC)
        else:
            if src == dst:
                return 0
            at = self.emit(h.H_COPY)
            put16(self.buffer + at + h.AT_COPY_SOURCE, src)
        put16(self.buffer + at + h.AT_DST, dst)
        self.overwritten(dst, slots)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def known_in(self, type: cython.int, slot: cython.int) -> cython.void:
        """Note that the accumulator of a type's class equals the slots from `slot` on."""
        acc: cython.pointer(AccState) = cython.address(self.accs[class_of(type)])
        acc.slot = slot
        acc.slots = kind_slots[type]

    @cython.cfunc
    @cython.exceptval(check=False)
    def overwritten(self, slot: cython.int, count: cython.int) -> cython.void:
        """Note that slots are written: no accumulator equals any of them any more."""
        cls: cython.int
        for cls in range(2):
            if self.accs[cls].slot < slot + count and slot < self.accs[cls].slot + self.accs[cls].slots:
                self.accs[cls].slot = -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_locals(self) -> cython.int:
        """Put every unread local into its home slot, because the local may be written on some of the following paths.

        The scan stops at the last such entry, so the pushes pay for its cost.
        """
        index: cython.int = self.height - 1
        while self.pending_total > 0:
            if self.stack[index].kind == E_LOCAL:
                self.flush(index)
            index -= 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def flush_accs(self) -> cython.int:
        """Write the entries that are in accumulators to their home slots, too."""
        cls: cython.int
        for cls in range(2):
            if self.accs[cls].owner >= 0:
                self.flush(self.accs[cls].owner)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def forget_accs(self) -> cython.int:
        """Flush the accumulators and forget what they hold: at labels, and where they are clobbered."""
        self.flush_accs()
        self.accs[0].slot = -1
        self.accs[1].slot = -1
        self.barrier()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def clobber(self, cls: cython.int) -> cython.int:
        """Prepare for an instruction that writes this accumulator."""
        if self.accs[cls].owner >= 0:
            self.flush(self.accs[cls].owner)
        self.accs[cls].slot = -1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note_operands(self) -> cython.int:
        """Note where the operand stack is: for each entry its slot, or what is said instead, and a constant's bits."""
        index: cython.int
        entry: cython.pointer(StackEntry)
        found: list = []
        for index in range(self.height):
            entry = cython.address(self.stack[index])
            if entry.kind == E_CONST:
                found.append((CONSTANT, entry.bits))
            elif entry.kind == E_ACC:
                found.append((NOWHERE, 0))
            else:
                found.append((entry.local if entry.kind == E_LOCAL else self.home(index), 0))
        self.operands = found
        self.stop_waits_at = self.waits_at
        self.stop_waits_in = self.waits_in
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def preserve_local(self, local: cython.int) -> cython.int:
        """Before a local is written: copy its old value for the entries that stand for it.

        A long search flushes all that it can, so that the next one is short and translation takes linear time.
        """
        index: cython.int = self.height - 1
        lowest: cython.int = index - _MAX_SEARCH
        while self.pending[local] > 0:
            if index < lowest:
                return self.flush_locals()
            if self.stack[index].kind == E_LOCAL and self.stack[index].local == local:
                self.flush(index)
            index -= 1
        return 0

    # --- operands ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def to_slot(self, index: cython.int) -> cython.int:
        """A slot that holds an entry's value: its home, or the local."""
        entry: cython.pointer(StackEntry) = cython.address(self.stack[index])
        if entry.kind == E_LOCAL:
            return entry.local
        self.flush(index)
        return self.home(index)

    @cython.cfunc
    @cython.exceptval(check=True)
    def slot_operand(self, index: cython.int) -> Operand:
        """An operand that is not an immediate."""
        if self.stack[index].kind == E_CONST:
            self.flush(index)
        return self.operand(index)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fit(self, a: cython.pointer(Operand), index: cython.int) -> cython.int:
        """Put a word that is an immediate and doesn't fit a 32-bit field into a slot."""
        if (
            a.kind == IMM
            and (self.stack[index].type == h.T_I64 or self.stack[index].type == h.T_REF)
            and cython.cast(int64_t, a.bits) != cython.cast(cython.int, cython.cast(uint32_t, a.bits))
        ):
            a.kind = SLOT
            a.slot = self.to_slot(index)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def in_slot(self, a: cython.pointer(Operand), index: cython.int) -> cython.int:
        """Let an operand be read from a slot."""
        if a.kind != SLOT:
            if a.kind == IMM or a.slot < 0:
                a.slot = self.to_slot(index)
            a.kind = SLOT
        return 0

    # --- results ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_result(self, number: cython.int, slot_number: cython.int, type: cython.int) -> cython.Py_ssize_t:
        """Emit an instruction whose result stays in the accumulator for now. The handler `slot_number` also writes a
        slot.

        The operands have been popped.
        """
        cls: cython.int = class_of(type)
        acc: cython.pointer(AccState) = cython.address(self.accs[cls])
        at: cython.Py_ssize_t
        self.clobber(cls)
        at = self.emit(number)
        acc.owner = self.push(E_ACC, type)
        acc.patch = at
        acc.header = self.last_header
        acc.number = slot_number
        if self.unfused_number >= 0:
            acc.number = fusion_table[fusion_rows[self.unfused_number] + fusion_columns[slot_number]]
        self.result_at = at
        self.result_end = self.pos
        self.result_index = acc.owner
        return at

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_slot_result(self, number: cython.int, type: cython.int) -> cython.Py_ssize_t:
        """Emit an instruction that always writes its result to a slot and also leaves it in the accumulator."""
        cls: cython.int = class_of(type)
        at: cython.Py_ssize_t
        self.clobber(cls)
        at = self.emit(number)
        self.result_index = self.push(E_SLOT, type)
        put16(self.buffer + at + h.AT_DST, self.home(self.result_index))
        self.known_in(type, self.home(self.result_index))
        self.result_at = at
        self.result_end = self.pos
        return at

    @cython.cfunc
    @cython.exceptval(check=False)
    def put_operands(
        self,
        at: cython.Py_ssize_t,
        a: cython.pointer(Operand),
        b: cython.pointer(Operand),
        wide: cython.bint,
    ) -> cython.void:
        """Write the operands of a numeric instruction: slots in order, and an immediate."""
        slots: cython.int = h.AT_VALUE_SLOT_0
        bits: uint64_t = a.bits if a.kind == IMM else b.bits
        if a.kind == SLOT:
            put16(self.buffer + at + slots, a.slot)
            slots = h.AT_VALUE_SLOT_1
        if b.kind == SLOT:
            put16(self.buffer + at + slots, b.slot)
        if a.kind == IMM or b.kind == IMM:
            if wide:
                put64(self.buffer + at + h.AT_VALUE_IMM64_0, bits)
            else:
                put32(self.buffer + at + h.AT_VALUE_IMM32_0, cython.cast(uint32_t, bits))

    # --- comparisons and branches ---

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_compare(self) -> cython.bint:
        """Whether the top entry is a comparison that was just emitted, so that a branch can take it over."""
        return (
            self.result_end == self.pos
            and self.compare_at == self.result_at
            and self.result_index == self.height - 1
            and self.stack[self.height - 1].kind == E_ACC
        )

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_compare(self, c: Condition, type: cython.int) -> cython.int:
        """Emit a comparison whose operands have been popped. `take_condition` may take it back."""
        before: AccState
        at: cython.Py_ssize_t
        if self.accs[0].owner >= 0:
            self.flush(self.accs[0].owner)
        before = self.accs[0]
        self.before_compare_header = self.last_header
        self.before_compare_number = self.last_number
        at = self.emit_result(
            value_table[h.value_position(c.op, c.a.kind, c.b.kind, ACC)],
            value_table[h.value_position(c.op, c.a.kind, c.b.kind, SLOT)],
            h.T_I32,
        )
        self.put_operands(at, cython.address(c.a), cython.address(c.b), kind_wide[type])
        self.compare = c
        self.compare_at = at
        self.before_compare = before
        return 0

    @cython.cfunc
    @cython.exceptval(check=True)
    def take_condition(self) -> Condition:
        """Pop the condition of a branch: take back a comparison that was just emitted, compare anything else with 0."""
        c: Condition
        if self.is_compare():
            c = self.compare
            self.pop()
            self.pos = self.compare_at
            # The instruction before it is the last one again, so the branch may be fused with that.
            self.last_header = self.before_compare_header
            self.last_number = self.before_compare_number
            self.accs[0] = self.before_compare
            self.result_end = -1
            if self.want_map:
                self.code_map.pop()
            return c
        c.op = _I32_NE
        c.negate = False
        c.a = self.slot_operand(self.height - 1)
        c.b.kind = IMM
        c.b.bits = 0
        c.b.slot = -1
        self.pop()
        return c

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def emit_branch(self, c: Condition, back: cython.bint) -> cython.Py_ssize_t:
        """Emit a compare-and-branch. The caller fills in the target."""
        op: cython.int = c.op
        negate: cython.bint = c.negate
        slots: cython.int = h.AT_BRANCH_SLOT_0
        at: cython.Py_ssize_t
        if negate and op_negated[op] >= 0:
            op = op_negated[op]
            negate = False
        at = self.emit(branch_table[h.branch_position(op, c.a.kind, c.b.kind, negate, back)])
        if c.a.kind == SLOT:
            put16(self.buffer + at + slots, c.a.slot)
            slots = h.AT_BRANCH_SLOT_1
        if c.b.kind == SLOT:
            put16(self.buffer + at + slots, c.b.slot)
        elif c.b.kind == IMM:
            if kind_wide[op_types[op][1]]:
                put64(self.buffer + at + h.AT_BRANCH_IMM64_0, c.b.bits)
            else:
                put32(self.buffer + at + h.AT_BRANCH_IMM32_0, cython.cast(uint32_t, c.b.bits))
        return at

    # --- labels ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add_fixup(self, head: cython.int, instr: cython.Py_ssize_t, field: cython.Py_ssize_t) -> cython.int:
        """Note a jump to a label that comes later; returns the label's new list of fixups."""
        if self.num_fixups == self.fixups_capacity:
            self.fixups_capacity = max(2 * self.fixups_capacity, 64)
            size: cython.size_t = cython.sizeof(Fixup) * self.fixups_capacity
            self.fixups = cython.cast(cython.pointer(Fixup), _grown(self.fixups, size))
        self.fixups[self.num_fixups].instr = instr
        self.fixups[self.num_fixups].field = field
        self.fixups[self.num_fixups].next = head
        self.num_fixups += 1
        return self.num_fixups - 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def bind(self, head: cython.int) -> cython.void:
        """Set the target of every jump in a label's list to this place."""
        while head >= 0:
            put32(self.buffer + self.fixups[head].field, self.pos - self.fixups[head].instr)
            head = self.fixups[head].next
        self.barrier()
