"""The assembler: text modules come out as the bytes that the specification's tables say."""

from __future__ import annotations

import pytest

from wasmloom.binary.encoder import MAGIC, SECTION_IDS, byte_vector, sleb, uleb, vector
from wasmloom.errors import CompileError
from wasmloom.spec.module import ModuleSyntax
from wasmloom.spec.types import F64, FUNCREF, I32, I64, FuncType, Limits, MemoryType, TableType, ref_type
from wasmloom.text.parser import parse_module

DEEP = 20_000
ZERO_TO_14 = "".join(f" {lane:02x}" for lane in range(15))
CATCHES = "1f 40 04 00 00 00 01 00 00 02 00 03 00 0b"
HINT = "@metadata.code.branch_hint"


def syntax(source: str) -> ModuleSyntax:
    parsed = parse_module(source)
    assert parsed.syntax is not None
    return parsed.syntax


def body(instructions: str, before: str = "", func: str = "") -> bytes:
    """The bytes of a function's instructions, without the final `end`."""
    code = syntax(f"(module {before} (func {func} {instructions}))").code[-1].body
    assert code[-1:] == b"\x0b"
    return code[:-1]


def section(name: str, contents: bytes) -> bytes:
    return bytes((SECTION_IDS[name],)) + byte_vector(contents)


def test_whole_module() -> None:
    parsed = parse_module('(module (func (export "f") (param i32) (result i32) local.get 0))')
    assert parsed.binary == (
        MAGIC
        + section("type", b"\1\x60\1\x7f\1\x7f")
        + section("func", b"\1\0")
        + section("export", b"\1\1f\0\0")
        + section("code", b"\1\4\0\x20\0\x0b")
    )


@pytest.mark.parametrize("source", ["", "(module)", b"(module)", "(module $m)", '(module quote "(module)")'])
def test_empty_modules(source: str | bytes) -> None:
    assert parse_module(source).binary.startswith(MAGIC)


def test_binary_modules_are_taken_as_they_are() -> None:
    parsed = parse_module('(module $m binary "\\00asm" "\\01\\00\\00\\00")')
    assert parsed == (MAGIC, "m", None, None)


