"""The tier "auto": modules run interpreted first, and as machine code once that is there.

A store changes over as a whole, between two calls from the host or in the middle of one (see `wasmloom.runtime.osr`).
Until then everything goes on interpreted. What is instantiated in a store that has changed over is compiled first.

With a `threshold` the change is deterministic: after so many calls from the host, the next one compiles, and waits for
it. Without one, modules are compiled in the background, by another process, when calls become many or take long.
"""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from wasmloom.host.state import compiled_code, use_compiled
from wasmloom.runtime import log
from wasmloom.runtime.osr import look_again

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
    """The compilation of one module, in a thread that waits for a worker process."""

    def __init__(self, module: Module, positions: list[tuple[int, int]], store: Any) -> None:
        self._module = module
        self._positions = positions
        self._stores = [weakref.ref(store)]
        self.failed: BaseException | None = None
        self.done = False
        self._thread = threading.Thread(target=self._run, name="wasmloom compiler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begin = time.monotonic()
        try:
            self._module.compile_behind(self._positions)
        except Exception as error:
            # The module goes on interpreted: whatever the reason is, an explicit `Module.compile()` raises it.
            self.failed = error
        self.done = True
        if log.TIERS:
            what = f"code for {self._module!r} and {len(self._positions)} places in it"
            how = "compiled" if self.failed is None else f"not compiled, {self.failed!r}"
            log.tell(f"{what}: {how}, {time.monotonic() - begin:.3f} s")
        for reference in self._stores:
            store = reference()
            if store is not None:
                look_again(store)
        if self.failed is None:
            self._compile_rest()
        else:
            warnings.warn(f"{self._module!r} goes on interpreted: {self.failed}", RuntimeWarning, stacklevel=1)

    def _compile_rest(self) -> None:
        begin = time.monotonic()
        try:
            self._module.compile_rest()
        except Exception as error:
            # What is missing is compiled when it is called, and that raises.
            warnings.warn(f"{self._module!r} is compiled in part: {error}", RuntimeWarning, stacklevel=1)
        if log.TIERS:
            log.tell(f"the rest of {self._module!r} after {time.monotonic() - begin:.3f} s")

    def tell(self, store: Any) -> None:
        """Let a store be looked at again when this is done."""
        self._stores.append(weakref.ref(store))
        if self.done:
            look_again(store)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the code is there, or it is clear that there won't be any."""
        self._thread.join(timeout)


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
            if module.background is None or (module.background.done and not module.background.failed):
                module.background = Background(module, missing, store)
            else:
                module.background.tell(store)
    return ready


def _failed(modules: list[Module]) -> bool:
    return any(module.background is not None and module.background.failed for module in modules)
