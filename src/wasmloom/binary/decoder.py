# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The decoder: bytes → `DecodedModule` (Core 3.0, 5.5).

Everything except code is read into C arrays (`wasmloom.binary.sections`). Function bodies stay ranges of the module's
bytes, which validation and translation read. Python sees tuples and lists that are made on request. All types are
*canonical* (`wasmloom.spec.canon`), except where an attribute says "type indices".

`decode_module` raises `CompileError` with the offset of the offending byte when the module is malformed (function
bodies apart), and `ValidationError` when it names a type that doesn't exist. `wasmloom.validation` checks
all other conditions.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.binary.reader import Reader, read_range, read_u32, read_valtype
from cython.cimports.wasmloom.binary.sections import (
    CustomItem,
    DataItem,
    ElementItem,
    ExportItem,
    GlobalItem,
    ImportItem,
    Range,
    Sections,
    TableItem,
    TagItem,
    read_sections,
    read_types,
    skip_expr,
)
from cython.cimports.wasmloom.spec.canon import (
    CONT,
    FUNC,
    HEAD,
    INNER,
    MUTABLE,
    STRUCT,
    Words,
    intern_words,
    new_types,
    types_of,
)
from cython.cimports.wasmloom.system._capi import seal
from cython.cimports.wasmloom.system.allocation import calloc
from cython.cimports.wasmloom.system.polling import poll

from wasmloom.binary.names import parse_names
from wasmloom.binary.parts import CustomRange, DataSegment, ElementSegment, Expr
from wasmloom.errors import CompileError, UnsupportedError, ValidationError
from wasmloom.spec import limits
from wasmloom.spec.module import (
    Code,
    CustomSection,
    Data,
    Element,
    Export,
    Global,
    Import,
    ImportGroup,
    ModuleSyntax,
    Names,
    Table,
)
from wasmloom.spec.proposals import COMPONENT
from wasmloom.spec.types import (
    CONCRETE,
    EXACT_FLAG,
    EXTERN_KINDS,
    HEAP_SHIFT,
    NULL_FLAG,
    REF_FLAG,
    ArrayType,
    ContType,
    FieldType,
    FuncType,
    GlobalType,
    Limits,
    StructType,
    SubType,
    TableType,
    TagType,
    ValType,
)

_MAGIC = b"\0asm"
_VERSION = b"\1\0\0\0"
#: The second half of a component's version (component model, Binary.md: "layer").
_LAYER_OF_COMPONENTS = b"\1\0"
_MODES = ("active", "passive", "declarative")
_CONCRETE = cython.declare(uint64_t, CONCRETE)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_FLAGS = cython.declare(uint64_t, REF_FLAG | NULL_FLAG | EXACT_FLAG)


