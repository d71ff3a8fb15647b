"""Steps of random function bodies that only move data: variables, memories, tables, references."""

from __future__ import annotations

from tests.fuzz.operands import (
    ATOMICS,
    DOUBLE,
    FLOAT_CHAIN,
    INTEGER_CHAIN,
    LOADS,
    NUMBERS,
    NUMERIC,
    PLAIN,
    STORES,
    SURE_VECTORS,
    TYPES,
    VECTORS,
    Operands,
    is_number,
)
from wasmloom.binary.encoder import sleb, uleb, val_type_bytes
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import FUNCREF, I32, I64, ValType

MAX_HEIGHT = 40
_TYPED_SELECT = b"\x1c"


class DataSteps(Operands):
    """Each step is valid wherever it is taken, and may do nothing."""

    # --- values and variables ---

    def push_leaf(self) -> None:
        type = self.c.pick(self.plan.value_types)
        if len(self.stack) - self.base < MAX_HEIGHT:
            self.get_local(type) if self.c.chance(65) else self.value(type, 1)

    def compute(self) -> None:
        """A numeric instruction; often one that takes what is on top."""
        if len(self.stack) > self.base and self.c.chance(60):
            top = self.stack[-1].type
            fitting = [row for row in PLAIN if NUMERIC[row.params[-1]] == top] if is_number(top) else []
            under = self.stack[-2].type if len(self.stack) - self.base > 1 else None
            exact = [row for row in fitting if len(row.params) == 1 or NUMERIC[row.params[0]] == under]
            if exact:
                self.apply(self.c.pick(exact))
                return
        self.apply(self.c.pick(PLAIN))

    def _writable_top(self) -> bool:
        """Have something on top that a local can hold."""
        if len(self.stack) > self.base and self.locals_of(self.stack[-1].type):
            return True
        types = [entry.type for i, entry in enumerate(self.locals) if i not in self.reserved]
        if not types:
            return False
        self.value(self.c.pick(types))
        return True

    def set_local(self) -> None:
        if self._writable_top():
            self.write_local("local.set")

    def tee_local(self) -> None:
        if self._writable_top():
            self.write_local("local.tee")

    def pile(self) -> None:
        """Many unread locals and constants, then writes of locals while they wait."""
        if len(self.stack) - self.base > MAX_HEIGHT:
            return
        type = self.c.pick(NUMBERS)
        for _ in range(self.c.pick((2, 3, 4, 6, 12))):
            self.value(type, 0)
        for _ in range(self.c.below(3)):
            self.set_local()
        if self.c.chance(50):
            name = self.c.pick(("add", "sub", "mul"))
            while len(self.stack) - self.base > 1 and self.stack[-2].type == type and self.stack[-1].type == type:
                self.apply(BY_MNEMONIC[f"{type}.{name}"])
                if self.c.chance(10):
                    break

    def drop(self) -> None:
        if len(self.stack) > self.base:
            self.op("drop")
            self.pop(1)

    def select(self) -> None:
        if len(self.stack) - self.base > 2 and self.c.chance(50) and self.stack[-1].type == I32:
            a, b = self.stack[-3:-1]
            if a.type == b.type:
                self._select(a.type)
                return
        type = self.c.pick(self.plan.value_types)
        self.need((type, type))
        self.value(I32)
        self._select(type)

    def _select(self, type: ValType) -> None:
        if is_number(type) and not self.c.chance(20):
            self.op("select")
        else:
            self.code += _TYPED_SELECT + b"\1" + val_type_bytes(type)
        taken = self.pop(3)
        self.push(type, len(taken) == 3 and taken[0].clean and taken[1].clean)

    def double(self) -> None:
        """An instruction with two results, of which locals may take some."""
        row = self.c.pick(DOUBLE)
        self.need((I64,) * len(row.params))
        self.op(row.mnemonic)
        self.finish((I64,) * len(row.params), (I64, I64))
        for _ in range(self.c.below(3)):
            self.set_local()

    def get_global(self) -> None:
        self.global_of(self.c.pick(self.plan.value_types))

    def set_global(self) -> None:
        those = [i for i, item in enumerate(self.plan.globals) if item.mutable and i != self.plan.fuel]
        if not those:
            return
        chosen = self.c.pick(those)
        self.need((self.plan.globals[chosen].content,))
        self.op("global.set", uleb(chosen))
        self.pop(1)

    def nop(self) -> None:
        self.op("nop")

    def trap(self) -> None:
        if self.c.chance(4):
            self.op("unreachable")
            self.end_reachable()

    # --- memories ---

    def set_small(self) -> None:
        """Write one of the locals for addresses."""
        if self.small:
            self.need((I32,), 1)
            self.op("i32.const", sleb(self.c.pick((7, 63, 255))))
            self.op("i32.and")
            self.op("local.set", uleb(self.c.pick(self.small)))
            self.pop(1)

    def load(self) -> None:
        if self.plan.memories:
            self.load_as(self.c.pick(LOADS))

    def vector(self) -> None:
        """An instruction with vectors."""
        row = self.c.pick(VECTORS if self.plan.raw else SURE_VECTORS)
        immediates = b""
        types = [TYPES[type] for type in row.params]
        if row.immediates[:1] and row.immediates[0][:4] == "mem:":
            if not self.plan.memories:
                return
            self.address()
            for type in types[1:]:
                self.value(type, 1)
            immediates = self.memarg(row, self._memory())
        else:
            self.need(types)
            self.clean_top()
        for kind in row.immediates:
            if kind == "lanes":
                immediates += bytes(self.c.below(32) for _ in range(16))
            elif kind[:5] == "lane:":
                immediates += bytes((self.c.below(int(kind[5:])),))
        self.op(row.mnemonic, immediates)
        self.pop(len(types))
        for name in row.results:
            self.push(TYPES[name], True)

    def store(self) -> None:
        if not self.plan.memories:
            return
        row = self.c.pick(STORES)
        type = NUMERIC[row.params[1]]
        if type == I32 and self.small and not self.plan.wide and self.c.chance(8):
            # Address and value are the same local, which has just been written.
            local = uleb(self.c.pick(self.small))
            self.value(I32)
            self.op("i32.const", sleb(63))
            self.op("i32.and")
            self.op("local.tee", local)
            self.op("local.get", local)
            self.push(I32)
        elif type == I32 and self.small and self.c.chance(15):
            self.address()
            self.op("local.get", uleb(self.c.pick(self.small)))
            self.push(I32)
        else:
            self.address()
            self.value(type)
        self.clean_top()
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(2)

    def store_top(self, type: ValType) -> None:
        """Store what is on top, with its address before it."""
        if not self.plan.memories:
            return
        if type not in self.scratch:
            self.scratch[type] = self.new_local(type)
        row = self.c.pick([row for row in STORES if NUMERIC[row.params[1]] == type])
        self.clean_top()
        self.op("local.set", uleb(self.scratch[type]))
        self.pop(1)
        self.small_number(512)
        self.widen()
        self.op("local.get", uleb(self.scratch[type]))
        if self.c.chance(50):
            self.const(type)
            self.op(f"{type}.{self.c.pick(INTEGER_CHAIN if type in (I32, I64) else FLOAT_CHAIN)}")
            self.push(type)
            self.clean_top()
            self.pop(2)
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(1)

    def atomic(self) -> None:
        """An atomic instruction, aligned most of the time."""
        if not self.plan.memories:
            return
        if self.c.chance(5):
            self.op("atomic.fence", b"\0")
            return
        row = self.c.pick(ATOMICS)
        self.address()
        if not self.c.chance(5):
            self.op(f"{self.address_type}.const", sleb(-1 << int(row.immediates[0][7:])))
            self.op(f"{self.address_type}.and")
        for type in row.params[1:]:
            self.value(NUMERIC[type], 1)
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(len(row.params))
        for type in row.results:
            self.push(NUMERIC[type], True)

    def bulk_memory(self) -> None:
        if not self.plan.memories:
            return
        memory = self._memory()
        how = self.c.below(4)
        if how == 3 and self.plan.data:
            self.op("data.drop", uleb(self.c.below(self.plan.data)))
            return
        self.address()
        if how == 0:
            self.value(I32)
        else:
            self.small_number(64)
            if how == 1 or not self.plan.data:
                self.widen()
        self.small_number(32)
        if how < 2 or not self.plan.data:
            self.widen()
        if how == 0:
            self.op("memory.fill", uleb(memory))
        elif how == 1 or not self.plan.data:
            self.op("memory.copy", uleb(memory), uleb(self._memory()))
        else:
            self.op("memory.init", uleb(self.c.below(self.plan.data)), uleb(memory))
        self.pop(3)

    def grow_memory(self) -> None:
        if not self.plan.memories:
            return
        memory = uleb(self._memory())
        if self.c.chance(50):
            self.op("memory.size", memory)
        else:
            self.const(self.address_type, self.c.pick((0, 1, 2, -1, 65536)))
            self.op("memory.grow", memory)
            self.pop(1)
        self.push(self.address_type)

    # --- tables and references ---

    def table_access(self) -> None:
        if not self.plan.tables:
            return
        table = self.c.below(len(self.plan.tables))
        type = self.plan.tables[table].element
        how = self.c.below(4)
        if how == 0:
            self.op("table.size", uleb(table))
            self.push(self.address_type)
        elif how == 1:
            self.value(type)
            self.const(self.address_type, self.c.pick((0, 1, 2, 100)))
            self.op("table.grow", uleb(table))
            self.pop(2)
            self.push(self.address_type)
        elif how == 2:
            self.small_number(self.plan.table_size)
            self.widen()
            self.op("table.get", uleb(table))
            self.pop(1)
            self.push(type)
        else:
            self.small_number(self.plan.table_size)
            self.widen()
            self.value(type)
            self.op("table.set", uleb(table))
            self.pop(2)

    def bulk_table(self) -> None:
        plan = self.plan
        if not plan.tables:
            return
        table = self.c.below(len(plan.tables))
        type = plan.tables[table].element
        how = self.c.below(4)
        segments = [i for i, element in enumerate(plan.elements) if element == type]
        if how == 3 and segments:
            self.op("elem.drop", uleb(self.c.pick(segments)))
            return
        self.small_number(plan.table_size)
        self.widen()
        copies = how and (how == 1 or not segments)
        if how == 0:
            self.value(type)
        else:
            self.small_number(4)
            if copies:
                self.widen()
        self.small_number(4)
        if how == 0 or copies:
            self.widen()
        if how == 0:
            self.op("table.fill", uleb(table))
        elif how == 1 or not segments:
            same = [i for i, other in enumerate(plan.tables) if other.element == type]
            self.op("table.copy", uleb(table), uleb(self.c.pick(same)))
        else:
            self.op("table.init", uleb(self.c.pick(segments)), uleb(table))
        self.pop(3)

    def reference(self) -> None:
        types = [type for type in self.plan.value_types if type.is_ref] or [FUNCREF]
        type = self.c.pick(types)
        self.need((type,))
        if self.c.chance(15):
            self.op("ref.as_non_null")
            self.finish((type,), (type,))
        elif self.c.chance(60):
            self.op("ref.is_null")
            self.pop(1)
            self.push(I32)
