# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Structs and arrays as Python objects, and references of the "any" and "extern" hierarchies (Core 3.0, 4.2.10).

A `Struct` or `Array` keeps the guest's object alive (it pins it), and everything that this refers to. Nothing moves, so
an array of numbers is a buffer.
"""

from __future__ import annotations

from operator import index

import cython
from cython.cimports.cpython.buffer import Py_buffer, PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cython.cimports.libc.stdint import int32_t, uint32_t, uint64_t
from cython.cimports.wasmloom.contract._layout import HOST_TAG, I31_TAG, OBJECT_ARRAY, OBJECT_STRUCT, WlObject, WlType
from cython.cimports.wasmloom.host.bridge import BARE
from cython.cimports.wasmloom.host.conversions import (
    check_store,
    described,
    from_word,
    host_object,
    set_conversion,
    store_of,
    to_word,
)
from cython.cimports.wasmloom.host.signatures import KIND_ANY, KIND_EXTERN
from cython.cimports.wasmloom.runtime.heap import Pin, pin
from cython.cimports.wasmloom.runtime.objects import (
    elements_of,
    info_of,
    layout_of,
    new_array,
    new_struct,
    read_storage,
    storage_bytes,
    write_storage,
)
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.spec.canon import ARRAY, STRUCT, heap_matches, type_info, type_matches

from wasmloom.contract.traps import OUT_OF_MEMORY
from wasmloom.spec.canon import intern_composite, keep_type, lasting, sub_type
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    EXACT_FLAG,
    HEAP_SHIFT,
    I8,
    I16,
    I32,
    REF_FLAG,
    ArrayType,
    FieldType,
    StructType,
    ValType,
)

_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_I8 = cython.declare(uint64_t, I8)
_I16 = cython.declare(uint64_t, I16)
_I32 = cython.declare(uint64_t, I32)
_EXACT_FLAG = cython.declare(uint64_t, EXACT_FLAG)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_ANY = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["any"])
_I31 = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["i31"])
#: The least number and the one behind the greatest that i31 takes: signed or unsigned.
_LEAST_I31, _BEHIND_I31 = -(1 << 30), 1 << 31
#: Storage type → the code of the module `struct`, for buffers.
_FORMATS = {"i8": b"B", "i16": b"H", "i32": b"i", "i64": b"q", "f32": b"f", "f64": b"d"}


@cython.cfunc
def _composite(layout: cython.pointer(WlType)) -> object:
    """The type of an object, for users: types that it names live as long as it."""
    composite = sub_type(layout.id).composite
    if isinstance(composite, StructType):
        return StructType(tuple([FieldType(lasting(f.storage), f.mutable) for f in composite.fields]))
    return ArrayType(FieldType(lasting(composite.field.storage), composite.field.mutable))


@cython.cfunc
def _text(storage: uint64_t) -> str:
    return str(ValType(storage))


# --- what structs and arrays have in common: fields and elements by their number, making and dropping ---


@cython.cfunc
@cython.exceptval(check=False)
def _storage(layout: cython.pointer(WlType), i: uint64_t) -> uint64_t:
    """The type of a field, or of an element."""
    return info_of(layout).types[0 if layout.what == OBJECT_ARRAY else i]


@cython.cfunc
@cython.exceptval(check=False)
def _place(layout: cython.pointer(WlType), pointer: cython.pointer(WlObject), i: uint64_t) -> cython.p_char:
    """Where a field is, or an element."""
    if layout.what == OBJECT_ARRAY:
        return elements_of(pointer) + layout.bytes * i
    return cython.cast(cython.p_char, pointer) + cython.cast(cython.pointer(uint32_t), layout.offsets)[i]


@cython.cfunc
def _get(store: Store, layout: cython.pointer(WlType), pointer: cython.pointer(WlObject), i: uint64_t) -> object:
    """The Python value of a field or an element; a packed one is unsigned. The store is locked."""
    words: uint64_t[2]
    storage: uint64_t = _storage(layout, i)
    read_storage(storage, _place(layout, pointer, i), False, words)
    return from_word(store, _I32 if storage == _I8 or storage == _I16 else storage, words)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _set(
    store: Store, layout: cython.pointer(WlType), pointer: cython.pointer(WlObject), i: uint64_t, value: object
) -> cython.int:
    """Write a field or an element. The store is locked; the conversion may run any code.

    Raises `TypeError`, `OverflowError` …
    """
    words: uint64_t[2]
    storage: uint64_t = _storage(layout, i)
    bits: cython.int
    if storage == _I8 or storage == _I16:
        to_word(store, _I32, value, words)
        number = cython.cast(int32_t, cython.cast(uint32_t, words[0]))
        bits = 8 if storage == _I8 else 16
        if not -(1 << (bits - 1)) <= number < 1 << bits:
            raise OverflowError(f"{number} is out of range for {_text(storage)}")
    else:
        to_word(store, storage, value, words)
    write_storage(storage_bytes(storage), _place(layout, pointer, i), words)
    return 0


@cython.cfunc
@cython.exceptval(check=True)
def _make(store: Store, layout: cython.pointer(WlType), count: uint64_t, given: list | None) -> cython.pointer(Pin):
    """Keep a new object with so many fields or elements: those that are given, or their default values.

    Call with the store locked, and the collector held: nothing else has the object before it is pinned. Raises `Trap`
    where there is no memory, `TypeError` where there are no default values, and what `_set` does.
    """
    made: cython.pointer(WlObject)
    storage: uint64_t
    i: uint64_t
    if given is None:
        for i in range(min(count, 1) if layout.what == OBJECT_ARRAY else count):
            storage = _storage(layout, i)
            if storage & _REF_FLAG and not ValType(storage).is_nullable:
                what = "an element" if layout.what == OBJECT_ARRAY else f"field {i}"
                raise TypeError(f"{what} of type {_text(storage)} has no default value")
    made = new_array(store.guest, layout, count) if layout.what == OBJECT_ARRAY else new_struct(store.guest, layout)
    if made == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    if given is not None:
        for i in range(count):
            _set(store, layout, made, i, given[i])
    return pin(cython.address(store.guest.heap), cython.cast(uint64_t, made))


@cython.cfunc
@cython.exceptval(check=False)
def _drop(pin: cython.pointer(Pin)) -> cython.void:
    """Nothing holds the object any more. The collector, which may be running in another thread, removes the pin."""
    if pin != cython.NULL:
        pin.word = 0
        pin.held = 0


@cython.cfunc
@cython.exceptval(check=True)
def _layout_for(store: Store, type: object, kind: cython.int) -> cython.pointer(WlType):
    """The layout of a type that users give: a reference to it, or its description. The store keeps the type.

    Raises `TypeError`, `ValueError`.
    """
    id: uint64_t
    wanted = StructType if kind == STRUCT else ArrayType
    if isinstance(type, wanted):
        fields = type.fields if kind == STRUCT else (type.field,)
        for field in fields:
            if not isinstance(field, FieldType) or not isinstance(field.storage, ValType):
                raise TypeError(f"a field has a FieldType with a value type, or a packed one, not {field!r:.60}")
        id = intern_composite(type, store.types)
        return layout_of(type_info(cython.cast(uint32_t, id)))
    if isinstance(type, ValType) and type & REF_FLAG and type.heap >= CONCRETE:
        keep_type(store.types, type)
        id = (type.heap & ~EXACT) - CONCRETE
        if type_info(cython.cast(uint32_t, id)).kind == kind:
            return layout_of(type_info(cython.cast(uint32_t, id)))
    raise TypeError(f"expected {'a StructType' if kind == STRUCT else 'an ArrayType'} or a reference to such a type, "
                    f"not {described(type)}")


@cython.no_gc_clear
@cython.cclass
class Struct:
    """A struct of the guest's: ``struct[0]`` is its first field. ``Struct(store, type, values)`` makes one.

    `type`: a `StructType`, or a reference type that names one (``func.type.params[0]``); `values`: an iterable with one
    for each field, None: all fields have their default values. Fields are converted as arguments are; packed ones are
    read as unsigned numbers. Immutable fields can't be assigned. Two of these are equal if they are the same struct of
    the guest. Raises `TypeError`, `ValueError`, `OverflowError` for what doesn't fit, `Trap` where there is no memory.
    """

    def __cinit__(self, store: object, type: object, values: object = None) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        given: list | None = None if values is None else list(values)
        self._store = owner
        owner.lock()
        owner.guest.heap.holds += 1
        try:
            self.layout = _layout_for(owner, type, STRUCT)
            if self.layout.descriptor:
                raise TypeError("the struct has a descriptor: only guests make such structs")
            count = info_of(self.layout).n_params
            if given is not None and len(given) != count:
                raise TypeError(f"the struct has {count} fields, not {len(given)}")
            self.pin = _make(owner, self.layout, count, given)
            self.pointer = cython.cast(cython.pointer(WlObject), self.pin.word)
        finally:
            owner.guest.heap.holds -= 1
            owner.unlock()

    def __init__(self, store: Store, type: object, values: object = None) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its struct."""

    def __dealloc__(self) -> None:
        _drop(self.pin)

    @property
    def store(self) -> Store:
        """The store that the struct belongs to."""
        return self._store

    @property
    def type(self) -> StructType:
        """The struct's own type, which may be a subtype of what a function said."""
        return _composite(self.layout)

    def __len__(self) -> int:
        return info_of(self.layout).n_params

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def field(self, key: object, written: cython.bint) -> uint64_t:
        """A field's number."""
        i = index(key)
        count = info_of(self.layout).n_params
        if not 0 <= i < count:
            raise IndexError(f"field {i} of a struct with {count}")
        if written and not info_of(self.layout).mutable[cython.cast(uint64_t, i)]:
            raise TypeError(f"field {i} is immutable")
        return i

    def __iter__(self) -> object:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, key: object) -> object:
        i: uint64_t = self.field(key, False)
        self._store.lock()
        try:
            return _get(self._store, self.layout, self.pointer, i)
        finally:
            self._store.unlock()

    def __setitem__(self, key: object, value: object) -> None:
        i: uint64_t = self.field(key, True)
        self._store.lock()
        try:
            _set(self._store, self.layout, self.pointer, i, value)
        finally:
            self._store.unlock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and self.pointer == cython.cast(Struct, other).pointer

    def __hash__(self) -> int:
        return hash(cython.cast(uint64_t, self.pointer))

    def __repr__(self) -> str:
        return f"<wasmloom.Struct of {len(self)} fields at 0x{cython.cast(uint64_t, self.pointer):x}>"


