"""Loading compiled objects into memory: a linker and loader of our own, so cached code runs without LLVM.

`load` takes the relocatable objects of one module, which may refer to each other's global symbols. It puts all sections
that belong in memory into one mapping, applies the relocations, and only then makes code executable: no page is ever
writable and executable. In the mapping, from its start, each beginning a page:

* code of all objects, then stubs for calls to functions of the process that are further away than 2 GiB;
* read-only data: constants, tables with relocations, unwind tables (``.eh_frame``), the global offset table;
* data, and zeroed data.

The loader supports what LLVM emits in the small code model (`wasmloom.target.relocations`), preferably
position-independent. Calls between functions of one object need no relocation when these are ``dso_local``, and then
load faster.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wasmloom.compiler import elf
from wasmloom.compiler.elf import ElfObject, ObjectError, Section
from wasmloom.compiler.lines import INLINED, LineTable
from wasmloom.runtime.codememory import CodeMemory
from wasmloom.target import code, relocations
from wasmloom.target.relocation import Goal, Relocation

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Function", "LoadedCode", "Loader", "ObjectError", "load", "undefined"]

PAGE = 4096
#: Bytes of all objects together, so everything is near everything.
MAX_SIZE = code.NEAR - (1 << 20)

#: Regions of the mapping, in order.
CODE, CONSTANTS, DATA = range(3)

SLOT = struct.Struct("<Q")

_SLOT_RELOCATIONS = frozenset(kind for kind, each in relocations.KINDS.items() if each.goal == Goal.SLOT)
_WORD = 0xFFFFFFFFFFFFFFFF


class Function(NamedTuple):
    """A function in memory: `size` bytes from `address`."""

    address: int
    size: int
    name: str


class LoadedCode:
    """Code in memory, made by `load`. All addresses are absolute.

    Its `memory` is freed with the last reference to it; see there for who holds it.
    """

    def __init__(
        self,
        memory: CodeMemory,
        text_ranges: Sequence[tuple[int, int, int]],
        stubs: tuple[int, int],
        code_end: int,
        symbols: Mapping[str, int],
        sizes: Mapping[str, int],
        functions: list[Function] | None,
        unwind_tables: Sequence[tuple[int, int, int]],
        debug: Sequence[Mapping[str, bytes]],
    ) -> None:
        self.memory = memory
        #: Where the mapping starts, and with it the code; how many bytes it has.
        self.base: int = memory.address
        self.size: int = memory.size
        #: Code of the objects, sorted: start, end, number of the object.
        self.text_ranges = text_ranges
        #: Start and end of the stubs through which calls of far functions go.
        self.stubs = stubs
        #: Where executable pages end.
        self.code_end = code_end
        #: Every global symbol that the objects define, and its size in bytes as the object gives it.
        self.symbols = symbols
        self.sizes = sizes
        #: Each ``.eh_frame``: address, size, number of the object. A terminating zero word follows it.
        self.unwind_tables = unwind_tables
        #: For each object, name → content of its debug sections, relocated.
        self.debug = debug
        self._functions: list[Function] | None = functions
        self._starts: array[int] | None = None
        self._line_tables: dict[int, LineTable] = {}
        #: What a debugger has been told about it, until this goes.
        self.described: list[object] = []

    @property
    def functions(self) -> list[Function]:
        """All functions, local ones included, sorted by address."""
        if self._functions is None:
            self._functions = self.read_functions()
        if self._starts is None:
            self._functions.sort()
            self._starts = array("Q", [function.address for function in self._functions])
        return self._functions

    def read_functions(self) -> list[Function]:
        """All functions in any order, when they are first asked for and haven't been given."""
        return []

    def addresses(self, kind: str, count: int) -> list[int]:
        """Those of the symbols ``kind.0``, ``kind.1``, …; 0 where there is none."""
        get = self.symbols.get
        return [get(f"{kind}.{number}", 0) for number in range(count)]

    def contains(self, address: int) -> bool:
        """Whether `address` is in executable pages of this code."""
        return self.base <= address < self.code_end

    def function_at(self, address: int) -> Function | None:
        """The function that has the instruction at `address`. For a return address ask for the byte before it."""
        functions = self.functions
        if self._starts is None:
            return None
        position = bisect_right(self._starts, address) - 1
        if position < 0 or address >= functions[position].address + functions[position].size:
            return None
        return functions[position]

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The name of the function at `address` and the offset in it."""
        function = self.function_at(address)
        return None if function is None else (function.name, address - function.address)

    def offset_at(self, address: int, start: int | None = None) -> int | None:
        """The offset in the Wasm module of what the instruction at `address` comes from; None: from nothing in it.

        See `LineTable.offset_at`. The first question about an object reads its line table. Raises `ObjectError` when
        that is damaged.
        """
        number = self.object_at(address)
        return None if number is None else self.line_table(number).offset_at(address, start)

    def access_at(self, address: int) -> int | None:
        """The offset in the Wasm module of the access to guest memory at `address`. See `LineTable.access_at`.

        Raises `ObjectError` when the line table is damaged.
        """
        number, function = self.object_at(address), self.function_at(address)
        if number is None or function is None:
            return None
        return self.line_table(number).access_at(address, function.address, function.address + function.size)

    def chain_at(self, address: int, function: Function, fault: bool) -> list[tuple[int | None, int]]:
        """What the instruction at `address`, of `function`, is in. See `LineTable.chain_at`.

        Raises `ObjectError` when the line table is damaged.
        """
        number = self.object_at(address)
        if number is None:
            return []
        return self.line_table(number).chain_at(address, function.address, function.address + function.size, fault)

    def object_at(self, address: int) -> int | None:
        """The number of the object that has code at `address`."""
        position = bisect_right(self.text_ranges, address, key=lambda text_range: text_range[0]) - 1
        if position < 0 or address >= self.text_ranges[position][1]:
            return None
        return self.text_ranges[position][2]

    def line_table(self, number: int) -> LineTable:
        """The line table of object `number`."""
        table = self._line_tables.get(number)
        if table is None:
            debug = self.debug[number]
            table = LineTable.parse(debug.get(".debug_line", b""), debug.get(INLINED, b""))
            self._line_tables[number] = table
        return table

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of the mapping from `address`. Raises `ValueError`."""
        content: bytes = self.memory.read(address - self.base, size)
        return content


