"""Objects that only stacks, continuations, exceptions or waiting guests have, while collections run everywhere."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.runtime.collector import collect_always, statistics

TEXT = """(module
  (type $box (struct (field $n (mut i32)) (field $more (mut (ref null $box)))))
  (type $f (func (param (ref $box)) (result (ref $box)))) (type $k (cont $f))
  (type $g (func (param (ref $box) (ref $box)) (result (ref $box)))) (type $two (cont $g))
  (type $holder (struct (field (mut (ref null $box))) (field (mut externref))))
  (import "h" "collect" (func $collect)) (import "h" "swap" (func $swap (param (ref $box)) (result (ref $box))))
  (import "h" "wait" (func $wait (param (ref $box)) (result (ref $box))))
  (tag $y (export "y") (param (ref $box)) (result (ref $box))) (tag $e (export "e") (param (ref $box)))
  (elem declare func $co $pair $rest)
  (elem $boxes (ref null $box) (item (struct.new $box (i32.const 70) (ref.null $box)))
    (item (struct.new $box (i32.const 71) (struct.new_default $box))))
  (global $kept (mut (ref null $k)) (ref.null $k))
  (type $list (array (mut (ref null $box))))
  (func $box (export "box") (param i32) (result (ref $box)) (struct.new $box (local.get 0) (ref.null $box)))
  (func $sum (export "sum") (param (ref null $box)) (result i32) (local $s i32)
    (block $end (loop $l
      (br_if $end (ref.is_null (local.get 0)))
      (local.set $s (i32.add (local.get $s) (struct.get $box $n (local.get 0))))
      (local.set 0 (struct.get $box $more (local.get 0))) (br $l)))
    (local.get $s))
  (func $garbage (param i32)
    (loop $l (drop (call $box (i32.const 99))) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $co (param $a (ref $box)) (result (ref $box)) (local $b (ref null $box))
    (local.set $b (struct.new $box (i32.const 1000) (local.get $a)))
    (call $garbage (i32.const 20))
    ;; Operands below a suspension, and locals.
    (struct.new $box (i32.const 5)
      (block (result (ref null $box))
        (struct.set $box $more (call $box (i32.const 1)) (suspend $y (call $box (i32.const 30))))
        (local.get $b))))
  (func (export "make") (param i32) (result (ref $k)) (cont.new $k (ref.func $co)))
  (func (export "keep") (param i32) (result i32) (local $got (ref null $box)) (local $k (ref null $k))
    (block $h (result (ref $box) (ref $k))
      (return (call $sum (resume $k (on $y $h) (call $box (local.get 0)) (cont.new $k (ref.func $co))))))
    (global.set $kept) (local.set $got)
    (call $garbage (i32.const 50)) (call $collect)
    (call $sum (local.get $got)))
  (func (export "finish") (result i32)
    (block $h (result (ref $box) (ref $k))
      (return (call $sum (resume $k (on $y $h) (call $box (i32.const 7)) (global.get $kept)))))
    (drop) (drop) (i32.const -1))
  (func $pair (param (ref $box) (ref $box)) (result (ref $box))
    (struct.set $box $more (local.get 0) (local.get 1)) (call $garbage (i32.const 9)) (local.get 0))
  (func (export "bound") (param i32) (result i32) (local $k (ref null $k))
    (local.set $k (cont.bind $two $k (call $box (local.get 0)) (cont.new $two (ref.func $pair))))
    (call $garbage (i32.const 50)) (call $collect)
    (call $sum (resume $k (call $box (i32.const 3)) (local.get $k))))
  (func $throw (param i32) (throw $e (call $box (local.get 0))))
  (func (export "caught") (param i32) (result i32) (local $x exnref)
    (block $h (result (ref $box) exnref)
      (try_table (catch_ref $e $h) (call $throw (local.get 0))) (unreachable))
    (local.set $x) (call $garbage (i32.const 50)) (call $collect) (drop)
    (block $again (result (ref $box))
      (try_table (catch $e $again) (throw_ref (local.get $x))) (unreachable))
    (call $sum))
  (func (export "fail") (param i32) (call $throw (local.get 0)))
  (func (export "host") (param i32) (result i32) (local $a (ref null $box)) (local $b (ref null $box))
    (local.set $a (call $box (local.get 0)))
    (local.set $b (call $swap (call $box (i32.const 2))))
    (call $garbage (i32.const 9))
    (i32.add (call $sum (local.get $a)) (call $sum (local.get $b))))
  (func (export "waiting") (param i32) (result i32) (local $a (ref null $box))
    (local.set $a (call $box (local.get 0)))
    (i32.add (call $sum (call $wait (call $box (i32.const 4)))) (call $sum (local.get $a))))
  (func (export "segment") (result i32) (local $l (ref null $list))
    (call $collect) (call $garbage (i32.const 50))
    (local.set $l (array.new_elem $list $boxes (i32.const 0) (i32.const 2)))
    (i32.add (call $sum (array.get $list (local.get $l) (i32.const 0)))
      (call $sum (array.get $list (local.get $l) (i32.const 1)))))
  (func (export "drop") (elem.drop $boxes))
  (func $rest (param (ref $box)) (result (ref $box)) (local.get 0))
  (func (export "lost") (param i32)
    (loop $l
      (block $h (result (ref $box) (ref $k))
        (drop (resume $k (on $y $h) (call $box (i32.const 1)) (cont.new $k (ref.func $co)))) (unreachable))
      (drop) (drop)
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  ;; Loops whose compiled code may keep addresses in the middle of objects only.
  (func (export "within") (param $n i32) (result i32) (local $a (ref null $list)) (local $i i32) (local $s i32)
    (local.set $a (array.new_default $list (local.get $n)))
    (loop $l
      (array.set $list (local.get $a) (local.get $i) (call $box (local.get $i)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.set $i (i32.const 0))
    (loop $m
      (local.set $s (i32.add (local.get $s) (struct.get $box $n (array.get $list (local.get $a) (local.get $i)))))
      (call $garbage (i32.const 2))
      (br_if $m (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $s))
  (func (export "holder") (result (ref $holder)) (struct.new_default $holder))
  (func (export "held") (param (ref $holder)) (result externref) (struct.get $holder 1 (local.get 0))))"""


class Guest:
    """An instance, whose host collects where it is asked to, and wherever it is called."""

    def __init__(self, name: str, always: bool) -> None:
        engine = engine_of(name)
        self.store = wl.Store(engine)
        imports = {"collect": self.collect, "swap": self.swap, "wait": self.wait}
        self.exports: Any = wl.Instance(wl.Module(TEXT, engine), {"h": imports}, store=self.store).exports
        collect_always(self.store, always)

    def collect(self) -> None:
        gc.collect()
        self.store.gc()

    def swap(self, box: wl.Struct) -> wl.Struct:
        made = self.exports.box(box[0] + 10)
        made[1] = box
        del box
        self.collect()
        return made

    async def wait(self, box: wl.Struct) -> wl.Struct:
        await asyncio.sleep(0)
        self.collect()
        return self.swap(box)

    def objects(self) -> int:
        self.collect()
        return statistics(self.store)["objects"]


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["at times", "always"])
def guest(name: str, request: pytest.FixtureRequest) -> Guest:
    return Guest(name, request.param)


def test_suspended_continuations(guest: Guest) -> None:
    for _ in range(3):
        assert guest.exports.keep(8) == 30
        guest.collect()
        assert guest.exports.finish() == 5 + 1000 + 8


def test_continuations_of_the_host(guest: Guest) -> None:
    suspended = guest.exports.make(0).resume(guest.exports.box(6), on=guest.exports.y)
    guest.collect()
    assert suspended.payload[0][0] == 30
    done = suspended.continuation.resume(guest.exports.box(1))
    assert guest.exports.sum(done) == 5 + 1000 + 6


def test_bound_values(guest: Guest) -> None:
    assert guest.exports.bound(11) == 14


def test_exceptions(guest: Guest) -> None:
    assert guest.exports.caught(12) == 12
    with pytest.raises(wl.WasmException) as error:
        guest.exports.fail(13)
    guest.collect()
    (box,) = error.value.payload
    assert box[0] == 13
    error.value.__traceback__ = None


def test_host_functions(guest: Guest) -> None:
    assert guest.exports.host(20) == 20 + 12 + 2


def test_guests_that_wait(guest: Guest) -> None:
    async def several() -> list[int]:
        return list(await asyncio.gather(*(guest.exports.waiting.call_async(i) for i in range(5))))

    assert asyncio.run(several()) == [i + 14 + 4 for i in range(5)]


def test_element_segments(guest: Guest) -> None:
    assert guest.exports.segment() == guest.exports.segment() == 141
    before = guest.objects()
    guest.exports.drop()
    assert guest.objects() == before - 3


def test_addresses_within_objects(guest: Guest) -> None:
    for n in (1, 7, 60):
        assert guest.exports.within(n) == sum(range(n))


def test_what_is_lost_is_freed(guest: Guest) -> None:
    before = guest.objects()
    guest.exports.lost(100)
    assert guest.objects() == before
    assert statistics(guest.store)["continuations"] == 0


def test_objects_of_the_host_in_objects(guest: Guest) -> None:
    holder = guest.exports.holder()
    thing = [object()]
    holder[1] = thing
    del thing
    guest.collect()
    assert isinstance(guest.exports.held(holder)[0], object)
    used = guest.store.memory_used
    holder[1] = None
    guest.collect()
    assert guest.store.memory_used <= used - 128


def test_in_the_middle_of_a_change_of_tier() -> None:
    """Objects that a frame of bytecode has go on in compiled code."""
    engine = wl.Engine(tier="auto", threshold=1, cache=False)
    store = wl.Store(engine)
    text = """(module (type $box (struct (field i32) (field (ref null $box))))
      (func (export "run") (param $n i32) (result i32) (local $b (ref null $box)) (local $s i32)
        (loop $l
          (local.set $b (struct.new $box (local.get $n) (local.get $b)))
          (if (i32.eqz (i32.rem_u (local.get $n) (i32.const 1000))) (then (local.set $b (ref.null $box))))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (loop $m
          (local.set $s (i32.add (local.get $s) (struct.get $box 0 (local.get $b))))
          (br_if $m (i32.eqz (ref.is_null (local.tee $b (struct.get $box 1 (local.get $b)))))))
        (local.get $s)))"""
    run = wl.Instance(wl.Module(text, engine), store=store).exports.run
    for n in (3_000_500, 999, 2_000_700):
        assert run(n) == sum(range(1, 1000))
