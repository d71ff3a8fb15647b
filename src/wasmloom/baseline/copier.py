# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The copier: makes a function's machine code of stencils (`baseline.generator`), as `baseline.planner` has planned it.

Bytecode stays what runs; its code only makes that faster. Code has the frame, slots and registers of the interpreter.
An instruction begins with the address of its handler, where interpreter and code go on when control arrives there from
elsewhere: at a function's beginning, a loop's header, behind a call, where a `resume` or a `catch` leads. When the code
of a function is there, the instructions at such *entries* get the addresses of their code in the place of their
handler's, one by one: each of these words is right at any time, so other threads may run meanwhile. What has no stencil
is left to its handler, by its address; so its word is never replaced.

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
from cython.cimports.libc.stdint import int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.baseline._holes import (
    EXTERNAL_COUNT,
    FORM_DOUBLE_WORD,
    FORM_RELATIVE,
    VARIANT_COUNT,
    VARIANT_PLAIN,
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
from cython.cimports.wasmloom.baseline._stencils_object import Hole, Number, Stencil
from cython.cimports.wasmloom.baseline.copier import USUAL, Patch
from cython.cimports.wasmloom.baseline.pinning import Step
from cython.cimports.wasmloom.baseline.planner import (
    EXTRA_COUNT,
    PINNED,
    PLACE,
    PREPARED,
    Made,
    Planner,
    constants,
    constants_size,
    patches,
    pin_register,
    pin_stencil,
    stencil_code,
    stencil_holes,
    stencil_numbers,
    stencil_of,
    stencils,
)
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.interpreter.code_space import Coder, CodeSpace
from cython.cimports.wasmloom.interpreter.machine import externals, handler_count
from cython.cimports.wasmloom.runtime.arena import Arena
from cython.cimports.wasmloom.runtime.codememory import CodeBudget
from cython.cimports.wasmloom.runtime.hooks import want_code
from cython.cimports.wasmloom.system.allocation import calloc, grown

#: With so much bytecode waiting code is made at once.
_batch = cython.declare(uint64_t, 1 << 15)
#: So much address space is reserved for code, and for bytecode and cells, for each byte of a module's bodies; and not
#: more than that in all. What exceeds it stays bytecode.
_CODE_RATIO = cython.declare(uint64_t, 24)
_DATA_RATIO = cython.declare(uint64_t, 16)
_MOST = cython.declare(uint64_t, 1 << 30)


#: A stencil that is no instruction's, by its place behind these: see `generator.EXTRA`.
_JUMP = cython.declare(cython.int, 2)


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
@cython.inline
@cython.exceptval(check=False)
def _fill_numbers(
    number: cython.pointer(Number), count: cython.int, fields: cython.p_char, part: cython.p_char
) -> cython.void:
    """Fill the holes for numbers."""
    value: uint32_t
    for _ in range(count):
        value = cython.cast(cython.pointer(uint32_t), fields + number.read_from)[0] >> number.shift
        cython.cast(cython.pointer(uint32_t), part + number.at)[0] = value * number.scale + number.addend
        number += 1


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
        self.mixed = []
        self.planner = Planner.__new__(Planner)
        self.planner.made = self.made
        self.planner.count = self.count
        self.begun = begun

    def __dealloc__(self) -> None:
        if self.budget is not None:
            self.budget.give_back(self.counted)
        free(self.made)
        free(self.patches)
        free(self.waiting)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _make_head(self) -> cython.int:
        """Write what all code refers to: slots, constants, jumps to what is far away. Without room nothing is made."""
        jump: cython.int = stencil_of(handler_count + 1, VARIANT_PLAIN)
        size: uint64_t = stencils[jump].hot
        slots: uint64_t = (8 * EXTERNAL_COUNT + 15) & ~15
        room: uint64_t = (constants_size + 15) & ~15
        head: cython.p_char = self.arena.code(slots + room + size * EXTERNAL_COUNT)
        step: Step
        slot: cython.p_char
        i: cython.int
        self.ended = head == cython.NULL
        if self.ended:
            return 0
        self.slots = cython.cast(cython.pp_char, head)
        self.constants = head + slots
        self.jumps = head + slots + room
        memcpy(self.constants, constants, constants_size)
        self.planner.code = cython.cast(cython.p_char, cython.address(slot))
        step.stencil = jump
        step.at = 0
        step.registers = 0
        for i in range(EXTERNAL_COUNT):
            self.slots[i] = cython.cast(cython.p_char, externals[i])
            slot = cython.cast(cython.p_char, self.slots + i)
            self._copy(cython.address(step), self.jumps + size * i)
        self.ended = not self.arena.seal()
        return 0

    # --- copying ---

    @cython.cfunc
    @cython.exceptval(check=False)
    def _fill(
        self,
        hole: cython.pointer(Hole),
        count: cython.int,
        part: cython.p_char,
        hot: cython.p_char,
        cold: cython.p_char,
        step: cython.pointer(Step),
        start: cython.p_char,
    ) -> cython.void:
        """Fill other holes of one part, which is at `part`; `start` is where the function's code begins."""
        fields: cython.p_char = self.planner.code + step.at
        place: cython.p_char
        value: int64_t
        distance: int32_t
        at: uint32_t
        for _ in range(count):
            place = part + hole.at
            if hole.what == WHAT_NUMBER:
                value = hole.scale * _number(fields + hole.offset, hole.width, hole.is_signed)
            elif hole.what == WHAT_CODE:
                distance = _number(fields + hole.offset, 4, True)
                at = self.planner.places[(step.at + distance) >> 3]
                value = cython.cast(int64_t, start + (at & PLACE))
                if at & PREPARED and distance < 0:  # pins are loaded
                    value += self.planner.loads
            elif hole.what == WHAT_PLACE:
                value = cython.cast(int64_t, fields + hole.offset)
            elif hole.what == WHAT_TARGET:
                value = cython.cast(int64_t, fields + _number(fields + hole.offset, 4, True))
            elif hole.what == WHAT_POINTER:
                value = _number(fields + hole.offset, 8, True)
            elif hole.what == WHAT_CALLEE:
                value = cython.cast(
                    int64_t,
                    self.made[
                        cython.cast(cython.pointer(cython.pp_char), fields + hole.offset)[0] - self.planner.cells
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
                    int64_t, self.jumps + stencils[stencil_of(handler_count + 1, VARIANT_PLAIN)].hot * hole.offset
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

    @cython.cfunc
    @cython.exceptval(check=False)
    def _write(self, start: cython.p_char) -> cython.void:
        """Write what has been planned."""
        hot: cython.p_char = start
        end: cython.p_char = start + self.planner.hot
        cold: cython.p_char = end
        code: cython.p_char = self.planner.code
        source: cython.p_char
        stencil: cython.pointer(Stencil)
        holes: cython.pointer(Hole)
        step: cython.pointer(Step) = self.planner.steps
        for _ in range(self.planner.step_count):
            stencil = cython.address(stencils[step.stencil])
            source = stencil_code + stencil.code
            if end - hot >= USUAL:
                # What is too much is overwritten by the following ones.
                memcpy(hot, source, USUAL)
                if stencil.hot > USUAL:
                    memcpy(hot + USUAL, source + USUAL, stencil.hot - USUAL)
            else:
                memcpy(hot, source, stencil.hot)
            _fill_numbers(
                cython.address(stencil_numbers[stencil.numbers]), stencil.number_count, code + step.at, hot
            )
            if stencil.hot_holes | stencil.cold:
                holes = cython.address(stencil_holes[stencil.holes])
                self._fill(holes, stencil.hot_holes, hot, hot, cold, step, start)
                if stencil.cold:
                    memcpy(cold, source + stencil.hot, stencil.cold)
                    self._fill(holes + stencil.hot_holes, stencil.cold_holes, cold, hot, cold, step, start)
            if step.registers:
                self._set_registers(step, hot, cold)
            hot += stencil.hot
            cold += stencil.cold
            step += 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _set_registers(self, step: cython.pointer(Step), hot: cython.p_char, cold: cython.p_char) -> cython.void:
        """Let a stencil have the registers that are wanted, in place of those that it was made for."""
        stencil: cython.pointer(Stencil) = cython.address(stencils[step.stencil])
        patch: cython.pointer(uint16_t) = patches + stencil.patches
        at: uint32_t
        bits: uint8_t
        for _ in range(stencil.patch_count):
            at = patch[0] >> 4
            bits = (step.registers >> 4 * (patch[0] & 7) & 15) << (3 if patch[0] & 8 else 0)
            if at < stencil.hot:
                hot[at] ^= bits
            else:
                cold[at - stencil.hot] ^= bits
            patch += 1

    @cython.cfunc
    @cython.exceptval(check=False)
    def _copy(self, step: cython.pointer(Step), at: cython.p_char) -> cython.p_char:
        """Write one stencil that is no instruction's; gives where it ends."""
        stencil: cython.pointer(Stencil) = cython.address(stencils[step.stencil])
        memcpy(at, stencil_code + stencil.code, stencil.hot)
        _fill_numbers(
            cython.address(stencil_numbers[stencil.numbers]), stencil.number_count, self.planner.code + step.at, at
        )
        self._fill(
            cython.address(stencil_holes[stencil.holes]), stencil.hot_holes, at, at, cython.NULL, step, cython.NULL
        )
        self._set_registers(step, at, cython.NULL)
        return at + stencil.hot

    @cython.cfunc
    @cython.exceptval(check=False)
    def _stub(self, at: cython.p_char, code: cython.p_char) -> cython.void:
        """Write what loads all pins and goes on at `code`."""
        step: Step
        i: cython.int
        for i in range(self.planner.pins.count):
            step.stencil = pin_stencil(True, self.planner.pins.pins[i])
            step.at = self.planner.pins.fields[i]
            step.registers = pin_register(self.planner.pins.pins[i], step.stencil)
            at = self._copy(cython.address(step), at)
        step.stencil = stencil_of(handler_count + _JUMP, VARIANT_PLAIN)
        step.at = 0
        step.registers = 0
        self.entry = code
        self._copy(cython.address(step), at)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _note_patches(self, start: cython.p_char) -> cython.int:
        """Note the entries of what is going to be at `start`, each once; gives how many of them need stubs."""
        planner: Planner = self.planner
        patch: cython.pointer(Patch)
        place: uint32_t
        room: uint64_t
        i: uint64_t
        stubs: cython.int = 0
        planner.sort_out_entries()
        if self.patch_count + planner.entry_count > self.patch_room:
            room = 2 * (self.patch_count + planner.entry_count)
            self.patches = cython.cast(cython.pointer(Patch), grown(self.patches, room * cython.sizeof(Patch)))
            self.patch_room = room
        for i in range(planner.entry_count):
            place = planner.places[planner.entries[i] >> 3]
            patch = cython.address(self.patches[self.patch_count + i])
            patch.word = cython.cast(cython.pointer(uint64_t), planner.code + planner.entries[i])
            patch.code = start + (place & PLACE)
            # Where a loop begins pins are loaded anyway.
            patch.needs_stub = planner.pins.count > 0 and place & (PINNED | PREPARED) == PINNED
            stubs += patch.needs_stub
        self.patch_count += planner.entry_count
        return stubs

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _make_one(self, space: CodeSpace, index: uint32_t) -> cython.int:
        """Make the code of a function; it isn't entered before `_commit`. Gives 1 where there is no room for it."""
        made: cython.pointer(Made) = cython.address(self.made[index])
        planner: Planner = self.planner
        first: uint64_t = self.patch_count
        start: cython.p_char
        stub: cython.p_char
        stub_size: uint64_t
        size: uint64_t
        i: uint64_t
        # What calls itself calls its own code, which is going to be where the arena's ends.
        start = self.arena.code_end
        made.order = self.orders + 1
        made.start = start
        try:
            planner.cells = space.cells
            planner.plan(space.codes[index].start, space.codes[index].size, made.order)
            made.hot = planner.hot
            made.cold = planner.cold
            stub_size = planner.loads + stencils[stencil_of(handler_count + _JUMP, VARIANT_PLAIN)].hot
            size = made.hot + made.cold + stub_size * self._note_patches(start)
        except MemoryError:
            made.order = 0
            self.patch_count = first
            raise
        if (
            made.hot > PLACE
            or (self.budget is not None and not self.budget.has(size))
            or self.arena.code(size) == cython.NULL
        ):
            made.order = 0
            self.patch_count = first
            return 1
        if self.budget is not None:
            self.budget.take(size)
            self.counted += size
        self.orders += 1
        self._write(start)
        stub = start + made.hot + made.cold
        for i in range(first, self.patch_count):
            if self.patches[i].needs_stub:
                self._stub(stub, self.patches[i].code)
                self.patches[i].code = stub
                stub += stub_size
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _commit(self) -> cython.int:
        """Let what has been made be entered."""
        i: uint64_t
        if self.arena.seal():
            if self.planner.seed:
                turn(self)
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
        self.planner.cells = space.cells
        self.planner.plan(code, size, made.order)
        for i in range(self.planner.step_count):
            stencil = cython.address(stencils[self.planner.steps[i].stencil])
            if hot < stencil.hot or (address >= cython.cast(uint64_t, made.start) + made.hot and cold < stencil.cold):
                found = self.planner.steps[i].at
                break
            hot -= stencil.hot
            cold -= stencil.cold
        return found


def stencil_sizes() -> list[tuple[int, int] | None]:
    """For each handler how many bytes of its stencil usually run and how many don't, or None: it has no stencil."""
    i: cython.Py_ssize_t
    stencil: int32_t
    found: list = []
    for i in range(handler_count):
        stencil = stencil_of(i, VARIANT_PLAIN)
        found.append(None if stencil < 0 else (stencils[stencil].hot, stencils[stencil].cold))
    return found


def stencil_variants() -> list[int]:
    """The numbers of each handler's stencils, and of those that are no handler's: see ``wl_stencil_variants``."""
    i: cython.Py_ssize_t
    variant: cython.int
    found: list = []
    for i in range(handler_count + EXTRA_COUNT):
        for variant in range(VARIANT_COUNT):
            found.append(stencil_of(i, variant))
    return found


def set_batch(size: int) -> int:
    """Make code once so much bytecode waits for it, in bytes, for tests; returns what it was before."""
    global _batch
    before = _batch
    _batch = size
    return before
