# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Translates function bodies to bytecode, in one pass over the bytes.

Bodies are valid (the caller has seen to it), so nothing is checked but what this engine can't hold. What the operand stack
becomes is decided in `wasmloom.interpreter.assembler`; here is what each instruction does with it.

A frame is ``parameters, locals, return ip, own instance, temporaries``. The home slots of a label's values are the ones at
its height, so that a branch moves its values down to there, in ascending order (no source lies below its target), and a
fall-through finds them in place.

Branches that leave values behind run code of their own between the test and the jump; that code must not change what
is known at compile time of the path that falls through. `stage`, `jump` and `return_` leave entries as they are, and
`branch_if` restores the accumulators.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, malloc, realloc
from cython.cimports.libc.string import memchr, memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, items, next_instr, read_u32, read_valtype
from cython.cimports.wasmloom.interpreter._handlers import (
    H_BR,
    H_BR_BACK,
    H_BR_TABLE_A,
    H_BR_TABLE_S,
    H_CALL,
    H_CALL_IMPORT,
    H_CALL_INDIRECT,
    H_CALL_REF,
    H_CONST_FACC,
    H_DATA_DROP,
    H_ELEM_DROP,
    H_ENTER_0,
    H_ENTER_N,
    H_FGLOBAL_GET_A,
    H_FGLOBAL_GET_S,
    H_FGLOBAL_SET_A,
    H_FRETURN_A,
    H_FRETURN_S,
    H_FUEL,
    H_GLOBAL_GET_A,
    H_GLOBAL_GET_S,
    H_GLOBAL_SET_A,
    H_GLOBAL_SET_I,
    H_GLOBAL_SET_S,
    H_MEMORY_COPY,
    H_MEMORY_FILL,
    H_MEMORY_GROW,
    H_MEMORY_INIT,
    H_MEMORY_SIZE,
    H_REF_AS_NON_NULL,
    H_REF_FUNC,
    H_RESTORE,
    H_RETURN,
    H_RETURN_A,
    H_RETURN_CALL,
    H_RETURN_CALL_IMPORT,
    H_RETURN_CALL_INDIRECT,
    H_RETURN_CALL_REF,
    H_RETURN_I,
    H_RETURN_MANY,
    H_RETURN_S,
    H_SELECT_SSS,
    H_SHIM,
    H_TABLE_COPY,
    H_TABLE_FILL,
    H_TABLE_GET,
    H_TABLE_GROW,
    H_TABLE_INIT,
    H_TABLE_SET,
    H_TABLE_SIZE,
    H_TRY_LEAVE,
    H_UNREACHABLE,
    MAX_UNROLLED_LOCALS,
    RESTORE_SIZE,
    TAIL_CALL_SIZE,
    TRY_RECORD_SLOTS,
)
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    E_ACC,
    E_CONST,
    E_LOCAL,
    E_SLOT,
    IMM,
    SLOT,
    T_F32,
    T_F64,
    T_I32,
    T_I64,
    T_REF,
    AccState,
    Assembler,
    Condition,
    Operand,
    class_of,
    op_mirrored,
    op_negated,
    op_result,
    op_types,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.machine import load_table, store_table, value_table
from cython.cimports.wasmloom.interpreter.translator import (
    A_BLOCK,
    A_BR,
    A_BR_IF,
    A_BR_ON_NON_NULL,
    A_BR_ON_NULL,
    A_BR_TABLE,
    A_CALL,
    A_CALL_INDIRECT,
    A_CALL_REF,
    A_CONST,
    A_CONT_BIND,
    A_CONT_NEW,
    A_DATA_DROP,
    A_DROP,
    A_ELEM_DROP,
    A_ELSE,
    A_END,
    A_GLOBAL_GET,
    A_GLOBAL_SET,
    A_IF,
    A_LOAD,
    A_LOCAL_GET,
    A_LOCAL_SET,
    A_LOCAL_TEE,
    A_LOOP,
    A_MEMORY_COPY,
    A_MEMORY_FILL,
    A_MEMORY_GROW,
    A_MEMORY_INIT,
    A_MEMORY_SIZE,
    A_NOP,
    A_REF_AS_NON_NULL,
    A_REF_FUNC,
    A_REF_IS_NULL,
    A_REF_NULL,
    A_RESUME,
    A_RESUME_THROW,
    A_RESUME_THROW_REF,
    A_RETURN,
    A_RETURN_CALL,
    A_RETURN_CALL_INDIRECT,
    A_RETURN_CALL_REF,
    A_SELECT,
    A_STORE,
    A_SUSPEND,
    A_SWITCH,
    A_TABLE_COPY,
    A_TABLE_FILL,
    A_TABLE_GET,
    A_TABLE_GROW,
    A_TABLE_INIT,
    A_TABLE_SET,
    A_TABLE_SIZE,
    A_THROW,
    A_THROW_REF,
    A_TRY_TABLE,
    A_UNREACHABLE,
    A_UNSUPPORTED,
    A_VALUE,
    L_BLOCK,
    L_ELSE,
    L_FUNCTION,
    L_IF,
    L_LOOP,
    L_TRY,
    Label,
    Signature,
)

from wasmloom.errors import UnsupportedError
from wasmloom.runtime import layout
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.spec.types import F32, F64, I32, I64, REF_FLAG, FuncType

