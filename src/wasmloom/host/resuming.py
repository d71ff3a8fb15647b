"""Continuations in event loops: `Continuation.resume_async`.

A call that can wait runs a function of the guest (see `wasmloom.host.tasks`), and `Continuation.resume` runs none. So
the function is made: a small module, instantiated in the continuation's store, whose function takes the continuation
and what it is resumed with, and has one `resume` with a clause for every tag.

```
(func (export "drive") (param ARGUMENTS… (ref $k)) (param $into externref)
  (block $tag0 (result PAYLOAD… (ref $rest))
    (call $returned (resume $k (on $tag0 $tag0) …) (local.get $into))
    (return))
  (call $suspended0 (local.get $into)))
```

How it ends is told by the host function that it calls. These get objects, so there need be no type that fits all ends;
and the list `into`, which is the call's own.

There is one such module for each type and choice of tags in a store, as long as the store lives. Invariant: nothing
here keeps a store, so what is kept of an instance is its `Caller`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from wasmloom.binary.encoder import encode_module, sleb, uleb
from wasmloom.errors import WasmException
from wasmloom.host.callers import Caller, PerInstance
from wasmloom.host.continuations import Continuation, Suspension, answer, tags_of
from wasmloom.host.module import Module
from wasmloom.spec.canon import group_of, sub_type
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.module import Code, Export, Import, ModuleSyntax
from wasmloom.spec.types import (
    CONCRETE,
    EXACT,
    EXNREF,
    EXTERNREF,
    HEAP_SHIFT,
    REF_FLAG,
    ArrayType,
    ContType,
    FieldType,
    FuncType,
    StructType,
    SubType,
    TagType,
    ValType,
    ref_type,
)

if TYPE_CHECKING:
    from wasmloom.host.tags import Tag
    from wasmloom.runtime.store import Store

#: `wasmloom.host.instance.Instance`, which needs this module.
Instantiate = Callable[..., object]

_DRIVE = "drive"
#: Store → type, whether it throws, and the tags' addresses → the instance that resumes such continuations.
_drivers: WeakKeyDictionary[Store, dict[Any, Caller]] = WeakKeyDictionary()


class _Types:
    """The types of a module that is being made. It has those of other modules that its own types name."""

    def __init__(self) -> None:
        self.groups: list[tuple[SubType, ...]] = []
        self._count = 0
        #: Canonical id → index.
        self._indices: dict[int, int] = {}

    def add(self, *group: SubType) -> int:
        """Add a group; returns the index of its first member."""
        self.groups.append(group)
        self._count += len(group)
        return self._count - len(group)

    def function(self, params: tuple[ValType, ...], results: tuple[ValType, ...]) -> int:
        """Add a function type of values with canonical types; returns its index."""
        return self.add(SubType(FuncType(self.values(params), self.values(results))))

    def values(self, types: tuple[ValType, ...]) -> tuple[ValType, ...]:
        """Types with the indices of this module."""
        for type in types:
            self._bring(type)
        return tuple(map(self._value, types))

    def _bring(self, type: ValType) -> None:
        """Add the group that defines a type, after those that this one names. They may be nested deeply."""
        waiting = [(id, False) for id in _named(type)]
        while waiting:
            id, named_are_there = waiting.pop()
            group = group_of(id)
            if group[0] in self._indices:
                continue
            members = list(map(sub_type, group))
            if not named_are_there:
                waiting.append((id, True))
                waiting += [(other, False) for sub in members for other in _named_by(sub) if other not in group]
                continue
            for member in group:
                self._indices[member] = self._count + member - group[0]
            self.add(*map(self._renumbered, members))

    def _value(self, type: ValType) -> ValType:
        ids = list(_named(type))
        return ref_type(CONCRETE + self._indices[ids[0]] + (type.heap & EXACT), type.is_nullable) if ids else type

    def _field(self, field: FieldType) -> FieldType:
        return field._replace(storage=self._value(field.storage))

    def _renumbered(self, sub: SubType) -> SubType:
        composite = sub.composite
        if isinstance(composite, FuncType):
            composite = FuncType(*[tuple(map(self._value, types)) for types in composite])
        elif isinstance(composite, StructType):
            composite = StructType(tuple(map(self._field, composite.fields)))
        elif isinstance(composite, ArrayType):
            composite = ArrayType(self._field(composite.field))
        else:
            composite = ContType(CONCRETE + self._indices[composite.func - CONCRETE])
        return SubType(
            composite,
            tuple([self._indices[above] for above in sub.supers]),
            sub.final,
            None if sub.descriptor is None else self._indices[sub.descriptor],
            None if sub.describes is None else self._indices[sub.describes],
        )


def _named(type: ValType) -> Iterator[int]:
    """The id of the type that a value type names, if it does."""
    if type & REF_FLAG and type >> HEAP_SHIFT >= CONCRETE:
        yield (type >> HEAP_SHIFT) - CONCRETE


def _named_by(sub: SubType) -> Iterator[int]:
    """The ids of the types that a definition names."""
    composite = sub.composite
    yield from sub.supers
    if isinstance(composite, ContType):
        yield composite.func - CONCRETE
    elif isinstance(composite, FuncType):
        for type in (*composite.params, *composite.results):
            yield from _named(type)
    else:
        for field in composite.fields if isinstance(composite, StructType) else (composite.field,):
            yield from _named(field.storage)


def _op(mnemonic: str, *immediates: int) -> bytes:
    """An instruction with a code of one byte."""
    return bytes((BY_MNEMONIC[mnemonic].opcode,)) + b"".join(map(uleb, immediates))


def _module(type: FuncType, throws: bool, tags: list[FuncType]) -> bytes:
    """The module that resumes continuations of a type, or throws in them."""
    types = _Types()
    syntax = ModuleSyntax()
    cont = types.add(SubType(ContType(CONCRETE + types.function(type.params, type.results))))
    given = (EXNREF,) if throws else types.values(type.params)
    ends = [types.values(type.results)]
    blocks = []
    for number, tag in enumerate(tags):
        rest = types.add(SubType(ContType(CONCRETE + types.function(tag.results, type.results))))
        ends.append((*types.values(tag.params), ref_type(CONCRETE + rest, False)))
        blocks.append(types.add(SubType(FuncType((), ends[-1]))))
        syntax.imports.append(
            Import("tag", str(number), "tag", TagType(types.function(tag.params, tag.results)))
        )
    for number, values in enumerate(ends):
        index = types.add(SubType(FuncType((*values, EXTERNREF), ())))
        syntax.imports.append(Import("end", str(number), "func", index))
    params = (*given, ref_type(CONCRETE + cont, False), EXTERNREF)
    syntax.funcs = [types.add(SubType(FuncType(params, ())))]
    syntax.exports = [Export(_DRIVE, "func", len(ends))]
    syntax.rec_groups = types.groups

    def told(end: int) -> bytes:
        return _op("local.get", len(params) - 1) + _op("call", end) + _op("return")

    clauses = uleb(len(tags)) + b"".join(b"\0" + uleb(number) + uleb(number) for number in range(len(tags)))
    body = b"".join(_op("block") + sleb(index) for index in reversed(blocks))
    body += b"".join(_op("local.get", i) for i in range(len(params) - 1))
    body += _op("resume_throw_ref" if throws else "resume", cont) + clauses + told(0)
    body += b"".join(_op("end") + told(number) for number in range(1, len(ends)))
    syntax.code = [Code((), body + _op("end"))]
    return encode_module(syntax)


def _note(number: int) -> Callable[..., None]:
    """What the module calls at an end: it puts the values into the call's own list."""

    def end(*values: Any) -> None:
        values[-1].append((number, values[:-1]))

    return end


