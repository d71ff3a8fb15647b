# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Typing rules of blocks, branches and calls (Core 3.0, 3.4.2)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr, Reader, items, read_u32
from cython.cimports.wasmloom.spec.canon import FUNC, TypeInfo, type_matches
from cython.cimports.wasmloom.validation.validator import (
    IN_BLOCK,
    IN_CATCH,
    IN_ELSE,
    IN_IF,
    IN_LOOP,
    Frame,
    Validator,
    label_types,
    reference,
    result_types,
    set_rule,
)

from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import FUNCREF, I32

_I32 = cython.declare(uint64_t, I32)
_FUNCREF = cython.declare(uint64_t, FUNCREF)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def enter_block(v: Validator, i: cython.pointer(Instr), kind: cython.int) -> cython.int:
    """Pop a block's parameters (above them the condition of an `if`) and open its frame."""
    block: int64_t = cython.cast(int64_t, i.a)
    t: int64_t = 0
    type: cython.pointer(TypeInfo) = cython.NULL
    if block < 0:
        t = v.canonical(~i.a)
        if t < 0:
            return -1
    else:
        type = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(block, FUNC))
    if kind == IN_IF and v.expect(_I32) < 0:
        return -1
    if type == cython.NULL:
        return v.enter(kind, 0, t != 0, cython.NULL, t)
    if v.expect_types(type.types, type.n_params) < 0:
        return -1
    return v.enter(kind, type.n_params, type.n_results, type.types, 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _unreachable(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return v.set_unreachable()


#: By row: the frame that a structured instruction opens.
_opens = cython.declare(cython.uchar[1024])


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _open(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return enter_block(v, i, _opens[i.op])


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _else(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    frame: cython.pointer(Frame) = v.frame
    if frame.kind != IN_IF:
        return v.malformed(b"else without if")
    if v.leave() < 0:
        return -1
    frame.kind = IN_ELSE
    frame.unreachable = False
    return v.push_types(frame.types, frame.n_params)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _end(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    frame: cython.pointer(Frame) = v.frame
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t
    k: cython.size_t
    if v.leave() < 0:
        return -1
    n = result_types(frame, cython.address(types))
    if frame.kind == IN_IF:
        # Without an else the parameters fall through as results.
        if n != frame.n_params:
            with cython.gil:
                return v.fail(
                    f"type mismatch: if without else expected {n} results but has {frame.n_params} parameters"
                )
        for k in range(n):
            if not type_matches(frame.types[k], types[k]):
                return v.mismatch(types[k], frame.types[k])
    elif frame.kind >= IN_CATCH:
        v.sp -= 1
    v.n_frames -= 1
    if v.n_frames == 0:
        return 0
    v.frame = v.frames + (v.n_frames - 1)
    v.height = v.frame.height
    return v.push_types(types, n)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t = label_types(v, i.a, cython.address(types))
    if v.expect_types(types, n) < 0:
        return -1
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_if(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t
    if v.expect(_I32) < 0:
        return -1
    n = label_types(v, i.a, cython.address(types))
    if n == 0:
        return 0
    if v.expect_types(types, n) < 0:
        return -1
    return v.push_types(types, n)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _br_table(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    it: Reader = items(cython.address(v.reader), i)
    arity: cython.size_t
    n: cython.size_t
    k: cython.size_t
    depth: int64_t
    sp: cython.size_t
    if v.expect(_I32) < 0:
        return -1
    arity = label_types(v, i.a, cython.address(types))
    sp = v.sp
    for k in range(cython.cast(cython.size_t, i.count) + 1):
        depth = i.a if k == i.count else read_u32(cython.address(it))
        n = label_types(v, depth, cython.address(types))
        if n != arity:
            with cython.gil:
                return v.fail(f"type mismatch: br_table expected {arity} types at each label but label {depth} has {n}")
        if n == 0:
            continue
        if v.expect_types(types, n) < 0:
            return -1
        v.sp = sp  # the operands stay: each label is checked against the same ones
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _return(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect_types(v.type.types + v.type.n_params, v.type.n_results) < 0:
        return -1
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _call_type(v: Validator, type: cython.pointer(TypeInfo)) -> cython.int:
    """Pop the parameters of a function type and push its results."""
    if v.expect_types(type.types, type.n_params) < 0:
        return -1
    return v.push_types(type.types + type.n_params, type.n_results)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _return_call_type(v: Validator, type: cython.pointer(TypeInfo)) -> cython.int:
    """Pop the parameters of a function type whose results are those of the current function."""
    have: cython.pointer(cython.const[uint64_t]) = type.types + type.n_params
    want: cython.pointer(cython.const[uint64_t]) = v.type.types + v.type.n_params
    k: cython.size_t
    if type.n_results != v.type.n_results:
        with cython.gil:
            return v.fail(
                f"type mismatch: {v.mnemonic()} expected a function with {v.type.n_results} results "
                f"but found one with {type.n_results}"
            )
    for k in range(type.n_results):
        if not type_matches(have[k], want[k]):
            return v.mismatch(want[k], have[k])
    if v.expect_types(type.types, type.n_params) < 0:
        return -1
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _call(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _call_type(v, v.funcs[i.a])


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _return_call(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _return_call_type(v, v.funcs[i.a])


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _indirect(v: Validator, i: cython.pointer(Instr)) -> int64_t:
    """Pop the table index of an indirect call and return the function type that it names."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, FUNC))
    if not type_matches(v.tables[i.b].element, _FUNCREF):
        v.mismatch(_FUNCREF, v.tables[i.b].element)
    v.expect(v.address_type(v.tables[i.b].is64))
    return cython.cast(int64_t, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _call_indirect(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _call_type(v, cython.cast(cython.pointer(TypeInfo), _indirect(v, i)))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _return_call_indirect(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _return_call_type(v, cython.cast(cython.pointer(TypeInfo), _indirect(v, i)))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _callee(v: Validator, i: cython.pointer(Instr)) -> int64_t:
    """Pop the function reference of a call by reference and return its type."""
    type: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, FUNC))
    v.expect(reference(type, True))
    return cython.cast(int64_t, type)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _call_ref(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _call_type(v, cython.cast(cython.pointer(TypeInfo), _callee(v, i)))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _return_call_ref(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _return_call_type(v, cython.cast(cython.pointer(TypeInfo), _callee(v, i)))


def _register() -> None:
    set_rule("unreachable", _unreachable)
    for name, kind in (("block", IN_BLOCK), ("loop", IN_LOOP), ("if", IN_IF)):
        _opens[cython.cast(cython.int, BY_MNEMONIC[name].index)] = kind
        set_rule(name, _open)
    set_rule("else", _else)
    set_rule("end", _end)
    set_rule("br", _br)
    set_rule("br_if", _br_if)
    set_rule("br_table", _br_table)
    set_rule("return", _return)
    set_rule("call", _call)
    set_rule("return_call", _return_call)
    set_rule("call_indirect", _call_indirect)
    set_rule("return_call_indirect", _return_call_indirect)
    set_rule("call_ref", _call_ref)
    set_rule("return_call_ref", _return_call_ref)


_register()
