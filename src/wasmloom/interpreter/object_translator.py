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
from cython.cimports.wasmloom.interpreter.object_translator import (
    ALWAYS,
    EXACT_FUNCTION,
    FUNCTION,
    NEVER,
    Member,
    Target,
)
from cython.cimports.wasmloom.runtime.objects import layout_of
from cython.cimports.wasmloom.spec.canon import FUNC, TypeInfo, type_info

from wasmloom.semantics.aggregates import BY_RUNTIME
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, EXACT, F32, F64, I8, I16, I32, I64, REF_FLAG, V128

_CONCRETE = cython.declare(uint64_t, CONCRETE)
_EXACT = cython.declare(uint64_t, EXACT)
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
@cython.exceptval(check=False)
def _put_immediate(t: Translator, at: cython.Py_ssize_t, type: cython.int, bits: uint64_t) -> cython.void:
    """Write the value of an instruction that has it as an immediate."""
    if kind_wide[type]:
        put64(t.buffer + at + h.AT_MEMBER_VALUE_IMM64, bits)
    else:
        put32(t.buffer + at + h.AT_MEMBER_VALUE_IMM32, cython.cast(uint32_t, bits))


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
def _init(t: Translator, storage: cython.int, offset: uint32_t, is_immediate: cython.bint) -> cython.Py_ssize_t:
    """Emit what writes a field of the struct in the accumulator. Its value is still to be put there."""
    at: cython.Py_ssize_t = t.emit(h.FIRST_INIT + h.init_position(0, storage, is_immediate))
    put32(t.buffer + at + h.AT_MEMBER_OFFSET, offset)
    return at


