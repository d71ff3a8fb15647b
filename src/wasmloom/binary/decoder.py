# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The decoder: bytes → `DecodedModule` (Core 3.0, 5.5).

Sections other than code become small Python objects; function bodies stay ranges of the module's bytes, to be read by
validation and translation. Everything is held with *canonical* types (`wasmloom.spec.canon`), except where an attribute
says "type indices".

`decode_module` raises `CompileError` with the offset of the offending byte when the module is malformed (function
bodies apart), and `ValidationError` when it names a type that doesn't exist. All other conditions of validity are
`wasmloom.validation`'s.
"""

from __future__ import annotations

from array import array

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.reader import (
    Instr,
    Reader,
    malformed,
    next_instr,
    read_byte,
    read_heap,
    read_u32,
    read_u64,
    read_valtype,
)
from cython.cimports.wasmloom.spec.canon import Types

from wasmloom.binary.names import parse_names
from wasmloom.binary.parts import CustomRange, DataSegment, ElementSegment, Expr
from wasmloom.errors import CompileError, UnsupportedError, ValidationError
from wasmloom.spec import limits
from wasmloom.spec.canon import canonical_heap, canonical_type, intern_group
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.spec.module import Code, CustomSection, Data, Element, Export, Global, Import, ModuleSyntax, Names, Table
from wasmloom.spec.types import (
    CONCRETE,
    EXTERN_KINDS,
    FUNCREF,
    I8,
    I16,
    REF_FLAG,
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

_MAGIC = b"\0asm"
_VERSION = b"\1\0\0\0"
_MAX_MODULE_BYTES = 1 << 30

#: Section ids in the order that the sections must have; custom sections (0) go anywhere.
_CUSTOM, _TYPE, _IMPORT, _FUNC, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _START, _ELEM, _CODE, _DATA, _DATA_COUNT, _TAG = (
    range(14)
)
_ORDER: dict[int, int] = {
    id: place
    for place, id in enumerate(
        (
            _TYPE,
            _IMPORT,
            _FUNC,
            _TABLE,
            _MEMORY,
            _TAG,
            _GLOBAL,
            _EXPORT,
            _START,
            _ELEM,
            _DATA_COUNT,
            _CODE,
            _DATA,
        )
    )
}

_OP_END = cython.declare(cython.int, BY_MNEMONIC["end"].index)
_OPENS_BLOCK = cython.declare(bytes, bytes([row.immediates[:1] == ("block",) for row in INSTRUCTIONS]))

#: First bytes of type definitions (Core 3.0, 5.3.7 to 5.3.10; the Explainer of stack switching for `cont`).
_REC, _SUB, _SUB_FINAL, _FUNC_FORM, _STRUCT_FORM, _ARRAY_FORM, _CONT_FORM = 0x4E, 0x50, 0x4F, 0x60, 0x5F, 0x5E, 0x5D


@cython.cfunc
def _count(r: cython.pointer(Reader), limit: cython.Py_ssize_t, what: str) -> cython.Py_ssize_t:
    """Read the length of a vector, at most `limit` items of at least a byte each."""
    start: cython.p_const_uchar = r.pos
    n: cython.Py_ssize_t = read_u32(r)
    if n > limit:
        malformed(f"too many {what}: {n}, the limit is {limit}", r, start)
    if n > r.end - r.pos:
        malformed("unexpected end of section or function", r, r.end)
    return n


@cython.cfunc
def _offset(r: cython.pointer(Reader)) -> cython.Py_ssize_t:
    """Where the reader is, from the start of the module."""
    return r.pos - r.base


@cython.cfunc
def _name(r: cython.pointer(Reader)) -> str:
    """Read a name (Core 3.0, 5.2.4)."""
    start: cython.p_const_uchar = r.pos
    size: cython.Py_ssize_t = read_u32(r)
    if size > r.end - r.pos:
        malformed("length out of bounds", r, start)
    start = r.pos
    r.pos += size
    try:
        return start[:size].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CompileError("malformed UTF-8 encoding", (start - r.base) + error.start) from None


@cython.cfunc
def _ref_type(r: cython.pointer(Reader)) -> object:
    """Read a reference type (Core 3.0, 5.3.4)."""
    start: cython.p_const_uchar = r.pos
    try:
        code: int = read_valtype(r)
    except CompileError as error:
        if error.reason == "malformed value type":
            malformed("malformed reference type", r, start)
        raise
    if not code & REF_FLAG:
        malformed("malformed reference type", r, start)
    return ValType(code)


@cython.cfunc
def _flag(r: cython.pointer(Reader), message: str) -> cython.bint:
    """Read a byte that is 0 or 1."""
    byte: cython.int = read_byte(r)
    if byte > 1:
        malformed(message, r, r.pos - 1)
    return byte == 1


@cython.cfunc
def _val_type(r: cython.pointer(Reader)) -> object:
    """Read a value type as an object."""
    return ValType(read_valtype(r))


@cython.cfunc
def _field_type(r: cython.pointer(Reader)) -> object:
    """Read a field type (Core 3.0, 5.3.8)."""
    if r.pos < r.end and (r.pos[0] == 0x78 or r.pos[0] == 0x77):
        storage = I8 if r.pos[0] == 0x78 else I16
        r.pos += 1
    else:
        storage = _val_type(r)
    return FieldType(storage, _flag(r, "malformed mutability"))


@cython.cfunc
def _result_type(r: cython.pointer(Reader), limit: cython.Py_ssize_t, what: str) -> tuple:
    """Read a vector of value types."""
    return tuple([_val_type(r) for _ in range(_count(r, limit, what))])


@cython.cfunc
def _composite_type(r: cython.pointer(Reader)) -> object:
    """Read a composite type (Core 3.0, 5.3.9; Explainer for continuations)."""
    start: cython.p_const_uchar = r.pos
    form: cython.int = read_byte(r)
    if form == _FUNC_FORM:
        params = _result_type(r, limits.MAX_PARAMS, "parameters")
        return FuncType(params, _result_type(r, limits.MAX_RESULTS, "results"))
    if form == _STRUCT_FORM:
        return StructType(tuple([_field_type(r) for _ in range(_count(r, limits.MAX_STRUCT_FIELDS, "fields"))]))
    if form == _ARRAY_FORM:
        return ArrayType(_field_type(r))
    if form == _CONT_FORM:
        start = r.pos
        heap: int64_t = read_heap(r)
        if heap < CONCRETE:
            malformed("malformed continuation type", r, start)
        return ContType(heap)
    malformed("integer representation too long" if form >= 0x80 else f"malformed type definition {form:02x}", r, start)


@cython.cfunc
def _sub_type(r: cython.pointer(Reader)) -> object:
    """Read a sub type (Core 3.0, 5.3.10)."""
    if r.pos < r.end and (r.pos[0] == _SUB or r.pos[0] == _SUB_FINAL):
        final: cython.bint = r.pos[0] == _SUB_FINAL
        r.pos += 1
        supers = tuple([read_u32(r) for _ in range(_count(r, limits.MAX_TYPES, "supertypes"))])
        return SubType(_composite_type(r), supers, final)
    return SubType(_composite_type(r))


@cython.cfunc
def _limits(r: cython.pointer(Reader), flags: cython.int) -> object:
    """Read the numbers of limits whose flags say whether there is a maximum (Core 3.0, 5.3.11)."""
    low: uint64_t = 0
    high: uint64_t = 0
    read_u64(r, cython.address(low))
    if not flags & 1:
        return Limits(low, None)
    read_u64(r, cython.address(high))
    return Limits(low, high)


@cython.cfunc
def _table_type(r: cython.pointer(Reader)) -> object:
    """Read a table type (Core 3.0, 5.3.14)."""
    element = _ref_type(r)
    flags: cython.int = read_byte(r)
    if flags & ~5:
        malformed("malformed limits flags", r, r.pos - 1)
    return TableType(element, _limits(r, flags), flags & 4 != 0)


@cython.cfunc
def _memory_type(r: cython.pointer(Reader)) -> object:
    """Read a memory type (Core 3.0, 5.3.13; flag 8 is the custom-page-sizes proposal)."""
    flags: cython.int = read_byte(r)
    page_size_log2: int64_t = 16
    if flags & ~15 == 0 and flags & 2:
        raise UnsupportedError("threads is not supported yet: shared memory", _offset(r) - 1)
    if flags & ~13:
        malformed("malformed limits flags", r, r.pos - 1)
    size = _limits(r, flags)
    if flags & 8:
        start: cython.p_const_uchar = r.pos
        page_size_log2 = read_u32(r)
        if page_size_log2 >= 64:
            malformed("invalid custom page size", r, start)
    return MemoryType(size, flags & 4 != 0, False, page_size_log2)


@cython.cfunc
def _global_type(r: cython.pointer(Reader)) -> object:
    """Read a global type (Core 3.0, 5.3.12)."""
    content = _val_type(r)
    return GlobalType(content, _flag(r, "malformed mutability"))


@cython.cfunc
def _tag_type(r: cython.pointer(Reader)) -> object:
    """Read a tag type with its type index (Core 3.0, 5.3.16)."""
    if read_byte(r) != 0:
        malformed("malformed tag attribute", r, r.pos - 1)
    return TagType(read_u32(r))


@cython.cfunc
def _expr(r: cython.pointer(Reader)) -> object:
    """Read an expression up to the `end` that closes it (Core 3.0, 5.4.9)."""
    start: cython.p_const_uchar = r.pos
    instr = cython.declare(Instr)
    depth: cython.Py_ssize_t = 0
    opens: cython.p_const_uchar = _OPENS_BLOCK
    while True:
        next_instr(r, cython.address(instr))
        if instr.op == _OP_END:
            if depth == 0:
                return Expr(start[: r.pos - start], start - r.base)
            depth -= 1
        elif opens[instr.op]:
            depth += 1


@cython.cclass
class DecodedModule:
    """A decoded module. Index spaces put imports first; the attributes' types are in ``decoder.pxd``.

    `types` and `rec_groups` hold type indices; `type_ids` says which canonical type each of `types` is. An `Import`'s
    type is the canonical id for functions. `func_types` has the type index of each function, `func_type_ids` the
    canonical id. The body of function ``num_imported_funcs + i`` (declarations of locals, instructions, `end`) is
    ``data[body_starts[i]:body_ends[i]]``.

    `offsets` says where things are defined, for error messages: one offset per entry of the sections "type", "import",
    "func", "table", "memory", "tag", "global", "export", "start".
    """

    def __cinit__(self) -> None:
        self.rec_groups = []
        self.types = []
        self.type_ids = []
        self.kept = Types()
        self.imports = []
        self.func_types = array("I")
        self.tables = []
        self.table_inits = []
        self.memories = []
        self.tags = []
        self.globals = []
        self.global_inits = []
        self.exports = []
        self.elements = []
        self.data_segments = []
        self.custom_ranges = []
        self.body_starts = array("I")
        self.body_ends = array("I")
        self.offsets = {
            kind: [] for kind in ("type", "import", "func", "table", "memory", "tag", "global", "export", "start")
        }

    @property
    def customs(self) -> list[CustomSection]:
        """The custom sections, the name section included, with copies of their contents."""
        return [CustomSection(c.name, self.data[c.start : c.end], c.after) for c in self.custom_ranges]

    @property
    def names(self) -> Names:
        """The names in the first name section; parsed when first asked for."""
        return self._parsed_names()[0]

    def _parsed_names(self) -> tuple[Names, bool]:
        """The names, and whether the whole name section was well-formed."""
        if self._names is None:
            self._names = Names(), True
            for section in self.custom_ranges:
                if section.name == "name":
                    self._names = parse_names(self.data, section.start, section.end)
                    break
        return self._names

    def syntax(self) -> ModuleSyntax:
        """The abstract syntax of the whole module, with type indices; encoding it gives an equivalent module."""
        out = ModuleSyntax()
        imported = self.num_imported_funcs
        out.rec_groups = list(self.rec_groups)
        out.imports = list(self._indexed["imports"])
        out.funcs = list(self.func_types[imported:])
        out.tables = [
            Table(type, init.code if init is not None else None)
            for type, init in zip(self._indexed["tables"][self.num_imported_tables :], self.table_inits, strict=True)
        ]
        out.memories = self.memories[self.num_imported_memories :]
        out.tags = self._indexed["tags"][self.num_imported_tags :]
        out.globals = [
            Global(type, init.code)
            for type, init in zip(self._indexed["globals"][self.num_imported_globals :], self.global_inits, strict=True)
        ]
        out.exports = list(self.exports)
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
            for e in self._indexed["elements"]
        ]
        out.data = [
            Data(self.data[d.start : d.end], d.mode, d.memory, d.at.code if d.at is not None else None)
            for d in self.data_segments
        ]
        out.has_data_count = self.data_count is not None
        out.code = [self._code(start, end) for start, end in zip(self.body_starts, self.body_ends, strict=True)]
        names, whole = self._parsed_names()
        out.names = names
        out.customs = [custom for custom in self.customs if custom.name != "name" or not whole]
        return out

    def _code(self, start: int, end: int) -> Code:
        """A function body's locals and instructions."""
        r = cython.declare(Reader)
        base: cython.p_const_uchar = self.data
        r.base = base
        r.pos = base + cython.cast(cython.size_t, start)
        r.end = base + cython.cast(cython.size_t, end)
        runs = []
        for _ in range(_count(cython.address(r), limits.MAX_FUNCTION_BYTES, "locals")):
            count: int64_t = read_u32(cython.address(r))
            runs.append((count, _val_type(cython.address(r))))
        return Code(tuple(runs), self.data[r.pos - base : end])


