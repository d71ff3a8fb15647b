# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The plan of a function's code: which stencils it is made of, where the code of each instruction is, and its entries.

One pass over the bytecode chooses stencils and adds up their sizes. Nearly all that an instruction needs is looked up
by its handler (`Known`); those that need more (calls, whose callees may have code; what has no stencil, or leads to
others by addresses; numbers that may not fit) take the longer way. Where there are pins, what lies from the first loop
on is planned once more.

Which instructions are entries follows from the stencils: one whose address is used for anything but a trap is one,
since something will jump there; so are those that lie behind, or are a target of, an instruction that is left to its
handler.

**Loops.** Pins hold in loops. Where one begins that isn't in another one, code loads all pins first. What comes from
elsewhere arrives at the loads, also branches that lead forward; branches back go past them. So nothing else gets into a
loop: a target lies in a loop only if its branch does, since labels are nested.

The same bytecode and order give the same plan.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.baseline._holes import (
    ARRAY_CLAUSES,
    ARRAY_TARGETS,
    LEADS_BEHIND,
    LEADS_TO_TARGET,
    SMALL,
    VARIANT_COUNT,
    VARIANT_DIRECT,
    VARIANT_PLAIN,
    VARIANT_WIDE,
    WHAT_CALLEE,
)
from cython.cimports.wasmloom.baseline._roles import (
    EFFECT_ANY,
    EFFECT_FLOAT,
    EFFECT_INTEGER,
    EFFECT_SLOT,
    EFFECT_UNFIT,
    FIRST_FLOAT_PIN,
    FIRST_INTEGER_PIN,
    INTEGER_PINS,
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
    wl_stencil_numbers,
    wl_stencil_variants,
    wl_stencils,
)
from cython.cimports.wasmloom.baseline.pinning import BEGINS, ENDED, PIN_COUNT, Pins, Step
from cython.cimports.wasmloom.baseline.planner import (
    CAREFUL,
    ENTERED,
    LEFT,
    NOWHERE,
    PINNED,
    PREPARED,
    SURELY_SMALL,
    UNFIT,
    WORD_UNIT,
    Known,
)
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.interpreter.machine import handler_count, handlers, sizes
from cython.cimports.wasmloom.system.allocation import calloc, grown

stencil_code = wl_stencil_code
stencils = wl_stencils
stencil_numbers = wl_stencil_numbers
stencil_holes = wl_stencil_holes
pinnings = wl_pinnings
patches = wl_patches
instruction_leads = wl_instruction_leads
constants = wl_stencil_constants
constants_size = wl_stencil_constants_size

# By a handler's address: its number; its instruction's size, which the next one can be had with before all else.
_low = cython.declare(uint64_t, 0)
_numbers = cython.declare(cython.pointer(int16_t), cython.NULL)
_sizes = cython.declare(cython.pointer(uint8_t), cython.NULL)
#: By handler.
_known = cython.declare(cython.pointer(Known), cython.NULL)
_pins = cython.declare(Pins, Pins.__new__(Pins))  # of the function that is being planned, by whichever planner
_callee_at = cython.declare(cython.pointer(uint16_t), cython.NULL)

#: Stencils that are no instructions', by their places behind these: see `generator.EXTRA`. The latter are followed by
#: those for floats.
_SET = cython.declare(cython.int, 3)
_LOAD = cython.declare(cython.int, 5)


@cython.cfunc
@cython.exceptval(check=False)
def stencil_of(number: cython.int, variant: cython.int) -> int32_t:
    """The stencil of a handler, or of one of `generator.EXTRA`."""
    return wl_stencil_variants[VARIANT_COUNT * number + variant]


@cython.cfunc
@cython.exceptval(check=False)
def pin_stencil(loads: cython.bint, pin: cython.int) -> int32_t:
    """What loads a pin from its slot, or sets it to the accumulator."""
    return stencil_of(handler_count + (_LOAD if loads else _SET) + (pin > INTEGER_PINS), VARIANT_PLAIN)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _register(pin: cython.int) -> uint32_t:
    """The number of a pin's register."""
    return FIRST_INTEGER_PIN + pin - 1 if pin <= INTEGER_PINS else FIRST_FLOAT_PIN + pin - 1 - INTEGER_PINS


@cython.cfunc
@cython.exceptval(check=False)
def only_pins(stencil: int32_t) -> cython.bint:
    """Whether a stencil is one of those."""
    return stencil_of(handler_count + _SET, VARIANT_PLAIN) <= stencil <= pin_stencil(True, PIN_COUNT)


