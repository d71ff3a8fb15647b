"""The definitions of instructions on tables, memories as a whole, and globals.

What works on many elements or bytes is left to the runtime (`wasmloom.runtime.runtime_calls`), which checks first.
Source: Core 3.0, section 4.4.6 (tables), 4.4.7 (memories) and 4.4.4 (variables).
"""

from __future__ import annotations

from typing import Any

from wasmloom.contract.traps import HOST_LIMIT, MEMORY_OUT_OF_BOUNDS, TABLE_OUT_OF_BOUNDS
from wasmloom.semantics.kinds import by_name
from wasmloom.semantics.registry import operation
from wasmloom.spec.limits import PAGE_BITS

V = Any
"""A builder's value."""

#: The type of addresses and sizes, where nothing else is said.
_ADDRESS = by_name("addr").type


def _size(b: V, size: V, type: str) -> V:
    return size if type == size.type else b.convert("trunc", size, type)


def element(b: V, table: V, index: V, trap: int) -> V:
    """The address of a table's element."""
    wide = b.wide(index)
    b.trap_if(b.compare("uge", wide, b.struct_field(table, "WlTable", "length", "i64")), trap)
    return b.word(b.struct_field(table, "WlTable", "elements"), wide)


@operation("table.get", kind="instance", params="addr", results="ref", traps=(TABLE_OUT_OF_BOUNDS,))
def table_get(b: V, table: V, index: V) -> V:
    return b.load("i64", element(b, table, index, TABLE_OUT_OF_BOUNDS), align=8)


@operation("table.set", kind="instance", params="addr ref", traps=(TABLE_OUT_OF_BOUNDS,))
def table_set(b: V, table: V, index: V, reference: V) -> None:
    b.store(reference, element(b, table, index, TABLE_OUT_OF_BOUNDS), align=8, seen=True)


@operation("table.size", kind="instance")
def table_size(b: V, table: V, type: str = _ADDRESS) -> V:
    """`type`: that of the result, an address."""
    return _size(b, b.struct_field(table, "WlTable", "length", "i64"), type)


@operation("memory.size", kind="instance")
def memory_size(b: V, memory: V, type: str = _ADDRESS, page_bits: V | None = None) -> V:
    """`page_bits`: what the length in bytes is shifted by, if it isn't the usual number."""
    length = b.struct_field(memory, "WlMemory", "length", "i64")
    return _size(b, b.binary("lshr", length, page_bits or b.const("i64", PAGE_BITS)), type)


# --- globals: each has a cell, a word that instances share ---


@operation("global.get", kind="own")
def global_get(b: V, cell: V, type: str, is_mutable: bool = True) -> V:
    """`type`: that of the value, or of a whole word for those who need no more."""
    return b.load(type, cell, align=8) if is_mutable else b.constant_load(type, cell)


@operation("global.set", kind="own")
def global_set(b: V, cell: V, value: V) -> None:
    b.store(value, cell, align=8, seen=True)


# --- what the runtime does ---


def _by_runtime(
    mnemonic: str, params: str | None = None, results: str | None = None, traps: tuple[int, ...] = ()
) -> None:
    """Define an instruction as a call of the runtime's function of the same name."""
    name = mnemonic.replace(".", "_")

    @operation(mnemonic, kind="runtime", params=params, results=results, traps=traps)
    def define(b: V, *where: V) -> None:
        b.trap_if_code(b.runtime(name, *where))


_by_runtime("memory.grow", traps=(HOST_LIMIT,))
for _name in ("memory.init", "memory.fill"):
    _by_runtime(_name, traps=(MEMORY_OUT_OF_BOUNDS,))
_by_runtime("memory.copy", "addr addr addr", traps=(MEMORY_OUT_OF_BOUNDS,))
_by_runtime("data.drop")
_by_runtime("table.grow", "ref addr", "addr", traps=(HOST_LIMIT,))
_by_runtime("table.init", "addr i32 i32", traps=(TABLE_OUT_OF_BOUNDS,))
_by_runtime("table.copy", "addr addr addr", traps=(TABLE_OUT_OF_BOUNDS,))
_by_runtime("table.fill", "addr ref addr", traps=(TABLE_OUT_OF_BOUNDS,))
_by_runtime("elem.drop")
