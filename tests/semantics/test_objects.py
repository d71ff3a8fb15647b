"""Programs on objects, in all tiers, compared with Python; with collections before each object that is made."""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of, outcome_of
from wasmloom.runtime.collector import collect_always, statistics

NODES = 12
#: A guest with a table of roots, each null, an i31 or an object, and instructions that change graphs of these.
GRAPH = """(module
  (type $node (sub (struct (field $next (mut eqref)) (field $n (mut i32)) (field $other (mut eqref)))))
  (type $wide (sub final $node (struct (field (mut eqref)) (field (mut i32)) (field (mut eqref)) (field $w (mut v128))
    (field $last (mut eqref)))))
  (type $list (array (mut eqref)))
  (table $roots 12 eqref)
  (func (export "set_i31") (param $to i32) (param i32) (table.set $roots (local.get $to) (ref.i31 (local.get 1))))
  (func (export "clear") (param $to i32) (table.set $roots (local.get $to) (ref.null none)))
  (func (export "node") (param $to i32) (param $a i32) (param $b i32) (param $n i32)
    (table.set $roots (local.get $to) (struct.new $node (table.get $roots (local.get $a)) (local.get $n)
      (table.get $roots (local.get $b)))))
  (func (export "wide") (param $to i32) (param $a i32) (param $b i32) (param $n i32)
    (table.set $roots (local.get $to) (struct.new $wide (table.get $roots (local.get $a)) (local.get $n)
      (table.get $roots (local.get $b)) (i64x2.splat (i64.extend_i32_s (local.get $n)))
      (table.get $roots (local.get $a)))))
  (func (export "list") (param $to i32) (param $a i32) (param $length i32)
    (table.set $roots (local.get $to) (array.new $list (table.get $roots (local.get $a)) (local.get $length))))
  (func (export "pair") (param $to i32) (param $a i32) (param $b i32)
    (table.set $roots (local.get $to)
      (array.new_fixed $list 2 (table.get $roots (local.get $a)) (table.get $roots (local.get $b)))))
  (func (export "next") (param $to i32) (param $a i32)
    (block $no (result eqref)
      (table.set $roots (local.get $to)
        (struct.get $node $next (br_on_cast_fail $no eqref (ref $node) (table.get $roots (local.get $a)))))
      (return))
    (drop))
  (func (export "put") (param $at i32) (param $a i32) (result i32)
    (block $no (result eqref)
      (struct.set $node $other (br_on_cast_fail $no eqref (ref $node) (table.get $roots (local.get $at)))
        (table.get $roots (local.get $a)))
      (return (i32.const 1)))
    (drop) (i32.const 0))
  (func (export "store") (param $at i32) (param $index i32) (param $a i32) (result i32)
    (block $no (result eqref)
      (array.set $list (br_on_cast_fail $no eqref (ref $list) (table.get $roots (local.get $at)))
        (local.get $index) (table.get $roots (local.get $a)))
      (return (i32.const 1)))
    (drop) (i32.const 0))
  (func (export "copy") (param $at i32) (param $from i32) (param $n i32)
    (array.copy $list $list (ref.cast (ref $list) (table.get $roots (local.get $at))) (i32.const 0)
      (ref.cast (ref $list) (table.get $roots (local.get $from))) (i32.const 0) (local.get $n)))
  (func (export "root") (param i32) (result eqref) (table.get $roots (local.get 0))))"""
