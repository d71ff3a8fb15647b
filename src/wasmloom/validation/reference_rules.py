# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Typing rules of references, tables and branches on references (Core 3.0, 3.4.2, 3.4.4, 3.4.9)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader, items, read_valtype, reference_in
from cython.cimports.wasmloom.binary.sections import TableItem
from cython.cimports.wasmloom.spec.canon import type_matches
from cython.cimports.wasmloom.validation.validator import Validator, exact_reference, label_types, reference, set_rule

from wasmloom.spec.types import I32, NULL_FLAG, REF_FLAG

_I32 = cython.declare(uint64_t, I32)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_NULL_FLAG = cython.declare(uint64_t, NULL_FLAG)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _select_t(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    it: Reader = items(cython.address(v.reader), i)
    t: int64_t
    if i.count != 1:
        with cython.gil:
            return v.fail(f"invalid result arity: select expected one type but found {i.count}")
    t = v.canonical(read_valtype(cython.address(it)))
    if t < 0 or v.expect(_I32) < 0 or v.expect(t) < 0 or v.expect(t) < 0:
        return -1
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = v.canonical(reference_in(i.a, True))
    if t < 0:
        return -1
    return v.push(t)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_is_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.pop_ref() < 0:
        return -1
    return v.push(_I32)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_func(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.in_constant:
        v.declared[i.a] = 1
    elif not v.declared[i.a]:
        return v.refuse_number(b"undeclared function reference", i.a)
    return v.push(reference(v.funcs[i.a], False) if v.inexact[i.a] else exact_reference(v.funcs[i.a], False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _ref_as_non_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    t: int64_t = v.pop_ref()
    if t < 0:
        return -1
    return v.push(t & ~_NULL_FLAG)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t = label_types(v, i.a, cython.address(types))
    t: int64_t = v.pop_ref()
    if t < 0 or v.expect_types(types, n) < 0:
        return -1
    v.push_types(types, n)
    return v.push(t & ~_NULL_FLAG)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_on_non_null(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t = label_types(v, i.a, cython.address(types))
    if n == 0 or not types[n - 1] & _REF_FLAG:
        return v.refuse(b"type mismatch: br_on_non_null expected a label whose last type is a reference")
    if v.expect(types[n - 1] | _NULL_FLAG) < 0 or v.expect_types(types, n - 1) < 0:
        return -1
    return v.push_types(types, n - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(v.address_type(v.tables[i.a].is64)) < 0:
        return -1
    return v.push(v.tables[i.a].element)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_set(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(v.tables[i.a].element) < 0:
        return -1
    return v.expect(v.address_type(v.tables[i.a].is64))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_grow(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    address: uint64_t = v.address_type(v.tables[i.a].is64)
    if v.expect(address) < 0 or v.expect(v.tables[i.a].element) < 0:
        return -1
    return v.push(address)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_fill(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    address: uint64_t = v.address_type(v.tables[i.a].is64)
    if v.expect(address) < 0 or v.expect(v.tables[i.a].element) < 0:
        return -1
    return v.expect(address)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_copy(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    to: TableItem = v.tables[i.a]
    source: TableItem = v.tables[i.b]
    if not type_matches(source.element, to.element):
        return v.mismatch(to.element, source.element)
    if v.expect(v.address_type(to.is64 and source.is64)) < 0 or v.expect(v.address_type(source.is64)) < 0:
        return -1
    return v.expect(v.address_type(to.is64))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _table_init(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if not type_matches(v.elements[i.a].type, v.tables[i.b].element):
        return v.mismatch(v.tables[i.b].element, v.elements[i.a].type)
    if v.expect(_I32) < 0 or v.expect(_I32) < 0:
        return -1
    return v.expect(v.address_type(v.tables[i.b].is64))


def _register() -> None:
    set_rule("select_t", _select_t)
    set_rule("ref.null", _ref_null)
    set_rule("ref.is_null", _ref_is_null)
    set_rule("ref.func", _ref_func)
    set_rule("ref.as_non_null", _ref_as_non_null)
    set_rule("br_on_null", _br_on_null)
    set_rule("br_on_non_null", _br_on_non_null)
    set_rule("table.get", _table_get)
    set_rule("table.set", _table_set)
    set_rule("table.grow", _table_grow)
    set_rule("table.fill", _table_fill)
    set_rule("table.copy", _table_copy)
    set_rule("table.init", _table_init)


_register()
