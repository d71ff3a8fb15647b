"""The disassembler: its text assembles to the module that it came from."""

from __future__ import annotations

import pytest

from wasmloom.binary.encoder import MAGIC, custom_section, encode_module, uleb
from wasmloom.errors import CompileError
from wasmloom.spec.module import Code, CustomSection, ModuleSyntax
from wasmloom.spec.types import I32, FuncType, SubType
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module

DEEP = 5_000

MODULES = {
    "everything": """
        (module $m
          (rec (type $a (sub (struct (field $n (ref null $b)) (field (mut i8))))) (type $b (sub final $a (array i16))))
          (type $f (func (param i32 f64) (result i32)))
          (type $k (cont $f))
          (import "env" "f" (func $imported (type $f)))
          (import "env" "λ\\n" (memory 1))
          (table $t 3 funcref) (table i64 1 2 (ref null $a) (ref.null $a))
          (memory $m2 i64 1 2 (pagesize 1))
          (tag $e (param i32))
          (global $g (mut i64) (i64.const -5))
          (global v128 (v128.const f32x4 1 2 3 nan))
          (export "f" (func $own)) (export "" (global $g))
          (start $start)
          (elem $el (table $t) (i32.const 0) func $own $own)
          (elem declare func $start)
          (elem (ref null $f) (item ref.func $own) (ref.null $f))
          (data $d (memory $m2) (i64.const 0) "\\00\\ff\\"abc")
          (data "some text that is so long that the printer needs two lines to write it, or perhaps three of them")
          (@custom "c" (after code) "\\01")
          (func $own (type $f) (local $l i64) (local f32 f32)
            (block $x (loop $x (br_if $x (local.get 0)) (br 1)) (br_table $x 1 0 (i32.const 0)))
            (drop (if (result i32) (i32.const 0) (then (i32.const 1)) (else (i32.const 2))))
            (try_table $t (catch $e 0) (catch_all_ref 0))
            (i64.store $m2 offset=8 align=1 (i64.const 0) (i64.const 1))
            (v128.store64_lane $m2 offset=1 1 (i64.const 0) (v128.const i32x4 1 2 3 4))
            (memory.copy $m2 0) (memory.init $m2 $d) (table.init $t $el) (table.copy $t 1)
            (call_indirect $t (type $f)) (drop (select (result i32)))
            (resume $k (on $e 0) (on $e switch)) (br_on_cast 0 anyref (ref $a)) (ref.test (ref null $b))
            (struct.get $a $n) (array.new_data $b $d) (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
            (f32.const -0x1.8p-130) (f64.const nan:0x1) (f32.const 1e30))
          (func $start))
    """,
    "names that are no identifiers": """
        (module (@name "")
          (func $f (@name "") (param (@name "p") i32) (param $p i32) (local (@name "") i32)
            block $l block $l br $l br 1 end end block (@name "") end)
          (func (@name "two words")) (func (@name "same")) (func (@name "same"))
          (func (@name "tab\\t quote\\" bell\\07 \\u{e9}") call 3 call 4)
          (type (struct (field (@name "") i32) (field $x i32) (field (@name "x") i32))))
    """,
    "empty": "(module)",
}


@pytest.mark.parametrize("source", MODULES.values(), ids=MODULES)
def test_round_trip(source: str) -> None:
    binary = parse_module(source).binary
    text = print_module(binary)
    assert parse_module(text).binary == binary
    assert print_module(parse_module(text).binary) == text


def test_text() -> None:
    text = print_module(parse_module('(func $f (export "e") (param $x i32) (result i32) local.get $x)').binary)
    assert text == (
        "(module\n"
        "  (type (;0;) (func (param i32) (result i32)))\n"
        '  (export "e" (func $f))\n'
        "  (func $f (;0;) (type 0) (param $x i32) (result i32)\n"
        "    local.get $x\n"
        "  )\n"
        ")\n"
    )


def test_shadowed_labels_go_by_number() -> None:
    text = print_module(parse_module("(func block $l block $l br $l br 1 end end)").binary)
    assert "br $l\n" in text
    assert "br 1 (;@1;)\n" in text


def test_deep_nesting() -> None:
    binary = parse_module("(func " + "(block " * DEEP + ")" * DEEP + ")").binary
    assert parse_module(print_module(binary)).binary == binary


def test_malformed_name_section_is_kept() -> None:
    binary = MAGIC + custom_section("name", b"\0\2\1m\1\xff")
    text = print_module(binary)
    assert "(module\n" in text
    assert parse_module(text).binary == binary


def test_names_of_nothing_are_dropped() -> None:
    binary = parse_module("(func $f (param $p i32))").binary
    at = binary.index(b"\4name")
    misnamed = binary[: at - 2] + custom_section("name", b"\1\4\1\5\1x\2\6\1\0\1\7\1y")
    assert "$" not in print_module(misnamed)


def module_with(code: bytes, *local_runs: tuple[int, int]) -> bytes:
    module = ModuleSyntax()
    module.rec_groups = [(SubType(FuncType((), ())),)]
    module.funcs = [0]
    module.code = [Code(tuple((count, I32) for count, _ in local_runs), code)]
    module.customs = [CustomSection("c", b"")]
    return encode_module(module)


@pytest.mark.parametrize(
    ("code", "message", "where"),
    [
        ("ff 0b", "illegal opcode ff", 0),
        ("01 fc 7f 0b", "illegal opcode fc 7f", 1),
        ("05 0b", "unexpected else", 0),
        ("04 40 05 05 0b 0b", "unexpected else", 3),
        ("41", "unexpected end", 1),
        ("02 40 0b", "unexpected end", 3),
        ("0b 0b", "END opcode expected", 1),
        ("41 80 80 80 80 80 00 0b", "integer representation too long", 1),
        ("41 ff ff ff ff 0f 0b", "integer too large", 1),
        ("41 ff ff ff ff 4f 0b", "integer too large", 1),
        ("10 80 80 80 80 10 0b", "integer too large", 1),
        ("02 78 0b 0b", "malformed value type", 1),
        ("d0 10 0b", "", None),
        ("d0 50 0b", "malformed heap type", 1),
        ("28 80 01 00 0b", "malformed memop flags", 1),
        ("0e ff ff ff ff 0f 0b", "unexpected end", 1),
        ("1f 40 01 04 00 0b 0b", "malformed catch clause", 3),
        ("e3 00 01 02 00 0b", "malformed handler clause", 3),
        ("fb 18 04 00 6e 6e 0b", "malformed br_on_cast flags", 2),
    ],
)
def test_malformed_code(code: str, message: str, where: int | None) -> None:
    expression = bytes.fromhex(code)
    binary = module_with(expression)
    if where is None:
        parse_module(print_module(binary))
        return
    with pytest.raises(CompileError) as caught:
        print_module(binary)
    assert caught.value.reason.startswith(message)
    assert caught.value.offset == binary.rindex(expression) + where


def test_too_many_locals() -> None:
    with pytest.raises(CompileError, match="too many locals"):
        print_module(module_with(b"\x0b", (4_000_000_000, I32)))
    assert uleb(4_000_000_000) in module_with(b"\x0b", (4_000_000_000, I32))
