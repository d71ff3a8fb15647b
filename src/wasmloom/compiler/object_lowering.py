"""Lowers instructions on objects: structs, arrays, and tests of types (Core 3.0, 4.4.5 and 4.4.6)."""

from __future__ import annotations

from functools import lru_cache

from wasmloom.compiler.call_lowering import type_id
from wasmloom.compiler.control_lowering import branch_if
from wasmloom.compiler.loops import Instr
from wasmloom.compiler.lowering import FunctionLowering, lowers, operands
from wasmloom.contract import layout
from wasmloom.contract.layout import SLOT_BYTES
from wasmloom.semantics.aggregates import BY_RUNTIME, Storage, Test, storage_of, write
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import INSTRUCTIONS
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, ArrayType, FieldType, FuncType, StructType

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


@lru_cache(maxsize=64)
def _offsets(fields: tuple[FieldType, ...]) -> tuple[list[int], int]:
    """Where fields lie in an object (see `wasmloom.runtime.objects`), and the bytes that the whole has."""
    found, end = [], SLOT_BYTES
    for field in fields:
        storage = storage_of(field.storage)
        end = -(-end // storage.align) * storage.align
        found.append(end)
        end += storage.bytes
    return found, max(-(-end // SLOT_BYTES), 2) * SLOT_BYTES


def _element(f: FunctionLowering, i: Instr) -> Storage:
    """How elements of an array type of the module are read, or written."""
    composite = f.facts.function_types[i.a]
    if not isinstance(composite, ArrayType):  # validation excludes that
        raise TypeError(f"type {i.a} is no array type")
    return storage_of(composite.field.storage, INSTRUCTIONS[i.row].mnemonic.endswith("_s"))


def _new_struct(f: FunctionLowering, i: Instr, bytes: int) -> Value:
    """A struct with so many bytes, whose fields are still to be written, as a pointer."""
    b = f.b
    type = f.named("type", i.a)
    sizes = layout.OBJECT_SIZES
    number = next((number for number, size in enumerate(sizes) if size >= bytes), layout.LARGE_OBJECT)
    place = b.at(b.ctx, layout.offset("WlContext", f"objects_{number}"))

    def refill(go_on: str) -> None:
        b.trap_if_code(b.runtime("refill_objects", type))
        b.jump(go_on)

    made: Value = OPERATIONS["struct.new"].define(b, type, place, refill)
    return made


@lowers("struct.new")
def _struct_new(f: FunctionLowering, i: Instr) -> None:
    fields = _fields(f, i.a)
    offsets, bytes = _offsets(fields)
    values = f.pop_many(len(fields))
    made = _new_struct(f, i, bytes)
    for field, offset, value in zip(fields, offsets, values, strict=True):
        write(f.b, f.b.at(made, offset), value, storage_of(field.storage))
    f.push(f.b.address_word(made))


@lowers("struct.new_default")
def _struct_new_default(f: FunctionLowering, i: Instr) -> None:
    _, bytes = _offsets(_fields(f, i.a))
    made = _new_struct(f, i, bytes)
    for offset in range(SLOT_BYTES, bytes, SLOT_BYTES):
        f.b.object_store(f.b.const("i64", 0), f.b.at(made, offset), SLOT_BYTES)
    f.push(f.b.address_word(made))


def _field(f: FunctionLowering, i: Instr) -> tuple[int, Storage]:
    """Where a field is in an object, and how it is read, or written."""
    fields = _fields(f, i.a)
    is_signed = INSTRUCTIONS[i.row].mnemonic.endswith("_s")
    return _offsets(fields)[0][i.b], storage_of(fields[i.b].storage, is_signed)


@lowers("struct.get", "struct.get_s", "struct.get_u")
def _struct_get(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["struct.get"].define(f.b, f.pop(), *_field(f, i)))


@lowers("struct.set")
def _struct_set(f: FunctionLowering, i: Instr) -> None:
    reference, value = f.pop_many(2)
    OPERATIONS["struct.set"].define(f.b, reference, value, *_field(f, i))


@lowers("array.get", "array.get_s", "array.get_u")
def _array_get(f: FunctionLowering, i: Instr) -> None:
    reference, index = f.pop_many(2)
    f.push(OPERATIONS["array.get"].define(f.b, reference, index, _element(f, i)))


@lowers("array.set")
def _array_set(f: FunctionLowering, i: Instr) -> None:
    reference, index, value = f.pop_many(3)
    OPERATIONS["array.set"].define(f.b, reference, index, value, _element(f, i))


#: Operands of what the runtime does with arrays.
_OPERANDS = {
    "array.new": 2, "array.new_default": 1, "array.new_data": 2, "array.new_elem": 2, "array.fill": 4, "array.copy": 5,
    "array.init_data": 4, "array.init_elem": 4,
}  # fmt: skip


@lowers(*BY_RUNTIME)
def _array_by_runtime(f: FunctionLowering, i: Instr) -> None:
    """The operands are from word 1 of the scratch area on, where the description of operands has the second one."""
    b, row = f.b, INSTRUCTIONS[i.row]
    values = f.pop_many(_OPERANDS.get(row.mnemonic, i.b))
    words = b.words(2 * len(values) + 1)
    b.set_values(words, values, 1)
    second = i.b if len(row.immediates) > 1 else 0
    OPERATIONS[row.mnemonic].define(b, b.inst, words, operands(f, i.a, second))
    if row.mnemonic.startswith("array.new"):
        f.push(b.word_at(words, 0))


@lowers("ref.eq")
def _ref_eq(f: FunctionLowering, i: Instr) -> None:
    f.push(OPERATIONS["ref.eq"].define(f.b, *f.pop_many(2)))


# --- tests of types ---


def _is_function_of(f: FunctionLowering, reference: Value, type: int, nullable: bool) -> Value:
    """Whether a function has a type of the module, as a truth value."""
    b = f.b
    memo, current, start = b.memo, b.current, b.block
    ask, done = b.fresh("ask"), b.fresh("asked")
    b.branch(b.compare("eq", reference, b.const("i64", 0)), done, ask)
    b.label(ask)
    actual = b.struct_field(b.pointer_in(reference), "WlFunction", "type_id", "i64")
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
        type = heap - CONCRETE
        if isinstance(f.facts.function_types[type], FuncType):
            return _is_function_of(f, reference, type, nullable)
        depth = f.facts.depth(type)
        test = Test.SHALLOW if depth < layout.SHALLOW else Test.DEEP
        if f.facts.finals[type]:
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
    OPERATIONS["ref.cast"].define(f.b, _is_of(f, value, i.a, INSTRUCTIONS[i.row].mnemonic.endswith("_null")))


@lowers("br_on_cast", "br_on_cast_fail")
def _br_on_cast(f: FunctionLowering, i: Instr) -> None:
    """The reference stays on both ways."""
    (value,) = f.top(1)
    found = _is_of(f, value, i.d, bool(i.a & 2))
    if INSTRUCTIONS[i.row].mnemonic.endswith("_fail"):
        found = f.b.compare("eq", found, f.b.const("i1", 0))
    branch_if(f, found, f.label(i.b))
