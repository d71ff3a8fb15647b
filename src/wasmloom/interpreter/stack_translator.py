# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates exceptions and continuations (see `wasmloom.interpreter.stack_handlers` for what they become).

Catch and handler clauses put the label's values on top of the operand stack outside of the instruction. A stub behind
the instruction then branches to the label as `br` would: it moves the values, leaves `try_table`s, or returns.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint32_t
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
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES
from cython.cimports.wasmloom.interpreter.assembler import E_SLOT, put16, put32
from cython.cimports.wasmloom.interpreter.call_translator import runtime_call, stage_arguments
from cython.cimports.wasmloom.interpreter.flow import (
    L_BLOCK,
    L_CATCH,
    L_OLD_TRY,
    L_TRY,
    Label,
    Signature,
    Translator,
    lowers,
)

from wasmloom.spec.instructions import BY_MNEMONIC


@cython.cfunc
@cython.exceptval(check=True)
def _tag_type(t: Translator, tag: uint32_t) -> cython.pointer(Signature):
    """The function type of a tag."""
    return cython.address(t.signatures[cython.cast(uint32_t, t.tag_types[tag])])


@cython.cfunc
@cython.exceptval(check=True)
def _cont_type(t: Translator, index: uint32_t) -> cython.pointer(Signature):
    """The function type of a continuation type."""
    return cython.address(t.signatures[cython.cast(uint32_t, t.cont_functions[index])])


