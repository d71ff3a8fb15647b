"""Canonical types and subtyping."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom.errors import ValidationError
from wasmloom.host.types import as_func_type
from wasmloom.spec.canon import (
    DefinedType,
    canonical_type,
    count_types,
    func_type,
    intern_func_type,
    intern_group,
    is_sub,
    lasting,
    matches,
    matches_extern,
    new_types,
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
    ContType,
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

#: Keeps the types of all tests but those about types that go.
KEPT = new_types()

plain = st.sampled_from([I32, I64, F64, V128, FUNCREF, EXTERNREF, ANYREF])
functions = st.builds(FuncType, st.lists(plain, max_size=4).map(tuple), st.lists(plain, max_size=3).map(tuple))
abstract = st.builds(ref_type, st.sampled_from(sorted(ABSTRACT_HEAP_TYPES.values())), st.booleans())


def struct(*fields: ValType, supers: tuple[int, ...] = (), mutable: bool = False) -> SubType:
    return SubType(StructType(tuple(FieldType(f, mutable) for f in fields)), supers, False)


@given(functions, functions)
def test_function_types(a: FuncType, b: FuncType) -> None:
    ids = intern_func_type(a, KEPT), intern_func_type(b, KEPT)
    assert (ids[0] == ids[1]) == (a == b)
    assert intern_group([SubType(a)], [], KEPT) == [ids[0]]
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
        ids += intern_group([struct(*[I32] * k, supers=(k - 1,) if k else ())], ids, KEPT)
    assert all(is_sub(ids[a], ids[b]) == (a >= b) for a in range(5) for b in range(5))
    lone = intern_group([struct(I32, I64)], [], KEPT)[0]
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

    before = intern_group([SubType(FuncType((I32,), ()))], [], KEPT)
    a = intern_group(pair(0), [], KEPT)
    assert intern_group(pair(1), before, KEPT) == a
    assert sub_type(a[0]).composite.fields[0].storage == ref_type(CONCRETE + a[1], True)
    # The same two types in another order, or with one more, are other types.
    assert set(intern_group([pair(0)[1], pair(0)[0]], [], KEPT)).isdisjoint(a)
    assert set(intern_group([*pair(0), struct()], [], KEPT)).isdisjoint(a)


def test_unknown_types() -> None:
    with pytest.raises(ValidationError, match="unknown type 1"):
        intern_group([struct(ref_type(CONCRETE + 1, True))], [], KEPT)
    with pytest.raises(ValidationError, match="unknown type 0"):
        intern_group([struct(supers=(0,))], [], KEPT)
    with pytest.raises(ValidationError, match="unknown type 3"):
        canonical_type(ref_type(CONCRETE + 3, True), [])
    with pytest.raises(TypeError, match="not a function type"):
        func_type(intern_group([struct()], [], KEPT)[0])


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
    intern_func_type(FuncType((), ()), KEPT)
    assert matches_extern(have, want) == fits  # type: ignore[arg-type]


# --- how long types live ---


def rare(k: int, *more: ValType) -> SubType:
    """A type that no other test has."""
    return SubType(FuncType((V128, *[[I32, I64, F64, V128][k >> 2 * i & 3] for i in range(10)], V128, *more), (V128,)))


def test_types_go_with_what_keeps_them() -> None:
    before = count_types()
    first, second = new_types(), new_types()
    ids = [id for k in range(2000) for id in intern_group([rare(k)], [], first)]
    assert count_types() == before + 2000
    assert intern_group([rare(5)], [], second) == [ids[5]]
    del first
    assert count_types() == before + 1
    assert func_type(ids[5]) == rare(5).composite
    for gone in (ids[4], ids[1999]):
        with pytest.raises(ValueError, match="unknown type"):
            sub_type(gone)
    # The number isn't used again: who still has it finds out.
    assert set(intern_group([rare(4)], [], second)).isdisjoint(ids)
    del second
    assert count_types() == before


def test_types_that_others_name_stay() -> None:
    before = count_types()
    keeper = new_types()
    ids: list[int] = []
    for k in range(3000):  # each names the one before: freed without recursion
        last = new_types()
        ids += intern_group([rare(k, *[ref_type(CONCRETE + k - 1, True)] * (k > 0))], ids, last)
        keeper = last
    assert count_types() == before + 3000
    supers = new_types()
    above = intern_group([struct(V128, V128, V128)], [], supers)
    below = intern_group([struct(V128, V128, V128, I32, supers=(0,))], above, keeper)
    cont = new_types()
    func = intern_group([rare(8000)], [], supers)
    conts = intern_group([SubType(ContType(CONCRETE))], func, cont)
    del supers, last
    assert is_sub(below[0], above[0])
    assert sub_type(conts[0]).composite == ContType(CONCRETE + func[0])
    del keeper
    assert count_types() == before + 2
    del cont
    assert count_types() == before


def test_a_group_goes_as_a_whole() -> None:
    before = count_types()
    keeper = new_types()
    group = [rare(1, ref_type(CONCRETE + k, True)) for k in (1, 2, 0)]
    ids = intern_group(group, [], keeper)
    sub_type(ids[1])
    assert count_types() == before + 3
    del keeper
    assert count_types() == before


def test_what_users_see_keeps_types() -> None:
    before = count_types()
    keeper = new_types()
    (id,) = intern_group([rare(77)], [], keeper)
    reference = ref_type(CONCRETE + id, False)
    for type in (
        reference,
        FuncType((I32, reference), ()),
        GlobalType(reference, True),
        TableType(reference, Limits(1, None)),
    ):
        seen = lasting(type)
        assert seen == type
    assert lasting(FuncType((I32,), ())) == FuncType((I32,), ())
    del keeper
    assert func_type(id) == rare(77).composite
    del seen
    assert count_types() == before
    with pytest.raises(ValueError, match="is not a value type, or names a type that is gone"):
        as_func_type(([reference], []))
    with pytest.raises(ValueError, match="what defined it is gone"):
        intern_func_type(FuncType((reference,), ()), new_types())
    with pytest.raises(ValueError, match="unknown type"):
        lasting(reference)


def test_value_types_are_copied_and_pickled() -> None:
    keeper = new_types()
    reference = lasting(ref_type(CONCRETE + intern_group([rare(78)], [], keeper)[0], False))
    assert isinstance(reference, DefinedType)
    for t in (I32, FUNCREF, reference):
        assert copy.copy(t) is t
        assert copy.deepcopy([t])[0] is t
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(FuncType((I32, FUNCREF), ()), protocol)) == FuncType((I32, FUNCREF), ())
        with pytest.raises(TypeError, match="can't be pickled"):
            pickle.dumps(reference, protocol)


def test_numbers_come_round() -> None:
    code = f"""if 1:
        from wasmloom.spec.canon import count_types, intern_func_type, new_types, skip_ids, func_type
        from wasmloom.spec.types import FuncType, I32
        keeper = new_types()
        first = [intern_func_type(FuncType((I32,) * k, ()), keeper) for k in range(3)]
        skip_ids({0xFFFF0000 - 2})
        later = [intern_func_type(FuncType((), (I32,) * k), keeper) for k in range(1, 6)]
        assert later[:2] == [{0xFFFF0000 - 2}, {0xFFFF0000 - 1}], later
        assert not set(later) & set(first)
        assert later[4] < 1000
        assert [len(func_type(id).params) for id in first] == [0, 1, 2]
        assert [len(func_type(id).results) for id in later] == [1, 2, 3, 4, 5]
        del keeper
        assert count_types() == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_many_threads_make_and_drop_types() -> None:
    before = count_types()
    wrong: list[object] = []

    def work(seed: int) -> None:
        for k in range(300):
            keeper = new_types()
            ids = intern_group([rare(k % 7)], [], keeper)
            ids += intern_group([rare(100 + (seed + k) % 5, ref_type(CONCRETE, True))], ids, keeper)
            if func_type(ids[0]) != rare(k % 7).composite:
                wrong.append(ids)

    threads = [Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert count_types() == before
