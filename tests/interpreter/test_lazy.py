"""Translation at the first call: whoever comes in between, nothing that is half done is used."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

import wasmloom as wl
from wasmloom.host.fixed import fill
from wasmloom.interpreter.code_space import new_code_space

COUNT = 200


def text() -> str:
    """Functions $f0 … that call each other down to the last, each with a `br_table`, and $g0 … for others to call."""
    chain = "".join(
        f"""(func $f{i} (export "f{i}") (param i32) (result i32) (local i32 i32 i32)
              (block (block (br_table 0 1 0 (local.get 0))))
              (local.set 1 (i32.add (local.get 0) (i32.const {i})))
              (i32.add (local.get 1) (call $f{i + 1} (i32.sub (local.get 0) (i32.const 1)))))"""
        for i in range(COUNT)
    )
    others = "".join(
        f"""(func (export "g{i}") (param i32) (result i32) (local i64 i64)
              (block (block (block (br_table 0 1 2 (local.get 0))))) (i32.mul (local.get 0) (i32.const {i})))"""
        for i in range(COUNT)
    )
    return f"""(module {chain} (func $f{COUNT} (param i32) (result i32) (i32.const 0)) {others}
                 (func (export "trap") (param i32) (result i32) (unreachable)))"""


RESULT = COUNT * COUNT


def with_visitor(visit: Callable[[int], None]) -> wl.Module:
    """A module whose functions are about to be translated while `visit` runs."""
    module = wl.Module(text())
    fill(module, code_space=new_code_space(module.decoded, False, visit))
    return module


def test_nobody_enters_a_store_that_translates() -> None:
    """A signal handler or finaliser that runs now would put its frame over that of the function being called."""
    refused = 0

    def visit(index: int) -> None:
        nonlocal refused
        with pytest.raises(wl.WasmError, match="can't call into the store"):
            instance.exports[f"g{index % COUNT}"](3)
        refused += 1

    module = with_visitor(visit)
    instance = wl.Instance(module)
    assert instance.exports.f0(COUNT) == RESULT
    assert refused == COUNT + 1
    fill(module, code_space=with_visitor(lambda index: None).code_space)
    assert wl.Instance(module).exports.g7(3) == 21


def test_another_store_translates_meanwhile() -> None:
    """The same functions and others, with the code space of the module in use."""
    busy = False

    def visit(index: int) -> None:
        nonlocal busy
        if not busy:
            busy = True
            try:
                assert other.exports[f"g{index % COUNT}"](3) == 3 * (index % COUNT)
                assert other.exports.f0(COUNT) == RESULT
                with pytest.raises(wl.Trap) as caught:
                    other.exports.trap(1)
                assert caught.value.frames[0].func_name == "trap"
            finally:
                busy = False

    module = with_visitor(visit)
    instance, other = wl.Instance(module), wl.Instance(module)
    assert instance.exports.f0(COUNT) == RESULT
    assert other.exports.f0(COUNT) == RESULT
    with pytest.raises(wl.Trap) as caught:
        instance.exports.trap(1)
    assert [frame.func_name for frame in caught.value.frames] == ["trap"]


@pytest.mark.parametrize("translation", ["lazy", "lazy-translation"])
def test_signal_handlers_in_between(translation: str) -> None:
    """They run between a function's call and its translation, and may call other stores, but not this one."""
    results: set[object] = set()
    module = wl.Module(text(), wl.Engine(translation=translation))
    instance, other = wl.Instance(module), wl.Instance(module)
    calls = depth = 0

    def handle(number: int, frame: object) -> None:
        nonlocal calls, depth
        calls += 1
        mine = calls % COUNT
        if depth > 3:
            return  # signals come faster than they can be handled
        depth += 1
        for one in (other, instance):  # the first may be interrupted as well, by the next signal
            try:
                results.add(one.exports[f"g{mine}"](2) - 2 * mine)
            except wl.WasmError as error:
                results.add(str(error))
        depth -= 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    try:
        assert instance.exports.f0(COUNT) == RESULT
        while calls < 3:  # so that the handler has run, however fast that was
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert results <= {0, "a signal handler or finaliser can't call into the store whose guest it interrupted"}


@pytest.mark.parametrize("translation", ["lazy", "lazy-translation"])
def test_threads_share_a_module(translation: str) -> None:
    module = wl.Module(text(), wl.Engine(translation=translation))
    wrong: list[object] = []

    def work(number: int) -> None:
        instance = wl.Instance(module)
        for i in range(COUNT):
            got = instance.exports[f"g{(i * 7 + number) % COUNT}"](3)
            if got != 3 * ((i * 7 + number) % COUNT):
                wrong.append(got)
        if instance.exports.f0(COUNT) != RESULT:
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_invalid_function_is_found_at_its_first_call() -> None:
    """Again and again, and the others go on."""
    module = wl.Module(
        """(module (func (export "good") (result i32) (i32.const 1))
                   (func (export "bad") (result i32) (i64.const 1)))""",
        wl.Engine(translation="lazy"),
    )
    instance = wl.Instance(module)
    for _ in range(3):
        with pytest.raises(wl.ValidationError):
            instance.exports.bad()
        assert instance.exports.good() == 1