@pytest.mark.parametrize(
    ("flat", "folded"),
    [
        ("i32.const 1 i32.const 2 i32.add drop", "(drop (i32.add (i32.const 1) (i32.const 2)))"),
        ("block $a br $a end", "(block $a (br $a))"),
        ("loop $a br 0 end $a", "(loop $a (br $a))"),
        ("i32.const 0 if nop else unreachable end", "(if (i32.const 0) (then (nop)) (else (unreachable)))"),
        ("i32.const 0 if $l nop end", "(if $l (i32.const 0) (then nop))"),
        ("block i32.const 1 drop end", "(block (drop (i32.const 1)))"),
        ("i32.const 0 if else end", "(if (i32.const 0) (then) (else))"),
        ("nop block nop end nop", "nop (block nop) (nop)"),
        ("block $x try_table (catch_all $x) nop end end", "(block $x (try_table (catch_all $x) (nop)))"),
    ],
)
def test_folded_instructions(flat: str, folded: str) -> None:
    expected = body(flat)
    # An empty `else` may be left out, but when it is there it is kept.
    assert body(folded) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("i32.const -1", "41 7f"),
        ("i32.const 0xffff_ffff", "41 7f"),
        ("i32.const 2147483647", "41 ff ff ff ff 07"),
        ("i64.const -0x8000000000000000", "42 80 80 80 80 80 80 80 80 80 7f"),
        ("f32.const 1.5", "43 00 00 c0 3f"),
        ("f64.const -nan:0x1", "44 01 00 00 00 00 00 f0 ff"),
        ("i32.load", "28 02 00"),
        ("i32.load offset=4 align=1", "28 00 04"),
        ("i64.load16_u $m2 offset=0x80", "33 41 01 80 01"),
        ("memory.copy", "fc 0a 00 00"),
        ("memory.copy $m2 0", "fc 0a 01 00"),
        ("memory.init $d", "fc 08 01 00"),
        ("memory.init 1 $d", "fc 08 01 01"),
        ("table.init 0 1", "fc 0c 01 00"),
        ("v128.load8_lane 3", "fd 54 00 00 03"),
        ("v128.load8_lane 1 3", "fd 54 40 01 00 03"),
        ("v128.load8_lane $m2 offset=1 3", "fd 54 40 01 01 03"),
        ("v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 -1", "fd 0c" + ZERO_TO_14 + " ff"),
        ("v128.const f64x2 1 -inf", "fd 0c 00 00 00 00 00 00 f0 3f 00 00 00 00 00 00 f0 ff"),
        ("i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "fd 0d" + ZERO_TO_14 + " 0f"),
        ("br_table 0 1 2", "0e 02 00 01 02"),
        ("select", "1b"),
        ("select (result i32)", "1c 01 7f"),
        ("select (result)", "1c 00"),
        ("call_indirect (type $f)", "11 00 00"),
        ("call_indirect 0 (param i32)", "11 01 00"),
        ("block (result (ref null $s)) end", "02 63 02 0b"),
        ("block (type $f) end", "02 00 0b"),
        ("block (param i32) end", "02 01 0b"),
        ("ref.null extern", "d0 6f"),
        ("ref.null $s", "d0 02"),
        ("ref.test (ref $s)", "fb 14 02"),
        ("ref.test (ref null any)", "fb 15 6e"),
        ("ref.cast i31ref", "fb 17 6c"),
        ("br_on_cast 0 anyref (ref $s)", "fb 18 01 00 6e 02"),
        ("br_on_cast_fail 0 (ref any) nullref", "fb 19 02 00 6e 71"),
        ("struct.get $s $b", "fb 02 02 01"),
        ("array.new_fixed $arr 3", "fb 08 03 03"),
        ("array.new_data $arr $d", "fb 09 03 01"),
        ("try_table (catch $e 0) (catch_ref 0 0) (catch_all 0) (catch_all_ref 0) end", CATCHES),
        ("resume $k (on $e 0) (on $e switch)", "e3 04 02 00 00 00 01 00"),
        ("resume_throw $k $e", "e4 04 00 00"),
        ("resume_throw_ref $k (on $e switch)", "e5 04 01 01 00"),
        ("cont.new $k", "e0 04"),
        ("cont.bind $k $k", "e1 04 04"),
        ("switch $k $e", "e6 04 00"),
        ("suspend $e", "e2 00"),
    ],
)  # fmt: skip
def test_instructions(text: str, code: str) -> None:
    before = """
        (type $f (func)) (type (func (param i32))) (type $s (struct (field i32) (field $b (mut i64))))
        (type $arr (array i8)) (type $k (cont $f)) (tag $e) (table 1 funcref) (memory 1) (memory $m2 1)
        (elem func) (elem func) (data) (data $d "x")
    """
    assert body(text, before).hex(" ") == code


def test_catch_labels_do_not_count_their_block() -> None:
    assert body("block $a try_table $b (catch_all $a) br $a br $b end end").hex(" ") == (
        "02 40 1f 40 01 02 00 0c 01 0c 00 0b 0b"
    )


def test_labels_shadow() -> None:
    assert body("block $l block $l br $l end br $l end").hex(" ") == "02 40 02 40 0c 00 0b 0c 00 0b"


def test_locals_and_parameters() -> None:
    code = body("local.get $b local.get $d", func="(param i32) (param $b i64) (local f32 f32) (local $d f64)")
    assert code.hex(" ") == "20 01 20 04"
    module = syntax("(func (param $x i32) (local i32 i32) (local $y i32) (local i64))")
    assert module.code[0].locals == ((3, I32), (1, I64))
    assert module.names.locals == {0: {0: "x", 3: "y"}}
    assert body("local.get $y", before="(type $t (func (param i32 i32)))", func="(type $t) (local $y i32)") == b"\x20\2"


def test_implicit_types_follow_the_written_ones() -> None:
    module = syntax("""
        (func (param i32))
        (type $a (func (param i64)))
        (func (param i64) (block (param i32 i32) (drop) (drop)))
        (func (param i32))
    """)
    assert module.funcs == [1, 0, 1]
    assert [group[0].composite for group in module.rec_groups] == [
        FuncType((I64,), ()),
        FuncType((I32,), ()),
        FuncType((I32, I32), ()),
    ]


def test_types() -> None:
    module = syntax("""
        (rec
            (type $a (sub (struct (field $n (ref null $b)) (field (mut i8)))))
            (type $b (sub final $a (array (mut (ref $a))))))
        (type $f (func (result funcref f64)))
    """)
    first, second = module.rec_groups[0]
    assert (first.final, first.supers, second.final, second.supers) == (False, (), True, (0,))
    assert module.rec_groups[1][0].composite == FuncType((), (FUNCREF, F64))
    assert module.names.fields == {0: {0: "n"}}
    assert module.names.maps["type"] == {0: "a", 1: "b", 2: "f"}


