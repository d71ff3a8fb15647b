"""The invariants of stacks, each with a test that fails when it is broken (numbers: docs, "Stacks")."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import wasmloom as wl
from wasmloom.runtime import collector
from wasmloom.runtime.collector import statistics

PRELUDE = "(type $f (func)) (type $k (cont $f)) (type $fi (func (result i32))) (type $ki (cont $fi))"


def run(source: str, imports: dict | None = None, store: wl.Store | None = None) -> wl.Instance:
    engine = store.engine if store is not None else None
    return wl.Instance(wl.Module(f"(module {PRELUDE} {source})", engine), imports or {}, store=store)


def in_use(exports) -> int:
    return statistics(exports.run.store)["continuations"]


# --- 1: a trap is never a return ---


@pytest.mark.parametrize("body", ["(unreachable)", "(drop (i32.div_s (i32.const 1) (i32.const 0)))", "(throw $e)"])
def test_1_what_ends_a_continuation_is_no_return(body):
    exports = run(f"""(tag $e) (global $after (export "after") (mut i32) (i32.const 0))
      (func $g {body}) (elem declare func $g)
      (func (export "run") (resume $k (cont.new $k (ref.func $g))) (global.set $after (i32.const 1)))""").exports
    with pytest.raises((wl.Trap, wl.WasmException)):
        exports.run()
    assert exports.after.value == 0 and in_use(exports) == 0


def test_1_references_to_what_has_ended_are_consumed():
    exports = run("""(table $t 1 (ref null $k)) (func $g (unreachable)) (elem declare func $g)
      (func (export "run") (table.set $t (i32.const 0) (cont.new $k (ref.func $g)))
        (resume $k (table.get $t (i32.const 0))))""").exports
    with pytest.raises(wl.Trap, match="unreachable"):
        exports.run()
    other = run("""(table $t 1 (ref null $k)) (func $g) (elem declare func $g)
      (func (export "run") (table.set $t (i32.const 0) (cont.new $k (ref.func $g)))
        (resume $k (table.get $t (i32.const 0))) (resume $k (table.get $t (i32.const 0))))""").exports
    with pytest.raises(wl.Trap, match="consumed"):
        other.run()


# --- 2, 8: payloads, arities, tiny stacks ---


@pytest.mark.parametrize("count", [1, 30, 31, 32, 33, 62, 200, 999])
def test_2_8_many_values_through_tiny_stacks(count):
    """Parameters, payload, the values of `suspend` and results: all of them arrive, whatever the block's size."""
    many = "i64 " * count
    there = " ".join(f"(i64.const {3 * i + 1})" for i in range(count))
    back = " ".join(f"(i64.const {5 * i + 2})" for i in range(count))
    sums = " ".join(f"(local.set $s (i64.add (local.get $s) (local.get {i})))" for i in range(count))
    exports = run(f"""
      (type $g (func (param {many}) (result {many}))) (type $kg (cont $g)) (tag $t (param {many}) (result {many}))
      (global $sum (export "sum") (mut i64) (i64.const 0))
      (func $g (type $g) {" ".join(f"(local.get {i})" for i in range(count))} (suspend $t))
      (func $sum (param {many}) (local $s i64) {sums} (global.set $sum (local.get $s)))
      (elem declare func $g)
      (func (export "run") (result {many}) (local $k (ref null $kg))
        (block $on (result {many} (ref $kg))
          (resume $kg (on $t $on) {there} (cont.new $kg (ref.func $g))) (unreachable))
        (local.set $k)
        (call $sum)
        (resume $kg {back} (local.get $k)))""").exports
    result = exports.run()
    assert (result if count > 1 else (result,)) == tuple(5 * i + 2 for i in range(count))
    assert exports.sum.value == sum(3 * i + 1 for i in range(count))
    assert in_use(exports) == 0


