# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""The instruction reader: decodes one instruction after the other, for validation and translation alike.

A `Reader` is a range of bytes with a position; `next_instr` fills an `Instr` and moves on. Both are C structs (see
``reader.pxd``), so users keep them on the C stack or inside a cclass and keep the module's `bytes` alive themselves.
Every function raises `CompileError` with the offset of the offending byte: "unexpected end of section or function",
"integer representation too long", "integer too large", "illegal opcode …", "length out of bounds" and the like.

Immediates fill `a`, `b`, `c`, `d` in the order of the instruction table's third column:

============== =====================================================================================================
i32 i64        sign-extended to 64 bits
f32 f64        the bits
v128, lanes    two fields: the low 64 bits (lanes 0 to 7), then the high ones
block          as int64: ``>= 0`` is a type index; ``-1`` (`BLOCK_EMPTY`) is ``[] -> []``; any other negative ``x``
               stands for ``[] -> [t]`` with the value type ``t == ~x`` (so the empty type is the same with t = BOT)
mem:N atomic:N  three fields: offset, memory index, log2 of the alignment (the lane of a lane access comes fourth)
lane           the lane number, unchecked
heap           a heap type: abstract opcode or ``CONCRETE + type index``, with `EXACT` if it is exact
labels         one field: the default label; the others are `count` items at `vec`
cast           four fields: flags (bit 0: nullable source, bit 1: nullable target), label, source and target heap type
types catches handlers   no field: `count` items at `vec`
zero           no field
everything else          an index or number below 2**32
============== =====================================================================================================

Value and heap types are those of `wasmloom.spec.types` with type *indices* as numbers (the reader knows no canonical
ids). Items of a vector, which have been checked already, are read with ``it = items(reader, instr)`` and then, `count`
times, `read_u32` (labels), `read_valtype` (types), `read_catch` (catches) or `read_handler` (handlers) on
``address(it)``.

The reader checks only the binary grammar of single instructions (Core 3.0, 5.4). The caller checks indices, alignments,
lanes and the nesting of blocks.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int32_t, int64_t, uint64_t
from cython.cimports.libc.string import memcpy, memset
from cython.cimports.wasmloom.binary.reader import (
    _ABSTRACT_HEAP,
    _LAYOUT,
    _ONE_BYTE,
    _PREFIX_BASE,
    _PREFIXED,
    _VALTYPE,
    BLOCK_EMPTY,
    CATCH,
    CATCH_ALL_REF,
    CATCH_REF,
    HAS_BLOCK,
    HAS_MEMARG,
    HAS_NONE,
    HAS_NUMBER,
    HAS_SIGN,
    L_BLOCK,
    L_BYTES16,
    L_CAST,
    L_CATCHES,
    L_F32,
    L_F64,
    L_HANDLERS,
    L_HEAP,
    L_I32,
    L_I64,
    L_INDEX,
    L_LABELS,
    L_LANE,
    L_MEMARG,
    L_NONE,
    L_TYPES,
    L_ZERO,
    MAX_IMMEDIATES,
    MAX_PREFIXED,
    MAX_PREFIXES,
    MAX_ROWS,
    ON_LABEL,
    ON_SWITCH,
    ROW_MASK,
    Clause,
    Instr,
    Reader,
    read_range,
)
from cython.cimports.wasmloom.system.polling import poll, poll_many

from wasmloom.errors import CompileError
from wasmloom.spec.instructions import INSTRUCTIONS, Instruction
from wasmloom.spec.limits import MAX_BR_TABLE, MAX_CLAUSES
from wasmloom.spec.proposals import unknown_opcode
from wasmloom.spec.types import (
    ABSTRACT_HEAP_TYPES,
    CONCRETE,
    EXACT,
    EXACT_FLAG,
    HEAP_SHIFT,
    I8,
    I16,
    NULL_FLAG,
    PLAIN_TYPES,
    REF_FLAG,
    ref_type,
)

#: Immediates of the instruction table (up to a colon) → their layout; those that are missing are indices.
_LAYOUTS: dict[str, int] = {
    "block": L_BLOCK,
    "mem:": L_MEMARG,
    "atomic:": L_MEMARG,
    "zero": L_ZERO,
    "i32": L_I32,
    "i64": L_I64,
    "f32": L_F32,
    "f64": L_F64,
    "labels": L_LABELS,
    "v128": L_BYTES16,
    "lanes": L_BYTES16,
    "lane": L_LANE,
    "lane:": L_LANE,
    "heap": L_HEAP,
    "types": L_TYPES,
    "catches": L_CATCHES,
    "handlers": L_HANDLERS,
    "cast": L_CAST,
}

