"""What a guest waits for in an event loop (`Wasi.start_async`): the awaitable forms of the functions that can block.

A function of WASI gives one of these instead of blocking; the guest then waits for it (see `wasmloom.host.tasks`).
Guest memory is looked up again after every wait, since it may have grown.

Imported when it is first needed, since it loads asyncio.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from wasmloom.wasi.abi import U32
from wasmloom.wasi.context import Context
from wasmloom.wasi.descriptors import AsyncStream, Descriptor
from wasmloom.wasi.memory import iovecs, pack

if TYPE_CHECKING:
    from wasmloom.wasi.polling import Waiting


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def ready(host: int, *, to_write: bool = False) -> None:
    """Wait until a host file descriptor can be read, or written to, without blocking."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    # A loop knows one waiter for each number: others may wait for the same file.
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


async def read(context: Context, file: Descriptor, vectors: int, count: int, result: int) -> None:
    """`fd_read` that waits."""
    if not isinstance(file, AsyncStream):
        await ready(file.fileno())
        pack(context.memory, U32, result, file.read(iovecs(context.memory, vectors, count)))
        return
    size = sum(map(len, iovecs(context.memory, vectors, count)))
    data = await file.read_async(size) if size else b""
    done = 0
    for buffer in iovecs(context.memory, vectors, count):
        part = data[done : done + len(buffer)]
        buffer[: len(part)] = part
        done += len(part)
    pack(context.memory, U32, result, done)


async def write(context: Context, file: AsyncStream, vectors: int, count: int, result: int) -> None:
    """`fd_write` that waits."""
    data = b"".join(iovecs(context.memory, vectors, count))
    await file.write_async(data)
    pack(context.memory, U32, result, len(data))


async def wait(waiting: Waiting) -> None:
    """Wait until at least one event of `poll_oneoff` has happened; the event loop has a turn in any case."""
    await asyncio.sleep(0)
    while not waiting.look():
        until = waiting.until_timer()
        files = [asyncio.ensure_future(ready(host, to_write=to_write)) for host, to_write in waiting.wanted()]
        if not files:
            await asyncio.sleep(until / 1e9)
            continue
        try:
            await asyncio.wait(files, timeout=until / 1e9, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in files:
                task.cancel()
            # An error (the file may have been closed meanwhile) is what `look` reports as an event.
            await asyncio.gather(*files, return_exceptions=True)


async def turn() -> None:
    """`sched_yield`: let others run."""
    await asyncio.sleep(0)