@cython.cfunc
@cython.exceptval(check=False)
def pin_register(pin: cython.int, stencil: int32_t) -> uint32_t:
    """What the number of a pin's register differs in from that of what loads or sets it."""
    return _register(pin) ^ wl_pinnings[stencil].made[0]


# --- what is known of handlers ---


@cython.cfunc
@cython.exceptval(check=False)
def _look_up(number: cython.int) -> Known:
    """What is known of a handler."""
    first: cython.int = wl_instruction_parts[2 * number]
    second: cython.int = wl_instruction_parts[2 * number + 1]
    known: Known
    part: cython.int
    i: cython.int
    count: cython.int = 0
    stencil: cython.pointer(Stencil)
    known.count = 1 if second < 0 else 2
    known.stencil = stencil_of(first, VARIANT_PLAIN)
    known.second = 0 if second < 0 else stencil_of(second, VARIANT_PLAIN)
    known.shift = 0 if second < 0 else sizes[first] - 8
    known.hot = known.cold = 0
    known.small[0] = known.small[1] = known.target = NOWHERE
    known.flags = CAREFUL if wl_instruction_leads[2 * number + 1] else 0
    if wl_instruction_leads[2 * (first if second < 0 else second)]:
        known.target = known.shift + wl_instruction_leads[2 * (first if second < 0 else second)]
    for part in range(known.count):
        if (known.second if part else known.stencil) < 0:
            known.flags |= CAREFUL
            continue
        stencil = cython.address(wl_stencils[known.second if part else known.stencil])
        known.hot += stencil.hot
        known.cold += stencil.cold
        if _callee_at[second if part else first] or stencil.leads or stencil.narrow[0]:
            known.flags |= CAREFUL
        if wl_pinnings[known.second if part else known.stencil].effect == EFFECT_UNFIT:
            known.flags |= UNFIT
        for i in range(2):
            if stencil.small[i]:
                if count == 2:
                    known.flags |= CAREFUL
                else:
                    known.small[count] = stencil.small[i] + (known.shift if part else 0)
                    count += 1
    return known


def _fill_tables() -> None:
    """What is looked up for each instruction."""
    global _low, _numbers, _sizes, _callee_at, _known
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    count: cython.Py_ssize_t = handler_count
    stencil: cython.pointer(Stencil)
    hole: cython.pointer(Hole)
    high: uint64_t = 0
    _low = ~cython.cast(uint64_t, 0)
    for i in range(count):
        _low = min(_low, cython.cast(uint64_t, handlers[i]))
        high = max(high, cython.cast(uint64_t, handlers[i]))
    _numbers = cython.cast(cython.pointer(int16_t), calloc(((high - _low) >> WORD_UNIT) + 1, 2))
    _callee_at = cython.cast(cython.pointer(uint16_t), calloc(count, 2))
    _known = cython.cast(cython.pointer(Known), calloc(count, cython.sizeof(Known)))
    _sizes = cython.cast(cython.pointer(uint8_t), calloc(((high - _low) >> WORD_UNIT) + 1, 1))
    if _numbers == cython.NULL or _sizes == cython.NULL or _callee_at == cython.NULL or _known == cython.NULL:
        raise MemoryError
    for i in range(count):
        if sizes[i] >= 1 << 8:
            raise ValueError("an instruction's size doesn't fit a byte")
        _numbers[(cython.cast(uint64_t, handlers[i]) - _low) >> WORD_UNIT] = i
        _sizes[(cython.cast(uint64_t, handlers[i]) - _low) >> WORD_UNIT] = sizes[i]
        if stencil_of(i, VARIANT_DIRECT) >= 0:
            stencil = cython.address(wl_stencils[stencil_of(i, VARIANT_DIRECT)])
            for k in range(stencil.hot_holes + stencil.cold_holes):
                hole = cython.address(wl_stencil_holes[stencil.holes + k])
                if hole.what == WHAT_CALLEE:
                    _callee_at[i] = hole.offset
    for i in range(count):
        _known[i] = _look_up(i)


_fill_tables()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _distance(field: cython.p_char) -> int32_t:
    return cython.cast(cython.pointer(int32_t), field)[0]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _slot(field: cython.p_char) -> uint16_t:
    return cython.cast(cython.pointer(uint16_t), field)[0]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _count_at(field: cython.p_char) -> uint32_t:
    return cython.cast(cython.pointer(uint32_t), field)[0]


