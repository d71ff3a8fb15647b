"""Pieces of text that the printer writes: identifiers, strings, types and numbers, in the text format."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from wasmloom.messages import is_visible
from wasmloom.spec.types import (
    ABSTRACT_HEAP_NAMES,
    CONCRETE,
    EXACT,
    FieldType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    ValType,
)
from wasmloom.text.lexer import ID_CHARS

_PLAIN_NAME = re.compile(rf"[{ID_CHARS}]+")
_SPECIAL_BYTES = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}
_BYTE_TEXT = tuple(
    _SPECIAL_BYTES.get(byte, chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:02x}") for byte in range(256)
)


def quote_bytes(data: bytes) -> str:
    """A string token for any bytes."""
    return '"' + "".join([_BYTE_TEXT[byte] for byte in data]) + '"'


def quote_name(name: str) -> str:
    """A string token for a name; printable characters stay readable."""
    return '"' + "".join([_name_char(char) for char in name]) + '"'


def _name_char(char: str) -> str:
    if char.isascii():
        return _BYTE_TEXT[ord(char)]
    return char if is_visible(char) else f"\\u{{{ord(char):x}}}"


def identifier(name: str) -> str:
    """The identifier with this name, which must not be empty."""
    return "$" + (name if _PLAIN_NAME.fullmatch(name) else quote_name(name))


#: Characters of a name that can be an identifier.
_MAX_IDENTIFIER = 1_000


class IndexNames:
    """Texts of the indices of one space: an identifier where a name is there and unique, otherwise the number."""

    __slots__ = ("_identifiers", "_names")

    def __init__(self, names: dict[int, str], count: int) -> None:
        """Take the names of the indices below `count`. Others are dropped, because nothing defines them.

        A name longer than `_MAX_IDENTIFIER` isn't repeated at every use; the index is used instead.
        """
        self._names = {index: name for index, name in names.items() if index < count}
        self._identifiers: dict[int, str] = {}
        taken: set[str] = set()
        for index, name in sorted(self._names.items()):
            if name and name not in taken and len(name) <= _MAX_IDENTIFIER:
                taken.add(name)
                self._identifiers[index] = identifier(name)

    def use(self, index: int) -> str:
        """The reference to `index`."""
        return self._identifiers.get(index) or str(index)

    def binding(self, index: int) -> str:
        """The text at the definition of `index`, with a space before it.

        A name that can't be an identifier is kept in an annotation.
        """
        known = self._identifiers.get(index)
        if known is not None:
            return f" {known}"
        return self.annotation(index)

    def annotation(self, index: int) -> str:
        """The annotation with the name of `index`, if it has a name."""
        name = self._names.get(index)
        return "" if name is None else f" (@name {quote_name(name)})"


NO_NAMES = IndexNames({}, 0)


class TypeText:
    """Texts of types, in which defined types go by their identifiers."""

    def __init__(self, maps: dict[str, dict[int, str]], counts: dict[str, int]) -> None:
        """Take the names of all index spaces, as in `wasmloom.spec.module.Names`, and the sizes of the spaces."""
        self.spaces: dict[str, IndexNames] = {
            kind: IndexNames(maps.get(kind, {}), count) for kind, count in counts.items()
        }

    def heap_type(self, heap: int) -> str:
        """A heap type."""
        if heap & EXACT:
            return f"(exact {self.heap_type(heap - EXACT)})"
        return self.spaces["type"].use(heap - CONCRETE) if heap >= CONCRETE else ABSTRACT_HEAP_NAMES[heap]

    def val_type(self, val_type: ValType) -> str:
        """A value or storage type."""
        if not val_type.is_ref or val_type.heap < CONCRETE:
            return str(val_type)
        return f"(ref {'null ' if val_type.is_nullable else ''}{self.heap_type(val_type.heap)})"

    def ref_form(self, heap: int, nullable: bool) -> str:
        """A reference type, written out."""
        return f"(ref {'null ' if nullable else ''}{self.heap_type(heap)})"

    def field_type(self, field: FieldType) -> str:
        """A struct's field or an array's element."""
        storage = self.val_type(field.storage)
        return f"(mut {storage})" if field.mutable else storage

    def global_type(self, global_type: GlobalType) -> str:
        """A global type."""
        content = self.val_type(global_type.content)
        return f"(mut {content})" if global_type.mutable else content

    def table_type(self, table: TableType) -> str:
        """A table type."""
        return f"{'i64 ' if table.is64 else ''}{_limits(table.limits)} {self.val_type(table.element)}"

    def memory_type(self, memory: MemoryType) -> str:
        """A memory type."""
        text = f"{'i64 ' if memory.is64 else ''}{_limits(memory.limits)}"
        if memory.shared:
            text += " shared"
        if memory.page_size_log2 != 16:
            text += f" (pagesize {1 << memory.page_size_log2})"
        return text


def _limits(limits: Limits) -> str:
    return str(limits.min) if limits.max is None else f"{limits.min} {limits.max}"


def _float_text(data: bytes, fraction_bits: int, shortest: Callable[[float], str]) -> str:
    """A float; `shortest` writes a finite one so that it reads back as itself."""
    bits = int.from_bytes(data, "little")
    width = 8 * len(data)
    sign = "-" if bits >> (width - 1) else ""
    fraction = bits & ((1 << fraction_bits) - 1)
    exponent = (bits & ((1 << (width - 1)) - 1)) >> fraction_bits
    if exponent != (1 << (width - 1 - fraction_bits)) - 1:
        return shortest(struct.unpack("<f" if width == 32 else "<d", data)[0])
    if fraction == 0:
        return f"{sign}inf"
    return f"{sign}nan" if fraction == 1 << (fraction_bits - 1) else f"{sign}nan:0x{fraction:x}"


def _shortest_f32(value: float) -> str:
    for digits in range(6, 10):
        text = f"{value:.{digits}g}"
        # Rounding to f64 first may lead to another f32, or out of range; nine digits are always enough.
        try:
            if struct.pack("<f", float(text)) == struct.pack("<f", value):
                return text
        except OverflowError:
            continue
    return value.hex()


def f32_text(data: bytes) -> str:
    """The f32 in four bytes, in the fewest decimal digits that read back as the same bits."""
    return _float_text(data, 23, _shortest_f32)


def f64_text(data: bytes) -> str:
    """The f64 in eight bytes, in the fewest decimal digits that read back as the same bits."""
    return _float_text(data, 52, repr)


def v128_text(data: bytes) -> str:
    """The vector in sixteen bytes."""
    return "i32x4 " + " ".join(f"0x{int.from_bytes(data[at : at + 4], 'little'):08x}" for at in range(0, 16, 4))
