"""Comparisons in front of everything that may take them over: branches in both directions, `if`, `select`, `eqz`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.semantics.modules import Functions, block, const, get, narrowed, op, put
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import FUNCTIONS
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC

COMPARISONS = [name for name, operation in OPERATIONS.items() if operation.is_compare]
LOCAL, NESTED, CONST = "local", "nested", "const"
EQZ = op("i32.eqz")
ONE, ZERO = const("i32", 1), const("i32", 0)
#: Local that the uses below may write; the operands' locals come before it.
SCRATCH = 4


def _if(condition: bytes) -> bytes:
    return condition + block("if", "i32") + ONE + op("else") + ZERO + op("end")


def _forwards(condition: bytes) -> bytes:
    return block("block") + condition + op("br_if", 0) + ZERO + op("return") + op("end") + ONE


def _forwards_with_value(condition: bytes) -> bytes:
    """The value of the branch lies at another height, so that it has to be moved on the way."""
    inside = const("i32", 7) + ONE + condition + op("br_if", 0) + op("drop") + op("drop") + ZERO
    return block("block", "i32") + inside + op("end")


def _backwards(condition: bytes) -> bytes:
    again = get(SCRATCH) + ONE + op("i32.add") + op("local.tee", SCRATCH) + const("i32", 2) + op("i32.eq")
    loop = block("loop") + again + op("br_if", 1) + condition + op("br_if", 0) + op("end")
    return block("block") + loop + ZERO + op("return") + op("end") + ONE


def _returns(condition: bytes) -> bytes:
    return ONE + condition + op("br_if", 0) + op("drop") + ZERO


#: Name → what becomes of a condition; each gives 1 where it holds.
USES: dict[str, Callable[[bytes], bytes]] = {
    "if": _if,
    "br_if": _forwards,
    "br_if with a value": _forwards_with_value,
    "br_if back": _backwards,
    "br_if out of the function": _returns,
    "select": lambda condition: ONE + ZERO + condition + op("select"),
    "select of locals": lambda condition: (
        ONE + put(SCRATCH) + get(SCRATCH) + get(SCRATCH + 1) + condition + op("select")
    ),
    "value": lambda condition: condition,
    "local": lambda condition: condition + put(SCRATCH) + get(SCRATCH),
    "local and if": lambda condition: _if(condition + op("local.tee", SCRATCH)) + get(SCRATCH) + op("i32.and"),
    "and": lambda condition: condition + ONE + op("i32.and"),
}
#: How often the condition is negated before its use.
NEGATIONS = (0, 1, 2)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparison(name: str) -> None:
    types = BY_MNEMONIC[name].params
    few = OPERANDS[types[0]][::2]
    functions = Functions(["i64", "i64"], "i32")
    runs: list[tuple[str, int, int, list[tuple[int, int]]]] = []
    setup = b"".join(get(position) + narrowed(types[0]) + put(2 + position) for position in range(2))
    operands = {
        (LOCAL, 0): get(2), (LOCAL, 1): get(3),
        (NESTED, 0): get(0) + narrowed(types[0]), (NESTED, 1): get(1) + narrowed(types[0]),
    }  # fmt: skip
    shapes: list[tuple[str, bytes, list[tuple[int, int]]]] = []
    for first in (LOCAL, NESTED):
        if len(types) == 1:
            shapes.append((first, operands[first, 0], [(x, 0) for x in few]))
            continue
        for second in (LOCAL, NESTED):
            code = operands[first, 0] + operands[second, 1]
            shapes.append((f"{first}/{second}", code, [(x, y) for x in few for y in few]))
        for i, x in enumerate(few):
            if i % 3 == 0:
                shapes.append((f"{first}/const", operands[first, 0] + const(types[0], x), [(y, x) for y in few]))
                shapes.append((f"const/{first}", const(types[0], x) + operands[first, 1], [(x, y) for y in few]))
    for how, code, values in shapes:
        for use, make in USES.items():
            for negations in NEGATIONS:
                index = functions.add(
                    [types[0], types[0], "i32", "i32"], setup + make(code + op(name) + EQZ * negations)
                )
                runs.append((f"{how}, {use}, negated {negations} times", index, negations, values))
    exports = functions.instance().exports
    reference = FUNCTIONS[name]
    expected = {(x, y): reference(*(x, y)[: len(types)]) for x in few for y in (*few, 0)}
    wrong = []
    for how, index, negations, values in runs:
        function = exports[str(index)]
        for pair in values:
            got = function(*pair)
            if got != (expected[pair] ^ (negations & 1)):  # type: ignore[operator]
                wrong.append(f"{how}: {pair[0]:#x}, {pair[1]:#x} gave {got}")
    assert not wrong, f"{len(wrong)} wrong, such as\n" + "\n".join(wrong[:10])
