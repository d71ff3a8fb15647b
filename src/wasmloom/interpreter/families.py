"""The handler families that follow from the instruction definitions by rule: values, memory, compare-and-branch.

Each family says which handlers exist, where their fields lie and what the handler's body is, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from math import prod
from typing import NamedTuple

from wasmloom.contract.layout import ADDRESS_BITS_64
from wasmloom.contract.traps import MEMORY_OUT_OF_BOUNDS, UNALIGNED_ATOMIC
from wasmloom.interpreter.emitter import POISON_ACC, POISON_FACC, HandlerBuilder
from wasmloom.interpreter.isa import (
    ACC,
    FIELD_KINDS,
    IMM,
    SLOT,
    Field,
    Handler,
    Shape,
    is_wide,
    letters,
    negated,
    operand_kinds,
    shape,
)
from wasmloom.semantics.kinds import Kind, by_name
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS, Operation

#: Names of operands, in order, and the shapes that pack them: those in slots come first, one behind the other.
OPERANDS = "abc"
PACKED = ("value", "vector", "branch")


def _operand(b: HandlerBuilder, kind: int, value: Kind, name: str) -> Value:
    if kind == SLOT:
        return b.read_slot(name, value)
    if kind == ACC:
        return b.read_acc(value)
    return b.immediate(name, value)


def _operands(b: HandlerBuilder, values: tuple[Kind, ...], kinds: tuple[int, ...]) -> list[Value]:
    return [_operand(b, kind, value, name) for kind, value, name in zip(kinds, values, OPERANDS, strict=False)]


def _packed(values: tuple[Kind, ...], kinds: tuple[int, ...], slots: int, narrow: int, wide: int) -> Iterator[Field]:
    """The fields of operands: slots in order from the offset `slots` on, an immediate at `narrow` or at `wide`."""
    for name, value, kind in zip(OPERANDS, values, kinds, strict=False):
        if kind == SLOT:
            yield Field(name, "slot", slots)
            slots += FIELD_KINDS["slot"].width
        elif kind == IMM:
            yield Field(name, "imm64", wide) if is_wide(value) else Field(name, "imm32", narrow)


# --- values: operands in, a result to the accumulator, or to a slot and the accumulator ---


def value_handler(operation: Operation, kinds: tuple[int, ...], result: int) -> Handler:
    """The handler of a numeric instruction for some operand kinds and a result kind."""
    values = operation.params
    operands = _packed(values, kinds, slots=10, narrow=12, wide=16)

    def body(b: HandlerBuilder) -> None:
        b.finish_value(operation.define(b, *_operands(b, values, kinds)), result == SLOT)

    name = f"{operation.mnemonic}.{letters(kinds)}.{letters((result,))}"
    return Handler(name, Shape("value", (Field("dst", "dst", 8), *operands)), body)


# --- vectors: a result that is one always goes to its slots and the accumulator ---


def _lane(b: HandlerBuilder, operation: Operation) -> list[Value]:
    """The operand for the immediate that names lanes, if there is one."""
    if operation.lane_immediate is None:
        return []
    return [b.number("lane")] if operation.lane_immediate == "lane" else [b.vector_field("lanes")]


def _lane_fields(operation: Operation, at: int) -> Iterator[Field]:
    if operation.lane_immediate == "lane":
        yield Field("lane", "u16", at)
    elif operation.lane_immediate == "lanes":
        yield from (Field("lanes", "imm64", 16), Field("lanes_high", "imm64", 24))


def vector_handler(operation: Operation, kinds: tuple[int, ...], result: int) -> Handler:
    """The handler of a computation with vectors for some operand kinds and a result kind."""
    values = operation.params
    fields = (Field("dst", "dst", 8), *_packed(values, kinds, slots=10, narrow=12, wide=16))

    def body(b: HandlerBuilder) -> None:
        operands = [*_operands(b, values, kinds), *_lane(b, operation)]
        b.finish_value(operation.define(b, *operands), result == SLOT)

    name = f"{operation.mnemonic}.{letters(kinds)}.{letters((result,))}"
    return Handler(name, Shape("vector", (*fields, *_lane_fields(operation, 16))), body)


def vector_results(operation: Operation) -> tuple[int, ...]:
    """The kinds of results: numbers can be in the accumulator alone, as those of other instructions."""
    return (SLOT,) if operation.results and operation.results[0].is_vector else (SLOT, ACC)


# --- loads and stores ---


class Reach(IntEnum):
    """What an access knows of its memory, and what keeps it within that.

    Those of memory 0 are followed by guard pages, so they aren't checked but for what these don't cover. The others are
    of the memory that a field names by its slot in the instance, which may have none: they must end within its length.
    """

    #: Memory 0, with addresses of 32 bits: address and offset, of 32 bits each, lead to guard pages at most.
    GUARDED = 0
    #: Addresses and offsets of 32 bits: their sum fits 64.
    CHECKED = 1
    #: Memory 0, with addresses of 64 bits. It has no more than 2**ADDRESS_BITS_64 bytes; an address beyond that is
    #: refused, others and an offset of 32 bits lead to guard pages at most.
    WIDE = 2
    #: Addresses and offsets of 64 bits: their sum may not fit.
    WIDE_CHECKED = 3

    @property
    def suffix(self) -> str:
        """What handlers' names end with."""
        return ("", ".m", ".w", ".wm")[self]

    @property
    def guarded(self) -> bool:
        """Whether the access may meet a guard page."""
        return self in (Reach.GUARDED, Reach.WIDE)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The fields besides operands, with their kinds: the narrower one comes first."""
        return {
            Reach.CHECKED: (("offset", "u32"), ("memory", "u32")),
            Reach.WIDE_CHECKED: (("memory", "u32"), ("offset", "imm64")),
        }.get(self, (("offset", "u32"),))

    def kinds(self, operation: Operation) -> Iterator[tuple[int, ...]]:
        """The kinds of operands of an instruction's handlers: all, but of those that are rare only slots."""
        for kinds in operand_kinds(operation):
            in_slots = all(kind == SLOT for kind in kinds)
            if self == Reach.WIDE and kinds[0] == IMM:
                continue  # a constant of 32 bits, with the offset, is an address as any
            if self == Reach.WIDE_CHECKED or (self == Reach.CHECKED and operation.has_vectors):
                if in_slots:
                    yield kinds
            else:
                yield kinds


