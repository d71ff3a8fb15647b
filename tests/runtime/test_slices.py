"""Operations on much of a memory: done in slices, right at their seams, and interrupted between two."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.binary.build import DATA, EXPORT, MEMORY, section, vec
from tests.binary.build import module as build_module
from tests.compiler.tiers import ENGINES, engine_of, exports_of
from tests.patience import PATIENCE, attempts
from wasmloom.binary.encoder import uleb
from wasmloom.system import polling

MIB = 1 << 20
#: More than two slices (`SLICE` in `runtime/bulk.pxd`), and a part of one.
LONG = 33 * MIB + 5
#: What takes several ticks: the system has to find the pages.
LARGE = 128 * MIB

WAYS: dict[str, dict[str, Any]] = {**ENGINES, "checked bytecode": {"tier": "interpreter", "memory": "checked"}}


@pytest.fixture
def handler() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Gives what has a function called by a timer's signal, again and again."""
    before = signal.getsignal(signal.SIGALRM)

    def begin(function: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda number, frame: function())
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.03)

    yield begin
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def engine(name: str) -> wl.Engine:
    return engine_of(name) if name in ENGINES else wl.Engine(cache=False, **WAYS[name])


def guest(name: str, pages: int, **settings: Any) -> Any:
    """The exports of a module with two memories of so many pages."""
    return exports_of(
        f"""(module (memory (export "m") {pages}) (memory $n (export "n") {pages})
          (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
          (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
          (func (export "copy2") (param i32 i32 i32) (memory.copy $n 0 (local.get 0) (local.get 1) (local.get 2)))
          (func (export "fills") (param i32 i32)
            (loop (memory.fill (i32.const 0) (local.get 1) (local.get 0))
              (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 200))))))""",
        engine(name),
        **settings,
    )


