"""The definitions of vector instructions, relaxed ones included.

A value is a "v128"; `_lanes` gives it a shape, which is a builder's vector type, and a definition's result is a "v128"
again. Relaxed instructions compute what their strict ones do, where there are such, on every processor.

Source: Core 3.0, sections 4.3.5 (numerics of vectors), 4.4.2 (vector instructions) and 4.4.10 (memory instructions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NamedTuple

from wasmloom.semantics.llvm import VECTOR
from wasmloom.semantics.registry import operation

V = Any
"""A builder's value: see `wasmloom.semantics.definitions`."""


class Lanes(NamedTuple):
    """How 128 bits are divided: so many lanes of a type."""

    lanes: int
    type: str

    @property
    def name(self) -> str:
        """The name in instructions."""
        return f"{self.type}x{self.lanes}"

    @property
    def bits(self) -> int:
        """Bits of a lane."""
        return int(self.type[1:])

    def of(self, type: str, count: int | None = None) -> Lanes:
        """As many lanes of another type, or so many."""
        return Lanes(self.lanes if count is None else count, type)

    @property
    def wide(self) -> Lanes:
        """As many lanes of twice the width: a vector of 256 bits."""
        return self.of(f"{self.type[0]}{2 * self.bits}")

    @property
    def vector(self) -> str:
        """The builder's type."""
        return f"<{self.lanes} x {self.type}>"


