"""From the address of an instruction to the byte offset in the Wasm module: reading line tables.

The compiler gives every instruction a debug location whose *line number is the offset in the module* of the Wasm
instruction that it comes from; there is one file. LLVM then keeps the table through optimisation and writes it as a
line number program (DWARF 5, section 6.2; version 4 differs only in the header), which is decoded here.

The decoder is our own: pyelftools, which decodes it as well, takes more than 20 times as long for it and would be a
dependency for this alone. Only what determines address, line and column is interpreted; the rest (files, flags) is
skipped as the format says.

There are two tables in one, told apart by the *column*. Rows in the columns `MARK` and `END` say which accesses to
guest memory lie between them. Those in column 0 are written by LLVM, for calls and traps, and for their arguments,
which it may set up between a mark and its access; it leaves out a row that is the same as that before, whatever marks
are between. So each question has to leave out the other's rows.

A function may stand in the place of a call, without one (see `wasmloom.compiler.inlining`). The column's higher bits
then number the *site*, and a table beside the line table (`INLINED`) says of each site where the call is, and of what.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from wasmloom.compiler.elf import ObjectError
from wasmloom.target import code, registers

# Opcodes of line number programs (DWARF 5, table 7.25 and 7.26).
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_COLUMN = 1, 2, 3, 5
_CONST_ADD_PC, _FIXED_ADVANCE_PC = 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2
#: How many LEB128 arguments the standard opcodes have that change neither address nor line nor column.
_SKIPPED = {4: 1, 6: 0, 7: 0, 10: 0, 11: 0, 12: 1}

#: The columns of marks (see `wasmloom.compiler.builder`): here begins what a line accesses, here it ends. Calls and
#: traps have column 0.
MARK, END = 1, 2
#: A column is one of these, and this many times the number of the site; 0: what isn't inlined.
SITE_STEP = 4
#: The section with a row for each site, from 1 on: the site that the call is in, the call's offset in the module, and
#: the function that stands there.
INLINED = ".debug_inlined"
_SITE = struct.Struct("<III")
#: Sites that one object may have: what fits into a column.
MOST_SITES = 0xFFFF // SITE_STEP

_ADDRESS_MASK = 0xFFFFFFFFFFFFFFFF
_LINE_MASK = 0xFFFFFFFF


class LineTable:
    """Which offset in the module the instructions of one object come from."""

    def __init__(
        self,
        addresses: array[int],
        lines: array[int],
        columns: array[int],
        sites: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        # Sorted addresses; a line counts from its address to the next one. Line 0: comes from nothing in the module.
        # Of two rows at one address the last counts, among those of a column.
        self._addresses = addresses
        self._lines = lines
        self._columns = columns
        self._sites = sites

    @classmethod
    def parse(cls, section: bytes, inlined: bytes = b"") -> LineTable:
        """Read a ``.debug_line`` section whose relocations have been applied, and an `INLINED` one; empty ones make an
        empty table.

        Raises `ObjectError` when it is damaged or of an unknown version.
        """
        sequences: list[_Rows] = []
        position = 0
        try:
            while position < len(section):
                position = _read_unit(section, position, sequences)
        except IndexError:
            raise ObjectError("damaged line table: it ends too early") from None
        sequences.sort(key=lambda sequence: sequence[0][0])
        addresses, lines, columns = array("Q"), array("I"), array("H")
        for some_addresses, some_lines, some_columns in sequences:
            if addresses and some_addresses[0] < addresses[-1]:
                raise ObjectError("damaged line table: sequences overlap")
            addresses += some_addresses
            lines += some_lines
            columns += some_columns
        if len(inlined) % _SITE.size:
            raise ObjectError("damaged table of inlined calls: it ends too early")
        sites = list(_SITE.iter_unpack(inlined))
        if any(parent > number for number, (parent, _, _) in enumerate(sites)):
            raise ObjectError("damaged table of inlined calls: one is in a later one")
        if max(columns, default=0) // SITE_STEP > len(sites):
            raise ObjectError("damaged line table: a call that isn't inlined")
        return cls(addresses, lines, columns, sites)

    def offset_at(self, address: int, start: int | None = None) -> int | None:
        """The offset in the module of the instruction at `address`, or None.

        For a return address ask for the byte before it, which belongs to the call. With `start`, where the function
        begins: that of a call there, and nothing else.
        """
        position = self._call_at(address, start)
        return (self._lines[position] or None) if position >= 0 else None

    def _call_at(self, address: int, start: int | None) -> int:
        """The row that `offset_at` asks for; -1 if there is none."""
        position = bisect_right(self._addresses, address) - 1
        if start is not None:
            while position >= 0 and self._addresses[position] >= start:
                if self._lines[position] and not self._columns[position] % SITE_STEP:
                    return position
                position -= 1
            return -1
        return position

    def chain_at(self, address: int, start: int, end: int, fault: bool) -> list[tuple[int | None, int]]:
        """What the instruction at `address` is in, in the function from `start` to `end`: functions and offsets in the
        module, from the innermost one that stands in the place of a call to the function itself, which is None.

        `fault`: it is an access to guest memory (see `access_at`), not a call (see `offset_at`).
        """
        position = self._access_at(address, start, end) if fault else self._call_at(address, start)
        if position < 0:
            return []
        chain: list[tuple[int | None, int]] = []
        offset, site = self._lines[position], self._columns[position] // SITE_STEP
        while site:
            parent, call, function = self._sites[site - 1]
            chain.append((function, offset))
            offset, site = call, parent
        return [*chain, (None, offset)]

    def place_near(self, address: int, start: int) -> tuple[int | None, int] | None:
        """The function (see `chain_at`) and the offset in the module of the last row before `address` that has one, in
        the function from `start` on: what runs there is near it."""
        position = bisect_right(self._addresses, address) - 1
        while position >= 0 and self._addresses[position] >= start:
            if self._lines[position]:
                site = self._columns[position] // SITE_STEP
                return self._sites[site - 1][2] if site else None, self._lines[position]
            position -= 1
        return None

    def _order(self, position: int) -> tuple[int, ...]:
        """Sorts rows as the module has them: the offsets of the calls that a row is in, and its own."""
        order, site = [self._lines[position]], self._columns[position] // SITE_STEP
        while site:
            site, call, _ = self._sites[site - 1]
            order.append(call)
        return tuple(reversed(order))

    def access_at(self, address: int, start: int, end: int) -> int | None:
        """The offset in the module of the access to guest memory at `address`, in the function from `start` to `end`.

        That is what the last mark before it says, in the same block. Where none is, LLVM has divided the block: then
        the next mark is in the same block, and ends the access.
        """
        position = self._access_at(address, start, end)
        return self._lines[position] if position >= 0 else None

    def _access_at(self, address: int, start: int, end: int) -> int:
        """The row that `access_at` asks for; -1 if there is none."""
        position = here = bisect_right(self._addresses, address) - 1
        while position >= 0 and self._addresses[position] >= start:
            if self._columns[position] % SITE_STEP == MARK and self._lines[position]:
                return position
            if self._columns[position] % SITE_STEP == END or not self._lines[position]:  # the block begins behind it
                break
            position -= 1
        last = bisect_left(self._addresses, end)
        for position in range(here + 1, last):
            if self._columns[position] % SITE_STEP == END:
                return position
            if self._columns[position] % SITE_STEP == MARK:
                # The one before it in its block, where they are in the module's order.
                this, first = self._order(position), bisect_left(self._addresses, start)
                marks = [each for each in range(first, last) if self._columns[each] % SITE_STEP == MARK]
                before = [(order, each) for each in marks if (order := self._order(each)) < this]
                return max(before, default=((), -1))[1]
        return -1

    def rows(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All (address, offset) where the offset changes within [start, end)."""
        before = 0
        last = bisect_left(self._addresses, end)
        for position in range(bisect_left(self._addresses, start), last):
            address, line = self._addresses[position], self._lines[position]
            if position + 1 < last and self._addresses[position + 1] == address:
                continue
            if line and line != before:
                yield address, line
            before = line

    def inlined(self, start: int, end: int) -> list[tuple[int, int, int, int, list[tuple[int, int]]]]:
        """What stands in the place of calls in the function from `start` to `end`, each after what it is in: its site,
        that which the call is in (0: the function itself), the call's offset, the function, and where its code is, what
        is in it included, as pieces from and to addresses.
        """
        pieces: dict[int, list[tuple[int, int]]] = {}
        last = bisect_left(self._addresses, end)
        for position in range(bisect_left(self._addresses, start), last):
            site = self._columns[position] // SITE_STEP if self._lines[position] else 0
            begins = self._addresses[position]
            ends = self._addresses[position + 1] if position + 1 < last else end
            while site and begins < ends:
                known = pieces.setdefault(site, [])
                if known and known[-1][1] == begins:
                    known[-1] = known[-1][0], ends
                else:
                    known.append((begins, ends))
                site = self._sites[site - 1][0]
        # A site has a higher number than that which it is in.
        return [(site, *self._sites[site - 1], pieces[site]) for site in sorted(pieces)]

    def __len__(self) -> int:
        return len(self._addresses)


