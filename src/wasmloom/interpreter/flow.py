# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The translator's middle layer: structured control, branches, exception records and fuel.

A frame is ``parameters, locals, return ip, own instance, exception records, temporaries``. The home slots of a label's
values are those at the label's height. A branch moves its values down to them, in ascending order (no source lies below
its target). Code that falls through to the label finds its values in place.

A conditional branch that moves values runs code of its own between the test and the jump. That code must not change
what the translator knows about the path that falls through. So `stage`, `jump` and `return_` leave entries as they are,
and `branch_if` restores the accumulators.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memchr, memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, items, next_instr, read_u32
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import FIELD_BYTES
from cython.cimports.wasmloom.interpreter.assembler import (
    ACC,
    E_SLOT,
    IMM,
    SLOT,
    AccState,
    Assembler,
    Condition,
    Operand,
    class_of,
    kind_slots,
    put16,
    put32,
    put64,
)
from cython.cimports.wasmloom.interpreter.flow import (
    L_BLOCK,
    L_CATCH,
    L_ELSE,
    L_FUNCTION,
    L_IF,
    L_LOOP,
    L_OLD_TRY,
    L_TRY,
    RECORD_SLOTS,
    Label,
    Lowering,
    Signature,
)
from cython.cimports.wasmloom.spec.canon import FUNC, TypeInfo, type_info
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import calloc, malloc, realloc

from wasmloom.contract.layout import WAITS
from wasmloom.errors import UnsupportedError
from wasmloom.semantics.features import EXECUTED
from wasmloom.semantics.kinds import NUMBERS, of_type
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.spec.limits import PAGE_BITS
from wasmloom.spec.types import CONCRETE, HEAP_SHIFT, REF_FLAG, ContType, FuncType
from wasmloom.system import log

_TRY_TABLE = cython.declare(cython.int, BY_MNEMONIC["try_table"].opcode)
_OLD_TRY = cython.declare(cython.int, BY_MNEMONIC["try"].opcode)
#: More values than this are moved by a single instruction: there may be many branches, so they must stay short.
_MAX_COPIES = cython.declare(cython.int, 4)
_REF_FLAG = cython.declare(int64_t, REF_FLAG)
_single = cython.declare(uint8_t[8])  # one code per kind: a result type of one value
_number_kind = cython.declare(cython.schar[128])  # type of numbers → code of its kind, or -1


def _fill_tables() -> None:
    code: cython.int
    type: cython.int
    for code in range(8):
        _single[code] = code
    memset(_number_kind, 0xFF, cython.sizeof(_number_kind))
    for number, kind in NUMBERS.items():
        type = number
        _number_kind[type] = kind.code


_fill_tables()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def kind_code(type: int64_t) -> cython.int:
    """The code of the kind of a value type; -1 of what isn't one."""
    return h.T_REF if type & _REF_FLAG else _number_kind[type & 0x7F]


@cython.cfunc
@cython.exceptval(-1, check=False)
def code_of(type: int64_t) -> cython.int:
    """The code of the kind of a value type. Raises ValueError."""
    code: cython.int = kind_code(type)
    return of_type(type).code if code < 0 else code


@cython.cfunc
@cython.exceptval(check=False)
def opens_block(op: cython.int) -> cython.bint:
    """Whether an instruction has an `end`."""
    return op == h.OP_BLOCK or op == h.OP_LOOP or op == h.OP_IF or op == h.OP_TRY_TABLE or op == h.OP_TRY


@cython.cfunc
@cython.exceptval(check=False)
def closes_block(op: cython.int) -> cython.bint:
    """Whether an instruction is the end of a block."""
    return op == h.OP_END or op == h.OP_DELEGATE


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def label_arity(label: cython.pointer(Label)) -> cython.int:
    """The number of values that a branch to the label takes."""
    return label.type.num_params if label.kind == L_LOOP else label.type.num_results


