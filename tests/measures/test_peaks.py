"""Where a curve peaks: bells whose top is known, ends of the grid, intervals that cover."""

import numpy as np
import pytest

from uturn_lib.measures import peaks
from uturn_lib.measures.estimate import Estimate

SIGMAS = np.geomspace(0.1, 80, 28)


def bell(centre, width=1.0, sigmas=SIGMAS):
    return np.exp(-((np.log(sigmas / centre) / width) ** 2))


def test_the_top_of_a_symmetric_bell_is_found_between_levels():
    """Within 4 % (the window moves by whole levels), at any place between two levels."""
    for centre in (0.5, 1.0, 1.13, 1.27, 3.0, 20.0):
        assert abs(np.log(peaks.peak_location(SIGMAS, bell(centre)) / centre)) < 0.04


def test_a_parabola_is_met_exactly_on_an_uneven_grid():
    sigmas = np.array([0.5, 0.8, 1.0, 1.7, 2.0, 3.1, 4.0])
    curve = 3 - (np.log(sigmas) - np.log(1.5)) ** 2
    assert peaks.peak_location(sigmas, curve) == pytest.approx(1.5)


def test_a_curve_that_rises_or_falls_peaks_at_its_end():
    assert peaks.peak_location(SIGMAS, SIGMAS) == 80.0
    assert peaks.peak_location(SIGMAS, -SIGMAS) == 0.1


def test_a_broad_peak_is_read_from_all_levels_around_it():
    """Noise of 5 % moves the highest level by whole steps, the estimate by less."""
    rng = np.random.default_rng(0)
    noisy = bell(3.0, 1.5) + 0.05 * rng.standard_normal((200, len(SIGMAS)))
    spread = np.std([np.log(peaks.peak_location(SIGMAS, curve)) for curve in noisy])
    plain = np.std(np.log(SIGMAS[noisy.argmax(1)]))
    assert spread < 0.5 * plain


def test_the_interval_covers():
    """At least 20 of 25 experiments (fewer: one in 300 by chance); the mean is a bell at 3."""
    rng, covered = np.random.default_rng(0), 0
    for seed in range(25):
        values = bell(3.0)[:, None] + 0.5 * rng.standard_normal((len(SIGMAS), 100))
        covered += peaks.peak(SIGMAS, values, seed).contains(3.0)
    assert covered >= 20


def test_ends_are_parts_of_the_highest():
    values = np.repeat(np.array([[1.0], [4.0], [2.0]]), 5, axis=1)
    first, last = peaks.end_shares(values)
    assert (first.value, last.value) == (0.25, 0.5) and first.low == first.high == 0.25


@pytest.mark.parametrize("curve", [np.ones(3), np.full(28, np.nan)])
def test_bad_input_is_refused(curve):
    with pytest.raises(ValueError, match="curve has shape"):
        peaks.peak_location(SIGMAS, curve)


def test_the_best_level_holds_all_that_may_be_the_best():
    """Levels whose upper end reaches the highest lower end, 0.9, and no others."""
    ends = [(0.5, 0.8), (0.7, 1.0), (0.9, 1.3), (0.8, 0.95)]
    found = peaks.best_level([1, 2, 4, 8], [Estimate((a + b) / 2, a, b) for a, b in ends])
    assert (found.value, found.low, found.high) == (4.0, 2.0, 8.0)


def test_the_best_level_covers_where_intervals_do_together():
    """Bonferroni intervals of a bell with independent noise: covered in 95 % and more."""
    rng, covered, truth = np.random.default_rng(0), 0, bell(3.0, 1.0)
    for _ in range(200):
        values = truth + 0.2 * rng.standard_normal(len(truth))
        half = 0.2 * 3.2  # quantile of 1 - 0.05 / (2 * 28)
        rows = [Estimate(v, v - half, v + half) for v in values]
        covered += peaks.best_level(SIGMAS, rows).contains(SIGMAS[truth.argmax()])
    assert covered >= 185


@pytest.mark.parametrize("estimates", [[], [Estimate(1.0, 0.5, 1.5)]])
def test_a_best_level_needs_an_estimate_for_each_level(estimates):
    with pytest.raises(ValueError, match="estimates has"):
        peaks.best_level([1.0, 2.0], estimates)
