"""Compiling what is hot, for stores that mix, in the background; and keeping it for the next process.

`look` is called now and then in the middle of guests' calls. It passes on where ticks have found bytecode, and starts
the work when there may be some (`wasmloom.tiers.heat`). A thread does that, and a worker process: nobody waits for it,
and whatever fails leaves functions as they are.

**The cache** keeps each group under a key of its own: the module's with a number behind it, from 0 on, up to the first
that isn't there. A group stands for itself: none needs another one, and what the code space has already counts less
than once. So processes that run the same module at the same time may each put theirs there; if two take the same
number, one group is compiled again later. What a module has once is under a key of its own, too. The next process asks
when its first guest has run for some ticks. The code of the whole module, where there is that, is used from the first
call on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from wasmloom.compiler.bodies import callees
from wasmloom.compiler.workforce import Abandoned
from wasmloom.errors import WasmError
from wasmloom.runtime import forks
from wasmloom.system import log
from wasmloom.system.apart import run_apart
from wasmloom.tiers import mixed
from wasmloom.tiers.background import Background
from wasmloom.tiers.heat import Group, Heat

if TYPE_CHECKING:
    from wasmloom.compiler.cache import Cache
    from wasmloom.compiler.images import Image
    from wasmloom.tiers.background import Module

#: Groups of a module that are kept at most.
MOST_KEPT = 64


def look(module: Module, addresses: list[int], store: Any) -> None:
    """Note where ticks have found bytecode, some of it perhaps of a module, and have compiled what is worth it.

    Call with the store locked. Signal handlers and other threads may do the same meanwhile.
    """
    heat = module.heat
    if heat is None or heat.process != os.getpid():
        heat = _new_heat(module)
        module.note_heat(heat)
    places = module.code_space.places(addresses)
    if places:
        heat.note(places)
    background = module.background
    is_busy = background is not None and not background.done and background.process == heat.process
    if heat.is_due and not is_busy:
        module.wait_for(HotBackground(module, heat, store))


def _new_heat(module: Module) -> Heat:
    decoded = module.decoded
    first = decoded.num_imported_funcs
    heat = Heat(
        os.getpid(),
        lambda index: decoded.body_ends[index] - decoded.body_starts[index],
        lambda index: [callee - first for callee in callees(decoded, index) if callee >= first],
    )
    heat.know(mixed.replaced(module))
    return heat


class HotBackground(Background):
    """The compilation of what is hot in a module, in the background, as long as there is something."""

    def __init__(self, module: Any, heat: Heat, store: Any) -> None:
        self._heat = heat
        super().__init__(module, [], store)

    def _compile(self) -> None:
        if not self._heat.working.acquire(blocking=False):
            return
        try:
            if not self._heat.asked:
                self._heat.asked = True
                self._try("code from the cache", self._load)
            while (group := self._heat.take()) is not None:
                what = f"code for {len(group.functions)} functions and {len(group.loops)} loops"
                error = self._try(what, partial(self._make, group))
                if error is None:
                    self._heat.succeeded(group)
                elif type(error) is WasmError:  # the engine's code limit
                    self._heat.give_up()
                else:
                    self._heat.failed(group)
        finally:
            self._heat.working.release()

    def _try(self, what: str, work: Callable[[], None]) -> Exception | None:
        """Do some work. Returns why it can't be done; whatever that is, the module goes on as it is."""
        begin = time.monotonic()
        error: Exception | None = None
        try:
            work()
        except Abandoned:
            raise
        except Exception as raised:
            error = raised
        if log.TIERS:
            how = "ready" if error is None else f"none, {error!r}"
            log.tell(f"{what} of {self._said()}: {how}, {time.monotonic() - begin:.3f} s")
        return error

    def _make(self, group: Group) -> None:
        """Have a group compiled."""
        kept: _Kept | None = self._heat.kept
        keep, keep_base = (None, None) if kept is None else (kept.keep, kept.keep_base)
        self._do(lambda module: mixed.begin(module, [], [], keep_base) if module.mixed is None else None)
        self._do(lambda module: mixed.begin(module, group.functions, group.loops, keep))

    def _load(self) -> None:
        """Load what the cache has."""
        self._do(lambda module: _begin_load(module, self._heat))


# --- the cache ---


