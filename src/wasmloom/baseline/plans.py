# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""How code is put together, for whoever looks at it: a function is planned once more, as after a fault."""

from __future__ import annotations

from typing import NamedTuple

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.baseline._stencils_object import Stencil
from cython.cimports.wasmloom.baseline.copier import Copier
from cython.cimports.wasmloom.baseline.pinning import Step
from cython.cimports.wasmloom.baseline.planner import Made, Planner, only_pins, stencils
from cython.cimports.wasmloom.interpreter.code_space import CodeSpace
from cython.cimports.wasmloom.system.allocation import grown


class PlannedStep(NamedTuple):
    """A stencil of a function."""

    #: Where there is code: addresses of what usually runs and of the rest, else 0; their sizes in bytes.
    usual: int
    usual_size: int
    apart: int
    apart_size: int
    #: Its number; see `wl_stencil_variants`.
    stencil: int
    #: The offset in the bytecode of the instruction, or the part of one, that it is for; None: it only writes a pin.
    at: int | None
    #: The offset that its fields count from.
    fields: int
    #: For each role four bits that the register's number differs in from what the stencil was made for.
    registers: int


class Plan(NamedTuple):
    """How the code of a function is, or would be, put together."""

    steps: list[PlannedStep]
    #: Slots that are in registers, and the numbers of the pins.
    pins: list[tuple[int, int]]
    #: Bytecode offsets where control can arrive from elsewhere.
    entries: list[int]


def planned(space: CodeSpace, index: int) -> Plan:
    """The plan of function `index` of those defined in the module. Raises `ValueError` where there can't be code."""
    copier: Copier = space.coder
    if copier is None:
        raise ValueError("there is no memory for code")
    code: bytes = space.bytecode(index)[0]
    made: Made = copier.made[cython.cast(uint32_t, index)]
    hot: uint64_t = cython.cast(uint64_t, made.start) if made.order else 0
    cold: uint64_t = hot + made.hot if hot else 0
    steps: cython.pointer(Step) = cython.NULL
    stencil: cython.pointer(Stencil)
    step: Step
    i: uint64_t
    # Lists of ints: making tuples could run finalisers, which could plan another function.
    slots: list = []
    numbers: list = []
    entries: list = []
    found: list = []
    planner: Planner = copier.planner
    planner.cells = space.cells
    planner.plan(code, len(code), made.order)
    planner.sort_out_entries()
    count: uint64_t = planner.step_count
    try:
        steps = cython.cast(cython.pointer(Step), grown(cython.NULL, count * cython.sizeof(Step)))
        memcpy(steps, planner.steps, count * cython.sizeof(Step))
        for i in range(planner.entry_count):
            entries.append(planner.entries[i])
        for i in range(planner.pins.count):
            slots.append(planner.pins.slots[i])
            numbers.append(planner.pins.pins[i])
        for i in range(count):
            step, stencil = steps[i], cython.address(stencils[steps[i].stencil])
            found.append(
                PlannedStep(
                    hot, stencil.hot, cold, stencil.cold, step.stencil,
                    None if only_pins(step.stencil) else step.at, step.at, step.registers,
                )
            )  # fmt: skip
            if hot:
                hot, cold = hot + stencil.hot, cold + stencil.cold
    finally:
        free(steps)
    return Plan(found, list(zip(slots, numbers, strict=True)), entries)
