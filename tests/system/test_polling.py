"""Long work in compiled modules polls: by items, and by the bytes of what it reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import wasmloom as wl
from tests.binary.build import CODE, EXPORT, FUNC, MEMORY, TYPE, module, section, vec
from wasmloom.binary.encoder import uleb
from wasmloom.system import polling

#: Bytes of a function's body that polls many times.
LONG = 100_000

#: Instructions of one byte, two, three; with immediates that `next_instr` decodes itself, and with others.
INSTRUCTIONS = {
    "nop": b"\x01",
    "local": b"\x20\x00\x1a",
    "constant": b"\x41\x80\x01\x1a",
    "long constant": b"\x42\x80\x80\x80\x01\x1a",
    "prefixed": b"\x43\x00\x00\x00\x00\xfc\x00\x1a",
}


def with_body(code: bytes) -> bytes:
    """A module whose only function, "f", has a parameter of type i32."""
    body = b"\0" + code + b"\x0b"
    return module(
        section(TYPE, vec(b"\x60\1\x7f\0")),
        section(FUNC, vec(b"\0")),
        section(EXPORT, vec(b"\1f\0\0")),
        section(CODE, vec(uleb(len(body)) + body)),
    )


def items_of(work: Callable[[], object]) -> int:
    before = polling.items_done()
    work()
    return (polling.items_done() - before) & 0xFFFFFFFF


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_reading_polls_for_every_byte(name: str) -> None:
    """Once for validation, and once for translation."""
    one = INSTRUCTIONS[name]
    count = LONG // len(one)
    data = with_body(one * count)
    least = LONG * 99 // 100  # an instruction may go on behind the bytes that have been polled for
    assert items_of(lambda: wl.Module.validate(data)) >= least
    exports = wl.Instance(wl.Module(data, wl.Engine(tier="interpreter"))).exports
    assert items_of(lambda: exports.f(0)) >= least


class Interruption(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_interrupt_reaches_the_reading_of_a_long_body(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function can be used afterwards: nothing is left half done."""
    data = with_body(INSTRUCTIONS[name] * (LONG // len(INSTRUCTIONS[name])))

    def interrupt() -> None:
        raise Interruption

    exports = wl.Instance(wl.Module(data, wl.Engine(tier="interpreter"))).exports
    with monkeypatch.context() as patch:
        patch.setattr(polling, "look_up", interrupt)
        for work in (lambda: wl.Module.validate(data), lambda: exports.f(0)):
            polling.look_next()
            with pytest.raises(Interruption):
                work()
    wl.Module.validate(data)
    exports.f(0)


#: What a body ends with whose `end` is missing: instructions that are whole, and parts of such.
CUT = [
    b"\x20\x00", b"\x20\x80\x00", b"\x20\x80", b"\x41\x80\x80", b"\x41\xff\x7f", b"\x02\x40", b"\x41\x00\x28\x02\x00",
    b"\x28\x02", b"\x28\x02\x80", b"\x28", b"\xfc",
]  # fmt: skip


@pytest.mark.parametrize("cut", CUT, ids=bytes.hex)
@pytest.mark.parametrize("before", [0, 1, 1023, 1024, 1025])
def test_a_body_that_ends_in_an_instruction(cut: bytes, before: int) -> None:
    """At the end of what is read, and where it has polled just before: nothing behind the body is read."""
    body = b"\0" + b"\x01" * before + cut
    data = module(
        section(TYPE, vec(b"\x60\1\x7f\0")),
        section(FUNC, vec(b"\0")),
        section(MEMORY, vec(b"\0\1")),
        section(CODE, vec(uleb(len(body)) + body)),
    )
    with pytest.raises(wl.CompileError, match="unexpected end"):
        wl.Module.validate(data + b"\0\x05\1x\1\1\1")


@pytest.mark.parametrize("value", [0, 63, 64, 127, 128, 200, 8191, 8192, 16383])
@pytest.mark.parametrize("before", [0, 1020, 1021, 1022, 1023, 1024])
def test_short_immediates_at_the_end_of_a_body(value: int, before: int) -> None:
    """One byte or two, with only `end` behind them: the short way to read them looks at three bytes."""
    local = b"\1" + uleb(value + 1) + b"\x7f"  # the parameter, and value + 1 locals
    body = local + b"\x01" * before + b"\x41\x07\x21" + uleb(value) + b"\x20" + uleb(value) + b"\x0b"
    data = module(
        section(TYPE, vec(b"\x60\1\x7f\1\x7f")),
        section(FUNC, vec(b"\0")),
        section(EXPORT, vec(b"\1f\0\0")),
        section(CODE, vec(uleb(len(body)) + body)),
    )
    assert wl.Instance(wl.Module(data, wl.Engine(tier="interpreter"))).exports.f(1) == 7
