"""JavaScript's string built-ins, by what the proposal says of code units, in every tier."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of

TEXT = """(module
  (type $array (array (mut i16)))
  (import "wasm:js-string" "cast" (func $cast (param externref) (result (ref extern))))
  (import "wasm:js-string" "test" (func $test (param externref) (result i32)))
  (import "wasm:js-string" "fromCharCodeArray"
    (func $from_array (param (ref null $array) i32 i32) (result (ref extern))))
  (import "wasm:js-string" "intoCharCodeArray"
    (func $into_array (param externref (ref null $array) i32) (result i32)))
  (import "wasm:js-string" "fromCharCode" (func $from_code (param i32) (result (ref extern))))
  (import "wasm:js-string" "fromCodePoint" (func $from_point (param i32) (result (ref extern))))
  (import "wasm:js-string" "charCodeAt" (func $code_at (param externref i32) (result i32)))
  (import "wasm:js-string" "codePointAt" (func $point_at (param externref i32) (result i32)))
  (import "wasm:js-string" "length" (func $length (param externref) (result i32)))
  (import "wasm:js-string" "concat" (func $concat (param externref externref) (result (ref extern))))
  (import "wasm:js-string" "substring" (func $substring (param externref i32 i32) (result (ref extern))))
  (import "wasm:js-string" "equals" (func $equals (param externref externref) (result i32)))
  (import "wasm:js-string" "compare" (func $compare (param externref externref) (result i32)))
  (import "'" "constant \\u{1F600}" (global $constant externref))
  (import "'" "" (global $empty (ref extern)))
  (func (export "cast") (param externref) (result externref) (call $cast (local.get 0)))
  (func (export "test") (param externref) (result i32) (call $test (local.get 0)))
  (func (export "code") (param i32) (result externref) (call $from_code (local.get 0)))
  (func (export "point") (param i32) (result externref) (call $from_point (local.get 0)))
  (func (export "code_at") (param externref i32) (result i32) (call $code_at (local.get 0) (local.get 1)))
  (func (export "point_at") (param externref i32) (result i32) (call $point_at (local.get 0) (local.get 1)))
  (func (export "length") (param externref) (result i32) (call $length (local.get 0)))
  (func (export "concat") (param externref externref) (result externref)
    (call $concat (local.get 0) (local.get 1)))
  (func (export "substring") (param externref i32 i32) (result externref)
    (call $substring (local.get 0) (local.get 1) (local.get 2)))
  (func (export "equals") (param externref externref) (result i32) (call $equals (local.get 0) (local.get 1)))
  (func (export "compare") (param externref externref) (result i32) (call $compare (local.get 0) (local.get 1)))
  (func (export "array") (param i32) (result (ref $array)) (array.new_default $array (local.get 0)))
  (func (export "from_array") (param (ref null $array) i32 i32) (result externref)
    (call $from_array (local.get 0) (local.get 1) (local.get 2)))
  (func (export "into_array") (param externref (ref null $array) i32) (result i32)
    (call $into_array (local.get 0) (local.get 1) (local.get 2)))
  (func (export "reversed") (param $s externref) (result externref) (local $i i32) (local $r externref)
    (local.set $r (global.get $empty))
    (local.set $i (call $length (local.get $s)))
    (block $end
      (loop $l
        (br_if $end (i32.eqz (local.get $i)))
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (local.set $r (call $concat (local.get $r)
          (call $from_code (call $code_at (local.get $s) (local.get $i)))))
        (br $l)))
    (local.get $r))
  (func (export "constant") (result externref) (global.get $constant)))"""
#: Code units: of texts, of pairs, halves of these, at the ends of ranges.
UNIT = st.sampled_from(
    [*b"ab\n", 0, 0xFF, 0x100, 0xD7FF, 0xD800, 0xD83D, 0xDBFF, 0xDC00, 0xDE00, 0xDFFF, 0xE000, 0xFFFF]
)
UNITS = st.lists(UNIT, max_size=6)


def joined(units: list[int]) -> str:
    """The text of some code units: pairs are one code point."""
    return b"".join(unit.to_bytes(2, "little") for unit in units).decode("utf-16-le", "surrogatepass")


def apart(units: list[int]) -> str:
    """The same string for JavaScript, in which no pair is one code point."""
    return "".join(map(chr, units))


def units_of(string: object) -> list[int]:
    assert isinstance(string, str)
    return list(memoryview(string.encode("utf-16-le", "surrogatepass")).cast("H"))


@pytest.fixture(scope="module", params=ENGINES)
def guest(request: pytest.FixtureRequest) -> wl.Instance:
    engine = engine_of(request.param)
    store = wl.Store(engine)
    return wl.Instance(wl.Module(TEXT, engine), wl.js_strings(store), store=store)


def outcome(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except wl.Trap as trap:
        return trap.code


@given(units=UNITS, other=UNITS, together=st.booleans(), start=st.integers(-2, 8), end=st.integers(-2, 8))
def test_as_sequences_of_code_units(
    guest: wl.Instance, units: list[int], other: list[int], together: bool, start: int, end: int
) -> None:
    exports = guest.exports
    string, second = joined(units) if together else apart(units), joined(other)
    assert exports.length(string) == len(units) and exports.test(string) == 1 and exports.cast(string) == string
    for i in range(len(units)):
        assert exports.code_at(string, i) == units[i]
        pair = units[i] >> 10 == 0x36 and i + 1 < len(units) and units[i + 1] >> 10 == 0x37
        assert exports.point_at(string, i) == (ord(joined(units[i : i + 2])) if pair else units[i])
    for i in (len(units), -1):
        assert outcome(exports.code_at, string, i) == outcome(exports.point_at, string, i) == "unreachable"
    assert units_of(exports.concat(string, second)) == units + other
    assert exports.concat(joined(units), second) == joined(units + other)
    low, high = start & 0xFFFFFFFF, end & 0xFFFFFFFF
    assert units_of(exports.substring(string, start, end)) == (units[low:high] if low <= high else [])
    for a, b in ((units, other), (other, units), (units, units)):
        assert exports.equals(joined(a), apart(b)) == (a == b)
        assert exports.compare(apart(a), joined(b)) == (a > b) - (a < b)
    assert units_of(exports.reversed(string)) == units[::-1]
    array = exports.array(8)
    fits = low + len(units) <= 8
    assert outcome(exports.into_array, string, array, start) == (len(units) if fits else "unreachable")
    held = [0] * 8
    if fits:
        held[low : low + len(units)] = units
    assert array[:] == held
    found = outcome(exports.from_array, array, start, end)
    assert found == (joined(held[low:high]) if low <= high <= 8 else "unreachable")


def test_numbers(guest: wl.Instance) -> None:
    exports = guest.exports
    assert exports.code(0x1F600) == "\uf600" and exports.code(-1) == "\uffff" and exports.code(65) == "A"
    assert exports.point(0x1F600) == "😀" and exports.point(0xD800) == "\ud800"
    for wrong in (0x110000, -1):
        with pytest.raises(wl.Trap, match=r"fromCodePoint: .* is no code point"):
            exports.point(wrong)


def test_what_is_no_string(guest: wl.Instance) -> None:
    exports = guest.exports
    array = exports.array(2)
    for wrong in (None, 5, 1.5, b"text", ["text"], array):
        assert exports.test(wrong) == 0
        calls: list[tuple[Any, ...]] = [
            (exports.cast, wrong),
            (exports.length, wrong),
            (exports.code_at, wrong, 0),
            (exports.point_at, wrong, 0),
            (exports.substring, wrong, 0, 0),
            (exports.compare, wrong, "a"),
            (exports.compare, "a", wrong),
            (exports.concat, wrong, "a"),
            (exports.concat, "a", wrong),
            (exports.into_array, wrong, array, 0),
        ]
        if wrong is not None:
            calls += [(exports.equals, wrong, "a"), (exports.equals, None, wrong)]
        for call, *arguments in calls:
            with pytest.raises(wl.Trap, match="expected a string, not") as caught:
                call(*arguments)
            assert caught.value.code == "unreachable"
    assert exports.equals(None, None) == 1 and exports.equals(None, "a") == exports.equals("a", None) == 0
    assert outcome(exports.from_array, None, 0, 0) == outcome(exports.into_array, "", None, 0) == "unreachable"


def test_constants(guest: wl.Instance) -> None:
    assert guest.exports.constant() == "constant 😀"
    store = wl.Store(guest.store.engine)
    module = wl.Module('(module (import "S" "x" (global $x externref)) (export "x" (global $x)))', store.engine)
    assert wl.Instance(module, wl.js_strings(store, "S"), store=store).exports.x.value == "x"
    with pytest.raises(wl.LinkError, match="unknown import"):
        wl.Instance(module, wl.js_strings(store, None), store=store)
    with pytest.raises(TypeError, match="incorrect type"):
        wl.js_strings("store")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="incorrect type"):
        wl.js_strings(store, 5)  # type: ignore[arg-type]


def test_types_are_checked(guest: wl.Instance) -> None:
    store = wl.Store(guest.store.engine)
    for wrong in ("(param externref) (result i64)", "(param i32) (result i32)", "(param externref externref)"):
        module = wl.Module(f'(module (import "wasm:js-string" "length" (func {wrong})))', store.engine)
        with pytest.raises(wl.LinkError, match=r"incompatible import type for .*length"):
            wl.Instance(module, wl.js_strings(store), store=store)
    module = wl.Module('(module (import "wasm:js-string" "nothing" (func)))', store.engine)
    with pytest.raises(wl.LinkError, match="unknown import"):
        wl.Instance(module, wl.js_strings(store), store=store)


def test_long_strings_count_as_the_guests_memory(guest: wl.Instance) -> None:
    engine = guest.store.engine
    text = """(module
      (import "wasm:js-string" "concat" (func $concat (param externref externref) (result (ref extern))))
      (func (export "grow") (param $s externref) (loop $l
        (local.set $s (call $concat (local.get $s) (local.get $s))) (br $l))))"""
    store = wl.Store(engine, memory_limit=8 << 20)
    grow = wl.Instance(wl.Module(text, engine), wl.js_strings(store), store=store).exports.grow
    with pytest.raises(wl.Trap, match="out of memory"):
        grow("ab")
    gc.collect()
    store.gc()
    assert store.memory_used < 1 << 20
