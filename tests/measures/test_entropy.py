"""The entropy of the class by denoising errors (I-MMSE) and by classifiers, where it is known."""

import math

import numpy as np
import pytest
import torch

from uturn_lib import GaussianMixtureDenoiser
from uturn_lib.measures import entropy

SIGMAS = np.geomspace(0.1, 60, 27)
COUNT = 3000


def pair_entropy(a, sigma):
    """H(k | x) of two points at +-a, by Gauss-Hermite quadrature: E ln(1 + exp(-2 a x / s^2))."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x = a + sigma * nodes
    return float((weights * np.logaddexp(0, -2 * a * x / sigma**2)).sum() / weights.sum())


def pair_rates(a, sigma):
    """(|x_0 - D|^2 - 0) / sigma^2 at the nodes of the same quadrature; D = a tanh(a x / s^2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x = a + sigma * nodes
    plain = (a - a * np.tanh(a * x / sigma**2)) ** 2
    rates = entropy.entropy_rate(plain, np.zeros_like(plain), sigma)
    return (weights * rates).sum() / weights.sum()


def test_the_rate_is_the_derivative_of_the_entropy():
    """Two points: central differences of the exact entropy in ln sigma, to 1e-4 nats."""
    for sigma in (0.7, 1.0, 2.0, 5.0, 20.0):
        step = 1e-3
        up, down = (pair_entropy(2.0, sigma * math.exp(h)) for h in (step, -step))
        assert abs(pair_rates(2.0, sigma) - (up - down) / (2 * step)) < 1e-4


def test_the_integral_of_the_rate_is_the_entropy():
    """Steps h = 0.25 in ln sigma: the trapezium rule errs by h^2 / 12 times the slope of the rate
    (below 0.8), hence by less than 5e-3 nats; where the rate has vanished, at ln 2, by less."""
    rates = np.array([[pair_rates(2.0, sigma)] for sigma in SIGMAS])
    found = entropy.entropy_from_rates(SIGMAS, rates)[:, 0]
    exact = np.array([pair_entropy(2.0, sigma) for sigma in SIGMAS])
    np.testing.assert_allclose(found, exact, atol=5e-3)
    assert abs(found[-1] - math.log(2)) < 2e-3


@pytest.fixture(scope="module")
def clouds():
    """Unequal, correlated clouds in the plane: H(k) is not ln K."""
    return GaussianMixtureDenoiser(
        [0.5, 0.3, 0.2],
        [[-2.0, 0.0], [1.5, 1.0], [1.0, -2.5]],
        [[[0.4, 0.1], [0.1, 0.2]], [[0.15, 0.0], [0.0, 0.6]], [[0.3, -0.15], [-0.15, 0.25]]],
    )


def at_levels(clouds):
    """Squared errors without and with the class, |D - D_k|^2, p, and the classes, per level."""
    x0, labels = clouds.sample(range(COUNT))
    generator = torch.Generator().manual_seed(0)
    for sigma in SIGMAS:
        x = x0 + sigma * torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        plain, told = clouds(x, sigma), clouds(x, sigma, labels)
        squares = [(a - b).square().sum(1) for a, b in ((x0, plain), (x0, told), (plain, told))]
        yield sigma, *squares, clouds.responsibilities(x, sigma), labels


def test_all_readings_agree_for_a_mixture(clouds):
    """Errors, |D - D_k|^2, exact p and -ln p_k: within 4 standard errors at every level, and
    H(k) in the end. Beside these 8e-3 nats: the trapezium rule, and H below the lowest level."""
    found = list(at_levels(clouds))
    rates = np.stack([entropy.entropy_rate(a.numpy(), b.numpy(), s) for s, a, b, *_ in found])
    apart = np.stack([c.numpy() / s**2 for s, _, _, c, _, _ in found])
    exact = np.stack([entropy.shannon(p).numpy() for *_, p, _ in found])
    bits = np.stack([entropy.surprise(p, k).numpy() for *_, p, k in found])
    integral, other = (entropy.entropy_from_rates(SIGMAS, values) for values in (rates, apart))
    for a, b in ((integral, exact), (other, exact), (bits, exact), (rates, apart)):
        gap = a - b
        error = gap.std(1) / COUNT**0.5
        assert (abs(gap.mean(1)) < 4 * error + 8e-3).all()
    known = float(entropy.shannon(clouds.weights[None])[0])
    last = integral[-1]
    assert abs(last.mean() - known) < 4 * last.std() / COUNT**0.5 + 8e-3


def test_any_other_classifier_is_more_surprised(clouds):
    """E[-ln q_k] - H = E KL(p | q) >= 0 (Gibbs): too sure, too unsure, knows nothing."""
    *_, p, labels = next(row for row in at_levels(clouds) if row[0] > 1)
    for q in ((3 * p.log()).softmax(1), (0.3 * p.log()).softmax(1), torch.full_like(p, 1 / 3)):
        gap = entropy.surprise(q, labels) - entropy.surprise(p, labels)
        assert float(gap.mean()) > 4 * float(gap.std()) / COUNT**0.5
    certain = torch.tensor([[1.0, 0.0]])
    assert torch.isfinite(entropy.surprise(certain, torch.tensor([1]))).all()
    assert float(entropy.shannon(certain)[0]) == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: entropy.entropy_rate(np.ones(2), np.ones(3), 1.0), "not paired"),
        (lambda: entropy.entropy_rate(np.ones(2), np.ones(2), 0.0), "sigma = 0.0 must be positive"),
        (lambda: entropy.entropy_from_rates((1.0, 2.0), np.ones((3, 4))), "rates has shape"),
        (lambda: entropy.entropy_from_rates((2.0, 1.0), np.ones((2, 4))), "increasing sigmas"),
        (lambda: entropy.surprise(torch.ones(2, 3), torch.tensor([0, 3])), "labels"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
