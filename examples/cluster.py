"""One guest is made ready; a thousand forks of it work on Dask's workers, and nothing travels but pickles.

    pip install 'dask[distributed]'
    python examples/cluster.py [ADDRESS-OF-A-SCHEDULER]

Without an address it starts workers of its own on this machine. A snapshot goes to each worker once; there each input
gets a guest of its own, whose memory is a copy that shares what it doesn't write. A guest that isn't done yet is a
value like any other: `walk` moves one from worker to worker.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import wasmloom as wl

if TYPE_CHECKING:
    from distributed import Client, Future

#: A sieve of Eratosthenes, made once (`prepare`), and how many primes are below a number; a guest that walks through
#: them, one by one, and knows where it is.
GUEST = """
(module
  (memory 16)
  (global $at (mut i32) (i32.const 1))
  (func (export "prepare") (local $i i32) (local $k i32)
    (local.set $i (i32.const 2))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $i))) (then
        (local.set $k (i32.mul (local.get $i) (local.get $i)))
        (block $done (loop $more
          (br_if $done (i32.ge_u (local.get $k) (i32.const 1000000)))
          (i32.store8 (local.get $k) (i32.const 1))
          (local.set $k (i32.add (local.get $k) (local.get $i)))
          (br $more)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 1000)))))
  (func (export "count") (param $below i32) (result i32) (local $i i32) (local $found i32)
    (local.set $i (i32.const 2))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $below)))
      (local.set $found (i32.add (local.get $found) (i32.eqz (i32.load8_u (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $found))
  (func (export "next") (result i32)
    (loop $again
      (global.set $at (i32.add (global.get $at) (i32.const 1)))
      (br_if $again (i32.load8_u (global.get $at))))
    (global.get $at)))
"""


def template() -> wl.Snapshot:
    """A guest that has done what all need."""
    guest = wl.Instance(wl.Module(GUEST))
    guest.exports.prepare()
    return wl.Snapshot.take(guest.store)


def in_a_fork(ready: wl.Snapshot, below: int) -> int:
    """What a guest of its own says, for one input."""
    (guest,) = ready.restore().instances
    return int(guest.exports.count(below))


def step(guest: wl.Snapshot) -> tuple[int, wl.Snapshot]:
    """Let a guest go one step, and come back."""
    copy = guest.restore()
    return int(copy.instances[0].exports.next()), copy.store.snapshot()


def count_all(client: Client, inputs: list[int]) -> list[int]:
    """The answers for all inputs."""
    ready: Future = client.scatter(template(), broadcast=True)
    answers: list[int] = client.gather(client.map(in_a_fork, [ready] * len(inputs), inputs, pure=False))
    return answers


def walk(client: Client, steps: int) -> list[int]:
    """The first primes, each from another worker's copy of the same guest."""
    workers: list[Any] = list(client.scheduler_info()["workers"])
    guest, found = template(), []
    for number in range(steps):
        where = workers[number % len(workers)]
        prime, guest = client.submit(step, guest, workers=[where], pure=False).result()
        found.append(prime)
    return found


def main(arguments: list[str]) -> None:
    """Map it over a thousand inputs."""
    from distributed import Client

    with Client(*arguments) if arguments else Client(n_workers=2, threads_per_worker=1) as client:
        inputs = list(range(1000, 1_000_000, 999))
        answers = count_all(client, inputs)
        print(f"{len(answers)} guests; {answers[-1]} primes are below {inputs[-1]}")
        print("step by step, on all workers by turns:", *walk(client, 10))


if __name__ == "__main__":
    main(sys.argv[1:])
