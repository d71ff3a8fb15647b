# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Which slots of a function are pinned: those that it reads most often, weighted by how many loops that is in.

Only functions with loops have pins: in others nothing is read more often than it would have to be loaded. One pass over
the stencils that have been planned notes reads and writes in order; a branch back is a loop, which everything since its
target is in. A pin costs a load wherever control arrives from elsewhere, above all behind calls, and a move for each
write, and must be worth that.

The choice depends on nothing but the bytecode and its stencils: it is made again where an address in code is looked up.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.baseline._roles import (
    EFFECT_AWAY,
    EFFECT_FLOAT,
    EFFECT_INTEGER,
    EFFECT_SLOT,
    EFFECT_UNFIT,
    INTEGER_PINS,
)
from cython.cimports.wasmloom.baseline._stencils_object import Pinning
from cython.cimports.wasmloom.baseline.pinning import PIN_COUNT, Step
from cython.cimports.wasmloom.system.allocation import calloc, grown

_SLOTS = cython.declare(uint64_t, 65536)
#: A noted read or write: where its field is, in the low bits; 0: control goes away.
_AT = cython.declare(uint32_t, (1 << 29) - 1)
_IS_WRITE = cython.declare(uint32_t, 1 << 29)
_IS_FLOAT = cython.declare(uint32_t, 1 << 30)
_IS_WORD = cython.declare(uint32_t, 1 << 31)
#: An instruction in so many loops is taken to run so many times as often as in one less; deeper ones no more often.
_MOST_LOOPS = cython.declare(int32_t, 4)
_TURNS = cython.declare(int64_t, 8)
#: What a read is worth, and what a write costs.
_READ = cython.declare(int64_t, 10)
_WRITE = cython.declare(int64_t, 4)
#: An instruction has at most so many of both.
_MOST_NOTES = cython.declare(uint64_t, 5)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _slot(code: cython.p_char, at: uint32_t) -> uint16_t:
    return cython.cast(cython.pointer(uint16_t), code + at)[0]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _back(pinning: cython.pointer(Pinning), step: cython.pointer(Step), code: cython.p_char) -> int64_t:
    """Where a branch back leads, or -1: it is none."""
    distance: int32_t
    if pinning.target == 0:
        return -1
    distance = cython.cast(cython.pointer(int32_t), code + step.at + pinning.target)[0]
    return cython.cast(int64_t, step.at) + distance if distance <= 0 else -1


