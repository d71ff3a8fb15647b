# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Memories, tables and globals as Python objects.

Each is a view of a struct that its store owns, and keeps the store alive. Invariants:

* A memory's base doesn't move while there is an exported buffer (guarded memories never move, checked ones don't grow
  then), and its length never shrinks. So the buffer stays valid for as long as it lives: it keeps the `Memory` alive,
  and that keeps the store.
* A table's elements may move when the guest grows it, so tables are only accessed with the store locked.
"""

from __future__ import annotations

from operator import index

import cython
from cython.cimports.cpython.buffer import PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.object import PyObject
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.wasmloom.contract._layout import WlMemory, WlTable
from cython.cimports.wasmloom.host.bridge import BARE
from cython.cimports.wasmloom.host.conversions import check_store, from_word, to_word
from cython.cimports.wasmloom.host.externs import (
    Py_buffer,
)
from cython.cimports.wasmloom.runtime.bulk import move_for_host
from cython.cimports.wasmloom.runtime.growth import GROWN, grow_memory, grow_table, new_memory, new_table
from cython.cimports.wasmloom.runtime.store import Store, push
from cython.cimports.wasmloom.system._capi import PyNumber_AsSsize_t, PySlice_AdjustIndices, PySlice_Unpack

from wasmloom.errors import WasmError
from wasmloom.host.types import as_global_type, as_memory_type, as_table_type
from wasmloom.spec.canon import keep_type, lasting
from wasmloom.spec.types import GlobalType, Limits, MemoryType, TableType, ValType

#: What takes at least a word to say is more than any memory or table can have.
_MOST = (1 << 64) - 1


# --- bytes of a memory; `memory`, where it is given, is the Python object of a struct ---


@cython.cfunc
@cython.exceptval(check=False)
def _length(pointer: cython.pointer(WlMemory)) -> cython.Py_ssize_t:
    """A memory's bytes: at most `MOST_BYTES_64`."""
    return cython.cast(cython.Py_ssize_t, pointer.length)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _start(
    pointer: cython.pointer(WlMemory), offset: object, count: cython.Py_ssize_t, said: object
) -> cython.Py_ssize_t:
    """Check that `count` bytes at `offset` lie in the memory; returns the offset. An error says `said` for `count`."""
    start: cython.Py_ssize_t = PyNumber_AsSsize_t(offset, cython.NULL)
    if start < 0 or count < 0 or count > _length(pointer) or start > _length(pointer) - count:
        raise IndexError(f"{said} bytes at {index(offset)} are outside of a memory of {pointer.length} bytes")
    return start


@cython.cfunc
@cython.exceptval(-1, check=False)
def _index(length: cython.Py_ssize_t, key: object) -> cython.Py_ssize_t:
    """The place of a byte, counted from the beginning."""
    i: cython.Py_ssize_t = PyNumber_AsSsize_t(key, cython.NULL)
    if not -length <= i < length:
        raise IndexError(f"index {index(key)} is outside of a memory of {length} bytes")
    return i if i >= 0 else i + length


@cython.cfunc
@cython.exceptval(-1, check=False)
def _unpack(
    length: cython.Py_ssize_t,
    key: slice,
    start: cython.pointer(cython.Py_ssize_t),
    stop: cython.pointer(cython.Py_ssize_t),
    step: cython.pointer(cython.Py_ssize_t),
) -> cython.Py_ssize_t:
    """The bounds of a slice, and how many bytes it has. Unlike lists, memories refuse bounds outside of them."""
    PySlice_Unpack(key, start, stop, step)
    if not (-length <= start[0] <= length and -length <= stop[0] <= length):
        for bound in (key.start, key.stop):
            if bound is not None and not -length <= index(bound) <= length:
                raise IndexError(f"slice bound {index(bound)} is outside of a memory of {length} bytes")
    return PySlice_AdjustIndices(length, start, stop, step[0])


