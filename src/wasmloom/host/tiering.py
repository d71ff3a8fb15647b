"""The tier "auto": modules run interpreted first, and as machine code once that is there.

A store changes over as a whole, between two calls from the host: while nothing is inside, no call waits and no
continuation is suspended, so that the two kinds of code never share a stack. Until then everything goes on
interpreted. What is instantiated in a store that has changed over is compiled first.

With a `threshold` the change is deterministic: after so many calls from the host, the next one compiles, and waits for
it. Without one, modules are compiled in the background, by another process, when calls become many or take long.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from wasmloom.host.state import use_compiled
from wasmloom.runtime.collector import collect_garbage, statistics

if TYPE_CHECKING:
    from wasmloom.host.module import Module

#: Calls from the host that make a module worth compiling. One call that takes more than a tick of the ticker does, too.
MANY_CALLS = 500
#: While code is being made, so many calls go by before the next look whether it is there.
CALLS_BETWEEN_LOOKS = 50


class Background:
    """The compilation of one module, in a thread that waits for a worker process."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="wasmloom compiler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._module.compile_isolated()
        except Exception as error:
            # The module goes on interpreted: whatever the reason is, an explicit `Module.compile()` raises it.
            self.failed = error

    def join(self, timeout: float | None = None) -> None:
        """Wait until the code is there, or it is clear that there won't be any."""
        self._thread.join(timeout)


def look(store: Any) -> int:
    """A store of the tier "auto" is called from the host, and it is time to look at its tier.

    Changes it over if that can be done. Gives the number of calls until the next look; 0: never again.
    """
    modules = list(store.modules.values())
    threshold = store.engine.threshold
    if threshold is not None:
        for module in modules:
            module.compile()
    else:
        for module in modules:
            if module.compiled is None and module.background is None:
                module.background = Background(module)
        if any(module.background is not None and module.background.failed for module in modules):
            return 0
    if all(module.compiled is not None for module in modules) and _is_quiet(store):
        use_compiled(store)
        return 0
    return CALLS_BETWEEN_LOOKS


def _is_quiet(store: Any) -> bool:
    """Whether nothing in a store has begun and not ended."""
    if statistics(store)["continuations"]:
        collect_garbage(store)
    return not statistics(store)["continuations"]


def first_look(threshold: int | None) -> int:
    """How many calls from the host a store of the tier "auto" takes before the first `look`."""
    return MANY_CALLS if threshold is None else threshold + 1

