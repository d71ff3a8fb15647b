"""Host functions that learn which instance has called them.

There are two kinds. A function that `takes_caller` looks for the caller whenever it is called, in the frames of the
guest (`wasmloom.tiers.frames.instance_calling`): so it is right however the guest has got hold of the function. Of
those that are made once for each instance that imports them (`PerInstance`, WASI's), nothing is looked up; the caller
is taken to be the instance that imports them. Other host functions pay nothing.

The store keeps its host functions and each `Caller`, so neither keeps the store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final
from weakref import ref

from wasmloom.errors import WasmError
from wasmloom.host.exports import Exports
from wasmloom.host.fixed import Fixed, fill

if TYPE_CHECKING:
    from wasmloom.host.module import Module
    from wasmloom.runtime.store import Store

T = TypeVar("T")


@final
class Caller(Fixed):
    """The instance that has called a host function, whose first argument this is (see `takes_caller`).

    It can be kept, but doesn't keep the store: when that is gone, using it raises `WasmError`.
    """

    __slots__ = ("__weakref__", "_find", "_kept", "_store", "module")

    #: The instance's module.
    module: Module
    _store: ref[Store]
    _find: Callable[[Store, int], Any]
    _kept: dict[object, Any]

    def __new__(cls, module: Module, store: Store, find: Callable[[Store, int], Any]) -> Caller:
        """`find` returns an export of the instance, by its number."""
        if not callable(find):
            raise TypeError("callers are made by Instance")
        self = super().__new__(cls)
        fill(self, module=module, _store=ref(store), _find=find, _kept={})
        return self

    @property
    def store(self) -> Store:
        """The store that the instance is in."""
        store = self._store()
        if store is None:
            raise WasmError("the store of this instance is gone")
        return store

    @property
    def exports(self) -> Exports:
        """The instance's exports."""
        return Exports(self.module.decoded.export_names, partial(self._find, self.store))

    def get(self, name: str, default: Any = None) -> Any:
        """The export with a name, or `default`: the same as from `exports`, with less work."""
        number = self.module.decoded.export_names.get(name)
        return default if number is None else self._find(self.store, number)

    def kept(self, key: object, make: Callable[[], T]) -> T:
        """What a host function keeps for this instance under a key of its own; made when it is first asked for."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found


class TakesCaller:
    """A host function that gets the `Caller` first; see `takes_caller`."""

    __slots__ = ("__name__", "_function")

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"expected a function, not {type(function).__name__}")
        self._function = function
        self.__name__: str = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *arguments: Any) -> Any:
        """Call it from the host."""
        return self._function(None, *arguments)

    def asking(self, find: Callable[[], Caller | None]) -> Callable[..., Any]:
        """The function as a store has it; `find` says who is calling."""
        function = self._function
        return lambda *arguments: function(find(), *arguments)


class PerInstance:
    """A function for imports that each instance gets its own of: what `make` returns for the instance's `Caller`.

    The host can call it, too: that calls `alone`.
    """

    __slots__ = ("__name__", "alone", "make")

    def __init__(self, make: Callable[[Caller], Callable[..., Any]], alone: Callable[..., Any]) -> None:
        for function in (make, alone):
            if not callable(function):
                raise TypeError(f"expected a function, not {type(function).__name__}")
        self.make = make
        self.alone = alone
        self.__name__: str = getattr(alone, "__name__", type(alone).__name__)

    def __call__(self, *arguments: Any) -> Any:
        """Call it from the host."""
        return self.alone(*arguments)


def takes_caller(function: Callable[..., Any]) -> TakesCaller:
    """Let a host function know who calls it: it gets the `Caller` as its first argument, before the guest's.

    A decorator for functions that are imported: in ``{"env": {"log": log}}``, `log` can read a text from
    ``caller.exports.memory``, in any number of instances. The caller is the instance whose code calls: it may have
    imported the function, or have it from a table or as a reference. Called by the host, it gets None.
    """
    return TakesCaller(function)
