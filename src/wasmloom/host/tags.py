# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Tags, and exceptions that cross between guest and host (Core 3.0, 4.2.9 and 4.5.1)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.contract._layout import WlException, WlTag
from cython.cimports.wasmloom.host.bridge import BARE
from cython.cimports.wasmloom.host.conversions import check_store, from_word, set_conversion, to_word
from cython.cimports.wasmloom.host.signatures import KIND_EXN, Signature, signature_of
from cython.cimports.wasmloom.runtime.heap import Pin, pin
from cython.cimports.wasmloom.runtime.stacks import new_exception
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.system._capi import seal

from wasmloom.contract.traps import OUT_OF_MEMORY
from wasmloom.errors import WasmException
from wasmloom.host.types import as_func_type
from wasmloom.runtime.hooks import set_python_exception
from wasmloom.spec.canon import func_type, intern_func_type, lasting

_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)


@cython.no_gc_clear
@cython.cclass
class Tag:
    """A tag, which tells exceptions apart: ``Tag(store, "i32 i32")``. Every tag is different from all others.

    `type`: a `FuncType`, or its text; its parameters are the values that an exception with this tag carries.
    """

    def __cinit__(self, store: object, type: object) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        if isinstance(type, str) and "->" not in type:
            type = f"{type} ->"
        made = as_func_type(type)
        self.pointer = new_tag(owner, intern_func_type(made, owner.types))
        self.type = lasting(made)
        self._store = owner

    def __init__(self, store: Store, type: object) -> None:
        """See the class. `__cinit__` does the work, so no object is ever without its struct."""

    @property
    def store(self) -> Store:
        """The store that the tag lives in."""
        return self._store

    @property
    def address(self) -> int:
        """The address of the tag's struct: equal for equal tags."""
        return cython.cast(uint64_t, self.pointer)

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
    result: Tag = Tag.__new__(Tag, BARE, None)
    result._store = store
    result.pointer = tag
    result.type = lasting(func_type(cython.cast(uint64_t, tag.type_id)))
    return result


@cython.cfunc
@cython.exceptval(check=True)
def new_tag(store: Store, type_id: uint64_t) -> cython.pointer(WlTag):
    """A new tag, which belongs to the store."""
    tag: cython.pointer(WlTag) = cython.cast(cython.pointer(WlTag), store.allocate(cython.sizeof(WlTag)))
    tag.type_id = type_id
    return tag


@cython.no_gc_clear
@cython.cclass
class Reference:
    """A reference to an exception or a continuation, kept alive. Made by `hold`."""

    def __dealloc__(self) -> None:
        # The collector, which may be running in another thread, removes the pin.
        if self.pin != cython.NULL:
            self.pin.word = 0
            self.pin.held = 0

    @property
    def store(self) -> Store:
        """The store that it belongs to."""
        return self._store

    def payload(self) -> tuple:
        """The values of the exception that it refers to. Raises `TypeError` for a continuation."""
        if self.tag == cython.NULL:
            raise TypeError("a continuation has no payload")
        exception: cython.pointer(WlException) = cython.cast(cython.pointer(WlException), self.pin.word)
        words: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), exception + 1)
        signature = signature_of(cython.cast(cython.pointer(WlTag), exception.tag).type_id)
        self._store.lock()
        try:
            return tuple(
                [
                    from_word(self._store, signature.types[i], words + signature.places[i])
                    for i in range(signature.n_params)
                ]
            )
        finally:
            self._store.unlock()


seal(Reference)


@cython.cfunc
def hold(store: Store, word: uint64_t) -> Reference:
    """Keep what a reference names alive. Call with the store locked; raises `MemoryError`."""
    made: cython.pointer(Pin) = pin(cython.address(store.guest.heap), word)
    reference: Reference
    try:
        reference = Reference.__new__(Reference)
    except BaseException:
        made.word = made.held = 0
        raise
    reference._store = store
    reference.pin = made
    return reference


@cython.cfunc
def exception_of(store: Store, word: uint64_t) -> object:
    """The Python exception for a guest's. Its values, which may be many, are converted when they are asked for."""
    reference: Reference = hold(store, word)
    reference.tag = cython.cast(cython.pointer(WlTag), cython.cast(cython.pointer(WlException), word).tag)
    tag: Tag = tag_at(store, reference.tag)
    return WasmException.of_guest(tag, reference)


@cython.cfunc
@cython.exceptval(check=True)
def word_of_exception(store: Store, error: object) -> uint64_t:
    """The guest's exception for a Python `WasmException`: the same one, if it came from the guest.

    Raises `TypeError` for values that don't fit the tag, `ValueError` for a tag of another store. Anyone can
    change the attributes of Python's exceptions, so nothing here trusts them.
    """
    tag: Tag
    payload: tuple
    reference: object
    exception: cython.pointer(WlException)
    words: cython.pointer(uint64_t)
    signature: Signature
    i: cython.size_t
    found: object = getattr(error, "tag", None)
    if not isinstance(found, Tag):
        raise TypeError(f"a WasmException has a wasmloom.Tag, not {found!r:.60}")
    tag = found
    if tag._store is not store:
        raise ValueError("the exception's tag belongs to another store")
    reference = getattr(error, "reference", None)
    if reference is not None:
        if (
            not isinstance(reference, Reference)
            or cython.cast(Reference, reference)._store is not store
            or cython.cast(Reference, reference).tag != tag.pointer
        ):
            raise TypeError(f"the guest hasn't made this exception with {tag!r}, although it has a reference")
        return cython.cast(Reference, reference).pin.word
    payload = tuple(error.payload)
    signature = signature_of(tag.pointer.type_id)
    if len(payload) != signature.n_params:
        raise TypeError(f"{tag!r} takes {signature.n_params} values, not {len(payload)}")
    exception = new_exception(store.guest, signature.param_slots)
    if exception == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    words = cython.cast(cython.pointer(uint64_t), exception + 1)
    memset(words, 0, cython.sizeof(uint64_t) * signature.param_slots)
    exception.tag = tag.pointer
    # Conversions can run any code, and nothing refers to the exception yet.
    store.guest.heap.holds += 1
    try:
        for i in range(signature.n_params):
            to_word(store, signature.types[i], payload[i], words + signature.places[i])
    finally:
        store.guest.heap.holds -= 1
    return cython.cast(uint64_t, exception)


def python_exception(store: Store, word: uint64_t) -> object:
    """The Python exception for a guest's; for the store, which lies below the host package."""
    return exception_of(store, word)


set_python_exception(python_exception)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _exception_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """The exnref for a `WasmException`. Raises what `word_of_exception` raises."""
    if not isinstance(value, WasmException):
        raise TypeError(f"exnref takes a WasmException or None, not {value!r:.60}")
    word[0] = word_of_exception(store, value)
    return 0


@cython.cfunc
def _exception_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    """The `WasmException` for an exnref that isn't null."""
    return exception_of(store, word[0])


set_conversion(KIND_EXN, _exception_word, _exception_object)