@cython.cfunc
@cython.exceptval(check=False)
def _fits(number: cython.int, fields: cython.p_char) -> cython.bint:
    """Whether all numbers of an instruction fit a stencil."""
    stencil: cython.pointer(Stencil) = cython.address(wl_stencils[number])
    value: int64_t
    i: cython.int
    for i in range(2):
        if stencil.small[i] and _count_at(fields + stencil.small[i]) >= cython.cast(uint32_t, SMALL):
            return False
        if stencil.narrow[i]:
            value = cython.cast(cython.pointer(int64_t), fields + stencil.narrow[i])[0]
            if value != cython.cast(int32_t, value):
                return False
    return True


@cython.cfunc
@cython.exceptval(check=False)
def number_of(instruction: cython.p_char) -> cython.int:
    """The number of an instruction's handler."""
    return _numbers[(cython.cast(cython.pointer(uint64_t), instruction)[0] - _low) >> WORD_UNIT]


@cython.cfunc
@cython.exceptval(check=False)
def size_of(number: cython.int, instruction: cython.p_char) -> uint32_t:
    """The size of an instruction."""
    array: cython.int = wl_instruction_leads[2 * number + 1]
    size: uint32_t = sizes[number]
    if array == ARRAY_TARGETS:
        size += (4 * (_count_at(instruction + h.AT_BR_TABLE_COUNT) + 1) + 7) & ~7
    elif array == ARRAY_CLAUSES:
        size += h.SIZE_CLAUSE * cython.cast(uint32_t, _slot(instruction + h.AT_RESUME_CLAUSE_COUNT))
    return size