@cython.cfunc
def _type_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_TYPES, "types")):
        start: cython.Py_ssize_t = _offset(r)
        if r.pos < r.end and r.pos[0] == _REC:
            r.pos += 1
            members = []
            for _ in range(_count(r, limits.MAX_TYPES, "types")):
                m.offsets["type"].append(_offset(r))
                members.append(_sub_type(r))
            group = tuple(members)
        else:
            m.offsets["type"].append(start)
            group = (_sub_type(r),)
        m.rec_groups.append(group)
        m.types.extend(group)
    if len(m.types) > limits.MAX_TYPES:
        malformed(f"too many types: {len(m.types)}, the limit is {limits.MAX_TYPES}", r, r.pos)


@cython.cfunc
def _import_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    type: object
    for _ in range(_count(r, limits.MAX_IMPORTS, "imports")):
        m.offsets["import"].append(_offset(r))
        module = _name(r)
        name = _name(r)
        code: cython.int = read_byte(r)
        if code == 0:
            type = read_u32(r)
            m.func_types.append(type)
            m.num_imported_funcs += 1
        elif code == 1:
            type = _table_type(r)
            m.tables.append(type)
            m.num_imported_tables += 1
        elif code == 2:
            type = _memory_type(r)
            m.memories.append(type)
            m.num_imported_memories += 1
        elif code == 3:
            type = _global_type(r)
            m.globals.append(type)
            m.num_imported_globals += 1
        elif code == 4:
            type = _tag_type(r)
            m.tags.append(type)
            m.num_imported_tags += 1
        else:
            malformed("malformed import kind", r, r.pos - 1)
        m.imports.append(Import(module, name, EXTERN_KINDS[code], type))


