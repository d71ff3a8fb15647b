# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates exceptions and continuations (see `wasmloom.interpreter.stack_handlers` for what they become).

Catch and handler clauses put the label's values on top of the operand stack as it is outside of the instruction; a stub
behind the instruction then branches to the label as `br` would, which moves them, leaves `try_table`s or returns.
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
from cython.cimports.wasmloom.interpreter.assembler import E_SLOT, put16, put32
from cython.cimports.wasmloom.interpreter.calls import Calls
from cython.cimports.wasmloom.interpreter.flow import L_TRY, Label, Signature

from wasmloom.errors import UnsupportedError
from wasmloom.spec.types import CONCRETE, HEAP_SHIFT, ContType, FuncType
from wasmloom.system import log


@cython.cclass
class StackInstructions(Calls):
    """Exceptions and continuations of the function that is being translated."""

    def __cinit__(self, module: object, cells: int, fuel: bool, checked: bool) -> None:
        self.traced = log.STACKS
        index_of = {number: index for index, number in enumerate(self.module.type_ids)}
        self.tag_types = [index_of[tag.type] for tag in self.module.tags]
        composites: list = [sub.composite for sub in self.module.types]
        self.cont_functions = [c.func - CONCRETE if isinstance(c, ContType) else None for c in composites]
        # What a `switch` to a continuation passes last is a (ref null? $ct2).
        lasts = [c.params[len(c.params) - 1] if isinstance(c, FuncType) and c.params else 0 for c in composites]
        self.switched_from = [(last >> HEAP_SHIFT) - CONCRETE for last in lasts]

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stack_instruction(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """Translate one instruction."""
        op: cython.int = i.op
        index: cython.int
        type: cython.pointer(Signature)
        if op == h.OP_TRY_TABLE:
            self.try_table(r, i)
        elif op == h.OP_THROW:
            self.new_exception(i.a)
            self.emit(h.H_THROW)
            self.dead = True
        elif op == h.OP_THROW_REF:
            index = self.to_slot(self.height - 1)
            put16(self.buffer + self.emit(h.H_THROW_REF) + h.AT_THROW_REF_EXCEPTION, index)
            self.dead = True
        elif op == h.OP_CONT_NEW:
            type = self.cont_type(i.a)
            self.runtime_call(h.H_CONT_NEW, 1, True, max(type.param_slots, type.result_slots), 0, h.T_REF)
        elif op == h.OP_CONT_BIND:
            self.cont_bind(i)
        elif op == h.OP_SUSPEND:
            self.suspend(i)
        elif op == h.OP_RESUME:
            self.resume(h.H_RESUME, r, i)
        elif op == h.OP_RESUME_THROW:
            self.resume(h.H_RESUME_THROW, r, i)
        elif op == h.OP_RESUME_THROW_REF:
            self.resume(h.H_RESUME_THROW_REF, r, i)
        elif op == h.OP_SWITCH:
            self.switch(i)
        return 0

    @cython.cfunc
    @cython.exceptval(check=True)
    def tag_type(self, tag: uint32_t) -> cython.pointer(Signature):
        """The function type of a tag."""
        type: cython.pointer(Signature) = cython.address(self.signatures[cython.cast(uint32_t, self.tag_types[tag])])
        if not type.supported:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        return type

    @cython.cfunc
    @cython.exceptval(check=True)
    def cont_type(self, index: uint32_t) -> cython.pointer(Signature):
        """The function type of a continuation type."""
        type: cython.pointer(Signature) = cython.address(
            self.signatures[cython.cast(uint32_t, self.cont_functions[index])]
        )
        if not type.supported:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        return type

    # --- clauses ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def push_slots(self, types: cython.pointer(uint8_t), count: cython.int) -> cython.int:
        """Push values that are in their homes already."""
        k: cython.int
        for k in range(count):
            self.push(E_SLOT, types[k])
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def drop_slots(self, count: cython.int) -> cython.int:
        """Pop what `push_slots` has pushed."""
        _: cython.int
        for _ in range(count):
            self.pop()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def try_table(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """`try_table`: the clauses, their stubs, then the body."""
        type: Signature = self.block_type(i)
        payload: cython.pointer(Signature)
        clause: Clause
        it: Reader
        k: uint32_t
        count: cython.int
        at: cython.Py_ssize_t
        enter: cython.Py_ssize_t
        clauses: list[int] = []
        record: cython.int = self.try_record(self.open_tries)
        self.flush_locals()
        self.forget_accs()
        self.stop_fuel()
        enter = self.emit(h.H_TRY_ENTER)
        put16(self.buffer + enter + h.AT_TRY_ENTER_RECORD, record)
        put16(self.buffer + self.emit(h.H_CATCH_ENTER) + h.AT_CATCH_ENTER_RECORD, record)
        it = items(r, i)
        for _ in range(i.count):
            read_catch(cython.address(it), cython.address(clause))
            if clause.kind == CATCH or clause.kind == CATCH_REF:
                payload = self.tag_type(clause.tag)
                at = self.emit(h.H_CATCH)
                put32(self.buffer + at + h.AT_CATCH_TAG, self.slot_tags + 8 * clause.tag)
                put16(self.buffer + at + h.AT_CATCH_COUNT, payload.param_slots)
            else:
                at = self.emit(h.H_CATCH_ALL)
            put16(self.buffer + at + h.AT_CATCH_VALUES, self.home(self.height))
            put16(self.buffer + at + h.AT_CATCH_REF, clause.kind == CATCH_REF or clause.kind == CATCH_ALL_REF)
            clauses.append(at)
        self.emit(h.H_RETHROW)
        it = items(r, i)
        for k in range(i.count):
            read_catch(cython.address(it), cython.address(clause))
            at = clauses[k]
            put32(self.buffer + at + h.AT_CATCH_TARGET, cython.cast(uint32_t, self.pos - at))
            self.barrier()
            count = 0
            if clause.kind == CATCH or clause.kind == CATCH_REF:
                payload = self.tag_type(clause.tag)
                count = payload.num_params
                self.push_slots(payload.params, count)
            if clause.kind == CATCH_REF or clause.kind == CATCH_ALL_REF:
                self.push(E_SLOT, h.T_REF)
                count += 1
            self.leave_to(cython.address(self.labels[self.num_labels - 1 - clause.label]))
            self.drop_slots(count)
        put32(self.buffer + enter + h.AT_TRY_ENTER_BODY, cython.cast(uint32_t, self.pos - enter))
        self.forget_accs()
        self.open_label(L_TRY, type)
        self.open_tries += 1
        self.start_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def new_exception(self, tag: uint32_t) -> cython.int:
        """Make an exception of the values on top of the stack; it waits in the context."""
        base: cython.int = self.stage_arguments(self.tag_type(tag))
        at: cython.Py_ssize_t = self.emit(h.H_NEW_EXCEPTION)
        put16(self.buffer + at + h.AT_RUNTIME_A, self.home(base))
        put32(self.buffer + at + h.AT_RUNTIME_IMM0, self.slot_tags + 8 * tag)
        put32(self.buffer + at + h.AT_RUNTIME_IMM1, self.tag_type(tag).param_slots)
        return 0

    # --- continuations ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def resume(self, number: cython.int, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """`resume` and its kin: arguments (or an exception), the continuation; then the clauses and their stubs."""
        type: cython.pointer(Signature) = self.cont_type(i.a)
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
        cont: cython.int = self.to_slot(self.height - 1)
        self.pop()
        if number == h.H_RESUME:
            base = self.stage_arguments(type)
            count = type.param_slots
        elif number == h.H_RESUME_THROW:
            self.new_exception(i.b)
            base = self.height
        else:
            exception = self.to_slot(self.height - 1)
            self.pop()
            self.forget_accs()
            base = self.height
        at = self.emit_array(number + self.traced, h.SIZE_CLAUSE * i.count)
        put16(self.buffer + at + h.AT_RESUME_CONT, cont)
        put16(self.buffer + at + h.AT_RESUME_VALUES, self.home(base))
        put16(self.buffer + at + h.AT_RESUME_COUNT, count)
        put16(self.buffer + at + h.AT_RESUME_CLAUSE_COUNT, i.count)
        put16(self.buffer + at + h.AT_RESUME_RESULTS, type.result_slots)
        put16(self.buffer + at + h.AT_RESUME_EXCEPTION, exception)
        it = items(r, i)
        for k in range(i.count):
            read_handler(cython.address(it), cython.address(clause))
            entry = at + h.AT_RESUME_CLAUSES + h.SIZE_CLAUSE * k
            put32(self.buffer + entry + h.AT_CLAUSE_TAG, self.slot_tags + 8 * clause.tag)
            put16(
                self.buffer + entry + h.AT_CLAUSE_KIND,
                h.CLAUSE_SUSPEND if clause.kind == ON_LABEL else h.CLAUSE_SWITCH,
            )
            if clause.kind != ON_LABEL:
                continue
            put16(self.buffer + entry + h.AT_CLAUSE_VALUES, self.home(self.height))
            put32(self.buffer + entry + h.AT_CLAUSE_TARGET, cython.cast(uint32_t, self.pos - at))
            self.barrier()
            payload = self.tag_type(clause.tag)
            self.push_slots(payload.params, payload.num_params)
            self.push(E_SLOT, h.T_REF)
            label = cython.address(self.labels[self.num_labels - 1 - clause.label])
            self.leave_to(label)
            self.drop_slots(payload.num_params + 1)
        put32(self.buffer + at + h.AT_RESUME_NEXT, cython.cast(uint32_t, self.pos - at))
        self.forget_accs()
        self.push_slots(type.results, type.num_results)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def cont_bind(self, i: cython.pointer(Instr)) -> cython.int:
        """`cont.bind`: a prefix of the parameters of the first type."""
        whole: cython.pointer(Signature) = self.cont_type(i.a)
        rest: cython.pointer(Signature) = self.cont_type(i.b)
        count: cython.int = whole.num_params - rest.num_params
        cont: cython.int = self.to_slot(self.height - 1)
        k: cython.int
        base: cython.int
        at: cython.Py_ssize_t
        self.pop()
        base = self.height - count
        for k in range(count):
            self.flush(base + k)
        self.drop_slots(count)
        self.forget_accs()
        at = self.emit(h.H_CONT_BIND + self.traced)
        put16(self.buffer + at + h.AT_CONT_BIND_CONT, cont)
        put16(self.buffer + at + h.AT_CONT_BIND_VALUES, self.home(base))
        put16(self.buffer + at + h.AT_CONT_BIND_COUNT, whole.param_slots - rest.param_slots)
        put16(self.buffer + at + h.AT_CONT_BIND_REBOUND, self.home(self.push(E_SLOT, h.T_REF)))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def suspend(self, i: cython.pointer(Instr)) -> cython.int:
        """`suspend`: what it is resumed with arrives where its arguments were."""
        type: cython.pointer(Signature) = self.tag_type(i.a)
        base: cython.int = self.stage_arguments(type)
        at: cython.Py_ssize_t = self.emit(h.H_SUSPEND + self.traced)
        put32(self.buffer + at + h.AT_SUSPEND_TAG, self.slot_tags + 8 * i.a)
        put16(self.buffer + at + h.AT_SUSPEND_VALUES, self.home(base))
        put16(self.buffer + at + h.AT_SUSPEND_COUNT, type.param_slots)
        self.barrier()
        self.push_slots(type.results, type.num_results)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def switch(self, i: cython.pointer(Instr)) -> cython.int:
        """`switch`: all parameters of the target but the last, which is the reference to this continuation."""
        target: cython.pointer(Signature) = self.cont_type(i.a)
        # What this continuation will be resumed with.
        back: uint32_t = self.switched_from[self.cont_functions[i.a]]
        returned: cython.pointer(Signature) = self.cont_type(back)
        count: cython.int = target.num_params - 1
        cont: cython.int = self.to_slot(self.height - 1)
        k: cython.int
        base: cython.int
        at: cython.Py_ssize_t
        self.pop()
        base = self.height - count
        for k in range(count):
            self.flush(base + k)
        # The reference to this continuation is put behind the arguments: make sure that the frame has room for it.
        self.push(E_SLOT, h.T_REF)
        self.drop_slots(count + 1)
        self.forget_accs()
        at = self.emit(h.H_SWITCH + self.traced)
        put32(self.buffer + at + h.AT_SWITCH_TAG, self.slot_tags + 8 * i.b)
        put16(self.buffer + at + h.AT_SWITCH_VALUES, self.home(base))
        put16(self.buffer + at + h.AT_SWITCH_COUNT, target.param_slots - 1)
        put16(self.buffer + at + h.AT_SWITCH_CONT, cont)
        self.barrier()
        self.push_slots(returned.params, returned.num_params)
        return 0
