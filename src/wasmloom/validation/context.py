# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The context that instructions are checked under (Core 3.0, 3.1.1): a module's index spaces as C arrays.

It also notes which features a module uses, so an engine that lacks one of them can say where it is first used.
"""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.spec.canon import ARRAY, CONT, FUNC, STRUCT, TypeInfo, type_info

from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT_FLAG,
    F64,
    HEAP_SHIFT,
    I32,
    NULL_FLAG,
    REF_FLAG,
    V128,
    ValType,
    heap_name,
)

_F64 = cython.declare(uint64_t, F64)
_I32 = cython.declare(uint64_t, I32)

#: Abstract heap type → the feature that brings it.
_HEAP_FEATURES: dict[int, str] = {
    ABSTRACT_HEAP_TYPES[name]: feature
    for feature, names in {
        "reference-types": ("func", "extern"),
        # As types only: without the instructions of "gc", the first six have no value but null.
        "recursive-types": ("any", "eq", "i31", "struct", "array", "none", "nofunc", "noextern"),
        "exception-handling": ("exn", "noexn"),
        "stack-switching": ("cont", "nocont"),
    }.items()
    for name in names
}
#: The same for the kinds of defined types.
_KIND_FEATURES: dict[int, str] = {FUNC: "function-references", STRUCT: "gc", ARRAY: "gc", CONT: "stack-switching"}
_DESCRIPTORS = "custom-descriptors"


@cython.cclass
class Context:
    """A module's index spaces.

    `features` maps each feature that the module uses to its first user (an instruction, a type, "memory", …) and the
    offset of that. The names are those of the instruction table's headings, and "memory64", "table64", "multi-memory",
    "custom-page-sizes", "multi-value" (several results), "recursive-types" (recursion, subtyping, abstract heap types:
    what function types need).
    """

    def __cinit__(self, module: DecodedModule, stack_switching: bool = True) -> None:
        """Lay out `module`'s index spaces. Without `stack_switching` tags may not have results (Core 3.0, 3.2.16)."""
        i: cython.Py_ssize_t
        self.module = module
        self.base = cython.cast(cython.p_const_uchar, PyBytes_AS_STRING(module.data))
        self.stack_switching = stack_switching
        self.features = {}
        self.blocks = []
        self.noted = 0
        self.n_types = module.num_types
        self.types = cython.cast(
            cython.pointer(cython.pointer(TypeInfo)), self._room(self.n_types, cython.sizeof(cython.p_void))
        )
        for i in range(self.n_types):
            self.types[i] = type_info(module.type_id[i])
        self.n_funcs = module.num_funcs
        self.funcs = cython.cast(
            cython.pointer(cython.pointer(TypeInfo)), self._room(self.n_funcs, cython.sizeof(cython.p_void))
        )
        for i in range(self.n_funcs):
            self.funcs[i] = self.types[module.func_type[i]]
        self.inexact = cython.cast(cython.p_uchar, self._room(self.n_funcs, 1))
        for i in range(module.num_imports):
            if module.import_item[i].kind == 0:
                self.inexact[module.import_item[i].index] = not module.import_item[i].exact
        self.declared = cython.cast(cython.p_uchar, self._room(self.n_funcs, 1))
        self.n_tables = module.num_tables
        self.tables = module.table_item
        self.n_memories = len(module.memories)
        self.memory64 = cython.cast(cython.p_uchar, self._room(self.n_memories, 1))
        for i, memory in enumerate(module.memories):
            self.memory64[i] = memory.is64
        self.n_globals = module.num_globals
        self.globals = module.global_item
        self.n_tags = module.num_tags
        self.tags = cython.cast(
            cython.pointer(cython.pointer(TypeInfo)), self._room(self.n_tags, cython.sizeof(cython.p_void))
        )
        for i in range(self.n_tags):
            self.tags[i] = type_info(module.tag_item[i].id)
        self.n_elements = module.num_elements
        self.elements = module.element_item
        self.has_data_count = module.data_count is not None
        self.n_data = module.num_data

    @cython.cfunc
    @cython.exceptval(check=True)
    def _room(self, count: cython.size_t, size: cython.size_t) -> cython.p_void:
        """Zeroed memory for `count` items of `size` bytes that lives as long as the context."""
        block = bytearray(count * size + 8)
        self.blocks.append(block)
        start: cython.p_char = block
        return start

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note(self, feature: str, what: str, offset: cython.Py_ssize_t) -> cython.int:
        """Note that `what`, at `offset`, uses `feature`; only the first use counts."""
        if feature not in self.features:
            self.features[feature] = (what, offset)
            if feature == "legacy-exceptions":
                self.module.expect_old_exceptions()
        return 0

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(-1, check=False)
    def note_type(self, t: uint64_t, offset: cython.Py_ssize_t) -> cython.int:
        """Note the features that a canonical value type, used at `offset`, brings."""
        if t == self.noted or (t >= _F64 and t <= _I32):
            return 0
        with cython.gil:
            return self.note_new(t, offset)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def note_new(self, t: uint64_t, offset: cython.Py_ssize_t) -> cython.int:
        """The same, for a type that isn't the one noted last."""
        heap: uint64_t = t >> HEAP_SHIFT
        feature: str
        if t == V128:
            feature = "simd"
        elif not t & REF_FLAG:
            return 0
        elif heap < CONCRETE:
            feature = _HEAP_FEATURES[heap]
        else:
            feature = _KIND_FEATURES[type_info(cython.cast(uint32_t, heap - CONCRETE)).kind]
            if t & EXACT_FLAG and _DESCRIPTORS not in self.features:
                self.features[_DESCRIPTORS] = (self.show(t), offset)
        if feature not in self.features:
            self.features[feature] = (self.show(t), offset)
        if t & REF_FLAG and not t & NULL_FLAG and "function-references" not in self.features:
            self.features["function-references"] = (self.show(t), offset)
        self.noted = t
        return 0

    @cython.cfunc
    def show_heap(self, heap: uint64_t) -> str:
        """The text of a canonical heap type, with a type index of this module where it is a defined type."""
        i: uint32_t
        if heap == 0:
            return "bot"
        if heap >= CONCRETE:
            for i in range(self.n_types):
                if self.types[i].id == heap - CONCRETE:
                    heap = CONCRETE + i
                    break
        return heap_name(heap)

    @cython.cfunc
    def show(self, t: uint64_t) -> str:
        """The text of a canonical value type, with type indices of this module."""
        heap: uint64_t = t >> HEAP_SHIFT
        if not t & REF_FLAG or (heap < CONCRETE and heap != 0):
            return str(ValType(t))
        text = self.show_heap(heap)
        return f"(ref {'null ' if t & NULL_FLAG else ''}{f'(exact {text})' if t & EXACT_FLAG else text})"
