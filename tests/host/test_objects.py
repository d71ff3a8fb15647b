"""Structs, arrays and i31s in Python: what users see of a guest's objects."""

from __future__ import annotations

import gc

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.runtime.collector import statistics

TEXT = """(module
  (type $p (struct (field $x (mut i32)) (field $y f64) (field $tiny (mut i8)) (field $short (mut i16))))
  (type $node (struct (field (mut (ref null $node))) (field (mut externref)) (field (mut anyref))))
  (type $bytes (array (mut i8))) (type $nums (array (mut f64))) (type $fixed (array i32))
  (type $refs (array (mut anyref)))
  (type $vectors (array (mut v128)))
  (import "h" "take" (func $take (param anyref) (result anyref)))
  (func (export "p") (param i32 f64) (result (ref $p))
    (struct.new $p (local.get 0) (local.get 1) (i32.const 0x1FF) (i32.const -2)))
  (func (export "x") (param (ref null $p)) (result i32) (struct.get $p $x (local.get 0)))
  (func (export "tiny") (param (ref null $p)) (result i32) (struct.get_s $p $tiny (local.get 0)))
  (func (export "node") (result (ref $node)) (struct.new_default $node))
  (func (export "bytes") (param i32) (result (ref $bytes)) (array.new $bytes (i32.const 7) (local.get 0)))
  (func (export "sum") (param (ref $bytes)) (result i32) (local $i i32) (local $s i32)
    (block $end (loop $l
      (br_if $end (i32.ge_u (local.get $i) (array.len (local.get 0))))
      (local.set $s (i32.add (local.get $s) (array.get_u $bytes (local.get 0) (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $l)))
    (local.get $s))
  (func (export "nums") (param i32) (result (ref $nums)) (array.new_default $nums (local.get 0)))
  (func (export "fixed") (result (ref $fixed)) (array.new_fixed $fixed 3 (i32.const 1) (i32.const -2) (i32.const 3)))
  (func (export "refs") (param i32) (result (ref $refs)) (array.new_default $refs (local.get 0)))
  (func (export "vectors") (result (ref $vectors))
    (array.new_fixed $vectors 2 (v128.const i64x2 1 2) (v128.const i64x2 3 4)))
  (func (export "same") (param eqref eqref) (result i32) (ref.eq (local.get 0) (local.get 1)))
  (func (export "any") (param anyref) (result anyref) (local.get 0))
  (func (export "out") (param anyref) (result externref) (extern.convert_any (local.get 0)))
  (func (export "in") (param externref) (result anyref) (any.convert_extern (local.get 0)))
  (func (export "i31") (param i31ref) (result i31ref) (local.get 0))
  (func (export "eq") (param eqref) (result eqref) (local.get 0))
  (func (export "struct") (param structref) (result structref) (local.get 0))
  (func (export "taken") (param anyref) (result anyref) (call $take (local.get 0)))
  (global (export "g") (mut anyref) (ref.i31 (i32.const -5)))
  (table (export "t") 4 anyref (struct.new $p (i32.const 11) (f64.const 2) (i32.const 3) (i32.const 4))))"""


@pytest.fixture(params=ENGINES)
def guest(request: pytest.FixtureRequest) -> wl.Instance:
    engine = engine_of(request.param)
    return wl.Instance(wl.Module(TEXT, engine), {"h": {"take": lambda value: value}}, store=wl.Store(engine))


def test_fields(guest: wl.Instance) -> None:
    p = guest.exports.p(-3, 2.5)
    assert isinstance(p, wl.Struct) and p.store is guest.store
    assert list(p) == [-3, 2.5, 0xFF, 0xFFFE] and len(p) == 4  # packed ones are unsigned
    p[0], p[2], p[3] = 9, -1, 0xFFFF
    assert list(p) == [9, 2.5, 0xFF, 0xFFFF] and guest.exports.x(p) == 9 and guest.exports.tiny(p) == -1
    with pytest.raises(TypeError, match="field 1 is immutable"):
        p[1] = 3.0
    with pytest.raises(IndexError, match="field 4 of a struct with 4"):
        p[4]
    with pytest.raises(OverflowError, match="300 is out of range for i8"):
        p[2] = 300
    with pytest.raises(TypeError, match="i32 takes an int"):
        p[0] = "x"
    assert list(p) == [9, 2.5, 0xFF, 0xFFFF]
    assert [str(field.storage) for field in p.type.fields] == ["i32", "f64", "i8", "i16"]
    assert [field.mutable for field in p.type.fields] == [True, False, True, True]


def test_references(guest: wl.Instance) -> None:
    node = guest.exports.node()
    assert list(node) == [None, None, None]
    thing = object()
    node[0], node[1], node[2] = node, thing, "text"
    assert node[0] == node and node[1] is thing and node[2] == "text"
    node[2] = node
    assert node[2] == node and hash(node[2]) == hash(node)
    with pytest.raises(TypeError, match="is not of type"):
        node[0] = guest.exports.p(1, 2.0)
    with pytest.raises(TypeError, match="doesn't take str"):
        node[0] = "text"
    other = wl.Instance(wl.Module(TEXT, guest.store.engine), {"h": {"take": id}}, store=wl.Store(guest.store.engine))
    with pytest.raises(ValueError, match="another store"):
        node[0] = other.exports.node()


