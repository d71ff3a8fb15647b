"""What the programs of this folder must answer: each computed here by other means than in the program.

Every program exports ``run``, from a size (i32) to an answer (i64). `ANSWERS` gives for each the answer modulo 2^64,
`SIZES` a size that takes an interpreter some tenths of a second, and `SMALL` sizes for tests.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator

_WORD = (1 << 64) - 1


def below(n: int) -> int:
    """The sum of the numbers below n."""
    return n * (n - 1) // 2


def step_for(n: int) -> int:
    """A step that visits all of n places, far from one another."""
    step = max(1, int(n * 0.6180339887))
    while math.gcd(step, n) != 1:
        step += 1
    return step


def c10m(n: int) -> int:
    """Each worker i adds i, and the low eight bits of its complement."""
    rounds, rest = divmod(n, 256)
    return below(n) + rounds * below(256) + sum(255 - i for i in range(rest))


@functools.cache
def sieve(n: int) -> int:
    """The sum of the first n primes, by crossing out."""
    end = 64
    while True:
        prime = bytearray([1]) * end
        prime[:2] = b"\0\0"
        for i in range(2, int(end**0.5) + 1):
            if prime[i]:
                prime[i * i :: i] = bytes(len(range(i * i, end, i)))
        primes = [i for i in range(end) if prime[i]]
        if len(primes) >= n:
            return sum(primes[:n])
        end *= 2


@functools.cache
def pi(n: int) -> int:
    """How many points of a hundred tasks, 50 n each, are in the quarter circle."""
    inside = 0
    for x in range(1, 101):
        for _ in range(50 * n):
            x = (x * 6364136223846793005 + 1442695040888963407) & _WORD
            a = (x >> 33) * 2.0**-31
            x = (x * 6364136223846793005 + 1442695040888963407) & _WORD
            b = (x >> 33) * 2.0**-31
            inside += a * a + b * b < 1
    return inside


def scheduler(n: int) -> int:
    """Turn t belongs to worker t mod 10, whose weight is one more."""
    total = 0
    for worker in range(10):
        turns = len(range(worker, n, 10))
        total += (worker + 1) * (worker * turns + 10 * below(turns))
    return total


def _even_squares() -> Iterator[int]:
    a, b = 0, 1
    while True:
        if a % 2 == 0:
            yield a * a % 2**32
        a, b = b, (a + b) % 2**32


def generators(n: int) -> int:
    """Squares of even Fibonacci numbers, from the beginning again after half of them."""
    total, source = 0, _even_squares()
    for i in range(n):
        total += next(source)
        if i + 1 == n // 2:
            source = _even_squares()
    return total


def async_await(n: int) -> int:
    """Task t computes 10 t + 45, which counts t + 1 times."""
    return sum((10 * t + 45) * (t + 1) for t in range(n))


def pipes(n: int) -> int:
    """Leibniz' series, each term rounded to zero."""
    return sum((-1) ** i * (10**15 // (2 * i + 1)) for i in range(n))


def threads(n: int) -> int:
    """The log of a tree of threads, from a queue of what is left of each thread."""
    log = 0
    queue = deque([(n, 1, 0)])
    while queue:
        depth, number, step = queue.popleft()
        if step in (0, 2):
            log = (31 * log + number) & _WORD
        if depth and step < 2:
            queue.append((depth - 1, 2 * number + step, 0))
            queue.append((depth, number, step + 1))
    return log


def cancel(n: int) -> int:
    """Every third task counts a thousandfold."""
    return sum(1000 * t if t % 3 == 0 else t for t in range(n))


ANSWERS: dict[str, Callable[[int], int]] = {
    "suspend_resume": lambda n: n,
    "two_resumes": lambda n: n,
    "switch_pairs": lambda n: n,
    "create": below,
    "c10m": c10m,
    "sieve": sieve,
    "sieve_chain": sieve,
    "skynet": lambda n: below(10**n),
    "state": lambda n: n,
    "itersum": below,
    "itersum_switch": below,
    "treesum": lambda n: below(2**n),
    "treesum_switch": lambda n: below(2**n),
    "pi": pi,
    "pi_switch": pi,
    "scheduler": scheduler,
    "scheduler_switch": scheduler,
    "generators": generators,
    "async_await": async_await,
    "actors": lambda n: n % 500 + 1,
    "pipes": pipes,
    "threads": threads,
    "cancel": cancel,
}

SIZES: dict[str, int] = {
    "suspend_resume": 20_000_000,
    "two_resumes": 20_000_000,
    "switch_pairs": 20_000_000,
    "create": 5_000_000,
    "c10m": 1_000_000,
    "sieve": 2_000,
    "sieve_chain": 2_000,
    "skynet": 6,
    "state": 1_000_000,
    "itersum": 5_000_000,
    "itersum_switch": 5_000_000,
    "treesum": 20,
    "treesum_switch": 20,
    "pi": 500,
    "pi_switch": 500,
    "scheduler": 2_000_000,
    "scheduler_switch": 2_000_000,
    "generators": 500_000,
    "async_await": 100_000,
    "actors": 1_000_000,
    "pipes": 1_000_000,
    "threads": 17,
    "cancel": 200_000,
}

#: A few sizes that take no time: the smallest, one that no tens or powers divide, and one large enough for what
#: needs many turns (a full queue, a stack that grows, more resumptions of one continuation than it has revisions).
SMALL: dict[str, tuple[int, ...]] = {
    "suspend_resume": (1, 7, 200_000),
    "two_resumes": (1, 7, 200_000),
    "switch_pairs": (1, 7, 200_000),
    "create": (0, 7, 200_000),
    "c10m": (0, 7, 23_000),
    "sieve": (1, 7, 300),
    "sieve_chain": (1, 7, 300),
    "skynet": (0, 1, 4),
    "state": (0, 7, 100_000),
    "itersum": (0, 7, 200_000),
    "itersum_switch": (0, 7, 200_000),
    "treesum": (0, 3, 17),
    "treesum_switch": (0, 3, 17),
    "pi": (1, 7),
    "pi_switch": (1, 7),
    "scheduler": (0, 7, 700_007),
    "scheduler_switch": (0, 7, 700_007),
    "generators": (0, 7, 400_000),
    "async_await": (0, 7, 100_000),
    "actors": (0, 7, 200_123),
    "pipes": (0, 7, 100_000),
    "threads": (0, 3, 11),
    "cancel": (0, 7, 3_000),
}


def expected(name: str, size: int) -> int:
    """The answer of `name` for `size`, modulo 2^64; `name` may end in ``_fiber`` or ``_asyncify``."""
    return ANSWERS[name.removesuffix("_fiber").removesuffix("_asyncify")](size) & _WORD
