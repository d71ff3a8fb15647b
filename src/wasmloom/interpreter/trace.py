# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""``WASMLOOM_LOG=stacks``: every step of a continuation's life, one line each, on standard error.

This module is loaded only when tracing is on. Then modules are translated to the traced variants of the instructions
that switch stacks (`stack_handlers.traced`), which call this module first. Compiled code switches by calls of the
runtime then (as with ``stack_switching="libcall"``), in whose place this module's functions are. The runtime reports
what it allocates and frees. Continuations have the numbers that backtraces show; "host" is the bottom of an entry from
the host.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint16_t, uint32_t, uint64_t
from cython.cimports.libc.stdio import fprintf, stderr
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import (
    NEXT_REVISION,
    RT_LIBCALL_RESUME,
    RT_LIBCALL_SUSPEND,
    RT_LIBCALL_SWITCH,
    RT_NATIVE_BIND,
    RT_TRACE,
    WlCont,
    WlContext,
    WlInstance,
)
from cython.cimports.wasmloom.interpreter.machine import cont_return_code, handlers
from cython.cimports.wasmloom.interpreter.trace import Switch
from cython.cimports.wasmloom.runtime.guests import Guest
from cython.cimports.wasmloom.runtime.hooks import runtime_call, set_runtime_call
from cython.cimports.wasmloom.runtime.stacks import inline_stack, is_young, number_of, set_on_event


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _event(guest: cython.pointer(Guest), what: cython.p_const_char, cont: cython.pointer(WlCont)) -> cython.void:
    """Report that the runtime has made or freed a continuation."""
    fprintf(stderr, b"stacks: %s %lu\n", what, cython.cast(cython.ulong, number_of(guest, cont)))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pair(
    guest: cython.pointer(Guest),
    what: cython.p_const_char,
    first: cython.p_void,
    how: cython.p_const_char,
    second: cython.p_void,
) -> cython.void:
    """A line about two stacks."""
    a: cython.ulong = number_of(guest, first)
    c: cython.ulong = number_of(guest, second)
    if c:
        fprintf(stderr, b"stacks: %s %lu %s %lu\n", what, a, how, c)
    else:
        fprintf(stderr, b"stacks: %s %lu %s host\n", what, a, how)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _suspends(guest: cython.pointer(Guest), current: cython.pointer(WlCont), tag: uint64_t) -> cython.void:
    """A line about a suspension."""
    fprintf(
        stderr,
        b"stacks: suspend %lu with tag 0x%lx\n",
        cython.cast(cython.ulong, number_of(guest, current)),
        cython.cast(cython.ulong, tag),
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _target(word: uint64_t) -> cython.pointer(WlCont):
    """The continuation that a reference names; NULL, and a line about it, when it names none."""
    target: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), word & (NEXT_REVISION - 1))
    if target == cython.NULL:
        fprintf(stderr, b"stacks: null reference\n")
    return target


