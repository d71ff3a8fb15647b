"""Memories, tables, globals and tags."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.config import Engine, engine_of
from wasmloom.compat.wasmtime.errors import WasmtimeError, attempt
from wasmloom.compat.wasmtime.handles import Handle
from wasmloom.compat.wasmtime.store import Storelike
from wasmloom.compat.wasmtime.types import GlobalType, MemoryType, TableType, TagType
from wasmloom.compat.wasmtime.values import WRAPPERS, Func, or_null, same_store, to_core
from wasmloom.spec.limits import PAGE_SIZE

_PAGE_BITS = PAGE_SIZE.bit_length() - 1


def _pointer(buffer: Any) -> ctypes._Pointer[ctypes.c_ubyte]:
    """A pointer to the first byte of an array, which it keeps."""
    return ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ubyte))


class Memory:
    """A linear memory."""

    _core: wl.Memory

    def __init__(self, store: Storelike, ty: MemoryType) -> None:
        if not isinstance(ty, MemoryType):
            raise TypeError("expected a MemoryType")
        self._core = attempt(wl.Memory, store._core, ty._to_make())

    @classmethod
    def _of(cls, core: wl.Memory) -> Memory:
        made = cls.__new__(cls)
        made._core = core
        return made

    def type(self, store: Storelike) -> MemoryType:
        """The memory's type, with its present size."""
        same_store(store, self._core)
        return MemoryType._of(self._core.type)

    def grow(self, store: Storelike, delta: int) -> int:
        """Add pages; returns how many there were. Raises `WasmtimeError` at a limit."""
        same_store(store, self._core)
        if delta < 0:
            raise WasmtimeError("cannot grow by negative amount")
        try:
            return self._core.grow(delta)
        except wl.WasmError:
            raise WasmtimeError(f"failed to grow memory by `{delta}`") from None

    def size(self, store: Storelike) -> int:
        """The size in pages."""
        same_store(store, self._core)
        return self._core.size

    def data_len(self, store: Storelike) -> int:
        """The size in bytes."""
        same_store(store, self._core)
        return len(self._core)

    def page_size(self, store: Storelike) -> int:
        """Bytes of a page."""
        same_store(store, self._core)
        return PAGE_SIZE

    def page_size_log2(self, store: Storelike) -> int:
        """The power of two that bytes of a page are."""
        same_store(store, self._core)
        return _PAGE_BITS

    def data_ptr(self, store: Storelike) -> ctypes._Pointer[ctypes.c_ubyte]:
        """A pointer to the first byte. It keeps the memory, and nothing checks how far it is used (see `data_len`)."""
        return _pointer(self.get_buffer_ptr(store))

    def get_buffer_ptr(
        self, store: Storelike, size: int | None = None, offset: int = 0
    ) -> ctypes.Array[ctypes.c_ubyte]:
        """The bytes of the guest, without a copy, as an array that others (numpy) can use as a buffer.

        `size`: how many bytes; None: all from the offset on. Raises `ValueError` for what isn't in the memory.
        """
        same_store(store, self._core)
        count = len(self._core) - offset if size is None else size
        if offset < 0 or not 0 <= count <= len(self._core) - offset:
            raise ValueError(f"{count} bytes at {offset} are outside of a memory of {len(self._core)} bytes")
        if not count:
            return (ctypes.c_ubyte * 0)()
        return (ctypes.c_ubyte * count).from_buffer(self._core, offset)  # type: ignore[arg-type]

    def read(self, store: Storelike, start: int | None = 0, stop: int | None = None) -> bytearray:
        """A copy of the bytes from `start` to `stop`, as a slice has them: what is outside isn't there."""
        same_store(store, self._core)
        begin, end, _ = slice(start, stop).indices(len(self._core))
        return bytearray(self._core.read(begin, max(end - begin, 0)))

    def write(self, store: Storelike, value: bytearray | bytes, start: int | None = None) -> int:
        """Write bytes at `start` (negative: from the end); returns how many. Raises `IndexError` outside."""
        same_store(store, self._core)
        length = len(self._core)
        begin = 0 if start is None else start
        if begin < 0:
            begin += length
        data = value if isinstance(value, bytes | bytearray) else bytearray(value)
        if not 0 <= begin < length or begin + len(data) > length:
            raise IndexError("index out of range")
        self._core.write(begin, data)
        return len(data)


class SharedMemory(Handle):
    """A memory that threads share. The host can use it; guests can't yet."""

    _core: mmap.mmap

    def __init__(self, engine: Engine, ty: MemoryType) -> None:
        engine_of(engine)
        if not isinstance(ty, MemoryType):
            raise TypeError("expected a MemoryType")
        if not ty.is_shared:
            raise WasmtimeError("shared memory must have the `shared` flag enabled on its memory type")
        self._type = ty._core
        # All that it can ever have, so that it never moves. The system gives pages when they are used.
        self._core = mmap.mmap(-1, max((self._type.limits.max or 0) * PAGE_SIZE, 1))
        self._pages = self._type.limits.min

    def type(self) -> MemoryType:
        """The memory's type."""
        return MemoryType._of(self._type)

    def grow(self, delta: int) -> int:
        """Add pages; returns how many there were."""
        before = self.size()
        if delta < 0:
            raise WasmtimeError("cannot grow by negative amount")
        if before + delta > (self._type.limits.max or 0):
            raise WasmtimeError(f"failed to grow memory by `{delta}`")
        self._pages += delta
        return before

    def size(self) -> int:
        """The size in pages."""
        return self._pages if self._core else 0

    def data_len(self) -> int:
        """The size in bytes."""
        return self.size() * PAGE_SIZE

    def data_ptr(self) -> ctypes._Pointer[ctypes.c_ubyte]:
        """A pointer to the first byte, which keeps the memory."""
        return _pointer((ctypes.c_ubyte * len(self._core)).from_buffer(self._core))