# --- clauses ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _push_slots(t: Translator, types: cython.pointer(uint8_t), count: cython.int) -> cython.int:
    """Push values that are in their homes already."""
    k: cython.int
    for k in range(count):
        t.push(E_SLOT, types[k])
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _drop_slots(t: Translator, count: cython.int) -> cython.int:
    """Pop what `push_slots` has pushed."""
    _: cython.int
    for _ in range(count):
        t.pop()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try_table(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`try_table`: the clauses, their stubs, then the body."""
    type: Signature = t.block_type(i)
    payload: cython.pointer(Signature)
    clause: Clause
    it: Reader
    k: uint32_t
    count: cython.int
    at: cython.Py_ssize_t
    enter: cython.Py_ssize_t
    entered: cython.Py_ssize_t
    clauses: list[int] = []
    record: cython.int = t.try_record(t.open_tries)
    t.flush_locals()
    t.forget_accs()
    t.stop_fuel()
    enter = t.emit(h.H_TRY_ENTER)
    put16(t.buffer + enter + h.AT_TRY_ENTER_RECORD, record)
    entered = t.emit(h.H_CATCH_ENTER)
    put16(t.buffer + entered + h.AT_CATCH_ENTER_RECORD, record)
    it = items(r, i)
    for _ in range(i.count):
        read_catch(cython.address(it), cython.address(clause))
        if clause.kind == CATCH or clause.kind == CATCH_REF:
            payload = _tag_type(t, clause.tag)
            at = t.emit(h.H_CATCH)
            put32(t.buffer + at + h.AT_CATCH_TAG, t.slot_tags + FIELD_BYTES * clause.tag)
            put16(t.buffer + at + h.AT_CATCH_COUNT, payload.param_slots)
        else:
            at = t.emit(h.H_CATCH_ALL)
        put16(t.buffer + at + h.AT_CATCH_VALUES, t.home(t.height))
        if clause.kind == CATCH_REF:
            put16(t.buffer + at + h.AT_CATCH_REF, t.home(t.height) + payload.param_slots)
        elif clause.kind == CATCH_ALL_REF:
            put16(t.buffer + at + h.AT_CATCH_REF, t.home(t.height))
        clauses.append(at)
    t.emit(h.H_RETHROW)
    it = items(r, i)
    for k in range(i.count):
        read_catch(cython.address(it), cython.address(clause))
        at = clauses[k]
        put32(t.buffer + at + h.AT_CATCH_TARGET, cython.cast(uint32_t, t.pos - at))
        t.barrier()
        count = 0
        if clause.kind == CATCH or clause.kind == CATCH_REF:
            payload = _tag_type(t, clause.tag)
            count = payload.num_params
            _push_slots(t, payload.params, count)
        if clause.kind == CATCH_REF or clause.kind == CATCH_ALL_REF:
            t.push(E_SLOT, h.T_REF)
            count += 1
        t.leave_to(cython.address(t.labels[t.num_labels - 1 - clause.label]))
        _drop_slots(t, count)
    put32(t.buffer + enter + h.AT_TRY_ENTER_BODY, cython.cast(uint32_t, t.pos - enter))
    t.forget_accs()
    t.open_label(L_TRY, type)
    t.labels[t.num_labels - 1].clauses = entered
    t.open_tries += 1
    t.start_fuel()
    return 0


# --- the old instructions ---
#
# Where a `try`'s clauses are is known when they come: behind `catch_enter` stands a jump to the first, and behind the
# test of each a jump to the next. In a clause the exception is an operand below the values that it carries, where only
# `rethrow` finds it.


@cython.cfunc
@cython.exceptval(-1, check=False)
def _try(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    type: Signature = t.block_type(i)
    enter: cython.Py_ssize_t
    entered: cython.Py_ssize_t
    record: cython.int = t.try_record(t.open_tries)
    t.flush_locals()
    t.forget_accs()
    t.stop_fuel()
    enter = t.emit(h.H_TRY_ENTER)
    put16(t.buffer + enter + h.AT_TRY_ENTER_RECORD, record)
    entered = t.emit(h.H_CATCH_ENTER)
    put16(t.buffer + entered + h.AT_CATCH_ENTER_RECORD, record)
    t.open_label(L_OLD_TRY, type)
    t.labels[t.num_labels - 1].clauses = entered
    t.labels[t.num_labels - 1].else_branch = t.emit(h.H_BR)
    put32(t.buffer + enter + h.AT_TRY_ENTER_BODY, cython.cast(uint32_t, t.pos - enter))
    t.barrier()
    t.open_tries += 1
    t.start_fuel()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _clause(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`catch` and `catch_all`. Behind the latter there is nothing left to catch."""
    label: cython.pointer(Label) = cython.address(t.labels[t.num_labels - 1])
    payload: cython.pointer(Signature)
    at: cython.Py_ssize_t
    t.end_part(label)
    label.kind = L_CATCH
    t.catch_here(label)
    t.push(E_SLOT, h.T_REF)
    at = t.emit(h.H_CATCH if i.op == h.OP_CATCH else h.H_CATCH_ALL)
    put16(t.buffer + at + h.AT_CATCH_REF, t.home(label.height))
    put16(t.buffer + at + h.AT_CATCH_VALUES, t.home(t.height))
    if i.op == h.OP_CATCH:
        payload = _tag_type(t, i.a)
        put32(t.buffer + at + h.AT_CATCH_TAG, t.slot_tags + FIELD_BYTES * i.a)
        put16(t.buffer + at + h.AT_CATCH_COUNT, payload.param_slots)
        label.else_branch = t.emit(h.H_BR)
        _push_slots(t, payload.params, payload.num_params)
    put32(t.buffer + at + h.AT_CATCH_TARGET, cython.cast(uint32_t, t.pos - at))
    t.barrier()
    t.dead = False
    t.start_fuel()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _rethrow(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    label: cython.pointer(Label) = cython.address(t.labels[t.num_labels - 1 - i.a])
    put16(t.buffer + t.emit(h.H_THROW_REF) + h.AT_THROW_REF_EXCEPTION, t.home(label.height))
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _delegate(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """The end of a `try` whose exceptions are thrown where a label's block is, or in its body if that catches."""
    label: cython.pointer(Label) = cython.address(t.labels[t.num_labels - 1])
    goal: cython.pointer(Label) = cython.address(t.labels[t.num_labels - 2 - i.a])
    t.end_part(label)
    t.throw_on(label, goal.tries + (goal.kind == L_TRY or goal.kind == L_OLD_TRY))
    label.kind = L_BLOCK
    return t.end()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _new_exception(t: Translator, tag: uint32_t) -> cython.int:
    """Make an exception of the values on top of the stack; it waits in the context."""
    base: cython.int = stage_arguments(t, _tag_type(t, tag))
    at: cython.Py_ssize_t = t.emit(h.H_NEW_EXCEPTION)
    put16(t.buffer + at + h.AT_RUNTIME_A, t.home(base))
    put32(t.buffer + at + h.AT_RUNTIME_IMM0, t.slot_tags + FIELD_BYTES * tag)
    put32(t.buffer + at + h.AT_RUNTIME_IMM1, _tag_type(t, tag).param_slots)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _throw(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    _new_exception(t, i.a)
    t.emit(h.H_THROW)
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _throw_ref(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    exception: cython.int = t.to_slot(t.height - 1)
    put16(t.buffer + t.emit(h.H_THROW_REF) + h.AT_THROW_REF_EXCEPTION, exception)
    t.dead = True
    return 0


# --- continuations ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _cont_new(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    type: cython.pointer(Signature) = _cont_type(t, i.a)
    return runtime_call(t, h.H_CONT_NEW, 1, True, max(type.param_slots, type.result_slots), 0, h.T_REF)


#: By row: the handler of an instruction that resumes a continuation.
_resuming = cython.declare(cython.short[1024])


@cython.cfunc
@cython.exceptval(-1, check=False)
def _resume(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`resume` and its kin: arguments (or an exception), the continuation; then the clauses and their stubs."""
    number: cython.int = _resuming[i.op]
    type: cython.pointer(Signature) = _cont_type(t, i.a)
    payload: cython.pointer(Signature)
    label: cython.pointer(Label)
    clause: Clause
    it: Reader
    k: uint32_t
    base: cython.int
    count: cython.int = 0
    exception: cython.int = 0
    at: cython.Py_ssize_t
    entry: cython.Py_ssize_t
    cont: cython.int = t.to_slot(t.height - 1)
    t.pop()
    if number == h.H_RESUME:
        base = stage_arguments(t, type)
        count = type.param_slots
    elif number == h.H_RESUME_THROW:
        _new_exception(t, i.b)
        base = t.height
    else:
        exception = t.to_slot(t.height - 1)
        t.pop()
        t.forget_accs()
        base = t.height
    at = t.emit_waiting(number + t.traced, h.SIZE_CLAUSE * i.count)
    put16(t.buffer + at + h.AT_RESUME_CONT, cont)
    put16(t.buffer + at + h.AT_RESUME_VALUES, t.home(base))
    put16(t.buffer + at + h.AT_RESUME_COUNT, count)
    put16(t.buffer + at + h.AT_RESUME_CLAUSE_COUNT, i.count)
    put16(t.buffer + at + h.AT_RESUME_RESULTS, type.result_slots)
    put16(t.buffer + at + h.AT_RESUME_EXCEPTION, exception)
    it = items(r, i)
    for k in range(i.count):
        read_handler(cython.address(it), cython.address(clause))
        entry = at + h.AT_RESUME_CLAUSES + h.SIZE_CLAUSE * k
        put32(t.buffer + entry + h.AT_CLAUSE_TAG, t.slot_tags + FIELD_BYTES * clause.tag)
        put16(
            t.buffer + entry + h.AT_CLAUSE_KIND,
            h.CLAUSE_SUSPEND if clause.kind == ON_LABEL else h.CLAUSE_SWITCH,
        )
        if clause.kind != ON_LABEL:
            continue
        put16(t.buffer + entry + h.AT_CLAUSE_VALUES, t.home(t.height))
        put32(t.buffer + entry + h.AT_CLAUSE_TARGET, cython.cast(uint32_t, t.pos - at))
        t.barrier()
        payload = _tag_type(t, clause.tag)
        _push_slots(t, payload.params, payload.num_params)
        t.push(E_SLOT, h.T_REF)
        label = cython.address(t.labels[t.num_labels - 1 - clause.label])
        t.leave_to(label)
        _drop_slots(t, payload.num_params + 1)
    put32(t.buffer + at + h.AT_RESUME_NEXT, cython.cast(uint32_t, t.pos - at))
    t.forget_accs()
    _push_slots(t, type.results, type.num_results)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _cont_bind(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`cont.bind`: a prefix of the parameters of the first type."""
    whole: cython.pointer(Signature) = _cont_type(t, i.a)
    rest: cython.pointer(Signature) = _cont_type(t, i.b)
    count: cython.int = whole.num_params - rest.num_params
    cont: cython.int = t.to_slot(t.height - 1)
    k: cython.int
    base: cython.int
    at: cython.Py_ssize_t
    t.pop()
    base = t.height - count
    for k in range(count):
        t.flush(base + k)
    _drop_slots(t, count)
    t.forget_accs()
    at = t.emit(h.H_CONT_BIND + t.traced)
    put16(t.buffer + at + h.AT_CONT_BIND_CONT, cont)
    put16(t.buffer + at + h.AT_CONT_BIND_VALUES, t.home(base))
    put16(t.buffer + at + h.AT_CONT_BIND_COUNT, whole.param_slots - rest.param_slots)
    put16(t.buffer + at + h.AT_CONT_BIND_REBOUND, t.home(t.push(E_SLOT, h.T_REF)))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _suspend(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`suspend`: the values that it is resumed with arrive where its arguments were."""
    type: cython.pointer(Signature) = _tag_type(t, i.a)
    base: cython.int = stage_arguments(t, type)
    at: cython.Py_ssize_t = t.emit_waiting(h.H_SUSPEND + t.traced, 0)
    put32(t.buffer + at + h.AT_SUSPEND_TAG, t.slot_tags + FIELD_BYTES * i.a)
    put16(t.buffer + at + h.AT_SUSPEND_VALUES, t.home(base))
    put16(t.buffer + at + h.AT_SUSPEND_COUNT, type.param_slots)
    t.barrier()
    _push_slots(t, type.results, type.num_results)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _switch(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """`switch`: all parameters of the target but the last, which is the reference to this continuation."""
    target: cython.pointer(Signature) = _cont_type(t, i.a)
    # The types of the values that this continuation will be resumed with.
    back: uint32_t = t.switched_from[t.cont_functions[i.a]]
    returned: cython.pointer(Signature) = _cont_type(t, back)
    count: cython.int = target.num_params - 1
    cont: cython.int = t.to_slot(t.height - 1)
    k: cython.int
    base: cython.int
    at: cython.Py_ssize_t
    t.pop()
    base = t.height - count
    for k in range(count):
        t.flush(base + k)
    # The reference to this continuation goes behind the arguments, so the frame needs room for it.
    t.push(E_SLOT, h.T_REF)
    _drop_slots(t, count + 1)
    t.forget_accs()
    at = t.emit_waiting(h.H_SWITCH + t.traced, 0)
    put32(t.buffer + at + h.AT_SWITCH_TAG, t.slot_tags + FIELD_BYTES * i.b)
    put16(t.buffer + at + h.AT_SWITCH_VALUES, t.home(base))
    put16(t.buffer + at + h.AT_SWITCH_COUNT, target.param_slots - 1)
    put16(t.buffer + at + h.AT_SWITCH_CONT, cont)
    t.barrier()
    _push_slots(t, returned.params, returned.num_params)
    return 0


def _register() -> None:
    lowers("try_table", _try_table)
    lowers("try", _try)
    lowers("catch", _clause)
    lowers("catch_all", _clause)
    lowers("rethrow", _rethrow)
    lowers("delegate", _delegate)
    lowers("throw", _throw)
    lowers("throw_ref", _throw_ref)
    lowers("cont.new", _cont_new)
    lowers("cont.bind", _cont_bind)
    lowers("suspend", _suspend)
    for name, number in (
        ("resume", h.H_RESUME),
        ("resume_throw", h.H_RESUME_THROW),
        ("resume_throw_ref", h.H_RESUME_THROW_REF),
    ):
        _resuming[cython.cast(cython.int, BY_MNEMONIC[name].index)] = number
        lowers(name, _resume)
    lowers("switch", _switch)


_register()
