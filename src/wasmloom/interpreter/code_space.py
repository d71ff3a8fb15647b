# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The code of a module: a cell per function, which first holds a stub that translates the function when it is called.

Code is shared by all instances of a module. It refers to the module's cells by address and to everything of an
instance by its offset in the instance. It lives until the code space goes; instances and functions keep that alive.

Nothing records which Wasm instruction a bytecode instruction came from; when a backtrace needs that, the function is
translated again, with a map.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.libc.stdint import int64_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._handlers import (
    AT_ENTER_FRAME,
    AT_ENTER_RECORD,
    AT_LAZY_CODE,
    AT_LAZY_FUNCTION,
    AT_LAZY_SPACE,
    H_LAZY,
    H_NATIVE,
    SIZE_LAZY,
)
from cython.cimports.wasmloom.contract._layout import RT_TRANSLATE, WlContext, WlInstance, WlNative
from cython.cimports.wasmloom.interpreter.code_space import TranslateCall
from cython.cimports.wasmloom.interpreter.flow import Translator, new_translator
from cython.cimports.wasmloom.interpreter.machine import handlers, sizes
from cython.cimports.wasmloom.interpreter.translator import translate
from cython.cimports.wasmloom.runtime.codememory import CodeBudget
from cython.cimports.wasmloom.runtime.guests import Guest, end_rest
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system._capi import __sync_synchronize, seal
from cython.cimports.wasmloom.system.allocation import calloc, malloc

from wasmloom.contract import traps
from wasmloom.runtime.frames import FrameState, TypedPlace, WaitPlace
from wasmloom.system.interruption import DeadlinePassed
from wasmloom.validation import validate_module
from wasmloom.validation.frames import types_at

_TIMEOUT = cython.declare(cython.int, traps.TIMEOUT)
_HOST_EXCEPTION = cython.declare(uint64_t, traps.HOST_EXCEPTION)

# All code spaces, as addresses, to find the space of an address in bytecode. Weak references wouldn't do: they are
# cleared before the finalisers of a cycle run, which can run guests. A space removes itself before it goes, with the
# GIL held.
_spaces = cython.declare(set, set())


