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


class Numbered(NamedTuple):
    """Something else in the store's heap: its kind, and its number among those of the kind. What is `CONSUMED` has
    none: a reference to a continuation that has been resumed."""

    kind: str
    number: int


#: The kinds of `Numbered`.
CONTINUATION, EXCEPTION, CONSUMED = "continuation", "exception", "consumed"


class Bits(NamedTuple):
    """A number, by its bits."""

    value: int


#: A reference: null, a function, an i31, an object, something else in the heap, or what the user calls an object of the
#: host.
Reference: TypeAlias = Home | Thing | Numbered | int | str | None
#: A value of a frame, or of what waits for one.
Value: TypeAlias = Bits | Reference


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


class TailData(NamedTuple):
    """A tail call that has left its instance: the function that has made it, and where in its module that is."""

    home: Home
    offset: int


class FrameData(NamedTuple):
    """A frame: its function, where in the module it stands, its locals and operands, what code keeps for itself, and
    the tail calls between it and what it has called, the first one first."""

    home: Home
    offset: int
    locals: tuple[Value, ...]
    operands: tuple[Value, ...]
    own: tuple[int, ...]
    tails: tuple[TailData, ...]


class StackData(NamedTuple):
    """A stack: its frames, the outermost first, and the tail calls below all of them."""

    tails: tuple[TailData, ...]
    frames: tuple[FrameData, ...]


class ContinuationData(NamedTuple):
    """A continuation: the function that it will run, and what has been bound; or, suspended, its stacks, the innermost
    first: then what has been bound is among the operands."""

    function: Home | None
    bound: tuple[Value, ...]
    stacks: tuple[StackData, ...]


class ExceptionData(NamedTuple):
    """An exception: the number of its tag, and its values."""

    tag: int
    values: tuple[Value, ...]


class CallData(NamedTuple):
    """A guest that waits for a host function: what identifies the call, how often it has been made, the function that
    the host has called, the host function (None: it waits for nothing), and the stacks, the innermost first."""

    id: str
    attempt: int
    function: Home
    host: Home | None
    args: tuple[Value, ...]
    stacks: tuple[StackData, ...]


class GuestsData(NamedTuple):
    """What is in the middle of something, and what the user has asked to keep, by name."""

    continuations: tuple[ContinuationData, ...] = ()
    exceptions: tuple[ExceptionData, ...] = ()
    calls: tuple[CallData, ...] = ()
    kept: tuple[tuple[str, Reference], ...] = ()


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
    guests: GuestsData = GuestsData()


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
    for value in _values_of(data.guests):
        if not isinstance(value, Bits):
            yield value


def _values_of(guests: GuestsData) -> Iterator[Value]:
    """All values in frames and whatever else is in the middle of something, and all functions that are named there."""
    stacks = [stack for one in guests.continuations for stack in one.stacks]
    stacks += [stack for call in guests.calls for stack in call.stacks]
    for stack in stacks:
        yield from (tail.home for tail in stack.tails)
        for frame in stack.frames:
            yield from (frame.home, *frame.locals, *frame.operands)
            yield from (tail.home for tail in frame.tails)
    for one in guests.continuations:
        yield from (one.function, *one.bound)
    for exception in guests.exceptions:
        yield from exception.values
    for call in guests.calls:
        yield from (call.function, call.host, *call.args)
    yield from (value for _, value in guests.kept)
