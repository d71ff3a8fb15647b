"""The validator says which features a module uses and where first."""

from __future__ import annotations

import pytest

from tests.validation.check import valid
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import ValidationError
from wasmloom.text.parser import parse_module
from wasmloom.validation import validate_function, validate_module


@pytest.mark.parametrize(
    ("text", "feature", "what"),
    [
        ("(memory 1) (func (drop (v128.load (i32.const 0))))", "simd", "v128.load"),
        ("(func (param v128))", "simd", "v128"),
        ("(func (local v128))", "simd", "v128"),
        (
            "(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0))))",
            "relaxed-simd",
            "i32x4.relaxed_trunc_f32x4_s",
        ),
        ("(type (struct))", "gc", "struct"),
        ("(type (array i8))", "gc", "array"),
        ("(rec (type (func)) (type (func)))", "recursive-types", "rec"),
        ("(type (sub (func)))", "recursive-types", "sub"),
        ("(func (param anyref))", "recursive-types", "anyref"),
        ("(func (drop (ref.null none)))", "recursive-types", "nullref"),
        ("(tag)", "exception-handling", "tag"),
        ("(func (param exnref))", "exception-handling", "exnref"),
        ("(func (try_table))", "exception-handling", "try_table"),
        ("(type (func)) (type (cont 0))", "stack-switching", "cont"),
        ("(tag (result i32))", "stack-switching", "tag"),
        ("(memory i64 1)", "memory64", "memory"),
        ('(import "m" "n" (memory i64 1))', "memory64", "memory"),
        ("(table i64 1 funcref)", "table64", "table"),
        ("(memory 1) (memory 1)", "multi-memory", "memory"),
        ("(memory 1 (pagesize 1))", "custom-page-sizes", "memory"),
        ("(func (return_call 0))", "tail-call", "return_call"),
        ("(func (param funcref))", "reference-types", "funcref"),
        ("(func (param (ref func)))", "function-references", "(ref func)"),
        (
            "(func (param i64) (result i32) (i32.wrap_i64 (i64.extend8_s (local.get 0))))",
            "sign-extension",
            "i64.extend8_s",
        ),
    ],
)
def test_feature(text: str, feature: str, what: str) -> None:
    features = valid(f"(module {text})").features
    assert features[feature][0] == what


def test_first_version_needs_no_feature() -> None:
    text = """(module (memory 1) (table 1 funcref) (elem (i32.const 0) $f) (global (mut i32) (i32.const 1))
      (func $f (param i32) (result i32) (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))"""
    assert set(valid(text).features) <= {"reference-types"}


def test_offset_is_that_of_the_first_use() -> None:
    module = decode_module(
        parse_module("(module (func nop (drop (v128.const i64x2 0 0)) (drop (v128.const i64x2 0 0))))").binary
    )
    what, offset = validate_module(module).features["simd"]
    assert what == "v128.const"
    assert module.data[offset : offset + 2] == b"\xfd\x0c"
    assert module.data.index(b"\xfd\x0c") == offset


def test_one_function_at_a_time() -> None:
    text = '(module (import "m" "n" (func)) (func) (func (drop (v128.const i64x2 0 0))) (func (drop)))'
    validator = validate_module(decode_module(parse_module(text).binary), bodies=False)
    validate_function(validator, 1)
    assert "simd" not in validator.features
    validate_function(validator, 2)
    assert "simd" in validator.features
    for _ in range(2):
        with pytest.raises(ValidationError, match="drop expected a value"):
            validate_function(validator, 3)
        validate_function(validator, 2)
    for index in (-1, 0, 4):
        with pytest.raises(IndexError):
            validate_function(validator, index)