# --- compiled code: instead of the runtime calls of these names, which do the rest ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _resume(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), count: uint64_t, clauses: uint64_t
) -> uint64_t:
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    target: cython.pointer(WlCont) = _target(words[0])
    if target != cython.NULL:
        _pair(guest, b"throw into" if ctx.pending else b"resume", target, b"from", ctx.current)
    return cython.cast(Switch, _libcall_resume)(ctx, words, count, clauses)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _suspend(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), tag: uint64_t, unused: uint64_t
) -> uint64_t:
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    _suspends(guest, cython.cast(cython.pointer(WlCont), ctx.current), tag)
    return cython.cast(Switch, _libcall_suspend)(ctx, words, tag, unused)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _switch(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), tag: uint64_t, count: uint64_t
) -> uint64_t:
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    target: cython.pointer(WlCont) = _target(words[0])
    if target != cython.NULL:
        _pair(guest, b"switch", ctx.current, b"to", target)
    return cython.cast(Switch, _libcall_switch)(ctx, words, tag, count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _bind(
    ctx: cython.pointer(WlContext), words: cython.pointer(uint64_t), count: uint64_t, unused: uint64_t
) -> uint64_t:
    target: cython.pointer(WlCont) = _target(words[0])
    if target != cython.NULL:
        _event(cython.cast(cython.pointer(Guest), ctx), b"bind", target)
    return cython.cast(Switch, _native_bind)(ctx, words, count, unused)


# --- bytecode, and the end of any native stack ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _trace(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """The runtime call of traced instructions: report what the one at `ip` is about to do; see `trace` in
    `wasmloom.contract.layout`."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    current: cython.pointer(WlCont) = cython.cast(cython.pointer(WlCont), ctx.current)
    handler: cython.p_void
    at: cython.int
    word: uint64_t
    tag: uint64_t
    target: cython.pointer(WlCont)
    if ip == cython.NULL:
        if not ctx.pending:
            _pair(guest, b"return", current, b"to", current.parent)
        if current.stack_base == inline_stack(current) and is_young(current):
            _event(guest, b"free", current)
        return 0
    handler = cython.cast(cython.pointer(cython.p_void), ip)[0]
    at = h.AT_CONT_BIND_CONT if handler == handlers[h.H_CONT_BIND_TRACED] else h.AT_RESUME_CONT
    if handler == handlers[h.H_CONT_RETURN_TRACED]:
        _pair(guest, b"return", current, b"to", current.parent)
        if ctx.stack_base == inline_stack(current) and is_young(current):
            _event(guest, b"free", current)  # the others go through the runtime
        return 0
    if handler == handlers[h.H_SUSPEND_TRACED] or handler == handlers[h.H_SWITCH_TRACED]:
        at = h.AT_SUSPEND_TAG if handler == handlers[h.H_SUSPEND_TRACED] else h.AT_SWITCH_TAG
        tag = cython.cast(uint64_t, cython.cast(cython.pointer(uint32_t), ip + at)[0])
        tag = cython.cast(cython.pointer(uint64_t), cython.cast(cython.p_char, inst) + tag)[0]
        if handler == handlers[h.H_SUSPEND_TRACED]:
            _suspends(guest, current, tag)
            return 0
        at = h.AT_SWITCH_CONT
    word = fp[cython.cast(cython.pointer(uint16_t), ip + at)[0]]
    target = _target(word)
    if target == cython.NULL:
        return 0
    if handler == handlers[h.H_SWITCH_TRACED]:
        _pair(guest, b"switch", current, b"to", target)
    elif handler == handlers[h.H_CONT_BIND_TRACED]:
        _event(guest, b"bind", target)
    elif handler == handlers[h.H_RESUME_TRACED]:
        _pair(guest, b"resume", target, b"from", current)
    else:
        _pair(guest, b"throw into", target, b"from", current)
    return 0


_libcall_resume = cython.declare(cython.p_void, runtime_call(RT_LIBCALL_RESUME))
_libcall_suspend = cython.declare(cython.p_void, runtime_call(RT_LIBCALL_SUSPEND))
_libcall_switch = cython.declare(cython.p_void, runtime_call(RT_LIBCALL_SWITCH))
_native_bind = cython.declare(cython.p_void, runtime_call(RT_NATIVE_BIND))
set_runtime_call(RT_LIBCALL_RESUME, cython.cast(cython.p_void, _resume))
set_runtime_call(RT_LIBCALL_SUSPEND, cython.cast(cython.p_void, _suspend))
set_runtime_call(RT_LIBCALL_SWITCH, cython.cast(cython.p_void, _switch))
set_runtime_call(RT_NATIVE_BIND, cython.cast(cython.p_void, _bind))
set_runtime_call(RT_TRACE, cython.cast(cython.p_void, _trace))
set_on_event(_event)
cont_return_code[1] = handlers[h.H_CONT_RETURN_TRACED]
