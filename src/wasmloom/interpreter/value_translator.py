# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates instructions that compute, move, load and store values. The symbolic stack says where operands are."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    E_ACC,
    E_CONST,
    E_LOCAL,
    E_SLOT,
    IMM,
    S_MEMORY,
    S_TABLE,
    SLOT,
    AccState,
    Condition,
    Operand,
    StackEntry,
    class_of,
    kind_wide,
    op_arity,
    op_has_result,
    op_is_compare,
    op_mirrored,
    op_negated,
    op_result,
    op_space,
    op_types,
    op_wide_result,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.call_translator import call_out, stage_arguments
from cython.cimports.wasmloom.interpreter.flow import Translator, code_of, lowers, lowers_kind
from cython.cimports.wasmloom.interpreter.machine import load_table, single_table, store_table, value_table

from wasmloom.contract.layout import WAITS
from wasmloom.semantics.fold import fold
from wasmloom.spec.instructions import BY_MNEMONIC

_WAIT32 = cython.declare(cython.int, BY_MNEMONIC["memory.atomic.wait32"].index)
_WAIT64 = cython.declare(cython.int, BY_MNEMONIC["memory.atomic.wait64"].index)
_LOAD32 = cython.declare(cython.int, BY_MNEMONIC["i32.atomic.load"].index)
_LOAD64 = cython.declare(cython.int, BY_MNEMONIC["i64.atomic.load"].index)
_WAITS = cython.declare(cython.int, len(WAITS))

# --- numbers ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fold_constants(t: Translator, op: cython.int, count: cython.int) -> cython.int:
    """Compute an instruction whose `count` operands are constants. Returns 0 when it has to run."""
    k: cython.int
    top: cython.pointer(StackEntry) = t.stack + t.height
    for k in range(count):
        if top[-1 - k].kind != E_CONST:
            return 0
    result = fold(op, top[-1].bits) if count == 1 else fold(op, top[-2].bits, top[-1].bits)
    if result is None:
        return 0
    for _ in range(count):
        t.pop()
    k = t.push(E_CONST, op_result[op])
    t.stack[k].bits = result
    return 1


