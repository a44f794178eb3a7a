"""Chains of U-Turns: the autoregression of Gaussian data, what is one turn for many, effective
samples."""

import numpy as np
import pytest
import torch

from uturn_lib import GaussianDenoiser
from uturn_lib.experiments import Workbench, chains
from uturn_lib.experiments.chains import chain
from uturn_lib.measures import relaxation
from uturn_lib.measures.estimate import Estimate
from uturn_lib.uturn import posterior_draws, u_turn

VARIANCES = torch.tensor([4.0, 0.25], dtype=torch.float64)


@pytest.fixture(scope="module")
def states():
    """Chains of exact U-Turns at sigma 1, two modes, started from the data."""
    exact = GaussianDenoiser(torch.zeros(2), torch.diag(VARIANCES))
    states = [exact.sample(range(4000))]
    for turn in range(4):
        states.append(posterior_draws(exact, states[-1], 1.0, seed=turn))
    return torch.stack(states).double()


def test_modes_of_gaussian_data_relax_like_an_autoregression_and_do_not_drift(states):
    for k in (0, 1):
        mode = states[..., [k]]
        expected = relaxation.gaussian_relaxation(VARIANCES[[k]], 1.0, 4)
        np.testing.assert_allclose(expected, (VARIANCES[k] / (VARIANCES[k] + 1)) ** np.arange(5))
        for found, value in zip(relaxation.relaxation(mode), expected, strict=True):
            assert abs(found.value - value) < 4.5 / 4000**0.5  # standard errors of a correlation
        assert abs(relaxation.drift(mode).value) < 4.5 * (4 / 4000) ** 0.5


def test_one_turn_at_the_equivalent_level_keeps_as_much_as_many():
    for variance in (4.0, 0.25):
        level = relaxation.equivalent_level(variance, 1.0, 3)
        once = relaxation.gaussian_relaxation(torch.tensor([variance]), level, 1)[1]
        many = relaxation.gaussian_relaxation(torch.tensor([variance]), 1.0, 3)[3]
        assert once == pytest.approx(many, rel=1e-6)
    assert relaxation.equivalent_level(1e9, 1.0, 9) == pytest.approx(3.0, rel=1e-6)  # Brownian
    assert relaxation.equivalent_level(0.5, 2.0, 1) == pytest.approx(2.0)


def test_the_gain_is_that_of_the_mean_of_an_autoregression():
    """The variance of the mean of n correlated numbers is that of n (1 - rho) / (1 + rho)."""
    rho, n = 0.6, 200_000
    covariances = rho ** np.arange(n)
    variance = (1 + 2 * ((1 - np.arange(1, n) / n) * covariances[1:]).sum()) / n
    gain = relaxation.sampling_gain(Estimate(rho, 0.5, 0.7), 4, 8)
    assert gain.value == pytest.approx(2 / (n * variance), rel=1e-4)
    assert gain.low < gain.value < gain.high
    kept = relaxation.excess_agreement(Estimate(0.1, 0.1, 1.0), 10)
    assert (kept.value, kept.high) == (pytest.approx(0.0), pytest.approx(1.0))


def test_a_chain_is_u_turn_after_u_turn_with_new_noise():
    exact = GaussianDenoiser(torch.zeros(2), torch.diag(VARIANCES))
    x = exact.sample(range(5))
    common = dict(sigma_u=1.0, steps=4, turns=2, seed=3, total=5)
    (whole,) = chain.chunks([dict(images=x, first=0)], bench=Workbench.around(exact), **common)
    first = u_turn(exact, x, 1.0, steps=4, seed=3)
    second = u_turn(exact, first.y0, 1.0, steps=4, seed=3, indices=range(5, 10))
    found = torch.from_numpy(whole.compute()[0]["states"])
    torch.testing.assert_close(found, torch.stack([first.y0, second.y0]).float())
    (part,) = chain.chunks([dict(images=x[3:], first=3)], bench=Workbench.around(exact), **common)
    torch.testing.assert_close(torch.from_numpy(part.compute()[0]["states"]), found[:, 3:])
    assert whole.calls == 5 * 2 * 4


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: relaxation.relaxation(torch.zeros(3, 1, 2)), "at least 2 chains"),
        (lambda: relaxation.equivalent_level(0.0, 1.0, 2), "variance = 0.0 must be positive"),
        (lambda: relaxation.equivalent_level(1.0, 1.0, 0), "turns"),
        (lambda: relaxation.sampling_gain(Estimate(0, 0, 0), 0, 8), "calls = 0"),
        (lambda: chains(None, (1.0,), 4, turns=0), "turns"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
