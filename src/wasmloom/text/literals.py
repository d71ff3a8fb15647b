"""Literals of the text format: strings, integers and floats → bytes and bit patterns (Core 3.0, sections 6.3.1–6.3.4).

Floats are rounded once, directly to their type. Errors are `LiteralError`, which has no position; the parsers add it.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import inf, nextafter


class LiteralError(ValueError):
    """A literal is malformed or out of range; the message is the reason, in the words of the official scripts."""


#: Possessive, because `re` keeps 130 bytes for each character that it could backtrack over.
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([tnr\"'\\])|([0-9a-fA-F]{2})|u\{([0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)\})?")
_SIMPLE_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "'": "'", "\\": "\\"}

_DIGITS = "[0-9]+(?:_[0-9]+)*"
_HEX_DIGITS = "[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*"
_INTEGER = re.compile(rf"[+-]?(?:0x{_HEX_DIGITS}|{_DIGITS})")
_DECIMAL_FLOAT = re.compile(rf"[+-]?{_DIGITS}(?:\.(?:{_DIGITS})?)?(?:[eE][+-]?{_DIGITS})?")
_HEX_FLOAT = re.compile(
    rf"[+-]?0x(?P<whole>{_HEX_DIGITS})(?:\.(?P<part>(?:{_HEX_DIGITS})?))?(?:[pP](?P<power>[+-]?{_DIGITS}))?"
)
_SPECIAL_FLOAT = re.compile(rf"[+-]?(?:inf|nan(?::0x{_HEX_DIGITS})?)")

#: The longest run of decimal digits that can be in range, without leading zeros: 2**64 has 20 digits.
_MAX_DECIMAL_DIGITS = 20

#: Lane shapes: name → (type of a lane, lanes).
SHAPES: dict[str, tuple[str, int]] = {
    "i8x16": ("i8", 16),
    "i16x8": ("i16", 8),
    "i32x4": ("i32", 4),
    "i64x2": ("i64", 2),
    "f32x4": ("f32", 4),
    "f64x2": ("f64", 2),
}

#: Float types: name → (bits, bits of the fraction).
_FLOAT_BITS = {"f32": (32, 23), "f64": (64, 52)}


def bit_width(type_name: str) -> int:
    """Bits of a number type or lane: 8 for ``i8``."""
    return int(type_name[1:])


def is_number(token: str) -> bool:
    """Whether a token is an integer or float, as opposed to a keyword or an unknown word."""
    return any(
        pattern.fullmatch(token) is not None for pattern in (_INTEGER, _DECIMAL_FLOAT, _HEX_FLOAT, _SPECIAL_FLOAT)
    )


def string_bytes(token: str) -> bytes:
    """The bytes that a string token, quotes included, stands for.

    Raises `LiteralError` for an escape that doesn't exist, a code point out of range, and a token that isn't a string.
    """
    found = _STRING.fullmatch(token)
    if found is None:
        raise LiteralError("unknown operator")
    content = found[1]
    if "\\" not in content:
        return content.encode("utf-8")
    out = bytearray()
    position = 0
    for escape in _ESCAPE.finditer(content):
        out += content[position : escape.start()].encode("utf-8")
        position = escape.end()
        simple, byte, point = escape.groups()
        if byte is not None:
            out.append(int(byte, 16))
        elif simple is not None:
            out += _SIMPLE_ESCAPES[simple].encode()
        elif point is not None:
            code = int(point.replace("_", ""), 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise LiteralError("malformed UTF-8 encoding")
            out += chr(code).encode("utf-8")
        else:
            raise LiteralError("illegal escape")
    out += content[position:].encode("utf-8")
    return bytes(out)


def parse_unsigned(token: str, bits: int) -> int:
    """An unsigned integer token below 2**`bits`.

    Raises `LiteralError`: "unknown operator" for what is no number, "unexpected token" for one with a sign, and
    "iN constant out of range".
    """
    if token[:1] in ("+", "-") and _INTEGER.fullmatch(token):
        raise LiteralError("unexpected token")
    value = _magnitude(token)
    if value >> bits:
        raise LiteralError(f"i{bits} constant out of range")
    return value


def parse_integer(token: str, bits: int) -> int:
    """The bit pattern of an integer token, signed or not, in `bits` bits.

    Raises `LiteralError`: "unknown operator" for what is no number, "unexpected token" for a float, and "constant out
    of range".
    """
    value = _magnitude(token)
    if token[0] == "-":
        if value > 1 << (bits - 1):
            raise LiteralError("constant out of range")
        return -value & ((1 << bits) - 1)
    if value >> bits:
        raise LiteralError("constant out of range")
    return value


def _not_a_number(token: str) -> str:
    """The reason why a token that isn't a number is wrong where a number is required."""
    return "unexpected token" if token[:1] in ("", "(", ")", "$", '"') else "unknown operator"


