"""Encode a module's abstract syntax in the binary format (Core 3.0, chapter 5).

`encode_module` is the inverse of the decoder. It writes the sections in the specification's order, custom sections
where they were, and the name section last. Code is copied as it is, because function bodies and constant
expressions already are in the binary format (see `wasmloom.spec.module`).

On the way it can fill a `Layout`, which says at which byte each definition and each expression begins. `wasmloom.text`
uses that to map the binary back to the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from wasmloom.binary.names import INDIRECT_NAME_MAPS, NAME_MAPS
from wasmloom.spec.module import Element, Import, ImportGroup, ModuleSyntax, Names
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    EXTERN_KINDS,
    FUNCREF,
    ArrayType,
    ContType,
    FieldType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    StructType,
    SubType,
    TableType,
    TagType,
    ValType,
    ref_type,
)

MAGIC = b"\0asm\1\0\0\0"

#: Sections in the order that a module has them: name → id (Core 3.0, 5.5.2).
SECTION_IDS: dict[str, int] = {
    "type": 1,
    "import": 2,
    "func": 3,
    "table": 4,
    "memory": 5,
    "tag": 13,
    "global": 6,
    "export": 7,
    "start": 8,
    "elem": 9,
    "datacount": 12,
    "code": 10,
    "data": 11,
}

_SHORT = tuple(bytes((value,)) for value in range(128))
_NULLABLE_ABSTRACT = {ref_type(heap, True): bytes((heap,)) for heap in ABSTRACT_HEAP_TYPES.values()}


def uleb(value: int) -> bytes:
    """`value`, which must not be negative, as unsigned LEB128 in the fewest bytes (Core 3.0, 5.2.2)."""
    if value < 128:
        return _SHORT[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """`value` as signed LEB128 in the fewest bytes (Core 3.0, 5.2.2)."""
    if -64 <= value < 64:
        return _SHORT[value & 127]
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value & 127)
    return bytes(out)


def vector(items: Iterable[bytes]) -> bytes:
    """A vector: the number of items and the items."""
    parts = list(items)
    return uleb(len(parts)) + b"".join(parts)


def byte_vector(data: bytes) -> bytes:
    """A vector of bytes: its length and the bytes."""
    return uleb(len(data)) + data


def name_bytes(text: str) -> bytes:
    """A name: its length in bytes and its UTF-8 form."""
    return byte_vector(text.encode("utf-8"))


def heap_type_bytes(heap: int) -> bytes:
    """A heap type, abstract or a type index, as the signed number that it is in the binary format."""
    if heap & EXACT:
        return b"\x62" + sleb(heap - EXACT - CONCRETE)
    return sleb(heap - CONCRETE) if heap >= CONCRETE else bytes((heap,))


def val_type_bytes(val_type: ValType) -> bytes:
    """A value or storage type, in its short form where it has one."""
    if not val_type.is_ref:
        return bytes((val_type,))
    short = _NULLABLE_ABSTRACT.get(val_type)
    if short is not None:
        return short
    return (b"\x63" if val_type.is_nullable else b"\x64") + heap_type_bytes(val_type.heap)


def field_type_bytes(field: FieldType) -> bytes:
    """A struct's field or an array's element: storage type and mutability."""
    return val_type_bytes(field.storage) + (b"\1" if field.mutable else b"\0")


def sub_type_bytes(sub: SubType) -> bytes:
    """A type definition, without the `sub` wrapper when it is final and has no supertypes."""
    composite = sub.composite
    if isinstance(composite, FuncType):
        body = b"\x60" + vector(map(val_type_bytes, composite.params)) + vector(map(val_type_bytes, composite.results))
    elif isinstance(composite, StructType):
        body = b"\x5f" + vector(map(field_type_bytes, composite.fields))
    elif isinstance(composite, ArrayType):
        body = b"\x5e" + field_type_bytes(composite.field)
    else:
        body = b"\x5d" + cont_type_bytes(composite)
    if sub.descriptor is not None:
        body = b"\x4d" + uleb(sub.descriptor) + body
    if sub.describes is not None:
        body = b"\x4c" + uleb(sub.describes) + body
    if sub.final and not sub.supers:
        return body
    return (b"\x4f" if sub.final else b"\x50") + vector(map(uleb, sub.supers)) + body


def cont_type_bytes(cont: ContType) -> bytes:
    """The function type of a continuation type, as a signed number."""
    return heap_type_bytes(cont.func)


def limits_bytes(limits: Limits, flags: int) -> bytes:
    """Size limits; `flags` are those that stand beside "has a maximum" (shared, 64 bits, page size)."""
    if limits.max is None:
        return bytes((flags,)) + uleb(limits.min)
    return bytes((flags | 1,)) + uleb(limits.min) + uleb(limits.max)


def table_type_bytes(table: TableType) -> bytes:
    """A table type."""
    return val_type_bytes(table.element) + limits_bytes(table.limits, 4 if table.is64 else 0)


def memory_type_bytes(memory: MemoryType) -> bytes:
    """A memory type; the page size is written when it isn't 64 KiB."""
    flags = (2 if memory.shared else 0) | (4 if memory.is64 else 0)
    if memory.page_size_log2 == 16:
        return limits_bytes(memory.limits, flags)
    return limits_bytes(memory.limits, flags | 8) + uleb(memory.page_size_log2)


