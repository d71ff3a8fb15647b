"""Snapshots as bytes: the same bytes for the same state, and nothing but an error for others.

After `MAGIC` come the `VERSION`, how the rest is compressed (a number of `COMPRESSIONS`), whether it is signed, and the
fields of `StoreData` in their order, compressed or not. Numbers are unsigned LEB128 in the least
number of bytes; texts, bytes and lists begin with their length. What may be absent has a byte 0 or 1 before it. A
reference begins with 0 (null), 1 (a function: instance, index), 2 (an object of the host: its name), 3 (an i31, in 31
bits), 4 (a struct or an array: its number among the objects), or with one of `NUMBERED` (its number there). The value
of a number begins with `NUMBER` (its bits, as a number). Modules are
listed by digest, each followed by its bytes if it is embedded. The last 32 bytes are the SHA-256 of all before, or
with a key the HMAC with that. What is compressed is as others write it, so it has the same bytes only where the same
compressor wrote it.

`decode` checks the format; that the numbers fit the modules is checked by `wasmloom.snapshot.restoring`. It makes no
more than what the bytes have: each item of a list takes one at least.
"""

from __future__ import annotations

import hmac
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any, TypeVar

from wasmloom.errors import WasmError
from wasmloom.snapshot.data import (
    CONSUMED,
    CONTINUATION,
    EXCEPTION,
    KINDS,
    PIECE,
    Bits,
    CallData,
    ContinuationData,
    ExceptionData,
    FrameData,
    GlobalData,
    GuestsData,
    Home,
    InstanceData,
    MemoryData,
    Numbered,
    ObjectData,
    Reference,
    SegmentData,
    StackData,
    StoreData,
    TableData,
    TailData,
    Thing,
    Value,
)
from wasmloom.wasi.descriptors import Listed
from wasmloom.wasi.saving import OpenFile, WasiState

T = TypeVar("T")

MAGIC = b"\0wlsnap"
VERSION = 2
#: What values begin with that aren't null, functions, objects or the host's.
NUMBER = 5
NUMBERED = {CONTINUATION: 6, EXCEPTION: 7, CONSUMED: 8}
_KIND_OF = {code: kind for kind, code in NUMBERED.items()}
#: How what follows the header may be compressed, by number.
COMPRESSIONS = (None, "zlib", "lzma")
#: Bytes that a compressed snapshot may become, unless the reader says otherwise.
MOST_BYTES = 1 << 30
_DIGEST = 32
#: Bytes of the header behind `MAGIC`.
_HEADER = 3
_ZERO = bytes(PIECE)
#: Numbers that take a byte.
_SMALL = [bytes([value]) for value in range(0x80)]
#: What is shorter is put together before it goes into the checksum.
_LARGE = 1 << 16


