# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Samples of guests: which instruction runs.

The ticker sends a thread that runs the code of a guest that is profiled a SIGPROF, every `SAMPLE_NS`. The handler notes
what two registers hold: the program counter, and what has the address of an instruction of bytecode while one of its
handlers runs. That tells which function runs, exactly. Its callers are read later, at the next loop or beginning of a
function (`wasmloom.runtime.runtime_calls`), where all frames are whole.

Invariants: the handler is async-signal-safe, and what it writes belongs to the guest that its own thread runs. It stays
installed when the last profile ends, because a signal may still be on its way. Signals that aren't the ticker's do what
they would have done before.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.runtime.guests import Guest, running_here, set_profiled
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system._capi import (
    SA_ONSTACK,
    SA_RESTART,
    SA_SIGINFO,
    SI_TKILL,
    SIG_DFL,
    SIG_IGN,
    SIGPROF,
    __errno_location,
    raise_,
    sigaction,
    sigaction_t,
    siginfo_t,
)
from cython.cimports.wasmloom.target._processor import handler_ip, program_counter

_previous = cython.declare(sigaction_t)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _on_signal(number: cython.int, info: cython.pointer(siginfo_t), context: cython.p_void) -> cython.void:
    saved: cython.int = __errno_location()[0]
    guest: cython.pointer(Guest)
    if info.si_code == SI_TKILL:
        guest = running_here()
        if guest != cython.NULL and guest.profiled:
            if guest.sample_weight == 0:
                guest.sample_pc = program_counter(context)
                guest.sample_ip = handler_ip(context)
            guest.sample_weight += 1
    elif _previous.sa_flags & SA_SIGINFO:
        _previous.sa_sigaction(number, info, context)
    elif _previous.sa_handler == SIG_DFL:
        sigaction(number, cython.address(_previous), cython.NULL)
        raise_(number)  # ends the process when the handler returns
    elif _previous.sa_handler != SIG_IGN:
        _previous.sa_handler(number)
    __errno_location()[0] = saved


def begin(store: Store) -> None:
    """Begin to take samples of a store's guest. The caller keeps the store alive until `end`."""
    global _previous
    now = cython.declare(sigaction_t)
    ours = cython.declare(sigaction_t)
    sigaction(SIGPROF, cython.NULL, cython.address(now))
    if not (now.sa_flags & SA_SIGINFO and now.sa_sigaction == _on_signal):
        _previous = now
        memset(cython.address(ours), 0, cython.sizeof(sigaction_t))
        ours.sa_sigaction = _on_signal
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART
        sigaction(SIGPROF, cython.address(ours), cython.NULL)
    set_profiled(store.guest, True)


def end(store: Store) -> None:
    """End it."""
    set_profiled(store.guest, False)
