"""The native calling convention, and what types become.

C's convention, with the environment in R13 (`swiftself`), at most six integer and eight float parameters in
registers and the first result in a register. All other parameters and results travel in the context's `args`, at their
position in the parameter (or result) list. So no parameter ever lies on the stack, and a tail call with any
signatures is a jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from wasmloom.compiler.stubs import FLOAT_REGISTERS, INTEGER_REGISTERS
from wasmloom.errors import UnsupportedError
from wasmloom.semantics.llvm import llvm_type
from wasmloom.spec.limits import MAX_PARAMS
from wasmloom.spec.types import PLAIN_NAMES, REF_FLAG, V128, FuncType


@lru_cache(maxsize=256)
def value_kind(type: int) -> str:
    """The builder's name of a value type; references are words. Raises `UnsupportedError` for v128."""
    if type & REF_FLAG:
        return "i64"
    if type == V128:
        raise UnsupportedError("SIMD is not supported yet: v128")
    return PLAIN_NAMES[type]


class Signature(NamedTuple):
    """A function type as the compiler sees it.

    `registers` has the positions of the parameters that are passed in registers; `prototype` is the list of LLVM
    parameter types, environment first.
    """

    params: tuple[str, ...]
    results: tuple[str, ...]
    registers: tuple[int, ...]
    result: str
    prototype: str


@lru_cache(maxsize=4096)
def signature(type: FuncType) -> Signature:
    """The signature of a function type."""
    params = tuple(value_kind(param) for param in type.params)
    results = tuple(value_kind(result) for result in type.results)
    return signature_of(params, results)


@lru_cache(maxsize=4096)
def signature_of(params: tuple[str, ...], results: tuple[str, ...]) -> Signature:
    """The signature for some kinds of values."""
    left = {"i": len(INTEGER_REGISTERS), "f": FLOAT_REGISTERS}
    registers = []
    for position, kind in enumerate(params):
        if left[kind[0]]:
            left[kind[0]] -= 1
            registers.append(position)
    prototype = ", ".join(["ptr swiftself", *(llvm_type(params[i]) for i in registers)])
    return Signature(params, results, tuple(registers), llvm_type(results[0]) if results else "void", prototype)


#: What a function that tail-calls has for a prototype: `musttail` wants the caller's and the callee's to be equal, and
#: with everything in registers all signatures are, but for what a register is called.
UNIFORM_INTEGERS = ("i64",) * len(INTEGER_REGISTERS)
UNIFORM_FLOATS = ("double",) * FLOAT_REGISTERS
UNIFORM_RESULT = "{ i64, double }"
UNIFORM_PROTOTYPE = ", ".join(("ptr swiftself", *UNIFORM_INTEGERS, *UNIFORM_FLOATS))

#: Where in the context's `args`, behind all parameters, a tail call leaves the code and environment that it goes to.
TAIL_WORDS = MAX_PARAMS


def uniform_position(params: Sequence[str], registers: Sequence[int], position: int) -> int:
    """Which parameter of the uniform prototype (environment not counted) parameter `position` is."""
    kind = params[position][0]
    before = sum(1 for i in registers if i < position and params[i][0] == kind)
    return before if kind == "i" else len(UNIFORM_INTEGERS) + before