@cython.cfunc
@cython.exceptval(-1, check=False)
def _get_bytes(data: object, view: cython.pointer(Py_buffer)) -> cython.int:
    """The bytes of a contiguous buffer, to be released. Raises `TypeError` for anything else."""
    try:
        PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        raise TypeError(f"bytes that lie one behind the other are needed: {error}") from None
    return 0


@cython.cfunc
def read_bytes(pointer: cython.pointer(WlMemory), offset: object, length: object) -> bytes:
    """A copy of `length` bytes at `offset`. Raises `IndexError` outside of the memory."""
    count: cython.Py_ssize_t = PyNumber_AsSsize_t(length, cython.NULL)
    start: uint64_t = _start(pointer, offset, count, length)
    copy: bytes = PyBytes_FromStringAndSize(cython.NULL, count)
    target: cython.p_char = PyBytes_AS_STRING(copy)
    # No other code has the object yet.
    move_for_host(cython.address(target), 0, cython.address(pointer.base), start, count)
    return copy


@cython.cfunc
def write_bytes(pointer: cython.pointer(WlMemory), offset: object, data: object) -> object:
    """Write bytes (any contiguous buffer) at `offset`. Raises `IndexError` outside of the memory."""
    view: Py_buffer
    source: cython.p_char
    start: uint64_t
    _get_bytes(data, cython.address(view))
    try:
        start = _start(pointer, offset, view.len, view.len)
        source = cython.cast(cython.p_char, view.buf)
        move_for_host(cython.address(pointer.base), start, cython.address(source), 0, view.len)
    finally:
        PyBuffer_Release(cython.address(view))
    return None


@cython.cfunc
def get_item(pointer: cython.pointer(WlMemory), memory: object, key: object) -> object:
    """A byte, or those of a slice."""
    length: cython.Py_ssize_t = _length(pointer)
    start: cython.Py_ssize_t = 0
    stop: cython.Py_ssize_t = 0
    step: cython.Py_ssize_t = 1
    count: cython.Py_ssize_t
    if not isinstance(key, slice):
        start = _index(length, key)
        return cython.cast(cython.p_uchar, pointer.base)[start]
    count = _unpack(length, key, cython.address(start), cython.address(stop), cython.address(step))
    if step == 1:
        return read_bytes(pointer, start, count)
    return bytes(memoryview(memory)[key])


@cython.cfunc
def set_item(pointer: cython.pointer(WlMemory), memory: object, key: object, value: object) -> object:
    """Write a byte, or those of a slice."""
    length: cython.Py_ssize_t = _length(pointer)
    start: cython.Py_ssize_t = 0
    stop: cython.Py_ssize_t = 0
    step: cython.Py_ssize_t = 1
    count: cython.Py_ssize_t
    view: Py_buffer
    source: cython.p_char
    if not isinstance(key, slice):
        count = PyNumber_AsSsize_t(value, cython.NULL)
        if not 0 <= count <= 255:
            raise ValueError(f"{index(value)} is no byte")
        start = _index(length, key)
        # Not before this: a checked memory may have moved while Python code gave the numbers.
        cython.cast(cython.p_uchar, pointer.base)[start] = count
        return None
    count = _unpack(length, key, cython.address(start), cython.address(stop), cython.address(step))
    _get_bytes(value, cython.address(view))
    try:
        if view.len != count:
            raise ValueError(f"{view.len} bytes don't fit a slice of {count}")
        if step == 1:
            source = cython.cast(cython.p_char, view.buf)
            move_for_host(cython.address(pointer.base), start, cython.address(source), 0, count)
        else:
            memoryview(memory)[key] = memoryview(value).cast("B")
    finally:
        PyBuffer_Release(cython.address(view))
    return None


@cython.cfunc
def pages_to_grow(pages: object) -> object:
    """By how many pages a memory is to grow. Raises `WasmError` for what no number of pages is."""
    more = index(pages)
    if not 0 <= more <= _MOST:
        raise WasmError(f"a memory can't grow by {more} pages")
    return more