@pytest.mark.parametrize(("tier", "depth"), [("interpreter", 5000), ("compiler", 2000)])
def test_8_stacks_grow_inside_of_continuations_and_under_them(tier, depth):
    """Recursion within a continuation, and then of the main stack while a continuation is suspended.

    Interpreted, a continuation's stack grows like the main one; compiled, it has 228 KiB and ends in a trap.
    """
    engine = wl.Engine(tier=tier)
    exports = run("""(tag $t) (table $t1 1 (ref null $k))
      (func $deep (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
          (else (suspend $t) (i32.const 0))))
      (func $plain (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $plain (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0))))
      (global $n (mut i32) (i32.const 0)) (global $depth (mut i32) (i32.const 0))
      (func $g (global.set $n (call $deep (global.get $depth)))) (elem declare func $g)
      (func (export "run") (param i32) (result i32 i32) (local $k (ref null $k))
        (global.set $depth (local.get 0))
        (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $g))) (unreachable))
        (local.set $k)
        (drop (call $plain (i32.const 10000)))
        (call $plain (i32.const 10000))
        (resume $k (local.get $k))
        (global.get $n))""", store=wl.Store(engine)).exports
    for rounds in range(3):
        assert exports.run(depth) == (10000, depth)
        with pytest.raises(wl.Trap, match="call stack exhausted"):
            exports.run(10_000_000)
        found = statistics(exports.run.store)
        assert found["continuations"] == 0 and found["grown"] == 0, rounds


# --- 3: per-stack state on every edge ---


def test_3_handlers_belong_to_their_stack():
    """What is thrown after a switch away finds the handlers of the running stack, and again after coming back."""
    exports = run("""(tag $t) (tag $e (param i32))
      (func $g
        (block $c (result i32)
          (try_table (catch $e $c) (suspend $t) (throw $e (i32.const 1))) (unreachable))
        (global.set $inner))
      (global $inner (mut i32) (i32.const 0)) (elem declare func $g)
      (func (export "run") (result i32 i32) (local $k (ref null $k)) (local $outer i32)
        (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $g))) (unreachable))
        (local.set $k)
        (block $c (result i32) (try_table (catch $e $c) (throw $e (i32.const 2))) (unreachable))
        (local.set $outer)
        (resume $k (local.get $k))
        (global.get $inner) (local.get $outer))""").exports
    assert exports.run() == (1, 2)


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
def test_3_a_call_that_can_wait_has_no_handler_left_from_a_continuation(tier):
    """What is the bottom of its stacks may have been a continuation before, which had one."""
    store = wl.Store(wl.Engine(tier=tier))
    source = """(tag $t) (func $g (suspend $t)) (elem declare func $g)
      (func (export "run")
        (cont.new $k (ref.func $g))
        (loop $again (param (ref $k)) (resume $k (on $t $again))))
      (func (export "lost") (suspend $t))"""
    exports = run(source, store=store).exports
    for _ in range(40):
        exports.run()

    async def lost() -> None:
        await exports.lost.call_async()

    for _ in range(3):
        with pytest.raises(wl.Trap, match="unhandled tag"):
            asyncio.run(lost())
        with pytest.raises(wl.Trap, match="unhandled tag"):
            exports.lost()


@pytest.mark.parametrize("tier", ["interpreter", "compiler"])
@pytest.mark.parametrize("switching", ["native", "libcall"])
def test_3_only_the_last_resume_counts(tier, switching):
    """A continuation that has been resumed with one list of clauses isn't found by it in the next one, nor by those of
    other instances."""
    source = """(tag $a (export "a") (import "m" "a")) (tag $b (export "b") (import "m" "b"))
      (func $g (suspend $a) (suspend $a) (suspend $b) (suspend $a)) (elem declare func $g)
      (func (export "run") (param $how i32) (result i32) (local $k (ref null $k))
        (block $first (result (ref $k)) (resume $k (on $a $first) (cont.new $k (ref.func $g))) (return (i32.const -1)))
        (local.set $k)
        (block $second (result (ref $k))
          (block $wrong (result (ref $k))
            (resume $k (on $b $wrong) (on $a $second) (local.get $k)) (return (i32.const -2)))
          (drop) (return (i32.const -3)))
        (local.set $k)
        (block $third (result (ref $k))
          (block $wrong (result (ref $k))
            (resume $k (on $a switch) (on $a $wrong) (on $b $third) (local.get $k)) (return (i32.const -4)))
          (drop) (return (i32.const -5)))
        (local.set $k)
        (if (local.get $how) (then (resume $k (on $a switch) (local.get $k))) (else (resume $k (local.get $k))))
        (i32.const -6))"""
    engine = wl.Engine(tier=tier, stack_switching=switching)
    store = wl.Store(engine)
    module = wl.Module(f"(module {PRELUDE} {source})", engine)
    tags = {name: wl.Tag(store, "") for name in "ab"}
    exchanged = {"a": tags["b"], "b": tags["a"]}
    straight, crossed = (wl.Instance(module, {"m": each}, store=store).exports for each in (tags, exchanged))
    for exports in (straight, crossed, straight):
        for how in (0, 1):
            with pytest.raises(wl.Trap, match="unhandled tag"):
                exports.run(how)