def test_memories_and_tables() -> None:
    module = syntax("""
        (memory 1 2) (memory i64 1) (memory 1 2 shared) (memory 8 (pagesize 1)) (memory (data "abc" "d"))
        (memory i64 (pagesize 1) (data "abc"))
        (table 1 funcref) (table i64 1 2 externref) (table 3 (ref func) (ref.func 0)) (func)
        (table funcref (elem 0 0)) (table (ref null $t) (elem (ref.null $t) (item ref.func 0))) (type $t (func))
    """)
    assert module.memories == [
        MemoryType(Limits(1, 2)),
        MemoryType(Limits(1, None), is64=True),
        MemoryType(Limits(1, 2), shared=True),
        MemoryType(Limits(8, None), page_size_log2=0),
        MemoryType(Limits(1, 1)),
        MemoryType(Limits(3, 3), is64=True, page_size_log2=0),
    ]
    assert [(segment.memory, segment.data, segment.offset) for segment in module.data] == [
        (4, b"abcd", b"\x41\0\x0b"),
        (5, b"abc", b"\x42\0\x0b"),
    ]
    assert [table.type.limits for table in module.tables] == [
        Limits(1, None), Limits(1, 2), Limits(3, None), Limits(2, 2), Limits(2, 2)
    ]  # fmt: skip
    assert module.tables[2].init == b"\xd2\0\x0b"
    assert module.tables[1].type == TableType(ref_type(0x6F, True), Limits(1, 2), True)
    assert module.elements[0].items == (0, 0)
    assert module.elements[1].exprs == (b"\xd0\0\x0b", b"\xd2\0\x0b")


@pytest.mark.parametrize(
    ("values", "contents"),
    [
        ('"a" (i8 1 -2 0xff) "b"', "61 01 fe ff 62"),
        ("(i16 0x1234 -1) (i8) (i32 1) (i64 -2)", "34 12 ff ff 01 00 00 00 fe ff ff ff ff ff ff ff"),
        ("(f32 62.5 nan:0x1) (f64 -inf)", "00 00 7a 42 01 00 80 7f 00 00 00 00 00 00 f0 ff"),
        ("(v128 i32x4 1 2 3 4 f64x2 1 0.5)", "01 00 00 00 02 00 00 00 03 00 00 00 04 00 00 00"
         " 00 00 00 00 00 00 f0 3f 00 00 00 00 00 00 e0 3f"),
    ],
)  # fmt: skip
def test_numbers_in_data_segments(values: str, contents: str) -> None:
    data = bytes.fromhex(contents)
    heads = ("(data", "(data (i32.const 1)", "(data (memory 0) (i32.const 2)")
    module = syntax(f"(memory (data {values})) " + " ".join(f"{head} {values})" for head in heads))
    assert [segment.data for segment in module.data] == [data] * 4
    assert [segment.mode for segment in module.data] == ["active", "passive", "active", "active"]
    assert module.memories[0].limits.min == 1


def test_segments_inside_definitions_take_indices_in_order() -> None:
    module = syntax(
        "(elem $a func) (table funcref (elem)) (elem $b func) (func elem.drop $b) (memory (data)) (data $d)"
    )
    assert module.code[0].body.hex(" ") == "fc 0d 02 0b"
    assert module.names.maps["data"] == {1: "d"}


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("(elem (i32.const 0) 0)", "00 41 00 0b 01 00"),
        ("(elem (offset i32.const 0) func 0)", "00 41 00 0b 01 00"),
        ("(elem func 0)", "01 00 01 00"),
        ("(elem (table 1) (i32.const 0) func 0)", "02 01 41 00 0b 00 01 00"),
        ("(elem declare func 0)", "03 00 01 00"),
        ("(elem (i32.const 0) funcref (ref.func 0))", "04 41 00 0b 01 d2 00 0b"),
        ("(elem externref (ref.null extern))", "05 6f 01 d0 6f 0b"),
        ("(elem (table 1) (i32.const 0) funcref (item ref.func 0))", "06 01 41 00 0b 70 01 d2 00 0b"),
        ("(elem (i32.const 0) (ref func) (ref.func 0))", "06 00 41 00 0b 64 70 01 d2 00 0b"),
        ("(elem declare funcref)", "07 70 00"),
    ],
)
def test_element_segments(text: str, flags: str) -> None:
    parsed = parse_module(f"(table 1 funcref) (table 1 funcref) (func) {text}")
    assert section("elem", b"\1" + bytes.fromhex(flags)) in parsed.binary