def _address(b: HandlerBuilder, kind: int, width: int, reach: Reach) -> Value:
    """The address of `width` bytes of guest memory as a pointer."""
    if reach == Reach.WIDE_CHECKED:
        address = b.read_slot("address", by_name("i64"))
        return _wide_checked_address(b, address, b.binary("add", address, b.number("offset")), width)
    offset = b.number("offset")
    if kind != IMM:
        if reach == Reach.WIDE:
            address = b.read_slot("address", by_name("i64")) if kind == SLOT else b.acc
            beyond = b.binary("lshr", address, b.const("i64", ADDRESS_BITS_64))
            b.trap_if(b.compare("ne", beyond, b.const("i64", 0)), MEMORY_OUT_OF_BOUNDS)
        else:
            address = b.convert("zext", b.read_slot("address", by_name("addr")), "i64") if kind == SLOT else b.acc
        offset = b.binary("add", address, offset)
    return _checked_address(b, offset, width) if reach == Reach.CHECKED else b.at(b.mem, offset)


def _checked_address(b: HandlerBuilder, offset: Value, width: int) -> Value:
    """The address of `width` bytes, as a pointer, in the memory that a field names."""
    memory = b.pointer(b.inst, b.number("memory"))
    end = b.binary("add", offset, b.const("i64", width))
    length = b.struct_field(memory, "WlMemory", "length", "i64")
    b.trap_if(b.compare("ugt", end, length), MEMORY_OUT_OF_BOUNDS)
    return b.at(b.struct_field(memory, "WlMemory", "base"), offset)


