# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates calls: direct, to imports, indirect, by reference, tail calls, and calls of the runtime.

`wasmloom.interpreter.control_handlers` says what a call does to the frame.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES
from cython.cimports.wasmloom.interpreter.assembler import (
    E_SLOT,
    op_arity,
    op_has_result,
    op_immediates,
    op_result,
    op_wide_result,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.flow import SHIM_SLOTS, Signature, Translator, lowers, lowers_kind
from cython.cimports.wasmloom.interpreter.machine import single_table


@cython.cfunc
@cython.exceptval(check=False)
def _signature_of_function(t: Translator, index: uint32_t) -> cython.pointer(Signature):
    """The type of a function of the module's index space."""
    return cython.address(t.signatures[t.module.func_type[index]])


@cython.cfunc
@cython.exceptval(-1, check=False)
def stage_arguments(t: Translator, type: cython.pointer(Signature)) -> cython.int:
    """Put the arguments into their homes, where the callee's frame begins, and pop them. Returns their position."""
    base: cython.int = t.height - type.num_params
    k: cython.int
    for k in range(type.num_params):
        t.flush(base + k)
    for _ in range(type.num_params):
        t.pop()
    t.forget_accs()
    return base


@cython.cfunc
@cython.exceptval(-1, check=False)
def push_results(t: Translator, type: cython.pointer(Signature), base: cython.int) -> cython.int:
    """Push a call's results. They are in their homes, a single one also in the accumulator of its class."""
    k: cython.int
    for k in range(type.num_results):
        t.push(E_SLOT, type.results[k])
    if type.result_slots == 1:
        t.known_in(type.results[0], t.home(base))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _come_back(t: Translator, type: cython.pointer(Signature), base: cython.int) -> cython.int:
    """What is behind a call that may leave the instance: `restore`, and the results."""
    at: cython.Py_ssize_t = t.emit(h.H_RESTORE)
    put16(t.buffer + at + h.AT_RESTORE_DELTA, t.home(t.height))
    put16(t.buffer + at + h.AT_RESTORE_SAVE, t.record + 1)
    return push_results(t, type, base)


@cython.cfunc
@cython.exceptval(-1, check=False)
def call_out(
    t: Translator, type: cython.pointer(Signature), base: cython.int, place: uint32_t
) -> cython.int:
    """Call the function that the instance has at `place`; arguments have been staged, results are pushed."""
    at: cython.Py_ssize_t = t.emit_waiting(h.H_CALL_IMPORT, 0)
    put32(t.buffer + at + h.AT_CALL_IMPORT_FUNCTION, place)
    put16(t.buffer + at + h.AT_CALL_IMPORT_SAVE, t.record + 1)
    put16(t.buffer + at + h.AT_CALL_IMPORT_DELTA, t.home(base))
    return _come_back(t, type, base)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _call(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`call`: of a function of the module, or of an import."""
    type: cython.pointer(Signature) = _signature_of_function(t, i.a)
    base: cython.int
    at: cython.Py_ssize_t
    imported: cython.int = t.module.num_imported_funcs
    base = stage_arguments(t, type)
    if i.a < cython.cast(uint64_t, imported):
        return call_out(t, type, base, t.slot_functions + FIELD_BYTES * i.a)
    at = t.emit_waiting(h.H_CALL, 0)
    put64(t.buffer + at + h.AT_CALL_CODE, cython.cast(uint64_t, t.cells + (i.a - imported)))
    put16(t.buffer + at + h.AT_CALL_DELTA, t.home(base))
    return push_results(t, type, base)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _call_indirect(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`call_indirect`: ``i.a`` type, ``i.b`` table."""
    type: cython.pointer(Signature) = cython.address(t.signatures[i.a])
    index: cython.int = t.to_slot(t.height - 1)
    base: cython.int
    at: cython.Py_ssize_t
    t.pop()
    base = stage_arguments(t, type)
    at = t.emit_waiting(h.H_CALL_INDIRECT_W if t.module.table_item[i.b].is64 else h.H_CALL_INDIRECT, 0)
    put16(t.buffer + at + h.AT_CALL_INDIRECT_INDEX, index)
    put16(t.buffer + at + h.AT_CALL_INDIRECT_SAVE, t.record + 1)
    put32(t.buffer + at + h.AT_CALL_INDIRECT_TABLE, t.slot_tables + FIELD_BYTES * i.b)
    put32(t.buffer + at + h.AT_CALL_INDIRECT_TYPE, t.module.type_id[i.a])
    put16(t.buffer + at + h.AT_CALL_INDIRECT_DELTA, t.home(base))
    return _come_back(t, type, base)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _call_ref(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`call_ref`: ``i.a`` type."""
    type: cython.pointer(Signature) = cython.address(t.signatures[i.a])
    function: cython.int = t.to_slot(t.height - 1)
    base: cython.int
    at: cython.Py_ssize_t
    t.pop()
    base = stage_arguments(t, type)
    at = t.emit_waiting(h.H_CALL_REF, 0)
    put16(t.buffer + at + h.AT_CALL_REF_FUNCTION, function)
    put16(t.buffer + at + h.AT_CALL_REF_SAVE, t.record + 1)
    put16(t.buffer + at + h.AT_CALL_REF_DELTA, t.home(base))
    return _come_back(t, type, base)


# --- tail calls ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _return_call(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`return_call`."""
    type: cython.pointer(Signature) = _signature_of_function(t, i.a)
    base: cython.int
    at: cython.Py_ssize_t
    imported: cython.int = t.module.num_imported_funcs
    t.leave_tries(0)
    if i.a < cython.cast(uint64_t, imported):
        at = _tail_out(t, h.H_RETURN_CALL_IMPORT, type)
        put32(t.buffer + at + h.AT_RETURN_CALL_OUT_IMPORT, t.slot_functions + FIELD_BYTES * i.a)
    else:
        base = stage_arguments(t, type)
        at = t.emit(h.H_RETURN_CALL)
        put64(t.buffer + at + h.AT_RETURN_CALL_CODE, cython.cast(uint64_t, t.cells + (i.a - imported)))
        put16(t.buffer + at + h.AT_RETURN_CALL_SOURCE, t.home(base))
        put16(t.buffer + at + h.AT_RETURN_CALL_COUNT, type.param_slots)
        put16(t.buffer + at + h.AT_RETURN_CALL_RECORD, t.record)
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _tail_out(t: Translator, number: cython.int, type: cython.pointer(Signature)) -> cython.Py_ssize_t:
    """Emit a tail call that may leave the instance, and its shim. Returns the call's offset."""
    base: cython.int = stage_arguments(t, type)
    at: cython.Py_ssize_t = t.emit_waiting(number, 0)
    shim: cython.Py_ssize_t
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_SOURCE, t.home(base))
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_COUNT, type.param_slots)
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_RECORD, t.record)
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_DELTA, SHIM_SLOTS)
    shim = t.emit(h.H_SHIM)
    put16(t.buffer + shim + h.AT_SHIM_COUNT, type.result_slots)
    return at


