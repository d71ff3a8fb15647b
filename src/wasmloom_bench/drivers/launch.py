"""Runs one command, in a process of its own that adopts what the command leaves behind, for ``suites/real.py``.

    python drivers/launch.py OUTPUT ERRORS SECONDS COMMAND...

Prints JSON: `elapsed` seconds, `processor` seconds of all threads and of all processes that it started, and `status`,
which is null when it took longer than SECONDS.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time


def adopt_orphans() -> None:
    """Let processes that the command leaves behind become children of this one, whose time is counted."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def children_seconds() -> float:
    """Processor time of all children that have ended, after waiting for those that were left behind."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """The command line."""
    output, errors, seconds, *command = sys.argv[1:]
    adopt_orphans()
    with open(output, "wb") as out, open(errors, "wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        ended = os.pidfd_open(process.pid)
        # Not `Popen.wait`: with a time limit that looks every 50 ms, and all times come out as multiples of it.
        select.select([ended], [], [], float(seconds))
        elapsed = time.perf_counter() - start
        status = process.poll()
        os.close(ended)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    print(json.dumps({"elapsed": elapsed, "processor": children_seconds(), "status": status}))


if __name__ == "__main__":
    main()