class Writer:
    """Bytes that grow."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def number(self, value: int) -> None:
        """An unsigned number."""
        if value < 0x80:
            self.parts.append(_SMALL[value])
            return
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
        elif isinstance(value, int):
            self.number(3)
            self.number(value & 0x7FFFFFFF)
        elif isinstance(value, Thing):
            self.number(4)
            self.number(value.number)
        elif isinstance(value, Numbered):
            self.number(NUMBERED[value.kind])
            self.number(value.number)
        else:
            self.number(2)
            self.text(value)

    def value(self, value: Value) -> None:
        """A value."""
        if isinstance(value, Bits):
            self.number(NUMBER)
            self.number(value.value)
        else:
            self.reference(value)

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

    def object(self, value: ObjectData) -> None:
        """A struct or an array."""
        self.number(value.module)
        self.number(value.type)
        self.raw(value.data)
        self.each(value.references, self.reference)

    def segment(self, value: SegmentData) -> None:
        """A segment with objects."""
        self.number(value.instance)
        self.number(value.segment)
        self.each(value.elements, self.reference)

    # --- guests ---

    def _tail(self, value: TailData) -> None:
        self.home(value.home)
        self.number(value.offset)

    def _frame(self, value: FrameData) -> None:
        self.home(value.home)
        self.number(value.offset)
        self.each(value.locals, self.value)
        self.each(value.operands, self.value)
        self.each(value.own, self.number)
        self.each(value.tails, self._tail)

    def _stack(self, value: StackData) -> None:
        self.each(value.tails, self._tail)
        self.each(value.frames, self._frame)

    def _continuation(self, value: ContinuationData) -> None:
        self.maybe(value.function, self.home)
        self.each(value.bound, self.value)
        self.each(value.stacks, self._stack)

    def _exception(self, value: ExceptionData) -> None:
        self.number(value.tag)
        self.each(value.values, self.value)

    def _call(self, value: CallData) -> None:
        self.text(value.id)
        self.number(value.attempt)
        self.home(value.function)
        self.maybe(value.host, self.home)
        self.each(value.args, self.value)
        self.each(value.stacks, self._stack)

    def _kept(self, value: tuple[str, Reference]) -> None:
        self.text(value[0])
        self.reference(value[1])

    def guests(self, value: GuestsData) -> None:
        """What is in the middle of something."""
        self.each(value.continuations, self._continuation)
        self.each(value.exceptions, self._exception)
        self.each(value.calls, self._call)
        self.each(value.kept, self._kept)

    # --- WASI ---

    def wasi(self, value: WasiState) -> None:
        """What instances have of WASI."""
        self.each(value.instances, self.number)
        self.each(value.args, self.raw)
        self.each(value.env, self.raw)
        self.each(value.clocks, self.number)
        self.number(value.following)
        self.each(value.freed, self.number)
        self.each(value.files, self._file)

    def _file(self, file: OpenFile) -> None:
        self.number(file.number)
        self.number(file.kind)
        self.raw(file.name)
        self.raw(file.path)
        for value in (file.access, file.flags, file.rights, file.inheriting, file.offset):
            self.number(value)
        self.maybe(file.listing, self._listing)

    def _listing(self, listing: tuple[int, tuple[Listed, ...]]) -> None:
        self.number(listing[0])
        self.each(listing[1], self._listed)

    def _listed(self, entry: Listed) -> None:
        self.number(entry.following)
        self.number(entry.inode)
        self.number(entry.mode)
        self.raw(entry.name)


def encode(
    store: StoreData, modules: Mapping[str, bytes], compress: str | None = None, key: bytes | None = None
) -> bytes:
    """The bytes of a snapshot. `modules`: the bytes of those modules that are embedded, by digest. `compress`: one of
    `COMPRESSIONS`. `key`: what it is signed with."""
    out = Writer()
    out.parts += (MAGIC, bytes([VERSION, COMPRESSIONS.index(compress), key is not None]))
    header = len(out.parts)
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
    out.each(store.wasi, out.wasi)
    out.each(store.objects, out.object)
    out.each(store.segments, out.segment)
    out.guests(store.guests)
    if compress is not None:
        out.parts[header:] = [_compressed(compress, b"".join(out.parts[header:]))]
    out.parts.append(_digest(out.parts, key))
    return b"".join(out.parts)


def _compressed(how: str, data: bytes) -> bytes:
    if how == "zlib":
        return zlib.compress(data)
    return lzma.compress(data)


def _decompressed(how: str, data: memoryview, most: int) -> bytes:
    """The reverse of `_compressed`. Raises `WasmError` for what isn't that, or is more than `most` bytes."""
    made: Any = zlib.decompressobj() if how == "zlib" else lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        found: bytes = made.decompress(data, most + 1)
    except (zlib.error, lzma.LZMAError):
        raise WasmError(f"damaged snapshot: it isn't compressed by {how} as it says") from None
    if len(found) > most:
        raise WasmError(f"the snapshot has more than {most} bytes when it isn't compressed: max_size allows more")
    if not made.eof or made.unused_data:
        raise WasmError("damaged snapshot: what is compressed doesn't end where it should")
    return found