class Model:
    """The same in Python: nodes are lists of a letter and their fields."""

    def __init__(self) -> None:
        self.roots: list[Any] = [None] * NODES

    def run(self, name: str, *args: int) -> Any:
        roots = self.roots
        to, *rest = args
        if name == "set_i31":
            roots[to] = (rest[0] & 0x7FFFFFFF ^ 0x40000000) - 0x40000000
        elif name == "clear":
            roots[to] = None
        elif name in ("node", "wide"):
            a, b, n = rest
            more = [struct.pack("<2q", n, n), roots[a]] if name == "wide" else []
            roots[to] = [name, roots[a], n, roots[b], *more]
        elif name == "list":
            roots[to] = ["list", *[roots[rest[0]]] * rest[1]]
        elif name == "pair":
            roots[to] = ["list", roots[rest[0]], roots[rest[1]]]
        elif name == "next":
            if isinstance(roots[rest[0]], list) and roots[rest[0]][0] != "list":
                roots[to] = roots[rest[0]][1]
        elif name == "put":
            if not isinstance(roots[to], list) or roots[to][0] == "list":
                return 0
            roots[to][3] = roots[rest[0]]
            return 1
        elif name == "store":
            index, a = rest
            if not isinstance(roots[to], list) or roots[to][0] != "list":
                return 0
            if index + 1 >= len(roots[to]):
                return "out of bounds array access"
            roots[to][1 + index] = roots[a]
            return 1
        elif name == "copy":
            source, n = rest
            for at in (roots[to], roots[source]):
                if not isinstance(at, list) or at[0] != "list":
                    return "cast failure"
            if n >= len(roots[to]) or n >= len(roots[source]):
                return "out of bounds array access"
            roots[to][1 : n + 1] = roots[source][1 : n + 1]
        return None


def same(found: Any, wanted: Any, seen: dict[int, Any]) -> bool:
    """Whether two graphs are the same, also in what is shared."""
    todo = [(found, wanted)]
    while todo:
        found, wanted = todo.pop()
        if not isinstance(wanted, list):
            if found != wanted:
                return False
            continue
        if id(wanted) in seen:
            if seen[id(wanted)] != found:
                return False
            continue
        seen[id(wanted)] = found
        if not isinstance(found, wl.Array if wanted[0] == "list" else wl.Struct) or len(found) != len(wanted) - 1:
            return False
        todo += zip(list(found), wanted[1:], strict=True)
    return True


PLACE = st.integers(0, NODES - 1)
NUMBER = st.sampled_from([0, 1, -1, 5, (1 << 30) - 1, -(1 << 30), (1 << 31) - 1, -(1 << 31)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set_i31"), PLACE, NUMBER),
        st.tuples(st.just("clear"), PLACE),
        st.tuples(st.sampled_from(["node", "wide"]), PLACE, PLACE, PLACE, NUMBER),
        st.tuples(st.just("list"), PLACE, PLACE, st.sampled_from([0, 1, 2, 5, 40, 3000])),
        st.tuples(st.just("pair"), PLACE, PLACE, PLACE),
        st.tuples(st.sampled_from(["next", "put"]), PLACE, PLACE),
        st.tuples(st.just("store"), PLACE, st.integers(0, 6), PLACE),
        st.tuples(st.just("copy"), PLACE, PLACE, st.integers(0, 6)),
    ),
    max_size=60,
)


@pytest.fixture(scope="module", params=ENGINES)
def graph(request: pytest.FixtureRequest) -> wl.Module:
    return wl.Module(GRAPH, engine_of(request.param))


@settings(max_examples=25)
@given(steps=STEPS, always=st.booleans())
def test_graphs(graph: wl.Module, steps: list[tuple[Any, ...]], always: bool) -> None:
    store = wl.Store(graph.engine)
    collect_always(store, always)
    exports = wl.Instance(graph, store=store).exports
    model = Model()
    for name, *args in steps:
        try:
            found = exports[name](*args)
        except wl.Trap as trap:
            found = trap.code
        assert found == model.run(name, *args)
    seen: dict[int, Any] = {}
    for place in range(NODES):
        assert same(exports.root(place), model.roots[place], seen)
    store.gc()
    reachable = len(seen)
    del seen
    gc.collect()
    store.gc()
    assert statistics(store)["objects"] == reachable


