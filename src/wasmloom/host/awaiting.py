"""Runs host functions that wait in an event loop: while the guest waits (see `wasmloom.host.tasks`), other tasks run.

Imported when it is first needed, because it loads asyncio.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from wasmloom.contract.traps import TIMEOUT, TRAP_REASONS
from wasmloom.errors import Trap
from wasmloom.host.waits import FOREVER, Steps, Wait


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _ready(host: int, *, to_write: bool) -> None:
    """Wait until a host file descriptor can be read, or written to, without blocking."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    # A loop has one waiter for each number, and others may wait for the same file.
    copy = os.dup(host)
    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    try:
        add(copy, _finish, future)
        try:
            await future
        finally:
            remove(copy)
    except PermissionError:
        pass  # epoll refuses files that are always ready
    finally:
        os.close(copy)


async def wait_in_loop(wait: Wait) -> None:
    """Let other tasks run until the event happens that a function waits for."""
    left = None if wait.until == FOREVER else max(wait.until - time.monotonic_ns(), 0) / 1e9
    # The next step finds out which event it was.
    wanted = {
        (file.fileno(), to_write)
        for file, events in wait.files
        for to_write, event in ((False, select.POLLIN), (True, select.POLLOUT))
        if events & event
    }
    if not wanted:
        await asyncio.sleep(left if left is not None else 3600)
        return
    if len(wanted) == 1 and left is None:
        ((host, to_write),) = wanted
        await _ready(host, to_write=to_write)
        return
    tasks = [asyncio.ensure_future(_ready(host, to_write=to_write)) for host, to_write in wanted]
    try:
        await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        # The next step sees errors, too; the file may have been closed meanwhile.
        await asyncio.gather(*tasks, return_exceptions=True)


async def drive(steps: Steps, first: Any, limit: int) -> None:
    """Run a function to its end. Its first step has yielded `first`.

    `limit`: nanoseconds that its steps may take in total, without waiting; then a `Trap` ("timeout") ends it.
    """
    wait = first
    worked = 0
    resume: Callable[[], Any]
    try:
        while True:
            try:
                value = await (wait_in_loop(wait) if isinstance(wait, Wait) else wait())
            except BaseException as error:
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, value)
            begin = time.monotonic_ns()
            try:
                wait = resume()
            except StopIteration:
                return
            worked += time.monotonic_ns() - begin
            if worked > limit:
                raise Trap(TRAP_REASONS[TIMEOUT])
    finally:
        steps.close()