def _wide_checked_address(b: HandlerBuilder, address: Value, place: Value, width: int) -> Value:
    """The same where an address and an offset, whose sum is `place`, have 64 bits: that may not fit."""
    memory = b.pointer(b.inst, b.number("memory"))
    length = b.struct_field(memory, "WlMemory", "length", "i64")
    wrapped = b.compare("ult", place, address)
    behind = b.compare("uge", place, b.below(length, b.const("i64", width - 1)))
    b.trap_if(b.either(wrapped, behind), MEMORY_OUT_OF_BOUNDS)
    return b.at(b.struct_field(memory, "WlMemory", "base"), place)


def _reaching(reach: Reach, at: int) -> Iterator[Field]:
    """The fields of `reach.fields`, from an offset on."""
    for name, kind in reach.fields:
        width = FIELD_KINDS[kind].width
        at = -(-at // width) * width
        yield Field(name, kind, at)
        at += width


def load_handler(operation: Operation, kind: int, result: int, reach: Reach) -> Handler:
    """The handler of a load."""
    parts = [Field("dst", "dst", 8), *_reaching(reach, 12)]
    if kind == SLOT:
        parts.insert(1, Field("address", "slot", 10))

    def body(b: HandlerBuilder) -> None:
        b.finish_value(operation.define(b, _address(b, kind, operation.width, reach)), result == SLOT)

    name = f"{operation.mnemonic}.{letters((kind,))}.{letters((result,))}{reach.suffix}"
    return Handler(name, Shape(f"load{_shape_suffix(reach)}", tuple(parts)), body, faults=reach.guarded)


def _shape_suffix(reach: Reach) -> str:
    """What the names of shapes with these fields end with, where others are elsewhere."""
    return "_wm" if reach == Reach.WIDE_CHECKED else ""


def store_handler(operation: Operation, kinds: tuple[int, ...], reach: Reach) -> Handler:
    """The handler of a store."""
    value = operation.params[1]
    address_kind, value_kind = kinds
    first, *rest = _reaching(reach, 12)
    parts = [first]
    if address_kind == SLOT:
        parts.append(Field("address", "slot", 8))
    if value_kind == SLOT:
        parts.append(Field("value", "slot", 10))
    parts += rest
    if value_kind == IMM:
        parts.append(Field("value", "imm64" if is_wide(value) else "imm32", 24 if reach == Reach.CHECKED else 16))

    def body(b: HandlerBuilder) -> None:
        pointer = _address(b, address_kind, operation.width, reach)
        operation.define(b, pointer, _operand(b, value_kind, value, "value"))
        b.next()

    name = f"{operation.mnemonic}.{letters(kinds)}{reach.suffix}"
    shape_name = "store_m" if reach == Reach.CHECKED else f"store{_shape_suffix(reach)}"
    return Handler(name, Shape(shape_name, tuple(parts)), body, faults=reach.guarded)


def lane_handler(operation: Operation, kinds: tuple[int, ...], reach: Reach) -> Handler:
    """The handler of a load to, or a store of, one lane."""
    parts = [Field("dst", "dst", 8)] if operation.results else []
    for name, at, kind in zip(("address", "value"), (10, 12), kinds, strict=True):
        if kind == SLOT:
            parts.append(Field(name, "slot", at))
    parts += [*_lane_fields(operation, 14), *_reaching(reach, 16)]

    def body(b: HandlerBuilder) -> None:
        pointer = _address(b, kinds[0], operation.width, reach)
        value = _operand(b, kinds[1], operation.params[1], "value")
        result = operation.define(b, pointer, value, *_lane(b, operation))
        if result is None:
            b.next()
        else:
            b.finish_value(result)

    name = f"{operation.mnemonic}.{letters(kinds)}{reach.suffix}"
    return Handler(name, Shape(f"lane{_shape_suffix(reach)}", tuple(parts)), body, faults=reach.guarded)


# --- one handler for each instruction: operands are always in slots, results go to a slot and the accumulator ---


def named(b: HandlerBuilder, name: str) -> Value:
    """The item that a field names by its offset in the instance: the address of its struct, or of a global's cell."""
    return b.pointer(b.inst, b.number(name))


#: Immediate → name of the field that names the item of the instance.
_NAMED = {"func": "function", "table": "table", "mem": "memory"}
#: The operands of an instruction on an item of the instance. One with a second operand has no result.
_INSTANCE_OPERANDS = (Field("index", "slot", 10), Field("value", "slot", 8))


def instance_handler(operation: Operation, wide: bool) -> Handler:
    """The handler of an instruction of the kind "instance".

    `wide`: of an item with addresses of 64 bits, or a memory with other pages than the usual ones.
    """
    values = operation.wide_params if wide else operation.params
    slots = _INSTANCE_OPERANDS[: len(values)]
    parts = [Field(_NAMED[operation.instruction.immediates[0]], "u32", 12), *slots]
    if operation.results:
        parts.insert(0, Field("dst", "dst", 8))
    name = _NAMED[operation.instruction.immediates[0]]

    def body(b: HandlerBuilder) -> None:
        place = named(b, name)
        operands = [b.read_slot(slot.name, kind) for slot, kind in zip(slots, values, strict=True)]
        if wide and operation.wide_results != operation.results:
            # A size as a word; those of 32 bits are in slots that way, too.
            how: list[Value | str] = [operation.wide_results[0].type]
            if name == "memory":
                how.append(b.struct_field(place, "WlMemory", "page_bits", "i64"))
            result = operation.define(b, place, *how)
        else:
            result = operation.define(b, place, *operands)
        if operation.results:
            b.finish_value(result)
        else:
            b.next()

    return Handler(operation.mnemonic + (".w" if wide else ""), Shape("instance", tuple(parts)), body)


#: The fields of an instruction that the runtime executes (`wasmloom.contract.layout.RUNTIME_CALLS`).
RUNTIME = shape("runtime", "a:slot@8 b:slot@10 c:slot@12 d:slot@14 imm0:u32@16 imm1:u32@20")


def runtime_body(call: Callable[[HandlerBuilder], None]) -> Callable[[HandlerBuilder], None]:
    """The body of an instruction that the runtime executes: `call` calls it."""

    def body(b: HandlerBuilder) -> None:
        call(b)
        b.next(mem=b.memory0(b.inst), acc=POISON_ACC, facc=POISON_FACC)

    return body


def runtime_handler(operation: Operation, wide: bool) -> Handler:
    """The handler of an instruction of the kind "runtime": the runtime's function reads the operands itself.

    It knows what it finds there, so one does for all.
    """
    body = runtime_body(lambda b: operation.define(b, b.inst, b.fp, b.ip))
    return Handler(operation.mnemonic.replace(".", "_"), RUNTIME, body, calls_runtime=True)


#: The atomic instruction that the runtime has a part in.
NOTIFY = "memory.atomic.notify"
#: Names of the slots with the operands, in order.
ATOMIC_OPERANDS = ("address", "a", "b")


def atomic_handler(operation: Operation, wide: bool) -> Handler:
    """The handler of an atomic instruction.

    Programs have few of them, so memory 0 has no handlers of its own.
    """
    values = operation.wide_params if wide else operation.params
    reach = Reach.WIDE_CHECKED if wide else Reach.CHECKED
    parts = [Field(name, "slot", 10 + 2 * i) for i, name in enumerate(ATOMIC_OPERANDS[: len(values)])]
    if operation.results:
        parts.insert(0, Field("dst", "dst", 8))
    parts += _reaching(reach, 16)

    def body(b: HandlerBuilder) -> None:
        address, *operands = (b.read_slot(name, kind) for name, kind in zip(ATOMIC_OPERANDS, values, strict=False))
        # Its low bits, which say whether it is aligned, are right also if the sum doesn't fit.
        place = b.binary("add", b.wide(address), b.number("offset"))
        if operation.width > 1:
            low = b.binary("and", place, b.const("i64", operation.width - 1))
            b.trap_if(b.compare("ne", low, b.const("i64", 0)), UNALIGNED_ATOMIC)

        def checked() -> Value:
            if wide:
                return _wide_checked_address(b, address, place, operation.width)
            return _checked_address(b, place, operation.width)

        result = operation.define(b, checked, *operands)
        if result is None:
            b.next()
        else:
            b.finish_value(result)

    suffix = ".w" if wide else ""
    shape = Shape(f"atomic{_shape_suffix(reach)}", tuple(parts))
    return Handler(operation.mnemonic + suffix, shape, body, calls_runtime=operation.mnemonic == NOTIFY)


def double_handler(operation: Operation, wide: bool) -> Handler:
    """The handler of an instruction that computes two results, into the slot `dst` and the next one."""
    slots = tuple(Field(name, "slot", 10 + 2 * i) for i, name in enumerate("abcd"[: len(operation.params)]))

    def body(b: HandlerBuilder) -> None:
        operands = [b.read_slot(slot.name, kind) for slot, kind in zip(slots, operation.params, strict=True)]
        b.finish_value(operation.define(b, *operands))

    return Handler(operation.mnemonic, Shape("double", (Field("dst", "dst", 8), *slots)), body)


# --- compare and branch ---


def jump_back(b: HandlerBuilder, target: Value) -> None:
    """Take a loop's back edge: this is where a guest can be interrupted."""
    busy, go_on = b.fresh("interrupted"), b.fresh("again")
    flag = b.struct_field(b.ctx, "WlContext", "interrupt", "i64")
    b.branch(b.compare("ne", flag, b.const("i64", 0)), busy, go_on, unlikely=True)
    b.label(busy)
    b.tail_call("@wl_loop_slow", ip=target)
    b.label(go_on)
    b.jump(target)


def branch_handler(operation: Operation, kinds: tuple[int, ...], negate: bool, back: bool) -> Handler:
    """The handler that compares two operands and branches when the comparison holds (or doesn't, with `negate`)."""
    values = operation.params
    operands = _packed(values, kinds, slots=8, narrow=16, wide=16)

    def body(b: HandlerBuilder) -> None:
        x, y = _operands(b, values, kinds)
        condition = operation.define(b, x, y)
        taken, passed = b.fresh("taken"), b.fresh("passed")
        b.branch(condition, passed, taken) if negate else b.branch(condition, taken, passed)
        b.label(taken)
        if back:
            jump_back(b, b.target())
        else:
            b.jump(b.target())
        b.label(passed)
        b.next()

    name = f"br_if{'_not' if negate else ''}.{operation.mnemonic}.{letters(kinds)}" + (".back" if back else "")
    return Handler(name, Shape("branch", (*operands, Field("target", "target", 12))), body)


# --- which of them exist ---


class Family(NamedTuple):
    """Handlers that are found by their properties: `members` yields each with its place along `axes`.

    The first coordinate is the instruction's row; each axis has a name and a length. The translator finds a handler's
    number in a table, by a function that is generated from the axes.
    """

    axes: tuple[tuple[str, int], ...]
    members: Callable[[], Iterator[tuple[tuple[int, ...], Handler]]]

    def position(self, row: int, *place: int) -> int:
        """The position of a place in the family's table."""
        for coordinate, (_, length) in zip(place, self.axes, strict=True):
            row = row * length + coordinate
        return row

    def position_text(self) -> str:
        """`position` as an expression in C."""
        text = "row"
        for name, length in self.axes:
            text = f"({text} * {length} + {name})"
        return text

    @property
    def places(self) -> int:
        """The number of places in each row."""
        return prod(length for _, length in self.axes)


def value_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All value handlers. Instructions with the same definition on the same types share them."""
    first: dict[object, Operation] = {}
    for operation in OPERATIONS.values():
        if operation.kind != "value" or operation.has_vectors:
            continue
        types = tuple(kind.type for kind in operation.params)
        same = first.setdefault((operation.define, types, tuple(kind.type for kind in operation.results)), operation)
        for kinds in operand_kinds(operation):
            for result in (SLOT, ACC):
                second = kinds[1] if len(kinds) == 2 else 0
                yield (operation.instruction.index, kinds[0], second, result), value_handler(same, kinds, result)


def vector_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All computations with vectors. Instructions with the same definition on the same types share them."""
    first: dict[object, Operation] = {}
    for operation in OPERATIONS.values():
        if operation.kind == "value" and operation.has_vectors:
            same = first.setdefault((operation.define, operation.params, operation.lane_immediate), operation)
            for kinds in operand_kinds(operation):
                for result in vector_results(operation):
                    place = (*kinds, 0, 0)[:3]
                    yield (operation.instruction.index, *place, result), vector_handler(same, kinds, result)


def lane_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All loads and stores of single lanes."""
    for reaches in _REACHES:
        for operation in OPERATIONS.values():
            if operation.kind in ("load", "store") and operation.lane_immediate:
                for kinds in operand_kinds(operation):
                    for reach in reaches:
                        if kinds in reach.kinds(operation):
                            yield (operation.instruction.index, *kinds, reach), lane_handler(operation, kinds, reach)


#: In this order the handlers of common programs lie close together.
_REACHES = ((Reach.GUARDED, Reach.CHECKED), (Reach.WIDE, Reach.WIDE_CHECKED))


def load_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All loads."""
    for reaches in _REACHES:
        for operation in OPERATIONS.values():
            if operation.kind == "load" and not operation.lane_immediate:
                for kinds in operand_kinds(operation):
                    for result in vector_results(operation):
                        for reach in reaches:
                            if kinds in reach.kinds(operation):
                                place = (operation.instruction.index, *kinds, result, reach)
                                yield place, load_handler(operation, kinds[0], result, reach)
                        if kinds == (IMM,) and Reach.WIDE in reaches:
                            place = (operation.instruction.index, IMM, result, Reach.WIDE)
                            yield place, load_handler(operation, IMM, result, Reach.GUARDED)


def store_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All stores."""
    for reaches in _REACHES:
        for operation in OPERATIONS.values():
            if operation.kind == "store" and not operation.lane_immediate:
                for kinds in operand_kinds(operation):
                    for reach in reaches:
                        if kinds in reach.kinds(operation):
                            yield (operation.instruction.index, *kinds, reach), store_handler(operation, kinds, reach)
                    if kinds[0] == IMM and Reach.WIDE in reaches:
                        place = (operation.instruction.index, *kinds, Reach.WIDE)
                        yield place, store_handler(operation, kinds, Reach.GUARDED)


#: By kind of definition, the one handler of an instruction, or the two of one with addresses.
_SINGLE = {
    "atomic": atomic_handler, "instance": instance_handler, "runtime": runtime_handler, "double": double_handler,
}  # fmt: skip


def single_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All instructions that have one handler each, by rule."""
    for wide in (False, True):
        for operation in OPERATIONS.values():
            if operation.kind in _SINGLE and (operation.has_wide or not wide):
                yield (operation.instruction.index, wide), _SINGLE[operation.kind](operation, wide)


def branch_handlers() -> Iterator[tuple[tuple[int, ...], Handler]]:
    """All compare-and-branches.

    `eqz` needs none: it is `eq` with the immediate 0. There are no negated ones for integers, which use the opposite
    comparison, nor for branches back: only an `if`, and a branch that moves values, jump where a comparison fails.
    """
    for operation in OPERATIONS.values():
        if operation.is_compare:
            integer = negated(operation) is not None
            for kinds in operand_kinds(operation):
                for negate in (False,) if integer else (False, True):
                    for back in (False,) if negate else (False, True):
                        place = (operation.instruction.index, *kinds, negate, back)
                        yield place, branch_handler(operation, kinds, negate, back)


#: The families by name: an operand's kind is one of three, a result's one of two (slot and accumulator).
FAMILIES = {
    "value": Family((("a", 3), ("b", 3), ("result", 2)), value_handlers),
    "load": Family((("address", 3), ("result", 2), ("reach", len(Reach))), load_handlers),
    "store": Family((("address", 3), ("value", 3), ("reach", len(Reach))), store_handlers),
    "vector": Family((("a", 2), ("b", 3), ("c", 2), ("result", 2)), vector_handlers),
    "lane": Family((("address", 2), ("value", 2), ("reach", len(Reach))), lane_handlers),
    "single": Family((("wide", 2),), single_handlers),
    "branch": Family((("a", 3), ("b", 3), ("negate", 2), ("back", 2)), branch_handlers),
}
