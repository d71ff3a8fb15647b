"""The linker: names for what modules import."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import wasmloom as wl
from wasmloom.compat.wasmtime.config import Engine, engine_of
from wasmloom.compat.wasmtime.errors import WasmtimeError
from wasmloom.compat.wasmtime.externs import AsExtern, Global, Memory, SharedMemory, Table, core_of
from wasmloom.compat.wasmtime.handles import Handle, expect
from wasmloom.compat.wasmtime.instance import Instance, InstancePre, check_function, instantiated
from wasmloom.compat.wasmtime.module import Module
from wasmloom.compat.wasmtime.store import Store, Storelike
from wasmloom.compat.wasmtime.types import FuncType, GlobalType, MemoryType, TableType
from wasmloom.compat.wasmtime.values import Func, host_function
from wasmloom.wasi import CALLS, MODULE_NAME, call_type

#: A command's function, and a reactor's that prepares it.
_START, _INITIALIZE = "_start", "_initialize"


class Definition:
    """A function of no store yet: `make` returns it for a store, as wasmloom imports it."""

    def __init__(self, type: wl.FuncType, make: Callable[[Store], Callable[..., Any]]) -> None:
        self.type = type
        self.make = make

    def func(self, store: Storelike) -> Func:
        """The function as one of this API's."""
        return Func._of(wl.Func(store._core, self.type, self.make(store._home)))


def _of_host(type: wl.FuncType, function: Callable[..., Any], access_caller: bool = False) -> Definition:
    return Definition(type, lambda store: host_function(store, type, function, access_caller))


def _of_wasi(name: str) -> Definition:
    return Definition(call_type(name), lambda store: store._wasi_function(name))