@cython.cfunc
@cython.exceptval(-1, check=False)
def _value(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A numeric instruction."""
    op: cython.int = i.op
    a: Operand
    b: Operand
    swapped: Operand
    c: Condition
    before: AccState
    at: cython.Py_ssize_t
    type: cython.int = op_types[op][0]
    if op_arity[op] == 1:
        if op == h.OP_I32_EQZ and t.is_compare() and op_negated[t.compare.op] >= 0:
            c = t.take_condition()
            c.op = op_negated[c.op]
            t.emit_compare(c, op_types[c.op][0])
            return 0
        if _fold_constants(t, op, 1):
            return 0
        a = t.slot_operand(t.height - 1)
        t.pop()
        if t.accs[0].owner >= 0:
            t.flush(t.accs[0].owner)
        before = t.accs[0]
        t.before_compare_header = t.last_header
        t.before_compare_number = t.last_number
        at = t.emit_result(
            value_table[h.value_position(op, a.kind, 0, ACC)],
            value_table[h.value_position(op, a.kind, 0, SLOT)],
            op_result[op],
        )
        if a.kind == SLOT:
            put16(t.buffer + at + h.AT_VALUE_SLOT_0, a.slot)
        if op == h.OP_I32_EQZ or op == h.OP_I64_EQZ or op == h.OP_REF_IS_NULL:
            # As a branch's condition, it is a comparison with 0.
            t.compare.op = h.OP_I32_EQ if op == h.OP_I32_EQZ else h.OP_I64_EQ
            t.compare.negate = False
            t.compare.a = a
            t.compare.b.kind = IMM
            t.compare.b.bits = 0
            t.compare_at = at
            t.before_compare = before
        return 0
    if _fold_constants(t, op, 2):
        return 0
    a = t.operand(t.height - 2)
    b = t.operand(t.height - 1)
    t.fit(cython.address(a), t.height - 2)
    t.fit(cython.address(b), t.height - 1)
    if a.kind == IMM and b.kind == IMM:
        a.slot = t.to_slot(t.height - 2)
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
    t.pop()
    t.pop()
    if op_is_compare[op]:
        c.op = op
        c.negate = False
        c.a = a
        c.b = b
        t.emit_compare(c, type)
        return 0
    at = t.emit_result(
        value_table[h.value_position(op, a.kind, b.kind, ACC)],
        value_table[h.value_position(op, a.kind, b.kind, SLOT)],
        op_result[op],
    )
    t.put_operands(at, cython.address(a), cython.address(b), kind_wide[type])
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _const(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    type: cython.int = op_result[i.op]
    index: cython.int = t.push(E_CONST, type)
    t.stack[index].bits = cython.cast(uint32_t, i.a) if type == h.T_I32 else i.a
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _double(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """An instruction with two results, which go to their homes; the upper one is in the accumulator, too."""
    count: cython.int = op_arity[i.op]
    slots: cython.int[4]
    k: cython.int
    at: cython.Py_ssize_t
    for k in range(count):
        slots[k] = t.to_slot(t.height - count + k)
    for _ in range(count):
        t.pop()
    t.clobber(0)
    at = t.emit(single_table[h.single_position(i.op, False)])
    for k in range(count):
        cython.cast(cython.pointer(uint16_t), t.buffer + at + h.AT_DOUBLE_A)[k] = slots[k]
    put16(t.buffer + at + h.AT_DST, t.home(t.push(E_SLOT, h.T_I64)))
    k = t.push(E_SLOT, h.T_I64)
    t.known_in(h.T_I64, t.home(k))
    return 0


# --- memory ---


@cython.cfunc
@cython.exceptval(check=False)
def _memory(t: Translator, index: uint64_t) -> uint32_t:
    """The offset in the instance of a memory."""
    return cython.cast(uint32_t, t.slot_memories + FIELD_BYTES * index)


@cython.cfunc
@cython.exceptval(-1, check=False)
def fit_address(
    t: Translator,
    a: cython.pointer(Operand),
    index: cython.int,
    offset: cython.pointer(uint64_t),
    reach: cython.int,
) -> cython.int:
    """Let an address be what handlers take: `a` is the entry at `index` of the operand stack.

    A constant address becomes part of the offset, if that still has 32 bits then.
    """
    if reach == h.REACH_WIDE_CHECKED:
        return t.in_slot(a, index)
    if a.kind == IMM:
        if a.bits >> 32 or (a.bits + offset[0]) >> 32:
            return t.in_slot(a, index)
        offset[0] += a.bits
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def put_load(
    t: Translator,
    at: cython.Py_ssize_t,
    a: cython.pointer(Operand),
    offset: uint64_t,
    memory: uint64_t,
    reach: cython.int,
) -> cython.void:
    """Write the fields of a load."""
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_LOAD_ADDRESS, a.slot)
    if reach == h.REACH_WIDE_CHECKED:
        put64(t.buffer + at + h.AT_LOAD_WM_OFFSET_IMM64, offset)
        put32(t.buffer + at + h.AT_LOAD_WM_MEMORY, _memory(t, memory))
        return
    put32(t.buffer + at + h.AT_LOAD_OFFSET, cython.cast(uint32_t, offset))
    if reach == h.REACH_CHECKED:
        put32(t.buffer + at + h.AT_LOAD_MEMORY, _memory(t, memory))


@cython.cfunc
@cython.exceptval(check=False)
def put_store(
    t: Translator,
    at: cython.Py_ssize_t,
    a: cython.pointer(Operand),
    b: cython.pointer(Operand),
    offset: uint64_t,
    memory: uint64_t,
    reach: cython.int,
) -> cython.void:
    """Write the fields of a store, but for an immediate."""
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_STORE_ADDRESS, a.slot)
    if b.kind == SLOT:
        put16(t.buffer + at + h.AT_STORE_VALUE, b.slot)
    if reach == h.REACH_WIDE_CHECKED:
        put64(t.buffer + at + h.AT_STORE_WM_OFFSET_IMM64, offset)
        put32(t.buffer + at + h.AT_STORE_WM_MEMORY, _memory(t, memory))
        return
    put32(t.buffer + at + h.AT_STORE_OFFSET, cython.cast(uint32_t, offset))
    if reach == h.REACH_CHECKED:
        put32(t.buffer + at + h.AT_STORE_M_MEMORY, _memory(t, memory))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _load(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A load: ``i.a`` offset, ``i.b`` memory."""
    a: Operand = t.operand(t.height - 1)
    offset: uint64_t = i.a
    reach: cython.int = t.reach(i.b, offset)
    at: cython.Py_ssize_t
    fit_address(t, cython.address(a), t.height - 1, cython.address(offset), reach)
    t.pop()
    at = t.emit_result(
        load_table[h.load_position(i.op, a.kind, ACC, reach)],
        load_table[h.load_position(i.op, a.kind, SLOT, reach)],
        op_result[i.op],
    )
    put_load(t, at, cython.address(a), offset, i.b, reach)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _store(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A store: ``i.a`` offset, ``i.b`` memory."""
    a: Operand = t.operand(t.height - 2)
    b: Operand = t.operand(t.height - 1)
    type: cython.int = op_types[i.op][1]
    offset: uint64_t = i.a
    reach: cython.int = t.reach(i.b, offset)
    immediate: cython.int
    at: cython.Py_ssize_t
    t.fit(cython.address(b), t.height - 1)
    fit_address(t, cython.address(a), t.height - 2, cython.address(offset), reach)
    if reach == h.REACH_WIDE_CHECKED:
        t.in_slot(cython.address(b), t.height - 1)
    if a.kind == ACC and b.kind == ACC and class_of(type) == 0:
        if a.slot >= 0:
            a.kind = SLOT
        else:
            b.kind = SLOT
    t.pop()
    t.pop()
    at = t.emit(store_table[h.store_position(i.op, a.kind, b.kind, reach)])
    put_store(t, at, cython.address(a), cython.address(b), offset, i.b, reach)
    if b.kind == IMM:
        other: cython.bint = reach == h.REACH_CHECKED
        if kind_wide[type]:
            put64(t.buffer + at + (h.AT_STORE_M_VALUE_IMM64 if other else h.AT_STORE_VALUE_IMM64), b.bits)
        else:
            immediate = h.AT_STORE_M_VALUE_IMM32 if other else h.AT_STORE_VALUE_IMM32
            put32(t.buffer + at + immediate, cython.cast(uint32_t, b.bits))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _atomic(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """An atomic instruction: ``i.a`` offset, ``i.b`` memory."""
    count: cython.int = op_arity[i.op]
    first: cython.int = t.height - count
    slots: cython.int[3]
    number: cython.int = single_table[h.single_position(i.op, t.memory_wide[i.b] == 1)]
    at: cython.Py_ssize_t
    k: cython.int
    if t.memory_waits[i.b] >= 0:
        if i.op == _WAIT32:
            return _wait(t, i, _LOAD32, 0)
        if i.op == _WAIT64:
            return _wait(t, i, _LOAD64, 1)
    for k in range(count):
        slots[k] = t.to_slot(first + k)
    for _ in range(count):
        t.pop()
    at = t.emit_slot_result(number, op_result[i.op]) if op_has_result[i.op] else t.emit(number)
    for k in range(count):
        cython.cast(cython.pointer(uint16_t), t.buffer + at + h.AT_ATOMIC_ADDRESS)[k] = slots[k]
    return _put_place(t, at, i)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_place(t: Translator, at: cython.Py_ssize_t, i: cython.pointer(Instr)) -> cython.int:
    """Write the offset and the memory of an atomic instruction."""
    if t.memory_wide[i.b] == 1:
        put64(t.buffer + at + h.AT_ATOMIC_WM_OFFSET_IMM64, i.a)
        put32(t.buffer + at + h.AT_ATOMIC_WM_MEMORY, _memory(t, i.b))
    else:
        put32(t.buffer + at + h.AT_ATOMIC_OFFSET, cython.cast(uint32_t, i.a))
        put32(t.buffer + at + h.AT_ATOMIC_MEMORY, _memory(t, i.b))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _wait(t: Translator, i: cython.pointer(Instr), load: cython.int, which: cython.int) -> cython.int:
    """Wait in a shared memory: a load, which traps where a wait has to, then a call of what waits there (see
    `wasmloom.host.parking`), by its number among the memory's. Its last argument is the offset; all are words."""
    slot: cython.int = t.to_slot(t.height - 3)
    at: cython.Py_ssize_t = t.emit_slot_result(
        single_table[h.single_position(load, t.memory_wide[i.b] == 1)], op_result[load]
    )
    index: cython.int
    cython.cast(cython.pointer(uint16_t), t.buffer + at + h.AT_ATOMIC_ADDRESS)[0] = slot
    _put_place(t, at, i)
    t.pop()
    index = t.push(E_CONST, h.T_I64)
    t.stack[index].bits = i.a
    return call_out(
        t,
        cython.address(t.wait_type),
        stage_arguments(t, cython.address(t.wait_type)),
        t.slot_waits + FIELD_BYTES * (_WAITS * t.memory_waits[i.b] + which),
    )


# --- locals, and what moves values ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _local_get(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    t.push_local(t.local_types[i.a], t.local_slots[i.a])
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _write_local(t: Translator, local: cython.int, tee: cython.bint) -> cython.int:
    """`local.set` and `local.tee`. The last instruction is patched to write the local, where that is possible.

    `local` is the local's slot.
    """
    index: cython.int = t.height - 1
    entry = cython.address(t.stack[index])
    cls: cython.int = class_of(entry.type)
    type: cython.int = entry.type
    same: cython.bint = entry.kind == E_LOCAL and entry.local == local
    fresh: cython.bint
    if not same:
        # Pop the entry first: it may be the only one that stands for the local.
        fresh = t.result_end == t.pos and t.result_index == index and t.pending[local] == 0
        if not fresh:
            t.preserve_local(local)
        if fresh and entry.kind == E_ACC:
            t.set_handler(t.accs[cls].header, t.accs[cls].number)
            put16(t.buffer + t.result_at + h.AT_DST, local)
            t.known_in(type, local)
        elif fresh and entry.kind == E_SLOT:
            put16(t.buffer + t.result_at + h.AT_DST, local)
            t.known_in(type, local)
        else:
            t.copy_entry(index, local)
            if entry.kind == E_ACC:
                t.known_in(type, local)
        t.result_end = -1
    t.pop()
    if tee:
        t.push_local(type, local)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _local_set(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _write_local(t, t.local_slots[i.a], False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _local_tee(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _write_local(t, t.local_slots[i.a], True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _drop(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.pop()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _select(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`select`: condition on top, then the two values."""
    c: Operand = t.slot_operand(t.height - 1)
    b_const: cython.bint = t.stack[t.height - 2].kind == E_CONST
    a_const: cython.bint = t.stack[t.height - 3].kind == E_CONST
    type: cython.int = t.stack[t.height - 3].type
    a_slot: cython.int = 0
    b_slot: cython.int = 0
    a_bits: uint64_t = t.stack[t.height - 3].bits
    b_bits: uint64_t = t.stack[t.height - 2].bits
    number: cython.int
    at: cython.Py_ssize_t
    if type == h.T_V128:
        a_slot = t.to_slot(t.height - 3)
        b_slot = t.to_slot(t.height - 2)
        for _ in range(3):
            t.pop()
        at = t.emit_slot_result(h.H_SELECT_VECTOR_A if c.kind == ACC else h.H_SELECT_VECTOR_S, type)
        if c.kind == SLOT:
            put16(t.buffer + at + h.AT_SELECT_VECTOR_CONDITION, c.slot)
        put16(t.buffer + at + h.AT_SELECT_VECTOR_A, a_slot)
        put16(t.buffer + at + h.AT_SELECT_VECTOR_B, b_slot)
        return 0
    if not a_const:
        a_slot = t.to_slot(t.height - 3)
    if not b_const:
        b_slot = t.to_slot(t.height - 2)
    t.pop()
    t.pop()
    t.pop()
    number = h.H_SELECT_SSS + h.select_position(0, class_of(type), c.kind == ACC, a_const, b_const)
    at = t.emit_slot_result(number, type)
    if c.kind == SLOT:
        put16(t.buffer + at + h.AT_SELECT_SS_CONDITION, c.slot)
    if a_const:
        put64(t.buffer + at + h.AT_SELECT_II_A_IMM64, a_bits)
    else:
        put16(t.buffer + at + h.AT_SELECT_SS_A, a_slot)
    if not b_const:
        put16(t.buffer + at + h.AT_SELECT_SS_B, b_slot)
    elif a_const:
        put64(t.buffer + at + h.AT_SELECT_II_B_IMM64, b_bits)
    else:
        put64(t.buffer + at + h.AT_SELECT_SI_B_IMM64, b_bits)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _nothing(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return 0


# --- globals, tables and other parts of the instance ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _global_get(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`global.get`."""
    index: uint32_t = i.a
    type: cython.int = code_of(t.module.global_item[index].content)
    at: cython.Py_ssize_t
    if type == h.T_V128:
        at = t.emit_slot_result(h.H_VECTOR_GLOBAL_GET, type)
    elif class_of(type):
        at = t.emit_result(h.H_FGLOBAL_GET_A, h.H_FGLOBAL_GET_S, type)
    else:
        at = t.emit_result(h.H_GLOBAL_GET_A, h.H_GLOBAL_GET_S, type)
    put32(t.buffer + at + h.AT_GLOBAL_GET_GLOBAL, h.INSTANCE_SIZE + FIELD_BYTES * index)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _global_set(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`global.set`."""
    index: uint32_t = i.a
    v: Operand = t.operand(t.height - 1)
    type: cython.int = t.stack[t.height - 1].type
    cls: cython.int = class_of(type)
    at: cython.Py_ssize_t
    if type == h.T_V128:
        v.slot = t.to_slot(t.height - 1)
    t.pop()
    if type == h.T_V128:
        at = t.emit(h.H_VECTOR_GLOBAL_SET)
        put16(t.buffer + at + h.AT_GLOBAL_SET_VALUE, v.slot)
    elif v.kind == ACC:
        at = t.emit(h.H_FGLOBAL_SET_A if cls else h.H_GLOBAL_SET_A)
    elif v.kind == SLOT:
        at = t.emit(h.H_GLOBAL_SET_S)
        put16(t.buffer + at + h.AT_GLOBAL_SET_VALUE, v.slot)
    else:
        at = t.emit(h.H_GLOBAL_SET_I)
        put64(t.buffer + at + h.AT_GLOBAL_SET_VALUE_IMM64, v.bits)
    put32(t.buffer + at + h.AT_GLOBAL_SET_GLOBAL, h.INSTANCE_SIZE + FIELD_BYTES * index)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _place(t: Translator, i: cython.pointer(Instr)) -> uint32_t:
    """The offset in the instance of the item that an instruction of the kind "instance" names."""
    space: cython.int = op_space[i.op]
    base: cython.int = t.slot_functions
    if space == S_TABLE:
        base = t.slot_tables
    elif space == S_MEMORY:
        base = t.slot_memories
    return cython.cast(uint32_t, base + FIELD_BYTES * i.a)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _instance(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """An instruction of the kind "instance": works on the item that it names, with an index and a value."""
    count: cython.int = op_arity[i.op]
    index: cython.int = 0
    value: cython.int = 0
    number: cython.int
    wide: cython.bint = t.is_wide(i.op, i.a)
    at: cython.Py_ssize_t
    # The size of a memory with addresses of 32 bits and unusual pages needs its own, too.
    has_own: cython.bint = wide or (op_space[i.op] == S_MEMORY and t.memory_wide[i.a] != 0)
    number = single_table[h.single_position(i.op, has_own)]
    if count > 0:
        index = t.to_slot(t.height - count)
    if count > 1:
        value = t.to_slot(t.height - 1)
    for _ in range(count):
        t.pop()
    if op_has_result[i.op]:
        at = t.emit_slot_result(number, op_wide_result[i.op] if wide else op_result[i.op])
    else:
        at = t.emit(number)
    if count > 0:
        put16(t.buffer + at + h.AT_INSTANCE_INDEX, index)
    if count > 1:
        put16(t.buffer + at + h.AT_INSTANCE_VALUE, value)
    put32(t.buffer + at + h.AT_INSTANCE_TABLE, _place(t, i))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    index: cython.int = t.push(E_CONST, h.T_REF)
    t.stack[index].bits = 0
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_as_non_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """The value stays where it is."""
    value: cython.int = t.to_slot(t.height - 1)
    put16(t.buffer + t.emit(h.H_REF_AS_NON_NULL) + h.AT_REF_AS_NON_NULL_VALUE, value)
    return 0


def _register() -> None:
    for kind in ("i32", "i64", "f32", "f64"):
        lowers(f"{kind}.const", _const)
    lowers("local.get", _local_get)
    lowers("local.set", _local_set)
    lowers("local.tee", _local_tee)
    lowers("drop", _drop)
    lowers("select", _select)
    lowers("global.get", _global_get)
    lowers("global.set", _global_set)
    lowers("ref.null", _ref_null)
    lowers("ref.as_non_null", _ref_as_non_null)
    lowers_kind("value", _value)
    lowers_kind("double", _double)
    lowers_kind("load", _load)
    lowers_kind("store", _store)
    lowers_kind("atomic", _atomic)
    lowers_kind("instance", _instance)
    lowers_kind("nothing", _nothing)


_register()
