"""Literals: every number is rounded once, and strings mean the bytes that they say."""

from __future__ import annotations

import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom.text.formatting import f32_text, f64_text, quote_bytes, quote_name
from wasmloom.text.literals import LiteralError, parse_float, parse_integer, parse_unsigned, string_bytes

FRACTION_BITS = {"f32": 23, "f64": 52}
WIDTHS = {"f32": 32, "f64": 64}


def exact_value(bits: int, type_name: str) -> Fraction:
    """The number that a finite positive bit pattern stands for, from the definition of IEEE 754."""
    fraction_bits = FRACTION_BITS[type_name]
    bias = (1 << (WIDTHS[type_name] - 2 - fraction_bits)) - 1
    exponent, fraction = bits >> fraction_bits, bits & ((1 << fraction_bits) - 1)
    if exponent == 0:
        return Fraction(fraction) * Fraction(2) ** (1 - bias - fraction_bits)
    return Fraction(fraction + (1 << fraction_bits)) * Fraction(2) ** (exponent - bias - fraction_bits)


def nearest(value: Fraction, type_name: str) -> int | None:
    """The bits of the positive float that is nearest to `value`, ties to even; None when that overflows."""
    infinity = ((1 << (WIDTHS[type_name] - 1 - FRACTION_BITS[type_name])) - 1) << FRACTION_BITS[type_name]
    low, high = 0, infinity
    while high - low > 1:
        middle = (low + high) // 2
        if exact_value(middle, type_name) <= value:
            low = middle
        else:
            high = middle
    # As if the exponent went on, the largest finite number has a next one too.
    below, above = value - exact_value(low, type_name), exact_value(low + 1, type_name) - value
    bits = low if below < above or (below == above and low % 2 == 0) else low + 1
    return None if bits == infinity else bits


@st.composite
def decimal_texts(draw: st.DrawFn) -> str:
    digits = st.text("0123456789", min_size=1, max_size=30)
    text = draw(digits)
    if draw(st.booleans()):
        text += "." + draw(st.one_of(st.just(""), digits))
    if draw(st.booleans()):
        text += draw(st.sampled_from("eE")) + draw(st.sampled_from(["", "+", "-"])) + str(draw(st.integers(0, 60)))
    return text


@st.composite
def near_midpoints(draw: st.DrawFn) -> str:
    """Decimal numbers at, just below and just above the middle between two f32 numbers."""
    bits = draw(st.integers(0, 0x7F7FFFFE))
    middle = (exact_value(bits, "f32") + exact_value(bits + 1, "f32")) / 2
    scale = 200
    digits = middle.numerator * 10**scale // middle.denominator + draw(st.integers(-1, 1))
    return f"{max(digits, 0)}e-{scale}"


@given(decimal_texts(), st.sampled_from(["f32", "f64"]))
def test_decimal_floats_are_rounded_to_nearest(text: str, type_name: str) -> None:
    expected = nearest(Fraction(text.replace(".e", "e").replace(".E", "e").rstrip(".")), type_name)
    if expected is None:
        with pytest.raises(LiteralError, match="constant out of range"):
            parse_float(text, type_name)
    else:
        assert parse_float(text, type_name) == expected
        assert parse_float(f"-{text}", type_name) == expected | 1 << (WIDTHS[type_name] - 1)


@given(near_midpoints())
def test_f32_is_not_rounded_twice(text: str) -> None:
    mantissa, _, power = text.partition("e")
    assert parse_float(text, "f32") == nearest(Fraction(int(mantissa)) * Fraction(10) ** int(power), "f32")


@given(st.integers(0, (1 << 80) - 1), st.integers(-160, 60), st.sampled_from(["f32", "f64"]))
def test_hexadecimal_floats_are_rounded_to_nearest(mantissa: int, power: int, type_name: str) -> None:
    digits = f"{mantissa:x}"
    text = f"0x{digits[:1]}.{digits[1:]}p{power}"
    expected = nearest(Fraction(mantissa) * Fraction(2) ** (power - 4 * (len(digits) - 1)), type_name)
    if expected is None:
        with pytest.raises(LiteralError, match="constant out of range"):
            parse_float(text, type_name)
    else:
        assert parse_float(text, type_name) == expected


