# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates function bodies to bytecode, in one pass over the bytes.

Bodies are valid (the caller has seen to it), so nothing is checked but what this engine can't hold. What an instruction
does with the operand stack is spread over a chain of classes, from the bottom:

=================== ==========================================================================
`Assembler`         the symbolic operand stack, accumulators, and the bytecode they become
`Flow`              labels, branches, exception records, fuel
`Calls`             calls and tail calls
`StackInstructions` exceptions and continuations
`Translator`        everything else, and the loop over a body's instructions
=================== ==========================================================================
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, next_instr, read_u32, read_valtype
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    E_ACC,
    E_CONST,
    E_LOCAL,
    E_SLOT,
    IMM,
    SLOT,
    AccState,
    Condition,
    Entry,
    Operand,
    class_of,
    kind_slots,
    kind_wide,
    op_mirrored,
    op_negated,
    op_result,
    op_types,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.flow import (
    L_BLOCK,
    L_FUNCTION,
    L_IF,
    L_LOOP,
    RECORD_SLOTS,
    SHIM_SLOTS,
    code_of,
    opens_block,
)
from cython.cimports.wasmloom.interpreter.machine import atomic_table, load_table, store_table, value_table
from cython.cimports.wasmloom.interpreter.stack_translator import StackInstructions
from cython.cimports.wasmloom.interpreter.translator import (
    A_ATOMIC,
    A_CONST,
    A_LOAD,
    A_OWN,
    A_STORE,
    A_UNSUPPORTED,
    A_VALUE,
)
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import realloc

from wasmloom.errors import UnsupportedError
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.fold import fold
from wasmloom.semantics.kinds import by_name
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import INSTRUCTIONS

#: Kinds of definitions that are translated alike; others have code of their own.
_FAMILIES = {"value": A_VALUE, "load": A_LOAD, "store": A_STORE, "atomic": A_ATOMIC}

_action = cython.declare(uint8_t[1024])
_is_compare = cython.declare(uint8_t[1024])
_arity = cython.declare(uint8_t[1024])
_has_result = cython.declare(uint8_t[1024])


def _fill_tables() -> None:
    """Fill the C tables from the instruction table and the definitions."""
    i: cython.int
    for row in INSTRUCTIONS:
        i = row.index
        _action[i] = A_OWN if row.feature in EXECUTED else A_UNSUPPORTED
        if row.mnemonic.endswith(".const") and row.feature in EXECUTED:
            _action[i] = A_CONST
            op_result[i] = by_name(row.results[0]).code
    for operation in OPERATIONS.values():
        i = operation.instruction.index
        _action[i] = _FAMILIES.get(operation.kind, A_OWN)
        _arity[i] = len(operation.params)
        _has_result[i] = len(operation.results)
        _is_compare[i] = operation.is_compare


_fill_tables()


