"""Handlers of instructions on objects: fields, elements, new structs, tests of types.

A new struct is made in parts. ``struct.new`` takes a block and leaves its address in the accumulator; an ``init`` for
each field writes that, and keeps the accumulator; then the reference goes to its slot. No part but the first calls the
runtime, so there is no half of an object when the collector runs: its list of blocks is refilled before one is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wasmloom.contract.layout import OBJECT_SIZES, offset
from wasmloom.interpreter.emitter import POISON_FACC, HandlerBuilder
from wasmloom.interpreter.families import RUNTIME, Family, named, runtime_body
from wasmloom.interpreter.isa import ACC, IMM, SLOT, Field, Handler, Shape, is_wide, letters, shape
from wasmloom.semantics.aggregates import BY_RUNTIME, STORAGES, Storage, Test, write
from wasmloom.semantics.kinds import by_name
from wasmloom.semantics.llvm import VECTOR, Value
from wasmloom.semantics.registry import OPERATIONS

_I32, _REF = by_name("i32"), by_name("ref")

NEW = shape("struct_new", "type:u32@8 blocks:u32@12")
_TEST = " type:u32@12 depth:u32@16"
#: How fields and elements are read; how they are written: those of packed ones once.
READS = STORAGES
WRITES = tuple(storage for storage in STORAGES if not storage.name.endswith("_u"))
#: The offset in the context of the first list of blocks.
BLOCKS = offset("WlContext", "objects_0")


def _reference(b: HandlerBuilder, kind: int, name: str) -> Value:
    return b.read_slot(name, _REF) if kind == SLOT else b.acc


def _value(b: HandlerBuilder, kind: int, storage: Storage) -> Value:
    """The value that is to be written."""
    if kind == SLOT:
        return b.read_slot("value", storage.kind)
    return b.read_acc(storage.kind) if kind == ACC else b.immediate("value", storage.kind)


def _value_fields(kind: int, storage: Storage, at: int) -> Iterator[Field]:
    """The field of a value: in a slot, whose number is at an offset, or an immediate."""
    if kind == SLOT:
        yield Field("value", "slot", at)
    elif kind == IMM and not storage.kind.is_vector:
        yield Field("value", "imm64" if is_wide(storage.kind) else "imm32", 16)


def _value_kind(kind: int, storage: Storage) -> int:
    """A kind of operand that there is: vectors are always in slots."""
    return SLOT if storage.kind.is_vector else kind


def _get(storage: Storage, kind: int, result: int) -> Handler:
    """The handler that reads a field."""
    define = OPERATIONS["struct.get"].define
    parts = [Field("dst", "dst", 8), Field("offset", "u32", 12)]
    if kind == SLOT:
        parts.append(Field("object", "slot", 10))

    def body(b: HandlerBuilder) -> None:
        value = define(b, _reference(b, kind, "object"), b.number("offset"), storage)
        b.finish_value(value, result == SLOT or value.type == VECTOR)

    return Handler(f"field.get.{storage.name}.{letters((kind, result))}", Shape("field_get", tuple(parts)), body)


def _set(storage: Storage, kind: int, value_kind: int) -> Handler:
    """The handler that writes a field."""
    define = OPERATIONS["struct.set"].define
    used = _value_kind(value_kind, storage)
    parts = [Field("offset", "u32", 12), *_value_fields(used, storage, 10)]
    if kind == SLOT:
        parts.append(Field("object", "slot", 8))

    def body(b: HandlerBuilder) -> None:
        define(b, _reference(b, kind, "object"), _value(b, used, storage), b.number("offset"), storage)
        b.next()

    return Handler(f"field.set.{storage.name}.{letters((kind, value_kind))}", Shape("field_set", tuple(parts)), body)


def _init(storage: Storage, immediate: int) -> Handler:
    """The handler that writes a field of a struct in the making, whose address the accumulator has."""
    kind = IMM if immediate else SLOT
    used = _value_kind(kind, storage)
    parts = (Field("offset", "u32", 12), *_value_fields(used, storage, 8))

    def body(b: HandlerBuilder) -> None:
        write(b, b.at(b.pointer_in(b.acc), b.number("offset")), _value(b, used, storage), storage)
        b.next()

    return Handler(f"init.{storage.name}.{letters((kind,))}", Shape("init", parts), body)


def _array_get(storage: Storage, kind: int, result: int) -> Handler:
    """The handler that reads an element."""
    define = OPERATIONS["array.get"].define
    parts = [Field("dst", "dst", 8), Field("array", "slot", 10)]
    if kind == SLOT:
        parts.append(Field("index", "slot", 12))

    def body(b: HandlerBuilder) -> None:
        index = b.read_slot("index", _I32) if kind == SLOT else b.read_acc(_I32)
        value = define(b, _reference(b, SLOT, "array"), index, storage)
        b.finish_value(value, result == SLOT or value.type == VECTOR)

    return Handler(f"array.get.{storage.name}.{letters((kind, result))}", Shape("array_get", tuple(parts)), body)


def _array_set(storage: Storage, kind: int, value_kind: int) -> Handler:
    """The handler that writes an element."""
    define = OPERATIONS["array.set"].define
    used = _value_kind(value_kind, storage)
    parts = [Field("array", "slot", 8), *_value_fields(used, storage, 12)]
    if kind == SLOT:
        parts.append(Field("index", "slot", 10))

    def body(b: HandlerBuilder) -> None:
        index = b.read_slot("index", _I32) if kind == SLOT else b.read_acc(_I32)
        define(b, _reference(b, SLOT, "array"), index, _value(b, used, storage), storage)
        b.next()

    return Handler(f"array.set.{storage.name}.{letters((kind, value_kind))}", Shape("array_set", tuple(parts)), body)


def struct_new(b: HandlerBuilder) -> None:
    """Take a block, whose address is then in the accumulator."""
    place = b.at(b.ctx, b.number("blocks"))

    def refill(go_on: str) -> None:
        b.tail_call("@wl_struct_new_slow", acc=b.as_acc(b.following()), facc=POISON_FACC)

    b.next(acc=b.as_acc(OPERATIONS["struct.new"].define(b, named(b, "type"), place, refill)))


def struct_new_slow(b: HandlerBuilder) -> None:
    """The list of blocks is empty: refill it, take one, and go on at the instruction in the accumulator."""
    b.shape = NEW
    back = b.pointer_in(b.acc)
    type = named(b, "type")
    b.trap_if_code(b.runtime("refill_objects", type))

    def refill(go_on: str) -> None:
        b.emit("unreachable")

    made = OPERATIONS["struct.new"].define(b, type, b.at(b.ctx, b.number("blocks")), refill)
    b.jump(back, acc=b.as_acc(made), facc=POISON_FACC)


def _found(b: HandlerBuilder, test: Test, nullable: bool) -> Value:
    """What a test of the reference in a slot says."""
    found: Value = OPERATIONS["ref.test"].define(
        b, b.read_slot("value", _REF), test, nullable, lambda: named(b, "type"), lambda: b.number("depth")
    )
    return found


def _test(test: Test, nullable: bool, result: int) -> Handler:
    """The handler of a test of a type."""

    def body(b: HandlerBuilder) -> None:
        b.finish_value(_found(b, test, nullable), result == SLOT)

    name = f"ref.test.{test.name.lower()}{'.null' if nullable else ''}.{letters((result,))}"
    return Handler(name, shape("ref_test", "dst:dst@8 value:slot@10" + _TEST), body)


def _cast(test: Test, nullable: bool) -> Handler:
    """The handler of a cast: the value stays where it is."""

    def body(b: HandlerBuilder) -> None:
        OPERATIONS["ref.cast"].define(b, _found(b, test, nullable))
        b.next()

    name = f"ref.cast.{test.name.lower()}{'.null' if nullable else ''}"
    return Handler(name, shape("ref_cast", "value:slot@8" + _TEST), body)


def cast_found(b: HandlerBuilder) -> None:
    """A cast whose test the runtime has made."""
    OPERATIONS["ref.cast"].define(b, b.read_slot("value", _I32))
    b.next()


def _by_runtime(name: str) -> Handler:
    """The handler of an instruction that the runtime executes."""
    body = runtime_body(lambda b: OPERATIONS[name].define(b, b.inst, b.fp, b.ip))
    return Handler(name.replace(".", "_"), RUNTIME, body, calls_runtime=True)


def _function_test() -> Handler:
    body = runtime_body(lambda b: b.trap_if_code(b.runtime("function_test", b.inst, b.fp, b.ip)))
    return Handler("function_test", RUNTIME, body, calls_runtime=True)


Members = Callable[[], Iterator[tuple[tuple[int, ...], Handler]]]


def _members(storages: tuple[Storage, ...], make: Callable[..., Handler], *kinds: int) -> Members:
    """Handlers for each storage and each of so many kinds of operands or results."""

    def members() -> Iterator[tuple[tuple[int, ...], Handler]]:
        places: list[tuple[int, ...]] = [()]
        for count in kinds:
            places = [(*place, kind) for place in places for kind in range(count)]
        for number, storage in enumerate(storages):
            for place in places:
                yield (0, number, *place), make(storage, *place)

    return members


def _test_members() -> Iterator[tuple[tuple[int, ...], Handler]]:
    for test in Test:
        for nullable in (False, True):
            for result in (SLOT, ACC):
                yield (0, test, nullable, result), _test(test, nullable, result)


def _cast_members() -> Iterator[tuple[tuple[int, ...], Handler]]:
    for test in Test:
        for nullable in (False, True):
            yield (0, test, nullable), _cast(test, nullable)


#: Written handlers whose numbers follow one another: positions count from the first one of each.
OBJECT_FAMILIES: dict[str, Family] = {
    "field_get": Family((("storage", len(READS)), ("object", 2), ("result", 2)), _members(READS, _get, 2, 2)),
    "field_set": Family((("storage", len(WRITES)), ("object", 2), ("value", 3)), _members(WRITES, _set, 2, 3)),
    "init": Family((("storage", len(WRITES)), ("immediate", 2)), _members(WRITES, _init, 2)),
    "array_get": Family((("storage", len(READS)), ("index", 2), ("result", 2)), _members(READS, _array_get, 2, 2)),
    "array_set": Family((("storage", len(WRITES)), ("index", 2), ("value", 3)), _members(WRITES, _array_set, 2, 3)),
    "ref_test": Family((("test", len(Test)), ("nullable", 2), ("result", 2)), _test_members),
    "ref_cast": Family((("test", len(Test)), ("nullable", 2)), _cast_members),
}
#: Functions with a handler's signature that aren't instructions.
OUTLINED: dict[str, Callable[[HandlerBuilder], None]] = {"wl_struct_new_slow": struct_new_slow}


def object_handlers() -> Iterator[Handler]:
    """All handlers of this file, in a fixed order: position is number."""
    yield Handler("struct.new", NEW, struct_new)
    yield Handler("cast_found", shape("cast_found", "value:slot@8"), cast_found)
    for name in BY_RUNTIME:
        yield _by_runtime(name)
    yield _function_test()
    for family in OBJECT_FAMILIES.values():
        for _, handler in family.members():
            yield handler


def first_numbers(handlers: list[Handler]) -> dict[str, int]:
    """The number of the first handler of each family. Raises ValueError where a family isn't in order."""
    numbers = {handler.name: number for number, handler in enumerate(handlers)}
    found: dict[str, int] = {}
    for name, family in OBJECT_FAMILIES.items():
        for place, handler in family.members():
            first = found.setdefault(name, numbers[handler.name])
            if numbers[handler.name] != first + family.position(*place):
                raise ValueError(f"{handler.name} isn't where its family expects it")
    return found


def enumeration() -> Iterator[str]:
    """What the translator knows of storages, tests and lists, for Cython: "R_I8_S", "TEST_FINAL" …"""
    for number, storage in enumerate(READS):
        yield f"    R_{storage.name.upper()} = {number}"
    for number, storage in enumerate(WRITES):
        yield f"    W_{storage.name.removesuffix('_s').upper()} = {number}"
    for test in Test:
        yield f"    TEST_{test.name} = {int(test)}"
    yield f"    BLOCKS = {BLOCKS}"
    yield f"    BLOCK_LISTS = {len(OBJECT_SIZES) + 1}"