def global_type_bytes(global_type: GlobalType) -> bytes:
    """A global type."""
    return val_type_bytes(global_type.content) + (b"\1" if global_type.mutable else b"\0")


def tag_type_bytes(tag: TagType) -> bytes:
    """A tag type: the attribute byte, always zero, and the type index."""
    return b"\0" + uleb(tag.type)


class Layout:
    """Where things are in an encoded module, in bytes from its start."""

    __slots__ = ("entries", "exprs")

    def __init__(self) -> None:
        #: section name (as in `SECTION_IDS`) → offset of each of its entries; one entry per recursive group of types
        self.entries: dict[str, list[int]] = {}
        #: (section name, entry, part) → offset of an expression. The part is 0, or -1 for the offset of an element
        #: segment, whose items are numbered from 0.
        self.exprs: dict[tuple[str, int, int], int] = {}


class _Section:
    """The contents of a section being written: bytes, and the starts of entries and expressions in them.

    `count` is the length of its vector.
    """

    __slots__ = ("count", "entries", "exprs", "name", "out")

    def __init__(self, name: str) -> None:
        self.name = name
        self.out = bytearray()
        self.count = 0
        self.entries: list[int] = []
        self.exprs: dict[tuple[str, int, int], int] = {}

    def entry(self, data: bytes = b"") -> None:
        """Start an entry, which begins with `data`."""
        self.count += 1
        self.member(data)

    def member(self, data: bytes) -> None:
        """Start one of the definitions that an element of the vector consists of."""
        self.entries.append(len(self.out))
        self.out += data

    def expr(self, code: bytes, part: int = 0) -> None:
        """Add an expression to the current entry."""
        self.exprs[self.name, len(self.entries) - 1, part] = len(self.out)
        self.out += code


def _extern_type_bytes(item: Import) -> bytes:
    if item.exact and isinstance(item.type, int):
        return b"\x20" + uleb(item.type)
    head = bytes((EXTERN_KINDS.index(item.kind),))
    if isinstance(item.type, TableType):
        return head + table_type_bytes(item.type)
    if isinstance(item.type, MemoryType):
        return head + memory_type_bytes(item.type)
    if isinstance(item.type, GlobalType):
        return head + global_type_bytes(item.type)
    if isinstance(item.type, TagType):
        return head + tag_type_bytes(item.type)
    return head + uleb(item.type)


