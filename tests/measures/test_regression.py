"""Regressions on held-out samples: a law that is known, noise that must not be explained; traits of
images by closed forms."""

import numpy as np
import pytest
import torch

from uturn_lib.measures import regression, traits


@pytest.fixture
def known():
    """y = 2 a - b + noise; c has nothing to do with it. var y = 4 + 1 + 1."""
    draw = np.random.default_rng(0)
    a, b, c, noise = draw.normal(size=(4, 4000))
    return {"a": a, "b": b, "c": c}, 2 * a - b + noise


def test_r2_and_its_parts_are_those_of_independent_terms(known):
    parts, y = known
    found = regression.attribute(parts, y, {"both": ("a", "b")})
    expected = {"a": 4 / 6, "b": 1 / 6, "c": 0.0, "both": 5 / 6}
    for name, value in expected.items():  # independent traits: alone and lost are the same
        assert found.alone[name].value == pytest.approx(value, abs=0.03), name
        assert found.lost[name].value == pytest.approx(value, abs=0.03), name
    assert found.together.contains(5 / 6) and found.lost["c"].contains(0)
    more = found.more("a", "b")
    assert more.contains(0.5) and more.value == pytest.approx(
        found.lost["a"].value - found.lost["b"].value
    )


def test_noise_is_not_explained():
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(60, 8)), draw.normal(size=60)
    assert regression.explained(*regression.held_out_residuals(x, y)).value < 0.05
    assert np.corrcoef(x @ np.linalg.lstsq(x, y, rcond=None)[0], y)[0, 1] > 0.2  # fitted, it seems


def test_the_slope_with_its_interval(known):
    parts, y = known
    found = regression.slope(parts["a"], y)
    assert found.contains(2.0) and found.high - found.low < 0.2
    # a sixth of the variance is noise of the trait: the slope is attenuated by 1 / (1 + 1/5)
    seen = parts["a"] + np.random.default_rng(2).normal(0, 0.2**0.5, len(y))
    assert regression.slope(seen, y).value == pytest.approx(2 / 1.2, abs=0.06)


def test_neighbours_and_dimension():
    points = torch.rand(3000, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    middle = points[((points - 0.5).abs().flatten(1) < 0.3).all(1)]
    near = traits.stranger_distances(middle, points, 20)
    assert (near.diff(dim=1) >= 0).all() and (near > 0).all()
    flat = points.flatten(1).double()
    assert torch.allclose(
        near, torch.cdist(middle.flatten(1).double(), flat).sort(1).values[:, 1:21]
    )
    dimension = traits.local_dimension(near)
    assert float(dimension.mean()) == pytest.approx(3.0, abs=0.15)
    assert torch.allclose(traits.local_dimension(5 * near), dimension)


def test_edges_and_margins():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) * 0.5  # steps of 1/2 to the right, none down
    assert float(traits.edge_energy(ramp)[0]) == pytest.approx(0.125)
    assert torch.allclose(traits.edge_energy(ramp.mT), traits.edge_energy(ramp))
    logits = torch.tensor([[1.0, 4.0, 2.5], [0.0, 0.0, -1.0]])
    assert traits.class_margin(logits).tolist() == [1.5, 0.0]


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: regression.held_out_residuals(np.ones((9, 2)), np.ones(8)), "target"),
        (lambda: regression.held_out_residuals(np.full((9, 2), np.nan), np.ones(9)), "NaN"),
        (lambda: regression.held_out_residuals(np.ones((6, 4)), np.ones(6)), "too few"),
        (lambda: regression.slope(np.ones(5), np.ones(5)), "must vary"),
        (lambda: regression.attribute({"a": np.ones(9)}, np.ones(9)), "at least one must be left"),
        (lambda: traits.local_dimension(torch.ones(3, 2)), "k >= 3"),
        (lambda: traits.local_dimension(torch.zeros(3, 4)), "occurs twice"),
        (lambda: traits.stranger_distances(torch.ones(2, 3), torch.ones(4, 3), 4), "more than 4"),
    ],
)
def test_bad_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
