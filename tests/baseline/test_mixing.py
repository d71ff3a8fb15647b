"""Code and handlers take turns at every place where they can, and nobody sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import wasmloom as wl
from tests.baseline.test_copier import SOURCE
from tests.fuzz import differential
from wasmloom.baseline.mixing import set_mixing, turn_entries
from wasmloom.baseline.plans import planned

pytestmark = pytest.mark.usefixtures("code_at_once")

#: A function of each kind that `mixing` knows is among so many.
SEEDS = range(1, 13)


@pytest.fixture(params=SEEDS)
def seed(request: pytest.FixtureRequest) -> Iterator[int]:
    chosen: int = request.param
    before = set_mixing(chosen)
    yield chosen
    set_mixing(before)


def instance_of(seed: int, **settings: object) -> wl.Instance:
    """An instance whose entries are others whenever it calls the host."""
    calls = 0

    def goes_on() -> int:
        nonlocal calls
        calls += 1
        turn_entries(instance.module.code_space, seed + calls)
        return calls % 20

    engine = wl.Engine(tier="baseline", **settings)
    instance = wl.Instance(wl.Module(SOURCE, engine), {"host": {"goes_on": goes_on}}, store=wl.Store(engine))
    return instance


def test_results(seed: int) -> None:
    instance = instance_of(seed)
    exports = instance.exports
    assert exports.spin() == 20 * 4096
    for turn in range(20):
        turn_entries(instance.module.code_space, 100 * seed + turn)
        assert exports.fib(10) == 55
        assert [exports.choose(i) for i in (0, 1, 2, -1)] == [10, 20, 30, 30]
        assert exports.wide() == 0x123456789ABCDEF0
        with pytest.raises(wl.Trap, match="out of bounds") as caught:
            exports.far(0)
        assert [frame.func_name for frame in caught.value.frames] == ["far"]


def test_entries_turn_while_guests_run(seed: int) -> None:
    instance = instance_of(seed, translation="eager")
    ended = threading.Event()

    def turn() -> None:
        turns = 0
        while not ended.is_set():
            turns += 1
            turn_entries(instance.module.code_space, turns)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for _ in range(3):
            assert instance.exports.fib(18) == 2584
            assert instance.exports.spin() % 4096 == 0
    finally:
        ended.set()
        thread.join()
    assert turn_entries(instance.module.code_space, 1) > 10


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_with_odd_numbers_pins_need_not_be_worth_it(number: int) -> None:
    """The loop calls a function three times for each time that it reads a slot."""
    before = set_mixing(number)
    try:
        engine = wl.Engine(tier="baseline", translation="eager")
        module = wl.Module(
            """(module (func $f (param i32) (result i32) (local.get 0)) (func (export "spin") (param $n i32)
            (loop (br_if 0 (local.tee $n (call $f (call $f (call $f (i32.sub (local.get $n) (i32.const 1))))))))))""",
            engine,
        )
    finally:
        set_mixing(before)
    assert bool(planned(module.code_space, 1).pins) == number % 2
    assert wl.Instance(module, {}, store=wl.Store(engine)).exports.spin(1000) is None


def test_without_it_nothing_is_noted() -> None:
    engine = wl.Engine(tier="baseline", translation="eager")
    module = wl.Module(SOURCE, engine)
    assert module.code_space.with_code()
    assert turn_entries(module.code_space, 1) == 0
    assert turn_entries(wl.Module(SOURCE, wl.Engine(tier="interpreter")).code_space, 1) == 0, "no code is made"


def test_random_programs() -> None:
    form = differential.Form(copied=True)
    for case in range(10):
        for kind in (form, form._replace(stacks=True)):
            what = kind.difference(None, differential.choices_of(50, case), case)
            assert what is None, f"case {case}: {what}"
