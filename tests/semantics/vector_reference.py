"""What vector instructions compute, in plain Python over bit patterns: the tests' reading of Core 3.0, section 4.3.5.

Operands are ints: 128 bits, or those of an i32, i64, f32 or f64. Results are ints, or `Vector`, whose lanes may be any
NaN of a kind. Nothing is shared with `wasmloom.semantics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from tests.semantics.reference import FUNCTIONS as SCALAR
from tests.semantics.reference import Result, is_nan, matches, sign_bit

WIDTHS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64}
SHAPES = {f"{type}x{128 // width}": type for type, width in WIDTHS.items()}


class Vector(NamedTuple):
    """Lanes of a type, the lowest first."""

    type: str
    lanes: list[Result]


Function = Callable[..., "Vector | int"]
VECTOR_FUNCTIONS: dict[str, Function] = {}


def lanes(type: str, bits: int, count: int | None = None) -> list[int]:
    """The lanes of a vector."""
    width = WIDTHS[type]
    return [bits >> width * i & (1 << width) - 1 for i in range(128 // width if count is None else count)]


def joined(type: str, parts: Iterable[int]) -> int:
    """A vector from its lanes."""
    return sum((part & (1 << WIDTHS[type]) - 1) << WIDTHS[type] * i for i, part in enumerate(parts))


def agrees(wanted: Vector | int, got: int) -> bool:
    """Whether bits are what was wanted."""
    if not isinstance(wanted, Vector):
        return got == wanted
    found = lanes(wanted.type, got)
    if wanted.type[0] == "i":
        return found == wanted.lanes
    return all(matches(wanted.type, *pair) for pair in zip(wanted.lanes, found, strict=True))


def signed(type: str, bits: int) -> int:
    return bits - (1 << WIDTHS[type]) if bits >> WIDTHS[type] - 1 & 1 else bits


def clamp(type: str, sign: str, number: int) -> int:
    width = WIDTHS[type]
    low, high = (0, (1 << width) - 1) if sign == "u" else (-(1 << width - 1), (1 << width - 1) - 1)
    return min(max(number, low), high) & (1 << width) - 1


def each(type: str, function: Callable[..., Any], of: str | None = None) -> Function:
    """The function of vectors that does the same in all lanes."""
    return lambda *operands: Vector(
        type, [function(*one) for one in zip(*(lanes(of or type, x) for x in operands), strict=True)]
    )


def same(bits: int) -> int:
    return bits


def all_ones(type: str, holds: object) -> int:
    return (1 << WIDTHS[type]) - 1 if holds else 0


def _integers(t: str) -> dict[str, Function]:
    width = WIDTHS[t]
    most = (1 << width) - 1

    def s(x: int) -> int:
        return signed(t, x)

    def value(sign: str) -> Callable[[int], int]:
        return s if sign == "s" else same

    def bits(function: Callable[..., int]) -> Function:
        return each(t, lambda *operands: function(*operands) & most)

    def shift(function: Callable[[int, int], int]) -> Function:
        return lambda x, count: Vector(t, [function(one, count % width) & most for one in lanes(t, x)])

    def compare(test: Callable[[int, int], bool], sign: str) -> Function:
        of = value(sign)
        return each(t, lambda x, y: all_ones(t, test(of(x), of(y))))

    found: dict[str, Function] = {
        "splat": lambda x: Vector(t, [x & most] * (128 // width)),
        "add": bits(lambda x, y: x + y),
        "sub": bits(lambda x, y: x - y),
        "neg": bits(lambda x: -x),
        "abs": bits(lambda x: abs(s(x))),
        "shl": shift(lambda x, n: x << n),
        "shr_s": shift(lambda x, n: s(x) >> n),
        "shr_u": shift(lambda x, n: x >> n),
        "all_true": lambda x: int(all(lanes(t, x))),
        "bitmask": lambda x: sum((one >> width - 1) << i for i, one in enumerate(lanes(t, x))),
        "eq": compare(lambda x, y: x == y, "u"),
        "ne": compare(lambda x, y: x != y, "u"),
    }
    for sign in "su" if width < 64 else "s":
        found[f"lt_{sign}"] = compare(lambda x, y: x < y, sign)
        found[f"gt_{sign}"] = compare(lambda x, y: x > y, sign)
        found[f"le_{sign}"] = compare(lambda x, y: x <= y, sign)
        found[f"ge_{sign}"] = compare(lambda x, y: x >= y, sign)
    for sign, of in (("s", s), ("u", same)) if width < 64 else ():
        found[f"min_{sign}"] = each(t, partial(min, key=of))
        found[f"max_{sign}"] = each(t, partial(max, key=of))
        if width < 32:
            found[f"add_sat_{sign}"] = each(t, lambda x, y, g=sign, of=of: clamp(t, g, of(x) + of(y)))
            found[f"sub_sat_{sign}"] = each(t, lambda x, y, g=sign, of=of: clamp(t, g, of(x) - of(y)))
    if width > 8:
        found["mul"] = bits(lambda x, y: x * y)
    else:
        found["popcnt"] = each(t, int.bit_count)
    if width < 32:
        found["avgr_u"] = each(t, lambda x, y: (x + y + 1) >> 1)
        found["extract_lane_s"] = lambda x, lane: s(lanes(t, x)[lane]) & 0xFFFFFFFF
        found["extract_lane_u"] = lambda x, lane: lanes(t, x)[lane]
    return found


def _lane_functions(t: str) -> dict[str, Function]:
    def replace(x: int, value: int, lane: int) -> Vector:
        found: list[Result] = list(lanes(t, x))
        found[lane] = value & (1 << WIDTHS[t]) - 1
        return Vector("i" + t[1:], found)

    found: dict[str, Function] = {"replace_lane": replace}
    if WIDTHS[t] >= 32:
        found["extract_lane"] = lambda x, lane: lanes(t, x)[lane]
    return found


def _floats(t: str) -> dict[str, Function]:
    bits = "i" + t[1:]  # of results whose bits matter, of NaNs, too

    def pseudo(first: str) -> Function:
        before = SCALAR[f"{t}.{first}"]
        return each(bits, lambda x, y: y if before(y, x) else x, of=t)

    def compare(name: str) -> Function:
        test = SCALAR[f"{t}.{name}"]
        return each(bits, lambda x, y: all_ones(t, test(x, y)), of=t)

    def multiply_add(x: int, y: int, z: int, negated: bool) -> Result:
        product = SCALAR[f"{t}.mul"](x ^ (sign_bit(t) if negated else 0), y)
        if isinstance(product, int):
            return SCALAR[f"{t}.add"](product, z)
        nan = SCALAR[f"{t}.add"](x if is_nan(t, x) else y if is_nan(t, y) else z, z)
        return product if isinstance(nan, int) else nan

    names = ("sqrt", "ceil", "floor", "trunc", "nearest", "add", "sub", "mul", "div", "min", "max")
    found = {name: each(t, SCALAR[f"{t}.{name}"]) for name in names}
    found |= {name: each(bits, SCALAR[f"{t}.{name}"], of=t) for name in ("abs", "neg")}
    found |= {name: compare(name) for name in ("eq", "ne", "lt", "gt", "le", "ge")}
    found |= {"pmin": pseudo("lt"), "pmax": pseudo("gt"), "relaxed_min": found["min"], "relaxed_max": found["max"]}
    found["relaxed_madd"] = each(t, lambda x, y, z: multiply_add(x, y, z, False))
    found["relaxed_nmadd"] = each(t, lambda x, y, z: multiply_add(x, y, z, True))
    found["splat"] = lambda x: Vector(bits, [x] * (128 // WIDTHS[t]))
    return found


def _widenings(narrow: str, wide: str) -> dict[str, Function]:
    """Instructions of the wide shape on the narrow one, and back."""
    half = 64 // WIDTHS[narrow]
    most = (1 << WIDTHS[wide]) - 1
    of, to = f"{narrow}x{2 * half}", f"{wide}x{half}"
    found: dict[str, Function] = {}

    def values(x: int, sign: str) -> list[int]:
        return [signed(narrow, one) if sign == "s" else one for one in lanes(narrow, x)]

    def vector(parts: Iterable[int]) -> Vector:
        return Vector(wide, [part & most for part in parts])

    def products(x: int, y: int, sign: str, part: slice) -> Vector:
        return vector(a * b for a, b in zip(values(x, sign)[part], values(y, sign)[part], strict=True))

    def sums(x: int, sign: str) -> Vector:
        return vector(a + b for a, b in zip(values(x, sign)[::2], values(x, sign)[1::2], strict=True))

    def narrowed(x: int, y: int, sign: str) -> Vector:
        return Vector(narrow, [clamp(narrow, sign, signed(wide, one)) for one in (*lanes(wide, x), *lanes(wide, y))])

    for sign in "su":
        for name, part in {"low": slice(half), "high": slice(half, None)}.items():
            found[f"{to}.extend_{name}_{of}_{sign}"] = lambda x, g=sign, p=part: vector(values(x, g)[p])
            found[f"{to}.extmul_{name}_{of}_{sign}"] = partial(products, sign=sign, part=part)
        if wide != "i64":
            found[f"{to}.extadd_pairwise_{of}_{sign}"] = partial(sums, sign=sign)
            found[f"{of}.narrow_{to}_{sign}"] = partial(narrowed, sign=sign)
    return found


def dots(t: str, x: int, y: int) -> list[int]:
    """Sums of two neighbouring products."""
    products = [signed(t, a) * signed(t, b) for a, b in zip(lanes(t, x), lanes(t, y), strict=True)]
    return [a + b for a, b in zip(products[::2], products[1::2], strict=True)]


def q15(x: int, y: int) -> int:
    return clamp("i16", "s", (signed("i16", x) * signed("i16", y) + 0x4000) >> 15)


def swizzle(x: int, numbers: int) -> Vector:
    found = lanes("i8", x)
    return Vector("i8", [found[n] if n < 16 else 0 for n in lanes("i8", numbers)])


def select(x: int, y: int, mask: int) -> int:
    return x & mask | y & ~mask & (1 << 128) - 1


for _shape, _type in SHAPES.items():
    _found = _integers(_type) if _type[0] == "i" else _floats(_type)
    VECTOR_FUNCTIONS.update({f"{_shape}.{_name}": _f for _name, _f in (_found | _lane_functions(_type)).items()})
    if _type[0] == "i":
        VECTOR_FUNCTIONS[f"{_shape}.relaxed_laneselect"] = select
for _narrow, _wide in (("i8", "i16"), ("i16", "i32"), ("i32", "i64")):
    VECTOR_FUNCTIONS |= _widenings(_narrow, _wide)
_ALL = (1 << 128) - 1
VECTOR_FUNCTIONS |= {
    "v128.not": lambda x: x ^ _ALL,
    "v128.and": lambda x, y: x & y,
    "v128.or": lambda x, y: x | y,
    "v128.xor": lambda x, y: x ^ y,
    "v128.andnot": lambda x, y: x & (y ^ _ALL),
    "v128.bitselect": select,
    "v128.any_true": lambda x: int(x != 0),
    "i8x16.swizzle": swizzle,
    "i8x16.relaxed_swizzle": swizzle,
    "i8x16.shuffle": lambda x, y, numbers: Vector("i8", [[*lanes("i8", x), *lanes("i8", y)][n] for n in numbers]),
    "i16x8.q15mulr_sat_s": each("i16", q15),
    "i16x8.relaxed_q15mulr_s": each("i16", q15),
    "i32x4.dot_i16x8_s": lambda x, y: Vector("i32", [n & 0xFFFFFFFF for n in dots("i16", x, y)]),
    "i16x8.relaxed_dot_i8x16_i7x16_s": lambda x, y: Vector("i16", [n & 0xFFFF for n in dots("i8", x, y)]),
}


def _relaxed_dot_add(x: int, y: int, z: int) -> Vector:
    sums = [signed("i16", n & 0xFFFF) for n in dots("i8", x, y)]
    pairs = zip(sums[::2], sums[1::2], lanes("i32", z), strict=True)
    return Vector("i32", [(a + b + c) & 0xFFFFFFFF for a, b, c in pairs])


VECTOR_FUNCTIONS["i32x4.relaxed_dot_i8x16_i7x16_add_s"] = _relaxed_dot_add
for _sign in "su":
    for _name in ("trunc_sat", "relaxed_trunc"):
        VECTOR_FUNCTIONS[f"i32x4.{_name}_f32x4_{_sign}"] = each("i32", SCALAR[f"i32.trunc_sat_f32_{_sign}"], of="f32")
        VECTOR_FUNCTIONS[f"i32x4.{_name}_f64x2_{_sign}_zero"] = lambda x, one=SCALAR[f"i32.trunc_sat_f64_{_sign}"]: (
            Vector("i32", [*map(one, lanes("f64", x)), 0, 0])
        )
    VECTOR_FUNCTIONS[f"f32x4.convert_i32x4_{_sign}"] = each("f32", SCALAR[f"f32.convert_i32_{_sign}"], of="i32")
    VECTOR_FUNCTIONS[f"f64x2.convert_low_i32x4_{_sign}"] = lambda x, one=SCALAR[f"f64.convert_i32_{_sign}"]: Vector(
        "f64", [*map(one, lanes("i32", x)[:2])]
    )
VECTOR_FUNCTIONS["f32x4.demote_f64x2_zero"] = lambda x: Vector(
    "f32", [*map(SCALAR["f32.demote_f64"], lanes("f64", x)), 0, 0]
)
VECTOR_FUNCTIONS["f64x2.promote_low_f32x4"] = lambda x: Vector(
    "f64", [*map(SCALAR["f64.promote_f32"], lanes("f32", x)[:2])]
)
