"""Objects whose insides are in C, or belong together: Python can't make, copy or change them behind our back."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import multiprocessing
import pickle
import pkgutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.processes import run_program
from wasmloom.runtime.collector import statistics

SOURCE = """(module
  (import "a" "h" (func $h))
  (type $f (func)) (type $k (cont $f)) (tag $e (export "e") (param i32))
  (func $c (call $h) (suspend $y)) (tag $y (export "y"))
  (memory (export "m") 1) (table (export "t") 1 funcref) (global (export "g") (mut i32) (i32.const 5))
  (elem declare func $c)
  (func (export "k") (result (ref $k)) (cont.new $k (ref.func $c)))
  (func (export "throw") (throw $e (i32.const 7)))
  (func (export "rethrow") (call $h)))"""


def objects(engine: wl.Engine, host: Callable[[], object] = lambda: None) -> list[Any]:
    """An object of each class that a program comes by, also of those that aren't public."""
    module = wl.Module(SOURCE, engine)
    instance = wl.Instance(module, {"a": {"h": host}})
    exports = instance.exports
    error: Any = None
    try:
        exports.throw()
    except wl.WasmException as thrown:
        error = thrown
    suspended = exports.k().resume(on=exports.y)
    found = [engine, module, instance, exports, *(exports[name] for name in exports), instance.store, exports.k()]
    found += [module.decoded, module.code_space, instance._state, error.reference, suspended.continuation]
    return found


