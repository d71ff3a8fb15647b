"""Calls in both directions and the conversion of values."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of

IDENTITY = wl.Instance(
    wl.Module("""(module
      (func (export "i32") (param i32) (result i32) (local.get 0))
      (func (export "i64") (param i64) (result i64) (local.get 0))
      (func (export "f32") (param f32) (result f32) (local.get 0))
      (func (export "f64") (param f64) (result f64) (local.get 0))
      (func (export "externref") (param externref) (result externref) (local.get 0))
      (func (export "funcref") (param funcref) (result funcref) (local.get 0))
      (func (export "f32_bits") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
      (func (export "f64_bits") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
      (func (export "bits_f32") (param i32) (result f32) (f32.reinterpret_i32 (local.get 0)))
      (func (export "bits_f64") (param i64) (result f64) (f64.reinterpret_i64 (local.get 0)))
      (func (export "high") (param i32) (result i64) (i64.extend_i32_u (local.get 0)))
      (func (export "none"))
      (func (export "three") (param i32 f64 i64) (result i64 i32 f64) (local.get 2) (local.get 0) (local.get 1)))""")
).exports


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


@pytest.mark.parametrize("bits", [32, 64])
def test_integers_take_both_ranges_and_come_back_signed(bits: int) -> None:
    function = IDENTITY[f"i{bits}"]
    low, high = -(1 << (bits - 1)), (1 << bits) - 1
    for value in (0, 1, -1, low, high, high >> 1, (high >> 1) + 1, True, False):
        assert function(value) == signed(int(value), bits)
    for value in (low - 1, high + 1, 1 << 200, -(1 << 200)):
        with pytest.raises(OverflowError, match=f"argument 1 of i{bits}: .* out of range for i{bits}"):
            function(value)


@given(st.integers())
def test_any_int_is_exact_or_refused(value: int) -> None:
    for bits in (32, 64):
        function = IDENTITY[f"i{bits}"]
        if -(1 << (bits - 1)) <= value < 1 << bits:
            assert function(value) == signed(value, bits)
        else:
            with pytest.raises(OverflowError):
                function(value)


class Index:
    def __index__(self) -> int:
        return 7


class Float:
    def __float__(self) -> float:
        return 2.5


def test_objects_that_convert() -> None:
    assert IDENTITY.i32(Index()) == 7
    assert IDENTITY.i64(Index()) == 7
    assert IDENTITY.f64(Float()) == 2.5
    assert IDENTITY.f32(Index()) == 7.0


@pytest.mark.parametrize("kind", ["i32", "i64", "f32", "f64"])
@pytest.mark.parametrize("value", ["1", None, [], b"1", 1j])
def test_what_does_not_convert(kind: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"argument 1 of {kind}: {kind} takes"):
        IDENTITY[kind](value)


def test_a_float_is_no_integer() -> None:
    with pytest.raises(TypeError):
        IDENTITY.i32(1.0)


def test_upper_half_of_an_i32_is_zero() -> None:
    assert IDENTITY.high(-1) == 0xFFFFFFFF


@given(st.floats(allow_nan=False))
def test_f64_is_exact(value: float) -> None:
    result = IDENTITY.f64(value)
    assert struct.pack("d", result) == struct.pack("d", value)


@given(st.floats(allow_nan=False, width=32))
def test_f32_is_exact(value: float) -> None:
    assert struct.pack("d", IDENTITY.f32(value)) == struct.pack("d", value)


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=3e38, min_value=-3e38))
def test_f32_rounds(value: float) -> None:
    assert IDENTITY.f32(value) == struct.unpack("f", struct.pack("f", value))[0]


def test_f32_overflows_to_infinity() -> None:
    assert IDENTITY.f32(1e300) == math.inf
    assert IDENTITY.f32(-1e300) == -math.inf


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0xFF812345, 0xFFFFFFFF, 0x7FBFFFFF])
def test_f32_nan_keeps_its_bits(bits: int) -> None:
    assert IDENTITY.f32_bits(IDENTITY.bits_f32(bits)) & 0xFFFFFFFF == bits


@pytest.mark.parametrize("bits", [0x7FF8 << 48, 0x7FF0 << 48 | 1, 0xFFF4 << 48 | 5, (1 << 64) - 1])
def test_f64_nan_keeps_its_bits(bits: int) -> None:
    assert IDENTITY.f64_bits(IDENTITY.bits_f64(bits)) & (1 << 64) - 1 == bits


def test_f64_nan_with_low_payload_stays_a_nan_as_f32() -> None:
    value = struct.unpack("<d", struct.pack("<Q", 0x7FF0 << 48 | 1))[0]
    assert math.isnan(IDENTITY.f32(value))


def test_externref_is_the_same_object() -> None:
    for value in (object(), "text", 5, [1], IDENTITY):
        assert IDENTITY.externref(value) is value
    assert IDENTITY.externref(None) is None


def test_externref_lives_as_long_as_the_store() -> None:
    module = wl.Module("""(module (global $g (mut externref) (ref.null extern))
      (func (export "set") (param externref) (global.set $g (local.get 0)))
      (func (export "get") (result externref) (global.get $g)))""")
    exports = wl.Instance(module).exports
    exports.set(["kept"])
    junk = [[i] for i in range(1000)]
    assert exports.get() == ["kept"]
    assert len(junk) == 1000


def test_funcref() -> None:
    assert IDENTITY.funcref(None) is None
    assert IDENTITY.funcref(IDENTITY.i32) is IDENTITY.i32
    other = wl.Instance(wl.Module('(module (func (export "f")))')).exports.f
    with pytest.raises(ValueError, match="another store"):
        IDENTITY.funcref(other)
    with pytest.raises(TypeError, match=r"takes a wasmloom\.Func"):
        IDENTITY.funcref(print)


def test_no_and_several_results() -> None:
    assert IDENTITY.none() is None
    assert IDENTITY.three(1, 2.5, 3) == (3, 1, 2.5)


def test_arity() -> None:
    with pytest.raises(TypeError, match="i32 takes 1 arguments"):
        IDENTITY.i32()
    with pytest.raises(TypeError, match="2 given"):
        IDENTITY.i32(1, 2)
    with pytest.raises(TypeError):
        IDENTITY.i32(value=1)


def test_many_arguments_and_results() -> None:
    n = 100
    types = " ".join(["i64"] * n)
    gets = " ".join(f"(local.get {i})" for i in range(n))
    module = wl.Module(f"""(module
      (import "e" "f" (func $f (param {types}) (result {types})))
      (func (export "same") (param {types}) (result {types}) {gets})
      (func (export "host") (param {types}) (result {types}) {gets} (call $f)))""")
    exports = wl.Instance(module, {"e": {"f": lambda *numbers: tuple(reversed(numbers))}}).exports
    numbers = tuple(range(-50, n - 50))
    assert exports.same(*numbers) == numbers
    assert exports.host(*numbers) == numbers[::-1]


# --- host functions ---


def host(signature: str, function: Any) -> wl.Func:
    """A guest function that calls `function` with its own arguments."""
    params, results = (part.split() for part in signature.split("->"))
    gets = " ".join(f"(local.get {i})" for i in range(len(params)))
    type = f"(param {' '.join(params)}) (result {' '.join(results)})"
    module = wl.Module(f"""(module (import "e" "f" (func $f {type}))
      (func (export "f") {type} {gets} (call $f)))""")
    result = wl.Instance(module, {"e": {"f": function}}).exports.f
    assert isinstance(result, wl.Func)
    return result


def test_host_function_gets_and_gives_values() -> None:
    seen = []

    def function(*values: object) -> tuple[object, ...]:
        seen.append(values)
        return 2**32 - 1, -5, 0.5, 1e9, "x", None

    call = host("i32 i64 f32 f64 externref funcref -> i32 i64 f32 f64 externref funcref", function)
    assert call(2**32 - 1, 2**64 - 1, 0.1, 0.1, seen, None) == (-1, -5, 0.5, 1e9, "x", None)
    assert seen == [(-1, -1, struct.unpack("f", struct.pack("f", 0.1))[0], 0.1, seen, None)]


def test_host_function_without_results_may_return_anything() -> None:
    assert host("i32 ->", lambda _: "ignored")(1) is None


@pytest.mark.parametrize(
    ("signature", "value", "error"),
    [
        ("-> i32", None, TypeError),
        ("-> i32", 2**32, OverflowError),
        ("-> i32", (1,), TypeError),
        ("-> i32 i32", 1, TypeError),
        ("-> i32 i32", (1, 2, 3), TypeError),
        ("-> i32 i32", (1, "2"), TypeError),
        ("-> i32 i32", "12", TypeError),
        ("-> funcref", print, TypeError),
    ],
)
def test_bad_results(signature: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"host function e\.f"):
        host(signature, lambda: value)()


def test_results_may_be_a_list() -> None:
    assert host("-> i32 i32", lambda: [1, 2])() == (1, 2)


def test_exceptions_pass_unchanged() -> None:
    class Oops(Exception):
        pass

    error = Oops("here")

    def function() -> None:
        raise error

    with pytest.raises(Oops) as caught:
        host("->", function)()
    assert caught.value is error
    assert caught.value.__context__ is None
    names = [entry.name for entry in caught.traceback]
    assert "function" in names


def test_base_exceptions_pass_too() -> None:
    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):

        def function(error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            host("->", function)()


def test_the_store_works_after_an_exception() -> None:
    answers = iter([ValueError("no"), 5])

    def function() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    call = host("-> i32", function)
    with pytest.raises(ValueError):
        call()
    assert call() == 5


def test_exception_in_a_handler_keeps_context() -> None:
    def function() -> None:
        raise ValueError("inner")

    call = host("->", function)
    try:
        raise KeyError("outer")
    except KeyError as outer:
        with pytest.raises(ValueError) as caught:
            call()
        assert caught.value.__context__ is outer


def test_func_from_python() -> None:
    store = wl.Store()
    add = wl.Func(store, "i32 i32 -> i32", lambda a, b: a + b)
    assert add(1, 2) == 3
    assert add(2**32 - 1, 0) == -1
    assert add.type == wl.FuncType((wl.I32, wl.I32), (wl.I32,))
    with pytest.raises(OverflowError):
        add(2**31 - 1, 2**31 - 1 << 2)
    module = wl.Module("""(module (import "m" "add" (func $add (param i32 i32) (result i32)))
      (func (export "twice") (param i32) (result i32) (call $add (local.get 0) (local.get 0))))""")
    assert wl.Instance(module, {"m": {"add": add}}, store=store).exports.twice(21) == 42


def test_func_names() -> None:
    module = wl.Module("""(module (func $inner) (func (export "shown")) (func (export "shown2") (call $inner))
      (table (export "t") funcref (elem 0 3)) (func))""")
    exports = wl.Instance(module).exports
    assert exports.shown.name == "shown"
    assert exports.t[0].name == "inner"
    assert exports.t[1].name == "wasm-function[3]"

    def python_name() -> None:
        pass

    store = wl.Store()
    assert wl.Func(store, "->", python_name).name == "python_name"
    assert wl.Func(store, "->", python_name, name="other").name == "other"
    assert "python_name" in repr(wl.Func(store, "->", python_name))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((None, "->", print), TypeError),
        ((wl.Store(), "i32", print), ValueError),
        ((wl.Store(), "i33 ->", print), ValueError),
        ((wl.Store(), 5, print), TypeError),
        ((wl.Store(), "->", 5), TypeError),
        ((wl.Store(), "i32 " * 1001 + "->", print), ValueError),
    ],
)
def test_bad_func(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        wl.Func(*arguments)


def test_type_spellings() -> None:
    store = wl.Store()
    made = wl.FuncType((wl.I32, wl.F64), (wl.EXTERNREF,))
    for type in ("i32, f64 -> externref", ([wl.I32, "f64"], ["externref"]), made):
        assert wl.Func(store, type, print).type == made


def test_arguments_that_run_guest_code_while_they_are_converted() -> None:
    calls = []

    class Sneaky:
        def __index__(self) -> int:
            calls.append(IDENTITY.three(1, 2.0, 3))
            return 9

    assert IDENTITY.three(Sneaky(), 1.0, Sneaky()) == (9, 9, 1.0)
    assert calls == [(3, 1, 2.0)] * 2


def test_results_that_run_guest_code_while_they_are_converted() -> None:
    class Sneaky:
        def __index__(self) -> int:
            return deep(200)

    module = wl.Module("""(module (import "e" "f" (func $f (result i32 i32)))
      (func (export "f") (result i32 i32) (call $f))
      (func $deep (export "deep") (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
          (else (i32.const 0)))))""")
    exports = wl.Instance(module, {"e": {"f": lambda: (Sneaky(), Sneaky())}}).exports
    deep = exports.deep
    assert exports.f() == (200, 200)


def test_reference_counts_do_not_leak() -> None:
    value = object()
    call = host("externref externref -> externref", lambda a, b: a)
    call(value, value)
    before = sys.getrefcount(value)
    for _ in range(100):
        call(value, value)
    assert sys.getrefcount(value) == before

    def failing(*_: object) -> None:
        raise ValueError

    call = host("externref ->", failing)
    for _ in range(2):
        with pytest.raises(ValueError):
            call(value)
    before = sys.getrefcount(value)
    for _ in range(50):
        with pytest.raises(ValueError):
            call(value)
    assert sys.getrefcount(value) == before


class LongList(list[Any]):
    """Says that it has more than it has."""

    def __len__(self) -> int:
        return 3


class LongTuple(tuple[Any, ...]):
    """The same."""

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize("kind", [LongList, LongTuple])
@pytest.mark.parametrize("name", ENGINES)
def test_results_that_lie_about_their_number(name: str, kind: Callable[[Any], Any]) -> None:
    text = """(module (import "h" "f" (func $f (result i32 f64 externref)))
      (func (export "f") (result i32 f64 externref) (call $f)))"""
    returned: list[Any] = []
    exports = exports_of(text, engine_of(name), {"h": {"f": lambda: kind(returned)}})
    for values in ([], [1], [1, 2.0], [1, 2.0, None, 4]):
        returned[:] = values
        with pytest.raises(TypeError, match="must return a tuple of 3 values"):
            exports.f()
    returned[:] = [1, 2.0, "x"]
    assert exports.f() == (1, 2.0, "x")