@pytest.mark.parametrize("name", ["interpreter", "compiler", "checked", "checked bytecode"])
def test_operations_are_right_where_slices_meet(name: str) -> None:
    exports = guest(name, 37 * MIB // 65536)
    data = bytes(range(251)) * (LONG // 251 + 1)
    exports.m[: len(data)] = data
    model = bytearray(exports.m[:])
    for target, source in ((0, 13), (3 * MIB, MIB)):
        exports.copy(target, source, LONG)
        model[target : target + LONG] = model[source : source + LONG]
        assert exports.m[:] == model
    exports.fill(7, 0x1FE, LONG)
    model[7 : 7 + LONG] = b"\xfe" * LONG
    assert exports.m[:] == model
    exports.copy2(1, 2, LONG)
    assert exports.n[: LONG + 2] == b"\0" + model[2 : LONG + 2] + b"\0"
    for operation in ("fill", "copy"):
        with pytest.raises(wl.Trap, match="out of bounds memory access"):
            exports[operation](len(model) - LONG + 1, 1, LONG)
    assert exports.m[:] == model, "bounds are checked before anything is written"


@pytest.mark.parametrize("operation", ["fill", "copy", "copy2"])
@pytest.mark.parametrize("name", WAYS)
def test_a_timeout_reaches_a_guest_between_two_slices(name: str, operation: str) -> None:
    def is_stopped() -> bool:
        """Whether it didn't come to the end. It may, when the ticker comes late."""
        exports = guest(name, LARGE // 65536, timeout=0.001)
        memory = exports.n if operation == "copy2" else exports.m
        if operation != "fill":
            exports.m[1] = exports.m[-1] = 9
        try:
            exports[operation](0, 1, LARGE - 1)
        except wl.Trap as trap:
            assert trap.code == "timeout"
        return 0 in (memory[0], memory[LARGE - 2])

    assert any(is_stopped() for _ in attempts())


@pytest.mark.parametrize("name", WAYS)
def test_a_handler_lets_the_memory_grow_between_two_slices(
    name: str, handler: Callable[[Callable[[], None]], None]
) -> None:
    """A checked memory moves then."""
    size = 64 * MIB
    exports = guest(name, size // 65536, timeout=PATIENCE)
    memory = exports.m
    seen: list[tuple[int, int]] = []
    growing: list[bool] = []
    stopped: list[bool] = []

    class Stop(BaseException):
        pass

    def grow() -> None:
        if stopped:
            return  # one that was on its way when the timer ended
        if seen:
            stopped.append(True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Stop
        first, last = memory[0], memory[size - 1]
        if first != last and not growing:  # growing may take so long that the next signal comes
            growing.append(True)
            memory.grow(1)
            seen.append((first, last))

    handler(grow)
    with pytest.raises(Stop):
        for _ in attempts():  # the signals may come late
            exports.fills(size, 1)
    content = memory[:]
    value, before = content[0], content[size - 1]
    filled = content.count(value)
    assert content == bytes([value]) * filled + bytes([before]) * (size - filled) + bytes(65536)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows when host code lets Python look at its signals."""
    made: list[None] = []
    monkeypatch.setattr(polling, "look_up", lambda: made.append(None))
    time.sleep(0.011)  # it has just looked else
    return made


@pytest.mark.parametrize("memory", ["guarded", "checked"])
def test_the_hosts_own_copies_look_up(memory: str, looks: list[None]) -> None:
    store = wl.Store(wl.Engine(memory=memory))
    made = wl.Memory(store, 2 * LONG // 65536)
    data = bytes(range(251)) * (LONG // 251)
    made.write(3, data)
    assert len(looks) > 0
    looks.clear()
    time.sleep(0.011)
    assert made.read(3, len(data)) == data
    assert len(looks) > 0
    with memoryview(made) as view:
        made.write(10, view[3 : 3 + len(data)])
    assert made[10 : 10 + len(data)] == data
    with memoryview(made) as view:
        made[3 : 3 + len(data)] = view[10 : 10 + len(data)]
    assert made[3 : 3 + len(data)] == data


def test_active_data_segments_look_up(looks: list[None]) -> None:
    data = b"ab" * (LONG // 2)
    segment = b"\0\x41\0\x0b" + uleb(len(data)) + data
    memory = section(MEMORY, vec(b"\0" + uleb(2 * LONG // 65536)))
    module = wl.Module(build_module(memory, section(EXPORT, vec(b"\1m\2\0")), section(DATA, vec(segment))))
    looks.clear()
    time.sleep(0.011)
    assert wl.Instance(module).exports.m[: len(data)] == data
    assert len(looks) > 0


@pytest.mark.parametrize("key", [slice(2, 5), slice(5, 2), slice(None, None, 2), slice(-3, None), slice(4, 0, -1)])
def test_slices_of_memories(key: slice) -> None:
    made = wl.Memory(wl.Store(), 1)
    model = bytearray(65536)
    made[:8] = model[:8] = b"abcdefgh"
    assert made[key] == model[key]
    value = bytes(i & 0xFF for i in range(len(model[key])))
    made[key] = model[key] = value
    assert made[:] == model
    with pytest.raises(ValueError, match="bytes don't fit a slice of"):
        made[key] = value + b"!"


_NUMBERS = st.integers(-10, 10) | st.sampled_from([65535, 65536, -65536, -65537, 1 << 63, -1 << 63, 1 << 70, -1 << 70])
_STEPS = st.sampled_from([None, 1, 2, -1, 1 << 70])


class _Number:
    """A number by ``__index__``, which grows the memory first."""

    def __init__(self, memory: wl.Memory, number: int) -> None:
        self.memory, self.number = memory, number

    def __index__(self) -> int:
        self.memory.grow(1)
        return self.number


@given(_NUMBERS | st.builds(slice, st.none() | _NUMBERS, st.none() | _NUMBERS, _STEPS))
def test_items_are_those_of_a_bytearray_or_refused(key: int | slice) -> None:
    made = wl.Memory(wl.Store(), 1)
    model = bytearray(65536)
    made[65530:] = model[65530:] = b"uvwxyz"
    made[:8] = model[:8] = b"abcdefgh"
    bounds = (key.start, key.stop) if isinstance(key, slice) else (key,)
    most = 65536 if isinstance(key, slice) else 65535
    if any(bound is not None and not -65536 <= bound <= most for bound in bounds):
        for access in (lambda: made[key], lambda: made.__setitem__(key, 1 if isinstance(key, int) else b"")):
            with pytest.raises(IndexError, match="outside of a memory of 65536 bytes"):
                access()
        return
    assert made[key] == model[key]
    if isinstance(key, int):
        made[key] = model[key] = 200
    else:
        made[key] = model[key] = bytes(7 for _ in model[key])
    assert made[:] == model


@pytest.mark.parametrize("kind", ["guarded", "checked"])
def test_numbers_that_make_a_memory_grow(kind: str) -> None:
    made = wl.Memory(wl.Store(wl.Engine(memory=kind)), 1, 20)
    made[_Number(made, 3)] = _Number(made, 77)
    assert made[_Number(made, 3)] == 77 and made.size == 4
    made[_Number(made, 3) : _Number(made, 5)] = b"ab"
    assert made.read(_Number(made, 3), _Number(made, 2)) == b"ab"
    made.write(_Number(made, 65536 * 8), b"c")  # there, by now
    assert made.size == 9 and made[65536 * 8] == ord("c")


def test_values_that_are_no_bytes() -> None:
    made = wl.Memory(wl.Store(), 1)
    for value in (256, -1, 1 << 70):
        with pytest.raises(ValueError, match=f"{value} is no byte"):
            made[0] = value
    for value in ("text", 1.5, None):
        with pytest.raises(TypeError):
            made[0] = value
        with pytest.raises(TypeError):
            made[0:1] = value
        with pytest.raises(TypeError):
            made.write(0, value)
    apart = memoryview(b"abcdef")[::2]
    for write in (lambda: made.write(0, apart), lambda: made.__setitem__(slice(0, 3), apart)):
        with pytest.raises(TypeError, match="one behind the other"):
            write()
    made[1:5] = made[0:4] = memoryview(made)[8:12]
    assert made[:12] == bytes(12)
    made[0:8] = memoryview(b"abcdefgh").cast("Q")
    assert made[:8] == b"abcdefgh"
    with pytest.raises(ValueError, match="zero"):
        made[0:8:0] = b""
    with pytest.raises(IndexError):
        made.read(0, 1 << 70)
    with pytest.raises(IndexError):
        made.read(-(1 << 70), 1)
    with pytest.raises(IndexError):
        made.read(0, -1)
