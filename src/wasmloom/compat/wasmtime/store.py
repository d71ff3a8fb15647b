"""Stores: what everything that runs belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from weakref import ref

import wasmloom as wl
from wasmloom.compat.wasmtime.config import Engine, engine_of
from wasmloom.compat.wasmtime.errors import WasmtimeError
from wasmloom.compat.wasmtime.handles import Handle, Wrapper
from wasmloom.host.callers import PerInstance
from wasmloom.wasi import MODULE_NAME

if TYPE_CHECKING:
    from wasmloom.compat.wasmtime.wasi import WasiConfig

#: The most fuel that a store has, and the most of it that wasmloom counts.
_WORD = (1 << 64) - 1
_MOST_FUEL = (1 << 63) - 1
#: The stack of a guest unless the engine says otherwise.
_STACK = 1 << 20
_SMALLEST_STACK = 4096


class Storelike(Handle):
    """What functions of this API take as a store: a `Store`, or what stands for it while a host function runs."""

    _core: wl.Store
    #: The store itself.
    _home: Store


def check_store(store: Storelike, owner: wl.Store) -> None:
    """Raise `WasmtimeError` unless an object of `owner` is used with that store."""
    if owner is not store._core:
        raise WasmtimeError("object used with the wrong store")


C = TypeVar("C")
T = TypeVar("T")

#: wasmloom's class → what makes this API's object of one of its.
WRAPPERS: dict[type[Any], Callable[[Any], Any]] = {}


class Item(Wrapper, Generic[C, T]):
    """Base of what belongs to a store. `core`: what it stands for; `kind`: the class of its type."""

    _core: C
    _kind: ClassVar[type[Wrapper]]

    def __init_subclass__(cls, core: type | None = None, kind: type[Wrapper] | None = None) -> None:
        """Note what a class of this API stands for; a program's own classes have nothing to say."""
        if core is not None and kind is not None:
            WRAPPERS[core] = cls._of
            cls._kind = kind

    def type(self, store: Storelike) -> T:
        """The type; that of a memory or a table has its present size."""
        made: T = self._kind._of(self._in(store).type)  # type: ignore[attr-defined, assignment]
        return made

    def _in(self, store: Storelike) -> C:
        """What this stands for. Raises `WasmtimeError` unless it is used with the store that it belongs to."""
        owner: wl.Store = self._core.store  # type: ignore[attr-defined]
        check_store(store, owner)
        return self._core


class StoreContext(Storelike):
    """Stands for a store while a host function runs."""

    def __init__(self, home: Store) -> None:
        self._core = home._core
        self._home = home


class Store(Storelike):
    """Owns instances and all that belongs to them. `data`: an object for the program's own use.

    Functions, memories and the like keep what they need of a store, so that they can't refer to what is gone. Its
    memory is freed with the last of them.
    """

    def __init__(self, engine: Engine | None = None, data: Any | None = None) -> None:
        engine = Engine() if engine is None else engine
        self._core = wl.Store(engine_of(engine), stack_limit=max(engine._stack_limit or _STACK, _SMALLEST_STACK))
        #: The engine that the store belongs to.
        self.engine = engine
        self._data = data
        #: Fuel beyond what wasmloom counts.
        self._reserve = 0
        self._added = 0
        self._wasi: wl.Wasi | None = None
        self._functions: dict[str, Callable[..., Any]] = {}
        if engine._core.fuel:
            self._core.fuel = 0
        if engine._has_epochs:
            self._core.epoch_deadline = engine._core.epoch

    @property
    def _home(self) -> Store:  # type: ignore[override]
        return self

    def data(self) -> Any | None:
        """The program's own object."""
        self._check_open()
        return self._data

    def gc(self) -> None:
        """Free at once the objects that no guest refers to any more."""
        self._core.gc()

    def set_fuel(self, fuel: int) -> None:
        """Replace the fuel. Raises `WasmtimeError` if the engine doesn't count it."""
        if not isinstance(fuel, int):
            raise TypeError(f"fuel is an int, not {type(fuel).__name__}")
        self.get_fuel()
        fuel &= _WORD
        self._core.fuel = min(fuel, _MOST_FUEL)
        self._reserve = fuel - min(fuel, _MOST_FUEL)

    def get_fuel(self) -> int:
        """The fuel that is left. Raises `WasmtimeError` if the engine doesn't count it."""
        fuel = self._core.fuel
        if fuel is None:
            raise WasmtimeError("fuel is not configured in this store")
        return fuel + self._reserve

    def add_fuel(self, fuel: int) -> None:
        """Add to the fuel (of versions before 15)."""
        self.set_fuel(self.get_fuel() + fuel)
        self._added += fuel

    def fuel_consumed(self) -> int:
        """How much of the fuel that was added has been used (of versions before 15)."""
        return self._added - self.get_fuel()

    def set_epoch_deadline(self, ticks_after_current: int) -> None:
        """Let guests trap when the engine has ended so many more epochs, if it was made to."""
        if not isinstance(ticks_after_current, int):
            raise TypeError(f"ticks_after_current is an int, not {type(ticks_after_current).__name__}")
        self._check_open()
        if self.engine._has_epochs:
            self._core.epoch_deadline = self.engine._core.epoch + (ticks_after_current & _WORD)

    def set_limits(
        self,
        memory_size: int = -1,
        table_elements: int = -1,
        instances: int = -1,
        tables: int = -1,
        memories: int = -1,
    ) -> None:
        """Limit the bytes of each memory, the elements of each table, and numbers of objects; negative: unlimited."""
        for limit in (memory_size, table_elements, instances, tables, memories):
            if not isinstance(limit, int):
                raise TypeError(f"a limit is an int, not {type(limit).__name__}")
        self._core.set_limits(
            memory_size=None if memory_size < 0 else memory_size,
            table_elements=None if table_elements < 0 else table_elements,
            instances=None if instances < 0 else instances,
            tables=None if tables < 0 else tables,
            memories=None if memories < 0 else memories,
        )

    def set_wasi(self, wasi: WasiConfig) -> None:
        """Give WASI programs of this store their world, and use `wasi` up."""
        self._check_open()
        self._wasi = wasi._to_wasi()
        self._functions = self._wasi.imports()[MODULE_NAME]

    def set_wasi_http(self) -> None:
        """Raise `WasmtimeError`: WASI's HTTP is for components, which can't be run yet."""
        raise WasmtimeError("WASI HTTP is for components, which wasmloom doesn't run yet")

    def _wasi_function(self, name: str) -> Callable[..., Any]:
        """A function of WASI for instances in this store."""
        found = self._functions.get(name)
        return _late(ref(self), name) if found is None else found

    def close(self) -> None:
        """Let go of everything in the store. What other objects of it hold is freed with them."""
        super().close()
        if self._wasi is not None:
            self._wasi.close()
        self._functions = {}


def _late(home: ref[Store], name: str) -> PerInstance:
    """A function of WASI in a store that has no world yet: it is looked for when it is called."""

    def make(caller: wl.Caller) -> Callable[..., Any]:
        found: Callable[..., Any] | None = None

        def call(*arguments: int) -> Any:
            nonlocal found
            if found is None:
                store = home()
                function = None if store is None else store._functions.get(name)
                if not isinstance(function, PerInstance):
                    raise WasmtimeError("the store has no WASI: call Store.set_wasi before a program needs it")
                found = function.make(caller)
            return found(*arguments)

        return call

    return PerInstance(make, _alone)


def _alone(*arguments: int) -> int:
    """What the host gets when it calls a function of WASI without an instance."""
    raise WasmtimeError("functions of WASI are for instances: the host can't call them")
