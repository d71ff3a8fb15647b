"""What messages show of names, tokens and files: on one line, visible, and not too much."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.errors import Frame
from wasmloom.messages import listed, printable, quoted, two_level

#: Control characters, line separators, bidi and other formatting, what has no width, surrogates, private use.
_EVIL = (
    "\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "\n", "\r", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\u200b",
    "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\ufe0f", "\u3164", "\U000e0041", "\U000e0100", "\x7f", "\0",
    "\ue000",
    "\u3000", "\ud800",
)  # fmt: skip
_LONG = "x" * 1_000_000
#: As a guest can have it: names in a module are UTF-8.
_NAME = "name" + "".join(_EVIL[:-1])
_WAT_NAME = "".join(f"\\u{{{ord(char):x}}}" for char in _NAME)


def _is_fit(text: str, lines: int = 1) -> bool:
    return (
        text.count("\n") < lines and all(line.isprintable() for line in text.split("\n")) and len(text) < 2_000 * lines
    )


@pytest.mark.parametrize("evil", _EVIL)
def test_printable(evil: str) -> None:
    for shown in (printable(f"a{evil}b"), quoted(f"a{evil}b"), two_level(evil, "a"), listed([evil])):
        assert shown.isprintable()
        assert not set(evil) - set(map(chr, range(32, 127))) & set(shown)
        shown.encode()


def test_printable_leaves_what_is_visible() -> None:
    assert printable("main::größe<T>::{closure#0} 関数 🎉") == "main::größe<T>::{closure#0} 関数 🎉"
    assert printable("a\nb\tc\u202ed") == r"a\nb\tc\u{202e}d"
    assert quoted("it's") == r"'it\'s'"


def test_printable_cuts() -> None:
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 199 + "…"
    assert printable("\n" * 9, 4) == r"\n…"
    assert printable("\n" * 2, 4) == r"\n\n"
    assert len(printable("\U000e0100" * 1_000_000)) <= 200
    assert listed(map(str, range(1000)), printable) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"


@pytest.mark.parametrize("tier", ENGINES)
def test_backtraces(tier: str) -> None:
    engine = engine_of(tier)
    source = f"""(module $"{_WAT_NAME}" (import "{_WAT_NAME}" "f" (func $h))
      (func $"{_WAT_NAME}" (export "f") (unreachable))
      (func ${_LONG} (export "g") (call ${_LONG}))
      (func (export "h") (call $h)))"""

    def host() -> None:
        instance.exports.f()

    instance = wl.Instance(wl.Module(source, engine), {_NAME: {"f": host}})
    for name in "fh":
        with pytest.raises(wl.Trap) as trap:
            instance.exports[name]()
        assert _is_fit(str(trap.value), 10)
        assert _is_fit(repr(trap.value.frames), 10)
        assert trap.value.frames[0].func_name == _NAME
    with pytest.raises(wl.Trap, match="call stack exhausted") as trap:
        instance.exports.g()
    assert len(str(trap.value)) < 64 * 500
    for thing in (instance, instance.module, instance.exports, instance.exports.f, instance.exports.g):
        assert _is_fit(repr(thing))
    with pytest.raises(TypeError) as error:
        instance.exports.g(1)
    assert _is_fit(str(error.value))


def test_frames() -> None:
    frame = Frame(_NAME, 3, _LONG, 7)
    assert _is_fit(str(frame))
    assert _is_fit(repr(frame))


def test_linking_and_exports() -> None:
    module = wl.Module(f'(module (import "{_WAT_NAME}" "{_LONG}" (func)) (func (export "{_WAT_NAME}") (export "a")))')
    for imports, error in ({}, wl.LinkError), ({_NAME: {_LONG: 5}}, wl.LinkError):
        with pytest.raises(error) as found:
            wl.Instance(module, imports)
        assert _is_fit(str(found.value))
    store = wl.Store()
    with pytest.raises(ValueError, match="another store") as other:
        wl.Instance(module, {_NAME: {_LONG: wl.Func(store, "->", lambda: None)}}, store=wl.Store())
    assert _is_fit(str(other.value))
    instance = wl.Instance(module, {_NAME: {_LONG: lambda: None}})
    with pytest.raises(KeyError) as key:
        instance.exports[_NAME + "!"]
    assert _is_fit(str(key.value))
    with pytest.raises(AttributeError) as attribute:
        _ = instance.exports.missing
    assert _is_fit(str(attribute.value))
    wasi = pytest.raises(wl.LinkError)
    with wasi as unknown:
        from wasmloom.wasi import Wasi

        Wasi.check(module)
    assert _is_fit(str(unknown.value))


def test_many_exports_are_not_all_listed() -> None:
    module = wl.Module("(module (func $f)" + "".join(f'(export "{i}" (func $f))' for i in range(5000)) + ")")
    instance = wl.Instance(module)
    assert _is_fit(repr(instance))
    assert _is_fit(repr(instance.exports))
    with pytest.raises(KeyError) as error:
        instance.exports["x"]
    assert _is_fit(str(error.value))


def test_host_functions() -> None:
    module = wl.Module(f'(module (import "{_WAT_NAME}" "f" (func (result i32))) (export "f" (func 0)))')
    for result in ("text", (1, 2)):
        instance = wl.Instance(module, {_NAME: {"f": lambda result=result: result}})
        with pytest.raises(TypeError) as error:
            instance.exports.f()
        assert _is_fit(str(error.value))


def test_payloads() -> None:
    store = wl.Store()
    thrown = wl.WasmException(wl.Tag(store, "externref externref"), _NAME, "y" * 1_000_000)
    assert _is_fit(str(thrown))


_TOKENS = (
    "(func ${0} (br ${0}))", "(func (local.get ${0}))", "(func (call ${0}))",
    "(func (param ${0} i32) (param ${0} i32))",
    "(func ${0}) (func ${0})", "(func {1})", "({1})", "(func (i32.const {1}))", '(func (i32.load "{0}"))',
    "(type ${0} (struct)) (func (struct.get ${0} ${0}))", "(global {1} i32)", "(func (i32.load offset={1}))",
    '(export "{0}" (func 0)) (export "{0}" (func 0)) (func)',
)  # fmt: skip


@pytest.mark.parametrize("template", _TOKENS)
def test_errors_of_texts(template: str) -> None:
    for quoted_name, plain in ((f'"{_WAT_NAME}"', f'x"{_NAME}"'), (_LONG, _LONG)):
        inner = quoted_name.strip('"') if '"{0}"' in template else quoted_name
        with pytest.raises(wl.CompileError) as error:
            wl.Module("(module " + template.format(inner, plain) + ")")
        assert _is_fit(str(error.value))


def test_texts_are_safe_and_can_be_read_again() -> None:
    from wasmloom.text.parser import parse_module
    from wasmloom.text.printer import print_module

    source = f"""(module $"{_WAT_NAME}" (@custom "{_WAT_NAME}" "{_WAT_NAME}") (import "{_WAT_NAME}" "g" (func))
      (func $"{_WAT_NAME}" (param $"{_WAT_NAME}" i32) (block $"{_WAT_NAME}" (br $"{_WAT_NAME}")) (call $"{_WAT_NAME}"
      (i32.const 0))) (export "{_WAT_NAME}" (func 1)) (memory 1) (data (i32.const 0) "{_WAT_NAME}"))"""
    binary = parse_module(source).binary
    text = print_module(binary)
    assert all(line.isprintable() for line in text.split("\n"))
    assert not {char for char in _NAME if ord(char) > 126} & set(text)
    assert parse_module(text).binary == binary


def test_command_line(tmp_path: Path) -> None:
    file = tmp_path / "evil\x1b[2J\n\u202e\udcff.wat"
    file.write_text(
        f'(module $"{_WAT_NAME}" (@custom "{_WAT_NAME}" "") (import "{_WAT_NAME}" "g" (func)) (func $"{_WAT_NAME}"'
        f' (export "{_WAT_NAME}") (export "run") (unreachable)))'
    )
    broken = file.with_suffix(".bad")
    broken.write_text("(module (func (call $x)))")
    for arguments in (
        ("inspect", "--functions", file), ("inspect", "--func", "run", file), ("inspect", "--func", _NAME[:20], file),
        ("validate", file), ("validate", broken), ("run", broken), ("run", file), ("wasm2wat", broken),
        ("run", file.with_suffix(".missing")), ("wat2wasm", broken),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "wasmloom", *map(str, arguments)],
            capture_output=True,
            env={"PYTHONIOENCODING": "utf-8", "PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
        )
        output = (done.stdout + done.stderr).decode("utf-8")
        assert b"Traceback" not in done.stderr, output
        assert all(line.isprintable() for line in output.split("\n")), output


class _Odd(str):
    """Text that isn't what its methods say."""

    def __iter__(self) -> Any:
        return iter([1, None])

    isascii = isprintable = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return _Odd("odd\n")


