"""Memories, tables, globals and tags."""

from __future__ import annotations

import ctypes
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.config import Engine, engine_of
from wasmloom.compat.wasmtime.errors import WasmtimeError, attempt
from wasmloom.compat.wasmtime.handles import Handle, expect
from wasmloom.compat.wasmtime.store import WRAPPERS, Item, Storelike
from wasmloom.compat.wasmtime.types import GlobalType, MemoryType, TableType, TagType
from wasmloom.compat.wasmtime.values import Func, or_null, to_core


def _pointer(buffer: Any) -> ctypes._Pointer[ctypes.c_ubyte]:
    """A pointer to the first byte of an array, which it keeps."""
    return ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ubyte))


class Memory(Item[wl.Memory, MemoryType], core=wl.Memory, kind=MemoryType):
    """A linear memory."""

    def __init__(self, store: Storelike, ty: MemoryType) -> None:
        expect(ty, MemoryType)
        self._core = attempt(wl.Memory, store._core, ty._to_make())

    def grow(self, store: Storelike, delta: int) -> int:
        """Add pages; returns how many there were. Raises `WasmtimeError` at a limit."""
        core = self._in(store)
        if delta < 0:
            raise WasmtimeError("cannot grow by negative amount")
        try:
            return core.grow(delta)
        except (wl.WasmError, BufferError):
            raise WasmtimeError(f"failed to grow memory by `{delta}`") from None

    def size(self, store: Storelike) -> int:
        """The size in pages."""
        return self._in(store).size

    def data_len(self, store: Storelike) -> int:
        """The size in bytes."""
        return len(self._in(store))

    def page_size(self, store: Storelike) -> int:
        """Bytes of a page."""
        return 1 << self.page_size_log2(store)

    def page_size_log2(self, store: Storelike) -> int:
        """The power of two that bytes of a page are."""
        return self._in(store).type.page_size_log2

    def data_ptr(self, store: Storelike) -> ctypes._Pointer[ctypes.c_ubyte]:
        """A pointer to the first byte. It keeps the memory, and nothing checks how far it is used (see `data_len`)."""
        return _pointer(self.get_buffer_ptr(store))

    def get_buffer_ptr(
        self, store: Storelike, size: int | None = None, offset: int = 0
    ) -> ctypes.Array[ctypes.c_ubyte]:
        """The bytes of the guest, without a copy, as an array that others (numpy) can use as a buffer.

        `size`: how many bytes; None: all from the offset on. Raises `ValueError` for what isn't in the memory.
        """
        core = self._in(store)
        count = len(core) - offset if size is None else size
        if offset < 0 or not 0 <= count <= len(core) - offset:
            raise ValueError(f"{count} bytes at {offset} are outside of a memory of {len(core)} bytes")
        if not count:
            return (ctypes.c_ubyte * 0)()
        return (ctypes.c_ubyte * count).from_buffer(core, offset)

    def read(self, store: Storelike, start: int | None = 0, stop: int | None = None) -> bytearray:
        """A copy of the bytes from `start` to `stop`, as a slice has them: what is outside isn't there."""
        core = self._in(store)
        begin, end, _ = slice(start, stop).indices(len(core))
        return bytearray(core.read(begin, max(end - begin, 0)))

    def write(self, store: Storelike, value: bytearray | bytes, start: int | None = None) -> int:
        """Write bytes at `start` (negative: from the end); returns how many. Raises `IndexError` outside."""
        core = self._in(store)
        length = len(core)
        begin = 0 if start is None else start
        if begin < 0:
            begin += length
        data = value if isinstance(value, bytes | bytearray) else bytearray(value)
        if not 0 <= begin < length or begin + len(data) > length:
            raise IndexError("index out of range")
        core.write(begin, data)
        return len(data)