@cython.final
@cython.no_gc
@cython.cclass
class Planner:
    """Plans functions of one module. Used with the GIL held; nothing in here runs code of Python.

    `made` and `count` are set by its owner. Raises `MemoryError`.
    """

    def __cinit__(self) -> None:
        self.pins = _pins
        self.mix, self.seed = mix, seed

    def __dealloc__(self) -> None:
        free(self.steps)
        free(self.other_steps)
        free(self.places)
        free(self.entries)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def plan(self, code: cython.p_char, size: uint32_t, order: uint32_t) -> cython.int:
        """Plan the code of a function, which is the how-manieth; `code` is its bytecode as it was translated."""
        low: uint64_t = 0
        pinned: cython.int = 0
        high: uint64_t
        middle: uint64_t
        self.code = code
        self.size = size
        self.pins.clear()
        self.pins.eager = self.seed & 1
        self.loads = 0
        self._reserve(size)
        if not self._lay_out(order) & UNFIT and self.pins.find_loops(size):
            high = self.step_count
            while low < high:  # the first step of a loop
                middle = (low + high) // 2
                if self.steps[middle].at < self.pins.first:
                    low = middle + 1
                else:
                    high = middle
            pinned = self.pins.choose(wl_pinnings, self.steps + low, self.step_count - low, code)
        if self.seed:
            self.mix(self, order)
            self._pin_steps(0)
        elif pinned:
            self._pin_steps(low)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _reserve(self, size: uint32_t) -> cython.int:
        """Make room for what is noted of a function with so much bytecode."""
        words: uint64_t = size // 8 + 1
        if words > self.place_room:
            self.places = cython.cast(cython.pointer(uint32_t), grown(self.places, 4 * words))
            self.place_room = words
        if 2 * words > self.step_room:  # an instruction has a word at least, and two stencils at most
            self.step_room = 0
            self.steps = cython.cast(cython.pointer(Step), grown(self.steps, 2 * words * cython.sizeof(Step)))
            self.step_room = 2 * words
        self.step_count = 0
        self.entry_count = 0
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def enter_at(self, at: uint32_t) -> cython.int:
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
    @cython.exceptval(-1, check=False)
    def sort_out_entries(self) -> cython.int:
        """Leave each entry once, and none whose word stays. The beginning is one, too."""
        place: cython.pointer(uint32_t)
        i: uint64_t
        count: uint64_t = 0
        self.enter_at(0)
        for i in range(self.entry_count):
            place = self.places + (self.entries[i] >> 3)
            if not place[0] & (LEFT | ENTERED):
                place[0] |= ENTERED
                self.entries[count] = self.entries[i]
                count += 1
        self.entry_count = count
        return 0

    # --- the longer way ---

    @cython.cfunc
    @cython.exceptval(check=False)
    def _choose(self, number: cython.int, fields: cython.p_char, order: uint32_t) -> int32_t:
        """The stencil for an instruction, or for a part of one; -1: there is none."""
        stencil: int32_t = stencil_of(number, VARIANT_PLAIN)
        callee: uint64_t
        if stencil < 0:
            return -1
        if _callee_at[number] and not self.goes_through:
            callee = cython.cast(
                uint64_t,
                cython.cast(cython.pointer(cython.pp_char), fields + _callee_at[number])[0] - self.cells,
            )
            if callee < self.count and 0 < self.made[callee].order <= order:
                return stencil_of(number, VARIANT_DIRECT)
        if not _fits(stencil, fields):
            stencil = stencil_of(number, VARIANT_WIDE)
            if stencil >= 0 and not _fits(stencil, fields):
                return -1
        return stencil

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _step(self, stencil: int32_t, at: uint32_t, registers: uint32_t = 0) -> cython.void:
        """Plan a stencil; there is room."""
        step: cython.pointer(Step) = cython.address(self.steps[self.step_count])
        step.stencil = stencil
        step.at = at
        step.registers = registers
        self.step_count += 1
        self.hot += wl_stencils[stencil].hot
        self.cold += wl_stencils[stencil].cold

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _use(self, stencil: int32_t, number: cython.int, at: uint32_t) -> cython.int:
        """Plan a stencil of an instruction, or of a part of one. What it leads to by addresses are entries."""
        leads: cython.int = wl_stencils[stencil].leads
        self._step(stencil, at)
        if leads & LEADS_BEHIND:
            self.enter_at(at + sizes[number])
        if leads & LEADS_TO_TARGET:
            self.enter_at(at + _distance(self.code + at + wl_instruction_leads[2 * number]))
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _lead(self, number: cython.int, at: uint32_t) -> cython.int:
        """Where an instruction reads in its array that it leads to: these are entries."""
        fields: cython.p_char = self.code + at
        target: cython.p_char
        array: cython.int = wl_instruction_leads[2 * number + 1]
        if array == ARRAY_TARGETS:
            target = fields + h.AT_BR_TABLE_TARGETS
            for _ in range(_count_at(fields + h.AT_BR_TABLE_COUNT) + 1):
                self.enter_at(at + _distance(target))
                target += 4
        elif array == ARRAY_CLAUSES:
            target = fields + h.AT_RESUME_CLAUSES + h.AT_CLAUSE_TARGET
            for _ in range(_slot(fields + h.AT_RESUME_CLAUSE_COUNT)):
                self.enter_at(at + _distance(target))
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
        self._step(stencil_of(handler_count, VARIANT_PLAIN), at)
        self.enter_at(at + size)
        if second >= 0:
            at += sizes[first] - 8
            first = second
        target = wl_instruction_leads[2 * first]
        if target:
            self.enter_at(at + _distance(self.code + at + target))
        return 0

    @cython.cfunc
    @cython.exceptval(0, check=False)
    def _look(self, number: cython.int, at: uint32_t, order: uint32_t) -> uint32_t:
        """Choose the stencils of an instruction; gives its size."""
        fields: cython.p_char = self.code + at
        size: uint32_t = size_of(number, fields)
        first: cython.int = wl_instruction_parts[2 * number]
        second: cython.int = wl_instruction_parts[2 * number + 1]
        stencil: int32_t = self._choose(first, fields, order)
        other: int32_t = 0
        if second >= 0:
            other = self._choose(second, fields + sizes[first] - 8, order)
        self._lead(number, at)
        if stencil < 0 or other < 0:
            self.leave(number, at, size)
        else:
            self._use(stencil, first, at)
            if second >= 0:
                self._use(other, second, at + sizes[first] - 8)
        return size

    # --- planning ---

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _lay_out(self, order: uint32_t) -> cython.int:
        """Choose the stencils of a function, without pins; gives the flags of all."""
        at: uint32_t = 0
        size: uint32_t = self.size
        length: uint32_t
        hot: uint32_t = 0
        cold: uint32_t = 0
        number: cython.int
        flags: cython.int = 0
        word: uint64_t
        low: uint64_t = _low
        numbers: cython.pointer(int16_t) = _numbers
        lengths: cython.pointer(uint8_t) = _sizes
        knowns: cython.pointer(Known) = _known
        code: cython.p_char = self.code
        instruction: cython.p_char
        places: cython.pointer(uint32_t) = self.places
        step: cython.pointer(Step) = self.steps
        known: cython.pointer(Known)
        while at < size:
            instruction = code + at
            word = (cython.cast(cython.pointer(uint64_t), instruction)[0] - low) >> WORD_UNIT
            number = numbers[word]
            length = lengths[word]
            known = knowns + number
            places[at >> 3] = hot
            if known.flags & CAREFUL or (
                _count_at(instruction + known.small[0]) | _count_at(instruction + known.small[1])
            ) >= SURELY_SMALL:
                self.step_count = step - self.steps
                self.hot = hot
                self.cold = cold
                length = self._look(number, at, order)
                step = self.steps + self.step_count
                hot = self.hot
                cold = self.cold
            else:
                step.stencil = known.stencil
                step.at = at
                step.registers = 0
                # If there is a second one.
                step[1].stencil = known.second
                step[1].at = at + known.shift
                step[1].registers = 0
                step += known.count
                hot += known.hot
                cold += known.cold
            flags |= known.flags
            if _distance(instruction + known.target) < 0:
                self.pins.back(at + known.shift + _distance(instruction + known.target), at + length)
            at += length
        self.step_count = step - self.steps
        self.hot = hot
        self.cold = cold
        return flags

    @cython.cfunc
    @cython.exceptval(check=False)
    def _put(self, stencil: int32_t, at: uint32_t) -> cython.void:
        """Plan a stencil, reading what it can from registers, and what keeps them right behind it."""
        pinning: cython.pointer(Pinning) = cython.address(wl_pinnings[stencil])
        fields: cython.p_char = self.code + at
        registers: uint32_t = 0
        mask: cython.int = 0
        role: cython.int
        pin: cython.int
        for role in range(pinning.roles):
            pin = self.pins.pin_of[_slot(fields + pinning.at[role])]
            if pin and (pin > INTEGER_PINS) == (pinning.floats >> role & 1):
                mask |= 1 << role
                registers |= (_register(pin) ^ pinning.made[role]) << 4 * role
        self._step(stencil + mask, at, registers)
        if pinning.effect == EFFECT_ANY:
            self._load_pins()
        elif pinning.effect == EFFECT_INTEGER or pinning.effect == EFFECT_FLOAT or pinning.effect == EFFECT_SLOT:
            pin = self.pins.pin_of[_slot(fields + pinning.dst)]
            if pin:
                stencil = pin_stencil(
                    pinning.effect != (EFFECT_FLOAT if pin > INTEGER_PINS else EFFECT_INTEGER), pin
                )
                self._step(stencil, at + pinning.dst, pin_register(pin, stencil))

    @cython.cfunc
    @cython.exceptval(check=False)
    def _load_pins(self) -> cython.void:
        """Plan to load all pins."""
        i: cython.int
        stencil: int32_t
        for i in range(self.pins.count):
            stencil = pin_stencil(True, self.pins.pins[i])
            self._step(stencil, self.pins.fields[i], pin_register(self.pins.pins[i], stencil))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _pin_steps(self, first: uint64_t) -> cython.int:
        """Plan what has been planned once more, with pins, from a step on."""
        count: uint64_t = self.step_count - first
        turns: cython.pointer(uint32_t) = self.pins.turns
        last: uint32_t = self.pins.last
        depth: uint32_t = 0
        turn: uint32_t
        i: uint64_t
        step: Step
        if count > self.other_room:
            self.other_room = 0
            self.other_steps = cython.cast(cython.pointer(Step), grown(self.other_steps, count * cython.sizeof(Step)))
            self.other_room = count
        memcpy(self.other_steps, self.steps + first, count * cython.sizeof(Step))
        self.step_count = first
        for i in range(self.pins.count):
            self.loads += wl_stencils[pin_stencil(True, self.pins.pins[i])].hot
        self.hot = self.cold = 0
        for i in range(first):
            self.hot += wl_stencils[self.steps[i].stencil].hot
            self.cold += wl_stencils[self.steps[i].stencil].cold
        for i in range(count):
            step = self.other_steps[i]
            # What one stencil may become, and what may come before it.
            if self.step_count + 2 * PIN_COUNT + 1 > self.step_room:
                self.steps = cython.cast(
                    cython.pointer(Step),
                    grown(self.steps, 2 * (self.step_room + PIN_COUNT) * cython.sizeof(Step)),
                )
                self.step_room = 2 * (self.step_room + PIN_COUNT)
            self.places[step.at >> 3] = self.hot | (self.places[step.at >> 3] & LEFT)
            if step.at >= last:
                depth = 0
            elif turns[step.at >> 3]:
                turn = turns[step.at >> 3]
                depth -= turn >> ENDED
                if turn & BEGINS:
                    if depth == 0:
                        self.places[step.at >> 3] |= PREPARED
                        self._load_pins()
                    depth += 1
            if depth:
                self.places[step.at >> 3] |= PINNED
                self._put(step.stencil, step.at)
            else:
                self._step(step.stencil, step.at)
        return 0