def _types(m: ModuleSyntax, section: _Section) -> None:
    for group in m.rec_groups:
        if len(group) == 1:
            section.entry(sub_type_bytes(group[0]))
        else:
            section.entry(b"\x4e" + vector(map(sub_type_bytes, group)))


def _imports(m: ModuleSyntax, section: _Section) -> None:
    written = 0
    for group in (*m.import_groups, ImportGroup(len(m.imports), 0, False)):
        for item in m.imports[written : group.first]:
            section.entry(name_bytes(item.module) + name_bytes(item.name) + _extern_type_bytes(item))
        written = group.first + group.count
        if group.count:
            _import_group(m.imports[group.first : written], group.alike, section)


def _import_group(items: list[Import], alike: bool, section: _Section) -> None:
    """Imports from one module, in a compact form: behind its name, an empty name and a byte in place of a kind."""
    head = _extern_type_bytes(items[0]) if alike else b""
    section.count += 1
    section.out += name_bytes(items[0].module) + b"\0" + (b"\x7e" if alike else b"\x7f") + head + uleb(len(items))
    for item in items:
        section.member(name_bytes(item.name) + (b"" if alike else _extern_type_bytes(item)))


def _funcs(m: ModuleSyntax, section: _Section) -> None:
    for type_index in m.funcs:
        section.entry(uleb(type_index))


def _tables(m: ModuleSyntax, section: _Section) -> None:
    for table in m.tables:
        if table.init is None:
            section.entry(table_type_bytes(table.type))
        else:
            section.entry(b"\x40\0" + table_type_bytes(table.type))
            section.expr(table.init)


def _memories(m: ModuleSyntax, section: _Section) -> None:
    for memory in m.memories:
        section.entry(memory_type_bytes(memory))


def _tags(m: ModuleSyntax, section: _Section) -> None:
    for tag in m.tags:
        section.entry(tag_type_bytes(tag))


def _globals(m: ModuleSyntax, section: _Section) -> None:
    for item in m.globals:
        section.entry(global_type_bytes(item.type))
        section.expr(item.init)


def _exports(m: ModuleSyntax, section: _Section) -> None:
    for item in m.exports:
        section.entry(name_bytes(item.name) + bytes((EXTERN_KINDS.index(item.kind),)) + uleb(item.index))


def _element(item: Element, section: _Section) -> None:
    """One element segment, in the shortest of its eight forms (Core 3.0, 5.5.12)."""
    with_exprs = 4 if item.exprs is not None else 0
    if item.mode == "active":
        plain = item.table == 0 and (not with_exprs or item.type == FUNCREF)
        section.entry(bytes((with_exprs | (0 if plain else 2),)) + (b"" if plain else uleb(item.table)))
        section.expr(item.offset or b"", -1)
    else:
        plain = False
        section.entry(bytes((with_exprs | (3 if item.mode == "declarative" else 1),)))
    if item.exprs is None:
        section.out += (b"" if plain else b"\0") + vector(map(uleb, item.items))
        return
    section.out += (b"" if plain else val_type_bytes(item.type)) + uleb(len(item.exprs))
    for number, code in enumerate(item.exprs):
        section.expr(code, number)


def _elements(m: ModuleSyntax, section: _Section) -> None:
    for item in m.elements:
        _element(item, section)


def _code(m: ModuleSyntax, section: _Section) -> None:
    for body in m.code:
        local_runs = vector(uleb(count) + val_type_bytes(val_type) for count, val_type in body.locals)
        section.entry(uleb(len(local_runs) + len(body.body)) + local_runs)
        section.expr(body.body)


def _data(m: ModuleSyntax, section: _Section) -> None:
    for segment in m.data:
        if segment.mode == "passive":
            section.entry(b"\1")
        else:
            section.entry(b"\0" if segment.memory == 0 else b"\2" + uleb(segment.memory))
            section.expr(segment.offset or b"")
        section.out += byte_vector(segment.data)


