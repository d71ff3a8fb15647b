# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The copier: makes a function's machine code, in one pass over its bytecode, of stencils (`baseline.generator`).

Bytecode stays what runs; its code only makes that faster. Code has the frame, slots and registers of the interpreter.
An instruction begins with the address of its handler, where interpreter and code go on when control arrives there from
elsewhere: at a function's beginning, a loop's header, behind a call, where a `resume` or a `catch` leads. When the code
of a function is there, the instructions at such *entries* get the addresses of their code in the place of their
handler's, one by one: each of these words is right at any time, so other threads may run meanwhile. What has no stencil
is left to its handler, by its address; so its word is never replaced.

Which instructions are entries follows from the stencils: one whose address is used for anything but a trap is one,
since something will jump there; so are those that lie behind, or are a target of, an instruction that is left to its
handler.

Nothing is kept of how code came to be. Where an address in code must lead to an instruction (after a fault), the
function is translated once more, and planned once more: the outcome is the same. Calls go to the callee's code when
that has been made before the caller's, which the order of the functions tells at any time.

**Batches.** Pages with code can't be written, so code is made of many functions at a time. What has been translated
waits, and is interpreted, until there are `_batch` bytes of bytecode, or until a tick reaches a guest
(`wasmloom.baseline.making`). The functions that were translated last are made first, since they are called by the
others. In the tier "auto" nothing is made before a guest's first tick, so short programs have no code at all.

Invariants: used with the GIL held, and nothing in here runs code of Python. Code isn't entered before it is executable:
words are replaced after that.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.baseline import _roles as r
from cython.cimports.wasmloom.baseline._holes import (
    ARRAY_CLAUSES,
    ARRAY_TARGETS,
    EXTERNAL_COUNT,
    FORM_DOUBLE_WORD,
    FORM_RELATIVE,
    SMALL,
    VARIANT_COUNT,
    VARIANT_DIRECT,
    VARIANT_PLAIN,
    VARIANT_WIDE,
    WHAT_CALLEE,
    WHAT_CODE,
    WHAT_COLD,
    WHAT_ENTRY,
    WHAT_EXTERNAL_CODE,
    WHAT_EXTERNAL_SLOT,
    WHAT_HOT,
    WHAT_NUMBER,
    WHAT_PLACE,
    WHAT_POINTER,
    WHAT_TARGET,
)
from cython.cimports.wasmloom.baseline._stencils_object import (
    Hole,
    Pinning,
    Stencil,
    wl_instruction_leads,
    wl_instruction_parts,
    wl_patches,
    wl_pinnings,
    wl_stencil_code,
    wl_stencil_constants,
    wl_stencil_constants_size,
    wl_stencil_holes,
    wl_stencil_variants,
    wl_stencils,
)
from cython.cimports.wasmloom.baseline.copier import ENTERED, LEFT, PLACE, Made, Patch
from cython.cimports.wasmloom.baseline.pinning import PIN_COUNT, Pins, Step
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.interpreter.code_space import Coder, CodeSpace
from cython.cimports.wasmloom.interpreter.machine import externals, handler_count, handlers, sizes
from cython.cimports.wasmloom.runtime.arena import Arena
from cython.cimports.wasmloom.runtime.codememory import CodeBudget
from cython.cimports.wasmloom.runtime.hooks import want_code
from cython.cimports.wasmloom.system.allocation import calloc, grown

#: Handlers are aligned to 16 bytes: what their addresses are shifted by to look up their numbers.
_WORD_UNIT = cython.declare(cython.int, 4)
_low = cython.declare(uint64_t, 0)
_numbers = cython.declare(cython.pointer(int16_t), cython.NULL)
_callee_at = cython.declare(cython.pointer(int16_t), cython.NULL)
_is_checked = cython.declare(cython.pointer(uint8_t), cython.NULL)
#: With so much bytecode waiting code is made at once.
_batch = cython.declare(uint64_t, 1 << 15)
_pins = cython.declare(Pins, Pins.__new__(Pins))  # of the function that is being planned, by whichever copier
leads = wl_instruction_leads
pinnings = wl_pinnings
#: So much address space is reserved for code, and for bytecode and cells, for each byte of a module's bodies; and not
#: more than that in all. What exceeds it stays bytecode.
_CODE_RATIO = cython.declare(uint64_t, 24)
_DATA_RATIO = cython.declare(uint64_t, 16)
_MOST = cython.declare(uint64_t, 1 << 30)


