"""Compilation in the background: modules are compiled by worker processes, while threads of this one wait for them."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from wasmloom.compiler.workforce import Abandoned, most_behind
from wasmloom.system import log
from wasmloom.system.locks import Lock
from wasmloom.system.threads import start
from wasmloom.tiers.stores import check_again

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.compiler.compiled import CompiledModule
    from wasmloom.interpreter.code_space import CodeSpace
    from wasmloom.tiers.heat import Heat

    #: Slow work. Its argument tells whether the result is still wanted; it returns what the module is then called with.
    Work = Callable[[Callable[[], bool]], Callable[["Module"], None]]


class Module(Protocol):
    """The part of `wasmloom.Module` that this file, `wasmloom.tiers.hot` and `wasmloom.tiers.policy` use: see there."""

    engine: Any
    decoded: DecodedModule
    code_space: CodeSpace
    compiled: CompiledModule | None
    mixed: CompiledModule | None
    mixes: bool
    heat: Heat | None
    background: Background | None

    def note_heat(self, heat: Heat) -> None:
        """Note what is known of where its time goes."""

    def compile(self) -> CompiledModule:
        """Compile everything, in this thread."""

    def begin_behind(self, positions: list[tuple[int, int]]) -> Work:
        """Compile what the module needs first."""

    def begin_rest(self) -> Work | None:
        """Compile what `begin_behind` has left out."""

    def wait_for(self, background: Background) -> None:
        """Note what compiles the module."""


class Background:
    """The compilation of one module by a worker process, while a thread waits for it.

    A few threads do this for all modules of the process, one module after the other. They don't keep the module alive:
    when it goes, its compilation ends.
    """

    def __init__(self, module: Module, positions: list[tuple[int, int]], store: Any) -> None:
        self._module = weakref.ref(module)
        self._positions = positions
        self._stores = [weakref.ref(store)]
        self.failed: BaseException | None = None
        self.done = False
        #: The process that this belongs to: a forked child has none of the threads.
        self.process = os.getpid()
        #: Held until everything is done.
        self._ended = allocate_lock()
        self._ended.acquire()
        _queue.add(self)

    def _said(self) -> str:
        """What people read of the module. This decodes its names: only for when somebody is told, never in a call."""
        module = self._module()
        return "a module that is gone" if module is None else repr(module)

    def is_abandoned(self) -> bool:
        """Whether the module is gone."""
        return self._module() is None

    def run(self) -> None:
        """Do all of it, in one of the threads."""
        try:
            self._compile()
        except Abandoned:
            pass
        finally:
            self.done = True
            self._ended.release()

    def give_up(self, error: BaseException) -> None:
        """Note that no thread can do it: the module stays interpreted. No warning: this is in the middle of a guest's
        call."""
        self.failed = error
        self.done = True
        self._ended.release()

    def _compile(self) -> None:
        begin = time.monotonic()
        try:
            self._do(lambda module: module.begin_behind(self._positions))
        except Abandoned:
            raise
        except Exception as error:
            # The module stays interpreted. An explicit `Module.compile()` raises the reason.
            self.failed = error
        self.done = True
        if log.TIERS:
            what = f"code for {self._said()} and {len(self._positions)} places in it"
            how = "compiled" if self.failed is None else f"not compiled, {self.failed!r}"
            log.tell(f"{what}: {how}, {time.monotonic() - begin:.3f} s")
        for reference in self._stores:
            store = reference()
            if store is not None:
                check_again(store)
            del store
        if self.failed is not None:
            warnings.warn(f"{self._said()} stays interpreted: {self.failed}", RuntimeWarning, stacklevel=1)
            return
        begin = time.monotonic()
        try:
            self._do(lambda module: module.begin_rest())
        except Abandoned:
            raise
        except Exception as error:
            # What is missing is compiled when it is called; that raises the error.
            warnings.warn(f"{self._said()} is compiled in part: {error}", RuntimeWarning, stacklevel=1)
        if log.TIERS:
            log.tell(f"the rest of {self._said()} after {time.monotonic() - begin:.3f} s")

    def _do(self, begin: Callable[[Module], Any]) -> None:
        """Do the slow work without keeping the module alive."""
        module = self._module()
        if module is None:
            raise Abandoned("the module is gone")
        work = begin(module)
        del module
        if work is None:
            return
        end = work(self.is_abandoned)
        module = self._module()
        if module is not None:
            end(module)

    def tell(self, store: Any) -> None:
        """Have a store checked again when this is done."""
        self._stores.append(weakref.ref(store))
        if self.done:
            check_again(store)

    def join(self, timeout: float = -1) -> None:
        """Wait until the code is ready, or until it is clear that there won't be any."""
        if self._ended.acquire(timeout=timeout):
            self._ended.release()


class _Queue:
    """Modules to be compiled in the background, and the threads that do it. The threads end when there is no more
    work."""

    def __init__(self) -> None:
        # Signal handlers may interrupt a holder: the lock nests, and every operation under it leaves the queue
        # consistent.
        self._lock = Lock()
        self._waiting: deque[Background] = deque()
        self._threads = 0

    def add(self, background: Background) -> None:
        """Queue a module."""
        with self._lock:
            self._waiting.append(background)
            if self._threads < most_behind():
                try:
                    start(self._run)
                except RuntimeError as error:  # too many threads, or Python is ending
                    if self._threads == 0:
                        self._waiting.remove(background)
                        background.give_up(error)
                    return
                self._threads += 1

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                background = self._waiting.popleft()
            try:
                background.run()
            except BaseException as error:
                # The thread goes on with other modules: there is nobody to report this to.
                background.failed = background.failed or error
            del background


_queue = _Queue()


def _after_fork_in_child() -> None:
    global _queue
    _queue = _Queue()


os.register_at_fork(after_in_child=_after_fork_in_child)
