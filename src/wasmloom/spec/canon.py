# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Canonical types: one process-wide number per defined type, and subtyping over those numbers.

Two defined types are the same when their recursive groups are equal after references into the group have been replaced
by positions in it (iso-recursive equivalence, Core 3.0, 2.3.8 and 3.3.2). `intern_group` gives equal groups the same
ids, so types of different modules are compared by comparing numbers.

Groups live as long as something keeps them: a `Types` object of a module, store, function …, or a group that names
one of their types. So what stores an id, in bytecode, compiled code or a struct, has such an object, or belongs to
something that has. Ids are given in order, and used again only when all have been given once, so an id that has
outlived its type is found out, where ids come from Python (`is_val_type`), and means nothing else by then.

Invariant: all of this is changed with the GIL held, and nothing that changes it runs Python code in between
(allocating a dict's or an int's memory doesn't). The GIL is the lock: a finaliser can come at any other moment. Types
that the caller keeps alive are also read without it, by threads that validate: so a type stays where it is, and the
table of pages is replaced, never moved.

Everything here speaks canonical ids: `ValType`s hold ``CONCRETE + id`` where they name a defined type. Only the
arguments of `intern_group`, `canonical_heap` and `canonical_type` hold type indices.

``canon.pxd`` gives compiled code the same without Python objects: `type_info`, `id_matches`, `heap_matches`,
`type_matches`, `top_heap`, `structure_matches`, `intern_words`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cython
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.ref import Py_DECREF, Py_INCREF
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.spec.canon import (
    _ABOVE,
    _ABSTRACT_MATCHES,
    _BELOW,
    _TOP,
    ARRAY,
    CONT,
    FUNC,
    HEAD,
    INNER,
    MUTABLE,
    PAGE_BITS,
    PAGE_SIZE,
    STRUCT,
    TypeInfo,
    TypePage,
    Words,
    _n_pages,
    _next,
    _pages,
)
from cython.cimports.wasmloom.system._capi import delete_item, seal
from cython.cimports.wasmloom.system.allocation import calloc, realloc

from wasmloom.errors import ValidationError
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    EXACT_FLAG,
    F64,
    HEAP_SHIFT,
    I8,
    I16,
    I32,
    NULL_FLAG,
    REF_FLAG,
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
_EXACT_FLAG = cython.declare(uint64_t, EXACT_FLAG)
#: What a reference type has besides its heap type.
_FLAGS = cython.declare(uint64_t, REF_FLAG | NULL_FLAG | EXACT_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_F64 = cython.declare(uint64_t, int(F64))
_I8 = cython.declare(uint64_t, int(I8))
_I16 = cython.declare(uint64_t, int(I16))
_I32 = cython.declare(uint64_t, int(I32))
_V128 = cython.declare(uint64_t, int(V128))
_ALL_FLAGS = REF_FLAG | NULL_FLAG | EXACT_FLAG
#: Ids are less than this.
_MOST_IDS = cython.declare(uint64_t, 0xFFFF0000)


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
@cython.nogil
@cython.exceptval(check=False)
def type_info(id: uint32_t) -> cython.pointer(TypeInfo):
    """The type with a canonical id, which must exist: the caller keeps it alive, or knows what does."""
    return _pages[id >> PAGE_BITS].types[id & (PAGE_SIZE - 1)]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def find_type(id: uint64_t) -> cython.pointer(TypeInfo):
    """The type with a canonical id, or NULL."""
    if id >> PAGE_BITS >= _n_pages or _pages[id >> PAGE_BITS] == cython.NULL:
        return cython.NULL
    return type_info(cython.cast(uint32_t, id))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def is_val_type(t: uint64_t) -> cython.bint:
    """Whether a word is a value type that exists now."""
    heap: uint64_t = t >> _HEAP_SHIFT
    if not t & _REF_FLAG:
        return _F64 <= t <= _I32 or t == _V128
    if heap < _CONCRETE:
        return heap < 128 and _TOP[heap] != 0 and not t & 0xFF
    return find_type(heap - _CONCRETE) != cython.NULL and not t & 0xFF & ~_EXACT_FLAG


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def id_matches(a: uint32_t, b: uint32_t) -> cython.bint:
    """Whether the defined type `a` is `b` or has it among its declared supertypes (Core 3.0, 3.3.2)."""
    target: cython.pointer(TypeInfo)
    info: cython.pointer(TypeInfo)
    if a == b:
        return True
    target = type_info(b)
    info = type_info(a)
    while info.depth > target.depth:
        info = info.above
    return info == target


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def heap_matches(a: uint64_t, b: uint64_t) -> cython.bint:
    """Whether heap type `a` is a subtype of `b` (Core 3.0, 3.3.3); the heap type 0 is below all others."""
    if a == b or a == 0:
        return True
    if b >= _CONCRETE:
        if a >= _CONCRETE:
            return id_matches(cython.cast(uint32_t, a - _CONCRETE), cython.cast(uint32_t, b - _CONCRETE))
        return a == _BELOW[type_info(cython.cast(uint32_t, b - _CONCRETE)).kind]
    if a >= _CONCRETE:
        a = _ABOVE[type_info(cython.cast(uint32_t, a - _CONCRETE)).kind]
    return _ABSTRACT_MATCHES[(a & 0x7F) * 128 + (b & 0x7F)]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def type_matches(a: uint64_t, b: uint64_t) -> cython.bint:
    """Whether value type `a` is a subtype of `b` (Core 3.0, 3.3.5; custom descriptors); 0 is the bottom type."""
    if a == b or a == 0:
        return True
    if not (a & _REF_FLAG and b & _REF_FLAG) or (a & _NULL_FLAG and not b & _NULL_FLAG):
        return False
    if b & _EXACT_FLAG and a >> _HEAP_SHIFT >= _CONCRETE:
        return a & _EXACT_FLAG and a >> _HEAP_SHIFT == b >> _HEAP_SHIFT
    return heap_matches(a >> _HEAP_SHIFT, b >> _HEAP_SHIFT)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def top_heap(heap: uint64_t) -> uint64_t:
    """The abstract heap type at the top of `heap`'s hierarchy."""
    if heap >= _CONCRETE:
        heap = _ABOVE[type_info(cython.cast(uint32_t, heap - _CONCRETE)).kind]
    return _TOP[heap & 0x7F]


# --- groups: made, kept, freed ---

INNER = 1 << 32  # noqa: F811  (declared in canon.pxd)
MUTABLE = 1 << 63  # noqa: F811
#: Group, as the bytes of its `Words` → address of its first type.
# Not a name of the module, which is gone when the last types go while Python ends.
_groups = cython.declare(dict, {})


@cython.cfunc
@cython.exceptval(-1, check=False)
def put(words: cython.pointer(Words), word: uint64_t) -> cython.int:
    """Append to a group that is being described."""
    room: uint64_t
    grown: cython.p_void
    if words.count == words.room:
        room = words.room * 2 + 64
        grown = realloc(words.items, room * cython.sizeof(uint64_t))
        if grown == cython.NULL:
            raise MemoryError
        words.items = cython.cast(cython.pointer(uint64_t), grown)
        words.room = room
    words.items[words.count] = word
    words.count += 1
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def types_of(words: cython.pointer(cython.const[uint64_t])) -> uint64_t:
    """How many types a member's description ends with."""
    if words[0] & 0xFF == CONT:
        return 1
    return cython.cast(uint32_t, words[2]) + (words[2] >> 32)


@cython.cfunc
@cython.exceptval(check=False)
def _are_known(words: cython.pointer(Words)) -> cython.bint:
    """Whether all types of other groups that a group names exist."""
    word: uint64_t
    at: uint64_t = 0
    end: uint64_t
    while at < words.count:
        if words.items[at] & 512 and not words.items[at + 1] & INNER and find_type(words.items[at + 1]) == cython.NULL:
            return False
        end = at + HEAD + types_of(words.items + at)
        if words.items[at] & 0xFF == CONT:
            word = words.items[at + HEAD]
            if not word & INNER and find_type(word) == cython.NULL:
                return False
            at = end
            continue
        at += HEAD
        while at < end:
            word = (words.items[at] & ~MUTABLE) >> _HEAP_SHIFT
            if (
                words.items[at] & _REF_FLAG
                and word >= _CONCRETE
                and not (word - _CONCRETE) & INNER
                and find_type(word - _CONCRETE) == cython.NULL
            ):
                return False
            at += 1
    return True


@cython.cfunc
@cython.exceptval(check=False)
def _free_ids(count: uint32_t) -> uint64_t:
    """The first of `count` ids in a row that are free; `_MOST_IDS` when there are none."""
    global _next
    looked: uint64_t = 0
    run: uint64_t = 0
    while run < count:
        if _next == _MOST_IDS:
            _next = run = 0
        if looked > 2 * _MOST_IDS:
            return _MOST_IDS
        run = run + 1 if find_type(_next) == cython.NULL else 0
        _next += 1
        looked += 1
    return _next - run


@cython.cfunc
@cython.exceptval(check=False)
def _make_pages(first: uint64_t, count: uint64_t) -> cython.bint:
    """Make room for ids; False when there is no memory."""
    global _pages, _n_pages
    page: uint64_t
    room: uint64_t = _n_pages
    grown: cython.pointer(cython.pointer(TypePage))
    for page in range(first >> PAGE_BITS, ((first + count - 1) >> PAGE_BITS) + 1):
        if page >= _n_pages:
            room = max(2 * _n_pages, page + 1)
            grown = cython.cast(
                cython.pointer(cython.pointer(TypePage)), calloc(room + 1, cython.sizeof(cython.pointer(TypePage)))
            )
            if grown == cython.NULL:
                return False
            # The old one stays, for threads that read it; all old ones together are smaller than the new one.
            grown[0] = cython.cast(cython.pointer(TypePage), _pages)
            grown += 1
            memcpy(grown, _pages, _n_pages * cython.sizeof(cython.pointer(TypePage)))
            _pages = grown
            _n_pages = room
        if _pages[page] == cython.NULL:
            _pages[page] = cython.cast(cython.pointer(TypePage), calloc(1, cython.sizeof(TypePage)))
            if _pages[page] == cython.NULL:
                return False
    return True


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _inner(number: uint64_t, first: uint64_t) -> uint64_t:
    """A number in `Words` as a canonical id."""
    return first + (number & ~INNER) if number & INNER else number


@cython.cfunc
@cython.exceptval(check=False)
def _new_info(words: cython.pointer(uint64_t), first: uint64_t, id: uint64_t) -> cython.pointer(TypeInfo):
    """The C description of a member of the group whose ids begin with `first`; NULL when there is no memory."""
    n: uint64_t = types_of(words)
    i: uint64_t
    t: uint64_t
    info: cython.pointer(TypeInfo) = cython.cast(
        cython.pointer(TypeInfo), calloc(1, cython.sizeof(TypeInfo) + n * (cython.sizeof(uint64_t) + 1))
    )
    if info == cython.NULL:
        return cython.NULL
    info.id = cython.cast(uint32_t, id)
    info.kind = words[0] & 0xFF
    info.final = words[0] & 256 != 0
    info.n_params = cython.cast(uint32_t, words[2])
    info.n_results = cython.cast(uint32_t, words[2] >> 32)
    info.types = cython.cast(cython.pointer(uint64_t), info + 1)
    info.mutable = cython.cast(cython.p_uchar, info.types + n)
    if info.kind == CONT:
        info.func = cython.cast(uint32_t, _inner(words[HEAD], first))
        return info
    for i in range(n):
        t = words[HEAD + i] & ~MUTABLE
        info.mutable[i] = words[HEAD + i] & MUTABLE != 0
        if t & _REF_FLAG and t >> _HEAP_SHIFT >= _CONCRETE:
            t = (t & _FLAGS) | (
                _CONCRETE + _inner((t >> _HEAP_SHIFT) - _CONCRETE, first)
            ) << _HEAP_SHIFT
        info.types[i] = t
    return info


@cython.cfunc
@cython.exceptval(check=False)
def _named(info: cython.pointer(TypeInfo), i: uint64_t) -> cython.pointer(TypeInfo):
    """The types that a type's definition names, for `i` from 0 to the number of its types + 1; NULL: none here."""
    n: uint64_t = info.n_params + info.n_results
    if i == n:
        return info.above
    if i > n:
        return type_info(info.func) if info.kind == CONT else cython.NULL
    if info.types[i] & _REF_FLAG and info.types[i] >> _HEAP_SHIFT >= _CONCRETE:
        return type_info(cython.cast(uint32_t, (info.types[i] >> _HEAP_SHIFT) - _CONCRETE))
    return cython.NULL


@cython.cfunc
@cython.exceptval(check=False)
def _forget(first: uint64_t, count: uint64_t) -> cython.void:
    """Free the C descriptions of ids in a row, and pages that have become empty."""
    id: uint64_t
    info: cython.pointer(TypeInfo)
    page: cython.pointer(TypePage)
    for id in range(first, first + count):
        page = _pages[id >> PAGE_BITS]
        info = page.types[id & (PAGE_SIZE - 1)]
        if info != cython.NULL:
            page.types[id & (PAGE_SIZE - 1)] = cython.NULL
            page.count -= 1
            free(info.layout)
            free(info)
        if page.count == 0 and (id & (PAGE_SIZE - 1) == PAGE_SIZE - 1 or id == first + count - 1):
            _pages[id >> PAGE_BITS] = cython.NULL
            free(page)


@cython.cfunc
@cython.exceptval(check=False)
def _set_descriptor(info: cython.pointer(TypeInfo), places: uint64_t, first: uint64_t) -> cython.void:
    """Set a type's descriptor and what it describes, whose places in its group these are.

    A descriptor lies before the fields that come with the first type that has one: so it and the fields of supertypes
    are in the same places in all types below.
    """
    above: cython.pointer(TypeInfo) = info.above
    place: uint64_t = cython.cast(uint32_t, places)
    if places >> 32:
        info.describes = type_info(cython.cast(uint32_t, first + (places >> 32) - 1))
    if place:
        info.descriptor = type_info(cython.cast(uint32_t, first + place - 1))
        if above != cython.NULL:
            info.descriptor_at = above.descriptor_at if above.descriptor != cython.NULL else above.n_params


@cython.cfunc
@cython.exceptval(check=True)
def _new_group(words: cython.pointer(Words), members: uint32_t, key: bytes) -> cython.pointer(TypeInfo):
    """Make a group that isn't there yet; nothing keeps it. What it names exists."""
    first: uint64_t = _free_ids(members)
    at: uint64_t = 0
    i: uint64_t
    k: uint64_t
    info: cython.pointer(TypeInfo)
    group: cython.pointer(TypeInfo)
    other: cython.pointer(TypeInfo)
    page: cython.pointer(TypePage)
    if first == _MOST_IDS:
        raise ValidationError("too many types in this process")
    if not _make_pages(first, members):
        raise MemoryError
    for i in range(members):
        info = _new_info(words.items + at, first, first + i)
        if info == cython.NULL:
            _forget(first, members)
            raise MemoryError
        page = _pages[(first + i) >> PAGE_BITS]
        page.types[(first + i) & (PAGE_SIZE - 1)] = info
        page.count += 1
        if words.items[at] & 512:  # a supertype of the same group comes before its subtypes
            info.above = type_info(cython.cast(uint32_t, _inner(words.items[at + 1], first)))
            info.depth = info.above.depth + 1
        at += HEAD + types_of(words.items + at)
    at = 0
    for i in range(members):
        info = type_info(cython.cast(uint32_t, first + i))
        _set_descriptor(info, words.items[at + 3], first)
        at += HEAD + types_of(words.items + at)
    group = type_info(cython.cast(uint32_t, first))
    try:
        _groups[key] = cython.cast(uint64_t, group)
    except BaseException:
        _forget(first, members)
        raise
    group.members = members
    Py_INCREF(key)
    group.key = cython.cast(cython.pointer(PyObject), key)
    for i in range(members):
        type_info(cython.cast(uint32_t, first + i)).group = group
    for i in range(members):
        info = type_info(cython.cast(uint32_t, first + i))
        for k in range(info.n_params + info.n_results + 2):
            other = _named(info, k)
            if other != cython.NULL and other.group != group:
                other.group.users += 1
    return group


@cython.cfunc
@cython.exceptval(check=False)
def _drop(owned: cython.pointer(PyObject)) -> cython.void:
    """Let go of an object that a type owns."""
    if owned != cython.NULL:
        Py_DECREF(cython.cast(object, owned))


@cython.cfunc
@cython.exceptval(check=False)
def _release(group: cython.pointer(TypeInfo)) -> cython.void:
    """One user less of a group; without any it goes, with all groups that only it has used. Not by recursion."""
    info: cython.pointer(TypeInfo)
    other: cython.pointer(TypeInfo)
    dead: cython.pointer(TypeInfo) = cython.NULL
    i: uint64_t
    k: uint64_t
    first: uint64_t
    count: uint64_t
    group.users -= 1
    if group.users == 0:
        group.next = cython.NULL
        dead = group
    while dead != cython.NULL:
        group = dead
        dead = group.next
        first = group.id
        count = group.members
        for i in range(count):
            info = type_info(cython.cast(uint32_t, first + i))
            for k in range(info.n_params + info.n_results + 2):
                other = _named(info, k)
                if other != cython.NULL and other.group != group:
                    other = other.group
                    other.users -= 1
                    if other.users == 0:
                        other.next = dead
                        dead = other
        delete_item(cython.cast(cython.pointer(PyObject), _groups), group.key)  # it is there: nothing to raise
        _drop(group.key)
        for i in range(count):
            info = type_info(cython.cast(uint32_t, first + i))
            _drop(info.definition)
            _drop(info.signature)
        _forget(first, count)


@cython.cclass
class Types:
    """What keeps types alive: all those that have been interned with it, and those given to `keep`."""

    def __dealloc__(self) -> None:
        i: uint64_t
        for i in range(self.count):
            _release(self.groups[i])
        free(self.groups)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def make_room(self) -> cython.int:
        """Make room for one group more."""
        room: uint64_t
        grown: cython.p_void
        if self.count == self.room:
            room = 2 * self.room + 1
            grown = realloc(self.groups, room * cython.sizeof(cython.p_void))
            if grown == cython.NULL:
                raise MemoryError
            self.groups = cython.cast(cython.pointer(cython.pointer(TypeInfo)), grown)
            self.room = room
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def keep(self, id: uint64_t) -> cython.int:
        """Keep a type. Raises `ValueError` when there is none with this id (any more)."""
        info: cython.pointer(TypeInfo)
        self.make_room()
        info = find_type(id)
        if info == cython.NULL:
            raise ValueError(f"unknown type {id}: what defined it is gone")
        self.groups[self.count] = info.group
        self.count += 1
        info.group.users += 1
        return 0


seal(Types)


@cython.ccall
def new_types() -> Types:
    """A `Types` that keeps nothing yet."""
    return Types.__new__(Types)


def exists(t: int) -> bool:
    """Whether a number is a value type, and what it names has not gone."""
    return 0 <= t < 1 << 62 and is_val_type(t)


def keep_type(keeper: Types, t: int) -> None:
    """Keep what a value type names. Raises `ValueError` for what isn't a value type, or names a type that is gone."""
    if t & REF_FLAG and t >> HEAP_SHIFT >= CONCRETE:
        keeper.keep((t >> HEAP_SHIFT) - CONCRETE)
    elif not is_val_type(t):
        raise ValueError(f"{t!r} is not a value type")


@cython.cfunc
@cython.exceptval(-1, check=False)
def intern_words(keeper: Types, words: cython.pointer(Words), members: uint32_t) -> int64_t:
    """The id of the first type of a group, which `keeper` keeps from now on.

    Raises `ValueError` when a type that it names is gone, and `ValidationError` when there are too many types.
    """
    group: cython.pointer(TypeInfo)
    key: bytes = cython.cast(cython.p_char, words.items)[: 8 * words.count]
    keeper.make_room()
    found = _groups.get(key)
    if found is not None:
        group = cython.cast(cython.pointer(TypeInfo), cython.cast(uint64_t, found))
    elif not _are_known(words):
        raise ValueError("unknown type: what defined it is gone")
    else:
        group = _new_group(words, members, key)
    keeper.groups[keeper.count] = group
    keeper.count += 1
    group.users += 1
    return group.id


# --- what groups are made of, in Python ---


@cython.final
@cython.cclass
class _Description:
    """A group on its way to `Words`: what its type indices stand for, and where it is from."""

    words = cython.declare(Words)
    ids = cython.declare(object)  # canonical ids of the types before it; None: it has canonical ids
    base = cython.declare(int64_t)
    end = cython.declare(int64_t)
    position = cython.declare(int64_t)
    offsets = cython.declare(object)

    def __dealloc__(self) -> None:
        free(self.words.items)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def fail(self, message: str) -> int64_t:
        raise ValidationError(message, self.offsets[self.position] if self.offsets else None)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def number(self, index: int64_t) -> int64_t:
        """What `Words` have for a type index."""
        if self.ids is None:
            return index
        if index < self.base:
            return self.ids[index]
        if index >= self.end:
            return self.fail(f"unknown type {index}")
        return INNER | cython.cast(uint64_t, index - self.base)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def value(self, t: uint64_t, more: uint64_t, packs: cython.bint = False) -> cython.int:
        """Put a value type, or a storage type, which may be packed."""
        heap: uint64_t = t >> _HEAP_SHIFT
        if self.ids is None and not is_val_type(t) and not (packs and (t == _I8 or t == _I16)):
            raise ValueError(f"{ValType(t)!r} is not a value type" + (": what defined it is gone" if heap else ""))
        if t & _REF_FLAG and heap >= _CONCRETE:
            heap = _CONCRETE + self.number(heap - _CONCRETE)
            t = (t & _FLAGS) | heap << _HEAP_SHIFT
        return put(cython.address(self.words), t | more)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def place(self, index: object, message: str) -> int64_t:
        """1 more than the place in the group of a type that a clause names; 0: there is no clause."""
        if index is None:
            return 0
        if self.ids is None or not self.base <= index < self.end:
            return self.fail(f"{message} type is outside rec group")
        return index - self.base + 1

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def member(self, sub: object) -> cython.int:
        """Put a member."""
        composite: object = sub.composite
        supers: tuple = sub.supers
        words: cython.pointer(Words) = cython.address(self.words)
        flags: uint64_t = (256 if sub.final else 0) | (512 if supers else 0)
        for above in supers:
            if self.ids is not None and above >= self.base + self.position:
                self.fail(f"unknown type {above}: a supertype must be defined before its subtype")
        if len(supers) > 1:
            self.fail("sub type: at most one supertype is allowed")
        above = self.number(supers[0]) if supers else 0
        places: uint64_t = self.place(sub.descriptor, "descriptor")
        places |= cython.cast(uint64_t, self.place(sub.describes, "described")) << 32
        if isinstance(composite, FuncType):
            params: tuple = composite.params
            results: tuple = composite.results
            put(words, FUNC | flags)
            put(words, above)
            put(words, len(params) | cython.cast(uint64_t, len(results)) << 32)
            put(words, places)
            for t in params:
                self.value(t, 0)
            for t in results:
                self.value(t, 0)
        elif isinstance(composite, ContType):
            put(words, CONT | flags)
            put(words, above)
            put(words, 0)
            put(words, places)
            put(words, self.number(composite.func - CONCRETE))
        else:
            fields: tuple = composite.fields if isinstance(composite, StructType) else (composite.field,)
            put(words, (STRUCT if isinstance(composite, StructType) else ARRAY) | flags)
            put(words, above)
            put(words, len(fields))
            put(words, places)
            for field in fields:
                self.value(field.storage, MUTABLE if field.mutable else 0, True)
        return 0


seal(_Description)


def intern_group(
    group: Sequence[SubType], ids: Sequence[int], keeper: Types, offsets: Sequence[int | None] = ()
) -> list[int]:
    """The canonical ids of the members of a recursive group, which `keeper` keeps from now on.

    `group` holds type indices, the first member's index being ``len(ids)``; `ids` are the canonical ids of the types
    before it, which something keeps; `offsets` say where each member is defined, for errors. Raises `ValidationError`
    ("unknown type …") for an index beyond the group, and for a supertype that isn't defined before the type that names
    it. Other conditions on supertypes are validation's (Core 3.0, 3.2.12).
    """
    made: _Description = _Description.__new__(_Description)
    first: int64_t
    if not group:
        return []
    made.ids = ids
    made.base = len(ids)
    made.end = made.base + len(group)
    made.offsets = offsets
    for sub in group:
        made.member(sub)
        made.position += 1
    first = intern_words(keeper, cython.address(made.words), cython.cast(uint32_t, len(group)))
    return list(range(first, first + len(group)))


def intern_func_type(func: FuncType, keeper: Types) -> int:
    """The canonical id of a final function type without supertypes, whose heap types are canonical already.

    `keeper` keeps it from now on. Raises `ValueError` for types that don't exist (any more).
    """
    return intern_composite(func, keeper)


def intern_composite(composite: FuncType | StructType | ArrayType, keeper: Types) -> int:
    """The same of a type of any kind."""
    made: _Description = _Description.__new__(_Description)
    made.member(SubType(composite))
    return intern_words(keeper, cython.address(made.words), 1)


def sub_type(id: int) -> SubType:
    """The definition of a canonical type, with canonical heap types and supertypes. Raises `ValueError`."""
    info: cython.pointer(TypeInfo) = find_type(id)
    definition: object
    if info == cython.NULL:
        raise ValueError(f"unknown type {id}")
    if info.definition == cython.NULL:
        info.group.users += 1  # what is made here may run finalisers, in which the type's last user may go
        try:
            definition = _definition(info)
            if info.definition == cython.NULL:
                Py_INCREF(definition)
                info.definition = cython.cast(cython.pointer(PyObject), definition)
        finally:
            _release(info.group)
        return definition
    return cython.cast(object, info.definition)


def group_of(id: int) -> range:
    """The ids of the recursive group that a canonical type is in. Raises `ValueError`."""
    info: cython.pointer(TypeInfo) = find_type(id)
    if info == cython.NULL:
        raise ValueError(f"unknown type {id}")
    return range(info.group.id, info.group.id + info.group.members)


@cython.cfunc
def _definition(info: cython.pointer(TypeInfo)) -> object:
    """Make the Python object of a type."""
    n: uint64_t = info.n_params
    composite: object
    if info.kind == FUNC:
        composite = FuncType(
            tuple([ValType(info.types[i]) for i in range(n)]),
            tuple([ValType(info.types[n + i]) for i in range(info.n_results)]),
        )
    elif info.kind == CONT:
        composite = ContType(CONCRETE + info.func)
    else:
        fields = tuple([FieldType(ValType(info.types[i]), bool(info.mutable[i])) for i in range(n)])
        composite = StructType(fields) if info.kind == STRUCT else ArrayType(fields[0])
    return SubType(
        composite,
        () if info.above == cython.NULL else (info.above.id,),
        bool(info.final),
        None if info.descriptor == cython.NULL else info.descriptor.id,
        None if info.describes == cython.NULL else info.describes.id,
    )


def func_type(id: int) -> FuncType:
    """The function type with a canonical id; raises `TypeError` when it is another kind of type."""
    composite = sub_type(id).composite
    if not isinstance(composite, FuncType):
        raise TypeError(f"type {id} is not a function type")
    return composite


class DefinedType(ValType):
    """A value type that names a type of some module, and keeps that alive: what users get to see of such types."""

    types: Types


def lasting(type: Any) -> Any:
    """A value, function, global or table type for users: types of modules that it names live as long as it."""
    if isinstance(type, ValType):
        if not type & REF_FLAG or type >> HEAP_SHIFT < CONCRETE:
            return type
        made = DefinedType(type)
        made.types = new_types()
        keep_type(made.types, type)
        return made
    if isinstance(type, FuncType):
        for t in (*type.params, *type.results):
            if t & REF_FLAG and t >> HEAP_SHIFT >= CONCRETE:
                return FuncType(tuple([lasting(t) for t in type.params]), tuple([lasting(t) for t in type.results]))
    elif isinstance(type, GlobalType):
        return type._replace(content=lasting(type.content))
    elif isinstance(type, TableType):
        return type._replace(element=lasting(type.element))
    return type


def count_types() -> int:
    """How many types there are; for tests and diagnostics."""
    page: uint64_t
    total: uint64_t = 0
    for page in range(_n_pages):
        if _pages[page] != cython.NULL:
            total += _pages[page].count
    return total


def skip_ids(next: int) -> None:
    """Go on with this id when types are made; for tests."""
    global _next
    _next = next


def canonical_heap(heap: int, ids: Sequence[int]) -> int:
    """A heap type with its type index replaced by the canonical id; `ValidationError` when there is no such type."""
    if heap < CONCRETE:
        return heap
    index = (heap & ~EXACT) - CONCRETE
    if index >= len(ids):
        raise ValidationError(f"unknown type {index}")
    return CONCRETE + ids[index] + (heap & EXACT)


def canonical_type(t: ValType, ids: Sequence[int]) -> ValType:
    """A value type with its type index replaced by the canonical id; `ValidationError` when there is no such type."""
    if not t & REF_FLAG or t >> HEAP_SHIFT < CONCRETE:
        return t
    return ValType((t & _ALL_FLAGS) | canonical_heap(t >> HEAP_SHIFT, ids) << HEAP_SHIFT)


def is_sub(a: int, b: int) -> bool:
    """Whether the defined type with id `a` is a subtype of that with id `b`."""
    return id_matches(a, b)


def matches(a: int, b: int) -> bool:
    """Whether value type `a` is a subtype of value type `b`."""
    return type_matches(a, b)


@cython.cfunc
@cython.exceptval(check=False)
def structure_matches(a: cython.pointer(TypeInfo), b: cython.pointer(TypeInfo)) -> cython.bint:
    """Whether the composite type of `a` is a subtype of that of `b` (Core 3.0, 3.3.8 to 3.3.11).

    A field is covariant, and invariant when it can be written.
    """
    k: uint32_t
    if a.kind != b.kind:
        return False
    if a.kind == CONT:
        return id_matches(a.func, b.func)
    if a.kind == FUNC:
        if a.n_params != b.n_params or a.n_results != b.n_results:
            return False
        for k in range(a.n_params + a.n_results):
            if k < a.n_params and not type_matches(b.types[k], a.types[k]):
                return False
            if k >= a.n_params and not type_matches(a.types[k], b.types[k]):
                return False
        return True
    if a.n_params < b.n_params:
        return False
    for k in range(b.n_params):
        if a.mutable[k] != b.mutable[k] or not type_matches(a.types[k], b.types[k]):
            return False
        if a.mutable[k] and not type_matches(b.types[k], a.types[k]):
            return False
    return True


def composite_matches(a: int, b: int) -> bool:
    """Whether the composite type of the defined type with id `a` is a subtype of that of `b`, whatever they declare."""
    return structure_matches(type_info(cython.cast(uint32_t, a)), type_info(cython.cast(uint32_t, b)))


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
