"""Shapes of paths whose shape is known; the empirical denoiser as mean shift; convergence of the
denoising trajectory."""

import math

import pytest
import torch

from uturn_lib import EmpiricalDenoiser, karras_sigmas
from uturn_lib.companions.p3 import solvers, trajectory


def circle(angle, states=50, radius=3.0, dimensions=5):
    """An arc in a random plane of ``dimensions``, (states, 1, dimensions)."""
    torch.manual_seed(0)
    plane = torch.linalg.qr(torch.randn(dimensions, 2, dtype=torch.float64))[0]
    turn = torch.linspace(0, angle, states, dtype=torch.float64)
    return (radius * torch.stack([turn.cos(), turn.sin()], 1) @ plane.T)[:, None]


def test_an_arc_deviates_from_its_chord_by_the_sagitta():
    found = trajectory.chord_deviation(circle(1.2, 51))
    assert float(found.max()) == pytest.approx(3 * (1 - math.cos(0.6)), rel=1e-6)
    assert float(found[0]) == pytest.approx(0, abs=1e-12) and float(found[-1]) == pytest.approx(
        0, abs=1e-12
    )
    assert float(trajectory.path_length(circle(1.2, 2001))) == pytest.approx(3 * 1.2, rel=1e-6)


def test_a_line_has_one_component_and_a_full_circle_two_equal_ones():
    line = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None, None] ** 2 * torch.randn(
        1, 4, 6, dtype=torch.float64
    )
    assert torch.allclose(
        trajectory.explained_variance(line, 2), torch.ones(2, 4, dtype=torch.float64)
    )
    assert float(trajectory.chord_deviation(line).max()) < 1e-12
    turned = circle(2 * math.pi * 49 / 50)[:, :, :]
    assert trajectory.explained_variance(turned, 3)[:, 0].tolist() == pytest.approx(
        [0.5, 1, 1], abs=1e-9
    )


def test_monotone_and_cosine():
    distances = torch.tensor([[3.0, 3.0], [2.0, 1.0], [1.0, 2.0]])
    assert trajectory.monotone(distances).tolist() == [True, False]
    assert trajectory.monotone(distances, tolerance=1.5).tolist() == [True, True]
    angles = torch.linspace(0, math.pi, 7, dtype=torch.float64)
    turned, fixed = (
        torch.stack([angles.cos(), angles.sin()], 1)[:, None],
        torch.tensor([[[2.0, 0.0]]]).expand(7, 1, 2),
    )
    torch.testing.assert_close(trajectory.cosine(turned, fixed)[:, 0], angles.cos())


@pytest.mark.parametrize("bandwidth", [0.05, 0.4, 3.0])
def test_the_empirical_denoiser_is_a_step_of_mean_shift(bandwidth):
    points = torch.randn(
        200, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x = points[:7] + bandwidth * torch.randn(7, 1, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(
        EmpiricalDenoiser(points)(x, bandwidth), trajectory.mean_shift(x, points, bandwidth)
    )


def test_annealed_mean_shift_ends_on_stored_points():
    """P3's statement about the optimal denoiser is an identity: lowering the bandwidth step by step
    leads to a stored point."""
    points = torch.randn(
        60, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x = 20 * torch.randn(
        40, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    levels = karras_sigmas(40, 20.0)
    solved = list(solvers.solve(EmpiricalDenoiser(points), x, levels, "euler"))[-1].x
    for s, t in zip(levels[:-1], levels[1:], strict=True):
        x = t / s * x + (1 - t / s) * trajectory.mean_shift(x, points, float(s))
    torch.testing.assert_close(solved, x, atol=1e-8, rtol=0)
    nearest = torch.cdist(x.flatten(1), points.flatten(1)).amin(1)
    assert float(nearest.max()) < 0.01 * float(torch.pdist(points.flatten(1)).median())


def test_paths_of_gaussian_data_have_the_shape_of_the_closed_form(gaussian):
    """The exact path of mode k is proportional to sqrt(lambda_k + sigma^2): its shape measures are
    those of the solved one."""
    x = gaussian.sample(range(50), 20.0)
    sigmas = karras_sigmas(60, 20.0)
    steps = list(solvers.solve(gaussian, x, sigmas, "heun"))
    solved = torch.stack([step.x for step in steps[:-1]])
    modes = (x - gaussian.mean) @ gaussian.eigenvectors
    scale = (
        (gaussian.eigenvalues + sigmas[:-1, None] ** 2) / (gaussian.eigenvalues + 400.0)
    ).sqrt()
    exact = gaussian.mean + torch.einsum("bk,sk,dk->sbd", modes, scale, gaussian.eigenvectors)
    torch.testing.assert_close(
        trajectory.chord_deviation(solved), trajectory.chord_deviation(exact), rtol=0.02, atol=0.02
    )
    torch.testing.assert_close(
        trajectory.explained_variance(solved),
        trajectory.explained_variance(exact),
        rtol=0,
        atol=1e-4,
    )
    assert bool(trajectory.monotone(trajectory.distance_to_end(exact)).all())
    # The slope of the path is the noise estimate: a straight path would have cosine 1 with x - x_0
    # throughout.
    noise = torch.stack([(step.x - step.denoised) / step.sigma for step in steps[:-1]])
    assert float(trajectory.cosine(noise[:30], solved[:30] - steps[-1].x).min()) > 0.9


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="path has shape"):
        trajectory.chord_deviation(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="components = 9"):
        trajectory.explained_variance(torch.zeros(5, 1, 3), 9)
    with pytest.raises(ValueError, match="not equal"):
        trajectory.cosine(torch.zeros(2, 1, 3), torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match="bandwidth"):
        trajectory.mean_shift(torch.zeros(1, 2), torch.zeros(1, 2), 0.0)
