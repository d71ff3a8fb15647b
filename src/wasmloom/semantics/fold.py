"""The builder that computes: constant folding, and the value of constant expressions.

It computes integers only. The results of float operations depend on the machine where NaNs are concerned, so these are
left to it. So is what traps, since the trap must happen when the instruction runs.
"""

from __future__ import annotations

from collections.abc import Callable
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


#: LLVM's binary instructions. What has no case here is left to the machine.
_BINARY: dict[str, Callable[[Number, Number], int]] = {
    "add": lambda x, y: x.bits + y.bits,
    "sub": lambda x, y: x.bits - y.bits,
    "mul": lambda x, y: x.bits * y.bits,
    "and": lambda x, y: x.bits & y.bits,
    "or": lambda x, y: x.bits | y.bits,
    "xor": lambda x, y: x.bits ^ y.bits,
    "shl": lambda x, y: x.bits << y.bits,
    "lshr": lambda x, y: x.bits >> y.bits,
    "ashr": lambda x, y: _signed(x) >> y.bits,
    "udiv": lambda x, y: x.bits // y.bits,
    "urem": lambda x, y: x.bits % y.bits,
    "sdiv": lambda x, y: _quotient(_signed(x), _signed(y)),
    "srem": lambda x, y: _signed(x) - _signed(y) * _quotient(_signed(x), _signed(y)),
}
#: LLVM's intrinsics, on the first operand's bits and width, and the last operand's bits. `fshl` and `fshr` of a number
#: with itself rotate it.
_INTRINSICS: dict[str, Callable[[int, int, int], int]] = {
    "fshl": lambda bits, width, count: _rotate(bits, width, count),
    "fshr": lambda bits, width, count: _rotate(bits, width, -count),
    "ctlz": lambda bits, width, _: width - bits.bit_length(),
    "cttz": lambda bits, width, _: (bits & -bits).bit_length() - 1 if bits else width,
    "ctpop": lambda bits, width, _: bits.bit_count(),
}


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
        compute = _BINARY.get(opcode)
        if compute is None:
            raise NotConstantError
        return _number(compute(x, y), x.type)

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
        compute = _INTRINSICS.get(name)
        if compute is None:
            raise NotConstantError
        x = operands[0]
        return _number(compute(x.bits, _width(x.type), operands[-1].bits), x.type)

    def may_be_null(self, reference: Number) -> bool:
        """Whether a reference may be null."""
        return reference.bits == 0

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
