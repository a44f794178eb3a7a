"""The other libraries' samplers as `make bench` drives them: on Gaussian data each must give the
output that is known exactly."""

import math

import pytest
import torch

from uturn_lib import GaussianDenoiser, karras_sigmas
from uturn_lib.noise import turn_sigmas
from uturn_lib.support.places import ROOT

COUNT, SIGMA_U = 20_000, 1.5
NAMES = [
    "diffusers 2M SDE",
    "diffusers EulerA",
    "diffusers KDPM2A",
    "azula DDPM",
    "azula Ito",
    "azula PC",
]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def find(name):
    import peers

    found = {peer.name: peer for peer in peers.peers()}
    if name not in found:
        assert name.startswith("azula") and not peers.has_azula()
        pytest.skip(peers.HOW_TO_INSTALL)
    return found[name]


@pytest.mark.parametrize("name", NAMES)
def test_with_many_calls_a_peer_reaches_the_exact_moments(name, gaussian):
    """From N(mu, Sigma + sigma_u^2) back to N(mu, Sigma), within 4 standard errors and the error
    left by its order at 600 steps."""
    import peers

    peer = find(name)
    x = gaussian.sample(range(COUNT), SIGMA_U)
    with peers.seeded(0):
        y0 = peer.run(gaussian, x, karras_sigmas(600, SIGMA_U))
    modes = (y0 - gaussian.mean) @ gaussian.eigenvectors
    variances = gaussian.eigenvalues
    assert (modes.mean(0).abs() < 4 * (variances / COUNT).sqrt()).all()
    error = (torch.outer(variances, variances) / COUNT).sqrt() * (
        1 + torch.eye(len(variances))
    ).sqrt()
    assert ((torch.cov(modes.T) - torch.diag(variances)).abs() < 4 * error + 0.01 * variances).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_calls_the_denoiser_as_often_as_is_counted_and_at_the_levels_given(name, gaussian):
    import peers

    peer, asked = find(name), []

    def counted(x, sigma, labels=None):
        asked.append(float(sigma))
        return gaussian(x, sigma)

    sigmas = turn_sigmas(10, SIGMA_U)
    with peers.seeded(0):
        y0 = peer.run(counted, gaussian.sample(range(5), SIGMA_U), sigmas)
    assert y0.shape == (5, 6) and y0.isfinite().all()
    assert peer.calls * 10 - 1 <= len(asked) <= peer.calls * 10
    assert all(min(abs(sigma - level) for sigma in asked) < 1e-9 for level in sigmas[:-1].tolist())


def test_the_ancestral_samplers_of_both_libraries_are_one(gaussian):
    """EulerA of diffusers with alpha = 1 and azula's DDPM: same noise, same numbers (theirs in
    single precision)."""
    import peers

    x, sigmas = gaussian.sample(range(50), 4.0), turn_sigmas(12, 4.0)
    outputs = []
    for name in ("diffusers EulerA", "azula DDPM"):
        with peers.seeded(3):
            outputs.append(find(name).run(gaussian, x, sigmas))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)


def test_the_multistep_sampler_has_the_variance_of_its_formula():
    """One mode, 8 steps: the recursion of Lu et al. (2022) gives its variance without samples."""
    import peers
    from test_sampling import gaussian_output_variances, multistep_weights

    for sigma_u, eigenvalue in ((1.5, 1.0), (80.0, 3.0)):
        sigmas = turn_sigmas(8, sigma_u)
        denoiser = GaussianDenoiser(
            torch.zeros(1), torch.tensor([[eigenvalue]], dtype=torch.float64)
        )
        generator = torch.Generator().manual_seed(0)
        x = math.sqrt(eigenvalue + sigma_u**2) * torch.randn(
            400_000, 1, generator=generator, dtype=torch.float64
        )
        with peers.seeded(1):
            y0 = find("diffusers 2M SDE").run(denoiser, x, sigmas)
        grid = sigmas.tolist()
        expected = gaussian_output_variances([eigenvalue], sigma_u, grid, multistep_weights(grid))[
            0
        ]
        assert float(y0.var()) / eigenvalue == pytest.approx(
            expected, abs=4 * expected * math.sqrt(2 / len(x))
        )


def test_seeding_leaves_the_global_generator_alone():
    import peers

    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    with peers.seeded(1):
        torch.randn(10)
    assert torch.equal(torch.randn(3), expected)


def test_errors_of_the_accuracy_table_are_zero_for_exact_draws_and_seen_where_planted():
    """The measures of `make bench`: exact posterior draws have no error beyond 4 standard errors;
    outputs stretched by 10 % have one."""
    import accuracy

    mixture = accuracy.two_clouds()
    starts = accuracy.Starts.draw(mixture, 1.5, 20_000, seed=0)
    exact = accuracy.exact_draws(mixture, starts, seed=1)
    fine = accuracy.errors(mixture, starts, exact)
    for name in ("mean", "covariance", "retention", "correlation"):
        assert abs(fine[name][0]) <= 4 * fine[name][1], (name, fine)
    wide = accuracy.errors(mixture, starts, 1.1 * exact)
    assert wide["covariance"][0] == pytest.approx(0.21, abs=4 * wide["covariance"][1] + 0.01)
    assert wide["correlation"][0] > 4 * wide["correlation"][1]


def test_ours_goes_through_the_same_table():
    import accuracy

    mixture = accuracy.two_clouds()
    starts = accuracy.Starts.draw(mixture, 1.5, 2_000, seed=0)
    found = accuracy.errors(mixture, starts, accuracy.ours(mixture, starts, 48))
    for name in ("mean", "covariance", "retention", "correlation"):
        assert abs(found[name][0]) <= 4 * found[name][1] + 0.01, (name, found)
