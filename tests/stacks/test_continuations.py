"""Continuations and exception references in Python."""

from __future__ import annotations

import gc
import weakref

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from wasmloom.runtime import collector

GENERATOR = """
(module
  (type $f (func (param i32) (result i64)))
  (type $k (cont $f))
  (type $g (func (param i32)))
  (type $kg (cont $g))
  (tag $yield (export "yield") (param i32 f64) (result i32))
  (tag $other (export "other"))
  (tag $error (export "error") (param i32))
  (func $run (param $n i32) (result i64)
    (local $sum i64)
    (loop $l
      (if (i32.eqz (local.get $n)) (then (return (local.get $sum))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s
        (suspend $yield (local.get $n) (f64.convert_i32_s (local.get $n))))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $l))
    (unreachable))
  (func $catching (param i32) (result i64)
    (block $h (result i32)
      (try_table (catch $error $h) (drop (suspend $yield (local.get 0) (f64.const 0))))
      (return (i64.const -1)))
    (return (i64.extend_i32_s)))
  (func $odd (param i32) (result i64) (suspend $other) (i64.const 7))
  (func $bad (param i32) (result i64) (throw $error (local.get 0)))
  (elem declare func $run $catching $odd $bad)
  (func (export "start") (result (ref $k)) (cont.new $k (ref.func $run)))
  (func (export "catching") (result (ref $k)) (cont.new $k (ref.func $catching)))
  (func (export "odd") (result (ref $k)) (cont.new $k (ref.func $odd)))
  (func (export "bad") (result (ref $k)) (cont.new $k (ref.func $bad)))
  (func (export "plain") (result contref) (cont.new $k (ref.func $run)))
  (func (export "null") (result contref) (ref.null cont))
  (func (export "two") (result (ref $k) (ref $k)) (cont.new $k (ref.func $run)) (cont.new $k (ref.func $odd)))
  (func (export "use") (param (ref $k) i32) (result i64) (resume $k (local.get 1) (local.get 0)))
  (func (export "wrong") (param (ref null $kg)))
  (func (export "same") (param contref) (result contref) (local.get 0)))
"""


@pytest.fixture
def exports():
    return wl.Instance(wl.Module(GENERATOR)).exports


def test_suspensions_and_the_end(exports):
    cont = exports.start()
    assert cont.alive and [str(t) for t in cont.type.params] == ["i32"]
    first = cont.resume(2, on=exports["yield"])
    assert isinstance(first, wl.Suspension)
    assert first.tag == exports["yield"] and first.payload == (2, 2.0)
    assert not cont.alive and first.continuation.alive
    second = first.continuation.resume(40, on=[exports["other"], exports["yield"]])
    assert second.payload == (1, 1.0)
    assert second.continuation.resume(2) == 42
    assert not second.continuation.alive


def test_handlers_by_tag(exports):
    seen = []

    def handler(n, x):
        seen.append((n, x))
        return 10 * n

    assert exports.start().resume(3, on={exports["yield"]: handler}) == 60
    assert seen == [(3, 3.0), (2, 2.0), (1, 1.0)]


def test_handler_throws_in_the_guest(exports):
    def handler(n, x):
        raise wl.WasmException(exports["error"], 77)

    assert exports.catching().resume(3, on={exports["yield"]: handler}) == 77
    with pytest.raises(wl.WasmException) as caught:
        exports.start().resume(3, on={exports["yield"]: handler})
    assert caught.value.payload == (77,)


def test_other_exceptions_of_handlers_pass(exports):
    def handler(n, x):
        raise KeyError(n)

    with pytest.raises(KeyError):
        exports.start().resume(3, on={exports["yield"]: handler})


def test_iterator(exports):
    tag = exports["yield"]
    iterator = wl.resume_iter(exports.start(), tag, 2)
    assert next(iterator) == (2, 2.0)
    assert iterator.send(5) == (1, 1.0)
    with pytest.raises(StopIteration) as stop:
        iterator.send(6)
    assert stop.value.value == 11
    iterator = wl.resume_iter(exports.catching(), tag, 2)
    next(iterator)
    with pytest.raises(StopIteration) as stop:
        iterator.throw(wl.WasmException(exports["error"], 9))
    assert stop.value.value == 9


