"""What happens where there is no memory: a clear error, nothing lost, and everything can be used afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from tests.conftest import PROJECT
from tests.fuzz import memory
from tests.runtime.operations import OPERATIONS, SOURCE, instance_of
from wasmloom.runtime.collector import collect_garbage, statistics
from wasmloom.system import allocation

#: The guest takes all memory that it may have, and gives a continuation away, which needs a stack to begin.
GREEDY = """(module (type $f (func)) (type $k (cont $f)) (tag $y (export "y")) (tag $e (export "e")) (memory 1)
  (func $c (suspend $y)) (elem declare func $c)
  (func (export "k") (result (ref $k))
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (cont.new $k (ref.func $c)))
  (func (export "nothing")))"""

#: What a host does with a continuation.
USES: dict[str, Callable[[Any, Any], object]] = {
    "resume": lambda exports, k: k.resume(on=exports.y),
    "handle": lambda exports, k: k.resume(on={exports.y: lambda: None}),
    "throw": lambda exports, k: k.throw(wl.WasmException(exports.e), on=exports.y),
    "iterate": lambda exports, k: next(wl.resume_iter(k, exports.y)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_host_resumes_without_memory_for_a_stack(name: str, use: str) -> None:
    engine = engine_of(name)
    # Enough for the memory and the continuation's block, but not for a page of stack.
    store = wl.Store(engine, memory_limit=(1 << 20) + 1000)
    exports = wl.Instance(wl.Module(GREEDY, engine), store=store).exports
    for _ in range(3):
        if name not in ("interpreter", "baseline"):  # on stacks of bytecode
            with pytest.raises(wl.Trap) as trap:
                USES[use](exports, exports.k())
            assert trap.value.code == "out of memory"
        elif use == "throw":
            with pytest.raises(wl.WasmException) as error:
                USES[use](exports, exports.k())
            assert error.value.tag == exports.e
        else:
            USES[use](exports, exports.k())  # bytecode's first stack is in the block
        exports.nothing()


def test_what_hosts_keep_for_guests_counts() -> None:
    store = wl.Store(memory_limit=1000)
    store.charge(900)
    with pytest.raises(wl.WasmError, match="memory limit"):
        store.charge(101)
    store.release(500)
    assert store.memory_used == 400
    with pytest.raises(ValueError, match="not charged"):
        store.release(401)


@pytest.fixture(scope="module", params=ENGINES)
def guests(request: pytest.FixtureRequest) -> Callable[[], wl.Instance]:
    """Makes guests that can do all that needs memory, each in a store of its own."""
    engine = engine_of(request.param)
    module = wl.Module(SOURCE, engine)
    return lambda: instance_of(module, wl.Store(engine))


def attempt(operation: Callable[[wl.Instance], object], instance: wl.Instance) -> None:
    """Do what may find no memory, and must then say so."""
    try:
        operation(instance)
    except wl.Trap as trap:
        assert trap.code == "out of memory"
    except wl.WasmException as error:
        assert error.tag == instance.exports.e
    except wl.WasmError as error:
        assert "the system gives no memory of 1 pages" in str(error) or "memory limit" in str(error)
    except MemoryError:
        pass


def test_operations_need_memory(guests: Callable[[], wl.Instance]) -> None:
    """Refusing it is worth something only where it is asked for: nearly everywhere."""
    refused = []
    for name, operation in OPERATIONS.items():
        instance = guests()
        with allocation.refuse(1):
            attempt(operation, instance)
        refused += [name] * (allocation.refusals() > 0)
    assert len(refused) >= 20


@pytest.mark.parametrize("from_then_on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_allocation_fails_in_turn(guests: Callable[[], wl.Instance], name: str, from_then_on: bool) -> None:
    """The store can be used afterwards, and the same can be done again."""
    operation = OPERATIONS[name]
    number, step = 1, 1
    while True:
        instance = guests()
        if number % 2:
            instance.exports.check()  # afterwards it has what it begins with
        with allocation.refuse(number, from_then_on):
            attempt(operation, instance)
        refused = allocation.refusals()
        assert instance.exports.check() == 42
        attempt(operation, instance)
        collect_garbage(instance.store)
        assert instance.exports.check() == 42
        if not refused:
            break
        number += step
        step = max(1, number // 20)  # operations that repeat a thing need memory in the same places


@pytest.mark.parametrize("name", ["run", "resume", "wait", "throw into", "catch", "nest", "switches", "bind"])
def test_what_fails_leaves_nothing_behind(guests: Callable[[], wl.Instance], name: str) -> None:
    """Nothing is in use afterwards, and what a store keeps for the next time is bounded by the collector's pace."""
    instance = guests()
    for number in range(1, 100):
        with allocation.refuse(number):
            attempt(OPERATIONS[name], instance)
    gc.collect()  # exceptions of Python hold those of the guest
    collect_garbage(instance.store)
    found = statistics(instance.store)
    assert (found["continuations"], found["grown"]) == (0, 0)
    assert found["exceptions"] <= 1  # the context still has the last one
    assert instance.store.memory_used < 16 << 20


