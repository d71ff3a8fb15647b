# cython: language_level=3
# mypy: ignore-errors
"""Starting threads so that no stray exception keeps them from doing their work, with room for LLVM.

Until a new thread runs, CPython gives it the identity of the thread that started it. If another thread raises an
exception in the starting thread meanwhile (`PyThreadState_SetAsyncExc`), the new thread raises it in its first
bytecode. Its function then does nothing, and whatever waits for it waits forever. In C no bytecode runs before the
exception has been taken and passed on to the thread that it was meant for.

The thread that first imports `threading` counts as Python's main thread there, and the end of the process waits for it.
So that must not be one of ours, which may be in the middle of compiling: `start` imports it.

LLVM runs in these threads and checks no stack bounds. So their C stacks don't get the size that the program has chosen
for its own threads (`threading.stack_size`), which may be 32 KiB.
"""

from __future__ import annotations

from _thread import get_ident, start_new_thread

import cython
from cython.cimports.wasmloom.system._capi import (
    PyThread_get_stacksize,
    PyThread_set_stacksize,
    PyThreadState_SetAsyncExc,
    wl_python_ends,
)

#: Bytes of a thread's C stack at least: what a process's first thread has by default. Only what is used takes memory.
_STACK_BYTES = cython.declare(cython.size_t, 8 << 20)

#: A Python function, whose bytecode raises exceptions that other threads have requested. Functions of this module have
#: no bytecode.
_attend = eval("lambda: None")


def start(work) -> None:
    """Run `work()` in a new thread. Raises RuntimeError where no thread can be started, or it would never run."""
    chosen: cython.size_t = PyThread_get_stacksize()
    if wl_python_ends():  # CPython 3.11 starts threads that then wait for the GIL for ever
        raise RuntimeError("Python is ending")
    import threading  # noqa: F401  # not above: programs that start no thread don't need it

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
