"""The definitions of instructions on numbers, loads and stores. Importing this fills the registry with all definitions.

Vectors are in `vectors`, atomic instructions in `atomics`, references in `references`, tables, memories as a whole and
globals in `tables`. Instructions without a definition are in `by_tier`, with the reasons.

Each function takes a builder `b` and typed operands. `wasmloom.semantics.llvm.Builder` shows what a builder offers.
Source: Core 3.0, section 4.3 (numerics), 4.4.1 (parametric instructions) and 4.4.10 (memory instructions).
"""

from __future__ import annotations

from typing import Any

from wasmloom.contract.traps import INTEGER_DIVIDE_BY_ZERO, INTEGER_OVERFLOW, INVALID_CONVERSION, UNREACHABLE
from wasmloom.semantics import aggregates as _aggregates  # noqa: F401  (registers definitions)
from wasmloom.semantics import atomics as _atomics  # noqa: F401  (the same)
from wasmloom.semantics import references as _references  # noqa: F401  (the same)
from wasmloom.semantics import vectors as _vectors  # noqa: F401  (the same)
from wasmloom.semantics.registry import operation

V = Any
"""A builder's value: it has a `type`, "i32", "i64", "f32" or "f64"."""


# --- integers (4.3.2) ---


@operation("{int}.add", commutative=True)
def add(b: V, x: V, y: V) -> V:
    return b.binary("add", x, y)


@operation("{int}.sub")
def sub(b: V, x: V, y: V) -> V:
    return b.binary("sub", x, y)


@operation("{int}.mul", commutative=True)
def mul(b: V, x: V, y: V) -> V:
    return b.binary("mul", x, y)


@operation("{int}.and", commutative=True)
def and_(b: V, x: V, y: V) -> V:
    return b.binary("and", x, y)


@operation("{int}.or", commutative=True)
def or_(b: V, x: V, y: V) -> V:
    return b.binary("or", x, y)


@operation("{int}.xor", commutative=True)
def xor(b: V, x: V, y: V) -> V:
    return b.binary("xor", x, y)


@operation("{int}.div_s", traps=(INTEGER_DIVIDE_BY_ZERO, INTEGER_OVERFLOW))
def div_s(b: V, x: V, y: V) -> V:
    b.trap_if(b.compare("eq", y, b.const(y.type, 0)), INTEGER_DIVIDE_BY_ZERO)
    smallest = b.compare("eq", x, b.const(x.type, -(1 << (b.bits(x.type) - 1))))
    minus_one = b.compare("eq", y, b.const(y.type, -1))
    b.trap_if(b.both(smallest, minus_one), INTEGER_OVERFLOW)
    return b.binary("sdiv", x, y)


@operation("{int}.div_u", traps=(INTEGER_DIVIDE_BY_ZERO,))
def div_u(b: V, x: V, y: V) -> V:
    b.trap_if(b.compare("eq", y, b.const(y.type, 0)), INTEGER_DIVIDE_BY_ZERO)
    return b.binary("udiv", x, y)


@operation("{int}.rem_s", traps=(INTEGER_DIVIDE_BY_ZERO,))
def rem_s(b: V, x: V, y: V) -> V:
    b.trap_if(b.compare("eq", y, b.const(y.type, 0)), INTEGER_DIVIDE_BY_ZERO)
    # Dividing by -1 leaves nothing, and would overflow for the smallest number: divide by 1 instead.
    divisor = b.select(b.compare("eq", y, b.const(y.type, -1)), b.const(y.type, 1), y)
    return b.binary("srem", x, divisor)


@operation("{int}.rem_u", traps=(INTEGER_DIVIDE_BY_ZERO,))
def rem_u(b: V, x: V, y: V) -> V:
    b.trap_if(b.compare("eq", y, b.const(y.type, 0)), INTEGER_DIVIDE_BY_ZERO)
    return b.binary("urem", x, y)


def _shift_count(b: V, y: V) -> V:
    return b.binary("and", y, b.const(y.type, b.bits(y.type) - 1))


@operation("{int}.shl")
def shl(b: V, x: V, y: V) -> V:
    return b.binary("shl", x, _shift_count(b, y))


@operation("{int}.shr_s")
def shr_s(b: V, x: V, y: V) -> V:
    return b.binary("ashr", x, _shift_count(b, y))


@operation("{int}.shr_u")
def shr_u(b: V, x: V, y: V) -> V:
    return b.binary("lshr", x, _shift_count(b, y))


@operation("{int}.rotl")
def rotl(b: V, x: V, y: V) -> V:
    return b.intrinsic("fshl", x, x, y)


@operation("{int}.rotr")
def rotr(b: V, x: V, y: V) -> V:
    return b.intrinsic("fshr", x, x, y)


# --- integers of 128 bits (wide arithmetic proposal) ---


