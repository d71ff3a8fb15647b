"""What a snapshot consists of.

Memories, tables, globals and tags are numbered in the order in which a walk meets them: instance after instance, index
space after index space. So what an instance defines itself needs no name: it is what comes next. What an instance
imports is a number that has come before, or the next one, which the host has made and whose type is told.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

#: Memories are kept in pieces of this size; those that are all zero aren't kept.
PIECE = 4096
#: The index spaces that are shared between instances, besides functions.
KINDS = ("memory", "table", "global", "tag")


class Home(NamedTuple):
    """A function: the number of an instance, and its index there."""

    instance: int
    function: int


#: A reference: null, a function, or what the user calls an object of the host.
Reference: TypeAlias = Home | str | None


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
    """A global: two words, or a reference. None: an immutable one of a module, whose initialiser tells.

    The type is the text of a `GlobalType`, for those that the host made.
    """

    type: str | None
    value: tuple[int, int] | tuple[Reference] | None


class InstanceData(NamedTuple):
    """An instance: the number of its module; for each imported function where it is, None: it is the host's; the
    numbers of what it imports, by kind; and its segments that have been dropped."""

    module: int
    functions: tuple[Home | None, ...]
    imports: dict[str, tuple[int, ...]]
    dropped_data: tuple[int, ...]
    dropped_elements: tuple[int, ...]


class StoreData(NamedTuple):
    """A store. `modules` are SHA-256 digests."""

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