class SharedMemory(Handle):
    """A memory that threads share; it belongs to no store."""

    _core: wl.SharedMemory

    def __init__(self, engine: Engine, ty: MemoryType) -> None:
        engine_of(engine)
        expect(ty, MemoryType)
        if not ty.is_shared:
            raise WasmtimeError("shared memory must have the `shared` flag enabled on its memory type")
        self._core = attempt(wl.SharedMemory, ty._core)

    def type(self) -> MemoryType:
        """The memory's type."""
        self._check_open()
        return MemoryType._of(self._core.type)

    def grow(self, delta: int) -> int:
        """Add pages; returns how many there were."""
        self._check_open()
        if delta < 0:
            raise WasmtimeError("cannot grow by negative amount")
        try:
            return self._core.grow(delta)
        except wl.WasmError:
            raise WasmtimeError(f"failed to grow memory by `{delta}`") from None

    def size(self) -> int:
        """The size in pages."""
        self._check_open()
        return self._core.size

    def data_len(self) -> int:
        """The size in bytes."""
        self._check_open()
        return len(self._core)

    def data_ptr(self) -> ctypes._Pointer[ctypes.c_ubyte]:
        """A pointer to the first byte, which keeps the memory."""
        self._check_open()
        return _pointer((ctypes.c_ubyte * len(self._core)).from_buffer(self._core))


WRAPPERS[wl.SharedMemory] = SharedMemory._of


class Global(Item[wl.Global, GlobalType], core=wl.Global, kind=GlobalType):
    """A global variable."""

    def __init__(self, store: Storelike, ty: GlobalType, val: Any) -> None:
        expect(ty, GlobalType)
        self._core = attempt(wl.Global, store._core, ty._core, to_core(ty._core.content)(val))

    def value(self, store: Storelike) -> Any:
        """The value; a null reference is a `Val`."""
        core = self._in(store)
        return or_null(core.type.content, core.value)

    def set_value(self, store: Storelike, val: Any) -> None:
        """Replace the value. Raises `WasmtimeError` if it can't be."""
        core = self._in(store)
        value = to_core(core.type.content)(val)
        if not core.type.mutable:
            raise WasmtimeError("immutable global cannot be set")
        core.value = value


class Table(Item[wl.Table, TableType], core=wl.Table, kind=TableType):
    """A table of references."""

    def __init__(self, store: Storelike, ty: TableType, init: Any) -> None:
        expect(ty, TableType)
        value = to_core(ty._core.element)(init)
        self._core = attempt(wl.Table, store._core, ty._core, init=value)

    def size(self, store: Storelike) -> int:
        """How many elements there are."""
        return self._in(store).size

    def grow(self, store: Storelike, amt: int, init: Any) -> int:
        """Add elements; returns how many there were. Raises `WasmtimeError` at a limit."""
        core = self._in(store)
        value = to_core(core.type.element)(init)
        try:
            return core.grow(amt, value)
        except wl.WasmError:
            raise WasmtimeError(f"failed to grow table by `{amt}`") from None

    def get(self, store: Storelike, idx: int) -> Any | None:
        """An element; a null reference is a `Val`, and None means that there is no such element."""
        core = self._in(store)
        return or_null(core.type.element, core[idx]) if 0 <= idx < core.size else None

    def set(self, store: Storelike, idx: int, val: Any) -> None:
        """Replace an element. Raises `WasmtimeError` if there is none."""
        core = self._in(store)
        value = to_core(core.type.element)(val)
        if not 0 <= idx < core.size:
            raise WasmtimeError(f"undefined element: out of bounds table access: index {idx}")
        core[idx] = value


class Tag(Item[wl.Tag, TagType], core=wl.Tag, kind=TagType):
    """A tag, which tells exceptions apart."""

    def __init__(self, store: Storelike, ty: TagType) -> None:
        expect(ty, TagType)
        if ty._core.results:
            raise WasmtimeError("the type of a tag for exceptions has no results")
        self._core = attempt(wl.Tag, store._core, ty._core)

    def eq(self, store: Storelike, other: Tag) -> bool:
        """Whether the two are the same tag."""
        return self._in(store) == other._core


AsExtern = Func | Table | Memory | SharedMemory | Global | Tag


def core_of(item: object) -> Any:
    """What an item of this API is as an import of wasmloom's. Raises `TypeError` for what is none."""
    if isinstance(item, Func | Memory | SharedMemory | Global | Table | Tag):
        return item._core
    raise TypeError("expected a Func, Global, Memory, SharedMemory, Tag, or Table")
