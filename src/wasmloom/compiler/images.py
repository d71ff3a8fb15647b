"""Images: compiled code of a module, all or some of it, as one block that is mapped from the disk cache.

`link` puts objects together as the loader does, but for any address: code refers to code and constants by distance.
What depends on the process is in a few words, which `Image.load` fills in: addresses of the runtime, in the global
offset table, and *fix-ups*, addresses within the image. So the other pages are the file's: processes share them, and
those that nothing touches are never read. The file is `wasmloom.compiler.cache`'s, which says what is trusted about it.

An image has two blobs of an entry of the cache, which may have several images. The one is mapped as a whole: code,
constants and data, as in the loader's mapping, and behind them, from another page on, tables that are only read when
somebody asks (addresses of functions by number, names, line tables). It is of whole pages. The other one is JSON:

``ends``       where the three regions end, from the mapping's start
``stubs``      where the stubs begin and end
``externals``  name → offset of the word that takes its address
``fixups``     offsets of words that take an address within the image; the distance from its start is there already
``symbols``    name → offset, for symbols other than those of numbered functions (`NUMBERED`)
``tables``     name → offset and bytes of each table

Words of debug sections have fix-ups, too, applied when a section is read.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from wasmloom.compiler.elf import ObjectError
from wasmloom.compiler.objects import CODE, DATA, PAGE, SLOT, Function, LoadedCode, Loader, Part, protect
from wasmloom.runtime.codememory import CodeMemory

if TYPE_CHECKING:
    from wasmloom.compiler.cache import Entry
    from wasmloom.target.relocation import Relocation

#: Where an image is linked, as it were, and where the addresses of externals begin: no distance reaches from one to the
#: other, and no number in an object is as large.
_BASE, _EXTERNALS = 1 << 40, 1 << 60
#: Symbols of numbered functions, whose addresses are tables.
NUMBERED = ("wf", "wt")


def link(objects: Sequence[bytes], externals: Sequence[str]) -> list[bytes | memoryview]:
    """The blobs of an image of `objects`, which refer to each other and to `externals` by name.

    Raises `ObjectError` as `wasmloom.compiler.objects.load` does, and when code isn't independent of its address.
    """
    return _Linker(objects, externals).blobs()


class _Linker(Loader):
    def __init__(self, objects: Sequence[bytes], externals: Sequence[str]) -> None:
        super().__init__(objects, {name: _EXTERNALS + number * PAGE for number, name in enumerate(externals)})
        self.fixups: list[int] = []
        #: The same in debug sections, by object and section.
        self.debug_fixups: dict[tuple[int, int], list[int]] = {}

    def most_stubs(self) -> int:
        """One for each external."""
        return len(self.externals)

    def note_absolute(self, part: Part, number: int, offset: int, value: int, relocation: Relocation) -> int:
        """Note a fix-up."""
        if value < _BASE:
            return value  # a distance in a debug section
        if not self.base <= value <= self.end or relocation.form.size != SLOT.size:
            raise part.elf.error(f"{relocation.name} makes code depend on its address")
        if part.places[number] < 0:
            self.debug_fixups.setdefault((part.elf.number, number), []).append(offset)
        else:
            self.fixups.append(part.places[number] + offset - self.base)
        return value - self.base

    def blobs(self) -> list[bytes | memoryview]:
        """See `link`."""
        ends = self.lay_out()
        content = bytearray(max(ends[DATA], PAGE))
        self.link(content, _BASE, ends)
        names = {address: name for name, address in self.externals.items()}
        externals = {}
        for address, slot in self.slot_of.items():
            place = slot - self.base
            if address in names:
                externals[names[address]] = place
                address = 0
            elif address:  # 0 is a weak symbol that nothing defines
                if not self.base <= address <= self.end:
                    raise ObjectError(f"compiled code refers to 0x{address:x}")
                self.fixups.append(place)
                address -= self.base
            SLOT.pack_into(content, place, address)
        tables: dict[str, tuple[int, int]] = {}
        for name, table in self._tables():
            tables[name] = len(content), len(table)
            content += table
        content += bytes(-len(content) % PAGE)
        head = {
            "ends": ends,
            "stubs": [place - self.base for place in self.stubs()],
            "externals": externals,
            "fixups": self.fixups,
            "symbols": {
                name: address - self.base
                for name, address in self.symbols.items()
                if name.partition(".")[0] not in NUMBERED
            },
            "tables": tables,
        }
        return [memoryview(content), json.dumps(head).encode()]

    def _tables(self) -> Iterator[tuple[str, bytes]]:
        base = self.base
        for kind in NUMBERED:
            found = {
                int(name[len(kind) + 1 :]): address - base
                for name, address in self.symbols.items()
                if name.startswith(kind + ".")
            }
            # One more than the distance, since 0 says that there is none.
            yield kind, _words(found.get(number, -1) + 1 for number in range(max(found, default=-1) + 1))
        functions = sorted(self.functions)
        rows = ((one.address - base, one.size, number) for number, one in enumerate(functions))
        yield "functions", _words(chain.from_iterable(rows))
        yield "names", "\0".join(one.name for one in functions).encode("utf-8", "surrogateescape")
        texts = ((start - base, end - base, number) for start, end, number in self.text_ranges())
        yield "texts", _words(chain.from_iterable(texts))
        unwind = ((start - base, size, number) for start, size, number in self.unwind_tables)
        yield "unwind", _words(chain.from_iterable(unwind))
        directory: list[dict[str, tuple[int, int, list[int]]]] = []
        sections = bytearray()
        for part in self.parts:
            numbers = {section.name: number for number, section in enumerate(part.elf.sections)}
            directory.append({})
            for name, content in self.debug_sections(part).items():
                fixups = self.debug_fixups.get((part.elf.number, numbers[name]), [])
                directory[-1][name] = (len(sections), len(content), fixups)
                sections += content
        yield "directory", json.dumps(directory).encode()
        yield "sections", bytes(sections)


def _words(numbers: Iterable[int]) -> bytes:
    return array("Q", numbers).tobytes()


class Image:
    """An image in the cache that hasn't been loaded yet: an entry, and the numbers of its blobs in there.

    The file is closed when the last image in it goes.
    """

    def __init__(self, entry: Entry, mapped: int = 0, head: int = 1) -> None:
        self.entry = entry
        self._mapped = mapped
        self._head = head

    def load(self, externals: Mapping[str, int]) -> LoadedCode:
        """Map it. Raises `ObjectError`."""
        try:
            entry = self.entry
            head = json.loads(entry.read(self._head))
            ends: list[int] = head["ends"]
            position, size = entry.blobs[self._mapped]
            memory = CodeMemory(size, entry.file.fileno(), position, ends[DATA])
            _fill(memory, head, externals)
            try:
                protect(memory, ends)
            except ObjectError:  # the file system may be one from which nothing can be executed
                memory = CodeMemory(size, counted=ends[DATA])
                memoryview(memory)[:] = entry.read(self._mapped)
                _fill(memory, head, externals)
                protect(memory, ends)
            memory.make_readable(ends[DATA], size - ends[DATA])
            return _LoadedImage(memory, head)
        except OSError as error:
            raise ObjectError(f"no memory for cached code: {error}") from None
        except (LookupError, TypeError, ValueError, struct.error) as error:
            raise ObjectError(f"damaged image of compiled code: {error}") from None


def _fill(memory: CodeMemory, head: Mapping[str, Any], externals: Mapping[str, int]) -> None:
    """Write the words that depend on the process."""
    for name, place in head["externals"].items():
        SLOT.pack_into(memory, place, externals[name])
    for place in head["fixups"]:
        SLOT.pack_into(memory, place, SLOT.unpack_from(memory, place)[0] + memory.address)


class _LoadedImage(LoadedCode):
    """A loaded image. Large tables are read when they are asked for."""

    def __init__(self, memory: CodeMemory, head: Mapping[str, Any]) -> None:
        base: int = memory.address
        tables = _Tables(memory, head["tables"])
        super().__init__(
            memory,
            [(base + start, base + end, number) for start, end, number in tables.rows("texts", 3)],
            (base + head["stubs"][0], base + head["stubs"][1]),
            base + head["ends"][CODE],
            _Symbols(tables, {name: base + place for name, place in head["symbols"].items()}),
            {},
            None,
            [(base + start, size, number) for start, size, number in tables.rows("unwind", 3)],
            _Debug(tables),
        )
        self._tables = tables

    def addresses(self, kind: str, count: int) -> list[int]:
        """See `LoadedCode.addresses`."""
        found = self._tables.addresses(kind)[:count]
        return found + [0] * (count - len(found))

    def read_functions(self) -> list[Function]:
        """See `LoadedCode.read_functions`."""
        names = self._tables.read("names").decode("utf-8", "surrogateescape").split("\0")
        return [
            Function(self.base + start, size, names[number])
            for start, size, number in self._tables.rows("functions", 3)
        ]


class _Tables:
    """The tables of a loaded image."""

    def __init__(self, memory: CodeMemory, places: Mapping[str, Sequence[int]]) -> None:
        self.memory = memory
        self.places = places

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """A table, or some bytes of it."""
        place, all_bytes = self.places[name]
        found: bytes = self.memory.read(place + start, all_bytes if size is None else size)
        return found

    def rows(self, name: str, width: int) -> Iterator[tuple[int, ...]]:
        """A table of words in rows."""
        return zip(*[iter(array("Q", self.read(name)))] * width, strict=True)

    def addresses(self, kind: str) -> list[int]:
        """The addresses of numbered functions; 0 where there is none."""
        before = self.memory.address - 1
        return [before + place if place else 0 for place in array("Q", self.read(kind))]


class _Symbols(Mapping[str, int]):
    """The symbols of a loaded image."""

    def __init__(self, tables: _Tables, others: Mapping[str, int]) -> None:
        self._tables = tables
        self._others = others

    def __getitem__(self, name: str) -> int:
        kind, _, number = name.partition(".")
        if kind not in NUMBERED:
            return self._others[name]
        (place,) = SLOT.unpack(self._tables.read(kind, SLOT.size * int(number), SLOT.size))
        if not place or SLOT.size * int(number) >= self._tables.places[kind][1]:
            raise KeyError(name)
        found: int = self._tables.memory.address + place - 1
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        for kind in NUMBERED:
            yield from (f"{kind}.{number}" for number, found in enumerate(self._tables.addresses(kind)) if found)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Debug(Sequence[Mapping[str, bytes]]):
    """The debug sections of a loaded image's objects."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables
        self._found: list[dict[str, tuple[int, int, list[int]]]] | None = None

    @property
    def _directory(self) -> list[dict[str, tuple[int, int, list[int]]]]:
        if self._found is None:
            self._found = json.loads(self._tables.read("directory"))
        return self._found

    def __len__(self) -> int:
        return len(self._directory)

    def __getitem__(self, number: Any) -> Any:
        base = self._tables.memory.address
        sections = {}
        for name, (start, size, fixups) in self._directory[number].items():
            content = bytearray(self._tables.read("sections", start, size))
            for place in fixups:
                SLOT.pack_into(content, place, SLOT.unpack_from(content, place)[0] + base)
            sections[name] = bytes(content)
        return sections
