"""Copies by accident: closed forms on points of known dimension; bad input."""

import numpy as np
import pytest
import torch

from uturn_lib.measures import novelty, retention


@pytest.mark.parametrize("d", [1, 2, 3])
def test_new_points_look_like_copies_with_probability_3_to_the_minus_d(d):
    draw = torch.Generator().manual_seed(d)
    stored = torch.rand(8000, d, generator=draw, dtype=torch.float64)
    new = 0.2 + 0.6 * torch.rand(2000, d, generator=draw, dtype=torch.float64)
    r, chance = retention.two_nearest(new, stored), novelty.chance_of_a_copy(d)
    assert chance == pytest.approx(3.0**-d)
    error = (chance * (1 - chance) / len(new)) ** 0.5
    assert abs(float(retention.copied(new, stored).double().mean()) - chance) < 4 * error
    dimension = novelty.two_neighbour_dimension(r)
    assert dimension.contains(d) and dimension.high - dimension.low < 0.2 * d


def test_a_share_with_the_interval_of_several_comparisons():
    none = torch.zeros(200, dtype=torch.bool)
    z = 1.959964  # Wilson: at 0 of n the upper end is z^2 / (n + z^2)
    assert novelty.share_of(none).high == pytest.approx(z**2 / (200 + z**2), abs=1e-6)
    wide = novelty.share_of(none, comparisons=23)
    assert wide.low == 0 and novelty.share_of(none).high < wide.high < 0.05
    assert novelty.share_of(~none).value == 1


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: novelty.chance_of_a_copy(0.0), "dimension = 0.0 must be positive"),
        (lambda: novelty.chance_of_a_copy(2.0, 1.5), "ratio = 1.5"),
        (lambda: novelty.two_neighbour_dimension(np.ones((4, 3))), r"\(N, 2\)"),
        (lambda: novelty.two_neighbour_dimension(np.ones((4, 2))), "not all equal"),
        (lambda: novelty.two_neighbour_dimension([[2.0, 1.0]] * 3), "sorted"),
        (lambda: novelty.share_of(np.zeros((0,), bool)), "non-empty row"),
        (lambda: novelty.share_of(np.zeros(3, bool), 0), "comparisons"),
    ],
)
def test_bad_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
