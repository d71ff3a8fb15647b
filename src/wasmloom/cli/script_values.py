"""Values in test scripts: constants → arguments, and whether results match what a script expects.

Everything is compared by bits. A Python float holds an f64 exactly, and an f32 too; the bits of an f32 NaN are the top
bits of the f64 (`wasmloom.host.conversions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import Any

from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, F32, F64, I32, I64, V128, ValType
from wasmloom.text.script import (
    Const,
    Either,
    NanPattern,
    RefExtern,
    RefHost,
    RefNull,
    RefPattern,
    Result,
    Value,
    VectorPattern,
)

_U32, _U64, _SINGLE, _DOUBLE = Struct("<I"), Struct("<Q"), Struct("<f"), Struct("<d")

#: Exponent bits, and the top bit of the fraction, which quiet NaNs have.
_F32_EXPONENT, _F32_QUIET = 0x7F80_0000, 0x40_0000
_F64_EXPONENT, _F64_QUIET = 0x7FF << 52, 1 << 51

_WIDTHS: dict[str, int] = {"i32": 32, "i64": 64}
_NUMBERS: dict[str, ValType] = {"i32": I32, "i64": I64, "f32": F32, "f64": F64, "v128": V128}
#: Bytes of a vector.
_VECTOR = 16


class NoValue(Exception):
    """A script's value, or a type in it, that has no counterpart in the Python API."""


@dataclass(frozen=True, eq=False)
class HostValue:
    """The host value `number` of a script. It is compared by identity, so only `host_value` makes it."""

    number: int


#: The host value of a number: always the same object.
host_value = cache(HostValue)


def f32_from_bits(bits: int) -> float:
    """The Python float that stands for an f32."""
    if bits & _F32_EXPONENT == _F32_EXPONENT and bits & (_F32_EXPONENT ^ 0x7FFF_FFFF):
        wide = (bits >> 31) << 63 | _F64_EXPONENT | (bits & 0x7F_FFFF) << 29
        return float(_DOUBLE.unpack(_U64.pack(wide))[0])
    return float(_SINGLE.unpack(_U32.pack(bits))[0])


def f32_bits(value: float) -> int:
    """The bits of the f32 that a Python float stands for."""
    if value != value:
        wide: int = _U64.unpack(_DOUBLE.pack(value))[0]
        return (wide >> 63) << 31 | _F32_EXPONENT | (wide >> 29) & 0x7F_FFFF
    return int(_U32.unpack(_SINGLE.pack(value))[0])


def argument(value: Value) -> Any:
    """The Python value to pass. Raises `NoValue`."""
    if isinstance(value, Const):
        if value.type in _WIDTHS:
            return value.bits
        if value.type == "f32":
            return f32_from_bits(value.bits)
        if value.type == "f64":
            return _DOUBLE.unpack(_U64.pack(value.bits))[0]
        if value.type == "v128":
            return value.bits.to_bytes(_VECTOR, "little")
    if isinstance(value, RefNull):
        return None
    if isinstance(value, RefExtern | RefHost) and value.number is not None:
        return host_value(value.number)
    raise NoValue(f"{describe(value)} can't be passed from Python yet")


def bits_of(value: Any, type: ValType) -> int:
    """The bits of a number or a vector that the engine returned."""
    if type == V128:
        return int.from_bytes(value, "little")
    if type in (I32, I64):
        return int(value) & ((1 << (32 if type == I32 else 64)) - 1)
    return f32_bits(value) if type == F32 else int(_U64.unpack(_DOUBLE.pack(value))[0])


def _matches_nan(bits: int, pattern: NanPattern) -> bool:
    exponent, quiet = (_F32_EXPONENT, _F32_QUIET) if pattern.type == "f32" else (_F64_EXPONENT, _F64_QUIET)
    if pattern.kind == "canonical":
        return bits & (exponent | (exponent & -exponent) - 1) == exponent | quiet
    return bits & (exponent | quiet) == exponent | quiet


def _matches_lane(bits: int, expected: Const | NanPattern) -> bool:
    return _matches_nan(bits, expected) if isinstance(expected, NanPattern) else bits == expected.bits


def _lanes(bits: int, count: int) -> list[int]:
    """The lanes of a vector, the lowest first."""
    width = 8 * _VECTOR // count
    return [bits >> width * i & (1 << width) - 1 for i in range(count)]


def matches(value: Any, type: ValType, expected: Result) -> bool:
    """Whether a result of `type` is as expected. Raises `NoValue` for patterns of types that aren't supported."""
    if isinstance(expected, Either):
        return any(matches(value, type, option) for option in expected.options)
    if isinstance(expected, NanPattern):
        return type == _NUMBERS[expected.type] and _matches_nan(bits_of(value, type), expected)
    if isinstance(expected, VectorPattern):
        lanes = expected.lanes
        return type == V128 and all(map(_matches_lane, _lanes(bits_of(value, type), len(lanes)), lanes))
    if isinstance(expected, Const):
        return type == _NUMBERS[expected.type] and bits_of(value, type) == expected.bits
    if isinstance(expected, RefNull):
        return type.is_ref and value is None
    if isinstance(expected, RefExtern):
        if not type.is_ref or type.heap != ABSTRACT_HEAP_TYPES["extern"] or value is None:
            return False
        return expected.number is None or value is host_value(expected.number)
    if isinstance(expected, RefHost):
        return type.is_ref and value is host_value(expected.number)
    if isinstance(expected, RefPattern) and expected.heap in _CLASSES:
        return type.is_ref and isinstance(value, _classes(expected.heap))
    raise NoValue(f"results like {describe(expected)} aren't supported yet")


#: Heap type → the names of the classes of its values.
_CLASSES: dict[str, tuple[str, ...]] = {
    "func": ("Func",),
    "struct": ("Struct",),
    "array": ("Array",),
    "i31": ("int",),
    "eq": ("Struct", "Array", "int"),
    "any": ("Struct", "Array", "int", "HostValue"),
}


def _classes(heap: str) -> tuple[type, ...]:
    """The classes of the values of a heap type. An engine is only imported to run something."""
    import wasmloom

    known: dict[str, type] = {"int": int, "HostValue": HostValue}
    return tuple(known.get(name) or getattr(wasmloom, name) for name in _CLASSES[heap])


def describe(value: Result | Value) -> str:
    """A script's value, roughly as the script writes it."""
    match value:
        case Const(type, bits):
            width = (_WIDTHS.get(type) or (128 if type == "v128" else int(type[1:]))) // 4
            return f"({type}.const 0x{bits:0{width}x})"
        case NanPattern(type, kind):
            return f"({type}.const nan:{kind})"
        case VectorPattern(shape, lanes):
            return f"(v128.const {shape} {' '.join(describe(lane) for lane in lanes)})"
        case RefNull(heap):
            return f"(ref.null {heap or ''})"
        case RefExtern(number):
            return f"(ref.extern {'' if number is None else number})"
        case RefHost(number):
            return f"(ref.host {number})"
        case RefPattern(heap):
            return f"(ref.{heap})"
        case Either(options):
            return f"(either {' '.join(describe(option) for option in options)})"


def describe_result(value: Any, type: ValType) -> str:
    """A result as `describe` writes it."""
    if type in _NUMBERS.values():
        return describe(Const(str(type), bits_of(value, type)))
    return f"({type} {value!r})"
