"""Wasm code that becomes a given bytecode instruction, from the instruction's name, and what it must do.

Names are those of `wasmloom.interpreter.families` and `fused`: ``i32.add.si.a``, ``f64.load.s.s.m``,
``br_if_not.f32.lt.sa``, ``i64.add.ss.a+i64.sub.as.s``. An operand "s" is a local, "i" a constant, and "a" the result of
a conversion, which leaves it in the accumulator and is never part of a fused instruction.

Functions take five i64 parameters, `INPUTS`, the bits of what locals and conversions hold, and give an i64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.semantics.modules import block, const, get, narrowed, op, put, widened
from tests.semantics.reference import FUNCTIONS, WIDTH, AnyNan, Result, sign_bit
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC

INPUTS = 5
_MEMORY_SIZE = 65536
#: The local that a result with its own slot goes to comes behind those of the inputs.
_TYPES = ("i32", "i64", "f32", "f64")

Environment = Sequence[int]
Evaluate = Callable[[Environment], Result]


def about_vectors(name: str) -> bool:
    """Whether a bytecode instruction is one of vectors, or a part of it is: there is no code for these here."""
    operations = (OPERATIONS.get(".".join(part.split(".")[:2])) for part in name.split("+"))
    return "vector" in name or any(operation is not None and operation.has_vectors for operation in operations)


class OutOfBounds(Exception):
    """A memory access traps."""


class Memory:
    """Contents of the two memories, as the reference has them."""

    def __init__(self, contents: bytes) -> None:
        self.data = [bytearray(contents), bytearray(contents)]

    def read(self, memory: int, address: int, width: int) -> bytes:
        if address + width > len(self.data[memory]):
            raise OutOfBounds("out of bounds memory access")
        return bytes(self.data[memory][address : address + width])

    def write(self, memory: int, address: int, value: bytes) -> None:
        if address + len(value) > len(self.data[memory]):
            raise OutOfBounds("out of bounds memory access")
        self.data[memory][address : address + len(value)] = value


class Shape(NamedTuple):
    """A function: its code, the offset in it of the instruction that may trap (or None), and what it gives.

    `type` is that of the result, before its bits are made an i64.
    """

    code: bytes
    fault: int | None
    type: str
    run: Callable[[Environment, Memory], Result]


class Part(NamedTuple):
    """One instruction of the name: mnemonic, operand kinds and the rest of the name."""

    mnemonic: str
    kinds: str
    result: str
    other_memory: bool = False
    wide: bool = False
    branch: str | None = None
    back: bool = False


def local_of(type: str, index: int) -> int:
    """The local of a type that holds input `index`. For each type there is one for each input, and two for results."""
    return INPUTS + _TYPES.index(type) * (INPUTS + 2) + index


LOCALS = [type for type in _TYPES for _ in range(INPUTS + 2)]


def prologue() -> bytes:
    """Fills the locals from the parameters."""
    code = b""
    for type in _TYPES:
        for index in range(INPUTS):
            code += get(index) + narrowed(type) + put(local_of(type, index))
    return code


def parse(name: str) -> Part | None:
    """The part that a name without + stands for; None for instructions written one by one, or with one handler each."""
    words = name.split(".")
    branch = words.pop(0) if words[0].startswith("br_if") else None
    back = words[-1] == "back"
    if back:
        words.pop()
    other, wide = words[-1] in ("m", "wm"), words[-1] in ("w", "wm")
    if other or wide:
        words.pop()
    if words[0] == "select" and len(words) == 2:
        return Part("select", words[1], "")
    if words[0] not in _TYPES or len(words) < 3 or words[1] == "atomic":
        return None
    mnemonic = f"{words[0]}.{words[1]}"
    if branch or ".store" in mnemonic:
        return Part(mnemonic, words[2], "", other, wide, branch, back)
    return Part(mnemonic, words[2], words[3], other, wide)


def is_wide(name: str) -> bool:
    """Whether an instruction's memory has addresses of 64 bits."""
    return any(part is not None and part.wide for part in map(parse, name.split("+")))


