"""The definitions of instructions on objects: structs, arrays, i31s, and tests of what a reference refers to.

A reference of the "any" or the "extern" hierarchy is null, an i31, an object of the host, or the address of an object:
its lowest bits say which (`wasmloom.contract.layout`). An object begins with the address of its type's layout
(`WlType`), whose display has the layouts of all types above it by depth: so a test compares one word.
Source: Core 3.0, section 4.4.5 (reference instructions) and 4.4.6 (aggregates).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from wasmloom.contract import layout
from wasmloom.contract.layout import HOST_TAG, I31_TAG, OBJECT_ARRAY, OBJECT_STRUCT, SLOT_BYTES
from wasmloom.contract.traps import (
    ARRAY_OUT_OF_BOUNDS,
    CAST_FAILURE,
    DESCRIPTOR_CAST_FAILURE,
    MEMORY_OUT_OF_BOUNDS,
    NULL_ARRAY_REFERENCE,
    NULL_DESCRIPTOR_REFERENCE,
    NULL_I31_REFERENCE,
    NULL_REFERENCE,
    NULL_STRUCT_REFERENCE,
    OUT_OF_MEMORY,
    TABLE_OUT_OF_BOUNDS,
)
from wasmloom.semantics.kinds import Kind, by_name
from wasmloom.semantics.references import not_null
from wasmloom.semantics.registry import operation
from wasmloom.spec.types import I8, I16, PLAIN_NAMES, REF_FLAG

V = Any
"""A builder's value."""


#: Bytes of packed types.
_PACKED = {"i8": 1, "i16": 2}


class Storage(NamedTuple):
    """How a field or an element is read and written.

    `type` is what builders call what is in memory; `kind` the kind of the value on the operand stack; `extend` the
    conversion of what is narrower.
    """

    name: str
    type: str
    kind: Kind
    extend: str = ""

    @property
    def bytes(self) -> int:
        """The bytes in memory."""
        return _PACKED.get(self.type, self.kind.bytes)

    @property
    def align(self) -> int:
        """What its address is a multiple of."""
        return min(self.bytes, SLOT_BYTES)


_I32 = by_name("i32")
#: All, as they are read; a packed one in two ways. References are words.
STORAGES: tuple[Storage, ...] = (
    Storage("i8_s", "i8", _I32, "sext"),
    Storage("i8_u", "i8", _I32, "zext"),
    Storage("i16_s", "i16", _I32, "sext"),
    Storage("i16_u", "i16", _I32, "zext"),
    *(Storage(name, by_name(name).type, by_name(name)) for name in ("i32", "i64", "f32", "f64", "v128")),
    Storage("ref", by_name("ref").type, by_name("ref")),
)
BY_NAME: dict[str, Storage] = {storage.name: storage for storage in STORAGES}


def storage_of(type: int, is_signed: bool = False) -> Storage:
    """The storage of a field's type; `is_signed`: how a packed one is read."""
    if type & REF_FLAG:
        return BY_NAME["ref"]
    if type in (I8, I16):
        return BY_NAME[f"i{8 if type == I8 else 16}_{'s' if is_signed else 'u'}"]
    return BY_NAME[PLAIN_NAMES[type]]


#: What `object_load` and `object_store` call parts of objects: the type; an array's length; what is in the list of a
#: size class; elements by storage; and fields by where they are. A struct has the same fields there as its supertype.
TYPE, LENGTH, LISTS = "type", "length", "lists"


def element_part(storage: Storage) -> str:
    """What elements are called."""
    return f"elements of {storage.type}"


def field_part(offset: V | int) -> str:
    """What a field is called; "" where its place isn't known before."""
    return f"word {offset // SLOT_BYTES}" if isinstance(offset, int) else ""


#: All of these; of fields those that lie near the beginning, which are nearly all.
PARTS: tuple[str, ...] = (
    TYPE, LENGTH, LISTS, *dict.fromkeys(element_part(storage) for storage in STORAGES),
    *(field_part(SLOT_BYTES * word) for word in range(1, 33)),
)  # fmt: skip


