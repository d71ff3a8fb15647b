"""Builds modules from functions given as lists of instructions, quicker than text."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import wasmloom as wl
from wasmloom.binary.encoder import encode_module, sleb, uleb
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.module import Code, Export, ModuleSyntax
from wasmloom.spec.types import F32, F64, I32, I64, FuncType, Limits, MemoryType, SubType, ValType

TYPES: dict[str, ValType] = {"i32": I32, "i64": I64, "f32": F32, "f64": F64}


def op(mnemonic: str, *immediates: int) -> bytes:
    """An instruction whose immediates are unsigned numbers."""
    row = BY_MNEMONIC[mnemonic]
    code = bytes((row.prefix,)) + uleb(row.opcode) if row.prefix else bytes((row.opcode,))
    return code + b"".join(map(uleb, immediates))


def const(type: str, bits: int) -> bytes:
    """A constant, from its bits."""
    if type == "f32":
        return op("f32.const") + struct.pack("<I", bits)
    if type == "f64":
        return op("f64.const") + struct.pack("<Q", bits)
    width = int(type[1:])
    return op(f"{type}.const") + sleb((bits + (1 << width - 1)) % (1 << width) - (1 << width - 1))


def get(local: int) -> bytes:
    return op("local.get", local)


def put(local: int) -> bytes:
    return op("local.set", local)


def block(mnemonic: str, type: str | None = None) -> bytes:
    """`block`, `loop` or `if` without parameters and with at most one result."""
    return op(mnemonic) + (bytes((TYPES[type],)) if type else b"\x40")


def widened(type: str) -> bytes:
    """Turns the value of a type on the stack into an i64 with its bits."""
    if type == "f64":
        return op("i64.reinterpret_f64")
    if type == "i64":
        return b""
    return (op("i32.reinterpret_f32") if type == "f32" else b"") + op("i64.extend_i32_u")


def narrowed(type: str) -> bytes:
    """The inverse of `widened`; the result is in an accumulator."""
    if type == "f64":
        return op("f64.reinterpret_i64")
    if type == "i64":
        return op("f64.reinterpret_i64") + op("i64.reinterpret_f64")
    return op("i32.wrap_i64") + (op("f32.reinterpret_i32") if type == "f32" else b"")


class Functions:
    """Collects functions of one signature; `instance` makes them a module, exported under their numbers."""

    def __init__(
        self, params: Sequence[str], result: str, memories: int = 0, pages: int = 1, is64: bool = False
    ) -> None:
        self.syntax = ModuleSyntax()
        type = FuncType(tuple(TYPES[t] for t in params), (TYPES[result],))
        self.syntax.rec_groups.append((SubType(type),))
        self.syntax.memories = [MemoryType(Limits(pages, pages), is64) for _ in range(memories)]
        for number in range(memories):
            self.syntax.exports.append(Export(f"memory{number}", "memory", number))

    def add(self, locals: Sequence[str], code: bytes) -> int:
        """Add a function, without its `end`; gives its number."""
        number = len(self.syntax.funcs)
        self.syntax.funcs.append(0)
        self.syntax.code.append(Code(tuple((1, TYPES[t]) for t in locals), code + op("end")))
        self.syntax.exports.append(Export(str(number), "func", number))
        return number

    def binary(self) -> bytes:
        return encode_module(self.syntax)

    def instance(self, engine: wl.Engine | None = None) -> wl.Instance:
        return wl.Instance(wl.Module(self.binary(), engine))
