"""Taking a snapshot: a store's instances, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wasmloom.errors import WasmError
from wasmloom.host.bridge import Func
from wasmloom.host.state import hold, home_of, let_go, occupied, stack_limit_of, states_of, words_of
from wasmloom.messages import printable
from wasmloom.runtime.collector import collect_garbage, statistics
from wasmloom.runtime.store import Store
from wasmloom.snapshot.data import (
    KINDS,
    PIECE,
    GlobalData,
    Home,
    InstanceData,
    MemoryData,
    Reference,
    StoreData,
    TableData,
)
from wasmloom.spec.types import EXTERNREF, ValType

#: So much of a memory is looked at in one go: a multiple of `PIECE`.
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
#: Functions of these modules hold state of their own, which isn't part of a snapshot.
_OF_WASI = "wasmloom.wasi"


class Taken(NamedTuple):
    """A store as data; its modules; what its host functions are, by instance and index."""

    store: StoreData
    modules: tuple[Any, ...]
    hosts: dict[Home, Any]


def take(store: Store, persistent_id: Callable[[object], str | None] | None) -> Taken:
    """The state of a store's instances.

    Raises `WasmError` for what isn't part of a snapshot yet, or can't be: see `Snapshot.take`.
    """
    hold(store)  # so that no other thread changes anything meanwhile
    try:
        reason = occupied(store)
        if reason is not None:
            raise WasmError(f"a snapshot is taken between calls, and {reason}: that isn't part of snapshots yet")
        collect_garbage(store)
        if statistics(store)["objects"]:
            raise WasmError("the guest has structs or arrays: they aren't part of snapshots yet")
        return _Taking(store, persistent_id).taken()
    finally:
        let_go(store)


class _Taking:
    def __init__(self, store: Store, persistent_id: Callable[[object], str | None] | None) -> None:
        self._store = store
        self._persistent_id = persistent_id
        self._states: list[Any] = states_of(store)
        self._numbers: dict[tuple[str, int], int] = {}
        self._found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self._modules: dict[str, Any] = {}
        #: Keeps objects whose `id` is known.
        self._kept: list[Any] = []

    def taken(self) -> Taken:
        instances = tuple([self._instance(number) for number in range(len(self._states))])
        store = self._store
        data = StoreData(
            tuple(self._modules),
            store.fuel,
            store.timeout,
            store.memory_limit,
            stack_limit_of(store),
            store.engine.deterministic,
            instances,
            tuple(self._found["memory"]),
            tuple(self._found["table"]),
            tuple(self._found["global"]),
            tuple(self._found["tag"]),
        )
        hosts = {
            Home(number, index): host.function
            for number, state in enumerate(self._states)
            for index, host in enumerate(state.hosts)
            if host is not None and not str(getattr(host.function, "__module__", "")).startswith(_OF_WASI)
        }
        return Taken(data, tuple(self._modules.values()), hosts)

    def _instance(self, number: int) -> InstanceData:
        state = self._states[number]
        decoded = state.module.decoded
        digest = decoded.digest
        self._modules.setdefault(digest, state.module)
        functions: list[Home | None] = []
        for index, host in enumerate(state.hosts):
            functions.append(None if host is not None else self._function(state.find("func", index)))
        counts = {
            "memory": (decoded.num_imported_memories, len(decoded.memories)),
            "table": (decoded.num_imported_tables, decoded.num_tables),
            "global": (decoded.num_imported_globals, decoded.num_globals),
            "tag": (decoded.num_imported_tags, decoded.num_tags),
        }
        imports: dict[str, tuple[int, ...]] = {}
        for kind, (imported, count) in counts.items():
            numbers = [self._item(kind, state, index, index < imported) for index in range(count)]
            imports[kind] = tuple(numbers[:imported])
        data, elements = state.dropped()
        modules = list(self._modules)
        return InstanceData(modules.index(digest), tuple(functions), imports, tuple(data), tuple(elements))

    def _item(self, kind: str, state: Any, index: int, imported: bool) -> int:
        """The number of a memory, table, global or tag, which is read when it is met first."""
        item = state.find(kind, index)
        key = kind, item.address if kind in ("global", "tag") else id(item)
        number = self._numbers.get(key)
        if number is None:
            found = self._found[kind]
            read = {"memory": self._memory, "table": self._table, "global": self._global, "tag": self._tag}[kind]
            number = self._numbers[key] = len(found)
            self._kept.append(item)
            found.append(read(item, state, index, imported))
        return number

    def _memory(self, memory: Any, state: Any, index: int, host: bool) -> MemoryData:
        type = memory.type
        if getattr(type, "shared", False):
            raise WasmError(f"memory {index} is shared with other stores, which isn't part of snapshots yet")
        told = (type.limits.min, type.limits.max, type.is64, type.page_size_log2) if host else None
        return MemoryData(told, memory.size, tuple(_runs(memory)))

    def _table(self, table: Any, state: Any, index: int, host: bool) -> TableData:
        type = table.type
        places = range(len(table))
        elements = tuple([self._reference(table[i], type.element, f"table {index}, element {i}") for i in places])
        told = (str(type.element), type.limits.min, type.limits.max, type.is64) if host else None
        return TableData(told, elements)

    def _global(self, item: Any, state: Any, index: int, host: bool) -> GlobalData:
        type = item.type
        told = f"{'mut ' if type.mutable else ''}{type.content}" if host else None
        if not type.mutable and not host:
            return GlobalData(None, None)
        if not type.content.is_ref:
            words = words_of(item)
            return GlobalData(told, (words[0], words[1] if str(type.content) == "v128" else 0))
        return GlobalData(told, (self._reference(item.value, type.content, f"global {index}"),))

    def _tag(self, tag: Any, state: Any, index: int, host: bool) -> str | None:
        return " ".join(map(str, tag.type.params)) if host else None

    def _reference(self, value: object, declared: ValType, where: str) -> Reference:
        if value is None:
            return None
        if isinstance(value, int) and declared.heap != EXTERNREF.heap:
            raise WasmError(f"{where} holds an i31, which isn't part of snapshots yet")
        if isinstance(value, Func):
            return self._function(value)
        name = None if self._persistent_id is None else self._persistent_id(value)
        if isinstance(name, str):
            return name
        kind = type(value).__name__
        raise WasmError(
            f"{where} holds an object of the host ({kind}), which a snapshot has only by a name from persistent_id"
        )

    def _function(self, func: Func) -> Home:
        home = home_of(self._states, func)
        if home is None:
            raise WasmError(
                f"the function {printable(func.name)!r} belongs to the host and is no import of an instance: "
                "it isn't part of snapshots yet"
            )
        return Home(*home)


def _runs(memory: Any) -> list[tuple[int, bytes]]:
    """What isn't zero of a memory, piece by piece, those that follow each other together."""
    runs: list[tuple[int, bytes]] = []
    size = len(memory)
    started = -1
    parts: list[bytes] = []
    for start in range(0, size, _CHUNK):
        chunk = memory.read(start, min(_CHUNK, size - start))
        zero = chunk == _ZEROS[: len(chunk)]
        pieces = [b""] if zero else [chunk[at : at + PIECE] for at in range(0, len(chunk), PIECE)]
        for i, piece in enumerate(pieces):
            if piece != _ZEROS[: len(piece)]:
                if not parts:
                    started = start // PIECE + i
                parts.append(piece)
            elif parts:
                runs.append((started, b"".join(parts)))
                parts = []
    if parts:
        runs.append((started, b"".join(parts)))
    return [(first, contents + bytes(-len(contents) % PIECE)) for first, contents in runs]
