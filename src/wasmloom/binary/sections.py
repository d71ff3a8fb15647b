# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The sections of a module other than code, read into C arrays (Core 3.0, 5.5).

An entry costs a C struct (``sections.pxd``) and no Python object, so even a module with a million entries is read about
as fast as its bytes. Names and expressions stay ranges of those bytes. Python objects are made on request
(`wasmloom.binary.decoder`).

A count is compared with its limit, and with the bytes that are left, before memory is allocated for it. `read_u32`
polls, and so do loops whose entries don't use it, so Ctrl-C ends a decoding.
"""

from __future__ import annotations

from array import array

import cython
from cython.cimports.cpython import array as carray
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.wasmloom.binary.reader import (
    Instr,
    Reader,
    malformed,
    next_instr,
    read_byte,
    read_heap,
    read_range,
    read_u32,
    read_u64,
    read_valtype,
)
from cython.cimports.wasmloom.binary.sections import (
    ACTIVE,
    DECLARATIVE,
    PASSIVE,
    CustomItem,
    DataItem,
    ElementItem,
    ExportItem,
    GlobalItem,
    ImportItem,
    Items,
    Range,
    TableItem,
    TagItem,
)
from cython.cimports.wasmloom.spec.canon import ARRAY, CONT, FUNC, MUTABLE, STRUCT, Words, put
from cython.cimports.wasmloom.system.allocation import realloc
from cython.cimports.wasmloom.system.polling import poll

from wasmloom.errors import CompileError
from wasmloom.spec import limits
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS
from wasmloom.spec.types import (
    CONCRETE,
    EXTERN_KINDS,
    FUNCREF,
    REF_FLAG,
    Limits,
    MemoryType,
    ref_type,
)

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
_OP_DELEGATE = cython.declare(cython.int, BY_MNEMONIC["delegate"].index)
_OPENS_BLOCK = cython.declare(bytes, bytes([row.immediates[:1] == ("block",) for row in INSTRUCTIONS]))

#: First bytes of type definitions (Core 3.0, 5.3.7 to 5.3.10; the Explainer of stack switching for `cont`).
_REC, _SUB, _SUB_FINAL, _FUNC_FORM, _STRUCT_FORM, _ARRAY_FORM, _CONT_FORM = 0x4E, 0x50, 0x4F, 0x60, 0x5F, 0x5E, 0x5D
#: … and of clauses (custom descriptors).
_DESCRIBES, _DESCRIPTOR = 0x4C, 0x4D


_FUNCREF = cython.declare(uint64_t, FUNCREF)
_FUNC_REF = cython.declare(uint64_t, ref_type(FUNCREF.heap, False))
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_N_KINDS = cython.declare(cython.int, len(EXTERN_KINDS))

_MAX_EXPR_BYTES = cython.declare(cython.Py_ssize_t, limits.MAX_FUNCTION_BYTES)
_MAX_IMPORTS = cython.declare(cython.size_t, limits.MAX_IMPORTS)

#: In the place of an import's kind, behind an empty name: what follows are imports from the module, each with name and
#: type; or a type and the names of the imports that have it.
_EACH = cython.declare(cython.int, 0x7F)
_ALIKE = cython.declare(cython.int, 0x7E)
#: The kind of an import of a function with exactly a type (custom descriptors).
_EXACT_FUNC = cython.declare(cython.int, 0x20)


@cython.cfunc
@cython.exceptval(check=True)
def _reserve(items: cython.pointer(Items), count: cython.size_t, size: cython.size_t) -> cython.p_char:
    """Make room for `count` more items of `size` bytes, which aren't counted yet. Returns where they begin."""
    grown: cython.p_char
    room: cython.size_t
    if items.room - items.count < count:
        room = items.count + count
        if items.room and room < 2 * items.room:
            room = 2 * items.room
        grown = cython.cast(cython.p_char, realloc(items.data, room * size + 1))
        if grown == cython.NULL:
            raise MemoryError
        items.data = grown
        items.room = room
    return items.data + items.count * size


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
@cython.exceptval(check=False)
def _offset(r: cython.pointer(Reader)) -> uint32_t:
    """Where the reader is, from the start of the module: below 2**30, which is the limit for modules."""
    return r.pos - r.base