def test_plain_for():
    exports = wl.Instance(
        wl.Module("""(module (type $f (func)) (type $k (cont $f)) (tag $t (export "t") (param i32))
          (func $g (local $i i32)
            (loop $l (suspend $t (local.get $i))
              (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5)))))
          (elem declare func $g)
          (func (export "g") (result (ref $k)) (cont.new $k (ref.func $g))))""")
    ).exports
    assert list(wl.resume_iter(exports.g(), exports.t)) == [0, 1, 2, 3, 4]


def test_throw(exports):
    first = exports.catching().resume(1, on=exports["yield"])
    assert first.continuation.throw(wl.WasmException(exports["error"], 5)) == 5
    with pytest.raises(wl.WasmException):
        exports.start().throw(wl.WasmException(exports["error"], 5))
    with pytest.raises(TypeError, match="WasmException"):
        exports.start().throw(ValueError())


def test_uncaught_exception(exports):
    cont = exports.bad()
    with pytest.raises(wl.WasmException) as caught:
        cont.resume(3)
    assert caught.value.payload == (3,) and caught.value.tag == exports["error"]
    assert not cont.alive


def test_unhandled_tag_says_so(exports):
    with pytest.raises(wl.Trap, match="unhandled tag: no handler"):
        exports.odd().resume(1, on=exports["yield"])


def test_consumed(exports):
    cont = exports.start()
    assert exports.use(cont, 0) == 0
    assert not cont.alive
    with pytest.raises(wl.Trap, match="consumed"):
        cont.resume(1)
    with pytest.raises(ValueError, match="consumed"):
        exports.use(cont, 0)
    assert "consumed" in repr(cont)


def test_unknown_types(exports):
    cont = exports.plain()
    assert cont.type is None and cont.alive
    with pytest.raises(TypeError, match="plain contref"):
        cont.resume(1)
    with pytest.raises(TypeError):
        exports.use(cont, 1)
    assert exports.same(cont).alive
    assert exports.null() is None
    assert exports.same(None) is None


def test_wrong_arguments(exports):
    cont = exports.start()
    with pytest.raises(TypeError, match="takes 1 arguments"):
        cont.resume()
    with pytest.raises(TypeError, match="argument 1 of the continuation"):
        cont.resume("x")
    with pytest.raises(TypeError, match="tags"):
        cont.resume(1, on=[3])
    other = wl.Instance(wl.Module(GENERATOR)).exports
    with pytest.raises(ValueError, match="another store"):
        cont.resume(1, on=other["yield"])
    with pytest.raises(ValueError, match="another store"):
        other.use(cont, 1)
    with pytest.raises(TypeError, match="not a"):
        exports.wrong(cont)
    with pytest.raises(TypeError, match=r"takes a wasmloom\.Continuation"):
        exports.use(3, 1)
    assert cont.alive


def test_several_at_once_and_collected(exports):
    store = exports.start.store
    pairs = [exports.two() for _ in range(50)]
    collector.collect_garbage(store)
    assert collector.statistics(store)["continuations"] == 100
    assert all(first.resume(0) == 0 for first, _ in pairs)
    del pairs
    collector.collect_garbage(store)
    assert collector.statistics(store)["continuations"] == 0


def test_host_functions_take_and_give_continuations():
    kept = []
    source = """(module (type $f (func (result i32))) (type $k (cont $f))
      (import "" "swap" (func $swap (param (ref $k)) (result (ref null $k))))
      (func $one (result i32) (i32.const 1)) (elem declare func $one)
      (func (export "run") (result i32) (resume $k (call $swap (cont.new $k (ref.func $one))))))"""

    def swap(cont):
        kept.append(cont)
        return kept[0]

    exports = wl.Instance(wl.Module(source), {"": {"swap": swap}}).exports
    assert exports.run() == 1
    kept[0] = None
    with pytest.raises(wl.Trap, match="null continuation"):
        exports.run()


