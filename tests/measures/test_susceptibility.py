"""What changes together: closed forms for independent and common changes, a Gaussian field, and a
grammar whose every string is known."""

import numpy as np
import pytest
import torch

from uturn_lib import EmpiricalDenoiser, GaussianDenoiser, u_turn
from uturn_lib.data.grammar import one_hot, random_grammar
from uturn_lib.measures import susceptibility as together
from uturn_lib.measures.susceptibility import chi
from uturn_lib.uturn import posterior_draws


def test_independent_changes_one_block_and_blocks():
    """1, the number of sites, the size of the blocks; by any factor. Standard error below 0.1."""
    rng = np.random.default_rng(0)
    alone, common = rng.exponential(size=(20_000, 12)), rng.exponential(size=(20_000, 1))
    assert abs(chi(alone) - 1) < 0.1
    assert chi(np.repeat(common, 12, axis=1)) == pytest.approx(12)
    blocks = np.repeat(alone[:, :4], 3, axis=1)
    assert abs(chi(blocks) - 3) < 0.3 and chi(7 * blocks) == pytest.approx(chi(blocks))
    weights = np.linspace(1, 2, 12)  # all change together, not equally: (sum w)^2 / sum w^2
    assert chi(common * weights) == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def ring(sites, reach):
    """A periodic Gaussian field, covariance exp(-(distance / reach)^2 / 2), well conditioned."""
    steps = np.minimum(np.arange(sites), sites - np.arange(sites))
    row = np.exp(-((steps / reach) ** 2) / 2) + 0.05 * (steps == 0)
    return GaussianDenoiser(
        torch.zeros(1, sites), torch.tensor(np.stack([np.roll(row, k) for k in range(sites)]))
    )


@pytest.fixture(scope="module")
def field():
    return ring(16, 2.0)


def test_a_gaussian_field_follows_its_closed_form(field):
    """Exact draws and U-Turns of the reverse SDE: within the 95 % interval, widened by a half."""
    x0 = field.sample(range(1500))
    for sigma in (0.3, 1.0, 5.0):
        known = together.gaussian_susceptibility(field.eigenvalues, field.eigenvectors, sigma)
        for y0 in (
            posterior_draws(field, x0, sigma, seed=1),
            u_turn(field, x0, sigma, steps=24, seed=1, batch_size=1500).y0,
        ):
            found = together.susceptibility((sigma,), x0, y0[None]).curve[0]
            slack = 0.25 * (found.high - found.low)
            assert found.low - slack < known < found.high + slack, (sigma, found, known)


def test_a_gaussian_has_no_peak(field):
    """From 1 (white changes) up to the field's own, tr S^2 / sum S_ii^2, without coming down."""
    sigmas = np.geomspace(1e-3, 1e3, 40)
    found = [
        together.gaussian_susceptibility(field.eigenvalues, field.eigenvectors, s) for s in sigmas
    ]
    assert (np.diff(found) > -1e-9).all() and found[0] == pytest.approx(1, abs=1e-3)
    own = field.covariance
    limit = float((own**2).sum() / (own.diagonal() ** 2).sum())
    assert found[-1] == pytest.approx(limit, rel=1e-3)


def test_the_correlation_of_a_white_and_of_a_smooth_field():
    """White: 0 beyond distance 0. Gaussian field of reach s: Cov(d_i^2, d_j^2) = 2 C^2, hence
    exp(-(r / s)^2), which falls through 1/e at s: to 10 %."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal((2000, 16, 16))
    np.testing.assert_allclose(together.correlation_by_distance(white**2)[1:], 0, atol=0.02)
    reach, grid = 3.0, np.fft.fftfreq(32)
    kernel = np.exp(-((2 * np.pi * reach) ** 2) * (grid[:, None] ** 2 + grid**2) / 4)
    noise = rng.standard_normal((2000, 32, 32))
    smooth = np.fft.ifft2(np.fft.fft2(noise) * kernel).real[:, :16, :16]
    found = together.correlation_length_estimate(smooth**2)
    assert found.contains(reach) or abs(found.value / reach - 1) < 0.1
    assert found.value == together.correlation_length(
        together.correlation_by_distance(smooth**2)
    ) or found.value == pytest.approx(
        together.correlation_length(together.correlation_by_distance(smooth**2)), rel=1e-6
    )


def test_the_length_of_a_known_curve():
    assert together.correlation_length(np.array([1, 0.5, 0.1]), 0.3) == pytest.approx(1.5)
    assert together.correlation_length(np.ones(4)) == np.inf


# --------------------------------------------------------------------------- a grammar


@pytest.fixture(scope="module")
def grammar():
    tokens, roots = random_grammar()
    return tokens, roots, one_hot(tokens, 4)


def test_the_grammar_has_all_its_strings_once(grammar):
    """4 roots, 2^(8 - 1) strings of 8 tokens each, all different; 8 pairs of leaves."""
    tokens, roots, _ = grammar
    assert tokens.shape == (512, 8) and (roots.bincount() == 128).all()
    assert len(tokens.unique(dim=0)) == 512
    assert len(tokens.reshape(-1, 2).unique(dim=0)) == 8
    assert not torch.equal(tokens, random_grammar(seed=1)[0])


def test_much_noise_gives_unrelated_strings(grammar):
    """Far out y_0 is any string: chi of all 512 x 512 pairs, inside the interval."""
    tokens, _, x = grammar
    differ = (tokens[:, None] != tokens[None]).flatten(0, 1).double().numpy()
    known = chi(differ)
    x0 = x.repeat(4, 1, 1)
    y0 = posterior_draws(EmpiricalDenoiser(x), x0, 50.0, seed=1)
    assert together.susceptibility((50.0,), x0, y0[None]).curve[0].contains(known)


def test_the_grammar_has_a_peak_and_sampled_u_turns_agree(grammar):
    """chi in between exceeds that of unrelated strings by its corrected interval; U-Turns of the
    reverse SDE lie within the sum of the half-intervals of exact draws."""
    *_, x = grammar
    empirical, x0 = EmpiricalDenoiser(x), x.repeat(4, 1, 1)
    sigmas = (0.3, 0.45, 0.65, 1.0, 2.0, 20.0)
    y0 = torch.stack([posterior_draws(empirical, x0, sigma, seed=1) for sigma in sigmas])
    found = together.susceptibility(sigmas, x0, y0)
    assert found.over_last[2].low > 0 and 0.45 < found.peak.value < 1.5
    few = x0[:1000]
    sampled = u_turn(empirical, few, 0.65, steps=24, seed=2, batch_size=1000).y0
    other = together.susceptibility((0.65,), few, sampled[None]).curve[0]
    exact = found.curve[2]
    assert abs(other.value - exact.value) < (other.high - other.low + exact.high - exact.low) / 2


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: together.change(torch.ones(2, 3), torch.ones(2, 3)), "two equal ones"),
        (lambda: together.susceptibilities(np.ones((4, 3))), "no site varies"),
        (lambda: together.susceptibility((1.0,), torch.ones(2, 1, 3), torch.ones(2, 2, 1, 3)),
         "y0 has 2 levels for 1 sigmas"),
        (lambda: random_grammar(symbols=2, rules=3), "rules = 3"),
        (lambda: random_grammar(depth=5), "depth = 5"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