def load(objects: Sequence[bytes], externals: Mapping[str, int]) -> LoadedCode:
    """Load `objects`, which refer to each other and to `externals` (symbol → absolute address) by name.

    Raises `ObjectError` when an object is damaged, needs a symbol that doesn't exist, uses a relocation that isn't
    supported or that doesn't reach, or when the system gives no (executable) memory.
    """
    return Loader(objects, externals).load()


def undefined(objects: Sequence[bytes]) -> set[str]:
    """The symbols that `objects` refer to and none of them defines. Raises `ObjectError`."""
    known: set[str] = set()
    wanted: set[str] = set()
    for number, data in enumerate(objects):
        one = elf.ElfObject(data, number)
        for name, info, _, home, _, _ in elf.SYMBOL.iter_unpack(one.symbols):
            if home == elf.SHN_UNDEF:
                wanted.add(one.symbol_name(name))
            elif info >> 4 != elf.STB_LOCAL:
                known.add(one.symbol_name(name))
    return wanted.difference(known, ("",))


class Part:
    """The loader's view of one object."""

    def __init__(self, elf_object: ElfObject) -> None:
        self.elf = elf_object
        #: By number of the section: its place in the mapping, or -1, first from the region's start, then absolute.
        self.places = [-1] * len(elf_object.sections)
        #: By number of the symbol: its address. Symbols of sections outside of the mapping count from their section.
        self.addresses: list[int] = []
        #: By number of the section: the different `info` fields of its relocations.
        self.kinds: dict[int, set[int]] = {}


def _region_of(section: Section) -> int:
    if section.flags & elf.SHF_EXECINSTR:
        return CODE
    if section.flags & elf.SHF_WRITE and not section.name.startswith(".data.rel.ro"):
        return DATA
    return CONSTANTS


