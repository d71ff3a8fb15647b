"""Types in the text format (Core 3.0, section 6.4): value, composite and external types, and type uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from wasmloom.messages import printable
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    I8,
    I16,
    PLAIN_TYPES,
    REF_SHORTHANDS,
    ArrayType,
    CompositeType,
    ContType,
    FieldType,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    StructType,
    SubType,
    TableType,
    ValType,
    ref_type,
)
from wasmloom.text.annotations import AnnotationParser
from wasmloom.text.lexer import Tokens

#: Storage types that values can't have.
_PACKED = frozenset((I8, I16))

#: Types that are one keyword: keyword → type. Packed types are among them.
KEYWORD_TYPES: dict[str, ValType] = {name: ValType(code) for name, code in PLAIN_TYPES.items()} | {
    short: ref_type(ABSTRACT_HEAP_TYPES[heap], True) for short, heap in REF_SHORTHANDS.items()
}

_KEYWORD_VALUE_TYPES = {name: type_ for name, type_ in KEYWORD_TYPES.items() if type_ not in _PACKED}

_EMPTY = FuncType((), ())
_TYPE_USE_FORMS = ("type", "param", "result")

#: Largest page size that can be written, as a power of two; the validator decides which of them exist.
_MAX_PAGE_SIZE_LOG2 = 63


_T = TypeVar("_T")


class Scope:
    """The names of a function's locals or a struct's fields."""

    __slots__ = ("indices", "names")

    def __init__(self) -> None:
        #: identifier, `$` included → index
        self.indices: dict[str, int] = {}
        #: index → name, which an annotation may have made another than the identifier
        self.names: dict[int, str] = {}


class TypeParser(AnnotationParser):
    """Reads types, and keeps the types that the module defines."""

    def __init__(self, tokens: Tokens, pos: int) -> None:
        super().__init__(tokens, pos)
        self.rec_groups: list[tuple[SubType, ...]] = []
        #: every defined type by its index
        self.defined: list[SubType] = []
        #: type index → field identifier → field index
        self.field_names: dict[int, dict[str, int]] = {}
        #: function type → the smallest index that a type use without a number may stand for
        self._func_types: dict[FuncType, int] = {}

    # Value types

    def heap_type(self) -> int:
        """A heap type: abstract, or `CONCRETE` and a type index, with `EXACT` if it is exact."""
        abstract = ABSTRACT_HEAP_TYPES.get(self.toks[self.pos])
        if abstract is not None:
            self.pos += 1
            return abstract
        if self.open_form("exact"):
            heap = EXACT + CONCRETE + self.index("type")
            self.expect(")")
            return heap
        return CONCRETE + self.index("type")

    def _ref_form(self) -> ValType:
        """The rest of `(ref null? heap)`, from after the word `ref`."""
        nullable = self.accept("null")
        heap = self.heap_type()
        self.expect(")")
        return ref_type(heap, nullable)

    def val_type(self) -> ValType:
        """A value type."""
        found = _KEYWORD_VALUE_TYPES.get(self.toks[self.pos])
        if found is not None:
            self.pos += 1
            return found
        if self.open_form("ref"):
            return self._ref_form()
        self.unexpected()

    def ref_type(self) -> ValType:
        """A reference type."""
        start = self.pos
        found = self.val_type()
        if not found.is_ref:
            self.unexpected(start)
        return found

    def at_ref_type(self) -> bool:
        """Whether a reference type comes next."""
        return self.toks[self.pos] in REF_SHORTHANDS or self.at_form("ref")

    def _storage_type(self) -> ValType:
        found = KEYWORD_TYPES.get(self.toks[self.pos])
        if found is not None:
            self.pos += 1
            return found
        return self.val_type()

    def _field_type(self) -> FieldType:
        if self.open_form("mut"):
            storage = self._storage_type()
            self.expect(")")
            return FieldType(storage, True)
        return FieldType(self._storage_type(), False)

    # Composite types

    def one_or_many(
        self, keyword: str, read: Callable[[], _T], found: list[_T], scope: Scope | None = None, first: int = 0
    ) -> None:
        """All `(keyword $name? item…)` that come next, into `found`; a named form has one item.

        `scope` takes the names of the items, of which the first has the index `first`; None forbids names.
        """
        while self.open_form(keyword):
            if scope is not None and self._bind_in(scope, first + len(found), keyword):
                found.append(read())
            else:
                while self.toks[self.pos] != ")":
                    found.append(read())
            self.expect(")")

    def _bind_in(self, scope: Scope, index: int, keyword: str) -> bool:
        """Give `index` the identifier and name that come next. Returns whether there were any."""
        word = "field" if keyword == "field" else "local"
        at = self.pos
        identifier = self.optional_identifier()
        if identifier is not None:
            if identifier in scope.indices:
                self.fail(f"duplicate {word} {printable(identifier)}", at)
            scope.indices[identifier] = index
            scope.names[index] = identifier[1:]
        if self.annotations:
            name = self.name_annotation(word)
            if name is not None:
                scope.names[index] = name
                return True
        return identifier is not None

    def signature(self, scope: Scope | None) -> FuncType:
        """Parameters and results, which may be none. `scope` takes the parameters' names; None forbids them."""
        if self.toks[self.pos] != "(":
            return _EMPTY
        params: list[ValType] = []
        results: list[ValType] = []
        self.one_or_many("param", self.val_type, params, scope)
        self.one_or_many("result", self.val_type, results)
        return FuncType(tuple(params), tuple(results))

    def _struct_type(self, type_index: int) -> StructType:
        fields: list[FieldType] = []
        scope = Scope()
        self.one_or_many("field", self._field_type, fields, scope)
        if scope.names:
            self.field_names[type_index] = scope.indices
            self.names.fields[type_index] = scope.names
        return StructType(tuple(fields))

    def _composite_type(self, type_index: int) -> CompositeType:
        composite: CompositeType
        if self.open_form("func"):
            composite = self.signature(Scope())
        elif self.open_form("struct"):
            composite = self._struct_type(type_index)
        elif self.open_form("array"):
            composite = ArrayType(self._field_type())
        elif self.open_form("cont"):
            composite = ContType(CONCRETE + self.index("type"))
        else:
            self.expect("(")
            self.unexpected()
        self.expect(")")
        return composite

    def sub_type(self, type_index: int) -> SubType:
        """A type definition's contents: a composite type with its clauses, or `(sub final? $super* …)`."""
        if not self.open_form("sub"):
            return self._described_type(type_index, (), True)
        final = self.accept("final")
        supers: list[int] = []
        while self.at_index():
            supers.append(self.index("type"))
        found = self._described_type(type_index, tuple(supers), final)
        self.expect(")")
        return found

    def _described_type(self, type_index: int, supers: tuple[int, ...], final: bool) -> SubType:
        """`(describes $t)? (descriptor $t)?` and a composite type."""
        numbers: list[int | None] = []
        for word in ("describes", "descriptor"):
            numbers.append(None)
            if self.open_form(word):
                numbers[-1] = self.index("type")
                self.expect(")")
        describes, descriptor = numbers
        return SubType(self._composite_type(type_index), supers, final, descriptor, describes)

    def define(self, group: Sequence[SubType]) -> None:
        """Add a recursive group of types."""
        self.rec_groups.append(tuple(group))
        if len(group) == 1 and isinstance(group[0].composite, FuncType) and group[0] == SubType(group[0].composite):
            self._func_types.setdefault(group[0].composite, len(self.defined))
        self.defined.extend(group)

    # Type uses

    def implicit_type(self, signature: FuncType) -> int:
        """The index that a type use without a number stands for; a type is added at the end if need be."""
        found = self._func_types.get(signature)
        if found is None:
            found = len(self.defined)
            self.define((SubType(signature),))
        return found

    def type_use(self, scope: Scope | None) -> int:
        """A type use: `(type $t)`, parameters and results. `scope` is as for `signature`."""
        start = self.pos
        explicit = self.explicit_type()
        inline = self.signature(scope)
        if explicit is None:
            return self.implicit_type(inline)
        self.check_inline(explicit, inline, start)
        return explicit

    def explicit_type(self) -> int | None:
        """The type index in `(type $t)`, if that comes next."""
        if not self.open_form("type"):
            return None
        index = self.index("type")
        self.expect(")")
        return index

    def check_inline(self, type_index: int, inline: FuncType, pos: int) -> None:
        """Fail unless the inline part of a type use is empty or equals the type it names."""
        if self.toks[self.pos] == "(" and self.toks[self.pos + 1] in _TYPE_USE_FORMS:
            # The parts of a type use are in the wrong order.
            self.unexpected(self.pos + 1)
        if inline == _EMPTY:
            return
        if type_index >= len(self.defined):
            self.fail(f"unknown type {type_index}", pos)
        if self.defined[type_index].composite != inline:
            self.fail("inline function type doesn't match its type index", pos)

    def params_of(self, type_index: int) -> int:
        """How many parameters the type has; 0 when it is no function type, which the validator will say."""
        if type_index < len(self.defined):
            composite = self.defined[type_index].composite
            if isinstance(composite, FuncType):
                return len(composite.params)
        return 0

    # External types

    def address_type(self) -> bool:
        """The address type of a memory or table, i32 unless it says otherwise: whether it is i64."""
        return not self.accept("i32") and self.accept("i64")

    def limits(self) -> Limits:
        """Limits: a minimum and perhaps a maximum. They have 64 bits everywhere; the validator knows the bounds."""
        minimum = self.unsigned(64)
        return Limits(minimum, self.unsigned(64) if self.at_unsigned() else None)

    def page_size(self) -> int:
        """The page size in `(pagesize n)` as a power of two; 16, the usual one, when it isn't there."""
        if not self.open_form("pagesize"):
            return 16
        size = self.unsigned(64)
        if size == 0 or size & (size - 1):
            self.fail("invalid custom page size", self.pos - 1)
        self.expect(")")
        return min(size.bit_length() - 1, _MAX_PAGE_SIZE_LOG2)

    def memory_type(self) -> MemoryType:
        """A memory type."""
        is64 = self.address_type()
        limits = self.limits()
        shared = self.accept("shared")
        return MemoryType(limits, is64, shared, self.page_size())

    def table_type(self) -> TableType:
        """A table type."""
        is64 = self.address_type()
        limits = self.limits()
        return TableType(self.ref_type(), limits, is64)

    def global_type(self) -> GlobalType:
        """A global type."""
        if self.open_form("mut"):
            content = self.val_type()
            self.expect(")")
            return GlobalType(content, True)
        return GlobalType(self.val_type(), False)
