"""Likelihood through the flow and the terms of the bound, against closed forms for Gaussian
data."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from uturn_lib import GaussianDenoiser
from uturn_lib.companions.p4 import diffusion_time
from uturn_lib.companions.p4.likelihood import bits_per_dimension, flow_log_prob
from uturn_lib.seeding import NoiseStream, sample_seeds


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_the_likelihood_of_gaussian_data_is_the_exact_one(gaussian, trace):
    x = gaussian.sample(range(400), 0.05)
    found = flow_log_prob(gaussian, x, 200, 0.05, 30.0, prior=gaussian, trace=trace).log_prob
    errors = found - gaussian.log_prob(x, 0.05)
    if trace == "exact":
        assert float(errors.abs().max()) < 5e-3
    else:  # single values scatter; their mean is unbiased
        assert (
            abs(float(errors.mean())) < 4 * float(errors.std()) / 20 and float(errors.std()) > 0.01
        )


def test_the_error_falls_with_the_square_of_the_steps(gaussian):
    x = gaussian.sample(range(50), 0.05)
    errors = [
        float(
            (
                flow_log_prob(
                    gaussian, x, steps, 0.05, 30.0, prior=gaussian, trace="exact"
                ).log_prob
                - gaussian.log_prob(x, 0.05)
            )
            .abs()
            .mean()
        )
        for steps in (40, 80)
    ]
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.4


def test_the_likelihood_of_a_mixture_is_the_exact_one(mixture):
    x, _ = mixture.sample(range(100))
    x = x + 0.1 * NoiseStream(sample_seeds(0, range(100), "forward"), (2,)).normal()
    weights, means = mixture.weights[:, None], mixture.means
    mean = (weights * means).sum(0)
    spread = (weights[..., None] * (mixture.covariances + means[:, :, None] * means[:, None])).sum(
        0
    )
    prior = GaussianDenoiser(
        mean, spread - mean[:, None] * mean
    )  # at sigma_max nothing of the mixture is left but its moments
    found = flow_log_prob(mixture, x, 300, 0.1, 80.0, prior=prior, trace="exact").log_prob
    assert float((found - mixture.log_prob(x, 0.1)).abs().max()) < 5e-3


def test_bits_per_dimension_of_a_uniform_image_are_those_of_its_levels():
    dimension = 12
    assert float(
        bits_per_dimension(torch.tensor(-dimension * math.log(2.0)), dimension)
    ) == pytest.approx(8)


def test_the_gap_of_two_gaussians_is_its_closed_form():
    true, believed = torch.tensor([0.5, 1.0, 3.0, 2.0]), torch.tensor([0.8, 0.7, 3.0, 0.0])

    def integrand(sigma):
        k, other = true / (true + sigma**2), believed / (believed + sigma**2)
        return float(((k - other) ** 2 * (true + sigma**2)).sum()) / sigma**3

    for low, high in ((0.1, 1.0), (1.0, 50.0)):
        assert diffusion_time.gaussian_gap(true, believed, low, high) == pytest.approx(
            quad(integrand, low, high)[0], rel=1e-6
        )


def test_the_gap_by_monte_carlo_reaches_the_closed_form():
    """The measured G of a wrong Gaussian score, within its standard error, at every level."""
    true, believed = torch.tensor([0.5, 1.0, 3.0]), torch.tensor([0.8, 0.7, 2.0])
    data, model = (
        GaussianDenoiser(torch.zeros(3), torch.diag(values)) for values in (true, believed)
    )
    sigmas = np.geomspace(0.05, 40, 60)
    squares = []
    for level, sigma in enumerate(sigmas):
        x = data.sample(range(3000 * level, 3000 * (level + 1)), float(sigma))
        squares.append((model(x, float(sigma)) - data(x, float(sigma))).square().sum(1))
    gap = diffusion_time.cumulative_gap(sigmas, torch.stack(squares))
    assert bool((np.diff(gap, axis=0) >= 0).all())  # non-decreasing in T
    for level in (20, 40, 59):
        expected = diffusion_time.gaussian_gap(true, believed, 0.05, float(sigmas[level]))
        # Levels have independent samples: the error of the mean is that of independent columns.
        error = gap[level].std() / 3000**0.5
        assert abs(gap[level].mean() - expected) < 4 * error + 0.005 * expected


def test_the_distance_to_noise_is_its_closed_form_and_falls(gaussian):
    norm2 = float(gaussian.mean.square().sum())
    values = [
        diffusion_time.gaussian_kl_to_noise(gaussian.eigenvalues, s, norm2)
        for s in (1.0, 3.0, 10.0, 30.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(
        float((gaussian.eigenvalues**2).sum()) / (4 * 30.0**4) + norm2 / (2 * 900), rel=0.01
    )
    x = gaussian.sample(range(20_000), 3.0)
    noise = GaussianDenoiser(torch.zeros(6), torch.zeros(6, 6))
    found = diffusion_time.monte_carlo_kl(gaussian.log_prob(x, 3.0), noise.log_prob(x, 3.0))
    assert abs(found.value - values[1]) < (found.high - found.low) and found.low < found.high


def test_the_optimal_time_of_a_known_bound_is_found():
    sigmas = np.geomspace(0.5, 50, 41)
    gap = np.log(sigmas / 0.5)[:, None] * np.random.default_rng(0).uniform(0.9, 1.1, (1, 200))
    kl = 8 / sigmas  # minimum of log(sigma) + 8 / sigma at sigma = 8
    best = diffusion_time.optimal_time(sigmas, gap, kl)
    assert best.low <= 8 * 1.13 and best.high >= 8 / 1.13 and 8 / 1.13 < best.value < 8 * 1.13


def test_bad_input_is_named(gaussian):
    x = gaussian.sample(range(3))
    with pytest.raises(ValueError, match="trace"):
        flow_log_prob(gaussian, x, trace="guess")
    with pytest.raises(ValueError, match="sigma_min"):
        flow_log_prob(gaussian, x, sigma_min=90.0)
    with pytest.raises(ValueError, match="increasing levels"):
        diffusion_time.cumulative_gap([1.0, 0.5], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="levels"):
        diffusion_time.optimal_time([1.0, 2.0], np.zeros((3, 2)), np.zeros(2))


def test_steep_integrands_are_integrated():
    """A power law is met exactly, however steep: errors fall tenfold from level to level, where a
    trapezium or a parabola is wrong by a third."""
    levels = np.geomspace(0.02, 80, 25)
    for power in (-5.0, -1.0, 0.0, 0.4, 4.0):
        squares = 3.0 * levels[:, None] ** (power + 2) * np.array([0.5, 1.0, 1.5])
        exact = (
            3.0 * (levels**power - levels[0] ** power) / power
            if power
            else 3.0 * np.log(levels / levels[0])
        )
        found = diffusion_time.cumulative_gap(levels, squares)
        np.testing.assert_allclose(found.mean(1)[1:], exact[1:], rtol=1e-9)
        np.testing.assert_allclose(found[:, 2], 3 * found[:, 0])
    assert diffusion_time.cumulative_gap((1.0, 2.0), np.zeros((2, 3))).max() == 0
    with pytest.raises(ValueError, match="negative"):
        diffusion_time.cumulative_gap((1.0, 2.0), np.array([[1.0], [-1.0]]))
