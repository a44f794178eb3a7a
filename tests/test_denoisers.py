import math

import numpy as np
import pytest
import torch

from uturn_lib import (
    EmpiricalDenoiser,
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    noise_prediction,
    score,
    velocity,
)
from uturn_lib.denoisers import ClassConditional, covariance_eigenvalues, moments
from uturn_lib.uturn import posterior_draws, u_turn


def gradient_of_log_prob(denoiser, x, sigma):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(denoiser.log_prob(x, sigma).sum(), x)[0]


@pytest.mark.parametrize("sigma", [0.05, 0.7, 5.0, 60.0])
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "empirical"])
def test_score_is_the_gradient_of_log_p(kind, sigma, request):
    if kind == "empirical":
        generator = torch.Generator().manual_seed(3)
        denoiser = EmpiricalDenoiser(
            torch.rand(7, 2, generator=generator, dtype=torch.float64) * 2 - 1
        )
    else:
        denoiser = request.getfixturevalue(kind)
    generator = torch.Generator().manual_seed(1)
    x = (
        sigma * torch.randn(5, *denoiser.sample_shape, generator=generator, dtype=torch.float64)
        + 0.3
    )
    expected = gradient_of_log_prob(denoiser, x, sigma)
    torch.testing.assert_close(score(denoiser, x, sigma), expected, rtol=1e-8, atol=1e-9 / sigma**2)
    # one sigma per sample gives what one sigma for all gives
    torch.testing.assert_close(
        denoiser(x, torch.full((5,), sigma, dtype=torch.float64)), denoiser(x, sigma)
    )


def test_noise_levels_may_differ_within_a_batch(gaussian, mixture):
    for denoiser in (gaussian, mixture, EmpiricalDenoiser(torch.rand(9, 2, dtype=torch.float64))):
        x, sigma = (
            torch.randn(4, *denoiser.sample_shape, dtype=torch.float64),
            torch.tensor([0.0, 0.3, 1.0, 20.0], dtype=torch.float64),
        )
        together = denoiser(x, sigma)
        for row, level in enumerate(sigma.tolist()):
            torch.testing.assert_close(together[row], denoiser(x[row : row + 1], level)[0])


def test_log_p_is_a_density(mixture):
    axis = torch.linspace(-14, 14, 281, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    total = mixture.log_prob(grid, 0.8).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=1e-6)


def test_labels_condition_on_a_component(mixture):
    x = torch.randn(6, 2, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    conditional = mixture(x, 1.3, labels)
    for k, component in enumerate(mixture.components):
        torch.testing.assert_close(conditional[labels == k], component(x[labels == k], 1.3))
    # averaging the conditional denoisers over p(k | x) gives the unconditional one
    each = torch.stack([mixture(x, 1.3, torch.full((6,), k)) for k in range(3)], 1)
    torch.testing.assert_close(
        (mixture.responsibilities(x, 1.3)[..., None] * each).sum(1), mixture(x, 1.3)
    )


def test_mixture_samples_have_its_moments(mixture):
    draws, labels = mixture.sample(range(40_000))
    shares = labels.bincount().double() / len(labels)
    assert (shares - mixture.weights).abs().max() < 4 * math.sqrt(0.25 / len(labels))
    mean = (mixture.weights[:, None] * mixture.means).sum(0)
    spread = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - mean).abs() < 4 * spread).all()
    torch.testing.assert_close(
        torch.cov(draws[labels == 2].T), mixture.covariances[2], atol=0.02, rtol=0
    )