@cython.no_gc
@cython.cclass
class DecodedModule(Sections):
    """A decoded module. Index spaces put imports first; the attributes' types are in ``decoder.pxd``.

    `types` and `rec_groups` hold type indices; `type_ids` says which canonical type each of `types` is. An `Import`'s
    type is the canonical id for functions. `func_types` has the type index of each function, `func_type_ids` the
    canonical id. The body of function ``num_imported_funcs + i`` (declarations of locals, instructions, `end`) is
    ``data[body_starts[i]:body_ends[i]]``.

    `rec_groups`, `types`, `imports`, `tables`, `table_inits`, `tags`, `globals`, `global_inits`, `exports`, `elements`,
    `data_segments` and `custom_ranges` are lists that are made on each access. For single entries, by their number,
    which must exist, there are `import_at`, `export_at`, `table_type`, `global_type` and `tag_type`.
    """

    def __cinit__(self) -> None:
        self.export_names = {}
        self.kept_for_others = {}
        self.func_type_ids = array("I")
        self.kept = new_types()

    def __dealloc__(self) -> None:
        free(self.type_id)

    @property
    def has_continuations(self) -> bool:
        """Whether there are types of continuations."""
        return any(isinstance(sub.composite, ContType) for sub in self.types)

    def expect_old_exceptions(self) -> None:
        """Note that functions may have a `try`. Code would be wrong if they did without that; nothing takes it back."""
        self.has_old_exceptions = True

    # One entry

    def import_at(self, number: cython.size_t) -> Import:
        """An import; numbers count all kinds."""
        return self._import(number, False)

    @cython.cfunc
    def _import(self, number: cython.size_t, indexed: cython.bint) -> object:
        item: cython.pointer(ImportItem) = self.import_item + number
        kind: cython.int = item.kind
        type: object
        if kind == 0:
            type = self.func_type[item.index] if indexed else self.func_type_id[item.index]
        elif kind == 1:
            type = self._table(item.index, indexed)
        elif kind == 2:
            type = self.memories[item.index]
        elif kind == 3:
            type = self._global(item.index, indexed)
        else:
            type = self._tag(item.index, indexed)
        return Import(self._module_name(item), self.text(item.name), EXTERN_KINDS[kind], type, item.exact)

    @cython.cfunc
    def _module_name(self, item: cython.pointer(ImportItem)) -> str:
        """The module that an import is from. Many may share a long name, which is made once."""
        if self.last_module is None or self.last_at != item.module.start:
            self.last_module = self.text(item.module)
            self.last_at = item.module.start
        return self.last_module

    def export_at(self, number: cython.size_t) -> Export:
        """An export."""
        item: cython.pointer(ExportItem) = self.export_item + number
        return Export(self.text(item.name), EXTERN_KINDS[item.kind], item.index)

    def table_type(self, index: cython.size_t) -> TableType:
        """The type of a table."""
        return self._table(index, False)

    @cython.cfunc
    def _table(self, index: cython.size_t, indexed: cython.bint) -> object:
        item: cython.pointer(TableItem) = self.table_item + index
        size = Limits(item.min, item.max if item.bounded else None)
        return TableType(ValType(item.indexed if indexed else item.element), size, item.is64)

    def global_type(self, index: cython.size_t) -> GlobalType:
        """The type of a global."""
        return self._global(index, False)

    @cython.cfunc
    def _global(self, index: cython.size_t, indexed: cython.bint) -> object:
        item: cython.pointer(GlobalItem) = self.global_item + index
        return GlobalType(ValType(item.indexed if indexed else item.content), item.mutable)

    def tag_type(self, index: cython.size_t) -> TagType:
        """The type of a tag."""
        return self._tag(index, False)

    @cython.cfunc
    def _tag(self, index: cython.size_t, indexed: cython.bint) -> object:
        return TagType(self.tag_item[index].type if indexed else self.tag_item[index].id)

    @cython.cfunc
    def _expr(self, where: Range) -> object:
        """An expression; None when there is none."""
        if where.start == where.end:
            return None
        return Expr(self.data[where.start : where.end], where.start)

    @cython.cfunc
    def _element(self, item: cython.pointer(ElementItem), indexed: cython.bint) -> object:
        r: Reader = self.reader_at(item.items)
        where = cython.declare(Range)
        funcs: list = []
        exprs: list = []
        for _ in range(item.count):
            poll()
            if item.has_exprs:
                skip_expr(cython.address(r), cython.address(where))
                exprs.append(self._expr(where))
            else:
                funcs.append(read_u32(cython.address(r)))
        return ElementSegment(
            ValType(item.indexed if indexed else item.type),
            _MODES[item.mode],
            array("I", funcs),
            tuple(exprs) if item.has_exprs else None,
            item.table,
            self._expr(item.at),
            item.offset,
        )

    @cython.cfunc
    def reader_at(self, where: Range) -> Reader:
        """A reader of a range of the module."""
        r = cython.declare(Reader)
        base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(self.data))
        read_range(cython.address(r), base, base + where.start, base + where.end)
        return r

    def import_rows(self, func: Callable[[int], object], other: Callable[[object], object]) -> list[tuple]:
        """Module, name, kind and type of all imports: `func` of an id (asked once for each), `other` of types."""
        known: dict = {}
        found: list = []
        i: cython.size_t
        item: cython.pointer(ImportItem)
        for i in range(self.num_imports):
            poll()
            item = self.import_item + i
            if item.kind == 0:
                type = known.get(self.func_type_id[item.index])
                if type is None:
                    type = known[self.func_type_id[item.index]] = func(self.func_type_id[item.index])
                found.append((self._module_name(item), self.text(item.name), EXTERN_KINDS[0], type))
            else:
                row = self._import(i, False)
                found.append((row.module, row.name, row.kind, other(row.type)))
        return found

    def func_import(self, index: cython.size_t) -> Import:
        """The import that is the function `index`."""
        number: cython.size_t = index  # that many function imports come before it
        while self.import_item[number].kind != 0 or self.import_item[number].index != index:
            number += 1
        return self._import(number, False)

    def export_of(self, kind: str, index: cython.size_t) -> Export | None:
        """The first export of an item of an index space."""
        i: cython.size_t
        code: cython.int = EXTERN_KINDS.index(kind)
        for i in range(self.num_exports):
            if self.export_item[i].index == index and self.export_item[i].kind == code:
                return self.export_at(i)
        return None

    # Lists

    @property
    def type_ids(self) -> array[int]:
        """The canonical id of each type."""
        return array("I", [self.type_id[i] for i in range(self.num_types)])

    @property
    def rec_groups(self) -> list[tuple[SubType, ...]]:
        """The recursive groups of types, with type indices."""
        r: Reader = self.reader_at(self.type_range)
        words = cython.declare(Words)
        memset(cython.address(words), 0, cython.sizeof(Words))
        w: cython.pointer(uint64_t)
        i: cython.size_t
        found: list = []
        again: Sections = Sections()
        if self.groups.count == 0:
            return found
        try:
            read_types(again, cython.address(r), cython.address(words))
            w = words.items
            for i in range(self.groups.count):
                poll()
                members: list = []
                for _ in range(cython.cast(cython.pointer(uint32_t), self.groups.data)[i]):
                    members.append(_sub_type(w))
                    w += HEAD + types_of(w)
                found.append(tuple(members))
        finally:
            free(words.items)
        return found

    @property
    def types(self) -> list[SubType]:
        """All types, with type indices."""
        return [sub for group in self.rec_groups for sub in group]

    @property
    def imports(self) -> list[Import]:
        """The imports, with canonical types."""
        return [self._import(i, False) for i in range(self.num_imports)]

    @property
    def tables(self) -> list[TableType]:
        """The types of all tables."""
        return [self._table(i, False) for i in range(self.num_tables)]

    @property
    def table_inits(self) -> list[Expr | None]:
        """The initialisers of the tables defined here."""
        return [self._expr(self.table_item[i].init) for i in range(self.num_imported_tables, self.num_tables)]

    @property
    def tags(self) -> list[TagType]:
        """The types of all tags."""
        return [self._tag(i, False) for i in range(self.num_tags)]

    @property
    def globals(self) -> list[GlobalType]:
        """The types of all globals."""
        return [self._global(i, False) for i in range(self.num_globals)]

    @property
    def global_inits(self) -> list[Expr]:
        """The initialisers of the globals defined here."""
        return [self._expr(self.global_item[i].init) for i in range(self.num_imported_globals, self.num_globals)]

    @property
    def exports(self) -> list[Export]:
        """The exports."""
        return [self.export_at(i) for i in range(self.num_exports)]

    @property
    def elements(self) -> list[ElementSegment]:
        """The element segments."""
        return [self._element(self.element_item + i, False) for i in range(self.num_elements)]

    @property
    def data_segments(self) -> list[DataSegment]:
        """The data segments."""
        i: cython.size_t
        found: list = []
        for i in range(self.num_data):
            item: cython.pointer(DataItem) = self.data_item + i
            found.append(
                DataSegment(
                    _MODES[item.mode],
                    item.contents.start,
                    item.contents.end,
                    item.memory,
                    self._expr(item.at),
                    item.offset,
                )
            )
        return found

    @property
    def custom_ranges(self) -> list[CustomRange]:
        """Where the custom sections are."""
        items: cython.pointer(CustomItem) = cython.cast(cython.pointer(CustomItem), self.custom_items.data)
        return [
            CustomRange(self.text(items[i].name), items[i].contents.start, items[i].contents.end, items[i].after)
            for i in range(self.custom_items.count)
        ]

    @property
    def customs(self) -> list[CustomSection]:
        """The custom sections, the name section included, with copies of their contents."""
        return [CustomSection(c.name, self.data[c.start : c.end], c.after) for c in self.custom_ranges]

    @property
    def digest(self) -> str:
        """The SHA-256 of the module's bytes, in hexadecimal: what the cache knows it by."""
        if self._digest is None:
            from hashlib import sha256  # loads OpenSSL, and few modules are asked

            self._digest = sha256(self.data).hexdigest()
        return self._digest

    @property
    def names(self) -> Names:
        """The names in the first name section; parsed when first asked for."""
        return self._parsed_names()[0]

    @property
    def index_names(self) -> Names:
        """As `names`, but without names of locals, labels and fields; for backtraces."""
        if self._index_names is None:
            self._index_names = self._parse_names(False)[0]
        return self._index_names

    def _parsed_names(self) -> tuple[Names, bool]:
        """The names, and whether the whole name section was well-formed."""
        if self._names is None:
            self._names = self._parse_names(True)
        return self._names

    def _parse_names(self, indirect: bool) -> tuple[Names, bool]:
        items: cython.pointer(CustomItem) = cython.cast(cython.pointer(CustomItem), self.custom_items.data)
        i: cython.size_t
        for i in range(self.custom_items.count):
            # The size is compared first: most sections aren't called "name", and there may be a million.
            if items[i].name.end - items[i].name.start == 4 and self.text(items[i].name) == "name":
                return parse_names(self.data, items[i].contents.start, items[i].contents.end, indirect)
        return Names(), True

    def syntax(self) -> ModuleSyntax:
        """The abstract syntax of the whole module, with type indices; encoding it makes an equivalent module."""
        out = ModuleSyntax()
        out.rec_groups = self.rec_groups
        out.imports = [self._import(i, True) for i in range(self.num_imports)]
        out.import_groups = [ImportGroup(first, count, alike) for first, count, alike in self.import_groups]
        out.funcs = list(self.func_types[self.num_imported_funcs :])
        out.tables = [
            Table(self._table(i, True), init.code if init is not None else None)
            for i, init in enumerate(self.table_inits, self.num_imported_tables)
        ]
        out.memories = self.memories[self.num_imported_memories :]
        out.tags = [self._tag(i, True) for i in range(self.num_imported_tags, self.num_tags)]
        out.globals = [
            Global(self._global(i, True), init.code)
            for i, init in enumerate(self.global_inits, self.num_imported_globals)
        ]
        out.exports = self.exports
        out.start = self.start
        out.elements = [
            Element(
                e.type,
                e.mode,
                tuple(e.funcs),
                tuple([x.code for x in e.exprs]) if e.exprs is not None else None,
                e.table,
                e.at.code if e.at is not None else None,
            )
            for e in [self._element(self.element_item + i, True) for i in range(self.num_elements)]
        ]
        out.data = [
            Data(self.data[d.start : d.end], d.mode, d.memory, d.at.code if d.at is not None else None)
            for d in self.data_segments
        ]
        out.has_data_count = self.data_count is not None
        out.code = [self._code(start, end) for start, end in zip(self.body_starts, self.body_ends, strict=True)]
        parsed, whole = self._parsed_names()
        out.names = parsed
        out.customs = [custom for custom in self.customs if custom.name != "name" or not whole]
        return out

    def _code(self, start: int, end: int) -> Code:
        """A function body's locals and instructions."""
        where = cython.declare(Range)
        where.start = start
        where.end = end
        r: Reader = self.reader_at(where)
        count: int64_t
        n: int64_t = read_u32(cython.address(r))
        if n > r.end - r.pos:
            raise CompileError("unexpected end of section or function", end)
        runs = []
        while n > 0:
            n -= 1
            count = read_u32(cython.address(r))
            runs.append((count, ValType(read_valtype(cython.address(r)))))
        return Code(tuple(runs), self.data[r.pos - r.base : end])


