"""Norms, affinity and theory against closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from uturn_lib import EmpiricalDenoiser, GaussianDenoiser, GaussianMixtureDenoiser
from uturn_lib.measures import affinity, correlation, norms, theory
from uturn_lib.measures.estimate import Estimate


def noisy(x0, sigma, seed=0):
    return x0 + sigma * torch.randn(
        x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype
    )


# -------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_mean_square_score_of_gaussian_data_is_the_formula(gaussian, sigma):
    x = noisy(gaussian.sample(range(20_000)), sigma)
    found = ((x - gaussian(x, sigma)) / sigma).square().sum(1)
    expected = norms.gaussian_score_norm(gaussian.eigenvalues, sigma) ** 2
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / 20_000**0.5


def test_the_score_norm_has_its_limits():
    values = torch.tensor([0.0, 1.0, 3.0])
    assert norms.gaussian_score_norm(values, 1e6) == pytest.approx(3**0.5)
    assert norms.gaussian_score_norm(values, 1e-6) == pytest.approx(
        1.0, rel=1e-5
    )  # the direction without variance
    assert norms.gaussian_score_norm(values, 0.0) == 0.0


def test_the_gaussian_score_is_the_shortest_of_its_covariance(mixture):
    """E|sigma s|^2 = dim - E|D - x_0|^2 / sigma^2, and no data of this covariance are harder to
    denoise than Gaussian ones."""
    x0, _ = mixture.sample(range(20_000))
    values = torch.linalg.eigvalsh(torch.cov(x0.T))
    for sigma in (0.3, 1.0, 3.0):
        x = noisy(x0, sigma)
        denoised = mixture(x, sigma)
        square = ((x - denoised) / sigma).square().sum(1)
        identity = square - 2 + (denoised - x0).square().sum(1) / sigma**2
        assert abs(float(identity.mean())) < 4 * float(identity.std()) / 20_000**0.5
        assert float(square.mean()) > norms.gaussian_score_norm(values, sigma) ** 2


def test_normalised_norm_is_a_ratio_of_sums():
    found = norms.normalised_norm(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 8.0]))
    assert found.value == 0.5 and found.low < 0.5 < found.high
    assert norms.normalised_norm(torch.arange(1.0, 9), 2 * torch.arange(1.0, 9)) == Estimate(
        0.5, 0.5, 0.5
    )
    with pytest.raises(ValueError, match="must both be"):
        norms.normalised_norm(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="no length"):
        norms.normalised_norm(torch.ones(3), torch.zeros(3))


# ----------------------------------------------------------------------------------------- affinity


def test_a_gaussian_score_is_affine_in_every_basis(gaussian):
    x0 = gaussian.sample(range(600))
    for sigma in (0.2, 2.0, 20.0):
        x = noisy(x0, sigma)
        found = affinity.affine_residuals(
            x[:400], gaussian(x, sigma)[:400], x[400:], gaussian(x, sigma)[400:], gaussian, sigma
        )
        for basis, limit in (("gaussian", 1e-10), ("components", 1e-10), ("ridge", 1e-3)):
            assert affinity.unexplained(found[basis], found["total"]).value < limit, (basis, sigma)
        expected = gaussian.eigenvalues / (gaussian.eigenvalues + sigma**2)
        np.testing.assert_allclose(found["slopes"], expected, rtol=1e-4)


def two_clouds():
    return GaussianMixtureDenoiser([0.5, 0.5], [[-2.0], [2.0]], [0.3, 0.3])


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_unexplained_variance_of_two_clouds_is_an_integral_and_the_excess_correlation(sigma):
    """1 - R^2 = 1 - Cov(D, x)^2 / (Var D Var x), by quadrature; and it equals (C - C_Gauss) / C."""
    clouds = two_clouds()
    line = torch.linspace(-60, 60, 60_001, dtype=torch.float64)[:, None]
    weight = clouds.log_prob(line, sigma).exp() * (line[1, 0] - line[0, 0])
    denoised = clouds(line, sigma)[:, 0]
    variance, covariance = (
        float((weight * denoised**2).sum()),
        float((weight * denoised * line[:, 0]).sum()),
    )
    data_variance = 0.3 + 4.0
    assert covariance == pytest.approx(data_variance, rel=1e-6)  # Tweedie: Cov(D, x) = Cov(x_0, x)
    exact = 1 - covariance**2 / (variance * (data_variance + sigma**2))
    c, c_gauss = variance / data_variance, correlation.gaussian_correlation([data_variance], sigma)
    assert exact == pytest.approx((c - c_gauss) / c, rel=1e-6)

    x0, _ = clouds.sample(range(8000))
    x = noisy(x0, sigma)
    moments = GaussianDenoiser(torch.zeros(1), torch.tensor([[data_variance]]))
    found = affinity.affine_residuals(
        x[:4000], clouds(x[:4000], sigma), x[4000:], clouds(x[4000:], sigma), moments, sigma
    )
    for basis in affinity.BASES:
        estimate = affinity.unexplained(found[basis], found["total"])
        error = (estimate.high - estimate.low) / 3.92
        assert abs(estimate.value - exact) < 4 * error, basis


def test_the_components_may_be_given_as_plain_tensors(gaussian):
    """The regression needs no denoiser of the data, only their mean and principal components."""
    x = noisy(gaussian.sample(range(40)), 1.0)
    parts = SimpleNamespace(
        mean=gaussian.mean, eigenvalues=gaussian.eigenvalues, eigenvectors=gaussian.eigenvectors
    )
    for components in (gaussian, parts):
        found = affinity.affine_residuals(x[:20], x[:20] ** 3, x[20:], x[20:] ** 3, components, 1.0)
        # written out: D_G is affine with the matrix Sigma (Sigma + sigma^2)^-1, and residuals keep
        # their length under rotations
        apart = x[20:] ** 3 - gaussian(x[20:], 1.0)
        np.testing.assert_allclose(found["gaussian"], apart.square().sum(1), rtol=1e-4)


def test_bad_regressions_are_refused(gaussian):
    x = gaussian.sample(range(10))
    with pytest.raises(ValueError, match="do not belong together"):
        affinity.affine_residuals(x, x[:5], x, x, gaussian, 1.0)
    with pytest.raises(ValueError, match="at least 3"):
        affinity.affine_residuals(x[:2], x[:2], x, x, gaussian, 1.0)


# ------------------------------------------------------------------------------------------- theory


def test_between_class_covariance_completes_the_law_of_total_covariance(mixture):
    x0, labels = mixture.sample(range(3000))
    between = theory.between_class_covariance(x0, labels)
    counts = labels.bincount().double()
    within = (
        sum(n * torch.cov(x0[labels == k].T, correction=0) for k, n in enumerate(counts))
        / counts.sum()
    )
    torch.testing.assert_close(between + within, torch.cov(x0.T, correction=0))


def test_speciation_scales():
    # two clouds at +-m: the variance between them is m^2, so the scale is m, whatever the direction
    labels = torch.arange(2).repeat(50)
    direction = torch.tensor([0.6, 0.8])
    images = (2.0 * labels[:, None] - 1) * 3.0 * direction
    assert theory.speciation_from_classes(images, labels) == pytest.approx(3.0)
    # t_s = log(Lambda) / 2 in VP time; there e^-2t Lambda = 1, so sigma^2 = e^2t - 1 = Lambda - 1
    assert theory.speciation_from_spectrum(torch.tensor([1.0, 26.0, 5.0])) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="largest eigenvalue is 0.5"):
        theory.speciation_from_spectrum(torch.tensor([0.5]))


def test_speciation_of_clouds_is_where_theory_says():
    """Two narrow clouds: exact class retention falls to the midpoint at a fixed multiple of m."""
    line = torch.linspace(-300, 300, 6001, dtype=torch.float64)[
        :, None
    ]  # smooth functions: their sums are exact integrals
    ratios = []
    for m in (1.0, 4.0):
        pair = GaussianMixtureDenoiser([0.5, 0.5], [[-m], [m]], [1e-4, 1e-4])
        sigmas = np.geomspace(m / 4, 8 * m, 100)
        kept = [
            float(
                (
                    pair.log_prob(line, s).exp() * pair.responsibilities(line, s).square().sum(1)
                ).sum()
            )
            * 0.1
            for s in sigmas
        ]
        ratios.append(np.interp(-0.75, -np.array(kept), sigmas) / m)
    assert ratios[0] == pytest.approx(ratios[1], rel=0.01) and 0.5 < ratios[0] < 2


def test_collapse_scale_is_the_closed_form_for_equal_eigenvalues():
    for size, count, value in ((10, 100, 2.0), (200, 5000, 0.3)):
        expected = (
            value / (count ** (2 / size) - 1)
        ) ** 0.5  # D/2 log(1 + lambda / sigma^2) = log n
        assert theory.collapse_scale(torch.full((size,), value), count) == pytest.approx(
            expected, rel=1e-7
        )
    assert theory.collapse_scale(torch.tensor([1.0, 2.0]), 100) > theory.collapse_scale(
        torch.tensor([1.0, 2.0]), 1000
    )
    for bad in (
        dict(eigenvalues=torch.ones(3), count=1),
        dict(eigenvalues=torch.zeros(3), count=10),
    ):
        with pytest.raises(ValueError):
            theory.collapse_scale(**bad)


def test_the_empirical_score_of_gaussian_points_collapses_where_predicted():
    """In high dimension the counting argument becomes sharp; in 200 dimensions it is good to a few
    per cent."""
    points = torch.randn(3000, 200, generator=torch.Generator().manual_seed(0))
    memory = EmpiricalDenoiser(points)
    predicted = theory.collapse_scale(torch.ones(200), 3000)
    own = torch.arange(200)

    def returned(sigma):
        return float(memory.weights(noisy(points[:200], sigma, 1), sigma)[own, own].mean())

    sigmas = np.linspace(0.6, 1.6, 11) * predicted
    found = np.interp(-0.5, -np.array([returned(s) for s in sigmas]), sigmas)
    assert abs(found / predicted - 1) < 0.1


# ------------------------------------------------------------------- intervals of predicted scales


def data_of(covariance, count=400, seed=0):
    draws = torch.randn(count, len(covariance), generator=torch.Generator().manual_seed(seed))
    return draws.double() @ torch.linalg.cholesky(covariance).T


def test_resampled_spectra_are_those_of_full_resamples_to_first_order():
    """Against the eigenvalues of every resample: spreads within 15 %, for well separated ones."""
    x = data_of(torch.diag(torch.tensor([16.0, 4.0, 1.0]).double()))
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    fast = theory.resampled_spectra(x, x.mean(0), vectors, resamples=1000)
    rng = np.random.default_rng(1)
    rows = [x[rng.integers(len(x), size=len(x))] for _ in range(1000)]
    full = np.array([torch.linalg.eigvalsh(torch.cov(r.T, correction=0)).numpy() for r in rows])
    np.testing.assert_allclose(fast.mean(0), values.numpy(), rtol=0.02)
    np.testing.assert_allclose(fast.std(0), full.std(0), rtol=0.15)


def test_the_scale_of_two_classes_has_the_interval_of_a_difference_of_means():
    """Clouds at +-2, spread 1, N points: m_hat = (m_1 - m_2) / 2 has the standard error N^-1/2."""
    labels, noise = torch.arange(2).repeat(800), data_of(torch.eye(3).double(), 1600)
    images = noise + (2.0 * labels[:, None] - 1) * 2.0 * torch.tensor([0.6, 0.8, 0.0])
    found = theory.class_scale(images, labels)
    assert found.value == theory.speciation_from_classes(images, labels)
    assert found.contains(2.0) or abs(found.value - 2.0) < 4 / 1600**0.5
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(1600**-0.5, rel=0.15)
