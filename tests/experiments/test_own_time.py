"""Own times and their traits on points whose T_m is known; the locality gaps of exact scores."""

import numpy as np
import pytest
import torch
from test_spaces import study_of

from uturn_lib import EmpiricalDenoiser, experiments
from uturn_lib.experiments import locality, own_time
from uturn_lib.experiments.sweeps import Sweep
from uturn_lib.measures import individuals, regression
from uturn_lib.measures.estimate import Estimate
from uturn_lib.uturn import forward_path, posterior_draws


def test_t_m_of_separate_clusters_is_proportional_to_their_distances():
    """The weight of one of eight points at mutual distance delta depends on delta / sigma only."""
    draw = np.random.default_rng(0)
    delta = np.exp(draw.uniform(np.log(0.5), np.log(4), 60))
    corners = torch.eye(8) * torch.from_numpy(delta / 2**0.5)[:, None, None]
    places = 100 * torch.eye(60)[:, None].expand(60, 8, 60)
    points = torch.cat([corners, places], 2).flatten(0, 1).float()
    first, grid = points[::8].repeat_interleave(8, 0), tuple(np.geomspace(0.1, 8, 12))
    memory = EmpiricalDenoiser(points)
    back = [
        (posterior_draws(memory, first, s, k) == first).all(1).reshape(60, 8)
        for k, s in enumerate(grid)
    ]
    found = individuals.heterogeneity(grid, torch.stack(back), draws=50)
    slope = regression.slope(np.log(delta), np.log(found.levels))
    assert slope.value == pytest.approx(1.0, abs=0.1)


def test_levels_around_a_time():
    sigmas = (0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
    near = own_time.levels_around(sigmas, Estimate(1.8, 1.7, 1.9))
    assert near == (1.0, 1.4, 2.0, 2.8, 4.0)
    for beyond in (0.01, 99.0, 0.0):  # off the grid: its nearest end
        assert len(own_time.levels_around(sigmas, Estimate(beyond, beyond, beyond))) == 3


class Toy(torch.nn.Module):
    """A classifier with two classes: left half brighter, right half brighter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        left, right = images.flatten(1).double().chunk(2, dim=1)
        return self.scale * torch.stack([left.sum(1), right.sum(1)], 1)


def test_traits_follow_their_definitions():
    images = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    judge = own_time.Judge(Toy, "toy")
    found = own_time.traits_of(judge, images[:7], images)
    flat = images.flatten(1).double()
    near = torch.cdist(flat[:7], flat).sort(1).values[:, 1]
    assert tuple(found) == own_time.TRAITS
    assert np.allclose(found["distance"], near.log())
    assert np.allclose(np.exp(found["norm"]), (flat[:7] - flat.mean(0)).norm(dim=1))
    halves = flat[:7, :8].sum(1) - flat[:7, 8:].sum(1)
    assert np.allclose(found["margin"], halves.abs(), atol=1e-5)


def test_the_gap_of_the_local_score_with_whole_patches_is_that_of_the_empirical_one(monkeypatch):
    """Patches of the whole image: the local score is the empirical one, and the gap is 0."""
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    study = study_of(images[:36], images[36:], torch.eye(64))
    x0, sigmas = study.test.images, (0.5, 12.0)
    x = [forward_path(x0, [s], 0)[0].float() for s in sigmas]
    memory = EmpiricalDenoiser(study.train.images)
    whole = torch.stack([memory(part, s) for part, s in zip(x, sigmas, strict=True)])
    sweep = Sweep(sigmas, x0, torch.zeros(4).long(), whole, whole)  # a network that memorises
    monkeypatch.setattr(locality, "multi_class", lambda study, seed: sweep)
    monkeypatch.setattr(locality, "PATCHES", (3, 63))
    found = experiments.locality_gaps(study)
    assert np.allclose(found.gaps["network"], found.gaps["empirical"])
    assert np.allclose(found.patches["image"], 0, atol=1e-10)
    assert (found.gaps["network"][0] > 1e-3).all()  # small patches at small noise: another score
    assert np.allclose(found.gaps["network"][1], 0, atol=1e-10)  # the schedule's is the image
    assert found.exact[0] > 1e-6 > 1e-12 > found.exact[1]
