# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Objects of a store as values, and objects made of such values: structs, arrays and i31s, for snapshots.

References of the "any" and "extern" hierarchies are told word by word, because Python's values of them don't tell all:
an i31 and an int of the host are the same there. Words never leave this module. What isn't one of these references is
left to the caller (`other`).

Invariants: from the first word that is read or written to the last one the collector doesn't run (`heap.holds`), since
it doesn't see these words. An object gets no reference that isn't of its field's type, and an immutable global none
that its initialiser couldn't have had as far as types and lengths go: the compiler may rely on these.
"""

from __future__ import annotations

from typing import Any

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import int32_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract._layout import HOST_TAG, I31_TAG, OBJECT_STRUCT, WlObject, WlSegment, WlType
from cython.cimports.wasmloom.host.conversions import from_word, host_object, to_word
from cython.cimports.wasmloom.host.externs import Global, Table
from cython.cimports.wasmloom.host.signatures import KIND_ANY, KIND_EXTERN, kind_of
from cython.cimports.wasmloom.host.state import InstanceState
from cython.cimports.wasmloom.runtime.objects import (
    elements_of,
    info_of,
    layout_of,
    new_array,
    new_struct,
    storage_bytes,
)
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.spec.canon import ARRAY, STRUCT, TypeInfo, heap_matches, type_info, type_matches
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.polling import poll

from wasmloom.errors import WasmError
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, CONCRETE, EXACT_FLAG, HEAP_SHIFT, NULL_FLAG, REF_FLAG, ValType

_REF = cython.declare(uint64_t, REF_FLAG)
_NULL = cython.declare(uint64_t, NULL_FLAG)
_EXACT = cython.declare(uint64_t, EXACT_FLAG)
_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_ANY = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["any"])
_EXTERN = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["extern"])
_I31 = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["i31"])


@cython.cfunc
@cython.exceptval(check=False)
def _exactly(info: cython.pointer(TypeInfo)) -> uint64_t:
    """The type of references to objects of a type."""
    return _REF | _EXACT | (_CONCRETE + info.id) << _SHIFT


@cython.cfunc
@cython.exceptval(-1, check=False)
def _is_told(type: uint64_t) -> cython.int:
    """Whether references of a type are told word by word."""
    kind: cython.int = kind_of(type)
    is_one: cython.bint = kind == cython.cast(cython.int, KIND_ANY) or kind == cython.cast(cython.int, KIND_EXTERN)
    return type & _REF != 0 and is_one


def is_told(type: int) -> bool:
    """Whether references of a type are of the "any" or "extern" hierarchy."""
    return _is_told(type) != 0


def type_of_object(decoded: DecodedModule, index: int) -> tuple[bool, list[int]] | None:
    """What objects of a module's type consist of: whether they are arrays, and the storage types of their fields.
    None: there are no objects of that type."""
    info: cython.pointer(TypeInfo)
    if not 0 <= index < decoded.num_types:
        return None
    info = type_info(decoded.type_id[cython.cast(uint32_t, index)])
    if info.kind not in (STRUCT, ARRAY):
        return None
    storages = [info.types[i] for i in range(info.n_params if info.kind == STRUCT else 1)]
    if info.descriptor != cython.NULL:  # told like a field behind the last one
        storages.append(_exactly(info.descriptor))
    return info.kind == ARRAY, storages


def storage_size(storage: int) -> int:
    """The bytes of a field or an element; 0 of a reference."""
    return 0 if storage & REF_FLAG else storage_bytes(storage)


@cython.no_gc_clear
@cython.cclass
class Reading:
    """Tells the references of a store, and the objects that these lead to, in the order in which they are met.

    An int stands for an i31. `thing`: makes of a number what stands for the object with that number. `name`: called
    with an object of the host and where it is, gives what stands for it. `other`: the same for references of other
    hierarchies, with their Python value, type, and where. Call `end` when all has been read.
    """

    def __cinit__(self, store: Store, thing: object, name: object, other: object) -> None:
        self.store, self.thing, self.name, self.other = store, thing, name, other
        self.numbers, self.met = {}, []
        store.lock()
        store.guest.heap.holds += 1
        self.holds = True

    def end(self) -> None:
        """Let the collector run again. Call in the thread that has made this, once."""
        if self.holds:
            self.holds = False
            self.name = self.other = None  # they lead back here, and nothing of a store waits for the garbage collector
            self.store.guest.heap.holds -= 1
            self.store.unlock()

    @cython.cfunc
    def reference(self, word: uint64_t, type: uint64_t, where: str) -> object:
        """What stands for a reference."""
        if word == 0:
            return None
        if not _is_told(type):
            return self.other(from_word(self.store, type, cython.address(word)), ValType(type), where)
        if word & I31_TAG:
            return cython.cast(int32_t, cython.cast(uint32_t, word)) >> 1
        if word & HOST_TAG:
            return self.name(host_object(self.store, word), where)
        number = self.numbers.get(word)
        if number is None:
            number = self.numbers[word] = len(self.met)
            self.met.append(word)
        return self.thing(number)

    def table(self, table: Table, where: str) -> list[Any]:
        """The elements of a table."""
        i: uint64_t
        found: list = []
        for i in range(table.pointer.length):
            poll()
            word = cython.cast(cython.pointer(uint64_t), table.pointer.elements)[i]
            found.append(self.reference(word, table.element, f"{where}, element {i}"))
        return found

    def cell(self, item: Global, where: str) -> Any:
        """The value of a global."""
        return self.reference(item.cell[0], item.type.content, where)

    def segments(self, state: InstanceState, where: str) -> list[tuple[int, list[Any]]]:
        """The element segments of an instance that hold objects: number, elements."""
        decoded: DecodedModule = state.module.decoded
        segment: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), state.pointer.element_segments)
        i: cython.size_t
        k: uint64_t
        has: cython.bint
        found: list = []
        for i in range(decoded.num_elements):
            poll()
            if segment[i].length == 0 or not _is_told(decoded.element_item[i].type):
                continue
            has = False
            elements: list = []
            for k in range(segment[i].length):
                word: uint64_t = cython.cast(cython.pointer(uint64_t), segment[i].data)[k]
                has = has or (word != 0 and not word & (I31_TAG | HOST_TAG))
                elements.append(self.reference(word, decoded.element_item[i].type, f"{where}, element {k}"))
            if has:
                found.append((i, elements))
        return found

    def objects(self) -> list[tuple[int, bytes, list[Any]]]:
        """All objects that have been met, and that these lead to: the number of their type, the numbers that they hold
        one after the other, and the references."""
        at: cython.Py_ssize_t = 0
        found: list = []
        while at < len(self.met):
            poll()
            found.append(self.contents(self.met[at], at))
            at += 1
        return found

    @cython.cfunc
    def contents(self, word: uint64_t, number: object) -> object:
        """What an object holds; see `objects`."""
        object_: cython.pointer(WlObject) = cython.cast(cython.pointer(WlObject), word)
        layout: cython.pointer(WlType) = cython.cast(cython.pointer(WlType), object_.type)
        info: cython.pointer(TypeInfo) = info_of(layout)
        at: cython.p_char
        i: uint64_t
        references: list = []
        data: bytearray = bytearray()
        if layout.what == OBJECT_STRUCT:
            for i in range(info.n_params):
                at = cython.cast(cython.p_char, object_) + cython.cast(cython.pointer(uint32_t), layout.offsets)[i]
                if info.types[i] & _REF:
                    word = cython.cast(cython.pointer(uint64_t), at)[0]
                    references.append(self.reference(word, info.types[i], f"object {number}, field {i}"))
                else:
                    data += at[: storage_bytes(info.types[i])]
            if layout.descriptor:
                word = cython.cast(cython.pointer(uint64_t), cython.cast(cython.p_char, object_) + layout.descriptor)[0]
                references.append(self.reference(word, _exactly(info.descriptor), f"object {number}, descriptor"))
        elif info.types[0] & _REF:
            for i in range(object_.length):
                word = cython.cast(cython.pointer(uint64_t), elements_of(object_))[i]
                references.append(self.reference(word, info.types[0], f"object {number}, element {i}"))
        else:
            data += elements_of(object_)[: object_.length * layout.bytes]
        return layout.id, bytes(data), references


seal(Reading)


def reading(store: Store, thing: object, name: object, other: object) -> Reading:
    """A `Reading`."""
    return Reading.__new__(Reading, store, thing, name, other)


@cython.no_gc_clear
@cython.cclass
class Making:
    """Makes objects of what `Reading` tells, and sets references to them.

    `thing`: the class of what stands for objects, which has the number first. `other`: makes of what stands for
    anything but objects and i31s its Python value; called with the type, too, of references of other hierarchies. Call
    `end` when all has been set.
    """

    def __cinit__(self, store: Store, thing: object, other: object) -> None:
        self.store, self.thing, self.other = store, thing, other
        self.made = []
        store.lock()
        store.guest.heap.holds += 1
        self.holds = True

    def end(self) -> None:
        """Let the collector run again. Call in the thread that has made this, once."""
        if self.holds:
            self.holds = False
            self.made = []
            self.other = None  # it leads back here, and nothing of a store waits for the garbage collector
            self.store.guest.heap.holds -= 1
            self.store.unlock()

    def add(self, decoded: DecodedModule, index: int, length: int) -> None:
        """Make the next object, of a module's type, with zeros; `length`: of an array. The module lives as long as the
        store. Raises `WasmError` when the store's limit doesn't allow it, `ValueError` for what is no type of objects.
        """
        info: cython.pointer(TypeInfo)
        made: cython.pointer(WlObject)
        if type_of_object(decoded, index) is None:
            raise ValueError(f"type {index} has no objects")
        info = type_info(decoded.type_id[cython.cast(uint32_t, index)])
        if info.kind == STRUCT:
            made = new_struct(self.store.guest, layout_of(info))
        else:
            made = new_array(self.store.guest, layout_of(info), length)
        if made == cython.NULL:
            raise WasmError("the snapshot's objects need more memory than the store's limit allows, or than there is")
        self.made.append(cython.cast(uint64_t, made))

    @cython.cfunc
    @cython.exceptval(check=True)
    def object_at(self, number: object) -> cython.pointer(WlObject):
        """The object with a number. Raises `ValueError`."""
        if not 0 <= number < len(self.made):
            raise ValueError(f"there is no object {number}")
        return cython.cast(cython.pointer(WlObject), cython.cast(uint64_t, self.made[number]))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def word(self, value: object, type: uint64_t, word: cython.pointer(uint64_t)) -> cython.int:
        """The reference that something stands for. Raises `TypeError` for one that isn't of the type."""
        heap: uint64_t = type >> _SHIFT
        some: cython.pointer(WlObject)
        is_extern: cython.bint
        word[0] = 0
        if value is None:
            if not type & _NULL:
                raise TypeError(f"{ValType(type)} can't be null")
            return 0
        if not _is_told(type):
            return to_word(self.store, type, self.other(value, ValType(type)), word)
        is_extern = kind_of(type) == cython.cast(cython.int, KIND_EXTERN)
        if isinstance(value, int):
            if not (heap == _EXTERN if is_extern else heap_matches(_I31, heap)) or not -(1 << 30) <= value < 1 << 30:
                raise TypeError(f"{value} isn't of type {ValType(type)}")
            word[0] = cython.cast(uint32_t, (value << 1 | I31_TAG) & 0xFFFFFFFF)
            return 0
        if isinstance(value, self.thing):
            some = self.object_at(value[0])
            own: uint64_t = _exactly(info_of(cython.cast(cython.pointer(WlType), some.type)))
            if not (heap == _EXTERN if is_extern else type_matches(own, type)):
                raise TypeError(f"object {value[0]} isn't of type {ValType(type)}")
            word[0] = cython.cast(uint64_t, some)
            return 0
        if heap != (_EXTERN if is_extern else _ANY) or not isinstance(value, str):
            raise TypeError(f"no object of the host is of type {ValType(type)}")
        given = self.other(value)
        if given is not None:
            word[0] = self.store.word_of(given)
        elif not type & _NULL:
            raise TypeError(f"{ValType(type)} can't be null")
        return 0

    def fill(self, number: int, data: bytes, references: tuple[object, ...]) -> None:
        """Give an object its contents. Raises `ValueError` for another number of them, and what `word` does."""
        some: cython.pointer(WlObject) = self.object_at(number)
        layout: cython.pointer(WlType) = cython.cast(cython.pointer(WlType), some.type)
        info: cython.pointer(TypeInfo) = info_of(layout)
        source: cython.p_char = PyBytes_AS_STRING(data)
        at: cython.p_char
        word: uint64_t = 0
        i: uint64_t
        size: uint64_t
        taken: uint64_t = 0
        next: cython.Py_ssize_t = 0
        count: uint64_t = info.n_params if layout.what == OBJECT_STRUCT else some.length
        storage: uint64_t = 0
        for i in range(count):
            poll()
            if layout.what == OBJECT_STRUCT:
                storage = info.types[i]
                at = cython.cast(cython.p_char, some) + cython.cast(cython.pointer(uint32_t), layout.offsets)[i]
            else:
                storage = info.types[0]
                at = elements_of(some) + layout.bytes * i
            if storage & _REF:
                if next >= len(references):
                    raise ValueError(f"object {number} lacks references")
                self.word(references[next], storage, cython.address(word))
                cython.cast(cython.pointer(uint64_t), at)[0] = word
                next += 1
                continue
            size = storage_bytes(storage)
            if taken + size > cython.cast(uint64_t, len(data)):
                raise ValueError(f"object {number} lacks numbers")
            memcpy(at, source + taken, size)
            taken += size
        if layout.what == OBJECT_STRUCT and layout.descriptor:
            if next >= len(references):
                raise ValueError(f"object {number} lacks its descriptor")
            self.word(references[next], _exactly(info.descriptor), cython.address(word))
            at = cython.cast(cython.p_char, some) + layout.descriptor
            cython.cast(cython.pointer(uint64_t), at)[0] = word
            next += 1
        if next != len(references) or taken != cython.cast(uint64_t, len(data)):
            raise ValueError(f"object {number} has more than its type")

    def set_element(self, table: Table, i: int, value: object) -> None:
        """Set an element of a table. Raises `IndexError`, and what `word` does."""
        word: uint64_t = 0
        at: uint64_t = i
        self.word(value, table.element, cython.address(word))
        if at >= table.pointer.length:
            raise IndexError(f"no element {i}")
        cython.cast(cython.pointer(uint64_t), table.pointer.elements)[at] = word

    def set_cell(self, item: Global, value: object, new: bool = False) -> None:
        """Set a global. Raises what `word` does, and `TypeError` for an immutable one, unless it is new, with another
        kind of value than its initialiser has given it."""
        word: uint64_t = 0
        self.word(value, item.type.content, cython.address(word))
        if not new and not item.type.mutable and not _alike(item.cell[0], word):
            raise TypeError("an immutable global with another kind of value than it is initialised with")
        item.cell[0] = word

    def set_segment(self, state: InstanceState, number: int, values: tuple[object, ...]) -> None:
        """Set the elements of a segment that hasn't been dropped. Raises `ValueError` for another number of them, and
        what `word` does."""
        decoded: DecodedModule = state.module.decoded
        at: cython.size_t = number
        i: uint64_t
        word: uint64_t = 0
        segment: cython.pointer(WlSegment) = cython.cast(cython.pointer(WlSegment), state.pointer.element_segments) + at
        if at >= decoded.num_elements or not _is_told(decoded.element_item[at].type):
            raise ValueError(f"segment {number} has no objects")
        if segment.length != cython.cast(uint64_t, len(values)):
            raise ValueError(f"segment {number} has another number of elements")
        for i in range(segment.length):
            self.word(values[i], decoded.element_item[at].type, cython.address(word))
            cython.cast(cython.pointer(uint64_t), segment.data)[i] = word


@cython.cfunc
@cython.exceptval(check=False)
def _alike(one: uint64_t, other: uint64_t) -> cython.bint:
    """Whether two references are the same, or are to objects of one type and length."""
    first: cython.pointer(WlObject) = cython.cast(cython.pointer(WlObject), one)
    second: cython.pointer(WlObject) = cython.cast(cython.pointer(WlObject), other)
    if one == other:
        return True
    if one == 0 or other == 0 or one & (I31_TAG | HOST_TAG) or other & (I31_TAG | HOST_TAG):
        return False
    if first.type != second.type:
        return False
    return cython.cast(cython.pointer(WlType), first.type).what == OBJECT_STRUCT or first.length == second.length


seal(Making)


def making(store: Store, thing: object, other: object) -> Making:
    """A `Making`."""
    return Making.__new__(Making, store, thing, other)
