# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Tags, and exceptions that cross between guest and host (Core 3.0, 4.2.9 and 4.5.1)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.host.bridge import from_word, to_word
from cython.cimports.wasmloom.runtime._layout import WlException, WlTag
from cython.cimports.wasmloom.runtime.stacks import new_exception
from cython.cimports.wasmloom.runtime.store import Store

from wasmloom.errors import Trap, WasmException
from wasmloom.host.types import as_func_type
from wasmloom.runtime.traps import OUT_OF_MEMORY, TRAP_REASONS
from wasmloom.spec.canon import func_type, intern_func_type


@cython.cclass
class Tag:
    """A tag: ``Tag(store, "i32 i32")``. What exceptions are told apart by; every one is different from all others.

    `type`: a `FuncType`, or its text; its parameters are the values that an exception with this tag carries.
    """

    def __init__(self, store: Store, type: object) -> None:
        if isinstance(type, str) and "->" not in type:
            type = f"{type} ->"
        self.type = as_func_type(type)
        self._store = store
        self.pointer = new_tag(store, intern_func_type(self.type))

    @property
    def store(self) -> Store:
        """The store that the tag lives in."""
        return self._store

    @property
    def type_id(self) -> int:
        """The canonical id of the tag's type."""
        return self.pointer.type_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tag) and self.pointer == cython.cast(Tag, other).pointer

    def __hash__(self) -> int:
        return hash(cython.cast(uint64_t, self.pointer))

    def __repr__(self) -> str:
        return f"<wasmloom.Tag {' '.join(map(str, self.type.params))}>"


@cython.cfunc
def tag_at(store: Store, tag: cython.pointer(WlTag)) -> Tag:
    """The Python object of a tag."""
    result: Tag = Tag.__new__(Tag)
    result._store = store
    result.pointer = tag
    result.type = func_type(tag.type_id)
    return result


@cython.cfunc
@cython.exceptval(check=True)
def new_tag(store: Store, type_id: uint64_t) -> cython.pointer(WlTag):
    """A new tag, which belongs to the store."""
    tag: cython.pointer(WlTag) = cython.cast(cython.pointer(WlTag), store.allocate(cython.sizeof(WlTag)))
    tag.type_id = type_id
    return tag


@cython.cfunc
def exception_of(store: Store, word: uint64_t) -> object:
    """The Python exception for a guest's."""
    exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), word)
    words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), exception + 1)
    tag: Tag = tag_at(store, cython.cast(cython.pointer(WlTag), exception.tag))
    i: cython.size_t
    values: list = []
    for i in range(exception.count):
        values.append(from_word(store, tag.type.params[i], words[i]))
    return WasmException(tag, *values)


@cython.cfunc
@cython.exceptval(check=True)
def word_of_exception(store: Store, error: object) -> uint64_t:
    """The guest's exception for a Python `WasmException`; raises TypeError for values that don't fit the tag."""
    tag: Tag = error.tag
    payload: tuple = error.payload
    exception: cython.pointer(WlException)
    words: cython.pointer(uint64_t)
    i: cython.size_t
    count: cython.size_t = len(tag.type.params)
    if tag._store is not store:
        raise ValueError("the exception's tag belongs to another store")
    if len(payload) != count:
        raise TypeError(f"{tag!r} takes {count} values, not {len(payload)}")
    exception = new_exception(store.guest, count)
    if exception == cython.NULL:
        raise Trap(TRAP_REASONS[OUT_OF_MEMORY])
    words = cython.cast(cython.pointer(uint64_t), exception + 1)
    memset(words, 0, 8 * count)
    exception.tag = tag.pointer
    # Conversions can run anything, and nothing refers to the exception yet.
    store.guest.heap.holds += 1
    try:
        for i in range(count):
            to_word(store, tag.type.params[i], payload[i], words + i)
    finally:
        store.guest.heap.holds -= 1
    return cython.cast(uint64_t, exception)


def python_exception(store: Store, word: uint64_t) -> object:
    """The Python exception for a guest's; for the store, which lies below the host package."""
    return exception_of(store, word)


def guest_exception(store: Store, error: object) -> int:
    """The word of the guest's exception for a Python one; for the call bridge."""
    return word_of_exception(store, error)
