# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""What grows in a store: value stacks, memories and tables. How they come to be, and what keeps them from growing.

Each byte is charged before it is allocated, and given back when that fails. Only the store's owner makes them grow.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy
from cython.cimports.wasmloom.contract._layout import (
    MOST_BYTES_64,
    SLOT_BYTES,
    WlCont,
    WlContext,
    WlInstance,
    WlMemory,
    WlTable,
)
from cython.cimports.wasmloom.runtime.growth import FIRST_STACK, GROWN, LIMITED, NO_MEMORY, Growth
from cython.cimports.wasmloom.runtime.guests import (
    Guest,
    charge,
    charge_memory,
    memory_fits,
    uncharge,
    uncharge_memory,
)
from cython.cimports.wasmloom.runtime.native_stacks import map_values, values_bytes
from cython.cimports.wasmloom.runtime.regions import free_region, grow_region, new_region
from cython.cimports.wasmloom.runtime.sharing import grow_shared
from cython.cimports.wasmloom.runtime.stacks import move_stack, stays
from cython.cimports.wasmloom.runtime.store import Store, push
from cython.cimports.wasmloom.system.allocation import realloc

from wasmloom.contract.traps import OUT_OF_MEMORY, STACK_EXHAUSTED
from wasmloom.errors import WasmError
from wasmloom.spec.limits import MAX_TABLE_ELEMENTS, PAGE_BITS

_PAGE_BITS = cython.declare(uint64_t, PAGE_BITS)
_MAX_ELEMENTS = cython.declare(uint64_t, MAX_TABLE_ELEMENTS)
_OUT_OF_MEMORY = cython.declare(uint64_t, OUT_OF_MEMORY)
_STACK_EXHAUSTED = cython.declare(uint64_t, STACK_EXHAUSTED)


# --- value stacks ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def enlarge_stack(guest: cython.pointer(Guest), needed: uint64_t) -> uint64_t:
    """See `grow_stack`: the stack is smaller than what is needed.

    What a store begins with doesn't count towards its memory limit.
    """
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    size: uint64_t = ctx.stack_end - ctx.stack_base
    memory: cython.p_char
    owner: cython.p_void
    more: uint64_t
    if needed > guest.max_stack:
        return _STACK_EXHAUSTED
    size = 2 * size
    if ctx.current == cython.NULL or cython.cast(cython.pointer(WlCont), ctx.current).owner == cython.NULL:
        size = max(size, cython.cast(uint64_t, FIRST_STACK))
    while size < needed:
        size *= 2
    size = min(size, guest.max_stack)
    owner = cython.NULL if ctx.current == cython.NULL else cython.cast(cython.pointer(WlCont), ctx.current).owner
    if owner != cython.NULL:
        if stays(cython.cast(cython.pointer(WlCont), owner)):
            if not charge(guest, size - cython.cast(uint64_t, ctx.stack_end - ctx.stack_base)):
                return _OUT_OF_MEMORY
            ctx.stack_end = ctx.stack_base + size
            return 0
        if not move_stack(guest, cython.cast(cython.pointer(WlCont), owner), size):
            return _OUT_OF_MEMORY
    else:
        more = size - max(cython.cast(uint64_t, ctx.stack_end - ctx.stack_base), min(size, FIRST_STACK))
        if not charge(guest, more):
            return _OUT_OF_MEMORY
        if guest.reserved:
            ctx.stack_end = ctx.stack_base + size
            return 0
        memory = cython.cast(cython.p_char, realloc(ctx.stack_base, size))
        if memory == cython.NULL:
            uncharge(guest, more)
            return _OUT_OF_MEMORY
        ctx.stack_base = memory
        ctx.stack_end = memory + size
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reserve_stack(guest: cython.pointer(Guest)) -> cython.bint:
    """Give the context's own value stack, which runs, all the address space that it may ever need; it doesn't move
    any more."""
    ctx: cython.pointer(WlContext) = cython.address(guest.ctx)
    used: uint64_t = ctx.stack_end - ctx.stack_base
    memory: cython.p_char = map_values(guest)
    if memory == cython.NULL:
        return False
    memcpy(memory, ctx.stack_base, used)
    free(ctx.stack_base)
    ctx.stack_base = memory
    ctx.stack_end = ctx.stack_base + used
    ctx.stack_limit = ctx.stack_end
    guest.reserved = values_bytes(guest)
    return True


# --- memories ---


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def most_pages(is64: cython.bint, page_bits: uint64_t) -> uint64_t:
    """The most pages that a memory can have here: 64 GiB of a 64-bit one, else what the specification allows."""
    most: uint64_t = MOST_BYTES_64 if is64 else cython.cast(uint64_t, 1) << 32
    pages: uint64_t = most >> page_bits
    # A page number has as many bits as an address.
    return min(pages, cython.cast(uint64_t, 0xFFFFFFFF)) if not is64 else pages


