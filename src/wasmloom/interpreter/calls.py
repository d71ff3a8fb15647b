# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates calls: direct, to imports, indirect, by reference, tail calls, and calls of the runtime.

See `wasmloom.interpreter.control` for what a call does to the frame.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import Instr
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.interpreter.assembler import E_SLOT, put16, put32, put64
from cython.cimports.wasmloom.interpreter.flow import SHIM_SLOTS, Flow, Signature

from wasmloom.errors import UnsupportedError


@cython.cclass
class Calls(Flow):
    """The calls of the function that is being translated."""

    @cython.cfunc
    @cython.exceptval(check=False)
    def signature_of_function(self, index: uint32_t) -> cython.pointer(Signature):
        """The type of a function of the module's index space."""
        return cython.address(self.signatures[self.module.func_type[index]])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stage_arguments(self, type: cython.pointer(Signature)) -> cython.int:
        """Put the arguments into their homes, where the callee's frame begins, and pop them. Gives their position."""
        base: cython.int = self.height - type.num_params
        k: cython.int
        if not type.supported:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        for k in range(type.num_params):
            self.flush(base + k)
        for _ in range(type.num_params):
            self.pop()
        self.forget_accs()
        return base

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def push_results(self, type: cython.pointer(Signature), base: cython.int) -> cython.int:
        """Push a call's results: they are in their homes, a single one also in the accumulator of its class."""
        k: cython.int
        for k in range(type.num_results):
            self.push(E_SLOT, type.results[k])
        if type.result_slots == 1:
            self.known_in(type.results[0], self.home(base))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call(self, i: cython.pointer(Instr)) -> cython.int:
        """`call`: of a function of the module, or of an import."""
        type: cython.pointer(Signature) = self.signature_of_function(i.a)
        base: cython.int
        at: cython.Py_ssize_t
        imported: cython.int = self.module.num_imported_funcs
        base = self.stage_arguments(type)
        if i.a < cython.cast(uint64_t, imported):
            at = self.emit(h.H_CALL_IMPORT)
            put32(self.buffer + at + h.AT_CALL_IMPORT_FUNCTION, self.slot_functions + 8 * i.a)
            put16(self.buffer + at + h.AT_CALL_IMPORT_SAVE, self.record + 1)
            put16(self.buffer + at + h.AT_CALL_IMPORT_DELTA, self.home(base))
            self.restore_instance()
        else:
            at = self.emit(h.H_CALL)
            put64(self.buffer + at + h.AT_CALL_CODE, cython.cast(uint64_t, self.cells + (i.a - imported)))
            put16(self.buffer + at + h.AT_CALL_DELTA, self.home(base))
        self.push_results(type, base)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def restore_instance(self) -> cython.int:
        """The `restore` behind a call that may leave the instance."""
        at: cython.Py_ssize_t = self.emit(h.H_RESTORE)
        put16(self.buffer + at + h.AT_RESTORE_DELTA, self.home(self.height))
        put16(self.buffer + at + h.AT_RESTORE_SAVE, self.record + 1)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call_indirect(self, i: cython.pointer(Instr)) -> cython.int:
        """`call_indirect`: ``i.a`` type, ``i.b`` table."""
        type: cython.pointer(Signature) = cython.address(self.signatures[i.a])
        index: cython.int = self.to_slot(self.height - 1)
        base: cython.int
        at: cython.Py_ssize_t
        self.pop()
        base = self.stage_arguments(type)
        at = self.emit(h.H_CALL_INDIRECT)
        put16(self.buffer + at + h.AT_CALL_INDIRECT_INDEX, index)
        put16(self.buffer + at + h.AT_CALL_INDIRECT_SAVE, self.record + 1)
        put32(self.buffer + at + h.AT_CALL_INDIRECT_TABLE, self.slot_tables + 8 * i.b)
        put32(self.buffer + at + h.AT_CALL_INDIRECT_TYPE, self.module.type_id[i.a])
        put16(self.buffer + at + h.AT_CALL_INDIRECT_DELTA, self.home(base))
        self.restore_instance()
        self.push_results(type, base)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def call_ref(self, i: cython.pointer(Instr)) -> cython.int:
        """`call_ref`: ``i.a`` type."""
        type: cython.pointer(Signature) = cython.address(self.signatures[i.a])
        function: cython.int = self.to_slot(self.height - 1)
        base: cython.int
        at: cython.Py_ssize_t
        self.pop()
        base = self.stage_arguments(type)
        at = self.emit(h.H_CALL_REF)
        put16(self.buffer + at + h.AT_CALL_REF_FUNCTION, function)
        put16(self.buffer + at + h.AT_CALL_REF_SAVE, self.record + 1)
        put16(self.buffer + at + h.AT_CALL_REF_DELTA, self.home(base))
        self.restore_instance()
        self.push_results(type, base)
        return 0

    # --- tail calls ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def return_call(self, i: cython.pointer(Instr)) -> cython.int:
        """`return_call`."""
        type: cython.pointer(Signature) = self.signature_of_function(i.a)
        base: cython.int
        at: cython.Py_ssize_t
        imported: cython.int = self.module.num_imported_funcs
        self.leave_tries(0)
        if i.a < cython.cast(uint64_t, imported):
            at = self.tail_out(h.H_RETURN_CALL_IMPORT, type)
            put32(self.buffer + at + h.AT_RETURN_CALL_OUT_IMPORT, self.slot_functions + 8 * i.a)
        else:
            base = self.stage_arguments(type)
            at = self.emit(h.H_RETURN_CALL)
            put64(self.buffer + at + h.AT_RETURN_CALL_CODE, cython.cast(uint64_t, self.cells + (i.a - imported)))
            put16(self.buffer + at + h.AT_RETURN_CALL_SOURCE, self.home(base))
            put16(self.buffer + at + h.AT_RETURN_CALL_COUNT, type.param_slots)
            put16(self.buffer + at + h.AT_RETURN_CALL_RECORD, self.record)
        self.dead = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tail_out(self, number: cython.int, type: cython.pointer(Signature)) -> cython.Py_ssize_t:
        """A tail call that may leave the instance, and its shim. Gives the call's offset."""
        base: cython.int = self.stage_arguments(type)
        at: cython.Py_ssize_t = self.emit(number)
        shim: cython.Py_ssize_t
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_SOURCE, self.home(base))
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_COUNT, type.param_slots)
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_RECORD, self.record)
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_DELTA, SHIM_SLOTS)
        shim = self.emit(h.H_SHIM)
        put16(self.buffer + shim + h.AT_SHIM_COUNT, type.result_slots)
        return at

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def return_call_indirect(self, i: cython.pointer(Instr)) -> cython.int:
        """`return_call_indirect`: ``i.a`` type, ``i.b`` table."""
        index: cython.int = self.to_slot(self.height - 1)
        at: cython.Py_ssize_t
        self.pop()
        self.leave_tries(0)
        at = self.tail_out(h.H_RETURN_CALL_INDIRECT, cython.address(self.signatures[i.a]))
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_INDEX, index)
        put32(self.buffer + at + h.AT_RETURN_CALL_OUT_TABLE, self.slot_tables + 8 * i.b)
        put32(self.buffer + at + h.AT_RETURN_CALL_OUT_TYPE, self.module.type_id[i.a])
        self.dead = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def return_call_ref(self, i: cython.pointer(Instr)) -> cython.int:
        """`return_call_ref`: ``i.a`` type."""
        function: cython.int = self.to_slot(self.height - 1)
        at: cython.Py_ssize_t
        self.pop()
        self.leave_tries(0)
        at = self.tail_out(h.H_RETURN_CALL_REF, cython.address(self.signatures[i.a]))
        put16(self.buffer + at + h.AT_RETURN_CALL_OUT_FUNCTION, function)
        self.dead = True
        return 0

    # --- the runtime ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def runtime_call(
        self,
        number: cython.int,
        operands: cython.int,
        result: cython.bint,
        imm0: uint32_t,
        imm1: uint32_t,
        type: cython.int,
    ) -> cython.int:
        """An instruction that the runtime executes: operands in slots; a result comes first of the slot fields."""
        slots: cython.int[3]
        k: cython.int
        at: cython.Py_ssize_t
        for k in range(operands):
            slots[k] = self.to_slot(self.height - operands + k)
        for _ in range(operands):
            self.pop()
        self.forget_accs()
        at = self.emit(number)
        for k in range(operands):
            cython.cast(cython.pointer(uint16_t), self.buffer + at + h.AT_RUNTIME_A)[k + result] = slots[k]
        put32(self.buffer + at + h.AT_RUNTIME_IMM0, imm0)
        put32(self.buffer + at + h.AT_RUNTIME_IMM1, imm1)
        if result:
            put16(self.buffer + at + h.AT_RUNTIME_A, self.home(self.push(E_SLOT, type)))
        return 0
