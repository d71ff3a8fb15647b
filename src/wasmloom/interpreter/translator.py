# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates function bodies to bytecode, in one pass over the bytes.

The caller has validated the bodies, so only this engine's own limits are checked. For each instruction a registered
function does its work on the operand stack (`flow.lowers` registers for one instruction, `lowers_kind` for all whose
definitions are of a kind):

=================== ==========================================================================
`assembler`         the symbolic operand stack, accumulators, and the bytecode they become
`flow`              the translator's state and table; labels, branches, exception records, fuel
`value_translator`  numbers, loads and stores, locals, globals, references, tables
`vector_translator` vectors
`call_translator`   calls, tail calls, and calls of the runtime
`stack_translator`  exceptions and continuations
`object_translator` structs, arrays, tests of types
`translator`        locals, and the loop over a body's instructions
=================== ==========================================================================

Every executed instruction has one; otherwise the import fails.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint16_t, uint32_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, next_instr, read_range, read_u32, read_valtype
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import SLOT_BYTES
from cython.cimports.wasmloom.interpreter.assembler import kind_slots, put16, put32
from cython.cimports.wasmloom.interpreter.flow import (
    L_FUNCTION,
    RECORD_SLOTS,
    SHIM_SLOTS,
    Translator,
    check_lowerings,
    code_of,
    is_executed,
    lowering,
)
from cython.cimports.wasmloom.system.allocation import realloc

# Importing these registers their functions.
from wasmloom.interpreter import call_translator as _calls  # noqa: F401
from wasmloom.interpreter import object_translator as _objects  # noqa: F401
from wasmloom.interpreter import stack_translator as _stack_translator  # noqa: F401
from wasmloom.interpreter import value_translator as _values  # noqa: F401
from wasmloom.interpreter import vector_translator as _vectors  # noqa: F401
from wasmloom.semantics.determinism import BEGINS, CALLS, FRAME_COST, GIVES_NAN, TAIL_CALLS, VALUE_COST
from wasmloom.spec.instructions import INSTRUCTIONS

check_lowerings()

_FRAME_COST = cython.declare(uint32_t, FRAME_COST)
_VALUE_COST = cython.declare(uint32_t, VALUE_COST)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _read_local_types(t: Translator, r: cython.pointer(Reader)) -> cython.int:
    """Read the declarations of locals (Core 3.0, 5.5.13); parameters come first, and the depth that is left last."""
    count: int64_t
    total: int64_t = t.own.num_params
    type: cython.int
    i: cython.int
    runs: cython.int
    _reserve_locals(t, total)
    for i in range(t.own.num_params):
        t.local_types[i] = t.own.params[i]
    runs = read_u32(r)
    for _ in range(runs):
        count = read_u32(r)
        type = code_of(read_valtype(r))
        _reserve_locals(t, total + count)
        if count:
            memset(t.local_types + total, type, count)
        total += count
    if t.deterministic:
        _reserve_locals(t, total + 1)
        t.local_types[total] = h.T_I64
        total += 1
    t.num_locals = total
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _place_locals(t: Translator) -> cython.int:
    """Give every local its slots, one after the other."""
    local: cython.int
    slot: cython.int = 0
    pending: cython.p_void
    for local in range(t.num_locals):
        t.local_slots[local] = slot
        slot += kind_slots[t.local_types[local]]
    t.record = slot
    if slot > t.pending_capacity:
        pending = realloc(t.pending, slot * cython.sizeof(int32_t))
        if pending == cython.NULL:
            raise MemoryError
        t.pending = cython.cast(cython.pointer(int32_t), pending)
        t.pending_capacity = slot
    if slot:
        memset(t.pending, 0, slot * cython.sizeof(int32_t))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _reserve_locals(t: Translator, count: int64_t) -> cython.int:
    """Make room for the types and slots of `count` locals."""
    types: cython.p_void
    slots: cython.p_void
    if count > t.locals_capacity:
        count = max(count, 2 * t.locals_capacity, 64)
        types = realloc(t.local_types, count)
        if types == cython.NULL:
            raise MemoryError
        t.local_types = cython.cast(cython.pointer(uint8_t), types)
        slots = realloc(t.local_slots, count * cython.sizeof(int32_t))
        if slots == cython.NULL:
            raise MemoryError
        t.local_slots = cython.cast(cython.pointer(int32_t), slots)
        t.locals_capacity = count
    return 0


# --- what deterministic code does besides: see `wasmloom.semantics.determinism` ---

_CALL = cython.declare(cython.int, 1)
_TAIL_CALL = cython.declare(cython.int, 2)
_BEGIN = cython.declare(cython.int, 3)
#: By row: what happens to the depth before an instruction; the handler that makes its result's NaNs canonical.
_depth_of = cython.declare(cython.uchar[1024])
_canonical_of = cython.declare(uint16_t[1024])


