"""Value, heap and composite types of WebAssembly 3.0 and the stack-switching proposal.

A value type is one integer, so compiled code compares types with one instruction:

* number and vector types, and the packed storage types, are their binary opcode (``0x7F`` is ``i32``);
* a reference type is ``REF_FLAG``, ``NULL_FLAG`` when nullable, ``EXACT_FLAG`` when it is exact, and the heap type
  shifted by ``HEAP_SHIFT``;
* an abstract heap type is its binary opcode (``0x70`` is ``func``), a concrete one is ``CONCRETE + number``. By itself,
  as an immediate, an exact one has `EXACT` added.

The number of a concrete heap type is a *type index* in a module's abstract syntax (`wasmloom.spec.module`) and a
*canonical id* everywhere else (`wasmloom.spec.canon`). The two never mix: canonical ids are made once, when the
type section has been read.

Source: Core 3.0, sections 2.3 (types) and 5.3 (binary format); stack switching Explainer, "Binary format"; custom
descriptors Overview.
"""

from __future__ import annotations

from typing import NamedTuple

EXACT_FLAG = 1 << 7
"""Of a reference to a defined type: to that type only, and to none below it (custom descriptors)."""
REF_FLAG = 1 << 8
NULL_FLAG = 1 << 9
HEAP_SHIFT = 10
CONCRETE = 1 << 8
"""Heap types from here on are concrete: ``heap - CONCRETE`` is the type's index or canonical id."""
EXACT = 1 << 40
"""Added to a concrete heap type that is exact."""

#: Abstract heap types by name: their one-byte opcode (Core 3.0, 5.3.2; the Explainer for ``cont`` and ``nocont``).
ABSTRACT_HEAP_TYPES: dict[str, int] = {
    "exn": 0x69,
    "array": 0x6A,
    "struct": 0x6B,
    "i31": 0x6C,
    "eq": 0x6D,
    "any": 0x6E,
    "extern": 0x6F,
    "func": 0x70,
    "none": 0x71,
    "noextern": 0x72,
    "nofunc": 0x73,
    "noexn": 0x74,
    "cont": 0x68,
    "nocont": 0x75,
}
ABSTRACT_HEAP_NAMES: dict[int, str] = {code: name for name, code in ABSTRACT_HEAP_TYPES.items()}

#: Number, vector and packed types by name: their one-byte opcode.
PLAIN_TYPES: dict[str, int] = {
    "i32": 0x7F,
    "i64": 0x7E,
    "f32": 0x7D,
    "f64": 0x7C,
    "v128": 0x7B,
    "i8": 0x78,
    "i16": 0x77,
}
PLAIN_NAMES: dict[int, str] = {code: name for name, code in PLAIN_TYPES.items()}

#: Shorthand of the text format: nullable references to abstract heap types.
REF_SHORTHANDS: dict[str, str] = {
    "funcref": "func",
    "externref": "extern",
    "anyref": "any",
    "eqref": "eq",
    "i31ref": "i31",
    "structref": "struct",
    "arrayref": "array",
    "exnref": "exn",
    "contref": "cont",
    "nullref": "none",
    "nullexternref": "noextern",
    "nullfuncref": "nofunc",
    "nullexnref": "noexn",
    "nullcontref": "nocont",
}
_SHORTHAND_OF_HEAP = {ABSTRACT_HEAP_TYPES[heap]: short for short, heap in REF_SHORTHANDS.items()}


class ValType(int):
    """A value type: an `int` (see the module's text for the encoding) that prints as the text format does."""

    __slots__ = ()

    def __str__(self) -> str:
        if not self & REF_FLAG:
            return PLAIN_NAMES.get(int(self), "bot")
        heap = self.heap
        if self & NULL_FLAG and heap in _SHORTHAND_OF_HEAP:
            return _SHORTHAND_OF_HEAP[heap]
        return f"(ref {'null ' if self & NULL_FLAG else ''}{heap_name(heap)})"

    def __repr__(self) -> str:
        return f"<ValType {self}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __copy__(self) -> ValType:
        return self

    def __deepcopy__(self, memo: object) -> ValType:
        return self

    def __reduce__(self) -> tuple[type[ValType], tuple[int]]:
        if self & REF_FLAG and self.heap >= CONCRETE:
            raise TypeError(f"{self!r} can't be pickled: the number of a module's type means nothing elsewhere")
        return ValType, (int(self),)

    @property
    def is_ref(self) -> bool:
        """Whether this is a reference type."""
        return bool(self & REF_FLAG)

    @property
    def is_nullable(self) -> bool:
        """Whether this is a reference type with null among its values."""
        return bool(self & NULL_FLAG)

    @property
    def heap(self) -> int:
        """The heap type of a reference type, `EXACT` included; meaningless for others."""
        return int(self) >> HEAP_SHIFT | (EXACT if self & EXACT_FLAG else 0)

    @property
    def is_defaultable(self) -> bool:
        """Whether the type has a default value: all but non-null references (Core 3.0, 3.2.22)."""
        return not self & REF_FLAG or bool(self & NULL_FLAG)