@cython.cfunc
@cython.exceptval(-1, check=False)
def _name(r: cython.pointer(Reader), out: cython.pointer(Range)) -> cython.int:
    """Read a name (Core 3.0, 5.2.4) and note where its bytes are."""
    start: cython.p_const_uchar = r.pos
    size: cython.Py_ssize_t = read_u32(r)
    i: cython.Py_ssize_t = 0
    if size > r.end - r.pos:
        malformed("length out of bounds", r, start)
    start = r.pos
    r.pos += size
    out.start = start - r.base
    out.end = r.pos - r.base
    while i < size and start[i] < 0x80:
        i += 1
    if i < size:
        try:
            start[:size].decode("utf-8")
        except UnicodeDecodeError as error:
            raise CompileError("malformed UTF-8 encoding", (start - r.base) + error.start) from None
    return 0


@cython.cfunc
@cython.exceptval(0)
def _ref_type(r: cython.pointer(Reader)) -> uint64_t:
    """Read a reference type (Core 3.0, 5.3.4)."""
    start: cython.p_const_uchar = r.pos
    code: uint64_t = 0
    try:
        code = read_valtype(r)
    except CompileError as error:
        if error.reason == "malformed value type":
            malformed("malformed reference type", r, start)
        raise
    if not code & _REF_FLAG:
        malformed("malformed reference type", r, start)
    return code


@cython.cfunc
@cython.exceptval(-1, check=False)
def _flag(r: cython.pointer(Reader), message: str) -> cython.int:
    """Read a byte that is 0 or 1."""
    byte: cython.int = read_byte(r)
    if byte > 1:
        malformed(message, r, r.pos - 1)
    return byte == 1


@cython.cfunc
@cython.exceptval(0)
def _field_type(r: cython.pointer(Reader)) -> uint64_t:
    """Read a field type (Core 3.0, 5.3.8) as a word of a group."""
    storage: uint64_t
    if r.pos < r.end and (r.pos[0] == 0x78 or r.pos[0] == 0x77):
        storage = r.pos[0]
        r.pos += 1
    else:
        storage = read_valtype(r)
    return storage | (MUTABLE if _flag(r, "malformed mutability") else 0)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _value_types(
    r: cython.pointer(Reader), words: cython.pointer(Words), limit: cython.Py_ssize_t, what: str
) -> int64_t:
    """Read a vector of value types as words; returns their number."""
    n: cython.Py_ssize_t = _count(r, limit, what)
    for _ in range(n):
        put(words, read_valtype(r))
    return n


@cython.cfunc
@cython.exceptval(-1, check=False)
def _composite_type(r: cython.pointer(Reader), words: cython.pointer(Words), head: cython.size_t) -> cython.int:
    """Read a composite type (Core 3.0, 5.3.9; Explainer for continuations) of the member that begins at `head`."""
    start: cython.p_const_uchar = r.pos
    form: cython.int = read_byte(r)
    kind: cython.int = FUNC
    n: int64_t = 1
    n_results: int64_t = 0
    heap: int64_t
    if form == _FUNC_FORM:
        n = _value_types(r, words, limits.MAX_PARAMS, "parameters")
        n_results = _value_types(r, words, limits.MAX_RESULTS, "results")
    elif form == _STRUCT_FORM:
        kind = STRUCT
        n = _count(r, limits.MAX_STRUCT_FIELDS, "fields")
        for _ in range(n):
            put(words, _field_type(r))
    elif form == _ARRAY_FORM:
        kind = ARRAY
        put(words, _field_type(r))
    elif form == _CONT_FORM:
        kind = CONT
        start = r.pos
        heap = read_heap(r)
        if heap < CONCRETE:
            malformed("malformed continuation type", r, start)
        n = 0
        put(words, heap - CONCRETE)
    else:
        malformed(
            "integer representation too long" if form >= 0x80 else f"malformed type definition {form:02x}", r, start
        )
    words.items[head] |= kind
    words.items[head + 2] = n | cython.cast(uint64_t, n_results) << 32
    return 0


