"""Types for users: wherever a type is expected, its text in the text format will do."""

from __future__ import annotations

from collections.abc import Iterable

from wasmloom.spec.canon import exists, func_type
from wasmloom.spec.limits import MAX_PARAMS, MAX_RESULTS, PAGE_BITS, most_pages
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    PLAIN_TYPES,
    REF_SHORTHANDS,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
    ref_type,
)

#: What function types can be given as: see `as_func_type`.
AsValTypes = str | ValType | Iterable[ValType | str]
AsFuncType = FuncType | str | tuple[AsValTypes, AsValTypes]

#: Text → value type, of all value types without a type index. Packed types are no value types.
_VAL_TYPES: dict[str, ValType] = {
    name: ValType(code) for name, code in PLAIN_TYPES.items() if name not in ("i8", "i16")
} | {name: ref_type(ABSTRACT_HEAP_TYPES[heap], True) for name, heap in REF_SHORTHANDS.items()}


def as_val_type(value: object) -> ValType:
    """A value type from itself or its name (``"i32"``, ``"externref"``). Raises `TypeError` or `ValueError`."""
    if isinstance(value, ValType):
        if not exists(value):
            raise ValueError(f"{value!r} is not a value type, or names a type that is gone")
        return value
    if isinstance(value, str):
        found = _VAL_TYPES.get(value.strip())
        if found is None:
            raise ValueError(f"unknown value type {value!r}; known are {', '.join(_VAL_TYPES)}")
        return found
    raise TypeError(f"expected a value type or its name, not {type(value).__name__}")


def _val_types(value: object) -> tuple[ValType, ...]:
    """Value types from text ("i32 f64"), one value type, or an iterable of them."""
    if isinstance(value, str):
        return tuple(map(as_val_type, value.replace(",", " ").split()))
    if isinstance(value, ValType):
        return (value,)
    if isinstance(value, Iterable):
        return tuple(map(as_val_type, value))
    raise TypeError(f"expected value types, not {type(value).__name__}")


def as_func_type(value: object) -> FuncType:
    """A function type from itself, from text (``"i32 i32 -> i32"``), or from a pair of parameters and results.

    Raises `TypeError` or `ValueError`.
    """
    if isinstance(value, str):
        params, arrow, results = value.partition("->")
        if not arrow:
            raise ValueError(f"a function type needs '->' between parameters and results: {value!r}")
        made = FuncType(_val_types(params), _val_types(results))
    elif isinstance(value, tuple | list) and len(value) == 2:
        made = FuncType(_val_types(value[0]), _val_types(value[1]))
    else:
        raise TypeError(f"expected a function type, not {value!r:.80}")
    if len(made.params) > MAX_PARAMS or len(made.results) > MAX_RESULTS:
        raise ValueError(f"a function type has at most {MAX_PARAMS} parameters and {MAX_RESULTS} results")
    return made


def as_global_type(value: object) -> GlobalType:
    """A global type from itself, a value type, or text (``"i32"``, ``"mut i32"``). Raises `TypeError`, `ValueError`."""
    if isinstance(value, GlobalType):
        return GlobalType(as_val_type(value.content), bool(value.mutable))
    if isinstance(value, str) and value.split()[:1] == ["mut"]:
        return GlobalType(as_val_type(value.split(None, 1)[1] if len(value.split()) > 1 else ""), True)
    return GlobalType(as_val_type(value), False)


def _limits(minimum: object, maximum: object, what: str, most: int) -> Limits:
    for number in (minimum, maximum):
        if isinstance(number, bool) or not isinstance(number, int | None):
            raise TypeError(f"{what} is a number, not {type(number).__name__}")
    if not isinstance(minimum, int):
        raise TypeError(f"{what} is missing")
    last = maximum if isinstance(maximum, int) else most
    if not 0 <= minimum <= last <= most:
        raise ValueError(f"{what}: limits {minimum} to {maximum} are not within 0 to {most}, or the wrong way round")
    return Limits(minimum, None if maximum is None else last)


def as_memory_type(value: object, maximum: int | None = None) -> MemoryType:
    """A memory type from itself, `Limits`, or a number of pages with an optional maximum.

    Raises `TypeError`, or `ValueError` for limits beyond what addresses reach and for pages of other sizes.
    """
    is64, shared, page_bits = False, False, PAGE_BITS
    if isinstance(value, MemoryType):
        shared = bool(value.shared)
        is64, page_bits = bool(value.is64), value.page_size_log2
        if page_bits not in (0, PAGE_BITS):
            raise ValueError(f"pages have 1 byte or 64 KiB, not 2**{page_bits} bytes")
        value = value.limits
    if isinstance(value, Limits):
        maximum = value.max
        value = value.min
    limits = _limits(value, maximum, "memory size in pages", most_pages(is64, page_bits))
    return MemoryType(limits, is64, shared, page_bits)


def as_table_type(value: object, minimum: int | None = None, maximum: int | None = None) -> TableType:
    """A table type from itself, or an element type with a size and an optional maximum.

    Raises `TypeError`, or `ValueError` for limits beyond what indices reach.
    """
    is64 = False
    if isinstance(value, TableType):
        is64 = bool(value.is64)
        minimum, maximum = value.limits
        value = value.element
    element = as_val_type(value)
    if not element.is_ref:
        raise ValueError(f"a table holds references, not {element}")
    most = (1 << 64) - 1 if is64 else (1 << 32) - 1
    return TableType(element, _limits(0 if minimum is None else minimum, maximum, "table size", most), is64)


def describe(kind: str, type: object) -> str:
    """A type as an error message shows it; functions as `FuncType`."""
    if isinstance(type, MemoryType | TableType):
        limits = f"{type.limits.min}" + ("" if type.limits.max is None else f" to {type.limits.max}")
        index = "i64 " if type.is64 else ""
        if isinstance(type, MemoryType):
            size = {PAGE_BITS: "", 0: " of 1 byte"}.get(type.page_size_log2, f" of 2**{type.page_size_log2} bytes")
            return f"{'shared ' if type.shared else ''}memory {index}of {limits} pages{size}"
        return f"table {index}of {limits} {type.element}"
    if isinstance(type, GlobalType):
        return f"global {'mut ' if type.mutable else ''}{type.content}"
    if isinstance(type, TagType):
        return f"tag {func_type(type.type)}"
    return f"{kind} {type}"
