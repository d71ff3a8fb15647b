"""Handlers of instructions on objects: fields, elements, new structs, tests of types.

A new struct is made in parts. ``struct.new`` takes a block and leaves its address in the accumulator; an ``init`` for
each field writes that, and keeps the accumulator; then the reference goes to its slot. No part but the first calls the
runtime, so there is no half of an object when the collector runs: its list of blocks is refilled before one is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

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


def _value(b: HandlerBuilder, kind: int, storage: Storage) -> Value:
    """The value that is to be written."""
    if kind == SLOT:
        return b.read_slot("value", storage.kind)
    return b.read_acc(storage.kind) if kind == ACC else b.immediate("value", storage.kind)


def _value_fields(kind: int, storage: Storage) -> Iterator[Field]:
    """The field of a value: a slot, or an immediate."""
    if kind == SLOT:
        yield Field("value", "slot", 8)
    elif kind == IMM and not storage.kind.is_vector:
        yield Field("value", "imm64" if is_wide(storage.kind) else "imm32", 16)


def _value_kind(kind: int, storage: Storage) -> int:
    """A kind of operand that there is: vectors are always in slots."""
    return SLOT if storage.kind.is_vector else kind


def _member(kind: int, is_element: bool) -> Iterator[Field]:
    """The fields that say which field or element it is; `kind`: of the operand that may be in the accumulator."""
    if is_element or kind == SLOT:
        yield Field("object", "slot", 10)
    if not is_element:
        yield Field("offset", "u32", 12)
    elif kind == SLOT:
        yield Field("index", "slot", 12)


def _operands(b: HandlerBuilder, kind: int, is_element: bool) -> tuple[Value, ...]:
    """The array, and an index; or the struct."""
    if is_element:
        return b.read_slot("object", _REF), b.read_slot("index", _I32) if kind == SLOT else b.read_acc(_I32)
    return (b.read_slot("object", _REF) if kind == SLOT else b.acc,)


def _what(is_element: bool) -> str:
    return "array" if is_element else "struct"


def _get(is_element: bool, storage: Storage, kind: int, result: int) -> Handler:
    """The handler that reads a field or an element."""
    define = OPERATIONS[f"{_what(is_element)}.get"].define
    fields = (Field("dst", "dst", 8), *_member(kind, is_element))

    def body(b: HandlerBuilder) -> None:
        where = () if is_element else (b.number("offset"),)
        value = define(b, *_operands(b, kind, is_element), *where, storage)
        b.finish_value(value, result == SLOT or value.type == VECTOR)

    name = f"{_what(is_element)}.get.{storage.name}.{letters((kind, result))}"
    return Handler(name, Shape("member", fields), body)


def _set(is_element: bool, storage: Storage, kind: int, value_kind: int) -> Handler:
    """The handler that writes a field or an element."""
    define = OPERATIONS[f"{_what(is_element)}.set"].define
    used = _value_kind(value_kind, storage)
    fields = (*_member(kind, is_element), *_value_fields(used, storage))

    def body(b: HandlerBuilder) -> None:
        where = () if is_element else (b.number("offset"),)
        define(b, *_operands(b, kind, is_element), _value(b, used, storage), *where, storage)
        b.next()

    name = f"{_what(is_element)}.set.{storage.name}.{letters((kind, value_kind))}"
    return Handler(name, Shape("member", fields), body)


def _init(storage: Storage, immediate: int) -> Handler:
    """The handler that writes a field of a struct in the making, whose address the accumulator has."""
    kind = IMM if immediate else SLOT
    used = _value_kind(kind, storage)
    fields = (Field("offset", "u32", 12), *_value_fields(used, storage))

    def body(b: HandlerBuilder) -> None:
        write(b, b.at(b.pointer_in(b.acc), b.number("offset")), _value(b, used, storage), storage)
        b.next()

    return Handler(f"init.{storage.name}.{letters((kind,))}", Shape("member", fields), body)


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
    return Handler(name, shape("ref_test", "value:slot@10" + _TEST), body)


def cast_found(b: HandlerBuilder) -> None:
    """A cast whose test the runtime has made."""
    OPERATIONS["ref.cast"].define(b, b.read_slot("value", _I32))
    b.next()


def descriptor_found(b: HandlerBuilder) -> None:
    """A cast whose test has compared descriptors."""
    OPERATIONS["ref.cast_desc_eq"].define(b, b.read_slot("value", _I32))
    b.next()


def check_descriptor(b: HandlerBuilder) -> None:
    """Trap if the descriptor of a struct that is to be made is null."""
    OPERATIONS["struct.new_desc"].define(b, b.read_slot("value", _REF))
    b.next()


def _descriptor_test(nullable: bool) -> Handler:
    """The handler that compares descriptors, behind the test for a type that has some."""

    def body(b: HandlerBuilder) -> None:
        found = OPERATIONS["br_on_cast_desc_eq"].define(
            b,
            b.read_slot("value", _REF),
            b.read_slot("descriptor", _REF),
            b.convert("trunc", b.read_slot("found", _I32), "i1"),
            b.number("offset"),
            nullable,
        )
        b.finish_value(found, True)

    fields = "dst:dst@8 value:slot@10 descriptor:slot@12 found:slot@14 offset:u32@16"
    return Handler(f"descriptor.test{'.null' if nullable else ''}", shape("descriptor_test", fields), body)


def _by_runtime(name: str) -> Handler:
    """The handler of an instruction that the runtime executes."""
    body = runtime_body(lambda b: OPERATIONS[name].define(b, b.inst, b.fp, b.ip))
    return Handler(name.replace(".", "_"), RUNTIME, body, calls_runtime=True)


def _function_test() -> Handler:
    body = runtime_body(lambda b: b.trap_if_code(b.runtime("function_test", b.inst, b.fp, b.ip)))
    return Handler("function_test", RUNTIME, body, calls_runtime=True)


Members = Callable[[], Iterator[tuple[tuple[int, ...], Handler]]]


def _members(make: Callable[..., Handler], *axes: Iterable[Any]) -> Members:
    """A handler for each place in the product of axes, by what these have there."""

    def members() -> Iterator[tuple[tuple[int, ...], Handler]]:
        for place in itertools.product(*(enumerate(axis) for axis in axes)):
            yield (0, *(number for number, _ in place)), make(*(item for _, item in place))

    return members


#: Written handlers whose numbers follow one another: positions count from the first one of each.
_BOTH = (False, True)
OBJECT_FAMILIES: dict[str, Family] = {
    "member_get": Family(
        (("is_element", 2), ("storage", len(READS)), ("last", 2), ("result", 2)),
        _members(_get, _BOTH, READS, (SLOT, ACC), (SLOT, ACC)),
    ),
    "member_set": Family(
        (("is_element", 2), ("storage", len(WRITES)), ("last", 2), ("value", 3)),
        _members(_set, _BOTH, WRITES, (SLOT, ACC), (SLOT, ACC, IMM)),
    ),
    "init": Family((("storage", len(WRITES)), ("immediate", 2)), _members(_init, WRITES, _BOTH)),
    "ref_test": Family(
        (("test", len(Test)), ("nullable", 2), ("result", 2)), _members(_test, Test, _BOTH, (SLOT, ACC))
    ),
    "ref_cast": Family((("test", len(Test)), ("nullable", 2)), _members(_cast, Test, _BOTH)),
}
#: Functions with a handler's signature that aren't instructions.
OUTLINED: dict[str, Callable[[HandlerBuilder], None]] = {"wl_struct_new_slow": struct_new_slow}


def object_handlers() -> Iterator[Handler]:
    """All handlers of this file, in a fixed order: position is number."""
    yield Handler("struct.new", NEW, struct_new)
    yield Handler("cast_found", shape("cast_found", "value:slot@8"), cast_found)
    yield Handler("descriptor.check", shape("descriptor_check", "value:slot@8"), check_descriptor)
    yield Handler("descriptor.found", shape("descriptor_found", "value:slot@8"), descriptor_found)
    yield _descriptor_test(False)
    yield _descriptor_test(True)
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