def _joined(b: V, low: V, high: V) -> V:
    """The integer of 128 bits with these halves."""
    upper = b.binary("shl", b.convert("zext", high, "i128"), b.const("i128", 64))
    return b.binary("or", upper, b.convert("zext", low, "i128"))


@operation("i64.add128", kind="double")
def add128(b: V, low: V, high: V, other_low: V, other_high: V) -> V:
    return b.binary("add", _joined(b, low, high), _joined(b, other_low, other_high))


@operation("i64.sub128", kind="double")
def sub128(b: V, low: V, high: V, other_low: V, other_high: V) -> V:
    return b.binary("sub", _joined(b, low, high), _joined(b, other_low, other_high))


@operation("i64.mul_wide_s", kind="double")
def mul_wide_s(b: V, x: V, y: V) -> V:
    return b.binary("mul", b.convert("sext", x, "i128"), b.convert("sext", y, "i128"))


@operation("i64.mul_wide_u", kind="double")
def mul_wide_u(b: V, x: V, y: V) -> V:
    return b.binary("mul", b.convert("zext", x, "i128"), b.convert("zext", y, "i128"))


@operation("{int}.clz")
def clz(b: V, x: V) -> V:
    return b.intrinsic("ctlz", x)


@operation("{int}.ctz")
def ctz(b: V, x: V) -> V:
    return b.intrinsic("cttz", x)


@operation("{int}.popcnt")
def popcnt(b: V, x: V) -> V:
    return b.intrinsic("ctpop", x)


def _extend(width: str) -> Any:
    def define(b: V, x: V) -> V:
        return b.convert("sext", b.convert("trunc", x, width), x.type)

    return define


operation("{int}.extend8_s")(_extend("i8"))
operation("{int}.extend16_s")(_extend("i16"))
operation("i64.extend32_s")(_extend("i32"))


# --- comparisons (4.3.2, 4.3.3): the result is a truth value that the builder widens to i32 where it is stored ---


def _compare(predicate: str) -> Any:
    def define(b: V, x: V, y: V) -> V:
        return b.compare(predicate, x, y)

    return define


for _wasm, _llvm in {
    "lt_s": "slt", "lt_u": "ult", "gt_s": "sgt", "gt_u": "ugt",
    "le_s": "sle", "le_u": "ule", "ge_s": "sge", "ge_u": "uge",
}.items():  # fmt: skip
    operation(f"{{int}}.{_wasm}", is_truth=True)(_compare(_llvm))
operation("{int}.eq", "{float}.eq", commutative=True, is_truth=True)(_compare("eq"))
operation("{int}.ne", "{float}.ne", commutative=True, is_truth=True)(_compare("ne"))
for _name in ("lt", "gt", "le", "ge"):
    operation(f"{{float}}.{_name}", is_truth=True)(_compare(_name))


@operation("ref.is_null", params="ref", results="i32", is_truth=True)
@operation("{int}.eqz", is_truth=True)
def eqz(b: V, x: V) -> V:
    return b.compare("eq", x, b.const(x.type, 0))


# --- floating point (4.3.3) ---
#
# In all of these, the result of two NaNs is the first one, made quiet. The specification allows either, but tiers must
# agree. So nothing here is commutative.


@operation("{float}.add")
def fadd(b: V, x: V, y: V) -> V:
    return b.arithmetic("add", x, y)


@operation("{float}.sub")
def fsub(b: V, x: V, y: V) -> V:
    return b.arithmetic("sub", x, y)


@operation("{float}.mul")
def fmul(b: V, x: V, y: V) -> V:
    return b.arithmetic("mul", x, y)


@operation("{float}.div")
def fdiv(b: V, x: V, y: V) -> V:
    return b.arithmetic("div", x, y)


def _extremum(first: str, combine: str) -> Any:
    """The smaller (or larger) operand; of two zeros the one whose sign decides; of a NaN a quiet one."""

    def define(b: V, x: V, y: V) -> V:
        integer = "i32" if x.type == "f32" else "i64"
        bits = b.binary(combine, b.convert("bitcast", x, integer), b.convert("bitcast", y, integer))
        zeros = b.convert("bitcast", bits, x.type)
        # x + y is a quiet NaN when either is a NaN.
        otherwise = b.select(b.compare("eq", x, y), zeros, b.arithmetic("add", x, y))
        return b.select(b.compare(first, x, y), x, b.select(b.compare(first, y, x), y, otherwise))

    return define


operation("{float}.min")(_extremum("lt", "or"))
operation("{float}.max")(_extremum("gt", "and"))


@operation("{float}.copysign")
def copysign(b: V, x: V, y: V) -> V:
    return b.intrinsic("copysign", x, y)


