"""ELF64, as far as compiled code needs it: reading relocatable objects, writing an image for a debugger.

LLVM returns compiled functions as relocatable objects. `ElfObject` reads one and checks every offset and size in it, so
a damaged object (from a damaged cache entry, say) is an `ObjectError` and never an access outside of it. `write_image`
makes the file that describes code in memory to a debugger.

Formats: System V ABI, chapters 4 and 5. The processor's part is in `wasmloom.target.relocations`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from wasmloom.errors import CompileError
from wasmloom.target import registers, relocations

# File header, section header, symbol, relocation with addend.
HEADER = struct.Struct("<4sBBBB8xHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")

ET_REL, ET_EXEC = 1, 2

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_COMPRESSED = 1, 2, 4, 1 << 10, 1 << 11
SHN_UNDEF, SHN_LORESERVE, SHN_ABS = 0, 0xFF00, 0xFFF1
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_FUNC, STT_TLS, STT_GNU_IFUNC = 2, 6, 10

#: Sections are at most aligned to this many bytes, a page.
MAX_ALIGNMENT = 4096


class ObjectError(CompileError):
    """Compiled code can't be loaded: the object is damaged, or uses what the loader doesn't support."""


class Section(NamedTuple):
    """A section header. `offset` and `size` are bytes in the file; without content there (``NOBITS``) in memory."""

    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class ElfObject:
    """A relocatable object, checked. `number` says in errors which of several objects it is."""

    def __init__(self, data: bytes, number: int = 0) -> None:
        self.number = number
        self.data = memoryview(data)
        #: All sections; their number is their position.
        self.sections: list[Section] = []
        #: The symbol table's entries, `SYMBOL.size` bytes each, and their names' bytes.
        self.symbols = self.data[:0]
        self._symbol_names = b""
        try:
            self._read_sections()
        except struct.error as error:
            raise self.error(f"damaged header: {error}") from None
        self._read_symbols()
        #: section number → number of the section with its relocations.
        self.relocations: dict[int, int] = {}
        self._find_relocations()

    def error(self, message: str) -> ObjectError:
        """An error about this object."""
        return ObjectError(f"compiled object {self.number}: {message}")

    def content(self, section: Section) -> memoryview:
        """The bytes of `section` in the file."""
        if section.type == SHT_NOBITS:
            return self.data[:0]
        return self.data[section.offset : section.offset + section.size]

    def symbol_name(self, position: int) -> str:
        """The name at `position` of the string table. LLVM allows any bytes in names; they survive."""
        return self._string(self._symbol_names, position)

    def _string(self, table: bytes, position: int) -> str:
        end = table.find(b"\0", position)
        if end < 0:
            raise self.error(f"no string at {position} of a string table")
        return table[position:end].decode("utf-8", "surrogateescape")

    def _read_sections(self) -> None:
        (
            magic, bits, order, version, _abi, file_type, machine, _version, _entry, _programs, table, _flags,
            _header_size, _program_size, _program_count, entry_size, count, names,
        ) = HEADER.unpack_from(self.data)  # fmt: skip
        if magic != b"\x7fELF":
            raise self.error("not an ELF file")
        if (bits, order, version, file_type, machine) != (2, 1, 1, ET_REL, relocations.MACHINE):
            raise self.error(f"not a relocatable ELF object for {registers.NAME}")
        if entry_size != SECTION.size or not 0 < count < SHN_LORESERVE:
            raise self.error(f"{count} section headers of {entry_size} bytes")
        if table + count * SECTION.size > len(self.data):
            raise self.error("section headers behind the end of the file")
        if not 0 < names < count:
            raise self.error(f"no section {names} for names of sections")
        headers = list(SECTION.iter_unpack(self.data[table : table + count * SECTION.size]))
        for number, header in enumerate(headers):
            _name, kind, _flags, _address, offset, size, _link, _info, alignment, entry_size = header
            if kind != SHT_NOBITS and offset + size > len(self.data):
                raise self.error(f"section {number} behind the end of the file")
            if alignment & (alignment - 1) or alignment > MAX_ALIGNMENT:
                raise self.error(f"section {number} wants alignment {alignment}")
            expected = {SHT_SYMTAB: SYMBOL.size, SHT_RELA: RELOCATION.size}.get(kind)
            if expected is not None and (entry_size != expected or size % expected):
                raise self.error(f"section {number} has {size} bytes in entries of {entry_size}")
        if headers[names][1] != SHT_STRTAB:
            raise self.error("names of sections aren't strings")
        offset, size = headers[names][4:6]
        strings = bytes(self.data[offset : offset + size])
        for name, kind, flags, _address, offset, size, link, info, alignment, _entry_size in headers:
            self.sections.append(
                Section(self._string(strings, name), kind, flags, offset, size, link, info, alignment or 1)
            )

    def _read_symbols(self) -> None:
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if len(tables) != 1:
            raise self.error(f"{len(tables)} symbol tables")
        self.symbols = self.content(tables[0])
        link = tables[0].link
        if link >= len(self.sections) or self.sections[link].type != SHT_STRTAB:
            raise self.error("names of symbols aren't strings")
        self._symbol_names = bytes(self.content(self.sections[link]))

    def _find_relocations(self) -> None:
        for number, section in enumerate(self.sections):
            if section.type == SHT_REL:
                raise self.error(f"{section.name}: relocations without addends")
            if section.type != SHT_RELA:
                continue
            if section.info >= len(self.sections) or section.info in self.relocations:
                raise self.error(f"{section.name}: relocations for section {section.info}")
            if section.link >= len(self.sections) or self.sections[section.link].type != SHT_SYMTAB:
                raise self.error(f"{section.name}: relocations without symbols")
            self.relocations[section.info] = number


class ImageSection(NamedTuple):
    """A section of an image: at `address` in memory, or 0; `content` None: the bytes there, `size` many."""

    name: str
    flags: int
    address: int
    size: int
    content: bytes | None


class ImageSymbol(NamedTuple):
    """A function of an image, `size` bytes at `address`, in section `section` of those given (from 0)."""

    name: str
    address: int
    size: int
    section: int


def write_image(sections: Sequence[ImageSection], functions: Sequence[ImageSymbol]) -> bytes:
    """An ELF file that describes code in memory: what a debugger reads to know functions, unwinding and lines."""
    strings = bytearray(b"\0")

    def intern(name: str) -> int:
        strings.extend(name.encode("utf-8", "surrogateescape") + b"\0")
        return len(strings) - len(name.encode("utf-8", "surrogateescape")) - 1

    body = bytearray(HEADER.size)
    headers = [SECTION.pack(*[0] * 10)]

    def add(
        name: str, kind: int, flags: int, address: int, content: bytes | None, size: int, alignment: int = 1,
        link: int = 0, info: int = 0, entry_size: int = 0,
    ) -> None:  # fmt: skip
        body.extend(bytes(-len(body) % 16))
        headers.append(
            SECTION.pack(intern(name), kind, flags, address, len(body), size, link, info, alignment, entry_size)
        )
        body.extend(content or b"")

    for section in sections:
        kind = SHT_NOBITS if section.content is None else SHT_PROGBITS
        add(section.name, kind, section.flags, section.address, section.content, section.size)
    symbols = bytearray(SYMBOL.size)
    for function in functions:
        symbols += SYMBOL.pack(
            intern(function.name),
            STB_GLOBAL << 4 | STT_FUNC,
            0,
            function.section + 1,
            function.address,
            function.size,
        )
    last = len(headers) + 1
    add(".symtab", SHT_SYMTAB, 0, 0, bytes(symbols), len(symbols), 8, link=last, info=1, entry_size=SYMBOL.size)
    # Its own name is in it, so it is added once to know its length and then written.
    name = intern(".strtab")
    body.extend(bytes(-len(body) % 16))
    headers.append(SECTION.pack(name, SHT_STRTAB, 0, 0, len(body), len(strings), 0, 0, 1, 0))
    body.extend(strings)
    body.extend(bytes(-len(body) % 16))
    HEADER.pack_into(
        body, 0, b"\x7fELF", 2, 1, 1, 0, ET_EXEC, relocations.MACHINE, 1, 0, 0, len(body), 0, HEADER.size, 0, 0,
        SECTION.size, len(headers), last,
    )  # fmt: skip
    return bytes(body) + b"".join(headers)
