"""The handler families that follow from the instruction definitions by rule: values, memory, compare-and-branch.

Each family says which handlers exist, where their fields lie and what the handler's body is, once.
"""

from __future__ import annotations

from collections.abc import Iterator

from wasmloom.interpreter.emitter import HandlerBuilder
from wasmloom.interpreter.isa import ACC, IMM, NEGATED, SLOT, Field, Handler, is_wide, letters, operand_kinds
from wasmloom.runtime.traps import MEMORY_OUT_OF_BOUNDS, UNALIGNED_ATOMIC
from wasmloom.semantics.llvm import Value
from wasmloom.semantics.registry import OPERATIONS, Operation


def _operand(b: HandlerBuilder, kind: int, type: str, offset: int) -> Value:
    if kind == SLOT:
        return b.read_slot(offset, type)
    if kind == ACC:
        return b.read_acc(type)
    return b.immediate(offset, type)


# --- values: operands in, a result to the accumulator, or to a slot and the accumulator ---


def _value_layout(types: tuple[str, ...], kinds: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Field, ...], int]:
    """Offsets of the operands, the fields, the size. Slots follow the destination; an immediate is at 12 (or 16)."""
    fields = [Field("dst", "dst", 8)]
    offsets, slots, size = [], 0, 16
    for position, (type, kind) in enumerate(zip(types, kinds, strict=True)):
        name = "ab"[position]
        if kind == SLOT:
            offsets.append(10 + 2 * slots)
            fields.append(Field(name, "slot", offsets[-1]))
            slots += 1
        elif kind == IMM:
            wide = is_wide(type)
            offsets.append(16 if wide else 12)
            fields.append(Field(name, "imm64" if wide else "imm32", offsets[-1]))
            size = 24 if wide else 16
        else:
            offsets.append(0)
    return tuple(offsets), tuple(fields), size


def value_handler(operation: Operation, kinds: tuple[int, ...], result: int) -> Handler:
    """The handler of a numeric instruction for some operand kinds and a result kind."""
    types = operation.instruction.params
    offsets, fields, size = _value_layout(types, kinds)

    def body(b: HandlerBuilder) -> None:
        operands = [_operand(b, kind, type, at) for kind, type, at in zip(kinds, types, offsets, strict=True)]
        b.finish_value(operation.define(b, *operands), size, 8 if result == SLOT else None)

    return Handler(f"{operation.mnemonic}.{letters(kinds)}.{letters((result,))}", fields, size, body)


# --- loads and stores ---


def _address(b: HandlerBuilder, kind: int, at: int, width: int, other: int | None) -> Value:
    """The address of `width` bytes of guest memory as a pointer.

    Of memory 0 nothing is checked: it is followed by guard pages. `other`: the field with the memory, which may have
    none, so that the access must end within its length. Address and offset have 32 bits each: the sum fits.
    """
    offset = b.number(12, "i32")
    if kind != IMM:
        address = b.convert("zext", b.read_slot(at, "i32"), "i64") if kind == SLOT else b.acc
        offset = b.binary("add", address, offset)
    return b.at(b.mem, offset) if other is None else _checked_address(b, offset, width, other)


def _checked_address(b: HandlerBuilder, offset: Value, width: int, memory_at: int) -> Value:
    """The address of `width` bytes, as a pointer, in the memory that the field at `memory_at` names."""
    memory = b.pointer(b.inst, b.number(memory_at, "i32"))
    end = b.binary("add", offset, b.const("i64", width))
    length = b.struct_field(memory, "WlMemory", "length", "i64")
    b.trap_if(b.compare("ugt", end, length), MEMORY_OUT_OF_BOUNDS)
    return b.at(b.struct_field(memory, "WlMemory", "base"), offset)


def load_handler(operation: Operation, kind: int, result: int, other: bool) -> Handler:
    """The handler of a load.

    `other`: from the memory whose slot in the instance is at offset 16, with a check, not from memory 0.
    """
    fields = [Field("dst", "dst", 8), Field("offset", "u32", 12)]
    if kind == SLOT:
        fields.insert(1, Field("address", "slot", 10))
    if other:
        fields.append(Field("memory", "u32", 16))
    size = 24 if other else 16

    def body(b: HandlerBuilder) -> None:
        value = operation.define(b, _address(b, kind, 10, operation.width, 16 if other else None))
        b.finish_value(value, size, 8 if result == SLOT else None)

    name = f"{operation.mnemonic}.{letters((kind,))}.{letters((result,))}" + (".m" if other else "")
    return Handler(name, tuple(fields), size, body, faults=not other)


def store_handler(operation: Operation, kinds: tuple[int, ...], other: bool) -> Handler:
    """The handler of a store."""
    type = operation.instruction.params[1]
    address_kind, value_kind = kinds
    fields = [Field("offset", "u32", 12)]
    size = 16
    if address_kind == SLOT:
        fields.append(Field("address", "slot", 8))
    if value_kind == SLOT:
        fields.append(Field("value", "slot", 10))
    if other:
        fields.append(Field("memory", "u32", size))
        size += 8
    value_at = 10
    if value_kind == IMM:
        value_at = size
        fields.append(Field("value", "imm64" if is_wide(type) else "imm32", value_at))
        size += 8

    def body(b: HandlerBuilder) -> None:
        pointer = _address(b, address_kind, 8, operation.width, 16 if other else None)
        operation.define(b, pointer, _operand(b, value_kind, type, value_at))
        b.next(size)

    name = f"{operation.mnemonic}.{letters(kinds)}" + (".m" if other else "")
    return Handler(name, tuple(fields), size, body, faults=not other)


# --- atomic instructions ---

