"""The tier "auto": modules run interpreted first, and as machine code once that is there.

A store changes over as a whole, between two calls from the host or in the middle of one (see `wasmloom.runtime.osr`).
Until then everything goes on interpreted. What is instantiated in a store that has changed over is compiled first.

With a `threshold` the change is deterministic: after so many calls from the host, the next one compiles, and waits for
it. Without one, modules are compiled in the background, by another process, when calls become many or take long.
"""

from __future__ import annotations

import os
import time
import warnings
import weakref
from _thread import RLock, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wasmloom.compiler.workers import Abandoned, most_behind
from wasmloom.host.fixed import fill
from wasmloom.host.state import compiled_code, use_compiled
from wasmloom.runtime.osr import look_again
from wasmloom.system import log

if TYPE_CHECKING:
    from wasmloom.host.module import Module
    from wasmloom.interpreter.code import CodeSpace

    #: Of bytecode: whose it is, function (of those defined in the module), offset.
    Position = tuple[CodeSpace, int, int]

#: While code is being made, so many calls go by before the next look whether it is there.
CALLS_BETWEEN_LOOKS = 50
#: So often entries are made in the background for where a guest stands, which may be elsewhere by the time they are
#: there; afterwards it waits for them.
ROUNDS = 3


class Background:
    """The compilation of one module by a worker process, while a thread waits for it.

    Few threads do that for all modules of the process, one module after the other. They don't keep the module: when it
    goes, so does its compilation.
    """

    def __init__(self, module: Module, positions: list[tuple[int, int]], store: Any) -> None:
        self._module = weakref.ref(module)
        self._positions = positions
        self._stores = [weakref.ref(store)]
        self._name = repr(module)
        self.failed: BaseException | None = None
        self.done = False
        #: Which process this is for: a forked child has none of the threads.
        self.process = os.getpid()
        #: Held until everything is done.
        self._ended = allocate_lock()
        self._ended.acquire()
        _queue.add(self)

    def is_abandoned(self) -> bool:
        """Whether nobody has the module any more."""
        return self._module() is None

    def run(self) -> None:
        """In one of the threads: all of it."""
        try:
            self._compile()
        except Abandoned:
            pass
        finally:
            self.done = True
            self._ended.release()

    def _compile(self) -> None:
        begin = time.monotonic()
        try:
            self._do(lambda module: module.begin_behind(self._positions))
        except Abandoned:
            raise
        except Exception as error:
            # The module goes on interpreted: whatever the reason is, an explicit `Module.compile()` raises it.
            self.failed = error
        self.done = True
        if log.TIERS:
            what = f"code for {self._name} and {len(self._positions)} places in it"
            how = "compiled" if self.failed is None else f"not compiled, {self.failed!r}"
            log.tell(f"{what}: {how}, {time.monotonic() - begin:.3f} s")
        for reference in self._stores:
            store = reference()
            if store is not None:
                look_again(store)
            del store
        if self.failed is not None:
            warnings.warn(f"{self._name} goes on interpreted: {self.failed}", RuntimeWarning, stacklevel=1)
            return
        begin = time.monotonic()
        try:
            self._do(lambda module: module.begin_rest())
        except Abandoned:
            raise
        except Exception as error:
            # What is missing is compiled when it is called, and that raises.
            warnings.warn(f"{self._name} is compiled in part: {error}", RuntimeWarning, stacklevel=1)
        if log.TIERS:
            log.tell(f"the rest of {self._name} after {time.monotonic() - begin:.3f} s")

    def _do(self, begin: Callable[[Module], Any]) -> None:
        """Do what takes long without keeping the module."""
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
        """Let a store be looked at again when this is done."""
        self._stores.append(weakref.ref(store))
        if self.done:
            look_again(store)

    def join(self, timeout: float = -1) -> None:
        """Wait until the code is there, or it is clear that there won't be any."""
        if self._ended.acquire(timeout=timeout):
            self._ended.release()


class _Queue:
    """What is to be compiled in the background, and the threads that see to it; they end when there is nothing."""

    def __init__(self) -> None:
        # Signal handlers may come in between: it nests, and every operation under it leaves all whole.
        self._lock = RLock()
        self._waiting: deque[Background] = deque()
        self._threads = 0

    def add(self, background: Background) -> None:
        """Have something compiled."""
        with self._lock:
            self._waiting.append(background)
            if self._threads < most_behind():
                start_new_thread(self._run, ())
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
                # The thread goes on, for the others: nobody else is there to be told.
                background.failed = background.failed or error
            del background


_queue = _Queue()


def _after_fork_in_child() -> None:
    global _queue
    _queue = _Queue()


os.register_at_fork(after_in_child=_after_fork_in_child)


def look(store: Any) -> int:
    """A store of the tier "auto" is called from the host, and it is time to look at its tier.

    Changes it over if that can be done. Gives the number of calls until the next look; 0: never again.
    """
    modules = list(store.modules.values())
    if store.engine.threshold is not None:
        for module in modules:
            module.compile()
    elif not _ready(store, []):
        return 0 if _failed(modules) else CALLS_BETWEEN_LOOKS
    use_compiled(store, compiled_code(store))
    if log.TIERS:
        log.tell(f"{store!r} runs machine code from now on")
    return 0


def look_inside(store: Any, standing: list[Position]) -> bool | None:
    """Whether the bytecode that stands at some positions, the innermost first, can go on as machine code.

    If not, what is missing is made in the background, and the store will be looked at again; None: never.
    """
    if _ready(store, [] if store.rounds > ROUNDS else standing):
        return True
    if _failed(list(store.modules.values())):
        return None
    store.rounds += 1
    return False


def _ready(store: Any, standing: list[Position]) -> bool:
    """Whether all code that a store needs is there; lets what isn't be made."""
    ready = True
    for module in list(store.modules.values()):
        known = () if module.compiled is None else module.compiled.positions
        missing = [(i, at) for space, i, at in standing if space is module.code_space and (i, at) not in known]
        if module.compiled is None or missing:
            ready = False
            background = module.background
            if background is None or background.process != os.getpid() or (background.done and not background.failed):
                fill(module, background=Background(module, missing, store))
            else:
                background.tell(store)
    return ready


def _failed(modules: list[Module]) -> bool:
    return any(module.background is not None and module.background.failed for module in modules)