#: Addresses, lines and columns of a sequence, which is one piece of code.
_Rows: TypeAlias = "tuple[array[int], array[int], array[int]]"


def _number(data: bytes, position: int, size: int) -> int:
    """An unsigned number of `size` bytes; raises `IndexError` when it isn't all there."""
    if position + size > len(data):
        raise IndexError
    return int.from_bytes(data[position : position + size], "little")


def _read_unit(data: bytes, position: int, sequences: list[_Rows]) -> int:
    """Read the unit at `position`, append its sequences, return where the next one starts."""
    width = 4
    length = _number(data, position, 4)
    position += 4
    if length == 0xFFFFFFFF:  # the 64-bit format
        width = 8
        length = _number(data, position, 8)
        position += 8
    end = position + length
    if end > len(data):
        raise IndexError
    version = _number(data, position, 2)
    if version not in (4, 5):
        raise ObjectError(f"line table of version {version}")
    position += 2 if version == 4 else 4  # version 5 tells the sizes of addresses and segment selectors
    header_length = _number(data, position, width)
    position += width
    program = position + header_length
    instruction_length, operations = data[position], data[position + 1]
    line_base = int.from_bytes(data[position + 3 : position + 4], "little", signed=True)
    line_range, opcode_base = data[position + 4], data[position + 5]
    if instruction_length != code.INSTRUCTION_UNIT or operations != 1 or line_range == 0 or opcode_base == 0:
        raise ObjectError(f"damaged line table: not one for {registers.NAME}")
    standard = {
        opcode: data[position + 5 + opcode] if opcode > 12 else _SKIPPED.get(opcode, 0)
        for opcode in range(1, opcode_base)
    }
    if program > end:
        raise IndexError
    _run_program(data[:end], program, line_base, line_range, opcode_base, standard, sequences)
    return end


