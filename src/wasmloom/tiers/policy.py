"""The tier "auto": modules run interpreted first, and as compiled code once it is ready.

A store with a large module *mixes*: functions get compiled code one by one, by where time goes (`wasmloom.tiers.hot`).
Other stores change over as a whole, between two calls from the host or in the middle of one (see
`wasmloom.tiers.change`). Until then everything is interpreted. Modules that are instantiated later, in a store that has
changed over, are compiled first.

Before that, a guest that has run for some milliseconds gets code made of stencils (see `wasmloom.baseline`). Where
there is no LLVM, that is all.

With a `threshold` the change is deterministic: after that many calls from the host, the next one compiles and waits
for the code. Without one, modules are compiled in the background, by another process, when there are many calls or long
ones.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE, ENOMEM
from typing import TYPE_CHECKING, Any

from wasmloom.compiler.identity import has_llvm
from wasmloom.runtime import forks
from wasmloom.runtime.hooks import set_check_at_call, set_look_inside_call
from wasmloom.runtime.runtime_calls import take_samples
from wasmloom.system import log
from wasmloom.tiers.stores import ask_later, begin_to_mix, change_over, count_round, keeps_stacks

if TYPE_CHECKING:
    from wasmloom.interpreter.code_space import CodeSpace
    from wasmloom.tiers.background import Module

    #: A place in bytecode: the code space, the function (numbered among those defined in the module), the offset.
    Position = tuple[CodeSpace, int, int]

#: Calls from the host between two checks whether the code is ready.
CALLS_BETWEEN_LOOKS = 50
#: A store with so many suspended stacks stays in bytecode, whose stacks are small and lie together: see docs/tiers.md.
MANY_STACKS = 4096
#: How many times OSR entries are compiled in the background for the places where a guest stands. It may have moved on
#: by the time they are ready; after this many attempts, it waits for them.
ROUNDS = 3


def check_at_call(store: Any) -> int:
    """The host calls into a store of the tier "auto" whose tier is due for a check.

    Changes the store over if possible. Returns the number of calls until the next check; 0: never again.
    """
    if not has_llvm():
        return 0
    modules = list(store.modules.values())
    if _should_mix(modules):
        begin_to_mix(store)
        return 0
    if store.engine.threshold is not None:
        for module in modules:
            module.compile()
    elif _stays_for_now(store):
        return CALLS_BETWEEN_LOOKS
    elif not _ready(store, []):
        return 0 if _failed(modules) else CALLS_BETWEEN_LOOKS
    change_over(store)
    if log.TIERS:
        log.tell(f"{store!r} runs compiled code from now on")
    return 0


def check_inside_call(store: Any, standing: list[Position]) -> bool | None:
    """Whether the bytecode that stands at some positions, the innermost first, can go on as compiled code.

    If not, what is missing is compiled in the background, and the store will be checked again. None: it can never go
    on.
    """
    if not has_llvm() or _should_mix(list(store.modules.values())):
        return None
    if _stays_for_now(store):
        return False
    if _ready(store, [] if store.rounds > ROUNDS else standing):
        return True
    if _failed(list(store.modules.values())):
        return None
    count_round(store)
    return False


def _stays_for_now(store: Any) -> bool:
    """Whether a store keeps its stacks of bytecode. It is checked again: later it may have others."""
    if not keeps_stacks(store, MANY_STACKS):
        return False
    ask_later(store)
    if log.TIERS:
        log.tell(f"{store!r} stays as it is for now, because of its stacks")
    return True


def _should_mix(modules: list[Module]) -> bool:
    """Whether a store with these modules should mix. One that doesn't got such a module in the middle of a call."""
    return any(module.mixes and module.compiled is None for module in modules)


def look_inside_call(store: Any) -> None:
    """A guest runs whose store mixes: have compiled what is worth it.

    What this raises leaves the guest: what signal handlers raise does. Where Python has no memory, stack or files left
    to look, the guest goes on as it is, and the next look may find some.
    """
    try:
        if store.engine.tier == "auto":
            _look(store)
    except (ImportError, MemoryError, RecursionError):
        pass
    except OSError as error:
        if error.errno not in (EMFILE, ENFILE, ENOMEM):
            raise


def _look(store: Any) -> None:
    with forks.importing:
        from wasmloom.tiers.hot import look

    addresses = take_samples(store)
    for module in set(store.modules.values()):
        look(module, addresses, store)


def _ready(store: Any, standing: list[Position]) -> bool:
    """Whether all code that a store needs is ready. Has what is missing compiled."""
    with forks.importing:
        from wasmloom.tiers.background import Background  # importing it takes a while

    ready = True
    for module in list(store.modules.values()):
        known = () if module.compiled is None else module.compiled.positions
        missing = [(i, at) for space, i, at in standing if space is module.code_space and (i, at) not in known]
        if module.compiled is None or missing:
            ready = False
            background = module.background
            if background is None or background.process != os.getpid() or (background.done and not background.failed):
                module.wait_for(Background(module, missing, store))
            else:
                background.tell(store)
    return ready


def _failed(modules: list[Module]) -> bool:
    return any(module.background is not None and module.background.failed for module in modules)


set_check_at_call(check_at_call)
set_look_inside_call(look_inside_call)