#: Stencils that are no instructions', by their places behind these: see `generator.EXTRA`. The latter are followed by
#: those for floats.
_JUMP = cython.declare(cython.int, 2)
_SET = cython.declare(cython.int, 3)
_LOAD = cython.declare(cython.int, 5)


@cython.cfunc
@cython.exceptval(check=False)
def _stencil_of(number: cython.int, variant: cython.int) -> int32_t:
    return wl_stencil_variants[VARIANT_COUNT * number + variant]


def _fill_tables() -> None:
    """What is looked up for each instruction: handler by address, and what a stencil's holes say about it."""
    global _low, _numbers, _callee_at, _is_checked
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    count: cython.Py_ssize_t = handler_count
    variant: cython.int
    stencil: cython.pointer(Stencil)
    hole: cython.pointer(Hole)
    high: uint64_t = 0
    _low = ~cython.cast(uint64_t, 0)
    for i in range(count):
        _low = min(_low, cython.cast(uint64_t, handlers[i]))
        high = max(high, cython.cast(uint64_t, handlers[i]))
    _numbers = cython.cast(cython.pointer(int16_t), calloc(((high - _low) >> _WORD_UNIT) + 1, 2))
    _callee_at = cython.cast(cython.pointer(int16_t), calloc(count, 2))
    _is_checked = cython.cast(cython.pointer(uint8_t), calloc(VARIANT_COUNT * (count + 2), 1))
    if _numbers == cython.NULL or _callee_at == cython.NULL or _is_checked == cython.NULL:
        raise MemoryError
    for i in range(count):
        _numbers[(cython.cast(uint64_t, handlers[i]) - _low) >> _WORD_UNIT] = i
        for variant in range(VARIANT_COUNT):
            if _stencil_of(i, variant) >= 0:
                stencil = cython.address(wl_stencils[_stencil_of(i, variant)])
                for k in range(stencil.hot_holes + stencil.cold_holes):
                    hole = cython.address(wl_stencil_holes[stencil.holes + k])
                    if hole.what == WHAT_CALLEE:
                        _callee_at[i] = hole.offset
                    if hole.what == WHAT_NUMBER and hole.small:
                        _is_checked[_stencil_of(i, variant)] = 1


_fill_tables()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _number(address: cython.p_char, width: cython.int, is_signed: cython.bint) -> int64_t:
    """The number in a field."""
    if width == 2:
        return cython.cast(cython.pointer(uint16_t), address)[0]
    if width == 4:
        if is_signed:
            return cython.cast(cython.pointer(int32_t), address)[0]
        return cython.cast(cython.pointer(uint32_t), address)[0]
    return cython.cast(cython.pointer(int64_t), address)[0]


@cython.cfunc
@cython.exceptval(check=False)
def _fits(number: cython.int, fields: cython.p_char) -> cython.bint:
    """Whether all numbers of an instruction fit a stencil."""
    stencil: cython.pointer(Stencil) = cython.address(wl_stencils[number])
    hole: cython.pointer(Hole) = cython.address(wl_stencil_holes[stencil.holes])
    value: int64_t
    for _ in range(stencil.hot_holes + stencil.cold_holes):
        if hole.what == WHAT_NUMBER and hole.small:
            value = _number(fields + hole.offset, hole.width, hole.is_signed)
            if hole.is_signed:
                if value != cython.cast(int32_t, value):
                    return False
            elif value >= SMALL:
                return False
        hole += 1
    return True


@cython.cfunc
@cython.exceptval(check=False)
def number_of(instruction: cython.p_char) -> cython.int:
    """The number of an instruction's handler."""
    return _numbers[(cython.cast(cython.pointer(uint64_t), instruction)[0] - _low) >> _WORD_UNIT]