seal(DecodedModule)


@cython.cfunc
def _sub_type(w: cython.pointer(cython.const[uint64_t])) -> object:
    """The `SubType` of a group's member whose words hold type indices."""
    n: uint32_t = w[2] & 0xFFFFFFFF
    count: uint64_t = types_of(w)
    kind: cython.int = w[0] & 0xFF
    composite: object
    if kind == CONT:
        composite = ContType(CONCRETE + w[HEAD])
    elif kind == FUNC:
        types = [ValType(w[HEAD + k]) for k in range(count)]
        composite = FuncType(tuple(types[:n]), tuple(types[n:]))
    else:
        fields = [FieldType(ValType(w[HEAD + k] & ~MUTABLE), w[HEAD + k] & MUTABLE != 0) for k in range(count)]
        composite = StructType(tuple(fields)) if kind == STRUCT else ArrayType(fields[0])
    descriptor: uint64_t = cython.cast(uint32_t, w[3])
    describes: uint64_t = w[3] >> 32
    return SubType(
        composite,
        (w[1],) if w[0] & 512 else (),
        w[0] & 256 != 0,
        descriptor - 1 if descriptor else None,
        describes - 1 if describes else None,
    )


@cython.cfunc
@cython.exceptval(check=False)
def _number(m: DecodedModule, index: uint64_t) -> uint64_t:
    """The replacement for a type index in the words of a group: an id, or a position in the group."""
    return m.type_id[index] if index < m.num_types else INNER | (index - m.num_types)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _place(m: DecodedModule, index: uint64_t, members: uint32_t, what: str, offset: uint32_t) -> int64_t:
    """What a clause has in words for the type index `index` - 1, in the group that comes next; 0: there is none."""
    if index == 0:
        return 0
    if not m.num_types <= index - 1 < m.num_types + members:
        raise ValidationError(f"{what} type is outside rec group", offset)
    return index - m.num_types


