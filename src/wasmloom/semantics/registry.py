"""The registry of instruction definitions.

A definition is a Python function over a builder: operands in, result out. The builder decides what comes of it: LLVM IR
(`wasmloom.semantics.llvm`), or a number (`wasmloom.semantics.fold`).
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

    `kind` says what surrounds the definition: "value" computes a result from operands; "load" turns an address into a
    value; "store" turns an address and a value into a write; for "atomic" see `wasmloom.semantics.atomics`. `traps` are
    the trap codes that it can raise besides those of the memory access itself. `is_truth`: the result is a truth value,
    so that a branch may test it without storing it.
    """

    instruction: Instruction
    define: Definition
    kind: str
    traps: tuple[int, ...]
    commutative: bool
    is_truth: bool

    @property
    def mnemonic(self) -> str:
        """The instruction's name in the text format."""
        return self.instruction.mnemonic

    @property
    def params(self) -> tuple[Kind, ...]:
        """What the operands are."""
        return tuple(by_name(name) for name in self.instruction.params)

    @property
    def results(self) -> tuple[Kind, ...]:
        """What the results are."""
        return tuple(by_name(name) for name in self.instruction.results)

    @property
    def width(self) -> int:
        """How many bytes of memory it accesses: what its natural alignment is."""
        kind = next(kind for kind in self.instruction.immediates if kind.startswith(("mem:", "atomic:")))
        return 1 << int(kind.partition(":")[2])

    @property
    def is_compare(self) -> bool:
        """Whether it compares two operands: a branch may do that itself."""
        return self.is_truth and len(self.instruction.params) == 2


#: Mnemonic → operation, in the order of definition.
OPERATIONS: dict[str, Operation] = {}


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
    traps: tuple[int, ...] = (),
    commutative: bool = False,
    is_truth: bool = False,
) -> Callable[[Definition], Definition]:
    """Register the decorated function as the definition of `names`.

    A name may hold ``{int}`` or ``{float}``, which stand for both widths: the definition then takes its types from its
    operands. Raises ValueError for an instruction with a type that there is no kind of values for.
    """

    def register(define: Definition) -> Definition:
        for template in names:
            for name in _expand(template):
                made = Operation(BY_MNEMONIC[name], define, kind, traps, commutative, is_truth)
                _ = (made.params, made.results)  # raises for what there is no kind for
                OPERATIONS[name] = made
        return define

    return register
