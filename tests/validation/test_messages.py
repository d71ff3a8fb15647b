"""What errors say: the rule that is broken, the mnemonic, what is expected and what is there, and the offset."""

from __future__ import annotations

import pytest

from tests.binary.build import DATA, MEMORY, body, function, module, section, vec
from tests.validation.check import invalid, malformed, valid
from wasmloom.binary.decoder import decode_module
from wasmloom.errors import ValidationError
from wasmloom.validation import validate_module


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("i32.const 1 f64.const 2 i32.add drop", "type mismatch: i32.add expected i32 but found f64"),
        ("i32.add drop", "type mismatch: i32.add expected i32 but found nothing"),
        ("drop", "type mismatch: drop expected a value but found nothing"),
        ("i32.const 1", "type mismatch: end expected nothing more but found i32"),
        ("(block (result i64) i32.const 1) drop", "type mismatch: end expected i64 but found i32"),
        ("(i32.const 1) (if (result i32) (then (i32.const 1))) drop", "type mismatch: if without else"),
        ("ref.null func ref.null extern select drop", "type mismatch: select expected i32 but found externref"),
        (
            "ref.null func ref.null func i32.const 0 select drop",
            "type mismatch: select without types expected a number",
        ),
        ("i32.const 0 i64.const 0 i32.const 0 select drop", "type mismatch: select expected i32 but found i64"),
        ("i32.const 0 ref.is_null drop", "type mismatch: ref.is_null expected a reference but found i32"),
        ("local.get 5 drop", "unknown local 5"),
        ("br 1", "unknown label 1"),
        ("call 9", "unknown function 9"),
        ("global.get 0 drop", "unknown global 0"),
        ("i32.const 0 i32.load drop", "unknown memory 0"),
        ("i32.const 0 call_indirect (type 0)", "unknown table 0"),
        ("elem.drop 3", "unknown elem segment 3"),
        ("throw 2", "unknown tag 2"),
        ("ref.func 0 drop", "undeclared function reference 0"),
        ("(block (br_table 0 1 (i32.const 0)))", None),
        ("(block (result i32) (i32.const 0) (br_table 0 1 (i32.const 0)))", "type mismatch: br_table expected 0 types"),
        ("(select (result i32 i32) (i32.const 1) (i32.const 1) (i32.const 1)) drop", "invalid result arity"),
    ],
)
def test_instruction(code: str, message: str | None) -> None:
    text = f"(module (type (func)) (func {code}))"
    if message is None:
        valid(text)
    else:
        assert invalid(text).reason.startswith(message)


def test_types_are_shown_with_the_indices_of_the_module() -> None:
    error = invalid(
        "(module (type (func)) (type $s (struct (field i32))) (func (param (ref null $s)) (call_ref 0 (local.get 0))))"
    )
    assert error.reason == "type mismatch: call_ref expected (ref null 0) but found (ref null 1)"