class Global:
    """A global variable."""

    _core: wl.Global

    def __init__(self, store: Storelike, ty: GlobalType, val: Any) -> None:
        if not isinstance(ty, GlobalType):
            raise TypeError("expected a GlobalType")
        self._core = attempt(wl.Global, store._core, ty._core, to_core(ty._core.content)(val))

    @classmethod
    def _of(cls, core: wl.Global) -> Global:
        made = cls.__new__(cls)
        made._core = core
        return made

    def type(self, store: Storelike) -> GlobalType:
        """The global's type."""
        same_store(store, self._core)
        return GlobalType._of(self._core.type)

    def value(self, store: Storelike) -> Any:
        """The value; a null reference is a `Val`."""
        same_store(store, self._core)
        return or_null(self._core.type.content, self._core.value)

    def set_value(self, store: Storelike, val: Any) -> None:
        """Replace the value. Raises `WasmtimeError` if it can't be."""
        same_store(store, self._core)
        type = self._core.type
        value = to_core(type.content)(val)
        if not type.mutable:
            raise WasmtimeError("immutable global cannot be set")
        self._core.value = value


class Table:
    """A table of references."""

    _core: wl.Table

    def __init__(self, store: Storelike, ty: TableType, init: Any) -> None:
        if not isinstance(ty, TableType):
            raise TypeError("expected a TableType")
        value = to_core(ty._core.element)(init)
        self._core = attempt(wl.Table, store._core, ty._core, init=value)

    @classmethod
    def _of(cls, core: wl.Table) -> Table:
        made = cls.__new__(cls)
        made._core = core
        return made

    def type(self, store: Storelike) -> TableType:
        """The table's type, with its present size."""
        same_store(store, self._core)
        return TableType._of(self._core.type)

    def size(self, store: Storelike) -> int:
        """How many elements there are."""
        same_store(store, self._core)
        return self._core.size

    def grow(self, store: Storelike, amt: int, init: Any) -> int:
        """Add elements; returns how many there were. Raises `WasmtimeError` at a limit."""
        same_store(store, self._core)
        value = to_core(self._core.type.element)(init)
        try:
            return self._core.grow(amt, value)
        except wl.WasmError:
            raise WasmtimeError(f"failed to grow table by `{amt}`") from None

    def get(self, store: Storelike, idx: int) -> Any | None:
        """An element; a null reference is a `Val`, and None means that there is no such element."""
        same_store(store, self._core)
        if not 0 <= idx < self._core.size:
            return None
        return or_null(self._core.type.element, self._core[idx])

    def set(self, store: Storelike, idx: int, val: Any) -> None:
        """Replace an element. Raises `WasmtimeError` if there is none."""
        same_store(store, self._core)
        value = to_core(self._core.type.element)(val)
        if not 0 <= idx < self._core.size:
            raise WasmtimeError(f"undefined element: out of bounds table access: index {idx}")
        self._core[idx] = value


class Tag:
    """A tag, which tells exceptions apart."""

    _core: wl.Tag

    def __init__(self, store: Storelike, ty: TagType) -> None:
        if not isinstance(ty, TagType):
            raise TypeError("expected a TagType")
        if ty._core.results:
            raise WasmtimeError("the type of a tag for exceptions has no results")
        self._core = attempt(wl.Tag, store._core, ty._core)

    @classmethod
    def _of(cls, core: wl.Tag) -> Tag:
        made = cls.__new__(cls)
        made._core = core
        return made

    def type(self, store: Storelike) -> TagType:
        """The tag's type."""
        same_store(store, self._core)
        return TagType._of(self._core.type)

    def eq(self, store: Storelike, other: Tag) -> bool:
        """Whether the two are the same tag."""
        same_store(store, self._core)
        return self._core == other._core


AsExtern = Func | Table | Memory | SharedMemory | Global | Tag

for _class, _core in ((Memory, wl.Memory), (Global, wl.Global), (Table, wl.Table), (Tag, wl.Tag)):
    WRAPPERS[_core] = _class._of


def core_of(item: object) -> Any:
    """What an item of this API is as an import of wasmloom's. Raises `TypeError` for what is none."""
    if isinstance(item, Func):
        return item._core if item._per_instance is None else item._per_instance
    if isinstance(item, SharedMemory):
        raise WasmtimeError("guests can't import shared memories yet")
    if isinstance(item, Memory | Global | Table | Tag):
        return item._core
    raise TypeError("expected a Func, Global, Memory, SharedMemory, Tag, or Table")