def _magnitude(token: str) -> int:
    if _INTEGER.fullmatch(token) is None:
        raise LiteralError("unexpected token" if is_number(token) else _not_a_number(token))
    digits = token.lstrip("+-").replace("_", "")
    if digits.startswith("0x"):
        return int(digits, 16)
    digits = digits.lstrip("0")
    # Python limits the length of the numbers that it reads; anything this long is out of range anyway.
    return int(digits or "0") if len(digits) <= _MAX_DECIMAL_DIGITS else 1 << 127


def parse_float(token: str, type_name: str) -> int:
    """The bit pattern of a float token in the type ``f32`` or ``f64``, rounded once to nearest, ties to even.

    Raises `LiteralError`: "unknown operator" for what is no number and "constant out of range".
    """
    width, fraction_bits = _FLOAT_BITS[type_name]
    sign = 1 << (width - 1) if token[:1] == "-" else 0
    text = token.lstrip("+-").replace("_", "")
    if _SPECIAL_FLOAT.fullmatch(token):
        infinity = ((1 << (width - 1 - fraction_bits)) - 1) << fraction_bits
        if text == "inf":
            return sign | infinity
        if text == "nan":
            return sign | infinity | 1 << (fraction_bits - 1)
        payload = int(text[4:], 16)
        if payload == 0 or payload >> fraction_bits:
            raise LiteralError("constant out of range")
        return sign | infinity | payload
    hexadecimal = _HEX_FLOAT.fullmatch(token)
    if hexadecimal is None and _DECIMAL_FLOAT.fullmatch(token) is None:
        raise LiteralError(_not_a_number(token))
    try:
        value = float.fromhex(text) if hexadecimal else float(text)
        if value == inf:
            raise LiteralError("constant out of range")
        if width == 64:
            return sign | int.from_bytes(struct.pack("<d", value), "little")
        return sign | _round_to_f32(text, value, hexadecimal)
    except OverflowError:
        raise LiteralError("constant out of range") from None


def _round_to_f32(text: str, value: float, hexadecimal: re.Match[str] | None) -> int:
    """The bits of the unsigned literal `text` as f32, where `value` is the literal rounded to f64.

    Rounding twice goes wrong only when the first result lies exactly between two f32 numbers and isn't exact. Then the
    low 28 bits of its fraction are zero, and moving it by one towards the exact number decides.
    """
    double_bits = int.from_bytes(struct.pack("<d", value), "little")
    if double_bits & 0x0FFF_FFFF == 0 and value != 0.0:
        difference = _compare(text, value, hexadecimal)
        if difference:
            value = nextafter(value, inf if difference > 0 else 0.0)
    return int.from_bytes(struct.pack("<f", value), "little")


def _compare(text: str, value: float, hexadecimal: re.Match[str] | None) -> int:
    """1, 0 or -1 as the literal is above, at or below the finite `value`."""
    if hexadecimal is None:
        try:
            exact, rounded = Decimal(text), Decimal(value)
        except InvalidOperation:
            return 0
        return (exact > rounded) - (exact < rounded)
    part = (hexadecimal["part"] or "").replace("_", "")
    mantissa = int(hexadecimal["whole"].replace("_", "") + part, 16)
    digits = (hexadecimal["power"] or "0").replace("_", "")
    exponent = int(digits.lstrip("+-").lstrip("0") or "0")
    power = (-exponent if digits[0] == "-" else exponent) - 4 * len(part)
    number = Fraction(mantissa) * (Fraction(2) ** power)
    return (number > value) - (number < value)


def parse_number(token: str, type_name: str) -> int:
    """The bit pattern of a number token in a number type or lane type (``i8`` to ``f64``).

    Raises `LiteralError` as `parse_integer` and `parse_float` do.
    """
    if type_name[0] == "f":
        return parse_float(token, type_name)
    return parse_integer(token, bit_width(type_name))