def test_3_another_continuation_returns_than_was_resumed():
    """After a switch, the resumer gets the result of the one switched to; its handlers and locals are its own."""
    exports = run("""
      (rec (type $fs (func (param (ref null $ks)) (result i32))) (type $ks (cont $fs)))
      (tag $sw (result i32)) (tag $e)
      (func $second (type $fs) (i32.const 22))
      (func $first (type $fs)
        (try_table (switch $ks $sw (cont.new $ks (ref.func $second))) (drop)) (i32.const 11))
      (elem declare func $first $second)
      (func (export "run") (result i32 i32) (local $x i32)
        (local.set $x (i32.const 5))
        (block $c
          (try_table (catch $e $c)
            (local.set $x (i32.add (local.get $x)
              (resume $ks (on $sw switch) (ref.null $ks) (cont.new $ks (ref.func $first)))))
            (throw $e)))
        (local.get $x) (i32.const 1))""").exports
    assert exports.run() == (27, 1)


# --- 4: unwinding ---

CHAIN = """(import "" "host" (func $host)) (tag $e)
  (func $c (call $host)) (func $b (resume $k (cont.new $k (ref.func $c))))
  (func $a (resume $k (cont.new $k (ref.func $b)))) (elem declare func $a $b $c)
  (func (export "run") (resume $k (cont.new $k (ref.func $a))))
  (func (export "catch") (result i32)
    (block $h (try_table (catch $e $h) (catch_all $h) (resume $k (cont.new $k (ref.func $a)))) (return (i32.const 0)))
    (i32.const 1))
  (export "e" (tag $e))"""


@pytest.mark.parametrize("error", [ValueError, wl.ExitStatus, KeyboardInterrupt])
def test_4_host_exceptions_end_every_stack_once(error):
    def host():
        raise error(3)

    exports = run(CHAIN, {"": {"host": host}}).exports
    for _ in range(5):
        with pytest.raises(error):
            exports.run()
        with pytest.raises(error):  # no handler of the guest sees it
            exports.catch()
    found = statistics(exports.run.store)
    assert (found["continuations"], found["pool"]) == (0, 3)


def test_4_nested_entries_end_only_their_own_stacks():
    seen = []

    def host():
        seen.append(in_use(exports))
        if len(seen) == 1:
            with pytest.raises(ValueError, match="inner"):
                exports.run()
            seen.append(in_use(exports))
        else:
            raise ValueError("inner")

    exports = run(CHAIN, {"": {"host": host}}).exports
    exports.run()
    assert seen == [3, 6, 3] and in_use(exports) == 0


# --- 5: the host frame is a barrier ---


def test_5_nothing_suspends_across_a_host_frame():
    exports = run(
        """(import "" "host" (func $host)) (tag $t)
      (func $g (call $host)) (func (export "inner") (suspend $t)) (elem declare func $g)
      (func (export "run") (result i32)
        (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $g))) (return (i32.const 0)))
        (drop) (i32.const 1))""",
        {"": {"host": lambda: exports.inner()}},
    ).exports
    with pytest.raises(wl.Trap, match="unhandled tag"):
        exports.run()
    assert in_use(exports) == 0


