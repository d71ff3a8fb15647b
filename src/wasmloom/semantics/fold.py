"""The builder that computes: constant folding, and the value of constant expressions.

Integers only. What a float operation gives is up to the machine where NaNs are concerned, so those are left to it;
so is whatever traps, since the trap must happen when the instruction runs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.llvm import is_float, type_bits
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import INSTRUCTIONS


class Number(NamedTuple):
    """An integer as its bits, with its type ("i1" … "i64")."""

    bits: int
    type: str


class NotConstantError(Exception):
    """The result is not for the translator to compute."""


def _width(type: str) -> int:
    if is_float(type):
        raise NotConstantError
    return type_bits(type)


def _number(value: int, type: str) -> Number:
    return Number(value & ((1 << _width(type)) - 1), type)


def _signed(x: Number) -> int:
    width = _width(x.type)
    return x.bits - (1 << width) if x.bits >> (width - 1) else x.bits


def _rotate(x: int, width: int, count: int) -> int:
    count %= width
    return x << count | x >> (width - count)


def _quotient(x: int, y: int) -> int:
    """Division that truncates, as the hardware's does; Python's rounds down."""
    return -(-x // y) if (x < 0) != (y < 0) and x % y else x // y


class Evaluator:
    """Offers definitions what `wasmloom.semantics.llvm.Builder` does, with numbers as values."""

    @staticmethod
    def bits(type: str) -> int:
        """Width of a type in bits."""
        return _width(type)

    def const(self, type: str, number: float) -> Number:
        """A constant."""
        return _number(int(number), type)

    def binary(self, opcode: str, x: Number, y: Number) -> Number:
        """An LLVM binary instruction; shift counts are below the width."""
        a, b = x.bits, y.bits
        match opcode:
            case "add":
                result = a + b
            case "sub":
                result = a - b
            case "mul":
                result = a * b
            case "and":
                result = a & b
            case "or":
                result = a | b
            case "xor":
                result = a ^ b
            case "shl":
                result = a << b
            case "lshr":
                result = a >> b
            case "ashr":
                result = _signed(x) >> b
            case "udiv":
                result = a // b
            case "urem":
                result = a % b
            case "sdiv":
                result = _quotient(_signed(x), _signed(y))
            case "srem":
                result = _signed(x) - _signed(y) * _quotient(_signed(x), _signed(y))
            case _:
                raise NotConstantError
        return _number(result, x.type)

    def arithmetic(self, name: str, x: Number, y: Number) -> Number:
        """Arithmetic of floats."""
        raise NotConstantError

    def compare(self, predicate: str, x: Number, y: Number) -> Number:
        """A truth value; `predicate` is LLVM's."""
        a, b = (_signed(x), _signed(y)) if predicate[0] == "s" else (x.bits, y.bits)
        if is_float(x.type):
            raise NotConstantError
        results = {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
        return Number(int(results[predicate if predicate in ("eq", "ne") else predicate[1:]]), "i1")

    def both(self, x: Number, y: Number) -> Number:
        """Whether both truth values hold."""
        return Number(x.bits & y.bits, "i1")

    def either(self, x: Number, y: Number) -> Number:
        """Whether one of two truth values holds."""
        return Number(x.bits | y.bits, "i1")

    def select(self, condition: Number, x: Number, y: Number) -> Number:
        """`x` where the truth value holds, else `y`."""
        return x if condition.bits else y

    def negate(self, x: Number) -> Number:
        """Negation of floats."""
        raise NotConstantError

    def convert(self, opcode: str, x: Number, target: str) -> Number:
        """An LLVM conversion instruction between integers."""
        if opcode not in ("trunc", "zext", "sext"):
            raise NotConstantError
        return _number(_signed(x) if opcode == "sext" else x.bits, target)

    def intrinsic(self, name: str, *operands: Number, result: str | None = None) -> Number:
        """A call of ``llvm.<name>`` on integers."""
        x, width = operands[0], _width(operands[0].type)
        match name:
            case "fshl":
                value = _rotate(x.bits, width, operands[2].bits)
            case "fshr":
                value = _rotate(x.bits, width, -operands[2].bits)
            case "ctlz":
                value = width - x.bits.bit_length()
            case "cttz":
                value = (x.bits & -x.bits).bit_length() - 1 if x.bits else width
            case "ctpop":
                value = x.bits.bit_count()
            case _:
                raise NotConstantError
        return _number(value, x.type)

    def trap_if(self, condition: Number, code: int) -> None:
        """A trap is left to happen when the instruction runs."""
        if condition.bits:
            raise NotConstantError


@lru_cache(maxsize=4096)
def fold(row: int, *words: int) -> int | None:
    """The result of an instruction (a row of the instruction table) on constant words, or None to leave it.

    Words and result are as slots hold them: 64 bits, an i32 zero-extended.
    """
    operation = OPERATIONS.get(INSTRUCTIONS[row].mnemonic)
    if operation is None or operation.kind != "value":
        return None
    try:
        operands = [_number(word, kind.type) for word, kind in zip(words, operation.params, strict=True)]
        result: Number = operation.define(Evaluator(), *operands)
        _width(operation.results[0].type)
    except NotConstantError:
        return None
    return result.bits