def _run_program(
    data: bytes,
    position: int,
    line_base: int,
    line_range: int,
    opcode_base: int,
    standard: dict[int, int],
    sequences: list[_Rows],
) -> None:
    """Run the line number program from `position` to the end of `data` and append its sequences.

    This runs once for each opcode, a few for each row, so the frequent ones come first and call nothing.
    """
    # Special opcodes advance both address and line.
    special = [divmod(opcode - opcode_base, line_range) for opcode in range(256)]
    advances = [advance for advance, _ in special]
    deltas = [line_base + delta for _, delta in special]
    end = len(data)
    address, line, column = 0, 1, 0
    addresses, lines, columns = array("Q"), array("I"), array("H")
    last = -1  # line and column of the last row kept, as one number
    while position < end:
        opcode = data[position]
        position += 1
        if opcode >= opcode_base:
            address += advances[opcode]
            line += deltas[opcode]
        elif opcode == _ADVANCE_LINE:
            value = data[position]
            position += 1
            if value < 0x80:
                line += value if value < 0x40 else value - 0x80
            else:
                value &= 0x7F
                shift = 7
                while True:
                    byte = data[position]
                    position += 1
                    value |= (byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80:
                        break
                line += value - (1 << shift) if byte & 0x40 else value
            continue
        elif opcode == _SET_COLUMN:
            value = data[position]
            position += 1
            if value >= 0x80:
                position, value = _unsigned(data, position - 1)
            column = value & 0xFFFF
            continue
        elif opcode == _ADVANCE_PC:
            shift = 0
            while True:
                byte = data[position]
                position += 1
                address += (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            continue
        elif opcode == _CONST_ADD_PC:
            address += advances[255]
            continue
        elif opcode == _FIXED_ADVANCE_PC:
            address += _number(data, position, 2)
            position += 2
            continue
        elif opcode == 0:
            position, length = _unsigned(data, position)
            following = position + length
            if length == 0 or following > end:
                raise IndexError
            kind = data[position]
            if kind == _SET_ADDRESS:
                if length != 9:
                    raise ObjectError(f"damaged line table: address of {length - 1} bytes")
                address = _number(data, position + 1, 8)
                position = following
                continue
            position = following
            if kind != _END_SEQUENCE:
                continue
            if addresses:
                addresses.append(address & _ADDRESS_MASK)
                lines.append(0)
                columns.append(0)
                sequences.append((addresses, lines, columns))
                _check_order(addresses)
            address, line, column = 0, 1, 0
            addresses, lines, columns = array("Q"), array("I"), array("H")
            last = -1
            continue
        elif opcode != _COPY:
            for _ in range(standard[opcode]):
                position, _ = _unsigned(data, position)
            continue
        # A row.
        if line << 16 | column != last:
            last = line << 16 | column
            if addresses and addresses[-1] == address and not column % SITE_STEP and not columns[-1] % SITE_STEP:
                lines[-1] = line & _LINE_MASK
                columns[-1] = column
            else:
                addresses.append(address & _ADDRESS_MASK)
                lines.append(line & _LINE_MASK)
                columns.append(column)


def _check_order(addresses: array[int]) -> None:
    """Addresses of a sequence never decrease; damaged ones would make look-ups wrong."""
    if any(map(int.__gt__, addresses, addresses[1:])):
        raise ObjectError("damaged line table: addresses decrease")


def _unsigned(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number: the position behind it and the value."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return position, value
