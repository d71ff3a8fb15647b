"""Threads begin whole: an exception for the thread that starts another one doesn't end that one instead."""

from __future__ import annotations

import ctypes
import gc
from _thread import get_ident
from collections.abc import Callable, Iterator

import pytest

from tests.patience import PATIENCE, attempts
from tests.processes import run_program
from wasmloom.system import apart, threads


class Interruption(Exception):
    """What is raised from outside."""


def interrupt_main() -> None:
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(get_ident()), ctypes.py_object(Interruption)) == 1


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    """What is raised in a callback of the collector is printed and lost, and other packages have such."""
    gc.disable()
    yield
    gc.enable()


def test_an_exception_for_who_starts_a_thread_arrives_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right behind the start the new thread may still have our identity: the exception goes to either of the two."""

    start = threads.start

    def start_interrupted(work: Callable[[], object]) -> None:
        start(work)
        interrupt_main()

    monkeypatch.setattr(threads, "start", start_interrupted)
    for _ in range(50):
        ran: list[int] = []
        with pytest.raises(Interruption):
            # Two steps: an exception that was sent on may come after the work has been done.
            apart.run_apart(lambda _, ran=ran: ran.append(1)).get()
            for _ in attempts():
                pass


def test_work_is_done_although_its_thread_was_interrupted_at_birth() -> None:
    """Whether or not the exception has hit the new thread first."""
    done = apart.allocate_lock()
    done.acquire()
    with pytest.raises(Interruption):
        threads.start(done.release)
        interrupt_main()
        for _ in attempts():
            pass
    assert done.acquire(timeout=PATIENCE)


SMALL_STACKS = """
import sys, threading
import wasmloom as wl
from tests.compiler.tiers import engine_of

for size in (32768, 65536):  # the first that this Python takes
    try:
        threading.stack_size(size)
        break
    except ValueError:
        pass
engine = engine_of(sys.argv[1])
text = "(module (func (export \\"f\\") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3))))"
f = wl.Instance(wl.Module(text, engine)).exports.f
print([f(n) for n in range(4)], threading.stack_size() == size)
"""


@pytest.mark.parametrize("name", ["compiler", "auto"])
def test_the_compiler_has_room_whatever_size_the_programs_stacks_have(name: str) -> None:
    assert run_program(SMALL_STACKS, name) == "[0, 3, 6, 9] True\n"


def test_a_thread_of_ours_is_never_the_main_thread() -> None:
    """What imports `threading` first is that to it, and Python's end waits for it."""
    program = """
import sys, time
from _thread import allocate_lock
from wasmloom.system.threads import start
begun = allocate_lock()
begun.acquire()
def work():
    import threading
    begun.release()
    time.sleep(100)
    print("waited")
start(work)
begun.acquire()
import threading
print(threading.main_thread().ident == threading.get_ident())
"""
    assert run_program(program).split() == ["True"]
