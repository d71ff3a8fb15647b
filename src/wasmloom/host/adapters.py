# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Calls from compiled code to code that isn't: host functions, interpreted functions, functions not compiled yet.

The adapters (`wasmloom.target.stubs`) put the parameter registers into memory and come here, on the thread's own
stack. Arguments beyond the registers, and results beyond the first, are in the context's `args`.

Invariant: nothing that may raise runs between the adapter and the functions that check for an exception. One that is
raised in a function that isn't allowed to raise would be lost.
"""

from __future__ import annotations

from functools import partial

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.contract._layout import (
    RT_ADAPTER_CALL,
    RT_ARRAY_ADAPTER_CALL,
    RT_COMPILE_FUNCTION,
    WlContext,
    WlFunction,
    WlInstance,
)
from cython.cimports.wasmloom.host.bridge import (
    AdapterCall,
    AdapterWords,
    Compile,
    CompileCall,
    call_host,
    fetch_error,
    free_room,
    host_in_integers,
    host_of,
    room_for,
    signature_at,
)
from cython.cimports.wasmloom.host.signatures import KIND_V128, Signature, kind_bits, kind_is_float
from cython.cimports.wasmloom.runtime import guests
from cython.cimports.wasmloom.runtime.entries import call
from cython.cimports.wasmloom.runtime.guests import TICKING, enter_python, leave_python, wake_ticker
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.target._processor import FLOAT_ARGUMENTS, INTEGER_ARGUMENTS

from wasmloom.contract.layout import CALLED_BY_COMPILED
from wasmloom.contract.traps import HOST_EXCEPTION, HOST_WAIT, TIMEOUT, UNCAUGHT_EXCEPTION
from wasmloom.system.apart import run_apart

_CALLED_BY_COMPILED = cython.declare(uint64_t, CALLED_BY_COMPILED)
_HOST_EXCEPTION = cython.declare(uint64_t, HOST_EXCEPTION)
_TIMEOUT = cython.declare(cython.int, TIMEOUT)
_HOST_WAIT = cython.declare(uint64_t, HOST_WAIT)
_UNCAUGHT_EXCEPTION = cython.declare(uint64_t, UNCAUGHT_EXCEPTION)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _run_guest(store: Store, function: cython.pointer(WlFunction), words: cython.pointer(uint64_t)) -> cython.int:
    """Run a guest's function. Separate, so that calls of host functions stay small."""
    signature: Signature = signature_at(function)
    return call(store, function, words, signature.param_slots, signature.result_slots)


@cython.cfunc
@cython.inline
@cython.exceptval(-1, check=False)
def _run_words(
    ctx: cython.pointer(WlContext), function: cython.pointer(WlFunction), words: cython.pointer(uint64_t)
) -> cython.int:
    """Run a guest's or host's function for compiled code, on `words`, which its results replace.

    Returns 1, and writes nothing, if the guest has to wait for the results.
    """
    waits: cython.int = 0
    store: Store = cython.cast(Store, ctx.store)
    if function.instance == cython.NULL:
        waits = call_host(store, host_of(function), words, store.guest.entry.may_wait)
        if not waits:
            store.guest.heap.holds -= 1
    else:
        _run_guest(store, function, words)
    return waits


@cython.cfunc
@cython.exceptval(-1, check=False)
def _run_registers(
    ctx: cython.pointer(WlContext), function: cython.pointer(WlFunction), registers: cython.pointer(uint64_t)
) -> cython.int:
    """As `_run_words`, on the values that parameter registers held (see `wasmloom.compiler.abi`)."""
    waits: cython.int = 0
    signature: Signature
    args: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), ctx.args)
    few = cython.declare(uint64_t[16])  # WORDS_ON_STACK
    words: cython.pointer(uint64_t)
    integers: uint32_t = 0
    floats: uint32_t = 0
    i: uint32_t
    place: uint32_t
    if function.instance == cython.NULL and host_in_integers(function):
        # The registers serve as words as they are: `call_host` ignores the upper half of an i32.
        return _run_words(ctx, function, registers)
    signature = signature_at(function)
    words = room_for(max(signature.param_slots, signature.result_slots), few)
    try:
        for i in range(signature.n_params):
            place = signature.places[i]
            if signature.kinds[i] == KIND_V128:
                words[place] = args[place]
                words[place + 1] = args[place + 1]
            elif kind_is_float[signature.kinds[i]]:
                if floats < FLOAT_ARGUMENTS:
                    words[place] = registers[INTEGER_ARGUMENTS + floats]
                    floats += 1
                else:
                    words[place] = args[place]
            elif integers < INTEGER_ARGUMENTS:
                words[place] = registers[integers]
                integers += 1
            else:
                words[place] = args[place]
            if kind_bits[signature.kinds[i]] == 32:
                words[place] = cython.cast(uint32_t, words[place])
        waits = _run_words(ctx, function, words)
        if not waits:
            for place in range(1, signature.result_slots):
                args[place] = words[place]
            registers[0] = words[0]
    finally:
        free_room(words, few)
    return waits