class _Kept:
    """What the cache has of a module, group by group."""

    def __init__(self, cache: Cache, key: str) -> None:
        self._cache = cache
        self._key = key

    def _key_of(self, part: object) -> str:
        return sha256(f"{self._key} {part}".encode()).hexdigest()

    def _put(self, part: object, pieces: list[list[bytes]], *more: bytes) -> None:
        with forks.importing:
            from wasmloom.compiler.compiled import link_pieces

        self._cache.put(self._key_of(part), [*link_pieces(pieces), *more], mapped=True)

    def base(self) -> Image | None:
        """What a module has once."""
        with forks.importing:
            from wasmloom.compiler.compiled import images_of

        entry = self._cache.open(self._key_of("once"))
        return None if entry is None else images_of(entry, 1)[0]

    def keep_base(self, made: mixed.Made) -> None:
        """Keep it."""
        self._put("once", [made.objects])

    def groups(self) -> Iterator[mixed.Known]:
        """All groups."""
        with forks.importing:
            from wasmloom.compiler.compiled import images_of
            from wasmloom.compiler.osr import OsrEntry

        for number in range(MOST_KEPT):
            entry = self._cache.open(self._key_of(number))
            if entry is None:
                return
            count = len(entry.blobs) // 2
            functions, loops, rows = json.loads(entry.read(2 * count))
            places = [(function, at) for function, at in loops]
            entries = [OsrEntry(f, p, tuple(ls), tuple((s, b) for s, b in os)) for f, p, ls, os in rows]
            images = images_of(entry, count)
            first = count - len(places)
            yield mixed.Known(functions, places, entries, images[0] if first else None, images[first:])

    def keep(self, made: mixed.Made) -> None:
        """Keep a group beside those that are there."""
        free = next((number for number in range(MOST_KEPT) if not self._cache.has(self._key_of(number))), None)
        if free is None:
            return
        # Loops that nothing arrives at have no code.
        reached = [number for number, data in enumerate(made.more) if data]
        loops, entries = ([row[n] for n in reached] for row in (made.loops, made.entries))
        header = json.dumps([made.functions, loops, entries]).encode()
        functions = [made.objects] if made.objects else []
        self._put(free, functions + [[made.more[n]] for n in reached], header)


def use_whole(module: Any) -> None:
    """Let a module run as compiled code from now on, if the cache has all of it: its first instance is being made.

    Whatever fails leaves everything as it is. Raises what signal handlers raise: they don't run in the middle of it.
    """
    if module.heat is not None and module.heat.process == os.getpid():
        return
    heat = _new_heat(module)
    module.note_heat(heat)
    outcome = run_apart(lambda _: _use_whole(module, heat))
    if log.TIERS and outcome.error is not None:
        log.tell(f"no use for the code of all of {module!r}: {outcome.error!r}")


def _use_whole(module: Module, heat: Heat) -> None:
    with heat.working:
        kept, whole = _look_up(module)
        if whole is not None:
            heat.asked, heat.kept = True, kept
            functions, _ = mixed.load(module, range(len(module.decoded.body_starts)), whole, [])
            heat.know(functions)


def _look_up(module: Module) -> tuple[_Kept, Image | None]:
    """What the cache has of a module: groups, and an image of all of it."""
    with forks.importing:
        from wasmloom.compiler.cache import Cache, cache_key, whole_module

    decoded, options, cache = module.decoded, mixed.options_of(module), Cache()
    kept = _Kept(cache, cache_key(decoded.digest, {**options.as_dict(), "functions": "hot"}))
    # Functions of continuations stay bytecode, also for their compiled callers.
    entry = None if decoded.has_continuations else whole_module(cache, decoded.digest, options)
    if entry is None:
        return kept, None
    with forks.importing:
        from wasmloom.compiler.images import Image

    return kept, Image(entry)


def _begin_load(module: Module, heat: Heat) -> Any:
    """Load what the cache has of a module: the work, which doesn't keep it alive; see `wasmloom.tiers.mixed.begin`."""
    if not module.engine.cache:
        return None
    kept, whole = _look_up(module)

    def work(abandoned: Callable[[], bool]) -> Callable[[Module], None]:
        heat.kept = kept
        base = whole or kept.base()
        groups = [] if base is None else list(kept.groups())

        def end(module: Module) -> None:
            if base is not None:
                everything = range(len(module.decoded.body_starts))
                functions, loops = mixed.load(module, everything if whole else [], base, groups)
                heat.know(functions)
                heat.tried_loops.update(loops)

        return end

    return work