#: Instructions with an action of their own.
_ACTIONS = {
    "nop": A_NOP,
    "unreachable": A_UNREACHABLE,
    "block": A_BLOCK,
    "loop": A_LOOP,
    "if": A_IF,
    "else": A_ELSE,
    "end": A_END,
    "br": A_BR,
    "br_if": A_BR_IF,
    "br_table": A_BR_TABLE,
    "return": A_RETURN,
    "call": A_CALL,
    "call_indirect": A_CALL_INDIRECT,
    "call_ref": A_CALL_REF,
    "return_call": A_RETURN_CALL,
    "return_call_indirect": A_RETURN_CALL_INDIRECT,
    "return_call_ref": A_RETURN_CALL_REF,
    "drop": A_DROP,
    "select": A_SELECT,
    "local.get": A_LOCAL_GET,
    "local.set": A_LOCAL_SET,
    "local.tee": A_LOCAL_TEE,
    "global.get": A_GLOBAL_GET,
    "global.set": A_GLOBAL_SET,
    "memory.size": A_MEMORY_SIZE,
    "memory.grow": A_MEMORY_GROW,
    "memory.init": A_MEMORY_INIT,
    "memory.copy": A_MEMORY_COPY,
    "memory.fill": A_MEMORY_FILL,
    "data.drop": A_DATA_DROP,
    "table.get": A_TABLE_GET,
    "table.set": A_TABLE_SET,
    "table.size": A_TABLE_SIZE,
    "table.grow": A_TABLE_GROW,
    "table.init": A_TABLE_INIT,
    "table.copy": A_TABLE_COPY,
    "table.fill": A_TABLE_FILL,
    "elem.drop": A_ELEM_DROP,
    "ref.null": A_REF_NULL,
    "ref.is_null": A_REF_IS_NULL,
    "ref.func": A_REF_FUNC,
    "ref.as_non_null": A_REF_AS_NON_NULL,
    "br_on_null": A_BR_ON_NULL,
    "br_on_non_null": A_BR_ON_NON_NULL,
    "throw": A_THROW,
    "throw_ref": A_THROW_REF,
    "try_table": A_TRY_TABLE,
    "cont.new": A_CONT_NEW,
    "cont.bind": A_CONT_BIND,
    "suspend": A_SUSPEND,
    "resume": A_RESUME,
    "resume_throw": A_RESUME_THROW,
    "resume_throw_ref": A_RESUME_THROW_REF,
    "switch": A_SWITCH,
}
_FAMILIES = {"value": A_VALUE, "load": A_LOAD, "store": A_STORE}

_action = cython.declare(uint8_t[1024])
_is_compare = cython.declare(uint8_t[1024])
_arity = cython.declare(uint8_t[1024])
_single = cython.declare(uint8_t[8])  # type codes, each the whole of a result type

_TRY_TABLE = cython.declare(cython.int, BY_MNEMONIC["try_table"].opcode)
_I32_EQZ = cython.declare(cython.int, BY_MNEMONIC["i32.eqz"].index)
_I64_EQZ = cython.declare(cython.int, BY_MNEMONIC["i64.eqz"].index)
_I32_EQ = cython.declare(cython.int, BY_MNEMONIC["i32.eq"].index)
_I64_EQ = cython.declare(cython.int, BY_MNEMONIC["i64.eq"].index)
_I64_NE = cython.declare(cython.int, BY_MNEMONIC["i64.ne"].index)
_CODE_OF = {I32: T_I32, I64: T_I64, F32: T_F32, F64: T_F64}
_INSTANCE_SIZE = cython.declare(cython.int, layout.size("WlInstance"))
#: Slots between the locals and the temporaries: return ip and own instance.
_RECORD_SLOTS = cython.declare(cython.int, 2)
#: Slots that a tail call out of the instance slips below the callee's frame.
_SHIM_SLOTS = cython.declare(cython.int, 2)


def _fill_tables() -> None:
    """Fill the C tables from the instruction table and the definitions."""
    i: cython.int
    for row in INSTRUCTIONS:
        i = row.index
        _action[i] = _ACTIONS.get(row.mnemonic, A_UNSUPPORTED)
        _arity[i] = len(row.params)
        if row.mnemonic.endswith(".const") and row.mnemonic != "v128.const":
            _action[i] = A_CONST
            op_result[i] = _CODE_OF[_value_type(row.results[0])]
    for operation in OPERATIONS.values():
        i = operation.instruction.index
        _action[i] = _FAMILIES[operation.kind]
        _is_compare[i] = operation.is_compare and len(operation.instruction.params) == 2
    for i in range(8):
        _single[i] = i


def _value_type(name: str) -> int:
    return {"i32": I32, "i64": I64, "f32": F32, "f64": F64}[name]


_fill_tables()


def _type_code(type: int) -> int:
    """The type code of a value type, or -1 for one that slots don't hold yet (v128)."""
    return T_REF if type & REF_FLAG else _CODE_OF.get(type, -1)


@cython.cfunc
@cython.exceptval(-1, check=False)
@cython.inline
@cython.exceptval(-1, check=False)
def _code_of(type: int64_t) -> cython.int:
    if type == 0x7F:
        return T_I32
    if type & 0x100:
        return T_REF
    code: cython.int = _type_code(type)
    if code < 0:
        raise UnsupportedError("SIMD is not supported yet: v128")
    return code


