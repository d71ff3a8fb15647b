# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Objects: structs and arrays (Core 3.0, 4.2.10 and 4.4.6). How they lie in memory, how they are made, and what the
runtime does with arrays.

A struct's fields follow one another, each at a multiple of its size (of 8 for vectors), so those of a subtype's objects
are where those of the supertype's are. `layout_of` says where; a type has its layout for as long as it lives.

Small objects are taken from lists in the context, by size class; code does that itself. Where a list is empty,
`_refill` finds blocks: those that the collector has found to be free, or new ones. It collects first when enough has
been allocated since the last time, or when the memory limit is reached.

Invariants:

* Whoever holds a layout keeps its type alive: modules and stores keep theirs, and a store's objects have no others.
* Between taking a block and writing its fields there is no call, so no collection sees half an object.
* Whoever makes one has all references where the collector sees them (`heap.holds` otherwise).
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint8_t, uint16_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.contract._layout import (
    MOST_OBJECT_BYTES,
    OBJECT_ARRAY,
    OBJECT_CLASSES,
    OBJECT_STRUCT,
    OBJECT_WORDS,
    RT_ARRAY_COPY,
    RT_ARRAY_FILL,
    RT_ARRAY_INIT_DATA,
    RT_ARRAY_INIT_ELEM,
    RT_ARRAY_NEW,
    RT_ARRAY_NEW_DATA,
    RT_ARRAY_NEW_DEFAULT,
    RT_ARRAY_NEW_ELEM,
    RT_ARRAY_NEW_FIXED,
    RT_FUNCTION_TEST,
    RT_REFILL_OBJECTS,
    SHALLOW,
    SLOT_BYTES,
    WlContext,
    WlFunction,
    WlInstance,
    WlObject,
    WlSegment,
    WlType,
)
from cython.cimports.wasmloom.contract.operands import Operands
from cython.cimports.wasmloom.runtime.bulk import SLICE, move
from cython.cimports.wasmloom.runtime.guests import Guest, charge, uncharge
from cython.cimports.wasmloom.runtime.heap import (
    CHUNK,
    FIRST_OBJECT_CLASS,
    MARK_BYTES,
    OBJECT_FLOOR,
    SLAB_HEADER,
    Heap,
    Slab,
    block_at,
    link_fresh,
    new_large,
    take_slab,
)
from cython.cimports.wasmloom.runtime.hooks import set_runtime_call
from cython.cimports.wasmloom.runtime.objects import Call, elements_of
from cython.cimports.wasmloom.runtime.runtime_calls import between_slices, subtype_code
from cython.cimports.wasmloom.runtime.stacks import collect
from cython.cimports.wasmloom.runtime.sweeping import sweep_slab
from cython.cimports.wasmloom.spec.canon import ARRAY, TypeInfo, heap_matches, type_info
from cython.cimports.wasmloom.system.allocation import calloc

from wasmloom.contract import traps
from wasmloom.contract.layout import OBJECT_SIZES
from wasmloom.spec.types import ABSTRACT_HEAP_TYPES, F32, HEAP_SHIFT, I8, I16, I32, REF_FLAG, V128

_OUT_OF_MEMORY = cython.declare(uint64_t, traps.OUT_OF_MEMORY)
_NULL_ARRAY = cython.declare(uint64_t, traps.NULL_ARRAY_REFERENCE)
_ARRAY_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.ARRAY_OUT_OF_BOUNDS)
_MEMORY_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.MEMORY_OUT_OF_BOUNDS)
_TABLE_OUT_OF_BOUNDS = cython.declare(uint64_t, traps.TABLE_OUT_OF_BOUNDS)
_I8 = cython.declare(uint64_t, I8)
_I16 = cython.declare(uint64_t, I16)
_I32 = cython.declare(uint64_t, I32)
_F32 = cython.declare(uint64_t, F32)
_V128 = cython.declare(uint64_t, V128)
_REF_FLAG = cython.declare(uint64_t, REF_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_FUNC = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["func"])
_ANY = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["any"])
_EXTERN = cython.declare(uint64_t, ABSTRACT_HEAP_TYPES["extern"])
_UNIT = cython.declare(uint64_t, SLOT_BYTES)
_OFFSET = cython.declare(uint64_t, cython.sizeof(uint32_t))

#: By size in words: the size class; by class: the bytes of a block.
_class_of = cython.declare(uint8_t[OBJECT_WORDS])
_bytes_of = cython.declare(uint64_t[OBJECT_CLASSES])


