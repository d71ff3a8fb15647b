"""Linking: finding a module's imports and matching their types (Core 3.0, 4.5.4 and 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from wasmloom.errors import LinkError
from wasmloom.host.bridge import Func
from wasmloom.host.exports import Exports
from wasmloom.host.externs import Global, Memory, Table
from wasmloom.host.shared_memory import SharedMemory
from wasmloom.host.store import Store
from wasmloom.host.tags import Tag
from wasmloom.host.types import describe
from wasmloom.messages import printable, two_level
from wasmloom.spec.canon import func_type, is_sub, matches_extern
from wasmloom.spec.types import EXTERN_KINDS, TagType

if TYPE_CHECKING:
    from wasmloom.host.module import Module
    from wasmloom.spec.module import Import

_CLASSES: dict[str, tuple[type[Any], ...]] = {
    "func": (Func,),
    "table": (Table,),
    "memory": (Memory, SharedMemory),
    "global": (Global,),
    "tag": (Tag,),
}
_ITEMS = tuple(cls for classes in _CLASSES.values() for cls in classes)
#: What there is where nothing is given.
MISSING: Any = object()
#: What WASI's functions are imported from.
_WASI = "wasi_snapshot_preview1"


class HostImport(NamedTuple):
    """A Python callable for an import, with the name that backtraces show."""

    name: str
    function: Any


class Resolved(NamedTuple):
    """A module's resolved imports: objects of `store` by kind, in order; functions may be `HostImport`s."""

    store: Store
    items: dict[str, list[Any]]


def _lookup(container: Any, name: str) -> Any:
    """`container[name]` or `container.name`, `MISSING` when there is no such thing."""
    exports = getattr(container, "exports", None)
    if isinstance(exports, Exports):  # an instance stands for its exports
        container = exports
    if hasattr(container, "__getitem__"):
        try:
            return container[name]
        except LookupError:
            return MISSING
    return getattr(container, name, MISSING)


def lookup(imports: Any, module: str, name: str) -> Any:
    """What `imports` (see `Instance`) have for an import; `MISSING` when there is nothing."""
    namespace = MISSING if imports is None else _lookup(imports, module)
    return MISSING if namespace is MISSING else _lookup(namespace, name)


def _is_item(value: Any) -> bool:
    """Whether `value` is one of our objects that can be imported."""
    return isinstance(value, _ITEMS)


def _kind_of(value: Any) -> str:
    """What `value` is, for error messages."""
    for kind, classes in _CLASSES.items():
        if isinstance(value, classes):
            return describe(kind, value.type)
    return f"a callable {type(value).__name__}" if callable(value) else f"a Python {type(value).__name__}"


def _describe(wanted: Import) -> str:
    """What an import requires, for error messages."""
    if isinstance(wanted.type, TagType):
        return f"tag {func_type(wanted.type.type)}"
    return describe(wanted.kind, func_type(wanted.type) if isinstance(wanted.type, int) else wanted.type)


def _check(wanted: Import, value: Any) -> None:
    """Raise `LinkError` unless `value` fits the import."""
    if wanted.kind == "func" and isinstance(wanted.type, int):
        if isinstance(value, Func):
            fits = value.type_id == wanted.type if wanted.exact else is_sub(value.type_id, wanted.type)
        else:
            fits = callable(value) and not _is_item(value)
    elif wanted.kind == "tag" and isinstance(wanted.type, TagType):
        # Tags are matched by equivalence of their types (Core 3.0, 3.3.14).
        fits = isinstance(value, Tag) and value.type_id == wanted.type.type
    else:
        fits = isinstance(value, _CLASSES[wanted.kind]) and matches_extern(value.type, wanted.type)
    if not fits:
        raise LinkError(
            f"incompatible import type for {two_level(wanted.module, wanted.name)}: "
            f"expected {_describe(wanted)}, found {_kind_of(value)}"
        )


def _advice(wanted: Import) -> str:
    """What to do about an import that is missing."""
    if wanted.module == _WASI:
        return "wasmloom.Wasi().instantiate(module) gives a program the functions of WASI"
    return f"pass it as {{{printable(repr(wanted.module))}: {{{printable(repr(wanted.name))}: …}}}}"


def check_module(module: object) -> None:
    """Raise `TypeError` for what isn't a module."""
    from wasmloom.host.module import Module

    if not isinstance(module, Module):
        hint = ": make one by wasmloom.Module(…)" if isinstance(module, str | bytes) else ""
        raise TypeError(f"expected a wasmloom.Module, not {type(module).__name__}{hint}")


def resolve(
    module: Module, imports: Any, store: Store | None, wanted_at: Callable[[int], Import] | None = None
) -> Resolved:
    """Find the imports of `module` in `imports` (see `Instance`), and the store to make the instance in.

    `wanted_at`: gives an import by its number, for those who have made them before.
    Raises `LinkError`, `TypeError` for what isn't a module or a store, or `ValueError` for objects of another store or
    a store of another engine.
    """
    check_module(module)
    if store is not None and not isinstance(store, Store):
        raise TypeError(f"store must be a wasmloom.Store, not {type(store).__name__}")
    items: dict[str, list[Any]] = {kind: [] for kind in EXTERN_KINDS}
    found: list[Any] = []
    # One `Import` at a time, because there may be a million.
    import_at = module.decoded.import_at if wanted_at is None else wanted_at
    in_order = isinstance(imports, list | tuple)
    if in_order and len(imports) != module.decoded.num_imports:
        raise LinkError(f"the module imports {module.decoded.num_imports} items, and {len(imports)} are given")
    for number in range(module.decoded.num_imports):
        wanted = None if in_order else import_at(number)
        value = imports[number] if wanted is None else lookup(imports, wanted.module, wanted.name)
        if value is MISSING:
            wanted = import_at(number)
            shown = two_level(wanted.module, wanted.name)
            raise LinkError(f"unknown import {shown}: {_describe(wanted)} is not provided; {_advice(wanted)}")
        if store is None and _is_item(value) and not isinstance(value, SharedMemory):
            store = value.store
        found.append(value)
    if store is None:
        store = Store(module.engine)
    if store.engine is not module.engine:
        raise ValueError(
            "the module and the store belong to different engines: make both with the same one, "
            "as in Store(module.engine)"
        )
    for number, value in enumerate(found):
        wanted = import_at(number)
        _check(wanted, value)
        if not _is_item(value):
            value = HostImport(f"{wanted.module}.{wanted.name}", value)
        elif not isinstance(value, SharedMemory) and value.store is not store:
            raise ValueError(
                f"the import {two_level(wanted.module, wanted.name)} belongs to another store: "
                "make the instance in that one, by Instance(…, store=…)"
            )
        items[wanted.kind].append(value)
    return Resolved(store, items)