def _digest(parts: list[bytes] | list[memoryview], key: bytes | None) -> bytes:
    """The checksum, or the signature, of parts in a row."""
    digest, small = sha256() if key is None else hmac.new(key, digestmod=sha256), bytearray()
    for part in parts:
        if len(part) < _LARGE:
            small += part
        else:
            digest.update(small)
            digest.update(part)
            small = bytearray()
    digest.update(small)
    return digest.digest()


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

    def number(self, bits: int = 64) -> int:
        """An unsigned number of so many bits."""
        if self.at < self.end and self.data[self.at] < 0x80:
            self.at += 1
            return self.data[self.at - 1]
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits + 6:
                raise self.fail("a number that is too long")
        if value >> bits or (byte == 0 and shift > 7):
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
        if kind == 3:
            value = self.number()
            if value >> 31:
                raise self.fail("an i31 of more than 31 bits")
            return value - (value >> 30 << 31)
        if kind == 4:
            return Thing(self.number())
        if kind in _KIND_OF:
            return Numbered(_KIND_OF[kind], self.number())
        raise self.fail("an unknown kind of reference")

    def value(self) -> Value:
        """A value."""
        begin = self.at
        if self.number() == NUMBER:
            return Bits(self.number(128))
        self.at = begin
        return self.reference()

    # --- guests ---

    def _tail(self) -> TailData:
        return TailData(self.home(), self.number())

    def _frame(self) -> FrameData:
        return FrameData(
            self.home(),
            self.number(),
            self.each(self.value),
            self.each(self.value),
            self.each(self.number),
            self.each(self._tail),
        )

    def _stack(self) -> StackData:
        return StackData(self.each(self._tail), self.each(self._frame))

    def _continuation(self) -> ContinuationData:
        return ContinuationData(self.maybe(self.home), self.each(self.value), self.each(self._stack))

    def _exception(self) -> ExceptionData:
        return ExceptionData(self.number(), self.each(self.value))

    def _call(self) -> CallData:
        return CallData(
            self.text(),
            self.number(),
            self.home(),
            self.maybe(self.home),
            self.each(self.value),
            self.each(self._stack),
        )

    def guests(self) -> GuestsData:
        """What is in the middle of something."""
        return GuestsData(
            self.each(self._continuation),
            self.each(self._exception),
            self.each(self._call),
            self.each(lambda: (self.text(), self.reference())),
        )

    # --- everything else ---

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

    def object(self) -> ObjectData:
        """A struct or an array."""
        return ObjectData(self.number(), self.number(), self.raw(), self.each(self.reference))

    def segment(self) -> SegmentData:
        """A segment with objects."""
        return SegmentData(self.number(), self.number(), self.each(self.reference))

    def wasi(self) -> WasiState:
        """What instances have of WASI."""
        return WasiState(
            self.ascending(),
            self.each(self.raw),
            self.each(self.raw),
            self.each(self.number),
            self.number(),
            self.ascending(),
            self.each(self._file),
        )

    def _file(self) -> OpenFile:
        number, kind, name, path = self.number(), self.number(), self.raw(), self.raw()
        access, flags, rights, inheriting, offset = (self.number() for _ in range(5))
        listing = self.maybe(lambda: (self.number(), self.each(self._listed)))
        return OpenFile(number, kind, name, path, access, flags, rights, inheriting, offset, listing)

    def _listed(self) -> Listed:
        return Listed(self.number(), self.number(), self.number(), self.raw())


def _opened(data: bytes, key: bytes | None, most: int) -> Reader:
    """A reader of the fields. Nothing is looked at before the signature has been, if there is a key."""
    end = len(data) - _DIGEST
    if not data.startswith(MAGIC):
        raise WasmError("this isn't a snapshot: it doesn't begin as one")
    header = data[len(MAGIC) : len(MAGIC) + _HEADER]
    fits = end >= len(MAGIC) + _HEADER and hmac.compare_digest(_digest([memoryview(data)[:end]], key), data[end:])
    if key is not None and not fits:
        raise WasmError("the snapshot isn't signed with this key")
    if not fits and header.startswith(bytes([VERSION])) and header.endswith(b"\1"):
        raise WasmError("the snapshot is signed, or damaged: give its key")
    if not fits:
        raise WasmError("damaged snapshot: its checksum doesn't fit")
    version, how, is_signed = header
    if version != VERSION:
        raise WasmError(f"a snapshot of version {version}: this engine reads version {VERSION}")
    if how >= len(COMPRESSIONS) or is_signed != (key is not None):
        raise WasmError("damaged snapshot: its header is none that this version writes")
    compression = COMPRESSIONS[how]
    if compression is None:
        reader = Reader(data, end)
        reader.at = len(MAGIC) + _HEADER
        return reader
    whole = _decompressed(compression, memoryview(data)[len(MAGIC) + _HEADER : end], most)
    return Reader(whole, len(whole))


def decode(data: bytes, key: bytes | None = None, most: int = MOST_BYTES) -> tuple[StoreData, dict[str, bytes]]:
    """What `encode` has been given. Raises `WasmError` for anything else than what it makes.

    `key`: what it must be signed with. `most`: the bytes that it may have when it isn't compressed any more.
    """
    reader = _opened(data, key, most)
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
        reader.each(reader.wasi),
        reader.each(reader.object),
        reader.each(reader.segment),
        reader.guests(),
    )
    if reader.at != reader.end:
        raise reader.fail("something behind its end")
    return store, embedded
