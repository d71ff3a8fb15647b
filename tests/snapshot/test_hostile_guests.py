"""Snapshots of guests in the middle of calls that a stranger has changed: an error, or a guest that runs as its module
lets it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wasmloom as wl
from tests.snapshot.test_guests import RICH, STACKS
from wasmloom.snapshot.data import CONSUMED, CONTINUATION, EXCEPTION, Bits, Home, Numbered
from wasmloom.snapshot.format import decode, encode

FUEL = 20_000
#: What a guest may end with.
REFUSED = (wl.WasmError, wl.Trap, wl.WasmException, TypeError, RuntimeError, OverflowError)
#: So many changed snapshots are tried.
CHANGED = 300


@lru_cache
def _engine(tier: str) -> wl.Engine:
    return wl.Engine(tier=tier, translation="eager", fuel=True, cache=False, snapshots=True)


@lru_cache
def kept(tier: str) -> list[tuple[wl.Module, wl.Snapshot]]:
    """Snapshots with frames of all kinds: in calls of the host, in stacks that have resumed each other, suspended."""
    engine = _engine(tier)
    found: list[tuple[wl.Module, wl.Snapshot]] = []
    for text, calls in (
        (RICH, [("nested", 4), ("tails", 4), ("caught", 6), ("fact", 5), ("values", None)]),
        (STACKS, [("keep_error", 66), ("fresh", 0), ("begin", 3), ("both", 5), ("throw_error",), ("bound", 8.0)]),
    ):
        module = wl.Module(text, engine)
        store = wl.Store(engine, fuel=FUEL, memory_limit=1 << 24, stack_limit=1 << 16)

        def ask(number: int, store: wl.Store = store, module: wl.Module = module) -> int:
            found.append((module, store.snapshot()))
            store.snapshot_soon(lambda snapshot: found.append((module, snapshot)))
            return number + 1

        def many(*args: Any, store: wl.Store = store, module: wl.Module = module) -> Any:
            found.append((module, store.snapshot()))
            return args[2], args[3], args[4], args[5], args[0]

        exports = wl.Instance(module, {"m": {"ask": ask, "many": many}}, store=store).exports
        for name, *arguments in calls:
            with contextlib.suppress(wl.Trap):
                exports[name](*arguments)
    return found


def leaves(data: Any) -> list[Any]:
    if isinstance(data, tuple) and not isinstance(data, Home | Numbered | Bits):
        return [leaf for each in data for leaf in leaves(each)]
    return [data]


def changed(data: Any, random: Random, pool: list[Any]) -> Any:
    """Data with a part of it replaced, left out, or twice there."""
    if not isinstance(data, tuple) or (isinstance(data, Home | Numbered | Bits) and random.random() < 0.5):
        if isinstance(data, int) and random.random() < 0.6:
            return max(0, random.choice((data + 1, data - 1, 0, 1, 2, data ^ 1 << random.randrange(64), data * 2)))
        kinds = (CONTINUATION, EXCEPTION, CONSUMED)
        made = [Numbered(random.choice(kinds), random.randrange(3)), Home(0, random.randrange(12)), None]
        return random.choice([*made, random.choice(pool), random.choice(pool)])
    if not data:
        return data
    at = random.randrange(len(data))
    is_list = type(data) is tuple
    how = random.random()
    if is_list and how < 0.1:
        return data[:at] + data[at + 1 :]
    if is_list and how < 0.2:
        return (*data[:at], data[at], *data[at:])
    items = [*data[:at], changed(data[at], random, pool), *data[at + 1 :]]
    return tuple(items) if is_list else type(data)(*items)


async def ended(call: wl.PendingCall, random: Random) -> None:
    if call.waits_for and random.random() < 0.3:
        await call.answer(random.choice((3, (1.5, bytes(16), None, None, 7))))
    else:
        await call.run()


def tried(data: bytes, module: wl.Module, engine: wl.Engine, random: Random) -> bool:
    """Restore it and run everything in it, if that is possible."""
    imports = {"m": {"ask": lambda n: (n + 1) & 0xFFFF, "many": lambda *a: (a[2], a[3], a[4], a[5], a[0])}}
    try:
        copy = wl.Snapshot.from_bytes(data, modules=[module], engine=engine).restore(
            imports=imports, persistent_load=lambda name: name
        )
    except (wl.WasmError, wl.Trap) as error:
        assert str(error)
        return False
    copy.store.fuel = FUEL
    copy.store.gc()
    again = copy.store.snapshot(persistent_id=str)
    assert again.restore(imports=imports, persistent_load=str).store.fuel == FUEL
    for call in copy.calls:
        with contextlib.suppress(*REFUSED):
            asyncio.run(ended(call, random))
        copy.store.gc()
    for each in copy.instances:
        for name, *arguments in (("go_on", 1.0), ("go_on", 2.0), ("run", 0, 4), ("run", 2, 9), ("throw_error",)):
            if name in each.exports:
                with contextlib.suppress(*REFUSED):
                    each.exports[name](*arguments)
    return True


@pytest.mark.parametrize("tier", ["interpreter", "baseline"])
def test_changed_parts(tier: str) -> None:
    """Parts of what is in the middle of something are exchanged, so that what is left is as plausible as can be."""
    random = Random(20)
    some = kept(tier)
    accepted = 0
    for _ in range(CHANGED):
        module, snapshot = random.choice(some)
        data, _ = decode(snapshot.to_bytes())
        pool = leaves(data.guests)
        guests = data.guests
        for _ in range(1 + random.randrange(2)):
            guests = changed(guests, random, pool)
        try:
            wrong = encode(data._replace(guests=guests), {})
        except (AttributeError, TypeError, KeyError, ValueError):
            continue  # nothing that could be written
        accepted += tried(wrong, module, _engine(tier), random)
    assert accepted > CHANGED // 20


@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    module, snapshot = data.draw(st.sampled_from(kept("interpreter")))
    whole = bytearray(snapshot.to_bytes(embed=False)[:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(len(whole) * 2 // 3, len(whole) - 1))
        how = data.draw(st.integers(0, 3))
        if how == 0:
            del whole[at : at + data.draw(st.integers(1, 3))]
        elif how == 1:
            whole[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        else:
            whole[min(at, len(whole) - 1)] = data.draw(st.sampled_from([0, 1, 2, 3, 4, 127, 128]) | st.integers(0, 255))
    wrong = bytes(whole)
    tried(wrong + sha256(wrong).digest(), module, _engine("interpreter"), Random(1))
