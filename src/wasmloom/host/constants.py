# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# mypy: ignore-errors
"""Objects in constant expressions (Core 3.0, 3.4.16), and the layouts of types that an instance has."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.wasmloom.binary.decoder import DecodedModule
from cython.cimports.wasmloom.binary.reader import Instr
from cython.cimports.wasmloom.contract import _handlers as h
from cython.cimports.wasmloom.contract._layout import I31_TAG, WlInstance, WlObject, WlType
from cython.cimports.wasmloom.runtime.objects import (
    elements_of,
    info_of,
    layout_of,
    new_array,
    new_struct,
    storage_bytes,
    write_storage,
)
from cython.cimports.wasmloom.runtime.store import Store
from cython.cimports.wasmloom.spec.canon import ARRAY, STRUCT, TypeInfo, type_info

from wasmloom.contract import traps

_OUT_OF_MEMORY = cython.declare(uint64_t, traps.OUT_OF_MEMORY)
_NULL_DESCRIPTOR = cython.declare(uint64_t, traps.NULL_DESCRIPTOR_REFERENCE)


@cython.cfunc
@cython.exceptval(check=False)
def has_objects(module: DecodedModule) -> cython.bint:
    """Whether a module defines types of structs or arrays."""
    i: uint32_t
    found: cython.bint = False
    for i in range(module.num_types):
        found |= type_info(module.type_id[i]).kind in (STRUCT, ARRAY)
    return found


@cython.cfunc
@cython.exceptval(-1, check=False)
def fill_types(module: DecodedModule, instance: cython.pointer(WlInstance), count: cython.size_t) -> cython.int:
    """Fill in the layouts of an instance's types."""
    types: cython.pointer(cython.pointer(WlType)) = cython.cast(
        cython.pointer(cython.pointer(WlType)), instance.types
    )
    info: cython.pointer(TypeInfo)
    i: cython.size_t
    for i in range(count):
        info = type_info(module.type_id[i])
        if info.kind in (STRUCT, ARRAY):
            types[i] = layout_of(info)
    return 0


@cython.cfunc
@cython.exceptval(check=True)
def _made(store: Store, object: cython.pointer(WlObject)) -> cython.pointer(WlObject):
    """An object, if there was memory for it. Raises `Trap`."""
    if object == cython.NULL:
        raise store.trap(_OUT_OF_MEMORY)
    return object


@cython.cfunc
@cython.exceptval(0, check=True)
def run_constant(
    store: Store,
    instance: cython.pointer(WlInstance),
    i: cython.pointer(Instr),
    stack: cython.pointer(uint64_t),
    top: cython.size_t,
) -> cython.size_t:
    """Run an instruction on objects, with `top` words of operands on a stack; returns how many there are then.

    The caller keeps the collector from running. Raises `Trap`.
    """
    type: cython.pointer(WlType) = cython.NULL
    made: cython.pointer(WlObject)
    info: cython.pointer(TypeInfo)
    offsets: cython.pointer(uint32_t)
    size: uint64_t
    count: uint64_t
    slots: uint64_t
    descriptor: uint64_t = 0
    k: uint64_t
    op: cython.int = i.op
    if op == h.OP_REF_I31:
        stack[top - 1] = cython.cast(uint32_t, stack[top - 1] << 1 | I31_TAG)
        return top
    if op == h.OP_ANY_CONVERT_EXTERN or op == h.OP_EXTERN_CONVERT_ANY:
        return top
    type = cython.cast(cython.pointer(cython.pointer(WlType)), instance.types)[i.a]
    if op == h.OP_STRUCT_NEW_DESC or op == h.OP_STRUCT_NEW_DEFAULT_DESC:
        top -= 1
        descriptor = stack[top]
        if not descriptor:
            raise store.trap(_NULL_DESCRIPTOR)
        op = h.OP_STRUCT_NEW if op == h.OP_STRUCT_NEW_DESC else h.OP_STRUCT_NEW_DEFAULT
    if op == h.OP_STRUCT_NEW or op == h.OP_STRUCT_NEW_DEFAULT:
        made = _made(store, new_struct(store.guest, type))
        if op == h.OP_STRUCT_NEW:
            info = info_of(type)
            offsets = cython.cast(cython.pointer(uint32_t), type.offsets)
            k = info.n_params
            while k > 0:
                k -= 1
                size = storage_bytes(info.types[k])
                top -= 2 if size > 8 else 1
                write_storage(size, cython.cast(cython.p_char, made) + offsets[k], stack + top)
        if descriptor:
            write_storage(8, cython.cast(cython.p_char, made) + type.descriptor, cython.address(descriptor))
    elif op == h.OP_ARRAY_NEW_FIXED:
        count = i.b
        slots = 2 if type.bytes > 8 else 1
        made = _made(store, new_array(store.guest, type, count))
        top -= count * slots
        for k in range(count):
            write_storage(type.bytes, elements_of(made) + type.bytes * k, stack + top + slots * k)
    else:
        top -= 1
        count = cython.cast(uint32_t, stack[top])
        made = _made(store, new_array(store.guest, type, count))
        if op == h.OP_ARRAY_NEW:
            top -= 2 if type.bytes > 8 else 1
            for k in range(count):
                write_storage(type.bytes, elements_of(made) + type.bytes * k, stack + top)
    stack[top] = cython.cast(uint64_t, made)
    return top + 1