def _fill_tables() -> None:
    words: cython.int
    number: cython.int = 0
    for number, size in enumerate(OBJECT_SIZES):
        _bytes_of[number] = size
    number = 0
    for words in range(OBJECT_WORDS):
        while OBJECT_SIZES[number] < SLOT_BYTES * words:
            number += 1
        _class_of[words] = number


_fill_tables()


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _class(size: uint64_t) -> uint64_t:
    """The size class of an object."""
    return _class_of[(size + SLOT_BYTES - 1) // SLOT_BYTES] if size <= MOST_OBJECT_BYTES else OBJECT_CLASSES


# --- layouts ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def storage_bytes(storage: uint64_t) -> uint64_t:
    """The bytes of a field or element."""
    if storage & _REF_FLAG:
        return SLOT_BYTES
    if storage == _I8:
        return 1
    if storage == _I16:
        return 2
    if storage == _V128:
        return 16
    return 4 if storage == _I32 or storage == _F32 else 8


@cython.cfunc
@cython.exceptval(check=False)
def _traced(storage: uint64_t) -> uint32_t:
    """What the collector does about a field: 0 nothing, 1 marks an object, 2 finds out what it is."""
    heap: uint64_t = storage >> _HEAP_SHIFT
    if not storage & _REF_FLAG or heap_matches(heap, _FUNC):
        return 0
    return 1 if heap_matches(heap, _ANY) or heap_matches(heap, _EXTERN) else 2


@cython.cfunc
@cython.exceptval(check=False)
def _new_layout(info: cython.pointer(TypeInfo), above: cython.pointer(WlType)) -> cython.pointer(WlType):
    """The layout of a struct or an array; `above`: that of the supertype, or NULL. NULL: there is no memory."""
    n: uint64_t = info.n_params
    depth: uint64_t = info.depth
    places: uint64_t = max(depth + 1, cython.cast(uint64_t, SHALLOW))
    made: cython.pointer(WlType) = cython.cast(
        cython.pointer(WlType),
        calloc(1, cython.sizeof(WlType) + places * cython.sizeof(cython.p_void) + 2 * (n + 1) * _OFFSET),
    )
    display: cython.pointer(cython.p_void)
    offsets: cython.pointer(uint32_t)
    at: cython.pointer(uint32_t)
    i: uint64_t
    size: uint64_t
    end: uint64_t = SLOT_BYTES
    traced: uint32_t
    if made == cython.NULL:
        return cython.NULL
    display = cython.cast(cython.pointer(cython.p_void), made + 1)
    offsets = cython.cast(cython.pointer(uint32_t), display + places)
    at = offsets + n + 1
    if above != cython.NULL:
        memcpy(display, above + 1, depth * cython.sizeof(cython.p_void))
    display[depth] = made
    made.depth = depth
    made.id = info.id
    made.offsets = offsets
    made.traced_at = at
    if info.kind == ARRAY:
        made.what = OBJECT_ARRAY
        made.bytes = storage_bytes(info.types[0])
        made.traced = _traced(info.types[0])
        return made
    made.what = OBJECT_STRUCT
    for i in range(n + 1):
        if info.descriptor != cython.NULL and i == info.descriptor_at:
            end = (end + _UNIT - 1) & ~(_UNIT - 1)
            made.descriptor = end
            at[made.traced] = cython.cast(uint32_t, end)
            made.traced += 1
            end += _UNIT
        if i == n:
            break
        size = storage_bytes(info.types[i])
        end = (end + min(size, _UNIT) - 1) & ~(min(size, _UNIT) - 1)
        offsets[i] = cython.cast(uint32_t, end)
        traced = _traced(info.types[i])
        if traced:
            at[made.traced] = offsets[i] + traced - 1
            made.traced += 1
        end += size
    made.bytes = max((end + 7) & ~cython.cast(uint64_t, 7), 2 * _UNIT)
    made.size_class = _class(made.bytes)
    return made


@cython.cfunc
@cython.exceptval(check=True)
def layout_of(info: cython.pointer(TypeInfo)) -> cython.pointer(WlType):
    """The layout of a struct's or an array's type, which the caller keeps alive. Raises `MemoryError`."""
    above: cython.pointer(WlType) = cython.NULL
    if info.layout == cython.NULL:
        if info.above != cython.NULL:
            above = layout_of(info.above)  # types are at most 63 deep
        info.layout = _new_layout(info, above)
        if info.layout == cython.NULL:
            raise MemoryError
    return cython.cast(cython.pointer(WlType), info.layout)


@cython.cfunc
@cython.exceptval(check=False)
def info_of(type: cython.pointer(WlType)) -> cython.pointer(TypeInfo):
    """The canonical type of a layout, which is alive as long as there are objects of it."""
    return type_info(cython.cast(uint32_t, type.id))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def read_storage(
    storage: uint64_t,
    at: cython.pointer(cython.const[cython.char]),
    is_signed: cython.bint,
    words: cython.pointer(uint64_t),
) -> cython.void:
    """A field's or an element's value as slots hold it."""
    width: uint64_t = storage_bytes(storage)
    sign: uint64_t = cython.cast(uint64_t, 1) << (8 * width - 1 if width < 4 else 0)
    words[0] = 0
    memcpy(words, at, width)
    if is_signed and width < 4:
        words[0] = cython.cast(uint32_t, (words[0] ^ sign) - sign)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def write_storage(
    size: uint64_t, at: cython.p_char, words: cython.pointer(cython.const[uint64_t])
) -> cython.void:
    """Write a field or an element of a size."""
    memcpy(at, words, size)


# --- making objects ---


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _list(guest: cython.pointer(Guest), number: uint64_t) -> cython.pointer(cython.p_void):
    """The context's list of blocks of a size class."""
    return cython.cast(cython.pointer(cython.p_void), cython.address(guest.ctx.objects_0)) + number


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collect_first(guest: cython.pointer(Guest), heap: cython.pointer(Heap)) -> cython.bint:
    """Collect, if that is due before another object."""
    if heap.holds or not (
        heap.checks or heap.allocated >= max(heap.collect_at, cython.cast(uint64_t, OBJECT_FLOOR))
    ):
        return False
    collect(cython.address(guest.ctx))
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _blocks(guest: cython.pointer(Guest), heap: cython.pointer(Heap), number: uint64_t) -> cython.p_void:
    """Some blocks of a size class; NULL: they would exceed the limit, or there is no memory."""
    slab: cython.pointer(Slab) = heap.free_objects[number]
    count: uint64_t
    bytes: uint64_t
    found: cython.p_void
    if slab != cython.NULL:
        heap.free_objects[number] = slab.next_free
        sweep_slab(slab)
    else:
        slab = heap.filling_objects[number]
        if slab == cython.NULL or slab.used == slab.count:
            slab = take_slab(heap, FIRST_OBJECT_CLASS + number, _bytes_of[number])
            if slab == cython.NULL:
                return cython.NULL
            heap.filling_objects[number] = slab
        count = min(slab.count - slab.used, max(CHUNK // slab.size, cython.cast(uint64_t, 1)))
        bytes = count * slab.size + (MARK_BYTES + SLAB_HEADER if slab.used == 0 else 0)
        if not charge(guest, bytes):
            return cython.NULL
        slab.charged += bytes
        heap.object_bytes += count * slab.size
        link_fresh(slab, count)
    heap.allocated += slab.free_count * slab.size
    found = slab.free
    slab.free = cython.NULL
    slab.free_count = 0
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _large(guest: cython.pointer(Guest), heap: cython.pointer(Heap), size: uint64_t) -> cython.p_void:
    """A block for an object of its own size; NULL: as above."""
    slab: cython.pointer(Slab)
    whole: uint64_t = (size + SLAB_HEADER + MARK_BYTES + 4095) & ~cython.cast(uint64_t, 4095)
    if not charge(guest, whole):
        return cython.NULL
    slab = new_large(heap, size)
    if slab == cython.NULL:
        uncharge(guest, whole)
        return cython.NULL
    heap.allocated += whole
    heap.large_bytes += whole
    return block_at(slab, 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find(guest: cython.pointer(Guest), number: uint64_t, size: uint64_t) -> cython.p_void:
    """Blocks of a size class, linked, or one of a size for the last "class"; NULL when there are none, even after a
    collection."""
    heap: cython.pointer(Heap) = cython.address(guest.heap)
    collected: cython.bint = _collect_first(guest, heap)
    found: cython.p_void
    if number == OBJECT_CLASSES:
        found = _large(guest, heap, size)
        if found == cython.NULL and not collected and not heap.holds:
            collect(cython.address(guest.ctx))
            found = _large(guest, heap, size)
        return found
    found = _blocks(guest, heap, number)
    if found == cython.NULL and not collected and not heap.holds:
        collect(cython.address(guest.ctx))
        found = _blocks(guest, heap, number)
    return found


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _refill(ctx: cython.pointer(WlContext), type: cython.pointer(WlType)) -> uint64_t:
    """See `refill_objects`. When collections are forced, the list has one block at a time."""
    guest: cython.pointer(Guest) = cython.cast(cython.pointer(Guest), ctx)
    found: cython.p_void = _find(guest, type.size_class, type.bytes)
    if found == cython.NULL:
        return _OUT_OF_MEMORY
    _list(guest, type.size_class)[0] = found
    if guest.heap.checks:
        # The others are found again by the next collection.
        cython.cast(cython.pointer(uint64_t), found)[1] = 0
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _take(guest: cython.pointer(Guest), number: uint64_t, size: uint64_t) -> cython.pointer(WlObject):
    """A block of a size class, or for a large object."""
    place: cython.pointer(cython.p_void) = _list(guest, number)
    block: cython.pointer(cython.p_void) = cython.cast(cython.pointer(cython.p_void), place[0])
    if block == cython.NULL or number == OBJECT_CLASSES:
        block = cython.cast(cython.pointer(cython.p_void), _find(guest, number, size))
        if block == cython.NULL:
            return cython.NULL
        if number == OBJECT_CLASSES:
            return cython.cast(cython.pointer(WlObject), block)
        if guest.heap.checks:
            block[1] = cython.NULL
    place[0] = block[1]
    return cython.cast(cython.pointer(WlObject), block)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_struct(guest: cython.pointer(Guest), type: cython.pointer(WlType)) -> cython.pointer(WlObject):
    """A struct with zeroes for fields; NULL when there is no memory."""
    made: cython.pointer(WlObject) = _take(guest, type.size_class, type.bytes)
    if made != cython.NULL:
        memset(made, 0, type.bytes)
        made.type = type
    return made


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def new_array(
    guest: cython.pointer(Guest), type: cython.pointer(WlType), length: uint64_t
) -> cython.pointer(WlObject):
    """An array with zeroes for elements; NULL when there is no memory."""
    size: uint64_t = cython.sizeof(WlObject) + length * type.bytes
    number: uint64_t = _class(size)
    made: cython.pointer(WlObject) = _take(guest, number, size)
    if made != cython.NULL:
        if number != OBJECT_CLASSES:  # those are zero already
            memset(made + 1, 0, size - cython.sizeof(WlObject))
        made.length = length
        made.type = type
    return made


# --- what the runtime does with arrays ---


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _call(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> Call:
    """What a function for an instruction on arrays is given, by name. `imm0` is a type of the module."""
    call: Call
    call.ctx = ctx
    call.inst = inst
    call.op = cython.cast(cython.pointer(Operands), ip)
    call.type = cython.cast(cython.pointer(cython.pointer(WlType)), inst.types)[call.op.imm0]
    call.slots = 2 if call.type.bytes > SLOT_BYTES else 1
    call.words = fp + call.op.b
    call.result = fp + call.op.a
    return call


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _number(call: cython.pointer(Call), word: uint64_t) -> uint64_t:
    """An operand that is an i32, by its word."""
    return cython.cast(uint32_t, call.words[word])


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _array(call: cython.pointer(Call), word: uint64_t) -> cython.pointer(WlObject):
    """An operand that is an array, or null."""
    return cython.cast(cython.pointer(WlObject), call.words[word])


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _within(start: uint64_t, count: uint64_t, length: uint64_t) -> cython.bint:
    """Whether `count` elements from `start` on, both of 32 bits, are within the first `length`."""
    return start + count <= length


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make(call: cython.pointer(Call), length: uint64_t) -> cython.pointer(WlObject):
    """A new array, which is the result from now on, so that it stays; NULL when there is no memory.

    The result may be where operands are: these have been read.
    """
    made: cython.pointer(WlObject) = new_array(cython.cast(cython.pointer(Guest), call.ctx), call.type, length)
    if made != cython.NULL:
        call.result[0] = cython.cast(uint64_t, made)
    return made


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _move(
    call: cython.pointer(Call), to: cython.pointer(WlObject), target: uint64_t, origin: cython.p_char, source: uint64_t,
    count: uint64_t
) -> uint64_t:  # fmt: skip
    """Copy `count` bytes to elements of an array, from byte `target` on. Returns what ends it in between.

    Neither arrays nor segments move, and the frame keeps them.
    """
    elements: cython.p_char = elements_of(to)
    return move(
        cython.address(elements), target, cython.address(origin), source, count, between_slices, call.ctx
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fill_some(at: cython.p_char, size: uint64_t, words: cython.pointer(uint64_t), count: uint64_t) -> cython.void:
    """Write a value to `count` elements of a size."""
    i: uint64_t
    if size == 1:
        memset(at, cython.cast(cython.int, words[0] & 0xFF), count)
    elif size == 2:
        for i in range(count):
            cython.cast(cython.pointer(uint16_t), at)[i] = cython.cast(uint16_t, words[0])
    elif size == 4:
        for i in range(count):
            cython.cast(cython.pointer(uint32_t), at)[i] = cython.cast(uint32_t, words[0])
    elif size == 8:
        for i in range(count):
            cython.cast(cython.pointer(uint64_t), at)[i] = words[0]
    else:
        for i in range(count):
            cython.cast(cython.pointer(uint64_t), at)[2 * i] = words[0]
            cython.cast(cython.pointer(uint64_t), at)[2 * i + 1] = words[1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fill(
    call: cython.pointer(Call), array: cython.pointer(WlObject), index: uint64_t, words: cython.pointer(uint64_t),
    count: uint64_t
) -> uint64_t:  # fmt: skip
    """Write a value to elements, in slices. Returns what ends it in between."""
    size: uint64_t = call.type.bytes
    at: cython.p_char = elements_of(array) + size * index
    part: uint64_t
    ended: uint64_t
    while True:
        part = min(count, SLICE // size)
        _fill_some(at, size, words, part)
        count -= part
        if count == 0:
            return 0
        at += size * part
        ended = between_slices(call.ctx)
        if ended:
            return ended


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_new(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    value: uint64_t[2]
    length: uint64_t = _number(cython.address(call), call.slots)
    made: cython.pointer(WlObject)
    value[0] = call.words[0]
    value[1] = call.words[1]
    made = _make(cython.address(call), length)
    if made == cython.NULL:
        return _OUT_OF_MEMORY
    if value[0] == 0 and call.slots == 1:
        return 0
    return _fill(cython.address(call), made, 0, value, length)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_new_default(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    return 0 if _make(cython.address(call), _number(cython.address(call), 0)) != cython.NULL else _OUT_OF_MEMORY


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_new_fixed(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """The result comes last: it takes the place of the first element."""
    call: Call = _call(ctx, inst, fp, ip)
    count: uint64_t = call.op.imm1
    made: cython.pointer(WlObject) = new_array(cython.cast(cython.pointer(Guest), ctx), call.type, count)
    i: uint64_t
    if made == cython.NULL:
        return _OUT_OF_MEMORY
    for i in range(count):
        write_storage(call.type.bytes, elements_of(made) + call.type.bytes * i, call.words + call.slots * i)
    call.result[0] = cython.cast(uint64_t, made)
    return 0


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _data(call: cython.pointer(Call)) -> cython.pointer(WlSegment):
    """The data segment that an instruction names."""
    return cython.cast(cython.pointer(WlSegment), call.inst.data_segments) + call.op.imm1


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(check=False)
def _element(call: cython.pointer(Call)) -> cython.pointer(WlSegment):
    """The element segment that an instruction names."""
    return cython.cast(cython.pointer(WlSegment), call.inst.element_segments) + call.op.imm1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _from_segment(
    call: cython.pointer(Call), segment: cython.pointer(WlSegment), unit: uint64_t, trap: uint64_t
) -> uint64_t:
    """A new array from a segment, whose items have `unit` bytes each."""
    offset: uint64_t = _number(call, 0)
    length: uint64_t = _number(call, 1)
    made: cython.pointer(WlObject)
    if not _within(offset, length * call.type.bytes // unit, segment.length):
        return trap
    made = _make(call, length)
    if made == cython.NULL:
        return _OUT_OF_MEMORY
    return _move(call, made, 0, cython.cast(cython.p_char, segment.data), unit * offset, length * call.type.bytes)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_new_data(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    return _from_segment(cython.address(call), _data(cython.address(call)), 1, _MEMORY_OUT_OF_BOUNDS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_new_elem(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    return _from_segment(cython.address(call), _element(cython.address(call)), SLOT_BYTES, _TABLE_OUT_OF_BOUNDS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_fill(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    array: cython.pointer(WlObject) = _array(cython.address(call), 0)
    index: uint64_t = _number(cython.address(call), 1)
    count: uint64_t = _number(cython.address(call), 2 + call.slots)
    if array == cython.NULL:
        return _NULL_ARRAY
    if not _within(index, count, array.length):
        return _ARRAY_OUT_OF_BOUNDS
    return _fill(cython.address(call), array, index, call.words + 2, count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_copy(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    to: cython.pointer(WlObject) = _array(cython.address(call), 0)
    origin: cython.pointer(WlObject) = _array(cython.address(call), 2)
    target: uint64_t = _number(cython.address(call), 1)
    source: uint64_t = _number(cython.address(call), 3)
    count: uint64_t = _number(cython.address(call), 4)
    size: uint64_t = call.type.bytes
    if to == cython.NULL or origin == cython.NULL:
        return _NULL_ARRAY
    if not _within(target, count, to.length) or not _within(source, count, origin.length):
        return _ARRAY_OUT_OF_BOUNDS
    return _move(cython.address(call), to, size * target, elements_of(origin), size * source, size * count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _initialise(
    call: cython.pointer(Call), segment: cython.pointer(WlSegment), unit: uint64_t, trap: uint64_t
) -> uint64_t:
    """Copy from a segment, whose items have `unit` bytes each, to elements of an array."""
    array: cython.pointer(WlObject) = _array(call, 0)
    index: uint64_t = _number(call, 1)
    offset: uint64_t = _number(call, 2)
    count: uint64_t = _number(call, 3)
    size: uint64_t = call.type.bytes
    if array == cython.NULL:
        return _NULL_ARRAY
    if not _within(index, count, array.length):
        return _ARRAY_OUT_OF_BOUNDS
    if not _within(offset, count * size // unit, segment.length):
        return trap
    return _move(call, array, size * index, cython.cast(cython.p_char, segment.data), unit * offset, size * count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_init_data(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    return _initialise(cython.address(call), _data(cython.address(call)), 1, _MEMORY_OUT_OF_BOUNDS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _array_init_elem(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    call: Call = _call(ctx, inst, fp, ip)
    return _initialise(cython.address(call), _element(cython.address(call)), SLOT_BYTES, _TABLE_OUT_OF_BOUNDS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _function_test(
    ctx: cython.pointer(WlContext), inst: cython.pointer(WlInstance), fp: cython.pointer(uint64_t), ip: cython.p_char
) -> uint64_t:
    """Functions have no layouts: their types are compared as those of indirect calls are."""
    op: cython.pointer(Operands) = cython.cast(cython.pointer(Operands), ip)
    function: cython.pointer(WlFunction) = cython.cast(cython.pointer(WlFunction), fp[op.b])
    if function == cython.NULL:
        fp[op.a] = op.imm1 & 1
    elif op.imm1 & 2:
        fp[op.a] = function.type_id == op.imm0
    else:
        fp[op.a] = subtype_code(ctx, function.type_id, op.imm0) == 0
    return 0


def _register() -> None:
    set_runtime_call(RT_REFILL_OBJECTS, cython.cast(cython.p_void, _refill))
    set_runtime_call(RT_ARRAY_NEW, cython.cast(cython.p_void, _array_new))
    set_runtime_call(RT_ARRAY_NEW_DEFAULT, cython.cast(cython.p_void, _array_new_default))
    set_runtime_call(RT_ARRAY_NEW_FIXED, cython.cast(cython.p_void, _array_new_fixed))
    set_runtime_call(RT_ARRAY_NEW_DATA, cython.cast(cython.p_void, _array_new_data))
    set_runtime_call(RT_ARRAY_NEW_ELEM, cython.cast(cython.p_void, _array_new_elem))
    set_runtime_call(RT_ARRAY_FILL, cython.cast(cython.p_void, _array_fill))
    set_runtime_call(RT_ARRAY_COPY, cython.cast(cython.p_void, _array_copy))
    set_runtime_call(RT_ARRAY_INIT_DATA, cython.cast(cython.p_void, _array_init_data))
    set_runtime_call(RT_ARRAY_INIT_ELEM, cython.cast(cython.p_void, _array_init_elem))
    set_runtime_call(RT_FUNCTION_TEST, cython.cast(cython.p_void, _function_test))


_register()
