# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Runs bytecode: the one module that links the generated handlers.

Invariants of `run`: the frame lies on the context's value stack, the code begins with an `enter`, `lazy` or `host`
instruction, and the GIL is not held. Guest calls never use the C stack, so a guest can't overflow it.

A guest access beyond its memory faults on a guard page. `_redirect` then sends the thread to the trap entry: the
handlers keep ip, frame, instance and context in their registers at every memory access (a test makes every one of them
fault), but LLVM may already have moved ip to the next instruction. An instruction begins with its handler's address, so
the faulting instruction is the one that names the handler with the fault. A fused instruction traps at the part that
accesses memory.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int16_t, int64_t, uint64_t
from cython.cimports.wasmloom.contract._handlers import AT_HOST_FUNCTION, H_HOST, SIZE_HOST
from cython.cimports.wasmloom.contract._layout import WlContext, WlFunction, WlInstance, WlLoop
from cython.cimports.wasmloom.interpreter._handlers_object import (
    __start_wl_text,
    __stop_wl_text,
    wl_adapter,
    wl_array_adapter,
    wl_branch_table,
    wl_compiled_trap,
    wl_cont_return_code,
    wl_cross_code,
    wl_cross_go_on,
    wl_crossing,
    wl_crossing_function,
    wl_drive,
    wl_enter,
    wl_externals,
    wl_fault_entry,
    wl_fault_offsets,
    wl_fiber_return,
    wl_fiber_start,
    wl_frames,
    wl_frames_bottom,
    wl_frames_return,
    wl_frames_start,
    wl_fusion_columns,
    wl_fusion_rows,
    wl_fusion_table,
    wl_handler_count,
    wl_handlers,
    wl_lane_table,
    wl_lazy,
    wl_leave_code,
    wl_load_table,
    wl_loop_interrupt,
    wl_morestack,
    wl_native_back,
    wl_native_continue,
    wl_native_enter,
    wl_native_leave,
    wl_native_return,
    wl_on_host,
    wl_osr,
    wl_runtime,
    wl_single_table,
    wl_sizes,
    wl_store_table,
    wl_switch_call,
    wl_value_table,
    wl_vector_table,
)
from cython.cimports.wasmloom.runtime.codememory import COMPILED, STENCILS, code_at
from cython.cimports.wasmloom.runtime.faults import set_redirect
from cython.cimports.wasmloom.runtime.hooks import set_run, stubs, use_runtime_table
from cython.cimports.wasmloom.system.allocation import malloc
from cython.cimports.wasmloom.target._processor import (
    handler_ip,
    loop_of_stub,
    program_counter,
    set_handler_ip,
    set_program_counter,
)

# Declared in machine.pxd.
handlers = wl_handlers
externals = wl_externals
handler_count = wl_handler_count
cont_return_code = wl_cont_return_code
cross_code = wl_cross_code
leave_code = wl_leave_code
sizes = wl_sizes
value_table = wl_value_table
load_table = wl_load_table
store_table = wl_store_table
branch_table = wl_branch_table
single_table = wl_single_table
vector_table = wl_vector_table
lane_table = wl_lane_table
fusion_rows = wl_fusion_rows
fusion_columns = wl_fusion_columns
fusion_table = wl_fusion_table
stubs.enter = wl_native_enter
stubs.go_on = wl_native_continue
stubs.native_return = wl_native_return
stubs.leave = wl_native_leave
stubs.on_host = wl_on_host
stubs.trap = wl_compiled_trap
stubs.adapter = wl_adapter
stubs.array_adapter = wl_array_adapter
stubs.lazy = wl_lazy
stubs.loop_interrupt = wl_loop_interrupt
stubs.morestack = wl_morestack
stubs.fiber_start = wl_fiber_start
stubs.fiber_return = wl_fiber_return
stubs.switch_call = wl_switch_call
stubs.drive = wl_drive
stubs.frames = wl_frames
stubs.frames_start = wl_frames_start
stubs.frames_return = wl_frames_return
stubs.frames_bottom = wl_frames_bottom
stubs.crossing = wl_crossing
stubs.crossing_function = wl_crossing_function
stubs.native_back = wl_native_back
stubs.osr = wl_osr
stubs.cross_go_on = wl_cross_go_on
stubs.runtime = wl_runtime
_sorted_addresses = cython.NULL
_sorted_numbers = cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def run(
    ctx: cython.pointer(WlContext),
    inst: cython.pointer(WlInstance),
    code: cython.p_char,
    fp: cython.pointer(uint64_t),
) -> cython.void:
    """Run guest code until it returns to the host or traps. `ctx.trap_code` tells which."""
    wl_enter(ctx, inst, code, fp)