@cython.cclass
class Translator(StackInstructions):
    """Translates the functions of one module; one at a time, into the same buffers."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def translate(self, index: uint32_t) -> cython.int:
        """Translate the body of function `index` of those defined in the module; the bytecode is `buffer[:pos]`.

        Raises UnsupportedError, CompileError (too many slots), MemoryError.
        """
        module: DecodedModule = self.module
        reader: Reader
        instr: Instr
        type: uint32_t = module.func_type[module.num_imported_funcs + index]
        frame: cython.Py_ssize_t
        enter: cython.Py_ssize_t
        zeroed: cython.int
        reader.base = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
        reader.pos = reader.base + module.body_start[index]
        reader.end = reader.base + module.body_end[index]
        self.wasm_offset = module.body_start[index]
        self.own = self.signatures[type]
        self.pos = 0
        self.num_fixups = 0
        self.num_labels = 0
        self.dead = False
        self.skipped = 0
        self.barrier()
        self.compare_at = -1
        self.read_local_types(cython.address(reader))
        self.open_tries = 0
        self.place_locals()
        self.open_frame(self.record + RECORD_SLOTS + h.TRY_RECORD_SLOTS * self.count_tries(reader))
        zeroed = self.record - self.own.param_slots
        enter = self.emit(h.H_ENTER_0 + zeroed if zeroed <= h.MAX_UNROLLED_LOCALS else h.H_ENTER_N)
        if self.want_map:
            self.loops.append((self.pos, 0))
        self.fuel_at = -1
        self.start_fuel()
        self.open_label(L_FUNCTION, self.own)
        while self.num_labels:
            next_instr(cython.address(reader), cython.address(instr))
            self.wasm_offset = instr.offset
            self.instruction(cython.address(reader), cython.address(instr))
            if instr.offset == self.stop_at:
                self.note_operands()
        self.stop_fuel()
        # Callees' results count into the height; they lie higher where a callee has a shim. Our own results overwrite
        # the frame's beginning.
        frame = max(self.top, self.own.result_slots) + SHIM_SLOTS
        put32(self.buffer + enter + h.AT_ENTER_FRAME, 8 * frame)
        put16(self.buffer + enter + h.AT_ENTER_RECORD, self.record)
        put16(self.buffer + enter + h.AT_ENTER_ZEROED, zeroed)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_local_types(self, r: cython.pointer(Reader)) -> cython.int:
        """Read the declarations of locals (Core 3.0, 5.5.13); parameters come first."""
        count: int64_t
        total: int64_t = self.own.num_params
        type: cython.int
        i: cython.int
        runs: cython.int
        if not self.own.supported:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        self.reserve_locals(total)
        for i in range(self.own.num_params):
            self.local_types[i] = self.own.params[i]
        runs = read_u32(r)
        for _ in range(runs):
            count = read_u32(r)
            type = code_of(read_valtype(r))
            self.reserve_locals(total + count)
            if count:
                memset(self.local_types + total, type, count)
            total += count
        self.num_locals = total
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def place_locals(self) -> cython.int:
        """Give every local its slots, one behind the other."""
        local: cython.int
        slot: cython.int = 0
        pending: cython.p_void
        for local in range(self.num_locals):
            self.local_slots[local] = slot
            slot += kind_slots[self.local_types[local]]
        self.record = slot
        if slot > self.pending_capacity:
            pending = realloc(self.pending, slot * cython.sizeof(int32_t))
            if pending == cython.NULL:
                raise MemoryError
            self.pending = cython.cast(cython.pointer(int32_t), pending)
            self.pending_capacity = slot
        if slot:
            memset(self.pending, 0, slot * cython.sizeof(int32_t))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def reserve_locals(self, count: int64_t) -> cython.int:
        """Make room for the types and slots of `count` locals."""
        types: cython.p_void
        slots: cython.p_void
        if count > self.locals_capacity:
            count = max(count, 2 * self.locals_capacity, 64)
            types = realloc(self.local_types, count)
            if types == cython.NULL:
                raise MemoryError
            self.local_types = cython.cast(cython.pointer(uint8_t), types)
            slots = realloc(self.local_slots, count * cython.sizeof(int32_t))
            if slots == cython.NULL:
                raise MemoryError
            self.local_slots = cython.cast(cython.pointer(int32_t), slots)
            self.locals_capacity = count
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def instruction(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """Translate one instruction."""
        op: cython.int = i.op
        action: cython.int = _action[op]
        index: cython.int
        at: cython.Py_ssize_t
        operand: Operand
        condition: Condition
        if self.dead and action != A_UNSUPPORTED:
            if opens_block(op):
                self.skipped += 1
            elif op == h.OP_END:
                if self.skipped:
                    self.skipped -= 1
                else:
                    self.end()
            elif op == h.OP_ELSE and not self.skipped:
                self.else_()
            return 0
        self.fuel_amount += 1
        if op == h.OP_LOCAL_GET:
            self.push_local(self.local_types[i.a], self.local_slots[i.a])
        elif action == A_VALUE:
            self.value(i.op)
        elif action == A_CONST:
            index = self.push(E_CONST, op_result[i.op])
            self.stack[index].bits = i.a & 0xFFFFFFFF if op_result[i.op] == h.T_I32 else i.a
        elif action == A_LOAD:
            self.load(i)
        elif action == A_STORE:
            self.store(i)
        elif op == h.OP_LOCAL_SET:
            self.local_set(self.local_slots[i.a], False)
        elif op == h.OP_LOCAL_TEE:
            self.local_set(self.local_slots[i.a], True)
        elif op == h.OP_END:
            self.end()
        elif op == h.OP_BLOCK:
            self.block(L_BLOCK, i)
        elif op == h.OP_LOOP:
            self.block(L_LOOP, i)
        elif op == h.OP_IF:
            self.block(L_IF, i)
        elif op == h.OP_ELSE:
            self.else_()
        elif op == h.OP_BR:
            self.leave_to(cython.address(self.labels[self.num_labels - 1 - i.a]))
            self.dead = True
        elif op == h.OP_BR_IF:
            self.branch_if(self.take_condition(), i.a)
        elif op == h.OP_BR_TABLE:
            self.branch_table(r, i)
        elif op == h.OP_RETURN:
            self.return_()
            self.dead = True
        elif op == h.OP_CALL:
            self.call(i)
        elif op == h.OP_CALL_INDIRECT:
            self.call_indirect(i)
        elif op == h.OP_CALL_REF:
            self.call_ref(i)
        elif op == h.OP_RETURN_CALL:
            self.return_call(i)
        elif op == h.OP_RETURN_CALL_INDIRECT:
            self.return_call_indirect(i)
        elif op == h.OP_RETURN_CALL_REF:
            self.return_call_ref(i)
        elif op == h.OP_DROP:
            self.pop()
        elif op == h.OP_SELECT or op == h.OP_SELECT_T:
            self.select()
        elif op == h.OP_GLOBAL_GET:
            self.global_get(i.a)
        elif op == h.OP_GLOBAL_SET:
            self.global_set(i.a)
        elif op == h.OP_NOP or op == h.OP_ATOMIC_FENCE:  # nobody else sees a memory that isn't shared
            pass
        elif action == A_ATOMIC:
            self.atomic(i)
        elif op == h.OP_UNREACHABLE:
            self.emit(h.H_UNREACHABLE)
            self.dead = True
        elif op == h.OP_MEMORY_SIZE:
            at = self.emit_slot_result(h.H_MEMORY_SIZE, h.T_I32)
            put32(self.buffer + at + h.AT_MEMORY_SIZE_MEMORY, self.slot_memories + 8 * i.a)
        elif op == h.OP_MEMORY_GROW:
            self.runtime_call(h.H_MEMORY_GROW, 1, True, i.a, 0, h.T_I32)
        elif op == h.OP_MEMORY_INIT:
            self.runtime_call(h.H_MEMORY_INIT, 3, False, i.a, i.b, 0)
        elif op == h.OP_MEMORY_COPY:
            self.runtime_call(h.H_MEMORY_COPY, 3, False, i.a, i.b, 0)
        elif op == h.OP_MEMORY_FILL:
            self.runtime_call(h.H_MEMORY_FILL, 3, False, i.a, 0, 0)
        elif op == h.OP_DATA_DROP:
            self.runtime_call(h.H_DATA_DROP, 0, False, i.a, 0, 0)
        elif op == h.OP_TABLE_GET:
            index = self.to_slot(self.height - 1)
            self.pop()
            at = self.emit_slot_result(h.H_TABLE_GET, h.T_REF)
            put16(self.buffer + at + h.AT_TABLE_GET_INDEX, index)
            put32(self.buffer + at + h.AT_TABLE_GET_TABLE, self.slot_tables + 8 * i.a)
        elif op == h.OP_TABLE_SET:
            index = self.to_slot(self.height - 2)
            operand.slot = self.to_slot(self.height - 1)
            self.pop()
            self.pop()
            at = self.emit(h.H_TABLE_SET)
            put16(self.buffer + at + h.AT_TABLE_SET_INDEX, index)
            put16(self.buffer + at + h.AT_TABLE_SET_VALUE, operand.slot)
            put32(self.buffer + at + h.AT_TABLE_SET_TABLE, self.slot_tables + 8 * i.a)
        elif op == h.OP_TABLE_SIZE:
            at = self.emit_slot_result(h.H_TABLE_SIZE, h.T_I32)
            put32(self.buffer + at + h.AT_TABLE_SIZE_TABLE, self.slot_tables + 8 * i.a)
        elif op == h.OP_TABLE_GROW:
            self.runtime_call(h.H_TABLE_GROW, 2, True, i.a, 0, h.T_I32)
        elif op == h.OP_TABLE_INIT:
            self.runtime_call(h.H_TABLE_INIT, 3, False, i.a, i.b, 0)
        elif op == h.OP_TABLE_COPY:
            self.runtime_call(h.H_TABLE_COPY, 3, False, i.a, i.b, 0)
        elif op == h.OP_TABLE_FILL:
            self.runtime_call(h.H_TABLE_FILL, 3, False, i.a, 0, 0)
        elif op == h.OP_ELEM_DROP:
            self.runtime_call(h.H_ELEM_DROP, 0, False, i.a, 0, 0)
        elif op == h.OP_REF_NULL:
            index = self.push(E_CONST, h.T_REF)
            self.stack[index].bits = 0
        elif op == h.OP_REF_FUNC:
            at = self.emit_slot_result(h.H_REF_FUNC, h.T_REF)
            put32(self.buffer + at + h.AT_REF_FUNC_FUNCTION, self.slot_functions + 8 * i.a)
        elif op == h.OP_REF_AS_NON_NULL:
            index = self.to_slot(self.height - 1)
            put16(self.buffer + self.emit(h.H_REF_AS_NON_NULL) + h.AT_REF_AS_NON_NULL_VALUE, index)
        elif op == h.OP_BR_ON_NULL or op == h.OP_BR_ON_NON_NULL:
            # The reference stays on the stack of one of the two ways: in a slot, where both find it.
            index = self.height - 1
            condition.op = h.OP_I64_EQ if op == h.OP_BR_ON_NULL else h.OP_I64_NE
            condition.negate = False
            condition.a.kind = SLOT
            condition.a.slot = self.to_slot(index)
            condition.b.kind = IMM
            condition.b.bits = 0
            if op == h.OP_BR_ON_NULL:
                self.height -= 1  # not popped: it is still there where null was not found
                self.branch_if(condition, i.a)
                self.height += 1
            else:
                self.branch_if(condition, i.a)
                self.pop()
        elif action == A_UNSUPPORTED:
            row = INSTRUCTIONS[i.op]
            raise UnsupportedError(f"{row.feature} is not supported yet: {row.mnemonic}", i.offset)
        else:
            self.stack_instruction(r, i)
        return 0

    # --- values ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fold_constants(self, op: cython.int, count: cython.int) -> cython.int:
        """Compute an instruction whose `count` operands are constants; 0 when it has to run."""
        k: cython.int
        top: cython.pointer(Entry) = self.stack + self.height
        for k in range(count):
            if top[-1 - k].kind != E_CONST:
                return 0
        result = fold(op, top[-1].bits) if count == 1 else fold(op, top[-2].bits, top[-1].bits)
        if result is None:
            return 0
        for _ in range(count):
            self.pop()
        k = self.push(E_CONST, op_result[op])
        self.stack[k].bits = result
        return 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def value(self, op: cython.int) -> cython.int:
        """A numeric instruction."""
        a: Operand
        b: Operand
        swapped: Operand
        c: Condition
        before: AccState
        at: cython.Py_ssize_t
        type: cython.int = op_types[op][0]
        if _arity[op] == 1:
            if op == h.OP_I32_EQZ and self.is_compare() and op_negated[self.compare.op] >= 0:
                c = self.take_condition()
                c.op = op_negated[c.op]
                self.emit_compare(c, op_types[c.op][0])
                return 0
            if self.fold_constants(op, 1):
                return 0
            a = self.slot_operand(self.height - 1)
            self.pop()
            if self.accs[0].owner >= 0:
                self.flush(self.accs[0].owner)
            before = self.accs[0]
            self.before_compare_header = self.last_header
            self.before_compare_number = self.last_number
            at = self.emit_result(
                value_table[h.value_position(op, a.kind, 0, ACC)],
                value_table[h.value_position(op, a.kind, 0, SLOT)],
                op_result[op],
            )
            if a.kind == SLOT:
                put16(self.buffer + at + h.AT_VALUE_SLOT_0, a.slot)
            if op == h.OP_I32_EQZ or op == h.OP_I64_EQZ or op == h.OP_REF_IS_NULL:
                # As a branch's condition it is a comparison with 0.
                self.compare.op = h.OP_I32_EQ if op == h.OP_I32_EQZ else h.OP_I64_EQ
                self.compare.negate = False
                self.compare.a = a
                self.compare.b.kind = IMM
                self.compare.b.bits = 0
                self.compare_at = at
                self.before_compare = before
            return 0
        if self.fold_constants(op, 2):
            return 0
        a = self.operand(self.height - 2)
        b = self.operand(self.height - 1)
        self.fit(cython.address(a), self.height - 2)
        self.fit(cython.address(b), self.height - 1)
        if a.kind == IMM and b.kind == IMM:
            a.slot = self.to_slot(self.height - 2)
            a.kind = SLOT
        if a.kind == ACC and b.kind == ACC:
            if a.slot >= 0:
                a.kind = SLOT
            else:
                b.kind = SLOT
        if a.kind > b.kind and op_mirrored[op] >= 0:
            swapped = a
            a = b
            b = swapped
            op = op_mirrored[op]
        self.pop()
        self.pop()
        if _is_compare[op]:
            c.op = op
            c.negate = False
            c.a = a
            c.b = b
            self.emit_compare(c, type)
            return 0
        at = self.emit_result(
            value_table[h.value_position(op, a.kind, b.kind, ACC)],
            value_table[h.value_position(op, a.kind, b.kind, SLOT)],
            op_result[op],
        )
        self.put_operands(at, cython.address(a), cython.address(b), kind_wide[type])
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def load(self, i: cython.pointer(Instr)) -> cython.int:
        """A load: ``i.a`` offset, ``i.b`` memory."""
        a: Operand = self.operand(self.height - 1)
        offset: uint64_t = i.a
        other: cython.bint = i.b != 0 or self.checked
        at: cython.Py_ssize_t
        if a.kind == IMM:
            if a.bits + offset > 0xFFFFFFFF:
                a.slot = self.to_slot(self.height - 1)
                a.kind = SLOT
            else:
                offset += a.bits
        self.pop()
        at = self.emit_result(
            load_table[h.load_position(i.op, a.kind, ACC, other)],
            load_table[h.load_position(i.op, a.kind, SLOT, other)],
            op_result[i.op],
        )
        if a.kind == SLOT:
            put16(self.buffer + at + h.AT_LOAD_ADDRESS, a.slot)
        put32(self.buffer + at + h.AT_LOAD_OFFSET, cython.cast(uint32_t, offset))
        if other:
            put32(self.buffer + at + h.AT_LOAD_MEMORY, self.slot_memories + 8 * i.b)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, i: cython.pointer(Instr)) -> cython.int:
        """A store: ``i.a`` offset, ``i.b`` memory."""
        a: Operand = self.operand(self.height - 2)
        b: Operand = self.operand(self.height - 1)
        type: cython.int = op_types[i.op][1]
        offset: uint64_t = i.a
        other: cython.bint = i.b != 0 or self.checked
        immediate: cython.int
        at: cython.Py_ssize_t
        self.fit(cython.address(b), self.height - 1)
        if a.kind == IMM:
            if a.bits + offset > 0xFFFFFFFF:
                a.slot = self.to_slot(self.height - 2)
                a.kind = SLOT
            else:
                offset += a.bits
        if a.kind == ACC and b.kind == ACC and class_of(type) == 0:
            if a.slot >= 0:
                a.kind = SLOT
            else:
                b.kind = SLOT
        self.pop()
        self.pop()
        at = self.emit(store_table[h.store_position(i.op, a.kind, b.kind, other)])
        if a.kind == SLOT:
            put16(self.buffer + at + h.AT_STORE_ADDRESS, a.slot)
        put32(self.buffer + at + h.AT_STORE_OFFSET, cython.cast(uint32_t, offset))
        if other:
            put32(self.buffer + at + h.AT_STORE_M_MEMORY, self.slot_memories + 8 * i.b)
        if b.kind == SLOT:
            put16(self.buffer + at + h.AT_STORE_VALUE, b.slot)
        elif b.kind == IMM:
            if kind_wide[type]:
                put64(self.buffer + at + (h.AT_STORE_M_VALUE_IMM64 if other else h.AT_STORE_VALUE_IMM64), b.bits)
            else:
                immediate = h.AT_STORE_M_VALUE_IMM32 if other else h.AT_STORE_VALUE_IMM32
                put32(self.buffer + at + immediate, cython.cast(uint32_t, b.bits))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def atomic(self, i: cython.pointer(Instr)) -> cython.int:
        """An atomic instruction: ``i.a`` offset, ``i.b`` memory."""
        count: cython.int = _arity[i.op]
        first: cython.int = self.height - count
        slots: cython.int[3]
        at: cython.Py_ssize_t
        k: cython.int
        for k in range(count):
            slots[k] = self.to_slot(first + k)
        for _ in range(count):
            self.pop()
        if _has_result[i.op]:
            at = self.emit_slot_result(atomic_table[h.atomic_position(i.op)], op_result[i.op])
        else:
            at = self.emit(atomic_table[h.atomic_position(i.op)])
        for k in range(count):
            cython.cast(cython.pointer(uint16_t), self.buffer + at + h.AT_ATOMIC_ADDRESS)[k] = slots[k]
        put32(self.buffer + at + h.AT_ATOMIC_OFFSET, cython.cast(uint32_t, i.a))
        put32(self.buffer + at + h.AT_ATOMIC_MEMORY, self.slot_memories + 8 * i.b)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def scalar(self, type: cython.int) -> cython.int:
        """Refuse a kind whose values take several slots, where handlers move one."""
        if kind_slots[type] != 1:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def local_set(self, local: cython.int, tee: cython.bint) -> cython.int:
        """`local.set` and `local.tee`: the last instruction is patched to write the local where that is possible.

        `local` is the local's slot.
        """
        index: cython.int = self.height - 1
        entry = cython.address(self.stack[index])
        cls: cython.int = class_of(entry.type)
        type: cython.int = entry.type
        same: cython.bint = entry.kind == E_LOCAL and entry.local == local
        fresh: cython.bint
        if not same:
            # The entry itself is popped first: it may be the only one that stands for the local.
            fresh = self.result_end == self.pos and self.result_index == index and self.pending[local] == 0
            if not fresh:
                self.preserve_local(local)
            if fresh and entry.kind == E_ACC:
                self.set_handler(self.accs[cls].header, self.accs[cls].number)
                put16(self.buffer + self.result_at + h.AT_DST, local)
                self.known_in(type, local)
            elif fresh and entry.kind == E_SLOT:
                put16(self.buffer + self.result_at + h.AT_DST, local)
                self.known_in(type, local)
            else:
                self.copy_entry(index, local)
                if entry.kind == E_ACC:
                    self.known_in(type, local)
            self.result_end = -1
        self.pop()
        if tee:
            self.push_local(type, local)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def select(self) -> cython.int:
        """`select`: condition on top, then the two values."""
        c: Operand = self.slot_operand(self.height - 1)
        b_const: cython.bint = self.stack[self.height - 2].kind == E_CONST
        a_const: cython.bint = self.stack[self.height - 3].kind == E_CONST
        type: cython.int = self.stack[self.height - 3].type
        a_slot: cython.int = 0
        b_slot: cython.int = 0
        a_bits: uint64_t = self.stack[self.height - 3].bits
        b_bits: uint64_t = self.stack[self.height - 2].bits
        number: cython.int
        at: cython.Py_ssize_t
        self.scalar(type)
        if not a_const:
            a_slot = self.to_slot(self.height - 3)
        if not b_const:
            b_slot = self.to_slot(self.height - 2)
        self.pop()
        self.pop()
        self.pop()
        number = h.H_SELECT_SSS + h.select_position(0, class_of(type), c.kind == ACC, a_const, b_const)
        at = self.emit_slot_result(number, type)
        if c.kind == SLOT:
            put16(self.buffer + at + h.AT_SELECT_SS_CONDITION, c.slot)
        if a_const:
            put64(self.buffer + at + h.AT_SELECT_II_A_IMM64, a_bits)
        else:
            put16(self.buffer + at + h.AT_SELECT_SS_A, a_slot)
        if not b_const:
            put16(self.buffer + at + h.AT_SELECT_SS_B, b_slot)
        elif a_const:
            put64(self.buffer + at + h.AT_SELECT_II_B_IMM64, b_bits)
        else:
            put64(self.buffer + at + h.AT_SELECT_SI_B_IMM64, b_bits)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def global_get(self, index: uint32_t) -> cython.int:
        """`global.get`."""
        type: cython.int = code_of(self.module.global_item[index].content)
        at: cython.Py_ssize_t
        self.scalar(type)
        if class_of(type):
            at = self.emit_result(h.H_FGLOBAL_GET_A, h.H_FGLOBAL_GET_S, type)
        else:
            at = self.emit_result(h.H_GLOBAL_GET_A, h.H_GLOBAL_GET_S, type)
        put32(self.buffer + at + h.AT_GLOBAL_GET_GLOBAL, h.INSTANCE_SIZE + 8 * index)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def global_set(self, index: uint32_t) -> cython.int:
        """`global.set`."""
        v: Operand = self.operand(self.height - 1)
        cls: cython.int = class_of(self.stack[self.height - 1].type)
        at: cython.Py_ssize_t
        self.scalar(self.stack[self.height - 1].type)
        self.pop()
        if v.kind == ACC:
            at = self.emit(h.H_FGLOBAL_SET_A if cls else h.H_GLOBAL_SET_A)
        elif v.kind == SLOT:
            at = self.emit(h.H_GLOBAL_SET_S)
            put16(self.buffer + at + h.AT_GLOBAL_SET_VALUE, v.slot)
        else:
            at = self.emit(h.H_GLOBAL_SET_I)
            put64(self.buffer + at + h.AT_GLOBAL_SET_VALUE_IMM64, v.bits)
        put32(self.buffer + at + h.AT_GLOBAL_SET_GLOBAL, h.INSTANCE_SIZE + 8 * index)
        return 0


seal(Translator)


@cython.cfunc
def new_translator(module: DecodedModule, cells: cython.size_t, fuel: cython.bint, checked: cython.bint) -> Translator:
    """A translator for a module's functions, whose `cells` code for it goes through."""
    return Translator.__new__(Translator, module, cells, fuel, checked)
