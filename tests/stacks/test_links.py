"""What links continuations to each other and to who resumes them, in all ways that code can run.

Compiled code that resumes and suspends a stack alone leaves most of these links as they are (see `WlCont.last` and
`WlCont.resume` in `wasmloom.contract.layout`): here they change between one time and the next.
"""

from __future__ import annotations

import pytest

import wasmloom as wl
from wasmloom.runtime import collector
from wasmloom.runtime.collector import references, statistics

PRELUDE = "(type $f (func)) (type $k (cont $f)) (type $fi (func (result i32))) (type $ki (cont $fi))"


@pytest.fixture(params=["interpreter", "native", "libcall"])
def store(request: pytest.FixtureRequest) -> wl.Store:
    """A store of each way to switch stacks."""
    if request.param == "interpreter":
        return wl.Store(wl.Engine(tier="interpreter"))
    return wl.Store(wl.Engine(tier="compiler", stack_switching=request.param))


def run(store: wl.Store, source: str, imports: dict | None = None) -> wl.Instance:
    return wl.Instance(wl.Module(f"(module {PRELUDE} {source})", store.engine), imports or {}, store=store)


def collecting(store: wl.Store) -> dict:
    """The import `collect`, which collects garbage wherever the guest stands."""
    return {"": {"collect": lambda: collector.collect_garbage(store)}}


# --- who resumes ---


def test_the_same_resume_of_another_instance_handles_its_own_tag(store):
    """Two instances of a module have the same `resume`, with different tags behind it."""
    module = wl.Module(
        f"""(module {PRELUDE} (tag $t (import "" "t"))
          (func (export "go") (param $k (ref null $k)) (result (ref null $k))
            (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (return (ref.null $k)))))""",
        store.engine,
    )
    tags = {name: wl.Tag(store, "") for name in "ab"}
    a, b = (wl.Instance(module, {"": {"t": tags[name]}}, store=store).exports for name in "ab")
    exports = run(
        store,
        """(tag $a (import "" "a")) (tag $b (import "" "b")) (elem declare func $g)
        (func $g (suspend $a) (suspend $b) (suspend $a) (suspend $a))
        (func (export "new") (result (ref $k)) (cont.new $k (ref.func $g)))""",
        {"": tags},
    ).exports
    for _ in range(3):
        k = a.go(b.go(a.go(exports.new())))
        with pytest.raises(wl.Trap, match="unhandled tag"):
            b.go(k)
        assert a.go(a.go(a.go(b.go(a.go(exports.new()))))) is None


def test_the_same_instance_resumes_from_several_places(store):
    """Places and handlers alternate; a `resume` without clauses leaves none behind."""
    exports = run(
        store,
        """(tag $a (result i32)) (tag $b (result i32)) (elem declare func $g $through)
        (type $fr (func (param i32) (result i32))) (type $kr (cont $fr))
        (global $left (mut i32) (i32.const 0)) (global $sum (mut i32) (i32.const 0))
        (func $g (result i32)
          (loop $again
            (global.set $sum (i32.add (global.get $sum) (suspend $a)))
            (global.set $sum (i32.sub (global.get $sum) (suspend $b)))
            (br_if $again (global.get $left)))
          (global.get $sum))
        (func $through (result i32) (resume $ki (cont.new $ki (ref.func $g))))
        (func (export "run") (param $left i32) (param $deep i32) (result i32) (local $k (ref null $kr))
          (global.set $left (local.get $left)) (global.set $sum (i32.const 0))
          (block $first (result (ref $kr))
            (return (resume $ki (on $a $first)
              (if (result (ref $ki)) (local.get $deep)
                (then (cont.new $ki (ref.func $through))) (else (cont.new $ki (ref.func $g)))))))
          (local.set $k)
          (loop $again
            (block $b (result (ref $kr))
              (return (resume $kr (on $b $b) (i32.const 3) (local.get $k))))
            (local.set $k)
            (global.set $left (i32.sub (global.get $left) (i32.const 1)))
            (block $a (result (ref $kr))
              (return (resume $kr (on $a $a) (i32.const 1) (local.get $k))))
            (local.set $k)
            (br $again))
          (unreachable))""",
    ).exports
    for deep in (0, 1):
        assert exports.run(100, deep) == 200
        assert exports.run(1, deep) == 2
    assert statistics(store)["continuations"] == 0


# --- chains ---

