"""Values on the command line: text → argument, result → text."""

from __future__ import annotations

from struct import Struct
from typing import Any

from wasmloom.cli.common import UsageError
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, F32, F64, I32, I64, ValType

_FLOATS: dict[ValType, tuple[Struct, Struct]] = {
    F32: (Struct("<I"), Struct("<f")),
    F64: (Struct("<Q"), Struct("<d")),
}
_REF_EXTERN = ABSTRACT_HEAP_TYPES["extern"]


def parse_argument(text: str, type: ValType) -> Any:
    """An argument of `type`, written as in the text format (``-1``, ``0xFF``, ``1e3``, ``nan``, ``null``).

    Raises `UsageError` when it isn't one.
    """
    from wasmloom.text.literals import LiteralError, parse_number

    if type.is_ref and type.is_nullable and text == "null":
        return None
    if type.is_ref and type.heap == _REF_EXTERN:
        return text
    if type not in (I32, I64, F32, F64):
        raise UsageError(f"an argument of type {type} can't be given on the command line")
    try:
        bits = parse_number(text, str(type))
    except LiteralError as error:
        raise UsageError(f"argument {text!r} is not of type {type}: {error}") from None
    if type in _FLOATS:
        word, number = _FLOATS[type]
        return number.unpack(word.pack(bits))[0]
    width = 32 if type == I32 else 64
    return bits - (1 << width) if bits >> (width - 1) else bits


def format_result(value: Any, type: ValType) -> str:
    """A result as text: integers signed, floating-point numbers with as few digits as tell them apart."""
    if value is None:
        return "null"
    if type == F32:
        single = _FLOATS[F32][1]
        for digits in range(1, 10):
            rounded = float(f"{value:.{digits}g}")
            # Near the largest number, a rounded one may be too large for the format.
            if value != value or (abs(rounded) < 3.4028236e38 and single.pack(rounded) == single.pack(value)):
                return repr(rounded)
    return repr(value) if isinstance(value, float) else str(value)
