"""What the tests of the tiers share: the engines, and modules for them."""

from __future__ import annotations

from typing import Any

import wasmloom as wl

#: Settings of an engine for each way to run code.
ENGINES: dict[str, dict[str, Any]] = {
    "interpreter": {"tier": "interpreter"},
    "baseline": {"tier": "baseline", "translation": "eager"},
    "compiler": {"tier": "compiler"},
    "libcall": {"tier": "compiler", "stack_switching": "libcall"},
    "checked": {"tier": "compiler", "memory": "checked"},
    "auto": {"tier": "auto", "threshold": 1},
}


def engine_of(name: str, **settings: Any) -> wl.Engine:
    """One of `ENGINES`."""
    return wl.Engine(cache=False, **ENGINES[name], **settings)


def exports_of(source: str | bytes, engine: wl.Engine, imports: dict[str, Any] | None = None, **settings: Any) -> Any:
    """The exports of a module, in a store of its own."""
    store = wl.Store(engine, **settings)
    return wl.Instance(wl.Module(source, engine), imports or {}, store=store).exports


def outcome_of(function: Any, *arguments: Any) -> tuple[Any, ...]:
    """How a call ends: its results, or why it trapped and where."""
    try:
        return ("result", function(*arguments))
    except wl.Trap as trap:
        return ("trap", trap.code, trap.frames)
    except wl.WasmException as error:
        return ("exception", error.payload)
