"""Custom descriptors in all tiers: where they lie in objects, what keeps them, and what Python sees."""

from __future__ import annotations

import gc

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.runtime.collector import collect_always, statistics
from wasmloom.text.printer import print_module

#: A type without a descriptor, one below it that has one, and one below that, with fields of all sizes between.
SHAPES = """(module
  (type $plain (sub (struct (field $a i8))))
  (rec
    (type $shape (sub $plain (descriptor $table) (struct (field $a i8) (field $b (mut i16)) (field $c i64))))
    (type $table (sub (describes $shape) (struct (field $area (ref $area)) (field $tag i32))))
    (type $area (func (param (ref $shape)) (result i64))))
  (rec
    (type $square (sub final $shape (descriptor $squares)
      (struct (field $a i8) (field $b (mut i16)) (field $c i64) (field $d v128) (field $e (mut anyref)))))
    (type $squares (sub final $table (describes $square) (struct (field $area (ref $area)) (field $tag i32)))))
  (global $table (ref (exact $table)) (struct.new $table (ref.func $shape_area) (i32.const 5)))
  (global $other (export "other") (ref (exact $table)) (struct.new $table (ref.func $shape_area) (i32.const 5)))
  (global $squares (ref (exact $squares)) (struct.new $squares (ref.func $square_area) (i32.const 6)))
  (global (export "constant") (ref $shape)
    (struct.new_desc $shape (i32.const -1) (i32.const 2) (i64.const 3) (global.get $table)))
  (func $shape_area (type $area) (param (ref $shape)) (result i64) (struct.get $shape $c (local.get 0)))
  (func $square_area (type $area) (param (ref $shape)) (result i64)
    (i64.mul (struct.get $shape $c (local.get 0)) (i64x2.extract_lane 1
      (struct.get $square $d (ref.cast_desc_eq (ref (exact $square)) (local.get 0) (global.get $squares))))))
  (func (export "shape") (param i64) (result (ref $shape))
    (struct.new_desc $shape (i32.const 200) (i32.const 40000) (local.get 0) (global.get $table)))
  (func (export "square") (param i64 anyref) (result (ref $shape))
    (struct.new_desc $square (i32.const 201) (i32.const 40001) (local.get 0) (v128.const i64x2 1 7) (local.get 1)
      (global.get $squares)))
  (func (export "default") (param $null i32) (result (ref $square))
    (struct.new_default_desc $square
      (if (result (ref null (exact $squares))) (local.get $null)
        (then (ref.null none)) (else (global.get $squares)))))
  (func (export "fresh") (param i32) (result (ref $shape))
    (struct.new_desc $shape (i32.const 1) (i32.const 2) (i64.const 3)
      (struct.new $table (ref.func $shape_area) (local.get 0))))
  (func (export "area") (param (ref $shape)) (result i64)
    (call_ref $area (local.get 0) (struct.get $table $area (ref.get_desc $shape (local.get 0)))))
  (func (export "tag") (param (ref null $shape)) (result i32)
    (struct.get $table $tag (ref.get_desc $shape (local.get 0))))
  (func (export "fields") (param (ref null $shape)) (result i32 i32 i64)
    (struct.get_u $plain $a (local.get 0)) (struct.get_s $shape $b (local.get 0)) (struct.get $shape $c (local.get 0)))
  (func (export "set") (param (ref null $shape) i32) (struct.set $shape $b (local.get 0) (local.get 1)))
  (func (export "same") (param anyref (ref null $table)) (result i32)
    (block $yes (result (ref $shape))
      (br_on_cast_desc_eq $yes anyref (ref $shape) (local.get 0) (local.get 1))
      (return (i32.const 0)))
    (return (i32.const 1)))
  (func (export "not_same") (param anyref (ref null $table)) (result i32)
    (block $no (result anyref)
      (br_on_cast_desc_eq_fail $no anyref (ref null $shape) (local.get 0) (local.get 1))
      (return (i32.const 0)))
    (return (i32.const 1)))
  (func (export "cast") (param anyref (ref null $table)) (result (ref null $shape))
    (ref.cast_desc_eq (ref null $shape) (local.get 0) (local.get 1)))
  (func (export "desc") (param (ref $shape)) (result (ref $table)) (ref.get_desc $shape (local.get 0)))
  (func (export "exact") (param anyref) (result i32 i32 i32)
    (ref.test (ref (exact $shape)) (local.get 0)) (ref.test (ref $shape) (local.get 0))
    (ref.test (ref null (exact $square)) (local.get 0))))"""