def read(b: V, address: V, storage: Storage, part: str = "") -> V:
    """The value at an address."""
    value = b.object_load(storage.type, address, storage.align, part)
    return b.convert(storage.extend, value, storage.kind.type) if storage.extend else value


def write(b: V, address: V, value: V, storage: Storage, part: str = "") -> None:
    """Write a value."""
    narrow = b.convert("trunc", value, storage.type) if storage.extend else value
    b.object_store(narrow, address, storage.align, part)


# --- i31s: numbers of 31 bits, in references ---


@operation("ref.i31", params="i32", results="ref")
def ref_i31(b: V, x: V) -> V:
    tagged = b.binary("or", b.binary("shl", x, b.const("i32", 1)), b.const("i32", I31_TAG))
    return b.convert("zext", tagged, "i64")


def _i31_bits(b: V, reference: V) -> V:
    return b.convert("trunc", not_null(b, reference, NULL_I31_REFERENCE), "i32")


@operation("i31.get_s", params="ref", results="i32", traps=(NULL_I31_REFERENCE,))
def i31_get_s(b: V, reference: V) -> V:
    return b.binary("ashr", _i31_bits(b, reference), b.const("i32", 1))


@operation("i31.get_u", params="ref", results="i32", traps=(NULL_I31_REFERENCE,))
def i31_get_u(b: V, reference: V) -> V:
    return b.binary("lshr", _i31_bits(b, reference), b.const("i32", 1))


@operation("ref.eq", kind="own", params="ref ref", results="i32")
def ref_eq(b: V, x: V, y: V) -> V:
    """A truth value."""
    return b.compare("eq", x, y)


@operation("any.convert_extern", "extern.convert_any", kind="nothing")
def convert(b: V) -> None:
    """References of both hierarchies are the same."""


# --- structs ---


@operation("struct.new", "struct.new_default", kind="own", traps=(OUT_OF_MEMORY,))
def struct_new(b: V, type: V, place: V, refill: Callable[[str], None]) -> V:
    """A new struct, whose fields are still to be written.

    `type`: the layout; `place`: where the context has the list of blocks. Where that is empty, `refill` gets some, and
    goes on at a label if it doesn't leave.
    """
    b.rarely(b.is_null(b.object_load("ptr", place, SLOT_BYTES, LISTS)), refill, ("refill", "ready"))
    block = b.object_load("ptr", place, SLOT_BYTES, LISTS)
    # The list goes on in the block's second word, where there is going to be something else.
    b.object_store(b.object_load("ptr", b.at(block, SLOT_BYTES), SLOT_BYTES), place, SLOT_BYTES, LISTS)
    b.object_store(type, b.at(block, layout.offset("WlObject", "type")), SLOT_BYTES, TYPE)
    return block


@operation("struct.get", "struct.get_s", "struct.get_u", kind="own", params="ref", traps=(NULL_STRUCT_REFERENCE,))
def struct_get(b: V, reference: V, offset: V | int, storage: Storage) -> V:
    """`offset`: the field's, in the object."""
    not_null(b, reference, NULL_STRUCT_REFERENCE)
    return read(b, b.at(b.pointer_in(reference), offset), storage, field_part(offset))


@operation("struct.set", kind="own", params="ref", traps=(NULL_STRUCT_REFERENCE,))
def struct_set(b: V, reference: V, value: V, offset: V | int, storage: Storage) -> None:
    not_null(b, reference, NULL_STRUCT_REFERENCE)
    write(b, b.at(b.pointer_in(reference), offset), value, storage, field_part(offset))


# --- arrays ---


def _length(b: V, reference: V) -> V:
    not_null(b, reference, NULL_ARRAY_REFERENCE)
    at = b.at(b.pointer_in(reference), layout.offset("WlObject", "length"))
    return b.object_load("i32", at, SLOT_BYTES, LENGTH)


@operation("array.len", params="ref", results="i32", traps=(NULL_ARRAY_REFERENCE,))
def array_len(b: V, reference: V) -> V:
    return _length(b, reference)


