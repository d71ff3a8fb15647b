"""Instances, and their exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.errors import WasmtimeError, attempt
from wasmloom.compat.wasmtime.externs import AsExtern, core_of
from wasmloom.compat.wasmtime.handles import Handle, Wrapper, expect
from wasmloom.compat.wasmtime.module import Module
from wasmloom.compat.wasmtime.store import WRAPPERS, Storelike, check_store
from wasmloom.compat.wasmtime.values import Func
from wasmloom.host.types import describe


class InstanceExports(Mapping[str, AsExtern]):
    """The exports of an instance by name, in their order. Each is made when it is first asked for."""

    def __init__(self, core: wl.Exports) -> None:
        self._core = core
        self._made: dict[str, AsExtern] = {}

    def __getitem__(self, idx: str) -> Any:
        found = self._made.get(idx)
        if found is None:
            if idx not in self._core:
                raise KeyError(idx)
            core = self._core[idx]
            found = self._made[idx] = WRAPPERS[type(core)](core)
        return found

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[str]:
        return iter(self._core)


class Instance(Wrapper):
    """A module with its state. `imports`: what it imports, in the order of `Module.imports`."""

    def __init__(self, store: Storelike, module: Module, imports: Sequence[AsExtern]) -> None:
        wanted = expect(module, Module)._core.imports
        if len(imports) != len(wanted):
            raise WasmtimeError(f"expected {len(wanted)} imports, found {len(imports)}")
        self._set(instantiated(store, module._core, list(zip(wanted, imports, strict=True))))

    @classmethod
    def _of(cls, core: wl.Instance) -> Instance:
        made = cls.__new__(cls)
        made._set(core)
        return made

    def _set(self, core: wl.Instance) -> None:
        self._core = core
        self._exports = InstanceExports(core.exports)

    def exports(self, store: Storelike) -> InstanceExports:
        """What the instance exports."""
        check_store(store, self._core.store)
        return self._exports


def instantiated(store: Storelike, module: wl.Module, imports: Sequence[tuple[wl.ImportType, Any]]) -> wl.Instance:
    """A new instance. The items are those of this API, or functions as wasmloom imports them."""
    core = store._core
    if module.engine is not core.engine:
        raise WasmtimeError("cross-`Engine` instantiation is not currently supported")
    found = []
    for _, item in imports:
        value = item if callable(item) and not isinstance(item, Func) else core_of(item)
        if getattr(item, "_core", None) is not None and getattr(item._core, "store", core) is not core:
            raise WasmtimeError("cross-`Store` instantiation is not currently supported")
        found.append(value)
    return attempt(wl.Instance, module, found, store=core)


def check_function(wanted: wl.ImportType, type: object) -> None:
    """Check a host function's type, where wasmloom sees only a callable, which fits any."""
    if wanted.type != type:
        raise WasmtimeError(
            f"incompatible import type for `{wanted.module}::{wanted.name}`: "
            f"expected {describe(wanted.kind, wanted.type)}, found func {type}"
        )


class InstancePre(Handle):
    """A module whose imports have been found; made by `Linker.instantiate_pre`."""

    _core: tuple[Module, Any]

    def __init__(self, module: Module, instantiate: Any) -> None:
        self._core = (module, instantiate)

    def instantiate(self, store: Storelike) -> Instance:
        """An instance of the module in a store."""
        made: Instance = self._core[1](store)
        return made

    @property
    def module(self) -> Module:
        """The module."""
        return self._core[0]
