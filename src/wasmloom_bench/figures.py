"""Statistics: medians with bounds, ratios that are paired within a round, and how many digits a figure has.

* A figure is a median. Its bounds are the 95 % interval of that median, by bootstrap resampling with a fixed seed.
* A ratio is taken within each round of a measurement, because what disturbs a round disturbs all that is in it. The
  figure is the median of these ratios.
* A contender measured against itself gives the noise of a measurement: how far from 1 such a ratio may be.
* A figure is shown up to the decimal place of the first digit of its uncertainty, as laboratories do.
"""

from __future__ import annotations

import functools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Resamples of a bootstrap.
_RESAMPLES = 1000

#: No figure is more certain than this: what is less is the clock's own grain.
FINEST = 0.0005


@dataclass(frozen=True)
class Figure:
    """A median with its 95 % bounds, all in one unit."""

    low: float
    estimate: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Figure:
        """The median of `samples` and its bounds. Raises `ValueError` when there are none."""
        if not samples:
            raise ValueError("no samples")
        return _figure(tuple(samples))

    @property
    def uncertainty(self) -> float:
        """Half the width of the bounds, relative to the estimate."""
        if not self.estimate:
            return 0.0 if self.low == self.high else math.inf
        return max(self.high - self.estimate, self.estimate - self.low) / abs(self.estimate)


@functools.lru_cache(maxsize=10_000)
def _figure(samples: tuple[float, ...]) -> Figure:
    estimate = statistics.median(samples)
    if len(samples) < 3:
        return Figure(min(samples), estimate, max(samples))
    rng = random.Random(len(samples))
    medians = sorted(statistics.median(rng.choices(samples, k=len(samples))) for _ in range(_RESAMPLES))
    # Where many samples are equal, the interval might miss the median.
    low, high = medians[_RESAMPLES // 40], medians[-1 - _RESAMPLES // 40]
    return Figure(min(low, estimate), estimate, max(high, estimate))


def ratio(one: Sequence[float], other: Sequence[float]) -> Figure | None:
    """`one` over `other`, round by round; None when there is no round in which both are positive."""
    pairs = [a / b for a, b in zip(one, other, strict=False) if a > 0 and b > 0]
    return Figure.of(pairs) if pairs else None


def unpaired(one: Sequence[float], other: Sequence[float]) -> Figure | None:
    """The median of `one` over that of `other`, for samples of two runs; None when one of them isn't positive."""
    above, below = Figure.of(one), Figure.of(other)
    if min(above.low, below.low) <= 0:
        return None
    estimate = above.estimate / below.estimate
    spread = math.hypot(above.uncertainty, below.uncertainty)
    return Figure(estimate / (1 + spread), estimate, estimate * (1 + spread))


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean, nan when there are none."""
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def mean_of_ratios(ratios: Sequence[Figure], noise: float = 0.0) -> Figure | None:
    """The geometric mean of ratios, each as uncertain as its bounds and `noise` say; None when there are none."""
    if not ratios:
        return None
    mean = geometric_mean([each.estimate for each in ratios])
    spread = math.sqrt(sum(max(each.uncertainty, noise) ** 2 for each in ratios)) / len(ratios)
    return Figure(mean / (1 + spread), mean, mean * (1 + spread))


def noise(own: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """How far from 1 a ratio of equals may be: for each pair of samples of one contender the bound that is farther
    away from 1; of these the median. 0 when there are none.
    """
    found = [figure for one, again in own if (figure := ratio(one, again)) is not None]
    if not found:
        return 0.0
    return statistics.median(max(abs(each.high - 1), abs(1 - each.low)) for each in found)


def shown(value: float, uncertainty: float, most: int = 4) -> str:
    """`value` as text, with no digit behind the first one that is uncertain, and at most `most` significant ones.

    `uncertainty`: relative.
    """
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    leading = math.floor(math.log10(abs(value)))
    spread = max(uncertainty, FINEST) * abs(value)
    place = leading if not math.isfinite(spread) else min(leading, math.floor(math.log10(spread)))
    place = max(place, leading - most + 1)
    rounded = round(value, -place)
    return f"{rounded:.{max(0, -place)}f}"


def duration(seconds: float, uncertainty: float = 0.0) -> str:
    """Seconds in a readable unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{shown(seconds / scale, uncertainty)} {unit}"
    return f"{shown(seconds * 1e9, uncertainty, 3)} ns"


def size(count: float, uncertainty: float = 0.0) -> str:
    """Bytes in a readable unit."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= 10 * scale:
            return f"{shown(count / scale, uncertainty)} {unit}"
    return f"{shown(count, uncertainty)} B"
