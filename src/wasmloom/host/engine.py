"""The engine: how modules are compiled."""

from __future__ import annotations

from functools import cache

from wasmloom.errors import WasmError
from wasmloom.runtime.regions import can_reserve

#: How guest code is run.
TIERS: tuple[str, ...] = ("interpreter", "compiler", "auto")
#: When function bodies are validated and translated to bytecode: all at once; validated at once, translated at their
#: first call; or both at their first call.
TRANSLATIONS: tuple[str, ...] = ("eager", "lazy-translation", "lazy")
#: What keeps guests within their memories: address space that is reserved around each, or checks of every address.
MEMORIES: tuple[str, ...] = ("auto", "guarded", "checked")
#: A process that can't reserve this many memories at once limits its address space: "auto" then means "checked".
_PROBED = 16


class Engine:
    """Settings that modules are compiled with; modules and stores of one engine go together.

    `tier`: ``"interpreter"``; the optimising compiler isn't built yet, so that ``"compiler"`` and ``"auto"`` raise
    `WasmError`. `translation`: one of `TRANSLATIONS`; with ``"lazy"`` an invalid function body is only found when the
    function is first called. `fuel`: whether guest code counts what it executes (see `Store`). `memory`: with
    ``"guarded"`` each memory reserves 8 GiB of address space, and accesses cost nothing extra; with ``"checked"`` it
    takes what it holds, each access is checked, and a memory doesn't grow while Python has views of it; ``"auto"``, the
    default, is the former unless the process's address space is limited (``ulimit -v``). Raises `ValueError` for
    anything else, and `WasmError` for guarded memories where there can't be any.

    The attribute `memory` says what was asked for, `checked` whether the engine's memories are checked.
    """

    __slots__ = ("checked", "fuel", "memory", "tier", "translation")

    def __init__(
        self,
        *,
        tier: str = "interpreter",
        translation: str = "lazy-translation",
        fuel: bool = False,
        memory: str = "auto",
    ) -> None:
        if tier not in TIERS:
            raise ValueError(f"unknown tier {tier!r}; known are {', '.join(TIERS)}")
        if translation not in TRANSLATIONS:
            raise ValueError(f"unknown translation {translation!r}; known are {', '.join(TRANSLATIONS)}")
        if memory not in MEMORIES:
            raise ValueError(f"unknown memory {memory!r}; known are {', '.join(MEMORIES)}")
        if tier != "interpreter":
            raise WasmError(f"tier {tier!r} needs the optimising compiler, which this version doesn't have")
        self.tier = tier
        self.translation = translation
        if memory == "guarded" and not can_reserve(1):
            raise WasmError("memories can't be guarded: the system doesn't let this process reserve 8 GiB (ulimit -v?)")
        self.fuel = bool(fuel)
        self.memory = memory
        self.checked = memory == "checked" or (memory == "auto" and not _plenty())

    def __repr__(self) -> str:
        return (
            f"wasmloom.Engine(tier={self.tier!r}, translation={self.translation!r}, fuel={self.fuel}, "
            f"memory={self.memory!r})"
        )


@cache
def _plenty() -> bool:
    """Whether the process has address space for guarded memories; found out once."""
    return can_reserve(_PROBED)


_default: Engine | None = None


def default_engine() -> Engine:
    """The engine of modules and stores that don't name one."""
    global _default
    if _default is None:
        _default = Engine()
    return _default