@cython.cfunc
@cython.exceptval(check=False)
def _adapter_call_with_gil(
    ctx: cython.pointer(WlContext),
    function: cython.pointer(WlFunction),
    words: cython.pointer(uint64_t),
    in_registers: cython.bint,
) -> uint64_t:
    """Run a function for compiled code; an exception waits in the store until the guest has been left."""
    store: Store = cython.cast(Store, ctx.store)
    ended: cython.int
    code: uint64_t
    ctx.host_function = function
    ctx.host_fp = _CALLED_BY_COMPILED
    run = cython.cast(AdapterWords, cython.cast(cython.p_void, _run_registers if in_registers else _run_words))
    ended = run(ctx, function, words)
    if ended > 0:
        ctx.host_ip = cython.cast(cython.p_char, words)
        return _HOST_WAIT
    if ended == 0:
        ctx.host_function = cython.NULL
        return 0
    code = fetch_error(ctx, store)
    if code != _UNCAUGHT_EXCEPTION:
        return code
    ctx.pending = ctx.exception
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _call_uncompiled(
    ctx: cython.pointer(WlContext),
    function: cython.pointer(WlFunction),
    words: cython.pointer(uint64_t),
    in_registers: cython.bint,
) -> uint64_t:
    """Run code that isn't compiled for a compiled caller, with the GIL held meanwhile."""
    code: uint64_t
    enter_python(ctx)
    call = cython.cast(AdapterCall, cython.cast(cython.p_void, _adapter_call_with_gil))
    code = call(ctx, function, words, in_registers)
    leave_python(ctx)
    if guests.ticker_state != TICKING:
        wake_ticker()  # the host function forked, or nothing has run for long
    return code


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _adapter_call(
    ctx: cython.pointer(WlContext), function: cython.pointer(WlFunction), registers: cython.pointer(uint64_t)
) -> uint64_t:
    return _call_uncompiled(ctx, function, registers, True)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_adapter_call(
    ctx: cython.pointer(WlContext), function: cython.pointer(WlFunction), words: cython.pointer(uint64_t)
) -> uint64_t:
    return _call_uncompiled(ctx, function, words, False)


@cython.cfunc
@cython.exceptval(check=False)
def _compile_with_gil(
    ctx: cython.pointer(WlContext),
    instance: cython.pointer(WlInstance),
    index: uint64_t,
    words: cython.pointer(uint64_t),
) -> uint64_t:
    store: Store = cython.cast(Store, ctx.store)
    before: cython.bint = store.interrupting
    ended: cython.int
    store.interrupting = True  # signals arrive while it compiles; nothing may enter the guest meanwhile
    ended = cython.cast(Compile, cython.cast(cython.p_void, _compile))(store, instance, index, words)
    store.interrupting = before
    if ended >= 0:
        return ended
    store.take_error()
    return _HOST_EXCEPTION


@cython.cfunc
@cython.exceptval(-1, check=False)
def _compile(
    store: Store, instance: cython.pointer(WlInstance), index: uint64_t, words: cython.pointer(uint64_t)
) -> cython.int:
    """Have another thread compile a function. Returns 0, or the code of the trap when the call's time is over."""
    module = store.module_at[cython.cast(uint64_t, instance)]
    outcome = run_apart(partial(module.compiled_function, index), store.deadline)
    if outcome is None:
        return _TIMEOUT
    words[0] = outcome.get()
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _compile_function(
    ctx: cython.pointer(WlContext),
    instance: cython.pointer(WlInstance),
    index: uint64_t,
    words: cython.pointer(uint64_t),
) -> uint64_t:
    """See `compile_function` in `wasmloom.contract.layout`."""
    code: uint64_t
    enter_python(ctx)
    code = cython.cast(CompileCall, cython.cast(cython.p_void, _compile_with_gil))(ctx, instance, index, words)
    leave_python(ctx)
    return code


set_runtime_call(RT_ADAPTER_CALL, cython.cast(cython.p_void, _adapter_call))
set_runtime_call(RT_ARRAY_ADAPTER_CALL, cython.cast(cython.p_void, _array_adapter_call))
set_runtime_call(RT_COMPILE_FUNCTION, cython.cast(cython.p_void, _compile_function))