#: $outer resumes $inner, which suspends through it, by itself, and through it again; each adds what it is given.
CHAIN = """(import "" "collect" (func $collect)) (tag $t (result i32)) (tag $own (result i32))
  (type $fr (func (param i32) (result i32))) (type $kr (cont $fr)) (elem declare func $outer $inner $seven)
  (func $seven (result i32) (i32.const 7))
  (func $inner (result i32) (local $x (ref null $ki)) (local $sum i32)
    (local.set $x (cont.new $ki (ref.func $seven)))
    (local.set $sum (suspend $t))
    (call $collect)
    (local.set $sum (i32.add (local.get $sum) (suspend $own)))
    (call $collect)
    (local.set $sum (i32.add (local.get $sum) (suspend $t)))
    (i32.add (local.get $sum) (resume $ki (local.get $x))))
  (func $outer (result i32) (local $x (ref null $ki)) (local $k (ref null $kr)) (local $sum i32)
    (local.set $x (cont.new $ki (ref.func $seven)))
    (block $done (result i32)
      (block $h (result (ref $kr)) (br $done (resume $ki (on $own $h) (cont.new $ki (ref.func $inner)))))
      (local.set $k)
      (call $collect)
      (local.set $sum (suspend $t))
      (call $collect)
      (resume $kr (local.get $sum) (local.get $k)))
    (resume $ki (local.get $x)) (i32.add))
  (func $until (param $k (ref null $ki)) (result (ref $kr))
    (block $h (result (ref $kr)) (resume $ki (on $t $h) (local.get $k)) (unreachable)))
  (func $go (param $x i32) (param $k (ref null $kr)) (result (ref $kr))
    (block $h (result (ref $kr)) (resume $kr (on $t $h) (local.get $x) (local.get $k)) (unreachable)))"""


def test_collections_at_every_step_of_a_chain(store):
    """All stacks of a chain, whoever of them is suspended or runs, keep what they hold."""
    exports = run(
        store,
        f"""{CHAIN} (func (export "run") (result i32) (local $k (ref null $kr))
          (local.set $k (call $until (cont.new $ki (ref.func $outer))))   ;; inner and outer
          (call $collect)
          (local.set $k (call $go (i32.const 10) (local.get $k)))         ;; outer; inner is outer's own
          (call $collect)
          (local.set $k (call $go (i32.const 200) (local.get $k)))        ;; inner and outer
          (call $collect)
          (resume $kr (i32.const 3000) (local.get $k)))""",
        collecting(store),
    ).exports
    for _ in range(20):
        assert exports.run() == 10 + 200 + 3000 + 7 + 7
    assert statistics(store)["continuations"] == 0


def test_a_chain_with_bound_values(store):
    """The value waits with the innermost stack while collections come and go."""
    exports = run(
        store,
        f"""{CHAIN} (func (export "run") (param $twice i32) (result i32)
          (local $k (ref null $kr)) (local $b (ref null $ki))
          (local.set $k (call $until (cont.new $ki (ref.func $outer))))
          (local.set $b (cont.bind $kr $ki (i32.const 10) (local.get $k)))
          (if (local.get $twice) (then (local.set $b (cont.bind $ki $ki (local.get $b)))))
          (call $collect)
          (local.set $k (call $until (local.get $b)))
          (local.set $k (call $until (cont.bind $kr $ki (i32.const 200) (local.get $k))))
          (call $collect)
          (resume $ki (cont.bind $kr $ki (i32.const 3000) (local.get $k))))""",
        collecting(store),
    ).exports
    for twice in (0, 1, 0):
        assert exports.run(twice) == 10 + 200 + 3000 + 7 + 7
    assert statistics(store)["continuations"] == 0


def test_abandoned_chains_are_collected(store):
    """Suspended, bound, trapped in the middle: nothing is left, and nothing that runs is taken."""
    exports = run(
        store,
        f"""{CHAIN}
        (func (export "suspended") (drop (call $until (cont.new $ki (ref.func $outer)))))
        (func (export "bound")
          (drop (cont.bind $kr $ki (i32.const 1) (call $until (cont.new $ki (ref.func $outer))))))
        (func (export "again")
          (drop (call $go (i32.const 1) (call $until (cont.new $ki (ref.func $outer))))))
        (func (export "trap") (local $k (ref null $kr))
          (local.set $k (call $go (i32.const 1) (call $until (cont.new $ki (ref.func $outer)))))
          (drop (resume $kr (i32.const 1) (local.get $k))))""",
        collecting(store),
    ).exports
    for _ in range(5):
        for name in ("suspended", "bound", "again"):
            getattr(exports, name)()
        with pytest.raises(wl.Trap, match="unhandled tag"):
            exports.trap()
    assert statistics(store)["continuations"] > 0
    collector.collect_garbage(store)
    found = statistics(store)
    assert found["continuations"] == 0 and found["grown"] == 0


