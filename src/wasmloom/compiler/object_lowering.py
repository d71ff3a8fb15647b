"""Lowers instructions on objects: structs, arrays, and tests of types (Core 3.0, 4.4.5 and 4.4.6)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from wasmloom.compiler.call_lowering import type_id
from wasmloom.compiler.control_lowering import branch_if
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.lowering import FunctionLowering, lowers, operands
from wasmloom.contract import layout
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.semantics.aggregates import BY_NAME, LENGTH, Storage, Test, element_part, field_part, storage_of, write
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    ArrayType,
    FieldType,
    FuncType,
    StructType,
    ValType,
    ref_type,
)

#: Abstract heap types: those that each reference of their hierarchy is of, those that none is of but null, and others.
_TOPS = frozenset(ABSTRACT_HEAP_TYPES[name] for name in ("any", "extern", "func", "exn", "cont"))
_BOTTOMS = frozenset(ABSTRACT_HEAP_TYPES[name] for name in ("none", "noextern", "nofunc", "noexn", "nocont"))
_TESTS: dict[int, Test] = {
    ABSTRACT_HEAP_TYPES["eq"]: Test.EQ,
    ABSTRACT_HEAP_TYPES["i31"]: Test.I31,
    ABSTRACT_HEAP_TYPES["struct"]: Test.STRUCT,
    ABSTRACT_HEAP_TYPES["array"]: Test.ARRAY,
}


def _fields(f: FunctionLowering, type: int) -> tuple[FieldType, ...]:
    """The fields of a struct type of the module."""
    composite = f.facts.function_types[type]
    if not isinstance(composite, StructType):  # validation excludes that
        raise TypeError(f"type {type} is no struct type")
    return composite.fields


class Places(NamedTuple):
    """Where fields lie in an object (see `wasmloom.runtime.objects`), and the descriptor; the bytes of the whole."""

    fields: tuple[int, ...]
    descriptor: int
    bytes: int


@lru_cache(maxsize=64)
def _places(fields: tuple[FieldType, ...], before: int) -> Places:
    """`before`: how many fields lie before the descriptor; -1: there is none."""
    storages = [storage_of(field.storage) for field in fields]
    if before >= 0:
        storages.insert(before, BY_NAME["ref"])
    found, end = [], SLOT_BYTES
    for storage in storages:
        end = -(-end // storage.align) * storage.align
        found.append(end)
        end += storage.bytes
    descriptor = found.pop(before) if before >= 0 else 0
    return Places(tuple(found), descriptor, max(-(-end // SLOT_BYTES), 2) * SLOT_BYTES)


def _layout(f: FunctionLowering, type: int) -> Places:
    """Of a struct type of the module."""
    return _places(_fields(f, type), f.facts.before_descriptor(type))


def _element_type(f: FunctionLowering, type: int) -> ValType:
    """What arrays of a type of the module have."""
    composite = f.facts.function_types[type]
    if not isinstance(composite, ArrayType):  # validation excludes that
        raise TypeError(f"type {type} is no array type")
    return composite.field.storage


def _element(f: FunctionLowering, i: Instr) -> Storage:
    """How elements of an array type of the module are read, or written."""
    return storage_of(_element_type(f, i.a), INSTRUCTIONS[i.row].mnemonic.endswith("_s"))


@lru_cache(maxsize=256)
def _class(bytes: int) -> int:
    """The size class of an object."""
    sizes = layout.OBJECT_SIZES
    return next((number for number, size in enumerate(sizes) if size >= bytes), layout.LARGE_OBJECT)


def _list(f: FunctionLowering, number: int) -> Value:
    """Where the context has the list of blocks of a size class."""
    return f.b.at(f.b.ctx, layout.offset("WlContext", f"objects_{number}"))


def _push_made(f: FunctionLowering, made: Value) -> None:
    """Push a reference to a new object."""
    f.b.learn(made, False, True)
    f.push(made)


def _new_struct(f: FunctionLowering, i: Instr, bytes: int) -> Value:
    """A struct with so many bytes, whose fields are still to be written, as a pointer."""
    b = f.b
    type = f.named("type", i.a)

    def refill(go_on: str) -> None:
        b.trap_if_code(b.runtime("refill_objects", type))
        b.jump(go_on)

    made: Value = OPERATIONS["struct.new"].define(b, type, _list(f, _class(bytes)), refill)
    return made


def _descriptor(f: FunctionLowering, places: Places) -> Value | None:
    """Pop the descriptor of a struct that is to be made, and check it; None: there is none."""
    if not places.descriptor:
        return None
    value = f.pop()
    OPERATIONS["struct.new_desc"].define(f.b, value)
    return value


@lowers("struct.new", "struct.new_desc")
def _struct_new(f: FunctionLowering, i: Instr) -> None:
    fields, places = _fields(f, i.a), _layout(f, i.a)
    descriptor = _descriptor(f, places)
    values = f.pop_many(len(fields))
    made = _new_struct(f, i, places.bytes)
    for field, offset, value in zip(fields, places.fields, values, strict=True):
        write(f.b, f.b.at(made, offset), value, storage_of(field.storage), field_part(offset))
    if descriptor is not None:
        at = places.descriptor
        write(f.b, f.b.at(made, at), descriptor, BY_NAME["ref"], field_part(at))
    _push_made(f, f.b.address_word(made))


@lowers("struct.new_default", "struct.new_default_desc")
def _struct_new_default(f: FunctionLowering, i: Instr) -> None:
    places = _layout(f, i.a)
    descriptor = _descriptor(f, places)
    made = _new_struct(f, i, places.bytes)
    for offset in range(SLOT_BYTES, places.bytes, SLOT_BYTES):
        value = descriptor if descriptor is not None and offset == places.descriptor else f.b.const("i64", 0)
        f.b.object_store(value, f.b.at(made, offset), SLOT_BYTES)
    _push_made(f, f.b.address_word(made))


def _field(f: FunctionLowering, i: Instr) -> tuple[int, Storage]:
    """Where a field is in an object, and how it is read, or written."""
    fields = _fields(f, i.a)
    is_signed = INSTRUCTIONS[i.row].mnemonic.endswith("_s")
    return _layout(f, i.a).fields[i.b], storage_of(fields[i.b].storage, is_signed)


@lowers("struct.get", "struct.get_s", "struct.get_u")
def _struct_get(f: FunctionLowering, i: Instr) -> None:
    value = OPERATIONS["struct.get"].define(f.b, f.pop(), *_field(f, i))
    f.push(f.learn(value, _fields(f, i.a)[i.b].storage))


@lowers("struct.set")
def _struct_set(f: FunctionLowering, i: Instr) -> None:
    reference, value = f.pop_many(2)
    OPERATIONS["struct.set"].define(f.b, reference, value, *_field(f, i))


@lowers("ref.get_desc")
def _ref_get_desc(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["ref.get_desc"].define(f.b, f.pop(), _layout(f, i.a).descriptor))


@lowers("array.get", "array.get_s", "array.get_u")
def _array_get(f: FunctionLowering, i: Instr) -> None:
    reference, index = f.pop_many(2)
    value = OPERATIONS["array.get"].define(f.b, reference, index, _element(f, i))
    f.push(f.learn(value, _element_type(f, i.a)))


@lowers("array.set")
def _array_set(f: FunctionLowering, i: Instr) -> None:
    reference, index, value = f.pop_many(3)
    OPERATIONS["array.set"].define(f.b, reference, index, value, _element(f, i))


# --- arrays ---

#: Operands of what the runtime does with arrays.
_OPERANDS = {
    "array.new": 2, "array.new_default": 1, "array.new_data": 2, "array.new_elem": 2, "array.fill": 4, "array.copy": 5,
    "array.init_data": 4, "array.init_elem": 4,
}  # fmt: skip


def _by_runtime(f: FunctionLowering, i: Instr, values: list[Value]) -> Value:
    """What the runtime gives for operands, if it gives anything.

    The operands are from word 1 of the scratch area on, where their description has the second one.
    """
    b, row = f.b, INSTRUCTIONS[i.row]
    words = b.words(2 * len(values) + 1)
    b.set_values(words, values, 1)
    second = i.b if len(row.immediates) > 1 else 0
    OPERATIONS[row.mnemonic].define(b, b.inst, words, operands(f, i.a, second))
    return words


@lowers("array.new_data", "array.new_elem")
def _array_from_segment(f: FunctionLowering, i: Instr) -> None:
    words = _by_runtime(f, i, f.pop_many(_OPERANDS[INSTRUCTIONS[i.row].mnemonic]))
    _push_made(f, f.b.word_at(words, 0))


#: Elements that are copied here, at most: a loop is faster than a call where strings are short.
_MOST_COPIED = 16


@lowers("array.copy")
def _array_copy(f: FunctionLowering, i: Instr) -> None:
    """What is longer, overlaps the wrong way or traps is left to the runtime."""
    b, storage = f.b, _element(f, i)
    values = f.pop_many(_OPERANDS["array.copy"])
    to, target, origin, source, count = values
    known = b.memo.copy(), b.current.copy()
    other, done = b.fresh("slow"), b.fresh("copied")

    def check(is_other: Value) -> None:
        go_on = b.fresh("quick")
        b.branch(is_other, other, go_on, unlikely=True)
        b.follow(go_on)

    check(b.compare("ugt", count, b.const("i32", _MOST_COPIED)))
    places = []
    for array, index in ((to, target), (origin, source)):
        check(b.compare("eq", array, b.const("i64", 0)))
        pointer = b.pointer_in(array)
        length = b.object_load("i32", b.at(pointer, layout.offset("WlObject", "length")), SLOT_BYTES, LENGTH)
        start, end = b.convert("zext", index, "i64"), b.convert("zext", length, "i64")
        check(b.compare("ugt", b.binary("add", start, b.convert("zext", count, "i64")), end))
        place = b.binary("mul", start, b.const("i64", storage.bytes))
        places.append(b.at(b.at(pointer, _HEADER), place))
    check(b.both(b.compare("eq", to, origin), b.compare("ugt", target, source)))
    loop, before = b.fresh("copy"), b.block
    b.branch(b.compare("eq", count, b.const("i32", 0)), done, loop)
    b.label(loop)
    at, following = Value(b.fresh("at"), "i32"), Value(b.fresh("following"), "i32")
    b.emit(f"{at.text} = phi i32 [ 0, {before} ], [ {following.text}, {loop} ]")
    offset = b.binary("mul", b.convert("zext", at, "i64"), b.const("i64", storage.bytes))
    here, there = (b.at(place, offset) for place in places)
    part = element_part(storage)
    b.object_store(b.object_load(storage.type, there, storage.align, part), here, storage.align, part)
    b.emit(f"{following.text} = add i32 {at.text}, 1")
    b.branch(b.compare("ult", following, count), loop, done)
    b.label(other)
    b.memo, b.current = known[0].copy(), known[1].copy()
    _by_runtime(f, i, values)
    b.jump(done)
    b.label(done)
    b.memo, b.current = known


@lowers("array.fill", "array.init_data", "array.init_elem")
def _array_by_runtime(f: FunctionLowering, i: Instr) -> None:
    _by_runtime(f, i, f.pop_many(_OPERANDS[INSTRUCTIONS[i.row].mnemonic]))


# --- new arrays: small ones are made here, as structs are ---

#: Bytes of an array that is made here, at most; of one with given elements, how many these are; stores that stand one
#: behind the other.
_MOST_BYTES = 512
_MOST_GIVEN = 32
_MOST_STORES = 8
_HEADER = layout.size("WlObject")


def _classes(f: FunctionLowering) -> Value:
    """The table of the lists' offsets in the context, by an object's size in words."""
    name = "@wl.classes"
    first = layout.offset("WlContext", "objects_0")
    places = [first + SLOT_BYTES * _class(SLOT_BYTES * words) for words in range(_MOST_BYTES // SLOT_BYTES + 1)]
    items = ", ".join(f"i16 {place}" for place in places)
    f.globals.add(f"{name} = private unnamed_addr constant [{len(places)} x i16] [{items}], align 2")
    return Value(name, "ptr")


def _constant(value: Value) -> int | None:
    """The number that a value is, if that is known."""
    return int(value.text) if value.text.lstrip("-").isdigit() else None


def _payload(f: FunctionLowering, length: Value, storage: Storage) -> Value:
    """The words that so many elements take, as an i64."""
    b = f.b
    size = b.binary("mul", b.convert("zext", length, "i64"), b.const("i64", storage.bytes))
    whole = b.binary("add", size, b.const("i64", SLOT_BYTES - 1))
    return b.binary("udiv", whole, b.const("i64", SLOT_BYTES))


class _Quick:
    """The making of an array here, with another way, by the runtime, that leads past it."""

    def __init__(self, f: FunctionLowering, i: Instr, values: list[Value]) -> None:
        self._f = f
        self._i = i
        self._values = values
        #: Where that way begins.
        self.other = f.b.fresh("slow")
        self._type = f.named("type", i.a)
        self._ctx = f.b.ctx
        #: What is known where the ways part.
        self._known = f.b.memo.copy(), f.b.current.copy()

    def take(self, length: Value, place: Value) -> Value:
        """The array's block, whose elements are still to be written, from the list at a place."""
        b = self._f.b
        made: Value = OPERATIONS["struct.new"].define(b, self._type, place, lambda _: b.jump(self.other))
        at = b.at(made, layout.offset("WlObject", "length"))
        b.object_store(b.convert("zext", length, "i64"), at, SLOT_BYTES, LENGTH)
        return made

    def finish(self, made: Value) -> None:
        """The elements have been written: push the array."""
        f = self._f
        b = f.b
        done = b.fresh("made")
        quick, from_quick = b.address_word(made), b.block
        b.jump(done)
        b.label(self.other)
        b.memo, b.current = self._known[0].copy(), self._known[1].copy()
        called = b.word_at(_by_runtime(f, self._i, self._values), 0)
        from_other = b.block
        b.jump(done)
        b.label(done)
        b.memo, b.current = self._known
        _push_made(f, b.assign(f"phi i64 [ {quick.text}, {from_quick} ], [ {called.text}, {from_other} ]", "i64"))