def heap_name(heap: int) -> str:
    """The text of a heap type: ``func``, or the number of a concrete one."""
    if heap & EXACT:
        return f"(exact {heap - EXACT - CONCRETE})"
    return str(heap - CONCRETE) if heap >= CONCRETE else ABSTRACT_HEAP_NAMES.get(heap, f"0x{heap:02x}")


def ref_type(heap: int, nullable: bool) -> ValType:
    """The reference type to `heap` (an abstract opcode, or ``CONCRETE + number``, with `EXACT` if it is exact)."""
    flags = REF_FLAG | (NULL_FLAG if nullable else 0) | (EXACT_FLAG if heap & EXACT else 0)
    return ValType(flags | (heap & ~EXACT) << HEAP_SHIFT)


BOT = ValType(0)
I32 = ValType(0x7F)
I64 = ValType(0x7E)
F32 = ValType(0x7D)
F64 = ValType(0x7C)
V128 = ValType(0x7B)
I8 = ValType(0x78)
I16 = ValType(0x77)
FUNCREF = ref_type(0x70, True)
EXTERNREF = ref_type(0x6F, True)
EXNREF = ref_type(0x69, True)
CONTREF = ref_type(0x68, True)
ANYREF = ref_type(0x6E, True)


class FuncType(NamedTuple):
    """Parameters and results of a function."""

    params: tuple[ValType, ...]
    results: tuple[ValType, ...]

    def __str__(self) -> str:
        # A tuple isn't checked where it is made: what isn't types is shown as it is.
        params, results = (
            " ".join(map(str, types)) if isinstance(types, tuple | list) else str(types) for types in self
        )
        return f"[{params}] -> [{results}]"


class FieldType(NamedTuple):
    """A struct's field or an array's element: a storage type, and whether it can be written."""

    storage: ValType
    mutable: bool


class StructType(NamedTuple):
    """The fields of a struct."""

    fields: tuple[FieldType, ...]


class ArrayType(NamedTuple):
    """The element of an array."""

    field: FieldType


class ContType(NamedTuple):
    """A continuation: the heap type of the function type it runs (always concrete)."""

    func: int


CompositeType = FuncType | StructType | ArrayType | ContType


class SubType(NamedTuple):
    """A type definition: composite type, declared supertypes (type numbers, at most one), and whether it is final.

    `descriptor`: the number of the type that describes it, `describes`: of the type that it describes, of its own
    group (custom descriptors).
    """

    composite: CompositeType
    supers: tuple[int, ...] = ()
    final: bool = True
    descriptor: int | None = None
    describes: int | None = None


class Limits(NamedTuple):
    """Size limits of a memory (pages) or table (elements); `max` is None where there is none."""

    min: int
    max: int | None


class TableType(NamedTuple):
    """A table: what it holds, its limits, and whether it is indexed by i64."""

    element: ValType
    limits: Limits
    is64: bool = False


class MemoryType(NamedTuple):
    """A memory: limits in pages, whether addressed by i64, shared, and log2 of its page size."""

    limits: Limits
    is64: bool = False
    shared: bool = False
    page_size_log2: int = 16


class GlobalType(NamedTuple):
    """A global: its type and whether it can be written."""

    content: ValType
    mutable: bool


class TagType(NamedTuple):
    """A tag: the type number of its function type."""

    type: int


#: Kinds of imports and exports, in the order of their binary code (Core 3.0, 5.5.5).
EXTERN_KINDS: tuple[str, ...] = ("func", "table", "memory", "global", "tag")