def _element(b: V, reference: V, index: V, storage: Storage) -> V:
    """The address of an element."""
    b.trap_if(b.compare("uge", index, _length(b, reference)), ARRAY_OUT_OF_BOUNDS)
    wide = b.convert("zext", index, "i64")
    place = b.binary("mul", wide, b.const("i64", storage.bytes)) if storage.bytes > 1 else wide
    return b.at(b.at(b.pointer_in(reference), layout.size("WlObject")), place)


_ELEMENT_TRAPS = (NULL_ARRAY_REFERENCE, ARRAY_OUT_OF_BOUNDS)


@operation("array.get", "array.get_s", "array.get_u", kind="own", params="ref i32", traps=_ELEMENT_TRAPS)
def array_get(b: V, reference: V, index: V, storage: Storage) -> V:
    return read(b, _element(b, reference, index, storage), storage, element_part(storage))


@operation("array.set", kind="own", params="ref i32", traps=_ELEMENT_TRAPS)
def array_set(b: V, reference: V, index: V, value: V, storage: Storage) -> None:
    write(b, _element(b, reference, index, storage), value, storage, element_part(storage))


#: What the runtime does with arrays: instruction → traps. It is given where it finds instance and operands, as others
#: (`wasmloom.semantics.tables`); the function has the instruction's name.
BY_RUNTIME: dict[str, tuple[int, ...]] = {
    "array.new": (OUT_OF_MEMORY,),
    "array.new_default": (OUT_OF_MEMORY,),
    "array.new_fixed": (OUT_OF_MEMORY,),
    "array.new_data": (OUT_OF_MEMORY, MEMORY_OUT_OF_BOUNDS),
    "array.new_elem": (OUT_OF_MEMORY, TABLE_OUT_OF_BOUNDS),
    "array.fill": _ELEMENT_TRAPS,
    "array.copy": _ELEMENT_TRAPS,
    "array.init_data": (*_ELEMENT_TRAPS, MEMORY_OUT_OF_BOUNDS),
    "array.init_elem": (*_ELEMENT_TRAPS, TABLE_OUT_OF_BOUNDS),
}


def _define_by_runtime(mnemonic: str, traps: tuple[int, ...]) -> None:
    name = mnemonic.replace(".", "_")

    @operation(mnemonic, kind="own", traps=traps)
    def define(b: V, *where: V) -> None:
        b.trap_if_code(b.runtime(name, *where))


for _mnemonic, _traps in BY_RUNTIME.items():
    _define_by_runtime(_mnemonic, _traps)


# --- tests and casts ---


class Test(IntEnum):
    """What is found out of a reference."""

    __test__ = False  # for pytest

    I31 = 0
    EQ = 1
    STRUCT = 2
    ARRAY = 3
    #: A type without subtypes; one that may have some; one that lies deeper than `layout.SHALLOW`.
    FINAL = 4
    SHALLOW = 5
    DEEP = 6


def _type_of(b: V, reference: V) -> V:
    """The layout of the object that a reference refers to; of others one that no object has."""
    place = b.pointer_in(reference)
    is_null = b.compare("eq", reference, b.const("i64", 0)) if b.may_be_null_here(reference) else None
    low = None
    if b.may_be_no_object(reference):
        bits = b.binary("and", reference, b.const("i64", I31_TAG | HOST_TAG))
        low = b.compare("ne", bits, b.const("i64", 0))
    is_none = low if is_null is None else is_null if low is None else b.either(is_null, low)
    if is_none is not None:
        place = b.select(is_none, b.at(b.ctx, layout.offset("WlContext", "no_type")), place)
    return b.object_load("ptr", place, SLOT_BYTES, TYPE)


