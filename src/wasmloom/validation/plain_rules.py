# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Typing rules of globals, of instructions for operands of any type, and of `memory.copy` (Core 3.0, 3.4)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr
from cython.cimports.wasmloom.validation.validator import Validator, set_rule

from wasmloom.spec.types import I32, REF_FLAG

_I32 = cython.declare(uint64_t, I32)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _global_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.in_constant:
        if i.a >= v.visible_globals:
            return v.refuse_number(b"unknown global", i.a)
        if v.globals[i.a].mutable:
            with cython.gil:
                return v.fail(f"constant expression required: global {i.a} is mutable")
    return v.push(v.globals[i.a].content)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _global_set(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if not v.globals[i.a].mutable:
        return v.refuse_number(b"immutable global", i.a)
    return v.expect(v.globals[i.a].content)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _drop(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return -1 if v.pop() < 0 else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _select(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    second: int64_t
    first: int64_t
    if v.expect(_I32) < 0:
        return -1
    second = v.pop()
    if second < 0:
        return -1
    first = v.pop()
    if first < 0:
        return -1
    if (first | second) & _REF_FLAG:
        with cython.gil:
            return v.fail(
                "type mismatch: select without types expected a number or vector but found "
                f"{v.show(first if first & _REF_FLAG else second)}"
            )
    if first != second and first != 0 and second != 0:
        return v.mismatch(first, second)
    return v.push(second if first == 0 else first)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _memory_copy(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(v.address_type(v.memory64[i.a] and v.memory64[i.b])) < 0:
        return -1
    if v.expect(v.address_type(v.memory64[i.b])) < 0:
        return -1
    return v.expect(v.address_type(v.memory64[i.a]))


def _register() -> None:
    set_rule("global.get", _global_get)
    set_rule("global.set", _global_set)
    set_rule("drop", _drop)
    set_rule("select", _select)
    set_rule("memory.copy", _memory_copy)


_register()
