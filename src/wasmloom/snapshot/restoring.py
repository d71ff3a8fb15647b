"""Restoring a snapshot: a store with instances, from data that anyone may have made.

Everything is checked against the modules before anything exists (`check`). Then instances are made as
`wasmloom.Instance` makes them, with the types of their imports checked, but without segments and start functions; and
what they hold is put there through the public names, which check limits and types once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from wasmloom.errors import LinkError, WasmError
from wasmloom.host.externs import Global, Memory, Table
from wasmloom.host.instance import Instance
from wasmloom.host.linking import MISSING, lookup
from wasmloom.host.state import set_words
from wasmloom.host.store import Store
from wasmloom.host.tags import Tag
from wasmloom.messages import printable, two_level
from wasmloom.snapshot.data import KINDS, PIECE, GlobalData, Home, InstanceData, Reference, StoreData
from wasmloom.spec.types import Limits, MemoryType, TableType


def _fail(what: str) -> WasmError:
    return WasmError(f"damaged snapshot: {what}")


@contextmanager
def _fitting() -> Iterator[None]:
    """What the public names refuse can't have been in a store."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise _fail(printable(str(error))) from None


def check(data: StoreData, modules: Sequence[Any]) -> None:
    """Raise `WasmError` unless all numbers of a snapshot are those of things that its modules have."""
    lists: dict[str, Sequence[Any]] = {
        "memory": data.memories, "table": data.tables, "global": data.globals, "tag": data.tags
    }  # fmt: skip
    met = dict.fromkeys(KINDS, 0)
    for number, instance in enumerate(data.instances):
        if instance.module >= len(modules):
            raise _fail(f"instance {number} has no module")
        decoded = modules[instance.module].decoded
        counts = {
            "memory": (decoded.num_imported_memories, len(decoded.memories)),
            "table": (decoded.num_imported_tables, decoded.num_tables),
            "global": (decoded.num_imported_globals, decoded.num_globals),
            "tag": (decoded.num_imported_tags, decoded.num_tags),
        }
        if len(instance.functions) != decoded.num_imported_funcs:
            raise _fail(f"instance {number} has other imports than its module")
        for home in instance.functions:
            if home is not None:
                _check_home(data, modules, home, number)
        for kind, (imported, count) in counts.items():
            if len(instance.imports[kind]) != imported:
                raise _fail(f"instance {number} has other imports than its module")
            for index in instance.imports[kind]:
                if index > met[kind] or index >= len(lists[kind]):
                    raise _fail(f"instance {number} imports a {kind} that there isn't yet")
                if index == met[kind]:
                    if _type_of(lists[kind][index]) is None:
                        raise _fail(f"{kind} {index} has no type")
                    met[kind] += 1
            for index in range(met[kind], met[kind] + count - imported):
                if index >= len(lists[kind]) or _type_of(lists[kind][index]) is not None:
                    raise _fail(f"instance {number} has another {kind} than its module")
            met[kind] += count - imported
        for dropped, segments in (
            (instance.dropped_data, decoded.num_data),
            (instance.dropped_elements, decoded.num_elements),
        ):
            if dropped and dropped[-1] >= segments:
                raise _fail(f"instance {number} has no segment {dropped[-1]}")
    for kind, found in lists.items():
        if met[kind] != len(found):
            raise _fail(f"a {kind} that no instance has")
    for reference in _references(data):
        if isinstance(reference, Home):
            _check_home(data, modules, reference, len(data.instances))
    if set(range(len(modules))) != {instance.module for instance in data.instances}:
        raise _fail("a module that no instance has")


def _type_of(item: Any) -> Any:
    return item.type if hasattr(item, "type") else item


def _references(data: StoreData) -> Iterable[Reference]:
    for table in data.tables:
        yield from table.elements
    for item in data.globals:
        if item.value is not None and len(item.value) == 1:
            yield item.value[0]


def _check_home(data: StoreData, modules: Sequence[Any], home: Home, before: int) -> None:
    """Raise `WasmError` unless a function is one of the instances before one."""
    if home.instance >= before or home.function >= modules[data.instances[home.instance].module].decoded.num_funcs:
        raise _fail(f"there is no function {home.function} in an instance {home.instance}")


def _set_number(item: Any, words: tuple[int, int]) -> None:
    """Set the words of a global that holds a number, or a vector."""
    bits = {"i32": 32, "f32": 32, "i64": 64, "f64": 64, "v128": 128}[str(item.type.content)]
    if (bits < 128 and words[1]) or (bits == 32 and words[0] >> 32):
        raise _fail("a global with a value of another type")
    set_words(item, words)