@cython.cfunc
def _func_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    n: cython.Py_ssize_t = _count(r, limits.MAX_FUNCTIONS, "functions")
    first: cython.Py_ssize_t = len(m.func_types)
    types: carray.array = m.func_types
    offsets: list = m.offsets["func"]
    i: cython.Py_ssize_t
    carray.resize(types, first + n)
    for i in range(n):
        offsets.append(_offset(r))
        types.data.as_uints[first + i] = read_u32(r)


@cython.cfunc
def _table_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_TABLES, "tables")):
        m.offsets["table"].append(_offset(r))
        if r.pos < r.end and r.pos[0] == 0x40:
            r.pos += 1
            if read_byte(r) != 0:
                malformed("malformed table", r, r.pos - 1)
            m.tables.append(_table_type(r))
            m.table_inits.append(_expr(r))
        else:
            m.tables.append(_table_type(r))
            m.table_inits.append(None)


@cython.cfunc
def _memory_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_MEMORIES, "memories")):
        m.offsets["memory"].append(_offset(r))
        m.memories.append(_memory_type(r))


@cython.cfunc
def _tag_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_TAGS, "tags")):
        m.offsets["tag"].append(_offset(r))
        m.tags.append(_tag_type(r))


@cython.cfunc
def _global_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_GLOBALS, "globals")):
        m.offsets["global"].append(_offset(r))
        m.globals.append(_global_type(r))
        m.global_inits.append(_expr(r))


