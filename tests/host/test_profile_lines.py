"""Profiles that tell lines of the source, and where guests wait."""

from __future__ import annotations

import asyncio
import json
import threading
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import wasmloom as wl
from tests.compiler.tiers import ENGINES, engine_of
from tests.debuginfo import dwarf
from tests.patience import attempts

SOURCES = {
    "inlined.h": """\
static volatile unsigned some;
static inline __attribute__((always_inline)) unsigned mix(unsigned a, unsigned b) {
  for (int i = 0; i < 1000; i++)
    a = a * 31 + b / (a | 1) + some; // mixes
  return a;
}
""",
    "first.c": """\
#include "inlined.h"
unsigned work(unsigned, unsigned);
__attribute__((export_name("run"))) unsigned run(unsigned n) {
  unsigned a = 1;
  for (unsigned i = 0; i < n; i++) {
    a += mix(a, i); // mixes itself
    a += work(a, i); // works
  }
  return a;
}
""",
    "second.c": """\
#include "inlined.h"
__attribute__((noinline)) unsigned work(unsigned a, unsigned b) {
  return mix(a, b) + 1; // mixes elsewhere
}
""",
}


@lru_cache
def _compiled(*options: str) -> bytes:
    with TemporaryDirectory() as folder:
        return dwarf.compiled(Path(folder), *options, sources=SOURCES)


@lru_cache
def _engine(tier: str) -> wl.Engine:
    return engine_of(tier)


def made(data: bytes | str, tier: str, imports: dict[str, Any] | None = None) -> tuple[wl.Store, Any]:
    engine = _engine(tier)
    store = wl.Store(engine)
    return store, wl.Instance(wl.Module(data, engine), imports or {}, store=store).exports


def line_of(file: str, mark: str) -> tuple[str, int]:
    return file, dwarf.line_of(file, mark, SOURCES)


# Compiled code knows where its calls and accesses are; those of checked memories are like any code.
@pytest.mark.parametrize("tier", sorted(set(ENGINES) - {"checked"}))
def test_lines_and_inlined_functions(tier: str) -> None:
    store, exports = made(_compiled("-g"), tier)
    prefix = "made.wasm!"
    wanted = {(f"{prefix}run", f"{prefix}mix"), (f"{prefix}run", f"{prefix}work", f"{prefix}mix")}
    with wl.profile(store, lines=True) as profile:
        for _ in attempts():
            exports.run(300)
            if wanted <= set(profile.stacks):
                break
    assert wanted <= set(profile.stacks), profile.table()
    rows = {(Path(row.file or "").name, row.line): row for row in profile.by_line()}
    mixes = rows[line_of("inlined.h", "mixes")]
    assert mixes.function == f"{prefix}mix" and mixes.own > 0
    assert rows[line_of("second.c", "mixes elsewhere")].total > 0
    assert rows[line_of("first.c", "works")].total >= rows[line_of("second.c", "mixes elsewhere")].total // 2
    assert sum(row.own for row in profile.by_line()) == profile.total
    assert profile.by_line(1) == profile.by_line()[:1]
    table = profile.table()
    assert f"{mixes.file}:{mixes.line}  {mixes.function}" in table
    frames = json.loads(profile.speedscope())["shared"]["frames"]
    assert {"name": mixes.function, "file": mixes.file, "line": mixes.line} in frames


def test_modules_without_debug_information() -> None:
    store, exports = made(_compiled("-g0"), "interpreter")
    with wl.profile(store, lines=True) as profile:
        for _ in attempts():
            exports.run(300)
            if profile.total:
                break
    assert all(row.file is None and row.line == 0 for row in profile.by_line())
    assert "no lines: the modules have no debug information" in profile.table()
    with wl.profile(store) as plain:
        pass
    with pytest.raises(ValueError, match="lines=True"):
        plain.by_line()


WAITING = """(module $w
  (import "h" "slow" (func $slow (param i32))) (import "h" "also" (func $also (param i32)))
  (func $waits (param i32) (call $slow (local.get 0)))
  (func (export "run") (param i32) (call $waits (local.get 0)) (call $also (local.get 0))))"""


def waiter(tier: str) -> tuple[wl.Store, Any]:
    async def sleep(ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    return made(WAITING, tier, {"h": {"slow": sleep, "also": sleep}})


@pytest.mark.parametrize("tier", ENGINES)
def test_guests_that_wait(tier: str) -> None:
    store, exports = waiter(tier)

    async def main() -> None:
        await asyncio.gather(*(exports.run.call_async(20) for _ in range(4)))

    with wl.profile(store, waiting=True) as profile:
        asyncio.run(main())
    slow = profile.stacks[("w!run", "w!waits", "[waiting] h.slow")]
    also = profile.stacks[("w!run", "[waiting] h.also")]
    assert slow >= 4 * 10 and also >= 4 * 10  # no clock is slower than the loop's
    assert profile.tiers["waiting"] == slow + also <= profile.total
    with wl.profile(store) as profile:
        asyncio.run(main())
    assert not any("[waiting]" in name for stack in profile.stacks for name in stack)


def test_guests_that_waited_before_and_wait_on() -> None:
    store, exports = waiter("interpreter")

    async def main() -> tuple[wl.Profile, wl.Profile]:
        task = asyncio.ensure_future(exports.run.call_async(50))
        await asyncio.sleep(0.01)
        with wl.profile(store, waiting=True) as first:
            await asyncio.sleep(0.01)
        with wl.profile(store, waiting=True) as second:
            await task
        task = asyncio.ensure_future(exports.run.call_async(10_000))
        await asyncio.sleep(0.01)
        with wl.profile(store, waiting=True) as third:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert set(third.stacks) <= {("w!run", "w!waits", "[waiting] h.slow")}
        return first, second

    first, second = asyncio.run(main())
    assert set(first.stacks) == {("w!run", "w!waits", "[waiting] h.slow")}
    assert second.stacks[("w!run", "[waiting] h.also")] >= 25


def test_a_function_of_the_host_that_waits() -> None:
    async def sleep(ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    text = '(module (import "h" "slow" (func $f (param i32))) (export "f" (func $f)))'
    store, exports = made(text, "interpreter", {"h": {"slow": sleep}})
    with wl.profile(store, waiting=True) as profile:
        asyncio.run(exports.f.call_async(10))
    assert set(profile.stacks) == {("[waiting] h.slow",)}


@pytest.mark.parametrize("tier", ENGINES)
def test_a_guest_that_runs_already(tier: str) -> None:
    """A profile is opened in another thread, while the guest runs, and read meanwhile."""
    store, exports = made(
        """(module $m (import "h" "go" (func $go (result i32)))
          (func $spin (local i32)
            (loop $l (local.set 0 (i32.add (i32.const 1) (local.get 0)))
              (br_if $l (i32.lt_u (i32.div_u (local.get 0) (i32.const 3)) (i32.const 100000)))))
          (func (export "run") (loop $l (call $spin) (br_if $l (call $go)))))""",
        tier,
        {"h": {"go": lambda: int(not done.is_set())}},
    )
    done, began = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (began.set(), exports.run()))
    thread.start()
    try:
        assert began.wait(60)
        with wl.profile(store, lines=True) as profile:
            for _ in attempts():
                done.wait(0.01)
                if ("m!run", "m!spin") in profile.stacks:
                    break
        assert ("m!run", "m!spin") in profile.stacks, profile.table()
    finally:
        done.set()
        thread.join()
