"""Module-level rules: types, imports, definitions, segments, exports (Core 3.0, 3.2 and 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmloom.errors import ValidationError
from wasmloom.spec import limits
from wasmloom.spec.canon import composite_matches, matches, sub_type
from wasmloom.spec.types import (
    CONCRETE,
    I32,
    I64,
    ContType,
    FuncType,
    GlobalType,
    MemoryType,
    StructType,
    TableType,
    TagType,
)

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule
    from wasmloom.binary.parts import Expr
    from wasmloom.spec.types import Limits, ValType
    from wasmloom.validation.machine import Validator

#: Kind of an export → what errors call it, and the attribute of the module that holds its index space.
_SPACES: dict[str, tuple[str, str]] = {
    "func": ("function", "func_types"),
    "table": ("table", "tables"),
    "memory": ("memory", "memories"),
    "global": ("global", "globals"),
    "tag": ("tag", "tags"),
}


def check_module_rules(v: Validator) -> None:
    """Check everything but function bodies; raises `ValidationError`, or `CompileError` for malformed expressions."""
    m = v.module
    _check_types(v, m)
    _check_imports(v, m)
    for i, kind in enumerate(m.func_types[m.num_imported_funcs :]):
        if not isinstance(m.types[kind].composite, FuncType):
            raise ValidationError(f"non-function type {kind}", m.offsets["func"][i])
    for tag, offset in zip(m.tags[m.num_imported_tags :], m.offsets["tag"], strict=True):
        _check_tag(v, tag, offset)
    for memory, offset in zip(m.memories[m.num_imported_memories :], m.offsets["memory"], strict=True):
        _check_memory(v, memory, offset)
    if len(m.memories) > 1:
        v.note_feature("multi-memory", "memory", _offset_of(m, "memory", 1))
    _check_tables(v, m)
    _check_globals(v, m)
    _check_exports(v, m)
    _check_start(m)
    _check_elements(v, m)
    _check_data(v, m)


def _check_types(v: Validator, m: DecodedModule) -> None:
    """Check declared supertypes and continuation types (Core 3.0, 3.2.8 to 3.2.12), and note features."""
    offsets = m.offsets["type"]
    depths: list[int] = []
    for index, (id, offset, sub) in enumerate(zip(m.type_ids, offsets, m.types, strict=True)):
        canonical = sub_type(id)
        depth = 0
        for parent_id, parent_index in zip(canonical.supers, sub.supers, strict=True):
            parent = sub_type(parent_id)
            if parent.final:
                raise ValidationError(f"sub type {index} has the final super type {parent_index}", offset)
            if not composite_matches(canonical.composite, parent.composite):
                raise ValidationError(f"sub type {index} does not match super type {parent_index}", offset)
            depth = depths[parent_index] + 1
            if depth > limits.MAX_SUBTYPING_DEPTH:
                raise ValidationError(
                    f"sub type {index} has more than {limits.MAX_SUBTYPING_DEPTH} super types", offset
                )
        depths.append(depth)
        composite = canonical.composite
        if isinstance(composite, FuncType):
            for t in (*composite.params, *composite.results):
                v.note_value_type(t, offset)
        elif isinstance(composite, ContType):
            v.note_feature("stack-switching", "cont", offset)
            func = composite.func - CONCRETE
            if not isinstance(sub_type(func).composite, FuncType):
                raise ValidationError(f"non-function type {m.type_ids.index(func)}", offset)
        else:
            v.note_feature("gc", "struct" if isinstance(composite, StructType) else "array", offset)
        if sub.supers or not sub.final:
            v.note_feature("recursive-types", "sub", offset)
    first = 0
    for group in m.rec_groups:
        if len(group) > 1:
            v.note_feature("recursive-types", "rec", offsets[first])
        first += len(group)


def _check_imports(v: Validator, m: DecodedModule) -> None:
    for entry, offset in zip(m.imports, m.offsets["import"], strict=True):
        type = entry.type
        if isinstance(type, TableType):
            _check_table_type(v, type, offset)
        elif isinstance(type, MemoryType):
            _check_memory(v, type, offset)
        elif isinstance(type, GlobalType):
            v.note_value_type(type.content, offset)
        elif isinstance(type, TagType):
            _check_tag(v, type, offset)
        elif not isinstance(sub_type(type).composite, FuncType):
            raise ValidationError(f"non-function type {m.type_ids.index(type)}", offset)


def _offset_of(m: DecodedModule, kind: str, index: int) -> int:
    """Where the definition or import of an entry of an index space is."""
    seen = 0
    for entry, offset in zip(m.imports, m.offsets["import"], strict=True):
        if entry.kind == kind:
            if seen == index:
                return int(offset)
            seen += 1
    return int(m.offsets[kind][index - seen])


def _check_tag(v: Validator, tag: TagType, offset: int) -> None:
    func = sub_type(tag.type).composite
    v.note_feature("exception-handling", "tag", offset)
    if not isinstance(func, FuncType):
        raise ValidationError(f"non-function type {v.module.type_ids.index(tag.type)}", offset)
    if func.results:
        if not v.stack_switching:
            raise ValidationError("non-empty tag result type", offset)
        v.note_feature("stack-switching", "tag", offset)


def _check_limits(size: Limits, most: int, message: str, offset: int) -> None:
    """Check limits against their range (Core 3.0, 3.2.15)."""
    if size.min > most or (size.max is not None and size.max > most):
        raise ValidationError(message, offset)
    if size.max is not None and size.min > size.max:
        raise ValidationError("size minimum must not be greater than maximum", offset)


def _check_memory(v: Validator, memory: MemoryType, offset: int) -> None:
    if memory.page_size_log2 not in (0, 16):
        raise ValidationError("invalid custom page size", offset)
    if memory.page_size_log2 != 16:
        v.note_feature("custom-page-sizes", "memory", offset)
    if memory.is64:
        v.note_feature("memory64", "memory", offset)
    most = limits.MAX_PAGES_64 if memory.is64 else limits.MAX_PAGES_32
    shown = "2^48 pages (256 TiB)" if memory.is64 else "65536 pages (4GiB)"
    if memory.page_size_log2 == 0:
        most = (1 << 64) - 1 if memory.is64 else (1 << 32) - 1
        shown = "2^64-1 bytes" if memory.is64 else "2^32-1 bytes"
    _check_limits(memory.limits, most, f"memory size must be at most {shown}", offset)


def _check_table_type(v: Validator, table: TableType, offset: int) -> None:
    v.note_value_type(table.element, offset)
    if table.is64:
        v.note_feature("table64", "table", offset)
    bits = 64 if table.is64 else 32
    _check_limits(table.limits, (1 << bits) - 1, f"table size must be at most 2^{bits}-1", offset)


def _check_expr(v: Validator, expr: Expr, type: ValType, visible_globals: int) -> None:
    v.check_constant(expr.offset, expr.offset + len(expr.code), type, visible_globals)


def _check_tables(v: Validator, m: DecodedModule) -> None:
    """Check tables; their initialisers see imported globals only."""
    tables = m.tables[m.num_imported_tables :]
    for table, init, offset in zip(tables, m.table_inits, m.offsets["table"], strict=True):
        _check_table_type(v, table, offset)
        if init is not None:
            v.note_feature("function-references", "table initializer", offset)
            _check_expr(v, init, table.element, m.num_imported_globals)
        elif not table.element.is_defaultable:
            shown = v.show_type(table.element)
            raise ValidationError(f"type mismatch: a table of {shown} needs an initial value", offset)


def _check_globals(v: Validator, m: DecodedModule) -> None:
    """Check globals; each initialiser sees the globals before it."""
    visible = m.num_imported_globals
    for init, offset in zip(m.global_inits, m.offsets["global"], strict=True):
        type = m.globals[visible]
        v.note_value_type(type.content, offset)
        _check_expr(v, init, type.content, visible)
        visible += 1


def _check_exports(v: Validator, m: DecodedModule) -> None:
    sizes = {kind: len(getattr(m, attribute)) for kind, (_, attribute) in _SPACES.items()}
    names: set[str] = set()
    for export, offset in zip(m.exports, m.offsets["export"], strict=True):
        if export.index >= sizes[export.kind]:
            raise ValidationError(f"unknown {_SPACES[export.kind][0]} {export.index}", offset)
        if export.name in names:
            raise ValidationError(f"duplicate export name {export.name!r}", offset)
        names.add(export.name)
        if export.kind == "func":
            v.declare_function(export.index)


def _check_start(m: DecodedModule) -> None:
    if m.start is None:
        return
    offset = m.offsets["start"][0]
    if m.start >= len(m.func_types):
        raise ValidationError(f"unknown function {m.start}", offset)
    if m.types[m.func_types[m.start]].composite != FuncType((), ()):
        raise ValidationError("start function must not have parameters or results", offset)


def _check_elements(v: Validator, m: DecodedModule) -> None:
    functions = len(m.func_types)
    visible = len(m.globals)
    for segment in m.elements:
        if segment.exprs is None:
            for index in segment.funcs:
                if index >= functions:
                    raise ValidationError(f"unknown function {index}", segment.offset)
                v.declare_function(index)
        else:
            v.note_value_type(segment.type, segment.offset)
            for expr in segment.exprs:
                _check_expr(v, expr, segment.type, visible)
        if segment.at is not None:
            if segment.table >= len(m.tables):
                raise ValidationError(f"unknown table {segment.table}", segment.offset)
            table = m.tables[segment.table]
            if not matches(segment.type, table.element):
                have, want = v.show_type(segment.type), v.show_type(table.element)
                raise ValidationError(f"type mismatch: table of {want} but segment of {have}", segment.offset)
            _check_expr(v, segment.at, I64 if table.is64 else I32, visible)


def _check_data(v: Validator, m: DecodedModule) -> None:
    visible = len(m.globals)
    for segment in m.data_segments:
        if segment.at is not None:
            if segment.memory >= len(m.memories):
                raise ValidationError(f"unknown memory {segment.memory}", segment.offset)
            _check_expr(v, segment.at, I64 if m.memories[segment.memory].is64 else I32, visible)