@cython.no_gc_clear
@cython.cclass
class Array:
    """An array of the guest's: ``array[0]``, ``array[2:5]``, ``len(array)``. ``Array(store, type, values)`` makes one.

    `type`: an `ArrayType`, or a reference type that names one; `values`: an iterable of elements, or an int, which is a
    number of default values. Elements are converted as arguments are; packed ones are read as unsigned numbers. One
    with numbers is a buffer, writable if elements are mutable: ``memoryview(array)`` sees the guest's elements. Slices
    are lists, as long as what is assigned to them. Two of these are equal if they are the same array of the guest.
    Raises `TypeError`, `ValueError`, `OverflowError` for what doesn't fit, `Trap` where there is no memory.
    """

    def __cinit__(self, store: object, type: object, values: object = ()) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        given: list | None = None if isinstance(values, int) else list(values)
        count = index(values) if given is None else len(given)
        if not 0 <= count < 1 << 32:
            raise ValueError(f"an array has at most 2**32 - 1 elements, not {count}")
        self._store = owner
        owner.lock()
        owner.guest.heap.holds += 1
        try:
            self.layout = _layout_for(owner, type, ARRAY)
            self.pin = _make(owner, self.layout, count, given)
            self.pointer = cython.cast(cython.pointer(WlObject), self.pin.word)
        finally:
            owner.guest.heap.holds -= 1
            owner.unlock()

    def __init__(self, store: Store, type: object, values: object = ()) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its array."""

    def __dealloc__(self) -> None:
        _drop(self.pin)

    @property
    def store(self) -> Store:
        """The store that the array belongs to."""
        return self._store

    @property
    def type(self) -> ArrayType:
        """The array's own type, which may be a subtype of what a function said."""
        return _composite(self.layout)

    def __len__(self) -> int:
        return self.pointer.length

    @cython.cfunc
    @cython.exceptval(0, check=True)
    def element(self, key: object) -> uint64_t:
        """An element's number."""
        i = index(key)
        length = self.pointer.length
        if not -cython.cast(object, length) <= i < length:
            raise IndexError(f"element {i} of an array with {length}")
        return i + length if i < 0 else i

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def check_written(self) -> cython.int:
        """Raise `TypeError` for an array that can't be written."""
        if not info_of(self.layout).mutable[0]:
            raise TypeError("the array's elements are immutable")
        return 0

    def __iter__(self) -> object:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, key: object) -> object:
        self._store.lock()
        try:
            if isinstance(key, slice):
                places = range(*key.indices(self.pointer.length))
                return [_get(self._store, self.layout, self.pointer, i) for i in places]
            return _get(self._store, self.layout, self.pointer, self.element(key))
        finally:
            self._store.unlock()

    def __setitem__(self, key: object, value: object) -> None:
        self.check_written()
        self._store.lock()
        try:
            if isinstance(key, slice):
                places = range(*key.indices(self.pointer.length))
                values = list(value)
                if len(values) != len(places):
                    raise ValueError(f"a slice of {len(places)} elements can't be set to {len(values)}")
                for i, one in zip(places, values, strict=True):
                    _set(self._store, self.layout, self.pointer, i, one)
            else:
                _set(self._store, self.layout, self.pointer, self.element(key), value)
        finally:
            self._store.unlock()

    def __getbuffer__(self, view: cython.pointer(Py_buffer), flags: cython.int):
        text = _FORMATS.get(_text(info_of(self.layout).types[0]))
        writable: cython.bint = info_of(self.layout).mutable[0]
        if text is None:
            raise BufferError(f"an array of {_text(info_of(self.layout).types[0])} is no buffer")
        if flags & PyBUF_WRITABLE and not writable:
            raise BufferError("the array's elements are immutable")
        self.shape = self.pointer.length
        self.stride = self.layout.bytes
        view.buf = elements_of(self.pointer)
        view.obj = self
        view.len = self.shape * self.stride
        view.itemsize = self.stride
        view.readonly = not writable
        view.ndim = 1
        view.format = cython.cast(cython.p_char, text) if flags & PyBUF_FORMAT else cython.NULL
        view.shape = cython.address(self.shape) if flags & PyBUF_ND else cython.NULL
        view.strides = cython.address(self.stride) if flags & PyBUF_STRIDES == PyBUF_STRIDES else cython.NULL
        view.suboffsets = cython.NULL
        view.internal = cython.NULL

    def __releasebuffer__(self, view: cython.pointer(Py_buffer)):
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.pointer == cython.cast(Array, other).pointer

    def __hash__(self) -> int:
        return hash(cython.cast(uint64_t, self.pointer))

    def __repr__(self) -> str:
        return f"<wasmloom.Array of {len(self)} {_text(info_of(self.layout).types[0])}>"


