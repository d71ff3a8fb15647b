"""What workers do in tests: functions at the top level of a module that can be imported."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path


def double(part: bytes) -> bytes:
    return part * 2


def first(whole: bytes, part: int) -> bytes:
    return b"%d bytes, %d" % (len(whole), whole[part])


def where(part: object) -> bytes:
    return str(os.getpid()).encode()


def scheduling(part: object) -> bytes:
    """How the process is scheduled, and how much memory it may have."""
    facts = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), resource.getrlimit(resource.RLIMIT_DATA)[0]
    return repr(facts).encode()


def slower_first(part: int) -> bytes:
    time.sleep(0.3 if part == 0 else 0)
    return str(part).encode()


def noisy(part: bytes) -> bytes:
    print("to standard output")
    os.write(1, b"to the descriptor")
    return part


def large(part: int) -> bytes:
    return bytes([part]) * 5_000_000


def fail(part: int) -> bytes:
    if part == 1:
        raise KeyError("part one")
    return b""


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("it has a lock")
        self.frame = sys._getframe()


def fail_strangely(part: int) -> bytes:
    raise Unpicklable


def die(part: int) -> bytes:
    if part == 1:
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return b""


def spin(part: int) -> bytes:
    """Take a second of processor time unless the part is even."""
    end = time.process_time() + 1
    while part % 2 and time.process_time() < end:
        pass
    return str(part).encode()


def leave(part: int) -> bytes:
    os._exit(3)


def hang(folder: str) -> bytes:
    """Say who is here, and never come back."""
    Path(folder, str(os.getpid())).touch()
    while True:
        time.sleep(1000)


def ignore_interrupts(part: object) -> bytes:
    return str(os.getpgid(0) == os.getpid()).encode()
