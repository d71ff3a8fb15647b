"""Atomic instructions on memories that aren't shared, in all tiers, compared with plain Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.conftest import needs_guard_pages
from tests.semantics.accesses import ATOMICS, OUT_OF_BOUNDS, UNALIGNED, Access
from tests.semantics.modules import Functions, const, get, op, put, widened
from tests.semantics.reference import WIDTH, Trapped
from wasmloom.cli.script_runner import run_script
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS

SIZE = 65536
CONTENTS = bytes((i * 89 + (i >> 8) * 31 + 7) & 0xFF for i in range(SIZE))
#: Engines, with guard pages and without.
KINDS = [
    pytest.param(name, kind, marks=[needs_guard_pages] if kind == "guarded" else [], id=f"{name}-{kind}")
    for name, kind in product(("interpreter", "compiler", "auto"), ("guarded", "checked"))
]
#: Offsets in the instruction. With the last two, aligned and not, an address in bounds doesn't exist.
OFFSETS = (0, 1, 8, SIZE - 8, 0xFFFFFFF8, 0xFFFFFFFF)
ADDRESSES = (0, 2, 4, 7, SIZE - 8, SIZE - 4, SIZE - 2, SIZE - 1, SIZE, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)
#: Operands in memory are of CONTENTS at times, so that exchanges succeed.
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x123456789ABCDEF0, (1 << 64) - 1)


def code_of(atomic: Access, offset: int, memory: int) -> bytes:
    """A function of three i64, that gives an i64."""
    code = get(0) + op("i32.wrap_i64")
    for number, type in enumerate(atomic.params):
        code += get(1 + number) + (op("i32.wrap_i64") if type == "i32" else b"")
    code += op(atomic.name, atomic.align | 64, memory, offset) if memory else op(atomic.name, atomic.align, offset)
    return code + (const("i64", 0) if atomic.result is None else widened(atomic.result))


class Machine:
    """All atomic instructions, with some offsets, on two memories, and what those must hold."""

    def __init__(self, name: str, kind: str) -> None:
        functions = Functions(["i64"] * 3, "i64", memories=2)
        self.runs: dict[tuple[Access, int, int], int] = {}
        offsets = OFFSETS if name == "interpreter" else OFFSETS[::2]
        for atomic, (offset, memory) in product(ATOMICS, product(offsets, (0, 1))):
            self.runs[atomic, offset, memory] = functions.add([], code_of(atomic, offset, memory))
        self.instance = functions.instance(engine_of(name, memory=kind))
        self.memories = [self.instance.exports[f"memory{memory}"] for memory in (0, 1)]
        self.reset()

    def reset(self) -> None:
        self.wanted = [bytearray(CONTENTS), bytearray(CONTENTS)]
        for memory in self.memories:
            memory.write(0, CONTENTS)

    def run(self, atomic: Access, offset: int, memory: int, address: int, operands: tuple[int, ...]) -> None:
        """Run an instruction, and compare all that can be seen."""
        operands = tuple(number & (1 << WIDTH[type]) - 1 for number, type in zip(operands, atomic.params, strict=False))
        got: int | str
        wanted: int | str
        try:
            wanted = atomic.run(self.wanted[memory], address + offset, *operands) or 0
        except Trapped as trap:
            wanted = str(trap)
        function = self.instance.exports[str(self.runs[atomic, offset, memory])]
        try:
            got = function(address, *(*operands, 0, 0)[:2]) & (1 << 64) - 1
        except wl.Trap as trap:
            got = trap.code
        where = f"{atomic.name} offset={offset:#x} of memory {memory} at {address:#x}, {operands}"
        assert got == wanted, where
        place = address + offset
        start, end = max(0, min(place, SIZE) - 8), min(place + 16, SIZE)
        assert self.memories[memory].read(start, end - start) == self.wanted[memory][start:end], where


@cache
def machine(name: str, kind: str) -> Machine:
    return Machine(name, kind)


def test_all_have_definitions() -> None:
    assert {atomic.name for atomic in ATOMICS} == {
        name for name, operation in OPERATIONS.items() if operation.kind == "atomic"
    }
    assert len(ATOMICS) == 66
    for atomic in ATOMICS:
        operation = OPERATIONS[atomic.name]
        assert operation.width == atomic.bytes
        assert operation.instruction.params == ("addr", *atomic.params)
        assert operation.instruction.results == ((atomic.result,) if atomic.result else ())


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_edges(name: str, kind: str) -> None:
    """Every instruction at every edge; whatever else is in memory stays as it is."""
    this = machine(name, kind)
    this.reset()
    for number, (atomic, offset, memory) in enumerate(this.runs):
        for address in ADDRESSES:
            place = address + offset
            there = int.from_bytes(this.wanted[memory][place : place + atomic.bytes], "little")
            operand = there if number % 2 else NUMBERS[(number + address) % len(NUMBERS)]
            this.run(atomic, offset, memory, address, (operand, 0x1122334455667788))
    assert [memory.read(0, SIZE) for memory in this.memories] == this.wanted


def steps() -> st.SearchStrategy[tuple[int, int, int, int, tuple[int, int]]]:
    number = st.sampled_from(NUMBERS) | st.integers(0, (1 << 64) - 1)
    address = st.integers(0, 24) | st.integers(SIZE - 24, SIZE + 8) | st.integers(0, 0xFFFFFFFF)
    return st.tuples(
        st.integers(0, len(ATOMICS) - 1), st.integers(0, 2), st.integers(0, 1), address, st.tuples(number, number)
    )


@pytest.mark.parametrize(("name", "kind"), KINDS)
@given(st.lists(steps(), max_size=12))
def test_sequences(name: str, kind: str, sequence: list[tuple[int, int, int, int, tuple[int, int]]]) -> None:
    this = machine(name, kind)
    this.reset()
    for which, offset, memory, address, operands in sequence:
        this.run(ATOMICS[which], OFFSETS[2 * offset], memory, address, operands)
    assert [memory.read(0, SIZE) for memory in this.memories] == this.wanted


def operand_forms() -> Iterator[tuple[str, bytes, bytes]]:
    """How an operand comes about: what goes before all operands, and the operand. It is the i64 parameter 1."""
    yield "local", b"", get(1)
    yield "accumulator", b"", get(1) + const("i64", 5) + op("i64.xor") + const("i64", 5) + op("i64.xor")
    yield "constant", b"", const("i64", 7)
    yield "old value of a local", b"", get(1)
    yield "written local", const("i64", 7) + put(1), get(1)


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_operands_come_from_anywhere(name: str) -> None:
    """Operands and results are in slots: also where locals are written between their use and the instruction."""
    functions = Functions(["i64", "i64"], "i64", memories=1)
    runs = []
    address = get(0) + op("i32.wrap_i64")
    for how, before, operand in operand_forms():
        between = const("i64", 99) + put(1) if how.startswith("old") else b""
        for to_local in (False, True):
            code = before + address + operand + between + op("i64.atomic.rmw.add", 3, 0)
            code += (put(0) + get(0) if to_local else b"") + address[: 0 if to_local else None]
            code += b"" if to_local else op("drop")
            runs.append((how, functions.add([], code)))
    # The result is an operand of the next one, as an accumulator or as a slot.
    chained = address + address + get(1) + op("i64.atomic.rmw.add", 3, 8) + op("i64.atomic.rmw.xchg", 3, 0)
    chain = functions.add([], chained)
    instance = functions.instance(engine_of(name))
    memory = instance.exports.memory0
    for how, number in runs:
        memory.write(0, CONTENTS)
        old = int.from_bytes(CONTENTS[16:24], "little")
        given = 7 if how in ("constant", "written local") else 1000
        assert instance.exports[str(number)](16, 1000) & (1 << 64) - 1 == old, how
        assert int.from_bytes(memory.read(16, 8), "little") == (old + given) & (1 << 64) - 1, how
    memory.write(0, CONTENTS)
    assert instance.exports[str(chain)](0, 1) & (1 << 64) - 1 == int.from_bytes(CONTENTS[:8], "little")
    assert memory.read(0, 8) == CONTENTS[8:16]


@pytest.mark.parametrize("name", ENGINES)
def test_traps_name_their_place(name: str) -> None:
    """All kinds of traps of two instructions in a row, the first one of them, and at the right one."""
    exports = exports_of(
        """(module (memory 1) (func (export "f") (param i32 i32) (result i64)
          (i32.atomic.store16 offset=2 (local.get 0) (i32.const 7))
          (i64.atomic.rmw32.xchg_u (local.get 1) (i64.const 7)))
          (func (export "wait") (param i32) (result i32)
            (memory.atomic.wait64 (local.get 0) (i64.const 0) (i64.const -1))))""",
        engine_of(name),
    )
    f, wait = exports.f, exports.wait
    offsets = set()
    for first, second, code in (
        (1, 1, UNALIGNED), (SIZE - 2, 1, OUT_OF_BOUNDS), (-1, 1, UNALIGNED), (-2, 1, OUT_OF_BOUNDS),
        (0, 2, UNALIGNED), (0, SIZE, OUT_OF_BOUNDS), (0, -2, UNALIGNED), (0, -4, OUT_OF_BOUNDS),
    ):  # fmt: skip
        kind, reason, frames = outcome_of(f, first, second)
        assert (kind, reason, len(frames)) == ("trap", code, 1), (first, second)
        offsets.add((first != 0, frames[0].offset))
    assert len(offsets) == 2
    assert len({offset for _, offset in offsets}) == 2
    assert f(0, 0) == 7 << 16
    # Whether a wait's address is in the memory doesn't matter any more.
    for address, code in ((0, "expected shared memory"), (4, UNALIGNED), (-8, "expected shared memory")):
        assert outcome_of(wait, address)[:2] == ("trap", code)


@pytest.mark.parametrize("name", ENGINES)
def test_fences_do_nothing(name: str) -> None:
    """Nor do they need a memory."""
    exports = exports_of(
        '(module (func (export "f") (param i32) (result i32) atomic.fence local.get 0 atomic.fence))', engine_of(name)
    )
    assert exports.f(5) == 5


def test_they_cost_fuel_alike() -> None:
    """Both tiers count the same."""
    left = []
    for name in ("interpreter", "compiler", "checked"):
        engine = engine_of(name, fuel=True)
        store = wl.Store(engine, fuel=1000)
        module = wl.Module(
            """(module (memory 1) (func (export "f") (result i32) atomic.fence
              (drop (i32.atomic.rmw8.cmpxchg_u (i32.const 3) (i32.const 0) (i32.const 1)))
              (memory.atomic.notify (i32.const 8) (i32.const 1))))""",
            engine,
        )
        assert wl.Instance(module, store=store).exports.f() == 0
        left.append(store.fuel)
    assert len(set(left)) == 1
    assert left[0] < 1000


@pytest.mark.parametrize("name", ENGINES)
def test_a_loop_of_many(name: str) -> None:
    """A spin lock around a counter, in a loop where `auto` changes over."""
    exports = exports_of(
        """(module (memory (export "memory") 1)
          (func (export "count") (param $n i32) (result i64)
            (loop $next
              (loop $taken (br_if $taken (i32.atomic.rmw.cmpxchg (i32.const 4) (i32.const 0) (i32.const 1))))
              (drop (i64.atomic.rmw.add (i32.const 8) (i64.extend_i32_u (local.get $n))))
              (i32.atomic.store (i32.const 4) (i32.const 0))
              (drop (memory.atomic.notify (i32.const 4) (i32.const 1)))
              (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (i64.atomic.load (i32.const 8))))""",
        engine_of(name),
    )
    for _ in range(3):
        exports.memory.write(8, bytes(8))
        assert exports.count(2000) == 2001000


@pytest.mark.parametrize("name", ENGINES)
def test_the_official_script_on_memories_that_are_not_shared(name: str, spec_dir: Path) -> None:
    """Its memories are shared; what doesn't wait is the same without."""
    (path,) = spec_dir.rglob("threads/atomic.wast")
    text = path.read_text()
    plain = re.sub(r"\(memory 1 1 shared\)", "(memory 1 1)", text)
    plain = re.sub(r'(?m)^\(assert_return \(invoke "memory\.atomic\.wait.*$', "", plain)
    assert plain.count("shared)") == 0
    outcome = run_script(plain.encode(), engine_of(name))
    assert (outcome.failures, outcome.skips) == ([], 0)
    assert outcome.passed > 290
