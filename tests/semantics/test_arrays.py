"""New arrays of all sizes and elements, and what is done to whole arrays, in all tiers; large ones can be stopped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from tests.patience import attempts
from tests.semantics.test_objects import EDGES, as_bits, fields
from wasmloom.runtime.collector import collect_always

#: Lengths that are known when code is made: around words, size classes, and what is made without a call.
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 62, 63, 64, 124, 125, 248, 249, 496, 497, 1000)
FIXED = (0, 1, 2, 5, 8, 31, 33)


def arrays_module() -> str:
    """For each type of elements: functions that make arrays in all ways, of a value or by numbers from it on."""
    parts = ["(module"]
    for s, _ in fields():
        value = as_bits(s, "(local.get 0)")
        parts.append(f"""(type $a_{s} (array (mut {s})))
          (func (export "new {s}") (param i64 i32) (result (ref $a_{s}))
            (array.new $a_{s} {value} (local.get 1)))
          (func (export "default {s}") (param i64 i32) (result (ref $a_{s}))
            (array.new_default $a_{s} (local.get 1)))
          (func (export "fill {s}") (param i64 i32) (result (ref $a_{s})) (local $a (ref $a_{s}))
            (local.set $a (array.new_default $a_{s} (local.get 1)))
            (array.fill $a_{s} (local.get $a) (i32.const 0) {value} (local.get 1))
            (local.get $a))""")
        for length in LENGTHS:
            parts.append(f"""
              (func (export "new {s} {length}") (param i64) (result (ref $a_{s}))
                (array.new $a_{s} {value} (i32.const {length})))
              (func (export "default {s} {length}") (param i64) (result (ref $a_{s}))
                (array.new_default $a_{s} (i32.const {length})))""")
        for length in FIXED:
            items = " ".join(as_bits(s, f"(i64.add (local.get 0) (i64.const {i}))") for i in range(length))
            parts.append(f"""
              (func (export "fixed {s} {length}") (param i64) (result (ref $a_{s}))
                (array.new_fixed $a_{s} {length} {items}))""")
    return "\n".join(parts) + ")"


def contents(array: Any, storage: str, size: int) -> bytes:
    """An array's elements as bytes."""
    if storage == "v128":
        return b"".join(item if isinstance(item, bytes) else int(item).to_bytes(16, "little") for item in array)
    return bytes(memoryview(array).cast("B"))


def of_bits(bits: int, size: int) -> bytes:
    """The bytes of an element whose value is made of an i64."""
    word = (bits & ((1 << 64) - 1)).to_bytes(8, "little")
    return word * 2 if size == 16 else word[:size]


@pytest.mark.parametrize("always", [False, True], ids=["at times", "always"])
@pytest.mark.parametrize("name", ENGINES)
def test_new_arrays(name: str, always: bool) -> None:
    exports = exports_of(arrays_module(), engine_of(name))
    collect_always(exports["new i32"].store, always)
    kept = []
    for s, size in fields():
        for number, length in enumerate(LENGTHS):
            bits = EDGES[(number + size) % len(EDGES)]
            element, zero = of_bits(bits, size), bytes(size)
            for what, args, wanted in (
                (f"new {s}", (bits, length), element), (f"new {s} {length}", (bits,), element),
                (f"default {s}", (bits, length), zero), (f"default {s} {length}", (bits,), zero),
                (f"fill {s}", (bits, length), element),
            ):  # fmt: skip
                found = exports[what](*args)
                assert (len(found), contents(found, s, size)) == (length, wanted * length), what
                kept.append((found, s, size, wanted * length))
        for length in FIXED:
            found = exports[f"fixed {s} {length}"](EDGES[4])
            wanted = b"".join(of_bits(EDGES[4] + i, size) for i in range(length))
            assert contents(found, s, size) == wanted
            kept.append((found, s, size, wanted))
    for found, s, size, wanted in kept:  # none lies where another one does
        assert contents(found, s, size) == wanted


@pytest.mark.parametrize("name", ENGINES)
def test_arrays_that_are_too_long(name: str) -> None:
    exports = exports_of(arrays_module(), engine_of(name), memory_limit=4 << 20)
    for length in (-1, 1 << 31, (1 << 20) + 1):
        for what in ("new i64", "default v128"):
            assert outcome_of(exports[what], 0, length)[:2] == ("trap", "out of memory")
    assert len(exports["new i64"](7, 1000)) == 1000


REFERENCES = """(module
  (type $box (struct (field i32))) (type $list (array (mut (ref null $box))))
  (func (export "lists") (param $n i32) (result i32) (local $l (ref $list)) (local $i i32) (local $sum i32)
    (loop $again
      (local.set $l (array.new $list (struct.new $box (local.get $n)) (local.get $n)))
      (drop (array.new_fixed $list 3 (ref.null $box) (struct.new $box (i32.const 9)) (ref.null $box)))
      (drop (array.new_default $list (local.get $n)))
      (local.set $i (i32.const 0))
      (loop $look
        (local.set $sum (i32.add (local.get $sum)
          (struct.get $box 0 (array.get $list (local.get $l) (local.get $i)))))
        (br_if $look (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum)))"""


