"""What numeric instructions compute, in plain Python over bit patterns: the tests' reading of Core 3.0, section 4.3.

Every value is an int, the bits of an i32, i64, f32 or f64. Nothing is shared with `wasmloom.semantics`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

WIDTH = {"i32": 32, "i64": 64, "f32": 32, "f64": 64}
#: Bits of the fraction of a float type.
FRACTION = {"f32": 23, "f64": 52}


class Trapped(Exception):
    """The instruction traps, with this reason."""


class AnyNan(NamedTuple):
    """Any NaN that is canonical, or with `arithmetic` any that is quiet (Core 3.0, 4.3.3, "NaN propagation")."""

    arithmetic: bool


Result = int | AnyNan
Function = Callable[..., Result]

FUNCTIONS: dict[str, Function] = {}


def canonical(type: str) -> int:
    """The positive canonical NaN."""
    return 0x7FC00000 if type == "f32" else 0x7FF8000000000000


def sign_bit(type: str) -> int:
    return 1 << WIDTH[type] - 1


def is_nan(type: str, bits: int) -> bool:
    infinity = 0x7F800000 if type == "f32" else 0x7FF0000000000000
    return bits & ~sign_bit(type) > infinity


def matches(type: str, wanted: Result, got: int) -> bool:
    """Whether `got`, bits of a type, is what was wanted."""
    if not isinstance(wanted, AnyNan):
        return got == wanted
    quiet = 1 << FRACTION[type] - 1
    return is_nan(type, got) and (bool(got & quiet) if wanted.arithmetic else got & ~sign_bit(type) == canonical(type))


def to_float(type: str, bits: int) -> float:
    """The value of a float that isn't a NaN."""
    value: float
    (value,) = struct.unpack("<f" if type == "f32" else "<d", bits.to_bytes(WIDTH[type] // 8, "little"))
    return value


def from_exact(type: str, value: Fraction, negative_zero: bool = False) -> int:
    """The float nearest to an exact number, ties to even."""
    fraction, bias = FRACTION[type], (127 if type == "f32" else 1023)
    sign = sign_bit(type) if value < 0 or (value == 0 and negative_zero) else 0
    size = abs(value)
    if size == 0:
        return sign
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    exponent = max(exponent, 1 - bias)  # subnormals share the least exponent
    digits = size / Fraction(2) ** (exponent - fraction)
    whole = digits.numerator // digits.denominator
    rest = digits - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole & 1):
        whole += 1
    # Adding lets a carry out of the digits raise the exponent, up to infinity.
    bits = ((exponent + bias - 1) << fraction) + whole
    return sign | min(bits, ((2 * bias + 1) << fraction))


def infinity(type: str, negative: bool) -> int:
    return (sign_bit(type) if negative else 0) | (0x7F800000 if type == "f32" else 0x7FF0000000000000)


def signed(type: str, bits: int) -> int:
    return bits - (1 << WIDTH[type]) if bits & sign_bit(type) else bits


def wrap(type: str, number: int) -> int:
    return number & (1 << WIDTH[type]) - 1


def nan_of(type: str, *operands: int) -> AnyNan:
    """The NaN that comes of operands: canonical if every NaN among them is."""
    nans = [x for x in operands if is_nan(type, x)]
    return AnyNan(any(x & ~sign_bit(type) != canonical(type) for x in nans))


# --- integers ---------------------------------------------------------------------------------------------------------


def _divide(type: str, x: int, y: int) -> int:
    """Quotient, towards zero."""
    if y == 0:
        raise Trapped("integer divide by zero")
    quotient = abs(x) // abs(y)
    return -quotient if (x < 0) != (y < 0) else quotient


def _integers(t: str) -> dict[str, Function]:
    width = WIDTH[t]

    def s(x: int) -> int:
        return signed(t, x)

    def div_s(x: int, y: int) -> int:
        quotient = _divide(t, s(x), s(y))
        if quotient == 1 << width - 1:
            raise Trapped("integer overflow")
        return wrap(t, quotient)

    def rem_s(x: int, y: int) -> int:
        return wrap(t, s(x) - s(y) * _divide(t, s(x), s(y)))

    def rotl(x: int, y: int) -> int:
        y %= width
        return wrap(t, x << y | x >> width - y)

    def extend(bits: int) -> Function:
        return lambda x: wrap(t, (x & (1 << bits) - 1) - ((x >> bits - 1 & 1) << bits))

    functions: dict[str, Function] = {
        "add": lambda x, y: wrap(t, x + y),
        "sub": lambda x, y: wrap(t, x - y),
        "mul": lambda x, y: wrap(t, x * y),
        "div_s": div_s,
        "div_u": lambda x, y: _divide(t, x, y),
        "rem_s": rem_s,
        "rem_u": lambda x, y: x - y * _divide(t, x, y),
        "and": lambda x, y: x & y,
        "or": lambda x, y: x | y,
        "xor": lambda x, y: x ^ y,
        "shl": lambda x, y: wrap(t, x << y % width),
        "shr_s": lambda x, y: wrap(t, s(x) >> y % width),
        "shr_u": lambda x, y: x >> y % width,
        "rotl": rotl,
        "rotr": lambda x, y: rotl(x, -y),
        "clz": lambda x: width - x.bit_length(),
        "ctz": lambda x: (x & -x).bit_length() - 1 if x else width,
        "popcnt": lambda x: x.bit_count(),
        "eqz": lambda x: int(x == 0),
        "eq": lambda x, y: int(x == y),
        "ne": lambda x, y: int(x != y),
        "lt_s": lambda x, y: int(s(x) < s(y)),
        "lt_u": lambda x, y: int(x < y),
        "gt_s": lambda x, y: int(s(x) > s(y)),
        "gt_u": lambda x, y: int(x > y),
        "le_s": lambda x, y: int(s(x) <= s(y)),
        "le_u": lambda x, y: int(x <= y),
        "ge_s": lambda x, y: int(s(x) >= s(y)),
        "ge_u": lambda x, y: int(x >= y),
        "extend8_s": extend(8),
        "extend16_s": extend(16),
    }
    if t == "i64":
        functions["extend32_s"] = extend(32)
    return functions


# --- floats -----------------------------------------------------------------------------------------------------------


def _floats(t: str) -> dict[str, Function]:
    top = sign_bit(t)

    def finite(x: int) -> bool:
        return x & ~top < infinity(t, False)

    def exact(x: int) -> Fraction:
        return Fraction(to_float(t, x))

    def add(x: int, y: int) -> Result:
        if is_nan(t, x) or is_nan(t, y):
            return nan_of(t, x, y)
        if not finite(x) or not finite(y):
            if not finite(x) and not finite(y) and x != y:
                return AnyNan(False)
            return y if finite(x) else x
        return from_exact(t, exact(x) + exact(y), negative_zero=x == y == top)

    def mul(x: int, y: int) -> Result:
        if is_nan(t, x) or is_nan(t, y):
            return nan_of(t, x, y)
        negative = bool((x ^ y) & top)
        if not finite(x) or not finite(y):
            return AnyNan(False) if x & ~top == 0 or y & ~top == 0 else infinity(t, negative)
        return from_exact(t, exact(x) * exact(y), negative)

    def div(x: int, y: int) -> Result:
        if is_nan(t, x) or is_nan(t, y):
            return nan_of(t, x, y)
        negative = bool((x ^ y) & top)
        if not finite(x):
            return infinity(t, negative) if finite(y) else AnyNan(False)
        if not finite(y):
            return from_exact(t, Fraction(0), negative)
        if y & ~top == 0:
            return AnyNan(False) if x & ~top == 0 else infinity(t, negative)
        return from_exact(t, exact(x) / exact(y), negative)

    def extremum(pick: Callable[[float, float], float], of_zeros: Callable[[int, int], int]) -> Function:
        def function(x: int, y: int) -> Result:
            if is_nan(t, x) or is_nan(t, y):
                return nan_of(t, x, y)
            if (x | y) & ~top == 0:
                return of_zeros(x, y)
            return x if pick(to_float(t, x), to_float(t, y)) == to_float(t, x) else y

        return function

    def sqrt(x: int) -> Result:
        if is_nan(t, x):
            return nan_of(t, x)
        if x & ~top == 0:
            return x
        if x & top:
            return AnyNan(False)
        if not finite(x):
            return x
        # Enough digits for a correct rounding: the root of a float is never close to a tie unless it is exact.
        value = exact(x)
        scale = 1 << 1200
        root = Fraction(math.isqrt(value.numerator * scale * scale // value.denominator), scale)
        if root * root != value:
            root += Fraction(1, 4 * scale)
        return from_exact(t, root)

    def rounding(how: Callable[[Fraction], int]) -> Function:
        def function(x: int) -> Result:
            if is_nan(t, x):
                return nan_of(t, x)
            return from_exact(t, Fraction(how(exact(x))), bool(x & top)) if finite(x) else x

        return function

    def compare(test: Callable[[float, float], bool], of_nans: bool = False) -> Function:
        def function(x: int, y: int) -> int:
            if is_nan(t, x) or is_nan(t, y):
                return int(of_nans)
            return int(test(to_float(t, x), to_float(t, y)))

        return function

    return {
        "add": add,
        "sub": lambda x, y: add(x, y ^ top) if not is_nan(t, y) else nan_of(t, x, y),
        "mul": mul,
        "div": div,
        "min": extremum(min, lambda x, y: x | y),
        "max": extremum(max, lambda x, y: x & y),
        "copysign": lambda x, y: x & ~top | y & top,
        "abs": lambda x: x & ~top,
        "neg": lambda x: x ^ top,
        "sqrt": sqrt,
        "ceil": rounding(math.ceil),
        "floor": rounding(math.floor),
        "trunc": rounding(math.trunc),
        "nearest": rounding(round),
        "eq": compare(lambda x, y: x == y),
        "ne": compare(lambda x, y: x != y, of_nans=True),
        "lt": compare(lambda x, y: x < y),
        "gt": compare(lambda x, y: x > y),
        "le": compare(lambda x, y: x <= y),
        "ge": compare(lambda x, y: x >= y),
    }


# --- conversions ------------------------------------------------------------------------------------------------------


def _truncate(source: str, target: str, is_signed: bool, saturate: bool) -> Function:
    low = -(1 << WIDTH[target] - 1) if is_signed else 0
    high = (1 << WIDTH[target] - is_signed) - 1

    def function(x: int) -> int:
        if is_nan(source, x):
            if saturate:
                return 0
            raise Trapped("invalid conversion to integer")
        value = to_float(source, x)
        beyond = high + 1 if value > 0 else low - 1
        number = beyond if math.isinf(value) else math.trunc(value)
        if not low <= number <= high:
            if not saturate:
                raise Trapped("integer overflow")
            number = min(max(number, low), high)
        return wrap(target, number)

    return function


def _change_width(source: str, target: str) -> Function:
    def function(x: int) -> Result:
        if is_nan(source, x):
            return nan_of(source, x)
        value = to_float(source, x)
        if math.isinf(value):
            return infinity(target, value < 0)
        return from_exact(target, Fraction(value), bool(x & sign_bit(source)))

    return function


for _t in ("i32", "i64"):
    FUNCTIONS.update({f"{_t}.{_name}": _function for _name, _function in _integers(_t).items()})
for _t in ("f32", "f64"):
    FUNCTIONS.update({f"{_t}.{_name}": _function for _name, _function in _floats(_t).items()})
    _same = "i32" if _t == "f32" else "i64"
    FUNCTIONS[f"{_t}.reinterpret_{_same}"] = lambda x: x
    FUNCTIONS[f"{_same}.reinterpret_{_t}"] = lambda x: x
    for _i in ("i32", "i64"):
        for _s in (True, False):
            _suffix = "s" if _s else "u"
            FUNCTIONS[f"{_i}.trunc_{_t}_{_suffix}"] = _truncate(_t, _i, _s, saturate=False)
            FUNCTIONS[f"{_i}.trunc_sat_{_t}_{_suffix}"] = _truncate(_t, _i, _s, saturate=True)
            FUNCTIONS[f"{_t}.convert_{_i}_{_suffix}"] = lambda x, _t=_t, _i=_i, _s=_s: from_exact(
                _t, Fraction(signed(_i, x) if _s else x)
            )
FUNCTIONS["f32.demote_f64"] = _change_width("f64", "f32")
FUNCTIONS["f64.promote_f32"] = _change_width("f32", "f64")
FUNCTIONS["i32.wrap_i64"] = lambda x: x & 0xFFFFFFFF
FUNCTIONS["i64.extend_i32_u"] = lambda x: x
FUNCTIONS["i64.extend_i32_s"] = lambda x: wrap("i64", signed("i32", x))
