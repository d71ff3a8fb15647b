"""How many processes compile, and why something isn't compiled: what is known before anything of it is needed.

`wasmloom.compiler.workers` does the work; importing it takes longer than many guests run.
"""

from __future__ import annotations

import os

from wasmloom.errors import CompileError


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def most_behind() -> int:
    """The maximum number of workers for work that no caller waits for."""
    return max(1, min(4, processors() - 1))


class NoWorker(CompileError):
    """The system refuses a process or a thread for a worker."""


class Abandoned(CompileError):
    """No caller waits any more for the code that was to be compiled."""