@cython.no_gc
@cython.cclass
class Coder:
    """What makes machine code of bytecode; see code_space.pxd. This one makes none."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, space: CodeSpace, index: uint32_t) -> cython.int:
        """A function has been translated."""
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make(self, at_tick: cython.bint) -> cython.int:
        """Make the code of what has been added."""
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_code(self, index: uint32_t) -> cython.bint:
        """Whether a function has machine code."""
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def function_at(self, address: uint64_t) -> int64_t:
        """The function whose machine code an address lies in, or -1."""
        return -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def offset_at(
        self, space: CodeSpace, index: uint32_t, code: cython.p_char, size: uint32_t, address: uint64_t
    ) -> int64_t:
        """The bytecode offset that machine code is of."""
        return 0


@cython.no_gc
@cython.cclass
class CodeSpace:
    """The code of a decoded and (unless `prepare` does that later) valid module.

    `fuel`: whether the code pays for itself from the context's fuel. `prepare(index)` is called before the function
    `index` (of those defined in the module) is translated; what it raises leaves the guest. `checked`: whether the code
    checks every address, so it can run on memories without guard pages. `budget`: what its bytecode counts towards.
    `coder`: what makes machine code of the bytecode, which then lies in the coder's arena as long as there is room.
    `deterministic`: whether the code does what `wasmloom.semantics.determinism` says.
    """

    def __cinit__(
        self,
        module: DecodedModule,
        fuel: bool = False,
        prepare: Callable[[int], None] | None = None,
        checked: bool = False,
        budget: CodeBudget | None = None,
        coder: Coder | None = None,
        deterministic: bool = False,
    ):
        i: uint32_t
        stub: cython.p_char
        self.coder = coder
        self.module = module
        self.count = module.num_bodies
        self.fuel = fuel
        self.deterministic = deterministic
        self.prepare = prepare
        self.checked = checked
        self.budget = budget
        self.cells = cython.cast(
            cython.pointer(cython.p_char), self._new_memory(cython.sizeof(cython.p_char) * self.count + 1)
        )
        self.codes = cython.cast(cython.pointer(Code), calloc(self.count + 1, cython.sizeof(Code)))
        self.stubs = cython.cast(cython.p_char, calloc(self.count + 1, SIZE_LAZY))
        if self.cells == cython.NULL or self.codes == cython.NULL or self.stubs == cython.NULL:
            raise MemoryError
        for i in range(self.count):
            stub = self.stubs + SIZE_LAZY * i
            cython.cast(cython.pointer(cython.p_void), stub)[0] = handlers[H_LAZY]
            cython.cast(cython.pointer(cython.p_void), stub + AT_LAZY_CODE)[0] = cython.address(self.cells[i])
            # Borrowed: whatever runs code of this space keeps it alive.
            cython.cast(cython.pointer(cython.p_void), stub + AT_LAZY_SPACE)[0] = cython.cast(cython.p_void, self)
            cython.cast(cython.pointer(uint32_t), stub + AT_LAZY_FUNCTION)[0] = i
            self.cells[i] = stub
        self.translator = None
        self.validator = None
        self.starts = None
        self.held = []
        _spaces.add(cython.cast(uint64_t, cython.cast(cython.p_void, self)))

    def __dealloc__(self):
        i: uint32_t
        _spaces.discard(cython.cast(uint64_t, cython.cast(cython.p_void, self)))
        if self.codes != cython.NULL:
            for i in range(self.count):
                self._free_memory(self.codes[i].start)
        if self.budget is not None:
            self.budget.give_back(self.counted)
        free(self.codes)
        free(self.stubs)
        free(self.natives)
        self._free_memory(self.cells)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _new_memory(self, size: cython.size_t) -> cython.p_char:
        """Memory for bytecode and cells, in the arena where there is one with room; NULL when there is none."""
        memory: cython.p_char = cython.NULL
        if self.coder is not None:
            memory = self.coder.arena.data(size)
        return cython.cast(cython.p_char, malloc(size)) if memory == cython.NULL else memory

    @cython.cfunc
    @cython.exceptval(check=False)
    def _free_memory(self, memory: cython.p_void) -> cython.void:
        """Free what `_new_memory` has given, unless it goes with the arena."""
        if self.coder is None or not self.coder.arena.holds(memory):
            free(memory)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def translate(self, index: uint32_t) -> cython.int:
        """Translate a function, unless that has been done, and let its cell lead to the code.

        Where it leads to compiled code (`use_compiled`), that leads to the bytecode.
        """
        code: cython.p_char
        translator: Translator
        if self.codes[index].start != cython.NULL:
            return 0
        if self.prepare is not None:
            self.prepare(index)
        translator = self._take_translator()
        translator.want_map = False
        translator.stop_at = -1
        translate(translator, index)
        # Another thread, or a finaliser, may have been here meanwhile: its code may be running, and stays.
        if self.codes[index].start == cython.NULL:
            if self.budget is not None:
                self.budget.take(translator.pos)
                self.counted += translator.pos
            code = self._new_memory(translator.pos)
            if code == cython.NULL:
                if self.budget is not None:
                    self.budget.give_back(translator.pos)
                    self.counted -= translator.pos
                raise MemoryError
            memcpy(code, translator.buffer, translator.pos)
            self.codes[index].start = code
            self.codes[index].size = translator.pos
            self.starts = None
            if self.natives != cython.NULL and self.natives[index].handler != cython.NULL:
                self.natives[index].bytecode = code
            else:
                self.cells[index] = code
            self.translator = translator
            if self.coder is not None and self.coder.arena.holds(code):
                self.coder.add(self, index)
        self.translator = translator
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def use_compiled(
        self, index: uint32_t, call: cython.p_void, code: cython.p_void, passing: cython.p_char, words: uint64_t
    ) -> cython.int:
        """Let the cell of a function lead to its compiled code: see `WlNative`. It need not have been translated.

        The caller keeps the code for as long as the space lives (`held`). Other threads may run the function meanwhile.
        They find the one or the other: the cell is written last.
        """
        one: cython.pointer(WlNative)
        if self.natives == cython.NULL:
            self.natives = cython.cast(
                cython.pointer(WlNative), calloc(self.count + 1, cython.sizeof(WlNative))
            )
            if self.natives == cython.NULL:
                raise MemoryError
        one = cython.address(self.natives[index])
        if one.handler != cython.NULL:
            return 0
        one.bytecode = self.codes[index].start
        if one.bytecode == cython.NULL:
            one.bytecode = self.stubs + SIZE_LAZY * index
        one.call = call
        one.code = code
        one.passing = passing
        one.words = words
        one.handler = handlers[H_NATIVE]
        __sync_synchronize()
        self.cells[index] = cython.cast(cython.p_char, one)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def word_at(self, index: uint32_t, at: uint64_t) -> cython.pointer(uint64_t):
        """The word of the instruction at an offset in the bytecode of a function, which has been translated.

        It may be exchanged once the function's machine code has been made, or when it won't be (`Coder.make`): the
        coder reads these words.
        """
        return cython.cast(cython.pointer(uint64_t), self.codes[index].start + at)

    @cython.cfunc
    def _take_translator(self) -> Translator:
        """The translator, for the caller alone. Another caller meanwhile gets another one."""
        translator: Translator = self.translator
        self.translator = None
        if translator is None:
            translator = new_translator(
                self.module, cython.cast(cython.size_t, self.cells), self.fuel, self.checked, self.deterministic
            )
        return translator

    def prepare_all(self) -> None:
        """Prepare every function (translation mode "lazy"). Raises what that raises."""
        if self.prepare is not None:
            for index in range(self.count):
                self.prepare(index)

    def used(self) -> list[int]:
        """The functions that have been translated: those that have been called, or all."""
        i: uint32_t
        found: list = []
        for i in range(self.count):
            if self.codes[i].start != cython.NULL:
                found.append(i)
        return found

    def with_code(self) -> list[int]:
        """The functions that have machine code beside their bytecode."""
        i: uint32_t
        found: list = []
        for i in range(self.count):
            if self.coder is not None and self.coder.has_code(i):
                found.append(i)
        return found

    def translate_all(self) -> None:
        """Translate every function now (translation mode "eager")."""
        i: uint32_t
        for i in range(self.count):
            self.translate(i)
        if self.coder is not None:
            self.coder.make(False)

    def bytecode(self, index: int) -> tuple[bytes, list[tuple[int, int]]]:
        """The bytecode of function `index` of those defined here, and its map: (bytecode offset, module offset) pairs.

        The bytecode begins with handler addresses of this process.
        """
        if not 0 <= index < self.count:
            raise IndexError(index)
        translator: Translator = self._translate_again(index, -1)
        code: bytes = translator.buffer[: translator.pos]
        code_map, translator.code_map = translator.code_map, None
        self.translator = translator
        return code, code_map

    @cython.cfunc
    def _translate_again(self, index: uint32_t, stop_at: int64_t) -> Translator:
        """Translate a function with all notes: the outcome is the same. Returns the translator, which is the
        caller's."""
        translator: Translator
        if self.prepare is not None:
            self.prepare(index)
        translator = self._take_translator()
        translator.want_map = True
        translator.code_map = []
        translator.loops = []
        translator.stop_at = stop_at
        translator.operands = None
        translate(translator, index)
        return translator

    def offset_at(self, index: int, at: int) -> int:
        """Where in the module a bytecode offset of function `index` of those defined here is.

        `at` is where a loop or the function begins, or lies in an instruction. The offset of the function's beginning
        is 0.
        """
        translator: Translator = self._translate_again(index, -1)
        offset = dict(translator.loops).get(at)
        if offset is None:
            offset = translator.code_map[bisect_right(translator.code_map, (at, 0xFFFFFFFF)) - 1][1]
        self.translator = translator
        return offset

    def loops_of(self, index: int) -> list[int]:
        """Where the loops of function `index` of those defined here begin in its bytecode."""
        translator: Translator = self._translate_again(index, -1)
        found = list(dict(translator.loops))
        self.translator = translator
        return found

    def state_at(self, function: int, offset: int) -> FrameState:
        """What a frame of a function (of the module's index space) holds where it stands at an offset in the module.

        This is the one place where types and places of locals and operands come together: the validator knows the
        types (see `types_at`, also for what `offset` means), the translator where the values are. Raises as `types_at`.
        """
        translator: Translator
        index: uint32_t
        validator = self.validator
        self.validator = None
        if validator is None:
            validator = validate_module(self.module, bodies=False)
        types = types_at(validator, function, offset)
        self.validator = validator
        index = function - self.module.num_imported_funcs
        translator = self._translate_again(index, offset)
        slots = [translator.local_slots[i] for i in range(translator.num_locals)]
        operands, translator.operands = translator.operands, None
        self.translator = translator
        if operands is None:
            if offset > self.module.body_start[index]:
                raise ValueError(f"nothing reaches offset 0x{offset:x} of function {function}")
            operands = []
        return FrameState(
            tuple(map(TypedPlace, types.locals, slots)),
            types.unset,
            tuple([TypedPlace(type, slot, bits) for type, (slot, bits) in zip(types.operands, operands, strict=False)]),
            types.awaited,
            tuple(slots[len(types.locals) :]),
        )

    def wait_at(self, function: int, offset: int) -> WaitPlace | None:
        """How a frame of a function (of the module's index space) waits in the instruction at an offset in the module.

        None: no frame waits there. Of a `loop`, and of offset 0, which is the function's beginning: a frame that is
        about to go on there.
        """
        translator: Translator = self._translate_again(function - self.module.num_imported_funcs, offset)
        place: object = None
        if offset == 0:
            at = translator.loops[0][0]
            place = WaitPlace("loop", at, at, 0, ())
        elif translator.operands is not None and translator.stop_waits_at >= 0:
            place = _wait_place(translator)
        elif translator.operands is not None:
            for at, loop in translator.loops:
                if loop == offset:
                    place = WaitPlace("loop", at, at, 0, tuple(translator.tries))
        translator.code_map = translator.operands = translator.tries = None
        self.translator = translator
        return place

    def code_of(self, index: int) -> int:
        """The address of the bytecode of function `index` of those defined here, which is translated if need be.

        Raises what `translate` raises.
        """
        self.translate(index)
        return cython.cast(uint64_t, self.codes[cython.cast(uint32_t, index)].start)

    def frame_size(self, index: int) -> int:
        """Bytes of the frame of function `index`, which has been translated: its first instruction says."""
        enter: cython.p_char = self.codes[cython.cast(uint32_t, index)].start
        return cython.cast(cython.pointer(uint32_t), enter + AT_ENTER_FRAME)[0]

    @cython.cfunc
    def find(self, ip: uint64_t) -> object:
        """The (function, bytecode offset) that an address in bytecode, or in code made of it, is of, or None."""
        made: int64_t
        i: uint32_t
        index: uint32_t
        offset: uint64_t
        wanted: object = ip
        if self.coder is not None:
            made = self.coder.function_at(ip)
            if made >= 0:
                return made, self._offset_at(made, ip)
        if self.starts is None:
            # Lists of ints: making tuples could run finalisers, which could translate another function.
            self.starts = []
            for i in range(self.count):
                if self.codes[i].start != cython.NULL:
                    self.starts.append(cython.cast(object, cython.cast(uint64_t, self.codes[i].start)) << 32 | i)
            self.starts.sort()
        position = bisect_right(self.starts, wanted << 32 | 0xFFFFFFFF) - 1
        if position < 0:
            return None
        index = self.starts[position] & 0xFFFFFFFF
        offset = ip - cython.cast(uint64_t, self.codes[index].start)
        return (index, offset) if offset < self.codes[index].size else None

    def places(self, addresses: list[int]) -> list[tuple[int, int]]:
        """The (function, bytecode offset) of each address that lies in bytecode here; others are left out.

        Unlike `find` this is no slower where functions keep being translated.
        """
        i: uint32_t
        k: cython.Py_ssize_t
        start: uint64_t
        wanted: carray.array = array("Q", addresses)
        address: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), wanted.data.as_voidptr)
        count: cython.Py_ssize_t = len(addresses)
        found: list = []
        for i in range(self.count):
            start = cython.cast(uint64_t, self.codes[i].start)
            for k in range(count):
                if address[k] - start < self.codes[i].size:
                    found.append((i, address[k] - start))
        return found

    def function_at(self, address: uint64_t) -> int:
        """The function that an address in bytecode, or in code made of it, is of, or -1; faster than `find`."""
        i: uint32_t
        made: int64_t = -1
        if self.coder is not None:
            made = self.coder.function_at(address)
        if made < 0:
            for i in range(self.count):
                if address - cython.cast(uint64_t, self.codes[i].start) < self.codes[i].size:
                    return i
        return made

    def is_translated(self, index: int) -> bool:
        """Whether function `index` of those defined here has bytecode."""
        return self.codes[cython.cast(uint32_t, index)].start != cython.NULL

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _offset_at(self, index: uint32_t, address: uint64_t) -> int64_t:
        """The bytecode offset that an address in a function's machine code is of."""
        translator: Translator = self._translate_again(index, -1)
        at: int64_t = self.coder.offset_at(self, index, translator.buffer, translator.pos, address)
        translator.code_map = None
        self.translator = translator
        return at

    def record_slot(self, index: int) -> int:
        """The slot of function `index`'s return ip: the `enter` instruction, which begins its code, says."""
        enter: cython.p_char = self.codes[cython.cast(uint32_t, index)].start
        return cython.cast(cython.pointer(uint16_t), enter + AT_ENTER_RECORD)[0]


