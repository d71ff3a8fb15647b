"""Random function bodies with continuations: what `tests.fuzz.bodies` makes, and all stack-switching instructions.

Continuations are made of any function of the module, are kept in locals and globals, handed around, bound, resumed with
handlers for some of the tags, resumed again (in loops too), abandoned, or used twice, which traps. What a resumption
comes back with, by returning or by one of the handlers, is used by the code behind it. Suspensions come from anywhere,
so that many go through several calls and several continuations, and some find no handler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.fuzz.bodies import Body
from tests.fuzz.control_steps import MAX_DEPTH
from tests.fuzz.operands import Entry, Label
from wasmloom.binary.encoder import sleb, uleb
from wasmloom.spec.types import CONCRETE, EXNREF, I32, ContType, FuncType, ValType, ref_type

ROUNDS = 5


class Pair(NamedTuple):
    """Two types that name each other: functions that continuations can switch to; and the tag of such switches."""

    function: int
    continuation: int
    tag: int


class StackBody(Body):
    """Generates one function body."""

    def _weigh(self) -> list[Callable[[], None]]:
        weights: dict[Callable[[], None], int] = {self.suspend: 4}
        if not self.leaf:
            weights |= {self.resume: 10, self.bind: 3, self.resume_throw: 3, self.keep: 4, self.switch: 4}
        more = self.c.pick((1, 1, 2, 4))
        return super()._weigh() + [action for action, weight in weights.items() for _ in range(weight * more)]

    # --- references ---

    def const(self, type: ValType, number: int | None = None) -> None:
        """Push a constant; of continuations mostly a fresh one."""
        index = type.heap - CONCRETE if type.is_ref else -1
        if index < 0 or not isinstance(self.plan.types[index], ContType):
            super().const(type, number)
            return
        function = self.plan.continued(index)
        functions = [i for i, other in enumerate(self.plan.functions) if other == function]
        if not functions or self.c.chance(8):
            super().const(type, number)
            return
        self.op("ref.func", uleb(self.c.pick(functions)))
        self.op("cont.new", uleb(index))
        self.push(type, True)

    def kept(self) -> list[int]:
        """The types of continuations that locals can hold."""
        types = {entry.type for entry in self.locals if entry.type.is_ref}
        indices = (type.heap - CONCRETE for type in sorted(types))
        return [index for index in indices if index >= 0 and isinstance(self.plan.types[index], ContType)]

    def keep(self) -> None:
        """Put a continuation into a local."""
        index = self.c.pick([*self.plan.conts, *self.kept()])
        self.value(reference_to(index), 1)
        self.into_local(index)

    def into_local(self, index: int) -> int:
        """Put the continuation on top into a local of its type; gives the local."""
        type = reference_to(index)
        locals = self.locals_of(type)
        if locals and not self.c.chance(30):
            local = self.c.pick(locals)
        else:
            self.locals.append(Entry(type, False))
            local = len(self.locals) - 1
        self.op("local.set", uleb(local))
        self.pop(1)
        return local

    # --- resumptions ---

    def nested(self, results: Sequence[ValType], inside: Callable[[], None]) -> None:
        """A block around what `inside` does."""
        base = self._begin("block", (), results)
        saved = self.base, self.dead
        self.labels.append(Label(tuple(results), base))
        self.base, self.dead = base, False
        inside()
        self.settle(results)
        del self.stack[self.base :]
        self.labels.pop()
        self.base, self.dead = saved
        self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def resume(self) -> None:
        """Resume a continuation; its handlers lead to blocks around."""
        index = self.c.pick([*self.plan.conts, *self.kept()])
        function = self.plan.continued(index)

        def operands() -> bytes:
            self.need(function.params, 1)
            self.value(reference_to(index), 1)
            return uleb(index)

        self.resumption("resume", index, len(function.params) + 1, operands)

    def resume_throw(self) -> None:
        """Resume with an exception."""
        index = self.c.pick([*self.plan.conts, *self.kept()])
        tag = self.c.pick(self.plan.throwable)
        by_reference = EXNREF in self.scratch and self.c.chance(30)

        def operands() -> bytes:
            if by_reference:
                self.op("local.get", uleb(self.scratch[EXNREF]))
                self.push(EXNREF)
                self.value(reference_to(index), 1)
                return uleb(index)
            self.need(self.plan.tags[tag].params, 1)
            self.value(reference_to(index), 1)
            return uleb(index) + uleb(tag)

        if by_reference:
            self.resumption("resume_throw_ref", index, 2, operands)
        else:
            self.resumption("resume_throw", index, len(self.plan.tags[tag].params) + 1, operands)

    def resumption(self, mnemonic: str, index: int, count: int, operands: Callable[[], bytes]) -> None:
        """`mnemonic` on `count` operands with handlers for some tags, and what follows each way to come back."""
        plan, c = self.plan, self.c
        if len(self.labels) > MAX_DEPTH:
            return
        results = plan.continued(index).results
        tags = [tag for tag in plan.suspends if c.chance(60)][:3]
        rest = [plan.cont_index(FuncType(plan.tags[tag].results, results)) for tag in tags]
        switch = plan.pair is not None and plan.tags[plan.pair.tag].results == results and c.chance(50)
        positions: list[int] = []

        def level(number: int) -> None:
            if number == len(tags):
                immediates = operands()
                last = len(self.labels) - 1
                clauses = [b"\0" + uleb(tag) + uleb(last - at) for tag, at in zip(tags, positions, strict=True)]
                if switch and plan.pair is not None:
                    clauses.insert(c.below(len(clauses) + 1), b"\1" + uleb(plan.pair.tag))
                self.op(mnemonic, immediates, uleb(len(clauses)), *clauses)
                self.pop(count)
                for type in results:
                    self.push(type)
                self.leave(positions[0] - 1 if positions else len(self.labels) - 1)
                return

            def inside() -> None:
                positions.append(len(self.labels) - 1)
                level(number + 1)

            self.nested((*plan.tags[tags[number]].params, reference_to(rest[number])), inside)
            self.suspended(tags[number], rest[number])
            if number:
                self.need(results, 1)
                self.leave(positions[0] - 1)

        self.nested(results, lambda: level(0))

    def leave(self, position: int) -> None:
        """Branch to a label with what is on top."""
        self.op("br", uleb(len(self.labels) - 1 - position))
        self.end_reachable()

    def suspended(self, tag: int, index: int) -> None:
        """What a handler does: the values of the suspension, and the continuation above them, are on the stack."""
        local = self.into_local(index)
        how = self.c.below(4)
        if how == 1:
            self.drive(tag, index, local)
        elif how > 1:
            self.sequence()

    def drive(self, tag: int, index: int, local: int) -> None:
        """A loop that goes on with a continuation each time that it suspends with the same tag."""
        if len(self.labels) > MAX_DEPTH:
            return
        type, function = self.plan.tags[tag], self.plan.continued(index)
        counter = self.new_local(I32)
        self.op("i32.const", sleb(1 + self.c.below(ROUNDS)))
        self.op("local.set", uleb(counter))

        def again() -> None:
            saved, self.floor = self.floor, len(self.stack)
            self.need(function.params, 1)
            self.floor = saved
            self.op("local.get", uleb(local))
            self.push(reference_to(index))
            self.op("resume", uleb(index), uleb(1), b"\0" + uleb(tag) + uleb(0))
            self.finish((I32, *function.params), function.results)
            self.consume(len(function.results))
            self.leave(len(self.labels) - 3)

        def around() -> None:
            base = self._begin("loop", (), ())
            saved = self.base, self.dead
            self.labels.append(Label((), base, counter))
            self.base, self.dead = base, False
            self.nested((*type.params, reference_to(index)), again)
            self.op("local.set", uleb(local))
            self.pop(1)
            self.consume(len(type.params))
            self.op("local.get", uleb(counter))
            self.op("i32.const", sleb(1))
            self.op("i32.sub")
            self.op("local.tee", uleb(counter))
            self.op("br_if", uleb(0))
            del self.stack[self.base :]
            self.labels.pop()
            self.base, self.dead = saved
            self.op("end")

        self.nested((), around)

    def consume(self, count: int) -> None:
        """Write operands to locals, or drop them."""
        for _ in range(count):
            if self._writable_now() and self.c.chance(60):
                self.write_local("local.set")
            else:
                self.op("drop")
                self.pop(1)

    # --- the others ---

    def suspend(self) -> None:
        """A suspension; what the resumer gives stays on the stack."""
        tag = self.c.pick(self.plan.suspends)
        type = self.plan.tags[tag]
        self.need(type.params, 1)
        self.op("suspend", uleb(tag))
        self.finish(type.params, type.results)

    def switch(self) -> None:
        """A switch to another continuation."""
        pair = self.plan.pair
        if pair is None:
            return
        type = self.plan.types[pair.function]
        self.need(type.params[:-1], 1)
        self.value(type.params[-1], 1)
        self.op("switch", uleb(pair.continuation), uleb(pair.tag))
        self.finish(type.params, type.params)

    def bind(self) -> None:
        """Give a continuation its first parameters; what comes of it goes into a local."""
        index = self.c.pick([*self.plan.conts, *self.kept()])
        function = self.plan.continued(index)
        count = self.c.below(len(function.params) + 1)
        bound = self.plan.cont_index(FuncType(function.params[count:], function.results))
        self.need(function.params[:count], 1)
        self.value(reference_to(index), 1)
        self.op("cont.bind", uleb(index), uleb(bound))
        self.finish((I32, *function.params[:count]), (reference_to(bound),))
        self.into_local(bound)


def reference_to(index: int) -> ValType:
    """The nullable reference to a type."""
    return ref_type(CONCRETE + index, True)