def test_a_module_is_made_without_memory() -> None:
    """Decoding, validation and translation."""
    for translation in ("lazy", "eager"):
        engine = wl.Engine(tier="interpreter", translation=translation)
        number = 1
        while True:
            with allocation.refuse(number), suppress(MemoryError):
                wl.Module(SOURCE, engine)
            if not allocation.refusals():
                break
            number += 1 + number // 20
        assert number > 20
        assert instance_of(wl.Module(SOURCE, engine), wl.Store(engine)).exports.check() == 42


# --- what a guest may have ---

#: Continuations without end: that resume each other, that are kept, or deep ones that are kept.
ENDLESS = """(module
  (type $f (func (param i32) (result i32))) (type $k (cont $f)) (type $f0 (func (result i32))) (type $k0 (cont $f0))
  (tag $t) (tag $e (param i64 i64 i64 i64))
  (table $kept 0 (ref null $k0)) (table $made 0 (ref null $k)) (table $errors 0 exnref)
  (elem declare func $rec $s $next)
  (func $rec (param i32) (result i32)
    (i32.add (i32.const 1) (resume $k (i32.add (local.get 0) (i32.const 1)) (cont.new $k (ref.func $rec)))))
  (func (export "nest") (result i32) (call $rec (i32.const 0)))
  (func $down (param i32)
    (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))) (drop (i32.const 1)))
      (else (suspend $t))))
  (func $s (param i32) (result i32) (call $down (local.get 0)) (i32.const 0))
  (func (export "hold") (param $depth i32) (result i32) (local $k (ref $k0))
    (loop $l
      (block $h (result (ref $k0))
        (drop (resume $k (on $t $h) (local.get $depth) (cont.new $k (ref.func $s)))) (unreachable))
      (local.set $k)
      (br_if $l (i32.ne (table.grow $kept (local.get $k) (i32.const 1)) (i32.const -1))))
    (table.size $kept))
  (func $next (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
    (i32.add (i32.const 1) (resume $k (i32.sub (local.get 0) (i32.const 1))
      (table.get $made (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "prepare") (param $n i32)
    (loop $l
      (drop (table.grow $made (cont.new $k (ref.func $next)) (i32.const 1)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func (export "chain") (param i32) (result i32) (call $next (local.get 0)))
  (func (export "throw") (result i32) (local $x exnref)
    (loop $l
      (block $h (result exnref)
        (try_table (catch_all_ref $h) (throw $e (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))) (unreachable))
      (local.set $x)
      (br_if $l (i32.ne (table.grow $errors (local.get $x) (i32.const 1)) (i32.const -1))))
    (table.size $errors)))"""


