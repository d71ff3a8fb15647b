"""Every bytecode instruction of the families, fused ones included, does what the Wasm instructions do that it is for.

And where it may trap, it does so exactly there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import pytest

import wasmloom as wl
from tests.conftest import needs_guard_pages
from tests.interpreter.shapes import INPUTS, LOCALS, Memory, OutOfBounds, Shape, is_wide, shape
from tests.semantics.modules import Functions
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import AnyNan, Result, Trapped, matches
from wasmloom.binary.encoder import Layout, encode_module
from wasmloom.interpreter.disassembler import disassemble
from wasmloom.interpreter.handlers import HandlerSet

SIZE = 65536
CONTENTS = bytes((i * 37 + (i >> 7) * 11 + 5) & 0xFF for i in range(SIZE))
RUNS = 5
GROUPS = 24
#: What immediates are, besides small numbers. 32 bits, so that an i64 fits the immediate's field.
CONSTANTS = (0x7FFFFFFF, 1, 0xFFFFFFFFFFFFFFF0)


@cache
def handler_set() -> HandlerSet:
    return HandlerSet()


class Case(NamedTuple):
    """A function of a module, and what it stands for."""

    name: str
    shape: Shape
    function: int
    place: int | None


def some_bits(rng: random.Random) -> int:
    """Bits for an input: a small number, which is good for addresses, or an edge case of a type."""
    kind = rng.choice(("small", "small", *OPERANDS))
    return rng.randrange(400) if kind == "small" else rng.choice(OPERANDS[kind])


def shaped(
    names: Sequence[str],
    rng: random.Random,
    offset: int,
    memory: str = "guarded",
    tier: str | None = None,
    immediates: Sequence[int] | None = None,
    wrap: Callable[[Shape], Shape] = lambda found: found,
    wide: bool = False,
) -> tuple[wl.Instance, list[Case]]:
    """A module with a function for each of those names that a shape is known of, with memories of that kind.

    `immediates`: what these are, in turn, not chosen. `wrap`: what each shape becomes, with the locals of `LOCALS` and
    an i64 and an i32 behind them. `wide`: memories have addresses of 64 bits; names for others are left out.
    """
    functions = Functions(["i64"] * INPUTS, "i64", memories=2, is64=wide)
    made: list[tuple[str, Shape, int]] = []
    for name in (name for name in names if is_wide(name) is wide):
        constants = [rng.choice((rng.randrange(1, 200), *CONSTANTS)) for _ in range(INPUTS)]
        if immediates is not None:
            constants = [immediates[i % len(immediates)] for i in range(INPUTS)]
        found = shape(name, constants, offset)
        if found is not None:
            found = wrap(found)
            made.append((name, found, functions.add([*LOCALS, "i64", "i32"], found.code)))
    layout = Layout()
    binary = encode_module(functions.syntax, layout)
    cases = []
    for name, found, index in made:
        place = None if found.fault is None else layout.exprs["code", index, 0] + found.fault
        cases.append(Case(name, found, index, place))
    return wl.Instance(wl.Module(binary, wl.Engine(memory=memory, tier=tier))), cases


def in_group(group: int) -> list[str]:
    return [handler.name for handler in handler_set().handlers][group::GROUPS]


@needs_guard_pages
@pytest.mark.parametrize("group", range(GROUPS))
def test_instructions(group: int) -> None:
    rng = random.Random(group)
    instance, cases = shaped(in_group(group), rng, offset=3)
    assert len(cases) > 100
    check(instance, cases, rng)
    instance, cases = shaped(in_group(group), rng, offset=3, wide=True)
    assert len(cases) > 3
    check(instance, cases, rng)


def check(instance: wl.Instance, cases: Sequence[Case], rng: random.Random) -> None:
    """Each case contains its instruction, and does what the reference says, on some inputs."""
    missed, wrong = [], []
    memories = [instance.exports["memory0"], instance.exports["memory1"]]
    for case in cases:
        listing = disassemble(instance.module.code_space, case.function)
        if not any(case.name in line.split() for line in listing.splitlines()):
            missed.append(case.name)
        for _ in range(RUNS):
            inputs = [some_bits(rng) for _ in range(INPUTS)]
            contents = Memory(CONTENTS)
            wanted: Result | tuple[str, int | None]
            try:
                wanted = case.shape.run(inputs, contents)
            except (OutOfBounds, Trapped) as trap:
                wanted = (str(trap), case.place)
            for memory in memories:
                memory.write(0, CONTENTS)
            got: int | tuple[str, int | None]
            try:
                got = instance.exports[str(case.function)](*inputs) & 0xFFFFFFFFFFFFFFFF
            except wl.Trap as trap:
                got = (trap.code, trap.frames[0].offset)
            right = got == wanted
            if isinstance(wanted, AnyNan):
                # Which NaN a store has written is open.
                right = ".store" in case.name or (isinstance(got, int) and matches(case.shape.type, wanted, got))
            if not right:
                wrong.append(f"{case.name} {[hex(bits) for bits in inputs]}: expected {wanted}, got {got}")
            elif not isinstance(wanted, AnyNan) and [memory.read(0, SIZE) for memory in memories] != contents.data:
                wrong.append(f"{case.name} {[hex(bits) for bits in inputs]}: wrong memory")
    assert not wrong, f"{len(wrong)} wrong, such as\n" + "\n".join(wrong[:10])
    assert not missed, f"{len(missed)} weren't made, such as {missed[:20]}"