def test_5_reentry_while_the_stack_of_a_continuation_moves():
    """The host calls back in on the stack of a continuation, which has to grow for that: the outer frames survive."""

    def host(n: int) -> int:
        return exports.deep(n)

    exports = run(
        """(import "" "host" (func $host (param i32) (result i32)))
      (func $deep (export "deep") (param i32) (result i32)
        (if (result i32) (local.get 0)
          (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0))))
      (func $g (result i32) (local $x i32) (local.set $x (i32.const 1000000))
        (i32.add (local.get $x) (call $host (i32.const 3000)))) (elem declare func $g)
      (func (export "run") (result i32) (resume $ki (cont.new $ki (ref.func $g))))""",
        {"": {"host": host}},
    ).exports
    assert exports.run() == 1003000
    assert statistics(exports.run.store)["grown"] == 0


# --- 6: revisions ---

STALE = """(tag $t) (global $old (mut (ref null $k)) (ref.null $k))
  (func $g (loop $l (suspend $t) (br $l))) (func $nop) (elem declare func $g $nop)
  (func $step (param $k (ref null $k)) (result (ref $k))
    (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (unreachable)))"""


@pytest.mark.parametrize("count", [1, 2, 65533, 65534, 65535, 65536, 70000, 140000])
def test_6_a_stale_reference_stays_stale(count):
    """However often the continuation has been resumed since: its revisions never come round to an old reference."""
    exports = run(f"""{STALE}
      (func (export "run") (param $n i32) (local $k (ref null $k))
        (global.set $old (call $step (cont.new $k (ref.func $g))))
        (local.set $k (global.get $old))
        (loop $l
          (local.set $k (call $step (local.get $k)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (resume $k (global.get $old)))""").exports
    with pytest.raises(wl.Trap, match="consumed"):
        exports.run(count)


def test_6_worn_blocks_come_back_when_no_reference_is_left():
    exports = run(f"""{STALE}
      (func (export "run") (param $n i32) (local $k (ref null $k))
        (local.set $k (call $step (cont.new $k (ref.func $g))))
        (global.set $old (local.get $k))
        (loop $l
          (local.set $k (call $step (local.get $k)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "forget") (global.set $old (ref.null $k)))""").exports
    store = exports.run.store
    exports.run(70000)
    collector.collect_garbage(store)
    assert statistics(store)["worn"] == 1
    collector.collect_garbage(store)
    assert statistics(store)["worn"] == 1
    exports.forget()
    collector.collect_garbage(store)
    assert statistics(store)["worn"] == 0


def test_6_blocks_are_reused_and_old_references_still_fail():
    exports = run(f"""{STALE}
      (func (export "run") (param $n i32)
        (global.set $old (cont.new $k (ref.func $nop)))
        (resume $k (global.get $old))
        (loop $l (resume $k (cont.new $k (ref.func $nop)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (resume $k (global.get $old)))""").exports
    for count in (1, 100, 65534, 65535, 65536, 131072):
        with pytest.raises(wl.Trap, match="consumed"):
            exports.run(count)