@cython.cfunc
@cython.exceptval(0)
def _clause(r: cython.pointer(Reader)) -> uint64_t:
    """Read a clause's type index, and add 1. Those that no module has are the same."""
    return min(cython.cast(uint64_t, read_u32(r)), cython.cast(uint64_t, limits.MAX_TYPES)) + 1


@cython.cfunc
@cython.exceptval(-1, check=False)
def _sub_type(r: cython.pointer(Reader), words: cython.pointer(Words)) -> cython.int:
    """Read a sub type (Core 3.0, 5.3.10) as the words of a group's member, with type indices.

    Of several supertypes, which aren't valid, it keeps the largest and adds 1024 to the first word.
    """
    head: cython.size_t = words.count
    n: cython.Py_ssize_t
    above: uint64_t
    put(words, 256)
    put(words, 0)
    put(words, 0)
    put(words, 0)
    if r.pos < r.end and (r.pos[0] == _SUB or r.pos[0] == _SUB_FINAL):
        if r.pos[0] == _SUB:
            words.items[head] = 0
        r.pos += 1
        n = _count(r, limits.MAX_TYPES, "supertypes")
        if n > 0:
            words.items[head] |= 512
        if n > 1:
            words.items[head] |= 1024
        for _ in range(n):
            above = read_u32(r)
            if above > words.items[head + 1]:
                words.items[head + 1] = above
    if r.pos < r.end and r.pos[0] == _DESCRIBES:
        r.pos += 1
        words.items[head + 3] = _clause(r) << 32
    if r.pos < r.end and r.pos[0] == _DESCRIPTOR:
        r.pos += 1
        words.items[head + 3] |= _clause(r)
    return _composite_type(r, words, head)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _limits(
    r: cython.pointer(Reader), flags: cython.int, low: cython.pointer(uint64_t), high: cython.pointer(uint64_t)
) -> cython.int:
    """Read the numbers of limits whose flags say whether there is a maximum (Core 3.0, 5.3.11)."""
    read_u64(r, low)
    high[0] = 0
    if flags & 1:
        read_u64(r, high)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _table_type(r: cython.pointer(Reader), out: cython.pointer(TableItem)) -> cython.int:
    """Read a table type (Core 3.0, 5.3.14)."""
    flags: cython.int
    out.indexed = _ref_type(r)
    flags = read_byte(r)
    if flags & ~5:
        malformed("malformed limits flags", r, r.pos - 1)
    out.bounded = flags & 1
    out.is64 = flags & 4 != 0
    return _limits(r, flags, cython.address(out.min), cython.address(out.max))


@cython.cfunc
def _memory_type(r: cython.pointer(Reader)) -> object:
    """Read a memory type (Core 3.0, 5.3.13; flag 2 is the threads proposal, flag 8 that for custom page sizes)."""
    flags: cython.int = read_byte(r)
    page_size_log2: int64_t = 16
    low: uint64_t = 0
    high: uint64_t = 0
    if flags & ~15:
        malformed("malformed limits flags", r, r.pos - 1)
    _limits(r, flags, cython.address(low), cython.address(high))
    if flags & 8:
        start: cython.p_const_uchar = r.pos
        page_size_log2 = read_u32(r)
        if page_size_log2 >= 64:
            malformed("invalid custom page size", r, start)
    return MemoryType(Limits(low, high if flags & 1 else None), flags & 4 != 0, flags & 2 != 0, page_size_log2)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _global_type(r: cython.pointer(Reader), out: cython.pointer(GlobalItem)) -> cython.int:
    """Read a global type (Core 3.0, 5.3.12)."""
    out.indexed = read_valtype(r)
    out.mutable = _flag(r, "malformed mutability")
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _tag_type(r: cython.pointer(Reader), out: cython.pointer(TagItem)) -> cython.int:
    """Read a tag type with its type index (Core 3.0, 5.3.16)."""
    if read_byte(r) != 0:
        malformed("malformed tag attribute", r, r.pos - 1)
    out.type = read_u32(r)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def skip_expr(r: cython.pointer(Reader), out: cython.pointer(Range)) -> cython.int:
    """Read an expression up to the `end` that closes it (Core 3.0, 5.4.9), and note where it is."""
    start: cython.p_const_uchar = r.pos
    instr = cython.declare(Instr)
    depth: cython.Py_ssize_t = 0
    opens: cython.p_const_uchar = _OPENS_BLOCK
    while True:
        next_instr(r, cython.address(instr))
        if instr.op == _OP_END:
            if depth == 0:
                break
            depth -= 1
        elif instr.op == _OP_DELEGATE:
            depth = max(depth - 1, 0)
        elif opens[instr.op]:
            depth += 1
    if r.pos - start > _MAX_EXPR_BYTES:
        malformed(f"expression too large: {r.pos - start} bytes, the limit is {_MAX_EXPR_BYTES}", r, start)
    out.start = start - r.base
    out.end = r.pos - r.base
    return 0