@cython.cfunc
def cannot_grow(pointer: cython.pointer(WlMemory), old: object, more: object, limits: str) -> object:
    """The error for a memory of `old` pages that didn't grow."""
    return WasmError(
        f"a memory of {old} pages can't grow by {more}: its maximum is {pointer.max_pages}, and {limits}"
    )


@cython.no_gc_clear
@cython.cclass
class Memory:
    """A linear memory: ``Memory(store, pages, maximum)`` or ``Memory(store, MemoryType(…))``.

    It is a writable buffer: ``memoryview(memory)`` and ``numpy.frombuffer(memory, dtype)`` always see the guest's
    current bytes. A view keeps its length when the memory grows, and stays valid; a memory that is checked
    (see `Engine`) doesn't grow while it has views. ``memory[10]`` is an int, ``memory[10:20]`` a copy as bytes; both
    can be assigned. Unlike those of a list, slices must lie within the memory.
    """

    def __cinit__(self, store: object, type: object, maximum: int | None = None) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        made = as_memory_type(type, maximum)
        most = made.limits.max
        if made.shared:
            raise ValueError("a shared memory belongs to no store: make it by SharedMemory(type)")
        owner.lock()
        try:
            self.pointer = new_memory(
                owner, made.limits.min, _MOST if most is None else most, made.is64, made.page_size_log2
            )
        finally:
            owner.unlock()
        self.pointer.object = cython.cast(cython.p_void, self)
        self._store = owner
        self._max = most

    def __init__(self, store: Store, type: MemoryType | Limits | int, maximum: int | None = None) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its struct."""

    def __dealloc__(self) -> None:
        if self.pointer != cython.NULL and self.pointer.object == cython.cast(cython.p_void, self):
            self.pointer.object = cython.NULL

    def __getbuffer__(self, view: cython.pointer(Py_buffer), flags: cython.int):
        PyBuffer_FillInfo(view, self, self.pointer.base, self.pointer.length, 0, flags)
        self.pointer.exports += 1

    def __releasebuffer__(self, view: cython.pointer(Py_buffer)):
        self.pointer.exports -= 1

    @property
    def store(self) -> Store:
        """The store that the memory belongs to."""
        return self._store

    @property
    def size(self) -> int:
        """The size in pages: of 64 KiB, unless its type says otherwise."""
        return self.pointer.length >> self.pointer.page_bits

    @property
    def type(self) -> MemoryType:
        """The memory's type, with its present size as the minimum."""
        return MemoryType(Limits(self.size, self._max), self.pointer.is64 != 0, False, self.pointer.page_bits)

    @property
    def address(self) -> int:
        """Where the memory's first byte is in this process, for `ctypes` and other code in C.

        A guarded memory (see `Engine`) never moves; a checked one may when it grows. It is good for ``len(memory)``
        bytes, and for as long as the store lives: hold the `Memory`. Nothing checks what is done with an address.
        """
        return cython.cast(uint64_t, self.pointer.base)

    def __len__(self) -> int:
        return self.pointer.length

    def grow(self, pages: int) -> int:
        """Add pages; returns the old size in pages.

        Raises `WasmError` when a limit or the system prevents it, `BufferError` for a checked memory with views.
        """
        more = pages_to_grow(pages)
        old: uint64_t = 0
        self._store.lock()
        try:
            old = self.pointer.length >> self.pointer.page_bits
            if more and self.pointer.exports and self.pointer.checked:
                raise BufferError("a memory without guard pages moves when it grows, which it can't while it has views")
            grown = grow_memory(self._store, self.pointer, more, cython.address(old)) == GROWN
        finally:
            self._store.unlock()
        if not grown:
            raise cannot_grow(self.pointer, old, more, "the store's limits apply")
        return old

    def read(self, offset: int, length: int) -> bytes:
        """A copy of `length` bytes at `offset`. Raises `IndexError` outside of the memory."""
        return read_bytes(self.pointer, offset, length)

    def write(self, offset: int, data: object) -> None:
        """Write bytes (any contiguous buffer) at `offset`. Raises `IndexError` outside of the memory."""
        write_bytes(self.pointer, offset, data)

    def __getitem__(self, key: object) -> int | bytes:
        return get_item(self.pointer, self, key)

    def __setitem__(self, key: object, value: object) -> None:
        set_item(self.pointer, self, key, value)

    def __repr__(self) -> str:
        return f"<wasmloom.Memory of {self.size} pages>"