@pytest.mark.parametrize(
    ("text", "type_name", "bits"),
    [
        ("inf", "f32", 0x7F800000),
        ("-inf", "f64", 0xFFF0000000000000),
        ("nan", "f32", 0x7FC00000),
        ("-nan", "f64", 0xFFF8000000000000),
        ("nan:0x1", "f32", 0x7F800001),
        ("-nan:0x7f_ffff", "f32", 0xFFFFFFFF),
        ("0x1.fffffefffffff8000000p127", "f32", 0x7F7FFFFF),
        ("0x0.00000100000000001p-126", "f32", 0x00000001),
        ("1_000.5e-0_1", "f64", 0x4059033333333333),
        ("0" * 5000 + "1", "f32", 0x3F800000),
        ("0x1p+" + "0" * 5000 + "1", "f64", 0x4000000000000000),
        ("1e-99999999999999999999", "f32", 0),
    ],
)
def test_floats(text: str, type_name: str, bits: int) -> None:
    assert parse_float(text, type_name) == bits


@pytest.mark.parametrize("text", ["nan:0x0", "nan:0x800000", "0x1p128", "3.4028236e38", "1e999999999999999999"])
def test_floats_out_of_range(text: str) -> None:
    with pytest.raises(LiteralError, match="constant out of range"):
        parse_float(text, "f32")


@pytest.mark.parametrize(
    "text", ["", "_1", "1_", "1__0", "0x", "0x1.g", "1e", "1e+", "nan:1", "nan:0x", "infinity", ".5"]
)
def test_words_that_are_no_floats(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_float(text, "f64")


@given(st.integers(-(1 << 70), 1 << 70), st.sampled_from([8, 16, 32, 64]), st.booleans())
def test_integers(value: int, bits: int, hexadecimal: bool) -> None:
    text = f"{'-' if value < 0 else ''}0x{abs(value):x}" if hexadecimal else str(value)
    if -(1 << (bits - 1)) <= value < 1 << bits:
        assert parse_integer(text, bits) == value % (1 << bits)
    else:
        with pytest.raises(LiteralError, match="constant out of range"):
            parse_integer(text, bits)


def test_integers_of_any_length() -> None:
    assert parse_integer("0" * 10_000 + "7", 32) == 7
    with pytest.raises(LiteralError, match="constant out of range"):
        parse_integer("9" * 10_000, 64)
    with pytest.raises(LiteralError, match="unexpected token"):
        parse_unsigned("-1", 32)
    with pytest.raises(LiteralError, match="unknown operator"):
        parse_unsigned("0x_1", 32)


@given(st.binary())
def test_quoted_bytes_read_back(data: bytes) -> None:
    assert string_bytes(quote_bytes(data)) == data


@given(st.text())
def test_quoted_names_read_back(name: str) -> None:
    assert string_bytes(quote_name(name)).decode() == name


@pytest.mark.parametrize(
    ("token", "data"),
    [
        (r'"\t\n\r\"\'\\"', b"\t\n\r\"'\\"),
        (r'"\00\fF"', b"\x00\xff"),
        (r'"\u{1F6_00}"', "\U0001f600".encode()),
        ('"λ"', "λ".encode()),
    ],
)
def test_strings(token: str, data: bytes) -> None:
    assert string_bytes(token) == data


@pytest.mark.parametrize("token", [r'"\u{110000}"', r'"\u{d800}"', r'"\q"', r'"\0"', '"a""b"', "a"])
def test_malformed_strings(token: str) -> None:
    with pytest.raises(LiteralError):
        string_bytes(token)


@given(st.binary(min_size=4, max_size=4))
def test_printed_f32_reads_back(data: bytes) -> None:
    assert parse_float(f32_text(data), "f32") == int.from_bytes(data, "little")


@given(st.binary(min_size=8, max_size=8))
def test_printed_f64_reads_back(data: bytes) -> None:
    assert parse_float(f64_text(data), "f64") == int.from_bytes(data, "little")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_printed_f32_is_short(value: float) -> None:
    assert len(f32_text(struct.pack("<f", value)).lstrip("-")) <= 16