def _word_of_elements(f: FunctionLowering, value: Value, storage: Storage) -> Value:
    """A word full of a value, which is narrower than that, or not."""
    b = f.b
    word = b.as_word(value)
    if storage.bytes == SLOT_BYTES:
        return word
    bits = b.bits(storage.type)
    one = b.binary("and", word, b.const("i64", (1 << bits) - 1))
    return b.binary("mul", one, b.const("i64", sum(1 << at for at in range(0, 64, bits))))


def _fill(f: FunctionLowering, made: Value, word: Value, words: Value) -> None:
    """Write the words of a new array's elements."""
    b = f.b
    count = _constant(words)
    if count is not None and count <= _MOST_STORES:
        for number in range(count):
            b.object_store(word, b.at(made, _HEADER + SLOT_BYTES * number), SLOT_BYTES)
        return
    known = b.memo, b.current
    before, loop, done = b.block, b.fresh("fill"), b.fresh("filled")
    first = b.at(made, _HEADER)
    b.branch(b.compare("eq", words, b.const("i64", 0)), done, loop)
    b.label(loop)
    at, following = Value(b.fresh("at"), "i64"), Value(b.fresh("following"), "i64")
    b.emit(f"{at.text} = phi i64 [ 0, {before} ], [ {following.text}, {loop} ]")
    b.object_store(word, b.word(first, at), SLOT_BYTES)
    b.emit(f"{following.text} = add i64 {at.text}, 1")
    b.branch(b.compare("ult", following, words), loop, done)
    b.label(done)
    b.memo, b.current = known