class Linker(Handle):
    """Names for what modules import: items of stores, and functions that belong to none yet."""

    _core: wl.Engine

    def __init__(self, engine: Engine) -> None:
        self._core = engine_of(engine)
        #: The engine that the linker belongs to.
        self.engine = engine
        self._items: dict[tuple[str, str], AsExtern | Definition] = {}
        self._shadowing = False

    def _set_shadowing(self, allow: bool) -> None:
        self._shadowing = bool(allow)

    allow_shadowing = property(None, _set_shadowing, doc="Whether a name can be defined again. It can't be read.")

    def _define(self, module: str, name: str, item: AsExtern | Definition) -> None:
        self._check_open()
        if (module, name) in self._items and not self._shadowing:
            raise WasmtimeError(f"import of `{module}::{name}` defined twice")
        self._items[module, name] = item

    def define(self, store: Storelike, module: str, name: str, item: AsExtern) -> None:
        """Give an item a name. Raises `WasmtimeError` if it belongs to another store."""
        core_of(item)
        if not isinstance(item, SharedMemory) and item._core.store is not store._core:
            raise WasmtimeError(f"`{module}::{name}` belongs to another store")
        self._define(module, name, item)

    def define_func(
        self, module: str, name: str, ty: FuncType, func: Callable[..., Any], access_caller: bool = False
    ) -> None:
        """Give a function of the host a name; see `Func`. It can be used in any store."""
        if not callable(func):
            raise TypeError(f"expected a function, not {type(func).__name__}")
        self._define(module, name, _of_host(expect(ty, FuncType)._core, func, access_caller))

    def define_instance(self, store: Storelike, name: str, instance: Instance) -> None:
        """Give all exports of an instance names, with `name` as the first part."""
        for export, item in expect(instance, Instance).exports(store).items():
            self._define(name, export, item)

    def define_wasi(self) -> None:
        """Define the functions of WASI preview 1. What they do is said by `Store.set_wasi`."""
        for name in CALLS:
            self._define(MODULE_NAME, name, _of_wasi(name))

    def define_module(self, store: Storelike, name: str, module: Module) -> None:
        """Define the exports of a module that is instantiated when that is needed.

        A *command* (it has ``_start``) gets a new instance for each call of one of its functions. Others, *reactors*,
        get one instance now, whose ``_initialize`` is called.
        """
        exports = expect(module, Module)._core.exports
        if not any(export.name == _START and export.kind == "func" for export in exports):
            instance = self.instantiate(store, module)
            initialize = instance.exports(store).get(_INITIALIZE)
            if isinstance(initialize, Func):
                initialize(store)
            self.define_instance(store, name, instance)
            return
        pre = self.instantiate_pre(module)
        for export in exports:
            if export.kind == "func":
                self._define(name, export.name, self._command(pre, export))

    @staticmethod
    def _command(pre: InstancePre, export: wl.ExportType) -> Definition:
        type: Any = export.type

        def run(caller: Any, *arguments: Any) -> Any:
            function: Any = pre.instantiate(caller).exports(caller)[export.name]
            return function(caller, *arguments)

        return _of_host(type, run, access_caller=True)

    def instantiate(self, store: Storelike, module: Module) -> Instance:
        """An instance of a module, with its imports by their names. Raises `WasmtimeError` for those without."""
        return Instance._of(self._instantiate(self._find(module), module._core, store))

    def instantiate_pre(self, module: Module) -> InstancePre:
        """The module with its imports found, to make any number of instances of it."""
        items = self._find(module)
        return InstancePre(module, lambda store: Instance._of(self._instantiate(items, module._core, store)))

    def _find(self, module: Module) -> list[tuple[wl.ImportType, AsExtern | Definition]]:
        """The imports of a module, each with what it is."""
        self._check_open()
        found = []
        for wanted in expect(module, Module)._core.imports:
            item = self._items.get((wanted.module, wanted.name))
            if item is None:
                raise _unknown(wanted)
            if isinstance(item, Definition):
                check_function(wanted, item.type)
            found.append((wanted, item))
        return found

    @staticmethod
    def _instantiate(
        items: list[tuple[wl.ImportType, AsExtern | Definition]], module: wl.Module, store: Storelike
    ) -> wl.Instance:
        home = store._home
        made = [(wanted, item.make(home) if isinstance(item, Definition) else item) for wanted, item in items]
        return instantiated(store, module, made)

    def get(self, store: Storelike, module: str, name: str) -> AsExtern:
        """What has a name. Raises `WasmtimeError` if nothing has."""
        self._check_open()
        item = self._items.get((module, name))
        if item is None:
            raise WasmtimeError("item not defined in linker")
        return item.func(store) if isinstance(item, Definition) else item

    def get_default(self, store: Storelike, name: str) -> Func:
        """A module's default function: with the empty name, else ``_start``, else one that does nothing."""
        self._check_open()
        for export in ("", _START):
            item = self._items.get((name, export))
            if isinstance(item, Definition):
                return item.func(store)
            if isinstance(item, Func):
                return item
            if item is not None:
                raise WasmtimeError(f"the default export of `{name}` is no function")
        return _of_host(wl.FuncType((), ()), lambda: None).func(store)

    def define_unknown_imports_as_traps(self, module: Module) -> None:
        """Let functions that a module imports, and that nobody has defined, end the guest that calls them."""
        for wanted in module._core.imports:
            if (wanted.module, wanted.name) not in self._items and wanted.kind == "func":
                self._define(wanted.module, wanted.name, _of_host(_type_of(wanted), partial(_refuse, wanted)))

    def define_unknown_imports_as_default_values(self, store: Storelike, module: Module) -> None:
        """Let what a module imports, and nobody has defined, be zero, null, or as small as it may be."""
        for wanted in module._core.imports:
            if (wanted.module, wanted.name) not in self._items:
                self._define(wanted.module, wanted.name, _default(store, wanted))


def _type_of(wanted: wl.ImportType) -> wl.FuncType:
    type: Any = wanted.type
    return type  # type: ignore[no-any-return]


def _unknown(wanted: wl.ImportType) -> WasmtimeError:
    return WasmtimeError(f"unknown import: `{wanted.module}::{wanted.name}` has not been defined")


def _refuse(wanted: wl.ImportType, *arguments: Any) -> NoReturn:
    raise _unknown(wanted)


def _zero(type: wl.ValType) -> Any:
    if type.is_ref:
        return None
    return 0.0 if type in (wl.F32, wl.F64) else 0


def _default(store: Storelike, wanted: wl.ImportType) -> AsExtern | Definition:
    """What stands for an import that nobody has defined."""
    type: Any = wanted.type
    if wanted.kind == "func":
        zeros = tuple(map(_zero, type.results))
        value = zeros if len(zeros) > 1 else zeros[0] if zeros else None
        return _of_host(type, lambda *arguments: value)
    if wanted.kind == "global":
        return Global(store, GlobalType._of(type), _zero(type.content))
    if wanted.kind == "memory":
        return Memory(store, MemoryType._of(type))
    if wanted.kind == "table":
        return Table(store, TableType._of(type), None)
    raise WasmtimeError(f"there is no default for `{wanted.module}::{wanted.name}`, a {wanted.kind}")
