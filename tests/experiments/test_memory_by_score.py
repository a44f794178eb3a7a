"""Memorised or new: the empirical score copies, a Gaussian does not, a start that comes back is no
copy."""

import numpy as np
import torch
from test_spaces import study_of, sweep_of

from uturn_lib import EmpiricalDenoiser, GaussianDenoiser, experiments


def toy_study():
    images = torch.randn(260, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return study_of(images[:200], images[200:], torch.eye(16))


def test_what_the_empirical_score_returns_is_a_copy_at_every_level():
    study, levels = toy_study(), (0.1, 1.0, 10.0)
    score = EmpiricalDenoiser(study.train.images)
    held = experiments.memory_of_draws(study, score, study.test, levels)
    assert held.memorised.shape == (3, 60) and held.memorised.all() and not held.identity.any()
    assert np.allclose(held.distances[..., 0], 0)
    seen = experiments.memory_of_draws(study, score, study.train, levels)
    assert seen.copied.all()
    assert (seen.memorised == ~seen.identity).all()  # a copy of its start, or of another image
    assert seen.identity[0].all() and seen.memorised[2].mean() > 0.9


def test_a_gaussian_of_16_dimensions_makes_new_images():
    """By accident one of 3^16 would look like a copy."""
    study = toy_study()
    gaussian = GaussianDenoiser.fit(study.train.images)
    found = experiments.memory_of_draws(study, gaussian, study.train, (0.01, 0.5, 10.0))
    assert found.copied[0].all() and found.identity[0].all()  # hardly turned: starts come back,
    assert not found.memorised.any()  # which is no evidence of memory


def test_outputs_of_a_sweep_are_told_apart():
    study = toy_study()
    start, other = study.test.images[:3], study.train.images[:3]
    y0 = torch.stack([start, other, (start + other) / 2])
    found = experiments.memory_of_sweep(study, sweep_of(start, y0, (0.1, 1.0, 2.0)))
    assert found.memorised.tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert found.identity[0].all() and not found.identity[1].any()
    assert found.sigmas == (0.1, 1.0, 2.0) and (found.nearest[1] == [0, 1, 2]).all()