@cython.cfunc
def _export_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    for _ in range(_count(r, limits.MAX_EXPORTS, "exports")):
        m.offsets["export"].append(_offset(r))
        name = _name(r)
        kind: cython.int = read_byte(r)
        if kind >= len(EXTERN_KINDS):
            malformed("malformed export kind", r, r.pos - 1)
        m.exports.append(Export(name, EXTERN_KINDS[kind], read_u32(r)))


@cython.cfunc
def _start_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    m.offsets["start"].append(_offset(r))
    m.start = read_u32(r)


@cython.cfunc
def _func_indices(r: cython.pointer(Reader)) -> object:
    """Read a vector of function indices."""
    n: cython.Py_ssize_t = _count(r, limits.MAX_TABLE_ELEMENTS, "elements")
    i: cython.Py_ssize_t
    found: carray.array = array("I")
    carray.resize(found, n)
    for i in range(n):
        found.data.as_uints[i] = read_u32(r)
    return found


@cython.cfunc
def _elem_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    """Read element segments; bit 0 of the flags: not active, 1: table given or declarative, 2: expressions."""
    table: int64_t
    for _ in range(_count(r, limits.MAX_ELEMENT_SEGMENTS, "element segments")):
        start: cython.Py_ssize_t = _offset(r)
        flags: int64_t = read_u32(r)
        if flags > 7:
            malformed("malformed elements segment kind", r, r.base + start)
        mode = ("declarative" if flags & 2 else "passive") if flags & 1 else "active"
        table = read_u32(r) if flags & 3 == 2 else 0
        at = None if flags & 1 else _expr(r)
        type = FUNCREF if flags & 4 else ref_type(FUNCREF.heap, False)
        if flags & 3:
            if flags & 4:
                type = _ref_type(r)
            elif read_byte(r) != 0:
                malformed("malformed element kind", r, r.pos - 1)
        exprs = None
        if flags & 4:
            exprs = tuple([_expr(r) for _ in range(_count(r, limits.MAX_TABLE_ELEMENTS, "elements"))])
        funcs = array("I") if flags & 4 else _func_indices(r)
        m.elements.append(ElementSegment(type, mode, funcs, exprs, table, at, start))


