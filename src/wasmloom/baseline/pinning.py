# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Which slots of a function are pinned: those that its loops read most often, weighted by how many loops that is in.

Slots are pinned in loops only: elsewhere nothing is read more often than it would have to be loaded. What a branch back
encloses is a loop, from where it leads to up to the last one that leads there. A pass over the stencils that have been
planned for loops adds up reads and writes. A pin costs a load wherever control arrives from elsewhere, above all behind
calls, and a move for each write, and must be worth that.

The choice depends on nothing but the bytecode and its stencils: it is made again where an address in code is looked up.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.wasmloom.baseline._roles import (
    EFFECT_AWAY,
    EFFECT_DOUBLE,
    EFFECT_FLOAT,
    EFFECT_INTEGER,
    EFFECT_SLOT,
    INTEGER_PINS,
)
from cython.cimports.wasmloom.baseline._stencils_object import Pinning
from cython.cimports.wasmloom.baseline.pinning import BEGINS, ENDED, PIN_COUNT, Back, Step, Worth
from cython.cimports.wasmloom.system.allocation import calloc, grown

_SLOTS = cython.declare(uint64_t, 65536)
#: An instruction in so many loops is taken to run so many times as often as in one less; deeper ones no more often.
_MOST_LOOPS = cython.declare(cython.int, 4)
_TURNS = cython.declare(int64_t, 8)
#: What a read is worth, and what a write costs.
_READ = cython.declare(int64_t, 10)
_WRITE = cython.declare(int64_t, 4)
#: Less than anything costs, but for what is never worth it: so much that nothing adds up to it.
_NEVER = cython.declare(int64_t, 1 << 62)
_LEAST = cython.declare(int64_t, -(1 << 61))


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _slot(code: cython.p_char, at: uint32_t) -> uint16_t:
    return cython.cast(cython.pointer(uint16_t), code + at)[0]


