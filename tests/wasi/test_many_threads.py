"""Programs whose threads do anything at any time, and end in any way: nothing hangs, and nothing is left.

`WASMLOOM_THREADS_ROUNDS` is the number of programs.
"""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

import wasmloom as wl
from tests.compiler.tiers import engine_of
from tests.patience import PATIENCE, comes
from wasmloom.runtime.sharing import waiting

ROUNDS = int(os.environ.get("WASMLOOM_THREADS_ROUNDS", "48"))
TIERS = ["interpreter", "baseline", "compiler", "auto"]

#: Each thread does what random numbers tell, which begin with its argument: spawn another, wait (for a time, or for
#: ever) at one of eight words, wake at one, add to one, let memory grow, go on, return, and rarely end everything.
TEXT = """
(module
  (import "env" "memory" (memory 1 64 shared))
  (import "env" "fail" (func $fail))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (export "memory" (memory 0))
  (func $word (param i32) (result i32)
    (i32.shl (i32.and (local.get 0) (i32.const 7)) (i32.const 2)))
  (func $steps (param $random i64) (param $left i32)
    (local $choice i32)
    (loop $next
      (local.set $random (i64.add (i64.mul (local.get $random) (i64.const 6364136223846793005))
        (i64.const 1442695040888963407)))
      (local.set $choice (i32.wrap_i64 (i64.shr_u (local.get $random) (i64.const 33))))
      (block $end (block $return (block $grow (block $add (block $wake (block $ever (block $while (block $new
        (br_table $new $new $while $while $while $ever $wake $wake $wake $wake $add $add $grow $return $end
          (i32.rem_u (local.get $choice) (i32.const 15))))
        ;; new
        (drop (call $spawn (i32.shr_u (local.get $choice) (i32.const 4)))) (br $grow))
        ;; while
        (drop (memory.atomic.wait32 (call $word (i32.shr_u (local.get $choice) (i32.const 8)))
          (i32.atomic.load (call $word (i32.shr_u (local.get $choice) (i32.const 8)))) (i64.const 300000))) (br $grow))
        ;; ever
        (drop (memory.atomic.wait32 (call $word (i32.shr_u (local.get $choice) (i32.const 8)))
          (i32.atomic.load (call $word (i32.shr_u (local.get $choice) (i32.const 8)))) (i64.const -1))) (br $grow))
        ;; wake
        (drop (memory.atomic.notify (call $word (i32.shr_u (local.get $choice) (i32.const 8)))
          (i32.and (i32.shr_u (local.get $choice) (i32.const 16)) (i32.const 3)))) (br $grow))
        ;; add
        (drop (i32.atomic.rmw.add (call $word (i32.shr_u (local.get $choice) (i32.const 8))) (i32.const 1)))
        (drop (memory.grow (i32.eqz (i32.and (local.get $choice) (i32.const 0x700))))))
      ;; grow
      (drop (call $yield))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))
      (return))
      ;; return
      (return))
      ;; end
      (if (i32.eqz (i32.and (local.get $choice) (i32.const 0x300))) (then (call $exit (i32.const 7))))
      (if (i32.eqz (i32.and (local.get $choice) (i32.const 0xc00))) (then unreachable))
      (if (i32.eqz (i32.and (local.get $choice) (i32.const 0x3000))) (then (call $fail)))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
  (func (export "_start")
    (call $steps (i64.const {seed}) (i32.const 200)))
  (func (export "wasi_thread_start") (param $number i32) (param $argument i32)
    (call $steps (i64.add (i64.extend_i32_u (local.get $argument)) (i64.const {seed})) (i32.const 60))))
"""


class _Failed(Exception):
    """What the host function raises."""


def _fail() -> None:
    raise _Failed


def _run(seed: int, name: str, ends: list[str]) -> None:
    """Run a program, and note how it has ended."""
    choose = random.Random(seed)
    store = wl.Store(engine_of(name), timeout=choose.choice([0.02, 0.2, 1.0]))
    module = wl.Module(TEXT.replace("{seed}", str(seed * 0x9E3779B97F4A7C15 & (1 << 62) - 1)), store.engine)
    killer = threading.Thread(target=lambda: (time.sleep(choose.uniform(0, 0.03)), store.interrupt()))
    if kills := choose.random() < 0.5:
        killer.start()
    try:
        with wl.Wasi(threads=choose.choice([1, 3, 12])) as wasi:
            status = wasi.run(module, {"env": {"fail": _fail}}, store=store)
        ends.append(f"status {status}")
    except wl.Trap as trap:
        ends.append(str(trap.code))
    except _Failed:
        ends.append("failed")
    if kills:
        killer.join()


@pytest.mark.parametrize("name", TIERS)
def test_nothing_hangs(name: str) -> None:
    before = threading.active_count()
    ends: list[str] = []
    for seed in range(ROUNDS // len(TIERS)):
        thread = threading.Thread(target=_run, args=(seed, name, ends), daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"program {seed} hangs"
        assert len(ends) == seed + 1, f"program {seed} ended by another exception"
    assert {*ends} <= {"status 0", "status 7", "unreachable", "timeout", "failed"}
    assert comes(lambda: threading.active_count() <= before and waiting() == 0)