@cython.cclass
class Translator(Assembler):
    """Translates the functions of one module; one at a time, into the same buffers.

    `cells` are the module's code cells, which direct calls refer to.
    """

    def __cinit__(self, module: DecodedModule, cells: int, fuel: bool):
        counts = (len(module.globals), module.num_funcs, len(module.tables))
        self.module = module
        self.cells = cython.cast(cython.pointer(cython.p_char), cython.cast(cython.size_t, cells))
        self.fuel = fuel
        self.slot_functions = _INSTANCE_SIZE + 8 * counts[0]
        self.slot_tables = self.slot_functions + 8 * counts[1]
        self.slot_memories = self.slot_tables + 8 * counts[2]
        self.slot_tags = self.slot_memories + 8 * cython.cast(cython.int, len(module.memories))
        self._read_signatures()

    def __dealloc__(self):
        free(self.signatures)
        free(self.type_storage)
        free(self.labels)

    def _read_signatures(self) -> None:
        """Fill `signatures` from the module's types."""
        i: cython.Py_ssize_t
        code: cython.int
        types: list = self.module.types
        functions = [sub.composite if isinstance(sub.composite, FuncType) else None for sub in types]
        total: cython.size_t = sum(len(f.params) + len(f.results) for f in functions if f is not None)
        storage: cython.pointer(uint8_t)
        self.num_types = len(types)
        self.signatures = cython.cast(cython.pointer(Signature), malloc(cython.sizeof(Signature) * (len(types) + 1)))
        self.type_storage = cython.cast(cython.pointer(uint8_t), malloc(total + 1))
        if self.signatures == cython.NULL or self.type_storage == cython.NULL:
            raise MemoryError
        storage = self.type_storage
        for i in range(self.num_types):
            signature = cython.address(self.signatures[i])
            memset(signature, 0, cython.sizeof(Signature))
            if functions[i] is None:
                continue
            signature.supported = True
            signature.num_params = len(functions[i].params)
            signature.num_results = len(functions[i].results)
            signature.params = storage
            signature.results = storage + signature.num_params
            for type in (*functions[i].params, *functions[i].results):
                code = _type_code(type)
                if code < 0:
                    signature.supported = False
                    code = 0
                storage[0] = code
                storage += 1

    # --- functions ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def translate(self, index: uint32_t) -> cython.int:
        """Translate the body of function `index` of those defined in the module; the bytecode is `buffer[:pos]`.

        Raises UnsupportedError, CompileError (too many slots), MemoryError.
        """
        module: DecodedModule = self.module
        reader: Reader
        instr: Instr
        type: uint32_t = module.func_type[module.num_imported_funcs + index]
        frame: cython.Py_ssize_t
        enter: cython.Py_ssize_t
        zeroed: cython.int
        reader.base = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
        reader.pos = reader.base + module.body_start[index]
        reader.end = reader.base + module.body_end[index]
        self.wasm_offset = module.body_start[index]
        self.own = self.signatures[type]
        self.pos = 0
        self.height = 0
        self.max_height = 0
        self.pending_total = 0
        self.num_fixups = 0
        self.num_labels = 0
        self.dead = False
        self.skipped = 0
        self.barrier()
        self.compare_at = -1
        self.accs[0].owner = -1
        self.accs[1].owner = -1
        self.accs[0].slot = -1
        self.accs[1].slot = -1
        self.read_local_types(cython.address(reader))
        self.open_tries = 0
        self.first_temp = self.num_locals + _RECORD_SLOTS + TRY_RECORD_SLOTS * self.count_tries(reader)
        zeroed = self.num_locals - self.own.num_params
        enter = self.emit(H_ENTER_0 + zeroed if zeroed <= MAX_UNROLLED_LOCALS else H_ENTER_N, 16)
        self.fuel_at = -1
        self.start_fuel()
        self.open_label(L_FUNCTION, self.own)
        while self.num_labels:
            next_instr(cython.address(reader), cython.address(instr))
            self.wasm_offset = instr.offset
            self.instruction(cython.address(reader), cython.address(instr))
        self.stop_fuel()
        # Callees' results count into the height; they lie higher where a callee has a shim. Our own results overwrite
        # the frame's beginning.
        frame = max(self.first_temp + self.max_height, self.own.num_results) + _SHIM_SLOTS
        put32(self.buffer + enter + 8, 8 * frame)
        put16(self.buffer + enter + 12, self.num_locals)
        put16(self.buffer + enter + 14, zeroed)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def read_local_types(self, r: cython.pointer(Reader)) -> cython.int:
        """Read the declarations of locals (Core 3.0, 5.5.13); parameters come first."""
        count: int64_t
        total: int64_t = self.own.num_params
        type: cython.int
        i: cython.int
        runs: cython.int
        if not self.own.supported:
            raise UnsupportedError("SIMD is not supported yet: v128", self.wasm_offset)
        self.reserve_locals(total)
        for i in range(self.own.num_params):
            self.local_types[i] = self.own.params[i]
        runs = read_u32(r)
        for _ in range(runs):
            count = read_u32(r)
            type = _code_of(read_valtype(r))
            self.reserve_locals(total + count)
            if count:
                memset(self.local_types + total, type, count)
            total += count
        self.num_locals = total
        if total:
            memset(self.pending, 0, total * cython.sizeof(int32_t))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def reserve_locals(self, count: int64_t) -> cython.int:
        types: cython.p_void
        pending: cython.p_void
        if count > self.locals_capacity:
            count = max(count, 2 * self.locals_capacity, 64)
            types = realloc(self.local_types, count)
            if types == cython.NULL:
                raise MemoryError
            self.local_types = cython.cast(cython.pointer(uint8_t), types)
            pending = realloc(self.pending, count * cython.sizeof(int32_t))
            if pending == cython.NULL:
                raise MemoryError
            self.pending = cython.cast(cython.pointer(int32_t), pending)
            self.locals_capacity = count
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def instruction(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """Translate one instruction."""
        action: cython.int = _action[i.op]
        index: cython.int
        at: cython.Py_ssize_t
        operand: Operand
        condition: Condition
        if self.dead and action != A_UNSUPPORTED:
            if action == A_BLOCK or action == A_LOOP or action == A_IF or action == A_TRY_TABLE:
                self.skipped += 1
            elif action == A_END:
                if self.skipped:
                    self.skipped -= 1
                else:
                    self.end()
            elif action == A_ELSE and not self.skipped:
                self.else_()
            return 0
        self.fuel_amount += 1
        if action == A_LOCAL_GET:
            index = self.push(E_LOCAL, self.local_types[i.a])
            self.stack[index].local = i.a
            self.pending[i.a] += 1
            self.pending_total += 1
        elif action == A_VALUE:
            self.value(i.op)
        elif action == A_CONST:
            index = self.push(E_CONST, op_result[i.op])
            self.stack[index].bits = i.a & 0xFFFFFFFF if op_result[i.op] == T_I32 else i.a
        elif action == A_LOAD:
            self.load(i)
        elif action == A_STORE:
            self.store(i)
        elif action == A_LOCAL_SET:
            self.local_set(i.a, False)
        elif action == A_LOCAL_TEE:
            self.local_set(i.a, True)
        elif action == A_END:
            self.end()
        elif action == A_BLOCK:
            self.block(L_BLOCK, i)
        elif action == A_LOOP:
            self.block(L_LOOP, i)
        elif action == A_IF:
            self.block(L_IF, i)
        elif action == A_ELSE:
            self.else_()
        elif action == A_BR:
            self.leave_to(cython.address(self.labels[self.num_labels - 1 - i.a]))
            self.dead = True
        elif action == A_BR_IF:
            self.branch_if(self.take_condition(), i.a)
        elif action == A_BR_TABLE:
            self.branch_table(r, i)
        elif action == A_RETURN:
            self.return_()
            self.dead = True
        elif action == A_CALL:
            self.call(i)
        elif action == A_CALL_INDIRECT:
            self.call_indirect(i)
        elif action == A_CALL_REF:
            self.call_ref(i)
        elif action == A_RETURN_CALL:
            self.return_call(i)
        elif action == A_RETURN_CALL_INDIRECT:
            self.return_call_indirect(i)
        elif action == A_RETURN_CALL_REF:
            self.return_call_ref(i)
        elif action == A_DROP:
            self.pop()
        elif action == A_SELECT:
            self.select()
        elif action == A_GLOBAL_GET:
            self.global_get(i.a)
        elif action == A_GLOBAL_SET:
            self.global_set(i.a)
        elif action == A_NOP:
            pass
        elif action == A_UNREACHABLE:
            self.emit(H_UNREACHABLE, 8)
            self.dead = True
        elif action == A_MEMORY_SIZE:
            put32(self.buffer + self.emit_slot_result(H_MEMORY_SIZE, 16, T_I32) + 12, self.slot_memories + 8 * i.a)
        elif action == A_MEMORY_GROW:
            self.runtime_call(H_MEMORY_GROW, 1, True, i.a, 0, T_I32)
        elif action == A_MEMORY_INIT:
            self.runtime_call(H_MEMORY_INIT, 3, False, i.a, i.b, 0)
        elif action == A_MEMORY_COPY:
            self.runtime_call(H_MEMORY_COPY, 3, False, i.a, i.b, 0)
        elif action == A_MEMORY_FILL:
            self.runtime_call(H_MEMORY_FILL, 3, False, i.a, 0, 0)
        elif action == A_DATA_DROP:
            self.runtime_call(H_DATA_DROP, 0, False, i.a, 0, 0)
        elif action == A_TABLE_GET:
            index = self.to_slot(self.height - 1)
            self.pop()
            at = self.emit_slot_result(H_TABLE_GET, 16, T_REF)
            put16(self.buffer + at + 10, index)
            put32(self.buffer + at + 12, self.slot_tables + 8 * i.a)
        elif action == A_TABLE_SET:
            index = self.to_slot(self.height - 2)
            operand.slot = self.to_slot(self.height - 1)
            self.pop()
            self.pop()
            at = self.emit(H_TABLE_SET, 16)
            put16(self.buffer + at + 8, index)
            put16(self.buffer + at + 10, operand.slot)
            put32(self.buffer + at + 12, self.slot_tables + 8 * i.a)
        elif action == A_TABLE_SIZE:
            put32(self.buffer + self.emit_slot_result(H_TABLE_SIZE, 16, T_I32) + 12, self.slot_tables + 8 * i.a)
        elif action == A_TABLE_GROW:
            self.runtime_call(H_TABLE_GROW, 2, True, i.a, 0, T_I32)
        elif action == A_TABLE_INIT:
            self.runtime_call(H_TABLE_INIT, 3, False, i.a, i.b, 0)
        elif action == A_TABLE_COPY:
            self.runtime_call(H_TABLE_COPY, 3, False, i.a, i.b, 0)
        elif action == A_TABLE_FILL:
            self.runtime_call(H_TABLE_FILL, 3, False, i.a, 0, 0)
        elif action == A_ELEM_DROP:
            self.runtime_call(H_ELEM_DROP, 0, False, i.a, 0, 0)
        elif action == A_REF_NULL:
            index = self.push(E_CONST, T_REF)
            self.stack[index].bits = 0
        elif action == A_REF_IS_NULL:
            self.value(_I64_EQZ)
        elif action == A_REF_FUNC:
            put32(self.buffer + self.emit_slot_result(H_REF_FUNC, 16, T_REF) + 12, self.slot_functions + 8 * i.a)
        elif action == A_REF_AS_NON_NULL:
            index = self.to_slot(self.height - 1)
            put16(self.buffer + self.emit(H_REF_AS_NON_NULL, 16) + 8, index)
        elif action == A_BR_ON_NULL or action == A_BR_ON_NON_NULL:
            # The reference stays on the stack of one of the two ways: in a slot, where both find it.
            index = self.height - 1
            condition.op = _I64_EQ if action == A_BR_ON_NULL else _I64_NE
            condition.negate = False
            condition.a.kind = SLOT
            condition.a.slot = self.to_slot(index)
            condition.b.kind = IMM
            condition.b.bits = 0
            if action == A_BR_ON_NULL:
                self.height -= 1  # not popped: it is still there where null was not found
                self.branch_if(condition, i.a)
                self.height += 1
            else:
                self.branch_if(condition, i.a)
                self.pop()
        elif action == A_UNSUPPORTED:
            row = INSTRUCTIONS[i.op]
            raise UnsupportedError(f"{row.feature} is not supported yet: {row.mnemonic}", i.offset)
        else:
            self.stack_instruction(r, i)
        return 0

    # --- values ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def value(self, op: cython.int) -> cython.int:
        """A numeric instruction."""
        a: Operand
        b: Operand
        swapped: Operand
        c: Condition
        before: AccState
        at: cython.Py_ssize_t
        base: cython.int
        offset: cython.int = 10
        wide: cython.bint = False
        type: cython.int = op_types[op][0]
        if _arity[op] == 1:
            if op == _I32_EQZ and self.is_compare() and op_negated[self.compare.op] >= 0:
                c = self.take_condition()
                c.op = op_negated[c.op]
                self.emit_compare(c, op_types[c.op][0])
                return 0
            a = self.slot_operand(self.height - 1)
            self.pop()
            if self.accs[0].owner >= 0:
                self.flush(self.accs[0].owner)
            before = self.accs[0]
            self.before_compare_header = self.last_header
            self.before_compare_number = self.last_number
            base = (op * 3 + a.kind) * 6
            at = self.emit_result(value_table[base + 1], value_table[base], 16, op_result[op])
            if a.kind == SLOT:
                put16(self.buffer + at + 10, a.slot)
            if op == _I32_EQZ or op == _I64_EQZ:
                # As a branch's condition it is a comparison with 0.
                self.compare.op = _I32_EQ if op == _I32_EQZ else _I64_EQ
                self.compare.negate = False
                self.compare.a = a
                self.compare.b.kind = IMM
                self.compare.b.bits = 0
                self.compare_at = at
                self.before_compare = before
            return 0
        a = self.operand(self.height - 2)
        b = self.operand(self.height - 1)
        self.fit(cython.address(a), self.height - 2)
        self.fit(cython.address(b), self.height - 1)
        if a.kind == IMM and b.kind == IMM:
            a.slot = self.to_slot(self.height - 2)
            a.kind = SLOT
        if a.kind == ACC and b.kind == ACC:
            if a.slot >= 0:
                a.kind = SLOT
            else:
                b.kind = SLOT
        if a.kind > b.kind and op_mirrored[op] >= 0:
            swapped = a
            a = b
            b = swapped
            op = op_mirrored[op]
        self.pop()
        self.pop()
        if _is_compare[op]:
            c.op = op
            c.negate = False
            c.a = a
            c.b = b
            self.emit_compare(c, type)
            return 0
        base = ((op * 3 + a.kind) * 3 + b.kind) * 2
        wide = type == T_F64 and (a.kind == IMM or b.kind == IMM)
        at = self.emit_result(value_table[base + 1], value_table[base], 24 if wide else 16, op_result[op])
        if a.kind == SLOT:
            put16(self.buffer + at + offset, a.slot)
            offset += 2
        if b.kind == SLOT:
            put16(self.buffer + at + offset, b.slot)
        if a.kind == IMM or b.kind == IMM:
            if wide:
                put64(self.buffer + at + 16, a.bits if a.kind == IMM else b.bits)
            else:
                put32(self.buffer + at + 12, cython.cast(uint32_t, a.bits if a.kind == IMM else b.bits))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def load(self, i: cython.pointer(Instr)) -> cython.int:
        """A load: ``i.a`` offset, ``i.b`` memory."""
        a: Operand = self.operand(self.height - 1)
        offset: uint64_t = i.a
        other: cython.bint = i.b != 0
        base: cython.int
        at: cython.Py_ssize_t
        if a.kind == IMM:
            if a.bits + offset > 0xFFFFFFFF:
                a.slot = self.to_slot(self.height - 1)
                a.kind = SLOT
            else:
                offset += a.bits
        self.pop()
        base = (i.op * 3 + a.kind) * 4 + other
        at = self.emit_result(load_table[base + 2], load_table[base], 24 if other else 16, op_result[i.op])
        if a.kind == SLOT:
            put16(self.buffer + at + 10, a.slot)
        put32(self.buffer + at + 12, cython.cast(uint32_t, offset))
        if other:
            put32(self.buffer + at + 16, self.slot_memories + 8 * i.b)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def store(self, i: cython.pointer(Instr)) -> cython.int:
        """A store: ``i.a`` offset, ``i.b`` memory."""
        a: Operand = self.operand(self.height - 2)
        b: Operand = self.operand(self.height - 1)
        type: cython.int = op_types[i.op][1]
        offset: uint64_t = i.a
        other: cython.bint = i.b != 0
        size: cython.int = 24 if other else 16
        at: cython.Py_ssize_t
        self.fit(cython.address(b), self.height - 1)
        if a.kind == IMM:
            if a.bits + offset > 0xFFFFFFFF:
                a.slot = self.to_slot(self.height - 2)
                a.kind = SLOT
            else:
                offset += a.bits
        if a.kind == ACC and b.kind == ACC and class_of(type) == 0:
            if a.slot >= 0:
                a.kind = SLOT
            else:
                b.kind = SLOT
        self.pop()
        self.pop()
        at = self.emit(store_table[((i.op * 3 + a.kind) * 3 + b.kind) * 2 + other], size + 8 if b.kind == IMM else size)
        if a.kind == SLOT:
            put16(self.buffer + at + 8, a.slot)
        put32(self.buffer + at + 12, cython.cast(uint32_t, offset))
        if other:
            put32(self.buffer + at + 16, self.slot_memories + 8 * i.b)
        if b.kind == SLOT:
            put16(self.buffer + at + 10, b.slot)
        elif b.kind == IMM:
            put64(self.buffer + at + size, b.bits)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def local_set(self, local: cython.int, tee: cython.bint) -> cython.int:
        """`local.set` and `local.tee`: the last instruction is patched to write the local where that is possible."""
        index: cython.int = self.height - 1
        entry = cython.address(self.stack[index])
        cls: cython.int = class_of(entry.type)
        type: cython.int = entry.type
        same: cython.bint = entry.kind == E_LOCAL and entry.local == local
        fresh: cython.bint
        if not same:
            # The entry itself is popped first: it may be the only one that stands for the local.
            fresh = self.result_end == self.pos and self.result_index == index and self.pending[local] == 0
            if not fresh:
                self.preserve_local(local)
            if fresh and entry.kind == E_ACC:
                self.set_handler(self.accs[cls].header, self.accs[cls].number)
                put16(self.buffer + self.result_at + 8, local)
                self.accs[cls].slot = local
            elif fresh and entry.kind == E_SLOT:
                put16(self.buffer + self.result_at + 8, local)
                self.accs[cls].slot = local
            else:
                self.copy_entry(index, local)
                if entry.kind == E_ACC:
                    self.accs[cls].slot = local
            self.result_end = -1
        self.pop()
        if tee:
            index = self.push(E_LOCAL, type)
            self.stack[index].local = local
            self.pending[local] += 1
            self.pending_total += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def select(self) -> cython.int:
        """`select`: condition on top, then the two values."""
        c: Operand = self.slot_operand(self.height - 1)
        b_const: cython.bint = self.stack[self.height - 2].kind == E_CONST
        a_const: cython.bint = self.stack[self.height - 3].kind == E_CONST
        type: cython.int = self.stack[self.height - 3].type
        a_slot: cython.int = 0
        b_slot: cython.int = 0
        a_bits: uint64_t = self.stack[self.height - 3].bits
        b_bits: uint64_t = self.stack[self.height - 2].bits
        number: cython.int
        at: cython.Py_ssize_t
        if not a_const:
            a_slot = self.to_slot(self.height - 3)
        if not b_const:
            b_slot = self.to_slot(self.height - 2)
        self.pop()
        self.pop()
        self.pop()
        number = H_SELECT_SSS + class_of(type) * 8 + (4 if c.kind == ACC else 0) + 2 * a_const + b_const
        at = self.emit_slot_result(number, 16 + 8 * a_const + 8 * b_const, type)
        if c.kind == SLOT:
            put16(self.buffer + at + 10, c.slot)
        if a_const:
            put64(self.buffer + at + 16, a_bits)
        else:
            put16(self.buffer + at + 12, a_slot)
        if b_const:
            put64(self.buffer + at + 16 + 8 * a_const, b_bits)
        else:
            put16(self.buffer + at + 14, b_slot)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def global_get(self, index: uint32_t) -> cython.int:
        """`global.get`."""
        type: cython.int = _code_of(self.module.globals[index].content)
        at: cython.Py_ssize_t
        if class_of(type):
            at = self.emit_result(H_FGLOBAL_GET_A, H_FGLOBAL_GET_S, 16, type)
        else:
            at = self.emit_result(H_GLOBAL_GET_A, H_GLOBAL_GET_S, 16, type)
        put32(self.buffer + at + 12, _INSTANCE_SIZE + 8 * index)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def global_set(self, index: uint32_t) -> cython.int:
        """`global.set`."""
        v: Operand = self.operand(self.height - 1)
        cls: cython.int = class_of(self.stack[self.height - 1].type)
        at: cython.Py_ssize_t
        self.pop()
        if v.kind == ACC:
            at = self.emit(H_FGLOBAL_SET_A if cls else H_GLOBAL_SET_A, 16)
        elif v.kind == SLOT:
            at = self.emit(H_GLOBAL_SET_S, 16)
            put16(self.buffer + at + 8, v.slot)
        else:
            at = self.emit(H_GLOBAL_SET_I, 24)
            put64(self.buffer + at + 16, v.bits)
        put32(self.buffer + at + 12, _INSTANCE_SIZE + 8 * index)
        return 0

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
        for k in range(operands):
            self.pop()
        self.forget_accs()
        at = self.emit(number, 24)
        for k in range(operands):
            put16(self.buffer + at + 8 + 2 * (k + result), slots[k])
        put32(self.buffer + at + 16, imm0)
        put32(self.buffer + at + 20, imm1)
        if result:
            put16(self.buffer + at + 8, self.home(self.push(E_SLOT, type)))
        return 0

    # --- structured control ---

    @cython.cfunc
    def block_type(self, i: cython.pointer(Instr)) -> Signature:
        """The type of a block, loop or if."""
        type: Signature
        raw: int64_t = cython.cast(int64_t, i.a)
        if raw >= 0:
            if not self.signatures[raw].supported:
                raise UnsupportedError("SIMD is not supported yet: v128", i.offset)
            return self.signatures[raw]
        type.supported = True
        type.num_params = 0
        type.num_results = 0
        type.params = _single
        type.results = _single
        if ~raw:
            type.num_results = 1
            type.results = _single + _code_of(~raw)
        return type

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def open_label(self, kind: cython.int, type: Signature) -> cython.int:
        """Push a label."""
        memory: cython.p_void
        label: cython.pointer(Label)
        if self.num_labels == self.labels_capacity:
            self.labels_capacity = max(2 * self.labels_capacity, 32)
            memory = realloc(self.labels, self.labels_capacity * cython.sizeof(Label))
            if memory == cython.NULL:
                raise MemoryError
            self.labels = cython.cast(cython.pointer(Label), memory)
        label = cython.address(self.labels[self.num_labels])
        label.kind = kind
        label.type = type
        label.height = self.height - (0 if kind == L_FUNCTION else type.num_params)
        label.fixups = -1
        label.else_branch = -1
        label.tries = self.open_tries
        label.start = self.pos
        self.num_labels += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def block(self, kind: cython.int, i: cython.pointer(Instr)) -> cython.int:
        """`block`, `loop` and `if`."""
        type: Signature = self.block_type(i)
        c: Condition
        k: cython.int
        at: cython.Py_ssize_t
        if kind == L_IF:
            c = self.take_condition()
        self.flush_locals()
        if kind != L_BLOCK:
            self.flush_accs()
            for k in range(type.num_params):
                self.flush(self.height - 1 - k)
        if kind == L_LOOP:
            self.forget_accs()
            self.stop_fuel()
        self.open_label(kind, type)
        if kind == L_IF:
            c.negate = not c.negate
            at = self.emit_branch(c, False)
            self.labels[self.num_labels - 1].else_branch = at
            self.barrier()
            self.stop_fuel()
        self.start_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def else_(self) -> cython.int:
        """`else`: leave the first arm for the end, let the `if`'s branch arrive here."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1])
        k: cython.int
        if not self.dead:
            self.leave_to(label)
        label.kind = L_ELSE
        self.restart(label, label.type.num_params, label.type.params)
        put32(self.buffer + label.else_branch + 12, self.pos - label.else_branch)
        label.else_branch = -1
        self.dead = False
        self.stop_fuel()
        self.start_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def restart(self, label: cython.pointer(Label), count: cython.int, types: cython.pointer(uint8_t)) -> cython.int:
        """What is known where code from elsewhere arrives: values in their homes, nothing in the accumulators."""
        k: cython.int
        while self.height > label.height:
            self.pop()
        self.forget_accs()
        for k in range(count):
            self.push(E_SLOT, types[k])
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end(self) -> cython.int:
        """`end`: of the function, or of a block; a label that nothing jumps to is none."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1])
        joined: cython.bint = label.fixups >= 0 or label.else_branch >= 0
        k: cython.int
        if label.kind == L_FUNCTION:
            if not self.dead:
                self.return_()
            self.num_labels -= 1
            return 0
        if label.kind == L_TRY:
            self.open_tries = label.tries + 1
            if not self.dead:
                self.leave_tries(label.tries)
        self.open_tries = label.tries
        if joined:
            if not self.dead:
                for k in range(label.type.num_results):
                    self.flush(self.height - 1 - k)
                self.forget_accs()
            self.restart(label, label.type.num_results, label.type.results)
            self.bind(label.fixups)
            if label.else_branch >= 0:
                put32(self.buffer + label.else_branch + 12, self.pos - label.else_branch)
            self.dead = False
            self.stop_fuel()
            self.start_fuel()
        elif self.dead:
            self.restart(label, label.type.num_results, label.type.results)
        self.num_labels -= 1
        return 0

    # --- exception records ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count_tries(self, r: Reader) -> cython.int:
        """How deep the function nests `try_table`s: each level has a record in the frame."""
        instr: Instr
        depth: cython.int = 0
        deepest: cython.int = 0
        action: cython.int
        if memchr(r.pos, _TRY_TABLE, r.end - r.pos) == cython.NULL:
            return 0
        opened = bytearray()  # per open block, whether it is a try_table
        while True:
            next_instr(cython.address(r), cython.address(instr))
            action = _action[instr.op]
            if action == A_BLOCK or action == A_LOOP or action == A_IF or action == A_TRY_TABLE:
                opened.append(action == A_TRY_TABLE)
                depth += action == A_TRY_TABLE
                deepest = max(deepest, depth)
            elif action == A_END:
                if not opened:
                    return deepest
                depth -= opened.pop()

    @cython.cfunc
    @cython.exceptval(check=False)
    def try_record(self, depth: cython.int) -> cython.int:
        """The slot of the record of the `try_table` with `depth` others around it."""
        return self.num_locals + _RECORD_SLOTS + TRY_RECORD_SLOTS * depth

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_tries(self, remaining: cython.int) -> cython.int:
        """Take away all exception records but the outermost `remaining` ones."""
        if self.open_tries > remaining:
            put16(self.buffer + self.emit(H_TRY_LEAVE, 16) + 8, self.try_record(remaining))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stack_instruction(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """Exceptions and continuations: see `wasmloom.interpreter.stack_translator`."""
        raise UnsupportedError(f"{INSTRUCTIONS[i.op].mnemonic} is not supported here", i.offset)

    # --- branches ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stage(self, count: cython.int, base: cython.int) -> cython.int:
        """Write the top `count` values to the homes from position `base` on, leaving all that is known as it is."""
        k: cython.int
        before0: AccState = self.accs[0]
        before1: AccState = self.accs[1]
        for k in range(count):
            # A copy may overwrite a slot that an accumulator's value is known to be in: copy_entry forgets that.
            self.copy_entry(self.height - count + k, self.home(base + k))
        self.accs[0] = before0
        self.accs[1] = before1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def jump(self, label: cython.pointer(Label)) -> cython.int:
        """Jump to a label that is not the function's."""
        at: cython.Py_ssize_t
        if label.kind == L_LOOP:
            at = self.emit(H_BR_BACK, 16)
            put32(self.buffer + at + 8, cython.cast(uint32_t, label.start - at))
        else:
            at = self.emit(H_BR, 16)
            label.fixups = self.add_fixup(label.fixups, at, at + 8)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_to(self, label: cython.pointer(Label)) -> cython.int:
        """Take a branch: move its values and jump, or return. What is known stays as it is."""
        if label.kind == L_FUNCTION:
            return self.return_()
        self.leave_tries(label.tries)
        self.stage(_label_arity(label), label.height)
        return self.jump(label)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def branch_if(self, c: Condition, depth: uint32_t) -> cython.int:
        """A branch under a condition, whose operand has been popped."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1 - depth])
        count: cython.int = _label_arity(label)
        k: cython.int
        at: cython.Py_ssize_t
        accs: AccState[2]
        if (
            label.kind == L_FUNCTION
            or label.tries != self.open_tries
            or (count and self.height - count != label.height)
        ):
            c.negate = not c.negate
            at = self.emit_branch(c, False)
            accs[0] = self.accs[0]
            accs[1] = self.accs[1]
            self.leave_to(label)
            self.accs[0] = accs[0]
            self.accs[1] = accs[1]
            put32(self.buffer + at + 12, self.pos - at)
        else:
            for k in range(count):
                self.flush(self.height - count + k)
            at = self.emit_branch(c, label.kind == L_LOOP)
            if label.kind == L_LOOP:
                put32(self.buffer + at + 12, cython.cast(uint32_t, label.start - at))
            else:
                label.fixups = self.add_fixup(label.fixups, at, at + 12)
        self.barrier()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def branch_table(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """`br_table`: a table of targets; labels that need more than a jump get a stub behind it."""
        index: Operand = self.slot_operand(self.height - 1)
        it: Reader = items(r, i)
        count: uint32_t = i.count
        k: uint32_t
        depth: uint32_t
        at: cython.Py_ssize_t
        field: cython.Py_ssize_t
        label: cython.pointer(Label)
        # Every label takes the same number of values.
        arity: cython.int = _label_arity(cython.address(self.labels[self.num_labels - 1 - i.a]))
        stubs: dict[int, int] = {}
        self.pop()
        if arity:
            for k in range(arity):
                self.flush(self.height - 1 - k)
        at = self.emit(
            H_BR_TABLE_A if index.kind == ACC else H_BR_TABLE_S,
            (16 + 4 * (count + 1) + 7) & ~cython.cast(cython.int, 7),
        )
        if index.kind == SLOT:
            put16(self.buffer + at + 8, index.slot)
        put32(self.buffer + at + 12, count)
        for k in range(count + 1):
            depth = i.a if k == count else cython.cast(uint32_t, read_u32(cython.address(it)))
            label = cython.address(self.labels[self.num_labels - 1 - depth])
            field = at + 16 + 4 * k
            if (
                label.kind == L_FUNCTION
                or label.kind == L_LOOP
                or label.tries != self.open_tries
                or (arity and self.height - arity != label.height)
            ):
                if depth not in stubs:
                    stubs[depth] = self.pos
                    self.leave_to(label)
                put32(self.buffer + field, cython.cast(uint32_t, cython.cast(cython.Py_ssize_t, stubs[depth]) - at))
            else:
                label.fixups = self.add_fixup(label.fixups, at, field)
        self.dead = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def return_(self) -> cython.int:
        """Return the top values. Entries stay as they are; the accumulators may not."""
        count: cython.int = self.own.num_results
        v: Operand
        at: cython.Py_ssize_t
        cls: cython.int
        self.leave_tries(0)
        if count == 0:
            at = self.emit(H_RETURN, 16)
        elif count == 1:
            v = self.operand(self.height - 1)
            cls = class_of(self.stack[self.height - 1].type)
            if v.kind == IMM and cls:
                put64(self.buffer + self.emit(H_CONST_FACC, 24) + 16, v.bits)
                v.kind = ACC
            if v.kind == ACC:
                at = self.emit(H_FRETURN_A if cls else H_RETURN_A, 16)
            elif v.kind == SLOT:
                at = self.emit(H_FRETURN_S if cls else H_RETURN_S, 16)
                put16(self.buffer + at + 10, v.slot)
            else:
                at = self.emit(H_RETURN_I, 24)
                put64(self.buffer + at + 16, v.bits)
        else:
            self.stage(count, self.height - count)
            at = self.emit(H_RETURN_MANY, 16)
            put16(self.buffer + at + 10, self.home(self.height - count))
            put16(self.buffer + at + 12, count)
        put16(self.buffer + at + 8, self.num_locals)
        return 0

    # --- calls ---

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
        for k in range(type.num_params):
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
        if type.num_results == 1:
            self.accs[class_of(type.results[0])].slot = self.home(base)
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
            at = self.emit(H_CALL_IMPORT, 24)
            put32(self.buffer + at + 8, self.slot_functions + 8 * i.a)
            put16(self.buffer + at + 12, self.num_locals + 1)
            put16(self.buffer + at + 16, self.home(base))
            self.restore()
        else:
            at = self.emit(H_CALL, 24)
            put64(self.buffer + at + 8, cython.cast(uint64_t, self.cells + (i.a - imported)))
            put16(self.buffer + at + 16, self.home(base))
        self.push_results(type, base)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def restore(self) -> cython.int:
        """The `restore` behind a call that may leave the instance."""
        at: cython.Py_ssize_t = self.emit(H_RESTORE, RESTORE_SIZE)
        put16(self.buffer + at + 8, self.home(self.height))
        put16(self.buffer + at + 10, self.num_locals + 1)
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
        at = self.emit(H_CALL_INDIRECT, 32)
        put16(self.buffer + at + 8, index)
        put16(self.buffer + at + 10, self.num_locals + 1)
        put32(self.buffer + at + 12, self.slot_tables + 8 * i.b)
        put32(self.buffer + at + 16, self.module.type_ids[i.a])
        put16(self.buffer + at + 24, self.home(base))
        self.restore()
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
        at = self.emit(H_CALL_REF, 24)
        put16(self.buffer + at + 8, function)
        put16(self.buffer + at + 10, self.num_locals + 1)
        put16(self.buffer + at + 16, self.home(base))
        self.restore()
        self.push_results(type, base)
        return 0

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
            at = self.tail_out(H_RETURN_CALL_IMPORT, type)
            put32(self.buffer + at + 12, self.slot_functions + 8 * i.a)
        else:
            base = self.stage_arguments(type)
            at = self.emit(H_RETURN_CALL, 24)
            put64(self.buffer + at + 8, cython.cast(uint64_t, self.cells + (i.a - imported)))
            put16(self.buffer + at + 16, self.home(base))
            put16(self.buffer + at + 18, type.num_params)
            put16(self.buffer + at + 20, self.num_locals)
        self.dead = True
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def tail_out(self, number: cython.int, type: cython.pointer(Signature)) -> cython.Py_ssize_t:
        """A tail call that may leave the instance, and its shim. Gives the call's offset."""
        base: cython.int = self.stage_arguments(type)
        at: cython.Py_ssize_t = self.emit(number, TAIL_CALL_SIZE)
        shim: cython.Py_ssize_t
        put16(self.buffer + at + 20, self.home(base))
        put16(self.buffer + at + 22, type.num_params)
        put16(self.buffer + at + 24, self.num_locals)
        put16(self.buffer + at + TAIL_CALL_SIZE - 8, _SHIM_SLOTS)
        shim = self.emit(H_SHIM, 16)
        put16(self.buffer + shim + 8, type.num_results)
        return at

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def return_call_indirect(self, i: cython.pointer(Instr)) -> cython.int:
        """`return_call_indirect`: ``i.a`` type, ``i.b`` table."""
        index: cython.int = self.to_slot(self.height - 1)
        at: cython.Py_ssize_t
        self.pop()
        self.leave_tries(0)
        at = self.tail_out(H_RETURN_CALL_INDIRECT, cython.address(self.signatures[i.a]))
        put16(self.buffer + at + 8, index)
        put32(self.buffer + at + 12, self.slot_tables + 8 * i.b)
        put32(self.buffer + at + 16, self.module.type_ids[i.a])
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
        at = self.tail_out(H_RETURN_CALL_REF, cython.address(self.signatures[i.a]))
        put16(self.buffer + at + 8, function)
        self.dead = True
        return 0

    # --- fuel ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_fuel(self) -> cython.int:
        """Begin a basic block: it pays for its instructions in advance."""
        self.fuel_amount = 0
        if self.fuel:
            self.fuel_at = self.emit(H_FUEL, 16)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_fuel(self) -> cython.int:
        """End a basic block: now its price is known."""
        if self.fuel_at >= 0:
            put32(self.buffer + self.fuel_at + 8, self.fuel_amount)
            self.fuel_at = -1
        return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
@cython.inline
@cython.exceptval(check=False)
def _label_arity(label: cython.pointer(Label)) -> cython.int:
    """How many values a branch to the label takes."""
    return label.type.num_params if label.kind == L_LOOP else label.type.num_results