def test_gaussian_fit_and_limits():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(50, 1, 2, 3, generator=generator)
    fitted = GaussianDenoiser.fit(images)
    np.testing.assert_allclose(fitted.covariance, np.cov(images.flatten(1).double().T), rtol=1e-10)
    x = torch.randn(4, 1, 2, 3, generator=generator)
    torch.testing.assert_close(fitted(x, 0.0), x)  # no noise: x itself
    torch.testing.assert_close(
        fitted(x, 1e6), fitted.mean.float().expand_as(x), atol=1e-5, rtol=0
    )  # all noise: the mean
    # a null direction of the covariance is known without noise too, and stays at its mean with
    # noise
    flat = GaussianDenoiser(torch.zeros(2), torch.diag(torch.tensor([1.0, 0.0])))
    torch.testing.assert_close(flat(torch.tensor([[1.0, 0.5]]), 1.0), torch.tensor([[0.5, 0.0]]))
    torch.testing.assert_close(flat(torch.tensor([[1.0, 0.5]]), 0.0), torch.tensor([[1.0, 0.5]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_keep_shape_and_dtype(gaussian, mixture, dtype):
    empirical = EmpiricalDenoiser(torch.rand(9, 1, 4, 4))
    for denoiser in (gaussian, mixture, empirical):
        x = torch.randn(3, *denoiser.sample_shape, dtype=dtype)
        result = denoiser(x, 0.5)
        assert result.shape == x.shape and result.dtype == dtype
        torch.testing.assert_close(x - 0.5 * noise_prediction(denoiser, x, 0.5), result)
        torch.testing.assert_close(velocity(denoiser, x, 0.5), -0.5 * score(denoiser, x, 0.5))


def direct_weights(x, data, sigma):
    """float64 posterior weights by differences, without any trick."""
    squared = torch.stack([(row.double() - data.double()).square().flatten(1).sum(1) for row in x])
    return torch.softmax(-squared / (2 * sigma**2), dim=1)


def test_empirical_weights_at_small_noise_in_high_dimension():
    # Clusters of near copies, 0.004 apart in norm: at sigma = 0.002 their weights differ by a
    # factor of a few, which the
    # expanded form of the distance, wrong by tens of nats in float32, cannot see.
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(20, 3072, generator=generator) * 2 - 1
    steps = torch.randn(8, 3072, generator=generator)
    data = (centres[:, None] + 0.004 * steps / steps.norm(dim=1, keepdim=True)).reshape(-1, 3072)
    x = data[::8] + 0.002 * torch.randn(20, 3072, generator=generator)
    sigma = 0.002
    weights = EmpiricalDenoiser(data).weights(x, sigma)
    expected = direct_weights(x, data, sigma)
    assert weights.dtype == torch.float32
    assert ((expected > 0.05) & (expected < 0.95)).sum() > 30  # the case is not trivial
    torch.testing.assert_close(weights.double(), expected, atol=1e-6, rtol=1e-5)
    naive = torch.softmax(
        -(x.square().sum(1)[:, None] + data.square().sum(1) - 2 * x @ data.T) / (2 * sigma**2),
        dim=1,
    )
    assert (naive.double() - expected).abs().max() > 0.3  # and the expanded form does fail on it


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 1.5, 2.5, 8.0, 80.0])
@pytest.mark.parametrize("chunk", [2**24, 700])
def test_empirical_weights_at_every_noise_level(sigma, chunk):
    generator = torch.Generator().manual_seed(1)
    data = torch.rand(300, 1, 16, 16, generator=generator) * 2 - 1
    x = data[:9] + sigma * torch.randn(9, 1, 16, 16, generator=generator)
    denoiser = EmpiricalDenoiser(data, chunk=chunk)
    expected = direct_weights(x, data, sigma)
    torch.testing.assert_close(denoiser.weights(x, sigma).double(), expected, atol=1e-6, rtol=2e-3)
    mean = torch.einsum("bn,nchw->bchw", expected, data.double())
    torch.testing.assert_close(denoiser(x.double(), sigma), mean, atol=1e-5, rtol=0)
    levels = torch.full((9,), sigma)
    torch.testing.assert_close(denoiser.weights(x, levels), denoiser.weights(x, sigma))


def test_empirical_labels_restrict_to_the_class():
    generator = torch.Generator().manual_seed(2)
    data, labels = torch.rand(60, 12, generator=generator), torch.arange(60) % 3
    denoiser = EmpiricalDenoiser(data, labels)
    for sigma in (0.01, 0.3, 5.0):
        x, wanted = torch.rand(6, 12, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
        weights = denoiser.weights(x, sigma, wanted)
        assert (weights * (labels != wanted[:, None])).abs().max() == 0
        for row, k in enumerate(wanted.tolist()):
            alone = EmpiricalDenoiser(data[labels == k]).weights(x[row : row + 1], sigma)[0]
            torch.testing.assert_close(weights[row, labels == k], alone, atol=1e-5, rtol=1e-3)


def test_draws_do_not_depend_on_the_signs_of_eigenvectors():
    """Machines differ in these signs; the covariance is the same."""
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gaussian = GaussianDenoiser(torch.zeros(6), root @ root.T)
    turned = GaussianDenoiser(torch.zeros(6), root @ root.T)
    turned.eigenvectors = gaussian.eigenvectors * torch.tensor([1.0, -1, 1, -1, -1, 1])
    assert torch.allclose(gaussian.sample(range(5), 0.3), turned.sample(range(5), 0.3))
    x0 = gaussian.sample(range(5))
    assert torch.allclose(posterior_draws(gaussian, x0, 1.0), posterior_draws(turned, x0, 1.0))
    one, other = (
        GaussianMixtureDenoiser(torch.ones(1), torch.zeros(1, 6), (root @ root.T)[None])
        for _ in range(2)
    )
    other.components[0].eigenvectors = -one.components[0].eigenvectors
    assert torch.allclose(one.sample(range(5))[0], other.sample(range(5))[0])


def test_exact_posterior_draw_agrees_with_the_sampler():
    """Two roads to the U-Turn output on empirical data: one draw from the weights, or the whole
    reverse SDE."""
    data = torch.tensor([[0.0, 0.0], [1.0, 0.1], [0.2, 1.3], [-1.1, -0.6]], dtype=torch.float64)
    denoiser, repeats, sigma = EmpiricalDenoiser(data), 1500, 0.8
    for start in range(2):
        x0 = data[start].expand(repeats, 2)
        turned = u_turn(denoiser, x0, sigma, steps=80, seed=start, batch_size=repeats)
        by_sampler = torch.cdist(turned.y0, data).argmin(1)
        assert (
            torch.cdist(turned.y0, data).min(1).values.max() < 0.02
        )  # every output is a training point
        drawn = denoiser.posterior_index(turned.x_u, sigma, range(10_000, 10_000 + repeats))
        a, b = by_sampler.bincount(minlength=4).double(), drawn.bincount(minlength=4).double()
        expected = denoiser.weights(turned.x_u, sigma).mean(0)
        error = (expected * (1 - expected) / repeats).sqrt()
        assert ((a / repeats - expected).abs() < 3.5 * error).all()
        assert ((b / repeats - expected).abs() < 3.5 * error).all()


def test_class_conditional_gaussians():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(90, 4, generator=generator), torch.arange(90) % 3
    both = ClassConditional.fit(images, labels)
    x = torch.randn(5, 4, generator=generator)
    wanted = torch.tensor([2, 0, 1, 1, 2])
    result = both(x, torch.linspace(0.5, 2, 5), wanted)
    for row in range(5):
        one = GaussianDenoiser.fit(images[labels == wanted[row]])(
            x[row : row + 1], float(torch.linspace(0.5, 2, 5)[row])
        )
        torch.testing.assert_close(result[row : row + 1], one)
    with pytest.raises(ValueError, match="labels are missing"):
        both(x, 1.0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda d: d(torch.zeros(2, 5), 1.0), "shape"),
        (lambda d: d(torch.zeros(2, 6, dtype=torch.int64), 1.0), "dtype"),
        (lambda d: d(torch.zeros(2, 6), -1.0), "sigma"),
        (lambda d: d(torch.zeros(2, 6), float("nan")), "sigma"),
        (lambda d: d(torch.zeros(2, 6), torch.ones(3)), "sigma"),
        (lambda d: d(torch.zeros(2, 6), 1.0, torch.zeros(2, dtype=torch.int64)), "no classes"),
    ],
)
def test_bad_calls_are_refused_by_name(gaussian, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(gaussian)


def test_bad_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="symmetric"):
        GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="semi-definite"):
        GaussianDenoiser(torch.zeros(2), torch.diag(torch.tensor([1.0, -1.0])))
    with pytest.raises(ValueError, match="sum to 1"):
        GaussianMixtureDenoiser(torch.tensor([0.5, 0.6]), torch.zeros(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match=r"no image has class \[1\]"):
        EmpiricalDenoiser(torch.zeros(2, 3), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="empty"):
        EmpiricalDenoiser(torch.zeros(0, 3))


def test_a_mixture_of_gaussians_at_hand_is_the_mixture_of_their_moments():
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 4, 4, generator=generator).double()
    means, covariances = torch.randn(3, 4, generator=generator).double(), roots @ roots.mT
    whole = GaussianMixtureDenoiser([0.2, 0.3, 0.5], means, covariances)
    made = GaussianMixtureDenoiser.of(
        torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64),
        [GaussianDenoiser(m, c) for m, c in zip(means, covariances, strict=True)],
    )
    x = torch.randn(6, 4, generator=generator).double()
    torch.testing.assert_close(whole(x, 1.3), made(x, 1.3))
    assert whole.fingerprint == made.fingerprint
    assert torch.equal(made.covariances, covariances)
    with pytest.raises(ValueError, match="2 weights for 3 components"):
        GaussianMixtureDenoiser.of([0.5, 0.5], made.components)


def test_eigenvalues_of_few_images_are_those_of_their_covariance():
    images = torch.randn(30, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    for count in (30, 12):  # more and fewer images than coordinates
        expected = torch.linalg.eigvalsh(moments(images[:count])[1])
        torch.testing.assert_close(
            covariance_eigenvalues(images[:count]), expected, rtol=0, atol=1e-12
        )


def test_the_density_of_the_empirical_law_integrates_to_one():
    law = EmpiricalDenoiser(torch.tensor([[-1.0], [0.2], [2.0]], dtype=torch.float64))
    x = torch.linspace(-6, 7, 4001, dtype=torch.float64)[:, None]
    for sigma in (0.1, 0.7):
        assert float(torch.trapezoid(law.log_prob(x, sigma).exp(), x[:, 0])) == pytest.approx(
            1, abs=1e-6
        )
    with pytest.raises(ValueError, match="no density"):
        law.log_prob(x, 0.0)