TREES = """(module
  (type $tree (struct (field (mut (ref null $tree))) (field (ref null $tree))))
  (func $make (export "make") (param i32) (result (ref $tree))
    (if (result (ref $tree)) (local.get 0)
      (then (struct.new $tree (call $make (i32.sub (local.get 0) (i32.const 1)))
        (call $make (i32.sub (local.get 0) (i32.const 1)))))
      (else (struct.new_default $tree))))
  (func $count (param (ref null $tree)) (result i32)
    (if (result i32) (ref.is_null (local.get 0)) (then (i32.const 0))
      (else (i32.add (i32.const 1) (i32.add (call $count (struct.get $tree 0 (local.get 0)))
        (call $count (struct.get $tree 1 (local.get 0))))))))
  (func (export "trees") (param $depth i32) (param $times i32) (result i32) (local $sum i32)
    (loop $l
      (local.set $sum (i32.add (local.get $sum) (call $count (call $make (local.get $depth)))))
      (br_if $l (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (type $bytes (array (mut i8)))
  (func (export "large") (param $size i32) (param $times i32) (result i32) (local $a (ref null $bytes)) (local $sum i32)
    (loop $l
      (local.set $a (array.new $bytes (local.get $times) (local.get $size)))
      (local.set $sum (i32.add (local.get $sum)
        (array.get_u $bytes (local.get $a) (i32.sub (local.get $size) (i32.const 1)))))
      (br_if $l (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (type $chain (struct (field (ref null $chain)) (field i64 i64 i64 i64 i64 i64)))
  (func (export "leak") (local $c (ref null $chain))
    (loop $l (local.set $c (struct.new $chain (local.get $c) (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)
      (i64.const 5) (i64.const 6))) (br $l)))
  (func (export "array") (param i32) (result i32) (array.len (array.new_default $bytes (local.get 0)))))"""


@pytest.mark.parametrize("name", ENGINES)
def test_memory_stays_within_its_limit(name: str) -> None:
    """A hundred times as much is allocated as there may be."""
    exports = exports_of(TREES, engine_of(name), memory_limit=2 << 20)
    assert exports.trees(10, 4000 if name != "interpreter" else 800) == 2047 * (4000 if name != "interpreter" else 800)
    assert exports.large(300_000, 500) == sum(i & 0xFF for i in range(1, 501))
    assert exports.trees.store.memory_used <= 2 << 20


@pytest.mark.parametrize("name", ENGINES)
def test_a_full_heap_traps(name: str) -> None:
    exports = exports_of(TREES, engine_of(name), memory_limit=4 << 20)
    for _ in range(3):
        with pytest.raises(wl.Trap, match="out of memory") as caught:
            exports.leak()
        assert caught.value.code == "out of memory"
        assert exports.trees(8, 3) == 3 * 511  # what the chain has taken can be used again
        with pytest.raises(wl.Trap, match="out of memory"):
            exports.array((1 << 32) - 1)
        assert exports.array(1 << 20) == 1 << 20


@pytest.mark.parametrize("name", ENGINES)
def test_collections_at_each_object(name: str) -> None:
    exports = exports_of(TREES, engine_of(name))
    collect_always(exports.trees.store, True)
    assert exports.trees(5, 3) == 3 * 63
    assert exports.large(20_000, 5) == 15


def fields() -> Iterator[tuple[str, int]]:
    """Storage types, with their bytes."""
    yield from (("i8", 1), ("i16", 2), ("i32", 4), ("i64", 8), ("f32", 4), ("f64", 8), ("v128", 16))


EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FF8_0000_0000_0001,
         0x7FA00001, (1 << 64) - 1)  # fmt: skip


def stack_type(storage: str) -> str:
    return "i32" if storage in ("i8", "i16") else storage


def as_bits(storage: str, text: str) -> str:
    """Code that makes a value of a storage type of an i64."""
    return {
        "i8": f"(i32.wrap_i64 {text})", "i16": f"(i32.wrap_i64 {text})", "i32": f"(i32.wrap_i64 {text})", "i64": text,
        "f32": f"(f32.reinterpret_i32 (i32.wrap_i64 {text}))", "f64": f"(f64.reinterpret_i64 {text})",
        "v128": f"(i64x2.splat {text})",
    }[storage]  # fmt: skip