def _driver(instantiate: Instantiate, store: Store, type: FuncType, throws: bool, tags: tuple[Tag, ...]) -> Any:
    """The function that resumes continuations of a type."""
    known = _drivers.setdefault(store, {})
    key = (type, throws, tuple([tag.address for tag in tags]))
    if key not in known:
        callers: list[Caller] = []

        def returned(caller: Caller) -> Callable[..., None]:
            callers.append(caller)
            return _note(0)

        ends: list[Callable[..., None]] = [PerInstance(returned, _note(0))]
        ends += map(_note, range(1, len(tags) + 1))
        module = Module(_module(type, throws, [tag.type for tag in tags]), store.engine)
        instantiate(module, [*tags, *ends], store=store)
        known[key] = callers[0]
    return known[key].get(_DRIVE)


async def _drive(
    instantiate: Instantiate, continuation: Continuation, throws: bool, args: tuple[object, ...], tags: tuple[Tag, ...]
) -> Any:
    """Resume with `args`, or throw what `args` is. Returns a `Suspension`, or the results."""
    type = continuation.type
    if type is None:
        raise TypeError("the guest passed this continuation as a plain contref: its type isn't known")
    if throws:
        if not isinstance(args[0], WasmException):
            raise TypeError(f"throw_async takes a WasmException, not {args[0]!r:.60}")
    elif len(args) != len(type.params):
        raise TypeError(f"the continuation takes {len(type.params)} arguments {type}, not {len(args)}")
    into: list[tuple[int, tuple[Any, ...]]] = []
    await _driver(instantiate, continuation.store, type, throws, tags).call_async(*args, continuation, into)
    ((end, values),) = into
    if end:
        return Suspension(tags[end - 1], values[:-1], values[-1])
    return values if len(values) > 1 else values[0] if values else None


async def resume_async(
    instantiate: Instantiate, continuation: Continuation, throws: bool, args: tuple[object, ...], on: Any
) -> Any:
    """See `Continuation.resume_async`."""
    if not isinstance(on, Mapping):
        return await _drive(instantiate, continuation, throws, args, tags_of(on))
    tags = tuple(on)
    outcome = await _drive(instantiate, continuation, throws, args, tags)
    while isinstance(outcome, Suspension):
        rest = outcome.continuation
        try:
            value = on[outcome.tag](*outcome.payload)
            if isinstance(value, Awaitable):
                value = await value
        except WasmException as error:
            outcome = await _drive(instantiate, rest, True, (error,), tags)
        else:
            count = len(rest.type.params) if rest.type is not None else 0
            outcome = await _drive(instantiate, rest, False, answer(count, value), tags)
    return outcome
