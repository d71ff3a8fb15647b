"""Function bodies that several threads check."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from wasmloom.binary.decoder import decode_module
from wasmloom.errors import CompileError, ValidationError
from wasmloom.text.parser import parse_module
from wasmloom.validation import bodies, validate_module

GOOD = "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))"
BAD = "(func (result i32) (i64.const {}))"


def data_of(*functions: str) -> bytes:
    return parse_module(f"(module (memory 1) {' '.join(functions)})").binary


def error_of(data: bytes) -> CompileError:
    with pytest.raises(CompileError) as caught:
        validate_module(decode_module(data))
    return caught.value


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """All modules are checked by four threads, in small pieces; the threads that took part."""
    part: list[int] = []
    real = bodies._Helper._run

    def run(self: bodies._Helper) -> None:
        part.append(threading.get_ident())
        real(self)

    monkeypatch.setattr(bodies, "WORTH", 1)
    monkeypatch.setattr(bodies, "PIECE", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 4, 5})
    monkeypatch.setattr(bodies._Helper, "_run", run)
    yield part


def test_valid_modules(threads: list[int]) -> None:
    validate_module(decode_module(data_of(*[GOOD] * 500)))
    assert len(set(threads)) <= 3 and len(threads) == 3


@pytest.mark.parametrize("places", [(0,), (499,), (3, 4, 5), (120, 121, 400), (7, 450)])
def test_the_first_wrong_body_is_named(threads: list[int], places: tuple[int, ...]) -> None:
    functions = [BAD.format(n) if n in places else GOOD for n in range(500)]
    data = data_of(*functions)
    found = error_of(data)
    threads.clear()
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(bodies, "MOST", 1)
        expected = error_of(data)
    assert not threads
    assert (type(found), str(found), found.offset) == (type(expected), str(expected), expected.offset)
    assert isinstance(found, ValidationError)


def test_features_are_those_of_one_thread(threads: list[int]) -> None:
    uses = [
        "(func (drop (i32.extend8_s (i32.const 1))))",
        "(func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0)))",
    ]
    data = data_of(*[GOOD] * 100, *uses, *[GOOD] * 100, *uses[::-1], *[GOOD] * 50)
    found = validate_module(decode_module(data)).features
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(bodies, "MOST", 1)
        assert found == validate_module(decode_module(data)).features
    assert {"sign-extension", "bulk-memory"} <= set(found)


def test_where_no_thread_can_be_started(threads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def start(work: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(bodies, "start", start)
    validate_module(decode_module(data_of(*[GOOD] * 20)))
    assert error_of(data_of(*[GOOD] * 20, BAD.format(1))).offset


def test_what_a_signal_handler_raises_comes_out(threads: list[int]) -> None:
    class Alarm(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Alarm

    nops = "nop " * 20_000
    decoded = decode_module(data_of(*[f"(func {nops})"] * 100))
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while True:
                validate_module(decoded)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    validate_module(decoded)


def test_types_that_come_and_go_meanwhile(threads: list[int]) -> None:
    """Threads that check read the types of the process while others make new ones."""
    typed = "(type $s (func (param i32 i64) (result f64))) (table 1 funcref)"
    one = "(func (drop (call_indirect (type $s) (i32.const 1) (i64.const 2) (i32.const 0))))"
    decoded = decode_module(parse_module(f"(module {typed} {one * 3000})").binary)
    ends = threading.Event()

    def make() -> None:
        kept = []
        number = 0
        while not ends.is_set():
            number += 1
            params = "i32 " * (number % 90) + "f64 " * (number // 90 % 90) + "i64 " * (number // 8100)
            kept.append(decode_module(parse_module(f"(module (type (func (param {params}))))").binary))
            if len(kept) > 2000:
                kept.clear()

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for _ in range(20):
            validate_module(decoded)
    finally:
        ends.set()
        maker.join()


def test_a_child_that_a_signal_handler_forks_off(threads: list[int]) -> None:
    """It has none of the threads: it checks everything itself."""
    children: list[int] = []

    def fork(number: int, frame: object) -> None:
        if not children:
            children.append(os.fork())

    nops = "nop " * 20_000
    decoded = decode_module(data_of(*[f"(func {nops})"] * 100, BAD.format(1)))
    before = signal.signal(signal.SIGALRM, fork)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        failed = 0
        while not children or not failed:
            try:
                validate_module(decoded)
            except ValidationError:
                failed += 1
    finally:
        signal.signal(signal.SIGALRM, before)
        if children == [0]:
            os._exit(7 if failed else 1)
    assert failed and os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