def test_imports_and_exports() -> None:
    module = syntax("""
        (import "m" "f" (func $f (param $p i32)))
        (table $t (export "t") (import "m" "t") 1 funcref)
        (global $g (export "g1") (export "g2") (import "m" "g") (mut i32))
        (tag (import "m" "e") (param i32))
        (memory (import "m" "λ") 1)
        (func $own (export "own") call $f)
        (export "f" (func $f))
        (start $own)
    """)
    assert [(item.name, item.kind) for item in module.imports] == [
        ("f", "func"), ("t", "table"), ("g", "global"), ("e", "tag"), ("λ", "memory")
    ]  # fmt: skip
    assert [tuple(item) for item in module.exports] == [
        ("t", "table", 0), ("g1", "global", 0), ("g2", "global", 0), ("own", "func", 1), ("f", "func", 0)
    ]  # fmt: skip
    assert module.start == 1
    assert module.names.locals == {0: {0: "p"}}


def test_data_count_is_there_when_needed() -> None:
    assert not syntax('(memory 1) (data "a")').has_data_count
    assert syntax('(memory 1) (data "a") (func data.drop 0)').has_data_count


def test_custom_sections() -> None:
    parsed = parse_module("""
        (module
          (@custom "end" "1")
          (@custom "before-func" (before func) "2")
          (@custom "after-type" (after type) "3")
          (@custom "first" (before first) "4" "5")
          (func))
    """)
    order = [parsed.binary.index(name) for name in (b"first45", b"after-type3", b"before-func2", b"end1")]
    assert order == sorted(order)
    type_at, func_at = parsed.binary.index(b"\1\4\1\x60\0\0"), parsed.binary.index(b"\3\2\1\0")
    assert order[0] < type_at < order[1] < func_at < order[3]


def test_name_annotations() -> None:
    module = syntax("""
        (module $m (@name "a module")
          (type (@name "") (struct (field (@name "f f") i32)))
          (func $f (@name "a function") (param (@name "p 1") i32) (local $l (@name "l 1") i32)
            block $b (@name "b 1") end))
    """)
    assert module.names.module == "a module"
    assert module.names.maps["func"] == {0: "a function"}
    assert module.names.maps["type"] == {0: ""}
    assert module.names.locals == {0: {0: "p 1", 1: "l 1"}}
    assert module.names.labels == {0: {0: "b 1"}}
    assert module.names.fields == {0: {0: "f f"}}


def test_branch_hints() -> None:
    parsed = parse_module("""
        (func (local i32)
          (@metadata.code.branch_hint "\\01") (if (local.get 0) (then))
          local.get 0
          (@metadata.code.branch_hint "\\00") br_if 0)
    """)
    # The locals take three bytes; `if` follows two bytes of `local.get`, `br_if` seven.
    hints = b"\1\0\2\5\1\1\x0a\1\0"
    assert b"\x19metadata.code.branch_hint" + hints in parsed.binary


def test_quoted_identifiers_are_the_same_as_plain_ones() -> None:
    assert body('call $"f" call $f', before='(func $"\\66")') == b"\x10\0\x10\0"


def test_deep_nesting() -> None:
    for opening, closing in (("(block ", ")"), ("block ", "end "), ("(if (i32.const 0) (then ", "))")):
        assert body(opening * DEEP + closing * DEEP).count(b"\x0b") == DEEP
    assert body("(drop " + "(i32.eqz " * DEEP + "(i32.const 0)" + ")" * DEEP + ")").count(b"\x45") == DEEP