seal(CodeSpace)


@cython.cfunc
def _wait_place(t: Translator) -> object:
    """What `CodeSpace.wait_at` returns, from a translator that has stopped there."""
    at: cython.Py_ssize_t = t.stop_waits_at
    number: cython.int = t.stop_waits_in
    fields: cython.p_char = t.buffer + at
    size: cython.int = sizes[number]
    slot: cython.int
    if h.H_RESUME <= number <= h.H_RESUME_THROW_REF_TRACED:
        slot = cython.cast(cython.pointer(uint16_t), fields + h.AT_RESUME_VALUES)[0]
        size = cython.cast(cython.pointer(uint32_t), fields + h.AT_RESUME_NEXT)[0]
        return WaitPlace("resume", at, at + size, slot, tuple(t.tries))
    if h.H_SUSPEND <= number <= h.H_SWITCH_TRACED:
        slot = cython.cast(cython.pointer(uint16_t), fields + h.AT_SUSPEND_VALUES)[0]
        return WaitPlace("suspend", at, at + size, slot, tuple(t.tries))
    # A callee finds its caller by the same number: see `_return_to` in `control_handlers`.
    slot = cython.cast(cython.pointer(uint16_t), fields + size - h.DELTA_BEFORE_RETURN)[0]
    if number == h.H_CALL:
        return WaitPlace("call", at, at + size, slot, tuple(t.tries))
    if (
        number == h.H_CALL_IMPORT
        or number == h.H_CALL_REF
        or number == h.H_CALL_INDIRECT
        or number == h.H_CALL_INDIRECT_W
    ):
        return WaitPlace("call_out", at, at + size, slot, tuple(t.tries))
    return WaitPlace("tail", at, at + size, slot, ())


