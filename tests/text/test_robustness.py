"""Whatever the text is, the parsers take it or raise `CompileError` with a place."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from wasmloom.errors import CompileError
from wasmloom.text.cursor import KEYWORDS
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module
from wasmloom.text.script import ModuleSource, parse_script

SEED = (
    "( module $m ( type $t ( func ( param $p i32 ) ( result i32 ) ) ) ( rec ( type $s ( sub ( struct"
    ' ( field $f i8 ) ) ) ) ) ( import "a" "b" ( func $i ( type $t ) ) )'
    ' ( import "m" ( item "c" ( global $c i32 ) ) ) ( import "m" ( item "d" ) ( item "e" ) ( global i32 ) )'
    ' ( table $tab 1 funcref )'
    ' ( memory $mem ( data "a" ( i16 1 -2 ) ( v128 i64x2 1 2 ) ) ) ( tag $e ) ( global $g ( mut i32 ) ( i32.const 1 ) )'
    ' ( export "x" ( global $g ) ) ( start $start )'
    ' ( elem $el ( i32.const 0 ) $i ) ( data $d ( memory 0 ) ( offset i32.const 0 ) "b" )'
    " ( func $start ( local $l i64 ) block $b br $b end"
    " ( drop ( i32.add ( i32.const 1 ) ( i32.load offset=1 align=1 ( local.get 0 ) ) ) )"
    " ( if ( i32.const 0 ) ( then nop ) ( else ( call $i ) ) )"
    " ( try_table ( catch $e 0 ) ( call_indirect $tab ( type $t ) ) )"
    " ( try $y ( do ( try ( do nop ) ( delegate $y ) ) ) ( catch $e ( rethrow $y ) ) ( catch_all ) )"
    " try $z nop catch $e catch_all rethrow $z end try nop delegate 0"
    " v128.const i64x2 1 2 drop f32.const 0x1p3 drop ) )"
)
SEED_TOKENS = tuple(SEED.split(" "))
ODD_TOKENS = (
    "(", ")", "$", '"', "-1", "0x", "99999999999999999999", '"\\ff"', "(@x", '(@name "n")', "(;", ";;", "offset=",
    '(@custom "c" (after', '(@metadata.code.branch_hint "\\01")', "align=0", "\n", "\x00", "é",
)  # fmt: skip

PIECES = st.one_of(
    st.sampled_from(ODD_TOKENS), st.sampled_from(sorted(KEYWORDS)), st.sampled_from(SEED_TOKENS), st.text(max_size=5)
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    tokens = list(SEED_TOKENS)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(tokens)))
        end = min(len(tokens), at + draw(st.integers(0, 3)))
        tokens[at:end] = draw(st.lists(PIECES, max_size=2))
    return " ".join(tokens)


def try_module(text: str) -> None:
    try:
        binary = parse_module(text).binary
    except CompileError as error:
        assert error.line is not None
        assert error.column is not None
        return
    try:
        printed = print_module(binary)
    except CompileError as error:
        assert error.offset is not None
        return
    parse_module(printed)


def test_the_seed_is_a_module() -> None:
    parse_module(print_module(parse_module(SEED).binary))


@given(mutated())
@example(SEED)
def test_modules(text: str) -> None:
    try_module(text)


@given(st.lists(PIECES, max_size=20))
def test_any_tokens(tokens: list[str]) -> None:
    try_module("(module " + " ".join(tokens) + ")")


@given(st.lists(st.one_of(PIECES, st.sampled_from(["(invoke", "(assert_return", "(module", "(register"])), max_size=12))
def test_scripts(tokens: list[str]) -> None:
    try:
        commands = parse_script(" ".join(tokens))
    except CompileError as error:
        assert error.line is not None
        return
    for command in commands:
        source = getattr(command, "source", None)
        if isinstance(source, ModuleSource):
            try:
                source.assemble()
            except CompileError as error:
                assert error.line is not None


@given(st.data())
def test_the_printer_takes_any_bytes(data: st.DataObject) -> None:
    binary = bytearray(parse_module(SEED).binary)
    for _ in range(data.draw(st.integers(1, 3))):
        binary[data.draw(st.integers(0, len(binary) - 1))] = data.draw(st.integers(0, 255))
    try:
        text = print_module(bytes(binary))
    except CompileError as error:
        assert error.offset is not None
        return
    parse_module(text)
