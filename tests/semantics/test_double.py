"""Instructions with two results: every one on edge cases, with every kind of operand, in all tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC

DOUBLE = [name for name, operation in OPERATIONS.items() if operation.kind == "double"]
MASK = (1 << 64) - 1
pytestmark = pytest.mark.usefixtures("code_at_once")
EDGES = (0, 1, 2, MASK, MASK - 1, 1 << 63, (1 << 63) - 1, 1 << 32, (1 << 32) - 1, 0x123456789ABCDEF0)


def signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


#: What they compute, as an integer of which 128 bits count.
REFERENCE: dict[str, Callable[..., int]] = {
    "i64.add128": lambda a, b, c, d: (a | b << 64) + (c | d << 64),
    "i64.sub128": lambda a, b, c, d: (a | b << 64) - (c | d << 64),
    "i64.mul_wide_s": lambda a, b: signed(a) * signed(b),
    "i64.mul_wide_u": lambda a, b: a * b,
}


def expected(name: str, operands: tuple[int, ...]) -> tuple[int, int]:
    result = REFERENCE[name](*operands)
    return signed(result & MASK), signed(result >> 64 & MASK)


def cases(name: str) -> Iterator[tuple[int, ...]]:
    count = len(BY_MNEMONIC[name].params)
    if count == 2:
        yield from product(EDGES, repeat=2)
    else:
        for low, other in product(EDGES, repeat=2):
            yield low, other ^ 5, other, low
            yield other, low, low, MASK


def test_all_have_a_reference() -> None:
    assert set(DOUBLE) == set(REFERENCE)


def source(name: str, operands: list[str], use: str) -> str:
    """A function whose operands come as they are given; `use` says what becomes of the results."""
    params = " ".join("i64" for _ in operands)
    head = f'(func (export "{name} {" ".join(operands)} {use}") (param {params}) (result i64 i64)'
    return f"{head} (local $low i64) (local $high i64) {' '.join(operands)} {name} {use})"


#: Results that stay on the stack, in locals, in parameters that were operands, and in the accumulator.
USES = (
    "",
    "local.set $high local.set $low local.get $low local.get $high",
    "local.set 0 local.set 1 local.get 1 local.get 0",
    "local.tee $high local.set 1 local.get 1",
    "(i64.xor (i64.const -1)) (i64.xor (i64.const -1))",
)


@pytest.mark.parametrize("tier", ENGINES)
@pytest.mark.parametrize("name", DOUBLE)
def test_results(name: str, tier: str) -> None:
    count = len(BY_MNEMONIC[name].params)
    gets = [f"(local.get {i})" for i in range(count)]
    sums = [f"(i64.add {get} (i64.const 0))" for get in gets]
    kinds = [gets, sums, [f"(local.tee {i} {get})" for i, get in enumerate(sums)]]
    programs = [(operands, use) for operands in kinds for use in USES]
    exports = exports_of("\n".join(source(name, *program) for program in programs), engine_of(tier))
    for operands, use in programs:
        function = exports[f"{name} {' '.join(operands)} {use}"]
        for case in cases(name):
            given = tuple(signed(word) for word in case)
            assert function(*given) == expected(name, case), (function, case)


@pytest.mark.parametrize("tier", ENGINES)
def test_constants(tier: str) -> None:
    words = " ".join(f"(i64.const {signed(word)})" for word in (MASK, 1, 1, 2))
    exports = exports_of(
        f'(func (export "add") (result i64 i64) (i64.add128 {words}))'
        '(func (export "mul") (result i64 i64) (i64.mul_wide_s (i64.const -3) (i64.const 7)))',
        engine_of(tier),
    )
    assert exports.add() == (0, 4)
    assert exports.mul() == (-21, -1)


@pytest.mark.parametrize("tier", ENGINES)
def test_a_loop_of_multiplications(tier: str) -> None:
    """Long multiplication by a word, as compilers write it: results, locals and memory by turns."""
    exports = exports_of(
        """
        (memory (export "memory") 1)
        (func (export "times") (param $words i32) (param $by i64) (result i64)
          (local $i i32) (local $carry i64) (local $low i64) (local $high i64)
          (loop $next
            (i64.mul_wide_u (i64.load (local.get $i)) (local.get $by))
            (local.set $high) (local.set $low)
            (i64.add128 (local.get $low) (local.get $high) (local.get $carry) (i64.const 0))
            (local.set $carry)
            (local.set $low)
            (i64.store (local.get $i) (local.get $low))
            (local.set $i (i32.add (local.get $i) (i32.const 8)))
            (br_if $next (local.tee $words (i32.sub (local.get $words) (i32.const 1)))))
          (local.get $carry))
        """,
        engine_of(tier),
    )
    number, by, words = int("9" * 700), 0xFEDCBA9876543210, 40
    for _ in range(3):
        exports.memory.write(0, number.to_bytes(8 * words, "little"))
        carry = exports.times(words, signed(by))
        product = number * by
        assert int.from_bytes(exports.memory.read(0, 8 * words), "little") == product & (1 << 64 * words) - 1
        assert carry & MASK == product >> 64 * words
        number = product >> 70


def test_typing() -> None:
    with pytest.raises(wl.ValidationError, match=r"i64.add128 expected i64 but found i32"):
        wl.Module("(func (drop (drop (i64.add128 (i64.const 0) (i32.const 0) (i64.const 0) (i64.const 0)))))")
    with pytest.raises(wl.ValidationError, match="expected i64 but found nothing"):
        wl.Module("(func (drop (drop (i64.mul_wide_s (i64.const 0)))))")
    with pytest.raises(wl.ValidationError, match="expected nothing more but found i64"):
        wl.Module("(func (drop (i64.mul_wide_u (i64.const 0) (i64.const 0))))")
