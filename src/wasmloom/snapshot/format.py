"""Snapshots as bytes: the same bytes for the same state, and nothing but an error for others.

After `MAGIC` and the `VERSION` come the fields of `StoreData` in their order. Numbers are unsigned LEB128 in the least
number of bytes; texts, bytes and lists begin with their length. What may be absent has a byte 0 or 1 before it. A
reference begins with 0 (null), 1 (a function: instance, index) or 2 (an object of the host: its name). Modules are
listed by digest, each followed by its bytes if it is embedded. The last 32 bytes are the SHA-256 of all before.

`decode` checks the format; that the numbers fit the modules is checked by `wasmloom.snapshot.restoring`. It makes no
more than what the bytes have: each item of a list takes one at least.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import TypeVar

from wasmloom.errors import WasmError
from wasmloom.snapshot.data import (
    KINDS,
    PIECE,
    GlobalData,
    Home,
    InstanceData,
    MemoryData,
    Reference,
    StoreData,
    TableData,
)

T = TypeVar("T")

MAGIC = b"\0wlsnap"
VERSION = 1
#: Numbers are below this.
_TOO_LARGE = 1 << 64
_DIGEST = 32
_ZERO = bytes(PIECE)


class Writer:
    """Bytes that grow."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def number(self, value: int) -> None:
        """An unsigned number."""
        found = bytearray()
        while value >= 0x80:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        found.append(value)
        self.parts.append(bytes(found))

    def raw(self, value: bytes) -> None:
        """Bytes of any length."""
        self.number(len(value))
        self.parts.append(value)

    def text(self, value: str) -> None:
        """A text."""
        self.raw(value.encode("utf-8", "surrogatepass"))

    def maybe(self, value: T | None, write: Callable[[T], None]) -> None:
        """What may be absent."""
        self.number(value is not None)
        if value is not None:
            write(value)

    def each(self, values: tuple[T, ...], write: Callable[[T], None]) -> None:
        """A list."""
        self.number(len(values))
        for value in values:
            write(value)

    def home(self, value: Home) -> None:
        """A function."""
        self.number(value.instance)
        self.number(value.function)

    def reference(self, value: Reference) -> None:
        """A reference."""
        if value is None:
            self.number(0)
        elif isinstance(value, Home):
            self.number(1)
            self.home(value)
        else:
            self.number(2)
            self.text(value)

    def floating(self, value: float) -> None:
        """A number of seconds."""
        self.parts.append(struct.pack("<d", value))

    def memory(self, value: MemoryData) -> None:
        """A memory."""
        self.maybe(value.type, self._memory_type)
        self.number(value.pages)
        self.each(value.runs, self._run)

    def _memory_type(self, type: tuple[int, int | None, bool, int]) -> None:
        least, most, is64, page_bits = type
        self.number(least)
        self.maybe(most, self.number)
        self.number(is64)
        self.number(page_bits)

    def _run(self, run: tuple[int, bytes]) -> None:
        self.number(run[0])
        self.raw(run[1])

    def table(self, value: TableData) -> None:
        """A table."""
        self.maybe(value.type, self._table_type)
        self.each(value.elements, self.reference)

    def _table_type(self, type: tuple[str, int, int | None, bool]) -> None:
        element, least, most, is64 = type
        self.text(element)
        self.number(least)
        self.maybe(most, self.number)
        self.number(is64)

    def global_(self, value: GlobalData) -> None:
        """A global."""
        self.maybe(value.type, self.text)
        if value.value is None:
            self.number(0)
        elif len(value.value) == 2:
            self.number(1)
            self.parts.append(struct.pack("<QQ", *value.value))
        else:
            self.number(2)
            self.reference(value.value[0])

    def instance(self, value: InstanceData) -> None:
        """An instance."""
        self.number(value.module)
        self.each(value.functions, lambda home: self.maybe(home, self.home))
        for kind in KINDS:
            self.each(value.imports[kind], self.number)
        self.each(value.dropped_data, self.number)
        self.each(value.dropped_elements, self.number)


def encode(store: StoreData, modules: Mapping[str, bytes]) -> bytes:
    """The bytes of a snapshot. `modules`: the bytes of those modules that are embedded, by digest."""
    out = Writer()
    out.parts.append(MAGIC)
    out.number(VERSION)
    out.number(len(store.modules))
    for digest in store.modules:
        out.parts.append(bytes.fromhex(digest))
        out.maybe(modules.get(digest), out.raw)
    out.maybe(store.fuel, out.number)
    out.maybe(store.timeout, out.floating)
    out.maybe(store.memory_limit, out.number)
    out.number(store.stack_limit)
    out.number(store.deterministic)
    out.each(store.instances, out.instance)
    out.each(store.memories, out.memory)
    out.each(store.tables, out.table)
    out.each(store.globals, out.global_)
    out.each(store.tags, lambda type: out.maybe(type, out.text))
    whole = b"".join(out.parts)
    return whole + sha256(whole).digest()