@cython.no_gc
@cython.cclass
class Sections:
    """A module's sections in C; the arrays are described in ``sections.pxd``. Index spaces put imports first."""

    def __cinit__(self) -> None:
        self.func_types = array("I")
        self.memories = []
        self.memory_offsets = []
        self.import_groups = []
        self.body_starts = array("I")
        self.body_ends = array("I")
        self.duplicate_export = -1

    def __dealloc__(self) -> None:
        free(self.types_at.data)
        free(self.groups.data)
        free(self.import_items.data)
        free(self.funcs_at.data)
        free(self.table_items.data)
        free(self.tag_items.data)
        free(self.global_items.data)
        free(self.export_items.data)
        free(self.element_items.data)
        free(self.data_items.data)
        free(self.custom_items.data)

    @cython.cfunc
    def text(self, where: Range) -> str:
        """A name, which is known to be UTF-8."""
        data: bytes = self.data
        start: cython.p_char = data
        return (start + where.start)[: where.end - where.start].decode("utf-8")


@cython.cfunc
@cython.exceptval(-1, check=False)
def read_types(m: Sections, r: cython.pointer(Reader), words: cython.pointer(Words)) -> cython.int:
    """Read the type section into words, with type indices, and note where they are and how many each group has."""
    group: cython.Py_ssize_t
    n: cython.Py_ssize_t
    i: cython.Py_ssize_t
    start: cython.p_const_uchar
    m.type_range.start = _offset(r)
    n = _count(r, limits.MAX_TYPES, "types")
    _reserve(cython.address(m.groups), n, cython.sizeof(uint32_t))
    for i in range(n):
        poll()
        start = r.pos
        group = 1
        is_group: cython.bint = r.pos < r.end and r.pos[0] == _REC
        if is_group:
            r.pos += 1
            group = _count(r, limits.MAX_TYPES, "types")
        if m.types_at.count + group > cython.cast(cython.size_t, limits.MAX_TYPES):
            malformed(f"too many types: {m.types_at.count + group}, the limit is {limits.MAX_TYPES}", r, start)
        _reserve(cython.address(m.types_at), group, cython.sizeof(uint32_t))
        for _ in range(group):
            poll()
            cython.cast(cython.pointer(uint32_t), m.types_at.data)[m.types_at.count] = _offset(r)
            m.types_at.count += 1
            _sub_type(r, words)
        cython.cast(cython.pointer(uint32_t), m.groups.data)[i] = group
        m.groups.count += 1
    m.type_range.end = _offset(r)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _add_import(
    m: Sections, r: cython.pointer(Reader), offset: uint32_t, module: Range, name: Range, code: cython.int
) -> cython.int:
    """Read the type of an import of a kind, and add the import."""
    item: cython.pointer(ImportItem)
    table: cython.pointer(TableItem)
    entry: cython.pointer(GlobalItem)
    tag: cython.pointer(TagItem)
    types: carray.array = m.func_types
    if m.import_items.count >= _MAX_IMPORTS:
        malformed(f"too many imports: the limit is {limits.MAX_IMPORTS}", r, r.base + offset)
    item = cython.cast(
        cython.pointer(ImportItem), _reserve(cython.address(m.import_items), 1, cython.sizeof(ImportItem))
    )
    item.offset = offset
    item.module = module
    item.name = name
    item.exact = code == _EXACT_FUNC
    if item.exact:
        code = 0
    item.kind = code
    if code == 0:
        item.index = m.num_imported_funcs
        carray.resize_smart(types, item.index + 1)
        types.data.as_uints[item.index] = read_u32(r)
        m.num_imported_funcs += 1
    elif code == 1:
        table = cython.cast(
            cython.pointer(TableItem), _reserve(cython.address(m.table_items), 1, cython.sizeof(TableItem))
        )
        table.offset = offset
        table.init.start = table.init.end = 0
        _table_type(r, table)
        item.index = m.num_imported_tables
        m.num_imported_tables += 1
        m.table_items.count += 1
    elif code == 2:
        if len(m.memories) >= limits.MAX_MEMORIES:
            malformed(f"too many memories: the limit is {limits.MAX_MEMORIES}", r, r.base + offset)
        item.index = m.num_imported_memories
        m.memories.append(_memory_type(r))
        m.memory_offsets.append(offset)
        m.num_imported_memories += 1
    elif code == 3:
        entry = cython.cast(
            cython.pointer(GlobalItem), _reserve(cython.address(m.global_items), 1, cython.sizeof(GlobalItem))
        )
        entry.offset = offset
        entry.init.start = entry.init.end = 0
        _global_type(r, entry)
        item.index = m.num_imported_globals
        m.num_imported_globals += 1
        m.global_items.count += 1
    elif code == 4:
        tag = cython.cast(cython.pointer(TagItem), _reserve(cython.address(m.tag_items), 1, cython.sizeof(TagItem)))
        tag.offset = offset
        _tag_type(r, tag)
        item.index = m.num_imported_tags
        m.num_imported_tags += 1
        m.tag_items.count += 1
    else:
        malformed("malformed import kind", r, r.pos - 1)
    m.import_items.count += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _import_group(m: Sections, r: cython.pointer(Reader), module: Range, alike: cython.bint) -> cython.int:
    """Read several imports from one module: each with its type, or (`alike`) behind the type of all."""
    first: cython.size_t = m.import_items.count
    n: cython.Py_ssize_t
    offset: uint32_t
    code: cython.int = 0
    name = cython.declare(Range)
    type = cython.declare(Reader)
    again = cython.declare(Reader)
    if alike:
        code = read_byte(r)
        type = r[0]
        name.start = name.end = 0
        # What is read here isn't kept: the type may be of no import.
        _add_import(Sections(), r, _offset(r), module, name, code)
    n = _count(r, limits.MAX_IMPORTS, "imports")
    for _ in range(n):
        poll()
        offset = _offset(r)
        _name(r, cython.address(name))
        if alike:
            again = type
            _add_import(m, cython.address(again), offset, module, name, code)
        else:
            code = read_byte(r)
            _add_import(m, r, offset, module, name, code)
    if n:
        m.import_groups.append((first, n, alike))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _import_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    """Read the imports (Core 3.0, 5.5.5, and the compact import section proposal)."""
    n: cython.Py_ssize_t = _count(r, limits.MAX_IMPORTS, "imports")
    offset: uint32_t
    code: cython.int
    module = cython.declare(Range)
    name = cython.declare(Range)
    types: carray.array = m.func_types
    for _ in range(n):
        poll()
        offset = _offset(r)
        _name(r, cython.address(module))
        _name(r, cython.address(name))
        code = read_byte(r)
        if name.start == name.end and (code == _EACH or code == _ALIKE):
            _import_group(m, r, module, code == _ALIKE)
        else:
            _add_import(m, r, offset, module, name, code)
    carray.resize(types, m.num_imported_funcs)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _func_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_FUNCTIONS, "functions")
    first: cython.Py_ssize_t = len(m.func_types)
    types: carray.array = m.func_types
    offsets: cython.pointer(uint32_t) = cython.cast(
        cython.pointer(uint32_t), _reserve(cython.address(m.funcs_at), n, cython.sizeof(uint32_t))
    )
    i: cython.Py_ssize_t
    carray.resize(types, first + n)
    for i in range(n):
        offsets[i] = _offset(r)
        types.data.as_uints[first + i] = read_u32(r)
    m.funcs_at.count = n
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _table_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_TABLES, "tables")
    item: cython.pointer(TableItem) = cython.cast(
        cython.pointer(TableItem), _reserve(cython.address(m.table_items), n, cython.sizeof(TableItem))
    )
    for _ in range(n):
        poll()
        item.offset = _offset(r)
        item.init.start = item.init.end = 0
        if r.pos < r.end and r.pos[0] == 0x40:
            r.pos += 1
            if read_byte(r) != 0:
                malformed("malformed table", r, r.pos - 1)
            _table_type(r, item)
            skip_expr(r, cython.address(item.init))
        else:
            _table_type(r, item)
        m.table_items.count += 1
        item += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _memory_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    for _ in range(_count(r, limits.MAX_MEMORIES, "memories")):
        m.memory_offsets.append(_offset(r))
        m.memories.append(_memory_type(r))
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _tag_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_TAGS, "tags")
    item: cython.pointer(TagItem) = cython.cast(
        cython.pointer(TagItem), _reserve(cython.address(m.tag_items), n, cython.sizeof(TagItem))
    )
    for _ in range(n):
        poll()
        item.offset = _offset(r)
        _tag_type(r, item)
        m.tag_items.count += 1
        item += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _global_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_GLOBALS, "globals")
    item: cython.pointer(GlobalItem) = cython.cast(
        cython.pointer(GlobalItem), _reserve(cython.address(m.global_items), n, cython.sizeof(GlobalItem))
    )
    for _ in range(n):
        poll()
        item.offset = _offset(r)
        _global_type(r, item)
        skip_expr(r, cython.address(item.init))
        m.global_items.count += 1
        item += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _export_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_EXPORTS, "exports")
    i: cython.Py_ssize_t
    names: dict = {}
    item: cython.pointer(ExportItem) = cython.cast(
        cython.pointer(ExportItem), _reserve(cython.address(m.export_items), n, cython.sizeof(ExportItem))
    )
    for i in range(n):
        poll()
        item.offset = _offset(r)
        _name(r, cython.address(item.name))
        item.kind = read_byte(r)
        if item.kind >= _N_KINDS:
            malformed("malformed export kind", r, r.pos - 1)
        item.index = read_u32(r)
        names[m.text(item.name)] = i
        if len(names) <= i and m.duplicate_export < 0:
            m.duplicate_export = i
        m.export_items.count += 1
        item += 1
    m.export_names = names
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _start_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    m.start_offset = _offset(r)
    m.start = read_u32(r)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _elem_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    """Read element segments; bit 0 of the flags: not active, 1: table given or declarative, 2: expressions."""
    n: cython.Py_ssize_t = _count(r, limits.MAX_ELEMENT_SEGMENTS, "element segments")
    flags: int64_t
    skipped = cython.declare(Range)
    item: cython.pointer(ElementItem)
    for _ in range(n):
        poll()
        item = cython.cast(
            cython.pointer(ElementItem), _reserve(cython.address(m.element_items), 1, cython.sizeof(ElementItem))
        )
        item.offset = _offset(r)
        flags = read_u32(r)
        if flags > 7:
            malformed("malformed elements segment kind", r, r.base + item.offset)
        item.mode = ACTIVE
        if flags & 1:
            item.mode = DECLARATIVE if flags & 2 else PASSIVE
        item.table = read_u32(r) if flags & 3 == 2 else 0
        item.at.start = item.at.end = 0
        if not flags & 1:
            skip_expr(r, cython.address(item.at))
        item.has_exprs = flags & 4 != 0
        item.indexed = _FUNCREF if item.has_exprs else _FUNC_REF
        if flags & 3:
            if item.has_exprs:
                item.indexed = _ref_type(r)
            elif read_byte(r) != 0:
                malformed("malformed element kind", r, r.pos - 1)
        item.count = _count(r, limits.MAX_TABLE_ELEMENTS, "elements")
        item.items.start = _offset(r)
        if item.has_exprs:
            for _ in range(item.count):
                poll()
                skip_expr(r, cython.address(skipped))
        else:
            for _ in range(item.count):
                read_u32(r)
        item.items.end = _offset(r)
        m.element_items.count += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _data_count_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    m.data_count = read_u32(r)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _code_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
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
        poll()
        at = r.pos
        size = read_u32(r)
        if size > limits.MAX_FUNCTION_BYTES:
            malformed(f"function body too large: {size} bytes, the limit is {limits.MAX_FUNCTION_BYTES}", r, at)
        if size > r.end - r.pos:
            malformed("unexpected end of section or function", r, r.end)
        starts.data.as_uints[i] = r.pos - r.base
        r.pos += size
        ends.data.as_uints[i] = r.pos - r.base
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _data_section(m: Sections, r: cython.pointer(Reader)) -> cython.int:
    n: cython.Py_ssize_t = _count(r, limits.MAX_DATA_SEGMENTS, "data segments")
    flags: int64_t
    size: int64_t
    item: cython.pointer(DataItem) = cython.cast(
        cython.pointer(DataItem), _reserve(cython.address(m.data_items), n, cython.sizeof(DataItem))
    )
    for _ in range(n):
        poll()
        item.offset = _offset(r)
        flags = read_u32(r)
        if flags > 2:
            malformed("malformed data segment kind", r, r.base + item.offset)
        item.mode = PASSIVE if flags == 1 else ACTIVE
        item.memory = read_u32(r) if flags == 2 else 0
        item.at.start = item.at.end = 0
        if flags != 1:
            skip_expr(r, cython.address(item.at))
        size = read_u32(r)
        if size > r.end - r.pos:
            malformed("unexpected end of section or function", r, r.end)
        item.contents.start = _offset(r)
        r.pos += size
        item.contents.end = _offset(r)
        m.data_items.count += 1
        item += 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _section(m: Sections, id: cython.int, r: cython.pointer(Reader), words: cython.pointer(Words)) -> cython.int:
    """Decode the contents of a known section."""
    if id == _TYPE:
        return read_types(m, r, words)
    if id == _IMPORT:
        return _import_section(m, r)
    if id == _FUNC:
        return _func_section(m, r)
    if id == _TABLE:
        return _table_section(m, r)
    if id == _MEMORY:
        return _memory_section(m, r)
    if id == _TAG:
        return _tag_section(m, r)
    if id == _GLOBAL:
        return _global_section(m, r)
    if id == _EXPORT:
        return _export_section(m, r)
    if id == _START:
        return _start_section(m, r)
    if id == _ELEM:
        return _elem_section(m, r)
    if id == _DATA_COUNT:
        return _data_count_section(m, r)
    if id == _CODE:
        return _code_section(m, r)
    return _data_section(m, r)


