"""Operations of host and guest that need memory, for tests that refuse it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import wasmloom as wl
from wasmloom.runtime.collector import collect_garbage

#: A guest that can do all that needs memory.
SOURCE = """(module
  (type $f (func)) (type $k (cont $f)) (type $fi (func (param i32) (result i32))) (type $ki (cont $fi))
  (type $wide (func (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)))
  (type $kw (cont $wide))
  (type $i (func (param i32))) (type $k0 (cont $i))
  (rec (type $fs (func (param i32 (ref null $ks)))) (type $ks (cont $fs)))
  (import "" "wait" (func $wait (param i32) (result i32)))
  (import "" "again" (func $again (param i32) (result i32)))
  (type $object (struct (field (mut anyref)) (field i64))) (type $objects (array (mut (ref null $object))))
  (global $objects (mut (ref null $objects)) (ref.null $objects))
  (tag $y (export "y") (param i32) (result i32)) (tag $e (export "e") (param i32 i64))
  (tag $big (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)) (tag $switch)
  (memory (export "memory") 1 9) (table $t (export "t") 1 1000 (ref null $k)) (table $x (export "x") 1 1000 externref)
  (table $kept 64 (ref null $ki))
  (elem declare func $co $nest $wide $sw $deep $none)
  (func $none)
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1))))) (else (i32.const 0))))
  (func $co (param i32) (result i32)
    (i32.add (call $deep (local.get 0)) (suspend $y (local.get 0))))
  (func $nest (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (suspend $y (i32.const 7)))))
    (resume $ki (i32.sub (local.get 0) (i32.const 1)) (cont.new $ki (ref.func $nest))))
  (func $wide (type $wide) (drop (suspend $y (i32.const 3))))
  (func $sw (type $fs)
    (if (i32.eqz (local.get 0)) (then (return)))
    (switch $ks $switch (i32.sub (local.get 0) (i32.const 1)) (cont.new $ks (ref.func $sw))) (drop) (drop))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "tables") (param i32) (result i32)
    (i32.add (table.grow $t (ref.null $k) (local.get 0)) (table.grow $x (ref.null extern) (local.get 0))))
  (func (export "throw") (param i32) (throw $e (local.get 0) (i64.const 5)))
  (func (export "catch") (param i32) (result i32)
    (loop $l
      (block $h (try_table (catch_all $h)
        (throw $big (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
          (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i32.const 5))
  (func (export "make") (param i32) (result (ref $ki)) (cont.new $ki (ref.func $co)))
  (func (export "make_chain") (result (ref $ki)) (cont.new $ki (ref.func $nest)))
  (func (export "run") (param $n i32) (result i32) (local $k (ref null $ki)) (local $sum i32)
    (loop $l
      (block $h (result i32 (ref $ki))
        (resume $ki (on $y $h) (local.get $n) (cont.new $ki (ref.func $co))) (return))
      (local.set $k) (local.set $sum (i32.add (local.get $sum)))
      (local.set $sum (i32.add (local.get $sum) (resume $ki (i32.const 1) (local.get $k))))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func (export "keep") (param $n i32) (local $k (ref null $ki))
    (loop $l
      (block $h (result i32 (ref $ki))
        (drop (resume $ki (on $y $h) (local.get $n) (cont.new $ki (ref.func $co)))) (return))
      (local.set $k) (drop)
      (table.set $kept (local.get $n) (local.get $k))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "nest") (param i32) (result i32)
    (block $h (result i32 (ref $ki))
      (return (resume $ki (on $y $h) (local.get 0) (cont.new $ki (ref.func $nest)))))
    (drop))
  (func (export "bind") (result i32) (local $k (ref null $k))
    (local.set $k (cont.bind $kw $k (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
      (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
      (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
      (cont.new $kw (ref.func $wide))))
    (block $h (result i32 (ref $k0)) (resume $k (on $y $h) (local.get $k)) (return (i32.const 0)))
    (drop))
  (func (export "switches") (param i32)
    (resume $ks (on $switch switch) (local.get 0) (ref.null $ks) (cont.new $ks (ref.func $sw))))
  (func (export "host") (param i32) (result i32) (call $again (local.get 0)))
  (func (export "waiting") (param i32) (result i32)
    (i32.add (call $deep (i32.const 20)) (call $wait (local.get 0))))
  (func (export "keep_object") (param externref) (table.set $x (i32.const 0) (local.get 0)))
  (func (export "same") (param externref exnref) (result externref exnref) (local.get 0) (local.get 1))
  (func (export "objects") (param $n i32) (result i32) (local $a (ref null $objects))
    (local.set $a (array.new_default $objects (local.get $n)))
    (loop $l
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (array.set $objects (local.get $a) (local.get $n) (struct.new $object (local.get $a) (i64.const 7)))
      (br_if $l (local.get $n)))
    (global.set $objects (array.new_fixed $objects 1 (struct.new_default $object)))
    (array.len (local.get $a)))
  (func (export "object") (param anyref) (result anyref) (local.get 0))
  (func (export "check") (result i32) (i32.const 42)))"""


async def wait(number: int) -> int:
    """What the guest waits for."""
    await asyncio.sleep(0)
    return number


class _Host:
    """Calls the guest back."""

    def __init__(self) -> None:
        self.made: list[wl.Instance] = []

    def again(self, number: int) -> int:
        exports = self.made[0].exports
        return exports.host(number - 1) if number else exports.check()


def instance_of(module: wl.Module, store: wl.Store) -> wl.Instance:
    """An instance whose host calls it back."""
    host = _Host()
    host.made.append(wl.Instance(module, {"": {"wait": wait, "again": host.again}}, store=store))
    return host.made[0]


def _same(value: int) -> int:
    return value


def _resume_twice(instance: wl.Instance, continuation: wl.Continuation) -> None:
    continuation.resume(5, on=instance.exports.y).continuation.resume(5)


def _iterate(instance: wl.Instance) -> None:
    suspensions = wl.resume_iter(instance.exports.make(3), instance.exports.y, 5)
    next(suspensions)
    with suppress(StopIteration):
        suspensions.send(1)


def _throw_into(instance: wl.Instance) -> None:
    suspended = instance.exports.make(3).resume(3, on=instance.exports.y)
    suspended.continuation.throw(wl.WasmException(instance.exports.e, 1, 2), on=instance.exports.y)


def _references(instance: wl.Instance) -> None:
    thing, error = object(), wl.WasmException(instance.exports.e, 1, 2)
    assert instance.exports.same(thing, error)[0] is thing


def _externs(instance: wl.Instance) -> None:
    store = instance.store
    wl.Memory(store, 1), wl.Table(store, "externref", 3), wl.Global(store, "i32", 5), wl.Tag(store, "i32")
    wl.Func(store, "i32 -> i32", _same)(3)


def _objects(instance: wl.Instance) -> None:
    store = instance.store
    made = wl.Struct(store, wl.StructType((wl.FieldType(wl.I32, True), wl.FieldType(wl.ANYREF, True))), [1, object()])
    made[1] = wl.Array(store, wl.ArrayType(wl.FieldType(wl.ANYREF, True)), [1, made, "text"])
    assert instance.exports.object(made)[1][1] == made


async def _waiting(instance: wl.Instance) -> None:
    await asyncio.gather(*(instance.exports.waiting.call_async(i) for i in range(3)))


#: What can be done with an instance of `SOURCE`, by name. None makes a function of Python: where there is no memory for
#: one, CPython 3.12 and 3.13 release its code twice, and crash later.
OPERATIONS: dict[str, Callable[[wl.Instance], object]] = {
    "grow": lambda instance: instance.exports.grow(1),
    "tables": lambda instance: instance.exports.tables(100),
    "throw": lambda instance: instance.exports.throw(1),
    "catch": lambda instance: instance.exports.catch(200),
    "make": lambda instance: [instance.exports.make(i) for i in range(10)],
    "resume": lambda instance: _resume_twice(instance, instance.exports.make(3)),
    "resume a chain": lambda instance: _resume_twice(instance, instance.exports.make_chain()),
    "handle": lambda instance: instance.exports.make(3).resume(50, on={instance.exports.y: _same}),
    "iterate": _iterate,
    "throw into": _throw_into,
    "run": lambda instance: instance.exports.run(50),
    "keep": lambda instance: instance.exports.keep(50),
    "nest": lambda instance: instance.exports.nest(40),
    "bind": lambda instance: instance.exports.bind(),
    "switches": lambda instance: instance.exports.switches(40),
    "deep": lambda instance: instance.exports.deep(3000),
    "host": lambda instance: instance.exports.host(5),
    "wait": lambda instance: asyncio.run(_waiting(instance)),
    "keep an object": lambda instance: instance.exports.keep_object(object()),
    "references": _references,
    "externs": _externs,
    "objects": lambda instance: instance.exports.objects(3000),
    "objects of the host": _objects,
    "instantiate": lambda instance: instance_of(instance.module, instance.store),
    "collect": lambda instance: collect_garbage(instance.store),
}
