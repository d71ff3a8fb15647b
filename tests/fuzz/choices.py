"""Where a generator's decisions come from: a random seed, or the recorded decisions of an earlier run.

A generator that only decides through `Choices` can be replayed from a list of numbers, and any list of numbers is a
program: cutting numbers out of it, or making them smaller, makes smaller programs. `shrink` does that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Decisions, recorded in `taken`. Where 0 is chosen, generators do what is simplest."""

    def __init__(self, seed: int | str | None = None, recorded: Sequence[int] | None = None) -> None:
        self._random = random.Random(seed).random
        self._recorded = None if recorded is None else list(recorded)
        self.taken: list[int] = []

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        if self._recorded is None:
            number = int(self._random() * limit)
        else:
            at = len(self.taken)
            number = min(self._recorded[at], limit - 1) if at < len(self._recorded) else 0
        self.taken.append(number)
        return number

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases; False is the simple choice."""
        return self.below(100) >= 100 - percent

    def pick(self, items: Sequence[T]) -> T:
        """One of the items; the first is the simplest."""
        return items[self.below(len(items))]

    def bits(self, width: int) -> int:
        """A number of `width` bits."""
        number = 0
        for _ in range(0, width, 16):
            number = number << 16 | self.below(1 << 16)
        return number & (1 << width) - 1


def shrink(numbers: Sequence[int], fails: Callable[[list[int]], bool], attempts: int = 3000) -> list[int]:
    """A shorter list of decisions for which `fails` still holds, found by leaving out ranges and lowering numbers.

    `fails` is called at most `attempts` times.
    """
    best = list(numbers)
    left = attempts

    def holds(candidate: list[int]) -> bool:
        nonlocal left, best
        if left <= 0 or candidate == best:
            return False
        left -= 1
        if not fails(candidate):
            return False
        best = candidate
        return True

    before: list[int] | None = None
    while before != best and left > 0:
        before = best
        size = max(1, len(best) // 2)
        while size and left > 0:
            at = 0
            while at < len(best) and left > 0:
                if not holds(best[:at] + best[at + size :]) and not (
                    size > 1 and any(best[at : at + size]) and holds(best[:at] + [0] * size + best[at + size :])
                ):
                    at += size
            size //= 2
        for at in range(len(best)):
            for lower in (0, best[at] // 2 if at < len(best) else 0, best[at] - 1 if at < len(best) else 0):
                if at < len(best) and 0 <= lower < best[at]:
                    holds([*best[:at], lower, *best[at + 1 :]])
    return best
