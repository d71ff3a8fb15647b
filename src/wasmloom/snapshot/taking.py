"""Taking a snapshot: a store's instances, as data."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wasmloom.errors import WasmError, WasmException
from wasmloom.host.asynchronous import call_of
from wasmloom.host.bridge import Func
from wasmloom.host.contents import homes_in, pieces_in_use
from wasmloom.host.continuations import Continuation
from wasmloom.host.graph import is_told, reading
from wasmloom.host.standing import (
    GuestImage,
    StackImage,
    TailImage,
    continuation_image,
    exception_image,
    guests_of,
    stack_reader,
    stands_between,
    word_of,
)
from wasmloom.host.state import address_of, hold, home_of, let_go, stack_limit_of, states_of, words_of
from wasmloom.messages import printable
from wasmloom.runtime.collector import collect_garbage
from wasmloom.runtime.store import Store
from wasmloom.snapshot.data import (
    CONSUMED,
    CONTINUATION,
    EXCEPTION,
    KINDS,
    PIECE,
    Bits,
    CallData,
    ContinuationData,
    ExceptionData,
    FrameData,
    GlobalData,
    GuestsData,
    Home,
    InstanceData,
    MemoryData,
    Numbered,
    ObjectData,
    Reference,
    SegmentData,
    StackData,
    StoreData,
    TableData,
    TailData,
    Thing,
    Value,
)
from wasmloom.spec.types import EXTERNREF, ValType
from wasmloom.wasi import context_of
from wasmloom.wasi.context import Context
from wasmloom.wasi.saving import WasiState, state_of


class Taken(NamedTuple):
    """A store as data; its modules; what its host functions are, by instance and index."""

    store: StoreData
    modules: tuple[Any, ...]
    hosts: dict[Home, Any]


def take(
    store: Store, keep: Mapping[str, object], persistent_id: Callable[[object], str | None] | None
) -> Taken:
    """The state of a store's instances.

    Raises `WasmError` for what isn't part of a snapshot yet, or can't be: see `Snapshot.take`.
    """
    hold(store)  # so that no other thread changes anything meanwhile
    try:
        if not stands_between(store):
            collect_garbage(store)
        return _Taking(store, keep, persistent_id).taken()
    finally:
        let_go(store)


class _Taking:
    def __init__(
        self, store: Store, keep: Mapping[str, object], persistent_id: Callable[[object], str | None] | None
    ) -> None:
        self._store = store
        self._keep = keep
        self._persistent_id = persistent_id
        self._states: list[Any] = states_of(store)
        self._numbers: dict[tuple[str, int], int] = {}
        self._found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self._modules: dict[str, Any] = {}
        #: Keeps objects whose `id` is known.
        self._kept: list[Any] = []
        self._instance_at = {address_of(state): number for number, state in enumerate(self._states)}
        #: What is in the heap besides objects, by kind, and the number of each by the word of a reference.
        self._heap: dict[str, list[Any]] = {CONTINUATION: [], EXCEPTION: []}
        self._heap_numbers: dict[int, Numbered] = {}
        self._reading = reading(store, Thing, self._name, self._reference)
        self._reader = stack_reader(store, self._reading)

    def taken(self) -> Taken:
        """All of it."""
        try:
            return self._taken()
        finally:
            self._reading.end()

    def _taken(self) -> Taken:
        running = guests_of(self._reader)
        instances = tuple([self._instance(number) for number in range(len(self._states))])
        store = self._store
        guests, (objects, segments) = self._guests(running)
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
            objects,
            segments,
            guests,
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
        if isinstance(value, Continuation | WasmException):
            found = self._in_heap(value, where)
            if found is not None:
                return found
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

    # --- what is in the middle of something ---

    def _in_heap(self, value: Any, where: str) -> Numbered | None:
        """The number of a continuation or an exception; None for an exception that is an object of the host."""
        word = word_of(value)
        if word == 0:
            if isinstance(value, WasmException):
                return None
            return Numbered(CONSUMED, 0)
        found = self._heap_numbers.get(word)
        if found is None:
            kind = CONTINUATION if isinstance(value, Continuation) else EXCEPTION
            found = self._heap_numbers[word] = Numbered(kind, len(self._heap[kind]))
            self._heap[kind].append(value)
        return found

    def _guests(
        self, running: list[GuestImage]
    ) -> tuple[GuestsData, tuple[tuple[ObjectData, ...], tuple[SegmentData, ...]]]:
        """What is in the middle of something; and all objects, and segments with some."""
        calls = tuple(map(self._call, running))
        kept = tuple([(name, self._any(value, f"keep[{name!r}]")) for name, value in sorted(self._keep.items())])
        continuations: list[ContinuationData] = []
        exceptions: list[ExceptionData] = []
        # Looking at one can find others, which come last; so can looking at objects.
        while True:
            while len(continuations) < len(self._heap[CONTINUATION]) or len(exceptions) < len(self._heap[EXCEPTION]):
                for value in self._heap[CONTINUATION][len(continuations) :]:
                    continuations.append(self._continuation(value, f"continuation {len(continuations)}"))
                for value in self._heap[EXCEPTION][len(exceptions) :]:
                    exceptions.append(self._exception(value, f"exception {len(exceptions)}"))
            objects = self._objects()
            if len(continuations) == len(self._heap[CONTINUATION]) and len(exceptions) == len(self._heap[EXCEPTION]):
                return GuestsData(tuple(continuations), tuple(exceptions), calls, kept), objects

    def _any(self, value: object, where: str) -> Reference:
        if not isinstance(value, Func | Continuation | WasmException):
            raise WasmError(f"{where} is no function, continuation or exception of the guest")
        if isinstance(value, Continuation) and not value.alive:
            raise WasmError(f"{where} is a continuation that has been consumed")
        return self._reference(value, EXTERNREF, where)

    def _values(self, typed: tuple[tuple[ValType, Any], ...]) -> tuple[Value, ...]:
        return tuple([value if type.is_ref else Bits(value) for type, value in typed])

    def _home(self, address: int, function: int) -> Home:
        return Home(self._instance_at[address], function)

    def _tails(self, tails: tuple[TailImage, ...]) -> tuple[TailData, ...]:
        return tuple([TailData(self._home(tail.instance, tail.function), tail.offset) for tail in tails])

    def _stack(self, image: StackImage) -> StackData:
        frames = []
        for frame in image.frames:
            frames.append(
                FrameData(
                    self._home(frame.instance, frame.function),
                    frame.offset,
                    self._values(frame.locals),
                    self._values(frame.operands),
                    frame.own,
                    self._tails(frame.tails),
                )
            )
        return StackData(self._tails(image.tails), tuple(frames))

    def _stacks(self, images: tuple[StackImage, ...]) -> tuple[StackData, ...]:
        return tuple(map(self._stack, images))

    def _call(self, image: GuestImage) -> CallData:
        if image.task is not None:
            info = call_of(image.task)
            id, attempt = info.id, info.attempt
            function = self._function(image.task.function)
        else:
            id, attempt = secrets.token_hex(16), 1
            outermost = image.stacks[-1]
            first: Any = (*outermost.tails, *outermost.frames)[0]
            function = self._home(first.instance, first.function)
        args = self._values(image.args)
        host = None if image.host is None else self._function(image.host)
        return CallData(id, attempt, function, host, args, self._stacks(image.stacks))

    def _continuation(self, value: Continuation, where: str) -> ContinuationData:
        image = continuation_image(value, self._reader, where)
        function = None if image.function is None else self._function(image.function)
        return ContinuationData(function, self._values(image.bound), self._stacks(image.stacks))

    def _exception(self, value: WasmException, where: str) -> ExceptionData:
        tag, values = exception_image(value, self._reading, where)
        number = self._numbers.get(("tag", tag))
        if number is None:
            raise WasmError(f"{where} has a tag that no instance has: that isn't part of snapshots yet")
        return ExceptionData(number, self._values(values))

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
