"""Code is made of what runs, in batches, and guests go on in it wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import wasmloom as wl
from wasmloom.baseline.copier import set_batch
from wasmloom.system.allocation import refusals, refuse

#: Functions that call each other, in loops and by tables; a loop that ends when the host says so.
SOURCE = """
(module
  (import "host" "goes_on" (func $goes_on (result i32)))
  (type $step (func (param i32) (result i32)))
  (memory 1)
  (table funcref (elem $twice $next))
  (func $twice (type $step) (i32.mul (local.get 0) (i32.const 2)))
  (func $next (type $step) (i32.add (local.get 0) (i32.const 1)))
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "steps") (param $n i32) (result i32) (local $i i32) (local $x i32)
    (loop $l
      (local.set $x (call_indirect (type $step) (local.get $x) (i32.and (local.get $i) (i32.const 1))))
      (local.set $x (i32.and (local.get $x) (i32.const 0xffff)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    (local.get $x))
  (func $spin (export "spin") (result i32) (local $n i32)
    (loop $l
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $l (i32.and (local.get $n) (i32.const 0xfff)))
      (br_if $l (call $goes_on)))
    (local.get $n))
  (func (export "choose") (param i32) (result i32)
    (block $c (block $b (block $a (br_table $a $b $c (local.get 0))) (return (i32.const 10))) (return (i32.const 20)))
    (i32.const 30))
  (func (export "far") (param i32) (result i32)
    (i32.load offset=0xfffffff0 (local.get 0)))
  (func (export "wide") (result i64) (i64.const 0x123456789abcdef0)))
"""
FIB, SPIN = 2, 4


@pytest.fixture
def at_once() -> Iterator[None]:
    """Code is made when a function has been translated."""
    before = set_batch(0)
    yield
    set_batch(before)


@pytest.fixture
def at_ticks() -> Iterator[None]:
    """Code is made when a tick finds a guest."""
    before = set_batch(1 << 40)
    yield
    set_batch(before)


def instance_of(goes_on: Callable[[], int] = lambda: 0, **settings: Any) -> wl.Instance:
    engine = wl.Engine(tier="baseline", **settings)
    return wl.Instance(wl.Module(SOURCE, engine), {"host": {"goes_on": goes_on}}, store=wl.Store(engine))


def expected_steps(n: int) -> int:
    x = 0
    for i in range(n):
        x = (x + 1 if i & 1 else x * 2) & 0xFFFF
    return x


def check_results(exports: Any) -> None:
    assert exports.fib(15) == 610
    assert exports.steps(1001) == expected_steps(1001)
    assert exports.spin() == 4096
    assert [exports.choose(i) for i in (0, 1, 2, -1)] == [10, 20, 30, 30]
    assert exports.wide() == 0x123456789ABCDEF0


@pytest.mark.usefixtures("at_once")
def test_code_is_made_when_functions_are_translated() -> None:
    instance = instance_of()
    space = instance.module.code_space
    assert space.with_code() == []
    instance.exports.fib(0)
    assert space.with_code() == space.used() == [FIB]
    check_results(instance.exports)
    assert space.with_code() == space.used()


@pytest.mark.parametrize("translation", ["eager", "lazy-translation", "lazy"])
def test_results(translation: str) -> None:
    """Whether code comes early, late or in between."""
    instance = instance_of(translation=translation)
    if translation == "eager":
        assert instance.module.code_space.with_code() == instance.module.code_space.used()
    for _ in range(3):
        check_results(instance.exports)


@pytest.mark.usefixtures("at_ticks")
def test_a_loop_that_runs_gets_code_at_a_tick() -> None:
    """It goes on in it at its next turn, and what has been translated besides has code from then on as well."""
    instance = instance_of(lambda: not space.with_code())
    space = instance.module.code_space
    instance.exports.fib(1)
    assert space.with_code() == []
    assert instance.exports.spin() % 4096 == 0
    assert {FIB, SPIN} <= set(space.with_code())
    check_results(instance.exports)


@pytest.mark.usefixtures("at_once")
def test_traps_in_code_say_where() -> None:
    exports = instance_of().exports
    with pytest.raises(wl.Trap) as caught:
        exports.far(0)
    assert [frame.func_name for frame in caught.value.frames] == ["far"]
    offset = caught.value.frames[0].offset
    engine = wl.Engine(tier="interpreter")
    imports = {"host": {"goes_on": lambda: 0}}
    exports = wl.Instance(wl.Module(SOURCE, engine), imports, store=wl.Store(engine)).exports
    with pytest.raises(wl.Trap) as caught:
        exports.far(0)
    assert caught.value.frames[0].offset == offset


@pytest.mark.usefixtures("at_ticks")
def test_code_beyond_the_limit_is_not_made() -> None:
    """What has no room for code is interpreted."""
    engine = wl.Engine(tier="interpreter", translation="eager")
    module = wl.Module(SOURCE, engine)
    limit = engine.code_used + 300
    instance = instance_of(code_limit=limit, translation="eager")
    assert 0 < len(instance.module.code_space.with_code()) < len(instance.module.code_space.used())
    assert engine.code_used <= instance.module.engine.code_used <= limit
    check_results(instance.exports)
    assert module.code_space.with_code() == []


#: Pins are loaded wherever control arrives from elsewhere: here at as many places as a table has targets.
PINNED = """
(module
  (func (export "pick") (param $i i32) (param $n i32) (result i32) (local $sum i32)
    (loop $l
      (block $c (block $b (block $a
        (br_table $a $b $c $c $b $a TARGETS (i32.and (local.get $i) (i32.const 7))))
        (local.set $sum (i32.add (local.get $sum) (local.get $i))))
        (local.set $sum (i32.add (local.get $sum) (local.get $i))))
      (br_if $l (i32.ge_u (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 1))))
    (local.get $sum)))
