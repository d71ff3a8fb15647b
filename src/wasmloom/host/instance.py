"""Instances: modules with their state (Core 3.0, 4.5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wasmloom.host.exports import Exports
from wasmloom.host.linking import resolve
from wasmloom.host.state import InstanceState

if TYPE_CHECKING:
    from wasmloom.host.module import Module
    from wasmloom.runtime.store import Store


class Instance:
    """A module with its state: ``Instance(module, imports, store=store)``.

    `imports` maps module names to namespaces, and a namespace maps names to values; both may be mappings or
    objects with attributes, and a namespace may be another instance. Values are `Func`, `Memory`, `Table` and
    `Global` of the same store, or Python callables for functions (the import says with which type). Without `store`
    the instance gets that of the imported objects, or one of its own.

    Raises `LinkError` when an import is missing or doesn't fit, `Trap` when a segment or the start function traps,
    and what a host function called by the start function raised.
    """

    # The exports know the state and not the instance, so that there is no cycle: everything goes with its last user.
    __slots__ = ("__weakref__", "_state", "exports", "module", "store")

    def __init__(self, module: Module, imports: Any = None, *, store: Store | None = None) -> None:
        found = resolve(module, imports, store)
        self.module = module
        self.store = found.store
        self._state = InstanceState(module, found.store, found.items)
        self.exports = Exports(module.decoded.export_names, self._state.exported)
        start = module.decoded.start
        if start is not None:
            main: Any = self._state.find("func", start)
            main()

    def __repr__(self) -> str:
        of = f" of {self.module.name}" if self.module.name else ""
        return f"<wasmloom.Instance{of}: {', '.join(self.exports)}>"
