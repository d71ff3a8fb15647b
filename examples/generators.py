"""Generators and a scheduler over continuations: guests that stop in the middle and go on later.

    python examples/generators.py

The guest is straight-line code. Where it needs the host it suspends with a tag, wherever it is in its calls; the host
decides what happens next. `numbers` is a Python generator over a guest's loop. `Scheduler` lets many guests take turns
in one thread, without an event loop and without changing the guests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import wasmloom as wl

MODULE = """
(module
  (type $task (func (param i32))) (type $k (cont $task))
  (tag $yield (export "yield") (param i32))
  (tag $pause (export "pause"))

  ;; All numbers of the Collatz sequence from n on, each suspended with.
  (func $collatz (param $n i32)
    (loop $next
      (suspend $yield (local.get $n))
      (if (i32.eq (local.get $n) (i32.const 1)) (then (return)))
      (local.set $n
        (if (result i32) (i32.and (local.get $n) (i32.const 1))
          (then (i32.add (i32.mul (local.get $n) (i32.const 3)) (i32.const 1)))
          (else (i32.shr_u (local.get $n) (i32.const 1)))))
      (br $next)))

  ;; n steps of work, each told to the host, with a pause after it.
  (func $work (param $n i32)
    (loop $next
      (suspend $yield (local.get $n))
      (suspend $pause)
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))

  (elem declare func $collatz $work)
  (func (export "collatz") (result (ref $k)) (cont.new $k (ref.func $collatz)))
  (func (export "work") (result (ref $k)) (cont.new $k (ref.func $work))))
"""


def numbers(exports: wl.Exports, start: int) -> Iterator[int]:
    """What the guest's loop suspends with, as a Python generator."""
    return wl.resume_iter(exports.collatz(), exports["yield"], start)


class Scheduler:
    """Lets guests take turns: each runs to its next pause."""

    def __init__(self, exports: wl.Exports) -> None:
        self._exports = exports
        self._ready: deque[tuple[str, wl.Continuation, tuple[Any, ...]]] = deque()
        #: Who has said what, in order.
        self.told: list[tuple[str, int]] = []

    def add(self, name: str, steps: int) -> None:
        """Add a guest."""
        self._ready.append((name, self._exports.work(), (steps,)))

    def run(self) -> None:
        """Run all guests to their ends."""
        tell, pause = self._exports["yield"], self._exports["pause"]
        while self._ready:
            name, continuation, arguments = self._ready.popleft()
            outcome = continuation.resume(*arguments, on=(tell, pause))
            while isinstance(outcome, wl.Suspension) and outcome.tag == tell:
                self.told.append((name, outcome.payload[0]))
                outcome = outcome.continuation.resume(on=(tell, pause))
            if isinstance(outcome, wl.Suspension):
                self._ready.append((name, outcome.continuation, ()))


def main() -> None:
    """Show both."""
    exports = wl.Instance(wl.Module(MODULE)).exports
    print(*numbers(exports, 6))
    scheduler = Scheduler(exports)
    for name, steps in (("a", 3), ("b", 1), ("c", 2)):
        scheduler.add(name, steps)
    scheduler.run()
    print(*(f"{name}{step}" for name, step in scheduler.told))


if __name__ == "__main__":
    main()
