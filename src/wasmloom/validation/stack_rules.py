# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Typing rules of exceptions and continuations.

Source: Core 3.0, 3.4.2; the exception handling proposal's legacy document; stack switching Explainer, "Instructions".
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint64_t
from cython.cimports.wasmloom.binary.reader import (
    CATCH,
    CATCH_ALL_REF,
    CATCH_REF,
    ON_LABEL,
    Clause,
    Instr,
    Reader,
    items,
    read_catch,
    read_handler,
)
from cython.cimports.wasmloom.spec.canon import CONT, TypeInfo, type_info, type_matches
from cython.cimports.wasmloom.validation.control_rules import enter_block
from cython.cimports.wasmloom.validation.validator import (
    IN_BLOCK,
    IN_CATCH,
    IN_CATCH_ALL,
    IN_TRY,
    Frame,
    Validator,
    label_types,
    reference,
    result_types,
    set_rule,
)

from wasmloom.spec.types import CONCRETE, EXNREF, HEAP_SHIFT, NULL_FLAG, REF_FLAG, ref_type

_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_NULL_FLAG = cython.declare(uint64_t, NULL_FLAG)
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_EXNREF = cython.declare(uint64_t, EXNREF)
_REF_EXN = cython.declare(uint64_t, ref_type(EXNREF.heap, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_tag(v: Validator, x: uint64_t) -> cython.int:
    if x >= v.n_tags:
        return v.refuse_number(b"unknown tag", x)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _types_match(
    v: Validator,
    have: cython.pointer(cython.const[uint64_t]),
    n_have: cython.size_t,
    want: cython.pointer(cython.const[uint64_t]),
    n_want: cython.size_t,
    what: cython.p_const_char,
) -> cython.int:
    """Check that a list of types matches another one; `what` names the subject in the error."""
    k: cython.size_t
    if n_have != n_want:
        with cython.gil:
            return v.fail(
                f"type mismatch: {v.mnemonic()} expected {n_want} types but found {n_have} in {what.decode()}"
            )
    for k in range(n_have):
        if not type_matches(have[k], want[k]):
            with cython.gil:
                return v.fail(
                    f"type mismatch: {v.mnemonic()} expected {v.show(want[k])} but found {v.show(have[k])} "
                    f"in {what.decode()}"
                )
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _throw(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect_types(v.tags[i.a].types, v.tags[i.a].n_params) < 0:
        return -1
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _throw_ref(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if v.expect(_EXNREF) < 0:
        return -1
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_catch(v: Validator, clause: cython.pointer(Clause)) -> cython.int:
    """Check that the values of a catch clause fit its label."""
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    have: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t = label_types(v, clause.label, cython.address(types))
    n_have: cython.size_t = 0
    if clause.kind == CATCH or clause.kind == CATCH_REF:
        if _check_tag(v, clause.tag) < 0:
            return -1
        have = v.tags[clause.tag].types
        n_have = v.tags[clause.tag].n_params
    if clause.kind == CATCH_REF or clause.kind == CATCH_ALL_REF:
        if n != n_have + 1 or not type_matches(_REF_EXN, types[n - 1]):
            return v.refuse(b"type mismatch: try_table expected a label that takes an exception reference last")
        n -= 1
    return _types_match(v, have, n_have, types, n, b"a catch clause")


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _try_table(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    it: Reader = items(cython.address(v.reader), i)
    clause = cython.declare(Clause)
    _: cython.uint
    for _ in range(i.count):
        read_catch(cython.address(it), cython.address(clause))
        if _check_catch(v, cython.address(clause)) < 0:
            return -1
    return enter_block(v, i, IN_BLOCK)


# --- the old instructions: in a clause the exception lies on the stack, below what the clause can reach ---


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _try(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return enter_block(v, i, IN_TRY)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _begin_clause(v: Validator, kind: cython.int) -> cython.int:
    """End the body of a `try`, or a clause, and begin another clause."""
    frame: cython.pointer(Frame) = v.frame
    if frame.kind != IN_TRY and frame.kind != IN_CATCH:
        return v.malformed(b"catch without try")
    if v.leave() < 0:
        return -1
    if frame.kind == IN_TRY:
        v.push(_REF_EXN)
        frame.height = v.sp
        v.height = v.sp
    frame.kind = kind
    frame.unreachable = False
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _catch(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if _begin_clause(v, IN_CATCH) < 0:
        return -1
    return v.push_types(v.tags[i.a].types, v.tags[i.a].n_params)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _catch_all(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    return _begin_clause(v, IN_CATCH_ALL)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _rethrow(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if i.a >= v.n_frames:
        return v.refuse_number(b"unknown label", i.a)
    if v.frames[v.n_frames - 1 - i.a].kind < IN_CATCH:
        return v.refuse(b"invalid rethrow label")
    return v.set_unreachable()


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _delegate(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    frame: cython.pointer(Frame) = v.frame
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    n: cython.size_t
    if frame.kind != IN_TRY:
        return v.malformed(b"delegate without try")
    if v.leave() < 0:
        return -1
    n = result_types(frame, cython.address(types))
    v.n_frames -= 1
    if i.a >= v.n_frames:
        return v.refuse_number(b"unknown label", i.a)
    v.frame = v.frames + (v.n_frames - 1)
    v.height = v.frame.height
    return v.push_types(types, n)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _cont_func(t: uint64_t) -> cython.pointer(TypeInfo):
    """The function type of a reference to a concrete continuation type; NULL for other value types."""
    heap: uint64_t = t >> _HEAP_SHIFT
    info: cython.pointer(TypeInfo)
    if not t & _REF_FLAG or heap < _CONCRETE:
        return cython.NULL
    info = type_info(heap - _CONCRETE)
    return type_info(info.func) if info.kind == CONT else cython.NULL


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fail_handler_label(v: Validator, types: cython.pointer(cython.const[uint64_t]), n: cython.size_t) -> cython.int:
    """Raise the error for a handler's label that doesn't end in a concrete continuation type."""
    if n > 0 and types[n - 1] & _REF_FLAG and types[n - 1] >> _HEAP_SHIFT >= _CONCRETE:
        return v.fail(f"non-continuation type {v.show_heap(types[n - 1] >> _HEAP_SHIFT)}")
    shown = " ".join([v.show(types[j]) for j in range(n)])
    return v.fail(f"type mismatch: instruction requires concrete continuation reference type but label has [{shown}]")


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_handlers(v: Validator, i: cython.pointer(Instr), func: cython.pointer(TypeInfo)) -> cython.int:
    """Check the handler clauses of a resumption of a continuation that runs `func`."""
    it: Reader = items(cython.address(v.reader), i)
    clause = cython.declare(Clause)
    types: cython.pointer(cython.const[uint64_t]) = cython.NULL
    tag: cython.pointer(TypeInfo)
    rest: cython.pointer(TypeInfo)
    n: cython.size_t
    _: cython.uint
    what: cython.p_const_char = b"a handler's continuation type"
    results: cython.p_const_char = b"the results of a continuation and a switch handler's tag"
    for _ in range(i.count):
        read_handler(cython.address(it), cython.address(clause))
        if _check_tag(v, clause.tag) < 0:
            return -1
        tag = v.tags[clause.tag]
        if clause.kind != ON_LABEL:
            if tag.n_params != 0:
                with cython.gil:
                    return v.fail(f"type mismatch: a switch handler's tag has no parameters but tag {clause.tag} does")
            # What is switched to ends like the tag says, and gives its results to whoever has resumed this one; and
            # this one ends like the tag says for whoever goes on with it. So both must have the same results.
            if (
                _types_match(v, tag.types, tag.n_results, func.types + func.n_params, func.n_results, results) < 0
                or _types_match(v, func.types + func.n_params, func.n_results, tag.types, tag.n_results, results) < 0
            ):
                return -1
            continue
        n = label_types(v, clause.label, cython.address(types))
        rest = _cont_func(types[n - 1]) if n > 0 else cython.NULL
        if rest == cython.NULL:
            with cython.gil:
                return _fail_handler_label(v, types, n)
        # The continuation that the handler gets takes the tag's results and ends like the one that is resumed;
        # its declared type need only agree in structure.
        if _types_match(v, rest.types, rest.n_params, tag.types + tag.n_params, tag.n_results, what) < 0:
            return -1
        if (
            _types_match(
                v,
                func.types + func.n_params,
                func.n_results,
                rest.types + rest.n_params,
                rest.n_results,
                what,
            )
            < 0
        ):
            return -1
        if _types_match(v, tag.types, tag.n_params, types, n - 1, b"a handler's label") < 0:
            return -1
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _cont_new(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    cont: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, CONT))
    if v.expect(reference(type_info(cont.func), True)) < 0:
        return -1
    return v.push(reference(cont, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _cont_bind(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    cont: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, CONT))
    bound: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.b, CONT))
    func: cython.pointer(TypeInfo) = type_info(cont.func)
    rest: cython.pointer(TypeInfo) = type_info(bound.func)
    n: cython.size_t
    what: cython.p_const_char = b"the continuation types"
    if func.n_params < rest.n_params:
        with cython.gil:
            return v.fail(
                f"type mismatch: cont.bind expected at most {func.n_params} parameters but found {rest.n_params}"
            )
    n = func.n_params - rest.n_params
    if _types_match(v, rest.types, rest.n_params, func.types + n, rest.n_params, what) < 0:
        return -1
    if (
        _types_match(
            v,
            func.types + func.n_params,
            func.n_results,
            rest.types + rest.n_params,
            rest.n_results,
            what,
        )
        < 0
    ):
        return -1
    if v.expect(reference(cont, True)) < 0 or v.expect_types(func.types, n) < 0:
        return -1
    return v.push(reference(bound, False))


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _suspend(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    tag: cython.pointer(TypeInfo) = v.tags[i.a]
    if v.expect_types(tag.types, tag.n_params) < 0:
        return -1
    return v.push_types(tag.types + tag.n_params, tag.n_results)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _resumed(v: Validator, i: cython.pointer(Instr)) -> int64_t:
    """Check a resumption's handlers and pop the continuation; returns the function type that it runs."""
    cont: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, CONT))
    func: cython.pointer(TypeInfo) = type_info(cont.func)
    _check_handlers(v, i, func)
    v.expect(reference(cont, True))
    return cython.cast(int64_t, func)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _resume(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    func: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _resumed(v, i))
    if v.expect_types(func.types, func.n_params) < 0:
        return -1
    return v.push_types(func.types + func.n_params, func.n_results)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _resume_throw(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    func: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _resumed(v, i))
    tag: cython.pointer(TypeInfo) = v.tags[i.b]
    if v.expect_types(tag.types, tag.n_params) < 0:
        return -1
    return v.push_types(func.types + func.n_params, func.n_results)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _resume_throw_ref(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    func: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), _resumed(v, i))
    if v.expect(_EXNREF) < 0:
        return -1
    return v.push_types(func.types + func.n_params, func.n_results)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _switch(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    cont: cython.pointer(TypeInfo) = cython.cast(cython.pointer(TypeInfo), v.type_of_kind(i.a, CONT))
    func: cython.pointer(TypeInfo) = type_info(cont.func)
    tag: cython.pointer(TypeInfo) = v.tags[i.b]
    back: cython.pointer(TypeInfo) = cython.NULL
    what: cython.p_const_char = b"the results of continuations and tag"
    if func.n_params > 0:
        back = _cont_func(func.types[func.n_params - 1])
    if back == cython.NULL:
        return v.refuse(b"type mismatch: switch expected a continuation type whose last parameter is a continuation")
    if tag.n_params != 0:
        return v.refuse(b"type mismatch in switch tag: it has parameters")
    if _types_match(v, func.types + func.n_params, func.n_results, tag.types, tag.n_results, what) < 0:
        return -1
    if _types_match(v, tag.types, tag.n_results, back.types + back.n_params, back.n_results, what) < 0:
        return -1
    if v.expect(reference(cont, True)) < 0 or v.expect_types(func.types, func.n_params - 1) < 0:
        return -1
    return v.push_types(back.types, back.n_params)


def _register() -> None:
    set_rule("throw", _throw)
    set_rule("throw_ref", _throw_ref)
    set_rule("try_table", _try_table)
    set_rule("try", _try)
    set_rule("catch", _catch)
    set_rule("catch_all", _catch_all)
    set_rule("rethrow", _rethrow)
    set_rule("delegate", _delegate)
    set_rule("cont.new", _cont_new)
    set_rule("cont.bind", _cont_bind)
    set_rule("suspend", _suspend)
    set_rule("resume", _resume)
    set_rule("resume_throw", _resume_throw)
    set_rule("resume_throw_ref", _resume_throw_ref)
    set_rule("switch", _switch)


_register()
