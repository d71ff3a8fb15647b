# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Canonical types: one process-wide number per defined type, and subtyping over those numbers.

Two defined types are the same when their recursive groups are equal after references into the group have been replaced
by positions in it (iso-recursive equivalence, Core 3.0, 2.3.8 and 3.3.2). `intern_group` gives equal groups the same
ids, so that types of different modules are compared by comparing numbers. Ids are never reused: types live as long as
the process.

Everything here speaks canonical ids: `ValType`s hold ``CONCRETE + id`` where they name a defined type. Only the
arguments of `intern_group`, `canonical_heap` and `canonical_type` hold type indices.

``canon.pxd`` gives compiled code the same without Python objects: `type_info`, `id_matches`, `heap_matches`,
`type_matches`, `top_heap`.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, NoReturn

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import calloc, malloc, realloc
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.spec.canon import (
    _ABOVE,
    _ABSTRACT_MATCHES,
    _BELOW,
    _TOP,
    ARRAY,
    CONT,
    FUNC,
    STRUCT,
    TypeInfo,
    _count,
    _infos,
    _room,
)

from wasmloom.errors import ValidationError
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    HEAP_SHIFT,
    NULL_FLAG,
    REF_FLAG,
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
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wasmloom.spec.types import CompositeType

#: Abstract heap type → its direct supertypes (Core 3.0, 3.3.3; the Explainer of stack switching).
_DIRECT_SUPERTYPES: dict[str, str] = {
    "none": "i31 struct array",
    "i31": "eq",
    "struct": "eq",
    "array": "eq",
    "eq": "any",
    "nofunc": "func",
    "noextern": "extern",
    "noexn": "exn",
    "nocont": "cont",
}
#: Kind of a defined type → the abstract type above its values, and the one below them.
_ABOVE_KIND: dict[int, str] = {FUNC: "func", STRUCT: "struct", ARRAY: "array", CONT: "cont"}
_BELOW_KIND: dict[int, str] = {FUNC: "nofunc", STRUCT: "none", ARRAY: "none", CONT: "nocont"}