def from_bits(storage: str, text: str) -> str:
    """Code that makes an i64 of such a value."""
    return {
        "i8": f"(i64.extend_i32_u {text})", "i16": f"(i64.extend_i32_u {text})", "i32": f"(i64.extend_i32_u {text})",
        "i64": text, "f32": f"(i64.extend_i32_u (i32.reinterpret_f32 {text}))", "f64": f"(i64.reinterpret_f64 {text})",
        "v128": f"(i64x2.extract_lane 1 {text})",
    }[storage]  # fmt: skip


def access_module() -> str:
    """Every field and element, written and read in all ways: from parameters, from what has just been computed, and as
    constants; into an accumulator, a local, and where it is dropped."""
    parts = ["(module (global $five (mut i32) (i32.const 5))"]
    for s, _ in fields():
        parts.append(f"(type $s_{s} (struct (field (mut i8)) (field $f (mut {s})) (field (mut i16))))")
        parts.append(f"(type $a_{s} (array (mut {s})))")
        value = as_bits(s, "(local.get 0)")
        for get in ("get_s", "get_u") if s in ("i8", "i16") else ("get",):
            t = stack_type(s)
            field = f"(struct.{get} $s_{s} $f (local.get $o))"
            element = f"(array.{get} $a_{s} (local.get $a) (i32.sub (global.get $five) (i32.const 3)))"
            parts.append(f"""
              (func (export "field.{s}.{get}") (param i64) (result i64) (local $o (ref null $s_{s})) (local $v {t})
                (local.set $o (struct.new $s_{s} (i32.const 1) {value} (i32.const 2)))
                (local.set $v {field})
                (struct.set $s_{s} $f (local.get $o) {as_bits(s, '(i64.const 0)')})
                (struct.set $s_{s} $f (local.get $o) (local.get $v))
                (i64.xor {from_bits(s, field)} (i64.sub {from_bits(s, '(local.get $v)')} {from_bits(s, field)})))
              (func (export "element.{s}.{get}") (param i64) (result i64) (local $a (ref null $a_{s})) (local $v {t})
                (local.set $a (array.new_default $a_{s} (i32.const 4)))
                (array.set $a_{s} (local.get $a) (i32.const 2) {value})
                (local.set $v {element})
                (array.fill $a_{s} (local.get $a) (i32.const 0) {as_bits(s, '(i64.const -1)')} (i32.const 2))
                (array.set $a_{s} (local.get $a) (i32.sub (global.get $five) (i32.const 2)) (local.get $v))
                (array.copy $a_{s} $a_{s} (local.get $a) (i32.const 1) (local.get $a) (i32.const 2) (i32.const 2))
                (i64.xor {from_bits(s, element)} (i64.sub {from_bits(s, '(local.get $v)')}
                  {from_bits(s, f'(array.{get} $a_{s} (local.get $a) (i32.const 1))')})))
              (func (export "out.{s}.{get}") (param i32) (result i64)
                {from_bits(s, f'(array.{get} $a_{s} (array.new_default $a_{s} (i32.const 3)) (local.get 0))')})
              (func (export "null.{s}.{get}") (result i64)
                {from_bits(s, f'(struct.{get} $s_{s} $f (ref.null $s_{s}))')})""")
    return "\n".join(parts) + ")"


@pytest.mark.parametrize("name", ENGINES)
def test_fields_and_elements(name: str) -> None:
    exports = exports_of(access_module(), engine_of(name))
    for s, size in fields():
        for get in ("get_s", "get_u") if s in ("i8", "i16") else ("get",):
            for bits in EDGES:
                wanted = bits & ((1 << 8 * min(size, 8)) - 1)
                if get == "get_s" and wanted >> (8 * size - 1):
                    wanted |= 0xFFFFFFFF & ~((1 << 8 * size) - 1)
                for what in ("field", "element"):
                    assert exports[f"{what}.{s}.{get}"](bits) & ((1 << 64) - 1) == wanted, (what, s, get, hex(bits))
            assert exports[f"out.{s}.{get}"](2) == 0
            for index in (3, -1, 1 << 31):
                assert outcome_of(exports[f"out.{s}.{get}"], index)[:2] == ("trap", "out of bounds array access")
            assert outcome_of(exports[f"null.{s}.{get}"])[:2] == ("trap", "null structure reference")


DEPTH = 14