@cython.cfunc
def _data_count_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    m.data_count = read_u32(r)


@cython.cfunc
def _code_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    """Note where the bodies are."""
    n: cython.Py_ssize_t = _count(r, limits.MAX_FUNCTIONS, "functions")
    starts: carray.array = m.body_starts
    ends: carray.array = m.body_ends
    size: int64_t
    i: cython.Py_ssize_t
    at: cython.p_const_uchar
    carray.resize(starts, n)
    carray.resize(ends, n)
    for i in range(n):
        at = r.pos
        size = read_u32(r)
        if size > limits.MAX_FUNCTION_BYTES:
            malformed(f"function body too large: {size} bytes, the limit is {limits.MAX_FUNCTION_BYTES}", r, at)
        if size > r.end - r.pos:
            malformed("unexpected end of section or function", r, r.end)
        starts.data.as_uints[i] = r.pos - r.base
        r.pos += size
        ends.data.as_uints[i] = r.pos - r.base


@cython.cfunc
def _data_section(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    memory: int64_t
    size: int64_t
    for _ in range(_count(r, limits.MAX_DATA_SEGMENTS, "data segments")):
        start: cython.Py_ssize_t = _offset(r)
        flags: int64_t = read_u32(r)
        if flags > 2:
            malformed("malformed data segment kind", r, r.base + start)
        memory = read_u32(r) if flags == 2 else 0
        at = None if flags == 1 else _expr(r)
        size = read_u32(r)
        if size > r.end - r.pos:
            malformed("unexpected end of section or function", r, r.end)
        begin: cython.Py_ssize_t = _offset(r)
        r.pos += size
        m.data_segments.append(
            DataSegment("passive" if flags == 1 else "active", begin, begin + size, memory, at, start)
        )


@cython.cfunc
def _section(m: DecodedModule, id: cython.int, r: cython.pointer(Reader)) -> cython.void:
    """Decode the contents of a known section."""
    if id == _TYPE:
        _type_section(m, r)
    elif id == _IMPORT:
        _import_section(m, r)
    elif id == _FUNC:
        _func_section(m, r)
    elif id == _TABLE:
        _table_section(m, r)
    elif id == _MEMORY:
        _memory_section(m, r)
    elif id == _TAG:
        _tag_section(m, r)
    elif id == _GLOBAL:
        _global_section(m, r)
    elif id == _EXPORT:
        _export_section(m, r)
    elif id == _START:
        _start_section(m, r)
    elif id == _ELEM:
        _elem_section(m, r)
    elif id == _DATA_COUNT:
        _data_count_section(m, r)
    elif id == _CODE:
        _code_section(m, r)
    else:
        _data_section(m, r)


@cython.cfunc
def _sections(m: DecodedModule, r: cython.pointer(Reader)) -> cython.void:
    """Decode all sections (Core 3.0, 5.5.2)."""
    last: cython.int = 0
    place: cython.int = -1
    section = cython.declare(Reader)
    section.base = r.base
    while r.pos < r.end:
        start: cython.p_const_uchar = r.pos
        id: cython.int = read_byte(r)
        if id != _CUSTOM and id not in _ORDER:
            malformed("malformed section id", r, start)
        size: int64_t = read_u32(r)
        if size > r.end - r.pos:
            malformed("length out of bounds", r, start + 1)
        section.pos = r.pos
        r.pos += size
        section.end = r.pos
        if id == _CUSTOM:
            name = _name(cython.address(section))
            m.custom_ranges.append(CustomRange(name, section.pos - r.base, section.end - r.base, last))
            continue
        if _ORDER[id] <= place:
            malformed("unexpected content after last section", r, start)
        place = _ORDER[id]
        last = id
        _section(m, id, cython.address(section))
        if section.pos != section.end:
            malformed("section size mismatch", r, section.pos)


@cython.cfunc
def _canonicalise(m: DecodedModule) -> cython.void:
    """Replace type indices by canonical ids; a type index that is out of range is a `ValidationError`."""
    for group in m.rec_groups:
        first = len(m.type_ids)
        m.type_ids.extend(intern_group(group, m.type_ids, m.kept, m.offsets["type"][first : first + len(group)]))
    ids = m.type_ids
    m._indexed = {
        "imports": m.imports,
        "tables": m.tables,
        "globals": m.globals,
        "tags": m.tags,
        "elements": m.elements,
    }
    imports = []
    for entry, offset in zip(m.imports, m.offsets["import"], strict=True):
        try:
            imports.append(entry._replace(type=_canonical_extern(entry.type, ids)))
        except ValidationError as error:
            raise ValidationError(error.reason, offset) from None
    m.imports = imports
    m.tables = _canonical_list(m, "table", m.tables, m.num_imported_tables, ids)
    m.globals = _canonical_list(m, "global", m.globals, m.num_imported_globals, ids)
    m.tags = _canonical_list(m, "tag", m.tags, m.num_imported_tags, ids)
    elements = []
    for segment in m.elements:
        try:
            elements.append(segment._replace(type=canonical_type(segment.type, ids)))
        except ValidationError as error:
            raise ValidationError(error.reason, segment.offset) from None
    m.elements = elements


@cython.cfunc
def _canonical_extern(type: object, ids: list) -> object:
    """An extern type with its type indices replaced by canonical ids."""
    if isinstance(type, TableType):
        return type._replace(element=canonical_type(type.element, ids))
    if isinstance(type, GlobalType):
        return type._replace(content=canonical_type(type.content, ids))
    if isinstance(type, TagType):
        return TagType(canonical_heap(CONCRETE + type.type, ids) - CONCRETE)
    if isinstance(type, MemoryType):
        return type
    return canonical_heap(CONCRETE + type, ids) - CONCRETE


@cython.cfunc
def _canonical_list(m: DecodedModule, kind: str, types: list, imported: cython.int, ids: list) -> list:
    """An index space with canonical types; the imported part was checked with the imports."""
    i: cython.Py_ssize_t
    found = []
    for i in range(len(types)):
        try:
            found.append(_canonical_extern(types[i], ids))
        except ValidationError as error:
            raise ValidationError(error.reason, m.offsets[kind][i - imported]) from None
    return found


@cython.cfunc
def _finish_functions(m: DecodedModule) -> cython.void:
    """Give each function its canonical type, and publish the arrays' items to compiled code."""
    types: carray.array = m.func_types
    starts: carray.array = m.body_starts
    ends: carray.array = m.body_ends
    ids: carray.array = array("I", m.type_ids)
    n: cython.Py_ssize_t = len(types)
    own: carray.array = carray.clone(types, n, False)
    i: cython.Py_ssize_t
    index: uint32_t
    for i in range(n):
        index = types.data.as_uints[i]
        if index >= cython.cast(uint32_t, len(ids)):
            raise ValidationError(f"unknown type {index}", m.offsets["func"][i - m.num_imported_funcs])
        own.data.as_uints[i] = ids.data.as_uints[index]
    m.func_type_ids = own
    m.num_funcs = n
    m.num_bodies = len(starts)
    m.func_type = types.data.as_uints
    m.func_type_id = own.data.as_uints
    m.body_start = starts.data.as_uints
    m.body_end = ends.data.as_uints


@cython.ccall
def decode_module(data: bytes) -> DecodedModule:
    """Decode a binary module; raises `CompileError` when it is malformed, see the module's text."""
    m: DecodedModule = DecodedModule()
    r = cython.declare(Reader)
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(data))
    size: cython.Py_ssize_t = PyBytes_GET_SIZE(data)
    m.data = data
    if data[:4] != _MAGIC:
        raise CompileError("unexpected end" if size < 4 else "magic header not detected", 0)
    if data[4:8] != _VERSION:
        raise CompileError("unexpected end" if size < 8 else "unknown binary version", 4)
    if size > _MAX_MODULE_BYTES:
        raise CompileError(f"module too large: {size} bytes, the limit is {_MAX_MODULE_BYTES}", 0)
    r.base = base
    r.pos = base + 8
    r.end = base + size
    _sections(m, cython.address(r))
    if len(m.func_types) - m.num_imported_funcs != len(m.body_starts):
        raise CompileError("function and code section have inconsistent lengths", size)
    if m.data_count is not None and m.data_count != len(m.data_segments):
        raise CompileError("data count and data section have inconsistent lengths", size)
    _canonicalise(m)
    _finish_functions(m)
    return m
