"""A module's fields in the text format (Core 3.0, section 6.6) → the abstract syntax.

Identifiers may be used before the field that they name, so fields are read in three passes: find them and bind
identifiers; read the types; read everything else, in order. Types that type uses imply follow the written ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wasmloom.binary.encoder import SECTION_IDS, hint_section, run_lengths, uleb, val_type_bytes, vector
from wasmloom.binary.hints import BRANCH_HINT
from wasmloom.errors import CompileError
from wasmloom.messages import printable
from wasmloom.spec.limits import MAX_LOCALS
from wasmloom.spec.module import (
    Code,
    CustomSection,
    Data,
    Element,
    Export,
    ExternType,
    Global,
    Import,
    ImportGroup,
    ModuleSyntax,
    Table,
)
from wasmloom.spec.types import (
    EXTERN_KINDS,
    FUNCREF,
    Limits,
    MemoryType,
    SubType,
    TableType,
    TagType,
    ValType,
    ref_type,
)
from wasmloom.text.cursor import SPACE_WORDS
from wasmloom.text.expressions import ExprParser, Marks
from wasmloom.text.immediates import NUMBER_LISTS
from wasmloom.text.lexer import Annotation, Tokens
from wasmloom.text.types import Scope

#: Kinds of definitions that no import may follow.
_IMPORT_AFTER = {kind: "function" if kind == "func" else kind for kind in EXTERN_KINDS}

#: Keywords of a module's fields.
FIELD_KEYWORDS = frozenset(("type", "rec", "import", "export", "start", "elem", "data", *EXTERN_KINDS))

_FUNC_REF = ref_type(FUNCREF.heap, False)
_END = b"\x0b"
_REF_FUNC = b"\xd2"
_I32_ZERO = b"\x41\0\x0b"
_I64_ZERO = b"\x42\0\x0b"


class _Field(NamedTuple):
    """A field: its keyword, the token of its opening parenthesis, and the index that it defines (or -1)."""

    keyword: str
    start: int
    number: int


class Places:
    """The tokens that parts of the module come from, with the keys of `wasmloom.binary.encoder.Layout`."""

    __slots__ = ("entries", "exprs")

    def __init__(self) -> None:
        self.entries: dict[str, list[int]] = {section: [] for section in SECTION_IDS}
        self.exprs: dict[tuple[str, int, int], Marks] = {}


class FieldParser(ExprParser):
    """Reads the fields of one module into `module`, and their tokens into `places`."""

    def __init__(self, tokens: Tokens, pos: int, end: int) -> None:
        super().__init__(tokens, pos)
        self._end = end
        self.module = ModuleSyntax()
        self.module.names = self.names
        self.module.rec_groups = self.rec_groups
        self.places = Places()
        self._counts: dict[str, int] = dict.fromkeys(SPACE_WORDS, 0)
        self._defined_kind: str | None = None
        self._imported_funcs = 0
        #: hints of each function that has some: function index → (offset in the body, value)
        self._branch_hints: dict[int, list[tuple[int, int]]] = {}
        #: custom sections placed before a section; they come after those placed behind one
        self._before: list[CustomSection] = []
        for item in tokens.annotations:
            if pos <= item.before <= end:
                self.annotations.setdefault(item.before, []).append(item)
        self.annotated = list(self.annotations)

    def fields(self, name: str | None) -> ModuleSyntax:
        """All fields up to the module's end; `name` is the module's identifier without `$`."""
        self.names.module = name
        if self.annotations:
            module_name = self.name_annotation("module")
            if module_name is not None:
                self.names.module = module_name
        found = self._find_fields()
        for field in found:
            if field.keyword in ("type", "rec"):
                self.pos = field.start + 2
                self._type_field(field)
        for field in found:
            self.pos = field.start + 2
            reader = _READERS.get(field.keyword)
            if reader is not None:
                reader(self, field)
                self.expect(")")
        self.module.has_data_count = self.uses_data_count
        if self._branch_hints:
            self._add_hint_section()
        self.module.customs += self._before
        for items in self.annotations.values():
            for item in items:
                if item.name == BRANCH_HINT:
                    self.fail_annotation(item, "not in a function")
                line, column = item.place
                raise CompileError(f"misplaced @{item.name} annotation", line=line, column=column)
        self._collect_names()
        return self.module

    # First pass: identifiers

    def _find_fields(self) -> list[_Field]:
        found: list[_Field] = []
        while True:
            if self.annotations:
                self._custom_annotations()
            if self.pos >= self._end:
                break
            start = self.pos
            self.expect("(")
            keyword = self.toks[self.pos]
            if keyword not in FIELD_KEYWORDS:
                self.unexpected()
            self.pos += 1
            index = self._bind_field(keyword, start)
            found.append(_Field(keyword, start, index))
            self.pos = self.skip_form(start)
        return found

    def _bind(self, kind: str) -> int:
        """The next index of a space, with the identifier that comes next, if any."""
        index = self._counts[kind]
        self._counts[kind] = index + 1
        identifier_at = self.pos
        identifier = self.optional_identifier()
        if identifier is not None:
            if identifier in self.spaces[kind]:
                self.fail(f"duplicate {SPACE_WORDS[kind]} {printable(identifier)}", identifier_at)
            self.spaces[kind][identifier] = index
        if self.annotations:
            name = self.name_annotation(kind)
            if name is not None:
                self.names.maps.setdefault(kind, {})[index] = name
        return index

    def _bind_field(self, keyword: str, start: int) -> int:
        if keyword == "rec":
            first = self._counts["type"]
            while self.open_form("type"):
                inner = self.pos - 2
                self._bind("type")
                self.pos = self.skip_form(inner)
            self.expect(")")
            return first
        if keyword == "import":
            self._bind_imports(start)
            return -1
        if keyword in EXTERN_KINDS:
            return self._bind_definition(keyword, start)
        if keyword in ("start", "export"):
            return -1
        return self._bind(keyword)

    def _extern_kind(self) -> str:
        """Step over `(kind` of an import or export."""
        self.expect("(")
        kind = self.toks[self.pos]
        if kind not in EXTERN_KINDS:
            self.unexpected()
        self.pos += 1
        return kind

    def _bind_imports(self, start: int) -> None:
        """The imports of an `import` field: one, or several items, each with its type or all with the last form's."""
        self.pos += 1
        names = 0
        if self.toks[self.pos] not in ("(", ")"):
            self.pos += 1
            self._bind(self._import_kind(start))
            return
        while self.at_form("item"):
            item = self.pos
            self.pos += 3
            if self.toks[self.pos] == ")":
                names += 1
            else:
                self._bind(self._import_kind(start))
            self.pos = self.skip_form(item)
        if self.toks[self.pos] == "(":
            kind = self._import_kind(start)
            if self.at_identifier():
                self.fail("identifier not allowed")
            self._counts[kind] += names

    def _import_kind(self, start: int) -> str:
        """Step over `(kind` of an import, which nothing defined in the module may precede."""
        kind = self._extern_kind()
        if self._defined_kind is not None:
            self.fail(f"import after {_IMPORT_AFTER[self._defined_kind]}", start)
        return kind

    def _bind_definition(self, kind: str, start: int) -> int:
        index = self._bind(kind)
        while self.at_form("export"):
            self.pos = self.skip_form(self.pos)
        if self.at_form("import"):
            if self._defined_kind is not None:
                self.fail(f"import after {_IMPORT_AFTER[self._defined_kind]}", start)
            return index
        self._defined_kind = kind
        # Segments written inside a table or memory take an index where they stand.
        segment = {"table": "elem", "memory": "data"}.get(kind)
        if segment is not None:
            while self.toks[self.pos] not in (")", ""):
                if self.at_form(segment):
                    self._counts[segment] += 1
                    break
                self.pos = self.skip_form(self.pos) if self.toks[self.pos] == "(" else self.pos + 1
        return index

    def _collect_names(self) -> None:
        for kind, identifiers in self.spaces.items():
            names = self.names.maps.setdefault(kind, {})
            for identifier, index in identifiers.items():
                names.setdefault(index, identifier[1:])

    # Second pass: types

    def _type_field(self, field: _Field) -> None:
        self.places.entries["type"].append(field.start)
        if field.keyword == "type":
            self.define((self._one_type(field.number),))
            return
        index = field.number
        group: list[SubType] = []
        while self.open_form("type"):
            group.append(self._one_type(index))
            index += 1
        self.expect(")")
        self.define(group)

    def _one_type(self, index: int) -> SubType:
        self.optional_identifier()
        sub = self.sub_type(index)
        self.expect(")")
        return sub

    # Third pass: everything else

    def _place(self, section: str, field: _Field) -> int:
        """Note that the next entry of a section comes from this field. Returns the entry's number."""
        entries = self.places.entries[section]
        entries.append(field.start)
        return len(entries) - 1

    def _marks(self, section: str, entry: int, part: int = 0) -> Marks:
        """A new list of marks for an expression."""
        marks: Marks = []
        self.places.exprs[section, entry, part] = marks
        return marks

    def _inline_exports(self, kind: str, field: _Field) -> None:
        while self.open_form("export"):
            self._place("export", field)
            self.module.exports.append(Export(self.name(), kind, field.number))
            self.expect(")")

    def _inline_import(self) -> tuple[str, str] | None:
        if not self.open_form("import"):
            return None
        names = self.name(), self.name()
        self.expect(")")
        return names

    def _extern_type(self, kind: str, parameters: Scope) -> ExternType:
        """The type of an import."""
        if kind == "func":
            return self.type_use(parameters)
        if kind == "tag":
            return TagType(self.type_use(Scope()))
        if kind == "global":
            return self.global_type()
        return self.table_type() if kind == "table" else self.memory_type()

    def _imported_type(self, kind: str, parameters: Scope) -> tuple[ExternType, bool]:
        """The type of an import, and whether it is one of functions with exactly that: `(exact type)`."""
        exact = kind == "func" and self.open_form("exact")
        found = self._extern_type(kind, parameters)
        if exact:
            self.expect(")")
        return found, exact

    def _add_import(self, names: tuple[str, str], kind: str, field: _Field) -> None:
        self._place("import", field)
        parameters = Scope()
        type_, exact = self._imported_type(kind, parameters)
        self.module.imports.append(Import(names[0], names[1], kind, type_, exact))
        if kind == "func":
            self._name_locals(self._imported_funcs, parameters)
            self._imported_funcs += 1

    def _name_locals(self, func_index: int, scope: Scope) -> None:
        if scope.names:
            self.names.locals[func_index] = scope.names

    def import_field(self, field: _Field) -> None:
        """`(import "module" "name" (kind $id? type))`, or a group of imports (compact import section proposal).

        That has any number of `(item "name" (kind $id? type))`, or of `(item "name")` and then `(kind type)` for all.
        """
        module = self.name()
        if self.toks[self.pos] not in ("(", ")"):
            self._one_import(module, self.name(), field)
            return
        first = len(self.module.imports)
        names: list[str] = []
        while self.open_form("item"):
            name = self.name()
            if self.toks[self.pos] == ")":
                names.append(name)
            elif names:
                self.unexpected()
            else:
                self._one_import(module, name, field)
            self.expect(")")
        if names or self.toks[self.pos] == "(":
            if len(self.module.imports) > first:
                self.unexpected()
            self._alike_imports(module, names, field)
        count = len(self.module.imports) - first
        if count:
            self.module.import_groups.append(ImportGroup(first, count, bool(names)))

    def _one_import(self, module: str, name: str, field: _Field) -> None:
        """`(kind $id? type)` of an import."""
        kind = self._extern_kind()
        self.optional_identifier()
        self._add_import((module, name), kind, field)
        self.expect(")")

    def _alike_imports(self, module: str, names: list[str], field: _Field) -> None:
        """`(kind type)` for the imports of these names."""
        start = self.pos
        kind = self._extern_kind()
        type_, exact = self._imported_type(kind, Scope())
        self.expect(")")
        for name in names:
            self._place("import", field._replace(start=start))
            self.module.imports.append(Import(module, name, kind, type_, exact))
        if kind == "func":
            self._imported_funcs += len(names)

    def export_field(self, field: _Field) -> None:
        """`(export "name" (kind index))`."""
        name = self.name()
        kind = self._extern_kind()
        self._place("export", field)
        self.module.exports.append(Export(name, kind, self.index(kind)))
        self.expect(")")

    def start_field(self, field: _Field) -> None:
        """`(start index)`."""
        if self.module.start is not None:
            self.fail("multiple start sections", field.start)
        self._place("start", field)
        self.module.start = self.index("func")

    def _head(self, kind: str, field: _Field) -> bool:
        """Identifier, inline exports and import of a definition. Returns whether it was an import, then read whole."""
        self.optional_identifier()
        self._inline_exports(kind, field)
        names = self._inline_import()
        if names is None:
            return False
        self._add_import(names, kind, field)
        return True

    def func_field(self, field: _Field) -> None:
        """A function, or the import of one."""
        if self._head("func", field):
            return
        scope = Scope()
        self.locals = scope.indices
        self.label_count = 0
        self.label_names = {}
        self.hints = []
        first = self.pos
        type_index = self.type_use(scope)
        self.module.funcs.append(type_index)
        self._place("func", field)
        entry = self._place("code", field)
        local_types = self._local_types(scope, self.params_of(type_index))
        body = self.expression(self._marks("code", entry))
        runs = run_lengths(local_types)
        self.module.code.append(Code(runs, body))
        self._name_locals(field.number, scope)
        if self.label_names:
            self.names.labels[field.number] = self.label_names
        if self.annotations:
            self.check_hints(first, self.pos)
        if self.hints:
            # Hints count from the start of the locals, not of the expression.
            before = len(vector(uleb(count) + val_type_bytes(type_) for count, type_ in runs))
            self._branch_hints[field.number] = [(before + offset, value) for offset, value in self.hints]
        self.locals = {}

    def _local_types(self, scope: Scope, first: int) -> list[ValType]:
        """All `(local …)`, of which the first has the index `first`."""
        types: list[ValType] = []
        self.one_or_many("local", self.val_type, types, scope, first)
        if len(types) > MAX_LOCALS:
            self.fail("too many locals")
        return types

    def tag_field(self, field: _Field) -> None:
        """A tag, or the import of one."""
        if not self._head("tag", field):
            self._place("tag", field)
            self.module.tags.append(TagType(self.type_use(Scope())))

    def global_field(self, field: _Field) -> None:
        """A global, or the import of one."""
        if self._head("global", field):
            return
        entry = self._place("global", field)
        type_ = self.global_type()
        self.module.globals.append(Global(type_, self.expression(self._marks("global", entry))))

    def memory_field(self, field: _Field) -> None:
        """A memory, the import of one, or one with its contents."""
        if self._head("memory", field):
            return
        self._place("memory", field)
        start = self.pos
        is64 = self.address_type()
        page_size_log2 = self.page_size()
        if not self.open_form("data"):
            self.pos = start
            self.module.memories.append(self.memory_type())
            return
        contents = self.data_values()
        self.expect(")")
        page = 1 << page_size_log2
        pages = (len(contents) + page - 1) // page
        self.module.memories.append(MemoryType(Limits(pages, pages), is64, False, page_size_log2))
        self._place("data", field)
        self.module.data.append(Data(contents, "active", field.number, _I64_ZERO if is64 else _I32_ZERO))

    def table_field(self, field: _Field) -> None:
        """A table, the import of one, or one with its elements."""
        if self._head("table", field):
            return
        entry = self._place("table", field)
        start = self.pos
        is64 = self.address_type()
        if not self.at_ref_type():
            self.pos = start
            type_ = self.table_type()
            has_init = self.toks[self.pos] != ")"
            init = self.expression(self._marks("table", entry)) if has_init else None
            self.module.tables.append(Table(type_, init))
            return
        element = self.ref_type()
        if not self.open_form("elem"):
            self.unexpected()
        segment = self._place("elem", field)
        items: tuple[int, ...] = ()
        exprs: tuple[bytes, ...] | None = None
        if self.at_index() or self.toks[self.pos] == ")":
            items = self._func_indices()
            if element.heap != FUNCREF.heap:
                # Function indices alone would make it a segment of `(ref func)`.
                exprs = tuple([_REF_FUNC + uleb(number) + _END for number in items])
        else:
            exprs = self._element_exprs(segment)
        self.expect(")")
        size = len(items if exprs is None else exprs)
        self.module.tables.append(Table(TableType(element, Limits(size, size), is64)))
        offset = _I64_ZERO if is64 else _I32_ZERO
        if exprs is None:
            segment_of = Element(_FUNC_REF, "active", items, None, field.number, offset)
        else:
            segment_of = Element(element, "active", (), exprs, field.number, offset)
        self.module.elements.append(segment_of)

    def _func_indices(self) -> tuple[int, ...]:
        indices: list[int] = []
        while self.at_index():
            indices.append(self.index("func"))
        return tuple(indices)

    def _element_exprs(self, segment: int) -> tuple[bytes, ...]:
        """Items: `(item …)`, or folded instructions."""
        exprs: list[bytes] = []
        while self.toks[self.pos] == "(":
            marks = self._marks("elem", segment, len(exprs))
            if self.open_form("item"):
                exprs.append(self.expression(marks))
                self.expect(")")
            else:
                exprs.append(self.folded_expression(marks))
        return tuple(exprs)

    def _offset(self, section: str, entry: int, part: int) -> bytes:
        """`(offset …)`, or one folded instruction."""
        marks = self._marks(section, entry, part)
        if not self.open_form("offset"):
            return self.folded_expression(marks)
        code = self.expression(marks)
        self.expect(")")
        return code

    def elem_field(self, field: _Field) -> None:
        """An element segment."""
        segment = self._place("elem", field)
        self.optional_identifier()
        mode, table, offset = "passive", 0, None
        indices_alone = False
        if self.accept("declare"):
            mode = "declarative"
        elif self.open_form("table"):
            table = self.index("table")
            self.expect(")")
            mode, offset = "active", self._offset("elem", segment, -1)
        elif self.at_unsigned():
            # As Wasm 1.0 wrote `(table x)`: no longer in the grammar, but still in scripts of proposals.
            table = self.index("table")
            mode, offset, indices_alone = "active", self._offset("elem", segment, -1), True
        elif self.toks[self.pos] == "(" and not self.at_ref_type():
            mode, offset = "active", self._offset("elem", segment, -1)
            indices_alone = self.at_index() or self.toks[self.pos] == ")"
        if indices_alone or self.accept("func"):
            self.module.elements.append(Element(_FUNC_REF, mode, self._func_indices(), None, table, offset))
            return
        type_ = self.ref_type()
        exprs = self._element_exprs(segment)
        self.module.elements.append(Element(type_, mode, (), exprs, table, offset))

    def data_field(self, field: _Field) -> None:
        """A data segment."""
        entry = self._place("data", field)
        self.optional_identifier()
        mode, memory, offset = "passive", 0, None
        if self.open_form("memory"):
            memory = self.index("memory")
            self.expect(")")
            mode, offset = "active", self._offset("data", entry, 0)
        elif self.at_unsigned():  # as Wasm 1.0 wrote `(memory x)`
            memory = self.index("memory")
            mode, offset = "active", self._offset("data", entry, 0)
        elif self.toks[self.pos] == "(" and self.toks[self.pos + 1] not in NUMBER_LISTS:
            mode, offset = "active", self._offset("data", entry, 0)
        self.module.data.append(Data(self.data_values(), mode, memory, offset))

    # Annotations

    def _custom_annotations(self) -> None:
        """Custom sections in `(@custom "name" place? "contents"…)` (Core 3.0, appendix A.4)."""
        for item in self.take_annotations("custom"):
            tokens = item.tokens
            if not tokens or tokens[0][:1] != '"':
                self.fail_annotation(item, "missing section name")
            name = self.annotation_name(item, tokens[0])
            at = 1
            after, is_before = _LAST, False
            if tokens[1:2] == ("(",):
                after, is_before = self._custom_place(item, tokens[2:5])
                at = 5
            parts = [self.annotation_string(item, token) for token in tokens[at:] if token[:1] == '"']
            if len(parts) != len(tokens[at:]):
                self.fail_annotation(item, "unexpected token")
            (self._before if is_before else self.module.customs).append(CustomSection(name, b"".join(parts), after))

    def _custom_place(self, item: Annotation, tokens: tuple[str, ...]) -> tuple[int, bool]:
        """The section that a custom section follows, and whether it asked to be before the next one."""
        order = list(SECTION_IDS)
        direction = tokens[0] if tokens else ""
        section = tokens[1] if len(tokens) > 1 else ""
        if direction not in ("before", "after"):
            self.fail_annotation(item, "malformed placement")
        if section not in (*order, "first", "last") or tokens[2:] != (")",):
            self.fail_annotation(item, "malformed section kind")
        if section in ("first", "last"):
            return (0, True) if section == "first" and direction == "before" else (_LAST, False)
        if direction == "after":
            return SECTION_IDS[section], False
        position = order.index(section)
        return (SECTION_IDS[order[position - 1]] if position else 0), True

    def _add_hint_section(self) -> None:
        """The section of branch hints, which stands before the code (branch hinting proposal)."""
        contents = hint_section(self._branch_hints)
        self.module.customs.append(CustomSection(BRANCH_HINT, contents, SECTION_IDS["datacount"]))


#: The section that everything else precedes.
_LAST = SECTION_IDS["data"]

_READERS: dict[str, Callable[[FieldParser, _Field], None]] = {
    "import": FieldParser.import_field,
    "export": FieldParser.export_field,
    "start": FieldParser.start_field,
    "func": FieldParser.func_field,
    "table": FieldParser.table_field,
    "memory": FieldParser.memory_field,
    "global": FieldParser.global_field,
    "tag": FieldParser.tag_field,
    "elem": FieldParser.elem_field,
    "data": FieldParser.data_field,
}
