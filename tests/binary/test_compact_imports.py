"""Imports that share a module's name, or a type as well: in the binary and in the text format."""

from __future__ import annotations

import pytest

import wasmloom as wl
from tests.binary.build import IMPORT, TYPE, module, section, vec
from wasmloom.binary.decoder import decode_module
from wasmloom.binary.encoder import name_bytes as name
from wasmloom.binary.encoder import uleb
from wasmloom.errors import CompileError
from wasmloom.spec.limits import MAX_IMPORTS
from wasmloom.spec.module import ImportGroup
from wasmloom.text.parser import parse_module
from wasmloom.text.printer import print_module

EACH, ALIKE = b"\0\x7f", b"\0\x7e"
TYPES = section(TYPE, vec(b"\x60\0\0"))
FUNC, TABLE, MEMORY, GLOBAL, TAG = b"\0\0", b"\1\x70\1\1\2", b"\2\0\1", b"\3\x7f\0", b"\4\0\0"


def with_imports(*groups: bytes) -> bytes:
    return module(TYPES, section(IMPORT, vec(*groups)))


def one(text: str) -> bytes:
    return name("m") + name(text)


def named(data: bytes) -> list[tuple[str, str, str]]:
    return [(item.module, item.name, item.kind) for item in decode_module(data).imports]


def test_groups_of_all_kinds_between_single_imports() -> None:
    items = [name(kind[0]) + type for kind, type in zip("ftmgx", (FUNC, TABLE, MEMORY, GLOBAL, TAG), strict=True)]
    compact = with_imports(
        one("first") + FUNC,
        name("m") + EACH + vec(*items),
        name("m") + ALIKE + GLOBAL + vec(name("a"), name("b")),
        one("last") + GLOBAL,
    )
    plain = with_imports(
        one("first") + FUNC, *(name("m") + item for item in items), one("a") + GLOBAL, one("b") + GLOBAL,
        one("last") + GLOBAL,
    )  # fmt: skip
    assert decode_module(compact).imports == decode_module(plain).imports
    assert decode_module(compact).import_at(8).name == "last"
    assert decode_module(compact).syntax().import_groups == [ImportGroup(1, 5, False), ImportGroup(6, 2, True)]
    assert parse_module(print_module(compact)).binary == compact
    assert parse_module(print_module(plain)).binary == plain


@pytest.mark.parametrize("type", [FUNC, TABLE, MEMORY, GLOBAL, TAG])
def test_one_type_for_all(type: bytes) -> None:
    data = with_imports(name("m") + ALIKE + type + vec(name(""), name("b"), name("")))
    plain = with_imports(one("") + type, one("b") + type, one("") + type)
    assert decode_module(data).imports == decode_module(plain).imports
    assert parse_module(print_module(data)).binary == data


def test_groups_of_nothing() -> None:
    data = with_imports(name("m") + EACH + vec(), one("a") + FUNC, name("x") + ALIKE + MEMORY + vec())
    assert named(data) == [("m", "a", "func")]
    assert decode_module(data).memories == []
    assert parse_module('(import "m") (import "m" (memory 1)) (import "m" "a" (func))').syntax.imports[0].name == "a"


def test_an_empty_name_alone_is_no_group() -> None:
    assert named(with_imports(name("") + name("") + FUNC)) == [("", "", "func")]
    # In more bytes than needed it is empty, too.
    assert named(with_imports(name("m") + b"\x80\x80\0\x7f" + vec(name("a") + FUNC))) == [("m", "a", "func")]


@pytest.mark.parametrize(
    ("imports", "message", "at"),
    [
        (one("b") + b"\x7f" + vec(name("a") + FUNC), "malformed import kind", 4),
        (name("m") + b"\0\xff\0" + vec(name("a") + FUNC), "malformed import kind", 3),
        (name("m") + EACH + vec(EACH + vec()), "malformed import kind", 6),
        (name("m") + ALIKE + b"\5\0" + vec(), "malformed import kind", 4),
        (name("m") + ALIKE + b"\2\x20" + vec(), "malformed limits flags", 5),
        (name("m") + ALIKE + FUNC + b"\1", "unexpected end", 7),
        (name("m") + EACH + uleb(MAX_IMPORTS + 1), "too many imports", 4),
    ],
)
def test_malformed(imports: bytes, message: str, at: int) -> None:
    data = with_imports(imports)
    with pytest.raises(CompileError) as caught:
        decode_module(data)
    assert caught.value.reason.startswith(message)
    assert caught.value.offset == data.index(imports) + at


