"""Vectors wherever values can be: arguments, results, locals, globals, blocks, exceptions, continuations, the host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from tests.tiers import replacing
from wasmloom.baseline.mixing import set_mixing
from wasmloom.tiers import mixed
from wasmloom.tiers.change import change_soon

pytestmark = pytest.mark.usefixtures("code_at_once")


@pytest.fixture(params=[*ENGINES, "turns"])
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """All ways to run code; in one, code and handlers take turns."""
    before = set_mixing(request.param == "turns")
    yield "baseline" if request.param == "turns" else request.param
    set_mixing(before)


def v(number: int) -> bytes:
    """A vector, whose halves differ."""
    return number.to_bytes(8, "little") + (number * 0x0101 + 7).to_bytes(8, "little")


A, B, C, D = (v(number) for number in (1, 2, 0x1234_5678_9ABC, 4))


def test_arguments_and_results(tier: str) -> None:
    exports = exports_of(
        """(module
        (type $f (func (param v128 i32 v128 f64 v128) (result v128 i32 v128 f64 v128)))
        (table funcref (elem $back))
        (func $back (type $f)
          (local.get 4) (local.get 1) (local.get 0) (local.get 3) (local.get 2))
        (func (export "direct") (type $f)
          (call $back (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))
        (func (export "indirect") (type $f)
          (call_indirect (type $f)
            (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (i32.const 0)))
        (func (export "tail") (type $f)
          (return_call $back (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)))
        (func (export "one") (param i64 v128) (result v128) (local.get 1))
        (func (export "second") (param v128) (result i32 v128) (i32.const 5) (local.get 0)))""",
        engine_of(tier),
    )
    for name in ("direct", "indirect", "tail"):
        assert exports[name](A, 7, B, 2.5, C) == (C, 7, A, 2.5, B)
    assert exports.one(3, C) == C
    assert exports.second(C) == (5, C)


def test_recursion_with_many(tier: str) -> None:
    """More than there are registers, at each of many frames."""
    params = " ".join(["v128"] * 12)
    kept = " ".join(f"(local.get {i})" for i in range(2, 13))
    exports = exports_of(
        f"""(module (func $f (export "f") (param i32 {params}) (result v128 v128)
        (if (result v128 v128) (i32.eqz (local.get 0))
          (then (local.get 1) (local.get 12))
          (else (call $f (i32.sub (local.get 0) (i32.const 1)) {kept} (local.get 1))))))""",
        engine_of(tier),
    )
    given = [v(i) for i in range(12)]
    for count in (0, 1, 5, 12, 100):
        turned = given[count % 12 :] + given[: count % 12]
        assert exports.f(count, *given) == (turned[0], turned[-1])


def test_control(tier: str) -> None:
    exports = exports_of(
        """(module
        (global $g (mut v128) (v128.const i64x2 1 2))
        (func (export "branches") (param i32 v128 v128) (result v128)
          (block $b (result v128)
            (block $a (result v128)
              (br_table $a $b $a (local.get 1) (local.get 0)))
            (drop) (local.get 2)))
        (func (export "if") (param i32 v128) (result v128 v128)
          (local.get 1) (local.get 0)
          (if (param v128) (result v128 v128) (then (i64x2.add (local.get 1) (local.get 1)))
            (else (v128.const i64x2 0 0))))
        (func (export "turns") (param i32 v128) (result v128) (local v128)
          (local.get 2)
          (loop $l (param v128) (result v128)
            (i64x2.add (local.get 1))
            (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func (export "swap") (param v128 v128) (result v128 v128)
          (local.get 0) (local.set 0 (local.get 1)) (local.set 1) (local.get 0) (local.get 1))
        (func (export "tee") (param v128) (result v128 v128) (local i32 v128)
          (local.tee 2 (v128.not (local.get 0))) (local.get 2))
        (func (export "chosen") (param v128 v128 i32) (result v128)
          (select (result v128) (local.get 0) (v128.or (local.get 1) (local.get 1)) (local.get 2)))
        (func (export "dropped") (param v128) (result i32) (i32.const 3) (v128.not (local.get 0)) (drop))
        (func (export "global") (param v128) (result v128 v128)
          (global.get $g) (global.set $g (local.get 0)) (global.get $g))
        (func (export "returned") (param v128 i32) (result v128)
          (if (local.get 1) (then (return (v128.not (v128.not (local.get 0)))))) (v128.const i64x2 -1 -1))
        (func (export "zero") (result v128) (local i32 v128 f64 v128) (v128.or (local.get 1) (local.get 3))))""",
        engine_of(tier),
    )
    assert [exports.branches(i, A, B) for i in range(4)] == [B, A, B, B]
    twice = bytes(16)
    for half in (0, 8):
        number = 2 * int.from_bytes(C[half : half + 8], "little")
        twice = twice[:half] + number.to_bytes(8, "little") + twice[half + 8 :]
    assert exports["if"](1, C) == (C, twice)
    assert exports["if"](0, C) == (C, bytes(16))
    assert exports.turns(2, C) == twice
    assert exports.swap(A, B) == (B, A)
    assert exports.tee(bytes(16)) == (b"\xff" * 16,) * 2
    assert [exports.chosen(A, B, i) for i in (0, 1)] == [B, A]
    assert exports.dropped(A) == 3
    first = (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
    assert exports["global"](C) == (first, C)
    assert exports["global"](D) == (C, D)
    assert [exports.returned(D, i) for i in (0, 1)] == [b"\xff" * 16, D]
    assert exports.zero() == bytes(16)


EXCEPTIONS = """(module
  (import "m" "throws" (func $throws (param v128)))
  (tag $t (export "t") (param i32 v128 f32 v128))
  (func $thrower (param i32 v128 v128) (throw $t (local.get 0) (local.get 1) (f32.const 1.5) (local.get 2)))
  (func (export "caught") (param i32 v128 v128) (result i32 v128 f32 v128)
    (block (result i32 v128 f32 v128) (try_table (catch $t 0) (call $thrower (local.get 0) (local.get 1) (local.get 2)))
    (unreachable)))
  (func (export "from_host") (param v128) (result v128)
    (block (result i32 v128 f32 v128) (try_table (catch $t 0) (call $throws (local.get 0))) (unreachable))
    (drop) (drop) (local.set 0) (drop) (local.get 0))
  (func (export "throws") (param i32 v128 v128) (call $thrower (local.get 0) (local.get 1) (local.get 2))))"""


def test_exceptions(tier: str) -> None:
    def throws(vector: bytes) -> None:
        raise wl.WasmException(exports.t, 1, vector, 0.5, A)

    exports = exports_of(EXCEPTIONS, engine_of(tier), {"m": {"throws": throws}})
    assert exports.caught(3, C, D) == (3, C, 1.5, D)
    assert exports.from_host(C) == C
    with pytest.raises(wl.WasmException) as caught:
        exports.throws(4, B, C)
    assert caught.value.payload == (4, B, 1.5, C)


CONTINUATIONS = """(module
  (type $f (func (param v128 i32 v128) (result v128 v128))) (type $c (cont $f))
  (type $rest (func (param v128) (result v128 v128))) (type $r (cont $rest))
  (type $back (func (param v128 f64) (result v128 v128))) (type $b (cont $back))
  (tag $out (param v128 i64 v128) (result v128 f64))
  (elem declare func $g)
  (func $g (type $f) (local v128)
    (suspend $out (local.get 2) (i64.extend_i32_u (local.get 1)) (local.get 0))
    (drop) (local.set 3)
    (suspend $out (v128.not (local.get 3)) (i64.const 9) (v128.or (local.get 0) (local.get 2)))
    (drop) (local.get 0))
  (func (export "run") (param v128 v128 v128) (result v128 i64 v128 v128 i64 v128 v128 v128)
    (local $k (ref null $b))
    (block $first (result v128 i64 v128 (ref $b))
      (resume $r (on $out $first) (local.get 1)
        (cont.bind $c $r (local.get 0) (i32.const 5) (cont.new $c (ref.func $g))))
      (unreachable))
    (local.set $k)
    (block $second (result v128 i64 v128 (ref $b))
      (resume $b (on $out $second) (local.get 2) (f64.const 1) (local.get $k))
      (unreachable))
    (local.set $k)
    (resume $b (local.get 2) (f64.const 2) (local.get $k))))"""


def test_continuations(tier: str) -> None:
    exports = exports_of(CONTINUATIONS, engine_of(tier))
    either = bytes(x | y for x, y in zip(A, B, strict=True))
    inverse = bytes(x ^ 0xFF for x in C)
    for _ in range(3):
        assert exports.run(A, B, C) == (B, 5, A, inverse, 9, either, C, A)


SYMMETRIC = """(module
  (rec (type $f (func (param v128 i32 (ref null $c)) (result v128))) (type $c (cont $f)))
  (type $start (func (param v128) (result v128)))
  (tag $t (result v128))
  (elem declare func $other $main)
  (func $other (type $f) (local $back v128)
    (switch $c $t (v128.not (local.get 0)) (i32.add (local.get 1) (i32.const 1)) (local.get 2))
    (drop) (drop))
  (func $main (type $f)
    (switch $c $t (local.get 0) (local.get 1) (cont.new $c (ref.func $other)))
    (drop) (drop))
  (func (export "run") (param v128 i32) (result v128)
    (resume $c (on $t switch) (local.get 0) (local.get 1) (ref.null $c) (cont.new $c (ref.func $main)))))"""


def test_switches(tier: str) -> None:
    assert exports_of(SYMMETRIC, engine_of(tier)).run(C, 1) == bytes(x ^ 0xFF for x in C)


def test_the_host(tier: str) -> None:
    seen: list[Any] = []

    def host(a: bytes, b: int, c: bytes) -> tuple[bytes, float, bytes]:
        seen.append((a, b, c))
        return c, 1.5, a

    types = "(param v128 i32 v128) (result v128 f64 v128)"
    exports = exports_of(
        f"""(module (import "m" "host" (func $host {types}))
        (import "m" "same" (func $same (param v128) (result v128)))
        (func (export "f") {types} (call $host (local.get 0) (local.get 1) (local.get 2)))
        (func (export "g") (param v128) (result v128) (v128.not (call $same (v128.not (local.get 0)))))
        (export "host" (func $host)))""",
        engine_of(tier),
        {"m": {"host": host, "same": lambda x: x}},
    )
    assert exports.f(A, 3, C) == (C, 1.5, A)
    assert exports.host(B, 4, D) == (D, 1.5, B)
    assert exports.g(C) == C
    assert seen == [(A, 3, C), (B, 4, D)]
    refused = ((7, TypeError), ("x" * 16, TypeError), (None, TypeError), (b"x", ValueError), (bytes(17), ValueError))
    for given, error in refused:
        with pytest.raises(error, match="v128 takes 16 bytes"):
            exports.g(given)
    assert exports.g(bytearray(C)) == C
    assert exports.g(memoryview(bytes(8) + C)[8:24]) == C


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "compiler"])
def test_calls_that_wait(tier: str) -> None:
    async def host(vector: bytes, number: int) -> tuple[int, bytes]:
        await asyncio.sleep(0)
        return number + 1, vector

    exports = exports_of(
        """(module (import "m" "host" (func $host (param v128 i32) (result i32 v128)))
        (func (export "f") (param i32 v128 v128) (result v128 i32 v128)
          (local.get 1) (call $host (v128.or (local.get 2) (local.get 2)) (local.get 0))))""",
        engine_of(tier),
        {"m": {"host": host}},
    )
    assert asyncio.run(exports.f.call_async(6, A, C)) == (A, 7, C)


def test_globals() -> None:
    store = wl.Store(wl.Engine())
    shared = wl.Global(store, "mut v128", A)
    text = """(module (import "m" "g" (global $g (mut v128))) (import "m" "k" (global $k v128))
      (global $h (export "h") v128 (global.get $k))
      (func (export "set") (param v128) (global.set $g (local.get 0))))"""
    imports = {"m": {"g": shared, "k": wl.Global(store, "v128", C)}}
    instance = wl.Instance(wl.Module(text, store.engine), imports, store=store)
    assert instance.exports.h.value == C
    instance.exports.set(D)
    assert shared.value == D
    shared.value = B
    assert shared.value == B
    with pytest.raises(ValueError, match="16 bytes"):
        shared.value = b""
    assert shared.value == B


MANY = 1000
_MANY = " ".join(["v128"] * MANY)
_FEWER = " ".join(["v128"] * (MANY - 1))
_ALL = " ".join(f"(local.get {i})" for i in range(MANY))
MOST = f"""(module
  (type $f (func (param {_MANY}) (result {_MANY}))) (type $c (cont $f))
  (import "m" "h" (func $h (type $f)))
  (import "m" "tick" (func $tick (result i32)))
  (tag $e (param {_MANY})) (tag $s (param {_FEWER}) (result {_MANY}))
  (table funcref (elem $same)) (elem declare func $suspends)
  (func $same (type $f) {_ALL})
  (func (export "direct") (type $f) (call $same {_ALL}))
  (func (export "tail") (type $f) (return_call $same {_ALL}))
  (func (export "indirect") (type $f) (call_indirect (type $f) {_ALL} (i32.const 0)))
  (func (export "tail_indirect") (type $f) (return_call_indirect (type $f) {_ALL} (i32.const 0)))
  (func (export "host") (type $f) (call $h {_ALL}))
  (func (export "thrown") (type $f)
    (block (result {_MANY}) (try_table (catch $e 0) (throw $e {_ALL})) (unreachable)))
  (func $suspends (type $f) {_ALL} (drop) (suspend $s))
  (func (export "resumed") (type $f) (local $k (ref null $c))
    (block $out (result {_FEWER} (ref $c))
      (resume $c (on $s $out) {_ALL} (cont.new $c (ref.func $suspends))) (unreachable))
    (local.set $k)
    (resume $c (local.get {MANY - 1}) (local.get $k)))
  (func (export "loop") (type $f)
    (loop (br_if 0 (call $tick))) {_ALL}))"""


def most(tier: str, tick: Any) -> Any:
    """The exports of that module."""
    return exports_of(MOST, engine_of(tier), {"m": {"h": lambda *values: values, "tick": tick}})


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "compiler", "libcall"])
def test_as_many_as_there_can_be(tier: str) -> None:
    """They take twice as many words as other values."""
    exports = most(tier, lambda: 0)
    given = tuple(v(i) for i in range(MANY))
    for name in ("direct", "tail", "indirect", "tail_indirect", "host", "thrown", "resumed", "loop"):
        assert exports[name](*given) == given, name


def test_as_many_as_there_can_be_go_on_as_compiled_code() -> None:
    engine = wl.Engine(tier="auto", threshold=1 << 30, cache=False)
    store = wl.Store(engine)
    ticks = iter((1, 1, 0))

    def tick() -> int:
        number = next(ticks)
        if number:
            change_soon(store)
        return number

    imports = {"m": {"h": lambda *values: values, "tick": tick}}
    exports = wl.Instance(wl.Module(MOST, engine), imports, store=store).exports
    given = tuple(v(i) for i in range(MANY))
    assert exports.loop(*given) == given
    assert store.tier_name == "compiler"


# --- from one way to run code to another ---

LONG = """(module (import "m" "host" (func $host (result i32)))
  (func $inner (param v128 i32) (result v128) (local v128 v128)
    (local.set 2 (local.get 0))
    (loop $l
      (local.set 3 (i64x2.sub (local.get 2) (local.get 3)))
      (local.set 2 (i64x2.add (local.get 2) (i64x2.splat (i64.const 3))))
      (drop (call $host))
      (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (v128.xor (local.get 2) (local.get 3)))
  (func (export "f") (param v128 v128 i32) (result v128 v128)
    (local.get 0)
    (v128.xor (v128.not (local.get 1)) (call $inner (local.get 1) (local.get 2)))))"""


@pytest.mark.parametrize("at", range(1, 6))
def test_guests_go_on_as_compiled_code(at: int) -> None:
    calls = 0

    def host() -> int:
        nonlocal calls
        calls += 1
        if calls == at:
            change_soon(store, at % 2)
        return calls

    wanted = exports_of(LONG, wl.Engine(), {"m": {"host": lambda: 0}}).f(A, C, 9)
    engine = wl.Engine(tier="auto", threshold=1 << 30, cache=False)
    store = wl.Store(engine)
    exports = wl.Instance(wl.Module(LONG, engine), {"m": {"host": host}}, store=store).exports
    assert exports.f(A, C, 9) == wanted
    assert store.tier_name == "compiler"


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1]])
@pytest.mark.parametrize("tier", ["interpreter", "baseline"])
def test_calls_that_cross(tier: str, chosen: list[int]) -> None:
    wanted = exports_of(LONG, wl.Engine(), {"m": {"host": lambda: 0}}).f(A, C, 9)
    replacing.force(True)
    try:
        engine = wl.Engine(tier=tier, cache=False)
        module = wl.Module(LONG, engine)
        calls = 0

        def host() -> int:
            nonlocal calls
            calls += 1
            if calls == 3:
                mixed.replace(module, chosen, [(i, at) for i in chosen for at in module.code_space.loops_of(i)])
            return calls

        exports = wl.Instance(module, {"m": {"host": host}}, store=wl.Store(engine)).exports
        assert exports.f(A, C, 9) == wanted
        assert exports.f(A, C, 9) == wanted
    finally:
        replacing.force(False)
