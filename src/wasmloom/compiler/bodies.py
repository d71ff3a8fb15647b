# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Reads function bodies into Python tuples, for the compiler's front end, which is plain Python.

The caller has validated the bodies.
"""

from __future__ import annotations

from typing import NamedTuple

import cython
from cython.cimports.libc.stdint import int64_t, uint32_t
from cython.cimports.libc.string import memset
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import (
    Clause,
    Instr,
    Reader,
    items,
    next_instr,
    read_catch,
    read_handler,
    read_range,
    read_u32,
    read_valtype,
)

from wasmloom.compiler.loops import Instr as _Instr
from wasmloom.spec.instructions import INSTRUCTIONS

# Functions that read the items of an instruction's vector.
_NO_ITEMS, _LABELS, _TYPES, _CATCHES, _HANDLERS = range(5)
_KINDS = {"labels": _LABELS, "types": _TYPES, "catches": _CATCHES, "handlers": _HANDLERS}
_items_of = cython.declare(cython.uchar[1024])
for _row in INSTRUCTIONS:
    _items_of[cython.cast(cython.int, _row.index)] = next((_KINDS[k] for k in _row.immediates if k in _KINDS), 0)


def read_body(module: DecodedModule, index: int) -> tuple[list[tuple[int, int]], list[_Instr]]:
    """Body `index` of those defined in a module: its locals as (count, value type) runs, and its instructions."""
    reader = cython.declare(Reader)
    instr = cython.declare(Instr)
    number: uint32_t = index
    memset(cython.address(instr), 0, cython.sizeof(Instr))  # no instruction sets all that is read below
    runs: list = []
    found: list = []
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
    read_range(cython.address(reader), base, base + module.body_start[number], base + module.body_end[number])
    for _ in range(cython.cast(uint32_t, read_u32(cython.address(reader)))):
        count: int64_t = read_u32(cython.address(reader))
        runs.append((count, read_valtype(cython.address(reader))))
    while reader.pos < reader.end:
        next_instr(cython.address(reader), cython.address(instr))
        vector = None
        if _items_of[instr.op] != _NO_ITEMS:
            vector = _vector(cython.address(reader), cython.address(instr))
        found.append(_Instr(instr.op, instr.offset, instr.a, instr.b, instr.c, instr.d, vector))
    return runs, found


@cython.cfunc
def _vector(r: cython.pointer(Reader), i: cython.pointer(Instr)) -> list:
    it: Reader = items(r, i)
    clause: Clause
    kind: cython.int = _items_of[i.op]
    vector: list = []
    for _ in range(i.count):
        if kind == _LABELS:
            vector.append(read_u32(cython.address(it)))
        elif kind == _TYPES:
            vector.append(read_valtype(cython.address(it)))
        else:
            if kind == _CATCHES:
                read_catch(cython.address(it), cython.address(clause))
            else:
                read_handler(cython.address(it), cython.address(clause))
            vector.append((clause.kind, clause.tag, clause.label))
    return vector


#: What is looked for in bodies: rows that may raise an exception in the function itself, tail calls, direct calls, what
#: is about continuations, and what a function that stands in the place of a call is without; tail calls of others; what
#: switches stacks; what changes a table, that of its first immediate or of its second.
_THROWING = 1
_TAIL = 2
_CALL = 4
_STACKS = 8
_NOT_SIMPLE = 16
_LEAVES = 32
_SWITCHING = 64
_CHANGES_FIRST = 128
_CHANGES_SECOND = 256
_REFERS = 512
_traits = cython.declare(cython.ushort[1024])
for _row in INSTRUCTIONS:
    _name = _row.mnemonic
    _bits = 0
    if _name in ("throw", "throw_ref", "rethrow", "suspend", "switch") or _name.startswith("resume"):
        _bits |= _THROWING
    if _name.startswith("memory.atomic.wait"):  # in a shared memory it calls the host
        _bits |= _THROWING
    if _name in ("call_indirect", "call_ref", "return_call_indirect", "return_call_ref"):
        _bits |= _THROWING
    if _name.startswith("return_call"):
        _bits |= _TAIL
    if _name in ("call", "return_call"):
        _bits |= _CALL
    if _row.feature == "stack-switching":
        _bits |= _STACKS
    if _name in ("suspend", "switch") or _name.startswith("resume"):
        _bits |= _SWITCHING
    if _name in ("table.set", "table.grow", "table.fill", "table.copy", "table.init"):
        _bits |= _CHANGES_FIRST if _row.immediates[0] == "table" else _CHANGES_SECOND
    if _name == "ref.func":
        _bits |= _REFERS
    if _bits & _TAIL or _name in ("loop", "try_table", "try"):
        _bits |= _NOT_SIMPLE
    _traits[cython.cast(cython.int, _row.index)] = _bits


def switches_stacks(module: DecodedModule, index: int) -> bool:
    """Whether body `index` of those defined in a module has an instruction about continuations."""
    return bool(_look_through(module, index, set(), set()) & _STACKS)


def callees(module: DecodedModule, index: int) -> set[int]:
    """The functions, of the module's index space, that body `index` of those defined in a module calls directly."""
    found: set = set()
    _look_through(module, index, found, set())
    return found