_MAX_LABELS = cython.declare(cython.int, MAX_BR_TABLE)
_MAX_CLAUSES = cython.declare(cython.int, MAX_CLAUSES)
#: Bytes of instructions between two polls.
_STEP = cython.declare(cython.Py_ssize_t, 1024)
_CONCRETE = cython.declare(int64_t, CONCRETE)
_EXACT = cython.declare(int64_t, EXACT)
_EXACT_FLAG = cython.declare(int64_t, EXACT_FLAG)
_REF_FLAG = cython.declare(int64_t, REF_FLAG)
_NULL_FLAG = cython.declare(int64_t, NULL_FLAG)
_HEAP_SHIFT = cython.declare(cython.int, HEAP_SHIFT)
_REF_NULL = cython.declare(cython.int, 0x63)  # first bytes of the long forms of reference types (Core 3.0, 5.3.4)
_REF = cython.declare(cython.int, 0x64)
_EXACTLY = cython.declare(cython.int, 0x62)  # before the index of an exact heap type (custom descriptors)


def _fast_flags(row: Instruction) -> int:
    """The flags of a row with which `next_instr` decodes it by itself."""
    if not row.immediates:
        return HAS_NONE
    if len(row.immediates) > 1:
        return 0
    name, colon, _ = row.immediates[0].partition(":")
    layout = _LAYOUTS.get(name + colon, L_INDEX)
    if layout == L_MEMARG:
        return HAS_MEMARG
    if layout == L_BLOCK:
        return HAS_BLOCK
    if layout in (L_I32, L_I64):
        return HAS_NUMBER | HAS_SIGN
    return HAS_NUMBER if layout == L_INDEX and ":" not in row.immediates[0] else 0


def _fill_tables() -> None:
    """Fill the C tables from the instruction table and the type codes."""
    i: cython.int
    k: cython.int
    memset(_ONE_BYTE, 0xFF, cython.sizeof(_ONE_BYTE))
    memset(_PREFIX_BASE, 0xFF, cython.sizeof(_PREFIX_BASE))
    memset(_PREFIXED, 0xFF, cython.sizeof(_PREFIXED))
    memset(_LAYOUT, L_NONE, cython.sizeof(_LAYOUT))
    memset(_ABSTRACT_HEAP, 0, cython.sizeof(_ABSTRACT_HEAP))
    memset(_VALTYPE, 0, cython.sizeof(_VALTYPE))
    bases: dict[int, int] = {}
    for row in INSTRUCTIONS:
        i = row.index
        if row.prefix:
            base = bases.setdefault(row.prefix, len(bases) * MAX_PREFIXED)
            if row.opcode >= MAX_PREFIXED or len(bases) > MAX_PREFIXES:
                raise RuntimeError("the instruction table has outgrown the reader's tables")
            _PREFIX_BASE[row.prefix] = base
            _PREFIXED[base + row.opcode] = i
        if i >= MAX_ROWS or len(row.immediates) >= MAX_IMMEDIATES:
            raise RuntimeError("the instruction table has outgrown the reader's tables")
        k = i * MAX_IMMEDIATES
        for kind in row.immediates:
            name, colon, _ = kind.partition(":")
            _LAYOUT[k] = _LAYOUTS.get(name + colon, L_INDEX)
            k += 1
        if not row.prefix:
            _ONE_BYTE[row.opcode] = i | _fast_flags(row)
    for code in ABSTRACT_HEAP_TYPES.values():
        _ABSTRACT_HEAP[code] = 1
        _VALTYPE[code] = ref_type(code, True)
    for code in PLAIN_TYPES.values():
        if code not in (I8, I16):
            _VALTYPE[code] = code


_fill_tables()