def _is_of(b: V, reference: V, test: Test, expected: Callable[[], V], depth: Callable[[], V]) -> V:
    if test == Test.I31:
        low = b.binary("and", reference, b.const("i64", I31_TAG))
        return b.compare("ne", low, b.const("i64", 0))
    if test == Test.EQ:
        low = b.binary("and", reference, b.const("i64", I31_TAG | HOST_TAG))
        return b.both(
            b.compare("ne", reference, b.const("i64", 0)), b.compare("ne", low, b.const("i64", HOST_TAG))
        )
    type = _type_of(b, reference)
    if test in (Test.STRUCT, Test.ARRAY):
        what = b.struct_field(type, "WlType", "what", "i64")
        return b.compare("eq", what, b.const("i64", OBJECT_STRUCT if test == Test.STRUCT else OBJECT_ARRAY))
    if test == Test.FINAL:
        return b.compare("eq", type, expected())
    wanted = depth()
    if test == Test.DEEP:
        is_deep = b.compare("uge", b.struct_field(type, "WlType", "depth", "i64"), wanted)
        stand_in = b.struct_field(b.ctx, "WlContext", "no_type")
        type = b.select(is_deep, type, stand_in)
    display = b.at(type, layout.size("WlType"))
    above = b.load("ptr", b.word(display, wanted), align=SLOT_BYTES)
    return b.compare("eq", above, expected())


@operation("ref.test", "ref.test_null", "br_on_cast", "br_on_cast_fail", kind="own", params="ref")
def ref_test(
    b: V, reference: V, test: Test, nullable: bool, expected: Callable[[], V], depth: Callable[[], V]
) -> V:
    """Whether a reference is of a type, as a truth value.

    `expected` and `depth` give the type's layout, and how many types are above it, of tests that need these.
    """
    found = _is_of(b, reference, test, expected, depth)
    return b.either(found, b.compare("eq", reference, b.const("i64", 0))) if nullable else found


@operation("ref.cast", "ref.cast_null", kind="own", params="ref", traps=(CAST_FAILURE,))
def ref_cast(b: V, found: V) -> None:
    """Trap unless the reference is of the type. `found`: what the test says."""
    b.trap_if(b.compare("eq", found, b.const(found.type, 0)), CAST_FAILURE)


# --- descriptors (custom descriptors proposal) ---


@operation("struct.new_desc", "struct.new_default_desc", kind="own", traps=(NULL_DESCRIPTOR_REFERENCE, OUT_OF_MEMORY))
def check_descriptor(b: V, descriptor: V) -> None:
    """What comes before the new struct, to which the descriptor is a field."""
    not_null(b, descriptor, NULL_DESCRIPTOR_REFERENCE)


@operation("ref.get_desc", kind="own", params="ref", traps=(NULL_REFERENCE,))
def ref_get_desc(b: V, reference: V, offset: V | int) -> V:
    """`offset`: where a struct of the type, and of those below it, has its descriptor."""
    not_null(b, reference, NULL_REFERENCE)
    return read(b, b.at(b.pointer_in(reference), offset), BY_NAME["ref"], field_part(offset))


@operation(
    "br_on_cast_desc_eq", "br_on_cast_desc_eq_fail", kind="own", params="ref ref", traps=(NULL_DESCRIPTOR_REFERENCE,)
)
def descriptor_test(b: V, reference: V, descriptor: V, found: V, offset: V | int, nullable: bool) -> V:
    """Whether a reference is to a struct with a descriptor, as a truth value.

    `found`: whether it is of a type that has descriptors, at `offset`. What isn't is looked up where there is none.
    """
    not_null(b, descriptor, NULL_DESCRIPTOR_REFERENCE)
    stand_in = b.at(b.ctx, layout.offset("WlContext", "no_type"))
    place = b.select(found, b.at(b.pointer_in(reference), offset), stand_in)
    same = b.compare("eq", b.object_load("i64", place, SLOT_BYTES), descriptor)
    return b.either(same, b.compare("eq", reference, b.const("i64", 0))) if nullable else same


@operation(
    "ref.cast_desc_eq", "ref.cast_desc_eq_null", kind="own", params="ref ref",
    traps=(NULL_DESCRIPTOR_REFERENCE, DESCRIPTOR_CAST_FAILURE),
)  # fmt: skip
def ref_cast_desc_eq(b: V, found: V) -> None:
    """Trap unless the reference has the descriptor. `found`: what `descriptor_test` says."""
    b.trap_if(b.compare("eq", found, b.const(found.type, 0)), DESCRIPTOR_CAST_FAILURE)