def test_a_continuation_that_runs_is_no_suspended_one(store):
    """Its next reference exists already while it runs, as a number that a stack may hold: collections pass it by."""
    exports = run(
        store,
        """(import "" "collect" (func $collect)) (tag $t) (elem declare func $g $h)
        (func $g (loop $again (call $collect) (suspend $t) (br $again)))
        (func $h (loop $again
          (drop (call $step (call $step (cont.new $k (ref.func $g))))) (suspend $t) (br $again)))
        (func $step (param $k (ref null $k)) (result (ref $k))
          (block $h (result (ref $k)) (resume $k (on $t $h) (local.get $k)) (unreachable)))
        (func (export "run") (param $n i32) (local $k (ref null $k))
          (local.set $k (cont.new $k (ref.func $h)))
          (loop $again
            (local.set $k (call $step (local.get $k)))
            (call $collect)
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))""",
        collecting(store),
    ).exports
    exports.run(200)
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == 0


def test_numbers_that_look_like_references_to_what_runs(store):
    """The collector takes every word for a reference: one to a stack that runs, or waits in a chain, keeps nothing."""
    seen: list[int] = []

    def collect() -> None:
        seen[:] = references(store)
        for name, word in zip(("w0", "w1", "w2", "w3"), seen + [0] * 4, strict=False):
            getattr(exports, name).value = word
        collector.collect_garbage(store)

    words = " ".join(f'(global (export "w{i}") (mut i64) (i64.const 0))' for i in range(4))
    exports = run(
        store,
        f"""{CHAIN} {words}
        (func (export "run") (result i32) (local $k (ref null $kr))
          (local.set $k (call $until (cont.new $ki (ref.func $outer))))
          (call $collect)
          (local.set $k (call $go (i32.const 10) (local.get $k)))
          (call $collect)
          (local.set $k (call $go (i32.const 200) (local.get $k)))
          (call $collect)
          (resume $kr (i32.const 3000) (local.get $k)))
        (func (export "abandon") (drop (call $until (cont.new $ki (ref.func $outer)))))""",
        {"": {"collect": collect}},
    ).exports
    for _ in range(10):
        assert exports.run() == 10 + 200 + 3000 + 7 + 7
    assert len(seen) == 4  # the chain, and one that each of its frames holds
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == 0
    exports.abandon()
    inner_and_outer = references(store)
    for name, word in zip(("w0", "w1", "w2", "w3"), inner_and_outer, strict=True):
        getattr(exports, name).value = word
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == 4  # the word of the innermost counts, as it should
    for name in ("w0", "w1", "w2", "w3"):
        getattr(exports, name).value = 0
    collector.collect_garbage(store)
    assert statistics(store)["continuations"] == 0


def test_no_memory_for_the_stack_that_a_switch_begins():
    """The chain that was about to be suspended ends in a trap, whole."""
    for tier, switching in (("interpreter", "native"), ("compiler", "native"), ("compiler", "libcall")):
        engine = wl.Engine(tier=tier, stack_switching=switching)
        exports = run(
            wl.Store(engine, memory_limit=1_000_000),
            """(rec (type $fs (func (param (ref null $ks)))) (type $ks (cont $fs)))
            (tag $switch) (table $all 100000 (ref null $ks)) (global $n (mut i32) (i32.const 0))
            (elem declare func $g $h)
            (func $g (type $fs)
              (table.set $all (global.get $n) (local.get 0))
              (global.set $n (i32.add (global.get $n) (i32.const 1)))
              (switch $ks $switch (cont.new $ks (ref.func $g)))
              (drop))
            (func $h (resume $ks (ref.null $ks) (cont.new $ks (ref.func $g))))
            (func (export "run") (result i32)
              (resume $k (on $switch switch) (cont.new $k (ref.func $h)))
              (global.get $n))""",
        ).exports
        for _ in range(3):
            with pytest.raises(wl.Trap, match="out of memory") as caught:
                exports.run()
            assert caught.value.frames[-1].func_name == "run", (tier, switching)


@pytest.mark.parametrize("values", [0, 1, 3])
def test_switches_to_new_continuations_collect_the_old_ones(store, values):
    """Where there is no stack left for the target, what nobody can resume any more makes room."""
    limited = wl.Store(store.engine, memory_limit=400_000)
    kinds, passed = "i64 " * values, "(i64.const 5) " * values
    taken = " ".join(f"(i64.eq (local.get {i}) (i64.const 5))" for i in range(values))
    exports = run(
        limited,
        f"""(rec (type $fs (func (param {kinds} (ref null $ks)))) (type $ks (cont $fs)))
        (tag $switch) (global $left (mut i32) (i32.const 0)) (elem declare func $g)
        (func $g (type $fs)
          (local.set {values} (ref.null $ks))
          {taken} {"i32.and " * max(values - 1, 0)} {"i32.eqz (if (then unreachable))" if values else ""}
          (if (i32.eqz (global.get $left)) (then (return)))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (switch $ks $switch {passed} (cont.new $ks (ref.func $g)))
          (unreachable))
        (func (export "run") (param i32)
          (global.set $left (local.get 0))
          (resume $ks (on $switch switch) {passed} (ref.null $ks) (cont.new $ks (ref.func $g))))""",
    ).exports
    exports.run(3000)
    assert exports.run.store is limited