@cython.cfunc
@cython.exceptval(-1, check=False)
def malformed(message: str, r: cython.pointer(Reader), where: cython.p_const_uchar) -> cython.int:
    """Raise `CompileError` for the byte at `where`."""
    raise CompileError(message, where - r.base)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _refuse(message: cython.p_const_char, r: cython.pointer(Reader), where: cython.p_const_uchar) -> cython.int:
    """As `malformed`, without the GIL."""
    with cython.gil:
        return malformed(message.decode(), r, where)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _end(r: cython.pointer(Reader)) -> cython.int:
    return _refuse(b"unexpected end of section or function", r, r.end)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_byte(r: cython.pointer(Reader)) -> cython.int:
    """The next byte."""
    value: cython.int
    if r.pos >= r.end:
        return _end(r)
    value = r.pos[0]
    r.pos += 1
    return value


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
@cython.inline
def _unsigned(r: cython.pointer(Reader), bits: cython.int, out: cython.pointer(uint64_t)) -> cython.int:
    """Read an unsigned LEB128 number of at most `bits` bits (Core 3.0, 5.2.2)."""
    value: uint64_t = 0
    shift: cython.int = 0
    byte: cython.uint
    while True:
        if r.pos >= r.end:
            return _end(r)
        byte = r.pos[0]
        if bits - shift < 7 and byte & 0x7F >= cython.cast(cython.uint, 1) << (bits - shift):
            return _refuse(b"integer too large", r, r.pos)
        r.pos += 1
        value |= cython.cast(uint64_t, byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = value
            return 0
        shift += 7
        if shift >= bits:
            return _refuse(b"integer representation too long", r, r.pos - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
@cython.inline
def _signed(r: cython.pointer(Reader), bits: cython.int, out: cython.pointer(int64_t)) -> cython.int:
    """Read a signed LEB128 number of at most `bits` bits (Core 3.0, 5.2.2)."""
    value: uint64_t = 0
    shift: cython.int = 0
    byte: cython.uint
    mask: cython.uint
    while True:
        if r.pos >= r.end:
            return _end(r)
        byte = r.pos[0]
        if bits - shift < 7:
            mask = (cython.cast(cython.uint, 0xFFFFFFFF) << (bits - shift - 1)) & 0x7F
            if byte & mask != 0 and byte & mask != mask:
                return _refuse(b"integer too large", r, r.pos)
        r.pos += 1
        value |= cython.cast(uint64_t, byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte & 0x40 and shift < 64:
                value |= ~cython.cast(uint64_t, 0) << shift
            out[0] = cython.cast(int64_t, value)
            return 0
        if shift >= bits:
            return _refuse(b"integer representation too long", r, r.pos - 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_u32(r: cython.pointer(Reader)) -> int64_t:
    """The next unsigned 32-bit LEB128 number.

    Everything that a module may have many of has one, so this is where decoding can be interrupted.
    """
    value: uint64_t = 0
    if poll() < 0:
        return -1
    if r.pos < r.end and r.pos[0] < 0x80:
        value = r.pos[0]
        r.pos += 1
        return value
    if _unsigned(r, 32, cython.address(value)) < 0:
        return -1
    return value


@cython.cfunc
@cython.nogil
@cython.inline
@cython.exceptval(-1, check=False)
def _index(r: cython.pointer(Reader), out: cython.pointer(uint64_t)) -> cython.int:
    """As `read_u32`, within an instruction: `next_instr` has polled for it."""
    if r.pos < r.end and r.pos[0] < 0x80:
        out[0] = r.pos[0]
        r.pos += 1
        return 0
    return _unsigned(r, 32, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_u64(r: cython.pointer(Reader), out: cython.pointer(uint64_t)) -> cython.int:
    """Read an unsigned 64-bit LEB128 number."""
    return _unsigned(r, 64, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_s32(r: cython.pointer(Reader), out: cython.pointer(int64_t)) -> cython.int:
    """Read a signed 32-bit LEB128 number."""
    return _signed(r, 32, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_s33(r: cython.pointer(Reader), out: cython.pointer(int64_t)) -> cython.int:
    """Read a signed 33-bit LEB128 number."""
    return _signed(r, 33, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_s64(r: cython.pointer(Reader), out: cython.pointer(int64_t)) -> cython.int:
    """Read a signed 64-bit LEB128 number."""
    return _signed(r, 64, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_heap(r: cython.pointer(Reader)) -> int64_t:
    """The next heap type: abstract opcode, or `CONCRETE` + type index (Core 3.0, 5.3.3)."""
    value: int64_t = 0
    start: cython.p_const_uchar = r.pos
    if start < r.end and start[0] < 0x80 and _ABSTRACT_HEAP[start[0]]:
        r.pos += 1
        return start[0]
    if start < r.end and start[0] == _EXACTLY:
        r.pos += 1
    if _signed(r, 33, cython.address(value)) < 0:
        return -1
    if value < 0:
        return _refuse(b"malformed heap type", r, start)
    return _CONCRETE + value + (_EXACT if start[0] == _EXACTLY else 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_valtype(r: cython.pointer(Reader)) -> int64_t:
    """The next value type (Core 3.0, 5.3.5), concrete heap types as type indices."""
    byte: cython.int
    heap: int64_t
    if r.pos >= r.end:
        return _end(r)
    byte = r.pos[0]
    if _VALTYPE[byte]:
        r.pos += 1
        return _VALTYPE[byte]
    if byte != _REF and byte != _REF_NULL:
        return _refuse(b"malformed value type", r, r.pos)
    r.pos += 1
    heap = read_heap(r)
    if heap < 0:
        return -1
    return reference_in(heap, byte == _REF_NULL)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reference_in(heap: int64_t, null: cython.bint) -> int64_t:
    """The reference type to a heap type that has been read."""
    exact: int64_t = _EXACT_FLAG if heap & _EXACT else 0
    return _REF_FLAG | exact | (_NULL_FLAG if null else 0) | (heap & ~_EXACT) << _HEAP_SHIFT


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_clause(r: cython.pointer(Reader), out: cython.pointer(Clause), kinds: cython.int) -> cython.int:
    """Read a clause's kind, below `kinds`."""
    out.kind = read_byte(r)
    if out.kind < 0:
        return -1
    if out.kind >= kinds:
        return _refuse(b"malformed clause kind", r, r.pos - 1)
    out.tag = 0
    out.label = 0
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_catch(r: cython.pointer(Reader), out: cython.pointer(Clause)) -> cython.int:
    """Read a catch clause of `try_table` (Core 3.0, 5.4.1)."""
    value: int64_t
    if _read_clause(r, out, CATCH_ALL_REF + 1) < 0:
        return -1
    if out.kind == CATCH or out.kind == CATCH_REF:
        value = read_u32(r)
        if value < 0:
            return -1
        out.tag = value
    value = read_u32(r)
    if value < 0:
        return -1
    out.label = value
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def read_handler(r: cython.pointer(Reader), out: cython.pointer(Clause)) -> cython.int:
    """Read a handler clause of `resume` (stack switching Explainer, "Binary format")."""
    value: int64_t
    if _read_clause(r, out, ON_SWITCH + 1) < 0:
        return -1
    value = read_u32(r)
    if value < 0:
        return -1
    out.tag = value
    if out.kind == ON_LABEL:
        value = read_u32(r)
        if value < 0:
            return -1
        out.label = value
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def items(r: cython.pointer(Reader), i: cython.pointer(Instr)) -> Reader:
    """A reader of the items of an instruction's vector, which has been checked already."""
    it = cython.declare(Reader)
    read_range(cython.address(it), r.base, i.vec, r.end)
    return it


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_vector(r: cython.pointer(Reader), out: cython.pointer(Instr), layout: cython.int) -> cython.int:
    """Read a vector immediate: check its items and note where they are."""
    start: cython.p_const_uchar = r.pos
    clause = cython.declare(Clause)
    n: cython.Py_ssize_t
    _: cython.Py_ssize_t
    n = read_u32(r)
    if n < 0:
        return -1
    if n > r.end - r.pos:
        return _refuse(b"length out of bounds", r, start)
    if layout == L_LABELS and n > _MAX_LABELS:
        return _refuse(b"too many labels in br_table", r, start)
    if (layout == L_CATCHES or layout == L_HANDLERS) and n > _MAX_CLAUSES:
        with cython.gil:
            return malformed(f"too many clauses: {n}, the limit is {_MAX_CLAUSES}", r, start)
    out.vec = r.pos
    out.count = n
    for _ in range(n):
        if layout == L_LABELS:
            if read_u32(r) < 0:
                return -1
        elif layout == L_TYPES:
            if read_valtype(r) < 0:
                return -1
        elif layout == L_CATCHES:
            if read_catch(r, cython.address(clause)) < 0:
                return -1
        elif read_handler(r, cython.address(clause)) < 0:
            return -1
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_memarg(r: cython.pointer(Reader), slot: cython.pointer(uint64_t)) -> cython.int:
    """Read offset, memory and alignment of a memory access (Core 3.0, 5.4.6)."""
    start: cython.p_const_uchar = r.pos
    flags: uint64_t = 0
    slot[1] = 0
    if _index(r, cython.address(flags)) < 0:
        return -1
    if flags >= 0x80:
        return _refuse(b"malformed memop flags", r, start)
    if flags & 0x40 and _index(r, slot + 1) < 0:
        return -1
    slot[2] = flags & 0x3F
    if r.pos < r.end and r.pos[0] < 0x80:
        slot[0] = r.pos[0]
        r.pos += 1
        return 0
    return _unsigned(r, 64, slot)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_block_type(r: cython.pointer(Reader), slot: cython.pointer(uint64_t)) -> cython.int:
    """Read a block type (Core 3.0, 5.4.2), encoded as the module's docstring says."""
    value: int64_t = 0
    start: cython.p_const_uchar = r.pos
    if start >= r.end:
        return _end(r)
    if start[0] == 0x40:
        r.pos += 1
        slot[0] = cython.cast(uint64_t, cython.cast(int64_t, BLOCK_EMPTY))
        return 0
    if _VALTYPE[start[0]] or start[0] == _REF or start[0] == _REF_NULL:
        value = read_valtype(r)
        if value < 0:
            return -1
        slot[0] = ~cython.cast(uint64_t, value)
        return 0
    if _signed(r, 33, cython.address(value)) < 0:
        return -1
    if value < 0:
        return _refuse(b"malformed block type", r, start)
    slot[0] = value
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_cast(r: cython.pointer(Reader), out: cython.pointer(Instr)) -> cython.int:
    """Read the four immediates of `br_on_cast` (Core 3.0, 5.4.1)."""
    flags: cython.int = read_byte(r)
    value: int64_t
    if flags < 0:
        return -1
    if flags > 3:
        return _refuse(b"malformed br_on_cast flags", r, r.pos - 1)
    out.a = flags
    value = read_u32(r)
    if value < 0:
        return -1
    out.b = value
    value = read_heap(r)
    if value < 0:
        return -1
    out.c = value
    value = read_heap(r)
    if value < 0:
        return -1
    out.d = value
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _fixed(r: cython.pointer(Reader), size: cython.int, slot: cython.pointer(uint64_t)) -> cython.int:
    """Copy `size` bytes, the value's little-endian bits, into the fields from `slot` on."""
    if r.end - r.pos < size:
        return _end(r)
    slot[0] = 0
    memcpy(slot, r.pos, size)
    r.pos += size
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _illegal(r: cython.pointer(Reader), where: cython.p_const_uchar, prefix: cython.int, number: int64_t) -> cython.int:
    """Raise the error for an opcode that has no row; `number` is -1 when there is nothing after the first byte."""
    with cython.gil:
        raise unknown_opcode(prefix, number, where - r.base)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_prefixed(r: cython.pointer(Reader), prefix: cython.int) -> cython.int:
    """The row of a prefixed opcode, whose prefix byte has been read."""
    start: cython.p_const_uchar = r.pos - 1
    base: cython.int = _PREFIX_BASE[prefix]
    number: uint64_t = 0
    op: cython.int = -1
    if base < 0:
        return _illegal(r, start, prefix, -1)
    if _index(r, cython.address(number)) < 0:
        return -1
    if number < MAX_PREFIXED:
        op = _PREFIXED[base + number]
    if op < 0:
        return _illegal(r, start, prefix, number)
    return op


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _read_immediates(r: cython.pointer(Reader), out: cython.pointer(Instr)) -> cython.int:
    """Decode the immediates of the row ``out.op``."""
    layout: cython.int
    value: int64_t
    kinds: cython.p_uchar
    slot: cython.pointer(uint64_t) = cython.address(out.a)
    kinds = cython.address(_LAYOUT[out.op * MAX_IMMEDIATES])
    while True:
        layout = kinds[0]
        kinds += 1
        if layout == L_NONE:
            return 0
        if layout == L_INDEX:
            if _index(r, slot) < 0:
                return -1
            slot += 1
        elif layout == L_MEMARG:
            if _read_memarg(r, slot) < 0:
                return -1
            slot += 3
        elif layout == L_I32:
            if _signed(r, 32, cython.cast(cython.pointer(int64_t), slot)) < 0:
                return -1
            slot += 1
        elif layout == L_BLOCK:
            if _read_block_type(r, slot) < 0:
                return -1
            slot += 1
        elif layout == L_I64:
            if _signed(r, 64, cython.cast(cython.pointer(int64_t), slot)) < 0:
                return -1
            slot += 1
        elif layout == L_F32:
            if _fixed(r, 4, slot) < 0:
                return -1
            slot += 1
        elif layout == L_F64:
            if _fixed(r, 8, slot) < 0:
                return -1
            slot += 1
        elif layout == L_BYTES16:
            if _fixed(r, 16, slot) < 0:
                return -1
            slot += 2
        elif layout == L_LANE:
            value = read_byte(r)
            if value < 0:
                return -1
            slot[0] = value
            slot += 1
        elif layout == L_HEAP:
            value = read_heap(r)
            if value < 0:
                return -1
            slot[0] = value
            slot += 1
        elif layout == L_ZERO:
            value = read_byte(r)
            if value < 0:
                return -1
            if value:
                return _refuse(b"zero byte expected", r, r.pos - 1)
        elif layout == L_CAST:
            return _read_cast(r, out)
        else:
            if _read_vector(r, out, layout) < 0:
                return -1
            if layout == L_LABELS:
                value = read_u32(r)
                if value < 0:
                    return -1
                slot[0] = value


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def _pause(r: cython.pointer(Reader)) -> cython.int:
    """The slow path of `next_instr`: at the end, or when enough bytes have been read that it's time to poll."""
    size: cython.Py_ssize_t = r.end - r.pos
    if size <= 0:
        return _end(r)
    if size > _STEP:
        size = _STEP
    r.stop = r.pos + size
    return poll_many(size)


@cython.cfunc
@cython.nogil
@cython.exceptval(-1, check=False)
def next_instr(r: cython.pointer(Reader), out: cython.pointer(Instr)) -> cython.int:
    """Decode the instruction at the position and move behind it.

    This is the innermost loop of validation and translation. Instructions without immediates, and the common short
    forms of those with one, are decoded here, with the position in a register. `_read_immediates` does the rest.
    """
    pos: cython.p_const_uchar = r.pos
    entry: int32_t
    op: cython.int
    value: uint64_t
    if pos >= r.stop and _pause(r) < 0:
        return -1
    out.offset = pos - r.base
    entry = _ONE_BYTE[pos[0]]
    pos += 1
    r.pos = pos
    if entry < 0:
        op = _read_prefixed(r, r.base[out.offset])
        if op < 0:
            return -1
        out.op = op
        return _read_immediates(r, out)
    out.op = entry & ROW_MASK
    if entry & HAS_NONE:
        return 0
    # Three bytes: the longest of the short forms.
    if r.end - pos < 3:
        return _read_immediates(r, out)
    value = pos[0]
    if entry & HAS_NUMBER:
        if value < 0x80:
            if entry & HAS_SIGN and value & 0x40:
                value |= ~cython.cast(uint64_t, 0x7F)
            r.pos = pos + 1
        else:
            if pos[1] >= 0x80:
                return _read_immediates(r, out)
            value = (value & 0x7F) | cython.cast(uint64_t, pos[1]) << 7
            if entry & HAS_SIGN and value & 0x2000:
                value |= ~cython.cast(uint64_t, 0x3FFF)
            r.pos = pos + 2
        out.a = value
        return 0
    if entry & HAS_MEMARG and value < 0x40:
        out.b = 0
        out.c = value
        value = pos[1]
        if value < 0x80:
            r.pos = pos + 2
        else:
            if pos[2] >= 0x80:
                return _read_immediates(r, out)
            value = (value & 0x7F) | cython.cast(uint64_t, pos[2]) << 7
            r.pos = pos + 3
        out.a = value
        return 0
    if entry & HAS_BLOCK and value == 0x40:
        r.pos = pos + 1
        out.a = cython.cast(uint64_t, cython.cast(int64_t, BLOCK_EMPTY))
        return 0
    return _read_immediates(r, out)