CONSUMERS = {
    "resume": "(resume $k (local.get $x))",
    "resume_throw": "(block $c (try_table (catch $e $c) (resume_throw $k $e (local.get $x))))",
    "resume_throw_ref": "(block $c (try_table (catch $e $c) (resume_throw_ref $k (global.get $exn) (local.get $x))))",
    "switch": "(resume $k (on $sw switch) (cont.new $k (ref.func $switcher)))",
    "cont.bind": "(drop (cont.bind $k $k (local.get $x)))",
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_6_every_consumer_consumes(name):
    source = f"""(tag $e) (tag $sw) (global $exn (mut exnref) (ref.null exn))
      (rec (type $fs (func (param (ref null $kn)))) (type $ks (cont $fs)) (type $kn (cont $f)))
      (global $target (mut (ref null $ks)) (ref.null $ks))
      (func $g) (func $s (type $fs)) (func $switcher (switch $ks $sw (global.get $target)))
      (elem declare func $g $s $switcher)
      (func $make (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e)) (unreachable)) (global.set $exn))
      (func (export "run") (local $x (ref null $k))
        (call $make)
        (local.set $x (cont.new $k (ref.func $g)))
        (global.set $target (cont.new $ks (ref.func $s)))
        {CONSUMERS[name]} {CONSUMERS[name]})"""
    if name == "switch":
        source = source.replace("(type $kn (cont $f))", "").replace("(ref null $kn)", "(ref null $k)")
    with pytest.raises(wl.Trap, match="consumed"):
        run(source).exports.run()


# --- 7: roots ---


@pytest.mark.parametrize("place", ["frame", "bound", "payload", "chain", "global", "table", "exception", "python"])
def test_7_the_collector_sees_references_everywhere(place):
    """Continuations that only one suspended, bound or thrown thing names survive a storm of collections."""
    exports = run("""
      (type $ft (func (param (ref null $ki)) (result i32))) (type $kt (cont $ft))
      (tag $t) (tag $e (param (ref $ki))) (tag $y (param (ref $ki)))
      (global $g (mut (ref null $ki)) (ref.null $ki)) (table $tab 3 (ref null $ki))
      (global $kept (mut (ref null $ki)) (ref.null $ki)) (global $exn (mut exnref) (ref.null exn))
      (func $seven (result i32) (i32.const 7))
      (func $take (type $ft) (resume $ki (local.get 0)))
      (func $frame (result i32) (local $x (ref null $ki)) (local.set $x (call $new)) (suspend $t)
        (resume $ki (local.get $x)))
      (func $outer (result i32) (local $x (ref null $ki)) (local.set $x (call $new))
        (i32.add (resume $ki (cont.new $ki (ref.func $frame))) (resume $ki (local.get $x))))
      (func $nothing (suspend $t))
      (elem declare func $seven $take $frame $outer $nothing)
      (func $new (result (ref $ki)) (cont.new $ki (ref.func $seven)))
      (func $until (param $k (ref null $ki)) (result (ref $ki))
        (block $h (result (ref $ki)) (resume $ki (on $t $h) (local.get $k)) (unreachable)))
      (func (export "frame") (global.set $kept (call $until (cont.new $ki (ref.func $frame)))))
      (func (export "chain") (global.set $kept (call $until (cont.new $ki (ref.func $outer)))))
      (func (export "bound") (global.set $kept (cont.bind $kt $ki (call $new) (cont.new $kt (ref.func $take)))))
      (func (export "global") (global.set $kept (call $new)))
      (func (export "table") (table.set $tab (i32.const 2) (call $new)))
      (func (export "exception")
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e (call $new))) (unreachable))
        (global.set $exn))
      (func (export "payload") (result (ref $ki)) (call $new))
      (func (export "python") (result (ref $ki)) (call $new))
      (func (export "storm") (param $n i32)
        (loop $l (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $nothing))) (unreachable))
          (drop) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "run") (param $x (ref null $ki)) (result i32)
        (if (ref.is_null (local.get $x)) (then (local.set $x (global.get $kept))))
        (if (ref.is_null (local.get $x)) (then (local.set $x (table.get $tab (i32.const 2)))))
        (if (ref.is_null (local.get $x)) (then
          (block $h (result (ref $ki)) (try_table (catch $e $h) (throw_ref (global.get $exn))) (unreachable))
          (local.set $x)))
        (resume $ki (local.get $x)))""").exports
    held = getattr(exports, place)()
    store = exports.run.store
    before = statistics(store)["collections"]
    exports.storm(20000)
    collector.collect_garbage(store)
    assert statistics(store)["collections"] > before + 1
    assert exports.run(held) == (14 if place == "chain" else 7)
    del held
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == 0


def test_7_host_references_on_suspended_stacks_and_in_exceptions():
    """The sweep of external references sees suspended stacks, bound values and payloads."""
    exports = run("""
      (type $fx (func (param externref) (result externref))) (type $kx (cont $fx))
      (type $fr (func (result externref))) (type $kr (cont $fr)) (tag $t) (tag $e (param externref))
      (global $k (mut (ref null $kr)) (ref.null $kr)) (global $exn (mut exnref) (ref.null exn))
      (func $id (type $fx) (suspend $t) (local.get 0)) (elem declare func $id)
      (func (export "suspended") (param externref)
        (block $h (result (ref $kr)) (resume $kx (on $t $h) (local.get 0) (cont.new $kx (ref.func $id))) (unreachable))
        (global.set $k))
      (func (export "bound") (param externref)
        (global.set $k (cont.bind $kx $kr (local.get 0) (cont.new $kx (ref.func $id)))))
      (func (export "thrown") (param externref)
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e (local.get 0))) (unreachable))
        (global.set $exn))
      (func (export "many") (param externref))
      (func (export "run") (result externref)
        (block $h (result (ref $kr)) (return (resume $kr (on $t $h) (global.get $k))))
        (global.set $k) (resume $kr (global.get $k)))
      (func (export "payload") (result externref)
        (block $h (result externref) (try_table (catch $e $h) (throw_ref (global.get $exn))) (unreachable)))""").exports
    for name, get in (("suspended", exports.run), ("bound", exports.run), ("thrown", exports.payload)):
        getattr(exports, name)([name])
        for i in range(5000):
            exports.many([i])
        assert get() == [name]


def test_7_memory_stays_flat():
    """Abandoned continuations, with grown stacks and long chains, and dropped exceptions."""
    store = wl.Store(wl.Engine(tier="interpreter"))  # where it takes long, "auto" would change to larger stacks
    exports = run("""(tag $t) (tag $e (param i64 i64 i64 i64 i64 i64))
      (func $deep (param i32)
        (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))) (else (suspend $t))))
      (func $grown (call $deep (i32.const 60)))
      (func $inner (suspend $t)) (func $chain (resume $k (cont.new $k (ref.func $inner))))
      (elem declare func $grown $inner $chain)
      (func (export "run") (param $n i32)
        (loop $l
          (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $grown))) (unreachable)) (drop)
          (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $chain))) (unreachable)) (drop)
          (block $c (try_table (catch_all $c)
            (throw $e (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))""", store=store).exports
    exports.run(20000)
    before = statistics(store)["blocks"], store.memory_used
    exports.run(200000)
    assert statistics(store)["blocks"] <= 1.5 * before[0]
    assert store.memory_used <= 2 * before[1] + (1 << 20)
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == statistics(store)["grown"] == 0
    assert statistics(store)["exceptions"] <= 1  # the context may still have the last one


@pytest.mark.parametrize("what", ["live", "throw", "grow"])
def test_7_the_memory_limit_is_a_trap(what):
    exports = run(
        """(table $t 0 100000 (ref null $k)) (table $x 0 100000 exnref) (tag $s) (tag $e)
      (func $g) (func $deep (call $deep)) (elem declare func $g $deep)
      (func (export "live") (loop $l (drop (table.grow $t (cont.new $k (ref.func $g)) (i32.const 1))) (br $l)))
      (func (export "throw") (loop $l
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e)) (unreachable))
        (drop (table.grow $x (i32.const 1))) (br $l)))
      (func (export "grow") (resume $k (cont.new $k (ref.func $deep))))
      (func (export "run"))""",
        store=wl.Store(memory_limit=1_000_000),
    ).exports
    for _ in range(3):
        with pytest.raises(wl.Trap, match=r"out of memory|call stack exhausted"):
            getattr(exports, what)()
    assert exports.run.store.memory_used <= 1_000_000


# --- 9: backtraces ---


def test_9_backtraces_through_three_stacks():
    exports = run("""(func $c (unreachable)) (func $b (call $b1)) (func $b1 (resume $k (cont.new $k (ref.func $c))))
      (func $a (resume $k (cont.new $k (ref.func $b)))) (elem declare func $a $b $c)
      (func $run (export "run") (resume $k (cont.new $k (ref.func $a))))""").exports
    with pytest.raises(wl.Trap) as trap:
        exports.run()
    frames = trap.value.frames
    assert [frame.func_name for frame in frames] == ["c", "b1", "b", "a", "run"]
    numbers = [frame.continuation for frame in frames]
    assert numbers[1] == numbers[2] and numbers[-1] is None
    assert len(set(numbers)) == 4
    assert f"in continuation {numbers[0]}" in str(trap.value)


def test_9_backtraces_after_a_switch_and_through_the_host():
    exports = run(CHAIN, {"": {"host": lambda: other.exports.run()}}).exports
    other = run(
        """(func $z (unreachable)) (elem declare func $z)
      (func $top (export "run") (resume $k (cont.new $k (ref.func $z))))""",
        store=exports.run.store,
    )
    with pytest.raises(wl.Trap) as trap:
        exports.run()
    frames = trap.value.frames
    assert [frame.func_name for frame in frames][:2] == ["z", "top"]
    assert [frame.func_name for frame in frames][3:6] == ["c", "b", "a"] and len(frames) == 7
    assert frames[2].offset is None and frames[2].continuation == frames[3].continuation
    # The inner entry begins on the stack of a continuation, but is its own bottom.
    assert frames[1].continuation is None


# --- 10: exceptions and continuations ---


def test_10_resume_throw_is_caught_where_it_has_suspended():
    exports = run("""(tag $t) (tag $e (param i32))
      (func $g (result i32)
        (block $c (result i32) (try_table (catch $e $c) (suspend $t)) (return (i32.const -1))))
      (elem declare func $g)
      (func (export "run") (result i32) (local $k (ref null $ki))
        (block $h (result (ref $ki)) (resume $ki (on $t $h) (cont.new $ki (ref.func $g))) (unreachable))
        (local.set $k)
        (resume_throw $ki $e (i32.const 42) (local.get $k)))""").exports
    assert exports.run() == 42


def test_10_what_escapes_goes_on_in_the_parents():
    exports = run("""(tag $e (param i32))
      (func $c (throw $e (i32.const 9))) (func $b (resume $k (cont.new $k (ref.func $c)))) (elem declare func $b $c)
      (func (export "run") (result i32)
        (block $h (result i32)
          (try_table (catch $e $h) (resume $k (cont.new $k (ref.func $b)))) (unreachable)))""").exports
    assert exports.run() == 9 and in_use(exports) == 0


def test_10_tags_are_generative_and_serve_everything():
    """Two instances of a module have different tags; one tag throws, suspends and switches in one program."""
    source = """(module (type $f (func)) (type $k (cont $f)) (tag $t (export "t"))
      (func $throw (export "throw") (throw $t)) (func $suspend (suspend $t))
      (elem declare func $throw $suspend)
      (func (export "both") (result i32)
        (block $c (try_table (catch $t $c)
          (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $suspend))) (unreachable))
          (drop)
          (resume $k (on $t switch) (cont.new $k (ref.func $throw))))
          (return (i32.const 0)))
        (i32.const 1)))"""
    module = wl.Module(source)
    store = wl.Store()
    first, second = wl.Instance(module, store=store), wl.Instance(module, store=store)
    assert first.exports.t != second.exports.t
    assert first.exports.both() == 1
    catcher = wl.Instance(
        wl.Module("""(module (import "" "t" (tag $t)) (import "" "f" (func $f))
          (func (export "run") (result i32) (block $c (try_table (catch $t $c) (call $f)) (return (i32.const 0)))
            (i32.const 1)))"""),
        {"": {"t": first.exports.t, "f": second.exports.throw}},
        store=store,
    )
    with pytest.raises(wl.WasmException) as caught:
        catcher.exports.run()
    assert caught.value.tag == second.exports.t


def test_3_continuations_of_another_instance_have_its_memory():
    """Memory, globals and tags are those of the function's instance, after every switch and in both directions."""
    store = wl.Store()
    worker = wl.Instance(
        wl.Module("""(module (memory 1) (data (i32.const 0) "\\07") (tag $t (export "t") (param i32) (result i32))
          (func (export "work") (result i32)
            (i32.store8 (i32.const 1) (suspend $t (i32.load8_u (i32.const 0))))
            (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 1)))))"""),
        store=store,
    )
    main = wl.Instance(
        wl.Module(f"""(module {PRELUDE} (type $fn (func (param i32) (result i32))) (type $kn (cont $fn))
          (import "" "t" (tag $t (param i32) (result i32))) (import "" "work" (func $work (result i32)))
          (memory 1) (data (i32.const 0) "\\64") (elem declare func $work)
          (func (export "run") (result i32 i32 i32) (local $k (ref null $kn)) (local $x i32)
            (block $h (result i32 (ref $kn)) (resume $ki (on $t $h) (cont.new $ki (ref.func $work))) (unreachable))
            (local.set $k) (local.set $x)
            (local.get $x) (i32.load8_u (i32.const 0))
            (i32.add (i32.load8_u (i32.const 0)) (resume $kn (i32.const 3) (local.get $k)))))"""),
        {"": {"t": worker.exports.t, "work": worker.exports.work}},
        store=store,
    )
    assert main.exports.run() == (7, 100, 110)


# --- loops of switches remain interruptible ---

LOOPS = """(tag $t) (tag $e)
  (func $g (loop $l (suspend $t) (br $l))) (func $nop) (elem declare func $g $nop)
  (func (export "suspend") (local $k (ref null $k)) (local.set $k (cont.new $k (ref.func $g)))
    (loop $l (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (unreachable)) (local.set $k) (br $l)))
  (func (export "throw") (loop $l (block $c (try_table (catch $e $c) (throw $e))) (br $l)))
  (func (export "new") (loop $l (resume $k (cont.new $k (ref.func $nop))) (br $l)))
  (func (export "run"))"""


@pytest.mark.parametrize("name", ["suspend", "throw", "new"])
def test_loops_of_switches_stop(name):
    exports = run(LOOPS, store=wl.Store(timeout=0.05)).exports
    with pytest.raises(wl.Trap, match="timeout"):
        getattr(exports, name)()
    collector.collect_garbage(exports.run.store)
    assert in_use(exports) == 0
    exports = run(LOOPS, store=wl.Store(wl.Engine(fuel=True), fuel=100_000)).exports
    with pytest.raises(wl.Trap, match="fuel"):
        getattr(exports, name)()
    exports = run(LOOPS).exports
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            getattr(exports, name)()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("tier", ["interpreter", "baseline", "compiler"])
def test_tracing(tier):
    """``WASMLOOM_LOG=stacks`` tells of every step, in all tiers the same."""
    program = f"""
import wasmloom as wl
from wasmloom.runtime import collector
exports = wl.Instance(wl.Module('''(module {PRELUDE} {STALE.replace("$g (loop", "$g (call $nop) (loop")}
  (func $once (suspend $t))  (elem declare func $once)
  (func (export "run") (resume $k (call $step (cont.new $k (ref.func $once)))))
  (func (export "drop") (drop (call $step (cont.new $k (ref.func $g)))))
  (type $f1 (func (param i32))) (type $k1 (cont $f1))
  (type $to (func (param (ref null $k)))) (type $kto (cont $to))
  (tag $e) (tag $s)
  (func $takes (param i32) (suspend $t))
  (func $there (param (ref null $k)))
  (func $away (switch $kto $s (cont.new $kto (ref.func $there))))
  (elem declare func $takes $away $there)
  (func (export "rest") (local $k (ref null $k))
    (local.set $k (call $step (cont.bind $k1 $k (i32.const 1) (cont.new $k1 (ref.func $takes)))))
    (block $thrown (try_table (catch $e $thrown) (resume_throw $k $e (local.get $k))) unreachable)
    (resume $k (on $s switch) (cont.new $k (ref.func $away)))))''')).exports
exports.run()
exports.drop()
exports.run()
exports.rest()
collector.collect_garbage(exports.run.store)
"""
    source = Path(wl.__file__).resolve().parent.parent
    environment = {**os.environ, "WASMLOOM_TIER": tier, "WASMLOOM_LOG": "stacks", "PYTHONPATH": str(source)}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    words = [line.split()[1] for line in result.stderr.splitlines()]
    once = ["new", "resume", "suspend", "resume", "return", "free"]
    assert words[:9] == [*once, "new", "resume", "suspend"]
    assert words[9:15] == once
    bound = ["new", "bind", "resume", "suspend", "throw", "free"]
    switched = ["new", "resume", "new", "switch", "return", "free"]
    assert words[15:27] == bound + switched and set(words[27:]) <= {"collect"}