@cython.cfunc
@cython.exceptval(check=False)
def size_of(number: cython.int, instruction: cython.p_char) -> uint32_t:
    """The size of an instruction."""
    array: cython.int = wl_instruction_leads[2 * number + 1]
    size: uint32_t = sizes[number]
    if array == ARRAY_TARGETS:
        size += (4 * (cython.cast(uint32_t, _number(instruction + h.AT_BR_TABLE_COUNT, 4, False)) + 1) + 7) & ~7
    elif array == ARRAY_CLAUSES:
        size += h.SIZE_CLAUSE * cython.cast(uint32_t, _number(instruction + h.AT_RESUME_CLAUSE_COUNT, 2, False))
    return size


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _register(pin: cython.int) -> uint32_t:
    """The number of a pin's register."""
    return r.FIRST_INTEGER_PIN + pin - 1 if pin <= r.INTEGER_PINS else r.FIRST_FLOAT_PIN + pin - 1 - r.INTEGER_PINS


@cython.no_gc
@cython.cclass
class Copier(Coder):
    """Makes code of the functions of one module; `begun`: without waiting for a tick first.

    Raises `MemoryError` where there is no address space for it.
    """

    def __cinit__(self, module: DecodedModule, budget: CodeBudget | None, begun: cython.bint) -> None:
        i: uint32_t
        body: uint64_t = 0
        for i in range(module.num_bodies):
            body += module.body_end[i] - module.body_start[i]
        self.count = module.num_bodies
        self.budget = budget
        self.arena = Arena.__new__(
            Arena,
            min(_CODE_RATIO * body, _MOST - (1 << 20)) + (1 << 16),
            min(_DATA_RATIO * body, _MOST - 16 * self.count) + 8 * self.count + (1 << 16),
        )
        self.made = cython.cast(cython.pointer(Made), calloc(self.count + 1, cython.sizeof(Made)))
        if self.made == cython.NULL:
            raise MemoryError
        self.waiting = cython.cast(cython.pointer(uint32_t), calloc(self.count + 1, 4))
        if self.waiting == cython.NULL:
            raise MemoryError
        self.pins = _pins
        self.mix, self.seed, self.mixed = mix, seed, []
        self.begun = begun

    def __dealloc__(self) -> None:
        if self.budget is not None:
            self.budget.give_back(self.counted)
        free(self.made)
        free(self.steps)
        free(self.other_steps)
        free(self.places)
        free(self.entries)
        free(self.patches)
        free(self.waiting)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _make_head(self) -> cython.int:
        """Write what all code refers to: slots, constants, jumps to what is far away. Without room nothing is made."""
        jump: cython.int = _stencil_of(handler_count + 1, VARIANT_PLAIN)
        size: uint64_t = wl_stencils[jump].hot
        slots: uint64_t = (8 * EXTERNAL_COUNT + 15) & ~15
        constants: uint64_t = (wl_stencil_constants_size + 15) & ~15
        head: cython.p_char = self.arena.code(slots + constants + size * EXTERNAL_COUNT)
        step: Step
        slot: cython.p_char
        i: cython.int
        self.ended = head == cython.NULL
        if self.ended:
            return 0
        self.slots = cython.cast(cython.pp_char, head)
        self.constants = head + slots
        self.jumps = head + slots + constants
        memcpy(self.constants, wl_stencil_constants, wl_stencil_constants_size)
        self.code = cython.cast(cython.p_char, cython.address(slot))
        step.stencil = jump
        step.at = 0
        step.size = 8
        step.registers = 0
        for i in range(EXTERNAL_COUNT):
            self.slots[i] = cython.cast(cython.p_char, externals[i])
            slot = cython.cast(cython.p_char, self.slots + i)
            memcpy(self.jumps + size * i, wl_stencil_code + wl_stencils[jump].code, size)
            self._fill(
                cython.address(wl_stencil_holes[wl_stencils[jump].holes]), wl_stencils[jump].hot_holes,
                self.jumps + size * i, self.jumps + size * i, cython.NULL, cython.address(step), cython.NULL,
            )  # fmt: skip
        self.ended = not self.arena.seal()
        return 0

    # --- planning ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _reserve(self, size: uint32_t) -> cython.int:
        """Make room for what is noted of a function with so much bytecode."""
        words: uint64_t = size // 8 + 1
        if words > self.place_room:
            self.places = cython.cast(cython.pointer(uint32_t), grown(self.places, 4 * words))
            self.place_room = words
        if 2 * words > self.step_room:
            self.step_room = 0
            self.steps = cython.cast(cython.pointer(Step), grown(self.steps, 2 * words * cython.sizeof(Step)))
            self.step_room = 2 * words
        self.step_count = 0
        self.entry_count = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _enter_at(self, at: uint32_t) -> cython.int:
        """An instruction is an entry, if there is one."""
        if at >= self.size:
            return 0
        if self.entry_count == self.entry_room:
            room: uint64_t = 2 * self.entry_room + 64
            self.entries = cython.cast(cython.pointer(uint32_t), grown(self.entries, 4 * room))
            self.entry_room = room
        self.entries[self.entry_count] = at
        self.entry_count += 1
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _choose(self, number: cython.int, fields: cython.p_char, order: uint32_t) -> int32_t:
        """The stencil for an instruction, or for a part of one; -1: there is none."""
        stencil: int32_t = _stencil_of(number, VARIANT_PLAIN)
        callee: uint64_t
        if stencil < 0:
            return -1
        if _callee_at[number]:
            callee = cython.cast(
                uint64_t,
                cython.cast(cython.pointer(cython.pp_char), fields + _callee_at[number])[0] - self.cells,
            )
            if callee < self.count and 0 < self.made[callee].order <= order:
                return _stencil_of(number, VARIANT_DIRECT)
        if _is_checked[stencil] and not _fits(stencil, fields):
            stencil = _stencil_of(number, VARIANT_WIDE)
            if stencil >= 0 and _is_checked[stencil] and not _fits(stencil, fields):
                return -1
        return stencil

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _step(self, stencil: int32_t, at: uint32_t, size: uint32_t, registers: uint32_t = 0) -> cython.int:
        if self.step_count == self.step_room:  # never so far: there is room for what instructions of a size can need
            self.steps = cython.cast(
                cython.pointer(Step), grown(self.steps, 2 * self.step_room * cython.sizeof(Step))
            )
            self.step_room *= 2
        self.steps[self.step_count].stencil = stencil
        self.steps[self.step_count].registers = registers
        self.steps[self.step_count].at = at
        self.steps[self.step_count].size = size
        self.step_count += 1
        self.hot += wl_stencils[stencil].hot
        self.cold += wl_stencils[stencil].cold
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _put(self, stencil: int32_t, at: uint32_t, size: uint32_t) -> cython.int:
        """Plan a stencil, reading what it can from registers, and what keeps them right behind it."""
        pinning: cython.pointer(Pinning) = cython.address(wl_pinnings[stencil])
        fields: cython.p_char = self.code + at
        registers: uint32_t = 0
        mask: cython.int = 0
        role: cython.int
        pin: cython.int
        for role in range(pinning.roles):
            pin = self.pins.pin_of[_number(fields + pinning.at[role], 2, False)]
            if pin and (pin > r.INTEGER_PINS) == (pinning.floats >> role & 1):
                mask |= 1 << role
                registers |= (_register(pin) ^ pinning.made[role]) << 4 * role
        self._step(stencil + mask, at, size, registers)
        if pinning.effect == r.EFFECT_ANY:
            for pin in range(self.pins.count):
                self._pin(_LOAD, self.pins.pins[pin], self.pins.fields[pin])
        elif pinning.effect == r.EFFECT_INTEGER or pinning.effect == r.EFFECT_FLOAT or pinning.effect == r.EFFECT_SLOT:
            pin = self.pins.pin_of[_number(fields + pinning.dst, 2, False)]
            if pin:
                same: cython.bint = pinning.effect == (r.EFFECT_FLOAT if pin > r.INTEGER_PINS else r.EFFECT_INTEGER)
                self._pin(_SET if same else _LOAD, pin, at + pinning.dst)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _pin(self, which: cython.int, pin: cython.int, at: uint32_t) -> cython.int:
        """Plan to write a pin, from its slot or from the accumulator; the slot's number is at `at`."""
        stencil: int32_t = _stencil_of(handler_count + which + (pin > r.INTEGER_PINS), VARIANT_PLAIN)
        return self._step(stencil, at, 0, _register(pin) ^ wl_pinnings[stencil].made[0])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _lead(self, number: cython.int, at: uint32_t) -> cython.int:
        """Where an instruction, or a part of one, reads in its fields that it leads to: these are entries."""
        fields: cython.p_char = self.code + at
        target: cython.p_char
        array: cython.int = wl_instruction_leads[2 * number + 1]
        if array == ARRAY_TARGETS:
            target = fields + h.AT_BR_TABLE_TARGETS
            for _ in range(_number(fields + h.AT_BR_TABLE_COUNT, 4, False) + 1):
                self._enter_at(at + cython.cast(int32_t, _number(target, 4, True)))
                target += 4
        elif array == ARRAY_CLAUSES:
            target = fields + h.AT_RESUME_CLAUSES + h.AT_CLAUSE_TARGET
            for _ in range(_number(fields + h.AT_RESUME_CLAUSE_COUNT, 2, False)):
                self._enter_at(at + cython.cast(int32_t, _number(target, 4, True)))
                target += h.SIZE_CLAUSE
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def leave(self, number: cython.int, at: uint32_t, size: uint32_t) -> cython.int:
        """Leave an instruction to its handler: wherever that goes on are entries."""
        first: cython.int = wl_instruction_parts[2 * number]
        second: cython.int = wl_instruction_parts[2 * number + 1]
        target: cython.int
        self.places[at >> 3] |= LEFT
        self._step(_stencil_of(handler_count, VARIANT_PLAIN), at, size)
        self._enter_at(at + size)
        if second >= 0:
            at += sizes[first] - 8
            first = second
        target = wl_instruction_leads[2 * first]
        if target:
            self._enter_at(at + cython.cast(int32_t, _number(self.code + at + target, 4, True)))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _lay_out(self, code: cython.p_char, size: uint32_t, order: uint32_t) -> cython.int:
        """Choose the stencils of a function, without pins."""
        at: uint32_t = 0
        length: uint32_t
        number: cython.int
        first: cython.int
        second: cython.int
        stencil: int32_t
        other: int32_t
        self._reserve(size)
        self.hot = 0
        self.cold = 0
        while at < size:
            number = number_of(code + at)
            length = size_of(number, code + at)
            first = wl_instruction_parts[2 * number]
            second = wl_instruction_parts[2 * number + 1]
            self.places[at >> 3] = self.hot
            stencil = self._choose(first, code + at, order)
            if second < 0:
                if wl_instruction_leads[2 * number + 1]:
                    self._lead(number, at)
                if stencil < 0:
                    self.leave(number, at, length)
                else:
                    self._step(stencil, at, length)
            else:
                other = self._choose(second, code + at + sizes[first] - 8, order)
                if stencil < 0 or other < 0:
                    self.leave(number, at, length)
                else:
                    self._step(stencil, at, sizes[first])
                    self._step(other, at + sizes[first] - 8, sizes[second])
            at += length
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _plan(self, space: CodeSpace, code: cython.p_char, size: uint32_t, order: uint32_t) -> cython.int:
        """Plan the code of a function, which is the how-manieth; `code` is its bytecode as it was translated."""
        self.code = code
        self.size = size
        self.cells = space.cells
        self.pins.clear()
        self._lay_out(code, size, order)
        pinned: cython.int = self.pins.choose(wl_pinnings, self.steps, self.step_count, code, size)
        if self.seed:
            self.mix(self, order)
        if pinned or self.seed:
            self._pin_steps()
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _pin_steps(self) -> cython.int:
        """Plan what has been planned once more, with pins."""
        planned: cython.pointer(Step) = self.steps
        room: uint64_t = self.step_room
        count: uint64_t = self.step_count
        # What is one step may also write all pins, but that has at least two words.
        wanted: uint64_t = (2 + PIN_COUNT // 2) * (self.size // 8 + 1) + PIN_COUNT
        i: uint64_t
        if wanted > self.other_room:
            self.other_room = 0
            self.other_steps = cython.cast(
                cython.pointer(Step), grown(self.other_steps, wanted * cython.sizeof(Step))
            )
            self.other_room = wanted
        self.steps, self.step_room = self.other_steps, self.other_room
        self.other_steps, self.other_room = planned, room
        self.step_count = 0
        self.hot = 0
        self.cold = 0
        for i in range(count):
            self.places[planned[i].at >> 3] = self.hot | (self.places[planned[i].at >> 3] & LEFT)
            self._put(planned[i].stencil, planned[i].at, planned[i].size)
        return 0

    # --- copying ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _fill(
        self,
        hole: cython.pointer(Hole),
        count: cython.int,
        part: cython.p_char,
        hot: cython.p_char,
        cold: cython.p_char,
        step: cython.pointer(Step),
        start: cython.p_char,
    ) -> cython.int:
        """Fill the holes of one part, which is at `part`; `start` is where the function's code begins."""
        fields: cython.p_char = self.code + step.at
        place: cython.p_char
        value: int64_t
        at: uint32_t
        for _ in range(count):
            place = part + hole.at
            if hole.what == WHAT_NUMBER:
                value = hole.scale * _number(fields + hole.offset, hole.width, hole.is_signed)
            elif hole.what == WHAT_CODE:
                at = step.at + cython.cast(int32_t, _number(fields + hole.offset, 4, True))
                value = cython.cast(int64_t, start + (self.places[at >> 3] & PLACE))
            elif hole.what == WHAT_PLACE:
                value = cython.cast(int64_t, fields + hole.offset)
                if hole.offset >= step.size:
                    self._enter_at(step.at + hole.offset)
            elif hole.what == WHAT_TARGET:
                at = step.at + cython.cast(int32_t, _number(fields + hole.offset, 4, True))
                value = cython.cast(int64_t, self.code + at)
                self._enter_at(at)
            elif hole.what == WHAT_POINTER:
                value = _number(fields + hole.offset, 8, True)
            elif hole.what == WHAT_CALLEE:
                value = cython.cast(
                    int64_t,
                    self.made[
                        cython.cast(cython.pointer(cython.pp_char), fields + hole.offset)[0] - self.cells
                    ].start,
                )
            elif hole.what == WHAT_ENTRY:
                value = cython.cast(int64_t, self.entry)
            elif hole.what == WHAT_HOT:
                value = cython.cast(int64_t, hot)
            elif hole.what == WHAT_COLD:
                value = cython.cast(int64_t, cold)
            elif hole.what == WHAT_EXTERNAL_CODE:
                value = cython.cast(
                    int64_t, self.jumps + wl_stencils[_stencil_of(handler_count + 1, VARIANT_PLAIN)].hot * hole.offset
                )
            elif hole.what == WHAT_EXTERNAL_SLOT:
                value = cython.cast(int64_t, self.slots + hole.offset)
            else:
                value = cython.cast(int64_t, self.constants)
            value += hole.addend
            if hole.form == FORM_RELATIVE:
                value -= cython.cast(int64_t, place)
            if hole.form == FORM_DOUBLE_WORD:
                cython.cast(cython.pointer(int64_t), place)[0] = value
            else:
                cython.cast(cython.pointer(int32_t), place)[0] = cython.cast(int32_t, value)
            hole += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _write(self, start: cython.p_char) -> cython.int:
        """Write what has been planned."""
        hot: cython.p_char = start
        cold: cython.p_char = start + self.hot
        stencil: cython.pointer(Stencil)
        holes: cython.pointer(Hole)
        step: cython.pointer(Step)
        i: uint64_t
        for i in range(self.step_count):
            step = cython.address(self.steps[i])
            stencil = cython.address(wl_stencils[step.stencil])
            holes = cython.address(wl_stencil_holes[stencil.holes])
            memcpy(hot, wl_stencil_code + stencil.code, stencil.hot)
            self._fill(holes, stencil.hot_holes, hot, hot, cold, step, start)
            if stencil.cold:
                memcpy(cold, wl_stencil_code + stencil.code + stencil.hot, stencil.cold)
                self._fill(holes + stencil.hot_holes, stencil.cold_holes, cold, hot, cold, step, start)
            if wl_pinnings[step.stencil].count:
                self._set_registers(step, hot, cold)
            hot += stencil.hot
            cold += stencil.cold
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _set_registers(self, step: cython.pointer(Step), hot: cython.p_char, cold: cython.p_char) -> cython.void:
        """Let a stencil have the registers that are wanted, in place of those that it was made for."""
        pinning: cython.pointer(Pinning) = cython.address(wl_pinnings[step.stencil])
        patch: cython.pointer(uint16_t) = wl_patches + pinning.patches
        size: uint32_t = wl_stencils[step.stencil].hot
        at: uint32_t
        bits: uint8_t
        for _ in range(pinning.count):
            at = patch[0] >> 4
            bits = (step.registers >> 4 * (patch[0] & 7) & 15) << (3 if patch[0] & 8 else 0)
            if at < size:
                hot[at] ^= bits
            else:
                cold[at - size] ^= bits
            patch += 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _stub(self, at: cython.p_char, code: cython.p_char) -> cython.int:
        """Write what loads all pins and goes on at `code`."""
        step: Step
        i: cython.int
        pin: cython.int
        self.entry = code
        for i in range(self.pins.count + 1):
            if i < self.pins.count:
                pin = self.pins.pins[i]
                step.stencil = _stencil_of(handler_count + _LOAD + (pin > r.INTEGER_PINS), VARIANT_PLAIN)
                step.at = self.pins.fields[i]
                step.registers = _register(pin) ^ wl_pinnings[step.stencil].made[0]
            else:
                step.stencil = _stencil_of(handler_count + _JUMP, VARIANT_PLAIN)
                step.at = 0
                step.registers = 0
            step.size = 0
            memcpy(at, wl_stencil_code + wl_stencils[step.stencil].code, wl_stencils[step.stencil].hot)
            self._fill(
                cython.address(wl_stencil_holes[wl_stencils[step.stencil].holes]),
                wl_stencils[step.stencil].hot_holes, at, at, cython.NULL, cython.address(step), cython.NULL,
            )  # fmt: skip
            self._set_registers(cython.address(step), at, cython.NULL)
            at += wl_stencils[step.stencil].hot
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def _stub_size(self) -> uint64_t:
        """The size of what `_stub` writes."""
        size: uint64_t = wl_stencils[_stencil_of(handler_count + _JUMP, VARIANT_PLAIN)].hot
        i: cython.int
        for i in range(self.pins.count):
            size += wl_stencils[
                _stencil_of(handler_count + _LOAD + (self.pins.pins[i] > r.INTEGER_PINS), VARIANT_PLAIN)
            ].hot
        return size

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _make_one(self, space: CodeSpace, index: uint32_t) -> cython.int:
        """Make the code of a function; it isn't entered before `_commit`. Gives 1 where there is no room for it."""
        made: cython.pointer(Made) = cython.address(self.made[index])
        has_room: cython.bint
        # What calls itself calls its own code.
        made.order = self.orders + 1
        try:
            self._plan(space, space.codes[index].start, space.codes[index].size, made.order)
            has_room = self._copy(made)
        except MemoryError:
            made.order = 0
            raise
        if not has_room:
            made.order = 0
            return 1
        self.orders += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _copy(self, made: cython.pointer(Made)) -> cython.int:
        """Copy what has been planned, and note what is to lead to it; gives 0 where there is no room for it."""
        code: cython.p_char
        stub: cython.p_char = cython.NULL
        at: uint32_t
        stubs: uint64_t = 0
        size: uint64_t = self.hot + self.cold
        room: uint64_t
        i: uint64_t
        if not self._has_budget(size):
            return 0
        made.start = self.arena.code(size)
        made.hot = self.hot
        made.cold = self.cold
        if made.start == cython.NULL:
            return 0
        self._write(made.start)
        self._enter_at(0)
        self._sort_out_entries()
        # Where control arrives from elsewhere pins are loaded; the function's beginning does so itself.
        if self.pins.count:
            stubs = self._stub_size() * self.entry_count
            stub = self.arena.code(stubs) if self._has_budget(size + stubs) else cython.NULL
            if stub == cython.NULL:
                return 0
        if self.patch_count + self.entry_count > self.patch_room:
            room = 2 * (self.patch_count + self.entry_count)
            self.patches = cython.cast(cython.pointer(Patch), grown(self.patches, room * cython.sizeof(Patch)))
            self.patch_room = room
        if self.budget is not None:
            self.budget.take(size + stubs)
            self.counted += size + stubs
        for i in range(self.entry_count):
            at = self.entries[i]
            code = made.start + (self.places[at >> 3] & PLACE)
            if stub != cython.NULL and at:
                self._stub(stub, code)
                code, stub = stub, stub + self._stub_size()
            self.patches[self.patch_count].word = cython.cast(cython.pointer(uint64_t), self.code + at)
            self.patches[self.patch_count].code = code
            self.patch_count += 1
        return 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _has_budget(self, size: uint64_t) -> cython.bint:
        """Whether the engine may have so much more code."""
        return self.budget is None or self.budget.has(size)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _sort_out_entries(self) -> cython.void:
        """Leave each entry once, and none whose word stays."""
        i: uint64_t
        count: uint64_t = 0
        for i in range(self.entry_count):
            if not self.places[self.entries[i] >> 3] & (LEFT | ENTERED):
                self.places[self.entries[i] >> 3] |= ENTERED
                self.entries[count] = self.entries[i]
                count += 1
        self.entry_count = count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _commit(self) -> cython.int:
        """Let what has been made be entered."""
        i: uint64_t
        if self.arena.seal():
            if self.seed:
                self.mix(self, 0)
            for i in range(self.patch_count):
                self.patches[i].word[0] = cython.cast(uint64_t, self.patches[i].code)
        else:
            self.ended = True
        self.patch_count = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, space: CodeSpace, index: uint32_t) -> cython.int:
        """A function has been translated: its code is made with that of others."""
        if self.ended:
            return 0
        if self.waiting_count == 0:
            want_code()
        self.space = cython.cast(cython.p_void, space)
        self.waiting[self.waiting_count] = index
        self.waiting_count += 1
        self.waiting_bytes += space.codes[index].size
        return self.make(_batch == 0) if self.waiting_bytes >= _batch else 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make(self, at_tick: cython.bint) -> cython.int:
        """Make the code of all that waits, where there is room for it; if nothing has begun, only at a tick."""
        i: uint64_t = self.waiting_count
        self.begun |= at_tick
        if not self.begun or i == 0:
            return 0
        self.waiting_count = 0
        self.waiting_bytes = 0
        if self.slots == cython.NULL and not self.ended:
            self._make_head()
        while i > 0 and not self.ended:
            i -= 1
            if self._make_one(cython.cast(CodeSpace, self.space), self.waiting[i]):
                self.ended = True
        return self._commit()

    # --- finding the way back ---

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_code(self, index: uint32_t) -> cython.bint:
        """Whether a function has code."""
        return self.made[index].order != 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def function_at(self, address: uint64_t) -> int64_t:
        """The function whose code an address lies in, or -1."""
        i: uint32_t
        start: uint64_t
        first: uint64_t = cython.cast(uint64_t, self.arena.base)
        if not first <= address < first + self.arena.code_room:
            return -1  # bytecode, mostly
        for i in range(self.count):
            start = cython.cast(uint64_t, self.made[i].start)
            if self.made[i].order and start <= address < start + self.made[i].hot + self.made[i].cold:
                return i
        return -1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def offset_at(
        self, space: CodeSpace, index: uint32_t, code: cython.p_char, size: uint32_t, address: uint64_t
    ) -> int64_t:
        """The bytecode offset of the instruction whose code is at an address: the function is planned once more."""
        made: cython.pointer(Made) = cython.address(self.made[index])
        stencil: cython.pointer(Stencil)
        hot: uint64_t = address - cython.cast(uint64_t, made.start)
        cold: uint64_t = hot - made.hot
        found: uint32_t = 0
        i: uint64_t
        self._plan(space, code, size, made.order)
        for i in range(self.step_count):
            stencil = cython.address(wl_stencils[self.steps[i].stencil])
            if hot < stencil.hot or (address >= cython.cast(uint64_t, made.start) + made.hot and cold < stencil.cold):
                found = self.steps[i].at
                break
            hot -= stencil.hot
            cold -= stencil.cold
        return found


@cython.cfunc
@cython.exceptval(check=False)
def stencil_at(number: int32_t) -> cython.pointer(Stencil):
    """The stencil of a number."""
    return cython.address(wl_stencils[number])


def stencil_sizes() -> list[tuple[int, int] | None]:
    """For each handler how many bytes of its stencil usually run and how many don't, or None: it has no stencil."""
    i: cython.Py_ssize_t
    stencil: int32_t
    found: list = []
    for i in range(handler_count):
        stencil = _stencil_of(i, VARIANT_PLAIN)
        found.append(None if stencil < 0 else (wl_stencils[stencil].hot, wl_stencils[stencil].cold))
    return found


def stencil_variants() -> list[int]:
    """The numbers of each handler's stencils, and of those that are no handler's: see ``wl_stencil_variants``."""
    i: cython.Py_ssize_t
    found: list = []
    for i in range(VARIANT_COUNT * (handler_count + _LOAD + 2)):
        found.append(wl_stencil_variants[i])
    return found


def set_batch(size: int) -> int:
    """Make code once so much bytecode waits for it, in bytes, for tests; returns what it was before."""
    global _batch
    before = _batch
    _batch = size
    return before