@cython.cfunc
@cython.exceptval(-1, check=False)
def _look_through(module: DecodedModule, number: uint32_t, calls: set, changes: set) -> cython.int:
    """What there is in a body, as bits; adds the functions that it calls directly, and the tables that it changes."""
    reader = cython.declare(Reader)
    instr = cython.declare(Instr)
    seen: cython.int = 0
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
    read_range(cython.address(reader), base, base + module.body_start[number], base + module.body_end[number])
    for _ in range(cython.cast(uint32_t, read_u32(cython.address(reader)))):
        read_u32(cython.address(reader))
        read_valtype(cython.address(reader))
    while reader.pos < reader.end:
        next_instr(cython.address(reader), cython.address(instr))
        if _traits[instr.op]:
            seen |= _traits[instr.op]
            if _traits[instr.op] & _CALL:
                calls.add(instr.a)
            if _traits[instr.op] & _TAIL and not (
                _traits[instr.op] & _CALL and instr.a == number + module.num_imported_funcs
            ):
                seen |= _LEAVES
            if _traits[instr.op] & _CHANGES_FIRST:
                changes.add(instr.a)
            elif _traits[instr.op] & _CHANGES_SECOND:
                changes.add(instr.b)
    return seen


def mnemonics(module: DecodedModule) -> set[str]:
    """The instructions that occur in the bodies of a module, which needn't be valid. Raises `CompileError`."""
    reader = cython.declare(Reader)
    instr = cython.declare(Instr)
    seen: cython.char[1024]
    number: uint32_t
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
    memset(seen, 0, cython.sizeof(seen))
    for number in range(module.num_bodies):
        read_range(cython.address(reader), base, base + module.body_start[number], base + module.body_end[number])
        for _ in range(cython.cast(uint32_t, read_u32(cython.address(reader)))):
            read_u32(cython.address(reader))
            read_valtype(cython.address(reader))
        while reader.pos < reader.end:
            next_instr(cython.address(reader), cython.address(instr))
            seen[instr.op] = 1
    return {row.mnemonic for row in INSTRUCTIONS if seen[cython.cast(cython.int, row.index)]}


class Scan(NamedTuple):
    """What the compiler needs to know of all bodies before it compiles one: lists by function defined in the module,
    and sets of such functions unless it says otherwise."""

    #: whether it has a tail call of another one
    tails: list[bool]
    #: whether an exception may arise in it, from an instruction or from an unknown callee
    throws: list[bool]
    #: whether it is simple enough to stand in the place of a call
    simple: list[bool]
    #: whether it has an instruction about continuations
    stacks: list[bool]
    #: the functions, of the module's index space, that it calls directly
    calls: list[set[int]]
    #: the functions that switch stacks, and the tables that some function changes
    switching: set[int]
    changed: set[int]
    #: the functions, of the module's index space, that expressions and bodies make references to, or segments have
    referred: set[int]


@cython.cfunc
def _referred(module: DecodedModule) -> set:
    """The functions that there are references to, of the module's index space. Bodies may only make references to what
    segments have, or exports."""
    reader = cython.declare(Reader)
    instr = cython.declare(Instr)
    base: cython.p_const_uchar = cython.cast(cython.p_const_uchar, cython.cast(cython.p_char, module.data))
    start: uint32_t
    end: uint32_t
    found: set = set()
    expressions: list = [*module.global_inits]
    for segment in module.elements:
        if segment.exprs is None:
            found.update(segment.funcs)
        else:
            expressions += segment.exprs
    for expression in expressions:
        start = expression.offset
        end = start + cython.cast(uint32_t, len(expression.code))
        read_range(cython.address(reader), base, base + start, base + end)
        while reader.pos < reader.end:
            next_instr(cython.address(reader), cython.address(instr))
            if _traits[instr.op] & _REFERS:
                found.add(instr.a)
    return found


def scan(module: DecodedModule) -> Scan:
    """Look through all bodies."""
    number: uint32_t
    seen: cython.int
    found = Scan([], [], [], [], [], set(), set(), _referred(module))
    for number in range(module.num_bodies):
        called: set = set()
        seen = _look_through(module, number, called, found.changed)
        found.tails.append(bool(seen & _LEAVES))
        found.throws.append(bool(seen & _THROWING))
        found.simple.append(not seen & _NOT_SIMPLE)
        found.stacks.append(bool(seen & _STACKS))
        if seen & _SWITCHING:
            found.switching.add(number)
        found.calls.append(called)
    return found