@cython.final
@cython.no_gc
@cython.cclass
class Pins:
    """The pins of the function at hand. Used with the GIL held; nothing in here runs code of Python."""

    def __cinit__(self) -> None:
        self.pin_of = cython.cast(cython.pointer(uint8_t), calloc(_SLOTS, 1))
        self.worth = cython.cast(cython.pointer(int64_t), calloc(_SLOTS, 8))
        self.floatness = cython.cast(cython.pointer(int64_t), calloc(_SLOTS, 8))
        if self.pin_of == cython.NULL or self.worth == cython.NULL or self.floatness == cython.NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.pin_of)
        free(self.worth)
        free(self.floatness)
        free(self.log)
        free(self.deeper)
        free(self.firsts)

    @cython.cfunc
    @cython.exceptval(check=False)
    def clear(self) -> cython.void:
        """Nothing is pinned."""
        i: cython.int
        for i in range(self.count):
            self.pin_of[self.slots[i]] = 0
        self.count = 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def choose(
        self,
        pinnings: cython.pointer(Pinning),
        steps: cython.pointer(Step),
        count: uint64_t,
        code: cython.p_char,
        size: uint64_t,
    ) -> cython.int:
        """Choose the pins of a function whose `count` stencils have been planned without; gives how many."""
        i: uint64_t
        loops: cython.bint = False
        for i in range(count):
            if pinnings[steps[i].stencil].effect == EFFECT_UNFIT:
                return 0
            if _back(cython.address(pinnings[steps[i].stencil]), cython.address(steps[i]), code) >= 0:
                loops = True
        if not loops or size > _AT:
            return 0
        if _MOST_NOTES * count > self.log_room:
            self.log_room = 0
            self.log = cython.cast(cython.pointer(uint32_t), grown(self.log, 4 * _MOST_NOTES * count))
            self.deeper = cython.cast(cython.pointer(int32_t), grown(self.deeper, 4 * (_MOST_NOTES * count + 1)))
            self.log_room = _MOST_NOTES * count
        if size // 8 + 1 > self.first_room:
            self.first_room = 0
            self.firsts = cython.cast(cython.pointer(uint32_t), grown(self.firsts, 4 * (size // 8 + 1)))
            self.first_room = size // 8 + 1
        return self._take(self._note(pinnings, steps, count, code), code)

    @cython.cfunc
    @cython.exceptval(check=False)
    def _note(
        self, pinnings: cython.pointer(Pinning), steps: cython.pointer(Step), count: uint64_t, code: cython.p_char
    ) -> uint64_t:
        """Note what the stencils read and write, and the loops; gives how many notes there are.

        A loop is noted where it begins and ends, not for all that is in it: there may be as many as instructions.
        """
        i: uint64_t
        length: uint64_t = 0
        before: uint64_t
        role: cython.int
        back: int64_t
        kind: uint32_t
        pinning: cython.pointer(Pinning)
        self.deeper[0] = 0
        for i in range(count):
            pinning = cython.address(pinnings[steps[i].stencil])
            before = length
            self.firsts[steps[i].at >> 3] = length
            if pinning.roles == 2 and pinning.at[0] == pinning.at[1]:  # a word, which may be in either class
                self.log[length] = (steps[i].at + pinning.at[0]) | _IS_WORD
                length += 1
            else:
                for role in range(pinning.roles):
                    kind = _IS_FLOAT if pinning.floats >> role & 1 else 0
                    self.log[length] = (steps[i].at + pinning.at[role]) | kind
                    length += 1
            if pinning.effect == EFFECT_INTEGER or pinning.effect == EFFECT_SLOT:
                self.log[length] = (steps[i].at + pinning.dst) | _IS_WRITE | _IS_WORD
                length += 1
            elif pinning.effect == EFFECT_FLOAT:
                self.log[length] = (steps[i].at + pinning.dst) | _IS_WRITE | _IS_FLOAT
                length += 1
            elif pinning.effect == EFFECT_AWAY:
                self.log[length] = 0
                length += 1
            memset(self.deeper + before + 1, 0, 4 * (length - before))
            back = _back(pinning, cython.address(steps[i]), code)
            if back >= 0:
                self.deeper[self.firsts[back >> 3]] += 1
                self.deeper[length] -= 1
        return length

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _take(self, length: uint64_t, code: cython.p_char) -> cython.int:
        """Pin the slots that are worth it, as far as there are registers; gives how many."""
        weights: int64_t[8]
        best: int64_t[PIN_COUNT]
        at: uint32_t[PIN_COUNT]
        i: uint64_t
        note: uint32_t
        slot: uint16_t
        weight: int64_t
        cost: int64_t = 0
        depth: int32_t = 0
        first: cython.int
        end: cython.int
        place: cython.int
        weights[0] = _READ
        for place in range(1, _MOST_LOOPS + 1):
            weights[place] = weights[place - 1] * _TURNS
        for i in range(length):
            note = self.log[i]
            depth += self.deeper[i]
            weight = weights[min(depth, _MOST_LOOPS)]
            if note == 0:
                cost += weight
                continue
            slot = _slot(code, note & _AT)
            if note & _IS_WRITE:
                self.worth[slot] -= weight * _WRITE // _READ
                weight = 1  # it says what class the slot has, unless reads do
            else:
                self.worth[slot] += weight
            if not note & _IS_WORD:
                self.floatness[slot] += weight if note & _IS_FLOAT else -weight
        for place in range(PIN_COUNT):
            best[place] = cost
            at[place] = 0
        for i in range(length):
            note = self.log[i]
            if note == 0:
                continue
            slot = _slot(code, note & _AT)
            weight = self.worth[slot]
            self.worth[slot] = 0  # it is seen once
            first = INTEGER_PINS if self.floatness[slot] > 0 else 0
            end = PIN_COUNT if first else INTEGER_PINS
            self.floatness[slot] = 0
            if weight <= best[end - 1]:
                continue
            place = end - 1
            while place > first and best[place - 1] < weight:
                best[place] = best[place - 1]
                at[place] = at[place - 1]
                place -= 1
            best[place] = weight
            at[place] = note & _AT
        for place in range(PIN_COUNT):
            if at[place]:
                self.fields[self.count] = at[place]
                self.slots[self.count] = _slot(code, at[place])
                self.pins[self.count] = place + 1
                self.pin_of[_slot(code, at[place])] = place + 1
                self.count += 1
        return self.count
