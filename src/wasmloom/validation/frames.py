# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The types of a frame's locals and operands at a place in a function's body.

Only the validator knows them: the tiers know just one kind of reference. The body is checked again up to the place.
"""

from __future__ import annotations

from typing import NamedTuple

import cython
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.wasmloom.validation.validator import Validator

from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.types import ValType

#: Instructions that only move control. None of them fails or waits, so a frame that stands at one (because it pays
#: fuel, or has been interrupted) stands behind it.
_MOVES = frozenset(
    row.index
    for row in INSTRUCTIONS
    if row.mnemonic in ("else", "end", "catch", "catch_all")
    or not {"block", "label", "labels", "cast"}.isdisjoint(row.immediates)
)


class FrameTypes(NamedTuple):
    """What a frame holds: locals, parameters first, and operands from the bottom.

    `unset` are the locals that have no value yet. The last `awaited` operands don't exist yet: they are the results of
    the instruction that the frame stands in, whose own operands aren't included.
    """

    locals: tuple[ValType, ...]
    unset: frozenset[int]
    operands: tuple[ValType, ...]
    awaited: int


def types_at(v: Validator, index: int, offset: int) -> FrameTypes:
    """What a frame of function `index` (which counts imports) holds when it stands at an offset in the module.

    The offset is that of an instruction: the frame waits in it (a call, a switch of stacks) or has failed in it; or, if
    it is a `loop` or another one that only moves control, the frame is about to go on behind it. 0 and the offset of
    the body stand for the function's beginning. If nothing can follow the instruction, the operands are those before
    it.

    Raises ValueError where no reachable instruction begins, and what `Validator.check_function` raises.
    """
    body: cython.Py_ssize_t = index - v.module.num_imported_funcs
    place: cython.Py_ssize_t = offset
    before: tuple = ()
    if not 0 <= body < v.module.num_bodies:
        raise IndexError(f"function {index} has no body in this module")
    v.open_body(body)
    if place == 0 or place == v.module.body_start[body]:
        return FrameTypes(_locals(v), _unset(v), (), 0)
    while v.n_frames > 0:
        v.read_next()
        if v.instr.offset >= place:
            break
        v.check_next()
    if v.n_frames == 0 or v.instr.offset != place:
        raise ValueError(f"no instruction of function {index} begins at offset 0x{offset:x}")
    reached = _reached(v)
    if reached:
        before = _operands(v)
    v.check_next()
    if v.n_frames == 0 or _reached(v):  # perhaps by a branch to a block that ends here
        return FrameTypes(_locals(v), _unset(v), _operands(v), 0 if v.instr.op in _MOVES else v.pushed)
    if not reached:
        raise ValueError(f"nothing reaches offset 0x{offset:x} of function {index}")
    return FrameTypes(_locals(v), _unset(v), before, 0)


@cython.cfunc
@cython.exceptval(check=False)
def _reached(v: Validator) -> cython.bint:
    """Whether the validator's place is reachable: nothing has ended control in any of the open blocks."""
    k: cython.size_t = 0
    while k < v.n_frames and not v.frames[k].unreachable:
        k += 1
    return k == v.n_frames


@cython.cfunc
def _operands(v: Validator) -> tuple:
    return tuple([ValType(v.stack[k]) for k in range(v.sp)])


@cython.cfunc
def _locals(v: Validator) -> tuple:
    k: cython.size_t
    start: uint32_t = 0
    found: list = []
    for k in range(v.n_runs):
        found += [ValType(v.runs[k].type)] * (v.runs[k].end - start)
        start = v.runs[k].end
    return tuple(found)


@cython.cfunc
def _unset(v: Validator) -> frozenset:
    return frozenset([k for k in range(v.n_locals) if v.unset[k]] if v.track else [])
