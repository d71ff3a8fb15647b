"""Types of functions, globals, memories, tables and tags; of imports and exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import wasmloom as wl
from wasmloom.compat.wasmtime.errors import WasmtimeError, as_errors
from wasmloom.compat.wasmtime.handles import Handle, Part, expect
from wasmloom.host.types import as_memory_type, as_table_type
from wasmloom.spec.canon import func_type
from wasmloom.spec.limits import PAGE_BITS

#: How external references have always been called here.
_NAMES = {wl.EXTERNREF: "anyref"}


class ValType(Handle):
    """A type of values. Made by the class methods."""

    _core: wl.ValType

    def __init__(self) -> None:
        raise WasmtimeError("value types are made by ValType.i32() and its like")

    @classmethod
    def i32(cls) -> ValType:
        """Integers of 32 bits."""
        return cls._of(wl.I32)

    @classmethod
    def i64(cls) -> ValType:
        """Integers of 64 bits."""
        return cls._of(wl.I64)

    @classmethod
    def f32(cls) -> ValType:
        """Floats of 32 bits."""
        return cls._of(wl.F32)

    @classmethod
    def f64(cls) -> ValType:
        """Floats of 64 bits."""
        return cls._of(wl.F64)

    @classmethod
    def externref(cls) -> ValType:
        """References to objects of the host."""
        return cls._of(wl.EXTERNREF)

    @classmethod
    def funcref(cls) -> ValType:
        """References to functions."""
        return cls._of(wl.FUNCREF)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValType) and self._core == other._core

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return _NAMES.get(self._core) or str(self._core)


def _core_types(types: Sequence[ValType]) -> tuple[wl.ValType, ...]:
    len(types)  # an iterator won't do
    return tuple([expect(type, ValType)._core for type in types])


def _val_types(types: Sequence[wl.ValType]) -> list[ValType]:
    return list(map(ValType._of, types))


class Limits:
    """A smallest and, unless it is None, a largest size."""

    def __init__(self, min: int, max: int | None) -> None:
        self.min = min
        self.max = max

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and (self.min, self.max) == (other.min, other.max)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def _of(cls, core: wl.Limits) -> Limits:
        return cls(*core)

    def _as_core(self) -> wl.Limits:
        if self.min < 0 or (self.max is not None and self.max < 0):
            raise WasmtimeError(f"limits must not be negative, got {self.min} and {self.max}")
        return wl.Limits(self.min, self.max)


class FuncType(Handle):
    """The type of a function: what it takes and what it returns."""

    _core: wl.FuncType
    params = Part(_val_types, "The types of its parameters.")
    results = Part(_val_types, "The types of its results.")

    def __init__(self, params: Sequence[ValType], results: Sequence[ValType]) -> None:
        self._core = wl.FuncType(_core_types(params), _core_types(results))


class GlobalType(Handle):
    """The type of a global: of its content, and whether it can be set."""

    _core: wl.GlobalType
    content = Part(ValType._of, "The type of its value.")
    mutable = Part(bool, "Whether it can be set.")

    def __init__(self, valtype: ValType, mutable: bool) -> None:
        self._core = wl.GlobalType(expect(valtype, ValType)._core, bool(mutable))


class TableType(Handle):
    """The type of a table: of its elements, and its size."""

    _core: wl.TableType
    element = Part(ValType._of, "The type of its elements.")
    limits = Part(Limits._of, "How many elements it has.")

    def __init__(self, valtype: ValType, limits: Limits) -> None:
        element = expect(valtype, ValType)._core
        with as_errors(ValueError):
            self._core = as_table_type(wl.TableType(element, limits._as_core()))


class MemoryType(Handle):
    """The type of a memory: its size in pages, and what kind of memory it is."""

    _core: wl.MemoryType
    limits = Part(Limits._of, "How many pages it has.")
    is_64 = Part(bool, "Whether addresses have 64 bits.", "is64")
    is_shared = Part(bool, "Whether threads share it.", "shared")
    page_size = Part((1).__lshift__, "Bytes of a page.", "page_size_log2")
    page_size_log2 = Part(int, "The power of two that bytes of a page are.")

    def __init__(self, limits: Limits, is_64: bool = False, shared: bool = False, page_size_log2: int = 16) -> None:
        if page_size_log2 not in (0, PAGE_BITS):
            raise WasmtimeError(f"page size must be 2**16 or 2**0, but was given 2**{page_size_log2}")
        core = limits._as_core()
        if core.max is not None and core.max < core.min:
            raise WasmtimeError(f"the maximum of {core.max} pages is smaller than the minimum of {core.min}")
        if shared and core.max is None:
            raise WasmtimeError("shared memories must have a maximum size")
        most = (1 << 64 if is_64 else 1 << 32) >> page_size_log2
        if core.min > most or (core.max or 0) > most:
            raise WasmtimeError(f"a memory of this type has at most {most} pages, not {core.min} to {core.max}")
        self._core = wl.MemoryType(core, is_64, shared, page_size_log2)

    def _to_make(self) -> wl.MemoryType:
        """The type for a new memory. Raises `WasmtimeError` for memories that can't be made."""
        core = self._core
        if core.shared:
            raise WasmtimeError("shared memories must be created through `SharedMemory`")
        with as_errors(ValueError):
            return as_memory_type(core)


class TagType(Handle):
    """The type of a tag: of the function whose parameters an exception carries."""

    _core: wl.FuncType

    def __init__(self, functype: FuncType) -> None:
        self._core = expect(functype, FuncType)._core

    @classmethod
    def _of(cls, core: wl.FuncType | wl.TagType) -> TagType:
        made = cls.__new__(cls)
        made._core = func_type(core.type) if isinstance(core, wl.TagType) else core
        return made

    @property
    def functype(self) -> FuncType:
        """The type of the function."""
        return FuncType._of(self._core)


AsExternType = FuncType | TableType | MemoryType | GlobalType | TagType

#: Kind of an import or export → its type here.
_OF_KIND: dict[str, Callable[[Any], AsExternType]] = {
    "func": FuncType._of,
    "table": TableType._of,
    "memory": MemoryType._of,
    "global": GlobalType._of,
    "tag": TagType._of,
}


def _type_of(item: wl.ImportType | wl.ExportType) -> AsExternType:
    return _OF_KIND[item.kind](item.type)


class ImportType(Handle):
    """What a module imports: where from, as what, and of which type."""

    _core: wl.ImportType
    module = Part(str, "The first part of the name.")
    name: Part[str | None] = Part(str, "The second part of the name.")

    def __init__(self, core: wl.ImportType) -> None:
        self._core = core

    @property
    def type(self) -> AsExternType:
        """The type."""
        return _type_of(self._core)


class ExportType(Handle):
    """What a module exports: as what, and of which type."""

    _core: wl.ExportType
    name = Part(str, "The name.")

    def __init__(self, core: wl.ExportType) -> None:
        self._core = core

    @property
    def type(self) -> AsExternType:
        """The type."""
        return _type_of(self._core)
