"""The engine: how modules are compiled."""

from __future__ import annotations

import os
from functools import cache
from operator import index
from typing import TYPE_CHECKING, Any, final
from weakref import ref

from wasmloom.compiler import identity  # noqa: F401  (notes what the engine's files are like)
from wasmloom.errors import WasmError
from wasmloom.host.fixed import Fixed, fill
from wasmloom.runtime import forks
from wasmloom.runtime.codememory import CodeBudget
from wasmloom.runtime.epochs import EpochCounter
from wasmloom.runtime.frames import SOURCE
from wasmloom.runtime.regions import can_reserve
from wasmloom.system import log

if TYPE_CHECKING:
    from typing import Self

    from wasmloom.compiler.options import Options

#: The tiers that guest code can run in.
TIERS: tuple[str, ...] = ("interpreter", "baseline", "compiler", "auto")
#: When function bodies are validated and translated to bytecode: both at once; validated at once and translated at the
#: first call; or both at the first call.
TRANSLATIONS: tuple[str, ...] = ("eager", "lazy-translation", "lazy")
#: What keeps guests within their memories: address space reserved around each, or checks of every address.
MEMORIES: tuple[str, ...] = ("auto", "guarded", "checked")
#: What backtraces tell: offsets in modules, or places in the source, too.
BACKTRACES: tuple[str, ...] = ("offsets", SOURCE)
#: If a process can't reserve this many memories at once, its address space is limited, and "auto" means "checked".
_PROBED = 16
#: Bytes of code that an engine may have: by default, and at most.
DEFAULT_CODE_LIMIT = 1 << 30
_MAX_LIMIT = (1 << 63) - 1
#: The largest threshold: a store is never called more often.
_MAX_THRESHOLD = 1 << 30
#: How compiled code switches stacks: by instructions of its own, or by calls into the runtime.
STACK_SWITCHING: tuple[str, ...] = ("native", "libcall")