class Guest:
    def __init__(self, name: str, always: bool = False) -> None:
        self.module = wl.Module(SHAPES, engine_of(name))
        self.store = wl.Store(self.module.engine)
        collect_always(self.store, always)
        self.exports = wl.Instance(self.module, store=self.store).exports


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("always", [False, True])
def test_fields_and_descriptors(name: str, always: bool) -> None:
    exports = Guest(name, always).exports
    shape, square = exports.shape(1 << 40), exports.square(5, "any")
    assert exports.fields(shape) == (200, 40000 - 65536, 1 << 40) and exports.fields(square) == (201, 40001 - 65536, 5)
    exports.set(square, 77)
    assert exports.fields(square) == (201, 77, 5) and square[4] == "any" and len(square) == 5
    assert exports.area(shape) == 1 << 40 and exports.area(square) == 35
    assert (exports.tag(shape), exports.tag(square), exports.tag(exports.constant.value)) == (5, 6, 5)
    assert exports.fields(exports.constant.value) == (255, 2, 3)
    assert exports.exact(shape) == (1, 1, 0) and exports.exact(square) == (0, 1, 1)
    assert exports.exact(None) == (0, 0, 1) and exports.exact(5) == (0, 0, 0)
    fresh = exports.default(0)
    assert exports.tag(fresh) == 6 and list(fresh) == [0, 0, 0, bytes(16), None]


def test_casts_compare_descriptors(name: str) -> None:
    exports = Guest(name).exports
    shape, square, other = exports.shape(1), exports.square(2, None), exports.other.value
    own = exports.desc(shape)
    for value in (shape, square, own, None, 5, "text"):
        for descriptor in (own, other, exports.desc(square)):
            same = value in (shape, square) and exports.desc(value) == descriptor
            assert exports.same(value, descriptor) == same
            assert exports.not_same(value, descriptor) == (not same and value is not None)
            if same or value is None:
                assert exports.cast(value, descriptor) == value
            else:
                with pytest.raises(wl.Trap, match="descriptor cast failure"):
                    exports.cast(value, descriptor)
        for function in (exports.same, exports.not_same, exports.cast):
            with pytest.raises(wl.Trap, match="null descriptor reference"):
                function(value, None)
    with pytest.raises(wl.Trap, match="null descriptor reference"):
        exports.default(1)
    with pytest.raises(wl.Trap, match="null reference"):
        exports.tag(None)


@pytest.mark.parametrize("always", [False, True])
def test_an_object_keeps_its_descriptor(name: str, always: bool) -> None:
    guest = Guest(name, always)

    def objects() -> int:
        gc.collect()
        guest.store.gc()
        return statistics(guest.store)["objects"]

    before = objects()
    made = [guest.exports.fresh(i) for i in range(20)]
    assert objects() == before + 40
    assert [guest.exports.tag(shape) for shape in made] == list(range(20))
    del made
    assert objects() == before


def test_python_makes_no_such_structs(name: str) -> None:
    guest = Guest(name)
    with pytest.raises(TypeError, match="only guests make such structs"):
        wl.Struct(guest.store, guest.exports.area.type.params[0], [1, 2, 3])
    table = wl.Struct(guest.store, guest.exports.other.type.content, [guest.exports.desc(guest.exports.shape(1))[0], 9])
    assert guest.exports.same(guest.exports.shape(1), table) == 0
    assert str(guest.exports.other.type.content).startswith("(ref (exact ")
    with pytest.raises(TypeError, match="is not of type"):
        guest.exports.same(None, guest.exports.shape(1))


def test_snapshots_have_descriptors(name: str) -> None:
    text = """(module
      (rec (type $a (descriptor $b) (struct (field (mut i32)))) (type $b (describes $a) (struct (field i32))))
      (global $g (export "g") (mut (ref null $a))
        (struct.new_desc $a (i32.const 1) (struct.new $b (i32.const 2))))
      (func (export "both") (result i32 i32)
        (struct.get $a 0 (global.get $g)) (struct.get $b 0 (ref.get_desc $a (global.get $g))))
      (func (export "set") (param i32) (struct.set $a 0 (global.get $g) (local.get 0))))"""
    module = wl.Module(text, engine_of(name))
    instance = wl.Instance(module, store=wl.Store(module.engine))
    instance.exports.set(7)
    (restored,) = wl.Snapshot.take(instance.store).restore().instances
    assert restored.exports.both() == (7, 2)


def test_text_and_bytes_agree() -> None:
    module = wl.Module(SHAPES)
    again = wl.Module(print_module(module.decoded.data))
    assert print_module(again.decoded.data) == print_module(module.decoded.data)
