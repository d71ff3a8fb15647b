"""Functions: arguments and results, host functions and their callers, exceptions and traps."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.compat.conftest import World

IDENTITY = """(module $mod
  (func (export "numbers") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
    (local.get 0) (local.get 1) (local.get 2) (local.get 3))
  (func (export "i32") (param i32) (result i32) (local.get 0))
  (func (export "extern") (param externref) (result externref) (local.get 0))
  (func (export "func") (param funcref) (result funcref) (local.get 0))
  (func (export "nothing")))"""


def test_results(w: Any) -> None:
    world = World(w, IDENTITY)
    assert world.call("numbers", 1, 2, 3.5, 4.5) == [1, 2, 3.5, 4.5]
    assert world.call("nothing") is None
    assert world.call("i32", 7) == 7 and type(world.call("i32", True)) is int


def test_integers_wrap(w: Any) -> None:
    world = World(w, IDENTITY)
    assert world.call("numbers", 2**32 + 5, 2**64 + 7, 1.0, 1.0)[:2] == [5, 7]
    assert world.call("numbers", 2**32 - 1, 2**64 - 1, 1e300, -0.0) == [-1, -1, math.inf, 0.0]
    assert world.call("numbers", -(2**40), -1, math.nan, 1.0)[:2] == [0, -1]


def test_values_with_types(w: Any) -> None:
    world = World(w, IDENTITY)
    assert world.call("numbers", w.Val.i32(1), w.Val.i64(2), w.Val.f32(3.0), w.Val.f64(4.0)) == [1, 2, 3.0, 4.0]
    assert world.call("extern", w.Val.externref("x")) == "x"
    with pytest.raises(TypeError):
        world.call("i32", w.Val.i64(1))


@pytest.mark.parametrize("wrong", ["1", 1.0, None, [1]])
def test_arguments_of_wrong_types(w: Any, wrong: Any) -> None:
    world = World(w, IDENTITY)
    with pytest.raises(TypeError, match="don't know how to convert"):
        world.call("i32", wrong)
    with pytest.raises(TypeError):
        world.call("numbers", 1, wrong, 1.0, 1.0)


def test_ints_are_no_floats(w: Any) -> None:
    world = World(w, IDENTITY)
    for floats in ((1, 1.0), (1.0, 1)):
        with pytest.raises(TypeError, match="don't know how to convert"):
            world.call("numbers", 1, 1, *floats)


@pytest.mark.parametrize(("count", "says"), [(0, "too few"), (2, "too many")])
def test_numbers_of_arguments(w: Any, count: int, says: str) -> None:
    world = World(w, IDENTITY)
    with pytest.raises(w.WasmtimeError, match=f"{says} parameters provided: given {count}, expected 1"):
        world.call("i32", *range(count))


def test_references(tiered: Any) -> None:
    world = World(tiered, IDENTITY)
    thing = object()
    assert world.call("extern", thing) is thing
    assert world.call("extern", None) is None and world.call("func", None) is None
    assert world.call("extern", 3) == 3
    back = world.call("func", world["i32"])
    assert isinstance(back, tiered.Func) and back(world.store, 9) == 9
    with pytest.raises(TypeError):
        world.call("func", 3)


def test_exports(w: Any) -> None:
    world = World(w, IDENTITY)
    exports = world.exports
    assert list(exports) == ["numbers", "i32", "extern", "func", "nothing"] and len(exports) == 5
    assert exports["i32"] is exports["i32"] is world.instance.exports(world.store)["i32"]
    assert "i32" in exports and "none" not in exports and exports.get("none") is None
    assert [name for name, item in exports.items() if isinstance(item, w.Func)] == list(exports)
    for missing in ("none", 0):
        with pytest.raises(KeyError):
            exports[missing]
    with pytest.raises(AttributeError):
        _ = exports.i32


def test_types_of_functions(w: Any) -> None:
    world = World(w, IDENTITY)
    type = world["numbers"].type(world.store)
    assert type.params == type.results == [getattr(w.ValType, name)() for name in ("i32", "i64", "f32", "f64")]


def host(w: Any, function: Any, params: str = "", results: str = "", **options: Any) -> Any:
    """Make a host function for a store."""
    types = [[getattr(w.ValType, name)() for name in names.split()] for names in (params, results)]
    return lambda store: w.Func(store, w.FuncType(*types), function, **options)


def called(w: Any, function: Any, params: str = "", results: str = "", *arguments: Any) -> Any:
    """What the host gets from a host function."""
    store = w.Store()
    return host(w, function, params, results)(store)(store, *arguments)


def test_host_functions(w: Any) -> None:
    assert called(w, lambda: None) is None
    assert called(w, lambda x: x + 1, "i32", "i32", 41) == 42
    assert called(w, lambda: (3, 4.5), "", "i32 f64") == [3, 4.5]
    assert called(w, lambda: [3, 4.5], "", "i32 f64") == [3, 4.5]
    assert called(w, lambda: 2**32 + 5, "", "i32") == 5
    assert called(w, lambda: w.Val.i32(4), "", "i32") == 4
    assert called(w, lambda x: x, "externref", "externref", "abc") == "abc"
    seen: list[Any] = []
    called(w, lambda *values: seen.append(values), "i32 i64 f32 f64", "", -1, 2**63, 1.5, 2.5)
    assert seen == [(-1, -(2**63), 1.5, 2.5)]


@pytest.mark.parametrize("result", [None, "a", 1.0, [4]])
def test_results_of_wrong_types(w: Any, result: Any) -> None:
    with pytest.raises(TypeError, match="don't know how to convert"):
        called(w, lambda: result, "", "i32")


def test_numbers_of_results(w: Any) -> None:
    for result in ([3], [3, 4, 5]):
        with pytest.raises(w.WasmtimeError, match="wrong number of results"):
            called(w, lambda result=result: result, "", "i32 i32")
    with pytest.raises(w.WasmtimeError):
        called(w, lambda: 3)
    for result in (3, iter([3, 4])):
        with pytest.raises(TypeError):
            called(w, lambda result=result: result, "", "i32 i32")


def test_host_functions_that_are_none(w: Any) -> None:
    with pytest.raises(TypeError):
        w.Func(w.Store(), 3, print)


RELAY = """(module $relay
  (import "h" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1) (table (export "table") 2 funcref) (data (i32.const 8) "text")
  (func $run (export "run") (param i32) (result i32) (call $f (local.get 0)))
  (func $indirect (export "indirect") (param i32) (result i32)
    (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)))
  (export "imported" (func $f)))"""

SHARER = """(module
  (type $f (func (param i32) (result i32)))
  (import "h" "table" (table $t 2 funcref)) (import "h" "imported" (func $f (type $f)))
  (memory (export "memory") 1) (export "table" (table $t))
  (func (export "indirect") (type $f) (call_indirect $t (type $f) (local.get 0) (i32.const 0)))
  (func (export "tail") (type $f) (return_call_indirect $t (type $f) (local.get 0) (i32.const 0)))
  (func (export "import") (type $f) (call $f (local.get 0))))"""


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, "Trap", "WasmtimeError", "ExitTrap"])
def test_exceptions_come_back(tiered: Any, kind: Any) -> None:
    error = (getattr(tiered, kind) if isinstance(kind, str) else kind)("why")

    def fail(value: int) -> int:
        raise error

    world = World(tiered, RELAY, [host(tiered, fail, "i32", "i32")])
    with pytest.raises(type(error)) as caught:
        world.call("run", 1)
    assert caught.value is error
    assert world.call  # the instance can still be used
    with pytest.raises(type(error)):
        world.call("run", 1)


def test_nested_calls(tiered: Any) -> None:
    def again(value: int) -> int:
        if value == 5:
            raise LookupError(value)
        return world.call("run", value + 1) if value < 9 else value  # type: ignore[no-any-return]

    world = World(tiered, RELAY, [host(tiered, again, "i32", "i32")])
    assert world.call("run", 6) == 9
    with pytest.raises(LookupError):
        world.call("run", 0)


def test_callers(tiered: Any) -> None:
    w, seen, kept = tiered, [], []

    def look(caller: Any, value: int) -> int:
        memory = caller["memory"]
        seen.append(bytes(memory.read(caller, 8, 12)))
        assert isinstance(caller, w.Caller) and memory.data_len(caller) == 65536
        assert isinstance(caller.get("run"), w.Func) and caller.get("none") is None
        with pytest.raises(KeyError):
            caller["none"]
        kept.append(caller)
        return value

    world = World(w, RELAY, [host(w, look, "i32", "i32", access_caller=True)])
    assert world.call("run", 3) == 3
    assert seen == [b"text"]
    assert kept[0].get("memory") is None
    with pytest.raises(ValueError, match="no longer valid"):
        world["run"](kept[0], 1)


def test_each_caller(tiered: Any) -> None:
    w, seen = tiered, []
    engine = w.Engine()
    linker = w.Linker(engine)
    i32 = w.ValType.i32()
    linker.define_func(
        "h", "f", w.FuncType([i32], [i32]), lambda caller, value: seen.append(caller["memory"].read(caller, 8, 9)) or 0,
        access_caller=True,
    )  # fmt: skip
    store, module = w.Store(engine), w.Module(engine, RELAY)
    exports = [linker.instantiate(store, module).exports(store) for _ in range(2)]
    for number, each in enumerate(exports):
        each["memory"].write(store, bytes([number]), 8)
    for number in (0, 1, 1, 0):
        exports[number]["run"](store, 1)
    assert seen == [b"\0", b"\1", b"\1", b"\0"]


def test_callers_of_references(tiered: Any) -> None:
    """The caller is the instance that calls, not one that imports; a function that the host calls has no exports."""
    w, seen = tiered, []

    def look(caller: Any, value: int) -> int:
        memory = caller.get("memory")
        seen.append(None if memory is None else memory.read(caller, 8, 9)[0])
        return value

    engine = w.Engine()
    store, module = w.Store(engine), w.Module(engine, RELAY)
    made = host(w, look, "i32", "i32", access_caller=True)(store)
    first, second = (w.Instance(store, module, [made]).exports(store) for _ in range(2))
    third = w.Instance(store, w.Module(engine, SHARER), [first["table"], first["imported"]]).exports(store)
    for number, each in enumerate((first, second, third)):
        each["memory"].write(store, bytes([number]), 8)
        each["table"].set(store, 0, made)
    for number in (0, 1, 0):
        assert (first, second)[number]["indirect"](store, 3) == 3
    for name in ("indirect", "tail", "import"):
        assert third[name](store, 3) == 3
    assert made(store, 3) == first["imported"](store, 3) == 3
    assert seen == [0, 1, 0, 2, 2, 2, None, None]


def test_calls_through_the_caller(tiered: Any) -> None:
    def again(caller: Any, value: int) -> int:
        return caller["run"](caller, value - 1) if value else 77  # type: ignore[no-any-return]

    world = World(tiered, RELAY, [host(tiered, again, "i32", "i32", access_caller=True)])
    assert world.call("run", 3) == 77


def test_functions_in_tables(tiered: Any) -> None:
    world = World(tiered, RELAY, [host(tiered, lambda x: x, "i32", "i32")])
    twice = host(tiered, lambda x: 2 * x, "i32", "i32")(world.store)
    world["table"].set(world.store, 0, twice)
    assert world.call("indirect", 21) == 42
    assert world["table"].get(world.store, 0)(world.store, 4) == 8


def test_functions_live_as_long_as_they_are_used(w: Any) -> None:
    import gc

    store = w.Store()
    function = host(w, lambda x: x + 1, "i32", "i32")(store)
    del store
    gc.collect()
    other = w.Store()
    assert isinstance(function, w.Func) and other.data() is None


@pytest.mark.parametrize("access_caller", [False, True])
def test_stores_are_freed_at_once(access_caller: bool) -> None:
    import gc
    import weakref

    import wasmloom.compat.wasmtime as w

    gc.disable()
    try:
        world = World(w, RELAY, [host(w, lambda *values: 1, "i32", "i32", access_caller=access_caller)])
        assert world.call("run", 1) == 1
        store = weakref.ref(world.store._core)
        del world
        assert store() is None
    finally:
        gc.enable()


TRAPS = """(module $traps
  (memory 1) (table 3 funcref) (elem (i32.const 1) func $other) (func $other (param i64)) (type $plain (func))
  (func $unreachable (export "unreachable") (nop) (unreachable))
  (func $div (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func $trunc (export "trunc") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func $load (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func $ref (export "indirect") (param i32) (call_indirect (type $plain) (local.get 0)))
  (func $deep (export "deep") (call $deep))
  (func $outer (export "outer") (local i32) (nop) (call $unreachable)))"""


@pytest.mark.parametrize(
    ("name", "arguments", "code", "says"),
    [
        ("unreachable", (), "UNREACHABLE", "unreachable"),
        ("div", (1, 0), "INTEGER_DIVISION_BY_ZERO", "integer divide by zero"),
        ("div", (-(2**31), -1), "INTEGER_OVERFLOW", "integer overflow"),
        ("trunc", (math.nan,), "BAD_CONVERSION_TO_INTEGER", "invalid conversion to integer"),
        ("load", (-1,), "MEMORY_OUT_OF_BOUNDS", "out of bounds memory access"),
        ("indirect", (7,), "TABLE_OUT_OF_BOUNDS", "out of bounds table access"),
        ("indirect", (0,), "INDIRECT_CALL_TO_NULL", "uninitialized element"),
        ("indirect", (1,), "BAD_SIGNATURE", "indirect call type mismatch"),
        ("deep", (), "STACK_OVERFLOW", "call stack exhausted"),
    ],
)
def test_traps(tiered: Any, name: str, arguments: tuple[Any, ...], code: str, says: str) -> None:
    world = World(tiered, TRAPS)
    with pytest.raises(tiered.Trap) as caught:
        world.call(name, *arguments)
    trap = caught.value
    assert trap.trap_code == tiered.TrapCode[code] and says in trap.message and str(trap) == trap.message
    assert "error while executing at wasm backtrace" in trap.message
    assert trap.__cause__ is trap.__context__ is None


def test_frames(tiered: Any) -> None:
    world = World(tiered, TRAPS)
    with pytest.raises(tiered.Trap) as caught:
        world.call("outer")
    frames = caught.value.frames
    assert [(f.func_index, f.func_name, f.module_name, f.func_offset) for f in frames] == [
        (1, "unreachable", "traps", 2),
        (7, "outer", "traps", 4),
    ]
    assert 0 < frames[0].module_offset < frames[1].module_offset
    assert f"0x{frames[0].module_offset:x} - traps!unreachable" in caught.value.message
    with pytest.raises(tiered.Trap) as caught:
        world.call("deep")
    assert len(caught.value.frames) == 20


def test_traps_of_programs(w: Any) -> None:
    trap = w.Trap("why")
    assert (trap.message, str(trap), trap.frames, trap.trap_code, trap.args) == ("why", "why", [], None, ("why",))
    assert not issubclass(w.Trap, w.WasmtimeError) and issubclass(w.ExitTrap, w.WasmtimeError)
    error = w.WasmtimeError("what")
    assert str(error) == "what" and error.args == ("what",)


def test_trap_codes(w: Any) -> None:
    assert [code.value for code in w.TrapCode] == list(range(len(w.TrapCode)))
    assert (w.TrapCode.STACK_OVERFLOW.value, w.TrapCode.OUT_OF_FUEL.value, w.TrapCode(10).name) == (0, 11, "INTERRUPT")


def test_exceptions_of_guests(tiered: Any) -> None:
    world = World(tiered, '(module (tag $t (export "t") (param i32)) (func $f (export "f") (throw $t (i32.const 7))))')
    with pytest.raises(tiered.Trap) as caught:
        world.call("f")
    assert caught.value.trap_code is None and "thrown Wasm exception" in caught.value.message
