"""Threads of a program (wasi-threads): each is an instance of the same module, in a store and a thread of its own.

The program imports its memory, which is shared, and the function ``wasi.thread-spawn``; it exports
``wasi_thread_start``, where its threads begin. They have the same open files. One that exits or traps ends them all, as
does the end of the first one (wasi-threads, "Design choice: termination").

Invariants: what they share (`_running`, `_ended`, `_outcome` …) is only changed with `_lock`. A thread is in `_running`
from before it begins until nothing of it runs any more, and only it takes itself out once it has begun; so `end`, which
waits until there is none, leaves nothing behind. Whoever ends the others interrupts them again and again until they
have gone, because one that is in a host function, or about to enter its guest, isn't concerned by the first time.

Source: https://github.com/WebAssembly/wasi-threads
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

from wasmloom.errors import ExitStatus, LinkError
from wasmloom.spec.types import I32, FuncType
from wasmloom.wasi.abi import Errno

if TYPE_CHECKING:
    from wasmloom.host.instance import Instance
    from wasmloom.host.module import Module
    from wasmloom.runtime.store import Store

#: What programs import it from, its name and its type: the argument → the thread's number, or minus an `Errno`.
MODULE_NAME, SPAWN = "wasi", "thread-spawn"
SPAWN_TYPE = FuncType((I32,), (I32,))
#: What programs export: number of the thread, argument.
START, START_TYPE = "wasi_thread_start", FuncType((I32, I32), ())
#: Numbers of threads have 29 bits, and 0 is none (wasi-threads, "thread-spawn").
_MOST = (1 << 29) - 1

#: Seconds between two attempts to interrupt the others.
_PAUSE = 0.01


def has_threads(module: Module) -> bool:
    """Whether a module imports `SPAWN`."""
    return any(wanted.module == MODULE_NAME and wanted.name == SPAWN for wanted in module.imports)


def check(module: Module) -> None:
    """Raise `LinkError` unless a module that imports `SPAWN` can have threads."""
    exports = {export.name: export for export in module.exports}
    start = exports.get(START)
    if start is None or start.kind != "func" or start.type != START_TYPE:
        raise LinkError(f"a WASI program with threads must export the function {START!r} {START_TYPE}")
    if module.engine.fuel:
        raise LinkError("the threads of a WASI program don't count fuel: use an engine without")


class Group:
    """The threads of one program besides the first; at most `most` at the same time.

    `instantiate`: makes an instance for another thread, in a store.
    """

    def __init__(self, most: int, instantiate: Callable[[Store], Instance]) -> None:
        self._most = most
        self._instantiate = instantiate
        #: The first thread's store. It keeps this, as an import, so this must not keep it.
        self._first: Callable[[], Store | None] = lambda: None
        #: Signal handlers may run in the first thread while it has it.
        self._lock = threading.RLock()
        self._gone = threading.Condition(self._lock)
        #: The others' stores; None: there is none yet.
        self._running: dict[int, Store | None] = {}
        #: Numbers of those that have begun, so they leave by themselves.
        self._on_their_own: set[int] = set()
        self._number = 0
        #: Whether the first thread runs the program: then it is the one who ends it.
        self._begun = False
        self._ended = False
        self._outcome: BaseException | None = None
        #: What ends the first thread where it waits in an event loop.
        self.on_end: Callable[[], object] | None = None

    def begin(self, store: Store) -> None:
        """The first thread's instance is in `store`."""
        self._first = ref(store)

    def run(self) -> None:
        """The first thread is about to run the program, and will call `end`."""
        self._begun = True

    def spawn(self, argument: int) -> int:
        """`SPAWN`: begin a thread."""
        with self._lock:
            if self._ended or len(self._running) >= self._most:
                return -int(Errno.EAGAIN)
            self._number = number = self._number % _MOST + 1
            if number in self._running:  # after 2**29 others it is still there
                return -int(Errno.EAGAIN)
            self._running[number] = None
        try:
            store = self._new_store()
            start = self._instantiate(store).exports[START]
            with self._lock:
                self._running[number] = store
            threading.Thread(
                target=self._run, args=(number, start, argument), name=f"wasi-thread-{number}", daemon=True
            ).start()
        except (MemoryError, OSError, RuntimeError):
            self._give_up(number)
            return -int(Errno.EAGAIN)
        except BaseException:
            self._give_up(number)
            raise
        return number

    def _give_up(self, number: int) -> None:
        """A thread can't begin, or a signal handler has raised while it did."""
        with self._lock:
            if number not in self._on_their_own:
                self._leave(number)

    def _new_store(self) -> Store:
        """A store with the limits of the first one."""
        from wasmloom.host.store import Store

        own = self._first()
        if own is None:
            raise RuntimeError("the program is gone")
        return Store(own.engine, timeout=own.timeout, memory_limit=own.memory_limit, stack_limit=own.stack_limit)

    def _leave(self, number: int) -> None:
        with self._lock:
            del self._running[number]
            self._on_their_own.discard(number)
            self._gone.notify_all()

    def _run(self, number: int, start: Callable[[int, int], object], argument: int) -> None:
        with self._lock:
            if number not in self._running:
                return  # it was given up
            self._on_their_own.add(number)
        try:
            if not self._ended:
                start(number, argument)
        except BaseException as error:
            if not self._end_with(error):
                raise
        finally:
            self._leave(number)

    def _end_with(self, error: BaseException) -> bool:
        """A thread has ended the program. Returns whether that is known: the first thread raises it, or another one."""
        with self._lock:
            if self._ended:
                return True
            self._ended = True
            if not self._begun:  # a library's thread, and nobody waits for it
                self._interrupt_others()
                return False
            self._outcome = error
            on_end = self.on_end
        if on_end is not None:
            on_end()
        # The first thread ends the others, so it is enough to end that one. It may be in a host function.
        with self._gone:
            while self._outcome is not None:
                first = self._first()
                if first is not None:
                    first.interrupt()
                self._gone.wait(_PAUSE)
        return True

    def _interrupt_others(self) -> None:
        for store in self._running.values():
            if store is not None:
                store.interrupt()

    def end(self, error: BaseException | None) -> BaseException | None:
        """The first thread has ended, by an error or not: end the others and wait until they have.

        Returns what has ended the program: the error, or that of another thread. If a signal handler raises something
        meanwhile, they are ended behind its back.
        """
        with self._lock:
            if self._outcome is not None:
                error = self._outcome
            self._ended = True
            self._outcome = None
            self._gone.notify_all()
        try:
            self._wait_for_others()
        except BaseException:
            threading.Thread(target=self._wait_for_others, name="wasi-threads-end", daemon=True).start()
            raise
        return error

    def _wait_for_others(self) -> None:
        with self._gone:
            while self._running:
                self._interrupt_others()
                self._gone.wait(_PAUSE)


def status_of(error: BaseException | None) -> int:
    """The exit status of a program that has ended; raises what isn't one."""
    if error is None:
        return 0
    if isinstance(error, ExitStatus):
        return error.code
    raise error


async def run_async(group: Group, start: Any) -> int:
    """Run the first thread in an event loop, and return the program's exit status."""
    import asyncio

    loop = asyncio.get_running_loop()
    first = asyncio.ensure_future(start.call_async())
    group.on_end = lambda: loop.call_soon_threadsafe(first.cancel)
    error: BaseException | None = None
    try:
        await first
    except BaseException as ended:
        error = ended
    # Where the others are in host functions this can take long.
    return status_of(await asyncio.shield(asyncio.to_thread(group.end, error)))