def new_code_space(
    module: DecodedModule,
    fuel: bool = False,
    prepare: Callable[[int], None] | None = None,
    checked: bool = False,
    budget: CodeBudget | None = None,
    coder: Coder | None = None,
    deterministic: bool = False,
) -> CodeSpace:
    """The code of a module; see `CodeSpace`."""
    return CodeSpace.__new__(CodeSpace, module, fuel, prepare, checked, budget, coder, deterministic)


def find(ip: uint64_t, near: CodeSpace | None = None) -> tuple[CodeSpace, int, int] | None:
    """The code space, function (of those defined there) and offset that an address in bytecode stands for.

    There may be thousands of code spaces; `near` is the one in which it probably lies.
    """
    space: CodeSpace
    if near is not None:
        found = near.find(ip)
        if found is not None:
            return (near, *found)
    for address in list(_spaces):
        if address not in _spaces:
            continue  # it has gone meanwhile
        space = cython.cast(CodeSpace, cython.cast(cython.p_void, cython.cast(uint64_t, address)))
        found = space.find(ip)
        if found is not None:
            return (space, *found)
    return None


def function_at(ip: uint64_t) -> tuple[CodeSpace, int, int] | None:
    """What `find` returns, without the offset."""
    space: CodeSpace
    for address in list(_spaces):
        if address not in _spaces:
            continue  # it has gone meanwhile
        space = cython.cast(CodeSpace, cython.cast(cython.p_void, cython.cast(uint64_t, address)))
        index = space.function_at(ip)
        if index >= 0:
            return (space, index, 0)
    return None


