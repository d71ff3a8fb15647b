"""WASI functions about the process: arguments, environment, clocks, random numbers, exit, sockets (none)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial

from wasmloom.errors import ExitStatus
from wasmloom.host.waits import TURN, Steps
from wasmloom.runtime.frames import SOURCE, frames_of
from wasmloom.tiers.backtraces import frames_here
from wasmloom.wasi.abi import U64, Errno, WasiError
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import Descriptor
from wasmloom.wasi.memory import CHUNK, pack, span

#: Clock of the host by clock id: realtime, monotonic, process CPU time, thread CPU time.
CLOCKS: tuple[int, ...] = (
    time.CLOCK_REALTIME,
    time.CLOCK_MONOTONIC,
    time.CLOCK_PROCESS_CPUTIME_ID,
    time.CLOCK_THREAD_CPUTIME_ID,
)


def host_clock(clock: int) -> int:
    """The host's clock for a clock id. Raises `WasiError` (`EINVAL`) for an unknown one."""
    if clock >= len(CLOCKS):
        raise WasiError(Errno.EINVAL)
    return CLOCKS[clock]


def guest_time(context: Context, clock: int) -> int:
    """A clock's time as the guest sees it, in nanoseconds. Raises `WasiError` (`EINVAL`).

    Threads have processor times of their own: another one's can be less than what the guest has been told.
    """
    return max(time.clock_gettime_ns(host_clock(clock)) + context.offsets[clock], 0)


def _strings_get(context: Context, strings: Sequence[bytes], pointers: int, buffer: int) -> None:
    memory, pointer = context.memory, context.layout.size
    for i, text in enumerate(strings):
        pack(memory, pointer, pointers + i * pointer.size, buffer)
        span(memory, buffer, len(text) + 1)[:] = text + b"\0"
        buffer += len(text) + 1


def _strings_sizes_get(context: Context, strings: Sequence[bytes], count: int, size: int) -> None:
    memory, layout = context.memory, context.layout.size
    pack(memory, layout, count, len(strings))
    pack(memory, layout, size, sum(len(text) + 1 for text in strings))


def args_get(context: Context, argv: int, buffer: int) -> None:
    """Store the arguments, each ended by NUL, and the pointers to them."""
    _strings_get(context, context.args, argv, buffer)


def args_sizes_get(context: Context, count: int, size: int) -> None:
    """Store the number of arguments and the size of their text."""
    _strings_sizes_get(context, context.args, count, size)


def environ_get(context: Context, environ: int, buffer: int) -> None:
    """Store the environment, each ``NAME=value`` ended by NUL, and the pointers to them."""
    _strings_get(context, context.env, environ, buffer)


def environ_sizes_get(context: Context, count: int, size: int) -> None:
    """Store the number of environment variables and the size of their text."""
    _strings_sizes_get(context, context.env, count, size)


def clock_res_get(context: Context, clock: int, resolution: int) -> None:
    """Store the resolution of a clock in nanoseconds."""
    pack(context.memory, U64, resolution, max(round(time.clock_getres(host_clock(clock)) * 1e9), 1))


def clock_time_get(context: Context, clock: int, precision: int, result: int) -> None:
    """Store the time of a clock in nanoseconds, always as precisely as the host can."""
    pack(context.memory, U64, result, guest_time(context, clock))


def random_get(context: Context, buffer: int, length: int) -> Steps | None:
    """Fill a buffer with random bytes fit for cryptography."""
    target = span(context.memory, buffer, length)
    if length > CHUNK:
        return _filling_with_random(context, buffer, length)
    target[:] = os.urandom(length)
    return None


def _filling_with_random(context: Context, buffer: int, length: int) -> Steps:
    """`random_get` in chunks."""
    for start in range(buffer, buffer + length, CHUNK):
        size = min(CHUNK, buffer + length - start)
        span(context.memory, start, size)[:] = os.urandom(size)
        yield TURN


def proc_exit(context: Context, code: int) -> None:
    """End the guest: raises `ExitStatus`."""
    store = context.store
    if store is None:
        raise ExitStatus(code)
    source = store.engine.backtrace == SOURCE
    raise ExitStatus(code, partial(frames_of, frames_here(store), lambda continuation: None, source))


def proc_raise(context: Context, signal: int) -> None:
    """Fail: a guest has no signals."""
    raise WasiError(Errno.ENOTSUP)


def sched_yield(context: Context) -> Steps | None:
    """Let another thread of the host run, or another task of the event loop."""
    if context.can_wait:
        return _one_turn()
    os.sched_yield()
    return None


def _one_turn() -> Steps:
    yield TURN


def _not_a_socket(context: Context, descriptor: Descriptor, *arguments: int) -> None:
    """Fail: nothing that a guest can open is a socket."""
    raise WasiError(Errno.ENOTSOCK)


sock_accept = sock_recv = sock_send = sock_shutdown = _not_a_socket
