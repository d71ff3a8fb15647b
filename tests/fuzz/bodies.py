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

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.choices import Choices
from wasmloom.binary.encoder import heap_type_bytes, sleb, uleb, val_type_bytes
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS, Instruction
from wasmloom.spec.types import CONCRETE, EXNREF, EXTERNREF, F32, F64, FUNCREF, I32, I64, FuncType, ValType

if TYPE_CHECKING:
    from tests.fuzz.generator import Plan

NUMERIC = {"i32": I32, "i64": I64, "f32": F32, "f64": F64}
NUMBERS: tuple[ValType, ...] = (I32, I64, F32, F64)
CANONICAL_NAN = {F32: 0x7FC00000, F64: 0x7FF8000000000000}
MAX_DEPTH = 6
MAX_HEIGHT = 40

#: Instructions that compute numbers from numbers, loads and stores, by the table's own columns.
PLAIN = [
    row
    for row in INSTRUCTIONS
    if row.results and row.params and not row.immediates and all(t in NUMERIC for t in (*row.params, *row.results))
]
_ACCESSES = [row for row in INSTRUCTIONS if not row.prefix and row.immediates[:1] and row.immediates[0][:4] == "mem:"]
LOADS = [row for row in _ACCESSES if row.results]
STORES = [row for row in _ACCESSES if not row.results]
COMPARES = [row for row in PLAIN if len(row.params) == 2 and row.results == ("i32",) and row.mnemonic[4:6] in
            ("eq", "ne", "lt", "gt", "le", "ge")]  # fmt: skip
_MAKING = {t: [row for row in PLAIN if NUMERIC[row.results[0]] == t] for t in NUMBERS}
_TRAPPING = tuple(row.mnemonic for row in PLAIN if ".trunc_f" in row.mnemonic)
_DIVIDING = tuple(row.mnemonic for row in PLAIN if row.mnemonic[:1] == "i" and row.mnemonic[4:7] in ("div", "rem"))