@pytest.mark.parametrize("name", ENGINES)
def test_continuations_that_resume_each_other_without_end(name: str) -> None:
    """They end as a recursion does, by default; how deep follows from the limit of stacks."""
    exports = exports_of(ENDLESS, engine_of(name), stack_limit=64 << 10)
    for _ in range(2):
        with pytest.raises(wl.Trap, match=r"call stack exhausted.*too many continuations") as caught:
            exports.nest()
        assert caught.value.code == "call stack exhausted"
    assert exports.nest.store.memory_used < 10 << 20


@pytest.mark.parametrize("name", ENGINES)
def test_a_chain_of_continuations_that_were_there_before(name: str) -> None:
    """Stacks that are made beforehand, and then resume each other: those that begin on the way count."""
    exports = exports_of(ENDLESS, engine_of(name), stack_limit=64 << 10)
    exports.prepare(3000)
    assert exports.chain(500) == 500


@pytest.mark.parametrize("depth", [0, 1000])
@pytest.mark.parametrize("name", ENGINES)
def test_everything_that_is_kept_counts(name: str, depth: int) -> None:
    """Also how deep the stacks are that are kept: 1000 frames take more than a page."""
    limit = 8 << 20
    exports = exports_of(ENDLESS, engine_of(name), memory_limit=limit)
    try:
        kept = exports.hold(depth)
    except wl.Trap as trap:
        assert trap.code == "out of memory"
        kept = 0
    store = exports.hold.store
    assert limit - (1 << 20) < store.memory_used <= limit
    collect_garbage(store)
    held = statistics(store)["continuations"]
    assert (held or kept) > 0
    if depth:
        # An interpreted frame here takes at least 16 bytes, a compiled one more.
        assert 16 * depth * held <= limit


@pytest.mark.parametrize("name", ENGINES)
def test_exceptions_that_are_kept_count(name: str) -> None:
    exports = exports_of(ENDLESS, engine_of(name), memory_limit=4 << 20)
    with pytest.raises(wl.Trap, match="out of memory"):
        raise_unless = exports.throw()
        raise wl.Trap("out of memory" if raise_unless > 10_000 else "too early")
    assert exports.throw.store.memory_used <= 4 << 20


def test_memories_bring_their_own_room() -> None:
    """By default they are bounded by their maximum alone; with a limit they count like everything else."""
    for settings, grown in (({}, 2000), ({"memory_limit": 1 << 20}, -1)):
        store = wl.Store(**settings)
        memory = wl.Memory(store, 1, 3000)
        before = store.memory_used
        if grown < 0:
            with pytest.raises(wl.WasmError):
                memory.grow(2000)
        else:
            memory.grow(grown)
            assert store.memory_used == before + grown * 65536
            with pytest.raises(wl.WasmError, match="memory limit"):
                store.charge(1 << 31)
            store.charge(1 << 29)


def test_random_operations_fail_at_random_moments() -> None:
    for case in range(40):
        memory.run_case(7, case, ["interpreter", "auto"])


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_external_references_count(name: str) -> None:
    """As long as the store holds them."""
    exports = exports_of(
        """(module (import "" "new" (func $new (result externref))) (table $t 0 externref)
          (func (export "hold") (loop $l
            (br_if $l (i32.ne (table.grow $t (call $new) (i32.const 1)) (i32.const -1)))))
          (func (export "pass") (param externref)))""",
        engine_of(name),
        {"": {"new": object}},
        memory_limit=1 << 20,
    )
    store = exports.hold.store
    for _ in range(20_000):  # of 128 bytes each
        exports.__getitem__("pass")(object())
    assert store.memory_used < 1 << 20
    with pytest.raises(wl.Trap, match="out of memory"):
        exports.hold()
    assert store.memory_used <= 1 << 20


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_external_references_that_nothing_holds_make_room_once_the_limit_is_met(name: str) -> None:
    """In a store whose large table makes looks rare."""
    exports = exports_of(
        """(module (table 100000 externref) (memory 1) (func (export "pass") (param externref))
          (func (export "fill") (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))))""",
        engine_of(name),
        memory_limit=1 << 20,
    )
    take = exports.__getitem__("pass")
    take(object())
    exports.fill()
    refused = 0
    for _ in range(3000):
        try:
            take(object())
        except wl.WasmError:
            refused += 1
    assert refused < 30