# --- the runtime call of lazy stubs ---


@cython.cfunc
@cython.with_gil
@cython.exceptval(check=False)
def _translate_with_gil(ctx: cython.pointer(WlContext), space: cython.p_void, index: uint32_t) -> uint64_t:
    store: Store = cython.cast(Store, ctx.store)
    # Signal handlers and finalisers may run meanwhile. There is no frame of the callee yet for an entry to lie above.
    before: cython.bint = store.interrupting
    ended: cython.int
    store.interrupting = True
    ended = cython.cast(TranslateCall, cython.cast(cython.p_void, _translate_for_guest))(
        cython.cast(CodeSpace, space), index
    )
    store.interrupting = before
    if ended >= 0:
        return ended
    store.take_error()
    return _HOST_EXCEPTION


@cython.cfunc
@cython.exceptval(-1, check=False)
def _translate_for_guest(space: CodeSpace, index: uint32_t) -> cython.int:
    """Translate a function that a guest waits for. Returns 0, or the code of the trap when the call's time is over."""
    try:
        space.translate(index)
    except DeadlinePassed:
        return _TIMEOUT
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _translate(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """The runtime call "translate": `ip` points to a stub."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    code: uint64_t
    guest.resting = 1  # for forks: wherever this releases the GIL, the guest's stacks are complete
    code = _translate_with_gil(
        ctx, cython.cast(cython.pointer(cython.p_void), ip)[2], cython.cast(cython.pointer(uint32_t), ip)[6]
    )
    end_rest(guest)
    return code


set_runtime_call(RT_TRANSLATE, cython.cast(cython.p_void, _translate))
