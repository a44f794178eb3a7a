"""Onsets and exponents: straight lines in log time, power laws with known exponent."""

import numpy as np
import pytest

from uturn_lib.measures.estimate import Estimate
from uturn_lib.measures.onset import exponent, first_crossing, onset

TIMES = (1.0, 10.0, 100.0, 1000.0)


def test_a_line_in_log_time_is_crossed_where_it_says():
    assert first_crossing(TIMES, np.log10(TIMES), 1.5) == pytest.approx(10**1.5)
    assert first_crossing(TIMES, [2.0, 0, 0, 3], 1.5) == 1.0  # it begins there
    assert first_crossing(TIMES, [0.0, 0, 0, 0], 1.5) == np.inf
    assert first_crossing(TIMES, [np.nan, 0.0, 1, 2], 1.5) == pytest.approx(10**2.5)


def test_the_interval_is_that_of_the_ends_of_the_curve():
    curve = [Estimate(v, v - 0.5, v + 0.5) for v in np.log10(TIMES)]
    found = onset(TIMES, curve, 1.5)
    expected = [10**1.5, 10.0, 100.0]
    assert [found.value, found.low, found.high] == pytest.approx(expected)


def test_the_exponent_of_a_power_law_is_found_and_its_interval_covers():
    numbers = np.array([100, 250, 640, 1600, 4500])
    exact = exponent(numbers, 3 * numbers**0.7)
    assert exact.value == pytest.approx(0.7) and exact.high - exact.low < 1e-6
    rng = np.random.default_rng(0)
    noisy = [exponent(numbers, numbers * np.exp(0.2 * rng.standard_normal(5))) for _ in range(1000)]
    covered = np.mean([found.contains(1.0) for found in noisy])
    assert abs(covered - 0.95) < 4.5 * (0.95 * 0.05 / 1000) ** 0.5


def test_times_that_were_not_seen_are_left_out_and_too_few_say_nothing():
    assert exponent([1, 10, 100, 1000], [1, 10, 100, np.inf]).value == pytest.approx(1.0)
    assert np.isnan(exponent([1, 10, 100], [1, 10, np.inf]).value)
    with pytest.raises(ValueError, match="increasing times"):
        first_crossing([2.0, 1.0], [0.0, 1.0], 0.5)
