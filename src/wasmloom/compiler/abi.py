"""The calling convention of compiled code, and types in it.

It is C's convention, with the environment in a register of its own (LLVM's `swiftself`), as many parameters in
registers as `wasmloom.target.registers` says, and the first result in a register. All other parameters and results
travel in the context's `args`, at the places that they would have if all parameters (or results) were there, one after
the other. Vectors do so, too: of one that is the first result, the lower word is in a register, as an integer. So no
parameter ever lies on the stack, and a tail call with any signatures is a jump.

Calls of references, which may be host functions, bring the caller's instance in one more register (LLVM's `nest`).
Definitions don't have this parameter: compiled functions neither read nor keep the register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wasmloom.semantics.kinds import KINDS, Register, by_name, of_type, places
from wasmloom.semantics.llvm import llvm_type
from wasmloom.spec.limits import MAX_PARAMS
from wasmloom.spec.types import FuncType
from wasmloom.target import registers as machine


class Signature(NamedTuple):
    """A function type as the compiler sees it.

    `registers` has the positions of the parameters that are passed in registers; `prototype` is the list of LLVM
    parameter types, environment first. `param_places` and `result_places` are the slots of each in memory, and how many
    there are.
    """

    params: tuple[str, ...]
    results: tuple[str, ...]
    param_places: tuple[int, ...]
    result_places: tuple[int, ...]
    registers: tuple[int, ...]
    result: str
    prototype: str


def signature(type: FuncType) -> Signature:
    """The signature of a function type; see `Facts.signature`, which makes it once for a module."""
    params = tuple(of_type(param).type for param in type.params)
    results = tuple(of_type(result).type for result in type.results)
    left = {Register.INTEGER: len(machine.INTEGER_ARGUMENTS), Register.FLOAT: machine.FLOAT_ARGUMENTS}
    registers = []
    for position, name in enumerate(params):
        kind = by_name(name)
        if left[kind.register] and not kind.is_vector:
            left[kind.register] -= 1
            registers.append(position)
    prototype = ", ".join(["ptr swiftself", *(llvm_type(params[i]) for i in registers)])
    result = llvm_type(returned_type(results[0])) if results else "void"
    return Signature(params, results, places(params), places(results), tuple(registers), result, prototype)


#: The prototype of functions that tail-call. `musttail` requires equal prototypes of caller and callee. With everything
#: in registers all signatures can share one, because a type only says how a register is read.
UNIFORM_INTEGERS = ("i64",) * len(machine.INTEGER_ARGUMENTS)
UNIFORM_FLOATS = ("double",) * machine.FLOAT_ARGUMENTS
UNIFORM_RESULT = "{ i64, double }"
UNIFORM_PROTOTYPE = ", ".join(("ptr swiftself", *UNIFORM_INTEGERS, *UNIFORM_FLOATS))

#: Where in the context's `args`, behind all parameters, a tail call leaves the code and environment that it goes to.
TAIL_WORDS = MAX_PARAMS * max(kind.slots for kind in KINDS.values())


def returned_type(type: str) -> str:
    """The builders' type of the register in which a function returns its first result, or the beginning of that."""
    return "i64" if by_name(type).is_vector else type


def uniform_position(params: Sequence[str], registers: Sequence[int], position: int) -> int:
    """The position of parameter `position` in the uniform prototype, not counting the environment."""
    register = by_name(params[position]).register
    before = sum(1 for i in registers if i < position and by_name(params[i]).register == register)
    return before if register == Register.INTEGER else len(UNIFORM_INTEGERS) + before


def uniform_type(type: str) -> str:
    """The builders' type of the register that the uniform prototype has for a value."""
    return "f64" if by_name(type).is_float else "i64"


def uniform_index(type: str) -> int:
    """The number of the uniform result's register that a value is in."""
    return int(by_name(type).is_float)