@final
class Engine(Fixed):
    """Settings that modules are compiled with. Modules and stores must belong to the same engine.

    `tier`: ``"interpreter"``; ``"compiler"``: modules are compiled when they are made; ``"baseline"``: they run as code
    that is copied, soon; or ``"auto"``: they run interpreted, then as such code, are compiled in the background when
    they run often or long, and go on as compiled code, in the middle of a call if need be, large ones function by
    function (see `wasmloom.tiers.policy`); without llvmlite nothing is compiled. By default what the environment
    variable ``WASMLOOM_TIER`` says, else ``"auto"``. `threshold`, for ``"auto"``: compile after this many calls from
    the host instead, before the next one. `translation`: one of `TRANSLATIONS`, for the interpreter; with ``"lazy"``
    an invalid function body is only found when the function is first called, and a module that has one is never
    compiled.
    `stack_switching`: one of `STACK_SWITCHING`, for the compiler. `cache`: whether compiled code is kept on disk.
    `fuel`: whether guest code counts what it executes (see `Store`). `deterministic`: whether guests do the same in
    every tier and on every machine, which costs some speed: NaNs that they compute are canonical, a store's
    `stack_limit` counts frames by rule, its `memory_limit` memories and tables only, and what could differ besides is
    the trap "host limit" (see "Deterministic execution" in the guide; Core 3.0, appendix A.2).

    `memory`: with ``"guarded"`` each memory reserves 8 GiB of address space, and accesses cost nothing extra; with
    ``"checked"`` it takes only what it holds, each access is checked, and it doesn't grow while Python has views of
    it; ``"auto"``, the default, is the former unless the process's address space is limited (``ulimit -v``).

    `backtrace`: one of `BACKTRACES`; with ``"source"`` the frames of errors tell files, lines and inlined functions of
    modules that have debug information (DWARF), which is read when there is the first such error. By default what the
    environment variable ``WASMLOOM_BACKTRACE`` says, else ``"offsets"``.

    `snapshots`: whether guests are to be part of snapshots while they wait (see `Store.snapshot`). They then run as
    code whose frames can be read, so nothing is compiled: the tier "auto" means "baseline".

    `code_limit`: bytes of bytecode and machine code that all modules of the engine may have together. Code beyond it
    raises `WasmError`, also in a call of the guest that would have a function translated or compiled.

    Engines don't change, and can be pickled. In another process, an unpickled one is the default engine if that has the
    same settings; otherwise all that are unpickled with the same settings are the same engine. Raises `ValueError` for
    anything else, and `WasmError` for guarded memories where there can't be any.
    """

    __slots__ = (
        "__weakref__", "_checked", "backtrace", "cache", "code_budget", "code_limit", "deterministic", "epochs", "fuel",
        "memory", "snapshots", "stack_switching", "threshold", "tier", "translation",
    )  # fmt: skip

    _checked: bool
    backtrace: str
    cache: bool
    code_budget: CodeBudget
    code_limit: int
    epochs: EpochCounter
    deterministic: bool
    fuel: bool
    memory: str
    snapshots: bool
    stack_switching: str
    threshold: int | None
    tier: str
    translation: str

    def __new__(
        cls,
        *,
        tier: str | None = None,
        translation: str = "lazy-translation",
        fuel: bool = False,
        deterministic: bool = False,
        memory: str = "auto",
        stack_switching: str = "native",
        threshold: int | None = None,
        cache: bool = True,
        code_limit: int = DEFAULT_CODE_LIMIT,
        backtrace: str | None = None,
        snapshots: bool = False,
    ) -> Self:
        """See the class."""
        chosen = tier is not None
        if tier is None:
            tier = os.environ.get("WASMLOOM_TIER", "auto")
        if tier not in TIERS:
            raise ValueError(f"unknown tier {tier!r}; known are {', '.join(TIERS)}")
        if snapshots:
            if tier == "compiler" and chosen:
                raise ValueError("snapshots=True doesn't fit tier 'compiler': the frames of its code can't be read")
            if threshold is not None:
                raise ValueError("snapshots=True doesn't fit a threshold: nothing is compiled")
            tier = "interpreter" if tier == "interpreter" else "baseline"
        if translation not in TRANSLATIONS:
            raise ValueError(f"unknown translation {translation!r}; known are {', '.join(TRANSLATIONS)}")
        if backtrace is None:
            backtrace = os.environ.get("WASMLOOM_BACKTRACE", BACKTRACES[0])
        if backtrace not in BACKTRACES:
            raise ValueError(f"unknown backtrace {backtrace!r}; known are {', '.join(BACKTRACES)}")
        if stack_switching not in STACK_SWITCHING:
            raise ValueError(f"unknown stack_switching {stack_switching!r}; known are {', '.join(STACK_SWITCHING)}")
        if threshold is not None and (tier != "auto" or index(threshold) < 0):
            raise ValueError(f"threshold {threshold} doesn't fit tier {tier!r}: it is for 'auto', not negative")
        if index(code_limit) < 0:
            raise ValueError(f"code_limit must not be negative, got {code_limit}")
        if memory not in MEMORIES:
            raise ValueError(f"unknown memory {memory!r}; known are {', '.join(MEMORIES)}")
        if memory == "guarded" and not can_reserve(1):
            raise WasmError("memories can't be guarded: the system doesn't let this process reserve 8 GiB (ulimit -v?)")
        self = super().__new__(cls)
        fill(
            self,
            tier=tier,
            translation=translation,
            stack_switching=stack_switching,
            backtrace=backtrace,
            cache=bool(cache),
            code_limit=min(index(code_limit), _MAX_LIMIT),
            code_budget=CodeBudget(min(index(code_limit), _MAX_LIMIT)),
            epochs=EpochCounter(),
            threshold=None if threshold is None else min(index(threshold), _MAX_THRESHOLD),
            snapshots=bool(snapshots),
            fuel=bool(fuel),
            deterministic=bool(deterministic),
            memory=memory,
            _checked=memory == "checked" or (memory == "auto" and not _plenty()),
        )
        return self

    def _settings(self) -> tuple[tuple[str, object], ...]:
        return tuple(
            (name, getattr(self, name))
            for name in self.__slots__
            if not name.startswith("_") and name not in ("code_budget", "epochs")
        )

    def __copy__(self) -> Engine:
        return self

    def __deepcopy__(self, memo: object) -> Engine:
        return self

    def __reduce__(self) -> Any:
        return _unpickled, self._settings()

    @property
    def checked(self) -> bool:
        """Whether the engine's memories are checked: what `memory` means in this process."""
        return self._checked

    @property
    def epoch(self) -> int:
        """How many epochs are over: how often `increment_epoch` was called."""
        return self.epochs.count

    def increment_epoch(self) -> None:
        """End an epoch. Guests of stores whose `Store.epoch_deadline` has come trap ("timeout"), at once.

        Any thread may call this at any time, and so may signal handlers: that is how a program ends guests when it
        wants to.
        """
        self.epochs.advance()

    @property
    def code_used(self) -> int:
        """Bytes of bytecode and compiled code that the engine's modules have, of `code_limit`."""
        return self.code_budget.used

    def code_options(self) -> Options:
        """The compiler's options for this engine."""
        with forks.importing:
            from wasmloom.compiler.options import Options

        return Options(
            fuel=self.fuel,
            inline_switching=self.stack_switching == "native" and not log.STACKS,  # only calls are traced
            checked=self.checked,
            deterministic=self.deterministic,
        )

    def __repr__(self) -> str:
        return (
            f"wasmloom.Engine(tier={self.tier!r}, translation={self.translation!r}, fuel={self.fuel}, "
            f"memory={self.memory!r})"
        )


@cache
def _plenty() -> bool:
    """Whether the process has address space for guarded memories. Tried once."""
    return can_reserve(_PROBED)


_default: Engine | None = None
#: Settings → the engine for everything unpickled with them, while it lives.
_known: dict[object, ref[Engine]] = {}


def _unpickled(*settings: tuple[str, Any]) -> Engine:
    """The engine with these settings, for objects from another process."""
    default = default_engine()
    if default._settings() == settings:
        return default
    known = _known.get(settings)
    found = None if known is None else known()
    if found is None:
        found = Engine(**dict(settings))
        _known[settings] = ref(found)
    return found


def default_engine() -> Engine:
    """The engine of modules and stores that don't name one."""
    global _default
    if _default is None:
        _default = Engine()
    return _default


def engine_of(engine: object) -> Engine:
    """The engine that something is made with: the default one for None. Raises `TypeError` for what isn't one."""
    if engine is None:
        return default_engine()
    if not isinstance(engine, Engine):
        raise TypeError(f"engine must be a wasmloom.Engine, not {type(engine).__name__}")
    return engine
