"""Structs, arrays and i31s in snapshots: contents, identity, cycles, in every tier; and objects that can't be."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from wasmloom.runtime.collector import statistics
from wasmloom.snapshot.data import Home, ObjectData, SegmentData, Thing
from wasmloom.snapshot.format import decode, encode

TEXT = """(module
  (rec (type $node (sub (struct (field $v (mut i32)) (field $next (mut (ref null $node))))))
       (type $big (sub final $node (struct (field (mut i32)) (field (mut (ref null $node))) (field (mut f64)))))
       (type $packed (struct (field (mut i8)) (field (mut i16)) (field (mut f32)) (field i64) (field (mut v128))
                             (field (mut funcref)) (field (mut externref)) (field (mut anyref)))))
  (type $bytes (array (mut i8))) (type $refs (array (mut anyref))) (type $pairs (array i64))
  (func $f (export "f") (result i32) (i32.const 42))
  (elem declare func $f)
  (global $head (export "head") (mut (ref null $node)) (ref.null $node))
  (global $fixed (export "fixed") (ref $node) (struct.new $node (i32.const 7) (ref.null $node)))
  (global $any (export "any") (mut anyref) (ref.i31 (i32.const -5)))
  (global $ext (export "ext") (mut externref) (ref.null extern))
  (global (export "seven") (ref i31) (ref.i31 (i32.const 7)))
  (table $t (export "t") 4 anyref)
  (table $n (export "n") 2 4 (ref $node) (struct.new $node (i32.const 1) (ref.null $node)))
  (elem $e (ref $node) (item (struct.new $node (i32.const 70) (ref.null $node))) (item (global.get $fixed)))
  (func (export "ring") (param $count i32) (local $first (ref null $node))
    (local.set $first (struct.new $node (i32.const 0) (ref.null $node)))
    (global.set $head (local.get $first))
    (loop $l
      (global.set $head (struct.new $node (local.get $count) (global.get $head)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $l (local.get $count)))
    (struct.set $node $next (ref.as_non_null (local.get $first)) (global.get $head)))
  (func (export "make") (param $x externref) (local $r (ref $refs)) (local $p (ref $packed))
    (local.set $p (struct.new $packed (i32.const -1) (i32.const -2) (f32.const nan:0x234567) (i64.const -3)
      (v128.const i64x2 5 6) (ref.func $f) (local.get $x) (ref.i31 (i32.const 9))))
    (local.set $r (array.new_fixed $refs 5 (ref.null any) (local.get $p) (local.get $p) (ref.i31 (i32.const 1))
      (any.convert_extern (local.get $x))))
    (array.set $refs (local.get $r) (i32.const 0) (local.get $r))
    (table.set $t (i32.const 0) (local.get $r)) (table.set $t (i32.const 1) (local.get $p))
    (table.set $t (i32.const 2) (array.new_fixed $bytes 3 (i32.const 1) (i32.const 2) (i32.const 3)))
    (table.set $t (i32.const 3) (array.new_fixed $pairs 2 (i64.const -1) (i64.const 1)))
    (global.set $ext (extern.convert_any (ref.i31 (i32.const 3))))
    (struct.set $node $v (global.get $fixed) (i32.const 8))
    (drop (table.grow $n (global.get $fixed) (i32.const 1)))
    (table.set $n (i32.const 0) (struct.new $big (i32.const 2) (global.get $fixed) (f64.const 1.5))))
  (func (export "sum") (param $count i32) (result i64) (local $at (ref null $node)) (local $sum i64)
    (local.set $at (global.get $head))
    (loop $l
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s (struct.get $node $v (local.get $at)))))
      (local.set $at (struct.get $node $next (local.get $at)))
      (br_if $l (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $sum))
  (func $refs (export "refs") (result (ref $refs)) (ref.cast (ref $refs) (table.get $t (i32.const 0))))
  (func $packed (export "packed") (result (ref $packed)) (ref.cast (ref $packed) (table.get $t (i32.const 1))))
  (func (export "same") (result i32)
    (i32.and (i32.and
      (ref.eq (ref.cast eqref (array.get $refs (call $refs) (i32.const 0))) (call $refs))
      (ref.eq (ref.cast eqref (array.get $refs (call $refs) (i32.const 1))) (call $packed)))
      (i32.and (ref.eq (table.get $n (i32.const 2)) (global.get $fixed))
        (ref.eq (struct.get $node $next (table.get $n (i32.const 0))) (global.get $fixed)))))
  (func (export "f32") (result i32) (i32.reinterpret_f32 (struct.get $packed 2 (call $packed))))
  (func (export "lanes") (result i64 i64) (i64x2.extract_lane 0 (struct.get $packed 4 (call $packed)))
    (i64x2.extract_lane 1 (struct.get $packed 4 (call $packed))))
  (func (export "i31") (result i32) (i31.get_s (ref.cast (ref i31) (any.convert_extern (global.get $ext)))))
  (func (export "big") (result f64) (struct.get $big 2 (ref.cast (ref $big) (table.get $n (i32.const 0)))))
  (func (export "fixed_value") (result i32) (struct.get $node $v (global.get $fixed)))
  (func (export "from_segment") (result i32)
    (table.init $n $e (i32.const 1) (i32.const 0) (i32.const 1)) (struct.get $node $v (table.get $n (i32.const 1))))
  (func (export "into_segment") (drop (i32.const 0))))"""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    return engine_of(request.param)


def made(engine: wl.Engine) -> Any:
    exports = wl.Instance(wl.Module(TEXT, engine)).exports
    exports.ring(1000)
    return exports


THING = object()


def test_contents_and_identity(engine: wl.Engine) -> None:
    exports = made(engine)
    exports.make(THING)
    kept = wl.Snapshot.take(exports.t.store, persistent_id={THING: "thing"}.get)
    data = kept.to_bytes()
    again = wl.Snapshot.from_bytes(data, engine=engine)
    assert again.to_bytes() == data and again == kept
    for snapshot in (kept, again):
        copy = snapshot.restore(persistent_load={"thing": THING}.get).instances[0].exports
        assert wl.Snapshot.take(copy.t.store, persistent_id={THING: "thing"}.get).to_bytes() == data
        assert copy.sum(1001) == 500500 == copy.sum(2002) - copy.sum(1001)  # it is a ring
        assert copy.same() == 1 and copy.f32() == 0x7FA34567 and copy.lanes() == (5, 6) and copy.i31() == 3
        packed, refs = copy.packed(), copy.refs()
        assert list(packed)[:2] == [255, 65534] and packed[3] == -3 and packed[5]() == 42
        assert packed[6] is THING and packed[7] == 9 and refs[3] == 1 and refs[4] is THING
        assert refs[0] == refs and refs[1] == packed == refs[2]
        assert bytes(memoryview(copy.t[2])) == b"\1\2\3" and list(copy.t[3]) == [-1, 1]
        assert copy.any.value == -5 and copy.seven.value == 7
        assert copy.big() == 1.5 and copy.fixed_value() == 8 and copy.n.size == 3
        assert copy.from_segment() == 70
        # Each has its own.
        copy.head.value[0] = 100
        assert exports.sum(1001) == 500500
        copy.t.store.gc()
        assert copy.sum(1) == 100


def test_what_nothing_holds_is_not_copied(engine: wl.Engine) -> None:
    exports = made(engine)
    for _ in range(5):
        exports.ring(1000)
    mine = exports.head.value  # Python's own references aren't part of the store
    exports.head.value = None
    copy = wl.fork(exports.t.store)
    copy.store.gc()
    assert mine[0] == 1 and statistics(copy.store)["objects"] < 10


def test_many_objects(engine: wl.Engine) -> None:
    exports = made(engine)
    exports.ring(100_000)
    copy = wl.fork(exports.t.store).instances[0].exports
    assert copy.sum(100_001) == exports.sum(100_001)


def test_segments_keep_their_objects(engine: wl.Engine) -> None:
    """What an element segment holds is an object that others may hold, too, and change."""
    exports = made(engine)
    assert exports.from_segment() == 70
    exports.n[1][0] = 71
    copy = wl.fork(exports.t.store).instances[0].exports
    assert copy.n[1][0] == 71 and copy.from_segment() == 71


def test_limits() -> None:
    engine = engine_of("interpreter")
    exports = made(engine)
    exports.ring(50_000)
    kept = wl.Snapshot.take(exports.t.store)
    small = decode(kept.to_bytes(embed=False))[0]._replace(memory_limit=200_000)
    modules = kept.modules
    with pytest.raises(wl.WasmError, match="memory"):
        wl.Snapshot.from_bytes(encode(small, {}), modules=modules).restore()


def test_types_that_no_module_has() -> None:
    exports = made(engine_of("interpreter"))
    exports.any.value = wl.Struct(exports.t.store, wl.StructType((wl.FieldType(wl.F64, True),) * 3), [1, 2, 3])
    with pytest.raises(wl.WasmError, match="the host has made it"):
        wl.Snapshot.take(exports.t.store)


# --- what anyone may have made ---

SOURCE = made(engine_of("interpreter"))
SOURCE.make(None)
KEPT = wl.Snapshot.take(SOURCE.t.store)
STATE = decode(KEPT.to_bytes(embed=False))[0]


def tried(state: Any) -> None:
    """Restore it, and use all there is, if that is possible."""
    try:
        kept = wl.Snapshot.from_bytes(encode(state, {}), modules=KEPT.modules)
        copy = kept.restore(persistent_load=lambda name: name).instances[0].exports
    except wl.WasmError as error:
        assert str(error)
        return
    for function in copy.values():
        if isinstance(function, wl.Func) and not function.type.params:
            with suppress(wl.Trap):
                function()
    copy.t.store.gc()
    wl.Snapshot.take(copy.t.store, persistent_id=str).restore(persistent_load=str)


def _changed(number: int, **changes: Any) -> Callable[[Any], Any]:
    def change(state: Any) -> Any:
        objects = list(state.objects)
        objects[number] = objects[number]._replace(**changes)
        return state._replace(objects=tuple(objects))

    return change


#: The number of a list's first node, and of the struct with many fields.
NODE = STATE.globals[0].value[0].number  # type: ignore[index, union-attr]
PACKED = next(i for i, thing in enumerate(STATE.objects) if len(thing.references) == 3)


@pytest.mark.parametrize(
    "change",
    [
        _changed(NODE, type=99), _changed(NODE, module=1), _changed(NODE, data=b""), _changed(NODE, data=bytes(5)),
        _changed(NODE, references=()), _changed(NODE, references=(None, None)), _changed(NODE, references=(5,)),
        _changed(NODE, references=(Home(0, 0),)), _changed(NODE, references=("name",)),
        _changed(NODE, references=(Thing(len(STATE.objects)),)), _changed(NODE, references=(Thing(PACKED),)),
        _changed(PACKED, references=(Thing(NODE), None, None)), _changed(PACKED, references=(5, None, None)),
        _changed(PACKED, references=(Home(0, 99), None, None)),
        lambda state: state._replace(objects=state.objects[:-1]),
        lambda state: state._replace(segments=(SegmentData(0, 0, (Thing(0),)),)),
        lambda state: state._replace(segments=(SegmentData(0, 9, (Thing(0),)),)),
        lambda state: state._replace(segments=(SegmentData(1, 1, (Thing(0),)),)),
        lambda state: state._replace(segments=state.segments * 2),
        lambda state: state._replace(objects=(*state.objects, ObjectData(0, 3, b"", (None,)))),
    ],
)  # fmt: skip
def test_objects_that_cannot_be(change: Callable[[Any], Any]) -> None:
    tried(STATE)
    with pytest.raises(wl.WasmError, match="damaged snapshot"):
        wl.Snapshot.from_bytes(encode(change(STATE), {}), modules=KEPT.modules).restore(persistent_load=str)


def test_immutable_globals_keep_their_kind() -> None:
    """The compiler may rely on what an initialiser makes."""
    fixed = 1
    assert isinstance(STATE.globals[fixed].value[0], Thing)  # type: ignore[index]
    other = next(i for i, thing in enumerate(STATE.objects) if len(thing.data) == 12)  # of the subtype
    for value in (Thing(other), 5, None):
        items = list(STATE.globals)
        items[fixed] = items[fixed]._replace(value=(value,))
        with pytest.raises(wl.WasmError, match="damaged snapshot"):
            wl.Snapshot.from_bytes(encode(STATE._replace(globals=tuple(items)), {}), modules=KEPT.modules).restore()


REFERENCES = st.none() | st.integers(-(1 << 30), (1 << 30) - 1) | st.integers(0, 1010).map(Thing) | st.just("x") | (
    st.tuples(st.integers(0, 1), st.integers(0, 20)).map(lambda pair: Home(*pair))
)  # fmt: skip


@given(st.data())
def test_any_objects(data: st.DataObject) -> None:
    objects = list(STATE.objects)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 5) | st.integers(995, len(objects) - 1))
        old = objects[at]
        objects[at] = ObjectData(
            0,
            data.draw(st.just(old.type) | st.integers(0, 8)),
            data.draw(st.just(old.data) | st.binary(max_size=40)),
            data.draw(st.just(old.references) | st.lists(REFERENCES, max_size=4).map(tuple)),
        )
    tables = list(STATE.tables)
    at = data.draw(st.integers(0, 1))
    elements = list(tables[at].elements)
    elements[data.draw(st.integers(0, len(elements) - 1))] = data.draw(REFERENCES)
    tables[at] = tables[at]._replace(elements=tuple(elements))
    tried(STATE._replace(objects=tuple(objects), tables=tuple(tables)))