for _wasm, _llvm in {
    "abs": "fabs", "ceil": "ceil", "floor": "floor", "trunc": "trunc", "nearest": "roundeven", "sqrt": "sqrt",
}.items():  # fmt: skip

    def _unary(b: V, x: V, _intrinsic: str = _llvm) -> V:
        return b.intrinsic(_intrinsic, x)

    operation(f"{{float}}.{_wasm}")(_unary)


@operation("{float}.neg")
def fneg(b: V, x: V) -> V:
    return b.negate(x)


# --- conversions (4.3.4) ---


def _conversion(opcode: str, target: str) -> Any:
    def define(b: V, x: V) -> V:
        return b.convert(opcode, x, target)

    return define


operation("i32.wrap_i64")(_conversion("trunc", "i32"))
operation("i64.extend_i32_s")(_conversion("sext", "i64"))
operation("i64.extend_i32_u")(_conversion("zext", "i64"))
operation("f32.demote_f64")(_conversion("fptrunc", "f32"))
operation("f64.promote_f32")(_conversion("fpext", "f64"))
for _int, _float in (("i32", "f32"), ("i64", "f64")):
    operation(f"{_int}.reinterpret_{_float}")(_conversion("bitcast", _int))
    operation(f"{_float}.reinterpret_{_int}")(_conversion("bitcast", _float))
for _float in ("f32", "f64"):
    for _int in ("i32", "i64"):
        operation(f"{_float}.convert_{_int}_s")(_conversion("sitofp", _float))
        operation(f"{_float}.convert_{_int}_u")(_conversion("uitofp", _float))


def _truncation(target: str, signed: bool, source: str) -> Any:
    """Float to integer with traps: the bounds are the floats nearest to, and outside of, what the integer can hold."""
    bits = int(target[1:])
    low = -(1 << (bits - 1)) if signed else 0
    high = 1 << (bits - 1 if signed else bits)
    # The largest float that is too small: low - 1 where the format can tell it from low, else x < low is the test.
    exact = bits < (24 if source == "f32" else 53)

    def define(b: V, x: V) -> V:
        b.trap_if(b.compare("uno", x, x), INVALID_CONVERSION)
        if exact or low == 0:
            too_small = b.compare("le", x, b.const(x.type, float(low - 1)))
        else:
            too_small = b.compare("lt", x, b.const(x.type, float(low)))
        too_large = b.compare("ge", x, b.const(x.type, float(high)))
        b.trap_if(b.either(too_small, too_large), INTEGER_OVERFLOW)
        return b.convert("fptosi" if signed else "fptoui", x, target)

    return define


for _int in ("i32", "i64"):
    for _float in ("f32", "f64"):
        for _sign in ("s", "u"):
            operation(f"{_int}.trunc_{_float}_{_sign}", traps=(INVALID_CONVERSION, INTEGER_OVERFLOW))(
                _truncation(_int, _sign == "s", _float)
            )

            def _saturating(b: V, x: V, _name: str = f"fpto{_sign}i.sat", _target: str = _int) -> V:
                return b.intrinsic(_name, x, result=_target)

            operation(f"{_int}.trunc_sat_{_float}_{_sign}")(_saturating)


# --- memory (4.4.10): `p` is the checked address ---


def _load(width: str, extension: str | None, target: str) -> Any:
    def define(b: V, p: V) -> V:
        value = b.load(width, p)
        return value if extension is None else b.convert(extension, value, target)

    return define


def _store(width: str) -> Any:
    def define(b: V, p: V, x: V) -> None:
        b.store(x if x.type == width else b.convert("trunc", x, width), p)

    return define


for _type in ("i32", "i64", "f32", "f64"):
    operation(f"{_type}.load", kind="load")(_load(_type, None, _type))
    operation(f"{_type}.store", kind="store")(_store(_type))
for _type, _widths in (("i32", (8, 16)), ("i64", (8, 16, 32))):
    for _width in _widths:
        operation(f"{_type}.load{_width}_s", kind="load")(_load(f"i{_width}", "sext", _type))
        operation(f"{_type}.load{_width}_u", kind="load")(_load(f"i{_width}", "zext", _type))
        operation(f"{_type}.store{_width}", kind="store")(_store(f"i{_width}"))


# --- parametric instructions (4.4.1), and what does nothing ---


@operation("select", kind="own")
def select(b: V, x: V, y: V, holds: V) -> V:
    """`holds` is a truth value: an i32 that isn't 0."""
    return b.select(holds, x, y)


@operation("unreachable", kind="own", traps=(UNREACHABLE,))
def unreachable(b: V) -> None:
    b.trap(UNREACHABLE)


@operation("nop", kind="nothing")
def nothing(b: V) -> None:
    """There is nothing to do."""


@operation("atomic.fence", kind="own")
def fence(b: V) -> None:
    """Nobody sees what comes before it behind what comes after it."""
    b.fence()
