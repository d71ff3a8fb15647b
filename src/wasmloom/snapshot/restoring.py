"""Restoring a snapshot: a store with instances, from data that anyone may have made.

Everything is checked against the modules before anything exists (`check`). Then instances are made as
`wasmloom.Instance` makes them, with the types of their imports checked, but without segments and start functions; and
what they hold is put there through the public names, which check limits and types once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from wasmloom.errors import LinkError, WasmError
from wasmloom.host.contents import lengthen, set_functions
from wasmloom.host.externs import Global, Memory, Table
from wasmloom.host.fixed import fill
from wasmloom.host.graph import is_told, making, storage_size, type_of_object
from wasmloom.host.instance import Instance
from wasmloom.host.linking import MISSING, lookup
from wasmloom.host.standing import runs_bytecode
from wasmloom.host.state import set_words
from wasmloom.host.store import Store
from wasmloom.host.tags import Tag
from wasmloom.messages import printable, two_level
from wasmloom.snapshot.data import (
    KINDS,
    PIECE,
    GlobalData,
    Home,
    InstanceData,
    Numbered,
    Reference,
    StoreData,
    Thing,
    references_of,
)
from wasmloom.snapshot.images import Image, Prepared
from wasmloom.snapshot.plans import Planner
from wasmloom.snapshot.rebuilding import Plans, Rebuilding
from wasmloom.spec.types import EXTERNREF, Limits, MemoryType, TableType, ValType
from wasmloom.wasi import CALLS, Wasi, function_for, layout_of, saving
from wasmloom.wasi.context import Context

#: Types of references that hosts can say without types of modules.
_HOSTS = ("funcref", "externref", "anyref", "eqref", "i31ref", "structref", "arrayref")


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
    for reference in references_of(data):
        if isinstance(reference, Home):
            _check_home(data, modules, reference, len(data.instances))
        elif isinstance(reference, Thing) and reference.number >= len(data.objects):
            raise _fail(f"there is no object {reference.number}")
    _check_objects(data, modules)
    guests = [number for state in data.wasi for number in state.instances]
    if len(guests) != len({*guests}):
        raise _fail("an instance with two worlds")
    for state in data.wasi:
        saving.check(state, len(data.instances))
    if set(range(len(modules))) != {instance.module for instance in data.instances}:
        raise _fail("a module that no instance has")


def _type_of(item: Any) -> Any:
    return item.type if hasattr(item, "type") else item


def _check_objects(data: StoreData, modules: Sequence[Any]) -> None:
    """Raise `WasmError` unless objects have what objects of their types have."""
    for number, thing in enumerate(data.objects):
        shape = type_of_object(modules[thing.module].decoded, thing.type) if thing.module < len(modules) else None
        if shape is None:
            raise _fail(f"object {number} has a type that has no objects")
        is_array, storages = shape
        sizes = [storage_size(storage) for storage in storages]
        if is_array:
            fits = not thing.data if sizes[0] == 0 else not thing.references and len(thing.data) % sizes[0] == 0
        else:
            fits = len(thing.data) == sum(sizes) and len(thing.references) == sizes.count(0)
        if not fits:
            raise _fail(f"object {number} has other contents than its type")
    places = [(segment.instance, segment.segment) for segment in data.segments]
    if any(one >= other for one, other in pairwise(places)):
        raise _fail("segments that aren't in order")
    for instance, index in places:
        if instance >= len(data.instances) or index in data.instances[instance].dropped_elements:
            raise _fail(f"segment {index} of an instance {instance} that isn't there")


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


def _fill(memory: Memory, runs: tuple[tuple[int, bytes], ...], image: Image | None) -> None:
    """Give a new memory its contents."""
    room = len(memory)
    for first, contents in runs[-1:]:  # they are in order
        if first * PIECE + len(contents) > room and any(contents[max(room - first * PIECE, 0) :]):
            raise _fail("contents behind a memory's end")
    if image is not None:
        image.map(memory)
        return
    for first, contents in runs:
        memory.write(first * PIECE, contents[: room - first * PIECE])


class Restoring:
    """Makes a store; see `restore`."""

    def __init__(
        self,
        data: StoreData,
        prepared: Prepared,
        modules: Sequence[Any],
        hosts: Mapping[Home, Any],
        imports: Any,
        persistent_load: Callable[[str], object] | None,
        worlds: Sequence[Wasi],
        plans: list[Plans],
    ) -> None:
        self._data, self._prepared, self._modules, self._hosts, self._imports = data, prepared, modules, hosts, imports
        self._persistent_load = persistent_load
        #: By the number of an instance: what its functions of WASI work on, and whose that is.
        self._worlds = {n: world for state, world in zip(data.wasi, worlds, strict=False) for n in state.instances}
        self._given = worlds
        #: Those of these modules, if there are any yet.
        self._plans = plans
        self._items: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        self.instances: list[Instance] = []
        self.kept: dict[str, object] = {}

    @property
    def tasks(self) -> list[Any]:
        """The calls that wait."""
        return self._rebuilding.tasks

    def run(self, engine: Any) -> Store:
        """Make everything. Raises what makes it impossible."""
        data, prepared = self._data, self._prepared
        if (data.fuel is not None) != engine.fuel or data.deterministic != engine.deterministic:
            raise WasmError(
                f"the snapshot is of an engine with fuel={data.fuel is not None} and "
                f"deterministic={data.deterministic}: it can't be restored with another one"
            )
        with _fitting():
            self.store = Store(
                engine, timeout=data.timeout, memory_limit=data.memory_limit, stack_limit=data.stack_limit
            )
        if (data.guests.calls or data.guests.continuations) and not runs_bytecode(self.store):
            raise WasmError(
                "the snapshot has guests in the middle of something: that needs an engine with snapshots=True, "
                "or one that runs bytecode"
            )
        # Before anything else exists.
        most = self.store.stack_limit
        if not self._plans:
            planner = Planner(data, self._modules, most // 8, max(most // 64, 1))
            self._plans.append(Plans(data.guests, planner))
        self._rebuilding = Rebuilding(data.guests, self._plans[0])
        for state, world in zip(data.wasi, self._given, strict=False):
            saving.take_over(world._context, state)
        if prepared.names and self._persistent_load is None:
            raise WasmError("the snapshot names objects of the host: restore() needs persistent_load")
        if self._persistent_load is not None:
            self._loaded = {name: self._persistent_load(name) for name in prepared.names}
        self._objects = making(self.store, Thing, self._object)
        try:
            self._fill_store(data, prepared)
        finally:
            self._objects.end()
        if data.fuel is not None:
            with _fitting():
                self.store.fuel = data.fuel
        return self.store

    def _fill_store(self, data: StoreData, prepared: Prepared) -> None:
        """Make what the store has, and give it its contents."""
        for thing in data.objects:
            decoded = self._modules[thing.module].decoded
            shape = type_of_object(decoded, thing.type)
            size = storage_size(shape[1][0]) if shape is not None and shape[0] else 1
            self._objects.add(decoded, thing.type, len(thing.data) // size if size else len(thing.references))
        for each in data.instances:
            self._make(each)
        for memory, kept, image in zip(self._items["memory"], data.memories, prepared.images, strict=True):
            _fill(memory, kept.runs, image)
        states = [instance._state for instance in self.instances]
        self._rebuilding.make(self.store, states, self._items["tag"], self._objects)
        for table, held, homes in zip(self._items["table"], data.tables, prepared.tables, strict=True):
            if homes is not None and set_functions(states, table, homes):
                continue
            with _fitting():
                self._fill_table(table, held.elements)
        for item, value in zip(self._items["global"], data.globals, strict=True):
            self._set(item, value)
        with _fitting():
            for number, thing in enumerate(data.objects):
                self._objects.fill(number, thing.data, thing.references)
            for segment in data.segments:
                self._objects.set_segment(states[segment.instance], segment.segment, segment.elements)
        self._rebuilding.fill()
        self.kept = {name: self._object(reference) for name, reference in data.guests.kept}
        self._rebuilding.finish()
        for state, told in zip(states, data.instances, strict=True):
            state.drop(list(told.dropped_data), list(told.dropped_elements))

    def _fill_table(self, table: Table, elements: tuple[Reference, ...]) -> None:
        """Give a table its elements, one by one, with their types checked."""
        type = table.type.element
        for index, reference in enumerate(elements):
            if is_told(type):
                self._objects.set_element(table, index, reference)
            elif reference is not None or table[index] is not None or not type.is_nullable:
                table[index] = self._object(reference, type)

    def _make(self, told: InstanceData) -> None:
        module = self._modules[told.module]
        decoded = module.decoded
        world = self._worlds.get(len(self.instances))
        context = None if world is None else world._context.another(layout_of(module))
        at = dict.fromkeys(("func", *KINDS), 0)
        values: list[Any] = []
        imports = self._prepared.imports[told.module]
        for wanted in imports:
            index = at[wanted.kind]
            at[wanted.kind] += 1
            if wanted.kind == "func":
                values.append(self._import(told, index, wanted, context))
                continue
            item = told.imports[wanted.kind][index]
            if item == len(self._items[wanted.kind]):
                self._items[wanted.kind].append(self._of_host(wanted.kind, item))
            values.append(self._items[wanted.kind][item])
        instance = Instance._bare(module, values, self.store, imports.__getitem__)
        self.instances.append(instance)
        if world is not None:
            fill(instance, _wasi=context)
            world._bind_exported(instance)
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
        if size > item.size and isinstance(item, Table):
            lengthen(item, size - item.size)
        elif size > item.size:
            item.grow(size - item.size)

    def _import(self, told: InstanceData, index: int, wanted: Any, context: Context | None) -> Any:
        home = told.functions[index]
        if home is not None:
            return self.instances[home.instance]._state.find("func", home.function)
        value = lookup(self._imports, wanted.module, wanted.name)
        if value is MISSING:
            value = self._hosts.get(Home(len(self.instances), index), MISSING)
        if value is MISSING and context is not None:
            value = function_for(context, wanted.name) or MISSING
        if value is MISSING:
            how = "a new Wasi to restore() as wasi" if wanted.name in CALLS else "it to restore() as imports"
            raise LinkError(
                f"unknown import {two_level(wanted.module, wanted.name)}: the host's, of which a snapshot has only the "
                f"name; give {how}"
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
            if size < least or element not in _HOSTS:
                raise _fail(f"a table of the host of type {element[:40]!r}")
            with _fitting():
                of = Table(self.store, element, 0).type.element
                return Table(self.store, TableType(of, Limits(size, most), is64))
        if kind == "global":
            told = self._data.globals[number]
            content = (told.type or "").removeprefix("mut ")
            if content not in ("i32", "i64", "f32", "f64", "v128", *_HOSTS):
                raise _fail(f"a global of the host of type {content[:40]!r}")
            is_ref = content.endswith("ref")
            if told.value is None or (len(told.value) == 1) != is_ref:
                raise _fail("a global of the host without a value of its type")
            value: Any = None if is_ref else bytes(16) if content == "v128" else 0
            if content == told.type == "funcref" and len(told.value) == 1:  # an immutable one
                value = self._object(told.value[0])
            with _fitting():
                made = Global(self.store, told.type or "", value)
                if is_ref and is_told(made.type.content):
                    self._objects.set_cell(made, told.value[0], True)
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
        held = told.value[0] if len(told.value) == 1 else None
        is_fixed = told.type is None and not item.type.mutable and not isinstance(held, Thing)
        if (len(told.value) == 1) != item.type.content.is_ref or is_fixed:
            raise _fail("a global with a value of another type")
        if len(told.value) == 2:
            _set_number(item, told.value)
        elif is_told(item.type.content):
            with _fitting():
                self._objects.set_cell(item, held)
        elif item.type.mutable:
            value = self._object(told.value[0], item.type.content)
            with _fitting():
                item.value = value

    def _object(self, reference: Reference, type: ValType = EXTERNREF) -> object:
        if reference is None:
            return None
        if isinstance(reference, Home):
            if reference.instance >= len(self.instances):
                raise _fail("a function of an instance that there isn't yet")
            return self.instances[reference.instance]._state.find("func", reference.function)
        if isinstance(reference, Numbered):
            return self._rebuilding.found(reference, type)
        if not isinstance(reference, str):
            raise _fail("an object of the guest where there can't be one")
        return self._loaded[reference]