def everything() -> list[type]:
    """All classes of the package's compiled modules. Not for the tests' own process: importing all turns on tracing."""
    found = set()
    for info in pkgutil.walk_packages(wl.__path__, "wasmloom."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            found |= {c for c in vars(module).values() if isinstance(c, type) and c.__module__.startswith("wasmloom.")}
    return [c for c in found if not c.__flags__ & (1 << 9)]  # not made by a class statement of Python


CLASSES = """
import sys
from tests.host.test_insides import everything
made = []
for c in everything():
    for make in (lambda: c(), lambda: c.__new__(c), lambda: object.__new__(c), lambda: type("X", (c,), {})):
        try:
            made.append(make())
        except TypeError:
            pass
made = {type(x).__name__ if type(x) is not type else x.__mro__[1].__name__ for x in made}
assert len(everything()) > 15
print(sorted(made))
"""


def test_what_python_can_make_of_compiled_classes() -> None:
    # A store has insides from its `__cinit__`, as pins, planners and locks have. A counter of epochs counts. The others
    # are bases of internal classes, and do nothing by themselves.
    ran = subprocess.run([sys.executable, "-c", CLASSES], check=True, capture_output=True, text=True, timeout=300)
    made = set(eval(ran.stdout))
    assert "Store" in made
    assert made <= {
        "Store", "Assembler", "Coder", "Context", "Copier", "EpochCounter", "Lock", "Pins", "Planner", "Sections",
    }, made  # fmt: skip


#: Attributes that can be set, and two that are for tests.
SETTABLE = ("value", "fuel", "timeout", "memory_limit", "epoch_deadline", "change_failed", "rounds")


@pytest.mark.parametrize("name", ENGINES)
def test_objects_are_neither_made_nor_copied_nor_changed(name: str) -> None:
    for thing in objects(engine_of(name)):
        cls = type(thing)
        before = repr(thing)
        if cls not in (wl.Store, wl.Engine):
            with pytest.raises(TypeError):
                cls()
            with pytest.raises(TypeError):
                cls.__new__(cls)
        with pytest.raises(TypeError):
            type("Sub", (cls,), {})
        with pytest.raises((AttributeError, TypeError)):
            thing.__class__ = wl.Tag
        for attribute in ("__init__", "__setstate__", "__setstate_cython__"):
            for arguments in ((), (thing,), ((None, None),), (None, None), (thing, thing, thing)):
                with contextlib.suppress(TypeError, ValueError):
                    getattr(thing, attribute, int)(*arguments)
        if cls not in (wl.Engine, wl.Module):
            for copied in (copy.copy, copy.deepcopy, *[lambda t, p=p: pickle.dumps(t, p) for p in range(6)]):
                with pytest.raises(TypeError):
                    copied(thing)
        if cls is not wl.Exports:
            for attribute in [a for a in dir(cls) if not a.startswith("__")]:
                if attribute in SETTABLE:
                    continue
                with pytest.raises((AttributeError, TypeError)):
                    setattr(thing, attribute, None)
                with pytest.raises((AttributeError, TypeError)):
                    delattr(thing, attribute)
        assert repr(thing) == before
    gc.collect()


@pytest.mark.parametrize("name", ENGINES)
def test_modules_and_engines_are_pickled(name: str) -> None:
    engine = engine_of(name)
    text = '(module $m (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))'
    module = wl.Module(text, engine)
    assert copy.copy(module) is module
    assert copy.deepcopy([module, engine]) == [module, engine]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again, other = pickle.loads(pickle.dumps((module, engine), protocol))
        assert again.engine is other
        assert other._settings() == engine._settings()
        assert again.name == "m"
        assert again.exports == module.exports
        assert wl.Instance(again).exports.f(4) == 5
    # What is unpickled one by one goes together, too.
    assert pickle.loads(pickle.dumps(module)).engine is other
    default = wl.Module("(module)")
    assert pickle.loads(pickle.dumps(default)).engine is default.engine


def in_another_process(module: wl.Module, argument: int) -> tuple[int, str]:
    """What a worker process does with a module."""
    function: Any = wl.Instance(module).exports.f
    return function(argument), module.engine.tier


def test_modules_go_to_other_processes() -> None:
    text = '(module (func (export "f") (param i32) (result i32) (local.get 0)))'
    module = wl.Module(text, wl.Engine(tier="interpreter"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(in_another_process, (module, 8)) == (8, "interpreter")


def test_errors_are_pickled() -> None:
    with pytest.raises(wl.ValidationError) as caught:
        wl.Module("(module\n  (func (result i32)))")
    trap = wl.Trap("unreachable", (wl.Frame("m", 1, "f", 5),), "here")
    for error in (caught.value, trap, wl.ExitStatus(3), wl.LinkError("no")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
    tag = wl.Tag(wl.Store(), "")
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(wl.WasmException(tag))


#: What someone may do to an exception before it is raised in a host function, given one that the guest has made.
SPOILED: dict[str, Callable[[Any, Any], object]] = {
    "reference": lambda error, guests: setattr(error, "reference", "abc"),
    "of another tag": lambda error, guests: setattr(error, "reference", guests.reference),
    "of a continuation": lambda error, guests: setattr(error, "reference", object()),
    "tag": lambda error, guests: setattr(error, "tag", 5),
    "no tag": lambda error, guests: setattr(error, "tag", None),
    "tag of the guest's": lambda error, guests: setattr(guests, "tag", error.tag),
}


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("how", SPOILED)
def test_attributes_of_exceptions_are_not_trusted(name: str, how: str) -> None:
    raised: list[Any] = []

    def host() -> None:
        if raised:
            raise raised[0]

    store = wl.Store(engine_of(name))
    exports: Any = wl.Instance(wl.Module(SOURCE, store.engine), {"a": {"h": host}}, store=store).exports
    with pytest.raises(wl.WasmException) as caught:
        exports.throw()
    error = wl.WasmException(wl.Tag(store, "i64 i64 i64"), 1, 2, 3)
    SPOILED[how](error, caught.value)
    for thrown in (error, caught.value):
        raised[:] = [thrown]
        with pytest.raises((TypeError, wl.WasmException)):
            exports.rethrow()
    raised[:] = [wl.WasmException.__new__(wl.WasmException)]
    with pytest.raises(TypeError, match="Tag"):
        exports.rethrow()
    with pytest.raises(TypeError):
        error.reference = 5
        error._payload = None
        error.payload  # noqa: B018


# What refers to C structs, or into a store, must be whole until it is freed itself: the garbage collector doesn't clear
# it. (Directives in a .pxd don't do that for a class whose methods are in a .py: Cython drops them silently.)
SLOTS = """
import ctypes
from tests.host.test_insides import everything
AT = 192  # of `tp_clear` in a `PyTypeObject`
assert ctypes.c_void_p.from_address(id(dict) + AT).value
cleared = [c.__name__ for c in everything() if ctypes.c_void_p.from_address(id(c) + AT).value]
print(sorted(cleared))
"""


def test_the_garbage_collector_clears_nothing_that_is_in_use() -> None:
    ran = subprocess.run([sys.executable, "-c", SLOTS], check=True, capture_output=True, text=True, timeout=300)
    cleared = set(eval(ran.stdout))
    # Only what decodes, validates and translates: nobody calls it in a dying cycle.
    known = {"Assembler", "Context", "Translator", "Validator", "_Description"}
    assert cleared <= known


CYCLE = """
import gc, sys
import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.host.test_insides import objects
engine = engine_of(sys.argv[1])
for order in range(30):
    held = objects(engine)
    held = held[order:] + held[:order]
    held.append(held)
    bytearray(2000)
    del held
    gc.collect()
wl.Store(engine)
"""


@pytest.mark.parametrize("name", ENGINES)
def test_objects_die_in_cycles_in_any_order(name: str) -> None:
    run_program(CYCLE, name, PYTHONMALLOC="malloc", MALLOC_PERTURB_="165", MALLOC_CHECK_="3")


def test_methods_take_their_own_objects_only() -> None:
    for thing in objects(engine_of("interpreter")):
        cls = type(thing)
        if cls.__module__ == "builtins" or isinstance(thing, wl.Engine | wl.Module | wl.Instance | wl.Exports):
            continue
        for name, method in vars(cls).items():
            if callable(method) and not isinstance(method, staticmethod) and name != "__new__":
                for other in (object(), 5, "a", wl.Store):
                    with pytest.raises(TypeError):
                        method(other)
                    with pytest.raises(TypeError):
                        method(other, 1, 2)


KEEPS = """(module (table (export "t") 4 externref) (func (export "nop") (param externref))
  (func (export "keep") (param i32 externref) (table.set (local.get 0) (local.get 1))))"""


class Big:
    """What a guest gets a reference to."""


@pytest.mark.parametrize("name", ENGINES)
def test_what_the_guest_has_not_kept_goes_when_the_call_ends(name: str) -> None:
    exports: Any = wl.Instance(wl.Module(KEEPS, engine_of(name))).exports
    seen = []
    for _ in range(20):
        thing = Big()
        seen.append(weakref.ref(thing))
        exports.nop(thing)
        del thing
    assert sum(reference() is not None for reference in seen) == 0
    for i in range(4):
        thing = Big()
        seen.append(weakref.ref(thing))
        exports.keep(i, thing)
        del thing
    assert [reference() is not None for reference in seen[-4:]] == [True] * 4
    assert exports.t[2] is seen[-2]()
    exports.keep(2, None)
    exports.t.store.gc()
    assert [reference() is not None for reference in seen[-4:]] == [True, True, False, True]


@pytest.mark.parametrize("name", ENGINES)
def test_a_store_that_is_asked_collects(name: str) -> None:
    def host() -> None:
        exports.k()
        exports.k.store.gc()  # inside of a guest's call: what its stacks have stays

    exports: Any = wl.Instance(wl.Module(SOURCE, engine_of(name)), {"a": {"h": host}}).exports
    store = exports.k.store
    assert exports.k().resume(on=exports.y).tag == exports.y
    for _ in range(50):
        exports.k().resume(on=exports.y)
    store.gc()
    assert statistics(store)["continuations"] == 0
    store.gc()


#: Has the host give it objects in one long call, each forgotten with the next; some are kept in all places.
LONG = """(module (import "a" "make" (func $make (param i32) (result externref)))
  (import "a" "look" (func $look (param externref externref)))
  (import "a" "throw" (func $throw (param i32)))
  (tag $e (export "e") (param externref))
  (table (export "t") 2 externref) (global $g (export "g") (mut externref) (ref.null extern))
  (func (export "run") (param $n i32) (result externref)
    (local $first externref) (local $last externref)
    (local.set $first (call $make (local.get $n)))
    (global.set $g (call $make (local.get $n)))
    (table.set (i32.const 1) (call $make (local.get $n)))
    (loop $l
      (local.set $last (call $make (local.get $n)))
      (call $look (local.get $last) (local.get $first))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    (local.get $first))
  (func (export "catch") (param $n i32)
    (loop $l
      (block $b (result externref) (try_table (catch $e $b) (call $throw (local.get $n))) (ref.null extern))
      (drop)
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))))"""


class Counted(bytes):
    """Many bytes, of which it is known how many objects there are."""

    living = most = 0

    def __init__(self, *args: object) -> None:
        Counted.living += 1
        Counted.most = max(Counted.most, Counted.living)

    def __del__(self) -> None:
        Counted.living -= 1


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("nested", [False, True])
def test_what_hangs_on_references_does_not_wait_for_the_end_of_a_call(name: str, nested: bool) -> None:
    made: list[int] = []

    def make(n: int) -> Counted:
        made.append(n)
        return Counted(1 << 20)

    def look(last: Counted, first: Counted) -> None:
        assert len(last) == len(first) == 1 << 20
        if nested:
            exports.t[0] = Counted(1 << 20)
            assert exports.t[0] is not None

    def throw(n: int) -> None:
        raise wl.WasmException(exports.e, Counted(1 << 20))

    module = wl.Module(LONG, engine_of(name))
    exports: Any = wl.Instance(module, {"a": {"make": make, "look": look, "throw": throw}}).exports
    Counted.living = Counted.most = 0
    first = exports.run(100)
    assert len(made) == 103
    assert len(first) == 1 << 20
    assert Counted.most < 25
    assert Counted.living == 3 + nested
    assert len(exports.g.value) == len(exports.t[1]) == 1 << 20
    exports.catch(100)
    assert Counted.most < 25


@pytest.mark.parametrize("name", ENGINES)
def test_references_of_a_long_call_fit_into_a_small_limit(name: str) -> None:
    module = wl.Module(LONG, engine_of(name))
    store = wl.Store(module.engine, memory_limit=1 << 19)
    imports = {"make": lambda n: object(), "look": lambda last, first: None, "throw": lambda n: None}
    exports: Any = wl.Instance(module, {"a": imports}, store=store).exports
    exports.run(20_000)


@pytest.mark.parametrize("on", [None, 5, object()])
def test_what_answers_suspensions_is_tags(on: Any) -> None:
    exports: Any = wl.Instance(wl.Module(SOURCE), {"a": {"h": lambda: None}}).exports
    for call in (lambda k: k.resume(on=on), lambda k: k.throw(wl.WasmException(exports.y), on=on)):
        with pytest.raises(TypeError, match="on is a tag"):
            call(exports.k())


@pytest.mark.parametrize("use", [repr, iter, len, dir, lambda exports: exports.f, lambda exports: exports["f"]])
def test_exports_that_python_made_have_nothing(use: Callable[[Any], object]) -> None:
    with pytest.raises(AttributeError, match="made by Instance"):
        use(object.__new__(wl.Exports))