def access_width(mnemonic: str) -> int:
    """Bytes that a load or store touches."""
    type, _, rest = mnemonic.partition(".")
    return int(rest.removeprefix("load").removeprefix("store").partition("_")[0] or WIDTH[type]) // 8


class Builder:
    """Makes the shape of one name. `constants` and `offset` are the immediates, by input and of the memory access."""

    def __init__(self, constants: Sequence[int], offset: int) -> None:
        self.constants = constants
        self.offset = offset
        self.code = b""
        self.fault: int | None = None
        self.used = 0

    def leaf(self, kind: str, type: str) -> Evaluate:
        """An operand that no other part makes."""
        index = self.used
        self.used += 1
        mask = (1 << WIDTH[type]) - 1
        if kind == "i":
            number = self.constants[index] & mask
            self.code += const(type, number)
            return lambda env: number
        if kind == "a" and type == "f32":
            # The other conversions to f32 would use the integer accumulator on the way.
            self.code += get(local_of(type, index)) + op("f32.neg")
            return lambda env: env[index] & mask ^ sign_bit(type)
        self.code += get(local_of(type, index)) if kind == "s" else get(index) + narrowed(type)
        return lambda env: env[index] & mask

    def types(self, part: Part) -> list[str]:
        if part.mnemonic == "select":
            return ["i32", "i32"]
        address = "i64" if part.wide else "i32"
        return [address if type == "addr" else type for type in BY_MNEMONIC[part.mnemonic].params]

    def expression(self, part: Part, memory: list[Memory], first: Callable[[], Evaluate] | None = None) -> Evaluate:
        """The operands of a part and the part; `first` makes the operand that is in the accumulator."""
        operands = []
        for kind, type in zip(part.kinds, self.types(part), strict=True):
            operands.append(first() if kind == "a" and first is not None else self.leaf(kind, type))
        if ".load" in part.mnemonic or ".store" in part.mnemonic:
            return self.access(part, memory, operands)
        function = FUNCTIONS[part.mnemonic]
        if OPERATIONS[part.mnemonic].traps:
            self.fault = len(self.code)
        self.code += op(part.mnemonic)

        def run(env: Environment) -> Result:
            values = [operand(env) for operand in operands]
            # An operand that is some NaN makes any result of the next instruction a NaN, too, except comparisons.
            nans = [value for value in values if isinstance(value, AnyNan)]
            if nans:
                stand_in = 0x7FC00001 if part.mnemonic[1:3] == "32" else 0x7FF8000000000001
                values = [stand_in if isinstance(value, AnyNan) else value for value in values]
            return function(*values)

        return run

    def access(self, part: Part, memory: list[Memory], operands: list[Evaluate]) -> Evaluate:
        number, width = int(part.other_memory), access_width(part.mnemonic)
        self.fault = len(self.code)
        immediates = (64, number, self.offset) if number else (0, self.offset)
        self.code += op(part.mnemonic, *immediates)

        def run(env: Environment) -> Result:
            address, *values = (operand(env) for operand in operands)
            assert isinstance(address, int)
            if not values:
                data = memory[0].read(number, address + self.offset, width)
                value = int.from_bytes(data, "little", signed=part.mnemonic.endswith("_s"))
                return value & (1 << WIDTH[part.mnemonic[:3]]) - 1
            (value_stored,) = values
            if isinstance(value_stored, AnyNan):
                return value_stored
            data = (value_stored & (1 << 8 * width) - 1).to_bytes(width, "little")
            memory[0].write(number, address + self.offset, data)
            return 0

        return run