def test_offset_is_that_of_the_instruction() -> None:
    data = function(b"\x01", b"\x01", b"\x1a")
    with pytest.raises(ValidationError, match="drop expected") as caught:
        validate_module(decode_module(data))
    assert caught.value.offset == data.index(b"\x1a") == len(data) - 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('(func (export "a")) (func (export "a"))', "duplicate export name"),
        ('(export "a" (func 0))', "unknown function 0"),
        ('(export "a" (tag 0))', "unknown tag 0"),
        ("(memory 2 1)", "size minimum must not be greater than maximum"),
        ("(memory 65537)", "memory size must be at most 65536 pages (4GiB)"),
        ("(memory i64 281474976710657)", "memory size must be at most"),
        ("(table 0x1_0000_0000 funcref)", "table size must be at most 2^32-1"),
        ("(func (param i32)) (start 0)", "start function must not have parameters or results"),
        ("(start 0)", "unknown function 0"),
        ("(global i32 (i64.const 0))", "type mismatch: end expected i32 but found i64"),
        ("(global i32 (i32.clz (i32.const 0)))", "constant expression required: i32.clz"),
        ("(global $m (mut i32) (i32.const 0)) (global i32 (global.get 0))", "constant expression required: global 0"),
        ("(global i32 (global.get 0))", "unknown global 0"),
        ("(global i32 (i32.const 1)) (table 1 funcref (global.get 0))", "unknown global 0"),
        ("(table 1 (ref func))", "type mismatch: a table of (ref func) needs an initial value"),
        ("(elem (i32.const 0) func)", "unknown table 0"),
        ("(table 1 externref) (func) (elem (i32.const 0) func 0)", "type mismatch: table of externref"),
        ("(elem func 7)", "unknown function 7"),
        ('(data (i32.const 0) "")', "unknown memory 0"),
        ('(memory 1) (data (i64.const 0) "")', "type mismatch"),
        ("(global i32 (i32.const 0)) (func (global.set 0 (i32.const 0)))", "immutable global 0"),
        ("(memory 1) (func (drop (i32.load align=8 (i32.const 0))))", "alignment must not be larger than natural"),
        ("(memory 1) (func (drop (i32.load offset=0x1_0000_0000 (i32.const 0))))", "offset out of range"),
        ("(memory i64 1) (func (drop (i32.load (i32.const 0))))", "type mismatch: i32.load expected i64 but found i32"),
        ("(func (local (ref func)) (drop (local.get 0)))", "uninitialized local 0"),
        ("(type (struct)) (func (type 0))", "non-function type 0"),
        ("(type (struct)) (tag (type 0))", "non-function type 0"),
        ("(type (func)) (type (sub 0 (func)))", "sub type 1 has the final super type 0"),
        ("(type (sub (func))) (type (sub 0 (func (param i32))))", "sub type 1 does not match super type 0"),
        ("(type (func)) (func (drop (struct.new_default 0)))", "non-structure type 0"),
        (
            "(type (array i32)) (func (array.set 0 (array.new_default 0 (i32.const 1)) (i32.const 0) (i32.const 0)))",
            "immutable array",
        ),
        ("(type (struct (field i32))) (func (struct.set 0 0 (struct.new_default 0) (i32.const 0)))", "immutable field"),
        ("(type (struct)) (func (drop (struct.get 0 1 (struct.new 0))))", "unknown field 1"),
        ("(func (drop (i8x16.extract_lane_s 16 (v128.const i64x2 0 0))))", "invalid lane index"),
        ("(memory i64 1 (pagesize 4))", "invalid custom page size"),
    ],
)
def test_module(text: str, message: str) -> None:
    assert invalid(f"(module {text})").reason.startswith(message)


def test_initialisation_ends_with_the_block() -> None:
    head = "(module (func $f (local $x (ref func))"
    tail = ") (elem declare func $f))"
    use = "(drop (local.get $x))"
    valid(f"{head} (local.set $x (ref.func $f)) {use} {tail}")
    error = invalid(f"{head} (block (local.set $x (ref.func $f)) {use}) {use} {tail}")
    assert error.reason == "uninitialized local 0"


def test_unreachable_code_is_polymorphic() -> None:
    valid("(module (func (result i32) (unreachable) (i64.add) (drop) (select) (i32.eqz)))")
    valid("(module (func (unreachable) (ref.as_non_null) (call_ref 0)) (type (func)))")
    error = invalid("(module (func (unreachable) (i64.const 0) (i32.eqz) (drop)))")
    assert error.reason == "type mismatch: i32.eqz expected i32 but found i64"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (function(b"\x05"), "else without if"),
        (function(b"\x0b"), "unexpected content after the end of an expression"),
        (function(b"\x02\x40"), "unexpected end of section or function"),
        (function(b"\xc5"), "illegal opcode c5"),
        (function(b"\xfc\x7f"), "illegal opcode fc 7f"),
        (function(b"\x02\x40\x0b\x41\x80\x80\x80\x80\x80\0\x1a"), "integer representation too long"),
        (function(b"\x02\x7a\x0b"), "malformed block type"),
        (function(b"\xd0\x40\x1a"), "malformed heap type"),
        (function(b"\x1f\x40\x01\x04\0\x0b"), "malformed clause kind"),
        (function(b"\x0e\x7f\0"), "length out of bounds"),
        (function(declarations=vec(b"\xff\xff\xff\xff\x0f\x7f", b"\x02\x7f")), "too many locals"),
        (function(declarations=vec(b"\xd1\x86\x03\x7f")), "too many locals: 50001, the limit is 50000"),
        (function(b"\xfc\x09\0", extra=section(MEMORY, vec(b"\0\0"))), "data count section required"),
        (function(b"\x41\0\x28\x80\x01\0\x1a", extra=section(MEMORY, vec(b"\0\0"))), "malformed memop flags"),
    ],
)
def test_malformed_body(data: bytes, message: str) -> None:
    assert malformed(data).reason.startswith(message)


def test_data_drop_with_data_count() -> None:
    data = module(
        section(1, vec(b"\x60\0\0")),
        section(3, vec(b"\0")),
        section(12, b"\x01"),
        section(10, vec(body(b"\xfc\x09\0"))),
        section(DATA, vec(b"\x01\0")),
    )
    validate_module(decode_module(data))