@cython.final
@cython.no_gc
@cython.cclass
class Pins:
    """The pins of the function at hand. Used with the GIL held; nothing in here runs code of Python."""

    def __cinit__(self) -> None:
        self.pin_of = cython.cast(cython.pointer(uint8_t), calloc(_SLOTS, 1))
        self.worth = cython.cast(cython.pointer(Worth), calloc(_SLOTS, cython.sizeof(Worth)))
        self.seen = cython.cast(cython.pointer(uint32_t), calloc(_SLOTS, 4))
        if self.pin_of == cython.NULL or self.worth == cython.NULL or self.seen == cython.NULL:
            raise MemoryError

    def __dealloc__(self) -> None:
        free(self.pin_of)
        free(self.worth)
        free(self.seen)
        free(self.backs)
        free(self.turns)

    @cython.cfunc
    @cython.exceptval(check=False)
    def clear(self) -> cython.void:
        """Nothing is pinned, and there are no loops."""
        i: uint64_t
        for i in range(self.count):
            self.pin_of[self.slots[i]] = 0
        self.count = 0
        if self.first < self.last:
            for i in range(self.back_count):
                self.turns[self.backs[i].header >> 3] = 0
                self.turns[self.backs[i].end >> 3] = 0
        self.back_count = 0
        self.first = self.last = 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def back(self, header: uint32_t, end: uint32_t) -> cython.int:
        """There is a branch back, and none further behind that was named before."""
        if self.back_count == self.back_room:
            room: uint64_t = 2 * self.back_room + 64
            self.backs = cython.cast(cython.pointer(Back), grown(self.backs, room * cython.sizeof(Back)))
            self.back_room = room
        self.backs[self.back_count].header = header
        self.backs[self.back_count].end = end
        self.back_count += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def find_loops(self, size: uint64_t) -> cython.int:
        """Note in `turns` where loops begin and end; gives whether there are any."""
        i: uint64_t = self.back_count
        back: cython.pointer(Back)
        turns: cython.pointer(uint32_t)
        if i == 0:
            return 0
        if size // 8 + 1 > self.turn_room:
            turns = cython.cast(cython.pointer(uint32_t), calloc(size // 8 + 1, 4))
            if turns == cython.NULL:
                raise MemoryError
            free(self.turns)
            self.turns = turns
            self.turn_room = size // 8 + 1
        self.first = size
        self.last = self.backs[i - 1].end
        while i > 0:  # the last one of those that lead to the same first
            i -= 1
            back = cython.address(self.backs[i])
            if not self.turns[back.header >> 3] & BEGINS:
                self.turns[back.header >> 3] += BEGINS
                self.turns[back.end >> 3] += 1 << ENDED
                self.first = min(self.first, back.header)
        return 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def choose(
        self,
        pinnings: cython.pointer(cython.const[Pinning]),
        steps: cython.pointer(cython.const[Step]),
        count: uint64_t,
        code: cython.p_char,
    ) -> cython.int:
        """Choose the pins of a function with loops, whose first one `steps` begin with; gives how many."""
        weights: int64_t[8]
        weight: int64_t = 0
        cost: int64_t = 0
        i: uint64_t
        depth: uint32_t = 0
        turn: uint32_t
        role: cython.int
        step: Step
        pinning: cython.pointer(cython.const[Pinning])
        self.seen_count = 0
        weights[0] = 0
        weights[1] = _TURNS
        for role in range(2, _MOST_LOOPS + 1):
            weights[role] = weights[role - 1] * _TURNS
        for i in range(count):
            step = steps[i]
            if step.at >= self.last:
                break
            turn = self.turns[step.at >> 3]
            if turn:
                depth += (turn & BEGINS) - (turn >> ENDED)
                weight = weights[min(depth, cython.cast(uint32_t, _MOST_LOOPS))]
            if depth == 0:
                continue
            pinning = cython.address(pinnings[step.stencil])
            if pinning.roles == 2 and pinning.at[0] == pinning.at[1]:  # a word, which may be in either class
                self._note(code, step.at + pinning.at[0], weight, 0)
            else:
                for role in range(pinning.roles):
                    self._note(
                        code, step.at + pinning.at[role], weight, weight if pinning.floats >> role & 1 else -weight
                    )
            if pinning.effect == EFFECT_DOUBLE:
                self._note(code, step.at + pinning.dst, -_NEVER, 0)
                self._add(_slot(code, step.at + pinning.dst) + 1, step.at + pinning.dst, -_NEVER, 0)
            elif pinning.effect == EFFECT_INTEGER or pinning.effect == EFFECT_SLOT:
                self._note(code, step.at + pinning.dst, -(weight * _WRITE // _READ), 0)
            elif pinning.effect == EFFECT_FLOAT:  # that says what class the slot has, unless reads do
                self._note(code, step.at + pinning.dst, -(weight * _WRITE // _READ), 1)
            elif pinning.effect == EFFECT_AWAY:
                cost += weight
        return self._take(cost, code)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _note(self, code: cython.p_char, at: uint32_t, worth: int64_t, floatness: int64_t) -> cython.void:
        """The slot whose number is at `at` is read or written."""
        self._add(_slot(code, at), at, worth, floatness)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(check=False)
    def _add(self, slot: uint32_t, at: uint32_t, worth: int64_t, floatness: int64_t) -> cython.void:
        """A slot is read or written. Its number is at `at`, unless it will never be pinned."""
        note: cython.pointer(Worth) = cython.address(self.worth[slot])
        if note.at == 0:
            note.at = at
            self.seen[self.seen_count] = slot
            self.seen_count += 1
        note.worth = max(note.worth + worth, -_NEVER)
        note.floatness += floatness

    @cython.cfunc
    @cython.exceptval(check=False)
    def _take(self, cost: int64_t, code: cython.p_char) -> cython.int:
        """Pin the slots that are worth it, as far as there are registers; gives how many."""
        best: int64_t[PIN_COUNT]
        at: uint32_t[PIN_COUNT]
        i: uint64_t
        note: cython.pointer(Worth)
        worth: Worth
        first: cython.int
        place: cython.int
        for place in range(PIN_COUNT):
            best[place] = _LEAST if self.eager else cost
            at[place] = 0
        for i in range(self.seen_count):
            note = cython.address(self.worth[self.seen[i]])
            worth = note[0]
            note.worth = note.floatness = note.at = 0
            first = INTEGER_PINS if worth.floatness > 0 else 0
            place = PIN_COUNT if first else INTEGER_PINS
            if worth.worth <= best[place - 1]:
                continue
            place -= 1
            while place > first and best[place - 1] < worth.worth:
                best[place] = best[place - 1]
                at[place] = at[place - 1]
                place -= 1
            best[place] = worth.worth
            at[place] = worth.at
        for place in range(PIN_COUNT):
            if at[place]:
                self.fields[self.count] = at[place]
                self.slots[self.count] = _slot(code, at[place])
                self.pins[self.count] = place + 1
                self.pin_of[_slot(code, at[place])] = place + 1
                self.count += 1
        return self.count