@pytest.mark.parametrize("always", [False, True], ids=["at times", "always"])
@pytest.mark.parametrize("name", ENGINES)
def test_arrays_of_references(name: str, always: bool) -> None:
    lists = exports_of(REFERENCES, engine_of(name)).lists
    collect_always(lists.store, always)
    assert lists(80) == sum(n * n for n in range(1, 81))


LARGE = """(module
  (type $bytes (array (mut i8))) (type $words (array (mut i64)))
  (global $a (mut (ref null $bytes)) (ref.null $bytes))
  (func (export "make") (param i32) (global.set $a (array.new $bytes (i32.const 1) (local.get 0))))
  (func (export "copies") (param $n i32) (local $half i32)
    (local.set $half (i32.shr_u (array.len (global.get $a)) (i32.const 1)))
    (loop $again
      (array.copy $bytes $bytes (global.get $a) (local.get $half) (global.get $a) (i32.const 0) (local.get $half))
      (array.fill $bytes (global.get $a) (i32.const 0) (local.get $n) (local.get $half))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "once") (param $value i32)
    (array.fill $bytes (global.get $a) (i32.const 0) (local.get $value) (array.len (global.get $a))))
  (func (export "fresh") (param i32) (result (ref $words)) (array.new $words (i64.const -1) (local.get 0)))
  (func (export "at") (param i32) (result i32) (array.get_u $bytes (global.get $a) (local.get 0))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_large_arrays(name: str) -> None:
    """Copies and fills of more than a slice, which overlap and don't."""
    exports = exports_of(LARGE, engine_of(name))
    size = 40 << 20
    exports.make(size)
    exports.copies(3)
    assert [exports.at(i) for i in (0, size // 2 - 1, size // 2, size - 1)] == [1, 1, 2, 2]
    exports.once(7)
    assert {exports.at(i) for i in range(0, size, 999_983)} == {7}
    made = memoryview(exports.fresh(5 << 20))
    assert made[0] == made[-1] == -1


@pytest.mark.parametrize("name", ENGINES)
def test_large_arrays_can_be_stopped(name: str) -> None:
    """A timeout reaches a guest in the middle of one instruction."""

    def is_stopped() -> bool:
        """Whether it didn't come to the end. It may, when the ticker comes late."""
        size = 128 << 20
        exports = exports_of(LARGE, engine_of(name))
        store = exports.once.store
        store.timeout = None
        exports.make(size)
        store.timeout = 0.001
        try:
            exports.once(2)
        except wl.Trap as trap:
            assert trap.code == "timeout" and trap.frames
        store.timeout = None
        return bool(exports.at(size - 1) == 1)

    assert any(is_stopped() for _ in attempts())


def copies_module() -> str:
    parts = ["(module"]
    for s, _ in fields():
        parts.append(f"""(type $a_{s} (array (mut {s})))
          (func (export "make {s}") (param i64 i32) (result (ref $a_{s})) (local $a (ref $a_{s})) (local $i i32)
            (local.set $a (array.new_default $a_{s} (local.get 1)))
            (loop $l
              (if (i32.lt_u (local.get $i) (local.get 1))
                (then
                  (array.set $a_{s} (local.get $a) (local.get $i)
                    {as_bits(s, '(i64.add (local.get 0) (i64.extend_i32_u (local.get $i)))')})
                  (local.set $i (i32.add (local.get $i) (i32.const 1)))
                  (br $l))))
            (local.get $a))
          (func (export "copy {s}") (param (ref null $a_{s}) i32 (ref null $a_{s}) i32 i32)
            (array.copy $a_{s} $a_{s} (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))""")
    return "\n".join(parts) + ")"


NUMBERS = st.one_of(st.integers(0, 24), st.sampled_from([-1, 1 << 31, (1 << 31) - 1]))


@pytest.fixture(scope="module", params=ENGINES)
def copies(request: pytest.FixtureRequest) -> Any:
    return exports_of(copies_module(), engine_of(request.param))


@settings(max_examples=60)
@given(
    field=st.sampled_from(list(fields())), lengths=st.tuples(st.integers(0, 24), st.integers(0, 24)),
    to=st.integers(0, 2), origin=st.integers(0, 2), target=NUMBERS, source=NUMBERS, count=NUMBERS,
)  # fmt: skip
def test_copies(
    copies: Any, field: tuple[str, int], lengths: tuple[int, int], to: int, origin: int, target: int, source: int,
    count: int,
) -> None:  # fmt: skip
    """Within an array in both directions, from one to another one, beyond ends, and where one is null."""
    s, size = field
    arrays = [copies[f"make {s}"](100 * number, length) for number, length in enumerate(lengths)] + [None]
    model = [[of_bits(100 * number + i, size) for i in range(length)] for number, length in enumerate(lengths)]
    outcome = outcome_of(copies[f"copy {s}"], arrays[to], target, arrays[origin], source, count)[:2]
    if to == 2 or origin == 2:
        assert outcome == ("trap", "null array reference")
    else:
        ends = [at % (1 << 32) + count % (1 << 32) for at in (target, source)]
        if ends[0] > lengths[to] or ends[1] > lengths[origin]:
            assert outcome == ("trap", "out of bounds array access")
        else:
            assert outcome == ("result", None)
            model[to][target : ends[0]] = model[origin][source : ends[1]]
    for array, wanted in zip(arrays, model, strict=False):
        assert contents(array, s, size) == b"".join(wanted)
