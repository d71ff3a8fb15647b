# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""For tests: code and handlers take turns, wherever they can.

Usually control leaves code where an instruction has no stencil, and comes back at the next entry: few of the places
where it could do so ever see it. With `set_mixing` many instructions that have stencils are left to their handlers, and
entries lead to their code or to their handlers in turn (`entries`). With odd numbers slots are pinned wherever there
are loops, worth it or not: in small programs few are. All of that follows from the number, so it can be had again, and
the way back from code is found.

Who doesn't import this module pays one look at a pointer for each function. It changes C structs of the planner and the
copier, so it is built with them, and can't be among the tests.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int16_t, uint32_t, uint64_t
from cython.cimports.wasmloom.baseline import copier as copiers
from cython.cimports.wasmloom.baseline import planner as planners
from cython.cimports.wasmloom.baseline._roles import EFFECT_AWAY, EFFECT_END
from cython.cimports.wasmloom.baseline.copier import Copier, Patch
from cython.cimports.wasmloom.baseline.pinning import Step
from cython.cimports.wasmloom.baseline.planner import LEFT, Planner, instruction_leads, number_of, pinnings, size_of
from cython.cimports.wasmloom.interpreter.code_space import CodeSpace

#: How functions are mixed: see `_leave_some`.
_STYLES = cython.declare(cython.int, 5)


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _mixed(x: uint64_t) -> uint64_t:
    """A number in which each bit depends on all of another one's."""
    x = (x ^ (x >> 30)) * cython.cast(uint64_t, 0xBF58476D1CE4E5B9)
    x = (x ^ (x >> 27)) * cython.cast(uint64_t, 0x94D049BB133111EB)
    return x ^ (x >> 31)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _leave_some(planner: Planner, chance: uint64_t) -> cython.int:
    """Leave some instructions of the function that has been planned to their handlers.

    In one function these are all that go elsewhere, in others every second one of all, every fourth and so on.
    """
    count: uint64_t = planner.step_count
    i: uint64_t = 0
    end: uint64_t
    number: cython.int
    effect: cython.int
    is_left: cython.bint
    leads: cython.pointer(int16_t)
    step: Step
    rare: uint64_t = (1 << (chance % _STYLES)) - 1
    planner.step_count = 0
    while i < count:
        # The stencils of an instruction: of a fused one there are two.
        step = planner.steps[i]
        number = number_of(planner.code + step.at)
        end = i + 1
        while end < count and planner.steps[end].at < step.at + size_of(number, planner.code + step.at):
            end += 1
        effect = pinnings[planner.steps[end - 1].stencil].effect
        if planner.places[step.at >> 3] & LEFT:
            is_left = False
        elif rare:
            is_left = _mixed(chance ^ step.at) & rare == 0
        else:
            leads = instruction_leads + 2 * number
            is_left = effect == EFFECT_AWAY or effect == EFFECT_END or leads[0] or leads[1]
        # Pins have been chosen: where the frame moves there are none, also if that isn't planned any more.
        if is_left:
            planner.leave(number, step.at, size_of(number, planner.code + step.at))
            i = end
        while i < end:
            planner.steps[planner.step_count] = planner.steps[i]
            planner.step_count += 1
            i += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _note_entries(copier: Copier) -> cython.int:
    """See `copier.Turn`. Note the entries that are going to lead to their code; some of them don't yet."""
    i: uint64_t
    before: uint64_t
    patch: cython.pointer(Patch)
    for i in range(copier.patch_count):
        patch = cython.address(copier.patches[i])
        before = patch.word[0]
        copier.mixed.append((cython.cast(uint64_t, patch.word), before, cython.cast(uint64_t, patch.code)))
        if _mixed(copier.planner.seed ^ len(copier.mixed)) & 3 == 0:
            patch.code = cython.cast(cython.p_char, before)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _mix(planner: Planner, order: uint32_t) -> cython.int:
    """See `planner.Mix`."""
    return _leave_some(planner, _mixed(planner.seed + order))


def set_mixing(seed: int) -> int:
    """Have the code of modules that are made from now on mixed, as follows from a number; 0: not at all.

    Returns the number before.
    """
    before: uint64_t = planners.seed
    planners.mix = _mix
    planners.seed = seed
    copiers.turn = _note_entries
    return before


def turn_entries(space: CodeSpace, seed: int) -> int:
    """Let each entry of a module lead to its code or to its handler, as follows from a number; says how many there are.

    Guests may run meanwhile, in other threads, too.
    """
    number: uint64_t = seed
    copier: Copier
    word: uint64_t
    handler: uint64_t
    code: uint64_t
    if space.coder is None:  # the tier is another one, or there was no memory for code
        return 0
    copier = space.coder
    for word, handler, code in copier.mixed:
        cython.cast(cython.pointer(uint64_t), word)[0] = code if _mixed(number + word) & 1 else handler
    return len(copier.mixed)