_INTEGER_CHAIN = ("add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "add", "and")
_FLOAT_CHAIN = ("add", "sub", "mul", "div")

#: Comparisons of a counter with a constant that hold until it arrives at 0: how they are written, comparison, constant.
_DOWN = (("plain", "i32.gt_s", 0), ("plain", "i32.ge_s", 1), ("swapped", "i32.lt_s", 0), ("negated", "i32.le_s", 0))
_UP = (("plain", "i32.lt_s", 0), ("plain", "i32.le_s", -1), ("swapped", "i32.gt_s", 0), ("negated", "i32.ge_s", 0))

INTERESTING: dict[ValType, tuple[int, ...]] = {
    I32: (0, 1, -1, 2, 3, 7, 8, 31, 32, 33, 63, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, -0x80000000,
          -0x7FFFFFFF, -2, -128, -129, 1000),
    I64: (0, 1, -1, 2, 5, 31, 32, 63, 64, 65, 255, 0x7FFFFFFF, 0x80000000, -0x80000000, -0x80000001, 0xFFFFFFFF,
          0x100000000, -0x100000000, 0x7FFFFFFFFFFFFFFF, -0x8000000000000000, 0x123456789ABCDEF0, -2),
    F32: (0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7FA00001, 0xFFFFFFFF,
          1, 0x807FFFFF, 0x00800000, 0x7F7FFFFF, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x4F800000, 0x5F000000, 0xDF000000,
          0x5F800000, 0x3F000000, 0x3FC00000, 0x40200000, 0xBF000000, 0x4B000001, 0x3F7FFFFF, 0xBF7FFFFF, 0xCF000001),
    F64: (0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0xFFF8 << 48, (0x7FF4 << 48)
          | 1, (1 << 64) - 1, 1, 0x41E0 << 48, 0x41DFFFFFFFC00000, 0xC1E0 << 48, 0xC1E0000000200000,
          0xC1E00000001FFFFF, 0x41F0 << 48, 0x41EFFFFFFFE00000, 0x43E0 << 48, 0xC3E0 << 48, 0x43F0 << 48,
          0x43DFFFFFFFFFFFFF, 0x3FE0 << 48, 0x3FF8 << 48, 0x4004 << 48, 0xBFEFFFFFFFFFFFFF, 0xBFE0 << 48,
          0x47EFFFFFE0000000, 0x47EFFFFFF0000000, 0x36A0 << 48, 0x7FEFFFFFFFFFFFFF, 0x0010 << 48, 0x4330000000000001),
}  # fmt: skip


class Entry(NamedTuple):
    """An operand on the stack."""

    type: ValType
    clean: bool = True


class Label(NamedTuple):
    """A structured instruction that is open. `types` are what a branch to it takes; `counter` the loop's local.

    The counter goes down to 0, or `up` to 0.
    """

    types: tuple[ValType, ...]
    base: int
    counter: int | None = None
    up: bool = False


def opcode(row: Instruction) -> bytes:
    """The opcode of an instruction in the binary format."""
    return bytes((row.prefix,)) + uleb(row.opcode) if row.prefix else bytes((row.opcode,))


_OPCODES = {row.mnemonic: opcode(row) for row in reversed(INSTRUCTIONS)}
_TYPED_SELECT = b"\x1c"


def is_number(type: ValType) -> bool:
    return type in NUMBERS


class Body:
    """Generates one function body; `code` and `locals` are the result."""

    def __init__(self, choices: Choices, plan: Plan, type: FuncType) -> None:
        self.c = choices
        self.plan = plan
        self.type = type
        self.code = bytearray()
        self.stack: list[Entry] = []
        self.dead = False
        self.locals: list[Entry] = [Entry(t, False) for t in type.params]
        self.reserved: set[int] = set()
        self.scratch: dict[ValType, int] = {}
        self.labels = [Label(type.results, 0)]
        self.base = 0
        #: Operands below this height are wanted as they are.
        self.floor = 0
        self.budget = choices.pick((3, 8, 15, 30, 60, 120))
        self.leaf = choices.chance(25)
        self._declare_locals()
        #: Locals that only ever hold small numbers, for addresses.
        self.small = [self.new_local(I32) for _ in range(choices.pick((1, 2, 0)))]
        self.actions = self._weigh()

    def _declare_locals(self) -> None:
        c = self.c
        count = c.pick((0, 1, 2, 3, 4, 5, 6, 7, 9, 12))
        if c.chance(3):
            count = c.below(300)
        kinds: Sequence[ValType] = self.plan.value_types if c.chance(30) else NUMBERS
        for _ in range(count):
            self.locals.append(Entry(c.pick(kinds), c.chance(50)))

    def _weigh(self) -> list[Callable[[], None]]:
        """The steps to choose from, each as often as its weight says; functions differ in what they favour."""
        weights: dict[Callable[[], None], int] = {
            self.push_leaf: 14, self.compute: 22, self.set_local: 9, self.tee_local: 5, self.drop: 3, self.select: 4,
            self.block: 5, self.loop: 3, self.if_: 6, self.br: 3, self.br_if: 7, self.br_table: 2, self.return_: 1,
            self.load: 6, self.store: 6, self.get_global: 4, self.set_global: 4, self.bulk_memory: 2,
            self.grow_memory: 1, self.table_access: 2, self.bulk_table: 1, self.reference: 3, self.nop: 1,
            self.pile: 2, self.trap: 1, self.compare_and_use: 6, self.chain: 6, self.set_small: 2, self.br_on_null: 2,
        }  # fmt: skip
        if self.plan.tags:
            weights |= {self.try_: 6, self.throw: 3, self.throw_ref: 1}
        if not self.leaf:
            weights |= {self.call: 6, self.call_indirect: 4, self.call_ref: 3, self.tail_call: 2}
        styles: tuple[tuple[Callable[[], None], ...], ...] = (
            (),
            (self.push_leaf, self.set_local, self.tee_local, self.pile),
            (self.block, self.loop, self.if_, self.br, self.br_if, self.br_table, self.try_, self.throw),
            (self.load, self.store, self.bulk_memory, self.grow_memory),
            (self.compute, self.compare_and_use, self.select),
            (self.call, self.call_indirect, self.call_ref, self.tail_call),
            (self.try_, self.throw, self.br, self.br_if, self.call),
        )
        for action in self.c.pick(styles):
            if action in weights:
                weights[action] *= 4
        return [action for action, weight in weights.items() for _ in range(weight)]

    # --- emission and the model of the stack ---

    def op(self, mnemonic: str, *immediates: bytes) -> None:
        self.code += _OPCODES[mnemonic]
        for immediate in immediates:
            self.code += immediate

    def push(self, type: ValType, clean: bool = False) -> None:
        self.stack.append(Entry(type, clean))

    def pop(self, count: int) -> list[Entry]:
        """Pop operands; in dead code there are always enough."""
        taken = self.stack[max(self.base, len(self.stack) - count) :]
        del self.stack[len(self.stack) - len(taken) :]
        return taken

    def need(self, types: Sequence[ValType], depth: int = 2) -> None:
        """Have operands of these types on top: some may be there already, the others are pushed."""
        height = len(self.stack)
        fitting = [
            count
            for count in range(min(len(types), height - max(self.base, self.floor)), -1, -1)
            if all(e.type == t for e, t in zip(self.stack[height - count :], types[:count], strict=True))
        ]
        have = self.c.pick(fitting) if self.c.chance(25) else fitting[0]
        if self.dead and not have and height == self.base and self.c.chance(30):
            have = self.c.below(len(types) + 1)  # what is missing below comes out of nothing
        for type in types[have:]:
            self.value(type, depth)

    def finish(self, params: Sequence[ValType], results: Sequence[ValType]) -> None:
        """Pop the operands of an instruction that was emitted, push its results."""
        self.pop(len(params))
        for type in results:
            self.push(type)

    def end_reachable(self) -> None:
        """What follows can't be reached."""
        self.dead = True
        del self.stack[self.base :]

    # --- values ---

    def const(self, type: ValType, number: int | None = None) -> None:
        """Push a constant; `number` are the bits."""
        c = self.c
        if type in (I32, I64):
            bits = 32 if type == I32 else 64
            if number is None:
                number = c.pick(INTERESTING[type]) if not c.chance(20) else c.bits(bits)
            number = (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
            self.op("i32.const" if type == I32 else "i64.const", sleb(number))
        elif type in (F32, F64):
            wide = type == F64
            if number is None:
                number = c.pick(INTERESTING[type]) if not c.chance(20) else c.bits(64 if wide else 32)
            self.op("f64.const" if wide else "f32.const", struct.pack("<Q" if wide else "<I", number))
        else:
            functions = self.plan.functions_for(type)
            if functions and not c.chance(20):
                self.op("ref.func", uleb(c.pick(functions)))
            else:
                self.op("ref.null", heap_type_bytes(type.heap))
        self.push(type, True)

    def locals_of(self, type: ValType) -> list[int]:
        return [i for i, entry in enumerate(self.locals) if entry.type == type and i not in self.reserved]

    def value(self, type: ValType, depth: int = 2) -> None:
        """Push a value of a type, using none of the operands that are there."""
        saved = self.floor
        self.floor = len(self.stack)
        self._value(type, depth)
        self.floor = saved

    def _value(self, type: ValType, depth: int) -> None:
        how = self.c.below(12)
        if how < 3:
            self.const(type)
        elif how < 7 or not depth:
            self.get_local(type)
        elif how == 7:
            self.global_of(type)
        elif how < 10 and is_number(type):
            self.apply(self.c.pick(_MAKING[type]), depth - 1)
        elif how == 10 and self.plan.memories and is_number(type):
            self.load_as(self.c.pick([row for row in LOADS if NUMERIC[row.results[0]] == type]))
        else:
            self.value(type, depth - 1)
            if self.locals_of(type):
                self.write_local("local.tee")

    def get_local(self, type: ValType) -> None:
        """Push a local of a type, or a constant when there is none."""
        those = self.locals_of(type)
        if not those:
            self.const(type)
            return
        local = self.c.pick(those)
        self.op("local.get", uleb(local))
        self.push(*self.locals[local])

    def global_of(self, type: ValType) -> None:
        those = [i for i, item in enumerate(self.plan.globals) if item.content == type and i != self.plan.fuel]
        if not those:
            self.const(type)
            return
        self.op("global.get", uleb(self.c.pick(those)))
        self.push(type, False)

    def clean_top(self) -> None:
        """Make the bits of the float on top well defined."""
        if len(self.stack) == self.base:
            return  # dead code
        entry = self.stack[-1]
        if entry.clean or entry.type not in CANONICAL_NAN or self.plan.raw:
            return
        if entry.type not in self.scratch:
            self.scratch[entry.type] = self.new_local(entry.type)
        local = uleb(self.scratch[entry.type])
        name = str(entry.type)
        self.op("local.tee", local)
        self.const(entry.type, CANONICAL_NAN[entry.type])
        self.op("local.get", local)
        self.op("local.get", local)
        self.op(f"{name}.eq")
        self.op("select")
        self.pop(2)
        self.push(entry.type, True)

    def new_local(self, type: ValType) -> int:
        """A local that nothing else uses."""
        self.locals.append(Entry(type, False))
        self.reserved.add(len(self.locals) - 1)
        return len(self.locals) - 1

    def apply(self, row: Instruction, depth: int = 2) -> None:
        """A numeric instruction, with its operands."""
        name = row.mnemonic
        if name in _TRAPPING and not self.c.chance(15):
            row = BY_MNEMONIC[name.replace(".trunc_", ".trunc_sat_")]
            name = row.mnemonic
        params = [NUMERIC[t] for t in row.params]
        result = NUMERIC[row.results[0]]
        if name in _DIVIDING and not self.c.chance(10):
            self.need(params[:1], depth)
            if self.c.chance(50):
                self.const(result, self.c.pick((1, 2, 3, 7, 10, 0x7FFFFFFF, 64, 1000)))
            else:
                self.value(result, depth)
                self.const(result, 1)
                self.op(f"{result}.or")
                self.finish((result, result), (result,))
        else:
            self.need(params, depth)
        if "reinterpret_f" in name or name.endswith("copysign"):
            self.clean_top()
        self.op(name)
        operands = self.pop(len(params))
        clean = "reinterpret" in name or ".convert" in name
        if name.endswith((".neg", ".abs", ".copysign")) and operands:
            clean = operands[0].clean
        self.push(result, clean)

    # --- steps: values and variables ---

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

    def compare_and_use(self) -> None:
        """A comparison, perhaps negated, straight into what may take it over."""
        self.apply(self.c.pick(COMPARES), 1)
        for _ in range(self.c.pick((0, 0, 0, 1, 1, 2))):
            self.op("i32.eqz")
        self.c.pick((self.nop, self.br_if, self.if_, self.select, self.select, self.set_local, self.tee_local))()

    def chain(self) -> None:
        """Arithmetic in the accumulator, as compilers write it: a start, steps with locals and constants, a use."""
        type = self.c.pick(NUMBERS)
        names = _INTEGER_CHAIN if type in (I32, I64) else _FLOAT_CHAIN
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
        self.op("local.get", uleb(self.scratch[type]))
        if self.c.chance(50):
            self.const(type)
            self.op(f"{type}.{self.c.pick(_INTEGER_CHAIN if type in (I32, I64) else _FLOAT_CHAIN)}")
            self.push(type)
            self.clean_top()
            self.pop(2)
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(1)

    def write_local(self, mnemonic: str) -> None:
        """Write the top of the stack, which is there, to a local of its type that exists."""
        entry = self.stack[-1]
        local = self.c.pick(self.locals_of(entry.type))
        if self.locals[local].clean:
            self.clean_top()
        self.op(mnemonic, uleb(local))
        self.pop(1)
        if mnemonic == "local.tee":
            self.push(entry.type, self.locals[local].clean)

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

    # --- steps: memory ---

    def small_number(self, limit: int, reuse: bool = False) -> None:
        """Push an i32 that is below `limit` most of the time: a constant, or a masked value.

        With `reuse` that may be what is on top.
        """
        how = self.c.below(100)
        if how < 30:
            self.const(I32, self.c.below(limit))
        elif how < 60 and self.small:
            local = uleb(self.c.pick(self.small))
            self.op("local.get", local)
            self.push(I32)
            if self.c.chance(10):
                self.op("local.tee", local)
            if self.c.chance(40):
                if self.c.chance(50):
                    self.op("local.get", uleb(self.c.pick(self.small)))
                else:
                    self.op("i32.const", sleb(self.c.below(16)))
                self.op(self.c.pick(("i32.add", "i32.or", "i32.xor")))
        elif how < 92:
            self.need((I32,), 1) if reuse else self.value(I32, 1)
            mask = 1
            while 2 * mask + 1 < limit:
                mask = 2 * mask + 1
            self.const(I32, mask)
            self.op("i32.and")
            self.finish((I32, I32), (I32,))
        elif how < 97:
            self.const(I32, self.c.pick((limit - 1, limit, 65528, 65532, 65535)))
        elif how < 99:
            self.get_local(I32)
        else:
            self.const(I32)

    def address(self) -> None:
        self.small_number(512, reuse=True)

    def set_small(self) -> None:
        """Write one of the locals for addresses."""
        if self.small:
            self.need((I32,), 1)
            self.op("i32.const", sleb(self.c.pick((7, 63, 255))))
            self.op("i32.and")
            self.op("local.set", uleb(self.c.pick(self.small)))
            self.pop(1)

    def memarg(self, row: Instruction, memory: int) -> bytes:
        how = self.c.below(100)
        if how < 50:
            offset = 0
        elif how < 92:
            offset = self.c.below(64)
        elif how < 98:
            offset = 65536 - self.c.below(530)
        else:
            offset = self.c.pick((0xFFFFFFFF, 0x80000000, 0xFFFFFE00, 65536))
        align = self.c.below(int(row.immediates[0][4:]) + 1)
        if memory:
            return uleb(align | 64) + uleb(memory) + uleb(offset)
        return uleb(align) + uleb(offset)

    def _memory(self) -> int:
        return self.c.below(len(self.plan.memories)) if self.c.chance(40) else 0

    def load(self) -> None:
        if self.plan.memories:
            self.load_as(self.c.pick(LOADS))

    def load_as(self, row: Instruction) -> None:
        self.address()
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(1)
        self.push(NUMERIC[row.results[0]], True)

    def store(self) -> None:
        if not self.plan.memories:
            return
        row = self.c.pick(STORES)
        type = NUMERIC[row.params[1]]
        if type == I32 and self.small and self.c.chance(8):
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
        self.small_number(32)
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
            self.const(I32, self.c.pick((0, 1, 2, -1, 65536)))
            self.op("memory.grow", memory)
            self.pop(1)
        self.push(I32)

    # --- steps: tables and references ---

    def table_access(self) -> None:
        if not self.plan.tables:
            return
        table = self.c.below(len(self.plan.tables))
        type = self.plan.tables[table].element
        how = self.c.below(4)
        if how == 0:
            self.op("table.size", uleb(table))
            self.push(I32)
        elif how == 1:
            self.value(type)
            self.const(I32, self.c.pick((0, 1, 2, 100)))
            self.op("table.grow", uleb(table))
            self.pop(2)
            self.push(I32)
        elif how == 2:
            self.small_number(self.plan.table_size)
            self.op("table.get", uleb(table))
            self.pop(1)
            self.push(type)
        else:
            self.small_number(self.plan.table_size)
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
        if how == 0:
            self.value(type)
        else:
            self.small_number(4)
        self.small_number(4)
        if how == 0:
            self.op("table.fill", uleb(table))
        elif how == 1 or not segments:
            same = [i for i, other in enumerate(plan.tables) if other.element == type]
            self.op("table.copy", uleb(table), uleb(self.c.pick(same)))
        else:
            self.op("table.init", uleb(self.c.pick(segments)), uleb(table))
        self.pop(3)

    def reference(self) -> None:
        types = [type for type in self.plan.value_types if not is_number(type)] or [FUNCREF]
        type = self.c.pick(types)
        self.need((type,))
        if self.c.chance(15):
            self.op("ref.as_non_null")
            self.finish((type,), (type,))
        elif self.c.chance(60):
            self.op("ref.is_null")
            self.pop(1)
            self.push(I32)

    def br_on_null(self) -> None:
        """`br_on_null` and `br_on_non_null`, forwards."""
        refs = [type for type in self.plan.value_types if not is_number(type)]
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

    # --- steps: calls ---

    def call(self) -> None:
        index = self.c.below(len(self.plan.functions))
        type = self.plan.functions[index]
        self.need(type.params)
        self.op("call", uleb(index))
        self.finish(type.params, type.results)

    def _indirect(self) -> tuple[FuncType, bytes] | None:
        """Arguments and table index of an indirect call; the type mostly fits what the slot began with."""
        tables = [i for i, table in enumerate(self.plan.tables) if table.element != EXTERNREF]
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
            type_index = self.c.below(self.plan.signature_count)
        type = self.plan.types[type_index]
        self.need(type.params)
        if slot is not None:
            self.const(I32, slot)
        else:
            self.small_number(self.plan.table_size)
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
        index = self.c.pick(fitting)
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
            self.const(I32, slot)
            number = self.c.pick(self.plan.indices_of(type))
            self.op("return_call_indirect", uleb(number), uleb(table))
        self.end_reachable()

    # --- steps: control ---

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

    def throw_ref(self) -> None:
        if len(self.stack) > self.base and self.stack[-1].type == EXNREF:
            self.op("throw_ref")
            self.end_reachable()
        elif EXNREF in self.scratch and self.c.chance(50):
            self.op("local.get", uleb(self.scratch[EXNREF]))
            self.op("throw_ref")
            self.end_reachable()

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

    def return_(self) -> None:
        if self.c.chance(50):
            return
        self.need(self.type.results)
        self.op("return")
        self.end_reachable()

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

    def generate(self) -> None:
        """Fill `code`, `end` included."""
        if not self.leaf:
            self.guard()
        for _ in range(4):
            self.sequence()
        self.settle(self.type.results)
        self.op("end")