@cython.cclass
class Translator(Assembler):
    """Translates the functions of one module; one at a time, into the same buffers.

    It has the labels and branches of the function that is being translated, and the signatures and layout of its
    module. `cells` are the module's code cells, which direct calls refer to.
    """

    def __cinit__(self, module: DecodedModule, cells: int, fuel: bool, checked: bool, deterministic: bool):
        counts = (module.num_globals, module.num_funcs, module.num_tables)
        self.module = module
        self.cells = cython.cast(cython.pointer(cython.p_char), cython.cast(cython.size_t, cells))
        self.fuel = fuel
        self.deterministic = deterministic
        self._read_memories(checked)
        self.slot_functions = h.INSTANCE_SIZE + FIELD_BYTES * counts[0]
        self.slot_tables = self.slot_functions + FIELD_BYTES * counts[1]
        self.slot_memories = self.slot_tables + FIELD_BYTES * counts[2]
        self.slot_tags = self.slot_memories + FIELD_BYTES * cython.cast(cython.int, len(module.memories))
        self.slot_waits = self.slot_tags + FIELD_BYTES * cython.cast(cython.int, module.num_tags)
        self.wait_types[0] = h.T_I32
        self.wait_type.num_params = self.wait_type.param_slots = 4
        self.wait_type.num_results = self.wait_type.result_slots = 1
        self.wait_type.results = self.wait_types
        self.slot_types = self.slot_waits + FIELD_BYTES * cython.cast(
            cython.int, len(WAITS) * sum(memory.shared for memory in module.memories)
        )
        self._read_signatures()
        self.traced = log.STACKS
        index_of = {number: index for index, number in enumerate(self.module.type_ids)}
        self.tag_types = [index_of[tag.type] for tag in self.module.tags]
        composites: list = [sub.composite for sub in self.module.types]
        self.cont_functions = [c.func - CONCRETE if isinstance(c, ContType) else None for c in composites]
        # The last value that a `switch` passes to a continuation is a (ref null? $ct2).
        lasts = [c.params[len(c.params) - 1] if isinstance(c, FuncType) and c.params else 0 for c in composites]
        self.switched_from = [(last >> HEAP_SHIFT) - CONCRETE for last in lasts]

    def __dealloc__(self):
        free(self.signatures)
        free(self.type_storage)
        free(self.labels)

    def _read_memories(self, checked: cython.bint) -> None:
        """Fill what is known of the module's memories; `checked`: none has guard pages."""
        i: cython.int
        guarded: cython.bint
        shared: cython.int = 0
        for i, memory in enumerate(self.module.memories):
            self.memory_waits[i] = shared if memory.shared else -1
            shared += memory.shared
            usual: cython.bint = memory.page_size_log2 == PAGE_BITS
            guarded = i == 0 and usual and not checked
            if memory.is64:
                self.memory_wide[i] = 1
                self.memory_reach[i] = h.REACH_WIDE if guarded else h.REACH_WIDE_CHECKED
            else:
                self.memory_wide[i] = 0 if usual else 2
                self.memory_reach[i] = h.REACH_GUARDED if guarded else h.REACH_CHECKED

    def _read_signatures(self) -> None:
        """Fill `signatures` from the module's types."""
        i: cython.Py_ssize_t
        k: uint32_t
        n: uint32_t
        code: cython.int
        total: cython.size_t = 0
        info: cython.pointer(TypeInfo)
        storage: cython.pointer(uint8_t)
        self.num_types = self.module.num_types
        for i in range(self.num_types):
            info = type_info(self.module.type_id[i])
            total += info.n_params + info.n_results
        self.signatures = cython.cast(
            cython.pointer(Signature), calloc(self.num_types + 1, cython.sizeof(Signature))
        )
        self.type_storage = cython.cast(cython.pointer(uint8_t), malloc(total + 1))
        if self.signatures == cython.NULL or self.type_storage == cython.NULL:
            raise MemoryError
        storage = self.type_storage
        for i in range(self.num_types):
            signature = cython.address(self.signatures[i])
            info = type_info(self.module.type_id[i])
            if info.kind != FUNC:
                continue
            signature.num_params = info.n_params
            signature.num_results = info.n_results
            signature.params = storage
            signature.results = storage + signature.num_params
            n = info.n_params + info.n_results
            for k in range(n):
                code = code_of(info.types[k])
                if k < info.n_params:
                    signature.param_slots += kind_slots[code]
                else:
                    signature.result_slots += kind_slots[code]
                storage[0] = code
                storage += 1

    # --- structured control ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def pass_by(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """Skip an unreachable instruction, but keep track of where blocks end, and go on where others arrive."""
        op: cython.int = i.op
        if opens_block(op):
            self.skipped += 1
        elif self.skipped:
            self.skipped -= closes_block(op)
        elif closes_block(op) or op == h.OP_ELSE or op == h.OP_CATCH or op == h.OP_CATCH_ALL:
            lowering[op](self, r, i)
        return 0

    @cython.cfunc
    def block_type(self, i: cython.pointer(Instr)) -> Signature:
        """The type of a block, loop or if."""
        type: Signature
        raw: int64_t = cython.cast(int64_t, i.a)
        if raw >= 0:
            return self.signatures[raw]
        type.num_params = 0
        type.num_results = 0
        type.param_slots = 0
        type.result_slots = 0
        type.params = _single
        type.results = _single
        if ~raw:
            type.num_results = 1
            type.results = _single + code_of(~raw)
            type.result_slots = kind_slots[type.results[0]]
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
            if self.want_map:
                self.loops.append((self.pos, self.wasm_offset))
        self.open_label(kind, type)
        if kind == L_IF:
            c.negate = not c.negate
            at = self.emit_branch(c, False)
            self.labels[self.num_labels - 1].else_branch = at
            self.barrier()
            self.stop_fuel()
        if kind != L_BLOCK:  # what is before a block goes on in it: it pays for both
            self.start_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def else_(self) -> cython.int:
        """`else`: jump from the first arm to the end, and let the `if`'s branch arrive here."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1])
        if not self.dead:
            self.leave_to(label)
        label.kind = L_ELSE
        self.restart(label, label.type.num_params, label.type.params)
        put32(self.buffer + label.else_branch + h.AT_BRANCH_TARGET, self.pos - label.else_branch)
        label.else_branch = -1
        self.dead = False
        self.stop_fuel()
        self.start_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def restart(self, label: cython.pointer(Label), count: cython.int, types: cython.pointer(uint8_t)) -> cython.int:
        """Set what is known at a label: values are in their homes, nothing is in the accumulators."""
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
        """`end` of the function or of a block. A label that nothing jumps to doesn't count as one."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1])
        joined: cython.bint
        k: cython.int
        if label.kind == L_FUNCTION:
            if not self.dead:
                self.return_()
            self.num_labels -= 1
            return 0
        if label.kind == L_OLD_TRY or label.kind == L_CATCH:
            self.end_part(label)
            self.throw_on(label, label.tries)
        joined = label.fixups >= 0 or label.else_branch >= 0
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
                put32(self.buffer + label.else_branch + h.AT_BRANCH_TARGET, self.pos - label.else_branch)
            self.dead = False
            self.stop_fuel()
            self.start_fuel()
        elif self.dead:
            self.restart(label, label.type.num_results, label.type.results)
        self.num_labels -= 1
        return 0

    # --- the parts of a `try` ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def end_part(self, label: cython.pointer(Label)) -> cython.int:
        """End the body of a `try`, or a clause: control goes to the end of the block."""
        if not self.dead:
            self.leave_to(label)
        self.open_tries = label.tries
        self.dead = True
        self.stop_fuel()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def catch_here(self, label: cython.pointer(Label)) -> cython.int:
        """Exceptions that nothing has caught yet arrive here, in the accumulator."""
        self.restart(label, 0, cython.NULL)
        put32(self.buffer + label.else_branch + h.AT_BR_TARGET, cython.cast(uint32_t, self.pos - label.else_branch))
        label.else_branch = -1
        self.barrier()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def throw_on(self, label: cython.pointer(Label), remaining: cython.int) -> cython.int:
        """Throw exceptions that no clause has caught, with so many records left."""
        if label.else_branch >= 0:
            self.catch_here(label)
            self.leave_tries(remaining)
            self.emit(h.H_RETHROW)
        return 0

    # --- exception records ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def count_tries(self, r: Reader) -> cython.int:
        """The depth to which the function nests `try_table`s and `try`s: each level has a record in the frame."""
        instr: Instr
        depth: cython.int = 0
        deepest: cython.int = 0
        op: cython.int
        if memchr(r.pos, _TRY_TABLE, r.end - r.pos) == cython.NULL and (
            not self.module.has_old_exceptions or memchr(r.pos, _OLD_TRY, r.end - r.pos) == cython.NULL
        ):
            return 0
        opened = bytearray()  # per open block, whether it has a record
        while True:
            next_instr(cython.address(r), cython.address(instr))
            op = instr.op
            if opens_block(op):
                opened.append(op == h.OP_TRY_TABLE or op == h.OP_TRY)
                depth += op == h.OP_TRY_TABLE or op == h.OP_TRY
                deepest = max(deepest, depth)
            elif closes_block(op):
                if not opened:
                    return deepest
                depth -= opened.pop()

    @cython.cfunc
    @cython.exceptval(check=False)
    def try_record(self, depth: cython.int) -> cython.int:
        """The slot of the record of the `try_table` with `depth` others around it."""
        return self.record + RECORD_SLOTS + h.TRY_RECORD_SLOTS * depth

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_tries(self, remaining: cython.int) -> cython.int:
        """Remove all exception records except the outermost `remaining` ones."""
        if self.open_tries > remaining:
            put16(self.buffer + self.emit(h.H_TRY_LEAVE) + h.AT_TRY_LEAVE_RECORD, self.try_record(remaining))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note_tries(self) -> cython.int:
        """Note the exception records that a frame has here, the outermost first: slot, and where its clauses begin."""
        k: cython.int
        label: cython.pointer(Label)
        found: list = []
        for k in range(self.num_labels):
            label = cython.address(self.labels[k])
            if label.kind == L_TRY or label.kind == L_OLD_TRY:
                found.append((self.try_record(label.tries), label.clauses))
        self.tries = found
        return 0

    # --- branches ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stage(self, count: cython.int, base: cython.int) -> cython.int:
        """Write the top `count` values to the homes from position `base` on. What is known stays valid."""
        k: cython.int = 0
        run: cython.int
        slots: cython.int
        first: cython.int = self.height - count
        dst: cython.int = self.home(base)
        at: cython.Py_ssize_t
        before0: AccState = self.accs[0]
        before1: AccState = self.accs[1]
        while k < count:
            run = 0
            while k + run < count and self.stack[first + k + run].kind == E_SLOT:
                run += 1
            if run and (base == first or run > _MAX_COPIES):
                slots = self.home(first + k + run) - self.home(first + k)
                if base != first:
                    at = self.emit(h.H_MOVE)
                    put16(self.buffer + at + h.AT_DST, dst)
                    put16(self.buffer + at + h.AT_MOVE_SOURCE, self.home(first + k))
                    put16(self.buffer + at + h.AT_MOVE_COUNT, slots)
                k += run
            else:
                # A copy may overwrite a slot that is known to equal an accumulator; copy_entry then forgets that.
                self.copy_entry(first + k, dst)
                slots = self.home(first + k + 1) - self.home(first + k)
                k += 1
            dst += slots
        self.accs[0] = before0
        self.accs[1] = before1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def jump(self, label: cython.pointer(Label)) -> cython.int:
        """Jump to a label other than the function's."""
        at: cython.Py_ssize_t
        if label.kind == L_LOOP:
            at = self.emit(h.H_BR_BACK)
            put32(self.buffer + at + h.AT_BR_TARGET, cython.cast(uint32_t, label.start - at))
        else:
            at = self.emit(h.H_BR)
            label.fixups = self.add_fixup(label.fixups, at, at + h.AT_BR_TARGET)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave_to(self, label: cython.pointer(Label)) -> cython.int:
        """Take a branch: move its values and jump, or return. What is known stays valid."""
        if label.kind == L_FUNCTION:
            return self.return_()
        self.leave_tries(label.tries)
        self.stage(label_arity(label), label.height)
        return self.jump(label)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def branch_if(self, c: Condition, depth: uint32_t) -> cython.int:
        """A conditional branch; the condition's operand has been popped."""
        label: cython.pointer(Label) = cython.address(self.labels[self.num_labels - 1 - depth])
        count: cython.int = label_arity(label)
        k: cython.int
        at: cython.Py_ssize_t
        accs: AccState[2]
        if count > _MAX_COPIES:
            # Many such branches may use the same values, so put them into their homes: one instruction moves them from
            # there.
            for k in range(count):
                self.flush(self.height - count + k)
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
            put32(self.buffer + at + h.AT_BRANCH_TARGET, self.pos - at)
        else:
            for k in range(count):
                self.flush(self.height - count + k)
            at = self.emit_branch(c, label.kind == L_LOOP)
            if label.kind == L_LOOP:
                put32(self.buffer + at + h.AT_BRANCH_TARGET, cython.cast(uint32_t, label.start - at))
            else:
                label.fixups = self.add_fixup(label.fixups, at, at + h.AT_BRANCH_TARGET)
        self.barrier()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def branch_table(self, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
        """`br_table`: a table of targets. Labels that need more than a jump get a stub behind the table."""
        index: Operand = self.slot_operand(self.height - 1)
        it: Reader = items(r, i)
        count: uint32_t = i.count
        k: uint32_t
        depth: uint32_t
        at: cython.Py_ssize_t
        field: cython.Py_ssize_t
        label: cython.pointer(Label)
        # Every label takes the same number of values.
        arity: cython.int = label_arity(cython.address(self.labels[self.num_labels - 1 - i.a]))
        stubs: dict[int, int] = {}
        self.pop()
        if arity:
            for k in range(arity):
                self.flush(self.height - 1 - k)
        at = self.emit_array(
            h.H_BR_TABLE_A if index.kind == ACC else h.H_BR_TABLE_S,
            (4 * (count + 1) + 7) & ~cython.cast(cython.int, 7),
        )
        if index.kind == SLOT:
            put16(self.buffer + at + h.AT_BR_TABLE_INDEX, index.slot)
        put32(self.buffer + at + h.AT_BR_TABLE_COUNT, count)
        for k in range(count + 1):
            depth = i.a if k == count else cython.cast(uint32_t, read_u32(cython.address(it)))
            label = cython.address(self.labels[self.num_labels - 1 - depth])
            field = at + h.AT_BR_TABLE_TARGETS + 4 * k
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
        """Return the top values. Entries stay as they are; accumulators may change."""
        count: cython.int = self.own.num_results
        slots: cython.int = self.own.result_slots
        v: Operand
        at: cython.Py_ssize_t
        cls: cython.int
        self.leave_tries(0)
        if slots == 0:
            at = self.emit(h.H_RETURN)
        elif slots == 1:
            v = self.operand(self.height - 1)
            cls = class_of(self.stack[self.height - 1].type)
            if v.kind == IMM and cls:
                put64(self.buffer + self.emit(h.H_CONST_FACC) + h.AT_CONST_FACC_VALUE_IMM64, v.bits)
                v.kind = ACC
            if v.kind == ACC:
                at = self.emit(h.H_FRETURN_A if cls else h.H_RETURN_A)
            elif v.kind == SLOT:
                at = self.emit(h.H_FRETURN_S if cls else h.H_RETURN_S)
                put16(self.buffer + at + h.AT_RETURN_VALUE, v.slot)
            else:
                at = self.emit(h.H_RETURN_I)
                put64(self.buffer + at + h.AT_RETURN_VALUE_IMM64, v.bits)
        else:
            self.stage(count, self.height - count)
            at = self.emit(h.H_RETURN_MANY)
            put16(self.buffer + at + h.AT_RETURN_SOURCE, self.home(self.height - count))
            put16(self.buffer + at + h.AT_RETURN_COUNT, slots)
        put16(self.buffer + at + h.AT_RETURN_RECORD, self.record)
        return 0

    # --- fuel ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def start_fuel(self) -> cython.int:
        """Begin a basic block, which pays for its instructions in advance."""
        self.fuel_amount = 0
        if self.fuel:
            self.fuel_at = self.emit(h.H_FUEL)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def stop_fuel(self) -> cython.int:
        """End a basic block, now that its price is known."""
        if self.fuel_at >= 0:
            put32(self.buffer + self.fuel_at + h.AT_FUEL_AMOUNT, self.fuel_amount)
            self.fuel_at = -1
        return 0


seal(Translator)


@cython.cfunc
def new_translator(
    module: DecodedModule, cells: cython.size_t, fuel: cython.bint, checked: cython.bint, deterministic: cython.bint
) -> Translator:
    """A translator for a module's functions. `cells` are the code cells that direct calls go through."""
    return Translator.__new__(Translator, module, cells, fuel, checked, deterministic)


# --- instructions of control flow ---


# --- the table of functions that translate instructions; modules fill it when they are imported ---


@cython.cfunc
@cython.exceptval(-1, check=False)
def _unsupported(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    row = INSTRUCTIONS[i.op]
    raise UnsupportedError(f"{row.feature} is not supported yet: {row.mnemonic}", i.offset)


@cython.cfunc
def _set_lowering(row: object, lower: Lowering) -> object:
    i: cython.int = row.index
    if row.feature not in EXECUTED:
        raise LookupError(f"{row.mnemonic} isn't executed")
    if lowering[i] != cython.NULL and lowering[i] != lower:  # it is the same when an interrupted import is done again
        raise ValueError(f"{row.mnemonic} is lowered twice")
    lowering[i] = lower
    is_executed[i] = True


#: The rows that have a name.
_rows_of: dict = {}
for _row in INSTRUCTIONS:
    _rows_of.setdefault(_row.mnemonic, []).append(_row)


@cython.cfunc
def lowers(name: str, lower: Lowering) -> object:
    """Register the function that translates an instruction, in all rows that have the name."""
    if name not in _rows_of:
        raise LookupError(f"there is no instruction {name}")
    for row in _rows_of[name]:
        _set_lowering(row, lower)


@cython.cfunc
def lowers_kind(kind: str, lower: Lowering) -> object:
    """Register the function that translates all instructions without vectors whose definitions are of a kind."""
    for operation in OPERATIONS.values():
        if operation.kind == kind and not operation.has_vectors:
            lowers(operation.mnemonic, lower)


@cython.cfunc
def check_lowerings() -> object:
    """Raise `LookupError` unless a function translates each executed instruction. Others are refused by name."""
    i: cython.int
    for row in INSTRUCTIONS:
        i = row.index
        if row.feature not in EXECUTED:
            lowering[i] = _unsupported
        elif lowering[i] == cython.NULL:
            raise LookupError(f"nothing lowers {row.mnemonic}")


#: By row: the label that a structured instruction opens.
_opens = cython.declare(cython.uchar[1024])


@cython.cfunc
@cython.exceptval(-1, check=False)
def _open(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.block(_opens[i.op], i)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _else(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.else_()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _end(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.end()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    t.leave_to(cython.address(t.labels[t.num_labels - 1 - i.a]))
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_if(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.branch_if(t.take_condition(), i.a)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_table(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    return t.branch_table(r, i)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _return(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    t.return_()
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _unreachable(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    t.emit(h.H_UNREACHABLE)
    t.dead = True
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fence(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    t.emit(h.H_ATOMIC_FENCE)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _null_condition(op: cython.int, slot: cython.int) -> Condition:
    """The condition that the reference in a slot is null, or isn't: `op` compares it with 0."""
    condition: Condition
    condition.op = op
    condition.negate = False
    condition.a.kind = SLOT
    condition.a.slot = slot
    condition.b.kind = IMM
    condition.b.bits = 0
    return condition


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_on_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """The reference stays on one path's operand stack. It is in a slot, where both paths find it."""
    condition: Condition = _null_condition(h.OP_I64_EQ, t.to_slot(t.height - 1))
    t.height -= 1  # not popped: the path without null still uses it
    t.branch_if(condition, i.a)
    t.height += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _br_on_non_null(t: Translator, r: cython.pointer(Reader), i: cython.pointer(Instr)) -> cython.int:
    """The reverse of `br_on_null`."""
    t.branch_if(_null_condition(h.OP_I64_NE, t.to_slot(t.height - 1)), i.a)
    return t.pop()


def _register() -> None:
    for name, label in (("block", L_BLOCK), ("loop", L_LOOP), ("if", L_IF)):
        _opens[cython.cast(cython.int, BY_MNEMONIC[name].index)] = label
        lowers(name, _open)
    lowers("else", _else)
    lowers("end", _end)
    lowers("br", _br)
    lowers("br_if", _br_if)
    lowers("br_table", _br_table)
    lowers("return", _return)
    lowers("unreachable", _unreachable)
    lowers("atomic.fence", _fence)
    lowers("br_on_null", _br_on_null)
    lowers("br_on_non_null", _br_on_non_null)


_register()
