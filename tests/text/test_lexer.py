"""Tokens, comments, annotations and positions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom.errors import CompileError
from wasmloom.text.lexer import END_TOKENS, Tokens

NESTED = 50_000


def texts(source: str | bytes) -> list[str]:
    return Tokens.of(source).texts[:-END_TOKENS]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", []),
        ("  \t\r\n ;; nothing", []),
        ('(func$f(nop))"a b"', ["(", "func$f", "(", "nop", ")", ")", '"a b"']),
        ("a;;b\nc;;d\re", ["a", "c", "e"]),
        ("(;x;)a(;(;y;);; ;)b", ["a", "b"]),
        ('(; "unclosed ;)a', ["a"]),
        ('"(;"', ['"(;"']),
        ('a"b"c', ['a"b"c']),
        ('(@x (y) "z)" (@w)) a', ["a"]),
        ("a,b;c [{", ["a,b;c", "[{"]),
        (r'"\"" $"q r"', [r'"\""', '$"q r"']),
    ],
)
def test_tokens(source: str, expected: list[str]) -> None:
    assert texts(source) == expected


@pytest.mark.parametrize(
    ("source", "message", "place"),
    [
        ("a\n  é", "illegal character", (2, 3)),
        ("a \x00", "illegal character", (1, 3)),
        ('(x "abc', "unclosed string", (1, 4)),
        ('"ab\ncd"', "unclosed string", (1, 1)),
        ('"ab\x01"', "illegal character in string", (1, 4)),
        ("a (; (; ;)", "unclosed comment", (1, 3)),
        ("(@x (y)", "unclosed annotation", (1, 1)),
        ("x (@)", "empty annotation id", (1, 3)),
        ('(@"")', "empty annotation id", (1, 1)),
        ('(func $"a\nb")', "empty identifier", (1, 8)),
        (b"a\n b\xff", "malformed UTF-8 encoding", (2, 3)),
        ("a\ud800", "malformed UTF-8 encoding", (1, 2)),
    ],
)
def test_malformed(source: str | bytes, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(CompileError) as caught:
        Tokens.of(source)
    assert caught.value.reason == message
    assert (caught.value.line, caught.value.column) == place


def test_annotations_are_set_aside() -> None:
    tokens = Tokens('(module (@name "M") (@other x) (@"custom" "a" "b"))')
    assert tokens.texts[: tokens.count()] == ["(", "module", ")"]
    assert [(item.name, item.tokens, item.before) for item in tokens.annotations] == [
        ("name", ('"M"',), 2),
        ("custom", ('"a"', '"b"'), 2),
    ]
    assert tokens.position(2) == (1, 51)


def test_nesting_is_not_limited() -> None:
    assert texts("(;" * NESTED + ";)" * NESTED + "a") == ["a"]
    assert texts("(@x " + "(" * NESTED + ")" * NESTED + ") a") == ["a"]


WORDS = st.sampled_from(["(", ")", "x", "$y", '"a b"', '"\\""', "1.5", "i32.const"])
SPACES = st.sampled_from([" ", "\n", "\t ", "(;c;)", " (;(;c;)c;)", " ;; c\n", ' (@z "(" (a)) '])


@given(st.lists(st.tuples(WORDS, SPACES)))
def test_positions_point_at_the_tokens(pairs: list[tuple[str, str]]) -> None:
    source = "".join(word + space for word, space in pairs)
    tokens = Tokens(source)
    assert tokens.texts[: tokens.count()] == [word for word, _ in pairs]
    lines = source.split("\n")
    for number, (word, _) in enumerate(pairs):
        line, column = tokens.position(number)
        assert lines[line - 1].startswith(word, column - 1)


@given(st.text())
def test_any_text_has_tokens_or_an_error(source: str) -> None:
    try:
        Tokens.of(source)
    except CompileError as error:
        assert error.line is not None
        assert error.column is not None
