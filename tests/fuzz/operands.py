"""The ground of random function bodies: the model of the operand stack, and how values of all types come onto it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.choices import Choices
from wasmloom.binary.encoder import heap_type_bytes, sleb, uleb
from wasmloom.spec.instructions import BY_MNEMONIC, INSTRUCTIONS, Instruction
from wasmloom.spec.types import F32, F64, I32, I64, V128, FuncType, ValType

if TYPE_CHECKING:
    from tests.fuzz.generator import Plan

NUMERIC = {"i32": I32, "i64": I64, "f32": F32, "f64": F64}
NUMBERS: tuple[ValType, ...] = (I32, I64, F32, F64)
CANONICAL_NAN = {F32: 0x7FC00000, F64: 0x7FF8000000000000}

#: Instructions that compute numbers from numbers, loads and stores, by the table's own columns.
PLAIN = [
    row
    for row in INSTRUCTIONS
    if len(row.results) == 1 and row.params and not row.immediates
    if all(t in NUMERIC for t in (*row.params, *row.results))
]
#: Those with two results.
DOUBLE = [row for row in INSTRUCTIONS if len(row.results) > 1]
_ACCESSES = [row for row in INSTRUCTIONS if not row.prefix and row.immediates[:1] and row.immediates[0][:4] == "mem:"]
LOADS = [row for row in _ACCESSES if row.results]
STORES = [row for row in _ACCESSES if not row.results]
#: Those that wait trap at once.
ATOMICS = [
    row
    for row in INSTRUCTIONS
    if row.immediates[:1] and row.immediates[0][:7] == "atomic:" and ".wait" not in row.mnemonic
]
#: Types of numbers and vectors, and the instructions with vectors; those first whose results have the same bits
#: everywhere, which no NaN is made in, and which aren't relaxed.
TYPES = NUMERIC | {"v128": V128, "addr": I32}
_ROUNDED = ("add", "sub", "mul", "div", "sqrt", "min", "max", "ceil", "floor", "trunc", "nearest")
VECTORS = [row for row in INSTRUCTIONS if "v128" in (*row.params, *row.results) and row.mnemonic != "v128.const"]
SURE_VECTORS = [
    row
    for row in VECTORS
    if row.feature == "simd"
    and not (row.mnemonic[0] == "f" and row.mnemonic.partition(".")[2] in _ROUNDED)
    and "mote_" not in row.mnemonic
]
COMPARES = [row for row in PLAIN if len(row.params) == 2 and row.results == ("i32",) and row.mnemonic[4:6] in
            ("eq", "ne", "lt", "gt", "le", "ge")]  # fmt: skip
_MAKING = {t: [row for row in PLAIN if NUMERIC[row.results[0]] == t] for t in NUMBERS}
_TRAPPING = tuple(row.mnemonic for row in PLAIN if ".trunc_f" in row.mnemonic)
_DIVIDING = tuple(row.mnemonic for row in PLAIN if row.mnemonic[:1] == "i" and row.mnemonic[4:7] in ("div", "rem"))

INTEGER_CHAIN = ("add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "add", "and")
FLOAT_CHAIN = ("add", "sub", "mul", "div")

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

    The counter goes down to 0, or `up` to 0. `caught`: it is a clause of a `try`.
    """

    types: tuple[ValType, ...]
    base: int
    counter: int | None = None
    up: bool = False
    caught: bool = False


def opcode(row: Instruction) -> bytes:
    """The opcode of an instruction in the binary format."""
    return bytes((row.prefix,)) + uleb(row.opcode) if row.prefix else bytes((row.opcode,))


_OPCODES = {row.mnemonic: opcode(row) for row in reversed(INSTRUCTIONS)}


def is_number(type: ValType) -> bool:
    return type in NUMBERS


class Operands:
    """A function body while it is being made: `code` and `locals`, and which operands are on the stack."""

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
        self.actions: list[Callable[[], None]] = []
        self.labels = [Label(type.results, 0)]
        self.base = 0
        #: Operands below this height are wanted as they are.
        self.floor = 0
        self.budget = choices.pick((3, 8, 15, 30, 60, 120))
        self.leaf = choices.chance(25)
        #: the function's index, which the generator knows; whether the body is to be short
        self.index = 0
        self.short = False
        self._declare_locals()
        #: Locals that only ever hold small numbers, for addresses.
        self.small = [self.new_local(I32) for _ in range(choices.pick((1, 2, 0)))]

    def _declare_locals(self) -> None:
        c = self.c
        count = c.pick((0, 1, 2, 3, 4, 5, 6, 7, 9, 12))
        if c.chance(3):
            count = c.below(300)
        often = 30 if self.plan.objects is None else 80
        kinds: Sequence[ValType] = self.plan.value_types if c.chance(often) else NUMBERS
        for _ in range(count):
            self.locals.append(Entry(c.pick(kinds), c.chance(50)))

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
        elif type == V128:
            lane, bits = c.pick(((I32, 32), (I64, 64), (F32, 32), (F64, 64)))
            number = 0
            for i in range(128 // bits):
                one = c.pick(INTERESTING[lane]) if not c.chance(20) else c.bits(bits)
                number |= (one & (1 << bits) - 1) << bits * i
            self.op("v128.const", number.to_bytes(16, "little"))
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

    # --- addresses and loads ---

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

    @property
    def address_type(self) -> ValType:
        """The type of addresses and indices: all memories and tables of a program have the same."""
        return I64 if self.plan.wide else I32

    def widen(self) -> None:
        """Make an address of the i32 on top."""
        if not self.plan.wide:
            return
        self.clean_top()
        self.op(self.c.pick(("i64.extend_i32_u", "i64.extend_i32_u", "i64.extend_i32_s")))
        self.pop(1)
        self.push(I64, True)
        if self.c.chance(3):
            self.const(I64, self.c.pick((-1, -64, 1 << 32, 1 << 36, (1 << 36) - 1, -1 << 63)))
            self.op("i64.add")
            self.pop(2)
            self.push(I64, True)

    def address(self) -> None:
        self.small_number(512, reuse=True)
        self.widen()

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
            if self.plan.wide and self.c.chance(50):
                offset = self.c.pick((1 << 32, (1 << 36) - 1, 1 << 36, (1 << 64) - 1, (1 << 64) - 64))
        kind, _, natural = row.immediates[0].partition(":")
        align = int(natural)
        if kind == "atomic":
            offset &= -1 << (align if self.c.chance(95) else 0)
        else:
            align = self.c.below(align + 1)
        if memory:
            return uleb(align | 64) + uleb(memory) + uleb(offset)
        return uleb(align) + uleb(offset)

    def _memory(self) -> int:
        return self.c.below(len(self.plan.memories)) if self.c.chance(40) else 0

    def load_as(self, row: Instruction) -> None:
        self.address()
        self.op(row.mnemonic, self.memarg(row, self._memory()))
        self.pop(1)
        self.push(NUMERIC[row.results[0]], True)
