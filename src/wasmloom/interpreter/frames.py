# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Frames of bytecode, from outside: walks down the stacks, from wherever guest code stands.

A frame knows its function's return ip; the call before that ip knows how far below the caller's frame begins. So a walk
needs nothing but the code, and does what the interpreter does when functions return.
"""

from __future__ import annotations

from bisect import bisect_right

import cython
from cython.cimports.libc.stdint import uint16_t, uint64_t
from cython.cimports.wasmloom.contract._handlers import (
    AT_RESTORE_SAVE,
    DELTA_BEFORE_RETURN,
    H_LEAVE,
    H_RESTORE,
    H_SHIM,
)
from cython.cimports.wasmloom.contract._layout import SLOT_BYTES, WlCont
from cython.cimports.wasmloom.interpreter.frames import (
    CALLER,
    END_OF_BYTECODE,
    END_OF_CONTINUATION,
    END_OF_ENTRY,
    Below,
    Cursor,
)
from cython.cimports.wasmloom.interpreter.machine import cont_return_code, cross_code, handlers

from wasmloom.interpreter.code_space import find, function_at
from wasmloom.runtime.frames import OFFSETS, GuestFrame


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def to_caller(cursor: cython.pointer(Cursor), return_ip: uint64_t) -> Below:
    """Go from a frame to its caller's, or say which end of the stack is below: then it stays where it is.

    What a return does: a `shim` moves the results down and brings the instance back, `restore` brings the instance back
    behind a call that has left it.
    """
    fp: uint64_t = _below(cursor.fp, return_ip)
    instance: uint64_t = cursor.instance
    cursor.results = cursor.fp
    while _word(return_ip) == cython.cast(uint64_t, handlers[H_SHIM]):
        # A tail call that left the instance: the original caller is further down.
        cursor.results = fp
        instance = _word(fp + SLOT_BYTES)
        return_ip = _word(fp)
        fp = _below(fp, return_ip)
    if return_ip == cython.cast(uint64_t, cont_return_code + 1):
        return END_OF_CONTINUATION
    if _word(return_ip) == cython.cast(uint64_t, handlers[H_LEAVE]):
        return END_OF_ENTRY
    if return_ip == cython.cast(uint64_t, cross_code + DELTA_BEFORE_RETURN):
        return END_OF_BYTECODE
    if _word(return_ip) == cython.cast(uint64_t, handlers[H_RESTORE]):
        instance = _word(fp + SLOT_BYTES * _number(return_ip + AT_RESTORE_SAVE))
    cursor.ip = return_ip - 1
    cursor.fp = fp
    cursor.instance = instance
    return CALLER


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def calling_instance(fp: uint64_t, return_ip: uint64_t) -> uint64_t:
    """The instance whose bytecode has called a host function, whose frame is at `fp` and returns to `return_ip`; or 0.

    A call of the host leaves the instance, always: so it returns to a `restore`, or, if it is a tail call, to a `shim`
    (see `_tail_call_out` in `control_handlers`). Both know the instance.
    """
    frame: uint64_t = _below(fp, return_ip)
    if _word(return_ip) == cython.cast(uint64_t, handlers[H_SHIM]):
        return _word(frame + SLOT_BYTES)
    if _word(return_ip) == cython.cast(uint64_t, handlers[H_RESTORE]):
        return _word(frame + SLOT_BYTES * _number(return_ip + AT_RESTORE_SAVE))
    return 0


def shims(fp: uint64_t, return_ip: uint64_t) -> list[tuple[int, int]]:
    """The shims between the frame at `fp`, which returns to `return_ip`, and the frame below: of tail calls that have
    left their instances. Each is where its instruction is, and the instance; the one that was put there last comes
    first."""
    found: list = []
    frame: uint64_t = _below(fp, return_ip)
    while _word(return_ip) == cython.cast(uint64_t, handlers[H_SHIM]):
        found.append((return_ip, _word(frame + SLOT_BYTES)))
        return_ip = _word(frame)
        frame = _below(frame, return_ip)
    return found


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _below(fp: uint64_t, return_ip: uint64_t) -> uint64_t:
    """The frame of the caller to whom the frame at `fp` returns at `return_ip`."""
    return fp - SLOT_BYTES * _number(return_ip - DELTA_BEFORE_RETURN)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _number(address: uint64_t) -> uint64_t:
    return cython.cast(cython.pointer(uint16_t), address)[0]


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _word(address: uint64_t) -> uint64_t:
    return cython.cast(cython.pointer(uint64_t), address)[0]


@cython.cfunc
@cython.exceptval(-1, check=False)
def _down(
    cursor: cython.pointer(Cursor),
    return_ip: uint64_t,
    cont: cython.pointer(cython.pointer(WlCont)),
    last: cython.pointer(WlCont),
    across: list | None,
) -> cython.bint:
    """Go to the caller, also from a continuation to what waits for it in a `resume`; False where nothing is below.

    `last` is the stack at whose end the walk ends. Where it ends at compiled code, `across` gets the stack that is on.
    """
    below: Below = to_caller(cursor, return_ip)
    parent: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cont[0].parent)
    if below == CALLER:
        return True
    if below == END_OF_BYTECODE and across is not None:
        across.append(cython.cast(uint64_t, cont[0]))
    if below == END_OF_BYTECODE or below == END_OF_ENTRY or cont[0] == last or parent == cython.NULL:
        return False
    cursor.ip = cython.cast(uint64_t, parent.ip) - 1
    cursor.fp = cython.cast(uint64_t, parent.stack_base) + parent.fp
    cursor.instance = cython.cast(uint64_t, parent.instance)
    cont[0] = parent
    return True


def standing(
    ip: uint64_t,
    fp: uint64_t,
    instance: uint64_t,
    cont: uint64_t,
    limit: int,
    last: uint64_t = 0,
    across: list | None = None,
    known: dict | None = None,
) -> list:
    """Where frames stand, as `walk` finds them: for each its position (see `find`), address, and continuation."""
    found: list = []
    # ip → position and the slot of its return ip: deep recursion repeats the same few
    seen: dict = {} if known is None else known
    exact: cython.bint = known is None or OFFSETS in known
    on: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), cont)
    end: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), last)
    return_ip: uint64_t
    near: object = None
    cursor = cython.declare(Cursor)
    cursor.ip = ip
    cursor.fp = fp
    cursor.instance = instance
    if instance == 0 and not _down(cython.address(cursor), ip, cython.address(on), end, across):
        return found
    while len(found) < limit:
        place = seen.get(cursor.ip)
        if place is None:
            position = find(cursor.ip, near) if exact else function_at(cursor.ip)
            if position is None:
                break  # it hasn't begun: its first instruction lies in no function
            near = position[0]
            place = seen[cursor.ip] = (position, position[0].record_slot(position[1]))
        found.append((place[0], cursor.fp, cython.cast(uint64_t, on)))
        return_ip = _word(cursor.fp + SLOT_BYTES * cython.cast(uint64_t, place[1]))
        if not _down(cython.address(cursor), return_ip, cython.address(on), end, across):
            break
    return found


def offset_of(position: tuple, maps: dict) -> int:
    """The offset in the module of a position (see `find`). `maps` keeps what has been found out about code."""
    offset = maps.get(position)
    if offset is None:
        space, index, at = position
        code_map = maps.get((space, index))
        if code_map is None:
            code_map = maps[(space, index)] = space.bytecode(index)[1]
        offset = maps[position] = code_map[bisect_right(code_map, (at, 0xFFFFFFFF)) - 1][1]
    return offset


def walk(
    ip: uint64_t,
    fp: uint64_t,
    instance: uint64_t,
    cont: uint64_t,
    limit: int,
    last: uint64_t = 0,
    across: list | None = None,
    known: dict | None = None,
) -> list[GuestFrame]:
    """The Wasm frames from a place to the bottom of its entry, innermost first, at most `limit`, across all stacks.

    The arguments are what a trap leaves in the context, and the address of the running continuation. Without an
    instance they describe a callee that has no frame yet: `ip` is its return ip, `fp` where its frame would be.
    `last`: the address of the continuation at whose end the walk ends. `across`: gets the address of the stack where
    the walk ends at compiled code (see `wasmloom.tiers.frames`). With `known`, which keeps what has been found out
    about code, frames have no offsets, unless it has `OFFSETS`.
    """
    maps: dict = {} if known is None else known
    exact: cython.bint = known is None or OFFSETS in known
    frames: list = []
    for position, frame, on in standing(ip, fp, instance, cont, limit, last, across, known):
        space, index, _ = position
        if not exact:
            frames.append(GuestFrame(space, index + space.module.num_imported_funcs, 0, on, None, frame))
            continue
        offset = offset_of(position, maps)
        frames.append(GuestFrame(space, index + space.module.num_imported_funcs, offset, on, None, frame))
    return frames
