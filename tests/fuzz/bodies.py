"""Random function bodies: valid by construction, always ending, and hard on a translator that keeps values unread.

The generator walks a stack machine: it knows the type of every operand on the stack, and each step either uses what
is there or pushes what is missing. Values therefore stay on the stack across writes of the locals that they came from,
across blocks, calls and branches to labels at other heights.

*Ending*: a global holds fuel; function entries and unconditional back edges pay from it, other back edges count down a
local of the loop.

*NaNs*: the specification leaves the bits of NaNs that arithmetic makes open. They are only visible where bits are: in
`reinterpret`, stores and the sign that `copysign` takes. A value that may be such a NaN is not *clean*, and is replaced
by the canonical NaN before it gets there; constants and what is loaded are clean and keep their payload. In a *raw*
program nothing is replaced: what it does is only compared where the bits should be equal, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.fuzz.choices import Choices
from tests.fuzz.objects import ObjectSteps
from tests.fuzz.operands import COMPARES, FLOAT_CHAIN, INTEGER_CHAIN, LOADS, NUMBERS, NUMERIC
from wasmloom.binary.encoder import uleb
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import I32, I64, V128, FuncType

if TYPE_CHECKING:
    from tests.fuzz.generator import Plan


class Body(ObjectSteps):
    """Generates one function body; `code` and `locals` are the result."""

    def __init__(self, choices: Choices, plan: Plan, type: FuncType) -> None:
        super().__init__(choices, plan, type)
        self.actions = self._weigh()

    def _weigh(self) -> list[Callable[[], None]]:
        """The steps to choose from, each as often as its weight says; functions differ in what they favour."""
        weights: dict[Callable[[], None], int] = {
            self.push_leaf: 14, self.compute: 22, self.set_local: 9, self.tee_local: 5, self.drop: 3, self.select: 4,
            self.block: 5, self.loop: 3, self.if_: 6, self.br: 3, self.br_if: 7, self.br_table: 2, self.return_: 1,
            self.load: 6, self.store: 6, self.get_global: 4, self.set_global: 4, self.bulk_memory: 2,
            self.grow_memory: 1, self.table_access: 2, self.bulk_table: 1, self.reference: 3, self.nop: 1,
            self.pile: 2, self.trap: 1, self.compare_and_use: 6, self.chain: 6, self.set_small: 2, self.br_on_null: 2,
            self.atomic: 3, self.double: 3,
        }  # fmt: skip
        if self.plan.fixed:
            del weights[self.table_access], weights[self.bulk_table]
        if V128 in self.plan.value_types:
            weights[self.vector] = 14
        if self.plan.objects is not None:
            weights |= {
                self.struct_get: 8, self.struct_set: 5, self.array_get: 6, self.array_set: 5, self.array_len: 2,
                self.bulk_array: 3, self.make: 6, self.upcast: 5, self.i31: 3, self.ref_eq: 2, self.convert: 2,
                self.cast: 6, self.br_on_cast: 4,
            }  # fmt: skip
        if self.plan.tags:
            weights |= {self.try_: 6, self.throw: 3, self.throw_ref: 1}
        if self.plan.suspends:  # what runs in our tiers only
            weights |= {self.old_try: 5, self.rethrow: 2}
        if not self.leaf:
            weights |= {self.call: 6, self.call_indirect: 4, self.call_ref: 3, self.tail_call: 2}
        styles: tuple[tuple[Callable[[], None], ...], ...] = (
            (),
            (self.push_leaf, self.set_local, self.tee_local, self.pile),
            (self.block, self.loop, self.if_, self.br, self.br_if, self.br_table, self.try_, self.throw),
            (self.load, self.store, self.atomic, self.bulk_memory, self.grow_memory),
            (self.compute, self.compare_and_use, self.select),
            (self.call, self.call_indirect, self.call_ref, self.tail_call),
            (self.struct_get, self.struct_set, self.array_get, self.array_set, self.make, self.cast, self.br_on_cast),
            (self.try_, self.throw, self.br, self.br_if, self.call),
        )
        for action in self.c.pick(styles):
            if action in weights:
                weights[action] *= 4
        return [action for action, weight in weights.items() for _ in range(weight)]

    def compare_and_use(self) -> None:
        """A comparison, perhaps negated, straight into what may take it over."""
        self.apply(self.c.pick(COMPARES), 1)
        for _ in range(self.c.pick((0, 0, 0, 1, 1, 2))):
            self.op("i32.eqz")
        self.c.pick((self.nop, self.br_if, self.if_, self.select, self.select, self.set_local, self.tee_local))()

    def chain(self) -> None:
        """Arithmetic in the accumulator, as compilers write it: a start, steps with locals and constants, a use."""
        type = self.c.pick(NUMBERS)
        names = INTEGER_CHAIN if type in (I32, I64) else FLOAT_CHAIN
        if self.plan.memories and self.c.chance(30):
            self.load_as(self.c.pick([row for row in LOADS if NUMERIC[row.results[0]] == type]))
        else:
            self.value(type, 0)
        for _ in range(self.c.pick((1, 2, 3, 6))):
            row = BY_MNEMONIC[f"{type}.{self.c.pick(names)}"]
            swapped = self.c.chance(15)
            if swapped and self.locals_of(type):
                # The value so far becomes the second operand.
                self.clean_top()
                local = self.scratch.get(type)
                if local is None:
                    local = self.scratch[type] = self.new_local(type)
                self.op("local.set", uleb(local))
                self.pop(1)
                self.value(type, 0)
                self.op("local.get", uleb(local))
                self.push(type)
            else:
                self.value(type, 0)
            self.op(row.mnemonic)
            self.finish((type, type), (type,))
        use = self.c.below(6)
        if use < 2:
            self.set_local() if use else self.tee_local()
        elif use == 2:
            self.value(type, 0)
            row = self.c.pick([row for row in COMPARES if NUMERIC[row.params[0]] == type])
            self.op(row.mnemonic)
            self.finish((type, type), (I32,))
            self.c.pick((self.br_if, self.if_, self.select))()
        elif use == 3:
            self.store_top(type)

    def shorten(self) -> None:
        """Let the body be some steps without loops and handlers."""
        self.short = True
        self.leaf = self.c.chance(60)
        self.budget = self.c.pick((1, 2, 3, 5))
        simple = [
            self.push_leaf, self.compute, self.compute, self.set_local, self.select, self.if_, self.br_if, self.return_,
            self.load, self.store, self.get_global, self.set_global, self.trap, self.drop,
        ]  # fmt: skip
        if self.plan.tags:
            simple.append(self.throw)
        if self.plan.objects is not None:
            simple += [self.struct_get, self.array_get, self.array_set, self.make, self.cast]
        self.actions = simple if self.leaf else [*simple, self.call, self.call, self.call]

    def generate(self) -> None:
        """Fill `code`, `end` included."""
        if not self.leaf:
            self.guard()
        self.begin_objects()
        for _ in range(1 if self.short else 4):
            self.sequence()
        self.settle(self.type.results)
        self.op("end")
