# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The fault handler: accesses beyond a memory's length become traps; all other faults go to the previous handler.

A fault is ours when its address lies in a reservation (`wasmloom.runtime.regions`) and the faulting instruction lies in
generated code, that is, in a handler or in compiled code. A `Redirect` then sends the thread to a trap entry. Anything
else goes to the previous disposition, as the kernel would have done it: a handler with its mask and flags, the default
action, or nothing.

Code such as `faulthandler` may install a handler after us and then see guest faults first. We coexist:

* `ensure_installed` puts us in front again. It costs system calls, so it runs only when an instance is made, and once
  after each tick, when a thread leaves Python for a guest.
* `faulthandler.disable` puts back what it found when it was enabled. If that was before us, nobody has the signal
  until then, and a guest's fault kills the process. Nothing tells us, and asking in each call would cost too much.
* In between, `faulthandler` prints a report, restores us and raises the signal again. A SIGSEGV that a thread raises
  while it is in guest code can only be such a forwarded fault: we return, the access faults again, and this time
  arrives here.
* Being in front of a handler that is in front of us makes a circle. So each handler that we were put in front of is one
  *level* of a chain. A signal that comes back while a level's handler runs goes to the level below. So does a fault
  that keeps coming back because its handler returns without having done anything (a disabled `faulthandler`).

Invariants: everything in the handler is async-signal-safe (no Python, no locks, no allocation); a chain's level is
filled in before it is counted, and never holds our own handler.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.runtime.faults import (
    MAX_PREVIOUS,
    MAX_REPEATS,
    Chain,
    Redirect,
    chains,
)
from cython.cimports.wasmloom.runtime.guests import in_guest_code, set_after_tick
from cython.cimports.wasmloom.runtime.regions import in_region
from cython.cimports.wasmloom.system._capi import (
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_SIGINFO,
    SI_TKILL,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGBUS,
    SIGSEGV,
    __errno_location,
    pthread_self,
    pthread_sigmask,
    raise_,
    sigaction,
    sigaction_t,
    sigaddset,
    siginfo_t,
    sigset_t,
)

# Declared in faults.pxd.
redirect = cython.NULL
compiled_redirect = cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def set_redirect(function: Redirect) -> cython.void:
    """Register the function that knows handlers (see faults.pxd)."""
    global redirect
    redirect = function


@cython.cfunc
@cython.exceptval(check=False)
def set_compiled_redirect(function: Redirect) -> cython.void:
    """Register the function that knows compiled code (see faults.pxd)."""
    global compiled_redirect
    compiled_redirect = function


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _on_fault(number: cython.int, info: cython.pointer(siginfo_t), context: cython.p_void) -> cython.void:
    """The handler of SIGSEGV and SIGBUS."""
    saved: cython.int = __errno_location()[0]
    if info.si_code > 0:  # from the kernel: a fault
        if in_region(info.si_addr):
            if redirect != cython.NULL and redirect(context, info.si_addr):
                return
            if compiled_redirect != cython.NULL and compiled_redirect(context, info.si_addr):
                return
    elif info.si_code == SI_TKILL and in_guest_code():
        return  # a fault forwarded by a later handler: see the module's docstring
    _pass_on(cython.address(chains[0 if number == SIGSEGV else 1]), number, info, context)
    __errno_location()[0] = saved


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pass_on(
    chain: cython.pointer(Chain), number: cython.int, info: cython.pointer(siginfo_t), context: cython.p_void
) -> cython.void:
    """Do what the previous disposition would have done."""
    me: uint64_t = cython.cast(uint64_t, pthread_self())
    outer_thread: uint64_t = chain.thread
    outer_level: cython.int = chain.level
    level: cython.int = chain.count - 1
    nothing = cython.declare(sigaction_t)
    old: cython.pointer(sigaction_t)
    mask: sigset_t
    unmasked = cython.declare(sigset_t)
    if outer_thread == me:
        level = outer_level - 1
    elif info.si_code > 0:
        chain.repeats = chain.repeats + 1 if chain.address == info.si_addr else 0
        chain.address = info.si_addr
        level -= chain.repeats // MAX_REPEATS
    memset(cython.address(nothing), 0, cython.sizeof(sigaction_t))
    nothing.sa_handler = SIG_DFL
    old = cython.address(chain.previous[level]) if level >= 0 else cython.address(nothing)
    if not old.sa_flags & SA_SIGINFO:
        if old.sa_handler == SIG_IGN and info.si_code <= 0:
            return
        if old.sa_handler == SIG_DFL or old.sa_handler == SIG_IGN:  # a fault kills even when it is ignored
            sigaction(number, cython.address(nothing), cython.NULL)
            if info.si_code <= 0:
                raise_(number)
            # A fault happens again on return, and then kills with the right registers in the core dump.
            return
    chain.thread = me
    chain.level = level
    mask = old.sa_mask
    if not old.sa_flags & SA_NODEFER:
        sigaddset(cython.address(mask), number)
    pthread_sigmask(SIG_BLOCK, cython.address(mask), cython.address(unmasked))
    if old.sa_flags & SA_SIGINFO:
        old.sa_sigaction(number, info, context)
    else:
        old.sa_handler(number)
    pthread_sigmask(SIG_SETMASK, cython.address(unmasked), cython.NULL)
    if old.sa_flags & SA_RESETHAND:
        old.sa_flags = 0
        old.sa_handler = SIG_DFL
    chain.thread = outer_thread
    chain.level = outer_level


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _install(number: cython.int) -> cython.void:
    """Put our handler in front, unless it is there."""
    chain: cython.pointer(Chain) = cython.address(chains[0 if number == SIGSEGV else 1])
    ours = cython.declare(sigaction_t)
    now = cython.declare(sigaction_t)
    i: cython.int
    if sigaction(number, cython.NULL, cython.address(now)) != 0:
        return
    if now.sa_flags & SA_SIGINFO and now.sa_sigaction == _on_fault:
        return
    # One level per handler: a handler that comes to the front again moves up. When all levels are taken, the second
    # oldest is dropped: the oldest one ends the chain.
    i = 0
    while i < chain.count and chain.previous[i].sa_handler != now.sa_handler:
        i += 1
    if i == MAX_PREVIOUS:
        i = 1
    if i < chain.count:
        chain.count -= 1
        while i < chain.count:
            chain.previous[i] = chain.previous[i + 1]
            i += 1
    chain.previous[chain.count] = now
    chain.count += 1
    memset(cython.address(ours), 0, cython.sizeof(sigaction_t))
    ours.sa_sigaction = _on_fault
    # On the alternate stack where there is one, so that an overflow of the C stack can be passed on.
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER
    sigaction(number, cython.address(ours), cython.NULL)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def ensure_installed() -> cython.void:
    """Put our handlers in front of all others. Call with the GIL."""
    _install(SIGSEGV)
    _install(SIGBUS)


set_after_tick(ensure_installed)
