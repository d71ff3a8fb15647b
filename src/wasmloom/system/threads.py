# cython: language_level=3
# mypy: ignore-errors
"""Threads that begin whole, with room for LLVM.

CPython gives a new thread the identity of the thread that starts it until it runs. An exception that somebody raises in
the latter meanwhile (`PyThreadState_SetAsyncExc`) is raised in the new one, in its first bytecode: its function does
nothing then, and whoever waits for it waits for ever. In C no bytecode runs before the exception has been taken from
where it isn't meant to be.

LLVM runs in these threads and looks at no bounds. So their C stacks don't get the size that the program has chosen for
its own threads (`threading.stack_size`), which may be 32 KiB.
"""

from __future__ import annotations

from _thread import get_ident, start_new_thread

import cython
from cython.cimports.wasmloom.system._capi import (
    PyThread_get_stacksize,
    PyThread_set_stacksize,
    PyThreadState_SetAsyncExc,
)

#: Bytes of a thread's C stack at least: what a process's first thread has by default. Only what is used takes memory.
_STACK_BYTES = cython.declare(cython.size_t, 8 << 20)

#: Bytecode, in which exceptions that others have asked for are raised: functions of this module have none.
_attend = eval("lambda: None")


def start(work) -> None:
    """Run `work()` in a new thread. Raises RuntimeError where no thread can be started."""
    chosen: cython.size_t = PyThread_get_stacksize()
    # The setting is the interpreter's. No other thread sees ours: the GIL is held until the thread is made.
    PyThread_set_stacksize(max(chosen, _STACK_BYTES))
    try:
        start_new_thread(_run, (work, get_ident()))
    finally:
        PyThread_set_stacksize(chosen)


def _run(work, parent: object) -> None:
    try:
        _attend()
    except BaseException as error:
        PyThreadState_SetAsyncExc(parent, type(error))
    work()