def casts_module() -> str:
    """A tower of types, and beside each of them another one."""
    parts = ['(module (import "h" "g" (global $h externref)) (type $t0 (sub (struct)))']
    parts += [f"(type $t{i} (sub $t{i - 1} (struct)))" for i in range(1, DEPTH)]
    parts += [f"(type $u{i} (sub final $t{i - 1} (struct (field i32))))" for i in range(1, DEPTH)]
    parts.append("(type $v (sub (array i32))) (type $f (func)) (func $nothing (type $f)) (elem declare func $nothing)")
    kinds = {
        "none": "(ref.null none)",
        "i31": "(ref.i31 (i32.const 3))",
        "array": "(array.new_default $v (i32.const 1))",
        "host": "(any.convert_extern (global.get $h))",
    }
    kinds |= {f"t{i}": f"(struct.new $t{i})" for i in range(DEPTH)}
    kinds |= {f"u{i}": f"(struct.new_default $u{i})" for i in range(1, DEPTH)}
    makers = "".join(
        f"(if (i32.eq (local.get 0) (i32.const {number})) (then (return {text})))"
        for number, text in enumerate(kinds.values())
    )
    parts.append(f"(func $make (param i32) (result anyref) {makers} (unreachable))")
    targets = ["any", "eq", "i31", "struct", "array", "none", "$v", *(f"$t{i}" for i in range(DEPTH)),
               *(f"$u{i}" for i in range(1, DEPTH))]  # fmt: skip
    for target in targets:
        for null in ("", "null "):
            type = f"(ref {null}{target})"
            name = f"{target.strip('$')}{'?' if null else ''}"
            parts.append(f"""
              (func (export "test {name}") (param i32) (result i32) (ref.test {type} (call $make (local.get 0))))
              (func (export "cast {name}") (param i32) (result i32)
                (drop (ref.cast {type} (call $make (local.get 0)))) (i32.const 1))
              (func (export "branch {name}") (param i32) (result i32)
                (block $yes (result {type})
                  (drop (br_on_cast $yes anyref {type} (call $make (local.get 0)))) (return (i32.const 0)))
                (drop) (i32.const 1))
              (func (export "fail {name}") (param i32) (result i32)
                (block $no (result anyref)
                  (drop (br_on_cast_fail $no anyref {type} (call $make (local.get 0)))) (return (i32.const 1)))
                (drop) (i32.const 0))""")
    return "\n".join(parts) + ")"


def is_of(kind: str, target: str) -> bool:
    if kind == "none":
        return False
    if target == "any":
        return True
    if target == "none" or kind == "host":
        return False
    if target == "eq":
        return True
    if target in ("i31", "array"):
        return kind == target
    if target == "v":
        return kind == "array"
    if kind in ("i31", "array"):
        return False
    if target == "struct" or kind == target:
        return True
    depth = int(kind[1:]) - (kind[0] == "u")
    return target[0] == "t" and int(target[1:]) <= depth


@pytest.mark.parametrize("name", ENGINES)
def test_casts(name: str) -> None:
    engine = engine_of(name)
    store = wl.Store(engine)
    thing = wl.Global(store, wl.GlobalType(wl.EXTERNREF, mutable=False), "an object")
    exports = wl.Instance(wl.Module(casts_module(), engine), {"h": {"g": thing}}, store=store).exports
    kinds = ["none", "i31", "array", "host", *(f"t{i}" for i in range(DEPTH)), *(f"u{i}" for i in range(1, DEPTH))]
    targets = ["any", "eq", "i31", "struct", "array", "none", "v", *kinds[4:]]
    for target in targets:
        for null in (False, True):
            shown = target + ("?" if null else "")
            for number, kind in enumerate(kinds):
                wanted = is_of(kind, target) or (null and kind == "none")
                for how in ("test", "branch", "fail"):
                    assert exports[f"{how} {shown}"](number) == wanted, (how, shown, kind)
                cast = outcome_of(exports[f"cast {shown}"], number)[:2]
                assert cast == (("result", 1) if wanted else ("trap", "cast failure")), (shown, kind)
