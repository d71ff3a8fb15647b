# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The validation algorithm for function bodies and constant expressions (Core 3.0, 3.4 and appendix A.3).

A `Validator` walks the instructions once, with a stack of operand types and one of control frames. Most
instructions are checked here, from the typing in their table row. The others have a rule of their own: a function that
`control_rules`, `reference_rules`, `gc_rules` or `stack_rules` registers with `set_rule`.

Errors are `ValidationError`s with the offset of the instruction; where the binary grammar is broken (an `else` outside
an `if`, a body that goes on after its `end`) they are `CompileError`s. "type mismatch" messages give the mnemonic, the
expected type and the actual one.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr, Reader, next_instr, read_range, read_u32, read_valtype
from cython.cimports.wasmloom.binary.sections import Range
from cython.cimports.wasmloom.spec.canon import ARRAY, FUNC, STRUCT, TypeInfo, type_matches
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import grown
from cython.cimports.wasmloom.validation.context import Context
from cython.cimports.wasmloom.validation.validator import (
    ADDR,
    CHECK_DATA,
    CHECK_ELEM,
    CHECK_FUNC,
    CHECK_GLOBAL,
    CHECK_LANE,
    CHECK_LANES,
    CHECK_MEMARG,
    CHECK_MEMORY,
    CHECK_NONE,
    CHECK_TABLE,
    CHECK_TAG,
    CHECK_TYPE,
    FIRST_LOCALS,
    IN_BODY,
    IN_LOOP,
    MAX_CHECKS,
    MAX_OPERANDS,
    MAX_RESULTS,
    OPS,
    ROOM,
    ROWS,
    Check,
    Frame,
    LocalRun,
    Op,
    Rule,
)

from wasmloom.errors import CompileError, ValidationError
from wasmloom.spec.instructions import CONSTANT, INSTRUCTIONS
from wasmloom.spec.limits import MAX_LOCALS
from wasmloom.spec.types import CONCRETE, EXACT_FLAG, HEAP_SHIFT, NULL_FLAG, PLAIN_TYPES, REF_FLAG

#: More operands than this on the stack are refused, because a few bytes of code may push a thousand.
_MAX_STACK = cython.declare(cython.size_t, 1 << 20)

_MAX_LOCALS = cython.declare(int64_t, MAX_LOCALS)

