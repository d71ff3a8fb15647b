# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Contents of memories and tables as a whole: what snapshots read and write.

The caller holds the store (`wasmloom.host.state.hold`), so no guest runs meanwhile. Signal handlers may (`poll`), and
these can let memories and tables grow: so addresses are read again after each `poll`. Nothing ever shrinks.
"""

from __future__ import annotations

from mmap import PAGESIZE

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcmp
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.contract._layout import WlFunction, WlMemory
from cython.cimports.wasmloom.host.externs import Memory, Table
from cython.cimports.wasmloom.host.signatures import KIND_FUNC, kind_of
from cython.cimports.wasmloom.host.state import InstanceState
from cython.cimports.wasmloom.runtime.growth import GROWN, grow_table
from cython.cimports.wasmloom.runtime.regions import map_image
from cython.cimports.wasmloom.system.polling import poll

from wasmloom.errors import WasmError
from wasmloom.spec.types import FUNCREF

#: Bytes of a page of the system.
_PAGE = cython.declare(uint64_t, PAGESIZE)
_FUNCTIONS = cython.typedef(cython.pointer(cython.pointer(WlFunction)))


def pieces_in_use(memory: Memory, size: int) -> list[tuple[int, int]]:
    """What of a memory isn't zero, in pieces of `size` bytes: (number of the first one, how many). The last piece may
    be shorter."""
    at: cython.p_char
    length: uint64_t = memory.pointer.length
    piece: uint64_t = size
    i: uint64_t
    first: uint64_t = 0
    count: uint64_t = 0
    found: list = []
    for i in range((length + piece - 1) // piece):
        poll()
        at = memory.pointer.base + i * piece
        if at[0] == 0 and memcmp(at, at + 1, min(piece, length - i * piece) - 1) == 0:
            continue
        if count and first + count == i:
            count += 1
            continue
        if count:
            found.append((first, count))
        first, count = i, 1
    if count:
        found.append((first, count))
    return found


def begin_with(memory: Memory, descriptor: int, length: int) -> None:
    """Let a new memory begin with the bytes of a file, which nothing changes any more, copied when they are written.

    `length`: of the file; a multiple of the system's pages, as long as the memory or less when that is rounded up to
    such a multiple. Raises `ValueError` for another one and for a memory that has begun so, `WasmError` when the system
    has no room: the memory is of no use then.
    """
    pointer: cython.pointer(WlMemory) = memory.pointer
    size: uint64_t = length
    done: cython.bint
    memory._store.lock()
    try:
        if size % _PAGE or not 0 < size <= (pointer.length + _PAGE - 1) & ~(_PAGE - 1) or pointer.imaged:
            raise ValueError(f"{length} bytes of a file can't be the beginning of a memory of {pointer.length} bytes")
        done = map_image(pointer, descriptor, size)
    finally:
        memory._store.unlock()
    if not done:
        raise WasmError(f"the system gives no memory of {length} bytes that is mapped from a file")


def homes_in(states: list[InstanceState], table: Table) -> list[tuple[int, int] | None] | None:
    """Where the functions of a table are: the number of an instance of `states`, and the index there; None for null.

    Instead of a list None, if the table has other references, or functions that are nowhere.
    """
    state: InstanceState
    functions: _FUNCTIONS
    function: cython.pointer(WlFunction)
    i: uint64_t
    word: uint64_t
    numbers: dict = {}
    imported: dict = {}
    found: list = []
    if kind_of(table.element) != cython.cast(cython.int, KIND_FUNC):
        return None
    for number, each in enumerate(states):
        state = each
        numbers[cython.cast(uint64_t, state.pointer)] = number
        functions = cython.cast(_FUNCTIONS, state.pointer.functions)
        for i in range(cython.cast(uint64_t, len(state.hosts))):
            if functions[i].instance == cython.NULL:
                imported.setdefault(cython.cast(uint64_t, functions[i]), (number, i))
    for i in range(table.pointer.length):
        poll()
        word = cython.cast(cython.pointer(uint64_t), table.pointer.elements)[i]
        if word == 0:
            found.append(None)
            continue
        function = cython.cast(cython.pointer(WlFunction), word)
        if function.instance != cython.NULL:
            where = numbers.get(cython.cast(uint64_t, function.instance))
            home = None if where is None else (where, function.index)
        else:
            home = imported.get(word)
        if home is None:
            return None
        found.append(home)
    return found


def lengthen(table: Table, more: int) -> None:
    """Add `more` elements to a table, all null, whatever its type: the caller sets them. Raises `WasmError` at a
    limit."""
    count: uint64_t = more
    table._store.lock()
    try:
        if grow_table(table._store, table.pointer, count, 0) != GROWN:
            raise WasmError(f"a table of {table.pointer.length} elements can't grow by {more}: a limit prevents it")
    finally:
        table._store.unlock()


def set_functions(states: list[InstanceState], table: Table, homes: bytes) -> bool:
    """Fill a table with functions: for each element 1 + the number of an instance, and an index, in 32 bits each;
    0: null. Returns whether this has been done: not if the table is for functions of some types only, which are
    checked where functions are set one by one.

    Raises `ValueError` for another number of elements, and functions and instances that there aren't.
    """
    state: InstanceState
    words: cython.pointer(uint32_t) = cython.cast(cython.pointer(uint32_t), PyBytes_AS_STRING(homes))
    functions: cython.pointer(uint64_t) = cython.NULL
    elements: cython.pointer(uint64_t)
    i: uint64_t
    before: uint32_t = 0
    count: uint32_t = 0
    if table.element != FUNCREF:
        return False
    table._store.lock()
    try:
        if cython.cast(uint64_t, len(homes)) != 2 * cython.sizeof(uint32_t) * table.pointer.length:
            raise ValueError(f"{len(homes)} bytes don't fill a table of {table.pointer.length} elements")
        elements = cython.cast(cython.pointer(uint64_t), table.pointer.elements)
        for i in range(table.pointer.length):
            if words[2 * i] == 0:
                elements[i] = 0
                continue
            if words[2 * i] != before:
                before = words[2 * i]
                if before > cython.cast(uint64_t, len(states)):
                    raise ValueError(f"there is no instance {before - 1}")
                state = states[before - 1]
                if state.store is not table._store:
                    raise ValueError("an instance of another store")
                functions = cython.cast(cython.pointer(uint64_t), state.pointer.functions)
                count = cython.cast(DecodedModule, state.module.decoded).num_funcs
            if words[2 * i + 1] >= count:
                raise ValueError(f"there is no function {words[2 * i + 1]}")
            elements[i] = functions[words[2 * i + 1]]
    finally:
        table._store.unlock()
    return True
