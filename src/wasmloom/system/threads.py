# cython: language_level=3
# mypy: ignore-errors
"""Threads that begin whole.

CPython gives a new thread the identity of the thread that starts it until it runs. An exception that somebody raises in
the latter meanwhile (`PyThreadState_SetAsyncExc`) is raised in the new one, in its first bytecode: its function does
nothing then, and whoever waits for it waits for ever. In C no bytecode runs before the exception has been taken from
where it isn't meant to be.
"""

from __future__ import annotations

from _thread import get_ident, start_new_thread

from cython.cimports.wasmloom.system._capi import PyThreadState_SetAsyncExc

#: Bytecode, in which exceptions that others have asked for are raised: functions of this module have none.
_attend = eval("lambda: None")


def start(work) -> None:
    """Run `work()` in a new thread. Raises RuntimeError where no thread can be started."""
    start_new_thread(_run, (work, get_ident()))


def _run(work, parent: object) -> None:
    try:
        _attend()
    except BaseException as error:
        PyThreadState_SetAsyncExc(parent, type(error))
    work()