@pytest.mark.parametrize("name", ["interpreter", "compiler", "auto"])
def test_code_counts_towards_its_engine(name: str) -> None:
    """All modules share what their engine may have, and give it back when they go."""
    engine = engine_of(name, code_limit=400_000)
    adds = "(local.set 0 (i32.add (local.get 0) (i32.const 77777)))" * 300
    source = f"""(module (func (export "f") (param i32) (result i32) {adds} (local.get 0))
      (func (export "g") (param i32) (result i32) {adds} (local.get 0)))"""
    modules: list[wl.Module] = []
    with pytest.raises(wl.WasmError, match="code limit"):
        for _ in range(200):
            modules.append(wl.Module(source, engine))
            exports = wl.Instance(modules[-1]).exports
            for k in range(3):
                assert exports.f(k) == exports.g(k) == k + 300 * 77777
    assert len(modules) > 5
    assert 200_000 < engine.code_used <= engine.code_limit
    modules.clear()
    exports = None
    gc.collect()
    assert engine.code_used < 100_000
    assert wl.Instance(wl.Module(source, engine)).exports.f(1) == 1 + 300 * 77777
    with pytest.raises(ValueError, match="code_limit"):
        wl.Engine(code_limit=-1)


#: All operations but those of an event loop, each allocation of Python's failing in turn: in a process without other
#: threads, whose allocations would fail as well.
PYTHON_HAS_NONE = """
import _testcapi, sys
import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.runtime.operations import OPERATIONS, SOURCE, instance_of

engine = engine_of(sys.argv[1])
module = wl.Module(SOURCE, engine)
for name, operation in OPERATIONS.items():
    instance = instance_of(module, wl.Store(engine))
    for number in range(-1, 60) if name != "wait" else ():
        if number >= 0:
            _testcapi.set_nomemory(number, number + 1)
        try:
            operation(instance)
        except (MemoryError, wl.Trap, wl.WasmException):
            pass
        finally:
            _testcapi.remove_mem_hooks()
        assert instance.exports.check() == 42, (name, number)
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_python_has_no_memory(name: str) -> None:
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", PYTHON_HAS_NONE, name], capture_output=True, text=True, cwd=PROJECT)
    assert (done.returncode, done.stderr) == (0, "")


#: Each allocation of Python's fails in turn in a call whose results the caller holds as well: it goes on holding them.
COUNTED = """
import _testcapi, sys
from tests.compiler.tiers import engine_of, exports_of

exports = exports_of(
    '(module (func (export "pair") (param externref externref) (result externref externref) local.get 0 local.get 1))',
    engine_of(sys.argv[1]),
)
class Held: pass
held = Held()
exports.pair(held, held)
exports.pair.store.gc()
count = sys.getrefcount(held)
failed = 0
for number in range(40):
    _testcapi.set_nomemory(number, number + 1)
    try:
        exports.pair(held, held)
    except MemoryError:
        failed += 1
    finally:
        _testcapi.remove_mem_hooks()
    exports.pair.store.gc()
    assert sys.getrefcount(held) == count, (number, sys.getrefcount(held), count)
assert failed > 2
"""


@pytest.mark.parametrize("name", ["interpreter", "compiler"])
def test_results_that_find_no_memory_are_given_back_once(name: str) -> None:
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", COUNTED, name], capture_output=True, text=True, cwd=PROJECT)
    assert (done.returncode, done.stderr) == (0, "")
