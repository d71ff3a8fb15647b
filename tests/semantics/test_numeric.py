"""Every numeric instruction on edge cases, bit for bit, with every kind of operand and result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import wasmloom as wl
from tests.semantics.modules import Functions, const, get, narrowed, op, put, widened
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import FUNCTIONS, Result, Trapped, matches
from wasmloom.semantics import definitions as _definitions  # noqa: F401  (fills the registry)
from wasmloom.semantics.registry import OPERATIONS
from wasmloom.spec.instructions import BY_MNEMONIC

NUMERIC = [
    name
    for name, operation in OPERATIONS.items()
    if operation.kind == "value"
    and not operation.has_vectors
    and not any(kind.is_reference for kind in (*operation.params, *operation.results))
]
UNARY = [name for name in NUMERIC if len(BY_MNEMONIC[name].params) == 1]
BINARY = [name for name in NUMERIC if len(BY_MNEMONIC[name].params) == 2]

Expected = Callable[..., Result | str]
#: How an operand is given: from a local, as the result of another instruction, or as a constant.
LOCAL, NESTED, CONST = "local", "nested", "const"


def test_every_instruction_has_a_reference() -> None:
    assert set(NUMERIC) == set(FUNCTIONS)


def expectation(name: str) -> Expected:
    """The reference function, memoised; traps are given by their reason."""
    known: dict[tuple[int, ...], Result | str] = {}

    def expected(*operands: int) -> Result | str:
        if operands not in known:
            try:
                known[operands] = FUNCTIONS[name](*operands)
            except Trapped as trap:
                known[operands] = str(trap)
        return known[operands]

    return expected


class Checker:
    """Calls functions and collects what is wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.result = BY_MNEMONIC[name].results[0]
        self.expected = expectation(name)
        self.wrong: list[str] = []

    def check(self, how: str, function: Callable[..., int], operands: tuple[int, ...]) -> None:
        wanted = self.expected(*operands)
        got: int | str
        try:
            got = function(*operands) & 0xFFFFFFFFFFFFFFFF
        except wl.Trap as trap:
            got = trap.code
        if got != wanted and (isinstance(wanted, str) or isinstance(got, str) or not matches(self.result, wanted, got)):
            self.wrong.append(f"{how} {', '.join(map(hex, operands))}: expected {wanted}, got {got}")

    def done(self) -> None:
        assert not self.wrong, f"{self.name}: {len(self.wrong)} wrong, such as\n" + "\n".join(self.wrong[:10])


def body(name: str, kinds: tuple[str, ...], constants: tuple[int, ...], to_local: bool) -> tuple[list[str], bytes]:
    """Locals and code of a function over i64 parameters, the bits of the operands."""
    row = BY_MNEMONIC[name]
    count = len(kinds)
    code = b""
    # The parameters come first, then a local of the operand's type for each, then one for the result.
    for position, type in enumerate(row.params):
        code += get(position) + narrowed(type) + put(count + position)
    for position, (type, kind) in enumerate(zip(row.params, kinds, strict=True)):
        if kind == LOCAL:
            code += get(count + position)
        elif kind == NESTED:
            code += get(position) + narrowed(type)
        else:
            code += const(type, constants[position])
    code += op(name)
    if to_local:
        code += put(2 * count) + get(2 * count)
    return [*row.params, row.results[0]], code + widened(row.results[0])


def variants(name: str) -> Iterator[tuple[tuple[str, ...], list[tuple[int, ...]]]]:
    """Operand kinds, and the operands to run each with."""
    (values, *_) = types = [OPERANDS[type] for type in BY_MNEMONIC[name].params]
    if len(types) == 1:
        for kind in (LOCAL, NESTED, CONST):
            yield (kind,), [(x,) for x in values]
        return
    for first in (LOCAL, NESTED, CONST):
        for second in (LOCAL, NESTED, CONST):
            if first == second == CONST:
                yield (CONST, CONST), [(x, values[-1 - i]) for i, x in enumerate(values)]
            else:
                yield (first, second), [(x, y) for x in values for y in values]


@pytest.mark.parametrize("name", NUMERIC)
def test_instruction(name: str) -> None:
    checker = Checker(name)
    functions = Functions(["i64"] * len(BY_MNEMONIC[name].params), "i64")
    runs: list[tuple[str, int, list[tuple[int, ...]]]] = []
    for kinds, operands in variants(name):
        groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for values in operands:
            key = tuple(value if kind == CONST else 0 for value, kind in zip(values, kinds, strict=True))
            groups.setdefault(key, []).append(values)
        for number, (constants, group) in enumerate(groups.items()):
            for to_local in (False, True) if len(groups) == 1 else (number % 2 == 1,):
                how = f"{'/'.join(kinds)}{' to a local' if to_local else ''}"
                runs.append((how, functions.add(*body(name, kinds, constants, to_local)), group))
    exports = functions.instance().exports
    for how, index, group in runs:
        function = exports[str(index)]
        for values in group:
            checker.check(how, function, values)
    checker.done()


@pytest.mark.parametrize("name", BINARY)
def test_same_local_twice(name: str) -> None:
    type = BY_MNEMONIC[name].params[0]
    functions = Functions(["i64"], "i64")
    code = get(0) + narrowed(type) + put(1) + get(1) + get(1) + op(name) + widened(BY_MNEMONIC[name].results[0])
    index = functions.add([type], code)
    function = functions.instance().exports[str(index)]
    checker = Checker(name)
    for x in OPERANDS[type]:
        checker.check("twice", lambda x, _: function(x), (x, x))
    checker.done()