@cython.cfunc
@cython.exceptval(-1, check=False)
def _return_call_indirect(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`return_call_indirect`: ``i.a`` type, ``i.b`` table."""
    index: cython.int = t.to_slot(t.height - 1)
    at: cython.Py_ssize_t
    number: cython.int = h.H_RETURN_CALL_INDIRECT_W if t.module.table_item[i.b].is64 else h.H_RETURN_CALL_INDIRECT
    t.pop()
    t.leave_tries(0)
    at = _tail_out(t, number, cython.address(t.signatures[i.a]))
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_INDEX, index)
    put32(t.buffer + at + h.AT_RETURN_CALL_OUT_TABLE, t.slot_tables + FIELD_BYTES * i.b)
    put32(t.buffer + at + h.AT_RETURN_CALL_OUT_TYPE, t.module.type_id[i.a])
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _return_call_ref(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`return_call_ref`: ``i.a`` type."""
    function: cython.int = t.to_slot(t.height - 1)
    at: cython.Py_ssize_t
    t.pop()
    t.leave_tries(0)
    at = _tail_out(t, h.H_RETURN_CALL_REF, cython.address(t.signatures[i.a]))
    put16(t.buffer + at + h.AT_RETURN_CALL_OUT_FUNCTION, function)
    t.dead = True
    return 0


# --- calls of the runtime ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def runtime_call(
    t: Translator,
    number: cython.int,
    operands: cython.int,
    result: cython.bint,
    imm0: uint32_t,
    imm1: uint32_t,
    type: cython.int,
) -> cython.int:
    """Emit an instruction that the runtime executes. Operands are in slots; a result is the first slot field."""
    slots: cython.int[3]
    k: cython.int
    at: cython.Py_ssize_t
    for k in range(operands):
        slots[k] = t.to_slot(t.height - operands + k)
    for _ in range(operands):
        t.pop()
    t.forget_accs()
    at = t.emit(number)
    for k in range(operands):
        cython.cast(cython.pointer(uint16_t), t.buffer + at + h.AT_RUNTIME_A)[k + result] = slots[k]
    put32(t.buffer + at + h.AT_RUNTIME_IMM0, imm0)
    put32(t.buffer + at + h.AT_RUNTIME_IMM1, imm1)
    if result:
        put16(t.buffer + at + h.AT_RUNTIME_A, t.home(t.push(E_SLOT, type)))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _runtime(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """An instruction of the kind "runtime"."""
    has_second: cython.bint = op_immediates[i.op] > 1
    return runtime_call(
        t,
        single_table[h.single_position(i.op, False)],
        op_arity[i.op],
        op_has_result[i.op],
        i.a,
        i.b if has_second else 0,
        op_wide_result[i.op] if t.is_wide(i.op, i.a) else op_result[i.op],
    )


def _register() -> None:
    lowers("call", _call)
    lowers("call_indirect", _call_indirect)
    lowers("call_ref", _call_ref)
    lowers("return_call", _return_call)
    lowers("return_call_indirect", _return_call_indirect)
    lowers("return_call_ref", _return_call_ref)
    lowers_kind("runtime", _runtime)


_register()