@cython.cfunc
def new_memory(
    store: Store, pages: uint64_t, max_pages: uint64_t, is64: cython.bint, page_bits: uint64_t
) -> cython.pointer(WlMemory):
    """A zeroed memory of the store's, with pages of 2**page_bits bytes. Raises `WasmError` beyond the limits."""
    memory: cython.pointer(WlMemory)
    most: uint64_t = most_pages(is64, page_bits)
    size: uint64_t
    if pages > min(most, store.guest.most_bytes >> page_bits):
        if pages > most:
            raise WasmError(f"a memory of {pages} pages exceeds the limit of {most}")
        raise WasmError(
            f"a memory of {pages} pages exceeds the store's limit of {store.guest.most_bytes >> page_bits} for each"
        )
    size = pages << page_bits
    memory = cython.cast(cython.pointer(WlMemory), store.allocate(cython.sizeof(WlMemory)))
    memory.is64 = is64
    memory.page_bits = page_bits
    memory.checked = store.checked or page_bits != _PAGE_BITS
    memory.max_pages = min(max_pages, most)
    if not charge_memory(store.guest, size):
        raise store.over_limit(size)
    if not new_region(memory, size):
        uncharge_memory(store.guest, size)
        why = (
            ""
            if memory.checked
            else f": each memory reserves {'68' if is64 else '8'} GiB of address space (is that limited, as by "
            'ulimit -v? then Engine(memory="checked") does without)'
        )
        raise WasmError(f"the system gives no memory of {pages} pages{why}")
    if not push(cython.address(store.memories), memory):
        free_region(memory)
        uncharge_memory(store.guest, size)
        raise MemoryError
    return memory


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def grow_memory(
    store: Store, memory: cython.pointer(WlMemory), pages: uint64_t, size: cython.pointer(uint64_t)
) -> Growth:
    """Add pages to a memory; `size` gets its size before, in pages. A limit, the system, or a view of a checked memory
    can prevent it.

    Only the store's owner may call this, for a checked memory with the GIL held. Generated code reads the memory's new
    address from the `WlMemory`, and for memory 0 from its instance.
    """
    base: cython.p_char = memory.base
    old: uint64_t = memory.length
    more: uint64_t
    instance: cython.pointer(WlInstance)
    i: uint64_t
    if memory.shared:
        return GROWN if grow_shared(store.guest, memory, pages, size) else LIMITED
    size[0] = old >> memory.page_bits
    if pages > memory.max_pages - (old >> memory.page_bits):
        return LIMITED
    # No sum wraps from here on: see `most_pages`.
    more = pages << memory.page_bits
    if old + more > store.guest.most_bytes or not memory_fits(store.guest, more):
        return LIMITED
    if not charge_memory(store.guest, more):
        return NO_MEMORY
    if not grow_region(memory, old + more):
        uncharge_memory(store.guest, more)
        return NO_MEMORY
    for i in range(store.instances.count):
        instance = cython.cast(cython.pointer(WlInstance), store.instances.items[i])
        if instance.memory0_base == base:
            instance.memory0_base = memory.base
            instance.memory0_length = memory.length
    return GROWN


# --- tables ---


@cython.cfunc
def new_table(store: Store, length: uint64_t, max: uint64_t, is64: cython.bint, word: uint64_t) -> cython.pointer(
    WlTable
):
    """A table of the store's, filled with the reference `word`. Raises `WasmError` beyond the limits."""
    table: cython.pointer(WlTable) = cython.cast(cython.pointer(WlTable), store.allocate(cython.sizeof(WlTable)))
    most: uint64_t = min(_MAX_ELEMENTS, store.guest.most_elements)
    if length > most:
        raise WasmError(f"a table of {length} elements exceeds the limit of {most}")
    if (
        not memory_fits(store.guest, SLOT_BYTES * length)
        if store.guest.deterministic
        else store.guest.used_bytes + SLOT_BYTES * length > store.guest.memory_limit
    ):
        raise store.over_limit(SLOT_BYTES * length)
    if not push(cython.address(store.tables), table):
        raise MemoryError
    table.is64 = is64
    table.max = min(max, _MAX_ELEMENTS)
    if grow_table(store, table, length, word) != GROWN:
        raise MemoryError
    return table


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def grow_table(store: Store, table: cython.pointer(WlTable), more: uint64_t, word: uint64_t) -> Growth:
    """Add `more` elements to a table. For the store's owner only."""
    length: uint64_t = table.length
    elements: cython.pointer(uint64_t)
    i: uint64_t
    counts: cython.bint = store.guest.deterministic  # as memories do
    if more > table.max - length or length + more > store.guest.most_elements:
        return LIMITED
    if counts and not memory_fits(store.guest, SLOT_BYTES * more):
        return LIMITED
    if not (charge_memory(store.guest, SLOT_BYTES * more) if counts else charge(store.guest, SLOT_BYTES * more)):
        return NO_MEMORY
    elements = cython.cast(cython.pointer(uint64_t), realloc(table.elements, SLOT_BYTES * (length + more) + 1))
    if elements == cython.NULL:
        if counts:
            uncharge_memory(store.guest, SLOT_BYTES * more)
        else:
            uncharge(store.guest, SLOT_BYTES * more)
        return NO_MEMORY
    for i in range(length, length + more):
        elements[i] = word
    table.elements = elements
    table.length = length + more
    return GROWN