class Reader:
    """A place in bytes. Everything raises `WasmError` for what isn't as `Writer` writes it."""

    def __init__(self, data: bytes, end: int) -> None:
        self.data, self.at, self.end = data, 0, end

    def fail(self, what: str) -> WasmError:
        """The error at this place."""
        return WasmError(f"damaged snapshot: {what} at byte {self.at}")

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > self.end - self.at:
            raise self.fail("it ends too early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        """An unsigned number."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 70:
                raise self.fail("a number that is too long")
        if value >= _TOO_LARGE or (byte == 0 and shift > 7):
            raise self.fail("a number that isn't written as numbers are")
        return value

    def flag(self) -> bool:
        """0 or 1."""
        value = self.number()
        if value > 1:
            raise self.fail("neither 0 nor 1")
        return value == 1

    def raw(self) -> bytes:
        """Bytes of any length."""
        return self.take(self.number())

    def text(self) -> str:
        """A text."""
        try:
            return self.raw().decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self.fail("a text that isn't UTF-8") from None

    def maybe(self, read: Callable[[], T]) -> T | None:
        """What may be absent."""
        return read() if self.flag() else None

    def each(self, read: Callable[[], T]) -> tuple[T, ...]:
        """A list."""
        count = self.number()
        if count > self.end - self.at:
            raise self.fail("it ends too early")
        return tuple([read() for _ in range(count)])

    def ascending(self) -> tuple[int, ...]:
        """A list of numbers, each larger than the one before."""
        found = self.each(self.number)
        if any(one >= other for one, other in pairwise(found)):
            raise self.fail("numbers that aren't in order")
        return found

    def home(self) -> Home:
        """A function."""
        return Home(self.number(), self.number())

    def reference(self) -> Reference:
        """A reference."""
        kind = self.number()
        if kind == 0:
            return None
        if kind == 1:
            return self.home()
        if kind == 2:
            return self.text()
        raise self.fail("an unknown kind of reference")

    def floating(self) -> float:
        """A number of seconds."""
        value: float = struct.unpack("<d", self.take(8))[0]
        if not 0 <= value < 1e15:
            raise self.fail("a time that isn't one")
        return value

    def memory(self) -> MemoryData:
        """A memory."""
        type = self.maybe(lambda: (self.number(), self.maybe(self.number), self.flag(), self.number()))
        found = MemoryData(type, self.number(), self.each(lambda: (self.number(), self.raw())))
        behind = -1
        for first, contents in found.runs:
            if first <= behind or not contents or len(contents) % PIECE:
                raise self.fail("pieces of a memory that aren't in order, or not whole")
            pieces = range(0, len(contents), PIECE)
            if any(contents[at : at + PIECE] == _ZERO for at in pieces):
                raise self.fail("a piece of a memory that is zero")
            behind = first + len(pieces)
        return found

    def table(self) -> TableData:
        """A table."""
        type = self.maybe(lambda: (self.text(), self.number(), self.maybe(self.number), self.flag()))
        return TableData(type, self.each(self.reference))

    def global_(self) -> GlobalData:
        """A global."""
        type = self.maybe(self.text)
        kind = self.number()
        if kind == 0:
            return GlobalData(type, None)
        if kind == 1:
            first, second = struct.unpack("<QQ", self.take(16))
            return GlobalData(type, (first, second))
        if kind == 2:
            return GlobalData(type, (self.reference(),))
        raise self.fail("an unknown kind of value")

    def instance(self) -> InstanceData:
        """An instance."""
        module, functions = self.number(), self.each(lambda: self.maybe(self.home))
        imports = {kind: self.each(self.number) for kind in KINDS}
        return InstanceData(module, functions, imports, self.ascending(), self.ascending())


def decode(data: bytes) -> tuple[StoreData, dict[str, bytes]]:
    """What `encode` has been given. Raises `WasmError` for anything else than what it makes."""
    end = len(data) - _DIGEST
    if not data.startswith(MAGIC):
        raise WasmError("this isn't a snapshot: it doesn't begin as one")
    if end < len(MAGIC) or sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise WasmError("damaged snapshot: its checksum doesn't fit")
    reader = Reader(data, end)
    reader.at = len(MAGIC)
    version = reader.number()
    if version != VERSION:
        raise WasmError(f"a snapshot of version {version}: this engine reads version {VERSION}")
    embedded: dict[str, bytes] = {}
    digests: list[str] = []
    known: set[str] = set()
    for _ in range(reader.number()):
        digests.append(reader.take(_DIGEST).hex())
        contents = reader.maybe(reader.raw)
        if digests[-1] in known:
            raise reader.fail("a module that is listed twice")
        known.add(digests[-1])
        if contents is not None:
            if sha256(contents).hexdigest() != digests[-1]:
                raise reader.fail("a module that isn't the one it is said to be")
            embedded[digests[-1]] = contents
    store = StoreData(
        tuple(digests),
        reader.maybe(reader.number),
        reader.maybe(reader.floating),
        reader.maybe(reader.number),
        reader.number(),
        reader.flag(),
        reader.each(reader.instance),
        reader.each(reader.memory),
        reader.each(reader.table),
        reader.each(reader.global_),
        reader.each(lambda: reader.maybe(reader.text)),
    )
    if reader.at != end:
        raise reader.fail("something behind its end")
    return store, embedded