def test_arrays(guest: wl.Instance) -> None:
    array = guest.exports.bytes(5)
    assert isinstance(array, wl.Array) and len(array) == 5 and list(array) == [7] * 5
    array[0], array[-1] = 1, 255
    assert array[:] == [1, 7, 7, 7, 255] and array[1:3] == [7, 7] and guest.exports.sum(array) == 277
    array[1:4] = [2, 3, 4]
    assert array[::2] == [1, 3, 255]
    with pytest.raises(ValueError, match="a slice of 2 elements can't be set to 1"):
        array[:2] = [1]
    with pytest.raises(IndexError, match="element 5 of an array with 5"):
        array[5]
    with pytest.raises(IndexError):
        array[-6]
    assert str(array.type.field.storage) == "i8" and array.type.field.mutable
    fixed = guest.exports.fixed()
    assert fixed[:] == [1, -2, 3]
    with pytest.raises(TypeError, match="immutable"):
        fixed[0] = 1
    vectors = guest.exports.vectors()
    vectors[0] = bytes(range(16))
    assert vectors[:] == [bytes(range(16)), (3 | 4 << 64).to_bytes(16, "little")]


def test_buffers(guest: wl.Instance) -> None:
    array = guest.exports.bytes(300)
    view = memoryview(array)
    assert (view.format, view.itemsize, view.shape, view.readonly) == ("B", 1, (300,), False)
    view[0:3] = b"abc"
    del array
    gc.collect()
    guest.store.gc()
    assert bytes(view[:4]) == b"abc\7"  # the view keeps the array
    numbers = guest.exports.nums(4)
    memoryview(numbers)[2] = 1.5
    assert numbers[:] == [0.0, 0.0, 1.5, 0.0]
    fixed = memoryview(guest.exports.fixed())
    assert fixed.tolist() == [1, -2, 3] and fixed.readonly
    with pytest.raises(BufferError, match="no buffer"):
        memoryview(guest.exports.refs(1))


def test_what_converts_to_what(guest: wl.Instance) -> None:
    p, array = guest.exports.p(1, 2.0), guest.exports.bytes(1)
    exports = guest.exports
    for value in (p, array, 0, -1, (1 << 30) - 1, -(1 << 30), None, "text", 1.5, 1 << 40, True):
        assert exports.any(value) == value and exports.taken(value) == value
        assert exports["in"](exports.out(value)) == value and exports["in"](value) == value
        assert exports.out(value) == value
    assert exports.i31((1 << 31) - 1) == -1
    for value in (1 << 31, -(1 << 30) - 1):
        for name in ("i31", "eq"):
            with pytest.raises(OverflowError, match="out of range for i31"):
                exports[name](value)
    assert exports.eq(p) == p and exports.struct(p) == p and exports.struct(None) is None
    with pytest.raises(TypeError, match="is not of type structref"):
        exports.struct(array)
    with pytest.raises(TypeError, match="structref doesn't take int"):
        exports.struct(3)
    with pytest.raises(TypeError, match="eqref doesn't take str"):
        exports.eq("text")
    assert exports.same(p, p) and exports.same(5, 5) and not exports.same(p, exports.p(1, 2.0))
    assert exports.g.value == -5
    exports.g.value = p
    assert exports.g.value == p and list(exports.t[3]) == [11, 2.0, 3, 4] and exports.t[0] == exports.t[1]


def test_python_makes_objects(guest: wl.Instance) -> None:
    store, exports = guest.store, guest.exports
    type = exports.x.type.params[0]
    p = wl.Struct(store, type, [4, 5.0, 6, 7])
    assert exports.x(p) == 4 and list(wl.Struct(store, type)) == [0, 0.0, 0, 0]
    own = wl.StructType((wl.FieldType(wl.I32, True), wl.FieldType(wl.I8, False), wl.FieldType(wl.ANYREF, True)))
    made = wl.Struct(store, own, [1, 2, p])
    assert list(made) == [1, 2, p] and exports.any(made) == made and exports.struct(made) == made
    with pytest.raises(TypeError, match="is not of type"):
        exports.x(made)
    numbers = wl.Array(store, wl.ArrayType(wl.FieldType(wl.F64, True)), [1, 2.5])
    assert numbers[:] == [1.0, 2.5] and len(wl.Array(store, exports.sum.type.params[0], 7)) == 7
    assert exports.sum(wl.Array(store, exports.sum.type.params[0], b"abc")) == 97 + 98 + 99
    wrong: list[tuple[object, object, object]] = [
        (wl.Struct, type, [1]),
        (wl.Struct, "i32", None),
        (wl.Struct, type, ["x", 1, 1, 1]),
        (wl.Struct, wl.StructType((wl.FieldType(exports.p.type.results[0], True),)), None),
        (wl.Struct, wl.StructType(("i32",)), None),  # type: ignore[arg-type]
        (wl.Array, type, 3),
        (wl.Array, own, 3),
    ]
    for make, what, values in wrong:
        with pytest.raises(TypeError):
            make(store, what, values)  # type: ignore[operator]
    with pytest.raises(ValueError, match="at most"):
        wl.Array(store, wl.ArrayType(wl.FieldType(wl.I8, True)), -1)


def test_python_keeps_what_it_has(guest: wl.Instance) -> None:
    def count() -> int:
        gc.collect()
        guest.store.gc()
        return statistics(guest.store)["objects"]

    before = count()
    node = guest.exports.node()
    node[0] = guest.exports.node()
    node[0][2] = guest.exports.bytes(100_000)  # a large one
    assert count() == before + 3
    inner = node[0]
    del node
    assert count() == before + 2
    inner[0] = inner  # a cycle of the guest's own
    del inner
    assert count() == before


def test_a_cycle_through_python_stays(guest: wl.Instance) -> None:
    """A guest's object keeps a Python object that keeps it: no collector sees all of that. Breaking it frees it."""
    node = guest.exports.node()
    holder = [node]
    node[1] = holder
    guest.store.gc()
    before = statistics(guest.store)["objects"]
    del node
    gc.collect()
    guest.store.gc()
    assert statistics(guest.store)["objects"] == before
    holder.clear()
    gc.collect()
    guest.store.gc()
    assert statistics(guest.store)["objects"] == before - 1