@pytest.mark.parametrize(
    "odd", [None, (1, 2), 5, 2.5, b"x", ["\n"], wl.I32, _Odd("a\n")], ids=lambda odd: str(type(odd))
)
def test_errors_and_frames_of_anything(odd: Any) -> None:
    """What has no meaning is refused where an error is made, or shown as Python does."""
    assert _is_fit(printable(odd))
    for kind in (wl.CompileError, wl.ValidationError, wl.UnsupportedError):
        for arguments in ((odd,), ("a", odd), ("a", None, odd, odd), (wl.FuncType(odd, odd), 1)):
            with contextlib.suppress(TypeError):
                str(kind(*arguments))
    frame = wl.Frame(odd, odd, odd, odd, odd)
    assert _is_fit(str(frame) + repr(frame))
    assert str(wl.Trap(odd, (frame,), odd))
    if not isinstance(odd, tuple | list):
        for number in (odd, wl.I64, 2**70, "a"):
            if number is not None and not isinstance(number, int):
                with pytest.raises(TypeError, match="a number or None"):
                    wl.CompileError("a", number)
        with pytest.raises(TypeError, match="frames are a tuple"):
            wl.Trap("a", odd)
    assert str(wl.FuncType(odd, (wl.I32,))).endswith("-> [i32]")