@cython.cfunc
@cython.exceptval(-1, check=False)
def _resolve(m: DecodedModule, w: cython.pointer(uint64_t), members: uint32_t) -> int64_t:
    """Replace the type indices in the words of the group that comes next; returns the number of its words.

    A type index beyond the group, and a supertype that isn't defined before, are `ValidationError`s.
    """
    start: cython.pointer(uint64_t) = w
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.types_at.data) + m.num_types
    i: uint32_t
    k: uint64_t
    n: uint64_t
    index: uint64_t
    for i in range(members):
        n = types_of(w)
        if w[0] & 512:
            if w[1] >= m.num_types + i:
                raise ValidationError(
                    f"unknown type {w[1]}: a supertype must be defined before its subtype", offsets[i]
                )
            if w[0] & 1024:
                raise ValidationError("sub type: at most one supertype is allowed", offsets[i])
            w[1] = _number(m, w[1])
        if w[3]:
            w[3] = _place(m, cython.cast(uint32_t, w[3]), members, "descriptor", offsets[i]) | cython.cast(
                uint64_t, _place(m, w[3] >> 32, members, "described", offsets[i])
            ) << 32
        for k in range(n):
            index = w[HEAD + k]
            if w[0] & 0xFF != CONT:
                index = (index & ~MUTABLE) >> _HEAP_SHIFT
                if not w[HEAD + k] & _REF_FLAG or index < _CONCRETE:
                    continue
                index -= _CONCRETE
            if index >= m.num_types + members:
                raise ValidationError(f"unknown type {index}", offsets[i])
            index = _number(m, index)
            if w[0] & 0xFF != CONT:
                index = (w[HEAD + k] & (MUTABLE | _FLAGS)) | (_CONCRETE + index) << _HEAP_SHIFT
            w[HEAD + k] = index
        w += HEAD + n
    return w - start


