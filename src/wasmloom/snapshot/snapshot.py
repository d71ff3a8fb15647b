"""The public names: snapshots, what is restored of them, and forks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

from wasmloom.errors import WasmError
from wasmloom.host.asynchronous import CallInfo
from wasmloom.host.engine import Engine, engine_of
from wasmloom.host.fixed import Fixed, fill
from wasmloom.host.instance import Instance
from wasmloom.host.module import Module
from wasmloom.host.standing import set_branch
from wasmloom.runtime.hooks import set_take_snapshot
from wasmloom.runtime.store import Store
from wasmloom.snapshot.calls import PendingCall
from wasmloom.snapshot.data import Home, StoreData
from wasmloom.snapshot.format import COMPRESSIONS, MOST_BYTES, decode, encode
from wasmloom.snapshot.images import Prepared
from wasmloom.snapshot.rebuilding import Plans
from wasmloom.snapshot.restoring import Restoring, check
from wasmloom.snapshot.taking import take
from wasmloom.wasi import Wasi

if TYPE_CHECKING:
    from typing import Self


class Restored(NamedTuple):
    """What has been made of a snapshot: a store, and its instances in the order in which they had been made.

    `objects`: what `keep` had named. `calls`: the guests that are in the middle of a call, the one that had been called
    first comes first.
    """

    store: Store
    instances: tuple[Instance, ...]
    objects: Mapping[str, Any]
    calls: tuple[PendingCall, ...]


@final
class Snapshot(Fixed):
    """The state of a store's instances, made by `take`: a value, which doesn't change, and can be pickled.

    It has memories, globals, tables, dropped segments, the instances with their imports, fuel and limits. It doesn't
    have host functions: one that is restored in the process that has made it gets the same ones, others are given
    theirs as `restore` needs them, by name.
    """

    __slots__ = ("_data", "_hosts", "_modules", "_plans", "_prepared")

    _data: StoreData
    _hosts: Mapping[Home, Any]
    #: What the first `restore` has prepared; empty before.
    _prepared: list[Prepared]
    _plans: list[Plans]
    _modules: tuple[Module, ...]

    @classmethod
    def _of(cls, data: StoreData, modules: tuple[Module, ...], hosts: Mapping[Home, Any]) -> Self:
        self = Fixed.__new__(cls)
        fill(self, _data=data, _modules=modules, _hosts=hosts, _prepared=[], _plans=[])
        return self

    def __new__(cls) -> Self:
        """Raise `TypeError`: `take`, `from_bytes` and `load` make snapshots."""
        raise TypeError("snapshots are made by Snapshot.take(store), Snapshot.from_bytes and Snapshot.load")

    @classmethod
    def take(
        cls,
        store: Store,
        *,
        keep: Mapping[str, object] | None = None,
        persistent_id: Callable[[object], str | None] | None = None,
    ) -> Self:
        """The state of a store, which goes on as if nothing had happened. `Store.snapshot` does the same.

        Guests may be in the middle of calls: those that wait for host functions in `Func.call_async`; where a host
        function takes the snapshot, the one that has called it; where a signal handler does, the one that it has
        interrupted (`Store.snapshot_soon` is for such places). In what is restored these are pending calls. Their
        frames must be those of bytecode or of copied code: see `snapshots` of `Engine`.

        `keep` names functions, continuations and exceptions of the guest that the host holds: what is restored has
        theirs in `objects`. `persistent_id` gives objects of the host that the guest holds (externref) a name, by which
        `restore` finds them again. Raises `TypeError` for what isn't a store, and `WasmError`, which says where, for
        what isn't part of snapshots: guests whose calls are nested in host functions, a `Continuation.resume` in
        progress, compiled code in the middle of a call, shared memories, host functions in tables that no module
        imports, objects of the host without a name, files that a guest has open and that have no name below the
        directories that it was given.
        """
        if not isinstance(store, Store):
            raise TypeError(f"expected a wasmloom.Store, not {type(store).__name__}")
        if persistent_id is not None and not callable(persistent_id):
            raise TypeError(f"persistent_id must be callable, not {type(persistent_id).__name__}")
        if keep is not None and not (isinstance(keep, Mapping) and all(isinstance(name, str) for name in keep)):
            raise TypeError("keep maps names to objects")
        taken = take(store, {} if keep is None else keep, persistent_id)
        return cls._of(taken.store, taken.modules, taken.hosts)

    @property
    def modules(self) -> tuple[Module, ...]:
        """The modules of its instances."""
        return self._modules

    @property
    def is_between_calls(self) -> bool:
        """Whether no guest is in the middle of a call: what is restored has no `calls`."""
        return not self._data.guests.calls

    def restore(
        self,
        *,
        engine: Engine | None = None,
        imports: Any = None,
        wasi: Wasi | Sequence[Wasi] = (),
        persistent_load: Callable[[str], object] | None = None,
    ) -> Restored:
        """A store with instances in the state that the snapshot has. It may be restored any number of times.

        `engine`: of the new store (None: that of the modules). `imports`: the host's functions, by names as `Instance`
        takes them. `wasi`: what a program sees of the world, a new one for each `restore`: it gives standard streams
        and directories (by the names that the guest knows), the snapshot the rest: arguments, environment, clocks, open
        files. Where instances had several, as many, in the order of these instances. `persistent_load`: gives an object
        of the host for the name that `persistent_id` had given it.

        Raises `LinkError` for an import that is missing or doesn't fit, and `WasmError` for a snapshot that is damaged,
        doesn't fit the limits of this process, has a file open that isn't there, or is of an engine that counts fuel,
        or is deterministic, where this one isn't, or the other way round, and for one with guests in the middle of
        calls where the engine compiles them; `ValueError` for a `Wasi` that has been used.
        """
        worlds = [wasi] if isinstance(wasi, Wasi) else list(wasi)
        for world in worlds:
            if not isinstance(world, Wasi):
                raise TypeError(f"wasi must be a wasmloom.Wasi, not {type(world).__name__}")
        if worlds and len(worlds) != len(self._data.wasi):
            raise ValueError(f"the snapshot has {len(self._data.wasi)} programs' state of WASI, not {len(worlds)}")
        modules = self._modules
        if engine is None:
            engine = modules[0].engine if modules else engine_of(None)
        engine = engine_of(engine)
        modules = tuple(
            [module if module.engine is engine else Module(module.decoded.data, engine) for module in modules]
        )
        if not self._prepared:  # two threads may both do it
            self._prepared.append(Prepared.of(self._data, modules))
        plans = self._plans if modules == self._modules else []  # others are those of other modules' code
        making = Restoring(
            self._data, self._prepared[0], modules, self._hosts, imports, persistent_load, worlds, plans
        )
        store = making.run(engine)
        set_branch(store, secrets.token_hex(8))
        calls = []
        for task, told in zip(making.tasks, self._data.guests.calls, strict=True):
            calls.append(PendingCall._of(task, CallInfo(told.id, store.branch, told.attempt)))
        return Restored(store, tuple(making.instances), making.kept, tuple(calls))

    def to_bytes(self, *, embed: bool = True, compress: str | None = None, key: bytes | None = None) -> bytes:
        """The snapshot as bytes, in a format with a version (`wasmloom.snapshot.format`); equal for equal states.

        `embed`: with the bytes of its modules, which are told by their SHA-256 otherwise. `compress`: "zlib", or
        "lzma", which takes longer and makes them shorter. `key`: a secret by which whoever reads them can tell that
        they are yours (HMAC-SHA256); they aren't encrypted. Raises `ValueError` for another way to compress.
        """
        if compress not in COMPRESSIONS:
            raise ValueError(f"compress must be None, 'zlib' or 'lzma', not {compress!r}")
        data = {module.decoded.digest: module.decoded.data for module in self._modules} if embed else {}
        return encode(self._data, data, compress, _checked(key))

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        *,
        modules: Iterable[Module] = (),
        engine: Engine | None = None,
        key: bytes | None = None,
        max_size: int = MOST_BYTES,
    ) -> Self:
        """The snapshot that bytes are. Whoever has made them can do no more than with a module.

        `modules`: those that aren't embedded. `engine`: for those that are. `key`: bytes that aren't signed with it are
        refused before anything is read of them. `max_size`: so many bytes at most are made of compressed ones. Raises
        `WasmError` for bytes that are no snapshot, or damaged, not signed with the key, too large, or name a module
        that isn't there, and `CompileError` for embedded modules that are none.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"a snapshot is bytes, not {type(data).__name__}")
        told, embedded = decode(bytes(data), _checked(key), max_size)
        given: dict[str, Module] = {}
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(f"expected a wasmloom.Module, not {type(module).__name__}")
            given[module.decoded.digest] = module
        found: list[Module] = []
        for digest in told.modules:
            if digest in given:
                found.append(given[digest])
            elif digest in embedded:
                found.append(Module(embedded[digest], engine))
            else:
                raise WasmError(f"the snapshot needs the module with the SHA-256 {digest}: give it as modules")
        check(told, found)
        return cls._of(told, tuple(found), {})

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        embed: bool = True,
        compress: str | None = None,
        key: bytes | None = None,
    ) -> None:
        """Write `to_bytes` to a file. Raises `OSError`, and what that does."""
        Path(path).write_bytes(self.to_bytes(embed=embed, compress=compress, key=key))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        modules: Iterable[Module] = (),
        engine: Engine | None = None,
        key: bytes | None = None,
        max_size: int = MOST_BYTES,
    ) -> Self:
        """Read a file that `save` has written. Raises `OSError`, and what `from_bytes` does."""
        data = Path(path).read_bytes()
        return cls.from_bytes(data, modules=modules, engine=engine, key=key, max_size=max_size)

    def __eq__(self, other: object) -> bool:
        return self._data == other._data if isinstance(other, Snapshot) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_bytes(embed=False))

    def __reduce__(self) -> Any:
        engine = self._modules[0].engine if self._modules else None
        return _unpickled, (self.to_bytes(), engine)

    def __copy__(self) -> Snapshot:
        return self

    def __deepcopy__(self, memo: object) -> Snapshot:
        return self

    def __repr__(self) -> str:
        pieces = sum(len(contents) for memory in self._data.memories for _, contents in memory.runs)
        return f"<wasmloom.Snapshot of {len(self._data.instances)} instances, {pieces} bytes of memory>"


def _checked(key: bytes | None) -> bytes | None:
    if key is not None and not isinstance(key, bytes):
        raise TypeError(f"a key is bytes, not {type(key).__name__}")
    if key == b"":
        raise ValueError("a key must not be empty")
    return key


def _unpickled(data: bytes, engine: Engine | None) -> Snapshot:
    return Snapshot.from_bytes(data, engine=engine)


def fork(store: Store) -> Restored:
    """A copy of a store, with the same host functions: none of the two sees what the other does from then on.

    Raises what `Snapshot.take` and `Snapshot.restore` raise.
    """
    return Snapshot.take(store).restore()


def _take(store: Store, keep: Mapping[str, object] | None, persistent_id: Any) -> Snapshot:
    return Snapshot.take(store, keep=keep, persistent_id=persistent_id)


# Also for whoever has got all of this from a pickle, and has asked the package for nothing.
set_take_snapshot(_take)