def shape(name: str, constants: Sequence[int], offset: int) -> Shape | None:
    """The function for an instruction's name; None when the name isn't one of a family's."""
    parts = [parse(part) for part in name.split("+")]
    if None in parts or len(parts) > 2:
        return None
    first, last = parts[0], parts[-1]
    assert first is not None
    assert last is not None
    builder = Builder(constants, offset)
    memory: list[Memory] = []
    apart = len(parts) == 2 and "a" not in last.kinds and last.mnemonic != "select"
    result_type = "" if first.mnemonic == "select" else (BY_MNEMONIC[first.mnemonic].results or ("",))[0]

    def make_first() -> Evaluate:
        run = builder.expression(first, memory)
        if first.result == "s":
            builder.code += op("local.tee", local_of(result_type, INPUTS))
        return run

    if len(parts) == 1:
        run = finish(builder, first, memory, None)
    elif apart:
        # The second part uses nothing of the first, whose result is a local's.
        before = builder.expression(first, memory)
        builder.code += put(local_of(result_type, INPUTS))
        after = finish(builder, last, memory, None)
        # What uses the result leaves it in the accumulator, should it be there.
        builder.code += op("f64.reinterpret_i64") + op("i64.reinterpret_f64") + put(local_of("i64", INPUTS - 1))
        builder.code += get(local_of(result_type, INPUTS)) + widened(result_type) + get(local_of("i64", INPUTS - 1))
        builder.code += op("i64.add")
        run = lambda env: _sum(before(env), after(env))  # noqa: E731
    else:
        run = finish(builder, last, memory, make_first)
    code = prologue()
    fault = None if builder.fault is None else len(code) + builder.fault

    def execute(env: Environment, contents: Memory) -> Result:
        memory[:] = [contents]
        return run(env)

    type = (BY_MNEMONIC[last.mnemonic].results or ("i64",))[0]
    return Shape(code + builder.code, fault, type, execute)


def _sum(x: Result, y: Result) -> Result:
    assert isinstance(x, int)
    assert isinstance(y, int)
    return (x + y) & 0xFFFFFFFFFFFFFFFF


def finish(builder: Builder, part: Part, memory: list[Memory], first: Callable[[], Evaluate] | None) -> Evaluate:
    """The last part and what makes an i64 of its result."""
    if part.mnemonic == "select":
        # Its kinds are those of the condition and the two values.
        values = [builder.leaf(kind, "i32") for kind in part.kinds[1:]]
        condition = first() if first is not None else builder.leaf(part.kinds[0], "i32")
        builder.code += op("select") + widened("i32")
        return lambda env: values[0](env) if condition(env) else values[1](env)
    if part.branch is not None:
        return branch(builder, part, memory, first)
    run = builder.expression(part, memory, first)
    if ".store" in part.mnemonic:
        builder.code += const("i64", 0)
        return run
    type = BY_MNEMONIC[part.mnemonic].results[0]
    if part.result == "s":
        builder.code += put(local_of(type, INPUTS + 1)) + get(local_of(type, INPUTS + 1))
    builder.code += widened(type)
    return run


def branch(builder: Builder, part: Part, memory: list[Memory], first: Callable[[], Evaluate] | None) -> Evaluate:
    """A conditional branch: the function gives 1 where it is taken, else 0. Back it goes once at most."""
    if part.branch == "br_if_not":
        condition = builder.expression(part, memory, first)
        builder.code += block("if") + const("i64", 0) + op("return") + op("end") + const("i64", 1)
        return lambda env: int(not condition(env))
    builder.code += block("block")
    if part.back:
        # The second round leaves. What counts the rounds is the last input's local, which no part uses.
        again = local_of("i64", INPUTS - 1)
        builder.code += const("i64", 0) + put(again)
        builder.code += block("loop") + get(again) + op("i64.popcnt") + op("i32.wrap_i64") + op("br_if", 1)
        builder.code += const("i64", 1) + put(again) + op("nop")
    condition = builder.expression(part, memory, first)
    builder.code += op("br_if", 0)
    if part.back:
        builder.code += op("end")
    builder.code += const("i64", 0) + op("return") + op("end") + const("i64", 1)
    return lambda env: int(bool(condition(env)))