@cython.cfunc
@cython.exceptval(-1, check=False)
def _canonical_types(m: DecodedModule, words: cython.pointer(Words)) -> cython.int:
    """Give each type its canonical id; a type index that is out of range is a `ValidationError`."""
    sizes: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.groups.data)
    group = cython.declare(Words)
    first: int64_t
    i: cython.size_t
    k: uint32_t
    # Room for one more than there are, so that even an empty list has an address.
    m.type_id = cython.cast(cython.pointer(uint32_t), calloc(m.types_at.count + 1, cython.sizeof(uint32_t)))
    if m.type_id == cython.NULL:
        raise MemoryError
    m.num_types = 0
    group.items = words.items
    for i in range(m.groups.count):
        poll()
        if sizes[i] == 0:
            continue
        group.count = _resolve(m, group.items, sizes[i])
        first = intern_words(m.kept, cython.address(group), sizes[i])
        group.items += group.count
        for k in range(sizes[i]):
            m.type_id[m.num_types + k] = first + k
        m.num_types += sizes[i]
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _canonical(m: DecodedModule, t: uint64_t, offset: uint32_t) -> int64_t:
    """A value type with its type index replaced; `offset` is for errors."""
    index: uint64_t = t >> _HEAP_SHIFT
    if not t & _REF_FLAG or index < _CONCRETE:
        return t
    index -= _CONCRETE
    if index >= m.num_types:
        raise ValidationError(f"unknown type {index}", offset)
    return (t & _FLAGS) | (_CONCRETE + m.type_id[index]) << _HEAP_SHIFT