_VECTOR_SECTIONS: dict[str, Callable[[ModuleSyntax, _Section], None]] = {
    "type": _types,
    "import": _imports,
    "func": _funcs,
    "table": _tables,
    "memory": _memories,
    "tag": _tags,
    "global": _globals,
    "export": _exports,
    "elem": _elements,
    "code": _code,
    "data": _data,
}


def _name_map(names: dict[int, str]) -> bytes:
    return vector(uleb(index) + name_bytes(name) for index, name in sorted(names.items()))


def name_section(names: Names) -> bytes:
    """The contents of the name section, without the section's own name; empty when nothing has a name."""
    parts: list[tuple[int, bytes]] = []
    if names.module is not None:
        parts.append((0, name_bytes(names.module)))
    for number, kind in NAME_MAPS.items():
        if names.maps.get(kind):
            parts.append((number, _name_map(names.maps[kind])))
    for number, attribute in INDIRECT_NAME_MAPS.items():
        nested: dict[int, dict[int, str]] = getattr(names, attribute)
        items = [uleb(index) + _name_map(inner) for index, inner in sorted(nested.items()) if inner]
        if items:
            parts.append((number, vector(items)))
    parts.sort()
    return b"".join(bytes((number,)) + byte_vector(data) for number, data in parts)


def hint_section(hints: Mapping[int, Iterable[tuple[int, int]]]) -> bytes:
    """The contents of the section with branch hints: by function, offsets in its body and values (`binary.hints`)."""
    return vector(
        uleb(func) + vector(uleb(offset) + byte_vector(bytes((value,))) for offset, value in own)
        for func, own in sorted(hints.items())
    )


def custom_section(name: str, data: bytes) -> bytes:
    """A whole custom section, header included (Core 3.0, 5.5.3)."""
    return b"\0" + byte_vector(name_bytes(name) + data)


def _place(section: _Section, base: int, layout: Layout) -> None:
    layout.entries[section.name] = [base + offset for offset in section.entries]
    for key, offset in section.exprs.items():
        layout.exprs[key] = base + offset


def encode_module(m: ModuleSyntax, layout: Layout | None = None) -> bytes:
    """The binary format of `m`. `layout` gets the positions of its parts.

    The data count section is written when `m.has_data_count` says so. Nothing is checked: an invalid module is encoded
    as it stands, so the validator can judge it.
    """
    out = bytearray(MAGIC)
    customs: dict[int, list[bytes]] = {}
    for custom in m.customs:
        customs.setdefault(custom.after, []).append(custom_section(custom.name, custom.data))
    out += b"".join(customs.pop(0, ()))
    for name, number in SECTION_IDS.items():
        if name == "start":
            if m.start is not None:
                if layout is not None:
                    layout.entries[name] = [len(out) + 2]
                out += bytes((number,)) + byte_vector(uleb(m.start))
        elif name == "datacount":
            if m.has_data_count:
                out += bytes((number,)) + byte_vector(uleb(len(m.data)))
        else:
            section = _Section(name)
            _VECTOR_SECTIONS[name](m, section)
            if section.count:
                count = uleb(section.count)
                out += bytes((number,)) + uleb(len(count) + len(section.out)) + count
                if layout is not None:
                    _place(section, len(out), layout)
                out += section.out
        out += b"".join(customs.pop(number, ()))
    for leftover in customs.values():
        out += b"".join(leftover)
    names = name_section(m.names)
    if names:
        out += custom_section("name", names)
    return bytes(out)


def run_lengths(types: Sequence[ValType]) -> tuple[tuple[int, ValType], ...]:
    """Locals as runs (count, type) of equal types, the form of `wasmloom.spec.module.Code`."""
    runs: list[tuple[int, ValType]] = []
    for val_type in types:
        if runs and runs[-1][1] == val_type:
            runs[-1] = (runs[-1][0] + 1, val_type)
        else:
            runs.append((1, val_type))
    return tuple(runs)
