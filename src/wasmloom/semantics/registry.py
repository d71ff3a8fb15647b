"""The registry of instruction definitions.

A definition is a Python function over a builder: operands in, result out. The builder turns it into LLVM IR
(`wasmloom.semantics.llvm`) or computes a number (`wasmloom.semantics.fold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from wasmloom.semantics.kinds import Kind, by_name
from wasmloom.spec.instructions import BY_MNEMONIC, Instruction

#: What a name template stands for.
_TEMPLATES: dict[str, tuple[str, ...]] = {"{int}": ("i32", "i64"), "{float}": ("f32", "f64")}

Definition = Callable[..., Any]


class Operation(NamedTuple):
    """The definition of one instruction.

    `kind` says what the tiers do around the definition, and so what it gets besides operands:

    ============ ====================================================================================================
    "value"      nothing: it computes a result from operands
    "double"     nothing: it computes an i128 from operands, whose halves are the two results, the lower one first
    "load"       the checked address instead of the operand; it returns a value
    "store"      the same; it writes its last operand
    "atomic"     see `wasmloom.semantics.atomics`
    "instance"   the item that the immediate names: a global's cell, a table's or memory's struct, a function
    "runtime"    where the runtime function finds instance and operands, which the tiers pass in different ways
    "nothing"    nothing: the instruction has no code
    "own"        see its docstring: each tier has code of its own around it
    ============ ====================================================================================================

    Where the instruction has lanes as its immediate, they come last: a builder's number, or the 16 lanes of a shuffle.

    `params` and `results` are the kinds of operands and results, also where the instruction table has a rule for them;
    `wide_params` and `wide_results` are those for memories and tables with addresses of 64 bits.
    `traps` are the trap codes that it can raise besides those of the memory access itself. `is_truth`: the result is a
    truth value, so a branch may test it without storing it.
    """

    instruction: Instruction
    define: Definition
    kind: str
    params: tuple[Kind, ...]
    results: tuple[Kind, ...]
    traps: tuple[int, ...]
    commutative: bool
    is_truth: bool
    wide_params: tuple[Kind, ...]
    wide_results: tuple[Kind, ...]

    @property
    def mnemonic(self) -> str:
        """The instruction's name in the text format."""
        return self.instruction.mnemonic

    @property
    def width(self) -> int:
        """The number of bytes that it accesses, which is its natural alignment."""
        kind = next(kind for kind in self.instruction.immediates if kind.startswith(("mem:", "atomic:")))
        return 1 << int(kind.partition(":")[2])

    @property
    def lane_immediate(self) -> str | None:
        """The immediate that names lanes: "lane" for a single one, "lanes" for those of a shuffle, None without one."""
        kinds = [kind.partition(":")[0] for kind in self.instruction.immediates]
        return next((kind for kind in kinds if kind.startswith("lane")), None)

    @property
    def has_wide(self) -> bool:
        """Whether it does something with addresses: others are the same whatever memories and tables there are."""
        return (self.wide_params, self.wide_results) != (self.params, self.results)

    @property
    def has_vectors(self) -> bool:
        """Whether it takes or gives vectors."""
        return any(kind.is_vector for kind in (*self.params, *self.results))

    @property
    def is_compare(self) -> bool:
        """Whether it compares two operands, so that a branch may do it."""
        return self.is_truth and len(self.params) == 2


#: Mnemonic → operation, in the order of definition.
OPERATIONS: dict[str, Operation] = {}


def is_again(define: Callable[..., object], before: Callable[..., object]) -> bool:
    """Whether a function is the same as one that has been registered before.

    An import that a signal handler's exception interrupts is done again: its module makes the same functions anew.
    """
    return (define.__module__, define.__qualname__) == (before.__module__, before.__qualname__)


def _expand(name: str) -> Iterator[str]:
    for template, values in _TEMPLATES.items():
        if template in name:
            for value in values:
                yield name.replace(template, value)
            return
    yield name


def operation(
    *names: str,
    kind: str = "value",
    params: str | None = None,
    results: str | None = None,
    traps: tuple[int, ...] = (),
    commutative: bool = False,
    is_truth: bool = False,
) -> Callable[[Definition], Definition]:
    """Register the decorated function as the definition of `names`.

    A name may hold ``{int}`` or ``{float}``, which stand for both widths: the definition then takes its types from its
    operands. `params` and `results` name types ("addr ref") where the instruction table has a rule instead of them.
    Raises ValueError for an instruction with a type that there is no kind for, and for one that has a definition.
    """

    def register(define: Definition) -> Definition:
        for template in names:
            for name in _expand(template):
                row = BY_MNEMONIC[name]
                operands, given, wide_operands, wide_given = (
                    tuple(by_name(type, is64) for type in types)
                    for is64 in (False, True)
                    for types in (
                        row.params if params is None else params.split(),
                        row.results if results is None else results.split(),
                    )
                )
                if name in OPERATIONS and not is_again(define, OPERATIONS[name].define):
                    raise ValueError(f"{name} has two definitions")
                OPERATIONS[name] = Operation(
                    row, define, kind, operands, given, traps, commutative, is_truth, wide_operands, wide_given
                )
        return define

    return register
