"""Predicted scales: formulas of the training set, intervals that hold the population's."""

from types import SimpleNamespace

import pytest
import torch

from uturn_lib import GaussianDenoiser, experiments
from uturn_lib.measures import theory


class Images(SimpleNamespace):
    def __len__(self):
        return len(self.images)


def study(top=25.0, count=2000):
    """Two classes at +-3 along one axis of Gaussian data; the variance along it is ``top`` + 9."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(count // 2)
    images = torch.randn(count, 6, generator=draw) * torch.tensor([top**0.5, 2.0, 1, 1, 0.5, 0.5])
    images[:, 0] += 3 * (2.0 * labels - 1)
    covariance = torch.cov(images.double().T, correction=0)
    gaussian = GaussianDenoiser(images.double().mean(0), covariance)
    return SimpleNamespace(train=Images(images=images, labels=labels), gaussian=gaussian)


def test_values_are_the_formulas_and_intervals_hold_the_population():
    """Sampling error of a variance: sqrt(2 / n); all within 4 standard errors at least."""
    chosen = study()
    found = experiments.predicted_scales(chosen)
    values = chosen.gaussian.eigenvalues
    assert found["collapse"].value == theory.collapse_scale(values, 2000)
    assert found["spectrum"].value == theory.speciation_from_spectrum(values)
    population = theory.collapse_scale(torch.tensor([34.0, 4, 1, 1, 0.25, 0.25]), 2000)
    for name, truth in (("collapse", population), ("spectrum", 33**0.5), ("classes", 3.0)):
        e = found[name]
        assert e.low < e.value < e.high
        assert abs(e.value - truth) < 1.1 * (e.high - e.low)  # 4 standard errors


def test_data_without_a_direction_above_one_have_no_speciation():
    small = study(top=0.01)
    small.gaussian = GaussianDenoiser(torch.zeros(6).double(), 0.1 * torch.eye(6).double())
    with pytest.raises(ValueError, match="largest eigenvalue is 0.1"):
        experiments.predicted_scales(small)
