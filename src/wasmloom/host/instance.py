"""Instances: modules with their state (Core 3.0, 4.5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from wasmloom.compiler.folder import may_have_whole
from wasmloom.host.continuations import set_resume_async
from wasmloom.host.exports import Exports
from wasmloom.host.fixed import Fixed, fill
from wasmloom.host.linking import resolve
from wasmloom.host.state import new_state
from wasmloom.messages import listed, printable
from wasmloom.runtime import forks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from wasmloom.host.module import Module
    from wasmloom.runtime.store import Store
    from wasmloom.spec.module import Import


@final
class Instance(Fixed):
    """A module with its state: ``Instance(module, imports, store=store)``.

    `imports` maps module names to namespaces, and a namespace maps names to values; both may be mappings or
    objects with attributes, and a namespace may be another instance. A list or a tuple has the values alone, in the
    order of `Module.imports`. Values are `Func`, `Memory`, `Table` and
    `Global` of the same store, or Python callables for functions (whose type the import gives). Without `store`
    the instance uses the store of the imported objects, or one of its own.

    Raises `LinkError` when an import is missing or doesn't fit, `Trap` when a segment or the start function traps,
    and what a host function called by the start function raised.
    """

    # The exports hold the state and not the instance, so there is no cycle: everything goes with its last user.
    __slots__ = ("__weakref__", "_state", "_wasi", "exports", "module", "store")

    _state: Any
    #: What `Wasi.instantiate` keeps for the guest.
    _wasi: Any
    exports: Exports
    module: Module
    store: Store

    def __new__(cls, module: Module, imports: Any = None, *, store: Store | None = None) -> Self:
        """See the class."""
        found = resolve(module, imports, store)
        self: Self = _made(cls, module, found.store, found.items)
        start = module.decoded.start
        if start is not None:
            self._state.run(start)
        return self

    @classmethod
    def _bare(
        cls, module: Module, imports: list[Any], store: Store, wanted_at: Callable[[int], Import] | None = None
    ) -> Self:
        """An instance to which nothing has been done yet: neither segments nor a start function. See `resolve`."""
        made: Self = _made(cls, module, store, resolve(module, imports, store, wanted_at).items, True)
        return made

    def __repr__(self) -> str:
        of = f" of {printable(self.module.name)}" if self.module.name else ""
        return f"<wasmloom.Instance{of}: {listed(self.exports, printable)}>"


def _made(cls: type[Any], module: Module, store: Store, items: dict[str, list[Any]], bare: bool = False) -> Any:
    """An instance whose start function hasn't run. See `InstanceState`."""
    if module.mixes and module.mixed is None and module.engine.cache and may_have_whole(len(module.decoded.data)):
        with forks.importing:
            from wasmloom.tiers.hot import use_whole
        use_whole(module)
    state = new_state(module, store, items, bare)
    self = Fixed.__new__(cls)
    exports = Exports(module.decoded.export_names, state.exported)
    fill(self, module=module, store=store, _state=state, _wasi=None, exports=exports)
    return self


def _resume_async(*arguments: Any) -> Coroutine[Any, Any, Any]:
    """Resume a continuation so that it can wait; see `wasmloom.host.resuming`."""
    with forks.importing:
        from wasmloom.host.resuming import resume_async

    return resume_async(Instance, *arguments)


set_resume_async(_resume_async)