def test_source_map() -> None:
    source = "(module\n  (memory 1)\n  (global i32 (i32.const 5))\n  (func\n    nop\n    (drop\n      (i32.const 7))))"
    parsed = parse_module(source)
    assert parsed.source_map is not None
    where = parsed.binary.index(b"\x01\x41\x07\x1a\x0b")
    locate = parsed.source_map.locate
    assert [locate(where + offset) for offset in range(5)] == [(5, 5), (7, 7), (7, 7), (6, 5), (7, 21)]
    assert locate(parsed.binary.index(b"\x41\x05")) == (3, 15)
    assert locate(parsed.binary.index(b"\5\3\1\0\1") + 3) == (2, 3)
    assert locate(0) is None


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        ("(module", "unexpected token", (1, 8)),
        ("(module))", "unexpected token", (1, 9)),
        ("(module (func)) (module)", "unexpected token", (1, 17)),
        ("(module (func nop nop2))", "unknown operator nop2", (1, 19)),
        ("(func i32.const 4294967296)", "constant out of range", (1, 17)),
        ("(func i32.load align=3)", "alignment must be a power of two", (1, 16)),
        ("(func i32.load offset=x)", "unknown operator", (1, 16)),
        ("(func i32.load offset=99999999999999999999)", "i64 constant out of range", (1, 16)),
        ("(func block $a end $b)", "mismatching label", (1, 20)),
        ("(func block)", "unexpected token", (1, 12)),
        ("(func end)", "unexpected token end", (1, 7)),
        ("(func else)", "unexpected token else", (1, 7)),
        ("(func (then))", "unexpected token then", (1, 8)),
        ("(func (if (i32.const 0)))", "unexpected token )", (1, 24)),
        ("(func (i32.add i32.const))", "unexpected token i32.const", (1, 16)),
        ("(func br $l)", "unknown label $l", (1, 10)),
        ("(func call $f)", "unknown func $f", (1, 12)),
        ("(func local.get $x)", "unknown local $x", (1, 17)),
        ("(func struct.get 0 $x)", "unknown field $x", (1, 20)),
        ("(func data.drop $x)", "unknown data segment $x", (1, 17)),
        ("(func $f) (func $f)", "duplicate func $f", (1, 17)),
        ("(func (param $x i32) (local $x i32))", "duplicate local $x", (1, 29)),
        ("(type (struct (field $x i32) (field $x i32)))", "duplicate field $x", (1, 37)),
        ('(func) (import "a" "b" (func))', "import after function", (1, 8)),
        ('(memory 1) (func (import "a" "b"))', "import after memory", (1, 12)),
        ("(func $a) (start $a) (start $a)", "multiple start sections", (1, 22)),
        ("(type $t (func)) (func (type $t) (param i32))", "inline function type", (1, 24)),
        ("(func (type 5) (param i32))", "unknown type", (1, 7)),
        ("(func (result i32) (param i32))", "unexpected token param", (1, 21)),
        ("(func (block (param $x i32)))", "unexpected token $x", (1, 21)),
        ("(func v128.const i8x16 1 2)", "wrong number of lane literals", (1, 27)),
        ("(func i8x16.shuffle 1 2)", "invalid lane length", (1, 24)),
        ("(func i8x16.extract_lane_s 256)", "i8 constant out of range", (1, 28)),
        ("(func ref.test_null 0)", "unknown operator ref.test_null", (1, 7)),
        ("(memory 1 (pagesize 3))", "invalid custom page size", (1, 21)),
        ('(export "\\ff" (func 0))', "malformed UTF-8 encoding", (1, 9)),
        ("(func $)", "empty identifier", (1, 7)),
        ("(foo)", "unknown operator foo", (1, 2)),
        ("(param)", "unexpected token param", (1, 2)),
        ("nop", "unexpected token nop", (1, 1)),
        ("(data i32)", "unexpected token i32", (1, 7)),
        ("(data (i8 256))", "constant out of range", (1, 11)),
        ("(data (i8 -129))", "constant out of range", (1, 11)),
        ("(data (i16 1.5))", "unexpected token 1.5", (1, 12)),
        ('(data (i16 "a"))', 'unexpected token "a"', (1, 12)),
        ("(data (i16 1", "unexpected token: end of text", (1, 13)),
        ("(data (v128 i32x4 1 2))", "wrong number of lane literals", (1, 22)),
        ('(func (@custom "x"))', "misplaced @custom annotation", (1, 7)),
        ('(module (func) (@name "x"))', "misplaced @name annotation", (1, 16)),
        ('(module (@name "x") (@name "y"))', "@name annotation: multiple module", (1, 21)),
        ('(@custom "x" (after nothing))', "@custom annotation: malformed section kind", (1, 1)),
        (f'({HINT} "\\01") (func)', f"{HINT} annotation: not in a function", (1, 1)),
        (f'(func ({HINT} "\\01") nop)', f"{HINT} annotation: invalid target", (1, 7)),
        (f'(func ({HINT} "\\02") br_if 0)', f"{HINT} annotation: malformed", (1, 7)),
    ],
)  # fmt: skip
def test_errors_say_what_and_where(source: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(CompileError) as caught:
        parse_module(source)
    assert caught.value.reason.startswith(message)
    assert (caught.value.line, caught.value.column) == place


def test_numbers_of_any_size_encode() -> None:
    assert sleb(-1 << 63).hex() == "8080808080808080807f"
    assert uleb((1 << 64) - 1).hex() == "ffffffffffffffffff01"
    assert vector([b"a", b"b"]) == b"\2ab"
