"""From an offset in a module to the source: files, lines, and the functions that have been inlined there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmloom.debuginfo.cursor import BadDebugInfo, Cursor
from wasmloom.debuginfo.units import Sections
from wasmloom.errors import SourceFrame
from wasmloom.messages import printable

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.debuginfo.entries import Unit
    from wasmloom.debuginfo.lines import LineTable

#: Functions within each other at one place.
_MOST_INLINED = 256
#: Places that are kept, and letters of functions' names in them.
_MOST_KEPT = 1 << 16
_MOST_LETTERS = 1 << 22
_CODE_SECTION = 10
#: Of what a module keeps.
_KEY = "debug_info"
_NO_FUNCTION = 0xFFFFFFFF
#: Custom sections that say where debug information is which the module doesn't have.
_ELSEWHERE = {"external_debug_info": "it is in another file", "sourceMappingURL": "there is a source map only"}
#: What damaged sections lead to.
_DAMAGE = (BadDebugInfo, MemoryError, OverflowError)


class DebugInfo:
    """The debug information of a module. It is read when something asks for it, unit by unit, and kept.

    `problem` says what keeps it from being read, or from being read as a whole; None: nothing that is known.
    """

    def __init__(self, data: bytes, sections: dict[str, Cursor], code: tuple[int, int, int] | None) -> None:
        """`code`: where in the `data` the contents of the code section begin, the first function, and their end."""
        self.problem: str | None = None
        self._kept: dict[int, tuple[SourceFrame, ...]] = {}
        self._letters = 0
        self._broken: set[tuple[int, str]] = set()
        self._start = 0
        self._sections = Sections(sections, 0, 0)
        if code is None:
            return
        self._start, first, end = code
        if ".debug_info" not in sections:
            for name, said in _ELSEWHERE.items():
                if name in sections:
                    self.problem = f"{said}: {printable(_name_in(sections[name]))}"
                    return
            self.problem = "the module has no DWARF"
            return
        self._sections = Sections(sections, first - self._start, end - self._start)
        try:
            self._sections.read_units()
            if not any(map(_ranges_of, self._sections.units)):
                self.problem = "it says nothing of the code that the module has; a tool may have removed that"
        except _DAMAGE as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        if self.problem is None:
            self.problem = "not enough memory" if isinstance(error, MemoryError) else printable(str(error))

    def at(self, offset: int) -> tuple[SourceFrame, ...]:
        """Where an offset in the module is in the source: the innermost of inlined functions first, last the one that
        the module has; nothing if that isn't known."""
        found = self._kept.get(offset)
        if found is None:
            found = self._look_up(offset - self._start)
            for frame in found:
                self._letters += len(frame.function or "")
            if len(self._kept) >= _MOST_KEPT or self._letters > _MOST_LETTERS:
                self._kept.clear()
                self._letters = 0
            self._kept[offset] = found
        return found

    def _look_up(self, address: int) -> tuple[SourceFrame, ...]:
        best: tuple[SourceFrame, ...] = ()
        if address < 0:
            return best
        for unit in self._sections.units:
            if _is_in(address, unit.ranges):
                found = self._look_up_in(unit, address)
                if len(found) and found[-1].function is not None:
                    return found
                best = best or found
        return best

    def _look_up_in(self, unit: Unit, address: int) -> tuple[SourceFrame, ...]:
        lines: LineTable | None = None
        if (unit.start, "lines") not in self._broken:
            try:
                lines = self._sections.lines_of(unit)
            except _DAMAGE as error:
                self._broken.add((unit.start, "lines"))
                self._note(error)
        file, line, column = (lines and lines.at(address)) or (None, 0, 0)
        frames: list[SourceFrame] = []
        if (unit.start, "functions") not in self._broken:
            try:
                functions = self._sections.functions_of(unit)
                number = functions.at(address)
                while 0 <= number < _NO_FUNCTION and len(frames) < _MOST_INLINED:
                    name = self._sections.name_of(functions.entries[number])
                    frames.append(SourceFrame(name, file, line, column))
                    file = lines.name_of(functions.files[number]) if lines else None
                    line, column = functions.lines[number], functions.columns[number]
                    number = functions.parents[number]
            except _DAMAGE as error:
                self._broken.add((unit.start, "functions"))
                self._note(error)
        if not frames and file is not None:
            frames.append(SourceFrame(None, file, line, column))
        return tuple(frames)


def _ranges_of(unit: Unit) -> list[tuple[int, int]]:
    return unit.ranges


# Without a generator: traps come here, also those of guests for which there is no memory (`tests/runtime/operations`).
def _is_in(address: int, ranges: list[tuple[int, int]]) -> bool:
    for first, end in ranges:  # noqa: SIM110
        if first <= address < end:
            return True
    return False


def debug_info(module: DecodedModule) -> DebugInfo:
    """What a module's debug information is; it is kept with the module. Reading it raises nothing."""
    found: DebugInfo | None = module.kept_for_others.get(_KEY)
    if found is None:
        sections: dict[str, Cursor] = {}
        for custom in module.custom_ranges:
            if (custom.name.startswith(".debug_") or custom.name in _ELSEWHERE) and custom.name not in sections:
                sections[custom.name] = Cursor(module.data, custom.start, custom.end, custom.name)
        found = module.kept_for_others[_KEY] = DebugInfo(module.data, sections, _code_of(module))
    return found


def _name_in(section: Cursor) -> str:
    """The name that is all that a custom section has."""
    try:
        return section.name_alone()
    except BadDebugInfo:
        return "?"


def _code_of(module: DecodedModule) -> tuple[int, int, int] | None:
    """Where the code section's contents begin, its first function, and where they end; None: there is none.

    A module that has been decoded has sections whose lengths are right.
    """
    data, at = module.data, 8
    while at < len(data):
        number = data[at]
        size, start = _uleb(data, at + 1)
        at = start + size
        if number == _CODE_SECTION:
            return start, _uleb(data, start)[1], at
    return None


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number, and what is behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
