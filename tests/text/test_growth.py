"""Large and odd texts: the steps that they take grow as their length does."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.binary.build import CODE, FUNC, TYPE, module, section, vec
from wasmloom.binary.encoder import uleb
from wasmloom.errors import CompileError
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module


def _steps(function: Callable[[], object]) -> int:
    """How many lines of Python run in a call."""
    count = 0

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        function()
    except CompileError:
        pass
    finally:
        sys.settrace(before)
    return count


def _func(body: str) -> str:
    return f"(module (func {body}))"


_TEXTS: dict[str, Callable[[int], str]] = {
    "labels": lambda n: _func("".join(f"block $l{i} " for i in range(n)) + "br $l0 " * n + "end " * n),
    "one label": lambda n: _func("block $l br $l " * n + "end " * n),
    "br_table": lambda n: _func("".join(f"block $l{i} " for i in range(n)) + "br_table" + " $l0" * n + " end" * n),
    "folded": lambda n: _func("(block $l (br $l) " * n + ")" * n),
    "operands": lambda n: _func("(drop (i32.add " * n + "(i32.const 1)" * (n + 1) + "))" * n),
    "locals": lambda n: _func("".join(f"(local $x{i} i32)" for i in range(n)) + f"(drop (local.get $x{n - 1}))" * n),
    "functions": lambda n: "(module " + "".join(f"(func $f{i} (call $f{n - 1}))" for i in range(n)) + ")",
    "exports": lambda n: "(module (func " + "".join(f'(export "{i}")' for i in range(n)) + "))",
    "types": lambda n: "(module " + "".join(f"(type $t{i} (func))" for i in range(n)) + f"(func (type $t{n - 1})))",
    "groups": lambda n: "(module (rec " + "".join(f"(type $t{i} (func))" for i in range(n)) + "))",
    "fields": lambda n: "(module (type (struct " + "".join(f"(field $f{i} i32)" for i in range(n)) + ")))",
    "segments": lambda n: "(module (memory 1) (table 1 funcref)"
    + '(data (i32.const 0) "a")(elem (i32.const 0))' * n
    + ")",
    "hints": lambda n: "(module "
    + '(func (@metadata.code.branch_hint "\\00") (if (i32.const 0) (then)))' * n
    + ")",
    "names": lambda n: "(module " + "".join(f'(func (@name "f{i}"))' for i in range(n)) + ")",
    "custom sections": lambda n: "(module " + '(@custom "a" "b")' * n + ")",
    "annotations": lambda n: "(module " + "(@a (b) c)" * n + ")",
    "deep annotation": lambda n: "(module (@a " + "(" * n + ")" * n + "))",
    "comments": lambda n: "(module " + "(; (; a ;) ;) ;; b\n" * n + ")",
    "deep comment": lambda n: "(;" * n + ";)" * n + "(module)",
    "strings": lambda n: '(module (memory 1) (data "' + "\\u{41}\\n\\00" * n + '"' + ' "a"' * n + "))",
    "characters": lambda n: "(module " + "".join(map(chr, range(0xA1, 0xA1 + n))) + ")",
    "quotation marks": lambda n: "(module " + '"a"b' * n + ")",
    "parentheses": lambda n: "(" * n,
    "tokens": lambda n: "(module " + " ".join(f"x{i}" for i in range(n)) + ")",
}  # fmt: skip


#: What is refused, and soon.
_WRONG = ("characters", "quotation marks", "parentheses", "tokens")


@pytest.mark.parametrize("kind", _TEXTS)
def test_assembling(kind: str) -> None:
    if kind not in _WRONG:
        parse_module(_TEXTS[kind](60))
    small, large = (_steps(lambda n=n: parse_module(_TEXTS[kind](n))) for n in (60, 480))
    assert large < 10 * small


@pytest.mark.parametrize("kind", [kind for kind in _TEXTS if kind not in _WRONG])
def test_printing(kind: str) -> None:
    modules = [parse_module(_TEXTS[kind](n)).binary for n in (60, 480)]
    small, large = (_steps(lambda m=m: print_module(m)) for m in modules)
    assert large < 10 * small
    assert parse_module(print_module(modules[1])).binary == modules[1]


@pytest.mark.parametrize(
    "start", ['(module "', '(module (@"', "(module (@custom ", "(;(;;);)(module $", '(module "a" ']
)
def test_strings_without_end(start: str) -> None:
    # Each quotation mark could be the beginning of a string up to the end: this never ended.
    with pytest.raises(CompileError, match=r"unclosed (string|annotation)|empty|illegal"):
        parse_module(start + '"' + '\\"' * 500_000)


def test_where_a_string_without_end_is() -> None:
    for text, message in (
        ('(module\n "abc', "unclosed string at line 2, column 2"),
        ('(module\n "abc\n")', "unclosed string at line 2, column 2"),
        ('(module $"abc', "empty identifier at line 1, column 10"),
        ('(module "a\\', "illegal escape at line 1, column 11"),
        ('(module "a\x01b")', "illegal character in string at line 1, column 11"),
        ('\x01 (module "a', "illegal character at line 1, column 1"),
    ):
        with pytest.raises(CompileError) as error:
            parse_module(text)
        assert str(error.value) == message


def test_long_numbers() -> None:
    for number in (
        "1" * 100_000,
        "0x" + "1" * 100_000,
        "0." + "1" * 100_000,
        "1e" + "9" * 100_000,
        "nan:0x" + "1" * 9999,
    ):
        for instruction in ("i32.const", "i64.const", "f32.const", "f64.const"):
            text = _func(f"{instruction} {number}")
            if number.startswith("0.") and instruction.startswith("f"):
                parse_module(text)
            else:
                with pytest.raises(CompileError) as error:
                    parse_module(text)
                assert len(str(error.value)) < 300


def test_texts_that_would_be_very_much_larger() -> None:
    few = uleb(1) + uleb(50_000) + b"\x7f" + b"\x0b"
    n = 2_000
    data = module(
        section(TYPE, vec(b"\x60\0\0")),
        section(FUNC, uleb(n) + b"\0" * n),
        section(CODE, uleb(n) + (uleb(len(few)) + few) * n),
    )
    with pytest.raises(CompileError, match="too large for the text format: more than 64 times the"):
        print_module(data)


def test_long_names_are_not_repeated() -> None:
    name = "x" * 100_000
    source = f"(module (func ${name}) (table 1 funcref) (elem (i32.const 0) func{f' ${name}' * 500}))"
    binary = parse_module(source).binary
    text = print_module(binary)
    assert len(text) < 120_000
    assert parse_module(text).binary == binary


@pytest.mark.parametrize("text", ["a", r"\n", r"a\00", "(;a;)"])
def test_long_strings_take_little_more_than_their_bytes(text: str) -> None:
    """`re` keeps much for each place to which it could go back."""
    source = '(module (data "' + text * 100_000 + '"))'
    tracemalloc.start()
    try:
        parse_module(source)
        assert tracemalloc.get_traced_memory()[1] < 12 * len(source) + 100_000
    finally:
        tracemalloc.stop()
