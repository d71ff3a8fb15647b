# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates instructions on objects: structs, arrays, and tests of types.

`wasmloom.interpreter.object_handlers` says how a struct is made.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES, SHALLOW, WlType
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    E_CONST,
    E_SLOT,
    IMM,
    SLOT,
    Condition,
    Operand,
    class_of,
    kind_wide,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.flow import Translator, code_of, lowering, lowers
from cython.cimports.wasmloom.interpreter.object_translator import ALWAYS, FUNCTION, NEVER, Target
from cython.cimports.wasmloom.runtime.objects import layout_of
from cython.cimports.wasmloom.spec.canon import FUNC, TypeInfo, type_info

from wasmloom.semantics.aggregates import BY_RUNTIME
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, F32, F64, I8, I16, I32, I64, REF_FLAG, V128

_CONCRETE = cython.declare(uint64_t, CONCRETE)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_I8 = cython.declare(uint64_t, I8)
_I16 = cython.declare(uint64_t, I16)
_I32 = cython.declare(uint64_t, I32)
_I64 = cython.declare(uint64_t, I64)
_F32 = cython.declare(uint64_t, F32)
_F64 = cython.declare(uint64_t, F64)
_V128 = cython.declare(uint64_t, V128)
_HEAPS = ABSTRACT_HEAP_TYPES
#: By abstract heap type: how a test for it is made.
_test_of = cython.declare(cython.uchar[128])
for _name, _how in (
    ("any", ALWAYS), ("extern", ALWAYS), ("func", ALWAYS), ("exn", ALWAYS), ("cont", ALWAYS),
    ("none", NEVER), ("noextern", NEVER), ("nofunc", NEVER), ("noexn", NEVER), ("nocont", NEVER),
    ("eq", h.TEST_EQ), ("i31", h.TEST_I31), ("struct", h.TEST_STRUCT), ("array", h.TEST_ARRAY),
):  # fmt: skip
    _test_of[cython.cast(cython.int, _HEAPS[_name])] = _how


@cython.cfunc
@cython.inline
@cython.exceptval(check=True)
def _info(t: Translator, index: uint64_t) -> cython.pointer(TypeInfo):
    """A type of the module."""
    return type_info(t.module.type_id[index])


@cython.cfunc
@cython.exceptval(check=False)
def _type_place(t: Translator, index: uint64_t) -> uint32_t:
    """The offset in the instance of a type's layout."""
    return cython.cast(uint32_t, t.slot_types + FIELD_BYTES * index)


@cython.cfunc
@cython.exceptval(check=False)
def _read_storage(type: uint64_t, is_signed: cython.bint) -> cython.int:
    """How a field of a type is read: a place in `object_handlers.READS`."""
    if type & _REF_FLAG:
        return h.R_REF
    if type == _I8:
        return h.R_I8_S if is_signed else h.R_I8_U
    if type == _I16:
        return h.R_I16_S if is_signed else h.R_I16_U
    if type == _I32:
        return h.R_I32
    if type == _I64:
        return h.R_I64
    if type == _F32:
        return h.R_F32
    return h.R_F64 if type == _F64 else h.R_V128


@cython.cfunc
@cython.exceptval(check=False)
def _write_storage(type: uint64_t) -> cython.int:
    """How a field of a type is written: a place in `object_handlers.WRITES`."""
    read: cython.int = _read_storage(type, True)
    if read <= h.R_I8_U:
        return h.W_I8
    return h.W_I16 if read <= h.R_I16_U else h.W_I32 + (read - h.R_I32)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _value_code(type: uint64_t) -> cython.int:
    """The kind of a field's value on the operand stack."""
    return h.T_I32 if type == _I8 or type == _I16 else code_of(type)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _emit_get(t: Translator, number: cython.int, type: cython.int) -> cython.Py_ssize_t:
    """Emit a handler that reads; the next one leaves the value in the accumulator only."""
    if type == h.T_V128:
        return t.emit_slot_result(number, type)
    return t.emit_result(number + ACC, number, type)


@cython.cfunc
@cython.exceptval(check=False)
def _put_immediate(t: Translator, at: cython.p_char, type: cython.int, bits: uint64_t) -> cython.void:
    if kind_wide[type]:
        put64(at, bits)
    else:
        put32(at, cython.cast(uint32_t, bits))