@cython.cfunc
def memory_at(store: Store, memory: cython.pointer(WlMemory), type: object) -> object:
    """The Python object of a memory: always the same one while it lives. `type` has its declared maximum.

    That of a shared memory (`wasmloom.host.shared_memory`) owns the struct.
    """
    made: Memory
    if memory.object != cython.NULL:
        return cython.cast(object, cython.cast(cython.pointer(PyObject), memory.object))
    made = Memory.__new__(Memory, BARE, None)
    made._store = store
    made.pointer = memory
    made._max = type.limits.max
    memory.object = cython.cast(cython.p_void, made)
    return made


@cython.no_gc_clear
@cython.cclass
class Table:
    """A table of references: ``Table(store, "funcref", minimum, maximum)`` or ``Table(store, TableType(…))``.

    ``table[i]`` reads and writes elements, converted as `wasmloom.host.conversions` says; indices count from 0.
    """

    def __cinit__(
        self,
        store: object,
        type: object,
        minimum: int | None = None,
        maximum: int | None = None,
        *,
        init: object = None,
    ) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        word: uint64_t = 0
        made = as_table_type(type, minimum, maximum)
        most = made.limits.max
        owner.lock()
        try:
            keep_type(owner.types, made.element)
            to_word(owner, made.element, init, cython.address(word))
            self.pointer = new_table(owner, made.limits.min, _MOST if most is None else most, made.is64, word)
        finally:
            owner.unlock()
        self.pointer.object = cython.cast(cython.p_void, self)
        self._store = owner
        self.element = lasting(made.element)
        self._max = most

    def __init__(
        self,
        store: Store,
        type: TableType | ValType | str,
        minimum: int | None = None,
        maximum: int | None = None,
        *,
        init: object = None,
    ) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its struct."""

    def __dealloc__(self) -> None:
        if self.pointer != cython.NULL and self.pointer.object == cython.cast(cython.p_void, self):
            self.pointer.object = cython.NULL

    @property
    def store(self) -> Store:
        """The store that the table belongs to."""
        return self._store

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.pointer.length

    @property
    def type(self) -> TableType:
        """The table's type, with its present size as the minimum."""
        return TableType(self.element, Limits(self.size, self._max), self.pointer.is64 != 0)

    def __len__(self) -> int:
        return self.pointer.length

    def get(self, i: int) -> object:
        """The element at `i`. Raises `IndexError`."""
        return self[i]

    def set(self, i: int, value: object) -> None:
        """Replace the element at `i`. Raises `IndexError`, and `TypeError` or `ValueError` for what doesn't fit."""
        self[i] = value

    def __getitem__(self, key: object) -> object:
        word: uint64_t
        i = index(key)
        self._store.lock()
        try:
            if not 0 <= i < self.pointer.length:
                raise IndexError(f"index {i} is outside of a table of {self.pointer.length} elements")
            word = cython.cast(cython.pointer(uint64_t), self.pointer.elements)[cython.cast(uint64_t, i)]
            return from_word(self._store, self.element, cython.address(word))
        finally:
            self._store.unlock()

    def __setitem__(self, key: object, value: object) -> None:
        word: uint64_t = 0
        i = index(key)
        self._store.lock()
        try:
            to_word(self._store, self.element, value, cython.address(word))
            if not 0 <= i < self.pointer.length:
                raise IndexError(f"index {i} is outside of a table of {self.pointer.length} elements")
            cython.cast(cython.pointer(uint64_t), self.pointer.elements)[cython.cast(uint64_t, i)] = word
        finally:
            self._store.unlock()

    def grow(self, more: int, init: object = None) -> int:
        """Add `more` elements, all `init`; returns the old size. Raises `WasmError` at a limit."""
        word: uint64_t = 0
        count = index(more)
        if not 0 <= count <= _MOST:
            raise WasmError(f"a table can't grow by {count} elements")
        self._store.lock()
        try:
            to_word(self._store, self.element, init, cython.address(word))
            old = self.size
            grown = grow_table(self._store, self.pointer, count, word) == GROWN
        finally:
            self._store.unlock()
        if not grown:
            raise WasmError(
                f"a table of {old} elements can't grow by {count}: "
                f"its maximum is {self.pointer.max}, and the store's limits apply"
            )
        return old

    def __repr__(self) -> str:
        return f"<wasmloom.Table of {self.size} {self.element}>"