_I32 = cython.declare(uint64_t, PLAIN_TYPES["i32"])
_I64 = cython.declare(uint64_t, PLAIN_TYPES["i64"])
_F64 = cython.declare(uint64_t, PLAIN_TYPES["f64"])
_EXACT_FLAG = cython.declare(uint64_t, EXACT_FLAG)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_NULL_FLAG = cython.declare(uint64_t, NULL_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_CONCRETE = cython.declare(uint64_t, CONCRETE)

#: Features in the order of the instruction table. The first one isn't noted.
_FEATURES: list[str] = list(dict.fromkeys(row.feature for row in INSTRUCTIONS))

#: Immediates that are checked the same way for every instruction.
_CHECKS: dict[str, int] = {
    "func": CHECK_FUNC,
    "type": CHECK_TYPE,
    "table": CHECK_TABLE,
    "mem": CHECK_MEMORY,
    "mem:": CHECK_MEMARG,
    "atomic:": CHECK_MEMARG,
    "tag": CHECK_TAG,
    "elem": CHECK_ELEM,
    "data": CHECK_DATA,
    "global": CHECK_GLOBAL,
    "lane:": CHECK_LANE,
    "lanes": CHECK_LANES,
}
#: The number of fields (of a, b, c, d) that an immediate takes, when it isn't one.
_WIDTHS: dict[str, int] = {
    **{"mem:": 3, "atomic:": 3, "v128": 2, "lanes": 2},
    **dict.fromkeys(("zero", "types", "catches", "handlers"), 0),
}


def _check_name(kind: str) -> str:
    """An immediate of the instruction table without what follows the colon."""
    name, colon, _ = kind.partition(":")
    return name + colon


def _fill_table() -> None:
    """Fill `OPS` from the instruction table."""
    k: cython.int
    slot: cython.int
    op: cython.pointer(Op)
    memset(OPS, 0, cython.sizeof(OPS))
    if len(INSTRUCTIONS) > ROWS or len(_FEATURES) > 64:
        raise RuntimeError("the instruction table has outgrown the validator's tables")
    for row in INSTRUCTIONS:
        op = cython.address(OPS[cython.cast(cython.int, row.index)])
        fits = len(row.params) <= MAX_OPERANDS and len(row.results) <= MAX_RESULTS
        if not fits or len(row.immediates) > MAX_CHECKS:
            raise RuntimeError(f"the instruction table has outgrown the validator's tables: {row.mnemonic}")
        op.feature = _FEATURES.index(row.feature)
        op.constant = row.mnemonic in CONSTANT
        op.n_params = len(row.params)
        op.n_results = len(row.results)
        for k, name in enumerate(row.params):
            op.params[k] = PLAIN_TYPES.get(name, ADDR)
        for k, name in enumerate(row.results):
            op.results[k] = PLAIN_TYPES.get(name, ADDR)
        slot = 0
        # Backwards: the official scripts expect an unknown memory or table to be reported before an unknown segment.
        k = sum([_check_name(kind) in _CHECKS for kind in row.immediates])
        op.slow = k > 0 or op.feature != 0
        for kind in row.immediates:
            name = _check_name(kind)
            if name in _CHECKS:
                k -= 1
                op.checks[k].kind = _CHECKS[name]
                op.checks[k].slot = slot
                op.checks[k].limit = int(kind.partition(":")[2] or "0")
                op.checks[k].exact = name == "atomic:"
            if name in ("mem:", "atomic:", "mem", "table"):
                op.address_slot = slot + (name[-1] == ":")
                op.address_is_table = name == "table"
            slot += _WIDTHS.get(name, 1)


_fill_table()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _other_kind(kind: cython.int) -> cython.p_const_char:
    """What is said of a type that isn't of a kind."""
    if kind == FUNC:
        return b"non-function type"
    if kind == STRUCT:
        return b"non-structure type"
    return b"non-array type" if kind == ARRAY else b"non-continuation type"


@cython.cfunc
def set_rule(name: str, rule: Rule) -> object:
    """Make `rule` the typing rule of the rows whose fourth column is ``@name``."""
    found = False
    for row in INSTRUCTIONS:
        if row.rule == name:
            OPS[cython.cast(cython.int, row.index)].rule = rule
            found = True
    if not found:
        raise LookupError(f"no instruction has the typing rule {name}")


def check_rules() -> None:
    """Raise `LookupError` when a row of the instruction table names a rule that nothing has registered."""
    for row in INSTRUCTIONS:
        if row.rule is not None and OPS[cython.cast(cython.int, row.index)].rule == cython.NULL:
            raise LookupError(f"nothing registered the typing rule {row.rule}")


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reference(type: cython.pointer(TypeInfo), null: cython.bint) -> uint64_t:
    """The reference type to a defined type, or those below it."""
    return _REF_FLAG | (_NULL_FLAG if null else 0) | (_CONCRETE + type.id) << _HEAP_SHIFT


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def exact_reference(type: cython.pointer(TypeInfo), null: cython.bint) -> uint64_t:
    """The reference type to a defined type only."""
    return reference(type, null) | _EXACT_FLAG


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def label_types(
    v: Validator, depth: uint64_t, types: cython.pointer(cython.pointer(cython.const[uint64_t]))
) -> int64_t:
    """The types that a branch to a label takes, and their number: a loop's parameters, other frames' results."""
    frame: cython.pointer(Frame)
    if depth >= v.n_frames:
        return v.refuse_number(b"unknown label", depth)
    frame = v.frames + (v.n_frames - 1 - depth)
    if frame.kind == IN_LOOP:
        types[0] = frame.types
        return frame.n_params
    return result_types(frame, types)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def result_types(
    frame: cython.pointer(Frame), types: cython.pointer(cython.pointer(cython.const[uint64_t]))
) -> cython.size_t:
    """The types of the frame's results."""
    if frame.types == cython.NULL:
        types[0] = cython.address(frame.single)
    else:
        types[0] = frame.types + frame.n_params
    return frame.n_results


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _expect_slowly(v: Validator, t: uint64_t) -> cython.int:
    """Pop an operand that must match `t` and isn't `t` itself."""
    found: uint64_t
    if v.sp == v.height:
        if v.frame.unreachable:
            return 0
        return v.mismatch(t, -1)
    found = v.stack[v.sp - 1]
    if not type_matches(found, t):
        return v.mismatch(t, found)
    v.sp -= 1
    return 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(-1, check=False)
def _expect(v: Validator, t: uint64_t) -> cython.int:
    """Pop an operand that must match `t`."""
    if v.sp > v.height and v.stack[v.sp - 1] == t:
        v.sp -= 1
        return 0
    return _expect_slowly(v, t)


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _push(v: Validator, t: uint64_t) -> cython.void:
    v.stack[v.sp] = t
    v.sp += 1


@cython.final
@cython.cclass
class Validator(Context):
    """Checks function bodies and constant expressions of one module; reusable, not thread-safe.

    Module-level rules are in `wasmloom.validation.modules`.
    """

    def __dealloc__(self) -> None:
        free(self.stack)
        free(self.frames)
        free(self.runs)
        free(self.unset)
        free(self.inits)

    @cython.cfunc
    def mnemonic(self) -> str:
        """The mnemonic of the current instruction."""
        return INSTRUCTIONS[self.instr.op].mnemonic

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, message: str) -> cython.int:
        """Raise `ValidationError` at the current instruction."""
        raise ValidationError(message, self.instr.offset)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def malformed(self, message: cython.p_const_char) -> cython.int:
        """Raise `CompileError` at the current instruction."""
        with cython.gil:
            raise CompileError(message.decode(), self.instr.offset)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def refuse(self, message: cython.p_const_char) -> cython.int:
        """As `fail`, without the GIL."""
        with cython.gil:
            return self.fail(message.decode())

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def refuse_number(self, message: cython.p_const_char, number: uint64_t) -> cython.int:
        """As `refuse`, with a number behind the message."""
        with cython.gil:
            return self.fail(f"{message.decode()} {number}")

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def mismatch(self, expected: uint64_t, found: int64_t) -> cython.int:
        """Raise the error for an operand of type `found` (-1: no operand) where `expected` is needed."""
        with cython.gil:
            return self.fail(
                f"type mismatch: {self.mnemonic()} expected {self.show(expected)} but found "
                f"{'nothing' if found == -1 else self.show(found)}"
            )

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def push(self, t: uint64_t) -> cython.int:
        """Push an operand; there is room for `ROOM` of them in each instruction."""
        self.stack[self.sp] = t
        self.sp += 1
        self.pushed += 1
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def push_types(self, types: cython.pointer(cython.const[uint64_t]), n: cython.size_t) -> cython.int:
        """Push operands, at most `ROOM` in each instruction."""
        if n == 1:
            self.stack[self.sp] = types[0]
        else:
            memcpy(self.stack + self.sp, types, n * cython.sizeof(uint64_t))
        self.sp += n
        self.pushed += n
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def pop(self) -> int64_t:
        """Pop an operand of any type; in unreachable code it may be the bottom type."""
        if self.sp == self.height:
            if self.frame.unreachable:
                return 0
            with cython.gil:
                return self.fail(f"type mismatch: {self.mnemonic()} expected a value but found nothing")
        self.sp -= 1
        return self.stack[self.sp]

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def pop_ref(self) -> int64_t:
        """Pop a reference; in unreachable code it may be the reference to the bottom heap type."""
        found: int64_t = self.pop()
        if found == 0:
            return _REF_FLAG
        if found > 0 and not found & _REF_FLAG:
            with cython.gil:
                return self.fail(f"type mismatch: {self.mnemonic()} expected a reference but found {self.show(found)}")
        return found

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def expect(self, t: uint64_t) -> cython.int:
        """Pop an operand that must match `t`."""
        return _expect(self, t)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def expect_types(self, types: cython.pointer(cython.const[uint64_t]), n: cython.size_t) -> cython.int:
        """Pop operands that must match `types`, the last one being on top."""
        while n > 0:
            n -= 1
            if _expect(self, types[n]) < 0:
                return -1
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def set_unreachable(self) -> cython.int:
        """Mark the rest of this frame as unreachable: its operands have any type."""
        self.sp = self.height
        self.frame.unreachable = True
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def enter(
        self,
        kind: cython.int,
        n_params: cython.size_t,
        n_results: cython.size_t,
        types: cython.pointer(cython.const[uint64_t]),
        single: uint64_t,
    ) -> cython.int:
        """Open a control frame, whose parameters have been popped, and push them."""
        frame: cython.pointer(Frame)
        room: cython.size_t = self.frames_room * 2 + 64
        if self.n_frames == self.frames_room:
            self.frames = cython.cast(cython.pointer(Frame), grown(self.frames, room * cython.sizeof(Frame)))
            self.frames_room = room
        frame = self.frames + self.n_frames
        self.n_frames += 1
        frame.kind = kind
        frame.unreachable = False
        frame.height = self.sp
        frame.n_inits = self.n_inits
        frame.n_params = n_params
        frame.n_results = n_results
        frame.types = types
        frame.single = single
        self.frame = frame
        self.height = self.sp
        if n_params:
            self.push_types(types, n_params)
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def leave(self) -> cython.int:
        """Check that the frame's results, and nothing else, are on the stack; forget what was initialised inside."""
        types: cython.pointer(cython.const[uint64_t]) = cython.NULL
        n: cython.size_t = result_types(self.frame, cython.address(types))
        if self.expect_types(types, n) < 0:
            return -1
        if self.sp != self.height:
            with cython.gil:
                return self.fail(
                    f"type mismatch: {self.mnemonic()} expected nothing more but found "
                    f"{self.show(self.stack[self.sp - 1])}"
                )
        while self.n_inits > self.frame.n_inits:
            self.n_inits -= 1
            self.unset[self.inits[self.n_inits]] = 1
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def canonical_heap(self, heap: uint64_t) -> int64_t:
        """The canonical form of a heap type read from the instruction."""
        if heap < _CONCRETE:
            return heap
        if heap - _CONCRETE >= self.n_types:
            return self.refuse_number(b"unknown type", heap - _CONCRETE)
        return _CONCRETE + self.types[heap - _CONCRETE].id

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def canonical(self, t: uint64_t) -> int64_t:
        """The canonical form of a value type read from the instruction; notes its features."""
        heap: int64_t
        if t & _REF_FLAG:
            heap = self.canonical_heap(t >> _HEAP_SHIFT)
            if heap < 0:
                return -1
            t = (t & (_REF_FLAG | _NULL_FLAG | _EXACT_FLAG)) | cython.cast(uint64_t, heap) << _HEAP_SHIFT
        if t != 0 and (t < _F64 or t > _I32):  # not one of the four number types
            self.note_type(t, self.instr.offset)
        return t

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def type_of_kind(self, index: uint64_t, kind: cython.int) -> int64_t:
        """The type with an index, which must be of a kind: the address of its `TypeInfo`."""
        if index >= self.n_types:
            self.refuse_number(b"unknown type", index)
        if self.types[index].kind != kind:
            self.refuse_number(_other_kind(kind), index)
        return cython.cast(int64_t, self.types[index])

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def address_type(self, is64: cython.bint) -> uint64_t:
        """The type of addresses."""
        return _I64 if is64 else _I32

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _reset(self, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.int:
        """Start with empty stacks and the reader at a range of the module."""
        read_range(cython.address(self.reader), self.base, self.base + start, self.base + end)
        self.instr.offset = start
        self.sp = 0
        self.n_frames = 0
        self.n_inits = 0
        self.n_locals = 0
        self.n_runs = 0
        self.track = False
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _add_locals(self, count: uint32_t, t: uint64_t, declared: cython.bint) -> cython.int:
        """Append locals of one canonical type; declared ones without a default value are not initialised.

        There may be 50 000 in each of a million functions, so only the first ones are written one by one.
        """
        k: cython.size_t
        n: cython.size_t = self.n_locals + count
        unset: cython.bint = declared and t & _REF_FLAG and not t & _NULL_FLAG
        run: cython.pointer(LocalRun)
        room: cython.size_t
        if count == 0:
            return 0
        for k in range(self.n_locals, min(n, FIRST_LOCALS)):
            self.locals[k] = t
        run = self.runs + self.n_runs - 1
        if self.n_runs == 0 or run.type != t or run.unset != unset:
            if self.n_runs == self.runs_room:
                room = 2 * self.runs_room + 16
                self.runs = cython.cast(cython.pointer(LocalRun), grown(self.runs, room * cython.sizeof(LocalRun)))
                self.runs_room = room
            run = self.runs + self.n_runs
            self.n_runs += 1
            run.type = t
            run.unset = unset
        run.end = n
        if unset:
            self.track = True
        self.n_locals = n
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _track_locals(self) -> cython.int:
        """Note which locals aren't initialised."""
        k: cython.size_t
        start: uint32_t = 0
        size: cython.size_t = self.n_locals
        if size > self.unset_room:
            self.unset = cython.cast(cython.p_uchar, grown(self.unset, size))
            self.inits = cython.cast(cython.pointer(uint32_t), grown(self.inits, size * cython.sizeof(uint32_t)))
            self.unset_room = self.n_locals
        for k in range(self.n_runs):
            memset(self.unset + start, self.runs[k].unset, self.runs[k].end - start)
            start = self.runs[k].end
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _read_locals(self) -> cython.int:
        """Read a body's declarations of locals (Core 3.0, 5.5.13)."""
        r: cython.pointer(Reader) = cython.address(self.reader)
        runs: int64_t = read_u32(r)
        count: int64_t
        total: int64_t = self.n_locals
        t: int64_t
        while runs > 0:
            runs -= 1
            self.instr.offset = r.pos - r.base
            count = read_u32(r)
            total += count
            if total >> 32:
                self.malformed(b"too many locals")
            if total > _MAX_LOCALS:
                with cython.gil:
                    raise CompileError(f"too many locals: {total}, the limit is {_MAX_LOCALS}", self.instr.offset)
            t = read_valtype(r)
            t = self.canonical(t)
            self._add_locals(count, t, True)
        return self._track_locals() if self.track else 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _run(self) -> cython.int:
        """Check instructions until the outermost frame is closed."""
        while self.n_frames > 0:
            if _next(self) < 0:
                return -1
            if _step(self, cython.address(self.instr)) < 0:
                return -1
        if self.reader.pos != self.reader.end:
            with cython.gil:
                raise CompileError(
                    "unexpected content after the end of an expression", self.reader.pos - self.reader.base
                )
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def read_next(self) -> cython.int:
        """Read the next instruction of an open body."""
        return _next(self)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def check_next(self) -> cython.int:
        """Check the instruction that has been read; `pushed` is how many operands it leaves."""
        self.pushed = OPS[self.instr.op].n_results
        return _step(self, cython.address(self.instr))

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _enter_body(
        self, n_results: cython.size_t, types: cython.pointer(cython.const[uint64_t]), single: uint64_t
    ) -> cython.int:
        """Open the outermost frame."""
        self.instr.offset = self.reader.pos - self.reader.base
        return self.enter(IN_BODY, 0, n_results, types, single)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _check_body(self, body: cython.size_t) -> cython.int:
        """Check one of the bodies in the code section."""
        return -1 if self.open_body(body) < 0 else self._run()

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def open_body(self, body: cython.size_t) -> cython.int:
        """Stand before the first instruction of one of the bodies in the code section."""
        k: cython.size_t
        self._reset(self.module.body_start[body], self.module.body_end[body])
        self.in_constant = False
        self.type = self.funcs[body + self.module.num_imported_funcs]
        for k in range(self.type.n_params):
            self._add_locals(1, self.type.types[k], False)
        self._read_locals()
        return self._enter_body(self.type.n_results, self.type.types + self.type.n_params, 0)

    def check_function(self, index: int) -> None:
        """Check the body of a function defined in this module (Core 3.0, 3.4.14); `index` counts imports.

        Raises `ValidationError`, or `CompileError` when the body is malformed. Module-level rules must have been
        checked before.
        """
        body: cython.Py_ssize_t = index - self.module.num_imported_funcs
        if not 0 <= body < self.module.num_bodies:
            raise IndexError(f"function {index} has no body in this module")
        self._check_body(body)

    def check_bodies(self, start: cython.size_t, end: cython.size_t) -> None:
        """Check function bodies, counted without imports, in their order; see `check_function`. Without the GIL."""
        with cython.nogil:
            self._check_bodies(start, end)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def _check_bodies(self, start: cython.size_t, end: cython.size_t) -> cython.int:
        body: cython.size_t
        for body in range(start, end):
            if self._check_body(body) < 0:
                return -1
        return 0

    def another(self) -> Validator:
        """A validator for the same module, for another thread; the module's rules have been checked."""
        found: Validator = new_validator(self.module, self.stack_switching)
        memcpy(found.declared, self.declared, self.n_funcs)
        return found

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_constant(self, where: Range, type: uint64_t, visible_globals: uint32_t) -> cython.int:
        """Check the constant expression ``where`` against a canonical value type (Core 3.0, 3.4.16).

        It may use those of the first `visible_globals` globals that are immutable. Functions that it names count as
        declared from then on.
        """
        self._reset(where.start, where.end)
        self.in_constant = True
        self.visible_globals = visible_globals
        self._enter_body(1, cython.NULL, type)
        return self._run()


seal(Validator)


def new_validator(module: DecodedModule, stack_switching: bool = True) -> Validator:
    """A validator for a decoded module; see `Validator` and `Context`."""
    return Validator.__new__(Validator, module, stack_switching)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _check_immediates(v: Validator, i: cython.pointer(Instr), op: cython.pointer(Op)) -> cython.int:
    """Check indices, alignment and lanes, and note the instruction's feature."""
    check: cython.pointer(Check) = cython.address(op.checks[0])
    fields: cython.pointer(uint64_t) = cython.address(i.a)
    x: uint64_t
    k: cython.int
    if op.feature and not v.seen[op.feature]:
        v.seen[op.feature] = 1
        with cython.gil:
            v.note(_FEATURES[op.feature], v.mnemonic(), i.offset)
    while check.kind != CHECK_NONE:
        x = fields[check.slot]
        if check.kind == CHECK_MEMARG:
            if fields[check.slot + 1] >= v.n_memories:
                return v.refuse_number(b"unknown memory", fields[check.slot + 1])
            if fields[check.slot + 2] != cython.cast(uint64_t, check.limit):
                if check.exact:
                    return v.refuse(b"atomic alignment must be natural")
                if fields[check.slot + 2] > cython.cast(uint64_t, check.limit):
                    return v.refuse(b"alignment must not be larger than natural")
            if x >> 32 and not v.memory64[fields[check.slot + 1]]:
                return v.refuse(b"offset out of range")
        elif check.kind == CHECK_FUNC:
            if x >= v.n_funcs:
                return v.refuse_number(b"unknown function", x)
        elif check.kind == CHECK_GLOBAL:
            if x >= v.n_globals:
                return v.refuse_number(b"unknown global", x)
        elif check.kind == CHECK_TYPE:
            if x >= v.n_types:
                return v.refuse_number(b"unknown type", x)
        elif check.kind == CHECK_MEMORY:
            if x >= v.n_memories:
                return v.refuse_number(b"unknown memory", x)
        elif check.kind == CHECK_TABLE:
            if x >= v.n_tables:
                return v.refuse_number(b"unknown table", x)
        elif check.kind == CHECK_DATA:
            if not v.has_data_count:
                return v.malformed(b"data count section required")
            if x >= v.n_data:
                return v.refuse_number(b"unknown data segment", x)
        elif check.kind == CHECK_ELEM:
            if x >= v.n_elements:
                return v.refuse_number(b"unknown elem segment", x)
        elif check.kind == CHECK_TAG:
            if x >= v.n_tags:
                return v.refuse_number(b"unknown tag", x)
        elif check.kind == CHECK_LANE:
            if x >= cython.cast(uint64_t, check.limit):
                return v.refuse(b"invalid lane index")
        else:
            for k in range(16):
                if (fields[check.slot + k // 8] >> (k % 8 * 8)) & 0xFF >= 32:
                    return v.refuse(b"invalid lane index")
        check += 1
    return 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(-1, check=False)
def _next(v: Validator) -> cython.int:
    """Read the next instruction, with room for what it pushes."""
    room: cython.size_t
    if v.stack_room - v.sp < ROOM:
        if v.sp > _MAX_STACK:
            return v.malformed(b"too many operands")
        room = v.stack_room * 2 + 2 * ROOM
        v.stack = cython.cast(cython.pointer(uint64_t), grown(v.stack, room * cython.sizeof(uint64_t)))
        v.stack_room = room
    return next_instr(cython.address(v.reader), cython.address(v.instr))


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(-1, check=False)
def _step(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    """Check one instruction."""
    op: cython.pointer(Op) = cython.address(OPS[i.op])
    n: cython.int
    t: uint64_t
    if op.slow and _check_immediates(v, i, op) < 0:
        return -1
    if v.in_constant and not op.constant:
        with cython.gil:
            return v.fail(f"constant expression required: {v.mnemonic()} is not constant")
    if op.rule != cython.NULL:
        return op.rule(v, i)
    n = op.n_params
    while n > 0:
        n -= 1
        t = op.params[n]
        if t == ADDR:
            t = _address(v, i, op)
        if _expect(v, t) < 0:
            return -1
    if op.n_results:
        t = op.results[0]
        if t == ADDR:
            t = _address(v, i, op)
        _push(v, t)
        if op.n_results > 1:
            _push(v, op.results[1])
    return 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _address(v: Validator, i: cython.pointer(Instr), op: cython.pointer(Op)) -> uint64_t:
    """The address type of the memory or table that an instruction names."""
    x: uint64_t = cython.address(i.a)[op.address_slot]
    if op.address_is_table:
        return _I64 if v.tables[x].is64 else _I32
    return _I64 if v.memory64[x] else _I32


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _local_type(v: Validator, x: uint64_t) -> uint64_t:
    """The type of a local, which exists."""
    low: cython.size_t = 0
    high: cython.size_t = v.n_runs
    middle: cython.size_t
    if x < FIRST_LOCALS:
        return v.locals[x]
    while low < high:
        middle = (low + high) // 2
        if v.runs[middle].end > x:
            high = middle
        else:
            low = middle + 1
    return v.runs[low].type


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _initialise(v: Validator, x: uint64_t) -> cython.int:
    """Note that a local has been set."""
    if v.unset[x]:
        v.unset[x] = 0
        v.inits[v.n_inits] = x
        v.n_inits += 1
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _local_get(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if i.a >= v.n_locals:
        return v.refuse_number(b"unknown local", i.a)
    if v.track and v.unset[i.a]:
        return v.refuse_number(b"uninitialized local", i.a)
    _push(v, _local_type(v, i.a))
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _local_set(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if i.a >= v.n_locals:
        return v.refuse_number(b"unknown local", i.a)
    if _expect(v, _local_type(v, i.a)) < 0:
        return -1
    return _initialise(v, i.a) if v.track else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _local_tee(v: Validator, i: cython.pointer(Instr)) -> cython.int:
    if _local_set(v, i) < 0:
        return -1
    _push(v, _local_type(v, i.a))
    return 0


def _register() -> None:
    set_rule("local.get", _local_get)
    set_rule("local.set", _local_set)
    set_rule("local.tee", _local_tee)


_register()
