"""Every vector instruction on edge cases, lane by lane, with every kind of operand and result, in every tier."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.tiers import engine_of, exports_of, outcome_of
from tests.conftest import MEMORY_KINDS
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import is_nan
from tests.semantics.vector_reference import VECTOR_FUNCTIONS, WIDTHS, Vector, agrees, joined, lanes
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS, Operation

pytestmark = pytest.mark.usefixtures("code_at_once")

ALL = [operation for operation in OPERATIONS.values() if operation.has_vectors]
VALUES = [operation for operation in ALL if operation.kind == "value"]
ACCESSES = [operation for operation in ALL if operation.kind in ("load", "store")]
TIERS = ("interpreter", "baseline", "compiler")

#: How an operand is given: from a local, as what another instruction has just made, as a constant.
LOCAL, MADE, CONST = "local", "made", "const"
_MADE = {
    "v128": "(v128.not (v128.not {}))",
    "i32": "(i32.add {} (i32.wrap_i64 (i64.const 0)))",
    "i64": "(i64.reinterpret_f64 (f64.reinterpret_i64 {}))",
    "f32": "(f32.reinterpret_i32 (i32.reinterpret_f32 {}))",
    "f64": "(f64.reinterpret_i64 (i64.reinterpret_f64 {}))",
}
#: Edges of narrow lanes; those of others are `OPERANDS`.
_NARROW = {
    "i8": (0, 1, 2, 15, 16, 17, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF),
    "i16": (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x4000, 0x7FFF, 0x8000, 0x8001, 0xC000, 0xFFFF),
}


def test_every_instruction_has_a_reference() -> None:
    assert {operation.mnemonic for operation in VALUES} == set(VECTOR_FUNCTIONS)
    assert len(ALL) == 255  # and `v128.const`, which has no definition


def vector(rng: random.Random) -> int:
    """A vector with lanes of some type that are worth trying."""
    type = rng.choice((*WIDTHS, None))
    if type is None:
        return rng.getrandbits(128)
    pool = _NARROW.get(type) or OPERANDS[type]
    return joined(type, [rng.choice(pool) for _ in range(128 // WIDTHS[type])])


def operand(rng: random.Random, type: str) -> int:
    return vector(rng) if type == "v128" else rng.choice(OPERANDS[type])


def constant(type: str, bits: int) -> str:
    if type == "v128":
        return f"(v128.const i64x2 {' '.join(map(str, lanes('i64', bits)))})"
    if type[0] == "f":
        return f"({type}.reinterpret_i{type[1:]} (i{type[1:]}.const {bits}))"
    return f"({type}.const {bits})"


def to_python(type: str, bits: int) -> Any:
    if type == "v128":
        return bits.to_bytes(16, "little")
    return bits


def immediates(operation: Operation, rng: random.Random) -> list[Any]:
    """The lanes that an instruction names, as the reference takes them."""
    if operation.lane_immediate == "lanes":
        return [[rng.randrange(32) for _ in range(16)]]
    if operation.lane_immediate == "lane":
        (kind,) = (kind for kind in operation.instruction.immediates if kind.startswith("lane:"))
        return [rng.randrange(int(kind[5:]))]
    return []


def shown(given: list[Any]) -> str:
    return " ".join(" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in given)


class Run:
    """A function with an instruction, what it is called with, and what it must give."""

    def __init__(self, operation: Operation, kinds: tuple[str, ...], to_local: bool, rng: random.Random) -> None:
        types = [kind.name for kind in operation.params]
        self.name = f"{operation.mnemonic} {'/'.join(kinds)}{' to a local' if to_local else ''}"
        extra = immediates(operation, rng)
        fixed = [operand(rng, type) for type in types]
        given = []
        for position, (type, kind) in enumerate(zip(types, kinds, strict=True)):
            # Floats come as integers: as floats, Python would quieten some NaNs.
            local = f"(local.get {position})"
            if type[0] == "f":
                local = f"({type}.reinterpret_i{type[1:]} {local})"
            text = constant(type, fixed[position]) if kind == CONST else local
            given.append(_MADE[type].format(text) if kind == MADE else text)
        result = operation.results[0].name
        code = f"({operation.mnemonic} {shown(extra)} {' '.join(given)})"
        if to_local:
            code = f"(local.set $r {code}) (local.get $r)"
        params = " ".join(type if type[0] != "f" else f"i{type[1:]}" for type in types)
        local = f"(local $r {result})"
        if result[0] == "f":
            code = (
                f"(i{result[1:]}.reinterpret_{result} {code})"
                if not to_local
                else (
                    f"(local.set $r {code.split('(local.set $r ')[1].rsplit(') (local.get $r)')[0]})"
                    f" (i{result[1:]}.reinterpret_{result} (local.get $r))"
                )
            )
            result = f"i{result[1:]}"
        self.text = f'(func (export "{self.name}") (param {params}) (result {result}) {local} {code})'
        self.bits = 128 if result == "v128" else int(result[1:])
        self.arguments = []
        self.wanted: list[Vector | int] = []
        self.types = types
        for _ in range(6):
            values = [
                fixed[i] if kind == CONST else operand(rng, type)
                for i, (type, kind) in enumerate(zip(types, kinds, strict=True))
            ]
            self.arguments.append(values)
            self.wanted.append(VECTOR_FUNCTIONS[operation.mnemonic](*values, *extra))

    def wrong(self, exports: Any) -> Iterator[str]:
        for values, wanted in zip(self.arguments, self.wanted, strict=True):
            got = exports[self.name](*map(to_python, self.types, values))
            bits = int.from_bytes(got, "little") if self.bits == 128 else got & (1 << self.bits) - 1
            if not agrees(wanted, bits):
                yield f"{self.name} {', '.join(map(hex, values))}: expected {wanted}, got {bits:#x}"


def runs(operation: Operation, rng: random.Random) -> Iterator[Run]:
    for kinds in product((LOCAL, MADE, CONST), repeat=len(operation.params)):
        for to_local in (False, True):
            yield Run(operation, kinds, to_local, rng)


#: Instructions are tested in so many groups.
GROUPS = 16


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("group", range(GROUPS))
def test_values(group: int, tier: str) -> None:
    rng = random.Random(group)
    some = [run for operation in VALUES[group::GROUPS] for run in runs(operation, rng)]
    if tier == "compiler":  # where operands are makes no difference there
        some = [run for run in some if rng.random() < 0.15]
    exports = exports_of(f"(module {' '.join(run.text for run in some)})", engine_of(tier))
    wrong = [text for run in some for text in run.wrong(exports)]
    assert not wrong, f"{len(wrong)} wrong, such as\n" + "\n".join(wrong[:10])


# --- the bits of NaNs are the same everywhere ---


@pytest.mark.parametrize("shape", ["f32x4", "f64x2"])
def test_nans_have_the_same_bits_in_all_tiers(shape: str) -> None:
    rng = random.Random(shape)
    type = shape[:3]
    floats = [
        operation
        for operation in VALUES
        if operation.mnemonic.startswith(shape)
        and all(kind.is_vector for kind in (*operation.params, *operation.results))
    ]
    pool = [*(bits for bits in OPERANDS[type] if is_nan(type, bits)), *OPERANDS[type]]
    text, calls = [], []
    for number, operation in enumerate(floats):
        operands = [
            [joined(type, rng.choices(pool, k=128 // WIDTHS[type])) for _ in operation.params] for _ in range(20)
        ]
        params = " ".join("v128" for _ in operation.params)
        given = " ".join(f"(local.get {i})" for i in range(len(operation.params)))
        fixed = " ".join(constant("v128", bits) for bits in operands[0])
        text.append(f'(func (export "v{number}") (param {params}) (result v128) ({operation.mnemonic} {given}))')
        text.append(f'(func (export "c{number}") (result v128) ({operation.mnemonic} {fixed}))')
        calls += [(f"v{number}", [bits.to_bytes(16, "little") for bits in each]) for each in operands]
        calls.append((f"c{number}", []))
    found = []
    for tier in TIERS:
        exports = exports_of(f"(module {' '.join(text)})", engine_of(tier))
        found.append([exports[name](*arguments).hex() for name, arguments in calls])
    assert found[0] == found[1] == found[2]


# --- memory ---


def accessed(operation: Operation, memory: bytes, value: int, lane: int) -> tuple[bytes, int]:
    """What an access does to the bytes that it accesses, and the vector that it gives (or takes)."""
    name, width = operation.mnemonic.partition(".")[2], operation.width
    number = int.from_bytes(memory, "little")
    bits = 8 * width
    if operation.kind == "store":
        part = value if width == 16 else value >> bits * lane & (1 << bits) - 1
        return part.to_bytes(width, "little"), value
    if operation.lane_immediate:
        return memory, value & ~((1 << bits) - 1 << bits * lane) | number << bits * lane
    if name.endswith("_splat"):
        return memory, joined(f"i{bits}", [number] * (128 // bits))
    if "x" in name:
        narrow, sign = int(name[4:].partition("x")[0]), name[-1]
        parts = [number >> narrow * i & (1 << narrow) - 1 for i in range(64 // narrow)]
        if sign == "s":
            parts = [part - (part >> narrow - 1 << narrow) for part in parts]
        return memory, joined(f"i{2 * narrow}", parts)
    return memory, number


#: The address, as it is given, and the constant offset.
ADDRESSES = [
    ("(local.get 0)", 0),
    ("(i32.add (local.get 0) (i32.const 0))", 3),
    ("(i32.const 24)", 5),
    ("(i32.const -8)", 16),
]


@pytest.mark.parametrize("memory", MEMORY_KINDS)
@pytest.mark.parametrize("tier", ["interpreter", "baseline", "compiler"])
def test_accesses(tier: str, memory: str) -> None:
    rng = random.Random(5)
    contents = rng.randbytes(65536)
    text = ['(memory (export "m0") 1)', '(memory (export "m1") 1)']
    cases = []
    for operation in ACCESSES:
        stores = operation.kind == "store"
        for (address, offset), number in product(ADDRESSES, (0, 1)):
            lane = immediates(operation, rng)
            takes = len(operation.params) > 1
            value = rng.choice(("(local.get 1)", _MADE["v128"].format("(local.get 1)"))) if takes else ""
            name = f"{len(cases)}"
            code = f"({operation.mnemonic} {number} offset={offset} {shown(lane)} {address} {value})"
            text.append(
                f'(func (export "{name}") (param i32 v128) (result v128) {code} {"(local.get 1)" if stores else ""})'
            )
            fixed = int(address.split()[1][:-1]) if address.startswith("(i32.const") else None
            cases.append((operation, name, fixed, offset, number, lane[0] if lane else 0))
    exports = exports_of(f"(module {' '.join(text)})", engine_of(tier, memory=memory))
    memories = [exports.m0, exports.m1]
    for operation, name, fixed, offset, number, lane in cases:
        for base in (0, 1, 4093, 65536 - offset - operation.width, 65537 - offset - operation.width, 0xFFFFFFF0):
            at = (fixed & 0xFFFFFFFF if fixed is not None else base) + offset
            memories[number].write(0, contents)
            value = vector(rng)
            outcome = outcome_of(exports[name], base, value.to_bytes(16, "little"))
            if at + operation.width > 65536:
                assert outcome[:2] == ("trap", "out of bounds memory access"), (operation.mnemonic, at)
                assert bytes(memories[number].read(0, 65536)) == contents
                continue
            after, wanted = accessed(operation, contents[at : at + operation.width], value, lane)
            assert outcome == ("result", wanted.to_bytes(16, "little")), (operation.mnemonic, at)
            assert memories[number].read(at, operation.width) == after


def test_traps_are_at_the_same_place_in_all_tiers() -> None:
    """On guard pages, with checks, and of another memory: where the access stands, which is behind another one."""
    rng = random.Random(9)
    text = ["(memory 1)", "(memory 1)"]
    for number, operation in enumerate(ACCESSES):
        value = "(local.get 1)" if len(operation.params) > 1 else ""
        drop = "(drop)" if operation.results else ""
        for memory in (0, 1):
            code = f"({operation.mnemonic} {memory} {shown(immediates(operation, rng))} (local.get 0) {value}) {drop}"
            before = "(v128.store (i32.const 8) (v128.load (i32.const 0)))"
            text.append(f'(func (export "{2 * number + memory}") (param i32 v128) {before} {code})')
    count = 2 * len(ACCESSES)
    for number, (shape, memory) in enumerate(product(("f32x4", "f64x2"), (0, 1)), count):
        code = f"(drop ({shape}.add (local.get 1) (v128.load {memory} (local.get 0))))"  # maybe an operand in memory
        text.append(f'(func (export "{number}") (param i32 v128) {code})')
    found = []
    for tier, memory in product(TIERS, ("auto", "checked")):
        exports = exports_of(f"(module {' '.join(text)})", engine_of(tier, memory=memory))
        found.append([outcome_of(exports[str(i)], 65535, bytes(16)) for i in range(count + 4)])
    assert all(one == found[0] for one in found)
    narrow = [operation.width == 1 for operation in ACCESSES for _ in (0, 1)] + [False] * 4
    assert [outcome[0] for outcome in found[0]] == ["result" if one else "trap" for one in narrow]
    places = {outcome[2][0].offset for outcome in found[0] if outcome[0] == "trap"}
    assert len(places) == narrow.count(False)


# --- the same by chance, against the oracle ---

BINARY = [op.mnemonic for op in VALUES if [kind.name for kind in op.params] == ["v128"] * 2 and not op.lane_immediate]
_WHOLE = exports_of(
    "(module " + " ".join(
        f'(func (export "{name}") (param v128 v128) (result {OPERATIONS[name].results[0].name}) '
        f"({name} (local.get 0) (local.get 1)))"
        for name in BINARY
    ) + ")",
    engine_of("interpreter"),
)  # fmt: skip


@given(st.sampled_from(BINARY), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_any_operands(name: str, x: bytes, y: bytes) -> None:
    wanted = VECTOR_FUNCTIONS[name](int.from_bytes(x, "little"), int.from_bytes(y, "little"))
    assert agrees(wanted, int.from_bytes(_WHOLE[name](x, y), "little"))