class Restoring:
    """Makes a store; see `restore`."""

    def __init__(
        self,
        data: StoreData,
        modules: Sequence[Any],
        hosts: dict[Home, Any],
        imports: Any,
        persistent_load: Callable[[str], object] | None,
    ) -> None:
        self._data, self._modules, self._hosts, self._imports = data, modules, hosts, imports
        self._persistent_load = persistent_load
        self._items: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self.instances: list[Instance] = []

    def run(self, engine: Any) -> Store:
        """Make everything. Raises what makes it impossible."""
        data = self._data
        if (data.fuel is not None) != engine.fuel or data.deterministic != engine.deterministic:
            raise WasmError(
                f"the snapshot is of an engine with fuel={data.fuel is not None} and "
                f"deterministic={data.deterministic}: it can't be restored with another one"
            )
        with _fitting():
            self.store = Store(
                engine, timeout=data.timeout, memory_limit=data.memory_limit, stack_limit=data.stack_limit
            )
        for each in data.instances:
            self._make(each)
        for memory, kept in zip(self._items["memory"], data.memories, strict=True):
            for first, contents in kept.runs:
                room = len(memory) - first * PIECE
                if any(contents[max(room, 0) :]):
                    raise _fail("contents behind a memory's end")
                memory.write(first * PIECE, contents[:room])
        for table, held in zip(self._items["table"], data.tables, strict=True):
            for index, reference in enumerate(held.elements):
                if reference is not None or table[index] is not None:
                    value = self._object(reference)
                    with _fitting():
                        table[index] = value
        for item, told in zip(self._items["global"], data.globals, strict=True):
            self._set(item, told)
        for instance, state in zip(self.instances, data.instances, strict=True):
            instance._state.drop(list(state.dropped_data), list(state.dropped_elements))
        if data.fuel is not None:
            with _fitting():
                self.store.fuel = data.fuel
        return self.store

    def _make(self, told: InstanceData) -> None:
        module = self._modules[told.module]
        decoded = module.decoded
        at = dict.fromkeys(("func", *KINDS), 0)
        values: list[Any] = []
        for number in range(decoded.num_imports):
            wanted = decoded.import_at(number)
            index = at[wanted.kind]
            at[wanted.kind] += 1
            if wanted.kind == "func":
                values.append(self._import(told, index, wanted))
                continue
            item = told.imports[wanted.kind][index]
            if item == len(self._items[wanted.kind]):
                self._items[wanted.kind].append(self._of_host(wanted.kind, item))
            values.append(self._items[wanted.kind][item])
        instance = Instance._bare(module, values, self.store)
        self.instances.append(instance)
        counts = {
            "memory": len(decoded.memories), "table": decoded.num_tables, "global": decoded.num_globals,
            "tag": decoded.num_tags,
        }  # fmt: skip
        for kind, count in counts.items():
            for index in range(at[kind], count):
                item = len(self._items[kind])
                made = instance._state.find(kind, index)
                self._items[kind].append(made)
                if kind == "memory":
                    self._grow(made, self._data.memories[item].pages)
                elif kind == "table":
                    self._grow(made, len(self._data.tables[item].elements))

    def _grow(self, item: Any, size: int) -> None:
        """Give a memory or a table the size that it had."""
        if size < item.size:
            raise _fail("a memory or a table that is smaller than its type allows")
        if size > item.size:
            item.grow(size - item.size)

    def _import(self, told: InstanceData, index: int, wanted: Any) -> Any:
        home = told.functions[index]
        if home is not None:
            return self.instances[home.instance]._state.find("func", home.function)
        value = lookup(self._imports, wanted.module, wanted.name)
        if value is MISSING:
            value = self._hosts.get(Home(len(self.instances), index), MISSING)
        if value is MISSING:
            raise LinkError(
                f"unknown import {two_level(wanted.module, wanted.name)}: the host's, of which a snapshot has only the "
                "name; give it to restore() as imports"
            )
        return value

    def _of_host(self, kind: str, number: int) -> Any:
        """A memory, table, global or tag that no module defines."""
        if kind == "memory":
            least, most, is64, page_bits = self._data.memories[number].type or (0, 0, False, 16)
            size = self._data.memories[number].pages
            if size < least:
                raise _fail("a memory that is smaller than its type allows")
            if page_bits not in (0, 16):
                raise _fail("a memory with pages of an unknown size")
            with _fitting():
                return Memory(self.store, MemoryType(Limits(size, most), is64, page_size_log2=page_bits))
        if kind == "table":
            element, least, most, is64 = self._data.tables[number].type or ("", 0, 0, False)
            size = len(self._data.tables[number].elements)
            if size < least or element not in ("funcref", "externref"):
                raise _fail(f"a table of the host of type {element[:40]!r}")
            with _fitting():
                of = Table(self.store, element, 0).type.element
                return Table(self.store, TableType(of, Limits(size, most), is64))
        if kind == "global":
            told = self._data.globals[number]
            content = (told.type or "").removeprefix("mut ")
            if content not in ("i32", "i64", "f32", "f64", "v128", "funcref", "externref"):
                raise _fail(f"a global of the host of type {content[:40]!r}")
            is_ref = content.endswith("ref")
            if told.value is None or (len(told.value) == 1) != is_ref:
                raise _fail("a global of the host without a value of its type")
            value: Any = None if is_ref else bytes(16) if content == "v128" else 0
            if len(told.value) == 1 and content == told.type:  # an immutable one
                value = self._object(told.value[0])
            with _fitting():
                made = Global(self.store, told.type or "", value)
            if len(told.value) == 2:  # instances that are made now may copy it
                _set_number(made, told.value)
            return made
        with _fitting():
            return Tag(self.store, self._data.tags[number] or "")

    def _set(self, item: Any, told: GlobalData) -> None:
        """Give a global its value."""
        if told.value is None:
            if item.type.mutable:
                raise _fail("a global that can change, without a value")
            return
        if (len(told.value) == 1) != item.type.content.is_ref or (told.type is None and not item.type.mutable):
            raise _fail("a global with a value of another type")
        if len(told.value) == 2:
            _set_number(item, told.value)
        elif item.type.mutable:
            value = self._object(told.value[0])
            with _fitting():
                item.value = value

    def _object(self, reference: Reference) -> object:
        if reference is None:
            return None
        if isinstance(reference, Home):
            if reference.instance >= len(self.instances):
                raise _fail("a function of an instance that there isn't yet")
            return self.instances[reference.instance]._state.find("func", reference.function)
        if self._persistent_load is None:
            raise WasmError("the snapshot names objects of the host: restore() needs persistent_load")
        return self._persistent_load(reference)
