# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Module-level rules: types, imports, definitions, segments, exports (Core 3.0, 3.2 and 3.5)."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Reader, read_u32
from cython.cimports.wasmloom.binary.sections import (
    DataItem,
    ElementItem,
    ExportItem,
    ImportItem,
    Range,
    TableItem,
    skip_expr,
)
from cython.cimports.wasmloom.spec.canon import (
    CONT,
    FUNC,
    STRUCT,
    TypeInfo,
    id_matches,
    structure_matches,
    type_info,
    type_matches,
)
from cython.cimports.wasmloom.system.polling import poll
from cython.cimports.wasmloom.validation.validator import Validator

from wasmloom.errors import ValidationError
from wasmloom.messages import quoted
from wasmloom.spec import limits
from wasmloom.spec.types import EXTERN_KINDS, I32, I64, NULL_FLAG, MemoryType

#: What errors call the kinds of exports, in the order of `EXTERN_KINDS`.
_KIND_WORDS: tuple[str, ...] = ("function", *EXTERN_KINDS[1:])
_I32 = cython.declare(uint64_t, I32)
_I64 = cython.declare(uint64_t, I64)
_MAX_DEPTH = cython.declare(cython.int, limits.MAX_SUBTYPING_DEPTH)


def check_module_rules(v: Validator) -> None:
    """Check everything but function bodies; raises `ValidationError`, or `CompileError` for malformed expressions."""
    m: DecodedModule = v.module
    i: uint32_t
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.funcs_at.data)
    _check_types(v, m)
    _check_imports(v, m)
    for i in range(m.num_imported_funcs, m.num_funcs):
        if v.funcs[i].kind != FUNC:
            raise ValidationError(f"non-function type {m.func_type[i]}", offsets[i - m.num_imported_funcs])
    for i in range(m.num_imported_tags, m.num_tags):
        poll()
        _check_tag(v, m, i)
    for i in range(m.num_imported_memories, len(m.memories)):
        _check_memory(v, m.memories[i], m.memory_offsets[i])
    if len(m.memories) > 1:
        v.note("multi-memory", "memory", m.memory_offsets[1])
    _check_tables(v, m)
    _check_globals(v, m)
    _check_exports(v, m)
    _check_start(v, m)
    _check_elements(v, m)
    _check_data(v, m)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_types(v: Validator, m: DecodedModule) -> cython.int:
    """Check declared supertypes and continuation types (Core 3.0, 3.2.8 to 3.2.12), and note features."""
    offsets: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.types_at.data)
    sizes: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), m.groups.data)
    info: cython.pointer(TypeInfo)
    parent: cython.pointer(TypeInfo)
    i: uint32_t
    k: uint32_t
    group: cython.size_t
    for i in range(m.num_types):
        poll()
        info = v.types[i]
        if info.above != cython.NULL:
            parent = info.above
            if parent.final:
                raise ValidationError(f"sub type {i} has the final super type {_index(v, parent)}", offsets[i])
            if (
                not structure_matches(info, parent)
                or (info.describes == cython.NULL) != (parent.describes == cython.NULL)
                or (info.descriptor == cython.NULL and parent.descriptor != cython.NULL)
            ):
                raise ValidationError(f"sub type {i} does not match super type {_index(v, parent)}", offsets[i])
            _check_descriptors(v, info, parent, offsets[i])
            if info.depth > _MAX_DEPTH:
                raise ValidationError(f"sub type {i} has more than {_MAX_DEPTH} super types", offsets[i])
        if info.descriptor != cython.NULL or info.describes != cython.NULL:
            _check_clauses(v, info, offsets[i])
        if info.kind == FUNC:
            for k in range(info.n_params + info.n_results):
                v.note_type(info.types[k], offsets[i])
            if info.n_results > 1:
                v.note("multi-value", "func", offsets[i])
        elif info.kind == CONT:
            v.note("stack-switching", "cont", offsets[i])
            if type_info(info.func).kind != FUNC:
                raise ValidationError(f"non-function type {_index(v, type_info(info.func))}", offsets[i])
        else:
            v.note("gc", "struct" if info.kind == STRUCT else "array", offsets[i])
        if info.above != cython.NULL or not info.final:
            v.note("recursive-types", "sub", offsets[i])
    i = 0
    for group in range(m.groups.count):
        if sizes[group] > 1:
            v.note("recursive-types", "rec", offsets[i])
        i += sizes[group]
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_clauses(v: Validator, info: cython.pointer(TypeInfo), offset: uint32_t) -> cython.int:
    """Check that a descriptor and what it describes name each other, and are structs (custom descriptors)."""
    v.note("custom-descriptors", "descriptor" if info.describes == cython.NULL else "describes", offset)
    if info.descriptor != cython.NULL:
        if info.kind != STRUCT:
            raise ValidationError("descriptor type must be a struct", offset)
        if info.descriptor.describes != info:
            raise ValidationError("type is not described by its descriptor", offset)
    if info.describes != cython.NULL:
        if info.kind != STRUCT:
            raise ValidationError("described type must be a struct", offset)
        if info.describes.id >= info.id:
            raise ValidationError("forward use of described type", offset)
        if info.describes.descriptor != info:
            raise ValidationError("described type is not described by descriptor", offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_descriptors(
    v: Validator, info: cython.pointer(TypeInfo), parent: cython.pointer(TypeInfo), offset: uint32_t
) -> cython.int:
    """Check that a type's descriptor, and what it describes, are below those of its supertype."""
    if parent.descriptor != cython.NULL and not id_matches(info.descriptor.id, parent.descriptor.id):
        raise ValidationError(f"descriptor type {_index(v, info.descriptor)} does not match", offset)
    if parent.describes != cython.NULL and not id_matches(info.describes.id, parent.describes.id):
        raise ValidationError(f"described type {_index(v, info.describes)} does not match", offset)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _index(v: Validator, type: cython.pointer(TypeInfo)) -> uint32_t:
    """The first index of a canonical type that the module has."""
    i: uint32_t = 0
    while v.types[i] != type:
        i += 1
    return i


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_imports(v: Validator, m: DecodedModule) -> cython.int:
    i: uint32_t
    item: cython.pointer(ImportItem)
    for i in range(m.num_imports):
        poll()
        item = m.import_item + i
        if item.kind == 0:
            if v.funcs[item.index].kind != FUNC:
                raise ValidationError(f"non-function type {_index(v, v.funcs[item.index])}", item.offset)
        elif item.kind == 1:
            _check_table_type(v, m.table_item + item.index)
        elif item.kind == 2:
            _check_memory(v, m.memories[item.index], item.offset)
        elif item.kind == 3:
            v.note_type(m.global_item[item.index].content, item.offset)
        else:
            _check_tag(v, m, item.index)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_tag(v: Validator, m: DecodedModule, index: uint32_t) -> cython.int:
    func: cython.pointer(TypeInfo) = v.tags[index]
    offset: uint32_t = m.tag_item[index].offset
    v.note("exception-handling", "tag", offset)
    if func.kind != FUNC:
        raise ValidationError(f"non-function type {_index(v, func)}", offset)
    if func.n_results:
        if not v.stack_switching:
            raise ValidationError("non-empty tag result type", offset)
        v.note("stack-switching", "tag", offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_limits(low: object, high: object, most: object, message: str, offset: uint32_t) -> cython.int:
    """Check limits against their range (Core 3.0, 3.2.15)."""
    if low > most or (high is not None and high > most):
        raise ValidationError(message, offset)
    if high is not None and low > high:
        raise ValidationError("size minimum must not be greater than maximum", offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_memory(v: Validator, memory: MemoryType, offset: uint32_t) -> cython.int:
    if memory.page_size_log2 not in (0, 16):
        raise ValidationError("invalid custom page size", offset)
    if memory.page_size_log2 != 16:
        v.note("custom-page-sizes", "memory", offset)
    if memory.is64:
        v.note("memory64", "memory", offset)
    if memory.shared:
        v.note("threads", "shared memory", offset)
        if memory.limits.max is None:
            raise ValidationError("shared memory must have maximum", offset)
    most = limits.most_pages(memory.is64, memory.page_size_log2)
    shown = "2^48 pages (256 TiB)" if memory.is64 else "65536 pages (4GiB)"
    if memory.page_size_log2 == 0:
        shown = "2^64-1 bytes" if memory.is64 else "2^32-1 bytes"
    return _check_limits(memory.limits.min, memory.limits.max, most, f"memory size must be at most {shown}", offset)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_table_type(v: Validator, table: cython.pointer(TableItem)) -> cython.int:
    v.note_type(table.element, table.offset)
    if table.is64:
        v.note("table64", "table", table.offset)
    elif table.min <= 0xFFFFFFFF and not table.bounded:
        return 0
    bits = 64 if table.is64 else 32
    return _check_limits(
        table.min,
        table.max if table.bounded else None,
        (1 << bits) - 1,
        f"table size must be at most 2^{bits}-1",
        table.offset,
    )


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_tables(v: Validator, m: DecodedModule) -> cython.int:
    """Check tables; their initialisers see imported globals only."""
    i: uint32_t
    table: cython.pointer(TableItem)
    for i in range(m.num_imported_tables, m.num_tables):
        poll()
        table = m.table_item + i
        _check_table_type(v, table)
        if table.init.end != table.init.start:
            v.note("function-references", "table initializer", table.offset)
            v.check_constant(table.init, table.element, m.num_imported_globals)
        elif not table.element & NULL_FLAG:
            shown = v.show(table.element)
            raise ValidationError(f"type mismatch: a table of {shown} needs an initial value", table.offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_globals(v: Validator, m: DecodedModule) -> cython.int:
    """Check globals; each initialiser sees the globals before it."""
    i: uint32_t
    for i in range(m.num_imported_globals, m.num_globals):
        poll()
        v.note_type(m.global_item[i].content, m.global_item[i].offset)
        v.check_constant(m.global_item[i].init, m.global_item[i].content, i)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_exports(v: Validator, m: DecodedModule) -> cython.int:
    sizes = cython.declare(uint32_t[5])
    i: int64_t
    item: cython.pointer(ExportItem)
    sizes[0] = m.num_funcs
    sizes[1] = m.num_tables
    sizes[2] = len(m.memories)
    sizes[3] = m.num_globals
    sizes[4] = m.num_tags
    for i in range(m.num_exports):
        poll()
        item = m.export_item + i
        if item.index >= sizes[item.kind]:
            raise ValidationError(f"unknown {_KIND_WORDS[item.kind]} {item.index}", item.offset)
        if i == m.duplicate_export:
            raise ValidationError(f"duplicate export name {quoted(m.text(item.name))}", item.offset)
        if item.kind == 0:
            v.declared[item.index] = 1
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_start(v: Validator, m: DecodedModule) -> cython.int:
    start: uint32_t
    if m.start is None:
        return 0
    start = m.start
    if start >= m.num_funcs:
        raise ValidationError(f"unknown function {start}", m.start_offset)
    if v.funcs[start].n_params or v.funcs[start].n_results:
        raise ValidationError("start function must not have parameters or results", m.start_offset)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_elements(v: Validator, m: DecodedModule) -> cython.int:
    i: cython.size_t
    index: int64_t
    item: cython.pointer(ElementItem)
    table: cython.pointer(TableItem)
    where = cython.declare(Range)
    r = cython.declare(Reader)
    for i in range(m.num_elements):
        poll()
        item = m.element_item + i
        r = m.reader_at(item.items)
        if item.has_exprs:
            v.note_type(item.type, item.offset)
        for _ in range(item.count):
            poll()
            if item.has_exprs:
                skip_expr(cython.address(r), cython.address(where))
                v.check_constant(where, item.type, m.num_globals)
            else:
                index = read_u32(cython.address(r))
                if index >= m.num_funcs:
                    raise ValidationError(f"unknown function {index}", item.offset)
                v.declared[index] = 1
        if item.at.start != item.at.end:
            if item.table >= m.num_tables:
                raise ValidationError(f"unknown table {item.table}", item.offset)
            table = m.table_item + item.table
            if not type_matches(item.type, table.element):
                have, want = v.show(item.type), v.show(table.element)
                raise ValidationError(f"type mismatch: table of {want} but segment of {have}", item.offset)
            v.check_constant(item.at, _I64 if table.is64 else _I32, m.num_globals)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _check_data(v: Validator, m: DecodedModule) -> cython.int:
    i: cython.size_t
    item: cython.pointer(DataItem)
    for i in range(m.num_data):
        poll()
        item = m.data_item + i
        if item.at.start != item.at.end:
            if item.memory >= v.n_memories:
                raise ValidationError(f"unknown memory {item.memory}", item.offset)
            v.check_constant(item.at, _I64 if v.memory64[item.memory] else _I32, m.num_globals)
    return 0
