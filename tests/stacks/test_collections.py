"""Collections wherever they may happen: in finalisers, signal handlers, nested calls, on detached chains; and what a
store says of them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import attempts
from wasmloom.runtime.collector import collect_always, statistics

TEXT = """(module
  (type $box (struct (field $n (mut i32)) (field $more (mut (ref null $box))) (field $held (mut externref))))
  (type $f (func (param (ref $box)) (result (ref $box)))) (type $k (cont $f))
  (type $g (func (result (ref $box)))) (type $none (cont $g))
  (import "h" "back" (func $back (param (ref $box) i32) (result (ref $box))))
  (tag $y (param (ref $box)) (result (ref $box))) (tag $other)
  (elem declare func $inner $outer)
  (global $kept (mut (ref null $k)) (ref.null $k))
  (func $box (export "box") (param i32) (result (ref $box))
    (struct.new $box (local.get 0) (ref.null $box) (ref.null extern)))
  (func (export "holds") (param externref) (result (ref $box))
    (struct.new $box (i32.const 1) (ref.null $box) (local.get 0)))
  (func $sum (export "sum") (param (ref null $box)) (result i32) (local $s i32)
    (block $end (loop $l
      (br_if $end (ref.is_null (local.get 0)))
      (local.set $s (i32.add (local.get $s) (struct.get $box $n (local.get 0))))
      (local.set 0 (struct.get $box $more (local.get 0))) (br $l)))
    (local.get $s))
  (func $garbage (export "garbage") (param i32)
    (loop $l (drop (call $box (i32.const 99))) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  ;; A list that is made over again while others come and go; its sum, each time.
  (func (export "churn") (param $rounds i32) (result i32) (local $list (ref null $box)) (local $i i32) (local $bad i32)
    (loop $again
      (local.set $list (ref.null $box))
      (local.set $i (i32.const 50))
      (loop $grow
        (local.set $list (struct.new $box (local.get $i) (local.get $list) (ref.null extern)))
        (br_if $grow (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (call $garbage (i32.const 20))
      (local.set $bad (i32.add (local.get $bad) (i32.ne (call $sum (local.get $list)) (i32.const 1275))))
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $bad))
  ;; A frame for each call of the host, which calls again.
  (func (export "deep") (param $n i32) (result i32) (local $a (ref $box))
    (local.set $a (struct.new $box (local.get $n) (call $box (i32.const 1)) (ref.null extern)))
    (i32.add
      (call $sum (call $back (call $box (i32.const 10)) (i32.sub (local.get $n) (i32.const 1))))
      (call $sum (local.get $a))))
  ;; The inner continuation suspends past the outer one: both wait together.
  (func $inner (param $a (ref $box)) (result (ref $box)) (local $own (ref $box))
    (local.set $own (struct.new $box (i32.const 1000) (local.get $a) (ref.null extern)))
    (struct.set $box $more (local.get $a) (suspend $y (call $box (i32.const 5))))
    (local.get $own))
  (func $outer (param $a (ref $box)) (result (ref $box)) (local $own (ref $box)) (local $got (ref $box))
    (local.set $own (struct.new $box (i32.const 200) (ref.null $box) (ref.null extern)))
    (block $h (result (ref $none))
      (local.set $got (resume $k (on $other $h) (local.get $a) (cont.new $k (ref.func $inner))))
      (struct.set $box $more (local.get $own) (local.get $got))
      (return (local.get $own)))
    (unreachable))
  (func (export "detach") (param i32) (result i32)
    (block $h (result (ref $box) (ref $k))
      (drop (resume $k (on $y $h) (call $box (local.get 0)) (cont.new $k (ref.func $outer))))
      (return (i32.const -1)))
    (global.set $kept) (call $sum))
  (func (export "attach") (param i32) (result i32)
    (call $sum (resume $k (call $box (local.get 0)) (global.get $kept)))))"""


class Guest:
    """An instance whose host calls it again, and collects."""

    def __init__(self, name: str, always: bool = False) -> None:
        engine = engine_of(name)
        self.store = wl.Store(engine)
        imports = {"h": {"back": self.back}}
        self.exports: Any = wl.Instance(wl.Module(TEXT, engine), imports, store=self.store).exports
        #: what names the type of boxes, which is recursive
        self.type = self.exports.sum.type.params[0]
        self.sums: list[int] = []
        collect_always(self.store, always)

    def back(self, box: wl.Struct, n: int) -> wl.Struct:
        self.store.gc()
        found = self.exports.deep(n) if n > 0 else 0
        self.exports.garbage(30)
        self.store.gc()
        box[0] += found
        return box


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("always", [False, True], ids=["at times", "always"])
def test_nested_calls(name: str, always: bool) -> None:
    guest = Guest(name, always)

    def wanted(n: int) -> int:
        return 10 + (wanted(n - 1) if n > 1 else 0) + n + 1

    assert guest.exports.deep(12) == wanted(12)


@pytest.mark.parametrize("always", [False, True], ids=["at times", "always"])
def test_detached_chains(name: str, always: bool) -> None:
    guest = Guest(name, always)
    for _ in range(3):
        assert guest.exports.detach(7) == 5
        guest.exports.garbage(100)
        guest.store.gc()
        # The outer one's own box, then the inner one's, what began them, and what came at last.
        assert guest.exports.attach(3) == 200 + 1000 + 7 + 3


class Thing:
    """An object of the host whose end calls the guest, and collects."""

    ended = 0

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def __del__(self) -> None:
        guest = self.guest
        Thing.ended += 1
        guest.store.gc()
        more = guest.exports.box(5)
        guest.sums.append(guest.exports.sum(wl.Struct(guest.store, guest.type, (4, more, None))))
        guest.store.gc()


def test_finalisers(name: str) -> None:
    """What a guest's object has held goes with it; its finaliser finds a heap that is in order."""
    guest = Guest(name)
    kept = [guest.exports.holds(Thing(guest)) for _ in range(5)]
    before = Thing.ended
    guest.store.gc()
    assert Thing.ended == before
    for number in range(5):
        kept.pop()
        gc.collect()
        guest.store.gc()
        assert Thing.ended == before + number + 1
    assert guest.exports.churn(20) == 0
    assert guest.sums == [9] * 5


@pytest.fixture
def alarms() -> Iterator[list[Any]]:
    """What is called by a timer's signal, again and again."""
    todo: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: [each() for each in todo])
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    yield todo
    signal.setitimer(signal.ITIMER_REAL, 0)
    todo.clear()
    signal.signal(signal.SIGALRM, before)


def test_signal_handlers(name: str, alarms: list[Any]) -> None:
    """A handler runs in the middle of a guest, makes objects and asks for a collection."""
    guest = Guest(name)
    made: list[wl.Struct] = []
    busy = False

    def handle() -> None:
        nonlocal busy
        if busy:  # another alarm has come meanwhile
            return
        busy = True
        guest.store.gc()
        before = made[-1] if made else None
        made.append(wl.Struct(guest.store, guest.type, (before[0] + 1 if before else 0, before, None)))
        del made[:-20]
        busy = False

    alarms.append(handle)
    for _ in attempts():
        assert guest.exports.churn(2000) == 0
        if len(made) >= 20:
            break
    alarms.clear()
    assert [struct[0] for struct in made] == list(range(made[0][0], made[0][0] + len(made)))
    assert guest.exports.sum(made[-1]) == sum(range(made[-1][0] + 1))


def test_statistics(name: str) -> None:
    guest = Guest(name)
    before = guest.store.gc_statistics
    kept = [guest.exports.box(1) for _ in range(1000)]
    guest.store.gc()
    found = guest.store.gc_statistics
    assert found.collections > before.collections
    assert found.live >= 1000 * 32 and found.heap >= found.live
    assert found.allocated - before.allocated >= 1000 * 32
    assert len(found.pauses) == found.collections and max(found.pauses) == found.longest
    assert sum(found.pauses) == pytest.approx(found.seconds)
    del kept
    gc.collect()
    for _ in range(600):
        guest.store.gc()
    after = guest.store.gc_statistics
    assert after.live < found.live and after.collections >= found.collections + 600
    assert len(after.pauses) == 512 and after.longest >= max(after.pauses)


def test_slabs_that_wait_to_be_swept(name: str) -> None:
    """Counting sweeps them; what is alive stays, and what is dead is used again."""
    guest = Guest(name)
    kept = [guest.exports.box(number) for number in range(3000)]
    for step in (3, 2, 5):
        del kept[::step]
        gc.collect()
        guest.store.gc()
        assert statistics(guest.store)["objects"] == len(kept)
        numbers = [box[0] for box in kept]
        used = guest.store.memory_used
        more = [guest.exports.box(-1) for _ in range(200)]
        assert guest.store.memory_used == used  # they have the places of those that have gone
        assert [box[0] for box in kept] == numbers and {box[0] for box in more} == {-1}
        del more
    assert statistics(guest.store)["objects"] >= len(kept)