@cython.cfunc
@cython.exceptval(-1, check=False)
def _canonicalise(m: DecodedModule) -> cython.int:
    """Replace type indices by canonical ids: first those of imports, then of tables, globals, tags and elements."""
    i: cython.size_t
    item: cython.pointer(ImportItem)
    for i in range(m.num_imports):
        poll()
        item = m.import_item + i
        if item.kind == 0 and m.func_type[item.index] >= m.num_types:
            raise ValidationError(f"unknown type {m.func_type[item.index]}", item.offset)
        if item.kind == 1:
            _canonical(m, m.table_item[item.index].indexed, item.offset)
        elif item.kind == 3:
            _canonical(m, m.global_item[item.index].indexed, item.offset)
        elif item.kind == 4 and m.tag_item[item.index].type >= m.num_types:
            raise ValidationError(f"unknown type {m.tag_item[item.index].type}", item.offset)
    for i in range(m.num_tables):
        poll()
        m.table_item[i].element = _canonical(m, m.table_item[i].indexed, m.table_item[i].offset)
    for i in range(m.num_globals):
        poll()
        m.global_item[i].content = _canonical(m, m.global_item[i].indexed, m.global_item[i].offset)
    for i in range(m.num_tags):
        poll()
        if m.tag_item[i].type >= m.num_types:
            raise ValidationError(f"unknown type {m.tag_item[i].type}", m.tag_item[i].offset)
        m.tag_item[i].id = m.type_id[m.tag_item[i].type]
    for i in range(m.num_elements):
        poll()
        m.element_item[i].type = _canonical(m, m.element_item[i].indexed, m.element_item[i].offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _canonical_functions(m: DecodedModule) -> cython.int:
    """Give each function its canonical type."""
    own: carray.array = carray.clone(m.func_types, m.num_funcs, False)
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.funcs_at.data)
    i: uint32_t
    m.func_type_ids = own
    m.func_type_id = own.data.as_uints
    for i in range(m.num_funcs):
        if m.func_type[i] >= m.num_types:
            raise ValidationError(f"unknown type {m.func_type[i]}", offsets[i - m.num_imported_funcs])
        own.data.as_uints[i] = m.type_id[m.func_type[i]]
    return 0


@cython.cfunc
def _publish(m: DecodedModule) -> cython.void:
    """Note the addresses and sizes of the arrays, once they don't grow any more."""
    types: carray.array = m.func_types
    starts: carray.array = m.body_starts
    ends: carray.array = m.body_ends
    m.num_funcs = len(types)
    m.num_bodies = len(starts)
    m.func_type = types.data.as_uints
    m.body_start = starts.data.as_uints
    m.body_end = ends.data.as_uints
    m.num_imports = m.import_items.count
    m.import_item = cython.cast(cython.pointer(ImportItem), m.import_items.data)
    m.num_tables = m.table_items.count
    m.table_item = cython.cast(cython.pointer(TableItem), m.table_items.data)
    m.num_globals = m.global_items.count
    m.global_item = cython.cast(cython.pointer(GlobalItem), m.global_items.data)
    m.num_tags = m.tag_items.count
    m.tag_item = cython.cast(cython.pointer(TagItem), m.tag_items.data)
    m.num_exports = m.export_items.count
    m.export_item = cython.cast(cython.pointer(ExportItem), m.export_items.data)
    m.num_elements = m.element_items.count
    m.element_item = cython.cast(cython.pointer(ElementItem), m.element_items.data)
    m.num_data = m.data_items.count
    m.data_item = cython.cast(cython.pointer(DataItem), m.data_items.data)


@cython.ccall
def decode_module(data: bytes) -> DecodedModule:
    """Decode a binary module; for the errors see the module's docstring."""
    m: DecodedModule = DecodedModule.__new__(DecodedModule)
    r = cython.declare(Reader)
    words = cython.declare(Words)
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
    size: cython.Py_ssize_t = PyBytes_GET_SIZE(data)
    memset(cython.address(words), 0, cython.sizeof(Words))
    m.data = data
    if data[:4] != _MAGIC:
        raise CompileError("unexpected end" if size < 4 else "magic header not detected", 0)
    if data[4:8] != _VERSION:
        if data[6:8] == _LAYER_OF_COMPONENTS and data[4:6] != b"\0\0":
            raise UnsupportedError(COMPONENT, 4)
        raise CompileError("unexpected end" if size < 8 else "unknown binary version", 4)
    if size > limits.MAX_MODULE_BYTES:
        raise CompileError(f"module too large: {size} bytes, the limit is {limits.MAX_MODULE_BYTES}", 0)
    read_range(cython.address(r), base, base + 8, base + size)
    try:
        read_sections(m, cython.address(r), cython.address(words))
        if len(m.func_types) - m.num_imported_funcs != len(m.body_starts):
            raise CompileError("function and code section have inconsistent lengths", size)
        if m.data_count is not None and m.data_count != cython.cast(int64_t, m.data_items.count):
            raise CompileError("data count and data section have inconsistent lengths", size)
        _publish(m)
        _canonical_types(m, cython.address(words))
    finally:
        free(words.items)
    _canonicalise(m)
    _canonical_functions(m)
    return m
