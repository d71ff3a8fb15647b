"""How right and how dear profiles of guests are: programs whose division of work is known, in each tier.

    python -m wasmloom_bench.sampling [--seconds 3]

*Right*: a program calls two functions with 70 and 30 of 100 rounds, from the host, through a third one, or on the stack
of a continuation; and guests of an event loop wait for 70 and 30 ms. Said is what the profile gives the first, in
percent. *Dear*: processor time with the profile open relative to that without, least of five rounds in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any

import wasmloom as wl

TEXT = """(module $m
  (import "h" "slow" (func $slow (param i32)))
  (type $f (func)) (type $k (cont $f)) (tag $yield)
  (func $spin (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (i32.div_u (local.get 1) (i32.const 3)) (local.get 0)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func $first (param i32) (drop (call $spin (i32.mul (local.get 0) (i32.const 70)))))
  (func $second (param i32) (drop (call $spin (i32.mul (local.get 0) (i32.const 30)))))
  (func $both (export "both") (param i32) (call $first (local.get 0)) (call $second (local.get 0)))
  (func (export "nested") (param i32) (call $both (local.get 0)))
  (func $generator (loop $l (call $first (i32.const 100)) (suspend $yield) (call $second (i32.const 100)) (br $l)))
  (elem declare func $generator)
  (func (export "generated") (param i32) (local $k (ref null $k))
    (local.set $k (cont.new $k (ref.func $generator)))
    (loop $l
      (block $on (result (ref $k)) (resume $k (on $yield $on) (local.get $k)) (return))
      (local.set $k)
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func $waits_first (call $slow (i32.const 70)))
  (func $waits_second (call $slow (i32.const 30)))
  (func (export "waits") (call $waits_first) (call $waits_second)))"""


def share(profile: wl.Profile, first: str, second: str) -> float:
    """What the first of two functions has of both, in percent."""
    total = {row.name: row.total for row in profile.top()}
    both = total.get(f"m!{first}", 0) + total.get(f"m!{second}", 0)
    return 100 * total.get(f"m!{first}", 0) / both if both else float("nan")


def lasting(run: Callable[[int], object], argument: int, seconds: float) -> int:
    """How often to run something so that it takes so long."""
    began = time.thread_time()
    run(argument)
    return max(1, round(seconds / max(time.thread_time() - began, 1e-4)))


def cost(store: wl.Store, run: Callable[[], object], **options: bool) -> float:
    """Processor time with a profile, relative to that without."""
    plain, profiled = [], []
    for _ in range(5):
        began = time.thread_time()
        run()
        plain.append(time.thread_time() - began)
        with wl.profile(store, **options):
            began = time.thread_time()
            run()
            profiled.append(time.thread_time() - began)
    return min(profiled) / min(plain)


def main() -> None:
    """Measure and print a line for each tier."""
    parser = argparse.ArgumentParser(description="How right and how dear profiles are.")
    parser.add_argument("--seconds", type=float, default=3.0, help="How long each program runs.")
    seconds = parser.parse_args().seconds

    async def slow(ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    print("tier           both  nested  generated  waits  unknown   cost  with lines")
    for tier in ("interpreter", "baseline", "compiler"):
        engine = wl.Engine(tier=tier, cache=False)
        store = wl.Store(engine)
        exports: Any = wl.Instance(wl.Module(TEXT, engine), {"h": {"slow": slow}}, store=store).exports
        shares, unknown = [], 0.0
        for name, argument in (("both", 20_000), ("nested", 20_000), ("generated", 200)):
            run = getattr(exports, name)
            run(argument)  # what is translated or copied then isn't measured
            times = lasting(run, argument, seconds)
            with wl.profile(store) as profile:
                for _ in range(times):
                    run(argument)
            shares.append(share(profile, "first", "second"))
            unknown = max(unknown, 100 * profile.tiers.get("runtime", 0) / max(profile.total, 1))

        async def wait(exports: Any = exports) -> None:
            await asyncio.gather(*(exports.waits.call_async() for _ in range(20)))

        with wl.profile(store, waiting=True) as profile:
            asyncio.run(wait())
        shares.append(share(profile, "waits_first", "waits_second"))
        times = lasting(exports.both, 20_000, seconds / 5)
        again = lambda run=exports.both, times=times: [run(20_000) for _ in range(times)]  # noqa: E731
        both, nested, generated, waits = shares
        print(
            f"{tier:12} {both:6.1f} {nested:7.1f} {generated:10.1f} {waits:6.1f} {unknown:8.1f} "
            f"{cost(store, again):6.3f} {cost(store, again, lines=True):11.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
