"""Values in scripts and on the command line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom.cli.common import UsageError
from wasmloom.cli.script_values import (
    NoValue,
    argument,
    bits_of,
    describe,
    describe_result,
    f32_bits,
    f32_from_bits,
    host_value,
    matches,
)
from wasmloom.cli.values import format_result, parse_argument
from wasmloom.spec.types import ANYREF, EXTERNREF, F32, F64, FUNCREF, I32, I64, V128
from wasmloom.text.script import Const, Either, NanPattern, RefExtern, RefHost, RefNull, RefPattern, VectorPattern


@given(st.integers(0, 0xFFFFFFFF))
def test_f32_keep_their_bits(bits: int) -> None:
    assert f32_bits(f32_from_bits(bits)) == bits
    assert bits_of(argument(Const("f32", bits)), F32) == bits


@given(st.integers(0, (1 << 64) - 1))
def test_f64_keep_their_bits(bits: int) -> None:
    assert bits_of(argument(Const("f64", bits)), F64) == bits


def test_nan_patterns() -> None:
    canonical, arithmetic = NanPattern("f32", "canonical"), NanPattern("f32", "arithmetic")
    for bits, is_canonical, is_arithmetic in (
        (0x7FC00000, True, True),
        (0xFFC00000, True, True),
        (0x7FC00001, False, True),
        (0x7FE00000, False, True),
        (0x7F800001, False, False),
        (0x7F800000, False, False),
        (0x3F800000, False, False),
    ):
        value = f32_from_bits(bits)
        assert matches(value, F32, canonical) == is_canonical
        assert matches(value, F32, arithmetic) == is_arithmetic
    quiet = NanPattern("f64", "canonical")
    assert matches(argument(Const("f64", 0x7FF8 << 48)), F64, quiet)
    assert not matches(argument(Const("f64", 0x7FF8 << 48 | 1)), F64, quiet)
    assert not matches(1.0, F64, canonical)


def test_results_match_by_bits_and_type() -> None:
    assert matches(-1, I32, Const("i32", 0xFFFFFFFF))
    assert not matches(-1, I64, Const("i32", 0xFFFFFFFF))
    assert not matches(-0.0, F64, Const("f64", 0))
    assert matches(2, I32, Either((Const("i32", 1), Const("i32", 2))))
    assert not matches(3, I32, Either((Const("i32", 1), Const("i32", 2))))
    assert matches(None, FUNCREF, RefNull(None))
    assert not matches(0, I32, RefNull(None))
    assert matches(host_value(3), EXTERNREF, RefExtern(3))
    assert matches(host_value(3), EXTERNREF, RefExtern(None))
    assert not matches(host_value(4), EXTERNREF, RefExtern(3))
    assert not matches(None, EXTERNREF, RefExtern(None))
    assert not matches(None, FUNCREF, RefPattern("func"))
    assert not matches(None, ANYREF, RefPattern("any"))
    for heap in ("i31", "eq", "any"):
        assert matches(5, ANYREF, RefPattern(heap)) and not matches(5, I32, RefPattern(heap))
    assert not matches(5, ANYREF, RefPattern("struct")) and not matches(host_value(1), ANYREF, RefPattern("eq"))
    assert matches(host_value(1), ANYREF, RefHost(1)) and not matches(host_value(1), ANYREF, RefHost(2))
    with pytest.raises(NoValue):
        matches(None, FUNCREF, RefPattern("exn"))


def test_vectors() -> None:
    given = argument(Const("v128", 1 << 127 | 2))
    assert given == b"\2" + bytes(14) + b"\x80"
    assert matches(given, V128, Const("v128", 1 << 127 | 2))
    assert not matches(given, V128, Const("v128", 1 << 126 | 2))
    assert not matches(0, I32, Const("v128", 0))
    nan, one = NanPattern("f32", "canonical"), Const("f32", 0x3F800000)
    pattern = VectorPattern("f32x4", (one, nan, one, nan))
    ones = bytes.fromhex("0000803f")
    assert matches(2 * (ones + bytes.fromhex("0000c0ff")), V128, pattern)
    assert not matches(2 * (ones + bytes.fromhex("0100c0ff")), V128, pattern)
    assert not matches(4 * ones, V128, pattern)
    assert describe_result(given, V128) == "(v128.const 0x80000000000000000000000000000002)"


def test_descriptions() -> None:
    assert describe(Const("i32", 255)) == "(i32.const 0x000000ff)"
    assert describe(Either((NanPattern("f64", "canonical"), RefNull("func")))) == (
        "(either (f64.const nan:canonical) (ref.null func))"
    )


def test_arguments_on_the_command_line() -> None:
    assert parse_argument("-1", I32) == parse_argument("0xffffffff", I32) == -1
    assert parse_argument("1_000", I64) == 1000
    assert parse_argument("0x8000000000000000", I64) == -(1 << 63)
    assert parse_argument("1e3", F64) == 1000
    assert parse_argument("0.1", F32) == pytest.approx(0.1)
    assert math.isnan(parse_argument("nan", F32))
    assert parse_argument("-inf", F64) == -math.inf
    assert parse_argument("null", FUNCREF) is None
    assert parse_argument("text", EXTERNREF) == "text"
    for text, type in (("x", I32), ("1.5", I32), ("4294967296", I32), ("", F32), ("0", V128), ("f", FUNCREF)):
        with pytest.raises(UsageError):
            parse_argument(text, type)


def test_results_on_the_command_line() -> None:
    assert format_result(-5, I32) == "-5"
    assert format_result(f32_from_bits(0x3DCCCCCD), F32) == "0.1"
    assert format_result(1.0, F32) == "1.0"
    assert format_result(math.inf, F32) == "inf"
    assert format_result(math.nan, F32) == "nan"
    assert format_result(0.1, F64) == "0.1"
    assert format_result(None, EXTERNREF) == "null"


@given(st.floats(width=32, allow_nan=False))
def test_printed_f32_read_back(value: float) -> None:
    assert parse_argument(format_result(value, F32), F32) == value