"""


def picked(text: str, limit: int) -> tuple[object, list[int], int]:
    """What a call gives, which functions have code, and how much of that there is then."""
    engine = wl.Engine(tier="baseline", cache=False, code_limit=limit)
    instance = wl.Instance(wl.Module(text, engine), {}, store=wl.Store(engine))
    result = instance.exports.pick(1, 5)
    return result, instance.module.code_space.with_code(), engine.code_used


@pytest.mark.usefixtures("at_once")
def test_what_loads_pins_counts_as_code() -> None:
    """Wherever the limit is, a call doesn't meet it: there is code, or there is none."""
    text = PINNED.replace("TARGETS", "$a")
    result, with_code, used = picked(text, 1 << 30)
    assert (result, with_code) == (5, [0])
    for limit in range(used - 200, used + 1):
        assert picked(text, limit)[:2] == (5, [0] if limit == used else [])


@pytest.mark.usefixtures("at_once")
def test_pins_are_loaded_once_for_each_entry() -> None:
    """However often it is a target."""
    few = picked(PINNED.replace("TARGETS", "$a $b"), 1 << 30)[2]
    many = picked(PINNED.replace("TARGETS", "$a $b" + " $b $a" * 1000), 1 << 30)[2]
    assert many - few == 2000 * 4


def check_without(allocation: int) -> int:
    """An allocation fails where a module is made, and where its functions run: there is no code, or an error.

    The next call finds all in order. Returns how often an allocation failed.
    """
    with refuse(allocation), suppress(MemoryError, wl.WasmError):
        check_results(instance_of().exports)
    refused = refusals()
    instance = instance_of()
    with refuse(allocation), suppress(MemoryError, wl.Trap):
        check_results(instance.exports)
    refused += refusals()
    check_results(instance.exports)
    return refused


@pytest.mark.usefixtures("at_once")
def test_without_memory() -> None:
    """Each allocation may fail."""
    failures = 0
    while check_without(failures + 1):
        failures += 1
    assert failures > 30


@pytest.mark.usefixtures("at_once")
def test_small_modules_take_few_mappings() -> None:
    """A process has 65 530 of them: what can be executed is one, the rest of the arena another one."""

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    engine = wl.Engine(tier="baseline", translation="eager")
    text = '(module (func (export "f") (result i32) (i32.const 7)))'
    store = wl.Store(engine)
    before = mappings()
    instances = [wl.Instance(wl.Module(text, engine), {}, store=store) for _ in range(100)]
    assert mappings() - before < 250
    assert {instance.exports.f() for instance in instances} == {7}
    assert all(instance.module.code_space.with_code() for instance in instances)


def test_code_goes_with_its_module() -> None:
    engine = wl.Engine(tier="baseline", translation="eager")
    module = wl.Module(SOURCE, engine)
    assert engine.code_used > 0
    del module
    assert engine.code_used == 0
