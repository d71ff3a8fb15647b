"""Statistics of benchmarks: bounds, ratios, noise, and how many digits are shown."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasmloom_bench import figures
from wasmloom_bench.figures import Figure

times = st.floats(1e-9, 1e4)
samples = st.lists(times, min_size=1, max_size=12)
uncertainties = st.floats(0, 10)


@given(samples)
def test_bounds_hold_the_median(taken: list[float]) -> None:
    figure = Figure.of(taken)
    assert min(taken) <= figure.low <= figure.estimate <= figure.high <= max(taken)
    assert figure.estimate == statistics.median(taken)
    assert figure == Figure.of(taken)
    assert figure.uncertainty >= 0


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Figure.of([])


@given(samples, st.floats(1e-3, 1e3))
def test_ratios_are_paired(taken: list[float], factor: float) -> None:
    """Whatever disturbs a round: what always takes so many times as long has that ratio, without any doubt."""
    found = figures.ratio([each * factor for each in taken], taken)
    assert found is not None
    assert found.low == pytest.approx(factor)
    assert found.high == pytest.approx(factor)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=8))
def test_a_ratio_and_its_inverse(pairs: list[tuple[float, float]]) -> None:
    one, other = zip(*pairs, strict=True)
    there, back = figures.ratio(one, other), figures.ratio(other, one)
    assert there is not None
    assert back is not None
    if len(pairs) % 2:
        assert there.estimate * back.estimate == pytest.approx(1)


def test_what_has_no_ratio() -> None:
    assert figures.ratio([0.0], [1.0]) is None
    assert figures.ratio([1.0], [0.0]) is None
    assert figures.ratio([], []) is None
    assert figures.unpaired([0.0], [1.0]) is None


@given(samples, samples)
def test_ratios_of_two_runs(one: list[float], other: list[float]) -> None:
    found = figures.unpaired(one, other)
    assert found is not None
    assert found.low <= found.estimate <= found.high
    assert found.estimate == pytest.approx(statistics.median(one) / statistics.median(other))


@given(st.lists(samples, min_size=1, max_size=5))
def test_equals_have_no_noise(all_samples: list[list[float]]) -> None:
    assert figures.noise([(taken, taken) for taken in all_samples]) == pytest.approx(0, abs=1e-12)
    assert figures.noise([]) == 0


@given(st.lists(st.floats(0.9, 1.1), min_size=3, max_size=9))
def test_noise_is_how_far_from_one(ratios: list[float]) -> None:
    noise = figures.noise([(ratios, [1.0] * len(ratios))])
    assert noise <= max(abs(each - 1) for each in ratios) + 1e-12
    assert noise >= abs(statistics.median(ratios) - 1) - 1e-12


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=9), st.floats(0, 0.5))
def test_means(estimates: list[float], noise: float) -> None:
    mean = figures.mean_of_ratios([Figure(each, each, each) for each in estimates], noise)
    assert mean is not None
    assert min(estimates) <= mean.estimate * 1.000001
    assert mean.estimate <= max(estimates) * 1.000001
    assert mean.low <= mean.estimate <= mean.high
    assert mean.uncertainty == pytest.approx(noise / math.sqrt(len(estimates)), rel=0.01, abs=1e-9)


def test_means_of_nothing() -> None:
    assert figures.mean_of_ratios([]) is None
    assert math.isnan(figures.geometric_mean([]))
    assert figures.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


@given(st.floats(1e-6, 1e6), uncertainties)
def test_no_digit_is_shown_that_is_not_known(value: float, uncertainty: float) -> None:
    """The last place is that of the uncertainty's first digit, or above it; what is shown is as near as that."""
    text = figures.shown(value, uncertainty)
    number = Decimal(text)
    spread = max(uncertainty, figures.FINEST) * value
    # the place of the last digit: trailing zeros of whole numbers stand for places
    decimals = -int(number.as_tuple().exponent)
    if decimals > 0:
        assert 10.0**-decimals * 10 > min(spread, value) * 0.999
        assert abs(float(number) - value) <= 0.5001 * 10.0**-decimals + 1e-12
    assert len(text.replace(".", "").strip("0")) <= 4


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (0.594, 0.02, "0.59"),
        (0.594, 0.2, "0.6"),
        (0.594, 0.001, "0.5940"),
        (36.09, 0.03, "36"),
        (364.0, 0.05, "360"),
        (1.0, 0.0, "1.000"),
        (0.0, 0.1, "0"),
        (5.0, math.inf, "5"),
        (math.nan, 0.1, "—"),
        (3659.4, 0.001, "3659"),
    ],
)
def test_digits(value: float, uncertainty: float, text: str) -> None:
    assert figures.shown(value, uncertainty) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.50 s"), (0.0025, "2.50 ms"), (2.5e-6, "2.50 µs"), (2.5e-9, "2.50 ns")]
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds, 0.01) == text


def test_sizes() -> None:
    assert figures.size(392.4, 0.001) == "392.4 B"
    assert figures.size(20 * 2**20, 0.01) == "20.0 MiB"
