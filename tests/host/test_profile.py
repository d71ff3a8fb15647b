"""Profiles: functions by name with their callers, in every tier, on every stack; and files."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.patience import FOREVER, attempts, comes
from wasmloom.host.profile import _open

#: What is too large to stand in the place of a call.
LARGE = "(local.get 0)" + "(i64.xor (i64.const 77)) (i64.mul (i64.const 13)) (i64.add (local.get 0))" * 40
TEXT = """(module $m
  (import "h" "slow" (func $slow (param i32)))
  (import "h" "again" (func $again (param i32)))
  (import "h" "fail" (func $fail))
  (type $f (func)) (type $k (cont $f)) (tag $yield)
  (func $spin (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 31)) (local.get 0)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func $first (param i32) (drop (call $spin (local.get 0))))
  (func $second (param i32) (drop (call $spin (local.get 0))))
  (func (export "both") (param i32) (call $first (local.get 0)) (call $second (local.get 0)))
  (func $leaf (param i64) (result i64) {LARGE})
  (func $leaves (export "leaves") (param i32) (local i64)
    (loop $l
      (local.set 1 (call $leaf (call $leaf (i64.add (local.get 1) (i64.extend_i32_u (local.get 0))))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $deep (export "deep") (param i32 i32)
    (if (local.get 0)
      (then (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
      (else (call $first (local.get 1)))))
  (func (export "host") (param i32) (call $slow (local.get 0)))
  (func (export "nested") (param i32) (call $again (local.get 0)))
  (func (export "fails") (param i32) (call $first (local.get 0)) (call $fail))
  (func $generator (loop $l (drop (call $spin (i32.const 1000))) (suspend $yield) (br $l)))
  (elem declare func $generator)
  (func (export "generated") (param i32) (local $k (ref null $k))
    (local.set $k (cont.new $k (ref.func $generator)))
    (loop $l
      (block $on (result (ref $k)) (resume $k (on $yield $on) (local.get $k)) (return))
      (local.set $k)
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))""".replace("{LARGE}", LARGE)
#: Turns of a loop that take some milliseconds at least.
TURNS = 1 << 20


class Broken(Exception):
    pass


@lru_cache
def _engine(name: str) -> wl.Engine:
    return engine_of(name)


@lru_cache
def _module(engine: wl.Engine) -> wl.Module:
    return wl.Module(TEXT, engine)


def made(engine: wl.Engine, slow: Callable[[int], None] = lambda n: None, **settings: Any) -> tuple[wl.Store, Any]:
    store = wl.Store(engine, **settings)
    holder: list[Any] = []

    def fail() -> None:
        raise Broken

    imports = {"h": {"slow": slow, "again": lambda n: holder[0].both(n), "fail": fail}}
    holder.append(wl.Instance(_module(engine), imports, store=store).exports)
    return store, holder[0]


def found(store: wl.Store, run: Callable[[], object], *wanted: tuple[str, ...]) -> wl.Profile:
    """A profile of `run`, which is repeated until there is a sample of each of the wanted stacks."""
    with wl.profile(store) as profile:
        for _ in attempts():
            run()
            if set(wanted) <= set(profile.stacks):
                break
    assert set(wanted) <= set(profile.stacks), profile.table()
    return profile


def of_guests(profile: wl.Profile) -> set[tuple[str, ...]]:
    """The stacks, without those on which the runtime ran."""
    return {stack for stack in profile.stacks if stack[-1] != "[runtime]"}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> wl.Engine:
    name: str = request.param
    return _engine(name)


def test_callers_and_callees(engine: wl.Engine) -> None:
    store, exports = made(engine)
    profile = found(
        store,
        lambda: exports.both(TURNS),
        ("m!both", "m!first", "m!spin"),
        ("m!both", "m!second", "m!spin"),
    )
    assert {stack[-1] for stack in of_guests(profile)} <= {"m!spin", "m!first", "m!second", "m!both"}
    # Nothing is found below what does not call it.
    assert all(stack[:1] == ("m!both",) and "m!both" not in stack[1:] for stack in profile.stacks)
    rows = {row.name: row for row in profile.top()}
    assert rows["m!both"].total == profile.total == sum(profile.stacks.values()) == sum(profile.tiers.values())
    assert profile.top()[0].name == "m!spin" and profile.top(1) == profile.top()[:1]


def test_small_functions_that_have_returned(engine: wl.Engine) -> None:
    """Where frames are read they are gone, or have only begun."""
    store, exports = made(engine)
    profile = found(store, lambda: exports.leaves(TURNS), ("m!leaves", "m!leaf"))
    assert of_guests(profile) <= {("m!leaves", "m!leaf"), ("m!leaves",)}


def test_deep_stacks(engine: wl.Engine) -> None:
    store, exports = made(engine)
    deep = ("m!deep",) * 101
    found(store, lambda: exports.deep(100, TURNS), (*deep, "m!first", "m!spin"))


def test_on_the_stack_of_a_continuation(engine: wl.Engine) -> None:
    store, exports = made(engine)
    found(store, lambda: exports.generated(1000), ("m!generated", "m!generator", "m!spin"))


def test_tiers_are_told() -> None:
    for name in ("interpreter", "baseline", "compiler"):
        store, exports = made(_engine(name))
        with wl.profile(store) as profile:  # on a busy machine guests wait for the GIL, too
            for _ in attempts():
                exports.both(TURNS)
                if next(iter(profile.tiers), "") == name:
                    break
        assert next(iter(profile.tiers), "") == name, profile.tiers


def test_functions_that_get_compiled_code_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.tiers import replacing

    replacing.force(True)
    try:
        text = TEXT.replace("(type $f (func)) (type $k (cont $f)) (tag $yield)", "")
        text = text[: text.index("(func $generator")] + ")"
        engine = engine_of("auto")
        store = wl.Store(engine)
        imports = {"h": {"slow": lambda n: None, "again": lambda n: None, "fail": lambda: None}}
        exports = wl.Instance(wl.Module(text, engine), imports, store=store).exports
        found(store, lambda: exports.deep(10, TURNS), (*("m!deep",) * 11, "m!first", "m!spin"))
        profile = found(store, lambda: exports.leaves(TURNS), ("m!leaves", "m!leaf"))
        assert of_guests(profile) <= {("m!leaves", "m!leaf"), ("m!leaves",)}
    finally:
        replacing.force(False)


def test_host_functions_are_named(engine: wl.Engine) -> None:
    def slow(turns: int) -> None:
        for _ in range(turns):
            pass

    store, exports = made(engine, slow)
    profile = found(store, lambda: exports.host(TURNS), ("m!host", "[host] h.slow"))
    assert profile.tiers["host"] > 0


def test_guests_called_by_host_functions(engine: wl.Engine) -> None:
    store, exports = made(engine)
    found(
        store,
        lambda: exports.nested(TURNS),
        ("m!nested", "[host] h.again", "m!both", "m!first", "m!spin"),
    )


def test_several_stores(engine: wl.Engine) -> None:
    first, one = made(engine)
    second, two = made(engine)
    with wl.profile(first, second) as profile:
        assert comes(lambda: one.both(TURNS) or profile.total)
        before = profile.total
        assert comes(lambda: two.both(TURNS) or profile.total > before)
    _, three = made(engine)
    before = profile.total
    three.both(TURNS)
    one.both(TURNS)
    assert profile.total == before


def test_a_guest_in_another_thread(engine: wl.Engine) -> None:
    store, exports = made(engine)
    with wl.profile(store) as profile:
        for _ in attempts():
            thread = threading.Thread(target=exports.both, args=(TURNS,))
            thread.start()
            thread.join()
            if profile.total:
                break
    assert profile.total


def test_calls_that_wait(engine: wl.Engine) -> None:
    store = wl.Store(engine)

    async def slow(turns: int) -> None:
        await asyncio.sleep(0)

    text = """(module $a (import "h" "slow" (func $slow (param i32)))
      (func $work (param i32)
        (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func (export "run") (param i32)
        (call $work (local.get 0)) (call $slow (i32.const 1)) (call $work (local.get 0))))"""
    run = wl.Instance(wl.Module(text, engine), {"h": {"slow": slow}}, store=store).exports.run

    async def main() -> None:
        await asyncio.gather(*(run.call_async(TURNS) for _ in range(3)))

    found(store, lambda: asyncio.run(main()), ("a!run", "a!work"))


def test_traps_and_exceptions_end_nothing(engine: wl.Engine) -> None:
    store, exports = made(engine)

    def fails() -> None:
        with pytest.raises(Broken):
            exports.fails(TURNS)

    found(store, fails, ("m!fails", "m!first", "m!spin"))


def test_limits_and_signals_reach_guests(engine: wl.Engine) -> None:
    store, exports = made(engine, timeout=0.05)
    with wl.profile(store), pytest.raises(wl.Trap, match="timeout"):
        exports.both((1 << 32) - 1)
    store, exports = made(engine)

    class Rung(Exception):
        pass

    def ring(number: int, frame: object) -> None:
        raise Rung

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with wl.profile(store), pytest.raises(Rung):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            exports.both((1 << 32) - 1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_profile_is_open_once() -> None:
    store, exports = made(_engine("interpreter"))
    with wl.profile(store) as profile:
        with pytest.raises(ValueError, match="being profiled already"), wl.profile(store):
            pass
        assert id(store) in _open
    assert not _open
    with profile:  # it goes on
        assert comes(lambda: exports.both(TURNS) or profile.total)
    for wrong in ((), (3,), (exports,)):
        with pytest.raises(TypeError):
            wl.profile(*wrong)


def test_files(tmp_path: Path) -> None:
    store, exports = made(_engine("baseline"))
    profile = found(store, lambda: exports.both(TURNS), ("m!both", "m!first", "m!spin"))
    for name in ("p.svg", "p.json", "p.txt"):
        profile.save(tmp_path / name)
    lines = (tmp_path / "p.txt").read_text().splitlines()
    assert {tuple(line.rpartition(" ")[0].split(";")): int(line.rpartition(" ")[2]) for line in lines} == profile.stacks
    told = json.loads((tmp_path / "p.json").read_text())
    names = [frame["name"] for frame in told["shared"]["frames"]]
    (one,) = told["profiles"]
    stacks = {
        tuple(names[i] for i in sample): weight for sample, weight in zip(one["samples"], one["weights"], strict=True)
    }
    assert stacks == profile.stacks and one["endValue"] == profile.total
    picture = ElementTree.parse(tmp_path / "p.svg").getroot()
    titles = [title.text or "" for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert titles and titles[0].startswith("m!both: ") and any(title.startswith("m!spin: ") for title in titles)


def test_an_empty_profile_can_be_shown(tmp_path: Path) -> None:
    store, _ = made(_engine("interpreter"))
    with wl.profile(store) as profile:
        pass
    assert profile.total == 0 and profile.top() == [] and profile.collapsed() == "" and "0 samples" in profile.table()
    ElementTree.fromstring(profile.flame_graph())
    assert json.loads(profile.speedscope())["profiles"][0]["samples"] == []


def test_names_that_are_markup(tmp_path: Path) -> None:
    text = """(module (func (export "<a>&\\22;b\\0a") (param i32)
      (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    engine = engine_of("interpreter")
    store = wl.Store(engine)
    run = wl.Instance(wl.Module(text, engine), store=store).exports['<a>&";b\n']
    with wl.profile(store) as profile:
        assert comes(lambda: run(TURNS) or profile.total)
    assert len(profile.collapsed().splitlines()) == 1
    ElementTree.fromstring(profile.flame_graph("<&>"))


FOREIGN = """
import os, signal, sys
import wasmloom as wl
seen = []
if sys.argv[1] == "handled":
    signal.signal(signal.SIGPROF, lambda *_: seen.append(1))
elif sys.argv[1] == "ignored":
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
engine = wl.Engine(tier="interpreter")
store = wl.Store(engine)
run = wl.Instance(wl.Module('(module (func (export "run")))', engine), store=store).exports.run
with wl.profile(store):
    run()
    os.kill(os.getpid(), signal.SIGPROF)
os.kill(os.getpid(), signal.SIGPROF)
print(len(seen) > 0)
"""


@pytest.mark.parametrize(
    ("how", "status", "output"), [("handled", 0, "True"), ("ignored", 0, "False"), ("default", -27, "")]
)
def test_others_signals_do_what_they_did(how: str, status: int, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, how], capture_output=True, text=True, timeout=FOREVER, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (status, output), done.stderr