_CONCRETE = cython.declare(uint64_t, CONCRETE)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_NULL_FLAG = cython.declare(uint64_t, NULL_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_MAX_ID: int = (1 << 32) - 1


def _fill_tables() -> None:
    """Fill the subtyping tables of abstract heap types."""
    memset(_ABSTRACT_MATCHES, 0, cython.sizeof(_ABSTRACT_MATCHES))
    memset(_TOP, 0, cython.sizeof(_TOP))

    def supertypes(name: str) -> set[str]:
        found = {name}
        for above in _DIRECT_SUPERTYPES.get(name, "").split():
            found |= supertypes(above)
        return found

    for name, code in ABSTRACT_HEAP_TYPES.items():
        for above in supertypes(name):
            _ABSTRACT_MATCHES[code * 128 + ABSTRACT_HEAP_TYPES[above]] = 1
            if above not in _DIRECT_SUPERTYPES:
                _TOP[code] = ABSTRACT_HEAP_TYPES[above]
    for kind in _ABOVE_KIND:
        _ABOVE[kind] = ABSTRACT_HEAP_TYPES[_ABOVE_KIND[kind]]
        _BELOW[kind] = ABSTRACT_HEAP_TYPES[_BELOW_KIND[kind]]


_fill_tables()


@cython.cfunc
@cython.exceptval(check=False)
def type_info(id: uint32_t) -> cython.pointer(TypeInfo):
    """The type with a canonical id, which must exist."""
    return _infos[id]


@cython.cfunc
@cython.exceptval(check=False)
def id_matches(a: uint32_t, b: uint32_t) -> cython.bint:
    """Whether the defined type `a` is `b` or has it among its declared supertypes (Core 3.0, 3.3.2)."""
    target: cython.pointer(TypeInfo)
    info: cython.pointer(TypeInfo)
    if a == b:
        return True
    target = _infos[b]
    info = _infos[a]
    while info.depth > target.depth:
        info = _infos[info.parent]
    return info == target


@cython.cfunc
@cython.exceptval(check=False)
def heap_matches(a: uint64_t, b: uint64_t) -> cython.bint:
    """Whether heap type `a` is a subtype of `b` (Core 3.0, 3.3.3); the heap type 0 is below all others."""
    if a == b or a == 0:
        return True
    if b >= _CONCRETE:
        if a >= _CONCRETE:
            return id_matches(cython.cast(uint32_t, a - _CONCRETE), cython.cast(uint32_t, b - _CONCRETE))
        return a == _BELOW[_infos[b - _CONCRETE].kind]
    if a >= _CONCRETE:
        a = _ABOVE[_infos[a - _CONCRETE].kind]
    return _ABSTRACT_MATCHES[(a & 0x7F) * 128 + (b & 0x7F)]


@cython.cfunc
@cython.exceptval(check=False)
def type_matches(a: uint64_t, b: uint64_t) -> cython.bint:
    """Whether value type `a` is a subtype of `b` (Core 3.0, 3.3.5); 0 is the bottom type."""
    if a == b or a == 0:
        return True
    if not (a & _REF_FLAG and b & _REF_FLAG) or (a & _NULL_FLAG and not b & _NULL_FLAG):
        return False
    return heap_matches(a >> _HEAP_SHIFT, b >> _HEAP_SHIFT)


@cython.cfunc
@cython.exceptval(check=False)
def top_heap(heap: uint64_t) -> uint64_t:
    """The abstract heap type at the top of `heap`'s hierarchy."""
    if heap >= _CONCRETE:
        heap = _ABOVE[_infos[heap - _CONCRETE].kind]
    return _TOP[heap & 0x7F]


_lock = Lock()
_groups: dict[tuple[tuple[str, SubType], ...], tuple[int, ...]] = {}
_sub_types: list[SubType] = []


def _substitute(sub: SubType, heap: Callable[[int], int]) -> SubType:
    """`sub` with `heap` applied to each concrete heap type (``CONCRETE + number``) and supertype in it."""

    def value(t: ValType) -> ValType:
        if not t & REF_FLAG or 0 <= t >> HEAP_SHIFT < CONCRETE:
            return t
        return ValType((t & (REF_FLAG | NULL_FLAG)) | heap(t >> HEAP_SHIFT) << HEAP_SHIFT)

    def field(f: FieldType) -> FieldType:
        return FieldType(value(f.storage), f.mutable)

    composite: CompositeType = sub.composite
    if isinstance(composite, FuncType):
        composite = FuncType(tuple([value(t) for t in composite.params]), tuple([value(t) for t in composite.results]))
    elif isinstance(composite, StructType):
        composite = StructType(tuple([field(f) for f in composite.fields]))
    elif isinstance(composite, ArrayType):
        composite = ArrayType(field(composite.field))
    else:
        composite = ContType(heap(composite.func))
    return SubType(composite, tuple([heap(CONCRETE + s) - CONCRETE for s in sub.supers]), sub.final)


def _intern(group: tuple[SubType, ...]) -> tuple[int, ...]:
    """The ids of a group whose inner references are negative heap types: -1 for its first member, and so on."""
    key = tuple([(type(sub.composite).__name__, sub) for sub in group])
    with _lock:
        ids = _groups.get(key)
        if ids is None:
            first = len(_sub_types)
            if first + len(group) > _MAX_ID - CONCRETE:
                raise ValidationError("too many types in this process")
            ids = tuple(range(first, first + len(group)))
            subs = [_substitute(sub, lambda heap: heap if heap >= 0 else CONCRETE + first - 1 - heap) for sub in group]
            for sub in subs:
                _add_info(sub)
                _sub_types.append(sub)
            _groups[key] = ids
    return ids


@cython.cfunc
def _add_info(sub: SubType) -> cython.void:
    """Append the C description of the type that gets the next id."""
    global _infos, _room, _count
    info: cython.pointer(TypeInfo)
    grown: cython.pointer(cython.pointer(TypeInfo))
    n: cython.Py_ssize_t
    i: cython.Py_ssize_t
    if _count == _room:
        grown = cython.cast(
            cython.pointer(cython.pointer(TypeInfo)),
            realloc(_infos, (_room * 2 + 64) * cython.sizeof(cython.pointer(TypeInfo))),
        )
        if grown == cython.NULL:
            raise MemoryError
        _infos = grown
        _room = _room * 2 + 64
    composite = sub.composite
    types: list[int] = []
    mutable: list[bool] = []
    info = cython.cast(cython.pointer(TypeInfo), calloc(1, cython.sizeof(TypeInfo)))
    if info == cython.NULL:
        raise MemoryError
    info.id = _count
    info.final = sub.final
    info.parent = -1
    if isinstance(composite, FuncType):
        info.kind = FUNC
        types = [*composite.params, *composite.results]
        info.n_params = len(composite.params)
        info.n_results = len(composite.results)
    elif isinstance(composite, ContType):
        info.kind = CONT
        info.func = composite.func - CONCRETE
    else:
        if isinstance(composite, StructType):
            info.kind = STRUCT
            fields = composite.fields
        else:
            info.kind = ARRAY
            fields = (composite.field,)
        types = [f.storage for f in fields]
        mutable = [f.mutable for f in fields]
        info.n_params = len(types)
    n = len(types)
    info.types = cython.cast(cython.pointer(uint64_t), malloc(n * cython.sizeof(uint64_t) + 1))
    info.mutable = cython.cast(cython.p_uchar, malloc(len(mutable) + 1))
    if info.types == cython.NULL or info.mutable == cython.NULL:
        raise MemoryError
    for i in range(n):
        info.types[i] = types[i]
    for i in range(len(mutable)):
        info.mutable[i] = mutable[i]
    if sub.supers:
        info.parent = sub.supers[0]
        info.depth = _infos[info.parent].depth + 1
    _infos[_count] = info
    _count += 1


def intern_group(group: Sequence[SubType], ids: Sequence[int], offsets: Sequence[int | None] = ()) -> list[int]:
    """The canonical ids of the members of a recursive group.

    `group` holds type indices, the first member's index being ``len(ids)``; `ids` are the canonical ids of the types
    before it; `offsets` say where each member is defined, for errors. Raises `ValidationError` ("unknown type …") for
    an index beyond the group, and for a supertype that isn't defined before the type that names it. Other conditions
    on supertypes are validation's (Core 3.0, 3.2.12).
    """
    base = len(ids)
    end = base + len(group)
    position = 0

    def fail(message: str) -> NoReturn:
        raise ValidationError(message, offsets[position] if offsets else None)

    def heap(code: int) -> int:
        index = code - CONCRETE
        if index < base:
            return CONCRETE + ids[index]
        if index >= end:
            fail(f"unknown type {index}")
        return base - 1 - index

    members: list[SubType] = []
    for position, sub in enumerate(group):
        for above in sub.supers:
            if above >= base + position:
                fail(f"unknown type {above}: a supertype must be defined before its subtype")
        if len(sub.supers) > 1:
            fail("sub type: at most one supertype is allowed")
        members.append(_substitute(sub, heap))
    return list(_intern(tuple(members)))


def intern_func_type(func: FuncType) -> int:
    """The canonical id of a final function type without supertypes, whose heap types are canonical already."""
    return _intern((SubType(func),))[0]


def sub_type(id: int) -> SubType:
    """The definition of a canonical type, with canonical heap types and supertypes."""
    return _sub_types[id]


def func_type(id: int) -> FuncType:
    """The function type with a canonical id; raises `TypeError` when it is another kind of type."""
    composite = _sub_types[id].composite
    if not isinstance(composite, FuncType):
        raise TypeError(f"type {id} is not a function type")
    return composite


def canonical_heap(heap: int, ids: Sequence[int]) -> int:
    """A heap type with its type index replaced by the canonical id; `ValidationError` when there is no such type."""
    if heap < CONCRETE:
        return heap
    index = heap - CONCRETE
    if index >= len(ids):
        raise ValidationError(f"unknown type {index}")
    return CONCRETE + ids[index]


def canonical_type(t: ValType, ids: Sequence[int]) -> ValType:
    """A value type with its type index replaced by the canonical id; `ValidationError` when there is no such type."""
    if not t & REF_FLAG or t >> HEAP_SHIFT < CONCRETE:
        return t
    return ValType((t & (REF_FLAG | NULL_FLAG)) | canonical_heap(t >> HEAP_SHIFT, ids) << HEAP_SHIFT)


def is_sub(a: int, b: int) -> bool:
    """Whether the defined type with id `a` is a subtype of that with id `b`."""
    return id_matches(a, b)


def matches(a: int, b: int) -> bool:
    """Whether value type `a` is a subtype of value type `b`."""
    return type_matches(a, b)


def composite_matches(a: CompositeType, b: CompositeType) -> bool:
    """Whether composite type `a` is a subtype of `b` (Core 3.0, 3.3.8 to 3.3.11)."""
    if isinstance(a, FuncType) and isinstance(b, FuncType):
        return (
            len(a.params) == len(b.params)
            and len(a.results) == len(b.results)
            and all(map(matches, b.params, a.params))
            and all(map(matches, a.results, b.results))
        )
    if isinstance(a, StructType) and isinstance(b, StructType):
        return len(a.fields) >= len(b.fields) and all(map(_field_matches, a.fields, b.fields))
    if isinstance(a, ArrayType) and isinstance(b, ArrayType):
        return _field_matches(a.field, b.field)
    if isinstance(a, ContType) and isinstance(b, ContType):
        return id_matches(a.func - CONCRETE, b.func - CONCRETE)
    return False


def _field_matches(a: FieldType, b: FieldType) -> bool:
    """Whether field `a` is a subtype of `b`: covariant, and invariant when they can be written."""
    return a.mutable == b.mutable and matches(a.storage, b.storage) and (not a.mutable or matches(b.storage, a.storage))


def _limits_match(a: Limits, b: Limits) -> bool:
    """Whether a table or memory with limits `a` fits where `b` is asked for (Core 3.0, 3.3.12)."""
    return a.min >= b.min and (b.max is None or (a.max is not None and a.max <= b.max))


def matches_extern(
    have: int | TableType | MemoryType | GlobalType | TagType,
    want: int | TableType | MemoryType | GlobalType | TagType,
) -> bool:
    """Whether what is provided fits an import (Core 3.0, 3.3.16): equal kinds, and a subtype.

    Functions are given as the canonical id of their type. The minimum of a table or memory that is provided is its
    current size.
    """
    if isinstance(have, TableType) and isinstance(want, TableType):
        return (
            have.is64 == want.is64
            and matches(have.element, want.element)
            and matches(want.element, have.element)
            and _limits_match(have.limits, want.limits)
        )
    if isinstance(have, MemoryType) and isinstance(want, MemoryType):
        return (
            have.is64 == want.is64
            and have.shared == want.shared
            and have.page_size_log2 == want.page_size_log2
            and _limits_match(have.limits, want.limits)
        )
    if isinstance(have, GlobalType) and isinstance(want, GlobalType):
        return (
            have.mutable == want.mutable
            and matches(have.content, want.content)
            and (not have.mutable or matches(want.content, have.content))
        )
    if isinstance(have, TagType) and isinstance(want, TagType):
        return have.type == want.type
    return type(have) is int and type(want) is int and is_sub(have, want)
