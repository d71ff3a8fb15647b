"""Canonical types and subtyping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom.errors import ValidationError
from wasmloom.spec.canon import (
    canonical_type,
    func_type,
    intern_func_type,
    intern_group,
    is_sub,
    matches,
    matches_extern,
    sub_type,
)
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    ANYREF,
    CONCRETE,
    EXTERNREF,
    F64,
    FUNCREF,
    I32,
    I64,
    V128,
    ArrayType,
    FieldType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    StructType,
    SubType,
    TableType,
    TagType,
    ValType,
    ref_type,
)

plain = st.sampled_from([I32, I64, F64, V128, FUNCREF, EXTERNREF, ANYREF])
functions = st.builds(FuncType, st.lists(plain, max_size=4).map(tuple), st.lists(plain, max_size=3).map(tuple))
abstract = st.builds(ref_type, st.sampled_from(sorted(ABSTRACT_HEAP_TYPES.values())), st.booleans())


def struct(*fields: ValType, supers: tuple[int, ...] = (), mutable: bool = False) -> SubType:
    return SubType(StructType(tuple(FieldType(f, mutable) for f in fields)), supers, False)


@given(functions, functions)
def test_function_types(a: FuncType, b: FuncType) -> None:
    ids = intern_func_type(a), intern_func_type(b)
    assert (ids[0] == ids[1]) == (a == b)
    assert intern_group([SubType(a)], []) == [ids[0]]
    assert func_type(ids[0]) == a
    assert is_sub(*ids) == (a == b)


@given(abstract, abstract, abstract)
def test_subtyping_is_an_order(a: ValType, b: ValType, c: ValType) -> None:
    assert matches(a, a)
    assert not (matches(a, b) and matches(b, c)) or matches(a, c)
    assert not (matches(a, b) and matches(b, a)) or a == b


@pytest.mark.parametrize(
    ("below", "above", "fits"),
    [
        ("none", "i31", True),
        ("none", "any", True),
        ("i31", "eq", True),
        ("struct", "array", False),
        ("array", "any", True),
        ("func", "any", False),
        ("nofunc", "func", True),
        ("noexn", "exn", True),
        ("nocont", "cont", True),
        ("none", "func", False),
        ("noextern", "any", False),
    ],
)
def test_abstract_heap_types(below: str, above: str, fits: bool) -> None:
    a, b = ABSTRACT_HEAP_TYPES[below], ABSTRACT_HEAP_TYPES[above]
    assert matches(ref_type(a, False), ref_type(b, False)) == fits
    assert matches(ref_type(a, False), ref_type(b, True)) == fits
    assert not matches(ref_type(a, True), ref_type(b, False))


def test_numbers_match_themselves_only() -> None:
    assert matches(I32, I32)
    assert not matches(I32, I64)
    assert not matches(I32, FUNCREF)


def test_declared_supertypes() -> None:
    ids: list[int] = []
    for k in range(5):
        ids += intern_group([struct(*[I32] * k, supers=(k - 1,) if k else ())], ids)
    assert all(is_sub(ids[a], ids[b]) == (a >= b) for a in range(5) for b in range(5))
    lone = intern_group([struct(I32, I64)], [])[0]
    assert not is_sub(lone, ids[0])
    a, b = (ref_type(CONCRETE + ids[k], False) for k in (4, 0))
    assert matches(a, b)
    assert not matches(b, a)
    for name, fits in (("struct", True), ("eq", True), ("any", True), ("array", False), ("func", False)):
        assert matches(a, ref_type(ABSTRACT_HEAP_TYPES[name], True)) == fits
    assert matches(ref_type(ABSTRACT_HEAP_TYPES["none"], False), a)
    assert not matches(ref_type(ABSTRACT_HEAP_TYPES["nofunc"], False), a)


def test_equal_groups_are_one_whatever_their_position() -> None:
    def pair(first: int) -> list[SubType]:
        return [
            struct(ref_type(CONCRETE + first + 1, True)),
            SubType(ArrayType(FieldType(ref_type(CONCRETE + first, True), True))),
        ]

    before = intern_group([SubType(FuncType((I32,), ()))], [])
    a = intern_group(pair(0), [])
    assert intern_group(pair(1), before) == a
    assert sub_type(a[0]).composite.fields[0].storage == ref_type(CONCRETE + a[1], True)
    # The same two types in another order, or with one more, are other types.
    assert set(intern_group([pair(0)[1], pair(0)[0]], [])).isdisjoint(a)
    assert set(intern_group([*pair(0), struct()], [])).isdisjoint(a)


def test_unknown_types() -> None:
    with pytest.raises(ValidationError, match="unknown type 1"):
        intern_group([struct(ref_type(CONCRETE + 1, True))], [])
    with pytest.raises(ValidationError, match="unknown type 0"):
        intern_group([struct(supers=(0,))], [])
    with pytest.raises(ValidationError, match="unknown type 3"):
        canonical_type(ref_type(CONCRETE + 3, True), [])
    with pytest.raises(TypeError, match="not a function type"):
        func_type(intern_group([struct()], [])[0])


@pytest.mark.parametrize(
    ("have", "want", "fits"),
    [
        (MemoryType(Limits(2, 5)), MemoryType(Limits(1, 5)), True),
        (MemoryType(Limits(2, 5)), MemoryType(Limits(1, 4)), False),
        (MemoryType(Limits(2, None)), MemoryType(Limits(1, 4)), False),
        (MemoryType(Limits(2, None)), MemoryType(Limits(3, None)), False),
        (MemoryType(Limits(2, 5), True), MemoryType(Limits(1, 5)), False),
        (MemoryType(Limits(2, 5), page_size_log2=0), MemoryType(Limits(1, 5)), False),
        (TableType(FUNCREF, Limits(1, None)), TableType(FUNCREF, Limits(0, None)), True),
        (TableType(ref_type(0x73, True), Limits(1, None)), TableType(FUNCREF, Limits(0, None)), False),
        (GlobalType(ref_type(0x73, True), False), GlobalType(FUNCREF, False), True),
        (GlobalType(ref_type(0x73, True), True), GlobalType(FUNCREF, True), False),
        (GlobalType(I32, True), GlobalType(I32, False), False),
        (TagType(0), TagType(0), True),
        (TagType(0), TagType(1), False),
        (TagType(0), MemoryType(Limits(1, None)), False),
        (0, 0, True),
        (0, GlobalType(I32, False), False),
    ],
)
def test_imports(have: object, want: object, fits: bool) -> None:
    intern_func_type(FuncType((), ()))
    assert matches_extern(have, want) == fits  # type: ignore[arg-type]