I8, I16, I32, I64 = (Lanes(128 // bits, f"i{bits}") for bits in (8, 16, 32, 64))
F32, F64 = Lanes(4, "f32"), Lanes(2, "f64")
INTEGERS = (I8, I16, I32, I64)
FLOATS = (F32, F64)
#: Those whose lanes are i32s elsewhere.
NARROW = (I8, I16)


def _lanes(b: V, x: V, shape: Lanes) -> V:
    return b.convert("bitcast", x, shape.vector)


def _whole(b: V, x: V) -> V:
    return b.convert("bitcast", x, VECTOR)


def _on(shape: Lanes, define: Callable[..., V], of: Lanes | None = None) -> Callable[..., V]:
    """The definition that gives its vectors a shape (`of`, where the result has another one) and takes it away."""

    @wraps(define)
    def on_lanes(b: V, *operands: V) -> V:
        given = [_lanes(b, x, of or shape) if x.type == VECTOR else x for x in operands]
        return _whole(b, define(b, *given))

    on_lanes.__qualname__ = f"{define.__qualname__} on {(of or shape).name}"
    return on_lanes


def on_lanes_of(shape: str, define: Callable[..., V]) -> Callable[..., V]:
    """A function of values with lanes ("f32x4") as one of vectors."""
    return _on({lanes.name: lanes for lanes in FLOATS}[shape], define)


def _define(shapes: Iterable[Lanes], name: str, define: Callable[..., V], *, commutative: bool = False) -> None:
    """Register a definition that is the same for several shapes."""
    for shape in shapes:
        operation(f"{shape.name}.{name}", commutative=commutative)(_on(shape, define))


# --- bits ---


@operation("v128.not")
def not_(b: V, x: V) -> V:
    x = _lanes(b, x, I64)
    return _whole(b, b.binary("xor", x, b.const(x.type, -1)))


def _bitwise(opcode: str) -> Callable[..., V]:
    def define(b: V, x: V, y: V) -> V:
        return b.binary(opcode, x, y)

    return define


for _name in ("and", "or", "xor"):
    operation(f"v128.{_name}", commutative=True)(_on(I64, _bitwise(_name)))


@operation("v128.andnot")
def andnot(b: V, x: V, y: V) -> V:
    x, y = _lanes(b, x, I64), _lanes(b, y, I64)
    return _whole(b, b.binary("and", x, b.binary("xor", y, b.const(y.type, -1))))


@operation(
    "v128.bitselect", "i8x16.relaxed_laneselect", "i16x8.relaxed_laneselect", "i32x4.relaxed_laneselect",
    "i64x2.relaxed_laneselect",
)  # fmt: skip
def bitselect(b: V, x: V, y: V, mask: V) -> V:
    x, y, mask = (_lanes(b, each, I64) for each in (x, y, mask))
    other = b.binary("xor", mask, b.const(mask.type, -1))
    return _whole(b, b.binary("or", b.binary("and", x, mask), b.binary("and", y, other)))


@operation("v128.any_true", is_truth=True)
def any_true(b: V, x: V) -> V:
    bits = b.convert("bitcast", x, "i128")
    return b.compare("ne", bits, b.const("i128", 0))


def _signs(b: V, x: V, shape: Lanes) -> V:
    """A number with a bit for each lane, of truth values."""
    return b.convert("bitcast", x, f"i{shape.lanes}")


def _all_true(shape: Lanes) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        x = _lanes(b, x, shape)
        zeros = _signs(b, b.compare("eq", x, b.const(x.type, 0)), shape)
        return b.compare("eq", zeros, b.const(zeros.type, 0))

    return define


def _bitmask(shape: Lanes) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        x = _lanes(b, x, shape)
        return b.convert("zext", _signs(b, b.compare("slt", x, b.const(x.type, 0)), shape), "i32")

    return define


for _shape in INTEGERS:
    operation(f"{_shape.name}.all_true", is_truth=True)(_all_true(_shape))
    operation(f"{_shape.name}.bitmask")(_bitmask(_shape))


# --- lanes: `lane` is the builder's value of the immediate ---


def _splat(shape: Lanes) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        if shape in NARROW:
            x = b.convert("trunc", x, shape.type)
        return _whole(b, b.splat(x, shape.vector))

    return define


def _extract(shape: Lanes, extension: str | None) -> Callable[..., V]:
    def define(b: V, x: V, lane: V) -> V:
        found = b.extract(_lanes(b, x, shape), lane)
        return found if extension is None else b.convert(extension, found, "i32")

    return define


def _replace(shape: Lanes) -> Callable[..., V]:
    def define(b: V, x: V, value: V, lane: V) -> V:
        if shape in NARROW:
            value = b.convert("trunc", value, shape.type)
        return _whole(b, b.insert(_lanes(b, x, shape), value, lane))

    return define


for _shape in (*INTEGERS, *FLOATS):
    operation(f"{_shape.name}.splat")(_splat(_shape))
    operation(f"{_shape.name}.replace_lane")(_replace(_shape))
    if _shape in NARROW:
        operation(f"{_shape.name}.extract_lane_s")(_extract(_shape, "sext"))
        operation(f"{_shape.name}.extract_lane_u")(_extract(_shape, "zext"))
    else:
        operation(f"{_shape.name}.extract_lane")(_extract(_shape, None))


@operation("i8x16.swizzle", "i8x16.relaxed_swizzle")
def swizzle(b: V, x: V, lanes: V) -> V:
    return _whole(b, b.swizzle(_lanes(b, x, I8), _lanes(b, lanes, I8)))


@operation("i8x16.shuffle")
def shuffle(b: V, x: V, y: V, lanes: V) -> V:
    return _whole(b, b.choose(_lanes(b, x, I8), _lanes(b, y, I8), lanes))


# --- integers ---


def _binary(opcode: str) -> Callable[..., V]:
    def define(b: V, x: V, y: V) -> V:
        return b.binary(opcode, x, y)

    return define


def _intrinsic(name: str) -> Callable[..., V]:
    def define(b: V, *operands: V) -> V:
        return b.intrinsic(name, *operands)

    return define


def _unfolded(define: Callable[..., V]) -> Callable[..., V]:
    """A definition with floats that LLVM mustn't compute, because results may be NaNs: it gives them other bits."""

    def unfolded(b: V, x: V) -> V:
        return define(b, b.unfolded(x))

    return unfolded


def _neg(b: V, x: V) -> V:
    return b.binary("sub", b.const(x.type, 0), x)


def _abs(b: V, x: V) -> V:
    return b.select(b.compare("slt", x, b.const(x.type, 0)), _neg(b, x), x)


def _shift(shape: Lanes, opcode: str) -> Callable[..., V]:
    def define(b: V, x: V, count: V) -> V:
        count = b.binary("and", count, b.const("i32", shape.bits - 1))
        if shape.bits != 32:
            count = b.convert("zext" if shape.bits > 32 else "trunc", count, shape.type)
        return b.binary(opcode, x, b.splat(count, shape.vector))

    return define


def _compare(predicate: str) -> Callable[..., V]:
    """Lanes whose bits are all set where the comparison holds."""

    def define(b: V, x: V, y: V) -> V:
        return b.mask(b.compare(predicate, x, y), x.type)

    return define


_define(INTEGERS, "add", _binary("add"), commutative=True)
_define(INTEGERS, "sub", _binary("sub"))
_define((I16, I32, I64), "mul", _binary("mul"), commutative=True)
_define(INTEGERS, "neg", _neg)
_define(INTEGERS, "abs", _abs)
_define((I8,), "popcnt", _intrinsic("ctpop"))
for _sign in "su":
    _define((I8, I16), f"add_sat_{_sign}", _intrinsic(f"{_sign}add.sat"), commutative=True)
    _define((I8, I16), f"sub_sat_{_sign}", _intrinsic(f"{_sign}sub.sat"))
    for _name in ("min", "max"):
        _define((I8, I16, I32), f"{_name}_{_sign}", _intrinsic(f"{_sign}{_name}"), commutative=True)
for _shape in INTEGERS:
    for _name, _opcode in {"shl": "shl", "shr_s": "ashr", "shr_u": "lshr"}.items():
        operation(f"{_shape.name}.{_name}")(_on(_shape, _shift(_shape, _opcode)))
_define(INTEGERS, "eq", _compare("eq"), commutative=True)
_define(INTEGERS, "ne", _compare("ne"), commutative=True)
for _name in ("lt", "gt", "le", "ge"):
    _define(INTEGERS, f"{_name}_s", _compare(f"s{_name}"))
    _define((I8, I16, I32), f"{_name}_u", _compare(f"u{_name}"))


def _average(shape: Lanes) -> Callable[..., V]:
    """The mean of unsigned numbers, rounded up."""

    def define(b: V, x: V, y: V) -> V:
        wide = shape.wide.vector
        total = b.binary("add", b.convert("zext", x, wide), b.convert("zext", y, wide))
        return b.convert("trunc", b.binary("lshr", b.binary("add", total, b.const(wide, 1)), b.const(wide, 1)), x.type)

    return define


for _shape in (I8, I16):
    operation(f"{_shape.name}.avgr_u", commutative=True)(_on(_shape, _average(_shape)))


def _q15_product(b: V, x: V, y: V) -> V:
    wide = I16.wide.vector
    product = b.binary("mul", b.convert("sext", x, wide), b.convert("sext", y, wide))
    rounded = b.binary("ashr", b.binary("add", product, b.const(wide, 1 << 14)), b.const(wide, 15))
    return b.convert("trunc", b.intrinsic("smin", rounded, b.const(wide, (1 << 15) - 1)), x.type)


for _name in ("q15mulr_sat_s", "relaxed_q15mulr_s"):
    operation(f"i16x8.{_name}", commutative=True)(_on(I16, _q15_product))


# --- from narrow lanes to wide ones, and back ---

_HALVES = {"low": 0, "high": 1}
_EXTENSIONS = {"s": "sext", "u": "zext"}


def _half(b: V, x: V, shape: Lanes, half: int, extension: str) -> V:
    """One half of the lanes, each twice as wide."""
    count = shape.lanes // 2
    part = b.shuffle(x, x, range(half * count, (half + 1) * count))
    return b.convert(extension, part, shape.wide.of(shape.wide.type, count).vector)


def _every_second(b: V, x: V, shape: Lanes, first: int, extension: str) -> V:
    part = b.shuffle(x, x, range(first, shape.lanes, 2))
    return b.convert(extension, part, shape.wide.of(shape.wide.type, shape.lanes // 2).vector)


def _extend(shape: Lanes, half: int, extension: str) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        return _half(b, x, shape, half, extension)

    return define


def _extended_product(shape: Lanes, half: int, extension: str) -> Callable[..., V]:
    def define(b: V, x: V, y: V) -> V:
        return b.binary("mul", _half(b, x, shape, half, extension), _half(b, y, shape, half, extension))

    return define


def _pairwise_sum(shape: Lanes, extension: str) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        return b.binary("add", _every_second(b, x, shape, 0, extension), _every_second(b, x, shape, 1, extension))

    return define


def _byte_dot(b: V, x: V, y: V) -> V:
    """Sums of two neighbouring products of bytes each."""
    even, odd = (
        b.binary("mul", _every_second(b, x, I8, first, "sext"), _every_second(b, y, I8, first, "sext"))
        for first in (0, 1)
    )
    return b.binary("add", even, odd)


def _narrow(sign: str) -> Callable[..., V]:
    """Two vectors of signed numbers as one of half the width, saturated."""

    def define(b: V, x: V, y: V) -> V:
        return b.narrowed(x, y, sign)

    return define


for _shape, _to in ((I8, I16), (I16, I32), (I32, I64)):
    for _sign, _extension in _EXTENSIONS.items():
        for _name, _which in _HALVES.items():
            operation(f"{_to.name}.extend_{_name}_{_shape.name}_{_sign}")(
                _on(_to, _extend(_shape, _which, _extension), of=_shape)
            )
            operation(f"{_to.name}.extmul_{_name}_{_shape.name}_{_sign}", commutative=True)(
                _on(_to, _extended_product(_shape, _which, _extension), of=_shape)
            )
        if _to != I64:
            operation(f"{_to.name}.extadd_pairwise_{_shape.name}_{_sign}")(
                _on(_to, _pairwise_sum(_shape, _extension), of=_shape)
            )
            operation(f"{_shape.name}.narrow_{_to.name}_{_sign}")(_on(_shape, _narrow(_sign), of=_to))


@operation("i32x4.dot_i16x8_s", commutative=True)
def dot(b: V, x: V, y: V) -> V:
    return _whole(b, b.sum_products(_lanes(b, x, I16), _lanes(b, y, I16)))


@operation("i16x8.relaxed_dot_i8x16_i7x16_s")
def relaxed_dot(b: V, x: V, y: V) -> V:
    return _whole(b, _byte_dot(b, _lanes(b, x, I8), _lanes(b, y, I8)))


@operation("i32x4.relaxed_dot_i8x16_i7x16_add_s")
def relaxed_dot_add(b: V, x: V, y: V, z: V) -> V:
    sums = _pairwise_sum(I16, "sext")(b, _byte_dot(b, _lanes(b, x, I8), _lanes(b, y, I8)))
    return _whole(b, b.binary("add", sums, _lanes(b, z, I32)))


# --- floating point ---
#
# Of two NaNs the result is the first one, made quiet, as for numbers (see `definitions`). So nothing is commutative.


def _arithmetic(name: str) -> Callable[..., V]:
    def define(b: V, x: V, y: V) -> V:
        return b.arithmetic(name, x, y)

    return define


def _extremum(shape: Lanes, first: str, combine: str) -> Callable[..., V]:
    """As for numbers: see `definitions`."""
    integer = shape.of(f"i{shape.bits}").vector

    def define(b: V, x: V, y: V) -> V:
        bits = b.binary(combine, b.convert("bitcast", x, integer), b.convert("bitcast", y, integer))
        zeros = b.convert("bitcast", bits, x.type)
        otherwise = b.select(b.compare("eq", x, y), zeros, b.arithmetic("add", x, y))
        return b.select(b.compare(first, x, y), x, b.select(b.compare(first, y, x), y, otherwise))

    return define


def _pseudo_extremum(first: str) -> Callable[..., V]:
    """The second operand where it comes first, else the first one."""

    def define(b: V, x: V, y: V) -> V:
        return b.select(b.compare(first, y, x), y, x)

    return define


def _negate(b: V, x: V) -> V:
    return b.negate(x)


_define(FLOATS, "neg", _negate)
for _name, _llvm in {
    "abs": "fabs", "ceil": "ceil", "floor": "floor", "trunc": "trunc", "nearest": "roundeven", "sqrt": "sqrt",
}.items():  # fmt: skip
    _define(FLOATS, _name, _intrinsic(_llvm) if _name == "abs" else _unfolded(_intrinsic(_llvm)))
for _name in ("add", "sub", "mul", "div"):
    _define(FLOATS, _name, _arithmetic(_name))
for _name, _first, _combine in (("min", "lt", "or"), ("max", "gt", "and")):
    _define(FLOATS, f"p{_name}", _pseudo_extremum(_first))
    for _shape in FLOATS:
        for _prefix in ("", "relaxed_"):
            operation(f"{_shape.name}.{_prefix}{_name}")(_on(_shape, _extremum(_shape, _first, _combine)))
for _name in ("eq", "ne", "lt", "gt", "le", "ge"):
    _define(FLOATS, _name, _compare(_name), commutative=_name in ("eq", "ne"))


def _multiply_add(negated: bool) -> Callable[..., V]:
    """x · y + z, or -(x · y) + z, rounded twice: not every processor rounds only once."""

    def define(b: V, x: V, y: V, z: V) -> V:
        return b.arithmetic("add", b.arithmetic("mul", b.negate(x) if negated else x, y), z)

    return define


_define(FLOATS, "relaxed_madd", _multiply_add(False))
_define(FLOATS, "relaxed_nmadd", _multiply_add(True))


# --- conversions ---


def _convert(opcode: str, target: Lanes) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        return b.convert(opcode, x, target.vector)

    return define


def _saturate(target: Lanes, sign: str) -> Callable[..., V]:
    def define(b: V, x: V) -> V:
        return b.intrinsic(f"fpto{sign}i.sat", x, result=target.vector)

    return define


def _then_zeros(define: Callable[..., V]) -> Callable[..., V]:
    """The two lanes that a definition gives, and two that are zero."""

    def followed(b: V, x: V) -> V:
        result = define(b, x)
        return b.shuffle(result, b.const(result.type, 0), range(4))

    return followed


def _of_low(define: Callable[..., V]) -> Callable[..., V]:
    """A definition for the lower two of four lanes."""

    def low(b: V, x: V) -> V:
        return define(b, b.shuffle(x, x, range(2)))

    return low


_LOW_I32 = I32.of("i32", 2)
for _sign in "su":
    for _name in (f"trunc_sat_f32x4_{_sign}", f"relaxed_trunc_f32x4_{_sign}"):
        operation(f"i32x4.{_name}")(_on(I32, _saturate(I32, _sign), of=F32))
    for _name in (f"trunc_sat_f64x2_{_sign}_zero", f"relaxed_trunc_f64x2_{_sign}_zero"):
        operation(f"i32x4.{_name}")(_on(I32, _then_zeros(_saturate(_LOW_I32, _sign)), of=F64))
    operation(f"f32x4.convert_i32x4_{_sign}")(_on(F32, _convert(f"{_sign}itofp", F32), of=I32))
    operation(f"f64x2.convert_low_i32x4_{_sign}")(_on(F64, _of_low(_convert(f"{_sign}itofp", F64)), of=I32))
operation("f32x4.demote_f64x2_zero")(_on(F32, _unfolded(_then_zeros(_convert("fptrunc", F32.of("f32", 2)))), of=F64))
operation("f64x2.promote_low_f32x4")(_on(F64, _unfolded(_of_low(_convert("fpext", F64))), of=F32))


# --- memory: `p` is the checked address ---


@operation("v128.load", kind="load")
def load(b: V, p: V) -> V:
    return b.load(VECTOR, p)


@operation("v128.store", kind="store")
def store(b: V, p: V, x: V) -> None:
    b.store(x, p)


def _load_extended(shape: Lanes, extension: str) -> Callable[..., V]:
    """Eight bytes, each lane twice as wide."""

    def define(b: V, p: V) -> V:
        half = shape.of(shape.type, shape.lanes // 2)
        return _whole(b, b.convert(extension, b.load(half.vector, p), half.wide.vector))

    return define


def _load_splat(shape: Lanes) -> Callable[..., V]:
    def define(b: V, p: V) -> V:
        return _whole(b, b.splat(b.load(shape.type, p), shape.vector))

    return define


def _load_zero(shape: Lanes) -> Callable[..., V]:
    """The first lane; the others are zero."""

    def define(b: V, p: V) -> V:
        return _whole(b, b.insert(b.const(shape.vector, 0), b.load(shape.type, p), b.const("i64", 0)))

    return define


def _load_lane(shape: Lanes) -> Callable[..., V]:
    def define(b: V, p: V, x: V, lane: V) -> V:
        return _whole(b, b.insert(_lanes(b, x, shape), b.load(shape.type, p), lane))

    return define


def _store_lane(shape: Lanes) -> Callable[..., V]:
    def define(b: V, p: V, x: V, lane: V) -> None:
        b.store(b.extract(_lanes(b, x, shape), lane), p)

    return define


for _shape in (I8, I16, I32):
    for _sign, _extension in _EXTENSIONS.items():
        operation(f"v128.load{_shape.bits}x{_shape.lanes // 2}_{_sign}", kind="load")(
            _load_extended(_shape, _extension)
        )
for _shape in INTEGERS:
    operation(f"v128.load{_shape.bits}_splat", kind="load")(_load_splat(_shape))
    operation(f"v128.load{_shape.bits}_lane", kind="load")(_load_lane(_shape))
    operation(f"v128.store{_shape.bits}_lane", kind="store")(_store_lane(_shape))
for _shape in (I32, I64):
    operation(f"v128.load{_shape.bits}_zero", kind="load")(_load_zero(_shape))