@cython.cfunc
@cython.exceptval(-1, check=False)
def read_sections(m: Sections, r: cython.pointer(Reader), words: cython.pointer(Words)) -> cython.int:
    """Decode all sections (Core 3.0, 5.5.2), the type section into `words` (`read_types`)."""
    last: cython.int = 0
    place: cython.int = -1
    id: cython.int
    size: int64_t
    start: cython.p_const_uchar
    custom: cython.pointer(CustomItem)
    section = cython.declare(Reader)
    while r.pos < r.end:
        poll()
        start = r.pos
        id = read_byte(r)
        if id != _CUSTOM and id not in _ORDER:
            malformed("malformed section id", r, start)
        size = read_u32(r)
        if size > r.end - r.pos:
            malformed("length out of bounds", r, start + 1)
        read_range(cython.address(section), r.base, r.pos, r.pos + size)
        r.pos += size
        if id == _CUSTOM:
            custom = cython.cast(
                cython.pointer(CustomItem), _reserve(cython.address(m.custom_items), 1, cython.sizeof(CustomItem))
            )
            _name(cython.address(section), cython.address(custom.name))
            custom.contents.start = section.pos - r.base
            custom.contents.end = section.end - r.base
            custom.after = last
            m.custom_items.count += 1
            continue
        if _ORDER[id] <= place:
            malformed("unexpected content after last section", r, start)
        place = _ORDER[id]
        last = id
        _section(m, id, cython.address(section), words)
        if section.pos != section.end:
            malformed("section size mismatch", r, section.pos)
    return 0