@cython.cfunc
def host_stub(function: cython.pointer(WlFunction)) -> cython.p_char:
    """New bytecode that stands for a host function; the caller frees it with the C library's `free`.

    Raises MemoryError.
    """
    stub: cython.p_char = cython.cast(cython.p_char, malloc(SIZE_HOST))
    if stub == cython.NULL:
        raise MemoryError
    cython.cast(cython.pointer(cython.p_void), stub)[0] = handlers[H_HOST]
    cython.cast(cython.pointer(cython.p_void), stub + AT_HOST_FUNCTION)[0] = function
    return stub


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def in_handler(place: uint64_t) -> cython.bint:
    """Whether an address lies in the code of a handler."""
    return cython.cast(uint64_t, __start_wl_text) <= place < cython.cast(uint64_t, __stop_wl_text)


def handler_addresses() -> list[int]:
    """The addresses of all handlers, by number."""
    i: cython.Py_ssize_t
    result: list = []
    for i in range(wl_handler_count):
        result.append(cython.cast(uint64_t, handlers[i]))
    return result


def _sort_handlers() -> None:
    """Fill the tables for finding a handler by an address in its code."""
    global _sorted_addresses, _sorted_numbers
    i: cython.Py_ssize_t
    count: cython.Py_ssize_t = wl_handler_count
    order = sorted((address, i) for i, address in enumerate(handler_addresses()))
    _sorted_addresses = cython.cast(cython.pointer(uint64_t), malloc(cython.sizeof(uint64_t) * count))
    _sorted_numbers = cython.cast(cython.pointer(int16_t), malloc(2 * count))
    if _sorted_addresses == cython.NULL or _sorted_numbers == cython.NULL:
        raise MemoryError
    for i in range(count):
        _sorted_addresses[i] = order[i][0]
        _sorted_numbers[i] = order[i][1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _redirect(context: cython.p_void, address: cython.p_void) -> cython.bint:
    """Send a thread that faulted in a handler to the trap entry (see `wasmloom.runtime.faults`). Async-signal-safe."""
    place: uint64_t = program_counter(context)
    ip: uint64_t = handler_ip(context)
    low: int64_t = 0
    high: int64_t = wl_handler_count
    middle: int64_t
    number: cython.int
    word: uint64_t
    if code_at(place) == STENCILS:
        # Bytecode has other addresses, so whoever reads this finds out what it is (`CodeSpace.find`).
        set_handler_ip(context, place)
        set_program_counter(context, wl_fault_entry)
        return True
    if not in_handler(place):
        return False
    while high - low > 1:
        middle = (low + high) >> 1
        if _sorted_addresses[middle] <= place:
            low = middle
        else:
            high = middle
    number = _sorted_numbers[low]
    word = cython.cast(cython.pointer(uint64_t), ip)[0]
    if code_at(word) == COMPILED:  # a loop that frames leave; this one couldn't
        word = cython.cast(uint64_t, cython.cast(cython.pointer(WlLoop), loop_of_stub(word)).first)
    # The word of an instruction that has code is no handler's: it may have got that now, in another thread. Only then
    # is what lies before it read, since that is mapped in an arena.
    if word != _sorted_addresses[low] and (
        code_at(word) != STENCILS
        or cython.cast(cython.pointer(uint64_t), ip - sizes[number])[0] == _sorted_addresses[low]
    ):
        ip -= sizes[number]
    set_handler_ip(context, ip + wl_fault_offsets[number])
    set_program_counter(context, wl_fault_entry)
    return True


_sort_handlers()
set_redirect(_redirect)
set_run(run)
use_runtime_table(wl_runtime)
