"""Steps of random function bodies that go elsewhere: calls, blocks, branches, exceptions.

All of it ends: function entries and unconditional back edges pay from the fuel in a global, other back edges count down
a local of the loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.fuzz.data_steps import DataSteps
from tests.fuzz.operands import COMPARES, Entry, Label
from wasmloom.binary.encoder import sleb, uleb, val_type_bytes
from wasmloom.spec.types import CONCRETE, EXNREF, FUNCREF, I32, FuncType, ValType

MAX_DEPTH = 6

#: Comparisons of a counter with a constant that hold until it arrives at 0: how they are written, comparison, constant.
_DOWN = (("plain", "i32.gt_s", 0), ("plain", "i32.ge_s", 1), ("swapped", "i32.lt_s", 0), ("negated", "i32.le_s", 0))
_UP = (("plain", "i32.lt_s", 0), ("plain", "i32.le_s", -1), ("swapped", "i32.gt_s", 0), ("negated", "i32.ge_s", 0))


class ControlSteps(DataSteps):
    """Each step is valid wherever it is taken, and may do nothing."""

    # --- calls ---

    def call(self) -> None:
        index = self.c.below(len(self.plan.functions))
        if self.plan.short and self.c.chance(50):
            index = self.c.pick(self.plan.short)
        elif self.c.chance(10):
            index = self.index
        type = self.plan.functions[index]
        self.need(type.params)
        self.op("call", uleb(index))
        self.finish(type.params, type.results)

    def _indirect(self) -> tuple[FuncType, bytes] | None:
        """Arguments and table index of an indirect call; the type mostly fits what the slot began with."""
        tables = [i for i, table in enumerate(self.plan.tables) if self.plan.is_function(table.element)]
        if not tables:
            return None
        table = self.c.pick(tables)
        element = self.plan.tables[table].element
        slots = sorted(self.plan.slots[table].items())
        slot = None
        if slots and not self.c.chance(15):
            slot, function = self.c.pick(slots)
            type_index = self.c.pick(self.plan.indices_of(self.plan.functions[function]))
        elif element != FUNCREF:
            type_index = element.heap - CONCRETE
        else:
            type_index = self.c.pick(self.plan.signatures)
        type = self.plan.types[type_index]
        self.need(type.params)
        if slot is not None:
            self.const(self.address_type, slot)
        else:
            self.small_number(self.plan.table_size)
            self.widen()
        return type, uleb(type_index) + uleb(table)

    def call_indirect(self) -> None:
        found = self._indirect()
        if found is not None:
            type, immediates = found
            self.op("call_indirect", immediates)
            self.finish((I32, *type.params), type.results)

    def _callee(self) -> tuple[FuncType, int]:
        """Arguments and a function reference on the stack; the index of its type."""
        index = self.plan.type_index(self.plan.functions[self.c.below(len(self.plan.functions))])
        type = self.plan.types[index]
        self.need(type.params)
        self.callee_reference(index)
        return type, index

    def callee_reference(self, index: int) -> None:
        """Push a reference to a function of a type; seldom one that may be null."""
        type = self.plan.reference_to(index)
        self.value(type, 1) if self.c.chance(15) else self.const(type)

    def call_ref(self) -> None:
        type, index = self._callee()
        self.op("call_ref", uleb(index))
        self.finish((FUNCREF, *type.params), type.results)

    def tail_call(self) -> None:
        """A tail call of a function with our results."""
        fitting = [i for i, type in enumerate(self.plan.functions) if type.results == self.type.results]
        if not fitting:
            return
        how = self.c.below(3)
        index = self.index if self.c.chance(30) else self.c.pick(fitting)
        type = self.plan.functions[index]
        if how == 0:
            self.need(type.params)
            self.op("return_call", uleb(index))
        elif how == 1:
            number = self.plan.type_index(type)
            self.need(type.params)
            self.callee_reference(number)
            self.op("return_call_ref", uleb(number))
        else:
            places = [
                (table, slot)
                for table, slots in sorted(self.plan.slots.items())
                for slot, function in sorted(slots.items())
                if self.plan.functions[function].results == self.type.results
            ]
            if not places:
                return
            table, slot = self.c.pick(places)
            type = self.plan.functions[self.plan.slots[table][slot]]
            self.need(type.params)
            self.const(self.address_type, slot)
            number = self.c.pick(self.plan.indices_of(type))
            self.op("return_call_indirect", uleb(number), uleb(table))
        self.end_reachable()

    # --- fuel ---

    def guard(self) -> None:
        """Pay from the fuel; return something when there is none left."""
        fuel = uleb(self.plan.fuel)
        self.op("global.get", fuel)
        self.op("i32.const", sleb(0))
        self.op("i32.le_s")
        self.op("if", b"\x40")
        height = len(self.stack)
        for type in self.type.results:
            self.const(type)
        del self.stack[height:]
        self.op("return")
        self.op("end")
        self._pay()

    def _pay(self) -> None:
        fuel = uleb(self.plan.fuel)
        self.op("global.get", fuel)
        self.op("i32.const", sleb(1))
        self.op("i32.sub")
        self.op("global.set", fuel)

    # --- blocks ---

    def block_type(self, params: Sequence[ValType], results: Sequence[ValType]) -> bytes:
        if not params and not results:
            return b"\x40"
        if not params and len(results) == 1 and self.c.chance(70):
            return val_type_bytes(results[0])
        return sleb(self.plan.type_index(FuncType(tuple(params), tuple(results))))

    def _shape(self) -> tuple[tuple[ValType, ...], tuple[ValType, ...]]:
        """Parameters (what is on top of the stack) and results of a block."""
        count = min(self.c.pick((0, 0, 0, 1, 1, 2, 3, 5, 8)), len(self.stack) - self.base)
        params = tuple(entry.type for entry in self.stack[len(self.stack) - count :])
        if params and self.c.chance(25):
            return params, params
        results = tuple(self.c.pick(self.plan.value_types) for _ in range(self.c.pick((0, 0, 1, 1, 2, 3, 5, 9))))
        return params, results

    def _inside(self, params: Sequence[ValType], results: Sequence[ValType], label: Label) -> None:
        """The inside of a block, whose parameters are on the stack, up to its end."""
        saved = self.base, self.dead
        self.labels.append(label)
        self.base = label.base
        # An outer block that is dead doesn't make this one so, as far as validation goes.
        self.dead = False
        if params and self.c.chance(25):
            # What a loop begins with must not be done by what lies before it.
            self.set_local() if self.c.chance(60) else self.tee_local()
        self.sequence()
        self.settle(results)
        del self.stack[self.base :]
        self.labels.pop()
        self.base, self.dead = saved

    def _begin(self, mnemonic: str, params: Sequence[ValType], results: Sequence[ValType]) -> int:
        """Open a block: its parameters lose their cleanness. Gives the height below them."""
        self.op(mnemonic, self.block_type(params, results))
        base = len(self.stack) - len(params)
        self.stack[base:] = [Entry(type, False) for type in params]
        return base

    def block(self) -> None:
        if len(self.labels) > MAX_DEPTH:
            return
        params, results = self._shape()
        base = self._begin("block", params, results)
        self._inside(params, results, Label(results, base))
        self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def loop(self) -> None:
        if len(self.labels) > MAX_DEPTH:
            return
        params, results = self._shape()
        counter = self.new_local(I32)
        rounds, up = self.c.below(6), self.c.chance(30)
        self.op("i32.const", sleb(-rounds if up else rounds))
        self.op("local.set", uleb(counter))
        base = self._begin("loop", params, results)
        self._inside(params, results, Label(params, base, counter, up))
        self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def if_(self) -> None:
        if len(self.labels) > MAX_DEPTH:
            return
        if len(self.stack) == self.base or self.stack[-1].type != I32 or self.c.chance(40):
            self.value(I32)
        self.pop(1)
        params, results = self._shape()
        base = self._begin("if", params, results)
        self._inside(params, results, Label(results, base))
        if params != results or self.c.chance(60):
            self.op("else")
            self.stack[base:] = [Entry(type, False) for type in params]
            self._inside(params, results, Label(results, base))
        self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def settle(self, results: Sequence[ValType]) -> None:
        """Bring the stack above the base to exactly the results."""
        how = self.c.below(10)
        if how == 9 or (how == 8 and self.labels[-1].counter is None):
            self.need(results if how == 8 else self.type.results)
            self.op("br", uleb(0)) if how == 8 else self.op("return")
            self.end_reachable()
            return
        if self.dead and len(self.stack) == self.base and self.c.chance(50):
            return
        while True:
            types = tuple(entry.type for entry in self.stack[self.base :])
            if types == tuple(results[: len(types)]):
                break
            if self._writable_now() and self.c.chance(30):
                self.write_local("local.set")
            else:
                self.op("drop")
                self.pop(1)
        for type in results[len(self.stack) - self.base :]:
            self.value(type)

    def _writable_now(self) -> bool:
        return bool(self.locals_of(self.stack[-1].type))

    def sequence(self) -> None:
        """Some steps."""
        steps = self.c.pick((0, 1, 2, 4, 8, 16, 40))
        for _ in range(steps):
            if self.budget <= 0:
                return
            self.budget -= 1
            self.c.pick(self.actions)()
            if self.dead and self.c.chance(60):
                return

    # --- exceptions ---

    def try_(self) -> None:
        """A `try_table` with some clauses: their labels are open already, or are blocks around it."""
        clauses: list[tuple[int, int, int]] = []  # kind, tag, position of the label
        new: list[tuple[ValType, ...]] = []
        for _ in range(self.c.pick((1, 1, 2, 3))):
            kind, tag = self.c.below(4), self.c.pick(self.plan.throwable)
            types = self.plan.tags[tag].params if kind < 2 else ()
            types = (*types, EXNREF) if kind & 1 else types
            fitting = [k for k, label in enumerate(self.labels) if label.counter is None and label.types == types]
            if fitting and self.c.chance(40):
                clauses.append((kind, tag, self.c.pick(fitting)))
            else:
                clauses.append((kind, tag, len(self.labels) + len(new)))
                new.append(types)
        if len(self.labels) + len(new) <= MAX_DEPTH + 2:
            self._around(new, clauses)

    def _around(self, new: list[tuple[ValType, ...]], clauses: list[tuple[int, int, int]]) -> None:
        """The blocks that clauses lead to, and inside of them the `try_table`."""
        if new:
            types = new[0]
            base = self._begin("block", (), types)
            saved = self.base, self.dead
            self.labels.append(Label(types, base))
            self.base, self.dead = base, False
            self._around(new[1:], clauses)
            self.settle(types)
            del self.stack[self.base :]
            self.labels.pop()
            self.base, self.dead = saved
            self.op("end")
            self.stack += [Entry(type, False) for type in types]
            if types[-1:] == (EXNREF,) and self.c.chance(60):
                self.keep_exception()
            return
        params, results = self._shape()
        base = self._begin("try_table", params, results)
        self.code += uleb(len(clauses))
        for kind, tag, position in clauses:
            depth = uleb(len(self.labels) - 1 - position)
            self.code += bytes((kind,)) + (uleb(tag) if kind < 2 else b"") + depth
        self._inside(params, results, Label(results, base))
        self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def keep_exception(self) -> None:
        """Put the exception on top into a local of its own."""
        if EXNREF not in self.scratch:
            self.scratch[EXNREF] = self.new_local(EXNREF)
        self.op("local.set", uleb(self.scratch[EXNREF]))
        self.pop(1)

    def throw(self) -> None:
        """Throw; mostly under a condition, so that what follows is reached too."""
        if self.c.chance(60) and len(self.labels) <= MAX_DEPTH:
            self.value(I32)
            self.pop(1)
            base = self._begin("if", (), ())
            saved = self.base, self.dead
            self.base, self.dead = base, False
            tag = self.c.pick(self.plan.throwable)
            self.labels.append(Label((), base))
            for type in self.plan.tags[tag].params:
                self.value(type)
            self.op("throw", uleb(tag))
            del self.stack[base:]
            self.labels.pop()
            self.base, self.dead = saved
            self.op("end")
        elif self.c.chance(50):
            tag = self.c.pick(self.plan.throwable)
            self.need(self.plan.tags[tag].params)
            self.op("throw", uleb(tag))
            self.end_reachable()

    def old_try(self) -> None:
        """A `try`, with clauses or one that delegates."""
        if len(self.labels) > MAX_DEPTH:
            return
        params, results = self._shape()
        base = self._begin("try", params, results)
        self._inside(params, results, Label(results, base))
        if self.c.chance(20):
            self.op("delegate", uleb(self.c.below(len(self.labels))))
        else:
            for _ in range(self.c.pick((0, 1, 1, 2))):
                tag = self.c.pick(self.plan.throwable)
                self.op("catch", uleb(tag))
                self._clause(self.plan.tags[tag].params, results, base)
            if self.c.chance(40):
                self.op("catch_all")
                self._clause((), results, base)
            self.op("end")
        self.stack += [Entry(type, False) for type in results]

    def _clause(self, params: Sequence[ValType], results: Sequence[ValType], base: int) -> None:
        self.stack += [Entry(type, False) for type in params]
        self._inside(params, results, Label(tuple(results), base, caught=True))

    def rethrow(self) -> None:
        """Throw what a clause has caught; mostly under a condition."""
        depths = [depth for depth, label in enumerate(reversed(self.labels)) if label.caught]
        if not depths:
            return
        depth = self.c.pick(depths)
        if self.c.chance(70):
            self.value(I32)
            self.pop(1)
            self.op("if", b"\x40")
            self.op("rethrow", uleb(depth + 1))
            self.op("end")
        else:
            self.op("rethrow", uleb(depth))
            self.end_reachable()

    def throw_ref(self) -> None:
        if len(self.stack) > self.base and self.stack[-1].type == EXNREF:
            self.op("throw_ref")
            self.end_reachable()
        elif EXNREF in self.scratch and self.c.chance(50):
            self.op("local.get", uleb(self.scratch[EXNREF]))
            self.op("throw_ref")
            self.end_reachable()

    # --- branches ---

    def br(self) -> None:
        depth = self.c.below(len(self.labels))
        label = self.labels[-1 - depth]
        if label.counter is not None:
            self.guard()
        self.need(label.types)
        self.op("br", uleb(depth))
        self.end_reachable()

    def br_if(self) -> None:
        depth = self.c.below(len(self.labels))
        label = self.labels[-1 - depth]
        fused = self.stack[-1].type == I32 and not label.types if len(self.stack) > self.base else False
        if label.counter is None:
            if not fused:
                self.need(label.types)
                self.value(I32)
            self.op("br_if", uleb(depth))
            self.pop(1)
        else:
            self._back_edge(label, depth)
        self.passed(label.types)

    def passed(self, types: Sequence[ValType]) -> None:
        """The operands of a conditional branch stay; in dead code it makes those that were missing."""
        taken = self.pop(len(types))
        missing = len(types) - len(taken)
        self.stack += [Entry(type, k >= missing and taken[k - missing].clean) for k, type in enumerate(types)]

    def _back_edge(self, label: Label, depth: int) -> None:
        counter = uleb(label.counter or 0)
        how = self.c.below(3)
        if how == 2:
            self.guard()
        self.need(label.types)
        if how == 0:
            step = 1 if label.up else -1
            compare = self.c.pick(_UP if label.up else _DOWN)
            if compare[0] == "swapped":
                self.op("i32.const", sleb(compare[2]))
            self.op("local.get", counter)
            by_add = self.c.chance(50)
            self.op("i32.const", sleb(step if by_add else -step))
            self.op("i32.add" if by_add else "i32.sub")
            self.op("local.tee", counter)
            if compare[0] != "swapped":
                self.op("i32.const", sleb(compare[2]))
            self.op(compare[1])
            if compare[0] == "negated":
                self.op("i32.eqz")
            self.push(I32)
        elif how == 1:
            self._pay()
            self.op("global.get", uleb(self.plan.fuel))
            self.op("i32.const", sleb(0))
            self.op("i32.gt_s")
            self.push(I32)
        elif self.c.chance(60):
            saved, self.floor = self.floor, len(self.stack)
            self.apply(self.c.pick(COMPARES), 1)
            self.floor = saved
        else:
            self.value(I32)
        if self.c.chance(20):
            self.value(I32)
            self.op("i32.and")
            self.finish((I32, I32), (I32,))
        self.op("br_if", uleb(depth))
        self.pop(1)

    def br_table(self) -> None:
        chosen = self.c.pick(self.labels).types
        depths = [depth for depth, label in enumerate(reversed(self.labels)) if label.types == chosen]
        targets = [self.c.pick(depths) for _ in range(1 + self.c.pick((0, 1, 2, 3, 5, 40)))]
        if any(self.labels[-1 - depth].counter is not None for depth in targets):
            self.guard()
        self.need(chosen)
        if self.c.chance(50):
            self.small_number(len(targets) + 1)
        else:
            self.value(I32)
        self.op("br_table", uleb(len(targets) - 1), *(uleb(depth) for depth in targets))
        self.end_reachable()

    def br_on_null(self) -> None:
        """`br_on_null` and `br_on_non_null`, forwards."""
        refs = [type for type in self.plan.value_types if type.is_ref]
        if not refs:
            return
        # The second takes the non-null reference along, as the last value of its label.
        onward = self.c.chance(40)
        depths = [
            depth
            for depth, label in enumerate(reversed(self.labels))
            if label.counter is None and (not onward or (label.types and label.types[-1] in refs))
        ]
        if not depths:
            return
        depth = self.c.pick(depths)
        types = self.labels[-1 - depth].types
        if onward:
            self.need(types, 1)
            self.op("br_on_non_null", uleb(depth))
            self.passed(types)
            self.pop(1)
        else:
            type = self.c.pick(refs)
            self.need(types, 1)
            self.value(type)
            self.op("br_on_null", uleb(depth))
            self.pop(1)
            self.passed(types)
            self.push(type)

    def return_(self) -> None:
        if self.c.chance(50):
            return
        self.need(self.type.results)
        self.op("return")
        self.end_reachable()
