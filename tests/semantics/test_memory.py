"""Loads and stores: every width, every kind of address and value, memory 0 and another one, of both kinds."""

from __future__ import annotations

from itertools import product

import pytest

import wasmloom as wl
from tests.conftest import MEMORY_KINDS
from tests.semantics.modules import Functions, const, get, narrowed, op, put, widened
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import WIDTH
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC
from wasmloom.spec.types import Limits, MemoryType

#: Those of vectors are in `test_vectors`.
NUMBERS = {name: operation.kind for name, operation in OPERATIONS.items() if not operation.has_vectors}
LOADS = [name for name, kind in NUMBERS.items() if kind == "load"]
STORES = [name for name, kind in NUMBERS.items() if kind == "store"]
LOCAL, NESTED, CONST = "local", "nested", "const"
SIZE = 65536
#: (address, offset): the sum is what counts; it may not wrap around.
PLACES = ((0, 0), (5, 0), (0, 9), (100, 27), (65528, 0), (65528, 1), (65533, 2), (65536, 0), (0, 65536), (0, 65535),
          (1, 0xFFFFFFFF), (0xFFFFFFFF, 1), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000000, 0x80000000), (0xFFFFFFF8, 0),
          (0, 0xFFFFFFF8))  # fmt: skip
CONTENTS = bytes((i * 89 + (i >> 8) * 31 + 7) & 0xFF for i in range(SIZE))


def access(name: str, offset: int, memory: int) -> bytes:
    """A load or store with its immediates; nothing is said of the alignment."""
    return op(name, 64, memory, offset) if memory else op(name, 0, offset)


def width_of(name: str) -> int:
    """Bytes that a load or store touches."""
    type, _, rest = name.partition(".")
    digits = rest.removeprefix("load").removeprefix("store").partition("_")[0]
    return int(digits or WIDTH[type]) // 8


def expected_load(name: str, address: int) -> int | str:
    type, width = name[:3], width_of(name)
    if address + width > SIZE:
        return "out of bounds memory access"
    return extended(name, type, CONTENTS[address : address + width])


def extended(name: str, type: str, data: bytes) -> int:
    return int.from_bytes(data, "little", signed=name.endswith("_s")) & (1 << WIDTH[type]) - 1


def operand(form: str, type: str, param: int, local: int, number: int) -> bytes:
    if form == LOCAL:
        return get(local)
    return get(param) + narrowed(type) if form == NESTED else const(type, number)


@pytest.mark.parametrize("kind", MEMORY_KINDS)
@pytest.mark.parametrize("name", LOADS)
def test_load(name: str, kind: str) -> None:
    engine = wl.Engine(memory=kind)
    type = BY_MNEMONIC[name].results[0]
    functions = Functions(["i64"], "i64", memories=2)
    runs = []
    for form, to_local, memory, (address, offset) in product((LOCAL, NESTED, CONST), (False, True), (0, 1), PLACES):
        code = get(0) + op("i32.wrap_i64") + put(1) + operand(form, "i32", 0, 1, address)
        code += access(name, offset, memory) + (put(2) + get(2) if to_local else b"") + widened(type)
        where = f"{form}{' to a local' if to_local else ''}, memory {memory}, {address:#x} + {offset:#x}"
        runs.append((where, functions.add(["i32", type], code), address, offset))
    instance = functions.instance(engine)
    for memory in (0, 1):
        instance.exports[f"memory{memory}"].write(0, CONTENTS)
    wrong = []
    for where, index, address, offset in runs:
        try:
            got = instance.exports[str(index)](address) & 0xFFFFFFFFFFFFFFFF
        except wl.Trap as trap:
            got = trap.code
        wanted = expected_load(name, address + offset)
        if got != wanted:
            wrong.append(f"{where}: expected {wanted}, got {got}")
    assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("kind", MEMORY_KINDS)
@pytest.mark.parametrize("name", STORES)
def test_store(name: str, kind: str) -> None:
    engine = wl.Engine(memory=kind)
    type, width = BY_MNEMONIC[name].params[1], width_of(name)
    functions = Functions(["i64", "i64"], "i32", memories=2)
    runs: list[tuple[str, int, int, int, int, int]] = []
    forms = (LOCAL, NESTED, CONST)
    values = OPERANDS[type][3::7]
    for address_form, value_form, memory, (address, offset) in product(forms, forms, (0, 1), PLACES):
        value = values[len(runs) % len(values)]
        code = get(0) + op("i32.wrap_i64") + put(2) + get(1) + narrowed(type) + put(3)
        code += operand(address_form, "i32", 0, 2, address) + operand(value_form, type, 1, 3, value)
        code += access(name, offset, memory) + const("i32", 1)
        where = f"{address_form}/{value_form}, memory {memory}, {address:#x} + {offset:#x}"
        runs.append((where, functions.add(["i32", type], code), address, offset, value, memory))
    instance = functions.instance(engine)
    memories = [instance.exports[f"memory{memory}"] for memory in (0, 1)]
    for memory in memories:
        memory.write(0, CONTENTS)
    wrong = []
    for where, index, address, offset, value, number in runs:
        place = address + offset
        wanted = bytearray(CONTENTS)
        try:
            instance.exports[str(index)](address, value)
            wanted[place : place + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        except wl.Trap as trap:
            if trap.code != "out of bounds memory access" or place + width <= SIZE:
                wrong.append(f"{where}: {trap.code}")
        if memories[number].read(0, SIZE) != wanted or memories[1 - number].read(0, SIZE) != CONTENTS:
            wrong.append(f"{where}: wrong contents")
        memories[number].write(0, CONTENTS)
    assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("kind", MEMORY_KINDS)
def test_a_memory_without_pages(kind: str) -> None:
    """Every access traps, until the memory grows."""
    functions = Functions(["i64", "i64"], "i64", memories=2, pages=0)
    functions.syntax.memories = [MemoryType(Limits(0, 1))] * 2
    addresses = (0, 1, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF)
    accesses = []
    for name, memory, offset in product(LOADS + STORES, (0, 1), (0, 1, 0xFFFFFFFF)):
        code = get(0) + op("i32.wrap_i64")
        if name in LOADS:
            code += access(name, offset, memory) + widened(BY_MNEMONIC[name].results[0])
        else:
            code += get(1) + narrowed(BY_MNEMONIC[name].params[1]) + access(name, offset, memory) + get(1)
        accesses.append((name, offset, functions.add([], code)))
    sizes = functions.add([], op("memory.size", 0) + op("memory.size", 1) + op("i32.add") + widened("i32"))
    grow = functions.add(
        [], b"".join(const("i32", 1) + op("memory.grow", i) for i in (0, 1)) + op("i32.add") + widened("i32")
    )
    instance = functions.instance(wl.Engine(memory=kind))
    call = [instance.exports[str(number)] for number in range(grow + 1)]
    assert (len(instance.exports.memory0), bytes(instance.exports.memory1)) == (0, b"")
    for name, offset, number in accesses:
        for address in addresses:
            with pytest.raises(wl.Trap, match="out of bounds memory access"):
                call[number](address, 7)
                pytest.fail(f"{name} at {address:#x} + {offset:#x}: no trap")
    assert (call[sizes](0, 0), call[grow](0, 0), call[sizes](0, 0)) == (0, 0, 2)
    for _, offset, number in accesses:
        if offset < SIZE:
            call[number](0, 7)
    assert call[grow](0, 0) == 0xFFFFFFFE  # twice -1