@lowers("array.new", "array.new_default")
def _array_new(f: FunctionLowering, i: Instr) -> None:
    b, storage = f.b, _element(f, i)
    values = f.pop_many(_OPERANDS[INSTRUCTIONS[i.row].mnemonic])
    length = values[-1]
    count = _constant(length)
    most = (_MOST_BYTES - _HEADER) // storage.bytes
    if storage.kind.is_vector or (count is not None and not 0 <= count <= most):
        _push_made(f, b.word_at(_by_runtime(f, i, values), 0))
        return
    quick = _Quick(f, i, values)
    if count is None:
        go_on = b.fresh("small")
        b.branch(b.compare("ugt", length, b.const("i32", most)), quick.other, go_on, unlikely=True)
        b.follow(go_on)
        words = _payload(f, length, storage)
        index = b.at(_classes(f), b.binary("shl", b.binary("add", words, b.const("i64", 2)), b.const("i64", 1)))
        offset = b.assign(f"load i16, ptr {index.text}, align 2, !invariant.load !3", "i16")
        place = b.at(b.ctx, b.convert("zext", offset, "i64"))
    else:
        words = b.const("i64", -(-count * storage.bytes // SLOT_BYTES))
        place = _list(f, _class(_HEADER + count * storage.bytes))
    made = quick.take(length, place)
    word = _word_of_elements(f, values[0], storage) if len(values) > 1 else b.const("i64", 0)
    _fill(f, made, word, words)
    quick.finish(made)


@lowers("array.new_fixed")
def _array_new_fixed(f: FunctionLowering, i: Instr) -> None:
    b, storage = f.b, _element(f, i)
    values = f.pop_many(i.b)
    bytes = _HEADER + i.b * storage.bytes
    if i.b > _MOST_GIVEN or bytes > _MOST_BYTES:
        _push_made(f, b.word_at(_by_runtime(f, i, values), 0))
        return
    quick = _Quick(f, i, values)
    made = quick.take(b.const("i32", i.b), _list(f, _class(bytes)))
    for number, value in enumerate(values):
        write(b, b.at(made, _HEADER + number * storage.bytes), value, storage, element_part(storage))
    quick.finish(made)


@lowers("ref.eq")
def _ref_eq(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["ref.eq"].define(f.b, *f.pop_many(2)))


# --- tests of types ---


def _is_function_of(f: FunctionLowering, reference: Value, type: int, nullable: bool, exact: bool) -> Value:
    """Whether a function has a type of the module, or, if not `exact`, one below it; as a truth value."""
    b = f.b
    memo, current, start = b.memo, b.current, b.block
    ask, done = b.fresh("ask"), b.fresh("asked")
    b.branch(b.compare("eq", reference, b.const("i64", 0)), done, ask)
    b.label(ask)
    actual = b.struct_field(b.pointer_in(reference), "WlFunction", "type_id", "i64")
    if exact:
        found = b.compare("eq", actual, type_id(f, type))
    else:
        found = b.compare("eq", b.runtime("subtype", actual, type_id(f, type)), b.const("i64", 0))
    end = b.block
    b.jump(done)
    b.label(done)
    b.memo, b.current = memo, current
    return b.assign(f"phi i1 [ {'true' if nullable else 'false'}, {start} ], [ {found.text}, {end} ]", "i1")


def _is_of(f: FunctionLowering, reference: Value, heap: int, nullable: bool) -> Value:
    """Whether a reference is of a heap type of the module, as a truth value."""
    b = f.b
    if heap in _TOPS:
        return Value("true", "i1") if nullable else b.compare("ne", reference, b.const("i64", 0))
    if heap in _BOTTOMS:
        return b.compare("eq", reference, b.const("i64", 0)) if nullable else Value("false", "i1")
    test, type, depth = _TESTS.get(heap), 0, 0
    if test is None:
        exact = bool(heap & EXACT)
        type = (heap & ~EXACT) - CONCRETE
        if isinstance(f.facts.function_types[type], FuncType):
            return _is_function_of(f, reference, type, nullable, exact)
        depth = f.facts.depth(type)
        test = Test.SHALLOW if depth < layout.SHALLOW else Test.DEEP
        if f.facts.finals[type] or exact:
            test = Test.FINAL
    found: Value = OPERATIONS["ref.test"].define(
        b, reference, test, nullable, lambda: f.named("type", type), lambda: b.const("i64", depth)
    )
    return found


@lowers("ref.test", "ref.test_null")
def _ref_test(f: FunctionLowering, i: Instr) -> None:
    f.push(_is_of(f, f.pop(), i.a, INSTRUCTIONS[i.row].mnemonic.endswith("_null")))


@lowers("ref.cast", "ref.cast_null")
def _ref_cast(f: FunctionLowering, i: Instr) -> None:
    (value,) = f.top(1)
    nullable = INSTRUCTIONS[i.row].mnemonic.endswith("_null")
    OPERATIONS["ref.cast"].define(f.b, _is_of(f, value, i.a, nullable))
    f.learn(value, ref_type(i.a, nullable))


@lowers("br_on_cast", "br_on_cast_fail")
def _br_on_cast(f: FunctionLowering, i: Instr) -> None:
    """The reference stays on both ways."""
    (value,) = f.top(1)
    found = _is_of(f, value, i.d, bool(i.a & 2))
    fails = INSTRUCTIONS[i.row].mnemonic.endswith("_fail")
    if fails:
        found = f.b.compare("eq", found, f.b.const("i1", 0))
    branch_if(f, found, f.label(i.b))
    if fails:
        f.learn(value, ref_type(i.d, bool(i.a & 2)))


def _has_descriptor(f: FunctionLowering, heap: int, nullable: bool) -> Value:
    """Pop a descriptor; whether the reference below, which stays, has it, as a truth value."""
    descriptor = f.pop()
    (value,) = f.top(1)
    found = _is_of(f, value, heap & ~EXACT, False)
    offset = _layout(f, (heap & ~EXACT) - CONCRETE).descriptor
    same: Value = OPERATIONS["br_on_cast_desc_eq"].define(f.b, value, descriptor, found, offset, nullable)
    return same


@lowers("ref.cast_desc_eq", "ref.cast_desc_eq_null")
def _ref_cast_desc_eq(f: FunctionLowering, i: Instr) -> None:
    found = _has_descriptor(f, i.a, INSTRUCTIONS[i.row].mnemonic.endswith("_null"))
    OPERATIONS["ref.cast_desc_eq"].define(f.b, found)


@lowers("br_on_cast_desc_eq", "br_on_cast_desc_eq_fail")
def _br_on_cast_desc_eq(f: FunctionLowering, i: Instr) -> None:
    found = _has_descriptor(f, i.d, bool(i.a & 2))
    if INSTRUCTIONS[i.row].mnemonic.endswith("_fail"):
        found = f.b.compare("eq", found, f.b.const("i1", 0))
    branch_if(f, found, f.label(i.b))
