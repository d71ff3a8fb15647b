"""The assembler: text modules → binary modules, and a map back from bytes to text.

`parse_module` is the entry point::

    parsed = parse_module('(module (func (export "f") (result i32) i32.const 1))')
    parsed.binary        # the module in the binary format
    parsed.source_map    # .locate(offset) → (line, column)

Source: Core 3.0, chapter 6.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from wasmloom.binary.encoder import Layout, encode_module
from wasmloom.errors import UnsupportedError
from wasmloom.spec.module import ModuleSyntax
from wasmloom.spec.proposals import COMPONENT
from wasmloom.text.cursor import Cursor
from wasmloom.text.fields import FieldParser, Places
from wasmloom.text.lexer import Tokens


class SourceMap:
    """Where in the text each byte of an assembled module comes from."""

    __slots__ = ("_layout", "_offsets", "_places", "_tokens", "_where")

    def __init__(self, tokens: Tokens, places: Places, layout: Layout) -> None:
        self._tokens = tokens
        self._places = places
        self._layout = layout
        self._offsets: list[int] | None = None
        self._where: list[int] = []

    def locate(self, offset: int) -> tuple[int, int] | None:
        """Line and column, from 1, of the text that the byte at `offset` comes from; None before the first
        definition."""
        if self._offsets is None:
            self._build()
        found = bisect_right(self._offsets or (), offset)
        return self._tokens.position(self._where[found - 1]) if found else None

    def _build(self) -> None:
        pairs: list[tuple[int, int]] = []
        for section, offsets in self._layout.entries.items():
            pairs += zip(offsets, self._places.entries[section], strict=False)
        for key, start in self._layout.exprs.items():
            pairs += ((start + offset, token) for offset, token in self._places.exprs.get(key, ()))
        pairs.sort()
        self._offsets = [offset for offset, _ in pairs]
        self._where = [token for _, token in pairs]


class ParsedModule(NamedTuple):
    """An assembled module.

    `name` is its identifier without `$`. `syntax` and `source_map` are None for a `(module binary …)`, whose bytes are
    taken as they stand.
    """

    binary: bytes
    name: str | None
    syntax: ModuleSyntax | None
    source_map: SourceMap | None


def parse_module(source: str | bytes) -> ParsedModule:
    """Assemble a text module: `(module …)`, or its fields alone.

    `(module binary "…")` and `(module quote "…")` are taken as well. Raises `CompileError` with line and column when
    the text is malformed. A module that is well-formed but invalid is still encoded.
    """
    tokens = Tokens.of(source)
    end = tokens.count()
    cursor = Cursor(tokens, 0)
    if cursor.open_form("component"):
        line, column = tokens.position(0)
        raise UnsupportedError(COMPONENT, line=line, column=column)
    if not cursor.open_form("module"):
        return parse_fields(tokens, 0, end, None)
    close = cursor.skip_form(0) - 1
    if close + 1 < end:
        cursor.unexpected(close + 1)
    identifier = cursor.optional_identifier()
    name = identifier and identifier[1:]
    kind = tokens.texts[cursor.pos]
    if kind not in ("binary", "quote"):
        return parse_fields(tokens, cursor.pos, close, name)
    cursor.pos += 1
    contents = cursor.strings()
    cursor.expect(")")
    return parse_module(contents) if kind == "quote" else ParsedModule(contents, name, None, None)


def parse_fields(tokens: Tokens, first: int, end: int, name: str | None) -> ParsedModule:
    """Assemble the module whose fields are the tokens from `first` up to `end`; see `parse_module`."""
    parser = FieldParser(tokens, first, end)
    syntax = parser.fields(name)
    layout = Layout()
    binary = encode_module(syntax, layout)
    return ParsedModule(binary, name, syntax, SourceMap(tokens, parser.places, layout))
