# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Functions of higher floors that the runtime calls. Each floor registers its own when it is imported.

Importing them where they are needed is no alternative: an import can run finalisers, which may enter the guest; and
nothing can be imported while Python ends. Before a hook is set, nothing exists that would call it.
"""

from __future__ import annotations

from collections.abc import Callable

import cython
from cython.cimports.wasmloom.contract._layout import RT_COUNT
from cython.cimports.wasmloom.runtime.hooks import ChangeTier, MakeCode, Run

# Declared in hooks.pxd.
run_guest = cython.NULL
change_tier = cython.NULL
make_code = cython.NULL
code_wanted = 0
walk_compiled = None
check_at_call = None
look_inside_call = None
take_sample = None
frames_of_entry = None
too_deep = None
python_exception = None
engine_of = None
take_snapshot = None

#: The runtime functions, by position in `layout.RUNTIME_CALLS`, until generated code's own table exists.
_registered = cython.declare(cython.p_void[RT_COUNT])
_table = cython.declare(cython.pp_void, _registered)


@cython.cfunc
@cython.exceptval(check=False)
def set_runtime_call(index: cython.int, function: cython.p_void) -> cython.void:
    """Register the runtime function at `index` of `layout.RUNTIME_CALLS`."""
    _table[index] = function


@cython.cfunc
@cython.exceptval(check=False)
def runtime_call(index: cython.int) -> cython.p_void:
    """The runtime function at `index`; NULL when none is registered yet."""
    return _table[index]


@cython.cfunc
@cython.exceptval(check=False)
def use_runtime_table(table: cython.pp_void) -> cython.void:
    """Fill `table` with all functions registered so far and later. Generated code calls the runtime through it."""
    global _table
    i: cython.int
    for i in range(RT_COUNT):
        table[i] = _table[i]
    _table = table


@cython.cfunc
@cython.exceptval(check=False)
def set_run(function: Run) -> cython.void:
    """Register the function that runs bytecode."""
    global run_guest
    run_guest = function


@cython.cfunc
@cython.exceptval(check=False)
def set_change(function: ChangeTier) -> cython.void:
    """Register the function that lets bytecode go on as compiled code."""
    global change_tier
    change_tier = function


@cython.cfunc
@cython.exceptval(check=False)
def set_make_code(function: MakeCode) -> cython.void:
    """Register the function that makes the code of what has been translated."""
    global make_code
    make_code = function


@cython.cfunc
@cython.exceptval(check=False)
def want_code() -> cython.void:
    """Say that there is more code to be made at the next tick. Call with the GIL."""
    global code_wanted
    code_wanted += 1


def set_walk_compiled(function: Callable[..., list]) -> None:
    """Register what walks the frames of compiled code."""
    global walk_compiled
    walk_compiled = function


def set_check_at_call(function: Callable[..., int]) -> None:
    """Register what decides on a store's tier when it is called."""
    global check_at_call
    check_at_call = function


def set_look_inside_call(function: Callable[..., None]) -> None:
    """Register what looks at a guest that runs, in a store that mixes bytecode and compiled code."""
    global look_inside_call
    look_inside_call = function


def set_take_sample(function: Callable[..., None]) -> None:
    """Register what takes a sample of a guest that is profiled, where its frames can be read."""
    global take_sample
    take_sample = function


def set_backtraces(of_entry: Callable[..., object], of_none: Callable[..., Exception]) -> None:
    """Register what returns a guest's frames, and what makes the error for an entry that there is no room for."""
    global frames_of_entry, too_deep
    frames_of_entry, too_deep = of_entry, of_none


def set_python_exception(function: Callable[..., Exception]) -> None:
    """Register what makes a Python exception of a guest's."""
    global python_exception
    python_exception = function


def set_take_snapshot(function: Callable[..., object]) -> None:
    """Register what takes a snapshot of a store."""
    global take_snapshot
    take_snapshot = function


def set_engine_of(function: Callable[[object], object]) -> None:
    """Register what returns the engine that a store is made with, or raises `TypeError` for what isn't one."""
    global engine_of
    engine_of = function