# --- structs ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _begin_struct(t: Translator, index: uint64_t, layout: cython.pointer(WlType)) -> cython.int:
    at: cython.Py_ssize_t
    t.forget_accs()
    at = t.emit(h.H_STRUCT_NEW)
    put32(t.buffer + at + h.AT_STRUCT_NEW_TYPE, _type_place(t, index))
    put32(t.buffer + at + h.AT_STRUCT_NEW_BLOCKS, cython.cast(uint32_t, h.BLOCKS + FIELD_BYTES * layout.size_class))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _init(t: Translator, storage: cython.int, offset: uint32_t, slot: cython.int) -> cython.int:
    """Write a slot to a field of the struct in the accumulator."""
    at: cython.Py_ssize_t = t.emit(h.FIRST_INIT + h.init_position(0, storage, False))
    put32(t.buffer + at + h.AT_INIT_OFFSET, offset)
    put16(t.buffer + at + h.AT_INIT_VALUE, slot)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _init_constant(
    t: Translator, storage: cython.int, offset: uint32_t, type: cython.int, bits: uint64_t
) -> cython.int:
    """Write a constant, which fits the field."""
    at: cython.Py_ssize_t = t.emit(h.FIRST_INIT + h.init_position(0, storage, True))
    put32(t.buffer + at + h.AT_INIT_OFFSET, offset)
    _put_immediate(
        t, t.buffer + at + (h.AT_INIT_VALUE_IMM64 if kind_wide[type] else h.AT_INIT_VALUE_IMM32), type, bits
    )
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_new(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.new`: ``i.a`` type."""
    info: cython.pointer(TypeInfo) = _info(t, i.a)
    layout: cython.pointer(WlType) = layout_of(info)
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), layout.offsets)
    count: cython.int = info.n_params
    first: cython.int = t.height - count
    k: cython.int
    storage: cython.int
    a: Operand
    _begin_struct(t, i.a, layout)
    for k in range(count):
        storage = _write_storage(info.types[k])
        if t.stack[first + k].kind == E_CONST:
            a.kind = IMM
            a.bits = t.stack[first + k].bits
            t.fit(cython.address(a), first + k)
            if a.kind == IMM:
                _init_constant(t, storage, offsets[k], t.stack[first + k].type, a.bits)
                continue
        _init(t, storage, offsets[k], t.to_slot(first + k))
    for _ in range(count):
        t.pop()
    t.emit_slot_result(h.H_SET_ACC, h.T_REF)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_new_default(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.new_default`: ``i.a`` type. All words of the fields are zero."""
    layout: cython.pointer(WlType) = layout_of(_info(t, i.a))
    at: uint32_t
    _begin_struct(t, i.a, layout)
    for at in range(FIELD_BYTES, layout.bytes, FIELD_BYTES):
        _init_constant(t, h.W_I64, at, h.T_I64, 0)
    t.emit_slot_result(h.H_SET_ACC, h.T_REF)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _read_field(t: Translator, i: cython.pointer(Instr), is_signed: cython.bint) -> cython.int:
    info: cython.pointer(TypeInfo) = _info(t, i.a)
    layout: cython.pointer(WlType) = layout_of(info)
    type: uint64_t = info.types[i.b]
    a: Operand = t.slot_operand(t.height - 1)
    at: cython.Py_ssize_t
    t.pop()
    at = _emit_get(
        t,
        h.FIRST_FIELD_GET + h.field_get_position(0, _read_storage(type, is_signed), a.kind, SLOT),
        _value_code(type),
    )
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_FIELD_GET_OBJECT, a.slot)
    put32(t.buffer + at + h.AT_FIELD_GET_OFFSET, cython.cast(cython.pointer(uint32_t), layout.offsets)[i.b])
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_get(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.get` and `struct.get_u`: ``i.a`` type, ``i.b`` field."""
    return _read_field(t, i, False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_get_s(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _read_field(t, i, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fit_value(t: Translator, b: cython.pointer(Operand), index: cython.int) -> cython.int:
    """Let a value that is to be written be what handlers take."""
    if t.stack[index].type == h.T_V128:
        return t.in_slot(b, index)
    return t.fit(b, index)


@cython.cfunc
@cython.exceptval(check=False)
def _not_both(a: cython.pointer(Operand), b: cython.pointer(Operand), type: cython.int) -> cython.void:
    """Two operands aren't both in the accumulator of integers, unless they are the same."""
    if a.kind == ACC and b.kind == ACC and class_of(type) == 0:
        if a.slot >= 0:
            a.kind = SLOT
        else:
            b.kind = SLOT


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_set(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.set`: ``i.a`` type, ``i.b`` field."""
    info: cython.pointer(TypeInfo) = _info(t, i.a)
    layout: cython.pointer(WlType) = layout_of(info)
    type: cython.int = t.stack[t.height - 1].type
    a: Operand = t.slot_operand(t.height - 2)
    b: Operand = t.operand(t.height - 1)
    at: cython.Py_ssize_t
    _fit_value(t, cython.address(b), t.height - 1)
    _not_both(cython.address(a), cython.address(b), type)
    t.pop()
    t.pop()
    at = t.emit(h.FIRST_FIELD_SET + h.field_set_position(0, _write_storage(info.types[i.b]), a.kind, b.kind))
    put32(t.buffer + at + h.AT_FIELD_SET_OFFSET, cython.cast(cython.pointer(uint32_t), layout.offsets)[i.b])
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_FIELD_SET_OBJECT, a.slot)
    if b.kind == SLOT:
        put16(t.buffer + at + h.AT_FIELD_SET_VALUE, b.slot)
    elif b.kind == IMM:
        _put_immediate(
            t,
            t.buffer + at + (h.AT_FIELD_SET_VALUE_IMM64 if kind_wide[type] else h.AT_FIELD_SET_VALUE_IMM32),
            type,
            b.bits,
        )
    return 0


# --- arrays ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _read_element(t: Translator, i: cython.pointer(Instr), is_signed: cython.bint) -> cython.int:
    type: uint64_t = _info(t, i.a).types[0]
    array: cython.int = t.to_slot(t.height - 2)
    a: Operand = t.slot_operand(t.height - 1)
    at: cython.Py_ssize_t
    t.pop()
    t.pop()
    at = _emit_get(
        t,
        h.FIRST_ARRAY_GET + h.array_get_position(0, _read_storage(type, is_signed), a.kind, SLOT),
        _value_code(type),
    )
    put16(t.buffer + at + h.AT_ARRAY_GET_ARRAY, array)
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_ARRAY_GET_INDEX, a.slot)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _array_get(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`array.get` and `array.get_u`: ``i.a`` type."""
    return _read_element(t, i, False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _array_get_s(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _read_element(t, i, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _array_set(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`array.set`: ``i.a`` type."""
    type: cython.int = t.stack[t.height - 1].type
    array: cython.int = t.to_slot(t.height - 3)
    a: Operand = t.slot_operand(t.height - 2)
    b: Operand = t.operand(t.height - 1)
    at: cython.Py_ssize_t
    _fit_value(t, cython.address(b), t.height - 1)
    _not_both(cython.address(a), cython.address(b), type)
    for _ in range(3):
        t.pop()
    at = t.emit(
        h.FIRST_ARRAY_SET + h.array_set_position(0, _write_storage(_info(t, i.a).types[0]), a.kind, b.kind)
    )
    put16(t.buffer + at + h.AT_ARRAY_SET_ARRAY, array)
    if a.kind == SLOT:
        put16(t.buffer + at + h.AT_ARRAY_SET_INDEX, a.slot)
    if b.kind == SLOT:
        put16(t.buffer + at + h.AT_ARRAY_SET_VALUE, b.slot)
    elif b.kind == IMM:
        _put_immediate(
            t,
            t.buffer + at + (h.AT_ARRAY_SET_VALUE_IMM64 if kind_wide[type] else h.AT_ARRAY_SET_VALUE_IMM32),
            type,
            b.bits,
        )
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _by_runtime(
    t: Translator, number: cython.int, operands: cython.int, result: cython.int, imm0: uint32_t, imm1: uint32_t
) -> cython.int:
    """Emit an instruction that the runtime executes, with operands in their homes, where a result goes, too.

    `result`: the kind of the result, -1: there is none.
    """
    first: cython.int = t.height - operands
    k: cython.int
    at: cython.Py_ssize_t
    for k in range(operands):
        t.flush(first + k)
    for _ in range(operands):
        t.pop()
    t.forget_accs()
    at = t.emit(number)
    put16(t.buffer + at + h.AT_RUNTIME_A, t.home(first))
    put16(t.buffer + at + h.AT_RUNTIME_B, t.home(first))
    put32(t.buffer + at + h.AT_RUNTIME_IMM0, imm0)
    put32(t.buffer + at + h.AT_RUNTIME_IMM1, imm1)
    if result >= 0:
        t.push(E_SLOT, result)
    return 0


#: By row: the handler, the number of operands, whether there is a result, the number of immediates.
_numbers = cython.declare(cython.int[1024])
_operands = cython.declare(cython.int[1024])
_makes = cython.declare(cython.uchar[1024])
_immediates = cython.declare(cython.uchar[1024])


@cython.cfunc
@cython.exceptval(-1, check=False)
def _array_by_runtime(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """``i.a`` type, ``i.b`` segment, type or count."""
    operands: cython.int = _operands[i.op]
    layout_of(_info(t, i.a))
    if i.op == h.OP_ARRAY_NEW_FIXED:
        operands = cython.cast(cython.int, i.b)
    return _by_runtime(
        t,
        _numbers[i.op],
        operands,
        h.T_REF if _makes[i.op] else -1,
        cython.cast(uint32_t, i.a),
        cython.cast(uint32_t, i.b) if _immediates[i.op] > 1 else 0,
    )


# --- tests of types ---


@cython.cfunc
@cython.exceptval(check=True)
def _target(t: Translator, heap: uint64_t) -> Target:
    """How a test for a heap type of the module is made."""
    target: Target
    info: cython.pointer(TypeInfo)
    target.type = 0
    target.depth = 0
    if heap < _CONCRETE:
        target.test = _test_of[heap & 0x7F]
        return target
    target.type = cython.cast(uint32_t, heap - _CONCRETE)
    info = _info(t, target.type)
    if info.kind == FUNC:
        target.test = FUNCTION
        return target
    target.depth = info.depth
    layout_of(info)
    if info.final:
        target.test = h.TEST_FINAL
    else:
        target.test = h.TEST_SHALLOW if info.depth < SHALLOW else h.TEST_DEEP
    return target


@cython.cfunc
@cython.exceptval(-1, check=False)
def _push_constant(t: Translator, value: cython.int) -> cython.int:
    index: cython.int = t.push(E_CONST, h.T_I32)
    t.stack[index].bits = value
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _push_test(t: Translator, slot: cython.int, heap: uint64_t, nullable: cython.bint) -> cython.int:
    """Push whether the reference in a slot is of a heap type."""
    target: Target = _target(t, heap)
    at: cython.Py_ssize_t
    copy: cython.int
    c: Condition
    if target.test == FUNCTION:
        copy = t.home(t.push(E_SLOT, h.T_REF))  # the runtime takes operands from their homes
        if copy != slot:
            at = t.emit(h.H_COPY)
            put16(t.buffer + at + h.AT_COPY_SOURCE, slot)
            put16(t.buffer + at + h.AT_DST, copy)
            t.overwritten(copy, 1)
        return _by_runtime(t, h.H_FUNCTION_TEST, 1, h.T_I32, t.module.type_id[target.type], nullable)
    if target.test == ALWAYS and nullable:
        return _push_constant(t, 1)
    if target.test == NEVER and not nullable:
        return _push_constant(t, 0)
    if target.test == ALWAYS or target.test == NEVER:
        c.op = h.OP_I64_NE if target.test == ALWAYS else h.OP_I64_EQ
        c.negate = False
        c.a.kind = SLOT
        c.a.slot = slot
        c.b.kind = IMM
        c.b.bits = 0
        return t.emit_compare(c, h.T_I64)
    at = t.emit_result(
        h.FIRST_REF_TEST + h.ref_test_position(0, target.test, nullable, ACC),
        h.FIRST_REF_TEST + h.ref_test_position(0, target.test, nullable, SLOT),
        h.T_I32,
    )
    put16(t.buffer + at + h.AT_REF_TEST_VALUE, slot)
    put32(t.buffer + at + h.AT_REF_TEST_TYPE, _type_place(t, target.type))
    put32(t.buffer + at + h.AT_REF_TEST_DEPTH, target.depth)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _test(t: Translator, i: cython.pointer(Instr), nullable: cython.bint) -> cython.int:
    slot: cython.int = t.to_slot(t.height - 1)
    t.pop()
    return _push_test(t, slot, i.a, nullable)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_test(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.test`: ``i.a`` heap type."""
    return _test(t, i, False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_test_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _test(t, i, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _cast(t: Translator, i: cython.pointer(Instr), nullable: cython.bint) -> cython.int:
    """The value stays where it is."""
    slot: cython.int = t.to_slot(t.height - 1)
    target: Target = _target(t, i.a)
    at: cython.Py_ssize_t
    if target.test == ALWAYS and nullable:
        return 0
    if target.test == ALWAYS or target.test == NEVER or target.test == FUNCTION:
        _push_test(t, slot, i.a, nullable)
        slot = t.to_slot(t.height - 1)
        t.pop()
        put16(t.buffer + t.emit(h.H_CAST_FOUND) + h.AT_CAST_FOUND_VALUE, slot)
        return 0
    at = t.emit(h.FIRST_REF_CAST + h.ref_cast_position(0, target.test, nullable))
    put16(t.buffer + at + h.AT_REF_CAST_VALUE, slot)
    put32(t.buffer + at + h.AT_REF_CAST_TYPE, _type_place(t, target.type))
    put32(t.buffer + at + h.AT_REF_CAST_DEPTH, target.depth)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_cast(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.cast`: ``i.a`` heap type."""
    return _cast(t, i, False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_cast_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _cast(t, i, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _branch_on_cast(t: Translator, i: cython.pointer(Instr), negate: cython.bint) -> cython.int:
    """``i.a`` flags, ``i.b`` label, ``i.d`` the heap type. The reference stays on both paths, in its slot."""
    c: Condition
    _push_test(t, t.to_slot(t.height - 1), i.d, i.a & 2 != 0)
    c = t.take_condition()
    if negate:
        c.negate = not c.negate
    return t.branch_if(c, cython.cast(uint32_t, i.b))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_on_cast(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(t, i, False)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_on_cast_fail(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(t, i, True)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_eq(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """References are equal if their words are."""
    instr: Instr = i[0]
    instr.op = h.OP_I64_EQ
    return lowering[instr.op](t, r, cython.address(instr))


def _register() -> None:
    op: cython.int
    operands: dict = {
        "array.new": 2, "array.new_default": 1, "array.new_fixed": 0, "array.new_data": 2, "array.new_elem": 2,
        "array.fill": 4, "array.copy": 5, "array.init_data": 4, "array.init_elem": 4,
    }  # fmt: skip
    for number, name in enumerate(BY_RUNTIME):
        op = BY_MNEMONIC[name].index
        _numbers[op] = h.H_ARRAY_NEW + number
        _operands[op] = operands[name]
        _makes[op] = name.startswith("array.new")
        _immediates[op] = len(BY_MNEMONIC[name].immediates)
        lowers(name, _array_by_runtime)
    lowers("struct.new", _struct_new)
    lowers("struct.new_default", _struct_new_default)
    lowers("struct.get", _struct_get)
    lowers("struct.get_u", _struct_get)
    lowers("struct.get_s", _struct_get_s)
    lowers("struct.set", _struct_set)
    lowers("array.get", _array_get)
    lowers("array.get_u", _array_get)
    lowers("array.get_s", _array_get_s)
    lowers("array.set", _array_set)
    lowers("ref.test", _ref_test)
    lowers("ref.test_null", _ref_test_null)
    lowers("ref.cast", _ref_cast)
    lowers("ref.cast_null", _ref_cast_null)
    lowers("br_on_cast", _br_on_cast)
    lowers("br_on_cast_fail", _br_on_cast_fail)
    lowers("ref.eq", _ref_eq)


_register()
