"""What a snapshot consists of.

Memories, tables, globals and tags are numbered in the order in which a walk meets them: instance after instance, index
space after index space. So what an instance defines itself needs no name: it is what comes next. What an instance
imports is a number that has come before, or the next one, which the host has made and whose type is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from wasmloom.wasi.saving import WasiState

#: Memories are kept in pieces of this size; those that are all zero aren't kept.
PIECE = 4096
#: The index spaces that are shared between instances, besides functions.
KINDS = ("memory", "table", "global", "tag")


class Home(NamedTuple):
    """A function: the number of an instance, and its index there."""

    instance: int
    function: int


class Thing(NamedTuple):
    """A struct or an array: its number among the objects."""

    number: int


#: A reference: null, a function, an i31, an object, or what the user calls an object of the host.
Reference: TypeAlias = Home | Thing | int | str | None


class ObjectData(NamedTuple):
    """A struct or an array: the numbers of a module and of a type there; the numbers that it holds, one after the
    other as they are in memory; and the references."""

    module: int
    type: int
    data: bytes
    references: tuple[Reference, ...]


class SegmentData(NamedTuple):
    """An element segment that holds objects: the number of its instance, its own, and the elements."""

    instance: int
    segment: int
    elements: tuple[Reference, ...]


class MemoryData(NamedTuple):
    """A memory: its size in its own pages, and (number of the first piece, bytes) for what isn't zero."""

    type: tuple[int, int | None, bool, int] | None
    pages: int
    runs: tuple[tuple[int, bytes], ...]


class TableData(NamedTuple):
    """A table. The type is (element, minimum, maximum, whether indices have 64 bits), for those that the host made."""

    type: tuple[str, int, int | None, bool] | None
    elements: tuple[Reference, ...]


class GlobalData(NamedTuple):
    """A global: two words, or a reference. None: an immutable one of a module without an object, whose initialiser
    tells.

    The type is the text of a `GlobalType`, for those that the host made.
    """

    type: str | None
    value: tuple[int, int] | tuple[Reference] | None


class InstanceData(NamedTuple):
    """An instance: the number of its module; for each imported function where it is, None: it is the host's; the
    numbers of what it imports, by kind; and its passive segments that have been dropped."""

    module: int
    functions: tuple[Home | None, ...]
    imports: dict[str, tuple[int, ...]]
    dropped_data: tuple[int, ...]
    dropped_elements: tuple[int, ...]


class StoreData(NamedTuple):
    """A store. `modules` are SHA-256 digests; `wasi` says which instances share what of WASI. Objects are numbered in
    the order in which a walk meets them: through tables, globals and segments, then from object to object."""

    modules: tuple[str, ...]
    fuel: int | None
    timeout: float | None
    memory_limit: int | None
    stack_limit: int
    deterministic: bool
    instances: tuple[InstanceData, ...]
    memories: tuple[MemoryData, ...]
    tables: tuple[TableData, ...]
    globals: tuple[GlobalData, ...]
    tags: tuple[str | None, ...]
    wasi: tuple[WasiState, ...] = ()
    objects: tuple[ObjectData, ...] = ()
    segments: tuple[SegmentData, ...] = ()


def references_of(data: StoreData) -> Iterator[Reference]:
    """All references that a store holds."""
    for thing in data.objects:
        yield from thing.references
    for segment in data.segments:
        yield from segment.elements
    for table in data.tables:
        yield from table.elements
    for item in data.globals:
        if item.value is not None and len(item.value) == 1:
            yield item.value[0]
