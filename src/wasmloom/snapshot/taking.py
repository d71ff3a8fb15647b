"""Taking a snapshot: a store's instances, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wasmloom.errors import WasmError
from wasmloom.host.bridge import Func
from wasmloom.host.contents import homes_in, pieces_in_use
from wasmloom.host.graph import is_told, reading
from wasmloom.host.state import hold, home_of, let_go, occupied, stack_limit_of, states_of, words_of
from wasmloom.messages import printable
from wasmloom.runtime.collector import collect_garbage
from wasmloom.runtime.store import Store
from wasmloom.snapshot.data import (
    KINDS,
    PIECE,
    GlobalData,
    Home,
    InstanceData,
    MemoryData,
    ObjectData,
    Reference,
    SegmentData,
    StoreData,
    TableData,
    Thing,
)
from wasmloom.spec.types import ValType
from wasmloom.wasi import context_of
from wasmloom.wasi.context import Context
from wasmloom.wasi.saving import WasiState, state_of


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
        self._reading = reading(store, Thing, self._name, self._reference)

    def taken(self) -> Taken:
        """All of it."""
        try:
            return self._taken()
        finally:
            self._reading.end()

    def _taken(self) -> Taken:
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
            self._wasi(),
            *self._objects(),
        )
        hosts = {
            Home(number, index): host.function
            for number, state in enumerate(self._states)
            for index, host in enumerate(state.hosts)
            if host is not None and context_of(host.function) is None
        }
        return Taken(data, tuple(self._modules.values()), hosts)

    def _wasi(self) -> tuple[WasiState, ...]:
        """What the instances have of WASI: those with the same open files share it."""
        found: dict[int, tuple[Context, list[int]]] = {}
        for number, state in enumerate(self._states):
            for host in state.hosts:
                context = None if host is None else context_of(host.function)
                if context is not None:
                    numbers = found.setdefault(id(context.table), (context, []))[1]
                    if number not in numbers[-1:]:
                        numbers.append(number)
        return tuple([state_of(context, tuple(numbers)) for context, numbers in found.values()])

    def _objects(self) -> tuple[tuple[ObjectData, ...], tuple[SegmentData, ...]]:
        """Objects and segments with some: last of all, because objects are numbered as they are met."""
        segments: list[SegmentData] = []
        for number, state in enumerate(self._states):
            for segment, elements in self._reading.segments(state, f"an element segment of instance {number}"):
                segments.append(SegmentData(number, segment, tuple(elements)))
        types: dict[int, tuple[int, int]] = {}
        objects: list[ObjectData] = []
        for type, data, references in self._reading.objects():
            if not types:
                for number, module in enumerate(self._modules.values()):
                    for index, id in enumerate(module.decoded.type_ids):
                        types.setdefault(id, (number, index))
            if type not in types:
                raise WasmError("an object has a type that no module has: the host has made it")
            objects.append(ObjectData(*types[type], data, tuple(references)))
        return tuple(objects), tuple(segments)

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
        elements: tuple[Reference, ...]
        homes = homes_in(self._states, table)
        if is_told(type.element):
            elements = tuple(self._reading.table(table, f"table {index}"))
        elif homes is not None:
            elements = tuple([None if home is None else Home(*home) for home in homes])
        else:
            places = range(len(table))
            elements = tuple([self._reference(table[i], type.element, f"table {index}, element {i}") for i in places])
        told = (str(type.element), type.limits.min, type.limits.max, type.is64) if host else None
        return TableData(told, elements)

    def _global(self, item: Any, state: Any, index: int, host: bool) -> GlobalData:
        type = item.type
        told = f"{'mut ' if type.mutable else ''}{type.content}" if host else None
        where = f"global {index}"
        if is_told(type.content):
            value = self._reading.cell(item, where)
            tells = type.mutable or host or isinstance(value, Thing)
            return GlobalData(told, (value,) if tells else None)
        if not type.mutable and not host:
            return GlobalData(None, None)
        if not type.content.is_ref:
            words = words_of(item)
            return GlobalData(told, (words[0], words[1] if str(type.content) == "v128" else 0))
        return GlobalData(told, (self._reference(item.value, type.content, where),))

    def _tag(self, tag: Any, state: Any, index: int, host: bool) -> str | None:
        return " ".join(map(str, tag.type.params)) if host else None

    def _reference(self, value: object, declared: ValType, where: str) -> Reference:
        if value is None:
            return None
        if isinstance(value, Func):
            return self._function(value)
        return self._name(value, where)

    def _name(self, value: object, where: str) -> str:
        """The name of an object of the host."""
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
    """What isn't zero of a memory, in whole pieces, those that follow each other together."""
    runs: list[tuple[int, bytes]] = []
    length = len(memory)
    for first, count in pieces_in_use(memory, PIECE):
        start, size = first * PIECE, count * PIECE
        contents = memory.read(start, min(size, length - start))
        runs.append((first, contents if len(contents) == size else contents.ljust(size, b"\0")))
    return runs
