# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates instructions that compute, load and store vectors.

A vector is always in slots: what makes one writes them, and leaves it in the accumulator of floats besides. So entries
of the operand stack with vectors are in their home slots, or are locals.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    IMM,
    SLOT,
    Operand,
    op_arity,
    op_mirrored,
    op_result,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.flow import Translator, lowers
from cython.cimports.wasmloom.interpreter.machine import lane_table, load_table, store_table, vector_table
from cython.cimports.wasmloom.interpreter.value_translator import fit_address, put_load, put_store
from cython.cimports.wasmloom.interpreter.vector_translator import LANE, LANES, op_lane

from wasmloom.semantics.registry import OPERATIONS


def _fill_tables() -> None:
    i: cython.int
    for operation in OPERATIONS.values():
        i = operation.instruction.index
        op_lane[i] = {None: 0, "lane": LANE, "lanes": LANES}[operation.lane_immediate]


_fill_tables()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _const(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`v128.const`: ``i.a`` the low half, ``i.b`` the high one."""
    at: cython.Py_ssize_t = t.emit_slot_result(h.H_CONST_VECTOR, h.T_V128)
    put64(t.buffer + at + h.AT_CONST_VECTOR_VALUE_IMM64, i.a)
    put64(t.buffer + at + h.AT_CONST_VECTOR_VALUE_HIGH_IMM64, i.b)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _vector(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A computation with vectors."""
    count: cython.int = op_arity[i.op]
    first: cython.int = t.height - count
    operands: Operand[3]
    swapped: Operand
    kinds: cython.int[3]
    places: cython.int[3]
    lane: cython.int = op_lane[i.op]
    k: cython.int
    in_acc: cython.int = -1
    at: cython.Py_ssize_t
    for k in range(3):
        kinds[k] = SLOT
    places[0], places[1], places[2] = h.AT_VECTOR_SLOT_0, h.AT_VECTOR_SLOT_1, h.AT_VECTOR_SLOT_2
    for k in range(count):
        operands[k] = t.operand(first + k)
        # Only the count of a shift can be an immediate.
        if operands[k].kind == IMM and (k == 0 or lane or count != 2):
            t.in_slot(cython.address(operands[k]), first + k)
        elif operands[k].kind == ACC:
            if count == 3 and k < 2:
                t.in_slot(cython.address(operands[k]), first + k)
            else:
                if in_acc >= 0:
                    t.in_slot(cython.address(operands[in_acc]), first + in_acc)
                in_acc = k
    if count == 2 and in_acc == 0 and op_mirrored[i.op] == i.op:
        swapped = operands[0]
        operands[0] = operands[1]
        operands[1] = swapped
    for k in range(count):
        kinds[k] = operands[k].kind
        t.pop()
    if op_result[i.op] == h.T_V128:
        at = t.emit_slot_result(vector_table[h.vector_position(i.op, kinds[0], kinds[1], kinds[2], SLOT)], h.T_V128)
    else:
        at = t.emit_result(
            vector_table[h.vector_position(i.op, kinds[0], kinds[1], kinds[2], ACC)],
            vector_table[h.vector_position(i.op, kinds[0], kinds[1], kinds[2], SLOT)],
            op_result[i.op],
        )
    _put_slots(t, at, operands, count, places)
    if lane == LANE:
        put16(t.buffer + at + h.AT_VECTOR_LANE, cython.cast(uint32_t, i.a))
    elif lane == LANES:
        put64(t.buffer + at + h.AT_VECTOR_LANES_IMM64, i.a)
        put64(t.buffer + at + h.AT_VECTOR_LANES_HIGH_IMM64, i.b)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _put_slots(
    t: Translator,
    at: cython.Py_ssize_t,
    operands: cython.pointer(Operand),
    count: cython.int,
    places: cython.pointer(cython.int),
) -> cython.void:
    """Write the fields of operands: slots in order, and the immediate."""
    k: cython.int
    slots: cython.int = 0
    for k in range(count):
        if operands[k].kind == SLOT:
            put16(t.buffer + at + places[slots], operands[k].slot)
            slots += 1
        elif operands[k].kind == IMM:
            put32(t.buffer + at + h.AT_VECTOR_IMM32_0, cython.cast(uint32_t, operands[k].bits))


# --- memory: ``i.a`` offset, ``i.b`` memory, ``i.c`` lane ---


@cython.cfunc
@cython.exceptval(check=False)
def _is_other(reach: cython.int) -> cython.bint:
    """Whether an access has handlers for slots only: of other memories than the first, and with checks."""
    return reach == h.REACH_CHECKED or reach == h.REACH_WIDE_CHECKED


@cython.cfunc
@cython.exceptval(-1, check=False)
def _load(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A load of a whole vector."""
    a: Operand = t.operand(t.height - 1)
    offset: uint64_t = i.a
    reach: cython.int = t.reach(i.b, offset)
    at: cython.Py_ssize_t
    if _is_other(reach):
        t.in_slot(cython.address(a), t.height - 1)
    fit_address(t, cython.address(a), t.height - 1, cython.address(offset), reach)
    t.pop()
    at = t.emit_slot_result(load_table[h.load_position(i.op, a.kind, SLOT, reach)], h.T_V128)
    put_load(t, at, cython.address(a), offset, i.b, reach)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _store(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A store of a whole vector."""
    a: Operand = t.operand(t.height - 2)
    b: Operand = t.operand(t.height - 1)
    offset: uint64_t = i.a
    reach: cython.int = t.reach(i.b, offset)
    at: cython.Py_ssize_t
    if _is_other(reach):
        t.in_slot(cython.address(a), t.height - 2)
    fit_address(t, cython.address(a), t.height - 2, cython.address(offset), reach)
    if _is_other(reach) or a.kind == ACC:
        t.in_slot(cython.address(b), t.height - 1)
    t.pop()
    t.pop()
    at = t.emit(store_table[h.store_position(i.op, a.kind, b.kind, reach)])
    put_store(t, at, cython.address(a), cython.address(b), offset, i.b, reach)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _lane_access(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """A load to, or a store of, one lane of the vector on top of the stack."""
    a: Operand = t.operand(t.height - 2)
    b: Operand = t.operand(t.height - 1)
    reach: cython.int = t.reach(i.b, i.a)
    number: cython.int
    at: cython.Py_ssize_t
    if _is_other(reach) or a.kind == IMM:
        t.in_slot(cython.address(a), t.height - 2)
    if _is_other(reach) or a.kind == ACC:
        t.in_slot(cython.address(b), t.height - 1)
    t.pop()
    t.pop()
    number = lane_table[h.lane_position(i.op, a.kind, b.kind, reach)]
    at = t.emit_slot_result(number, h.T_V128) if op_result[i.op] == h.T_V128 else t.emit(number)
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_LANE_ADDRESS, a.slot)
    if b.kind == SLOT:
        put16(t.buffer + at + h.AT_LANE_VALUE, b.slot)
    put16(t.buffer + at + h.AT_LANE_LANE, i.d)
    if reach == h.REACH_WIDE_CHECKED:
        put64(t.buffer + at + h.AT_LANE_WM_OFFSET_IMM64, i.a)
        put32(t.buffer + at + h.AT_LANE_WM_MEMORY, t.slot_memories + FIELD_BYTES * i.b)
        return 0
    put32(t.buffer + at + h.AT_LANE_OFFSET, cython.cast(uint32_t, i.a))
    if reach == h.REACH_CHECKED:
        put32(t.buffer + at + h.AT_LANE_MEMORY, t.slot_memories + FIELD_BYTES * i.b)
    return 0


def _register() -> None:
    lowers("v128.const", _const)
    for operation in OPERATIONS.values():
        if not operation.has_vectors or operation.kind == "own":
            continue
        if operation.kind == "value":
            lowers(operation.mnemonic, _vector)
        elif operation.lane_immediate:
            lowers(operation.mnemonic, _lane_access)
        elif operation.kind == "load":
            lowers(operation.mnemonic, _load)
        else:
            lowers(operation.mnemonic, _store)


_register()