class Loader:
    """Puts objects together for an address; see `load`."""

    def __init__(self, objects: Sequence[bytes], externals: Mapping[str, int]) -> None:
        self.parts = [Part(ElfObject(data, number)) for number, data in enumerate(objects)]
        self.externals = externals
        self.symbols: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.weak: set[str] = set()
        self.functions: list[Function] = []
        self.unwind_tables: list[tuple[int, int, int]] = []
        #: Where stubs and the global offset table are, first from their region's start, then absolute; and for how many
        #: stubs there is room.
        self.stubs_at = self.table_at = 0
        self.stub_limit = 0
        self.stub_of: dict[int, int] = {}
        self.slot_of: dict[int, int] = {}

    def load(self) -> LoadedCode:
        """See the function `load`."""
        ends = self.lay_out()
        size = ends[DATA]
        try:
            memory = CodeMemory(max(size, PAGE))
        except OSError as error:
            raise ObjectError(f"no memory for {size} bytes of compiled code: {error}") from None
        self.link(memory, memory.address, ends)
        debug = [self.debug_sections(part) for part in self.parts]
        protect(memory, ends)
        return LoadedCode(
            memory,
            self.text_ranges(),
            self.stubs(),
            self.base + ends[CODE],
            self.symbols,
            self.sizes,
            self.functions,
            self.unwind_tables,
            debug,
        )

    def link(self, buffer: Buffer, base: int, ends: Sequence[int]) -> None:
        """Write everything into a buffer, as it is when that lies at `base`."""
        self.memory = buffer
        self.base = base
        self.end = base + ends[DATA]
        self._place(ends)
        undefined = [self._read_symbols(part) for part in self.parts]
        for part, names in zip(self.parts, undefined, strict=True):
            self._resolve(part, names)
        for part in self.parts:
            self._fill(part)

    def text_ranges(self) -> list[tuple[int, int, int]]:
        """See `LoadedCode.text_ranges`."""
        return sorted(
            (place, place + section.size, number)
            for number, part in enumerate(self.parts)
            for place, section in zip(part.places, part.elf.sections, strict=True)
            if place >= 0 and section.size and _region_of(section) == CODE
        )

    def stubs(self) -> tuple[int, int]:
        """See `LoadedCode.stubs`."""
        return self.stubs_at, self.stubs_at + len(self.stub_of) * code.FAR_JUMP_SIZE

    def lay_out(self) -> list[int]:
        """Give every section its place from its region's start, and say where regions end from the mapping's start."""
        sizes = [0, 0, 0]
        slots = 0
        for part in self.parts:
            for number, section in enumerate(part.elf.sections):
                if not section.flags & elf.SHF_ALLOC:
                    continue
                if section.flags & (elf.SHF_TLS | elf.SHF_COMPRESSED):
                    raise part.elf.error(f"section {section.name}: thread-local or compressed data isn't supported")
                region = _region_of(section)
                place = -(-sizes[region] // section.alignment) * section.alignment
                part.places[number] = place
                # A zero word ends an unwind table.
                sizes[region] = place + section.size + (4 if section.name == ".eh_frame" else 0)
                if sum(sizes) > MAX_SIZE:
                    raise part.elf.error("more than 2 GiB of compiled code")
            for number, table in part.elf.relocations.items():
                if not self._is_loaded(part, number):
                    continue
                infos = part.elf.content(part.elf.sections[table]).cast("Q")[1::3].tolist()
                part.kinds[number] = kinds = set(infos)
                slots += sum(info & 0xFFFFFFFF in _SLOT_RELOCATIONS for info in kinds)
        self.stub_limit = self.most_stubs()
        slots += self.stub_limit  # each stub jumps through a slot
        self.stubs_at, self.table_at = (-(-sizes[region] // SLOT.size) * SLOT.size for region in (CODE, CONSTANTS))
        sizes[CODE] = self.stubs_at + self.stub_limit * code.FAR_JUMP_SIZE
        sizes[CONSTANTS] = self.table_at + slots * SLOT.size
        ends = []
        end = 0
        for size in sizes:
            end += -(-size // PAGE) * PAGE
            ends.append(end)
        if end > MAX_SIZE:
            raise ObjectError("more than 2 GiB of compiled code")
        return ends

    def most_stubs(self) -> int:
        """How many stubs there may be."""
        homes = [part.elf.symbols.cast("H")[3::12].tolist() for part in self.parts]
        return sum(one.count(elf.SHN_UNDEF) + one.count(elf.SHN_ABS) for one in homes)

    def note_absolute(self, part: Part, number: int, offset: int, value: int, relocation: Relocation) -> int:
        """An absolute address, `value`, goes to an offset of section `number`; returns what to write there."""
        return value

    @staticmethod
    def _is_loaded(part: Part, number: int) -> bool:
        """Whether section `number` needs its relocations: it goes into memory or is kept for debugging."""
        return part.places[number] >= 0 or part.elf.sections[number].name.startswith(".debug_")

    def _place(self, ends: Sequence[int]) -> None:
        """Turn places in regions into addresses."""
        starts = [self.base, self.base + ends[CODE], self.base + ends[CONSTANTS]]
        for part in self.parts:
            for number, section in enumerate(part.elf.sections):
                if part.places[number] >= 0:
                    part.places[number] += starts[_region_of(section)]
                    if section.name == ".eh_frame" and section.size:
                        self.unwind_tables.append((part.places[number], section.size, part.elf.number))
        self.stubs_at += starts[CODE]
        self.table_at += starts[CONSTANTS]

    def _read_symbols(self, part: Part) -> list[tuple[int, int, int]]:
        """Fill in the addresses of symbols that are defined; return the others: number, name, binding."""
        undefined = []
        places = part.places
        sections = part.elf.sections
        addresses = part.addresses
        # Per section: where it is, its size, whether it has code.
        known = [
            (max(place, 0), section.size, place >= 0 and _region_of(section) == CODE, place >= 0)
            for place, section in zip(places, sections, strict=True)
        ]
        for number, (name, info, _, home, value, size) in enumerate(elf.SYMBOL.iter_unpack(part.elf.symbols)):
            if home == elf.SHN_UNDEF:
                addresses.append(0)
                if number:
                    undefined.append((number, name, info >> 4))
                continue
            kind = info & 15
            if home == elf.SHN_ABS:
                addresses.append(value)
                continue
            if home >= len(known):
                raise part.elf.error(f"symbol {part.elf.symbol_name(name)!r} is in section {home}: not supported")
            place, limit, is_code, is_loaded = known[home]
            if value > limit or size > limit - value:
                raise part.elf.error(f"symbol {part.elf.symbol_name(name)!r} is outside of its section")
            if kind == elf.STT_TLS or kind == elf.STT_GNU_IFUNC:
                raise part.elf.error(f"symbol {part.elf.symbol_name(name)!r} has type {kind}: not supported")
            address = place + value
            addresses.append(address)
            binding = info >> 4
            if binding != elf.STB_LOCAL and is_loaded:
                text = part.elf.symbol_name(name)
                if text in self.symbols:
                    if binding == elf.STB_WEAK:
                        continue  # the first one stands
                    if text not in self.weak:
                        raise part.elf.error(f"symbol {text!r} is defined twice")
                    self.weak.discard(text)
                elif binding == elf.STB_WEAK:
                    self.weak.add(text)
                self.symbols[text] = address
                self.sizes[text] = size
            elif kind == elf.STT_FUNC:
                text = part.elf.symbol_name(name)
            if kind == elf.STT_FUNC and is_code:
                self.functions.append(Function(address, size, text))
        return undefined

    def _resolve(self, part: Part, undefined: Sequence[tuple[int, int, int]]) -> None:
        """Fill in the addresses of symbols that other objects or the process have."""
        for number, position, binding in undefined:
            name = part.elf.symbol_name(position)
            address = self.symbols.get(name)
            if address is None:
                address = self.externals.get(name)
            if address is None:
                if binding != elf.STB_WEAK:
                    raise part.elf.error(f"undefined symbol {name!r}")
                address = 0
            part.addresses[number] = address

    def _fill(self, part: Part) -> None:
        """Write the sections of an object and apply their relocations."""
        with memoryview(self.memory) as memory:
            for number, section in enumerate(part.elf.sections):
                place = part.places[number]
                if place < 0:
                    continue
                start = place - self.base
                with memory[start : start + section.size] as view:
                    if section.type != elf.SHT_NOBITS:
                        view[:] = part.elf.content(section)
                    self._relocate(part, number, view, place)

    def debug_sections(self, part: Part) -> dict[str, bytes]:
        """Debug sections with relocations applied; references between them count from the section's start."""
        found = {}
        for number, section in enumerate(part.elf.sections):
            if part.places[number] >= 0 or not section.name.startswith(".debug_"):
                continue
            if section.flags & elf.SHF_COMPRESSED:
                raise part.elf.error(f"section {section.name}: compressed data isn't supported")
            content = bytearray(part.elf.content(section))
            with memoryview(content) as view:
                self._relocate(part, number, view, 0)
            found[section.name] = bytes(content)
        return found

    def _relocate(self, part: Part, number: int, view: memoryview, place: int) -> None:
        """Apply all relocations for section `number`, whose bytes are `view` and which is at `place` in memory."""
        table = part.elf.relocations.get(number)
        if table is None:
            return
        # Most relocations are displacements: for them, where each kind points as seen from the section's start.
        near: dict[int, int] = {}
        # The others: the same, and what they are.
        other: dict[int, tuple[int, Relocation]] = {}
        for info in part.kinds[number]:
            symbol, kind = info >> 32, info & 0xFFFFFFFF
            if symbol >= len(part.addresses):
                raise part.elf.error(f"relocation for symbol {symbol} of {len(part.addresses)}")
            address = part.addresses[symbol]
            if kind == relocations.NONE:
                continue
            relocation = relocations.KINDS.get(kind)
            if relocation is None:
                raise part.elf.error(f"relocation type {kind} isn't supported")
            if relocation.goal == Goal.CALL:
                address = self._call_target(address)
            elif relocation.goal == Goal.SLOT:
                address = self._slot(address)
            if relocation.relative:
                address -= place
            if relocation.relative and relocation.form is relocations.DISPLACEMENT:
                near[info] = address
            else:
                other[info] = (address, relocation)
        write = relocations.DISPLACEMENT.pack_into
        target: int | None
        offset = info = 0
        try:
            for offset, info, addend in elf.RELOCATION.iter_unpack(part.elf.content(part.elf.sections[table])):
                target = near.get(info)
                if target is not None:
                    write(view, offset, target + addend - offset)
                elif info in other:
                    target, relocation = other[info]
                    target += addend
                    if relocation.relative:
                        target -= offset
                    else:
                        target = self.note_absolute(part, number, offset, target, relocation)
                    relocation.form.pack_into(view, offset, target & relocation.mask)
        except (struct.error, IndexError):
            name = relocations.KINDS[info & 0xFFFFFFFF].name
            section = part.elf.sections[number].name
            raise part.elf.error(
                f"relocation {name} at 0x{offset:x} of section {section} is outside of it or doesn't reach its target"
            ) from None

    def _call_target(self, address: int) -> int:
        """Where a call of the function at `address` goes: there or, when that is too far, to a stub that jumps."""
        if self.end - code.NEAR <= address < self.base + code.NEAR:
            return address
        stub = self.stub_of.get(address)
        if stub is None:
            if len(self.stub_of) == self.stub_limit:
                raise ObjectError("compiled code calls what isn't code")
            stub = self.stubs_at + len(self.stub_of) * code.FAR_JUMP_SIZE
            self.stub_of[address] = stub
            code.write_far_jump(self.memory, stub - self.base, self._slot(address) - stub)
        return stub

    def _slot(self, address: int) -> int:
        """The slot of the global offset table that has `address`."""
        slot = self.slot_of.get(address)
        if slot is None:
            slot = self.table_at + len(self.slot_of) * SLOT.size
            self.slot_of[address] = slot
            SLOT.pack_into(self.memory, slot - self.base, address & _WORD)
        return slot


def protect(memory: CodeMemory, ends: Sequence[int]) -> None:
    """Make code executable, and constants readable. Raises `ObjectError`."""
    try:
        if ends[CODE]:
            memory.make_executable(ends[CODE])
        if ends[CONSTANTS] > ends[CODE]:
            memory.make_readable(ends[CODE], ends[CONSTANTS] - ends[CODE])
    except OSError as error:
        raise ObjectError(f"the system refuses executable memory: {error.strerror}") from None
