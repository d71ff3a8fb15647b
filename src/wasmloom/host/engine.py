"""The engine: how modules are compiled."""

from __future__ import annotations

from wasmloom.errors import WasmError

#: How guest code is run.
TIERS: tuple[str, ...] = ("interpreter", "compiler", "auto")
#: When function bodies are validated and translated to bytecode: all at once; validated at once, translated at their
#: first call; or both at their first call.
TRANSLATIONS: tuple[str, ...] = ("eager", "lazy-translation", "lazy")


class Engine:
    """Settings that modules are compiled with; modules and stores of one engine go together.

    `tier`: ``"interpreter"``; the optimising compiler isn't built yet, so that ``"compiler"`` and ``"auto"`` raise
    `WasmError`. `translation`: one of `TRANSLATIONS`; with ``"lazy"`` an invalid function body is only found when the
    function is first called. `fuel`: whether guest code counts what it executes (see `Store`). Raises `ValueError`
    for anything else.
    """

    __slots__ = ("fuel", "tier", "translation")

    def __init__(self, *, tier: str = "interpreter", translation: str = "lazy-translation", fuel: bool = False) -> None:
        if tier not in TIERS:
            raise ValueError(f"unknown tier {tier!r}; known are {', '.join(TIERS)}")
        if translation not in TRANSLATIONS:
            raise ValueError(f"unknown translation {translation!r}; known are {', '.join(TRANSLATIONS)}")
        if tier != "interpreter":
            raise WasmError(f"tier {tier!r} needs the optimising compiler, which this version doesn't have")
        self.tier = tier
        self.translation = translation
        self.fuel = bool(fuel)

    def __repr__(self) -> str:
        return f"wasmloom.Engine(tier={self.tier!r}, translation={self.translation!r}, fuel={self.fuel})"


_default: Engine | None = None


def default_engine() -> Engine:
    """The engine of modules and stores that don't name one."""
    global _default
    if _default is None:
        _default = Engine()
    return _default
