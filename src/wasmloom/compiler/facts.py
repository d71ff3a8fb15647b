"""Facts about a module as a whole: signatures, index spaces, and which functions may throw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasmloom.binary.hints import BRANCH_HINT, parse_hints
from wasmloom.compiler.abi import Signature, signature
from wasmloom.compiler.bodies import scan
from wasmloom.contract import layout
from wasmloom.errors import UnsupportedError
from wasmloom.spec.types import CONCRETE, ContType, FuncType

if TYPE_CHECKING:
    from wasmloom.binary.decoder import DecodedModule


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
        self.cont_functions = [c.func - CONCRETE if isinstance(c, ContType) else -1 for c in composites]
        index_of = {number: index for index, number in enumerate(module.type_ids)}
        #: type index of each tag's function type
        self.tag_types = [index_of[tag.type] for tag in module.tags]
        #: offsets of the index spaces in the instance, as `host.state` lays them out
        self._spaces: dict[str, int] = {}
        at = layout.size("WlInstance")
        for space, count in (
            ("global", module.num_globals),
            ("func", module.num_funcs),
            ("table", module.num_tables),
            ("mem", len(module.memories)),
            ("tag", len(module.tags)),
        ):
            self._spaces[space] = at
            at += layout.FIELD_BYTES * count
        #: by function defined here: whether it is one that can stand in the place of a call (see
        #: `wasmloom.compiler.inlining`), as far as its instructions go; the functions that it calls directly
        self.simple: list[bool]
        self.calls: list[set[int]]
        tails, throws, self.simple, self.calls = scan(module)
        #: functions, of those defined here, that are compiled with the uniform prototype
        self.uniform = tails
        self.throws = self._propagate(throws, self.calls)
        self._bounds = module.body_starts, module.body_ends

    def hints(self, index: int) -> dict[int, bool]:
        """Hints for a function of those defined here: offset of an `if` or `br_if` → whether its condition holds."""
        own = self._hints.get(self.imported + index)
        if not own:
            return {}
        start = self.module.body_starts[index]
        return {start + offset: likely for offset, likely in own.items()}

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
        """The offset in the instance of the pointer to a "global", "func", "table", "mem" or "tag"."""
        return self._spaces[space] + layout.FIELD_BYTES * index

    def may_throw(self, index: int) -> bool:
        """Whether a call of function `index` may end in an exception."""
        return index < self.imported or self.throws[index - self.imported]

    def signature(self, type_index: int) -> Signature:
        """The signature of a function type of the module."""
        known = self._signatures.get(type_index)
        if known is None:
            composite = self.function_types[type_index]
            if not isinstance(composite, FuncType):  # validation excludes that
                raise TypeError(f"type {type_index} is no function type")
            known = self._signatures[type_index] = signature(composite)
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

    def function(self, index: int) -> Signature:
        """The signature of a function."""
        return self.signature(self.module.func_types[index])