@cython.cfunc
@cython.exceptval(-1, check=False)
def _descriptor(t: Translator) -> cython.int:
    """Pop the descriptor of a struct that is to be made, and check it; gives its slot."""
    slot: cython.int = t.to_slot(t.height - 1)
    put16(t.buffer + t.emit(h.H_DESCRIPTOR_CHECK) + h.AT_DESCRIPTOR_CHECK_VALUE, slot)
    t.pop()
    return slot


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_new(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.new` and `struct.new_desc`: ``i.a`` type."""
    info: cython.pointer(TypeInfo) = _info(t, i.a)
    layout: cython.pointer(WlType) = layout_of(info)
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), layout.offsets)
    count: cython.int = info.n_params
    first: cython.int
    k: cython.int
    storage: cython.int
    slot: cython.int
    at: cython.Py_ssize_t
    descriptor: cython.int = -1
    a: Operand
    if info.descriptor != cython.NULL:
        descriptor = _descriptor(t)
    first = t.height - count
    _begin_struct(t, i.a, layout)
    for k in range(count):
        storage = _write_storage(info.types[k])
        if t.stack[first + k].kind == E_CONST:
            a.kind = IMM
            a.bits = t.stack[first + k].bits
            t.fit(cython.address(a), first + k)
            if a.kind == IMM:
                at = _init(t, storage, offsets[k], True)
                _put_immediate(t, at, t.stack[first + k].type, a.bits)
                continue
        slot = t.to_slot(first + k)
        at = _init(t, storage, offsets[k], False)
        put16(t.buffer + at + h.AT_MEMBER_VALUE, slot)
    if descriptor >= 0:
        at = _init(t, h.W_REF, layout.descriptor, False)
        put16(t.buffer + at + h.AT_MEMBER_VALUE, descriptor)
    for _ in range(count):
        t.pop()
    t.emit_slot_result(h.H_SET_ACC, h.T_REF)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _struct_new_default(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.new_default` and `struct.new_default_desc`: ``i.a`` type. All words of the fields are zero."""
    layout: cython.pointer(WlType) = layout_of(_info(t, i.a))
    at: cython.Py_ssize_t
    offset: uint32_t
    descriptor: cython.int = _descriptor(t) if layout.descriptor else -1
    _begin_struct(t, i.a, layout)
    for offset in range(FIELD_BYTES, layout.bytes, FIELD_BYTES):
        if offset != layout.descriptor:
            _put_immediate(t, _init(t, h.W_I64, offset, True), h.T_I64, 0)
    if descriptor >= 0:
        at = _init(t, h.W_REF, layout.descriptor, False)
        put16(t.buffer + at + h.AT_MEMBER_VALUE, descriptor)
    t.emit_slot_result(h.H_SET_ACC, h.T_REF)
    return 0


# --- fields and elements ---


@cython.cfunc
@cython.exceptval(check=True)
def _member(t: Translator, i: cython.pointer(Instr), above: cython.int) -> Member:
    """What an instruction on a field or an element names, below `above` other operands: ``i.a`` type, ``i.b`` field.

    Of an element, the array is in a slot and the index in a slot or the accumulator, as is the struct of a field.
    """
    m: Member
    info: cython.pointer(TypeInfo) = _info(t, i.a)
    layout: cython.pointer(WlType) = layout_of(info)
    m.is_element = _is_element[i.op]
    m.operands = 2 if m.is_element else 1
    m.storage = info.types[0 if m.is_element else i.b]
    if m.is_element:
        m.array = t.to_slot(t.height - 2 - above)
    else:
        m.offset = cython.cast(cython.pointer(uint32_t), layout.offsets)[i.b]
    m.last = t.slot_operand(t.height - 1 - above)
    return m


@cython.cfunc
@cython.exceptval(check=False)
def _put_member(t: Translator, at: cython.Py_ssize_t, m: cython.pointer(Member)) -> cython.void:
    """Write the fields of an instruction on a field or an element that say which."""
    if m.is_element:
        put16(t.buffer + at + h.AT_MEMBER_OBJECT, m.array)
        if m.last.kind == SLOT:
            put16(t.buffer + at + h.AT_MEMBER_INDEX, m.last.slot)
        return
    if m.last.kind == SLOT:
        put16(t.buffer + at + h.AT_MEMBER_OBJECT, m.last.slot)
    put32(t.buffer + at + h.AT_MEMBER_OFFSET, m.offset)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _get(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.get`, `array.get` and their like."""
    m: Member = _member(t, i, 0)
    type: cython.int = _value_code(m.storage)
    number: cython.int
    at: cython.Py_ssize_t
    for _ in range(m.operands):
        t.pop()
    number = h.FIRST_MEMBER_GET + h.member_get_position(
        0, m.is_element, _read_storage(m.storage, _other[i.op]), m.last.kind, SLOT
    )
    # The next one leaves the value in the accumulator only.
    at = t.emit_slot_result(number, type) if type == h.T_V128 else t.emit_result(number + ACC, number, type)
    _put_member(t, at, cython.address(m))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _set(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`struct.set` and `array.set`."""
    m: Member = _member(t, i, 1)
    value: Operand = t.operand(t.height - 1)
    type: cython.int = t.stack[t.height - 1].type
    at: cython.Py_ssize_t
    if type == h.T_V128:
        t.in_slot(cython.address(value), t.height - 1)
    else:
        t.fit(cython.address(value), t.height - 1)
    if m.last.kind == ACC and value.kind == ACC and class_of(type) == 0:
        # Only one of both can be there, unless they are the same.
        if m.last.slot >= 0:
            m.last.kind = SLOT
        else:
            value.kind = SLOT
    for _ in range(m.operands + 1):
        t.pop()
    at = t.emit(
        h.FIRST_MEMBER_SET
        + h.member_set_position(0, m.is_element, _write_storage(m.storage), m.last.kind, value.kind)
    )
    _put_member(t, at, cython.address(m))
    if value.kind == SLOT:
        put16(t.buffer + at + h.AT_MEMBER_VALUE, value.slot)
    elif value.kind == IMM:
        _put_immediate(t, at, type, value.bits)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _ref_get_desc(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.get_desc`: ``i.a`` type. The same as a field, behind a check that traps for another reason."""
    instr: Instr = i[0]
    slot: cython.int
    number: cython.int = h.FIRST_MEMBER_GET + h.member_get_position(0, False, h.R_REF, SLOT, SLOT)
    at: cython.Py_ssize_t
    instr.op = h.OP_REF_AS_NON_NULL
    lowering[instr.op](t, r, cython.address(instr))
    slot = t.to_slot(t.height - 1)
    t.pop()
    at = t.emit_result(number + ACC, number, h.T_REF)
    put16(t.buffer + at + h.AT_MEMBER_OBJECT, slot)
    put32(t.buffer + at + h.AT_MEMBER_OFFSET, cython.cast(uint32_t, layout_of(_info(t, i.a)).descriptor))
    return 0


# --- arrays, by the runtime ---


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


#: By row: whether it is about elements of arrays, and whether it is the other one of two alike: which reads signed
#: numbers, lets null pass, or branches where a cast fails.
_is_element = cython.declare(cython.uchar[1024])
_other = cython.declare(cython.uchar[1024])
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
    target.type = cython.cast(uint32_t, heap - _CONCRETE)  # which takes `EXACT` away
    info = _info(t, target.type)
    if info.kind == FUNC:
        target.test = EXACT_FUNCTION if heap & _EXACT else FUNCTION
        return target
    target.depth = info.depth
    layout_of(info)
    if info.final or heap & _EXACT:
        target.test = h.TEST_FINAL
    else:
        target.test = h.TEST_SHALLOW if info.depth < SHALLOW else h.TEST_DEEP
    return target


@cython.cfunc
@cython.exceptval(check=False)
def _put_target(t: Translator, at: cython.Py_ssize_t, slot: cython.int, target: Target) -> cython.void:
    """Write the fields of a test or a cast of the reference in a slot."""
    put16(t.buffer + at + h.AT_REF_TEST_VALUE, slot)
    put32(t.buffer + at + h.AT_REF_TEST_TYPE, _type_place(t, target.type))
    put32(t.buffer + at + h.AT_REF_TEST_DEPTH, target.depth)


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
    if target.test == FUNCTION or target.test == EXACT_FUNCTION:
        copy = t.home(t.push(E_SLOT, h.T_REF))  # the runtime takes operands from their homes
        if copy != slot:
            at = t.emit(h.H_COPY)
            put16(t.buffer + at + h.AT_COPY_SOURCE, slot)
            put16(t.buffer + at + h.AT_DST, copy)
            t.overwritten(copy, 1)
        how: uint32_t = nullable + 2 * (target.test == EXACT_FUNCTION)
        return _by_runtime(t, h.H_FUNCTION_TEST, 1, h.T_I32, t.module.type_id[target.type], how)
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
    _put_target(t, at, slot, target)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _test(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.test`: ``i.a`` heap type."""
    slot: cython.int = t.to_slot(t.height - 1)
    t.pop()
    return _push_test(t, slot, i.a, _other[i.op])


@cython.cfunc
@cython.exceptval(-1, check=False)
def _cast(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.cast`: ``i.a`` heap type. The value stays where it is."""
    slot: cython.int = t.to_slot(t.height - 1)
    target: Target = _target(t, i.a)
    nullable: cython.bint = _other[i.op]
    at: cython.Py_ssize_t
    if target.test == ALWAYS and nullable:
        return 0
    if target.test in (ALWAYS, NEVER, FUNCTION, EXACT_FUNCTION):
        _push_test(t, slot, i.a, nullable)
        slot = t.to_slot(t.height - 1)
        t.pop()
        put16(t.buffer + t.emit(h.H_CAST_FOUND) + h.AT_CAST_FOUND_VALUE, slot)
        return 0
    at = t.emit(h.FIRST_REF_CAST + h.ref_cast_position(0, target.test, nullable))
    _put_target(t, at, slot, target)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _branch_on_cast(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`br_on_cast`: ``i.a`` flags, ``i.b`` label, ``i.d`` heap type. The reference stays on both paths, in its slot."""
    c: Condition
    _push_test(t, t.to_slot(t.height - 1), i.d, i.a & 2 != 0)
    c = t.take_condition()
    if _other[i.op]:
        c.negate = not c.negate
    return t.branch_if(c, cython.cast(uint32_t, i.b))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _push_descriptor_test(t: Translator, heap: uint64_t, nullable: cython.bint) -> cython.int:
    """Pop a descriptor, and push whether the reference below, which stays in its slot, has it."""
    layout: cython.pointer(WlType) = layout_of(_info(t, cython.cast(uint32_t, heap - _CONCRETE)))
    descriptor: cython.int = t.to_slot(t.height - 1)
    slot: cython.int = t.to_slot(t.height - 2)
    found: cython.int
    at: cython.Py_ssize_t
    _push_test(t, slot, heap & ~_EXACT, False)
    found = t.to_slot(t.height - 1)
    t.pop()
    t.pop()
    at = t.emit_slot_result(h.H_DESCRIPTOR_TEST_NULL if nullable else h.H_DESCRIPTOR_TEST, h.T_I32)
    put16(t.buffer + at + h.AT_DESCRIPTOR_TEST_VALUE, slot)
    put16(t.buffer + at + h.AT_DESCRIPTOR_TEST_DESCRIPTOR, descriptor)
    put16(t.buffer + at + h.AT_DESCRIPTOR_TEST_FOUND, found)
    put32(t.buffer + at + h.AT_DESCRIPTOR_TEST_OFFSET, cython.cast(uint32_t, layout.descriptor))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _cast_desc_eq(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`ref.cast_desc_eq`: ``i.a`` heap type."""
    slot: cython.int
    _push_descriptor_test(t, i.a, _other[i.op])
    slot = t.to_slot(t.height - 1)
    t.pop()
    put16(t.buffer + t.emit(h.H_DESCRIPTOR_FOUND) + h.AT_DESCRIPTOR_FOUND_VALUE, slot)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _branch_on_descriptor(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """``i.a`` flags, ``i.b`` label, ``i.d`` the heap type."""
    c: Condition
    _push_descriptor_test(t, i.d, i.a & 2 != 0)
    c = t.take_condition()
    if _other[i.op]:
        c.negate = not c.negate
    return t.branch_if(c, cython.cast(uint32_t, i.b))


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
    for what in ("struct", "array"):
        for way in ("get", "get_u", "get_s", "set"):
            op = BY_MNEMONIC[f"{what}.{way}"].index
            _is_element[op] = what == "array"
            _other[op] = way == "get_s"
            lowers(f"{what}.{way}", _set if way == "set" else _get)
    for name in ("ref.test", "ref.test_null", "ref.cast", "ref.cast_null"):
        _other[cython.cast(cython.int, BY_MNEMONIC[name].index)] = name.endswith("_null")
        lowers(name, _test if "test" in name else _cast)
    for name in ("br_on_cast", "br_on_cast_fail"):
        _other[cython.cast(cython.int, BY_MNEMONIC[name].index)] = name.endswith("_fail")
        lowers(name, _branch_on_cast)
    lowers("struct.new_desc", _struct_new)
    lowers("struct.new_default_desc", _struct_new_default)
    lowers("ref.get_desc", _ref_get_desc)
    for name in ("ref.cast_desc_eq", "ref.cast_desc_eq_null"):
        _other[cython.cast(cython.int, BY_MNEMONIC[name].index)] = name.endswith("_null")
        lowers(name, _cast_desc_eq)
    for name in ("br_on_cast_desc_eq", "br_on_cast_desc_eq_fail"):
        _other[cython.cast(cython.int, BY_MNEMONIC[name].index)] = name.endswith("_fail")
        lowers(name, _branch_on_descriptor)
    lowers("ref.eq", _ref_eq)


_register()
