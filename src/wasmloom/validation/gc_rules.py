# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Typing rules of structs, arrays, i31 references, casts and conversions (Core 3.0, 3.4.5 to 3.4.8)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, reference_in
from cython.cimports.wasmloom.spec.canon import ARRAY, STRUCT, TypeInfo, heap_matches, top_heap, type_info, type_matches
from cython.cimports.wasmloom.validation.validator import Validator, exact_reference, label_types, reference, set_rule

from wasmloom.errors import CompileError
from wasmloom.spec.limits import MAX_ARRAY_FIXED
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT_FLAG,
    HEAP_SHIFT,
    I8,
    I16,
    I32,
    NULL_FLAG,
    REF_FLAG,
    ref_type,
)

_MAX_FIXED = cython.declare(uint64_t, MAX_ARRAY_FIXED)
_I8 = cython.declare(uint64_t, I8)
_I16 = cython.declare(uint64_t, I16)
_I32 = cython.declare(uint64_t, I32)
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_EXACT_FLAG = cython.declare(uint64_t, EXACT_FLAG)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_NULL_FLAG = cython.declare(uint64_t, NULL_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_ANY = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["any"])
_EXTERN = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["extern"])
_CONT = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["cont"])
_EQREF = cython.declare(uint64_t, ref_type(ABSTRACT_HEAP_TYPES["eq"], True))
_I31REF = cython.declare(uint64_t, ref_type(ABSTRACT_HEAP_TYPES["i31"], True))
_ARRAYREF = cython.declare(uint64_t, ref_type(ABSTRACT_HEAP_TYPES["array"], True))
_REF_I31 = cython.declare(uint64_t, ref_type(ABSTRACT_HEAP_TYPES["i31"], False))


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _packed(t: uint64_t) -> cython.bint:
    return t in (_I8, _I16)


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _unpacked(t: uint64_t) -> uint64_t:
    """The value type that a storage type is on the stack."""
    return _I32 if _packed(t) else t


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _defaultable(t: uint64_t) -> cython.bint:
    return not t & _REF_FLAG or t & _NULL_FLAG != 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _new_struct(v: Validator, i: cython.pointer(Instr), described: cython.bint, default: cython.bint) -> cython.int:
    """Check an instruction that makes a struct, with a descriptor or without, of values or of default values."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, STRUCT))
    n: uint32_t
    if described and type.descriptor == cython.NULL:
        return v.refuse(b"type without descriptor requires non-descriptor allocation")
    if not described and type.descriptor != cython.NULL:
        return v.refuse(b"type with descriptor requires descriptor allocation")
    if described and v.expect(exact_reference(type.descriptor, True)) < 0:
        return -1
    if default:
        for n in range(type.n_params):
            if not _defaultable(type.types[n]):
                with cython.gil:
                    return v.fail(
                        f"type mismatch: {v.mnemonic()} expected fields with default values but field {n} has none"
                    )
    else:
        n = type.n_params
        while n > 0:
            n -= 1
            if v.expect(_unpacked(type.types[n])) < 0:
                return -1
    return v.push(exact_reference(type, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_new(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _new_struct(v, i, False, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_new_default(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _new_struct(v, i, False, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_new_desc(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _new_struct(v, i, True, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_new_default_desc(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _new_struct(v, i, True, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _field(v: Validator, i: cython.pointer(Instr), packed: cython.bint) -> int64_t:
    """Check a read of a struct's field and pop the struct; returns the type on the stack."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, STRUCT))
    t: uint64_t
    if i.b >= type.n_params:
        v.refuse_number(b"unknown field", i.b)
    t = type.types[i.b]
    if _packed(t) != packed:
        with cython.gil:
            v.fail(f"type mismatch: {v.mnemonic()} but field {i.b} is {'unpacked' if packed else 'packed'}")
    v.expect(reference(type, True))
    return _unpacked(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = _field(v, i, False)
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_get_packed(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = _field(v, i, True)
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _struct_set(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, STRUCT))
    if i.b >= type.n_params:
        return v.refuse_number(b"unknown field", i.b)
    if not type.mutable[i.b]:
        return v.refuse_number(b"immutable field", i.b)
    if v.expect(_unpacked(type.types[i.b])) < 0:
        return -1
    return v.expect(reference(type, True))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_new(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    if v.expect(_I32) < 0 or v.expect(_unpacked(type.types[0])) < 0:
        return -1
    return v.push(exact_reference(type, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_new_default(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    if not _defaultable(type.types[0]):
        return v.refuse(b"type mismatch: array.new_default expected an element with a default value")
    if v.expect(_I32) < 0:
        return -1
    return v.push(exact_reference(type, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_new_fixed(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    k: uint64_t = i.b
    if k > _MAX_FIXED:
        with cython.gil:
            raise CompileError(
                f"too many operands of array.new_fixed: {k}, the limit is {MAX_ARRAY_FIXED}", v.instr.offset
            )
    while k > 0:
        k -= 1
        if v.expect(_unpacked(type.types[0])) < 0:
            return -1
    return v.push(exact_reference(type, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_data_element(v: Validator, type: cython.pointer(TypeInfo)) -> cython.int:
    """Check an array type for a data segment: its elements must be numbers or vectors."""
    if type.types[0] & _REF_FLAG:
        with cython.gil:
            return v.fail(f"array type is not numeric or vector: type mismatch in {v.mnemonic()}")
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_element(v: Validator, type: cython.pointer(TypeInfo), segment: uint64_t) -> cython.int:
    """Check that an element segment's type matches the array's element."""
    if not type_matches(v.elements[segment].type, type.types[0]):
        return v.mismatch(type.types[0], v.elements[segment].type)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _new_from_segment(v: Validator, type: cython.pointer(TypeInfo)) -> cython.int:
    """Pop offset and length and push the new array."""
    if v.expect(_I32) < 0 or v.expect(_I32) < 0:
        return -1
    return v.push(exact_reference(type, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_new_data(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    if _check_data_element(v, type) < 0:
        return -1
    return _new_from_segment(v, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_new_elem(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    if _check_element(v, type, i.b) < 0:
        return -1
    return _new_from_segment(v, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_read(v: Validator, i: cython.pointer(Instr), packed: cython.bint) -> cython.int:
    """Check a read of an array's element."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, ARRAY))
    if _packed(type.types[0]) != packed:
        with cython.gil:
            return v.fail(f"type mismatch: {v.mnemonic()} but the array is {'unpacked' if packed else 'packed'}")
    if v.expect(_I32) < 0 or v.expect(reference(type, True)) < 0:
        return -1
    return v.push(_unpacked(type.types[0]))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _array_read(v, i, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_get_packed(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _array_read(v, i, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _writable_array(v: Validator, index: uint64_t) -> int64_t:
    """An array type whose elements can be written."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(index, ARRAY))
    if not type.mutable[0]:
        v.refuse_number(b"immutable array type", index)
    return cython.cast(int64_t, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_set(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _writable_array(v, i.a))
    if v.expect(_unpacked(type.types[0])) < 0 or v.expect(_I32) < 0:
        return -1
    return v.expect(reference(type, True))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_len(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(_ARRAYREF) < 0:
        return -1
    return v.push(_I32)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_fill(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _writable_array(v, i.a))
    if v.expect(_I32) < 0 or v.expect(_unpacked(type.types[0])) < 0 or v.expect(_I32) < 0:
        return -1
    return v.expect(reference(type, True))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_copy(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    to: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _writable_array(v, i.a))
    source: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.b, ARRAY))
    if not type_matches(source.types[0], to.types[0]):
        with cython.gil:
            return v.fail(
                f"array types do not match: array.copy expected {v.show(to.types[0])} "
                f"but found {v.show(source.types[0])}"
            )
    if v.expect(_I32) < 0 or v.expect(_I32) < 0 or v.expect(reference(source, True)) < 0 or v.expect(_I32) < 0:
        return -1
    return v.expect(reference(to, True))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _init_from_segment(v: Validator, type: cython.pointer(TypeInfo)) -> cython.int:
    """Pop length, offset, index and array."""
    if v.expect(_I32) < 0 or v.expect(_I32) < 0 or v.expect(_I32) < 0:
        return -1
    return v.expect(reference(type, True))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_init_data(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _writable_array(v, i.a))
    if _check_data_element(v, type) < 0:
        return -1
    return _init_from_segment(v, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _array_init_elem(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _writable_array(v, i.a))
    if _check_element(v, type, i.b) < 0:
        return -1
    return _init_from_segment(v, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _cast_target(v: Validator, heap: uint64_t, null: cython.bint) -> int64_t:
    """The canonical reference type that a test or cast names; continuations can't be cast."""
    t: int64_t = v.canonical(reference_in(heap, null))
    if t >= 0 and heap_matches(t >> _HEAP_SHIFT, _CONT):
        with cython.gil:
            return v.fail(f"invalid cast to a continuation type: {v.mnemonic()}")
    return t


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _expect_descriptor(v: Validator, t: uint64_t) -> cython.int:
    """Pop a descriptor of what a cast gives: exactly that, if the cast is exact."""
    type: cython.pointer(TypeInfo) = cython.NULL
    if t >> _HEAP_SHIFT >= _CONCRETE:
        type = type_info(cython.cast(uint32_t, (t >> _HEAP_SHIFT) - _CONCRETE))
    if type == cython.NULL or type.descriptor == cython.NULL:
        with cython.gil:
            return v.fail(f"type {v.show_heap(t >> _HEAP_SHIFT)} does not have a descriptor")
    return v.expect(reference(type.descriptor, True) | (t & _EXACT_FLAG))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _expect_top(v: Validator, t: uint64_t) -> cython.int:
    """Pop a reference from the hierarchy of `t`."""
    return v.expect(_REF_FLAG | _NULL_FLAG | top_heap(t >> _HEAP_SHIFT) << _HEAP_SHIFT)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_test(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = _cast_target(v, i.a, True)
    if t < 0 or _expect_top(v, t) < 0:
        return -1
    return v.push(_I32)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_cast(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = _cast_target(v, i.a, False)
    if t < 0 or _expect_top(v, t) < 0:
        return -1
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _cast_desc_eq(v: Validator, i: cython.pointer(Instr), null: cython.bint) -> cython.int:
    t: int64_t = _cast_target(v, i.a, null)
    if t < 0 or _expect_descriptor(v, t) < 0 or _expect_top(v, t) < 0:
        return -1
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_cast_desc_eq(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _cast_desc_eq(v, i, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_cast_desc_eq_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _cast_desc_eq(v, i, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_cast_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = _cast_target(v, i.a, True)
    if t < 0 or _expect_top(v, t) < 0:
        return -1
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _branch_on_cast(
    v: Validator, i: cython.pointer(Instr), on_success: cython.bint, described: cython.bint
) -> cython.int:
    """Check `br_on_cast` and its like: one outcome goes to the label, the other one stays.

    `described`: it compares descriptors, of which one is an operand. Both types are of one hierarchy; Core 3.0 has the
    second one below the first.
    """
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    source: int64_t = v.canonical(reference_in(i.c, i.a & 1))
    target: int64_t
    rest: int64_t
    taken: int64_t
    n: cython.size_t
    if source < 0:
        return -1
    target = _cast_target(v, i.d, i.a & 2 != 0)
    if target < 0:
        return -1
    if not type_matches(target, source) and not (
        v.stack_switching and top_heap(target >> _HEAP_SHIFT) == top_heap(source >> _HEAP_SHIFT)
    ):
        with cython.gil:
            return v.fail(
                f"type mismatch: {v.mnemonic()} expected a target below {v.show(source)} but found {v.show(target)}"
            )
    rest = source & ~_NULL_FLAG if target & _NULL_FLAG else source
    taken = target if on_success else rest
    n = label_types(v, i.b, cython.address(types))
    if n == 0:
        with cython.gil:
            return v.fail(
                f"type mismatch: {v.mnemonic()} expected a label that takes {v.show(taken)} but it takes nothing"
            )
    if not type_matches(taken, types[n - 1]):
        return v.mismatch(types[n - 1], taken)
    if described and _expect_descriptor(v, target) < 0:
        return -1
    if v.expect(source) < 0 or v.expect_types(types, n - 1) < 0:
        return -1
    v.push_types(types, n - 1)
    return v.push(rest if on_success else target)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_cast(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(v, i, True, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_cast_fail(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(v, i, False, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_cast_desc_eq(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(v, i, True, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_cast_desc_eq_fail(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _branch_on_cast(v, i, False, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_get_desc(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    """What is exactly of a type has exactly its descriptor."""
    type: cython.pointer(TypeInfo)
    t: int64_t
    if i.a >= v.n_types:
        return v.refuse_number(b"unknown type", i.a)
    type = v.types[i.a]
    if type.descriptor == cython.NULL:
        return v.refuse_number(b"type without descriptor", i.a)
    t = v.pop_ref()
    if t < 0:
        return -1
    if not type_matches(t, reference(type, True)):
        return v.mismatch(reference(type, True), t)
    if type_matches(t, exact_reference(type, True)):
        return v.push(exact_reference(type.descriptor, False))
    return v.push(reference(type.descriptor, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _convert(v: Validator, source: uint64_t, target: uint64_t) -> cython.int:
    """Pop a reference below one heap type and push one to another, null when the first may be."""
    t: int64_t = v.pop_ref()
    if t < 0:
        return -1
    if not heap_matches(t >> _HEAP_SHIFT, source):
        return v.mismatch(_REF_FLAG | _NULL_FLAG | source << _HEAP_SHIFT, t)
    return v.push(_REF_FLAG | (t & _NULL_FLAG) | target << _HEAP_SHIFT)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _any_convert_extern(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _convert(v, _EXTERN, _ANY)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _extern_convert_any(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _convert(v, _ANY, _EXTERN)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_i31(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(_I32) < 0:
        return -1
    return v.push(_REF_I31)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _i31_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(_I31REF) < 0:
        return -1
    return v.push(_I32)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_eq(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(_EQREF) < 0 or v.expect(_EQREF) < 0:
        return -1
    return v.push(_I32)


def _register() -> None:
    set_rule("struct.new", _struct_new)
    set_rule("struct.new_default", _struct_new_default)
    set_rule("struct.new_desc", _struct_new_desc)
    set_rule("struct.new_default_desc", _struct_new_default_desc)
    set_rule("ref.get_desc", _ref_get_desc)
    set_rule("ref.cast_desc_eq", _ref_cast_desc_eq)
    set_rule("ref.cast_desc_eq_null", _ref_cast_desc_eq_null)
    set_rule("br_on_cast_desc_eq", _br_on_cast_desc_eq)
    set_rule("br_on_cast_desc_eq_fail", _br_on_cast_desc_eq_fail)
    set_rule("struct.get", _struct_get)
    set_rule("struct.get_s", _struct_get_packed)
    set_rule("struct.get_u", _struct_get_packed)
    set_rule("struct.set", _struct_set)
    set_rule("array.new", _array_new)
    set_rule("array.new_default", _array_new_default)
    set_rule("array.new_fixed", _array_new_fixed)
    set_rule("array.new_data", _array_new_data)
    set_rule("array.new_elem", _array_new_elem)
    set_rule("array.get", _array_get)
    set_rule("array.get_s", _array_get_packed)
    set_rule("array.get_u", _array_get_packed)
    set_rule("array.set", _array_set)
    set_rule("array.len", _array_len)
    set_rule("array.fill", _array_fill)
    set_rule("array.copy", _array_copy)
    set_rule("array.init_data", _array_init_data)
    set_rule("array.init_elem", _array_init_elem)
    set_rule("ref.test", _ref_test)
    set_rule("ref.test_null", _ref_test)
    set_rule("ref.cast", _ref_cast)
    set_rule("ref.cast_null", _ref_cast_null)
    set_rule("br_on_cast", _br_on_cast)
    set_rule("br_on_cast_fail", _br_on_cast_fail)
    set_rule("any.convert_extern", _any_convert_extern)
    set_rule("extern.convert_any", _extern_convert_any)
    set_rule("ref.i31", _ref_i31)
    set_rule("i31.get_s", _i31_get)
    set_rule("i31.get_u", _i31_get)
    set_rule("ref.eq", _ref_eq)


_register()