def _fill_tables() -> None:
    i: cython.int
    numbers: dict = {
        "f32": h.H_CANONICAL_F32, "f64": h.H_CANONICAL_F64, "f32x4": h.H_CANONICAL_F32X4,
        "f64x2": h.H_CANONICAL_F64X2,
    }  # fmt: skip
    for row in INSTRUCTIONS:
        i = row.index
        _canonical_of[i] = numbers[GIVES_NAN[row.mnemonic]] if row.mnemonic in GIVES_NAN else 0
        _depth_of[i] = 0
        for step, names in ((_CALL, CALLS), (_TAIL_CALL, TAIL_CALLS), (_BEGIN, BEGINS)):
            if row.mnemonic in names:
                _depth_of[i] = step


_fill_tables()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _before(t: Translator, op: cython.int) -> cython.int:
    """Before an instruction: tell what it calls how deep it may get."""
    at: cython.Py_ssize_t
    if _depth_of[op] == _BEGIN:
        t.emit(h.H_GIVE_WHOLE_DEPTH)
    elif _depth_of[op]:
        at = t.emit(h.H_GIVE_DEPTH if _depth_of[op] == _CALL else h.H_GIVE_DEPTH_BACK)
        put16(t.buffer + at + h.AT_GIVE_DEPTH_LEFT, t.local_slots[t.num_locals - 1])
        if _depth_of[op] == _TAIL_CALL:
            t.frame_costs.append(at + h.AT_GIVE_DEPTH_COST)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _after(t: Translator, op: cython.int) -> cython.int:
    """After an instruction: its result, which is in the accumulator, may be a NaN."""
    type: cython.int
    if _canonical_of[op]:
        type = t.stack[t.height - 1].type
        t.operand(t.height - 1)
        t.pop()
        t.emit_slot_result(_canonical_of[op], type)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _take_depth(t: Translator) -> cython.int:
    """The function begins: it takes its frame's cost."""
    at: cython.Py_ssize_t = t.emit(h.H_TAKE_DEPTH)
    put16(t.buffer + at + h.AT_DST, t.local_slots[t.num_locals - 1])
    t.frame_costs = [at + h.AT_TAKE_DEPTH_COST]
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_frame_costs(t: Translator) -> cython.int:
    cost: uint32_t = _FRAME_COST + _VALUE_COST * cython.cast(uint32_t, t.num_locals - 1 + t.highest)
    at: cython.Py_ssize_t
    for at in t.frame_costs:
        put32(t.buffer + at, cost)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def translate(t: Translator, index: uint32_t) -> cython.int:
    """Translate the body of function `index` of those defined in the module; the bytecode is then `buffer[:pos]`.

    Raises CompileError (too many slots), MemoryError.
    """
    module: DecodedModule = t.module
    reader: Reader
    instr: Instr
    type: uint32_t = module.func_type[module.num_imported_funcs + index]
    frame: cython.Py_ssize_t
    enter: cython.Py_ssize_t
    zeroed: cython.int
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
    read_range(cython.address(reader), base, base + module.body_start[index], base + module.body_end[index])
    t.wasm_offset = module.body_start[index]
    t.own = t.signatures[type]
    t.pos = 0
    t.num_fixups = 0
    t.num_labels = 0
    t.dead = False
    t.skipped = 0
    t.barrier()
    t.compare_at = -1
    _read_local_types(t, cython.address(reader))
    t.open_tries = 0
    _place_locals(t)
    t.open_frame(t.record + RECORD_SLOTS + h.TRY_RECORD_SLOTS * t.count_tries(reader))
    zeroed = t.record - t.own.param_slots
    enter = t.emit(h.H_ENTER_0 + zeroed if zeroed <= h.MAX_UNROLLED_LOCALS else h.H_ENTER_N)
    if t.want_map:
        t.loops.append((t.pos, 0))
    t.fuel_at = -1
    t.highest = 0
    t.wasm_offset = cython.cast(uint32_t, reader.pos - base)
    if t.deterministic:
        _take_depth(t)
    t.start_fuel()
    t.open_label(L_FUNCTION, t.own)
    while t.num_labels:
        next_instr(cython.address(reader), cython.address(instr))
        t.wasm_offset = instr.offset
        if t.dead and is_executed[instr.op]:
            t.pass_by(cython.address(reader), cython.address(instr))
            if t.dead:
                continue
        else:
            t.fuel_amount += 1
            if t.deterministic:
                _before(t, instr.op)
            t.waits_at = -1
            lowering[instr.op](t, cython.address(reader), cython.address(instr))
            if t.deterministic:
                _after(t, instr.op)
        if not t.dead:
            t.highest = max(t.highest, t.height)
        if instr.offset == t.stop_at:
            t.note_operands()
            t.note_tries()
    t.stop_fuel()
    if t.deterministic:
        _put_frame_costs(t)
    # Callees' results count towards the height; they lie higher when a callee has a shim. The function's own results
    # overwrite the frame's beginning.
    frame = max(t.top, t.own.result_slots) + SHIM_SLOTS
    put32(t.buffer + enter + h.AT_ENTER_FRAME, SLOT_BYTES * frame)
    put16(t.buffer + enter + h.AT_ENTER_RECORD, t.record)
    put16(t.buffer + enter + h.AT_ENTER_ZEROED, zeroed)
    return 0
