"""The disassembler: binary modules → the text format (Core 3.0, chapter 6).

`print_module` writes one field to a line, with flat instructions. Names come from the name section; a name that
can't be an identifier (because it is empty, or taken) stands in a `(@name …)` annotation, and its index is used.
Assembling the text makes the same module again: the same sections, custom ones included, except that there is a data
count section only when an instruction needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from wasmloom.binary.decoder import DecodedModule, decode_module
from wasmloom.binary.encoder import SECTION_IDS, hint_section
from wasmloom.binary.hints import BRANCH_HINT, parse_hints
from wasmloom.binary.parts import Expr
from wasmloom.errors import CompileError
from wasmloom.spec.limits import MAX_LOCALS
from wasmloom.spec.module import (
    Code,
    CustomSection,
    Data,
    Element,
    Import,
    ImportGroup,
    ModuleSyntax,
    Names,
)
from wasmloom.spec.types import (
    EXTERN_KINDS,
    ArrayType,
    FuncType,
    GlobalType,
    MemoryType,
    StructType,
    SubType,
    TableType,
    TagType,
)
from wasmloom.text.disassembly import Disassembler
from wasmloom.text.formatting import NO_NAMES, IndexNames, TypeText, quote_bytes, quote_name

_SECTION_NAMES = {number: name for name, number in SECTION_IDS.items()}

#: Bytes of a data segment or custom section, and items of an element segment, to a line.
_BYTES_PER_LINE = 64
#: How many times larger than the binary, and this much more, texts may be: they are made in memory.
_TIMES_LARGER = 64
_ROOM = 64 << 20


def print_module(data: bytes) -> str:
    """The text of a binary module.

    Raises `CompileError` with the byte offset when `data` is malformed, and when the text would be very much larger:
    a few bytes declare thousands of locals.
    """
    lines: list[str] = []
    room = _TIMES_LARGER * len(data) + _ROOM
    for line in _Printer(decode_module(data)).lines():
        room -= len(line)
        if room < 0:
            raise CompileError(f"too large for the text format: more than {_TIMES_LARGER} times the {len(data)} bytes")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _numbered(space: IndexNames, index: int) -> str:
    """What stands after the keyword of a definition: its identifier or name, and its number in a comment."""
    return f"{space.binding(index)} (;{index};)"


class _Printer:
    """Writes one module."""

    def __init__(self, decoded: DecodedModule) -> None:
        self._decoded = decoded
        self._module: ModuleSyntax = decoded.syntax()
        # These lists are made anew whenever they are asked for.
        self._elements = decoded.elements
        self._data_segments = decoded.data_segments
        self._table_inits = decoded.table_inits
        self._global_inits = decoded.global_inits
        names = self._module.names
        if any(custom.name == "name" for custom in self._module.customs):
            # The name section is malformed and stays as it is; identifiers would make a second one.
            names = Names()
        self._names: Names = names
        self._types: list[SubType] = [sub for group in self._module.rec_groups for sub in group]
        self._imported = {kind: sum(item.kind == kind for item in self._module.imports) for kind in EXTERN_KINDS}
        self._text = TypeText(names.maps, self._counts())
        self._spaces = self._text.spaces
        self._fields = {
            index: IndexNames(names.fields.get(index, {}), len(sub.composite.fields))
            for index, sub in enumerate(self._types)
            if isinstance(sub.composite, StructType)
        }
        self._code = Disassembler(self._text, self._fields)
        #: by function: branch hints, by offset in its expression
        self._hints: dict[int, dict[int, bool]] = {}
        self._customs = self._module.customs
        self._take_hints()

    def _counts(self) -> dict[str, int]:
        """The sizes of the index spaces."""
        module = self._module
        defined = {
            "func": len(module.funcs),
            "table": len(module.tables),
            "memory": len(module.memories),
            "global": len(module.globals),
            "tag": len(module.tags),
        }
        counts = {kind: self._imported[kind] + count for kind, count in defined.items()}
        return counts | {"type": len(self._types), "elem": len(module.elements), "data": len(module.data)}

    def _take_hints(self) -> None:
        """Take branch hints out of their section, if annotations make the same section again.

        That is one as the assembler writes it, in front of the code, with hints for nothing but what can have them.
        """
        decoded, first = self._decoded, self._imported["func"]
        ranges = [custom for custom in decoded.custom_ranges if custom.name == BRANCH_HINT]
        if len(ranges) != 1 or decoded.data[ranges[0].end : ranges[0].end + 1] != bytes((SECTION_IDS["code"],)):
            return
        found = parse_hints(decoded.data, ranges[0].start, ranges[0].end)
        same = hint_section({func: list(own.items()) for func, own in found.items()})
        if same != decoded.data[ranges[0].start : ranges[0].end]:
            return
        hints: dict[int, dict[int, bool]] = {}
        for func, own in found.items():
            if not first <= func < first + len(self._module.code):
                return
            before = decoded.body_ends[func - first] - decoded.body_starts[func - first]
            before -= len(self._module.code[func - first].body)  # the locals
            hints[func] = {offset - before: likely for offset, likely in own.items()}
            self._instructions(func - first, NO_NAMES, hints[func])
            if self._code.hinted != len(own):
                return
        self._hints = hints
        self._customs = [custom for custom in self._customs if custom.name != BRANCH_HINT]

    def _instructions(self, number: int, names: IndexNames, hints: dict[int, bool]) -> list[str]:
        """The lines of a function's instructions."""
        body = self._module.code[number].body
        labels = self._names.labels.get(self._imported["func"] + number, {})
        return self._code.function(body, self._decoded.body_ends[number] - len(body), names, labels, 2, hints)

    def lines(self) -> Iterator[str]:
        """The lines of the module."""
        module = self._module
        name = self._names.module
        yield f"(module{'' if name is None else IndexNames({0: name}, 1).binding(0)}"
        for custom in self._customs:
            yield from _custom_lines(custom)
        yield from self._type_lines()
        yield from self._import_lines()
        yield from self._definition_lines()
        for export in module.exports:
            target = self._spaces[export.kind].use(export.index)
            yield f"  (export {quote_name(export.name)} ({export.kind} {target}))"
        if module.start is not None:
            yield f"  (start {self._spaces['func'].use(module.start)})"
        for index, element in enumerate(module.elements):
            yield from self._element(index, element)
        for index, code in enumerate(module.code):
            yield from self._function(index, code)
        for index, segment in enumerate(module.data):
            yield from self._data_lines(index, segment)
        yield ")"

    # Types

    def _type_lines(self) -> Iterator[str]:
        index = 0
        for group in self._module.rec_groups:
            alone = len(group) == 1
            if not alone:
                yield "  (rec"
            for sub in group:
                text = f"(type{_numbered(self._spaces['type'], index)} {self._sub_type(index, sub)})"
                yield ("  " if alone else "    ") + text
                index += 1
            if not alone:
                yield "  )"

    def _sub_type(self, index: int, sub: SubType) -> str:
        composite = sub.composite
        if isinstance(composite, FuncType):
            text = f"(func{self._signature(composite, NO_NAMES)})"
        elif isinstance(composite, StructType):
            names = self._fields[index]
            fields = [
                f" (field{names.binding(number)} {self._text.field_type(field)})"
                for number, field in enumerate(composite.fields)
            ]
            text = f"(struct{''.join(fields)})"
        elif isinstance(composite, ArrayType):
            text = f"(array {self._text.field_type(composite.field)})"
        else:
            text = f"(cont {self._text.heap_type(composite.func)})"
        for word, number in (("descriptor", sub.descriptor), ("describes", sub.describes)):
            if number is not None:
                text = f"({word} {self._spaces['type'].use(number)}) {text}"
        if sub.final and not sub.supers:
            return text
        supers = "".join(f" {self._spaces['type'].use(number)}" for number in sub.supers)
        return f"(sub{' final' if sub.final else ''}{supers} {text})"

    def _signature(self, func: FuncType, names: IndexNames) -> str:
        """Parameters and results, each with a space before it."""
        params = "".join(
            f" (param{names.binding(number)} {self._text.val_type(type_)})" for number, type_ in enumerate(func.params)
        )
        results = "".join(f" {self._text.val_type(type_)}" for type_ in func.results)
        return params + (f" (result{results})" if results else "")

    def _type_use(self, type_index: int, names: IndexNames) -> str:
        """A type use with its signature repeated, so parameters can have names."""
        composite = self._types[type_index].composite if type_index < len(self._types) else None
        signature = self._signature(composite, names) if isinstance(composite, FuncType) else ""
        return f"(type {self._spaces['type'].use(type_index)}){signature}"

    def _param_count(self, type_index: int) -> int:
        composite = self._types[type_index].composite if type_index < len(self._types) else None
        return len(composite.params) if isinstance(composite, FuncType) else 0

    # Imports and definitions

    def _import_lines(self) -> Iterator[str]:
        module = self._module
        counts = dict.fromkeys(EXTERN_KINDS, 0)
        written = 0
        for group in (*module.import_groups, ImportGroup(len(module.imports), 0, False)):
            for item in module.imports[written : group.first]:
                text = self._import(item, counts)
                yield f"  (import {quote_name(item.module)} {quote_name(item.name)} {text})"
            written = group.first + group.count
            if group.count:
                yield from self._import_group(module.imports[group.first : written], group.alike, counts)

    def _import_group(self, items: list[Import], alike: bool, counts: dict[str, int]) -> Iterator[str]:
        """Imports that share the module's name; those that share their type as well can have no names of their own."""
        kind, first = items[0].kind, counts[items[0].kind]
        places = range(first, first + len(items))
        yield f"  (import {quote_name(items[0].module)}"
        if alike and not any(self._is_named(kind, index) for index in places):
            counts[kind] += len(items)
            for index, item in zip(places, items, strict=True):
                yield f"    (item {quote_name(item.name)}) (;{index};)"
            yield f"    ({kind} {self._import_type(items[0], NO_NAMES)})"
        else:
            for item in items:
                yield f"    (item {quote_name(item.name)} {self._import(item, counts)})"
        yield "  )"

    def _is_named(self, kind: str, index: int) -> bool:
        """Whether something imported, or a parameter of it, has a name."""
        return bool(self._spaces[kind].binding(index) or (kind == "func" and self._names.locals.get(index)))

    def _import(self, item: Import, counts: dict[str, int]) -> str:
        """What is imported; counts it."""
        index = counts[item.kind]
        counts[item.kind] += 1
        names = NO_NAMES
        if isinstance(item.type, int):
            names = IndexNames(self._names.locals.get(index, {}), self._param_count(item.type))
        return f"({item.kind}{_numbered(self._spaces[item.kind], index)} {self._import_type(item, names)})"

    def _import_type(self, item: Import, names: IndexNames) -> str:
        if isinstance(item.type, TableType):
            return self._text.table_type(item.type)
        if isinstance(item.type, MemoryType):
            return self._text.memory_type(item.type)
        if isinstance(item.type, GlobalType):
            return self._text.global_type(item.type)
        if isinstance(item.type, TagType):
            return self._type_use(item.type.type, NO_NAMES)
        text = self._type_use(item.type, names)
        return f"(exact {text})" if item.exact else text

    def _definition_lines(self) -> Iterator[str]:
        """Tables, memories, tags and globals."""
        module = self._module
        for number, table in enumerate(module.tables):
            text = self._text.table_type(table.type)
            init = self._table_inits[number]
            if init is not None:
                text += f" {self._constant(init)}"
            yield self._definition("table", number, text)
        for number, memory in enumerate(module.memories):
            yield self._definition("memory", number, self._text.memory_type(memory))
        for number, tag in enumerate(module.tags):
            yield self._definition("tag", number, self._type_use(tag.type, NO_NAMES))
        for number, item in enumerate(module.globals):
            text = f"{self._text.global_type(item.type)} {self._constant(self._global_inits[number])}"
            yield self._definition("global", number, text)

    def _constant(self, expr: Expr, keyword: str = "") -> str:
        return self._code.constant(expr.code, expr.offset, keyword)

    def _definition(self, kind: str, number: int, text: str) -> str:
        index = self._imported[kind] + number
        return f"  ({kind}{_numbered(self._spaces[kind], index)} {text})"

    # Functions

    def _function(self, number: int, code: Code) -> Iterator[str]:
        index = self._imported["func"] + number
        type_index = self._module.funcs[number]
        base = self._decoded.body_ends[number] - len(code.body)
        first_local = self._param_count(type_index)
        count = sum(count for count, _ in code.locals)
        if count > MAX_LOCALS:
            raise CompileError(f"too many locals: {count}, the limit is {MAX_LOCALS}", base)
        names = IndexNames(self._names.locals.get(index, {}), first_local + count)
        yield f"  (func{_numbered(self._spaces['func'], index)} {self._type_use(type_index, names)}"
        locals_text = self._locals(code, first_local, names)
        if locals_text:
            yield f"    {locals_text}"
        yield from self._instructions(number, names, self._hints.get(index, {}))
        yield "  )"

    def _locals(self, code: Code, first: int, names: IndexNames) -> str:
        """The locals; neighbours without names share a form."""
        forms: list[str] = []
        unnamed: list[str] = []
        index = first
        for count, val_type in code.locals:
            text = self._text.val_type(val_type)
            for _ in range(count):
                binding = names.binding(index)
                if binding:
                    if unnamed:
                        forms.append(f"(local {' '.join(unnamed)})")
                        unnamed = []
                    forms.append(f"(local{binding} {text})")
                else:
                    unnamed.append(text)
                index += 1
        if unnamed:
            forms.append(f"(local {' '.join(unnamed)})")
        return " ".join(forms)

    # Segments

    def _element(self, index: int, element: Element) -> Iterator[str]:
        decoded = self._elements[index]
        parts = [f"(elem{_numbered(self._spaces['elem'], index)}"]
        if element.mode == "declarative":
            parts.append("declare")
        if decoded.at is not None:
            if element.table:
                parts.append(f"(table {self._spaces['table'].use(element.table)})")
            parts.append(self._constant(decoded.at, "offset"))
        items: Iterator[str]
        if decoded.exprs is None:
            parts.append("func")
            items = (self._spaces["func"].use(item) for item in element.items)
        else:
            parts.append(self._text.val_type(element.type))
            items = (self._constant(expr, "item") for expr in decoded.exprs)
        if decoded.length <= _BYTES_PER_LINE:
            yield f"  {' '.join([*parts, *items])})"
            return
        yield f"  {' '.join(parts)}"
        while some := list(islice(items, _BYTES_PER_LINE)):
            yield f"    {' '.join(some)}"
        yield "  )"

    def _data_lines(self, index: int, segment: Data) -> Iterator[str]:
        parts = [f"  (data{_numbered(self._spaces['data'], index)}"]
        where = self._data_segments[index].at
        if where is not None:
            if segment.memory:
                parts.append(f"(memory {self._spaces['memory'].use(segment.memory)})")
            parts.append(self._constant(where, "offset"))
        yield from _bytes_form(" ".join(parts), segment.data)


def _bytes_form(head: str, data: bytes) -> Iterator[str]:
    """A form that begins with `head` and ends with bytes, which take a line each when they are many."""
    if len(data) <= _BYTES_PER_LINE:
        yield f"{head} {quote_bytes(data)})"
        return
    yield head
    for at in range(0, len(data), _BYTES_PER_LINE):
        yield f"    {quote_bytes(data[at : at + _BYTES_PER_LINE])}"
    yield "  )"


def _custom_lines(custom: CustomSection) -> Iterator[str]:
    place = f"(after {_SECTION_NAMES[custom.after]})" if custom.after else "(before first)"
    return _bytes_form(f"  (@custom {quote_name(custom.name)} {place}", custom.data)
