"""Facts about a module as a whole: signatures, index spaces, and which functions may throw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasmloom.binary.hints import BRANCH_HINT, parse_hints
from wasmloom.compiler.abi import Signature, signature
from wasmloom.compiler.bodies import scan
from wasmloom.contract import layout
from wasmloom.errors import UnsupportedError
from wasmloom.spec.canon import sub_type
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    HEAP_SHIFT,
    ArrayType,
    ContType,
    FuncType,
    StructType,
)

_CONSTANTS = frozenset(BY_MNEMONIC[name].opcode for name in ("i32.const", "i64.const"))
_REF_FUNC = BY_MNEMONIC["ref.func"].opcode
#: Abstract heap types that have structs and arrays only.
_OBJECTS = frozenset(ABSTRACT_HEAP_TYPES[name] for name in ("struct", "array", "none"))

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule


def _small_number(code: bytes) -> int:
    """The constant of one byte that an expression is, or -1."""
    return code[1] if len(code) == 3 and code[0] in _CONSTANTS and code[1] < 0x40 else -1


def _function(code: bytes) -> int:
    """The function that an expression refers to, or -1."""
    if code[0] != _REF_FUNC:
        return -1
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(code[1:-1]))


class Facts:
    """Derived once per module; functions are then lowered one by one."""

    def __init__(self, module: DecodedModule) -> None:
        self.module = module
        self.imported = module.num_imported_funcs
        self._signatures: dict[int, Signature] = {}
        hints = [custom for custom in module.custom_ranges if custom.name == BRANCH_HINT][:1]
        self._hints = parse_hints(module.data, hints[0].start, hints[0].end) if hints else {}
        composites = [sub.composite for sub in module.types]
        self.function_types = composites
        self.finals = [sub.final for sub in module.types]
        self._indices = {number: index for index, number in enumerate(module.type_ids)}
        self.cont_functions = [c.func - CONCRETE if isinstance(c, ContType) else -1 for c in composites]
        self._type_ids = module.type_ids
        #: type index of each tag's function type
        self.tag_types = [self._indices[tag.type] for tag in module.tags]
        #: offsets of the index spaces in the instance, as `host.state` lays them out
        self._spaces: dict[str, int] = {}
        at = layout.size("WlInstance")
        for space, count in (
            ("global", module.num_globals),
            ("func", module.num_funcs),
            ("table", module.num_tables),
            ("mem", len(module.memories)),
            ("tag", len(module.tags)),
            ("wait", len(layout.WAITS) * sum(memory.shared for memory in module.memories)),
            ("type", module.num_types),
        ):
            self._spaces[space] = at
            at += layout.FIELD_BYTES * count
        found = scan(module)
        #: by function defined here: whether it is one that can stand in the place of a call (see
        #: `wasmloom.compiler.inlining`), as far as its instructions go; whether it has an instruction about
        #: continuations; the functions that it calls directly
        self.simple = found.simple
        self.stacks = found.stacks
        self.calls = found.calls
        #: functions, of those defined here, that switch stacks, or call one that does directly
        named = {self.imported + index for index in found.switching}
        callers = {index for index, calls in enumerate(self.calls) if not named.isdisjoint(calls)}
        self.switching = found.switching | callers
        #: by table that stays as it is and type: the places of the functions in it, and these, of those defined here
        self._fixed = self._fixed_tables(found.changed)
        self._referred = found.referred
        self._targets: dict[int, list[int]] = {}
        #: functions, of those defined here, that are compiled with the uniform prototype
        self.uniform = found.tails
        self.throws = self._propagate(found.throws, self.calls)
        self._bounds = module.body_starts, module.body_ends

    def hints(self, index: int) -> dict[int, bool]:
        """Hints for a function of those defined here: offset of an `if` or `br_if` → whether its condition holds."""
        own = self._hints.get(self.imported + index)
        if not own:
            return {}
        start = self.module.body_starts[index]
        return {start + offset: likely for offset, likely in own.items()}

    def _fixed_tables(self, changed: set[int]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """What is in tables of the module that nobody else has, if no segment can fail before it is there. `changed`:
        the tables that some function changes."""
        module = self.module
        others = changed.union(export.index for export in module.exports if export.kind == "table")
        found: dict[int, dict[int, int]] = {}
        functions: Sequence[int]
        for segment in module.elements:
            if segment.mode != "active":
                continue
            functions = segment.funcs if segment.exprs is None else [_function(item.code) for item in segment.exprs]
            first = -1 if segment.at is None else _small_number(segment.at.code)
            if segment.table < module.num_imported_tables or first < 0:
                return {}
            if first + len(functions) > module.table_type(segment.table).limits.min:
                return {}
            found.setdefault(segment.table, {}).update(enumerate(functions, first))
        fixed: dict[tuple[int, int], list[tuple[int, int]]] = {}
        types = module.func_type_ids
        for table, items in found.items():
            for place, function in items.items():
                if table not in others and function >= self.imported:
                    fixed.setdefault((table, types[function]), []).append((place, function - self.imported))
        return fixed

    def known_callees(self, table: int, type_index: int) -> list[tuple[int, int]]:
        """The places in a table that nothing changes with functions of a type, and these, of those defined here."""
        return self._fixed.get((table, self._type_ids[type_index]), [])

    def targets(self, type_index: int) -> list[int]:
        """The functions, of those defined here, of a type or one below it that there are references to. Others may
        come from elsewhere."""
        known = self._targets.get(type_index)
        if known is None:
            wanted, types = self._type_ids[type_index], self.module.func_type_ids
            known = self._targets[type_index] = [
                function - self.imported
                for function in sorted(self._referred)
                if function >= self.imported and wanted in self._above(types[function])
            ]
        return known

    @staticmethod
    def _above(id: int) -> list[int]:
        """A canonical type and all above it."""
        found = [id]
        while supers := sub_type(found[-1]).supers:
            found.append(supers[0])
        return found

    def is_object(self, type: int, is_canonical: bool = False) -> bool:
        """Whether a reference of a type, if it isn't null, refers to a struct or an array."""
        heap = type >> HEAP_SHIFT
        if heap < CONCRETE:
            return heap in _OBJECTS
        index = self._indices.get(heap - CONCRETE, -1) if is_canonical else heap - CONCRETE
        return index >= 0 and isinstance(self.function_types[index], StructType | ArrayType)

    def size(self, index: int) -> int:
        """Bytes of the body of a function of those defined here."""
        starts, ends = self._bounds
        return ends[index] - starts[index]

    def _propagate(self, throws: list[bool], calls: list[set[int]]) -> list[bool]:
        """Which functions may throw: those that throw, and their callers. Imports may throw."""
        imported = self.imported
        callers: list[list[int]] = [[] for _ in throws]
        todo = []
        for caller, callees in enumerate(calls):
            for callee in callees:
                if callee < imported:
                    throws[caller] = True
                else:
                    callers[callee - imported].append(caller)
            if throws[caller]:
                todo.append(caller)
        while todo:
            for caller in callers[todo.pop()]:
                if not throws[caller]:
                    throws[caller] = True
                    todo.append(caller)
        return throws

    def is_wide(self, space: str, index: int) -> bool:
        """Whether a "table" or "mem" has addresses of 64 bits."""
        if space == "table":
            return self.module.table_type(index).is64
        return space == "mem" and self.module.memories[index].is64

    def place(self, space: str, index: int) -> int:
        """The offset in the instance of the pointer to a "global", "func", "table", "mem", "tag", what waits in a
        memory ("wait", see `waits_at`) or the layout of a "type"."""
        return self._spaces[space] + layout.FIELD_BYTES * index

    def depth(self, type_index: int) -> int:
        """How many types are above a type of the module."""
        return len(self._above(self._type_ids[type_index])) - 1

    def before_descriptor(self, type_index: int) -> int:
        """How many fields of a struct type of the module lie before its descriptor; -1: it has none."""
        sub, before = sub_type(self._type_ids[type_index]), -1
        while sub.descriptor is not None:
            before = 0
            if not sub.supers:
                break
            sub = sub_type(sub.supers[0])
            above = sub.composite
            before = len(above.fields) if isinstance(above, StructType) else 0
        return before

    def may_throw(self, index: int) -> bool:
        """Whether a call of function `index` may end in an exception."""
        return index < self.imported or self.throws[index - self.imported]

    def signature(self, type_index: int) -> Signature:
        """The signature of a function type of the module."""
        known = self._signatures.get(type_index)
        if known is None:
            known = self._signatures[type_index] = signature(self.func_type(type_index))
        return known

    def is_callable(self, type_index: int) -> bool:
        """Whether the host can call functions of a type, that is, whether this version executes it."""
        try:
            self.signature(type_index)
        except UnsupportedError:
            return False
        return True

    def cont_signature(self, type_index: int) -> Signature:
        """The signature of the function type of a continuation type."""
        return self.signature(self.cont_functions[type_index])

    def tag_signature(self, tag: int) -> Signature:
        """The signature of a tag's function type."""
        return self.signature(self.tag_types[tag])

    def function_type(self, index: int) -> FuncType:
        """The type of a function; concrete types are those of the module."""
        return self.func_type(self.module.func_types[index])

    def func_type(self, type_index: int) -> FuncType:
        """A function type of the module."""
        composite = self.function_types[type_index]
        if not isinstance(composite, FuncType):  # validation excludes that
            raise TypeError(f"type {type_index} is no function type")
        return composite

    def function(self, index: int) -> Signature:
        """The signature of a function."""
        return self.signature(self.module.func_types[index])