#: Size of the instructions, and where their slots begin.
ATOMIC_SIZE, ATOMIC_SLOTS = 24, 10


def atomic_handler(operation: Operation) -> Handler:
    """The handler of an atomic instruction.

    There is one of each: programs have few of them, so that operands are always in slots (the result goes to a slot and
    the accumulator), and memory 0 isn't told from others.
    """
    types = ("i32", *operation.instruction.params[1:])
    offsets = range(ATOMIC_SLOTS, ATOMIC_SLOTS + 2 * len(types), 2)
    fields = [Field(name, "slot", at) for name, at in zip(("address", "a", "b"), offsets, strict=False)]
    if operation.instruction.results:
        fields.insert(0, Field("dst", "dst", 8))
    fields += [Field("offset", "u32", 16), Field("memory", "u32", 20)]

    def body(b: HandlerBuilder) -> None:
        address, *operands = (b.read_slot(at, type) for at, type in zip(offsets, types, strict=True))
        place = b.binary("add", b.convert("zext", address, "i64"), b.number(16, "i32"))
        if operation.width > 1:
            low = b.binary("and", place, b.const("i64", operation.width - 1))
            b.trap_if(b.compare("ne", low, b.const("i64", 0)), UNALIGNED_ATOMIC)
        result = operation.define(b, lambda: _checked_address(b, place, operation.width, 20), *operands)
        if result is None:
            b.next(ATOMIC_SIZE)
        else:
            b.finish_value(result, ATOMIC_SIZE, 8)

    return Handler(operation.mnemonic, tuple(fields), ATOMIC_SIZE, body)


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
    types = operation.instruction.params
    fields, offsets, slots, size = [], [], 0, 16
    for position, (type, kind) in enumerate(zip(types, kinds, strict=True)):
        if kind == SLOT:
            offsets.append(8 + 2 * slots)
            fields.append(Field("ab"[position], "slot", offsets[-1]))
            slots += 1
        elif kind == IMM:
            offsets.append(16)
            fields.append(Field("ab"[position], "imm64" if is_wide(type) else "imm32", 16))
            size = 24
        else:
            offsets.append(0)
    fields.append(Field("target", "target", 12))

    def body(b: HandlerBuilder) -> None:
        x, y = (_operand(b, kind, type, at) for kind, type, at in zip(kinds, types, offsets, strict=True))
        condition = operation.define(b, x, y)
        taken, passed = b.fresh("taken"), b.fresh("passed")
        b.branch(condition, passed, taken) if negate else b.branch(condition, taken, passed)
        b.label(taken)
        target = b.at(b.ip, b.number(12, "i32", signed=True))
        if back:
            jump_back(b, target)
        else:
            b.jump(target)
        b.label(passed)
        b.next(size)

    name = f"br_if{'_not' if negate else ''}.{operation.mnemonic}.{letters(kinds)}" + (".back" if back else "")
    return Handler(name, tuple(fields), size, body)


# --- which of them exist; the position in each table is computed by the translator in the same way ---


def value_handlers() -> Iterator[tuple[int, Handler]]:
    """All value handlers with their position: ((op · 3 + kind a) · 3 + kind b) · 2 + result kind."""
    for operation in OPERATIONS.values():
        if operation.kind != "value":
            continue
        for kinds in operand_kinds(operation):
            for result in (SLOT, ACC):
                second = kinds[1] if len(kinds) == 2 else 0
                position = ((operation.instruction.index * 3 + kinds[0]) * 3 + second) * 2 + result
                yield position, value_handler(operation, kinds, result)


def load_handlers() -> Iterator[tuple[int, Handler]]:
    """All loads: ((op · 3 + address kind) · 2 + result kind) · 2 + other memory."""
    for operation in OPERATIONS.values():
        if operation.kind == "load":
            for (kind,) in operand_kinds(operation):
                for result in (SLOT, ACC):
                    for other in (False, True):
                        position = ((operation.instruction.index * 3 + kind) * 2 + result) * 2 + other
                        yield position, load_handler(operation, kind, result, other)


def store_handlers() -> Iterator[tuple[int, Handler]]:
    """All stores: ((op · 3 + address kind) · 3 + value kind) · 2 + other memory."""
    for operation in OPERATIONS.values():
        if operation.kind == "store":
            for kinds in operand_kinds(operation):
                for other in (False, True):
                    position = ((operation.instruction.index * 3 + kinds[0]) * 3 + kinds[1]) * 2 + other
                    yield position, store_handler(operation, kinds, other)


def atomic_handlers() -> Iterator[tuple[int, Handler]]:
    """All atomic instructions, by op."""
    for operation in OPERATIONS.values():
        if operation.kind == "atomic":
            yield operation.instruction.index, atomic_handler(operation)


def branch_handlers() -> Iterator[tuple[int, Handler]]:
    """All compare-and-branches: (((op · 3 + kind a) · 3 + kind b) · 2 + negate) · 2 + back.

    `eqz` is not among them: it is `eq` with the immediate 0. Integers aren't negated: the opposite comparison serves.
    Branches back aren't either: only an `if`, and a branch that has values to move, jump where a comparison fails.
    """
    for operation in OPERATIONS.values():
        if operation.is_compare and len(operation.instruction.params) == 2:
            integer = operation.mnemonic.partition(".")[2] in NEGATED and operation.mnemonic[0] == "i"
            for kinds in operand_kinds(operation):
                for negate in (False,) if integer else (False, True):
                    for back in (False,) if negate else (False, True):
                        place = (operation.instruction.index * 3 + kinds[0]) * 3 + kinds[1]
                        yield (place * 2 + negate) * 2 + back, branch_handler(operation, kinds, negate, back)