def test_resume_inside_of_a_host_function():
    """The host resumes a continuation that the guest has given it; it can't suspend across the host's frame."""
    source = """(module (type $f (func)) (type $k (cont $f))
      (import "" "resume" (func $resume (param (ref $k))))
      (tag $t (export "t"))
      (func $s (suspend $t)) (elem declare func $s $outer)
      (func $outer (call $resume (cont.new $k (ref.func $s))))
      (func (export "run") (result i32)
        (block $h (result (ref $k)) (resume $k (on $t $h) (cont.new $k (ref.func $outer))) (return (i32.const 0)))
        (drop) (i32.const 1)))"""
    instance = None
    results = []

    def resume(cont):
        results.append(cont.resume(on=instance.exports.t))

    instance = wl.Instance(wl.Module(source), {"": {"resume": resume}})
    assert instance.exports.run() == 0
    assert results[0].payload == ()
    instance = wl.Instance(wl.Module(source), {"": {"resume": lambda cont: cont.resume()}})
    with pytest.raises(wl.Trap, match="unhandled tag"):
        instance.exports.run()


def test_exnref_keeps_its_identity(exports):
    source = """(module (tag $e (export "e") (param i32))
      (func (export "make") (result exnref)
        (block $h (result exnref) (try_table (catch_all_ref $h) (throw $e (i32.const 5))) (unreachable)))
      (func (export "again") (param exnref) (result i32)
        (block $h (result i32) (try_table (catch $e $h) (throw_ref (local.get 0))) (unreachable)))
      (func (export "same") (param exnref) (result exnref) (local.get 0)))"""
    exports = wl.Instance(wl.Module(source)).exports
    error = exports.make()
    assert isinstance(error, wl.WasmException) and error.payload == (5,) and error.tag == exports.e
    assert exports.again(error) == 5
    assert exports.again(wl.WasmException(exports.e, 6)) == 6
    assert exports.same(None) is None
    store = exports.make.store
    before = collector.statistics(store)["exceptions"]
    assert exports.same(error).payload == (5,)
    assert collector.statistics(store)["exceptions"] == before
    with pytest.raises(TypeError, match="exnref takes"):
        exports.same(3)
    with pytest.raises(wl.Trap, match="null exception"):
        exports.again(None)


@pytest.mark.parametrize("name", ENGINES)
def test_exceptions_among_arguments_are_held_while_others_are_converted(name: str) -> None:
    exports = exports_of(
        """(module (tag $t (export "t") (param i64)) (type $f (func (param exnref i32) (result i64)))
          (type $k (cont $f)) (elem declare func $caught)
          (func $raise (param exnref) (throw_ref (local.get 0)))
          (func $caught (export "caught") (type $f) (block $h (result i64)
            (try_table (catch $t $h) (call $raise (local.get 0))) (unreachable)))
          (func (export "begin") (result (ref $k)) (cont.new $k (ref.func $caught)))
          (func (export "throws") (throw $t (i64.const 0))))""",
        engine_of(name),
    )

    class Number:
        def __index__(self) -> int:
            collector.collect_garbage(exports.t.store)
            with pytest.raises(wl.WasmException):
                exports.throws()
            return 1

    continuation = exports.begin()
    for call in (exports.caught, continuation.resume):
        assert call(wl.WasmException(exports.t, 12345), Number()) == 12345
    before = collector.statistics(exports.t.store)["collections"]
    collector.collect_garbage(exports.t.store)
    assert collector.statistics(exports.t.store)["collections"] > before, "nothing is held any more"


def test_exceptions_that_hold_exceptions():
    """A guest can build them as deep and as wide as it likes: the host converts none that nobody asks for."""
    source = """(module (tag $e (param exnref exnref))
      (func (export "nest") (param $n i32) (result exnref) (local $x exnref)
        (loop $l
          (block $h (result exnref)
            (try_table (catch_all_ref $h) (throw $e (local.get $x) (local.get $x))) (unreachable))
          (local.set $x)
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $x))
      (func (export "throw") (param exnref) (throw_ref (local.get 0))))"""
    exports = wl.Instance(wl.Module(source)).exports
    error = exports.nest(100_000)
    assert len(str(error)) < 300
    assert error.payload[0].payload[1].payload[0].tag == error.tag
    with pytest.raises(wl.WasmException):
        exports.throw(error)


def test_store_goes_without_the_collector_of_python():
    gc.disable()
    try:
        instance = wl.Instance(wl.Module(GENERATOR))
        instance.exports.start().resume(1, on=instance.exports["yield"])
        gone = weakref.ref(instance.exports.start.store)
        del instance
        assert gone() is None
    finally:
        gc.enable()