def test_all_groups_together_have_a_limit() -> None:
    half = _group(MAX_IMPORTS // 2)
    assert len(decode_module(with_imports(half, half)).imports) == MAX_IMPORTS
    with pytest.raises(CompileError, match="too many imports"):
        decode_module(with_imports(half, half, one("a") + GLOBAL))


def _group(count: int) -> bytes:
    return name("m") + ALIKE + GLOBAL + uleb(count) + b"\0" * count


def test_a_long_module_name_is_made_once() -> None:
    long = "x" * 100_000
    imports = decode_module(with_imports(name(long) + ALIKE + FUNC + vec(name("a"), name("b")))).imports
    assert imports[0].module is imports[1].module


TEXT = """\
(module
  (type (;0;) (func (param i32)))
  (import "m"
    (item "f" (func $f (;0;) (type 0) (param $p i32)))
    (item "g" (global $g (;0;) i32))
  )
  (import "m"
    (item "a") (;1;)
    (item "b") (;2;)
    (global i32)
  )
  (import "m" "last" (func $last (;1;) (type 0) (param i32)))
)
"""


def test_text() -> None:
    parsed = parse_module(TEXT)
    assert print_module(parsed.binary) == TEXT
    assert parsed.syntax is not None
    assert parsed.syntax.names.locals == {0: {0: "p"}}
    assert parsed.source_map is not None
    section_at = parsed.binary.index(b"\1f\0\0")
    assert parsed.source_map.locate(section_at) == (3, 3)


def test_names_of_alike_imports_are_kept() -> None:
    source = parse_module('(import "m" (item "a" (global $x i32)) (item "b" (global i32)))').binary
    head = name("m") + EACH + vec(name("a") + GLOBAL, name("b") + GLOBAL)
    alike = name("m") + ALIKE + GLOBAL + vec(name("a"), name("b"))
    data = source.replace(section(IMPORT, vec(head)), section(IMPORT, vec(alike)))
    assert '(item "a" (global $x' in print_module(data)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('(import "m" (item "a") (func $f))', "identifier not allowed"),
        ('(import "m" (item "a" (func)) (func))', "unexpected token ("),
        ('(import "m" (item "a" (func)) (item "b") (func))', "unexpected token ("),
        ('(import "m" (item "a") (item "b" (func)) (func))', "unexpected token ("),
        ('(import "m" (item "a"))', "unexpected token )"),
        ('(import "m" (item "a" (func) (func)))', "unexpected token ("),
        ('(import "m" (item "a" (foo)))', "unknown operator foo"),
        ('(func) (import "m" (item "a") (func))', "import after function"),
        ('(import "m" (item', "unexpected token: end of text"),
    ],
)
def test_malformed_text(source: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_module(source)
    assert caught.value.reason.startswith(message)


def test_they_are_linked_in_order() -> None:
    values = wl.Instance(wl.Module('(global (export "a") i32 (i32.const 1)) (global (export "b") i32 (i32.const 2))'))
    user = wl.Module("""
        (import "m" (item "a") (item "b") (item "a") (global i32))
        (func (export "sum") (result i32)
          (i32.add (i32.mul (global.get 0) (i32.const 100))
            (i32.add (i32.mul (global.get 1) (i32.const 10)) (global.get 2))))""")
    assert [tuple(wanted)[:2] for wanted in user.imports] == [("m", "a"), ("m", "b"), ("m", "a")]
    instance = wl.Instance(user, {"m": dict(values.exports)}, store=values.store)
    assert instance.exports.sum() == 121
