"""Change points where they were put; profiles that agree or do not."""

import numpy as np
import pytest

from uturn_lib.companions.p2 import phases


def made_map(borders, parts=12, windows=11, samples=30, noise=0.3, seed=0):
    random = np.random.default_rng(seed)
    profiles = random.random((parts, len(borders) + 1))
    number = np.searchsorted(borders, np.arange(windows), side="right")
    return profiles[:, number, None] + noise * random.standard_normal((parts, windows, samples))


EDGES = np.geomspace(80, 0.01, 12)


@pytest.mark.parametrize("borders", [(3, 7), (1, 10), (5, 6)])
def test_change_points_are_found(borders):
    found = phases.change_points(EDGES, made_map(borders))
    for estimate, border in zip(found, borders, strict=True):
        assert estimate.value == EDGES[border] and estimate.contains(EDGES[border])


def test_an_uncertain_change_has_a_wide_interval():
    widths = [
        np.log(found.high / found.low)
        for found in (
            phases.change_points(EDGES, made_map((5,), noise=noise), count=1)[0]
            for noise in (0.1, 8.0)
        )
    ]
    assert widths[0] == 0 and widths[1] > 1


def test_the_split_is_the_best_of_all():
    """Against a search that knows nothing of costs: a piecewise constant fit by least squares."""
    columns = np.random.default_rng(1).standard_normal((4, 7))

    def left(a, b):
        pieces = [columns[:, i:j] for i, j in ((0, a), (a, b), (b, 7))]
        return sum(float(((piece - piece.mean(1, keepdims=True)) ** 2).sum()) for piece in pieces)

    a, b = min(((a, b) for a in range(1, 6) for b in range(a + 1, 7)), key=lambda pair: left(*pair))
    assert tuple(phases.best_borders(columns, 2)) == (a, b)


def test_rank_correlation_agrees_with_scipy():
    from scipy.stats import spearmanr

    a, b = np.random.default_rng(2).standard_normal((2, 20))
    assert phases.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_profiles_agree_within_a_phase_and_between_equal_ones():
    two = made_map((5,), noise=0.2)
    between, within, gap = phases.profile_agreement(two, slice(0, 5), slice(5, 11))
    assert within.value > 0.9 and between.high < within.low and gap.low > 0
    one = np.concatenate([two[:, :5], two[:, :5]], axis=1)
    between, within, gap = phases.profile_agreement(one, slice(0, 5), slice(5, 10))
    assert abs(gap.value) < 0.02 and gap.contains(0)


def test_shares_do_not_see_how_much():
    effects = np.abs(made_map((5,), noise=0.1)) + 0.1
    louder = effects * np.linspace(1, 7, effects.shape[1])[None, :, None]
    np.testing.assert_allclose(phases.shares(louder, 0.0), phases.shares(effects, 0.0))
    assert phases.shares(effects, 0.0).mean(2).sum(0) == pytest.approx(1)


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match="effects has shape"):
        phases.change_points(EDGES, np.zeros((3, 11)))
    with pytest.raises(ValueError, match="edges"):
        phases.change_points(EDGES[::-1], np.zeros((3, 11, 4)))
    with pytest.raises(ValueError, match="at least 3 windows"):
        phases.change_points(EDGES[:3], np.zeros((3, 2, 4)))