@cython.cfunc
def object_at(store: Store, word: uint64_t) -> object:
    """The Python object of a struct or an array. Call with the store locked; raises `MemoryError`."""
    pointer: cython.pointer(WlObject) = cython.cast(cython.pointer(WlObject), word)
    layout: cython.pointer(WlType) = cython.cast(cython.pointer(WlType), pointer.type)
    struct: Struct
    array: Array
    if layout.what == OBJECT_STRUCT:
        struct = Struct.__new__(Struct, BARE, None)
        struct._store, struct.pointer, struct.layout = store, pointer, layout
        struct.pin = pin(cython.address(store.guest.heap), word)
        return struct
    array = Array.__new__(Array, BARE, None)
    array._store, array.pointer, array.layout = store, pointer, layout
    array.pin = pin(cython.address(store.guest.heap), word)
    return array


# --- conversions ---


@cython.cfunc
@cython.exceptval(0, check=True)
def _word_of_object(store: Store, value: object) -> uint64_t:
    """The reference to a struct or an array; 0 for anything else. Raises `ValueError` for one of another store."""
    if isinstance(value, Struct):
        store_of(value, store)
        return cython.cast(uint64_t, cython.cast(Struct, value).pointer)
    if isinstance(value, Array):
        store_of(value, store)
        return cython.cast(uint64_t, cython.cast(Array, value).pointer)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _any_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    heap: uint64_t = type >> _SHIFT
    found: uint64_t = _word_of_object(store, value)
    layout: cython.pointer(WlType)
    if found:
        layout = cython.cast(
            cython.pointer(WlType), cython.cast(cython.pointer(WlObject), found).type
        )
        if not type_matches(_REF_FLAG | _EXACT_FLAG | (_CONCRETE + layout.id) << _SHIFT, type):
            raise TypeError(f"{value!r} is not of type {_text(type)}")
        word[0] = found
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and heap_matches(_I31, heap):
        if _LEAST_I31 <= value < _BEHIND_I31:
            word[0] = cython.cast(uint32_t, (value << 1 | 1) & 0xFFFFFFFF)
            return 0
        if heap != _ANY:
            raise OverflowError(f"{value} is out of range for i31")
    if heap == _ANY:
        word[0] = store.word_of(value)
        return 0
    raise TypeError(f"{_text(type)} doesn't take {described(value)}")


@cython.cfunc
@cython.exceptval(-1, check=False)
def _extern_word(store: Store, type: uint64_t, value: object, word: cython.pointer(uint64_t)) -> cython.int:
    """A struct or array that goes out comes back as itself. One of another store is an object as any."""
    found: uint64_t = 0
    if isinstance(value, (Struct, Array)) and value.store is store:
        found = _word_of_object(store, value)
    word[0] = found if found else store.word_of(value)
    return 0


@cython.cfunc
def _any_object(store: Store, type: uint64_t, word: cython.pointer(cython.const[uint64_t])) -> object:
    if word[0] & I31_TAG:
        return cython.cast(int32_t, cython.cast(uint32_t, word[0])) >> 1
    if word[0] & HOST_TAG:
        return host_object(store, word[0])
    return object_at(store, word[0])


set_conversion(KIND_ANY, _any_word, _any_object)
set_conversion(KIND_EXTERN, _extern_word, _any_object)
