# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Who makes code, and when: copiers for modules, ticks, and what profilers and debuggers are told.

A tick that reaches a guest makes all code that its store waits for. See `wasmloom.baseline.copier` for batches.

Invariant: telling runs Python's code, and with it any signal handler. It does so when a batch is complete, and what it
raises leaves the guest (`wasmloom.runtime.hooks.make_code`).
"""

from __future__ import annotations

import os

import cython
from cython.cimports.cpython.exc import PyErr_Clear, PyErr_ExceptionMatches
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.baseline.copier import Copier
from cython.cimports.wasmloom.baseline.making import Unchecked
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.interpreter.code_space import Coder, CodeSpace
from cython.cimports.wasmloom.runtime.codememory import CodeBudget
from cython.cimports.wasmloom.runtime.hooks import MakeCode, set_make_code
from cython.cimports.wasmloom.runtime.store import Store

from wasmloom.contract import traps
from wasmloom.runtime import forks

_HOST_EXCEPTION = cython.declare(uint64_t, traps.HOST_EXCEPTION)


@cython.final
@cython.no_gc
@cython.cclass
class TellingCopier(Copier):
    """A copier that tells profilers and debuggers about each batch."""

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make(self, at_tick: cython.bint) -> cython.int:
        """Make the code of all that waits, and tell about it; for the first time also about what is in front."""
        i: uint32_t
        first: uint32_t = self.orders
        start: uint64_t = cython.cast(uint64_t, self.arena.sealed)
        functions: list = []
        Copier.make(self, at_tick)
        if cython.cast(uint64_t, self.arena.sealed) == start:
            return 0  # nothing has been made, or it can't be executed
        for i in range(self.count):
            if self.made[i].order > first:
                functions.append((cython.cast(uint64_t, self.made[i].start), i))
        if first == 0:
            start = cython.cast(uint64_t, self.arena.base)
        self.described.extend(
            self.describe(
                cython.cast(CodeSpace, self.space), functions, start, cython.cast(uint64_t, self.arena.sealed)
            )
        )
        return 0


def new_copier(
    module: DecodedModule, budget: CodeBudget | None, begun: bool = True, goes_through: bool = False
) -> Coder | None:
    """What makes the code of a module's functions, or None where there is no memory for code; `begun`: see `Copier`.

    `goes_through`: calls go through cells, also where the callee's code is known: the cells will lead elsewhere.

    Raises `ValueError` for what nobody can be told: see `wasmloom.compiler.perf`.
    """
    copier: Copier
    telling: TellingCopier
    try:
        if os.environ.get("WASMLOOM_PERF"):
            with forks.importing:
                from wasmloom.baseline.described import describer  # few need it

            copier = telling = TellingCopier.__new__(TellingCopier, module, budget, begun)
            telling.describe = describer()
            telling.described = []
        else:
            copier = Copier.__new__(Copier, module, budget, begun)
    except MemoryError:
        return None
    copier.planner.goes_through = goes_through
    return copier


@cython.cfunc
@cython.exceptval(-1, check=False)
def _make_all(store: Store) -> cython.int:
    """Make all code that a store waits for."""
    space: CodeSpace
    for module in list(store.module_at.values()):
        space = module.code_space
        if space.coder is not None:
            space.coder.make(True)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _at_tick(store: cython.p_void) -> uint64_t:
    """See `hooks.make_code`. Where there is no memory, what has been planned so far stays bytecode."""
    if cython.cast(Unchecked, cython.cast(cython.p_void, _make_all))(cython.cast(Store, store)) >= 0:
        return 0
    if PyErr_ExceptionMatches(MemoryError):
        PyErr_Clear()
        return 0
    # While something was told: a file couldn't be written, or a signal came.
    cython.cast(Store, store).take_error()
    return _HOST_EXCEPTION


set_make_code(cython.cast(MakeCode, cython.cast(cython.p_void, _at_tick)))
