"""Random expressions, with writes of locals inside, against an evaluator in plain Python: needs no other engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.semantics.modules import Functions, block, const, get, op
from tests.semantics.operands import OPERANDS
from tests.semantics.reference import FUNCTIONS, AnyNan, Trapped
from wasmloom.spec.instructions import BY_MNEMONIC

#: Locals of the function, two of each type; they begin as 0.
LOCALS = ("i32", "i32", "i64", "i64", "f32", "f32", "f64", "f64")
#: Floats only where no NaN of open bits comes of them: those that are bits, and comparisons.
_BITWISE = ("abs", "neg", "copysign", "reinterpret_i32", "reinterpret_i64", "convert_i32_s", "convert_i64_u")
INSTRUCTIONS = {
    type: [
        name
        for name in FUNCTIONS
        if BY_MNEMONIC[name].results == (type,) and (type[0] == "i" or name.partition(".")[2] in _BITWISE)
    ]
    for type in ("i32", "i64", "f32", "f64")
}


class Expression(NamedTuple):
    """Code that leaves one value, and what that is, given the locals, which it may write."""

    type: str
    code: bytes
    evaluate: Callable[[list[int]], int]


def constant(type: str, bits: int) -> Expression:
    return Expression(type, const(type, bits), lambda env: bits)


def local(type: str, number: int) -> Expression:
    return Expression(type, get(number), lambda env: env[number])


def tee(number: int, value: Expression) -> Expression:
    def evaluate(env: list[int]) -> int:
        env[number] = value.evaluate(env)
        return env[number]

    return Expression(value.type, value.code + op("local.tee", number), evaluate)


def apply(name: str, *operands: Expression) -> Expression:
    def evaluate(env: list[int]) -> int:
        result = FUNCTIONS[name](*[operand.evaluate(env) for operand in operands])
        assert not isinstance(result, AnyNan)
        return result

    code = b"".join(operand.code for operand in operands)
    return Expression(BY_MNEMONIC[name].results[0], code + op(name), evaluate)


def select(a: Expression, b: Expression, condition: Expression) -> Expression:
    def evaluate(env: list[int]) -> int:
        first, second = a.evaluate(env), b.evaluate(env)
        return first if condition.evaluate(env) else second

    return Expression(a.type, a.code + b.code + condition.code + op("select"), evaluate)


def choose(a: Expression, b: Expression, condition: Expression) -> Expression:
    """`if`: only one of the two happens."""
    code = condition.code + block("if", a.type) + a.code + op("else") + b.code + op("end")
    return Expression(a.type, code, lambda env: a.evaluate(env) if condition.evaluate(env) else b.evaluate(env))


def leave(value: Expression, other: Expression, condition: Expression) -> Expression:
    """`br_if` out of a block with a value, or on with another one."""

    def evaluate(env: list[int]) -> int:
        first = value.evaluate(env)
        return first if condition.evaluate(env) else other.evaluate(env)

    inside = value.code + condition.code + op("br_if", 0) + op("drop") + other.code
    return Expression(value.type, block("block", value.type) + inside + op("end"), evaluate)


@st.composite
def expressions(draw: st.DrawFn, type: str, depth: int) -> Expression:
    number = LOCALS.index(type) + draw(st.integers(0, 1))
    kind = draw(
        st.sampled_from(
            ("constant", "local", "local", *(("apply",) * 4 + ("tee", "select", "if", "br_if")) * (depth > 0))
        )
    )
    if kind == "constant":
        return constant(type, draw(st.sampled_from(OPERANDS[type])))
    if kind == "local":
        return local(type, number)
    if kind == "tee":
        return tee(number, draw(expressions(type, depth - 1)))
    if kind == "apply":
        name = draw(st.sampled_from(INSTRUCTIONS[type]))
        return apply(name, *(draw(expressions(param, depth - 1)) for param in BY_MNEMONIC[name].params))
    a, b = draw(expressions(type, depth - 1)), draw(expressions(type, depth - 1))
    condition = draw(expressions("i32", depth - 1))
    return {"select": select, "if": choose, "br_if": leave}[kind](a, b, condition)


def integers(expression: Expression) -> Expression:
    """The expression's bits, as an integer."""
    if expression.type[0] == "i":
        return expression
    return apply(f"{'i32' if expression.type == 'f32' else 'i64'}.reinterpret_{expression.type}", expression)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.sampled_from(tuple(OPERANDS)).flatmap(lambda type: expressions(type, 4)), min_size=1, max_size=4))
def test_expressions(parts: list[Expression]) -> None:
    """The expressions one after the other, all on the stack, then combined from the top."""
    code = b""
    for part in parts:
        whole = integers(part)
        code += whole.code + (op("i64.extend_i32_u") if whole.type == "i32" else b"")
    functions = Functions([], "i64")
    index = functions.add(LOCALS, code + op("i64.xor") * (len(parts) - 1))
    wanted: int | str = 0
    try:
        env = [0] * len(LOCALS)
        for part in parts:
            wanted ^= part.evaluate(env)  # type: ignore[operator]
    except Trapped as trap:
        wanted = str(trap)
    got: int | str
    try:
        got = functions.instance().exports[str(index)]() & 0xFFFFFFFFFFFFFFFF
    except wl.Trap as trap:
        got = trap.code
    assert got == wanted