@cython.cfunc
def table_at(store: Store, table: cython.pointer(WlTable), type: object) -> Table:
    """The Python object of a table: always the same one while it lives. `type` has its element and maximum."""
    made: Table
    if table.object != cython.NULL:
        return cython.cast(Table, cython.cast(cython.pointer(PyObject), table.object))
    made = Table.__new__(Table, BARE, None)
    made._store = store
    made.pointer = table
    made.element = lasting(type.element)
    made._max = type.limits.max
    table.object = cython.cast(cython.p_void, made)
    return made


@cython.no_gc_clear
@cython.cclass
class Global:
    """A global variable: ``Global(store, "mut i32", 7)``. `value` reads it, and writes it when it is mutable."""

    def __cinit__(self, store: object, type: object, value: object) -> None:
        if store is BARE:
            return
        owner: Store = check_store(store)
        words = cython.declare(uint64_t[2])
        self.type = lasting(as_global_type(type))
        words[0] = words[1] = 0
        owner.lock()  # so that references in transit are not swept
        try:
            keep_type(owner.types, self.type.content)
            to_word(owner, self.type.content, value, words)
            self.cell = cython.cast(cython.pointer(uint64_t), owner.allocate(16))
            if not push(cython.address(owner.cells), self.cell):
                raise MemoryError
            self.cell[0], self.cell[1] = words[0], words[1]
        finally:
            owner.unlock()
        self._store = owner

    def __init__(self, store: Store, type: GlobalType | ValType | str, value: object) -> None:
        """See the class; `__cinit__` does the work, so that no object is ever without its struct."""

    @property
    def store(self) -> Store:
        """The store that the global belongs to."""
        return self._store

    @property
    def address(self) -> int:
        """The address of the global's cell: equal for equal globals."""
        return cython.cast(uint64_t, self.cell)

    @property
    def value(self) -> object:
        """The value, converted as `wasmloom.host.conversions` says. Can be set when the global is mutable."""
        if not self.type.content.is_ref:  # needs no lock, which would wait for a guest that runs in another thread
            return from_word(self._store, self.type.content, self.cell)
        self._store.lock()
        try:
            return from_word(self._store, self.type.content, self.cell)
        finally:
            self._store.unlock()

    @value.setter
    def value(self, value: object) -> None:
        words = cython.declare(uint64_t[2])
        words[0] = words[1] = 0
        if not self.type.mutable:
            raise TypeError("an immutable global can't be set")
        if not self.type.content.is_ref:
            to_word(self._store, self.type.content, value, words)
            self.cell[0], self.cell[1] = words[0], words[1]
            return
        self._store.lock()
        try:
            to_word(self._store, self.type.content, value, words)
            self.cell[0] = words[0]
        finally:
            self._store.unlock()

    @value.deleter
    def value(self) -> None:
        raise AttributeError("attribute 'value' of 'Global' objects can't be deleted")

    def __repr__(self) -> str:
        return f"<wasmloom.Global {'mut ' if self.type.mutable else ''}{self.type.content}: {self.value!r}>"


@cython.cfunc
def global_at(store: Store, cell: cython.pointer(uint64_t), type: object) -> Global:
    """A Python object for a global."""
    made: Global = Global.__new__(Global, BARE, None, None)
    made._store = store
    made.cell = cell
    made.type = lasting(type)
    return made
