"""The locality gap: Pythagoras for a Gaussian, by sampling and in the limits; peaks of curves."""

import numpy as np
import pytest
import torch

from uturn_lib import GaussianDenoiser
from uturn_lib.measures import locality

SIZE = (2, 5, 6)


@pytest.fixture
def covariance():
    """A field on two channels whose correlation falls with the distance."""
    channels, height, width = SIZE
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y, x], -1).reshape(-1, 2).double()
    plane = torch.exp(-torch.cdist(place, place) / 2)
    return torch.kron(torch.tensor([[1.0, 0.5], [0.5, 2.0]]).double(), plane)


def local_map(covariance, sigma, patch):
    """All rows of the local denoiser, channel by channel."""
    _, height, width = SIZE
    rows = [
        locality.gaussian_local_rows(covariance, SIZE, sigma, patch, (i, j))
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(rows, 1).flatten(0, 1)


@pytest.mark.parametrize("sigma, patch", [(0.3, 1), (1.0, 3), (3.0, 5)])
def test_pythagoras(covariance, sigma, patch):
    """E|D - D_local|^2 from the two maps is the difference of denoising errors, and the gap."""
    noisy = covariance + sigma**2 * torch.eye(len(covariance)).double()
    best = covariance @ torch.linalg.inv(noisy)
    near = local_map(covariance, sigma, patch)
    apart = ((best - near) @ noisy @ (best - near).T).trace() / len(covariance)
    gap = locality.gaussian_locality_gap(covariance, SIZE, sigma, patch)
    assert gap == pytest.approx(float(apart), rel=1e-8) and gap > 1e-4

    def error(A):
        return (covariance - 2 * A @ covariance + A @ noisy @ A.T).trace() / len(covariance)

    assert float(error(near) - error(best)) == pytest.approx(gap, rel=1e-8)


def test_samples_agree_and_the_whole_image_is_no_restriction(covariance):
    x0 = torch.distributions.MultivariateNormal(torch.zeros(60).double(), covariance)
    torch.manual_seed(0)
    clean = x0.sample((20_000,))
    x = clean + 0.8 * torch.randn_like(clean)
    D = GaussianDenoiser(torch.zeros(60).double(), covariance)(x, 0.8)
    apart = (D - x @ local_map(covariance, 0.8, 3).T).square().mean(1)
    gap = locality.gaussian_locality_gap(covariance, SIZE, 0.8, 3)
    assert abs(float(apart.mean()) - gap) < 4 * float(apart.std()) / 20_000**0.5
    assert locality.gaussian_locality_gap(covariance, SIZE, 0.8, 11) < 1e-12


def test_independent_pixels_need_no_neighbours():
    independent = torch.diag(torch.linspace(0.5, 2.0, 60).double())
    assert locality.gaussian_locality_gap(independent, SIZE, 1.0, 1) < 1e-12
    assert locality.patch_indices((1, 4, 4), 3, (0, 0)).tolist() == [0, 1, 4, 5]


def test_the_top_of_a_parabola_is_found_between_the_levels():
    sigmas, top = np.geomspace(0.5, 8, 9), 1.7
    curves = 3 - (np.log(sigmas)[:, None] - np.log(top) - 0.01 * np.arange(-10, 11)) ** 2
    levels = locality.log_peaks(sigmas, curves)
    found = locality.peak(sigmas, levels)
    assert found.value == pytest.approx(top) and found.contains(top)
    ends = locality.log_peaks(sigmas, np.tile(sigmas[:, None], (1, 5)))
    assert np.allclose(np.exp(ends), 8)


def test_squared_correlation_does_not_see_scale_offset_and_sign():
    a = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(locality.squared_correlation(a, 3 - 2 * a), torch.ones(3).double())
    b = a + torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    expected = [np.corrcoef(p.flatten(), q.flatten())[0, 1] ** 2 for p, q in zip(a, b, strict=True)]
    assert np.allclose(locality.squared_correlation(a, b), expected)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: locality.patch_indices(SIZE, 4, (0, 0)), "patch = 4 must be odd"),
        (lambda: locality.gaussian_local_rows(torch.eye(4), SIZE, 1.0, 3, (0, 0)), "60 rows"),
        (lambda: locality.squared_correlation(torch.ones(2, 3), torch.ones(2, 4)), "paired"),
        (lambda: locality.log_peaks([1.0, 2.0], np.ones((3, 4))), r"\(2, N\)"),
    ],
)
def test_bad_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
